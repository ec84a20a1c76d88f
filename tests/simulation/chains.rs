//! Viewers of `/stream.mp4` in a world of their own: a camera whose pictures lean on the ones before them, that loses some,
//! changes its parameter sets, breaks, or gives several at once, and viewers over sockets that take a few bytes or all.
//!
//! What must hold, whatever happens:
//! - a viewer never gets a picture without the one on which that leans, nor one that its film's `avcC` does not decode;
//! - every picture is, byte for byte, the one that the camera made;
//! - a viewer with room in its socket that has all pictures gets each new one in the turn in which it came;
//! - once the faults stop, every viewer gets pictures again.

use super::*;
use camd::limits::KEY_EVERY;
use camd::picture::chain::Chain;
use camd::picture::h264::{self, Parameters};

const VIEWERS: usize = 4;
/// A key picture is one in so many.
const KEYS: u32 = 12;

/// x264's for 64x48, baseline.
const SPS: [u8; 21] = [
    0x67, 0x42, 0xC0, 0x0A, 0xDA, 0x11, 0xEC, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00,
    0x05, 0x03, 0xC4, 0x89, 0xA8,
];
/// A picture parameter set but for its last byte, which tells one from the other.
const PPS: [u8; 3] = [0x68, 0xCE, 0x3C];
/// A slice's type and header: of a key picture, and of one that leans on the one before.
const KEY: [u8; 3] = [0x65, 0x88, 0x84];
const OTHER: [u8; 3] = [0x41, 0x9A, 0x21];

/// The only slice of picture `number`, which needs this parameter set. Nowhere two zeros.
fn slice(number: u32, is_key: bool, pps: u8, filling: usize) -> Vec<u8> {
    let mut nal = if is_key { KEY } else { OTHER }.to_vec();
    nal.extend((0..4).map(|digit| (number >> (7 * digit)) as u8 | 0x80));
    nal.push(pps);
    nal.resize(nal.len() + filling, 0x40 | number as u8 & 0x3F);
    nal
}

/// One that a viewer got: its number, whether it is a key picture, and the parameter set that it needs.
fn read_slice(nal: &[u8]) -> (u32, bool, u8) {
    let digits = nal[3..7].iter().rev();
    let number = digits.fold(0, |number, digit| number << 7 | u32::from(digit & 0x7F));
    let (is_key, pps) = (nal[..3] == KEY, nal[7]);
    assert_eq!(nal, slice(number, is_key, pps, nal.len() - 8));
    (number, is_key, pps)
}

/// A picture to be made.
struct Order {
    is_key: bool,
    /// Its parameter sets stand in front of it.
    has_sets: bool,
    filling: usize,
    /// It is damaged on the way, and the source knows.
    is_lost: bool,
}

/// What the world decides about the camera.
#[derive(Default)]
struct Plan {
    next: Vec<Order>,
    breaks: bool,
    /// Of the parameter set that pictures need, and of the one that came last.
    pps: u8,
    told: u8,
    made: u32,
    /// What came at the last capture was all put into the chain.
    all_taken: bool,
    /// A key picture was asked for, and when that was last; and how often.
    wants_key: bool,
    asked: Option<Instant>,
    asks: u64,
    now: Option<Instant>,
}

struct FilmCamera {
    plan: Rc<RefCell<Plan>>,
    splitter: h264::Splitter,
    parameters: Parameters,
    chain: Chain,
    running: bool,
}

impl Source for FilmCamera {
    fn start(&mut self, _: Instant) -> Result<Negotiated, Fault> {
        assert!(!self.running, "started twice");
        self.running = true;
        Ok(negotiated())
    }

