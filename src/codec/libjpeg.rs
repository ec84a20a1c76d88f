//! The libjpeg API without its sharp edges: objects made once, errors as `Result`, lengths checked. What has to be C is
//! in `guard.c` (errors, callbacks) and `memory.c`.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::mem::MaybeUninit;
use std::{array, mem, ptr, slice};

use heapless::String;
use mozjpeg_sys as sys;
use mozjpeg_sys::{
    DCTSIZE, J_COLOR_SPACE, JCS_GRAYSCALE, JCS_RGB, JCS_YCbCr, jpeg_component_info,
    jpeg_compress_struct, jpeg_decompress_struct,
};

use super::{CodecError, check_size, dc};
use crate::frame::FrameBuf;
use crate::frame::Size;

/// Lines of a component in the tallest row of MCUs: four blocks.
pub(super) const MCU_LINES: usize = 4 * DCTSIZE;
/// The most that are passed on: Y, Cb, Cr.
pub(super) const COMPONENTS: usize = 3;
/// `JMSG_LENGTH_MAX` of jpeglib.h: what a message may take.
const MESSAGE_MAX: usize = 200;
/// What libjpeg takes for one picture, and for its tables. At a width of `DIMENSION_MAX` the usual samplings need less
/// than a quarter of it; the rest is for those that only exist in theory.
const WORK_BYTES: usize = 2 << 20;
/// Coefficients of a progressive JPEG, which is decoded only when all of it has been read: 4096x3072 fits.
const COEFFICIENT_BYTES: usize = 64 << 20;

/// Codes of `guard.c`, beyond libjpeg's own.
const OUTPUT_FULL: c_int = 1000;
const INPUT_ENDS: c_int = 1001;
const MANY_SCANS: c_int = 1002;

/// Horizontal and vertical sampling factors of a component.
pub(super) type Factors = (c_int, c_int);
/// One row of MCUs: for each component its lines, as many as its blocks are high.
pub(super) type McuRow<'a> = [[&'a [u8]; MCU_LINES]; COMPONENTS];

/// The same as in `guard.c`: the size of a component as it is decoded.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Plane {
    width: u32,
    height: u32,
    line: u32,
    lines: u32,
}

impl Plane {
    pub(super) fn size(&self) -> Size {
        // No larger than the picture, which was checked.
        Size {
            width: self.width as u16,
            height: self.height as u16,
        }
    }

    /// Samples that libjpeg writes of each line: whole blocks.
    pub(super) fn line(&self) -> usize {
        self.line as usize
    }

    /// Lines in a row of MCUs.
    pub(super) fn lines(&self) -> usize {
        self.lines as usize
    }
}

