//! A camera behind a V4L2 device node: UVC webcams, SoC cameras, capture cards, v4l2loopback.
//!
//! | file | what lives there |
//! |---|---|
//! | `choice.rs`, `cost.rs` | which format, size and rate to ask for; what a format costs the processor |
//! | `ring.rs` | the mmap ring: newest good picture kept, the rest given back |
//! | `dating.rs` | what the driver's time stamps are worth |
//! | `controls.rs` | brightness and its like, by name |
//! | `keeping.rs` | controls that stay set |
//! | `turning.rs` | turning by the camera's own controls |
//!
//! The system calls and the pixel formats are in [`crate::system::v4l2`].

pub mod choice;
pub mod controls;
pub mod cost;
mod dating;
mod keeping;
mod ring;
mod turning;

use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Instant;

use log::{info, warn};
use nix::libc::ENOSPC;

use self::choice::{Choice, Wish};
use self::cost::Demand;
use self::keeping::Keeper;
use self::ring::{Driver, Ring};
use self::turning::Turning;
use crate::config::{CameraConfig, Config};
use crate::limits;
use crate::measure::times::Epoch;
use crate::picture::frame::{Frame, FrameBuf};
use crate::source::control::{Control, ControlError};
use crate::source::interface::{Captured, Fault, Negotiated, Source};
use crate::system::v4l2::device::{
    self, Device, Failure, Filled, Granted, Interval, Mapping, PLANES, Queue, Wanted,
};
use crate::system::v4l2::formats::{self, Layout};

/// A V4L2 camera.
pub struct V4l2 {
    config: CameraConfig,
    /// What listeners and sinks want, for the choice of a format.
    demand: Demand,
    frame_bytes: usize,
    /// For JPEGs that come without Huffman tables. Its pages cost nothing until one does.
    copy: FrameBuf,
    ring: Option<Ring<Streaming>>,
    /// See [`Source::may_hang`].
    may_hang: bool,
    keeper: Keeper,
    /// The log has it that the time stamps make no sense.
    said_stamps: bool,
}

/// What the device and we agreed on.
struct Agreed {
    choice: Choice,
    granted: Granted,
    layout: Layout,
}

/// Why a start failed.
struct NotStarted {
    fault: Fault,
    /// The format for which there was not enough bandwidth.
    too_much: Option<u32>,
    /// See [`Failure::is_hang`].
    hang: bool,
}

/// A device with which camd has nothing to do, or not as it is told to.
impl From<Fault> for NotStarted {
    fn from(fault: Fault) -> Self {
        NotStarted {
            fault,
            too_much: None,
            hang: false,
        }
    }
}

impl NotStarted {
    fn by(failure: Failure, path: &Path) -> Self {
        NotStarted {
            fault: Fault(failure.explain(path)),
            too_much: None,
            hang: failure.is_hang(),
        }
    }
}

impl V4l2 {
    /// As the configuration says. Opens nothing.
    pub fn new(config: &Config) -> V4l2 {
        let frame_bytes = config.limits.frame_bytes;
        V4l2 {
            config: config.camera.clone(),
            demand: Demand::of(config),
            frame_bytes,
            copy: FrameBuf::new(frame_bytes),
            ring: None,
            may_hang: false,
            keeper: Keeper::new(&config.camera.controls),
            said_stamps: false,
        }
    }

    fn open(&self) -> Result<Device, NotStarted> {
        let path = &self.config.device;
        let device = Device::open(path).map_err(|failure| NotStarted::by(failure, path))?;
        match device.capability().unfit() {
            Some(what) => Err(Fault(format!("{}: no pictures: {what}", path.display())).into()),
            None => Ok(device),
        }
    }

