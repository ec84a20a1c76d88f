//! What is asked of cells in one turn, and the pixels that they have made for sinks.

use crate::encode::cell::wire::{Coding, Task};
use crate::encode::codec::CodecError;
use crate::limits::{ASKED_RENDITIONS, MAX_LISTENERS, MAX_SINKS, RUNGS};
use crate::picture::frame::{Bounds, FrameMeta, PixelFormat, Size};

/// Something that a cell can make of the newest picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A JPEG.
    Jpeg(Coding),
    /// The camera's own, turned and cropped without loss; else as that.
    Turned(Coding),
    /// Pixels for a sink.
    Pixels(PixelFormat, Bounds),
}

impl Request {
    pub fn task(self) -> Task {
        match self {
            Request::Jpeg(coding) => Task::Encode(coding),
            Request::Turned(coding) => Task::Turn(coding),
            Request::Pixels(format, bounds) => Task::Pixels { format, bounds },
        }
    }

    /// Whether this is what somebody waits for that has asked for that. Of one picture there is one that is turned without
    /// loss.
    pub fn is_met_by(self, task: &Task) -> bool {
        match (self, task) {
            (Request::Turned(_), Task::Turn(_)) => true,
            _ => self.task() == *task,
        }
    }
}

/// Pixels that a cell has just made, or why there are none.
pub(super) struct Pixels {
    /// Of which frame.
    pub meta: FrameMeta,
    /// Which cell has them, and the size of their picture.
    pub made: Result<(usize, Size), CodecError>,
}

/// One kind of them.
struct Entry {
    format: PixelFormat,
    bounds: Bounds,
    begun: u64,
    /// Until the end of the turn.
    fresh: Option<Pixels>,
}

/// Requests that there can be: one for each rendition, for what is turned, and for each sink.
const REQUESTS: usize = MAX_LISTENERS * RUNGS + MAX_SINKS + ASKED_RENDITIONS + 1 + MAX_SINKS;

/// What is wanted.
#[derive(Default)]
pub(super) struct Wanted {
    requests: heapless::Vec<(Request, u64), REQUESTS>,
    pixels: heapless::Vec<Entry, MAX_SINKS>,
    /// Jobs so far.
    count: u64,
}

impl Wanted {
    /// As at the start, but for the count.
    pub fn clear(&mut self) {
        self.requests.clear();
        self.pixels.clear();
    }

    /// Notes that something is wanted of the frame with this number.
    pub fn add(&mut self, request: Request, sequence: u64) {
        let is_there = |(other, _): &(Request, u64)| request.is_met_by(&other.task());
        if self.requests.iter().any(is_there) {
            return;
        }
        let pushed = self.requests.push((request, sequence));
        debug_assert!(pushed.is_ok(), "there is room for all that there can be");
    }

    /// Takes out of what is wanted of this frame what was begun the longest time ago.
    pub fn next(
        &mut self,
        sequence: u64,
        begun: impl Fn(&Request) -> Option<u64>,
    ) -> Option<Request> {
        let age = |request: &Request| match request {
            Request::Pixels(format, bounds) => {
                self.entry(*format, *bounds).map(|entry| entry.begun)
            }
            _ => begun(request),
        };
        let requests = self.requests.iter().enumerate();
        let of_it = requests.filter(|(_, (_, of))| *of == sequence);
        let (index, _) = of_it.min_by_key(|(_, (request, _))| age(request))?;
        let (request, _) = self.requests.swap_remove(index);
        Some(request)
    }

    /// Counts a job.
    pub fn begin(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// These pixels were begun as job number `count`.
    pub fn begun(&mut self, format: PixelFormat, bounds: Bounds, count: u64) {
        self.entry_mut(format, bounds).begun = count;
    }

    /// Those who still want something ask again when a cell can begin it.
    pub fn clear_requests(&mut self) {
        self.requests.clear();
    }

    /// Pixels have come from a cell, or it is known that none will.
    pub fn put(&mut self, format: PixelFormat, bounds: Bounds, pixels: Pixels) {
        let entry = self.entry_mut(format, bounds);
        let newer = |fresh: &Pixels| fresh.meta.sequence > pixels.meta.sequence;
        if !entry.fresh.as_ref().is_some_and(newer) {
            entry.fresh = Some(pixels);
        }
    }

    /// Those that have just come.
    pub fn find(&self, format: PixelFormat, bounds: Bounds) -> Option<&Pixels> {
        self.entry(format, bounds)?.fresh.as_ref()
    }

    /// Of which frames there are some that have just come.
    pub fn pixels(&self) -> impl Iterator<Item = &FrameMeta> {
        let fresh = self.pixels.iter().filter_map(|entry| entry.fresh.as_ref());
        fresh.map(|pixels| &pixels.meta)
    }

    /// The turn ends: the cells go on.
    pub fn forget_pixels(&mut self) {
        for entry in &mut self.pixels {
            entry.fresh = None;
        }
    }

    fn entry(&self, format: PixelFormat, bounds: Bounds) -> Option<&Entry> {
        let mut all = self.pixels.iter();
        all.find(|entry| (entry.format, entry.bounds) == (format, bounds))
    }

    fn entry_mut(&mut self, format: PixelFormat, bounds: Bounds) -> &mut Entry {
        let is_it = |entry: &Entry| (entry.format, entry.bounds) == (format, bounds);
        let index = self.pixels.iter().position(is_it).unwrap_or_else(|| {
            if self.pixels.is_full() {
                // Of sinks that are gone: the configuration was read again.
                self.pixels.clear();
            }
            let entry = Entry {
                format,
                bounds,
                begun: 0,
                fresh: None,
            };
            let pushed = self.pixels.push(entry);
            debug_assert!(pushed.is_ok(), "it is not full");
            self.pixels.len() - 1
        });
        &mut self.pixels[index]
    }
}
