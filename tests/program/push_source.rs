//! A camd whose camera is a push server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::server::{Program, Server, expect_close};
use crate::common::{
    Camd, Folder, LISTENERS, PATIENCE, RAW, Stream, connect, jpeg, pattern, push_next, push_wire,
    python, raw_next, replay,
};
use nix::sys::signal::Signal;

fn camera(address: impl std::fmt::Display, linger: u32) -> String {
    format!(
        "[camera]\nsource = \"push\"\naddress = \"{address}\"\nfps = 240\nlinger_s = {linger}\n"
    )
}

/// camd's connection, with its greeting taken.
fn greeted(server: &Server) -> TcpStream {
    let mut stream = server.connection();
    let mut greeting = [0; 16];
    stream.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, b"hello from camd\n");
    stream
}

fn fault(server: &Server, what: &str) -> String {
    format!("{} (camera.address) {what}", server.address)
}

fn put(stream: &mut TcpStream, jpeg: &[u8]) {
    stream.write_all(&push_wire(jpeg)).expect("camd reads");
}

fn original(port: u16) -> Program {
    let mut command = python("push_server.py");
    command.arg(port.to_string()).stdin(Stdio::null());
    let child = command.spawn().expect("Python runs");
    Program { child, port }
}

#[test]
fn the_original_server_is_killed_and_comes_back() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("its address");
    drop(free);
    let mut camd = Camd::start(&format!("{}{LISTENERS}", camera(address, 0)));
    let state = camd.condition("fault");
    let refused = format!("{address} (camera.address): Connection refused (os error 111)");
    assert_eq!(state["camera"]["reason"], *refused);
    for round in 1..=2 {
        let server = original(address.port());
        camd.condition("live");
        let mut stream = Stream::open(camd.http(), "/stream");
        let mut before = Vec::new();
        for _ in 0..20 {
            let jpeg = stream.next().jpeg;
            let found = camd::picture::jpeg::inspect(&jpeg).expect("a JPEG");
            assert_eq!((found.width, found.height), (320, 240));
            assert_ne!(jpeg, before, "it moves");
            before = jpeg;
        }
        drop(server);
        let state = camd.condition("fault");
        let reason = state["camera"]["reason"].as_str().expect("a text");
        assert!(reason.starts_with(&format!("{address} ")), "{reason}");
        // The viewer stays, and is told.
        while camd::picture::jpeg::inspect(&stream.next().jpeg)
            .expect("a JPEG")
            .width
            == 320
        {}
        assert_eq!(state["camera"]["bad"], 0);
        camd.wait_log("the end of the fault", |log| {
            log.matches("pictures again").count() == round
        });
    }
}

#[test]
fn another_camd_is_the_camera() {
    let (_folder, pictures) = replay(10, 20_000, 30);
    let sockets = Folder::new();
    let unix = format!("unix:{}/push.sock", sockets.path().display());
    let unix_listener = format!("[[listener]]\nprotocol = \"push\"\nbind = {unix:?}\n");
    let first = Camd::start(&format!("{pictures}{LISTENERS}{unix_listener}"));
    let port = first.push().port();
    for address in [
        format!("127.0.0.1:{port}"),
        // Looked up.
        format!("localhost:{port}"),
        unix,
    ] {
        let second = Camd::start(&format!("{}{LISTENERS}{RAW}", camera(&address, 0)));
        let mut push = connect(second.push());
        let mut raw = connect(second.raw());
        for _ in 0..10 {
            for jpeg in [push_next(&mut push), raw_next(&mut raw, 20_000)] {
                let known = (0..10).any(|number| jpeg == crate::common::jpeg(number, 20_000));
                assert!(known, "byte for byte");
            }
        }
        let state = second.condition("live");
        assert_eq!(state["camera"]["source"], "push");
        assert_eq!(state["camera"]["format"], "mjpeg");
        assert_eq!(second.get("/healthz").status, 200);
        // The other one sees a viewer as any other, and one who is gone.
        let viewers = |state: &serde_json::Value| {
            let clients = state["clients"].as_array().expect("a list");
            clients.iter().filter(|c| c["protocol"] == "push").count()
        };
        assert_eq!(viewers(&first.state()), 1);
        drop(second);
        first.wait_state("it leaves", |state| viewers(state) == 0);
    }
}

