//! Hardware JPEG by a memory-to-memory device: the queue handling, and the hub above it, over a machine whose devices
//! are scripted (`m2m/stand_in.rs`); and camd itself on a machine without one. `tests/lab` has a real driver.

mod common;
#[path = "common/raw.rs"]
mod raw;
#[path = "common/resources.rs"]
mod resources;
#[path = "m2m/stand_in.rs"]
mod stand_in;

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use camd::client::hub::Hub;
use camd::client::link::Stream;
use camd::client::pages;
use camd::client::slot::Peer;
use camd::config::{Config, EncoderKind, ListenerConfig};
use camd::encode::codec::{Codec, Recipe};
use camd::encode::m2m::{self, Encoder, Found, Settings, Trouble};
use camd::limits::{ENCODER_CONTEXTS, ENCODER_STALL, NO_PICTURE_INTERVAL};
use camd::picture::frame::{
    Area, Chroma, Frame, FrameBuf, FrameMeta, Orientation, Picture, PixelFormat, RawPicture,
};
use camd::protocol::ProtocolKind;
use camd::source::camera::{Camera, Condition};
use camd::source::{Captured, Fault, Negotiated, Source};
use camd::system::v4l2::formats::fourcc;
use common::{Camd, PATIENCE, connect, pattern, push_next};
use raw::Raw;
use resources::allocations;
use stand_in::{Back, H264, JPEG, Kind, Machine, YUYV};

const FRAME_BYTES: usize = 64 * 1024;
const WIDTH: u16 = 64;
const HEIGHT: u16 = 48;

// ---------------------------------------------------------------- pictures

thread_local! {
    // Making one takes longer than making a JPEG.
    static CODEC: RefCell<Codec> = RefCell::new(Codec::new());
}

/// `chroma`: as the codec has it by itself, unless it is told.
fn encode(raw: &RawPicture<'_>, quality: u8, chroma: Option<Chroma>, out: &mut FrameBuf) {
    let recipe = Recipe::at(quality);
    let recipe = recipe.coloured(chroma.unwrap_or(recipe.chroma));
    CODEC
        .with(|codec| codec.borrow_mut().make(&Picture::Raw(*raw), &recipe, out))
        .expect("a JPEG");
}

fn by_codec(raw: &RawPicture<'_>, quality: u8) -> Vec<u8> {
    let mut jpeg = FrameBuf::new(4 * FRAME_BYTES);
    encode(raw, quality, None, &mut jpeg);
    jpeg.as_slice().to_vec()
}

/// The JPEG of the camera's picture number `n`.
fn jpeg_of(n: u64, quality: u8) -> Vec<u8> {
    let mut raw = Raw::new(PixelFormat::Yuyv, WIDTH, HEIGHT, 0);
    raw.draw(n);
    by_codec(&raw.lend(), quality)
}

fn meta(sequence: u64, now: Instant, width: u16, height: u16) -> FrameMeta {
    FrameMeta {
        sequence,
        captured: now,
        wall: Duration::from_secs(sequence),
        width,
        height,
        orientation: Orientation::UPRIGHT,
        exif: Orientation::UPRIGHT,
        crop: None,
        live: true,
    }
}

// ---------------------------------------------------------------- one encoder

fn open(machine: &Machine, raw: &RawPicture<'_>, quality: u8) -> Result<Encoder, Trouble> {
    let found = m2m::find(&*machine.nodes(), raw.format, &m2m::JPEG).expect("there is one");
    let nodes = machine.nodes();
    let settings = Settings {
        quality: Some(quality),
        chroma: None,
    };
    Encoder::open(&*nodes, &found, m2m::JPEG, raw, &settings, FRAME_BYTES)
}

/// An encoder of a machine with one such device, and the number of its context.
fn encoder(kind: Kind, raw: &RawPicture<'_>) -> (Machine, Encoder, usize) {
    let machine = Machine::new(vec![kind]);
    let encoder = open(&machine, raw, 70).expect("an encoder");
    let [(number, Some(70))] = machine.world().streaming()[..] else {
        panic!(
            "one context at that quality: {:?}",
            machine.world().streaming()
        );
    };
    (machine, encoder, number)
}

