//! JPEG as a sequence of markers (ITU-T T.81, Annex B): what must be known of a picture without decoding it, and how to
//! find pictures in a stream of bytes.
//!
//! Nothing here allocates per picture. [`inspect`] runs for every frame of an MJPEG camera: it walks the header, and leaves
//! the search through the scan to vector code.

use std::fmt;
use std::ops::Range;

use memchr::{memchr, memchr_iter};

use super::exif;
use super::samples::{self, UNMARKED};
use crate::picture::frame::{FrameBuf, Orientation};

const PREFIX: u8 = 0xFF;
const SOF0: u8 = 0xC0;
const SOF1: u8 = 0xC1;
const DHT: u8 = 0xC4;
const JPG: u8 = 0xC8;
const DAC: u8 = 0xCC;
const SOF15: u8 = 0xCF;
const RST0: u8 = 0xD0;
const RST7: u8 = 0xD7;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DQT: u8 = 0xDB;
const DNL: u8 = 0xDC;
const DRI: u8 = 0xDD;
const APP0: u8 = 0xE0;
const APP1: u8 = 0xE1;
const APP15: u8 = 0xEF;
const COM: u8 = 0xFE;

/// What [`inspect`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// In pixels, as it is stored.
    pub width: u16,
    /// In pixels, as it is stored.
    pub height: u16,
    /// The picture is `bytes[start..end]`, from its SOI to its EOI. What lies around it is none of it.
    pub start: usize,
    /// See `start`.
    pub end: usize,
    /// Where its first entropy-coded data begins.
    pub scan: usize,
    /// Where [`insert_tables`] has to put the Huffman tables that the picture relies on but does not carry; from `start`.
    pub tables: Option<usize>,
    /// Whether it is one field of an interlaced picture.
    pub field: Option<Field>,
    /// Before its frame there is an APP1 segment, which may be Exif.
    pub app1: bool,
    /// There were bytes around it that are neither padding nor another picture: something of its buffer is stale.
    pub debris: bool,
}

impl Inspected {
    /// Where the picture is.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// What the picture says in its Exif of how it is to be turned. `bytes`: what it was found in.
    pub fn exif(&self, bytes: &[u8]) -> Orientation {
        match self.app1 {
            true => exif::of_jpeg(&bytes[self.range()]),
            false => Orientation::UPRIGHT,
        }
    }
}

/// One of the two fields of an interlaced picture: every other line of it. As an APP0 segment "AVI1" says, in which
/// MJPEG of capture cards and of AVI files has it (OpenDML AVI 1.02, 5.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// "Odd": the lines 1, 3, 5, …
    First,
    /// "Even": the lines 2, 4, 6, …
    Second,
}

/// Why some bytes are not a JPEG that a viewer could show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// No SOI anywhere.
    NotJpeg,
    /// The bytes end within the picture: there is no EOI behind its scan.
    Truncated,
    /// At this offset of the header there is no marker, or one that cannot be there.
    BadMarker(usize),
    /// At this offset of the scan there is a marker that cannot be there: a part of the picture is missing, and that of
    /// another may follow.
    BadScan(usize),
    /// The scan is no whole one, though its end has an EOI: what comes before that is not all of this picture, or not
    /// only of this one.
    Incomplete,
    /// The header tells no frame size, or one of zero.
    NoSize,
    /// More bytes than the buffer for them holds.
    TooBig {
        /// Bytes of the JPEG, with the tables that it lacks.
        needed: usize,
        /// Bytes that the buffer holds.
        capacity: usize,
    },
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Defect::NotJpeg => f.write_str("not a JPEG: no SOI marker"),
            Defect::Truncated => f.write_str("truncated JPEG: no EOI marker at the end"),
            Defect::BadMarker(at) => write!(f, "damaged JPEG header at byte {at}"),
            Defect::BadScan(at) => write!(f, "damaged JPEG: its scan breaks off at byte {at}"),
            Defect::Incomplete => {
                f.write_str("damaged JPEG: its scan is not that of one whole picture")
            }
            Defect::NoSize => f.write_str("damaged JPEG header: no frame size"),
            Defect::TooBig { needed, capacity } => {
                write!(
                    f,
                    "JPEG of {needed} bytes, the limit is {capacity} (limits.frame_bytes)"
                )
            }
        }
    }
}

impl std::error::Error for Defect {}

/// Starts of a picture that are tried in one buffer, and how many of them may lead into a scan: a hostile sender must not
/// make one buffer be walked over and over.
const STARTS: usize = 64;
/// See [`STARTS`].
const SCANS: usize = 4;
/// Zeros behind a picture that are counted one by one.
const PADDING: usize = 1024;
/// The longest SOS segment, of four components. (B.2.3)
const SOS_MOST: usize = 6 + 2 * 4;
/// Markers that are walked in one buffer, in all tries together.
const MARKERS: usize = 4096;
/// Of the bytes behind a picture, so many tell padding from the rest of another one.
const BEHIND: usize = 32;
/// Bytes of an APP0 segment that are read: "AVI1" and which field it is.
const APP0_READ: usize = 5;

/// Finds the one picture in some bytes: the first that goes from its SOI through a header and a scan to its own EOI.
///
/// What may lie around it is what cameras are known to leave there: bytes before the start; several starts; a start that
/// breaks off before the picture that counts; several ends; padding; the rest of an older and longer picture; the
/// second field. The header is walked marker by marker. The scan is searched for markers: those that belong into it
/// (stuffing, restarts in their order, fill bytes) are passed over, EOI ends it, and any other means that the picture was
/// cut short. A picture cut short whose end is that of another one has no such marker: see [`super::whole`].
pub fn inspect(bytes: &[u8]) -> Result<Inspected, Defect> {
    let mut first = None;
    let mut from = 0;
    let mut scans = SCANS;
    let mut markers = MARKERS;
    // Up to where a whole picture is only a thumbnail of a broken one.
    let mut thumbnails = 0;
    for _ in 0..STARTS {
        let Some(start) = find_start(bytes, from) else {
            break;
        };
        let mut walk = Walker::new(bytes, start, markers);
        match walk.run() {
            Ok(found) if found.end <= thumbnails => from = found.end,
            Ok(mut found) => {
                found.debris = is_debris(&bytes[..start]) || is_debris(&bytes[found.end..]);
                return Ok(found);
            }
            Err(defect) => {
                first.get_or_insert(defect);
                from = walk.resume.max(start + 2);
                thumbnails = thumbnails.max(walk.thumbnails);
                scans -= usize::from(walk.in_scan);
                if scans == 0 {
                    break;
                }
            }
        }
        markers = walk.markers;
    }
    Err(first.unwrap_or(Defect::NotJpeg))
}

/// What [`inspect`] finds in bytes that are one picture and nothing else, as nearly all are, without a look into its scan:
/// from the start to the end, which is an EOI, with some zeros behind it at most. Its tables are not searched either.
/// `None`: they are something else, or it takes more to tell.
pub fn glance(bytes: &[u8]) -> Option<Inspected> {
    let bytes = without_padding(bytes);
    if !bytes.starts_with(&[PREFIX, SOI, PREFIX]) || !bytes.ends_with(&[PREFIX, EOI]) {
        return None;
    }
    let mut walk = Walker::new(bytes, 0, MARKERS);
    walk.header_only = true;
    walk.run().ok()
}

/// Words of a header that are remembered at most. Those of cameras have some 30 that matter.
const WORDS: usize = 64;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

/// A header by which another one is known that says the same: most cameras' pictures all have one and the same, but for a
/// time or a number in a comment.
#[derive(Clone, Debug)]
pub struct Header {
    /// What [`glance`] has read of it, four bytes each, and where.
    words: heapless::Vec<(u32, u32), WORDS>,
    found: Inspected,
}

impl Header {
    /// Of bytes in which [`glance`] has found this. `None`: it is too long to be remembered.
    pub fn of(bytes: &[u8], found: Inspected) -> Option<Header> {
        let mut words = heapless::Vec::new();
        let mut at = 2;
        loop {
            let marker_at = at;
            while *bytes.get(at + 1)? == PREFIX {
                at += 1;
            }
            let (marker, length) = (bytes[at + 1], usize::from(be16(bytes, at + 2).ok()?));
            let read = match marker {
                DHT | JPG | DAC => 2,
                SOF0..=SOF15 | SOS | DRI => length,
                APP0 => length.min(2 + APP0_READ),
                _ => 2,
            };
            let end = at + 2 + read;
            // The last one reaches back, so that nothing else is in it.
            let places = (marker_at..end - 4).step_by(4).chain([end - 4]);
            for place in places {
                let word = word(bytes, place)?;
                words.push((u32::try_from(place).ok()?, word)).ok()?;
            }
            at += 2 + length;
            if marker == SOS {
                return Some(Header { words, found });
            }
        }
    }

