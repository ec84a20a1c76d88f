//! `[[sink]] kind = "qt-shm"`: Qt programs read camd's picture.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use crate::common::qt::{BINDINGS, Place, Qt, wait};
use crate::common::{Camd, Folder, LISTENERS, PATIENCE, pattern, run};
use nix::sys::signal::Signal;

/// The built-in moving picture, as often as it comes.
fn moving() -> String {
    format!(
        "{}[[sink]]\nkind = \"qt-shm\"\nkey = \"KEY\"\nfps = 30\n",
        pattern()
    )
}

fn sink(state: &serde_json::Value) -> &serde_json::Value {
    &state["sinks"][0]
}

/// Waits until pictures come, by which there is a segment.
fn written(camd: &Camd) {
    let before = sink(&camd.state())["frames"].as_u64();
    camd.wait_state("pictures are written", |state| {
        sink(state)["frames"].as_u64() > before.map(|before| before + 2)
    });
}

/// SIGTERM, and a good end.
fn end(mut camd: Camd) {
    camd.signal(Signal::SIGTERM);
    let status = camd.wait(PATIENCE);
    assert!(status.success(), "{status}");
}

/// The same, after which nothing is left.
fn end_clean(camd: Camd, place: &Place) {
    let (segment, semaphore) = (
        place.segment().expect("ours"),
        place.semaphore().expect("ours"),
    );
    end(camd);
    place.assert_gone(&segment, &semaphore);
}

#[test]
fn qt_programs_read_the_live_picture_and_nothing_is_left() {
    let place = Place::new();
    let camd = place.camd(&moving());
    for binding in BINDINGS {
        let lines = place.qt(binding, &["read", "10"]).end();
        assert_eq!(lines.len(), 10, "{lines:?}");
        assert!(
            lines.iter().all(|line| line.starts_with("320x240 ")),
            "{lines:?}"
        );
        let different: HashSet<_> = lines.iter().collect();
        assert!(different.len() > 5, "the picture hardly moves: {lines:?}");
    }
    let state = camd.state();
    let sink = sink(&state);
    assert_eq!(sink["place"], format!("shm:{}", place.key));
    assert_eq!(
        (&sink["kind"], &sink["reason"]),
        (&"qt-shm".into(), &"".into())
    );
    assert!(
        sink["age_ms"].as_u64().is_some_and(|age| age < 5000),
        "{sink}"
    );
    let metrics = camd.get("/metrics");
    let metrics = String::from_utf8(metrics.body).expect("text");
    let line = format!(
        "camd_sink_readers{{kind=\"qt-shm\",place=\"shm:{}\"}} 0",
        place.key
    );
    assert!(metrics.contains(&line), "{metrics}");
    end_clean(camd, &place);
}

#[test]
fn pictures_are_fitted_and_turned_and_readers_are_counted() {
    let place = Place::new();
    let config = moving().replace("[camera]", "[camera]\nrotate = 90");
    let camd = place.camd(&format!("{config}height = 160\n"));
    let lines = place.qt("PySide6", &["read", "2"]).end();
    assert!(
        lines.iter().all(|line| line.starts_with("120x160 ")),
        "{lines:?}"
    );
    let mut qt = place.qt("PyQt5", &["attached"]);
    assert_eq!(qt.line(), "attached");
    camd.wait_state("a reader", |state| sink(state)["readers"] == 1);
    qt.say("leave");
    qt.end();
    camd.wait_state("no reader", |state| sink(state)["readers"] == 0);
    // Another size of the camera is another segment.
    let before = place.segment();
    let config = fs::read_to_string(camd.config_path()).expect("it is there");
    let config = config.replace("height = 160\n", "height = 80\n");
    fs::write(camd.config_path(), config).expect("it can be written");
    camd.signal(Signal::SIGHUP);
    wait("a new segment", || {
        place.segment().is_some() && place.segment() != before
    });
    let lines = place.qt("PySide6", &["read", "2"]).end();
    assert!(
        lines.iter().all(|line| line.starts_with("60x80 ")),
        "{lines:?}"
    );
}

#[test]
fn ten_thousand_pictures_and_none_is_torn() {
    let place = Place::new();
    // Small, and as often as can be: 240 a second.
    let camera = "[camera]\nsource = \"pattern\"\nwidth = 96\nheight = 64\nfps = 240\n";
    let sink_section = "[[sink]]\nkind = \"qt-shm\"\nkey = \"KEY\"\nfps = 240\n";
    let camd = place.camd(&format!("{camera}{LISTENERS}{sink_section}"));
    let readers: Vec<Qt> = BINDINGS
        .into_iter()
        .map(|binding| place.qt(binding, &["check", "5000"]))
        .collect();
    for reader in readers {
        let lines = reader.end();
        let different: u32 = lines[0].parse().expect("a number");
        assert!(different > 20, "the picture hardly moves: {lines:?}");
    }
    let state = camd.state();
    assert_eq!(sink(&state)["reason"], "", "{state:#}");
}

#[test]
fn a_qt_program_killed_with_the_lock_in_its_hand_stops_nobody() {
    let place = Place::new();
    let camd = place.camd(&moving());
    for binding in BINDINGS {
        written(&camd);
        let mut qt = place.qt(binding, &["hold"]);
        assert_eq!(qt.line(), "locked");
        let frames = sink(&camd.state())["frames"].clone();
        let skipped = sink(&camd.state())["skipped"].as_u64();
        // camd serves the others meanwhile, and leaves pictures out.
        camd.wait_state("pictures are skipped", |state| {
            sink(state)["skipped"].as_u64() > skipped
        });
        assert_eq!(sink(&camd.state())["frames"], frames);
        qt.kill();
        written(&camd);
        assert_eq!(place.qt(binding, &["read", "2"]).end().len(), 2);
    }
}

