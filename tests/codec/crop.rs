//! Parts of pictures: against ffmpeg's filter "crop", and against the whole picture.

use super::*;
use camd::picture::frame::Area;

const fn area(x: u16, y: u16, width: u16, height: u16) -> Area {
    Area {
        x,
        y,
        width,
        height,
    }
}

/// Of a picture of 149x107: whole blocks, none, one pixel left at each edge, a single column of blocks, and the last pixels.
const PARTS: [Area; 6] = [
    area(16, 32, 64, 48),
    area(13, 9, 71, 50),
    area(1, 1, 147, 105),
    area(38, 21, 16, 86),
    area(132, 91, 17, 16),
    area(0, 0, 149, 33),
];

fn crop_by_ffmpeg(
    (input, bytes): (&[&str], &[u8]),
    part: Area,
    orientation: Orientation,
    size: Size,
    pix_fmt: &str,
) -> Vec<u8> {
    let Area {
        x,
        y,
        width,
        height,
    } = part;
    let filter = format!(
        "scale=in_range=full:out_range=full,format={pix_fmt},crop={width}:{height}:{x}:{y}:exact=1,{},scale={}:{}:flags=area",
        filters(orientation),
        size.width,
        size.height
    );
    let output = ["-i", "-", "-vf", &filter, "-f", "rawvideo", "-"];
    ffmpeg(&[input, &output].concat(), bytes)
}

/// Crops `picture` in all ways and compares with ffmpeg. `grid`: columns and lines that share their colour.
fn assert_crops(
    what: &str,
    picture: &Picture<'_>,
    source: (&[&str], &[u8]),
    pix_fmt: &str,
    grid: (u16, u16),
) {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for (number, part) in PARTS.into_iter().enumerate() {
        for bounds in [Bounds::NONE.within, size(40, 40)] {
            // ffmpeg's scaler has its own idea of the colours of odd sizes.
            if bounds != Bounds::NONE.within && number != 0 {
                continue;
            }
            for transpose in [false, true] {
                if transpose && grid == (2, 1) {
                    // ffmpeg transposes only what is sampled alike in both directions.
                    continue;
                }
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                let turns = orientations().filter(|o| o.transpose == transpose);
                let shown = Orientation {
                    transpose,
                    ..Orientation::UPRIGHT
                }
                .turn(part.size())
                .fit(bounds);
                for orientation in turns {
                    // Colours of an odd side lie half a sample aside once they are mirrored, with ffmpeg in another way.
                    let odd = |mirror, side: u16, grid: u16| mirror && grid > 1 && side % 2 == 1;
                    let flips = orientation.inverse();
                    if odd(flips.mirror_x, part.width, grid.0)
                        || odd(flips.mirror_y, part.height, grid.1)
                    {
                        continue;
                    }
                    let what = format!("{what} {part} {orientation:?} in {shown:?}");
                    let recipe = Recipe::at(92)
                        .cropped(part)
                        .within(bounds)
                        .turned(orientation);
                    codec.make(picture, &recipe, &mut out).expect(&what);
                    ours.push((what, out.as_slice().to_vec()));
                    let part = part.on_grid(grid.0, grid.1);
                    theirs.push(crop_by_ffmpeg(source, part, orientation, shown, pix_fmt));
                }
                // A pixel aside, it would be below 36 dB.
                assert_show_alike(&ours, &theirs, shown, pix_fmt, 42.0);
            }
        }
    }
}

#[test]
fn parts_of_raw_pictures_are_those_of_ffmpeg() {
    for format in raw_formats() {
        let width = match format {
            PixelFormat::Yuyv | PixelFormat::Uyvy => 150,
            _ => 149,
        };
        let (_, planes) = picture(format, width, 107, 0);
        let bytes: Vec<u8> = planes.iter().flat_map(|(data, _)| data.clone()).collect();
        let dimensions = format!("{width}x107");
        let name = match format {
            PixelFormat::Bgr24 => "bgr24",
            other => raw_pix_fmt(other),
        };
        let input = ["-f", "rawvideo", "-pix_fmt", name, "-s", &dimensions];
        let picture = Picture::Raw(raw(format, width, 107, &planes));
        let (shown, grid) = match format {
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => ("gray", (1, 1)),
            other => (pix_fmt(other), other.grid()),
        };
        assert_crops(
            &format!("{format:?}"),
            &picture,
            (&input, &bytes),
            shown,
            grid,
        );
    }
}

