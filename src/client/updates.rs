//! Another system for the box that camd is in: what a client uploads (POST `/update`) goes to the box's updater, which checks
//! and writes it in a process of its own.
//!
//! The updater listens on a Unix socket (`--update`). It is sent a line, `update LENGTH OLDER` with OLDER 1 or 0, then LENGTH
//! bytes, and answers with one line: a status of HTTP's (200, 400, or 503 for anything else) and what to tell a person. It
//! may answer before it has all; the rest is read from the client then, and dropped, as clients hear no answer while they
//! send. Where the connection ends before all is sent, nothing may have changed.
//!
//! Nothing is kept here: what the updater does not take stays in the client's input, and so at last with the client. There is
//! one update at a time.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use log::{info, warn};
use socket2::SockAddr;

use super::link::Stream;
use super::table::{ClientId, Table};
use crate::limits::{UPDATE_ANSWER, UPDATE_LONGEST};
use crate::protocol::Protocol;
use crate::protocol::http::{Status, TEXT, Update};
use crate::protocol::session::CloseReason;
use crate::system::broker;

/// Where updates go, and the one that is under way.
#[derive(Default)]
pub struct Updates {
    socket: Option<PathBuf>,
    running: Option<Running>,
}

struct Running {
    client: ClientId,
    began: Instant,
    /// To the updater, until it has answered.
    updater: Option<UnixStream>,
    is_registered: bool,
    /// There may be something to read, or room.
    is_ready: bool,
    answer: heapless::Vec<u8, UPDATE_ANSWER>,
}

