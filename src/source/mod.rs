//! Where pictures come from. [`Source`] is the one interface of all kinds; `Camera` keeps one of them alive.

pub mod call;
pub mod camera;
mod canvas;
pub mod dial;
mod newest;
pub mod no_picture;
pub mod pattern;
pub mod pipe;
pub mod push;
pub mod qt_shm;
pub mod replay;
pub mod v4l2;

use std::fmt;
use std::os::fd::RawFd;
use std::time::Instant;

use crate::config::{Config, SourceKind};
use crate::picture::frame::{Frame, Orientation, PixelFormat};

/// Why a source gives no pictures (any more). The remedy is the same for every cause: `stop`, wait, `start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a source agreed to deliver.
#[derive(Clone, Debug, PartialEq)]
pub struct Negotiated {
    pub format: PixelFormat,
    /// In pixels; 0 by 0 where only the first picture will tell (pipe, call, push, qt-shm).
    pub width: u16,
    pub height: u16,
    /// Frames per second that the source promises; `None` if it does not say.
    pub fps: Option<f32>,
    /// How the pictures have yet to be turned; `None`: entirely, as this source cannot turn any.
    pub orientation: Option<Orientation>,
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

/// One control of a camera, as V4L2 describes it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Control {
    /// The driver's name in lower case with `_` for each run of other characters, as `v4l2-ctl` prints it
    /// ("white_balance_automatic").
    pub name: String,
    /// "integer", "boolean", "menu", "button", …
    pub kind: &'static str,
    pub minimum: i64,
    pub maximum: i64,
    pub step: i64,
    pub default: i64,
    /// `None` for a button or a control that cannot be read.
    pub value: Option<i64>,
    /// Menu entries: value and name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub menu: Vec<(i64, String)>,
    /// Cannot be set now (read-only, inactive or grabbed).
    pub locked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// The source has no control of that name.
    Unknown,
    /// The value is out of range or the control is locked; says which.
    Refused(String),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::Unknown => f.write_str("no such control"),
            ControlError::Refused(why) => f.write_str(why),
        }
    }
}

/// A source of pictures.
///
/// Life: `start` (opens and begins), then `capture` whenever [`Source::fd`] turned readable or [`Source::deadline`]
/// passed, until `stop` or a [`Fault`]. After a fault the owner calls `stop`, which must always succeed, close
/// everything and allow another `start`. The clock is an argument: a source never asks for the time, except to date
/// pictures whose driver dates them with a clock of its own.
pub trait Source {
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault>;

    fn stop(&mut self);

    /// Whether each `start` disturbs somebody. Such a source is started for viewers only, and not again after a fault while
    /// there are none.
    fn disturbs(&self) -> bool {
        false
    }

    /// Whether no picture would mean that something hangs here, which a new start of camd or of the board may mend: the
    /// device is there, and it is not somebody else who gives nothing. As the last `start` has left it.
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
    fn newest(&mut self) -> Option<Frame<'_>>;

    /// The picture lent last will not be asked for again unless there is a newer one: a ring that cannot keep one gives
    /// it back here.
    fn release(&mut self) {}

    /// Tells what listeners and sinks there are, which may matter to what is asked of the camera at the next `start`.
    fn set_demand(&mut self, _config: &Config) {}

    /// The controls of the camera, for those that have any.
    fn controls(&self) -> Vec<Control> {
        Vec::new()
    }

    fn set_control(&mut self, _name: &str, _value: i64) -> Result<(), ControlError> {
        Err(ControlError::Unknown)
    }
}

/// The sources that a configuration can name. A new kind is a variant here, a file beside this one, and its keys in
/// [`crate::config`].
// Their sizes differ, but there is one of them in the process.
#[allow(clippy::large_enum_variant)]
pub enum AnySource {
    V4l2(v4l2::V4l2),
    Pipe(pipe::Pipe),
    Replay(replay::Replay),
    Pattern(pattern::Pattern),
    Call(call::Call),
    Push(push::Push),
    QtShm(qt_shm::QtShm),
}

/// Calls the same method of whichever source it is.
macro_rules! each {
    ($any:expr, $source:ident => $call:expr) => {
        match $any {
            AnySource::V4l2($source) => $call,
            AnySource::Pipe($source) => $call,
            AnySource::Replay($source) => $call,
            AnySource::Pattern($source) => $call,
            AnySource::Call($source) => $call,
            AnySource::Push($source) => $call,
            AnySource::QtShm($source) => $call,
        }
    };
}

impl AnySource {
    /// The configured source, not yet started. Takes what memory it needs for frames of up to `limits.frame_bytes`.
    pub fn new(config: &Config) -> Self {
        let Config {
            camera,
            call,
            limits,
            ..
        } = config;
        let frame_bytes = limits.frame_bytes;
        match camera.source {
            SourceKind::V4l2 => AnySource::V4l2(v4l2::V4l2::new(config)),
            SourceKind::Pipe => AnySource::Pipe(pipe::Pipe::new(
                camera.command.clone(),
                frame_bytes,
                camera.fps,
            )),
            SourceKind::Replay => {
                let path = camera
                    .path
                    .clone()
                    .expect("the configuration has a path for source = \"replay\"");
                AnySource::Replay(replay::Replay::new(path, camera.fps, frame_bytes))
            }
            SourceKind::Pattern => AnySource::Pattern(pattern::Pattern::new(
                camera.width,
                camera.height,
                camera.fps,
            )),
            SourceKind::Call => AnySource::Call(call::Call::new(call, frame_bytes, camera.fps)),
            SourceKind::Push => {
                let server = camera
                    .address
                    .clone()
                    .expect("the configuration has an address for source = \"push\"");
                AnySource::Push(push::Push::new(server, frame_bytes, camera.fps))
            }
            SourceKind::QtShm => AnySource::QtShm(qt_shm::QtShm::new(&camera.key, camera.fps)),
        }
    }
}

impl Source for AnySource {
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault> {
        each!(self, source => source.start(now))
    }

    fn stop(&mut self) {
        each!(self, source => source.stop())
    }

    fn disturbs(&self) -> bool {
        each!(self, source => source.disturbs())
    }

    fn may_hang(&self) -> bool {
        each!(self, source => source.may_hang())
    }

    fn fd(&self) -> Option<RawFd> {
        each!(self, source => source.fd())
    }

    fn deadline(&self) -> Option<Instant> {
        each!(self, source => source.deadline())
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        each!(self, source => source.capture(now))
    }

    fn newest(&mut self) -> Option<Frame<'_>> {
        each!(self, source => source.newest())
    }

    fn release(&mut self) {
        each!(self, source => source.release())
    }

    fn set_demand(&mut self, config: &Config) {
        each!(self, source => source.set_demand(config))
    }

    fn controls(&self) -> Vec<Control> {
        each!(self, source => source.controls())
    }

    fn set_control(&mut self, name: &str, value: i64) -> Result<(), ControlError> {
        each!(self, source => source.set_control(name, value))
    }
}
