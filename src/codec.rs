//! Raw pictures to JPEG, and JPEG to JPEG of another quality, through libjpeg (mozjpeg's copy of libjpeg-turbo in its
//! fast profile). The only file that knows libjpeg.
//!
//! Cameras speak YCbCr and so does JPEG: 4:2:0 and 4:2:2 pictures go in as they are ("raw data" in libjpeg's terms),
//! without a trip through RGB and back, and a decoded JPEG goes on in the sampling it came in. Numbers are taken as
//! JFIF means them (full range): what a camera sends in limited range stays so.
//!
//! # Errors
//! libjpeg calls `error_exit`, which must not return. Here it unwinds, as the functions of mozjpeg-sys are declared
//! "C-unwind" and its feature `unwinding` compiles them with `-fexceptions`; the alternative would be C code of our own
//! around setjmp. This is why the release profile has no `panic = "abort"`. Only the marker `Bail` is caught, any other
//! panic goes on and ends the process, which has one thread.
//!
//! # Memory
//! The objects, the rows between them and what libjpeg needs for a picture are taken once, for the largest there may be:
//! a memory manager of our own (`codec/memory.c`) gives libjpeg parts of two arenas. Pages that were never written cost
//! no memory. A progressive JPEG, which cameras do not send, finds room for its coefficients there up to a size, and is
//! refused above it.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{mem, ptr, slice};

use heapless::String;
use mozjpeg_sys as sys;
use mozjpeg_sys::{
    DCTSIZE, J_COLOR_SPACE, JCS_EXT_BGR, JCS_EXT_RGB, JCS_GRAYSCALE, JCS_RGB, JCS_YCbCr,
    jpeg_common_struct, jpeg_component_info, jpeg_compress_struct, jpeg_decompress_struct,
};

use crate::frame::{FrameBuf, PixelFormat, Plane, RawPicture};
use crate::limits::DIMENSION_MAX;

/// `JMSG_LENGTH_MAX` of jpeglib.h: what `format_message` may write.
const MESSAGE_MAX: usize = 200;
/// What is kept of it. The longest that JPEG files cause are below 70.
const MESSAGE: usize = 80;
/// Lines of a component in the tallest row of MCUs: four blocks.
const MCU_LINES: usize = 4 * DCTSIZE;
/// `C_MAX_BLOCKS_IN_MCU` of jpeglib.h.
const MCU_BLOCKS: usize = 10;
/// The most that are passed on: Y, Cb, Cr.
const COMPONENTS: usize = 3;
/// The samples of one row of MCUs, all components: 4:2:0 and 4:4:4 need 24 per pixel of width, 4:4:0 needs 32, and each
/// component is rounded up to whole blocks.
const ROW_SAMPLES: usize = 32 * (DIMENSION_MAX as usize + 64);
/// What libjpeg takes for one picture, and for its tables. At a width of [`DIMENSION_MAX`] the usual samplings need less
/// than a quarter of it; the rest is for those that only exist in theory.
const WORK_BYTES: usize = 2 << 20;
/// Coefficients of a progressive JPEG, which is decoded only when all of it has been read: 4096x3072 fits.
const COEFFICIENT_BYTES: usize = 64 << 20;
/// Scans of a progressive JPEG; encoders write about ten. Each costs a pass over the whole picture, however short it is.
const SCANS: c_int = 64;

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

unsafe extern "C-unwind" {
    /// `codec/memory.c`.
    fn camd_jpeg_use_memory(cinfo: *mut jpeg_common_struct, bytes: *mut u8, size: usize);
}

/// The panic payload that `error_exit` and the callbacks unwind with; the reason is in `Lib::failure`.
struct Bail;

/// Encodes and transcodes, one picture at a time, with objects that are made once.
pub struct Codec {
    /// From `Box::into_raw`: libjpeg's objects point at each other, so they must not move, and a `Box` would claim
    /// that nobody else points there.
    lib: *mut Lib,
    /// Also from `Box::into_raw`: the memory of the compress and of the decompress object.
    arenas: [*mut [u8]; 2],
    /// One row of MCUs, components one after the other, for what cannot be read where it is.
    rows: Box<[u8]>,
}

/// Everything that libjpeg holds pointers to.
struct Lib {
    error: sys::jpeg_error_mgr,
    compress: jpeg_compress_struct,
    destination: sys::jpeg_destination_mgr,
    decompress: jpeg_decompress_struct,
    source: sys::jpeg_source_mgr,
    progress: sys::jpeg_progress_mgr,
    /// Of the output buffer.
    capacity: usize,
    /// Why a callback bailed.
    failure: Option<CodecError>,
}

