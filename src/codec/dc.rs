//! JPEGs at 1/8 of their size, by their DC coefficients alone: each is eight times the mean of its block, which is the one
//! sample that libjpeg makes of it at that scale.
//!
//! Nearly all that such a picture costs is the way through coefficients that are not wanted. libjpeg decodes them one by
//! one; here a table tells how far one glance at the stream leads, which is often over several. What is out of the
//! ordinary (several scans, other samplings than those of cameras, any damage) is left to libjpeg.

use std::array;

use super::libjpeg::{COMPONENTS, Factors};
use crate::frame::Size;
use crate::limits::DIMENSION_MAX;

/// Bits that are looked at together: enough for most codes along with the bits that follow them, and a table that fits
/// the first cache of small boards.
const GLANCE: u32 = 11;
/// The longest code, in bits.
const CODE_MAX: u32 = 16;
/// What libjpeg takes in a table for DC coefficients.
const DC_SYMBOL_MAX: u8 = 15;
/// Coefficients of a block.
const BLOCK: u32 = 64;
/// The largest factor of a sampling that is done here.
const FACTOR_MAX: usize = 2;
/// Blocks of a component along the longest side, to whole MCUs.
const SIDE_MAX: usize = DIMENSION_MAX as usize / 8 + FACTOR_MAX;

/// A scan whose header libjpeg has read: baseline or extended sequential, Huffman codes, 8 bits, three components.
pub(super) struct Scan<'a> {
    pub(super) size: Size,
    /// In MCUs; 0 is none.
    pub(super) restart_interval: u32,
    pub(super) components: [Component<'a>; COMPONENTS],
    /// From the first byte after the scan's header on.
    pub(super) data: &'a [u8],
}

pub(super) struct Component<'a> {
    pub(super) factors: Factors,
    /// Of the DC coefficient.
    pub(super) quantizer: u16,
    pub(super) dc: Huffman<'a>,
    pub(super) ac: Huffman<'a>,
}

/// A Huffman table as it is in a JPEG.
#[derive(Clone, Copy)]
pub(super) struct Huffman<'a> {
    /// 0 to 3.
    pub(super) number: usize,
    /// How many codes there are of each length; that of 0 counts nothing.
    pub(super) counts: &'a [u8; 17],
    /// What the codes stand for, in the order of their lengths.
    pub(super) symbols: &'a [u8; 256],
}

/// A plane of a picture at 1/8.
pub(super) struct Plane<'a> {
    pub(super) size: Size,
    samples: &'a [u8],
    stride: usize,
}

impl Plane<'_> {
    pub(super) fn line(&self, line: usize) -> &[u8] {
        &self.samples[line * self.stride..][..self.size.width.into()]
    }
}

/// Reads JPEGs at 1/8, in memory that is taken once.
pub(super) struct Eighths {
    /// As numbered in the JPEG; kept from one picture to the next, whose tables mostly are the same.
    dc: Box<[Table; 4]>,
    ac: Box<[Table; 4]>,
    planes: [Box<[u8]>; COMPONENTS],
}

impl Eighths {
    /// Room for the largest pictures. Pages that were never used cost no memory.
    pub(super) fn new() -> Self {
        Eighths {
            dc: Box::new(array::from_fn(|_| Table::new())),
            ac: Box::new(array::from_fn(|_| Table::new())),
            planes: array::from_fn(|_| vec![0; SIDE_MAX * SIDE_MAX].into_boxed_slice()),
        }
    }

