//! Raw pictures to JPEG, and JPEG to JPEG of another quality, through libjpeg (mozjpeg's copy of libjpeg-turbo in its
//! fast profile). The only module that knows libjpeg.
//!
//! Cameras speak YCbCr and so does JPEG: 4:2:0 and 4:2:2 pictures go in as they are ("raw data" in libjpeg's terms),
//! without a trip through RGB and back, and a decoded JPEG goes on in the sampling it came in. Numbers are taken as
//! JFIF means them (full range): what a camera sends in limited range stays so.
//!
//! # Memory
//! The objects, the rows between them and what libjpeg needs for a picture are taken once, for the largest there may be:
//! a memory manager of our own (`codec/memory.c`) gives libjpeg parts of two arenas. Pages that were never written cost
//! no memory. A progressive JPEG, which cameras do not send, finds room for its coefficients there up to a size, and is
//! refused above it.
//!
//! # Errors
//! libjpeg's errors do not return to where they arise. `codec/guard.c` brings them back as a return value, without
//! unwinding and without a jump over anything but C.

mod libjpeg;

use std::fmt;
use std::ops::Range;

use heapless::String;
use mozjpeg_sys::{DCTSIZE, JCS_EXT_BGR, JCS_EXT_RGB, JCS_GRAYSCALE, JCS_RGB, JCS_YCbCr};

use crate::frame::{FrameBuf, PixelFormat, Plane, RawPicture};
use crate::limits::DIMENSION_MAX;
use libjpeg::{COMPONENTS, Compressor, Decompressor, Factors, Failed, Libjpeg, MCU_LINES, McuRow};

/// What is kept of libjpeg's messages. The longest that JPEG files cause are below 70.
const MESSAGE: usize = 80;
/// `C_MAX_BLOCKS_IN_MCU` of jpeglib.h.
const MCU_BLOCKS: usize = 10;
/// The samples of one row of MCUs, all components: 4:2:0 and 4:4:4 need 24 per pixel of width, 4:4:0 needs 32, and each
/// component is rounded up to whole blocks.
const ROW_SAMPLES: usize = 32 * (DIMENSION_MAX as usize + 64);

/// Why there is no JPEG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// The JPEG does not fit the buffer for it (or just so: a byte must remain).
    TooBig { capacity: usize },
    /// The picture is empty or larger than [`DIMENSION_MAX`].
    Size { width: u32, height: u32 },
    /// A plane of the raw picture holds fewer bytes than its size and stride say.
    Short {
        plane: usize,
        needed: usize,
        got: usize,
    },
    /// The lines of a plane are longer than the way from one to the next.
    Stride {
        plane: usize,
        needed: usize,
        got: usize,
    },
    /// The JPEG to transcode ends before its picture does.
    Truncated,
    /// No raw picture in this format ([`PixelFormat::Mjpeg`]), or a JPEG in colours that are for printing (CMYK).
    Unsupported(&'static str),
    /// libjpeg refused, in its own words.
    Libjpeg(String<MESSAGE>),
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
            CodecError::Libjpeg(message) => write!(f, "libjpeg: {message}"),
        }
    }
}

impl std::error::Error for CodecError {}

/// Encodes and transcodes, one picture at a time, with objects that are made once.
pub struct Codec {
    libjpeg: Libjpeg,
    /// One row of MCUs, components one after the other, for what cannot be read where it is.
    rows: Box<[u8]>,
}

impl Codec {
    /// # Panics
    /// If libjpeg is not the one that this was compiled for, or there is no memory for its objects.
    pub fn new() -> Self {
        Codec {
            libjpeg: Libjpeg::new(),
            rows: vec![0; ROW_SAMPLES].into_boxed_slice(),
        }
    }