#[test]
fn a_raw_picture_goes_through_two_boxes_and_a_third_makes_it_smaller() {
    let first = Camd::start(&pattern());
    let smaller = LISTENERS.replace("\"push\"", "\"push\"\nwidth = 160\nquality = 40");
    let second = Camd::start(&format!("{}{smaller}", camera(first.push(), 0)));
    let third = Camd::start(&format!("{}{LISTENERS}", camera(second.push(), 0)));
    let mut stream = Stream::open(third.http(), "/stream");
    for _ in 0..5 {
        let found = camd::picture::jpeg::inspect(&stream.next().jpeg).expect("a JPEG");
        assert_eq!((found.width, found.height), (160, 120));
    }
}

#[test]
fn hostile_headers_cost_a_connection_and_no_memory() {
    let server = Server::new();
    let camd = Camd::start(&format!("{}{LISTENERS}", camera(server.address, 0)));
    let mut stream = greeted(&server);
    let good = jpeg(1, 30_000);
    put(&mut stream, &good);
    camd.condition("live");
    let size = camd.proc_status("VmSize");
    let reasons = [
        ([100, 101], "sends what no push server sends"),
        ([-1, -1], "sends what no push server sends"),
        (
            [i32::MAX, i32::MAX],
            "sends a picture of 2147483647 bytes; allowed: 1048576 (limits.frame_bytes)",
        ),
    ];
    for (lengths, reason) in reasons {
        let header = lengths.map(i32::to_le_bytes).concat();
        stream.write_all(&header).expect("camd reads");
        expect_close(&mut stream);
        let state = camd.condition("fault");
        let told = state["camera"]["reason"].as_str().expect("a text");
        assert!(told.starts_with(&fault(&server, reason)), "{told}");
        // It comes again.
        stream = greeted(&server);
        put(&mut stream, &good);
        camd.condition("live");
    }
    // In KiB; drawing the card takes some.
    let more = camd.proc_status("VmSize").saturating_sub(size);
    assert!(more < 64 * 1024, "{more} KiB more");
}

#[test]
fn garbage_is_no_picture() {
    let server = Server::new();
    let camd = Camd::start(&format!("{}{LISTENERS}", camera(server.address, 0)));
    let mut stream = greeted(&server);
    let good = jpeg(1, 30_000);
    let other = jpeg(2, 30_000);
    put(&mut stream, &good);
    camd.condition("live");
    // In good frames: each is counted, and nothing else happens.
    for garbage in [&b"GIF89a"[..], &good[..20_000], &[0xFF; 5000], &good[1..]] {
        let bad = camd.state()["camera"]["bad"].as_u64();
        // Not too early for the rate: that is not looked at.
        thread::sleep(Duration::from_millis(20));
        put(&mut stream, garbage);
        camd.wait_state("it is counted", |state| {
            state["camera"]["bad"].as_u64() == bad.map(|bad| bad + 1)
        });
        let snapshot = camd.get("/snapshot");
        assert!(snapshot.body == good, "the last good one is shown");
    }
    put(&mut stream, &other);
    camd.wait_state("the next one", |_| camd.get("/snapshot").body == other);
    // Without them.
    stream
        .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
        .expect("camd reads");
    expect_close(&mut stream);
    let state = camd.condition("fault");
    let told = fault(
        &server,
        "sends what no push server sends: \"HTTP/1.1\" in place of the same length twice",
    );
    assert_eq!(state["camera"]["reason"], *told);
}

