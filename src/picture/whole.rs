//! Which JPEGs of a stream are shown: exactly one whole picture, from its SOI to its own EOI, or nothing. [`Examiner`] is
//! the one place where this is decided, for every source.
//!
//! [`jpeg::inspect`] finds the picture and sees most damage. What it cannot see is a picture that was cut short and has an
//! end all the same: its sender put one there, or the buffer had the rest of an older picture in it. To find out means to
//! follow the Huffman codes through all of it ([`scan::is_whole`]), which costs more than sending it does. So that is done
//! where there is cause:
//!
//! - before anything is known of the stream;
//! - if there are stale bytes around it: a buffer that has those behind the end may have them before it;
//! - if it ends where one of the last pictures ended, but is another one: a stale end stays where it was;
//! - if it is much smaller or larger than the picture before it;
//! - and of all others as many as cost little: each picture saves [`SAVED`] bytes for that. Of small ones that is nearly
//!   all.

use super::jpeg::{self, Defect, Field, Inspected};
use super::scan;

/// Bytes that may be followed for each picture seen, without any cause: about 6000 instructions.
const SAVED: usize = 128;
/// What can be saved at most, and is at first. Scans that are longer are looked at with cause only: a Pi 2 takes 3 ms for
/// this much.
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

/// Decides for one stream of pictures, from one start of its source to the next.
#[derive(Debug)]
pub struct Examiner {
    known: [Option<Known>; KNOWN],
    /// Where in `known` the next one goes.
    next: usize,
    saved: usize,
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
            saved: SAVED_MOST,
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
        let found = jpeg::inspect(bytes)?;
        let jpeg = &bytes[found.range()];
        let known = Known {
            length: jpeg.len(),
            tail: *jpeg.last_chunk().unwrap_or(&[0; TAIL]),
            print: print(jpeg),
        };
        self.saved = (self.saved + SAVED).min(SAVED_MOST);
        if self.is_in_doubt(&found, known) {
            self.saved = self.saved.saturating_sub(found.end - found.scan);
            if !scan::is_whole(jpeg) {
                return Err(Defect::Incomplete);
            }
        }
        if !self.known.contains(&Some(known)) {
            self.known[self.next] = Some(known);
            self.next = (self.next + 1) % KNOWN;
        }
        Ok(self.is_shown(found.field).then_some(found))
    }

    fn is_in_doubt(&self, found: &Inspected, known: Known) -> bool {
        if self.known.contains(&Some(known)) && !found.debris {
            return false;
        }
        let Some(last) = self.known[(self.next + KNOWN - 1) % KNOWN] else {
            return true;
        };
        let mut ends = self.known.iter().flatten();
        found.debris
            || ends.any(|other| (other.length, other.tail) == (known.length, known.tail))
            || known.length < last.length / 8 * SMALL
            || last.length < known.length / 8 * SMALL
            || found.end - found.scan <= self.saved
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
