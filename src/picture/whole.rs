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
//! - before the stream is known: the first `CLEAN` pictures are searched, and the first is followed;
//! - if the last `CLEAN` pictures were not all clean: searched. With stale bytes around it, it is followed too, as a
//!   buffer that has those behind the end may have them before it;
//! - if it ends with the same bytes as one of the last pictures, but is another one: searched and followed, until that was
//!   in vain `ALIKE` times, as what is below may be one flat grey; and however often if it ends at the same place, too, as a
//!   stale end stays where it was;
//! - if it is much smaller or larger than the picture before it;
//! - all these with cause, as long as that does not come to more than `CAUSED` bytes a picture. What is more, and ends as
//!   another one does, is taken to be what the last one like that turned out to be;
//! - and of all others as many as cost little: each picture saves `SEARCHED` bytes for the one and `FOLLOWED` for the
//!   other. Small pictures are all searched.
//!
//! The last pictures are all that came, not only those that were shown: what one leaves in its buffer is there whether it
//! was damaged, too early for the wanted rate, or good ([`Examiner::pass_over`]).

use super::jpeg::{self, Defect, Field, Header, Inspected};
use super::scan;
use crate::limits::BUFFERS_MAX;

/// So many clean pictures in a row make a stream of clean pictures.
const CLEAN: u8 = 16;
/// So many pictures that end alike and are clean are how pictures of this stream end.
const ALIKE: u8 = 4;
/// Bytes that may be searched for each picture seen, without any cause: some 100 to 300 instructions.
const SEARCHED: usize = 128;
/// Bytes that may be followed for each picture seen, without any cause: about 200 instructions.
const FOLLOWED: usize = 4;
/// What can be saved of each at most, and is at first. A scan that is longer is followed with cause only: a Pi 2 takes 3 ms
/// for this much.
const SAVED_MOST: usize = 64 * 1024;
/// Bytes that may be followed for each picture seen where there is cause: 64 KB, of 1 MB that were saved. A sender whose pictures
/// are never alike would have all of them followed else.
const CAUSED: isize = 64 * 1024;
/// See [`CAUSED`].
const CAUSED_MOST: isize = 1024 * 1024;
/// How many of the last pictures' ends are known: what two rounds of the largest ring of buffers leave in them.
const KNOWN: usize = 2 * BUFFERS_MAX as usize;
/// Chains in which these are found by their last bytes.
const CHAINS: usize = 64;
/// Of two pictures of which one has less than so many eighths of the other's bytes, the later is in doubt.
const SMALL: usize = 6;
/// Words from all over a picture that tell it from another of the same length.
const EVENLY: usize = 8;
/// Words of it ever further from the start of its scan. However soon it was cut short, one of them is in front of that, and
/// tells it from the picture that the rest is of.
const FROM_START: usize = 12;
/// Pictures of the other field in a row after which that one is shown: the first one comes no more.
const OTHER_FIELDS: u8 = 8;

/// What is remembered of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// Where in its buffer it ends.
    end: usize,
    /// Its last bytes, which tell it from another one that ends at the same place.
    tail: (u64, u64),
    /// `None`: it was not found to be good.
    print: Option<u32>,
}

/// What a picture has in common with one before it, the most last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    None,
    /// The last bytes.
    Tail,
    /// These at the same place.
    End,
    /// It is that one, for all that is known.
    Same,
}

impl Known {
    const NONE: Known = Known {
        end: 0,
        tail: (0, 0),
        print: None,
    };

    fn of(bytes: &[u8], found: &Inspected) -> Known {
        Known {
            print: Some(print(&bytes[..found.end], found)),
            ..Known::end_of(&bytes[..found.end])
        }
    }

    /// Of bytes of which the end is all that counts.
    fn end_of(bytes: &[u8]) -> Known {
        let tail = bytes
            .last_chunk()
            .map_or(0, |tail| u128::from_le_bytes(*tail));
        Known {
            end: bytes.len(),
            tail: (tail as u64, (tail >> 64) as u64),
            print: None,
        }
    }

    /// By four bytes in front of the marker that all have.
    fn chain(&self) -> usize {
        let bytes = (self.tail.1 >> 16) as u32;
        bytes.wrapping_mul(0x9E37_79B1) as usize >> (u32::BITS - CHAINS.ilog2())
    }
}

/// The last pictures, found by their last bytes: one that ends as none before it, as nearly all do, is found out at once.
#[derive(Debug)]
struct Last {
    /// Each with the number of the one before it in its chain.
    known: [(Known, u64); KNOWN],
    /// The number of the newest one in each chain.
    chains: [u64; CHAINS],
    /// The number of the next.
    next: u64,
}

impl Last {
    fn new() -> Last {
        Last {
            known: [(Known::NONE, 0); KNOWN],
            chains: [0; CHAINS],
            // Number 0 is forgotten already.
            next: KNOWN as u64 + 1,
        }
    }

    fn remember(&mut self, known: Known) {
        let before = std::mem::replace(&mut self.chains[known.chain()], self.next);
        self.known[self.next as usize % KNOWN] = (known, before);
        self.next += 1;
    }

    /// What a picture has in common with these.
    fn liken(&self, known: Known) -> Likeness {
        let (mut likeness, mut number) = (Likeness::None, self.chains[known.chain()]);
        // Each is older than the one before it, and the oldest are forgotten.
        while self.next - number <= KNOWN as u64 {
            let (other, before) = &self.known[number as usize % KNOWN];
            if other.tail == known.tail {
                likeness = likeness.max(match other {
                    _ if *other == known => Likeness::Same,
                    _ if other.end == known.end => Likeness::End,
                    _ => Likeness::Tail,
                });
            }
            number = *before;
        }
        likeness
    }
}