#[test]
fn who_stops_within_a_picture_is_left_and_who_is_slow_is_not() {
    let server = Server::new();
    let camd = Camd::start(&format!("{}{LISTENERS}", camera(server.address, 0)));
    let mut stream = greeted(&server);
    let picture = jpeg(1, 30_000);
    // Some three seconds for one picture. Nobody waits for it.
    for piece in push_wire(&picture).chunks(1000) {
        stream.write_all(piece).expect("camd reads");
        thread::sleep(Duration::from_millis(100));
        assert_eq!(camd.state()["camera"]["bad"], 0);
    }
    camd.condition("live");
    assert!(camd.get("/snapshot").body == picture, "byte for byte");
    let half = &push_wire(&picture)[..15_000];
    stream.write_all(half).expect("camd reads");
    let stopped = Instant::now();
    expect_close(&mut stream);
    assert!(
        stopped.elapsed() > Duration::from_secs(4),
        "it is left early"
    );
    let state = camd.condition("fault");
    let told = fault(&server, "stopped within a picture");
    assert_eq!(state["camera"]["reason"], *told);
    // Its half is forgotten.
    let mut stream = greeted(&server);
    let next = jpeg(2, 30_000);
    put(&mut stream, &next);
    camd.condition("live");
    assert!(camd.get("/snapshot").body == next, "byte for byte");
}

#[test]
fn it_connects_for_viewers_and_leaves_after_the_last_one() {
    let server = Server::new();
    let camd = Camd::start(&format!("{}{LISTENERS}", camera(server.address, 1)));
    // To see what is there.
    let mut stream = greeted(&server);
    put(&mut stream, &jpeg(1, 30_000));
    expect_close(&mut stream);
    camd.condition("idle");
    for round in 2..4 {
        let picture = jpeg(round, 30_000);
        let snapshot = thread::scope(|scope| {
            let snapshot = scope.spawn(|| camd.get("/snapshot"));
            stream = greeted(&server);
            put(&mut stream, &picture);
            snapshot.join().expect("an answer")
        });
        assert!(snapshot.status == 200 && snapshot.body == picture);
        expect_close(&mut stream);
    }
}

#[test]
fn a_reload_goes_to_another_server() {
    let [one, other] = [(); 2].map(|()| Server::new());
    let mut camd = Camd::start(&format!("{}{LISTENERS}", camera(one.address, 0)));
    let mut stream = greeted(&one);
    put(&mut stream, &jpeg(1, 30_000));
    let mut viewer = Stream::open(camd.http(), "/stream");
    viewer.next();
    let config = format!("{}{LISTENERS}", camera(other.address, 0));
    std::fs::write(camd.config_path(), config).expect("the configuration");
    camd.signal(Signal::SIGHUP);
    expect_close(&mut stream);
    let mut stream = greeted(&other);
    let picture = jpeg(2, 30_000);
    put(&mut stream, &picture);
    assert!(viewer.next().jpeg == picture, "the viewer stays");
    camd.wait_log("the server is named", |log| {
        log.contains(&format!("camera: pictures of {}", other.address))
    });
}

