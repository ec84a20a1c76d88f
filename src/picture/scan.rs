//! Whether the scan of a JPEG is that of one whole picture (ITU-T T.81, Annex F): its Huffman codes are followed to the
//! last MCU, and nothing is made of them. It takes about 45 instructions a byte, a hundred times what a search for markers
//! does, so that only pictures in doubt are looked at like this ([`super::whole`]).

use super::jpeg::STANDARD_TABLES;

const PREFIX: u8 = 0xFF;
const SOF0: u8 = 0xC0;
const SOF1: u8 = 0xC1;
const DHT: u8 = 0xC4;
const SOS: u8 = 0xDA;
const DRI: u8 = 0xDD;

/// Bits of a code that are looked up at once.
const LOOK: u32 = 9;
/// The longest code, in bits.
const CODE_MAX: usize = 16;
/// Coefficients of a block.
const BLOCK: u32 = 64;
/// Of an interleaved scan. (B.2.3)
const COMPONENTS: usize = 4;
/// In an MCU. (B.2.3)
const BLOCKS: usize = 10;

/// Whether a JPEG, from its SOI to its EOI and with a header that [`super::jpeg::inspect`] found good, has as many MCUs as
/// its size asks for, and nothing else. True, too, where this cannot be told: of several scans, arithmetic codes, 12 bits.
pub fn is_whole(jpeg: &[u8]) -> bool {
    match Scan::of(jpeg) {
        Some(mut scan) => scan.follow().is_some(),
        None => true,
    }
}

/// A table of codes: how far each leads, in bits and in coefficients.
struct Codes {
    /// For the next [`LOOK`] bits: what they begin with. Of no bits: a code that is longer, or none.
    look: [Step; 1 << LOOK],
    /// By length: the first number that is no code of this length any more, left-aligned to 16 bits.
    limit: [u32; CODE_MAX + 1],
    /// By length: what to add to a code to find its symbol.
    offset: [i32; CODE_MAX + 1],
    steps: [Step; 256],
}

/// What a symbol stands for.
#[derive(Clone, Copy)]
struct Step {
    /// Of the code and of the value behind it.
    bits: u8,
    /// Coefficients, or [`END`].
    coefficients: u8,
}

/// As many coefficients as no block has: there are no more.
const END: u8 = 2 * BLOCK as u8;

impl Step {
    const NONE: Step = Step {
        bits: 0,
        coefficients: 0,
    };

    /// Of a code of so many bits. (F.1.2.1, F.1.2.2)
    fn of(symbol: u8, length: u8, is_ac: bool) -> Step {
        let (run, size) = (symbol >> 4, symbol & 15);
        let coefficients = match (is_ac, run, size) {
            (false, ..) => 1,
            (true, 0..15, 0) => END,
            (true, ..) => run + 1,
        };
        Step {
            bits: length + size,
            coefficients,
        }
    }
}

impl Codes {
    const NONE: Codes = Codes {
        look: [Step::NONE; 1 << LOOK],
        limit: [0; CODE_MAX + 1],
        offset: [0; CODE_MAX + 1],
        steps: [Step::NONE; 256],
    };

    /// From the counts of codes by length, and what follows them (C.2). Gives what follows the table.
    fn set<'a>(&mut self, is_ac: bool, counts: &[u8], rest: &'a [u8]) -> Option<&'a [u8]> {
        let total = counts.iter().map(|&n| usize::from(n)).sum();
        let symbols = rest.get(..total)?;
        if total > self.steps.len() {
            return None;
        }
        *self = Codes::NONE;
        let mut code = 0u32;
        let mut index = 0;
        for (length, &count) in (1..).zip(counts) {
            self.offset[length] = index as i32 - code as i32;
            for &symbol in &symbols[index..index + usize::from(count)] {
                if code >> length != 0 {
                    return None;
                }
                let step = Step::of(symbol, length as u8, is_ac);
                self.steps[index] = step;
                if let Some(free) = LOOK.checked_sub(length as u32) {
                    let first = (code << free) as usize;
                    self.look[first..first + (1 << free)].fill(step);
                }
                (code, index) = (code + 1, index + 1);
            }
            self.limit[length] = code << (CODE_MAX - length);
            code <<= 1;
        }
        Some(&rest[total..])
    }

    /// What a code that is not in `look` stands for; `bits`: the next 16. (F.2.2.3)
    #[cold]
    fn long(&self, bits: u32) -> Option<Step> {
        let length = (LOOK as usize + 1..=CODE_MAX).find(|&n| bits < self.limit[n])?;
        let index = (bits >> (CODE_MAX - length)) as i32 + self.offset[length];
        let step = *self.steps.get(usize::try_from(index).ok()?)?;
        (step.bits > 0).then_some(step)
    }
}

