//! Where programs on the same board get pictures from without a connection: shared memory. [`Sink`] is the one interface
//! of all kinds; [`Sinks`] keeps the configured ones alive.
//!
//! A sink holds one newest picture. camd never waits for a reader, and no reader for another: camd leaves out a picture
//! that it cannot put in place at once. Of H.264, where pictures lean on one another, a reader may need those before the newest, and
//! finds as many as its sink has room for. A sink in trouble is closed, and opened again after a while; viewers do not notice.

mod interface;
mod memfd;
mod qt_shm;

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::config::{Config, SinkConfig, SinkKind};
use crate::encode::renditions::Renditions;
use crate::limits::{ACCEPT_RETRY, MAX_SINKS, REOPEN_FIRST, REOPEN_MAX};
use crate::measure::decimate::Decimator;
use crate::measure::rate::Rate;
use crate::picture::chain::Chain;
use crate::picture::frame::{Frame, FrameMeta};
use crate::source::Source;
use crate::source::camera::Camera;

pub use interface::{Fault, Outcome, Sink};
pub use memfd::Memfd;
pub use qt_shm::QtShm;

/// The sinks that a configuration can name.
// Their sizes differ, but there are few of them in the process.
#[allow(clippy::large_enum_variant)]
pub enum AnySink {
    /// `kind = "qt-shm"`
    QtShm(QtShm),
    /// `kind = "memfd"`
    Memfd(Memfd),
}

/// Calls the same method of whichever sink it is.
macro_rules! each {
    ($any:expr, $sink:ident => $call:expr) => {
        match $any {
            AnySink::QtShm($sink) => $call,
            AnySink::Memfd($sink) => $call,
        }
    };
}

impl AnySink {
    /// The configured sink, not yet open.
    fn new(sink: &SinkConfig, config: &Config) -> Self {
        match sink.kind {
            SinkKind::QtShm => AnySink::QtShm(QtShm::new(sink, config)),
            SinkKind::Memfd => AnySink::Memfd(Memfd::new(sink, config)),
        }
    }
}

/// A sink and how it fares.
pub struct Entry {
    sink: AnySink,
    config: SinkConfig,
    place: String,
    is_open: bool,
    /// When it is opened (again), while it is not.
    retry: Instant,
    backoff: Duration,
    /// Why it is not open; empty if it is.
    reason: String,
    /// Which opening this is: a descriptor that was closed and opened again may have the same number.
    epoch: u64,
    /// Which opening of it is in the poll, and with what number.
    registered: Option<(u64, usize)>,
    /// Its descriptor has had an event.
    ready: bool,
    /// When it is run without one.
    again: Option<Instant>,
    /// Somebody may look, as of the last turn.
    watched: bool,
    pace: Option<Decimator>,
    /// Of the last picture that was written or skipped.
    sequence: u64,
    captured: Option<Instant>,
    frames: u64,
    skipped: u64,
    rate: Rate,
}

impl Entry {
    fn new(sink: &SinkConfig, config: &Config, now: Instant) -> Self {
        Entry {
            sink: AnySink::new(sink, config),
            config: sink.clone(),
            place: sink.place(),
            is_open: false,
            retry: now,
            backoff: REOPEN_FIRST,
            reason: String::new(),
            epoch: 0,
            registered: None,
            ready: false,
            again: None,
            watched: false,
            pace: sink.fps.map(Decimator::new),
            sequence: 0,
            captured: None,
            frames: 0,
            skipped: 0,
            rate: Rate::default(),
        }
    }

    /// Its section of the configuration.
    pub fn config(&self) -> &SinkConfig {
        &self.config
    }

    /// As [`SinkConfig::place`].
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Why nobody can read it; empty if they can.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Programs that have it attached now.
    pub fn readers(&self) -> usize {
        if self.is_open {
            each!(&self.sink, sink => sink.readers())
        } else {
            0
        }
    }

