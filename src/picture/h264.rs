//! H.264 as a stream of bytes (ITU-T H.264, Annex B): cut into access units, and as much of them understood as is needed to
//! pass them on. Nothing is decoded.
//!
//! A NAL unit begins behind a start code, `00 00 01`, in front of which any number of zeros may stand; its own bytes never
//! contain one. An access unit is one picture: its slices, and what stands in front of them (access unit delimiter,
//! parameter sets, SEI). That one is whole shows only by the beginning of the next (7.4.1.2.3), or by a silence: see
//! [`Splitter::flush`].

use std::fmt;
use std::ops::Range;

use memchr::memmem;

use super::frame::Size;
use crate::limits::{NALS, PARAMETER_SET, PICTURE_SETS, SEQUENCE_SETS};

/// The types of NAL units that matter here (H.264, table 7-1).
pub mod nal {
    /// A slice of a picture that leans on others.
    pub const SLICE: u8 = 1;
    /// A slice of a picture that stands for itself, and on which nothing from before it is leant on either.
    pub const IDR: u8 = 5;
    /// Supplemental enhancement information.
    pub const SEI: u8 = 6;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const AUD: u8 = 9;

    /// Of a NAL unit by its first byte.
    pub fn kind(first: u8) -> u8 {
        first & 0x1F
    }
}

/// What stands in front of a NAL unit in a stream of bytes.
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Whether this is how a stream of bytes begins. To be asked with as many as [`START_CODE`] has.
pub fn begins_stream(bytes: &[u8]) -> bool {
    bytes.starts_with(&START_CODE) || bytes.starts_with(&START_CODE[1..])
}

/// Why a stream cannot be passed on, for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Pictures that lean on later ones: they would be late by as many, and players need to be told their order.
    BPictures,
    /// Two fields a picture.
    Interlaced,
    /// A parameter set that makes no sense.
    Damaged,
    /// A parameter set of more than [`PARAMETER_SET`] bytes.
    TooLong,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::BPictures => {
                "its H.264 has B-pictures, which lean on later ones and so are late: ask the encoder for none (ffmpeg -bf 0)"
            }
            Refusal::Interlaced => {
                "its H.264 is interlaced: ask the encoder for progressive pictures"
            }
            Refusal::Damaged => "its H.264 has a parameter set that makes no sense",
            Refusal::TooLong => "its H.264 has a parameter set that is too long",
        })
    }
}

/// Bits of a NAL unit, without the bytes that only keep start codes out of it (7.4.1.1).
struct Bits<'a> {
    bytes: &'a [u8],
    /// Bytes taken, and bits of the last one that are left.
    at: usize,
    left: u32,
    zeros: u8,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Bits {
            bytes,
            at: 0,
            left: 0,
            zeros: 0,
        }
    }

    fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            if self.zeros >= 2 && self.bytes.get(self.at) == Some(&3) {
                (self.at, self.zeros) = (self.at + 1, 0);
            }
            let byte = *self.bytes.get(self.at)?;
            self.zeros = match byte {
                0 => self.zeros.saturating_add(1),
                _ => 0,
            };
            (self.at, self.left) = (self.at + 1, 8);
        }
        self.left -= 1;
        Some(u32::from(self.bytes[self.at - 1] >> self.left) & 1)
    }

    /// u(n)
    fn bits(&mut self, n: u32) -> Option<u32> {
        (0..n).try_fold(0, |value, _| Some(value << 1 | self.bit()?))
    }

    /// ue(v), an Exp-Golomb code (9.1).
    fn number(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.bits(zeros)?)
    }

    /// se(v)
    fn signed(&mut self) -> Option<i64> {
        let code = i64::from(self.number()?);
        Some(if code % 2 == 1 {
            (code + 1) / 2
        } else {
            -code / 2
        })
    }
}

/// Bytes of a NAL unit.
type Set = heapless::Vec<u8, PARAMETER_SET>;

/// What a decoder must know before the first picture: the sets that came last, one for each identifier.
///
/// A stream may have several of each kind: a slice names its picture parameter set, and that one its sequence parameter set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    sps: heapless::Vec<Set, SEQUENCE_SETS>,
    pps: heapless::Vec<Set, PICTURE_SETS>,
    /// seq_parameter_set_id of what the last key picture uses.
    used: Option<u32>,
    /// That key picture names a set that did not come.
    lacks: bool,
}

