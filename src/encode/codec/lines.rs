//! Raw pictures line by line.

use super::error::{CodecError, check_size};
use crate::picture::frame::{PixelFormat, Plane, RawPicture, Size};
use crate::picture::samples;

/// Checks the picture's size, and that its planes hold what `encode_planar` and `encode_lines` will take from them.
pub(super) fn check(raw: &RawPicture<'_>) -> Result<(), CodecError> {
    check_size(raw.width.into(), raw.height.into())?;
    if raw.format == PixelFormat::Mjpeg {
        return Err(CodecError::Unsupported("MJPEG, it is encoded already"));
    }
    let planes = raw.format.planes(raw.width, raw.height);
    let used = planes.iter().zip(&raw.planes).enumerate();
    for (plane, (&(bytes, lines), Plane { data, stride })) in
        used.filter(|(_, ((bytes, _), _))| *bytes > 0)
    {
        if *stride < bytes {
            return Err(CodecError::Stride {
                plane,
                needed: bytes,
                got: *stride,
            });
        }
        let needed = stride.saturating_mul(lines - 1).saturating_add(bytes);
        if data.len() < needed {
            return Err(CodecError::Short {
                plane,
                needed,
                got: data.len(),
            });
        }
    }
    Ok(())
}

/// The lines of a raw picture, the first or the last of it first. `check` has seen the picture.
pub(super) struct Lines<'a> {
    pub(super) picture: &'a RawPicture<'a>,
    pub(super) upside_down: bool,
    /// Cr is where Cb ought to be.
    pub(super) exchanged: bool,
}

/// A picture with its colours in the usual order, but for this: whether they are exchanged.
pub(super) fn usual<'a>(raw: &RawPicture<'a>) -> (RawPicture<'a>, bool) {
    let (format, exchanged) = raw.format.exchanged();
    (RawPicture { format, ..*raw }, exchanged)
}

impl<'a> Lines<'a> {
    /// Cb and Cr, of what lies in the places where they usually do.
    pub(super) fn colours<T>(&self, first: T, second: T) -> [T; 2] {
        match self.exchanged {
            true => [second, first],
            false => [first, second],
        }
    }

    pub(super) fn size(&self) -> Size {
        Size {
            width: self.picture.width,
            height: self.picture.height,
        }
    }

    /// The line of plane 1 and 2 that has the colours of this line of plane 0, in 4:2:0.
    pub(super) fn shared(&self, line: usize) -> usize {
        let height = usize::from(self.picture.height);
        if self.upside_down {
            height.div_ceil(2) - 1 - (height - 1 - line) / 2
        } else {
            line / 2
        }
    }

    /// The beginning of a line of plane 0, 1 or 2. The latter two are those of 4:2:0, but for NV16.
    pub(super) fn line(&self, plane: usize, line: usize, bytes: usize) -> &'a [u8] {
        let Plane { data, stride } = self.picture.planes[plane];
        let height = usize::from(self.picture.height);
        let line = match (self.upside_down, plane) {
            (false, _) => line,
            (true, 0) => height - 1 - line,
            (true, _) if self.picture.format == PixelFormat::Nv16 => height - 1 - line,
            (true, _) => height.div_ceil(2) - 1 - line,
        };
        &data[line * stride..][..bytes]
    }
}

/// Takes a line of packed 4:2:2 apart; `chroma` is room for its second half.
pub(super) fn split_packed(
    format: PixelFormat,
    line: &[u8],
    chroma: &mut [u8],
    y: &mut [u8],
    cb: &mut [u8],
    cr: &mut [u8],
) {
    split_luma(format, line, chroma, y);
    samples::split(chroma, cb, cr);
}

/// Takes a line of packed 4:2:2 apart into luma and pairs of chroma.
pub(super) fn split_luma(format: PixelFormat, line: &[u8], chroma: &mut [u8], y: &mut [u8]) {
    match format {
        PixelFormat::Yuyv => samples::split(line, y, chroma),
        _ => samples::split(line, chroma, y),
    }
}
