//! JPEGs at 1/8 and 2/8 of their size, by a few coefficients of each block. At 1/8 that is the DC coefficient, which is
//! eight times the mean of the block, the one sample that libjpeg makes of it at that scale. At 2/8 it is the four of the
//! lowest frequencies; libjpeg-turbo takes 25, which show as little more than aliasing in pictures so small.
//!
//! Nearly all that such a picture costs is the way through coefficients that are not wanted. libjpeg decodes them one by
//! one; here a table tells how far one glance at the stream leads, which is often over several. What is out of the
//! ordinary (several scans, other samplings than those of cameras, any damage) is left to libjpeg.

use std::array;

use super::mcu::{COMPONENTS, Factors};
use crate::limits::DIMENSION_MAX;
use crate::picture::frame::Size;
use crate::picture::samples;

/// Bits that are looked at together: enough for most codes along with the bits that follow them, and tables whose busy
/// parts fit the first cache of small boards.
const GLANCE: u32 = 11;
/// The longest code, in bits.
const CODE_MAX: u32 = 16;
/// What libjpeg takes in a table for DC coefficients.
const DC_SYMBOL_MAX: u8 = 15;
/// Bits of a coefficient of 8-bit samples, or of a difference of two. (T.81, F.1.2)
const VALUE_MAX: u32 = 11;
/// Coefficients of a block.
const BLOCK: u32 = 64;
/// The largest factor of a sampling that is done here.
const FACTOR_MAX: usize = 2;
/// Samples of a block's line.
const SIDE_MAX: usize = 2;
/// Blocks of a component along the longest side, to whole MCUs.
const BLOCKS_MAX: usize = DIMENSION_MAX as usize / 8 + FACTOR_MAX;
/// Blocks of an MCU, and lines of them: those of the first component, and one of each other.
const MCU_BLOCKS: usize = FACTOR_MAX * FACTOR_MAX + COMPONENTS - 1;
const MCU_LINES: usize = FACTOR_MAX + COMPONENTS - 1;
/// What an MCU can take: each coefficient with the longest code and the most bits that a symbol can announce.
const MCU_BYTES: usize = MCU_BLOCKS * BLOCK as usize * (CODE_MAX as usize + 15).div_ceil(8);

/// Places of coefficients in the stream that are told apart: of (0,0), (0,1), (1,0), (2,0), (1,1) and two more, and one
/// that stands for all others.
const PLACES: usize = 8;
/// A line of blocks has its coefficients place by place, so far from one to the next.
const STEP: usize = BLOCKS_MAX;
/// The coefficients of a block, and what lies between them.
type Block = [i16; (PLACES - 1) * STEP + 1];
/// The last place that counts at 2/8.
const LOW_END: usize = 4;

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
    /// Of the coefficients (0,0), (0,1), (1,0), (1,1).
    pub(super) quantizers: [u16; 4],
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

/// A plane of a reduced picture.
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

/// The scales that are made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Eighth,
    Quarter,
}

/// Reads JPEGs at small scales, in memory that is taken once.
pub(super) struct Reducer {
    /// As numbered in the JPEG; kept from one picture to the next, whose tables mostly are the same.
    dc: Box<[Codes; 4]>,
    ac: Box<[AcCodes; 4]>,
    /// One row of MCUs: lines of blocks, component after component.
    lines: Box<[i16]>,
    planes: [Box<[u8]>; COMPONENTS],
}

impl Reducer {
    /// Room for the largest pictures. Pages that were never used cost no memory.
    pub(super) fn new() -> Self {
        Reducer {
            dc: Box::new(array::from_fn(|_| Codes::new())),
            ac: Box::new(array::from_fn(|_| AcCodes::new())),
            lines: vec![0; MCU_LINES * PLACES * STEP].into_boxed_slice(),
            planes: array::from_fn(|_| vec![0; (SIDE_MAX * BLOCKS_MAX).pow(2)].into_boxed_slice()),
        }
    }

