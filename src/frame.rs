//! Pictures: borrowed ones that a source lends ([`Frame`]), and the fixed copies that outlive the loan ([`FrameBuf`]).

use std::time::{Duration, Instant};

/// What is known of a picture apart from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameMeta {
    /// Counts the pictures given to clients, from 1; strictly rising, also over a reopened camera.
    pub sequence: u64,
    /// When the picture was taken (start of exposure or end of transfer, as the driver defines it), monotonic.
    pub captured: Instant,
    /// The same moment as time since the Unix epoch.
    pub wall: Duration,
    pub width: u16,
    pub height: u16,
    /// False for the "no picture" card that stands in for a camera in trouble.
    pub live: bool,
}

/// A picture on loan from its source: the borrow ends before the source can touch the buffer again.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub meta: FrameMeta,
    pub picture: Picture<'a>,
}

#[derive(Clone, Copy, Debug)]
pub enum Picture<'a> {
    /// One whole JPEG, SOI to EOI, with Huffman tables, nothing behind it.
    Jpeg(&'a [u8]),
    Raw(RawPicture<'a>),
}

/// An uncompressed picture. Which planes are used and how is up to `format`; unused ones are empty.
#[derive(Clone, Copy, Debug)]
pub struct RawPicture<'a> {
    pub format: PixelFormat,
    pub width: u16,
    pub height: u16,
    pub planes: [Plane<'a>; 3],
}

/// One plane of a raw picture. `data` holds at least `stride` bytes for each line but the last, and the last line's
/// pixels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plane<'a> {
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
    /// 4:2:0 in two planes: Y, then interleaved Cb Cr.
    Nv12,
    /// 4:2:0 in three planes: Y, Cb, Cr (`V4L2_PIX_FMT_YUV420`).
    Yu12,
    Rgb24,
    Bgr24,
    Grey,
}

impl PixelFormat {
    /// All of them, in the order in which `format = "auto"` prefers them: JPEG costs no encoding, the rest by the
    /// bytes that must be moved and converted.
    pub const ALL: [PixelFormat; 8] = [
        PixelFormat::Mjpeg,
        PixelFormat::Yu12,
        PixelFormat::Nv12,
        PixelFormat::Yuyv,
        PixelFormat::Uyvy,
        PixelFormat::Rgb24,
        PixelFormat::Bgr24,
        PixelFormat::Grey,
    ];

    /// The name in `camera.format` and in `/state`.
    pub fn name(self) -> &'static str {
        match self {
            PixelFormat::Mjpeg => "mjpeg",
            PixelFormat::Yuyv => "yuyv",
            PixelFormat::Uyvy => "uyvy",
            PixelFormat::Nv12 => "nv12",
            PixelFormat::Yu12 => "yu12",
            PixelFormat::Rgb24 => "rgb24",
            PixelFormat::Bgr24 => "bgr24",
            PixelFormat::Grey => "grey",
        }
    }
}

/// A fixed copy of one JPEG (or of another reply), allocated once.
///
/// Invariant: `len <= capacity`. Pages that were never written cost no memory: the allocation comes zeroed from the
/// kernel.
pub struct FrameBuf {
    bytes: Box<[u8]>,
    len: usize,
}

impl FrameBuf {
    pub fn new(capacity: usize) -> Self {
        FrameBuf {
            bytes: vec![0; capacity].into_boxed_slice(),
            len: 0,
        }
    }

    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The whole buffer to be filled by someone else; [`FrameBuf::set_len`] then says how much is good.
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// # Panics
    /// If `len` is larger than the capacity: the caller wrote past what [`FrameBuf::spare`] gave it, or miscounted.
    pub fn set_len(&mut self, len: usize) {
        assert!(
            len <= self.bytes.len(),
            "frame of {len} bytes in a buffer of {}",
            self.bytes.len()
        );
        self.len = len;
    }

    /// Takes `bytes[from..]` to the same place in this buffer; what is before `from` is left as it is. The length
    /// becomes that of `bytes`. For a frame whose beginning has been sent already.
    ///
    /// # Panics
    /// If `bytes` is larger than the buffer: frames are measured against `limits.frame_bytes` where they enter.
    pub fn copy_tail(&mut self, bytes: &[u8], from: usize) {
        self.set_len(bytes.len());
        self.bytes[from..bytes.len()].copy_from_slice(&bytes[from..]);
    }
}

/// Appends, as to a `Vec<u8>` that cannot grow: what does not fit is an error of kind `WriteZero`.
impl std::io::Write for FrameBuf {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let room = &mut self.bytes[self.len..];
        let n = room.len().min(data.len());
        room[..n].copy_from_slice(&data[..n]);
        self.len += n;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
