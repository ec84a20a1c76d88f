//! JPEGs and raw pictures through libjpeg, in all ways: made smaller, turned, cropped, in another quality, stamped, turned and cut
//! without loss, and as pixels. What is made must be a JPEG of the right size, and the same whatever was made before: nothing of
//! another picture may be left in it.
#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use camd::encode::codec::{Codec, CodecError, PixelRecipe, Recipe, Rows};
use camd::picture::frame::{
    Area, Bounds, Chroma, FrameBuf, Orientation, Picture, PixelFormat, Plane, RawPicture, Size,
};
use camd::picture::jpeg;
use camd::picture::stamp::Stamp;
use camd_fuzz::Input;

/// Larger pictures only take longer.
const PIXELS: u32 = 1 << 16;
const OUT: usize = 1 << 19;

struct Bench {
    codec: Codec,
    /// Has made something else before.
    used: Codec,
    out: FrameBuf,
    other: FrameBuf,
    stamp: Stamp,
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench {
        codec: Codec::new(),
        used: Codec::new(),
        out: FrameBuf::new(OUT),
        other: FrameBuf::new(OUT),
        stamp: Stamp::new("fuzz φ"),
    });
}

struct Wishes {
    orientation: Orientation,
    crop: Option<Area>,
    bounds: Bounds,
    quality: u8,
    chroma: Chroma,
    stamped: bool,
    pixels: PixelFormat,
}

fn wishes(input: &mut Input<'_>) -> Wishes {
    let flags = input.byte();
    let quality = input.byte();
    let within = input.byte();
    let crop = [input.byte(), input.byte(), input.byte(), input.byte()].map(u16::from);
    Wishes {
        orientation: Orientation::quarters(flags & 3).mirrored(flags & 4 != 0, false),
        crop: (flags & 8 != 0).then(|| Area {
            x: crop[0],
            y: crop[1],
            width: crop[2].max(1),
            height: crop[3].max(1),
        }),
        bounds: match within {
            0 => Bounds::NONE,
            n => Bounds {
                within: Size {
                    width: u16::from(n),
                    height: u16::from(n),
                },
                ..Bounds::NONE
            },
        },
        quality: 1 + quality % 100,
        chroma: [Chroma::Yuv420, Chroma::Yuv422][usize::from(flags >> 4 & 1)],
        stamped: flags & 32 != 0,
        pixels: match flags >> 6 {
            0 => PixelFormat::Rgb24,
            1 => PixelFormat::Bgr24,
            _ => PixelFormat::Grey,
        },
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let kind = input.byte();
    let wishes = wishes(&mut input);
    BENCH.with_borrow_mut(|bench| match kind & 1 {
        0 => jpeg(input.0, &wishes, bench),
        _ => raw(kind >> 1, &mut input, &wishes, bench),
    });
});

fn jpeg(bytes: &[u8], wishes: &Wishes, bench: &mut Bench) {
    let Ok(found) = jpeg::inspect(bytes) else {
        return;
    };
    let size = Size {
        width: found.width,
        height: found.height,
    };
    if u32::from(size.width) * u32::from(size.height) > PIXELS {
        return;
    }
    let whole = &bytes[found.range()];
    make(&Picture::Jpeg(whole), size, wishes, bench);
    let [out, other] = [&mut bench.out, &mut bench.other];
    let turned = bench.codec.turn(whole, wishes.orientation, out);
    assert_eq!(turned, bench.used.turn(whole, wishes.orientation, other));
    assert!(
        out.as_slice() == other.as_slice(),
        "something was left over"
    );
    match turned {
        Ok(()) => {
            let made = jpeg::inspect(out.as_slice()).expect("a JPEG");
            let right = wishes.orientation.turn(size);
            assert_eq!((made.width, made.height), (right.width, right.height));
        }
        Err(_) => assert!(out.is_empty()),
    }
    if let Some(area) = wishes.crop {
        let cut = bench.codec.cut(whole, wishes.orientation, area, out);
        let again = bench.used.cut(whole, wishes.orientation, area, other);
        assert_eq!(cut, again);
        assert!(
            out.as_slice() == other.as_slice(),
            "something was left over"
        );
        if let Ok(area) = cut {
            let made = jpeg::inspect(out.as_slice()).expect("a JPEG");
            let right = wishes.orientation.turn(area.size());
            assert_eq!((made.width, made.height), (right.width, right.height));
        }
    }
}

