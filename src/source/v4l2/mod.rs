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
//! | `cropping.rs` | cropping by the driver |
//! | `weaving.rs` | interlaced cameras: both fields in one picture, where the driver can |
//!
//! The system calls and the pixel formats are in [`crate::system::v4l2`].

pub mod choice;
pub mod controls;
pub mod cost;
mod cropping;
mod dating;
mod keeping;
mod ring;
mod turning;
mod weaving;

use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Instant;

use nix::libc::ENOSPC;
use v4l::v4l_sys::V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME;

use self::choice::{Choice, Wish};
use self::cost::Demand;
use self::cropping::Cropping;
use self::keeping::Keeper;
use self::ring::{Driver, Ring};
use self::turning::Turning;
use crate::config::{CameraConfig, Config};
use crate::limits;
use crate::measure::times::Epoch;
use crate::picture::chain::Chain;
use crate::picture::frame::{CameraFormat, Frame, FrameBuf, Size};
use crate::source::control::{Control, ControlError};
use crate::source::film::Film;
use crate::source::interface::{Captured, Cropped, Fault, Negotiated, Source};
use crate::source::say;
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
    /// For H.264; as `copy`. While the camera streams that, the ring has it.
    film: Option<Film>,
    /// What the driver says to the request for a key picture has been told.
    keys_told: bool,
    ring: Option<Ring<Streaming>>,
    /// See [`Source::may_hang`].
    may_hang: bool,
    keeper: Keeper,
}

