//! What the parts of making a picture take.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::measure::times::{Phase, Spent};

/// A stopwatch. Decoding, scaling and encoding take turns, row of MCUs by row of MCUs, so each call of libjpeg that
/// works is a lap of its own, and what is between two of them is [`Phase::Scale`]. In cells, because both of libjpeg's
/// objects hold it.
#[derive(Default)]
pub(super) struct Laps {
    /// Without one nothing is measured.
    pub(super) clock: Option<fn() -> Instant>,
    last: Cell<Option<Instant>>,
    spent: [Cell<Duration>; Phase::ALL.len()],
}

impl Laps {
    /// Starts a picture.
    pub(super) fn begin(&self) {
        self.last.set(self.clock.map(|clock| clock()));
        for spent in &self.spent {
            spent.set(Duration::ZERO);
        }
    }

    /// What passed since the last lap was `phase`.
    pub(super) fn lap(&self, phase: Phase) {
        let (Some(clock), Some(last)) = (self.clock, self.last.get()) else {
            return;
        };
        let now = clock();
        let spent = &self.spent[phase as usize];
        spent.set(spent.get() + now.saturating_duration_since(last));
        self.last.set(Some(now));
    }

    /// Runs a call of libjpeg, which is `phase`.
    pub(super) fn during<T>(&self, phase: Phase, call: impl FnOnce() -> T) -> T {
        self.lap(Phase::Scale);
        let result = call();
        self.lap(phase);
        result
    }

    /// Of the last picture.
    pub(super) fn spent(&self) -> Spent {
        self.spent.each_ref().map(Cell::get)
    }
}
