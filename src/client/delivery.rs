//! What is on its way to one client: a picture or a reply, and the client's own copy of what is left of it.
//!
//! A picture goes out from where it lies ([`Delivery::lend`]) and is copied as late as can be: at once if it cannot stay
//! there ([`Delivery::copy_rest`]), and otherwise when it has to go ([`Delivery::keep`]).

use std::io;
use std::time::Instant;

use super::link::{Link, Outgoing, Stream};
use crate::picture::frame::FrameBuf;
use crate::protocol::session::{Chunk, Reply};

/// How far a write has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing was written. What was lent has not begun.
    Nothing,
    /// A part of a chunk is out.
    Part,
    /// A chunk is out, and another one follows at the peer's word.
    Chunk,
    /// The last byte is out: [`Delivery::finish`] it.
    Whole,
}

/// One picture or reply, frozen from its first byte to its last.
///
/// Invariants (see [`Delivery::check`]):
/// - under way: `copy` holds all of it, or it is on loan and `copy` is empty.
/// - otherwise nothing is left in the link's `out`, nothing is on loan, and `copy` is empty.
pub struct Delivery {
    /// It is on its way, or between two of its chunks.
    under_way: bool,
    /// It is a picture, not a reply.
    picture: bool,
    /// Which picture goes out from where it lies, by its sequence.
    on_loan: Option<u64>,
    /// Its bytes in all.
    whole: usize,
    copy: FrameBuf,
}

impl Delivery {
    /// Takes the memory for `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Delivery {
            under_way: false,
            picture: false,
            on_loan: None,
            whole: 0,
            copy: FrameBuf::new(capacity),
        }
    }

    /// Something is on its way, or between two of its chunks.
    pub fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// Its bytes in all, sent and unsent.
    pub fn whole(&self) -> usize {
        self.whole
    }

    /// Which picture goes out from where it lies, by its sequence.
    pub fn on_loan(&self) -> Option<u64> {
        self.on_loan
    }

    /// Bytes that the stream has not taken yet.
    pub fn left(&self, out: &Outgoing) -> usize {
        if self.under_way {
            out.left() + self.whole - out.end()
        } else {
            0
        }
    }

    /// Bytes that the client's own copy holds.
    pub fn kept(&self) -> usize {
        self.copy.len()
    }

    /// Asserts the invariants. `out`: of the link, if there is a connection.
    pub fn check(&self, out: Option<&Outgoing>) {
        let (left, end) = out.map_or((0, 0), |out| (out.left(), out.end()));
        let kept = self.kept();
        if self.under_way {
            let wanted = if self.on_loan.is_some() {
                0
            } else {
                self.whole
            };
            assert!(kept == wanted, "{kept} bytes kept of {}", self.whole);
            assert!(end <= self.whole, "a chunk ends behind its picture");
        } else {
            let is_empty = left == 0 && kept == 0 && self.on_loan.is_none();
            assert!(is_empty, "{left} bytes to send and {kept} kept of nothing");
        }
    }

    /// Forgets everything, as the connection is over.
    pub fn clear(&mut self) {
        (self.under_way, self.picture, self.on_loan) = (false, false, None);
        self.copy.clear();
    }

    /// Where a session writes a reply: to be followed by [`Delivery::begin_reply`] if it does. Nothing may be under way
    /// then.
    pub fn reply<'a>(&'a mut self, out: &'a mut Outgoing) -> Reply<'a> {
        Reply {
            head: &mut out.head,
            body: &mut self.copy,
        }
    }

    /// The reply that was written goes out.
    pub fn begin_reply(&mut self, out: &mut Outgoing) {
        out.begin(Chunk {
            payload: self.copy.len(),
            tail: b"",
        });
        (self.picture, self.on_loan) = (false, None);
        self.whole = self.copy.len();
        self.under_way = true;
    }

    /// These bytes go out as they are.
    pub fn begin_copy(&mut self, out: &mut Outgoing, bytes: &[u8]) {
        self.copy.copy_tail(bytes, 0);
        self.begin_reply(out);
    }

    /// Writes the first chunk of a picture, of which `whole` bytes go out in all, straight from where it lies. If the
    /// stream takes only a part, [`Delivery::copy_rest`] or [`Delivery::leave`] must follow.
    pub fn lend<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        chunk: Chunk,
        bytes: &[u8],
        whole: usize,
        now: Instant,
    ) -> io::Result<Progress> {
        link.out.begin(chunk);
        if link.write(bytes, now)? == 0 {
            link.out.reset();
            return Ok(Progress::Nothing);
        }
        (self.under_way, self.picture, self.whole) = (true, true, whole);
        Ok(self.progress(&link.out))
    }

    /// What was lent stays where it lies, until [`Delivery::keep`]. `sequence`: which picture it is.
    pub fn leave(&mut self, sequence: u64) {
        self.on_loan = Some(sequence);
    }

    /// Copies what the stream has not taken of what was lent.
    pub fn copy_rest(&mut self, out: &Outgoing, bytes: &[u8]) {
        self.copy.copy_tail(&bytes[..self.whole], out.sent());
    }

    /// The picture on loan goes: keeps the rest of it.
    ///
    /// # Panics
    /// If nothing is on loan.
    pub fn keep(&mut self, out: &Outgoing, picture: &[u8]) {
        assert!(self.on_loan.take().is_some(), "nothing is on loan");
        self.copy_rest(out, picture);
    }

    /// Writes on, as far as the stream takes it. `lent`: the picture on loan.
    ///
    /// # Panics
    /// If one is on loan and not there.
    pub fn write<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        lent: Option<&[u8]>,
        now: Instant,
    ) -> io::Result<Progress> {
        if !self.under_way {
            return Ok(Progress::Nothing);
        }
        if link.out.left() > 0 {
            if !link.is_writable() {
                return Ok(Progress::Nothing);
            }
            let bytes = match self.on_loan {
                Some(_) => &lent.expect("what is on loan is there")[..self.whole],
                None => self.copy.as_slice(),
            };
            link.write(bytes, now)?;
        } else if link.out.sent() < self.whole {
            // The peer has the word.
            return Ok(Progress::Nothing);
        }
        Ok(self.progress(&link.out))
    }

    fn progress(&self, out: &Outgoing) -> Progress {
        if out.left() > 0 {
            Progress::Part
        } else if out.sent() < self.whole {
            Progress::Chunk
        } else {
            Progress::Whole
        }
    }

    /// The last byte is out. True if that was a picture.
    pub fn finish(&mut self, out: &mut Outgoing) -> bool {
        let is_picture = self.picture;
        self.clear();
        out.reset();
        is_picture
    }
}
