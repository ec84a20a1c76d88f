//! Adaptive clients on links of all kinds: the real hub and the real encoder on pictures that move, over simulated
//! networks, in simulated time. And once the real program, over a socket whose reader is slow.

mod common;

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use camd::client::hub::Hub;
use camd::client::link::Stream;
use camd::client::slot::Peer;
use camd::client::table::ClientId;
use camd::config::{Config, ListenerConfig};
use camd::picture::frame::{
    Frame, FrameMeta, Orientation, Picture, PixelFormat, Plane, RawPicture,
};
use camd::picture::jpeg::{Splitter, inspect};
use camd::protocol::ProtocolKind;
use camd::source::camera::Camera;
use camd::source::{Captured, Fault, Negotiated, Source};
use common::{Camd, PATIENCE, Paced};
use fastrand::Rng;

const KB: f64 = 1e3;
const MB: f64 = 1e6;
/// Between two steps of the world; also half the time that a byte needs there and back on every link.
const STEP: Duration = Duration::from_millis(1);
/// A client has settled by then, whatever its link.
const SETTLED: f64 = 5.0;

// ---------------------------------------------------------------- the camera

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
/// Of the landscape that the camera moves over.
const STRIDE: usize = 1024;
const LINES: usize = 768;

/// A plane of value noise in octaves, as natural pictures have it: the finer, the weaker.
fn landscape(width: usize, height: usize, amplitude: f64, rng: &mut Rng) -> Vec<u8> {
    let mut sums = vec![128.0; width * height];
    for octave in 0..7 {
        let cell = 1 << octave;
        let columns = width / cell + 2;
        let corners: Vec<f64> = (0..columns * (height / cell + 2))
            .map(|_| (rng.f64() - 0.5) * amplitude * 1.55_f64.powi(octave))
            .collect();
        for (i, sum) in sums.iter_mut().enumerate() {
            let (x, y) = (i % width, i / width);
            let (fx, fy) = (
                (x % cell) as f64 / cell as f64,
                (y % cell) as f64 / cell as f64,
            );
            let corner = y / cell * columns + x / cell;
            let above = corners[corner] * (1.0 - fx) + corners[corner + 1] * fx;
            let below = corners[corner + columns] * (1.0 - fx) + corners[corner + columns + 1] * fx;
            *sum += above * (1.0 - fy) + below * fy;
        }
    }
    sums.into_iter()
        .map(|v| v.clamp(0.0, 255.0) as u8)
        .collect()
}

/// 640x480 in 4:2:0, moving.
struct Scenery {
    luma: Vec<u8>,
    chroma: [Vec<u8>; 2],
    newest: Option<FrameMeta>,
    made: u64,
}

impl Scenery {
    fn new() -> Self {
        let mut rng = Rng::with_seed(1);
        let luma = landscape(STRIDE, LINES, 20.0, &mut rng);
        let chroma = [(); 2].map(|()| landscape(STRIDE / 2, LINES / 2, 2.0, &mut rng));
        Scenery {
            luma,
            chroma,
            newest: None,
            made: 0,
        }
    }

    fn picture(&self) -> RawPicture<'_> {
        // There and back again.
        let way = |range: usize, speed: u64| {
            let at = (self.made * speed) as usize % (2 * range);
            at.min(2 * range - at) & !1
        };
        let (x, y) = (way(STRIDE - WIDTH, 6), way(LINES - HEIGHT, 4));
        let [cb, cr] = &self.chroma;
        let part = |plane: &'_ [u8]| (y / 2 * STRIDE / 2 + x / 2).min(plane.len());
        let plane = |data, stride| Plane { data, stride };
        RawPicture {
            format: PixelFormat::Yu12,
            width: WIDTH as u16,
            height: HEIGHT as u16,
            planes: [
                plane(&self.luma[y * STRIDE + x..], STRIDE),
                plane(&cb[part(cb)..], STRIDE / 2),
                plane(&cr[part(cr)..], STRIDE / 2),
            ],
        }
    }
}

impl Source for Scenery {
    fn start(&mut self, _: Instant) -> Result<Negotiated, Fault> {
        Ok(Negotiated {
            format: PixelFormat::Yu12,
            width: WIDTH as u16,
            height: HEIGHT as u16,
            fps: None,
            orientation: None,
            cropped: None,
            description: "simulated".into(),
        })
    }

