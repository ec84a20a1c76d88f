//! A ring of pictures in shared memory ([`crate::system::ring`]), for programs that want them without copying. How a reader
//! connects and is woken up is described there, too.
//!
//! # Why an epoll instance
//! camd writes 1 to an eventfd(2) with each picture. A reader does not get that eventfd: it could let the counter run full,
//! and camd's next write would wait, whatever camd has set (O_NONBLOCK belongs to the open file, which both would share).
//! So the reader gets an edge-triggered epoll instance of its own with the eventfd in it. What is in an epoll instance
//! cannot be reached through it. Nobody has to reset the counter: at 240 pictures a second it lasts for two thousand million
//! years.
//!
//! Readers of one user share an eventfd, so that camd writes once for all of them, and a reader costs no more than its wake-up
//! in the kernel. Readers of different users do not share one. The kernel limits how many epoll instances may wait for one
//! file, directly and through each other, and one user's readers could use up the limit. (Readers of one user can
//! stop each other anyhow.) When camd frees a reader's place, it takes the eventfd out of the reader's instance.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use nix::libc::{pid_t, uid_t};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, sockopt};
use socket2::{Domain, SockAddr, Socket, Type};

use super::interface::{Fault, Outcome, Sink};
use crate::config::{Config, SinkConfig, SinkFormat};
use crate::encode::codec::Rows;
use crate::encode::renditions::{Profile, Renditions};
use crate::limits::{
    ACCEPTS_PER_TURN, PARAMETER_SET, PICTURE_SETS, SEQUENCE_SETS, SINK_READERS_MAX,
};
use crate::measure::times::Epoch;
use crate::picture::chain::Unit;
use crate::picture::frame::{Bounds, Frame, FrameMeta, Picture, PixelFormat, RawPicture, Size};
use crate::system::ring::{Description, Ring, flags, hello};
use crate::system::unix_socket::remove_stale;
use crate::system::v4l2::formats;

/// What the events of the listening socket carry; those of readers carry their place.
const DOOR: u64 = u64::MAX;
/// What a reader's events carry.
const BELL: u64 = u64::MAX;

/// What parameter sets take at most, with their start codes.
const SETS_BYTES: usize = (SEQUENCE_SETS + PICTURE_SETS) * (4 + PARAMETER_SET);

/// A sink of kind "memfd".
pub struct Memfd {
    config: SinkConfig,
    /// As [`SinkConfig::place`].
    place: String,
    /// What it wants of JPEGs.
    profile: Profile,
    /// Bytes of the largest picture.
    capacity: usize,
    epoch: Epoch,
    open: Option<Open>,
    refused: u64,
    violations: u64,
    /// That a picture was left out was said in the log.
    told: bool,
}

struct Open {
    ring: Ring,
    door: Door,
    /// What the socket and the readers' connections have to tell.
    poll: Epoll,
    readers: [Option<Reader>; SINK_READERS_MAX],
    /// One for each user that has readers.
    bells: heapless::Vec<Rc<Bell>, SINK_READERS_MAX>,
    /// Connections may wait.
    knocking: bool,
}

struct Reader {
    connection: Socket,
    /// The instance that it waits with.
    waiting: Epoll,
    bell: Rc<Bell>,
    pid: pid_t,
}

/// What wakes the readers of a user.
struct Bell {
    user: uid_t,
    event: EventFd,
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may live on, and its instance with it.
        if let Err(errno) = self.waiting.delete(&self.bell.event) {
            debug!("sink: a reader that is not woken up any more: {errno}");
        }
    }
}

/// For people.
impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of user {}", self.pid, self.bell.user)
    }
}

impl Open {
    /// Frees a reader's place.
    fn remove(&mut self, place: usize) {
        self.readers[place] = None;
        // This is one of the two that hold it.
        self.bells.retain(|bell| Rc::strong_count(bell) > 1);
    }