    /// `None`: this is for libjpeg to decode, or to refuse.
    pub(super) fn decode(
        &mut self,
        scan: &Scan<'_>,
        scale: Scale,
    ) -> Option<[Plane<'_>; COMPONENTS]> {
        match scale {
            Scale::Eighth => self.decode_blocks(scan, 1, dc_alone),
            Scale::Quarter => self.decode_blocks(scan, 2, lowest),
        }
    }

    /// `side` is that of a block in samples. `read` reads a block from a bit on, and gives the one behind it.
    #[inline(always)] // for each scale, with `read` inlined in turn
    fn decode_blocks(
        &mut self,
        scan: &Scan<'_>,
        side: usize,
        read: impl Fn(&mut Channel<'_>, &Window, u32, &mut Block) -> u32,
    ) -> Option<[Plane<'_>; COMPONENTS]> {
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
            self.ac[component.ac.number].set(&component.ac)?;
        }
        let (width, height) = (usize::from(scan.size.width), usize::from(scan.size.height));
        let (across, down) = (width.div_ceil(8 * max_h), height.div_ceil(8 * max_v));

        let factors = [(max_h, max_v), (1, 1), (1, 1)];
        let mut channels: [_; COMPONENTS] =
            array::from_fn(|i| Channel::new(&components[i], &self.dc, &self.ac));
        // For each block of an MCU its component, how many that has side by side, and where it is in the first MCU.
        let mut mcu = [(0, 0, 0); MCU_BLOCKS];
        let mut count = 0;
        let mut line = 0;
        for (component, (h, v)) in factors.into_iter().enumerate() {
            for _ in 0..v {
                for x in 0..h {
                    mcu[count] = (component, h, line * PLACES * STEP + x);
                    count += 1;
                }
                line += 1;
            }
        }
        let mcu = &mcu[..count];
        let mut bits = Bits::new(scan.data);
        let mut restarts = 0;
        let mut left = scan.restart_interval;
        for mcu_y in 0..down {
            for mcu_x in 0..across {
                if scan.restart_interval != 0 {
                    if left == 0 {
                        bits.restart(restarts)?;
                        restarts = (restarts + 1) % 8;
                        for channel in &mut channels {
                            channel.last = 0;
                        }
                        left = scan.restart_interval;
                    }
                    left -= 1;
                }
                let mut at = bits.fill();
                for &(component, h, first) in mcu {
                    let block = self.lines[first + mcu_x * h..].first_chunk_mut();
                    let block = block.expect("the last line, too, has all places");
                    at = read(&mut channels[component], &bits.window, at, block);
                }
                bits.read_to(at)?;
            }
            let mut lines = self.lines.chunks_exact(PLACES * STEP);
            for (((h, v), plane), component) in
                factors.into_iter().zip(&mut self.planes).zip(components)
            {
                let width = across * h;
                let stride = width * side;
                let samples = &mut plane[mcu_y * v * side * stride..][..v * side * stride];
                // In this order: the last round takes no line.
                for (samples, line) in samples.chunks_exact_mut(side * stride).zip(&mut lines) {
                    if side == 1 {
                        samples::means(&line[..width], component.quantizers[0], samples);
                    } else {
                        let low = [0, 1, 2, LOW_END].map(|place| &line[place * STEP..][..width]);
                        let (top, bottom) = samples.split_at_mut(stride);
                        samples::quarters(low, &component.quantizers, top, bottom);
                    }
                }
            }
        }
        bits.end()?;

        let part = |of: usize, max: usize| (of * side).div_ceil(8 * max) as u16;
        let size = |max_h, max_v| Size {
            width: part(width, max_h),
            height: part(height, max_v),
        };
        let plane = |samples, size, h| Plane {
            size,
            samples,
            stride: across * h * side,
        };
        let [y, cb, cr] = &self.planes;
        Some([
            plane(y, size(1, 1), max_h),
            plane(cb, size(max_h, max_v), 1),
            plane(cr, size(max_h, max_v), 1),
        ])
    }
}

/// One component while it is read.
struct Channel<'a> {
    /// The DC coefficient of the last block.
    last: i32,
    /// What it may be: from here on, and so much more. It shows as twice what samples have at most; this far libjpeg
    /// comes to the same.
    least: i32,
    span: u32,
    dc: &'a Codes,
    ac: &'a AcCodes,
}

