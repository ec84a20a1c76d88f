//! Which JPEGs of a stream are shown: exactly one whole picture, from its SOI to its own EOI, or nothing. [`Examiner`] is
//! the one place where this is decided, for every source.
//!
//! Most buffers of most cameras hold one picture and nothing else. To make sure of it, [`jpeg::inspect`] searches all of
//! the scan for markers, which costs as much as a tenth of what sending the picture does; a look at both ends and the header
//! ([`jpeg::glance`]) costs next to nothing. And neither sees a picture that was cut short and has an end all the same: its
//! sender put one there, or the buffer had the rest of an older picture in it. To find that out means to follow the Huffman
//! codes through all of it ([`scan::is_whole`]), which costs more than sending it does. So a picture is searched, and then
//! followed, where there is cause:
//!
//! - before the stream is known: the first [`CLEAN`] pictures are searched, and the first is followed;
//! - if the last [`CLEAN`] pictures were not all clean: searched. With stale bytes around it, it is followed too, as a
//!   buffer that has those behind the end may have them before it;
//! - if it ends with the same bytes as one of the last pictures, but is another one: searched; and followed if it ends at
//!   the same place, too, as a stale end stays where it was;
//! - if it is much smaller or larger than the picture before it;
//! - and of all others as many as cost little: each picture saves [`SEARCHED`] bytes for the one and [`FOLLOWED`] for the
//!   other. Small pictures are all searched.

use super::jpeg::{self, Defect, Field, Inspected};
use super::scan;

/// So many clean pictures in a row make a stream of clean pictures.
const CLEAN: u8 = 16;
/// Bytes that may be searched for each picture seen, without any cause: about 500 instructions.
const SEARCHED: usize = 1024;
/// Bytes that may be followed for each picture seen, without any cause: about 1500 instructions.
const FOLLOWED: usize = 32;
/// What can be saved of each at most, and is at first. A scan that is longer is followed with cause only: a Pi 2 takes 3 ms
/// for this much.
const SAVED_MOST: usize = 64 * 1024;
/// How many of the last pictures' ends are known.
const KNOWN: usize = 16;
/// Of two pictures of which one has less than so many eighths of the other's bytes, the later is in doubt.
const SMALL: usize = 6;
/// Bytes of an end that tell it from another one at the same place.
const TAIL: usize = 16;
/// Words of a picture that tell it from another of the same length.
const WORDS: usize = 16;
/// Pictures of the other field in a row after which that one is shown: the first one comes no more.
const OTHER_FIELDS: u8 = 8;

/// What is remembered of a good picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    length: usize,
    /// Its last bytes.
    tail: [u8; TAIL],
    print: u64,
}

impl Known {
    fn of(jpeg: &[u8]) -> Known {
        Known {
            length: jpeg.len(),
            tail: *jpeg.last_chunk().unwrap_or(&[0; TAIL]),
            print: print(jpeg),
        }
    }
}

/// Decides for one stream of pictures, from one start of its source to the next.
#[derive(Debug)]
pub struct Examiner {
    known: [Option<Known>; KNOWN],
    /// Where in `known` the next one goes.
    next: usize,
    /// Clean pictures in a row, up to [`CLEAN`].
    clean: u8,
    to_search: usize,
    to_follow: usize,
    field: Option<Field>,
    other_fields: u8,
    /// It was said that there are fields. Not forgotten with a new start: it is the same camera.
    said: bool,
}

impl Default for Examiner {
    fn default() -> Self {
        Examiner::new()
    }
}

impl Examiner {
    /// For a stream of which nothing is known.
    pub fn new() -> Self {
        Examiner {
            known: [None; KNOWN],
            next: 0,
            clean: 0,
            to_search: SAVED_MOST,
            to_follow: SAVED_MOST,
            field: None,
            other_fields: 0,
            said: false,
        }
    }

    /// The stream begins anew.
    pub fn reset(&mut self) {
        *self = Examiner {
            said: self.said,
            ..Examiner::new()
        };
    }

