//! `/snapshot?width=…&height=…&quality=…` and `/stream?…&max_fps=…`: what a client gets that wants less than its listener
//! gives, and what `/state` says of it.

use std::time::{Duration, Instant};

use camd::picture::jpeg::inspect;

use crate::common::{Camd, PATIENCE, Response, Stream};

fn camd(listener: &str) -> Camd {
    Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\nwidth = 640\nheight = 480\nfps = 30\nlinger_s = 0\n\
         [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n{listener}\n"
    ))
}

fn size(jpeg: &[u8]) -> (u16, u16) {
    let found = inspect(jpeg).expect("a JPEG");
    (found.width, found.height)
}

fn picture(camd: &Camd, query: &str) -> Response {
    let answer = camd.get(&format!("/snapshot{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.head);
    answer
}

/// What `/state` says of the one stream that there is.
fn watching(camd: &Camd) -> serde_json::Value {
    let state = camd.state();
    let mut clients = state["clients"].as_array().expect("a list").iter();
    let client = clients.find(|client| client["state"] != "idle" && client["frames"] != 0);
    client
        .unwrap_or_else(|| panic!("no stream: {state:#}"))
        .clone()
}

#[test]
fn snapshots_are_as_small_as_was_wished() {
    let camd = camd("");
    for (query, expected) in [
        ("", (640, 480)),
        ("?width=320", (320, 240)),
        ("?height=120", (160, 120)),
        ("?width=100&height=100", (100, 76)),
        ("?width=8192", (640, 480)),
        ("?width=64&t=1700000000", (64, 48)),
        ("?quality=10", (640, 480)),
        ("?width=320&quality=10?nonce=5", (320, 240)),
        ("?quality=100&height=8192&max_fps=1", (640, 480)),
    ] {
        assert_eq!(size(&picture(&camd, query).body), expected, "{query}");
    }
    let bytes = |query: &str| picture(&camd, query).body.len();
    let (full, fine, coarse) = (bytes(""), bytes("?quality=60"), bytes("?quality=5"));
    assert!(coarse < fine && fine < full, "{coarse} {fine} {full}");
    let jpeg = camd.get("/?action=snapshot&width=160").body;
    assert_eq!(size(&jpeg), (160, 120));
    let head = crate::common::request(
        camd.http(),
        "HEAD /snapshot?width=320 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    let length = head
        .field("Content-Length")
        .and_then(|length| length.parse().ok());
    assert!(
        length.is_some_and(|length: usize| length < full),
        "{}",
        head.head
    );
}

#[test]
fn wishes_end_at_the_listeners_own_settings() {
    let camd = camd("width = 320\nquality = 40\nmax_fps = 10");
    for (query, expected) in [
        ("?width=640", (320, 240)),
        ("?height=480&quality=90", (320, 240)),
        ("?width=160", (160, 120)),
    ] {
        assert_eq!(size(&picture(&camd, query).body), expected, "{query}");
    }
    let mut stream = Stream::open(camd.http(), "/stream?quality=90&width=2000&max_fps=60");
    stream.next();
    let client = watching(&camd);
    assert_eq!(client["quality"], 40, "{client:#}");
    assert_eq!(client["width"], 320, "{client:#}");
    assert_eq!(client["max_fps"], 10, "{client:#}");
}

#[test]
fn a_stream_goes_on_as_it_was_wished() {
    let camd = camd("");
    let mut small = Stream::open(camd.http(), "/stream?width=160&quality=30&max_fps=5");
    let mut full = Stream::open(camd.http(), "/stream");
    let (mut first, mut last) = (None, Duration::ZERO);
    for _ in 0..6 {
        let part = small.next();
        assert_eq!(size(&part.jpeg), (160, 120));
        first.get_or_insert(part.captured);
        last = part.captured;
    }
    let took = last - first.expect("six of them");
    // Five intervals of a fifth of a second; one may be cut short at the start.
    assert!(took > Duration::from_millis(700), "{took:?}");
    assert_eq!(size(&full.next().jpeg), (640, 480));
    let state = camd.state();
    let (client, other) = (&state["clients"][0], &state["clients"][1]);
    for (key, value, others) in [("width", 160, Some(640)), ("height", 120, Some(480))] {
        assert_eq!(client[key], value, "{client:#}");
        assert_eq!(other[key].as_i64(), others, "{other:#}");
    }
    assert_eq!(
        (&client["quality"], &client["max_fps"]),
        (&30.into(), &5.into())
    );
    assert_eq!(other["quality"], 80, "of raw pictures");
    assert!(other["max_fps"].is_null(), "{other:#}");
    let profiles = state["profiles"].as_array().expect("a list");
    let asked: Vec<_> = profiles.iter().filter(|it| it["asked"] == true).collect();
    assert_eq!(asked.len(), 1, "{profiles:#?}");
    assert_eq!(asked[0]["width"], 160);
    let metrics = camd.get("/metrics");
    let line = "camd_pictures_total{profile=\"asked\",quality=\"\"} ";
    let made = metrics.text().lines().find_map(|it| it.strip_prefix(line));
    assert!(
        made.is_some_and(|made| made.parse::<u32>().is_ok_and(|n| n >= 6)),
        "{made:?}"
    );
}

#[test]
fn beyond_a_fixed_number_there_is_the_nearest() {
    let camd = camd("clients = 40");
    // More kinds than there are, all at once.
    let widths: Vec<u16> = (0..12).map(|i| 40 + 48 * i).collect();
    let mut streams: Vec<_> = widths
        .iter()
        .map(|width| Stream::open(camd.http(), &format!("/stream?width={width}")))
        .collect();
    let mut got = Vec::new();
    for _ in 0..3 {
        got = streams
            .iter_mut()
            .map(|it| size(&it.next().jpeg).0)
            .collect();
    }
    let mut kinds = got.clone();
    kinds.sort_unstable();
    kinds.dedup();
    // The listener's own is one more.
    assert!((4..=5).contains(&kinds.len()), "{kinds:?}");
    for (wished, got) in widths.iter().zip(&got) {
        assert!(*got <= 640, "{wished}: {got}");
        let away = |kind: &u16| (f64::from(*kind) / f64::from(*wished)).log2().abs();
        let nearest = kinds.iter().map(away).fold(f64::INFINITY, f64::min);
        assert!(away(got) < nearest + 0.1, "{wished}: {got} of {kinds:?}");
    }
    // What is told is what they get.
    let state = camd.state();
    for (index, got) in got.iter().enumerate() {
        assert_eq!(state["clients"][index]["width"], *got, "{state:#}");
    }
    let profiles = state["profiles"].as_array().expect("a list");
    assert_eq!(profiles.len(), 5, "one is the listener's");
    // When the streams have gone, others have their turn.
    drop(streams);
    let started = Instant::now();
    while size(&picture(&camd, "?width=222").body).0 != 222 {
        assert!(started.elapsed() < PATIENCE, "they are held by nobody");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_adaptive_listener_serves_wishes_too() {
    let camd = camd("adaptive = true\nmin_fps = 1");
    let mut stream = Stream::open(camd.http(), "/stream?width=200&quality=50");
    for _ in 0..3 {
        assert_eq!(size(&stream.next().jpeg), (200, 150));
    }
    assert_eq!(watching(&camd)["rung"], 0);
}

#[test]
fn bad_values_are_named() {
    let camd = camd("");
    for (key, values, allowed) in [
        (
            "width",
            ["0", "15", "8193", "-320", "wide", ""],
            "from 16 to 8192",
        ),
        (
            "height",
            ["0", "15", "99999999999", "12.5", "0x20", "+"],
            "from 16 to 8192",
        ),
        (
            "quality",
            ["0", "101", "-1", "best", "80%25", ""],
            "from 1 to 100",
        ),
        (
            "max_fps",
            ["0", "241", "1e2", "fast", " ", "-5"],
            "from 1 to 240",
        ),
    ] {
        for value in values {
            for path in ["/snapshot", "/stream", "/"] {
                let action = if path == "/" { "action=stream&" } else { "" };
                let value = value.replace(' ', "%20");
                let target = format!("{path}?{action}{key}={value}");
                let answer = camd.get(&target);
                assert_eq!(answer.status, 400, "{target}");
                let text = answer.text();
                assert!(
                    text.contains(key) && text.contains(allowed),
                    "{target}: {text}"
                );
            }
        }
    }
    // To pages they mean nothing.
    assert_eq!(camd.get("/state?width=wide").status, 200);
}
