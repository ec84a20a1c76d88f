//! What standard error is, and what that means for a line of the log.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::{SFlag, fstat, major, minor};

/// The character device of the kernel's log (`/dev/kmsg`): Documentation/admin-guide/devices.txt, char 1.
const KMSG: (u64, u64) = (1, 11);
/// The process's own terminal (`/dev/tty`).
const TTY: (u64, u64) = (5, 0);
/// Pseudo-terminals' far ends (`/dev/pts/*`).
const PTS: std::ops::RangeInclusive<u64> = 136..=143;

/// Where the lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `/dev/kmsg`: each write is one message, with its level in front (`<4>`), of 1024 bytes at most. The kernel adds the time.
    /// A line above the console's level is written to a serial console before the write returns.
    KernelLog,
    /// The journal of systemd, which takes the level from the same prefix (sd-daemon(3)) and adds the time.
    Journal,
    /// A terminal that is no window: a serial line, a screen with nobody at it. It is slow, and shows only what matters.
    Console,
    /// A terminal in a window, or at the end of a remote shell.
    Terminal,
    /// A file, a pipe, a socket.
    Other,
}

/// A place, and whether each write to it is a message of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Where lines go.
    pub place: Place,
    /// Several lines must not go out as one piece.
    pub one_by_one: bool,
}

impl Stream {
    /// Looks at a descriptor. `journal`: the value of `JOURNAL_STREAM`, by which systemd says which file is its journal's
    /// (device and inode, in decimal), because a program may have been given another one since.
    pub fn of(fd: BorrowedFd<'_>, journal: Option<&str>) -> Stream {
        let other = Stream {
            place: Place::Other,
            one_by_one: false,
        };
        // Closed: nothing will be written.
        let Ok(stat) = fstat(fd) else { return other };
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let device = (major(stat.st_rdev), minor(stat.st_rdev));
        if kind == SFlag::S_IFCHR {
            let place = device_place(device, nix::unistd::isatty(fd).unwrap_or(false));
            return Stream {
                place,
                one_by_one: place == Place::KernelLog,
            };
        }
        let is_journal = journal == Some(&format!("{}:{}", stat.st_dev, stat.st_ino));
        Stream {
            place: if is_journal {
                Place::Journal
            } else {
                Place::Other
            },
            one_by_one: kind == SFlag::S_IFSOCK
                && getsockopt(&fd, sockopt::SockType).is_ok_and(|kind| kind != SockType::Stream),
        }
    }
}

/// What a character device is, by its number.
fn device_place(device: (u64, u64), is_terminal: bool) -> Place {
    match device {
        KMSG => Place::KernelLog,
        _ if !is_terminal => Place::Other,
        TTY => Place::Terminal,
        (major, _) if PTS.contains(&major) => Place::Terminal,
        _ => Place::Console,
    }
}

/// Standard error.
pub fn standard_error() -> BorrowedFd<'static> {
    // SAFETY: the standard library takes descriptor 2 for open for as long as the process lives (it opens /dev/null there
    // at start if need be), and nothing of camd's closes it.
    unsafe { BorrowedFd::borrow_raw(std::io::stderr().as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    fn of(fd: impl AsFd) -> Stream {
        Stream::of(fd.as_fd(), None)
    }

    #[test]
    fn each_kind_of_file_is_known() {
        let plain = |place| Stream {
            place,
            one_by_one: false,
        };
        let (_read, write) = std::io::pipe().unwrap();
        assert_eq!(of(write), plain(Place::Other));
        assert_eq!(of(File::open("/dev/null").unwrap()), plain(Place::Other));
        assert_eq!(of(UnixStream::pair().unwrap().0), plain(Place::Other));
        assert!(of(UnixDatagram::pair().unwrap().0).one_by_one);
        let terminal = nix::pty::openpty(None, None).unwrap();
        assert_eq!(of(&terminal.slave), plain(Place::Terminal));
        // Any file can be the journal's.
        let file = tempfile();
        let meta = file.metadata().unwrap();
        let mine = format!("{}:{}", meta.dev(), meta.ino());
        let journal = |text: &str| Stream::of(file.as_fd(), Some(text)).place;
        assert_eq!(journal(&mine), Place::Journal);
        assert_eq!(journal("1:2"), Place::Other, "that is another one");
        assert_eq!(journal(""), Place::Other);
    }

    #[test]
    fn consoles_are_told_from_terminals_by_their_numbers() {
        for (device, place) in [
            ((1, 11), Place::KernelLog),
            // /dev/console, /dev/tty1, /dev/ttyS0, /dev/ttyAMA0, /dev/ttyUSB0.
            ((5, 1), Place::Console),
            ((4, 1), Place::Console),
            ((4, 64), Place::Console),
            ((204, 64), Place::Console),
            ((188, 0), Place::Console),
            // /dev/tty, /dev/pts/0, /dev/pts/700.
            ((5, 0), Place::Terminal),
            ((136, 0), Place::Terminal),
            ((138, 188), Place::Terminal),
        ] {
            assert_eq!(device_place(device, true), place, "{device:?}");
        }
        // /dev/null and its kind.
        assert_eq!(device_place((1, 3), false), Place::Other);
        assert_eq!(device_place((1, 11), false), Place::KernelLog);
    }

    fn tempfile() -> File {
        let fd = nix::sys::memfd::memfd_create(c"log", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
        File::from(fd.unwrap())
    }
}