    /// Pictures written since the start.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Pictures that were due and left out: a reader had the lock, or they were too large.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Pictures per second, lately.
    pub fn fps(&self, now: Instant) -> f32 {
        self.rate.per_second(now)
    }

    /// When the picture in it was captured.
    pub fn captured(&self) -> Option<Instant> {
        self.captured
    }

    fn is_watched(&self) -> bool {
        self.is_open && each!(&self.sink, sink => sink.is_watched())
    }

    fn open(&mut self, now: Instant) {
        match each!(&mut self.sink, sink => sink.open()) {
            Ok(()) => {
                info!("sink: {} is open", self.place);
                self.is_open = true;
                self.backoff = REOPEN_FIRST;
                self.reason.clear();
                self.epoch += 1;
                self.watched = false;
            }
            Err(fault) => self.fail(fault, now),
        }
    }

    fn close(&mut self) {
        each!(&mut self.sink, sink => sink.close());
        self.is_open = false;
    }

    fn fail(&mut self, Fault(reason): Fault, now: Instant) {
        self.close();
        self.retry = now + self.backoff;
        self.backoff = (2 * self.backoff).min(REOPEN_MAX);
        // Said once, and again only when it changes: it is tried for ever.
        if self.reason != reason {
            warn!(
                "sink: {}: {reason}; trying again every {} to {} s",
                self.place,
                REOPEN_FIRST.as_secs(),
                REOPEN_MAX.as_secs()
            );
            self.reason = reason;
        }
    }

    /// True if it waits for a picture of the chain that stands for itself.
    fn turn(
        &mut self,
        newest: Option<Frame<'_>>,
        chain: Option<&Chain>,
        renditions: &mut Renditions,
        now: Instant,
    ) -> bool {
        self.prepare(now);
        if !self.is_watched() {
            self.watched = false;
            return false;
        }
        if !std::mem::replace(&mut self.watched, true) {
            // A picture that is there already is better than none.
            self.sequence = 0;
        }
        if self.config.is_for_h264() {
            return chain.is_some_and(|chain| self.follow(chain, now));
        }
        self.take(newest, renditions, now);
        false
    }

    /// Writes all pictures of the chain that there are.
    fn follow(&mut self, chain: &Chain, now: Instant) -> bool {
        while let Some(unit) = chain.after(self.sequence, now) {
            let AnySink::Memfd(sink) = &mut self.sink else {
                unreachable!("a sink of another kind for H.264");
            };
            if self.sequence > 0 && self.sequence < unit.meta.sequence {
                self.skipped += unit.meta.sequence - self.sequence - 1;
            }
            self.sequence = unit.meta.sequence;
            match sink.write_unit(&unit) {
                Outcome::Written => {
                    self.captured = Some(unit.meta.captured);
                    self.frames += 1;
                    self.rate.tick(now);
                }
                _ => self.skipped += 1,
            }
        }
        chain.lacks_key(self.sequence)
    }

    fn prepare(&mut self, now: Instant) {
        if !self.is_open {
            if self.retry > now {
                return;
            }
            self.open(now);
        }
        let due = self.again.is_some_and(|at| at <= now);
        if (std::mem::take(&mut self.ready) || due) && self.is_open {
            self.again = None;
            match each!(&mut self.sink, sink => sink.run()) {
                Ok(()) if each!(&self.sink, sink => sink.has_more()) => {
                    self.again = Some(now + ACCEPT_RETRY);
                }
                Ok(()) => {}
                Err(fault) => self.fail(fault, now),
            }
        }
    }

