//! Numbers that nobody can guess.

use std::io;

/// Fills `bytes` with what the kernel gives for that (getrandom(2)).
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::getrandom(bytes).map_err(io::Error::other)
}
