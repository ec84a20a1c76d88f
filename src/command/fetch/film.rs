//! H.264: a fragmented MP4 as `/stream.mp4` sends it, into files in which players can seek. Where it comes as a stream of bytes,
//! it is made one here.
//!
//! While a file is being written it is a fragmented MP4, which plays as far as it goes, whatever becomes of this process. At the end
//! it gets an index of all pictures (`moov`, ISO/IEC 14496-12, 8.2.1), and what was in front of the first picture is
//! declared to be data by the box that was kept free for that: from then on it is a plain MP4.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::FetchError;
use super::pictures::PICTURE_LIMIT;
use crate::picture::chain::Chain;
use crate::picture::frame::FrameMeta;
use crate::picture::h264::{AccessUnit, Parameters};
use crate::protocol::Head;
use crate::protocol::http::mp4::{self, Track};

/// Bytes of the head of a box with a size of 32 bits.
pub(super) const HEAD: usize = 8;

/// Where a film comes from, box by box.
pub(super) trait Boxes {
    /// Appends a whole box to the empty `out`; false: the other side has ended the film in good order.
    fn next_box(&mut self, out: &mut Vec<u8>) -> Result<bool, FetchError>;
}

/// The size of a box by its head, which is that of no more than a picture.
pub(super) fn box_size(head: &[u8; HEAD]) -> Result<usize, FetchError> {
    let size = number(head, 0).unwrap_or_default() as usize;
    match size {
        HEAD..=BOX_LIMIT => Ok(size),
        _ => Err(wrong(&format!("a box of {size} bytes"))),
    }
}

const BOX_LIMIT: usize = PICTURE_LIMIT + HEAD;

fn wrong(what: &str) -> FetchError {
    FetchError::Protocol(format!("no film as /stream.mp4 sends one: {what}"))
}

/// Four bytes at a place.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

/// The content of the box to which a path of names leads.
fn find<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    let Some((name, rest)) = path.split_first() else {
        return Some(bytes);
    };
    let mut at = 0;
    loop {
        let size = number(bytes, at)? as usize;
        let whole = bytes.get(at..at.checked_add(size)?)?;
        if whole.get(4..HEAD)? == *name {
            return find(&whole[HEAD..], rest);
        }
        at += size.max(HEAD);
    }
}

/// What stands in front of a film's pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Init {
    /// `ftyp` and `moov`.
    ftyp: Vec<u8>,
    moov: Vec<u8>,
    timescale: u32,
    /// The entry of `stsd`: what a decoder must know.
    entry: Vec<u8>,
    width: u16,
    height: u16,
}

impl Init {
    fn read(ftyp: &[u8], moov: &[u8]) -> Option<Init> {
        let media = find(moov, &[b"moov", b"trak", b"mdia"])?;
        // Version 0 has four bytes of each time.
        let mdhd = find(media, &[b"mdhd"])?;
        let timescale = number(mdhd, if mdhd.first()? == &0 { 12 } else { 20 })?;
        let stsd = find(media, &[b"minf", b"stbl", b"stsd"])?;
        let entry = stsd.get(HEAD..)?;
        let size = number(entry, 0)? as usize;
        let entry = entry
            .get(..size)
            .filter(|it| it.get(4..8) == Some(b"avc1"))?;
        let side = |at: usize| Some(u16::from_be_bytes([*entry.get(at)?, *entry.get(at + 1)?]));
        Some(Init {
            ftyp: ftyp.to_vec(),
            moov: moov.to_vec(),
            timescale: Some(timescale).filter(|it| *it > 0)?,
            entry: entry.to_vec(),
            width: side(HEAD + 24)?,
            height: side(HEAD + 26)?,
        })
    }

    fn ticks(&self, time: Duration) -> u64 {
        (time.as_secs_f64() * f64::from(self.timescale)) as u64
    }
}

/// One picture.
struct Fragment<'a> {
    /// `moof` and `mdat`.
    moof: &'a [u8],
    mdat: &'a [u8],
    /// In units of the film's.
    time: u64,
    lasts: u32,
    is_key: bool,
}

impl<'a> Fragment<'a> {
    fn read(moof: &'a [u8], mdat: &'a [u8]) -> Option<Fragment<'a>> {
        let traf = find(moof, &[b"moof", b"traf"])?;
        let tfdt = find(traf, &[b"tfdt"])?;
        let time = match tfdt.first()? {
            0 => u64::from(number(tfdt, 4)?),
            _ => u64::from(number(tfdt, 4)?) << 32 | u64::from(number(tfdt, 8)?),
        };
        let trun = find(traf, &[b"trun"])?;
        // One sample with offset, duration, size and flags.
        let one = (number(trun, 0)? & 0xFF_FFFF, number(trun, 4)?) == (0x701, 1);
        let size = number(trun, 16)? as usize;
        (one && size + HEAD == mdat.len()).then_some(())?;
        Some(Fragment {
            moof,
            mdat,
            time,
            lasts: number(trun, 12)?,
            // sample_is_non_sync_sample
            is_key: number(trun, 20)? & 0x1_0000 == 0,
        })
    }
}