    /// Puts the newest picture in place, if it is due.
    fn take(&mut self, newest: Option<Frame<'_>>, renditions: &mut Renditions, now: Instant) {
        let (last, pace) = (self.sequence, self.pace.as_ref());
        let is_news = |meta: &FrameMeta| {
            meta.sequence > last && pace.is_none_or(|pace| pace.wants(meta.captured))
        };
        if renditions.news(newest.as_ref(), is_news).is_none() {
            return;
        }
        match each!(&mut self.sink, sink => sink.write(newest, renditions, now, is_news)) {
            Ok((_, Outcome::Waits)) => {}
            Ok((meta, outcome)) => {
                self.sequence = meta.sequence;
                if outcome == Outcome::Written {
                    if let Some(pace) = &mut self.pace {
                        pace.kept(meta.captured);
                    }
                    self.captured = Some(meta.captured);
                    self.frames += 1;
                    self.rate.tick(now);
                } else {
                    self.skipped += 1;
                }
            }
            Err(fault) => self.fail(fault, now),
        }
    }
}

/// All sinks of the process.
pub struct Sinks {
    entries: heapless::Vec<Entry, MAX_SINKS>,
}

impl Sinks {
    /// Takes the memory that they need of the process itself; the shared one is taken in the first [`Sinks::turn`].
    pub fn new(config: &Config, now: Instant) -> Self {
        let new = |sink| Entry::new(sink, config, now);
        Sinks {
            entries: config.sinks.iter().map(new).collect(),
        }
    }

    /// Takes another configuration over. What stays the same is not disturbed.
    pub fn reconfigure(&mut self, config: &Config, now: Instant) {
        let mut before = std::mem::take(&mut self.entries);
        for sink in &config.sinks {
            let same = |entry: &Entry| {
                entry.config == *sink && each!(&entry.sink, it => it.is_for(sink, config))
            };
            let same = before.iter().position(same);
            let entry = match same {
                Some(index) => before.swap_remove(index),
                None => Entry::new(sink, config, now),
            };
            assert!(
                self.entries.push(entry).is_ok(),
                "more than {MAX_SINKS} sinks in a checked configuration"
            );
        }
        // Before the new ones are opened: they may have the same place.
        before.iter_mut().for_each(Entry::close);
    }

    /// In the order of the configuration.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The readers for which the camera must run.
    pub fn viewers(&self) -> usize {
        self.entries.iter().filter(|e| e.is_watched()).count()
    }

    /// When the next one is to be opened, or run without an event.
    pub fn deadline(&self) -> Option<Instant> {
        let next = |entry: &Entry| match entry.is_open {
            true => entry.again,
            false => Some(entry.retry),
        };
        self.entries.iter().filter_map(next).min()
    }

    /// Takes in events, opens what is due, and gives the newest picture to all sinks that have not had it. To be called in each
    /// turn in which there may be a new picture, an event or a deadline. True if one waits for a picture of the chain that stands for
    /// itself.
    pub fn turn<C: Source>(
        &mut self,
        camera: &mut Camera<C>,
        renditions: &mut Renditions,
        now: Instant,
    ) -> bool {
        let mut lacks_key = false;
        for entry in &mut self.entries {
            lacks_key |= entry.turn(camera.newest(), camera.chain(), renditions, now);
        }
        lacks_key
    }

    /// Hands out the descriptors that are not in the poll yet, or with another number, which is below [`MAX_SINKS`]: to be
    /// polled, edge-triggered, readable. Closing ends that. True if there was one, and the next turn must follow at once.
    pub fn arm(&mut self, mut register: impl FnMut(usize, RawFd) -> io::Result<()>) -> bool {
        let mut any = false;
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let fd = each!(&entry.sink, sink => sink.fd()).filter(|_| entry.is_open);
            let current = fd.map(|_| (entry.epoch, index));
            if entry.registered == current {
                continue;
            }
            entry.registered = current;
            if let Some(fd) = fd {
                if let Err(error) = register(index, fd) {
                    warn!("sink: {}: poll: {error}", entry.place);
                }
                // What came before the registration is not told.
                entry.ready = true;
                any = true;
            }
        }
        any
    }

    /// A readiness event for the descriptor with this number.
    pub fn mark(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.ready = true;
        }
    }

    /// Removes all of them, at the end.
    pub fn shutdown(&mut self) {
        self.entries.iter_mut().for_each(Entry::close);
    }
}