    /// Hands the ring over, and sees to it that the connection's end is told.
    fn admit(&mut self, connection: Socket, place: usize) -> io::Result<&Reader> {
        connection.set_nonblocking(true)?;
        let peer = getsockopt(&connection, sockopt::PeerCredentials)?;
        let known = self.bells.iter().find(|bell| bell.user == peer.uid());
        let bell = match known {
            Some(bell) => bell.clone(),
            None => Rc::new(Bell {
                user: peer.uid(),
                event: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            }),
        };
        let waiting = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        waiting.add(&bell.event, EpollEvent::new(edge, BELL))?;
        let reader = Reader {
            connection,
            waiting,
            bell,
            pid: peer.pid(),
        };
        let memory = self.ring.share()?;
        let fds = [memory.as_raw_fd(), reader.waiting.0.as_raw_fd()];
        say(&reader.connection, self.ring.bytes(), &fds)?;
        let event = EpollEvent::new(edge | EpollFlags::EPOLLRDHUP, place as u64);
        self.poll.add(&reader.connection, event)?;
        if !self.bells.iter().any(|bell| Rc::ptr_eq(bell, &reader.bell)) {
            let pushed = self.bells.push(reader.bell.clone());
            assert!(pushed.is_ok(), "no more users than readers");
        }
        Ok(self.readers[place].insert(reader))
    }
}

/// A listening socket and its file.
struct Door {
    socket: Socket,
    path: PathBuf,
}

impl Door {
    fn open(path: &Path, mode: u32) -> io::Result<Door> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let door = Door {
            socket,
            path: path.to_owned(),
        };
        // Before anybody can connect.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        door.socket.listen(SINK_READERS_MAX as i32)?;
        Ok(door)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Gone already, or not ours to remove any more: the next start deals with both.
        let _ = fs::remove_file(&self.path);
    }
}

impl Memfd {
    /// As this section says. Opens nothing.
    pub fn new(sink: &SinkConfig, config: &Config) -> Self {
        Memfd {
            config: sink.clone(),
            place: sink.place(),
            profile: Profile::of_sink(sink),
            capacity: capacity(sink, config),
            epoch: Epoch::now(),
            open: None,
            refused: 0,
            violations: 0,
            told: false,
        }
    }

