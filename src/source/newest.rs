//! The newest picture of a source that is sent one JPEG after the other.

use std::time::{Duration, Instant};

use super::interface::Captured;
use crate::measure::decimate::Decimator;
use crate::picture::frame::{Frame, FrameBuf, FrameMeta, Picture};
use crate::picture::jpeg;
use crate::picture::whole::Examiner;

/// Holds one picture, in a buffer that is taken once.
pub(super) struct Newest {
    examiner: Examiner,
    picture: FrameBuf,
    meta: Option<FrameMeta>,
    fps: u16,
    decimator: Decimator,
}

impl Newest {
    /// # Panics
    /// If `fps` is 0: the configuration does not allow it.
    pub(super) fn new(frame_bytes: usize, fps: u16) -> Newest {
        Newest {
            examiner: Examiner::new(),
            picture: FrameBuf::new(frame_bytes),
            meta: None,
            fps,
            decimator: Decimator::new(fps),
        }
    }

    /// Bytes of the largest picture that it can hold.
    pub(super) fn capacity(&self) -> usize {
        self.picture.capacity()
    }

    /// From now on so many of them a second at most.
    pub(super) fn set_pace(&mut self, fps: u16) {
        self.decimator = Decimator::new(fps);
    }

    /// As [`Newest::take_in_of_age`], of a picture that is taken as it comes.
    pub(super) fn take_in(&mut self, now: Instant, jpeg: &[u8], captured: &mut Captured) -> bool {
        self.take_in_of_age(Duration::ZERO, now, jpeg, captured)
    }

    /// Takes in a picture of at most [`Newest::capacity`] bytes that was taken so long ago, unless it comes too early for the wanted rate, and notes
    /// what became of it in `captured`, which has what came before it in the same [`super::Source::capture`]. False: it is
    /// damaged.
    pub(super) fn take_in_of_age(
        &mut self,
        age: Duration,
        now: Instant,
        jpeg: &[u8],
        captured: &mut Captured,
    ) -> bool {
        let wanted = self.decimator.wants(now);
        if wanted || captured.fresh {
            match self.place(age, now, jpeg) {
                Ok(true) => {}
                // The other field.
                Ok(false) => return true,
                Err(defect) => {
                    log::debug!("camera: bad picture: {defect}");
                    captured.bad += 1;
                    return false;
                }
            }
            if wanted {
                self.decimator.kept(now);
            }
            captured.dropped += u32::from(captured.fresh);
            captured.fresh = true;
        } else {
            self.examiner.pass_over(jpeg);
        }
        true
    }

    /// False: it is not to be shown.
    fn place(&mut self, age: Duration, now: Instant, jpeg: &[u8]) -> Result<bool, jpeg::Defect> {
        let Some(found) = self.examiner.examine(jpeg)? else {
            return Ok(false);
        };
        let whole = &jpeg[found.range()];
        match found.tables {
            Some(at) => jpeg::insert_tables(whole, at, &mut self.picture)?,
            None => self.picture.copy_tail(whole, 0),
        }
        let meta = FrameMeta::taken(now, found.width, found.height);
        self.meta = Some(FrameMeta {
            captured: now.checked_sub(age).unwrap_or(now),
            wall: meta.wall.saturating_sub(age),
            exif: found.exif(jpeg),
            ..meta
        });
        Ok(true)
    }

    /// Forgets it.
    pub(super) fn clear(&mut self) {
        self.picture.clear();
        self.meta = None;
        self.examiner.reset();
        self.decimator = Decimator::new(self.fps);
    }

    pub(super) fn frame(&self) -> Option<Frame<'_>> {
        Some(Frame {
            meta: self.meta?,
            picture: Picture::Jpeg(self.picture.as_slice()),
        })
    }
}

/// A JPEG of 64x48 pixels of so many bytes, or a little more; `mark` tells it from others.
#[cfg(test)]
pub(super) fn jpeg_of(mark: u8, bytes: usize) -> Vec<u8> {
    let mut jpeg = vec![0xFF, 0xD8, 0xFF, 0xC4, 0x00, 0x03, 0x00];
    jpeg.extend([
        0xFF, 0xC0, 0x00, 0x0B, 0x08, 0x00, 0x30, 0x00, 0x40, 0x01, 0x01, 0x11, 0x00,
    ]);
    jpeg.extend([
        0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3F, 0x00, mark,
    ]);
    jpeg.extend(std::iter::repeat_n(
        mark,
        bytes.saturating_sub(jpeg.len() + 2),
    ));
    jpeg.extend([0xFF, 0xD9]);
    jpeg
}

/// A whole JPEG of 64x48 pixels, all of them grey, that relies on the standard Huffman tables and does not carry them.
#[cfg(test)]
pub(super) fn bare_jpeg() -> Vec<u8> {
    let mut jpeg = vec![0xFF, 0xD8];
    jpeg.extend([
        0xFF, 0xC0, 0x00, 0x0B, 0x08, 0x00, 0x30, 0x00, 0x40, 0x01, 0x01, 0x11, 0x00,
    ]);
    jpeg.extend([0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3F, 0x00]);
    // 48 blocks of 6 bits each: no difference (00), no more coefficients (1010).
    jpeg.extend([0x28, 0xA2, 0x8A].repeat(12));
    jpeg.extend([0xFF, 0xD9]);
    jpeg
}
