//! Between the lines of a picture and the rows of MCUs of a smaller one.

use super::libjpeg::Failed;
use super::mcu::{COMPONENTS, Factors, MCU_LINES, McuRow, ROW_SAMPLES, pad};
use super::turner::{Output, TakesLines};
use crate::limits::DIMENSION_MAX;
use crate::picture::frame::Size;
use crate::picture::scale::Shrink;

/// Rows of MCUs that are kept. The components of a picture are at most one apart from each other: their heights are
/// those of the picture, rounded up.
const RING: usize = 3;

/// Makes pictures smaller, in memory that is taken once.
pub(super) struct Scaler {
    shrinks: [Shrink; COMPONENTS],
    rings: [Ring; COMPONENTS],
    count: usize,
    /// For each component a ring of its rows.
    rows: Box<[u8]>,
    /// The next row of MCUs to be written, and how many there are.
    mcu: usize,
    mcus: usize,
}

/// Where the rows of a component are.
#[derive(Clone, Copy, Default)]
struct Ring {
    start: usize,
    /// Samples from one row to the next: whole blocks.
    stride: usize,
    /// In one row of MCUs.
    lines: usize,
}

impl Ring {
    fn at(&self, row: usize) -> usize {
        self.start + row % (RING * self.lines) * self.stride
    }
}

impl Scaler {
    pub(super) fn new() -> Self {
        Scaler {
            shrinks: std::array::from_fn(|_| Shrink::new()),
            rings: [Ring::default(); COMPONENTS],
            count: 0,
            rows: vec![0; RING * ROW_SAMPLES].into_boxed_slice(),
            mcu: 0,
            mcus: 0,
        }
    }

    /// For a picture whose components are of the sizes `from`, luma first, to one of `size` in the sampling `factors`,
    /// for which `to` was started.
    pub(super) fn start(
        &mut self,
        to: &Output<'_>,
        from: &[Size],
        size: Size,
        factors: &[Factors],
    ) {
        let largest = |side: fn(&Factors) -> i32| factors.iter().map(side).max().unwrap_or(1);
        let (max_h, max_v) = (largest(|f| f.0), largest(|f| f.1));
        let part = |side: u16, factor, max, most: u16| {
            // No larger than `most`.
            (u32::from(side) * factor as u32)
                .div_ceil(max as u32)
                .min(most.into()) as u16
        };
        self.count = from.len();
        let whole = from[0];
        let mut start = 0;
        for (i, (&from, &(h, v))) in from.iter().zip(factors).enumerate() {
            // Rounding twice can ask for a sample more than there is, which is then made up like those that fill a
            // block.
            let component = Size {
                width: part(size.width, h, max_h, from.width),
                height: part(size.height, v, max_v, from.height),
            };
            // Samples that become half as many only because the sampling is another one are means of two pixels' each,
            // and the last of an odd number has its pixel for itself.
            let halved = |luma: u16, made: u16, from: u16, component: u16| {
                let pairs = luma == made && from == 2 * component - 1;
                from + u16::from(pairs && from > 1)
            };
            let taken = Size {
                width: halved(whole.width, size.width, from.width, component.width),
                height: halved(whole.height, size.height, from.height, component.height),
            };
            self.shrinks[i].start_padded(from, taken, component, 1);
            self.rings[i] = Ring {
                start,
                stride: to.line_samples(i),
                lines: to.mcu_lines(i),
            };
            start += RING * self.rings[i].lines * self.rings[i].stride;
        }
        assert!(
            start <= self.rows.len(),
            "{size:?} is smaller than the largest picture"
        );
        self.mcu = 0;
        self.mcus = usize::from(size.height).div_ceil(to.mcu_height());
    }

    /// Takes the next line of a component.
    pub(super) fn push(&mut self, component: usize, line: &[u8]) {
        let (shrink, ring) = (&mut self.shrinks[component], &self.rings[component]);
        let ahead = shrink.rows() - (self.mcu * ring.lines).min(shrink.rows());
        assert!(ahead < RING * ring.lines, "the components keep step");
        let row = &mut self.rows[ring.at(shrink.rows())..][..ring.stride];
        if shrink.push(line, row) {
            pad(row, shrink.to().width.into());
        }
    }

    /// Writes the rows of MCUs that are complete.
    pub(super) fn write(&mut self, to: &mut Output<'_>) -> Result<(), Failed> {
        let components = || self.shrinks.iter().zip(&self.rings).take(self.count);
        while self.mcu < self.mcus
            && components().all(|(shrink, ring)| {
                let height = usize::from(shrink.to().height);
                shrink.rows() >= height.min((self.mcu + 1) * ring.lines)
            })
        {
            let mut lines: McuRow<'_> = [[&[]; MCU_LINES]; COMPONENTS];
            for (lines, (shrink, ring)) in lines.iter_mut().zip(components()) {
                let last = usize::from(shrink.to().height) - 1;
                for (i, line) in lines[..ring.lines].iter_mut().enumerate() {
                    // What the last row of MCUs lacks is its last line again.
                    let row = (self.mcu * ring.lines + i).min(last);
                    *line = &self.rows[ring.at(row)..][..ring.stride];
                }
            }
            to.write_mcu_row(&lines)?;
            self.mcu += 1;
        }
        Ok(())
    }

    /// For a picture that libjpeg takes line by line, of `channels` bytes a pixel.
    pub(super) fn start_lines(&mut self, from: Size, to: Size, channels: usize) {
        self.shrinks[0].start(from, to, channels);
    }

    /// Takes the next line, and writes a row that this completes.
    pub(super) fn push_line(
        &mut self,
        line: &[u8],
        to: &mut Output<'_, impl TakesLines>,
    ) -> Result<(), Failed> {
        let row = &mut self.rows[..COMPONENTS * usize::from(DIMENSION_MAX)];
        if self.shrinks[0].push(line, row) {
            to.write_line(row)?;
        }
        Ok(())
    }
}
