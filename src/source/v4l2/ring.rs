//! The ring of capture buffers: keeps the newest good one, and gives all others back to the driver at once. Of a camera that gives
//! H.264 it keeps none: all of them go into the chain.

use std::path::Path;
use std::time::{Duration, Instant};

use v4l::v4l_sys::{V4L2_BUF_FLAG_ERROR, v4l2_field_V4L2_FIELD_BOTTOM as FIELD_BOTTOM};

use super::dating::{Dating, Nonsense};
use crate::limits::{self, FPS_MAX};
use crate::measure::decimate::Decimator;
use crate::measure::times::Epoch;
use crate::picture::frame::{
    Frame, FrameBuf, FrameMeta, Orientation, Picture, PixelFormat, Plane, RawPicture, wall_clock,
};
use crate::picture::jpeg::{self, Field};
use crate::picture::whole::Examiner;
use crate::source::film::{Film, Take};
use crate::source::interface::{Captured, Fault};
use crate::system::v4l2::device::{Failure, Filled, PLANES};
use crate::system::v4l2::formats::{Layout, Lines};

/// The driver's side of the ring: the kernel, or a scripted one in tests.
pub trait Driver {
    fn path(&self) -> &Path;

    /// Buffers in the ring.
    fn count(&self) -> u32;

    /// The oldest filled buffer; `None` when there is none.
    fn dequeue(&mut self) -> Result<Option<Filled>, Failure>;

    fn queue(&mut self, index: u32) -> Result<(), Failure>;

    /// Whether a dequeued buffer stays as it is until it is queued again, however long that takes. Not so with
    /// v4l2loopback: its writer goes round one ring that all readers share, and never waits for one of them.
    fn keeps(&self) -> bool;

    /// A memory plane of a buffer that is not queued.
    fn plane(&self, index: u32, plane: usize) -> &[u8];
}

/// So many pictures in a row are taken for the newest by their time stamps alone. Then the driver is asked whether there
/// is more: its stamps may be wrong.
const BY_STAMP: u8 = 15;

/// What a buffer turned out to be.
enum Verdict {
    Good(Held),
    /// Good, but more than `fps`.
    Surplus,
    Bad(Reason),
}

/// Why a picture is bad, for the person who reads why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Flagged,
    Empty,
    Short { got: usize, needed: usize },
    Jpeg(jpeg::Defect),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Flagged => f.write_str("the driver flagged it as damaged"),
            Reason::Empty => f.write_str("it was empty"),
            Reason::Short { got, needed } => write!(f, "{got} bytes of {needed}"),
            Reason::Jpeg(defect) => defect.fmt(f),
        }
    }
}

/// The picture kept.
#[derive(Clone, Copy, Debug)]
struct Held {
    filled: Filled,
    captured: Instant,
    wall: Duration,
    width: u16,
    height: u16,
    exif: Orientation,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// From one byte of the buffer's first plane to before another.
    Jpeg {
        start: usize,
        end: usize,
    },
    /// In the ring's own copy, with Huffman tables; the buffer went back to the driver.
    Copied,
    Raw,
}

impl Held {
    /// The buffer that is not the driver's because of this picture.
    fn buffer(&self) -> Option<u32> {
        (self.kind != Kind::Copied).then_some(self.filled.index)
    }
}

/// Invariant, asserted at the end of each call: every buffer is queued with the driver, but for the one that the held
/// picture is in. (In between, one more is being looked at.)
pub struct Ring<D> {
    driver: D,
    layout: Layout,
    /// The buffers hold H.264, and their pictures are there. Then none is held here.
    film: Option<Film>,
    dating: Dating,
    decimator: Decimator,
    examiner: Examiner,
    /// Of the pictures, JPEG only.
    frame_bytes: usize,
    queued: u32,
    held: Option<Held>,
    /// V4L2's sequence number of the last buffer seen.
    sequence: Option<u32>,
    /// The last two buffers' time stamps, whatever clock they are on: one that is of just now is on ours.
    stamps: [Option<Duration>; 2],
    /// Pictures taken for the newest by their stamps, since the driver was asked.
    by_stamp: u8,
    /// When there is a fault unless a good picture comes before.
    stall: Instant,
    /// The bad ones since.
    bad_since: u32,
    last_bad: Option<Reason>,
    /// When [`Ring::capture`] looked last.
    last_look: Instant,
    /// There may be more to dequeue.
    more: bool,
    /// A QBUF failed where nobody could be told.
    failed: Option<Fault>,
}

