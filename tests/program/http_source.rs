//! A camd whose camera is a server of HTTP, and fetches from servers that want a login.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::server::{Program, Server, expect_close};
use crate::common::{
    Camd, Folder, LISTENERS, PATIENCE, Stream, connect, jpeg, pattern, push_next, python,
    read_head, replay,
};
use nix::sys::signal::Signal;

fn camera(url: impl std::fmt::Display, more: &str) -> String {
    format!("[camera]\nsource = \"http\"\nurl = \"{url}\"\nfps = 240\n{more}\n{LISTENERS}")
}

const ALWAYS: &str = "linger_s = 0";

fn reason(camd: &Camd) -> String {
    let state = camd.condition("fault");
    state["camera"]["reason"]
        .as_str()
        .expect("a text")
        .to_owned()
}

fn url(server: &Server) -> String {
    format!("http://{}/video", server.address)
}

/// camd's connection, with its request.
fn asked(server: &Server) -> (TcpStream, String) {
    let mut stream = server.connection();
    let head = read_head(&mut stream);
    assert!(head.starts_with("GET /video HTTP/1.1\r\n"), "{head}");
    (stream, head)
}

impl Program {
    fn python() -> Program {
        let mut command = python("mjpeg_server.py");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("Python runs");
        let stdout = child.stdout.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("its port");
        let port = line.trim().parse().expect("a port");
        Program { child, port }
    }