#[test]
fn parts_of_jpegs_are_those_of_ffmpeg() {
    for (pix_fmt, _, source) in cameras(149, 107) {
        let grid = match pix_fmt {
            "yuvj420p" => (2, 2),
            "yuvj422p" => (2, 1),
            _ => (1, 1),
        };
        let input = ["-f", "mjpeg"];
        assert_crops(
            pix_fmt,
            &Picture::Jpeg(&source),
            (&input, &source),
            pix_fmt,
            grid,
        );
    }
}

/// What a part of decoded planes looks like, if these have their colours at every pixel.
fn part_of(samples: &[u8], whole: Size, part: Area) -> Vec<u8> {
    let (width, height) = (usize::from(whole.width), usize::from(whole.height));
    let mut out = Vec::new();
    for plane in samples.chunks_exact(width * height) {
        for line in plane
            .chunks_exact(width)
            .skip(part.y.into())
            .take(part.height.into())
        {
            out.extend_from_slice(&line[part.x.into()..][..part.width.into()]);
        }
    }
    out
}

#[test]
fn jpegs_in_any_sampling_are_cropped() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    let whole = size(75, 53);
    for (what, source) in OTHERS {
        // Brightness only: of some samplings next to no colour is left.
        let upright = decode(source, "gray");
        for part in [
            area(5, 3, 33, 21),
            area(12, 8, 40, 40),
            area(56, 32, 19, 21),
        ] {
            for orientation in [0, 1].map(Orientation::quarters) {
                let what = format!("{what} {part} {orientation:?}");
                let recipe = Recipe::at(95).cropped(part).turned(orientation);
                let picture = Picture::Jpeg(source);
                codec.make(&picture, &recipe, &mut out).expect(&what);
                let shown = orientation.turn(part.size());
                let [w, h] = [part.width, part.height].map(usize::from);
                // It begins where the colours do.
                let grid = match what.split(' ').next() {
                    Some("410") => (4, 2),
                    Some("411") => (4, 1),
                    Some("422") => (2, 1),
                    Some("440") => (1, 2),
                    Some("420") => (2, 2),
                    _ => (1, 1),
                };
                let data = part_of(&upright, whole, part.on_grid(grid.0, grid.1));
                let expected = Samples::new(w, h, |x, y| data[y * w + x]);
                let got = decode(out.as_slice(), "gray");
                let nearest = psnr(&got, &expected.turned(orientation).data);
                println!("{what}: {nearest:.1} dB");
                let found = jpeg::inspect(out.as_slice()).expect(&what);
                assert_eq!(size(found.width, found.height), shown, "{what}");
                assert!(nearest >= 42.0, "{what}: {nearest:.1} dB");
            }
        }
    }
}

struct Image(Vec<u8>, Size);

impl Rows for Image {
    fn start(&mut self, size: Size) {
        self.1 = size;
    }

    fn row(&mut self, row: &[u8]) {
        self.0.extend_from_slice(row);
    }
}

/// The brightness of a JPEG, by libjpeg: ffmpeg, a process for each picture, would take minutes.
fn brightness(codec: &mut Codec, jpeg: &[u8]) -> Vec<u8> {
    let mut image = Image(Vec::new(), size(0, 0));
    let recipe = pixel_recipe(PixelFormat::Grey);
    let picture = Picture::Jpeg(jpeg);
    codec.pixels(&picture, &recipe, &mut image).expect("pixels");
    image.0
}

