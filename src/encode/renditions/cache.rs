//! The renditions of a frame, each made once, and only when somebody wants it.

use std::fmt::Display;
use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

use log::{info, warn};

use super::asked::Asked;
use super::budget::Budget;
use super::hardware::Hardware;
use super::profile::Profile;
use super::rendition::Rendition;
use super::wanted::{Pixels, Request, Wanted};
use crate::config::Config;
use crate::encode::cell::launch::Launch;
use crate::encode::cell::wire::{Coding, Failure, Task};
use crate::encode::cell::{Cells, Finished, Losses, Work};
use crate::encode::codec::{Codec, CodecError, PixelRecipe, Recipe, Rows};
use crate::encode::m2m::Nodes;
use crate::limits::{CELLS_MAX, MAX_LISTENERS, MAX_SINKS, RUNGS};
use crate::measure::times::{Spent, Times};
use crate::picture::frame::{
    Area, Bounds, Frame, FrameBuf, FrameMeta, Orientation, Picture, PixelFormat, Size,
};
use crate::picture::jpeg;
use crate::picture::stamp::Stamp;
use crate::protocol::session::Wish;

/// The camera's own JPEG, turned and cropped without loss: the same for all profiles.
struct Turned {
    /// Of which frame; 0 is none.
    sequence: u64,
    /// It has just come from a cell, as a rendition does.
    fresh: bool,
    /// When the last one was begun in a cell, among all jobs.
    begun: u64,
    /// Of the last frame that was cropped so: it, and what was left.
    shape: Option<(FrameMeta, Area)>,
    /// Empty if that frame could not be turned so.
    jpeg: FrameBuf,
    /// That frame's own, with what it is a part of, as it is stored, for its crop; `None`: there was none yet.
    meta: Option<FrameMeta>,
    /// Whether the log says that a frame was not.
    told: bool,
    /// The size and place as viewers see them that the log has of pictures that are cropped.
    told_cut: Option<Area>,
}

/// Encodes frames for [`Profile`]s, into buffers taken at start.
pub struct Renditions {
    codec: Codec,
    /// With `camera.timestamp`.
    stamp: Option<Stamp>,
    turned: Turned,
    /// One for each different profile, so at most one for each rung of each listener and for each sink. Pages that were
    /// never written cost no memory.
    made: heapless::Vec<Rendition, { MAX_LISTENERS * RUNGS + MAX_SINKS }>,
    asked: Asked,
    /// At which quality the JPEG was encoded that [`Renditions::get`] gave last.
    quality: Option<u8>,
    /// Frames that could not be encoded (damaged JPEGs, or larger than `frame_bytes` at that quality).
    pub failed: u64,
    budget: Budget,
    hardware: Hardware,
    /// Where all is made that the device does not make; `None`: here, by `codec`.
    cells: Option<Cells>,
    /// What is wanted of them.
    wanted: Wanted,
}

impl Renditions {
    /// Room for the profiles of the configuration's listeners.
    ///
    /// # Panics
    /// If there are more than [`MAX_LISTENERS`] or [`MAX_SINKS`]: the configuration is checked for that.
    pub fn new(config: &Config, nodes: Box<dyn Nodes>, clock: fn() -> Instant) -> Self {
        let mut codec = Codec::new();
        codec.set_clock(clock);
        Renditions {
            codec,
            stamp: stamp(config),
            turned: Turned {
                sequence: 0,
                fresh: false,
                begun: 0,
                shape: None,
                jpeg: FrameBuf::new(config.limits.frame_bytes),
                meta: None,
                told: false,
                told_cut: None,
            },
            made: room_for(profiles(config), config.limits.frame_bytes),
            asked: Asked::new(config.limits.frame_bytes),
            quality: None,
            failed: 0,
            budget: Budget::new(&config.camera, clock),
            hardware: Hardware::new(&config.camera, nodes),
            cells: None,
            wanted: Wanted::default(),
        }
    }

    /// Lets so many cells make pictures from now on, which are started here.
    ///
    /// # Errors
    /// They cannot be started.
    pub fn start_cells(
        &mut self,
        config: &Config,
        launch: Box<dyn Launch>,
        count: usize,
        now: Instant,
    ) -> io::Result<()> {
        let count = count.min(CELLS_MAX);
        let frame_bytes = config.limits.frame_bytes;
        let pixels = usize::from(config.camera.width) * usize::from(config.camera.height);
        // What no raw format exceeds: with room for lines that are longer than they would have to be.
        let place = frame_bytes.max(3 * pixels + pixels / 4);
        self.cells = Some(Cells::new(launch, count, place, frame_bytes, now)?);
        Ok(())
    }

    /// The cells: how many there are, how many of them are ready, and how often some were lost. `None` where there are none.
    pub fn cells(&self) -> Option<(usize, usize, Losses)> {
        let cells = self.cells.as_ref()?;
        Some((cells.count(), cells.ready(), cells.losses()))
    }

