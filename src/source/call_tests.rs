//! A relay that does as each test says, over a real socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};

use super::super::newest::jpeg_of;
use super::*;
use crate::config::Remote;
use crate::limits::CONNECT_WAIT;
use crate::picture::frame::Picture;

const FRAME_BYTES: usize = 65536;
/// Pictures per second: no test sends some too early.
const EVERY: u16 = u16::MAX;
/// No test waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn record(sender: &str, receiver: &str, content: &str, kind: Kind) -> Vec<u8> {
    let mut out = Vec::new();
    call::write(&mut out, sender, receiver, content, kind);
    out
}

/// Of bob, to hall.
fn from_bob(content: &str, kind: Kind) -> Vec<u8> {
    record("bob", "hall", content, kind)
}

fn picture(sender: &str, jpeg: &[u8]) -> Vec<u8> {
    let mut content = vec![0; call::content_len(jpeg.len())];
    call::write_content(jpeg, &mut content).unwrap();
    let mut head = crate::protocol::Head::new();
    call::picture_head(&mut head, &name(sender), &name("hall"), content.len());
    [&head[..], &content, call::VIDEO_DATA_TYPE].concat()
}

struct World {
    call: Call,
    listener: TcpListener,
    /// The relay's end.
    peer: Option<TcpStream>,
    captured: Captured,
    begun: Instant,
    /// What the faults begin with.
    callee: String,
    relay: String,
}

impl World {
    fn new(password: Option<&str>) -> World {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = CallConfig {
            tls: false,
            fingerprint: None,
            dial: Some(Dial {
                user: name("bob"),
                relay: Remote {
                    host: "127.0.0.1".into(),
                    port,
                },
            }),
            user: Some(name("hall")),
            password: password.and_then(Secret::new),
            password_file: None,
        };
        World {
            call: Call::new(&config, FRAME_BYTES, EVERY),
            listener,
            peer: None,
            captured: Captured::default(),
            begun: Instant::now(),
            callee: format!("bob@127.0.0.1:{port} (call.dial)"),
            relay: format!("127.0.0.1:{port} (call.dial)"),
        }
    }

    /// Started, and connected.
    fn started() -> World {
        let mut world = World::new(None);
        world.start();
        world
    }

    fn start(&mut self) -> Negotiated {
        let negotiated = self.call.start(Instant::now()).unwrap();
        let (peer, _) = self.listener.accept().unwrap();
        peer.set_nonblocking(true).unwrap();
        self.peer = Some(peer);
        negotiated
    }

    /// The bell rings.
    fn ringing() -> World {
        let mut world = World::started();
        world.ring();
        world
    }

    fn ring(&mut self) {
        self.expect(&record("hall", "", "", Kind::Login));
        self.send(&record("", "hall", "", Kind::LoginOk));
        self.expect(&record("hall", "bob", "", Kind::Request));
    }

    fn accepted() -> World {
        let mut world = World::ringing();
        world.send(&from_bob("", Kind::Accept));
        world.until(|world| (world.call.stage == Stage::Accepted).then_some(()));
        world
    }

    /// With a first picture.
    fn talking() -> World {
        let mut world = World::accepted();
        world.send(&picture("bob", &jpeg_of(0, 0)));
        assert_eq!(world.next_picture(), jpeg_of(0, 0));
        world.captured = Captured::default();
        world
    }

    fn peer(&mut self) -> &mut TcpStream {
        self.peer.as_mut().expect("it was started")
    }

