//! Date, time and name in the pictures, through the real program: read back letter by letter.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::common::{Camd, Folder, PATIENCE, Response, Stream, connect, push_next, run};
use camd::picture::font::{CELL, Glyph, glyph};
use nix::sys::signal::Signal;

/// What ffmpeg shows of a JPEG, brightness only.
struct Shown {
    width: usize,
    luma: Vec<u8>,
}

impl Shown {
    fn of(jpeg: &[u8]) -> Shown {
        let folder = Folder::new();
        let file = folder.file("picture.jpg", jpeg);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-f", "mjpeg", "-i"]).arg(file);
        let output = run(ffmpeg.args(["-f", "rawvideo", "-pix_fmt", "gray", "-"]));
        let found = camd::picture::jpeg::inspect(jpeg).expect("a JPEG");
        assert_eq!(
            output.stdout.len(),
            usize::from(found.width) * usize::from(found.height)
        );
        Shown {
            width: found.width.into(),
            luma: output.stdout,
        }
    }

    /// The letters whose lower left corner is this far from the picture's, up to what is none.
    fn read(&self, left: usize, above_bottom: usize, scale: usize) -> String {
        let top = self.luma.len() / self.width - above_bottom - CELL * scale;
        let letter = |cell: usize| {
            let bits: Glyph = std::array::from_fn(|row| {
                (0..CELL).fold(0, |bits, column| {
                    let x = left + (cell * CELL + column) * scale + scale / 2;
                    let y = top + row * scale + scale / 2;
                    bits | u8::from(self.luma[y * self.width + x] > 128) << column
                })
            });
            ('\u{20}'..'\u{ff}').find(|&c| glyph(c) == bits)
        };
        let cells = (self.width - left) / (CELL * scale);
        let text: String = (0..cells).map_while(letter).collect();
        text.trim_end().to_owned()
    }

    /// The time stamp, wherever it begins in the lower left corner: a date and what is behind it.
    fn stamp(&self) -> Option<String> {
        let scale = (self.luma.len() / self.width / 240).max(1);
        (0..32 * scale).find_map(|above| {
            let text = self.read(4 * scale, above, scale);
            let date = text.get(..10)?.split('-').map(str::len);
            date.eq([4, 2, 2]).then_some(text)
        })
    }
}

/// X-Timestamp in whole seconds.
fn captured(snapshot: &Response) -> i64 {
    let field = snapshot.field("X-Timestamp").expect("a time");
    let (seconds, _) = field.split_once('.').expect("a fraction");
    seconds.parse().expect("a number")
}

fn start(zone: &str, config: &str) -> Camd {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.env("TZ", zone).stdin(Stdio::null());
    Camd::start_as(&mut command, config, PATIENCE)
}

fn listener(protocol: &str, more: &str) -> String {
    format!("[[listener]]\nprotocol = \"{protocol}\"\nbind = \"127.0.0.1:0\"\n{more}")
}

fn pattern(more: &str) -> String {
    format!("[camera]\nsource = \"pattern\"\nwidth = 640\nheight = 480\nlinger_s = 0\n{more}")
}

#[test]
fn the_stamp_is_the_capture_time_in_the_box_s_time_zone() {
    let config = [
        &pattern("name = \"Gärten 2\"\ntimestamp = true\n"),
        &listener("http", ""),
        &listener("push", "width = 320\n"),
    ]
    .map(String::as_str)
    .concat();
    for (zone, offset) in [
        ("NPT-5:45", 5 * 3600 + 45 * 60),
        ("<-0330>3:30", -(3 * 3600 + 30 * 60)),
        ("", 0),
    ] {
        let camd = start(zone, &config);
        let snapshot = camd.get("/snapshot");
        let local = jiff::Timestamp::from_second(captured(&snapshot) + offset).expect("a time");
        let expected = local.strftime("%Y-%m-%d %H:%M:%S Gärten 2").to_string();
        let shown = Shown::of(&snapshot.body).stamp();
        assert_eq!(shown, Some(expected.clone()), "TZ={zone}");

        let mut push = connect(camd.push());
        let small = Shown::of(&push_next(&mut push)).stamp().expect("a stamp");
        assert_eq!(small[10..].len(), expected[10..].len(), "{small}");
        assert!(small.ends_with(" Gärten 2"), "{small}");
    }
}

#[test]
fn an_unknown_time_zone_is_said_and_is_utc() {
    let config = [pattern("timestamp = true\n"), listener("http", "")].concat();
    let camd = start("Moon/Tranquility", &config);
    let snapshot = camd.get("/snapshot");
    let time = jiff::Timestamp::from_second(captured(&snapshot)).expect("a time");
    let expected = time.strftime("%Y-%m-%d %H:%M:%S camera").to_string();
    assert_eq!(Shown::of(&snapshot.body).stamp(), Some(expected));
    let log = camd.log();
    assert!(log.contains("time stamps are in UTC: "), "{log}");
}

