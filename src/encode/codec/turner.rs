//! Between the lines of a picture as it is stored and libjpeg, which gets it as viewers see it.
//!
//! Upright pictures go straight on. Lines that only change left and right are mirrored on the way. All else needs the
//! whole picture: its lines are kept, mirrored already, until the last has come, and then go on in the order wanted.

use super::error::CodecError;
use super::libjpeg::{Compressor, Failed};
use super::mcu::{COMPONENTS, Factors, MCU_LINES, McuRow, ROW_SAMPLES, pad};
use crate::limits::TURNED_BYTES;
use crate::picture::frame::{Orientation, Size};
use mozjpeg_sys::{DCTSIZE, J_COLOR_SPACE};

/// Memory to turn pictures in, taken once. Pages that were never written cost nothing.
pub(super) struct Turner {
    /// The components of a picture that is kept, one after the other.
    kept: Box<[u8]>,
    /// Lines on their way out.
    rows: Box<[u8]>,
}

impl Turner {
    pub(super) fn new() -> Self {
        Turner {
            kept: vec![0; TURNED_BYTES].into_boxed_slice(),
            rows: vec![0; ROW_SAMPLES].into_boxed_slice(),
        }
    }
}

/// A component as it is stored, or the pixels of a picture that comes line by line.
#[derive(Clone, Copy, Default)]
struct Plane {
    /// In bytes.
    width: usize,
    height: usize,
    /// Bytes to the next sample in a line.
    channels: usize,
    /// Lines in a row of MCUs.
    mcu_lines: usize,
    /// Where in `kept` it begins.
    start: usize,
    /// How many lines have come.
    lines: usize,
}

impl Plane {
    /// Bytes from one line to the next: whole blocks.
    fn stride(&self) -> usize {
        self.width.next_multiple_of(DCTSIZE)
    }

    /// The bytes of all lines; a transposition wants whole blocks of these, too.
    fn bytes(&self) -> usize {
        self.stride() * self.height.next_multiple_of(DCTSIZE)
    }
}

/// Takes a picture as viewers see it, line by line.
pub(super) trait TakesLines {
    fn start(&mut self) -> Result<(), Failed>;
    fn write_line(&mut self, line: &[u8]) -> Result<(), Failed>;
    fn finish(&mut self) -> Result<(), Failed>;
}

impl TakesLines for Compressor<'_> {
    fn start(&mut self) -> Result<(), Failed> {
        Compressor::start(self)
    }

    fn write_line(&mut self, line: &[u8]) -> Result<(), Failed> {
        Compressor::write_line(self, line)
    }

    fn finish(&mut self) -> Result<(), Failed> {
        Compressor::finish(self)
    }
}

/// What a picture becomes: a compress object, or pixels. It is taken as it is stored.
pub(super) struct Output<'a, T = Compressor<'a>> {
    to: T,
    turner: &'a mut Turner,
    orientation: Orientation,
    /// As it is stored.
    size: Size,
    planes: [Plane; COMPONENTS],
    count: usize,
    /// Lines of the picture in a row of MCUs.
    mcu_height: usize,
}

impl<'a> Output<'a> {
    /// `size`, and everything that is written, is as stored, before `orientation`.
    pub(super) fn new(
        mut to: Compressor<'a>,
        turner: &'a mut Turner,
        orientation: Orientation,
        size: Size,
        space: J_COLOR_SPACE,
        quality: u8,
    ) -> Result<Self, Failed> {
        to.configure(orientation.turn(size), space, quality)?;
        Ok(Output::lines(to, turner, orientation, size))
    }
}

impl<'a, T> Output<'a, T> {
    /// For what comes line by line. `size`, and everything that is written, is as stored, before `orientation`.
    pub(super) fn lines(
        to: T,
        turner: &'a mut Turner,
        orientation: Orientation,
        size: Size,
    ) -> Self {
        Output {
            to,
            turner,
            orientation,
            size,
            planes: [Plane::default(); COMPONENTS],
            count: 0,
            mcu_height: 0,
        }
    }

    /// Whether lines leave in another order than they came in.
    fn keeps(&self) -> bool {
        self.orientation.transpose || self.orientation.mirror_y
    }

    fn mirrors_lines(&self) -> bool {
        if self.orientation.transpose {
            self.orientation.mirror_y
        } else {
            self.orientation.mirror_x
        }
    }