impl Codec {
    /// # Panics
    /// If libjpeg is not the one that this was compiled for, or there is no memory for its objects.
    pub fn new() -> Self {
        // SAFETY: all zeros is a valid value of these C structs: numbers, pointers, `Option<fn>`s, and enums that have
        // a variant of value 0.
        let mut new = Box::new(unsafe {
            Lib {
                error: mem::zeroed(),
                compress: mem::zeroed(),
                destination: mem::zeroed(),
                decompress: mem::zeroed(),
                source: mem::zeroed(),
                progress: mem::zeroed(),
                capacity: 0,
                failure: None,
            }
        });
        new.destination.init_destination = Some(init_destination);
        new.destination.empty_output_buffer = Some(empty_output_buffer);
        new.destination.term_destination = Some(term_destination);
        new.source.init_source = Some(init_source);
        new.source.fill_input_buffer = Some(fill_input_buffer);
        new.source.skip_input_data = Some(skip_input_data);
        new.source.resync_to_restart = Some(sys::jpeg_resync_to_restart);
        new.source.term_source = Some(term_source);
        new.progress.progress_monitor = Some(limit_scans);
        let lib = Box::into_raw(new);
        let arenas = [WORK_BYTES, WORK_BYTES + COEFFICIENT_BYTES]
            .map(|bytes| Box::into_raw(vec![0; bytes].into_boxed_slice()));
        let made = guard(lib, || {
            // SAFETY: `lib` was just made and is freed only in `drop`, after both objects were destroyed. Creating an
            // object keeps its `err` and `client_data` and clears the rest. The arenas live and die with it.
            unsafe {
                sys::jpeg_std_error(&mut (*lib).error);
                (*lib).error.error_exit = Some(error_exit);
                (*lib).error.emit_message = Some(emit_message);
                (*lib).compress.common.err = &raw mut (*lib).error;
                (*lib).compress.common.client_data = lib.cast();
                (*lib).decompress.common.err = &raw mut (*lib).error;
                (*lib).decompress.common.client_data = lib.cast();
                sys::jpeg_create_compress(&raw mut (*lib).compress);
                sys::jpeg_create_decompress(&raw mut (*lib).decompress);
                (*lib).compress.dest = &raw mut (*lib).destination;
                (*lib).decompress.src = &raw mut (*lib).source;
                (*lib).decompress.common.progress = &raw mut (*lib).progress;
                let [compress, decompress] = arenas;
                let cinfo = &raw mut (*lib).compress.common;
                camd_jpeg_use_memory(cinfo, compress.cast(), compress.len());
                let cinfo = &raw mut (*lib).decompress.common;
                camd_jpeg_use_memory(cinfo, decompress.cast(), decompress.len());
                sys::jpeg_c_set_int_param(
                    &mut (*lib).compress,
                    sys::JINT_COMPRESS_PROFILE,
                    sys::JCP_FASTEST as c_int,
                );
            }
            Ok(())
        });
        if let Err(error) = made {
            panic!("libjpeg cannot start: {error}");
        }
        Codec {
            lib,
            arenas,
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
        run(self.lib, out, |mut to, _| {
            let mut configure = |space| to.configure(raw.width, raw.height, space, quality);
            match raw.format {
                PixelFormat::Yuyv | PixelFormat::Uyvy => {
                    configure(JCS_YCbCr);
                    encode_planar(&mut to, raw, &[(2, 1), (1, 1), (1, 1)], rows);
                }
                PixelFormat::Nv12 | PixelFormat::Yu12 => {
                    configure(JCS_YCbCr);
                    encode_planar(&mut to, raw, &[(2, 2), (1, 1), (1, 1)], rows);
                }
                PixelFormat::Rgb24 => {
                    configure(JCS_EXT_RGB);
                    encode_lines(&mut to, raw, 3);
                }
                PixelFormat::Bgr24 => {
                    configure(JCS_EXT_BGR);
                    encode_lines(&mut to, raw, 3);
                }
                PixelFormat::Grey => {
                    configure(JCS_GRAYSCALE);
                    encode_lines(&mut to, raw, 1);
                }
                PixelFormat::Mjpeg => unreachable!("refused by check"),
            }
            to.finish();
            Ok(())
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
        run(self.lib, out, |to, from| {
            transcode(from.read_header(jpeg), to, quality, rows)
        })
    }
}

impl Default for Codec {
    fn default() -> Self {
        Codec::new()
    }
}

impl Drop for Codec {
    fn drop(&mut self) {
        // SAFETY: `lib` came from `Box::into_raw` in `new` and is not used again. Both objects were created, and
        // destroying them calls no `error_exit`. Only then nothing points to the arenas any more.
        unsafe {
            sys::jpeg_destroy_compress(&mut (*self.lib).compress);
            sys::jpeg_destroy_decompress(&mut (*self.lib).decompress);
            drop(Box::from_raw(self.lib));
            for arena in self.arenas {
                drop(Box::from_raw(arena));
            }
        }
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

/// Horizontal and vertical sampling factors of a component.
type Factors = (c_int, c_int);
/// One row of MCUs: for each component its lines, as many as its blocks are high.
type McuRow<'a> = [[&'a [u8]; MCU_LINES]; COMPONENTS];

/// Encodes 4:2:0 or 4:2:2. `check` has seen the picture.
fn encode_planar(
    to: &mut Compressor<'_>,
    raw: &RawPicture<'_>,
    factors: &[Factors; COMPONENTS],
    rows: &mut [u8],
) {
    to.start_raw(factors);
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
        to.write_mcu_row(&lines);
    }
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
fn encode_lines(to: &mut Compressor<'_>, raw: &RawPicture<'_>, pixel_bytes: usize) {
    to.start();
    for line in 0..usize::from(raw.height) {
        to.write_line(line_of(
            &raw.planes[0],
            line,
            pixel_bytes * usize::from(raw.width),
        ));
    }
}

fn transcode(
    mut from: Decompressor<'_>,
    mut to: Compressor<'_>,
    quality: u8,
    rows: &mut [u8],
) -> Result<(), CodecError> {
    let (width, height) = from.size()?;
    let space = from.space()?;
    to.configure(width, height, space, quality);
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
        from.start_raw();
        to.start_raw(factors);
        while from.read_mcu_row(rows) {
            let mut lines: McuRow<'_> = [[&[]; MCU_LINES]; COMPONENTS];
            let mut rest = &*rows;
            for ((to, &(_, v)), &width) in lines.iter_mut().zip(factors).zip(&widths) {
                let (these, others) = rest.split_at(v as usize * DCTSIZE * width);
                for (to, line) in to.iter_mut().zip(these.chunks_exact(width)) {
                    *to = line;
                }
                rest = others;
            }
            to.write_mcu_row(&lines);
        }
    } else {
        let line = &mut rows[..count * usize::from(width)];
        from.start();
        to.set_sampling(&[(1, 1); COMPONENTS]);
        to.start();
        while from.read_line(line) {
            to.write_line(line);
        }
    }
    from.finish();
    to.finish();
    Ok(())
}

/// Runs `body` with both objects, with the output going into `out`, and brings them back to their idle state.
fn run(
    lib: *mut Lib,
    out: &mut FrameBuf,
    body: impl FnOnce(Compressor<'_>, Idle<'_>) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    let capacity = out.capacity();
    if capacity == 0 {
        // libjpeg asks for more room only after it has used up some.
        return Err(CodecError::TooBig { capacity });
    }
    // SAFETY: `lib` is that of a `Codec`, whose methods take it mutably, so nobody else uses it now. The three borrows
    // are of different fields; the callbacks use others, or what they are given.
    let (compress, decompress, destination) = unsafe {
        (
            &mut (*lib).compress,
            &mut (*lib).decompress,
            &raw mut (*lib).destination,
        )
    };
    // SAFETY: as above. `out` is not touched again before libjpeg is done with it, and is longer-lived than `body`.
    unsafe {
        (*destination).next_output_byte = out.spare().as_mut_ptr();
        (*destination).free_in_buffer = capacity;
        (*lib).capacity = capacity;
    }
    let result = guard(lib, || body(Compressor(compress), Idle(decompress)));
    // SAFETY: both objects exist, and aborting is allowed in every state of them. It frees the picture's memory and
    // calls no `error_exit`.
    let free = unsafe {
        sys::jpeg_abort_compress(&mut (*lib).compress);
        sys::jpeg_abort_decompress(&mut (*lib).decompress);
        (*destination).next_output_byte = ptr::null_mut();
        (*lib).source.next_input_byte = ptr::null();
        (*lib).source.bytes_in_buffer = 0;
        mem::take(&mut (*destination).free_in_buffer)
    };
    result?;
    out.set_len(capacity - free);
    Ok(())
}

/// Runs what may call libjpeg, and brings back the reason if it bails.
fn guard<T>(lib: *mut Lib, body: impl FnOnce() -> Result<T, CodecError>) -> Result<T, CodecError> {
    // Unwind safety: what `body` leaves half done are libjpeg's objects, which are made for that (`jpeg_abort`), and
    // rows whose content is never relied upon.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(payload) if payload.is::<Bail>() => {
            // SAFETY: `lib` is valid here, see `run`, and nobody else uses this field now.
            let failure = unsafe { (*lib).failure.take() };
            Err(failure.expect("bail sets it"))
        }
        Err(payload) => resume_unwind(payload),
    }
}

