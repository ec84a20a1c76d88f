//! Who is let in: users, passwords, tokens, networks, names, and what those learn who are not.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::{
    Camd, PATIENCE, Response, Stream, assert_jpeg, connect, python, read_head, read_response,
    request, run, send,
};

/// "secret", with as many iterations as `camd passwd` takes.
fn hash() -> String {
    static HASH: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    HASH.get_or_init(|| passwd("secret\n")).clone()
}

/// The line that `camd passwd` prints.
fn passwd(input: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_camd"))
        .arg("passwd")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("camd passwd");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let line = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(line.starts_with("password_hash = \"$pbkdf2-sha256$i=") && line.ends_with("\"\n"));
    line
}

/// The test picture, and these users at a listener with these keys.
fn camera(users: &str, keys: &str) -> String {
    format!(
        "[camera]\nname = \"Hühnerstall\"\nsource = \"pattern\"\nwidth = 320\nheight = 240\nlinger_s = 0\n{users}\n\
         [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n{keys}\n"
    )
}

/// Anna may everything, the printer sees, and Otto's password is kept as a hash.
fn users() -> String {
    format!(
        "[[user]]\nname = \"anna\"\npassword = \"pässwört: ok\"\nmay = [\"watch\", \"control\"]\n\
         [[user]]\nname = \"printer\"\ntoken = \"0123456789abcdef-_.~\"\n\
         [[user]]\nname = \"otto\"\n{}",
        hash()
    )
}

const ANNA: &str = "Basic YW5uYTpww6Rzc3fDtnJ0OiBvaw==";
/// The same in ISO 8859-1, as Python's libraries send it.
const ANNA_LATIN: &str = "Basic YW5uYTpw5HNzd/ZydDogb2s=";
const OTTO: &str = "Basic b3R0bzpzZWNyZXQ=";
const PRINTER: &str = "Bearer 0123456789abcdef-_.~";

fn text(method: &str, target: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n")
}

fn get(camd: &Camd, target: &str, login: &str) -> Response {
    let login = match login {
        "" => String::new(),
        login => format!("Authorization: {login}\r\n"),
    };
    request(camd.http(), &text("GET", target, &login))
}

fn post(camd: &Camd, login: &str) -> Response {
    let fields = format!("Authorization: {login}\r\nContent-Length: 12\r\n");
    let text = text("POST", "/controls", &fields) + "brightness=1";
    request(camd.http(), &text)
}

const PATHS: [&str; 10] = [
    "/",
    "/stream",
    "/snapshot",
    "/snapshot.jpg?t=1",
    "/state",
    "/state?once",
    "/metrics",
    "/controls",
    "/manifest.webmanifest",
    "/?action=snapshot",
];

#[test]
fn nobody_is_let_in_without_a_login() {
    let camd = Camd::start(&camera(&users(), ""));
    for path in PATHS {
        for login in [
            "",
            "Basic",
            "Basic !",
            "Digest x",
            "Basic YW5uYQ==",
            "Bearer ",
        ] {
            let answer = get(&camd, path, login);
            assert_eq!(answer.status, 401, "{path} {login}");
            assert_eq!(
                answer.field("WWW-Authenticate"),
                Some("Basic realm=\"camd\", charset=\"UTF-8\"")
            );
            assert_eq!(answer.text(), "401 Unauthorized: log in\n");
            assert!(answer.field("Retry-After").is_none());
        }
    }
    assert_eq!(post(&camd, "").status, 401);
    // The names of the paths are no secret.
    assert_eq!(get(&camd, "/nothing", "").status, 404);
    // What tells nothing: whether it is well, the icon, what may be asked.
    assert_eq!(get(&camd, "/icon.svg", "").status, 200);
    let well = get(&camd, "/healthz", "");
    assert_eq!((well.status, well.text()), (200, "ok\n"));
    let preflight = request(
        camd.http(),
        &text(
            "OPTIONS",
            "/stream",
            "Origin: http://hub\r\nAccess-Control-Request-Method: GET\r\n",
        ),
    );
    assert_eq!(preflight.status, 204);
    // Two of them: which one a proxy has seen is not known.
    let two = format!("Authorization: {ANNA}\r\nAuthorization: {OTTO}\r\n");
    assert_eq!(
        request(camd.http(), &text("GET", "/state", &two)).status,
        400
    );
}

