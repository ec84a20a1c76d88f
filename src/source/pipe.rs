//! Pictures from the standard output of another program: whatever camera it can read, as JPEGs one after the other, or as
//! H.264 (Annex B). Which of them it is shows by its first bytes.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use log::{Level, debug, log};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::film::{Film, Take};
use super::interface::{Captured, Fault, Negotiated, Source};
use super::newest::Newest;
use crate::limits::{CAPTURE_STALL, FIRST_PICTURE};
use crate::measure::said::{Said, Times};
use crate::picture::chain::Chain;
use crate::picture::frame::Frame;
use crate::picture::h264;
use crate::picture::jpeg::{SplitCounts, Splitter};
use crate::system::broker;
use crate::system::program::Outputs;
use crate::text::Printable;

/// Between the end of a program's output and that of the program itself: it closes its files before it can be waited
/// for.
const EXIT_GRACE: Duration = Duration::from_millis(200);
const EXIT_POLL: Duration = Duration::from_millis(10);
/// `stop` waits this long for the program to end on SIGTERM, and for the kernel to clear it away after SIGKILL.
const TERM_GRACE: Duration = Duration::from_millis(200);
const KILL_GRACE: Duration = Duration::from_millis(50);
const STOP_POLL: Duration = Duration::from_millis(5);
/// Read of stderr in one `capture`; a program that logs faster than that is read on at the next turn of the loop.
const STDERR_PER_CAPTURE: usize = 16 * 1024;
/// Of a line of stderr; the rest of a longer one is cut.
const LINE: usize = 512;

const STDOUT: Token = Token(0);
const STDERR: Token = Token(1);

/// A program that writes JPEGs, or H.264.
///
/// It runs in a process group of its own, so that all it started can be ended with it.
pub struct Pipe {
    command: Vec<String>,
    splitter: Splitter,
    /// Apart, as the splitter's buffer moves on.
    newest: Newest,
    film: Film,
    running: Option<Running>,
    /// Killed, but stuck in the kernel (a dead USB camera's driver) when `stop` had to go on.
    unreaped: Option<Pid>,
    /// What its runs have written to stderr: most of that is the same each time.
    said: Said,
}

/// A program that has just been started, and our ends of its outputs.
struct Started {
    child: Pid,
    stdout: PipeReader,
    stderr: PipeReader,
}

struct Running {
    /// The head of a process group.
    child: Pid,
    stdout: PipeReader,
    stderr: Stderr,
    /// Both pipes behind one descriptor for the owner: an epoll set is readable when something in it is.
    poll: Poll,
    events: Events,
    stdout_ready: bool,
    coding: Coding,
    /// Of the splitter, as far as they have been reported.
    counts: SplitCounts,
    /// When there has to be a picture.
    stall: Instant,
    last_look: Instant,
    /// stdout came to its end at that time.
    ended: Option<Instant>,
}

impl Pipe {
    /// `command` is the program and its arguments.
    pub fn new(command: Vec<String>, frame_bytes: usize, fps: u16) -> Pipe {
        Pipe {
            command,
            splitter: Splitter::new(frame_bytes),
            newest: Newest::new(frame_bytes, fps),
            film: Film::of_bytes(frame_bytes),
            running: None,
            unreaped: None,
            said: Said::new(),
        }
    }

    fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    fn spawn(&self) -> Result<Started, Fault> {
        let Some(program) = self.command.first() else {
            return Err(Fault(
                "camera.command is empty: it must name a program".into(),
            ));
        };
        let start = || {
            let (stdout, out) = io::pipe()?;
            let (stderr, err) = io::pipe()?;
            let outputs = Outputs {
                out: out.into(),
                err: err.into(),
            };
            let child = broker::run(&self.command, outputs)?;
            Ok(Started {
                child,
                stdout,
                stderr,
            })
        };
        start().map_err(|error: io::Error| {
            Fault(format!("cannot run {program:?} (camera.command): {error}"))
        })
    }

