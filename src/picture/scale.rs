//! Smaller pictures, line by line: each sample of the result is the mean of the area that it covers.
//!
//! The mean over the area neither rings nor aliases, needs no line twice, and suits what libjpeg's own scaling leaves to
//! be done (less than 2:1). Nothing is ever made larger.

use crate::limits::DIMENSION_MAX;
use crate::picture::frame::Size;
use crate::picture::samples::{add_weighed, halve, round, weigh};

/// A whole, in the weights of lines. A sum of one whole of bytes fits `u16`, which makes for twice the samples in a
/// vector.
const LINES: u32 = 1 << 8;
/// A whole, in the weights of samples within a line. A sum of one whole of sums of lines fits `u32`.
const SAMPLES: u32 = 1 << 16;

/// Which samples of a line make one sample of the result, and what each weighs.
#[derive(Clone, Copy, Default)]
struct Area {
    first: u16,
    last: u16,
    first_weight: u32,
    /// Of those between first and last, which are covered whole.
    weight: u32,
    last_weight: u32,
}

impl Area {
    /// Of sample `i` of `to`, in a line of `from`.
    fn new(i: u32, from: u32, to: u32) -> Area {
        // In units of 1/to samples.
        let (begin, end) = (i * from, (i + 1) * from);
        let (first, last) = (begin / to, (end - 1) / to);
        let weight = SAMPLES * to / from;
        let (last_weight, between) = if last == first {
            (0, 0)
        } else {
            (SAMPLES * (end - last * to) / from, last - first - 1)
        };
        Area {
            first: first as u16,
            last: last as u16,
            // And what rounding left over.
            first_weight: SAMPLES - between * weight - last_weight,
            weight,
            last_weight,
        }
    }
}

/// Makes one plane smaller, of one sample a pixel, or of three (RGB).
pub struct Shrink {
    /// What comes, and what it is taken for: the same, or with the last sample and line once more.
    given: Size,
    from: Size,
    to: Size,
    channels: usize,
    /// The next line to be taken, and the next row of the result.
    line: u32,
    row: u32,
    /// The weighted sum of the lines so far of `row`.
    sums: Box<[u16]>,
    areas: Box<[Area]>,
}

/// The most samples a pixel.
const CHANNELS: usize = 3;

impl Shrink {
    /// Room for the largest pictures. Pages that were never used cost no memory.
    pub fn new() -> Self {
        let largest = usize::from(DIMENSION_MAX);
        let none = Size {
            width: 0,
            height: 0,
        };
        Shrink {
            given: none,
            from: none,
            to: none,
            channels: 1,
            line: 0,
            row: 0,
            sums: vec![0; CHANNELS * largest].into_boxed_slice(),
            areas: vec![Area::default(); largest].into_boxed_slice(),
        }
    }

    /// Starts a picture.
    ///
    /// # Panics
    /// If a side of `to` is 0 or larger than that of `from`, or one of `from` larger than [`DIMENSION_MAX`].
    pub fn start(&mut self, from: Size, to: Size, channels: usize) {
        self.start_padded(from, from, to, channels);
    }

    /// As [`Shrink::start`], for a picture whose edges are to count once more: `from` is as large as what is `given`, or
    /// larger by a column, a line or both. Rows of the result have two lines then, or more.
    ///
    /// # Panics
    /// As [`Shrink::start`], and if `from` is neither, or the last line would complete two rows.
    pub fn start_padded(&mut self, given: Size, from: Size, to: Size, channels: usize) {
        let once_more = |given: u16, from: u16| given > 0 && (given..=given + 1).contains(&from);
        assert!(
            once_more(given.width, from.width) && once_more(given.height, from.height),
            "{given:?} as {from:?}"
        );
        assert!(given.height == from.height || 2 * to.height <= from.height);
        self.given = given;
        let sides = |from, to| (1..=from).contains(&to) && from <= DIMENSION_MAX;
        assert!(
            sides(from.width, to.width) && sides(from.height, to.height) && channels <= CHANNELS,
            "{from:?} to {to:?}, {channels} channels"
        );
        (self.from, self.to, self.channels) = (from, to, channels);
        (self.line, self.row) = (0, 0);
        if from.width == to.width {
            return;
        }
        for (i, area) in self.areas[..to.width.into()].iter_mut().enumerate() {
            *area = Area::new(i as u32, from.width.into(), to.width.into());
        }
    }

    /// Rows of the result so far.
    pub fn rows(&self) -> usize {
        self.row as usize
    }

    /// The size of the result.
    pub fn to(&self) -> Size {
        self.to
    }

