//! Bytes over one stream: what is ready, the chunk on its way, who waits for whom, and the end.
//!
//! A link is generic over its stream, so that the tests drive it with a scripted one. It knows neither protocol nor
//! picture nor clock: TCP, a Unix socket and whatever encrypts look the same from here.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::time::{Duration, Instant};

use crate::picture::frame::FrameBuf;
use crate::protocol::session::{Chunk, Head};

/// What a link needs of a connection: bytes both ways without waiting, and the end of its own sending.
pub trait Stream: Read + Write {
    /// Ends our sending half: the peer reads what was written, and then the end.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Whether the kernel has sent all that it took. If not, there will be an event of room for writing when it has,
    /// and not before.
    fn drained(&mut self) -> io::Result<bool>;

    /// It holds bytes that it has taken and the kernel has not, as it could not send all of what it made of them: they go out
    /// by [`Write::flush`], before anything else, when there is room.
    fn holds(&self) -> bool {
        false
    }

    /// The last read ended with WouldBlock only to give way to others: there is more to read.
    fn gave_way(&self) -> bool {
        false
    }

    /// Who encrypts, and how; `None`: nobody.
    fn encryption(&self) -> Option<&'static str> {
        None
    }

    /// Somebody else wants to come in the place of this peer: if it is dead without having said so, this is to be found
    /// out within seconds.
    fn probe(&mut self) {}

    /// The peer is given up: what the kernel still holds for it is of use to nobody.
    fn abandon(&mut self) {}
}

/// One read takes in so large a part of the input's buffer, and at least so many bytes: few reads for a picture, and a
/// flood gives way to others soon.
const READ_PART: usize = 16;
const READ_LEAST: usize = 4096;

/// The bytes of one chunk on their way: `head`, then the payload from `sent` to `end`, then `tail`.
///
/// Invariant: each part is untouched until the one before it is out; `head_sent <= head.len()`, `sent <= end`,
/// `tail_sent <= tail.len()`.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// To be filled before [`Outgoing::begin`].
    pub head: Head,
    head_sent: usize,
    /// Payload bytes out, counted from the beginning of the picture.
    sent: usize,
    /// Where this chunk's payload ends.
    end: usize,
    tail: &'static [u8],
    tail_sent: usize,
}

impl Outgoing {
    /// The next chunk of the same picture. Its head is what is in `head`.
    pub fn begin(&mut self, chunk: Chunk) {
        self.head_sent = 0;
        self.end = self.sent + chunk.payload;
        self.tail = chunk.tail;
        self.tail_sent = 0;
    }

    /// Nothing is on its way.
    pub fn reset(&mut self) {
        self.head.clear();
        self.sent = 0;
        self.begin(Chunk {
            payload: 0,
            tail: b"",
        });
    }

    /// Bytes of the chunk that are still to be written.
    pub fn left(&self) -> usize {
        self.head.len() - self.head_sent + self.end - self.sent + self.tail.len() - self.tail_sent
    }

    /// Payload bytes out, of all chunks of the picture so far.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Where this chunk's payload ends in the picture.
    pub fn end(&self) -> usize {
        self.end
    }

    fn advance(&mut self, mut n: usize) {
        assert!(
            n <= self.left(),
            "the stream took {n} of {} bytes",
            self.left()
        );
        let mut take = |have: usize| {
            let part = n.min(have);
            n -= part;
            part
        };
        self.head_sent += take(self.head.len() - self.head_sent);
        self.sent += take(self.end - self.sent);
        self.tail_sent += take(self.tail.len() - self.tail_sent);
    }

    /// Writes until the chunk is out or the stream takes no more; gives the bytes taken. A write that is cut short is tried
    /// again: with TCP_NOTSENT_LOWAT the kernel (tcp_sendmsg, Linux 6.1) takes one buffer of some 30 KB, sends it, and
    /// returns without looking whether there is room again. Waiting for the event instead would cost a copy of the rest.
    fn write(&mut self, stream: &mut impl Write, payload: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while self.left() > 0 {
            let parts = [
                IoSlice::new(&self.head[self.head_sent..]),
                IoSlice::new(&payload[self.sent..self.end]),
                IoSlice::new(&self.tail[self.tail_sent..]),
            ];
            match stream.write_vectored(&parts) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.advance(n);
                    taken += n;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(taken)
    }
}

/// One connection's bytes.
///
/// Invariant: not `writable`: `stalled` runs, so that nobody can wait for an event for ever.
pub struct Link<S> {
    stream: S,
    /// The stream may have bytes for us / room for ours: set by events, cleared by WouldBlock alone, as events come
    /// once (edge-triggered).
    readable: bool,
    writable: bool,
    /// The peer will send no more.
    eof: bool,
    /// Our sending half is shut. The rest of the peer's bytes is awaited and dropped.
    closing: bool,
    /// The chunk on its way.
    pub out: Outgoing,
    /// Bytes that the stream has taken in all.
    taken: u64,
    /// Bytes wait for a stream that takes none, since then.
    stalled: Option<Instant>,
    /// The last chunk was still on its way when there was something newer: the peer is slower than that.
    slow: bool,
    /// `stalled` is the wait until the kernel has sent what it took. The event that tells so ends it: when the next picture
    /// comes is up to the camera.
    draining: bool,
}

impl<S: Stream> Link<S> {
    /// What a new connection has to say or room for is found out by trying.
    pub fn new(stream: S) -> Self {
        Link {
            stream,
            readable: true,
            writable: true,
            eof: false,
            closing: false,
            out: Outgoing::default(),
            taken: 0,
            stalled: None,
            slow: false,
            draining: false,
        }
    }

