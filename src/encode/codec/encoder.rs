//! Raw pictures to JPEG, and JPEG to JPEG.

use std::ops::Range;
use std::time::Instant;

use mozjpeg_sys::{DCTSIZE, JCS_EXT_BGR, JCS_EXT_RGB, JCS_GRAYSCALE, JCS_RGB, JCS_YCbCr};

use super::error::CodecError;
use super::libjpeg::{Compressor, Decompressor, Failed, Libjpeg};
use super::lines::{Lines, check, split_luma, split_packed, usual};
use super::mcu::{COMPONENTS, Factors, MCU_LINES, McuRow, ROW_SAMPLES, pad};
use super::pixels::{self, PixelRecipe, Rows};
use super::recipe::Recipe;
use super::reduced::Reducer;
use super::scaler::Scaler;
use super::turner::{Output, Turner};
use crate::measure::times::Spent;
use crate::picture::frame::{
    Area, Bounds, Chroma, FrameBuf, Orientation, Picture, PixelFormat, RawPicture, Size,
};
use crate::picture::samples;

/// `C_MAX_BLOCKS_IN_MCU` of jpeglib.h.
const MCU_BLOCKS: i32 = 10;

/// Encodes and transcodes, one picture at a time, with objects that are made once.
pub struct Codec {
    libjpeg: Libjpeg,
    /// One row of MCUs, components one after the other, for what cannot be read where it is.
    rows: Box<[u8]>,
    scaler: Scaler,
    turner: Turner,
    reducer: Reducer,
}

impl Codec {
    /// # Panics
    /// If libjpeg is not the one that this was compiled for, or there is no memory for its objects.
    pub fn new() -> Self {
        Codec {
            libjpeg: Libjpeg::new(),
            rows: vec![0; ROW_SAMPLES].into_boxed_slice(),
            scaler: Scaler::new(),
            turner: Turner::new(),
            reducer: Reducer::new(),
        }
    }

    /// From now on it is measured what pictures take.
    pub fn set_clock(&mut self, clock: fn() -> Instant) {
        self.libjpeg.laps.clock = Some(clock);
    }

    /// What the last picture took; nothing without a clock.
    pub fn spent(&self) -> Spent {
        self.libjpeg.laps.spent()
    }

    /// Makes a JPEG of `picture` in `out`, as the recipe says. After an error `out` is empty.
    ///
    /// The sampling is that of the picture, and RGB becomes 4:2:2, unless the recipe wants 4:2:0: 4:2:2, 4:4:0, 4:4:4 and
    /// RGB then become that, while what is 4:2:0 or coarser stays as it is. A JPEG's RGB stays RGB in 4:4:4, and
    /// samplings that only exist in theory become 4:4:4 in place of their own. 4:2:2 becomes 4:4:0 where rows become
    /// columns. A JPEG loses its metadata. Damage within it is passed on as libjpeg shows it (many UVC cameras leave extra
    /// bytes before a marker, in every frame); a damaged header, or an end before EOI, is an error.
    pub fn make(
        &mut self,
        picture: &Picture<'_>,
        recipe: &Recipe<'_>,
        out: &mut FrameBuf,
    ) -> Result<(), CodecError> {
        match picture {
            Picture::Raw(raw) => self.encode_raw(raw, recipe, out),
            Picture::Jpeg(jpeg) => {
                out.clear();
                let (rows, scaler, turner) = (&mut *self.rows, &mut self.scaler, &mut self.turner);
                let reducer = &mut self.reducer;
                self.libjpeg.run(recipe.stamp, out, |to, from| {
                    let from = from.read_header(jpeg)?;
                    transcode(from, to, recipe, rows, scaler, turner, reducer)
                })
            }
        }
    }

