//! The files of Unix sockets.

use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A camd that was killed leaves its socket file, and bind does not take that place again. One on which somebody
/// listens is somebody's.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        _ => return Ok(()),
    }
    // To one of another type, on which somebody listens, this is a wrong protocol (EPROTOTYPE).
    match UnixStream::connect(path) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}
