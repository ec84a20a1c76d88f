//! The process between its pictures: an idle one does nothing, and signals do what they should.

mod common;

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use common::{
    Camd, LISTENERS, PATIENCE, Stream, assert_closed, connect, pattern, pull_announcement,
    pull_next, push_next, replay, send,
};
use nix::sys::signal::Signal;

/// What the kernel says that the process's threads have done so far: times on a processor and switches away from it.
fn activity(camd: &Camd) -> String {
    let mut text = String::new();
    let tasks = format!("/proc/{}/task", camd.pid());
    for task in fs::read_dir(&tasks).unwrap_or_else(|error| panic!("{tasks}: {error}")) {
        let task = task.expect("a thread").path();
        let read = |name: &str| {
            fs::read_to_string(task.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        text.push_str(&read("schedstat"));
        text.extend(
            read("status")
                .lines()
                .filter(|line| line.contains("ctxt_switches"))
                .map(|line| format!("{line}\n")),
        );
    }
    text
}

/// Waits for three seconds in a row without the least activity.
fn assert_idle(camd: &Camd) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = activity(camd);
        std::thread::sleep(Duration::from_secs(3));
        let after = activity(camd);
        if before == after {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "still busy:\n{before}later:\n{after}"
        );
    }
}

fn idles(camera: &str) {
    let config = format!(
        "{}{LISTENERS}",
        camera.replace("linger_s = 0", "linger_s = 1")
    );
    assert!(config.contains("linger_s = 1"));
    let camd = Camd::start(&config);
    assert_idle(&camd);
    for _ in 0..2 {
        // Viewers of all kinds come, see pictures and leave.
        let mut stream = Stream::open(camd.http(), "/stream");
        let mut push = connect(camd.push());
        let mut pull = connect(camd.pull());
        for _ in 0..5 {
            stream.next();
            push_next(&mut push);
            pull_next(&mut pull);
        }
        common::assert_jpeg(&camd.get("/snapshot").body);
        drop((stream, push, pull));
        assert_idle(&camd);
    }
    // A connection that asks for nothing is no viewer.
    let _pull = connect(camd.pull());
    assert_idle(&camd);
}

#[test]
fn pattern_without_viewers_does_nothing_at_all() {
    idles("[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\nlinger_s = 0\n");
}

#[test]
fn replay_without_viewers_does_nothing_at_all() {
    let (_folder, camera) = replay(3, 5000, 30);
    idles(&camera);
}

#[test]
fn sigterm_ends_it_within_a_second() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut camd = Camd::start(&pattern());
        let mut stream = Stream::open(camd.http(), "/stream");
        stream.next();
        let mut push = connect(camd.push());
        push_next(&mut push);
        // In the middle of things: announced and not acknowledged, and a request that is not complete.
        let mut pull = connect(camd.pull());
        send(&mut pull, "new_request");
        pull_announcement(&mut pull);
        let mut half = connect(camd.http());
        send(&mut half, "GET /st");
        camd.signal(signal);
        let status = camd.wait(Duration::from_secs(1));
        assert_eq!(status.code(), Some(0), "{signal}: {status}");
        // All connections are gone with it.
        let mut rest = Vec::new();
        let _ = push.read_to_end(&mut rest);
    }
}

/// Replaces the file and asks for a reload; waits for the log's word about it.
fn reload(camd: &mut Camd, config: &str) {
    let before = camd.log().len();
    fs::write(camd.config_path(), config).expect("the configuration file");
    camd.signal(Signal::SIGHUP);
    camd.wait_log("a word about the reload", |log| {
        log.get(before..)
            .is_some_and(|new| new.contains("read again") || new.contains("stay in force"))
    });
}

#[test]
fn sighup_with_a_bad_file_keeps_the_old_settings() {
    let mut camd = Camd::start(&pattern());
    let mut stream = Stream::open(camd.http(), "/stream");
    stream.next();
    for bad in [
        pattern().replace("fps = 30", "fps = \"many\""),
        pattern().replace("fps = 30", "fps = 0"),
        pattern().replace("fps = 30", "fsp = 30"),
        "[camera".to_owned(),
        String::from("\u{0}"),
    ] {
        let before = camd.log().len();
        reload(&mut camd, &bad);
        let log = camd.log();
        let new = &log[before..];
        // The place is named as `camd check` does.
        assert!(new.contains("camd.toml:"), "{new}");
        for _ in 0..3 {
            stream.next();
        }
    }
    // A file that is gone is a bad file.
    fs::remove_file(camd.config_path()).expect("it was there");
    camd.signal(Signal::SIGHUP);
    camd.wait_log("the missing file", |log| log.contains("No such file"));
    for _ in 0..3 {
        stream.next();
    }
    assert_eq!(camd.state()["camera"]["fps_wanted"], 30);
}

#[test]
fn sighup_changes_the_quality_of_living_streams() {
    let config = pattern().replace("127.0.0.1:0\"\n", "127.0.0.1:0\"\nquality = 90\n");
    let mut camd = Camd::start(&config);
    let mut stream = Stream::open(camd.http(), "/stream");
    let mut push = connect(camd.push());
    let large = stream.next().jpeg.len().min(push_next(&mut push).len());
    reload(&mut camd, &config.replace("quality = 90", "quality = 10"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sizes = [stream.next().jpeg.len(), push_next(&mut push).len()];
        if sizes.iter().all(|&size| size < large / 2) {
            break;
        }
        assert!(Instant::now() < deadline, "still {sizes:?}, {large} before");
    }
}

#[test]
fn sighup_puts_another_camera_before_living_streams() {
    let mut camd = Camd::start(&pattern());
    let size = |jpeg: &[u8]| {
        let found = camd::picture::jpeg::inspect(jpeg).expect("a whole JPEG");
        (found.width, found.height)
    };
    let mut stream = Stream::open(camd.http(), "/stream");
    assert_eq!(size(&stream.next().jpeg), (320, 240));
    reload(&mut camd, &pattern().replace("width = 320", "width = 80"));
    let deadline = Instant::now() + PATIENCE;
    while size(&stream.next().jpeg) != (80, 240) {
        assert!(Instant::now() < deadline, "still the camera of before");
    }
}

#[test]
fn sighup_changes_timeouts_and_tells_what_needs_a_restart() {
    let config = format!("{}[limits]\nack_timeout_s = 60\n", pattern());
    let mut camd = Camd::start(&config);
    let mut early = connect(camd.pull());
    pull_next(&mut early);
    let changed = config
        .replace("ack_timeout_s = 60", "ack_timeout_s = 1")
        .replacen("127.0.0.1:0", "127.0.0.1:1", 1);
    let before = camd.log().len();
    reload(&mut camd, &changed);
    // The new deadline holds for old connections.
    send(&mut early, "new_request");
    pull_announcement(&mut early);
    assert_closed(&mut early);
    // An address cannot change under a running server, and that is said.
    let log = camd.log();
    assert!(
        log[before..].contains("until the next start"),
        "{}",
        &log[before..]
    );
    Stream::open(camd.http(), "/stream").next();
}
