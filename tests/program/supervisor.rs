//! Processes around camd: the service manager that is told how it goes and watches, and a program as camera.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Camd, Folder, PATIENCE, Stream};
use nix::sys::signal::Signal;

const CAMERA: &str = "[camera]\nsource = \"pattern\"\nwidth = 64\nheight = 48\nlinger_s = 0\n";
const HTTP: &str = "[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n";

/// A service manager.
struct Manager {
    folder: Folder,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Manager {
        let folder = Folder::new();
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket of ours");
        let manager = Manager { folder, socket };
        manager.be_patient(PATIENCE);
        manager
    }

    fn be_patient(&self, patience: Duration) {
        let set = self.socket.set_read_timeout(Some(patience));
        set.expect("a valid time");
    }

    /// camd as its service.
    fn service(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command
    }

    fn try_next(&self) -> Option<String> {
        let mut buffer = [0; 512];
        let n = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..n]).trim().to_owned())
    }

    /// The next notification, or the next one that begins so.
    fn next(&self, beginning: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let next = self.try_next().expect("a notification in time");
            if next.starts_with(beginning) {
                return next;
            }
            assert!(Instant::now() < deadline, "no {beginning:?}, but {next:?}");
        }
    }
}

#[test]
fn the_supervisor_is_told_and_the_watchdog_fed() {
    let manager = Manager::new();
    let mut command = manager.service();
    command.env("WATCHDOG_USEC", "200000");
    let mut camd = Camd::start_as(&mut command, &format!("{CAMERA}{HTTP}"), PATIENCE);
    assert_eq!(manager.next(""), "READY=1");
    for _ in 0..5 {
        manager.next("WATCHDOG=1");
    }
    // A process that hangs does not feed it.
    camd.signal(Signal::SIGSTOP);
    manager.be_patient(Duration::from_millis(1500));
    let silent = (0..3).any(|_| manager.try_next().is_none());
    assert!(silent, "the watchdog is fed by a stopped process");
    camd.signal(Signal::SIGCONT);
    manager.be_patient(PATIENCE);
    manager.next("WATCHDOG=1");
    camd.signal(Signal::SIGTERM);
    assert!(camd.wait(PATIENCE).success());
    manager.next("STOPPING=1");
}

#[test]
fn a_supervisor_that_takes_no_messages_holds_nothing_up() {
    let manager = Manager::new();
    let mut command = manager.service();
    // A thousand messages a second; the kernel keeps some hundred.
    command.env("WATCHDOG_USEC", "2000");
    let mut camd = Camd::start_as(&mut command, &format!("{CAMERA}{HTTP}"), PATIENCE);
    let mut stream = Stream::open(camd.http(), "/stream");
    camd.wait_log("what has failed", |log| {
        log.contains("supervisor not notified")
    });
    for _ in 0..30 {
        stream.next();
        assert_eq!(camd.get("/healthz").status, 200);
    }
    let log = camd.log();
    let said = log.matches("supervisor not notified").count();
    assert!(said <= 16, "{log}");
    // When it does again, it is told.
    manager.next("READY=1");
    (0..1000).for_each(|_| manager.next("WATCHDOG=1").clear());
    camd.signal(Signal::SIGTERM);
    assert!(camd.wait(Duration::from_secs(5)).success());
}

#[test]
fn the_supervisor_shows_how_it_goes() {
    let manager = Manager::new();
    let camd = Camd::start_as(&mut manager.service(), &format!("{CAMERA}{HTTP}"), PATIENCE);
    let status = |expected: &str| {
        let deadline = Instant::now() + PATIENCE;
        let expected = format!("STATUS={expected}");
        while manager.next("STATUS=") != expected {
            assert!(Instant::now() < deadline, "no {expected:?}");
        }
    };
    status("no viewers; camera live, 64x48");
    let mut streams: Vec<_> = (0..3)
        .map(|_| Stream::open(camd.http(), "/stream"))
        .collect();
    for stream in &mut streams {
        stream.next();
    }
    status("3 viewers; camera live, 64x48");
    // Pictures are no news.
    manager.be_patient(Duration::from_millis(2500));
    assert_eq!(manager.try_next(), None);
    manager.be_patient(PATIENCE);
    drop(streams);
    status("no viewers; camera live, 64x48");
}