/// seq_parameter_set_id of a sequence parameter set (7.3.2.1.1).
fn sps_id(sps: &[u8]) -> Option<u32> {
    let mut bits = Bits::new(sps.get(1..)?);
    bits.bits(24)?;
    bits.number()
}

/// pic_parameter_set_id of a picture parameter set (7.3.2.2).
fn pps_id(pps: &[u8]) -> Option<u32> {
    Bits::new(pps.get(1..)?).number()
}

/// Puts a set in the place of the one with its identifier. Of more identifiers than there is room for the first goes.
fn keep<const N: usize>(
    sets: &mut heapless::Vec<Set, N>,
    nal: &[u8],
    id: fn(&[u8]) -> Option<u32>,
) -> Result<(), Refusal> {
    let set = Set::from_slice(nal).map_err(|_| Refusal::TooLong)?;
    let own = id(nal).ok_or(Refusal::Damaged)?;
    match sets.iter_mut().find(|it| id(it) == Some(own)) {
        Some(place) => *place = set,
        None => {
            if sets.is_full() {
                sets.remove(0);
            }
            // There is room now.
            let _ = sets.push(set);
        }
    }
    Ok(())
}

impl Parameters {
    /// The sequence parameter sets, without start codes.
    pub fn sps(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.sps.iter().map(|set| &set[..])
    }

    /// The picture parameter sets, without start codes.
    pub fn pps(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.pps.iter().map(|set| &set[..])
    }

    /// There are both kinds, and those that the last key picture names.
    pub fn are_whole(&self) -> bool {
        !self.sps.is_empty() && !self.pps.is_empty() && !self.lacks
    }

    /// Finds the sets that this slice of a key picture names (7.3.3).
    fn use_for(&mut self, slice: &[u8]) {
        let mut bits = Bits::new(&slice[1..]);
        let named = (bits.number().zip(bits.number()))
            .and_then(|_| bits.number())
            .and_then(|own| self.pps.iter().find(|set| pps_id(set) == Some(own)))
            .and_then(|pps| {
                let mut bits = Bits::new(&pps[1..]);
                bits.number()?;
                bits.number()
            });
        self.used = named.filter(|id| self.sps.iter().any(|set| sps_id(set) == Some(*id)));
        self.lacks = self.used.is_none();
    }

    /// The sequence parameter set of the pictures.
    fn used(&self) -> &[u8] {
        let mut sets = self.sps();
        let used = sets.find(|set| self.used.is_some() && sps_id(set) == self.used);
        used.or(self.sps().next()).unwrap_or_default()
    }

    /// profile_idc, the constraint flags and level_idc: what `codecs="avc1.…"` spells in hexadecimal (RFC 6381, 3.3).
    pub fn profile(&self) -> [u8; 3] {
        match *self.used() {
            [_, profile, constraints, level, ..] => [profile, constraints, level],
            _ => [0; 3],
        }
    }

    /// chroma_format_idc and the bits of a sample above 8, of luma and chroma, where the profile has a say in that
    /// (14496-15, 5.3.3.1.2).
    pub fn fidelity(&self) -> Option<[u8; 3]> {
        let mut bits = Bits::new(self.used().get(1..)?);
        if !matches!(bits.bits(8)?, 100 | 110 | 122 | 144) {
            return None;
        }
        bits.bits(16)?;
        bits.number()?;
        let chroma = bits.number()?;
        if chroma == 3 {
            bits.bit()?;
        }
        let depths = [bits.number()?, bits.number()?];
        Some([chroma, depths[0], depths[1]].map(|value| value as u8 & 7))
    }

    /// The size of the pictures as they are shown; `None`: the set makes no sense.
    pub fn size(&self) -> Option<Size> {
        sequence_of(self.used()).ok().map(|it| it.size)
    }
}

/// What a sequence parameter set says.
struct Sequence {
    size: Size,
    /// Of frame_num.
    number_bits: u32,
    /// separate_colour_plane_flag
    separate: bool,
}

/// What a sequence parameter set says, or what of it cannot be passed on.
fn sequence_of(sps: &[u8]) -> Result<Sequence, Refusal> {
    let mut bits = Bits::new(sps.get(1..).unwrap_or_default());
    read_sps(&mut bits).ok_or(Refusal::Damaged)?
}