/// A device that may turn and crop its pictures.
type Camera = Turning<Cropping<Device>>;

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
            film: Some(Film::of_buffers(frame_bytes)),
            keys_told: false,
            ring: None,
            may_hang: false,
            keeper: Keeper::new(&config.camera.controls),
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

    /// Asks for the format and size, and takes what the driver makes of it, as long as camd can serve it.
    fn negotiate(&self, device: &Camera, ask: &Ask) -> Result<Agreed, NotStarted> {
        let config = &self.config;
        let path = config.device.display();
        let mut offers = formats::offers(device);
        offers.retain(|offer| {
            !ask.without.contains(&offer.code) && ask.only.is_none_or(|only| only == offer.code)
        });
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
            size: ask.size,
            fps: ask.fps,
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
        let wanted = Wanted {
            fourcc: choice.code,
            width,
            height,
            ..Wanted::default()
        };
        let granted = set_format(device, &wanted)
            .map_err(|failure| NotStarted::by(failure, &config.device))?;
        let layout = layout_of(&granted).map_err(&refuse)?;
        let format = formats::known_of_camera(granted.fourcc).expect("it has a layout");
        // vivid answers a format that it does not have with one that it has, and no error.
        if config.format.is_some_and(|wanted| wanted != format) {
            return Err(refuse(format!(
                "asked for {}, the driver set {}",
                choice.format.name(),
                format.name()
            ))
            .into());
        }
        Ok(Agreed {
            choice,
            granted,
            layout,
        })
    }

    /// Has the driver crop, if it can and does not turn: the pictures of `agreed` are whole.
    fn crop(
        &self,
        device: &Camera,
        agreed: Agreed,
        ask: &Ask,
    ) -> Result<(Agreed, Option<Cropped>), NotStarted> {
        let orientation = self.config.orientation();
        let turns = device.left() != orientation || device.transposed();
        let Some(crop) = self.config.crop.filter(|_| !turns) else {
            return Ok((agreed, None));
        };
        // Its layout has been checked.
        let whole = Size {
            width: agreed.layout.width,
            height: agreed.layout.height,
        };
        let shown = orientation.turn(whole);
        let part = orientation.inverse().turn_area(crop.within(shown), shown);
        let mut smaller = None;
        let resize = |(width, height): (u32, u32)| {
            let wanted = Wanted {
                fourcc: agreed.granted.fourcc,
                width,
                height,
                ..Wanted::default()
            };
            let granted = set_format(device, &wanted).ok()?;
            let layout = layout_of(&granted).ok()?;
            let is_same = granted.fourcc == agreed.granted.fourcc;
            smaller = is_same.then_some((granted, layout));
            is_same.then_some((granted.width, granted.height))
        };
        match device.crop(part, whole, resize) {
            (Some(cropped), _) => {
                let (granted, layout) = smaller.expect("its size was set");
                let agreed = Agreed {
                    granted,
                    layout,
                    ..agreed
                };
                Ok((agreed, Some(cropped)))
            }
            (None, false) => Ok((agreed, None)),
            // What it is now is not known any more.
            (None, true) => Ok((self.negotiate(device, ask)?, None)),
        }
    }

    /// What to try where the bus has no room for this format as it is wanted.
    fn more_modest(&self, code: u32) -> Vec<((u32, u32), u16)> {
        let Ok(device) = self.open() else {
            return Vec::new();
        };
        let offers = formats::offers(&device);
        let Some(offer) = offers.iter().find(|offer| offer.code == code) else {
            return Vec::new();
        };
        let wanted = (self.config.width.into(), self.config.height.into());
        let rates = |size| device.rates(code, size);
        choice::more_modest(&offer.sizes, wanted, self.config.fps, rates)
    }

    /// `film`: where H.264 is to go. It is taken where the camera gives some.
    fn begin(&self, ask: &Ask, film: &mut Option<Film>, now: Instant) -> Result<Begun, NotStarted> {
        let config = &self.config;
        let path = &config.device;
        let device = Cropping::new(self.open()?);
        let mut device = Turning::new(device, config.orientation(), &config.controls);
        if config.crop.is_some() {
            device.begin();
        }
        let mut agreed = self.negotiate(&device, ask);
        if device.transposed() && !agreed.as_ref().is_ok_and(Agreed::is_transposed) {
            say::warn(format_args!(
                "{}: its control \"rotate\" cannot turn a picture by a quarter, so camd turns it",
                path.display()
            ));
            device.give_up();
            agreed = self.negotiate(&device, ask);
        }
        let agreed = agreed?;
        let whole = (agreed.granted.width, agreed.granted.height);
        let (agreed, cropped) = self.crop(&device, agreed, ask)?;
        let Agreed {
            choice,
            granted,
            layout,
        } = agreed;
        let wanted = asked(
            (config.width.into(), config.height.into()),
            device.transposed(),
        );
        let instead = (whole != wanted).then(|| {
            format!(
                "{}: {}x{} instead of {}x{}",
                path.display(),
                whole.0,
                whole.1,
                wanted.0,
                wanted.1
            )
        });
        let rate = device.set_rate(choice.interval.unwrap_or(Interval::of(ask.fps)));
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
        let is_film = granted.fourcc == formats::H264;
        let ring = if is_film {
            // One that went with a start that failed is made anew.
            let film = film.take();
            let film = film.unwrap_or_else(|| Film::of_buffers(self.frame_bytes));
            Ring::of_film(streaming, layout, Epoch::now(), film, now)?
        } else {
            Ring::new(
                streaming,
                layout,
                Epoch::now(),
                config.fps,
                self.frame_bytes,
                now,
            )?
        };
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
            cropped,
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
        Ok((ring, negotiated, instead))
    }
}

/// VIDIOC_S_FMT for whole pictures, see [`weaving`].
fn set_format(device: &Device, wanted: &Wanted) -> Result<Granted, Failure> {
    weaving::set_format(wanted, |wanted| device.set_format(Queue::Capture, wanted))
}

fn layout_of(granted: &Granted) -> Result<Layout, String> {
    match formats::known_of_camera(granted.fourcc) {
        Some(CameraFormat::H264) => Layout::of_h264(granted),
        _ => Layout::new(granted),
    }
}