    /// `None`: this is for libjpeg to decode, or to refuse.
    pub(super) fn decode(&mut self, scan: &Scan<'_>) -> Option<[Plane<'_>; COMPONENTS]> {
        let components = &scan.components;
        let factor = |factor| {
            let factor = usize::try_from(factor).ok()?;
            (1..=FACTOR_MAX).contains(&factor).then_some(factor)
        };
        let (max_h, max_v) = (
            factor(components[0].factors.0)?,
            factor(components[0].factors.1)?,
        );
        if components[1..].iter().any(|c| c.factors != (1, 1)) {
            return None;
        }
        for component in components {
            self.dc[component.dc.number].set(&component.dc, DC_SYMBOL_MAX)?;
            self.ac[component.ac.number].set(&component.ac, u8::MAX)?;
        }
        let (width, height) = (usize::from(scan.size.width), usize::from(scan.size.height));
        let (across, down) = (width.div_ceil(8 * max_h), height.div_ceil(8 * max_v));

        let (dc, ac) = (&self.dc, &self.ac);
        let [y, cb, cr] = &mut self.planes;
        let mut luma = Channel::new(&components[0], dc, ac);
        let mut blue = Channel::new(&components[1], dc, ac);
        let mut red = Channel::new(&components[2], dc, ac);
        let mut bits = Bits::new(scan.data);
        let mut restarts = 0;
        let mut left = scan.restart_interval;
        for mcu_y in 0..down {
            let mut lines = y[mcu_y * max_v * across * max_h..].chunks_exact_mut(across * max_h);
            let mut lines: [&mut [u8]; FACTOR_MAX] =
                array::from_fn(|_| lines.next().unwrap_or_default());
            for mcu_x in 0..across {
                if scan.restart_interval != 0 {
                    if left == 0 {
                        bits.restart(restarts)?;
                        restarts = (restarts + 1) % 8;
                        (luma.last, blue.last, red.last) = (0, 0, 0);
                        left = scan.restart_interval;
                    }
                    left -= 1;
                }
                for line in &mut lines[..max_v] {
                    for sample in &mut line[mcu_x * max_h..][..max_h] {
                        *sample = luma.next(&mut bits)?;
                    }
                }
                cb[mcu_y * across + mcu_x] = blue.next(&mut bits)?;
                cr[mcu_y * across + mcu_x] = red.next(&mut bits)?;
            }
        }
        bits.end()?;

        let part = |side: usize, max: usize| side.div_ceil(8 * max) as u16;
        let chroma = Size {
            width: part(width, max_h),
            height: part(height, max_v),
        };
        let luma = Size {
            width: part(width, 1),
            height: part(height, 1),
        };
        let plane = |samples, size, stride| Plane {
            size,
            samples,
            stride,
        };
        let [y, cb, cr] = &self.planes;
        Some([
            plane(y, luma, across * max_h),
            plane(cb, chroma, across),
            plane(cr, chroma, across),
        ])
    }
}

/// One component while it is read.
struct Channel<'a> {
    quantizer: i32,
    /// The DC coefficient of the last block.
    last: i32,
    dc: &'a Table,
    ac: &'a Table,
}

impl<'a> Channel<'a> {
    fn new(component: &Component<'_>, dc: &'a [Table; 4], ac: &'a [Table; 4]) -> Self {
        Channel {
            quantizer: component.quantizer.into(),
            last: 0,
            dc: &dc[component.dc.number],
            ac: &ac[component.ac.number],
        }
    }

    /// The sample of the next block.
    #[inline]
    fn next(&mut self, bits: &mut Bits<'_>) -> Option<u8> {
        bits.refill();
        let size = u32::from(bits.symbol(self.dc)?);
        if size > 0 {
            bits.refill();
            self.last += bits.signed(size)?;
        }
        bits.skip_ac(self.ac)?;
        // Twice what samples of 8 bits can make of it; this far libjpeg comes to the same.
        if self.last.unsigned_abs() >= 4096 {
            return None;
        }
        let mean = (self.last * self.quantizer + 4) >> 3;
        (-512..512)
            .contains(&mean)
            .then(|| (mean + 128).clamp(0, 255) as u8)
    }
}

