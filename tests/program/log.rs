//! The log does not grow with viewers that come and go: what is as it was before is not said again, what changes is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{
    Camd, Folder, LISTENERS, PATIENCE, assert_closed, assert_jpeg, connect, jpeg, send,
};

/// A program that greets on its standard error, and writes pictures. What it has in `more` comes behind that.
fn program(folder: &Folder) -> String {
    folder.file("picture.jpg", jpeg(1, 5000));
    folder.file("more", "");
    let script = folder.file(
        "camera.sh",
        format!(
            "#!/bin/sh\ncd {}\n\
             echo \"grabber version 7.1, built with love\" >&2\n\
             echo \"  [core @ 0x$(printf %x $$)] pid $$ opens the lens\" >&2\n\
             echo \"  Metadata:\" >&2\necho \"  Metadata:\" >&2\n\
             cat more >&2\necho run >>runs\n\
             while cat picture.jpg; do sleep 0.03; done\n",
            folder.path().display()
        ),
    );
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("chmod");
    format!(
        "[camera]\nsource = \"pipe\"\ncommand = [{:?}]\nlinger_s = 0.1\n{LISTENERS}",
        script.to_str().expect("UTF-8")
    )
}

fn runs(folder: &Path) -> usize {
    fs::read_to_string(folder.join("runs")).map_or(0, |runs| runs.lines().count())
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "no {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A viewer comes and goes, so that the camera does.
fn visit(camd: &Camd) {
    assert_jpeg(&camd.get("/snapshot").body);
    wait("rest", || camd.state()["camera"]["state"] == "idle");
}

#[test]
fn a_programs_greeting_is_said_once() {
    let folder = Folder::new();
    let camd = Camd::start(&program(&folder));
    visit(&camd);
    let before = camd.log();
    for words in [
        "grabber version 7.1",
        "opens the lens",
        "Metadata:",
        "camera: output of",
    ] {
        assert!(before.contains(words), "{words}: {before}");
    }
    let known = runs(folder.path());
    for _ in 0..5 {
        visit(&camd);
    }
    assert!(runs(folder.path()) >= known + 5, "it was started each time");
    let more = camd.log()[before.len()..].to_owned();
    // "Metadata:" comes twice in each run, and may be counted.
    assert!(more.lines().count() <= 3, "{more}");
    for words in ["grabber", "lens", "camera:"] {
        assert!(!more.contains(words), "{words} again: {more}");
    }
    // What is new is said.
    let before = camd.log();
    folder.file("more", "the lens is dirty\n");
    visit(&camd);
    visit(&camd);
    let more = camd.log()[before.len()..].to_owned();
    assert_eq!(more.matches("the lens is dirty").count(), 1, "{more}");
    // And a fault, whether somebody watches or not.
    let before = camd.log();
    fs::write(
        folder.path().join("camera.sh"),
        "#!/bin/sh\necho jammed >&2\nexit 4\n",
    )
    .expect("written");
    assert_eq!(camd.get("/snapshot").status, 503);
    wait("fault", || {
        camd.log()[before.len()..].contains("exit status 4")
    });
}

#[test]
fn a_server_that_is_away_is_told_once() {
    // A free port, and nobody there: source "call" rests without viewers, so that each of them tries anew.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("its address");
    drop(nobody);
    let camd = Camd::start(&format!(
        "[camera]\nsource = \"call\"\nlinger_s = 0.1\n[call]\ndial = \"camera@{address}\"\n{LISTENERS}"
    ));
    for _ in 0..4 {
        assert_eq!(camd.get("/snapshot").status, 503);
        wait("rest", || camd.state()["camera"]["state"] == "idle");
    }
    let log = camd.log();
    assert_eq!(log.matches("trying again").count(), 1, "{log}");
}

#[test]
fn what_strangers_do_is_thinned() {
    let camd = Camd::start(&crate::common::pattern());
    for _ in 0..40 {
        let mut stream = connect(camd.pull());
        send(&mut stream, "who are you?");
        assert_closed(&mut stream);
    }
    wait("word of the 32nd", || {
        camd.log().contains("(32 times so far)")
    });
    let log = camd.log();
    let said = log.matches("violation of the protocol").count();
    assert_eq!(said, 17, "16 and the 32nd: {log}");
    assert_eq!(camd.state()["listeners"][2]["violations"], 40);
}
