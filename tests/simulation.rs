//! The hub against a simulated world: clients of every protocol, good and bad, over sockets that take a byte or a
//! megabyte, with a camera that fails at random. One thread, its own clock, everything drawn from one seed; each seed
//! also draws how often things go wrong.
//!
//! What must hold, whatever happens:
//! - every picture that a client gets equals, byte for byte, one that the camera made or, on an adaptive listener, what
//!   the codec makes of it for a rung (or the "no picture" card, in the same way);
//! - a client's pictures get newer, never older;
//! - a client with room in its socket gets each new picture in the turn in which it came, whoever else stalls;
//! - nobody who watches loses its place, whoever comes; an address has its share of a listener's places and no more; all
//!   strangers together have `clients` of them, so that this machine's own and a user who logs in find theirs;
//! - slots come back: when all clients are gone or late, none is taken;
//! - once the faults stop, every client that still listens gets a live picture within a few turns;
//! - of what two users of the relay said and heard, all is explained by some order in which the relay took it in, and by
//!   `switchboard`'s table: nothing is lost, doubled, made up or out of order between two who stay;
//! - every record arrives as it was sent, and a picture only at who is in a call with its sender, or in none;
//! - a cell that ends, hangs or lies costs the picture that it had, and nothing but that: in the end there are as many as at first;
//! - every call ends, at the latest when its users have left, and a ring when its time is up.
//!
//! A run takes [`SAMPLE`] fresh seeds, or the first [`FULL`] ones with `CAMD_FULL=1` (`tests/full`). A seed that fails is
//! named, and `CAMD_SEED=n cargo test --test simulation` repeats it.

#[path = "simulation/callers.rs"]
mod callers;
#[path = "simulation/cells.rs"]
mod cells;
#[path = "simulation/chains.rs"]
mod chains;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use callers::{CAMERA, Caller, Log, PASSWORD};
use camd::client::hub::Hub;
use camd::client::link::Stream;
use camd::client::slot::{Kept, Peer, Slot};
use camd::client::switchboard::Party;
use camd::client::table::ClientId;
use camd::config::{Config, ListenerConfig, Secret, SourceKind};
use camd::encode::codec::{Codec, Recipe};
use camd::encode::renditions::Profile;
use camd::limits::{CELLS_MAX, NO_PICTURE_QUALITY, RINGING};
use camd::picture::frame::{
    Frame, FrameBuf, FrameMeta, Orientation, Picture, PixelFormat, Plane, RawPicture,
};
use camd::picture::jpeg::{self, Splitter};
use camd::protocol::call::{self, Longest, Record};
use camd::protocol::{Protocol, ProtocolKind};
use camd::source::camera::{Camera, Condition};
use camd::source::{Captured, Fault, Negotiated, Source, no_picture};
use cells::Yard;
use fastrand::Rng;

const SAMPLE: u64 = 200;
const FULL: u64 = 1000;
const FAULTY_STEPS: u32 = 250;
const CALM_STEPS: u32 = 250;
const FRAME_BYTES: usize = 64 * 1024;
/// Between two steps of the world.
const STEP: Duration = Duration::from_millis(40);
/// Larger than any frame with its framing: a socket with this much room takes one whole.
const ROOM: usize = 2 * FRAME_BYTES;

// ---------------------------------------------------------------- the wire

/// One connection's two directions.
#[derive(Default)]
struct Wire {
    to_server: VecDeque<u8>,
    client_closed: bool,
    /// Closed both ways: what the server still writes is answered with a reset.
    client_gone: bool,
    to_client: VecDeque<u8>,
    /// What the server's socket buffer holds at most.
    room: usize,
    server_closed: bool,
    server_shutdown: bool,
    reset: bool,
    /// A write was cut short: the server is told when there is room.
    wants_room: bool,
    /// The server asked whether its socket is empty: it is told when it is.
    wants_empty: bool,
    readable_event: bool,
    writable_event: bool,
    /// One in so many calls is cut short although it need not be; 0 for never.
    short: u8,
}

impl Wire {
    /// The client has taken some: the server is told what it waits for. As Linux does, it is told of room when a good part of the
    /// buffer is free again.
    fn was_read(&mut self) {
        if self.wants_empty && self.to_client.is_empty() {
            self.wants_empty = false;
            self.writable_event = true;
        }
        if self.wants_room && (self.room - self.to_client.len()) * 3 >= self.room {
            self.wants_room = false;
            self.writable_event = true;
        }
    }
}

struct ServerEnd {
    wire: Rc<RefCell<Wire>>,
    rng: Rng,
}

impl ServerEnd {
    fn cut(&mut self, n: usize) -> usize {
        let short = self.wire.borrow().short;
        if short > 0 && n > 1 && self.rng.u8(0..short) == 0 {
            self.rng.usize(1..n)
        } else {
            n
        }
    }
}

impl Read for ServerEnd {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.cut(buf.len());
        let mut wire = self.wire.borrow_mut();
        if wire.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if wire.to_server.is_empty() && !wire.client_closed {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.to_server.read(&mut buf[..n])
    }
}