/// Decides for one stream of pictures, from one start of its source to the next.
#[derive(Debug)]
pub struct Examiner {
    last: Last,
    /// Where the last good one ended.
    last_end: Option<usize>,
    /// Clean pictures in a row, up to [`CLEAN`].
    clean: u8,
    /// The last one that ended as another one did, and was followed, was damaged.
    stale_ends: bool,
    /// Good pictures that ended as another one did.
    alike: u8,
    to_search: usize,
    to_follow: usize,
    /// What may be followed with cause. Below 0: that is saved first.
    with_cause: isize,
    /// The last picture's.
    header: Option<Header>,
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
            last: Last::new(),
            last_end: None,
            clean: 0,
            stale_ends: false,
            alike: 0,
            to_search: SAVED_MOST,
            to_follow: SAVED_MOST,
            with_cause: CAUSED_MOST,
            header: None,
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
        self.with_cause = (self.with_cause + CAUSED).min(CAUSED_MOST);
        let glanced = self.glance(bytes);
        let glanced_as = glanced.map(|found| {
            let known = Known::of(bytes, &found);
            (found, known, self.last.liken(known))
        });
        let trusted =
            glanced_as.filter(|(found, known, likeness)| self.is_trusted(found, *known, *likeness));
        let (found, known, likeness) = match trusted {
            Some(trusted) => trusted,
            None => match self.search(bytes, glanced) {
                Ok(found) => {
                    let known = Known::of(bytes, &found);
                    (found, known, self.last.liken(known))
                }
                Err(defect) => {
                    self.last
                        .remember(Known::end_of(jpeg::without_padding(bytes)));
                    return Err(defect);
                }
            },
        };
        let is_alike = matches!(likeness, Likeness::Tail | Likeness::End);
        if self.is_in_doubt(&found, known, likeness) {
            let length = found.end - found.scan;
            self.to_follow = self.to_follow.saturating_sub(length);
            // A picture is far smaller than half of the address space.
            self.with_cause -= length as isize;
            if !scan::is_whole(&bytes[found.range()]) {
                (self.clean, self.alike) = (0, 0);
                self.stale_ends |= is_alike;
                return self.refuse(known);
            }
            self.stale_ends &= !is_alike;
        } else if is_alike && self.stale_ends && self.has_cause(known, likeness) {
            return self.refuse(known);
        }
        if likeness == Likeness::Tail {
            self.alike = (self.alike + 1).min(ALIKE);
        }
        if likeness != Likeness::Same {
            self.last.remember(known);
        }
        self.last_end = Some(known.end);
        Ok(self.is_shown(found.field).then_some(found))
    }

    fn refuse<T>(&mut self, known: Known) -> Result<T, Defect> {
        let print = None;
        self.last.remember(Known { print, ..known });
        Err(Defect::Incomplete)
    }

    /// A picture came that nobody will be shown: its end may stay behind in its buffer.
    pub fn pass_over(&mut self, bytes: &[u8]) {
        let glanced = self.glance(bytes).filter(|_| self.clean == CLEAN);
        let own = match glanced.map_or_else(|| jpeg::inspect(bytes), Ok) {
            Ok(found) => &bytes[..found.end],
            Err(_) => jpeg::without_padding(bytes),
        };
        self.last.remember(Known::end_of(own));
    }

    /// See [`jpeg::glance`].
    fn glance(&mut self, bytes: &[u8]) -> Option<Inspected> {
        let again = self.header.as_ref().and_then(|header| header.glance(bytes));
        if again.is_some() {
            return again;
        }
        let found = jpeg::glance(bytes)?;
        self.header = Header::of(bytes, found);
        Some(found)
    }

    /// Whether what a glance found needs no search.
    fn is_trusted(&mut self, found: &Inspected, known: Known, likeness: Likeness) -> bool {
        if self.clean < CLEAN {
            return false;
        }
        if likeness == Likeness::Same {
            return true;
        }
        let length = found.end - found.scan;
        if length <= self.to_search {
            self.to_search -= length;
            return false;
        }
        !self.has_cause(known, likeness)
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
        if !is_clean {
            self.alike = 0;
        }
        found
    }

    /// What speaks against a picture that looks well.
    fn has_cause(&self, known: Known, likeness: Likeness) -> bool {
        let Some(last) = self.last_end else {
            return true;
        };
        likeness == Likeness::End
            || likeness == Likeness::Tail && self.alike < ALIKE
            || known.end < last / 8 * SMALL
            || last < known.end / 8 * SMALL
    }

    fn is_in_doubt(&self, found: &Inspected, known: Known, likeness: Likeness) -> bool {
        let has_cause = found.debris || self.has_cause(known, likeness);
        let is_new = found.debris || likeness != Likeness::Same;
        is_new
            && (has_cause && self.with_cause > 0
                || !found.debris && found.end - found.scan <= self.to_follow)
    }

    /// Whether this field of a picture is to be shown; `None`: it is not interlaced.
    pub fn is_shown(&mut self, field: Option<Field>) -> bool {
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

/// A number that hardly any other picture that ends there has: FNV-1a over some words of it.
fn print(bytes: &[u8], found: &Inspected) -> u32 {
    let part = (found.end - found.start) / EVENLY;
    let evenly = (0..EVENLY).map(|n| found.start + n * part);
    let from_start = (0..FROM_START).map(|n| found.scan + (8 << n));
    evenly.chain(from_start).fold(0x811C_9DC5, |print, at| {
        let word = bytes.get(at..at + 4).map_or(0, |word| {
            u32::from_le_bytes(*word.first_chunk().expect("it has 4 bytes"))
        });
        (print ^ word).wrapping_mul(0x0100_0193)
    })
}
