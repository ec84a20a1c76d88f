//! The JPEGs that clients get of one frame: each wanted size and quality made once, and only when somebody wants it.

use log::warn;

use crate::codec::{ANY_SIZE, Codec};
use crate::config::ListenerConfig;
use crate::frame::{Frame, FrameBuf, FrameMeta, Picture};
use crate::limits::{DIMENSION_MAX, MAX_PROFILES};
use crate::scale::Size;

/// What a listener wants of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// JPEG quality, 1 to 100. `None`: the camera's own JPEG, untouched.
    pub quality: Option<u8>,
    /// The quality where there is no JPEG to leave untouched.
    pub raw_quality: u8,
    /// What the picture is to fit ([`Size::fit`]). `None`: the camera's own size.
    pub bounds: Option<Size>,
}

impl Profile {
    pub fn of(listener: &ListenerConfig) -> Self {
        Profile {
            quality: listener.quality,
            raw_quality: listener
                .quality
                .unwrap_or(listener.protocol.default_quality()),
            bounds: match (listener.width, listener.height) {
                (None, None) => None,
                (width, height) => Some(Size {
                    width: width.unwrap_or(DIMENSION_MAX),
                    height: height.unwrap_or(DIMENSION_MAX),
                }),
            },
        }
    }

    /// Whether a picture of `meta` would become smaller.
    fn shrinks(&self, meta: &FrameMeta) -> bool {
        let size = Size {
            width: meta.width,
            height: meta.height,
        };
        self.bounds.is_some_and(|bounds| size.fit(bounds) != size)
    }
}

struct Rendition {
    quality: u8,
    bounds: Option<Size>,
    /// Of which frame; 0 is none.
    sequence: u64,
    /// Empty if that frame could not be encoded.
    jpeg: FrameBuf,
}

impl Rendition {
    fn is_for(&self, profile: Profile) -> bool {
        (self.quality, self.bounds) == (profile.raw_quality, profile.bounds)
    }
}

/// Encodes frames for [`Profile`]s, into buffers taken at start.
pub struct Renditions {
    codec: Codec,
    made: heapless::Vec<Rendition, MAX_PROFILES>,
    /// Frames that could not be encoded (damaged JPEGs, or larger than `frame_bytes` at that quality).
    pub failed: u64,
}

impl Renditions {
    /// Room for the profiles of these listeners.
    ///
    /// # Panics
    /// If they name more than [`MAX_PROFILES`] pairs of size and quality: the configuration is checked for that.
    pub fn new(listeners: &[ListenerConfig], frame_bytes: usize) -> Self {
        Renditions::for_profiles(listeners.iter().map(Profile::of), frame_bytes)
    }

    fn for_profiles(profiles: impl Iterator<Item = Profile>, frame_bytes: usize) -> Self {
        let mut made = heapless::Vec::new();
        for profile in profiles {
            if !made.iter().any(|r: &Rendition| r.is_for(profile)) {
                let rendition = Rendition {
                    quality: profile.raw_quality,
                    bounds: profile.bounds,
                    sequence: 0,
                    jpeg: FrameBuf::new(frame_bytes),
                };
                assert!(
                    made.push(rendition).is_ok(),
                    "more than {MAX_PROFILES} sizes and qualities in a checked configuration"
                );
            }
        }
        Renditions {
            codec: Codec::new(),
            made,
            failed: 0,
        }
    }

    /// The frame's JPEG for a profile; `None` if it cannot be made.
    pub fn get<'a>(&'a mut self, frame: &Frame<'a>, profile: Profile) -> Option<&'a [u8]> {
        if let Picture::Jpeg(jpeg) = frame.picture
            && !profile.shrinks(&frame.meta)
            // The card that stands in for a picture is as good as it gets already.
            && (profile.quality.is_none() || !frame.meta.live)
        {
            return Some(jpeg);
        }
        let rendition = self
            .made
            .iter_mut()
            .find(|r| r.is_for(profile))
            .expect("there is a rendition for each listener's size and quality");
        let quality = rendition.quality;
        let bounds = rendition.bounds.unwrap_or(ANY_SIZE);
        if rendition.sequence != frame.meta.sequence {
            rendition.sequence = frame.meta.sequence;
            let result = match &frame.picture {
                Picture::Jpeg(jpeg) => {
                    self.codec
                        .transcode_within(jpeg, bounds, quality, &mut rendition.jpeg)
                }
                Picture::Raw(raw) => {
                    self.codec
                        .encode_within(raw, bounds, quality, &mut rendition.jpeg)
                }
            };
            if let Err(error) = result {
                rendition.jpeg.clear();
                self.failed += 1;
                // Once in a while, as a broken camera can do this with each frame.
                if self.failed.is_power_of_two() {
                    warn!(
                        "picture not encoded at quality {quality}: {error} ({} so far)",
                        self.failed
                    );
                }
            }
        }
        (!rendition.jpeg.is_empty()).then(|| rendition.jpeg.as_slice())
    }
}
