//! What a JPEG may cost before it is decoded.
//!
//! What a picture costs to decode depends on the pixels that its header says it has, not on its bytes: 154 of them can ask for
//! 64 million pixels. Whoever gives camd pictures could stop it with a few. So a JPEG is refused before anything of it
//! is decoded if
//!
//! - it has more pixels than [`DECODED_PIXELS`], or than [`DECODED_LARGER`] times what the camera is asked for;
//! - it has fewer bits than blocks: each block has a code of one bit at least (ITU-T T.81, F.1.2, G.1.2), so most of it is
//!   missing;
//! - others decide what comes, over the network or from a program, and their pictures have taken more than
//!   [`DECODE_SHARE`] of the time lately. All of a picture's renditions are made, or none, as far as they do not take
//!   more than [`DECODE_BURST`] together: no viewer's is always the one that is left out.
//!
//! Where cells decode ([`crate::encode::cell`]), what a picture takes is the time until they are done with it: they are not asked, as one
//! that a picture has taken over would say what it likes. One picture more is begun for each cell before that is known.
//!
//! How many scans a progressive JPEG may have depends on its pixels, too (`guard.c`). JPEGs that are passed on untouched cost
//! nothing, whatever they say, and do not come here.

use std::time::{Duration, Instant};

use crate::config::{CameraConfig, SourceKind};
use crate::encode::codec::CodecError;
use crate::limits::{DECODE_BURST, DECODE_SHARE, DECODED_LARGER, DECODED_PIXELS};
use crate::measure::times::Spent;
use crate::picture::frame::{FrameMeta, Picture};

/// Pixels of a block.
const BLOCK: usize = 64;

/// Decides which JPEGs are decoded.
#[derive(Debug)]
pub struct Budget {
    clock: fn() -> Instant,
    /// Pixels of one picture at most.
    most: usize,
    /// Time counts.
    timed: bool,
    /// Time to spend, and time that was spent ahead of it.
    left: Duration,
    debt: Duration,
    /// When these were right.
    at: Option<Instant>,
    /// The picture that was looked at last, whether there was time for it, and what it took.
    sequence: u64,
    admitted: bool,
    taken: Duration,
    /// Pictures that were refused.
    pub refused: u64,
}

impl Budget {
    /// For the pictures of this camera.
    pub fn new(camera: &CameraConfig, clock: fn() -> Instant) -> Self {
        let asked = usize::from(camera.width) * usize::from(camera.height);
        Budget {
            clock,
            most: DECODED_PIXELS.max(DECODED_LARGER * asked),
            timed: match camera.source {
                SourceKind::Pipe | SourceKind::Call | SourceKind::Push | SourceKind::Http => true,
                // The owner's own, at a rate that the owner has chosen.
                SourceKind::V4l2 | SourceKind::Replay | SourceKind::Pattern | SourceKind::QtShm => {
                    false
                }
            },
            left: DECODE_BURST,
            debt: Duration::ZERO,
            at: None,
            sequence: 0,
            admitted: true,
            taken: Duration::ZERO,
            refused: 0,
        }
    }

    /// Takes another configuration over.
    pub fn reconfigure(&mut self, camera: &CameraConfig) {
        *self = Budget {
            refused: self.refused,
            ..Budget::new(camera, self.clock)
        };
    }

    /// Whether a picture may be decoded now. What it takes is then to be told by [`Budget::spend`].
    pub fn admit(&mut self, picture: &Picture<'_>, meta: &FrameMeta) -> Result<(), CodecError> {
        let Picture::Jpeg(jpeg) = picture else {
            return Ok(());
        };
        let pixels = usize::from(meta.width) * usize::from(meta.height);
        if pixels > self.most {
            return Err(CodecError::ManyPixels {
                width: meta.width,
                height: meta.height,
                most: self.most,
            });
        }
        if jpeg.len() * 8 < pixels / BLOCK {
            return Err(CodecError::Truncated);
        }
        if !self.timed {
            return Ok(());
        }
        if self.sequence != meta.sequence {
            self.earn((self.clock)());
            self.sequence = meta.sequence;
            self.admitted = !self.left.is_zero();
            self.taken = Duration::ZERO;
        }
        match self.admitted && self.taken <= DECODE_BURST {
            true => Ok(()),
            false => Err(CodecError::NoTime),
        }
    }

    /// So much was spent on the picture that was admitted last, in vain or not.
    pub fn spend(&mut self, spent: &Spent) {
        self.charge(self.sequence, spent.iter().sum());
    }

    /// So much was spent on the picture with this number, which may be an earlier one.
    pub fn charge(&mut self, sequence: u64, spent: Duration) {
        if sequence == self.sequence {
            self.taken += spent;
        }
        let debt = spent.saturating_sub(self.left);
        self.left = self.left.saturating_sub(spent);
        self.debt += debt;
    }

