//! A fragmented MP4 without end (ISO/IEC 14496-12, 14496-15): what Media Source Extensions and players take of a stream.
//!
//! In front of the first picture stand `ftyp` and `moov`, which tell how pictures are decoded. Then each picture is a `moof`,
//! which tells its time, and an `mdat`. It begins with a key picture. Time runs with the capture of pictures, in 90 kHz from
//! 0: where pictures were passed over, players see a gap and not a jump. Pictures that came at once are put half their usual
//! distance apart, until time has caught up: ffmpeg takes a distance that is 60 times the usual one for a fault of the stream
//! (`avformat_find_stream_info`).
//!
//! How long a picture lasts nobody knows before the next one. Media Source Extensions take a distance of more than twice that
//! for a gap, behind which they wait for a key picture (3.5.8, 1.6), and do not mind if it is less. So what is said is the longest
//! distance of late.

use std::ops::DerefMut;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::picture::chain::Unit;
use crate::picture::frame::FrameMeta;
use crate::picture::h264::Parameters;
use crate::protocol::session::{Chunk, Head};

/// Units of time a second.
const TIMESCALE: u32 = 90_000;
/// Where the distance of pictures is not known yet: what it is taken to be, and what the first one is said to last; and what
/// any is said to last at most. In units of time.
const FIRST_MEAN: u64 = 3_000;
const FIRST_LASTS: u64 = 18_000;
const MOST: u64 = TIMESCALE as u64;

/// sample_flags (14496-12, 8.8.3.1): leans on no other; leans on others, and is no point to begin at.
const KEY_FLAGS: u32 = 0x0200_0000;
const OTHER_FLAGS: u32 = 0x0101_0000;

/// One film, as far as it was written.
#[derive(Debug, Default)]
pub struct Film {
    /// Of the picture that was sent last.
    sent: Option<Sent>,
    /// Of the one that is framed.
    framed: Option<Sent>,
}

#[derive(Clone, Debug)]
struct Sent {
    parameters: Arc<Parameters>,
    /// The first picture's.
    began: Instant,
    /// Fragments so far.
    fragments: u32,
    /// In units of time, and when it was captured, which is earlier if it came at once with others.
    at: u64,
    captured: u64,
    /// The mean distance of pictures.
    mean: u64,
    /// What it was said to last.
    lasts: u64,
}

impl Film {
    /// A first picture is on its way or out.
    pub fn has_begun(&self) -> bool {
        self.sent.is_some()
    }

    /// Writes what stands in front of this picture's sample. `None`: it needs another decoder than those before it, and the film
    /// ends here. Its client asks anew.
    pub fn frame(&mut self, unit: &Unit<'_>, head: &mut Head) -> Option<Chunk> {
        let framed = match &self.sent {
            None => {
                // Less is that of pictures that came at once.
                let distance = unit.distance.filter(|it| ticks(*it) >= FIRST_MEAN / 4);
                write_init(unit.parameters, &unit.meta, head);
                Sent {
                    parameters: Arc::clone(unit.parameters),
                    began: unit.meta.captured,
                    fragments: 1,
                    at: 0,
                    captured: 0,
                    mean: distance.map_or(FIRST_MEAN, ticks).min(MOST),
                    lasts: distance
                        .map_or(FIRST_LASTS, |distance| 2 * ticks(distance))
                        .clamp(FIRST_MEAN, MOST),
                }
            }
            Some(sent) => {
                let is_same = Arc::ptr_eq(&sent.parameters, unit.parameters)
                    || sent.parameters == *unit.parameters;
                if !is_same {
                    return None;
                }
                let time = unit.meta.captured.saturating_duration_since(sent.began);
                let captured = ticks(time).max(sent.captured);
                let at = captured.max(sent.at + (sent.mean / 2).max(1));
                Sent {
                    parameters: Arc::clone(&sent.parameters),
                    began: sent.began,
                    fragments: sent.fragments.wrapping_add(1),
                    at,
                    captured,
                    mean: (7 * sent.mean + (captured - sent.captured).min(MOST)) / 8,
                    lasts: (at - sent.at).clamp(sent.lasts - sent.lasts / 16, MOST),
                }
            }
        };
        write_fragment(&framed, unit, head);
        self.framed = Some(framed);
        Some(Chunk {
            payload: unit.sample.len(),
            tail: b"",
        })
    }

    /// The picture that was framed last is on its way.
    pub fn began(&mut self) {
        self.sent = self.framed.take();
    }
}