    /// Takes in readers that have come. True if more may wait.
    fn accept(&mut self) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        for _ in 0..ACCEPTS_PER_TURN {
            let connection = match open.door.socket.accept() {
                Ok((connection, _)) => connection,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                // The reader was quicker than we were.
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                Err(e) => {
                    // No descriptors or memory: the connection stays in the queue.
                    error!("sink: {}: accept: {e}", self.place);
                    return true;
                }
            };
            let mut places = open.readers[..self.config.readers].iter();
            let Some(free) = places.position(Option::is_none) else {
                // It may be gone, or not read: both are its affair.
                let _ = connection.set_nonblocking(true);
                let _ = say(&connection, 0, &[]);
                self.refused += 1;
                if self.refused.is_power_of_two() {
                    let (limit, refused) = (self.config.readers, self.refused);
                    warn!(
                        "sink: {}: no place for a reader: {limit} at most ({refused} refused so far)",
                        self.place
                    );
                }
                continue;
            };
            if open.readers.iter().all(Option::is_none) {
                // From the time of the reader before.
                open.ring.forget();
            }
            match open.admit(connection, free) {
                Ok(reader) => debug!("sink: {}: {reader} connected", self.place),
                // It was quicker than we were.
                Err(e)
                    if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
                {
                    debug!("sink: {}: a reader has gone at once", self.place);
                }
                Err(error) => {
                    // No descriptors or memory. Whoever comes again and again shall not fill the log.
                    self.refused += 1;
                    if self.refused.is_power_of_two() {
                        let refused = self.refused;
                        error!(
                            "sink: {}: a reader was refused: {error} ({refused} refused so far)",
                            self.place
                        );
                    }
                }
            }
        }
        true
    }

    /// A reader's connection has something to tell: it can only be its end.
    fn listen_to(&mut self, place: usize) {
        let Some(open) = &mut self.open else { return };
        let Some(reader) = open.readers.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        match reader.connection.read(&mut [0; 1]) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Ok(1..) => {
                self.violations += 1;
                if self.violations.is_power_of_two() {
                    warn!(
                        "sink: {}: {reader} closed: readers must not send anything ({} have so far)",
                        self.place, self.violations
                    );
                }
            }
            Ok(0) | Err(_) => debug!("sink: {}: {reader} has gone", self.place),
        }
        open.remove(place);
    }

    fn describe(&self, meta: &FrameMeta, size: Size) -> Description {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Description {
            sequence: meta.sequence,
            wall: nanoseconds(meta.wall),
            monotonic: nanoseconds(self.epoch.monotonic(meta.captured)),
            width: size.width.into(),
            height: size.height.into(),
            flags: if meta.live { flags::LIVE } else { 0 },
            ..Description::default()
        }
    }

    /// Says once why a picture is left out.
    fn skip(&mut self, why: impl FnOnce() -> String) -> Outcome {
        if !std::mem::replace(&mut self.told, true) {
            info!("sink: {}: a picture is left out: {}", self.place, why());
        }
        Outcome::Skipped
    }

    /// Of a picture that has more bytes than a slot.
    fn too_large(&mut self, meta: &FrameMeta, bytes: usize) -> Outcome {
        let capacity = self.capacity;
        self.skip(|| {
            format!(
                "{}x{}, {bytes} bytes, and there is room for {capacity}; set camera.width and camera.height to what the \
                 camera gives",
                meta.width, meta.height
            )
        })
    }

    /// Puts a picture in place that `fill` writes into a slot, which gives its length, or why there is none.
    fn put(
        &mut self,
        mut description: Description,
        fill: impl FnOnce(&mut [u8], &mut Description) -> Result<usize, Outcome>,
    ) -> Outcome {
        let Some(open) = &mut self.open else {
            unreachable!("nothing is written to a sink that is not open");
        };
        let mut slot = open.ring.begin();
        match fill(slot.data(), &mut description) {
            Ok(bytes) => {
                description.size = u32::try_from(bytes).expect("a slot has fewer");
                slot.finish(&description);
            }
            Err(outcome) => return outcome,
        }
        for bell in &open.bells {
            let rung = bell.event.write(1);
            rung.expect("nobody but camd writes to it, and it never becomes full");
        }
        Outcome::Written
    }

    fn write_jpeg(&mut self, meta: &FrameMeta, jpeg: &[u8], size: Size, turns: u32) -> Outcome {
        if jpeg.len() > self.capacity {
            return self.too_large(meta, jpeg.len());
        }
        let mut description = self.describe(meta, size);
        description.fourcc = formats::fourcc(b"JPEG");
        description.flags |= turns;
        self.put(description, |slot, _| {
            slot[..jpeg.len()].copy_from_slice(jpeg);
            Ok(jpeg.len())
        })
    }

    /// Puts a picture of a chain in place.
    pub fn write_unit(&mut self, unit: &Unit<'_>) -> Outcome {
        let sets: usize = unit.sets().map(<[u8]>::len).sum();
        let bytes = sets + unit.sample.len();
        if bytes > self.capacity {
            return self.too_large(&unit.meta, bytes);
        }
        let mut description = self.describe(&unit.meta, unit.meta.stored());
        description.fourcc = formats::H264;
        if unit.is_key {
            description.flags |= flags::KEY;
        }
        self.put(description, |slot, _| {
            let mut at = 0;
            for part in unit.sets() {
                slot[at..][..part.len()].copy_from_slice(part);
                at += part.len();
            }
            unit.write_stream(&mut slot[at..bytes]);
            Ok(bytes)
        })
    }

    /// As the camera gives it.
    fn write_raw(&mut self, frame: &Frame<'_>) -> Outcome {
        let meta = &frame.meta;
        let stored = Size {
            width: meta.width,
            height: meta.height,
        };
        let raw = match &frame.picture {
            Picture::Jpeg(jpeg) => {
                return self.write_jpeg(meta, jpeg, stored, left_to_turn(meta));
            }
            Picture::Raw(raw) => raw,
        };
        let bytes: usize = planes(raw).map(|(_, bytes)| bytes).sum();
        if bytes > self.capacity {
            return self.too_large(meta, bytes);
        }
        let mut description = self.describe(meta, stored);
        description.fourcc = formats::codes(raw.format).next().unwrap_or_default();
        description.flags |= left_to_turn(meta);
        self.put(description, |slot, description| {
            let mut at = 0;
            for (i, (plane, bytes)) in planes(raw).enumerate() {
                slot[at..][..plane.len()].copy_from_slice(plane);
                // Both are below the capacity, which has 32 bits.
                description.planes[i] = (at as u32, raw.planes[i].stride as u32);
                at += bytes;
            }
            Ok(at)
        })
    }

    fn write_pixels(
        &mut self,
        newest: Option<&Frame<'_>>,
        meta: &FrameMeta,
        format: PixelFormat,
        bounds: Bounds,
        renditions: &mut Renditions,
    ) -> Outcome {
        let shown = bounds.fit(turned(meta));
        let mut description = self.describe(meta, shown);
        description.fourcc = formats::codes(format).next().unwrap_or_default();
        let mut needed = 0;
        let mut failed = None;
        let outcome = self.put(description, |slot, description| {
            let mut rows = Filling {
                slot,
                channels: channels(format),
                at: 0,
                needed: 0,
            };
            let made = renditions.pixels(newest, format, bounds, &mut rows);
            needed = rows.needed;
            match made {
                Ok(size) if rows.at == needed => {
                    (description.width, description.height) =
                        (size.width.into(), size.height.into());
                    let line = channels(format) * usize::from(size.width);
                    description.planes[0] = (0, line as u32);
                    Ok(needed)
                }
                Ok(_) => Err(Outcome::Skipped),
                Err(error) => {
                    failed = Some(error);
                    Err(Outcome::Skipped)
                }
            }
        });
        match (outcome, failed) {
            (Outcome::Written, _) => outcome,
            (_, Some(error)) => self.skip(|| error.to_string()),
            (_, None) => self.too_large(meta, needed),
        }
    }
}