    /// Turns a JPEG on its coefficients: no quantization and no rounding, so nothing is lost. The result is a baseline
    /// JPEG with the standard Huffman tables and without the metadata of the other. After an error `out` is empty, and
    /// [`Codec::make`] may still do it: the JPEG's edges are no whole MCUs ([`CodecError::PartialMcu`], which costs
    /// nothing), its coefficients do not fit the memory, or it is one that libjpeg reads but does not write.
    pub fn turn(
        &mut self,
        jpeg: &[u8],
        orientation: Orientation,
        out: &mut FrameBuf,
    ) -> Result<(), CodecError> {
        out.clear();
        self.libjpeg.run(None, out, |to, from| {
            let from = from.read_header(jpeg)?;
            from.size()?;
            from.space()?;
            if from.turn(to, orientation)? {
                Ok(())
            } else {
                Err(CodecError::PartialMcu.into())
            }
        })
    }

    /// [`Codec::turn`] of a part of a JPEG, `area` as it is stored. The result begins with whole MCUs, as viewers see it: it
    /// has up to 15 columns and lines more than `area` (in 4:2:0) to the left and above, and its right and lower edges are
    /// those of `area`. Returns the part that it really has, as it is stored.
    pub fn cut(
        &mut self,
        jpeg: &[u8],
        orientation: Orientation,
        area: Area,
        out: &mut FrameBuf,
    ) -> Result<Area, CodecError> {
        out.clear();
        let mut cut = area;
        self.libjpeg.run(None, out, |to, from| {
            let from = from.read_header(jpeg)?;
            let whole = from.size()?;
            from.space()?;
            let wanted = orientation.turn_area(area.within(whole), whole);
            let Some(shown) = from.cut(to, orientation, wanted)? else {
                return Err(CodecError::PartialMcu.into());
            };
            cut = orientation
                .inverse()
                .turn_area(shown, orientation.turn(whole));
            Ok(())
        })?;
        Ok(cut)
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

    /// Gives a picture to `rows`, as the recipe says. Nothing is allocated. Returns the size of what was given; after an
    /// error `rows` may have got a part of it.
    pub fn pixels(
        &mut self,
        picture: &Picture<'_>,
        recipe: &PixelRecipe<'_>,
        rows: &mut dyn Rows,
    ) -> Result<Size, CodecError> {
        let (line, scaler, turner) = (&mut *self.rows, &mut self.scaler, &mut self.turner);
        match picture {
            Picture::Raw(raw) => {
                let raw = &part(raw, recipe.crop)?;
                pixels::of_raw(raw, recipe, rows, line, scaler, turner)
            }
            Picture::Jpeg(jpeg) => {
                let mut size = Err(CodecError::Truncated);
                self.libjpeg.decode(|from| {
                    let from = from.read_header(jpeg)?;
                    size = Ok(pixels::of_jpeg(from, recipe, rows, line, scaler, turner)?);
                    Ok(())
                })?;
                size
            }
        }
    }

    fn encode_raw(
        &mut self,
        raw: &RawPicture<'_>,
        recipe: &Recipe<'_>,
        out: &mut FrameBuf,
    ) -> Result<(), CodecError> {
        out.clear();
        let raw = &part(raw, recipe.crop)?;
        let (rows, scaler, turner) = (&mut *self.rows, &mut self.scaler, &mut self.turner);
        let whole = Size {
            width: raw.width,
            height: raw.height,
        };
        let size = recipe.scaled(whole);
        // Read from below, a picture is mirrored at no cost.
        let upside_down = recipe.orientation.mirror_y && !recipe.orientation.transpose;
        let orientation = recipe.orientation.mirrored(false, upside_down);
        let (picture, exchanged) = usual(raw);
        let raw = &Lines {
            picture: &picture,
            upside_down,
            exchanged,
        };
        self.libjpeg.run(recipe.stamp, out, |to, _| {
            let format = raw.picture.format;
            let (space, pixel_bytes) = match format {
                PixelFormat::Rgb24 => (JCS_EXT_RGB, 3),
                PixelFormat::Bgr24 => (JCS_EXT_BGR, 3),
                PixelFormat::Grey => (JCS_GRAYSCALE, 1),
                _ => (JCS_YCbCr, 0),
            };
            let mut to = Output::new(to, turner, orientation, size, space, recipe.quality)?;
            let factors = match (format, recipe.chroma) {
                (PixelFormat::Nv12 | PixelFormat::Yu12, _) | (_, Chroma::Yuv420) => YUV420,
                (_, Chroma::Yuv422) => YUV422,
            };
            if pixel_bytes == 3 {
                to.set_sampling(factors);
            }
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

/// The part of a raw picture that is shown, all of which has been checked.
fn part<'a>(raw: &RawPicture<'a>, crop: Option<Area>) -> Result<RawPicture<'a>, CodecError> {
    check(raw)?;
    Ok(crop.map_or(*raw, |area| raw.crop(area)))
}

/// The sampling factors of 4:2:0.
const YUV420: &[Factors; COMPONENTS] = &[(2, 2), (1, 1), (1, 1)];
/// Of 4:2:2.
const YUV422: &[Factors; COMPONENTS] = &[(2, 1), (1, 1), (1, 1)];

/// The sampling in which a JPEG in YCbCr of the sampling `from` is to go on.
fn sampling(from: &[Factors], chroma: Chroma) -> &[Factors] {
    let &[(h, v), blue, red] = from else {
        return from;
    };
    let twice_at_most = |luma, chroma| luma == chroma || luma == 2 * chroma;
    let finer = blue == red
        && twice_at_most(h, blue.0)
        && twice_at_most(v, blue.1)
        && (h == blue.0 || v == blue.1);
    if chroma == Chroma::Yuv420 && finer {
        YUV420
    } else {
        from
    }
}

/// Encodes 4:2:0 or 4:2:2, as `factors` say. Of 4:2:2, two lines share their colours in 4:2:0: the mean of both.
fn encode_planar(
    to: &mut Output<'_>,
    raw: &Lines<'_>,
    factors: &[Factors; COMPONENTS],
    rows: &mut [u8],
) -> Result<(), Failed> {
    to.start_raw(factors)?;
    let Size { width, height } = raw.size();
    let (width, height) = (usize::from(width), usize::from(height));
    let (chroma_width, v) = (width.div_ceil(2), factors[0].1 as usize);
    let chroma_height = height.div_ceil(v);
    // Samples per line, to the end of the last block. Both chroma components have the same.
    let luma = to.line_samples(0);
    let chroma = to.line_samples(1);

    for mcu in 0..height.div_ceil(v * DCTSIZE) {
        let (y_rows, rest) = rows.split_at_mut(v * DCTSIZE * luma);
        let (cb_rows, rest) = rest.split_at_mut(DCTSIZE * chroma);
        let (cr_rows, rest) = rest.split_at_mut(DCTSIZE * chroma);
        let (pairs, rest) = rest.split_at_mut(2 * chroma_width);
        let pairs_below = &mut rest[..2 * chroma_width];
        let mut lines: McuRow<'_> = [[&[]; MCU_LINES]; COMPONENTS];
        // What the last row of MCUs lacks is its last line again: anything else would show at the edge.
        let y_range = mcu * v * DCTSIZE..((mcu + 1) * v * DCTSIZE).min(height);
        let c_range = mcu * DCTSIZE..((mcu + 1) * DCTSIZE).min(chroma_height);
        let (y_count, c_count) = (y_range.len(), c_range.len());
        match raw.picture.format {
            format @ (PixelFormat::Yuyv | PixelFormat::Uyvy) if v == 2 => {
                let scratch = y_rows
                    .chunks_exact_mut(2 * luma)
                    .zip(cb_rows.chunks_exact_mut(chroma))
                    .zip(cr_rows.chunks_exact_mut(chroma));
                for (i, (first, ((y, cb), cr))) in y_range.step_by(2).zip(scratch).enumerate() {
                    let (y, y_below) = y.split_at_mut(luma);
                    let line = raw.line(0, first, 4 * chroma_width);
                    split_luma(format, line, pairs, y);
                    lines[0][2 * i] = pad(y, width);
                    let below = if first + 1 < height {
                        let line = raw.line(0, first + 1, 4 * chroma_width);
                        split_luma(format, line, pairs_below, y_below);
                        lines[0][2 * i + 1] = pad(y_below, width);
                        &*pairs_below
                    } else {
                        // The last line of an odd height has its colours for itself.
                        &*pairs
                    };
                    samples::split_means(pairs, below, cb, cr);
                    lines[1][i] = pad(cb, chroma_width);
                    lines[2][i] = pad(cr, chroma_width);
                }
            }
            format @ (PixelFormat::Yuyv | PixelFormat::Uyvy) => {
                let scratch = y_rows
                    .chunks_exact_mut(luma)
                    .zip(cb_rows.chunks_exact_mut(chroma))
                    .zip(cr_rows.chunks_exact_mut(chroma));
                for (i, (line, ((y, cb), cr))) in y_range.zip(scratch).enumerate() {
                    let line = raw.line(0, line, 4 * chroma_width);
                    split_packed(format, line, pairs, y, cb, cr);
                    lines[0][i] = pad(y, width);
                    lines[1][i] = pad(cb, chroma_width);
                    lines[2][i] = pad(cr, chroma_width);
                }
            }
            PixelFormat::Nv16 if v == 2 => {
                let scratch = cb_rows
                    .chunks_exact_mut(chroma)
                    .zip(cr_rows.chunks_exact_mut(chroma));
                let first = y_range.clone().step_by(2);
                for (i, (first, (cb, cr))) in first.zip(scratch).enumerate() {
                    let above = raw.line(1, first, 2 * chroma_width);
                    // The last line of an odd height has its colours for itself.
                    let below = raw.line(1, (first + 1).min(height - 1), 2 * chroma_width);
                    samples::split_means(above, below, cb, cr);
                    lines[1][i] = pad(cb, chroma_width);
                    lines[2][i] = pad(cr, chroma_width);
                }
                fill(&mut lines[0], raw, 0, y_range, width, luma, y_rows);
            }
            PixelFormat::Nv12 | PixelFormat::Nv16 => {
                fill(&mut lines[0], raw, 0, y_range, width, luma, y_rows);
                let scratch = cb_rows
                    .chunks_exact_mut(chroma)
                    .zip(cr_rows.chunks_exact_mut(chroma));
                for (i, (line, (cb, cr))) in c_range.zip(scratch).enumerate() {
                    samples::split(raw.line(1, line, 2 * chroma_width), cb, cr);
                    lines[1][i] = pad(cb, chroma_width);
                    lines[2][i] = pad(cr, chroma_width);
                }
            }
            _ => {
                fill(&mut lines[0], raw, 0, y_range, width, luma, y_rows);
                fill(
                    &mut lines[1],
                    raw,
                    1,
                    c_range.clone(),
                    chroma_width,
                    chroma,
                    cb_rows,
                );
                fill(
                    &mut lines[2],
                    raw,
                    2,
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
        if raw.exchanged {
            lines.swap(1, 2);
        }
        to.write_mcu_row(&lines)?;
    }
    Ok(())
}

/// Points `lines` at the lines `range` of `plane`, where they are if they end with a block, else at padded copies.
fn fill<'a>(
    lines: &mut [&'a [u8]; MCU_LINES],
    raw: &Lines<'a>,
    plane: usize,
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
        let source = raw.line(plane, line, width);
        *to = if width == padded {
            source
        } else {
            row[..width].copy_from_slice(source);
            pad(row, width)
        };
    }
}

/// Encodes 4:2:0 or 4:2:2 smaller than it is, in the sampling that `factors` say, which is not finer.
fn shrink_planar(
    to: &mut Output<'_>,
    raw: &Lines<'_>,
    size: Size,
    factors: &[Factors; COMPONENTS],
    rows: &mut [u8],
    scaler: &mut Scaler,
) -> Result<(), Failed> {
    let luma = raw.size();
    let (width, height) = (usize::from(luma.width), usize::from(luma.height));
    // Lines that share their colours.
    let v = match raw.picture.format {
        PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Nv16 => 1,
        _ => 2,
    };
    let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(v));
    // Half of a side fits where the side did.
    let chroma = Size {
        width: chroma_width as u16,
        height: chroma_height as u16,
    };
    to.start_raw(factors)?;
    scaler.start(to, &[luma, chroma, chroma], size, factors);
    // An odd width has half a pair of pixels more.
    let (y, rest) = rows.split_at_mut(2 * chroma_width);
    let (cb, rest) = rest.split_at_mut(chroma_width);
    let (cr, rest) = rest.split_at_mut(chroma_width);
    let pairs = &mut rest[..2 * chroma_width];
    let [blue, red] = raw.colours(1, 2);
    for line in 0..chroma_height {
        for luma in (v * line..v * (line + 1)).filter(|&luma| luma < height) {
            match raw.picture.format {
                format @ (PixelFormat::Yuyv | PixelFormat::Uyvy) => {
                    let line = raw.line(0, luma, 4 * chroma_width);
                    split_packed(format, line, pairs, y, cb, cr);
                }
                _ => {
                    scaler.push(0, raw.line(0, luma, width));
                    continue;
                }
            }
            scaler.push(0, y);
        }
        match raw.picture.format {
            PixelFormat::Yu12 => {
                scaler.push(blue, raw.line(1, line, chroma_width));
                scaler.push(red, raw.line(2, line, chroma_width));
            }
            PixelFormat::Nv12 | PixelFormat::Nv16 => {
                samples::split(raw.line(1, line, 2 * chroma_width), cb, cr);
                scaler.push(blue, cb);
                scaler.push(red, cr);
            }
            _ => {
                scaler.push(blue, cb);
                scaler.push(red, cr);
            }
        }
        scaler.write(to)?;
    }
    Ok(())
}

/// Encodes smaller than it is what libjpeg takes line by line.
fn shrink_lines(
    to: &mut Output<'_>,
    raw: &Lines<'_>,
    size: Size,
    pixel_bytes: usize,
    scaler: &mut Scaler,
) -> Result<(), Failed> {
    let whole = raw.size();
    to.start_lines(pixel_bytes)?;
    scaler.start_lines(whole, size, pixel_bytes);
    for line in 0..usize::from(whole.height) {
        let line = raw.line(0, line, pixel_bytes * usize::from(whole.width));
        scaler.push_line(line, to)?;
    }
    Ok(())
}

/// Encodes what libjpeg takes line by line.
fn encode_lines(to: &mut Output<'_>, raw: &Lines<'_>, pixel_bytes: usize) -> Result<(), Failed> {
    let Size { width, height } = raw.size();
    to.start_lines(pixel_bytes)?;
    for line in 0..usize::from(height) {
        to.write_line(raw.line(0, line, pixel_bytes * usize::from(width)))?;
    }
    Ok(())
}

fn transcode(
    mut from: Decompressor<'_>,
    to: Compressor<'_>,
    recipe: &Recipe,
    rows: &mut [u8],
    scaler: &mut Scaler,
    turner: &mut Turner,
    reducer: &mut Reducer,
) -> Result<(), Failed> {
    let all = from.size()?;
    let area = from.part(recipe.crop)?;
    let (whole, is_all) = (area.size(), area == Area::all(all));
    let size = recipe.scaled(whole);
    let space = from.space()?;
    let mut to = Output::new(to, turner, recipe.orientation, size, space, recipe.quality)?;
    if size != whole {
        from.scale(size, area);
    }
    let mut factors = [(0, 0); COMPONENTS];
    let components = from.components();
    for (factors, component) in factors.iter_mut().zip(components) {
        *factors = (component.h_samp_factor, component.v_samp_factor);
    }
    let count = components.len();
    let factors = &factors[..count];
    let wanted = match space {
        JCS_YCbCr => sampling(factors, recipe.chroma),
        _ => factors,
    };
    let blocks: i32 = factors.iter().map(|(h, v)| h * v).sum();
    if space != JCS_RGB && (count == 1 || blocks <= MCU_BLOCKS) {
        if size != whole
            && let Some(planes) = from.decode_reduced(reducer)
        {
            to.start_raw(wanted)?;
            let parts: [Area; COMPONENTS] =
                std::array::from_fn(|i| from.reduced_part(area, i, planes[i].size));
            scaler.start(&to, &parts.map(Area::size), size, wanted);
            let v = factors[0].1 as usize;
            let (luma, chroma) = (parts[0], parts[1]);
            for line in 0..chroma.height.into() {
                for at in (v * line..v * (line + 1)).take_while(|&line| line < luma.height.into()) {
                    let line = planes[0].line(usize::from(luma.y) + at);
                    scaler.push(0, &line[luma.x.into()..]);
                }
                for i in [1, 2] {
                    let line = planes[i].line(usize::from(chroma.y) + line);
                    scaler.push(i, &line[chroma.x.into()..]);
                }
                scaler.write(&mut to)?;
            }
            return to.finish();
        }
        from.start_raw()?;
        to.start_raw(wanted)?;
        let planes = from.planes();
        let planes = &planes[..count];
        if is_all && size == whole && wanted == factors {
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
            let mut parts = [Area::all(Bounds::NONE.within); COMPONENTS];
            let mut sizes = [Bounds::NONE.within; COMPONENTS];
            for (i, plane) in planes.iter().enumerate() {
                parts[i] = from.component_part(area, i, plane.size());
                sizes[i] = parts[i].size();
            }
            scaler.start(&to, &sizes[..count], size, wanted);
            let mut mcu = 0;
            while from.read_mcu_row(rows)? {
                let mut rest = &*rows;
                let mut below = true;
                for (i, (plane, part)) in planes.iter().zip(parts).enumerate() {
                    let (these, others) = rest.split_at(plane.lines() * plane.line());
                    // The last row of MCUs may go beyond the picture.
                    let (top, bottom) = (usize::from(part.y), usize::from(part.y + part.height));
                    let first = mcu * plane.lines();
                    for (line, at) in these.chunks_exact(plane.line()).zip(first..bottom) {
                        if at >= top {
                            scaler.push(i, &line[part.x.into()..]);
                        }
                    }
                    below &= first + plane.lines() >= bottom;
                    rest = others;
                }
                scaler.write(&mut to)?;
                mcu += 1;
                if below && !is_all {
                    // Nobody sees the rest.
                    return to.finish();
                }
            }
        }
    } else {
        from.start()?;
        to.set_sampling(match (space, recipe.chroma) {
            (JCS_YCbCr, Chroma::Yuv420) => YUV420,
            _ => &[(1, 1); COMPONENTS],
        });
        to.start_lines(count)?;
        let decoded = from.output_size();
        let part = from.decoded_part(area, decoded);
        let line = &mut rows[..count * usize::from(decoded.width)];
        scaler.start_lines(part.size(), size, count);
        for y in 0..usize::from(part.y) + usize::from(part.height) {
            if !from.read_line(line)? {
                break;
            }
            if y >= part.y.into() {
                scaler.push_line(&line[count * usize::from(part.x)..], &mut to)?;
            }
        }
        if !is_all {
            return to.finish();
        }
    }
    from.finish()?;
    to.finish()
}
