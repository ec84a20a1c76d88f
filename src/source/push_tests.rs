//! A server that does as each test says, over a real socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};

use super::super::newest::jpeg_of;
use super::*;
use crate::config::Remote;
use crate::picture::frame::Picture;

const FRAME_BYTES: usize = 65536;
/// Pictures per second: no test sends some too early.
const EVERY: u16 = u16::MAX;
/// No test waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// As `struct.pack("ii", len(jpeg), len(jpeg)) + jpeg`.
fn wire(jpeg: &[u8]) -> Vec<u8> {
    let length = (jpeg.len() as i32).to_le_bytes();
    [&length, &length, jpeg].concat()
}

struct World {
    push: Push,
    peer: TcpStream,
    /// When the connection was made, for camd.
    now: Instant,
    /// What the faults begin with.
    server: String,
    captured: Captured,
}

impl World {
    /// Connected, and greeted.
    fn new() -> World {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let remote = Remote {
            host: address.ip().to_string(),
            port: address.port(),
        };
        let mut push = Push::new(remote.into(), FRAME_BYTES, EVERY);
        let now = Instant::now();
        let negotiated = push.start(now).unwrap();
        assert_eq!(negotiated.description, format!("pictures of {address}"));
        let (peer, _) = listener.accept().unwrap();
        peer.set_nodelay(true).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut world = World {
            push,
            peer,
            now,
            server: format!("{address} (camera.address) "),
            captured: Captured::default(),
        };
        while world.push.stage == Stage::Connecting {
            world.turn(now).unwrap();
        }
        let mut greeting = [0; 16];
        world.peer.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"hello from camd\n");
        world
    }

    /// Does what an owner does at an event.
    fn turn(&mut self, now: Instant) -> Result<(), Fault> {
        let fd = self.push.fd().expect("it was started");
        // SAFETY: the descriptor stays open over the call, as `self` is borrowed.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        poll(&mut fds, 5_u16).unwrap();
        let captured = self.push.capture(now)?;
        self.captured.fresh |= captured.fresh;
        self.captured.dropped += captured.dropped;
        self.captured.bad += captured.bad;
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) {
        self.peer.write_all(bytes).unwrap();
    }

    /// Turns until so many bytes wait for the rest of their picture.
    fn until_filled(&mut self, bytes: usize, now: Instant) {
        let start = Instant::now();
        while self.push.filled != bytes {
            self.turn(now).unwrap();
            assert!(start.elapsed() < PATIENCE, "{}", self.push.filled);
        }
    }

    fn next_picture(&mut self, now: Instant) -> Vec<u8> {
        self.captured.fresh = false;
        let start = Instant::now();
        while !self.captured.fresh {
            self.turn(now).unwrap();
            assert!(start.elapsed() < PATIENCE, "no picture");
        }
        self.shown()
    }

    fn shown(&mut self) -> Vec<u8> {
        match self.push.newest().expect("there was a picture").picture {
            Picture::Jpeg(bytes) => bytes.to_vec(),
            Picture::Raw(_) => panic!("raw"),
        }
    }

    /// The fault that these bytes lead to, without the server's name in front.
    fn fault_after(&mut self, bytes: &[u8]) -> String {
        self.send(bytes);
        self.fault()
    }

    fn fault(&mut self) -> String {
        let start = Instant::now();
        loop {
            if let Err(Fault(text)) = self.turn(Instant::now()) {
                return self.told(&text);
            }
            assert!(start.elapsed() < PATIENCE, "no fault");
        }
    }

    fn told(&self, fault: &str) -> String {
        let told = fault.strip_prefix(&self.server);
        told.unwrap_or_else(|| panic!("{fault}")).to_owned()
    }

    /// What [`Source::capture`] says then, with nothing new to read.
    fn late(&mut self, now: Instant) -> String {
        let Fault(text) = self.push.capture(now).unwrap_err();
        self.told(&text)
    }
}

#[test]
fn pictures_arrive_byte_for_byte_however_they_are_cut() {
    let mut world = World::new();
    // The header written out, once.
    let jpeg = jpeg_of(7, 300);
    world.send(&[0x2C, 1, 0, 0, 0x2C, 1, 0, 0]);
    world.send(&jpeg);
    assert_eq!(world.next_picture(Instant::now()), jpeg);
    let meta = world.push.newest().unwrap().meta;
    assert_eq!((meta.width, meta.height, meta.live), (64, 48, true));
    for (mark, piece) in [(1, 1), (2, 7), (3, 8), (4, 9), (5, 100), (6, 1000)] {
        let jpeg = jpeg_of(mark, 400);
        for piece in wire(&jpeg).chunks(piece) {
            world.send(piece);
            world.turn(Instant::now()).unwrap();
        }
        if world.push.filled > 0 || world.shown() != jpeg {
            let shown = world.next_picture(Instant::now());
            assert_eq!(shown, jpeg, "in pieces of {piece}");
        }
    }
    // The largest that there may be.
    let jpeg = jpeg_of(8, FRAME_BYTES);
    world.send(&wire(&jpeg));
    assert!(world.next_picture(Instant::now()) == jpeg);
    assert_eq!(world.captured.bad, 0);
}

