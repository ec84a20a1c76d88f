//! [`Camera`] keeps one [`Source`] alive: on while somebody watches, reopened with back-off after each fault, and with
//! a card that says so in place of the picture meanwhile.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use log::{debug, info, warn};

use super::control::{Control, ControlError};
use super::interface::{Captured, Fault, Negotiated, Source};
use super::no_picture;
use super::say;
use crate::config::{CameraConfig, Config, Settle};
use crate::encode::codec::Codec;
use crate::limits::{KEY_EVERY, NO_PICTURE_INTERVAL, NO_PICTURE_QUALITY, REOPEN_FIRST, REOPEN_MAX};
use crate::measure::rate::Rate;
use crate::measure::times::first;
use crate::picture::chain::Chain;
use crate::picture::frame::{
    Area, Frame, FrameBuf, FrameMeta, Orientation, Picture, PixelFormat, Size,
};

/// As `/state` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Nobody watches, and the device is closed.
    Idle,
    /// On, no picture yet.
    Starting,
    /// Pictures come.
    Live,
    /// No pictures; [`Camera::reason`] says why.
    Fault,
}

impl Condition {
    /// All of them.
    pub const ALL: [Condition; 4] = [
        Condition::Idle,
        Condition::Starting,
        Condition::Live,
        Condition::Fault,
    ];

    /// As in `/state` and `/metrics`.
    pub fn name(self) -> &'static str {
        match self {
            Condition::Idle => "idle",
            Condition::Starting => "starting",
            Condition::Live => "live",
            Condition::Fault => "fault",
        }
    }
}

/// What happened since camd began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Pictures taken in and offered to clients.
    pub frames: u64,
    /// Good pictures that a newer one replaced before anybody could get them, or that the driver lost.
    pub dropped: u64,
    /// Damaged, truncated or oversized pictures.
    pub bad: u64,
    /// Times that the source was opened again after a fault.
    pub reopens: u64,
}

/// What is left of the pictures, and what crops them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cropping {
    /// As viewers see it.
    pub area: Area,
    /// The whole picture, as viewers would see it.
    pub whole: Size,
    /// "camera", "camd" or "camera and camd".
    pub by: &'static str,
}

/// A fault that lasts.
struct Trouble {
    reason: String,
    since: Instant,
    backoff: Duration,
    /// When the card goes out again.
    next_card: Instant,
    /// The log has it.
    told: bool,
}

/// Pictures whose size changes all the time are not told of each time.
const CROPPINGS_TOLD: u8 = 4;

/// One camera, whatever happens to it.
///
/// Invariant: the source is started if and only if `negotiated` is set, and then `retry` is not. With neither, it is
/// idle and waits for a viewer.
pub struct Camera<S> {
    source: S,
    settings: CameraConfig,
    negotiated: Option<Negotiated>,
    /// When the source is started (again).
    retry: Option<Instant>,
    /// From a fault to the next picture.
    trouble: Option<Trouble>,
    /// Nobody has watched since then; `None` while somebody does.
    unwatched: Option<Instant>,
    /// What is left of `settle` since the start; nothing is shown until then.
    settling: Settling,
    /// There was a picture since the start that was shown.
    live: bool,
    /// What tells how pictures are shown, of the last one since the start: its format, its size as it is stored, and how it is
    /// turned by what it says itself, and otherwise.
    looked_at: Option<(PixelFormat, Size, Orientation, Orientation)>,
    /// What the last picture since the start was: its format, and its size as viewers see it.
    shown: Option<(PixelFormat, Size)>,
    /// Of that picture; `None` where all of it is shown.
    cropping: Option<Cropping>,
    /// How often the log has been told since the start how pictures are cropped, up to [`CROPPINGS_TOLD`].
    croppings_told: u8,
    epoch: u64,
    sequence: u64,
    /// When the card goes out again that stands for pictures that lean on one another; `None`: there are none.
    chain_card: Option<Instant>,
    /// When the source was last asked for a picture that stands for itself.
    key_asked: Option<Instant>,
    /// See [`Camera::gives_h264`].
    gives_h264: bool,
    card: FrameBuf,
    card_captured: Instant,
    last_captured: Option<Instant>,
    counters: Counters,
    rate: Rate,
}