impl Sink for Memfd {
    fn open(&mut self) -> Result<(), Fault> {
        let ring = Ring::new(self.config.slots, self.capacity)?;
        let path = &self.config.socket;
        let door = Door::open(path, self.config.mode)
            .map_err(|error| Fault(format!("cannot listen on {}: {error}", path.display())))?;
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io::Error::from)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, DOOR);
        poll.add(&door.socket, event).map_err(io::Error::from)?;
        self.told = false;
        self.open = Some(Open {
            ring,
            door,
            poll,
            readers: [const { None }; SINK_READERS_MAX],
            bells: heapless::Vec::new(),
            knocking: false,
        });
        Ok(())
    }

    fn close(&mut self) {
        self.open = None;
    }

    fn fd(&self) -> Option<RawFd> {
        self.open.as_ref().map(|open| open.poll.0.as_raw_fd())
    }

    fn run(&mut self) -> Result<(), Fault> {
        let mut events = [EpollEvent::empty(); SINK_READERS_MAX + 1];
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        // All that is there: each can tell one.
        let waited = open.poll.wait(&mut events, EpollTimeout::ZERO);
        let count = waited.map_err(io::Error::from)?;
        let mut knocking = std::mem::take(&mut open.knocking);
        for event in &events[..count] {
            match event.data() {
                DOOR => knocking = true,
                place => self.listen_to(place as usize),
            }
        }
        // After those who have gone.
        if knocking {
            let more = self.accept();
            if let Some(open) = &mut self.open {
                open.knocking = more;
            }
        }
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.knocking)
    }

    fn readers(&self) -> usize {
        let open = self.open.iter();
        open.flat_map(|open| &open.readers).flatten().count()
    }

    fn is_watched(&self) -> bool {
        self.readers() > 0
    }

    fn is_for(&self, sink: &SinkConfig, config: &Config) -> bool {
        self.capacity == capacity(sink, config)
    }

    fn write(
        &mut self,
        newest: Option<Frame<'_>>,
        renditions: &mut Renditions,
        now: Instant,
        is_news: impl Fn(&FrameMeta) -> bool,
    ) -> Result<(FrameMeta, Outcome), Fault> {
        let news = *renditions
            .news(newest.as_ref(), &is_news)
            .expect("a sink is asked to write where there is something to write");
        let format = match self.config.format {
            SinkFormat::Jpeg => {
                let made = renditions.get(newest.as_ref(), self.profile, now, is_news);
                let Some((meta, jpeg)) = made else {
                    return Ok((news, Outcome::Waits));
                };
                let size = self.profile.bounds.fit(turned(meta));
                return Ok((*meta, self.write_jpeg(meta, jpeg, size, 0)));
            }
            SinkFormat::Raw => None,
            SinkFormat::Rgb24 => Some(PixelFormat::Rgb24),
            SinkFormat::Bgr24 => Some(PixelFormat::Bgr24),
            SinkFormat::Grey => Some(PixelFormat::Grey),
            SinkFormat::H264 => unreachable!("it is given pictures of the chain"),
        };
        if let Some(format) = format {
            let bounds = Bounds::within(self.config.width, self.config.height);
            let newest = newest.as_ref();
            let Some(meta) = renditions.prepare_pixels(newest, format, bounds, is_news) else {
                return Ok((news, Outcome::Waits));
            };
            let outcome = self.write_pixels(newest, &meta, format, bounds, renditions);
            return Ok((meta, outcome));
        }
        let Some(frame) = newest.filter(|frame| is_news(&frame.meta)) else {
            return Ok((news, Outcome::Waits));
        };
        if frame.meta.crop.is_some() {
            // All of the camera's own JPEG is not to be seen.
            let made = renditions.get(Some(&frame), self.profile, now, is_news);
            let Some((meta, jpeg)) = made else {
                let waits = renditions.is_coming(&frame.meta);
                let outcome = if waits {
                    Outcome::Waits
                } else {
                    Outcome::Skipped
                };
                return Ok((news, outcome));
            };
            return Ok((*meta, self.write_jpeg(meta, jpeg, meta.shown(), 0)));
        }
        let outcome = self.write_raw(&frame);
        Ok((frame.meta, outcome))
    }
}

