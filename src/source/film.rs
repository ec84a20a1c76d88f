//! H.264 on its way from a source into the [`Chain`]: cut into pictures, dated, and what of it cannot be passed on found.
//!
//! It comes as a stream of bytes ([`Film::spare`], [`Film::filled`], [`Film::take_in`]) or in buffers, each of which is a picture
//! as a rule ([`Film::take_buffer`]).

use std::time::{Duration, Instant};

use super::interface::Captured;
use crate::limits::{CAPTURE_STALL, UNIT_QUIET};
use crate::picture::chain::Chain;
use crate::picture::frame::{FrameMeta, wall_clock};
use crate::picture::h264::{self, AccessUnit, FrameNumber, Parameters, Refusal};

/// Which pictures are taken.
#[derive(Clone, Copy)]
pub enum Take {
    /// Those that are known to be whole.
    Whole,
    /// The one that is being received, as nothing follows for a while.
    Pending,
    /// All, as nothing will follow.
    Rest,
}

/// The pictures of a source that gives H.264.
pub struct Film {
    frame_bytes: usize,
    splitter: h264::Splitter,
    parameters: Parameters,
    chain: Chain,
    /// Of the splitter, as far as it has been reported.
    lost: h264::Lost,
    /// The date of the last bytes, and of the last picture; and the mean distance of pictures.
    heard: Instant,
    last: Option<Instant>,
    interval: Option<Duration>,
    /// See [`Film::quiet`]; and what it is at the beginning.
    wait: Duration,
    first_wait: Duration,
    /// The last picture was taken to be whole after it.
    flushed: bool,
    refusal: Option<Refusal>,
    /// Of the last picture in the chain: its number, and whether others lean on it.
    number: Option<FrameNumber>,
    /// Buffers are missing in front of the next picture.
    doubtful: bool,
    /// Since then there were pictures, and none that could be taken.
    in_vain: Option<Instant>,
}

impl Film {
    /// Of a stream of bytes. Takes the memory for pictures of that many bytes.
    pub fn of_bytes(frame_bytes: usize) -> Self {
        Film::new(frame_bytes, UNIT_QUIET)
    }

    /// Of buffers. Takes the memory for pictures of that many bytes.
    pub fn of_buffers(frame_bytes: usize) -> Self {
        Film::new(frame_bytes, Duration::ZERO)
    }

    fn new(frame_bytes: usize, wait: Duration) -> Self {
        Film {
            frame_bytes,
            splitter: h264::Splitter::new(frame_bytes),
            parameters: Parameters::default(),
            chain: Chain::new(frame_bytes),
            lost: h264::Lost::default(),
            heard: Instant::now(),
            last: None,
            interval: None,
            wait,
            first_wait: wait,
            flushed: false,
            refusal: None,
            number: None,
            doubtful: false,
            in_vain: None,
        }
    }

    /// The largest picture in bytes.
    pub fn capacity(&self) -> usize {
        self.frame_bytes
    }