/// A compress object whose destination is set up for one picture. Its methods bail when libjpeg fails.
struct Compressor<'a>(&'a mut jpeg_compress_struct);

impl Compressor<'_> {
    fn configure(&mut self, width: u16, height: u16, space: J_COLOR_SPACE, quality: u8) {
        let cinfo = &mut *self.0;
        cinfo.image_width = width.into();
        cinfo.image_height = height.into();
        cinfo.input_components = if space == JCS_GRAYSCALE { 1 } else { 3 };
        cinfo.in_color_space = space;
        // SAFETY: the object was created, and is idle: `run` leaves it so.
        unsafe {
            sys::jpeg_set_defaults(cinfo);
            // It clamps the quality itself. The last 1: no quantizer above 255, as baseline JPEG demands.
            sys::jpeg_set_quality(cinfo, quality.into(), 1);
        }
    }

    fn start(&mut self) {
        // SAFETY: the object is configured.
        unsafe { sys::jpeg_start_compress(self.0, 1) };
    }

    /// Starts a picture whose samples come with [`Compressor::write_mcu_row`].
    fn start_raw(&mut self, factors: &[Factors]) {
        self.0.raw_data_in = 1;
        self.set_sampling(factors);
        self.start();
    }

    fn set_sampling(&mut self, factors: &[Factors]) {
        for (component, &(h, v)) in self.components_mut().iter_mut().zip(factors) {
            component.h_samp_factor = h;
            component.v_samp_factor = v;
        }
    }

    fn components_mut(&mut self) -> &mut [jpeg_component_info] {
        // SAFETY: `jpeg_set_defaults` made `comp_info` with ten entries and set `num_components` to 1 or 3.
        unsafe { slice::from_raw_parts_mut(self.0.comp_info, self.0.num_components as usize) }
    }

    /// What libjpeg reads of each line of a component: whole blocks. Known once started.
    fn line_samples(&mut self, component: usize) -> usize {
        self.components_mut()[component].width_in_blocks as usize * DCTSIZE
    }

    fn write_line(&mut self, line: &[u8]) {
        assert!(line.len() >= self.0.image_width as usize * self.0.input_components as usize);
        // SAFETY: `start` was called, and the line is as long as libjpeg takes it to be.
        unsafe { sys::jpeg_write_scanlines(self.0, &line.as_ptr(), 1) };
    }

    fn write_mcu_row(&mut self, lines: &McuRow<'_>) {
        let mut pointers = [[ptr::null(); MCU_LINES]; COMPONENTS];
        for (i, component) in self.components_mut().iter().enumerate() {
            let samples = component.width_in_blocks as usize * DCTSIZE;
            let count = component.v_samp_factor as usize * DCTSIZE;
            for (pointer, line) in pointers[i].iter_mut().zip(&lines[i][..count]) {
                assert!(line.len() >= samples);
                *pointer = line.as_ptr();
            }
        }
        let components = pointers.each_ref().map(|lines| lines.as_ptr());
        let count = self.0.max_v_samp_factor as u32 * DCTSIZE as u32;
        // SAFETY: `start_raw` was called. Every component has a pointer to each line of one row of MCUs, and each line
        // is whole blocks long, as was just checked.
        unsafe { sys::jpeg_write_raw_data(self.0, components.as_ptr(), count) };
    }

    fn finish(&mut self) {
        // SAFETY: started; libjpeg itself checks that all lines were written.
        unsafe { sys::jpeg_finish_compress(self.0) };
    }
}