    /// Takes the next line. True: this completed a row of the result, which is in `row` now.
    ///
    /// # Panics
    /// If the picture has no more lines, or `line` or `row` is too short.
    pub fn push(&mut self, line: &[u8], row: &mut [u8]) -> bool {
        let complete = self.take(line, row);
        if self.line == u32::from(self.given.height) && self.given.height < self.from.height {
            return self.take(line, row) || complete;
        }
        complete
    }

    fn take(&mut self, line: &[u8], row: &mut [u8]) -> bool {
        let line = &line[..usize::from(self.given.width) * self.channels];
        let row = &mut row[..usize::from(self.to.width) * self.channels];
        let (from, to) = (u32::from(self.from.height), u32::from(self.to.height));
        assert!(self.line < from, "{from} lines, and no more");
        if self.from == self.to {
            row[..line.len()].copy_from_slice(line);
            repeat_last(row, line.len(), self.channels);
            self.line += 1;
            self.row += 1;
            return true;
        }
        // In units of 1/to lines, from the beginning of the row in work, which is `from` high.
        let offset = self.row * from;
        let begin = self.line * to - offset;
        let end = (self.line + 1) * to - offset;
        self.line += 1;
        // Differences of rounded sums: the weights of a row add up to exactly one whole.
        let sums = &mut self.sums[..usize::from(self.from.width) * self.channels];
        let weight = (LINES * end.min(from) / from - LINES * begin / from) as u16;
        if begin == 0 {
            weigh(sums, line, weight);
        } else {
            add_weighed(sums, line, weight);
        }
        repeat_last(sums, line.len(), self.channels);
        if end < from {
            return false;
        }
        let areas = &self.areas[..self.to.width.into()];
        if self.from.width == self.to.width {
            const { assert!(LINES == 256) };
            round(sums, row);
        } else if self.channels == 1 && self.from.width == 2 * self.to.width {
            // The most frequent case of `narrow`, which comes to the same.
            const { assert!(LINES == 256) };
            halve(sums, row);
        } else if self.channels == 1 {
            narrow::<1>(sums, areas, row);
        } else {
            narrow::<3>(sums, areas, row);
        }
        self.row += 1;
        if end > from {
            weigh(sums, line, (LINES * (end - from) / from) as u16);
        }
        true
    }
}

impl Default for Shrink {
    fn default() -> Self {
        Shrink::new()
    }
}

/// Makes the pixel that follows the first `count` samples, if there is one, the same as the last of them.
fn repeat_last<T: Copy>(samples: &mut [T], count: usize, channels: usize) {
    if count < samples.len() {
        samples.copy_within(count - channels..count, count);
    }
}