/// What is to be fetched of a film, and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilmOptions {
    /// Pictures; `None`: as many as come.
    pub count: Option<u64>,
    /// How long the film is to be; `None`: until it ends.
    pub duration: Option<Duration>,
    /// How long each of several files is to be at least; they begin with key pictures. `None`: all goes into one.
    pub segment: Option<Duration>,
    /// Where it goes was not said.
    pub anywhere: bool,
}

/// Where a film goes.
pub(super) enum Place {
    /// Into one file, or with `segment` into several that are numbered behind its name.
    File(PathBuf),
    /// Into numbered files, camd-000001.mp4 and so on, after those which are there already.
    Dir(PathBuf),
    /// Into what cannot be sought in: a fragmented MP4.
    Stream(PathBuf, File),
}

impl Place {
    /// Opens the next file; with `number` it is one of several.
    fn open(&self, number: Option<u32>) -> Result<PathBuf, FetchError> {
        let (folder, stem, end) = match self {
            Place::Dir(path) => (path.clone(), "camd".to_owned(), "mp4".to_owned()),
            Place::File(path) if number.is_none() => return Ok(path.clone()),
            Place::File(path) => {
                let part = |part: Option<&std::ffi::OsStr>| {
                    part.map_or(String::new(), |it| it.to_string_lossy().into_owned())
                };
                let folder = path.parent().map_or(PathBuf::new(), Path::to_owned);
                let end = part(path.extension());
                let end = if end.is_empty() {
                    "mp4".to_owned()
                } else {
                    end
                };
                (folder, part(path.file_stem()), end)
            }
            Place::Stream(path, _) => return Ok(path.clone()),
        };
        // After those that are there.
        let mut number = number.unwrap_or(1);
        loop {
            let path = folder.join(format!("{stem}-{number:06}.{end}"));
            if !path.exists() {
                return Ok(path);
            }
            number += 1;
        }
    }
}

/// One file, as it is being written.
struct Clip {
    path: PathBuf,
    file: BufWriter<File>,
    init: Init,
    /// Where the next byte goes.
    at: u64,
    samples: Vec<Sample>,
    /// It is to get an index.
    indexed: bool,
}

struct Sample {
    at: u64,
    size: u32,
    time: u64,
    lasts: u32,
    is_key: bool,
}

/// What is kept free in front of `moov`: the head of a box with a size of 64 bits.
const FREE: [u8; 16] = [0, 0, 0, 16, b'f', b'r', b'e', b'e', 0, 0, 0, 0, 0, 0, 0, 0];

