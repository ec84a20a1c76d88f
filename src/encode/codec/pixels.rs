//! Pictures as rows of pixels, for programs that want no JPEG.
//!
//! A JPEG is decoded by libjpeg, colours and all. Raw pictures are converted line by line, as JFIF means the numbers (full
//! range); pixels that share their colour get the same. Then they are made smaller and turned as all that comes in lines.

use mozjpeg_sys::{JCS_EXT_BGR, JCS_EXT_RGB, JCS_GRAYSCALE};

use super::error::CodecError;
use super::libjpeg::{Decompressor, Failed};
use super::lines::{Lines, split_packed, usual};
use super::recipe::scaled;
use super::scaler::Scaler;
use super::turner::{Output, TakesLines, Turner};
use crate::limits::DIMENSION_MAX;
use crate::picture::frame::{Area, Bounds, Orientation, PixelFormat, RawPicture, Size};
use crate::picture::samples;
use crate::picture::stamp::{Placed, Stamp};

/// How pixels are to be made of a picture.
#[derive(Clone, Copy, Debug)]
pub struct PixelRecipe<'a> {
    /// [`PixelFormat::Rgb24`], [`PixelFormat::Bgr24`] or [`PixelFormat::Grey`]; any other is an error.
    pub format: PixelFormat,
    /// As in [`super::Recipe`].
    pub crop: Option<Area>,
    /// Of the picture as viewers see it.
    pub bounds: Bounds,
    /// How the stored picture is to be turned.
    pub orientation: Orientation,
    /// As in [`super::Recipe`].
    pub stamp: Option<&'a Stamp>,
}

impl PixelRecipe<'_> {
    /// The size in which a picture stored in the size `whole` is given.
    pub fn size(&self, whole: Size) -> Size {
        let whole = self.crop.map_or(whole, |area| area.within(whole).size());
        self.orientation
            .turn(scaled(whole, self.bounds, self.orientation))
    }

    /// Bytes a pixel.
    fn channels(&self) -> Result<usize, CodecError> {
        match self.format {
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => Ok(3),
            PixelFormat::Grey => Ok(1),
            _ => Err(CodecError::Unsupported("pixels in this format")),
        }
    }
}

/// Takes a picture row by row, from the top.
pub trait Rows {
    /// A picture of this size begins.
    fn start(&mut self, size: Size);

    /// The next row: its pixels, and nothing else.
    fn row(&mut self, row: &[u8]);
}

/// Passes rows on, with the stamp in them.
struct Pixels<'a> {
    rows: &'a mut dyn Rows,
    size: Size,
    channels: usize,
    /// The next row.
    y: usize,
    placed: Option<Placed<'a>>,
    /// A row with the stamp, and that of the stamp alone.
    stamped: &'a mut [u8],
}

impl<'a> Pixels<'a> {
    /// `stamped`: room for four samples a pixel.
    fn new(
        rows: &'a mut dyn Rows,
        size: Size,
        channels: usize,
        stamp: Option<&'a Stamp>,
        stamped: &'a mut [u8],
    ) -> Self {
        Pixels {
            rows,
            size,
            channels,
            y: 0,
            placed: stamp.and_then(|stamp| stamp.place(size)),
            stamped,
        }
    }
}

impl TakesLines for Pixels<'_> {
    fn start(&mut self) -> Result<(), Failed> {
        self.rows.start(self.size);
        Ok(())
    }

    fn write_line(&mut self, line: &[u8]) -> Result<(), Failed> {
        let line = &line[..self.channels * usize::from(self.size.width)];
        match self.placed {
            Some(placed) if self.y >= placed.top() => {
                let (copy, luma) = self.stamped.split_at_mut(line.len());
                copy.copy_from_slice(line);
                let luma = &mut luma[..placed.right()];
                placed.draw(self.y, luma);
                for (pixel, luma) in copy.chunks_exact_mut(self.channels).zip(luma) {
                    pixel.fill(*luma);
                }
                self.rows.row(copy);
            }
            _ => self.rows.row(line),
        }
        self.y += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failed> {
        assert_eq!(self.y, usize::from(self.size.height), "every row was given");
        Ok(())
    }
}

