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
//! Memory: the objects and the rows between them are taken once. libjpeg's own memory manager still calls malloc for
//! each picture.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::slice;

use heapless::String;
use mozjpeg_sys as sys;
use mozjpeg_sys::{
    J_COLOR_SPACE, JCS_EXT_BGR, JCS_EXT_RGB, JCS_GRAYSCALE, JCS_RGB, JCS_YCbCr, JSAMPARRAY,
    JSAMPARRAY_MUT, JSAMPROW, boolean, c_int, c_long, jpeg_common_struct, jpeg_compress_struct,
    jpeg_decompress_struct,
};

use crate::frame::{FrameBuf, PixelFormat, Plane, RawPicture};
use crate::limits::DIMENSION_MAX;

/// `JMSG_LENGTH_MAX` of jpeglib.h: what `format_message` may write.
const MESSAGE: usize = 200;
/// The tallest row of MCUs: four blocks of eight lines.
const MCU_LINES: usize = 4 * sys::DCTSIZE;
/// The samples of one row of MCUs, all components: 4:2:0 and 4:4:4 need 24 per pixel of width, 4:4:0 needs 32, and each
/// component is rounded up to whole blocks.
const ROW_SAMPLES: usize = 32 * (DIMENSION_MAX as usize + 64);
/// Coefficients of a progressive JPEG, which is decoded only when all of it has been read: 4096x3072 fits.
const COEFFICIENT_BYTES: c_long = 64 << 20;
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
            CodecError::Truncated => f.write_str("the JPEG ends before its picture does"),
            CodecError::Unsupported(what) => write!(f, "cannot encode {what}"),
            CodecError::Libjpeg(message) => write!(f, "libjpeg: {message}"),
        }
    }
}

impl std::error::Error for CodecError {}

/// The panic payload that `error_exit` and the callbacks unwind with; the reason is in [`Lib::failure`]. Of no size, so
/// that boxing it takes no memory.
struct Bail;

/// Encodes and transcodes, one picture at a time, with objects that are made once.
pub struct Codec {
    /// From `Box::into_raw`: libjpeg's objects point at each other, so they must not move, and a `Box` would claim
    /// that nobody else points there.
    lib: *mut Lib,
    /// One row of MCUs, components one after the other, where the picture's own memory cannot serve as it is.
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
    /// What made a callback bail.
    failure: Option<CodecError>,
}

impl Codec {
    /// # Panics
    /// If libjpeg is not the one that this was compiled for, or there is no memory for its objects.
    pub fn new() -> Self {
        // SAFETY: all zeros is a valid value of these C structs of numbers, pointers and `Option<fn>`s, and
        // `J_COLOR_SPACE` and the other enums in them have a variant of value 0.
        let mut lib = Box::new(unsafe {
            Lib {
                error: std::mem::zeroed(),
                compress: std::mem::zeroed(),
                destination: std::mem::zeroed(),
                decompress: std::mem::zeroed(),
                source: std::mem::zeroed(),
                progress: std::mem::zeroed(),
                failure: None,
            }
        });
        lib.destination.init_destination = Some(init_destination);
        lib.destination.empty_output_buffer = Some(empty_output_buffer);
        lib.destination.term_destination = Some(term_destination);
        lib.source.init_source = Some(init_source);
        lib.source.fill_input_buffer = Some(fill_input_buffer);
        lib.source.skip_input_data = Some(skip_input_data);
        lib.source.resync_to_restart = Some(sys::jpeg_resync_to_restart);
        lib.source.term_source = Some(term_source);
        lib.progress.progress_monitor = Some(limit_scans);
        let lib = Box::into_raw(lib);
        let codec = Codec {
            lib,
            rows: vec![0; ROW_SAMPLES].into_boxed_slice(),
        };
        let made = codec.guard(|| {
            // SAFETY: `lib` was just made and nobody else has it; all pointers that libjpeg gets are into it, and it is
            // freed only in `drop`, after both objects were destroyed.
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
                (*(*lib).decompress.common.mem).max_memory_to_use = COEFFICIENT_BYTES;
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
        codec
    }

    /// Encodes `raw` into `out` at `quality` (1 to 100; values outside are taken as the nearest), in the sampling of
    /// its format; RGB becomes 4:2:0. After an error `out` is empty.
    pub fn encode(
        &mut self,
        raw: &RawPicture<'_>,
        quality: u8,
        out: &mut FrameBuf,
    ) -> Result<(), CodecError> {
        out.clear();
        let layout = Layout::of(raw)?;
        let (lib, rows) = (self.lib, &mut self.rows);
        let len = guard(lib, || {
            // SAFETY: `lib` is valid as long as `self`, and `guard` lends it to this closure alone.
            let compress = unsafe { &mut (*lib).compress };
            // SAFETY: as above.
            let destination = unsafe { &mut (*lib).destination };
            aim(destination, out);
            configure(compress, layout.input, layout.space, raw, quality);
            // SAFETY: TODO
            Ok(0)
        });
        let _ = (rows, len);
        todo!()
    }
}