fn ticks(time: Duration) -> u64 {
    time.as_secs() * u64::from(TIMESCALE)
        + u64::from(time.subsec_micros()) * u64::from(TIMESCALE) / 1_000_000
}

/// Where boxes go.
pub trait Room: DerefMut<Target = [u8]> {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
}

/// Its room is reckoned with the largest ([`crate::limits::HEAD`]).
impl Room for Head {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes)
            .expect("every head fits limits::HEAD");
    }
}

impl Room for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Writes boxes.
pub struct Boxes<'a, R>(pub &'a mut R);

impl<R: Room> Boxes<'_, R> {
    /// Bytes as they are.
    pub fn put(&mut self, bytes: &[u8]) {
        self.0.put(bytes);
    }

    /// 32 bits.
    pub fn number(&mut self, number: u32) {
        self.put(&number.to_be_bytes());
    }

    /// One behind the other.
    pub fn numbers(&mut self, numbers: &[u32]) {
        for number in numbers {
            self.number(*number);
        }
    }

    /// A box: its size, its name, and what `fill` writes.
    fn nest(&mut self, name: &[u8; 4], fill: impl FnOnce(&mut Boxes<'_, R>)) {
        let at = self.0.len();
        self.number(0);
        self.put(name);
        fill(&mut Boxes(self.0));
        let size = (self.0.len() - at) as u32;
        self.0[at..at + 4].copy_from_slice(&size.to_be_bytes());
    }

    /// A box with version and flags.
    pub fn full(
        &mut self,
        name: &[u8; 4],
        version_and_flags: u32,
        fill: impl FnOnce(&mut Boxes<'_, R>),
    ) {
        self.nest(name, |it| {
            it.number(version_and_flags);
            fill(it);
        });
    }

    /// 8.2.2.2: nothing is turned or scaled.
    fn matrix(&mut self) {
        self.numbers(&[0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000]);
    }
}

/// A film's one track, number 1.
#[derive(Clone, Copy, Debug)]
pub struct Track {
    /// Units of time a second.
    pub timescale: u32,
    /// In these; `None`: nobody knows.
    pub duration: Option<u64>,
    /// Of the pictures, in pixels.
    pub width: u16,
    /// Likewise.
    pub height: u16,
}

impl Track {
    /// `moov` (8.2.1). `samples` writes what `stbl` has, and `more` what stands behind the track.
    pub fn write<R: Room>(
        &self,
        out: &mut Boxes<'_, R>,
        samples: impl FnOnce(&mut Boxes<'_, R>),
        more: impl FnOnce(&mut Boxes<'_, R>),
    ) {
        out.nest(b"moov", |it| {
            self.header(it, b"mvhd", 0, &[self.timescale], |it| {
                it.numbers(&[0x1_0000, 0x100_0000, 0, 0]);
                it.matrix();
                it.numbers(&[0, 0, 0, 0, 0, 0, 2]);
            });
            it.nest(b"trak", |it| {
                // Enabled, and in the movie.
                self.header(it, b"tkhd", 3, &[1, 0], |it| {
                    it.numbers(&[0, 0, 0, 0]);
                    it.matrix();
                    it.numbers(&[self.width, self.height].map(|side| u32::from(side) << 16));
                });
                it.nest(b"mdia", |it| {
                    // Language "und".
                    self.header(it, b"mdhd", 0, &[self.timescale], |it| {
                        it.number(0x55C4_0000);
                    });
                    it.full(b"hdlr", 0, |it| {
                        it.number(0);
                        it.put(b"vide");
                        it.numbers(&[0, 0, 0]);
                        it.put(b"camd\0");
                    });
                    it.nest(b"minf", |it| {
                        it.full(b"vmhd", 1, |it| it.numbers(&[0, 0]));
                        it.nest(b"dinf", |it| {
                            it.full(b"dref", 0, |it| {
                                it.number(1);
                                it.full(b"url ", 1, |_| {});
                            });
                        });
                        it.nest(b"stbl", samples);
                    });
                });
            });
            more(it);
        });
    }

    /// One of the three headers that tell times: when it was made, which nobody knows, then `middle`, then the duration. They have 32
    /// bits, or 64 in version 1.
    fn header<R: Room>(
        &self,
        out: &mut Boxes<'_, R>,
        name: &[u8; 4],
        flags: u32,
        middle: &[u32],
        fill: impl FnOnce(&mut Boxes<'_, R>),
    ) {
        let (version, made): (u32, &[u32]) = match self.duration {
            None => (0, &[0, 0]),
            Some(_) => (1, &[0, 0, 0, 0]),
        };
        out.full(name, version << 24 | flags, |it| {
            it.numbers(made);
            it.numbers(middle);
            match self.duration {
                None => it.number(0),
                Some(duration) => it.put(&duration.to_be_bytes()),
            }
            fill(it);
        });
    }
}

/// What a decoder must know, and no picture yet.
fn write_init(parameters: &Parameters, meta: &FrameMeta, head: &mut Head) {
    let mut out = Boxes(head);
    out.nest(b"ftyp", |it| {
        it.put(b"isom");
        it.number(0x200);
        it.put(b"isomiso5avc1mp41");
    });
    let track = Track {
        timescale: TIMESCALE,
        duration: None,
        width: meta.width,
        height: meta.height,
    };
    track.write(
        &mut out,
        |it| write_sample_table(parameters, meta, it),
        |it| {
            it.nest(b"mvex", |it| {
                it.full(b"trex", 0, |it| it.numbers(&[1, 1, 0, 0, 0]));
            });
        },
    );
}

/// 8.5: of no samples, and what they are like.
fn write_sample_table(parameters: &Parameters, meta: &FrameMeta, out: &mut Boxes<'_, Head>) {
    out.full(b"stsd", 0, |it| {
        it.number(1);
        it.nest(b"avc1", |it| {
            it.numbers(&[0, 1, 0, 0, 0, 0]);
            it.put(&meta.width.to_be_bytes());
            it.put(&meta.height.to_be_bytes());
            // 72 dots an inch; one picture a sample; no name; 24 bits.
            it.numbers(&[0x48_0000, 0x48_0000, 0]);
            it.put(&1u16.to_be_bytes());
            it.put(&[0; 32]);
            it.put(&[0, 0x18, 0xFF, 0xFF]);
            it.nest(b"avcC", |it| write_configuration(parameters, it));
        });
    });
    out.full(b"stts", 0, |it| it.number(0));
    out.full(b"stsc", 0, |it| it.number(0));
    out.full(b"stsz", 0, |it| it.numbers(&[0, 0]));
    out.full(b"stco", 0, |it| it.number(0));
}

/// AVCDecoderConfigurationRecord (14496-15, 5.3.3.1): lengths of NAL units take four bytes.
fn write_configuration(parameters: &Parameters, out: &mut Boxes<'_, Head>) {
    out.put(&[1]);
    out.put(&parameters.profile());
    out.put(&[0xFF, 0xE0 | parameters.sps().len() as u8]);
    let put_set = |out: &mut Boxes<'_, Head>, set: &[u8]| {
        out.put(&(set.len() as u16).to_be_bytes());
        out.put(set);
    };
    for set in parameters.sps() {
        put_set(out, set);
    }
    out.put(&[parameters.pps().len() as u8]);
    for set in parameters.pps() {
        put_set(out, set);
    }
    if let Some(fidelity) = parameters.fidelity() {
        let [chroma, luma_depth, chroma_depth] = fidelity;
        out.put(&[0xFC | chroma, 0xF8 | luma_depth, 0xF8 | chroma_depth, 0]);
    }
}

fn write_fragment(at: &Sent, unit: &Unit<'_>, head: &mut Head) {
    let (lasts, len) = (at.lasts as u32, unit.sample.len() as u32);
    let flags = match unit.is_key {
        true => KEY_FLAGS,
        false => OTHER_FLAGS,
    };
    let mut out = Boxes(head);
    let begin = out.0.len();
    out.nest(b"moof", |it| {
        it.full(b"mfhd", 0, |it| it.number(at.fragments));
        it.nest(b"traf", |it| {
            // default-base-is-moof
            it.full(b"tfhd", 0x02_0000, |it| it.number(1));
            it.full(b"tfdt", 0x0100_0000, |it| it.put(&at.at.to_be_bytes()));
            // One sample, with its offset, duration, size and flags.
            it.full(b"trun", 0x0000_0701, |it| {
                it.numbers(&[1, 0, lasts, len, flags]);
            });
        });
    });
    // Behind this box and the next one's beginning.
    let offset = (out.0.len() - begin + 8) as u32;
    let place = out.0.len() - 16;
    out.0[place..place + 4].copy_from_slice(&offset.to_be_bytes());
    out.number(8 + len);
    out.put(b"mdat");
}

#[cfg(test)]
#[path = "mp4_tests.rs"]
mod tests;
