//! Events per second, over the last second or so.

use std::time::{Duration, Instant};

/// A window is closed by the first event after this time, so a rate is the mean over at least as long.
const WINDOW: Duration = Duration::from_secs(1);
/// Without an event for this long, the rate of before says nothing any more.
const STALE: Duration = Duration::from_secs(5);

/// Counts events and says how many came per second. Costs one comparison an event, and no timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// When the current window may be closed, and its count. The event that opens a window is counted in the one before.
    window: Option<(Instant, u32)>,
    last_event: Option<Instant>,
    per_second: f32,
}

impl Rate {
    /// Counts an event.
    pub fn tick(&mut self, now: Instant) {
        match &mut self.window {
            Some((full, count)) if now < *full => {
                *count += 1;
                self.last_event = Some(now);
            }
            _ => self.turn_over(now),
        }
    }

    /// A window is full, or the first one begins. Once a second: [`Rate::tick`] comes with each picture of each client.
    #[inline(never)]
    fn turn_over(&mut self, now: Instant) {
        let last = self.last_event.replace(now);
        let Some((full, count)) = &mut self.window else {
            self.window = Some((now + WINDOW, 0));
            return;
        };
        *count += 1;
        let length = WINDOW + now.saturating_duration_since(*full);
        let is_stale = last.is_some_and(|last| now.saturating_duration_since(last) > STALE);
        self.per_second = if is_stale {
            0.0
        } else {
            *count as f32 / length.as_secs_f32()
        };
        self.window = Some((now + WINDOW, 0));
    }

    /// 0 until the first window is full, and when nothing has come for a while.
    pub fn per_second(&self, now: Instant) -> f32 {
        match self.last_event {
            Some(last) if now.saturating_duration_since(last) <= STALE => {
                (self.per_second * 100.0).round() / 100.0
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_over_a_window() {
        let start = Instant::now();
        let mut rate = Rate::default();
        for n in 0..=60 {
            rate.tick(start + Duration::from_millis(40) * n);
        }
        let end = start + Duration::from_millis(2400);
        assert_eq!(rate.per_second(end), 25.0);
        for n in 1..=20 {
            rate.tick(end + Duration::from_millis(100) * n);
        }
        let end = end + Duration::from_secs(2);
        assert_eq!(
            rate.per_second(end),
            10.0,
            "the last window counts, not all of them"
        );
        assert_eq!(
            rate.per_second(end + STALE + WINDOW),
            0.0,
            "nothing came any more"
        );
        rate.tick(end + STALE + WINDOW);
        assert_eq!(
            rate.per_second(end + STALE + WINDOW),
            0.0,
            "a pause is not averaged in"
        );
    }
}
