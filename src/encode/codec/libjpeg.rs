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

use super::error::{CodecError, check_size};
use super::laps::Laps;
use super::mcu::{COMPONENTS, Factors, MCU_LINES, McuRow, ROW_SAMPLES};
use super::reduced::{self, Reducer, Scale};
use crate::measure::times::Phase;
use crate::picture::frame::{Area, FrameBuf, Orientation, Size};
use crate::picture::stamp::{NEUTRAL, Placed, Stamp};

/// `JMSG_LENGTH_MAX` of jpeglib.h: what a message may take.
const MESSAGE_MAX: usize = 200;
/// What libjpeg takes for one picture, and for its tables. At a width of `DIMENSION_MAX` the usual samplings need less
/// than a quarter of it; the rest is for those that only exist in theory.
const WORK_BYTES: usize = 2 << 20;
/// Coefficients of a progressive JPEG, which is decoded only when all of it has been read: 4096x3072 fits. A JPEG that is
/// turned without loss takes twice as much: 3840x2160 fits in 4:2:0.
const COEFFICIENT_BYTES: usize = 64 << 20;

/// Codes of `guard.c`, beyond libjpeg's own.
const OUTPUT_FULL: c_int = 1000;
const INPUT_ENDS: c_int = 1001;
const MANY_SCANS: c_int = 1002;

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

/// The same as in `guard.c`: a part of a picture.
#[repr(C)]
struct RawArea {
    x: c_uint,
    y: c_uint,
    width: c_uint,
    height: c_uint,
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
    quantizers: [u16; 4],
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
    fn camd_jpeg_turn(
        from: *mut jpeg_decompress_struct,
        to: *mut jpeg_compress_struct,
        transpose: c_int,
        mirror_x: c_int,
        mirror_y: c_int,
        crop: *mut RawArea,
    ) -> c_int;
}

