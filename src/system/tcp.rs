//! What TCP tells of itself.

use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;

use crate::limits::NOTSENT_LOWAT;

/// Whether the kernel has sent all that it took. If not, there will be an event of room for writing when it has, and not
/// before. By `TCP_NOTSENT_LOWAT` of 1: such a socket is writable when nothing is unsent (tcp(7)), and asking arms the event.
pub fn drained(stream: &impl AsFd) -> io::Result<bool> {
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(1)?;
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut fds, PollTimeout::ZERO)? == 0 {
        return Ok(false);
    }
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    Ok(true)
}
