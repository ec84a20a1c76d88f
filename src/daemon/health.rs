//! Whether the watchdogs are fed: only while camd and its camera are well.
//!
//! The watchdogs themselves notice when the event loop hangs, because then nothing feeds them. What is decided here is
//! the other half: whether pictures arrive for the clients that want them. Only faults count that a restart of camd or of
//! the board may mend ([`Source::may_hang`]). An unplugged camera and a silent sender elsewhere do not.
//!
//! [`Source::may_hang`]: crate::source::Source::may_hang

use std::time::Instant;

use crate::limits::HUNG;

/// How it looks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// Clients that want pictures.
    pub viewers: usize,
    /// When a client was last sent away without a picture: one that asks for a snapshot does not stay.
    pub sent_away: Option<Instant>,
    /// Whether it is the source's own fault if no picture comes.
    pub may_hang: bool,
    /// When the newest picture came in.
    pub picture: Option<Instant>,
}

/// Remembers since when pictures are missing.
#[derive(Debug, Default)]
pub struct Health {
    /// From when on a picture is due; `None` while none is.
    since: Option<Instant>,
    hung: bool,
}

/// What a look has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has hung for [`HUNG`].
    Hung,
    /// It does no longer.
    Well,
}

impl Health {
    /// To be called in each turn of the event loop. No time passes between two turns that it would have to know of.
    pub fn look(&mut self, sight: &Sight, now: Instant) -> Option<Change> {
        let asked = |at| now.saturating_duration_since(at) < HUNG;
        let wanted = sight.viewers > 0 || sight.sent_away.is_some_and(asked);
        self.since = match self.since {
            _ if !wanted || !sight.may_hang => None,
            None => Some(now),
            since => since.max(sight.picture),
        };
        let hung = self
            .since
            .is_some_and(|since| now.saturating_duration_since(since) >= HUNG);
        let was = std::mem::replace(&mut self.hung, hung);
        match (was, hung) {
            (false, true) => Some(Change::Hung),
            (true, false) => Some(Change::Well),
            _ => None,
        }
    }

    /// Whether the camera hangs, as [`Health`] saw it last.
    pub fn is_hung(&self) -> bool {
        self.hung
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WATCHED: Sight = Sight {
        viewers: 1,
        sent_away: None,
        may_hang: true,
        picture: None,
    };

    /// Looks every second from `from` to `to`, both included; what changed, and when.
    fn watch(
        health: &mut Health,
        start: Instant,
        seconds: std::ops::RangeInclusive<u32>,
        sight: impl Fn(u32) -> Sight,
    ) -> Vec<(u32, Change)> {
        seconds
            .filter_map(|second| {
                let change = health.look(&sight(second), start + second * SECOND);
                change.map(|change| (second, change))
            })
            .collect()
    }

    fn secs() -> u32 {
        HUNG.as_secs() as u32
    }

    #[test]
    fn a_camera_that_gives_nothing_is_hung_after_its_time_and_well_with_the_next_picture() {
        let (mut health, start) = (Health::default(), Instant::now());
        let changes = watch(&mut health, start, 0..=3 * secs(), |second| Sight {
            // Two pictures, one of them late.
            picture: [2 * secs(), 10]
                .into_iter()
                .find(|&at| at <= second)
                .map(|at| start + at * SECOND),
            ..WATCHED
        });
        let expected = [
            (10 + secs(), Change::Hung),
            (2 * secs(), Change::Well),
            (3 * secs(), Change::Hung),
        ];
        assert_eq!(changes, expected);
        assert!(health.is_hung());
    }

    #[test]
    fn the_time_begins_with_the_viewer_however_old_the_last_picture_is() {
        let (mut health, start) = (Health::default(), Instant::now());
        let changes = watch(&mut health, start, 0..=200 + secs(), |second| Sight {
            viewers: usize::from(second >= 200),
            picture: Some(start),
            ..WATCHED
        });
        assert_eq!(changes, [(200 + secs(), Change::Hung)]);
    }

    #[test]
    fn without_viewers_it_is_well_at_once_and_the_next_one_has_its_whole_time() {
        let (mut health, start) = (Health::default(), Instant::now());
        let changes = watch(&mut health, start, 0..=3 * secs(), |second| Sight {
            viewers: usize::from(second != 70 && second != 72),
            ..WATCHED
        });
        let expected = [
            (secs(), Change::Hung),
            (70, Change::Well),
            (73 + secs(), Change::Hung),
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn an_unplugged_camera_is_no_reason_and_a_new_one_has_its_whole_time() {
        let (mut health, start) = (Health::default(), Instant::now());
        let changes = watch(&mut health, start, 0..=1000, |second| Sight {
            may_hang: !(50..500).contains(&second),
            ..WATCHED
        });
        assert_eq!(changes, [(500 + secs(), Change::Hung)]);
        // Once it is pulled out, that is the trouble.
        let away = Sight {
            may_hang: false,
            ..WATCHED
        };
        let change = health.look(&away, start + 1001 * SECOND);
        assert_eq!(change, Some(Change::Well));
    }

    #[test]
    fn who_asks_again_and_again_for_a_snapshot_watches_too() {
        let (mut health, start) = (Health::default(), Instant::now());
        // Every 45 s, six times.
        let last = 5 * 45;
        let changes = watch(&mut health, start, 0..=1000, |second| Sight {
            viewers: 0,
            sent_away: Some(start + second.min(last) / 45 * 45 * SECOND),
            ..WATCHED
        });
        let expected = [(secs(), Change::Hung), (last + secs(), Change::Well)];
        assert_eq!(changes, expected);
        // One who asks once and goes is not enough.
        let once = Sight {
            viewers: 0,
            sent_away: Some(start),
            ..WATCHED
        };
        let changes = watch(&mut Health::default(), start, 0..=1000, |_| once);
        assert_eq!(changes, []);
    }
}