#[test]
fn of_several_pictures_the_last_one_is_taken() {
    let mut world = World::new();
    let now = world.now;
    let jpegs: Vec<_> = (0..5).map(|mark| jpeg_of(mark, 5000)).collect();
    let all: Vec<u8> = jpegs.iter().flat_map(|jpeg| wire(jpeg)).collect();
    // And the beginning of one more.
    world.send(&[&all[..], &wire(&jpegs[0])[..3000]].concat());
    std::thread::sleep(Duration::from_millis(100));
    // One look at all of it.
    world.turn(now).unwrap();
    world.until_filled(3000, now);
    assert!(world.shown() == jpegs[4]);
    assert_eq!((world.captured.dropped, world.captured.bad), (4, 0));
}

#[test]
fn headers_that_cannot_be_are_faults() {
    let limit = FRAME_BYTES as i32;
    let text = |bytes: &[u8]| {
        format!(
            "sends what no push server sends: \"{}\" in place of the same length twice",
            bytes.escape_ascii()
        )
    };
    let large =
        |n: i32| format!("sends a picture of {n} bytes; allowed: 65536 (limits.frame_bytes)");
    for (first, second, large) in [
        (0, 0, None),
        (-1, -1, None),
        (i32::MIN, i32::MIN, None),
        (100, 101, None),
        (100, 0, None),
        (limit + 1, limit, None),
        (limit + 1, limit + 1, Some(large(limit + 1))),
        (i32::MAX, i32::MAX, Some(large(i32::MAX))),
    ] {
        let mut world = World::new();
        let header = [first.to_le_bytes(), second.to_le_bytes()].concat();
        let expected = large.unwrap_or_else(|| text(&header));
        assert_eq!(world.fault_after(&header), expected, "{first} {second}");
        // No room is made for what such a header announces.
        assert_eq!(world.push.input.len(), HEADER + FRAME_BYTES);
    }
    let mut world = World::new();
    let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    assert_eq!(world.fault_after(answer), text(b"HTTP/1.1"));
}

#[test]
fn damaged_pictures_are_counted_and_left_out() {
    let mut world = World::new();
    let [good, next] = [1, 2].map(|mark| jpeg_of(mark, 1000));
    let cut = &good[..good.len() - 2];
    world.send(&[wire(&good), wire(b"x"), wire(cut), wire(b"GIF89a")].concat());
    world.next_picture(Instant::now());
    let start = Instant::now();
    while world.captured.bad < 3 {
        world.turn(Instant::now()).unwrap();
        assert!(start.elapsed() < PATIENCE, "{:?}", world.captured);
    }
    assert!(world.shown() == good);
    world.send(&wire(&next));
    assert!(world.next_picture(Instant::now()) == next);
    assert_eq!((world.captured.bad, world.captured.dropped), (3, 0));
    // Also at the very end.
    world.captured.bad = 0;
    world.send(&wire(cut));
    world.peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(world.fault(), "has ended the connection");
    assert_eq!(world.captured.bad, 1);
}

#[test]
fn the_last_picture_before_the_end_is_shown() {
    let mut world = World::new();
    let now = world.now;
    let jpeg = jpeg_of(1, 1000);
    world.send(&wire(&jpeg));
    world.peer.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(world.next_picture(now) == jpeg);
    assert!(world.push.deadline().unwrap() <= Instant::now());
    assert_eq!(world.fault(), "has ended the connection");

    let mut world = World::new();
    world.send(&wire(&jpeg)[..500]);
    world.peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(world.fault(), "has ended the connection within a picture");
}

#[test]
fn a_silent_server_is_a_fault() {
    // From the beginning: its camera may take a while.
    let mut world = World::new();
    let now = world.now;
    assert_eq!(world.push.deadline(), Some(now + FIRST_PICTURE));
    let almost = now + FIRST_PICTURE - Duration::from_millis(1);
    assert_eq!(world.push.capture(almost), Ok(Captured::default()));
    let late = "sends no picture: is it a push server?";
    assert_eq!(world.late(now + FIRST_PICTURE), late);

    let mut world = World::new();
    let now = world.now + Duration::from_secs(10);
    world.send(&wire(&jpeg_of(1, 1000)));
    world.next_picture(now);
    assert_eq!(world.push.deadline(), Some(now + CAPTURE_STALL));
    let almost = now + CAPTURE_STALL - Duration::from_millis(1);
    assert_eq!(world.push.capture(almost), Ok(Captured::default()));
    let late = "sends no pictures any more";
    assert_eq!(world.late(now + CAPTURE_STALL), late);

    let mut world = World::new();
    let now = world.now + Duration::from_secs(1);
    world.send(&wire(&jpeg_of(1, 1000))[..500]);
    world.until_filled(500, now);
    assert_eq!(world.push.deadline(), Some(now + CAPTURE_STALL));
    assert_eq!(world.late(now + CAPTURE_STALL), "stopped within a picture");
}

