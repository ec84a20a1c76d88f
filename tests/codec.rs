//! The codec against another make: what camd encodes, ffmpeg decodes, and the other way round.

use std::cell::Cell;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use camd::codec::{Codec, CodecError, Recipe};
use camd::frame::{FrameBuf, Picture, PixelFormat, Plane, RawPicture, Size};
use camd::jpeg;
use camd::stamp::Stamp;
use camd::times::Phase;

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
        PixelFormat::Mjpeg => unreachable!(),
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

/// ffmpeg's name for what the JPEG of a picture in this format decodes to, unconverted.
fn pix_fmt(format: PixelFormat) -> &'static str {
    match format {
        PixelFormat::Yuyv | PixelFormat::Uyvy => "yuvj422p",
        PixelFormat::Nv12 | PixelFormat::Yu12 => "yuvj420p",
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => "rgb24",
        PixelFormat::Grey => "gray",
        PixelFormat::Mjpeg => unreachable!(),
    }
}

fn raw_formats() -> impl Iterator<Item = PixelFormat> {
    PixelFormat::ALL
        .into_iter()
        .filter(|&format| format != PixelFormat::Mjpeg)
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
    for format in raw_formats() {
        for (width, height) in SIZES {
            for extra in [0, 24] {
                let what = format!("{format:?} {width}x{height}, stride + {extra}");
                let (shown, planes) = picture(format, width, height, extra);
                codec
                    .encode(&raw(format, width, height, &planes), 90, &mut out)
                    .unwrap();
                let found = jpeg::inspect(out.as_slice()).expect(&what);
                assert_eq!(
                    (found.width as usize, found.height as usize),
                    (width, height)
                );
                assert_eq!((found.end, found.tables), (out.len(), None), "{what}");
                let decoded = decode(out.as_slice(), pix_fmt(format));
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
            let error = codec.transcode(&source[..n], 80, &mut out).unwrap_err();
            assert!(
                error == CodecError::Truncated || (n == 0 && error != CodecError::Truncated),
                "{what}, {n} bytes: {error}"
            );
            assert!(out.is_empty());
        }
    }
}

#[test]
fn damaged_jpegs_never_harm() {
    // xorshift64*, reproducible.
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut below = |n: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as usize % n
    };
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
    let (mut good, mut failed) = (0, 0);
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
        match codec.make(
            &Picture::Jpeg(&damaged),
            &Recipe::at(50).within(bounds),
            &mut out,
        ) {
            Ok(()) => {
                jpeg::inspect(out.as_slice()).unwrap_or_else(|error| panic!("{round}: {error}"));
                good += 1;
            }
            Err(_) => {
                assert!(out.is_empty());
                failed += 1;
            }
        }
        if round % 100 == 0 {
            codec.transcode(&own, 50, &mut out).unwrap();
            assert_eq!(out.as_slice(), expected, "round {round}");
        }
    }
    // Both ways were gone.
    assert!(good > 1000 && failed > 1000, "{good} good, {failed} failed");
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
            // RGB goes through libjpeg's conversion and becomes 4:2:0.
            let shown = match format {
                PixelFormat::Rgb24 | PixelFormat::Bgr24 => "yuvj420p",
                _ => pix_fmt(format),
            };
            let (dimensions, name) = (
                format!("{width}x{height}"),
                match format {
                    PixelFormat::Bgr24 => "bgr24",
                    other => raw_pix_fmt(other),
                },
            );
            let input = ["-f", "rawvideo", "-pix_fmt", name, "-s", &dimensions];
            for (bounds, quality) in PROFILES {
                let size = source.fit(bounds);
                let what = format!("{format:?} {dimensions} in {size:?} q{quality}");
                let picture = Picture::Raw(raw(format, width, height, &planes));
                codec
                    .make(&picture, &Recipe::at(quality).within(bounds), &mut out)
                    .expect(&what);
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
            for (bounds, quality) in PROFILES.into_iter().chain(more) {
                let size = source.fit(bounds);
                let what = format!("{pix_fmt} {dimensions} in {size:?} q{quality}");
                codec
                    .make(
                        &Picture::Jpeg(&camera),
                        &Recipe::at(quality).within(bounds),
                        &mut out,
                    )
                    .expect(&what);
                let theirs = reference(&["-f", "mjpeg"], &camera, size, pix_fmt, quality);
                assert_alike(&what, out.as_slice(), &theirs, size, pix_fmt);
            }
        }
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
            let shown = match format {
                PixelFormat::Rgb24 | PixelFormat::Bgr24 => "yuvj420p",
                _ => pix_fmt(format),
            };
            for bounds in STAMPED {
                let what = format!("{format:?} {width}x{height} in {bounds:?}");
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
    let jpeg = out.as_slice().to_vec();
    assert_eq!((codec.spent(), READINGS.get()), ([Duration::ZERO; 3], 0));

    codec.set_clock(clock);
    let mut spent = |picture: &Picture<'_>, bounds| {
        // One that cannot be made leaves nothing behind for the next.
        codec.transcode(&jpeg[..200], 80, &mut out).unwrap_err();
        READINGS.set(0);
        let recipe = Recipe::at(80).within(bounds);
        codec.make(picture, &recipe, &mut out).unwrap();
        let spent = codec.spent();
        let all = Duration::from_millis(1) * (READINGS.get() - 1);
        assert_eq!(spent.iter().sum::<Duration>(), all, "no time is lost");
        let [decode, scale, encode] = Phase::ALL.map(|phase| spent[phase as usize].as_millis());
        println!("{decode} decode, {scale} scale, {encode} encode");
        (decode, scale, encode)
    };
    let whole = size(640, 480);
    // 60 rows of MCUs, and libjpeg's start and end. Before each call there is time for the samples.
    assert_eq!(spent(&raw, whole), (0, 62, 62));
    assert_eq!(spent(&raw, size(320, 240)), (0, 32, 32));
    assert_eq!(spent(&rgb, whole), (0, 482, 482), "line by line");
    // And the header.
    assert_eq!(spent(&Picture::Jpeg(&jpeg), whole), (63, 125, 62));
    assert_eq!(spent(&Picture::Jpeg(&jpeg), size(80, 60)), (63, 73, 10));
}