    /// Sends all of it, while camd goes on.
    fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.peer().write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.turn().unwrap(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// camd sends exactly that, and nothing behind it so far.
    fn expect(&mut self, bytes: &[u8]) {
        let mut got = Vec::new();
        self.until(|world| {
            world.turn().unwrap();
            got.extend(world.sent().0);
            (got.len() >= bytes.len()).then_some(())
        });
        assert_eq!(got, bytes);
    }

    /// What camd has sent, and whether it has closed the connection.
    fn sent(&mut self) -> (Vec<u8>, bool) {
        let mut got = Vec::new();
        let end = self.peer().read_to_end(&mut got);
        (got, end.is_ok())
    }

    /// Does what an owner does: polls the descriptor, not for longer than the deadline, and captures.
    fn turn(&mut self) -> Result<(), Fault> {
        let fd = self.call.fd().expect("it was started");
        let deadline = self.call.deadline().expect("it was started");
        let wait = deadline.saturating_duration_since(Instant::now());
        // SAFETY: the descriptor stays open over the call, as `self` is borrowed.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        poll(&mut fds, wait.as_millis().min(5) as u16).unwrap();
        let captured = self.call.capture(Instant::now())?;
        self.captured.fresh |= captured.fresh;
        self.captured.dropped += captured.dropped;
        self.captured.bad += captured.bad;
        Ok(())
    }

    fn until<T>(&mut self, mut step: impl FnMut(&mut World) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            self.turn().unwrap();
            if let Some(done) = step(self) {
                return done;
            }
            assert!(start.elapsed() < PATIENCE, "it never happened");
        }
    }

    fn next_picture(&mut self) -> Vec<u8> {
        self.captured.fresh = false;
        self.until(|world| world.captured.fresh.then_some(()));
        self.shown()
    }

    fn shown(&mut self) -> Vec<u8> {
        match self.call.newest().expect("there was a picture").picture {
            Picture::Jpeg(bytes) => bytes.to_vec(),
            Picture::Raw(_) => panic!("raw"),
        }
    }

    fn fault(&mut self) -> String {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "it never happened");
            if let Err(fault) = self.turn() {
                return fault.0;
            }
        }
    }

    /// The fault that these bytes cause, and what is sent in return, up to the end of the connection.
    fn fault_after(&mut self, bytes: &[u8]) -> (String, Vec<u8>) {
        self.send(bytes);
        let fault = self.fault();
        (fault, self.stopped())
    }

    /// What `stop` still sends before it closes the connection.
    fn stopped(&mut self) -> Vec<u8> {
        self.call.stop();
        let start = Instant::now();
        let mut all = Vec::new();
        loop {
            let (got, closed) = self.sent();
            all.extend(got);
            if closed {
                return all;
            }
            assert!(start.elapsed() < PATIENCE, "it is not closed");
        }
    }
}

/// What says that the call is over.
fn end() -> Vec<u8> {
    record("hall", "bob", "", Kind::End)
}

#[test]
fn a_call_byte_for_byte() {
    let mut world = World::new(Some("pä\u{20ac}"));
    let negotiated = world.start();
    assert_eq!(
        (negotiated.format, negotiated.width, negotiated.height),
        (crate::picture::frame::PixelFormat::Mjpeg, 0, 0)
    );
    let dial = world.callee.strip_suffix(" (call.dial)").unwrap();
    assert_eq!(negotiated.description, format!("call of hall to {dial}"));
    world.expect(b"\0\0\0\x08\0h\0a\0l\0l\0\0\0\0\0\0\0\x06\0p\0\xe4\x20\xac\0\0\0\x01");
    world.send(b"\0\0\0\0\0\0\0\x08\0h\0a\0l\0l\0\0\0\0\0\0\0\x02");
    world.expect(b"\0\0\0\x08\0h\0a\0l\0l\0\0\0\x06\0b\0o\0b\0\0\0\0\0\0\0\x36");
    world.send(b"\0\0\0\x06\0b\0o\0b\0\0\0\x08\0h\0a\0l\0l\0\0\0\0\0\0\0\x37");
    world.send(&picture("bob", &jpeg_of(1, 5000)));
    assert_eq!(world.next_picture(), jpeg_of(1, 5000));
    let meta = world.call.newest().unwrap().meta;
    assert_eq!((meta.width, meta.height, meta.live), (64, 48, true));
    world.send(&picture("bob", &jpeg_of(2, 10)));
    assert_eq!(world.next_picture(), jpeg_of(2, 10));
    let end = b"\0\0\0\x08\0h\0a\0l\0l\0\0\0\x06\0b\0o\0b\0\0\0\0\0\0\0\x3a";
    assert_eq!(world.stopped(), end);
    let call = &mut world.call;
    assert!(call.newest().is_none() && call.fd().is_none() && call.deadline().is_none());
    assert_eq!(
        call.capture(Instant::now()).unwrap(),
        Captured::default(),
        "while it is off"
    );
}

