use std::f64::consts::PI;
use std::ffi::c_int;
use std::{mem, slice};

use mozjpeg_sys::*;

use super::super::libjpeg::{Failed, Libjpeg};
use super::*;
use crate::picture::frame::{Area, FrameBuf};

#[path = "../../../tests/common/libjpeg.rs"]
mod written;

/// How libjpeg is to write a JPEG.
struct Writing {
    factors: (c_int, c_int),
    quality: c_int,
    restart_interval: u32,
    /// Huffman tables made for the picture: these have the longest codes.
    optimized: bool,
}

/// A picture with an edge, slopes and noise.
fn write(width: u16, height: u16, writing: &Writing, random: &mut fastrand::Rng) -> Vec<u8> {
    let noise = random.i32(0..100);
    let set = |to: &mut jpeg_compress_struct| {
        written::set_factors(to, writing.factors.0, writing.factors.1);
        to.restart_interval = writing.restart_interval;
        to.optimize_coding = writing.optimized.into();
    };
    let sides = (width.into(), height.into());
    written::made(sides, writing.quality, false, set, |to| {
        for y in 0..i32::from(height) {
            let line: Vec<u8> = (0..3 * i32::from(width))
                .map(|i| {
                    let edge = if (i / 3 + y) % 90 < 40 { 220 } else { 20 };
                    (edge + y / 4 - i / 9 + random.i32(-noise..=noise)).clamp(0, 255) as u8
                })
                .collect();
            written::put_line(to, &line);
        }
    })
}

/// Two lines of two samples for each block of a component, line by line of blocks.
type Quarters = Vec<Vec<[[f64; 2]; 2]>>;

/// From libjpeg's coefficients, by the means of their cosines over four samples.
fn quarters(jpeg: &[u8]) -> Option<[Quarters; COMPONENTS]> {
    let cosine = |x: usize| ((2 * x + 1) as f64 * PI / 16.0).cos() * 2f64.sqrt();
    let mean = (0..4).map(cosine).sum::<f64>() / 4.0;
    let mut components = [const { Vec::new() }; COMPONENTS];
    // SAFETY: libjpeg as its documentation has it; its errors end the process.
    unsafe {
        let mut error: jpeg_error_mgr = mem::zeroed();
        let mut from: jpeg_decompress_struct = mem::zeroed();
        from.common.err = jpeg_std_error(&mut error);
        (*from.common.err).emit_message = Some(ignore);
        jpeg_create_decompress(&mut from);
        jpeg_mem_src(&mut from, jpeg.as_ptr(), jpeg.len() as _);
        jpeg_read_header(&mut from, 1);
        for i in 0..COMPONENTS {
            let info = &*from.comp_info.add(i);
            // Ours has those of the picture before, instead.
            if from.quant_tbl_ptrs[info.quant_tbl_no as usize].is_null() {
                jpeg_destroy_decompress(&mut from);
                return None;
            }
        }
        let arrays = jpeg_read_coefficients(&mut from);
        for (i, lines) in components.iter_mut().enumerate() {
            let info = &*from.comp_info.add(i);
            let quantizers = (*info.quant_table).quantval;
            for y in 0..info.height_in_blocks {
                let memory = &*from.common.mem;
                let access = memory.access_virt_barray.expect("libjpeg's own");
                let line = *access(&mut from.common, *arrays.add(i), y, 1, 0);
                let blocks = slice::from_raw_parts(line, info.width_in_blocks as usize);
                let blocks = blocks.iter().map(|block| {
                    let all = [0, 1, DCTSIZE, DCTSIZE + 1]
                        .map(|i| f64::from(block[i]) * f64::from(quantizers[i]) / 8.0);
                    // No picture has such.
                    if all.iter().any(|c| c.abs() > 256.0) {
                        return [[f64::NAN; 2]; 2];
                    }
                    let [dc, across, down, both] = all;
                    let sample = |x: f64, y: f64| {
                        128.0 + dc + (across * x + down * y + both * x * y * mean) * mean
                    };
                    [-1.0, 1.0].map(|y| [-1.0, 1.0].map(|x| sample(-x, -y)))
                });
                lines.push(blocks.collect());
            }
        }
        jpeg_destroy_decompress(&mut from);
    }
    Some(components)
}

unsafe extern "C-unwind" fn ignore(_: &mut jpeg_common_struct, _: c_int) {}

