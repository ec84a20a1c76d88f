//! The JPEGs that clients get of one frame: each wanted quality made once, and only when somebody wants it.

use log::warn;

use crate::codec::Codec;
use crate::config::ListenerConfig;
use crate::frame::{Frame, FrameBuf, Picture};
use crate::limits::MAX_PROFILES;

/// What a listener wants of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// JPEG quality, 1 to 100. `None`: the camera's own JPEG, untouched.
    pub quality: Option<u8>,
    /// The quality where there is no JPEG to leave untouched.
    pub raw_quality: u8,
}

impl Profile {
    pub fn of(listener: &ListenerConfig) -> Self {
        Profile {
            quality: listener.quality,
            raw_quality: listener
                .quality
                .unwrap_or(listener.protocol.default_quality()),
        }
    }
}

struct Rendition {
    quality: u8,
    /// Of which frame; 0 is none.
    sequence: u64,
    /// Empty if that frame could not be encoded.
    jpeg: FrameBuf,
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
    /// If they name more than [`MAX_PROFILES`] qualities: the configuration is checked for that.
    pub fn new(listeners: &[ListenerConfig], frame_bytes: usize) -> Self {
        let mut made = heapless::Vec::new();
        for listener in listeners {
            let quality = Profile::of(listener).raw_quality;
            if !made.iter().any(|r: &Rendition| r.quality == quality) {
                let rendition = Rendition {
                    quality,
                    sequence: 0,
                    jpeg: FrameBuf::new(frame_bytes),
                };
                assert!(
                    made.push(rendition).is_ok(),
                    "more than {MAX_PROFILES} qualities in a checked configuration"
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
        let quality = match (&frame.picture, profile.quality) {
            (Picture::Jpeg(jpeg), None) => return Some(jpeg),
            // The card that stands in for a picture is as good as it gets already.
            (Picture::Jpeg(jpeg), _) if !frame.meta.live => return Some(jpeg),
            (Picture::Jpeg(_), Some(quality)) => quality,
            (Picture::Raw(_), _) => profile.raw_quality,
        };
        let rendition = self
            .made
            .iter_mut()
            .find(|r| r.quality == quality)
            .expect("there is a rendition for each listener's quality");
        if rendition.sequence != frame.meta.sequence {
            rendition.sequence = frame.meta.sequence;
            let result = match &frame.picture {
                Picture::Jpeg(jpeg) => self.codec.transcode(jpeg, quality, &mut rendition.jpeg),
                Picture::Raw(raw) => self.codec.encode(raw, quality, &mut rendition.jpeg),
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
