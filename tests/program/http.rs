//! HTTP on the wire: every route, every refusal, byte by byte.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::common::user::{CALLS, User};
use crate::common::{
    Camd, LISTENERS, Stream, assert_closed, assert_jpeg, connect, pattern, push_next,
    read_response, replay, request, send,
};
use camd::protocol::call::Kind;

const STREAMS: [&str; 4] = [
    "/stream",
    "/?action=stream",
    // OctoPrint adds a number against caches.
    "/?action=stream&1608856928650",
    "/stream?1608856928650",
];
const SNAPSHOTS: [&str; 4] = [
    "/snapshot",
    "/snapshot.jpg",
    "/?action=snapshot",
    "/?action=snapshot&1608856928650",
];
const PAGES: [(&str, &str); 5] = [
    ("/", "text/html"),
    ("/state", "application/json"),
    ("/metrics", "text/plain"),
    ("/healthz", "text/plain"),
    ("/controls", "application/json"),
];

/// A camera that does not exist.
const NO_CAMERA: &str =
    "[camera]\nsource = \"v4l2\"\ndevice = \"/dev/video-missing\"\nlinger_s = 0\n";

fn http_listener(more: &str) -> String {
    format!("[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n{more}\n")
}

#[test]
fn streams_are_exact() {
    let (_folder, camera) = replay(10, 5000, 30);
    let camd = Camd::start(&format!("{camera}{LISTENERS}"));
    for target in STREAMS {
        let mut stream = Stream::open(camd.http(), target);
        let mut last = Duration::ZERO;
        for _ in 0..5 {
            let part = stream.next();
            assert!((0..10).any(|number| part.jpeg == crate::common::jpeg(number, 5000)));
            assert!(part.captured > last, "capture times rise");
            assert!(
                part.age() < crate::common::PATIENCE,
                "a capture time of now"
            );
            last = part.captured;
        }
        // Nothing between may keep a picture back.
        let head = stream.head.to_ascii_lowercase();
        assert!(head.contains("\r\ncache-control: no-"), "{head}");
        assert!(!head.contains("\r\ncontent-length:"), "{head}");
        assert!(!head.contains("\r\ntransfer-encoding:"), "{head}");
        assert!(!head.contains("\r\naccess-control-"), "CORS is off: {head}");
    }
}

#[test]
fn the_boundary_comes_with_its_picture() {
    // Browsers draw a picture when the boundary behind it arrives. One picture per second: had it to wait for the next
    // one, it would come much later.
    let camd = Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\nfps = 1\nlinger_s = 0\n{LISTENERS}"
    ));
    let mut stream = Stream::open(camd.http(), "/stream");
    for _ in 0..3 {
        stream.next_without_boundary();
        let picture = Instant::now();
        stream.expect(b"\r\n--camdframe\r\n");
        let waited = picture.elapsed();
        assert!(waited < Duration::from_millis(500), "{waited:?}");
    }
}

#[test]
fn snapshots_are_exact() {
    let (_folder, camera) = replay(10, 5000, 30);
    let camd = Camd::start(&format!("{camera}{LISTENERS}"));
    for target in SNAPSHOTS {
        let snapshot = camd.get(target);
        assert_eq!(snapshot.status, 200);
        assert_eq!(snapshot.field("Content-Type"), Some("image/jpeg"));
        assert_eq!(snapshot.field("Content-Length"), Some("5000"));
        assert!((0..10).any(|number| snapshot.body == crate::common::jpeg(number, 5000)));
        let timestamp: f64 = snapshot
            .field("X-Timestamp")
            .expect("the capture time")
            .parse()
            .expect("seconds");
        let age = crate::common::since_epoch().as_secs_f64() - timestamp;
        assert!((-1.0..20.0).contains(&age), "a picture of now: {age}");
    }
}

