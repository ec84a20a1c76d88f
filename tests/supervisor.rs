//! Processes around camd: the service manager that is told how it goes and watches, and a program as camera.

mod common;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Camd, Folder, PATIENCE, Stream};
use nix::sys::signal::Signal;

const CAMERA: &str = "[camera]\nsource = \"pattern\"\nwidth = 64\nheight = 48\nlinger_s = 0\n";

#[test]
fn the_supervisor_is_told_and_the_watchdog_fed() {
    let folder = Folder::new();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket in our folder");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a valid time");
    let next = || {
        let mut buffer = [0; 256];
        let n = socket.recv(&mut buffer).expect("a notification in time");
        String::from_utf8_lossy(&buffer[..n]).trim().to_owned()
    };
    let config = format!(
        "{}[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n",
        CAMERA
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000");
    let mut camd = Camd::start_as(&mut command, &config, PATIENCE);
    assert_eq!(next(), "READY=1");
    for _ in 0..5 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    // A process that hangs does not feed it.
    camd.signal(Signal::SIGSTOP);
    socket
        .set_read_timeout(Some(Duration::from_millis(1500)))
        .expect("a valid time");
    let silent = (0..3).any(|_| socket.recv(&mut [0; 256]).is_err());
    assert!(silent, "the watchdog is fed by a stopped process");
    camd.signal(Signal::SIGCONT);
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a valid time");
    assert_eq!(next(), "WATCHDOG=1");
    camd.signal(Signal::SIGTERM);
    assert!(camd.wait(PATIENCE).success());
    let deadline = Instant::now() + PATIENCE;
    while next() != "STOPPING=1" {
        assert!(Instant::now() < deadline, "no word of the end");
    }
}

#[test]
fn a_program_is_the_camera_and_dies_with_camd() {
    let folder = Folder::new();
    for number in 0..3 {
        folder.file(&format!("{number}.jpg"), common::jpeg(number, 20_000));
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
    assert!((0..3).any(|number| picture == common::jpeg(number, 20_000)));
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
        let camera = (0..3).any(|number| jpeg == common::jpeg(number, 20_000));
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
