//! The receiving half of [`crate::protocol::push`].

use super::wire::Wire;
use super::{FetchError, PICTURE_LIMIT};
use crate::protocol::push::{HEADER, parse_header};

pub(super) fn next(wire: &mut Wire, picture: &mut Vec<u8>) -> Result<(), FetchError> {
    let header = loop {
        match wire.received().first_chunk::<HEADER>() {
            Some(header) => break *header,
            None if wire.received().is_empty() => wire.fill_some("instead of sending a picture")?,
            None => wire.fill_some("within a push header")?,
        }
    };
    let length = parse_header(header, PICTURE_LIMIT).ok_or_else(|| {
        let [a0, a1, a2, a3, b0, b1, b2, b3] = header;
        let first = i32::from_le_bytes([a0, a1, a2, a3]);
        let second = i32::from_le_bytes([b0, b1, b2, b3]);
        FetchError::Protocol(format!(
            "not a push header: two lengths {first} and {second}; they must be equal and from 1 to {PICTURE_LIMIT}"
        ))
    })?;
    wire.consume(HEADER);
    wire.read_exactly(length, picture, "within a picture")
}
