//! A reader of a sink of kind "memfd".

use std::io::{ErrorKind, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use camd::system::ring::{Description, View, parse_hello};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use socket2::{Domain, SockAddr, Socket, Type};

use super::PATIENCE;

/// A sink, with further keys, at `socket`.
pub fn sink(socket: &Path, keys: &str) -> String {
    format!("[[sink]]\nkind = \"memfd\"\nsocket = {socket:?}\n{keys}\n")
}

pub fn connect(socket: &Path) -> Socket {
    let connection = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    let address = SockAddr::unix(socket).expect("a path");
    let deadline = Instant::now() + PATIENCE;
    // The sink may not be open yet.
    while let Err(error) = connection.connect(&address) {
        assert!(Instant::now() < deadline, "{}: {error}", socket.display());
        std::thread::sleep(Duration::from_millis(10));
    }
    connection
        .set_read_timeout(Some(PATIENCE))
        .expect("SO_RCVTIMEO");
    connection
}

/// The message that hands over, and its descriptors. Empty: the connection has ended.
pub fn receive(connection: &Socket) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut message = [0; 64];
    let mut room = nix::cmsg_space!([RawFd; 8]);
    let mut parts = [IoSliceMut::new(&mut message)];
    let fd = connection.as_raw_fd();
    let received = recvmsg::<()>(fd, &mut parts, Some(&mut room), MsgFlags::MSG_CMSG_CLOEXEC)
        .expect("a message");
    let mut fds = Vec::new();
    for part in received.cmsgs().expect("room for what comes with it") {
        if let ControlMessageOwned::ScmRights(passed) = part {
            // SAFETY: the kernel has just made them, for us.
            fds.extend(
                passed
                    .into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            );
        }
    }
    let bytes = received.bytes;
    (message[..bytes].to_vec(), fds)
}

/// A reader in this process.
pub struct Reader {
    pub connection: Socket,
    pub view: View,
    pub memory: OwnedFd,
    pub bell: OwnedFd,
    /// The last picture.
    pub picture: Vec<u8>,
}

impl Reader {
    pub fn new(socket: &Path) -> Reader {
        let connection = connect(socket);
        let (hello, fds) = receive(&connection);
        let bytes = parse_hello(&hello).expect("a greeting");
        assert_ne!(bytes, 0, "there is a place");
        let [memory, bell]: [OwnedFd; 2] = fds.try_into().expect("two descriptors");
        let view = View::new(memory.try_clone().expect("dup")).expect("a ring");
        Reader {
            connection,
            view,
            memory,
            bell,
            picture: Vec::new(),
        }
    }

    /// Looks, and then waits.
    pub fn next(&mut self) -> Description {
        self.wait_for(View::next)
    }

    /// As `next`, of pictures that lean on one another.
    pub fn next_of_chain(&mut self) -> Description {
        self.wait_for(View::next_of_chain)
    }

    fn wait_for(
        &mut self,
        look: impl Fn(&mut View, &mut Vec<u8>) -> Option<Description>,
    ) -> Description {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(description) = look(&mut self.view, &mut self.picture) {
                return description;
            }
            assert!(Instant::now() < deadline, "no picture comes");
            self.wait();
        }
    }

    /// Waits for a new picture, and takes the event back.
    fn wait(&self) {
        let mut fds = [PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(1000u16)).expect("poll");
        let mut events = [EpollEvent::empty()];
        let bell = Epoll(self.bell.try_clone().expect("dup"));
        if bell.wait(&mut events, EpollTimeout::ZERO) == Ok(1) {
            let [event] = events;
            assert_eq!(
                (event.events(), event.data()),
                (EpollFlags::EPOLLIN, u64::MAX)
            );
        }
    }

    /// camd has ended the connection.
    pub fn assert_ended(&self) {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        match self.connection.recv(&mut byte) {
            Ok(0) => {}
            // What camd has not read.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("not the end: {other:?}"),
        }
    }
}