impl Running {
    /// Reads what there is of the answer.
    fn listen(&mut self) {
        let Some(updater) = &mut self.updater else {
            return;
        };
        let mut piece = [0; UPDATE_ANSWER];
        loop {
            match updater.read(&mut piece) {
                Ok(0) => break,
                // What is too long is cut.
                Ok(n) => {
                    let room = self.answer.capacity() - self.answer.len();
                    let _ = self.answer.extend_from_slice(&piece[..n.min(room)]);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.updater = None;
    }

    /// What it said.
    fn answered(&self) -> (Status, &str) {
        let text = str::from_utf8(&self.answer).unwrap_or_default().trim_end();
        match text.split_once(' ') {
            Some(("200", text)) => (Status::Ok, text),
            Some(("400", text)) => (Status::BadRequest, text),
            Some(("503", text)) => (Status::ServiceUnavailable, text),
            _ => (
                Status::ServiceUnavailable,
                "the box's updater has ended without a word; nothing has changed",
            ),
        }
    }
}

impl Updates {
    /// Where the updater listens; `None`: there are no updates.
    pub fn set_socket(&mut self, socket: Option<PathBuf>) {
        self.socket = socket;
    }

    /// There may be updates.
    pub fn are_possible(&self) -> bool {
        self.socket.is_some()
    }

    /// Registers the connection to the updater, if it is new.
    pub fn arm(&mut self, register: impl FnOnce(RawFd) -> std::io::Result<()>) -> bool {
        let Some(running) = self.running.as_mut().filter(|it| !it.is_registered) else {
            return false;
        };
        running.is_registered = true;
        // What came before the registration is not told.
        running.is_ready = true;
        if let Some(updater) = &running.updater
            && let Err(error) = register(updater.as_raw_fd())
        {
            warn!("update: poll: {error}");
            running.updater = None;
        }
        true
    }

    /// A readiness event for the connection to the updater.
    pub fn mark(&mut self) {
        if let Some(running) = &mut self.running {
            running.is_ready = true;
        }
    }

    /// When the update will have taken too long.
    pub fn deadline(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        Some(running.began + UPDATE_LONGEST)
    }

    /// Looks after the update that is under way. A client that takes too long is to be closed.
    pub(super) fn turn<S: Stream>(
        &mut self,
        table: &mut Table<S>,
        now: Instant,
    ) -> Option<(usize, CloseReason)> {
        let running = self.running.as_mut()?;
        let index = usize::from(running.client.index);
        let left = table
            .find(running.client)
            .and_then(|slot| left(slot.session()));
        let Some(left) = left else {
            // The updater hears the end, and writes no more.
            info!("update: it was given up");
            self.running = None;
            return None;
        };
        if now >= running.began + UPDATE_LONGEST {
            return Some((index, CloseReason::HeadTimeout));
        }
        if std::mem::take(&mut running.is_ready) {
            running.listen();
            let slot = table.slot_mut(index);
            slot.with_session(|session| hold(session, 0, false));
            slot.touch(now);
            table.mark(index);
        }
        let slot = table.slot_mut(index);
        if left == 0 && running.updater.is_none() && !slot.is_sending() {
            let (status, text) = running.answered();
            info!("update: {status}: {text}");
            let mut body = heapless::String::<{ 2 * UPDATE_ANSWER }>::new();
            let _ = std::fmt::Write::write_fmt(&mut body, format_args!("{text}\n"));
            slot.reply(|session, reply| {
                if let Protocol::Http(http) = session {
                    http.reply(status, TEXT, body.as_bytes(), reply);
                }
            });
            table.mark(index);
            self.running = None;
        }
        None
    }

    /// A client that may asks for an update. `Err`: what it is told.
    pub(super) fn begin<S: Stream>(
        &mut self,
        table: &mut Table<S>,
        index: usize,
        update: Update,
        now: Instant,
    ) -> Result<(), (Status, &'static str)> {
        let Some(socket) = &self.socket else {
            let why = "there is no camera box here that could be updated";
            return Err((Status::NotFound, why));
        };
        if self.running.is_some() {
            return Err((Status::Conflict, "another update is under way"));
        }
        let begun = SockAddr::unix(socket).and_then(|to| {
            let mut updater = UnixStream::from(OwnedFd::from(broker::connect(&to)?));
            let mut line = heapless::String::<64>::new();
            let older = u8::from(update.older);
            let written = format_args!("update {} {older}\n", update.length);
            std::fmt::Write::write_fmt(&mut line, written).expect("it is short enough");
            // There is room for that in a socket that nothing was written to.
            updater.write_all(line.as_bytes())?;
            Ok(updater)
        });
        let updater = begun.map_err(|error| {
            warn!("update: {}: {error}", socket.display());
            let why = "the box takes no updates now: it still starts, is being updated, or its card cannot be written";
            (Status::ServiceUnavailable, why)
        })?;
        info!(
            "update: {} bytes, from {}",
            update.length,
            table.slot(index).peer
        );
        self.running = Some(Running {
            client: table.id(index),
            began: now,
            updater: Some(updater),
            is_registered: false,
            is_ready: false,
            answer: heapless::Vec::new(),
        });
        let slot = table.slot_mut(index);
        slot.touch(now);
        if update.waits {
            slot.reply(|session, reply| begin(session, update, Some(reply)));
        } else {
            slot.with_session(|session| begin(session, update, None));
        }
        Ok(())
    }

    /// Hands on what has come from the client of the update.
    pub(super) fn pass_on<S: Stream>(&mut self, table: &mut Table<S>, index: usize, now: Instant) {
        let id = table.id(index);
        let slot = table.slot_mut(index);
        let left = left(slot.session()).expect("it is an update");
        let running = self.running.as_mut().filter(|it| it.client == id);
        let input = slot.input().as_slice();
        let input = &input[..input.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        let (mut taken, mut is_held) = (0, false);
        match running.and_then(|it| it.updater.as_mut()) {
            // What is no more of use.
            None => taken = input.len(),
            Some(updater) => {
                while taken < input.len() && !is_held {
                    match updater.write(&input[taken..]) {
                        Ok(n) => taken += n,
                        Err(e) if e.kind() == ErrorKind::Interrupted => {}
                        Err(e) if e.kind() == ErrorKind::WouldBlock => is_held = true,
                        // It has answered: that is read by an event.
                        Err(_) => taken = input.len(),
                    }
                }
            }
        }
        slot.consume(taken);
        slot.with_session(|session| hold(session, taken as u64, is_held));
        if taken > 0 {
            slot.touch(now);
        }
    }
}

/// Bytes that its client is still to send; `None`: it is no update's.
fn left(session: Option<&Protocol>) -> Option<u64> {
    match session {
        Some(Protocol::Http(http)) => http.upload_left(),
        _ => None,
    }
}

fn hold(session: &mut Protocol, taken: u64, is_held: bool) {
    if let Protocol::Http(http) = session {
        http.passed_on(taken, is_held);
    }
}

fn begin(
    session: &mut Protocol,
    update: Update,
    reply: Option<crate::protocol::session::Reply<'_>>,
) {
    if let Protocol::Http(http) = session {
        http.begin_update(update, reply);
    }
}
