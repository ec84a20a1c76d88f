//! raw: every picture, unasked, and nothing else.
#![doc = include_str!("raw.md")]
//!
//! [`crate::picture::jpeg::Splitter`] finds where a picture ends.
//!
//! # The session
//!
//! ```text
//!             a picture
//!  AnnouncePending ──────▶ Sending
//!        ▲                    │
//!        └────────────────────┘
//! ```
//!
//! From the moment of connecting until one of the two closes.

use super::session::*;
use super::setup::Setup;
use crate::picture::frame::FrameMeta;

/// A connection to a raw listener.
#[derive(Debug)]
pub struct Raw;

impl Session for Raw {
    const NAME: &'static str = "raw";
    const QUALITY: u8 = 80;

    fn open(_: &Setup) -> Self {
        Raw
    }

    fn begin(&mut self, _: &FrameMeta, len: usize, _: &mut Head) -> Chunk {
        Chunk {
            payload: len,
            tail: b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn one_chunk_carries_the_whole_picture() {
        let meta = FrameMeta::taken(Instant::now(), 64, 48);
        let mut head = Head::new();
        assert_eq!(
            Raw.begin(&meta, 300, &mut head),
            Chunk {
                payload: 300,
                tail: b""
            }
        );
        assert!(head.is_empty());
    }
}
