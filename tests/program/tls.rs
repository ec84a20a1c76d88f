//! TLS, as its clients meet it: every protocol, both versions, peers of other makers, certificates that change, and whoever
//! means harm, with a healthy viewer beside.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use camd::tls::fingerprint::Fingerprint;
use nix::sys::signal::Signal;
use rustls::version::{TLS12, TLS13};

use crate::common::tls::{self, Tls, make_certificate, make_certificate_of};
use crate::common::{
    Camd, Folder, PATIENCE, Stream, assert_closed, assert_jpeg, connect, jpeg, pattern, pull_next,
    python, read_head, replay, run, send,
};

const PATTERN: &str = "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\nlinger_s = 0\n";

fn listener(protocol: &str, more: &str) -> String {
    format!("[[listener]]\nprotocol = \"{protocol}\"\nbind = \"127.0.0.1:0\"\ntls = true\n{more}")
}

/// camd with a state folder of its own.
fn start_in(folder: &Path, config: &str) -> Camd {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.stdin(Stdio::null()).env("STATE_DIRECTORY", folder);
    Camd::start_as(&mut command, config, PATIENCE)
}

fn start(config: &str) -> (Folder, Camd) {
    let state = Folder::new();
    let camd = start_in(state.path(), config);
    (state, camd)
}

