//! A server that does as each test says, over a real socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, poll};

use super::super::newest::jpeg_of;
use super::*;
use crate::config::{Login, Remote};
use crate::picture::frame::Picture;

const FRAME_BYTES: usize = 65536;
/// Pictures per second: no test sends some too early, and polls follow each other at once.
const EVERY: u16 = u16::MAX;
/// No test waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n--frame\r\n";

fn part(jpeg: &[u8]) -> Vec<u8> {
    dated(jpeg, "")
}

/// With more fields.
fn dated(jpeg: &[u8], fields: &str) -> Vec<u8> {
    let head = format!(
        "Content-Type: image/jpeg\r\nContent-Length: {}\r\n{fields}\r\n",
        jpeg.len()
    );
    [head.as_bytes(), jpeg, b"\r\n--frame\r\n"].concat()
}

fn snapshot(jpeg: &[u8], fields: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n{fields}\r\n",
        jpeg.len()
    );
    [head.as_bytes(), jpeg].concat()
}

fn in_chunks(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in bytes.chunks(size) {
        wire.extend(format!("{:x}\r\n", chunk.len()).bytes());
        wire.extend(chunk);
        wire.extend(b"\r\n");
    }
    wire
}

struct World {
    http: Http,
    listener: TcpListener,
    peer: TcpStream,
    now: Instant,
    /// What the faults begin with.
    place: String,
    captured: Captured,
}

impl World {
    fn new() -> World {
        World::asking("/stream", None, EVERY)
    }

    /// Connected, and asked.
    fn asking(target: &str, login: Option<&str>, fps: u16) -> World {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let url = Url {
            tls: false,
            server: Remote {
                host: address.ip().to_string(),
                port: address.port(),
            },
            target: target.to_owned(),
            login: login.map(|login| Login::from_url(login).unwrap()),
        };
        let mut http = Http::new(url, FRAME_BYTES, fps);
        let now = Instant::now();
        let negotiated = http.start(now).unwrap();
        let shown = format!("http://{address}{target}");
        assert_eq!(negotiated.description, format!("pictures of {shown}"));
        let (peer, _) = listener.accept().unwrap();
        let mut world = World {
            http,
            listener,
            peer,
            now,
            place: format!("{shown} (camera.url) "),
            captured: Captured::default(),
        };
        world.set_up();
        world
    }

    fn set_up(&mut self) {
        self.peer.set_nodelay(true).unwrap();
        self.peer.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// A little after what was last asked for here. Pictures that come closer together than [`EVERY`] are left out.
    fn later(&mut self) -> Instant {
        self.now += Duration::from_millis(1);
        self.now
    }

    /// Does what an owner does at an event.
    fn turn(&mut self, now: Instant) -> Result<(), Fault> {
        let fd = self.http.fd().expect("it was started");
        // SAFETY: the descriptor stays open over the call, as `self` is borrowed.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        poll(&mut fds, 5_u16).unwrap();
        let captured = self.http.capture(now)?;
        self.captured.fresh |= captured.fresh;
        self.captured.dropped += captured.dropped;
        self.captured.bad += captured.bad;
        Ok(())
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut World) -> bool) {
        let start = Instant::now();
        while !done(self) {
            let now = self.later();
            if let Err(fault) = self.turn(now) {
                panic!("{what}: {fault}");
            }
            assert!(start.elapsed() < PATIENCE, "{what}");
        }
    }

