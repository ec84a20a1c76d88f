//! Recorded pictures as a camera: a folder of JPEGs, or one file of JPEGs one after the other (MJPEG), in a loop.

use std::cmp::Ordering;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::interface::{Captured, Fault, Negotiated, Source};
use crate::picture::frame::{Frame, FrameBuf, FrameMeta, Orientation, Picture, PixelFormat};
use crate::picture::jpeg::{self, Splitter};
use crate::picture::whole::Examiner;

/// Recorded pictures.
pub struct Replay {
    path: PathBuf,
    fps: u16,
    interval: Duration,
    /// The picture shown.
    picture: FrameBuf,
    /// Where the next one is read to: a damaged one must not spoil the one shown.
    scratch: FrameBuf,
    examiner: Examiner,
    playing: Option<Playing>,
}

struct Playing {
    reel: Reel,
    /// When the next picture is to be shown.
    due: Instant,
    /// The first picture is in place already, and not reported yet.
    first: bool,
    /// Pictures tried since the last good one.
    failures: usize,
    meta: FrameMeta,
}

enum Reel {
    /// Paths, as the kernel takes them: opening one allocates nothing.
    Folder { files: Vec<CString>, next: usize },
    /// Read from its beginning again at its end. It is not indexed: that would mean to read it all before the first
    /// picture.
    Stream {
        file: File,
        splitter: Splitter,
        /// There was a usable picture since the beginning.
        good: bool,
    },
}

/// What is known of a picture.
#[derive(Clone, Copy)]
struct Stored {
    width: u16,
    height: u16,
    exif: Orientation,
}

impl Stored {
    /// What was found in these bytes.
    fn of(found: &jpeg::Inspected, bytes: &[u8]) -> Stored {
        Stored {
            width: found.width,
            height: found.height,
            exif: found.exif(bytes),
        }
    }

    fn taken(self, now: Instant) -> FrameMeta {
        FrameMeta {
            exif: self.exif,
            ..FrameMeta::taken(now, self.width, self.height)
        }
    }
}

/// What trying for the next picture came to.
enum Tried {
    /// It is in place.
    Picture(Stored),
    /// It is skipped.
    Bad,
    /// It is the other field of an interlaced picture.
    Other,
    /// A stream ended without a picture since its beginning, or cannot be read.
    Nothing(String),
}

impl Replay {
    /// # Panics
    /// If `fps` is 0: the configuration does not allow it.
    pub fn new(path: PathBuf, fps: u16, frame_bytes: usize) -> Replay {
        assert!(fps > 0, "a rate of 0 fps");
        Replay {
            path,
            fps,
            interval: Duration::from_secs(1) / u32::from(fps),
            picture: FrameBuf::new(frame_bytes),
            scratch: FrameBuf::new(frame_bytes),
            examiner: Examiner::new(),
            playing: None,
        }
    }

    fn fault(path: &Path, what: impl std::fmt::Display) -> Fault {
        Fault(format!("{} (camera.path): {what}", path.display()))
    }

    fn open(&self) -> Result<Reel, Fault> {
        let failed = |error: io::Error| Self::fault(&self.path, error);
        let kind = fs::metadata(&self.path).map_err(failed)?;
        if kind.is_dir() {
            let mut names = jpegs_in(&self.path).map_err(failed)?;
            if names.is_empty() {
                return Err(Self::fault(
                    &self.path,
                    "no .jpg or .jpeg files in this folder",
                ));
            }
            names.sort_by(|a, b| natural(a.as_bytes(), b.as_bytes()));
            Ok(Reel::Folder {
                files: names,
                next: 0,
            })
        } else if kind.is_file() {
            Ok(Reel::Stream {
                file: File::open(&self.path).map_err(failed)?,
                splitter: Splitter::new(self.picture.capacity()),
                good: false,
            })
        } else {
            // Opening or reading a FIFO could wait for ever.
            Err(Self::fault(&self.path, "neither a folder nor a file"))
        }
    }
}

/// Paths of the JPEG files in a folder, in no order.
fn jpegs_in(folder: &Path) -> io::Result<Vec<CString>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let jpeg = path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("jpg") || e.eq_ignore_ascii_case("jpeg"));
        if jpeg {
            // A file name has no NUL in it.
            files.extend(CString::new(path.as_os_str().as_bytes()));
        }
    }
    Ok(files)
}

