//! Fewer pictures than the camera gives: which ones to keep.

use std::time::{Duration, Instant};

/// Picks pictures by the time they were taken so that, on average, `fps` of them remain.
///
/// Each picture kept moves the due time on by one interval, whenever it came itself: 30 become exactly 25 or 20. A
/// picture may come a quarter of an interval early, so that a camera's jitter costs none. Where the camera runs only
/// slightly faster than `fps` (its crystal's error; 30 for 29.97), taking one picture out every few seconds would be a
/// visible hiccup for nothing: the due time follows early pictures by a sixteenth, which absorbs up to 1.5 %.
#[derive(Debug)]
pub struct Decimator {
    interval: Duration,
    /// So much before it is due a picture may come.
    early: Duration,
    due: Option<Instant>,
}

impl Decimator {
    /// # Panics
    /// If `fps` is 0: the configuration does not allow it.
    pub fn new(fps: u16) -> Self {
        assert!(fps > 0, "a rate of 0 fps");
        let interval = Duration::from_secs(1) / u32::from(fps);
        Decimator {
            interval,
            early: interval / 4,
            due: None,
        }
    }

    /// The rate that remains at most.
    pub fn fps(&self) -> f64 {
        self.interval.as_secs_f64().recip()
    }

    /// Whether the picture taken at `at` is wanted. A good one that is kept is then reported to [`Decimator::kept`].
    pub fn wants(&self, at: Instant) -> bool {
        self.due.is_none_or(|due| due <= at + self.early)
    }

    /// The picture taken at `at` was wanted and is good: the next one is due an interval later.
    pub fn kept(&mut self, at: Instant) {
        self.due = Some(match self.due {
            // In time, or late.
            Some(due) if due <= at && at <= due + self.interval => due + self.interval,
            Some(due) if at < due => due + self.interval - (due - at) / 16,
            // The first, or after a gap: no catching up.
            _ => at + self.interval,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of `n` pictures at `camera` fps remain at `fps`; `jitter` in ms is applied alternately.
    fn keep(camera: f64, fps: u16, n: u32, jitter: f64) -> Vec<u32> {
        let start = Instant::now() + Duration::from_secs(1);
        let mut decimator = Decimator::new(fps);
        (0..n)
            .filter(|&i| {
                let sway = if i % 2 == 0 { jitter } else { -jitter } / 1000.0;
                let at = start + Duration::from_secs_f64(1.0 + f64::from(i) / camera + sway);
                let wanted = decimator.wants(at);
                if wanted {
                    decimator.kept(at);
                }
                wanted
            })
            .collect()
    }

    #[test]
    fn a_camera_at_the_wanted_rate_loses_nothing_to_jitter_or_to_its_crystal() {
        assert_eq!(keep(30.0, 30, 3000, 0.0).len(), 3000);
        assert_eq!(keep(30.0, 30, 3000, 3.0).len(), 3000);
        assert_eq!(keep(30.3, 30, 3000, 0.0).len(), 3000);
        assert_eq!(keep(15.0, 30, 3000, 0.0).len(), 3000);
    }

    #[test]
    fn half_the_rate_is_every_other_picture_whatever_the_jitter() {
        let every_other: Vec<u32> = (0..600).step_by(2).collect();
        assert_eq!(keep(30.0, 15, 600, 0.0), every_other);
        assert_eq!(keep(30.0, 15, 600, 5.0), every_other);
    }

    #[test]
    fn odd_ratios_are_met_on_average_without_bunching() {
        for (camera, fps) in [(30.0, 20), (30.0, 25), (60.0, 24), (25.0, 10), (120.0, 7)] {
            let kept = keep(camera, fps, 6000, 0.0);
            let rate = kept.len() as f64 / 6000.0 * camera;
            assert!(
                (rate - f64::from(fps)).abs() < 0.04 * f64::from(fps),
                "{rate} of {fps} from {camera}"
            );
            let gaps: Vec<u32> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
            // The first may be a quarter of an interval short.
            let gaps = &gaps[1..];
            let spread = gaps.iter().max().unwrap() - gaps.iter().min().unwrap();
            assert!(spread <= 1, "gaps {gaps:?} at {fps} from {camera}");
        }
    }

    #[test]
    fn after_a_gap_it_does_not_catch_up() {
        let start = Instant::now();
        let mut decimator = Decimator::new(10);
        decimator.kept(start);
        let late = start + Duration::from_secs(7);
        assert!(decimator.wants(late));
        decimator.kept(late);
        assert!(!decimator.wants(late + Duration::from_millis(33)));
        assert!(decimator.wants(late + Duration::from_millis(99)));
    }
}
