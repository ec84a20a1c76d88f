//! Listeners with a size, a quality and a rate of their own.

use std::time::{Duration, Instant};

use crate::common::{
    Camd, Folder, PATIENCE, Stream, connect, pull_next, push_next, raw_next, replay,
};
use camd::encode::codec::Codec;
use camd::picture::frame::{FrameBuf, PixelFormat, Plane, RawPicture};
use camd::picture::jpeg::inspect;
use nix::sys::signal::Signal;

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

/// A camera whose own JPEGs are in 4:2:2, and one of these.
fn camera_in_422() -> (Folder, String, Vec<u8>) {
    let data: Vec<u8> = (0..2 * 64 * 48).map(|i| (i * 7 % 251) as u8).collect();
    let mut planes = [Plane::default(); 3];
    planes[0] = Plane {
        data: &data,
        stride: 128,
    };
    let packed = RawPicture {
        format: PixelFormat::Yuyv,
        width: 64,
        height: 48,
        planes,
    };
    let mut jpeg = FrameBuf::new(1 << 16);
    Codec::new()
        .encode(&packed, 95, &mut jpeg)
        .expect("a picture");
    let jpeg = jpeg.as_slice().to_vec();
    let folder = Folder::new();
    folder.file("1.jpg", &jpeg);
    let camera = format!(
        "[camera]\nsource = \"replay\"\npath = {:?}\nfps = 30\nlinger_s = 0\n",
        folder.path()
    );
    (folder, camera, jpeg)
}

/// The sampling factors of a JPEG's brightness, across and down.
fn sampling(jpeg: &[u8]) -> (u8, u8) {
    let sof = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]);
    let factors = jpeg[sof.expect("a frame header") + 11];
    (factors >> 4, factors & 15)
}

#[test]
fn colours_are_as_fine_as_each_listener_has_them_also_after_a_reload() {
    let (_folder, camera, original) = camera_in_422();
    let config = |chroma: &str| {
        let push = format!("quality = 80\n{chroma}");
        [
            &camera,
            &listener("http", ""),
            &listener("push", &push),
            &listener("pull", "quality = 80\nchroma = \"422\"\n"),
            &listener("raw", "quality = 80\nchroma = \"420\"\n"),
        ]
        .map(String::as_str)
        .concat()
    };
    let camd = Camd::start(&config(""));
    assert!(camd.get("/snapshot").body == original, "untouched");
    let mut push = connect(camd.push());
    let coarse = push_next(&mut push);
    assert_eq!(sampling(&coarse), (2, 2));
    let fine = pull_next(&mut connect(camd.pull()));
    assert_eq!(sampling(&fine), (2, 1));
    assert!(coarse.len() < fine.len());
    let mut raw = connect(camd.raw());
    assert!(raw_next(&mut raw, coarse.len()) == coarse);
    let profiles = |camd: &Camd| {
        let state = camd.state();
        let all = state["profiles"].as_array().expect("a list").iter();
        all.map(|one| (one["chroma"].clone(), one["listeners"].clone()))
            .collect::<Vec<_>>()
    };
    use serde_json::json;
    let shared = [
        // The untouched one's, should there be none to leave untouched.
        (json!("420"), json!([0, 1, 3])),
        (json!("422"), json!([2])),
    ];
    assert_eq!(profiles(&camd), shared);

    for (chroma, expected) in [
        ("chroma = \"422\"\n", &fine),
        ("chroma = \"auto\"\n", &coarse),
    ] {
        std::fs::write(camd.config_path(), config(chroma)).expect("the file is ours");
        camd.signal(Signal::SIGHUP);
        let deadline = Instant::now() + PATIENCE;
        while push_next(&mut push) != *expected {
            assert!(Instant::now() < deadline, "{chroma}");
        }
    }
    assert_eq!(profiles(&camd), shared);
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