    /// Asks for the format and size, and takes what the driver makes of it, as long as camd can serve it. `without`:
    /// formats that are not to be asked for.
    fn negotiate(&self, device: &Turning<Device>, without: &[u32]) -> Result<Agreed, NotStarted> {
        let config = &self.config;
        let path = config.device.display();
        let mut offers = formats::offers(device);
        offers.retain(|offer| !without.contains(&offer.code));
        let refuse = |why: String| {
            Fault(format!(
                "{path}: {why}; it offers {}; set camera.format (and width, height) to one of these, or to \"auto\"",
                match offers.is_empty() {
                    true => "no format that camd can serve".to_string(),
                    false => formats::describe(&offers),
                }
            ))
        };
        let wish = Wish {
            format: config.format,
            size: (config.width.into(), config.height.into()),
            fps: config.fps,
            transposed: device.transposed(),
            left: device.left(),
            demand: &self.demand,
        };
        let rates = |code, size| device.rates(code, size);
        let Some(choice) = choice::choose(&offers, &wish, rates) else {
            return Err(refuse(match config.format {
                Some(format) => format!("no {}", format.name()),
                None => "no usable format".to_string(),
            })
            .into());
        };
        let (width, height) = asked(choice.size, wish.transposed);
        let granted = device
            .set_format(
                Queue::Capture,
                &Wanted {
                    fourcc: choice.code,
                    width,
                    height,
                    ..Wanted::default()
                },
            )
            .map_err(|failure| NotStarted::by(failure, &config.device))?;
        let layout = Layout::new(&granted).map_err(&refuse)?;
        // vivid answers a format that it does not have with one that it has, and no error.
        if config.format.is_some_and(|wanted| wanted != layout.format) {
            return Err(refuse(format!(
                "asked for {}, the driver set {}",
                choice.format.name(),
                layout.format.name()
            ))
            .into());
        }
        Ok(Agreed {
            choice,
            granted,
            layout,
        })
    }

    fn begin(&self, without: &[u32], now: Instant) -> Result<Begun, NotStarted> {
        let config = &self.config;
        let path = &config.device;
        let mut device = Turning::new(self.open()?, config.orientation(), &config.controls);
        let mut agreed = self.negotiate(&device, without);
        if device.transposed() && !agreed.as_ref().is_ok_and(Agreed::is_transposed) {
            warn!(
                "{}: its control \"rotate\" cannot turn a picture by a quarter, so camd turns it",
                path.display()
            );
            device.give_up();
            agreed = self.negotiate(&device, without);
        }
        let Agreed {
            choice,
            granted,
            layout,
        } = agreed?;
        let wanted = asked(
            (config.width.into(), config.height.into()),
            device.transposed(),
        );
        if (granted.width, granted.height) != wanted {
            info!(
                "{}: {}x{} instead of {}x{}",
                path.display(),
                granted.width,
                granted.height,
                wanted.0,
                wanted.1
            );
        }
        let rate = device.set_rate(choice.interval.unwrap_or(Interval::of(config.fps)));
        self.keeper.before_start(&*device, &device.in_use());
        let capability = device.capability().clone();
        let left = device.left();
        let streaming =
            Streaming::new(device, config.buffers, granted.planes).map_err(|why| NotStarted {
                too_much: why.is_bandwidth().then_some(choice.code),
                hang: why.is_hang(),
                fault: why.into_fault(path),
            })?;
        let count = streaming.count();
        let ring = Ring::new(
            streaming,
            layout,
            Epoch::now(),
            config.fps,
            self.frame_bytes,
            now,
        )?;
        let fps = rate.map(|rate| rate.min(f64::from(config.fps)) as f32);
        let at = rate.map_or(String::new(), |rate| {
            format!(" at {} fps", choice::rate_name(rate))
        });
        // A driver may set another format than it was asked for; what was thought of it says nothing then.
        let why = match granted.fourcc == choice.code {
            true => format!(": {}", choice.why),
            false => String::new(),
        };
        let negotiated = Negotiated {
            format: layout.format,
            width: layout.width,
            height: layout.height,
            fps,
            orientation: Some(left),
            description: format!(
                "{} ({}, {}): {} {}x{}{at}, {count} buffers{why}",
                capability.card,
                capability.driver,
                capability.bus,
                formats::code_name(granted.fourcc),
                layout.width,
                layout.height,
            ),
        };
        Ok((ring, negotiated))
    }
}

type Begun = (Ring<Streaming>, Negotiated);

impl Agreed {
    /// Whether the driver gives what it was asked for, with the sides exchanged.
    fn is_transposed(&self) -> bool {
        (self.granted.width, self.granted.height) == asked(self.choice.size, true)
    }
}