    /// As [`glance`], of bytes that begin with this header, or one that says the same. `None`: they do not, or are not whole.
    pub fn glance(&self, bytes: &[u8]) -> Option<Inspected> {
        let header = bytes.get(..self.found.scan)?;
        let is_same = header.starts_with(&[PREFIX, SOI])
            && self
                .words
                .iter()
                .all(|(place, known)| word(header, *place as usize) == Some(*known));
        let bytes = without_padding(bytes);
        let is_whole =
            is_same && bytes.len() >= self.found.scan + 2 && bytes.ends_with(&[PREFIX, EOI]);
        is_whole.then_some(Inspected {
            end: bytes.len(),
            ..self.found
        })
    }
}

/// Without the zeros behind them, if these are few.
pub fn without_padding(bytes: &[u8]) -> &[u8] {
    let before = bytes.len().saturating_sub(PADDING);
    let zeros = bytes[before..].iter().rev().take_while(|byte| **byte == 0);
    &bytes[..bytes.len() - zeros.count()]
}

/// The next SOI with what begins another marker behind it, which makes a chance hit unlikely. Of several starts in a row it
/// is the last.
fn find_start(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr(PREFIX, bytes.get(at..)?)?;
        match bytes[at..] {
            [_, SOI, PREFIX, SOI, ..] => at += 2,
            // Whatever follows: at the very start the defect is to be that of a picture.
            [_, SOI, ..] if at == 0 => return Some(at),
            [_, SOI, PREFIX, ..] => return Some(at),
            _ => at += 1,
        }
    }
}

/// Whether a table has the start of another picture in it, or is followed by the rest of one.
fn swallows(bytes: &[u8], segment: Range<usize>) -> bool {
    let Some(content) = bytes.get(segment.clone()) else {
        return false;
    };
    memchr_iter(PREFIX, content).any(|at| {
        matches!(
            bytes[segment.start + at..],
            [
                _,
                SOI,
                PREFIX,
                SOF0 | SOF1 | DHT | DQT | DRI | APP0..=APP15 | COM,
                ..
            ]
        )
    })
}

/// Whether a segment may contain anything, other pictures too.
fn is_free(marker: u8) -> bool {
    matches!(marker, APP0..=APP15 | COM)
}

/// Whether a segment, from its length on, may have a picture in it that is not to be shown.
fn has_thumbnail(marker: u8, segment: &[u8]) -> bool {
    let content = segment.get(2..).unwrap_or(&[]);
    is_free(marker) && (content.starts_with(b"Exif\0") || content.starts_with(b"JFXX\0"))
}

/// Whether these bytes before or behind a picture are neither padding nor another picture.
fn is_debris(around: &[u8]) -> bool {
    let around = &around[..around.len().min(BEHIND)];
    !around.starts_with(&[PREFIX, SOI])
        && !around.iter().all(|byte| matches!(*byte, 0 | PREFIX | EOI))
}

/// A walk from one SOI on.
struct Walker<'a> {
    bytes: &'a [u8],
    start: usize,
    at: usize,
    /// Markers that may still be walked.
    markers: usize,
    /// After a defect: where another start may be looked for.
    resume: usize,
    /// After a defect: a whole picture that ends up to here is a thumbnail.
    thumbnails: usize,
    /// The last bytes are to be taken for the end of the first scan.
    header_only: bool,
    /// It has got into a scan.
    in_scan: bool,
    /// Where the first one begins.
    scan_at: usize,
    size: Option<(u16, u16)>,
    /// Of the frame.
    components: u8,
    /// In the whole picture.
    mcus: u32,
    /// In MCUs; 0: there are no restarts.
    interval: u32,
    sequential_huffman: bool,
    has_tables: bool,
    tables: Option<usize>,
    field: Option<Field>,
    app1: bool,
}

impl<'a> Walker<'a> {
    fn new(bytes: &'a [u8], start: usize, markers: usize) -> Self {
        Walker {
            bytes,
            start,
            at: start + 2,
            markers,
            resume: start + 2,
            thumbnails: 0,
            header_only: false,
            in_scan: false,
            scan_at: 0,
            size: None,
            components: 0,
            mcus: 0,
            interval: 0,
            sequential_huffman: false,
            has_tables: false,
            tables: None,
            field: None,
            app1: false,
        }
    }

    fn run(&mut self) -> Result<Inspected, Defect> {
        loop {
            let marker_at = self.at;
            let marker = self.next_marker()?;
            if marker == EOI && self.in_scan {
                self.at += 1;
                return self.whole();
            }
            if !starts_segment(marker) {
                return Err(self.bad(marker_at));
            }
            self.at += 1;
            let length = be16(self.bytes, self.at)? as usize;
            if length < 2 {
                return Err(self.bad(marker_at));
            }
            let segment = self.at;
            self.segment(marker, marker_at, segment, length)?;
            let end = segment + length;
            // What is in tables is never a start: their length was damaged, or another picture begins within. The content
            // of others is free; but a length that leads nowhere is not to be trusted.
            if !is_free(marker) && !self.header_only && swallows(self.bytes, segment..end) {
                return Err(self.bad(marker_at));
            }
            let leads = matches!(self.bytes.get(end..), Some([] | [PREFIX, ..]));
            if is_free(marker) && leads {
                self.resume = end;
            } else if has_thumbnail(marker, &self.bytes[segment..]) {
                self.thumbnails = end;
            }
            self.at = end;
            if marker == SOS {
                let single = self.sequential_huffman
                    && self.bytes.get(segment + 2) == Some(&self.components);
                if !std::mem::replace(&mut self.in_scan, true) {
                    self.scan_at = end;
                }
                if self.header_only {
                    self.at = self.bytes.len();
                    // Behind the scan's own segment there has to be room for its end.
                    return if end + 2 <= self.at {
                        self.whole()
                    } else {
                        Err(Defect::Truncated)
                    };
                }
                self.scan(single)?;
                if single {
                    return self.last_marker();
                }
            }
        }
    }

    fn bad(&self, at: usize) -> Defect {
        match self.in_scan {
            true => Defect::BadScan(at),
            false => Defect::BadMarker(at),
        }
    }

    /// Leaves `at` at the byte that says which marker it is. Any number of 0xFF may come before that (B.1.1.2).
    fn next_marker(&mut self) -> Result<u8, Defect> {
        let marker_at = self.at;
        if *self.bytes.get(self.at).ok_or(Defect::Truncated)? != PREFIX {
            return Err(self.bad(marker_at));
        }
        self.markers = self.markers.checked_sub(1).ok_or(self.bad(marker_at))?;
        let rest = &self.bytes[self.at..];
        let fill = rest.iter().position(|byte| *byte != PREFIX);
        self.at += fill.ok_or(Defect::Truncated)?;
        Ok(self.bytes[self.at])
    }

