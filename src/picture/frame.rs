//! Pictures: borrowed ones that a source lends ([`Frame`]), and the fixed copies that outlive the loan ([`FrameBuf`]).

use std::fmt;
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
    /// it, that comes before `orientation`. Its source finds it.
    pub exif: Orientation,
    /// The part of it that viewers get, as it is stored, where it is stored whole; `None`: all of it.
    pub crop: Option<Area>,
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
            crop: None,
            live: true,
        }
    }

    /// Its size as viewers see it.
    pub fn shown(&self) -> Size {
        let stored = self.crop.map_or(self.stored(), Area::size);
        self.turning().turn(stored)
    }

    /// Its size as it is stored: whole, before turning.
    pub fn stored(&self) -> Size {
        Size {
            width: self.width,
            height: self.height,
        }
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

/// A part of a picture, in pixels from its upper left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Columns to the left of it.
    pub x: u16,
    /// Lines above it.
    pub y: u16,
    /// At least 1.
    pub width: u16,
    /// At least 1.
    pub height: u16,
}

impl Area {
    /// A whole picture.
    pub fn all(whole: Size) -> Self {
        Area {
            x: 0,
            y: 0,
            width: whole.width,
            height: whole.height,
        }
    }

    /// Its own.
    pub fn size(self) -> Size {
        Size {
            width: self.width,
            height: self.height,
        }
    }

    /// The nearest one that a picture of this size has: it is moved first, and made smaller only where it is larger than the
    /// picture. So what viewers and programs get has the size that they were told as long as that can be.
    pub fn within(self, whole: Size) -> Self {
        let width = self.width.min(whole.width);
        let height = self.height.min(whole.height);
        Area {
            x: self.x.min(whole.width - width),
            y: self.y.min(whole.height - height),
            width,
            height,
        }
    }

    /// The same, of a picture that is itself the part `other` of the whole: the nearest that this one has.
    pub fn of(self, other: Area) -> Self {
        let moved = Area {
            x: self.x.saturating_sub(other.x),
            y: self.y.saturating_sub(other.y),
            ..self
        };
        moved.within(other.size())
    }

    /// Moved to the left and up, by less than this many columns and lines, to where these begin anew: pixels that share
    /// their colour are not parted. The size stays.
    pub fn on_grid(self, columns: u16, lines: u16) -> Self {
        Area {
            x: self.x - self.x % columns.max(1),
            y: self.y - self.y % lines.max(1),
            ..self
        }
    }
}

