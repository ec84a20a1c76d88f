//! The log does not grow with viewers that come and go: what is as it was before is not said again, what changes is. And nothing
//! waits for it: neither a viewer nor the end.

use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use crate::common::user::{CALLS, User};
use crate::common::{
    Camd, Folder, Gate, LISTENERS, PATIENCE, Stream, assert_closed, assert_jpeg, connect, jpeg,
    pattern, send,
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
    let camd = Camd::start(&pattern());
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

/// Breaks the protocol once, from an address of this machine.
fn violate(pull: SocketAddr, from: [u8; 4]) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::from((from, 0)).into())
        .expect("all of 127/8 is ours");
    socket.connect(&pull.into()).expect("connected");
    let mut stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("SO_RCVTIMEO");
    send(&mut stream, "who are you?");
    assert_closed(&mut stream);
}

#[test]
fn one_addresss_flood_silences_no_other_address() {
    let camd = Camd::start(&pattern());
    for _ in 0..300 {
        violate(camd.pull(), [127, 0, 0, 1]);
    }
    violate(camd.pull(), [127, 0, 0, 9]);
    wait("word of the other address", || {
        camd.log().contains("127.0.0.9:")
    });
    let log = camd.log();
    let said = log.matches("violation of the protocol").count();
    assert_eq!(
        said,
        16 + 4 + 1,
        "16, four powers of two, and the other's: {log}"
    );
    // From ever new addresses.
    for number in 0..200 {
        violate(camd.pull(), [127, 1, 2, number]);
    }
    let log = camd.log();
    let said = log.matches("violation of the protocol").count();
    assert!(said < 120, "64 at once, then one a second: {log}");
    assert_eq!(camd.state()["listeners"][2]["violations"], 501);
}

/// A viewer that watches until it is asked what it has seen.
struct Viewer {
    over: Arc<AtomicBool>,
    watching: JoinHandle<Seen>,
}

#[derive(Debug)]
struct Seen {
    pictures: u32,
    fps: f64,
    oldest: Duration,
    longest_gap: Duration,
}

impl Viewer {
    fn open(address: SocketAddr) -> Viewer {
        let over = Arc::new(AtomicBool::new(false));
        let mut stream = Stream::open(address, "/stream");
        let watching = std::thread::spawn({
            let over = over.clone();
            move || {
                let began = Instant::now();
                let mut last = began;
                let mut seen = Seen {
                    pictures: 0,
                    fps: 0.0,
                    oldest: Duration::ZERO,
                    longest_gap: Duration::ZERO,
                };
                while !over.load(Ordering::Relaxed) {
                    let part = stream.next();
                    assert_jpeg(&part.jpeg);
                    seen.pictures += 1;
                    seen.oldest = seen.oldest.max(part.age());
                    seen.longest_gap = seen.longest_gap.max(last.elapsed());
                    last = Instant::now();
                }
                seen.fps = f64::from(seen.pictures) / began.elapsed().as_secs_f64();
                seen
            }
        });
        Viewer { over, watching }
    }

    /// It has had its pictures all the time. The figures are far from those of an idle machine; a log that holds the loop
    /// up for a second is far beyond them.
    fn assert_well(self) {
        self.over.store(true, Ordering::Relaxed);
        let seen = self.watching.join().expect("the viewer is served");
        eprintln!("{seen:?}");
        assert!(seen.fps > 10.0, "{seen:?}");
        assert!(seen.oldest < Duration::from_secs(1), "{seen:?}");
        assert!(seen.longest_gap < Duration::from_secs(1), "{seen:?}");
    }
}

/// With every step in the log.
fn talkative() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.env("RUST_LOG", "debug").stdin(Stdio::null());
    command
}

