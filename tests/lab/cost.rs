//! What the codec costs for each way from a camera's picture to a listener's, beside what
//! `camd::source::v4l2::cost` takes it for. For a guest that counts instructions: its time is their number.
//!
//! A line for each: the picture, its size, the size and chroma of what is made, and million instructions: estimated, measured.

use std::process::ExitCode;
use std::time::Duration;

use camd::encode::codec::{Codec, Recipe};
use camd::picture::frame::{Chroma, FrameBuf, Picture, PixelFormat, Plane, RawPicture, Size};
use camd::source::v4l2::cost;
use nix::time::{ClockId, clock_gettime};

/// See `guest.py`.
const NS_PER_INSTRUCTION: f64 = 2.0;
const ROUNDS: u32 = 2;
/// The model's: what comes from a webcam's JPEG differs from it by no more than the rest of the model does.
const QUALITY: u8 = 80;
const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const WHOLE: Size = Size {
    width: WIDTH as u16,
    height: HEIGHT as u16,
};

/// The first is encoded to be the JPEG camera's picture. The others cost what one of these does.
const FORMATS: [PixelFormat; 8] = [
    PixelFormat::Yuyv,
    PixelFormat::Mjpeg,
    PixelFormat::Yu12,
    PixelFormat::Nv12,
    PixelFormat::Uyvy,
    PixelFormat::Rgb24,
    PixelFormat::Bgr24,
    PixelFormat::Grey,
];

/// The whole; smaller by whole numbers; by others.
const SIZES: [(u16, u16); 6] = [
    (640, 480),
    (320, 240),
    (160, 120),
    (480, 360),
    (300, 225),
    (200, 150),
];

/// Bytes with slopes, edges and some noise, which make a picture of usual size in any format.
fn bytes(format: PixelFormat) -> [(usize, Vec<u8>); 3] {
    // For each plane: bytes of a line, lines, and the distance from a sample to the next of its kind.
    let planes = match format {
        PixelFormat::Yuyv | PixelFormat::Uyvy => [(2 * WIDTH, HEIGHT, 2), (0, 0, 1), (0, 0, 1)],
        PixelFormat::Yu12 => [
            (WIDTH, HEIGHT, 1),
            (WIDTH / 2, HEIGHT / 2, 1),
            (WIDTH / 2, HEIGHT / 2, 1),
        ],
        PixelFormat::Nv12 => [(WIDTH, HEIGHT, 1), (WIDTH, HEIGHT / 2, 2), (0, 0, 1)],
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => [(3 * WIDTH, HEIGHT, 3), (0, 0, 1), (0, 0, 1)],
        PixelFormat::Grey | PixelFormat::Mjpeg => [(WIDTH, HEIGHT, 1), (0, 0, 1), (0, 0, 1)],
        _ => unreachable!("not one of `FORMATS`"),
    };
    let mut random = fastrand::Rng::with_seed(1);
    planes.map(|(line, lines, step)| {
        let byte = |i: usize| {
            let (x, y) = ((i % line / step) as f64, (i / line) as f64);
            let edge = if (x + y) % 200.0 < 80.0 { 20.0 } else { -20.0 };
            let wave = (x / 40.0).sin() * (y / 30.0).cos() * 70.0;
            (128.0 + edge + wave) as i32
        };
        let data = (0..line * lines)
            .map(|i| (byte(i) + random.i32(-5..=5)).clamp(0, 255) as u8)
            .collect();
        (line, data)
    })
}

/// Of this process.
fn time() -> Result<Duration, nix::Error> {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from)
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut codec = Codec::new();
    let [mut jpeg, mut out] = [(); 2].map(|()| FrameBuf::new(1 << 20));
    for format in FORMATS {
        let planes = bytes(format);
        let raw = RawPicture {
            format,
            width: WHOLE.width,
            height: WHOLE.height,
            planes: planes.each_ref().map(|(stride, data)| Plane {
                data,
                stride: *stride,
            }),
        };
        if jpeg.is_empty() {
            // As most webcams send it.
            let recipe = Recipe::at(QUALITY).coloured(Chroma::Yuv422);
            codec.make(&Picture::Raw(raw), &recipe, &mut jpeg)?;
        }
        let picture = match format {
            PixelFormat::Mjpeg => Picture::Jpeg(jpeg.as_slice()),
            _ => Picture::Raw(raw),
        };
        let ways = SIZES
            .into_iter()
            .flat_map(|size| Chroma::ALL.map(|chroma| (size, chroma)));
        for ((width, height), chroma) in ways {
            let size = Size { width, height };
            let recipe = Recipe::at(QUALITY).within(size).coloured(chroma);
            // Tables, and pages that are touched for the first time.
            codec.make(&picture, &recipe, &mut out)?;
            let begun = time()?;
            for _ in 0..ROUNDS {
                codec.make(&picture, &recipe, &mut out)?;
            }
            let measured = (time()? - begun).as_nanos() as f64 / f64::from(ROUNDS);
            println!(
                "{} {WIDTH}x{HEIGHT} {width}x{height} {} {:.2} {:.2}",
                format.name(),
                chroma.name(),
                cost::making(format, WHOLE, size, chroma) / 1e6,
                measured / NS_PER_INSTRUCTION / 1e6
            );
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
