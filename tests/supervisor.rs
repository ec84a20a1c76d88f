//! What a service manager does with camd: passes sockets, is told how it goes, watches; and the other ways in and out
//! of the process, Unix sockets and a program as camera.

mod common;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use camd::jpeg;
use common::{Camd, Folder, PATIENCE, Stream};
use nix::sys::signal::Signal;

const CAMERA: &str = "[camera]\nsource = \"pattern\"\nwidth = 64\nheight = 48\nlinger_s = 0\n";

/// camd with this socket as descriptor 3, as systemd passes it (sd_listen_fds(3)). The shell is there because
/// LISTEN_PID must be the number of the process that gets them.
fn activated(socket: &impl AsRawFd, name: &str) -> Command {
    let mut command = Command::new("sh");
    let camd = env!("CARGO_BIN_EXE_camd");
    command
        .args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\"", camd])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", name);
    let fd = socket.as_raw_fd();
    // SAFETY: dup2 and fcntl are async-signal-safe, and allocate nothing. Descriptor 3 of the child is nobody else's: what std
    // opened there is closed by the exec that follows.
    unsafe {
        command.pre_exec(move || {
            // dup2 onto itself would leave it to be closed by exec.
            let done = match fd {
                3 => nix::libc::fcntl(fd, nix::libc::F_SETFD, 0),
                fd => nix::libc::dup2(fd, 3),
            };
            match done {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
    command
}

#[test]
fn a_passed_socket_is_used_by_its_address() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = socket.local_addr().expect("it is bound");
    let config = format!(
        "{}[[listener]]\nprotocol = \"push\"\nbind = \"127.0.0.1:0\"\n[[listener]]\nprotocol = \"http\"\nbind = \"{address}\"\n",
        CAMERA
    );
    let mut command = activated(&socket, "unknown");
    let camd = Camd::start_as(&mut command, &config, PATIENCE);
    drop(socket);
    assert_eq!(camd.http(), address);
    assert_ne!(camd.push(), address);
    Stream::open(address, "/stream").next();
}

#[test]
fn a_passed_socket_is_used_by_its_name() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = socket.local_addr().expect("it is bound");
    // Nothing may listen at the configured address.
    let config = format!(
        "{}[[listener]]\nprotocol = \"http\"\nbind = \"192.0.2.1:80\"\n",
        CAMERA
    );
    let mut command = activated(&socket, "http");
    let camd = Camd::start_as(&mut command, &config, PATIENCE);
    drop(socket);
    assert_eq!(camd.http(), address);
    assert_eq!(camd.get("/healthz").status, 200);
}

#[test]
fn a_passed_socket_that_fits_nothing_is_told() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let config = format!(
        "{}[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n",
        CAMERA
    );
    let mut command = activated(&socket, "video");
    let mut camd = Camd::start_as(&mut command, &config, PATIENCE);
    camd.wait_log("the socket", |log| {
        log.contains("ERROR") && log.contains("(video, 127.0.0.1:")
    });
}

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

fn unix_config(path: &std::path::Path) -> String {
    format!(
        "{}[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nprotocol = \"push\"\nbind = \"unix:{}\"\n",
        CAMERA,
        path.display()
    )
}

/// The next picture from a push socket.
fn push_picture(stream: &mut UnixStream) -> Vec<u8> {
    let mut header = [0; 8];
    stream.read_exact(&mut header).expect("a header");
    let len = camd::protocol::push::parse_header(header, 1 << 20).expect("a good header");
    let mut picture = vec![0; len];
    stream.read_exact(&mut picture).expect("a picture");
    picture
}

#[test]
fn a_unix_socket_serves_is_taken_over_when_stale_and_removed_at_the_end() {
    let folder = Folder::new();
    let path = folder.path().join("push.sock");
    // As a camd that was killed leaves it: nobody listens any more.
    drop(UnixListener::bind(&path).expect("a socket in our folder"));
    assert!(path.exists());
    let mut camd = Camd::start(&unix_config(&path));
    let mut stream = UnixStream::connect(&path).expect("camd listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("valid");
    let (first, second) = (push_picture(&mut stream), push_picture(&mut stream));
    assert_ne!(first, second);
    jpeg::inspect(&first).expect("a JPEG");
    let state = camd.state();
    let clients = state["clients"].as_array().expect("clients");
    assert!(
        clients
            .iter()
            .any(|c| c["peer"] == "unix" && c["protocol"] == "push"),
        "{state}"
    );
    camd.signal(Signal::SIGTERM);
    assert!(camd.wait(PATIENCE).success());
    assert!(!path.exists(), "the socket is removed");
}

#[test]
fn a_unix_socket_on_which_somebody_listens_is_left_alone() {
    let folder = Folder::new();
    let path = folder.path().join("push.sock");
    let _other = UnixListener::bind(&path).expect("a socket in our folder");
    let config = folder.file("camd.toml", unix_config(&path));
    let output = Command::new(env!("CARGO_BIN_EXE_camd"))
        .arg("--config")
        .arg(config)
        .output()
        .expect("camd runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    let place = format!("cannot listen on unix:{} for push", path.display());
    assert!(text.contains(&place), "{text}");
    assert!(
        UnixStream::connect(&path).is_ok(),
        "the other's socket is still there"
    );
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
