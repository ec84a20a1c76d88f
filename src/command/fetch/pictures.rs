//! What is fetched: pictures of a kind, of a size that is bounded, from somewhere.

use super::error::FetchError;
use crate::limits;
use crate::system::shm::picture::SIGNATURE;

/// The largest picture that is taken in, in bytes.
pub(super) const PICTURE_LIMIT: usize = limits::FRAME_BYTES_MAX;

/// A kind of picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// What files of it end with.
    pub(super) extension: &'static str,
    pub(super) begins: &'static [u8],
}

pub(super) const JPEG: Kind = Kind {
    name: "JPEG",
    extension: "jpg",
    begins: &[0xFF, 0xD8],
};
pub(super) const PNG: Kind = Kind {
    name: "PNG",
    extension: "png",
    begins: &SIGNATURE,
};

/// Where pictures come from.
pub(super) trait Pictures {
    /// Puts the next whole picture into the empty `picture`; false: the other side has ended the stream in good order.
    fn next(&mut self, picture: &mut Vec<u8>) -> Result<bool, FetchError>;

    /// Takes leave where there is a word for it; else the end of the connection says it.
    fn finish(&mut self) {}
}
