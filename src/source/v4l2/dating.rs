//! When a picture was taken: what the driver's time stamps are worth.
//!
//! V4L2 asks drivers for rising stamps of CLOCK_MONOTONIC. There are drivers whose stamps stand still (bcm2835's JPEGs),
//! come in pairs (two fields, two URBs of UVC), step back when the camera's own counter wraps (uvcvideo), are of another
//! clock, or 0. Rate, order and age of the pictures follow the stamps only as long as they make sense. From the first that
//! does not, they follow the arrival; and the stamps again once enough of them in a row would have been right.

use std::fmt;
use std::time::{Duration, Instant};

use v4l::v4l_sys::{V4L2_BUF_FLAG_TIMESTAMP_MASK, V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC};

use crate::measure::times::Epoch;
use crate::system::v4l2::device::Filled;

/// A stamp further back than this is none of this picture: no buffer waits that long.
const OLDEST: Duration = Duration::from_secs(10);
/// A stamp may be ahead of the time that was asked for before the buffer was; more than this is another clock's.
const AHEAD: Duration = Duration::from_millis(250);
/// How much older pictures may become, all of the last [`LATELY`], than they once were: else the stamps run slow.
const LAG: Duration = Duration::from_millis(500);
const LATELY: u32 = 8;
/// So many stamps in a row have to make sense before they are followed again; twice as many after each further time that
/// they did not.
const FIRST_TRIAL: u32 = 64;
const LONGEST_TRIAL: u32 = 1 << 16;

/// What is wrong with a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonsense {
    /// Of no clock, or of another one.
    OtherClock,
    /// Zero, which says nothing.
    Zero,
    /// The same as that of the picture before.
    Still,
    /// Before that of the picture before.
    Back,
    /// Ahead of the time.
    Ahead,
    /// Long past.
    Old,
    /// They rise, but less than time passes.
    Slow,
}

impl fmt::Display for Nonsense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Nonsense::OtherClock => "are of another clock",
            Nonsense::Zero => "are 0",
            Nonsense::Still => "stand still",
            Nonsense::Back => "step back",
            Nonsense::Ahead => "are ahead of the time",
            Nonsense::Old => "are long past",
            Nonsense::Slow => "run slow",
        })
    }
}

/// Dates the pictures of one stream.
pub struct Dating {
    epoch: Epoch,
    /// The stamp of the picture before.
    last: Option<Duration>,
    /// The date of the picture before.
    dated: Option<Instant>,
    /// What is followed, and since how many pictures that went without a contradiction.
    follows: Follows,
    /// Stamps that have to make sense in a row before they are followed again.
    trial: u32,
    ages: Ages,
    found: Option<Nonsense>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    Stamps,
    /// So many stamps in a row made sense.
    Arrival(u32),
}

/// How old pictures are when they arrive.
#[derive(Default)]
struct Ages {
    youngest: Option<Duration>,
    /// The youngest of the last `count`.
    lately: Option<Duration>,
    count: u32,
    /// When the first of them arrived, and its age.
    first: Option<(Instant, Duration)>,
    /// While the ones before them arrived, the stamps rose by too little as well.
    slow: bool,
}

impl Ages {
    /// Whether they become older all the time, or have for good.
    fn add(&mut self, now: Instant, age: Duration) -> bool {
        let (begin, first) = *self.first.get_or_insert((now, age));
        let lately = self.lately.map_or(age, |lately| lately.min(age));
        self.lately = Some(lately);
        self.count += 1;
        let youngest = *self.youngest.get_or_insert(age).min(&mut { age });
        self.youngest = Some(youngest);
        if self.count < LATELY {
            return false;
        }
        // By more than a third of the time that passed, twice in a row: what waited through a stall catches up again.
        let passed = now - begin;
        let slow = passed > Duration::ZERO && age.saturating_sub(first) > passed / 3;
        let twice = std::mem::replace(&mut self.slow, slow) && slow;
        (self.lately, self.count, self.first) = (None, 0, None);
        twice || lately > youngest + LAG
    }
}

impl Dating {
    pub fn new(epoch: Epoch) -> Self {
        Dating {
            epoch,
            last: None,
            dated: None,
            follows: Follows::Stamps,
            trial: FIRST_TRIAL,
            ages: Ages::default(),
            found: None,
        }
    }

    /// What was wrong with the stamps, when it was first seen; told once.
    pub fn take_nonsense(&mut self) -> Option<Nonsense> {
        self.found.take()
    }

    /// What a stamp of now would say.
    pub fn clock(&self, now: Instant) -> Duration {
        self.epoch.monotonic(now)
    }

    /// When the picture in a buffer was taken that arrived at `now`. Never before the one before it.
    pub fn date(&mut self, filled: &Filled, now: Instant) -> Instant {
        let stamped = self.read(filled, now);
        match (&mut self.follows, stamped) {
            (Follows::Stamps, Ok(_)) => {}
            (Follows::Stamps, Err(nonsense)) => {
                self.follows = Follows::Arrival(0);
                self.found = Some(nonsense);
            }
            (Follows::Arrival(sensible), Ok(_)) => {
                *sensible += 1;
                if *sensible >= self.trial {
                    self.trial = (self.trial * 2).min(LONGEST_TRIAL);
                    self.follows = Follows::Stamps;
                }
            }
            (Follows::Arrival(sensible), Err(_)) => *sensible = 0,
        }
        let at = match (self.follows, stamped) {
            (Follows::Stamps, Ok(at)) => at,
            _ => now,
        };
        let at = self.dated.map_or(at, |dated| at.max(dated));
        self.dated = Some(at);
        at
    }

