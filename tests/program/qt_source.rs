//! `[camera] source = "qt-shm"`: a Qt program's picture is the camera.

use std::path::{Path, PathBuf};

use crate::common::qt::{BINDINGS, Place, Qt, wait};
use crate::common::{Camd, Folder, LISTENERS, PATIENCE, run};
use nix::sys::signal::Signal;

fn source() -> String {
    format!("[camera]\nsource = \"qt-shm\"\nkey = \"KEY\"\nfps = 60\nlinger_s = 0\n{LISTENERS}")
}

/// A picture of one colour, which JPEG keeps.
fn ppm(folder: &Folder, name: &str, width: usize, height: usize, rgb: [u8; 3]) -> PathBuf {
    let mut data = format!("P6 {width} {height} 255\n").into_bytes();
    data.extend(rgb.repeat(width * height));
    folder.file(name, data)
}

/// The size, and the colour in the middle, of a JPEG.
fn shows(jpeg: &[u8]) -> (u16, u16, [u8; 3]) {
    let found = camd::picture::jpeg::inspect(jpeg).expect("a JPEG");
    let folder = Folder::new();
    let output = run(std::process::Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(folder.file("x.jpg", jpeg))
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]));
    let at = 3 * usize::from(found.height / 2 * found.width + found.width / 2);
    let pixel = output.stdout[at..at + 3].try_into().expect("three bytes");
    (found.width, found.height, pixel)
}

fn assert_shows(camd: &Camd, width: u16, height: u16, rgb: [u8; 3]) {
    let near = |got: &[u8; 3]| got.iter().zip(rgb).all(|(a, b)| a.abs_diff(b) < 8);
    wait(&format!("{width}x{height} {rgb:?} is shown"), || {
        let response = camd.get("/snapshot");
        if response.status != 200 {
            return false;
        }
        let (w, h, pixel) = shows(&response.body);
        (w, h) == (width, height) && near(&pixel)
    });
}

fn share(qt: &mut Qt, file: &Path) {
    qt.say(&file.display().to_string());
    let line = qt.line();
    assert!(line.starts_with("shared "), "{line}");
}

fn frames(camd: &Camd) -> u64 {
    camd.state()["camera"]["frames"].as_u64().expect("a number")
}

#[test]
fn a_qt_programs_picture_is_served_and_changes() {
    let pictures = Folder::new();
    let red = ppm(&pictures, "red.ppm", 64, 48, [200, 30, 30]);
    let blue = ppm(&pictures, "blue.ppm", 160, 120, [30, 30, 200]);
    for binding in BINDINGS {
        let place = Place::new();
        let mut qt = place.qt(binding, &["write"]);
        share(&mut qt, &red);
        let camd = place.camd(&source());
        assert_shows(&camd, 64, 48, [200, 30, 30]);
        // What stays as it is is one picture, and no fault.
        let before = frames(&camd);
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(frames(&camd), before);
        assert_eq!(camd.state()["camera"]["state"], "live");
        share(&mut qt, &blue);
        assert_shows(&camd, 160, 120, [30, 30, 200]);
        // The moment without any, while it was replaced, was no fault.
        let state = camd.state();
        assert_eq!(state["camera"]["reopens"], 0, "{state:#}");
        // It leaves, and comes back.
        qt.say("");
        qt.end();
        let state = camd.wait_state("a fault", |state| state["camera"]["state"] == "fault");
        let reason = state["camera"]["reason"].as_str().expect("a text");
        let expected = format!(
            "shm:{} (camera.key): no program has created it; start the program",
            place.key
        );
        assert!(reason.starts_with(&expected), "{reason}");
        let mut qt = place.qt(binding, &["write"]);
        share(&mut qt, &red);
        assert_shows(&camd, 64, 48, [200, 30, 30]);
        let (segment, semaphore) = (
            place.segment().expect("Qt's"),
            place.semaphore().expect("Qt's"),
        );
        qt.say("");
        qt.end();
        drop(camd);
        place.assert_gone(&segment, &semaphore);
    }
}

#[test]
fn a_qt_program_killed_with_the_lock_in_its_hand_stops_no_source() {
    let pictures = Folder::new();
    let red = ppm(&pictures, "red.ppm", 64, 48, [200, 30, 30]);
    let green = ppm(&pictures, "green.ppm", 64, 48, [30, 200, 30]);
    let place = Place::new();
    let mut qt = place.qt("PySide6", &["write"]);
    share(&mut qt, &red);
    let camd = place.camd(&source());
    assert_shows(&camd, 64, 48, [200, 30, 30]);
    let mut holder = place.qt("PyQt5", &["hold"]);
    assert_eq!(holder.line(), "locked");
    // Viewers have the last picture meanwhile.
    assert_shows(&camd, 64, 48, [200, 30, 30]);
    holder.kill();
    share(&mut qt, &green);
    assert_shows(&camd, 64, 48, [30, 200, 30]);
}

#[test]
fn what_is_no_picture_is_counted_and_never_fatal() {
    let pictures = Folder::new();
    let red = ppm(&pictures, "red.ppm", 64, 48, [200, 30, 30]);
    let place = Place::new();
    let mut qt = place.qt("PySide6", &["write"]);
    share(&mut qt, &red);
    let camd = place.camd(&source());
    assert_shows(&camd, 64, 48, [200, 30, 30]);
    let mut truncated = b"\0\0\0\x01\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    truncated.extend([0xFF; 40]);
    for (number, content) in [
        vec![0; 4],
        b"GIF89a, or so".to_vec(),
        vec![0xFF; 9000],
        truncated,
    ]
    .into_iter()
    .enumerate()
    {
        let bad = camd.state()["camera"]["bad"].as_u64().expect("a number");
        share(&mut qt, &pictures.file(&format!("{number}.bin"), content));
        camd.wait_state("it is counted", |state| {
            state["camera"]["bad"].as_u64() == Some(bad + 1)
        });
        // Once, and the last good picture stays.
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(camd.state()["camera"]["bad"], bad + 1);
        assert_shows(&camd, 64, 48, [200, 30, 30]);
        share(&mut qt, &red);
    }
}

#[test]
fn what_a_killed_qt_program_left_does_not_keep_it_from_coming_back() {
    let pictures = Folder::new();
    let red = ppm(&pictures, "red.ppm", 64, 48, [200, 30, 30]);
    let place = Place::new();
    let mut camd = place.camd(&source());
    for _ in 0..2 {
        let mut qt = place.qt("PySide6", &["write"]);
        share(&mut qt, &red);
        assert_shows(&camd, 64, 48, [200, 30, 30]);
        qt.kill();
        camd.wait_state("a fault", |state| state["camera"]["state"] == "fault");
    }
    camd.signal(Signal::SIGTERM);
    assert!(camd.wait(PATIENCE).success());
    // The lock of the last one was left, as Qt leaves it, and is in nobody's way.
    assert_eq!(place.segment(), None);
    let mut qt = place.qt("PySide6", &["write"]);
    share(&mut qt, &red);
    qt.say("");
    qt.end();
}

#[test]
fn one_camd_feeds_another() {
    let place = Place::new();
    let sink = "[[sink]]\nkind = \"qt-shm\"\nkey = \"KEY\"\nfps = 30\n";
    let first = place.camd(&format!("{}{sink}", crate::common::pattern()));
    let second = place.camd(&source());
    second.wait_state("pictures come", |state| {
        state["camera"]["frames"].as_u64() > Some(10)
    });
    let (width, height, _) = shows(&second.get("/snapshot").body);
    assert_eq!((width, height), (320, 240));
    drop(second);
    drop(first);
}