#[test]
fn a_snapshot_is_newer_than_the_one_before() {
    let (_folder, camera) = replay(10, 5000, 30);
    let camd = Camd::start(&format!("{camera}{LISTENERS}"));
    let stamp = || -> f64 {
        camd.get("/snapshot")
            .field("X-Timestamp")
            .expect("the capture time")
            .parse()
            .expect("seconds")
    };
    let first = stamp();
    std::thread::sleep(Duration::from_millis(200));
    assert!(stamp() > first);
}

#[test]
fn pages_have_their_types_and_lengths() {
    let camd = Camd::start(&pattern());
    // A viewer, for the camera to be live.
    let mut stream = Stream::open(camd.http(), "/stream");
    stream.next();
    for (target, content_type) in PAGES {
        let page = camd.get(target);
        assert_eq!(page.status, 200, "{target}: {}", page.text());
        let got = page.field("Content-Type").expect("a type");
        assert!(got.starts_with(content_type), "{target}: {got}");
        assert_eq!(
            page.field("Content-Length"),
            Some(page.body.len().to_string().as_str())
        );
        assert!(!page.body.is_empty(), "{target}");
    }
    let page = camd.get("/");
    assert!(page.text().contains("src=\"stream\""), "{}", page.text());
    assert!(page.text().contains("viewport"), "it works on a phone");
}

#[test]
fn state_tells_everything() {
    let camd = Camd::start(&pattern());
    let mut stream = Stream::open(camd.http(), "/stream");
    let mut push = connect(camd.push());
    for _ in 0..30 {
        stream.next();
        push_next(&mut push);
    }
    let state = camd.state();
    assert_eq!(state["name"], "camera", "{state:#}");
    assert_eq!(state["version"], env!("CARGO_PKG_VERSION"));
    let camera = &state["camera"];
    assert_eq!(camera["state"], "live", "{state:#}");
    assert_eq!(camera["source"], "pattern");
    assert_eq!(camera["width"], 320);
    assert_eq!(camera["height"], 240);
    assert_eq!(camera["fps_wanted"], 30);
    assert!(
        camera["frames"].as_u64().is_some_and(|frames| frames >= 30),
        "{state:#}"
    );
    for counter in ["dropped", "bad", "reopens"] {
        assert!(camera[counter].is_u64(), "{counter} in {state:#}");
    }
    assert!(camera["fps"].is_number(), "{state:#}");
    assert!(camera["format"].is_string(), "{state:#}");
    assert!(camera.get("reason").is_some(), "{state:#}");

    let listeners = state["listeners"].as_array().expect("a list");
    assert_eq!(listeners.len(), 3);
    for (listener, (protocol, address, clients)) in listeners.iter().zip([
        // The one that asks counts, too.
        ("http", camd.http(), 2),
        ("push", camd.push(), 1),
        ("pull", camd.pull(), 0),
    ]) {
        assert_eq!(listener["protocol"], protocol);
        assert_eq!(listener["bind"], address.to_string());
        assert_eq!(listener["clients"], clients, "{state:#}");
        assert!(listener["limit"].as_u64().is_some_and(|limit| limit > 0));
        assert_eq!(listener["refused"], 0);
    }

    let clients = state["clients"].as_array().expect("a list");
    let client = |peer: std::net::SocketAddr| {
        clients
            .iter()
            .find(|client| client["peer"] == peer.to_string())
            .unwrap_or_else(|| panic!("no client {peer} in {state:#}"))
    };
    for (stream, protocol) in [(&stream.tcp, "http"), (&push, "push")] {
        let client = client(stream.local_addr().expect("its address"));
        assert_eq!(client["protocol"], protocol);
        assert!(
            client["frames"].as_u64().is_some_and(|frames| frames >= 29),
            "{state:#}"
        );
        for number in ["id", "skipped", "fps", "age_ms", "unsent_bytes", "listener"] {
            assert!(!client[number].is_null(), "{number} in {state:#}");
        }
        assert!(client["state"].is_string(), "{state:#}");
    }

    drop((stream, push));
    camd.wait_state("the clients leave", |state| {
        state["listeners"][0]["clients"] == 1 && state["listeners"][1]["clients"] == 0
    });
}