/// 2,000 connections that break the protocol, two messages each and more, for three seconds; and the page that says that
/// camd is well is answered again and again.
fn provoke(camd: &Camd) {
    let began = Instant::now();
    let (mut slowest, mut rounds) = (Duration::ZERO, 0);
    while rounds < 80 || began.elapsed() < Duration::from_secs(3) {
        for _ in 0..25 {
            violate(camd.pull(), [127, 0, 0, 1]);
        }
        let asked = Instant::now();
        assert_eq!(camd.get("/healthz").status, 200, "round {rounds}");
        slowest = slowest.max(asked.elapsed());
        rounds += 1;
    }
    eprintln!("{rounds} rounds; /healthz took {slowest:?} at most");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

/// It ends when it is told to, as soon as systemd wants it (TimeoutStopSec=5).
fn assert_it_ends(camd: &mut Camd) {
    camd.signal(Signal::SIGTERM);
    assert!(camd.wait(Duration::from_secs(5)).success());
}

#[test]
fn a_pipe_that_nobody_reads_costs_nobody_anything() {
    let (gate, (read, write)) = (Gate::default(), std::io::pipe().expect("a pipe"));
    gate.set(Gate::OPEN);
    let mut camd = Camd::start_on(
        &mut talkative(),
        &pattern(),
        PATIENCE,
        gate.before(read),
        write,
    );
    let viewer = Viewer::open(camd.http());
    gate.set(0);
    provoke(&camd);
    viewer.assert_well();
    // As soon as somebody reads, the number of those that are missing stands where they are.
    gate.set(Gate::OPEN);
    camd.wait_log("the number of lines that are missing", |log| {
        log.contains(" lines were not written: standard error took no more")
    });
    violate(camd.pull(), [127, 0, 0, 77]);
    camd.wait_log("what comes later", |log| log.contains("127.0.0.77:"));
    let log = camd.log();
    assert!(
        log.lines().all(|line| line.starts_with('[')),
        "whole lines: {log}"
    );
    // And the end, with nobody there again.
    gate.set(0);
    provoke(&camd);
    assert_it_ends(&mut camd);
    gate.set(Gate::OPEN);
}

#[test]
fn a_slow_terminal_costs_nobody_anything() {
    let terminal = nix::pty::openpty(None, None).expect("a pseudo-terminal");
    let gate = Gate::default();
    gate.set(Gate::OPEN);
    let mut camd = Camd::start_on(
        talkative().env("NO_COLOR", "1"),
        &pattern(),
        PATIENCE,
        gate.before(File::from(terminal.master)),
        terminal.slave,
    );
    let viewer = Viewer::open(camd.http());
    // A serial line of 115,200 baud.
    gate.set(11_500);
    provoke(&camd);
    viewer.assert_well();
    gate.set(Gate::OPEN);
    camd.wait_log("the number of lines that are missing", |log| {
        log.contains(" lines were not written")
    });
    gate.set(11_500);
    provoke(&camd);
    assert_it_ends(&mut camd);
    gate.set(Gate::OPEN);
}

/// Standard errors that take nothing at all: a full disk, and a pipe whose reader has gone.
#[test]
fn without_a_log_it_serves_on() {
    let (read, write) = std::io::pipe().expect("a pipe");
    drop(read);
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("a full disk");
    for stderr in [OwnedFd::from(write), full.into()] {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let config = format!(
            "[camera]\nsource = \"pattern\"\n[[listener]]\nprotocol = \"http\"\nbind = \"{address}\"\n"
        );
        // No line says that it listens, so none is waited for.
        let config = config.replace("[[listener]]", "[[ listener ]]");
        let nothing = std::io::empty();
        let mut camd = Camd::start_on(&mut talkative(), &config, PATIENCE, nothing, stderr);
        wait("answer", || TcpStream::connect(address).is_ok());
        camd.listeners = vec![("http".to_owned(), address.to_string())];
        for _ in 0..200 {
            assert_eq!(camd.get("/healthz").status, 200);
        }
        assert_it_ends(&mut camd);
    }
}

#[test]
fn the_journal_gets_levels_and_no_times() {
    for is_journal in [true, false] {
        let (read, write) = std::io::pipe().expect("a pipe");
        let path = format!("/proc/self/fd/{}", write.as_raw_fd());
        let meta = fs::metadata(path).expect("it is open");
        let inode = meta.ino() + u64::from(!is_journal);
        let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
        let journal = format!("{}:{inode}", meta.dev());
        command
            .env_remove("RUST_LOG")
            .env("JOURNAL_STREAM", journal);
        let mut camd = Camd::start_on(&mut command, &pattern(), PATIENCE, read, write);
        violate(camd.pull(), [127, 0, 0, 1]);
        camd.wait_log("the violation", |log| {
            log.contains("violation of the protocol")
        });
        let log = camd.log();
        let begins = if is_journal { '<' } else { '[' };
        assert!(log.lines().all(|line| line.starts_with(begins)), "{log}");
        if is_journal {
            assert!(
                log.contains("\n<4>") && log.contains("<5>listening: "),
                "{log}"
            );
        }
        assert_it_ends(&mut camd);
    }
}

#[test]
fn no_stranger_writes_on_the_terminal() {
    let folder = Folder::new();
    let script = folder.file(
        "camera.sh",
        "#!/bin/sh\nprintf '\\342\\200\\256drawkcab \\033[2J \\342\\200\\250 \\363\\240\\201\\201 end\\n' >&2\nsleep 60\n",
    );
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut camd = Camd::start(&format!(
        "[camera]\nsource = \"pipe\"\ncommand = [{:?}]\nlinger_s = 0\n{LISTENERS}{CALLS}",
        script.to_str().expect("UTF-8")
    ));
    let mut stream = connect(camd.http());
    send(&mut stream, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    camd.wait_log("the program's line", |log| {
        log.contains("\\u{202e}drawkcab \\u{1b}[2J \\u{2028} \\u{e0041} end")
    });
    // Whether such a name is let in is not the log's affair.
    for _ in 0..2 {
        let mut user = User::new(camd.call(), "nim\u{202e}da\u{200b}");
        user.say("", "", camd::protocol::call::Kind::Login);
        std::mem::forget(user);
    }
    camd.wait_log("the login", |log| log.contains("camd::peers"));
    let log = camd.log();
    let unseen = |c: char| c != '\n' && camd::text::is_unseen(c);
    assert!(!log.contains(unseen), "{log:?}");
}

/// Not a test: what [`a_panic_is_said_and_hangs_nobody`] starts as a process of its own.
#[test]
#[ignore = "it panics, when another test wants it to"]
fn panic_in_a_process_of_its_own() {
    camd::system::logging::init().expect("a log");
    camd::system::logging::begin().expect("a thread");
    let lines = std::env::var("CAMD_TEST_LINES").expect("the other test sets it");
    for number in 0..lines.parse().expect("a number") {
        log::warn!("line {number}: {}", "x".repeat(100));
    }
    panic!("the roof is\non fire");
}

#[test]
fn a_panic_is_said_and_hangs_nobody() {
    let run = |lines: &str, read_early: bool| {
        let (mut read, write) = std::io::pipe().expect("a pipe");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .arg("log::panic_in_a_process_of_its_own")
            .env("CAMD_TEST_LINES", lines)
            .env_remove("RUST_LOG")
            .stdout(Stdio::null())
            .stderr(write)
            .spawn()
            .expect("it runs");
        let mut log = String::new();
        if read_early {
            read.read_to_string(&mut log).expect("text");
        }
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("our child") {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().expect("killed");
                panic!("it hangs");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(!status.success(), "it has panicked");
        if !read_early {
            read.read_to_string(&mut log).expect("text");
        }
        log
    };
    let log = run("3", true);
    let last = log.lines().skip_while(|line| !line.contains("line 2"));
    let last: Vec<_> = last.skip(1).take(3).collect();
    assert!(
        last[0].contains("has panicked") && last[0].contains("tests/program/log.rs"),
        "{log}"
    );
    assert_eq!(&last[1..], ["the roof is", "on fire"], "{log}");
    // More than the pipe and camd's own room hold, and nobody reads.
    run("2000", false);
}