#[test]
fn health_says_no_more_than_that() {
    let camd = Camd::start(
        &camera(&users(), "").replace("\"pattern\"", "\"v4l2\"\ndevice = \"/dev/video-missing\""),
    );
    let stream = connect(camd.http());
    drop(stream);
    let deadline = Instant::now() + PATIENCE;
    while get(&camd, "/healthz", "").status != 503 {
        assert!(Instant::now() < deadline, "a camera that is not there");
        get(&camd, "/snapshot", ANNA);
    }
    let answer = get(&camd, "/healthz", "");
    assert!(
        !answer.text().contains("video-missing"),
        "{}",
        answer.text()
    );
}

#[test]
fn users_are_let_in_to_what_they_may() {
    let camd = Camd::start(&camera(&users(), ""));
    for login in [ANNA, ANNA_LATIN, OTTO, PRINTER] {
        assert_jpeg(&get(&camd, "/snapshot", login).body);
        for path in PATHS.iter().filter(|path| **path != "/stream") {
            assert_eq!(get(&camd, path, login).status, 200, "{path} {login}");
        }
    }
    for target in [
        "/snapshot?token=0123456789abcdef-_.~",
        "/?action=snapshot&token=0123456789abcdef-_.~&1608856928650",
        "/snapshot?t=1?token=0123456789abcdef%2D_.%7e",
    ] {
        assert_jpeg(&get(&camd, target, "").body);
    }
    let mut stream = Stream::open(camd.http(), "/stream?token=0123456789abcdef-_.~");
    assert_jpeg(&stream.next().jpeg);
    assert_jpeg(&stream.next().jpeg);
    // The pattern has no controls: 404 is what one gets who may.
    assert_eq!(post(&camd, ANNA).status, 404);
    for login in [OTTO, PRINTER] {
        let answer = post(&camd, login);
        assert_eq!(answer.status, 403);
        assert!(answer.text().contains("control"), "{}", answer.text());
    }
    for (target, login) in [
        ("/snapshot?token=0123456789abcdef-_.", ""),
        ("/snapshot?xtoken=0123456789abcdef-_.~", ""),
        ("/snapshot", "Bearer secret"),
        ("/snapshot", "Basic b3R0bzpTZWNyZXQ="),
    ] {
        assert_eq!(get(&camd, target, login).status, 401, "{target} {login}");
    }
}

#[test]
fn what_others_are_called_is_for_those_who_control() {
    let camd = Camd::start(&camera(&users(), ""));
    let mut stream = Stream::open(camd.http(), "/stream?token=0123456789abcdef-_.~");
    stream.next();
    let clients = |login: &str| {
        let state: serde_json::Value =
            serde_json::from_str(get(&camd, "/state", login).text()).expect("JSON");
        let clients = state["clients"].as_array().expect("a list").clone();
        (clients, state["you"].clone())
    };
    let (all, you) = clients(ANNA);
    assert_eq!(you["user"], "anna");
    assert_eq!(you["sets_controls"], true);
    let of = |clients: &[serde_json::Value], viewer: bool| {
        let mut found = clients.iter().filter(|client| client["viewer"] == viewer);
        found.next().expect("both are there").clone()
    };
    assert_eq!(of(&all, true)["user"], "printer");
    assert!(
        of(&all, true)["peer"]
            .as_str()
            .expect("shown")
            .starts_with("127.0.0.1:")
    );
    let (some, you) = clients(OTTO);
    assert_eq!(you["user"], "otto");
    assert_eq!(you["sets_controls"], false);
    assert_eq!(of(&some, true)["user"], serde_json::Value::Null);
    assert_eq!(of(&some, true)["peer"], serde_json::Value::Null);
    assert_eq!(of(&some, false)["user"], "otto", "oneself");
    let metrics = get(&camd, "/metrics", OTTO);
    assert!(!metrics.text().contains("printer"));
}

