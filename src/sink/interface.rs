//! What every kind of sink has in common: [`Sink`], and what its methods give.

use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

use crate::config::{Config, SinkConfig};
use crate::encode::renditions::Renditions;
use crate::picture::frame::{Frame, FrameMeta};

/// Why a sink takes no pictures (any more): for a person, with the way out. The remedy is the same for every cause:
/// close, wait, open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub String);

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault(error.to_string())
    }
}

/// What became of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Readers can see it.
    Written,
    /// It is left out: a reader has the lock, or it is too large. The next one may do better.
    Skipped,
    /// It is being made; to be offered again.
    Waits,
}

/// One kind of sink.
///
/// Life: `open`, then `run` whenever [`Sink::fd`] turned readable, and `write` for pictures, until `close` or a [`Fault`].
/// After a fault the owner calls `close`, which must always succeed, remove what nobody else uses, and allow another
/// `open`. Nothing here may wait for a reader.
pub trait Sink {
    /// Makes the memory, so that readers can come. An error says why they cannot.
    fn open(&mut self) -> Result<(), Fault>;

    /// Removes the memory. Does nothing if it is not open.
    fn close(&mut self);

    /// What to poll (readable, edge-triggered) while open, if readers come by a descriptor. After it was registered, `run`
    /// is called once.
    fn fd(&self) -> Option<RawFd>;

    /// Takes in what the descriptor has to tell.
    fn run(&mut self) -> Result<(), Fault>;

    /// Whether `run` has left something undone of which no event will tell: it is called again a little later.
    fn has_more(&self) -> bool {
        false
    }

    /// Programs that have it attached now.
    fn readers(&self) -> usize;

    /// Whether somebody may look, so that the camera must run.
    fn is_watched(&self) -> bool;

    /// Whether it is still what the configuration wants, of which its own section has not changed: there is room for
    /// pictures of the camera's size.
    fn is_for(&self, sink: &SinkConfig, config: &Config) -> bool;

    /// Puts the newest picture that `is_news` in place.
    fn write(
        &mut self,
        newest: Option<Frame<'_>>,
        renditions: &mut Renditions,
        now: Instant,
        is_news: impl Fn(&FrameMeta) -> bool,
    ) -> Result<(FrameMeta, Outcome), Fault>;
}
