//! Whether the scan of a JPEG is that of one whole picture (ITU-T T.81, Annex F): its Huffman codes are followed to the
//! last MCU, and nothing is made of them. It takes about 13 instructions a byte, so that only pictures in doubt are
//! looked at like this ([`super::whole`]).

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

/// A table of codes.
struct Codes {
    /// For the next [`LOOK`] bits: the length of the code that they begin with, and what it stands for. 0: it is longer,
    /// or there is none.
    look: [(u8, u8); 1 << LOOK],
    /// By length: the first number that is no code of this length any more, left-aligned to 16 bits.
    limit: [u32; CODE_MAX + 1],
    /// By length: what to add to a code to find its symbol.
    offset: [i32; CODE_MAX + 1],
    symbols: [u8; 256],
}

impl Codes {
    const NONE: Codes = Codes {
        look: [(0, 0); 1 << LOOK],
        limit: [0; CODE_MAX + 1],
        offset: [0; CODE_MAX + 1],
        symbols: [0; 256],
    };

    /// From the counts of codes by length, and what follows them (C.2). Gives what follows the table.
    fn set<'a>(&mut self, counts: &[u8], rest: &'a [u8]) -> Option<&'a [u8]> {
        let total = counts.iter().map(|&n| usize::from(n)).sum();
        let symbols = rest.get(..total)?;
        self.symbols.get_mut(..total)?.copy_from_slice(symbols);
        self.look.fill((0, 0));
        let mut code = 0u32;
        let mut index = 0;
        for (length, &count) in (1..).zip(counts) {
            let count = usize::from(count);
            self.offset[length] = index as i32 - code as i32;
            for &symbol in &symbols[index..index + count] {
                if code >> length != 0 {
                    return None;
                }
                if let Some(free) = LOOK.checked_sub(length as u32) {
                    let first = (code << free) as usize;
                    self.look[first..first + (1 << free)].fill((length as u8, symbol));
                }
                code += 1;
            }
            index += count;
            self.limit[length] = code << (CODE_MAX - length);
            code <<= 1;
        }
        Some(&rest[total..])
    }

    /// Length and symbol of the code that 16 bits begin with.
    fn find(&self, bits: u32) -> Option<(u32, u8)> {
        let (length, symbol) = self.look[(bits >> (CODE_MAX as u32 - LOOK)) as usize];
        if length > 0 {
            return Some((length.into(), symbol));
        }
        let length = (LOOK as usize + 1..=CODE_MAX).find(|&n| bits < self.limit[n])?;
        let index = (bits >> (CODE_MAX - length)) as i32 + self.offset[length];
        Some((length as u32, *self.symbols.get(index as usize)?))
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
            let codes = match class_and_number >> 4 {
                0 => self.dc.get_mut(number)?,
                _ => self.ac.get_mut(number)?,
            };
            content = codes.set(rest.get(..CODE_MAX)?, &rest[CODE_MAX..])?;
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
fn block(dc: &Codes, ac: &Codes, bits: &mut Bits<'_>) -> Option<()> {
    let (length, size) = dc.find(bits.peek())?;
    bits.skip(length + u32::from(size & 15));
    let mut left = 63u32;
    while left > 0 {
        let (length, symbol) = ac.find(bits.peek())?;
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        bits.skip(length + size);
        if size == 0 && run != 15 {
            break;
        }
        // Coefficients beyond the block are damage.
        left = left.checked_sub(run + 1)?;
    }
    Some(())
}

/// The bits of entropy-coded data, up to the next marker, and zeros behind that.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// Left-aligned.
    word: u64,
    /// Of `word`, those that are of the data.
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

    /// The next 16.
    #[inline]
    fn peek(&mut self) -> u32 {
        if self.have < 32 {
            self.fill();
        }
        (self.word >> 48) as u32
    }

    /// At most 31.
    #[inline]
    fn skip(&mut self, n: u32) {
        self.word <<= n;
        self.have -= n as i32;
    }

    fn fill(&mut self) {
        while self.have <= 56 && self.have >= 0 {
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