/// The same as in `guard.c`.
#[repr(C)]
struct RawScan {
    data: *const u8,
    bytes: usize,
    restart_interval: c_uint,
    components: [RawComponent; COMPONENTS],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RawComponent {
    dc: *const sys::JHUFF_TBL,
    ac: *const sys::JHUFF_TBL,
    dc_number: c_int,
    ac_number: c_int,
    quantizer: u16,
}

/// The same as in `guard.c`. Everything that libjpeg holds pointers to.
#[repr(C)]
struct Lib {
    error: sys::jpeg_error_mgr,
    /// `jmp_buf *`
    back: *mut u8,
    compress: jpeg_compress_struct,
    decompress: jpeg_decompress_struct,
    destination: sys::jpeg_destination_mgr,
    source: sys::jpeg_source_mgr,
    progress: sys::jpeg_progress_mgr,
}

// `guard.c`. Each returns -1 after an error, when its reason is in `Lib::error`, and else what libjpeg's function of
// that name does.
unsafe extern "C" {
    fn camd_jpeg_create(
        lib: *mut Lib,
        size: usize,
        compress_memory: *mut u8,
        compress_bytes: usize,
        decompress_memory: *mut u8,
        decompress_bytes: usize,
    ) -> c_int;
    fn camd_jpeg_message(lib: *mut Lib, text: *mut c_char);
    fn camd_jpeg_configure(cinfo: *mut jpeg_compress_struct, quality: c_int) -> c_int;
    fn camd_jpeg_start_compress(cinfo: *mut jpeg_compress_struct) -> c_int;
    fn camd_jpeg_write_scanline(cinfo: *mut jpeg_compress_struct, line: *const u8) -> c_int;
    fn camd_jpeg_write_raw_data(
        cinfo: *mut jpeg_compress_struct,
        lines: *const *const *const u8,
        count: u32,
    ) -> c_int;
    fn camd_jpeg_finish_compress(cinfo: *mut jpeg_compress_struct) -> c_int;
    fn camd_jpeg_read_header(cinfo: *mut jpeg_decompress_struct) -> c_int;
    fn camd_jpeg_start_decompress(cinfo: *mut jpeg_decompress_struct) -> c_int;
    fn camd_jpeg_read_scanline(cinfo: *mut jpeg_decompress_struct, line: *mut u8) -> c_int;
    fn camd_jpeg_read_raw_data(
        cinfo: *mut jpeg_decompress_struct,
        lines: *mut *mut *mut u8,
    ) -> c_int;
    fn camd_jpeg_plane(cinfo: *const jpeg_decompress_struct, component: c_int, plane: *mut Plane);
    fn camd_jpeg_scan(cinfo: *const jpeg_decompress_struct, scan: *mut RawScan) -> c_int;
    fn camd_jpeg_finish_decompress(cinfo: *mut jpeg_decompress_struct) -> c_int;
}

/// One compress and one decompress object.
pub(super) struct Libjpeg {
    /// From `Box::into_raw`: libjpeg's objects point at each other, so they must not move, and a `Box` would claim
    /// that nobody else points there.
    lib: *mut Lib,
    /// Likewise: the memory of the compress and of the decompress object.
    arenas: [*mut [u8]; 2],
}

impl Libjpeg {
    /// # Panics
    /// If libjpeg is not the one that this was compiled for, or there is no memory for its objects.
    pub(super) fn new() -> Self {
        // SAFETY: all zeros is a valid value of these C structs: numbers, pointers, `Option<fn>`s, and enums that have
        // a variant of value 0.
        let lib = Box::into_raw(Box::new(unsafe { mem::zeroed::<Lib>() }));
        // From calloc: pages that are never written cost no memory.
        let arenas = [WORK_BYTES, WORK_BYTES + COEFFICIENT_BYTES]
            .map(|bytes| Box::into_raw(vec![0; bytes].into_boxed_slice()));
        let [compress, decompress] = arenas;
        // SAFETY: what it gets is valid and zeroed, and is freed only in `drop`, after both objects were destroyed.
        let made = unsafe {
            camd_jpeg_create(
                lib,
                size_of::<Lib>(),
                compress.cast(),
                compress.len(),
                decompress.cast(),
                decompress.len(),
            )
        };
        // SAFETY: nobody else uses it now.
        let lib_error = unsafe { &(*lib).error };
        assert!(
            made == 1,
            "libjpeg cannot start: code {}, returned {made}",
            lib_error.msg_code
        );
        Libjpeg { lib, arenas }
    }

    /// Runs `body` with both objects, with the output going into `out`, and brings them back to their idle state.
    pub(super) fn run(
        &mut self,
        out: &mut FrameBuf,
        body: impl FnOnce(Compressor<'_>, Idle<'_>) -> Result<(), Failed>,
    ) -> Result<(), CodecError> {
        let lib = self.lib;
        let capacity = out.capacity();
        if capacity == 0 {
            // libjpeg asks for more room only after it has used up some.
            return Err(CodecError::TooBig { capacity });
        }
        // SAFETY: `lib` is valid, and nobody else uses it while `self` is borrowed. The borrows are of different
        // fields; within a call libjpeg itself goes from one to the others. `out` is not touched again before libjpeg is
        // done with it, and is longer-lived than `body`.
        let (compress, decompress) = unsafe {
            (*lib).destination.next_output_byte = out.spare().as_mut_ptr();
            (*lib).destination.free_in_buffer = capacity;
            (&mut (*lib).compress, &mut (*lib).decompress)
        };
        let result = body(Compressor(compress), Idle(decompress));
        let result = result.map_err(|failed| match failed {
            Failed::Libjpeg => self.error(capacity),
            Failed::Codec(error) => error,
        });
        // SAFETY: both objects exist, and aborting is allowed in every state of them. It frees the picture's memory and
        // calls no `error_exit`.
        let free = unsafe {
            sys::jpeg_abort_compress(&mut (*lib).compress);
            sys::jpeg_abort_decompress(&mut (*lib).decompress);
            (*lib).destination.next_output_byte = ptr::null_mut();
            (*lib).source.next_input_byte = ptr::null();
            (*lib).source.bytes_in_buffer = 0;
            mem::take(&mut (*lib).destination.free_in_buffer)
        };
        result?;
        out.set_len(capacity - free);
        Ok(())
    }