/// The table of one Huffman code.
struct Table {
    /// What it was made of.
    counts: [u8; 17],
    symbols: [u8; 256],
    /// For the next bits of the stream the symbol they begin with, shifted by 8, and its length. 0: longer than a
    /// glance, or none.
    first: [u16; 1 << GLANCE],
    /// For the next bits of the stream what is known of AC coefficients from them: see [`Skip`].
    skips: [Skip; 1 << GLANCE],
    /// For each length the codes of that length and below, as numbers of `CODE_MAX` bits, are below this.
    ends: [u32; CODE_MAX as usize + 1],
    /// What to add to a code of each length for its place in `symbols`.
    offsets: [i32; CODE_MAX as usize + 1],
}

/// Codes with the bits that follow them, as many as fit a glance. None at all: `bits` is 0.
#[derive(Clone, Copy, Default)]
struct Skip {
    /// All their bits.
    bits: u8,
    /// Coefficients; the end of a block counts as one, and [`Skip::END`] is added.
    coefficients: u8,
}

impl Skip {
    const END: u8 = 128;
}

impl Table {
    /// Without any code.
    fn new() -> Self {
        Table {
            counts: [0; 17],
            symbols: [0; 256],
            first: [0; 1 << GLANCE],
            skips: [Skip::default(); 1 << GLANCE],
            ends: [0; CODE_MAX as usize + 1],
            offsets: [0; CODE_MAX as usize + 1],
        }
    }

    /// `None`: these are no codes, or stand for more than `symbol_max`.
    fn set(&mut self, huffman: &Huffman<'_>, symbol_max: u8) -> Option<()> {
        if self.counts[1..] == huffman.counts[1..] && self.symbols == *huffman.symbols {
            return Some(());
        }
        *self = Table::new();
        let (mut code, mut place) = (0, 0);
        for length in 1..=CODE_MAX {
            let count = u32::from(huffman.counts[length as usize]);
            self.offsets[length as usize] = place - code as i32;
            for _ in 0..count {
                let symbol = huffman.symbols.get(place as usize).copied();
                // All ones are no code (T.81, C); beyond, there are no more codes of this length.
                let Some(symbol) =
                    symbol.filter(|&symbol| code < (1 << length) - 1 && symbol <= symbol_max)
                else {
                    *self = Table::new();
                    return None;
                };
                if length <= GLANCE {
                    let rest = GLANCE - length;
                    let entry = u16::from(symbol) << 8 | length as u16;
                    self.first[(code << rest) as usize..][..1 << rest].fill(entry);
                }
                code += 1;
                place += 1;
            }
            self.ends[length as usize] = code << (CODE_MAX - length);
            code <<= 1;
        }
        for glance in 0..1 << GLANCE {
            self.skips[glance as usize] = self.skip(glance);
        }
        // Only now: a table that was refused is none.
        (self.counts, self.symbols) = (*huffman.counts, *huffman.symbols);
        Some(())
    }

    fn skip(&self, glance: u32) -> Skip {
        let mut skip = Skip::default();
        loop {
            let left = GLANCE - u32::from(skip.bits);
            let entry = self.first[(glance << skip.bits) as usize & ((1 << GLANCE) - 1)];
            let (length, symbol) = (u32::from(entry & 0xFF), (entry >> 8) as u8);
            let (coefficients, following) = run(symbol);
            let bits = length + following;
            if length == 0 || bits > left || skip.coefficients + coefficients > BLOCK as u8 {
                return skip;
            }
            skip.bits += bits as u8;
            skip.coefficients += coefficients;
            if ends_block(symbol) {
                skip.coefficients += Skip::END;
                return skip;
            }
            if bits == left {
                return skip;
            }
        }
    }
}

/// The coefficients that an AC symbol stands for, and how many bits follow it.
fn run(symbol: u8) -> (u8, u32) {
    if ends_block(symbol) {
        (1, 0)
    } else {
        ((symbol >> 4) + 1, (symbol & 15).into())
    }
}

/// 0 does. Others without bits are for progressive JPEGs, and libjpeg takes them for 0.
fn ends_block(symbol: u8) -> bool {
    symbol & 15 == 0 && symbol != 0xF0
}

/// Half of a machine word.
const HALF: u32 = usize::BITS / 2;
const HALF_BYTES: usize = HALF as usize / 8;

