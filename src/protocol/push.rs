//! push: every picture, unasked, each behind two lengths.
//!
//! The server of the original speaks from the moment of connecting, in Python: `struct.pack("ii", n, n)` followed by
//! the JPEG, again and again. That is, per picture:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | int32, little-endian: the JPEG's length in bytes |
//! | 4 | the same number again |
//! | n | the JPEG |
//!
//! (`struct`'s native order is little-endian on every machine the original runs on; here it is little-endian by
//! definition.) Whatever the client sends is read and dropped: the original greets with a line of text. A receiver
//! rejects a header whose numbers differ or are not within 1 and its own limit: it has lost its place in the stream, or
//! speaks to something else. A client may close its sending half and go on receiving.
//!
//! raw is the same without the lengths: bare JPEGs, one behind the other. A receiver finds their ends by their markers, as
//! [`crate::picture::jpeg::Splitter`] does, and ffmpeg and OpenCV (`tcp://box:8084`).

use super::{Chunk, Head};

/// What stands in front of each JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// push: its length, twice.
    Lengths,
    /// raw: nothing.
    Bare,
}

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

pub(super) fn next_chunk(framing: Framing, len: usize, head: &mut Head) -> Chunk {
    if framing == Framing::Lengths {
        head.extend_from_slice(&header(len))
            .expect("8 bytes fit into an empty head");
    }
    Chunk {
        payload: len,
        tail: b"",
    }
}

#[cfg(test)]
mod tests {
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
        for (framing, bytes) in [(Framing::Lengths, &header[..]), (Framing::Bare, &[])] {
            let mut head = Head::new();
            assert_eq!(
                next_chunk(framing, 300, &mut head),
                Chunk {
                    payload: 300,
                    tail: b""
                }
            );
            assert_eq!(head.as_slice(), bytes, "{framing:?}");
        }
    }
}
