//! Pictures: borrowed ones that a source lends ([`Frame`]), and the fixed copies that outlive the loan ([`FrameBuf`]).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use memmap2::MmapMut;

/// What is known of a picture apart from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameMeta {
    /// Counts the pictures given to clients, from 1; strictly rising, also over a reopened camera.
    pub sequence: u64,
    /// When the picture was taken (start of exposure or end of transfer, as the driver defines it), monotonic.
    pub captured: Instant,
    /// The same moment as time since the Unix epoch.
    pub wall: Duration,
    /// As it is stored, before `orientation`.
    pub width: u16,
    /// As `width`.
    pub height: u16,
    /// What is still to be done so that viewers see it upright.
    pub orientation: Orientation,
    /// What the JPEG says of that itself, in its Exif, to whom it is passed on untouched: where another picture is made of
    /// it, that comes before `orientation`.
    pub exif: Orientation,
    /// False for the "no picture" card that stands in for a camera in trouble.
    pub live: bool,
}

impl FrameMeta {
    /// Of a picture that is taken now, or dated so for want of anything better: upright, live, not numbered yet.
    pub fn taken(now: Instant, width: u16, height: u16) -> Self {
        FrameMeta {
            sequence: 0,
            captured: now,
            wall: wall_clock(),
            width,
            height,
            orientation: Orientation::UPRIGHT,
            exif: Orientation::UPRIGHT,
            live: true,
        }
    }

    /// Its size as viewers see it.
    pub fn shown(&self) -> Size {
        self.turning().turn(Size {
            width: self.width,
            height: self.height,
        })
    }

    /// How it is to be turned where another picture is made of it, which then says nothing of that itself.
    pub fn turning(&self) -> Orientation {
        self.exif.then(self.orientation)
    }
}

/// Time since the Unix epoch; 0 on a board whose clock is before that. It may be set at any moment: ask for each picture.
pub fn wall_clock() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Of a picture or one of its components, in samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// In samples.
    pub width: u16,
    /// In samples.
    pub height: u16,
}

impl Size {
    /// The size in which a picture of this size is shown within `bounds`: the largest with its aspect ratio, as near as
    /// even numbers allow (4:2:0 wants them), and at least 2. A picture that fits already stays as it is, whatever its
    /// size: nothing is made larger, and nothing is put around it.
    pub fn fit(self, bounds: Size) -> Size {
        if self.width <= bounds.width && self.height <= bounds.height {
            return self;
        }
        let [width, height] = [self.width, self.height].map(u32::from);
        let [most_width, most_height] = [bounds.width, bounds.height].map(u32::from);
        // `long` becomes `most`, and `side` follows: the even number next to side * most / long.
        let follow = |side: u32, most: u32, long: u32| 2 * ((side * most + long) / (2 * long));
        let (fit_width, fit_height) = if width * most_height >= height * most_width {
            (most_width, follow(height, most_width, width))
        } else {
            (follow(width, most_height, height), most_height)
        };
        let even = |side: u32, bound: u16, own: u16| {
            let largest = bound.min(own);
            // Both fit into u16, being no larger than a bound.
            (side.min(largest.into()) as u16 & !1).max(2).min(own)
        };
        Size {
            width: even(fit_width, bounds.width, self.width),
            height: even(fit_height, bounds.height, self.height),
        }
    }
}

/// How large a picture may be, and what part of that it is to have: the size of a rendition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What it is to fit ([`Size::fit`]).
    pub within: Size,
    /// The sides of the result as eighths of what fits, 1 to 8: the scales in which a JPEG is decoded at the least cost.
    pub eighths: u8,
}

impl Bounds {
    /// Every picture as it is.
    pub const NONE: Bounds = Bounds {
        within: Size {
            width: u16::MAX,
            height: u16::MAX,
        },
        eighths: 8,
    };