#[test]
fn the_device_gets_exactly_the_picture_whatever_the_layouts() {
    use PixelFormat::{Grey, Nv12, Rgb24, Yu12, Yuyv};
    let codes: [(&[u8; 4], PixelFormat); 7] = [
        (b"YUYV", Yuyv),
        (b"YU12", Yu12),
        (b"YM12", Yu12),
        (b"NV12", Nv12),
        (b"NM12", Nv12),
        (b"GREY", Grey),
        (b"RGB3", Rgb24),
    ];
    for (code, format) in codes {
        for (width, height) in [(64, 48), (50, 34), (33, 17)] {
            for (side, stride) in [(1, 1), (1, 64), (16, 1), (16, 64), (2, 32)] {
                for padding in [0, 24] {
                    let kind = Kind {
                        raw: vec![fourcc(code)],
                        side,
                        stride,
                        ..Kind::encoder()
                    };
                    let mut raw = Raw::new(format, width, height, padding);
                    let (machine, mut encoder, number) = encoder(kind, &raw.lend());
                    let mut out = FrameBuf::new(FRAME_BYTES);
                    for n in 1..4 {
                        raw.draw(n);
                        let now = Instant::now();
                        let about = meta(n, now, width, height);
                        encoder.submit(&raw.lend(), &about, now).expect("taken");
                        assert_eq!(encoder.advance(now, &mut out), Ok(None));
                        machine.world().finish(number, Back::Good);
                        assert_eq!(encoder.advance(now, &mut out), Ok(Some(about)));
                        assert!(!encoder.is_busy());
                        assert!(
                            out.as_slice() == by_codec(&raw.lend(), 70),
                            "{} {width}x{height} padded by {padding}, device {side} {stride}",
                            code.escape_ascii()
                        );
                    }
                    drop(encoder);
                    assert_eq!(machine.world().open(), 0);
                }
            }
        }
    }
}

#[test]
fn the_device_gets_the_part_that_is_shown_and_nothing_else() {
    for (code, format) in [
        (b"YUYV", PixelFormat::Yuyv),
        (b"YU12", PixelFormat::Yu12),
        (b"NV12", PixelFormat::Nv12),
        (b"RGB3", PixelFormat::Rgb24),
    ] {
        for (side, stride) in [(1, 1), (16, 64), (2, 32)] {
            for area in [(6, 4, 40, 32), (3, 5, 33, 17), (14, 31, 50, 17)] {
                let (x, y, width, height) = area;
                let area = Area {
                    x,
                    y,
                    width,
                    height,
                };
                let kind = Kind {
                    raw: vec![fourcc(code)],
                    side,
                    stride,
                    ..Kind::encoder()
                };
                let mut raw = Raw::new(format, 64, 48, 8);
                raw.draw(7);
                let part = raw.lend().crop(area);
                let (machine, mut encoder, number) = encoder(kind, &part);
                let mut out = FrameBuf::new(FRAME_BYTES);
                let now = Instant::now();
                let about = meta(1, now, width, height);
                encoder.submit(&part, &about, now).expect("taken");
                machine.world().finish(number, Back::Good);
                encoder.advance(now, &mut out).expect("a JPEG");
                assert!(out.as_slice() == by_codec(&part, 70), "{format:?} {area}");
            }
        }
    }
}

#[test]
fn a_device_that_insists_on_more_buffers_and_does_not_copy_time_stamps_will_do() {
    let raw = Raw::new(PixelFormat::Yuyv, WIDTH, HEIGHT, 0);
    let kind = Kind {
        buffers: 3,
        dates: false,
        ..Kind::encoder()
    };
    let (machine, mut encoder, number) = encoder(kind, &raw.lend());
    let mut out = FrameBuf::new(FRAME_BYTES);
    let now = Instant::now();
    for n in 1..10 {
        let about = meta(n, now, WIDTH, HEIGHT);
        encoder.submit(&raw.lend(), &about, now).expect("taken");
        machine.world().finish(number, Back::Good);
        assert_eq!(encoder.advance(now, &mut out), Ok(Some(about)));
    }
}

/// The calls of an opening, as the stand-in names them.
const OPENING: [&str; 11] = [
    "open",
    "VIDIOC_S_FMT coded",
    "VIDIOC_S_FMT raw",
    "VIDIOC_S_SELECTION",
    "VIDIOC_S_EXT_CTRLS",
    "VIDIOC_REQBUFS raw",
    "VIDIOC_REQBUFS coded",
    "VIDIOC_QBUF coded",
    "VIDIOC_STREAMON raw",
    "VIDIOC_STREAMON coded",
    "too many buffers",
];

#[test]
fn each_call_that_fails_at_opening_is_told_and_leaves_nothing_open() {
    for call in OPENING {
        let kind = Kind {
            // So that it has to be told where the picture is.
            side: 256,
            buffers: if call == "too many buffers" { 33 } else { 1 },
            ..Kind::encoder()
        };
        let machine = Machine::new(vec![kind]);
        let raw = Raw::new(PixelFormat::Yuyv, WIDTH, HEIGHT, 0);
        let found = m2m::find(&*machine.nodes(), raw.format, &m2m::JPEG).expect("there is one");
        machine.world().fails = Some(call);
        let nodes = machine.nodes();
        let settings = Settings {
            quality: Some(70),
            chroma: None,
        };
        let opened = Encoder::open(&*nodes, &found, m2m::JPEG, &raw.lend(), &settings, 1000);
        let Err(Trouble(why)) = opened else {
            panic!("{call} failed, and nobody noticed");
        };
        let call = match call {
            "too many buffers" => "VIDIOC_REQBUFS gave 33 buffers",
            call => call,
        };
        assert!(
            why.contains("stand-in 0: ") && why.contains("/dev/video0") && why.contains(call),
            "{why}"
        );
        assert_eq!(machine.world().open(), 0, "{call}");
    }
}

