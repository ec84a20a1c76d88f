//! The programs that people will point at camd, each with its own idea of HTTP, and camd's own receiving half.

mod common;

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use common::user::CALLS;
use common::{Camd, Folder, LISTENERS, PATIENCE, RAW, assert_jpeg, pattern, python, replay, run};

fn url(camd: &Camd, target: &str) -> String {
    format!("http://{}{target}", camd.http())
}

/// What `ffplay tcp://box:8084` opens.
fn raw_url(camd: &Camd) -> String {
    format!("tcp://{}", camd.raw())
}

#[test]
fn ffmpeg_decodes_the_stream() {
    let camd = Camd::start(&pattern());
    ffmpeg_decodes(&[], &url(&camd, "/stream"));
}

#[test]
fn ffmpeg_decodes_bare_jpegs() {
    let camd = Camd::start(&format!("{}{RAW}", pattern()));
    // As ffplay: with the options of the documentation, and finding out by itself.
    ffmpeg_decodes(&["-f", "mjpeg", "-probesize", "32"], &raw_url(&camd));
    ffmpeg_decodes(&[], &raw_url(&camd));
    let output = run(Command::new("ffprobe")
        .args(["-v", "error", "-f", "mjpeg"])
        .args(["-show_entries", "stream=codec_name,width,height"])
        .args(["-of", "csv=p=0"])
        .arg(raw_url(&camd)));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "mjpeg,320,240\n");
}

/// ffmpeg takes 30 pictures of it, and has nothing to complain of.
fn ffmpeg_decodes(options: &[&str], input: &str) {
    let output = run(Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-xerror"])
        .args(options)
        .args(["-i", input])
        .args(["-frames:v", "30", "-f", "framemd5", "-"]));
    let text = String::from_utf8_lossy(&output.stdout);
    let sums: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit(',').next())
        .collect();
    assert_eq!(sums.len(), 30, "{text}");
    assert!(sums.iter().collect::<HashSet<_>>().len() > 15, "{text}");
    assert!(text.contains("#dimensions 0: 320x240"), "{text}");
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn opencv_captures_the_stream() {
    let camd = Camd::start(&pattern());
    opencv_captures("", &url(&camd, "/stream"));
}

#[test]
fn opencv_captures_bare_jpegs() {
    let camd = Camd::start(&format!("{}{RAW}", pattern()));
    // With the options of the documentation, and finding out by itself.
    opencv_captures("input_format;mjpeg|probesize;32", &raw_url(&camd));
    opencv_captures("", &raw_url(&camd));
}

fn opencv_captures(options: &str, url: &str) {
    let mut capture = python("video_capture.py");
    if !options.is_empty() {
        capture.env("OPENCV_FFMPEG_CAPTURE_OPTIONS", options);
    }
    let output = run(capture.arg(url).arg("20"));
    let text = String::from_utf8_lossy(&output.stdout);
    let pictures: HashSet<&str> = text.lines().collect();
    assert!(pictures.len() > 10, "{text}");
    assert!(
        pictures
            .iter()
            .all(|picture| picture.starts_with("320x240 ")),
        "{text}"
    );
}

#[test]
fn curl_takes_snapshots_and_state() {
    let (_pictures, camera) = replay(3, 5000, 30);
    let camd = Camd::start(&format!("{camera}{LISTENERS}"));
    let folder = Folder::new();
    let file = folder.path().join("snapshot.jpg");
    run(Command::new("curl")
        .args(["-fsS", "--noproxy", "*", "-o"])
        .arg(&file)
        .arg(url(&camd, "/snapshot")));
    let snapshot = fs::read(&file).expect("what curl wrote");
    assert!((0..3).any(|number| snapshot == common::jpeg(number, 5000)));
    // Two on one connection, and a HEAD.
    let output = run(Command::new("curl")
        .args(["-fsS", "--noproxy", "*", "-w", "%{num_connects} "])
        .arg("-o/dev/null")
        .arg(url(&camd, "/snapshot"))
        .arg("-o/dev/null")
        .arg(url(&camd, "/?action=snapshot")));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 0 ");
    let output = run(Command::new("curl")
        .args(["-fsSI", "--noproxy", "*"])
        .arg(url(&camd, "/snapshot")));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Content-Length: 5000\r\n"));
    let output = run(Command::new("curl")
        .args(["-fsS", "--noproxy", "*"])
        .arg(url(&camd, "/state")));
    let state: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(state["camera"]["source"], "replay");
}