/// The bits of a scan, without the zero bytes that follow each FF, up to a marker.
struct Bits<'a> {
    data: &'a [u8],
    /// Of the first byte that is not in `word`.
    at: usize,
    /// The next bits, from the highest on; behind them zeros.
    word: usize,
    count: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Bits {
            data,
            at: 0,
            word: 0,
            count: 0,
        }
    }

    /// Sees to it that there are `CODE_MAX` bits, if the data has so many more.
    #[inline]
    fn refill(&mut self) {
        if self.count >= CODE_MAX {
            return;
        }
        if let Some(bytes) = self.data[self.at..].first_chunk::<HALF_BYTES>() {
            let next = usize::from_be_bytes(array::from_fn(|i| {
                bytes.get(i).copied().unwrap_or_default()
            }));
            if !has_ff(next) {
                self.word |= next >> self.count;
                self.count += HALF;
                self.at += HALF_BYTES;
                return;
            }
        }
        self.refill_bytes();
    }

    #[cold]
    fn refill_bytes(&mut self) {
        while self.count <= usize::BITS - 8
            && let Some(&byte) = self.data.get(self.at)
        {
            if byte == 0xFF {
                if self.data.get(self.at + 1) != Some(&0) {
                    return;
                }
                self.at += 1;
            }
            self.at += 1;
            self.word |= usize::from(byte) << (usize::BITS - 8 - self.count);
            self.count += 8;
        }
    }

    #[inline]
    fn consume(&mut self, bits: u32) -> Option<()> {
        self.count = self.count.checked_sub(bits)?;
        self.word <<= bits;
        Some(())
    }

    /// The next symbol. `refill` came before.
    #[inline]
    fn symbol(&mut self, table: &Table) -> Option<u8> {
        let entry = table.first[self.word >> (usize::BITS - GLANCE)];
        if entry == 0 {
            return self.long_symbol(table);
        }
        self.consume((entry & 0xFF).into())?;
        Some((entry >> 8) as u8)
    }

    #[cold]
    fn long_symbol(&mut self, table: &Table) -> Option<u8> {
        let code = (self.word >> (usize::BITS - CODE_MAX)) as u32;
        let length = (GLANCE + 1..=CODE_MAX).find(|&length| code < table.ends[length as usize])?;
        self.consume(length)?;
        let code = (code >> (CODE_MAX - length)) as i32;
        let place = code + table.offsets[length as usize];
        table.symbols.get(usize::try_from(place).ok()?).copied()
    }

    /// A number of `size` bits, as DC differences are written (T.81, F.12). `refill` came before.
    #[inline]
    fn signed(&mut self, size: u32) -> Option<i32> {
        // No difference of 8-bit samples has more.
        if size > 11 {
            return None;
        }
        let value = (self.word >> (usize::BITS - size)) as i32;
        self.consume(size)?;
        let negative = value >> (size - 1) == 0;
        Some(if negative {
            value - (1 << size) + 1
        } else {
            value
        })
    }

    /// Goes past the AC coefficients of a block.
    #[inline]
    fn skip_ac(&mut self, table: &Table) -> Option<()> {
        let mut left = BLOCK - 1;
        loop {
            self.refill();
            let skip = table.skips[self.word >> (usize::BITS - GLANCE)];
            let coefficients = u32::from(skip.coefficients % Skip::END);
            if skip.bits == 0 || coefficients > left {
                // What follows the block's last coefficient is not of this block.
                let symbol = self.symbol(table)?;
                let (coefficients, following) = run(symbol);
                self.refill();
                self.consume(following)?;
                left = left.checked_sub(coefficients.into())?;
                if ends_block(symbol) {
                    return Some(());
                }
            } else {
                self.consume(skip.bits.into())?;
                left -= coefficients;
                if skip.coefficients >= Skip::END {
                    return Some(());
                }
            }
            if left == 0 {
                return Some(());
            }
        }
    }

    /// Goes past the restart marker of this number (0 to 7), which is next.
    fn restart(&mut self, number: u8) -> Option<()> {
        self.refill();
        let marker = [0xFF, 0xD0 + number];
        if self.count >= 8 || !self.data[self.at..].starts_with(&marker) {
            return None;
        }
        (self.word, self.count) = (0, 0);
        self.at += marker.len();
        Some(())
    }

    /// Checks that EOI is the next marker. Bytes may come before it, as many UVC cameras have them.
    fn end(&self) -> Option<()> {
        let mut bytes = &self.data[self.at..];
        loop {
            let ff = memchr::memchr(0xFF, bytes)?;
            match bytes.get(ff + 1)? {
                0xD9 => return Some(()),
                0 => bytes = &bytes[ff + 2..],
                0xFF => bytes = &bytes[ff + 1..],
                _ => return None,
            }
        }
    }
}