    /// Encodes `raw` into `out` at `quality` (1 to 100; what is outside is taken as the nearest), in the sampling of
    /// its format; RGB becomes 4:2:0. After an error `out` is empty.
    pub fn encode(
        &mut self,
        raw: &RawPicture<'_>,
        quality: u8,
        out: &mut FrameBuf,
    ) -> Result<(), CodecError> {
        out.clear();
        check(raw)?;
        let rows = &mut *self.rows;
        self.libjpeg.run(out, |mut to, _| {
            let mut configure = |space| to.configure(raw.width, raw.height, space, quality);
            match raw.format {
                PixelFormat::Yuyv | PixelFormat::Uyvy => {
                    configure(JCS_YCbCr)?;
                    encode_planar(&mut to, raw, &[(2, 1), (1, 1), (1, 1)], rows)?;
                }
                PixelFormat::Nv12 | PixelFormat::Yu12 => {
                    configure(JCS_YCbCr)?;
                    encode_planar(&mut to, raw, &[(2, 2), (1, 1), (1, 1)], rows)?;
                }
                PixelFormat::Rgb24 => {
                    configure(JCS_EXT_RGB)?;
                    encode_lines(&mut to, raw, 3)?;
                }
                PixelFormat::Bgr24 => {
                    configure(JCS_EXT_BGR)?;
                    encode_lines(&mut to, raw, 3)?;
                }
                PixelFormat::Grey => {
                    configure(JCS_GRAYSCALE)?;
                    encode_lines(&mut to, raw, 1)?;
                }
                PixelFormat::Mjpeg => unreachable!("refused by check"),
            }
            to.finish()
        })
    }

    /// Encodes the JPEG `jpeg` again at `quality` into `out`, in its own size and sampling (4:4:4 if it is RGB, or in a
    /// sampling that only exists in theory), without its metadata.
    ///
    /// Damage within the picture is passed on as libjpeg shows it (many UVC cameras leave extra bytes before a marker,
    /// in every frame); a damaged header, or an end before EOI, is an error. After an error `out` is empty.
    pub fn transcode(
        &mut self,
        jpeg: &[u8],
        quality: u8,
        out: &mut FrameBuf,
    ) -> Result<(), CodecError> {
        out.clear();
        let rows = &mut *self.rows;
        self.libjpeg.run(out, |to, from| {
            transcode(from.read_header(jpeg)?, to, quality, rows)
        })
    }
}

impl Default for Codec {
    fn default() -> Self {
        Codec::new()
    }
}

