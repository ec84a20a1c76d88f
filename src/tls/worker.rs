//! The thread that reckons for handshakes.
//!
//! A key exchange and a signature take a small board a few milliseconds each, and with an RSA key a hundred. There is nothing
//! in them at which one could stop and go on later, so that they happen beside the event loop, one at a time, and at the
//! lowest priority: pictures go first, also where there is a single core.

use std::io;
use std::os::raw::c_int;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use mio::Waker;
use rustls::ServerConnection;

/// nice(1): the lowest.
const NICE: c_int = 19;

/// A record that is to be taken in, by the connection that it has come over.
pub struct Job {
    /// Whose it is: given back with the outcome.
    pub id: u64,
    /// The handshake.
    pub connection: Box<ServerConnection>,
    /// A whole record.
    pub record: Vec<u8>,
}

/// A job that is done.
pub struct Outcome {
    /// See [`Job::id`].
    pub id: u64,
    /// The handshake, further on.
    pub connection: Box<ServerConnection>,
    /// What is wrong with the record.
    pub result: Result<(), rustls::Error>,
}

/// The thread. It ends when this is dropped, after what it has begun.
pub struct Worker {
    jobs: Sender<Job>,
    outcomes: Receiver<Outcome>,
    is_busy: bool,
}

impl Worker {
    /// Starts it. `waker` wakes the event loop for each outcome.
    pub fn start(waker: Waker) -> io::Result<Worker> {
        let (jobs, work) = mpsc::channel::<Job>();
        let (done, outcomes) = mpsc::channel();
        thread::Builder::new()
            .name("handshakes".into())
            .spawn(move || {
                lower_priority();
                for job in work {
                    // Whoever it was for may be gone, and at the end all of camd is.
                    let _ = done.send(job.run());
                    let _ = waker.wake();
                }
            })?;
        Ok(Worker {
            jobs,
            outcomes,
            is_busy: false,
        })
    }

    /// It takes one job at a time, so that who is next is decided when it is free.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Begins.
    ///
    /// # Panics
    /// If it is busy.
    pub fn give(&mut self, job: Job) {
        assert!(!self.is_busy, "one job at a time");
        self.is_busy = true;
        let given = self.jobs.send(job);
        assert!(given.is_ok(), "the thread ends after its sender alone");
    }

    /// What it has done, if it has.
    pub fn take(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.try_recv().ok()?;
        self.is_busy = false;
        Some(outcome)
    }
}

impl Job {
    fn run(mut self) -> Outcome {
        Outcome {
            id: self.id,
            result: take_in(&mut self.connection, &self.record),
            connection: self.connection,
        }
    }
}

/// Gives a connection one whole record.
fn take_in(connection: &mut ServerConnection, record: &[u8]) -> Result<(), rustls::Error> {
    let mut rest = record;
    while !rest.is_empty() {
        match connection.read_tls(&mut rest) {
            Ok(n) if n > 0 => {}
            // It has more than it takes of a client that has not said who it is.
            _ => return Err(rustls::Error::General("too much at once".to_owned())),
        }
    }
    connection.process_new_packets().map(|_| ())
}

/// Of the thread that calls it.
fn lower_priority() {
    // SAFETY: the call takes three numbers; 0 is the calling thread, as priorities are those of threads on Linux (setpriority(2)).
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result != 0 {
        log::debug!("setpriority: {}", io::Error::last_os_error());
    }
}
