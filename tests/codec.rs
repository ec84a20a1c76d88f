//! The codec against another make: what camd encodes, ffmpeg decodes, and the other way round.

use std::cell::Cell;
use std::io::Write;
use std::mem;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use camd::encode::codec::{Codec, CodecError, PixelRecipe, Recipe, Rows};
use camd::measure::times::Phase;
use camd::picture::frame::{
    Bounds, Chroma, FrameBuf, Orientation, Picture, PixelFormat, Plane, RawPicture, Size,
};
use camd::picture::jpeg;
use camd::picture::stamp::Stamp;
use mozjpeg_sys::*;

#[path = "common/libjpeg.rs"]
mod libjpeg;

/// Runs ffmpeg with `input` on its stdin and returns its stdout.
fn ffmpeg(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs the program ffmpeg (Debian: apt-get install ffmpeg)");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Beside reading: both pipes are smaller than the pictures. An early exit of ffmpeg shows in its status.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "ffmpeg {arguments:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn decode(jpeg: &[u8], pix_fmt: &str) -> Vec<u8> {
    ffmpeg(
        &[
            "-f", "mjpeg", "-i", "-", "-f", "rawvideo", "-pix_fmt", pix_fmt, "-",
        ],
        jpeg,
    )
}

/// Peak signal-to-noise ratio in dB.
fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares: f64 = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum();
    10.0 * (255.0f64.powi(2) * a.len() as f64 / squares.max(1e-9)).log10()
}

/// One plane of samples, as wide as its lines.
struct Samples {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Samples {
    fn new(width: usize, height: usize, at: impl Fn(usize, usize) -> u8) -> Self {
        let data = (0..width * height)
            .map(|i| at(i % width, i / width))
            .collect();
        Samples {
            width,
            height,
            data,
        }
    }

    /// The lines with `extra` bytes behind each, of a value that would show.
    fn padded(&self, extra: usize) -> (Vec<u8>, usize) {
        let stride = self.width + extra;
        let mut data = vec![0xEE; stride * (self.height - 1) + self.width];
        for (line, source) in self.data.chunks_exact(self.width).enumerate() {
            data[line * stride..][..self.width].copy_from_slice(source);
        }
        (data, stride)
    }

    /// As `orientation` has it.
    fn turned(&self, orientation: Orientation) -> Samples {
        let flip = |mirror: bool, at: usize, side: usize| if mirror { side - 1 - at } else { at };
        let Orientation {
            transpose,
            mirror_x,
            mirror_y,
        } = orientation;
        let (width, height) = if transpose {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        };
        Samples::new(width, height, |x, y| {
            let (x, y) = (flip(mirror_x, x, width), flip(mirror_y, y, height));
            let (x, y) = if transpose { (y, x) } else { (x, y) };
            self.data[y * self.width + x]
        })
    }

    fn column(&self, x: usize) -> Vec<u8> {
        self.data
            .iter()
            .skip(x)
            .step_by(self.width)
            .copied()
            .collect()
    }

    fn line(&self, y: usize) -> Vec<u8> {
        self.data[y * self.width..][..self.width].to_vec()
    }
}

/// A picture with slopes and waves, brightest and darkest at the right and lower edges, where padding would show.
fn luma(x: usize, y: usize) -> u8 {
    (128.0 + 70.0 * (x as f64 / 9.0).sin() + 50.0 * (y as f64 / 7.0).cos()) as u8
}

fn blue(x: usize, y: usize) -> u8 {
    (128.0 + 90.0 * ((x + y) as f64 / 23.0).sin()) as u8
}

fn red(x: usize, y: usize) -> u8 {
    (128.0 + 90.0 * ((2 * y + 5) as f64 / 31.0 - x as f64 / 40.0).cos()) as u8
}

/// The planes of a test picture as ffmpeg gives them back, and the same as camd takes it.
fn picture(
    format: PixelFormat,
    width: usize,
    height: usize,
    extra: usize,
) -> (Vec<Samples>, Vec<(Vec<u8>, usize)>) {
    zoomed_picture(format, width, height, extra, 1)
}

/// The same, seen `zoom` times as large.
fn zoomed_picture(
    format: PixelFormat,
    width: usize,
    height: usize,
    extra: usize,
    zoom: usize,
) -> (Vec<Samples>, Vec<(Vec<u8>, usize)>) {
    let luma = |x, y| luma(x / zoom, y / zoom);
    let blue = |x, y| blue(x / zoom, y / zoom);
    let red = |x, y| red(x / zoom, y / zoom);
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let y = Samples::new(width, height, luma);
    match format {
        PixelFormat::Yuyv | PixelFormat::Uyvy => {
            let cb = Samples::new(half_width, height, |x, y| blue(2 * x, y));
            let cr = Samples::new(half_width, height, |x, y| red(2 * x, y));
            let packed = Samples::new(4 * half_width, height, |x, line| {
                let pair = x / 4;
                // The second half of an odd pair must not be seen.
                let luma = |x| if x < width { luma(x, line) } else { 0 };
                let order = [
                    luma(2 * pair),
                    cb.data[line * half_width + pair],
                    luma(2 * pair + 1),
                    cr.data[line * half_width + pair],
                ];
                match format {
                    PixelFormat::Yuyv => order[x % 4],
                    _ => order[(x % 4) ^ 1],
                }
            });
            let planes = vec![packed.padded(extra)];
            (vec![y, cb, cr], planes)
        }
        PixelFormat::Nv12 | PixelFormat::Yu12 => {
            let cb = Samples::new(half_width, half_height, |x, y| blue(2 * x, 2 * y));
            let cr = Samples::new(half_width, half_height, |x, y| red(2 * x, 2 * y));
            let planes = if format == PixelFormat::Yu12 {
                vec![y.padded(extra), cb.padded(extra), cr.padded(extra)]
            } else {
                let both = Samples::new(2 * half_width, half_height, |x, line| {
                    [&cb, &cr][x % 2].data[line * half_width + x / 2]
                });
                vec![y.padded(extra), both.padded(extra)]
            };
            (vec![y, cb, cr], planes)
        }
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => {
            let rgb = |x: usize, y, channel| match channel {
                0 => luma(x, y),
                1 => 255 - luma(x, y) / 2,
                _ => blue(x, y),
            };
            let shown = Samples::new(3 * width, height, |x, y| rgb(x / 3, y, x % 3));
            let planes = match format {
                PixelFormat::Rgb24 => vec![shown.padded(extra)],
                _ => {
                    vec![
                        Samples::new(3 * width, height, |x, y| rgb(x / 3, y, 2 - x % 3))
                            .padded(extra),
                    ]
                }
            };
            (vec![shown], planes)
        }
        PixelFormat::Grey => {
            let planes = vec![y.padded(extra)];
            (vec![y], planes)
        }
        _ => unreachable!("no format of `raw_formats`"),
    }
}

fn raw<'a>(
    format: PixelFormat,
    width: usize,
    height: usize,
    planes: &'a [(Vec<u8>, usize)],
) -> RawPicture<'a> {
    let mut out = [Plane::default(); 3];
    for (out, (data, stride)) in out.iter_mut().zip(planes) {
        *out = Plane {
            data,
            stride: *stride,
        };
    }
    RawPicture {
        format,
        width: width as u16,
        height: height as u16,
        planes: out,
    }
}

/// The planes of 4:2:2 in 4:2:0: of two lines of colours the mean, of the last of an odd number itself.
fn averaged(planes: &[Samples]) -> Vec<Samples> {
    let [y, colours @ ..] = planes else {
        unreachable!()
    };
    let halved = colours.iter().map(|plane| {
        Samples::new(plane.width, plane.height.div_ceil(2), |x, y| {
            let at = |y: usize| u16::from(plane.data[y.min(plane.height - 1) * plane.width + x]);
            (at(2 * y) + at(2 * y + 1)).div_ceil(2) as u8
        })
    });
    let y = Samples::new(y.width, y.height, |x, line| y.data[line * y.width + x]);
    std::iter::once(y).chain(halved).collect()
}

/// What there is to choose from for pictures in this format: the colours of the others are as coarse as they get.
fn choices(format: PixelFormat) -> &'static [Chroma] {
    match format {
        PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Rgb24 | PixelFormat::Bgr24 => {
            &Chroma::ALL
        }
        _ => &[Chroma::Yuv422],
    }
}

/// ffmpeg's name for JPEGs of pictures in this format.
fn jpeg_pix_fmt(format: PixelFormat, chroma: Chroma) -> &'static str {
    match (format, chroma) {
        (PixelFormat::Grey, _) => "gray",
        (PixelFormat::Nv12 | PixelFormat::Yu12, _) | (_, Chroma::Yuv420) => "yuvj420p",
        (_, Chroma::Yuv422) => "yuvj422p",
    }
}

/// The sampling factors in the frame header, component by component: the horizontal one in the upper half of a byte.
fn factors(jpeg: &[u8]) -> Vec<u8> {
    let is_sof = |marker: &[u8]| matches!(marker, [0xFF, 0xC0 | 0xC2]);
    let sof = jpeg.windows(2).position(is_sof).expect("a frame header");
    let sof = &jpeg[sof..];
    let components = sof[10..][..3 * usize::from(sof[9])].chunks(3);
    components.map(|component| component[1]).collect()
}

/// ffmpeg's name for what the JPEG of a picture in this format decodes to, unconverted, where its colours are as fine as
/// it gets.
fn pix_fmt(format: PixelFormat) -> &'static str {
    match format {
        PixelFormat::Yuyv | PixelFormat::Uyvy => "yuvj422p",
        PixelFormat::Nv12 | PixelFormat::Yu12 => "yuvj420p",
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => "rgb24",
        PixelFormat::Grey => "gray",
        _ => unreachable!("no format of `raw_formats`"),
    }
}

/// Those that differ in more than the order of their samples; `other_orders_of_the_same_samples_are_the_same_picture` has
/// the others.
fn raw_formats() -> impl Iterator<Item = PixelFormat> {
    PixelFormat::ALL.into_iter().filter(|&format| {
        !matches!(format, PixelFormat::Mjpeg | PixelFormat::Nv16) && !format.exchanged().1
    })
}

const SIZES: [(usize, usize); 8] = [
    (1, 1),
    (3, 5),
    (16, 16),
    (33, 18),
    (18, 33),
    (47, 31),
    (641, 479),
    (640, 480),
];

#[test]
fn every_format_and_size_comes_back_from_ffmpeg() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    let ways = |format| {
        let strides = [0, 24].into_iter();
        strides.flat_map(move |extra| choices(format).iter().map(move |&chroma| (extra, chroma)))
    };
    for format in raw_formats() {
        for (width, height) in SIZES {
            for (extra, chroma) in ways(format) {
                let what = format!("{format:?} {width}x{height}, stride + {extra}, {chroma:?}");
                let (shown, planes) = picture(format, width, height, extra);
                let picture = Picture::Raw(raw(format, width, height, &planes));
                let recipe = Recipe::at(90).coloured(chroma);
                codec.make(&picture, &recipe, &mut out).unwrap();
                let (shown, pix_fmt) = match (format, chroma) {
                    (PixelFormat::Yuyv | PixelFormat::Uyvy, Chroma::Yuv420) => {
                        (averaged(&shown), "yuvj420p")
                    }
                    _ => (shown, pix_fmt(format)),
                };
                let found = jpeg::inspect(out.as_slice()).expect(&what);
                assert_eq!(
                    (found.width as usize, found.height as usize),
                    (width, height)
                );
                assert_eq!((found.end, found.tables), (out.len(), None), "{what}");
                let decoded = decode(out.as_slice(), pix_fmt);
                let mut rest = &decoded[..];
                for (i, plane) in shown.iter().enumerate() {
                    let (these, others) = rest.split_at(plane.data.len());
                    rest = others;
                    let got = Samples {
                        width: plane.width,
                        height: plane.height,
                        data: these.to_vec(),
                    };
                    for (part, a, b) in [
                        ("all", plane.data.clone(), got.data.clone()),
                        (
                            "right",
                            plane.column(plane.width - 1),
                            got.column(plane.width - 1),
                        ),
                        (
                            "lower",
                            plane.line(plane.height - 1),
                            got.line(plane.height - 1),
                        ),
                    ] {
                        let db = psnr(&a, &b);
                        assert!(db >= 30.0, "{what}: plane {i}, {part}: {db:.1} dB");
                    }
                }
                assert!(rest.is_empty(), "{what}");
            }
        }
    }
}