    /// Whether the last of the kept lines is the first that came.
    fn mirrors_order(&self) -> bool {
        if self.orientation.transpose {
            self.orientation.mirror_x
        } else {
            self.orientation.mirror_y
        }
    }

    fn set_planes(&mut self, planes: impl Iterator<Item = Plane>) -> Result<(), CodecError> {
        self.count = 0;
        let mut start = 0;
        for (to, plane) in self.planes.iter_mut().zip(planes) {
            *to = Plane { start, ..plane };
            start += plane.bytes();
            self.count += 1;
        }
        if self.keeps() && start > self.turner.kept.len() {
            return Err(CodecError::TooBigToTurn { needed: start });
        }
        Ok(())
    }

    /// Keeps the next line of a component.
    fn keep(&mut self, component: usize, line: &[u8]) {
        let (mirrors_lines, mirrors_order) = (self.mirrors_lines(), self.mirrors_order());
        let plane = &mut self.planes[component];
        let place = if mirrors_order {
            plane.height - 1 - plane.lines
        } else {
            plane.lines
        };
        plane.lines += 1;
        let stride = plane.stride();
        let row = &mut self.turner.kept[plane.start + place * stride..][..stride];
        let line = &line[..plane.width];
        if mirrors_lines {
            mirror(line, plane.channels, row);
        } else {
            row[..plane.width].copy_from_slice(line);
        }
        pad(row, plane.width);
    }
}

impl<T: TakesLines> Output<'_, T> {
    /// Starts a picture that comes with [`Output::write_line`]; `channels` bytes a pixel.
    pub(super) fn start_lines(&mut self, channels: usize) -> Result<(), Failed> {
        let plane = Plane {
            width: channels * usize::from(self.size.width),
            height: self.size.height.into(),
            channels,
            ..Plane::default()
        };
        self.set_planes(std::iter::once(plane))?;
        self.to.start()
    }

    pub(super) fn write_line(&mut self, line: &[u8]) -> Result<(), Failed> {
        if self.keeps() {
            self.keep(0, line);
            Ok(())
        } else if self.mirrors_lines() {
            let Plane {
                width, channels, ..
            } = self.planes[0];
            mirror(&line[..width], channels, &mut self.turner.rows);
            self.to.write_line(&self.turner.rows[..width])
        } else {
            self.to.write_line(line)
        }
    }

    /// The end of a picture that came with [`Output::write_line`].
    pub(super) fn finish_lines(mut self) -> Result<(), Failed> {
        if self.keeps() {
            self.write_kept_lines()?;
        }
        self.to.finish()
    }

    fn write_kept_lines(&mut self) -> Result<(), Failed> {
        let plane = self.planes[0];
        let kept = &self.turner.kept[plane.start..][..plane.bytes()];
        if !self.orientation.transpose {
            for line in kept.chunks_exact(plane.stride()).take(plane.height) {
                self.to.write_line(line)?;
            }
            return Ok(());
        }
        // Eight of the lines to come are eight columns.
        let columns = plane.width / plane.channels;
        let line = plane.height.next_multiple_of(DCTSIZE) * plane.channels;
        let rows = &mut self.turner.rows[..DCTSIZE * line];
        for column in (0..columns).step_by(DCTSIZE) {
            if plane.channels == 1 {
                transpose(&kept[column..], plane.stride(), rows, line);
            } else {
                transpose_pixels(&kept[3 * column..], plane.stride(), rows, line);
            }
            for row in rows.chunks_exact(line).take(columns - column) {
                self.to.write_line(row)?;
            }
        }
        Ok(())
    }
}

