//! Raw pictures to JPEG, and JPEG to JPEG of another quality, through libjpeg (mozjpeg's copy of libjpeg-turbo in its
//! fast profile). The only module that knows libjpeg.
//!
//! Cameras speak YCbCr and so does JPEG: 4:2:0 and 4:2:2 pictures go in as they are ("raw data" in libjpeg's terms),
//! without a trip through RGB and back, and a decoded JPEG goes on in the sampling it came in. Numbers are taken as
//! JFIF means them (full range): what a camera sends in limited range stays so. The same holds for smaller pictures: a
//! JPEG is decoded in the next larger of libjpeg's scales (1/8 … 8/8), which saves most of the work, and
//! [`crate::scale`] does the rest, component by component. At 1/8 even most of the decoding is left out (`codec/dc.rs`).
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

mod dc;
mod libjpeg;
mod scaler;

use std::fmt;
use std::ops::Range;

use heapless::String;
use mozjpeg_sys::{DCTSIZE, JCS_EXT_BGR, JCS_EXT_RGB, JCS_GRAYSCALE, JCS_RGB, JCS_YCbCr};

use crate::frame::{Bounds, FrameBuf, Picture, PixelFormat, Plane, RawPicture, Size};
use crate::limits::DIMENSION_MAX;
use crate::samples;
use dc::Eighths;
use libjpeg::{COMPONENTS, Compressor, Decompressor, Factors, Failed, Libjpeg, MCU_LINES, McuRow};
use scaler::Scaler;

/// What is kept of libjpeg's messages. The longest that JPEG files cause are below 70.
const MESSAGE: usize = 80;
/// `C_MAX_BLOCKS_IN_MCU` of jpeglib.h.
const MCU_BLOCKS: i32 = 10;
/// The samples of one row of MCUs: each component has at most the width of the picture, rounded up to whole blocks.
const ROW_SAMPLES: usize = COMPONENTS * MCU_LINES * (DIMENSION_MAX as usize + 64);

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

/// How a JPEG is to be made of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// 1 to 100; what is outside is taken as the nearest.
    pub quality: u8,
    pub bounds: Bounds,
}

impl Recipe {
    /// The picture as it is, at this quality.
    pub fn at(quality: u8) -> Self {
        Recipe {
            quality,
            bounds: Bounds::NONE,
        }
    }

    /// Made smaller where it does not fit `size`.
    pub fn within(self, size: Size) -> Self {
        let bounds = Bounds {
            within: size,
            ..self.bounds
        };
        Recipe { bounds, ..self }
    }
}

/// Encodes and transcodes, one picture at a time, with objects that are made once.
pub struct Codec {
    libjpeg: Libjpeg,
    /// One row of MCUs, components one after the other, for what cannot be read where it is.
    rows: Box<[u8]>,
    scaler: Scaler,
    eighths: Eighths,
}

impl Codec {
    /// # Panics
    /// If libjpeg is not the one that this was compiled for, or there is no memory for its objects.
    pub fn new() -> Self {
        Codec {
            libjpeg: Libjpeg::new(),
            rows: vec![0; ROW_SAMPLES].into_boxed_slice(),
            scaler: Scaler::new(),
            eighths: Eighths::new(),
        }
    }

    /// Makes a JPEG of `picture` in `out`, as the recipe says. After an error `out` is empty.
    ///
    /// A raw picture keeps the sampling of its format; RGB becomes 4:2:0. A JPEG keeps its sampling (4:4:4 if it is RGB,
    /// or in a sampling that only exists in theory) and loses its metadata. Damage within it is passed on as libjpeg shows
    /// it (many UVC cameras leave extra bytes before a marker, in every frame); a damaged header, or an end before EOI, is
    /// an error.
    pub fn make(
        &mut self,
        picture: &Picture<'_>,
        recipe: &Recipe,
        out: &mut FrameBuf,
    ) -> Result<(), CodecError> {
        match picture {
            Picture::Raw(raw) => self.encode_raw(raw, recipe, out),
            Picture::Jpeg(jpeg) => {
                out.clear();
                let (rows, scaler) = (&mut *self.rows, &mut self.scaler);
                let eighths = &mut self.eighths;
                self.libjpeg.run(out, |to, from| {
                    transcode(from.read_header(jpeg)?, to, recipe, rows, scaler, eighths)
                })
            }
        }
    }

    /// [`Codec::make`] of a raw picture, as it is, at `quality`.
    pub fn encode(
        &mut self,
        raw: &RawPicture<'_>,
        quality: u8,
        out: &mut FrameBuf,
    ) -> Result<(), CodecError> {
        self.make(&Picture::Raw(*raw), &Recipe::at(quality), out)
    }

    /// [`Codec::make`] of a JPEG, as it is, at `quality`.
    pub fn transcode(
        &mut self,
        jpeg: &[u8],
        quality: u8,
        out: &mut FrameBuf,
    ) -> Result<(), CodecError> {
        self.make(&Picture::Jpeg(jpeg), &Recipe::at(quality), out)
    }