    fn earn(&mut self, now: Instant) {
        let at = self.at.replace(now).unwrap_or(now);
        let earned = now.saturating_duration_since(at).mul_f64(DECODE_SHARE);
        let rest = earned.saturating_sub(self.debt);
        self.debt = self.debt.saturating_sub(earned);
        self.left = (self.left + rest).min(DECODE_BURST);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::config::demo_config;
    use crate::picture::frame::Orientation;

    thread_local! {
        static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    fn clock() -> Instant {
        NOW.get().expect("the test sets it")
    }

    fn budget(source: SourceKind, width: u16, height: u16) -> Budget {
        let camera = CameraConfig {
            source,
            width,
            height,
            ..demo_config().camera
        };
        NOW.set(Some(Instant::now()));
        Budget::new(&camera, clock)
    }

    fn meta(sequence: u64, width: u16, height: u16) -> FrameMeta {
        FrameMeta {
            sequence,
            captured: clock(),
            wall: Duration::ZERO,
            width,
            height,
            orientation: Orientation::UPRIGHT,
            exif: Orientation::UPRIGHT,
            crop: None,
            live: true,
        }
    }

    #[test]
    fn pixels_are_bounded_by_what_the_camera_is_asked_for() {
        let jpeg = vec![0; 1 << 20];
        for (asked, given, good) in [
            ((640, 480), (1920, 1080), true),
            ((640, 480), (4096, 3072), true),
            ((640, 480), (4096, 3073), false),
            ((640, 480), (8192, 8192), false),
            ((4096, 3072), (8192, 6144), true),
            ((4096, 3072), (8192, 6145), false),
            ((8192, 8192), (8192, 8192), true),
        ] {
            for source in SourceKind::ALL {
                let mut budget = budget(source, asked.0, asked.1);
                let meta = meta(1, given.0, given.1);
                let admitted = budget.admit(&Picture::Jpeg(&jpeg), &meta);
                assert_eq!(admitted.is_ok(), good, "{source:?} {asked:?} {given:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_all_of_a_picture_is_not_begun() {
        let mut budget = budget(SourceKind::V4l2, 640, 480);
        let meta = meta(1, 4096, 3072);
        let least = 4096 * 3072 / 64 / 8;
        let mut admit = |bytes| budget.admit(&Picture::Jpeg(&vec![0; bytes]), &meta);
        assert_eq!(admit(154), Err(CodecError::Truncated));
        assert_eq!(admit(least - 1), Err(CodecError::Truncated));
        assert_eq!(admit(least), Ok(()));
    }

    #[test]
    fn others_pictures_get_a_share_of_the_time() {
        let jpeg = [0; 10_000];
        let picture = Picture::Jpeg(&jpeg);
        // Each takes 100 ms, twice; 20 come in a second, for ten seconds.
        let run = |budget: &mut Budget| {
            let mut spent = Duration::ZERO;
            for sequence in 1..=200 {
                let meta = meta(sequence, 640, 480);
                let both: Vec<_> = (0..2)
                    .map(|_| {
                        let admitted = budget.admit(&picture, &meta);
                        if admitted.is_ok() {
                            let mut took = Spent::default();
                            took[0] = Duration::from_millis(100);
                            budget.spend(&took);
                            spent += took[0];
                        }
                        admitted
                    })
                    .collect();
                assert_eq!(both[0], both[1], "both or none");
                NOW.set(Some(clock() + Duration::from_millis(50)));
            }
            spent
        };
        let spent = run(&mut budget(SourceKind::Push, 640, 480));
        let share = Duration::from_secs(10).mul_f64(DECODE_SHARE);
        assert!(
            share <= spent && spent <= share + 2 * DECODE_BURST,
            "{spent:?}"
        );
        let spent = run(&mut budget(SourceKind::V4l2, 640, 480));
        assert_eq!(spent, Duration::from_secs(40), "the owner's own camera");
    }

    #[test]
    fn one_pictures_renditions_are_bounded_too() {
        let mut budget = budget(SourceKind::Http, 640, 480);
        let (jpeg, meta) = ([0; 10_000], meta(1, 640, 480));
        let mut took = Spent::default();
        took[0] = DECODE_BURST;
        assert_eq!(budget.admit(&Picture::Jpeg(&jpeg), &meta), Ok(()));
        budget.spend(&took);
        assert_eq!(budget.admit(&Picture::Jpeg(&jpeg), &meta), Ok(()));
        budget.spend(&took);
        let third = budget.admit(&Picture::Jpeg(&jpeg), &meta);
        assert_eq!(third, Err(CodecError::NoTime));
    }
}