/// Checks the picture's size, and that its planes hold what `encode_planar` and `encode_lines` will take from them.
fn check(raw: &RawPicture<'_>) -> Result<(), CodecError> {
    check_size(raw.width.into(), raw.height.into())?;
    let (width, height) = (usize::from(raw.width), usize::from(raw.height));
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    // Bytes per line and lines of each plane. Odd sizes are rounded up to whole pairs of pixels, as V4L2 does.
    let planes: &[(usize, usize)] = match raw.format {
        PixelFormat::Mjpeg => return Err(CodecError::Unsupported("MJPEG, it is encoded already")),
        PixelFormat::Yuyv | PixelFormat::Uyvy => &[(4 * half_width, height)],
        PixelFormat::Nv12 => &[(width, height), (2 * half_width, half_height)],
        PixelFormat::Yu12 => &[
            (width, height),
            (half_width, half_height),
            (half_width, half_height),
        ],
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => &[(3 * width, height)],
        PixelFormat::Grey => &[(width, height)],
    };
    for (plane, (&(bytes, lines), Plane { data, stride })) in
        planes.iter().zip(&raw.planes).enumerate()
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

fn check_size(width: u32, height: u32) -> Result<(), CodecError> {
    let good = 1..=u32::from(DIMENSION_MAX);
    if good.contains(&width) && good.contains(&height) {
        Ok(())
    } else {
        Err(CodecError::Size { width, height })
    }
}

/// Encodes 4:2:0 or 4:2:2. `check` has seen the picture.
fn encode_planar(
    to: &mut Compressor<'_>,
    raw: &RawPicture<'_>,
    factors: &[Factors; COMPONENTS],
    rows: &mut [u8],
) -> Result<(), Failed> {
    to.start_raw(factors)?;
    let (width, height) = (usize::from(raw.width), usize::from(raw.height));
    let (chroma_width, v) = (width.div_ceil(2), factors[0].1 as usize);
    let chroma_height = height.div_ceil(v);
    // Samples per line, to the end of the last block. Both chroma components have the same.
    let luma = to.line_samples(0);
    let chroma = to.line_samples(1);
    let [plane0, plane1, plane2] = &raw.planes;

    for mcu in 0..height.div_ceil(v * DCTSIZE) {
        let (y_rows, rest) = rows.split_at_mut(v * DCTSIZE * luma);
        let (cb_rows, rest) = rest.split_at_mut(DCTSIZE * chroma);
        let cr_rows = &mut rest[..DCTSIZE * chroma];
        let mut lines: McuRow<'_> = [[&[]; MCU_LINES]; COMPONENTS];
        // What the last row of MCUs lacks is its last line again: anything else would show at the edge.
        let y_range = mcu * v * DCTSIZE..((mcu + 1) * v * DCTSIZE).min(height);
        let c_range = mcu * DCTSIZE..((mcu + 1) * DCTSIZE).min(chroma_height);
        let (y_count, c_count) = (y_range.len(), c_range.len());
        match raw.format {
            PixelFormat::Yuyv | PixelFormat::Uyvy => {
                let split = match raw.format {
                    PixelFormat::Yuyv => split_yuyv,
                    _ => split_uyvy,
                };
                let scratch = y_rows
                    .chunks_exact_mut(luma)
                    .zip(cb_rows.chunks_exact_mut(chroma))
                    .zip(cr_rows.chunks_exact_mut(chroma));
                for (i, (line, ((y, cb), cr))) in y_range.zip(scratch).enumerate() {
                    split(line_of(plane0, line, 4 * chroma_width), y, cb, cr);
                    lines[0][i] = pad(y, width);
                    lines[1][i] = pad(cb, chroma_width);
                    lines[2][i] = pad(cr, chroma_width);
                }
            }
            PixelFormat::Nv12 => {
                fill(&mut lines[0], plane0, y_range, width, luma, y_rows);
                let scratch = cb_rows
                    .chunks_exact_mut(chroma)
                    .zip(cr_rows.chunks_exact_mut(chroma));
                for (i, (line, (cb, cr))) in c_range.zip(scratch).enumerate() {
                    split_pairs(line_of(plane1, line, 2 * chroma_width), cb, cr);
                    lines[1][i] = pad(cb, chroma_width);
                    lines[2][i] = pad(cr, chroma_width);
                }
            }
            _ => {
                fill(&mut lines[0], plane0, y_range, width, luma, y_rows);
                fill(
                    &mut lines[1],
                    plane1,
                    c_range.clone(),
                    chroma_width,
                    chroma,
                    cb_rows,
                );
                fill(
                    &mut lines[2],
                    plane2,
                    c_range,
                    chroma_width,
                    chroma,
                    cr_rows,
                );
            }
        }
        for (component, count, all) in [
            (0, y_count, v * DCTSIZE),
            (1, c_count, DCTSIZE),
            (2, c_count, DCTSIZE),
        ] {
            let last = lines[component][count - 1];
            lines[component][count..all].fill(last);
        }
        to.write_mcu_row(&lines)?;
    }
    Ok(())
}

/// Points `lines` at the lines `range` of `plane`, where they are if they end with a block, else at padded copies.
fn fill<'a>(
    lines: &mut [&'a [u8]; MCU_LINES],
    plane: &Plane<'a>,
    range: Range<usize>,
    width: usize,
    padded: usize,
    rows: &'a mut [u8],
) {
    for ((to, line), row) in lines
        .iter_mut()
        .zip(range)
        .zip(rows.chunks_exact_mut(padded))
    {
        let source = line_of(plane, line, width);
        *to = if width == padded {
            source
        } else {
            row[..width].copy_from_slice(source);
            pad(row, width)
        };
    }
}

fn line_of<'a>(plane: &Plane<'a>, line: usize, bytes: usize) -> &'a [u8] {
    &plane.data[line * plane.stride..][..bytes]
}