#[test]
fn a_head_and_a_half_closed_client_are_answered_too() {
    let camd = Camd::start(&camera(&users(), ""));
    // It waits for a hash that takes a while, and says at once that it will say no more.
    let mut stream = connect(camd.http());
    let login = format!("Authorization: {OTTO}\r\n");
    send(&mut stream, text("GET", "/snapshot", &login));
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("it is open");
    let answer = read_response(&mut stream, false);
    assert_eq!(answer.status, 200);
    assert_jpeg(&answer.body);
    // One after the other over one connection, with and without.
    let mut stream = connect(camd.http());
    for (fields, status) in [
        ("", 401),
        (&*format!("Authorization: {ANNA}\r\n"), 200),
        ("", 401),
        ("Authorization: Bearer no\r\n", 401),
        (&*login, 200),
    ] {
        send(
            &mut stream,
            format!("HEAD /state HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"),
        );
        assert_eq!(read_response(&mut stream, true).status, status, "{fields}");
    }
    // One that waits for a word before it sends its body.
    for (login, status) in [(ANNA, 404), (OTTO, 403)] {
        let mut stream = connect(camd.http());
        send(
            &mut stream,
            format!(
                "POST /controls HTTP/1.1\r\nHost: localhost\r\nAuthorization: {login}\r\n\
                 Expect: 100-continue\r\nContent-Length: 12\r\n\r\n"
            ),
        );
        let mut word = [0; 25];
        stream.read_exact(&mut word).expect("a word");
        assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
        send(&mut stream, "brightness=1");
        assert_eq!(read_response(&mut stream, false).status, status, "{login}");
    }
    // Those that come at once are answered in their order.
    let mut stream = connect(camd.http());
    let one = |login: &str| {
        format!("HEAD /state HTTP/1.1\r\nHost: localhost\r\nAuthorization: {login}\r\n\r\n")
    };
    send(
        &mut stream,
        [ANNA, "Basic bm86bm8=", PRINTER, OTTO].map(one).concat(),
    );
    for status in [200, 401, 200, 200] {
        assert_eq!(read_response(&mut stream, true).status, status);
    }
}

#[test]
fn a_refused_request_that_shows_a_login_holds_nothing() {
    let camd = Camd::start(&camera(&users(), ""));
    // None of these gets as far as the door.
    let refused = [
        ("GE`T /snapshot HTTP/1.1", "", 405),
        ("GET /nothing HTTP/1.1", "", 404),
        ("DELETE /stream HTTP/1.1", "", 405),
        ("GET /snapshot?quality=no HTTP/1.1", "", 400),
        ("POST /controls HTTP/1.1", "Content-Length: 1\r\n", 400),
    ];
    // One that is somebody is answered afterwards, on the same connection.
    let mut stream = connect(camd.http());
    let mut say = |line: &str, login: &str, fields: &str, body: &str| {
        let head = format!("{line}\r\nHost: localhost\r\nAuthorization: {login}\r\n{fields}\r\n");
        send(&mut stream, head + body);
        read_response(&mut stream, line.starts_with("HEAD")).status
    };
    assert_eq!(say("HEAD /state HTTP/1.1", ANNA, "", ""), 200);
    for (line, fields, status) in refused {
        let body = if fields.is_empty() { "" } else { "=" };
        assert_eq!(say(line, "Basic bm86bm8=", fields, body), status, "{line}");
        assert_eq!(say("HEAD /state HTTP/1.1", ANNA, "", ""), 200, "{line}");
    }
    // It ends when its client does, whatever it has shown last.
    assert_eq!(say("GET /nothing HTTP/1.1", OTTO, "", ""), 404);
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("it is open");
    assert_eq!(stream.read(&mut [0]).expect("its end"), 0);
}

#[test]
fn who_guesses_waits_and_nobody_else_notices() {
    let users = users();
    let config = camera(&users, "trusted_proxies = [\"127.0.0.1\"]");
    let camd = Camd::start(&config);
    let from = |address: &str, password: &str| {
        let code = base64(&format!("otto:{password}"));
        let fields = format!("X-Forwarded-For: {address}\r\nAuthorization: Basic {code}\r\n");
        request(camd.http(), &text("GET", "/snapshot", &fields))
    };
    let mut healthy = Stream::open(camd.http(), "/stream?token=0123456789abcdef-_.~");
    healthy.next();
    for number in 0..5 {
        assert_eq!(from("192.0.2.7", &format!("guess {number}")).status, 401);
    }
    let answer = from("192.0.2.7", "secret");
    assert_eq!(answer.status, 429, "{}", answer.text());
    let after: u32 = answer
        .field("Retry-After")
        .expect("a time")
        .parse()
        .expect("seconds");
    assert!((1..=60).contains(&after));
    // The same one again is no guess, and no way around it.
    assert_eq!(from("192.0.2.7", "guess 4").status, 401);
    assert_eq!(from("192.0.2.8", "secret").status, 200);
    // A household has many addresses of IPv6.
    for number in 0..5 {
        let address = format!("2001:db8::{number}");
        assert_eq!(from(&address, &format!("guess {number}")).status, 401);
    }
    assert_eq!(from("2001:db8::ffff", "secret").status, 429);
    assert_eq!(from("[2001:db8:0:1::1]:443", "secret").status, 200);
    // What the client itself has put in front of what the proxy says is nothing.
    let mut statuses = Vec::new();
    for number in 0..6 {
        let addresses = format!("198.51.100.{number}, 192.0.2.9");
        statuses.push(from(&addresses, &format!("guess {number}")).status);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429]);
    let deadline = Instant::now() + PATIENCE;
    while from("192.0.2.7", "secret").status != 200 {
        assert!(Instant::now() < deadline, "it waits for ever");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_jpeg(&healthy.next().jpeg);
    let log = camd.log();
    let said = log.matches("wrong password or token").count();
    assert!((1..=16).contains(&said), "{log}");
    assert!(!log.contains("guess"), "{log}");
}