#[test]
fn a_browser_draws_a_moving_picture() {
    let camd = Camd::start(&pattern());
    let folder = Folder::new();
    let output = run(python("webpage.py").arg(url(&camd, "/")).arg(folder.path()));
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_browser_shows_what_is_wrong_with_the_configuration() {
    let folder = Folder::new();
    let fallback = folder.file("default.toml", pattern());
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.arg("--fallback").arg(fallback);
    let wrong = "[camera]\nfps = 0\nflip = \"<img src=x onerror='ran = 1'>\"\n";
    let camd = Camd::start_as(&mut command, &format!("{wrong}{LISTENERS}"), PATIENCE);
    let state = camd.state();
    let errors = state["config_errors"].as_array().expect("a list");
    let errors: Vec<_> = errors.iter().filter_map(|error| error.as_str()).collect();
    assert!(errors.len() == 2 && errors[1].contains("<img src=x onerror='ran = 1'>"));
    let profile = Folder::new();
    let mut page = python("webpage.py");
    page.arg(url(&camd, "/")).arg(profile.path()).args(errors);
    run(&mut page);
}

// --- camd fetch ---

fn fetch(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.arg("fetch").args(args);
    command
}

#[test]
fn fetch_from_each_kind_of_url() {
    let (_pictures, camera) = replay(10, 5000, 30);
    let camd = Camd::start(&format!("{camera}{LISTENERS}{RAW}"));
    for (url, count) in [
        (format!("push://{}", camd.push()), 5),
        (format!("raw://{}", camd.raw()), 5),
        (format!("pull://{}", camd.pull()), 5),
        (url(&camd, "/stream"), 5),
        (url(&camd, "/?action=stream"), 5),
        (url(&camd, "/snapshot"), 1),
        (url(&camd, "/?action=snapshot"), 1),
    ] {
        let folder = Folder::new();
        let wanted = count.to_string();
        let output = run(fetch(&[&url, "-n", &wanted, "-o"]).arg(folder.path()));
        assert!(output.stdout.is_empty());
        // Nothing is said where no terminal is, unless something is wrong.
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{url}");
        for number in 1..=count {
            let file = folder.path().join(format!("camd-{number:06}.jpg"));
            let picture =
                fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(
                (0..10).any(|number| picture == common::jpeg(number, 5000)),
                "{url}"
            );
        }
        assert_eq!(
            fs::read_dir(folder.path()).expect("the folder").count(),
            count
        );
    }
}

#[test]
fn fetch_rings_up_the_camera() {
    let camd = Camd::start(&format!(
        "{}{CALLS}fps = 30\nuser = \"door\"\npassword = \"open sesame\"\n",
        pattern()
    ));
    let folder = Folder::new();
    let call = |who: &str, to: &str| format!("call://{who}@{}/{to}", camd.call());
    let url = call("alice:open%20sesame", "door");
    let output = run(fetch(&[&url, "-n", "5", "-o"]).arg(folder.path()));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let entries = fs::read_dir(folder.path()).expect("the folder");
    let files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    assert_eq!(files.len(), 5, "{files:?}");
    let mut pictures = HashSet::new();
    for file in files {
        let picture = fs::read(&file).expect("a picture");
        let found = camd::picture::jpeg::inspect(&picture).expect("a JPEG");
        assert_eq!((found.width, found.height), (160, 120));
        // Another program's opinion.
        run(Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-xerror", "-i"])
            .arg(&file)
            .args(["-f", "null", "-"]));
        pictures.insert(picture);
    }
    assert!(pictures.len() > 1, "it moves");
    camd.wait_state("the call ends", |state| {
        state["calls"] == serde_json::json!([])
    });
    for (url, why) in [
        (call("alice:guess", "door"), "wrong password"),
        (call("alice:open%20sesame", "camera"), "camera is not there"),
    ] {
        let output = fetch(&[&url, "-n", "1", "-o", "-"])
            .stdin(Stdio::null())
            .output()
            .expect("camd is there");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(why), "{text}");
    }
}

#[test]
fn fetch_into_one_file_and_into_a_pipe() {
    let (_pictures, camera) = replay(10, 5000, 30);
    let camd = Camd::start(&format!("{camera}{LISTENERS}"));
    let folder = Folder::new();
    let file = folder.path().join("newest.jpg");
    let push = format!("push://{}", camd.push());
    run(fetch(&[&push, "-n", "3", "-o"]).arg(&file));
    assert_eq!(fs::read(&file).expect("a picture").len(), 5000);
    let output = run(&mut fetch(&[&push, "-n", "3", "-o", "-"]));
    assert_eq!(output.stdout.len(), 15_000);
    output.stdout.chunks(5000).for_each(assert_jpeg);
}

#[test]
fn fetch_for_ever_ends_with_its_reader() {
    let camd = Camd::start(&pattern());
    let push = format!("push://{}", camd.push());
    let mut child = fetch(&[&push, "-n", "0", "-o", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("camd is there");
    let mut pipe = child.stdout.take().expect("it is piped");
    let mut some = vec![0; 100_000];
    pipe.read_exact(&mut some).expect("pictures");
    drop(pipe);
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn fetch_says_in_one_line_why_it_fails() {
    let camd = Camd::start(&format!(
        "[camera]\nsource = \"v4l2\"\ndevice = \"/dev/video-missing\"\n{LISTENERS}"
    ));
    let folder = Folder::new();
    let snapshot = url(&camd, "/snapshot");
    let nothing = url(&camd, "/nothing");
    let page = url(&camd, "/");
    let pull = format!("push://{}", camd.pull());
    let mut codes = HashSet::new();
    for (address, why) in [
        ("push://:8081", "no host"),
        ("push://127.0.0.1:1", "127.0.0.1 port 1"),
        // The server's own reason.
        (&snapshot, "/dev/video-missing"),
        (&nothing, "404"),
        (&page, "text/html"),
        // pull waits for a request and says nothing.
        (&pull, "within"),
    ] {
        let output = fetch(&[address, "-n", "1", "--timeout", "3", "-o"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("camd is there");
        let text = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code().expect("an exit code");
        assert_ne!(code, 0, "{address}");
        assert!(text.contains(why), "{address}: {text}");
        assert_eq!(text.trim_end().lines().count(), 1, "{address}: {text}");
        codes.insert(code);
    }
    assert!(
        codes.len() > 1,
        "kinds of failure have codes of their own: {codes:?}"
    );
}