    fn encode_raw(
        &mut self,
        raw: &RawPicture<'_>,
        recipe: &Recipe,
        out: &mut FrameBuf,
    ) -> Result<(), CodecError> {
        out.clear();
        check(raw)?;
        let (rows, scaler) = (&mut *self.rows, &mut self.scaler);
        let whole = Size {
            width: raw.width,
            height: raw.height,
        };
        let size = recipe.bounds.fit(whole);
        self.libjpeg.run(out, |mut to, _| {
            let (space, pixel_bytes) = match raw.format {
                PixelFormat::Rgb24 => (JCS_EXT_RGB, 3),
                PixelFormat::Bgr24 => (JCS_EXT_BGR, 3),
                PixelFormat::Grey => (JCS_GRAYSCALE, 1),
                _ => (JCS_YCbCr, 0),
            };
            to.configure(size, space, recipe.quality)?;
            let factors = match raw.format {
                PixelFormat::Nv12 | PixelFormat::Yu12 => &[(2, 2), (1, 1), (1, 1)],
                _ => &[(2, 1), (1, 1), (1, 1)],
            };
            match (pixel_bytes, size == whole) {
                (0, true) => encode_planar(&mut to, raw, factors, rows)?,
                (0, false) => shrink_planar(&mut to, raw, size, factors, rows, scaler)?,
                (_, true) => encode_lines(&mut to, raw, pixel_bytes)?,
                (_, false) => shrink_lines(&mut to, raw, size, pixel_bytes, scaler)?,
            }
            to.finish()
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
        let (cr_rows, rest) = rest.split_at_mut(DCTSIZE * chroma);
        let pairs = &mut rest[..2 * chroma_width];
        let mut lines: McuRow<'_> = [[&[]; MCU_LINES]; COMPONENTS];
        // What the last row of MCUs lacks is its last line again: anything else would show at the edge.
        let y_range = mcu * v * DCTSIZE..((mcu + 1) * v * DCTSIZE).min(height);
        let c_range = mcu * DCTSIZE..((mcu + 1) * DCTSIZE).min(chroma_height);
        let (y_count, c_count) = (y_range.len(), c_range.len());
        match raw.format {
            PixelFormat::Yuyv | PixelFormat::Uyvy => {
                let scratch = y_rows
                    .chunks_exact_mut(luma)
                    .zip(cb_rows.chunks_exact_mut(chroma))
                    .zip(cr_rows.chunks_exact_mut(chroma));
                for (i, (line, ((y, cb), cr))) in y_range.zip(scratch).enumerate() {
                    let line = line_of(plane0, line, 4 * chroma_width);
                    split_packed(raw.format, line, pairs, y, cb, cr);
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
                    samples::split(line_of(plane1, line, 2 * chroma_width), cb, cr);
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

/// Takes a line of packed 4:2:2 apart; `chroma` is room for its second half.
fn split_packed(
    format: PixelFormat,
    line: &[u8],
    chroma: &mut [u8],
    y: &mut [u8],
    cb: &mut [u8],
    cr: &mut [u8],
) {
    match format {
        PixelFormat::Yuyv => samples::split(line, y, chroma),
        _ => samples::split(line, chroma, y),
    }
    samples::split(chroma, cb, cr);
}

/// Encodes 4:2:0 or 4:2:2 smaller than it is. `check` has seen the picture.
fn shrink_planar(
    to: &mut Compressor<'_>,
    raw: &RawPicture<'_>,
    size: Size,
    factors: &[Factors; COMPONENTS],
    rows: &mut [u8],
    scaler: &mut Scaler,
) -> Result<(), Failed> {
    let (width, height) = (usize::from(raw.width), usize::from(raw.height));
    let v = factors[0].1 as usize;
    let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(v));
    // Half of a side fits where the side did.
    let chroma = Size {
        width: chroma_width as u16,
        height: chroma_height as u16,
    };
    let luma = Size {
        width: raw.width,
        height: raw.height,
    };
    to.start_raw(factors)?;
    scaler.start(to, &[luma, chroma, chroma], size, factors);
    let [plane0, plane1, plane2] = &raw.planes;
    // An odd width has half a pair of pixels more.
    let (y, rest) = rows.split_at_mut(2 * chroma_width);
    let (cb, rest) = rest.split_at_mut(chroma_width);
    let (cr, rest) = rest.split_at_mut(chroma_width);
    let pairs = &mut rest[..2 * chroma_width];
    for line in 0..chroma_height {
        for luma in (v * line..v * (line + 1)).filter(|&luma| luma < height) {
            match raw.format {
                PixelFormat::Yuyv | PixelFormat::Uyvy => {
                    let line = line_of(plane0, luma, 4 * chroma_width);
                    split_packed(raw.format, line, pairs, y, cb, cr);
                }
                _ => {
                    scaler.push(0, line_of(plane0, luma, width));
                    continue;
                }
            }
            scaler.push(0, y);
        }
        match raw.format {
            PixelFormat::Yu12 => {
                scaler.push(1, line_of(plane1, line, chroma_width));
                scaler.push(2, line_of(plane2, line, chroma_width));
            }
            PixelFormat::Nv12 => {
                samples::split(line_of(plane1, line, 2 * chroma_width), cb, cr);
                scaler.push(1, cb);
                scaler.push(2, cr);
            }
            _ => {
                scaler.push(1, cb);
                scaler.push(2, cr);
            }
        }
        scaler.write(to)?;
    }
    Ok(())
}

/// Encodes smaller than it is what libjpeg takes line by line. `check` has seen the picture.
fn shrink_lines(
    to: &mut Compressor<'_>,
    raw: &RawPicture<'_>,
    size: Size,
    pixel_bytes: usize,
    scaler: &mut Scaler,
) -> Result<(), Failed> {
    let whole = Size {
        width: raw.width,
        height: raw.height,
    };
    to.start()?;
    scaler.start_lines(whole, size, pixel_bytes);
    for line in 0..usize::from(raw.height) {
        let line = line_of(&raw.planes[0], line, pixel_bytes * usize::from(raw.width));
        scaler.push_line(line, to)?;
    }
    Ok(())
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
    recipe: &Recipe,
    rows: &mut [u8],
    scaler: &mut Scaler,
    eighths: &mut Eighths,
) -> Result<(), Failed> {
    let whole = from.size()?;
    let size = recipe.bounds.fit(whole);
    let space = from.space()?;
    to.configure(size, space, recipe.quality)?;
    if size != whole {
        from.scale(size);
    }
    let mut factors = [(0, 0); COMPONENTS];
    let components = from.components();
    for (factors, component) in factors.iter_mut().zip(components) {
        *factors = (component.h_samp_factor, component.v_samp_factor);
    }
    let count = components.len();
    let factors = &factors[..count];
    let blocks: i32 = factors.iter().map(|(h, v)| h * v).sum();
    if space != JCS_RGB && (count == 1 || blocks <= MCU_BLOCKS) {
        if size != whole
            && let Some(scan) = from.scan_for_eighths()
            && let Some(planes) = eighths.decode(&scan)
        {
            to.start_raw(factors)?;
            scaler.start(
                &mut to,
                &planes.each_ref().map(|plane| plane.size),
                size,
                factors,
            );
            let v = factors[0].1 as usize;
            for line in 0..planes[1].size.height.into() {
                for luma in (v * line..v * (line + 1))
                    .take_while(|&luma| luma < planes[0].size.height.into())
                {
                    scaler.push(0, planes[0].line(luma));
                }
                scaler.push(1, planes[1].line(line));
                scaler.push(2, planes[2].line(line));
                scaler.write(&mut to)?;
            }
            return to.finish();
        }
        from.start_raw()?;
        to.start_raw(factors)?;
        let planes = from.planes();
        let planes = &planes[..count];
        if size == whole {
            while from.read_mcu_row(rows)? {
                let mut lines: McuRow<'_> = [[&[]; MCU_LINES]; COMPONENTS];
                let mut rest = &*rows;
                for (to, plane) in lines.iter_mut().zip(planes) {
                    let (these, others) = rest.split_at(plane.lines() * plane.line());
                    for (to, line) in to.iter_mut().zip(these.chunks_exact(plane.line())) {
                        *to = line;
                    }
                    rest = others;
                }
                to.write_mcu_row(&lines)?;
            }
        } else {
            let mut sizes = [Bounds::NONE.within; COMPONENTS];
            for (size, plane) in sizes.iter_mut().zip(planes) {
                *size = plane.size();
            }
            scaler.start(&mut to, &sizes[..count], size, factors);
            let mut mcu = 0;
            while from.read_mcu_row(rows)? {
                let mut rest = &*rows;
                for (i, plane) in planes.iter().enumerate() {
                    let (these, others) = rest.split_at(plane.lines() * plane.line());
                    // The last row of MCUs may go beyond the picture.
                    let left = usize::from(plane.size().height) - mcu * plane.lines();
                    for line in these.chunks_exact(plane.line()).take(left) {
                        scaler.push(i, line);
                    }
                    rest = others;
                }
                scaler.write(&mut to)?;
                mcu += 1;
            }
        }
    } else {
        from.start()?;
        to.set_sampling(&[(1, 1); COMPONENTS]);
        to.start()?;
        let decoded = from.output_size();
        let line = &mut rows[..count * usize::from(decoded.width)];
        scaler.start_lines(decoded, size, count);
        while from.read_line(line)? {
            scaler.push_line(line, &mut to)?;
        }
    }
    from.finish()?;
    to.finish()
}