#[test]
fn a_flood_of_guesses_costs_a_viewer_nothing() {
    let camd = Camd::start(&camera(
        &users(),
        "trusted_proxies = [\"127.0.0.1\"]\nclients = 40",
    ));
    let address = camd.http();
    let end = Instant::now() + Duration::from_secs(4);
    let guessers: Vec<_> = (0..4)
        .map(|guesser| {
            std::thread::spawn(move || {
                let mut seen = [0; 3];
                let mut stream = connect(address);
                for number in 0.. {
                    if Instant::now() >= end {
                        break;
                    }
                    let code = base64(&format!("otto:{number}"));
                    let fields = format!(
                        "X-Forwarded-For: 10.{guesser}.{}.{}\r\nAuthorization: Basic {code}\r\n",
                        number / 256 % 256,
                        number % 256
                    );
                    send(
                        &mut stream,
                        format!("GET /snapshot HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"),
                    );
                    match read_response(&mut stream, false).status {
                        401 => seen[0] += 1,
                        429 => seen[1] += 1,
                        503 => seen[2] += 1,
                        other => panic!("{other}"),
                    }
                }
                seen
            })
        })
        .collect();
    let mut healthy = Stream::open(camd.http(), "/stream?token=0123456789abcdef-_.~");
    let (mut pictures, mut oldest) = (0, Duration::ZERO);
    while Instant::now() < end {
        let part = healthy.next();
        pictures += 1;
        oldest = oldest.max(part.age());
    }
    let seen: Vec<_> = guessers
        .into_iter()
        .map(|it| it.join().expect("no panic"))
        .collect();
    println!("{pictures} pictures, the oldest {oldest:?}; 401, 429, 503: {seen:?}");
    assert!(pictures > 4 * 15, "{pictures} pictures in 4 s");
    assert!(oldest < Duration::from_secs(1), "{oldest:?}");
}

#[test]
fn a_reload_takes_users_over_and_shows_others_out() {
    let mut camd = Camd::start(&camera(&users(), ""));
    let mut kept = Stream::open(camd.http(), "/stream?token=0123456789abcdef-_.~");
    let mut anna = connect(camd.http());
    send(
        &mut anna,
        format!("GET /stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: {ANNA}\r\n\r\n"),
    );
    assert!(read_head(&mut anna).starts_with("HTTP/1.1 200"));
    let mut idle = connect(camd.http());
    let state = format!("HEAD /state HTTP/1.1\r\nHost: localhost\r\nAuthorization: {ANNA}\r\n\r\n");
    send(&mut idle, &state);
    assert_eq!(read_response(&mut idle, true).status, 200);
    let changed = users().replace("pässwört: ok", "another");
    fs::write(camd.config_path(), camera(&changed, "")).expect("it is ours");
    camd.signal(Signal::SIGHUP);
    camd.wait_log("the reload", |log| log.contains("read again"));
    send(&mut idle, &state);
    assert_eq!(read_response(&mut idle, true).status, 401);
    // What she was getting ends, too.
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut anna, &mut rest).ok();
    for _ in 0..10 {
        assert_jpeg(&kept.next().jpeg);
    }
    // An open one that is closed to strangers.
    fs::write(camd.config_path(), camera("", "")).expect("it is ours");
    camd.signal(Signal::SIGHUP);
    camd.wait_log("the reload", |log| log.matches("read again").count() == 2);
    let mut open = connect(camd.http());
    send(&mut open, "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(read_head(&mut open).starts_with("HTTP/1.1 200"));
    fs::write(camd.config_path(), camera(&changed, "")).expect("it is ours");
    camd.signal(Signal::SIGHUP);
    camd.wait_log("the reload", |log| log.matches("read again").count() == 3);
    std::io::Read::read_to_end(&mut open, &mut rest).ok();
    assert_eq!(get(&camd, "/snapshot", "").status, 401);
}