#[test]
fn whatever_is_wrong_with_what_comes_back_is_told() {
    let raw = Raw::new(PixelFormat::Yuyv, WIDTH, HEIGHT, 0);
    for (how, text) in [
        (Back::Flagged, "flagged"),
        (Back::RawFlagged, "flagged"),
        (Back::Empty, "not a JPEG"),
        (Back::Garbage, "not a JPEG"),
        (Back::Truncated, "truncated"),
        (Back::Beyond, "1073741824 bytes"),
        (Back::OtherSize, "16x16 for a picture of 64x48"),
        (Back::Oversized, "limits.frame_bytes"),
        (Back::Stale, "another picture"),
        (Back::Twice, "coded buffer 0"),
        (Back::RawTwice, "raw buffer 0"),
        (Back::NoSuchBuffer, "coded buffer 77"),
        (Back::CodedOnly, "not back after 1 s"),
        (Back::RawOnly, "not back after 1 s"),
        (Back::Never, "not back after 1 s"),
    ] {
        let (machine, mut encoder, number) = encoder(Kind::encoder(), &raw.lend());
        let mut out = FrameBuf::new(FRAME_BYTES);
        let now = Instant::now();
        let about = meta(1, now, WIDTH, HEIGHT);
        // Once good before.
        encoder.submit(&raw.lend(), &about, now).expect("taken");
        machine.world().finish(number, Back::Good);
        assert_eq!(encoder.advance(now, &mut out), Ok(Some(about)));

        encoder.submit(&raw.lend(), &about, now).expect("taken");
        machine.world().finish(number, how);
        let late = text.starts_with("not back");
        if late {
            assert_eq!(encoder.deadline(), Some(now + ENCODER_STALL));
            let before = now + ENCODER_STALL - Duration::from_millis(1);
            assert_eq!(encoder.advance(before, &mut out), Ok(None), "{how:?}");
        }
        let at = if late { now + ENCODER_STALL } else { now };
        let Err(Trouble(why)) = encoder.advance(at, &mut out) else {
            panic!("{how:?}: nobody noticed");
        };
        assert!(
            why.starts_with("stand-in 0: /dev/video0: ") && why.contains(text),
            "{how:?}: {why}"
        );
    }
}

#[test]
fn each_call_that_fails_at_work_is_told() {
    let raw = Raw::new(PixelFormat::Yuyv, WIDTH, HEIGHT, 0);
    for call in [
        "VIDIOC_QBUF raw",
        "VIDIOC_DQBUF raw",
        "VIDIOC_DQBUF coded",
        "VIDIOC_QBUF coded",
    ] {
        let (machine, mut encoder, number) = encoder(Kind::encoder(), &raw.lend());
        let mut out = FrameBuf::new(FRAME_BYTES);
        let now = Instant::now();
        let fail = || machine.world().fails = Some(call);
        if call == "VIDIOC_QBUF raw" {
            fail();
        }
        let about = meta(1, now, WIDTH, HEIGHT);
        let done = encoder.submit(&raw.lend(), &about, now).and_then(|()| {
            machine.world().finish(number, Back::Good);
            fail();
            encoder.advance(now, &mut out)
        });
        let Err(Trouble(why)) = done else {
            panic!("{call} failed, and nobody noticed");
        };
        let expected = format!("stand-in 0: {call} on /dev/video0: ");
        assert!(why.starts_with(&expected), "{why}");
    }
}

#[test]
fn the_first_fit_device_is_taken_and_the_others_are_told() {
    let kind = Kind::encoder;
    let camera = Kind {
        m2m: false,
        ..kind()
    };
    let video = Kind {
        coded: vec![H264],
        ..kind()
    };
    let other_format = Kind {
        raw: vec![fourcc(b"NV12")],
        ..kind()
    };
    let by_bitrate = Kind {
        coded: vec![H264, fourcc(b"MJPG")],
        quality: false,
        ..kind()
    };
    let unfit = vec![camera, video, other_format, by_bitrate];
    let fit = Kind {
        coded: vec![fourcc(b"MJPG"), JPEG],
        ..kind()
    };
    let find = |nodes: Vec<Kind>| {
        let machine = Machine::new(nodes);
        let found = m2m::find(&*machine.nodes(), PixelFormat::Yuyv, &m2m::JPEG);
        assert_eq!(machine.world().open(), 0);
        found
    };
    assert_eq!(
        find([unfit.clone(), vec![fit, kind()]].concat()),
        Ok(Found {
            path: "/dev/video4".into(),
            card: "stand-in 4".into(),
            raw: YUYV,
            coded: JPEG,
            chroma: false,
        })
    );
    assert_eq!(
        find(unfit).unwrap_err(),
        "no V4L2 memory-to-memory device that codes yuyv into JPEG or MJPG with a quality control among 4 video nodes; \
         /dev/video1 (stand-in 1): codes into something else, \
         /dev/video2 (stand-in 2): takes no yuyv, \
         /dev/video3 (stand-in 3): has no quality control"
    );
    assert!(
        find(Vec::new())
            .unwrap_err()
            .ends_with("among 0 video nodes")
    );
}

// ---------------------------------------------------------------- the hub above it