fn say(connection: &Socket, bytes: usize, fds: &[RawFd]) -> io::Result<()> {
    let hello = hello(bytes);
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    let fd = connection.as_fd().as_raw_fd();
    sendmsg::<()>(fd, &[IoSlice::new(&hello)], rights, flags, None)?;
    Ok(())
}

/// Room for the pictures that a camera may give in place of those that it is asked for, and for turned ones: as high as
/// wide. Pages that were never written cost no memory.
fn capacity(sink: &SinkConfig, config: &Config) -> usize {
    let side = config.camera.width.max(config.camera.height);
    let within = |bound: Option<u16>| usize::from(bound.unwrap_or(side).min(side));
    let pixels = |format| channels(format) * within(sink.width) * within(sink.height);
    match sink.format {
        SinkFormat::Jpeg => config.limits.frame_bytes,
        SinkFormat::H264 => config.limits.frame_bytes + SETS_BYTES,
        // Up to three bytes a pixel, and lines as long as drivers like them.
        SinkFormat::Raw => {
            let side = usize::from(side).next_multiple_of(128);
            (3 * side * side).max(config.limits.frame_bytes)
        }
        SinkFormat::Rgb24 => pixels(PixelFormat::Rgb24),
        SinkFormat::Bgr24 => pixels(PixelFormat::Bgr24),
        SinkFormat::Grey => pixels(PixelFormat::Grey),
    }
}

/// Bytes a pixel.
fn channels(format: PixelFormat) -> usize {
    match format {
        PixelFormat::Grey => 1,
        _ => 3,
    }
}

/// The size of a picture as viewers see it, who look themselves into the Exif of one that is whole.
fn turned(meta: &FrameMeta) -> Size {
    match meta.crop {
        Some(_) => meta.shown(),
        None => meta.orientation.turn(meta.stored()),
    }
}

/// What a reader has still to do with a picture that is as the camera gave it.
fn left_to_turn(meta: &FrameMeta) -> u32 {
    let turns = [
        (meta.orientation.transpose, flags::TRANSPOSE),
        (meta.orientation.mirror_x, flags::MIRROR_X),
        (meta.orientation.mirror_y, flags::MIRROR_Y),
    ];
    let left = turns.into_iter().filter(|(left, _)| *left);
    left.fold(0, |flags, (_, flag)| flags | flag)
}

/// The planes that a raw picture has, and the bytes that each takes: whole lines, the last one too, though it may lack
/// what is behind its pixels.
fn planes<'a>(raw: &RawPicture<'a>) -> impl Iterator<Item = (&'a [u8], usize)> {
    let sizes = raw.format.planes(raw.width, raw.height);
    let used = raw.planes.into_iter().zip(sizes);
    used.filter(|(_, (bytes, _))| *bytes > 0)
        .map(|(plane, (_, lines))| {
            let bytes = plane.stride * lines;
            (&plane.data[..bytes.min(plane.data.len())], bytes)
        })
}

/// Takes pixels into a slot, if they fit.
struct Filling<'a> {
    slot: &'a mut [u8],
    channels: usize,
    at: usize,
    /// Bytes of the whole picture.
    needed: usize,
}

impl Rows for Filling<'_> {
    fn start(&mut self, size: Size) {
        self.needed = self.channels * usize::from(size.width) * usize::from(size.height);
    }

    fn row(&mut self, row: &[u8]) {
        if self.needed <= self.slot.len() {
            self.slot[self.at..][..row.len()].copy_from_slice(row);
            self.at += row.len();
        }
    }
}
