//! The pictures of the benchmarks, and what is done with them: by camd, and by a bare loop over the same libjpeg that
//! makes the same codec calls and nothing else. A program of these (`run`) does so in a process of its own, where others
//! count its instructions: valgrind (`codec.rs`), or an instruction-counting machine (`tests/lab/pictures.py`).

use std::time::{Duration, Instant};
use std::{fs, mem, ptr};

use camd::encode::codec::{Codec, Recipe};
use camd::picture::frame::{Chroma, FrameBuf, Picture, PixelFormat, Plane, RawPicture, Size};
use mozjpeg_sys::*;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::getppid;

/// Pictures before counting begins: what is made once is made by then.
const WARM_UP: usize = 2;

pub struct Case {
    pub name: &'static str,
    pub width: usize,
    pub height: usize,
    /// `Mjpeg` for a JPEG in the sampling of `raw`.
    pub mjpeg: bool,
    pub raw: PixelFormat,
    /// Of the JPEG that is made, where `raw` leaves a choice.
    pub chroma: Chroma,
    pub bounds: Size,
    /// Of libjpeg's scale, and of the picture that is made.
    pub eighths: u32,
    pub quality: u8,
    /// ffmpeg's scale of quality, where its JPEGs are closest in size.
    pub qscale: u8,
    /// False where the bare loop does less: libjpeg does not scale raw pictures.
    pub same: bool,
}

impl Case {
    /// The size of the picture that is made.
    pub fn made(&self) -> (usize, usize) {
        let part = |side: usize| side * self.eighths as usize / 8;
        (part(self.width), part(self.height))
    }

    /// Two lines of the camera's chroma become one.
    fn averages(&self) -> bool {
        self.raw == PixelFormat::Yuyv && self.chroma == Chroma::Yuv420
    }

    /// What the programs of others are told of it.
    pub fn kind(&self) -> &'static str {
        match (self.mjpeg, self.averages()) {
            (true, _) => "mjpeg",
            (false, true) => "yuyv-420",
            (false, false) => "yuyv",
        }
    }
}

const ANY: Size = Size {
    width: u16::MAX,
    height: u16::MAX,
};
const SMALL: Size = Size {
    width: 160,
    height: 120,
};

pub const CASES: [Case; 8] = [
    Case {
        name: "1280x720 MJPEG 4:2:2 to 160x120 q30",
        width: 1280,
        height: 720,
        mjpeg: true,
        raw: PixelFormat::Yuyv,
        chroma: Chroma::Yuv422,
        bounds: SMALL,
        eighths: 1,
        quality: 30,
        qscale: 12,
        same: true,
    },
    Case {
        name: "1280x720 MJPEG 4:2:0 to 160x120 q30",
        width: 1280,
        height: 720,
        mjpeg: true,
        raw: PixelFormat::Yu12,
        chroma: Chroma::Yuv420,
        bounds: SMALL,
        eighths: 1,
        quality: 30,
        qscale: 12,
        same: true,
    },
    Case {
        name: "640x480 MJPEG 4:2:2 to 160x120 q30",
        width: 640,
        height: 480,
        mjpeg: true,
        raw: PixelFormat::Yuyv,
        chroma: Chroma::Yuv422,
        bounds: SMALL,
        eighths: 2,
        quality: 30,
        qscale: 12,
        same: true,
    },
    Case {
        name: "640x480 YUYV to 320x240 q50",
        width: 640,
        height: 480,
        mjpeg: false,
        raw: PixelFormat::Yuyv,
        chroma: Chroma::Yuv422,
        bounds: Size {
            width: 320,
            height: 240,
        },
        eighths: 4,
        quality: 50,
        qscale: 8,
        same: false,
    },
    Case {
        name: "640x480 YUYV to q80",
        width: 640,
        height: 480,
        mjpeg: false,
        raw: PixelFormat::Yuyv,
        chroma: Chroma::Yuv422,
        bounds: ANY,
        eighths: 8,
        quality: 80,
        qscale: 4,
        same: true,
    },
    Case {
        name: "640x480 YUYV to 4:2:0 q80",
        width: 640,
        height: 480,
        mjpeg: false,
        raw: PixelFormat::Yuyv,
        chroma: Chroma::Yuv420,
        bounds: ANY,
        eighths: 8,
        quality: 80,
        qscale: 4,
        same: true,
    },
    Case {
        name: "640x480 MJPEG 4:2:2 to q50",
        width: 640,
        height: 480,
        mjpeg: true,
        raw: PixelFormat::Yuyv,
        chroma: Chroma::Yuv422,
        bounds: ANY,
        eighths: 8,
        quality: 50,
        qscale: 9,
        same: true,
    },
    Case {
        name: "640x480 MJPEG 4:2:0 to q50",
        width: 640,
        height: 480,
        mjpeg: true,
        raw: PixelFormat::Yu12,
        chroma: Chroma::Yuv420,
        bounds: ANY,
        eighths: 8,
        quality: 50,
        qscale: 9,
        same: true,
    },
];