#[test]
fn a_slow_server_has_its_time_for_a_picture_and_no_more() {
    let mut world = World::new();
    let begun = world.now;
    let bytes = wire(&jpeg_of(1, 1000));
    let second = Duration::from_secs(1);
    // Something every four seconds, and whole in time.
    for (times, piece) in (1..).zip(bytes.chunks(400)) {
        world.send(piece);
        let left = (times as usize * 400) % bytes.len().next_multiple_of(400);
        world.until_filled(left, begun + times * 4 * second);
    }
    assert!(world.captured.fresh);
    let pictured = begun + 12 * second;
    assert_eq!(world.push.deadline(), Some(pictured + CAPTURE_STALL));
    // The next one is not.
    for times in 1..=3 {
        world.send(&bytes[(times as usize - 1) * 10..][..10]);
        world.until_filled(times as usize * 10, pictured + times * 4 * second);
    }
    let until = pictured + FIRST_PICTURE;
    assert_eq!(world.push.deadline(), Some(until));
    let late = "sends, but no good picture for 15 s";
    assert_eq!(world.late(until), late);
}

#[test]
fn a_flood_does_not_keep_the_caller() {
    let mut world = World::new();
    let mut peer = world.peer.try_clone().unwrap();
    let all = wire(&jpeg_of(1, 5000)).repeat(100);
    let server = std::thread::spawn(move || while peer.write_all(&all).is_ok() {});
    let start = Instant::now();
    while !world.push.more {
        world.turn(Instant::now()).unwrap();
        assert!(start.elapsed() < PATIENCE, "it is never too much");
    }
    // The next look follows at once.
    assert!(world.push.deadline().unwrap() <= Instant::now());
    // What was read at once became one picture.
    assert!(world.captured.fresh && world.captured.dropped > 500);
    world.push.stop();
    server.join().unwrap();
}

#[test]
fn it_starts_again_after_a_fault_and_after_a_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // By name, too.
    for host in ["127.0.0.1", "localhost"] {
        let host = host.to_owned();
        let mut push = Push::new(Remote { host, port }.into(), FRAME_BYTES, EVERY);
        for round in 0..3 {
            let now = Instant::now();
            push.start(now).unwrap();
            let start = Instant::now();
            while push.stage == Stage::Connecting {
                push.capture(now).unwrap();
                assert!(start.elapsed() < PATIENCE);
            }
            let (mut peer, _) = listener.accept().unwrap();
            // Half a picture of the connection before is forgotten.
            let jpeg = jpeg_of(round, 1000);
            peer.write_all(&wire(&jpeg)).unwrap();
            peer.write_all(&wire(&jpeg)[..99]).unwrap();
            while push.filled != 99 {
                push.capture(now).unwrap();
                assert!(start.elapsed() < PATIENCE);
            }
            assert_eq!(push.newest().unwrap().meta.width, 64);
            push.stop();
            assert!(push.fd().is_none() && push.deadline().is_none());
            assert!(push.newest().is_none());
            assert_eq!(push.capture(now), Ok(Captured::default()));
            // The greeting that nobody has read makes it a reset.
            let mut rest = Vec::new();
            match peer.read_to_end(&mut rest) {
                Ok(_) => assert_eq!(rest, GREETING),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
    }
}

#[test]
fn a_unix_socket_is_a_server_too() {
    let name = format!("camd-push-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let fault = format!("unix:{} (camera.address): ", path.display());
    let mut push = Push::new(Address::Unix(path.clone()), FRAME_BYTES, EVERY);
    let now = Instant::now();
    let Fault(text) = push.start(now).unwrap_err();
    let missing = "No such file or directory (os error 2)";
    assert_eq!(text, fault.clone() + missing);

    let listener = UnixListener::bind(&path).unwrap();
    push.start(now).unwrap();
    assert_eq!(push.capture(now), Ok(Captured::default()));
    let (mut peer, _) = listener.accept().unwrap();
    let mut greeting = [0; 16];
    peer.read_exact(&mut greeting).unwrap();
    assert_eq!(greeting, GREETING);
    peer.write_all(&wire(&jpeg_of(1, 1000))).unwrap();
    assert!(push.capture(now).unwrap().fresh);
    drop((peer, listener));
    let Fault(text) = push.capture(now).unwrap_err();
    assert!(text.ends_with("has ended the connection"), "{text}");
    push.stop();
    let Fault(text) = push.start(now).unwrap_err();
    assert_eq!(text, fault + "Connection refused (os error 111)");
    std::fs::remove_file(&path).unwrap();
}