/// Room for a row of the largest picture, of four samples a pixel.
const ROW: usize = 4 * DIMENSION_MAX as usize;

pub(super) fn of_jpeg(
    mut from: Decompressor<'_>,
    recipe: &PixelRecipe<'_>,
    rows: &mut dyn Rows,
    room: &mut [u8],
    scaler: &mut Scaler,
    turner: &mut Turner,
) -> Result<Size, Failed> {
    let channels = recipe.channels()?;
    let all = from.size()?;
    let area = from.part(recipe.crop)?;
    let whole = area.size();
    // Refuses what no listener could pass on either.
    from.space()?;
    let size = scaled(whole, recipe.bounds, recipe.orientation);
    let shown = recipe.orientation.turn(size);
    if size != whole {
        from.scale(size, area);
    }
    from.start_in(match recipe.format {
        PixelFormat::Rgb24 => JCS_EXT_RGB,
        PixelFormat::Bgr24 => JCS_EXT_BGR,
        _ => JCS_GRAYSCALE,
    })?;
    let (stamped, room) = room.split_at_mut(ROW);
    let to = Pixels::new(rows, shown, channels, recipe.stamp, stamped);
    let mut to = Output::lines(to, turner, recipe.orientation, size);
    to.start_lines(channels)?;
    let decoded = from.output_size();
    let part = from.decoded_part(area, decoded);
    let line = &mut room[..channels * usize::from(decoded.width)];
    scaler.start_lines(part.size(), size, channels);
    for y in 0..usize::from(part.y) + usize::from(part.height) {
        if !from.read_line(line)? {
            break;
        }
        if y < part.y.into() {
            continue;
        }
        let line = &line[channels * usize::from(part.x)..];
        if part.size() == size {
            to.write_line(line)?;
        } else {
            scaler.push_line(line, &mut to)?;
        }
    }
    if area == Area::all(all) {
        from.finish()?;
    }
    to.finish_lines()?;
    Ok(shown)
}

/// `raw` has been checked.
pub(super) fn of_raw(
    raw: &RawPicture<'_>,
    recipe: &PixelRecipe<'_>,
    rows: &mut dyn Rows,
    room: &mut [u8],
    scaler: &mut Scaler,
    turner: &mut Turner,
) -> Result<Size, CodecError> {
    let channels = recipe.channels()?;
    let whole = Size {
        width: raw.width,
        height: raw.height,
    };
    let size = scaled(whole, recipe.bounds, recipe.orientation);
    let shown = recipe.orientation.turn(size);
    // Read from below, a picture is mirrored at no cost.
    let upside_down = recipe.orientation.mirror_y && !recipe.orientation.transpose;
    let orientation = recipe.orientation.mirrored(false, upside_down);
    let (picture, exchanged) = usual(raw);
    let lines = Lines {
        picture: &picture,
        upside_down,
        exchanged,
    };
    let (stamped, room) = room.split_at_mut(ROW);
    let (line, room) = room.split_at_mut(ROW);
    let line = &mut line[..channels * usize::from(whole.width)];
    let to = Pixels::new(rows, shown, channels, recipe.stamp, stamped);
    let mut to = Output::lines(to, turner, orientation, size);
    let mut give = || {
        to.start_lines(channels)?;
        scaler.start_lines(whole, size, channels);
        for y in 0..usize::from(whole.height) {
            let line = convert(&lines, y, recipe.format, line, room);
            if size == whole {
                to.write_line(line)?;
            } else {
                scaler.push_line(line, &mut to)?;
            }
        }
        Ok(())
    };
    give()
        .and_then(|()| to.finish_lines())
        .map_err(|failed| match failed {
            Failed::Codec(error) => error,
            Failed::Libjpeg => unreachable!("libjpeg has no part in this"),
        })?;
    Ok(shown)
}