    /// Takes from a segment what matters. `at` is that of its length.
    fn segment(
        &mut self,
        marker: u8,
        marker_at: usize,
        at: usize,
        length: usize,
    ) -> Result<(), Defect> {
        let content = |n: usize| -> &'a [u8] {
            let end = (at + length).min(self.bytes.len());
            self.bytes.get(at + 2..end.min(at + 2 + n)).unwrap_or(&[])
        };
        match marker {
            SOS => {
                self.size.ok_or(Defect::NoSize)?;
                // The standard tables fit the sequential processes only.
                if self.sequential_huffman && !self.has_tables && !self.in_scan {
                    self.tables = Some(marker_at - self.start);
                }
            }
            DHT => self.has_tables = true,
            DRI => self.interval = u32::from(be16(self.bytes, at + 2)?),
            JPG | DAC => {}
            SOF0..=SOF15 => {
                // Length, sample precision, then lines and samples per line (B.2.2).
                let (width, height) = (be16(self.bytes, at + 5)?, be16(self.bytes, at + 3)?);
                // Zero lines would mean that a DNL segment behind the first scan says how many; no camera does that.
                if length < 8 || width == 0 || height == 0 {
                    return Err(Defect::NoSize);
                }
                let factors = content(length).get(6..).unwrap_or(&[]);
                self.size = Some((width, height));
                self.components = content(6).get(5).copied().unwrap_or(0);
                self.mcus = mcus((width, height), factors);
                self.sequential_huffman = marker == SOF0 || marker == SOF1;
            }
            APP0 => {
                if let [b'A', b'V', b'I', b'1', polarity, ..] = *content(APP0_READ) {
                    self.field = match polarity {
                        1 => Some(Field::First),
                        2 => Some(Field::Second),
                        _ => None,
                    };
                }
            }
            APP1 => self.app1 |= self.size.is_none(),
            _ => {}
        }
        Ok(())
    }

    /// Goes over entropy-coded data, to the marker that ends it. `single`: the only scan of a picture that has all of its
    /// components.
    fn scan(&mut self, single: bool) -> Result<(), Defect> {
        let data = self.bytes.get(self.at..).ok_or(Defect::Truncated)?;
        let mut restarts = 0;
        let mut passed = 0;
        loop {
            passed += unmarked(&data[passed..]);
            let block = passed.saturating_add(AT_ONCE).min(data.len());
            while let Some(prefix) = data
                .get(passed..block)
                .and_then(|rest| memchr(PREFIX, rest))
            {
                passed += prefix;
                match data.get(passed + 1).copied() {
                    Some(0) => passed += 2,
                    Some(restart @ RST0..=RST7) => {
                        // One that is missing took a part of the picture with it.
                        let ordered = restart - RST0 == (restarts % 8) as u8;
                        if single && self.interval > 0 && !ordered {
                            return Err(self.broken(passed));
                        }
                        restarts += 1;
                        passed += 2;
                    }
                    // Fill bytes.
                    Some(PREFIX) => passed += 1,
                    Some(SOI) => return Err(self.broken(passed)),
                    Some(_) => return self.scanned(passed, restarts, single),
                    None => break,
                }
            }
            passed = passed.max(block);
            if passed >= data.len() {
                self.resume = self.bytes.len();
                return Err(Defect::Truncated);
            }
        }
    }

    /// A scan ends so far from `at`, at a marker.
    fn scanned(&mut self, passed: usize, restarts: u32, single: bool) -> Result<(), Defect> {
        if single && self.interval > 0 && self.mcus > 0 {
            let expected = self.mcus.div_ceil(self.interval) - 1;
            if restarts != expected {
                return Err(self.broken(passed));
            }
        }
        self.at += passed;
        self.resume = self.at;
        Ok(())
    }

    /// The scan breaks off so far from `at`; there another picture may begin.
    fn broken(&mut self, passed: usize) -> Defect {
        self.at += passed;
        self.resume = self.at;
        Defect::BadScan(self.at)
    }

    /// What comes behind the only scan there is: the end, or what means nothing before it.
    fn last_marker(&mut self) -> Result<Inspected, Defect> {
        loop {
            let marker_at = self.at;
            match self.next_marker()? {
                EOI => {
                    self.at += 1;
                    return self.whole();
                }
                DNL | COM | APP0..=APP15 => {
                    self.at += 1;
                    self.at += be16(self.bytes, self.at)? as usize;
                }
                // The header of another picture.
                _ => return Err(Defect::BadScan(marker_at)),
            }
        }
    }

    fn whole(&self) -> Result<Inspected, Defect> {
        let (width, height) = self.size.ok_or(Defect::NoSize)?;
        Ok(Inspected {
            width,
            height,
            start: self.start,
            end: self.at,
            scan: self.scan_at,
            tables: self.tables,
            field: self.field,
            app1: self.app1,
            debris: false,
        })
    }
}

/// How many MCUs a picture of one scan has (A.2). `components`: three bytes each, as in the frame header; 0 if they make no
/// sense.
fn mcus((width, height): (u16, u16), components: &[u8]) -> u32 {
    let factors = components.chunks_exact(3).map(|c| (c[1] >> 4, c[1] & 15));
    let (across, down) = match components.len() / 3 {
        // Of one component, an MCU is one block whatever its factors.
        1 => (1, 1),
        _ => factors.fold((0, 0), |most, own| (most.0.max(own.0), most.1.max(own.1))),
    };
    if across == 0 || down == 0 {
        return 0;
    }
    let along = |side: u16, factor: u8| u32::from(side).div_ceil(8 * u32::from(factor));
    along(width, across) * along(height, down)
}

/// Copies `jpeg` into `out` with the standard Huffman tables put in at `at`, which [`inspect`] gave. AVI's MJPEG, and
/// with it UVC, allows frames to leave them out.
pub fn insert_tables(jpeg: &[u8], at: usize, out: &mut FrameBuf) -> Result<(), Defect> {
    let needed = jpeg.len() + STANDARD_TABLES.len();
    let capacity = out.capacity();
    if needed > capacity {
        return Err(Defect::TooBig { needed, capacity });
    }
    let (head, tail) = jpeg.split_at(at);
    let behind = at + STANDARD_TABLES.len();
    let spare = out.spare();
    spare[..at].copy_from_slice(head);
    spare[at..behind].copy_from_slice(&STANDARD_TABLES);
    spare[behind..needed].copy_from_slice(tail);
    out.set_len(needed);
    Ok(())
}

/// Bytes of comments that are kept at most: a comment is not to outweigh a picture that is made small.
const COMMENTS_MOST: usize = 512;
/// Where a JFIF segment that follows SOI has the density: unit, then horizontal and vertical. (JFIF 1.02)
const DENSITY: Range<usize> = 13..18;

/// Gives a JPEG that was made of another one what that said about itself: its comments, as far as they are short, and the
/// density of its pixels. `turned`: the new one is so to the other. What finds no room is left out.
pub fn keep_words(from: &[u8], turned: Orientation, made: &mut FrameBuf) {
    let mut comments = 0;
    for (marker, segment) in segments(from) {
        if marker == COM {
            comments += segment.len();
        } else if let Some(&[unit, x1, x0, y1, y0]) = jfif_density(marker, segment)
            && made.as_slice().get(2..4) == Some(&[PREFIX, APP0])
            && made.as_slice().get(6..11) == Some(JFIF)
        {
            let density = match turned.transpose {
                true => [unit, y1, y0, x1, x0],
                false => [unit, x1, x0, y1, y0],
            };
            made.spare()[DENSITY].copy_from_slice(&density);
        }
    }
    let len = made.len();
    if comments == 0 || comments > COMMENTS_MOST || len + comments > made.capacity() {
        return;
    }
    // Behind JFIF's segment, which has to be the first.
    let mut at = match *made.as_slice() {
        [_, _, PREFIX, APP0, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
        _ => 2,
    };
    let bytes = made.spare();
    bytes.copy_within(at..len, at + comments);
    for (_, segment) in segments(from).filter(|(marker, _)| *marker == COM) {
        bytes[at..at + segment.len()].copy_from_slice(segment);
        at += segment.len();
    }
    made.set_len(len + comments);
}

const JFIF: &[u8] = b"JFIF\0";

fn jfif_density(marker: u8, segment: &[u8]) -> Option<&[u8; 5]> {
    let is_jfif = marker == APP0 && segment.get(4..9) == Some(JFIF);
    segment.get(11..16).filter(|_| is_jfif)?.try_into().ok()
}

/// The segments in front of the frame header that have nothing to do with it: marker, and all bytes.
fn segments(jpeg: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut at = 2;
    std::iter::from_fn(move || {
        while jpeg.get(at + 1) == Some(&PREFIX) {
            at += 1;
        }
        let &[
            PREFIX,
            marker @ (DHT | DQT | DRI | APP0..=APP15 | COM),
            high,
            low,
        ] = jpeg.get(at..at + 4)?
        else {
            return None;
        };
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
        let segment = jpeg.get(at..end)?;
        at = end;
        Some((marker, segment))
    })
}

/// Where `memchr` has no vector code, ours looks first, block by block.
const BY_BLOCKS: bool = cfg!(target_arch = "arm");
/// Bytes that `memchr` searches then.
const AT_ONCE: usize = if BY_BLOCKS { UNMARKED } else { usize::MAX };

/// Bytes at the beginning that need not be searched for markers.
fn unmarked(data: &[u8]) -> usize {
    match BY_BLOCKS {
        true => samples::unmarked(data),
        false => 0,
    }
}

/// Whether a marker that may stand in a header is followed by a length.
fn starts_segment(marker: u8) -> bool {
    matches!(marker, SOF0..=SOF15 | SOS..=COM)
}

fn be16(bytes: &[u8], at: usize) -> Result<u16, Defect> {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => Ok(u16::from_be_bytes([high, low])),
        _ => Err(Defect::Truncated),
    }
}