/// Whether one of the bytes in the upper half of `word` is FF; the lower half is zeros.
#[inline]
fn has_ff(word: usize) -> bool {
    const ONES: usize = usize::MAX / 0xFF;
    const TOPS: usize = ONES << 7;
    // The lower seven bits and one more reach the highest, which also is set.
    (word & !TOPS).wrapping_add(ONES) & word & TOPS != 0
}

#[cfg(test)]
mod tests {
    use std::ffi::c_int;
    use std::mem;

    use mozjpeg_sys::*;

    use super::super::libjpeg::{Failed, Libjpeg};
    use super::*;
    use crate::frame::FrameBuf;

    /// How libjpeg is to write a JPEG.
    struct Writing {
        factors: (c_int, c_int),
        quality: c_int,
        restart_interval: u32,
        /// Huffman tables made for the picture: these have the longest codes.
        optimized: bool,
    }

    /// A picture with an edge, slopes and noise.
    fn write(width: u16, height: u16, writing: &Writing, random: &mut fastrand::Rng) -> Vec<u8> {
        let noise = random.i32(0..100);
        let mut out = vec![0; 1 << 20];
        // SAFETY: libjpeg as its documentation has it, with room for the worst; its errors end the process.
        unsafe {
            let mut error: jpeg_error_mgr = mem::zeroed();
            let mut to: jpeg_compress_struct = mem::zeroed();
            to.common.err = jpeg_std_error(&mut error);
            jpeg_create_compress(&mut to);
            jpeg_c_set_int_param(&mut to, JINT_COMPRESS_PROFILE, JCP_FASTEST as i32);
            let (mut start, mut size) = (out.as_mut_ptr(), out.len() as _);
            jpeg_mem_dest(&mut to, &mut start, &mut size);
            to.image_width = width.into();
            to.image_height = height.into();
            to.input_components = 3;
            to.in_color_space = J_COLOR_SPACE::JCS_YCbCr;
            jpeg_set_defaults(&mut to);
            jpeg_set_quality(&mut to, writing.quality, 1);
            (*to.comp_info).h_samp_factor = writing.factors.0;
            (*to.comp_info).v_samp_factor = writing.factors.1;
            to.restart_interval = writing.restart_interval;
            to.optimize_coding = writing.optimized.into();
            jpeg_start_compress(&mut to, 1);
            for y in 0..i32::from(height) {
                let line: Vec<u8> = (0..3 * i32::from(width))
                    .map(|i| {
                        let edge = if (i / 3 + y) % 90 < 40 { 220 } else { 20 };
                        (edge + y / 4 - i / 9 + random.i32(-noise..=noise)).clamp(0, 255) as u8
                    })
                    .collect();
                jpeg_write_scanlines(&mut to, [line.as_ptr()].as_ptr(), 1);
            }
            jpeg_finish_compress(&mut to);
            jpeg_destroy_compress(&mut to);
            out.truncate(size as usize);
        }
        out
    }