#[test]
fn without_its_watchdog_it_does_not_start() {
    let folder = Folder::new();
    let config = folder.file("camd.toml", format!("{CAMERA}{HTTP}"));
    for (device, why) in [
        ("/dev/null", "it is not a watchdog device"),
        ("/nonexistent/watchdog", "the board's driver is not loaded"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_camd"))
            .arg("--config")
            .arg(&config)
            .args(["--watchdog", device])
            .output()
            .expect("camd runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(
            last.starts_with(&format!("camd: --watchdog {device}: ")) && last.contains(why),
            "{said}"
        );
    }
}

// --- the box around it ---

#[test]
fn what_the_box_says_is_read_for_each_answer_and_its_end_is_no_problem() {
    let folder = Folder::new();
    let file = folder.path().join("box");
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.arg("--box").arg(&file);
    let camd = Camd::start_as(&mut command, &format!("{CAMERA}{HTTP}"), PATIENCE);
    assert_eq!(
        camd.state()["box"],
        serde_json::Value::Null,
        "not there yet"
    );
    fs::write(
        &file,
        "name=garden\nsignal_dbm=-50\nproblem=Wi-Fi: wrong password\n",
    )
    .expect("a file");
    let state = camd.state();
    assert_eq!(state["box"]["name"], "garden");
    assert_eq!(state["box"]["signal_dbm"], -50);
    assert_eq!(state["box"]["address"], serde_json::Value::Null);
    assert_eq!(
        state["box"]["problems"],
        serde_json::json!(["Wi-Fi: wrong password"])
    );
    fs::write(&file, "name=garden\n").expect("a file");
    assert_eq!(camd.state()["box"]["problems"], serde_json::json!([]));
    // A pipe that nobody writes to stops nothing, and a viewer goes on.
    fs::remove_file(&file).expect("it is there");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let mut viewer = Stream::open(camd.http(), "/stream");
    viewer.next();
    assert_eq!(camd.state()["box"]["name"], serde_json::Value::Null);
    viewer.next();
    fs::remove_file(&file).expect("it is there");
    assert_eq!(camd.state()["box"], serde_json::Value::Null);
}

// --- the configuration has errors ---

/// The value of a metric without labels.
fn metric(camd: &Camd, name: &str) -> u32 {
    let text = String::from_utf8(camd.get("/metrics").body).expect("text");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn a_bad_file_gives_way_to_the_fallback_and_is_complained_about_until_it_is_good() {
    let folder = Folder::new();
    let good = format!("{CAMERA}{HTTP}");
    let fallback = folder.file("default.toml", &good);
    let secret = "[call]\npassword = \"confidential\"\n";
    let bad = format!("{}{HTTP}{secret}", CAMERA.replace("64", "3"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.arg("--fallback").arg(&fallback);
    let mut camd = Camd::start_as(&mut command, &bad, PATIENCE);
    let path = camd.config_path().display().to_string();
    let width =
        format!("{path}:3: camera.width: 3 is out of range; allowed: an integer from 16 to 8192");
    assert_eq!(camd.state()["config_errors"], serde_json::json!([width]));
    assert_eq!(metric(&camd, "camd_config_errors"), 1);
    let log = camd.log();
    assert!(log.contains(&width), "{log}");
    let in_force = format!("{} is in force in its place", fallback.display());
    assert!(log.contains(&in_force), "{log}");
    // The picture is the other file's.
    camd.wait_state("a picture", |state| state["camera"]["width"] == 64);

    // Better, but not good.
    let reload = |camd: &mut Camd, config: &str| {
        let before = camd.log().len();
        std::fs::write(camd.config_path(), config).expect("the configuration file");
        camd.signal(Signal::SIGHUP);
        camd.wait_log("a word about the reload", |log| {
            log[before..].contains("read again") || log[before..].contains("stay in force")
        });
    };
    reload(
        &mut camd,
        &format!("{good}[limits]\nfps = 1\n[oops]\n{secret}"),
    );
    let errors = camd.state()["config_errors"].clone();
    let errors = errors.as_array().expect("a list");
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].as_str().expect("text").contains("limits.fps"));
    assert_eq!(metric(&camd, "camd_config_errors"), 2);
    assert_eq!(camd.state()["camera"]["width"], 64);

    reload(&mut camd, &good.replace("64", "80"));
    camd.wait_state("the file's picture", |state| state["camera"]["width"] == 80);
    assert_eq!(camd.state()["config_errors"], serde_json::json!([]));
    assert_eq!(metric(&camd, "camd_config_errors"), 0);

    // From a good one to a bad one: what is in force stays, as without a fallback.
    reload(&mut camd, "camera = 3");
    assert_eq!(metric(&camd, "camd_config_errors"), 1);
    assert_eq!(camd.state()["camera"]["width"], 80);
    assert!(!camd.log().contains("confidential"));
}

#[test]
fn a_missing_file_gives_way_too_but_a_bad_fallback_does_not_help() {
    let folder = Folder::new();
    let fallback = folder.file("default.toml", "[camera]\nfps = 0\n");
    let output = Command::new(env!("CARGO_BIN_EXE_camd"))
        .args(["--config", "/nonexistent/camd.toml", "--fallback"])
        .arg(&fallback)
        .output()
        .expect("camd runs");
    assert_eq!(output.status.code(), Some(2));
    let fallback = fallback.display();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "/nonexistent/camd.toml: cannot be read: No such file or directory (os error 2)\n\
             {fallback}:2: camera.fps: 0 is out of range; allowed: an integer from 1 to 240\n"
        )
    );
    let fallback = folder.file("default.toml", format!("{CAMERA}{HTTP}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.arg("--fallback").arg(&fallback);
    // Read at start and bad; then it is gone.
    let camd = Camd::start_as(
        &mut command,
        "this is no TOML, and there would be one [[listener]]",
        PATIENCE,
    );
    std::fs::remove_file(camd.config_path()).expect("it is there");
    camd.signal(Signal::SIGHUP);
    camd.wait_state("the word about it", |state| {
        let error = state["config_errors"][0].as_str();
        error.is_some_and(|error| error.contains("cannot be read"))
    });
}

#[test]
fn a_program_is_the_camera_and_dies_with_camd() {
    let folder = Folder::new();
    for number in 0..3 {
        folder.file(
            &format!("{number}.jpg"),
            crate::common::jpeg(number, 20_000),
        );
    }
    let pids = folder.path().join("pids");
    // A grandchild, as of a shell script around a camera program.
    let script = format!(
        "echo $$ >> {0}; sleep 1000 & echo $! >> {0}; while :; do cat {1}/*.jpg; sleep 0.05; done",
        pids.display(),
        folder.path().display()
    );
    let config = format!(
        "[camera]\nsource = \"pipe\"\ncommand = [\"sh\", \"-c\", {script:?}]\n\
         [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n"
    );
    let mut camd = Camd::start(&config);
    let mut stream = Stream::open(camd.http(), "/stream");
    let picture = stream.next().jpeg;
    assert!((0..3).any(|number| picture == crate::common::jpeg(number, 20_000)));
    // Its death is noticed, told on the same connection, and mended.
    let alive = |pid: &str| {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    };
    let all = fs::read_to_string(&pids).expect("the script has written it");
    let first: Vec<_> = all.lines().collect();
    let leader = nix::unistd::Pid::from_raw(first[0].parse().expect("a number"));
    nix::sys::signal::kill(leader, Signal::SIGKILL).expect("it runs");
    let deadline = Instant::now() + PATIENCE;
    let mut card = false;
    loop {
        let jpeg = stream.next().jpeg;
        let camera = (0..3).any(|number| jpeg == crate::common::jpeg(number, 20_000));
        card |= !camera;
        if card && camera {
            break;
        }
        assert!(Instant::now() < deadline, "pictures again");
    }
    assert!(
        !alive(first[1]),
        "what the program had started is gone, too"
    );
    camd.signal(Signal::SIGTERM);
    assert!(camd.wait(PATIENCE).success());
    let all = fs::read_to_string(&pids).expect("it is still there");
    assert!(all.lines().count() >= 4, "it was started again: {all}");
    let deadline = Instant::now() + PATIENCE;
    while all.lines().any(alive) {
        assert!(Instant::now() < deadline, "left behind: {all}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where a supervisor's log takes each write for a message, as /dev/kmsg does, what camd says at its end is one.
#[test]
fn last_words_are_written_in_one_piece() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_camd"))
        .args(["fetch", "tcp://127.0.0.1"])
        .stderr(OwnedFd::from(theirs))
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
    let mut message = [0; 4096];
    let n = ours.recv(&mut message).unwrap();
    let text = str::from_utf8(&message[..n]).unwrap();
    assert!(
        text.starts_with("camd: ") && text.contains("tcp://") && text.ends_with("--help`.\n"),
        "the first message is {text:?}"
    );
}