/// What to ask the driver for if the camera turns its pictures by a quarter.
fn asked((width, height): (u32, u32), transposed: bool) -> (u32, u32) {
    if transposed {
        (height, width)
    } else {
        (width, height)
    }
}

impl Source for V4l2 {
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault> {
        self.stop();
        let auto = self.config.format.is_none();
        match within_bandwidth(auto, |without| self.begin(without, now)) {
            Ok((ring, negotiated)) => {
                // What comes from there is a program's.
                let driver = &ring.driver().device.capability().driver;
                self.may_hang = driver != device::LOOPBACK;
                let device = &ring.driver().device;
                self.keeper.after_start(
                    self.config.device.to_string_lossy().as_ref(),
                    &**device,
                    &device.in_use(),
                );
                self.ring = Some(ring);
                Ok(negotiated)
            }
            Err(NotStarted { fault, hang, .. }) => {
                self.may_hang = hang;
                Err(fault)
            }
        }
    }

    fn may_hang(&self) -> bool {
        self.may_hang
    }

    fn stop(&mut self) {
        self.ring = None;
        self.copy.clear();
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.ring.as_ref()?.driver().device.as_raw_fd())
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.ring.as_ref()?.deadline())
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        match &mut self.ring {
            Some(ring) => {
                let captured = ring.capture(now, &mut self.copy);
                if let Some(nonsense) = ring.take_nonsense()
                    && !std::mem::replace(&mut self.said_stamps, true)
                {
                    info!(
                        "{}: the driver's time stamps {nonsense}: pictures are dated by their arrival",
                        self.config.device.display()
                    );
                }
                if self.keeper.is_unchecked()
                    && captured.as_ref().is_ok_and(|captured| captured.fresh)
                {
                    let device = &ring.driver().device;
                    self.keeper.check(
                        self.config.device.to_string_lossy().as_ref(),
                        &**device,
                        &device.in_use(),
                    );
                }
                captured
            }
            None => Ok(Captured::default()),
        }
    }

    fn newest(&mut self) -> Option<Frame<'_>> {
        self.ring.as_ref()?.newest(&self.copy)
    }

    fn release(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.release();
        }
    }

    fn set_demand(&mut self, config: &Config) {
        self.demand = Demand::of(config);
    }

    /// Opens the device for as long as it takes where the stream is off.
    fn controls(&self) -> Vec<Control> {
        match &self.ring {
            Some(ring) => controls::list(&ring.driver().device),
            None => self
                .open()
                .map_or(Vec::new(), |device| controls::list(&device)),
        }
    }

    fn set_control(&mut self, name: &str, value: i64) -> Result<(), ControlError> {
        match &self.ring {
            Some(ring) => {
                let device = &ring.driver().device;
                controls::set(device, name, value)?;
                self.keeper.keep(&**device, name, value);
                Ok(())
            }
            None => {
                let device = self
                    .open()
                    .map_err(|NotStarted { fault, .. }| ControlError::Refused(fault.0))?;
                controls::set(&device, name, value)?;
                self.keeper.keep(&device, name, value);
                Ok(())
            }
        }
    }
}

/// Begins; where the bus has no room for a format, again without it if others may be taken: raw pictures need ten times
/// what JPEGs do, and another camera may be on the same bus. Without any left, the first failure tells most.
fn within_bandwidth<T>(
    auto: bool,
    mut begin: impl FnMut(&[u32]) -> Result<T, NotStarted>,
) -> Result<T, NotStarted> {
    let mut without = Vec::new();
    let mut first = None;
    loop {
        let failed = match begin(&without) {
            Ok(begun) => return Ok(begun),
            Err(failed) => failed,
        };
        match failed
            .too_much
            .filter(|code| auto && !without.contains(code))
        {
            Some(code) => {
                let name = formats::code_name(code);
                info!("{}: tried without {name}", failed.fault);
                without.push(code);
                first.get_or_insert(failed);
            }
            None => return Err(first.unwrap_or(failed)),
        }
    }
}