impl<'a> Channel<'a> {
    fn new(component: &Component<'_>, dc: &'a [Codes; 4], ac: &'a [AcCodes; 4]) -> Self {
        let quantizer = i32::from(component.quantizers[0]);
        let within = |most: i32| most.checked_div(quantizer).unwrap_or(most).min(4095);
        // Eight times a sample from -512 on, and below 512, once it is rounded.
        let (least, most) = (-within(4096 + 4), within(4095 - 4));
        Channel {
            last: 0,
            least,
            span: (most - least) as u32,
            dc: &dc[component.dc.number],
            ac: &ac[component.ac.number],
        }
    }

    /// Reads the DC coefficient of the next block.
    #[inline(always)]
    fn dc(&mut self, window: &Window, at: u32) -> Look {
        let (look, first) = window.coefficient(self.dc, window.look(at));
        self.last = self.last.wrapping_add(first.value());
        if self.last.wrapping_sub(self.least) as u32 > self.span {
            return Look { at: LOST, ..look };
        }
        look
    }
}

/// Reads a block's DC coefficient.
#[inline(always)]
fn dc_alone(channel: &mut Channel<'_>, window: &Window, at: u32, block: &mut Block) -> u32 {
    let look = channel.dc(window, at);
    block[0] = channel.last as i16;
    window.skip(channel.ac, BLOCK - 1, look.at)
}

/// Reads a block's coefficients of the lowest frequencies.
#[inline(always)]
fn lowest(channel: &mut Channel<'_>, window: &Window, at: u32, block: &mut Block) -> u32 {
    let mut look = channel.dc(window, at);
    block[0] = channel.last as i16;
    for place in [1, 2, LOW_END] {
        block[place * STEP] = 0;
    }
    let mut place = 0;
    loop {
        let (next, coefficient) = window.coefficient(&channel.ac.codes, look);
        place += coefficient.step();
        block[(place as usize).min(PLACES - 1) * STEP] = coefficient.value() as i16;
        if place >= First::END {
            return next.at;
        }
        if place >= LOW_END as u32 {
            return window.skip(channel.ac, BLOCK - 1 - place, next.at);
        }
        look = window.look(next.at);
    }
}

/// A Huffman code.
struct Codes {
    /// What it was made of.
    counts: [u8; 17],
    symbols: [u8; 256],
    /// For the next bits of the stream what they begin with.
    first: [First; 1 << GLANCE],
    /// For each length the codes of that length and below, as numbers of `CODE_MAX` bits, are below this.
    ends: [u32; CODE_MAX as usize + 1],
    /// What to add to a code of each length for its place in `symbols`.
    offsets: [i32; CODE_MAX as usize + 1],
}

impl Codes {
    /// Without any code.
    fn new() -> Self {
        Codes {
            counts: [0; 17],
            symbols: [0; 256],
            first: [First::NONE; 1 << GLANCE],
            ends: [0; CODE_MAX as usize + 1],
            offsets: [0; CODE_MAX as usize + 1],
        }
    }

    fn clear(&mut self) {
        self.counts = [0; 17];
        self.first.fill(First::NONE);
        self.ends = [0; _];
    }

    fn is(&self, huffman: &Huffman<'_>) -> bool {
        self.counts[1..] == huffman.counts[1..] && self.symbols == *huffman.symbols
    }