/// Planes Y, Cb, Cr of a picture with slopes, an edge and some noise, as cameras make them.
pub fn planes(case: &Case) -> [(usize, Vec<u8>); 3] {
    let mut random = fastrand::Rng::with_seed(1);
    let vertical = if case.raw == PixelFormat::Yu12 { 2 } else { 1 };
    [
        (1, 1, 90.0, 9),
        (2, vertical, 40.0, 3),
        (2, vertical, 30.0, 3),
    ]
    .map(|(across, down, amplitude, noise)| {
        let (width, height) = (case.width / across, case.height / down);
        let sample = |i: usize| {
            let (x, y) = ((i % width * across) as f64, (i / width * down) as f64);
            let edge = if (x + y) % 200.0 < 80.0 { 20.0 } else { -20.0 };
            let wave = (x / 40.0).sin() * (y / 30.0).cos() * amplitude;
            (128.0 + edge + wave) as i32
        };
        let data = (0..width * height)
            .map(|i| (sample(i) + random.i32(-noise..=noise)).clamp(0, 255) as u8)
            .collect();
        (width, data)
    })
}

/// As the camera has it: packed, or planes.
fn camera(case: &Case, planes: &[(usize, Vec<u8>); 3]) -> Vec<(usize, Vec<u8>)> {
    if case.raw == PixelFormat::Yu12 {
        return planes.to_vec();
    }
    let [(_, y), (_, cb), (_, cr)] = planes;
    let pairs = y.chunks(2).zip(cb).zip(cr);
    let packed = pairs.flat_map(|((y, cb), cr)| [y[0], *cb, y[1], *cr]);
    vec![(2 * case.width, packed.collect())]
}

fn raw<'a>(case: &Case, data: &'a [(usize, Vec<u8>)]) -> RawPicture<'a> {
    let mut planes = [Plane::default(); 3];
    for (plane, (stride, data)) in planes.iter_mut().zip(data) {
        *plane = Plane {
            data,
            stride: *stride,
        };
    }
    RawPicture {
        format: case.raw,
        width: case.width as u16,
        height: case.height as u16,
        planes,
    }
}

/// What comes from the camera: a JPEG, or the bytes of the raw picture.
pub fn input(case: &Case) -> Vec<u8> {
    let data = camera(case, &planes(case));
    if !case.mjpeg {
        return data.into_iter().flat_map(|(_, plane)| plane).collect();
    }
    let mut jpeg = FrameBuf::new(4 << 20);
    let recipe = Recipe::at(85).coloured(Chroma::Yuv422);
    Codec::new()
        .make(&Picture::Raw(raw(case, &data)), &recipe, &mut jpeg)
        .expect("a source");
    jpeg.as_slice().to_vec()
}

/// Makes the picture some times, between two calls of `getppid`, by which valgrind is told. Returns the time of CPU.
pub fn counted(frames: usize, mut picture: impl FnMut()) -> Duration {
    let now = || clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock");
    for _ in 0..WARM_UP {
        picture();
    }
    getppid();
    let before = now();
    for _ in 0..frames {
        picture();
    }
    let time = now() - before;
    getppid();
    time.into()
}

fn camd(case: &Case, frames: usize) -> (Duration, Vec<u8>) {
    let data = camera(case, &planes(case));
    let input = input(case);
    let picture = if case.mjpeg {
        Picture::Jpeg(&input)
    } else {
        Picture::Raw(raw(case, &data))
    };
    let mut codec = Codec::new();
    // As the daemon does.
    codec.set_clock(Instant::now);
    let mut out = FrameBuf::new(4 << 20);
    let recipe = Recipe::at(case.quality)
        .within(case.bounds)
        .coloured(case.chroma);
    let time = counted(frames, || {
        codec.make(&picture, &recipe, &mut out).expect("a picture");
    });
    (time, out.as_slice().to_vec())
}