    /// What `width` and `height` of the configuration mean; `None`: any.
    pub fn within(width: Option<u16>, height: Option<u16>) -> Bounds {
        let within = Size {
            width: width.unwrap_or(u16::MAX),
            height: height.unwrap_or(u16::MAX),
        };
        Bounds { within, eighths: 8 }
    }

    /// What a picture of this size becomes.
    pub fn fit(self, size: Size) -> Size {
        let fits = size.fit(self.within);
        let part =
            |side: u16| ((u32::from(side) * u32::from(self.eighths)).div_ceil(8) as u16).max(1);
        if self.eighths == 8 {
            fits
        } else {
            size.fit(Size {
                width: part(fits.width),
                height: part(fits.height),
            })
        }
    }
}

/// How a stored picture is to be turned: first its rows become columns, if at all, then it is mirrored. Together these
/// make the eight ways to lay a picture down, as Exif's orientation does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orientation {
    /// Mirrored at the diagonal from the upper left corner: width and height change places.
    pub transpose: bool,
    /// Left and right change places.
    pub mirror_x: bool,
    /// Top and bottom change places.
    pub mirror_y: bool,
}

impl Orientation {
    /// As it is.
    pub const UPRIGHT: Orientation = Orientation {
        transpose: false,
        mirror_x: false,
        mirror_y: false,
    };

    /// Turned clockwise by so many quarters.
    pub fn quarters(quarters: u8) -> Self {
        let quarters = quarters % 4;
        Orientation {
            transpose: quarters % 2 == 1,
            mirror_x: quarters == 1 || quarters == 2,
            mirror_y: quarters == 2 || quarters == 3,
        }
    }

    /// And mirrored after that.
    pub fn mirrored(self, x: bool, y: bool) -> Self {
        Orientation {
            mirror_x: self.mirror_x ^ x,
            mirror_y: self.mirror_y ^ y,
            ..self
        }
    }

    /// This one, and then another.
    pub fn then(self, next: Orientation) -> Self {
        // What mirrors the columns of a picture mirrors the rows of a transposed one.
        let (mirror_x, mirror_y) = match next.transpose {
            true => (self.mirror_y, self.mirror_x),
            false => (self.mirror_x, self.mirror_y),
        };
        Orientation {
            transpose: self.transpose ^ next.transpose,
            mirror_x: mirror_x ^ next.mirror_x,
            mirror_y: mirror_y ^ next.mirror_y,
        }
    }

    /// The size that viewers see of a picture stored in `size`.
    pub fn turn(self, size: Size) -> Size {
        if self.transpose {
            Size {
                width: size.height,
                height: size.width,
            }
        } else {
            size
        }
    }
}

/// A picture on loan from its source: the borrow ends before the source can touch the buffer again.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What is known about it.
    pub meta: FrameMeta,
    /// The picture itself.
    pub picture: Picture<'a>,
}

/// The two kinds of pictures that a source gives.
#[derive(Clone, Copy, Debug)]
pub enum Picture<'a> {
    /// One whole JPEG, SOI to EOI, with Huffman tables, nothing behind it.
    Jpeg(&'a [u8]),
    /// Not compressed.
    Raw(RawPicture<'a>),
}

/// An uncompressed picture. Which planes are used and how is up to `format`; unused ones are empty.
#[derive(Clone, Copy, Debug)]
pub struct RawPicture<'a> {
    /// How the samples lie in the planes.
    pub format: PixelFormat,
    /// In pixels.
    pub width: u16,
    /// In pixels.
    pub height: u16,
    /// Those that the format has come first.
    pub planes: [Plane<'a>; 3],
}

/// One plane of a raw picture. `data` holds at least `stride` bytes for each line but the last, and the last line's
/// pixels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plane<'a> {
    /// From the first byte of the first line.
    pub data: &'a [u8],
    /// Bytes from one line to the next (V4L2's `bytesperline`).
    pub stride: usize,
}