/// As `camera.crop` has it.
impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Area {
            x,
            y,
            width,
            height,
        } = self;
        write!(f, "[{x}, {y}, {width}, {height}]")
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

    /// What undoes it.
    pub fn inverse(self) -> Self {
        let (mirror_x, mirror_y) = match self.transpose {
            true => (self.mirror_y, self.mirror_x),
            false => (self.mirror_x, self.mirror_y),
        };
        Orientation {
            mirror_x,
            mirror_y,
            ..self
        }
    }

    /// Where a part of a picture that is stored in the size `whole` is for viewers.
    pub fn turn_area(self, area: Area, whole: Size) -> Area {
        let whole = self.turn(whole);
        let Area {
            x,
            y,
            width,
            height,
        } = match self.transpose {
            true => Area {
                x: area.y,
                y: area.x,
                width: area.height,
                height: area.width,
            },
            false => area,
        };
        let mirrored = |mirror: bool, at: u16, side: u16, whole: u16| match mirror {
            true => whole - side - at,
            false => at,
        };
        Area {
            x: mirrored(self.mirror_x, x, width, whole.width),
            y: mirrored(self.mirror_y, y, height, whole.height),
            width,
            height,
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

impl<'a> RawPicture<'a> {
    /// A part of it, where it is: nothing is copied. It begins with whole pairs of pixels where these share their colour
    /// ([`Area::on_grid`]). Planes that are too short have nothing there.
    pub fn crop(self, area: Area) -> Self {
        let format = self.format;
        let (columns, lines) = format.grid();
        let whole = Size {
            width: self.width,
            height: self.height,
        };
        let area = area.within(whole).on_grid(columns, lines);
        // What would be to the left of the part and above it, as a picture of its own, is as long as the way there.
        let before = format.planes(area.x, area.y);
        let sizes = format.planes(area.width, area.height);
        let mut planes = self.planes;
        for ((plane, (bytes, lines)), (width, height)) in planes.iter_mut().zip(before).zip(sizes) {
            let at = lines.saturating_mul(plane.stride).saturating_add(bytes);
            let end = plane.stride.saturating_mul(height.saturating_sub(1));
            let rest = plane.data.get(at..).unwrap_or_default();
            plane.data = &rest[..rest.len().min(end.saturating_add(width))];
        }
        RawPicture {
            format: self.format,
            width: area.width,
            height: area.height,
            planes,
        }
    }
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

    /// Columns and lines of pixels that share their colour; of a JPEG that is up to the picture.
    pub fn grid(self) -> (u16, u16) {
        match self.exchanged().0 {
            PixelFormat::Nv12 | PixelFormat::Yu12 => (2, 2),
            PixelFormat::Nv16 | PixelFormat::Yuyv | PixelFormat::Uyvy => (2, 1),
            _ => (1, 1),
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

/// What a camera can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CameraFormat {
    /// Pictures that stand for themselves.
    Pictures(PixelFormat),
    /// Pictures that lean on one another.
    H264,
}

impl CameraFormat {
    /// All of them, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = CameraFormat> {
        let pictures = PixelFormat::ALL.into_iter().map(CameraFormat::Pictures);
        pictures.chain([CameraFormat::H264])
    }

    /// The name in `camera.format` and in `/state`.
    pub fn name(self) -> &'static str {
        match self {
            CameraFormat::Pictures(format) => format.name(),
            CameraFormat::H264 => "h264",
        }
    }
}

impl From<PixelFormat> for CameraFormat {
    fn from(format: PixelFormat) -> Self {
        CameraFormat::Pictures(format)
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

    /// An empty one in memory that was mapped already.
    pub fn of(bytes: MmapMut) -> Self {
        FrameBuf {
            bytes: Some(bytes),
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

    const fn area(x: u16, y: u16, width: u16, height: u16) -> Area {
        Area {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn an_area_beyond_the_picture_is_the_nearest_one_within() {
        let whole = Size {
            width: 64,
            height: 48,
        };
        for (wanted, nearest) in [
            (area(0, 0, 64, 48), area(0, 0, 64, 48)),
            (area(3, 5, 16, 16), area(3, 5, 16, 16)),
            (area(60, 40, 16, 16), area(48, 32, 16, 16)),
            (area(8192, 8192, 16, 16), area(48, 32, 16, 16)),
            (area(10, 10, 8192, 20), area(0, 10, 64, 20)),
            (area(0, 47, 8192, 8192), area(0, 0, 64, 48)),
        ] {
            assert_eq!(wanted.within(whole), nearest, "{wanted}");
        }
        // Of a part: what it has of it, or the nearest.
        let part = area(8, 8, 40, 30);
        assert_eq!(area(10, 9, 16, 20).of(part), area(2, 1, 16, 20));
        assert_eq!(area(0, 0, 16, 16).of(part), area(0, 0, 16, 16));
        assert_eq!(area(40, 30, 16, 16).of(part), area(24, 14, 16, 16));
    }

    #[test]
    fn areas_are_turned_as_the_pictures_they_are_of() {
        let whole = Size {
            width: 7,
            height: 5,
        };
        for i in 0..8 {
            let orientation = Orientation {
                transpose: i & 4 != 0,
                mirror_x: i & 2 != 0,
                mirror_y: i & 1 != 0,
            };
            assert_eq!(
                orientation.then(orientation.inverse()),
                Orientation::UPRIGHT
            );
            // A pixel, then what lies between two.
            let pixel = |x: u16, y: u16| {
                let (x, y) = if orientation.transpose {
                    (y, x)
                } else {
                    (x, y)
                };
                let Size { width, height } = orientation.turn(whole);
                let x = if orientation.mirror_x {
                    width - 1 - x
                } else {
                    x
                };
                let y = if orientation.mirror_y {
                    height - 1 - y
                } else {
                    y
                };
                (x, y)
            };
            let part = area(1, 2, 4, 2);
            let (a, b) = (pixel(1, 2), pixel(4, 3));
            let (x, y) = (a.0.min(b.0), a.1.min(b.1));
            let (width, height) = (a.0.abs_diff(b.0) + 1, a.1.abs_diff(b.1) + 1);
            let turned = orientation.turn_area(part, whole);
            assert_eq!(turned, area(x, y, width, height), "{orientation:?}");
            let back = orientation.inverse();
            assert_eq!(back.turn_area(turned, orientation.turn(whole)), part);
        }
    }

    /// What a raw picture has at a pixel: brightness and colours, or its bytes.
    fn at(raw: &RawPicture<'_>, x: usize, y: usize) -> [u8; 3] {
        let byte = |plane: usize, x: usize, y: usize| {
            let Plane { data, stride } = raw.planes[plane];
            data[y * stride + x]
        };
        let pair = x / 2;
        match raw.format {
            PixelFormat::Mjpeg => unreachable!("it is not raw"),
            PixelFormat::Yuyv | PixelFormat::Yvyu => [
                byte(0, 2 * x, y),
                byte(0, 4 * pair + 1, y),
                byte(0, 4 * pair + 3, y),
            ],
            PixelFormat::Uyvy | PixelFormat::Vyuy => [
                byte(0, 2 * x + 1, y),
                byte(0, 4 * pair, y),
                byte(0, 4 * pair + 2, y),
            ],
            PixelFormat::Nv12 | PixelFormat::Nv21 => [
                byte(0, x, y),
                byte(1, 2 * pair, y / 2),
                byte(1, 2 * pair + 1, y / 2),
            ],
            PixelFormat::Nv16 => [
                byte(0, x, y),
                byte(1, 2 * pair, y),
                byte(1, 2 * pair + 1, y),
            ],
            PixelFormat::Yu12 | PixelFormat::Yv12 => {
                [byte(0, x, y), byte(1, pair, y / 2), byte(2, pair, y / 2)]
            }
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => [0, 1, 2].map(|i| byte(0, 3 * x + i, y)),
            PixelFormat::Grey => [byte(0, x, y); 3],
        }
    }

    #[test]
    fn a_part_of_a_raw_picture_has_the_pixels_of_the_whole_in_every_format() {
        let raw_formats = PixelFormat::ALL.into_iter().skip(1);
        for format in raw_formats {
            for (width, height) in [(24, 18), (23, 17)] {
                // Every byte is another one, and lines have something behind them.
                let sizes = format.planes(width, height);
                let data = [0usize, 1, 2].map(|plane| {
                    let (bytes, lines) = sizes[plane];
                    let count = (bytes + 5) * lines;
                    (0..count)
                        .map(|i| ((i * 31 + plane * 89) % 251) as u8)
                        .collect::<Vec<_>>()
                });
                let planes = [0, 1, 2].map(|plane| Plane {
                    data: &data[plane],
                    stride: sizes[plane].0 + 5,
                });
                let raw = RawPicture {
                    format,
                    width,
                    height,
                    planes,
                };
                for wanted in [
                    area(0, 0, 16, 16),
                    area(1, 0, 16, 17),
                    area(0, 1, 17, 16),
                    area(3, 1, 19, 15),
                    area(7, 2, 1, 1),
                    area(6, 1, 17, 16),
                ] {
                    let part = raw.crop(wanted);
                    assert_eq!((part.width, part.height), (wanted.width, wanted.height));
                    let (columns, lines) = format.grid();
                    let real = wanted.on_grid(columns, lines);
                    assert!(wanted.x - real.x < 2 && wanted.y - real.y < 2);
                    for y in 0..usize::from(part.height) {
                        for x in 0..usize::from(part.width) {
                            let (left, top) = (usize::from(real.x), usize::from(real.y));
                            let expected = at(&raw, left + x, top + y);
                            assert_eq!(at(&part, x, y), expected, "{format:?} {wanted} {x},{y}");
                        }
                    }
                    // No more than it takes.
                    for (plane, (bytes, lines)) in part
                        .planes
                        .iter()
                        .zip(format.planes(part.width, part.height))
                    {
                        let least = plane.stride * lines.saturating_sub(1) + bytes;
                        assert_eq!(plane.data.len(), least, "{format:?} {wanted}");
                    }
                }
                // What is too short is found out by whoever takes it, not here.
                let short = RawPicture {
                    planes: planes.map(|plane| Plane {
                        data: &plane.data[..plane.data.len().min(9)],
                        ..plane
                    }),
                    ..raw
                };
                short.crop(area(6, 9, 16, 8));
            }
        }
    }

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