/// What a [`Splitter`] came across, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SplitCounts {
    /// Whole pictures.
    pub frames: u64,
    /// Pictures that did not fit the buffer.
    pub oversized: u64,
    /// Pictures that broke off before their EOI, or whose markers make no sense.
    pub bad: u64,
    /// Bytes between pictures.
    pub garbage: u64,
}

/// Finds whole JPEGs in a stream of bytes: the output of a program, or an MJPEG file.
///
/// Bytes go into [`Splitter::spare`], [`Splitter::filled`] says how many, and [`Splitter::next_frame`] or
/// [`Splitter::newest`] gives the pictures. Segments are skipped by their length, so the SOI and EOI of a thumbnail
/// inside APP1 do not split a picture, and every byte is looked at once only, however the stream is cut into reads.
///
/// Invariant: `start <= end <= buf.len()`, `start <= at`. `buf[start..end]` is kept: the picture being walked, from its
/// SOI, unless it is `oversized`. `at` is where the walk goes on; it lies beyond `end` while a segment is skipped whose
/// end has not arrived.
pub struct Splitter {
    buf: Box<[u8]>,
    start: usize,
    end: usize,
    at: usize,
    state: Walk,
    /// The beginning of the picture being walked is gone, as it does not fit the buffer.
    oversized: bool,
    /// Where another picture may begin that a segment has swallowed, as its length was not to be trusted.
    rewind: usize,
    /// The last segment passed over, from behind its marker.
    segment: usize,
    /// A whole picture up to here is the thumbnail of a broken one.
    thumbnails: usize,
    /// Up to here nothing is walked a third time.
    walked: usize,
    counts: SplitCounts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walk {
    /// Between pictures; `at` is where an SOI may be.
    Hunt,
    /// `at` is where a marker must be. A picture may end only once a scan was seen.
    Marker { scan: bool },
    /// `at` is within entropy-coded data.
    Entropy,
}

impl Splitter {
    /// `capacity` is the largest picture in bytes; the buffer for it is taken here, once.
    ///
    /// # Panics
    /// If `capacity` is below 4: not even an empty picture would fit.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity >= 4, "a splitter for pictures of {capacity} bytes");
        Splitter {
            buf: vec![0; capacity].into_boxed_slice(),
            start: 0,
            end: 0,
            at: 0,
            state: Walk::Hunt,
            oversized: false,
            rewind: 0,
            segment: 0,
            thumbnails: 0,
            walked: 0,
            counts: SplitCounts::default(),
        }
    }

    /// What was found so far.
    pub fn counts(&self) -> SplitCounts {
        self.counts
    }

    /// The stream ended or begins anew: an unfinished picture counts as bad and is forgotten.
    pub fn reset(&mut self) {
        match self.state {
            Walk::Hunt => self.counts.garbage += (self.end - self.start) as u64,
            _ if self.oversized => self.counts.oversized += 1,
            _ => self.counts.bad += 1,
        }
        (self.start, self.end, self.at) = (0, 0, 0);
        (self.rewind, self.segment) = (0, 0);
        (self.thumbnails, self.walked) = (0, 0);
        self.state = Walk::Hunt;
        self.oversized = false;
    }

