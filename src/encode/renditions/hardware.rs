//! Which renditions a memory-to-memory device makes, and when it is given up for the processor.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use log::{debug, info, warn};

use super::rendition::Rendition;
use crate::config::{CameraConfig, EncoderKind};
use crate::encode::m2m::{self, Encoder, Found, JPEG, Nodes, Trouble};
use crate::limits::ENCODER_CONTEXTS;
use crate::picture::frame::{
    Bounds, Chroma, Frame, Orientation, Picture, PixelFormat, RawPicture, Size,
};

/// What is known for this opening of the camera.
enum State {
    /// It has shown no picture yet.
    Unknown,
    /// It makes JPEGs itself.
    NotNeeded,
    Processor,
    Device {
        found: Found,
        format: PixelFormat,
        size: Size,
        /// Whether it can be told how fine colours are to be, and these pictures have fine ones.
        chroma: bool,
    },
}

/// A context of the device, for one quality and sampling.
struct Lane {
    encoder: Encoder,
    /// The latter is `None` where the device has its own.
    quality: (u8, Option<Chroma>),
    /// Where its JPEGs go.
    rendition: usize,
    /// When it got its last picture.
    submitted: Instant,
    /// Its descriptor is in the poll.
    armed: bool,
    /// There was an event on it, and whether that was an error.
    event: Option<bool>,
}

/// The hardware encoder, as far as there is one.
///
/// Invariant: there are lanes only while the state is `Device`; their qualities differ.
pub struct Hardware {
    wanted: EncoderKind,
    /// Time stamps are drawn by the processor.
    stamped: bool,
    nodes: Box<dyn Nodes>,
    /// Which opening of the camera `state` is about; `None` while it is off.
    opening: Option<u64>,
    state: State,
    lanes: heapless::Vec<Lane, ENCODER_CONTEXTS>,
    /// What was last said in the log about who encodes.
    announced: String,
}

impl Hardware {
    pub fn new(camera: &CameraConfig, nodes: Box<dyn Nodes>) -> Self {
        Hardware {
            wanted: camera.encoder,
            stamped: camera.timestamp,
            nodes,
            opening: None,
            state: State::Unknown,
            lanes: heapless::Vec::new(),
            announced: String::new(),
        }
    }

    /// Takes another configuration over. All contexts are closed; a device that was given up stays so, unless time
    /// stamps come or go.
    pub fn reconfigure(&mut self, camera: &CameraConfig) {
        self.lanes.clear();
        if self.stamped != camera.timestamp {
            self.state = State::Unknown;
        }
        (self.wanted, self.stamped) = (camera.encoder, camera.timestamp);
    }

    /// See [`super::Renditions::follow`]. True if this is another opening.
    pub fn follow(&mut self, opening: Option<u64>) -> bool {
        let is_other = opening != self.opening;
        if is_other {
            self.opening = opening;
            self.lanes.clear();
            self.state = State::Unknown;
        }
        is_other
    }

    pub fn is_undecided(&self) -> bool {
        self.opening.is_some() && matches!(self.state, State::Unknown)
    }

    /// Looks for a device, now that the camera has shown what it delivers.
    pub fn decide(&mut self, frame: &Frame<'_>) {
        if !frame.meta.live {
            return;
        }
        let Picture::Raw(raw) = &frame.picture else {
            self.state = State::NotNeeded;
            return;
        };
        let why = if self.wanted == EncoderKind::Cpu {
            "camera.encoder is \"cpu\"".to_owned()
        } else if self.stamped {
            "it draws camera.timestamp".to_owned()
        } else if frame.meta.orientation != Orientation::UPRIGHT {
            "it turns them (camera.rotate, camera.flip)".to_owned()
        } else {
            match m2m::find(&*self.nodes, raw.format, &JPEG) {
                Ok(found) => return self.use_device(found, raw),
                Err(why) => why,
            }
        };
        self.state = State::Processor;
        let wanted = self.wanted;
        let said = self.announce(format!("JPEGs are made by the processor: {why}"));
        match (said, wanted) {
            (Some(text), EncoderKind::M2m) => warn!("camera.encoder is \"m2m\", but {text}"),
            (Some(text), _) => info!("{text}"),
            (None, _) => {}
        }
    }

    fn use_device(&mut self, found: Found, raw: &RawPicture<'_>) {
        let said = self.announce(format!(
            "JPEGs of {} {}x{} are made by {} ({}), those of another size by the processor",
            raw.format.name(),
            raw.width,
            raw.height,
            found.card,
            found.path.display()
        ));
        if let Some(text) = said {
            info!("{text}");
        }
        let fine = !matches!(
            raw.format,
            PixelFormat::Nv12
                | PixelFormat::Nv21
                | PixelFormat::Yu12
                | PixelFormat::Yv12
                | PixelFormat::Grey
        );
        self.state = State::Device {
            chroma: found.chroma && fine,
            found,
            format: raw.format,
            size: Size {
                width: raw.width,
                height: raw.height,
            },
        };
    }

    /// The text, if it has not just been said: a camera that is reopened again and again must not fill the disk.
    fn announce(&mut self, text: String) -> Option<&str> {
        if text == self.announced {
            return None;
        }
        self.announced = text;
        Some(&self.announced)
    }

