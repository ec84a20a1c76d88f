//! Where the pictures go.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::error::FetchError;
use super::film::Place;
use super::pictures::Kind;

/// The command line's `-o`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// One file, replaced as a whole by each picture. What is not a regular file (`/dev/null`, a FIFO) is written to.
    File(PathBuf),
    /// Numbered files, camd-000001.jpg (PNGs: .png) and so on, after those which are there already.
    Dir(PathBuf),
    /// The pictures one after the other, which with JPEGs is what others call an MJPEG stream.
    Stdout,
}

impl Output {
    /// `-` is standard output; a folder is one that exists, or a path that ends with `/`; all else is a file.
    pub fn from_arg(arg: &OsStr) -> Output {
        let path = PathBuf::from(arg);
        if arg == "-" {
            Output::Stdout
        } else if arg.as_encoded_bytes().ends_with(b"/") || path.is_dir() {
            Output::Dir(path)
        } else {
            Output::File(path)
        }
    }
}

pub(super) enum Saved {
    Written,
    /// Nobody reads standard output any more.
    ReaderGone,
}

pub(super) enum Sink {
    File(PathBuf),
    Dir {
        path: PathBuf,
        last: u64,
        kind: Kind,
    },
    Stream(File),
    /// A file that must not be replaced, only written to.
    Special {
        path: PathBuf,
        file: File,
    },
}

impl Sink {
    pub(super) fn open(output: &Output, kind: Kind) -> Result<Sink, FetchError> {
        match output {
            Output::Stdout => {
                let stdout = io::stdout();
                if stdout.is_terminal() {
                    return Err(FetchError::File(format!(
                        "standard output is a terminal, which cannot show {}s: use a pipe, or -o FILE",
                        kind.name
                    )));
                }
                // Past std's own buffer, which looks for line ends.
                let fd = stdout
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(|error| failed(Path::new("standard output"), &error))?;
                Ok(Sink::Stream(fd.into()))
            }
            Output::Dir(path) => {
                fs::create_dir_all(path).map_err(|error| failed(path, &error))?;
                let last = last_number(path, kind).map_err(|error| failed(path, &error))?;
                Ok(Sink::Dir {
                    path: path.clone(),
                    last,
                    kind,
                })
            }
            Output::File(path) => match fs::metadata(path) {
                // A rename would put a regular file in the place of the device.
                Ok(metadata) if !metadata.is_file() => {
                    let file = File::options()
                        .write(true)
                        .open(path)
                        .map_err(|error| failed(path, &error))?;
                    Ok(Sink::Special {
                        path: path.clone(),
                        file,
                    })
                }
                // A symbolic link stays, its target is replaced.
                Ok(_) => fs::canonicalize(path)
                    .map(Sink::File)
                    .map_err(|error| failed(path, &error)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Sink::File(path.clone())),
                Err(error) => Err(failed(path, &error)),
            },
        }
    }

    /// The same for a film.
    pub(super) fn place(self) -> Place {
        match self {
            Sink::File(path) => Place::File(path),
            Sink::Dir { path, .. } => Place::Dir(path),
            Sink::Stream(file) => Place::Stream("standard output".into(), file),
            Sink::Special { path, file } => Place::Stream(path, file),
        }
    }

    pub(super) fn save(&mut self, picture: &[u8]) -> Result<Saved, FetchError> {
        match self {
            Sink::File(path) => {
                replace(path, picture).map_err(|error| failed(path, &error))?;
                Ok(Saved::Written)
            }
            Sink::Dir { path, last, kind } => {
                *last += 1;
                let file = path.join(format!("camd-{last:06}.{}", kind.extension));
                replace(&file, picture).map_err(|error| failed(&file, &error))?;
                Ok(Saved::Written)
            }
            Sink::Stream(file) => stream(Path::new("standard output"), file, picture),
            Sink::Special { path, file } => stream(path, file, picture),
        }
    }
}

fn stream(path: &Path, file: &mut File, picture: &[u8]) -> Result<Saved, FetchError> {
    match file.write_all(picture) {
        Ok(()) => Ok(Saved::Written),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Saved::ReaderGone),
        Err(error) => Err(failed(path, &error)),
    }
}

/// Puts a whole picture in the place of `path`: a web server that serves the folder never sees half of one.
fn replace(path: &Path, picture: &[u8]) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "the path names no file",
        ));
    };
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.part", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let result = fs::write(&temporary, picture).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // Best effort: the error that is reported is the first one.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// The highest N of the files `camd-N.jpg`, or of another kind, in the folder.
fn last_number(path: &Path, kind: Kind) -> io::Result<u64> {
    let mut last = 0;
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| {
                name.strip_prefix("camd-")?
                    .strip_suffix(kind.extension)?
                    .strip_suffix('.')
            })
            .and_then(|stem| stem.parse::<u32>().ok());
        last = last.max(u64::from(number.unwrap_or(0)));
    }
    Ok(last)
}

fn failed(path: &Path, error: &io::Error) -> FetchError {
    FetchError::File(format!("{}: {error}", path.display()))
}