/// The pixel formats camd can serve, by their V4L2 names in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// `V4L2_PIX_FMT_MJPEG` and `V4L2_PIX_FMT_JPEG`.
    Mjpeg,
    /// Packed 4:2:2, Y0 Cb Y1 Cr.
    Yuyv,
    /// Packed 4:2:2, Cb Y0 Cr Y1.
    Uyvy,
    /// Packed 4:2:2, Y0 Cr Y1 Cb.
    Yvyu,
    /// Packed 4:2:2, Cr Y0 Cb Y1.
    Vyuy,
    /// 4:2:0 in two planes: Y, then interleaved Cb Cr.
    Nv12,
    /// 4:2:0 in two planes: Y, then interleaved Cr Cb.
    Nv21,
    /// 4:2:2 in two planes: Y, then interleaved Cb Cr.
    Nv16,
    /// 4:2:0 in three planes: Y, Cb, Cr (`V4L2_PIX_FMT_YUV420`).
    Yu12,
    /// 4:2:0 in three planes: Y, Cr, Cb (`V4L2_PIX_FMT_YVU420`).
    Yv12,
    /// 3 bytes a pixel: red, green, blue.
    Rgb24,
    /// 3 bytes a pixel: blue, green, red.
    Bgr24,
    /// 1 byte a pixel, no colour.
    Grey,
}

impl PixelFormat {
    /// All of them, in the order of the documentation: by what they usually cost.
    pub const ALL: [PixelFormat; 13] = [
        PixelFormat::Mjpeg,
        PixelFormat::Yu12,
        PixelFormat::Yv12,
        PixelFormat::Nv12,
        PixelFormat::Nv21,
        PixelFormat::Nv16,
        PixelFormat::Yuyv,
        PixelFormat::Uyvy,
        PixelFormat::Yvyu,
        PixelFormat::Vyuy,
        PixelFormat::Rgb24,
        PixelFormat::Bgr24,
        PixelFormat::Grey,
    ];

    /// Bytes in a line and lines, for each plane of a picture of this size; nothing in unused ones. Odd sizes are rounded
    /// up to whole pairs of pixels where pixels share their colour, as V4L2 does.
    pub fn planes(self, width: u16, height: u16) -> [(usize, usize); 3] {
        let (width, height) = (usize::from(width), usize::from(height));
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let none = (0, 0);
        match self.exchanged().0 {
            PixelFormat::Nv16 => [(width, height), (2 * half_width, height), none],
            PixelFormat::Yuyv | PixelFormat::Uyvy => [(4 * half_width, height), none, none],
            PixelFormat::Nv12 => [(width, height), (2 * half_width, half_height), none],
            PixelFormat::Yu12 => [
                (width, height),
                (half_width, half_height),
                (half_width, half_height),
            ],
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => [(3 * width, height), none, none],
            PixelFormat::Grey => [(width, height), none, none],
            _ => [none; 3],
        }
    }

    /// The format that has the same samples but for Cb and Cr in exchanged places, if there is one, and whether this is
    /// not the one of the two that has Cb first.
    pub fn exchanged(self) -> (PixelFormat, bool) {
        match self {
            PixelFormat::Yvyu => (PixelFormat::Yuyv, true),
            PixelFormat::Vyuy => (PixelFormat::Uyvy, true),
            PixelFormat::Nv21 => (PixelFormat::Nv12, true),
            PixelFormat::Yv12 => (PixelFormat::Yu12, true),
            other => (other, false),
        }
    }

    /// The name in `camera.format` and in `/state`.
    pub fn name(self) -> &'static str {
        match self {
            PixelFormat::Mjpeg => "mjpeg",
            PixelFormat::Yuyv => "yuyv",
            PixelFormat::Uyvy => "uyvy",
            PixelFormat::Yvyu => "yvyu",
            PixelFormat::Vyuy => "vyuy",
            PixelFormat::Nv12 => "nv12",
            PixelFormat::Nv21 => "nv21",
            PixelFormat::Nv16 => "nv16",
            PixelFormat::Yu12 => "yu12",
            PixelFormat::Yv12 => "yv12",
            PixelFormat::Rgb24 => "rgb24",
            PixelFormat::Bgr24 => "bgr24",
            PixelFormat::Grey => "grey",
        }
    }
}