impl Output<'_> {
    /// Starts a picture that comes with [`Output::write_mcu_row`]. Where rows become columns, so do the factors: 4:2:2
    /// becomes 4:4:0.
    pub(super) fn start_raw(&mut self, factors: &[Factors]) -> Result<(), Failed> {
        let largest = |side: fn(&Factors) -> i32| factors.iter().map(side).max().unwrap_or(1);
        let (max_h, max_v) = (largest(|f| f.0), largest(|f| f.1));
        let part = |side: u16, factor: i32, max: i32| {
            (usize::from(side) * factor as usize).div_ceil(max as usize)
        };
        let Size { width, height } = self.size;
        let planes = factors.iter().map(|&(h, v)| Plane {
            width: part(width, h, max_h),
            height: part(height, v, max_v),
            channels: 1,
            mcu_lines: v as usize * DCTSIZE,
            ..Plane::default()
        });
        self.set_planes(planes)?;
        self.mcu_height = max_v as usize * DCTSIZE;
        let mut turned = [(1, 1); COMPONENTS];
        for (turned, &(h, v)) in turned.iter_mut().zip(factors) {
            *turned = if self.orientation.transpose {
                (v, h)
            } else {
                (h, v)
            };
        }
        self.to.start_raw(&turned[..self.count])
    }

    pub(super) fn set_sampling(&mut self, factors: &[Factors]) {
        self.to.set_sampling(factors);
    }

    /// What [`Output::write_mcu_row`] takes of each line of a component: whole blocks. Known once started.
    pub(super) fn line_samples(&self, component: usize) -> usize {
        self.planes[component].stride()
    }

    /// Lines of a component in a row of MCUs. Known once started.
    pub(super) fn mcu_lines(&self, component: usize) -> usize {
        self.planes[component].mcu_lines
    }

    /// Lines of the picture in a row of MCUs. Known once started.
    pub(super) fn mcu_height(&self) -> usize {
        self.mcu_height
    }

    pub(super) fn write_mcu_row(&mut self, lines: &McuRow<'_>) -> Result<(), Failed> {
        if self.keeps() {
            for (component, lines) in lines.iter().enumerate().take(self.count) {
                let plane = &self.planes[component];
                // Those below the last only fill up the blocks.
                let count = plane.mcu_lines.min(plane.height - plane.lines);
                for line in &lines[..count] {
                    self.keep(component, line);
                }
            }
            Ok(())
        } else if self.mirrors_lines() {
            let mut mirrored: McuRow<'_> = [[&[]; MCU_LINES]; COMPONENTS];
            let mut rest = &mut *self.turner.rows;
            let planes = &self.planes[..self.count];
            for ((mirrored, lines), plane) in mirrored.iter_mut().zip(lines).zip(planes) {
                let (these, others) = rest.split_at_mut(plane.mcu_lines * plane.stride());
                let rows = these.chunks_exact_mut(plane.stride());
                for ((mirrored, line), row) in mirrored.iter_mut().zip(lines).zip(rows) {
                    mirror(&line[..plane.width], 1, row);
                    *mirrored = pad(row, plane.width);
                }
                rest = others;
            }
            self.to.write_mcu_row(&mirrored)
        } else {
            self.to.write_mcu_row(lines)
        }
    }

    pub(super) fn finish(mut self) -> Result<(), Failed> {
        if self.mcu_height == 0 {
            return self.finish_lines();
        }
        if self.keeps() {
            self.write_kept_planes()?;
        }
        self.to.finish()
    }

    fn write_kept_planes(&mut self) -> Result<(), Failed> {
        let transpose_it = self.orientation.transpose;
        let height = usize::from(self.orientation.turn(self.size).height);
        for mcu in 0..height.div_ceil(self.to.mcu_height()) {
            let mut lines: McuRow<'_> = [[&[]; MCU_LINES]; COMPONENTS];
            let mut rest = &mut *self.turner.rows;
            for (i, (lines, plane)) in lines.iter_mut().zip(&self.planes[..self.count]).enumerate()
            {
                let kept = &self.turner.kept[plane.start..][..plane.bytes()];
                let (line, count) = (self.to.line_samples(i), self.to.mcu_lines(i));
                let first = mcu * count;
                let (rows, others) = rest.split_at_mut(count * line);
                rest = others;
                let (from, last): (&[u8], usize) = if transpose_it {
                    for (strip, rows) in rows.chunks_exact_mut(DCTSIZE * line).enumerate() {
                        let column = first + strip * DCTSIZE;
                        if column < plane.width {
                            transpose(&kept[column..], plane.stride(), rows, line);
                            for row in rows.chunks_exact_mut(line) {
                                pad(row, plane.height);
                            }
                        }
                    }
                    (rows, plane.width - 1 - first)
                } else {
                    (&kept[first * line..], plane.height - 1 - first)
                };
                for (i, to) in lines[..count].iter_mut().enumerate() {
                    // What the last row of MCUs lacks is its last line again.
                    *to = &from[i.min(last) * line..][..line];
                }
            }
            self.to.write_mcu_row(&lines)?;
        }
        Ok(())
    }
}

