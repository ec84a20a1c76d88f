//! The ladder of smaller and smaller JPEGs among which an adaptive listener's clients are spread: first less quality, then
//! less size.

use crate::limits::RUNGS;

/// How a rung's picture differs from the listener's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// As [`crate::picture::frame::Bounds::eighths`].
    pub eighths: u8,
}

/// Rung 0 is the listener's own picture, the others are made of it. Quality is never raised; steps that would change
/// nothing, because the listener's own quality is low already, are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// Of rung 0.
    quality: u8,
}

impl Ladder {
    const STEPS: [Step; RUNGS - 1] = [
        step(60, 8),
        step(40, 8),
        step(40, 6),
        step(40, 4),
        step(40, 3),
        step(30, 2),
    ];

    /// `quality`: of the listener's own picture; for a camera's own JPEGs, whose quality nobody knows, what a raw picture
    /// would get.
    pub const fn new(quality: u8) -> Self {
        Ladder { quality }
    }

    /// How many of the first steps change nothing.
    fn skipped(self) -> usize {
        let same = |step: &&Step| step.eighths == 8 && step.quality >= self.quality;
        Self::STEPS.iter().take_while(same).count()
    }

    /// The rung at the lower end.
    pub fn lowest(self) -> u8 {
        (RUNGS - 1 - self.skipped()) as u8
    }

    /// # Panics
    /// If there is no such rung.
    pub fn step(self, rung: u8) -> Step {
        match usize::from(rung).checked_sub(1) {
            None => step(self.quality, 8),
            Some(index) => {
                let Step { quality, eighths } = Self::STEPS[index + self.skipped()];
                step(quality.min(self.quality), eighths)
            }
        }
    }

    /// How large the pictures of a rung are, as a multiple of the size at quality 80 and 8/8.
    ///
    /// The geometric mean of what this codec made of eight photographs (a person, an animal, things, machines; 370 to 741
    /// pixels wide; from scikit-image's samples and the Embedded Rust Book). Between two qualities of the table a straight
    /// line will do; its first value is a guess. Each photograph is within a quarter of this, but for one of 9 KB, much of
    /// which are the JPEG's tables. Whether colours are in 4:2:0 or 4:2:2 makes a difference of a tenth, which is left out.
    pub fn size(self, rung: u8) -> f64 {
        const BY_TENS: [f64; 11] = [
            0.15, 0.25, 0.36, 0.45, 0.53, 0.60, 0.68, 0.80, 1.00, 1.46, 3.81,
        ];
        /// Of the sizes by eighths, from 1/8.
        const BY_EIGHTHS: [f64; 8] = [0.06, 0.12, 0.22, 0.33, 0.47, 0.62, 0.79, 1.00];
        let Step { quality, eighths } = self.step(rung);
        let (ten, part) = (usize::from(quality / 10), f64::from(quality % 10) / 10.0);
        let next = BY_TENS[(ten + 1).min(10)];
        let by_quality = BY_TENS[ten] + (next - BY_TENS[ten]) * part;
        by_quality * BY_EIGHTHS[usize::from(eighths) - 1]
    }
}

const fn step(quality: u8, eighths: u8) -> Step {
    Step { quality, eighths }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ladders_go_down_and_never_up_in_quality() {
        let all = |quality| {
            let ladder = Ladder::new(quality);
            (0..=ladder.lowest()).map(move |rung| ladder.step(rung))
        };
        assert!(all(80).eq([
            step(80, 8),
            step(60, 8),
            step(40, 8),
            step(40, 6),
            step(40, 4),
            step(40, 3),
            step(30, 2)
        ]));
        assert!(all(50).eq([
            step(50, 8),
            step(40, 8),
            step(40, 6),
            step(40, 4),
            step(40, 3),
            step(30, 2)
        ]));
        assert!(all(20).eq([
            step(20, 8),
            step(20, 6),
            step(20, 4),
            step(20, 3),
            step(20, 2)
        ]));
        for quality in 1..=100 {
            let ladder = Ladder::new(quality);
            for rung in 1..=ladder.lowest() {
                let (above, this) = (ladder.size(rung - 1), ladder.size(rung));
                assert!(0.0 < this && this < above, "rung {rung} of {quality}");
            }
        }
    }
}
