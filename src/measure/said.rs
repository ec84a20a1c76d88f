//! What the log has already: a message that comes again is said again only if that is news.

use std::time::{Duration, Instant};

/// Messages that are remembered; ffmpeg's greeting alone has 29 lines. The one that was not heard for longest makes way.
const MESSAGES: usize = 128;
/// A message that comes and goes is said again after this time, however often it was said.
const AGAIN: Duration = Duration::from_secs(3600);

/// A number for a text: FNV-1a. Two texts with the same number would be taken for one, which is as good as impossible.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[derive(Clone, Copy, Debug)]
struct Message {
    hash: u64,
    /// The last round in which it came.
    round: u64,
    /// How often it came in all.
    times: u64,
    said: Instant,
}

/// Remembers messages by rounds: the openings of a camera, the runs of a program. What came in the round before is no news.
/// What comes several times in one round, or comes and goes from round to round, is said at the first, second, fourth,
/// eighth… time, and again after an hour.
#[derive(Clone, Debug, Default)]
pub struct Said {
    round: u64,
    messages: heapless::Vec<Message, MESSAGES>,
}

impl Said {
    /// Nothing is said yet.
    pub const fn new() -> Self {
        Said {
            round: 0,
            messages: heapless::Vec::new(),
        }
    }

    /// A new round begins.
    pub fn begin(&mut self) {
        self.round += 1;
    }

    /// A message comes. If it is to be said: for which time it comes.
    pub fn hear(&mut self, text: &[u8], now: Instant) -> Option<u64> {
        self.note(hash(text.iter().copied()), now)
    }

    /// The same for a program's line, in which numbers do not count: times, addresses, sizes.
    pub fn hear_line(&mut self, line: &[u8], now: Instant) -> Option<u64> {
        fn digits(byte: &u8) -> bool {
            byte.is_ascii_digit() || b".:,-".contains(byte)
        }
        let words = line.split(|byte| byte.is_ascii_whitespace() || b"[]()=".contains(byte));
        // A hexadecimal number is left out as a whole; of other words stays what is left without their numbers.
        let words = words.filter(|word| !word.starts_with(b"0x") && !word.iter().all(digits));
        let plain = words.flat_map(|word| {
            let rest = word.iter().filter(|byte| !digits(byte));
            rest.copied().chain([b' '])
        });
        self.note(hash(plain), now)
    }

    fn note(&mut self, hash: u64, now: Instant) -> Option<u64> {
        let round = self.round;
        let known = self.messages.iter_mut().find(|known| known.hash == hash);
        let Some(known) = known else {
            let new = Message {
                hash,
                round,
                times: 1,
                said: now,
            };
            if let Err(new) = self.messages.push(new) {
                let oldest = self.messages.iter_mut().min_by_key(|known| known.round);
                *oldest.expect("it is full") = new;
            }
            return Some(1);
        };
        let is_unchanged = known.round + 1 == round;
        known.round = round;
        known.times += 1;
        let is_due =
            known.times.is_power_of_two() || now.saturating_duration_since(known.said) >= AGAIN;
        if is_unchanged || !is_due {
            return None;
        }
        known.said = now;
        Some(known.times)
    }
}

/// How often something happened, to be put behind what it is; nothing for the first time.
pub struct Times(pub u64);

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            times => write!(f, " ({times} times so far)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_the_round_before_is_no_news() {
        let (mut said, now) = (Said::new(), Instant::now());
        assert_eq!(said.hear(b"a", now), Some(1));
        for _ in 0..1000 {
            said.begin();
            assert_eq!(said.hear(b"a", now + 2 * AGAIN), None);
        }
        // Another one is, and so is its end.
        said.begin();
        assert_eq!(said.hear(b"b", now), Some(1));
        said.begin();
        assert!(said.hear(b"a", now + AGAIN).is_some(), "it was away");
        said.begin();
        assert_eq!(said.hear(b"a", now + 3 * AGAIN), None);
    }

    #[test]
    fn what_comes_and_goes_is_counted() {
        let (mut said, now) = (Said::new(), Instant::now());
        let mut times = Vec::new();
        for round in 0..200 {
            said.begin();
            if round % 2 == 0 {
                times.extend(said.hear(b"a", now));
            }
        }
        assert_eq!(times, [1, 2, 4, 8, 16, 32, 64]);
        said.begin();
        said.begin();
        assert_eq!(said.hear(b"a", now + AGAIN), Some(101));
        // The same within one round.
        let mut said = Said::new();
        let times: Vec<_> = (0..20).filter_map(|_| said.hear(b"a", now)).collect();
        assert_eq!(times, [1, 2, 4, 8, 16]);
    }

    #[test]
    fn numbers_make_no_other_line() {
        let (mut said, now) = (Said::new(), Instant::now());
        for (line, same) in [
            (
                "[mjpeg @ 0x55a1bc] overread 8",
                "[mjpeg @ 0x7ffe10] overread 12",
            ),
            (
                "frame=  12 fps=25 time=00:00:01.20",
                "frame= 512 fps=24.9 time=00:01:01.44",
            ),
            ("video:10kB audio:0kB", "video:99kB audio:7kB"),
        ] {
            assert_eq!(said.hear_line(line.as_bytes(), now), Some(1), "{line}");
            said.begin();
            assert_eq!(said.hear_line(same.as_bytes(), now), None, "{same}");
            said.begin();
            said.begin();
        }
        assert_eq!(said.hear_line(b"disk full", now), Some(1));
        assert_eq!(said.hear_line(b"disk empty", now), Some(1));
        // To camd's own words numbers matter.
        assert_eq!(said.hear(b"640x480 instead of 800x600", now), Some(1));
        assert_eq!(said.hear(b"320x240 instead of 800x600", now), Some(1));
    }

    #[test]
    fn a_flood_of_different_messages_takes_no_more_memory() {
        let (mut said, now) = (Said::new(), Instant::now());
        for number in 0..10_000_u32 {
            said.begin();
            assert_eq!(said.hear(&number.to_le_bytes(), now), Some(1));
        }
        assert_eq!(said.hear(&9_999_u32.to_le_bytes(), now), Some(2));
    }
}