    fn read(&mut self, filled: &Filled, now: Instant) -> Result<Instant, Nonsense> {
        if filled.flags & V4L2_BUF_FLAG_TIMESTAMP_MASK != V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC {
            return Err(Nonsense::OtherClock);
        }
        let stamp = filled.timestamp;
        if stamp.is_zero() {
            return Err(Nonsense::Zero);
        }
        if let Some(last) = self.last.replace(stamp) {
            if stamp == last {
                return Err(Nonsense::Still);
            }
            if stamp < last {
                self.ages = Ages::default();
                return Err(Nonsense::Back);
            }
        }
        let at = if stamp >= self.epoch.monotonic {
            self.epoch.instant.checked_add(stamp - self.epoch.monotonic)
        } else {
            self.epoch.instant.checked_sub(self.epoch.monotonic - stamp)
        };
        let at = at.ok_or(Nonsense::OtherClock)?;
        if at > now + AHEAD {
            return Err(Nonsense::Ahead);
        }
        let at = at.min(now);
        let age = now - at;
        if age > OLDEST {
            return Err(Nonsense::Old);
        }
        match self.ages.add(now, age) {
            true => Err(Nonsense::Slow),
            false => Ok(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Dates pictures that come every `every` ms by stamps in ms since the start of the stream, of a machine that has run
    /// for an hour by then; `None`: of no clock. Returns how old each is taken to be, and what was found wrong.
    fn ages(every: u64, stamps: &[Option<i64>]) -> (Vec<u64>, Option<Nonsense>) {
        let hour = 3_600_000;
        let start = Instant::now() + ms(hour);
        let mut dating = Dating::new(Epoch {
            instant: start,
            monotonic: ms(hour),
        });
        let mut found = None;
        let mut before = None;
        let ages = (0..)
            .zip(stamps)
            .map(|(n, stamp)| {
                let now = start + ms(every * n);
                let filled = Filled {
                    flags: stamp.map_or(0, |_| V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC),
                    timestamp: ms((stamp.unwrap_or(0) + hour as i64) as u64),
                    ..Filled::default()
                };
                let at = dating.date(&filled, now);
                assert!(before.is_none_or(|before| before <= at), "dates step back");
                before = Some(at);
                found = found.or(dating.take_nonsense());
                (now - at).as_millis() as u64
            })
            .collect();
        (ages, found)
    }

    fn of(n: u64, stamp: impl Fn(i64) -> i64) -> Vec<Option<i64>> {
        (0..n as i64).map(|i| Some(stamp(i))).collect()
    }

    #[test]
    fn sensible_stamps_are_followed_with_jitter_and_after_a_stall() {
        let stamps = of(500, |i| 40 * i - 30 + [0, 9, 0, -9][i as usize % 4]);
        let (got, found) = ages(40, &stamps);
        assert_eq!(found, None);
        assert_eq!(got[100..104], [30, 21, 30, 39]);
        // Four buffers of before a stall of 3 s come at once.
        let stalled = of(100, |i| match i {
            50..54 => 40 * i - 3000,
            _ => 40 * i - 30,
        });
        let (got, found) = ages(40, &[&stalled[..50], &stalled[54..]].concat());
        assert_eq!((found, got[60]), (None, 0));
    }

    #[test]
    fn what_makes_no_sense_gives_way_to_the_arrival() {
        let hour = 3_600_000;
        for (what, stamps, nonsense) in [
            ("constant", of(300, |_| -5), Nonsense::Still),
            ("pairs", of(300, |i| 80 * (i / 2) - 5), Nonsense::Still),
            ("zero", of(300, |_| -hour), Nonsense::Zero),
            (
                "back",
                of(300, |i| 40 * i - 5 - 500 * (i % 2)),
                Nonsense::Back,
            ),
            ("counting down", of(300, |i| -40 * i), Nonsense::Back),
            (
                "far ahead",
                of(300, |i| 40 * i + 100 * hour),
                Nonsense::Ahead,
            ),
            (
                "ahead once",
                of(3, |i| 40 * i + (i / 2) * 86_400_000),
                Nonsense::Ahead,
            ),
            ("long past", of(300, |i| 40 * i - 20_000), Nonsense::Old),
            ("slow", of(300, |i| i - 5), Nonsense::Slow),
            ("fast", of(300, |i| 80 * i - 5), Nonsense::Ahead),
            ("none", vec![None; 300], Nonsense::OtherClock),
        ] {
            let (got, found) = ages(40, &stamps);
            assert_eq!(found, Some(nonsense), "{what}");
            // After a few at most.
            let at = 20.min(stamps.len() - 1);
            assert!(got[at..].iter().all(|age| *age == 0), "{what}: {got:?}");
        }
    }

    #[test]
    fn a_stumble_is_forgiven_and_the_more_slowly_the_more_there_are() {
        let stumbles = |at: &[i64]| {
            let stamps = of(2000, |i| 40 * i - 30 - 40 * i64::from(at.contains(&i)));
            ages(40, &stamps).0
        };
        let got = stumbles(&[100]);
        assert_eq!((got[99], got[100], got[150], got[170]), (30, 0, 0, 30));
        let got = stumbles(&[100, 300]);
        assert_eq!((got[299], got[300], got[370], got[450]), (30, 0, 0, 30));
    }
}