impl<D: Driver> Ring<D> {
    /// A ring whose buffers are all queued and streaming. What is in them already is thrown away: v4l2loopback hands
    /// each new reader some pictures of minutes ago.
    pub fn new(
        driver: D,
        layout: Layout,
        epoch: Epoch,
        fps: u16,
        frame_bytes: usize,
        now: Instant,
    ) -> Result<Ring<D>, Fault> {
        let ring = Ring::begin(driver, layout, epoch, fps, frame_bytes, now);
        ring.without_stale()
    }

    /// As [`Ring::new`], of a camera that gives H.264. All pictures count: there is no rate to which they could be thinned out.
    pub fn of_film(
        driver: D,
        layout: Layout,
        epoch: Epoch,
        mut film: Film,
        now: Instant,
    ) -> Result<Ring<D>, Fault> {
        film.clear();
        let mut ring = Ring::begin(driver, layout, epoch, FPS_MAX, film.capacity(), now);
        ring.film = Some(film);
        // The first one of others stands for itself, and the next one that does may be seconds away.
        match ring.driver.keeps() {
            true => Ok(ring),
            false => ring.without_stale(),
        }
    }

    fn begin(
        driver: D,
        layout: Layout,
        epoch: Epoch,
        fps: u16,
        frame_bytes: usize,
        now: Instant,
    ) -> Ring<D> {
        Ring {
            queued: driver.count(),
            driver,
            layout,
            film: None,
            dating: Dating::new(epoch),
            decimator: Decimator::new(fps),
            examiner: Examiner::new(),
            frame_bytes,
            held: None,
            sequence: None,
            stamps: [None; 2],
            by_stamp: 0,
            stall: now + limits::CAPTURE_STALL,
            bad_since: 0,
            last_bad: None,
            last_look: now,
            more: false,
            failed: None,
        }
    }

    fn without_stale(mut self) -> Result<Ring<D>, Fault> {
        for _ in 0..self.driver.count() {
            let Some(filled) = self.dequeue()? else {
                break;
            };
            self.pass_over(&filled);
            self.queue(filled.index)?;
        }
        self.check();
        Ok(self)
    }

    /// The pictures of H.264; `None`: it gives none.
    pub fn film(&self) -> Option<&Film> {
        self.film.as_ref()
    }

    /// The memory for H.264 goes back to its owner.
    pub fn take_film(&mut self) -> Option<Film> {
        self.film.take()
    }

    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// What is wrong with the driver's time stamps, told once.
    pub fn take_nonsense(&mut self) -> Option<Nonsense> {
        self.dating.take_nonsense()
    }

    fn check(&self) {
        let out = u32::from(self.held.and_then(|held| held.buffer()).is_some());
        assert!(
            self.queued + out == self.driver.count(),
            "{} buffers queued and {out} held of {}",
            self.queued,
            self.driver.count()
        );
    }

    fn fault(&self, failure: &Failure) -> Fault {
        Fault(failure.explain(self.driver.path()))
    }

    fn dequeue(&mut self) -> Result<Option<Filled>, Fault> {
        let filled = self
            .driver
            .dequeue()
            .map_err(|failure| self.fault(&failure))?;
        if let Some(filled) = &filled {
            if filled.index >= self.driver.count() {
                return Err(Fault(format!(
                    "VIDIOC_DQBUF on {}: the driver gave buffer {} of {}",
                    self.driver.path().display(),
                    filled.index,
                    self.driver.count()
                )));
            }
            if self.held.and_then(|held| held.buffer()) == Some(filled.index) {
                // v4l2loopback (see `Driver::keeps`) has overwritten it.
                self.held = None;
                return Ok(Some(*filled));
            }
            self.queued -= 1;
        }
        Ok(filled)
    }