fn compare_quarters(planes: &[Plane<'_>; COMPONENTS], jpeg: &[u8]) {
    let Some(quarters) = quarters(jpeg) else {
        return;
    };
    for (i, (plane, lines)) in planes.iter().zip(quarters).enumerate() {
        for y in 0..usize::from(plane.size.height) {
            for (x, &sample) in plane.line(y).iter().enumerate() {
                let expected = lines[y / 2][x / 2][y % 2][x % 2];
                let off = expected.clamp(0.0, 255.0) - f64::from(sample);
                assert!(
                    off.is_nan() || off.abs() < 1.0,
                    "plane {i}, {x},{y}: {expected}, not {sample}"
                );
            }
        }
    }
}

/// Whether there are planes. If so, those of 1/8 must be what libjpeg makes at that scale, but for 4:2:0's chroma,
/// which that decodes twice as large, and those of 2/8 what its coefficients say.
fn compare(libjpeg: &mut Libjpeg, reducer: &mut Reducer, jpeg: &[u8]) -> Option<bool> {
    let mut out = FrameBuf::new(1);
    let mut decoded = None;
    let result = libjpeg.run(None, &mut out, |_, from| {
        let mut from = from.read_header(jpeg)?;
        let whole = from.size()?;
        let part = |of: u16, n: u16| (n * of).div_ceil(8);
        let scaled = |n| Size {
            width: part(whole.width, n),
            height: part(whole.height, n),
        };
        let mut quarters = None;
        if scaled(1) != scaled(2) {
            from.scale(scaled(2), Area::all(whole));
            let planes = from.decode_reduced(reducer);
            quarters = Some(planes.is_some());
            if let Some(planes) = planes {
                assert_eq!(planes[0].size, scaled(2));
                compare_quarters(&planes, jpeg);
            }
        }
        from.scale(scaled(1), Area::all(whole));
        let planes = from.decode_reduced(reducer);
        decoded = Some(planes.is_some());
        assert!(quarters.is_none_or(|quarters| quarters == planes.is_some()));
        let Some(planes) = planes else {
            return Ok(());
        };
        from.start_raw()?;
        let mut rows = vec![0; 1 << 20];
        let mut done = 0;
        while from.read_mcu_row(&mut rows)? {
            let mut rest = &rows[..];
            for (i, theirs) in from.planes().iter().enumerate() {
                let ours = &planes[i];
                let (these, others) = rest.split_at(theirs.lines() * theirs.line());
                rest = others;
                if ours.size != theirs.size() {
                    assert!(i > 0 && theirs.size().width > ours.size.width, "{whole:?}");
                    continue;
                }
                for (line, theirs) in these.chunks_exact(theirs.line()).enumerate() {
                    let line = done * these.len() / theirs.len() + line;
                    if line < ours.size.height.into() {
                        let ours = ours.line(line);
                        assert_eq!(ours, &theirs[..ours.len()], "plane {i}, line {line}");
                    }
                }
            }
            done += 1;
        }
        from.finish()?;
        Ok::<(), Failed>(())
    });
    // Nothing is written, so nothing else can be wrong than the JPEG.
    if decoded == Some(true) {
        result.expect("libjpeg reads it, too");
    }
    decoded
}

fn any(random: &mut fastrand::Rng) -> Writing {
    Writing {
        factors: [(1, 1), (2, 1), (2, 2), (1, 2)][random.usize(..4)],
        quality: random.i32(1..=100),
        restart_interval: if random.bool() { 0 } else { random.u32(1..40) },
        optimized: random.bool(),
    }
}

#[test]
fn a_picture_is_what_libjpeg_makes_of_it() {
    let mut random = fastrand::Rng::with_seed(3);
    let (mut libjpeg, mut reducer) = (Libjpeg::new(), Reducer::new());
    for round in 0..300 {
        let writing = any(&mut random);
        let (width, height) = (random.u16(16..200), random.u16(16..200));
        let mut jpeg = write(width, height, &writing, &mut random);
        if round % 3 == 0 {
            // As cameras do.
            let eoi = jpeg.len() - 2;
            jpeg.splice(eoi..eoi, [0, 0xFF, 0, 17, 0xFF]);
        }
        let done = compare(&mut libjpeg, &mut reducer, &jpeg);
        assert_eq!(done, Some(true), "round {round}");
    }
}

#[test]
fn damage_is_left_to_libjpeg_where_it_shows() {
    let mut random = fastrand::Rng::with_seed(4);
    let (mut libjpeg, mut reducer) = (Libjpeg::new(), Reducer::new());
    let (mut done, mut left) = (0, 0);
    for _ in 0..3000 {
        let mut writing = any(&mut random);
        writing.factors = [(1, 1), (2, 1), (1, 2)][random.usize(..3)];
        let mut jpeg = write(40, 30, &writing, &mut random);
        match random.u8(..4) {
            0 => jpeg.truncate(random.usize(..jpeg.len())),
            1 => {
                let at = random.usize(..jpeg.len());
                jpeg.drain(at..(at + random.usize(1..20)).min(jpeg.len()));
            }
            _ => {
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(..jpeg.len());
                    jpeg[at] = if random.bool() { 0xFF } else { random.u8(..) };
                }
            }
        }
        match compare(&mut libjpeg, &mut reducer, &jpeg) {
            Some(true) => done += 1,
            Some(false) => left += 1,
            None => {}
        }
    }
    assert!(done > 300 && left > 300, "{done} decoded, {left} left");
}
