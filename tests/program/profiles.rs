//! Listeners with a size, a quality and a rate of their own.

use std::time::{Duration, Instant};

use crate::common::{Camd, Stream, connect, pull_next, push_next, replay};
use camd::picture::jpeg::inspect;

fn listener(protocol: &str, more: &str) -> String {
    format!("[[listener]]\nprotocol = \"{protocol}\"\nbind = \"127.0.0.1:0\"\n{more}")
}

fn size(jpeg: &[u8]) -> (u16, u16) {
    let found = inspect(jpeg).expect("a whole JPEG");
    (found.width, found.height)
}

#[test]
fn each_listener_has_its_own_size() {
    let camera = "[camera]\nsource = \"pattern\"\nwidth = 640\nheight = 480\nlinger_s = 0\n";
    let config = [
        camera,
        &listener("http", "width = 320\n"),
        &listener("push", "width = 200\nheight = 120\nquality = 30\n"),
        &listener("pull", "width = 1280\nheight = 960\n"),
    ]
    .concat();
    let camd = Camd::start(&config);
    let mut stream = Stream::open(camd.http(), "/stream");
    assert_eq!(size(&stream.next().jpeg), (320, 240), "the height follows");
    let snapshot = camd.get("/snapshot");
    assert_eq!(size(&snapshot.body), (320, 240));
    let mut push = connect(camd.push());
    assert_eq!(size(&push_next(&mut push)), (160, 120), "fits both");
    let mut pull = connect(camd.pull());
    let picture = pull_next(&mut pull);
    assert_eq!(size(&picture), (640, 480), "never larger than the camera's");
}

#[test]
fn a_cameras_own_jpegs_are_made_smaller_only_where_that_is_asked_for() {
    let (_folder, camera) = replay(3, 4000, 10);
    let config = [
        &camera,
        &listener("http", "width = 32\n"),
        &listener("push", "width = 64\nheight = 48\n"),
    ]
    .map(String::as_str)
    .concat();
    let camd = Camd::start(&config);
    let mut stream = Stream::open(camd.http(), "/stream");
    assert_eq!(size(&stream.next().jpeg), (32, 24));
    let mut push = connect(camd.push());
    let picture = push_next(&mut push);
    assert!(
        (0..3).any(|number| picture == crate::common::jpeg(number, 4000)),
        "what fits already goes out untouched"
    );
}

#[test]
fn a_listener_can_have_fewer_pictures() {
    let (_folder, camera) = replay(3, 4000, 30);
    let config = [
        &camera,
        &listener("http", "max_fps = 5\n"),
        &listener("push", ""),
    ]
    .map(String::as_str)
    .concat();
    let camd = Camd::start(&config);
    let mut few = Stream::open(camd.http(), "/stream");
    let mut all = connect(camd.push());
    few.next();
    push_next(&mut all);
    let start = Instant::now();
    let times: Vec<_> = (0..10).map(|_| few.next().captured).collect();
    let mean = (times[9] - times[0]) / 9;
    assert!(
        Duration::from_millis(195) < mean && mean < Duration::from_millis(400),
        "{mean:?} between two pictures at 5 a second"
    );
    // Those of the other listener came meanwhile, and wait in the kernel.
    let mut others = 0;
    while start.elapsed() < Duration::from_secs(20) && others < 40 {
        push_next(&mut all);
        others += 1;
    }
    assert_eq!(others, 40, "nobody else has fewer");
    // A snapshot is asked for, and not subject to a rate.
    let snapshots = Instant::now();
    for _ in 0..20 {
        assert_eq!(camd.get("/snapshot").status, 200);
    }
    assert!(
        snapshots.elapsed() < Duration::from_secs(3),
        "20 snapshots at 5 a second would take 4 s"
    );
}