/// The samples of `line` in the opposite order, at the beginning of `to`.
fn mirror(line: &[u8], channels: usize, to: &mut [u8]) {
    let to = &mut to[..line.len()];
    if channels == 3 {
        let (pixels, _) = line.as_chunks::<3>();
        let (to, _) = to.as_chunks_mut::<3>();
        for (to, pixel) in to.iter_mut().zip(pixels.iter().rev()) {
            *to = *pixel;
        }
        return;
    }
    // Eight at once: every processor can reverse the bytes of a word.
    let (rest, words) = line.as_rchunks::<8>();
    let (mirrored, last) = to.as_chunks_mut::<8>();
    for (to, &word) in mirrored.iter_mut().zip(words.iter().rev()) {
        *to = u64::from_ne_bytes(word).swap_bytes().to_ne_bytes();
    }
    for (to, &sample) in last.iter_mut().zip(rest.iter().rev()) {
        *to = sample;
    }
}

/// Makes the eight columns with which `from` begins, of lines `stride` apart, the eight lines of `to`, `line` long: a
/// multiple of eight, as many as `from` has lines.
fn transpose(from: &[u8], stride: usize, to: &mut [u8], line: usize) {
    let mut lines = to.chunks_exact_mut(line);
    let mut lines: [&mut [[u8; 8]]; 8] = std::array::from_fn(|_| {
        let line = lines.next().expect("eight lines");
        line.as_chunks_mut().0
    });
    for at in 0..line / 8 {
        // Whole blocks, in words: sample by sample, each would cost a cache line of its own.
        let mut block = [0; 8];
        for (i, word) in block.iter_mut().enumerate() {
            let samples = from[(8 * at + i) * stride..].first_chunk();
            *word = u64::from_le_bytes(*samples.expect("eight columns"));
        }
        exchange::<4>(&mut block, 0x0000_0000_FFFF_FFFF);
        exchange::<2>(&mut block, 0x0000_FFFF_0000_FFFF);
        exchange::<1>(&mut block, 0x00FF_00FF_00FF_00FF);
        for (line, word) in lines.iter_mut().zip(block) {
            line[at] = word.to_le_bytes();
        }
    }
}

/// In each square of twice `SIDE` samples: the upper right quarter and the lower left one change places. `mask` has the
/// left halves of these squares.
fn exchange<const SIDE: usize>(block: &mut [u64; 8], mask: u64) {
    let bits = 8 * SIDE;
    for i in 0..8 {
        if i & SIDE == 0 {
            let (upper, lower) = (block[i], block[i + SIDE]);
            block[i] = upper & mask | (lower & mask) << bits;
            block[i + SIDE] = upper >> bits & mask | lower & !mask;
        }
    }
}

/// [`transpose`] for pixels of three bytes; there need not be eight columns.
fn transpose_pixels(from: &[u8], stride: usize, to: &mut [u8], line: usize) {
    let (to, _) = to.as_chunks_mut::<3>();
    let count = line / 3;
    for (at, from) in from.chunks(stride).enumerate().take(count) {
        let (pixels, _) = from.as_chunks::<3>();
        for (i, pixel) in pixels.iter().take(8).enumerate() {
            to[i * count + at] = *pixel;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrored_lines_read_backwards() {
        for length in [1, 7, 8, 9, 30] {
            let line: Vec<u8> = (0..length).collect();
            let mut to = vec![0xEE; 33];
            mirror(&line, 1, &mut to);
            assert!(to[..length.into()].iter().rev().eq(&line));
            assert!(to[length.into()..].iter().all(|&byte| byte == 0xEE));
        }
        let mut to = [0; 6];
        mirror(&[1, 2, 3, 4, 5, 6], 3, &mut to);
        assert_eq!(to, [4, 5, 6, 1, 2, 3]);
    }

    #[test]
    fn columns_become_lines() {
        let (stride, lines) = (21, 16);
        let from: Vec<u8> = (0..stride * lines).map(|i| (i * 7 % 251) as u8).collect();
        let mut to = vec![0; 8 * lines];
        transpose(&from[5..], stride, &mut to, lines);
        for (i, &sample) in to.iter().enumerate() {
            assert_eq!(sample, from[5 + i % lines * stride + i / lines]);
        }
        let mut to = vec![0; 8 * 3 * lines];
        transpose_pixels(&from[3..], stride, &mut to, 3 * lines);
        // Of seven pixels a line the last six are there.
        for (i, pixel) in to.chunks(3).enumerate().take(6 * lines) {
            let at = 3 + i % lines * stride + i / lines * 3;
            assert_eq!(pixel, &from[at..at + 3], "{i}");
        }
    }
}