#[test]
fn untouched_jpegs_stay_so_and_the_log_says_it_once() {
    let folder = Folder::new();
    let file = folder.path().join("0.jpg");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240"]);
    run(ffmpeg.args(["-frames:v", "1"]).arg(&file));
    let jpeg = std::fs::read(&file).expect("ffmpeg made it");
    let config = [
        format!(
            "[camera]\nsource = \"replay\"\npath = {:?}\ntimestamp = true\nlinger_s = 0\n",
            folder.path()
        ),
        listener("http", ""),
        listener("push", "quality = 90\n"),
    ]
    .concat();
    let camd = start("", &config);
    let mut push = connect(camd.push());
    assert!(Shown::of(&push_next(&mut push)).stamp().is_some());
    assert!(!camd.log().contains("time stamp"), "{}", camd.log());

    let mut stream = Stream::open(camd.http(), "/stream");
    for _ in 0..5 {
        assert!(stream.next().jpeg == jpeg, "untouched");
        assert!(camd.get("/snapshot").body == jpeg, "untouched");
    }
    assert_eq!(Shown::of(&jpeg).stamp(), None);
    let log = camd.log();
    let told: Vec<_> = log.lines().filter(|l| l.contains("time stamp")).collect();
    assert_eq!(told.len(), 1, "{log}");
    let address = camd.http().to_string();
    assert!(
        told[0].contains(&address) && told[0].contains("quality"),
        "{log}"
    );
}

#[test]
fn a_reload_switches_the_stamp_and_changes_its_name_in_a_running_stream() {
    let config = |more: &str| [pattern(more), listener("http", "")].concat();
    let camd = start("", &config(""));
    let mut stream = Stream::open(camd.http(), "/stream");
    let mut until = |what: &str, wanted: &dyn Fn(&Option<String>) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stamp = Shown::of(&stream.next().jpeg).stamp();
            if wanted(&stamp) {
                break;
            }
            assert!(Instant::now() < deadline, "{what}: {stamp:?}");
        }
    };
    until("none", &|stamp| stamp.is_none());
    for (more, name) in [
        ("timestamp = true\nname = \"door\"\n", Some(" door")),
        ("timestamp = true\nname = \"gate\"\n", Some(" gate")),
        ("timestamp = false\nname = \"gate\"\n", None),
    ] {
        std::fs::write(camd.config_path(), config(more)).expect("the file is ours");
        camd.signal(Signal::SIGHUP);
        until(more, &|stamp| match (stamp, name) {
            (Some(stamp), Some(name)) => stamp.ends_with(name),
            (None, None) => true,
            _ => false,
        });
    }
    let log = camd.log();
    assert!(!log.contains("opened again"), "{log}");
}

#[test]
fn state_and_metrics_tell_what_pictures_take() {
    let (_folder, replay) = crate::common::replay(3, 4000, 30);
    let pattern = pattern("");
    for (camera, decoded) in [(&pattern, false), (&replay, true)] {
        let config = [
            camera.as_str(),
            &listener("http", "quality = 60\n"),
            &listener("push", "quality = 30\nwidth = 32\n"),
            &listener("push", "quality = 30\nwidth = 32\n"),
            &listener("pull", "quality = 10\n"),
        ]
        .concat();
        let camd = Camd::start(&config);
        let before = camd.state();
        assert!(before["profiles"][0]["encode_ms"].is_null(), "{before:#}");
        let mut push = connect(camd.push());
        for _ in 0..40 {
            push_next(&mut push);
        }
        let state = camd.state();
        let profiles = state["profiles"].as_array().expect("a list");
        assert_eq!(profiles.len(), 3, "{state:#}");
        let expected = [
            (60, serde_json::json!([0])),
            (30, serde_json::json!([1, 2])),
            (10, serde_json::json!([3])),
        ];
        for (profile, (quality, listeners)) in profiles.iter().zip(expected) {
            assert_eq!(profile["quality"], quality, "{state:#}");
            assert_eq!(profile["listeners"], listeners, "{state:#}");
            let busy = quality == 30;
            assert_eq!(profile["pictures"].as_u64() >= Some(40), busy, "{state:#}");
            for phase in ["decode_ms", "scale_ms", "encode_ms"] {
                let time = |key| profile[phase][key].as_f64();
                assert_eq!(time("mean").is_some(), busy, "{state:#}");
                assert!(time("mean") <= time("p99"), "{state:#}");
                if busy {
                    let none = phase == "decode_ms" && !decoded;
                    assert_eq!(time("mean") > Some(0.0), !none, "{phase}: {state:#}");
                }
            }
        }
        assert_eq!(profiles[1]["width"], 32);
        assert_eq!(profiles[1]["height"], 24);
        assert!(profiles[0]["width"].is_null(), "nobody has asked");

        let metrics = camd.get("/metrics");
        let value = |name: &str, labels: &str| {
            let line = format!("{name}{{{labels}}} ");
            let found = metrics.text().lines().find_map(|l| l.strip_prefix(&*line));
            let found = found.unwrap_or_else(|| panic!("{line}in {}", metrics.text()));
            found.parse::<f64>().expect("a number")
        };
        let small = "profile=\"1\",quality=\"30\"";
        assert!(value("camd_pictures_total", small) >= 40.0);
        assert!(value("camd_encode_seconds_total", small) > 0.0);
        assert!(value("camd_scale_seconds_total", small) > 0.0);
        let decode = value("camd_decode_seconds_total", small);
        assert_eq!(decode > 0.0, decoded);
        let unused = "profile=\"2\",quality=\"10\"";
        assert_eq!(value("camd_encode_seconds_total", unused), 0.0);
    }
}