/// Planes with their strides.
type Padded = Vec<(Vec<u8>, usize)>;

/// The planes of a picture whose samples lie in another order than in the second format, and the planes of that.
fn in_another_order(
    format: PixelFormat,
    (width, height): (usize, usize),
) -> (Padded, PixelFormat, Padded) {
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let same = match format {
        PixelFormat::Nv16 => PixelFormat::Yuyv,
        other => other.exchanged().0,
    };
    let (components, planes) = picture(same, width, height, 6);
    let [y, cb, cr] = &components[..] else {
        unreachable!("none of them is grey or RGB")
    };
    let pairs = |first: &Samples, second: &Samples| {
        Samples::new(2 * half_width, first.height, |x, line| {
            [first, second][x % 2].data[line * half_width + x / 2]
        })
    };
    let ours = match format {
        PixelFormat::Yv12 => vec![y.padded(6), cr.padded(6), cb.padded(6)],
        PixelFormat::Nv21 => {
            assert_eq!(cb.height, half_height);
            vec![y.padded(6), pairs(cr, cb).padded(6)]
        }
        PixelFormat::Nv16 => {
            assert_eq!(cb.height, height);
            vec![y.padded(6), pairs(cb, cr).padded(6)]
        }
        _ => {
            let (data, stride) = &planes[0];
            // Cb is the second of four, or the first; Cr is two behind it.
            let cb = if same == PixelFormat::Yuyv { 1 } else { 0 };
            let place = |x: usize| if x % 2 == cb % 2 { x ^ 2 } else { x };
            let packed = Samples::new(4 * half_width, height, |x, line| {
                data[line * stride + place(x)]
            });
            vec![packed.padded(2)]
        }
    };
    (ours, same, planes)
}

#[test]
fn other_orders_of_the_same_samples_are_the_same_picture() {
    let mut codec = Codec::new();
    let [mut out, mut expected] = [(); 2].map(|()| FrameBuf::new(1 << 20));
    let formats = [
        PixelFormat::Yvyu,
        PixelFormat::Vyuy,
        PixelFormat::Nv21,
        PixelFormat::Yv12,
        PixelFormat::Nv16,
    ];
    // With those above, these are all.
    assert_eq!(
        raw_formats().count() + formats.len() + 1,
        PixelFormat::ALL.len()
    );
    for format in formats {
        for (width, height) in SIZES {
            let (ours, same, theirs) = in_another_order(format, (width, height));
            let here = Picture::Raw(raw(format, width, height, &ours));
            let there = Picture::Raw(raw(same, width, height, &theirs));
            let half = size((width / 2).max(1) as u16, (height / 2).max(1) as u16);
            for (chroma, orientation) in Chroma::ALL
                .into_iter()
                .flat_map(|chroma| orientations().map(move |orientation| (chroma, orientation)))
            {
                let whole = Recipe::at(90).coloured(chroma).turned(orientation);
                for recipe in [whole, whole.within(half)] {
                    codec.make(&here, &recipe, &mut out).unwrap();
                    codec.make(&there, &recipe, &mut expected).unwrap();
                    let what = format!("{format:?} {width}x{height} {recipe:?}");
                    assert!(out.as_slice() == expected.as_slice(), "{what}");
                }
            }
            for asked in [PixelFormat::Rgb24, PixelFormat::Bgr24, PixelFormat::Grey] {
                for orientation in orientations() {
                    let recipe = PixelRecipe {
                        crop: None,
                        format: asked,
                        bounds: Bounds::NONE,
                        orientation,
                        stamp: None,
                    };
                    let ours = pixels(&mut codec, &here, &recipe).rows;
                    let theirs = pixels(&mut codec, &there, &recipe).rows;
                    assert!(ours == theirs, "{format:?} {width}x{height} {recipe:?}");
                }
            }
        }
        // A picture that is not all there is an error here, too.
        let (mut ours, _, _) = in_another_order(format, (34, 18));
        ours.last_mut().unwrap().0.pop();
        let last = ours.last().unwrap();
        let cut = last.0.len() - last.1 / 2;
        ours.last_mut().unwrap().0.truncate(cut);
        let short = Picture::Raw(raw(format, 34, 18, &ours));
        let error = codec.make(&short, &Recipe::at(90), &mut out).unwrap_err();
        assert!(
            matches!(error, CodecError::Short { .. }),
            "{format:?}: {error}"
        );
    }
}

#[test]
fn what_a_picture_lacks_to_whole_blocks_is_its_edge_again() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for format in [
        PixelFormat::Yuyv,
        PixelFormat::Uyvy,
        PixelFormat::Nv12,
        PixelFormat::Yu12,
    ] {
        // 48x48 has no more blocks than 41x43, in any component.
        let (shown, planes) = picture(format, 41, 43, 5);
        codec
            .encode(&raw(format, 41, 43, &planes), 90, &mut out)
            .unwrap();
        let mut edged = out.as_slice().to_vec();

        let clamped = |plane: &Samples, x: usize, y: usize| {
            plane.data[y.min(plane.height - 1) * plane.width + x.min(plane.width - 1)]
        };
        let whole: Vec<_> = match format {
            PixelFormat::Yuyv | PixelFormat::Uyvy => {
                let packed = Samples::new(96, 48, |x, y| match x % 4 {
                    0 | 2 => clamped(&shown[0], x / 2, y),
                    1 => clamped(&shown[1], x / 4, y),
                    _ => clamped(&shown[2], x / 4, y),
                });
                vec![packed.padded(0)]
            }
            _ => [48, 24, 24]
                .into_iter()
                .zip(&shown)
                .map(|(side, plane)| {
                    Samples::new(side, side, |x, y| clamped(plane, x, y)).padded(0)
                })
                .collect(),
        };
        let same = match format {
            PixelFormat::Uyvy => PixelFormat::Yuyv,
            PixelFormat::Nv12 => PixelFormat::Yu12,
            other => other,
        };
        codec
            .encode(&raw(same, 48, 48, &whole), 90, &mut out)
            .unwrap();
        // But for the size in SOF0 it is the same JPEG.
        let size = edged.windows(2).position(|pair| pair == [0xFF, 0xC0]);
        edged[size.unwrap() + 5..][..4].copy_from_slice(&[0, 48, 0, 48]);
        assert!(out.as_slice() == edged, "{format:?}");
    }
}

#[test]
fn a_lower_quality_is_a_smaller_jpeg() {
    let mut codec = Codec::new();
    let (_, planes) = picture(PixelFormat::Yuyv, 640, 480, 0);
    let raw = raw(PixelFormat::Yuyv, 640, 480, &planes);
    let mut sizes = Vec::new();
    let mut out = FrameBuf::new(1 << 20);
    for quality in [1, 10, 50, 80, 100] {
        codec.encode(&raw, quality, &mut out).unwrap();
        sizes.push(out.len());
    }
    assert!(sizes.is_sorted_by(|a, b| a < b), "{sizes:?}");
    let largest = out.as_slice().to_vec();
    codec.encode(&raw, 255, &mut out).unwrap();
    assert_eq!(out.as_slice(), largest);
    codec.encode(&raw, 0, &mut out).unwrap();
    assert_eq!(out.len(), sizes[0]);
}

#[test]
fn a_picture_that_is_not_there_is_an_error() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for format in raw_formats() {
        let (_, planes) = picture(format, 33, 17, 3);
        codec
            .encode(&raw(format, 33, 17, &planes), 80, &mut out)
            .unwrap();
        for plane in 0..planes.len() {
            let mut short = raw(format, 33, 17, &planes);
            let data = short.planes[plane].data;
            short.planes[plane].data = &data[..data.len() - 1];
            let expected = CodecError::Short {
                plane,
                needed: data.len(),
                got: data.len() - 1,
            };
            assert_eq!(codec.encode(&short, 80, &mut out), Err(expected));
            assert!(out.is_empty());

            let mut overlapping = raw(format, 33, 17, &planes);
            overlapping.planes[plane].stride -= 4;
            assert!(
                matches!(
                    codec.encode(&overlapping, 80, &mut out),
                    Err(CodecError::Stride { plane: p, .. }) if p == plane
                ),
                "{format:?}"
            );

            let mut huge = raw(format, 33, 17, &planes);
            huge.planes[plane].stride = usize::MAX;
            assert!(matches!(
                codec.encode(&huge, 80, &mut out),
                Err(CodecError::Short { .. })
            ));
        }
        for (width, height) in [(0, 17), (33, 0), (8193, 17), (33, 8193)] {
            let error = codec.encode(&raw(format, width, height, &planes), 80, &mut out);
            assert_eq!(
                error,
                Err(CodecError::Size {
                    width: width as u32,
                    height: height as u32
                })
            );
        }
    }
    let (_, planes) = picture(PixelFormat::Grey, 16, 16, 0);
    let mjpeg = raw(PixelFormat::Mjpeg, 16, 16, &planes);
    assert!(matches!(
        codec.encode(&mjpeg, 80, &mut out),
        Err(CodecError::Unsupported(_))
    ));
}

