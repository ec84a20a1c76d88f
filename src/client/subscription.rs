//! Which of the camera's pictures one client is to get, of what kind, and which it got.

use std::time::Instant;

use super::adapt::{Adapter, Goal};
use crate::measure::decimate::Decimator;
use crate::measure::rate::Rate;
use crate::picture::frame::{Bounds, FrameMeta, Orientation, Size};
use crate::protocol::session::Wish;

/// What a picture is like that a client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// As the camera has stored it, and how that is to be turned.
    pub stored: Size,
    /// See `stored`.
    pub orientation: Orientation,
    /// What that was fitted into.
    pub bounds: Bounds,
    /// JPEG quality, 1 to 100; `None`: the camera's own.
    pub quality: Option<u8>,
}

impl Kind {
    /// In pixels.
    pub fn size(&self) -> Size {
        self.bounds.fit(self.orientation.turn(self.stored))
    }
}

/// What a client got, for `/state` and `/metrics`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Pictures sent whole.
    pub frames: u64,
    /// Pictures of the camera between those that it took.
    pub skipped: u64,
    /// Of pictures sent whole, per second.
    pub rate: Rate,
    /// When the picture it got last, or is getting, was captured.
    pub captured: Option<Instant>,
    /// What that one is like.
    pub kind: Option<Kind>,
}

/// One client's share of the pictures.
#[derive(Debug)]
pub struct Subscription {
    /// The newest picture this client got or is getting.
    sequence: u64,
    /// Which pictures it gets, where it shall have fewer than there are.
    pace: Option<Decimator>,
    /// How these are to differ from the listener's own: as its session says.
    pub wish: Wish,
    /// How good they are, on a listener that adapts them to the link.
    adapter: Adapter,
    /// What the client got so far.
    pub stats: Stats,
}

impl Subscription {
    /// Nothing was sent yet. `max_fps`: pictures per second at most; a snapshot is none of them.
    pub fn new(max_fps: Option<u16>) -> Self {
        Subscription {
            sequence: 0,
            pace: max_fps.map(Decimator::new),
            wish: Wish::default(),
            adapter: Adapter::new(),
            stats: Stats::default(),
        }
    }

    /// The newest picture this client got or is getting, by its number; 0: none yet.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Pictures per second at most; `None`: all of them.
    pub fn max_fps(&self) -> Option<u16> {
        self.pace.as_ref().map(|pace| pace.fps().round() as u16)
    }

    /// The stream that begins may have no more pictures per second than its client wishes.
    pub fn slow_down(&mut self) {
        if let Some(wished) = self.wish.max_fps {
            let least = self.max_fps().map_or(wished, |own| own.min(wished));
            self.pace = Some(Decimator::new(least));
        }
    }

    /// The pictures to come lean on one another, and are counted apart.
    pub fn begin_chain(&mut self) {
        self.sequence = 0;
    }

    /// This picture is not older than the last one.
    pub fn is_current(&self, meta: &FrameMeta) -> bool {
        meta.sequence >= self.sequence
    }

    /// This picture is newer than the last one, and due by `max_fps`.
    pub fn is_due(&self, meta: &FrameMeta) -> bool {
        let due = |pace: &Decimator| pace.wants(meta.captured);
        meta.sequence > self.sequence && self.pace.as_ref().is_none_or(due)
    }

    /// The rung of the picture it got last or is getting, if its listener has this goal.
    pub fn rung(&self, goal: &Goal) -> u8 {
        self.adapter.rung().min(goal.ladder.lowest())
    }

    /// The rung on which it is to get this picture. To be asked when that can begin.
    // Kept whole: what it prepares for its sums would be prepared with each picture of every client.
    #[inline(never)]
    pub fn choose_rung(&mut self, goal: &Goal, meta: &FrameMeta, now: Instant) -> u8 {
        if meta.live {
            let max_fps = self.pace.as_ref().map(Decimator::fps);
            self.adapter.choose(goal, max_fps, now)
        } else {
            // The card's size says nothing about the camera's pictures, and it comes rarely.
            self.adapter.pause();
            self.rung(goal)
        }
    }

    /// The camera has a new picture, whether it goes to this client or not.
    pub fn on_frame(&mut self) {
        self.adapter.on_frame();
    }

    /// There was news, but no JPEG of it, or none yet.
    pub fn unserved(&mut self) {
        self.adapter.unserved();
    }

    /// The listener's settings have changed. `adaptive`: it still adapts its clients.
    pub fn reconfigure(&mut self, adaptive: bool) {
        if adaptive {
            self.adapter.pause();
        } else {
            self.readapt();
        }
    }

    /// What was known about the link is forgotten.
    pub fn readapt(&mut self) {
        self.adapter = Adapter::new();
    }

    /// This picture of `len` bytes begins to go out. `adapts`: it tells something about the link.
    pub fn began(&mut self, meta: &FrameMeta, len: usize, adapts: bool, now: Instant) {
        if adapts {
            self.adapter.begin(len, now);
        }
        self.stats.captured = Some(meta.captured);
        if let Some(pace) = &mut self.pace {
            pace.kept(meta.captured);
        }
        if self.sequence > 0 {
            self.stats.skipped += meta.sequence.saturating_sub(self.sequence + 1);
        }
        self.sequence = meta.sequence;
    }

    /// A picture is out to its last byte.
    pub fn got(&mut self, now: Instant) {
        self.stats.frames += 1;
        self.stats.rate.tick(now);
    }

    /// The client has all that it asked for, and asks again when it likes.
    pub fn rests(&mut self, now: Instant) {
        self.adapter.end(now);
    }
}