#[test]
fn it_rings_again_after_it_was_stopped() {
    let mut world = World::talking();
    world.stopped();
    world.start();
    assert!(world.call.newest().is_none());
    world.ring();
    // The bell is told to stop, too.
    assert_eq!(world.stopped(), end());
    // Half a record that had come is forgotten.
    world.start();
    world.ring();
    world.send(&from_bob("", Kind::Accept)[..20]);
    world.until(|world| (world.call.filled == 20).then_some(()));
    world.stopped();
    world.start();
    world.ring();
    world.stopped();
    // Who has not rung has nothing to end.
    world.start();
    world.expect(&record("hall", "", "", Kind::Login));
    assert_eq!(world.stopped(), b"");
}

#[test]
fn the_host_name_is_the_name() {
    let remote = Remote {
        host: "127.0.0.1".into(),
        port: 1,
    };
    let config = CallConfig {
        tls: false,
        fingerprint: None,
        dial: Some(Dial {
            user: name("bob"),
            relay: remote,
        }),
        ..CallConfig::default()
    };
    let mut call = Call::new(&config, FRAME_BYTES, 30);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(call.user().as_str(), host.trim());
    call.user = None;
    assert_eq!(
        call.start(Instant::now()).unwrap_err().0,
        "the host name is not a valid user name of 1 to 64 characters: set call.user"
    );
}

#[test]
fn of_pictures_that_came_together_the_newest_wins() {
    let mut world = World::talking();
    let all: Vec<u8> = (1..=5)
        .flat_map(|mark| picture("bob", &jpeg_of(mark, 100)))
        .collect();
    world.send(&all);
    assert_eq!(world.next_picture(), jpeg_of(5, 100));
    let captured = world.captured;
    assert_eq!((captured.dropped, captured.bad), (4, 0));
}

#[test]
fn damaged_and_oversized_pictures_are_counted_and_passed_over() {
    let mut world = World::talking();
    let mut truncated = jpeg_of(1, 100);
    truncated.truncate(truncated.len() - 2);
    let text = |text: &str| from_bob(text, Kind::VideoData);
    let all = [
        picture("bob", &truncated),
        text("!!!!"),
        text("AAA\u{20ac}"),
        text(""),
        picture("bob", &jpeg_of(2, FRAME_BYTES + 1)),
        picture("bob", &jpeg_of(3, FRAME_BYTES)),
        picture("bob", b"no JPEG"),
    ];
    world.send(&all.concat());
    assert_eq!(world.next_picture(), jpeg_of(3, FRAME_BYTES));
    world.until(|world| (world.captured.bad == 6).then_some(()));
    assert_eq!(world.shown(), jpeg_of(3, FRAME_BYTES));
}

#[test]
fn padding_behind_a_picture_is_cut_and_huffman_tables_are_put_in() {
    let mut world = World::talking();
    let padded = [jpeg_of(1, 100), vec![0; 50]].concat();
    world.send(&picture("bob", &padded));
    assert_eq!(world.next_picture(), jpeg_of(1, 100));
    let bare = crate::source::newest::bare_jpeg();
    world.send(&picture("bob", &bare));
    assert_eq!(world.next_picture().len(), bare.len() + 420);
}

#[test]
fn records_split_at_every_point_and_at_random() {
    let mut world = World::started();
    let mut rng = fastrand::Rng::with_seed(1);
    let script = [
        record("", "hall", "", Kind::LoginOk),
        record("x", "hall", "any text", Kind::Other(99)),
        from_bob("", Kind::Accept),
        picture("bob", &jpeg_of(1, 20)),
    ];
    for byte in script.concat() {
        world.send(&[byte]);
        world.turn().unwrap();
    }
    world.until(|world| (world.call.stage == Stage::Talking).then_some(()));
    assert_eq!(world.shown(), jpeg_of(1, 20));

    let sizes: Vec<usize> = (0..60).map(|_| rng.usize(20..60_000)).collect();
    let mut shown = Vec::new();
    let mut pending: Vec<u8> = Vec::new();
    for (mark, &size) in sizes.iter().enumerate() {
        pending.extend(picture("bob", &jpeg_of(mark as u8, size)));
        while !pending.is_empty() {
            let some = rng.usize(1..=pending.len().min(100_000));
            world.send(&pending[..some]);
            pending.drain(..some);
            if rng.bool() {
                world.turn().unwrap();
            }
            // What is left of this one comes with the next.
            if rng.u8(..) < 40 {
                break;
            }
        }
    }
    world.send(&pending);
    let last = jpeg_of(59, sizes[59]);
    world.until(|world| {
        shown = world.shown();
        (shown == last).then_some(())
    });
    assert_eq!(world.captured.bad, 0);
}

