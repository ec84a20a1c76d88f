//! Components, and their lines in a row of MCUs: what libjpeg takes and gives at once.

use std::ffi::c_int;

use mozjpeg_sys::DCTSIZE;

use crate::limits::DIMENSION_MAX;

/// Lines of a component in the tallest row of MCUs: four blocks.
pub(super) const MCU_LINES: usize = 4 * DCTSIZE;
/// The most that are passed on: Y, Cb, Cr.
pub(super) const COMPONENTS: usize = 3;
/// The samples of one row of MCUs: each component has at most the width of the picture, rounded up to whole blocks.
pub(super) const ROW_SAMPLES: usize = COMPONENTS * MCU_LINES * (DIMENSION_MAX as usize + 64);

/// Horizontal and vertical sampling factors of a component.
pub(super) type Factors = (c_int, c_int);
/// One row of MCUs: for each component its lines, as many as its blocks are high.
pub(super) type McuRow<'a> = [[&'a [u8]; MCU_LINES]; COMPONENTS];

/// Repeats the last of `width` samples to the end of the row.
pub(super) fn pad(row: &mut [u8], width: usize) -> &[u8] {
    let last = row[width - 1];
    row[width..].fill(last);
    row
}