    /// Why the pictures' source is to be opened anew: too many cells were lost over its pictures. Told once.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.cells.as_mut()?.take_trouble()
    }

    /// See [`crate::client::hub::Hub::arm_cells`].
    pub fn arm_cells(&mut self, register: impl FnMut(usize, RawFd) -> io::Result<()>) -> bool {
        self.cells.as_mut().is_some_and(|cells| cells.arm(register))
    }

    /// An event on the descriptor of a cell with this number.
    pub fn mark_cell(&mut self, number: usize) {
        if let Some(cells) = &mut self.cells {
            cells.mark(number);
        }
    }

    /// Takes another configuration over; see [`Renditions::new`]. What has been measured begins anew.
    pub fn reconfigure(&mut self, config: &Config) {
        self.hardware.reconfigure(&config.camera);
        self.budget.reconfigure(&config.camera);
        self.stamp = stamp(config);
        self.made = room_for(profiles(config), config.limits.frame_bytes);
        // It may be to be cropped in another way.
        self.turned.sequence = 0;
        (self.turned.meta, self.turned.fresh, self.turned.shape) = (None, false, None);
        self.asked.reset();
        if let Some(cells) = &mut self.cells {
            cells.forget();
        }
        self.wanted.clear();
    }

    /// Whether pictures get a time stamp where they are encoded.
    pub fn stamps(&self) -> bool {
        self.stamp.is_some()
    }

    /// One for each different profile, in the order of the listeners.
    pub fn all(&self) -> &[Rendition] {
        &self.made
    }

    /// Those that clients have asked for, as far as these are not among [`Renditions::all`].
    pub fn asked(&self) -> impl Iterator<Item = &Rendition> + Clone {
        self.asked.all()
    }

    /// Pictures made of what clients have asked for, and what these took, since the start.
    pub fn asked_total(&self) -> (u64, Spent) {
        self.asked.total()
    }

    /// The profile that a client gets of a picture: what it wishes, of its listener's own profile on a rung of the ladder,
    /// if there is a rendition of that or one can be had; else the nearest one that there is. `is_stream`: it goes on.
    // Kept whole, as most clients wish nothing.
    #[inline(never)]
    pub fn settle(
        &mut self,
        own: &Profile,
        rung: u8,
        wish: &Wish,
        meta: &FrameMeta,
        is_stream: bool,
        now: Instant,
    ) -> Profile {
        let mut wanted = own.wished(wish, meta);
        if rung > 0 {
            let rungs = (rung..=own.ladder().lowest()).map(|rung| own.rung(rung));
            let smaller = rungs.into_iter().find(|rung| rung.is_within(&wanted, meta));
            wanted = smaller.unwrap_or(wanted);
        }
        let is_there = self.made.iter().any(|made| made.is_for(wanted));
        if wanted == *own || is_there || self.asked.admit(wanted, is_stream, now) {
            return wanted;
        }
        let others = self.made.iter().map(|made| made.profile());
        self.asked.nearest(&wanted, own, meta, others)
    }

    /// To be called first in each turn. `opening`: which opening of the camera this is, `None` while it is off. The
    /// device's contexts are closed with the camera.
    pub fn follow(&mut self, opening: Option<u64>) {
        let asked = self.asked.all_mut();
        self.made
            .iter_mut()
            .chain(asked)
            .for_each(|r| r.fresh = false);
        self.turned.fresh = false;
        if self.hardware.follow(opening)
            && let Some(cells) = &mut self.cells
        {
            // They are another opening's pictures.
            cells.forget();
        }
    }

    /// The first picture of this opening is to be shown to [`Renditions::decide`].
    pub fn is_undecided(&self) -> bool {
        self.hardware.is_undecided()
    }

    /// Decides what encodes pictures like this one. Looks through the video nodes of the machine if need be.
    pub fn decide(&mut self, frame: &Frame<'_>) {
        self.hardware.decide(frame);
    }

    /// Takes in what the device and the cells have made. True if those who wait shall ask again.
    pub fn collect(&mut self, now: Instant) -> bool {
        let by_device = self.hardware.collect(&mut self.made, now);
        let Some(cells) = &mut self.cells else {
            return by_device;
        };
        let mut shelf = Shelf {
            made: &mut self.made,
            asked: &mut self.asked,
            turned: &mut self.turned,
            wanted: &mut self.wanted,
            failed: &mut self.failed,
        };
        let budget = &mut self.budget;
        let put = |work: &Work, finished: Finished<'_>| {
            if !work.is_raw {
                budget.charge(work.meta.sequence, work.took);
            }
            shelf.put(work, finished);
        };
        cells.collect(now, put) | by_device
    }

    /// To be called last in each turn: gives cells what was asked for in it and is not there, first what was begun the
    /// longest time ago.
    pub fn dispatch(&mut self, newest: Option<&Frame<'_>>, now: Instant) {
        let Some(cells) = &mut self.cells else {
            return;
        };
        cells.release();
        self.wanted.forget_pixels();
        if let Some(frame) = newest {
            while cells.has_idle() {
                let (made, asked, turned) = (&self.made, &self.asked, &self.turned);
                let begun = |request: &Request| match request {
                    Request::Jpeg(coding) => {
                        let all = made.iter().chain(asked.all());
                        all.filter(|r| r.coding() == *coding)
                            .map(|r| r.begun)
                            .next()
                    }
                    Request::Turned(_) => Some(turned.begun),
                    Request::Pixels(..) => None,
                };
                let Some(request) = self.wanted.next(frame.meta.sequence, begun) else {
                    break;
                };
                let stamp = set(&mut self.stamp, &frame.meta);
                let task = request.task();
                if !cells.submit(frame, task, stamp, now) {
                    break;
                }
                let count = self.wanted.begin();
                match request {
                    Request::Jpeg(coding) => {
                        let all = self.made.iter_mut().chain(self.asked.all_mut());
                        all.filter(|r| r.coding() == coding)
                            .for_each(|r| r.begun = count);
                    }
                    Request::Turned(_) => self.turned.begun = count,
                    Request::Pixels(format, bounds) => self.wanted.begun(format, bounds, count),
                }
            }
        }
        self.wanted.clear_requests();
    }

    /// When [`Renditions::collect`] has something to do without any event.
    pub fn deadline(&self) -> Option<Instant> {
        let cells = self.cells.as_ref().and_then(Cells::deadline);
        [self.hardware.deadline(), cells]
            .into_iter()
            .flatten()
            .min()
    }

    /// See [`crate::client::hub::Hub::arm_encoders`].
    pub fn arm(&mut self, register: impl FnMut(usize, RawFd) -> io::Result<()>) -> bool {
        self.hardware.arm(register)
    }

    /// An event on the descriptor with this number. `broken`: an error or a hang-up.
    pub fn mark(&mut self, index: usize, broken: bool) {
        self.hardware.mark(index, broken);
    }

    /// What encodes the camera's raw pictures: "cpu" or the name of the device. `None` where nothing does, or where
    /// that is not known yet.
    pub fn encoder(&self) -> Option<&str> {
        self.hardware.name()
    }

    /// What there is that is news to a client: the newest frame, or one that has just come from the device.
    pub fn news<'a>(
        &'a self,
        newest: Option<&'a Frame<'_>>,
        is_news: impl Fn(&FrameMeta) -> bool,
    ) -> Option<&'a FrameMeta> {
        let newest = newest.map(|frame| &frame.meta);
        if let Some(meta) = newest
            && is_news(meta)
        {
            return Some(meta);
        }
        let made = self.made.iter().chain(self.asked.all());
        let fresh = made.filter(|r| r.fresh).filter_map(|r| r.meta.as_ref());
        let turned = self.turned.meta.as_ref().filter(|_| self.turned.fresh);
        let mut all = fresh.chain(turned).chain(self.wanted.pixels());
        all.find(|meta| is_news(meta))
    }

    /// The JPEG for a profile that is news to a client: of the newest frame, or the one that has just come from the
    /// device. `None` if there is no such frame, if it cannot be made, or if the device is making it. A JPEG that is cropped
    /// without loss has more than the frame's own [`FrameMeta::crop`]: what comes back with it says what it has.
    pub fn get<'a>(
        &'a mut self,
        newest: Option<&'a Frame<'a>>,
        profile: Profile,
        now: Instant,
        is_news: impl Fn(&FrameMeta) -> bool,
    ) -> Option<(&'a FrameMeta, &'a [u8])> {
        let sequence = newest.map(|frame| frame.meta.sequence);
        let newest = newest.filter(|frame| is_news(&frame.meta));
        // Bounds that leave this picture as it is are all the same to the device. It makes what the configuration has: its
        // contexts stay, and what clients ask for does not.
        let place = self.hardware.serves(profile.bounds).then(|| {
            let hardware = &self.hardware;
            let chroma = hardware.chroma(profile.chroma());
            let fits = |r: &Rendition| {
                r.quality == profile.raw_quality
                    && hardware.chroma(r.chroma) == chroma
                    && hardware.serves(r.bounds)
            };
            Some((self.made.iter().position(fits)?, chroma))
        });
        if let Some((index, chroma)) = place.flatten() {
            self.quality = Some(profile.raw_quality);
            let rendition = &self.made[index];
            let is_ready = rendition.meta.as_ref().is_some_and(|meta| {
                (rendition.fresh || Some(meta.sequence) == sequence) && is_news(meta)
            });
            if is_ready {
                return self.made[index].picture();
            }
            let (quality, most) = (rendition.quality, rendition.jpeg.capacity());
            if self
                .hardware
                .encode(newest?, index, (quality, chroma), most, now)
            {
                return None;
            }
        }
        if self.cells.is_some() {
            return self.fetch(newest, profile, is_news);
        }
        let frame = newest?;
        self.make(frame, profile)
    }

    /// What a cell has made for a profile, or the camera's own; `None` if it cannot be made, or a cell is to make it.
    fn fetch<'a>(
        &'a mut self,
        newest: Option<&'a Frame<'a>>,
        profile: Profile,
        is_news: impl Fn(&FrameMeta) -> bool,
    ) -> Option<(&'a FrameMeta, &'a [u8])> {
        let sequence = newest.map(|frame| frame.meta.sequence);
        let is_untouched = |frame: &&Frame<'_>| profile.leaves_untouched(frame);
        let untouched = newest.filter(is_untouched);
        self.quality = None;
        if let Some(Frame {
            meta,
            picture: Picture::Jpeg(jpeg),
        }) = untouched
            && meta.orientation == Orientation::UPRIGHT
            && meta.crop.is_none()
        {
            return Some((meta, jpeg));
        }
        let turned = &self.turned;
        let has_turned = |meta: &FrameMeta| {
            let is_for = profile.quality.is_none() || !meta.live;
            let is_it = turned.fresh || Some(meta.sequence) == sequence;
            is_it && is_for && is_news(meta) && !turned.jpeg.is_empty() && profile.leaves_size(meta)
        };
        if turned.meta.as_ref().is_some_and(has_turned) {
            let turned = &self.turned;
            return Some((turned.meta.as_ref()?, turned.jpeg.as_slice()));
        }
        if let Some(frame) = untouched
            && turned.sequence != frame.meta.sequence
            && !turned.misfits(&frame.meta, &profile)
        {
            match self.budget.admit(&frame.picture, &frame.meta) {
                Ok(()) => {
                    let coding = coding(&profile);
                    self.want(Request::Turned(coding), frame.meta.sequence);
                    // Until it is there, what could not be turned may be.
                }
                // It is counted and told where it is to be encoded again, which comes next.
                Err(_) => {
                    let turned = &mut self.turned;
                    turned.sequence = frame.meta.sequence;
                    (turned.meta, turned.fresh) = (None, false);
                    turned.jpeg.clear();
                }
            }
        }
        self.quality = Some(profile.raw_quality);
        let place = self.made.iter().position(|r| r.is_for(profile));
        let rendition = match place {
            Some(index) => &self.made[index],
            None => self.asked.find(profile).expect(FOR_EACH),
        };
        let is_it = |meta: &FrameMeta| {
            (rendition.fresh || Some(meta.sequence) == sequence) && is_news(meta)
        };
        if rendition.meta.as_ref().is_some_and(is_it) {
            let rendition = match place {
                Some(index) => &self.made[index],
                None => self.asked.find(profile).expect(FOR_EACH),
            };
            return rendition.picture();
        }
        let frame = newest?;
        let is_turned = untouched.is_some()
            && self.turned.sequence != frame.meta.sequence
            && !self.turned.misfits(&frame.meta, &profile);
        if is_turned {
            return None;
        }
        if let Err(error) = self.budget.admit(&frame.picture, &frame.meta) {
            let rendition = match place {
                Some(index) => &mut self.made[index],
                None => self.asked.find(profile).expect(FOR_EACH),
            };
            rendition.meta = Some(frame.meta);
            rendition.jpeg.clear();
            tell_not_made(
                &mut self.budget,
                &mut self.failed,
                profile.raw_quality,
                &error,
            );
            return None;
        }
        self.want(Request::Jpeg(coding(&profile)), frame.meta.sequence);
        None
    }

    /// Asks the cells for something of a frame, unless one is at it.
    fn want(&mut self, request: Request, sequence: u64) {
        let Some(cells) = &self.cells else {
            return;
        };
        let mut working = cells
            .working()
            .filter(|work| work.meta.sequence == sequence);
        if !working.any(|work| request.is_met_by(&work.task)) {
            self.wanted.add(request, sequence);
        }
    }

    /// Whether something may still come of a frame of which [`Renditions::get`] has given nothing: cells are at it, or are asked.
    pub fn is_coming(&self, meta: &FrameMeta) -> bool {
        self.cells.is_some() && meta.live
    }

    /// Whether pixels of what is news can be given now ([`Renditions::pixels`]): of which picture. `None`: they are being
    /// made.
    pub fn prepare_pixels(
        &mut self,
        newest: Option<&Frame<'_>>,
        format: PixelFormat,
        bounds: Bounds,
        is_news: impl Fn(&FrameMeta) -> bool,
    ) -> Option<FrameMeta> {
        let newest = newest.filter(|frame| is_news(&frame.meta));
        if self.cells.is_none() {
            return newest.map(|frame| frame.meta);
        }
        let there = self.wanted.find(format, bounds).map(|pixels| pixels.meta);
        if let Some(meta) = there.filter(&is_news) {
            return Some(meta);
        }
        let Frame { meta, picture } = newest?;
        if let Err(error) = self.budget.admit(picture, meta) {
            if is_refusal(&error) {
                self.budget.refused += 1;
            }
            let (meta, made) = (*meta, Err(error));
            self.wanted.put(format, bounds, Pixels { meta, made });
            return Some(meta);
        }
        self.want(Request::Pixels(format, bounds), meta.sequence);
        None
    }

    /// JPEGs that were not decoded: of too many pixels, or when those of others had taken too much time.
    pub fn refused(&self) -> u64 {
        self.budget.refused
    }

    /// At which quality that JPEG was encoded, 1 to 100; `None`: it is the camera's own, or that turned without loss.
    pub fn quality(&self) -> Option<u8> {
        self.quality
    }

    /// The frame's JPEG for a profile, by the processor; `None` if it cannot be made.
    fn make<'a>(
        &'a mut self,
        frame: &'a Frame<'a>,
        profile: Profile,
    ) -> Option<(&'a FrameMeta, &'a [u8])> {
        self.quality = None;
        if let Picture::Jpeg(jpeg) = frame.picture
            && profile.leaves_untouched(frame)
        {
            if frame.meta.orientation == Orientation::UPRIGHT && frame.meta.crop.is_none() {
                return Some((&frame.meta, jpeg));
            }
            // Whole blocks may be larger than what the profile has room for.
            let is_turned = self.turn(frame, jpeg, profile.raw_quality);
            let meta = self.turned.meta.as_ref().filter(|_| is_turned);
            if meta.is_some_and(|meta| profile.leaves_size(meta)) {
                let turned = &self.turned;
                return Some((turned.meta.as_ref()?, turned.jpeg.as_slice()));
            }
        }
        self.quality = Some(profile.raw_quality);
        let mut made = self.made.iter_mut();
        let rendition = made.find(|r| r.is_for(profile));
        let rendition = rendition.or_else(|| self.asked.find(profile));
        let rendition = rendition.expect(FOR_EACH);
        let &mut Rendition {
            quality,
            chroma,
            bounds,
            ..
        } = rendition;
        if rendition.meta.map(|meta| meta.sequence) != Some(frame.meta.sequence) {
            rendition.meta = Some(frame.meta);
            let recipe = Recipe {
                quality,
                chroma,
                crop: frame.meta.crop,
                bounds,
                orientation: frame.meta.turning(),
                stamp: set(&mut self.stamp, &frame.meta),
            };
            let admitted = self.budget.admit(&frame.picture, &frame.meta);
            let result = admitted.and_then(|()| {
                let made = self
                    .codec
                    .make(&frame.picture, &recipe, &mut rendition.jpeg);
                self.budget.spend(&self.codec.spent());
                made
            });
            match result {
                Ok(()) => {
                    if let (Picture::Jpeg(jpeg), true) = (&frame.picture, frame.meta.live) {
                        jpeg::keep_words(jpeg, frame.meta.turning(), &mut rendition.jpeg);
                    }
                    rendition.size = Some(bounds.fit(frame.meta.shown()));
                    rendition.times.add(&self.codec.spent());
                }
                Err(error) => {
                    rendition.jpeg.clear();
                    tell_not_made(&mut self.budget, &mut self.failed, quality, &error);
                }
            }
        }
        rendition.picture()
    }

    /// Gives the frame that [`Renditions::prepare_pixels`] has named to `rows` as pixels, turned, fitted into `bounds` and
    /// with the stamp, if there is one: what a sink has for programs on this machine. See [`Codec::pixels`]. `format`: RGB,
    /// BGR or grey.
    pub fn pixels(
        &mut self,
        newest: Option<&Frame<'_>>,
        format: PixelFormat,
        bounds: Bounds,
        rows: &mut dyn Rows,
    ) -> Result<Size, CodecError> {
        if let Some(cells) = &mut self.cells {
            let made = self.wanted.find(format, bounds).map(|pixels| &pixels.made);
            return match made {
                Some(Ok((cell, size))) => {
                    cells.rows(*cell, *size, format, rows);
                    Ok(*size)
                }
                Some(Err(error)) => Err(error.clone()),
                None => Err(CodecError::Truncated),
            };
        }
        let Some(frame) = newest else {
            return Err(CodecError::Truncated);
        };
        let recipe = PixelRecipe {
            format,
            crop: frame.meta.crop,
            bounds,
            orientation: frame.meta.turning(),
            stamp: set(&mut self.stamp, &frame.meta),
        };
        let admitted = self.budget.admit(&frame.picture, &frame.meta);
        let refused = |_: &CodecError| self.budget.refused += 1;
        admitted.inspect_err(refused)?;
        let made = self.codec.pixels(&frame.picture, &recipe, rows);
        self.budget.spend(&self.codec.spent());
        made
    }

    /// Turns and crops this frame's JPEG without loss, unless that was tried already. False: it has to be encoded again,
    /// which will be at `quality`.
    fn turn(&mut self, frame: &Frame<'_>, jpeg: &[u8], quality: u8) -> bool {
        let turned = &mut self.turned;
        if turned.sequence != frame.meta.sequence {
            turned.sequence = frame.meta.sequence;
            let orientation = frame.meta.turning();
            let mut made = None;
            turned.jpeg.clear();
            let (codec, budget) = (&mut self.codec, &mut self.budget);
            // A refusal is counted and told where it is to be encoded again, which comes next.
            let admitted = budget.admit(&frame.picture, &frame.meta);
            let result = admitted.and_then(|()| {
                let done = match frame.meta.crop {
                    None => codec.turn(jpeg, orientation, &mut turned.jpeg),
                    Some(area) => {
                        let cut = codec.cut(jpeg, orientation, area, &mut turned.jpeg);
                        cut.map(|cut| made = Some(cut))
                    }
                };
                budget.spend(&codec.spent());
                done
            });
            turned.meta = Some(FrameMeta {
                crop: made,
                ..frame.meta
            });
            turned.tell_cut(&frame.meta, made);
            if result.is_ok() && frame.meta.live {
                jpeg::keep_words(jpeg, frame.meta.turning(), &mut turned.jpeg);
            }
            // Of the camera's pictures as such; damage is told where it is encoded again in vain.
            if let Err(error @ (CodecError::PartialMcu | CodecError::Unsupported(_))) = result {
                turned.tell_not(&frame.meta, quality, &error);
            }
        }
        !turned.jpeg.is_empty()
    }
}