#[test]
fn state_and_metrics_tell_who_is_there_and_in_a_call() {
    let calls = |camd: &Camd| {
        let metrics = camd.get("/metrics");
        let mut lines = metrics.text().lines();
        let line = lines.find_map(|line| line.strip_prefix("camd_calls "));
        line.expect("the number of calls").to_owned()
    };
    let camd = Camd::start(&format!("{}{CALLS}", pattern()));
    assert_eq!(camd.state()["calls"], serde_json::json!([]));
    assert_eq!(calls(&camd), "0");
    let silent = connect(camd.call());
    let [mut alice, mut bob] = ["alice", "b\u{f6}b"].map(|name| User::log_in(camd.call(), name));
    alice.ring_camera();
    alice.picture();
    bob.say("alice", "", Kind::Request);
    let state = camd.wait_state("two calls", |state| {
        state["calls"]
            .as_array()
            .is_some_and(|calls| calls.len() == 2)
    });
    assert_eq!(calls(&camd), "2");
    let clients = state["clients"].as_array().expect("a list");
    let id = |user: &str| {
        let client = clients.iter().find(|client| client["user"] == user);
        let client = client.unwrap_or_else(|| panic!("no {user} in {state:#}"));
        assert_eq!(client["protocol"], "call");
        client["id"].clone()
    };
    let (alice_id, bob_id) = (id("alice"), id("b\u{f6}b"));
    let expected = serde_json::json!([
        {"caller": alice_id, "callee": null, "ringing": false},
        {"caller": bob_id, "callee": alice_id, "ringing": true},
    ]);
    assert_eq!(state["calls"], expected, "{state:#}");
    // Whoever asks for this page is there, too, and one who has not said who he is.
    let nameless = clients.iter().filter(|client| client["user"].is_null());
    assert_eq!(nameless.count(), 2, "{state:#}");

    drop((alice, silent));
    // He and the one that asks stay. Those that asked before may take their time to leave.
    camd.wait_state("she leaves", |state| {
        let clients = state["clients"].as_array().expect("a list");
        state["calls"] == serde_json::json!([]) && clients.len() == 2
    });
    assert_eq!(calls(&camd), "0");
    bob.expect("alice", "", Kind::End);
}

#[test]
fn metrics_are_prometheus_text() {
    let camd = Camd::start(&pattern());
    let metrics = camd.get("/metrics");
    let mut typed = std::collections::HashSet::new();
    let mut samples = 0;
    for line in metrics.text().lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(matches!(kind, "counter" | "gauge"), "{line}");
            assert!(typed.insert(name.to_owned()), "{line} twice");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            let name = name.split('{').next().expect("a first piece");
            assert!(typed.contains(name), "{line} without a type");
            assert!(name.starts_with("camd_"), "{line}");
            value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
            samples += 1;
        }
    }
    assert!(samples >= 5, "{}", metrics.text());
    assert!(metrics.text().ends_with('\n'));
}