/// One compress and one decompress object.
pub(super) struct Libjpeg {
    /// From `Box::into_raw`: libjpeg's objects point at each other, so they must not move, and a `Box` would claim
    /// that nobody else points there.
    lib: *mut Lib,
    /// Likewise: the memory of the compress and of the decompress object.
    arenas: [*mut [u8]; 2],
    /// One row of MCUs: copies of the lines that get a stamp, as the picture itself is only lent.
    stamped: Box<[u8]>,
    pub(super) laps: Laps,
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
        Libjpeg {
            lib,
            arenas,
            stamped: vec![0; ROW_SAMPLES].into_boxed_slice(),
            laps: Laps::default(),
        }
    }

    /// Runs `body` with both objects, with the output going into `out`, and brings them back to their idle state. What
    /// `body` compresses gets the stamp.
    pub(super) fn run(
        &mut self,
        stamp: Option<&Stamp>,
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
        let laps = &self.laps;
        laps.begin();
        let to = Compressor {
            cinfo: compress,
            laps,
            stamp,
            placed: None,
            stamped: &mut self.stamped,
        };
        let from = Idle {
            cinfo: decompress,
            laps,
        };
        let result = body(to, from).map_err(|failed| match failed {
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

    /// Runs `body` with the decompress object, and brings it back to its idle state.
    pub(super) fn decode(
        &mut self,
        body: impl FnOnce(Idle<'_>) -> Result<(), Failed>,
    ) -> Result<(), CodecError> {
        let lib = self.lib;
        // SAFETY: `lib` is valid, and nobody else uses it while `self` is borrowed.
        let decompress = unsafe { &mut (*lib).decompress };
        self.laps.begin();
        let from = Idle {
            cinfo: decompress,
            laps: &self.laps,
        };
        let result = body(from).map_err(|failed| match failed {
            // Nothing is written.
            Failed::Libjpeg => self.error(0),
            Failed::Codec(error) => error,
        });
        // SAFETY: as in `run`.
        unsafe {
            sys::jpeg_abort_decompress(&mut (*lib).decompress);
            (*lib).source.next_input_byte = ptr::null();
            (*lib).source.bytes_in_buffer = 0;
        }
        result
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
                return CodecError::Unsupported("a JPEG of so many coefficients at once");
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
pub(super) struct Compressor<'a> {
    cinfo: &'a mut jpeg_compress_struct,
    laps: &'a Laps,
    stamp: Option<&'a Stamp>,
    /// The stamp on a picture of the configured size, if there is room for it.
    placed: Option<Placed<'a>>,
    stamped: &'a mut [u8],
}

impl Compressor<'_> {
    pub(super) fn configure(
        &mut self,
        size: Size,
        space: J_COLOR_SPACE,
        quality: u8,
    ) -> Result<(), Failed> {
        self.placed = self.stamp.and_then(|stamp| stamp.place(size));
        let cinfo = &mut *self.cinfo;
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
        let start = || unsafe { camd_jpeg_start_compress(self.cinfo) };
        ok(self.laps.during(Phase::Encode, start))?;
        Ok(())
    }

    /// Starts a picture whose samples come with [`Compressor::write_mcu_row`].
    pub(super) fn start_raw(&mut self, factors: &[Factors]) -> Result<(), Failed> {
        self.cinfo.raw_data_in = 1;
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
        components_mut(self.cinfo)
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
        self.cinfo.max_v_samp_factor as usize * DCTSIZE
    }

    pub(super) fn write_line(&mut self, line: &[u8]) -> Result<(), Failed> {
        let Compressor {
            cinfo,
            laps,
            placed,
            stamped,
            ..
        } = self;
        let channels = cinfo.input_components as usize;
        let line = &line[..cinfo.image_width as usize * channels];
        let y = cinfo.next_scanline as usize;
        let line = match placed {
            Some(placed) if y >= placed.top() => {
                let (copy, row) = stamped.split_at_mut(line.len());
                copy.copy_from_slice(line);
                let row = &mut row[..placed.right()];
                placed.draw(y, row);
                for (pixel, luma) in copy.chunks_exact_mut(channels).zip(row) {
                    pixel.fill(*luma);
                    if cinfo.in_color_space == JCS_YCbCr {
                        pixel[1..].fill(NEUTRAL);
                    }
                }
                &*copy
            }
            _ => line,
        };
        // SAFETY: `start` was called, and the line is as long as libjpeg takes it to be.
        let write = || unsafe { camd_jpeg_write_scanline(*cinfo, line.as_ptr()) };
        ok(laps.during(Phase::Encode, write))?;
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
        let below = self.cinfo.next_scanline as usize + self.mcu_height();
        if let Some(placed) = self.placed
            && below > placed.top()
        {
            self.stamp_mcu_row(placed, lines, &mut pointers);
        }
        let components = pointers.each_ref().map(|lines| lines.as_ptr());
        let count = self.cinfo.max_v_samp_factor as u32 * DCTSIZE as u32;
        // SAFETY: `start_raw` was called. Every component has a pointer to each line of one row of MCUs, and each line
        // is whole blocks long, as was just checked.
        let write = || unsafe { camd_jpeg_write_raw_data(self.cinfo, components.as_ptr(), count) };
        ok(self.laps.during(Phase::Encode, write))?;
        Ok(())
    }

    /// Points at copies of those lines that the stamp touches, with the stamp in them.
    fn stamp_mcu_row(
        &mut self,
        placed: Placed<'_>,
        lines: &McuRow<'_>,
        pointers: &mut [[*const u8; MCU_LINES]; COMPONENTS],
    ) {
        let first = self.cinfo.next_scanline as usize;
        let max_h = self.cinfo.max_h_samp_factor as usize;
        let max_v = self.cinfo.max_v_samp_factor as usize;
        let mut rest = &mut *self.stamped;
        for (i, component) in components_mut(self.cinfo).iter().enumerate() {
            let h = component.h_samp_factor as usize;
            let v = component.v_samp_factor as usize;
            let samples = component.width_in_blocks as usize * DCTSIZE;
            let covered = (placed.right() * h).div_ceil(max_h).min(samples);
            for (j, pointer) in pointers[i][..v * DCTSIZE].iter_mut().enumerate() {
                let y = first + j * max_v / v;
                if y < placed.top() {
                    continue;
                }
                let copy;
                (copy, rest) = rest.split_at_mut(samples);
                copy.copy_from_slice(&lines[i][j][..samples]);
                let covered = &mut copy[..covered];
                if i > 0 {
                    covered.fill(NEUTRAL);
                } else if h == max_h {
                    placed.draw(y, covered);
                } else {
                    // Such brightness only exists in theory. Here is room for two more components.
                    let row = &mut rest[..placed.right()];
                    placed.draw(y, row);
                    for (sample, luma) in covered.iter_mut().zip(row.iter().step_by(max_h / h)) {
                        *sample = *luma;
                    }
                }
                *pointer = copy.as_ptr();
            }
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), Failed> {
        // SAFETY: started; libjpeg itself checks that all lines were written.
        let finish = || unsafe { camd_jpeg_finish_compress(self.cinfo) };
        ok(self.laps.during(Phase::Encode, finish))?;
        Ok(())
    }
}

/// The components of a configured object.
fn components_mut(cinfo: &mut jpeg_compress_struct) -> &mut [jpeg_component_info] {
    // SAFETY: `jpeg_set_defaults` made `comp_info` with ten entries and set `num_components` to 1 or 3.
    unsafe { slice::from_raw_parts_mut(cinfo.comp_info, cinfo.num_components as usize) }
}

/// A decompress object that has no picture yet.
pub(super) struct Idle<'a> {
    cinfo: &'a mut jpeg_decompress_struct,
    laps: &'a Laps,
}

impl<'a> Idle<'a> {
    pub(super) fn read_header(self, jpeg: &'a [u8]) -> Result<Decompressor<'a>, Failed> {
        // SAFETY: `src` is `Lib::source`, which nobody else uses now. The pointer into `jpeg` does not outlive it: the
        // `Decompressor` borrows it, and `run` clears the pointer.
        let read = || unsafe {
            (*self.cinfo.src).next_input_byte = jpeg.as_ptr();
            (*self.cinfo.src).bytes_in_buffer = jpeg.len();
            camd_jpeg_read_header(self.cinfo)
        };
        ok(self.laps.during(Phase::Decode, read))?;
        Ok(Decompressor {
            cinfo: self.cinfo,
            laps: self.laps,
        })
    }
}

/// A part of a picture that is decoded at scales (numerator, denominator) in the size `whole`.
fn scaled_part(area: Area, x_scale: (u32, u32), y_scale: (u32, u32), whole: Size) -> Area {
    let scaled = |at: u16, side: u16, (n, of): (u32, u32), whole: u16| {
        let begin = u32::from(at) * n / of;
        let end = ((u32::from(at) + u32::from(side)) * n).div_ceil(of);
        // No larger than `whole`, which has 16 bits.
        let end = end.min(whole.into());
        let begin = begin.min(end.saturating_sub(1));
        (begin as u16, (end - begin) as u16)
    };
    let (x, width) = scaled(area.x, area.width, x_scale, whole.width);
    let (y, height) = scaled(area.y, area.height, y_scale, whole.height);
    Area {
        x,
        y,
        width,
        height,
    }
}

/// A decompress object that has read a header.
pub(super) struct Decompressor<'a> {
    cinfo: &'a mut jpeg_decompress_struct,
    laps: &'a Laps,
}

impl Decompressor<'_> {
    pub(super) fn size(&self) -> Result<Size, CodecError> {
        check_size(self.cinfo.image_width, self.cinfo.image_height)?;
        // Both are at most DIMENSION_MAX.
        Ok(Size {
            width: self.cinfo.image_width as u16,
            height: self.cinfo.image_height as u16,
        })
    }

    /// The part of the picture to show: the nearest to `crop` that it has, so that no group of pixels is parted that shares
    /// its colour.
    pub(super) fn part(&self, crop: Option<Area>) -> Result<Area, CodecError> {
        let whole = self.size()?;
        let Some(area) = crop else {
            return Ok(Area::all(whole));
        };
        let (max_h, max_v) = self.max_factors();
        let group = |max: i32, side: fn(&jpeg_component_info) -> i32| {
            let begins = |n: i32| self.components().iter().all(|c| n * side(c) % max == 0);
            // At most 4.
            (1..max).find(|&n| begins(n)).unwrap_or(max) as u16
        };
        let columns = group(max_h, |component| component.h_samp_factor);
        let lines = group(max_v, |component| component.v_samp_factor);
        Ok(area.within(whole).on_grid(columns, lines))
    }

    /// Those of the picture: the largest of its components.
    fn max_factors(&self) -> Factors {
        let components = self.components().iter();
        components.fold((1, 1), |(h, v), component| {
            (
                h.max(component.h_samp_factor),
                v.max(component.v_samp_factor),
            )
        })
    }

    /// What a component, which is decoded in the size `whole`, has of a part of the picture ([`Decompressor::part`], and
    /// [`Decompressor::scale`] has been told of it).
    pub(super) fn component_part(&self, area: Area, component: usize, whole: Size) -> Area {
        // libjpeg may decode colours in more detail than brightness.
        let mut plane = Plane::default();
        let info = &self.components()[component];
        // SAFETY: the component exists, as was just seen.
        unsafe { camd_jpeg_plane(&raw const *self.cinfo, component as c_int, &mut plane) };
        let n = plane.lines / info.v_samp_factor as u32;
        self.scaled_component(area, component, n, whole)
    }

    /// As [`Decompressor::component_part`], of what [`Decompressor::decode_reduced`] gives.
    pub(super) fn reduced_part(&self, area: Area, component: usize, whole: Size) -> Area {
        self.scaled_component(area, component, self.cinfo.scale_num, whole)
    }

    /// `n`: eighths.
    fn scaled_component(&self, area: Area, component: usize, n: u32, whole: Size) -> Area {
        let info = &self.components()[component];
        let (max_h, max_v) = self.max_factors();
        let scale = |factor: i32, max: i32| (factor as u32 * n, 8 * max as u32);
        let x_scale = scale(info.h_samp_factor, max_h);
        let y_scale = scale(info.v_samp_factor, max_v);
        scaled_part(area, x_scale, y_scale, whole)
    }

    /// [`Decompressor::component_part`] of the lines that [`Decompressor::read_line`] reads, which are decoded in the size
    /// `whole`.
    pub(super) fn decoded_part(&self, area: Area, whole: Size) -> Area {
        let scale = match self.cinfo.scale_denom {
            8 => (self.cinfo.scale_num, 8),
            _ => (1, 1),
        };
        scaled_part(area, scale, scale, whole)
    }

    /// The colours to pass on, unconverted.
    pub(super) fn space(&self) -> Result<J_COLOR_SPACE, CodecError> {
        match (self.cinfo.jpeg_color_space, self.cinfo.num_components) {
            (space @ (JCS_YCbCr | JCS_RGB), 3) | (space @ JCS_GRAYSCALE, 1) => Ok(space),
            _ => Err(CodecError::Unsupported(
                "a JPEG that is neither grey, YCbCr nor RGB",
            )),
        }
    }

    pub(super) fn components(&self) -> &[jpeg_component_info] {
        // SAFETY: reading the header made `comp_info` with `num_components` entries.
        unsafe { slice::from_raw_parts(self.cinfo.comp_info, self.cinfo.num_components as usize) }
    }

    pub(super) fn start(&mut self) -> Result<(), Failed> {
        self.start_in(self.cinfo.jpeg_color_space)
    }

    /// Starts a picture whose lines are to be in these colours: RGB in any order, or grey.
    pub(super) fn start_in(&mut self, space: J_COLOR_SPACE) -> Result<(), Failed> {
        self.cinfo.out_color_space = space;
        // SAFETY: the header was read.
        let start = || unsafe { camd_jpeg_start_decompress(self.cinfo) };
        ok(self.laps.during(Phase::Decode, start))?;
        Ok(())
    }

    /// Starts a picture whose samples are read with [`Decompressor::read_mcu_row`].
    pub(super) fn start_raw(&mut self) -> Result<(), Failed> {
        self.cinfo.raw_data_out = 1;
        self.start()
    }

    /// False: there are no more lines.
    pub(super) fn read_line(&mut self, line: &mut [u8]) -> Result<bool, Failed> {
        assert!(
            line.len() >= self.cinfo.output_width as usize * self.cinfo.output_components as usize
        );
        if self.cinfo.output_scanline >= self.cinfo.output_height {
            return Ok(false);
        }
        // SAFETY: `start` was called, and there is room for the line.
        let read = || unsafe { camd_jpeg_read_scanline(self.cinfo, line.as_mut_ptr()) };
        Ok(ok(self.laps.during(Phase::Decode, read))? == 1)
    }

    /// Asks for the smallest scale that libjpeg has (1/8 … 8/8) in which the part `area` of the picture is no smaller than
    /// `size`, and begins with a whole sample of each component. libjpeg
    /// rounds the scaled size up, and the beginning of a sample then counts as a whole one: a side that is no multiple
    /// of eight comes out stretched, by less than a sample.
    pub(super) fn scale(&mut self, size: Size, area: Area) {
        let (max_h, max_v) = self.max_factors();
        let begins = |n: u32| {
            self.components().iter().all(|component| {
                let whole = |at: u16, factor: i32, max: i32| {
                    (u32::from(at) * n * factor as u32).is_multiple_of(8 * max as u32)
                };
                whole(area.x, component.h_samp_factor, max_h)
                    && whole(area.y, component.v_samp_factor, max_v)
            })
        };
        let covers =
            |side: u16, n: u32, least: u16| (u32::from(side) * n).div_ceil(8) >= least.into();
        let eighths = (1..8).find(|&n| {
            covers(area.width, n, size.width) && covers(area.height, n, size.height) && begins(n)
        });
        self.cinfo.scale_num = eighths.unwrap_or(8);
        self.cinfo.scale_denom = 8;
    }

    /// The whole picture at its scale, before it is started; `None` if `reducer` cannot do it.
    pub(super) fn decode_reduced<'r>(
        &self,
        reducer: &'r mut Reducer,
    ) -> Option<[reduced::Plane<'r>; COMPONENTS]> {
        let scale = match (self.cinfo.scale_num, self.cinfo.scale_denom) {
            (1, 8) => Scale::Eighth,
            (2, 8) => Scale::Quarter,
            _ => return None,
        };
        let scan = self.scan()?;
        self.laps
            .during(Phase::Decode, move || reducer.decode(&scan, scale))
    }

    /// `None` if it is none for [`Reducer`].
    fn scan(&self) -> Option<reduced::Scan<'_>> {
        let mut scan = MaybeUninit::uninit();
        // SAFETY: the header was read; all of `scan` is filled in, or 0 comes back.
        let scan = unsafe {
            if camd_jpeg_scan(&raw const *self.cinfo, scan.as_mut_ptr()) == 0 {
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
            reduced::Component {
                factors: (info.h_samp_factor, info.v_samp_factor),
                quantizers: raw.quantizers,
                dc: reduced::Huffman {
                    number: raw.dc_number as usize,
                    counts: &dc.bits,
                    symbols: &dc.huffval,
                },
                ac: reduced::Huffman {
                    number: raw.ac_number as usize,
                    counts: &ac.bits,
                    symbols: &ac.huffval,
                },
            }
        });
        Some(reduced::Scan {
            // At most DIMENSION_MAX, as `size` has found.
            size: Size {
                width: self.cinfo.image_width as u16,
                height: self.cinfo.image_height as u16,
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
            width: self.cinfo.output_width as u16,
            height: self.cinfo.output_height as u16,
        }
    }

    /// The components as they are decoded, known once started; unused ones are empty.
    pub(super) fn planes(&self) -> [Plane; COMPONENTS] {
        let mut planes = [Plane::default(); COMPONENTS];
        for (i, plane) in planes.iter_mut().take(self.components().len()).enumerate() {
            // SAFETY: the component exists.
            unsafe { camd_jpeg_plane(&raw const *self.cinfo, i as c_int, plane) };
        }
        planes
    }

    /// Reads a row of MCUs into `rows`, one component after the other. False: there are no more.
    pub(super) fn read_mcu_row(&mut self, rows: &mut [u8]) -> Result<bool, Failed> {
        if self.cinfo.output_scanline >= self.cinfo.output_height {
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
        let read = || unsafe { camd_jpeg_read_raw_data(self.cinfo, components.as_mut_ptr()) };
        Ok(ok(self.laps.during(Phase::Decode, read))? > 0)
    }

    /// Writes the picture, turned without loss, as a baseline JPEG. False: an edge that would be mirrored ends with a
    /// part of an MCU, and nothing was read or written.
    pub(super) fn turn(self, to: Compressor<'_>, orientation: Orientation) -> Result<bool, Failed> {
        self.transform(to, orientation, None)
    }

    /// [`Decompressor::turn`] of a part of the picture, `area` as viewers see it, which the picture has. Returns the part
    /// that was written: up to an MCU less a sample more to the left and above. `None` is its `false`.
    pub(super) fn cut(
        self,
        to: Compressor<'_>,
        orientation: Orientation,
        area: Area,
    ) -> Result<Option<Area>, Failed> {
        let mut raw = RawArea {
            x: area.x.into(),
            y: area.y.into(),
            width: area.width.into(),
            height: area.height.into(),
        };
        let done = self.transform(to, orientation, Some(&mut raw))?;
        // Within the picture, which was checked.
        Ok(done.then_some(Area {
            x: raw.x as u16,
            y: raw.y as u16,
            width: raw.width as u16,
            height: raw.height as u16,
        }))
    }

    fn transform(
        self,
        to: Compressor<'_>,
        orientation: Orientation,
        area: Option<&mut RawArea>,
    ) -> Result<bool, Failed> {
        let Orientation {
            transpose,
            mirror_x,
            mirror_y,
        } = orientation;
        let area = area.map_or(ptr::null_mut(), ptr::from_mut);
        // SAFETY: the header was read, and the compress object is idle. Both report their errors to the same place. The area
        // outlives the call, or there is none.
        let transform = || unsafe {
            camd_jpeg_turn(
                self.cinfo,
                to.cinfo,
                transpose.into(),
                mirror_x.into(),
                mirror_y.into(),
                area,
            )
        };
        Ok(ok(self.laps.during(Phase::Encode, transform))? == 1)
    }

    pub(super) fn finish(&mut self) -> Result<(), Failed> {
        // SAFETY: started; libjpeg itself checks that all lines were read.
        let finish = || unsafe { camd_jpeg_finish_decompress(self.cinfo) };
        ok(self.laps.during(Phase::Decode, finish))?;
        Ok(())
    }
}