    fn stop(&mut self) {
        self.running = false;
        self.chain.cut();
        self.parameters = Parameters::default();
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        assert!(self.running, "captured while off");
        let mut plan = self.plan.borrow_mut();
        if std::mem::take(&mut plan.breaks) {
            return Err(Fault(BROKEN.into()));
        }
        let mut captured = Captured::default();
        plan.all_taken = true;
        for order in std::mem::take(&mut plan.next) {
            plan.made += 1;
            let has_sets = order.is_key || order.has_sets || plan.told != plan.pps;
            plan.told = plan.pps;
            if order.is_lost {
                self.chain.cut();
                captured.bad += 1;
                plan.all_taken = false;
                continue;
            }
            let mut bytes = Vec::new();
            if has_sets {
                let pps = [&PPS[..], &[plan.pps]].concat();
                bytes = [&[0, 0, 0, 1], &SPS[..], &[0, 0, 0, 1], &pps].concat();
            }
            bytes.extend([0, 0, 0, 1]);
            bytes.extend(slice(plan.made, order.is_key, plan.pps, order.filling));
            self.splitter.spare()[..bytes.len()].copy_from_slice(&bytes);
            self.splitter.filled(bytes.len());
            assert!(self.splitter.next_unit().is_none(), "nothing follows");
            let unit = self.splitter.finish().expect("a picture");
            unit.check(&mut self.parameters).expect("nothing is wrong");
            let meta = FrameMeta::taken(now, 64, 48);
            if self.chain.push(meta, unit, &self.parameters) {
                captured.fresh = true;
            } else {
                captured.dropped += 1;
                plan.all_taken = false;
            }
        }
        Ok(captured)
    }

    fn newest(&self) -> Option<Frame<'_>> {
        None
    }

    fn chain(&self) -> Option<&Chain> {
        self.running.then_some(&self.chain)
    }

    fn ask_key(&mut self) {
        let mut plan = self.plan.borrow_mut();
        let now = plan.now.expect("a step");
        let last = plan.asked.replace(now);
        let distance = last.map_or(Duration::MAX, |last| now - last);
        assert!(distance >= KEY_EVERY, "asked again after {distance:?}");
        plan.asks += 1;
        plan.wants_key = true;
    }
}

struct Viewer {
    is_fast: bool,
    wire: Rc<RefCell<Wire>>,
    id: ClientId,
    received: Vec<u8>,
    has_head: bool,
    /// The last byte of the picture parameter set in its film's `avcC`.
    pps: Option<u8>,
    /// The number of the last picture; 0: none yet.
    last: u32,
    is_over: bool,
}

#[derive(Default)]
struct Sum {
    pictures: u64,
    skips: u64,
    films: u64,
    /// Key pictures that the camera was asked for.
    asks: u64,
}

impl Viewer {
    /// Takes bytes from the wire as its manner is.
    fn take_in(&mut self, most: usize, sum: &mut Sum) {
        let mut wire = self.wire.borrow_mut();
        let n = most.min(wire.to_client.len());
        self.received.extend(wire.to_client.drain(..n));
        wire.was_read();
        let is_closed = wire.server_closed || wire.server_shutdown;
        let is_empty = wire.to_client.is_empty();
        drop(wire);
        while !self.is_over && self.parse(sum) {}
        self.is_over |= is_closed && is_empty;
    }

    /// Takes the next thing from what was received; true if there was one.
    fn parse(&mut self, sum: &mut Sum) -> bool {
        if !self.has_head {
            let end = self.received.windows(4).position(|it| it == b"\r\n\r\n");
            let Some(end) = end else { return false };
            // The camera is broken, or gave no key picture for long.
            self.is_over = !self.received.starts_with(b"HTTP/1.1 200 ");
            self.has_head = true;
            self.received.drain(..end + 4);
            return true;
        }
        let Some(size) = self.received.first_chunk::<4>() else {
            return false;
        };
        let size = u32::from_be_bytes(*size) as usize;
        assert!((8..2 * FRAME_BYTES).contains(&size), "a box of {size}");
        if self.received.len() < size {
            return false;
        }
        let whole: Vec<u8> = self.received.drain(..size).collect();
        let content = &whole[8..];
        match &whole[4..8] {
            b"moov" => {
                let at = content.windows(3).position(|it| it == PPS);
                let at = at.expect("avcC has its picture parameter set");
                assert_eq!(self.pps, None, "once only");
                self.pps = Some(content[at + 3]);
                sum.films += 1;
            }
            b"mdat" => {
                let (length, nal) = content.split_first_chunk().expect("a length");
                assert_eq!(u32::from_be_bytes(*length) as usize, nal.len());
                let (number, is_key, pps) = read_slice(nal);
                assert!(number > self.last, "{number} behind {}", self.last);
                assert!(
                    is_key || number == self.last + 1,
                    "{number} leans on what is missing behind {}",
                    self.last
                );
                assert_eq!(Some(pps), self.pps, "picture {number}");
                sum.pictures += 1;
                sum.skips += u64::from(self.last > 0 && number > self.last + 1);
                self.last = number;
            }
            _ => {}
        }
        true
    }
}