/// A decompress object that has no picture yet.
struct Idle<'a>(&'a mut jpeg_decompress_struct);

impl<'a> Idle<'a> {
    fn read_header(self, jpeg: &'a [u8]) -> Decompressor<'a> {
        // SAFETY: `src` is `Lib::source`, which nobody else uses now. The pointer into `jpeg` does not outlive it: the
        // `Decompressor` borrows it, and `run` clears the pointer.
        unsafe {
            (*self.0.src).next_input_byte = jpeg.as_ptr();
            (*self.0.src).bytes_in_buffer = jpeg.len();
            // The 1: tables without a picture are an error.
            sys::jpeg_read_header(self.0, 1);
        }
        Decompressor(self.0)
    }
}

/// A decompress object that has read a header. Its methods bail when libjpeg fails.
struct Decompressor<'a>(&'a mut jpeg_decompress_struct);

impl Decompressor<'_> {
    fn size(&self) -> Result<(u16, u16), CodecError> {
        check_size(self.0.image_width, self.0.image_height)?;
        // Both are at most DIMENSION_MAX.
        Ok((self.0.image_width as u16, self.0.image_height as u16))
    }

    /// The colours to pass on, unconverted.
    fn space(&self) -> Result<J_COLOR_SPACE, CodecError> {
        match (self.0.jpeg_color_space, self.0.num_components) {
            (space @ (JCS_YCbCr | JCS_RGB), 3) | (space @ JCS_GRAYSCALE, 1) => Ok(space),
            _ => Err(CodecError::Unsupported(
                "a JPEG that is neither grey, YCbCr nor RGB",
            )),
        }
    }

    fn components(&self) -> &[jpeg_component_info] {
        // SAFETY: reading the header made `comp_info` with `num_components` entries.
        unsafe { slice::from_raw_parts(self.0.comp_info, self.0.num_components as usize) }
    }

    fn start(&mut self) {
        self.0.out_color_space = self.0.jpeg_color_space;
        // SAFETY: the header was read.
        unsafe { sys::jpeg_start_decompress(self.0) };
    }

    /// Starts a picture whose samples are read with [`Decompressor::read_mcu_row`].
    fn start_raw(&mut self) {
        self.0.raw_data_out = 1;
        self.start();
    }

    /// False: there are no more lines.
    fn read_line(&mut self, line: &mut [u8]) -> bool {
        assert!(line.len() >= self.0.output_width as usize * self.0.output_components as usize);
        // SAFETY: `start` was called, and there is room for the line.
        self.0.output_scanline < self.0.output_height
            && unsafe { sys::jpeg_read_scanlines(self.0, &mut line.as_mut_ptr(), 1) } == 1
    }

    /// Reads a row of MCUs into `rows`, one component after the other. False: there are no more.
    fn read_mcu_row(&mut self, rows: &mut [u8]) -> bool {
        if self.0.output_scanline >= self.0.output_height {
            return false;
        }
        let mut pointers = [[ptr::null_mut(); MCU_LINES]; COMPONENTS];
        let mut rest = rows;
        for (pointers, component) in pointers.iter_mut().zip(self.components()) {
            let samples = component.width_in_blocks as usize * DCTSIZE;
            let count = component.v_samp_factor as usize * DCTSIZE;
            let (these, others) = rest.split_at_mut(count * samples);
            for (pointer, line) in pointers.iter_mut().zip(these.chunks_exact_mut(samples)) {
                *pointer = line.as_mut_ptr();
            }
            rest = others;
        }
        let mut components = pointers.each_mut().map(|lines| lines.as_mut_ptr());
        let count = self.0.max_v_samp_factor as u32 * DCTSIZE as u32;
        // SAFETY: `start_raw` was called. Every component has room for each line of one row of MCUs, whole blocks long.
        unsafe { sys::jpeg_read_raw_data(self.0, components.as_mut_ptr(), count) > 0 }
    }

    fn finish(&mut self) {
        // SAFETY: started; libjpeg itself checks that all lines were read.
        unsafe { sys::jpeg_finish_decompress(self.0) };
    }
}