impl Write for ServerEnd {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        unreachable!("slots write vectored")
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let wanted: usize = bufs.iter().map(|b| b.len()).sum();
        let cut = self.cut(wanted);
        let mut wire = self.wire.borrow_mut();
        assert!(!wire.server_shutdown, "written after shutdown");
        if wire.reset || wire.client_gone {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let n = cut.min(wire.room - wire.to_client.len());
        wire.wants_room |= n < wanted;
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut left = n;
        for buf in bufs {
            let part = left.min(buf.len());
            wire.to_client.extend(&buf[..part]);
            left -= part;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for ServerEnd {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.wire.borrow_mut().server_shutdown = true;
        Ok(())
    }

    fn drained(&mut self) -> io::Result<bool> {
        let mut wire = self.wire.borrow_mut();
        wire.wants_empty = !wire.to_client.is_empty();
        Ok(!wire.wants_empty)
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        self.wire.borrow_mut().server_closed = true;
    }
}

// ---------------------------------------------------------------- the camera

/// More than a camera can make in one world.
const PICTURES: u64 = (FAULTY_STEPS + CALM_STEPS + 500) as u64;
const NO_CAMERA: &str = "there is no camera";
const BROKEN: &str = "it broke";

/// The camera's picture number `n`: 12 squares, bright or dark as the bits of the number, so that no two look alike,
/// whatever the rung; and its number and bytes that follow from it in a comment.
fn make_picture(n: u64, codec: &mut Codec, out: &mut FrameBuf) -> Vec<u8> {
    let pixel = |i: u64| {
        let bit = i % 64 / 16 + i / 64 / 16 * 4;
        if n >> bit & 1 == 1 { 220 } else { 30 }
    };
    let data: Vec<u8> = (0..64 * 48).map(pixel).collect();
    let mut planes = [Plane::default(); 3];
    planes[0] = Plane {
        data: &data,
        stride: 64,
    };
    let raw = RawPicture {
        format: PixelFormat::Grey,
        width: 64,
        height: 48,
        planes,
    };
    codec.encode(&raw, 80, out).expect("a small picture");
    let jpeg = out.as_slice();
    let mut rng = Rng::with_seed(n);
    let len = if n.is_multiple_of(97) {
        FRAME_BYTES
    } else {
        rng.usize(jpeg.len() + 20..6000)
    };
    let mut comment = vec![0; len - jpeg.len() - 4];
    rng.fill(&mut comment);
    comment[..3].copy_from_slice(b"SIM");
    comment[3..11].copy_from_slice(&n.to_le_bytes());
    let segment = (comment.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xfe], &segment, &comment, &jpeg[2..]].concat()
}

/// All that can come to a client, made once for all worlds.
struct Expected {
    pictures: Vec<Vec<u8>>,
    /// What becomes of a picture or of the card on a rung; with the picture's number.
    on_rungs: HashMap<Vec<u8>, Option<u64>>,
}

static EXPECTED: LazyLock<Expected> = LazyLock::new(|| {
    let mut codec = Codec::new();
    let mut out = FrameBuf::new(FRAME_BYTES);
    let pictures: Vec<_> = (0..PICTURES)
        .map(|n| make_picture(n, &mut codec, &mut out))
        .collect();
    let numbered = (0..)
        .zip(&pictures)
        .map(|(n, jpeg)| (Some(n), jpeg.clone()));
    let reasons = [NO_CAMERA, BROKEN].map(str::to_owned).into_iter();
    let cards: Vec<_> = reasons
        .chain(cells::reasons())
        .map(|reason| {
            let quality = NO_PICTURE_QUALITY;
            no_picture::render(64, 48, "camera", &reason, quality, &mut codec, &mut out)
                .expect("a card");
            (None, out.as_slice().to_vec())
        })
        .collect();
    let mut on_rungs = HashMap::new();
    for (number, jpeg) in numbered.chain(cards) {
        for listener in config().listeners {
            let profile = Profile::of(&listener);
            // In calls the camera's own JPEG is encoded again, too.
            let first = u8::from(profile.quality.is_none());
            for rung in first..=profile.ladder().lowest() {
                let profile = profile.rung(rung);
                let recipe = Recipe {
                    bounds: profile.bounds,
                    chroma: profile.chroma(),
                    ..Recipe::at(profile.raw_quality)
                };
                codec
                    .make(&Picture::Jpeg(&jpeg), &recipe, &mut out)
                    .expect("a JPEG of ours");
                // What a picture says of itself goes with it. The card says nothing.
                if number.is_some() {
                    jpeg::keep_words(&jpeg, Orientation::UPRIGHT, &mut out);
                }
                let other = on_rungs.insert(out.as_slice().to_vec(), number);
                assert!(other.is_none_or(|other| other == number), "two look alike");
            }
        }
        // The card is not encoded again where it is not made smaller.
        if number.is_none() {
            on_rungs.insert(jpeg, None);
        }
    }
    Expected { pictures, on_rungs }
});

fn picture(n: u64) -> &'static [u8] {
    &EXPECTED.pictures[n as usize]
}

fn picture_number(jpeg: &[u8]) -> Option<u64> {
    let number = jpeg.get(6..)?.strip_prefix(b"SIM")?.first_chunk()?;
    Some(u64::from_le_bytes(*number))
}

/// What the world decides about the camera.
#[derive(Default)]
struct Dice {
    starts_fail: bool,
    next: Option<Result<(), Fault>>,
    made: u64,
    /// The picture goes back to the driver when everybody has been offered it, as with v4l2loopback.
    gives_back: bool,
}

struct SimCamera {
    dice: Rc<RefCell<Dice>>,
    newest: Option<(FrameMeta, &'static [u8])>,
    running: bool,
}

/// What simulated cameras give.
fn negotiated() -> Negotiated {
    Negotiated {
        format: PixelFormat::Mjpeg,
        width: 64,
        height: 48,
        fps: None,
        orientation: None,
        cropped: None,
        description: "simulated".into(),
    }
}

impl Source for SimCamera {
    fn start(&mut self, _: Instant) -> Result<Negotiated, Fault> {
        assert!(!self.running, "started twice");
        if self.dice.borrow().starts_fail {
            return Err(Fault(NO_CAMERA.into()));
        }
        self.running = true;
        Ok(negotiated())
    }

    fn stop(&mut self) {
        self.running = false;
        self.newest = None;
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        assert!(self.running, "captured while off");
        let mut dice = self.dice.borrow_mut();
        match dice.next.take() {
            None => Ok(Captured::default()),
            Some(Err(fault)) => Err(fault),
            Some(Ok(())) => {
                dice.made += 1;
                let wall = Duration::from_millis(dice.made);
                let meta = FrameMeta {
                    sequence: 0,
                    captured: now,
                    wall,
                    width: 64,
                    height: 48,
                    orientation: Orientation::UPRIGHT,
                    exif: Orientation::UPRIGHT,
                    crop: None,
                    live: true,
                };
                self.newest = Some((meta, picture(dice.made)));
                Ok(Captured {
                    fresh: true,
                    dropped: 0,
                    bad: 0,
                })
            }
        }
    }

    fn holds(&self) -> bool {
        !self.dice.borrow().gives_back
    }

    fn release(&mut self) {
        if !self.holds() {
            self.newest = None;
        }
    }

    fn newest(&self) -> Option<Frame<'_>> {
        self.newest.as_ref().map(|(meta, jpeg)| Frame {
            meta: *meta,
            picture: Picture::Jpeg(jpeg),
        })
    }
}

// ---------------------------------------------------------------- clients

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Pull,
    Push,
    Raw,
    Stream,
    Snapshots,
    Caller,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// Takes everything at once, and its socket has room.
    Fast,
    /// Takes a few bytes now and then.
    Slow,
    /// Stops taking anything at some time.
    Stalls,
    /// Sends bytes that mean nothing.
    Garbage,
    /// Sends without end.
    Floods,
    /// Shuts its sending half at some time.
    HalfCloses,
    /// Resets at some time.
    Resets,
    /// Connects and says nothing.
    Silent,
}