#[test]
fn the_largest_pictures_are_encoded() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for format in raw_formats() {
        for (width, height) in [(8192, 16), (8191, 17), (16, 8192)] {
            let (_, planes) = picture(format, width, height, 0);
            codec
                .encode(&raw(format, width, height, &planes), 50, &mut out)
                .unwrap();
            let jpeg = out.as_slice().to_vec();
            codec.transcode(&jpeg, 40, &mut out).unwrap();
            let found = jpeg::inspect(out.as_slice()).unwrap();
            assert_eq!(
                (found.width as usize, found.height as usize),
                (width, height)
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_too_big_and_the_next_picture_is_none_the_worse() {
    let mut codec = Codec::new();
    let (_, planes) = picture(PixelFormat::Nv12, 640, 480, 0);
    let raw = raw(PixelFormat::Nv12, 640, 480, &planes);
    let mut out = FrameBuf::new(1 << 20);
    codec.encode(&raw, 80, &mut out).unwrap();
    let expected = out.as_slice().to_vec();
    for capacity in [0, 1, 2, 600, 4000, expected.len() - 1] {
        let mut small = FrameBuf::new(capacity);
        let error = Err(CodecError::TooBig { capacity });
        assert_eq!(codec.encode(&raw, 80, &mut small), error);
        assert!(small.is_empty());
        assert_eq!(codec.transcode(&expected, 80, &mut small), error);
        assert!(small.is_empty());
        codec.encode(&raw, 80, &mut out).unwrap();
        assert_eq!(out.as_slice(), expected);
    }
    let mut just = FrameBuf::new(expected.len() + 1);
    codec.encode(&raw, 80, &mut just).unwrap();
    assert_eq!(just.as_slice(), expected);
}

#[test]
fn the_widest_jpegs_are_transcoded_in_every_sampling() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for (what, source) in OTHERS {
        // The data ends early, and libjpeg makes up the rest: it is the memory for it that counts here.
        let mut wide = source.to_vec();
        let sof = source
            .windows(2)
            .position(|marker| matches!(marker, [0xFF, 0xC0 | 0xC2]));
        wide[sof.unwrap() + 5..][..4].copy_from_slice(&[0, 64, 0x20, 0]);
        codec.transcode(&wide, 80, &mut out).expect(what);
        let found = jpeg::inspect(out.as_slice()).unwrap();
        assert_eq!((found.width, found.height), (8192, 64), "{what}");
    }
}

/// JPEGs by libjpeg-turbo's cjpeg, 75x53, in the samplings that cameras and programs use.
const OTHERS: [(&str, &[u8]); 9] = [
    ("410", include_bytes!("data/410.jpg")),
    ("411", include_bytes!("data/411.jpg")),
    ("422 by 2x2", include_bytes!("data/422-by-2x2.jpg")),
    ("440", include_bytes!("data/440.jpg")),
    // Three scans, as these MCUs have more blocks than may be interleaved.
    ("444 by 2x2", include_bytes!("data/444-by-2x2.jpg")),
    (
        "444 progressive",
        include_bytes!("data/444-progressive.jpg"),
    ),
    ("grey by 2x2", include_bytes!("data/grey-by-2x2.jpg")),
    ("420 progressive", include_bytes!("data/progressive.jpg")),
    ("rgb", include_bytes!("data/rgb.jpg")),
];

fn assert_transcodes(codec: &mut Codec, what: &str, source: &[u8], pix_fmt: &str) {
    let mut out = FrameBuf::new(1 << 20);
    codec.transcode(source, 90, &mut out).expect(what);
    assert_eq!(
        jpeg::inspect(out.as_slice()).expect(what).end,
        out.len(),
        "{what}"
    );
    let db = psnr(&decode(source, pix_fmt), &decode(out.as_slice(), pix_fmt));
    assert!(db >= 30.0, "{what}: {db:.1} dB");
    let high = out.len();
    codec.transcode(source, 20, &mut out).expect(what);
    assert!(
        out.len() < high,
        "{what}: {} bytes, {high} at 90",
        out.len()
    );
}

#[test]
fn jpegs_of_other_makes_are_transcoded() {
    let mut codec = Codec::new();
    for (what, source) in OTHERS {
        assert_transcodes(&mut codec, what, source, "rgb24");
    }
    // ffmpeg as the source, in the sampling's own terms: the comparison sees no conversion at all.
    for pix_fmt in ["yuvj420p", "yuvj422p", "yuvj444p"] {
        for size in ["16x16", "640x480", "75x53"] {
            let filter = format!(
                "testsrc2=size=640x480,gblur=sigma=1,format={pix_fmt},scale={}",
                size.replace('x', ":")
            );
            let source = ffmpeg(
                &[
                    "-f",
                    "lavfi",
                    "-i",
                    &filter,
                    "-frames:v",
                    "1",
                    "-q:v",
                    "2",
                    "-f",
                    "mjpeg",
                    "-",
                ],
                &[],
            );
            assert_transcodes(&mut codec, &filter, &source, pix_fmt);
        }
    }
}

#[test]
fn a_jpeg_without_huffman_tables_is_the_same_picture_once_they_are_put_in() {
    // ffmpeg's default: the standard tables.
    let whole = ffmpeg(
        &[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=160x120",
            "-frames:v",
            "1",
            "-huffman",
            "default",
            "-f",
            "mjpeg",
            "-",
        ],
        &[],
    );
    let mut bare = Vec::new();
    let mut at = 2;
    bare.extend(&whole[..2]);
    while whole[at + 1] != 0xDA {
        let end = at + 2 + usize::from(u16::from_be_bytes([whole[at + 2], whole[at + 3]]));
        if whole[at + 1] != 0xC4 {
            bare.extend(&whole[at..end]);
        }
        at = end;
    }
    bare.extend(&whole[at..]);
    assert!(bare.len() < whole.len());
    let tables = jpeg::inspect(&bare).unwrap().tables.unwrap();
    let mut out = FrameBuf::new(1 << 20);
    jpeg::insert_tables(&bare, tables, &mut out).unwrap();
    assert_eq!(
        decode(out.as_slice(), "yuvj420p"),
        decode(&whole, "yuvj420p")
    );
}

#[test]
fn a_jpeg_for_printing_is_an_error() {
    let mut cmyk = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
    cmyk.extend([1; 64]);
    cmyk.extend([0xFF, 0xC0, 0, 20, 8, 0, 16, 0, 16, 4]);
    cmyk.extend((1..=4).flat_map(|id| [id, 0x11, 0]));
    cmyk.extend([0xFF, 0xDA, 0, 14, 4]);
    cmyk.extend((1..=4).flat_map(|id| [id, 0]));
    cmyk.extend([0, 63, 0, 0xFF, 0xD9]);
    let error = Codec::new().transcode(&cmyk, 80, &mut FrameBuf::new(9999));
    assert!(
        matches!(error, Err(CodecError::Unsupported(_))),
        "{error:?}"
    );
}

#[test]
fn a_jpeg_made_to_cost_much_is_an_error() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    let source = include_bytes!("data/progressive.jpg");
    let after = |marker: u8, from: usize| {
        let at = source[from..]
            .windows(2)
            .position(|pair| pair == [0xFF, marker]);
        from + at.unwrap()
    };

    // Its last scan again and again: no larger than a picture, but each is a pass over all of it.
    let mut last = after(0xDA, 0);
    while let Some(next) = source[last + 2..]
        .windows(2)
        .position(|pair| pair == [0xFF, 0xDA])
    {
        last += 2 + next;
    }
    let scan = &source[last..source.len() - 2];
    let many = |n| {
        let mut bytes = source[..last].to_vec();
        bytes.extend(scan.repeat(n));
        bytes.extend([0xFF, 0xD9]);
        bytes
    };
    codec.transcode(&many(10), 80, &mut out).unwrap();
    assert!(matches!(
        codec.transcode(&many(100), 80, &mut out),
        Err(CodecError::Unsupported(_))
    ));

    // A size that would take more memory than a small board has, and one that is not served at all.
    let size = after(0xC2, 0) + 5;
    for (side, large) in [(8192u16, false), (8193, true)] {
        let mut bytes = source.to_vec();
        bytes[size..][..2].copy_from_slice(&side.to_be_bytes());
        bytes[size + 2..][..2].copy_from_slice(&side.to_be_bytes());
        let error = codec.transcode(&bytes, 80, &mut out).unwrap_err();
        match error {
            CodecError::Size { width, height } => {
                assert!(large);
                assert_eq!((width, height), (side.into(), side.into()));
            }
            CodecError::Unsupported(_) => assert!(!large),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_jpeg_that_breaks_off_is_an_error() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for (what, source) in OTHERS {
        for n in 0..source.len() {
            let quarter = Orientation::quarters(1);
            let recipe = Recipe::at(80).turned(quarter);
            for error in [
                codec.transcode(&source[..n], 80, &mut out),
                codec.make(&Picture::Jpeg(&source[..n]), &recipe, &mut out),
                // Partial MCUs are no matter to a transposition.
                codec.turn(&source[..n], TRANSPOSED, &mut out),
            ]
            .map(Result::unwrap_err)
            {
                assert!(
                    error == CodecError::Truncated || (n == 0 && error != CodecError::Truncated),
                    "{what}, {n} bytes: {error}"
                );
                assert!(out.is_empty());
            }
        }
    }
}

#[test]
fn damaged_jpegs_never_harm() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut below = |n: usize| random.usize(..n);
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 16);
    let (_, planes) = picture(PixelFormat::Yuyv, 64, 48, 0);
    codec
        .encode(&raw(PixelFormat::Yuyv, 64, 48, &planes), 80, &mut out)
        .unwrap();
    let own = out.as_slice().to_vec();
    codec.transcode(&own, 50, &mut out).unwrap();
    let expected = out.as_slice().to_vec();
    let mut sources: Vec<&[u8]> = OTHERS.iter().map(|&(_, source)| source).collect();
    sources.push(&own);
    let (mut good, mut failed) = ([0; 2], [0; 2]);
    for round in 0..20_000 {
        let mut damaged = sources[round % sources.len()].to_vec();
        for _ in 0..1 + below(6) {
            // The header is where most can go wrong.
            let end = if below(2) == 0 { 700 } else { damaged.len() };
            let at = below(end.min(damaged.len()));
            damaged[at] = match below(3) {
                0 => 0xFF,
                1 => 0,
                _ => below(256) as u8,
            };
        }
        if below(4) == 0 {
            damaged.truncate(below(damaged.len()));
        }
        // Sizes beyond a few hundred pixels only cost time here.
        if jpeg::inspect(&damaged)
            .is_ok_and(|found| usize::from(found.width) * usize::from(found.height) > 1 << 16)
        {
            continue;
        }
        let bounds = match round % 3 {
            0 => size(u16::MAX, u16::MAX),
            _ => size(1 + below(80) as u16, 1 + below(80) as u16),
        };
        let orientation = orientations().nth(below(8)).unwrap();
        let recipe = Recipe::at(50).within(bounds).turned(orientation);
        for turn in [false, true] {
            let result = if turn {
                codec.turn(&damaged, orientation, &mut out)
            } else {
                codec.make(&Picture::Jpeg(&damaged), &recipe, &mut out)
            };
            match result {
                Ok(()) => {
                    jpeg::inspect(out.as_slice())
                        .unwrap_or_else(|error| panic!("{round}: {error}"));
                    good[usize::from(turn)] += 1;
                }
                Err(_) => {
                    assert!(out.is_empty());
                    failed[usize::from(turn)] += 1;
                }
            }
        }
        if round % 100 == 0 {
            codec.transcode(&own, 50, &mut out).unwrap();
            assert_eq!(out.as_slice(), expected, "round {round}");
        }
    }
    // All ways were gone.
    assert!(
        good.into_iter().chain(failed).all(|count| count > 1000),
        "{good:?} good, {failed:?} failed"
    );
}

/// What clients ask for: bounds and quality.
const PROFILES: [(Size, u8); 3] = [
    (size(160, 120), 30),
    (size(320, 240), 50),
    (size(u16::MAX, u16::MAX), 80),
];

const fn size(width: u16, height: u16) -> Size {
    Size { width, height }
}

/// The quantizers of ITU T.81, tables K.1 and K.2, line by line.
const LUMA: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, //
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62, //
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, //
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];
const CHROMA: [u16; 32] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, //
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
];

/// ffmpeg's scaler and encoder on the same picture, with the quantizers that libjpeg has at `quality`.
fn reference(input: &[&str], data: &[u8], size: Size, pix_fmt: &str, quality: u8) -> Vec<u8> {
    let percent = match u16::from(quality) {
        quality @ ..50 => 5000 / quality,
        quality => 200 - 2 * quality,
    };
    let matrix = |table: &mut dyn Iterator<Item = u16>| {
        let scaled: Vec<_> = table
            .map(|value| ((value * percent + 50) / 100).clamp(1, 255).to_string())
            .collect();
        scaled.join(",")
    };
    let luma = matrix(&mut LUMA.into_iter());
    let chroma = matrix(&mut CHROMA.into_iter().chain([99; 32]));
    let filter = format!(
        "scale={}:{}:in_range=full:out_range=full,format={pix_fmt}",
        size.width, size.height
    );
    // It takes eighths of these.
    let output = [
        "-vf",
        &filter,
        "-q:v",
        "8",
        "-intra_matrix",
        &luma,
        "-chroma_intra_matrix",
        &chroma,
        "-f",
        "mjpeg",
        "-",
    ];
    ffmpeg(&[input, &["-i", "-"], &output].concat(), data)
}

/// Compares what both JPEGs show, in the samples of `pix_fmt`; each must be of this size.
fn assert_alike(what: &str, ours: &[u8], theirs: &[u8], size: Size, pix_fmt: &str) {
    let found = jpeg::inspect(ours).expect(what);
    let shown = Size {
        width: found.width,
        height: found.height,
    };
    assert_eq!((shown, found.end), (size, ours.len()), "{what}");
    let (ours, theirs) = (decode(ours, pix_fmt), decode(theirs, pix_fmt));
    let luma = usize::from(size.width) * usize::from(size.height);
    let (all, y) = (psnr(&ours, &theirs), psnr(&ours[..luma], &theirs[..luma]));
    println!("{what}: {all:.1} dB, the first plane {y:.1} dB");
    assert!(all >= 30.0 && y >= 30.0, "{what}: {all:.1} dB, {y:.1} dB");
}

/// ffmpeg's name for a raw format.
fn raw_pix_fmt(format: PixelFormat) -> &'static str {
    match format {
        PixelFormat::Yuyv => "yuyv422",
        PixelFormat::Uyvy => "uyvy422",
        PixelFormat::Nv12 => "nv12",
        PixelFormat::Yu12 => "yuv420p",
        other => pix_fmt(other),
    }
}

#[test]
fn raw_pictures_are_made_smaller_as_ffmpeg_makes_them() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for format in raw_formats() {
        for (width, height) in [(640, 480), (1280, 720)] {
            let (_, planes) = zoomed_picture(format, width, height, 0, width / 640);
            let bytes: Vec<u8> = planes.iter().flat_map(|(data, _)| data.clone()).collect();
            let source = size(width as u16, height as u16);
            let (dimensions, name) = (
                format!("{width}x{height}"),
                match format {
                    PixelFormat::Bgr24 => "bgr24",
                    other => raw_pix_fmt(other),
                },
            );
            let input = ["-f", "rawvideo", "-pix_fmt", name, "-s", &dimensions];
            let choices = choices(format).iter();
            for ((bounds, quality), chroma) in
                choices.flat_map(|&chroma| PROFILES.map(|profile| (profile, chroma)))
            {
                let size = source.fit(bounds);
                let what = format!("{format:?} {dimensions} in {size:?} q{quality} {chroma:?}");
                let picture = Picture::Raw(raw(format, width, height, &planes));
                let recipe = Recipe::at(quality).within(bounds).coloured(chroma);
                codec.make(&picture, &recipe, &mut out).expect(&what);
                let shown = jpeg_pix_fmt(format, chroma);
                // Its encoder has no grey.
                let encoded = if format == PixelFormat::Grey {
                    "yuvj420p"
                } else {
                    shown
                };
                let theirs = reference(&input, &bytes, size, encoded, quality);
                assert_alike(&what, out.as_slice(), &theirs, size, shown);
            }
        }
    }
}

