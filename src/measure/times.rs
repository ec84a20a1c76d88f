//! How long things took: a window over the last ones, its mean and its 99th percentile. And [`Instant`]s as others count
//! them.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// Pictures in a [`Window`].
const PICTURES: usize = 256;

/// The parts of making a JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A JPEG to samples.
    Decode,
    /// Whatever is done with the samples: unpacking, scaling.
    Scale,
    /// Samples to a JPEG.
    Encode,
}

impl Phase {
    /// All of them, in this order.
    pub const ALL: [Phase; 3] = [Phase::Decode, Phase::Scale, Phase::Encode];
}

/// What one picture took, by [`Phase`].
pub type Spent = [Duration; Phase::ALL.len()];

/// What the last pictures took in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Of all of them.
    pub mean: Duration,
    /// No more than one in a hundred took longer.
    pub p99: Duration,
}

/// The times of the last [`PICTURES`] pictures, in microseconds, which is as exact as anybody asks and takes half the
/// memory of nanoseconds. Pages that were never written cost none.
struct Window {
    micros: Box<[u32]>,
    /// Of all pictures, in the window and before.
    total: Duration,
}

/// What the pictures of one kind took, in memory that is taken at start.
pub struct Times {
    pictures: u64,
    windows: [Window; Phase::ALL.len()],
}

impl Times {
    /// Without any picture yet.
    pub fn new() -> Self {
        Times {
            pictures: 0,
            windows: Phase::ALL.map(|_| Window {
                micros: vec![0; PICTURES].into_boxed_slice(),
                total: Duration::ZERO,
            }),
        }
    }

    /// Without any picture again.
    pub fn clear(&mut self) {
        self.pictures = 0;
        for window in &mut self.windows {
            window.total = Duration::ZERO;
        }
    }

    /// Counts one more picture.
    pub fn add(&mut self, spent: &Spent) {
        // The remainder fits any index.
        let place = (self.pictures % PICTURES as u64) as usize;
        self.pictures += 1;
        for (window, &time) in self.windows.iter_mut().zip(spent) {
            // An hour at most.
            window.micros[place] = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
            window.total += time;
        }
    }

    /// Pictures so far.
    pub fn pictures(&self) -> u64 {
        self.pictures
    }

    /// What all of them took together.
    pub fn total(&self, phase: Phase) -> Duration {
        self.windows[phase as usize].total
    }

    /// Of the last pictures; `None` while there are none.
    pub fn summary(&self, phase: Phase) -> Option<Summary> {
        let count = self.pictures.min(PICTURES as u64) as usize;
        let mut micros = [0; PICTURES];
        let micros = &mut micros[..count];
        micros.copy_from_slice(&self.windows[phase as usize].micros[..count]);
        let sum: u64 = micros.iter().copied().map(u64::from).sum();
        let mean = sum.checked_div(count as u64)?;
        let (_, &mut p99, _) = micros.select_nth_unstable((count * 99).div_ceil(100) - 1);
        Some(Summary {
            mean: Duration::from_micros(mean),
            p99: Duration::from_micros(p99.into()),
        })
    }
}

impl Default for Times {
    fn default() -> Self {
        Times::new()
    }
}

/// How CLOCK_MONOTONIC and [`Instant`] relate: a moment on both.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// The moment, as Rust has it.
    pub instant: Instant,
    /// The moment on CLOCK_MONOTONIC.
    pub monotonic: Duration,
}

impl Epoch {
    /// Now, on both clocks. On Linux [`Instant`] is CLOCK_MONOTONIC too, but does not show its number.
    pub fn now() -> Epoch {
        let instant = Instant::now();
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map(Duration::from)
            // Linux always has this clock. A wrong epoch makes every picture's time stamp implausible, so that it is not used.
            .unwrap_or_default();
        Epoch { instant, monotonic }
    }

    /// What CLOCK_MONOTONIC showed at a moment; 0 for one before the machine was started.
    pub fn monotonic(&self, at: Instant) -> Duration {
        match at.checked_duration_since(self.instant) {
            Some(after) => self.monotonic.saturating_add(after),
            None => self.monotonic.saturating_sub(self.instant - at),
        }
    }
}

/// The first of two moments that may never come. To be called one after the other where there are more: a loop over them
/// copies each several times.
pub fn first(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(at), Some(by)) if by < at => other,
        (Some(_), _) => one,
        (None, _) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn of(times: impl IntoIterator<Item = u64>) -> Times {
        let mut all = Times::new();
        for time in times {
            all.add(&[Duration::ZERO, ms(time), ms(2 * time)]);
        }
        all
    }

    #[test]
    fn mean_and_the_time_that_one_in_a_hundred_exceeds() {
        let times = of([]);
        assert_eq!((times.pictures(), times.summary(Phase::Encode)), (0, None));
        for (times, mean, p99) in [
            (vec![7], 7, 7),
            (vec![1, 3], 2, 3),
            ((1..=99).collect(), 50, 99),
            // One of a hundred may take longer.
            ([vec![1000], vec![10; 99]].concat(), 19, 10),
            ([vec![1000; 2], vec![10; 98]].concat(), 29, 1000),
            ((1..=199).rev().collect(), 100, 198),
        ] {
            let summary = of(times.clone()).summary(Phase::Scale).unwrap();
            assert_eq!(summary.p99, ms(p99), "{times:?}");
            let mean = ms(mean);
            assert!(
                mean <= summary.mean && summary.mean < mean + ms(1),
                "{times:?}: {summary:?}"
            );
        }
    }

    #[test]
    fn phases_are_apart() {
        let times = of([1, 2, 3]);
        let mean = |phase| times.summary(phase).unwrap().mean;
        assert_eq!(mean(Phase::Decode), Duration::ZERO);
        assert_eq!((mean(Phase::Scale), mean(Phase::Encode)), (ms(2), ms(4)));
        assert_eq!(times.total(Phase::Encode), ms(12));
    }

    #[test]
    fn only_the_last_pictures_count() {
        let last = PICTURES as u64;
        let times = of([vec![500; 1000], vec![5; PICTURES]].concat());
        let expected = Summary {
            mean: ms(5),
            p99: ms(5),
        };
        assert_eq!(times.summary(Phase::Scale), Some(expected));
        assert_eq!(times.pictures(), 1000 + last);
        assert_eq!(times.total(Phase::Scale), ms(500_000 + 5 * last));
    }

    #[test]
    fn instants_on_the_other_clock() {
        let epoch = Epoch {
            instant: Instant::now(),
            monotonic: ms(5000),
        };
        assert_eq!(epoch.monotonic(epoch.instant + ms(7)), ms(5007));
        assert_eq!(epoch.monotonic(epoch.instant - ms(7)), ms(4993));
        let early = Epoch {
            monotonic: ms(5),
            ..epoch
        };
        assert_eq!(early.monotonic(epoch.instant - ms(7)), ms(0));
    }

    #[test]
    fn a_time_beyond_measure_is_the_longest() {
        let mut times = Times::new();
        times.add(&[Duration::from_secs(1 << 20); 3]);
        let longest = Duration::from_micros(u32::MAX.into());
        assert_eq!(times.summary(Phase::Decode).unwrap().p99, longest);
    }
}
