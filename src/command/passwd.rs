//! `camd passwd`: from a password to the line that keeps it in the configuration.

use std::fmt;
use std::io::{self, BufRead, IsTerminal, Read, Write};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::config::{PasswordHash, Secret};
use crate::limits::{PASSWORD, PASSWORD_BYTES};

/// Why there is no line.
#[derive(Debug)]
pub enum PasswdError {
    /// What was read is no password; says why, for a person.
    Password(String),
    /// It could not be read, or nothing could be written.
    Io(io::Error),
}

impl From<io::Error> for PasswdError {
    fn from(error: io::Error) -> Self {
        PasswdError::Io(error)
    }
}

impl fmt::Display for PasswdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswdError::Password(why) => f.write_str(why),
            PasswdError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PasswdError {}

/// Reads a password from standard input, twice and without showing it where that is a terminal, and writes its
/// `password_hash` line to `out`.
pub fn run(out: &mut impl Write) -> Result<(), PasswdError> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let first = ask("Password: ")?;
        if ask("Again: ")? != first {
            let why = "the two are not the same; try again";
            return Err(PasswdError::Password(why.to_owned()));
        }
        first
    } else {
        line(&mut stdin.lock())?
    };
    let secret = Secret::new(&password).ok_or_else(|| {
        PasswdError::Password(format!(
            "this is no password; allowed: one line of 1 to {PASSWORD} characters"
        ))
    })?;
    let hash = PasswordHash::of(&secret)?;
    writeln!(out, "password_hash = \"{hash}\"")?;
    Ok(())
}

/// One line, without its end.
fn line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    // One more than a password and the end of its line may have: of what has no end, no more is read.
    let most = PASSWORD_BYTES + 3;
    input.take(most as u64).read_line(&mut line)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// A line that a person types, and that the terminal does not show.
fn ask(prompt: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin)?;
    let _restore = Restore(shown.clone());
    let mut hidden = shown;
    hidden.local_flags.remove(LocalFlags::ECHO);
    hidden.local_flags.insert(LocalFlags::ECHONL);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden)?;
    // Not to standard output, which may be a file by now.
    io::stderr().write_all(prompt.as_bytes())?;
    line(&mut stdin.lock())
}

/// The terminal as it was.
struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        // It is gone, then.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}