    /// Room for more of the stream, at least one byte.
    ///
    /// # Panics
    /// If whole pictures may still be in the full buffer: [`Splitter::next_frame`] was not called until `None`.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.at -= self.start;
            for place in [
                &mut self.rewind,
                &mut self.segment,
                &mut self.thumbnails,
                &mut self.walked,
            ] {
                *place = place.saturating_sub(self.start);
            }
            self.start = 0;
        }
        assert!(
            self.end < self.buf.len(),
            "the splitter's pictures were not taken before more input"
        );
        &mut self.buf[self.end..]
    }

    /// `n` bytes were put at the start of what [`Splitter::spare`] gave.
    ///
    /// # Panics
    /// If there was no room for that many.
    pub fn filled(&mut self, n: usize) {
        assert!(n <= self.buf.len() - self.end, "filled past the spare room");
        self.end += n;
    }

    /// The next whole picture, from SOI to EOI; `None`: more input is needed. Not an iterator, as the picture lies in
    /// the buffer that the next call changes.
    pub fn next_frame(&mut self) -> Option<&[u8]> {
        let range = self.next_range()?;
        Some(&self.buf[range])
    }

    /// The last whole picture that has arrived, and the number of whole ones before it that it replaces.
    pub fn newest(&mut self) -> Option<(&[u8], u32)> {
        let mut last = self.next_range()?;
        let mut replaced = 0;
        while let Some(range) = self.next_range() {
            last = range;
            replaced += 1;
        }
        Some((&self.buf[last], replaced))
    }

    fn next_range(&mut self) -> Option<Range<usize>> {
        loop {
            let step = match self.state {
                Walk::Hunt => self.hunt(),
                Walk::Marker { scan } => self.marker(scan),
                Walk::Entropy => self.entropy(),
            };
            match step {
                Step::On => {}
                Step::Whole => {
                    let range = self.start..self.at;
                    self.start = self.at;
                    self.state = Walk::Hunt;
                    if std::mem::take(&mut self.oversized) {
                        self.counts.oversized += 1;
                    } else if range.end <= self.thumbnails {
                        self.counts.garbage += range.len() as u64;
                    } else {
                        self.counts.frames += 1;
                        return Some(range);
                    }
                }
                Step::Starved => {
                    if self.state != Walk::Hunt && self.end - self.start == self.buf.len() {
                        self.oversized = true;
                    }
                    if self.oversized {
                        self.start = self.at.min(self.end);
                    }
                    return None;
                }
            }
        }
    }

    fn hunt(&mut self) -> Step {
        let from = self.at;
        let step = loop {
            let rest = &self.buf[self.at..self.end];
            let Some(prefix) = memchr(PREFIX, rest) else {
                self.at = self.end;
                break Step::Starved;
            };
            self.at += prefix;
            match rest[prefix..] {
                // The third byte begins the next marker; asking for it makes a chance hit in other data unlikely.
                [_, SOI, PREFIX, ..] => break Step::On,
                [_] | [_, SOI] => break Step::Starved,
                _ => self.at += 1,
            }
        };
        self.counts.garbage += (self.at - from) as u64;
        self.start = self.at;
        if step == Step::On {
            self.begin();
        }
        step
    }

    /// A picture begins at `at`.
    fn begin(&mut self) {
        self.start = self.at;
        self.at += 2;
        (self.rewind, self.segment) = (self.at, self.at);
        self.state = Walk::Marker { scan: false };
        self.oversized = false;
    }

    /// The picture being walked makes no sense at `at`; another may begin there.
    fn give_up(&mut self) -> Step {
        if std::mem::take(&mut self.oversized) {
            self.counts.oversized += 1;
        } else {
            self.counts.bad += 1;
        }
        self.hunt_on()
    }

    fn hunt_on(&mut self) -> Step {
        self.start = self.at;
        self.state = Walk::Hunt;
        Step::On
    }

    /// There is no marker where there must be one: another picture may begin in what was taken for a segment.
    fn distrust(&mut self) -> Step {
        if !self.oversized && self.at > self.walked {
            let marker = self.buf[self.segment - 1];
            if has_thumbnail(marker, &self.buf[self.segment..self.end]) {
                self.thumbnails = self.at;
            }
            (self.walked, self.at) = (self.at, self.rewind);
        }
        self.give_up()
    }

    fn marker(&mut self, scan: bool) -> Step {
        // `get`: a segment that is being skipped may end beyond what has arrived.
        match self.buf[..self.end].get(self.at..).unwrap_or(&[]) {
            [] | [PREFIX] => Step::Starved,
            [PREFIX, PREFIX, ..] => {
                self.at += 1;
                Step::On
            }
            [PREFIX, EOI, ..] if scan => {
                self.at += 2;
                Step::Whole
            }
            // Some cameras begin twice.
            [PREFIX, SOI, ..] if self.at == self.start + 2 && !self.oversized => {
                self.counts.garbage += 2;
                self.hunt_on()
            }
            // The rest of the last picture was lost.
            [PREFIX, SOI, ..] => self.give_up(),
            [PREFIX, marker, rest @ ..] if starts_segment(*marker) => {
                let &[high, low, ..] = rest else {
                    return Step::Starved;
                };
                let length = u16::from_be_bytes([high, low]) as usize;
                if length < 2 {
                    return self.distrust();
                }
                if !self.oversized {
                    let last = self.segment..self.at;
                    if is_free(self.buf[self.segment - 1]) {
                        // It has led here, and what is in it is its own business.
                        self.rewind = self.at;
                    } else if swallows(&self.buf[..self.end], last) {
                        return self.distrust();
                    }
                }
                if *marker == SOS && !self.oversized {
                    let (segment, end) = (self.at + 2, self.at + 2 + length);
                    if length > SOS_MOST || swallows(&self.buf[..self.end], segment..end) {
                        return self.distrust();
                    }
                    // What begins another picture may be in its last bytes.
                    if self.end < end + 2 {
                        return Step::Starved;
                    }
                }
                self.state = match *marker {
                    SOS => Walk::Entropy,
                    _ => Walk::Marker { scan },
                };
                self.segment = self.at + 2;
                self.at += 2 + length;
                Step::On
            }
            _ => self.distrust(),
        }
    }

    fn entropy(&mut self) -> Step {
        loop {
            let Some(rest) = self.buf[..self.end].get(self.at..) else {
                // The SOS segment itself has not arrived whole.
                return Step::Starved;
            };
            let before = unmarked(rest);
            let rest = &rest[before..];
            self.at += before;
            let Some(prefix) = memchr(PREFIX, rest) else {
                self.at = self.end;
                return Step::Starved;
            };
            self.at += prefix;
            match rest[prefix..] {
                [_, 0 | RST0..=RST7, ..] => self.at += 2,
                [_, PREFIX, ..] => self.at += 1,
                [_, EOI, ..] => {
                    self.at += 2;
                    return Step::Whole;
                }
                // Between two scans, or DNL behind the first.
                [
                    _,
                    DHT | SOS | DQT | DNL | DRI | DAC | APP0..=APP15 | COM,
                    ..,
                ] => {
                    self.state = Walk::Marker { scan: true };
                    return Step::On;
                }
                [_, _, ..] => return self.give_up(),
                _ => return Step::Starved,
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    On,
    /// `buf[start..at]` is a picture.
    Whole,
    /// Nothing to do before more input.
    Starved,
}

/// One DHT segment with the four tables of ITU-T T.81, K.3: 2 bytes of marker, 2 of length, then for luminance DC and
/// AC, chrominance DC and AC each a class and number, the count of codes per length, and the values.
#[rustfmt::skip]
pub(super) const STANDARD_TABLES: [u8; 420] = [
    0xFF, DHT, 0x01, 0xA2,
    // K.3.1, table K.3: DC, luminance.
    0x00,
    0x00, 0x01, 0x05, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B,
    // K.3.2, table K.5: AC, luminance.
    0x10,
    0x00, 0x02, 0x01, 0x03, 0x03, 0x02, 0x04, 0x03, 0x05, 0x05, 0x04, 0x04, 0x00, 0x00, 0x01, 0x7D,
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
    0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0,
    0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28,
    0x29, 0x2A, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
    0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
    0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7,
    0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5,
    0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2,
    0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8,
    0xF9, 0xFA,
    // K.3.1, table K.4: DC, chrominance.
    0x01,
    0x00, 0x03, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B,
    // K.3.2, table K.6: AC, chrominance.
    0x11,
    0x00, 0x02, 0x01, 0x02, 0x04, 0x04, 0x03, 0x04, 0x07, 0x05, 0x04, 0x04, 0x00, 0x01, 0x02, 0x77,
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
    0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0,
    0x15, 0x62, 0x72, 0xD1, 0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26,
    0x27, 0x28, 0x29, 0x2A, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
    0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5,
    0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3,
    0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA,
    0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8,
    0xF9, 0xFA,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment: marker, length, content.
    fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len() + 2).unwrap();
        [&[PREFIX, marker], &length.to_be_bytes()[..], content].concat()
    }

    fn sof(marker: u8, width: u16, height: u16) -> Vec<u8> {
        let [w1, w0] = width.to_be_bytes();
        let [h1, h0] = height.to_be_bytes();
        segment(marker, &[8, h1, h0, w1, w0, 1, 1, 0x11, 0])
    }

    fn scan(entropy: &[u8]) -> Vec<u8> {
        [&segment(SOS, &[1, 1, 0, 0, 63, 0]), entropy].concat()
    }

    /// Not decodable, but with the markers of a picture of 640x480.
    fn picture(parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![PREFIX, SOI];
        bytes.extend(parts.concat());
        bytes.extend([PREFIX, EOI]);
        bytes
    }

    fn plain() -> Vec<u8> {
        picture(&[
            &segment(APP0, b"JFIF\0"),
            &segment(DQT, &[0; 65]),
            &sof(SOF0, 640, 480),
            &segment(DHT, &[0; 17]),
            &scan(&[1, 2, 3, 0xFF, 0, 4]),
        ])
    }

    #[test]
    fn inspect_finds_size_and_end() {
        let bytes = plain();
        assert_eq!(
            inspect(&bytes),
            Ok(Inspected {
                width: 640,
                height: 480,
                start: 0,
                end: bytes.len(),
                scan: bytes.len() - 2 - 6,
                tables: None,
                field: None,
                app1: false,
                debris: false,
            })
        );
    }

    /// Headers of all that a glance reads.
    fn headers() -> Vec<Vec<u8>> {
        let exif = segment(APP1, &[&b"Exif\0\0II*\0"[..], &[7; 40]].concat());
        let avi1 = segment(APP0, b"AVI1\x01\0\0\0");
        let fill = [PREFIX; 3];
        let interval = segment(DRI, &[0, 4]);
        let (tables, frame) = (segment(DHT, &[3; 17]), sof(SOF0, 640, 480));
        let parts: [&[&[u8]]; 6] = [
            &[&frame],
            &[&tables, &frame],
            &[&avi1, &frame, &interval],
            &[&exif, &segment(COM, b"21:07:33"), &frame, &tables],
            &[
                &fill,
                &segment(COM, &[]),
                &fill,
                &sof(0xC2, 64, 48),
                &tables,
            ],
            &[
                &frame,
                &exif,
                &segment(DQT, &[0; 65]),
                &segment(DAC, &[1, 2]),
            ],
        ];
        let whole = |parts: &[&[u8]]| picture(&[&parts.concat(), &scan(&[1, 2, 3, 0xFF, 0, 4])]);
        parts.iter().map(|parts| whole(parts)).collect()
    }

    #[test]
    fn a_header_that_is_known_by_another_says_the_same() {
        for bytes in headers() {
            let found = glance(&bytes).expect("a picture");
            let header = Header::of(&bytes, found).expect("a short header");
            assert_eq!(header.glance(&bytes), Some(found));
            let longer = [&bytes[..], &[PREFIX, EOI, 0, 0]].concat();
            assert_eq!(header.glance(&longer), glance(&longer));
            assert_eq!(header.glance(&bytes[..bytes.len() - 1]), None);
            let mut known = 0;
            for (at, value) in (0..bytes.len()).flat_map(|at| (0..=255).map(move |v| (at, v))) {
                let mut other = bytes.clone();
                other[at] = value;
                let again = header.glance(&other);
                known += usize::from(again.is_some());
                if again.is_some() {
                    assert_eq!(again, glance(&other), "{value} at {at}");
                }
            }
            // What nobody reads changes nothing: at least one byte of each is as it was.
            assert!(known > bytes.len(), "{known}");
        }
    }

    #[test]
    fn a_comment_that_changes_makes_no_other_header_and_what_is_read_does() {
        let bytes = &headers()[3];
        let header = Header::of(bytes, glance(bytes).expect("a picture")).expect("a short header");
        let other = |from: &[u8], to: &[u8]| {
            let at = bytes.windows(from.len()).position(|part| part == from);
            let at = at.expect("it is there");
            let mut other = bytes.clone();
            other[at..at + to.len()].copy_from_slice(to);
            other
        };
        let later = other(b"21:07:33", b"21:07:34");
        assert_eq!(header.glance(&later), glance(bytes));
        let larger = other(&sof(SOF0, 640, 480), &sof(SOF0, 640, 488));
        assert_eq!(header.glance(&larger), None);
        assert_eq!(glance(&larger).map(|found| found.height), Some(488));
        // Too many segments to be remembered.
        let many = picture(&[&segment(COM, &[]).repeat(WORDS), &bytes[2..]]);
        let found = glance(&many).expect("a picture");
        assert!(Header::of(&many, found).is_none());
    }

    #[test]
    fn inspect_cuts_padding() {
        let bytes = plain();
        for padding in [&[0; 100][..], &[0xFF; 3], &[0xD9; 3], &[0xFF, 0, 0xD9]] {
            let padded = [&bytes, padding].concat();
            assert_eq!(inspect(&padded).unwrap().end, bytes.len(), "{padding:?}");
        }
    }

    #[test]
    fn inspect_passes_fill_bytes_and_a_thumbnail() {
        let thumbnail = plain();
        let bytes = picture(&[
            &segment(0xE1, &thumbnail),
            &[0xFF, 0xFF, 0xFF],
            &sof(SOF0, 1280, 720),
            &segment(DHT, &[0; 17]),
            &scan(&[7]),
        ]);
        let found = inspect(&bytes).unwrap();
        assert_eq!(
            (found.width, found.height, found.end),
            (1280, 720, bytes.len())
        );
    }

    /// Where the one picture is that is found in all these bytes.
    fn found_in(bytes: &[u8]) -> Result<Range<usize>, Defect> {
        inspect(bytes).map(|found| found.range())
    }

    #[test]
    fn what_lies_before_the_start_is_none_of_it() {
        let bytes = plain();
        for before in [
            &[0][..],
            &[0xFF, SOI],
            &[0xFF, SOI, 0xFF, SOI, 0xFF, SOI],
            &[0xFF; 9],
            b"--boundary\r\n\r\n",
            &[0xFF, EOI],
            &[0xFF, SOI, 0xFF, EOI],
            &[0xFF, SOI, 0x12, 0x34],
            &[0xFF, SOI, 0x00],
            // A segment that leads into the picture itself.
            &[0xFF, SOI, 0xFF, DQT, 0x00, 0x43, 1, 2, 3],
            &bytes[..30],
        ] {
            let all = [before, &bytes].concat();
            assert_eq!(found_in(&all), Ok(before.len()..all.len()), "{before:?}");
        }
    }

    #[test]
    fn every_broken_start_gives_way_to_the_whole_picture_behind_it() {
        let (broken, whole) = (plain(), picture(&[&sof(SOF0, 8, 8), &scan(&[9; 70_000])]));
        for cut in 0..broken.len() {
            let all = [&broken[..cut], &whole].concat();
            assert_shows(&all[found_in(&all).unwrap()], &broken[..cut], &whole);
        }
    }

    /// `found` is `whole`; or, where a segment with any content lacks just two bytes in `broken`, and so takes the SOI
    /// for its own, `whole` behind such a header.
    fn assert_shows(found: &[u8], broken: &[u8], whole: &[u8]) {
        let lacks_two = broken.len() + 2 == 2 + 9;
        match lacks_two {
            true => assert!(found.ends_with(&whole[2..])),
            false => assert!(found == whole, "cut at {}", broken.len()),
        }
    }

    #[test]
    fn what_lies_behind_its_own_end_is_none_of_it() {
        let bytes = plain();
        let longer = picture(&[&sof(SOF0, 640, 480), &scan(&[7; 500])]);
        for (behind, debris) in [
            (&[0xFF, EOI][..], false),
            (&[0xFF, EOI, 0xFF, EOI], false),
            (&[0; 40], false),
            (&[0xFF; 3], false),
            (&longer[longer.len() - 200..], true),
            // The second field, and the next picture.
            (&longer, false),
            (&longer[..20], false),
            (&[0xFF], false),
            (b"\r\n--boundary", true),
        ] {
            let found = inspect(&[&bytes, behind].concat()).unwrap();
            assert_eq!(found.range(), 0..bytes.len(), "{behind:?}");
            assert_eq!(found.debris, debris, "{behind:?}");
        }
    }

    #[test]
    fn all_of_it_together_is_one_picture() {
        let bytes = plain();
        let before = [&[0, 0xFF, SOI][..], &bytes[..25], &[0xFF, SOI]].concat();
        let behind = [&[0xFF, EOI, 0xFF, EOI][..], &bytes[40..], &bytes].concat();
        let all = [&before[..], &bytes, &behind].concat();
        let at = before.len();
        assert_eq!(found_in(&all), Ok(at..at + bytes.len()));
    }

    #[test]
    fn a_picture_made_of_another_keeps_its_comments_and_density() {
        let jfif = |density: &[u8]| segment(APP0, &[JFIF, &[1, 1], density, &[0, 0]].concat());
        let comment = |n: usize| segment(COM, &vec![b'c'; n]);
        let frame = [&sof(SOF0, 64, 48)[..], &scan(&[1])].concat();
        let keep = |from: &[u8], turned, room: usize| {
            let plain = picture(&[&jfif(&[0, 0, 1, 0, 1]), &frame]);
            let mut made = FrameBuf::new(plain.len() + room);
            made.copy_tail(&plain, 0);
            keep_words(from, turned, &mut made);
            made.as_slice().to_vec()
        };
        let words = [&comment(5)[..], &comment(9)].concat();
        let tables = segment(DQT, &[0; 65]);
        let from = picture(&[
            &jfif(&[1, 0, 72, 0, 144]),
            &comment(5),
            &tables,
            &comment(9),
            &frame,
        ]);
        let upright = Orientation::UPRIGHT;
        let expected = picture(&[&jfif(&[1, 0, 72, 0, 144]), &words, &frame]);
        assert_eq!(keep(&from, upright, 1000), expected);
        let turned = picture(&[&jfif(&[1, 0, 144, 0, 72]), &words, &frame]);
        assert_eq!(keep(&from, Orientation::quarters(1), 1000), turned);
        // No room, or too many of them: the density alone.
        let short = picture(&[&jfif(&[1, 0, 72, 0, 144]), &frame]);
        assert_eq!(keep(&from, upright, words.len() - 1), short);
        let long = picture(&[&jfif(&[1, 0, 72, 0, 144]), &comment(600), &frame]);
        assert_eq!(keep(&long, upright, 1000), short);
        // Nothing to keep, and nothing that makes sense.
        let plain = picture(&[&jfif(&[0, 0, 1, 0, 1]), &frame]);
        assert_eq!(keep(&picture(&[&frame]), upright, 1000), plain);
        for n in 0..from.len() {
            assert!(inspect(&keep(&from[..n], upright, 1000)).is_ok(), "{n}");
        }
    }

    #[test]
    fn tables_are_told_from_the_start_of_the_picture() {
        let bare = picture(&[&sof(SOF0, 640, 480), &scan(&[1, 2, 3])]);
        let all = [&[0xFF, SOI, 0xFF, SOI][..], &bare].concat();
        let (alone, found) = (inspect(&bare).unwrap(), inspect(&all).unwrap());
        assert!(alone.tables.is_some());
        assert_eq!(found.tables, alone.tables);
    }

    #[test]
    fn a_scan_with_another_picture_in_it_is_broken() {
        let whole = plain();
        let cut = &whole[..whole.len() - 3];
        let scan_at = cut.len();
        // The rest of one whose SOI is overwritten; only headers; a marker that is not for scans.
        for rest in [&whole[2..], &whole[11..], &[0xFF, 0x02, 0xFF, EOI]] {
            let all = [cut, rest].concat();
            let Err(Defect::BadScan(at)) = inspect(&all) else {
                panic!("{rest:?}");
            };
            // Other segments with any content may come behind the scan, tables not.
            assert!((scan_at..scan_at + 90).contains(&at), "{at}: {rest:?}");
        }
        // With its SOI it is a picture.
        let all = [cut, &whole].concat();
        assert_eq!(found_in(&all), Ok(cut.len()..all.len()));
    }

    #[test]
    fn restart_markers_come_in_order_and_in_number() {
        // 160x8 in one component: 20 MCUs, two in an interval.
        let restarts = |numbers: &[u8], interval: u8| {
            let mut entropy = vec![1, 0xFF, 0];
            for number in numbers {
                entropy.extend([0xFF, RST0 + number, 5, 0xFF, 0xFF, 0]);
            }
            picture(&[
                &segment(DRI, &[0, interval]),
                &sof(SOF0, 160, 8),
                &segment(DHT, &[0; 17]),
                &scan(&entropy),
            ])
        };
        let good = restarts(&[0, 1, 2, 3, 4, 5, 6, 7, 0], 2);
        assert_eq!(found_in(&good), Ok(0..good.len()));
        assert!(inspect(&restarts(&[], 20)).is_ok());
        // Some of them lost, and with them the middle of the picture or its end; more than there can be.
        for numbers in [&[0, 1, 2, 5, 6, 7, 0][..], &[0, 1, 2], &[1], &[]] {
            let found = inspect(&restarts(numbers, 2));
            assert!(
                matches!(found, Err(Defect::BadScan(_))),
                "{numbers:?}: {found:?}"
            );
        }
        let more = restarts(&[0, 1, 2, 3, 4, 5, 6, 7, 0, 1], 2);
        assert!(matches!(inspect(&more), Err(Defect::BadScan(_))));
        // Who announces none may number them as he likes.
        assert!(inspect(&restarts(&[3, 3], 0)).is_ok());
    }

    #[test]
    fn a_thumbnail_is_never_shown_for_its_picture() {
        let thumbnail = plain();
        let exif = [b"Exif\0\0", &thumbnail[..], &[0; 90]].concat();
        let bytes = picture(&[&segment(APP1, &exif), &sof(SOF0, 64, 64), &scan(&[1; 50])]);
        for cut in 2..bytes.len() {
            assert!(inspect(&bytes[..cut]).is_err(), "cut at {cut}");
            // Nor where the rest is something else.
            let other = [&bytes[..cut], &[0x55; 400]].concat();
            assert!(inspect(&other).is_err(), "cut at {cut}");
        }
        let mut splitter = Splitter::new(4000);
        let mut damaged = bytes.clone();
        let behind = 2 + 2 + 2 + exif.len();
        damaged[behind] = 0;
        let stream = [&damaged[..], &bytes].concat();
        let found = split(&mut splitter, &stream, || 50);
        assert_eq!(found, [bytes]);
    }

    #[test]
    fn fields_are_read() {
        let avi1 = |polarity| segment(APP0, &[b"AVI1", &[polarity][..], &[0; 9]].concat());
        let of = |part: &[u8]| {
            let bytes = picture(&[part, &sof(SOF0, 640, 240), &scan(&[1])]);
            inspect(&bytes).unwrap()
        };
        assert_eq!(of(&avi1(0)).field, None);
        assert_eq!(of(&avi1(1)).field, Some(Field::First));
        assert_eq!(of(&avi1(2)).field, Some(Field::Second));
        assert_eq!(of(&segment(APP0, b"AVI1")).field, None);
    }

    #[test]
    fn a_hostile_buffer_is_not_walked_over_and_over() {
        // Each start is a whole header that leads into the same endless scan, each segment holds the next start.
        let mut nested = Vec::new();
        for _ in 0..20_000 {
            nested.extend([0xFF, SOI, 0xFF, COM, 0, 5, 0xFF, SOI, 0xFF]);
        }
        let header = [&[0xFF, SOI][..], &sof(SOF0, 8, 8), &scan(&[0xFF, 0])].concat();
        let scans = header.repeat(20_000);
        let long = [&header.repeat(3)[..], &vec![3; 4 << 20]].concat();
        for bytes in [nested, scans, long] {
            assert!(inspect(&bytes).is_err());
        }
    }

    #[test]
    fn every_beginning_of_a_picture_is_an_error() {
        // With a thumbnail: its EOI is not the picture's.
        let plain = plain();
        let bytes = picture(&[&segment(0xE1, &plain), &plain[2..plain.len() - 2]]);
        for n in 0..2 {
            assert_eq!(inspect(&bytes[..n]), Err(Defect::NotJpeg));
        }
        for n in 2..bytes.len() {
            assert_eq!(
                inspect(&bytes[..n]),
                Err(Defect::Truncated),
                "{n} bytes of {}",
                bytes.len()
            );
        }
    }

    #[test]
    fn inspect_names_the_defect() {
        assert_eq!(inspect(b"GIF89a"), Err(Defect::NotJpeg));
        let sos = scan(&[1]);
        let cases: [(&[&[u8]], Defect); 7] = [
            (&[&sos], Defect::NoSize),
            (&[&sof(SOF0, 0, 480), &sos], Defect::NoSize),
            (&[&sof(SOF0, 640, 0), &sos], Defect::NoSize),
            (&[&segment(SOF0, &[8, 1, 1, 1]), &sos], Defect::NoSize),
            // No marker, EOI before a scan, a length below its own two bytes.
            (&[&[0x12, 0x34], &sos], Defect::BadMarker(2)),
            (&[], Defect::BadMarker(2)),
            (&[&[0xFF, DQT, 0, 1], &sos], Defect::BadMarker(2)),
        ];
        for (parts, defect) in cases {
            assert_eq!(inspect(&picture(parts)), Err(defect), "{parts:?}");
        }
    }

    #[test]
    fn missing_tables_are_seen_and_put_in() {
        let (sof, sos) = (sof(SOF0, 640, 480), scan(&[1, 2, 3]));
        let bare = picture(&[&sof, &sos]);
        let at = 2 + sof.len();
        assert_eq!(inspect(&bare).unwrap().tables, Some(at));

        let mut out = FrameBuf::new(bare.len() + 420);
        insert_tables(&bare, at, &mut out).unwrap();
        assert_eq!(
            out.as_slice(),
            picture(&[&sof, &STANDARD_TABLES, &sos]).as_slice()
        );
        let found = inspect(out.as_slice()).unwrap();
        assert_eq!((found.tables, found.end), (None, out.len()));

        let mut small = FrameBuf::new(bare.len() + 419);
        assert_eq!(
            insert_tables(&bare, at, &mut small),
            Err(Defect::TooBig {
                needed: bare.len() + 420,
                capacity: bare.len() + 419
            })
        );
    }

    #[test]
    fn the_standard_tables_are_no_help_to_a_progressive_picture() {
        let bytes = picture(&[&sof(0xC2, 640, 480), &scan(&[1])]);
        assert_eq!(inspect(&bytes).unwrap().tables, None);
    }

    #[test]
    fn the_standard_tables_are_well_formed() {
        let mut rest = &STANDARD_TABLES[4..];
        assert_eq!(STANDARD_TABLES[2..4], 418u16.to_be_bytes());
        for class_and_number in [0x00, 0x10, 0x01, 0x11] {
            assert_eq!(rest[0], class_and_number);
            let counts = &rest[1..17];
            // Kraft: the codes of a table, with the one of all ones kept free, fill the code space (C.2).
            let used: u32 = (1..=16)
                .map(|len| u32::from(counts[len - 1]) << (16 - len))
                .sum();
            assert!(used < 1 << 16);
            let values: usize = counts.iter().map(|&n| usize::from(n)).sum();
            let mut seen = rest[17..17 + values].to_vec();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), values, "a value twice");
            rest = &rest[17 + values..];
        }
        assert!(rest.is_empty());
    }

    /// xorshift64*: reproducible from the seed.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
        }

        fn below(&mut self, n: usize) -> usize {
            (self.next() % n as u64) as usize
        }

        fn bytes(&mut self, n: usize) -> Vec<u8> {
            (0..n).map(|_| self.next() as u8).collect()
        }

        /// Entropy-coded data as an encoder writes it: stuffed, with restart markers.
        fn entropy(&mut self) -> Vec<u8> {
            let mut out = Vec::new();
            for _ in 0..self.below(300) {
                match self.below(20) {
                    0 => out.extend([0xFF, 0]),
                    1 => out.extend([0xFF, RST0 + self.below(8) as u8]),
                    _ => out.push(self.below(0xFF) as u8),
                }
            }
            out
        }

        fn picture(&mut self) -> Vec<u8> {
            let mut parts = vec![segment(APP0, b"JFIF\0")];
            if self.below(2) == 0 {
                let thumbnail = plain();
                parts.push(segment(0xE1, &thumbnail));
            }
            parts.push(vec![0xFF; self.below(3)]);
            let content = self.below(200);
            parts.push(segment(COM, &self.bytes(content)));
            parts.push(sof(SOF0, 640, 480));
            for _ in 0..1 + self.below(3) {
                parts.push(segment(DHT, &[0; 17]));
                parts.push(scan(&self.entropy()));
                parts.push(vec![0xFF; self.below(3)]);
                // Between two scans, too, what is in a segment is no marker.
                if self.below(3) == 0 {
                    parts.push(segment(COM, &[0xFF, EOI, 0xFF, SOI, 0xFF, 0x02]));
                    parts.push(scan(&self.entropy()));
                }
            }
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            picture(&parts)
        }

        /// Bytes between pictures, without an SOI, and not ending with what could begin one.
        fn garbage(&mut self) -> Vec<u8> {
            let n = self.below(60);
            let mut out = self.bytes(n);
            out.iter_mut()
                .filter(|byte| **byte == SOI)
                .for_each(|byte| *byte = 0);
            out.extend([0xFF, 0x00, 0xFF, SOI, 0x00]);
            out
        }
    }

    /// Feeds `stream` in pieces whose sizes `piece` says, and collects the pictures.
    fn split(
        splitter: &mut Splitter,
        stream: &[u8],
        mut piece: impl FnMut() -> usize,
    ) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let spare = splitter.spare();
            let n = piece().min(spare.len()).min(rest.len());
            spare[..n].copy_from_slice(&rest[..n]);
            splitter.filled(n);
            rest = &rest[n..];
            while let Some(frame) = splitter.next_frame() {
                frames.push(frame.to_vec());
            }
        }
        frames
    }

    #[test]
    fn however_the_stream_is_cut_the_pictures_are_the_same() {
        for seed in 1..=500 {
            let mut random = Random(seed);
            let pictures: Vec<_> = (0..8).map(|_| random.picture()).collect();
            let mut stream = Vec::new();
            let mut garbage = 0;
            for picture in &pictures {
                if random.below(2) == 0 {
                    let noise = random.garbage();
                    garbage += noise.len() as u64;
                    stream.extend(noise);
                }
                stream.extend(picture);
            }
            let largest = pictures.iter().map(Vec::len).max().unwrap();
            // Exactly the room that is needed, or plenty.
            let mut splitter = Splitter::new(largest + random.below(2) * 5000);
            let limit = [1, 3, 50, 5000][random.below(4)];
            let found = split(&mut splitter, &stream, || 1 + random.below(limit));
            assert!(found == pictures, "seed {seed}");
            let expected = SplitCounts {
                frames: 8,
                garbage,
                ..SplitCounts::default()
            };
            assert_eq!(splitter.counts(), expected, "seed {seed}");
        }
    }

    #[test]
    fn the_splitter_finds_what_a_broken_start_swallowed() {
        let whole = picture(&[&sof(SOF0, 8, 8), &scan(&[9; 300])]);
        let broken = plain();
        for cut in 0..broken.len() {
            // The longest segment that can be announced.
            let stream = [&broken[..cut], &whole, &whole, &[0; 1 << 16]].concat();
            let mut splitter = Splitter::new(1 << 17);
            let found = split(&mut splitter, &stream, || 700);
            assert_eq!(found.len(), 2, "cut at {cut}");
            assert_shows(&found[0], &broken[..cut], &whole);
            assert_shows(&found[1], &[], &whole);
        }
    }

    #[test]
    fn a_start_twice_is_no_bad_picture() {
        let bytes = plain();
        let stream = [&[0xFF, SOI][..], &bytes, &[0xFF, SOI, 0xFF, SOI], &bytes].concat();
        let mut splitter = Splitter::new(4000);
        assert_eq!(split(&mut splitter, &stream, || 3), [bytes.clone(), bytes]);
        let counts = splitter.counts();
        assert_eq!((counts.frames, counts.bad, counts.garbage), (2, 0, 6));
    }

    #[test]
    fn noise_never_breaks_the_splitter_and_it_finds_the_next_picture() {
        for seed in 1..=500 {
            let mut random = Random(seed);
            let mut splitter = Splitter::new(4000);
            for _ in 0..20 {
                let mut damaged = random.picture();
                for _ in 0..1 + random.below(5) {
                    let at = random.below(damaged.len());
                    damaged[at] = [0xFF, EOI, SOI, random.next() as u8][random.below(4)];
                }
                damaged.truncate(1 + random.below(damaged.len()));
                split(&mut splitter, &damaged, || 1 + random.below(100));
            }
            // A damaged length may swallow up to 64 KiB, and an oversized picture ends at the next SOI.
            split(&mut splitter, &[0; 65536], || 4000);
            let picture = plain();
            split(&mut splitter, &picture, || 4000);
            let found = split(&mut splitter, &picture, || 1 + random.below(100));
            assert_eq!(found, [picture], "seed {seed}");
        }
    }

    #[test]
    fn an_oversized_picture_is_passed_over() {
        let small = plain();
        let large = picture(&[
            &segment(0xE1, &[&small[..], &[0; 5000]].concat()),
            &sof(SOF0, 640, 480),
            &scan(&vec![7; 10_000]),
        ]);
        let stream = [&small[..], &large, &small].concat();
        for piece in [1, 7, 1000] {
            let mut splitter = Splitter::new(1000);
            let found = split(&mut splitter, &stream, || piece);
            assert_eq!(found, [small.clone(), small.clone()]);
            let expected = SplitCounts {
                frames: 2,
                oversized: 1,
                ..SplitCounts::default()
            };
            assert_eq!(splitter.counts(), expected);
        }
    }

    #[test]
    fn one_byte_more_than_the_buffer_is_oversized() {
        let bytes = plain();
        let mut splitter = Splitter::new(bytes.len());
        assert_eq!(split(&mut splitter, &bytes, || 10).len(), 1);
        let mut splitter = Splitter::new(bytes.len() - 1);
        assert_eq!(split(&mut splitter, &bytes, || 10).len(), 0);
        assert_eq!(splitter.counts().oversized, 1);
    }

    #[test]
    fn a_picture_cut_off_by_the_next_is_bad() {
        let bytes = plain();
        // Within the scan, and between two segments.
        let in_header = 2 + segment(APP0, b"JFIF\0").len();
        for cut in [bytes.len() - 4, in_header] {
            let stream = [&bytes[..cut], &bytes].concat();
            let mut splitter = Splitter::new(1000);
            assert_eq!(
                split(&mut splitter, &stream, || 5),
                std::slice::from_ref(&bytes)
            );
            assert_eq!((splitter.counts().bad, splitter.counts().frames), (1, 1));
        }
    }

    #[test]
    fn tables_alone_are_no_picture() {
        let bytes = plain();
        let tables = picture(&[&segment(DQT, &[0; 65]), &segment(DHT, &[0; 17])]);
        let mut splitter = Splitter::new(1000);
        assert_eq!(
            split(&mut splitter, &[&tables[..], &bytes].concat(), || 9),
            std::slice::from_ref(&bytes)
        );
        assert_eq!((splitter.counts().bad, splitter.counts().frames), (1, 1));
    }

    #[test]
    fn a_new_stream_does_not_go_on_with_the_old_picture() {
        let bytes = plain();
        let mut splitter = Splitter::new(1000);
        split(&mut splitter, &bytes[..30], || 30);
        splitter.reset();
        assert_eq!(
            split(&mut splitter, &bytes, || 7),
            std::slice::from_ref(&bytes)
        );
        assert_eq!((splitter.counts().bad, splitter.counts().frames), (1, 1));
    }

    #[test]
    fn newest_is_the_last_whole_picture() {
        let (first, last) = (plain(), picture(&[&sof(SOF0, 1, 1), &scan(&[9])]));
        let stream = [&first[..], &first, &last, &first[..20]].concat();
        let mut splitter = Splitter::new(1000);
        assert_eq!(splitter.newest(), None);
        splitter.spare()[..stream.len()].copy_from_slice(&stream);
        splitter.filled(stream.len());
        assert_eq!(splitter.newest(), Some((&last[..], 2)));
        assert_eq!(splitter.newest(), None);
        assert_eq!(
            split(&mut splitter, &first[20..], || 1000),
            std::slice::from_ref(&first)
        );
    }
}
