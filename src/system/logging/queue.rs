//! Lines on their way to standard error.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::limits::{LOG_BYTES, LOG_LINE, LOG_RESERVE};
use crate::text::start_of;

/// In front of each line: its length.
const LENGTH: usize = 2;
const _: () = assert!(LOG_LINE <= u16::MAX as usize);

/// Lines that one thread writes and the others never wait for: bounded in bytes. What finds no room is counted, and the
/// number is told in its place as soon as there is room again.
///
/// The lock is held for copying a few kilobytes, never while anything is formatted, written or waited for.
pub struct Queue {
    state: Mutex<State>,
    /// There is something to write, or to look at.
    more: Condvar,
    /// Something was written.
    less: Condvar,
}

struct State {
    /// A ring of lines, each behind its length.
    bytes: Box<[u8]>,
    start: usize,
    len: usize,
    /// Lines that found no room, or were refused, and that nobody was told of yet.
    lost: u64,
    /// The writer has taken lines that are not out yet.
    writing: bool,
    /// When the writer is to look at what is left out, see `strangers`.
    look: Option<Instant>,
}

/// What the writer is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Write so many bytes: as many whole lines.
    Write {
        /// Bytes.
        len: usize,
        /// Lines in them.
        lines: u64,
    },
    /// Tell that so many lines are missing here.
    TellLost(u64),
    /// The time that [`Queue::look_at`] was told has come.
    Look,
}

impl Queue {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "it takes its memory")]
    pub fn new() -> Self {
        Queue {
            state: Mutex::new(State {
                bytes: vec![0; LOG_BYTES].into_boxed_slice(),
                start: 0,
                len: 0,
                lost: 0,
                writing: false,
                look: None,
            }),
            more: Condvar::new(),
            less: Condvar::new(),
        }
    }

    /// No holder panics; if one does all the same, the log must go on: it is what tells.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line, with its end, is to be written. `urgent`: it may take the room that is kept for errors. `told_lost` makes the line
    /// that says how many are missing.
    pub fn push(&self, line: &[u8], urgent: bool, told_lost: impl Fn(u64) -> Line) {
        let line = &line[..line.len().min(LOG_LINE)];
        let mut state = self.lock();
        let room = LOG_BYTES - if urgent { 0 } else { LOG_RESERVE };
        if state.lost > 0 {
            // It has LOG_LINE bytes at most, as the lines have.
            if state.len + 2 * (LENGTH + LOG_LINE) > room {
                state.lost += 1;
                return;
            }
            let lost = std::mem::take(&mut state.lost);
            state.put(told_lost(lost).as_bytes());
        } else if state.len + LENGTH + line.len() > room {
            state.lost = 1;
            return;
        }
        state.put(line);
        drop(state);
        self.more.notify_one();
    }

    /// The writer is to be woken at a time, the earliest of all that were named since it looked last.
    pub fn look_at(&self, at: Instant) {
        let mut state = self.lock();
        if state.look.is_none_or(|look| at < look) {
            state.look = Some(at);
            self.more.notify_one();
        }
    }

    /// The writer waits here. `refused`: lines of the last task that standard error did not take. Several lines are
    /// written as one piece unless `one_by_one`.
    pub fn next(&self, refused: u64, one_by_one: bool, piece: &mut [u8; LOG_LINE]) -> Task {
        let mut state = self.lock();
        state.writing = false;
        state.lost += refused;
        if state.len == 0 {
            self.less.notify_all();
        }
        // Where it takes nothing, the next try is for when there is something new to say.
        let mut resting = refused > 0 && state.len == 0;
        loop {
            if state.len > 0 {
                state.writing = true;
                return state.take(one_by_one, piece);
            }
            if state.lost > 0 && !resting {
                state.writing = true;
                return Task::TellLost(std::mem::take(&mut state.lost));
            }
            state = match state
                .look
                .map(|at| at.saturating_duration_since(Instant::now()))
            {
                Some(Duration::ZERO) => {
                    state.look = None;
                    return Task::Look;
                }
                Some(left) => {
                    let waited = self.more.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.more.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
            resting &= state.len == 0;
        }
    }

    /// Waits until everything is written, but no longer than this. True if it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let busy = |state: &mut State| state.len > 0 || state.writing;
        let waited = self.less.wait_timeout_while(self.lock(), patience, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl State {
    fn put(&mut self, line: &[u8]) {
        let length = u16::try_from(line.len()).expect("a line has LOG_LINE bytes at most");
        for part in [&length.to_ne_bytes()[..], line] {
            let end = (self.start + self.len) % LOG_BYTES;
            let first = part.len().min(LOG_BYTES - end);
            self.bytes[end..end + first].copy_from_slice(&part[..first]);
            self.bytes[..part.len() - first].copy_from_slice(&part[first..]);
            self.len += part.len();
        }
        debug_assert!(self.len <= LOG_BYTES);
    }

    /// Copies out of the ring, from `offset` on.
    fn copy(&self, offset: usize, to: &mut [u8]) {
        let from = (self.start + offset) % LOG_BYTES;
        let first = to.len().min(LOG_BYTES - from);
        let (head, tail) = to.split_at_mut(first);
        head.copy_from_slice(&self.bytes[from..from + first]);
        tail.copy_from_slice(&self.bytes[..tail.len()]);
    }

    fn take(&mut self, one_by_one: bool, piece: &mut [u8; LOG_LINE]) -> Task {
        let (mut len, mut lines) = (0, 0);
        while self.len > 0 && !(one_by_one && lines == 1) {
            let mut length = [0; LENGTH];
            self.copy(0, &mut length);
            let line = usize::from(u16::from_ne_bytes(length));
            if len + line > LOG_LINE {
                break;
            }
            self.copy(LENGTH, &mut piece[len..len + line]);
            self.start = (self.start + LENGTH + line) % LOG_BYTES;
            self.len -= LENGTH + line;
            len += line;
            lines += 1;
        }
        Task::Write { len, lines }
    }
}

/// A line of the log as it is made: cut where it is too long, never a reason to allocate.
pub struct Line {
    bytes: [u8; LOG_LINE],
    len: usize,
    most: usize,
}

/// What stands at the end of a line that was cut.
const CUT: &str = "…";

impl Line {
    /// An empty one, which has room for `most` bytes with its end.
    pub fn new(most: usize) -> Self {
        Line {
            bytes: [0; LOG_LINE],
            len: 0,
            most: most.min(LOG_LINE),
        }
    }

    /// Ends it, with a line feed.
    pub fn end(mut self) -> Self {
        self.bytes[self.len] = b'\n';
        self.len += 1;
        self
    }

    /// What it has.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        // The end, and the sign that it was cut.
        let room = self.most.saturating_sub(self.len + 1 + CUT.len());
        let fits = start_of(text, room).len();
        self.bytes[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        if fits < text.len() && self.most > 0 {
            self.bytes[self.len..self.len + CUT.len()].copy_from_slice(CUT.as_bytes());
            self.len += CUT.len();
            // Nothing fits behind it any more.
            self.most = 0;
            return Err(std::fmt::Error);
        }
        Ok(())
    }
}

/// Writes all of it, for as long as that takes. An error: the rest is lost.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::EINTR) => {}
            // Another process that has the same description open may have made it non-blocking.
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
                match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
