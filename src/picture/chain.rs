//! The last pictures of a stream in which pictures lean on the ones before them, for those who get them one after the other.
//!
//! A viewer has a place in the chain: the number of the last picture it got. It is given the next one, and where that is not
//! to be had any more, or has grown old ([`CHAIN_AGE`]), nothing before the newest picture that stands for itself. So it
//! never gets a picture without all on which that leans, and never waits behind old ones. Nothing is kept for a viewer: what
//! the chain holds it holds for all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame::FrameMeta;
use super::h264::{AccessUnit, Parameters, START_CODE};
use crate::limits::{CHAIN, CHAIN_AGE};

/// One picture of a chain, on loan.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// `sequence` is its number in the chain.
    pub meta: FrameMeta,
    /// It stands for itself.
    pub is_key: bool,
    /// What a decoder needs to know before it. Another one than before only where that changes.
    pub parameters: &'a Arc<Parameters>,
    /// Its NAL units but for parameter sets and delimiters, each behind its length in four bytes, big-endian (ISO/IEC 14496-15, 5.3).
    pub sample: &'a [u8],
    /// The mean distance of pictures, lately; `None`: there were no two yet.
    pub distance: Option<Duration>,
}

impl Unit<'_> {
    /// Writes its sample as a stream of bytes (Annex B), with start codes of four bytes in place of the lengths, so that it takes as
    /// much room. The parameter sets that stand in front of one that stands for itself are not in it.
    ///
    /// # Panics
    /// If `out` is not as long as the sample.
    pub fn write_stream(&self, out: &mut [u8]) {
        out.copy_from_slice(self.sample);
        let mut at = 0;
        while let Some(length) = out.get_mut(at..at + 4) {
            let nal = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            length.copy_from_slice(&START_CODE);
            at += 4 + nal as usize;
        }
    }

    /// The parameter sets that a decoder needs in front of it, each behind a start code: of a picture that stands for itself alone.
    pub fn sets(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.parameters.sps().chain(self.parameters.pps());
        let all = all.filter(|_| self.is_key);
        all.flat_map(|set| [&START_CODE[..], set])
    }
}

struct Held {
    meta: FrameMeta,
    is_key: bool,
    begin: usize,
    end: usize,
}

/// Invariant: what is held lies in `bytes` in the order in which it came, around its end once at most, without overlap;
/// its numbers follow one another, and all of it needs `parameters`.
pub struct Chain {
    bytes: Box<[u8]>,
    held: VecDeque<Held>,
    parameters: Arc<Parameters>,
    /// The number of the picture that comes next.
    next: u64,
    /// Nothing leans on what came before: the next picture has to stand for itself.
    is_cut: bool,
    /// When the last picture was captured, if it was not cut since.
    last: Option<Instant>,
    distance: Option<Duration>,
}

impl Chain {
    /// Takes the memory for pictures of `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Chain {
            bytes: vec![0; 2 * capacity].into_boxed_slice(),
            held: VecDeque::with_capacity(CHAIN),
            parameters: Arc::default(),
            next: 1,
            is_cut: true,
            last: None,
            distance: None,
        }
    }

    /// The pictures to come do not lean on those that are held.
    pub fn cut(&mut self) {
        self.held.clear();
        // Nobody's next one.
        self.next += u64::from(!self.is_cut);
        (self.is_cut, self.last) = (true, None);
    }

    /// Takes a picture in, and gives it its number. False: it leans on one that is not there, or does not fit, and is not
    /// taken.
    pub fn push(&mut self, meta: FrameMeta, unit: AccessUnit<'_>, parameters: &Parameters) -> bool {
        let is_key = unit.is_key();
        if self.is_cut && !(is_key && parameters.are_whole()) {
            return false;
        }
        let len = unit.sample().map(|nal| 4 + nal.len()).sum();
        if len > self.bytes.len() / 2 {
            self.cut();
            return false;
        }
        if *self.parameters != *parameters {
            if !is_key {
                // Those who follow decode by what they were told before their key picture.
                self.cut();
                return false;
            }
            // Rare enough to take memory.
            self.held.clear();
            self.parameters = Arc::new(parameters.clone());
        }
        let begin = self.make_room(len);
        let mut at = begin;
        for nal in unit.sample() {
            let length = u32::try_from(nal.len()).unwrap_or(u32::MAX).to_be_bytes();
            for part in [&length[..], nal] {
                self.bytes[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
        }
        let sequence = self.next;
        self.held.push_back(Held {
            meta: FrameMeta { sequence, ..meta },
            is_key,
            begin,
            end: at,
        });
        (self.next, self.is_cut) = (sequence + 1, false);
        self.measure(meta.captured);
        true
    }

    /// A picture was captured then.
    fn measure(&mut self, captured: Instant) {
        if let Some(last) = self.last.replace(captured) {
            let distance = captured.saturating_duration_since(last);
            self.distance = Some(match self.distance {
                Some(mean) => (7 * mean + distance) / 8,
                None => distance,
            });
        }
    }

    /// Where so many bytes have room. The oldest pictures go for it.
    fn make_room(&mut self, len: usize) -> usize {
        if self.held.len() == CHAIN {
            self.held.pop_front();
        }
        loop {
            let (Some(first), Some(last)) = (self.held.front(), self.held.back()) else {
                return 0;
            };
            let (from, to) = (last.end, first.begin);
            // Those that are held lie in one piece, or around the end.
            if first.begin <= last.begin {
                if self.bytes.len() - from >= len {
                    return from;
                }
                if to >= len {
                    return 0;
                }
            } else if to - from >= len {
                return from;
            }
            self.held.pop_front();
        }
    }

    /// What is given next to one who got the picture of this number last; `None`: nothing yet. See above.
    pub fn after(&self, last: u64, now: Instant) -> Option<Unit<'_>> {
        let is_young =
            |held: &&Held| now.saturating_duration_since(held.meta.captured) <= CHAIN_AGE;
        let first = self.held.front()?.meta.sequence;
        let at = (last + 1).checked_sub(first);
        let next = at.and_then(|at| self.held.get(usize::try_from(at).ok()?));
        let held = match next.filter(is_young) {
            Some(held) => held,
            // One who got a picture of another chain before has none of this.
            None => self
                .held
                .iter()
                .rfind(|held| held.is_key)
                .filter(|held| held.meta.sequence > last || last >= self.next)
                .filter(is_young)?,
        };
        Some(Unit {
            meta: held.meta,
            is_key: held.is_key,
            parameters: &self.parameters,
            sample: &self.bytes[held.begin..held.end],
            distance: self.distance,
        })
    }

    /// Whether one who got the picture of this number last, and for whom there is nothing now, waits for a picture that stands for
    /// itself, and not for the next one.
    pub fn lacks_key(&self, last: u64) -> bool {
        self.is_cut || last + 1 != self.next
    }

    /// What a decoder needs to know before those that are held.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
