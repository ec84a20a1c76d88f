//! What passes between camd and a cell: one job, and one answer, as numbers of 32 bits at fixed places. Each side reads what
//! the other has written as if a stranger had: whatever the numbers are, what comes out is within bounds, or an error.

use std::ops::Range;
use std::time::Duration;

use heapless::{String, Vec};

use crate::limits::{CELL_REASON, DIMENSION_MAX};
use crate::measure::times::Spent;
use crate::picture::font::Glyph;
use crate::picture::frame::{Area, Bounds, Chroma, Orientation, PixelFormat, Size};
use crate::picture::stamp::GLYPHS;

/// Place of the number that a cell sets once it is ready: [`READY`], and bits of [`lacks`].
pub const STATE: usize = 0;
/// Place of the number of the last job, which camd raises.
pub const ASKED: usize = 4;
/// Place of the number of the last job that is done, which the cell raises.
pub const ANSWERED: usize = 8;
/// Where the job is.
pub const JOB_AT: usize = 64;
/// Where the answer is.
pub const ANSWER_AT: usize = 2048;
/// Where what was made is.
pub const MADE_AT: usize = crate::system::shared::PAGE;

/// What [`STATE`] is then, but for its low bits.
pub const READY: u32 = 0xCE11_0000;

/// What a cell could not give up, as bits.
pub mod lacks {
    /// The kernel has no system call filters.
    pub const SECCOMP: u32 = 1;
    /// The kernel has no Landlock.
    pub const LANDLOCK: u32 = 2;
    /// It could not be limited.
    pub const LIMITS: u32 = 4;
    /// It is root, and could not become another user.
    pub const USER: u32 = 8;
    /// All of them.
    pub const ALL: u32 = 15;
}

const JOB_WORDS: usize = 32 + 2 * GLYPHS;
const ANSWER_WORDS: usize = 48;
const _: () = assert!(JOB_AT + 4 * JOB_WORDS <= ANSWER_AT);
const _: () = assert!(ANSWER_AT + 4 * ANSWER_WORDS <= MADE_AT);

/// A job as it is in the memory.
pub type JobBytes = [u8; 4 * JOB_WORDS];
/// An answer as it is in the memory.
pub type AnswerBytes = [u8; 4 * ANSWER_WORDS];

/// A job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Where the picture is.
    pub stored: Stored,
    /// What is to be made of it.
    pub task: Task,
    /// The part of the picture that is shown; `None`: all of it.
    pub crop: Option<Area>,
    /// How it is to be turned.
    pub turning: Orientation,
    /// A picture of the camera, not the card that stands in for one.
    pub live: bool,
    /// Drawn into the picture.
    pub stamp: Option<Vec<Glyph, GLYPHS>>,
}

/// A picture in the memory that only camd writes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// A whole JPEG.
    Jpeg(Range<usize>),
    /// Not compressed.
    Raw {
        /// How its samples lie.
        format: PixelFormat,
        /// In pixels.
        size: Size,
        /// Where its planes are, and the bytes from one line to the next.
        planes: [(Range<usize>, usize); 3],
    },
}

/// How a JPEG is to be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// How fine its colours are.
    pub chroma: Chroma,
    /// The size that it is to fit.
    pub bounds: Bounds,
}

/// What is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A JPEG.
    Encode(Coding),
    /// The same JPEG, turned and cropped without loss; where that cannot be, as [`Task::Encode`].
    Turn(Coding),
    /// Rows of pixels, one behind the other.
    Pixels {
        /// RGB, BGR or grey.
        format: PixelFormat,
        /// The size that they are to fit.
        bounds: Bounds,
    },
}

/// What has become of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What was made.
    pub made: Made,
    /// Of that; 0 where nothing was.
    pub bytes: usize,
    /// What it took.
    pub spent: Spent,
    /// Why nothing was made or, of a JPEG that was to be turned without loss, why that could not be.
    pub failure: Option<Failure>,
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// Nothing.
    Nothing,
    /// A JPEG, encoded.
    Encoded,
    /// A JPEG, without loss; what it is a part of the picture, as that is stored, where it was to be cropped.
    Turned(Option<Area>),
    /// Pixels of a picture of this size.
    Pixels(Size),
}

