//! push: two little-endian int32, both the JPEG's length, then the JPEG, again and again
//! (the wire format is documented with the server's half, `crate::protocol`).

use super::wire::Wire;
use super::{FetchError, PICTURE_LIMIT};

/// Bytes of the header in front of each picture.
const HEADER: usize = 8;

pub(super) fn next(wire: &mut Wire, picture: &mut Vec<u8>) -> Result<(), FetchError> {
    let [a0, a1, a2, a3, b0, b1, b2, b3] = loop {
        match wire.received().first_chunk::<HEADER>() {
            Some(header) => break *header,
            None if wire.received().is_empty() => wire.fill_some("instead of sending a picture")?,
            None => wire.fill_some("within a push header")?,
        }
    };
    let first = i32::from_le_bytes([a0, a1, a2, a3]);
    let second = i32::from_le_bytes([b0, b1, b2, b3]);
    let length = match usize::try_from(first) {
        Ok(length) if first == second && (1..=PICTURE_LIMIT).contains(&length) => length,
        _ => {
            return Err(FetchError::Protocol(format!(
                "not a push header: two lengths {first} and {second}; they must be equal and from 1 to {PICTURE_LIMIT}"
            )));
        }
    };
    wire.consume(HEADER);
    wire.read_exactly(length, picture, "within a picture")
}