    /// Why libjpeg failed just now.
    fn error(&self, capacity: usize) -> CodecError {
        // SAFETY: `lib` is valid, and nobody uses it now.
        let code = unsafe { (*self.lib).error.msg_code };
        match code {
            OUTPUT_FULL => return CodecError::TooBig { capacity },
            INPUT_ENDS => return CodecError::Truncated,
            MANY_SCANS => {
                return CodecError::Unsupported("a progressive JPEG of this many scans");
            }
            _ if code == sys::JERR_OUT_OF_MEMORY as c_int => {
                return CodecError::Unsupported("a progressive JPEG of this size");
            }
            _ => {}
        }
        let mut text = [0u8; MESSAGE_MAX];
        // SAFETY: there is room for `JMSG_LENGTH_MAX` bytes, as it demands.
        unsafe { camd_jpeg_message(self.lib, text.as_mut_ptr().cast()) };
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
        CodecError::Libjpeg(message)
    }
}

impl Drop for Libjpeg {
    fn drop(&mut self) {
        // SAFETY: all came from `Box::into_raw` in `new` and are not used again. Both objects were created, and
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

/// Why there is no picture.
pub(super) enum Failed {
    /// A function of libjpeg failed; [`Libjpeg::run`] asks it for the reason.
    Libjpeg,
    Codec(CodecError),
}

impl From<CodecError> for Failed {
    fn from(error: CodecError) -> Self {
        Failed::Codec(error)
    }
}

fn ok(returned: c_int) -> Result<c_int, Failed> {
    if returned < 0 {
        Err(Failed::Libjpeg)
    } else {
        Ok(returned)
    }
}

/// A compress object whose destination is set up for one picture.
pub(super) struct Compressor<'a>(&'a mut jpeg_compress_struct);

impl Compressor<'_> {
    pub(super) fn configure(
        &mut self,
        size: Size,
        space: J_COLOR_SPACE,
        quality: u8,
    ) -> Result<(), Failed> {
        let cinfo = &mut *self.0;
        cinfo.image_width = size.width.into();
        cinfo.image_height = size.height.into();
        cinfo.input_components = if space == JCS_GRAYSCALE { 1 } else { 3 };
        cinfo.in_color_space = space;
        // SAFETY: the object was created, and is idle: `run` leaves it so.
        ok(unsafe { camd_jpeg_configure(cinfo, quality.into()) })?;
        Ok(())
    }

    pub(super) fn start(&mut self) -> Result<(), Failed> {
        // SAFETY: the object is configured.
        ok(unsafe { camd_jpeg_start_compress(self.0) })?;
        Ok(())
    }

    /// Starts a picture whose samples come with [`Compressor::write_mcu_row`].
    pub(super) fn start_raw(&mut self, factors: &[Factors]) -> Result<(), Failed> {
        self.0.raw_data_in = 1;
        self.set_sampling(factors);
        self.start()
    }