#[test]
fn jpegs_are_made_smaller_as_ffmpeg_makes_them() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for pix_fmt in ["yuvj420p", "yuvj422p", "yuvj444p"] {
        for (width, height) in [(640, 480), (1280, 720)] {
            let source = size(width as u16, height as u16);
            let (_, planes) = zoomed_picture(PixelFormat::Yu12, width, height, 0, width / 640);
            let bytes: Vec<u8> = planes.iter().flat_map(|(data, _)| data.clone()).collect();
            let dimensions = format!("{width}x{height}");
            let input = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", &dimensions];
            let camera = reference(&input, &bytes, source, pix_fmt, 90);
            // Between the scales that libjpeg has, too: 3/8 to 7/8, and below 1/8.
            let more = [
                (size(250, 250), 80),
                (size(522, 390), 80),
                (size(78, 78), 80),
            ];
            let ways: &[(Chroma, &str)] = match pix_fmt {
                "yuvj420p" => &[(Chroma::Yuv422, pix_fmt)],
                _ => &[(Chroma::Yuv422, pix_fmt), (Chroma::Yuv420, "yuvj420p")],
            };
            for ((bounds, quality), &(chroma, shown)) in PROFILES
                .into_iter()
                .chain(more)
                .flat_map(|profile| ways.iter().map(move |way| (profile, way)))
            {
                let size = source.fit(bounds);
                let what = format!("{pix_fmt} {dimensions} in {size:?} q{quality} as {shown}");
                let recipe = Recipe::at(quality).within(bounds).coloured(chroma);
                codec
                    .make(&Picture::Jpeg(&camera), &recipe, &mut out)
                    .expect(&what);
                let theirs = reference(&["-f", "mjpeg"], &camera, size, shown, quality);
                assert_alike(&what, out.as_slice(), &theirs, size, shown);
            }
        }
    }
}

/// The brightness of a JPEG as libjpeg decodes it at 2/8.
fn quarter_of_libjpeg(jpeg: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    // SAFETY: libjpeg as its documentation has it; its errors end the process.
    unsafe {
        let mut error: jpeg_error_mgr = mem::zeroed();
        let mut from: jpeg_decompress_struct = mem::zeroed();
        from.common.err = jpeg_std_error(&mut error);
        jpeg_create_decompress(&mut from);
        jpeg_mem_src(&mut from, jpeg.as_ptr(), jpeg.len() as _);
        jpeg_read_header(&mut from, 1);
        (from.scale_num, from.scale_denom) = (2, 8);
        from.out_color_space = J_COLOR_SPACE::JCS_GRAYSCALE;
        jpeg_start_decompress(&mut from);
        while from.output_scanline < from.output_height {
            let mut line = vec![0; from.output_width as usize];
            jpeg_read_scanlines(&mut from, [line.as_mut_ptr()].as_mut_ptr(), 1);
            lines.extend(line);
        }
        jpeg_finish_decompress(&mut from);
        jpeg_destroy_decompress(&mut from);
    }
    lines
}

#[test]
fn a_quarter_is_close_to_libjpegs() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    let detailed = [
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=640x480,noise=alls=12:all_seed=1",
        "-frames:v",
        "1",
        "-q:v",
        "6",
        "-pix_fmt",
        "yuvj420p",
        "-f",
        "mjpeg",
        "-",
    ];
    let mut sources = cameras(640, 480);
    sources.truncate(2);
    sources.push(("edges and noise", "", ffmpeg(&detailed, b"")));
    for (what, _, jpeg) in sources {
        codec
            .make(
                &Picture::Jpeg(&jpeg),
                &Recipe::at(98).within(size(160, 120)),
                &mut out,
            )
            .expect(what);
        let ours = decode(out.as_slice(), "gray");
        let filter = "scale=160:120:flags=area,format=gray";
        let input = ["-f", "mjpeg", "-i", "-", "-vf", filter];
        let best = ffmpeg(&[&input[..], &["-f", "rawvideo", "-"]].concat(), &jpeg);
        let libjpegs = quarter_of_libjpeg(&jpeg);
        let (db, theirs) = (psnr(&ours, &best), psnr(&libjpegs, &best));
        let both = psnr(&ours, &libjpegs);
        println!("{what}: {db:.1} dB, libjpeg {theirs:.1} dB, to each other {both:.1} dB");
        assert!(db >= 40.0 && both >= 40.0, "{what}: {db:.1}, {both:.1} dB");
    }
}

#[test]
fn jpegs_in_any_sampling_are_made_smaller() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for (what, source) in OTHERS {
        let mut whole = FrameBuf::new(1 << 20);
        codec.transcode(source, 95, &mut whole).expect(what);
        // 75x53: each of libjpeg's scales, and most of what is between them.
        for side in 2..=76 {
            let expected = size(75, 53).fit(size(side, side));
            codec
                .make(
                    &Picture::Jpeg(source),
                    &Recipe::at(95).within(size(side, side)),
                    &mut out,
                )
                .unwrap_or_else(|error| panic!("{what} in {side}: {error}"));
            let found = jpeg::inspect(out.as_slice()).expect(what);
            assert_eq!(
                size(found.width, found.height),
                expected,
                "{what} in {side}"
            );
            // Smaller than that it shows that libjpeg rounds the size up.
            if side >= 30 && side % 10 == 0 {
                // Brightness only: of some samplings next to no colour is left.
                let grey = |jpeg: &[u8]| {
                    let filter = format!(
                        "scale={}:{}:flags=area,format=gray",
                        expected.width, expected.height
                    );
                    let from = ["-f", "mjpeg", "-i", "-", "-vf"];
                    ffmpeg(
                        &[&from[..], &[&filter, "-f", "rawvideo", "-"]].concat(),
                        jpeg,
                    )
                };
                let db = psnr(&grey(out.as_slice()), &grey(source));
                println!("{what} in {expected:?}: {db:.1} dB");
                assert!(db >= 30.0, "{what} in {expected:?}: {db:.1} dB");
            }
        }
    }
}

#[test]
fn the_largest_pictures_are_made_smaller() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for format in raw_formats() {
        for (width, height) in [(8192, 16), (8191, 17), (16, 8192), (8192, 64)] {
            let (_, planes) = picture(format, width, height, 0);
            let raw = raw(format, width, height, &planes);
            codec.encode(&raw, 50, &mut out).unwrap();
            let jpeg = out.as_slice().to_vec();
            for side in [8190, 8000, 7168, 7000, 4096, 1000, 16, 1] {
                let bounds = size(side, side);
                let expected = size(width as u16, height as u16).fit(bounds);
                codec
                    .make(&Picture::Raw(raw), &Recipe::at(50).within(bounds), &mut out)
                    .unwrap();
                let found = jpeg::inspect(out.as_slice()).unwrap();
                assert_eq!(size(found.width, found.height), expected);
                codec
                    .make(
                        &Picture::Jpeg(&jpeg),
                        &Recipe::at(50).within(bounds),
                        &mut out,
                    )
                    .unwrap();
                let found = jpeg::inspect(out.as_slice()).unwrap();
                assert_eq!(size(found.width, found.height), expected);
            }
        }
    }
}

#[test]
fn half_a_picture_is_the_picture_of_its_halves() {
    let mut codec = Codec::new();
    let (mut out, mut expected) = (FrameBuf::new(1 << 20), FrameBuf::new(1 << 20));
    for format in [
        PixelFormat::Yuyv,
        PixelFormat::Uyvy,
        PixelFormat::Nv12,
        PixelFormat::Yu12,
        PixelFormat::Grey,
    ] {
        // No side is whole blocks: what lacks to that counts, too.
        let (shown, planes) = picture(format, 84, 88, 5);
        let halves: Vec<_> = shown
            .iter()
            .map(|plane| {
                Samples::new(plane.width / 2, plane.height / 2, |x, y| {
                    let at = |x, y| u16::from(plane.data[y * plane.width + x]);
                    let (x, y) = (2 * x, 2 * y);
                    let sum = at(x, y) + at(x + 1, y) + at(x, y + 1) + at(x + 1, y + 1);
                    ((sum + 2) / 4) as u8
                })
            })
            .collect();
        let (same, half) = match format {
            PixelFormat::Yuyv | PixelFormat::Uyvy => {
                let packed = Samples::new(84, 44, |x, y| match x % 4 {
                    0 | 2 => halves[0].data[y * 42 + x / 2],
                    1 => halves[1].data[y * 21 + x / 4],
                    _ => halves[2].data[y * 21 + x / 4],
                });
                (PixelFormat::Yuyv, vec![packed.padded(0)])
            }
            PixelFormat::Nv12 | PixelFormat::Yu12 => {
                let planes = halves.iter().map(|plane| plane.padded(0)).collect();
                (PixelFormat::Yu12, planes)
            }
            _ => (format, vec![halves[0].padded(0)]),
        };
        codec
            .encode(&raw(same, 42, 44, &half), 90, &mut expected)
            .unwrap();
        codec
            .make(
                &Picture::Raw(raw(format, 84, 88, &planes)),
                &Recipe::at(90).within(size(42, 44)),
                &mut out,
            )
            .unwrap();
        assert!(out.as_slice() == expected.as_slice(), "{format:?}");
    }
}

#[test]
fn half_a_picture_in_420_has_the_means_of_four_lines_of_colours() {
    let mut codec = Codec::new();
    let (mut out, mut expected) = (FrameBuf::new(1 << 20), FrameBuf::new(1 << 20));
    for format in [PixelFormat::Yuyv, PixelFormat::Uyvy] {
        let (shown, planes) = picture(format, 84, 88, 5);
        let mean = |plane: &Samples, down: usize| {
            Samples::new(plane.width / 2, plane.height / down, |x, y| {
                let line = |line| &plane.data[(down * y + line) * plane.width + 2 * x..][..2];
                let sum: usize = (0..down)
                    .flat_map(line)
                    .map(|&sample| usize::from(sample))
                    .sum();
                ((sum + down) / (2 * down)) as u8
            })
        };
        let half = [mean(&shown[0], 2), mean(&shown[1], 4), mean(&shown[2], 4)];
        let half = half.each_ref().map(|plane| plane.padded(0));
        let recipe = Recipe::at(90).coloured(Chroma::Yuv420);
        let there = Picture::Raw(raw(PixelFormat::Yu12, 42, 44, &half));
        codec.make(&there, &recipe, &mut expected).unwrap();
        let here = Picture::Raw(raw(format, 84, 88, &planes));
        codec
            .make(&here, &recipe.within(size(42, 44)), &mut out)
            .unwrap();
        assert!(out.as_slice() == expected.as_slice(), "{format:?}");
    }
}

/// What libjpeg makes of planes in 4:2:2 that are whole blocks, asked as its documentation has it.
fn by_libjpeg_in_422(planes: &[Samples], quality: i32) -> Vec<u8> {
    let set = |to: &mut jpeg_compress_struct| {
        to.raw_data_in = 1;
        libjpeg::set_factors(to, 2, 1);
    };
    let sides = (planes[0].width, planes[0].height);
    libjpeg::made(sides, quality, false, set, |to| {
        for line in (0..planes[0].height).step_by(8) {
            let rows = |plane: &Samples| -> Vec<*const u8> {
                let row = |i| plane.data[(line + i) * plane.width..].as_ptr();
                (0..8).map(row).collect()
            };
            let rows: Vec<_> = planes.iter().map(rows).collect();
            let image: Vec<_> = rows.iter().map(|rows| rows.as_ptr()).collect();
            // SAFETY: of each plane 8 lines, of whole blocks.
            unsafe { jpeg_write_raw_data(to, image.as_ptr(), 8) };
        }
    })
}