// Callbacks. libjpeg gives them the object it was called with, whose `client_data` is the `Lib` that holds it.

/// Leaves libjpeg for `guard`.
///
/// # Safety
/// `client_data` is that of an object in a `Lib`, in a call to libjpeg within `guard`.
unsafe fn bail(client_data: *mut c_void, error: CodecError) -> ! {
    // SAFETY: as demanded; libjpeg does not know this field, and `guard` looks at it only after this call.
    unsafe { (*client_data.cast::<Lib>()).failure = Some(error) };
    // Not a `panic!`: the panic hook would print it.
    resume_unwind(Box::new(Bail))
}

unsafe extern "C-unwind" fn error_exit(cinfo: &mut jpeg_common_struct) {
    let client_data = cinfo.client_data;
    // SAFETY: `err` is `Lib::error`.
    if unsafe { (*cinfo.err).msg_code } == sys::JERR_OUT_OF_MEMORY as c_int {
        let error = CodecError::Unsupported("a progressive JPEG of this size");
        // SAFETY: see above at "Callbacks".
        unsafe { bail(client_data, error) };
    }
    let mut text = [0u8; MESSAGE_MAX];
    // SAFETY: `err` is `Lib::error`, set up by `jpeg_std_error`.
    if let Some(format_message) = unsafe { (*cinfo.err).format_message } {
        // SAFETY: jpeglib.h declares `void (*)(j_common_ptr, char *)`. The binding has a shared reference to 80 bytes
        // in the place of the pointer, through which nothing may be written, and not the 200 that may be needed.
        let format_message = unsafe {
            mem::transmute::<
                unsafe extern "C-unwind" fn(&mut jpeg_common_struct, &[u8; 80]),
                unsafe extern "C-unwind" fn(*mut jpeg_common_struct, *mut c_char),
            >(format_message)
        };
        // SAFETY: `JMSG_LENGTH_MAX` bytes of room are what it asks for.
        unsafe { format_message(cinfo, text.as_mut_ptr().cast()) };
    }
    let mut message = String::new();
    for byte in CStr::from_bytes_until_nul(&text).map_or(&[][..], CStr::to_bytes) {
        // Its texts are ASCII; a byte of the file may be among them. What does not fit is left out.
        let shown = if byte.is_ascii() {
            char::from(*byte)
        } else {
            '?'
        };
        let _ = message.push(shown);
    }
    // SAFETY: see above at "Callbacks".
    unsafe { bail(client_data, CodecError::Libjpeg(message)) }
}