fn bare(case: &Case, frames: usize) -> (Duration, Vec<u8>) {
    let mut planes = planes(case);
    let jpeg = input(case);
    let v = match case.chroma {
        Chroma::Yuv420 => 2,
        Chroma::Yuv422 => 1,
    };
    let (width, height) = case.made();
    let mut out = vec![0u8; 4 << 20];
    // SAFETY: libjpeg as its documentation has it, with sizes that are whole blocks but for the smallest, which has
    // room; its errors end the process.
    unsafe {
        let mut error: jpeg_error_mgr = mem::zeroed();
        let mut to: jpeg_compress_struct = mem::zeroed();
        let mut from: jpeg_decompress_struct = mem::zeroed();
        to.common.err = jpeg_std_error(&mut error);
        from.common.err = to.common.err;
        jpeg_create_compress(&mut to);
        jpeg_create_decompress(&mut from);
        jpeg_c_set_int_param(&mut to, JINT_COMPRESS_PROFILE, JCP_FASTEST as i32);
        let mut length = 0;
        let mut picture = || {
            let (mut start, mut size) = (out.as_mut_ptr(), out.len() as _);
            jpeg_mem_dest(&mut to, &mut start, &mut size);
            to.image_width = width as u32;
            to.image_height = height as u32;
            to.input_components = 3;
            to.in_color_space = J_COLOR_SPACE::JCS_YCbCr;
            jpeg_set_defaults(&mut to);
            jpeg_set_quality(&mut to, case.quality.into(), 1);
            to.raw_data_in = 1;
            (*to.comp_info).h_samp_factor = 2;
            (*to.comp_info).v_samp_factor = v;
            jpeg_start_compress(&mut to, 1);
            if case.mjpeg {
                jpeg_mem_src(&mut from, jpeg.as_ptr(), jpeg.len() as _);
                jpeg_read_header(&mut from, 1);
                from.scale_num = case.eighths;
                from.scale_denom = 8;
                from.raw_data_out = 1;
                from.out_color_space = from.jpeg_color_space;
                jpeg_start_decompress(&mut from);
            }
            // At 1/8, libjpeg decodes the chroma of 4:2:0 twice as large as it is written. Where lines of it are to be
            // averaged, this leaves out every second one.
            let twice = case.averages() || case.mjpeg && case.eighths == 1 && v == 2;
            let doubled = usize::from(twice) + 1;
            let rows = |planes: &mut [(usize, Vec<u8>); 3], first: usize, each: usize, step| {
                let [(y, luma), (c, cb), (_, cr)] = planes;
                let row = |plane: &mut Vec<u8>, stride: usize, i: usize, lines: usize| {
                    plane[i.min(lines - 1) * stride..].as_mut_ptr()
                };
                let chroma_lines = height / v as usize * doubled;
                let v = v as usize;
                let mut pointers = [[ptr::null_mut(); 16]; 3];
                let [lumas, cbs, crs] = &mut pointers;
                for (i, pointer) in lumas.iter_mut().take(v * each).enumerate() {
                    *pointer = row(luma, *y, first * v + i, height);
                }
                let chromas = cbs.iter_mut().zip(crs).take(each * doubled / step);
                for (i, (blue, red)) in chromas.enumerate() {
                    let line = (first * doubled / step + i) * step;
                    *blue = row(cb, *c, line, chroma_lines);
                    *red = row(cr, *c, line, chroma_lines);
                }
                pointers
            };
            let lines = 8 * v as usize;
            let each = case.eighths as usize;
            for mcu in 0..height.div_ceil(lines) {
                if case.mjpeg {
                    for part in (0..8).step_by(each) {
                        let first = 8 * mcu + part;
                        if from.output_scanline < from.output_height {
                            let mut pointers = rows(&mut planes, first, each, 1);
                            let mut image = pointers.each_mut().map(|rows| rows.as_mut_ptr());
                            jpeg_read_raw_data(
                                &mut from,
                                image.as_mut_ptr(),
                                (each * v as usize) as u32,
                            );
                        }
                    }
                }
                let pointers = rows(&mut planes, 8 * mcu, 8, doubled);
                let image = pointers
                    .each_ref()
                    .map(|rows| rows.as_ptr().cast::<*const u8>());
                jpeg_write_raw_data(&mut to, image.as_ptr().cast(), lines as u32);
            }
            if case.mjpeg {
                jpeg_finish_decompress(&mut from);
            }
            jpeg_finish_compress(&mut to);
            length = size as usize;
        };
        let time = counted(frames, &mut picture);
        jpeg_destroy_compress(&mut to);
        jpeg_destroy_decompress(&mut from);
        out.truncate(length);
        (time, out)
    }
}

/// `cases`: prints what others need to know of each. `input CASE FILE`: writes what comes from the camera.
/// `camd|bare CASE FRAMES FILE`: makes the picture so many times, writes the last, and prints the nanoseconds of CPU.
pub fn run(arguments: &[&str]) {
    let case = |number: &str| &CASES[number.parse::<usize>().expect("the number of a case")];
    match arguments {
        ["cases"] => {
            for case in &CASES {
                let (width, height) = case.made();
                println!(
                    "{} {} {} {width} {height} {} {} {} {} {}",
                    case.kind(),
                    case.width,
                    case.height,
                    case.quality,
                    case.qscale,
                    case.eighths,
                    u8::from(case.same),
                    case.name
                );
            }
        }
        ["input", number, file] => fs::write(file, input(case(number))).expect("a file"),
        [who @ ("camd" | "bare"), number, frames, file] => {
            let make = if *who == "bare" { bare } else { camd };
            let (time, jpeg) = make(case(number), frames.parse().expect("a number of pictures"));
            fs::write(file, jpeg).expect("a file");
            println!("{}", time.as_nanos());
        }
        _ => panic!("{arguments:?}"),
    }
}