    fn run(&mut self, now: Instant) -> Result<Running, Fault> {
        if let Some(child) = self.unreaped.take()
            && !is_reaped(child)
        {
            let fault = Fault(format!(
                "{}: process {} was killed but hangs in the kernel; its camera may need to be unplugged",
                self.program(),
                child
            ));
            self.unreaped = Some(child);
            return Err(fault);
        }
        let Started {
            child,
            stdout,
            stderr,
        } = self.spawn()?;
        match watch(&stdout, &stderr) {
            Ok(poll) => Ok(Running {
                child,
                stdout,
                stderr: Stderr::new(stderr),
                poll,
                events: Events::with_capacity(2),
                stdout_ready: false,
                coding: Coding::Unknown(heapless::Vec::new()),
                counts: SplitCounts::default(),
                stall: now + FIRST_PICTURE,
                last_look: now,
                ended: None,
            }),
            Err(error) => {
                self.unreaped = end(child);
                Err(Fault(format!(
                    "{}: its output cannot be polled: {error}",
                    self.program()
                )))
            }
        }
    }
}

/// A set of both pipes, made non-blocking.
fn watch(stdout: &PipeReader, stderr: &PipeReader) -> io::Result<Poll> {
    let poll = Poll::new()?;
    for (fd, token) in [(stdout.as_fd(), STDOUT), (stderr.as_fd(), STDERR)] {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        poll.registry()
            .register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
    }
    Ok(poll)
}

/// Whether the child is dead, and of what. It stays a zombie: as long as it is one, the kernel gives its process id, which
/// is its group's too, to nobody else, so that the group can still be killed.
fn status(child: Pid) -> Option<WaitStatus> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::Pid(child), flags) {
        Ok(WaitStatus::StillAlive) | Err(_) => None,
        Ok(status) => Some(status),
    }
}

/// Waits for the child, if it has ended. An error means that somebody else did.
fn is_reaped(child: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    !matches!(waitid(Id::Pid(child), flags), Ok(WaitStatus::StillAlive))
}

/// Ends the child and all that it started. SIGTERM first, as some programs must put their camera back into a sane state
/// (gphoto2, raspivid); but nothing else of camd moves meanwhile, so that the wait is short, and SIGKILL follows for all
/// that is left of the group. A child that even this cannot end within [`KILL_GRACE`] is given back.
fn end(child: Pid) -> Option<Pid> {
    let wait = |limit: Duration, done: &mut dyn FnMut() -> bool| {
        let polls = limit.as_millis() / STOP_POLL.as_millis();
        for _ in 0..polls {
            if done() {
                return true;
            }
            thread::sleep(STOP_POLL);
        }
        done()
    };
    // Errors: there is nothing left to signal.
    if status(child).is_none() {
        let _ = broker::signal_group(child, Signal::SIGTERM);
        wait(TERM_GRACE, &mut || status(child).is_some());
    }
    let _ = broker::signal_group(child, Signal::SIGKILL);
    match wait(KILL_GRACE, &mut || is_reaped(child)) {
        true => None,
        false => Some(child),
    }
}

