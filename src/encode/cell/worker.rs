//! The inside of a cell: does one job after the other, in memory that it has from the start.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Instant;

use memmap2::MmapOptions;

use super::wire::{
    ANSWER_AT, ANSWERED, ASKED, Answer, Coding, Failure, JOB_AT, Job, JobBytes, MADE_AT, Made,
    Stored, Task,
};
use crate::encode::codec::{Codec, CodecError, PixelRecipe, Recipe, Rows};
use crate::measure::times::Spent;
use crate::picture::frame::{FrameBuf, Picture, Plane, RawPicture, Size};
use crate::picture::jpeg;
use crate::picture::stamp::Stamp;
use crate::system::shared::Shared;

/// What works in a cell.
pub struct Worker {
    codec: Codec,
    pictures: Shared,
    desk: Shared,
    made: FrameBuf,
}

impl Worker {
    /// Maps the memory that camd has made, and takes what making pictures needs. `clock` measures what they take.
    pub fn new(pictures: impl AsFd, desk: impl AsFd, clock: fn() -> Instant) -> io::Result<Self> {
        let pictures = Shared::map(pictures, false)?;
        let desk = desk.as_fd();
        let shared = Shared::map(desk, true)?;
        let room = shared
            .bytes()
            .checked_sub(MADE_AT)
            .ok_or(io::ErrorKind::InvalidData)?;
        // SAFETY: nobody changes its size, which is sealed. camd reads it at the same time at worst, by copying.
        let made = unsafe {
            MmapOptions::new()
                .offset(MADE_AT as u64)
                .len(room)
                .map_mut(&desk)
        }?;
        let mut codec = Codec::new();
        codec.set_clock(clock);
        let mut worker = Worker {
            codec,
            pictures,
            desk: shared,
            made: FrameBuf::of(made),
        };
        worker.warm_up();
        Ok(worker)
    }

    /// Makes one picture of each kind: what the C library and libjpeg's look at when they are first used (the processor,
    /// the environment) they look at now, while that is allowed.
    fn warm_up(&mut self) {
        let size = Size {
            width: 32,
            height: 32,
        };
        let data = [90; 2 * 32 * 32];
        let raw = |format, stride| RawPicture {
            format,
            width: size.width,
            height: size.height,
            planes: [stride, 0, 0].map(|stride| Plane {
                data: &data[..stride * 32],
                stride,
            }),
        };
        use crate::picture::frame::{Bounds, Orientation, PixelFormat};
        let mut jpeg = FrameBuf::new(1 << 16);
        let quarter = Orientation::quarters(1);
        let small = Recipe::at(70)
            .within(Size {
                width: 4,
                height: 4,
            })
            .turned(quarter);
        let pixels = PixelRecipe {
            format: PixelFormat::Rgb24,
            crop: None,
            bounds: Bounds::NONE,
            orientation: Orientation::UPRIGHT,
            stamp: None,
        };
        let (codec, out) = (&mut self.codec, &mut self.made);
        // Whatever they give is not looked at: this is for what is done on the way.
        for (format, stride) in [
            (PixelFormat::Yuyv, 64),
            (PixelFormat::Rgb24, 32),
            (PixelFormat::Grey, 32),
        ] {
            let picture = Picture::Raw(raw(format, stride));
            for recipe in [Recipe::at(70), Recipe::at(95), small] {
                let _ = codec.make(&picture, &recipe, out);
            }
            let _ = codec.pixels(&picture, &pixels, &mut Nowhere);
        }
        let _ = codec.encode(&raw(PixelFormat::Yuyv, 64), 80, &mut jpeg);
        for recipe in [Recipe::at(70), small] {
            let _ = codec.make(&Picture::Jpeg(jpeg.as_slice()), &recipe, out);
        }
        let _ = codec.turn(jpeg.as_slice(), quarter, out);
        let _ = codec.pixels(&Picture::Jpeg(jpeg.as_slice()), &pixels, &mut Nowhere);
        let _ = self.codec.spent();
        self.made.clear();
    }

    /// Says to camd that it is ready, and what it could not give up ([`super::wire::lacks`]).
    pub fn ready(&self, lacks: u32) {
        let state = self.desk.number(super::wire::STATE);
        state.store(super::wire::READY | lacks, Ordering::Release);
    }

    /// The number of the job that is to be done, if there is one.
    pub fn job(&self) -> Option<u32> {
        let asked = self.desk.number(ASKED).load(Ordering::Acquire);
        (asked != self.desk.number(ANSWERED).load(Ordering::Relaxed)).then_some(asked)
    }

    /// Does the job that there is. False: there is none.
    pub fn work(&mut self) -> bool {
        let Some(number) = self.job() else {
            return false;
        };
        let answer = self.answer();
        self.tell(number, &answer);
        true
    }

