//! JPEGs as libjpeg itself makes them, asked as its documentation has it.

// Each test file uses its part of this.
#![allow(dead_code)]

use std::mem;

use mozjpeg_sys::*;

/// Makes a JPEG of so many samples in YCbCr, or of grey ones. `set` changes how, `put` gives the lines.
pub fn made(
    (width, height): (usize, usize),
    quality: i32,
    grey: bool,
    set: impl FnOnce(&mut jpeg_compress_struct),
    put: impl FnOnce(&mut jpeg_compress_struct),
) -> Vec<u8> {
    let mut out = vec![0; 1 << 20];
    // SAFETY: libjpeg as its documentation has it, with room for the worst; its errors end the process.
    unsafe {
        let mut error: jpeg_error_mgr = mem::zeroed();
        let mut to: jpeg_compress_struct = mem::zeroed();
        to.common.err = jpeg_std_error(&mut error);
        jpeg_create_compress(&mut to);
        jpeg_c_set_int_param(&mut to, JINT_COMPRESS_PROFILE, JCP_FASTEST as i32);
        let (mut start, mut length) = (out.as_mut_ptr(), out.len() as _);
        jpeg_mem_dest(&mut to, &mut start, &mut length);
        to.image_width = width as u32;
        to.image_height = height as u32;
        (to.input_components, to.in_color_space) = match grey {
            true => (1, J_COLOR_SPACE::JCS_GRAYSCALE),
            false => (3, J_COLOR_SPACE::JCS_YCbCr),
        };
        jpeg_set_defaults(&mut to);
        jpeg_set_quality(&mut to, quality, 1);
        set(&mut to);
        jpeg_start_compress(&mut to, 1);
        put(&mut to);
        jpeg_finish_compress(&mut to);
        jpeg_destroy_compress(&mut to);
        out.truncate(length as usize);
    }
    out
}

/// How many samples of the first component there are for one of the others, across and down.
pub fn set_factors(to: &mut jpeg_compress_struct, across: i32, down: i32) {
    // SAFETY: jpeg_set_defaults has made one for each component.
    let first = unsafe { &mut *to.comp_info };
    (first.h_samp_factor, first.v_samp_factor) = (across, down);
}

/// The next line of samples.
pub fn put_line(to: &mut jpeg_compress_struct, line: &[u8]) {
    assert_eq!(
        line.len(),
        to.image_width as usize * to.input_components as usize
    );
    // SAFETY: it is as long as libjpeg takes it for.
    unsafe { jpeg_write_scanlines(to, &line.as_ptr(), 1) };
}