    fn queue(&mut self, index: u32) -> Result<(), Fault> {
        self.driver
            .queue(index)
            .map_err(|failure| self.fault(&failure))?;
        self.queued += 1;
        Ok(())
    }

    /// Whether no newer picture can be there yet: the last one is younger than half the time between the last two. To ask
    /// the driver in vain for each picture would cost a system call.
    fn is_up_to_date(&self, now: Instant) -> bool {
        let [Some(before), Some(last)] = self.stamps else {
            return false;
        };
        // Whatever clock the driver says that it is: a stamp of just now is of ours. v4l2loopback's are.
        let age = self.dating.clock(now).checked_sub(last);
        let (Some(age), Some(interval)) = (age, last.checked_sub(before)) else {
            return false;
        };
        age < interval / 2 && self.by_stamp < BY_STAMP
    }

    /// Dequeues until there is nothing more. `copy` is where a JPEG without Huffman tables gets them; what it holds
    /// belongs to the ring until the next call.
    pub fn capture(&mut self, now: Instant, copy: &mut FrameBuf) -> Result<Captured, Fault> {
        if let Some(fault) = self.failed.take() {
            return Err(fault);
        }
        let mut captured = Captured::default();
        self.last_look = now;
        // Twice the ring: a driver that returns buffers as fast as it gets them must not keep the caller for ever.
        self.more = true;
        for _ in 0..2 * self.driver.count() {
            let Some(filled) = self.dequeue()? else {
                (self.more, self.by_stamp) = (false, 0);
                break;
            };
            let lost = self.lost_before(filled.sequence);
            captured.dropped += lost;
            self.stamps = [self.stamps[1], Some(filled.timestamp)];
            if self.film.is_some() {
                self.take_into_film(filled, lost, now, &mut captured)?;
                continue;
            }
            self.take_in(filled, now, copy, &mut captured)?;
            if self.is_up_to_date(now) {
                self.more = false;
                self.by_stamp += 1;
                break;
            }
        }
        self.check();
        if let Some(film) = &mut self.film {
            if film.quiet().is_some_and(|at| at <= now)
                && film.take_in(film.heard(), now, Take::Pending, &mut captured)
            {
                self.stall = now + limits::CAPTURE_STALL;
            }
            let path = self.driver.path().display();
            if let Some(refusal) = film.refusal() {
                return Err(Fault(format!("{path}: {refusal}")));
            }
            if film.in_vain(now) >= limits::KEY_WAIT {
                let seconds = limits::KEY_WAIT.as_secs();
                return Err(Fault(format!(
                    "{path}: its H.264 has had no key picture for {seconds} s: ask the camera for more of them"
                )));
            }
        }
        if self.stall <= now {
            return Err(self.stalled());
        }
        Ok(captured)
    }

    /// Copies what is in a buffer, and gives it back at once, however slow those are who get its pictures.
    fn take_into_film(
        &mut self,
        filled: Filled,
        lost: u32,
        now: Instant,
        captured: &mut Captured,
    ) -> Result<(), Fault> {
        let at = self.dating.date(&filled, now);
        let film = self.film.as_mut().expect("it was just seen");
        film.missed(lost);
        if filled.flags & V4L2_BUF_FLAG_ERROR != 0 {
            film.cut();
            self.bad(Reason::Flagged, captured);
        } else if let Some(data) = bytes_of(&self.driver, &filled, 0) {
            if film.take_buffer(data, at, now, captured) {
                self.good(now);
            }
        } else {
            film.missed(1);
            self.bad(Reason::Empty, captured);
        }
        self.queue(filled.index)
    }