    /// Whether there are planes. If so, they must be what libjpeg makes at that scale, but for 4:2:0's chroma, which
    /// that decodes twice as large.
    fn compare(libjpeg: &mut Libjpeg, eighths: &mut Eighths, jpeg: &[u8]) -> Option<bool> {
        let mut out = FrameBuf::new(1);
        let mut decoded = None;
        let result = libjpeg.run(None, &mut out, |_, from| {
            let mut from = from.read_header(jpeg)?;
            let whole = from.size()?;
            from.scale(Size {
                width: 1,
                height: 1,
            });
            let planes = from.decode_eighths(eighths);
            decoded = Some(planes.is_some());
            let Some(planes) = planes else {
                return Ok(());
            };
            from.start_raw()?;
            let mut rows = vec![0; 1 << 20];
            let mut done = 0;
            while from.read_mcu_row(&mut rows)? {
                let mut rest = &rows[..];
                for (i, theirs) in from.planes().iter().enumerate() {
                    let ours = &planes[i];
                    let (these, others) = rest.split_at(theirs.lines() * theirs.line());
                    rest = others;
                    if ours.size != theirs.size() {
                        assert!(i > 0 && theirs.size().width > ours.size.width, "{whole:?}");
                        continue;
                    }
                    for (line, theirs) in these.chunks_exact(theirs.line()).enumerate() {
                        let line = done * these.len() / theirs.len() + line;
                        if line < ours.size.height.into() {
                            let ours = ours.line(line);
                            assert_eq!(ours, &theirs[..ours.len()], "plane {i}, line {line}");
                        }
                    }
                }
                done += 1;
            }
            from.finish()?;
            Ok::<(), Failed>(())
        });
        // Nothing is written, so nothing else can be wrong than the JPEG.
        if decoded == Some(true) {
            result.expect("libjpeg reads it, too");
        }
        decoded
    }

    fn any(random: &mut fastrand::Rng) -> Writing {
        Writing {
            factors: [(1, 1), (2, 1), (2, 2), (1, 2)][random.usize(..4)],
            quality: random.i32(1..=100),
            restart_interval: if random.bool() { 0 } else { random.u32(1..40) },
            optimized: random.bool(),
        }
    }

    #[test]
    fn a_picture_is_what_libjpeg_makes_of_it() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut libjpeg, mut eighths) = (Libjpeg::new(), Eighths::new());
        for round in 0..300 {
            let writing = any(&mut random);
            let (width, height) = (random.u16(16..200), random.u16(16..200));
            let mut jpeg = write(width, height, &writing, &mut random);
            if round % 3 == 0 {
                // As cameras do.
                let eoi = jpeg.len() - 2;
                jpeg.splice(eoi..eoi, [0, 0xFF, 0, 17, 0xFF]);
            }
            let done = compare(&mut libjpeg, &mut eighths, &jpeg);
            assert_eq!(done, Some(true), "round {round}");
        }
    }

    #[test]
    fn damage_is_left_to_libjpeg_where_it_shows() {
        let mut random = fastrand::Rng::with_seed(4);
        let (mut libjpeg, mut eighths) = (Libjpeg::new(), Eighths::new());
        let (mut done, mut left) = (0, 0);
        for _ in 0..3000 {
            let mut writing = any(&mut random);
            writing.factors = [(1, 1), (2, 1), (1, 2)][random.usize(..3)];
            let mut jpeg = write(40, 30, &writing, &mut random);
            match random.u8(..4) {
                0 => jpeg.truncate(random.usize(..jpeg.len())),
                1 => {
                    let at = random.usize(..jpeg.len());
                    jpeg.drain(at..(at + random.usize(1..20)).min(jpeg.len()));
                }
                _ => {
                    for _ in 0..random.usize(1..4) {
                        let at = random.usize(..jpeg.len());
                        jpeg[at] = if random.bool() { 0xFF } else { random.u8(..) };
                    }
                }
            }
            match compare(&mut libjpeg, &mut eighths, &jpeg) {
                Some(true) => done += 1,
                Some(false) => left += 1,
                None => {}
            }
        }
        assert!(done > 300 && left > 300, "{done} decoded, {left} left");
    }
}
