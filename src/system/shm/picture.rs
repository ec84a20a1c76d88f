//! A `QImage` as `QDataStream` writes it. Its bytes are described in [`crate::system::shm`]. Qt reads no other kind of picture
//! there, and ignores what comes behind the PNG.

use super::ipc::Segment;
use crate::limits::DIMENSION_MAX;
use crate::picture::frame::Size;

/// What there is before the PNG: that there is a picture.
pub const PRESENT: [u8; 4] = [0, 0, 0, 1];
/// That there is none.
const NULL: [u8; 4] = [0; 4];

/// Begins every PNG.
pub const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
const IHDR: [u8; 8] = [0, 0, 0, 13, b'I', b'H', b'D', b'R'];
/// Bits of a sample, RGB, deflate, adaptive filters, no interlace.
const RGB_OF_8_BITS: [u8; 5] = [8, 2, 0, 0, 0];
const IDAT: [u8; 4] = *b"IDAT";
/// Deflate with a window of 32 KB, the fastest.
const ZLIB: [u8; 2] = [0x78, 0x01];
const IEND: [u8; 12] = [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xAE, 0x42, 0x60, 0x82];

/// Where the length of the IDAT is, and the first row.
const IDAT_AT: usize = 4 + SIGNATURE.len() + 8 + 13 + 4;
const ROWS_AT: usize = IDAT_AT + 8 + ZLIB.len();
/// Before the pixels of a row: the block's header, and the filter.
const ROW_HEAD: usize = 6;

// A row is one block: 16 bits tell its length, the filter's byte included.
const _: () = assert!(3 * (DIMENSION_MAX as usize) < u16::MAX as usize);

fn row_bytes(size: Size) -> usize {
    ROW_HEAD + 3 * usize::from(size.width)
}

fn rows_end(size: Size) -> usize {
    ROWS_AT + usize::from(size.height) * row_bytes(size)
}

/// What a picture of this size takes.
pub fn bytes(size: Size) -> usize {
    rows_end(size) + 4 + 4 + IEND.len()
}

/// The head of a row: its block, and no filter.
fn row_head(size: Size, last: bool) -> [u8; ROW_HEAD] {
    let length = 1 + 3 * size.width;
    let [low, high] = length.to_le_bytes();
    [u8::from(last), low, high, !low, !high, 0]
}

/// Writes one picture row by row.
pub struct Writer<'a> {
    segment: &'a Segment,
    size: Size,
    row: u16,
    crc: crc32fast::Hasher,
    adler: simd_adler32::Adler32,
}

impl<'a> Writer<'a> {
    /// Until [`Writer::finish`] there is a null image. `has`: the size of the picture whose head is there already.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn start(segment: &'a Segment, size: Size, has: Option<Size>) -> Writer<'a> {
        segment.begin_with(NULL);
        if has != Some(size) {
            write_head(segment, size);
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&IDAT);
        crc.update(&ZLIB);
        Writer {
            segment,
            size,
            row: 0,
            crc,
            adler: simd_adler32::Adler32::new(),
        }
    }

    /// # Panics
    /// If it is not as long as the picture is wide, or there are too many.
    pub fn row(&mut self, pixels: &[u8]) {
        assert_eq!(pixels.len(), 3 * usize::from(self.size.width));
        assert!(self.row < self.size.height, "{} rows", self.size.height);
        let at = ROWS_AT + usize::from(self.row) * row_bytes(self.size) + ROW_HEAD;
        self.segment.write(at, pixels);
        self.row += 1;
        // Not of what is in the segment: anybody may write there.
        let head = row_head(self.size, self.row == self.size.height);
        self.crc.update(&head);
        self.crc.update(pixels);
        self.adler.write(&head[ROW_HEAD - 1..]);
        self.adler.write(pixels);
    }

    /// # Panics
    /// If rows are missing.
    pub fn finish(mut self) {
        assert_eq!(self.row, self.size.height, "all rows were written");
        let adler = self.adler.finish().to_be_bytes();
        self.crc.update(&adler);
        let end = rows_end(self.size);
        self.segment.write(end, &adler);
        self.segment
            .write(end + 4, &self.crc.finalize().to_be_bytes());
        self.segment.begin_with(PRESENT);
    }
}

/// All that is the same in each picture of this size.
fn write_head(segment: &Segment, size: Size) {
    let mut at = 4;
    let mut put = |bytes: &[u8]| {
        segment.write(at, bytes);
        at += bytes.len();
    };
    put(&SIGNATURE);
    let mut crc = crc32fast::Hasher::new();
    let mut head = [0; 17];
    head[..4].copy_from_slice(&IHDR[4..]);
    head[4..8].copy_from_slice(&u32::from(size.width).to_be_bytes());
    head[8..12].copy_from_slice(&u32::from(size.height).to_be_bytes());
    head[12..].copy_from_slice(&RGB_OF_8_BITS);
    crc.update(&head);
    put(&IHDR[..4]);
    put(&head);
    put(&crc.finalize().to_be_bytes());
    let data = rows_end(size) + 4 - (IDAT_AT + 8);
    // At most 8192 × 24,582 bytes.
    put(&(data as u32).to_be_bytes());
    put(&IDAT);
    put(&ZLIB);
    for row in 0..size.height {
        let at = ROWS_AT + usize::from(row) * row_bytes(size);
        segment.write(at, &row_head(size, row + 1 == size.height));
    }
    segment.write(rows_end(size) + 8, &IEND);
}

/// Chunks of a PNG that are looked at. Qt writes IDATs of 8 KB: this is good for half a gigabyte.
const CHUNKS: usize = 1 << 16;
/// Of what is no picture, so much counts as its content.
const OTHER: usize = 4096;

/// How much of a segment of `size` bytes its picture takes, from the qint32 to the end of IEND. `read` copies bytes at a
/// place within `size`. Checks no checksum; of what is no picture the beginning.
pub fn length(size: usize, read: impl Fn(usize, &mut [u8])) -> usize {
    let other = size.min(OTHER);
    let mut head = [0; 12];
    if size < head.len() {
        return other;
    }
    read(0, &mut head);
    if head[..4] == NULL {
        return 4;
    }
    if head[4..] != SIGNATURE {
        return other;
    }
    let mut at = head.len();
    for _ in 0..CHUNKS {
        let mut chunk = [0; 8];
        if size - at < 12 {
            return other;
        }
        read(at, &mut chunk);
        let [a, b, c, d, kind @ ..] = chunk;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        match (size - at - 12).checked_sub(length) {
            None => return other,
            Some(_) => at += 12 + length,
        }
        if kind == *b"IEND" {
            return at;
        }
    }
    other
}