    fn take_in(
        &mut self,
        filled: Filled,
        now: Instant,
        copy: &mut FrameBuf,
        captured: &mut Captured,
    ) -> Result<(), Fault> {
        let at = self.dating.date(&filled, now);
        let wanted = self.decimator.wants(at);
        let held = match self.judge(filled, at, now, wanted || captured.fresh, copy) {
            Verdict::Good(held) => held,
            Verdict::Surplus => {
                self.good(now);
                return self.queue(filled.index);
            }
            Verdict::Bad(reason) => {
                self.bad(reason, captured);
                return self.queue(filled.index);
            }
        };
        self.good(now);
        // One that comes too early replaces one that nobody has seen yet all the same: the newest wins. One of the two
        // was surplus, so that neither counts as dropped.
        if wanted {
            self.decimator.kept(at);
            captured.dropped += u32::from(captured.fresh);
        }
        captured.fresh = true;
        let old = self.held.and_then(|held| held.buffer());
        self.held = Some(held);
        if let Some(index) = old {
            self.queue(index)?;
        }
        if held.buffer().is_none() {
            self.queue(filled.index)?;
        }
        Ok(())
    }

    fn bad(&mut self, reason: Reason, captured: &mut Captured) {
        log::debug!("{}: bad picture: {reason}", self.driver.path().display());
        captured.bad += 1;
        self.bad_since = self.bad_since.saturating_add(1);
        self.last_bad = Some(reason);
    }

    fn good(&mut self, now: Instant) {
        self.stall = now + limits::CAPTURE_STALL;
        self.bad_since = 0;
    }

    /// How many pictures the driver lost before the one with this number. Numbers that stand still or go back say
    /// nothing: some drivers do not count.
    fn lost_before(&mut self, sequence: u32) -> u32 {
        let Some(last) = self.sequence.replace(sequence) else {
            return 0;
        };
        match sequence.wrapping_sub(last) {
            0 | 0x8000_0000.. => 0,
            step => step - 1,
        }
    }

    fn judge(
        &mut self,
        filled: Filled,
        captured: Instant,
        now: Instant,
        wanted: bool,
        copy: &mut FrameBuf,
    ) -> Verdict {
        if filled.flags & V4L2_BUF_FLAG_ERROR != 0 {
            self.pass_over(&filled);
            return Verdict::Bad(Reason::Flagged);
        }
        let Some(data) = bytes_of(&self.driver, &filled, 0) else {
            return Verdict::Bad(Reason::Empty);
        };
        if !wanted {
            if self.layout.format == PixelFormat::Mjpeg {
                self.examiner.pass_over(data);
            }
            return Verdict::Surplus;
        }
        let field = field_of(&self.layout, &filled);
        let (width, height, exif, kind) = if self.layout.format == PixelFormat::Mjpeg {
            match judge_jpeg(data, field, &mut self.examiner, self.frame_bytes, copy) {
                Ok(Some(good)) => good,
                Ok(None) => return Verdict::Surplus,
                Err(defect) => return Verdict::Bad(Reason::Jpeg(defect)),
            }
        } else {
            for (plane, &needed) in self.layout.needed.iter().enumerate() {
                let got = self.data(&filled, plane).map_or(0, <[u8]>::len);
                if got < needed {
                    return Verdict::Bad(Reason::Short { got, needed });
                }
            }
            if !self.examiner.is_shown(field) {
                return Verdict::Surplus;
            }
            let Layout { width, height, .. } = self.layout;
            (width, height, Orientation::UPRIGHT, Kind::Raw)
        };
        let wall = wall_clock().saturating_sub(now - captured);
        Verdict::Good(Held {
            filled,
            captured,
            wall,
            width,
            height,
            exif,
            kind,
        })
    }

    /// Lets the examiner of JPEGs know of a buffer that holds none to be shown.
    fn pass_over(&mut self, filled: &Filled) {
        if self.layout.format == PixelFormat::Mjpeg
            && let Some(data) = bytes_of(&self.driver, filled, 0)
        {
            self.examiner.pass_over(data);
        }
    }

    fn data(&self, filled: &Filled, plane: usize) -> Option<&[u8]> {
        bytes_of(&self.driver, filled, plane)
    }

    fn stalled(&self) -> Fault {
        let path = self.driver.path().display();
        let seconds = limits::CAPTURE_STALL.as_secs();
        Fault(match self.last_bad {
            Some(reason) if self.bad_since > 0 => format!(
                "{path}: {} damaged pictures and no good one for {seconds} s; the last: {reason}",
                self.bad_since
            ),
            _ => format!("{path}: no picture for {seconds} s"),
        })
    }