#[test]
fn packed_422_in_422_is_what_libjpeg_makes_of_its_planes() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for format in [PixelFormat::Yuyv, PixelFormat::Uyvy] {
        let (shown, planes) = picture(format, 64, 48, 8);
        let there = Picture::Raw(raw(format, 64, 48, &planes));
        for quality in [30, 80, 95] {
            let recipe = Recipe::at(quality).coloured(Chroma::Yuv422);
            codec.make(&there, &recipe, &mut out).unwrap();
            let expected = by_libjpeg_in_422(&shown, quality.into());
            assert!(out.as_slice() == expected, "{format:?} q{quality}");
        }
    }
}

#[test]
fn packed_422_in_420_is_the_picture_of_its_averaged_colours() {
    let mut codec = Codec::new();
    let (mut out, mut expected) = (FrameBuf::new(1 << 20), FrameBuf::new(1 << 20));
    for format in [PixelFormat::Yuyv, PixelFormat::Uyvy] {
        for (width, height) in SIZES {
            let (shown, planes) = picture(format, width, height, 5);
            for orientation in orientations() {
                // The lines that viewers see are those that share their colours. Only where rows become columns it is
                // the lines of the camera.
                let (averaged, left) = if orientation.transpose {
                    (averaged(&shown), orientation)
                } else {
                    let turned: Vec<_> = shown
                        .iter()
                        .map(|plane| plane.turned(orientation))
                        .collect();
                    (averaged(&turned), Orientation::UPRIGHT)
                };
                let (yu12, averaged) = packed(PixelFormat::Yu12, &averaged);
                let recipe = Recipe::at(80).coloured(Chroma::Yuv420);
                let there = Picture::Raw(raw(yu12, width, height, &averaged));
                codec
                    .make(&there, &recipe.turned(left), &mut expected)
                    .unwrap();
                let here = Picture::Raw(raw(format, width, height, &planes));
                codec
                    .make(&here, &recipe.turned(orientation), &mut out)
                    .unwrap();
                assert!(
                    out.as_slice() == expected.as_slice(),
                    "{format:?} {width}x{height} {orientation:?}"
                );
            }
        }
    }
}

#[test]
fn coarser_colours_are_fewer_bytes_of_the_same_brightness() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for (width, height) in [(640, 480), (149, 107)] {
        let (_, planes) = zoomed_picture(PixelFormat::Yuyv, width, height, 0, 2);
        let packed = Picture::Raw(raw(PixelFormat::Yuyv, width, height, &planes));
        let cameras = cameras(width, height);
        for (what, picture) in [
            ("raw", packed),
            ("yuvj422p", Picture::Jpeg(&cameras[1].2)),
            ("yuvj444p", Picture::Jpeg(&cameras[2].2)),
        ] {
            let [coarse, fine] = Chroma::ALL.map(|chroma| {
                let recipe = Recipe::at(80).coloured(chroma);
                codec.make(&picture, &recipe, &mut out).expect(what);
                out.as_slice().to_vec()
            });
            let lengths = (coarse.len(), fine.len());
            println!("{what} {width}x{height}: {lengths:?} bytes");
            assert!(lengths.0 < lengths.1, "{what}: {lengths:?}");
            let (luma, same) = (decode(&coarse, "gray"), decode(&fine, "gray"));
            if what == "raw" || width % 16 == 0 {
                // To the bit: each block of luma is coded as it was.
                assert!(luma == same, "{what} {width}x{height}");
            } else {
                // What a JPEG lacks to whole blocks is made up in another way.
                let db = psnr(&luma, &same);
                assert!(db >= 45.0, "{what}: {db:.1} dB of brightness");
            }
            let (coarse, fine) = (decode(&coarse, "yuvj444p"), decode(&fine, "yuvj444p"));
            let db = psnr(&coarse, &fine);
            assert!(db >= 30.0, "{what}: {db:.1} dB");
        }
    }
}

#[test]
fn a_jpeg_in_422_becomes_one_of_averaged_colours() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for (width, height) in [(640usize, 480), (149, 107), (33, 17), (16, 1)] {
        // Each pair of lines has colours of its own, which a shift of half a line would show.
        let bars = |low, high| {
            let bar = move |_, y| if y / 2 % 2 == 0 { low } else { high };
            Samples::new(width.div_ceil(2), height, bar)
        };
        let shown = [
            Samples::new(width, height, luma),
            bars(70, 190),
            bars(180, 60),
        ];
        let (format, planes) = packed(PixelFormat::Yuyv, &shown);
        let recipe = Recipe::at(98).coloured(Chroma::Yuv422);
        let raw = Picture::Raw(raw(format, width, height, &planes));
        codec.make(&raw, &recipe, &mut out).unwrap();
        let camera = out.as_slice().to_vec();
        let expected = averaged(&planes_of(&camera, "yuvj422p"));
        let recipe = recipe.coloured(Chroma::Yuv420);
        codec
            .make(&Picture::Jpeg(&camera), &recipe, &mut out)
            .unwrap();
        let got = planes_of(out.as_slice(), "yuvj420p");
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let last = expected.height - 1;
            let all = psnr(&got.data, &expected.data);
            let lowest = psnr(&got.line(last), &expected.line(last));
            assert!(
                all >= 40.0 && lowest >= 40.0,
                "{width}x{height}, plane {i}: {all:.1} dB, the last line {lowest:.1} dB"
            );
        }
    }
}

#[test]
fn the_sampling_is_the_one_asked_for_and_never_finer_than_it_comes() {
    const GREY: &[u8] = &[0x11];
    const YUV420: &[u8] = &[0x22, 0x11, 0x11];
    const YUV422: &[u8] = &[0x21, 0x11, 0x11];
    const YUV440: &[u8] = &[0x12, 0x11, 0x11];
    const YUV444: &[u8] = &[0x11, 0x11, 0x11];
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    let quarter = Orientation::quarters(1);
    // In "420" and in "422", as it comes and turned by a quarter.
    let mut assert_sampled = |what: &str, picture: &Picture<'_>, expected: [[&[u8]; 2]; 2]| {
        for (chroma, expected) in Chroma::ALL.into_iter().zip(expected) {
            for bounds in [size(u16::MAX, u16::MAX), size(40, 40), size(16, 12)] {
                for (orientation, expected) in
                    [Orientation::UPRIGHT, quarter].into_iter().zip(expected)
                {
                    let recipe = Recipe::at(80).within(bounds).turned(orientation);
                    let recipe = recipe.coloured(chroma);
                    codec.make(picture, &recipe, &mut out).expect(what);
                    let got = factors(out.as_slice());
                    assert!(
                        got == expected,
                        "{what}: {got:x?}, not {expected:x?}: {recipe:?}"
                    );
                }
            }
        }
    };
    for format in raw_formats() {
        let (_, planes) = picture(format, 75, 53, 0);
        let picture = Picture::Raw(raw(format, 75, 53, &planes));
        let expected = match format {
            PixelFormat::Grey => [[GREY; 2]; 2],
            PixelFormat::Nv12 | PixelFormat::Yu12 => [[YUV420; 2]; 2],
            PixelFormat::Yuyv | PixelFormat::Uyvy => [[YUV420; 2], [YUV422, YUV440]],
            _ => [[YUV420; 2], [YUV422; 2]],
        };
        assert_sampled(&format!("{format:?}"), &picture, expected);
    }
    for (what, source) in OTHERS {
        let expected: [[&[u8]; 2]; 2] = match what {
            // These are coarser than 4:2:0 in one direction.
            "410" => [[&[0x42, 0x11, 0x11], &[0x24, 0x11, 0x11]]; 2],
            "411" => [[&[0x41, 0x11, 0x11], &[0x14, 0x11, 0x11]]; 2],
            "422 by 2x2" => [[YUV420; 2], [&[0x22, 0x12, 0x12], &[0x22, 0x21, 0x21]]],
            "440" => [[YUV420; 2], [YUV440, YUV422]],
            "grey by 2x2" => [[&[0x22]; 2]; 2],
            "420 progressive" => [[YUV420; 2]; 2],
            "rgb" => [[YUV444; 2]; 2],
            _ => [[YUV420; 2], [YUV444; 2]],
        };
        assert_sampled(what, &Picture::Jpeg(source), expected);
    }
    // And by itself as the quality has it.
    let (_, planes) = picture(PixelFormat::Yuyv, 64, 48, 0);
    let packed = raw(PixelFormat::Yuyv, 64, 48, &planes);
    for (quality, expected) in [
        (1, YUV420),
        (80, YUV420),
        (89, YUV420),
        (90, YUV422),
        (100, YUV422),
    ] {
        codec.encode(&packed, quality, &mut out).unwrap();
        assert!(factors(out.as_slice()) == expected, "raw at {quality}");
        codec.encode(&packed, 95, &mut out).unwrap();
        let camera = out.as_slice().to_vec();
        codec.transcode(&camera, quality, &mut out).unwrap();
        assert!(
            factors(out.as_slice()) == expected,
            "transcoded at {quality}"
        );
        // What is turned without loss has no quality.
        codec.turn(&camera, quarter, &mut out).unwrap();
        assert!(factors(out.as_slice()) == YUV440);
    }
}

const TRANSPOSED: Orientation = Orientation {
    transpose: true,
    mirror_x: false,
    mirror_y: false,
};

/// All eight.
fn orientations() -> impl Iterator<Item = Orientation> {
    (0..8).map(|i| Orientation {
        transpose: i & 4 != 0,
        mirror_x: i & 2 != 0,
        mirror_y: i & 1 != 0,
    })
}

/// ffmpeg's filters that do the same.
fn filters(orientation: Orientation) -> String {
    let mut filters = String::from("null");
    for (wanted, filter) in [
        // "Rotate by 90 degrees counterclockwise and vertically flip."
        (orientation.transpose, ",transpose=cclock_flip"),
        (orientation.mirror_x, ",hflip"),
        (orientation.mirror_y, ",vflip"),
    ] {
        if wanted {
            filters += filter;
        }
    }
    filters
}

/// What `bytes` (ffmpeg knows them by `input`) show as `pix_fmt`, turned, then scaled to `size`.
fn turned_by_ffmpeg(
    input: &[&str],
    bytes: &[u8],
    orientation: Orientation,
    size: Size,
    pix_fmt: &str,
) -> Vec<u8> {
    // It transposes only what is sampled alike in both directions.
    let filter = format!(
        "scale=in_range=full:out_range=full,format={pix_fmt},{},scale={}:{}:flags=area",
        filters(orientation),
        size.width,
        size.height
    );
    let output = ["-i", "-", "-vf", &filter, "-f", "rawvideo", "-"];
    ffmpeg(&[input, &output].concat(), bytes)
}

/// Compares what our JPEGs of one size show with the pictures expected, in one run of ffmpeg.
fn assert_show(ours: &[(String, Vec<u8>)], expected: &[Vec<u8>], size: Size, pix_fmt: &str) {
    assert_show_alike(ours, expected, size, pix_fmt, 30.0);
}

/// The same; `least`: in dB.
fn assert_show_alike(
    ours: &[(String, Vec<u8>)],
    expected: &[Vec<u8>],
    size: Size,
    pix_fmt: &str,
    least: f64,
) {
    for (what, jpeg) in ours {
        let found = jpeg::inspect(jpeg).expect(what);
        let shown = (found.width, found.height, found.end);
        assert_eq!(shown, (size.width, size.height, jpeg.len()), "{what}");
    }
    let jpegs: Vec<&[u8]> = ours.iter().map(|(_, jpeg)| &jpeg[..]).collect();
    let decoded = decode(&jpegs.concat(), pix_fmt);
    assert_eq!(decoded.len(), ours.len() * expected[0].len(), "{size:?}");
    let luma = usize::from(size.width) * usize::from(size.height);
    for (((what, _), got), expected) in ours
        .iter()
        .zip(decoded.chunks(expected[0].len()))
        .zip(expected)
    {
        let (all, y) = (psnr(got, expected), psnr(&got[..luma], &expected[..luma]));
        println!("{what}: {all:.1} dB, the first plane {y:.1} dB");
        assert!(all >= least && y >= least, "{what}: {all:.1} dB, {y:.1} dB");
    }
}

/// Turns `picture`, of the size `whole`, in all ways, and compares with what ffmpeg makes of `bytes`.
fn assert_turns(
    what: &str,
    picture: &Picture<'_>,
    (whole, bounds): (Size, Size),
    (input, bytes): (&[&str], &[u8]),
    pix_fmt: &str,
) {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for transpose in [false, true] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let turns = orientations().filter(|orientation| orientation.transpose == transpose);
        let mut size = whole;
        for orientation in turns {
            size = orientation.turn(whole).fit(bounds);
            let what = format!("{what} {orientation:?} in {size:?}");
            let recipe = Recipe::at(90).within(bounds).turned(orientation);
            codec.make(picture, &recipe, &mut out).expect(&what);
            ours.push((what, out.as_slice().to_vec()));
            theirs.push(turned_by_ffmpeg(input, bytes, orientation, size, pix_fmt));
        }
        assert_show(&ours, &theirs, size, pix_fmt);
    }
}