/// Warnings and traces: the default would print the first warning to stderr, for each picture.
unsafe extern "C-unwind" fn emit_message(_: &mut jpeg_common_struct, _level: c_int) {}

unsafe extern "C-unwind" fn init_destination(_: &mut jpeg_compress_struct) {}

/// The output buffer is full.
unsafe extern "C-unwind" fn empty_output_buffer(cinfo: &mut jpeg_compress_struct) -> c_int {
    let lib = cinfo.common.client_data.cast::<Lib>();
    // SAFETY: see above at "Callbacks".
    unsafe {
        let capacity = (*lib).capacity;
        bail(lib.cast(), CodecError::TooBig { capacity })
    }
}

unsafe extern "C-unwind" fn term_destination(_: &mut jpeg_compress_struct) {}

unsafe extern "C-unwind" fn init_source(_: &mut jpeg_decompress_struct) {}

/// The JPEG has been read to its end, and more is needed.
unsafe extern "C-unwind" fn fill_input_buffer(cinfo: &mut jpeg_decompress_struct) -> c_int {
    // SAFETY: see above at "Callbacks".
    unsafe { bail(cinfo.common.client_data, CodecError::Truncated) }
}

unsafe extern "C-unwind" fn skip_input_data(cinfo: &mut jpeg_decompress_struct, bytes: c_long) {
    let Ok(bytes) = usize::try_from(bytes) else {
        // jpeglib.h: a negative number, and zero, skip nothing.
        return;
    };
    // SAFETY: `src` is `Lib::source`, and its pointer and count describe what is left of the JPEG.
    unsafe {
        let source = &mut *cinfo.src;
        if bytes > source.bytes_in_buffer {
            bail(cinfo.common.client_data, CodecError::Truncated);
        }
        source.next_input_byte = source.next_input_byte.add(bytes);
        source.bytes_in_buffer -= bytes;
    }
}

unsafe extern "C-unwind" fn term_source(_: &mut jpeg_decompress_struct) {}

/// Called while a picture is read, some times per scan.
unsafe extern "C-unwind" fn limit_scans(cinfo: &mut jpeg_common_struct) {
    // SAFETY: only the decompress object has this callback, and the common part is its beginning.
    let cinfo = unsafe { &mut *ptr::from_mut(cinfo).cast::<jpeg_decompress_struct>() };
    if cinfo.input_scan_number > SCANS {
        // SAFETY: see above at "Callbacks".
        unsafe {
            bail(
                cinfo.common.client_data,
                CodecError::Unsupported("a progressive JPEG of this many scans"),
            )
        }
    }
}