/// 7.3.2.1.1; `None` if it breaks off.
fn read_sps(bits: &mut Bits<'_>) -> Option<Result<Sequence, Refusal>> {
    let profile = bits.bits(8)?;
    bits.bits(16)?;
    bits.number()?;
    let mut chroma = 1;
    let mut separate = 0;
    if matches!(
        profile,
        44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244
    ) {
        chroma = bits.number()?;
        if chroma > 3 {
            return None;
        }
        if chroma == 3 {
            separate = bits.bit()?;
        }
        bits.number()?;
        bits.number()?;
        bits.bit()?;
        if bits.bit()? == 1 {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.bit()? == 1 {
                    skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    let number_bits = bits.number()?.checked_add(4).filter(|bits| *bits <= 16)?;
    match bits.number()? {
        0 => {
            bits.number()?;
        }
        1 => {
            bits.bit()?;
            bits.signed()?;
            bits.signed()?;
            let cycle = bits.number()?;
            if cycle > 255 {
                return None;
            }
            for _ in 0..cycle {
                bits.signed()?;
            }
        }
        2 => {}
        _ => return None,
    }
    bits.number()?;
    bits.bit()?;
    let width = bits.number()?.checked_add(1)?.checked_mul(16)?;
    let height = bits.number()?.checked_add(1)?.checked_mul(16)?;
    if bits.bit()? == 0 {
        return Some(Err(Refusal::Interlaced));
    }
    bits.bit()?;
    let (mut columns, mut lines) = (0u32, 0u32);
    if bits.bit()? == 1 {
        let (x, y) = match (chroma, separate) {
            (1, _) => (2, 2),
            (2, _) => (2, 1),
            _ => (1, 1),
        };
        columns = bits.number()?.checked_add(bits.number()?)?.checked_mul(x)?;
        lines = bits.number()?.checked_add(bits.number()?)?.checked_mul(y)?;
    }
    let side = |whole: u32, cropped| {
        let left = whole.checked_sub(cropped)?;
        u16::try_from(left).ok().filter(|side| *side > 0)
    };
    Some(Ok(Sequence {
        size: Size {
            width: side(width, columns)?,
            height: side(height, lines)?,
        },
        number_bits,
        separate: separate == 1,
    }))
}

/// 7.3.2.1.1.1
fn skip_scaling_list(bits: &mut Bits<'_>, entries: u32) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..entries {
        if next != 0 {
            next = (last + bits.signed()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// One picture, as its NAL units.
#[derive(Clone, Copy, Debug)]
pub struct AccessUnit<'a> {
    bytes: &'a [u8],
    nals: &'a [Range<usize>],
}

impl<'a> AccessUnit<'a> {
    /// Its NAL units, without start codes.
    pub fn nals(self) -> impl Iterator<Item = &'a [u8]> {
        self.nals
            .iter()
            .map(move |range| &self.bytes[range.clone()])
    }

    /// The same without what a container keeps elsewhere: parameter sets and the delimiter.
    pub fn sample(self) -> impl Iterator<Item = &'a [u8]> {
        self.nals()
            .filter(|nal| !matches!(nal::kind(nal[0]), nal::SPS | nal::PPS | nal::AUD))
    }

    /// Its first slice, which is the first of the picture; `None`: that is missing.
    fn first_slice(self) -> Option<&'a [u8]> {
        let is_slice = |nal: &&[u8]| matches!(nal::kind(nal[0]), nal::SLICE | nal::IDR);
        self.nals().find(is_slice).filter(|nal| begins_picture(nal))
    }

    /// It is whole as far as that can be told.
    pub fn has_beginning(self) -> bool {
        self.first_slice().is_some()
    }

    /// It stands for itself.
    pub fn is_key(self) -> bool {
        let slice = self.first_slice();
        slice.is_some_and(|nal| nal::kind(nal[0]) == nal::IDR)
    }

    /// Its number; `None`: its beginning is missing, or makes no sense.
    pub fn number(self, parameters: &Parameters) -> Option<FrameNumber> {
        let slice = self.first_slice()?;
        let sequence = sequence_of(parameters.used()).ok()?;
        let mut bits = Bits::new(&slice[1..]);
        for _ in 0..3 {
            bits.number()?;
        }
        if sequence.separate {
            bits.bits(2)?;
        }
        Some(FrameNumber {
            number: bits.bits(sequence.number_bits)?,
            bits: sequence.number_bits,
            is_reference: slice[0] & 0x60 != 0,
        })
    }

    /// What of it forbids to pass the stream on; and `parameters` become those that it brings along.
    pub fn check(self, parameters: &mut Parameters) -> Result<(), Refusal> {
        for nal in self.nals() {
            match nal::kind(nal[0]) {
                nal::SPS => {
                    sequence_of(nal)?;
                    keep(&mut parameters.sps, nal, sps_id)?;
                }
                nal::PPS => keep(&mut parameters.pps, nal, pps_id)?,
                nal::IDR if begins_picture(nal) => parameters.use_for(nal),
                nal::SLICE if is_b(nal) => return Err(Refusal::BPictures),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The number of a picture (7.4.3, frame_num). It counts those that others lean on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameNumber {
    number: u32,
    /// It begins with 0 again behind the largest of so many bits.
    bits: u32,
    /// Others lean on it (nal_ref_idc).
    is_reference: bool,
}

/// Numbers begin with 0 again after so many at the earliest (7.4.2.1.1, log2_max_frame_num_minus4).
pub const FEWEST_NUMBERS: u32 = 16;

impl FrameNumber {
    /// Whether none on which others lean is missing between the two, of less than [`FEWEST_NUMBERS`].
    pub fn follows(&self, last: &FrameNumber) -> bool {
        let due = (last.number + u32::from(last.is_reference)) % (1 << last.bits);
        (self.bits, self.number) == (last.bits, due)
    }
}

/// first_mb_in_slice is 0, which is coded as a single 1.
fn begins_picture(slice: &[u8]) -> bool {
    slice.get(1).is_some_and(|byte| byte & 0x80 != 0)
}

/// slice_type, behind first_mb_in_slice (7.3.3, table 7-6).
fn is_b(slice: &[u8]) -> bool {
    let mut bits = Bits::new(&slice[1..]);
    let kind = bits.number().and_then(|_| bits.number());
    matches!(kind, Some(1 | 6))
}

/// What a [`Splitter`] came across, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Pictures that did not fit the buffer, or have more than [`NALS`] NAL units.
    pub oversized: u64,
    /// Pictures that [`Splitter::flush`] gave out and that went on after it.
    pub torn: u64,
}

/// Finds access units in a stream of bytes.
///
/// Bytes go into [`Splitter::spare`], [`Splitter::filled`] says how many, and [`Splitter::next_unit`] gives the access
/// units. Every byte is looked at once only, however the stream is cut into reads.
///
/// Invariant: `at <= end <= buf.len()`, and `nals` and `open` lie below `at`.
pub struct Splitter {
    buf: Box<[u8]>,
    end: usize,
    /// Where the search for a start code goes on.
    at: usize,
    /// Whole NAL units of the access unit that is being received.
    nals: heapless::Vec<Range<usize>, NALS>,
    /// A slice is among them.
    has_slice: bool,
    /// Where the NAL unit begins that is being received.
    open: Option<usize>,
    /// The unit in `nals` was given out.
    given: bool,
    /// Zeros behind what was given out by [`Splitter::flush`], as long as a start code may follow.
    flushed: Option<u32>,
    lost: Lost,
}

impl Splitter {
    /// `capacity` is the largest access unit in bytes; the buffer for it is taken here, once.
    ///
    /// # Panics
    /// If `capacity` is below 16: there has to be room for the beginning of the next one.
    pub fn new(capacity: usize) -> Self {
        assert!(
            capacity >= 16,
            "a splitter for pictures of {capacity} bytes"
        );
        Splitter {
            buf: vec![0; capacity].into_boxed_slice(),
            end: 0,
            at: 0,
            nals: heapless::Vec::new(),
            has_slice: false,
            open: None,
            given: false,
            flushed: None,
            lost: Lost::default(),
        }
    }

    /// What could not be given out so far.
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// The stream begins anew.
    pub fn reset(&mut self) {
        (self.end, self.at, self.open, self.flushed) = (0, 0, None, None);
        self.forget();
    }

    fn forget(&mut self) {
        self.nals.clear();
        (self.has_slice, self.given) = (false, false);
    }

    /// Room for more of the stream, at least one byte. To be asked when [`Splitter::next_unit`] has none left.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.given {
            self.forget();
        }
        let first = self.nals.first().map(|nal| nal.start);
        let start = first.or(self.open).unwrap_or(self.at);
        if start > 0 {
            self.buf.copy_within(start..self.end, 0);
            (self.end, self.at) = (self.end - start, self.at - start);
            for nal in &mut self.nals {
                *nal = nal.start - start..nal.end - start;
            }
            self.open = self.open.map(|open| open - start);
        }
        if self.end == self.buf.len() {
            self.lost.oversized += 1;
            self.reset();
        }
        &mut self.buf[self.end..]
    }

    /// `n` bytes were put at the start of what [`Splitter::spare`] gave.
    ///
    /// # Panics
    /// If there was no room for that many.
    pub fn filled(&mut self, n: usize) {
        assert!(n <= self.buf.len() - self.end, "filled past the spare room");
        let begin = self.end;
        self.end += n;
        for at in begin..self.end {
            let Some(zeros) = &mut self.flushed else {
                break;
            };
            match self.buf[at] {
                0 => *zeros = zeros.saturating_add(1),
                1 if *zeros >= 2 => self.flushed = None,
                _ => {
                    self.lost.torn += 1;
                    self.flushed = None;
                }
            }
        }
    }

    /// A picture is being received: there are slices of it, and nothing that follows them.
    pub fn has_picture(&self) -> bool {
        let is_slice = |at: usize| {
            let first = self.buf[..self.end].get(at).copied().map(nal::kind);
            matches!(first, Some(nal::SLICE | nal::IDR))
        };
        !self.given && (self.has_slice || self.open.is_some_and(is_slice))
    }

    /// What is being received is taken to be whole, as nothing followed for a while; `None`: that is no picture. If it goes on
    /// all the same it is [`Lost::torn`], or the next one lacks its beginning.
    pub fn flush(&mut self) -> Option<AccessUnit<'_>> {
        if !self.has_picture() {
            return None;
        }
        self.flushed = Some(0);
        self.finish()
    }

    /// The next access unit; `None`: more input is needed. It may lack its beginning ([`AccessUnit::has_beginning`]).
    pub fn next_unit(&mut self) -> Option<AccessUnit<'_>> {
        if self.given {
            self.forget();
        }
        loop {
            let Some(found) = memmem::find(&self.buf[self.at..self.end], &[0, 0, 1]) else {
                // Its beginning may be there.
                let least = self.open.unwrap_or(0).max(self.at);
                self.at = self.end.saturating_sub(2).max(least);
                return None;
            };
            let code = self.at + found;
            let begin = code + 3;
            // What it is, and whether a slice begins a picture.
            let Some(&[first, second]) = self.buf[..self.end].get(begin..begin + 2) else {
                self.at = code;
                return None;
            };
            self.close(code);
            (self.at, self.open) = (begin, Some(begin));
            let begins = match nal::kind(first) {
                nal::SLICE | nal::IDR => second & 0x80 != 0,
                kind => matches!(kind, nal::SEI..=nal::AUD | 14..=18),
            };
            if begins && self.has_slice {
                return Some(self.give());
            }
        }
    }

    /// The stream is over: the access unit that was being received is whole, if there was one.
    pub fn finish(&mut self) -> Option<AccessUnit<'_>> {
        if self.given {
            self.forget();
        }
        self.close(self.end);
        self.at = self.end;
        self.has_slice.then(|| self.give())
    }

    /// The NAL unit that is being received ends in front of this.
    fn close(&mut self, end: usize) {
        let Some(open) = self.open.take() else {
            return;
        };
        // A NAL unit never ends with a zero: they belong to the start code (B.1).
        let is_more = |byte: &u8| *byte != 0;
        let Some(last) = self.buf[open..end].iter().rposition(is_more) else {
            return;
        };
        self.has_slice |= matches!(nal::kind(self.buf[open]), nal::SLICE | nal::IDR);
        if self.nals.push(open..open + last + 1).is_err() {
            self.lost.oversized += 1;
            self.forget();
        }
    }

    fn give(&mut self) -> AccessUnit<'_> {
        self.given = true;
        AccessUnit {
            bytes: &self.buf,
            nals: &self.nals,
        }
    }
}

/// x264's sequence parameter set for 64x48, baseline.
#[cfg(test)]
pub(crate) const SPS_64X48: [u8; 21] = [
    0x67, 0x42, 0xC0, 0x0A, 0xDA, 0x11, 0xEC, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00,
    0x05, 0x03, 0xC4, 0x89, 0xA8,
];

#[cfg(test)]
#[path = "h264_tests.rs"]
mod tests;
