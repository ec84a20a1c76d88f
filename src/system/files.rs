//! Files that somebody has named, which may be anything: a device that never ends, a pipe that nobody writes to, a disk's
//! worth of text.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::errno::Errno;

use super::broker;

/// What a file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A regular file alone: reading it never waits for somebody.
    Files,
    /// A pipe, too, as shells make them of `<(command)`, read to its end; and /dev/null. Only for what may wait, which is over
    /// when there is a sandbox.
    Pipes,
}

/// All of the file at `path`, which has at most `most` bytes. Nothing is read of what is no file, and no more than `most`
/// bytes of one that is larger. The error says what is wrong, and what would be right.
///
/// In its sandbox camd reads what its configuration names.
pub fn read(path: &Path, most: usize, takes: Takes) -> io::Result<Vec<u8>> {
    // A pipe without a writer, or a terminal, must not hold anybody up.
    read_opened(broker::open(path), path, most, takes)
}

/// All of a file of camd's own ([`Takes::Files`]), which it may open in its sandbox, too.
pub fn read_own(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    read_opened(broker::open_here(path), path, most, Takes::Files)
}

fn read_opened(
    file: io::Result<File>,
    path: &Path,
    most: usize,
    takes: Takes,
) -> io::Result<Vec<u8>> {
    // Opening a socket.
    let no_file = |what: &str| {
        io::Error::other(format!(
            "it is {what}; allowed: a regular file of at most {most} bytes"
        ))
    };
    let mut file = match file {
        Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {
            return Err(no_file("a socket or a device that is not there"));
        }
        file => file?,
    };
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    if !kind.is_file() {
        if takes == Takes::Files {
            let what = if kind.is_fifo() { "a pipe" } else { "a device" };
            return Err(no_file(what));
        }
        if kind.is_fifo() {
            // This time until there is a writer, and to its end.
            file = File::open(path)?;
        } else if path != Path::new("/dev/null") {
            return Err(no_file("a device"));
        }
    }
    let mut bytes = Vec::new();
    // One more tells that there are more.
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!(
            "it has more than the {most} bytes that are allowed"
        )));
    }
    Ok(bytes)
}

/// The same as UTF-8.
pub fn read_text(path: &Path, most: usize, takes: Takes) -> io::Result<String> {
    String::from_utf8(read(path, most, takes)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::{fs, thread};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn what_is_no_file_is_not_read() {
        let folder = std::env::temp_dir().join(format!("camd-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, pipe, socket) = (folder.join("x"), folder.join("pipe"), folder.join("socket"));
        fs::write(&file, "12345").unwrap();
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let _listens = UnixListener::bind(&socket).unwrap();
        let read =
            |path: &Path, takes| super::read(path, 5, takes).map_err(|error| error.to_string());
        let refused = |path: &Path, why: &str| {
            for takes in [Takes::Files, Takes::Pipes] {
                let error = read(path, takes).unwrap_err();
                assert!(error.contains(why), "{}: {error}", path.display());
            }
        };
        assert_eq!(read(&file, Takes::Files).as_deref(), Ok(&b"12345"[..]));
        fs::write(&file, "123456").unwrap();
        refused(&file, "more than the 5 bytes that are allowed");
        for device in ["/dev/zero", "/dev/urandom", "/dev/full"] {
            refused(Path::new(device), "it is a device; allowed: a regular file");
        }
        refused(&socket, "it is a socket");
        refused(&folder, "Is a directory");
        refused(&folder.join("none"), "No such file");
        // Where nobody may be made wait for a writer, which never comes.
        let error = read(&pipe, Takes::Files).unwrap_err();
        assert!(error.starts_with("it is a pipe; allowed:"), "{error}");
        let writer = thread::spawn({
            let pipe = pipe.clone();
            move || fs::write(pipe, "abc").unwrap()
        });
        assert_eq!(read(&pipe, Takes::Pipes).as_deref(), Ok(&b"abc"[..]));
        writer.join().unwrap();
        let null = Path::new("/dev/null");
        assert_eq!(read(null, Takes::Pipes).as_deref(), Ok(&b""[..]));
        assert!(read(null, Takes::Files).is_err());
        fs::write(&file, b"\xff").unwrap();
        let error = read_text(&file, 5, Takes::Files).unwrap_err();
        assert_eq!(error.to_string(), "it is not valid UTF-8");
        fs::remove_dir_all(&folder).unwrap();
    }
}