/// Line `y` in pixels of `format`: where it is, or in `to`. `room`: for two samples a pixel and more.
fn convert<'a>(
    raw: &Lines<'a>,
    y: usize,
    format: PixelFormat,
    to: &'a mut [u8],
    room: &mut [u8],
) -> &'a [u8] {
    let width = usize::from(raw.picture.width);
    let half = width.div_ceil(2);
    let blue_first = format == PixelFormat::Bgr24;
    let has = raw.picture.format;
    match (has, format) {
        (PixelFormat::Rgb24, PixelFormat::Rgb24) | (PixelFormat::Bgr24, PixelFormat::Bgr24) => {
            raw.line(0, y, 3 * width)
        }
        (PixelFormat::Rgb24 | PixelFormat::Bgr24, _) => {
            let (pixels, _) = raw.line(0, y, 3 * width).as_chunks::<3>();
            if format == PixelFormat::Grey {
                let bgr = has == PixelFormat::Bgr24;
                for (to, &[a, g, b]) in to.iter_mut().zip(pixels) {
                    let (r, b) = if bgr { (b, a) } else { (a, b) };
                    *to = luma(r, g, b);
                }
            } else {
                let (to, _) = to.as_chunks_mut::<3>();
                for (to, &[a, g, b]) in to.iter_mut().zip(pixels) {
                    *to = [b, g, a];
                }
            }
            to
        }
        (
            PixelFormat::Grey | PixelFormat::Nv12 | PixelFormat::Nv16 | PixelFormat::Yu12,
            PixelFormat::Grey,
        ) => raw.line(0, y, width),
        (PixelFormat::Grey, _) => {
            let (to, _) = to.as_chunks_mut::<3>();
            for (to, &grey) in to.iter_mut().zip(raw.line(0, y, width)) {
                *to = [grey; 3];
            }
            to.as_flattened()
        }
        (PixelFormat::Yuyv | PixelFormat::Uyvy, _) => {
            let (luma, room) = room.split_at_mut(2 * half);
            let (pairs, room) = room.split_at_mut(2 * half);
            let (cb, room) = room.split_at_mut(half);
            split_packed(
                has,
                raw.line(0, y, 4 * half),
                pairs,
                luma,
                cb,
                &mut room[..half],
            );
            if format == PixelFormat::Grey {
                to.copy_from_slice(&luma[..width]);
            } else {
                let [cb, cr] = raw.colours(&*cb, &room[..half]);
                colours(&luma[..width], cb, cr, to, blue_first);
            }
            to
        }
        (PixelFormat::Nv12 | PixelFormat::Nv16, _) => {
            let (cb, room) = room.split_at_mut(half);
            let cr = &mut room[..half];
            let of = match has {
                PixelFormat::Nv16 => y,
                _ => raw.shared(y),
            };
            samples::split(raw.line(1, of, 2 * half), cb, cr);
            let [cb, cr] = raw.colours(&*cb, &*cr);
            colours(raw.line(0, y, width), cb, cr, to, blue_first);
            to
        }
        (PixelFormat::Yu12, _) => {
            let [cb, cr] = raw
                .colours(1, 2)
                .map(|plane| raw.line(plane, raw.shared(y), half));
            colours(raw.line(0, y, width), cb, cr, to, blue_first);
            to
        }
        _ => unreachable!("MJPEG was refused, and exchanged colours are put right"),
    }
}

/// [`samples::colours`], and the last pixel of an odd width, which has its colour for itself.
fn colours(y: &[u8], cb: &[u8], cr: &[u8], to: &mut [u8], blue_first: bool) {
    samples::colours(y, cb, cr, to, blue_first);
    if let (&[.., last], 1) = (y, y.len() % 2) {
        let at = y.len() / 2;
        let mut pair = [0; 6];
        samples::colours(&[last; 2], &cb[at..], &cr[at..], &mut pair, blue_first);
        to[6 * at..].copy_from_slice(&pair[..3]);
    }
}

/// JFIF's Y, with coefficients times 65536 that add up to that.
fn luma(r: u8, g: u8, b: u8) -> u8 {
    let [r, g, b] = [r, g, b].map(u32::from);
    ((19_595 * r + 38_470 * g + 7_471 * b + 32_768) >> 16) as u8
}
