//! Limits to how often something may happen: some times at once, and then once in each interval.
//!
//! A bucket is kept as the time at which it will be empty again (the virtual scheduling algorithm of ITU-T I.371, "GCRA").

use std::time::{Duration, Instant};

/// Lets some through at once, and then one in each interval.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    most: u32,
    interval: Duration,
    /// `None`: nothing was taken yet.
    empty: Option<Instant>,
}

impl Bucket {
    /// One from which nothing was taken.
    pub const fn new(most: u32, interval: Duration) -> Self {
        Bucket {
            most,
            interval,
            empty: None,
        }
    }

    /// How much of what it lets through at once is used up: an interval for each.
    pub fn used(&self, now: Instant) -> Duration {
        let left = |empty: Instant| empty.saturating_duration_since(now);
        self.empty.map_or(Duration::ZERO, left)
    }

    /// How long it is until one may go through.
    pub fn wait(&self, now: Instant) -> Duration {
        let used = self.used(now) + self.interval;
        used.saturating_sub(self.interval * self.most)
    }

    /// One is to go through. True: it may.
    pub fn take(&mut self, now: Instant) -> bool {
        let may = self.wait(now).is_zero();
        if may {
            self.empty = Some(now + self.used(now) + self.interval);
        }
        may
    }
}

/// A bucket for each of those that have taken something lately. Of fixed size: the one that has used up least makes way,
/// which loses least by being forgotten.
#[derive(Debug)]
pub struct Buckets<K, const N: usize> {
    fresh: Bucket,
    known: heapless::Vec<(K, Bucket), N>,
}

impl<K: Copy + Eq, const N: usize> Buckets<K, N> {
    /// Nobody has taken anything.
    pub const fn new(most: u32, interval: Duration) -> Self {
        Buckets {
            fresh: Bucket::new(most, interval),
            known: heapless::Vec::new(),
        }
    }

    /// That of one of them.
    pub fn of(&self, key: K) -> Bucket {
        let found = self.known.iter().find(|(of, _)| *of == key);
        found.map_or(self.fresh, |(_, bucket)| *bucket)
    }

    /// One of theirs is to go through. True: it may.
    pub fn take(&mut self, key: K, now: Instant) -> bool {
        if let Some((_, bucket)) = self.known.iter_mut().find(|(of, _)| *of == key) {
            return bucket.take(now);
        }
        let mut bucket = self.fresh;
        let may = bucket.take(now);
        if let Err(new) = self.known.push((key, bucket)) {
            let all = self.known.iter_mut();
            let least = all.min_by_key(|(_, bucket)| bucket.used(now));
            *least.expect("it is full") = new;
        }
        may
    }

    /// Forgets one of them.
    pub fn forget(&mut self, key: K) {
        self.known.retain(|(of, _)| *of != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_some_through_and_then_one_in_each_interval() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let mut bucket = Bucket::new(3, second);
        let taken = |bucket: &mut Bucket, ms| {
            let now = start + Duration::from_millis(ms);
            (0..10).filter(|_| bucket.take(now)).count()
        };
        let mut times = Vec::new();
        for ms in [
            0, 500, 999, 1000, 1900, 2000, 3999, 4000, 60_000, 60_999, 61_000,
        ] {
            times.push(taken(&mut bucket, ms));
        }
        assert_eq!(times, [3, 0, 0, 1, 0, 1, 1, 1, 3, 0, 1]);
    }

    #[test]
    fn each_has_a_bucket_and_the_least_used_makes_way() {
        let (second, now) = (Duration::from_secs(1), Instant::now());
        let mut buckets = Buckets::<u32, 2>::new(2, second);
        let taken =
            |buckets: &mut Buckets<u32, 2>, key| (0..10).filter(|_| buckets.take(key, now)).count();
        assert_eq!(taken(&mut buckets, 1), 2);
        assert!(buckets.take(2, now));
        assert_eq!(buckets.of(2).wait(now), Duration::ZERO);
        assert_eq!(buckets.of(1).wait(now), second);
        // 2 has used one of two.
        assert!(buckets.take(3, now));
        assert_eq!(taken(&mut buckets, 1), 0);
        assert_eq!(buckets.of(2).used(now), Duration::ZERO);
        buckets.forget(1);
        assert_eq!(taken(&mut buckets, 1), 2);
    }
}