impl Turned {
    /// Says once where whole blocks are, if that is not where they were wanted.
    fn tell_cut(&mut self, meta: &FrameMeta, cut: Option<Area>) {
        let (Some(cut), orientation) = (cut, meta.turning()) else {
            return;
        };
        let [wanted, cut] =
            [meta.crop.unwrap_or(cut), cut].map(|area| orientation.turn_area(area, meta.stored()));
        if wanted != cut && self.told_cut.replace(cut) != Some(cut) {
            let Area {
                x,
                y,
                width,
                height,
            } = cut;
            info!(
                "JPEGs that are not encoded again are cropped by camd to whole blocks: {x},{y} {width}x{height} in place of \
                 {},{} {}x{}",
                wanted.x, wanted.y, wanted.width, wanted.height
            );
        }
    }

    /// Says once why they are encoded again.
    fn tell_not(&mut self, meta: &FrameMeta, quality: u8, why: &dyn Display) {
        if !std::mem::replace(&mut self.told, true) {
            let done = match meta.crop {
                None => "turned",
                Some(_) => "cropped",
            };
            info!("pictures are {done} by encoding them again at quality {quality}: {why}");
        }
    }

    /// Whether what is cropped of such a frame without loss is known to be larger than a profile has room for.
    fn misfits(&self, meta: &FrameMeta, profile: &Profile) -> bool {
        let Some((shape, cut)) = self.shape else {
            return false;
        };
        let is_such = shape.stored() == meta.stored()
            && shape.crop == meta.crop
            && shape.turning() == meta.turning();
        let crop = Some(cut);
        is_such && !profile.leaves_size(&FrameMeta { crop, ..*meta })
    }
}