/// An open device that streams into mapped buffers. Dropping it stops the stream, unmaps, puts its controls back and
/// closes.
struct Streaming {
    maps: Vec<[Mapping; PLANES]>,
    device: Turning<Device>,
}

/// Why [`Streaming::new`] failed.
enum NotStreaming {
    Call(Failure),
    Other(String),
}

impl From<Failure> for NotStreaming {
    fn from(failure: Failure) -> Self {
        NotStreaming::Call(failure)
    }
}

impl NotStreaming {
    /// Whether the bus has no room for the stream.
    fn is_bandwidth(&self) -> bool {
        matches!(self, NotStreaming::Call(failure) if failure.errno() == ENOSPC)
    }

    /// See [`Failure::is_hang`]. What a driver is like does not change.
    fn is_hang(&self) -> bool {
        matches!(self, NotStreaming::Call(failure) if failure.is_hang())
    }

    fn into_fault(self, path: &Path) -> Fault {
        Fault(match self {
            NotStreaming::Call(failure) => failure.explain(path),
            NotStreaming::Other(why) => format!("{}: {why}", path.display()),
        })
    }
}

impl Streaming {
    fn new(device: Turning<Device>, wanted: u32, planes: usize) -> Result<Streaming, NotStreaming> {
        let count = device.request_buffers(Queue::Capture, wanted)?;
        if !(limits::BUFFERS_MIN..=limits::BUFFERS_MAX).contains(&count) {
            return Err(NotStreaming::Other(format!(
                "VIDIOC_REQBUFS gave {count} buffers of {wanted}, camd needs {} to {}",
                limits::BUFFERS_MIN,
                limits::BUFFERS_MAX
            )));
        }
        let mut streaming = Streaming {
            maps: Vec::with_capacity(count as usize),
            device,
        };
        for index in 0..count {
            let maps = streaming.device.map_buffer(Queue::Capture, index)?;
            if maps.iter().take(planes).any(|map| map.bytes().is_empty()) {
                return Err(NotStreaming::Other(format!(
                    "buffer {index} has no memory for {planes} planes"
                )));
            }
            streaming.maps.push(maps);
            streaming.device.queue(index)?;
        }
        streaming.device.stream_on(Queue::Capture)?;
        Ok(streaming)
    }
}

impl Driver for Streaming {
    fn path(&self) -> &Path {
        self.device.path()
    }

    fn count(&self) -> u32 {
        self.maps.len() as u32
    }

    fn dequeue(&mut self) -> Result<Option<Filled>, Failure> {
        self.device.dequeue(Queue::Capture)
    }

    fn queue(&mut self, index: u32) -> Result<(), Failure> {
        self.device.queue(index)
    }

    fn keeps(&self) -> bool {
        self.device.capability().driver != device::LOOPBACK
    }

    fn plane(&self, index: u32, plane: usize) -> &[u8] {
        self.maps[index as usize][plane].bytes()
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        // All of it fails where the camera is unplugged: then nothing streams either.
        let _ = self.device.stream_off(Queue::Capture);
        // A mapping keeps its buffer alive, and while there are buffers some drivers refuse to turn.
        self.maps.clear();
        let _ = self.device.request_buffers(Queue::Capture, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begins with the first of `formats` that may be taken and is not too much for the bus.
    fn begin(formats: &[(u32, bool)], without: &[u32]) -> std::result::Result<u32, NotStarted> {
        match formats.iter().find(|(code, _)| !without.contains(code)) {
            Some(&(code, true)) => Ok(code),
            Some(&(code, false)) => Err(NotStarted {
                fault: Fault(format!("no room for {code}")),
                too_much: Some(code),
                hang: false,
            }),
            None => Err(Fault("no usable format".into()).into()),
        }
    }

    #[test]
    fn a_format_that_the_bus_cannot_carry_makes_way() {
        let formats = [(1, false), (2, false), (3, true)];
        let within = |auto, formats: &[_]| {
            within_bandwidth(auto, |w| begin(formats, w)).map_err(|failed| failed.fault)
        };
        assert_eq!(within(true, &formats), Ok(3));
        let first = Err(Fault("no room for 1".into()));
        assert_eq!(within(false, &formats), first);
        assert_eq!(within(true, &formats[..2]), first);
    }
}