impl<S: Source> Camera<S> {
    /// A camera that is started with the first [`Camera::run`], to see what is there, and goes idle from there; unless
    /// that would disturb somebody.
    pub fn new(source: S, config: &Config, now: Instant) -> Self {
        let mut camera = Camera {
            source,
            card: FrameBuf::new(config.limits.frame_bytes),
            settings: config.camera.clone(),
            negotiated: None,
            retry: None,
            trouble: None,
            unwatched: Some(now),
            settling: Settling::Done,
            live: false,
            looked_at: None,
            shown: None,
            cropping: None,
            croppings_told: 0,
            epoch: 0,
            sequence: 0,
            chain_card: None,
            key_asked: None,
            gives_h264: false,
            card_captured: now,
            last_captured: None,
            counters: Counters::default(),
            rate: Rate::default(),
        };
        camera.begin(now);
        camera
    }

    /// Lets the source be started, if it may be now.
    fn begin(&mut self, now: Instant) {
        let rests = self.source.disturbs() && self.unwatched.is_some();
        self.retry = (!rests || self.settings.linger.is_none()).then_some(now);
    }

    /// What the camera is doing.
    pub fn condition(&self) -> Condition {
        match (&self.trouble, &self.negotiated) {
            (Some(_), _) => Condition::Fault,
            (None, None) if self.retry.is_none() => Condition::Idle,
            (None, Some(_)) if self.live => Condition::Live,
            (None, _) => Condition::Starting,
        }
    }

    /// Why there is no picture; empty if there is.
    pub fn reason(&self) -> &str {
        self.trouble.as_ref().map_or("", |trouble| &trouble.reason)
    }

    /// What the source agreed to deliver; `None` while it is off.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// Its section of the configuration.
    pub fn settings(&self) -> &CameraConfig {
        &self.settings
    }

    /// How the source's pictures have yet to be turned.
    fn orientation(&self) -> Orientation {
        self.negotiated
            .as_ref()
            .and_then(|negotiated| negotiated.orientation)
            .unwrap_or(self.settings.orientation())
    }

    /// What viewers see of the picture's size, which may be another than the source has agreed to: a driver that delivers
    /// JPEGs of another size than it says. `None` while the source is off, and where only the first picture will tell.
    pub fn size(&self) -> Option<Size> {
        let &Negotiated { width, height, .. } = self.negotiated()?;
        if let Some((_, size)) = self.shown {
            return Some(size);
        }
        let agreed = Size { width, height };
        let orientation = self.orientation();
        (width > 0).then(|| match self.crop(agreed, orientation) {
            Some((_, cropping)) => cropping.area.size(),
            None => orientation.turn(agreed),
        })
    }

    /// What is shown of the newest picture, and what crops it; `None` where all of it is shown, and before the first.
    pub fn cropping(&self) -> Option<Cropping> {
        self.cropping
    }

    /// What is to be shown of a picture that is stored in this size and is to be turned like this: the part as it is stored,
    /// `None` where it is all, and what viewers are to know of it. Coordinates are those of the whole picture as viewers see
    /// it, which they can read from it.
    fn crop(&self, stored: Size, turning: Orientation) -> Option<(Option<Area>, Cropping)> {
        let wanted = self.settings.crop?;
        // A camera that does not give what it has agreed to has not cropped it either.
        let cropped = self.negotiated().and_then(|negotiated| negotiated.cropped);
        let cropped = cropped.filter(|cropped| cropped.area.size() == stored);
        let (whole, given) = match cropped {
            Some(cropped) => (cropped.whole, cropped.area),
            None => (stored, Area::all(stored)),
        };
        let shown = turning.turn(whole);
        let part = wanted.within(shown);
        let part = turning.inverse().turn_area(part, shown);
        let left = part.of(given);
        // What there is of it.
        let area = turning.turn_area(
            Area {
                x: given.x + left.x,
                y: given.y + left.y,
                ..left
            },
            whole,
        );
        let left = (left != Area::all(stored)).then_some(left);
        let by = match (cropped, left) {
            (None, None) => return None,
            (Some(_), None) => "camera",
            (None, Some(_)) => "camd",
            (Some(_), Some(_)) => "camera and camd",
        };
        Some((
            left,
            Cropping {
                area,
                whole: shown,
                by,
            },
        ))
    }