    /// Its pictures.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Why it cannot be passed on, if so.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// The date of the bytes that came last.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// How long there have been pictures of which none could be taken: none of them stands for itself.
    pub fn in_vain(&self, now: Instant) -> Duration {
        self.in_vain
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Room for more of the stream, at least one byte. To be asked when [`Film::take_in`] has taken all there was.
    pub fn spare(&mut self) -> &mut [u8] {
        self.splitter.spare()
    }

    /// `n` bytes of this date were put at the start of what [`Film::spare`] gave.
    pub fn filled(&mut self, at: Instant, n: usize) {
        self.splitter.filled(n);
        self.heard = at;
    }

    /// When the picture that is being received is taken to be whole if nothing follows. A program that writes one at once, as
    /// rpicam-vid does, would have each late by the time to the next otherwise. `None`: not at all. There is none, or pictures are
    /// not that far apart, or this has torn so many that it takes too long.
    pub fn quiet(&self) -> Option<Instant> {
        let pays = self.interval? >= 2 * self.wait;
        (pays && self.refusal.is_none() && self.splitter.has_picture())
            .then(|| self.heard + self.wait)
    }

    /// A picture came at this time.
    fn measure(&mut self, at: Instant) {
        if let Some(last) = self.last.replace(at) {
            let distance = at.saturating_duration_since(last).min(CAPTURE_STALL);
            self.interval = Some(match self.interval {
                Some(interval) => (7 * interval + distance) / 8,
                None => distance,
            });
        }
    }

    /// Takes in a buffer of this date. Where it ends a picture is taken to end, until that was wrong: V4L2 asks drivers for an
    /// access unit in a buffer, and some give its parameter sets in one of their own, several in one, or one in several. True if
    /// there was a picture, usable or not.
    pub fn take_buffer(
        &mut self,
        mut bytes: &[u8],
        at: Instant,
        now: Instant,
        captured: &mut Captured,
    ) -> bool {
        let mut any = false;
        // The one that is pending began in a buffer before this one.
        let mut date = match self.splitter.has_picture() {
            true => self.heard,
            false => at,
        };
        while !bytes.is_empty() {
            let spare = self.splitter.spare();
            let n = spare.len().min(bytes.len());
            spare[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.filled(at, n);
            if self.take_in(date, now, Take::Whole, captured) {
                (any, date) = (true, at);
            }
        }
        if self.wait.is_zero() {
            any |= self.take_in(at, now, Take::Pending, captured);
        }
        any
    }

    /// The driver has lost so many buffers in front of the next one. What those that follow lean on may be among them: their own
    /// numbers tell.
    pub fn missed(&mut self, buffers: u32) {
        if buffers == 0 {
            return;
        }
        match self.splitter.has_picture() || buffers >= h264::FEWEST_NUMBERS {
            true => self.cut(),
            false => self.doubtful = true,
        }
    }

    /// What is being received is damaged, and those that follow lean on it.
    pub fn cut(&mut self) {
        self.splitter.reset();
        self.chain.cut();
        self.flushed = false;
    }

    /// Takes in what the splitter has, as of this time: pictures are dated `at`. True if there was one, usable or not.
    pub fn take_in(
        &mut self,
        at: Instant,
        now: Instant,
        take: Take,
        captured: &mut Captured,
    ) -> bool {
        let mut any = false;
        while self.refusal.is_none() {
            let lost = self.splitter.lost();
            // Known before the next picture is: until that those who follow must get no more of these.
            let gone = lost.oversized - self.lost.oversized + lost.torn - self.lost.torn;
            if gone > 0 {
                if lost.torn > self.lost.torn {
                    self.wait = longer(self.wait);
                    self.flushed = false;
                }
                captured.bad += u32::try_from(gone).unwrap_or(u32::MAX);
                self.lost = lost;
                self.chain.cut();
            }
            let unit = match take {
                Take::Pending => self.splitter.flush(),
                Take::Rest => match self.splitter.next_unit() {
                    Some(unit) => Some(unit),
                    None => self.splitter.finish(),
                },
                Take::Whole => self.splitter.next_unit(),
            };
            let Some(unit) = unit else {
                break;
            };
            any = true;
            if !unit.has_beginning() {
                // What is left of a picture that was not whole.
                if self.flushed {
                    self.wait = longer(self.wait);
                }
                captured.bad += 1;
                self.chain.cut();
            }
            self.flushed = matches!(take, Take::Pending);
            if let Err(refusal) = unit.check(&mut self.parameters) {
                self.refusal = Some(refusal);
                break;
            }
            if std::mem::take(&mut self.doubtful) && !follows(self.number, unit, &self.parameters) {
                self.chain.cut();
            }
            let size = self.parameters.size();
            let (width, height) = size.map_or((0, 0), |size| (size.width, size.height));
            let meta = FrameMeta {
                wall: wall_clock().saturating_sub(now.saturating_duration_since(at)),
                ..FrameMeta::taken(at, width, height)
            };
            if unit.has_beginning() && self.chain.push(meta, unit, &self.parameters) {
                captured.fresh = true;
                self.number = unit.number(&self.parameters);
                self.in_vain = None;
            } else {
                captured.dropped += 1;
                self.in_vain.get_or_insert(now);
            }
            self.measure(at);
        }
        any
    }

    /// It begins anew.
    pub fn clear(&mut self) {
        self.cut();
        (self.parameters, self.refusal) = (Parameters::default(), None);
        (self.last, self.interval, self.wait) = (None, None, self.first_wait);
        (self.number, self.doubtful, self.in_vain) = (None, false, None);
    }
}

/// One that was taken to be whole after this time was not: how long the next one gets.
fn longer(wait: Duration) -> Duration {
    (2 * wait).max(UNIT_QUIET)
}

/// Whether nothing is missing on which this picture leans, as its number has it.
fn follows(last: Option<FrameNumber>, unit: AccessUnit<'_>, parameters: &Parameters) -> bool {
    let number = unit.number(parameters);
    unit.is_key()
        || last
            .zip(number)
            .is_some_and(|(last, own)| own.follows(&last))
}