#[test]
fn networks_that_may_not_connect() {
    let with = |allow: &str| {
        let key = format!("allow = {allow}");
        let others: String = ["push", "pull", "raw", "call"]
            .iter()
            .map(|protocol| {
                format!("[[listener]]\nprotocol = \"{protocol}\"\nbind = \"127.0.0.1:0\"\nclients = 8\n{key}\n")
            })
            .collect();
        Camd::start(&(camera("", &key) + &others))
    };
    let inside = with("[\"127.0.0.0/8\"]");
    assert_jpeg(&inside.get("/snapshot").body);
    let mut outside = with("[\"192.168.0.0/16\", \"::1\"]");
    for (protocol, address) in outside.listeners.clone() {
        let address: std::net::SocketAddr = address.parse().expect("an address");
        let mut stream = TcpStream::connect(address).expect("the kernel accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut answer = [0; 16];
        let got = std::io::Read::read(&mut stream, &mut answer);
        assert!(matches!(got, Ok(0) | Err(_)), "{protocol}: {got:?}");
        let is_timeout = got.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!is_timeout, "{protocol} stays open");
    }
    outside.wait_log("all five", |log| {
        log.matches("is not in allow").count() == 5
    });
}

/// With all in its log that it says at its start.
fn started(config: &str) -> Camd {
    let mut camd = Camd::start(config);
    camd.wait_log("its camera", |log| log.contains("built-in test pattern"));
    camd
}

#[test]
fn open_doors_are_told() {
    let open = |keys: &str, users: &str| {
        let config = camera(users, keys).replace("127.0.0.1:0", "0.0.0.0:0");
        // Nothing of a test may be reached from elsewhere: only its own network is let in.
        started(&(config + "allow = [\"127.0.0.0/8\"]\n"))
    };
    let camd = open("", "");
    let log = camd.log();
    assert!(
        log.contains("http is open: who connects from the networks in allow"),
        "{log}"
    );
    let state = camd.state();
    assert_eq!(state["listeners"][0]["exposed"], true);
    assert_eq!(state["you"]["sets_controls"], false);
    let answer = post(&camd, "");
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("[[user]]"), "{}", answer.text());
    let options = request(camd.http(), &text("OPTIONS", "/controls", ""));
    assert!(!options.field("Allow").expect("always").contains("POST"));
    let camd = open("", &users());
    assert!(!camd.log().contains("is open"), "{}", camd.log());
    let camd = started(&camera("", ""));
    assert!(!camd.log().contains("is open"), "{}", camd.log());
    assert_eq!(camd.state()["listeners"][0]["exposed"], false);
    assert_eq!(post(&camd, "").status, 404, "on this machine alone");
}

