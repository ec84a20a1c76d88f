//! memfd: pictures from the shared memory of a sink ([`crate::sink::Memfd`]) on this machine. Pixels are encoded to JPEG, and H.264
//! becomes a film.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollEvent, EpollTimeout};
use socket2::{Domain, SockAddr, Socket, Type};

use super::error::FetchError;
use super::film::{Boxes, Muxer};
use super::pictures::{PICTURE_LIMIT, Pictures};
use super::wire;
use crate::encode::codec::{Codec, Recipe};
use crate::picture::exif;
use crate::picture::frame::{FrameBuf, Orientation, Picture, Plane, RawPicture};
use crate::picture::h264;
use crate::protocol::ProtocolKind;
use crate::system::ring::{Description, HELLO, View, flags, parse_hello};
use crate::system::unix_socket;
use crate::system::v4l2::formats;

pub(super) struct Receiver {
    connection: Socket,
    view: View,
    bell: Epoll,
    timeout: Duration,
    /// A picture as it is in the memory.
    taken: Vec<u8>,
    encoder: Option<Box<Encoder>>,
    film: Option<Box<Film>>,
}

struct Encoder {
    codec: Codec,
    jpeg: FrameBuf,
}

impl Receiver {
    pub(super) fn connect(path: &Path, timeout: Duration) -> Result<Receiver, FetchError> {
        let failed = |error: io::Error| match error.kind() {
            // Linux reports a socket timeout as EAGAIN.
            ErrorKind::WouldBlock => wire::too_late(timeout),
            _ => FetchError::Connection(format!("{}: {error}", path.display())),
        };
        let connection = Socket::new(Domain::UNIX, Type::SEQPACKET, None).map_err(failed)?;
        connection.set_read_timeout(Some(timeout)).map_err(failed)?;
        // This is the one for connecting, too.
        connection
            .set_write_timeout(Some(timeout))
            .map_err(failed)?;
        let address = SockAddr::unix(path).map_err(failed)?;
        connection.connect(&address).map_err(failed)?;
        // A longer one is cut, and then no greeting.
        let mut hello = [0; HELLO + 1];
        let (bytes, fds) = unix_socket::receive::<2>(&connection, &mut hello).map_err(failed)?;
        let hello = &hello[..bytes];
        let wrong = |why: &str| FetchError::Protocol(format!("{}: {why}", path.display()));
        match parse_hello(hello) {
            None => return Err(wrong("not a ring of pictures, or one of another version")),
            Some(0) => {
                let what = format!("{}: all places are taken", path.display());
                return Err(FetchError::Connection(what));
            }
            Some(_) => {}
        }
        let Ok([memory, bell]) = <[OwnedFd; 2]>::try_from(fds) else {
            return Err(wrong("not the two descriptors that belong to a ring"));
        };
        Ok(Receiver {
            connection,
            view: View::new(memory).map_err(|why| wrong(&why))?,
            bell: Epoll(bell),
            timeout,
            taken: Vec::new(),
            encoder: None,
            film: None,
        })
    }

    /// Waits for a new picture. False: camd has ended the connection.
    fn wait(&self, deadline: Instant) -> Result<bool, FetchError> {
        let left = wire::remaining(deadline, self.timeout)?;
        let [mut bell, mut connection] = [self.bell.0.as_fd(), self.connection.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let mut fds = [bell, connection];
        // Rounded up, so as not to wait in vain at the end. A longer wait comes back here.
        let left = left + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => return Ok(true),
            waited => waited.map_err(io::Error::from).map_err(broken)?,
        };
        [bell, connection] = fds;
        if bell.any().unwrap_or(true) {
            let event = &mut [EpollEvent::empty()];
            let taken = self.bell.wait(event, EpollTimeout::ZERO);
            taken.map_err(io::Error::from).map_err(broken)?;
        }
        // camd says nothing after its greeting.
        Ok(!connection.any().unwrap_or(true))
    }