struct Client {
    kind: Kind,
    manner: Manner,
    wire: Rc<RefCell<Wire>>,
    id: Option<ClientId>,
    rng: Rng,
    received: Vec<u8>,
    /// raw: what comes.
    splitter: Splitter,
    /// pull: the announced size while the picture comes, and the parts acknowledged of it.
    announced: Option<usize>,
    acked: usize,
    http_head_seen: bool,
    /// Cannot be held to account any more: it broke the rules, or was closed.
    over: bool,
    last: u64,
    pictures: u64,
    cards: u64,
    /// Of the pictures, those on a rung.
    adapted: u64,
    caller: Option<Caller>,
    /// What it sent costs it its connection.
    doomed: bool,
    /// It was in the middle of the table and ready when the last picture was made.
    first_after: Option<u64>,
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        let mut wire = self.wire.borrow_mut();
        if !bytes.is_empty() && !wire.server_closed && !wire.client_closed {
            wire.to_server.extend(bytes);
            wire.readable_event = true;
        }
    }

    fn hello(&mut self) {
        match (self.manner, self.kind) {
            (Manner::Silent, _) => {}
            // It begins like others.
            (Manner::Garbage, Kind::Caller) if self.rng.bool() => self.log_in(),
            (Manner::Garbage, Kind::Caller) if self.rng.bool() => self.misbehave(),
            (Manner::Garbage, _) => {
                let junk: Vec<u8> = (0..self.rng.usize(1..300))
                    .map(|_| self.rng.u8(..))
                    .collect();
                self.send(&junk);
                self.over = true;
            }
            (_, Kind::Pull) => self.send(b"new_request"),
            (_, Kind::Push | Kind::Raw) => self.send(b"hello from a python client"),
            (_, Kind::Stream) => self.send(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (_, Kind::Snapshots) => self.send(b"GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (_, Kind::Caller) => self.log_in(),
        }
    }

    fn caller(&mut self) -> &mut Caller {
        self.caller.as_mut().expect("its kind says so")
    }

    fn log_in(&mut self) {
        let login = self.caller().log_in();
        self.send(&login);
    }

    fn misbehave(&mut self) {
        let bytes = self.caller().misbehave();
        self.send(&bytes);
        (self.over, self.doomed) = (true, true);
    }

    fn say(&mut self, to: usize, kind: call::Kind) {
        let record = self.caller().say(to, kind, 0);
        self.send(&record);
    }

    /// It was let in, takes everything that comes, and is still there.
    fn stays(&self) -> bool {
        !self.over
            && self.manner != Manner::Stalls
            && self.caller.as_ref().is_some_and(Caller::is_in)
    }

    /// Takes bytes from the wire as its manner is, and acts on them.
    fn step(&mut self, calm: bool) {
        self.take_in(calm);
        match self.manner {
            _ if self.kind == Kind::Caller && self.over => {}
            Manner::Garbage if self.kind == Kind::Caller && !calm && self.rng.u8(0..60) == 0 => {
                self.misbehave();
            }
            Manner::Floods if self.kind != Kind::Caller => {
                let junk = vec![b'\n'; self.rng.usize(1..20_000)];
                self.send(&junk);
            }
            Manner::Resets if !calm && self.rng.u8(0..30) == 0 => {
                self.wire.borrow_mut().reset = true;
                self.wire.borrow_mut().readable_event = true;
                self.over = true;
            }
            Manner::HalfCloses if !calm && self.rng.u8(0..30) == 0 => self.half_close(),
            Manner::Silent => {}
            _ if self.kind == Kind::Caller => {
                let backlog = self.wire.borrow().to_server.len();
                let words = self.caller().talk(backlog);
                self.send(&words);
            }
            _ => {}
        }
    }

    fn take_in(&mut self, calm: bool) {
        let heard = self.caller.as_ref().map_or(0, Caller::heard);
        let stalls = match self.manner {
            Manner::Stalls => self.pictures > 2 || heard > 10,
            Manner::Slow => !calm && self.rng.u8(0..4) != 0,
            _ => false,
        };
        let mut wire = self.wire.borrow_mut();
        if !stalls {
            let n = if self.manner == Manner::Slow && !calm {
                self.rng.usize(1..3000)
            } else {
                usize::MAX
            };
            let n = n.min(wire.to_client.len());
            self.received.extend(wire.to_client.drain(..n));
        }
        wire.was_read();
        let closed = wire.server_closed || wire.server_shutdown;
        let waits = wire.wants_room || wire.writable_event || !wire.to_client.is_empty();
        let whole = !waits && !closed;
        drop(wire);
        while self.parse(whole) {}
        if closed {
            self.over = true;
            self.hang_up();
        }
    }

    fn half_close(&mut self) {
        let mut wire = self.wire.borrow_mut();
        wire.client_closed = true;
        wire.readable_event = true;
        // Who cannot go on without sending is done; the others can be served on.
        self.over |= matches!(self.kind, Kind::Pull | Kind::Snapshots | Kind::Caller);
    }

    fn hang_up(&mut self) {
        let mut wire = self.wire.borrow_mut();
        (wire.client_closed, wire.client_gone) = (true, true);
        wire.readable_event = true;
        self.over = true;
    }

    /// Takes the next thing from what was received; true if there was one.
    fn parse(&mut self, whole: bool) -> bool {
        if self.over || self.received.is_empty() {
            return false;
        }
        match self.kind {
            Kind::Push => {
                let Some(header) = self.received.first_chunk::<8>() else {
                    return false;
                };
                let (a, b) = header.split_at(4);
                assert_eq!(a, b, "both lengths of a push header are the same");
                let len = u32::from_le_bytes(*a.first_chunk().expect("4 of 8")) as usize;
                self.take(8, len)
            }
            Kind::Raw => self.split(),
            Kind::Pull => self.parse_pull(whole),
            Kind::Stream | Kind::Snapshots => self.parse_http(),
            Kind::Caller => self.parse_record(),
        }
    }

    /// Bare JPEGs: their markers tell where each of them ends.
    fn split(&mut self) -> bool {
        let spare = self.splitter.spare();
        let some = spare.len().min(self.received.len());
        let part: Vec<u8> = self.received.drain(..some).collect();
        spare[..some].copy_from_slice(&part);
        self.splitter.filled(some);
        while let Some(jpeg) = self.splitter.next_frame() {
            let jpeg = jpeg.to_vec();
            self.check(&jpeg);
        }
        let counts = self.splitter.counts();
        assert_eq!(
            (counts.bad, counts.oversized, counts.garbage),
            (0, 0, 0),
            "whole pictures and nothing else"
        );
        true
    }

    fn parse_record(&mut self) -> bool {
        let longest = Longest {
            picture: FRAME_BYTES,
            control: FRAME_BYTES,
        };
        let record = Record::parse(&self.received, longest).expect("good records only");
        let Some(record) = record else {
            return false;
        };
        let caller = self.caller.as_mut().expect("its kind says so");
        let picture = caller.hear(&record);
        let (used, again) = (record.bytes.len(), std::mem::take(&mut caller.at_once));
        self.over |= caller.leaves;
        self.received.drain(..used);
        self.send(&again);
        if let Some(jpeg) = picture {
            assert_eq!(
                picture_number(&jpeg),
                None,
                "calls have a quality of their own"
            );
            self.check(&jpeg);
        }
        true
    }

    fn parse_pull(&mut self, whole: bool) -> bool {
        let Some(size) = self.announced else {
            // Nothing ends the number but the server's silence.
            if !whole {
                return false;
            }
            let digits = self
                .received
                .strip_prefix(b"newImage:")
                .expect("an announcement");
            let digits = std::str::from_utf8(digits).expect("digits");
            self.announced = Some(digits.parse().expect("a size and nothing behind it"));
            self.received.clear();
            self.send(b"ack");
            return false;
        };
        assert!(self.received.len() <= size, "more bytes than announced");
        if self.received.len() == size {
            (self.announced, self.acked) = (None, 0);
            let jpeg = std::mem::take(&mut self.received);
            self.check(&jpeg);
            // The last part's ack is optional; tokens come glued and with white space.
            let again: &[u8] = match self.rng.u8(0..3) {
                0 => b"new_request",
                1 => b"acknew_request",
                _ => b"ack\r\n\0 new_request\n",
            };
            self.send(again);
        } else if self.received.len() == (self.acked + 1) * 1380 {
            self.acked += 1;
            self.send(b"ack");
        }
        false
    }

    fn parse_http(&mut self) -> bool {
        if self.kind == Kind::Stream && !self.http_head_seen {
            let Some(end) = memchr::memmem::find(&self.received, b"--camdframe\r\n") else {
                self.over |= self.received.starts_with(b"HTTP/1.1 503");
                return false;
            };
            assert!(self.received.starts_with(b"HTTP/1.1 200 OK\r\n"));
            self.received.drain(..end + 13);
            self.http_head_seen = true;
            return true;
        }
        let Some(end) = memchr::memmem::find(&self.received, b"\r\n\r\n") else {
            return false;
        };
        let head = String::from_utf8(self.received[..end].to_vec()).expect("a head is ASCII");
        let len: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .unwrap_or_else(|| panic!("a length in {head}"))
            .parse()
            .expect("a number");
        if self.kind == Kind::Stream {
            assert!(head.starts_with("Content-Type: image/jpeg\r\n"), "{head}");
            if self.received.len() < end + 4 + len + 15 {
                return false;
            }
            assert_eq!(
                &self.received[end + 4 + len..][..15],
                b"\r\n--camdframe\r\n",
                "the boundary is with its frame"
            );
            let taken = self.take(end + 4, len);
            self.received.drain(..15);
            return taken;
        }
        if self.received.len() < end + 4 + len {
            return false;
        }
        if self.manner == Manner::Floods && head.starts_with("HTTP/1.1 431") {
            self.over = true;
            return false;
        }
        if head.starts_with("HTTP/1.1 200") {
            let before = self.cards;
            self.take(end + 4, len);
            assert_eq!(self.cards, before, "a snapshot is never the card");
        } else {
            // The latter if half a request was there when time stood still.
            let late = ["HTTP/1.1 503", "HTTP/1.1 408"];
            assert!(late.iter().any(|status| head.starts_with(status)), "{head}");
            self.received.drain(..end + 4 + len);
            self.over |= head.contains("Connection: close");
        }
        if !self.over {
            self.send(b"GET /snapshot.jpg?x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        true
    }

    fn take(&mut self, start: usize, len: usize) -> bool {
        if self.received.len() < start + len {
            return false;
        }
        let jpeg: Vec<u8> = self.received.drain(..start + len).skip(start).collect();
        self.check(&jpeg);
        true
    }

    fn check(&mut self, jpeg: &[u8]) {
        let n = match picture_number(jpeg) {
            Some(n) => {
                assert!(jpeg == picture(n), "picture {n} arrived changed");
                n
            }
            None => {
                let known = EXPECTED.on_rungs.get(jpeg);
                let Some(n) = known.expect("a picture on a rung, or the card") else {
                    self.cards += 1;
                    return;
                };
                assert_ne!(self.kind, Kind::Snapshots, "a snapshot is never adapted");
                self.adapted += u64::from(self.kind != Kind::Caller);
                *n
            }
        };
        // The same one may answer two snapshot requests.
        let newer = if self.kind == Kind::Snapshots {
            n >= self.last
        } else {
            n > self.last
        };
        assert!(newer, "picture {n} after {}", self.last);
        self.last = n;
        self.pictures += 1;
    }
}

// ---------------------------------------------------------------- the world

struct World {
    rng: Rng,
    now: Instant,
    hub: Hub<ServerEnd>,
    camera: Camera<SimCamera>,
    dice: Rc<RefCell<Dice>>,
    clients: Vec<Client>,
    log: Rc<RefCell<Log>>,
    cells: Yard,
    /// They go wrong.
    bad_cells: bool,
    /// Connections that are gone.
    past: Vec<ClientId>,
    admitted: u64,
    refused: u64,
    standing: u64,
    gave_way: u64,
    /// Times at which there was a place beyond a listener's `clients`.
    kept: u64,
}

/// The listener for calls.
const CALLS: usize = 4;

fn config() -> Config {
    let mut config = Config::default();
    let listener = |protocol, clients| ListenerConfig {
        protocol,
        clients,
        ..Config::default().listeners[0].clone()
    };
    config.listeners = vec![
        listener(ProtocolKind::Http, 6),
        listener(ProtocolKind::Push, 7),
        listener(ProtocolKind::Pull, 12),
        listener(ProtocolKind::Raw, 5),
        ListenerConfig {
            width: Some(160),
            height: Some(120),
            quality: Some(30),
            ..listener(ProtocolKind::Call, 12)
        },
    ];
    config.camera.source = SourceKind::Pattern;
    config.camera.width = 64;
    config.camera.height = 48;
    config.camera.linger = Some(Duration::from_secs(1));
    config.limits.frame_bytes = FRAME_BYTES;
    config.limits.ack_timeout = Duration::from_secs(2);
    config.limits.write_timeout = Duration::from_secs(2);
    config.limits.head_timeout = Duration::from_secs(1);
    config
}

/// Each listener is adaptive or not.
fn adaptive_at_random(mut config: Config, rng: &mut Rng) -> Config {
    for listener in &mut config.listeners {
        listener.adaptive = rng.bool();
        listener.min_fps = rng.u16(1..20);
    }
    // With a password or without, and fewer pictures than there are, or all.
    let listener = &mut config.listeners[CALLS];
    listener.password = rng
        .bool()
        .then(|| Secret::new(PASSWORD).expect("it is a short one"));
    listener.calls = rng.usize(1..6);
    listener.max_fps = Some(if rng.bool() { 240 } else { 5 });
    listener.min_fps = listener.min_fps.min(5);
    config
}

/// This machine, one of many strangers, or one with many connections.
fn address_at_random(rng: &mut Rng) -> Peer {
    let address = match rng.u8(0..10) {
        0..3 => String::new(),
        3..6 => "192.0.2.1:7".to_owned(),
        6 => format!("2001:db8::{}:9", rng.u8(1..9)),
        _ => format!("198.51.100.{}:5", rng.u8(1..40)),
    };
    address.parse().expect("short")
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut rng = Rng::with_seed(seed);
        let config = adaptive_at_random(config(), &mut rng);
        let dice = Rc::new(RefCell::new(Dice {
            gives_back: seed % 2 == 1,
            ..Dice::default()
        }));
        let source = SimCamera {
            dice: Rc::clone(&dice),
            newest: None,
            running: false,
        };
        let camera = Camera::new(source, &config, now);
        let mut hub = Hub::new(&config, now, Instant::now);
        // None: the hub makes pictures itself.
        let count = *rng.choice(&[0, 1, 1, 2, 3]).expect("not empty");
        let cells = Yard::new(count, rng.fork());
        if count > 0 {
            let started = hub.start_cells(&config, cells.launch(), count, now);
            started.expect("there is memory");
        }
        let bad_cells = count > 0 && rng.bool();
        World {
            rng,
            cells,
            bad_cells,
            now,
            hub,
            camera,
            dice,
            clients: Vec::new(),
            log: Log::new(now),
            past: Vec::new(),
            admitted: 0,
            refused: 0,
            standing: 0,
            gave_way: 0,
            kept: 0,
        }
    }

    fn connect(&mut self, kind: Kind, manner: Manner) {
        let caller = (kind == Kind::Caller).then(|| {
            let config = &self.hub.listeners()[CALLS].config;
            let (floods, open) = (manner == Manner::Floods, config.password.is_none());
            let mut caller = Caller::new(&self.log, self.rng.fork(), floods, open);
            caller.every_picture = config.max_fps == Some(240);
            caller
        });
        self.connect_as(kind, manner, caller);
    }

    fn connect_as(&mut self, kind: Kind, manner: Manner, caller: Option<Caller>) {
        let peer = address_at_random(&mut self.rng);
        self.connect_from(peer, kind, manner, caller);
    }

    fn connect_from(&mut self, peer: Peer, kind: Kind, manner: Manner, caller: Option<Caller>) {
        let room = if manner == Manner::Fast && kind == Kind::Caller {
            // Several may send him pictures in one turn.
            16 * ROOM
        } else if manner == Manner::Fast {
            ROOM
        } else {
            self.rng.usize(900..40_000)
        };
        let short = if manner == Manner::Fast {
            0
        } else {
            self.rng.u8(0..6)
        };
        let wire = Rc::new(RefCell::new(Wire {
            room,
            short,
            ..Wire::default()
        }));
        let end = ServerEnd {
            wire: Rc::clone(&wire),
            rng: self.rng.fork(),
        };
        let listener = match kind {
            Kind::Stream | Kind::Snapshots => 0,
            Kind::Push => 1,
            Kind::Pull => 2,
            Kind::Raw => 3,
            Kind::Caller => CALLS,
        };
        let is_local = peer.is_empty();
        let locals = |world: &World| {
            let slots = world.hub.clients().map(|(_, slot)| slot);
            let places = slots.filter(|slot| !slot.refusal && slot.origin.is_here());
            places
                .filter(|slot| slot.listener == listener || slot.kept == Some(Kept::Local))
                .count()
        };
        let is_first = is_local && locals(self) == 0;
        let watching = self.watching();
        let id = self.hub.admit(end, peer, listener, self.now).ok();
        self.check_places(&watching);
        assert!(
            !is_first || self.slot(id).is_some_and(|slot| !slot.refusal),
            "a place is kept for this machine"
        );
        self.standing += u64::from(self.slot(id).is_some_and(|slot| slot.refusal));
        match id {
            Some(_) => self.admitted += 1,
            None => self.refused += 1,
        }
        let mut client = Client {
            kind,
            manner,
            wire,
            id,
            rng: self.rng.fork(),
            received: Vec::new(),
            splitter: Splitter::new(if kind == Kind::Raw { FRAME_BYTES } else { 4 }),
            announced: None,
            acked: 0,
            http_head_seen: false,
            over: id.is_none(),
            last: 0,
            pictures: 0,
            cards: 0,
            adapted: 0,
            caller,
            doomed: false,
            first_after: None,
        };
        client.hello();
        self.clients.push(client);
        // As at the end of the daemon's turn, in which it accepts: before the camera's next one it knows who is there, and
        // does not go off in front of a viewer that has just come.
        self.hub.tell_viewers(&mut self.camera, self.now);
    }

    fn slot(&self, id: Option<ClientId>) -> Option<&Slot<ServerEnd>> {
        let mut clients = self.hub.clients();
        clients
            .find(|(of, _)| Some(*of) == id)
            .map(|(_, slot)| slot)
    }

    /// Those with a place who go on from picture to picture, or are in a call.
    fn watching(&self) -> Vec<ClientId> {
        let board = self.hub.switchboard();
        let places = self.hub.clients().filter(|(_, slot)| !slot.refusal);
        let watching = places.filter(|(id, slot)| match slot.session() {
            Some(Protocol::Pull(_)) => false,
            Some(Protocol::Call(_)) => board.calls_of(id.index) > 0,
            _ => slot.is_adaptable(),
        });
        watching.map(|(id, _)| id).collect()
    }

    /// See the top. `watching`: those who did before.
    fn check_places(&mut self, watching: &[ClientId]) {
        for id in watching {
            // Of its calls, one may have ended, and it may have hung up itself.
            let Some(slot) = self.slot(Some(*id)) else {
                continue;
            };
            let in_call = self.hub.switchboard().calls_of(id.index) > 0;
            let is_call = matches!(slot.session(), Some(Protocol::Call(_)));
            assert!(
                !slot.refusal || (is_call && !in_call),
                "{id:?} has lost its place while it watched"
            );
        }
        let mut kept = Vec::new();
        for (index, listener) in self.hub.listeners().iter().enumerate() {
            let places = || {
                let clients = self.hub.clients().map(|(_, slot)| slot);
                clients.filter(|slot| !slot.refusal && slot.listener == index)
            };
            let beyond: Vec<_> = places().filter_map(|slot| slot.kept).collect();
            assert!(
                places().count() <= listener.config.clients + beyond.len(),
                "more places than `clients` at {index}, and only {beyond:?} kept"
            );
            kept.extend(beyond);
            for slot in places() {
                match slot.kept {
                    Some(Kept::Local) => assert!(slot.origin.is_here()),
                    Some(Kept::User) => {
                        assert!(slot.session().is_some_and(Protocol::is_logged_in));
                        continue;
                    }
                    None => {}
                }
                let ordinary = |other: &&Slot<ServerEnd>| other.kept != Some(Kept::User);
                let same = places().filter(|other| other.origin == slot.origin);
                let (own, share) = (same.filter(ordinary).count(), listener.config.share());
                assert!(
                    slot.origin.is_here() || own <= share,
                    "{} has {own} places at {index}, and may have {share}",
                    slot.origin
                );
            }
        }
        for kind in [Kept::Local, Kept::User] {
            assert!(
                kept.iter().filter(|it| **it == kind).count() <= 1,
                "{kept:?}"
            );
        }
        let gave_way: u64 = self.hub.listeners().iter().map(|it| it.gave_way).sum();
        self.gave_way = gave_way;
        self.kept += u64::from(!kept.is_empty());
    }

    /// The poll: tells the hub what happened on the wires, all or (while late is allowed) some of it, doubled at times.
    fn deliver_events(&mut self, late: bool) {
        for client in &mut self.clients {
            let Some(id) = client.id else { continue };
            let fast = client.manner == Manner::Fast;
            if late && !fast && self.rng.bool() {
                continue;
            }
            let mut wire = client.wire.borrow_mut();
            let (readable, writable) = (wire.readable_event, wire.writable_event);
            if readable || writable || self.rng.u8(0..20) == 0 {
                (wire.readable_event, wire.writable_event) = (false, false);
                drop(wire);
                self.hub.mark(id, readable, writable);
            }
        }
    }

    /// `faulty`: cells may go wrong in it.
    fn turn(&mut self, readable: bool, faulty: bool) {
        let made = self.dice.borrow().made;
        self.hub.run(&mut self.camera, readable, self.now);
        let fresh = self.dice.borrow().made > made;
        let ready: Vec<(usize, u64)> = self.ready_clients();
        let settled = self.settled_callers();
        let watching = self.watching();
        let mut is_disturbed = false;
        // Good cells are as quick as no cells.
        for rounds in 0.. {
            for round in 0.. {
                if !self.hub.turn(self.now, &mut self.camera) {
                    break;
                }
                assert!(round < 1000, "a client keeps the loop turning without end");
            }
            let step = self.cells.step(faulty);
            is_disturbed |= step.is_disturbed;
            if !step.is_news {
                break;
            }
            assert!(rounds < 1000, "cells keep the loop turning without end");
            self.hub.arm_cells(|_, _| Ok(()));
            (0..2 * CELLS_MAX).for_each(|number| self.hub.mark_cell(number));
        }
        self.check_places(&watching);
        for (index, partners) in settled {
            let client = &mut self.clients[index];
            client.take_in(true);
            client.caller().check_pictures(&partners);
        }
        for call in self.hub.switchboard().calls() {
            assert!(
                call.ringing.is_none_or(|until| until > self.now),
                "{call:?}"
            );
        }
        // With its source, if cells were lost over several.
        let is_closed = self.bad_cells && self.camera.condition() != Condition::Live;
        if fresh {
            let newest = self.dice.borrow().made;
            self.hub.release(&mut self.camera);
            for (index, before) in ready {
                let client = &mut self.clients[index];
                client.take_in(true);
                // Only what is passed on untouched never waits for a cell.
                let listeners = self.hub.listeners();
                let is_made = match client.kind {
                    Kind::Stream | Kind::Snapshots => listeners[0].config.adaptive,
                    Kind::Push => listeners[1].config.adaptive,
                    Kind::Pull => listeners[2].config.adaptive,
                    Kind::Raw => listeners[3].config.adaptive,
                    Kind::Caller => true,
                };
                assert!(
                    client.over
                        || client.last == newest
                        || client.last > before
                        || (is_made && is_disturbed)
                        || is_closed,
                    "a ready {:?} client did not get picture {newest} in its turn, but {}",
                    client.kind,
                    client.last
                );
            }
        }
        self.hub.tell_viewers(&mut self.camera, self.now);
    }

    /// Who must get a picture that is there now: streaming, fast, and with an empty socket.
    fn ready_clients(&self) -> Vec<(usize, u64)> {
        let waits = |client: &Client| {
            client.manner == Manner::Fast
                && !client.over
                && client.wire.borrow().to_client.is_empty()
                && (matches!(client.kind, Kind::Push | Kind::Raw)
                    || (client.kind == Kind::Stream && client.http_head_seen)
                    || client.caller.as_ref().is_some_and(Caller::watches))
        };
        let clients = self.clients.iter().enumerate();
        clients
            .filter(|(_, client)| waits(client))
            .map(|(index, client)| (index, client.last))
            .collect()
    }

    /// Callers of whom the relay knows everything, and who take everything at once: with whom they are in a call.
    fn settled_callers(&mut self) -> Vec<(usize, Vec<usize>)> {
        let board = self.hub.switchboard();
        let mut settled = Vec::new();
        for (index, client) in self.clients.iter_mut().enumerate() {
            let (Some(id), Some(caller)) = (client.id, &mut client.caller) else {
                continue;
            };
            let wire = client.wire.borrow();
            let is_settled = client.manner == Manner::Fast
                && !client.over
                && caller.is_settled()
                && wire.to_server.is_empty()
                && wire.to_client.is_empty();
            if !is_settled {
                continue;
            }
            caller.begin_turn();
            let calls = board.calls().iter().filter(|call| call.ringing.is_none());
            let partners = calls.filter_map(|call| match (call.caller, call.callee) {
                (caller, callee) if caller == id.index => Some(callee),
                (caller, Party::Client(callee)) if callee == id.index => {
                    Some(Party::Client(caller))
                }
                _ => None,
            });
            let address = |party| match party {
                Party::Camera => CAMERA,
                Party::Client(client) => {
                    let name = board.name(client).expect("users only are in calls");
                    callers::address(name.as_str()).expect("a name of ours")
                }
            };
            settled.push((index, partners.map(address).collect()));
        }
        settled
    }

    fn staying(&self) -> impl Iterator<Item = usize> + use<> {
        let clients = self.clients.iter().enumerate();
        let staying = clients.filter(|(_, client)| client.stays());
        staying
            .map(|(index, _)| index)
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Some steps in which nothing goes wrong, with so much time before each.
    fn pass(&mut self, steps: u32, time: Duration) {
        for _ in 0..steps {
            self.now += time;
            self.step(true, 0);
        }
    }

    /// What becomes of the calls when nobody begins to talk any more.
    fn end_calls(&mut self) {
        self.log.borrow_mut().hush = true;
        // All that was said before is taken in, those who flood included.
        self.pass(12, Duration::from_millis(500));
        for client in &mut self.clients {
            if !client.over && client.caller.as_ref().is_some_and(Caller::is_in) {
                for to in callers::addresses().chain([CAMERA]) {
                    client.say(to, call::Kind::End);
                }
            }
        }
        self.pass(3, Duration::ZERO);
        let calls = self.hub.switchboard().calls();
        assert!(calls.is_empty(), "everybody has hung up: {calls:?}");

        // Everybody rings somebody, and nobody answers.
        let staying: Vec<_> = self.staying().collect();
        for index in &staying {
            let other = *self.rng.choice(&staying).expect("there is one");
            let to = self.clients[other].caller().name();
            self.clients[*index].say(to, call::Kind::Request);
        }
        // Twice that is more than anybody may take to say who he is.
        self.pass(3, Duration::ZERO);
        self.pass(1, RINGING);
        self.pass(1, RINGING);
        for call in self.hub.switchboard().calls() {
            assert_eq!(
                call.ringing, None,
                "only those who rang each other are in a call"
            );
        }
        for (id, slot) in self.hub.clients() {
            let is_caller = slot.listener == CALLS;
            assert!(
                !is_caller || slot.user().is_some(),
                "{id:?} has not said who it is"
            );
        }
        let staying: Vec<_> = self.staying().collect();
        for index in &staying {
            let client = &self.clients[*index];
            let wire = client.wire.borrow();
            assert!(client.received.is_empty(), "half a record at the end");
            assert!(wire.to_server.is_empty(), "the relay does not listen");
        }
        let callers = staying
            .iter()
            .map(|index| self.clients[*index].caller.as_ref());
        let callers: Vec<_> = callers.map(|caller| caller.expect("it stays")).collect();
        callers::check(&self.log, &callers);

        // Who is rung up by somebody who then vanishes is told.
        let since = self.now;
        let mut told = Vec::new();
        for pair in staying.as_chunks().0 {
            let [from, to] = *pair;
            let [caller, callee] = [from, to].map(|index| self.clients[index].caller().name());
            self.clients[from].say(callee, call::Kind::Request);
            told.push((to, caller, from));
        }
        self.pass(2, Duration::ZERO);
        told.iter()
            .for_each(|(_, _, from)| self.clients[*from].hang_up());
        self.deliver_events(false);
        self.turn(false, false);
        for (to, caller, _) in told {
            let client = &mut self.clients[to];
            client.take_in(true);
            let heard = callers::heard_end(&self.log, client.caller(), caller, since);
            assert!(heard, "{} has vanished in silence", callers::name(caller));
        }
    }

    /// Everybody leaves, and all names are free again.
    fn log_in_again(&mut self) {
        self.clients.iter_mut().for_each(Client::hang_up);
        self.pass(30, Duration::ZERO);
        for name in callers::addresses() {
            let caller = Caller::named(&self.log, self.rng.fork(), name);
            self.connect_from(Peer::new(), Kind::Caller, Manner::Fast, Some(caller));
        }
        self.pass(2, Duration::ZERO);
        for client in &mut self.clients {
            assert!(
                client.caller().is_in(),
                "{}",
                callers::name(client.caller().name())
            );
        }
    }

    fn step(&mut self, calm: bool, fault_rate: u32) {
        self.now += STEP;
        self.log.borrow_mut().now = self.now;
        if !calm {
            self.dice.borrow_mut().starts_fail =
                fault_rate > 0 && self.rng.u32(0..100) < fault_rate * 3;
        }
        let frame = self.rng.u8(0..3) != 0;
        self.dice.borrow_mut().next = match frame {
            true if !calm && self.rng.u32(0..100) < fault_rate => Some(Err(Fault(BROKEN.into()))),
            true => Some(Ok(())),
            false => None,
        };
        self.deliver_events(!calm);
        self.turn(frame, !calm && self.bad_cells);
        for client in &mut self.clients {
            client.step(calm);
        }
        if !calm && self.rng.u8(0..3) == 0 && self.clients.len() < 100 {
            let kind = *self
                .rng
                .choice(&[
                    Kind::Pull,
                    Kind::Push,
                    Kind::Raw,
                    Kind::Stream,
                    Kind::Snapshots,
                    Kind::Caller,
                    Kind::Caller,
                ])
                .expect("not empty");
            let manner = match self.rng.u8(0..12) {
                0..4 => Manner::Fast,
                4..6 => Manner::Slow,
                6 => Manner::Stalls,
                7 => Manner::Garbage,
                8 => Manner::Floods,
                9 => Manner::HalfCloses,
                10 => Manner::Resets,
                _ => Manner::Silent,
            };
            self.connect(kind, manner);
        }
        if !calm && self.rng.u8(0..10) == 0 && !self.clients.is_empty() {
            let gone = self.rng.usize(0..self.clients.len());
            self.clients[gone].hang_up();
        }
        // Time in which nothing moves: some are late after that, and what rang rings no more.
        if !calm && self.rng.u32(0..1000) == 0 {
            self.now += RINGING;
        }
        // What the server closed is gone from the world, once a last look is taken at what it sent.
        let gone = |client: &Client| client.over && client.wire.borrow().server_closed;
        let closed = self.clients.iter().filter(|client| gone(client));
        if let Some(caller) = closed
            .clone()
            .rev()
            .find_map(|client| client.caller.as_ref())
        {
            self.log.borrow_mut().crashed = Some(caller.name());
        }
        self.past.extend(closed.filter_map(|client| client.id));
        self.clients.retain(|client| !gone(client));
        // An event that was under way when its connection was closed.
        if let Some(id) = self.rng.choice(&self.past) {
            assert!(self.hub.stream(*id).is_none(), "{id:?} names another now");
            self.hub.mark(*id, true, true);
        }
    }
}

/// What worlds did, to see that all of them together do everything.
#[derive(Default)]
struct Sum {
    admitted: u64,
    refused: u64,
    standing: u64,
    gave_way: u64,
    kept: u64,
    pictures: u64,
    cards: u64,
    adapted: u64,
    callers: callers::Sum,
    cells: cells::Sum,
}

impl Sum {
    fn add(mut self, other: Sum) -> Sum {
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.standing += other.standing;
        self.gave_way += other.gave_way;
        self.kept += other.kept;
        self.pictures += other.pictures;
        self.cards += other.cards;
        self.adapted += other.adapted;
        self.callers = self.callers.add(other.callers);
        self.cells = self.cells.add(other.cells);
        self
    }
}

/// Runs one seed.
fn run(seed: u64) -> Sum {
    let mut world = World::new(seed);
    let fault_rate = *world.rng.choice(&[0, 0, 1, 5, 20]).expect("not empty");
    for _ in 0..FAULTY_STEPS {
        world.step(false, fault_rate);
    }
    // A reload, under those who are there.
    let config = adaptive_at_random(config(), &mut world.rng);
    world.hub.reconfigure(&config, world.now);
    // The faults stop. The clock goes on past every back-off, so that the camera comes back.
    world.dice.borrow_mut().starts_fail = false;
    world.connect(Kind::Push, Manner::Fast);
    world.connect(Kind::Raw, Manner::Fast);
    for _ in 0..300 {
        if world.camera.condition() == Condition::Live {
            break;
        }
        world.step(true, 0);
    }
    assert_eq!(
        world.camera.condition(),
        Condition::Live,
        "the camera comes back"
    );
    let newest = world.dice.borrow().made;
    for client in &mut world.clients {
        client.first_after = Some(newest);
        client.wire.borrow_mut().short = 0;
    }
    for _ in 0..CALM_STEPS {
        world.step(true, 0);
    }
    for client in &world.clients {
        assert!(
            !client.doomed,
            "it has broken the rules, and is still there"
        );
        let served = client.first_after.is_none_or(|before| client.last > before);
        let listens = !client.over
            && client.kind != Kind::Caller
            && matches!(
                client.manner,
                Manner::Fast | Manner::Slow | Manner::HalfCloses
            );
        assert!(
            served || !listens || world.slot(client.id).is_none_or(|slot| slot.refusal),
            "a live {:?} {:?} client got nothing newer than {}: state {:?}",
            client.manner,
            client.kind,
            client.last,
            world
                .hub
                .clients()
                .find(|(id, _)| Some(*id) == client.id)
                .map(|(_, slot)| slot.state()),
        );
    }
    world.end_calls();
    assert!(world.cells.is_well(), "a cell was not replaced");
    let mut sum = Sum {
        cells: world.cells.sum,
        callers: world.log.borrow().sum,
        admitted: world.admitted,
        refused: world.refused,
        standing: world.standing,
        gave_way: world.gave_way,
        kept: world.kept,
        ..Sum::default()
    };
    for client in &world.clients {
        sum.pictures += client.pictures;
        sum.cards += client.cards;
        sum.adapted += client.adapted;
    }
    world.log_in_again();
    // Everybody leaves.
    for client in &mut world.clients {
        client.hang_up();
    }
    world.pass(70, Duration::ZERO);
    assert_eq!(world.hub.clients().count(), 0, "every slot comes back");
    let board = world.hub.switchboard();
    assert_eq!(board.calls(), [], "every call ends");
    for client in 0..=u16::MAX {
        assert_eq!(board.name(client), None, "a user without a connection");
    }
    assert_eq!(world.camera.condition(), Condition::Idle, "nobody watches");
    sum
}

#[test]
fn every_seed_keeps_the_promises() {
    if let Ok(seed) = std::env::var("CAMD_SEED") {
        run(seed.parse().expect("CAMD_SEED is a number"));
        return;
    }
    let full = std::env::var_os("CAMD_FULL").is_some();
    let (first, seeds) = if full {
        (0, FULL)
    } else {
        (u64::from(fastrand::u32(..)), SAMPLE)
    };
    // A world lives in one thread; the seeds are shared out among all cores.
    let next = AtomicU64::new(first);
    let work = || {
        let mut sum = Sum::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return sum;
            }
            let result = std::panic::catch_unwind(|| run(seed));
            let Ok(one) = result else {
                panic!("seed {seed} failed; CAMD_SEED={seed} repeats it alone");
            };
            sum = sum.add(one);
        }
    };
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    let sum = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().fold(Sum::default(), |sum, thread| {
            sum.add(thread.join().expect("the panic above"))
        })
    });
    println!(
        "{seeds} seeds from {first} on: {} admitted, {} refused, {} without a place at first, {} gave way, {} kept, {} pictures, {} of them adapted, {} cards; {}; {:?}",
        sum.admitted,
        sum.refused,
        sum.standing,
        sum.gave_way,
        sum.kept,
        sum.pictures,
        sum.adapted,
        sum.cards,
        sum.callers.check(),
        sum.cells
    );
    assert!(
        sum.admitted > 64 * seeds / 2,
        "slots are used again and again: {}",
        sum.admitted
    );
    assert!(sum.refused > 0, "the table was full at times");
    assert!(sum.standing > 0, "some stood");
    assert!(sum.gave_way > 0, "some gave way");
    assert!(sum.kept > 0, "kept places were taken");
    assert!(sum.cards > 0, "the camera was away at times");
    let cells::Sum {
        worked,
        ended,
        hung,
        lied,
        refused,
    } = sum.cells;
    let misdeeds = [ended, hung, lied, refused];
    assert!(worked > 0 && !misdeeds.contains(&0), "cells did it all");
    assert!(sum.adapted > 0, "some clients went down their ladder");
}