#[test]
fn one_call_takes_no_more_than_one_records_worth_of_bytes() {
    let mut world = World::talking();
    let small = picture("bob", &jpeg_of(1, 0));
    // As much as the sockets hold: more than one record.
    let many = small.repeat(3 * RECORD / small.len());
    let mut sent = 0;
    while let Ok(n) = world.peer().write(&many[sent % small.len()..]) {
        sent += n;
    }
    assert!(sent > RECORD);
    let now = Instant::now();
    let captured = world.call.capture(now).unwrap();
    assert!(captured.fresh && captured.dropped as usize <= RECORD / small.len());
    assert_eq!(
        world.call.deadline(),
        Some(now),
        "it wants to go on at once"
    );
}

#[test]
fn a_refused_login_says_why_and_what_to_look_at() {
    let mut world = World::started();
    world.expect(&record("hall", "", "", Kind::Login));
    let refused = record("", "hall", "wrong password", Kind::LoginRefused);
    let (fault, sent) = world.fault_after(&refused);
    let relay = &world.relay;
    assert_eq!(
        fault,
        format!("{relay} does not let hall in: wrong password; see call.user and call.password")
    );
    assert_eq!(sent, b"");
}

#[test]
fn every_way_in_which_a_call_does_not_come_about() {
    for (content, kind, what) in [
        ("busy", Kind::Reject, "rejects the call of hall: busy"),
        ("", Kind::Reject, "rejects the call of hall"),
        // The relay's, after 30 s.
        ("", Kind::End, "does not answer the call of hall"),
        ("", Kind::Unavailable, "is not logged in"),
        ("gone", Kind::Unavailable, "is not logged in: gone"),
    ] {
        let mut world = World::ringing();
        let (fault, sent) = world.fault_after(&from_bob(content, kind));
        assert_eq!(fault, format!("{} {what}", world.callee));
        assert_eq!(sent, b"", "it is over already");
        // And again, as after any fault.
        world.start();
        world.ring();
    }
}

#[test]
fn every_way_in_which_a_call_ends() {
    for (kind, what) in [
        (Kind::End, "has ended the call"),
        (Kind::Reject, "rejects the call of hall"),
        (Kind::Unavailable, "is not logged in"),
    ] {
        for mut world in [World::accepted(), World::talking()] {
            let (fault, sent) = world.fault_after(&from_bob("", kind));
            assert_eq!(fault, format!("{} {what}", world.callee));
            assert_eq!(sent, b"");
        }
    }
}

#[test]
fn every_wait_has_an_end() {
    let late = |mut world: World, wait: Duration| {
        // When the stage began.
        let begun = world.call.deadline().unwrap() - wait;
        assert!(world.begun <= begun && begun <= Instant::now());
        assert_eq!(world.call.capture(begun + wait / 2).err(), None);
        let fault = world.call.capture(begun + wait).unwrap_err().0;
        let fault = fault
            .replace(&world.callee, "CALLEE")
            .replace(&world.relay, "RELAY");
        (fault, world.stopped())
    };
    let mut world = World::started();
    assert!(world.call.deadline().unwrap() <= Instant::now() + CONNECT_WAIT);
    world.expect(&record("hall", "", "", Kind::Login));
    let silent = "RELAY does not answer the login: is it a relay?".to_owned();
    assert_eq!(late(world, LOGIN_ANSWER), (silent, vec![]));
    assert_eq!(
        late(World::ringing(), CALL_ANSWER),
        ("CALLEE does not answer the call of hall".to_owned(), end())
    );
    assert_eq!(
        late(World::accepted(), FIRST_PICTURE),
        (
            "CALLEE accepts the call but sends no good picture".to_owned(),
            end()
        )
    );
    assert_eq!(
        late(World::talking(), CAPTURE_STALL),
        ("CALLEE sends no good pictures any more".to_owned(), end())
    );
    // Damaged ones are none.
    let mut world = World::accepted();
    let until = world.call.deadline();
    world.send(&picture("bob", b"no JPEG"));
    world.until(|world| (world.captured.bad == 1).then_some(()));
    assert_eq!(world.call.deadline(), until);
}

