//! Where camd listens: IPv6, Unix sockets, and sockets that the supervisor has opened.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Camd, Folder, PATIENCE, Stream, push_next};
use nix::sys::signal::Signal;

const PATTERN: &str = "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\nlinger_s = 0\n";

fn listener(protocol: &str, bind: &str) -> String {
    format!("[[listener]]\nprotocol = \"{protocol}\"\nbind = \"{bind}\"\n")
}

#[test]
fn ipv6() {
    let camd = Camd::start(&format!(
        "{PATTERN}{}{}",
        listener("http", "[::1]:0"),
        listener("push", "[::]:0")
    ));
    assert!(camd.http().is_ipv6());
    Stream::open(camd.http(), "/stream").next();
    // The address that means all of them takes IPv4 clients, too.
    let mut push = crate::common::connect(([127, 0, 0, 1], camd.push().port()).into());
    push_next(&mut push);
    let state = camd.state();
    let push = push.local_addr().expect("its address").to_string();
    let clients = state["clients"].as_array().expect("a list");
    assert!(
        clients.iter().any(|client| client["peer"] == push),
        "an IPv4 client has an IPv4 address: {state:#}"
    );
}

fn get_over(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).expect("somebody listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("SO_RCVTIMEO");
    stream
        .write_all(b"GET /snapshot HTTP/1.0\r\n\r\n")
        .expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn unix_sockets() {
    let folder = Folder::new();
    let path = folder.path().join("http.sock");
    let bind = format!("unix:{}", path.display());
    let config = format!("{PATTERN}{}", listener("http", &bind));
    let mut camd = Camd::start(&config);
    assert_eq!(camd.listeners, [("http".to_owned(), bind)]);
    assert!(get_over(&path).starts_with("HTTP/1.1 200 OK\r\n"));

    // One that was killed leaves its file behind, and the next one takes the place.
    camd.signal(Signal::SIGKILL);
    camd.wait(PATIENCE);
    assert!(path.exists());
    let mut camd = Camd::start(&config);
    assert!(get_over(&path).starts_with("HTTP/1.1 200 OK\r\n"));

    // A place where somebody listens is not taken.
    let second = folder.file("second.toml", &config);
    let output = Command::new(env!("CARGO_BIN_EXE_camd"))
        .arg("--config")
        .arg(second)
        .stdin(Stdio::null())
        .output()
        .expect("camd is there");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("http.sock"), "{text}");
    assert!(get_over(&path).starts_with("HTTP/1.1 200 OK\r\n"));

    camd.signal(Signal::SIGTERM);
    assert!(camd.wait(Duration::from_secs(1)).success());
    assert!(!path.exists(), "nothing is left behind");
}

#[test]
fn an_address_in_use_is_a_failure_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    let folder = Folder::new();
    let config = format!("{PATTERN}{}", listener("pull", &address));
    let config = folder.file("camd.toml", config);
    let output = Command::new(env!("CARGO_BIN_EXE_camd"))
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .expect("camd is there");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&address) && text.contains("pull"), "{text}");
}

/// camd with this socket as descriptor 3, as systemd passes it (sd_listen_fds(3)). The shell is there because LISTEN_PID
/// must be the number of the process that gets it.
fn activated(socket: TcpListener, name: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3<&0 0</dev/null",
            env!("CARGO_BIN_EXE_camd"),
        ])
        .env("LISTEN_FDNAMES", name)
        .stdin(OwnedFd::from(socket));
    shell
}

fn loopback_socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("its address");
    (socket, address)
}

#[test]
fn a_passed_socket_is_used_by_its_name() {
    let (socket, address) = loopback_socket();
    // A client that came before camd did.
    let early = TcpStream::connect(address).expect("the socket listens already");
    // The address of the configuration is another one.
    let config = format!("{PATTERN}{}", listener("http", "127.0.0.1:1"));
    let camd = Camd::start_as(&mut activated(socket, "http"), &config, PATIENCE);
    assert_eq!(camd.http(), address);
    early.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
    Stream::open_over(early, "/stream").next();
    assert_eq!(camd.get("/snapshot").status, 200);
}

#[test]
fn a_passed_socket_is_used_by_its_address() {
    let (socket, address) = loopback_socket();
    let config = format!(
        "{PATTERN}{}{}",
        listener("push", "127.0.0.1:0"),
        listener("http", &address.to_string())
    );
    let camd = Camd::start_as(&mut activated(socket, "unknown"), &config, PATIENCE);
    assert_eq!(camd.http(), address);
    assert_eq!(camd.get("/snapshot").status, 200);
}

#[test]
fn a_passed_socket_that_fits_nothing_is_told() {
    let (socket, address) = loopback_socket();
    let config = format!("{PATTERN}{}", listener("http", "127.0.0.1:0"));
    let mut camd = Camd::start_as(&mut activated(socket, "video"), &config, PATIENCE);
    assert_ne!(camd.http(), address);
    let place = format!("(video, {address})");
    camd.wait_log("the socket", |log| {
        log.contains("ERROR") && log.contains(&place)
    });
}

#[test]
fn a_socket_that_was_not_passed_is_a_failure() {
    let folder = Folder::new();
    let config = format!("{PATTERN}{}", listener("http", "127.0.0.1:0"));
    let config = folder.file("camd.toml", config);
    let output = Command::new("sh")
        .args([
            "-c",
            "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3<&-",
        ])
        .arg(env!("CARGO_BIN_EXE_camd"))
        .arg("--config")
        .arg(config)
        .output()
        .expect("a shell");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