struct Scan<'a> {
    dc: [Codes; COMPONENTS],
    ac: [Codes; COMPONENTS],
    /// Of each block of an MCU: its tables for DC and AC coefficients.
    blocks: [(u8, u8); BLOCKS],
    in_mcu: usize,
    mcus: u32,
    /// In MCUs.
    interval: u32,
    bits: Bits<'a>,
}

impl<'a> Scan<'a> {
    fn of(jpeg: &'a [u8]) -> Option<Self> {
        let mut scan = Scan {
            dc: [Codes::NONE; COMPONENTS],
            ac: [Codes::NONE; COMPONENTS],
            blocks: [(0, 0); BLOCKS],
            in_mcu: 0,
            mcus: 0,
            interval: 0,
            bits: Bits::new(&[]),
        };
        scan.tables(&STANDARD_TABLES[4..])?;
        let mut frame = None;
        let mut at = 2;
        loop {
            while *jpeg.get(at + 1)? == PREFIX {
                at += 1;
            }
            let marker = jpeg[at + 1];
            let length = u16::from_be_bytes([*jpeg.get(at + 2)?, *jpeg.get(at + 3)?]) as usize;
            let content = jpeg.get(at + 4..at + 2 + length)?;
            at += 2 + length;
            match marker {
                DHT => scan.tables(content)?,
                DRI => {
                    scan.interval = u16::from_be_bytes([*content.first()?, *content.get(1)?]).into()
                }
                SOF0 | SOF1 if *content.first()? == 8 => frame = Some(content),
                SOS => {
                    scan.lay_out(frame?, content)?;
                    scan.bits = Bits::new(jpeg.get(at..)?);
                    return Some(scan);
                }
                _ => {}
            }
        }
    }

    fn tables(&mut self, mut content: &[u8]) -> Option<()> {
        while let [class_and_number, rest @ ..] = content {
            let number = usize::from(class_and_number & 15);
            let is_ac = class_and_number >> 4 != 0;
            let codes = match is_ac {
                false => self.dc.get_mut(number)?,
                true => self.ac.get_mut(number)?,
            };
            content = codes.set(is_ac, rest.get(..CODE_MAX)?, &rest[CODE_MAX..])?;
        }
        Some(())
    }

    /// What an MCU is made of, and how many there are. (A.2)
    fn lay_out(&mut self, frame: &[u8], header: &[u8]) -> Option<()> {
        let side = |at: usize| {
            Some(u32::from(u16::from_be_bytes([
                frame[at],
                *frame.get(at + 1)?,
            ])))
        };
        let (height, width) = (side(1)?, side(3)?);
        let components = frame.get(6..)?.chunks_exact(3);
        let count = usize::from(*frame.get(5)?);
        if components.len() != count || usize::from(*header.first()?) != count {
            return None;
        }
        let selectors = header.get(1..1 + 2 * count)?.chunks_exact(2);
        let (mut across, mut down) = (1, 1);
        for (component, selector) in components.zip(selectors) {
            let (h, v) = (component[1] >> 4, component[1] & 15);
            if component[0] != selector[0] || h == 0 || v == 0 {
                return None;
            }
            let blocks = match count {
                1 => 1,
                _ => usize::from(h) * usize::from(v),
            };
            if count > 1 {
                (across, down) = (across.max(h.into()), down.max(v.into()));
            }
            let tables = (selector[1] >> 4, selector[1] & 15);
            if usize::from(tables.0) >= COMPONENTS || usize::from(tables.1) >= COMPONENTS {
                return None;
            }
            let end = self.in_mcu + blocks;
            self.blocks.get_mut(self.in_mcu..end)?.fill(tables);
            self.in_mcu = end;
        }
        self.mcus = width.div_ceil(8 * across) * height.div_ceil(8 * down);
        Some(())
    }