impl Clip {
    fn begin(path: &Path, file: File, init: &Init, indexed: bool) -> io::Result<Clip> {
        let mut clip = Clip {
            path: path.to_owned(),
            file: BufWriter::new(file),
            init: init.clone(),
            at: 0,
            samples: Vec::new(),
            indexed,
        };
        clip.put(&init.ftyp)?;
        if indexed {
            clip.put(&FREE)?;
        }
        clip.put(&init.moov)?;
        Ok(clip)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn add(&mut self, fragment: &Fragment<'_>) -> io::Result<()> {
        self.put(fragment.moof)?;
        if self.indexed {
            self.samples.push(Sample {
                at: self.at + HEAD as u64,
                size: (fragment.mdat.len() - HEAD) as u32,
                time: fragment.time,
                lasts: fragment.lasts,
                is_key: fragment.is_key,
            });
        }
        self.put(fragment.mdat)?;
        // As it comes: it may be played meanwhile.
        self.file.flush()
    }

    /// How long each picture is shown.
    fn deltas(&self) -> impl Iterator<Item = u64> {
        let next = self.samples.iter().skip(1).map(|next| Some(next.time));
        self.samples
            .iter()
            .zip(next.chain([None]))
            .map(|(it, next)| next.map_or(u64::from(it.lasts), |next| next.saturating_sub(it.time)))
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.indexed {
            return self.file.flush();
        }
        let moov = self.index();
        self.file.write_all(&moov)?;
        self.file.flush()?;
        let mut file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let begin = self.init.ftyp.len() as u64;
        file.seek(SeekFrom::Start(begin))?;
        let mut head = [0, 0, 0, 1, b'm', b'd', b'a', b't', 0, 0, 0, 0, 0, 0, 0, 0];
        head[HEAD..].copy_from_slice(&(self.at - begin).to_be_bytes());
        file.write_all(&head)
    }

    /// `moov` with a table of all pictures, each a chunk of its own.
    fn index(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let track = Track {
            timescale: self.init.timescale,
            duration: Some(self.deltas().sum()),
            width: self.init.width,
            height: self.init.height,
        };
        track.write(&mut mp4::Boxes(&mut out), |it| self.tables(it), |_| {});
        out
    }

    fn tables(&self, out: &mut mp4::Boxes<'_, Vec<u8>>) {
        let count = self.samples.len() as u32;
        out.full(b"stsd", 0, |it| {
            it.number(1);
            it.put(&self.init.entry);
        });
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for delta in self.deltas() {
            let delta = u32::try_from(delta).unwrap_or(u32::MAX);
            match runs.last_mut() {
                Some((run, same)) if *same == delta => *run += 1,
                _ => runs.push((1, delta)),
            }
        }
        out.full(b"stts", 0, |it| {
            it.number(runs.len() as u32);
            for (run, delta) in &runs {
                it.numbers(&[*run, *delta]);
            }
        });
        let keys = (1..).zip(&self.samples).filter(|(_, sample)| sample.is_key);
        let keys: Vec<u32> = keys.map(|(number, _)| number).collect();
        out.full(b"stss", 0, |it| {
            it.number(keys.len() as u32);
            it.numbers(&keys);
        });
        out.full(b"stsc", 0, |it| it.numbers(&[1, 1, 1, 1]));
        out.full(b"stsz", 0, |it| {
            it.numbers(&[0, count]);
            for sample in &self.samples {
                it.number(sample.size);
            }
        });
        out.full(b"co64", 0, |it| {
            it.number(count);
            for sample in &self.samples {
                it.put(&sample.at.to_be_bytes());
            }
        });
    }
}

/// What became of a picture that came.
pub(super) enum Step {
    /// It has been written, and has so many bytes.
    Picture(usize),
    /// The film is as long as was wanted.
    Enough,
    /// It has ended.
    Ended,
    /// The reader of standard output has gone.
    ReaderGone,
}

/// A film on its way into files.
pub(super) struct Recorder {
    place: Place,
    options: FilmOptions,
    ftyp: Vec<u8>,
    moof: Vec<u8>,
    next: Vec<u8>,
    init: Option<Init>,
    clip: Option<Clip>,
    /// Files so far.
    clips: u32,
    /// Of the film's first picture, and of the file's.
    began: Option<u64>,
    clip_began: u64,
}

impl Recorder {
    pub(super) fn new(place: Place, options: FilmOptions) -> Recorder {
        Recorder {
            place,
            options,
            ftyp: Vec::new(),
            moof: Vec::new(),
            next: Vec::new(),
            init: None,
            clip: None,
            clips: 0,
            began: None,
            clip_began: 0,
        }
    }

    /// Writes the next picture.
    pub(super) fn step(&mut self, from: &mut dyn Boxes) -> Result<Step, FetchError> {
        loop {
            let mut next = std::mem::take(&mut self.next);
            next.clear();
            if !from.next_box(&mut next)? {
                return match self.moof.is_empty() {
                    true => Ok(Step::Ended),
                    false => Err(wrong("it ends within a picture")),
                };
            }
            let kind: [u8; 4] = next[4..HEAD].try_into().expect("a box has a name");
            match &kind {
                b"ftyp" => self.ftyp.clone_from(&next),
                b"moov" => {
                    let init = Init::read(&self.ftyp, &next);
                    let init = init.filter(|_| !self.ftyp.is_empty());
                    let init = init.ok_or_else(|| wrong("its head has no H.264"))?;
                    // Other pictures than before need a file of their own.
                    if self.init.as_ref().is_some_and(|before| *before != init) {
                        return Ok(Step::Ended);
                    }
                    self.init = Some(init);
                }
                b"moof" => self.moof.clone_from(&next),
                b"mdat" => {
                    let moof = std::mem::take(&mut self.moof);
                    let step = self.write(&moof, &next);
                    (self.moof, self.next) = (moof, next);
                    self.moof.clear();
                    return step;
                }
                // What a later version may have.
                _ => {}
            }
            self.next = next;
        }
    }

