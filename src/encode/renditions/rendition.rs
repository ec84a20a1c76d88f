//! The JPEGs of one quality, sampling and size.

use super::profile::Profile;
use crate::encode::cell::wire::Coding;
use crate::measure::times::Times;
use crate::picture::frame::{Bounds, Chroma, FrameBuf, FrameMeta, Size};

/// The JPEGs of one quality, sampling and size.
pub struct Rendition {
    pub(super) quality: u8,
    pub(super) chroma: Chroma,
    pub(super) bounds: Bounds,
    /// Of which frame.
    pub(super) meta: Option<FrameMeta>,
    /// Empty if that frame could not be encoded.
    pub(super) jpeg: FrameBuf,
    /// It has just come from the device or a cell: it goes to those who wait, even though there may be a newer frame by now.
    /// Later it would be an old picture.
    pub(super) fresh: bool,
    /// When the last one was begun in a cell, among all jobs.
    pub(super) begun: u64,
    /// The last that was made; `None` before the first.
    pub(super) size: Option<Size>,
    pub(super) times: Times,
}

impl Rendition {
    /// JPEG quality, 1 to 100.
    pub fn quality(&self) -> u8 {
        self.quality
    }

    /// How fine its colours are at most.
    pub fn chroma(&self) -> Chroma {
        self.chroma
    }

    /// Of the newest picture; `None` before the first.
    pub fn size(&self) -> Option<Size> {
        self.size
    }

    /// What its pictures took to make, since the start or the last reload.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// The picture that it is made of, and its bytes; `None` if there is none, or it could not be encoded.
    pub(super) fn picture(&self) -> Option<(&FrameMeta, &[u8])> {
        let meta = self.meta.as_ref()?;
        (!self.jpeg.is_empty()).then(|| (meta, self.jpeg.as_slice()))
    }

    /// One for which this is: encoded at its quality.
    pub(super) fn profile(&self) -> Profile {
        Profile {
            quality: Some(self.quality),
            raw_quality: self.quality,
            asked_chroma: Some(self.chroma),
            bounds: self.bounds,
        }
    }

    /// How it is encoded.
    pub(super) fn coding(&self) -> Coding {
        Coding {
            quality: self.quality,
            chroma: self.chroma,
            bounds: self.bounds,
        }
    }

    /// Whether this is what a listener with that profile gets.
    pub fn is_for(&self, profile: Profile) -> bool {
        (self.quality, self.chroma, self.bounds)
            == (profile.raw_quality, profile.chroma(), profile.bounds)
    }
}