    /// The request, whose head is all of it.
    fn request(&mut self) -> String {
        self.peer.set_nonblocking(true).unwrap();
        let mut head = Vec::new();
        self.until("a request", |world| {
            let mut byte = [0; 4096];
            match world.peer.read(&mut byte) {
                Ok(n) => head.extend(&byte[..n]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            head.ends_with(b"\r\n\r\n")
        });
        self.peer.set_nonblocking(false).unwrap();
        String::from_utf8(head).unwrap()
    }

    /// The next connection.
    fn accept(&mut self) {
        self.listener.set_nonblocking(true).unwrap();
        let mut next = None;
        self.until("a connection", |world| {
            next = world.listener.accept().ok();
            next.is_some()
        });
        self.peer = next.unwrap().0;
        self.peer.set_nonblocking(false).unwrap();
        self.set_up();
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.peer.write_all(bytes.as_ref()).unwrap();
    }

    fn next_picture(&mut self) -> Vec<u8> {
        self.captured.fresh = false;
        self.until("a picture", |world| world.captured.fresh);
        self.shown()
    }

    fn shown(&self) -> Vec<u8> {
        match self.http.newest().expect("a picture").picture {
            Picture::Jpeg(jpeg) => jpeg.to_vec(),
            Picture::Raw(_) => panic!("no JPEG"),
        }
    }

    fn next_fault(&mut self) -> String {
        let start = Instant::now();
        loop {
            let now = self.later();
            if let Err(Fault(text)) = self.turn(now) {
                return text;
            }
            assert!(start.elapsed() < PATIENCE, "no fault");
        }
    }

    fn expect_fault(&mut self, what: &str) {
        let fault = self.next_fault();
        let told = fault
            .strip_prefix(&self.place)
            .unwrap_or_else(|| panic!("{fault}"));
        assert_eq!(told, what);
        self.http.stop();
        assert!(self.http.newest().is_none() && self.http.fd().is_none());
    }
}

#[test]
fn it_asks_for_what_the_url_names() {
    let mut world = World::asking("/a%20b", Some("me:s3%20cret"), 5);
    let request = world.request();
    let port = world.listener.local_addr().unwrap().port();
    let begin = format!("GET /a%20b HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
    assert!(request.starts_with(&begin), "{request}");
    assert!(
        request.contains("\r\nAuthorization: Basic bWU6czMgY3JldA==\r\n"),
        "{request}"
    );
    let mut world = World::new();
    assert!(!world.request().contains("Authorization"));
}

#[test]
fn a_stream_cut_at_every_byte() {
    let pictures = [jpeg_of(1, 90), jpeg_of(2, 95)];
    let wire = [STREAM.as_bytes(), &part(&pictures[0]), &part(&pictures[1])].concat();
    for cut in 1..wire.len() {
        let mut world = World::new();
        world.send(&wire[..cut]);
        for _ in 0..2 {
            let now = world.later();
            world.turn(now).unwrap();
        }
        world.send(&wire[cut..]);
        world.until("the last one", |world| {
            world.http.newest().is_some() && world.shown() == pictures[1]
        });
        assert_eq!(world.captured.bad, 0, "{cut}");
    }
}

#[test]
fn a_stream_in_chunks_of_every_size() {
    let pictures = [jpeg_of(1, 90), jpeg_of(2, 95)];
    let [head, delimiter] = [
        "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=frame\r\nTransfer-Encoding: chunked\r\n\r\n",
        "--frame\r\n",
    ];
    let body = [
        delimiter.as_bytes(),
        &part(&pictures[0]),
        &part(&pictures[1]),
    ]
    .concat();
    for size in (1..40).chain([100, 1000]) {
        let mut world = World::new();
        let wire = [head.as_bytes(), &in_chunks(&body, size)].concat();
        for piece in wire.chunks(61) {
            world.send(piece);
        }
        world.until("the last one", |world| {
            world.http.newest().is_some() && world.shown() == pictures[1]
        });
        world.send("0\r\n\r\n");
        world.expect_fault("has ended the connection");
    }
}

#[test]
fn the_newest_of_many_is_shown() {
    let mut world = World::new();
    let mut wire = STREAM.as_bytes().to_vec();
    for mark in 0..40 {
        wire.extend(part(&jpeg_of(mark, 1000)));
    }
    world.send(&wire);
    world.until("the last one", |world| {
        world.http.newest().is_some() && world.shown() == jpeg_of(39, 1000)
    });
    let Captured { dropped, bad, .. } = world.captured;
    assert!(dropped > 0 && bad == 0, "{dropped} {bad}");
}

#[test]
fn damaged_pictures_are_counted_and_the_stream_goes_on() {
    let mut world = World::new();
    world.send(STREAM);
    let good = jpeg_of(1, 500);
    world.send(part(&good));
    assert_eq!(world.next_picture(), good);
    for bad in [&b"GIF89a"[..], &good[..300], b""] {
        let before = world.captured.bad;
        world.send(part(bad));
        world.until("it is counted", |world| world.captured.bad == before + 1);
        assert_eq!(world.shown(), good);
    }
    let other = jpeg_of(2, 500);
    world.send(part(&other));
    assert_eq!(world.next_picture(), other);
}

#[test]
fn a_snapshot_is_asked_for_again_and_again_over_one_connection() {
    let mut world = World::asking("/snapshot", None, EVERY);
    for mark in 1..6 {
        assert!(world.request().starts_with("GET /snapshot HTTP/1.1\r\n"));
        let jpeg = jpeg_of(mark, 3000);
        let wire = match mark % 3 {
            0 => snapshot(&jpeg, ""),
            1 => snapshot(&jpeg, "Connection: keep-alive\r\n"),
            _ => {
                let head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n";
                [head.as_bytes(), &in_chunks(&jpeg, 500), b"0\r\n\r\n"].concat()
            }
        };
        for piece in wire.chunks(700) {
            world.send(piece);
        }
        assert_eq!(world.next_picture(), jpeg);
    }
}

#[test]
fn a_server_that_closes_behind_each_snapshot_is_called_again() {
    for fields in [
        // Said, with a length.
        "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\nContent-Length: 3000\r\n\r\n",
        // The end is the length.
        "HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\n\r\n",
        // Not said.
        "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 3000\r\n\r\n",
    ] {
        let mut world = World::asking("/snapshot", None, EVERY);
        let fd = world.http.fd();
        for mark in 1..6 {
            world.request();
            let jpeg = jpeg_of(mark, 3000);
            world.send([fields.as_bytes(), &jpeg].concat());
            world.peer.shutdown(std::net::Shutdown::Both).unwrap();
            assert_eq!(world.next_picture(), jpeg, "{fields}");
            assert_eq!(world.http.fd(), fd, "it is polled on");
            world.accept();
        }
    }
}

#[test]
fn a_server_that_says_it_closes_is_not_asked_again_on_that_connection() {
    let mut world = World::asking("/snapshot", None, EVERY);
    world.request();
    let jpeg = jpeg_of(1, 3000);
    world.send(snapshot(&jpeg, "Connection: close\r\n"));
    assert_eq!(world.next_picture(), jpeg);
    // It does not close, and camd does.
    assert_eq!(world.peer.read(&mut [0; 10]).unwrap(), 0);
    world.accept();
    world.request();
}

#[test]
fn a_kept_connection_that_closes_under_a_request_is_no_fault() {
    let mut world = World::asking("/snapshot", None, EVERY);
    world.request();
    world.send(snapshot(&jpeg_of(1, 3000), ""));
    world.next_picture();
    world.request();
    world.peer.shutdown(std::net::Shutdown::Both).unwrap();
    world.accept();
    world.request();
    // On a new one it is.
    world.peer.shutdown(std::net::Shutdown::Both).unwrap();
    world.expect_fault("has ended the connection without an answer");
}

#[test]
fn snapshots_are_asked_for_at_the_rate_and_never_two_at_once() {
    let mut world = World::asking("/snapshot", None, 10);
    let start = world.now;
    world.request();
    // It takes its time, and no second request follows.
    let late = start + Duration::from_millis(350);
    world.turn(late).unwrap();
    let jpeg = jpeg_of(1, 300);
    world.send(snapshot(&jpeg, ""));
    world.now = late;
    assert_eq!(world.next_picture(), jpeg);
    // What was missed is not made up for: one at once, and the next one in its time.
    world.request();
    world.send(snapshot(&jpeg_of(2, 300), ""));
    world.next_picture();
    let due = world.http.deadline().expect("a poll");
    let wait = due.saturating_duration_since(world.now);
    assert!(
        wait > Duration::from_millis(80) && wait < Duration::from_millis(101),
        "{wait:?}"
    );
    // Nothing is sent before.
    world.peer.set_nonblocking(true).unwrap();
    world.turn(due - Duration::from_millis(1)).unwrap();
    let none = world.peer.read(&mut [0; 10]).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
    world.now = due;
    world.request();
}

#[test]
fn a_picture_is_as_old_as_its_stamp_says_if_that_makes_sense() {
    let age = |world: &World, taken_in: Instant| {
        let meta = world.http.newest().expect("a picture").meta;
        let wall = wall_clock().saturating_sub(meta.wall);
        (taken_in.saturating_duration_since(meta.captured), wall)
    };
    let stamp = |age: Duration| {
        let at = wall_clock().saturating_sub(age);
        format!(
            "X-Timestamp: {}.{:06}\r\n",
            at.as_secs(),
            at.subsec_micros()
        )
    };
    let mut world = World::new();
    world.send(STREAM);
    for mark in 1..4 {
        let second = Duration::from_secs(1);
        world.send(dated(&jpeg_of(mark, 300), &stamp(second)));
        world.next_picture();
        let (captured, wall) = age(&world, world.now);
        assert!(captured >= second && captured < 4 * second, "{captured:?}");
        assert!(wall >= second && wall < 8 * second, "{wall:?}");
    }
    // One of another clock: from then on none counts.
    for fields in ["X-Timestamp: 77.000000\r\n", &stamp(Duration::from_secs(1))] {
        world.send(dated(&jpeg_of(9, 300), fields));
        world.next_picture();
        assert_eq!(age(&world, world.now).0, Duration::ZERO, "{fields}");
    }
}

#[test]
fn stamps_that_make_no_sense() {
    let wall = Duration::from_secs(1_700_000_000);
    let ms = Duration::from_millis;
    for stamp in [ms(0), wall - ms(5001), wall + ms(101), Duration::MAX] {
        let mut dating = Dating::default();
        assert_eq!(dating.age(Some(stamp), wall), None, "{stamp:?}");
        assert_eq!(dating.age(Some(wall), wall), None, "{stamp:?}");
    }
    let mut dating = Dating::default();
    assert_eq!(dating.age(Some(wall - ms(40)), wall), Some(ms(40)));
    assert_eq!(dating.age(None, wall), None);
    assert!(dating.is_last(Some(wall - ms(40)), wall));
    assert!(!dating.is_last(Some(wall - ms(39)), wall) && !dating.is_last(None, wall));
    // A stamp that stands still is none.
    assert!(!dating.is_last(Some(wall - ms(40)), wall + ms(4961)));
    // The server's clock is a little ahead.
    assert_eq!(dating.age(Some(wall + ms(30)), wall), Some(ms(0)));
    // It steps back.
    assert_eq!(dating.age(Some(wall + ms(29)), wall), None);
    assert_eq!(dating.age(Some(wall + ms(40)), wall + ms(40)), None);
}

#[test]
fn the_same_snapshot_again_is_no_news() {
    let mut world = World::asking("/snapshot", None, EVERY);
    let at = wall_clock();
    let stamp = format!(
        "X-Timestamp: {}.{:06}\r\n",
        at.as_secs(),
        at.subsec_micros()
    );
    world.request();
    world.send(snapshot(&jpeg_of(1, 300), &stamp));
    world.next_picture();
    world.captured = Captured::default();
    world.request();
    world.send(snapshot(&jpeg_of(1, 300), &stamp));
    world.request();
    assert_eq!(world.captured, Captured::default());
}

#[test]
fn redirections_are_followed_on_the_host() {
    let mut world = World::asking("/camera", Some("me:s3cret"), EVERY);
    for (from, location) in [("/camera", "/a/b"), ("/a/b", "c"), ("/a/c", "?x=1")] {
        assert!(
            world
                .request()
                .starts_with(&format!("GET {from} HTTP/1.1\r\n"))
        );
        world.send(format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 5\r\n\r\nthere"
        ));
        world.accept();
    }
    let request = world.request();
    assert!(
        request.starts_with("GET /a/c?x=1 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("Authorization: Basic "), "{request}");
    world.send(STREAM);
    let jpeg = jpeg_of(1, 300);
    world.send(part(&jpeg));
    assert_eq!(world.next_picture(), jpeg);
}

#[test]
fn redirections_that_are_not_followed() {
    for (location, why) in [
        (
            "http://other.example/x?token=s3cret",
            "redirects (301) to \"http://other.example/x?…\": another host; if it is right, write that URL there",
        ),
        (
            "https://127.0.0.1/",
            "redirects (301) to \"https://127.0.0.1/\", by https; if it is right, write that URL there",
        ),
        ("", "redirects (301) to what is no URL"),
        ("/ü", "redirects (301) to what is no URL"),
    ] {
        let mut world = World::new();
        world.request();
        world.send(format!(
            "HTTP/1.1 301 Moved\r\nLocation: {location}\r\n\r\n"
        ));
        world.expect_fault(why);
    }
    let mut world = World::new();
    world.request();
    world.send("HTTP/1.1 301 Moved\r\n\r\n");
    world.expect_fault("redirects (301) without saying where to");
    // In a circle.
    let mut world = World::new();
    for round in 0..4 {
        if round > 0 {
            world.accept();
        }
        world.request();
        world.send("HTTP/1.1 307 Again\r\nLocation: /stream\r\n\r\n");
    }
    world.expect_fault("was reached by 3 redirections, and redirects again (307)");
}

#[test]
fn another_port_of_the_host_is_followed_without_a_login_only() {
    for login in [None, Some("me:s3cret")] {
        let mut world = World::asking("/", login, EVERY);
        world.request();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        world.send(format!(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/s\r\n\r\n"
        ));
        match login {
            None => {
                world.listener = other;
                world.accept();
                assert!(world.request().starts_with("GET /s HTTP/1.1\r\n"));
                world.send(STREAM);
                world.send(part(&jpeg_of(1, 300)));
                world.next_picture();
            }
            Some(_) => world.expect_fault(&format!(
                "redirects (302) to \"http://127.0.0.1:{port}/s\": another port, for which the login was not meant; if it is right, write that URL there"
            )),
        }
    }
}

#[test]
fn refusals_say_what_helps() {
    for (answer, login, told) in [
        (
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"",
            None,
            "wants a login (401 Unauthorized): set camera.user and camera.password",
        ),
        (
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"",
            Some("me:s3cret"),
            "does not take this login (401 Unauthorized): see camera.user and camera.password, or those in the URL",
        ),
        (
            "401 No\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"y\"",
            Some("me:s3cret"),
            "wants a login by Digest (401 No), and camd knows Basic only: see whether the server can be set to that",
        ),
        ("403 Forbidden", None, "answers 403 Forbidden"),
        ("404 Not Found", None, "is not there (404 Not Found)"),
        ("500", None, "answers 500"),
        (
            "503 The camera of this very box is not connected at all",
            None,
            "answers 503 The camera of this very box is not conne…",
        ),
        (
            "200 OK\r\nContent-Type: text/html; charset=utf-8",
            None,
            "is \"text/html; charset=utf-8\", neither a stream nor a picture: see what its page has as the source of the image",
        ),
        (
            "200 OK\r\nContent-Type: multipart/x-mixed-replace",
            None,
            "sends multipart with no boundary in its Content-Type",
        ),
        (
            "200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 65537",
            None,
            "sends a picture of 65537 bytes; allowed: 65536 (limits.frame_bytes)",
        ),
        (
            "200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: gzip, chunked",
            None,
            "sends a transfer coding other than chunked",
        ),
    ] {
        let mut world = World::asking("/x", login, EVERY);
        world.request();
        world.send(format!("HTTP/1.1 {answer}\r\n\r\n"));
        world.expect_fault(told);
    }
}

#[test]
fn what_is_no_server_of_http() {
    for (says, told) in [
        (
            "SSH-2.0-OpenSSH_9.2p1\r\n\r\n".to_owned(),
            "does not speak HTTP, it says \"SSH-2.0-OpenSSH_\"",
        ),
        ("x".repeat(9000), "sends a head of more than 8192 bytes"),
        (
            format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(2000)),
            "sends a head of more than 8192 bytes",
        ),
        ("HTTP/1.1 102 Wait\r\n\r\n".repeat(9), "answers 102 Wait"),
    ] {
        let mut world = World::new();
        world.request();
        world.send(says);
        world.expect_fault(told);
    }
}

#[test]
fn endings_at_every_place() {
    let whole = [STREAM.as_bytes(), &part(&jpeg_of(1, 300))].concat();
    let head = STREAM.len();
    for (cut, told) in [
        (0, "has ended the connection without an answer"),
        (10, "has ended the connection within the head of its answer"),
        (head - 3, "has ended the connection between two pictures"),
        (
            head + 8,
            "has ended the connection within the head of a part",
        ),
        (head + 100, "has ended the connection within a picture"),
    ] {
        let mut world = World::new();
        world.request();
        world.send(&whole[..cut]);
        world.peer.shutdown(std::net::Shutdown::Both).unwrap();
        world.expect_fault(told);
    }
    // The last picture is shown, and the fault comes behind it.
    let mut world = World::new();
    world.request();
    let last = [&whole[..whole.len() - 2], b"--\r\n"].concat();
    world.send(&last);
    assert_eq!(world.next_picture(), jpeg_of(1, 300));
    world.expect_fault("has ended the stream");
    // Half a snapshot.
    for length in ["Content-Length: 300\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut world = World::asking("/snapshot", None, EVERY);
        world.request();
        world.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n{length}\r\n64\r\n"
        ));
        world.peer.shutdown(std::net::Shutdown::Both).unwrap();
        world.expect_fault("has ended the connection within a picture");
    }
}

#[test]
fn a_snapshot_without_end_is_cut_off() {
    for head in [
        "HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
    ] {
        let mut world = World::asking("/snapshot", None, EVERY);
        world.request();
        world.send(head);
        world.send(vec![0; FRAME_BYTES + 200]);
        world
            .expect_fault("sends a picture without end; allowed: 65536 bytes (limits.frame_bytes)");
    }
}

#[test]
fn who_is_silent_or_slow_is_left() {
    let quiet = CAPTURE_STALL + Duration::from_millis(1);
    let first = FIRST_PICTURE + Duration::from_millis(1);
    let half = &part(&jpeg_of(1, 300))[..150];
    for (sent, wait, told) in [
        (&b""[..], first, "does not answer"),
        (
            b"HTTP/1.1 200",
            quiet,
            "stopped within the head of its answer",
        ),
        (STREAM.as_bytes(), quiet, "sends no picture"),
        (
            &[STREAM.as_bytes(), half].concat(),
            quiet,
            "stopped within a picture",
        ),
        (
            &[STREAM.as_bytes(), &part(&jpeg_of(1, 300))].concat(),
            quiet,
            "sends no pictures any more",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\n",
            quiet,
            "stopped within a picture",
        ),
    ] {
        let mut world = World::new();
        world.request();
        world.send(sent);
        for _ in 0..5 {
            let now = world.later();
            world.turn(now).unwrap();
        }
        let deadline = world.http.deadline().expect("patience has an end");
        assert!(deadline <= world.now + wait, "{told}");
        world.now += wait;
        world.expect_fault(told);
    }
    // One that sends without end, and no picture.
    let mut world = World::new();
    world.request();
    world.send(STREAM);
    let begin = world.now;
    let fault = loop {
        world.send(part(b"GIF89a"));
        world.now += Duration::from_secs(1);
        let now = world.now;
        if let Err(Fault(text)) = world.turn(now) {
            break text;
        }
        assert!(world.now < begin + 2 * FIRST_PICTURE, "it is not left");
    };
    assert!(
        fault.ends_with("sends, but no good picture for 15 s"),
        "{fault}"
    );
}

#[test]
fn a_flood_does_not_keep_the_caller() {
    let mut world = World::new();
    world.request();
    world.send(STREAM);
    let flood: Vec<_> = std::iter::repeat_with(|| part(b""))
        .take(400)
        .flatten()
        .collect();
    world.send(&flood);
    std::thread::sleep(Duration::from_millis(50));
    let now = world.later();
    world.turn(now).unwrap();
    assert!(
        world.captured.bad <= STEPS_AT_ONCE / 3 + 1,
        "{}",
        world.captured.bad
    );
    assert_eq!(world.http.deadline(), Some(now), "it goes on at once");
    world.until("all of them", |world| world.captured.bad == 400);
    // Parts that are no pictures are not free either.
    let idle = "Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n\r\n--frame\r\n";
    world.send(idle.repeat(1000));
    std::thread::sleep(Duration::from_millis(50));
    let now = world.later();
    world.turn(now).unwrap();
    assert_eq!(world.http.deadline(), Some(now), "it goes on at once");
    let jpeg = jpeg_of(1, 300);
    world.send(part(&jpeg));
    assert_eq!(world.next_picture(), jpeg);
}

#[test]
fn another_start_forgets_all() {
    let mut world = World::new();
    world.request();
    world.send("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n");
    world.accept();
    world.request();
    world.send(STREAM);
    world.send(&part(&jpeg_of(1, 300))[..200]);
    let now = world.later();
    world.turn(now).unwrap();
    world.http.stop();
    let now = world.later();
    world.http.start(now).unwrap();
    world.accept();
    assert!(world.request().starts_with("GET /stream HTTP/1.1\r\n"));
    world.send(STREAM);
    let jpeg = jpeg_of(2, 300);
    world.send(part(&jpeg));
    assert_eq!(world.next_picture(), jpeg);
}