/// A size that is no whole blocks, and the camera's usual one, with what they are made smaller to.
const TURNED: [(usize, usize, Size); 3] = [
    (149, 107, size(u16::MAX, u16::MAX)),
    (149, 107, size(80, 64)),
    (640, 480, size(240, 400)),
];

#[test]
fn raw_pictures_are_turned_as_ffmpeg_turns_them() {
    for format in raw_formats() {
        for (width, height, bounds) in TURNED {
            // Of half a pair of pixels ffmpeg has its own idea.
            let width = match format {
                PixelFormat::Yuyv | PixelFormat::Uyvy => width & !1,
                _ => width,
            };
            let (_, planes) = zoomed_picture(format, width, height, 0, 2);
            let bytes: Vec<u8> = planes.iter().flat_map(|(data, _)| data.clone()).collect();
            let dimensions = format!("{width}x{height}");
            let name = match format {
                PixelFormat::Bgr24 => "bgr24",
                other => raw_pix_fmt(other),
            };
            let input = ["-f", "rawvideo", "-pix_fmt", name, "-s", &dimensions];
            let shown = match format {
                PixelFormat::Yuyv | PixelFormat::Uyvy => "yuvj444p",
                other => pix_fmt(other),
            };
            assert_turns(
                &format!("{format:?} {dimensions}"),
                &Picture::Raw(raw(format, width, height, &planes)),
                (size(width as u16, height as u16), bounds),
                (&input, &bytes),
                shown,
            );
        }
    }
}

/// JPEGs of this size in the samplings that cameras have, with ffmpeg's name for these and for their transposition.
fn cameras(width: usize, height: usize) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (_, planes) = zoomed_picture(PixelFormat::Yu12, width, height, 0, 2);
    let bytes: Vec<u8> = planes.iter().flat_map(|(data, _)| data.clone()).collect();
    let dimensions = format!("{width}x{height}");
    let input = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", &dimensions];
    let ffmpegs = |pix_fmt| {
        let size = size(width as u16, height as u16);
        reference(&input, &bytes, size, pix_fmt, 90)
    };
    // Of 4:2:2 ffmpeg makes a rare variant (2x2 and 1x2, for 4:4:4 1x2 likewise), and of grey none.
    let ours = |format| {
        let (_, planes) = zoomed_picture(format, width, height, 0, 2);
        let mut out = FrameBuf::new(1 << 20);
        let raw = raw(format, width, height, &planes);
        Codec::new().encode(&raw, 90, &mut out).unwrap();
        out.as_slice().to_vec()
    };
    vec![
        ("yuvj420p", "yuvj420p", ffmpegs("yuvj420p")),
        ("yuvj422p", "yuvj440p", ours(PixelFormat::Yuyv)),
        ("yuvj444p", "yuvj444p", ffmpegs("yuvj444p")),
        ("gray", "gray", ours(PixelFormat::Grey)),
    ]
}

#[test]
fn jpegs_are_turned_as_ffmpeg_turns_them() {
    for (width, height, bounds) in TURNED {
        for (pix_fmt, _, camera) in cameras(width, height) {
            let shown = match pix_fmt {
                "yuvj422p" => "yuvj444p",
                other => other,
            };
            assert_turns(
                &format!("{pix_fmt} {width}x{height}"),
                &Picture::Jpeg(&camera),
                (size(width as u16, height as u16), bounds),
                (&["-f", "mjpeg"], &camera),
                shown,
            );
        }
    }
}

#[test]
fn jpegs_in_any_sampling_are_turned() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for (what, source) in OTHERS {
        // Brightness only: of some samplings next to no colour is left.
        let data = decode(source, "gray");
        let upright = Samples::new(75, 53, |x, y| data[y * 75 + x]);
        for transpose in [false, true] {
            let (mut ours, mut expected) = (Vec::new(), Vec::new());
            let turns = orientations().filter(|orientation| orientation.transpose == transpose);
            for orientation in turns {
                let what = format!("{what} {orientation:?}");
                let recipe = Recipe::at(95).turned(orientation);
                codec
                    .make(&Picture::Jpeg(source), &recipe, &mut out)
                    .expect(&what);
                ours.push((what, out.as_slice().to_vec()));
                expected.push(upright.turned(orientation).data);
            }
            let size = if transpose {
                size(53, 75)
            } else {
                size(75, 53)
            };
            assert_show(&ours, &expected, size, "gray");
        }
    }
}

/// The same picture for libjpeg, in a format of which `planes` are the components.
fn packed(format: PixelFormat, planes: &[Samples]) -> (PixelFormat, Vec<(Vec<u8>, usize)>) {
    match format {
        PixelFormat::Yuyv | PixelFormat::Uyvy => {
            let [y, cb, cr] = planes else { unreachable!() };
            let packed = Samples::new(4 * cb.width, y.height, |x, line| match x % 4 {
                // Odd widths: what is beyond is not looked at.
                0 | 2 => y.line(line).get(x / 2).copied().unwrap_or(0),
                1 => cb.data[line * cb.width + x / 4],
                _ => cr.data[line * cr.width + x / 4],
            });
            (PixelFormat::Yuyv, vec![packed.padded(0)])
        }
        PixelFormat::Nv12 | PixelFormat::Yu12 => {
            let planes = planes.iter().map(|plane| plane.padded(0)).collect();
            (PixelFormat::Yu12, planes)
        }
        other => (other, vec![planes[0].padded(0)]),
    }
}

#[test]
fn a_turned_raw_picture_is_the_picture_of_its_turned_planes() {
    let mut codec = Codec::new();
    let (mut out, mut expected) = (FrameBuf::new(1 << 20), FrameBuf::new(1 << 20));
    for format in raw_formats() {
        for (width, height) in SIZES {
            let (shown, planes) = picture(format, width, height, 5);
            for orientation in orientations() {
                let turned: Vec<Samples> = match format {
                    // No raw format is 4:4:0; ffmpeg sees to that.
                    PixelFormat::Yuyv | PixelFormat::Uyvy if orientation.transpose => continue,
                    // By whole pixels.
                    PixelFormat::Rgb24 | PixelFormat::Bgr24 => {
                        let (data, stride) = &planes[0];
                        let channels: Vec<_> = (0..3)
                            .map(|channel| {
                                Samples::new(width, height, |x, y| {
                                    data[y * stride + 3 * x + channel]
                                })
                                .turned(orientation)
                            })
                            .collect();
                        let of = &channels[0];
                        vec![Samples::new(3 * of.width, of.height, |x, y| {
                            channels[x % 3].data[y * of.width + x / 3]
                        })]
                    }
                    _ => shown
                        .iter()
                        .map(|plane| plane.turned(orientation))
                        .collect(),
                };
                let (same, turned) = packed(format, &turned);
                let size = orientation.turn(size(width as u16, height as u16));
                let there = raw(same, size.width.into(), size.height.into(), &turned);
                codec.encode(&there, 90, &mut expected).unwrap();
                let here = Picture::Raw(raw(format, width, height, &planes));
                let recipe = Recipe::at(90).turned(orientation);
                codec.make(&here, &recipe, &mut out).unwrap();
                assert!(
                    out.as_slice() == expected.as_slice(),
                    "{format:?} {width}x{height} {orientation:?}"
                );
            }
        }
    }
}

#[test]
fn the_largest_pictures_are_turned() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for format in raw_formats() {
        for (width, height) in [(8192, 16), (8191, 17), (16, 8192)] {
            let (_, planes) = picture(format, width, height, 0);
            let raw = Picture::Raw(raw(format, width, height, &planes));
            codec.make(&raw, &Recipe::at(50), &mut out).unwrap();
            let jpeg = out.as_slice().to_vec();
            for orientation in orientations() {
                for side in [8192, 8000, 100] {
                    let recipe = Recipe::at(50).within(size(side, side)).turned(orientation);
                    let expected = recipe
                        .bounds
                        .fit(orientation.turn(size(width as u16, height as u16)));
                    for picture in [raw, Picture::Jpeg(&jpeg)] {
                        codec.make(&picture, &recipe, &mut out).unwrap();
                        let found = jpeg::inspect(out.as_slice()).unwrap();
                        assert_eq!(size(found.width, found.height), expected);
                    }
                }
            }
        }
    }
}

/// `jpeg` with another size in its header. Its data ends early, and libjpeg makes up the rest.
fn resized(jpeg: &[u8], size: Size) -> Vec<u8> {
    let mut jpeg = jpeg.to_vec();
    let sof = jpeg
        .windows(2)
        .position(|marker| matches!(marker, [0xFF, 0xC0 | 0xC2]));
    let at = sof.unwrap() + 5;
    jpeg[at..][..2].copy_from_slice(&size.height.to_be_bytes());
    jpeg[at + 2..][..2].copy_from_slice(&size.width.to_be_bytes());
    jpeg
}

#[test]
fn what_is_too_large_to_be_turned_is_an_error_or_made_smaller() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    let large = resized(OTHERS[3].1, size(8192, 8192));
    let error = codec.turn(&large, TRANSPOSED, &mut out).unwrap_err();
    assert!(matches!(error, CodecError::Unsupported(_)), "{error}");
    let recipe = Recipe::at(50).coloured(Chroma::Yuv422).turned(TRANSPOSED);
    let needed = 8192 * 8192 * 2;
    assert_eq!(
        codec.make(&Picture::Jpeg(&large), &recipe, &mut out),
        Err(CodecError::TooBigToTurn { needed })
    );
    assert!(out.is_empty());
    let recipe = recipe.within(size(1024, 768));
    codec
        .make(&Picture::Jpeg(&large), &recipe, &mut out)
        .unwrap();
    let found = jpeg::inspect(out.as_slice()).unwrap();
    assert_eq!((found.width, found.height), (768, 768));

    let data = vec![128; 8192 * 8192];
    let planes = [(data, 8192)];
    let grey = Picture::Raw(raw(PixelFormat::Grey, 8192, 8192, &planes));
    let needed = 8192 * 8192;
    assert_eq!(
        codec.make(&grey, &Recipe::at(50).turned(TRANSPOSED), &mut out),
        Err(CodecError::TooBigToTurn { needed })
    );
    // Upside down it goes from line to line.
    let recipe = Recipe::at(50).turned(Orientation::quarters(2));
    codec.make(&grey, &recipe, &mut out).unwrap();
}

/// The planes of a JPEG, in ffmpeg's order.
fn planes_of(jpeg: &[u8], pix_fmt: &str) -> Vec<Samples> {
    let found = jpeg::inspect(jpeg).unwrap();
    let (width, height) = (usize::from(found.width), usize::from(found.height));
    let (across, down) = match pix_fmt {
        "yuvj420p" => (2, 2),
        "yuvj422p" => (2, 1),
        "yuvj440p" => (1, 2),
        _ => (1, 1),
    };
    let chroma = (width.div_ceil(across), height.div_ceil(down));
    let decoded = decode(jpeg, pix_fmt);
    let mut rest = &decoded[..];
    let mut planes = Vec::new();
    while !rest.is_empty() {
        let (width, height) = if planes.is_empty() {
            (width, height)
        } else {
            chroma
        };
        let (these, others) = rest.split_at(width * height);
        planes.push(Samples {
            width,
            height,
            data: these.to_vec(),
        });
        rest = others;
    }
    planes
}

/// The size of an MCU, by the sampling factors in SOF0.
fn mcu(jpeg: &[u8]) -> (usize, usize) {
    let sof = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]);
    let sof = &jpeg[sof.unwrap()..];
    let factors = sof[10..][..3 * usize::from(sof[9])].chunks(3);
    let side = |shift: u8| {
        let side = |component: &[u8]| 8 * usize::from(component[1] >> shift & 15);
        factors.clone().map(side).max().unwrap()
    };
    // One component alone is in blocks, whatever its factors are.
    if sof[9] == 1 {
        (8, 8)
    } else {
        (side(4), side(0))
    }
}

