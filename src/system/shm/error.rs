//! Why shared memory cannot be used.

use std::fmt;
use std::io;

/// Why shared memory cannot be used: for a person, with the way out.
#[derive(Debug)]
pub enum Error {
    /// There is no segment of this key.
    Absent,
    /// Anything else: what has failed, and why.
    Other(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Absent => f.write_str("no program has created it"),
            Error::Other(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

pub(super) fn failed(what: &str) -> impl Fn(io::Error) -> Error {
    move |error| {
        let way_out = match error.raw_os_error() {
            Some(libc::ENOSPC) => {
                "; the system has no more of them (sysctl kernel.sem, kernel.shmmni; ipcs -u)"
            }
            Some(libc::ENOMEM) => "; not enough memory",
            Some(libc::EACCES) => {
                "; it is another user's: run both programs as the same user, or let its owner give it a wider mode"
            }
            _ => "",
        };
        Error::Other(format!("{what}: {error}{way_out}"))
    }
}