#[test]
fn a_name_of_somebody_else_is_not_answered() {
    let camd = Camd::start(&camera("", "hosts = [\"cam.example.org\"]"));
    let ask = |host: &str, more: &str| {
        request(
            camd.http(),
            &format!("GET /state HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"),
        )
    };
    let own = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let own = own.trim();
    for host in [
        "127.0.0.1",
        "10.1.2.3:8080",
        "[::1]:8080",
        "localhost",
        "LocalHost:8080",
        "cam.example.org",
        "CAM.example.org.:443",
        own,
        &format!("{own}.local"),
        &format!("{own}.lan:8080"),
        &format!("{own}.home.arpa"),
        &format!("{own}.internal."),
        // Names without a dot are of no domain.
        "box",
        "Printer:8080",
    ] {
        assert_eq!(ask(host, "").status, 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:8080",
        "x.cam.example.org",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        &format!("{own}.evil.example"),
        &format!("evil.{own}.local"),
    ] {
        let answer = ask(host, "");
        assert_eq!(answer.status, 421, "{host}");
        let text = answer.text();
        assert!(
            text.contains("hosts") && text.contains("camd.toml"),
            "{text}"
        );
        assert!(!text.contains("Hühnerstall"), "{text}");
    }
    let answer = ask("<script>alert(1)</script>\u{202e}", "");
    assert_eq!(answer.status, 421);
    assert!(answer.text().contains("\\u{202e}"), "{}", answer.text());
    assert_eq!(
        answer.field("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
    // The target's own name counts, and what the Host field says beside it.
    for (target, host, status) in [
        ("http://evil.example/state", "localhost", 421),
        ("http://localhost/state", "evil.example", 421),
        ("http://localhost/state", "localhost", 200),
    ] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(
            request(camd.http(), &text).status,
            status,
            "{target} {host}"
        );
    }
    for method in ["HEAD", "OPTIONS", "POST"] {
        let text = format!(
            "{method} /controls HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        let mut stream = connect(camd.http());
        send(&mut stream, text);
        assert_eq!(
            read_response(&mut stream, method == "HEAD").status,
            421,
            "{method}"
        );
    }
    // A page of another site hears that first.
    let foreign = "POST /controls HTTP/1.1\r\nHost: cam.example\r\nOrigin: http://evil.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(request(camd.http(), foreign).status, 403);
    // A program of the last century has none.
    assert_eq!(
        request(camd.http(), "GET /state HTTP/1.0\r\n\r\n").status,
        200
    );
    // No proxy that is trusted has said that.
    assert_eq!(
        ask("localhost", "X-Forwarded-Host: evil.example\r\n").status,
        200
    );
    let camd = Camd::start(&camera(
        "",
        "trusted_proxies = [\"127.0.0.1\"]\nhosts = [\"cam.example.org\"]",
    ));
    for (host, status) in [("evil.example", 421), ("cam.example.org:443", 200)] {
        let text = text("GET", "/state", &format!("X-Forwarded-Host: {host}\r\n"));
        assert_eq!(request(camd.http(), &text).status, status, "{host}");
        let text = text_forwarded(host);
        assert_eq!(request(camd.http(), &text).status, status, "{host}");
    }
}

fn text_forwarded(host: &str) -> String {
    text(
        "GET",
        "/state",
        &format!("Forwarded: for=192.0.2.1;host=\"{host}\"\r\n"),
    )
}

#[test]
fn every_reply_says_what_browsers_may_do_with_it() {
    let camd = Camd::start(&camera(&users(), "allow_origin = \"http://hub\""));
    let closed = Camd::start(&camera(&users(), "embed = false"));
    for path in PATHS
        .iter()
        .filter(|path| **path != "/stream")
        .chain(&["/nothing", "/healthz"])
    {
        for (camd, login) in [(&camd, ANNA), (&camd, ""), (&closed, ANNA)] {
            let answer = get(camd, path, login);
            let is_picture = answer.status == 200 && path.contains("snapshot");
            let is_closed = std::ptr::eq(camd, &closed);
            let sites = match is_picture && !is_closed {
                true => "cross-origin",
                false => "same-origin",
            };
            assert_eq!(
                answer.field("Cross-Origin-Resource-Policy"),
                Some(sites),
                "{path}"
            );
            let ancestors = match (is_picture, is_closed) {
                (true, false) => "frame-ancestors *",
                (_, true) => "frame-ancestors 'self'",
                _ => "frame-ancestors 'self' http://hub",
            };
            assert_eq!(
                answer.field("Content-Security-Policy"),
                Some(ancestors),
                "{path}"
            );
            assert_eq!(
                answer.field("X-Content-Type-Options"),
                Some("nosniff"),
                "{path}"
            );
            assert_eq!(
                answer.field("Referrer-Policy"),
                Some("no-referrer"),
                "{path}"
            );
        }
    }
    // What a browser sends for another site's page.
    let embedded = |camd: &Camd, dest: &str, site: &str| {
        let fields = format!(
            "Authorization: {ANNA}\r\nSec-Fetch-Site: {site}\r\nSec-Fetch-Dest: {dest}\r\n"
        );
        request(camd.http(), &text("GET", "/snapshot", &fields)).status
    };
    assert_eq!(embedded(&camd, "image", "cross-site"), 200);
    for (dest, site, status) in [
        ("image", "cross-site", 403),
        ("image", "same-site", 403),
        ("iframe", "cross-site", 403),
        ("image", "same-origin", 200),
        ("image", "none", 200),
        ("document", "cross-site", 200),
    ] {
        assert_eq!(embedded(&closed, dest, site), status, "{dest} {site}");
    }
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |three: &[u8]| {
        let mut word = 0_u32;
        for at in 0..3 {
            word = word << 8 | u32::from(*three.get(at).unwrap_or(&0));
        }
        let digit = |at: u32| char::from(DIGITS[(word >> (18 - 6 * at) & 63) as usize]);
        let four: String = (0..4).map(digit).collect();
        four[..three.len() + 1].to_owned() + &"="[..].repeat(3 - three.len())
    };
    text.as_bytes().chunks(3).map(digits).collect()
}

#[test]
fn a_password_becomes_a_line_of_the_configuration() {
    assert_ne!(
        passwd("secret\n"),
        passwd("secret\r\n"),
        "each has its salt"
    );
    let camd = Camd::start(&camera(&users(), ""));
    assert_eq!(get(&camd, "/snapshot", OTTO).status, 200);
    for (input, code) in [("", 2), ("\n", 2)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_camd"))
            .arg("passwd")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("camd passwd");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes())
            .expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code));
        assert!(output.stdout.is_empty());
    }
    // At a terminal it asks twice, and shows nothing.
    let python = r#"
import os, pty, sys
def talk(lines):
    pid, tty = pty.fork()
    if pid == 0:
        os.execv(sys.argv[1], [sys.argv[1], "passwd"])
    seen = b""
    for prompt, line in lines:
        while prompt not in seen:
            seen += os.read(tty, 1000)
        os.write(tty, line + b"\n")
    while True:
        try:
            part = os.read(tty, 1000)
        except OSError:
            break
        if not part:
            break
        seen += part
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen
code, seen = talk([(b"Password: ", b"geheim"), (b"Again: ", b"geheim")])
assert code == 0 and b"geheim" not in seen and b'password_hash = "$pbkdf2' in seen, (code, seen)
code, seen = talk([(b"Password: ", b"geheim"), (b"Again: ", b"gehiem")])
assert code == 2 and b"geh" not in seen and b"not the same" in seen, (code, seen)
"#;
    run(Command::new("python3").args(["-c", python, env!("CARGO_BIN_EXE_camd")]));
}

