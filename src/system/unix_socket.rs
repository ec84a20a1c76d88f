//! The files of Unix sockets, and descriptors that come over one.

use std::io::{self, ErrorKind, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

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

/// One message, and up to `FDS` descriptors that came with it, closed on exec. How many bytes it has; what is beyond
/// `message` is cut.
pub fn receive<const FDS: usize>(
    socket: &impl AsFd,
    message: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut parts = [IoSliceMut::new(message)];
    let mut room = cmsg_space!([RawFd; FDS]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let socket = socket.as_fd().as_raw_fd();
    let received = recvmsg::<()>(socket, &mut parts, Some(&mut room), flags)?;
    let mut fds = Vec::new();
    for part in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(passed) = part {
            // SAFETY: the kernel has just opened them for us, and nobody else has them.
            fds.extend(
                passed
                    .into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            );
        }
    }
    Ok((received.bytes, fds))
}