impl Running {
    /// Reads what there is of pictures.
    fn read(
        &mut self,
        now: Instant,
        splitter: &mut Splitter,
        newest: &mut Newest,
        film: &mut Film,
    ) -> io::Result<Captured> {
        let mut captured = Captured::default();
        if matches!(self.coding, Coding::Unknown(_)) {
            self.look_at_first_bytes(now, splitter, film)?;
        }
        if matches!(self.coding, Coding::H264) {
            self.read_film(now, film, &mut captured)?;
            return Ok(captured);
        }
        // Within one picture's size of bytes at a time: a program that writes faster than it can be read must not keep
        // the caller for ever.
        let mut room = newest.capacity();
        while self.stdout_ready && room > 0 {
            let spare = splitter.spare();
            let most = spare.len().min(room);
            match self.stdout.read(&mut spare[..most]) {
                Ok(0) => {
                    self.stdout_ready = false;
                    self.ended = Some(now);
                    splitter.reset();
                }
                Ok(n) => {
                    room -= n;
                    splitter.filled(n);
                    while let Some(jpeg) = splitter.next_frame() {
                        if newest.take_in(now, jpeg, &mut captured) {
                            self.stall = now + CAPTURE_STALL;
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stdout_ready = false
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let counts = splitter.counts();
        let bad = counts.bad + counts.oversized - self.counts.bad - self.counts.oversized;
        captured.bad += u32::try_from(bad).unwrap_or(u32::MAX);
        self.counts = counts;
        Ok(captured)
    }

    /// Reads no more than what tells the coding, and hands that on.
    fn look_at_first_bytes(
        &mut self,
        now: Instant,
        splitter: &mut Splitter,
        film: &mut Film,
    ) -> io::Result<()> {
        let Coding::Unknown(seen) = &mut self.coding else {
            return Ok(());
        };
        while self.stdout_ready && seen.len() < seen.capacity() {
            let mut byte = [0];
            match self.stdout.read(&mut byte) {
                // The reading of JPEGs finds the end once more.
                Ok(0) => break,
                Ok(_) => seen.extend(byte),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stdout_ready = false
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.stdout_ready {
            if h264::begins_stream(seen) {
                film.spare()[..seen.len()].copy_from_slice(seen);
                film.filled(now, seen.len());
                self.coding = Coding::H264;
            } else {
                splitter.spare()[..seen.len()].copy_from_slice(seen);
                splitter.filled(seen.len());
                self.coding = Coding::Jpeg;
            }
        }
        Ok(())
    }

    /// As `read`, of H.264: all of it counts.
    fn read_film(
        &mut self,
        now: Instant,
        film: &mut Film,
        captured: &mut Captured,
    ) -> io::Result<()> {
        let mut room = film.capacity();
        let silent = !self.stdout_ready;
        while self.stdout_ready && room > 0 {
            let spare = film.spare();
            let most = spare.len().min(room);
            match self.stdout.read(&mut spare[..most]) {
                Ok(0) => {
                    self.stdout_ready = false;
                    self.ended = Some(now);
                    film.take_in(now, now, Take::Rest, captured);
                }
                Ok(n) => {
                    room -= n;
                    film.filled(now, n);
                    if film.take_in(now, now, Take::Whole, captured) {
                        self.stall = now + CAPTURE_STALL;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stdout_ready = false
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if silent && film.quiet().is_some_and(|at| at <= now) {
            // It came when its last bytes did.
            if film.take_in(film.heard(), now, Take::Pending, captured) {
                self.stall = now + CAPTURE_STALL;
            }
        }
        Ok(())
    }

    /// Why the program gives no pictures any more, if so.
    fn trouble(&mut self, said: &mut Said, now: Instant) -> Option<String> {
        let dead = || status(self.child).map(|status| describe(&status));
        let what = match self.ended {
            Some(ended) => match dead() {
                Some(how) => how,
                None if now.saturating_duration_since(ended) < EXIT_GRACE => return None,
                None => "closed its output but runs on".to_string(),
            },
            None if now < self.stall => return None,
            None => match dead() {
                Some(how) => format!("{how}, and what it started writes no pictures"),
                None => "wrote no picture for too long".to_string(),
            },
        };
        self.stderr.drain(said, now);
        Some(what)
    }
}

fn describe(status: &WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("ended with exit status {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("was killed by {signal}"),
        other => format!("ended ({other:?})"),
    }
}

impl Source for Pipe {
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault> {
        self.stop();
        self.said.begin();
        let mut running = self.run(now)?;
        running.counts = self.splitter.counts();
        let description = format!("output of {:?}", self.program());
        debug!("{description}: process {}", running.child);
        self.running = Some(running);
        Ok(Negotiated::jpegs(description))
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            let Running {
                child,
                mut stderr,
                last_look,
                ..
            } = running;
            if let Some(child) = end(child) {
                self.unreaped = Some(child);
            }
            stderr.drain(&mut self.said, last_look);
        }
        self.splitter.reset();
        self.newest.clear();
        self.film.clear();
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.running.as_ref()?.poll.as_raw_fd())
    }

    fn deadline(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        Some(if running.stdout_ready || running.stderr.ready {
            running.last_look
        } else if running.ended.is_some() {
            running.last_look + EXIT_POLL
        } else {
            match self.film.quiet() {
                Some(quiet) => quiet.min(running.stall),
                None => running.stall,
            }
        })
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        let Some(running) = &mut self.running else {
            return Ok(Captured::default());
        };
        running.last_look = now;
        let failed =
            |error: io::Error| Fault(format!("reading the output of camera.command: {error}"));
        match running.poll.poll(&mut running.events, Some(Duration::ZERO)) {
            Ok(()) => {}
            // It is asked again at the next event or deadline; the set stays readable.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
        for event in &running.events {
            match event.token() {
                STDOUT => running.stdout_ready = true,
                _ => running.stderr.ready = true,
            }
        }
        running.stderr.read(STDERR_PER_CAPTURE, &mut self.said, now);
        let captured = running
            .read(now, &mut self.splitter, &mut self.newest, &mut self.film)
            .map_err(failed)?;
        if let Some(refusal) = self.film.refusal() {
            let program = self.command.first().map_or("", String::as_str);
            return Err(Fault(format!("{program}: {refusal}")));
        }
        // The last picture before the end is still one; the fault can wait for the deadline.
        if !captured.fresh
            && let Some(what) = running.trouble(&mut self.said, now)
        {
            let last = Printable(running.stderr.last());
            let colon = if last.0.is_empty() { "" } else { ": " };
            let program = self.command.first().map_or("", String::as_str);
            return Err(Fault(format!("{program} {what}{colon}{last}")));
        }
        Ok(captured)
    }

    fn newest(&self) -> Option<Frame<'_>> {
        self.newest.frame()
    }

    fn chain(&self) -> Option<&Chain> {
        // Cut or not: it goes on with the next key picture.
        let running = self.running.as_ref()?;
        matches!(running.coding, Coding::H264).then_some(self.film.chain())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a program writes.
enum Coding {
    /// Its first bytes, as far as they have come.
    Unknown(heapless::Vec<u8, { h264::START_CODE.len() }>),
    Jpeg,
    H264,
}

/// The program's stderr, on its way to the log.
struct Stderr {
    pipe: PipeReader,
    ready: bool,
    lines: Lines,
}

impl Stderr {
    fn new(pipe: PipeReader) -> Stderr {
        Stderr {
            pipe,
            ready: false,
            lines: Lines::default(),
        }
    }

    /// Reads as long as there is something and it was not too much.
    fn read(&mut self, mut room: usize, said: &mut Said, now: Instant) {
        let mut chunk = [0; 1024];
        while self.ready && room > 0 {
            match self.pipe.read(&mut chunk) {
                Ok(n) if n > 0 => {
                    room = room.saturating_sub(n);
                    self.lines.push(&chunk[..n], |line, level| {
                        let news = match level {
                            Level::Warn => said.hear_line(line, now),
                            _ => Some(1),
                        };
                        let level = news.map_or(Level::Debug, |_| level);
                        let times = Times(news.unwrap_or_default());
                        log!(target: "camd::pipe", level, "{}{times}", Printable(line));
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing now, or nothing ever.
                _ => self.ready = false,
            }
        }
    }

    /// The last words.
    fn drain(&mut self, said: &mut Said, now: Instant) {
        self.ready = true;
        self.read(STDERR_PER_CAPTURE, said, now);
    }

    fn last(&self) -> &[u8] {
        &self.lines.last[..self.lines.last_len]
    }
}

/// Cuts a stream of bytes into lines.
struct Lines {
    line: [u8; LINE],
    /// Bytes of the line, including those that did not fit.
    len: usize,
    /// A CR came last: an LF may follow and belong to it.
    cr: bool,
    /// The last line that was not empty.
    last: [u8; LINE],
    last_len: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Lines {
            line: [0; LINE],
            len: 0,
            cr: false,
            last: [0; LINE],
            last_len: 0,
        }
    }
}

impl Lines {
    fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(&[u8], Level)) {
        for &byte in bytes {
            // A line that ends with CR alone is to be overwritten by the next one on a terminal: ffmpeg's progress,
            // twice a second for ever.
            if std::mem::take(&mut self.cr) {
                let level = if byte == b'\n' {
                    Level::Warn
                } else {
                    Level::Debug
                };
                self.end(level, &mut emit);
                if byte == b'\n' {
                    continue;
                }
            }
            match byte {
                b'\n' => self.end(Level::Warn, &mut emit),
                b'\r' => self.cr = true,
                _ => {
                    if let Some(place) = self.line.get_mut(self.len) {
                        *place = byte;
                    }
                    self.len = self.len.saturating_add(1);
                }
            }
        }
    }

    fn end(&mut self, level: Level, emit: &mut impl FnMut(&[u8], Level)) {
        let len = std::mem::take(&mut self.len).min(LINE);
        if len > 0 {
            emit(&self.line[..len], level);
            self.last[..len].copy_from_slice(&self.line[..len]);
            self.last_len = len;
        }
    }
}

#[cfg(test)]
#[path = "pipe_tests.rs"]
mod tests;