/// Nothing of the picture was decoded, and nothing is wrong with it.
fn is_refusal(error: &CodecError) -> bool {
    matches!(error, CodecError::ManyPixels { .. } | CodecError::NoTime)
}

/// Counts a picture that is not encoded among those that were refused or that failed, and says so.
fn tell_not_made(budget: &mut Budget, failed: &mut u64, quality: u8, error: &CodecError) {
    let count = match is_refusal(error) {
        true => &mut budget.refused,
        false => failed,
    };
    tell_failed(count, quality, error);
}

/// Counts a picture that could not be encoded, and says so once in a while, as a broken camera can do this with each frame.
fn tell_failed(failed: &mut u64, quality: u8, why: &dyn Display) {
    *failed += 1;
    if failed.is_power_of_two() {
        warn!("picture not encoded at quality {quality}: {why} ({failed} so far)");
    }
}

/// Where what the cells make goes.
struct Shelf<'a> {
    made: &'a mut [Rendition],
    asked: &'a mut Asked,
    turned: &'a mut Turned,
    wanted: &'a mut Wanted,
    failed: &'a mut u64,
}

impl Shelf<'_> {
    fn put(&mut self, work: &Work, finished: Finished<'_>) {
        if work.orphan {
            return;
        }
        let meta = work.meta;
        match work.task {
            Task::Encode(coding) => self.put_jpeg(coding, &meta, finished),
            Task::Turn(coding) => {
                if meta.sequence < self.turned.sequence {
                    return;
                }
                let turned = &mut *self.turned;
                (turned.sequence, turned.meta) = (meta.sequence, None);
                turned.fresh = false;
                match finished {
                    Finished::Jpeg {
                        jpeg,
                        turned: Some(cut),
                        ..
                    } => {
                        std::mem::swap(jpeg, &mut turned.jpeg);
                        turned.fresh = true;
                        turned.meta = Some(FrameMeta { crop: cut, ..meta });
                        if let Some(cut) = cut {
                            turned.shape = Some((meta, cut));
                        }
                        turned.tell_cut(&meta, cut);
                    }
                    other => {
                        turned.jpeg.clear();
                        if let Finished::Jpeg {
                            why_not:
                                Some(Failure {
                                    of_the_kind: true,
                                    reason,
                                }),
                            ..
                        } = &other
                        {
                            turned.tell_not(&meta, coding.quality, reason);
                        }
                        self.put_jpeg(coding, &meta, other);
                    }
                }
            }
            Task::Pixels { format, bounds } => {
                let made = match finished {
                    Finished::Pixels { cell, size } => Ok((cell, size)),
                    Finished::Failed(failure) => Err(CodecError::Cell(failure.reason.clone())),
                    Finished::Jpeg { .. } | Finished::Lost => Err(CodecError::Lost),
                };
                self.wanted.put(format, bounds, Pixels { meta, made });
            }
        }
    }

    fn put_jpeg(&mut self, coding: Coding, meta: &FrameMeta, finished: Finished<'_>) {
        let mut all = self.made.iter_mut().chain(self.asked.all_mut());
        // The configuration may have changed, or what is asked for.
        let Some(rendition) = all.find(|r| r.coding() == coding) else {
            return;
        };
        // Of two that were begun one after the other, the second one may be done first.
        if rendition
            .meta
            .is_some_and(|made| made.sequence > meta.sequence)
        {
            return;
        }
        rendition.meta = Some(*meta);
        rendition.fresh = true;
        match finished {
            Finished::Jpeg { jpeg, spent, .. } => {
                std::mem::swap(jpeg, &mut rendition.jpeg);
                rendition.size = Some(coding.bounds.fit(meta.shown()));
                rendition.times.add(&spent);
            }
            Finished::Failed(Failure { reason, .. }) => {
                rendition.jpeg.clear();
                tell_failed(self.failed, coding.quality, reason);
            }
            Finished::Pixels { .. } | Finished::Lost => rendition.jpeg.clear(),
        }
    }
}