    fn stop(&mut self) {}

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        self.made += 1;
        self.newest = Some(FrameMeta {
            sequence: 0,
            captured: now,
            wall: Duration::from_millis(self.made),
            width: WIDTH as u16,
            height: HEIGHT as u16,
            orientation: Orientation::UPRIGHT,
            exif: Orientation::UPRIGHT,
            crop: None,
            live: true,
        });
        Ok(Captured {
            fresh: true,
            dropped: 0,
            bad: 0,
        })
    }

    fn newest(&self) -> Option<Frame<'_>> {
        Some(Frame {
            meta: self.newest?,
            picture: Picture::Raw(self.picture()),
        })
    }
}

// ---------------------------------------------------------------- the links

/// Bytes a second, by the time in seconds.
type Speed = Box<dyn Fn(f64) -> f64>;

fn constant(rate: f64) -> Speed {
    Box::new(move |_| rate)
}

/// What Linux takes without having sent it: up to TCP_NOTSENT_LOWAT, and then the last buffer of its queue whole.
const LOWAT: usize = 16 * 1024;
const LAST_BUFFER: usize = 32 * 1024;
/// What is on its way, in the network's own buffers and the client's.
const FLIGHT: usize = 32 * 1024;

#[derive(Default)]
struct Wire {
    to_server: VecDeque<u8>,
    /// In the server's kernel, not sent; and sent, but not there yet.
    unsent: VecDeque<u8>,
    flight: VecDeque<u8>,
    /// Parts of a byte that the link can carry now.
    credit: f64,
    wants_room: bool,
    wants_empty: bool,
    readable: bool,
    writable: bool,
}

impl Wire {
    /// What the network does in one step; gives what arrives.
    fn carry(&mut self, rate: f64) -> Vec<u8> {
        self.credit += rate * STEP.as_secs_f64();
        let n = (self.credit as usize).min(self.flight.len());
        // An idle link saves nothing up.
        let arrived = self.flight.drain(..n).collect();
        self.credit = if self.flight.is_empty() {
            0.0
        } else {
            self.credit - n as f64
        };
        let n = (FLIGHT - self.flight.len()).min(self.unsent.len());
        self.flight.extend(self.unsent.drain(..n));
        if self.wants_empty && self.unsent.is_empty() {
            (self.wants_empty, self.writable) = (false, true);
        }
        if self.wants_room && self.unsent.len() < LOWAT / 2 {
            (self.wants_room, self.writable) = (false, true);
        }
        arrived
    }
}

#[derive(Clone, Default)]
struct ServerEnd(Rc<RefCell<Wire>>);

impl Read for ServerEnd {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.to_server.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.to_server.read(buf)
    }
}

impl Write for ServerEnd {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        unreachable!("slots write vectored")
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        let room = if wire.unsent.len() < LOWAT {
            LOWAT + LAST_BUFFER - wire.unsent.len()
        } else {
            0
        };
        let mut left = room.min(wanted);
        wire.wants_room |= left < wanted;
        if left == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = left;
        for buf in bufs {
            let part = left.min(buf.len());
            wire.unsent.extend(&buf[..part]);
            left -= part;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for ServerEnd {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn drained(&mut self) -> io::Result<bool> {
        let mut wire = self.0.borrow_mut();
        wire.wants_empty = !wire.unsent.is_empty();
        Ok(!wire.wants_empty)
    }
}

// ---------------------------------------------------------------- the clients

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Push,
    Raw,
    Stream,
    Pull,
    /// pull, one picture a second.
    Rarely,
    /// One `GET /snapshot` after another.
    Snapshots,
}

const VIEWERS: [Kind; 4] = [Kind::Push, Kind::Raw, Kind::Stream, Kind::Pull];

/// A picture that arrived: when, in seconds, how long, how wide.
struct Arrival {
    at: f64,
    bytes: usize,
    width: u16,
}

struct Client {
    name: String,
    kind: Kind,
    wire: Rc<RefCell<Wire>>,
    speed: Speed,
    id: ClientId,
    received: Vec<u8>,
    head_seen: bool,
    /// pull: of the picture that comes, and the parts asked for.
    announced: Option<usize>,
    asked: usize,
    asks_next: f64,
    arrivals: Vec<Arrival>,
    /// Each rung that it was given, and since when.
    rungs: Vec<(f64, Option<u8>)>,
}

impl Client {
    fn say(&mut self, bytes: &[u8]) {
        let mut wire = self.wire.borrow_mut();
        wire.to_server.extend(bytes);
        wire.readable = true;
    }