/// A connection that takes everything, or nothing.
struct End(Rc<RefCell<Wire>>);

#[derive(Default)]
struct Wire {
    input: Vec<u8>,
    output: Vec<u8>,
    full: bool,
    closed: bool,
}

impl Read for End {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.input.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = buf.len().min(wire.input.len());
        buf[..n].copy_from_slice(&wire.input[..n]);
        wire.input.drain(..n);
        Ok(n)
    }
}

impl Write for End {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        unreachable!("slots write vectored")
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.full {
            return Err(ErrorKind::WouldBlock.into());
        }
        bufs.iter().for_each(|buf| wire.output.extend(&**buf));
        Ok(bufs.iter().map(|buf| buf.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for End {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn drained(&mut self) -> io::Result<bool> {
        Ok(true)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}

/// What the camera does next.
struct Scene {
    next: Option<Result<(), Fault>>,
    /// The number of the last picture.
    made: u64,
    /// Whether a picture is there for late askers.
    keeps: bool,
    jpeg: bool,
}

struct FakeCamera {
    scene: Rc<RefCell<Scene>>,
    newest: Option<FrameMeta>,
    raw: Raw,
    jpeg: Vec<u8>,
}

impl Source for FakeCamera {
    fn start(&mut self, _: Instant) -> Result<Negotiated, Fault> {
        Ok(Negotiated {
            format: PixelFormat::Yuyv,
            width: WIDTH,
            height: HEIGHT,
            fps: None,
            orientation: None,
            cropped: None,
            description: "scripted".into(),
        })
    }

    fn stop(&mut self) {
        self.newest = None;
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        let mut scene = self.scene.borrow_mut();
        let Some(next) = scene.next.take() else {
            return Ok(Captured::default());
        };
        next?;
        scene.made += 1;
        self.raw.draw(scene.made);
        self.newest = Some(FrameMeta {
            orientation: Orientation::UPRIGHT,
            ..meta(0, now, WIDTH, HEIGHT)
        });
        Ok(Captured {
            fresh: true,
            ..Captured::default()
        })
    }

    fn newest(&self) -> Option<Frame<'_>> {
        let picture = if self.scene.borrow().jpeg {
            Picture::Jpeg(&self.jpeg)
        } else {
            Picture::Raw(self.raw.lend())
        };
        self.newest.map(|meta| Frame { meta, picture })
    }

    fn release(&mut self) {
        if !self.scene.borrow().keeps {
            self.newest = None;
        }
    }
}

fn listener(protocol: ProtocolKind, quality: u8) -> ListenerConfig {
    ListenerConfig {
        protocol,
        quality: Some(quality),
        clients: 8,
        ..Config::default().listeners[0].clone()
    }
}

fn push(quality: u8) -> ListenerConfig {
    listener(ProtocolKind::Push, quality)
}

fn config(listeners: Vec<ListenerConfig>) -> Config {
    let mut config = Config::default();
    config.camera.linger = Some(Duration::from_secs(1));
    config.limits.frame_bytes = FRAME_BYTES;
    config.listeners = listeners;
    config
}

struct Bench {
    machine: Machine,
    scene: Rc<RefCell<Scene>>,
    hub: Hub<End>,
    camera: Camera<FakeCamera>,
    config: Config,
    polled: [RawFd; ENCODER_CONTEXTS],
    now: Instant,
}

impl Bench {
    fn new(config: Config, nodes: Vec<Kind>) -> Bench {
        let now = Instant::now();
        let machine = Machine::new(nodes);
        let scene = Rc::new(RefCell::new(Scene {
            next: None,
            made: 0,
            keeps: true,
            jpeg: false,
        }));
        let source = FakeCamera {
            scene: Rc::clone(&scene),
            newest: None,
            raw: Raw::new(PixelFormat::Yuyv, WIDTH, HEIGHT, 0),
            jpeg: jpeg_of(1, 90),
        };
        let hub = Hub::with_nodes(&config, machine.nodes(), now, Instant::now);
        let camera = Camera::new(source, &config, now);
        let mut bench = Bench {
            machine,
            scene,
            hub,
            camera,
            config,
            polled: [0; ENCODER_CONTEXTS],
            now,
        };
        // The camera is on before anybody comes.
        bench.turn();
        bench
    }

    /// As `daemon` does it.
    fn turn(&mut self) {
        self.now += Duration::from_millis(1);
        for round in 0.. {
            assert!(round < 10, "it does not come to rest");
            let readable = self.scene.borrow().next.is_some();
            let fresh = self.hub.run(&mut self.camera, readable, self.now);
            let mut again = self.hub.turn(self.now, &mut self.camera);
            let polled = &mut self.polled;
            again |= self.hub.arm_encoders(|index, fd| {
                polled[index] = fd;
                Ok(())
            });
            if fresh {
                self.hub.release(&mut self.camera);
            }
            self.hub.tell_viewers(&mut self.camera, self.now);
            if !again {
                return;
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.turn();
    }

    /// The camera has its next picture.
    fn shoot(&mut self) {
        self.scene.borrow_mut().next = Some(Ok(()));
        self.turn();
    }

    /// An event on the context's descriptor.
    fn event(&mut self, number: usize, broken: bool) {
        let fd = 1000 + number as RawFd;
        let index = self.polled.iter().position(|&polled| polled == fd);
        let index = index.expect("its descriptor is polled");
        self.hub.mark_encoder(index, broken);
        self.turn();
    }

    fn finish(&mut self, number: usize, how: Back) {
        self.machine.world().finish(number, how);
        self.event(number, false);
    }

    fn connect(&mut self, listener: usize) -> Client {
        let client = Client(Rc::default());
        let end = End(Rc::clone(&client.0));
        let admitted = self.hub.admit(end, Peer::new(), listener, self.now);
        assert!(admitted.is_ok(), "a free slot");
        self.turn();
        client
    }

    /// The one context that is open, and its picture's number.
    fn context(&self) -> usize {
        let streaming = self.machine.world().streaming();
        let [(number, _)] = streaming[..] else {
            panic!("one context: {streaming:?}");
        };
        number
    }

    fn is_busy(&self) -> bool {
        let number = self.context();
        self.machine.world().busy(number)
    }

    fn shown(&self) -> serde_json::Value {
        let mut page = Vec::new();
        pages::state(
            &self.hub.view(),
            &pages::Asker::trusted(),
            &self.camera,
            self.now,
            &mut page,
        )
        .expect("a page");
        let state: serde_json::Value = serde_json::from_slice(&page).expect("JSON");
        state["camera"]["encoder"].clone()
    }
}

#[derive(Clone)]
struct Client(Rc<RefCell<Wire>>);

impl Client {
    fn take(&self) -> Vec<u8> {
        assert!(!self.0.borrow().closed, "the client was lost");
        std::mem::take(&mut self.0.borrow_mut().output)
    }

    /// push: the pictures that came since the last look.
    #[track_caller]
    fn got(&self, pictures: &[(u64, u8)]) {
        let bytes = self.take();
        let expected: Vec<u8> = pictures
            .iter()
            .flat_map(|&(n, quality)| {
                let jpeg = jpeg_of(n, quality);
                let length = (jpeg.len() as u32).to_le_bytes();
                [&length[..], &length, &jpeg].concat()
            })
            .collect();
        assert!(
            bytes == expected,
            "{} bytes in place of {} of {pictures:?}",
            bytes.len(),
            expected.len()
        );
    }

    /// http: one answer, with that picture.
    #[track_caller]
    fn got_snapshot(&self, n: u64, quality: u8) {
        let bytes = self.take();
        assert!(
            bytes.starts_with(b"HTTP/1.1 200 "),
            "{}",
            bytes.escape_ascii()
        );
        assert!(bytes.ends_with(&jpeg_of(n, quality)), "not picture {n}");
    }
}

#[test]
fn the_newest_picture_wins_and_one_is_under_way() {
    let mut b = Bench::new(config(vec![push(60)]), vec![Kind::encoder()]);
    let (first, second) = (b.connect(0), b.connect(0));
    b.shoot();
    assert_eq!(b.shown(), "stand-in 0");
    let device = b.context();
    assert!(b.is_busy());
    first.got(&[]);
    // Two more while the device works: nothing queues.
    b.shoot();
    b.shoot();
    assert_eq!(b.machine.world().submitted, 1);
    b.finish(device, Back::Good);
    // It goes to all who waited, and the newest of now is begun for them, not the one between.
    first.got(&[(1, 60)]);
    second.got(&[(1, 60)]);
    assert_eq!(b.machine.world().submitted, 2);
    // Who comes meanwhile waits for the same.
    let third = b.connect(0);
    third.got(&[]);
    b.finish(device, Back::Good);
    for client in [&first, &second, &third] {
        client.got(&[(3, 60)]);
    }
    // Everybody has the newest: the device rests.
    assert!(!b.is_busy());
    // And who comes now gets it at once, without the device.
    let fourth = b.connect(0);
    fourth.got(&[(3, 60)]);
    assert!(!b.is_busy());
    assert_eq!(b.machine.world().submitted, 2);
    // A device that is quicker than the camera.
    for n in 4..20 {
        b.shoot();
        b.finish(device, Back::Good);
        first.got(&[(n, 60)]);
        fourth.got(&[(n, 60)]);
    }
    assert_eq!(b.machine.world().opened, 2, "once to look, once to work");
    assert_eq!(b.machine.world().listed, 1);
}

#[test]
fn each_quality_has_a_context_and_the_rest_is_the_processors() {
    let small = ListenerConfig {
        width: Some(32),
        ..push(60)
    };
    let roomy = ListenerConfig {
        width: Some(WIDTH),
        ..push(60)
    };
    let listeners = vec![
        push(60),
        roomy,
        small,
        push(50),
        push(40),
        push(30),
        push(20),
    ];
    let mut b = Bench::new(config(listeners), vec![Kind::encoder()]);
    let clients: Vec<Client> = (0..7).map(|listener| b.connect(listener)).collect();
    b.shoot();
    let contexts = b.machine.world().streaming();
    let qualities: Vec<_> = contexts.iter().map(|(_, quality)| *quality).collect();
    assert_eq!(qualities, [Some(60), Some(50), Some(40), Some(30)]);
    assert_eq!(contexts.len(), ENCODER_CONTEXTS);
    assert_eq!(b.machine.world().submitted, 4);
    // The small one and the fifth quality are there at once.
    let jpeg = clients[2].take();
    let found = camd::picture::jpeg::inspect(&jpeg[8..]).expect("a JPEG");
    assert_eq!((found.width, found.height), (32, 24));
    clients[6].got(&[(1, 20)]);
    // The others as the device comes to it, in any order.
    for &(number, _) in contexts.iter().rev() {
        b.finish(number, Back::Good);
    }
    for (client, quality) in [(0, 60), (1, 60), (3, 50), (4, 40), (5, 30)] {
        clients[client].got(&[(1, quality)]);
    }
}

#[test]
fn a_device_that_leaves_the_choice_has_a_context_for_each_sampling() {
    let coloured = |chroma| ListenerConfig { chroma, ..push(80) };
    let listeners = [None, Some(Chroma::Yuv420), Some(Chroma::Yuv422)].map(coloured);
    let mut raw = Raw::new(PixelFormat::Yuyv, WIDTH, HEIGHT, 0);
    raw.draw(1);
    let [coarse, fine] = Chroma::ALL.map(|chroma| {
        let mut jpeg = FrameBuf::new(FRAME_BYTES);
        encode(&raw.lend(), 80, Some(chroma), &mut jpeg);
        jpeg.as_slice().to_vec()
    });
    assert_ne!(coarse, fine);
    for (control, contexts, expected) in [
        // The choice is the device's: one picture for all.
        (None, 1, [&coarse; 3]),
        (Some(Chroma::ALL.to_vec()), 2, [&coarse, &coarse, &fine]),
        // It has the control and not the value: what it makes by itself.
        (Some(vec![Chroma::Yuv420]), 2, [&coarse; 3]),
    ] {
        let kind = Kind {
            chroma: control,
            ..Kind::encoder()
        };
        let mut b = Bench::new(config(listeners.to_vec()), vec![kind]);
        let clients = [0, 1, 2].map(|listener| b.connect(listener));
        b.shoot();
        let streaming = b.machine.world().streaming();
        assert_eq!(streaming.len(), contexts, "{streaming:?}");
        for (number, quality) in streaming {
            assert_eq!(quality, Some(80));
            b.finish(number, Back::Good);
        }
        assert_eq!(b.shown(), "stand-in 0", "it is not given up");
        for (client, expected) in clients.iter().zip(expected) {
            assert!(client.take().ends_with(expected));
        }
    }
}

#[test]
fn after_each_fault_the_processor_goes_on_with_the_same_clients() {
    let faults = [
        Back::Flagged,
        Back::RawFlagged,
        Back::Empty,
        Back::Garbage,
        Back::Truncated,
        Back::Beyond,
        Back::OtherSize,
        Back::Oversized,
        Back::Stale,
        Back::Twice,
        Back::RawTwice,
        Back::NoSuchBuffer,
        Back::CodedOnly,
        Back::RawOnly,
        Back::Never,
    ];
    for how in faults {
        let mut b = Bench::new(config(vec![push(60), push(50)]), vec![Kind::encoder()]);
        let (client, other) = (b.connect(0), b.connect(1));
        b.shoot();
        let [(device, _), (second, _)] = b.machine.world().streaming()[..] else {
            panic!("two contexts");
        };
        b.finish(device, Back::Good);
        b.finish(second, Back::Good);
        client.got(&[(1, 60)]);
        other.got(&[(1, 50)]);

        b.shoot();
        b.shoot();
        b.machine.world().finish(device, how);
        b.event(device, false);
        if matches!(how, Back::CodedOnly | Back::RawOnly | Back::Never) {
            client.got(&[]);
            let late = b.hub.deadline().expect("somebody looks after the device");
            assert!(late <= b.now + ENCODER_STALL);
            b.now = late;
            b.turn();
        }
        // The newest one, as the clients wait; the one that went wrong is all they lost.
        client.got(&[(3, 60)]);
        other.got(&[(3, 50)]);
        assert_eq!(
            b.machine.world().open(),
            0,
            "{how:?}: all contexts are closed"
        );
        assert_eq!(b.shown(), "cpu");
        for n in 4..8 {
            b.shoot();
            client.got(&[(n, 60)]);
        }
        assert_eq!(b.machine.world().listed, 1, "{how:?}: not tried again");

        // A camera that is opened anew gets it back.
        b.scene.borrow_mut().next = Some(Err(Fault("pulled out".into())));
        b.turn();
        b.wait(NO_PICTURE_INTERVAL);
        b.wait(Duration::from_secs(10));
        client.take();
        b.shoot();
        assert_eq!(b.camera.condition(), Condition::Live);
        assert_eq!(b.shown(), "stand-in 0");
        let contexts = b.machine.world().streaming();
        b.finish(contexts[0].0, Back::Good);
        client.got(&[(8, 60)]);
    }
}

#[test]
fn a_device_that_is_pulled_out_or_refuses_is_given_up() {
    let unplug: fn(&mut Bench, usize) = |b, device| b.machine.world().unplug(device);
    let io_error: fn(&mut Bench, usize) = |b, device| b.machine.world().break_streaming(device);
    // Only poll says so.
    let poll_error: fn(&mut Bench, usize) = |_, _| {};
    for (act, busy) in [
        (unplug, true),
        (unplug, false),
        (io_error, true),
        (io_error, false),
        (poll_error, true),
        (poll_error, false),
    ] {
        let mut b = Bench::new(config(vec![push(60)]), vec![Kind::encoder()]);
        let client = b.connect(0);
        b.shoot();
        let device = b.context();
        if !busy {
            b.finish(device, Back::Good);
            client.got(&[(1, 60)]);
        }
        act(&mut b, device);
        b.event(device, true);
        assert_eq!((b.shown(), b.machine.world().open()), ("cpu".into(), 0));
        b.shoot();
        client.got(if busy {
            &[(1, 60), (2, 60)]
        } else {
            &[(2, 60)]
        });
    }
    for call in OPENING.into_iter().chain(["VIDIOC_QBUF raw"]) {
        let kind = Kind {
            side: 256,
            buffers: if call == "too many buffers" { 33 } else { 1 },
            ..Kind::encoder()
        };
        let mut b = Bench::new(config(vec![push(60)]), vec![kind]);
        b.shoot();
        assert_eq!(b.shown(), "stand-in 0");
        b.machine.world().fails = Some(call);
        let client = b.connect(0);
        client.got(&[(1, 60)]);
        assert_eq!((b.shown(), b.machine.world().open()), ("cpu".into(), 0));
        b.shoot();
        client.got(&[(2, 60)]);
    }
}

#[test]
fn pictures_of_a_camera_that_keeps_none_arrive_too() {
    let mut b = Bench::new(config(vec![push(60)]), vec![Kind::encoder()]);
    b.scene.borrow_mut().keeps = false;
    let client = b.connect(0);
    // The context is opened for the first, and that one is gone when it can be polled.
    b.shoot();
    b.shoot();
    let device = b.context();
    b.shoot();
    b.finish(device, Back::Good);
    client.got(&[(2, 60)]);
    b.shoot();
    b.finish(device, Back::Good);
    client.got(&[(4, 60)]);
    b.shoot();
    b.machine.world().finish(device, Back::Garbage);
    b.event(device, false);
    client.got(&[]);
    b.shoot();
    client.got(&[(6, 60)]);
}

#[test]
fn nobody_gets_an_old_picture() {
    let listeners = vec![
        push(60),
        listener(ProtocolKind::Http, 60),
        listener(ProtocolKind::Pull, 60),
    ];
    let mut b = Bench::new(config(listeners), vec![Kind::encoder()]);
    let stream = b.connect(0);
    b.shoot();
    let device = b.context();
    b.finish(device, Back::Good);
    stream.got(&[(1, 60)]);
    // Its socket is full: nobody takes pictures for a while.
    stream.0.borrow_mut().full = true;
    b.shoot();
    b.finish(device, Back::Good);
    for _ in 3..=50 {
        b.shoot();
    }
    assert!(!b.is_busy());
    // A snapshot is of now, not the last that the device has made.
    let browser = b.connect(1);
    browser.0.borrow_mut().input = b"GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let ids: Vec<_> = b.hub.clients().map(|(id, _)| id).collect();
    b.hub.mark(ids[1], true, true);
    b.turn();
    assert!(browser.take().is_empty());
    b.shoot();
    b.finish(device, Back::Good);
    browser.got_snapshot(50, 60);
    // And so is the answer of pull.
    b.shoot();
    let puller = b.connect(2);
    puller.0.borrow_mut().input = b"new_request".to_vec();
    let id = b.hub.clients().last().expect("it is there").0;
    b.hub.mark(id, true, true);
    b.turn();
    assert!(puller.take().is_empty());
    b.finish(device, Back::Good);
    let announced = format!("newImage:{}", jpeg_of(52, 60).len());
    assert_eq!(puller.take(), announced.as_bytes());
    // The one that was stuck begins with a new one too.
    stream.0.borrow_mut().full = false;
    b.hub.mark(ids[0], true, true);
    b.turn();
    stream.got(&[(52, 60)]);
}

#[test]
fn contexts_come_and_go_with_the_camera_and_the_configuration() {
    let mut b = Bench::new(config(vec![push(60)]), vec![Kind::encoder()]);
    assert_eq!(b.shown(), serde_json::Value::Null);
    let client = b.connect(0);
    b.shoot();
    // Read again in the middle of a picture: the same clients, another quality.
    let mut other = b.config.clone();
    other.listeners[0].quality = Some(45);
    b.hub.reconfigure(&other, Instant::now());
    b.turn();
    let streaming = b.machine.world().streaming();
    let [(device, Some(45))] = streaming[..] else {
        panic!("one context for the new quality: {streaming:?}");
    };
    b.finish(device, Back::Good);
    client.got(&[(1, 45)]);
    b.shoot();
    // The camera goes in the middle of a picture.
    b.scene.borrow_mut().next = Some(Err(Fault("pulled out".into())));
    b.turn();
    assert_eq!(b.machine.world().open(), 0);
    assert_eq!(b.shown(), serde_json::Value::Null);
    let card = client.take();
    assert!(camd::picture::jpeg::inspect(&card[8..]).is_ok());
    b.wait(Duration::from_secs(1));
    client.take();
    b.shoot();
    let device = b.context();
    b.finish(device, Back::Good);
    client.got(&[(3, 45)]);
    // The last viewer goes, and after `linger` the camera.
    let id = b.hub.clients().next().expect("one client").0;
    drop(client);
    b.scene.borrow_mut().keeps = true;
    b.hub.shutdown();
    assert_eq!(b.machine.world().open(), 0, "the end closes them too");
    assert!(b.hub.stream(id).is_none());
    let again = b.connect(0);
    b.shoot();
    assert_eq!(b.machine.world().streaming().len(), 1);
    b.hub.shutdown();
    b.turn();
    assert!(again.0.borrow().closed);
    b.shoot();
    b.wait(Duration::from_secs(2));
    assert_eq!(b.camera.condition(), Condition::Idle);
    assert_eq!(
        (b.machine.world().open(), b.shown()),
        (0, serde_json::Value::Null)
    );
}

#[test]
fn what_is_not_for_the_device_does_not_go_there() {
    type Change = fn(&mut Config);
    let changes: [(Change, Vec<Kind>, &str); 4] = [
        (
            |c| c.camera.encoder = EncoderKind::Cpu,
            vec![Kind::encoder()],
            "cpu",
        ),
        (|c| c.camera.timestamp = true, vec![Kind::encoder()], "cpu"),
        (|c| c.camera.rotate = 90, vec![Kind::encoder()], "cpu"),
        (|c| c.camera.encoder = EncoderKind::M2m, Vec::new(), "cpu"),
    ];
    for (number, (change, nodes, shown)) in changes.into_iter().enumerate() {
        let mut config = config(vec![push(60)]);
        let mut b = Bench::new(config.clone(), nodes.clone());
        change(&mut config);
        let now = b.now;
        b.camera.reconfigure(&config);
        b.hub = Hub::with_nodes(&config, b.machine.nodes(), now, Instant::now);
        let client = b.connect(0);
        b.shoot();
        assert!(client.take().len() > 100, "a picture at once ({number})");
        assert_eq!(b.shown(), shown);
        assert_eq!(b.machine.world().opened, 0);
    }
    // A camera that makes JPEGs.
    let mut b = Bench::new(config(vec![push(60)]), vec![Kind::encoder()]);
    b.scene.borrow_mut().jpeg = true;
    let client = b.connect(0);
    b.shoot();
    assert!(client.take().len() > 100, "transcoded at once");
    assert_eq!(
        (b.shown(), b.machine.world().listed),
        (serde_json::Value::Null, 0)
    );
}

#[test]
fn a_picture_by_the_device_costs_no_allocation() {
    let mut b = Bench::new(config(vec![push(60)]), vec![Kind::encoder()]);
    let client = b.connect(0);
    client.0.borrow_mut().output.reserve(4 * FRAME_BYTES);
    b.shoot();
    let device = b.context();
    let picture = |b: &mut Bench| {
        b.finish(device, Back::Good);
        client.0.borrow_mut().output.clear();
        b.shoot();
    };
    (0..5).for_each(|_| picture(&mut b));
    let before = allocations();
    (0..100).for_each(|_| picture(&mut b));
    assert_eq!(allocations() - before, 0, "for 100 pictures");
    assert_eq!(b.machine.world().submitted, 106);
}

// ---------------------------------------------------------------- camd itself

#[test]
fn without_a_device_camd_says_so_and_encodes_by_itself() {
    // The container and CI machines that this runs on have no such device.
    for (encoder, warns) in [("m2m", true), ("auto", false), ("cpu", false)] {
        let with = format!("[camera]\nencoder = \"{encoder}\"");
        let mut camd = Camd::start(&pattern().replace("[camera]", &with));
        let mut push = connect(camd.push());
        for _ in 0..3 {
            push_next(&mut push);
        }
        assert_eq!(camd.state()["camera"]["encoder"], "cpu");
        camd.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(camd.wait(PATIENCE).success());
        let log = camd.final_log();
        let said: Vec<_> = log
            .lines()
            .filter(|line| line.contains("JPEGs are made by the processor"))
            .collect();
        let [said] = said[..] else {
            panic!("not said once with {encoder}:\n{log}");
        };
        assert_eq!(said.contains("WARN"), warns, "{said}");
        let looked =
            said.contains("no V4L2 memory-to-memory device that codes yu12 into JPEG or MJPG");
        assert_eq!(looked, encoder != "cpu", "{said}");
    }
}