struct FilmWorld {
    rng: Rng,
    now: Instant,
    hub: Hub<ServerEnd>,
    camera: Camera<FilmCamera>,
    plan: Rc<RefCell<Plan>>,
    viewers: Vec<Viewer>,
    connected: u8,
    sum: Sum,
}

impl FilmWorld {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let config = config();
        let plan = Rc::new(RefCell::new(Plan {
            pps: 0x80,
            ..Plan::default()
        }));
        let source = FilmCamera {
            plan: Rc::clone(&plan),
            splitter: h264::Splitter::new(2 * FRAME_BYTES),
            parameters: Parameters::default(),
            chain: Chain::new(FRAME_BYTES),
            running: false,
        };
        FilmWorld {
            rng: Rng::with_seed(seed),
            now,
            hub: Hub::new(&config, now, Instant::now),
            camera: Camera::new(source, &config, now),
            plan,
            viewers: Vec::new(),
            connected: 0,
            sum: Sum::default(),
        }
    }

    /// Half of them take all at once.
    fn connect(&mut self, is_fast: bool, calm: bool) {
        let wire = Rc::new(RefCell::new(Wire {
            room: match is_fast {
                true => 8 * ROOM,
                false => self.rng.usize(8_000..40_000),
            },
            short: match is_fast || calm {
                true => 0,
                false => self.rng.u8(0..6),
            },
            ..Wire::default()
        }));
        wire.borrow_mut()
            .to_server
            .extend(b"GET /stream.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        wire.borrow_mut().readable_event = true;
        let end = ServerEnd {
            wire: Rc::clone(&wire),
            rng: self.rng.fork(),
        };
        // Of an address each, as one has its share of the places only.
        self.connected = self.connected % 200 + 1;
        let peer = format!("198.51.100.{}:5", self.connected);
        let peer = peer.parse().expect("short");
        // No room: it comes again.
        let Ok(id) = self.hub.admit(end, peer, 0, self.now) else {
            return;
        };
        self.viewers.push(Viewer {
            is_fast,
            wire,
            id,
            received: Vec::new(),
            has_head: false,
            pps: None,
            last: 0,
            is_over: false,
        });
        self.hub.tell_viewers(&mut self.camera, self.now);
    }

    fn decide(&mut self, calm: bool) {
        let rng = &mut self.rng;
        let mut plan = self.plan.borrow_mut();
        // Not while it was away: those are nobody's.
        plan.next.clear();
        let pictures = if calm { 1 } else { rng.u32(0..4) };
        for _ in 0..pictures {
            // Not every camera makes one when asked.
            let asked = std::mem::take(&mut plan.wants_key) && rng.bool();
            let is_key = asked || rng.u32(0..KEYS) == 0;
            let is_odd = |rng: &mut Rng, rate| !calm && rng.u32(0..rate) == 0;
            let filling = match is_odd(rng, 60) {
                true => FRAME_BYTES,
                false => rng.usize(0..7_000),
            };
            plan.next.push(Order {
                is_key,
                has_sets: is_odd(rng, 10),
                filling,
                is_lost: is_odd(rng, 40),
            });
        }
        if !calm && rng.u32(0..60) == 0 {
            plan.pps = 0x80 | rng.u8(1..16);
        }
        plan.breaks = !calm && rng.u32(0..80) == 0;
    }

    fn step(&mut self, calm: bool) {
        self.now += match !calm && self.rng.u8(0..30) == 0 {
            true => Duration::from_millis(350),
            false => STEP,
        };
        for is_fast in [true, false] {
            let there = self.viewers.iter().filter(|it| it.is_fast == is_fast);
            if there.count() < VIEWERS / 2 {
                self.connect(is_fast, calm);
            }
        }
        self.decide(calm);
        self.plan.borrow_mut().now = Some(self.now);
        for viewer in &self.viewers {
            let mut wire = viewer.wire.borrow_mut();
            let events = (wire.readable_event, wire.writable_event);
            if events != (false, false) && (calm || viewer.is_fast || self.rng.bool()) {
                (wire.readable_event, wire.writable_event) = (false, false);
                drop(wire);
                self.hub.mark(viewer.id, events.0, events.1);
            }
        }
        let made = self.plan.borrow().made;
        let was_live = self.camera.condition() == Condition::Live;
        self.hub.run(&mut self.camera, true, self.now);
        for round in 0.. {
            if !self.hub.turn(self.now, &mut self.camera) {
                break;
            }
            assert!(round < 1000, "a viewer keeps the loop turning without end");
        }
        let is_live = was_live && self.camera.condition() == Condition::Live;
        for viewer in &mut self.viewers {
            let was_current = viewer.last == made && made > 0;
            let most = match viewer.is_fast || calm {
                true => usize::MAX,
                false => self.rng.usize(1..6_000),
            };
            viewer.take_in(most, &mut self.sum);
            let plan = self.plan.borrow();
            assert!(
                !(viewer.is_fast && was_current && is_live && plan.all_taken)
                    || viewer.is_over
                    || viewer.last == plan.made,
                "a ready viewer did not get picture {} in its turn, but {}",
                plan.made,
                viewer.last
            );
            if viewer.is_over {
                let mut wire = viewer.wire.borrow_mut();
                (wire.client_closed, wire.client_gone) = (true, true);
                drop(wire);
                self.hub.mark(viewer.id, true, true);
            }
        }
        self.viewers.retain(|viewer| !viewer.is_over);
        self.hub.release(&mut self.camera);
        self.hub.tell_viewers(&mut self.camera, self.now);
    }
}