#[test]
fn a_connection_that_ends_is_a_fault() {
    let mut world = World::started();
    world.expect(&record("hall", "", "", Kind::Login));
    world.peer = None;
    let what = "ends the connection when hall logs in: is it a relay?";
    assert_eq!(world.fault(), format!("{} {what}", world.relay));
    for mut world in [World::ringing(), World::talking()] {
        world.peer = None;
        let what = "has ended the connection";
        assert_eq!(world.fault(), format!("{} {what}", world.relay));
        world.call.stop();
        world.start();
        world.ring();
    }
    let mut world = World::talking();
    let socket = socket2::SockRef::from(&*world.peer());
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    world.peer = None;
    let what = "is lost: Connection reset by peer (os error 104)";
    assert_eq!(world.fault(), format!("{} {what}", world.relay));
}

#[test]
fn nobody_listens() {
    let mut world = World::new(None);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    world.listener = free;
    let now = Instant::now();
    world.call.start(now).unwrap();
    let fault = world.fault();
    let what = "Connection refused (os error 111)";
    assert_eq!(fault, format!("{}: {what}", world.relay));
    world.call.stop();
}

#[test]
fn what_is_no_relay() {
    let mut world = World::started();
    world.expect(&record("hall", "", "", Kind::Login));
    let (fault, sent) = world.fault_after(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let what = "sends what no relay sends: a name of 1213486160 bytes";
    assert_eq!(fault, format!("{} {what}", world.relay));
    assert_eq!(sent, b"");

    let mut world = World::talking();
    let (fault, sent) = world.fault_after(b"\0\0\0\x03");
    let what = "sends what no relay sends: a text of 3 bytes, which is odd";
    assert_eq!(fault, format!("{} {what}", world.relay));
    assert_eq!(sent, end());

    let mut world = World::talking();
    let (fault, _) = world.fault_after(&record("a\n", "hall", "", Kind::Request));
    assert!(fault.contains("a user's name that is empty"), "{fault}");

    let mut world = World::talking();
    let head = [&b"\0\0\0\x06\0b\0o\0b\0\0\0\0"[..], &[0, 16, 0, 0]].concat();
    let (fault, sent) = world.fault_after(&head);
    let what = "sends too large pictures; allowed: JPEGs of at most 98304 bytes";
    assert_eq!(fault, format!("{} {what}", world.callee));
    assert_eq!(sent, end());
}

#[test]
fn the_longest_record_fits() {
    let mut world = World::accepted();
    // As much Base64 as there is room for, which is too large a picture here.
    let room = RECORD - (4 + 6 + 4 + 8 + 4 + 4);
    let text = "A".repeat(room / 2 / 4 * 4);
    let record = from_bob(&text, Kind::VideoData);
    assert!(record.len() > RECORD - 8);
    world.send(&[record, picture("bob", &jpeg_of(1, 0))].concat());
    assert_eq!(world.next_picture(), jpeg_of(1, 0));
    assert_eq!(world.captured.bad, 1);
}

#[test]
fn others_who_ring_are_told_that_there_is_nothing_to_see() {
    for mut world in [World::ringing(), World::talking()] {
        world.send(&record("eve", "hall", "", Kind::Request));
        world.expect(&record(
            "hall",
            "eve",
            "shows pictures, has none",
            Kind::Reject,
        ));
        let stage = world.call.stage;
        // Nothing of theirs concerns the call.
        for kind in [Kind::Accept, Kind::Reject, Kind::End, Kind::Unavailable] {
            world.send(&record("eve", "hall", "", kind));
        }
        world.send(&picture("eve", &jpeg_of(9, 0)));
        world.send(&record("eve", "hall", "hello", Kind::Other(7)));
        // Behind it.
        world.send(&record("eve", "hall", "", Kind::Request));
        world.expect(&record(
            "hall",
            "eve",
            "shows pictures, has none",
            Kind::Reject,
        ));
        assert_eq!(world.call.stage, stage);
        assert!(!world.captured.fresh || stage == Stage::Talking);
        assert_ne!(
            world.call.newest().map(|frame| match frame.picture {
                Picture::Jpeg(bytes) => bytes.to_vec(),
                Picture::Raw(_) => panic!("raw"),
            }),
            Some(jpeg_of(9, 0))
        );
    }
}

#[test]
fn pictures_before_the_answer_are_not_shown() {
    let mut world = World::ringing();
    world.send(&picture("bob", &jpeg_of(1, 0)));
    world.send(&from_bob("", Kind::Accept));
    world.until(|world| (world.call.stage == Stage::Accepted).then_some(()));
    assert!(world.call.newest().is_none());
    // A second answer changes nothing.
    world.send(&from_bob("", Kind::Accept));
    world.send(&picture("bob", &jpeg_of(2, 0)));
    assert_eq!(world.next_picture(), jpeg_of(2, 0));
    world.send(&from_bob("", Kind::Accept));
    world.send(&from_bob("", Kind::Request));
    world.expect(&record("hall", "bob", "", Kind::Accept));
    assert_eq!(world.call.stage, Stage::Talking);
}

#[test]
fn who_is_rung_up_and_rings_gets_an_answer() {
    let mut world = World::ringing();
    world.send(&from_bob("", Kind::Request));
    world.expect(&record("hall", "bob", "", Kind::Accept));
    assert_eq!(world.call.stage, Stage::Accepted);
    world.send(&picture("bob", &jpeg_of(1, 0)));
    world.next_picture();
    world.send(&from_bob("", Kind::Request));
    world.expect(&record("hall", "bob", "", Kind::Accept));
    assert_eq!(world.call.stage, Stage::Talking);
}

#[test]
fn a_relay_that_rings_without_end_and_reads_nothing_costs_no_memory() {
    let mut world = World::talking();
    // So that they are full soon.
    let link = world.call.dialer.link().unwrap();
    link.socket().set_send_buffer_size(1).unwrap();
    let socket = socket2::SockRef::from(&*world.peer());
    socket.set_recv_buffer_size(1).unwrap();
    let rings = record("eve", "hall", "", Kind::Request).repeat(1000);
    let start = Instant::now();
    // Until the sockets are full and answers find no room any more.
    while world.call.has_room() {
        world.send(&rings);
        world.turn().unwrap();
        assert!(start.elapsed() < PATIENCE, "it never happened");
    }
    for _ in 0..10 {
        world.send(&rings);
        world.turn().unwrap();
    }
    world.send(&picture("bob", &jpeg_of(7, 0)));
    assert_eq!(world.next_picture(), jpeg_of(7, 0));
    // What was said so far is whole, up to the END.
    let mut all = world.sent().0;
    world.until(|world| {
        all.extend(world.sent().0);
        world.call.output.is_empty().then_some(())
    });
    all.extend(world.stopped());
    let reject = record("hall", "eve", "shows pictures, has none", Kind::Reject);
    let rest = all.strip_suffix(&end()[..]).expect("an END");
    assert!(rest.chunks(reject.len()).all(|chunk| chunk == reject));
    // What was not written is forgotten.
    world.start();
    world.ring();
    world.call.put_to_callee(Kind::Accept);
    world.call.written = 5;
    world.call.dialer.stop();
    world.call.stop();
    world.start();
    world.ring();
}

#[test]
fn restarts_leak_no_descriptor() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut world = World::ringing();
    world.stopped();
    let before = open();
    for _ in 0..200 {
        world.start();
        world.ring();
        world.stopped();
    }
    // Other tests of this process open and close some at the same time.
    assert!(open() < before + 100, "{} after {before}", open());
}