#[test]
fn pixels_of_a_part_are_those_of_the_whole() {
    let mut codec = Codec::new();
    let mut pixels = |picture: &Picture<'_>, crop, format, orientation| {
        let recipe = PixelRecipe {
            format,
            crop,
            bounds: Bounds::NONE,
            orientation,
            stamp: None,
        };
        let mut image = Image(Vec::new(), size(0, 0));
        let size = codec.pixels(picture, &recipe, &mut image).expect("pixels");
        assert_eq!(size, image.1);
        assert_eq!(size, recipe.size(self::size(149, 107)));
        image.0
    };
    let jpegs = cameras(149, 107);
    let raws: Vec<_> = raw_formats()
        .map(|format| (format, zoomed_picture(format, 149, 107, 3, 2).1))
        .collect();
    let raws = raws
        .iter()
        .map(|(format, planes)| (Picture::Raw(raw(*format, 149, 107, planes)), format.grid()));
    let jpegs = jpegs.iter().map(|(pix_fmt, _, jpeg)| {
        let grid = match *pix_fmt {
            "yuvj420p" => (2, 2),
            "yuvj422p" => (2, 1),
            _ => (1, 1),
        };
        (Picture::Jpeg(jpeg), grid)
    });
    for (picture, grid) in raws.chain(jpegs) {
        for (format, channels) in [(PixelFormat::Rgb24, 3), (PixelFormat::Grey, 1)] {
            let whole = pixels(&picture, None, format, Orientation::UPRIGHT);
            for part in PARTS {
                for orientation in orientations() {
                    let got = pixels(&picture, Some(part), format, orientation);
                    let real = part.on_grid(grid.0, grid.1);
                    let turned: Vec<Samples> = (0..channels)
                        .map(|channel| {
                            Samples::new(part.width.into(), part.height.into(), |x, y| {
                                let (x, y) = (x + usize::from(real.x), y + usize::from(real.y));
                                whole[(y * 149 + x) * channels + channel]
                            })
                            .turned(orientation)
                        })
                        .collect();
                    let expected: Vec<u8> = (0..turned[0].data.len())
                        .flat_map(|i| turned.iter().map(move |plane| plane.data[i]))
                        .collect();
                    assert!(got == expected, "{grid:?} {part} {orientation:?}");
                }
            }
        }
    }
}

/// The smallest part in whole MCUs to the left and above, as viewers see it, that has this one.
fn in_blocks(shown: Area, (width, height): (u16, u16), (left, top): (u16, u16)) -> Area {
    let (dx, dy) = ((shown.x - left) % width, (shown.y - top) % height);
    Area {
        x: shown.x - dx,
        y: shown.y - dy,
        width: shown.width + dx,
        height: shown.height + dy,
    }
}

#[test]
fn a_jpeg_is_cut_without_loss_in_whole_blocks() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    // Whole MCUs, and rests of one pixel and of nearly a block.
    for (width, height) in [(160, 112), (149, 107), (161, 97)] {
        let whole = size(width, height);
        for (pix_fmt, _, source) in cameras(width.into(), height.into()) {
            let mcu = match pix_fmt {
                "yuvj420p" => (16, 16),
                "yuvj422p" => (16, 8),
                // ffmpeg has twice as many lines of each component in an MCU as it needs.
                "yuvj444p" => (8, 16),
                _ => (8, 8),
            };
            let luma = brightness(&mut codec, &source);
            let luma = Samples::new(width.into(), height.into(), |x, y| {
                luma[y * usize::from(width) + x]
            });
            let (mut cut, mut partial) = (0, 0);
            let step = if width == 149 { 1 } else { 2 };
            for part in PARTS.iter().step_by(step).map(|part| part.within(whole)) {
                for orientation in orientations() {
                    let what = format!("{pix_fmt} {width}x{height} {part} {orientation:?}");
                    let turned_mcu = match orientation.transpose {
                        true => (mcu.1, mcu.0),
                        false => mcu,
                    };
                    let all = orientation.turn(whole);
                    // An edge to the right of which there is a part of an MCU is to the left of it when it is mirrored.
                    let rest =
                        |mirror: bool, side: u16, mcu: u16| if mirror { side % mcu } else { 0 };
                    let left = rest(orientation.mirror_x, all.width, turned_mcu.0);
                    let top = rest(orientation.mirror_y, all.height, turned_mcu.1);
                    let shown = orientation.turn_area(part, whole);
                    let result = codec.cut(&source, orientation, part, &mut out);
                    if shown.x < left || shown.y < top {
                        assert_eq!(result, Err(CodecError::PartialMcu), "{what}");
                        assert!(out.is_empty());
                        partial += 1;
                        continue;
                    }
                    cut += 1;
                    let got = result.expect(&what);
                    let expected = in_blocks(shown, turned_mcu, (left, top));
                    assert_eq!(orientation.turn_area(got, whole), expected, "{what}");
                    let found = jpeg::inspect(out.as_slice()).expect(&what);
                    assert_eq!(size(found.width, found.height), expected.size(), "{what}");
                    assert_eq!(found.end, out.len(), "{what}");
                    let turned = luma.turned(orientation);
                    let expected = part_of(&turned.data, all, expected);
                    let shows = brightness(&mut codec, out.as_slice());
                    // A transposed or mirrored block is decoded with other roundings.
                    if orientation == Orientation::UPRIGHT {
                        assert!(shows == expected, "{what}");
                    }
                    let db = psnr(&shows, &expected);
                    assert!(db >= 50.0, "{what}: {db:.1} dB");
                }
            }
            assert!(
                cut > 12,
                "{pix_fmt} {width}x{height}: {cut} cut, {partial} not"
            );
            assert_eq!(partial > 0, (width, height) != (160, 112), "{pix_fmt}");
        }
    }
}