/// Runs one seed.
fn run(seed: u64) -> Sum {
    let mut world = FilmWorld::new(seed);
    for _ in 0..FAULTY_STEPS {
        world.step(false);
    }
    // The faults stop. The clock goes on past every back-off, so that the camera comes back.
    for _ in 0..1000 {
        if world.camera.condition() == Condition::Live {
            break;
        }
        world.step(true);
    }
    let condition = world.camera.condition();
    assert_eq!(condition, Condition::Live, "the camera comes back");
    for viewer in &world.viewers {
        viewer.wire.borrow_mut().short = 0;
    }
    let before = world.plan.borrow().made;
    for _ in 0..CALM_STEPS {
        world.step(true);
    }
    assert_eq!(world.viewers.len(), VIEWERS, "all are there");
    let made = world.plan.borrow().made;
    for viewer in &world.viewers {
        assert!(
            viewer.last > before && (!viewer.is_fast || viewer.last == made),
            "fast: {}, {} of {before} to {made}",
            viewer.is_fast,
            viewer.last
        );
    }
    Sum {
        asks: world.plan.borrow().asks,
        ..world.sum
    }
}

#[test]
fn no_viewer_gets_a_picture_without_its_chain() {
    if let Ok(seed) = std::env::var("CAMD_SEED") {
        run(seed.parse().expect("CAMD_SEED is a number"));
        return;
    }
    let full = std::env::var_os("CAMD_FULL").is_some();
    let (first, seeds) = match full {
        true => (0, FULL),
        false => (u64::from(fastrand::u32(..)), SAMPLE),
    };
    let mut sum = Sum::default();
    for seed in first..first + seeds {
        let Ok(one) = std::panic::catch_unwind(|| run(seed)) else {
            panic!("seed {seed} failed; CAMD_SEED={seed} repeats it alone");
        };
        sum.pictures += one.pictures;
        sum.skips += one.skips;
        sum.films += one.films;
        sum.asks += one.asks;
    }
    println!(
        "{seeds} seeds from {first} on: {} pictures in {} films, {} skips, {} key pictures asked for",
        sum.pictures, sum.films, sum.skips, sum.asks
    );
    assert!(sum.pictures > 100 * seeds, "{}", sum.pictures);
    assert!(sum.skips > seeds, "viewers were late: {}", sum.skips);
    assert!(sum.asks > seeds, "{} key pictures asked for", sum.asks);
    assert!(sum.films > VIEWERS as u64 * seeds, "{} films", sum.films);
}