    /// `None`: these are no codes, or stand for more than `symbol_max`.
    fn set(&mut self, huffman: &Huffman<'_>, symbol_max: u8) -> Option<()> {
        if self.is(huffman) {
            return Some(());
        }
        self.clear();
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
                    self.clear();
                    return None;
                };
                if length <= GLANCE {
                    let rest = GLANCE - length;
                    First::fill(
                        symbol,
                        length,
                        &mut self.first[(code << rest) as usize..][..1 << rest],
                    );
                }
                code += 1;
                place += 1;
            }
            self.ends[length as usize] = code << (CODE_MAX - length);
            code <<= 1;
        }
        // Only now: a table that was refused is none.
        (self.counts, self.symbols) = (*huffman.counts, *huffman.symbols);
        Some(())
    }

    /// Fills in what is known of glances that begin with so many bits of so many coefficients, in the order of the rest
    /// of them.
    fn fill_skips(&self, skips: &mut [Skip], bits: u32, coefficients: u32) {
        skips.fill(if bits == 0 {
            Skip::NONE
        } else {
            Skip::new(bits, coefficients)
        });
        let (mut code, mut symbols) = (0, self.symbols.iter());
        for length in 1..=GLANCE - bits {
            let count = self.counts[length as usize].into();
            for &symbol in symbols.by_ref().take(count) {
                let (step, size) = step(symbol);
                let ends = step == First::END;
                let (bits, coefficients) = (
                    bits + length + size,
                    coefficients + if ends { 1 } else { step },
                );
                if bits <= GLANCE && coefficients < BLOCK {
                    let rest = 1 << (GLANCE - bits);
                    let all = &mut skips[(code * rest) << size..][..rest << size];
                    // The same for all numbers that the symbol announces.
                    let (first, others) = all.split_at_mut(rest);
                    if ends {
                        first.fill(Skip::new(bits, coefficients + Skip::END));
                    } else {
                        self.fill_skips(first, bits, coefficients);
                    }
                    for other in others.chunks_exact_mut(rest) {
                        other.copy_from_slice(first);
                    }
                }
                code += 1;
            }
            code *= 2;
        }
    }

    /// The symbol longer than a glance that `word` begins with, and its length.
    fn long(&self, word: u32) -> Option<(u8, u32)> {
        let code = word >> (u32::BITS - CODE_MAX);
        let length = (GLANCE + 1..=CODE_MAX).find(|&length| code < self.ends[length as usize])?;
        let code = (code >> (CODE_MAX - length)) as i32;
        let place = usize::try_from(code + self.offsets[length as usize]).ok()?;
        Some((*self.symbols.get(place)?, length))
    }
}

/// A symbol and, if it is within the glance, the number that follows it.
///
/// From the highest bits on: 16 the number, 8 how many coefficients it leads on, 8 all its bits. If the number is not
/// within: 16 how many bits it has, 8 as above, and 8 the bits of the symbol, with [`First::ALONE`].
#[derive(Clone, Copy)]
struct First(u32);

impl First {
    const ALONE: u32 = 32;
    /// The symbol is longer than a glance, or is none.
    const NONE: First = First(Self::ALONE);
    /// Coefficients that the end of a block leads on: more than there are.
    const END: u32 = BLOCK;

    /// For all glances that begin with a symbol.
    fn fill(symbol: u8, length: u32, glances: &mut [First]) {
        let (step, size) = step(symbol);
        if length + size > GLANCE {
            glances.fill(First(size << 16 | step << 8 | length | Self::ALONE));
            return;
        }
        // Of at most `GLANCE` bits.
        for (number, glances) in (0..).zip(glances.chunks_exact_mut(1 << (GLANCE - length - size)))
        {
            let value = signed(number << (u32::BITS - 1 - size) << 1, size);
            glances.fill(First((value << 16) as u32 | step << 8 | (length + size)));
        }
    }

    fn value(self) -> i32 {
        self.0 as i32 >> 16
    }

    fn step(self) -> u32 {
        self.0 >> 8 & 0xFF
    }

    fn bits(self) -> u32 {
        self.0 & 0xFF
    }
}

/// How many coefficients an AC symbol leads on, and the bits that follow it.
fn step(symbol: u8) -> (u32, u32) {
    let size = u32::from(symbol & 15);
    // 0 ends a block. Others without bits are for progressive JPEGs, and libjpeg takes them for 0.
    if size == 0 && symbol != 0xF0 {
        (First::END, 0)
    } else {
        (u32::from(symbol >> 4) + 1, size)
    }
}

/// A Huffman code of AC coefficients.
struct AcCodes {
    codes: Codes,
    /// For the next bits of the stream how far they lead.
    skips: [Skip; 1 << GLANCE],
}

impl AcCodes {
    fn new() -> Self {
        AcCodes {
            codes: Codes::new(),
            skips: [Skip::NONE; 1 << GLANCE],
        }
    }