/// Repeats the last of `width` samples to the end of the row.
fn pad(row: &mut [u8], width: usize) -> &[u8] {
    let last = row[width - 1];
    row[width..].fill(last);
    row
}

fn split_yuyv(line: &[u8], y: &mut [u8], cb: &mut [u8], cr: &mut [u8]) {
    split_packed(line, y, cb, cr, |&[y0, cb, y1, cr]| [y0, y1, cb, cr]);
}

fn split_uyvy(line: &[u8], y: &mut [u8], cb: &mut [u8], cr: &mut [u8]) {
    split_packed(line, y, cb, cr, |&[cb, y0, cr, y1]| [y0, y1, cb, cr]);
}

fn split_packed(
    line: &[u8],
    y: &mut [u8],
    cb: &mut [u8],
    cr: &mut [u8],
    order: impl Fn(&[u8; 4]) -> [u8; 4],
) {
    let (pairs, _) = line.as_chunks();
    let (ys, _) = y.as_chunks_mut();
    for (((pair, y), cb), cr) in pairs.iter().zip(ys).zip(cb).zip(cr) {
        let [y0, y1, blue, red] = order(pair);
        *y = [y0, y1];
        *cb = blue;
        *cr = red;
    }
}

fn split_pairs(line: &[u8], cb: &mut [u8], cr: &mut [u8]) {
    let (pairs, _) = line.as_chunks();
    for ((&[blue, red], cb), cr) in pairs.iter().zip(cb).zip(cr) {
        *cb = blue;
        *cr = red;
    }
}

/// Encodes what libjpeg takes line by line. `check` has seen the picture.
fn encode_lines(
    to: &mut Compressor<'_>,
    raw: &RawPicture<'_>,
    pixel_bytes: usize,
) -> Result<(), Failed> {
    to.start()?;
    for line in 0..usize::from(raw.height) {
        to.write_line(line_of(
            &raw.planes[0],
            line,
            pixel_bytes * usize::from(raw.width),
        ))?;
    }
    Ok(())
}

fn transcode(
    mut from: Decompressor<'_>,
    mut to: Compressor<'_>,
    quality: u8,
    rows: &mut [u8],
) -> Result<(), Failed> {
    let (width, height) = from.size()?;
    let space = from.space()?;
    to.configure(width, height, space, quality)?;
    let mut factors = [(0, 0); COMPONENTS];
    let mut widths = [0; COMPONENTS];
    let mut samples = 0;
    let mut blocks = 0;
    let components = from.components();
    for (i, component) in components.iter().enumerate() {
        let (h, v) = (component.h_samp_factor, component.v_samp_factor);
        factors[i] = (h, v);
        widths[i] = component.width_in_blocks as usize * DCTSIZE;
        samples += v as usize * DCTSIZE * widths[i];
        blocks += (h * v) as usize;
    }
    let count = components.len();
    if space != JCS_RGB && samples <= rows.len() && (count == 1 || blocks <= MCU_BLOCKS) {
        let factors = &factors[..count];
        from.start_raw()?;
        to.start_raw(factors)?;
        while from.read_mcu_row(rows)? {
            let mut lines: McuRow<'_> = [[&[]; MCU_LINES]; COMPONENTS];
            let mut rest = &*rows;
            for ((to, &(_, v)), &width) in lines.iter_mut().zip(factors).zip(&widths) {
                let (these, others) = rest.split_at(v as usize * DCTSIZE * width);
                for (to, line) in to.iter_mut().zip(these.chunks_exact(width)) {
                    *to = line;
                }
                rest = others;
            }
            to.write_mcu_row(&lines)?;
        }
    } else {
        let line = &mut rows[..count * usize::from(width)];
        from.start()?;
        to.set_sampling(&[(1, 1); COMPONENTS]);
        to.start()?;
        while from.read_line(line)? {
            to.write_line(line)?;
        }
    }
    from.finish()?;
    to.finish()
}
