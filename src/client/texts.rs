//! Pictures as call clients get them: as text. Made once for each profile and frame.

use log::warn;

use crate::config::{Config, ListenerConfig};
use crate::encode::renditions::Profile;
use crate::limits::{HEAD, MAX_LISTENERS, RECORD, RUNGS};
use crate::picture::frame::{FrameBuf, FrameMeta};
use crate::protocol::ProtocolKind;
use crate::protocol::call;

struct Text {
    profile: Profile,
    /// Of which frame; 0 is none.
    sequence: u64,
    /// Empty if that frame's is too long.
    content: FrameBuf,
}

/// One for each profile of the call listeners, in memory taken at start.
pub struct Texts {
    all: heapless::Vec<Text, { MAX_LISTENERS * RUNGS }>,
    /// Pictures that were too large.
    failed: u64,
}

impl Texts {
    /// Takes their memory.
    pub fn new(config: &Config) -> Self {
        let mut all = heapless::Vec::new();
        // Together with what is around it, a content is to be a record that anybody may send.
        let capacity = RECORD.min(config.limits.frame_bytes) - HEAD;
        let is_call = |listener: &&ListenerConfig| listener.protocol == ProtocolKind::Call;
        let listeners = config.listeners.iter().filter(is_call);
        for profile in listeners.flat_map(Profile::all) {
            if !all.iter().any(|text: &Text| text.profile == profile) {
                let text = Text {
                    profile,
                    sequence: 0,
                    content: FrameBuf::new(capacity),
                };
                assert!(all.push(text).is_ok(), "there is room for all listeners");
            }
        }
        Texts { all, failed: 0 }
    }

    /// The content of a VIDEO_DATA with this JPEG of a profile; `None` if that is too long for a record.
    pub fn of(&mut self, profile: Profile, meta: &FrameMeta, jpeg: &[u8]) -> Option<&[u8]> {
        let text = self
            .all
            .iter_mut()
            .find(|text| text.profile == profile)
            .expect("there is one for each profile of a call listener");
        if text.sequence != meta.sequence {
            text.sequence = meta.sequence;
            let len = call::write_content(jpeg, text.content.spare());
            text.content.set_len(len.unwrap_or(0));
            if len.is_none() {
                self.failed += 1;
                if self.failed.is_power_of_two() {
                    let (have, most) = (jpeg.len(), text.content.capacity() / 8 * 3);
                    warn!(
                        "picture of {have} bytes not sent in calls: {most} at most; lower width, height or quality of the \
                         call listener ({} so far)",
                        self.failed
                    );
                }
            }
        }
        (!text.content.is_empty()).then(|| text.content.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::demo_config;
    use crate::picture::frame::Orientation;

    #[test]
    fn made_once_for_each_frame_and_never_too_long() {
        let config = demo_config();
        let mut listeners = config.listeners.iter();
        let listener = listeners.find(|listener| listener.protocol == ProtocolKind::Call);
        let listener = listener.expect("calls");
        let (profile, mut texts) = (Profile::of(listener), Texts::new(&config));
        let meta = |sequence| FrameMeta {
            sequence,
            captured: Instant::now(),
            wall: Duration::ZERO,
            width: 160,
            height: 120,
            orientation: Orientation::UPRIGHT,
            exif: Orientation::UPRIGHT,
            crop: None,
            live: true,
        };
        assert_eq!(
            texts.of(profile, &meta(1), b"foo"),
            Some(&b"\0Z\0m\09\0v"[..])
        );
        // It is not made again, whatever is passed.
        assert_eq!(
            texts.of(profile, &meta(1), b"bar").map(<[u8]>::len),
            Some(8)
        );
        assert_eq!(
            texts.of(profile, &meta(1), b"bar"),
            Some(&b"\0Z\0m\09\0v"[..])
        );
        assert_eq!(texts.of(profile, &meta(2), &vec![0; RECORD / 2]), None);
        assert_eq!(
            texts.of(profile.rung(2), &meta(2), b"foo").map(<[u8]>::len),
            Some(8)
        );
    }
}