    /// Does the job, and says nothing yet.
    pub fn answer(&mut self) -> Answer {
        let mut bytes: JobBytes = [0; _];
        self.desk.read(JOB_AT, &mut bytes);
        let failure = |failure| Answer {
            made: Made::Nothing,
            bytes: 0,
            spent: Spent::default(),
            failure: Some(failure),
        };
        match Job::read(&bytes, self.pictures.bytes()) {
            Ok(job) => self.make(&job).unwrap_or_else(failure),
            // camd writes no such job. It is told all the same.
            Err(wrong) => failure(Failure::new(false, wrong)),
        }
    }

    /// Puts an answer in place.
    pub fn tell(&self, number: u32, answer: &Answer) {
        self.desk.write(ANSWER_AT, &answer.to_bytes());
        self.desk.number(ANSWERED).store(number, Ordering::Release);
    }

    fn make(&mut self, job: &Job) -> Result<Answer, Failure> {
        let stamp = match &job.stamp {
            None => None,
            Some(glyphs) => {
                let stamp = Stamp::of_glyphs(glyphs);
                Some(stamp.ok_or_else(|| Failure::new(false, "a stamp that is none"))?)
            }
        };
        let (codec, made) = (&mut self.codec, &mut self.made);
        // SAFETY: camd writes to no part of the pictures that a job is about before the job is done.
        let lend = |range| unsafe { self.pictures.lend(range) }.ok_or(CodecError::Truncated);
        let picture = match &job.stored {
            Stored::Jpeg(range) => Picture::Jpeg(lend(range.clone())?),
            Stored::Raw {
                format,
                size,
                planes,
            } => {
                let mut raw = RawPicture {
                    format: *format,
                    width: size.width,
                    height: size.height,
                    planes: [Plane::default(); 3],
                };
                for (plane, (range, stride)) in raw.planes.iter_mut().zip(planes) {
                    *plane = Plane {
                        data: lend(range.clone())?,
                        stride: *stride,
                    };
                }
                Picture::Raw(raw)
            }
        };
        let recipe = |Coding {
                          quality,
                          chroma,
                          bounds,
                      }| Recipe {
            quality,
            chroma,
            crop: job.crop,
            bounds,
            orientation: job.turning,
            stamp: stamp.as_ref(),
        };
        let mut why = None;
        let done = match (job.task, &picture) {
            (Task::Pixels { format, bounds }, _) => {
                let recipe = PixelRecipe {
                    format,
                    crop: job.crop,
                    bounds,
                    orientation: job.turning,
                    stamp: stamp.as_ref(),
                };
                made.clear();
                let mut rows = Filling {
                    made,
                    at: 0,
                    lacks: false,
                };
                let size = codec.pixels(&picture, &recipe, &mut rows)?;
                let (at, lacks) = (rows.at, rows.lacks);
                if lacks {
                    return Err(CodecError::TooBig {
                        capacity: made.capacity(),
                    }
                    .into());
                }
                made.set_len(at);
                Made::Pixels(size)
            }
            (Task::Encode(coding), _) | (Task::Turn(coding), Picture::Raw(_)) => {
                codec.make(&picture, &recipe(coding), made)?;
                Made::Encoded
            }
            (Task::Turn(coding), Picture::Jpeg(jpeg)) => {
                let turned = match job.crop {
                    None => codec.turn(jpeg, job.turning, made).map(|()| None),
                    Some(area) => codec.cut(jpeg, job.turning, area, made).map(Some),
                };
                match turned {
                    Ok(cut) => Made::Turned(cut),
                    Err(error) => {
                        why = Some(error.into());
                        codec.make(&picture, &recipe(coding), made)?;
                        Made::Encoded
                    }
                }
            }
        };
        if let (Picture::Jpeg(jpeg), true, Made::Encoded | Made::Turned(_)) =
            (&picture, job.live, done)
        {
            jpeg::keep_words(jpeg, job.turning, made);
        }
        Ok(Answer {
            made: done,
            bytes: made.len(),
            spent: codec.spent(),
            failure: why,
        })
    }

    /// Writes over the number of the last job that is done, and over the answer: what a cell can do that lies.
    pub fn lie(&self, number: u32, bytes: &[u8]) {
        self.desk.write(ANSWER_AT, bytes);
        self.desk.number(ANSWERED).store(number, Ordering::Release);
    }
}

impl From<CodecError> for Failure {
    fn from(error: CodecError) -> Self {
        let of_the_kind = matches!(error, CodecError::PartialMcu | CodecError::Unsupported(_));
        let mut text = heapless::String::<160>::new();
        // What does not fit is left out.
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{error}"));
        Failure::new(of_the_kind, &text)
    }
}

/// Rows on their way into the memory.
struct Filling<'a> {
    made: &'a mut FrameBuf,
    at: usize,
    /// There is no room.
    lacks: bool,
}

impl Rows for Filling<'_> {
    fn start(&mut self, _: Size) {}

    fn row(&mut self, row: &[u8]) {
        match self.made.spare().get_mut(self.at..self.at + row.len()) {
            Some(to) => {
                to.copy_from_slice(row);
                self.at += row.len();
            }
            None => self.lacks = true,
        }
    }
}

struct Nowhere;

impl Rows for Nowhere {
    fn start(&mut self, _: Size) {}

    fn row(&mut self, _: &[u8]) {}
}