/// The order a person expects: digits count as numbers, so that 9.jpg comes before 10.jpg.
fn natural(a: &[u8], b: &[u8]) -> Ordering {
    let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
    let (mut x, mut y) = (a, b);
    while let (Some(&p), Some(&q)) = (x.first(), y.first()) {
        let (n, m) = (digits(x), digits(y));
        if n > 0 && m > 0 {
            let value = |s: &[u8]| s.iter().position(|&c| c != b'0').unwrap_or(s.len());
            let (i, j) = (&x[value(&x[..n])..n], &y[value(&y[..m])..m]);
            match i.len().cmp(&j.len()).then_with(|| i.cmp(j)) {
                Ordering::Equal => (x, y) = (&x[n..], &y[m..]),
                order => return order,
            }
        } else if p != q {
            return p.cmp(&q);
        } else {
            (x, y) = (&x[1..], &y[1..]);
        }
    }
    // "1" and "01" are equal so far; some order must be.
    x.len().cmp(&y.len()).then_with(|| a.cmp(b))
}

impl Reel {
    /// One pass has no more pictures than this.
    fn length(&self) -> usize {
        match self {
            Reel::Folder { files, .. } => files.len(),
            // It knows itself when a pass is over.
            Reel::Stream { .. } => usize::MAX,
        }
    }

    /// Tries for the next picture. Returns what came of it and how many damaged ones it passed over.
    fn advance(
        &mut self,
        picture: &mut FrameBuf,
        scratch: &mut FrameBuf,
        examiner: &mut Examiner,
    ) -> (Tried, u32) {
        match self {
            Reel::Folder { files, next } => {
                let file = &files[*next];
                *next = (*next + 1) % files.len();
                let loaded = load(file, scratch, examiner);
                match loaded.and_then(|found| place(found, picture, scratch)) {
                    Ok(None) => (Tried::Other, 0),
                    Ok(Some(stored)) => (Tried::Picture(stored), 0),
                    Err(why) => {
                        log::debug!("{}: {why}", file.to_string_lossy());
                        (Tried::Bad, 1)
                    }
                }
            }
            Reel::Stream {
                file,
                splitter,
                good,
            } => {
                let before = splitter.counts();
                let tried = advance_stream(file, splitter, good, picture, examiner);
                let after = splitter.counts();
                let bad = after.bad + after.oversized - before.bad - before.oversized;
                let bad = u32::try_from(bad).unwrap_or(u32::MAX);
                let whole = u32::from(matches!(tried, Tried::Bad));
                (tried, bad.saturating_add(whole))
            }
        }
    }
}

/// Reads a file and checks that it is one whole JPEG.
fn load(
    path: &CString,
    scratch: &mut FrameBuf,
    examiner: &mut Examiner,
) -> Result<Option<jpeg::Inspected>, String> {
    let text = |error: io::Error| error.to_string();
    // O_NONBLOCK: it may have become a FIFO.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let fd = open(path.as_c_str(), flags, Mode::empty()).map_err(|errno| text(errno.into()))?;
    let mut file = File::from(fd);
    let capacity = scratch.capacity();
    let mut len = 0;
    loop {
        let spare = &mut scratch.spare()[len..];
        if spare.is_empty() {
            match file.read(&mut [0]).map_err(text)? {
                0 => break,
                _ => return Err(format!("larger than {capacity} bytes (limits.frame_bytes)")),
            }
        }
        match file.read(spare) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(text(error)),
        }
    }
    scratch.set_len(len);
    let found = examiner.examine(scratch.as_slice());
    found.map_err(|defect| defect.to_string())
}

/// Puts the picture in `scratch` where it is shown from.
fn place(
    found: Option<jpeg::Inspected>,
    picture: &mut FrameBuf,
    scratch: &mut FrameBuf,
) -> Result<Option<Stored>, String> {
    let Some(found) = found else {
        return Ok(None);
    };
    let stored = Stored::of(&found, scratch.as_slice());
    scratch.set_len(found.end);
    if found.start > 0 {
        scratch.consume(found.start);
    }
    match found.tables {
        Some(at) => jpeg::insert_tables(scratch.as_slice(), at, picture)
            .map_err(|defect| defect.to_string())?,
        None => std::mem::swap(picture, scratch),
    }
    Ok(Some(stored))
}