/// Why something could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// All pictures of this kind are so; else this one is damaged.
    pub of_the_kind: bool,
    /// For a person: printable ASCII.
    pub reason: String<CELL_REASON>,
}

impl Failure {
    /// What is not printable becomes a question mark, and what does not fit is left out.
    pub fn new(of_the_kind: bool, text: &str) -> Self {
        let mut reason = String::new();
        for character in text.chars() {
            let shown = match character {
                ' '..='~' => character,
                _ => '?',
            };
            // Full: the rest is left out.
            let _ = reason.push(shown);
        }
        Failure {
            of_the_kind,
            reason,
        }
    }
}

/// Numbers that are put one behind the other.
struct Put<'a> {
    rest: &'a mut [u8],
}

impl Put<'_> {
    fn number(&mut self, number: u32) {
        let (place, rest) = std::mem::take(&mut self.rest).split_at_mut(4);
        place.copy_from_slice(&number.to_ne_bytes());
        self.rest = rest;
    }

    /// All places are below the size of the memory, which has 31 bits.
    fn place(&mut self, place: usize) {
        self.number(place as u32);
    }

    fn size(&mut self, size: Size) {
        self.number(size.width.into());
        self.number(size.height.into());
    }

    fn area(&mut self, area: Option<Area>) {
        let Area {
            x,
            y,
            width,
            height,
        } = area.unwrap_or(Area {
            x: 0,
            y: 0,
            width: 0,
            height: 0,
        });
        self.number(area.is_some().into());
        for number in [x, y, width, height] {
            self.number(number.into());
        }
    }

    fn bounds(&mut self, bounds: Bounds) {
        self.size(bounds.within);
        self.number(bounds.eighths.into());
    }
}

/// Numbers that are taken one after the other.
struct Take<'a> {
    rest: &'a [u8],
}

/// What is wrong with numbers, for a person.
pub type Wrong = &'static str;

impl Take<'_> {
    fn number(&mut self) -> Result<u32, Wrong> {
        let (number, rest) = self.rest.split_first_chunk().ok_or("it is too short")?;
        self.rest = rest;
        Ok(u32::from_ne_bytes(*number))
    }

    fn flag(&mut self) -> Result<bool, Wrong> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("a flag that is neither 0 nor 1"),
        }
    }

    fn place(&mut self) -> Result<usize, Wrong> {
        usize::try_from(self.number()?).map_err(|_| "a place that cannot be")
    }

    fn range(&mut self, most: usize) -> Result<Range<usize>, Wrong> {
        let (start, len) = (self.place()?, self.place()?);
        match start.checked_add(len) {
            Some(end) if end <= most => Ok(start..end),
            _ => Err("a part that is not within the memory"),
        }
    }

    fn side(&mut self) -> Result<u16, Wrong> {
        let side = u16::try_from(self.number()?).ok();
        side.filter(|side| (1..=DIMENSION_MAX).contains(side))
            .ok_or("a size that cannot be")
    }

    fn size(&mut self) -> Result<Size, Wrong> {
        Ok(Size {
            width: self.side()?,
            height: self.side()?,
        })
    }

    fn area(&mut self) -> Result<Option<Area>, Wrong> {
        let is_some = self.flag()?;
        let [x, y, width, height] = [
            self.number()?,
            self.number()?,
            self.number()?,
            self.number()?,
        ];
        if !is_some {
            return Ok(None);
        }
        let side = |side: u32, least: u16| {
            let side = u16::try_from(side).ok();
            side.filter(|side| (least..=DIMENSION_MAX).contains(side))
                .ok_or("a part that cannot be")
        };
        Ok(Some(Area {
            x: side(x, 0)?,
            y: side(y, 0)?,
            width: side(width, 1)?,
            height: side(height, 1)?,
        }))
    }

    fn bounds(&mut self) -> Result<Bounds, Wrong> {
        let mut side = || match u16::try_from(self.number()?) {
            Ok(side @ 1..) => Ok(side),
            _ => Err("bounds that cannot be"),
        };
        let within = Size {
            width: side()?,
            height: side()?,
        };
        match self.number()? {
            eighths @ 1..=8 => Ok(Bounds {
                within,
                eighths: eighths as u8,
            }),
            _ => Err("a scale that cannot be"),
        }
    }

    fn format(&mut self) -> Result<PixelFormat, Wrong> {
        let index = self.place()?;
        PixelFormat::ALL
            .get(index)
            .copied()
            .ok_or("a format that cannot be")
    }
}

