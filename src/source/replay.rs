//! Recorded pictures as a camera: a folder of JPEGs, or one file of JPEGs one after the other (MJPEG), in a loop.

use std::cmp::Ordering;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::{Captured, Control, ControlError, Fault, Negotiated, Source};
use crate::frame::{Frame, FrameBuf, FrameMeta, Picture, PixelFormat};
use crate::jpeg::{self, Splitter};

/// Recorded pictures.
pub struct Replay {
    path: PathBuf,
    fps: u16,
    interval: Duration,
    /// The picture shown.
    picture: FrameBuf,
    /// Where the next one is read to: a damaged one must not spoil the one shown.
    scratch: FrameBuf,
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

/// What trying for the next picture came to.
enum Tried {
    /// It is in place.
    Picture { width: u16, height: u16 },
    /// It is skipped.
    Bad,
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

    /// Shows a picture that is now in `picture`.
    fn meta(now: Instant, width: u16, height: u16) -> FrameMeta {
        FrameMeta {
            sequence: 0,
            captured: now,
            wall: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            width,
            height,
            live: true,
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
    fn advance(&mut self, picture: &mut FrameBuf, scratch: &mut FrameBuf) -> (Tried, u32) {
        match self {
            Reel::Folder { files, next } => {
                let file = &files[*next];
                *next = (*next + 1) % files.len();
                match load(file, scratch).and_then(|found| place(found, picture, scratch)) {
                    Ok(found) => (
                        Tried::Picture {
                            width: found.width,
                            height: found.height,
                        },
                        0,
                    ),
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
                let tried = advance_stream(file, splitter, good, picture);
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
fn load(path: &CString, scratch: &mut FrameBuf) -> Result<jpeg::Inspected, String> {
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
    jpeg::inspect(scratch.as_slice()).map_err(|defect| defect.to_string())
}

/// Puts the picture in `scratch` where it is shown from.
fn place(
    found: jpeg::Inspected,
    picture: &mut FrameBuf,
    scratch: &mut FrameBuf,
) -> Result<jpeg::Inspected, String> {
    scratch.set_len(found.end);
    match found.tables {
        Some(at) => jpeg::insert_tables(scratch.as_slice(), at, picture)
            .map_err(|defect| defect.to_string())?,
        None => std::mem::swap(picture, scratch),
    }
    Ok(found)
}

fn advance_stream(
    file: &mut File,
    splitter: &mut Splitter,
    good: &mut bool,
    picture: &mut FrameBuf,
) -> Tried {
    loop {
        if let Some(jpeg) = splitter.next_frame() {
            let taken = jpeg::inspect(jpeg).and_then(|found| {
                match found.tables {
                    Some(at) => jpeg::insert_tables(&jpeg[..found.end], at, picture)?,
                    None => picture.copy_tail(&jpeg[..found.end], 0),
                }
                Ok(found)
            });
            return match taken {
                Ok(found) => {
                    *good = true;
                    Tried::Picture {
                        width: found.width,
                        height: found.height,
                    }
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
        let (width, height) = loop {
            match reel.advance(&mut self.picture, &mut self.scratch).0 {
                Tried::Picture { width, height } => break (width, height),
                Tried::Nothing(why) => return Err(Self::fault(&self.path, why)),
                Tried::Bad => {}
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
            meta: Self::meta(now, width, height),
        });
        Ok(Negotiated {
            format: PixelFormat::Mjpeg,
            width,
            height,
            fps: Some(f32::from(self.fps)),
            description: what,
        })
    }

    fn stop(&mut self) {
        self.playing = None;
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
            *meta = Self::meta(now, meta.width, meta.height);
        } else {
            let (tried, bad) = playing.reel.advance(&mut self.picture, &mut self.scratch);
            captured.bad = bad;
            match tried {
                Tried::Picture { width, height } => *meta = Self::meta(now, width, height),
                Tried::Nothing(why) => return Err(Self::fault(&self.path, why)),
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

    fn newest(&mut self) -> Option<Frame<'_>> {
        let playing = self.playing.as_ref()?;
        let picture = Picture::Jpeg(self.picture.as_slice());
        (!playing.first).then_some(Frame {
            meta: playing.meta,
            picture,
        })
    }

    fn release(&mut self) {}

    fn controls(&self) -> Vec<Control> {
        Vec::new()
    }

    fn set_control(&mut self, _name: &str, _value: i64) -> Result<(), ControlError> {
        Err(ControlError::Unknown)
    }
}