#[test]
fn a_killed_camd_leaves_nothing_that_needs_a_person() {
    for reader_stays in [false, true] {
        let place = Place::new();
        let mut first = place.camd(&moving());
        written(&first);
        let (left, _) = (place.segment(), place.semaphore().expect("ours"));
        let reader = reader_stays.then(|| {
            let mut qt = place.qt("PySide6", &["attached"]);
            assert_eq!(qt.line(), "attached");
            qt
        });
        // Nobody has asked after the first one yet when the second one starts: it is a zombie.
        first.signal(Signal::SIGKILL);
        let second = place.camd(&moving());
        written(&second);
        if reader_stays {
            assert_eq!(place.segment(), left, "what a reader has is taken over");
            assert_eq!(sink(&second.state())["readers"], 1);
        }
        for binding in BINDINGS {
            assert_eq!(place.qt(binding, &["read", "2"]).end().len(), 2);
        }
        if let Some(mut reader) = reader {
            reader.say("leave");
            reader.end();
        }
        let (segment, semaphore) = (
            place.segment().expect("ours"),
            place.semaphore().expect("ours"),
        );
        end(second);
        place.assert_gone(&segment, &semaphore);
        first.wait(PATIENCE);
    }
}

#[test]
fn what_qt_programs_do_to_the_lock_heals_by_itself() {
    for binding in BINDINGS {
        let place = Place::new();
        // It creates the lock, and takes it along.
        let mut early = place.qt(binding, &["first"]);
        assert_eq!(early.line(), "first");
        let camd = place.camd(&moving());
        written(&camd);
        early.say("leave");
        early.end();
        written(&camd);
        assert_eq!(place.qt(binding, &["read", "3"]).end().len(), 3);
        // Somebody clears the folder.
        for entry in fs::read_dir(place.folder.path()).expect("the folder") {
            fs::remove_file(entry.expect("an entry").path()).expect("a file");
        }
        wait("the files are back", || place.segment().is_some());
        assert_eq!(place.qt(binding, &["read", "3"]).end().len(), 3);
        end_clean(camd, &place);
    }
}

#[test]
fn what_somebody_else_shares_is_left_alone_until_he_ends() {
    let place = Place::new();
    let mut qt = place.qt("PySide6", &["write"]);
    let folder = Folder::new();
    let file = folder.file("x.ppm", b"P6 2 1 255\n\x01\x02\x03\x04\x05\x06");
    qt.say(&file.display().to_string());
    assert!(qt.line().starts_with("shared "));
    let foreign = place.segment().expect("Qt's");
    let camd = place.camd(&moving());
    let state = camd.wait_state("it says why", |state| sink(state)["reason"] != "");
    let reason = sink(&state)["reason"].as_str().expect("a text");
    let pid = format!("process {} (", qt.child.id());
    assert!(
        reason.contains("in use") && reason.contains(&pid),
        "{reason}"
    );
    assert_eq!(place.segment().as_ref(), Some(&foreign));
    // Viewers notice nothing.
    assert_eq!(camd.get("/snapshot").status, 200);
    let warnings = |camd: &Camd| camd.log().matches("in use").count();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(warnings(&camd), 1, "{}", camd.log());
    qt.say("");
    qt.end();
    camd.wait_state("it is open", |state| sink(state)["reason"] == "");
    written(&camd);
}

#[test]
fn camd_fetch_saves_the_picture_as_it_is() {
    let place = Place::new();
    let camd = place.camd(&moving());
    written(&camd);
    let folder = Folder::new();
    let fetch = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
        command
            .args(["fetch", &format!("shm:{}", place.key)])
            .args(arguments)
            .env("TMPDIR", place.folder.path())
            .current_dir(folder.path());
        command
    };
    run(&mut fetch(&[]));
    let one = fs::read(folder.path().join("snapshot.png")).expect("a picture");
    assert!(one.starts_with(b"\x89PNG\r\n\x1a\n") && one.ends_with(b"IEND\xae\x42\x60\x82"));
    run(&mut fetch(&["-n", "5", "-o", "pictures/"]));
    let pictures: HashSet<_> = (1..=5)
        .map(|number| {
            fs::read(folder.path().join(format!("pictures/camd-{number:06}.png")))
                .expect("a picture")
        })
        .collect();
    assert_eq!(pictures.len(), 5);
    let stdout = run(&mut fetch(&["-n", "3", "-o", "-"])).stdout;
    assert_eq!(stdout.len(), 3 * one.len());
    // Another program's opinion.
    let file = folder.file("three.png", stdout);
    let output = run(Command::new("ffmpeg")
        .args([
            "-nostdin",
            "-v",
            "error",
            "-xerror",
            "-f",
            "image2pipe",
            "-c:v",
            "png",
            "-i",
        ])
        .arg(&file)
        .args(["-f", "framemd5", "-"]));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        text.lines().filter(|line| !line.starts_with('#')).count(),
        3,
        "{text}"
    );
    end(camd);
    // Nobody shares it any more.
    let output = fetch(&[]).output().expect("camd");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("no program has created it; start the program"),
        "{text}"
    );
    assert_eq!(
        fs::read_dir(place.folder.path())
            .expect("the folder")
            .count(),
        0
    );
}