    /// See [`crate::source::Source::deadline`].
    pub fn deadline(&self) -> Instant {
        let pending = self.film.as_ref().and_then(Film::quiet);
        if self.more || self.failed.is_some() {
            self.last_look
        } else {
            pending.map_or(self.stall, |quiet| quiet.min(self.stall))
        }
    }

    pub fn newest<'a>(&'a self, copy: &'a FrameBuf) -> Option<Frame<'a>> {
        let held = self.held.as_ref()?;
        let picture = match held.kind {
            Kind::Jpeg { start, end } => Picture::Jpeg(&self.data(&held.filled, 0)?[start..end]),
            Kind::Copied => Picture::Jpeg(copy.as_slice()),
            Kind::Raw => {
                let mut planes = [Plane::default(); PLANES];
                for (plane, place) in planes.iter_mut().zip(&self.layout.planes) {
                    if place.length > 0 {
                        let data = self.data(&held.filled, place.memory)?;
                        plane.data = &data[place.offset..place.offset + place.length];
                        plane.stride = place.stride;
                    }
                }
                Picture::Raw(RawPicture {
                    format: self.layout.format,
                    width: held.width,
                    height: held.height,
                    planes,
                })
            }
        };
        Some(Frame {
            meta: FrameMeta {
                sequence: 0,
                captured: held.captured,
                wall: held.wall,
                width: held.width,
                height: held.height,
                orientation: Orientation::UPRIGHT,
                crop: None,
                exif: held.exif,
                live: true,
            },
            picture,
        })
    }

    /// See [`crate::source::Source::holds`].
    pub fn holds(&self) -> bool {
        self.driver.keeps() && self.driver.count() >= limits::BUFFERS_TO_HOLD_ONE
    }

    pub fn release(&mut self) {
        if self.holds() {
            return;
        }
        if let Some(index) = self.held.and_then(|held| held.buffer()) {
            self.held = None;
            if let Err(fault) = self.queue(index) {
                // The buffer is lost, and with it the ring: `capture` says so.
                self.failed = Some(fault);
                return;
            }
        }
        self.check();
    }
}

/// What the driver says is in a memory plane; `None` if that is nothing, or lies outside of it.
fn bytes_of<'a>(driver: &'a impl Driver, filled: &Filled, plane: usize) -> Option<&'a [u8]> {
    let extent = filled.planes[plane];
    let end = extent.offset.checked_add(extent.bytes)?;
    driver
        .plane(filled.index, plane)
        .get(extent.offset..end)
        .filter(|data| !data.is_empty())
}

/// Which field of an interlaced picture a buffer holds, or is shown of it; `None`: it is all of the picture.
fn field_of(layout: &Layout, filled: &Filled) -> Option<Field> {
    match (layout.lines, filled.field) {
        (Lines::All, _) => None,
        (Lines::OneField, FIELD_BOTTOM) => Some(Field::Second),
        (Lines::OneField | Lines::BothFields, _) => Some(Field::First),
    }
}

/// Size of the picture in a buffer, how it is to be turned, and where it is; `None`: it is not to be shown. `field`: which
/// one it is, as the driver says; what the JPEG says counts more.
fn judge_jpeg(
    data: &[u8],
    field: Option<Field>,
    examiner: &mut Examiner,
    frame_bytes: usize,
    copy: &mut FrameBuf,
) -> Result<Option<(u16, u16, Orientation, Kind)>, jpeg::Defect> {
    let Some(found) = examiner.examine(data)? else {
        return Ok(None);
    };
    if found.field.is_none() && !examiner.is_shown(field) {
        return Ok(None);
    }
    let (start, end) = (found.start, found.end);
    if end - start > frame_bytes {
        return Err(jpeg::Defect::TooBig {
            needed: end - start,
            capacity: frame_bytes,
        });
    }
    let kind = match found.tables {
        None => Kind::Jpeg { start, end },
        Some(at) => {
            jpeg::insert_tables(&data[start..end], at, copy)?;
            Kind::Copied
        }
    };
    Ok(Some((found.width, found.height, found.exif(data), kind)))
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
