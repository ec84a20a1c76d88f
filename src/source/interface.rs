//! What every kind of source has in common: [`Source`], and what its methods give.

use std::fmt;
use std::os::fd::RawFd;
use std::time::Instant;

use super::control::{Control, ControlError};
use crate::config::Config;
use crate::picture::chain::Chain;
use crate::picture::frame::{Area, Frame, Orientation, PixelFormat, Size};

/// Why a source gives no pictures (any more). The remedy is the same for every cause: `stop`, wait, `start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a source has left of its pictures, before these are turned any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cropped {
    /// What it would give otherwise.
    pub whole: Size,
    /// The part of that, which is what it gives.
    pub area: Area,
}

/// What a source agreed to deliver.
#[derive(Clone, Debug, PartialEq)]
pub struct Negotiated {
    /// Of the pictures.
    pub format: PixelFormat,
    /// In pixels; 0 by 0 where only the first picture will tell (pipe, call, push, http, qt-shm).
    pub width: u16,
    /// As `width`.
    pub height: u16,
    /// Frames per second that the source promises; `None` if it does not say.
    pub fps: Option<f32>,
    /// How the pictures have yet to be turned; `None`: entirely, as this source cannot turn any.
    pub orientation: Option<Orientation>,
    /// What part of its whole pictures this source gives; `None`: all, as it crops none.
    pub cropped: Option<Cropped>,
    /// For a person: driver, card, what was picked and why.
    pub description: String,
}

impl Negotiated {
    /// JPEGs, of which only the first one will tell more.
    pub(crate) fn jpegs(description: String) -> Self {
        Negotiated {
            format: PixelFormat::Mjpeg,
            width: 0,
            height: 0,
            fps: None,
            orientation: None,
            cropped: None,
            description,
        }
    }
}

/// What one call of [`Source::capture`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// There is a newer picture to be had from [`Source::newest`].
    pub fresh: bool,
    /// Good pictures that a newer one replaced at once, or that the driver's sequence numbers say were lost.
    pub dropped: u32,
    /// Pictures that were damaged, truncated or too large.
    pub bad: u32,
}
/// A source of pictures.
///
/// Life: `start` (opens and begins), then `capture` whenever [`Source::fd`] turned readable or [`Source::deadline`]
/// passed, until `stop` or a [`Fault`]. After a fault the owner calls `stop`, which must always succeed, close
/// everything and allow another `start`. The clock is an argument: a source never asks for the time, except to date
/// pictures whose driver dates them with a clock of its own.
pub trait Source {
    /// Opens it and begins. An error says why it cannot, and is tried again later.
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault>;

    /// Closes everything. Does nothing if it is not running.
    fn stop(&mut self);

    /// Whether each `start` disturbs somebody. Such a source is started for viewers only, and not again after a fault while
    /// there are none.
    fn disturbs(&self) -> bool {
        false
    }

    /// Whether no picture would mean that something hangs here, which a new start of camd or of the board may mend: the
    /// device is there, and it is not another program that gives nothing. As the last `start` has left it.
    fn may_hang(&self) -> bool {
        false
    }

    /// What to poll (readable, edge-triggered) while started. `capture` drains it, and is to be called for every event
    /// on it: a camera in trouble says so by an error or hang-up event, and only `capture` tells what it is.
    ///
    /// To be registered after `start`, followed by one `capture`: what came in between makes no event. And a descriptor
    /// that is silent may be deaf: v4l2loopback (0.12, Debian 12) joins a poll's wait queue only if nothing is readable
    /// when it is registered. The owner then captures, and registers it anew; elsewhere that does no harm.
    fn fd(&self) -> Option<RawFd>;

    /// When to call `capture` even though nothing became readable.
    fn deadline(&self) -> Option<Instant>;

    /// Takes in everything that is ready without waiting and keeps the newest good picture.
    fn capture(&mut self, now: Instant) -> Result<Captured, Fault>;

    /// Lends the newest picture. `meta.sequence` is left 0 for the owner to number, and `meta.orientation` upright: the
    /// owner knows it from [`Negotiated`]. `None` before the first picture,
    /// after `stop`, and after `release` where the ring cannot keep one: it is too small, or v4l2loopback's.
    fn newest(&self) -> Option<Frame<'_>>;

    /// Its pictures, where they lean on one another (H.264): then there is never one that is lent by [`Source::newest`].
    fn chain(&self) -> Option<&Chain> {
        None
    }

    /// A picture of its chain that stands for itself is wanted as soon as can be, where it can make one.
    fn ask_key(&mut self) {}

    /// Whether the newest picture stays until [`Source::capture`] is called again, however long that takes. If not,
    /// [`Source::release`] takes it away.
    fn holds(&self) -> bool {
        true
    }

    /// The picture lent last will not be asked for again unless there is a newer one: a ring that cannot keep one gives
    /// it back here.
    fn release(&mut self) {}

    /// Tells what listeners and sinks there are, which may matter to what is asked of the camera at the next `start`.
    fn set_demand(&mut self, _config: &Config) {}

    /// The controls of the camera, for those that have any.
    fn controls(&self) -> Vec<Control> {
        Vec::new()
    }

    /// Sets a control by its name in [`Source::controls`].
    fn set_control(&mut self, _name: &str, _value: i64) -> Result<(), ControlError> {
        Err(ControlError::Unknown)
    }
}