    /// The same picture without what is not to be shown: what is not compressed becomes smaller, where it is; of a JPEG it is
    /// only said.
    fn cropped<'a>(&self, mut frame: Frame<'a>) -> Frame<'a> {
        let meta = &frame.meta;
        let Some((Some(area), _)) = self.crop(meta.stored(), meta.turning()) else {
            return frame;
        };
        match frame.picture {
            Picture::Jpeg(_) => frame.meta.crop = Some(area),
            Picture::Raw(raw) => {
                let raw = raw.crop(area);
                (frame.meta.width, frame.meta.height) = (raw.width, raw.height);
                frame.picture = Picture::Raw(raw);
            }
        }
        frame
    }

    /// Keeps what a picture is, and says in the log how it is cropped, where that is news.
    fn look_at(&mut self, format: PixelFormat, meta: &FrameMeta) {
        let turning = meta.turning();
        let crop = self.crop(meta.stored(), turning);
        let cropping = crop.map(|(left, cropping)| match left {
            // Where it really begins.
            Some(left) if format != PixelFormat::Mjpeg => {
                let (columns, lines) = format.grid();
                let moved = left.on_grid(columns, lines);
                let (dx, dy) = (left.x - moved.x, left.y - moved.y);
                let wanted = turning.inverse().turn_area(cropping.area, cropping.whole);
                let real = Area {
                    x: wanted.x - dx,
                    y: wanted.y - dy,
                    ..wanted
                };
                let stored = turning.inverse().turn(cropping.whole);
                let area = turning.turn_area(real, stored);
                Cropping { area, ..cropping }
            }
            _ => cropping,
        });
        let size = match cropping {
            Some(cropping) => cropping.area.size(),
            None => meta.shown(),
        };
        let before = self.shown.is_some().then_some(self.cropping);
        (self.shown, self.cropping) = (Some((format, size)), cropping);
        let Some(wanted) = self.settings.crop else {
            return;
        };
        if before == Some(cropping) || self.croppings_told == CROPPINGS_TOLD {
            return;
        }
        self.croppings_told += 1;
        let whole = cropping.map_or(meta.shown(), |cropping| cropping.whole);
        let (width, height) = (whole.width, whole.height);
        let nearest = wanted.within(whole);
        if nearest != wanted {
            say::warn(format_args!(
                "camera: camera.crop {wanted} is not within the picture, which is {width}x{height} as viewers see it: {nearest} is \
                 the nearest that is"
            ));
        }
        if let Some(Cropping { area, by, .. }) = cropping {
            say::info(format_args!(
                "camera: cropped by {}: {},{} {}x{} of {width}x{height}",
                match by {
                    "camera" => "the camera",
                    "camera and camd" => "the camera and camd together",
                    other => other,
                },
                area.x,
                area.y,
                area.width,
                area.height
            ));
        }
    }

    /// What the pictures come as; until the first, what the source has agreed to. `None` while it is off.
    pub fn format(&self) -> Option<PixelFormat> {
        let agreed = self.negotiated()?.format;
        Some(self.shown.map_or(agreed, |(format, _)| format))
    }

    /// As [`Camera::format`], for a person; "h264" where pictures lean on one another.
    pub fn coding(&self) -> Option<&'static str> {
        match self.chain() {
            Some(_) => Some("h264"),
            None => self.format().map(PixelFormat::name),
        }
    }

    /// The pictures that lean on one another; `None`: its pictures do not, or there are none now.
    pub fn chain(&self) -> Option<&Chain> {
        let runs = self.trouble.is_none() && self.settling == Settling::Done;
        self.source.chain().filter(|_| runs)
    }

    /// Somebody needs a picture of the chain that stands for itself, which is not there. Whoever it is, the camera is asked no more
    /// often than [`KEY_EVERY`] allows.
    pub fn ask_key(&mut self, now: Instant) {
        let is_due = self.key_asked.is_none_or(|at| at + KEY_EVERY <= now);
        if is_due && self.chain().is_some() {
            self.key_asked = Some(now);
            self.source.ask_key();
        }
    }

    /// Whether its last picture was of those that lean on one another. It may be off by now: started again, it will most
    /// likely give such pictures again.
    pub fn gives_h264(&self) -> bool {
        self.gives_h264
    }

    /// There is another picture of those that lean on one another. Those who want JPEGs get a card in its place, now and then.
    fn on_unit(&mut self, now: Instant) {
        let size = self
            .source
            .chain()
            .and_then(|chain| chain.parameters().size());
        if let Some(size) = size {
            self.shown = Some((PixelFormat::Mjpeg, size));
        }
        match self.chain_card {
            Some(due) if now < due => return,
            Some(_) => {}
            None => {
                let Size { width, height } = size.unwrap_or(self.card_size());
                let turned = match (self.orientation(), self.settings.crop) {
                    (Orientation::UPRIGHT, None) => "",
                    _ => "; it is not turned and not cropped",
                };
                say::warn(format_args!(
                    "camera: H.264 of {width}x{height}, for /stream.mp4 of http listeners: all others get a card that says so, \
                     as camd makes no JPEGs of it{turned}"
                ));
                self.draw_card("H.264 alone: see /stream.mp4");
            }
        }
        self.chain_card = Some(now + NO_PICTURE_INTERVAL);
        self.sequence += 1;
        self.card_captured = now;
    }

    /// Pictures since the start of camd.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Pictures per second, lately.
    pub fn fps(&self, now: Instant) -> f32 {
        self.rate.per_second(now)
    }

    /// When the newest picture was captured; `None` before the first.
    pub fn captured(&self) -> Option<Instant> {
        self.last_captured
    }

    /// Whether something hangs if no picture comes, see [`Source::may_hang`].
    pub fn may_hang(&self) -> bool {
        self.source.may_hang()
    }

    /// Which opening of the source this is; `None` while it is off.
    pub fn opening(&self) -> Option<u64> {
        self.negotiated.as_ref().map(|_| self.epoch)
    }

    /// What to poll while the source is on, and which opening of it that is: a descriptor that was closed and opened
    /// again can have the same number, but has to be registered anew. After registering, [`Camera::run`] must be
    /// called once as if it were readable: an edge-triggered poll does not tell what was there before.
    pub fn fd(&self) -> Option<(RawFd, u64)> {
        self.negotiated
            .as_ref()
            .and_then(|_| self.source.fd())
            .map(|fd| (fd, self.epoch))
    }

    /// When [`Camera::run`] has something to do without any readiness.
    pub fn deadline(&self) -> Option<Instant> {
        let source = self
            .negotiated
            .as_ref()
            .and_then(|_| self.source.deadline());
        let card = self
            .trouble
            .as_ref()
            .map(|trouble| trouble.next_card)
            .filter(|_| self.unwatched.is_none());
        first(first(source, card), first(self.retry, self.switch_off()))
    }

    /// When an unwatched source goes off. A fault keeps it on, or being retried, unless that disturbs somebody: only so is
    /// its end noticed.
    fn switch_off(&self) -> Option<Instant> {
        let goes = match self.trouble {
            None => self.negotiated.is_some(),
            Some(_) => self.source.disturbs(),
        };
        match (self.unwatched, self.settings.linger) {
            (Some(since), Some(linger)) if goes => Some(since + linger),
            _ => None,
        }
    }

    /// Tells how many clients want pictures. The first one switches an idle source on.
    pub fn set_viewers(&mut self, viewers: usize, now: Instant) {
        match (viewers, self.unwatched) {
            (0, None) => self.unwatched = Some(now),
            (1.., Some(_)) => {
                self.unwatched = None;
                if self.negotiated.is_none() && self.retry.is_none() {
                    self.start(now);
                }
            }
            _ => {}
        }
    }

    /// Does what is due: takes pictures in, reopens after a fault, goes idle. True if [`Camera::newest`] has a new
    /// picture. `readable`: the descriptor of [`Camera::fd`] has had an event.
    pub fn run(&mut self, readable: bool, now: Instant) -> bool {
        let mut fresh = false;
        if self.retry.is_some_and(|at| at <= now) {
            self.start(now);
        }
        if self.negotiated.is_some()
            && (readable || self.source.deadline().is_some_and(|at| at <= now))
        {
            match self.source.capture(now) {
                Ok(captured) => fresh |= self.on_captured(captured, now),
                Err(fault) => self.on_fault(fault, now),
            }
        }
        if self.switch_off().is_some_and(|at| at <= now) {
            debug!("camera off: nobody watches");
            self.shutdown();
            self.trouble = None;
        }
        match &mut self.trouble {
            Some(trouble) if trouble.next_card <= now && self.unwatched.is_none() => {
                trouble.next_card = now + NO_PICTURE_INTERVAL;
                self.sequence += 1;
                self.card_captured = now;
                fresh = true;
            }
            _ => {}
        }
        fresh
    }

    fn start(&mut self, now: Instant) {
        self.live = false;
        self.chain_card = None;
        (self.shown, self.cropping, self.croppings_told) = (None, None, 0);
        self.looked_at = None;
        self.settling = match self.settings.settle {
            Settle::Pictures(0) | Settle::Time(Duration::ZERO) => Settling::Done,
            settle => Settling::Since {
                settle,
                first: None,
            },
        };
        self.retry = None;
        self.epoch += 1;
        say::begin(now);
        if self.trouble.is_some() {
            self.counters.reopens += 1;
        }
        match self.source.start(now) {
            Ok(negotiated) => {
                // A fault is over with the first picture only: some cameras open well and then give none.
                say::notice(format_args!("camera: {}", self.announcement(&negotiated)));
                self.negotiated = Some(negotiated);
            }
            Err(fault) => self.on_fault(fault, now),
        }
    }

    /// What the log says of a start: also what turns the picture.
    fn announcement(&self, negotiated: &Negotiated) -> String {
        let wanted = self.settings.orientation();
        let left = negotiated.orientation.unwrap_or(wanted);
        let turned = match (wanted, left) {
            (Orientation::UPRIGHT, _) => "",
            (_, Orientation::UPRIGHT) => "; turned by the camera",
            _ if left == wanted => "; turned by camd",
            _ => "; turned by the camera and camd together",
        };
        format!("{}{turned}", negotiated.description)
    }

    fn stop(&mut self) {
        self.source.stop();
        self.chain_card = None;
        self.negotiated = None;
        self.live = false;
    }

    fn on_captured(&mut self, captured: Captured, now: Instant) -> bool {
        self.counters.dropped += u64::from(captured.dropped);
        self.counters.bad += u64::from(captured.bad);
        if !captured.fresh {
            return false;
        }
        if self.settling.passes_over(captured, now) {
            self.source.release();
            return false;
        }
        self.counters.frames += 1;
        self.gives_h264 = self.source.chain().is_some();
        if self.gives_h264 {
            self.on_unit(now);
        } else {
            self.sequence += 1;
        }
        self.live = true;
        self.last_captured = Some(now);
        if let Some(frame) = self.source.newest() {
            let format = match frame.picture {
                Picture::Jpeg(_) => PixelFormat::Mjpeg,
                Picture::Raw(raw) => raw.format,
            };
            let orientation = self.orientation();
            let look = (format, frame.meta.stored(), frame.meta.exif, orientation);
            // Nearly all pictures are as the one before.
            if self.looked_at.replace(look) != Some(look) {
                let meta = FrameMeta {
                    orientation,
                    ..frame.meta
                };
                self.look_at(format, &meta);
            }
        }
        self.rate.tick(now);
        if let Some(trouble) = self.trouble.take() {
            let outage = now.saturating_duration_since(trouble.since).as_secs();
            if trouble.told {
                info!(target: "camd::source::notice", "camera: pictures again after {outage} s");
            } else {
                debug!("camera: pictures again after {outage} s");
            }
        }
        true
    }

    fn on_fault(&mut self, fault: Fault, now: Instant) {
        self.stop();
        let (since, backoff) = match &self.trouble {
            Some(trouble) => (trouble.since, (trouble.backoff * 2).min(REOPEN_MAX)),
            None => (now, REOPEN_FIRST),
        };
        // Said once, and again only when it changes: a camera that is away for a week must not fill the disk.
        let mut told = self.trouble.as_ref().is_some_and(|trouble| trouble.told);
        if self.reason() == fault.0 {
            debug!("camera: still {fault}");
        } else {
            told |= say::fault(format_args!(
                "camera: {fault}; trying again every {} to {} s",
                REOPEN_FIRST.as_secs(),
                REOPEN_MAX.as_secs()
            ));
            self.draw_card(&fault.0);
        }
        self.retry = Some(now + backoff);
        // The card goes out at once, so that viewers see that the picture stands still, and why.
        self.trouble = Some(Trouble {
            reason: fault.0,
            since,
            backoff,
            next_card: now,
            told,
        });
    }

    /// Something is wrong with the pictures that the source itself cannot know of: it is closed, and opened again after a
    /// while, as after any fault.
    pub fn fail(&mut self, reason: String, now: Instant) {
        if self.negotiated.is_some() {
            self.on_fault(Fault(reason), now);
        }
    }

    /// Drawing takes memory and time as no frame does, but a fault is no frame.
    fn draw_card(&mut self, reason: &str) {
        let Size { width, height } = self.card_size();
        let mut codec = Codec::new();
        let card = no_picture::render(
            width,
            height,
            &self.settings.name,
            reason,
            NO_PICTURE_QUALITY,
            &mut codec,
            &mut self.card,
        );
        if let Err(error) = card {
            warn!("no card to show in place of the picture: {error}");
            self.card.clear();
        }
    }

    /// As large as the configured picture, turned and cropped.
    fn card_size(&self) -> Size {
        self.settings.shown()
    }

    /// Lends the newest picture: the camera's, or the card while there is trouble. `None` before the first.
    pub fn newest(&self) -> Option<Frame<'_>> {
        if self.trouble.is_some() || self.chain_card.is_some() {
            let Size { width, height } = self.card_size();
            let meta = FrameMeta {
                sequence: self.sequence,
                live: false,
                ..FrameMeta::taken(self.card_captured, width, height)
            };
            return (!self.card.is_empty()).then_some(Frame {
                meta,
                picture: Picture::Jpeg(self.card.as_slice()),
            });
        }
        if self.settling != Settling::Done {
            return None;
        }
        let orientation = self.orientation();
        let mut frame = self.source.newest()?;
        frame.meta.sequence = self.sequence;
        frame.meta.orientation = orientation;
        Some(self.cropped(frame))
    }

    /// See [`Source::holds`].
    pub fn holds(&self) -> bool {
        self.source.holds()
    }

    /// Every client that waits has been offered the newest picture.
    pub fn release(&mut self) {
        if self.negotiated.is_some() {
            self.source.release();
        }
    }

    /// Those of the source, with their values now; none while it is off.
    pub fn controls(&self) -> Vec<Control> {
        self.source.controls()
    }

    /// Sets a control by its name. An error is for the client that asked.
    pub fn set_control(&mut self, name: &str, value: i64) -> Result<(), ControlError> {
        self.source.set_control(name, value)
    }

    /// Changes what does not touch the source as it runs.
    pub fn reconfigure(&mut self, config: &Config) {
        self.settings = config.camera.clone();
        self.looked_at = None;
        self.source.set_demand(config);
    }

    /// Puts another source in the place of this one; the clients stay.
    pub fn replace(&mut self, source: S, now: Instant) {
        self.stop();
        self.source = source;
        self.trouble = None;
        self.gives_h264 = false;
        self.begin(now);
    }

    /// Frees the device, for good.
    pub fn shutdown(&mut self) {
        self.stop();
        self.retry = None;
    }
}

/// Whether the first pictures are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settling {
    Done,
    Since {
        /// Pictures, or the time, that are left.
        settle: Settle,
        /// When the first one came.
        first: Option<Instant>,
    },
}

impl Settling {
    /// Whether a picture is one of those that are not shown.
    fn passes_over(&mut self, captured: Captured, now: Instant) -> bool {
        let Settling::Since { settle, first } = self else {
            return false;
        };
        let first = *first.get_or_insert(now);
        let over = match settle {
            Settle::Pictures(left) => {
                let over = *left == 0;
                // Those that came at once with this one, too.
                *left = left.saturating_sub(captured.dropped.saturating_add(1));
                over
            }
            Settle::Time(time) => now.saturating_duration_since(first) >= *time,
        };
        if over {
            *self = Settling::Done;
        }
        !over
    }
}

#[cfg(test)]
#[path = "camera_tests.rs"]
mod tests;