    fn hello(&mut self) {
        match self.kind {
            Kind::Push | Kind::Raw => {}
            Kind::Pull | Kind::Rarely => self.say(b"new_request"),
            Kind::Stream => self.say(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            Kind::Snapshots => self.say(b"GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        }
    }

    /// Takes what comes, and answers; the answer is at the server in the next step.
    fn step(&mut self, at: f64) {
        let rate = (self.speed)(at);
        let arrived = self.wire.borrow_mut().carry(rate);
        self.received.extend(arrived);
        while self.parse(at) {}
        if self.kind == Kind::Rarely && self.asks_next > 0.0 && self.asks_next <= at {
            self.asks_next = 0.0;
            self.say(b"new_request");
        }
    }

    fn parse(&mut self, at: f64) -> bool {
        match self.kind {
            Kind::Push => match self.received.first_chunk() {
                Some(len) => {
                    let len = u32::from_le_bytes(*len) as usize;
                    self.take(8, len, 0, at)
                }
                None => false,
            },
            Kind::Raw => {
                let mut splitter = Splitter::new(self.received.len().max(4));
                splitter.spare()[..self.received.len()].copy_from_slice(&self.received);
                splitter.filled(self.received.len());
                let len = splitter.next_frame().map(<[u8]>::len);
                len.is_some_and(|len| self.take(0, len, 0, at))
            }
            Kind::Pull | Kind::Rarely => self.parse_pull(at),
            Kind::Stream if !self.head_seen => {
                let end = memchr::memmem::find(&self.received, b"--camdframe\r\n");
                self.received.drain(..end.map_or(0, |end| end + 13));
                self.head_seen = end.is_some();
                self.head_seen
            }
            Kind::Stream | Kind::Snapshots => {
                let Some(end) = memchr::memmem::find(&self.received, b"\r\n\r\n") else {
                    return false;
                };
                let head = String::from_utf8_lossy(&self.received[..end]);
                let field = head
                    .lines()
                    .find_map(|l| l.strip_prefix("Content-Length: "));
                let len = field.expect("a length").parse().expect("a number");
                if self.kind == Kind::Stream {
                    return self.take(end + 4, len, 15, at);
                }
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                let taken = self.take(end + 4, len, 0, at);
                if taken {
                    self.hello();
                }
                taken
            }
        }
    }

    fn parse_pull(&mut self, at: f64) -> bool {
        let Some(len) = self.announced else {
            // The announcement comes in one piece, being shorter than a segment.
            let Some(digits) = self.received.strip_prefix(b"newImage:") else {
                return false;
            };
            if !self.wire.borrow().flight.is_empty() || !self.wire.borrow().unsent.is_empty() {
                return false;
            }
            let digits = std::str::from_utf8(digits).expect("digits");
            self.announced = Some(digits.parse().expect("a number"));
            self.received.clear();
            self.asked = 1380;
            self.say(b"ack");
            return false;
        };
        if self.received.len() == len {
            self.announced = None;
            self.take(0, len, 0, at);
            match self.kind {
                Kind::Rarely => self.asks_next = at + 1.0,
                _ => self.say(b"new_request"),
            }
        } else if self.received.len() == self.asked {
            self.asked += 1380;
            self.say(b"ack");
        }
        false
    }

    /// Takes a picture of `len` bytes from behind `start` bytes, and what follows it.
    fn take(&mut self, start: usize, len: usize, tail: usize, at: f64) -> bool {
        if self.received.len() < start + len + tail {
            return false;
        }
        let found = inspect(&self.received[start..start + len]).expect("a whole JPEG");
        self.arrivals.push(Arrival {
            at,
            bytes: len,
            width: found.width,
        });
        self.received.drain(..start + len + tail);
        true
    }

    fn rung(&self) -> Option<u8> {
        self.rungs.last().expect("looked at in each step").1
    }

    /// Changes of the rung within a time.
    fn changes(&self, from: f64, to: f64) -> usize {
        let within = |(at, _): &&(f64, Option<u8>)| (from..to).contains(at);
        // The first entry is none.
        self.rungs.iter().skip(1).filter(within).count()
    }

    /// The fewest pictures that arrived in any two seconds of a time.
    fn fewest(&self, from: f64, to: f64) -> usize {
        // It is fewest just behind an arrival, or at the beginning.
        let starts = self.arrivals.iter().map(|a| a.at + 1e-6).chain([from]);
        let count = |start: f64| {
            let within = |a: &&Arrival| (start..start + 2.0).contains(&a.at);
            self.arrivals.iter().filter(within).count()
        };
        starts
            .filter(|start| (from..=to - 2.0).contains(start))
            .map(count)
            .min()
            .expect("a time of two seconds")
    }

    /// The mean length of the pictures that arrived within a time.
    fn bytes(&self, from: f64, to: f64) -> f64 {
        let within = |a: &&Arrival| (from..to).contains(&a.at);
        let (count, sum) = self
            .arrivals
            .iter()
            .filter(within)
            .fold((0, 0), |(n, sum), a| (n + 1, sum + a.bytes));
        sum as f64 / f64::from(count)
    }
}

// ---------------------------------------------------------------- the world

struct World {
    start: Instant,
    steps: u32,
    camera_fps: f64,
    frames: u64,
    config: Config,
    hub: Hub<ServerEnd>,
    camera: Camera<Scenery>,
    clients: Vec<Client>,
    /// Since the newest frame: what was encoded before it, and the rungs that were in use.
    encoded: u64,
    rungs: BTreeSet<Option<u8>>,
    most_encodes: u64,
}

const LISTENERS: [ProtocolKind; 4] = [
    ProtocolKind::Push,
    ProtocolKind::Http,
    ProtocolKind::Pull,
    ProtocolKind::Raw,
];

impl World {
    /// All listeners have pictures of the same quality and are adaptive; `change` is done to each.
    fn new(camera_fps: f64, change: impl Fn(&mut ListenerConfig)) -> Self {
        let start = Instant::now();
        let listeners = LISTENERS.map(|protocol| {
            let mut listener = ListenerConfig {
                protocol,
                quality: Some(80),
                adaptive: true,
                ..Config::default().listeners[0].clone()
            };
            change(&mut listener);
            listener
        });
        let config = Config {
            listeners: listeners.to_vec(),
            ..Config::default()
        };
        World {
            start,
            steps: 0,
            camera_fps,
            frames: 0,
            hub: Hub::new(&config, start, Instant::now),
            camera: Camera::new(Scenery::new(), &config, start),
            config,
            clients: Vec::new(),
            encoded: 0,
            rungs: BTreeSet::new(),
            most_encodes: 0,
        }
    }

    fn connect(&mut self, kind: Kind, name: &str, speed: Speed) {
        let end = ServerEnd::default();
        let wire = Rc::clone(&end.0);
        let listener = match kind {
            Kind::Push => 0,
            Kind::Stream | Kind::Snapshots => 1,
            Kind::Pull | Kind::Rarely => 2,
            Kind::Raw => 3,
        };
        let now = self.start + STEP * self.steps;
        let admitted = self.hub.admit(end, Peer::new(), listener, now);
        let mut client = Client {
            name: format!("{kind:?} at {name}"),
            kind,
            wire,
            speed,
            id: admitted.ok().expect("there is room"),
            received: Vec::new(),
            head_seen: false,
            announced: None,
            asked: 0,
            asks_next: 0.0,
            arrivals: Vec::new(),
            rungs: Vec::new(),
        };
        client.hello();
        self.clients.push(client);
    }

    fn at(&self) -> f64 {
        (STEP * self.steps).as_secs_f64()
    }

    fn reconfigure(&mut self, change: impl Fn(&mut ListenerConfig)) {
        self.config.listeners.iter_mut().for_each(change);
        let now = self.start + STEP * self.steps;
        self.hub.reconfigure(&self.config, now);
        // They are counted anew.
        self.encoded = 0;
    }

    fn encoded(&self) -> u64 {
        let renditions = self.hub.renditions().all().iter();
        renditions.map(|one| one.times().pictures()).sum()
    }

    fn run(&mut self, until: f64) {
        while self.at() < until {
            self.step();
        }
    }

    fn step(&mut self) {
        let at = self.at();
        let now = self.start + STEP * self.steps;
        self.steps += 1;
        for client in &mut self.clients {
            let mut wire = client.wire.borrow_mut();
            if wire.readable || wire.writable {
                let (readable, writable) = (wire.readable, wire.writable);
                (wire.readable, wire.writable) = (false, false);
                drop(wire);
                self.hub.mark(client.id, readable, writable);
            }
        }
        let due = self.frames as f64 / self.camera_fps <= at;
        if due {
            self.check_encodes();
            self.frames += 1;
        }
        self.hub.run(&mut self.camera, due, now);
        while self.hub.turn(now, &mut self.camera) {}
        self.hub.tell_viewers(&mut self.camera, now);
        for client in &mut self.clients {
            let slots = self.hub.clients();
            let slot = { slots }
                .find(|(id, _)| *id == client.id)
                .unwrap_or_else(|| panic!("{} was closed", client.name))
                .1;
            let rung = self.hub.rung(slot);
            self.rungs.insert(rung);
            if client.rungs.last().is_none_or(|(_, last)| *last != rung) {
                client.rungs.push((at, rung));
            }
            client.step(at);
        }
    }

    /// At the end of a frame's time: each rung's picture was made once at most.
    fn check_encodes(&mut self) {
        let made = self.encoded() - self.encoded;
        let rungs = std::mem::take(&mut self.rungs);
        assert!(
            made <= rungs.len() as u64,
            "{made} encodes of a frame for rungs {rungs:?}"
        );
        self.most_encodes = self.most_encodes.max(made);
        self.encoded = self.encoded();
    }

    fn report(&self) {
        for client in &self.clients {
            let rungs: Vec<_> = client
                .rungs
                .iter()
                .map(|(at, rung)| format!("{at:.1} s: {rung:?}"))
                .collect();
            println!(
                "{:22} {:5} pictures; rungs {}",
                client.name,
                client.arrivals.len(),
                rungs.join(", ")
            );
        }
    }
}

/// From `from` on: it has settled in time, holds `min_fps`.
fn assert_settled(client: &Client, from: f64, to: f64, min_fps: usize) {
    let settled = from + SETTLED;
    assert_eq!(
        client.changes(settled, to),
        0,
        "{} goes on changing after {settled} s: {:?}",
        client.name,
        client.rungs
    );
    let fewest = client.fewest(settled, to);
    assert!(
        fewest >= 2 * min_fps,
        "{}: {fewest} pictures in two seconds between {settled} s and {to} s",
        client.name
    );
}

#[test]
fn each_link_gets_what_it_can_carry() {
    let mut world = World::new(30.0, |_| {});
    for (name, rate) in [
        ("100 KB/s", 100.0 * KB),
        ("1 MB/s", MB),
        ("10 MB/s", 10.0 * MB),
    ] {
        for kind in VIEWERS {
            world.connect(kind, name, constant(rate));
        }
    }
    const END: f64 = 45.0;
    world.run(END);
    world.report();
    println!("at most {} encodes of a frame", world.most_encodes);
    for (i, client) in world.clients.iter().enumerate() {
        assert_settled(client, 0.0, END, 5);
        let bytes = client.bytes(SETTLED, END);
        match i / VIEWERS.len() {
            0 => {
                // Quality comes before rate: the rung above would be too much.
                assert!(bytes > 10.0 * KB, "{}: {bytes} bytes", client.name);
                assert!(client.arrivals.last().is_some_and(|a| a.width < 640));
            }
            1 if client.kind == Kind::Pull => assert!(client.rung() <= Some(1)),
            _ => {
                assert_eq!(client.rungs, [(0.0, Some(0))], "{}", client.name);
                assert!((60.0 * KB..100.0 * KB).contains(&bytes), "{bytes} bytes");
            }
        }
        if i / VIEWERS.len() == 2 && client.kind != Kind::Pull {
            let all = (END - SETTLED) * 30.0;
            let got = client.arrivals.iter().filter(|a| a.at >= SETTLED).count();
            assert!(got as f64 >= all - 2.0, "{}: {got} of {all}", client.name);
        }
    }
    assert!(world.most_encodes > 1, "several rungs were in use");
}

#[test]
fn a_link_that_changes_is_followed() {
    let mut world = World::new(30.0, |_| {});
    const PHASE: f64 = 15.0;
    let rates = [10.0 * MB, 100.0 * KB, MB, 10.0 * MB];
    for kind in VIEWERS {
        let speed = move |at: f64| rates[((at / PHASE) as usize).min(3)];
        world.connect(kind, "changing speed", Box::new(speed));
    }
    world.connect(Kind::Push, "10 MB/s", constant(10.0 * MB));
    world.run(4.0 * PHASE);
    world.report();
    let (witness, changing) = world.clients.split_last().expect("four");
    for client in changing {
        for phase in 0..4 {
            let begin = f64::from(phase) * PHASE;
            assert_settled(client, begin, begin + PHASE, 5);
        }
        assert_eq!(client.rung(), Some(0), "{}", client.name);
        let (first, last) = (client.bytes(5.0, PHASE), client.bytes(50.0, 60.0));
        assert!((last / first - 1.0).abs() < 0.2, "{first} and {last} bytes");
        let slow = client.bytes(PHASE + SETTLED, 2.0 * PHASE);
        assert!((10.0 * KB..20.0 * KB).contains(&slow), "{slow} bytes");
    }
    assert_eq!(witness.rungs, [(0.0, Some(0))], "nobody else moves it");
    assert!(witness.arrivals.len() >= 1798);
}

#[test]
fn a_high_min_fps_is_held_and_left_again() {
    // Nearly all that the camera gives, so that little is known of what a link could carry beyond it.
    let mut world = World::new(30.0, |listener| listener.min_fps = 25);
    let speed = |at: f64| if at < 15.0 { 400.0 * KB } else { 10.0 * MB };
    for kind in [Kind::Push, Kind::Stream] {
        world.connect(kind, "400 KB/s, then 10 MB/s", Box::new(speed));
    }
    world.run(50.0);
    world.report();
    for client in &world.clients {
        assert_settled(client, 0.0, 15.0, 25);
        assert!(client.bytes(SETTLED, 15.0) < 16.0 * KB);
        // It takes all pictures of its rung, and so finds out by a late try only that there is more to be had.
        assert_settled(client, 15.0 + 16.0, 50.0, 25);
        assert_eq!(client.rung(), Some(0));
    }
}

#[test]
fn a_link_that_wavers_makes_no_picture_flicker() {
    let mut world = World::new(30.0, |_| {});
    for (seed, rate) in [100.0 * KB, 200.0 * KB, 300.0 * KB, 500.0 * KB, MB]
        .into_iter()
        .enumerate()
    {
        let mut rng = Rng::with_seed(seed as u64);
        let factors: Vec<f64> = (0..1000).map(|_| 0.3 + 1.4 * rng.f64()).collect();
        for kind in VIEWERS {
            let factors = factors.clone();
            let speed = move |at: f64| rate * factors[(at * 5.0) as usize % factors.len()];
            world.connect(kind, &format!("some {} KB/s", rate / KB), Box::new(speed));
        }
    }
    // And one that is good and bad in turns, too fast for anyone to follow.
    let speed = |at: f64| {
        if ((at / 4.0) as u32).is_multiple_of(2) {
            10.0 * MB
        } else {
            100.0 * KB
        }
    };
    world.connect(Kind::Push, "10 MB/s or 100 KB/s", Box::new(speed));
    const END: f64 = 90.0;
    world.run(END);
    world.report();
    for client in &world.clients {
        let (first, last) = (
            client.changes(0.0, END / 2.0),
            client.changes(END / 2.0, END),
        );
        assert!(
            first <= 8 && last <= 2,
            "{}: {:?}",
            client.name,
            client.rungs
        );
        let mean =
            client.arrivals.iter().filter(|a| a.at > SETTLED).count() as f64 / (END - SETTLED);
        assert!(mean >= 5.0, "{}: {mean} fps", client.name);
    }
}

#[test]
fn a_link_that_carries_nothing_much_gets_the_least() {
    let mut world = World::new(30.0, |_| {});
    for kind in VIEWERS {
        world.connect(kind, "10 KB/s", constant(10.0 * KB));
    }
    world.run(60.0);
    world.report();
    for client in &world.clients {
        // The first picture alone takes eight seconds.
        assert_eq!(client.rung(), Some(6), "{}", client.name);
        assert_eq!(client.changes(25.0, 60.0), 0, "{:?}", client.rungs);
        assert!(client.fewest(25.0, 60.0) >= 3, "pictures still come");
        assert!(client.arrivals.last().is_some_and(|a| a.width == 160));
    }
}

#[test]
fn who_asks_rarely_is_not_slow() {
    let mut world = World::new(30.0, |_| {});
    world.connect(Kind::Rarely, "10 MB/s", constant(10.0 * MB));
    let speed = |at: f64| if at < 15.0 { 100.0 * KB } else { 10.0 * MB };
    world.connect(Kind::Rarely, "100 KB/s, then 10 MB/s", Box::new(speed));
    world.connect(Kind::Snapshots, "100 KB/s", constant(100.0 * KB));
    world.run(30.0);
    world.report();
    let [fast, changing, snapshots] = &world.clients[..] else {
        panic!("three clients");
    };
    assert_eq!(fast.rungs, [(0.0, Some(0))]);
    assert_eq!(changing.changes(SETTLED, 15.0), 0, "{:?}", changing.rungs);
    assert!(changing.bytes(SETTLED, 15.0) < 20.0 * KB);
    assert_eq!(changing.rung(), Some(0));
    assert_eq!(
        snapshots.rungs,
        [(0.0, None)],
        "what is asked for singly is what the listener is for"
    );
    assert!(snapshots.arrivals.len() > 20);
    assert!(snapshots.arrivals.iter().all(|a| a.width == 640));
}

#[test]
fn fewer_pictures_than_min_fps_are_enough_where_there_are_no_more() {
    // The camera gives 3, or the listener allows 3.
    let mut slow_camera = World::new(3.0, |_| {});
    let mut few_wanted = World::new(30.0, |listener| listener.max_fps = Some(3));
    for world in [&mut slow_camera, &mut few_wanted] {
        for kind in VIEWERS {
            world.connect(kind, "400 KB/s", constant(400.0 * KB));
        }
        world.connect(Kind::Push, "120 KB/s", constant(120.0 * KB));
        world.run(30.0);
        world.report();
        let (slow, enough) = world.clients.split_last().expect("four");
        for client in enough {
            assert_eq!(client.rungs, [(0.0, Some(0))], "{}", client.name);
        }
        assert!(slow.rung() > Some(0));
        // As it takes all there are, it finds out by trying only what more there is to be had.
        assert!(slow.changes(SETTLED, 30.0) <= 3, "{:?}", slow.rungs);
        assert!(slow.fewest(SETTLED, 30.0) >= 4, "{:?}", slow.rungs);
        assert!(slow.bytes(10.0, 30.0) > 15.0 * KB, "not less than it takes");
    }
}

#[test]
fn a_reload_changes_the_goal_under_living_clients() {
    let mut world = World::new(30.0, |_| {});
    for kind in VIEWERS {
        world.connect(kind, "100 KB/s", constant(100.0 * KB));
    }
    world.connect(Kind::Push, "10 MB/s", constant(10.0 * MB));
    let slow = 0..VIEWERS.len();
    world.run(10.0);
    let before: Vec<_> = world.clients.iter().map(Client::rung).collect();
    world.reconfigure(|listener| listener.min_fps = 1);
    world.run(20.0);
    for (client, before) in world.clients[slow.clone()].iter().zip(before) {
        assert!(
            client.rung() < before,
            "{}: {:?}",
            client.name,
            client.rungs
        );
    }
    world.reconfigure(|listener| listener.min_fps = 20);
    world.run(30.0);
    let lower: Vec<_> = world.clients.iter().map(Client::rung).collect();
    // A ladder with fewer rungs.
    world.reconfigure(|listener| listener.quality = Some(30));
    world.run(35.0);
    for (client, before) in world.clients.iter().zip(lower) {
        assert!(client.rung() <= Some(4).min(before), "{:?}", client.rungs);
    }
    world.reconfigure(|listener| (listener.adaptive, listener.quality) = (false, Some(80)));
    world.run(50.0);
    world.report();
    for client in &world.clients {
        assert_eq!(client.rung(), None, "{}", client.name);
        assert!(client.arrivals.last().is_some_and(|a| a.width == 640));
    }
    world.reconfigure(|listener| (listener.adaptive, listener.min_fps) = (true, 5));
    world.run(60.0);
    for client in &world.clients[slow] {
        assert!(client.rung() > Some(0), "{}", client.name);
        assert!(client.fewest(55.0, 60.0) >= 10, "{}", client.name);
    }
    let fast: Vec<_> = world.clients[VIEWERS.len()]
        .rungs
        .iter()
        .map(|(_, rung)| *rung)
        .collect();
    assert_eq!(
        fast,
        [Some(0), None, Some(0)],
        "nothing to it but the pause"
    );
}

// ---------------------------------------------------------------- the real program

#[test]
fn a_slow_reader_of_the_real_program_gets_smaller_pictures() {
    let camd = Camd::start(
        "[camera]\nsource = \"pattern\"\nwidth = 1280\nheight = 720\nfps = 30\nlinger_s = 0\n\
         [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\nadaptive = true\nmin_fps = 10\n\
         [[listener]]\nprotocol = \"push\"\nbind = \"127.0.0.1:0\"\n",
    );
    let width = |jpeg: &[u8]| inspect(jpeg).expect("a whole JPEG").width;
    let rung = |peer: &str| {
        let state = camd.state();
        let clients = state["clients"].as_array().expect("a list");
        let client = clients.iter().find(|client| client["peer"] == *peer);
        client.unwrap_or_else(|| panic!("no {peer} in {state:#}"))["rung"].clone()
    };
    let mut fast = common::Stream::open(camd.http(), "/stream");
    let mut push = common::connect(camd.push());
    let full = fast.next().jpeg;
    assert_eq!(width(&full), 1280);

    // A third of what min_fps would take at full quality, so that quality alone is not enough.
    let tcp = common::connect_as_over_a_slow_line(camd.http());
    let peer = tcp.local_addr().expect("its address").to_string();
    let paced = Paced::new(tcp, full.len() as f64 * 10.0 / 3.0);
    let mut slow = common::Stream::open_over(paced, "/stream");
    let (mut widths, start) = (Vec::new(), Instant::now());
    // The fast ones read on meanwhile.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) && start.elapsed() < PATIENCE {
                assert_eq!(width(&fast.next().jpeg), 1280, "nobody else moves it");
                assert_eq!(width(&common::push_next(&mut push)), 1280);
            }
        });
        while widths.last().is_none_or(|width| *width == 1280) {
            widths.push(width(&slow.next().jpeg));
            assert!(start.elapsed() < PATIENCE, "{widths:?}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{:?}: {widths:?}", start.elapsed());
    assert_eq!(widths[0], 1280, "it begins with the best");
    assert!(rung(&peer).as_u64().is_some_and(|rung| rung >= 3));
    let address = |tcp: &std::net::TcpStream| tcp.local_addr().expect("its address").to_string();
    assert_eq!(rung(&address(&fast.tcp)), 0);
    assert!(
        rung(&address(&push)).is_null(),
        "its listener is not adaptive"
    );
    let state = camd.state();
    let adaptive = |index: usize| state["listeners"][index]["adaptive"].as_bool();
    assert_eq!([adaptive(0), adaptive(1)], [Some(true), Some(false)]);

    // With a better line it gets them all again.
    slow.tcp.bytes_per_second = 1e9;
    let start = Instant::now();
    while rung(&peer) != 0 || width(&slow.next().jpeg) < 1280 {
        slow.next();
        assert!(start.elapsed() < PATIENCE, "rung {}", rung(&peer));
    }
    let snapshot = camd.get("/snapshot");
    assert_eq!(width(&snapshot.body), 1280);
}