/// How fine the colours of a JPEG are that camd makes. No JPEG gets finer ones than its picture has: 4:2:0 stays 4:2:0
/// and grey stays grey, whatever is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chroma {
    /// 4:2:0: each sample of a colour component stands for 2x2 pixels. Finer ones are averaged.
    Yuv420,
    /// 4:2:2 of 4:2:2 pictures and of RGB: each sample of a colour component stands for two pixels of a line. A JPEG in
    /// 4:4:4 stays in 4:4:4.
    Yuv422,
}

impl Chroma {
    /// All of them.
    pub const ALL: [Chroma; 2] = [Chroma::Yuv420, Chroma::Yuv422];

    /// The lowest JPEG quality at which "auto" is 4:2:2. Below it the quantizers take more from the colours than the
    /// average of two lines does, which is why ImageMagick, too, subsamples colours only below 90.
    const FINE: u8 = 90;

    /// What "auto" stands for at this JPEG quality.
    pub fn at(quality: u8) -> Chroma {
        if quality < Chroma::FINE {
            Chroma::Yuv420
        } else {
            Chroma::Yuv422
        }
    }

    /// The name in `listener.chroma`, `sink.chroma` and `/state`.
    pub fn name(self) -> &'static str {
        match self {
            Chroma::Yuv420 => "420",
            Chroma::Yuv422 => "422",
        }
    }
}

/// A fixed copy of one JPEG (or of another reply), allocated once.
///
/// Invariant: `len <= capacity`. Pages that were never written cost no memory: they are the kernel's, mapped without a
/// file, and no allocator writes anything between them.
pub struct FrameBuf {
    /// `None`: no room at all.
    bytes: Option<MmapMut>,
    len: usize,
}

impl FrameBuf {
    /// An empty one with room for so many bytes.
    ///
    /// # Panics
    /// If there is no address space left: all of them are made at the start.
    pub fn new(capacity: usize) -> Self {
        let map = || {
            MmapMut::map_anon(capacity)
                .unwrap_or_else(|error| panic!("no {capacity} bytes of memory: {error}"))
        };
        FrameBuf {
            bytes: (capacity > 0).then(map),
            len: 0,
        }
    }

    /// Bytes that it can hold.
    pub fn capacity(&self) -> usize {
        self.bytes.as_ref().map_or(0, |bytes| bytes.len())
    }

    /// Bytes that it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it holds.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes
            .as_deref()
            .map_or(&[], |bytes| &bytes[..self.len])
    }

    /// Forgets what it holds.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The whole buffer to be filled by someone else; [`FrameBuf::set_len`] then says how much is good.
    pub fn spare(&mut self) -> &mut [u8] {
        self.bytes.as_deref_mut().unwrap_or_default()
    }

    /// # Panics
    /// If `len` is larger than the capacity: the caller wrote past what [`FrameBuf::spare`] gave it, or miscounted.
    pub fn set_len(&mut self, len: usize) {
        assert!(
            len <= self.capacity(),
            "frame of {len} bytes in a buffer of {}",
            self.capacity()
        );
        self.len = len;
    }

    /// Takes away the first `n` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn consume(&mut self, n: usize) {
        let len = self.len;
        self.spare().copy_within(n..len, 0);
        self.len -= n;
    }

    /// Takes `bytes[from..]` to the same place in this buffer; what is before `from` is left as it is. The length
    /// becomes that of `bytes`. For a frame whose beginning has been sent already.
    ///
    /// # Panics
    /// If `bytes` is larger than the buffer: frames are measured against `limits.frame_bytes` where they enter.
    pub fn copy_tail(&mut self, bytes: &[u8], from: usize) {
        self.set_len(bytes.len());
        self.spare()[from..bytes.len()].copy_from_slice(&bytes[from..]);
    }
}