    /// ffmpeg's muxer for this, and its server of one client.
    fn ffmpeg() -> Program {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        let child = Command::new("ffmpeg")
            .args(["-loglevel", "error", "-nostdin", "-re", "-f", "lavfi"])
            .args(["-i", "testsrc=size=320x240:rate=25", "-f", "mpjpeg"])
            .args(["-content_type", "multipart/x-mixed-replace;boundary=ffmpeg"])
            .args(["-listen", "1", &format!("http://127.0.0.1:{port}/video")])
            .stdin(Stdio::null())
            .spawn()
            .expect("ffmpeg runs");
        Program { child, port }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

#[test]
fn another_camd_is_the_camera() {
    let (_folder, pictures) = replay(10, 20_000, 30);
    let first = Camd::start(&format!("{pictures}{LISTENERS}"));
    let port = first.http().port();
    for url in [
        format!("http://127.0.0.1:{port}/stream"),
        format!("http://127.0.0.1:{port}/?action=stream"),
        format!("http://127.0.0.1:{port}/snapshot"),
        // Looked up.
        format!("HTTP://localhost:{port}/snapshot.jpg?{}", 4711),
    ] {
        let second = Camd::start(&camera(&url, ALWAYS));
        let mut push = connect(second.push());
        for _ in 0..10 {
            let jpeg = push_next(&mut push);
            let known = (0..10).any(|number| jpeg == crate::common::jpeg(number, 20_000));
            assert!(known, "byte for byte");
        }
        let state = second.condition("live");
        assert_eq!(state["camera"]["source"], "http");
        assert_eq!(state["camera"]["format"], "mjpeg");
        assert_eq!(second.get("/healthz").status, 200);
        // The other one sees a viewer as any other, and one who is gone.
        let viewers = |state: &serde_json::Value| {
            let clients = state["clients"].as_array().expect("a list");
            clients.iter().filter(|c| c["viewer"] == true).count()
        };
        first.wait_state("it is seen", |state| viewers(state) == 1);
        drop(second);
        first.wait_state("it leaves", |state| viewers(state) == 0);
    }
}

#[test]
fn a_picture_passes_through_three_boxes() {
    let first = Camd::start(&pattern());
    let second = Camd::start(&camera(
        format!("http://{}/stream?width=160&quality=40", first.http()),
        ALWAYS,
    ));
    let third = Camd::start(&camera(
        format!("http://{}/stream", second.http()),
        "linger_s = 0\nrotate = 90",
    ));
    let mut stream = Stream::open(third.http(), "/stream");
    let mut before = Vec::new();
    for _ in 0..5 {
        let jpeg = stream.next().jpeg;
        let found = camd::picture::jpeg::inspect(&jpeg).expect("a JPEG");
        assert_eq!((found.width, found.height), (120, 160));
        assert!(jpeg != before, "it moves");
        before = jpeg;
    }
}

#[test]
fn servers_in_python_and_ffmpeg() {
    let python = Program::python();
    let ffmpeg = Program::ffmpeg();
    for url in [
        python.url("/stream"),
        python.url("/chunked"),
        python.url("/snapshot"),
        python.url("/moved"),
        python.url("/moved/twice"),
        ffmpeg.url("/video"),
    ] {
        let camd = Camd::start(&camera(&url, ALWAYS));
        let mut stream = Stream::open(camd.http(), "/stream");
        let mut before = Vec::new();
        for _ in 0..10 {
            let jpeg = stream.next().jpeg;
            let found = camd::picture::jpeg::inspect(&jpeg).expect("a JPEG");
            if before.is_empty() && (found.width, found.height) != (320, 240) {
                // A card: ffmpeg was not there yet.
                continue;
            }
            assert_eq!((found.width, found.height), (320, 240), "{url}");
            assert!(jpeg != before, "it moves: {url}");
            before = jpeg;
        }
        assert!(!before.is_empty(), "{url}");
        assert_eq!(camd.state()["camera"]["bad"], 0, "{url}");
    }
}

#[test]
fn the_last_picture_is_shown_before_the_next_one_comes() {
    let picture = jpeg(1, 30_000);
    for (name, head, before, after) in [
        (
            "a length",
            "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=x\r\n\r\n",
            "--x\r\nContent-Type: image/jpeg\r\nContent-Length: 30000\r\n\r\n",
            "",
        ),
        (
            "no length",
            "HTTP/1.0 200 OK\nContent-Type: multipart/x-mixed-replace; boundary=\"--x\"\n\n",
            "--x\nContent-Type: image/jpeg\n\n",
            "",
        ),
        (
            "no length, a line end",
            "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n",
            "\r\n--x\r\n\r\n",
            "\r\n",
        ),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n",
            "7\r\n--x\r\n\r\n\r\n7530\r\n",
            "\r\n2\r\n\r\n\r\n",
        ),
    ] {
        let server = Server::new();
        let camd = Camd::start(&camera(url(&server), ALWAYS));
        let (mut stream, _) = asked(&server);
        let wire = [
            head.as_bytes(),
            before.as_bytes(),
            &picture,
            after.as_bytes(),
        ]
        .concat();
        for piece in wire.chunks(7000) {
            stream.write_all(piece).expect("camd reads");
        }
        camd.condition("live");
        assert!(
            camd.get("/snapshot").body == picture,
            "{name}: byte for byte"
        );
    }
}

#[test]
fn refusals_are_on_the_card_and_passwords_nowhere() {
    let server = Program::python();
    let right = "user = \"viewer\"\npassword = \"pass:wörd@home\"";
    let camd = Camd::start(&camera(server.url("/login/stream"), right));
    Stream::open(camd.http(), "/stream").next();
    drop(camd);
    let wrong = "user = \"viewer\"\npassword = \"s3cret\"";
    for (path, keys, told) in [
        (
            "/login/stream",
            "",
            "wants a login (401 Unauthorized): set camera.user and camera.password",
        ),
        (
            "/login/snapshot",
            wrong,
            "does not take this login (401 Unauthorized): see camera.user",
        ),
        (
            "/digest",
            wrong,
            "wants a login by Digest (401 Unauthorized)",
        ),
        ("/403", wrong, "answers 403 Forbidden"),
        ("/404", wrong, "is not there (404 Not Found)"),
        ("/500", wrong, "answers 500 Internal Server Error"),
        (
            "/loop",
            wrong,
            "was reached by 3 redirections, and redirects again (307)",
        ),
        (
            "/away",
            wrong,
            "redirects (302) to \"http://camera.example/stream?…\": another host",
        ),
        (
            "/page",
            "",
            "is \"text/html\", neither a stream nor a picture",
        ),
    ] {
        let mut camd = Camd::start(&camera(server.url(path), &format!("{ALWAYS}\n{keys}")));
        let reason = reason(&camd);
        assert!(reason.contains(told), "{reason}");
        assert!(
            reason.starts_with(&format!("http://127.0.0.1:{}/", server.port)),
            "{reason}"
        );
        let card = camd.get("/snapshot");
        assert!(card.status == 503 || card.status == 200, "{}", card.status);
        let pages = ["/state", "/metrics", "/"].map(|page| camd.get(page).text().to_owned());
        camd.signal(Signal::SIGTERM);
        let log = camd.final_log();
        assert!(log.contains(told), "{log}");
        for text in pages.iter().chain([&log]) {
            for secret in ["s3cret", "tok3n", "dmlld2VyOn"] {
                assert!(!text.contains(secret), "{path}: {text}");
            }
        }
    }
    // In the URL, and the log at its most talkative.
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.env("RUST_LOG", "trace");
    let url = format!(
        "http://viewer:s3cret@127.0.0.1:{}/login/stream?key=tok3n",
        server.port
    );
    let mut camd = Camd::start_as(&mut command, &camera(url, ALWAYS), PATIENCE);
    let reason = reason(&camd);
    let told = format!(
        "http://127.0.0.1:{}/login/stream?… (camera.url) ",
        server.port
    );
    assert!(reason.starts_with(&told), "{reason}");
    camd.signal(Signal::SIGTERM);
    let log = camd.final_log();
    for secret in ["s3cret", "tok3n", "dmlld2VyOn"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn hostile_servers_cost_a_connection_and_no_memory() {
    const STREAM: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=x\r\n\r\n--x\r\n";
    let server = Server::new();
    let camd = Camd::start(&camera(url(&server), ALWAYS));
    let good = jpeg(1, 30_000);
    let part = [
        b"Content-Length: 30000\r\n\r\n",
        good.as_slice(),
        b"\r\n--x\r\n",
    ]
    .concat();
    let (mut stream, _) = asked(&server);
    let put = |stream: &mut TcpStream| stream.write_all(&[STREAM.as_bytes(), &part].concat());
    put(&mut stream).expect("camd reads");
    camd.condition("live");
    let size = camd.proc_status("VmSize");
    for (says, told) in [
        (
            "Content-Length: 2147483647\r\n\r\n".to_owned(),
            "sends a picture of 2147483647 bytes; allowed: 1048576 (limits.frame_bytes)",
        ),
        (
            "X: y\r\n".repeat(20_000),
            "sends a head of more than 8192 bytes",
        ),
        (
            format!("Content-Length: 3\r\n\r\n{}", "x".repeat(20_000)),
            "sends no boundary where the next part should begin",
        ),
        (
            format!("\r\n{}", "x".repeat(2 << 20)),
            "sends a picture without end; allowed: 1048576 bytes (limits.frame_bytes)",
        ),
        (
            "Content-Length: 1\r\n\r\nx\r\n--x--\r\n".to_owned(),
            "has ended the stream",
        ),
    ] {
        // It may leave before it has read all.
        let _ = stream.write_all(says.as_bytes());
        let state = camd.wait_state("a fault", |state| {
            let reason = state["camera"]["reason"].as_str().unwrap_or("");
            reason.contains(told)
        });
        assert_eq!(state["camera"]["state"], "fault");
        // It comes again.
        stream = asked(&server).0;
        put(&mut stream).expect("camd reads");
        camd.condition("live");
    }
    // In KiB; drawing the card takes some.
    let more = camd.proc_status("VmSize").saturating_sub(size);
    assert!(more < 64 * 1024, "{more} KiB more");
}

#[test]
fn who_stops_within_a_picture_is_left_and_others_are_served_meanwhile() {
    let server = Server::new();
    let camd = Camd::start(&camera(url(&server), ALWAYS));
    let (mut stream, _) = asked(&server);
    // A head in pieces of a byte, and half a picture.
    let head = "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 30000\r\n\r\n";
    for byte in head.as_bytes() {
        stream.write_all(&[*byte]).expect("camd reads");
        thread::sleep(Duration::from_millis(5));
    }
    stream
        .write_all(&jpeg(1, 30_000)[..15_000])
        .expect("camd reads");
    assert_eq!(camd.state()["camera"]["state"], "starting");
    expect_close(&mut stream);
    let reason = reason(&camd);
    assert_eq!(
        reason,
        format!("{} (camera.url) stopped within a picture", url(&server))
    );
    let (mut stream, _) = asked(&server);
    let next = jpeg(2, 30_000);
    stream
        .write_all(&[head.as_bytes(), &next].concat())
        .expect("camd reads");
    camd.condition("live");
    assert!(camd.get("/snapshot").body == next, "its half is forgotten");
}

#[test]
fn a_picture_keeps_the_time_at_which_the_server_took_it() {
    let server = Server::new();
    let camd = Camd::start(&camera(url(&server), ALWAYS));
    let (mut stream, _) = asked(&server);
    stream
        .write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=x\r\n\r\n--x\r\n",
        )
        .expect("camd reads");
    let mut put = |number: u32, stamp: f64| {
        let head = format!("Content-Length: 30000\r\nX-Timestamp: {stamp:.6}\r\n\r\n");
        let part = [head.as_bytes(), &jpeg(number, 30_000), b"\r\n--x\r\n"].concat();
        stream.write_all(&part).expect("camd reads");
    };
    let taken = crate::common::since_epoch() - Duration::from_secs(2);
    put(1, taken.as_secs_f64());
    camd.condition("live");
    let mut viewer = Stream::open(camd.http(), "/stream");
    let told = viewer.next().captured;
    let off = told.abs_diff(taken);
    assert!(
        off < Duration::from_millis(500),
        "{told:?} in place of {taken:?}"
    );
    // One that counts from when it was switched on.
    put(2, 77.5);
    let told = viewer.next().captured;
    assert!(told > taken + Duration::from_secs(2), "{told:?}");
}

#[test]
fn it_asks_for_viewers_only_and_a_reload_goes_elsewhere() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n\r\n";
    let [one, other] = [(); 2].map(|()| Server::new());
    let mut camd = Camd::start(&camera(url(&one), "linger_s = 0.5"));
    // To see what is there, and then nothing more.
    loop {
        let (mut stream, _) = asked(&one);
        let picture = [HEAD.as_bytes(), &jpeg(1, 30_000)].concat();
        let _ = stream.write_all(&picture);
        drop(stream);
        if camd.state()["camera"]["frames"].as_u64() > Some(3) {
            break;
        }
    }
    thread::scope(|scope| {
        let rest = scope.spawn(|| {
            camd.condition("idle");
        });
        one.listener.set_nonblocking(true).expect("O_NONBLOCK");
        while !rest.is_finished() {
            if let Ok((mut stream, _)) = one.listener.accept() {
                stream.set_nonblocking(false).expect("O_NONBLOCK");
                read_head(&mut stream);
                let _ = stream.write_all(&[HEAD.as_bytes(), &jpeg(1, 30_000)].concat());
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    let none = one.listener.accept().expect_err("nobody watches");
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
    std::fs::write(camd.config_path(), camera(url(&other), ALWAYS)).expect("the configuration");
    camd.signal(Signal::SIGHUP);
    let (mut stream, _) = asked(&other);
    let picture = jpeg(2, 30_000);
    stream
        .write_all(&[HEAD.as_bytes(), &picture].concat())
        .expect("camd reads");
    drop(stream);
    camd.condition("live");
    assert!(camd.get("/snapshot").body == picture, "byte for byte");
    camd.wait_log("the server is named", |log| {
        log.contains(&format!("camera: pictures of {}", url(&other)))
    });
}

fn fetch(folder: &Folder, url: &str, count: u32) -> Output {
    Command::new(env!("CARGO_BIN_EXE_camd"))
        .args(["fetch", url, "-n", &count.to_string(), "-o"])
        .arg(folder.path().join("pictures/"))
        .output()
        .expect("camd runs")
}

#[test]
fn fetch_logs_in() {
    let server = Program::python();
    let at = |login: &str, path: &str| format!("http://{login}127.0.0.1:{}{path}", server.port);
    let login = "viewer:pass%3aw%C3%B6rd%40home@";
    for (url, count) in [
        (at(login, "/login/stream"), 3),
        (at(login, "/login/snapshot"), 1),
        (at("", "/chunked"), 3),
        // Within one host, as source = "http" does.
        (at("", "/moved"), 3),
        (at(login, "/moved/twice"), 3),
        // One that does not ask gets it, too.
        (at(login, "/snapshot"), 1),
    ] {
        let folder = Folder::new();
        let output = fetch(&folder, &url, count);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{url}: {said}");
        let files = std::fs::read_dir(folder.path().join("pictures")).expect("a folder");
        assert_eq!(files.count(), count as usize);
    }
    let place = format!("127.0.0.1:{}", server.port);
    for (url, told) in [
        (
            at("", "/away"),
            "the server answered 302 Found: it is at http://camera.example/stream?token=tok3n".into(),
        ),
        (
            at("", "/loop"),
            "the server answered 307 Temporary Redirect: it is at /loop".into(),
        ),
        (
            at("", "/login/stream"),
            format!(
                "the server answered 401 Unauthorized: it wants a login, as in http://USER:PASSWORD@{place}/login/stream"
            ),
        ),
        (
            at("viewer:s3cret@", "/login/stream"),
            "the server answered 401 Unauthorized: it does not take this user and password".into(),
        ),
        (
            at("viewer:s3cret@", "/digest"),
            "the server answered 401 Unauthorized: it wants a login by Digest, and only Basic is spoken here".into(),
        ),
        (at("viewer:s3cret@", "/403"), "the server answered 403 Forbidden".into()),
        (
            at("viewer:s3/cret@", "/"),
            "within a name or a password, / is %2F".into(),
        ),
        ("ftp://viewer:s3cret@127.0.0.1/".into(), "is no URL to fetch from".into()),
    ] {
        let folder = Folder::new();
        let output = fetch(&folder, &url, 1);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(0), "{url}");
        assert!(said.contains(&told), "{url}: {said}");
        assert!(!said.contains("s3cret") && !said.contains("cret@"), "{said}");
    }
}