/// And what the log is to have of its size, if it is not the wanted one.
type Begun = (Ring<Streaming>, Negotiated, Option<String>);

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
        let wanted = Ask {
            without: Vec::new(),
            only: None,
            size: (self.config.width.into(), self.config.height.into()),
            fps: self.config.fps,
        };
        let mut film = self.film.take();
        let begin = |ask: &Ask| self.begin(ask, &mut film, now);
        let begun = within_bandwidth(auto, wanted, begin, |code| self.more_modest(code));
        self.film = film;
        match begun {
            Ok(((ring, negotiated, instead), no_room)) => {
                if let Some(text) = instead {
                    say::info(format_args!("{text}"));
                }
                if let Some(why) = no_room {
                    let less = &negotiated.description;
                    say::warn(format_args!("{why}; with less: {less}"));
                }
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
        if let Some(mut ring) = self.ring.take()
            && let Some(mut film) = ring.take_film()
        {
            // Who has got pictures of it goes on with the first key picture of the next start.
            film.clear();
            self.film = Some(film);
        }
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
                if let Some(nonsense) = ring.take_nonsense() {
                    say::info(format_args!(
                        "{}: the driver's time stamps {nonsense}: pictures are dated by their arrival",
                        self.config.device.display()
                    ));
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

    fn newest(&self) -> Option<Frame<'_>> {
        self.ring.as_ref()?.newest(&self.copy)
    }

    fn chain(&self) -> Option<&Chain> {
        Some(self.ring.as_ref()?.film()?.chain())
    }

    fn ask_key(&mut self) {
        let Some(ring) = self.ring.as_ref().filter(|ring| ring.film().is_some()) else {
            return;
        };
        // The value of a button means nothing.
        let device = &ring.driver().device;
        let asked = device.set_control(V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME, false, 1);
        if let Err(failure) = asked
            && !std::mem::replace(&mut self.keys_told, true)
        {
            say::info(format_args!(
                "{}: the camera makes no key pictures when asked ({}): viewers of H.264 wait for the next one",
                self.config.device.display(),
                failure.error
            ));
        }
    }

    fn holds(&self) -> bool {
        self.ring.as_ref().is_none_or(Ring::holds)
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

/// What to ask of a camera, in place of what is wanted, where the bus has no room for that.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ask {
    /// Formats that are not to be asked for.
    without: Vec<u32>,
    /// The only one to be asked for.
    only: Option<u32>,
    /// Before turning.
    size: (u32, u32),
    fps: u16,
}

/// Begins; where the bus has no room, again with less. First without that format, if others may be taken: raw pictures need
/// ten times what JPEGs do, and another camera may be on the same bus. Then at lower rates and in smaller sizes, which
/// `modest` lists for the last format that was refused. Without any left, the first failure tells most. Also gives what had
/// no room.
fn within_bandwidth<T>(
    auto: bool,
    wanted: Ask,
    mut begin: impl FnMut(&Ask) -> Result<T, NotStarted>,
    modest: impl FnOnce(u32) -> Vec<((u32, u32), u16)>,
) -> Result<(T, Option<String>), NotStarted> {
    let mut ask = wanted.clone();
    let mut first: Option<NotStarted> = None;
    let mut last = None;
    loop {
        let failed = match begin(&ask) {
            Ok(begun) => return Ok((begun, first.map(|failed| failed.fault.0))),
            Err(failed) => failed,
        };
        // Without a code, it is another failure; or none of the formats is left.
        let Some(code) = failed.too_much.filter(|code| !ask.without.contains(code)) else {
            if first.is_none() || failed.hang {
                return Err(first.unwrap_or(failed));
            }
            break;
        };
        last = Some(code);
        first.get_or_insert(failed);
        if !auto {
            break;
        }
        ask.without.push(code);
    }
    let (Some(first), Some(code)) = (first, last) else {
        unreachable!("there was one that had no room");
    };
    for (size, fps) in modest(code) {
        let ask = Ask {
            only: Some(code),
            size,
            fps,
            ..wanted.clone()
        };
        match begin(&ask) {
            Ok(begun) => return Ok((begun, Some(first.fault.0))),
            Err(failed) if failed.too_much.is_some() => {}
            Err(_) => break,
        }
    }
    Err(first)
}

/// An open device that streams into mapped buffers. Dropping it stops the stream, unmaps, puts its controls back and
/// closes.
struct Streaming {
    maps: Vec<[Mapping; PLANES]>,
    /// See [`Driver::keeps`].
    keeps: bool,
    device: Camera,
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
    fn new(device: Camera, wanted: u32, planes: usize) -> Result<Streaming, NotStreaming> {
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
            keeps: device.capability().driver != device::LOOPBACK,
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
        self.keeps
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

    fn ask() -> Ask {
        Ask {
            without: Vec::new(),
            only: None,
            size: (640, 480),
            fps: 30,
        }
    }

    /// Begins with the first of `formats` that may be taken and is not too much for the bus.
    fn begin(formats: &[(u32, bool)], ask: &Ask) -> std::result::Result<u32, NotStarted> {
        match formats.iter().find(|(code, _)| !ask.without.contains(code)) {
            Some(&(code, true)) => Ok(code),
            Some(&(code, false)) => Err(no_room(code)),
            None => Err(Fault("no usable format".into()).into()),
        }
    }

    fn no_room(code: u32) -> NotStarted {
        NotStarted {
            fault: Fault(format!("no room for {code}")),
            too_much: Some(code),
            hang: false,
        }
    }

    #[test]
    fn a_format_that_the_bus_cannot_carry_makes_way() {
        let formats = [(1, false), (2, false), (3, true)];
        let within = |auto, formats: &[_]| {
            let begun = within_bandwidth(auto, ask(), |ask| begin(formats, ask), |_| Vec::new());
            begun
                .map(|(code, why)| (code, why.unwrap_or_default()))
                .map_err(|failed| failed.fault)
        };
        assert_eq!(within(true, &formats), Ok((3, "no room for 1".into())));
        assert_eq!(within(true, &formats[2..]), Ok((3, String::new())));
        let first = Err(Fault("no room for 1".into()));
        assert_eq!(within(false, &formats), first);
        assert_eq!(within(true, &formats[..2]), first);
    }

    #[test]
    fn less_is_tried_before_giving_up() {
        for (auto, code) in [(false, 1), (true, 2)] {
            let mut asked = Vec::new();
            let begin = |ask: &Ask| {
                asked.push((ask.only, ask.size, ask.fps));
                match (ask.only, ask.fps) {
                    (Some(only), 10) => Ok(only),
                    (Some(only), _) => Err(no_room(only)),
                    (None, _) => begin(&[(1, false), (2, false)], ask),
                }
            };
            let modest = |refused| {
                assert_eq!(refused, code);
                vec![((640, 480), 15), ((320, 240), 10), ((160, 120), 10)]
            };
            let begun = within_bandwidth(auto, ask(), begin, modest);
            let why = Some("no room for 1".to_owned());
            assert_eq!(begun.map_err(|failed| failed.fault), Ok((code, why)));
            let tail = &asked[asked.len() - 2..];
            let only = Some(code);
            assert_eq!(tail, [(only, (640, 480), 15), (only, (320, 240), 10)]);
        }
        // Another failure on the way ends it.
        let begin = |ask: &Ask| match ask.only {
            None => Err(no_room(1)),
            Some(_) => Err(NotStarted::from(Fault("unplugged".into()))),
        };
        let begun = within_bandwidth::<()>(false, ask(), begin, |_| vec![((1, 1), 1), ((2, 2), 2)]);
        let fault = begun.map_err(|failed| failed.fault);
        assert_eq!(fault, Err(Fault("no room for 1".into())));
    }
}