#[test]
fn head_is_get_without_the_body() {
    let (_folder, camera) = replay(10, 5000, 30);
    let camd = Camd::start(&format!("{camera}{LISTENERS}"));
    for target in SNAPSHOTS
        .iter()
        .chain(PAGES.iter().map(|(target, _)| target))
        .chain(&STREAMS)
    {
        let head = request(
            camd.http(),
            &format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        );
        let expected = if *target == "/healthz" {
            head.status
        } else {
            200
        };
        assert_eq!(head.status, expected, "{target}");
        let content_type = head.field("Content-Type").expect("a type").to_owned();
        if STREAMS.contains(target) {
            assert!(
                content_type.starts_with("multipart/x-mixed-replace"),
                "{content_type}"
            );
            continue;
        }
        let get = camd.get(target);
        assert_eq!(
            get.field("Content-Type"),
            Some(content_type.as_str()),
            "{target}"
        );
        assert!(
            head.field("Content-Length").is_some(),
            "{target}: {}",
            head.head
        );
    }
    // The connection goes on after it as if nothing was sent, since nothing was.
    let mut stream = connect(camd.http());
    send(
        &mut stream,
        "HEAD /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    read_response(&mut stream, true);
    send(
        &mut stream,
        "GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    assert_eq!(read_response(&mut stream, false).body.len(), 5000);
}

#[test]
fn options_without_cors() {
    let camd = Camd::start(&pattern());
    let options = request(
        camd.http(),
        "OPTIONS /stream HTTP/1.1\r\nHost: localhost\r\nOrigin: http://elsewhere\r\nAccess-Control-Request-Method: GET\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(options.status, 204);
    let allow = options.field("Allow").expect("the methods");
    for method in ["GET", "HEAD", "OPTIONS"] {
        assert!(allow.contains(method), "{allow}");
    }
    assert!(
        !options
            .head
            .to_ascii_lowercase()
            .contains("access-control-"),
        "{}",
        options.head
    );
    // RFC 9110, 9.3.7: the server as a whole.
    let options = request(
        camd.http(),
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(options.status, 204);
}

#[test]
fn cors_when_an_origin_is_allowed() {
    let (_folder, camera) = replay(2, 5000, 30);
    let camd = Camd::start(&format!(
        "{camera}{}",
        http_listener("allow_origin = \"https://home.example\"")
    ));
    let allowed = |head: &str| {
        assert!(
            head.contains("Access-Control-Allow-Origin: https://home.example\r\n"),
            "{head}"
        );
    };
    allowed(&camd.get("/snapshot").head);
    allowed(&camd.get("/state").head);
    allowed(&camd.get("/nothing").head);
    allowed(&Stream::open(camd.http(), "/stream").head);
    let preflight = request(
        camd.http(),
        "OPTIONS /controls HTTP/1.1\r\nHost: localhost\r\nOrigin: https://home.example\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(preflight.status, 204);
    allowed(&preflight.head);
    assert!(
        preflight
            .field("Access-Control-Allow-Methods")
            .is_some_and(|methods| methods.contains("GET")),
        "{}",
        preflight.head
    );
}

#[test]
fn connections_are_kept_and_pipelined() {
    let (_folder, camera) = replay(2, 5000, 30);
    let camd = Camd::start(&format!("{camera}{LISTENERS}"));
    let mut stream = connect(camd.http());
    for _ in 0..5 {
        send(
            &mut stream,
            "GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n",
        );
        let snapshot = read_response(&mut stream, false);
        assert_jpeg(&snapshot.body);
    }
    // Answered one after the other, in order, whatever the mixture; empty lines in between are ignored (RFC 9112, 2.2).
    send(
        &mut stream,
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\
         \r\nGET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n\
         HEAD /state HTTP/1.1\r\nHost: localhost\r\n\r\n\
         GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n\
         GET /state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    let kind = |response: &crate::common::Response| {
        let kind = response.field("Content-Type").unwrap_or_default();
        (
            response.status,
            kind.split(';').next().unwrap_or_default().to_owned(),
        )
    };
    let health = read_response(&mut stream, false);
    assert_eq!(
        health.field("Content-Type").map(|kind| &kind[..10]),
        Some("text/plain")
    );
    let snapshot = read_response(&mut stream, false);
    assert_eq!(kind(&snapshot), (200, "image/jpeg".to_owned()));
    assert_jpeg(&snapshot.body);
    let head = read_response(&mut stream, true);
    assert_eq!(kind(&head), (200, "application/json".to_owned()));
    assert_eq!(read_response(&mut stream, false).status, 404);
    let state = read_response(&mut stream, false);
    assert_eq!(kind(&state), (200, "application/json".to_owned()));
    assert_closed(&mut stream);
}

#[test]
fn requests_split_at_every_point() {
    let camd = Camd::start(&pattern());
    let text = "GET /state HTTP/1.1\r\nHost: localhost\r\nX: y\r\n\r\n";
    let mut stream = connect(camd.http());
    for at in 1..text.len() {
        send(&mut stream, &text[..at]);
        std::thread::sleep(Duration::from_millis(5));
        send(&mut stream, &text[at..]);
        assert_eq!(
            read_response(&mut stream, false).status,
            200,
            "split at {at}"
        );
    }
}

#[test]
fn who_closes_and_when() {
    let camd = Camd::start(&pattern());
    // `request` asserts the close; what is tested is that it happens.
    for text in [
        "GET /state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /state HTTP/1.1\r\nHost: localhost\r\nconnection: Close\r\n\r\n",
        "GET /state HTTP/1.1\r\nHost: localhost\r\nConnection: x, close\r\n\r\n",
        "GET /state HTTP/1.0\r\n\r\n",
    ] {
        assert_eq!(request(camd.http(), text).status, 200, "{text}");
    }
    // An HTTP/1.0 client that asks for it is kept (RFC 9112, C.2.2), or honestly closed.
    let mut stream = connect(camd.http());
    send(
        &mut stream,
        "GET /state HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    );
    let response = read_response(&mut stream, false);
    match response.field("Connection") {
        Some(value) if value.eq_ignore_ascii_case("keep-alive") => {
            send(&mut stream, "GET /state HTTP/1.0\r\n\r\n");
            assert_eq!(read_response(&mut stream, false).status, 200);
        }
        _ => assert_closed(&mut stream),
    }
    // A half-closed client still gets its answer.
    let mut stream = connect(camd.http());
    send(
        &mut stream,
        "GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("a half-close");
    assert_jpeg(&read_response(&mut stream, false).body);
    assert_closed(&mut stream);
}

#[test]
fn bad_requests_are_answered_and_closed() {
    let camd = Camd::start(&pattern());
    let mut witness = Stream::open(camd.http(), "/stream");
    let fields = |n: usize| (0..n).map(|i| format!("X-{i}: y\r\n")).collect::<String>();
    for (text, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET /state\r\n\r\n".to_owned(), 400),
        ("GET  /state HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 400),
        ("GET /state HTTP/1.1\r\nHost : test\r\n\r\n".to_owned(), 400),
        ("GET /state HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".to_owned(), 400),
        // RFC 9112, 3.2: no Host, or more than one.
        ("GET /state HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /state HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        // RFC 9112, 6.3: lengths that contradict each other, or are none.
        (
            "POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
            400,
        ),
        ("POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_owned(), 400),
        ("POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\n1".to_owned(), 400),
        (
            "POST /controls HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            411,
        ),
        ("GET /state HTTP/2.0\r\nHost: localhost\r\n\r\n".to_owned(), 505),
        (
            "POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1025\r\n\r\n".to_owned(),
            413,
        ),
        (
            "POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n".to_owned(),
            413,
        ),
        (format!("GET /state HTTP/1.1\r\nHost: localhost\r\n{}\r\n", fields(64)), 431),
        (
            format!("GET /state HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(8192)),
            431,
        ),
        (format!("GET /state HTTP/1.1\r\nHost: localhost\r\nX: {}", "y".repeat(9000)), 431),
    ] {
        let mut stream = connect(camd.http());
        send(&mut stream, &text);
        let response = read_response(&mut stream, false);
        assert_eq!(response.status, status, "{text:.100}");
        assert!(!response.body.is_empty(), "{text:.100}: a reason for a person");
        assert_closed(&mut stream);
        witness.next();
    }
    // The largest allowed.
    let text = format!(
        "GET /state HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        fields(63)
    );
    let mut stream = connect(camd.http());
    send(&mut stream, text);
    assert_eq!(read_response(&mut stream, false).status, 200);
    let frame = "GET /state HTTP/1.1\r\nHost: localhost\r\nX: \r\n\r\n";
    let text = frame.replace("X: ", &format!("X: {}", "y".repeat(8192 - frame.len())));
    assert_eq!(text.len(), 8192);
    send(&mut stream, text);
    assert_eq!(read_response(&mut stream, false).status, 200);
}

#[test]
fn wrong_places_and_methods_keep_the_connection() {
    let camd = Camd::start(&pattern());
    let mut stream = connect(camd.http());
    for (method, target, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/stream/x", 404),
        ("GET", "/state/", 200),
        ("GET", "/state/../stream", 404),
        ("GET", "/?action=nothing", 404),
        ("HEAD", "/nothing", 404),
        ("DELETE", "/snapshot", 405),
        ("PUT", "/state", 405),
        ("PATCH", "/", 405),
        ("GET", "/state?x=y&z", 200),
    ] {
        send(
            &mut stream,
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        );
        let response = read_response(&mut stream, method == "HEAD");
        assert_eq!(response.status, status, "{method} {target}");
        if status == 405 {
            let allow = response.field("Allow").expect("RFC 9110, 15.5.6");
            assert!(allow.contains("GET") && !allow.contains(method), "{allow}");
        }
    }
}

/// The answer to `POST /controls` with this body and these further fields.
fn post(camd: &Camd, body: &str, more: &str) -> crate::common::Response {
    request(
        camd.http(),
        &format!(
            "POST /controls HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

#[test]
fn controls_are_set_by_whom_it_is_allowed() {
    let camd = Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\n{}",
        http_listener("set_controls = true")
    ));
    // The test pattern has none.
    assert_eq!(camd.get("/controls").text(), "[]\n");
    let own = "Origin: http://localhost\r\n";
    for (body, more, status) in [
        ("brightness=1", "", 404),
        ("brightness=1&contrast=true", own, 404),
        ("", "", 400),
        ("brightness", "", 400),
        ("brightness=high", "", 400),
        ("brightness=1&", "", 400),
        // A page of another site, in the browser of somebody who may.
        ("brightness=1", "Origin: http://elsewhere\r\n", 403),
        ("brightness=1", "Origin: null\r\n", 403),
    ] {
        let answer = post(&camd, body, more);
        assert_eq!(answer.status, status, "{body} {more}: {}", answer.text());
        assert!(!answer.body.is_empty(), "a reason for a person");
    }

    let camd = Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\n{}",
        http_listener("set_controls = false")
    ));
    assert_eq!(post(&camd, "brightness=1", "").status, 403);
    assert_eq!(camd.get("/controls").status, 200);

    let camd = Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\n{}",
        http_listener("set_controls = true\nallow_origin = \"http://elsewhere\"")
    ));
    assert_eq!(
        post(&camd, "brightness=1", "Origin: http://elsewhere\r\n").status,
        404
    );
    assert_eq!(
        post(&camd, "brightness=1", "Origin: http://third\r\n").status,
        403
    );
}

#[test]
fn slow_heads_end_by_the_deadline() {
    let camd = Camd::start(&format!("{}[limits]\nhead_timeout_s = 1\n", pattern()));
    let mut witness = Stream::open(camd.http(), "/stream");
    // Dribbling does not buy time.
    let mut dribbling = connect(camd.http());
    let started = Instant::now();
    send(
        &mut dribbling,
        "GET /state HTTP/1.1\r\nHost: localhost\r\nX: ",
    );
    let mut first = [0; 1];
    dribbling.set_nonblocking(true).expect("O_NONBLOCK");
    loop {
        match dribbling.read(&mut first) {
            Ok(_) => break,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        assert!(
            started.elapsed() < crate::common::PATIENCE,
            "no answer to a slow head"
        );
        // May fail when the server has just given up.
        let _ = std::io::Write::write(&mut dribbling, b"y");
        std::thread::sleep(Duration::from_millis(50));
        witness.next();
    }
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "a second was promised"
    );
    assert_eq!(&first, b"H", "an answer");
    dribbling.set_nonblocking(false).expect("O_NONBLOCK");
    let mut answer = first.to_vec();
    // The dribble that the server did not read makes its close a reset, after the answer.
    let _ = dribbling.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

    // A body that does not come is the same.
    let mut bodyless = connect(camd.http());
    send(
        &mut bodyless,
        "POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{",
    );
    assert_eq!(read_response(&mut bodyless, false).status, 408);
    assert_closed(&mut bodyless);

    // Who never said anything is closed, with or without a word.
    let mut silent = connect(camd.http());
    let mut words = Vec::new();
    silent.read_to_end(&mut words).expect("a close");
    assert!(words.is_empty() || words.starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn a_full_table_refuses_honestly() {
    let camd = Camd::start(
        &LISTENERS.replace("127.0.0.1:0\"\n", "127.0.0.1:0\"\nclients = 2\n").replacen(
            "\n",
            "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\nfps = 30\nlinger_s = 0\n",
            1,
        ),
    );
    let mut streams = [
        Stream::open(camd.http(), "/stream"),
        Stream::open(camd.http(), "/stream"),
    ];
    let mut pushes = [connect(camd.push()), connect(camd.push())];
    let mut pulls = [connect(camd.pull()), connect(camd.pull())];
    for _ in 0..3 {
        streams.iter_mut().for_each(|stream| drop(stream.next()));
        pushes.iter_mut().for_each(|push| drop(push_next(push)));
        pulls
            .iter_mut()
            .for_each(|pull| drop(crate::common::pull_next(pull)));
        for _ in 0..4 {
            let mut third = connect(camd.http());
            send(&mut third, "GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let refusal = read_response(&mut third, false);
            assert_eq!(refusal.status, 503);
            assert_eq!(refusal.field("Retry-After"), Some("5"));
            assert!(!refusal.body.is_empty());
            assert_closed(&mut third);
            assert_closed(&mut connect(camd.push()));
            assert_closed(&mut connect(camd.pull()));
        }
    }
    // A place that becomes free is given again.
    let [stream, _other] = streams;
    drop(stream);
    let deadline = Instant::now() + crate::common::PATIENCE;
    let state = loop {
        let mut third = connect(camd.http());
        send(
            &mut third,
            "GET /state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        );
        let response = read_response(&mut third, false);
        if response.status == 200 {
            break response;
        }
        assert!(Instant::now() < deadline, "the place stays taken");
        std::thread::sleep(Duration::from_millis(10));
    };
    let state: serde_json::Value = serde_json::from_slice(&state.body).expect("JSON");
    assert!(
        state["listeners"][0]["refused"]
            .as_u64()
            .is_some_and(|n| n >= 12),
        "{state:#}"
    );
    assert_eq!(state["listeners"][1]["refused"], 12, "{state:#}");
    assert_eq!(state["listeners"][2]["refused"], 12, "{state:#}");
}

#[test]
fn without_a_camera_there_is_an_honest_answer() {
    let mut camd = Camd::start(&format!("{NO_CAMERA}{LISTENERS}"));
    let asked = Instant::now();
    let snapshot = camd.get("/snapshot");
    assert_eq!(snapshot.status, 503);
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "two seconds were promised"
    );
    assert!(
        snapshot.text().contains("/dev/video-missing"),
        "the reason: {}",
        snapshot.text()
    );
    let health = camd.get("/healthz");
    assert_eq!(health.status, 503);
    let state = camd.wait_state("the fault is told", |state| {
        state["camera"]["state"] == "fault"
    });
    assert!(
        state["camera"]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("/dev/video-missing")),
        "{state:#}"
    );
    // Streams say so in a picture, again and again, and the connection stays.
    let mut stream = Stream::open(camd.http(), "/stream");
    let mut push = connect(camd.push());
    for _ in 0..2 {
        stream.next();
        push_next(&mut push);
    }
    // Logged once, not at every try.
    camd.wait_log("the fault", |log| log.contains("/dev/video-missing"));
    std::thread::sleep(Duration::from_secs(4));
    let log = camd.log();
    let lines = log
        .lines()
        .filter(|line| {
            line.contains("/dev/video-missing") && (line.contains("WARN") || line.contains("ERROR"))
        })
        .count();
    assert_eq!(lines, 1, "{log}");
}

#[test]
fn health_follows_the_pictures() {
    let camd = Camd::start(&pattern());
    let mut stream = Stream::open(camd.http(), "/stream");
    stream.next();
    assert_eq!(camd.get("/healthz").status, 200);
}
