//! Bare JPEGs, one behind the other.

mod common;

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use camd::picture::jpeg::{Splitter, inspect};
use common::{
    Camd, PATIENCE, RAW, assert_closed, connect, jpeg, pattern, push_next, raw_next, replay, send,
};

const SIZE: usize = 5000;

/// So many pictures of any size, by their markers.
fn split(stream: &mut TcpStream, count: usize) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::new(1 << 20);
    let mut pictures = Vec::new();
    while pictures.len() < count {
        let got = stream.read(splitter.spare()).expect("pictures");
        assert_ne!(got, 0, "closed after {} pictures", pictures.len());
        splitter.filled(got);
        while let Some(jpeg) = splitter.next_frame() {
            pictures.push(jpeg.to_vec());
        }
    }
    let counts = splitter.counts();
    assert_eq!((counts.bad, counts.garbage), (0, 0));
    pictures
}

#[test]
fn exactly_the_cameras_pictures_and_nothing_between() {
    let (_folder, camera) = replay(10, SIZE, 60);
    let camd = Camd::start(&format!("{camera}{RAW}{}", common::LISTENERS));
    let mut stream = connect(camd.raw());
    let mut last = None;
    for _ in 0..30 {
        let picture = raw_next(&mut stream, SIZE);
        let number = (0..10)
            .find(|&number| picture == jpeg(number, SIZE))
            .expect("one of the camera's pictures, byte for byte");
        assert_ne!(Some(number), last, "the same picture twice");
        last = Some(number);
    }
    let state = camd.state();
    let clients = state["clients"].as_array().expect("a list");
    let of = |protocol: &str| {
        let mut found = clients.iter().filter(|c| c["protocol"] == protocol);
        found.next().expect("there is one").clone()
    };
    assert!(of("raw")["frames"].as_u64() >= Some(29), "{state:#}");
    let metrics = camd.get("/metrics");
    assert!(metrics.text().contains("raw"), "{}", metrics.text());
}

#[test]
fn whatever_a_client_says_is_dropped() {
    let (_folder, camera) = replay(10, SIZE, 60);
    let camd = Camd::start(&format!("{camera}{RAW}"));
    let mut stream = connect(camd.raw());
    for chatter in [
        b"hello!".as_slice(),
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xFF; 100_000],
    ] {
        send(&mut stream, chatter);
        raw_next(&mut stream, SIZE);
    }
    // Nothing more to say is no reason to stop listening.
    stream.shutdown(Shutdown::Write).expect("a half-close");
    for _ in 0..20 {
        raw_next(&mut stream, SIZE);
    }
}

#[test]
fn quality_and_size_are_the_listeners() {
    let small = format!("{RAW}quality = 30\nwidth = 160\nheight = 120\n");
    let camd = Camd::start(&format!("{}{small}{RAW}", pattern()));
    let [small, own] = [3, 4].map(|place: usize| {
        let address = camd.listeners[place].1.parse().expect("TCP");
        split(&mut connect(address), 5)
    });
    // As push has it by default, which encodes as raw does.
    let push = push_next(&mut connect(camd.push()));
    let size = |jpeg: &[u8]| inspect(jpeg).map(|found| (found.width, found.height));
    for jpeg in &small {
        assert_eq!(size(jpeg), Ok((160, 120)));
    }
    for jpeg in &own {
        assert_eq!(size(jpeg), Ok((320, 240)));
        let near = jpeg.len().abs_diff(push.len());
        assert!(near < push.len() / 3, "{} and {}", jpeg.len(), push.len());
    }
    let profiles = &camd.state()["profiles"];
    let all = profiles.as_array().expect("a list");
    let shared = all.iter().find(|profile| profile["quality"] == 80);
    let listeners = &shared.expect("the default")["listeners"];
    let raw = serde_json::json!(4);
    assert!(listeners.as_array().expect("a list").contains(&raw));
}

#[test]
fn no_more_pictures_than_max_fps() {
    let (_folder, camera) = replay(10, SIZE, 60);
    let camd = Camd::start(&format!("{camera}{RAW}max_fps = 5\n"));
    let mut stream = connect(camd.raw());
    raw_next(&mut stream, SIZE);
    let start = Instant::now();
    for _ in 0..5 {
        raw_next(&mut stream, SIZE);
    }
    // A machine that is busy makes it longer only.
    assert!(
        start.elapsed() > Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn an_adaptive_listener_makes_them_smaller_for_the_slow() {
    let keys = "adaptive = true\nmin_fps = 20\n";
    let camd = Camd::start(&format!("{}{RAW}{keys}", pattern()));
    let stream = common::connect_as_over_a_slow_line(camd.raw());
    let mut paced = common::Paced::new(stream, 50e3);
    let start = Instant::now();
    let rung = |camd: &Camd| {
        let state = camd.state();
        let clients = state["clients"].as_array().expect("a list").clone();
        let raw = clients.iter().find(|client| client["protocol"] == "raw");
        raw.and_then(|client| client["rung"].as_u64())
    };
    let mut some = [0; 4096];
    while rung(&camd).expect("an adaptive client has a rung") == 0 {
        paced.read_exact(&mut some).expect("pictures");
        assert!(start.elapsed() < PATIENCE, "still as large as can be");
    }
}

#[test]
fn who_finds_no_place_is_closed() {
    let (_folder, camera) = replay(10, SIZE, 60);
    let camd = Camd::start(&format!("{camera}{}", RAW.replace("= 8", "= 1")));
    let mut first = connect(camd.raw());
    raw_next(&mut first, SIZE);
    assert_closed(&mut connect(camd.raw()));
    raw_next(&mut first, SIZE);
}