    /// The connection itself.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// A readiness event. `waiting`: there is more to be written than what the event is for.
    pub fn mark(&mut self, readable: bool, writable: bool, waiting: bool) {
        self.readable |= readable;
        self.writable |= writable;
        if writable && (self.draining || !waiting) {
            (self.stalled, self.draining) = (None, false);
        }
    }

    /// The stream may have room.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// There may be more to read.
    pub fn is_readable(&self) -> bool {
        self.readable && !self.eof
    }

    /// The peer will send no more.
    pub fn is_at_eof(&self) -> bool {
        self.eof
    }

    /// See [`Link::shut`].
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// When nothing will have been taken for so long.
    pub fn deadline(&self, write_timeout: Duration) -> Option<Instant> {
        self.stalled.map(|since| since + write_timeout)
    }

    /// Something newer has come: if a chunk is on its way, the peer is slower than that.
    pub fn outpace(&mut self) {
        self.slow |= self.out.left() > 0;
    }

    /// The peer was slower than the pictures come, and has not begun a new one since.
    pub fn is_slow(&self) -> bool {
        self.slow
    }

    /// Reads once, behind what is in `input`, which then has at most `limit` bytes.
    pub fn read(&mut self, input: &mut FrameBuf, limit: usize) -> io::Result<()> {
        let len = input.len();
        let most = limit.min(len + READ_LEAST.max(input.capacity() / READ_PART));
        loop {
            match self.stream.read(&mut input.spare()[len..most]) {
                Ok(0) => self.eof = true,
                Ok(n) => input.set_len(len + n),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.readable = self.stream.gave_way()
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            return Ok(());
        }
    }

    /// Writes what the stream takes of the chunk on its way, and gives the bytes taken.
    pub fn write(&mut self, payload: &[u8], now: Instant) -> io::Result<usize> {
        let taken = self.out.write(&mut self.stream, payload)?;
        self.taken += taken as u64;
        if self.out.left() == 0 && !self.stream.holds() {
            self.stalled = None;
        } else {
            self.writable = false;
            if taken > 0 || self.stalled.is_none() {
                self.stalled = Some(now);
            }
        }
        Ok(taken)
    }

    /// Sends on what the stream holds of what it has taken. True if there was something and is no more.
    pub fn push(&mut self, now: Instant) -> io::Result<bool> {
        if !self.writable || !self.stream.holds() {
            return Ok(false);
        }
        loop {
            match self.stream.flush() {
                Ok(()) => break,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    self.stalled.get_or_insert(now);
                    return Ok(false);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.out.left() == 0 {
            self.stalled = None;
        }
        Ok(true)
    }

    /// See [`Stream::holds`].
    pub fn holds(&self) -> bool {
        self.stream.holds()
    }

    /// See [`Stream::encryption`].
    pub fn encryption(&self) -> Option<&'static str> {
        self.stream.encryption()
    }

    /// Bytes that the stream has taken in all.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether a chunk can begin now. What is begun while the kernel still holds the rest of the one before it would wait
    /// behind that, and grow old. The kernel would take it all the same: it fills up the last buffer of its queue whatever
    /// TCP_NOTSENT_LOWAT says. If not, there will be an event.
    pub fn ready(&mut self, now: Instant) -> io::Result<bool> {
        if self.slow && !self.stream.drained()? {
            self.writable = false;
            self.draining = self.stalled.is_none();
            self.stalled.get_or_insert(now);
            return Ok(false);
        }
        Ok(true)
    }

    /// A chunk begins that is the newest there is.
    pub fn catch_up(&mut self) {
        self.slow = false;
    }

    /// Shuts our half and waits for the peer's: closing with unread input would make the kernel send a reset, which
    /// takes our last words away from the peer before it has read them.
    pub fn shut(&mut self, now: Instant) -> io::Result<()> {
        self.closing = true;
        self.stream.shutdown_write()?;
        if self.stream.holds() {
            self.writable = false;
            self.stalled.get_or_insert(now);
        }
        Ok(())
    }

    /// See the invariant above.
    pub fn check(&self) {
        assert!(
            self.writable || self.stalled.is_some(),
            "no room, and no deadline"
        );
    }
}
