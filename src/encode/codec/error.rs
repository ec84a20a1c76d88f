//! Why there is no JPEG, and the check of a picture's size.

use std::fmt;

use heapless::String;

use crate::limits::{CELL_REASON, DIMENSION_MAX, TURNED_BYTES};
#[cfg(doc)]
use crate::picture::frame::PixelFormat;

/// What is kept of libjpeg's messages. The longest that JPEG files cause are below 70.
const MESSAGE: usize = 80;

/// Why there is no JPEG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// The JPEG does not fit the buffer for it (or just so: a byte must remain).
    TooBig {
        /// Bytes that the buffer holds.
        capacity: usize,
    },
    /// The picture is empty or larger than [`DIMENSION_MAX`].
    Size {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// A plane of the raw picture holds fewer bytes than its size and stride say.
    Short {
        /// Of the picture, from 0.
        plane: usize,
        /// Bytes that it takes.
        needed: usize,
        /// Bytes that are there.
        got: usize,
    },
    /// The lines of a plane are longer than the way from one to the next.
    Stride {
        /// Of the picture, from 0.
        plane: usize,
        /// Bytes that a line takes.
        needed: usize,
        /// Bytes from one line to the next.
        got: usize,
    },
    /// The JPEG to transcode ends before its picture does.
    Truncated,
    /// No raw picture in this format ([`PixelFormat::Mjpeg`]), or a JPEG in colours that are for printing (CMYK).
    Unsupported(&'static str),
    /// The picture is too large to be kept for turning it ([`TURNED_BYTES`]).
    TooBigToTurn {
        /// Bytes of samples.
        needed: usize,
    },
    /// More pixels than are decoded for this camera.
    ManyPixels {
        /// In pixels.
        width: u16,
        /// In pixels.
        height: u16,
        /// Pixels that would be decoded.
        most: usize,
    },
    /// The pictures that others send have taken too much time lately.
    NoTime,
    /// An edge that would be mirrored ends with a part of an MCU: such a JPEG cannot be turned without loss.
    PartialMcu,
    /// libjpeg refused, in its own words.
    Libjpeg(String<MESSAGE>),
    /// A cell could not do it, in its words.
    Cell(String<CELL_REASON>),
    /// The cell that was at it was lost.
    Lost,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::TooBig { capacity } => write!(
                f,
                "the JPEG does not fit {capacity} bytes (limits.frame_bytes)"
            ),
            CodecError::Size { width, height } => write!(
                f,
                "a picture of {width}x{height}, supported are 1x1 to {DIMENSION_MAX}x{DIMENSION_MAX}"
            ),
            CodecError::Short { plane, needed, got } => {
                write!(f, "{got} bytes in plane {plane}, the picture has {needed}")
            }
            CodecError::Stride { plane, needed, got } => write!(
                f,
                "lines of {needed} bytes at a distance of {got} in plane {plane}"
            ),
            CodecError::Truncated => f.write_str("the JPEG ends before its picture does"),
            CodecError::Unsupported(what) => write!(f, "cannot encode {what}"),
            CodecError::TooBigToTurn { needed } => write!(
                f,
                "a picture of {needed} bytes cannot be turned, {TURNED_BYTES} can; use a smaller size"
            ),
            CodecError::ManyPixels {
                width,
                height,
                most,
            } => write!(
                f,
                "a JPEG of {width}x{height}, {most} pixels at most are decoded; if the camera is to give such pictures, set \
                 camera.width and camera.height"
            ),
            CodecError::NoTime => f.write_str(
                "JPEGs come faster than they can be decoded; lower the camera's rate or size, or pass them on untouched (no \
                 quality, width or height at the listener)",
            ),
            CodecError::PartialMcu => {
                f.write_str("a JPEG of this size and sampling cannot be turned without loss")
            }
            CodecError::Libjpeg(message) => write!(f, "libjpeg: {message}"),
            CodecError::Cell(reason) => f.write_str(reason),
            CodecError::Lost => f.write_str("the process that decodes pictures was lost over it"),
        }
    }
}

impl std::error::Error for CodecError {}

/// Refuses a picture that is empty or larger than [`DIMENSION_MAX`].
pub(super) fn check_size(width: u32, height: u32) -> Result<(), CodecError> {
    let good = 1..=u32::from(DIMENSION_MAX);
    if good.contains(&width) && good.contains(&height) {
        Ok(())
    } else {
        Err(CodecError::Size { width, height })
    }
}