fn advance_stream(
    file: &mut File,
    splitter: &mut Splitter,
    good: &mut bool,
    picture: &mut FrameBuf,
    examiner: &mut Examiner,
) -> Tried {
    loop {
        if let Some(jpeg) = splitter.next_frame() {
            let taken = examiner.examine(jpeg).and_then(|found| {
                let Some(found) = found else {
                    return Ok(None);
                };
                match found.tables {
                    Some(at) => jpeg::insert_tables(&jpeg[found.range()], at, picture)?,
                    None => picture.copy_tail(&jpeg[found.range()], 0),
                }
                Ok(Some(Stored::of(&found, jpeg)))
            });
            return match taken {
                Ok(None) => Tried::Other,
                Ok(Some(stored)) => {
                    *good = true;
                    Tried::Picture(stored)
                }
                Err(_) => Tried::Bad,
            };
        }
        match file.read(splitter.spare()) {
            Ok(0) if !*good => return Tried::Nothing("no usable JPEG in this file".into()),
            Ok(0) => {
                *good = false;
                splitter.reset();
                if let Err(error) = file.rewind() {
                    return Tried::Nothing(error.to_string());
                }
            }
            Ok(n) => splitter.filled(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Tried::Nothing(error.to_string()),
        }
    }
}

impl Source for Replay {
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault> {
        self.stop();
        let mut reel = self.open()?;
        let mut failures = 0;
        let stored = loop {
            match reel
                .advance(&mut self.picture, &mut self.scratch, &mut self.examiner)
                .0
            {
                Tried::Picture(stored) => break stored,
                Tried::Nothing(why) => return Err(Self::fault(&self.path, why)),
                Tried::Bad | Tried::Other => {}
            }
            failures += 1;
            if failures >= reel.length() {
                return Err(Self::fault(
                    &self.path,
                    format_args!("none of its {failures} JPEG files is usable"),
                ));
            }
        };
        let what = match &reel {
            Reel::Folder { files, .. } => {
                format!("{} files in {}", files.len(), self.path.display())
            }
            Reel::Stream { .. } => format!("pictures in {}", self.path.display()),
        };
        self.playing = Some(Playing {
            reel,
            due: now,
            first: true,
            failures: 0,
            meta: stored.taken(now),
        });
        Ok(Negotiated {
            format: PixelFormat::Mjpeg,
            width: stored.width,
            height: stored.height,
            fps: Some(f32::from(self.fps)),
            orientation: None,
            cropped: None,
            description: what,
        })
    }

    fn stop(&mut self) {
        self.playing = None;
        self.examiner.reset();
        self.picture.clear();
        self.scratch.clear();
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.playing.as_ref()?.due)
    }

    /// Tries for one picture at most. After a damaged one the deadline stays as it was, so that the next is tried at
    /// once, but not in this call: a folder full of them must not keep the caller.
    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        let Some(playing) = &mut self.playing else {
            return Ok(Captured::default());
        };
        let mut captured = Captured::default();
        if now < playing.due {
            return Ok(captured);
        }
        let meta = &mut playing.meta;
        if std::mem::take(&mut playing.first) {
            *meta = FrameMeta {
                exif: meta.exif,
                ..FrameMeta::taken(now, meta.width, meta.height)
            };
        } else {
            let (tried, bad) =
                playing
                    .reel
                    .advance(&mut self.picture, &mut self.scratch, &mut self.examiner);
            captured.bad = bad;
            match tried {
                Tried::Picture(stored) => *meta = stored.taken(now),
                Tried::Nothing(why) => return Err(Self::fault(&self.path, why)),
                Tried::Other => return Ok(captured),
                Tried::Bad => {
                    playing.failures += 1;
                    if playing.failures >= playing.reel.length() {
                        return Err(Self::fault(
                            &self.path,
                            "none of its JPEG files is usable any more",
                        ));
                    }
                    return Ok(captured);
                }
            }
        }
        playing.failures = 0;
        captured.fresh = true;
        // On the grid of the start: lateness must not add up. Turns that were missed altogether are left out.
        let missed = (now - playing.due).as_nanos() / self.interval.as_nanos();
        playing.due += self.interval * u32::try_from(missed + 1).unwrap_or(u32::MAX);
        Ok(captured)
    }

    fn newest(&self) -> Option<Frame<'_>> {
        let playing = self.playing.as_ref()?;
        let picture = Picture::Jpeg(self.picture.as_slice());
        (!playing.first).then_some(Frame {
            meta: playing.meta,
            picture,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_BYTES: usize = 2048;

    /// 64x48, or 32x48 for an odd `mark`.
    fn jpeg_of(mark: u8) -> Vec<u8> {
        let width = if mark.is_multiple_of(2) { 64 } else { 32 };
        vec![
            0xFF, 0xD8, 0xFF, 0xC4, 0x00, 0x03, 0x00, // SOI, DHT
            0xFF, 0xC0, 0x00, 0x0B, 0x08, 0x00, 0x30, 0x00, width, 0x01, 0x01, 0x11,
            0x00, // SOF0
            0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3F, 0x00, mark, 0xFF,
            0xD9, // SOS, data, EOI
        ]
    }

    /// A folder of its own, gone with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str, files: &[(&str, Vec<u8>)]) -> Folder {
            let path =
                std::env::temp_dir().join(format!("camd-replay-{}-{test}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            for (name, bytes) in files {
                fs::write(path.join(name), bytes).unwrap();
            }
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn shown(replay: &mut Replay) -> Vec<u8> {
        match replay.newest().unwrap().picture {
            Picture::Jpeg(bytes) => bytes.to_vec(),
            Picture::Raw(_) => panic!("raw"),
        }
    }

    /// The marks of the next `n` pictures, asked for when the source wants to be; and the bad ones between them.
    fn play(replay: &mut Replay, n: usize) -> (Vec<u8>, u32) {
        let (mut marks, mut bad) = (Vec::new(), 0);
        while marks.len() < n {
            let due = replay.deadline().unwrap();
            let captured = replay.capture(due).unwrap();
            bad += captured.bad;
            if captured.fresh {
                let jpeg = shown(replay);
                let mark = jpeg[jpeg.len() - 3];
                assert_eq!(
                    replay.newest().unwrap().meta.width,
                    if mark.is_multiple_of(2) { 64 } else { 32 }
                );
                marks.push(mark);
            }
        }
        (marks, bad)
    }

    #[test]
    fn a_folder_is_played_in_a_persons_order_and_again() {
        let files = [
            ("img10.jpg", jpeg_of(10)),
            ("img9.JPEG", jpeg_of(9)),
            ("img08.jpg", jpeg_of(8)),
            ("notes.txt", b"not a picture".to_vec()),
        ];
        let folder = Folder::new("order", &files);
        let mut replay = Replay::new(folder.0.clone(), 10, FRAME_BYTES);
        let negotiated = replay.start(Instant::now()).unwrap();
        assert_eq!(
            (negotiated.width, negotiated.height, negotiated.fps),
            (64, 48, Some(10.0))
        );
        assert!(replay.newest().is_none() && replay.fd().is_none());
        assert_eq!(play(&mut replay, 7), (vec![8, 9, 10, 8, 9, 10, 8], 0));
        replay.stop();
        assert!(replay.newest().is_none() && replay.deadline().is_none());
    }

    #[test]
    fn a_stream_is_played_and_again() {
        let all = [jpeg_of(1), b"garbage".to_vec(), jpeg_of(2), jpeg_of(3)].concat();
        let folder = Folder::new("stream", &[("all.mjpeg", all)]);
        let mut replay = Replay::new(folder.0.join("all.mjpeg"), 10, FRAME_BYTES);
        assert_eq!(replay.start(Instant::now()).unwrap().width, 32);
        assert_eq!(play(&mut replay, 7), (vec![1, 2, 3, 1, 2, 3, 1], 0));
    }

    #[test]
    fn the_rate_is_kept_without_drift_and_missed_turns_are_left_out() {
        let folder = Folder::new("rate", &[("1.jpg", jpeg_of(1)), ("2.jpg", jpeg_of(2))]);
        let mut replay = Replay::new(folder.0.clone(), 10, FRAME_BYTES);
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        replay.start(start).unwrap();
        assert_eq!(replay.deadline(), Some(start));
        assert!(replay.capture(start).unwrap().fresh);
        assert!(!replay.capture(ms(99)).unwrap().fresh);
        // Late, but the next is on the grid.
        assert!(replay.capture(ms(170)).unwrap().fresh);
        assert_eq!(replay.newest().unwrap().meta.captured, ms(170));
        assert_eq!(replay.deadline(), Some(ms(200)));
        assert!(replay.capture(ms(530)).unwrap().fresh);
        assert_eq!(replay.deadline(), Some(ms(600)));
    }

    #[test]
    fn damaged_files_are_counted_and_passed_over_and_do_not_spoil_the_one_shown() {
        let mut truncated = jpeg_of(4);
        truncated.truncate(20);
        let files = [
            ("0.jpg", truncated),
            ("1.jpg", jpeg_of(1)),
            ("2.jpg", Vec::new()),
            ("3.jpg", [jpeg_of(3), vec![0; FRAME_BYTES]].concat()),
            ("4.jpg", jpeg_of(4)),
        ];
        let folder = Folder::new("damaged", &files);
        let mut replay = Replay::new(folder.0.clone(), 10, FRAME_BYTES);
        replay.start(Instant::now()).unwrap();
        assert_eq!(play(&mut replay, 1), (vec![1], 0));
        let due = replay.deadline().unwrap();
        let captured = replay.capture(due).unwrap();
        assert_eq!(
            captured,
            Captured {
                fresh: false,
                dropped: 0,
                bad: 1
            }
        );
        assert_eq!(shown(&mut replay), jpeg_of(1));
        assert_eq!(replay.deadline(), Some(due));
        assert_eq!(play(&mut replay, 3), (vec![4, 1, 4], 1 + 1 + 2));
    }

    #[test]
    fn a_picture_of_exactly_the_limit_fits_and_padding_is_cut() {
        let mut padded = jpeg_of(2);
        padded.resize(FRAME_BYTES, 0);
        let folder = Folder::new("limit", &[("1.jpg", padded)]);
        let mut replay = Replay::new(folder.0.clone(), 10, FRAME_BYTES);
        replay.start(Instant::now()).unwrap();
        play(&mut replay, 1);
        assert_eq!(shown(&mut replay), jpeg_of(2));
    }

    #[test]
    fn huffman_tables_are_put_in() {
        let bare = crate::source::newest::bare_jpeg();
        let folder = Folder::new(
            "tables",
            &[("1.jpg", bare.clone()), ("all.mjpeg", bare.clone())],
        );
        for path in [folder.0.clone(), folder.0.join("all.mjpeg")] {
            let mut replay = Replay::new(path, 10, FRAME_BYTES);
            replay.start(Instant::now()).unwrap();
            play(&mut replay, 2);
            assert_eq!(shown(&mut replay).len(), bare.len() + 420);
        }
    }

    #[test]
    fn nothing_usable_is_a_fault_that_names_the_path() {
        let files = [
            ("a.jpg", b"text".to_vec()),
            ("b.jpg", Vec::new()),
            ("none.mjpeg", vec![7; 9999]),
        ];
        let folder = Folder::new("unusable", &files);
        let none = Folder::new("empty", &[]);
        for (path, why) in [
            (folder.0.clone(), "none of its 2 JPEG files is usable"),
            (folder.0.join("none.mjpeg"), "no usable JPEG"),
            (none.0.clone(), "no .jpg or .jpeg files"),
            (none.0.join("missing"), "No such file"),
            (PathBuf::from("/dev/null"), "neither a folder nor a file"),
        ] {
            let Err(Fault(text)) = Replay::new(path.clone(), 10, FRAME_BYTES).start(Instant::now())
            else {
                panic!("no fault: {why}");
            };
            assert!(
                text.contains(why) && text.contains(path.to_str().unwrap()),
                "{text}"
            );
        }
    }

    #[test]
    fn files_that_vanish_while_playing_end_in_a_fault_not_in_a_busy_loop() {
        let folder = Folder::new("vanish", &[("1.jpg", jpeg_of(1)), ("2.jpg", jpeg_of(2))]);
        let mut replay = Replay::new(folder.0.clone(), 10, FRAME_BYTES);
        replay.start(Instant::now()).unwrap();
        play(&mut replay, 2);
        fs::remove_dir_all(&folder.0).unwrap();
        let due = replay.deadline().unwrap();
        assert_eq!(replay.capture(due).unwrap().bad, 1);
        assert!(replay.capture(due).unwrap_err().0.contains("any more"));
    }

    #[test]
    fn a_stream_that_turns_into_something_else_is_a_fault() {
        let folder = Folder::new("turns", &[("all.mjpeg", jpeg_of(2))]);
        let path = folder.0.join("all.mjpeg");
        let mut replay = Replay::new(path.clone(), 10, FRAME_BYTES);
        replay.start(Instant::now()).unwrap();
        play(&mut replay, 3);
        fs::write(path, b"text").unwrap();
        let due = replay.deadline().unwrap();
        assert!(replay.capture(due).is_err());
    }

    #[test]
    fn a_stream_of_defective_pictures_only_is_a_fault() {
        // Whole to a splitter, but of no size.
        let mut flat = jpeg_of(2);
        flat[13] = 0;
        let folder = Folder::new("flat", &[("all.mjpeg", [flat.clone(), flat].concat())]);
        let mut replay = Replay::new(folder.0.join("all.mjpeg"), 10, FRAME_BYTES);
        assert!(replay.start(Instant::now()).is_err());
    }

    #[test]
    fn numbers_in_names_are_ordered_by_value() {
        let mut names = [
            "b1", "a10", "a9", "a", "a09x", "a9x", "10", "9", "a1b2", "a1b10",
        ];
        names.sort_by(|a, b| natural(a.as_bytes(), b.as_bytes()));
        assert_eq!(
            names,
            [
                "9", "10", "a", "a1b2", "a1b10", "a9", "a09x", "a9x", "a10", "b1"
            ]
        );
    }
}