/// `/state` over TLS: nobody speaks anything else.
fn state(camd: &Camd) -> serde_json::Value {
    let mut tls = tls::connect(camd.http(), &TLS13);
    send(
        &mut tls,
        "GET /state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    let mut answer = String::new();
    tls.read_to_string(&mut answer).expect("all of it");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn fingerprint(tls: &Tls) -> Fingerprint {
    Fingerprint::of(&tls.conn.peer_certificates().expect("a certificate")[0])
}

#[test]
fn every_protocol_and_both_versions() {
    let (folder, camera) = replay(3, 100_000, 20);
    let listeners = ["http", "push", "pull", "raw"].map(|protocol| listener(protocol, ""));
    let (_state, camd) = start(&(camera + &listeners.concat()));
    let pictures: Vec<_> = (0..3).map(|number| jpeg(number, 100_000)).collect();
    for version in [&TLS12, &TLS13] {
        let mut stream = Stream::open_over(tls::connect(camd.http(), version), "/stream");
        for _ in 0..3 {
            assert!(pictures.contains(&stream.next().jpeg));
        }
        let name = if version.version == TLS12.version {
            "TLSv1.2"
        } else {
            "TLSv1.3"
        };
        let state = state(&camd);
        let clients = state["clients"].as_array().expect("a list");
        let is_viewer = |client: &&serde_json::Value| client["frames"].as_u64() > Some(0);
        let viewer = clients.iter().find(is_viewer).expect("the viewer");
        let encryption = viewer["tls"].as_str().expect("it is encrypted");
        assert!(encryption.starts_with(name), "{encryption}");

        let mut push = tls::connect(camd.push(), version);
        for _ in 0..3 {
            let mut head = [0; 8];
            push.read_exact(&mut head).expect("two lengths");
            let mut picture = vec![0; 100_000];
            push.read_exact(&mut picture).expect("a picture");
            assert!(pictures.contains(&picture));
        }
        let mut raw = tls::connect(camd.raw(), version);
        for _ in 0..3 {
            let mut picture = vec![0; 100_000];
            raw.read_exact(&mut picture).expect("a picture");
            assert!(pictures.contains(&picture));
        }
        let mut pull = tls::connect(camd.pull(), version);
        for _ in 0..3 {
            assert!(pictures.contains(&pull_next(&mut pull)));
        }
    }
    drop(folder);
}

#[test]
fn call_over_tls() {
    let (_state, camd) = start(&format!("{PATTERN}{}", listener("call", "")));
    let mut call = tls::connect(camd.call(), &TLS13);
    // As src/protocol/call.md has it: sender, receiver and content as QStrings, then the kind.
    let mut record = Vec::new();
    camd::protocol::call::write(
        &mut record,
        "anna",
        "",
        "",
        camd::protocol::call::Kind::Login,
    );
    send(&mut call, record);
    let mut answer = [0; 4];
    call.read_exact(&mut answer).expect("an answer");
}

#[test]
fn the_boxs_own_certificate_stays_the_same() {
    let folder = Folder::new();
    let config = format!("{PATTERN}{}", listener("http", ""));
    let mut camd = start_in(folder.path(), &config);
    let first = fingerprint(&tls::connect(camd.http(), &TLS13));
    assert!(camd.log().contains(&first.to_string()), "it is in the log");
    let check = Command::new(env!("CARGO_BIN_EXE_camd"))
        .args(["check", "--config"])
        .arg(camd.config_path())
        .env("STATE_DIRECTORY", folder.path())
        .output()
        .expect("it runs");
    let text = String::from_utf8(check.stdout).expect("text");
    assert!(text.contains(&first.to_string()), "{text}");
    assert!(check.status.success());
    let state = state(&camd);
    assert_eq!(state["listeners"][0]["fingerprint"], first.to_string());
    camd.signal(Signal::SIGTERM);
    camd.wait(PATIENCE);
    let camd = start_in(folder.path(), &config);
    assert_eq!(
        fingerprint(&tls::connect(camd.http(), &TLS12)),
        first,
        "after a restart"
    );
    let mode = fs::metadata(folder.path().join("tls.pem")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
}

/// The certificate alone, to be trusted by a peer.
fn certificate(folder: &Path) -> PathBuf {
    let pem = fs::read_to_string(folder.join("tls.pem")).expect("it is there");
    let start = pem.find("-----BEGIN CERT").expect("a certificate");
    let path = folder.join("certificate.pem");
    fs::write(&path, &pem[start..]).expect("a file");
    path
}

#[test]
fn curl() {
    let (state, camd) = start(&format!("{PATTERN}{}", listener("http", "")));
    let trusted = certificate(state.path());
    let port = camd.http().port();
    let curl = |args: &[&str], host: &str| {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(args)
            .arg(format!("https://{host}:{port}/snapshot"));
        command
    };
    let ca = trusted.to_str().expect("a path");
    for args in [
        &["--cacert", ca][..],
        &["--cacert", ca, "--tls-max", "1.2"],
        &["--cacert", ca, "--tlsv1.3"],
        &["--insecure"],
    ] {
        for host in ["localhost", "127.0.0.1"] {
            assert_jpeg(&run(&mut curl(args, host)).stdout);
        }
    }
    let refused = curl(&[], "localhost").output().expect("curl runs");
    assert_eq!(refused.status.code(), Some(60), "nobody vouches for it");
    // Connections in a row resume by tickets, and keep-alive goes on.
    let many = format!("https://localhost:{port}/snapshot?[1-8]");
    let mut command = Command::new("curl");
    command.args(["--silent", "--insecure", "--max-time", "20", &many]);
    let bytes = run(&mut command).stdout;
    let starts = bytes.windows(3).filter(|it| *it == [0xFF, 0xD8, 0xFF]);
    assert_eq!(starts.count(), 8);
}

#[test]
fn openssl() {
    let (state, camd) = start(&format!("{PATTERN}{}", listener("http", "")));
    let trusted = certificate(state.path());
    for version in ["-tls1_2", "-tls1_3"] {
        for cipher in ["CHACHA20", "AES_128_GCM", "AES_256_GCM"] {
            let cipher = match (version, cipher) {
                ("-tls1_2", "CHACHA20") => ["-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
                ("-tls1_2", "AES_128_GCM") => ["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
                ("-tls1_2", _) => ["-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"],
                (_, "CHACHA20") => ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
                (_, "AES_128_GCM") => ["-ciphersuites", "TLS_AES_128_GCM_SHA256"],
                _ => ["-ciphersuites", "TLS_AES_256_GCM_SHA384"],
            };
            let mut child = Command::new("openssl")
                .args(["s_client", "-quiet", "-verify_return_error", "-CAfile"])
                .arg(&trusted)
                .args(["-connect", &camd.http().to_string(), version])
                .args(cipher)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("openssl runs");
            let request = "GET /snapshot HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let mut stdin = child.stdin.take().expect("it is piped");
            stdin.write_all(request.as_bytes()).expect("a request");
            let output = child.wait_with_output().expect("an answer");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                text.starts_with("HTTP/1.1 200 "),
                "{version} {cipher:?}: {text}"
            );
        }
    }
    let old = Command::new("openssl")
        .args(["s_client", "-connect", &camd.http().to_string(), "-tls1_1"])
        .args(["-cipher", "ALL:@SECLEVEL=0"])
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    assert!(!old.status.success(), "TLS 1.1 is over");
}

#[test]
fn python_sees_the_end() {
    let (state, camd) = start(&format!("{PATTERN}{}", listener("http", "")));
    let trusted = certificate(state.path());
    // An end that was not told is an error there.
    const SCRIPT: &str = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
host, port = "localhost", int(sys.argv[2])
for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", port), 20) as tcp:
        tls = context.wrap_socket(tcp, server_hostname=host, suppress_ragged_eofs=False)
        tls.sendall(b"GET /snapshot HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while part := tls.recv(65536):
            answer += part
        head, body = answer.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert body.startswith(b"\xff\xd8") and body.endswith(b"\xff\xd9"), body
        tls.unwrap()
"#;
    run(Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(trusted)
        .arg(camd.http().port().to_string()));
}

#[test]
fn ffmpeg_and_opencv() {
    let listeners = listener("http", "") + &listener("raw", "");
    let (_state, camd) = start(&(PATTERN.to_owned() + &listeners));
    for url in [
        format!("https://{}/stream", camd.http()),
        format!("tls://{}", camd.raw()),
    ] {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-hide_banner", "-loglevel", "error", "-nostdin"]);
        if url.starts_with("tls") {
            ffmpeg.args(["-f", "mjpeg"]);
        }
        ffmpeg.args(["-i", &url, "-frames:v", "5", "-f", "framecrc", "-"]);
        let output = run(&mut ffmpeg);
        let text = String::from_utf8_lossy(&output.stdout);
        let frames = text.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(frames.count(), 5, "{url}: {text}");
    }
    let mut opencv = python("video_capture.py");
    run(opencv.args([&format!("https://{}/stream", camd.http()), "5"]));
}

/// What Chromium takes a key for, in place of a certificate that it knows: SHA-256 of its SubjectPublicKeyInfo, in Base64.
fn key_pin(certificate: &Path) -> String {
    let script = "openssl x509 -in \"$0\" -noout -pubkey | openssl pkey -pubin -outform der | \
                  openssl dgst -sha256 -binary | base64";
    let output = run(Command::new("sh").args(["-ec", script]).arg(certificate));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn the_page_in_chromium() {
    let users = "[[user]]\nname = \"anna\"\npassword = \"secret\"\n";
    let (state, camd) = start(&format!("{PATTERN}{users}{}", listener("http", "")));
    let trusted = certificate(state.path());
    let folder = Folder::new();
    let mut page = python("page.py");
    // The page asks for `/state` with its own eyes, and this script with its own.
    page.env("SSL_CERT_FILE", &trusted)
        .env("CAMD_LOGIN", "Basic YW5uYTpzZWNyZXQ=")
        .env(
            "CHROMIUM_ARGS",
            format!(
                "--ignore-certificate-errors-spki-list={}",
                key_pin(&trusted)
            ),
        );
    page.args(["chromium", "secure"]).arg(folder.path());
    page.arg(format!("https://localhost:{}/", camd.http().port()));
    page.arg(camd.pid().to_string()).arg(camd.config_path());
    let output = run(&mut page);
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn camd_fetch() {
    let protocols = ["http", "push", "pull", "raw", "call"];
    let listeners = protocols.map(|protocol| listener(protocol, "clients = 8\n"));
    let (state, camd) = start(&(PATTERN.to_owned() + &listeners.concat()));
    let folder = Folder::new();
    let right = fingerprint(&tls::connect(camd.http(), &TLS13)).to_string();
    let fetch = |url: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
        command
            .args(["fetch", url, "-n", "3", "-o", "-", "--timeout", "10"])
            .args(args)
            .env_remove("SSL_CERT_FILE");
        command
    };
    let urls = [
        format!("https://{}/stream", camd.http()),
        format!("pushs://{}", camd.push()),
        format!("pulls://{}", camd.pull()),
        format!("raws://{}", camd.raw()),
        format!("calls://anna@{}/camera", camd.call()),
    ];
    for url in &urls {
        let bytes = run(&mut fetch(url, &["--fingerprint", &right])).stdout;
        let starts = bytes.windows(3).filter(|it| *it == [0xFF, 0xD8, 0xFF]);
        assert_eq!(starts.count(), 3, "{url}");
    }
    // By the system's list of issuers, of which this one is made to be; the name counts then.
    let trusted = certificate(state.path());
    let port = camd.http().port();
    let stream = format!("https://localhost:{port}/stream");
    run(fetch(&stream, &[]).env("SSL_CERT_FILE", &trusted));

    let refused = |command: &mut Command| {
        let output = command.output().expect("it runs");
        assert!(!output.status.success());
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).expect("text")
    };
    let wrong = "0".repeat(64);
    let text = refused(&mut fetch(&urls[0], &["--fingerprint", &wrong]));
    assert!(
        text.contains("is not the one with the given fingerprint"),
        "{text}"
    );
    assert!(text.contains(&right), "{text}");
    // Nobody vouches for it.
    make_certificate(folder.path(), "other");
    let other = folder.path().join("other.crt");
    let text = refused(fetch(&stream, &[]).env("SSL_CERT_FILE", &other));
    assert!(
        text.contains("from nobody whom this system trusts"),
        "{text}"
    );
    assert!(text.contains(&right), "{text}");
    let text = refused(
        fetch(&stream, &[])
            .env("SSL_CERT_FILE", "/none")
            .env("SSL_CERT_DIR", "/none"),
    );
    assert!(text.contains("no list of issuers to trust"), "{text}");
    assert!(text.contains("ca-certificates"), "{text}");
    // Another name for the same address.
    let host = format!("https://127.0.0.2:{port}/stream");
    let text = refused(fetch(&host, &["--fingerprint", &right]).env("SSL_CERT_FILE", &trusted));
    assert!(
        text.contains("127.0.0.2 port"),
        "nobody listens there: {text}"
    );
    let text = refused(&mut fetch(&format!("http://{}/", camd.http()), &[]));
    assert!(text.contains("This port speaks https"), "{text}");
    let text = refused(&mut fetch(
        &urls[0].replace("https", "http"),
        &["--fingerprint", &right],
    ));
    assert!(text.contains("means nothing without TLS"), "{text}");
    let text = refused(&mut fetch(&urls[0], &["--fingerprint", "AB:CD"]));
    assert!(text.contains("64 hexadecimal digits"), "{text}");
}

#[test]
fn fetching_from_where_nobody_speaks_tls() {
    let camd = Camd::start(&pattern());
    let output = Command::new(env!("CARGO_BIN_EXE_camd"))
        .args(["fetch", "-o", "-", "--fingerprint", &"0".repeat(64)])
        .arg(format!("https://{}/snapshot", camd.http()))
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(text.contains("the server does not speak TLS"), "{text}");
}

#[test]
fn plain_http_is_told_where_it_is() {
    let listeners = listener("http", "") + &listener("push", "");
    let (_state, mut camd) = start(&(PATTERN.to_owned() + &listeners));
    let mut tcp = connect(camd.http());
    send(&mut tcp, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("This port speaks https"), "{answer}");
    // Even if it goes on and on.
    let mut tcp = connect(camd.http());
    send(
        &mut tcp,
        format!(
            "POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n{}",
            "x".repeat(60000)
        ),
    );
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("This port speaks https"), "{answer}");
    // No HTTP at a port of another protocol.
    let mut tcp = connect(camd.push());
    send(&mut tcp, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_closed(&mut tcp);
    camd.wait_log("why", |log| {
        log.contains("speaks plain http, and this port https") && log.contains("does not speak TLS")
    });
}

#[test]
fn garbage_and_silence_take_no_place() {
    let config = pattern().replace(crate::common::LISTENERS, "")
        + &listener("http", "clients = 2\n")
        + "[limits]\nhead_timeout_s = 2\n";
    let (_state, camd) = start(&config);
    let mut viewer = Stream::open_over(tls::connect(camd.http(), &TLS13), "/stream");
    viewer.next();
    let hello = {
        let mut client = tls::client(&TLS13);
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("into memory");
        bytes
    };
    let mut others = Vec::new();
    for bytes in [
        &b""[..],
        &hello[..1],
        &hello[..40],
        &hello,
        // A record that is longer than any.
        b"\x16\x03\x01\xff\xff",
        // One that is empty, and one of a type that there is not.
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x17\x03\x03\x00\x10aaaaaaaaaaaaaaaa",
        b"\x80\x2e\x01\x00\x02",
        &[0; 70000],
        &[0x16; 70000],
    ] {
        for _ in 0..6 {
            let mut tcp = connect(camd.http());
            // It may be over already.
            let _ = tcp.write_all(bytes);
            others.push(tcp);
        }
    }
    // There is a place left for one, and it gets it at once.
    let before = Instant::now();
    let state = state(&camd);
    assert!(before.elapsed() < PATIENCE);
    assert_eq!(state["clients"].as_array().expect("a list").len(), 2);
    viewer.next();
    // All of them are gone in time.
    for mut tcp in others {
        let mut bytes = [0; 4096];
        loop {
            match tcp.read(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                    break;
                }
            }
        }
        viewer.next();
    }
}

/// Looks at `/stream` until told to stop; gives the pictures and the longest time without one.
fn watch(address: SocketAddr, stop: Arc<AtomicBool>) -> thread::JoinHandle<(u32, Duration)> {
    let mut viewer = Stream::open_over(tls::connect(address, &TLS13), "/stream");
    viewer.next();
    thread::spawn(move || {
        let (mut pictures, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
        while !stop.load(Ordering::Relaxed) {
            viewer.next();
            pictures += 1;
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        (pictures, longest)
    })
}

#[test]
fn a_flood_of_handshakes_takes_no_picture_from_a_viewer() {
    let (_state, camd) = start(&format!("{PATTERN}{}", listener("http", "")));
    let stop = Arc::new(AtomicBool::new(false));
    let viewer = watch(camd.http(), stop.clone());
    let (address, end) = (camd.http(), Instant::now() + Duration::from_secs(5));
    let mut floods = Vec::new();
    for _ in 0..4 {
        floods.push(thread::spawn(move || {
            let mut begun = 0;
            while Instant::now() < end {
                // Its first word, for which the server has all the work, and away.
                if let Ok(mut tcp) = TcpStream::connect(address) {
                    let mut client = tls::client(&TLS13);
                    while client.wants_write() && client.write_tls(&mut tcp).is_ok() {}
                    begun += 1;
                    thread::sleep(Duration::from_millis(20));
                }
            }
            begun
        }));
    }
    let begun: u32 = floods
        .into_iter()
        .map(|it| it.join().expect("it ends"))
        .sum();
    assert!(begun > 300, "{begun} handshakes are no flood");
    stop.store(true, Ordering::Relaxed);
    let (pictures, longest) = viewer.join().expect("it saw all of them");
    eprintln!(
        "{begun} handshakes in 5 s; the viewer had {pictures} pictures, {longest:?} between two at most"
    );
    // 150 were taken.
    assert!(pictures > 75, "{pictures} pictures in 5 s of 30 fps");
    // And somebody else gets in, if not at once.
    tls::connect(camd.http(), &TLS13);
}

#[test]
fn a_new_certificate_while_a_viewer_watches() {
    let folder = Folder::new();
    make_certificate(folder.path(), "box");
    let path = |name: &str| folder.path().join(name);
    let more = format!(
        "certificate = {:?}\nkey = {:?}\n",
        path("box.crt"),
        path("box.key")
    );
    let (_state, mut camd) = start(&format!("{PATTERN}{}", listener("http", &more)));
    let first = tls::connect(camd.http(), &TLS13);
    let old = fingerprint(&first);
    let mut viewer = Stream::open_over(first, "/stream");
    viewer.next();

    make_certificate(folder.path(), "box");
    camd.signal(Signal::SIGHUP);
    wait_until("the new certificate", || {
        fingerprint(&tls::connect(camd.http(), &TLS13)) != old
    });
    let new = fingerprint(&tls::connect(camd.http(), &TLS13));
    assert!(camd.log().contains(&new.to_string()));
    viewer.next();

    // A key of another certificate changes nothing.
    make_certificate(folder.path(), "other");
    fs::copy(path("other.key"), path("box.key")).expect("a copy");
    camd.signal(Signal::SIGHUP);
    camd.wait_log("what is wrong", |log| {
        log.contains("is not the key of this certificate")
    });
    assert_eq!(fingerprint(&tls::connect(camd.http(), &TLS13)), new);
    for _ in 0..5 {
        viewer.next();
    }
}

#[test]
fn keys_that_change_for_ever() {
    let (_state, camd) = start(&format!("{PATTERN}{}", listener("http", "")));
    let stop = Arc::new(AtomicBool::new(false));
    let viewer = watch(camd.http(), stop.clone());

    // Once or twice is good manners.
    let mut tls = tls::connect(camd.http(), &TLS13);
    tls.conn.refresh_traffic_keys().expect("a request");
    let mut stream = Stream::open_over(tls, "/stream");
    stream.next();
    stream.tcp.conn.refresh_traffic_keys().expect("a request");
    stream.next();
    stream.next();

    // A thousand times is not.
    let mut tls = tls::connect(camd.http(), &TLS13);
    let mut ended = false;
    for _ in 0..1000 {
        tls.conn.refresh_traffic_keys().expect("a request");
        if tls.flush().is_err() || tls.conn.write_tls(&mut tls.sock).is_err() {
            ended = true;
            break;
        }
    }
    let mut bytes = Vec::new();
    ended |= tls.read_to_end(&mut bytes).is_err();
    assert!(ended || bytes.is_empty(), "{bytes:?}");

    // Records without anything in them, for as long as the server takes them.
    let mut tls = tls::connect(camd.http(), &TLS12);
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        if tls.write(b"").is_err() || tls.flush().is_err() {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (pictures, _) = viewer.join().expect("it saw all of them");
    assert!(pictures > 15, "{pictures}");
}

#[test]
fn no_renegotiation() {
    let (_state, camd) = start(&format!("{PATTERN}{}", listener("http", "")));
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &camd.http().to_string(), "-tls1_2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    thread::sleep(Duration::from_millis(500));
    // Its command for that.
    stdin.write_all(b"R\n").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no renegotiation"), "{text}");
    state(&camd);
}

#[test]
fn who_leaves_without_a_word_is_gone() {
    let (_state, camd) = start(&format!("{PATTERN}{}", listener("http", "")));
    for rude in [false, true] {
        let mut viewer = Stream::open_over(tls::connect(camd.http(), &TLS13), "/stream");
        viewer.next();
        if rude {
            viewer
                .tcp
                .sock
                .shutdown(std::net::Shutdown::Write)
                .expect("an end");
        } else {
            viewer.tcp.conn.send_close_notify();
            viewer.tcp.flush().expect("it is told");
        }
        wait_until("its place is free", || {
            state(&camd)["clients"].as_array().expect("a list").len() == 1
        });
    }
}

#[test]
fn all_of_it_comes_to_a_slow_reader() {
    const SIZE: usize = 900_000;
    let (_folder, camera) = replay(1, SIZE, 5);
    let (_state, camd) = start(&(camera + &listener("http", "")));
    for version in [&TLS12, &TLS13] {
        let tcp = crate::common::connect_as_over_a_slow_line(camd.http());
        let mut tls = tls::shake_hands(tcp, version).expect("hands");
        send(
            &mut tls,
            "GET /snapshot HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        );
        let head = read_head(&mut tls);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let (mut picture, mut part) = (Vec::new(), [0; 20_000]);
        // 900 KB within 4 s or so, the last of them long after camd has written all.
        loop {
            thread::sleep(Duration::from_millis(80));
            // An end that was not told is an error here.
            match tls.read(&mut part).expect("more, or the end") {
                0 => break,
                n => picture.extend_from_slice(&part[..n]),
            }
        }
        assert_eq!(picture, jpeg(0, SIZE));
    }
}

#[test]
fn who_takes_nothing_is_given_up() {
    let (_folder, camera) = replay(2, 400_000, 20);
    let limits = "[limits]\nwrite_timeout_s = 1\n";
    let (_state, camd) = start(&(camera + &listener("http", "") + &listener("push", "") + limits));
    let _push = tls::connect(camd.push(), &TLS13);
    let mut viewer = Stream::open_over(tls::connect(camd.http(), &TLS13), "/stream");
    viewer.next();
    let stalled = || {
        let state = state(&camd);
        let clients = state["clients"].as_array().expect("a list").clone();
        clients.iter().any(|client| client["protocol"] == "push")
    };
    wait_until("it is given up", || !stalled());
    viewer
        .tcp
        .sock
        .set_read_timeout(Some(PATIENCE))
        .expect("SO_RCVTIMEO");
}

/// `camd check` of a listener with these lines.
fn check(more: &str) -> (Option<i32>, String) {
    let folder = Folder::new();
    let config = folder.file("camd.toml", format!("{PATTERN}{}", listener("http", more)));
    let output = Command::new(env!("CARGO_BIN_EXE_camd"))
        .args(["check", "--config"])
        .arg(config)
        .env("STATE_DIRECTORY", folder.path())
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    (output.status.code(), text)
}

#[test]
fn check_says_what_is_wrong() {
    let folder = Folder::new();
    let path = |name: &str| folder.path().join(name).display().to_string();
    make_certificate(folder.path(), "box");
    make_certificate(folder.path(), "other");
    let files = |certificate: &str, key: &str| {
        format!(
            "certificate = {:?}\nkey = {:?}\n",
            path(certificate),
            path(key)
        )
    };
    fs::set_permissions(path("box.key"), fs::Permissions::from_mode(0o644)).expect("its owner");
    let (code, text) = check(&files("box.crt", "box.key"));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("everybody on this machine can read the key"),
        "{text}"
    );
    assert!(text.contains("chmod 600"), "{text}");
    fs::set_permissions(path("box.key"), fs::Permissions::from_mode(0o600)).expect("its owner");
    let (code, text) = check(&files("box.crt", "box.key"));
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("warning"), "{text}");

    // By other people's tools: RSA, and dates that are over or to come.
    let openssl = |name: &str, args: &[&str]| {
        let mut command = Command::new("openssl");
        command
            .args(["req", "-x509", "-nodes", "-subj", "/CN=box", "-out"])
            .args([
                path(&format!("{name}.crt")),
                "-keyout".into(),
                path(&format!("{name}.key")),
            ])
            .args(args);
        run(&mut command);
    };
    openssl("rsa", &["-newkey", "rsa:2048", "-days", "1000"]);
    openssl("rsa1024", &["-newkey", "rsa:1024"]);
    openssl("ed", &["-newkey", "ed25519"]);
    let (code, text) = check(&files("rsa.crt", "rsa.key"));
    assert!(
        code == Some(0) && text.contains("the key is for RSA"),
        "{text}"
    );
    for (name, from, to, why) in [
        ("old", 2000, 2001, "has expired on 2001-01-01"),
        ("new", 2200, 2201, "is not valid before 2200-01-01"),
    ] {
        make_certificate_of(folder.path(), name, from, to);
        let (crt, key) = (format!("{name}.crt"), format!("{name}.key"));
        let (code, text) = check(&files(&crt, &key));
        // A board's clock may be wrong.
        assert!(code == Some(0) && text.contains(why), "{text}");
    }
    let (code, text) = check(&files("ed.crt", "ed.key"));
    assert!(code == Some(0), "{text}");

    for (more, wrong) in [
        (files("box.crt", "other.key"), "listener.key: "),
        (
            files("box.crt", "other.key"),
            "is not the key of this certificate",
        ),
        (files("box.crt", "none.key"), "cannot be read: No such file"),
        (files("none.crt", "box.key"), "listener.certificate: "),
        (files("box.key", "box.key"), "has no certificate in it"),
        (files("box.crt", "box.crt"), "has no private key in it"),
        (files("rsa1024.crt", "rsa1024.key"), "openssl ecparam"),
        (
            format!("certificate = {:?}\n", path("box.crt")),
            "listener.key: missing",
        ),
        (
            format!("key = {:?}\n", path("box.key")),
            "listener.certificate: missing",
        ),
    ] {
        let (code, text) = check(&more);
        assert_eq!(code, Some(2), "{more}: {text}");
        assert!(text.contains(wrong), "{wrong}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let plain = PATTERN.to_owned()
        + "[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\ncertificate = \"/x\"\n";
    let errors = camd::config::parse(&plain, "x").expect_err("it means nothing");
    assert!(errors[0].to_string().contains("tls = true"), "{errors:?}");
    let unix = PATTERN.to_owned()
        + "[[listener]]\nprotocol = \"http\"\nbind = \"unix:/run/x.sock\"\ntls = true\n";
    let errors = camd::config::parse(&unix, "x").expect_err("it means nothing");
    assert!(errors[0].to_string().contains("Unix socket"), "{errors:?}");
}

/// A second camd that gets its picture from the first one over TLS, or is a user of its relay.
#[test]
fn sources_and_relays() {
    let protocols = ["http", "push", "call"];
    let listeners = protocols.map(|protocol| listener(protocol, "clients = 8\n"));
    let (_state, camd) = start(&(PATTERN.to_owned() + &listeners.concat()));
    let right = fingerprint(&tls::connect(camd.http(), &TLS13)).to_string();
    let wrong = "0".repeat(64);
    let sources = |fingerprint: &str| {
        let fingerprint = format!("fingerprint = {fingerprint:?}\n");
        [
            format!(
                "[camera]\nsource = \"http\"\nurl = \"https://{}/stream\"\n{fingerprint}",
                camd.http()
            ),
            // A connection for each picture or two.
            format!(
                "[camera]\nsource = \"http\"\nurl = \"https://{}/snapshot\"\nfps = 5\n{fingerprint}",
                camd.http()
            ),
            format!(
                "[camera]\nsource = \"push\"\naddress = \"{}\"\ntls = true\n{fingerprint}",
                camd.push()
            ),
            format!(
                "[camera]\nsource = \"call\"\n[call]\ndial = \"camera@{}\"\ntls = true\n{fingerprint}",
                camd.call()
            ),
        ]
    };
    let http = "[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n";
    for source in sources(&right) {
        let second = Camd::start(&format!("{source}{http}"));
        let mut stream = Stream::open(second.http(), "/stream");
        wait_until(&source, || {
            stream.next();
            second.state()["camera"]["state"] == "live"
        });
        for _ in 0..5 {
            stream.next();
        }
    }
    for source in sources(&wrong) {
        let mut second = Camd::start(&format!("{source}{http}"));
        let _viewer = Stream::open(second.http(), "/stream");
        second.wait_log("why not", |log| {
            log.contains("is not the one with the given fingerprint") && log.contains(&right)
        });
    }
    // Another camd at the relay.
    let relay = format!(
        "[[listener]]\nprotocol = \"call\"\nbind = \"relay:{}\"\nuser = \"second\"\ntls = true\nfingerprint = {right:?}\n",
        camd.call()
    );
    let _second = Camd::start(&format!("{PATTERN}{relay}"));
    let url = format!("calls://anna@{}/second", camd.call());
    wait_until("it is at the relay", || {
        let output = Command::new(env!("CARGO_BIN_EXE_camd"))
            .args(["fetch", &url, "-o", "-", "--fingerprint", &right])
            .output()
            .expect("it runs");
        output.status.success() && output.stdout.starts_with(&[0xFF, 0xD8])
    });
}