fn index(format: PixelFormat) -> u32 {
    let index = PixelFormat::ALL.iter().position(|it| *it == format);
    index.expect("it is among all of them") as u32
}

impl Job {
    /// As it is put into the memory.
    pub fn to_bytes(&self) -> JobBytes {
        let mut bytes = [0; _];
        let mut to = Put { rest: &mut bytes };
        match &self.stored {
            Stored::Jpeg(range) => {
                for number in [0, 0, 0, 0, range.start, range.len(), 0, 0, 0, 0, 0, 0, 0] {
                    to.place(number);
                }
            }
            Stored::Raw {
                format,
                size,
                planes,
            } => {
                to.number(1);
                to.number(index(*format));
                to.size(*size);
                for (range, stride) in planes {
                    to.place(range.start);
                    to.place(range.len());
                    to.place(*stride);
                }
            }
        }
        let (kind, coding, format) = match self.task {
            Task::Encode(coding) => (0, coding, PixelFormat::Grey),
            Task::Turn(coding) => (1, coding, PixelFormat::Grey),
            Task::Pixels { format, bounds } => {
                let coding = Coding {
                    quality: 1,
                    chroma: Chroma::Yuv420,
                    bounds,
                };
                (2, coding, format)
            }
        };
        to.number(kind);
        to.number(coding.quality.into());
        to.number((coding.chroma == Chroma::Yuv422).into());
        to.bounds(coding.bounds);
        to.number(index(format));
        to.area(self.crop);
        let Orientation {
            transpose,
            mirror_x,
            mirror_y,
        } = self.turning;
        for flag in [transpose, mirror_x, mirror_y, self.live] {
            to.number(flag.into());
        }
        let glyphs = self.stamp.as_deref().unwrap_or_default();
        to.place(self.stamp.as_ref().map_or(0, |glyphs| 1 + glyphs.len()));
        for [a, b, c, d, e, f, g, h] in glyphs {
            to.number(u32::from_ne_bytes([*a, *b, *c, *d]));
            to.number(u32::from_ne_bytes([*e, *f, *g, *h]));
        }
        bytes
    }