fn narrow<const CHANNELS: usize>(sums: &[u16], areas: &[Area], row: &mut [u8]) {
    let (pixels, _) = sums.as_chunks::<CHANNELS>();
    let (row, _) = row.as_chunks_mut::<CHANNELS>();
    for (to, area) in row.iter_mut().zip(areas) {
        let covered = &pixels[area.first.into()..=area.last.into()];
        let (first, last) = (covered[0], covered[covered.len() - 1]);
        let between = covered.get(1..covered.len() - 1).unwrap_or(&[]);
        for (channel, to) in to.iter_mut().enumerate() {
            let between: u32 = between.iter().map(|pixel| u32::from(pixel[channel])).sum();
            let sum = u32::from(first[channel]) * area.first_weight
                + between * area.weight
                + u32::from(last[channel]) * area.last_weight;
            *to = ((sum + LINES * SAMPLES / 2) / (LINES * SAMPLES)) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u16, height: u16) -> Size {
        Size { width, height }
    }

    fn shrink(shrink: &mut Shrink, from: Size, to: Size, channels: usize, data: &[u8]) -> Vec<u8> {
        shrink.start(from, to, channels);
        let mut out = Vec::new();
        let mut row = vec![0; usize::from(to.width) * channels];
        for line in data.chunks_exact(usize::from(from.width) * channels) {
            if shrink.push(line, &mut row) {
                out.extend(&row);
            }
        }
        assert_eq!(shrink.rows(), usize::from(to.height));
        out
    }

    #[test]
    fn halves_are_means_of_four() {
        let data = [10, 20, 30, 40, 30, 40, 50, 61];
        let mut s = Shrink::new();
        assert_eq!(shrink(&mut s, size(4, 2), size(2, 1), 1, &data), [25, 45]);
        let rgb = [0, 100, 200, 10, 110, 210, 20, 120, 220, 30, 130, 230];
        let expected = [15, 115, 215];
        assert_eq!(shrink(&mut s, size(2, 2), size(1, 1), 3, &rgb), expected);
    }

    #[test]
    fn an_edge_that_counts_once_more_is_repeated() {
        let mut s = Shrink::new();
        let mut random = fastrand::Rng::with_seed(8);
        for (width, height) in [(5, 3), (5, 4), (6, 3), (1, 3), (1, 1), (33, 17)] {
            for channels in [1, 3] {
                let (given, from) = (
                    size(width, height),
                    size(width + width % 2, height + height % 2),
                );
                let mut data = vec![0; usize::from(width) * usize::from(height) * channels];
                random.fill(&mut data);
                let at = |x: u16, y: u16, channel: usize| {
                    let (x, y) = (x.min(width - 1), y.min(height - 1));
                    data[(usize::from(y) * usize::from(width) + usize::from(x)) * channels
                        + channel]
                };
                let padded: Vec<u8> = (0..from.height)
                    .flat_map(|y| (0..from.width).map(move |x| (x, y)))
                    .flat_map(|(x, y)| (0..channels).map(move |channel| (x, y, channel)))
                    .map(|(x, y, channel)| at(x, y, channel))
                    .collect();
                for to in [
                    size(from.width / 2, from.height / 2),
                    size(from.width, from.height / 2),
                ] {
                    let expected = shrink(&mut s, from, to, channels, &padded);
                    s.start_padded(given, from, to, channels);
                    let mut row = vec![0; usize::from(to.width) * channels];
                    let mut got: Vec<u8> = Vec::new();
                    for line in data.chunks_exact(usize::from(width) * channels) {
                        if s.push(line, &mut row) {
                            got.extend(&row);
                        }
                    }
                    assert_eq!(got, expected, "{given:?} to {to:?}");
                    assert_eq!(s.rows(), usize::from(to.height));
                }
            }
        }
    }

    #[test]
    fn every_sample_is_the_mean_of_its_area() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut s = Shrink::new();
        for round in 0..300 {
            let side =
                |random: &mut fastrand::Rng| random.u16(1..=if round % 10 == 0 { 700 } else { 60 });
            let from = size(side(&mut random), side(&mut random));
            let mut to = size(random.u16(1..=from.width), random.u16(1..=from.height));
            if round % 4 == 0 {
                to.width = from.width.div_ceil(2);
            }
            let channels = [1, 3][round % 2];
            let (width, height) = (usize::from(from.width), usize::from(from.height));
            let mut data = vec![0; width * height * channels];
            random.fill(&mut data);
            let got = shrink(&mut s, from, to, channels, &data);
            // How much of line `i` of `from` lies in row `o` of `to`.
            let cover = |i: usize, o: usize, from: u16, to: u16| {
                let scale = f64::from(from) / f64::from(to);
                let (begin, end) = (o as f64 * scale, (o + 1) as f64 * scale);
                (end.min(i as f64 + 1.0) - begin.max(i as f64)).max(0.0) / scale
            };
            let mut got = got.iter();
            for y in 0..usize::from(to.height) {
                let lines: Vec<_> = (0..height)
                    .map(|line| (line, cover(line, y, from.height, to.height)))
                    .filter(|(_, part)| *part > 0.0)
                    .collect();
                for x in 0..usize::from(to.width) {
                    let first = x * width / usize::from(to.width);
                    let last = ((x + 1) * width).div_ceil(to.width.into());
                    for channel in 0..channels {
                        let mut mean = 0.0;
                        for &(line, part) in &lines {
                            for i in first..last.min(width) {
                                let sample = data[(line * width + i) * channels + channel];
                                mean +=
                                    f64::from(sample) * part * cover(i, x, from.width, to.width);
                            }
                        }
                        let off = (f64::from(*got.next().unwrap()) - mean).abs();
                        // The weights of many lines in one are small numbers.
                        let most = if height <= 16 * usize::from(to.height) {
                            2.0
                        } else {
                            10.0
                        };
                        assert!(off <= most, "{from:?} to {to:?} at {x},{y}: off by {off}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_flat_stays_so() {
        let mut s = Shrink::new();
        for value in [0, 1, 127, 254, 255] {
            for from in [size(8192, 9), size(17, 8192), size(641, 479)] {
                for to in [size(2, 2), size(17, 9), size(16, 7)] {
                    let data = vec![value; usize::from(from.width) * usize::from(from.height)];
                    let got = shrink(&mut s, from, to, 1, &data);
                    assert!(
                        got.iter().all(|&sample| sample == value),
                        "{value}: {got:?}"
                    );
                }
            }
        }
    }
}