    /// Finds the picture to show in what came as one. `None`: there is one, but it is the other field of an interlaced
    /// stream.
    ///
    /// Of two fields one is shown, at half the height: to weave them would mean to decode and encode each pair.
    pub fn examine(&mut self, bytes: &[u8]) -> Result<Option<Inspected>, Defect> {
        self.to_search = (self.to_search + SEARCHED).min(SAVED_MOST);
        self.to_follow = (self.to_follow + FOLLOWED).min(SAVED_MOST);
        let glanced = jpeg::glance(bytes);
        let trusted = glanced.filter(|found| self.is_trusted(found, &bytes[found.range()]));
        let found = match trusted {
            Some(found) => found,
            None => self.search(bytes, glanced)?,
        };
        let jpeg = &bytes[found.range()];
        let known = Known::of(jpeg);
        if self.is_in_doubt(&found, known) {
            self.to_follow = self.to_follow.saturating_sub(found.end - found.scan);
            if !scan::is_whole(jpeg) {
                self.clean = 0;
                return Err(Defect::Incomplete);
            }
        }
        if !self.known.contains(&Some(known)) {
            self.known[self.next] = Some(known);
            self.next = (self.next + 1) % KNOWN;
        }
        Ok(self.is_shown(found.field).then_some(found))
    }

    /// Whether what a glance found needs no search.
    fn is_trusted(&mut self, found: &Inspected, jpeg: &[u8]) -> bool {
        if self.clean < CLEAN {
            return false;
        }
        let known = Known::of(jpeg);
        if self.known.contains(&Some(known)) {
            return true;
        }
        let length = found.end - found.scan;
        if length <= self.to_search {
            self.to_search -= length;
            return false;
        }
        let mut ends = self.known.iter().flatten();
        !ends.any(|other| other.tail == known.tail) && !self.has_cause(known)
    }

    fn search(&mut self, bytes: &[u8], glanced: Option<Inspected>) -> Result<Inspected, Defect> {
        let found = jpeg::inspect(bytes);
        let is_clean = match (&found, glanced) {
            (Ok(found), Some(glanced)) => found.range() == glanced.range(),
            // Padding.
            (Ok(found), None) => found.start == 0 && !found.debris,
            (Err(_), _) => false,
        };
        self.clean = match is_clean {
            true => (self.clean + 1).min(CLEAN),
            false => 0,
        };
        found
    }

    /// What speaks against a picture that looks well.
    fn has_cause(&self, known: Known) -> bool {
        let Some(last) = self.known[(self.next + KNOWN - 1) % KNOWN] else {
            return true;
        };
        let mut ends = self.known.iter().flatten();
        ends.any(|other| (other.length, other.tail) == (known.length, known.tail))
            || known.length < last.length / 8 * SMALL
            || last.length < known.length / 8 * SMALL
    }

    fn is_in_doubt(&self, found: &Inspected, known: Known) -> bool {
        if self.known.contains(&Some(known)) && !found.debris {
            return false;
        }
        found.debris || self.has_cause(known) || found.end - found.scan <= self.to_follow
    }

    fn is_shown(&mut self, field: Option<Field>) -> bool {
        let Some(field) = field else {
            return true;
        };
        if !self.said {
            self.said = true;
            log::info!(
                "camera: its pictures are interlaced, two fields of half the height each; one of them is shown"
            );
        }
        let shown = *self.field.get_or_insert(field);
        self.other_fields = match field == shown {
            true => 0,
            false => self.other_fields + 1,
        };
        if self.other_fields >= OTHER_FIELDS {
            (self.field, self.other_fields) = (Some(field), 0);
        }
        self.field == Some(field)
    }
}

/// A number that hardly any other picture of this length has: FNV-1a over words from all over it.
fn print(jpeg: &[u8]) -> u64 {
    let step = jpeg.len() / WORDS;
    let word = |n: usize| -> u64 {
        let bytes = jpeg.get(n * step..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    (0..WORDS).fold(0xCBF2_9CE4_8422_2325, |print, n| {
        (print ^ word(n)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