    /// What encodes raw pictures; `None` where that is not known or nothing does.
    pub fn name(&self) -> Option<&str> {
        match &self.state {
            State::Unknown | State::NotNeeded => None,
            State::Processor => Some("cpu"),
            State::Device { found, .. } => Some(&found.card),
        }
    }

    /// Whether the device makes the pictures within these bounds: it makes none smaller.
    pub fn serves(&self, bounds: Bounds) -> bool {
        match self.state {
            State::Device { size, .. } => bounds.fit(size) == size,
            _ => false,
        }
    }

    /// What the device has to be told so that colours are as fine as that; `None`: it has its own way.
    pub fn chroma(&self, wanted: Chroma) -> Option<Chroma> {
        match self.state {
            State::Device { chroma: true, .. } => Some(wanted),
            _ => None,
        }
    }

    /// Gives the device a picture that somebody waits for, unless it has one already. False if that is up to the
    /// processor. `rendition`: where the JPEGs of this quality and sampling ([`Hardware::chroma`]) go.
    pub fn encode(
        &mut self,
        frame: &Frame<'_>,
        rendition: usize,
        quality: (u8, Option<Chroma>),
        most: usize,
        now: Instant,
    ) -> bool {
        let State::Device {
            found,
            format,
            size,
            ..
        } = &self.state
        else {
            return false;
        };
        let raw = match &frame.picture {
            Picture::Raw(raw)
                if (raw.format, raw.width, raw.height) == (*format, size.width, size.height)
                    && frame.meta.orientation == Orientation::UPRIGHT =>
            {
                raw
            }
            _ => return false,
        };
        let lane = self.lanes.iter().position(|lane| lane.quality == quality);
        let result = match lane {
            Some(index) => {
                let lane = &mut self.lanes[index];
                if !lane.armed || lane.encoder.is_busy() {
                    return true;
                }
                lane.submitted = now;
                lane.encoder.submit(raw, &frame.meta, now)
            }
            None if self.lanes.is_full() => return false,
            None => {
                let (percent, chroma) = quality;
                let wanted = m2m::Settings {
                    quality: Some(percent),
                    chroma,
                };
                let opened = Encoder::open(&*self.nodes, found, JPEG, raw, &wanted, most);
                opened.map(|encoder| {
                    let lane = Lane {
                        encoder,
                        quality,
                        rendition,
                        submitted: now,
                        armed: false,
                        event: None,
                    };
                    assert!(self.lanes.push(lane).is_ok(), "it is not full");
                })
            }
        };
        match result {
            Ok(()) => true,
            Err(trouble) => {
                self.give_up(&trouble);
                false
            }
        }
    }

    /// Hands out the descriptors of new contexts to be polled. True if there was one: now it takes pictures.
    ///
    /// A device that gives a picture back before it is polled would never wake us: kernels before 5.12 join epoll's wait
    /// queue only if nothing is there at the time.
    pub fn arm(&mut self, mut register: impl FnMut(usize, RawFd) -> io::Result<()>) -> bool {
        let mut any = false;
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            if lane.armed {
                continue;
            }
            any = true;
            lane.armed = true;
            if let Err(error) = register(index, lane.encoder.fd()) {
                self.give_up(&Trouble(format!("poll: {error}")));
                break;
            }
        }
        any
    }

    pub fn mark(&mut self, index: usize, broken: bool) {
        // An event of a context that has been closed meanwhile is nothing, or has another look at its successor.
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.event = Some(broken || lane.event == Some(true));
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        let lanes = self.lanes.iter();
        lanes.filter_map(|lane| lane.encoder.deadline()).min()
    }

    /// Takes in what the device has made. True if there is a new JPEG, or if the processor has to make it.
    pub fn collect(&mut self, made: &mut [Rendition], now: Instant) -> bool {
        let mut any = false;
        for lane in &mut self.lanes {
            let event = lane.event.take();
            let late = lane.encoder.deadline().is_some_and(|at| at <= now);
            if event.is_none() && !late {
                continue;
            }
            let rendition = &mut made[lane.rendition];
            // What is in the buffer now may be overwritten in part.
            let before = rendition.meta.take();
            let broken = event == Some(true);
            let result = match lane.encoder.advance(now, &mut rendition.jpeg) {
                Ok(None) if broken => Err(Trouble("an error or a hang-up by poll".into())),
                result => result,
            };
            match result {
                Ok(Some(meta)) => {
                    rendition.meta = Some(meta);
                    rendition.fresh = true;
                    // Pictures that are to be turned are not for the device.
                    rendition.size = Some(Size {
                        width: meta.width,
                        height: meta.height,
                    });
                    let spent = now.saturating_duration_since(lane.submitted);
                    rendition
                        .times
                        .add(&[Duration::ZERO, Duration::ZERO, spent]);
                    any = true;
                }
                Ok(None) => rendition.meta = before,
                Err(trouble) => {
                    rendition.jpeg.clear();
                    self.give_up(&trouble);
                    return true;
                }
            }
        }
        any
    }

    /// Until the camera is opened anew.
    fn give_up(&mut self, trouble: &Trouble) {
        self.lanes.clear();
        self.state = State::Processor;
        let said = self.announce(format!(
            "{trouble}; until the camera is opened anew JPEGs are made by the processor"
        ));
        match said {
            Some(text) => warn!("encoder given up: {text}"),
            None => debug!("encoder given up again: {trouble}"),
        }
    }
}