    /// `None`: it is not whole.
    fn follow(&mut self) -> Option<()> {
        let Scan { dc, ac, bits, .. } = self;
        let blocks = &self.blocks[..self.in_mcu];
        for mcu in 0..self.mcus {
            if mcu > 0 && self.interval > 0 && mcu % self.interval == 0 {
                bits.restart()?;
            }
            for &(d, a) in blocks {
                block(&dc[usize::from(d)], &ac[usize::from(a)], bits)?;
            }
            if bits.have < 0 {
                return None;
            }
        }
        bits.is_end().then_some(())
    }
}

/// Passes over one block. (F.2.2)
#[inline]
fn block(dc: &Codes, ac: &Codes, bits: &mut Bits<'_>) -> Option<()> {
    bits.step(dc)?;
    let mut coefficients = 1;
    while coefficients < BLOCK {
        coefficients += u32::from(bits.step(ac)?);
    }
    // Coefficients beyond the block are damage.
    (coefficients == BLOCK || coefficients >= END.into()).then_some(())
}

/// The bits of entropy-coded data, up to the next marker, and zeros behind that.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// Left-aligned.
    word: u64,
    /// Of `word`, those that are of the data; below 0, so many zeros were taken.
    have: i32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Bits {
            data,
            at: 0,
            word: 0,
            have: 0,
        }
    }

    /// Passes over a code and the value behind it, 31 bits at most.
    #[inline]
    fn step(&mut self, codes: &Codes) -> Option<u8> {
        if self.have < 32 {
            self.fill();
        }
        let mut step = codes.look[(self.word >> (64 - LOOK)) as usize];
        if step.bits == 0 {
            step = codes.long((self.word >> 48) as u32)?;
        }
        self.word <<= step.bits;
        self.have -= i32::from(step.bits);
        Some(step.coefficients)
    }

    #[inline]
    fn fill(&mut self) {
        // Four bytes at once, if none of them is 0xFF: then none of their complements is 0.
        if let Some(&bytes) = self.data.get(self.at..).and_then(<[u8]>::first_chunk) {
            let four = u32::from_be_bytes(bytes);
            let zero_byte = (!four).wrapping_sub(0x0101_0101) & four & 0x8080_8080;
            if zero_byte == 0 && self.have >= 0 {
                self.word |= u64::from(four) << (32 - self.have);
                self.have += 32;
                self.at += 4;
                return;
            }
        }
        self.fill_slowly();
    }

    #[cold]
    fn fill_slowly(&mut self) {
        while (0..=56).contains(&self.have) {
            let Some(&byte) = self.data.get(self.at) else {
                return;
            };
            if byte == PREFIX {
                if self.data.get(self.at + 1) != Some(&0) {
                    return;
                }
                self.at += 1;
            }
            self.at += 1;
            self.word |= u64::from(byte) << (56 - self.have);
            self.have += 8;
        }
    }

    /// Whether nothing but filling lies before the next marker, which `at` is left at.
    fn is_end(&mut self) -> bool {
        // Whole bytes that are not used yet: those in `word`, where they are at the end of `have` bits, and what follows.
        let whole = self.have.max(0) / 8 * 8;
        let word = self.word << (self.have.max(0) - whole);
        let in_word = (0..whole / 8).map(|n| (word >> (56 - 8 * n)) as u8);
        let rest = &self.data[self.at..];
        let end = rest
            .windows(2)
            .position(|pair| pair[0] == PREFIX && pair[1] != 0)
            .unwrap_or(rest.len());
        let filling = |byte: &u8| matches!(*byte, 0 | PREFIX);
        self.at += end;
        in_word.clone().all(|byte| filling(&byte)) && rest[..end].iter().all(filling)
    }

    /// Goes over the restart marker that must be next.
    fn restart(&mut self) -> Option<()> {
        if !self.is_end() {
            return None;
        }
        while self.data.get(self.at + 1) == Some(&PREFIX) {
            self.at += 1;
        }
        if !matches!(self.data.get(self.at..)?, [PREFIX, 0xD0..=0xD7, ..]) {
            return None;
        }
        (self.at, self.word, self.have) = (self.at + 2, 0, 0);
        Some(())
    }
}