    fn set(&mut self, huffman: &Huffman<'_>) -> Option<()> {
        if self.codes.is(huffman) {
            return Some(());
        }
        self.codes.set(huffman, u8::MAX)?;
        self.codes.fill_skips(&mut self.skips, 0, 0);
        Some(())
    }
}

/// Codes with the bits that follow them, as many as fit a glance: all their bits, and the coefficients, shifted by 4. The
/// end of a block counts as one, and [`Skip::END`] is added.
#[derive(Clone, Copy)]
struct Skip(u16);

impl Skip {
    const END: u32 = 2 * BLOCK;
    /// More coefficients than there can be: not even one code.
    const NONE: Skip = Skip(0xFFF0);

    fn new(bits: u32, coefficients: u32) -> Self {
        Skip(((coefficients << 4) | bits) as u16)
    }

    fn bits(self) -> u32 {
        u32::from(self.0 & 15)
    }

    fn coefficients(self) -> u32 {
        u32::from(self.0 >> 4)
    }
}

/// The number that the first `size` bits of `word` are, as coefficients are written (T.81, F.12).
#[inline(always)]
fn signed(word: u32, size: u32) -> i32 {
    // In two steps, as a number cannot be shifted by all of its bits.
    let value = ((word >> 1) >> (u32::BITS - 1 - size)) as i32;
    if word >> (u32::BITS - 1) == 0 {
        value - (1 << size) + 1
    } else {
        value
    }
}

/// What to look a word up by.
#[inline(always)]
fn glance(word: u32) -> usize {
    (word >> (u32::BITS - GLANCE)) as usize
}

/// Where the next bit is, and the bits from there on, from the highest on.
#[derive(Clone, Copy)]
struct Look {
    at: u32,
    word: u32,
}

/// Bits that a look has at least: enough for two glances, for the longest code, and for the longest value.
const LOOK: u32 = u32::BITS - 7;
const _: () =
    assert!(2 * GLANCE <= LOOK && CODE_MAX <= LOOK && VALUE_MAX <= LOOK && GLANCE < CODE_MAX);
/// Instead of the next bit, after damage: beyond all data, and far from overflow.
const LOST: u32 = 1 << 30;
/// A power of two, so that any place is brought within it by a mask.
const WINDOW: usize = 4096;
const _: () = assert!(WINDOW.is_power_of_two() && 2 * MCU_BYTES <= WINDOW);

/// A part of a scan, without the zero bytes that follow each FF. From any MCU on it is longer than that can be, but at the
/// end of the data. What is read beyond that, or after damage, is any bits, until [`Bits::read_to`] finds out.
struct Window([u8; WINDOW + size_of::<u32>()]);

impl Window {
    #[inline(always)]
    fn look(&self, at: u32) -> Look {
        let bytes = &self.0[at as usize / 8 % WINDOW..];
        let word = bytes
            .first_chunk()
            .expect("there are four bytes more than WINDOW");
        Look {
            at,
            word: u32::from_be_bytes(*word) << (at % 8),
        }
    }

    /// The next coefficient, and what comes after it. If that is to be the next but one as well, another look is due.
    #[inline(always)]
    fn coefficient(&self, codes: &Codes, Look { at, word }: Look) -> (Look, First) {
        let first = codes.first[glance(word)];
        if first.0 & First::ALONE != 0 {
            let (at, first) = self.large_coefficient(codes, first, at);
            return (self.look(at), first);
        }
        let bits = first.bits();
        (
            Look {
                at: at + bits,
                word: word << bits,
            },
            first,
        )
    }

    /// What is longer than a glance.
    #[inline(never)]
    fn large_coefficient(&self, codes: &Codes, first: First, at: u32) -> (u32, First) {
        let (length, step, size) = if first.0 == First::NONE.0 {
            let Some((symbol, length)) = codes.long(self.look(at).word) else {
                return (LOST, First(First::END << 8));
            };
            let (step, size) = step(symbol);
            (length, step, size)
        } else {
            (
                first.bits() & !First::ALONE,
                first.step(),
                first.value() as u32,
            )
        };
        if size > VALUE_MAX {
            return (LOST, First(First::END << 8));
        }
        let at = at + length;
        let value = signed(self.look(at).word, size);
        (at + size, First((value << 16) as u32 | step << 8))
    }