/// The starts of JPEGs.
fn pictures(bytes: &[u8]) -> usize {
    let starts = bytes.windows(3).filter(|it| *it == [0xFF, 0xD8, 0xFF]);
    starts.count()
}

/// What a program ends with that is not let in, and what it says.
fn refused(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(!output.status.success(), "{command:?} was let in");
    assert_eq!(pictures(&output.stdout), 0);
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn curl_logs_in() {
    let camd = Camd::start(&camera(&users(), ""));
    let curl = |args: &[&str], target: &str| {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--fail", "--max-time", "20"])
            .args(args)
            .arg(format!("http://{}{target}", camd.http()));
        command
    };
    let token = "0123456789abcdef-_.~";
    for (args, target) in [
        (&["--user", "anna:pässwört: ok"][..], "/snapshot"),
        (&["--user", "otto:secret"], "/snapshot"),
        // It asks first, and then chooses.
        (&["--anyauth", "--user", "otto:secret"], "/snapshot"),
        (&["--oauth2-bearer", token], "/snapshot"),
        (
            &[],
            "/?action=snapshot&token=0123456789abcdef-_.~&1712345678901",
        ),
    ] {
        let bytes = run(&mut curl(args, target)).stdout;
        assert_eq!(pictures(&bytes), 1, "{args:?} {target}");
    }
    let mut url = Command::new("curl");
    url.args(["--silent", "--fail", "--max-time", "20"]);
    url.arg(format!("http://otto:secret@{}/snapshot", camd.http()));
    assert_jpeg(&run(&mut url).stdout);
    for args in [
        &[][..],
        &["--user", "otto:Secret"],
        &["--user", "Otto:secret"],
        &["--oauth2-bearer", "0123456789abcdef-_."],
        &["--digest", "--user", "otto:secret"],
    ] {
        assert!(
            refused(&mut curl(args, "/snapshot")).contains("401"),
            "{args:?}"
        );
    }
}

#[test]
fn opencv_and_ffmpeg_log_in() {
    let camd = Camd::start(&camera(&users(), ""));
    let url = |login: &str| format!("http://{login}@{}/stream", camd.http());
    for login in ["otto:secret", "anna:p%C3%A4ssw%C3%B6rt%3A%20ok"] {
        let output = run(python("video_capture.py").args([&url(login), "5"]));
        let text = String::from_utf8_lossy(&output.stdout);
        let sizes = text.lines().filter(|line| line.starts_with("320x240 "));
        assert_eq!(sizes.count(), 5, "{login}: {text}");
    }
    let said = refused(python("video_capture.py").args([&url("otto:guess"), "1"]));
    assert!(said.contains("cannot open"), "{said}");
    let ffmpeg = |login: &str| {
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-i"]);
        command.args([&url(login), "-frames:v", "3", "-f", "framecrc", "-"]);
        command
    };
    let output = run(&mut ffmpeg("otto:secret"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().filter(|it| !it.starts_with('#')).count(), 3);
    let said = refused(&mut ffmpeg("otto:guess"));
    assert!(said.contains("401"), "{said}");
}

/// `camd fetch URL -n COUNT -o -`
fn fetch(url: &str, count: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.args(["fetch", url, "-n", count, "-o", "-", "--timeout", "10"]);
    command
}

#[test]
fn fetch_logs_in() {
    let camd = Camd::start(&camera(&users(), ""));
    let url = |login: &str, path: &str| format!("http://{login}{}/{path}", camd.http());
    for (login, path, count) in [
        ("otto:secret@", "stream", 3),
        ("otto:secret@", "snapshot", 1),
        ("anna:p%C3%A4ssw%C3%B6rt%3A%20ok@", "stream", 3),
        ("", "stream?token=0123456789abcdef-_.~", 3),
    ] {
        let bytes = run(&mut fetch(&url(login, path), &count.to_string())).stdout;
        assert_eq!(pictures(&bytes), count, "{login} {path}");
    }
    for (login, path, why) in [
        (
            "",
            "stream",
            "it wants a login, as in http://USER:PASSWORD@",
        ),
        (
            "otto:guess@",
            "stream",
            "it does not take this user and password",
        ),
        (
            "nobody:secret@",
            "snapshot",
            "it does not take this user and password",
        ),
    ] {
        let said = refused(&mut fetch(&url(login, path), "1"));
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
        assert!(!said.contains("guess"), "{said}");
    }
}

#[test]
fn octoprint_and_home_assistant_log_in() {
    let camd = Camd::start(&camera(&users(), ""));
    // OctoPrint asks with requests, which sends these fields; its page has the browser ask, which adds a number.
    for target in [
        "/?action=snapshot&token=0123456789abcdef-_.~",
        "/?action=snapshot&token=0123456789abcdef-_.~&1712345678901",
        "/?action=snapshot&token=0123456789abcdef%2D_.%7E",
    ] {
        let fields = "User-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n";
        let answer = request(camd.http(), &text("GET", target, fields));
        assert_eq!(answer.status, 200, "{target}");
        assert_jpeg(&answer.body);
    }
    let target = "/?action=stream&token=0123456789abcdef-_.~&1712345678901";
    let mut stream = connect(camd.http());
    send(&mut stream, text("GET", target, ""));
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
    let assistant = |user: &str, password: &str| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/home_assistant.py");
        let url = format!("http://{}", camd.http());
        // Debian's own, for which aiohttp is installed.
        let output = run(Command::new("/usr/bin/python3").args([script, &url, user, password]));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for (user, password) in [("otto", "secret"), ("anna", "pässwört: ok")] {
        let said = assistant(user, password);
        let lines: Vec<_> = said.lines().collect();
        let bytes = lines[0].strip_prefix("200 ").map(str::parse::<usize>);
        assert!(matches!(bytes, Some(Ok(1000..))), "{said}");
        assert_eq!(lines[1], "200", "{said}");
    }
    assert_eq!(assistant("otto", "guess"), "401 no picture\n401\n");
}

#[test]
fn users_of_a_call_listener() {
    let camd = Camd::start(&camera(&users(), "access = \"users\"").replace(
        "protocol = \"http\"",
        "protocol = \"call\"\nuser = \"door\"\nfps = 30",
    ));
    let url = |login: &str, to: &str| format!("call://{login}@{}/{to}", camd.call());
    // One whose password is in the file, and one whose password is kept as a hash.
    for login in ["anna:p%C3%A4ssw%C3%B6rt%3A%20ok", "otto:secret"] {
        let bytes = run(&mut fetch(&url(login, "door"), "3")).stdout;
        assert_eq!(pictures(&bytes), 3, "{login}");
    }
    for (login, why) in [
        ("otto:guess", "wrong password"),
        // That of another user; of nobody; none; a token is none.
        ("anna:secret", "wrong password"),
        ("mallory:secret", "wrong password"),
        ("otto", "wrong password"),
        ("printer:0123456789abcdef-_.~", "wrong password"),
    ] {
        let said = refused(&mut fetch(&url(login, "door"), "1"));
        println!("{login}: {said}");
        assert!(said.contains(why), "{login}: {said}");
    }
}