#[test]
fn a_jpeg_is_turned_without_loss_or_not_at_all() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    // Whole MCUs, and parts of one at the right, below, and both.
    for (width, height) in [(64, 48), (72, 48), (64, 56), (67, 48), (64, 45), (61, 43)] {
        for (pix_fmt, transposed, camera) in cameras(width, height) {
            let (mcu_width, mcu_height) = mcu(&camera);
            let source = planes_of(&camera, pix_fmt);
            for orientation in orientations() {
                let what = format!("{pix_fmt} {width}x{height} {orientation:?}");
                let (mirrors_columns, mirrors_lines) = if orientation.transpose {
                    (orientation.mirror_y, orientation.mirror_x)
                } else {
                    (orientation.mirror_x, orientation.mirror_y)
                };
                let whole = (!mirrors_columns || width % mcu_width == 0)
                    && (!mirrors_lines || height % mcu_height == 0);
                let result = codec.turn(&camera, orientation, &mut out);
                if !whole {
                    assert_eq!(result, Err(CodecError::PartialMcu), "{what}");
                    assert!(out.is_empty());
                    continue;
                }
                result.expect(&what);
                let name = if orientation.transpose {
                    transposed
                } else {
                    pix_fmt
                };
                for (i, (plane, got)) in source
                    .iter()
                    .zip(planes_of(out.as_slice(), name))
                    .enumerate()
                {
                    let expected = plane.turned(orientation);
                    assert_eq!((got.width, got.height), (expected.width, expected.height));
                    let db = psnr(&expected.data, &got.data);
                    assert!(db >= 50.0, "{what}, plane {i}: {db:.1} dB");
                }
            }
        }
    }
}

#[test]
fn four_quarters_give_the_same_coefficients() {
    let mut codec = Codec::new();
    let [mut out, mut once] = [(); 2].map(|()| FrameBuf::new(1 << 20));
    let sources = cameras(64, 48)
        .into_iter()
        .map(|(what, _, jpeg)| (what, jpeg));
    // 64x48 of a picture that goes on, which is whole MCUs in all samplings.
    let others = OTHERS
        .iter()
        .map(|&(what, jpeg)| (what, resized(jpeg, size(64, 32))));
    for (what, source) in sources.chain(others) {
        let result = codec.turn(&source, Orientation::UPRIGHT, &mut once);
        if what == "444 by 2x2" {
            // It may not be written in one scan.
            assert!(matches!(result, Err(CodecError::Libjpeg(_))), "{result:?}");
            continue;
        }
        result.expect(what);
        // Each is two times the other way, or four quarters.
        for (orientation, times) in orientations().map(|orientation| {
            let quarter = orientation.transpose && orientation.mirror_x != orientation.mirror_y;
            (orientation, if quarter { 4 } else { 2 })
        }) {
            let mut turned = source.clone();
            for time in 1..=times {
                codec.turn(&turned, orientation, &mut out).expect(what);
                turned = out.as_slice().to_vec();
                let same = turned == once.as_slice();
                assert_eq!(
                    same,
                    time == times || orientation == Orientation::UPRIGHT,
                    "{what} {orientation:?}, {time} times"
                );
            }
        }
    }
}

#[test]
fn a_turned_jpeg_does_not_say_how_to_turn_it() {
    let (_, _, camera) = cameras(64, 48).swap_remove(0);
    let mut exif = camera[..2].to_vec();
    exif.extend([0xFF, 0xE1, 0, 34]);
    exif.extend(b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0");
    exif.extend(&camera[2..]);
    let mut codec = Codec::new();
    let [mut out, mut expected] = [(); 2].map(|()| FrameBuf::new(1 << 20));
    let quarter = Orientation::quarters(1);
    codec.turn(&exif, quarter, &mut out).unwrap();
    codec.turn(&camera, quarter, &mut expected).unwrap();
    assert!(!out.as_slice().windows(4).any(|word| word == b"Exif"));
    assert!(out.as_slice() == expected.as_slice());
}

#[test]
fn damage_that_adds_up_is_limited() {
    // A grey picture of one brightness, whose blocks each say that they are brighter than the one before by the most
    // there is (category 11, all ones).
    let mut jpeg = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
    jpeg.extend([1; 64]);
    jpeg.extend([0xFF, 0xC0, 0, 11, 8, 0, 8, 0, 120, 1, 1, 0x11, 0]);
    // One code of one bit each: category 11, and the end of the block.
    for (class, value) in [(0x00, 11), (0x10, 0)] {
        jpeg.extend([0xFF, 0xC4, 0, 20, class, 1]);
        jpeg.extend([0; 15]);
        jpeg.push(value);
    }
    jpeg.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0]);
    // 0, eleven ones, 0, for each of 15 blocks; the sum fits the 16 bits of a coefficient. Ones to the end of a byte.
    let bits: Vec<u8> = (0..15 * 13)
        .map(|i| u8::from(!matches!(i % 13, 0 | 12)))
        .chain([1; 5])
        .collect();
    for byte in bits.chunks(8) {
        let byte = byte.iter().fold(0, |byte, bit| byte << 1 | bit);
        jpeg.push(byte);
        if byte == 0xFF {
            jpeg.push(0);
        }
    }
    jpeg.extend([0xFF, 0xD9]);
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 16);
    for orientation in orientations() {
        codec.turn(&jpeg, orientation, &mut out).unwrap();
        // White, every block of it.
        let white = decode(out.as_slice(), "gray");
        assert_eq!(white.len(), 120 * 8);
        assert!(white.iter().all(|&sample| sample == 255), "{orientation:?}");
    }
}

/// Compares what the two JPEGs show, in the samples of `pix_fmt`: they differ by the stamp alone.
fn assert_stamped(what: &str, stamp: &Stamp, plain: &[u8], stamped: &[u8], pix_fmt: &str) {
    let found = jpeg::inspect(stamped).expect(what);
    let (width, height) = (usize::from(found.width), usize::from(found.height));
    let Some(placed) = stamp.place(size(found.width, found.height)) else {
        assert!(plain == stamped, "{what}: no room for a stamp");
        return;
    };
    // How many pixels share a sample, across and down.
    let planes: &[(usize, usize)] = match pix_fmt {
        "gray" => &[(1, 1)],
        "yuvj420p" => &[(1, 1), (2, 2), (2, 2)],
        "yuvj422p" => &[(1, 1), (2, 1), (2, 1)],
        "yuvj444p" => &[(1, 1); 3],
        other => panic!("{other}"),
    };
    let (plain, stamped) = (decode(plain, pix_fmt), decode(stamped, pix_fmt));
    let mut start = 0;
    for (i, &(across, down)) in planes.iter().enumerate() {
        let (line, lines) = (width.div_ceil(across), height.div_ceil(down));
        for y in 0..lines {
            let samples = start + y * line..start + (y + 1) * line;
            let (plain, stamped) = (&plain[samples.clone()], &stamped[samples]);
            let inside = match y * down >= placed.top() {
                true => placed.right().div_ceil(across),
                false => 0,
            };
            assert!(
                plain[inside..] == stamped[inside..],
                "{what}: plane {i}, line {y} is not the same beside the stamp"
            );
            if i == 0 && inside > 0 {
                let mut row = vec![0; inside];
                placed.draw(y, &mut row);
                for (x, (&sample, luma)) in stamped.iter().zip(row).enumerate() {
                    assert_eq!(sample > 128, luma > 128, "{what}: {sample} at {x},{y}");
                }
            } else {
                let off = stamped[..inside].iter().map(|c| c.abs_diff(128)).max();
                assert!(
                    off <= Some(3),
                    "{what}: plane {i}, line {y}: {off:?} of colour"
                );
            }
        }
        start += line * lines;
    }
    assert_eq!(start, stamped.len(), "{what}");
}

/// Whole, smaller, in three lines, and too small for it.
const STAMPED: [Size; 5] = [
    size(u16::MAX, u16::MAX),
    size(320, 240),
    size(250, 250),
    size(120, 90),
    size(80, 60),
];

fn stamp() -> Stamp {
    let mut stamp = Stamp::new("Garage 7");
    stamp.set(Duration::from_secs(1_795_257_738));
    stamp
}

#[test]
fn a_stamp_changes_a_raw_picture_nowhere_else() {
    let mut codec = Codec::new();
    let (mut plain, mut stamped) = (FrameBuf::new(1 << 20), FrameBuf::new(1 << 20));
    let stamp = stamp();
    for format in raw_formats() {
        for (width, height) in [(641, 479), (1280, 720)] {
            let (_, planes) = zoomed_picture(format, width, height, 8, 3);
            let picture = Picture::Raw(raw(format, width, height, &planes));
            for (bounds, chroma) in STAMPED
                .into_iter()
                .flat_map(|bounds| choices(format).iter().map(move |&c| (bounds, c)))
            {
                let what = format!("{format:?} {width}x{height} in {bounds:?} {chroma:?}");
                let shown = jpeg_pix_fmt(format, chroma);
                let recipe = Recipe::at(90).within(bounds).coloured(chroma);
                codec.make(&picture, &recipe, &mut plain).expect(&what);
                codec
                    .make(&picture, &recipe.stamped(&stamp), &mut stamped)
                    .expect(&what);
                let (plain, stamped) = (plain.as_slice(), stamped.as_slice());
                assert_stamped(&what, &stamp, plain, stamped, shown);
            }
        }
    }
}

#[test]
fn a_stamp_changes_a_jpeg_nowhere_else() {
    let mut codec = Codec::new();
    let (mut plain, mut stamped) = (FrameBuf::new(1 << 20), FrameBuf::new(1 << 20));
    let stamp = stamp();
    let mut sources = Vec::new();
    for shown in ["yuvj420p", "yuvj422p", "yuvj444p"] {
        let filter = format!("testsrc2=size=641x479,gblur=sigma=1,format={shown}");
        let output = ["-frames:v", "1", "-q:v", "2", "-f", "mjpeg", "-"];
        let source = ffmpeg(
            &[&["-f", "lavfi", "-i", &filter], &output[..]].concat(),
            &[],
        );
        sources.push((shown, source, shown, &STAMPED[..]));
    }
    for (what, source) in OTHERS {
        let sof = source
            .windows(2)
            .position(|marker| matches!(marker, [0xFF, 0xC0 | 0xC2]));
        let header = sof.unwrap();
        // Made larger in its header. The data ends early, and libjpeg makes up the rest.
        let mut large = source.to_vec();
        large[header + 5..][..4].copy_from_slice(&[1, 224, 2, 128]);
        if what == "444 by 2x2" {
            // Brightness in less detail than colour has, which no camera sends: it does no harm.
            let mut odd = large.clone();
            odd[header + 11] = 0x11;
            let recipe = Recipe::at(90).stamped(&stamp);
            let picture = Picture::Jpeg(&odd);
            codec.make(&picture, &recipe, &mut stamped).expect(what);
            codec.make(&picture, &Recipe::at(90), &mut plain).unwrap();
            assert!(plain.as_slice() != stamped.as_slice());
        }
        // Brightness only: what colour there is has samples of any size.
        sources.push((what, large, "gray", &STAMPED[..1]));
    }
    for (what, source, shown, bounds) in &sources {
        for &bounds in *bounds {
            let what = format!("{what} in {bounds:?}");
            let picture = Picture::Jpeg(source);
            let recipe = Recipe::at(90).within(bounds);
            codec.make(&picture, &recipe, &mut plain).expect(&what);
            codec
                .make(&picture, &recipe.stamped(&stamp), &mut stamped)
                .expect(&what);
            let (plain, stamped) = (plain.as_slice(), stamped.as_slice());
            assert_stamped(&what, &stamp, plain, stamped, shown);
        }
    }
}

thread_local! {
    static READINGS: Cell<u32> = const { Cell::new(0) };
}

/// Goes on by a millisecond whenever it is asked.
fn clock() -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    READINGS.set(READINGS.get() + 1);
    *START + Duration::from_millis(1) * READINGS.get()
}