    /// Goes past the coefficients that are left of a block, at least one.
    #[inline(always)]
    fn skip(&self, ac: &AcCodes, left: u32, mut at: u32) -> u32 {
        // One less, so that the end is where a subtraction overflows.
        let mut left = left - 1;
        loop {
            let mut word = self.look(at).word;
            let mut skip = ac.skips[glance(word)];
            let mut over;
            (left, over) = left.overflowing_sub(skip.coefficients());
            if !over {
                at += skip.bits();
                word <<= skip.bits();
                skip = ac.skips[glance(word)];
                (left, over) = left.overflowing_sub(skip.coefficients());
                if !over {
                    at += skip.bits();
                    continue;
                }
            }
            // So many too many are with the end of the block, after no more than were left.
            if (Skip::END + 2 - BLOCK..=Skip::END + 1).contains(&left.wrapping_neg()) {
                return at + skip.bits();
            }
            // Not even one code, or not an end, or more than the rest of this block: one by one.
            left = left.wrapping_add(skip.coefficients());
            (at, left) = self.skip_one(ac, left, at);
            if left == u32::MAX {
                return at;
            }
        }
    }

    /// Goes past one coefficient. `left` is one less than what is left.
    #[inline(never)]
    fn skip_one(&self, ac: &AcCodes, left: u32, at: u32) -> (u32, u32) {
        let (look, first) = self.coefficient(&ac.codes, self.look(at));
        match first.step() {
            First::END => (look.at, u32::MAX),
            step if step > left + 1 => (LOST, u32::MAX),
            step => (look.at, left.wrapping_sub(step)),
        }
    }
}

/// The bits of a scan, up to a marker.
struct Bits<'a> {
    data: &'a [u8],
    /// Of the first byte that is not in the window.
    next: usize,
    window: Window,
    /// Bytes in the window.
    filled: usize,
    /// The next bit of the window.
    at: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        let mut bits = Bits {
            data,
            next: 0,
            window: Window([0; WINDOW + size_of::<u32>()]),
            filled: 0,
            at: 0,
        };
        bits.load();
        bits
    }

    /// Sees to it that the window has all of the next MCU, if the data does. Gives the next bit.
    #[inline(always)]
    fn fill(&mut self) -> u32 {
        if self.at as usize / 8 > WINDOW - MCU_BYTES {
            self.load();
        }
        self.at
    }

    #[cold]
    fn load(&mut self) {
        let used = self.at as usize / 8;
        self.window.0.copy_within(used..self.filled, 0);
        self.filled -= used;
        self.at %= 8;
        while self.filled < WINDOW {
            let rest = &self.data[self.next..];
            let rest = &rest[..rest.len().min(WINDOW - self.filled)];
            let plain = memchr::memchr(0xFF, rest);
            let count = plain.unwrap_or(rest.len());
            self.window.0[self.filled..][..count].copy_from_slice(&rest[..count]);
            self.filled += count;
            self.next += count;
            if plain.is_none() || !self.data[self.next..].starts_with(&[0xFF, 0]) {
                return;
            }
            self.window.0[self.filled] = 0xFF;
            self.filled += 1;
            self.next += 2;
        }
    }

    /// `None`: there was not all of what was read.
    #[inline(always)]
    fn read_to(&mut self, at: u32) -> Option<()> {
        self.at = at;
        (at as usize <= 8 * self.filled).then_some(())
    }

    /// Goes past the restart marker of this number (0 to 7), which is next.
    fn restart(&mut self, number: u8) -> Option<()> {
        let marker = [0xFF, 0xD0 + number];
        if 8 * self.filled - self.at as usize >= 8 || !self.data[self.next..].starts_with(&marker) {
            return None;
        }
        self.next += marker.len();
        (self.filled, self.at) = (0, 0);
        self.load();
        Some(())
    }

    /// Checks that EOI is the next marker. Bytes may come before it, as many UVC cameras have them.
    fn end(&self) -> Option<()> {
        let mut bytes = &self.data[self.next..];
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

#[cfg(test)]
#[path = "reduced_tests.rs"]
mod tests;