#[test]
fn colours_are_cut_without_loss_too() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    for (pix_fmt, _, source) in cameras(149, 107) {
        let input = ["-f", "mjpeg"];
        for part in PARTS {
            let what = format!("{pix_fmt} {part}");
            let real = codec.cut(&source, Orientation::UPRIGHT, part, &mut out);
            let real = real.expect(&what);
            let shown = real.size();
            let expected = crop_by_ffmpeg(
                (&input, &source),
                real,
                Orientation::UPRIGHT,
                shown,
                pix_fmt,
            );
            assert!(
                decode(out.as_slice(), pix_fmt) == expected,
                "{what}: {real}"
            );
        }
    }
}

#[test]
fn progressive_jpegs_and_rare_samplings_are_cut_or_made_again() {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 20);
    let whole = size(75, 53);
    let mut cut = 0;
    for (what, source) in OTHERS {
        let upright = decode(source, "gray");
        for part in [area(16, 16, 40, 20), area(33, 9, 42, 44)] {
            match codec.cut(source, Orientation::UPRIGHT, part, &mut out) {
                Ok(real) => {
                    cut += 1;
                    assert!(real.x <= part.x && real.x + real.width == part.x + part.width);
                    assert!(real.y <= part.y && real.y + real.height == part.y + part.height);
                    let expected = part_of(&upright, whole, real);
                    let shows = decode(out.as_slice(), "gray");
                    let db = psnr(&shows, &expected);
                    assert!(db >= 50.0, "{what} {part}: {db:.1} dB");
                }
                Err(error) => {
                    println!("{what}: {error}");
                    let recipe = Recipe::at(90).cropped(part);
                    let picture = Picture::Jpeg(source);
                    codec.make(&picture, &recipe, &mut out).expect(what);
                    let found = jpeg::inspect(out.as_slice()).expect(what);
                    assert_eq!(size(found.width, found.height), part.size());
                }
            }
        }
    }
    assert!(cut >= OTHERS.len(), "{cut}");
}

#[test]
fn damaged_jpegs_are_cropped_without_harm() {
    let mut random = fastrand::Rng::with_seed(2);
    let mut below = |n: usize| random.usize(..n);
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(1 << 16);
    let (mut good, mut failed) = ([0; 2], [0; 2]);
    let all: Vec<_> = orientations().collect();
    for round in 0..6_000 {
        let (_, source) = OTHERS[round % OTHERS.len()];
        let mut damaged = source.to_vec();
        for _ in 0..1 + below(4) {
            let end = if below(2) == 0 { 700 } else { damaged.len() };
            let at = below(end.min(damaged.len()));
            damaged[at] = below(256) as u8;
        }
        if below(4) == 0 {
            damaged.truncate(below(damaged.len()));
        }
        if jpeg::inspect(&damaged)
            .is_ok_and(|found| usize::from(found.width) * usize::from(found.height) > 1 << 16)
        {
            continue;
        }
        let part = area(
            below(80) as u16,
            below(60) as u16,
            1 + below(80) as u16,
            1 + below(60) as u16,
        );
        let orientation = all[below(8)];
        let within = size(1 + below(80) as u16, 1 + below(60) as u16);
        let recipe = Recipe::at(50)
            .cropped(part)
            .within(within)
            .turned(orientation);
        for cut in [false, true] {
            let result = match cut {
                true => codec.cut(&damaged, orientation, part, &mut out).map(|_| ()),
                false => codec.make(&Picture::Jpeg(&damaged), &recipe, &mut out),
            };
            match result {
                Ok(()) => {
                    good[usize::from(cut)] += 1;
                    jpeg::inspect(out.as_slice()).expect("a whole JPEG");
                }
                Err(_) => {
                    failed[usize::from(cut)] += 1;
                    assert!(out.is_empty());
                }
            }
        }
    }
    println!("good {good:?}, failed {failed:?}");
    assert!(good.iter().chain(&failed).all(|&n| n > 100));
}