    /// As it was found in the memory. `most`: bytes of that where pictures are.
    pub fn read(bytes: &JobBytes, most: usize) -> Result<Job, Wrong> {
        let mut from = Take { rest: bytes };
        let stored = match from.number()? {
            0 => {
                for _ in 0..3 {
                    from.number()?;
                }
                let range = from.range(most)?;
                for _ in 0..7 {
                    from.number()?;
                }
                Stored::Jpeg(range)
            }
            1 => Stored::Raw {
                format: from.format()?,
                size: from.size()?,
                planes: [
                    (from.range(most)?, from.place()?),
                    (from.range(most)?, from.place()?),
                    (from.range(most)?, from.place()?),
                ],
            },
            _ => return Err("a picture that is neither"),
        };
        let kind = from.number()?;
        let quality = match from.number()? {
            quality @ 1..=100 => quality as u8,
            _ => return Err("a quality that cannot be"),
        };
        let chroma = match from.flag()? {
            true => Chroma::Yuv422,
            false => Chroma::Yuv420,
        };
        let bounds = from.bounds()?;
        let format = from.format()?;
        let coding = Coding {
            quality,
            chroma,
            bounds,
        };
        let task = match kind {
            0 => Task::Encode(coding),
            1 => Task::Turn(coding),
            2 => Task::Pixels { format, bounds },
            _ => return Err("a task that is none"),
        };
        let crop = from.area()?;
        let turning = Orientation {
            transpose: from.flag()?,
            mirror_x: from.flag()?,
            mirror_y: from.flag()?,
        };
        let live = from.flag()?;
        let stamp = match from.place()? {
            0 => None,
            count => {
                let mut glyphs = Vec::new();
                for _ in 1..count {
                    let (upper, lower) =
                        (from.number()?.to_ne_bytes(), from.number()?.to_ne_bytes());
                    let mut glyph = Glyph::default();
                    glyph[..4].copy_from_slice(&upper);
                    glyph[4..].copy_from_slice(&lower);
                    glyphs.push(glyph).map_err(|_| "a stamp that is too long")?;
                }
                Some(glyphs)
            }
        };
        Ok(Job {
            stored,
            task,
            crop,
            turning,
            live,
            stamp,
        })
    }
}

impl Answer {
    /// As it is put into the memory.
    pub fn to_bytes(&self) -> AnswerBytes {
        let mut bytes = [0; _];
        let mut to = Put { rest: &mut bytes };
        let nothing = Size {
            width: 0,
            height: 0,
        };
        let (kind, cut, size) = match self.made {
            Made::Nothing => (0, None, nothing),
            Made::Encoded => (1, None, nothing),
            Made::Turned(cut) => (2, cut, nothing),
            Made::Pixels(size) => (3, None, size),
        };
        to.number(kind);
        to.place(self.bytes);
        to.area(cut);
        to.size(size);
        for spent in self.spent {
            // Four seconds at most.
            to.number(u32::try_from(spent.as_nanos()).unwrap_or(u32::MAX));
        }
        match &self.failure {
            None => to.number(0),
            Some(Failure {
                of_the_kind,
                reason,
            }) => {
                to.number(1 + u32::from(*of_the_kind));
                to.place(reason.len());
                let text = &mut to.rest[..reason.len()];
                text.copy_from_slice(reason.as_bytes());
            }
        }
        bytes
    }

    /// As it was found in the memory. `most`: bytes that there are for what is made.
    pub fn read(bytes: &AnswerBytes, most: usize) -> Result<Answer, Wrong> {
        let mut from = Take { rest: bytes };
        let kind = from.number()?;
        let len = from.place()?;
        if len > most {
            return Err("more bytes than there is room for");
        }
        let cut = from.area()?;
        let made = match kind {
            0 => Made::Nothing,
            1 => Made::Encoded,
            2 => Made::Turned(cut),
            3 => Made::Pixels(from.size()?),
            _ => return Err("something that nobody makes"),
        };
        if kind != 3 {
            from.number()?;
            from.number()?;
        }
        let mut spent = Spent::default();
        for spent in &mut spent {
            *spent = Duration::from_nanos(from.number()?.into());
        }
        let failure = match from.number()? {
            0 => None,
            kind @ 1..=2 => {
                let len = from.place()?;
                let text = from
                    .rest
                    .get(..len.min(CELL_REASON))
                    .ok_or("a reason that is too long")?;
                let mut reason = String::new();
                for &byte in text {
                    let shown = if matches!(byte, b' '..=b'~') {
                        char::from(byte)
                    } else {
                        '?'
                    };
                    // No more than there is room for.
                    let _ = reason.push(shown);
                }
                Some(Failure {
                    of_the_kind: kind == 2,
                    reason,
                })
            }
            _ => return Err("a failure of no kind"),
        };
        if made == Made::Nothing && (failure.is_none() || len > 0) {
            return Err("nothing, and no reason");
        }
        Ok(Answer {
            made,
            bytes: len,
            spent,
            failure,
        })
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
