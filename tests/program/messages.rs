//! What somebody is told who has got something wrong: at the command line, or between two protocols.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use crate::common::{Camd, Folder, LISTENERS, RAW};

fn camd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_camd"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("camd runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_a_configuration_the_way_out_is_told() {
    let folder = Folder::new();
    let missing = folder.path().join("camd.toml");
    let missing = missing.to_str().expect("UTF-8");
    let output = camd(&["--config", missing]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for words in [
        missing,
        "camd --demo",
        "camd --config PATH",
        "camd check --help",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // One that is there and wrong needs other words.
    folder.file("camd.toml", "[camera]\nfps = 0\n");
    let text = said(&camd(&["--config", missing]));
    assert!(
        text.contains("camera.fps") && !text.contains("--demo"),
        "{text}"
    );
}

#[test]
fn help_is_a_command() {
    for (arguments, option) in [
        (vec!["help"], "--help"),
        (vec!["help", "fetch"], "--help"),
        (vec!["help", "check"], "--help"),
    ] {
        let help = camd(&arguments);
        assert_eq!(help.status.code(), Some(0), "{arguments:?}");
        let same = camd(&[&arguments[1..], &[option]].concat());
        assert_eq!(help.stdout, same.stdout, "{arguments:?}");
        assert!(!help.stdout.is_empty());
    }
}

#[test]
fn the_demo_says_its_ports() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_camd"))
        .args(["--demo", "--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("camd runs");
    let mut lines = BufReader::new(demo.stdout.take().expect("a pipe")).lines();
    let page = lines.find_map(|line| {
        let line = line.expect("a line");
        let (_, url) = line.split_once("in a browser")?;
        Some(url.trim().to_owned())
    });
    let page = page.expect("the page's address");
    let output = camd(&["fetch", &format!("{page}snapshot"), "-o", "/dev/null"]);
    let _ = demo.kill();
    let _ = demo.wait();
    assert_eq!(output.status.code(), Some(0), "{page}: {}", said(&output));
}

#[test]
fn fetching_by_the_wrong_protocol_says_what_answers() {
    let served = Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\nlinger_s = 0\n{LISTENERS}{RAW}[limits]\nhead_timeout_s = 1\n"
    ));
    let (http, push, raw) = (served.http(), served.push(), served.raw());
    for (scheme, port, words) in [
        ("push", http, format!("try http://{http}/stream")),
        ("raw", http, format!("try http://{http}/stream")),
        ("pull", http, format!("try http://{http}/stream")),
        ("http", push, format!("try push://{push}")),
        ("raw", push, format!("try push://{push}")),
        ("push", raw, format!("try raw://{raw}")),
        ("http", raw, format!("try raw://{raw}")),
    ] {
        let output = camd(&["fetch", &format!("{scheme}://{port}/"), "-o", "/dev/null"]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{scheme}: {text}");
        assert!(text.contains(&words), "{scheme}: {text}");
        assert_eq!(text.trim_end().lines().count(), 1, "one line: {text}");
    }
    let text = said(&camd(&[
        "fetch",
        &format!("push://{http}"),
        "-o",
        "/dev/null",
    ]));
    assert!(text.contains("\"HTTP/1.1 200 OK\""), "{text}");
}
