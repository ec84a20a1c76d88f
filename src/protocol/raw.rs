//! raw: every picture, unasked, and nothing else.
#![doc = include_str!("raw.md")]
//!
//! [`crate::picture::jpeg::Splitter`] finds where a picture ends, of H.264 [`crate::picture::h264::Splitter`].
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
use crate::picture::chain::Unit;
use crate::picture::frame::FrameMeta;

/// A connection to a raw listener.
#[derive(Debug)]
pub struct Raw {
    /// It gets H.264.
    film: bool,
}

impl Session for Raw {
    const NAME: &'static str = "raw";
    const QUALITY: u8 = 80;

    fn open(setup: &Setup) -> Self {
        Raw { film: setup.film }
    }

    fn wants(&self) -> Wants {
        match self.film {
            true => Wants::Chain,
            false => Wants::Newest,
        }
    }

    fn follows(&self) -> bool {
        !self.film
    }

    fn form(&self) -> Form {
        match self.film {
            true => Form::Stream,
            false => Form::Jpeg,
        }
    }

    fn begin(&mut self, _: &FrameMeta, len: usize, _: &mut Head) -> Chunk {
        Chunk {
            payload: len,
            tail: b"",
        }
    }

    fn begin_unit(&mut self, unit: &Unit<'_>, head: &mut Head) -> Option<Chunk> {
        for part in unit.sets() {
            // As many as are kept.
            head.extend_from_slice(part).expect("they fit limits::HEAD");
        }
        Some(Chunk {
            payload: unit.sample.len(),
            tail: b"",
        })
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
            Raw { film: false }.begin(&meta, 300, &mut head),
            Chunk {
                payload: 300,
                tail: b""
            }
        );
        assert!(head.is_empty());
    }
}