/// The header says that it has this size.
fn resized(jpeg: &[u8], sof: u8, width: u16, height: u16) -> Vec<u8> {
    let mut jpeg = jpeg.to_vec();
    let is_frame = |at: &usize| jpeg[*at..].starts_with(&[0xFF, 0xC0 | (jpeg[at + 1] & 2)]);
    let at = (0..jpeg.len() - 9).find(is_frame).expect("a frame header");
    jpeg[at + 1] = sof;
    jpeg[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    jpeg[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    jpeg
}

/// With so many bytes of comment behind its SOI.
fn padded(jpeg: &[u8], bytes: u16) -> Vec<u8> {
    let mut padded = jpeg[..2].to_vec();
    padded.extend([0xFF, 0xFE]);
    padded.extend(bytes.to_be_bytes());
    padded.resize(padded.len() + usize::from(bytes) - 2, b'x');
    padded.extend(&jpeg[2..]);
    padded
}

/// What costs more to decode than it looks, and pictures whose size is never that of the one before.
fn hostile() -> Vec<Vec<u8>> {
    let progressive = include_bytes!("../data/progressive.jpg");
    let baseline = jpeg(1, 5000);
    let (dri, sos) = ([0xFF, 0xDD, 0, 4, 0xFF, 0xFF], [0xFF, 0xDA]);
    let scan = |jpeg: &[u8]| {
        jpeg.windows(2)
            .rposition(|bytes| bytes == sos)
            .expect("a scan")
    };
    let large = padded(&resized(progressive, 0xC2, 4096, 3072), 60_000);
    // The last scan, again and again.
    let last = scan(&large);
    let mut scans = large[..large.len() - 2].to_vec();
    for _ in 0..200 {
        scans.extend(&large[last..large.len() - 2]);
    }
    scans.extend([0xFF, 0xD9]);
    let at = scan(&baseline);
    let restarts = [&baseline[..at], &dri, &baseline[at..]].concat();
    vec![
        resized(progressive, 0xC2, 8192, 8192),
        padded(&resized(progressive, 0xC2, 8192, 8192), 65_000),
        large,
        scans,
        resized(&baseline, 0xC9, 8192, 8192),
        resized(&baseline, 0xC0, 8192, 8192),
        resized(&restarts, 0xC0, 4096, 3072),
        padded(&resized(progressive, 0xC2, 16, 4096), 60_000),
    ]
}

#[test]
fn hostile_pictures_cost_no_viewer_anything() {
    let server = Server::new();
    let adapted = "[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\nclients = 4\n";
    let camd = Camd::start(&format!(
        "{}{LISTENERS}{adapted}quality = 40\nwidth = 320\n{adapted}adaptive = true\n{adapted}quality = 90\n",
        camera(server.address, 5)
    ));
    let others: Vec<SocketAddr> = camd.listeners[3..]
        .iter()
        .map(|(_, address)| address.parse().expect("an address"))
        .collect();
    assert_eq!(others.len(), 3);
    // They take whatever comes, and are no part of what is measured.
    for address in others {
        let mut stream = connect(address);
        stream
            .write_all(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("sent");
        thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
    }
    // The viewer of what is passed on untouched.
    let viewer = thread::spawn({
        let mut stream = Stream::open(camd.http(), "/stream");
        move || {
            let (began, mut good, mut gap) = (Instant::now(), 0, Duration::ZERO);
            let mut last = began;
            // Until the picture that says that it is over.
            loop {
                let part = stream.next();
                gap = gap.max(last.elapsed());
                last = Instant::now();
                good += u32::from(part.jpeg.len() == 7000);
                if part.jpeg.len() == 9000 {
                    return (good, gap);
                }
            }
        }
    });
    let mut stream = greeted(&server);
    let (hostile, began) = (hostile(), Instant::now());
    let (mut sent, mut slowest) = (0, Duration::ZERO);
    // A good one between two of 20 hostile ones a second.
    while sent < 100 {
        put(&mut stream, &hostile[sent as usize % hostile.len()]);
        thread::sleep(Duration::from_millis(25));
        put(&mut stream, &jpeg(sent, 7000));
        sent += 1;
        thread::sleep(Duration::from_millis(25));
        if sent % 4 == 0 {
            let asked = Instant::now();
            assert_eq!(camd.get("/healthz").status, 200);
            slowest = slowest.max(asked.elapsed());
        }
    }
    let took = began.elapsed();
    // More than once: pictures that come all at once, after a pause, are one to camd.
    while !viewer.is_finished() {
        assert!(began.elapsed() < took + PATIENCE, "the viewer waits");
        put(&mut stream, &jpeg(0, 9000));
        thread::sleep(Duration::from_millis(25));
    }
    let (good, gap) = viewer.join().expect("the viewer is served");
    let camera = &camd.state()["camera"];
    let (bad, refused) = (&camera["bad"], &camera["refused"]);
    eprintln!(
        "{sent} in {took:?}: {good} good ones seen, {gap:?} between two at most, /healthz {slowest:?}, {bad} bad, {refused} refused"
    );
    assert!(refused.as_u64() > Some(10), "{camera:#}");
    assert!(camd.log().contains("pixels at most are decoded"));
    // 67 million pixels, or 200 scans of 12 million, take longer than that even here.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(gap < Duration::from_secs(2), "{gap:?}");
    assert!(good >= sent / 2, "{good} of {sent}");
    let metrics = camd.get("/metrics");
    let line = metrics
        .text()
        .lines()
        .find(|line| line.starts_with("camd_camera_refused_total "));
    assert!(line.is_some_and(|line| !line.ends_with(" 0")), "{line:?}");
}