/// Appends, as to a `Vec<u8>` that cannot grow: what does not fit is an error of kind `WriteZero`.
impl std::io::Write for FrameBuf {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let len = self.len;
        let room = &mut self.spare()[len..];
        let n = room.len().min(data.len());
        room[..n].copy_from_slice(&data[..n]);
        self.len += n;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u16, height: u16) -> Size {
        Size { width, height }
    }

    #[test]
    fn the_shape_is_kept_and_nothing_grows() {
        for (own, bounds, expected) in [
            ((640, 480), (160, 120), (160, 120)),
            ((1280, 720), (160, 120), (160, 90)),
            ((1280, 720), (320, 240), (320, 180)),
            ((480, 640), (160, 120), (90, 120)),
            // 179.9
            ((1366, 768), (320, 240), (320, 180)),
            ((641, 479), (640, 480), (640, 478)),
            ((641, 479), (641, 479), (641, 479)),
            ((33, 17), (640, 480), (33, 17)),
            ((640, 480), (639, 480), (638, 480)),
            ((640, 480), (161, 121), (160, 120)),
            ((8192, 16), (160, 120), (160, 2)),
            ((16, 8192), (160, 120), (2, 120)),
            ((8192, 1), (160, 120), (160, 1)),
            ((8192, 8192), (16, 16), (16, 16)),
        ] {
            let own = size(own.0, own.1);
            let fit = own.fit(size(bounds.0, bounds.1));
            assert_eq!(fit, size(expected.0, expected.1), "{own:?} in {bounds:?}");
        }
    }

    #[test]
    fn eighths_are_parts_of_what_fits() {
        let bounds = |eighths| Bounds {
            within: size(640, 480),
            eighths,
        };
        for (own, eighths, expected) in [
            ((640, 480), 8, (640, 480)),
            ((640, 480), 4, (320, 240)),
            ((1280, 720), 3, (240, 134)),
            ((33, 17), 8, (33, 17)),
            ((33, 17), 1, (4, 2)),
            ((2, 2), 1, (2, 2)),
        ] {
            let fit = bounds(eighths).fit(size(own.0, own.1));
            assert_eq!(fit, size(expected.0, expected.1), "{eighths}/8 of {own:?}");
        }
    }

    #[test]
    fn one_after_the_other_is_what_both_do_to_each_corner() {
        let all: Vec<_> = (0..8)
            .map(|n| Orientation {
                transpose: n & 1 != 0,
                mirror_x: n & 2 != 0,
                mirror_y: n & 4 != 0,
            })
            .collect();
        // Where a point of a square from -1 to 1 goes.
        let place = |orientation: Orientation, (x, y): (i8, i8)| {
            let (x, y) = match orientation.transpose {
                true => (y, x),
                false => (x, y),
            };
            let flip = |v: i8, is: bool| if is { -v } else { v };
            (flip(x, orientation.mirror_x), flip(y, orientation.mirror_y))
        };
        for &first in &all {
            for &next in &all {
                for point in [(1, 2), (-2, 1)] {
                    let both = place(next, place(first, point));
                    assert_eq!(place(first.then(next), point), both, "{first:?}, {next:?}");
                }
            }
        }
    }

    #[test]
    fn orientations_compose() {
        let all = |quarters| Orientation::quarters(quarters);
        assert_eq!(all(0), Orientation::UPRIGHT);
        assert_eq!(all(2), Orientation::UPRIGHT.mirrored(true, true));
        assert_eq!(all(3), all(1).mirrored(true, true));
        assert_eq!(all(4), all(0));
        assert_eq!(all(1).turn(size(640, 480)), size(480, 640));
        assert_eq!(all(2).turn(size(640, 480)), size(640, 480));
        // The upper left corner goes to the right, which is what a clockwise quarter does to it.
        assert!(all(1).transpose && all(1).mirror_x && !all(1).mirror_y);
    }
}