    pub(super) fn set_sampling(&mut self, factors: &[Factors]) {
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
    pub(super) fn line_samples(&mut self, component: usize) -> usize {
        self.components_mut()[component].width_in_blocks as usize * DCTSIZE
    }

    /// Lines of a component in a row of MCUs.
    pub(super) fn mcu_lines(&mut self, component: usize) -> usize {
        self.components_mut()[component].v_samp_factor as usize * DCTSIZE
    }

    /// Lines of the picture in a row of MCUs. Known once started.
    pub(super) fn mcu_height(&self) -> usize {
        self.0.max_v_samp_factor as usize * DCTSIZE
    }

    pub(super) fn write_line(&mut self, line: &[u8]) -> Result<(), Failed> {
        assert!(line.len() >= self.0.image_width as usize * self.0.input_components as usize);
        // SAFETY: `start` was called, and the line is as long as libjpeg takes it to be.
        ok(unsafe { camd_jpeg_write_scanline(self.0, line.as_ptr()) })?;
        Ok(())
    }

    pub(super) fn write_mcu_row(&mut self, lines: &McuRow<'_>) -> Result<(), Failed> {
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
        ok(unsafe { camd_jpeg_write_raw_data(self.0, components.as_ptr(), count) })?;
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), Failed> {
        // SAFETY: started; libjpeg itself checks that all lines were written.
        ok(unsafe { camd_jpeg_finish_compress(self.0) })?;
        Ok(())
    }
}

/// A decompress object that has no picture yet.
pub(super) struct Idle<'a>(&'a mut jpeg_decompress_struct);

impl<'a> Idle<'a> {
    pub(super) fn read_header(self, jpeg: &'a [u8]) -> Result<Decompressor<'a>, Failed> {
        // SAFETY: `src` is `Lib::source`, which nobody else uses now. The pointer into `jpeg` does not outlive it: the
        // `Decompressor` borrows it, and `run` clears the pointer.
        let returned = unsafe {
            (*self.0.src).next_input_byte = jpeg.as_ptr();
            (*self.0.src).bytes_in_buffer = jpeg.len();
            camd_jpeg_read_header(self.0)
        };
        ok(returned)?;
        Ok(Decompressor(self.0))
    }
}

/// A decompress object that has read a header.
pub(super) struct Decompressor<'a>(&'a mut jpeg_decompress_struct);

impl Decompressor<'_> {
    pub(super) fn size(&self) -> Result<Size, CodecError> {
        check_size(self.0.image_width, self.0.image_height)?;
        // Both are at most DIMENSION_MAX.
        Ok(Size {
            width: self.0.image_width as u16,
            height: self.0.image_height as u16,
        })
    }

    /// The colours to pass on, unconverted.
    pub(super) fn space(&self) -> Result<J_COLOR_SPACE, CodecError> {
        match (self.0.jpeg_color_space, self.0.num_components) {
            (space @ (JCS_YCbCr | JCS_RGB), 3) | (space @ JCS_GRAYSCALE, 1) => Ok(space),
            _ => Err(CodecError::Unsupported(
                "a JPEG that is neither grey, YCbCr nor RGB",
            )),
        }
    }

    pub(super) fn components(&self) -> &[jpeg_component_info] {
        // SAFETY: reading the header made `comp_info` with `num_components` entries.
        unsafe { slice::from_raw_parts(self.0.comp_info, self.0.num_components as usize) }
    }

    pub(super) fn start(&mut self) -> Result<(), Failed> {
        self.0.out_color_space = self.0.jpeg_color_space;
        // SAFETY: the header was read.
        ok(unsafe { camd_jpeg_start_decompress(self.0) })?;
        Ok(())
    }

    /// Starts a picture whose samples are read with [`Decompressor::read_mcu_row`].
    pub(super) fn start_raw(&mut self) -> Result<(), Failed> {
        self.0.raw_data_out = 1;
        self.start()
    }

    /// False: there are no more lines.
    pub(super) fn read_line(&mut self, line: &mut [u8]) -> Result<bool, Failed> {
        assert!(line.len() >= self.0.output_width as usize * self.0.output_components as usize);
        if self.0.output_scanline >= self.0.output_height {
            return Ok(false);
        }
        // SAFETY: `start` was called, and there is room for the line.
        Ok(ok(unsafe { camd_jpeg_read_scanline(self.0, line.as_mut_ptr()) })? == 1)
    }

    /// Asks for the smallest scale that libjpeg has (1/8 … 8/8) in which the picture is no smaller than `size`. libjpeg
    /// rounds the scaled size up, and the beginning of a sample then counts as a whole one: a side that is no multiple
    /// of eight comes out stretched, by less than a sample.
    pub(super) fn scale(&mut self, size: Size) {
        let cinfo = &mut *self.0;
        let eighths = |side: u32, least: u16| {
            (1..8)
                .find(|&n| (side * n).div_ceil(8) >= least.into())
                .unwrap_or(8)
        };
        cinfo.scale_num =
            eighths(cinfo.image_width, size.width).max(eighths(cinfo.image_height, size.height));
        cinfo.scale_denom = 8;
    }