    fn write(&mut self, moof: &[u8], mdat: &[u8]) -> Result<Step, FetchError> {
        let Some(init) = self.init.clone() else {
            return Err(wrong("it has no head"));
        };
        let fragment =
            Fragment::read(moof, mdat).ok_or_else(|| wrong("a picture without its place"))?;
        let began = *self.began.get_or_insert(fragment.time);
        let is_over = |since: u64, limit: Duration, early: u64| {
            fragment.time.saturating_sub(since) + early >= init.ticks(limit)
        };
        if self
            .options
            .duration
            .is_some_and(|most| is_over(began, most, 0))
        {
            return Ok(Step::Enough);
        }
        // Key pictures that come a little early are no reason to wait for the next one.
        let early = u64::from(fragment.lasts / 2);
        let is_next = fragment.is_key
            && self
                .options
                .segment
                .is_some_and(|least| is_over(self.clip_began, least, early));
        if self.clip.is_none() && !fragment.is_key {
            return Err(wrong("its first picture leans on others"));
        }
        if self.clip.is_none() || is_next {
            self.finish()?;
            self.clip = Some(self.begin(&init)?);
            self.clip_began = fragment.time;
        }
        let clip = self.clip.as_mut().expect("it was just begun");
        match clip.add(&fragment) {
            Ok(()) => Ok(Step::Picture(mdat.len() - HEAD)),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && !clip.indexed => {
                self.clip = None;
                Ok(Step::ReaderGone)
            }
            Err(error) => Err(failed(&clip.path, &error)),
        }
    }

    fn begin(&mut self, init: &Init) -> Result<Clip, FetchError> {
        self.clips += 1;
        let number = self.options.segment.map(|_| self.clips);
        let path = self.place.open(number)?;
        let (file, indexed) = match &self.place {
            Place::Stream(_, file) => (file.try_clone(), false),
            _ => (File::create(&path), true),
        };
        let clip = file.and_then(|file| Clip::begin(&path, file, init, indexed));
        clip.map_err(|error| failed(&path, &error))
    }

    /// The file that is being written gets its index.
    pub(super) fn finish(&mut self) -> Result<(), FetchError> {
        let Some(clip) = self.clip.take() else {
            return Ok(());
        };
        let path = clip.path.clone();
        clip.finish().map_err(|error| failed(&path, &error))
    }
}

fn failed(path: &Path, error: &io::Error) -> FetchError {
    FetchError::File(format!("{}: {error}", path.display()))
}

/// Makes a film of access units, dated by their arrival or as they say.
pub(super) struct Muxer {
    chain: Chain,
    parameters: Parameters,
    film: mp4::Film,
    head: Head,
    last: u64,
    /// Boxes that have not been asked for yet.
    ready: Vec<u8>,
    at: usize,
}

impl Muxer {
    pub(super) fn new() -> Muxer {
        Muxer {
            // Resident as far as pictures need it.
            chain: Chain::new(PICTURE_LIMIT),
            parameters: Parameters::default(),
            film: mp4::Film::default(),
            head: Head::new(),
            last: 0,
            ready: Vec::new(),
            at: 0,
        }
    }

    /// Nothing leans on what came before.
    pub(super) fn cut(&mut self) {
        self.chain.cut();
    }

    /// Takes a picture in. One that leans on what did not come is left out.
    pub(super) fn push(
        &mut self,
        unit: AccessUnit<'_>,
        captured: Instant,
    ) -> Result<(), FetchError> {
        unit.check(&mut self.parameters)
            .map_err(|refusal| FetchError::Protocol(refusal.to_string()))?;
        let size = self.parameters.size();
        let (width, height) = size.map_or((0, 0), |size| (size.width, size.height));
        let meta = FrameMeta::taken(captured, width, height);
        if !unit.has_beginning() || !self.chain.push(meta, unit, &self.parameters) {
            return Ok(());
        }
        let Some(unit) = self.chain.after(self.last, captured) else {
            return Ok(());
        };
        self.last = unit.meta.sequence;
        self.head.clear();
        if self.film.frame(&unit, &mut self.head).is_none() {
            // Other parameters: another film.
            self.film = mp4::Film::default();
            self.head.clear();
            self.film.frame(&unit, &mut self.head);
        }
        self.film.began();
        self.ready.drain(..self.at);
        self.at = 0;
        self.ready.extend_from_slice(&self.head);
        self.ready.extend_from_slice(unit.sample);
        Ok(())
    }

    /// The next box that is ready; false: there is none.
    pub(super) fn next_box(&mut self, out: &mut Vec<u8>) -> bool {
        let left = &self.ready[self.at..];
        let Some(size) = number(left, 0) else {
            return false;
        };
        out.extend_from_slice(&left[..size as usize]);
        self.at += size as usize;
        true
    }
}