/// A picture of a driver, whose planes hold what they hold.
fn raw(kind: u8, input: &mut Input<'_>, wishes: &Wishes, bench: &mut Bench) {
    const FORMATS: [PixelFormat; 9] = [
        PixelFormat::Yuyv,
        PixelFormat::Uyvy,
        PixelFormat::Yvyu,
        PixelFormat::Vyuy,
        PixelFormat::Nv12,
        PixelFormat::Yu12,
        PixelFormat::Rgb24,
        PixelFormat::Bgr24,
        PixelFormat::Grey,
    ];
    let format = FORMATS[usize::from(kind) % FORMATS.len()];
    let [width, height] = [input.byte(), input.byte()].map(u16::from);
    let size = Size { width, height };
    let strides = [input.byte(), input.byte(), input.byte()].map(usize::from);
    let mut planes = [Plane::default(); 3];
    for (plane, stride) in planes.iter_mut().zip(strides) {
        // Heap of its own size, so that AddressSanitizer sees its end.
        *plane = Plane {
            data: input.0,
            stride: stride * 3,
        };
    }
    let raw = RawPicture {
        format,
        width,
        height,
        planes,
    };
    make(&Picture::Raw(raw), size, wishes, bench);
}

fn make(picture: &Picture<'_>, size: Size, wishes: &Wishes, bench: &mut Bench) {
    bench.stamp.set(Duration::from_secs(1_000_000_000));
    let recipe = Recipe {
        chroma: wishes.chroma,
        crop: wishes
            .crop
            .map(|area| area.within(size))
            .filter(|area| area.width > 0 && area.height > 0),
        bounds: wishes.bounds,
        orientation: wishes.orientation,
        stamp: wishes.stamped.then_some(&bench.stamp),
        ..Recipe::at(wishes.quality)
    };
    let made = bench.codec.make(picture, &recipe, &mut bench.out);
    let again = bench.used.make(picture, &recipe, &mut bench.other);
    assert_eq!(made, again);
    if made.is_ok() {
        assert!(
            bench.out.as_slice() == bench.other.as_slice(),
            "something was left over"
        );
        jpeg::inspect(bench.out.as_slice()).expect("a JPEG");
    }
    let recipe = PixelRecipe {
        format: wishes.pixels,
        crop: recipe.crop,
        bounds: recipe.bounds,
        orientation: recipe.orientation,
        stamp: recipe.stamp,
    };
    let [mut first, mut second] = [Taken::default(), Taken::default()];
    let made = bench.codec.pixels(picture, &recipe, &mut first);
    let again = bench.used.pixels(picture, &recipe, &mut second);
    assert_eq!(made, again);
    if let Ok(size) = made {
        assert_eq!(first.size, Some(size));
        let channels = if wishes.pixels == PixelFormat::Grey {
            1
        } else {
            3
        };
        let pixels = usize::from(size.width) * usize::from(size.height);
        assert_eq!(first.bytes.len(), channels * pixels);
        assert!(first.bytes == second.bytes, "something was left over");
    }
    // From here on the second one has something else in its memory.
    let noise = [wishes.quality; 64 * 48];
    let mut planes = [Plane::default(); 3];
    planes[0] = Plane {
        data: &noise,
        stride: 64,
    };
    let other = RawPicture {
        format: PixelFormat::Grey,
        width: 64,
        height: 48,
        planes,
    };
    let made: Result<(), CodecError> = bench.used.encode(&other, wishes.quality, &mut bench.other);
    made.expect("a small picture");
}

#[derive(Default)]
struct Taken {
    size: Option<Size>,
    bytes: Vec<u8>,
}

impl Rows for Taken {
    fn start(&mut self, size: Size) {
        self.size = Some(size);
        self.bytes.clear();
    }

    fn row(&mut self, row: &[u8]) {
        self.bytes.extend(row);
    }
}