fn coding(profile: &Profile) -> Coding {
    Coding {
        quality: profile.raw_quality,
        chroma: profile.chroma(),
        bounds: profile.bounds,
    }
}

fn profiles(config: &Config) -> impl Iterator<Item = Profile> {
    let sinks = config
        .sinks
        .iter()
        .filter(|sink| sink.has_rendition(&config.camera));
    let listeners = config.listeners.iter().filter(|it| !it.is_for_h264());
    let listeners = listeners.flat_map(Profile::all);
    listeners.chain(sinks.map(Profile::of_sink))
}

fn stamp(config: &Config) -> Option<Stamp> {
    let camera = &config.camera;
    camera.timestamp.then(|| Stamp::new(&camera.name))
}

/// The stamp, if there is one, with the time of this picture. The card shows no moment, and no picture.
fn set<'a>(stamp: &'a mut Option<Stamp>, meta: &FrameMeta) -> Option<&'a Stamp> {
    let stamp = stamp.as_mut().filter(|_| meta.live)?;
    stamp.set(meta.wall);
    Some(stamp)
}

const FOR_EACH: &str =
    "each rung of a listener, each sink of JPEGs, and what is asked for has a rendition";

/// # Panics
/// As [`Renditions::new`].
fn room_for(
    profiles: impl Iterator<Item = Profile>,
    frame_bytes: usize,
) -> heapless::Vec<Rendition, { MAX_LISTENERS * RUNGS + MAX_SINKS }> {
    let mut made = heapless::Vec::new();
    for profile in profiles {
        if !made.iter().any(|r: &Rendition| r.is_for(profile)) {
            let rendition = Rendition {
                quality: profile.raw_quality,
                chroma: profile.chroma(),
                bounds: profile.bounds,
                meta: None,
                jpeg: FrameBuf::new(frame_bytes),
                fresh: false,
                begun: 0,
                size: None,
                times: Times::new(),
            };
            assert!(
                made.push(rendition).is_ok(),
                "more than {MAX_LISTENERS} listeners or {MAX_SINKS} sinks in a checked configuration"
            );
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::ListenerConfig;
    use crate::encode::m2m::System;
    use crate::picture::frame::{Chroma, Plane, RawPicture};

    const FRAME_BYTES: usize = 1 << 20;

    impl Renditions {
        /// Only the JPEG.
        fn jpeg<'a>(&'a mut self, frame: &'a Frame<'a>, profile: Profile) -> Option<&'a [u8]> {
            self.make(frame, profile).map(|(_, jpeg)| jpeg)
        }
    }

    fn profile(quality: Option<u8>, bounds: Option<(u16, u16)>) -> Profile {
        Profile {
            quality,
            raw_quality: quality.unwrap_or(80),
            asked_chroma: None,
            bounds: Bounds {
                within: bounds.map_or(Bounds::NONE.within, |(width, height)| Size {
                    width,
                    height,
                }),
                eighths: 8,
            },
        }
    }

    fn by_listeners(listeners: &[ListenerConfig]) -> Renditions {
        by_processor(&listeners.iter().flat_map(Profile::all).collect::<Vec<_>>())
    }

    fn by_processor(profiles: &[Profile]) -> Renditions {
        let config = Config::default();
        let mut renditions = Renditions::new(&config, Box::new(System), Instant::now);
        renditions.made = room_for(profiles.iter().copied(), FRAME_BYTES);
        renditions
    }

    fn meta(sequence: u64, live: bool) -> FrameMeta {
        FrameMeta {
            sequence,
            captured: Instant::now(),
            wall: Duration::ZERO,
            width: 64,
            height: 48,
            orientation: Orientation::UPRIGHT,
            exif: Orientation::UPRIGHT,
            crop: None,
            live,
        }
    }

    fn grey(data: &[u8]) -> RawPicture<'_> {
        let mut planes = [Plane::default(); 3];
        planes[0] = Plane { data, stride: 64 };
        RawPicture {
            format: PixelFormat::Grey,
            width: 64,
            height: 48,
            planes,
        }
    }

    fn size(jpeg: Option<&[u8]>) -> (u16, u16) {
        let found = jpeg::inspect(jpeg.expect("a picture")).expect("a JPEG");
        (found.width, found.height)
    }

    #[test]
    fn each_profile_gets_its_size_and_quality() {
        let data: Vec<u8> = (0..64 * 48).map(|i| (i * 7 % 251) as u8).collect();
        let mut jpeg = FrameBuf::new(FRAME_BYTES);
        Codec::new().encode(&grey(&data), 90, &mut jpeg).unwrap();
        let jpeg = jpeg.as_slice();

        let untouched = profile(None, None);
        let roomy = profile(None, Some((64, 48)));
        let small = profile(None, Some((32, 32)));
        let small_low = profile(Some(20), Some((32, 32)));
        let low = profile(Some(20), None);
        let all = [untouched, roomy, small, small_low, low];
        let mut renditions = by_processor(&all);
        assert_eq!(renditions.made.len(), 5);

        let raw = Frame {
            meta: meta(1, true),
            picture: Picture::Raw(grey(&data)),
        };
        for (profile, expected) in
            all.into_iter()
                .zip([(64, 48), (64, 48), (32, 24), (32, 24), (64, 48)])
        {
            assert_eq!(size(renditions.jpeg(&raw, profile)), expected);
        }
        let encoded = Frame {
            meta: meta(2, true),
            picture: Picture::Jpeg(jpeg),
        };
        assert_eq!(renditions.jpeg(&encoded, untouched), Some(jpeg));
        assert_eq!(renditions.jpeg(&encoded, roomy), Some(jpeg));
        assert_eq!(size(renditions.jpeg(&encoded, small)), (32, 24));
        assert_eq!(size(renditions.jpeg(&encoded, small_low)), (32, 24));
        let [fine, coarse, smallest] = [untouched, low, small_low]
            .map(|profile| renditions.jpeg(&encoded, profile).map_or(0, <[u8]>::len));
        assert!(
            fine > coarse && coarse > smallest,
            "{fine} {coarse} {smallest}"
        );

        // The card: as it is where it fits, whatever the quality.
        let card = Frame {
            meta: meta(3, false),
            picture: Picture::Jpeg(jpeg),
        };
        assert_eq!(renditions.jpeg(&card, low), Some(jpeg));
        assert_eq!(size(renditions.jpeg(&card, small_low)), (32, 24));
    }

    #[test]
    fn an_adaptive_listener_has_a_picture_for_each_rung() {
        let config = |quality, adaptive| ListenerConfig {
            quality,
            adaptive,
            width: Some(48),
            ..Config::default().listeners[0].clone()
        };
        let rungs = |listeners: &[ListenerConfig]| by_listeners(listeners).made.len();
        assert_eq!(rungs(&[config(None, false), config(Some(80), false)]), 1);
        assert_eq!(rungs(&[config(None, true), config(Some(80), true)]), RUNGS);
        // Quality 60 and 40 are there already.
        assert_eq!(rungs(&[config(Some(60), true)]), RUNGS - 1);
        assert_eq!(rungs(&[config(None, true), config(Some(60), true)]), RUNGS);

        let data: Vec<u8> = (0..64 * 48).map(|i| (i * 7 % 251) as u8).collect();
        let mut jpeg = FrameBuf::new(FRAME_BYTES);
        Codec::new().encode(&grey(&data), 90, &mut jpeg).unwrap();
        for quality in [None, Some(80), Some(35)] {
            let listener = config(quality, true);
            let mut renditions = by_listeners(std::slice::from_ref(&listener));
            let profile = Profile::of(&listener);
            let mut sequence = 0;
            let pictures = [Picture::Raw(grey(&data)), Picture::Jpeg(jpeg.as_slice())];
            for picture in pictures {
                sequence += 1;
                let meta = meta(sequence, true);
                let frame = Frame { meta, picture };
                let made = (0..=profile.ladder().lowest()).map(|rung| {
                    let jpeg = renditions.jpeg(&frame, profile.rung(rung));
                    (size(jpeg), jpeg.map_or(0, <[u8]>::len))
                });
                let made: Vec<_> = made.collect();
                assert_eq!(made[0].0, (48, 36));
                // A quarter of that.
                assert_eq!(made.last().map(|made| made.0), Some((12, 8)));
                assert!(made.is_sorted_by(|a, b| a.1 > b.1), "{made:?}");
            }
            for made in renditions.all() {
                assert_eq!(made.times().pictures(), 2);
            }
        }
    }

    #[test]
    fn listeners_share_a_picture_only_if_its_colours_are_as_fine() {
        let config = |quality, chroma, adaptive| ListenerConfig {
            quality,
            chroma,
            adaptive,
            ..Config::default().listeners[0].clone()
        };
        let (coarse, fine) = (Some(Chroma::Yuv420), Some(Chroma::Yuv422));
        let made = |listeners: &[ListenerConfig]| {
            let made = by_listeners(listeners).made;
            let all = made.iter().map(|r| (r.quality(), r.chroma().name()));
            all.collect::<Vec<_>>()
        };
        // "auto" is the one or the other, and for a raw picture by its default quality.
        let three = |quality| [None, coarse, fine].map(|chroma| config(quality, chroma, false));
        assert_eq!(made(&three(Some(80))), [(80, "420"), (80, "422")]);
        assert_eq!(made(&three(Some(95))), [(95, "422"), (95, "420")]);
        assert_eq!(made(&three(None)), [(80, "420"), (80, "422")]);
        // Down the ladder, too, unless the listener says what it wants.
        let rungs = made(&[config(Some(95), None, true)]);
        assert_eq!(rungs[..3], [(95, "422"), (60, "420"), (40, "420")]);
        assert!(rungs[1..].iter().all(|(_, chroma)| *chroma == "420"));
        assert_eq!(rungs.len(), RUNGS);
        for (chroma, name) in [(coarse, "420"), (fine, "422")] {
            let rungs = made(&[config(Some(95), chroma, true)]);
            assert!(rungs.iter().all(|(_, chroma)| *chroma == name), "{rungs:?}");
        }
        // Those of "420" are the same, but for the first.
        let both = [config(Some(95), None, true), config(Some(95), coarse, true)];
        assert_eq!(made(&both).len(), RUNGS + 1);

        let data: Vec<u8> = (0..4 * 64 * 48).map(|i| (i * 7 % 251) as u8).collect();
        let packed = RawPicture {
            format: PixelFormat::Yuyv,
            planes: [128, 0, 0].map(|stride| Plane {
                data: &data[..stride * 48],
                stride,
            }),
            ..grey(&[])
        };
        let mut renditions = by_listeners(&three(Some(80)));
        let frame = Frame {
            meta: meta(1, true),
            picture: Picture::Raw(packed),
        };
        let [auto, low, high] = three(Some(80)).map(|listener| {
            let jpeg = renditions.jpeg(&frame, Profile::of(&listener));
            jpeg.expect("a picture").to_vec()
        });
        assert!(auto == low && low.len() < high.len());
        assert_eq!(renditions.made[0].times().pictures(), 1);
    }

    #[test]
    fn a_frame_is_encoded_once_for_a_profile() {
        let (bright, dark) = ([200; 64 * 48], [20; 64 * 48]);
        let small = profile(Some(50), Some((32, 32)));
        // The same again shares.
        let mut renditions = by_processor(&[small, small]);
        assert_eq!(renditions.made.len(), 1);
        let mut get = |sequence, data: &[u8]| {
            let picture = Picture::Raw(grey(data));
            let meta = meta(sequence, true);
            renditions
                .jpeg(&Frame { meta, picture }, small)
                .unwrap()
                .to_vec()
        };
        let first = get(1, &bright);
        // Were it encoded again, it would be another.
        assert_eq!(get(1, &dark), first);
        assert_ne!(get(2, &dark), first);
    }

    #[test]
    fn only_pictures_get_the_stamp_that_is_asked_for() {
        let mut data = FrameBuf::new(FRAME_BYTES);
        let grey = RawPicture {
            width: 320,
            height: 240,
            planes: [320, 0, 0].map(|stride| Plane {
                data: &[90; 320 * 240][..stride * 240],
                stride,
            }),
            ..grey(&[])
        };
        Codec::new().encode(&grey, 90, &mut data).unwrap();
        let mut config = Config::default();
        config.listeners[0].width = Some(160);
        config.listeners[0].quality = Some(50);
        config.camera.name = "card".to_owned();
        let [plain, stamped] = [false, true].map(|timestamp| {
            config.camera.timestamp = timestamp;
            let mut renditions = Renditions::new(&config, Box::new(System), Instant::now);
            assert_eq!(renditions.stamps(), timestamp);
            let profile = Profile::of(&config.listeners[0]);
            let mut get = |sequence, live, picture| {
                let meta = FrameMeta {
                    width: 320,
                    height: 240,
                    ..meta(sequence, live)
                };
                let frame = Frame { meta, picture };
                let jpeg = renditions.jpeg(&frame, profile);
                assert_eq!(size(jpeg), (160, 120));
                jpeg.unwrap().to_vec()
            };
            [
                get(1, true, Picture::Raw(grey)),
                get(2, true, Picture::Jpeg(data.as_slice())),
                get(3, false, Picture::Jpeg(data.as_slice())),
            ]
        });
        assert_eq!(
            [0, 1, 2].map(|i| plain[i] == stamped[i]),
            [false, false, true]
        );
    }

    #[test]
    fn a_cameras_own_jpeg_is_turned_without_loss_where_that_can_be() {
        let data: Vec<u8> = (0..64 * 48).map(|i| (i * 7 % 251) as u8).collect();
        let mut codec = Codec::new();
        let [mut jpeg, mut other, mut expected] = [(); 3].map(|()| FrameBuf::new(FRAME_BYTES));
        codec.encode(&grey(&data), 95, &mut jpeg).unwrap();
        codec.encode(&grey(&[20; 64 * 48]), 95, &mut other).unwrap();
        let quarter = Orientation::quarters(1);
        codec.turn(jpeg.as_slice(), quarter, &mut expected).unwrap();

        let untouched = profile(None, None);
        // 48x64 is what viewers see.
        let roomy = profile(None, Some((48, 64)));
        let wide = profile(None, Some((64, 48)));
        // The same quality as where nothing can be left untouched.
        let asked = profile(Some(80), None);
        let all = [untouched, roomy, wide, asked];
        let mut renditions = by_processor(&all);
        let mut get = |sequence, jpeg: &FrameBuf, profile| {
            let frame = Frame {
                meta: FrameMeta {
                    orientation: quarter,
                    ..meta(sequence, true)
                },
                picture: Picture::Jpeg(jpeg.as_slice()),
            };
            renditions.jpeg(&frame, profile).map(<[u8]>::to_vec)
        };
        assert_eq!(
            get(1, &jpeg, untouched).as_deref(),
            Some(expected.as_slice())
        );
        // Were it turned again, it would be another.
        assert_eq!(get(1, &other, roomy).as_deref(), Some(expected.as_slice()));
        assert_eq!(size(get(1, &jpeg, wide).as_deref()), (36, 48));
        let again = get(1, &jpeg, asked).expect("a picture");
        assert_eq!(size(Some(&again)), (48, 64));
        assert!(again.len() < expected.len());

        // Half an MCU at an edge that is to be mirrored.
        let mut planes = [Plane::default(); 3];
        planes[0] = Plane {
            data: &data,
            stride: 64,
        };
        let odd = RawPicture {
            format: PixelFormat::Grey,
            width: 64,
            height: 44,
            planes,
        };
        codec.encode(&odd, 95, &mut jpeg).unwrap();
        let recipe = Recipe::at(80).turned(quarter);
        let picture = Picture::Jpeg(jpeg.as_slice());
        codec.make(&picture, &recipe, &mut expected).unwrap();
        assert_eq!(
            get(2, &jpeg, untouched).as_deref(),
            Some(expected.as_slice())
        );
        assert_eq!(size(Some(expected.as_slice())), (44, 64));

        // A broken one is none, whatever is tried.
        let half = FrameBuf::new(16);
        assert_eq!(get(3, &half, untouched), None);
        assert_eq!(renditions.failed, 1);
    }
}