    /// Makes a JPEG of what was taken.
    fn encode(
        &mut self,
        description: &Description,
        picture: &mut Vec<u8>,
    ) -> Result<(), FetchError> {
        let wrong = |why: &dyn std::fmt::Display| {
            FetchError::Protocol(format!("picture {}: {why}", description.sequence))
        };
        let is = |flag| description.flags & flag != 0;
        let orientation = Orientation {
            transpose: is(flags::TRANSPOSE),
            mirror_x: is(flags::MIRROR_X),
            mirror_y: is(flags::MIRROR_Y),
        };
        let mut recipe = Recipe::at(ProtocolKind::Push.default_quality()).turned(orientation);
        let stored = if description.fourcc == formats::fourcc(b"JPEG") {
            if orientation == Orientation::UPRIGHT {
                picture.extend_from_slice(&self.taken);
                return Ok(());
            }
            // The new one does not say how to turn it.
            recipe = recipe.turned(exif::of_jpeg(&self.taken).then(orientation));
            Picture::Jpeg(&self.taken)
        } else {
            let raw = raw(description, &self.taken).ok_or_else(|| {
                let code = formats::code_name(description.fourcc);
                wrong(&format!("not known here: {code}"))
            })?;
            Picture::Raw(raw)
        };
        let Encoder { codec, jpeg } = &mut **self.encoder.get_or_insert_with(|| {
            Box::new(Encoder {
                codec: Codec::new(),
                jpeg: FrameBuf::new(PICTURE_LIMIT),
            })
        });
        codec
            .make(&stored, &recipe, jpeg)
            .map_err(|error| wrong(&error))?;
        picture.extend_from_slice(jpeg.as_slice());
        Ok(())
    }
}

impl Receiver {
    /// Whether the ring has H.264; waits for a picture.
    pub(super) fn is_film(&mut self) -> Result<bool, FetchError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some(newest) = self.view.newest() {
                let is_film = newest.fourcc == formats::H264;
                if is_film {
                    self.film = Some(Box::new(Film::new()));
                }
                return Ok(is_film);
            }
            if !self.wait(deadline)? {
                return Ok(false);
            }
        }
    }
}

/// H.264 as the ring has it.
struct Film {
    splitter: h264::Splitter,
    muxer: Muxer,
    last: u64,
    /// When the first picture came, and its date.
    first: Option<(Instant, u64)>,
}

impl Film {
    fn new() -> Film {
        Film {
            splitter: h264::Splitter::new(PICTURE_LIMIT),
            muxer: Muxer::new(),
            last: 0,
            first: None,
        }
    }

    fn take(&mut self, description: &Description, bytes: &[u8]) -> Result<(), FetchError> {
        if std::mem::replace(&mut self.last, description.sequence) + 1 != description.sequence {
            self.muxer.cut();
        }
        let (came, date) = *(self.first).get_or_insert((Instant::now(), description.monotonic));
        let captured = came + Duration::from_nanos(description.monotonic.saturating_sub(date));
        self.splitter.reset();
        let room = self.splitter.spare();
        let Some(room) = room.get_mut(..bytes.len()) else {
            return Err(FetchError::Protocol(format!(
                "a picture of more than {PICTURE_LIMIT} bytes"
            )));
        };
        room.copy_from_slice(bytes);
        self.splitter.filled(bytes.len());
        // All of it is one.
        while self.splitter.next_unit().is_some() {}
        match self.splitter.finish() {
            Some(unit) => self.muxer.push(unit, captured),
            None => Ok(()),
        }
    }
}

impl Boxes for Receiver {
    fn next_box(&mut self, out: &mut Vec<u8>) -> Result<bool, FetchError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let film = self.film.as_mut().expect("it was seen to be a film");
            if film.muxer.next_box(out) {
                return Ok(true);
            }
            if let Some(description) = self.view.next_of_chain(&mut self.taken) {
                film.take(&description, &self.taken)?;
            } else if !self.wait(deadline)? {
                return Ok(false);
            }
        }
    }
}

impl Pictures for Receiver {
    fn next(&mut self, picture: &mut Vec<u8>) -> Result<bool, FetchError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some(description) = self.view.next(&mut self.taken) {
                self.encode(&description, picture)?;
                return Ok(true);
            }
            if !self.wait(deadline)? {
                return Ok(false);
            }
        }
    }
}

fn broken(error: io::Error) -> FetchError {
    FetchError::Connection(format!("the connection broke: {error}"))
}

/// A raw picture as its slot describes it. `None`: in no format that camd has, or not where its planes are said to be.
fn raw<'a>(description: &Description, bytes: &'a [u8]) -> Option<RawPicture<'a>> {
    let format = formats::known(description.fourcc)?;
    let mut planes = [Plane::default(); 3];
    for (plane, (place, line)) in planes.iter_mut().zip(description.planes) {
        *plane = Plane {
            data: bytes.get(place as usize..)?,
            stride: line as usize,
        };
    }
    Some(RawPicture {
        format,
        width: description.width.try_into().ok()?,
        height: description.height.try_into().ok()?,
        planes,
    })
}