    /// The scan, before it is started: `None` if its scale is not 1/8 or it is none for [`dc::Eighths`].
    pub(super) fn scan_for_eighths(&self) -> Option<dc::Scan<'_>> {
        if self.0.scale_num != 1 || self.0.scale_denom != 8 {
            return None;
        }
        let mut scan = MaybeUninit::uninit();
        // SAFETY: the header was read; all of `scan` is filled in, or 0 comes back.
        let scan = unsafe {
            if camd_jpeg_scan(&raw const *self.0, scan.as_mut_ptr()) == 0 {
                return None;
            }
            scan.assume_init()
        };
        // SAFETY: the rest of the JPEG that `read_header` was given, which `self` borrows.
        let data = unsafe { slice::from_raw_parts(scan.data, scan.bytes) };
        let components = array::from_fn(|i| {
            let raw = &scan.components[i];
            let info = &self.components()[i];
            // SAFETY: libjpeg's own tables, which stay as they are while `self` is borrowed.
            let (dc, ac) = unsafe { (&*raw.dc, &*raw.ac) };
            dc::Component {
                factors: (info.h_samp_factor, info.v_samp_factor),
                quantizer: raw.quantizer,
                dc: dc::Huffman {
                    number: raw.dc_number as usize,
                    counts: &dc.bits,
                    symbols: &dc.huffval,
                },
                ac: dc::Huffman {
                    number: raw.ac_number as usize,
                    counts: &ac.bits,
                    symbols: &ac.huffval,
                },
            }
        });
        Some(dc::Scan {
            // At most DIMENSION_MAX, as `size` has found.
            size: Size {
                width: self.0.image_width as u16,
                height: self.0.image_height as u16,
            },
            restart_interval: scan.restart_interval,
            components,
            data,
        })
    }

    /// The size of the lines that [`Decompressor::read_line`] reads, known once started.
    pub(super) fn output_size(&self) -> Size {
        // No larger than the picture, which was checked.
        Size {
            width: self.0.output_width as u16,
            height: self.0.output_height as u16,
        }
    }

    /// The components as they are decoded, known once started; unused ones are empty.
    pub(super) fn planes(&self) -> [Plane; COMPONENTS] {
        let mut planes = [Plane::default(); COMPONENTS];
        for (i, plane) in planes.iter_mut().take(self.components().len()).enumerate() {
            // SAFETY: the component exists.
            unsafe { camd_jpeg_plane(&raw const *self.0, i as c_int, plane) };
        }
        planes
    }

    /// Reads a row of MCUs into `rows`, one component after the other. False: there are no more.
    pub(super) fn read_mcu_row(&mut self, rows: &mut [u8]) -> Result<bool, Failed> {
        if self.0.output_scanline >= self.0.output_height {
            return Ok(false);
        }
        let mut pointers = [[ptr::null_mut(); MCU_LINES]; COMPONENTS];
        let mut rest = rows;
        for (pointers, plane) in pointers.iter_mut().zip(self.planes()) {
            if plane.line == 0 {
                break;
            }
            let (these, others) = rest.split_at_mut(plane.lines() * plane.line());
            assert!(plane.lines() <= MCU_LINES);
            for (pointer, line) in pointers
                .iter_mut()
                .zip(these.chunks_exact_mut(plane.line()))
            {
                *pointer = line.as_mut_ptr();
            }
            rest = others;
        }
        let mut components = pointers.each_mut().map(|lines| lines.as_mut_ptr());
        // SAFETY: `start_raw` was called. Every component has room for each line of one row of MCUs, whole blocks long.
        let read = ok(unsafe { camd_jpeg_read_raw_data(self.0, components.as_mut_ptr()) })?;
        Ok(read > 0)
    }

    pub(super) fn finish(&mut self) -> Result<(), Failed> {
        // SAFETY: started; libjpeg itself checks that all lines were read.
        ok(unsafe { camd_jpeg_finish_decompress(self.0) })?;
        Ok(())
    }
}
