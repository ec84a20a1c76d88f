//! push: every picture, unasked, each behind two lengths.
#![doc = include_str!("push.md")]
//!
//! # Where this comes from
//! The original server writes `struct.pack("ii", n, n)` in Python, then the JPEG. `struct`'s native order is little-endian on
//! every machine that the original runs on; here it is little-endian by definition. The original client greets with a line
//! of text, which is dropped.
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

/// push: bytes in front of each JPEG.
pub const HEADER: usize = 8;

/// The header of a JPEG of `len` bytes.
///
/// # Panics
/// If `len` does not fit an int32; [`crate::limits`] asserts that no frame is that large.
pub fn header(len: usize) -> [u8; HEADER] {
    let n = i32::try_from(len)
        .expect("frames are at most FRAME_BYTES_MAX, checked against i32 in limits")
        .to_le_bytes();
    let mut out = [0; HEADER];
    out[..4].copy_from_slice(&n);
    out[4..].copy_from_slice(&n);
    out
}

/// What a receiver makes of a header: the JPEG's length, or `None` for a header to reject.
pub fn parse_header(bytes: [u8; HEADER], limit: usize) -> Option<usize> {
    let [a, b, c, d, rest @ ..] = bytes;
    let first = i32::from_le_bytes([a, b, c, d]);
    let len = usize::try_from(first).ok()?;
    (first == i32::from_le_bytes(rest) && (1..=limit).contains(&len)).then_some(len)
}

/// A connection to a push listener.
#[derive(Debug)]
pub struct Push;

impl Session for Push {
    const NAME: &'static str = "push";
    const QUALITY: u8 = 80;

    fn open(_: &Setup) -> Self {
        Push
    }

    fn begin(&mut self, _: &FrameMeta, len: usize, head: &mut Head) -> Chunk {
        head.extend_from_slice(&header(len))
            .expect("8 bytes fit into an empty head");
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
    fn header_is_what_struct_pack_ii_writes() {
        // python3 -c 'import struct; print(struct.pack("ii", 46123, 46123).hex())'
        assert_eq!(header(46123), [0x2b, 0xb4, 0, 0, 0x2b, 0xb4, 0, 0]);
        assert_eq!(header(1), [1, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_receiver_rejects_headers_that_cannot_be() {
        assert_eq!(parse_header(header(1), 100), Some(1));
        assert_eq!(parse_header(header(100), 100), Some(100));
        assert_eq!(parse_header(header(101), 100), None, "over the limit");
        assert_eq!(parse_header([0; 8], 100), None, "zero");
        assert_eq!(parse_header([0xff; 8], 100), None, "negative");
        assert_eq!(
            parse_header([5, 0, 0, 0, 6, 0, 0, 0], 100),
            None,
            "the numbers differ"
        );
    }

    #[test]
    fn one_chunk_carries_the_whole_picture() {
        let header = [0x2c, 1, 0, 0, 0x2c, 1, 0, 0];
        let meta = FrameMeta::taken(Instant::now(), 64, 48);
        let mut head = Head::new();
        assert_eq!(
            Push.begin(&meta, 300, &mut head),
            Chunk {
                payload: 300,
                tail: b""
            }
        );
        assert_eq!(head.as_slice(), &header[..]);
    }
}