#[test]
fn times_are_those_of_each_phase_and_few_readings_of_the_clock() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    let (_, planes) = picture(PixelFormat::Yuyv, 640, 480, 0);
    let raw = Picture::Raw(raw(PixelFormat::Yuyv, 640, 480, &planes));
    let (_, planes) = picture(PixelFormat::Rgb24, 640, 480, 0);
    let rgb = Picture::Raw(self::raw(PixelFormat::Rgb24, 640, 480, &planes));
    codec.make(&raw, &Recipe::at(80), &mut out).unwrap();
    codec
        .make(&raw, &Recipe::at(80).coloured(Chroma::Yuv422), &mut out)
        .unwrap();
    let camera = out.as_slice().to_vec();
    assert_eq!((codec.spent(), READINGS.get()), ([Duration::ZERO; 3], 0));

    codec.set_clock(clock);
    let mut spent = |picture: &Picture<'_>, bounds, chroma| {
        // One that cannot be made leaves nothing behind for the next.
        codec.transcode(&camera[..200], 80, &mut out).unwrap_err();
        READINGS.set(0);
        let recipe = Recipe::at(80).within(bounds).coloured(chroma);
        codec.make(picture, &recipe, &mut out).unwrap();
        let spent = codec.spent();
        let all = Duration::from_millis(1) * (READINGS.get() - 1);
        assert_eq!(spent.iter().sum::<Duration>(), all, "no time is lost");
        let [decode, scale, encode] = Phase::ALL.map(|phase| spent[phase as usize].as_millis());
        println!("{decode} decode, {scale} scale, {encode} encode");
        (decode, scale, encode)
    };
    let whole = size(640, 480);
    let (fine, coarse) = (Chroma::Yuv422, Chroma::Yuv420);
    // 60 rows of MCUs, and libjpeg's start and end. Before each call there is time for the samples.
    assert_eq!(spent(&raw, whole, fine), (0, 62, 62));
    assert_eq!(spent(&raw, size(320, 240), fine), (0, 32, 32));
    assert_eq!(spent(&rgb, whole, fine), (0, 482, 482), "line by line");
    // Rows that are twice as high.
    assert_eq!(spent(&raw, whole, coarse), (0, 32, 32));
    assert_eq!(spent(&raw, size(320, 240), coarse), (0, 17, 17));
    assert_eq!(spent(&rgb, whole, coarse), (0, 482, 482));
    // And the header.
    let jpeg = &Picture::Jpeg(&camera);
    assert_eq!(spent(jpeg, whole, fine), (63, 125, 62));
    assert_eq!(spent(jpeg, size(240, 180), fine), (63, 88, 25));
    assert_eq!(spent(jpeg, whole, coarse), (63, 95, 32));
    assert_eq!(spent(jpeg, size(240, 180), coarse), (63, 77, 14));
    // At 2/8 and 1/8 all of it is decoded before the first line goes on.
    assert_eq!(spent(jpeg, size(160, 120), fine), (2, 19, 17));
    assert_eq!(spent(jpeg, size(80, 60), fine), (2, 12, 10));
    assert_eq!(spent(jpeg, size(160, 120), coarse), (2, 12, 10));
}

// --- pixels ---

/// Collects what [`Codec::pixels`] gives.
#[derive(Default)]
struct Collected {
    size: Option<Size>,
    rows: Vec<u8>,
}

impl Rows for Collected {
    fn start(&mut self, size: Size) {
        (self.size, self.rows) = (Some(size), Vec::new());
    }

    fn row(&mut self, row: &[u8]) {
        self.rows.extend(row);
    }
}

fn pixels(codec: &mut Codec, picture: &Picture<'_>, recipe: &PixelRecipe<'_>) -> Collected {
    let mut collected = Collected::default();
    let size = codec.pixels(picture, recipe, &mut collected).unwrap();
    assert_eq!(collected.size, Some(size));
    let channels = if recipe.format == PixelFormat::Grey {
        1
    } else {
        3
    };
    let bytes = usize::from(size.width) * usize::from(size.height) * channels;
    assert_eq!(collected.rows.len(), bytes);
    collected
}

fn pixel_recipe(format: PixelFormat) -> PixelRecipe<'static> {
    PixelRecipe {
        crop: None,
        format,
        bounds: Bounds::NONE,
        orientation: Orientation::UPRIGHT,
        stamp: None,
    }
}

const PIXELS: [PixelFormat; 3] = [PixelFormat::Rgb24, PixelFormat::Bgr24, PixelFormat::Grey];

/// The red, green and blue of a pixel of a picture's planes, or grey, as JFIF defines them.
fn pixel_of(format: PixelFormat, planes: &[Samples], x: usize, y: usize) -> ([f64; 3], f64) {
    let at = |plane: usize, x: usize, y: usize| {
        f64::from(planes[plane].data[y * planes[plane].width + x])
    };
    match format {
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => {
            let rgb = [0, 1, 2].map(|channel| at(0, 3 * x + channel, y));
            (rgb, 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2])
        }
        PixelFormat::Grey => ([at(0, x, y); 3], at(0, x, y)),
        _ => {
            let v = planes[0].height.div_ceil(planes[1].height);
            let luma = at(0, x, y);
            let [blue, red] = [1, 2].map(|plane| at(plane, x / 2, y / v) - 128.0);
            let rgb = [
                luma + 1.402 * red,
                luma - 0.344_136 * blue - 0.714_136 * red,
                luma + 1.772 * blue,
            ];
            (rgb.map(|channel| channel.clamp(0.0, 255.0)), luma)
        }
    }
}

#[test]
fn pixels_of_raw_pictures_are_what_jfif_says_in_every_orientation() {
    let mut codec = Codec::new();
    for format in raw_formats() {
        for &(width, height) in &SIZES[..6] {
            let (planes, data) = picture(format, width, height, 5);
            let there = Picture::Raw(raw(format, width, height, &data));
            for (wanted, orientation) in PIXELS
                .into_iter()
                .flat_map(|wanted| orientations().map(move |orientation| (wanted, orientation)))
            {
                let recipe = PixelRecipe {
                    crop: None,
                    orientation,
                    ..pixel_recipe(wanted)
                };
                let got = pixels(&mut codec, &there, &recipe);
                let channels: Vec<Samples> = (0..3)
                    .map(|channel| {
                        Samples::new(width, height, |x, y| {
                            let (rgb, grey) = pixel_of(format, &planes, x, y);
                            match wanted {
                                PixelFormat::Rgb24 => rgb[channel],
                                PixelFormat::Bgr24 => rgb[2 - channel],
                                _ => grey,
                            }
                            .round() as u8
                        })
                        .turned(orientation)
                    })
                    .collect();
                let size = got.size.expect("a picture");
                assert_eq!(
                    (size.width as usize, size.height as usize),
                    (channels[0].width, channels[0].height)
                );
                let count = got.rows.len() / channels[0].data.len();
                for (i, sample) in got.rows.iter().enumerate() {
                    let expected = channels[i % count].data[i / count];
                    assert!(
                        sample.abs_diff(expected) <= 1,
                        "{format:?} {width}x{height} as {wanted:?} {orientation:?}: {sample}, not {expected}, at {i}"
                    );
                }
            }
        }
    }
}

#[test]
fn pixels_of_jpegs_are_what_ffmpeg_shows() {
    let mut codec = Codec::new();
    for (width, height, bounds) in TURNED {
        for (what, _, camera) in cameras(width, height) {
            for (wanted, pix_fmt) in PIXELS.into_iter().zip(["rgb24", "bgr24", "gray"]) {
                // Each run of ffmpeg takes its time: one turn for each format, and all for one.
                for orientation in orientations() {
                    if wanted != PixelFormat::Rgb24 && orientation != Orientation::quarters(1) {
                        continue;
                    }
                    let recipe = PixelRecipe {
                        crop: None,
                        bounds: Bounds {
                            within: bounds,
                            ..Bounds::NONE
                        },
                        orientation,
                        ..pixel_recipe(wanted)
                    };
                    let got = pixels(&mut codec, &Picture::Jpeg(&camera), &recipe);
                    let size = got.size.expect("a picture");
                    assert_eq!(size, recipe.size(self::size(width as u16, height as u16)));
                    assert!(size.width <= bounds.width && size.height <= bounds.height);
                    let theirs =
                        turned_by_ffmpeg(&["-f", "mjpeg"], &camera, orientation, size, pix_fmt);
                    let psnr = psnr(&got.rows, &theirs);
                    assert!(
                        psnr >= 30.0,
                        "{what} {width}x{height} as {wanted:?} {orientation:?}: {psnr:.1} dB"
                    );
                }
            }
        }
    }
}

#[test]
fn pixels_are_made_smaller_as_the_mean_of_what_they_cover() {
    let mut codec = Codec::new();
    let (_, data) = picture(PixelFormat::Yuyv, 64, 48, 0);
    let there = Picture::Raw(raw(PixelFormat::Yuyv, 64, 48, &data));
    let whole = pixels(&mut codec, &there, &pixel_recipe(PixelFormat::Rgb24));
    let recipe = PixelRecipe {
        crop: None,
        bounds: Bounds {
            within: size(32, 32),
            ..Bounds::NONE
        },
        ..pixel_recipe(PixelFormat::Rgb24)
    };
    let half = pixels(&mut codec, &there, &recipe);
    assert_eq!(half.size, Some(size(32, 24)));
    for (i, sample) in half.rows.iter().enumerate() {
        let (x, y, channel) = (i / 3 % 32, i / 96, i % 3);
        let at = |dx, dy| u32::from(whole.rows[((2 * y + dy) * 64 + 2 * x + dx) * 3 + channel]);
        let mean = (at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1) + 2) / 4;
        assert!(u32::from(*sample).abs_diff(mean) <= 1, "{i}");
    }
}

#[test]
fn a_stamp_is_in_the_pixels_upright_and_nowhere_else() {
    let mut codec = Codec::new();
    let stamp = stamp();
    let (_, data) = picture(PixelFormat::Nv12, 480, 640, 0);
    let there = Picture::Raw(raw(PixelFormat::Nv12, 480, 640, &data));
    for wanted in PIXELS {
        let recipe = PixelRecipe {
            crop: None,
            orientation: Orientation::quarters(1),
            ..pixel_recipe(wanted)
        };
        let plain = pixels(&mut codec, &there, &recipe);
        let stamped = PixelRecipe {
            crop: None,
            stamp: Some(&stamp),
            ..recipe
        };
        let stamped = pixels(&mut codec, &there, &stamped);
        let placed = stamp.place(size(640, 480)).expect("there is room");
        let count = plain.rows.len() / (640 * 480);
        let mut row = vec![0; placed.right()];
        for y in 0..480 {
            let inside = y >= placed.top();
            if inside {
                placed.draw(y, &mut row);
            }
            for x in 0..640 {
                let at = (y * 640 + x) * count;
                let expected = match row.get(x) {
                    Some(&luma) if inside => vec![luma; count],
                    _ => plain.rows[at..at + count].to_vec(),
                };
                assert_eq!(&stamped.rows[at..at + count], expected, "{x},{y}");
            }
        }
    }
}

#[test]
fn pixels_that_cannot_be_had_are_an_error_and_the_next_picture_is_none_the_worse() {
    let mut codec = Codec::new();
    let (_, data) = picture(PixelFormat::Yu12, 64, 48, 0);
    let good = Picture::Raw(raw(PixelFormat::Yu12, 64, 48, &data));
    let mut out = FrameBuf::new(1 << 20);
    codec.make(&good, &Recipe::at(80), &mut out).unwrap();
    let jpeg = out.as_slice().to_vec();
    let expected = pixels(
        &mut codec,
        &Picture::Jpeg(&jpeg),
        &pixel_recipe(PixelFormat::Rgb24),
    );
    let mut nowhere = Collected::default();
    for cut in [0, 2, 20, jpeg.len() / 2] {
        let cut = &jpeg[..cut];
        let recipe = pixel_recipe(PixelFormat::Rgb24);
        let result = codec.pixels(&Picture::Jpeg(cut), &recipe, &mut nowhere);
        assert!(result.is_err(), "{result:?}");
    }
    for format in [PixelFormat::Mjpeg, PixelFormat::Yuyv] {
        for picture in [good, Picture::Jpeg(&jpeg)] {
            let result = codec.pixels(&picture, &pixel_recipe(format), &mut nowhere);
            assert!(matches!(result, Err(CodecError::Unsupported(_))));
        }
    }
    let short = RawPicture {
        height: 480,
        ..raw(PixelFormat::Yu12, 64, 48, &data)
    };
    let recipe = pixel_recipe(PixelFormat::Rgb24);
    let result = codec.pixels(&Picture::Raw(short), &recipe, &mut nowhere);
    assert!(
        matches!(result, Err(CodecError::Short { .. })),
        "{result:?}"
    );
    let again = pixels(&mut codec, &Picture::Jpeg(&jpeg), &recipe);
    assert!(again.rows == expected.rows);
}

#[path = "codec/crop.rs"]
mod crop;
