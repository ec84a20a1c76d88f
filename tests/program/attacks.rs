//! Strangers who take what they can get, and the others meanwhile: the owner, a health check, and a viewer whose rate and
//! age are printed. Each test has a network of its own (a network namespace), in which every address of 10.0.0.0/8 is
//! this machine's: there can be hundreds of strangers, and nobody outside sees them.
//!
//! An attack goes on for [`ATTACK`], or for 20 s with `CAMD_FULL=1`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use camd::protocol::call::{self, Kind};
use socket2::{Domain, Socket, Type};

use crate::common::{
    Camd, HINT, PATIENCE, Response, Stream, assert_jpeg, pull_next, read_response, send,
};

const ATTACK: Duration = Duration::from_secs(4);
/// camd's own address, and those of people who mean well.
const BOX: &str = "10.0.0.1";
const OWNER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const VIEWER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn stranger(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, (n / 250) as u8, (n % 250 + 1) as u8)
}

/// Runs a test again in a network of its own, which it has set up then. `name` is that of the test.
fn alone(name: &str, test: impl FnOnce()) {
    const INSIDE: &str = "CAMD_TEST_NETWORK";
    if std::env::var(INSIDE).is_ok() {
        return test();
    }
    let mut unshare = Command::new("unshare");
    unshare.arg("--net");
    let own = std::fs::metadata("/proc/self").expect("this process");
    if own.uid() != 0 {
        unshare.arg("--map-root-user");
    }
    let setup = "ip link set lo up && ip route add local 10.0.0.0/8 dev lo && \
                 for i in 1 2 3 4 5 6; do ip -6 address add fd00:1::$i/128 dev lo nodad; done && \
                 ip -6 address add fd00:2::1/128 dev lo nodad && exec \"$@\"";
    let output = unshare
        .args(["sh", "-c", setup, "sh"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", &format!("attacks::{name}"), "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("unshare: {error}; {HINT}"));
    let [out, log] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    let passed = output.status.success() && out.contains("1 passed");
    assert!(passed, "{HINT}\n{out}{log}");
    let figures = out.lines().filter(|line| line.starts_with("figure: "));
    figures.for_each(|line| println!("{name}: {line}"));
}

fn camd(listeners: &str) -> Camd {
    Camd::start(&config(listeners))
}

fn config(listeners: &str) -> String {
    let http = format!("[[listener]]\nprotocol = \"http\"\nbind = \"0.0.0.0:0\"\n{listeners}");
    format!(
        "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\nfps = 30\nlinger_s = 0\n{http}"
    )
}

/// Where camd is reached from an address: it listens on all.
fn to(address: SocketAddr, from: IpAddr) -> SocketAddr {
    let host = match from {
        IpAddr::V4(LOCAL) => from,
        IpAddr::V6(_) => "fd00:1::1".parse().expect("an address"),
        IpAddr::V4(_) => BOX.parse().expect("an address"),
    };
    SocketAddr::new(host, address.port())
}

fn try_connect(from: impl Into<IpAddr>, address: SocketAddr) -> io::Result<TcpStream> {
    let from = from.into();
    let address = to(address, from);
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

fn connect(from: impl Into<IpAddr>, address: SocketAddr) -> TcpStream {
    let from = from.into();
    try_connect(from, address).unwrap_or_else(|error| panic!("{from}: {error}"))
}

fn get(from: impl Into<IpAddr>, camd: &Camd, target: &str) -> Response {
    let mut stream = connect(from, camd.http());
    send(
        &mut stream,
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    );
    read_response(&mut stream, false)
}

fn metric(camd: &Camd, name: &str) -> u64 {
    let page = get(LOCAL, camd, "/metrics");
    assert_eq!(page.status, 200, "one place is kept for this machine");
    let values = page.text().lines().filter(|line| line.starts_with(name));
    let value = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
    values.filter_map(value).sum()
}

// --- those who are there meanwhile ---

/// Something that goes on in threads of its own until it is ended.
struct Going<T> {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<T>>,
}

impl<T: Send + 'static> Going<T> {
    fn start(count: usize, act: impl Fn(usize, &AtomicBool) -> T + Send + Sync + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let act = Arc::new(act);
        let thread = |n| {
            let (stop, act) = (Arc::clone(&stop), Arc::clone(&act));
            thread::spawn(move || act(n, &stop))
        };
        let threads = (0..count).map(thread).collect();
        Going { stop, threads }
    }

    fn end(self) -> Vec<T> {
        self.stop.store(true, Ordering::Relaxed);
        let end = |thread: JoinHandle<T>| thread.join().expect("it does not fail");
        self.threads.into_iter().map(end).collect()
    }
}

fn goes_on(stop: &AtomicBool) -> bool {
    !stop.load(Ordering::Relaxed)
}

/// A viewer of the stream: how many pictures a second, and how old the oldest was when it was there.
struct Viewer(Going<(u64, Duration)>, Instant);

impl Viewer {
    fn watch(camd: &Camd) -> Viewer {
        let mut stream = Stream::open_over(connect(VIEWER, camd.http()), "/stream");
        stream.next();
        let stream = std::sync::Mutex::new(stream);
        let going = Going::start(1, move |_, stop| {
            let mut stream = stream.lock().expect("its only user");
            let (mut pictures, mut oldest) = (0, Duration::ZERO);
            while goes_on(stop) {
                oldest = oldest.max(stream.next().age());
                pictures += 1;
            }
            (pictures, oldest)
        });
        Viewer(going, Instant::now())
    }

    fn end(self, during: &str) {
        let seconds = self.1.elapsed().as_secs_f64();
        let (pictures, oldest) = self.0.end()[0];
        let rate = pictures as f64 / seconds;
        println!(
            "figure: {during}: a viewer had {rate:.1} of 30 pictures a second, none older than {oldest:.1?}"
        );
        assert!(
            rate > 3.0,
            "{during}: the viewer starves, with {rate} pictures a second"
        );
    }
}

/// The owner and a health check, for the time of an attack. Both ask on a new connection each time.
fn attacked(camd: &Camd, during: &str, from: Ipv4Addr, owner: impl Fn() -> Response) {
    let full = std::env::var_os("CAMD_FULL").is_some();
    let time = if full {
        Duration::from_secs(20)
    } else {
        ATTACK
    };
    let (begin, mut asked, mut longest) = (Instant::now(), 0, Duration::ZERO);
    while begin.elapsed() < time {
        let one = Instant::now();
        let response = owner();
        assert_eq!(response.status, 200, "{during}: {}", response.text());
        let health = get(from, camd, "/healthz");
        assert_eq!(health.status, 200, "{during}: {}", health.text());
        let health = get(LOCAL, camd, "/healthz");
        assert_eq!(health.status, 200, "{during}: {}", health.text());
        longest = longest.max(one.elapsed());
        asked += 1;
        thread::sleep(Duration::from_millis(20));
    }
    println!(
        "figure: {during}: {asked} of {asked} snapshots and health checks, all three within {longest:.1?}"
    );
}

fn snapshots(camd: &Camd, during: &str) {
    attacked(camd, during, OWNER, || {
        let snapshot = get(OWNER, camd, "/snapshot");
        if snapshot.status == 200 {
            assert_jpeg(&snapshot.body);
        }
        snapshot
    });
}

// --- those who attack ---

/// Keeps so many connections up, each from an address of its own choice; `say` is what each of them does when it is up,
/// and `again` what it does ten times a second after that. What the server closes is made anew.
fn besiege(
    count: usize,
    address: SocketAddr,
    from: impl Fn(usize) -> Ipv4Addr + Send + Sync + 'static,
    say: &'static [u8],
    again: &'static [u8],
) -> Going<u64> {
    let made = AtomicU64::new(0);
    const THREADS: usize = 4;
    Going::start(THREADS, move |thread, stop| {
        let mut held: Vec<Option<TcpStream>> = Vec::new();
        held.resize_with(count.div_ceil(THREADS), || None);
        while goes_on(stop) {
            for (n, place) in held.iter_mut().enumerate() {
                let is_up = |stream: &TcpStream| {
                    // Takes what there is: who watches reads.
                    let mut some = [0; 1 << 16];
                    match (&*stream).read(&mut some) {
                        Ok(0) => false,
                        Ok(_) => true,
                        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
                    }
                };
                let sent = place.as_ref().is_some_and(|mut stream| {
                    is_up(stream) && (again.is_empty() || stream.write_all(again).is_ok())
                });
                if sent {
                    continue;
                }
                let source = from(thread * count.div_ceil(THREADS) + n);
                *place = try_connect(source, address).ok().filter(|stream| {
                    made.fetch_add(1, Ordering::Relaxed);
                    let said = { stream }.write_all(say).is_ok();
                    said && stream.set_nonblocking(true).is_ok()
                });
            }
            thread::sleep(Duration::from_millis(100));
        }
        made.load(Ordering::Relaxed)
    })
}

fn wait_until_full(camd: &Camd, protocol: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = get(LOCAL, camd, "/state?once");
        let state: serde_json::Value = serde_json::from_slice(&state.body).expect("JSON");
        let listeners = state["listeners"].as_array().expect("a list");
        let of = listeners.iter().find(|it| it["protocol"] == protocol);
        let of = of.expect("it is one of them");
        if of["clients"].as_u64() >= of["limit"].as_u64() {
            return;
        }
        assert!(Instant::now() < deadline, "there is still room: {of:#}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn one_address_that_never_says_a_word() {
    alone("one_address_that_never_says_a_word", || {
        let camd = camd("");
        let viewer = Viewer::watch(&camd);
        for count in [16, 64] {
            let attack = besiege(count, camd.http(), |_| stranger(0), b"", b"");
            thread::sleep(Duration::from_millis(300));
            let during = format!("{count} silent connections from one address");
            snapshots(&camd, &during);
            attack.end();
        }
        viewer.end("silent connections from one address");
    });
}

#[test]
fn two_hundred_addresses_that_never_say_a_word() {
    alone("two_hundred_addresses_that_never_say_a_word", || {
        let camd = camd("");
        let viewer = Viewer::watch(&camd);
        let attack = besiege(200, camd.http(), stranger, b"", b"");
        wait_until_full(&camd, "http");
        snapshots(&camd, "200 silent addresses");
        attack.end();
        viewer.end("200 silent addresses");
        assert!(
            metric(&camd, "camd_gave_way_total") > 0,
            "places changed hands"
        );
    });
}

#[test]
fn heads_that_never_end() {
    alone("heads_that_never_end", || {
        let camd = camd("");
        let viewer = Viewer::watch(&camd);
        let head = b"GET /stream HTTP/1.1\r\nHost: localhost\r\nX-Long: ";
        let attack = besiege(64, camd.http(), stranger, head, b"x");
        wait_until_full(&camd, "http");
        snapshots(&camd, "64 heads without end");
        attack.end();
        viewer.end("64 heads without end");
    });
}

#[test]
fn kept_connections_that_ask_now_and_then() {
    alone("kept_connections_that_ask_now_and_then", || {
        let camd = camd("");
        let viewer = Viewer::watch(&camd);
        let request = b"GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n";
        // More than there is room for, as in the other tests; but what is closed comes again, and all at once they would leave
        // an owner on a busy machine no time between the connection and the request.
        let attack = besiege(64, camd.http(), stranger, request, b"");
        wait_until_full(&camd, "http");
        snapshots(&camd, "64 idle connections");
        attack.end();
        viewer.end("64 idle connections");
    });
}

/// Strangers of two hundred addresses, with a wrong password and without any, in front of an owner who has one.
#[test]
fn two_hundred_addresses_that_cannot_log_in() {
    alone("two_hundred_addresses_that_cannot_log_in", || {
        const LOGIN: &str = "Authorization: Basic b3duZXI6c2VjcmV0"; // owner:secret
        let users = "[[user]]\nname = \"owner\"\npassword = \"secret\"\n";
        let camd = camd(users);
        let as_owner = |target: &str| {
            let mut stream = connect(OWNER, camd.http());
            send(
                &mut stream,
                format!(
                    "GET {target} HTTP/1.1\r\nHost: 10.0.0.1\r\n{LOGIN}\r\nConnection: close\r\n\r\n"
                ),
            );
            read_response(&mut stream, false)
        };
        let nobody = b"GET /stream HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n";
        let wrong = b"GET /stream HTTP/1.1\r\nHost: 10.0.0.1\r\nAuthorization: Basic b3duZXI6d3Jvbmc=\r\n\r\n";
        let silent = besiege(100, camd.http(), stranger, b"", b"");
        let without = besiege(50, camd.http(), |n| stranger(100 + n), nobody, b"");
        let guesses = besiege(50, camd.http(), |n| stranger(150 + n), wrong, b"");
        thread::sleep(Duration::from_millis(500));
        attacked(&camd, "200 addresses without a login", OWNER, || {
            let snapshot = as_owner("/snapshot");
            if snapshot.status == 200 {
                assert_jpeg(&snapshot.body);
            }
            snapshot
        });
        let stranger = get(VIEWER, &camd, "/snapshot");
        assert_eq!(stranger.status, 401, "{}", stranger.text());
        [silent, without, guesses].into_iter().for_each(|attack| {
            attack.end();
        });
    });
}

/// They are viewers like others: what one finds is no place, and this machine's programs find theirs.
#[test]
fn two_hundred_addresses_that_watch() {
    alone("two_hundred_addresses_that_watch", || {
        let camd = camd("");
        let viewer = Viewer::watch(&camd);
        let request = b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let attack = besiege(200, camd.http(), stranger, request, b"");
        wait_until_full(&camd, "http");
        let refusal = get(OWNER, &camd, "/snapshot");
        assert_eq!(refusal.status, 503, "{}", refusal.text());
        assert!(refusal.text().contains("all client slots are taken\n"));
        attacked(&camd, "200 viewers", OWNER, || {
            get(LOCAL, &camd, "/snapshot")
        });
        attack.end();
        viewer.end("200 viewers");
    });
}

/// One address has half of the places, however it asks for more.
#[test]
fn one_address_that_watches() {
    alone("one_address_that_watches", || {
        let camd = camd("[[listener]]\nprotocol = \"raw\"\nbind = \"0.0.0.0:0\"\nclients = 5\n");
        let viewer = Viewer::watch(&camd);
        let request = b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let attack = besiege(64, camd.http(), |_| stranger(0), request, b"");
        let raw = besiege(20, camd.raw(), |_| stranger(0), b"", b"");
        thread::sleep(Duration::from_millis(300));
        snapshots(&camd, "64 streams to one address");
        let mut own = connect(OWNER, camd.raw());
        let mut jpeg = [0; 2];
        own.read_exact(&mut jpeg).expect("a picture");
        assert_eq!(jpeg, [0xff, 0xd8]);
        // What has just been answered takes a place for a moment more.
        let deadline = Instant::now() + PATIENCE;
        let state = loop {
            let state = get(LOCAL, &camd, "/state?once");
            let state: serde_json::Value = serde_json::from_slice(&state.body).expect("JSON");
            let clients = |listener: usize| state["listeners"][listener]["clients"].as_u64();
            // The viewer and, at the other, the owner are the others; whoever asks for the state has a place, too.
            if clients(0) == Some(8 + 2) && clients(1) == Some(3 + 1) {
                break state;
            }
            assert!(
                Instant::now() < deadline,
                "8 and 3 places are one address's: {state:#}"
            );
        };
        let listeners = &state["listeners"];
        assert_eq!(listeners[0]["limit_per_address"], 8, "{state:#}");
        assert!(listeners[0]["refused_per_address"].as_u64() > Some(0));
        // Some of its connections are not heard at all.
        let mut told = String::new();
        while !told.contains("clients_per_address") {
            assert!(Instant::now() < deadline, "it is not told why: {told}");
            let Ok(mut stream) = try_connect(stranger(0), camd.http()) else {
                continue;
            };
            // What has come before the end counts, however that is.
            let _ = stream.write_all(b"GET /snapshot HTTP/1.0\r\n\r\n");
            let _ = stream.read_to_string(&mut told);
        }
        attack.end();
        raw.end();
        viewer.end("64 streams to one address");
    });
}

#[test]
fn connections_that_come_and_go() {
    alone("connections_that_come_and_go", || {
        let camd = camd("[[listener]]\nprotocol = \"push\"\nbind = \"0.0.0.0:0\"\n");
        let viewer = Viewer::watch(&camd);
        let (http, push) = (camd.http(), camd.push());
        let flood = Going::start(4, move |thread, stop| {
            let mut made = 0_u64;
            while goes_on(stop) {
                let address = if thread == 3 { push } else { http };
                // Three threads flood from one address, the other from a hundred.
                let from = if thread == 3 {
                    made as usize % 100
                } else {
                    100
                };
                made += u64::from(try_connect(stranger(from), address).is_ok());
            }
            made
        });
        snapshots(&camd, "connections that come and go");
        let deadline = Instant::now() + PATIENCE;
        while metric(&camd, "camd_reset_total") == 0 {
            assert!(Instant::now() < deadline, "all of them are heard");
        }
        let made: u64 = flood.end().iter().sum();
        println!("figure: {made} connections made");
        viewer.end("connections that come and go");
        let log = camd.log();
        assert!(log.lines().count() < 100, "{log}");
    });
}

#[test]
fn pull_clients_that_never_ask() {
    alone("pull_clients_that_never_ask", || {
        let listener = "[[listener]]\nprotocol = \"pull\"\nbind = \"0.0.0.0:0\"\nclients = 6\n";
        let camd = camd(listener);
        let viewer = Viewer::watch(&camd);
        // One address has its share.
        let one = besiege(12, camd.pull(), |_| stranger(0), b"", b"");
        thread::sleep(Duration::from_millis(300));
        let mut own = connect(OWNER, camd.pull());
        pull_next(&mut own);
        // All places, from an address each: those that never ask give way, the one that does stays.
        let many = besiege(40, camd.pull(), |n| stranger(n + 1), b"", b"");
        wait_until_full(&camd, "pull");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut another = connect(VIEWER, camd.pull());
            // It may have been closed at once, while those that came last have not had their second.
            if another.write_all(b"new_request").is_ok() && matches!(another.peek(&mut [0]), Ok(1))
            {
                break;
            }
            assert!(Instant::now() < deadline, "nobody gives way");
            thread::sleep(Duration::from_millis(50));
        }
        pull_next(&mut own);
        snapshots(&camd, "silent pull clients");
        pull_next(&mut own);
        one.end();
        many.end();
        viewer.end("silent pull clients");
    });
}

fn login(name: &str, password: &str) -> Vec<u8> {
    let mut record = Vec::new();
    call::write(&mut record, name, "", password, Kind::Login);
    record
}

/// Logs in from an address: what comes back.
fn log_in(from: Ipv4Addr, camd: &Camd, name: &str, password: &str) -> (TcpStream, Kind, String) {
    let mut stream = connect(from, camd.call());
    send(&mut stream, login(name, password));
    let mut input = Vec::new();
    loop {
        let longest = call::Longest {
            picture: 1 << 20,
            control: 1 << 20,
        };
        if let Some(record) = call::Record::parse(&input, longest).expect("a good record") {
            let (kind, reason) = (record.kind, record.reason());
            return (stream, kind, reason);
        }
        let mut chunk = [0; 512];
        let n = stream.read(&mut chunk).expect("an answer");
        assert_ne!(n, 0, "the end in place of an answer");
        input.extend(&chunk[..n]);
    }
}

#[test]
fn users_that_only_wait_and_strangers_that_never_log_in() {
    alone(
        "users_that_only_wait_and_strangers_that_never_log_in",
        || {
            let listener = "[[listener]]\nprotocol = \"call\"\nbind = \"0.0.0.0:0\"\nclients = 4\n";
            // Everybody may log in: one address has half of the places.
            let open = camd(listener);
            let viewer = Viewer::watch(&open);
            let names = ["ann", "bob"];
            let held = names.map(|name| log_in(stranger(0), &open, name, ""));
            held.iter()
                .for_each(|(_, kind, _)| assert_eq!(*kind, Kind::LoginOk));
            let (_, kind, reason) = log_in(stranger(0), &open, "eve", "");
            assert_eq!(
                (kind, &*reason),
                (Kind::LoginRefused, "no room for more from this address")
            );
            let (mut own, kind, _) = log_in(OWNER, &open, "own", "");
            assert_eq!(kind, Kind::LoginOk);
            // All of them, by those who only wait: the address that has more than one gives one back.
            let (_friend, kind, _) = log_in(VIEWER, &open, "pal", "");
            assert_eq!(kind, Kind::LoginOk);
            let (_sixth, kind, reason) = log_in(stranger(1), &open, "tom", "");
            assert_eq!(kind, Kind::LoginOk, "{reason}");
            let mut told = Vec::new();
            let mut oldest = &held[0].0;
            oldest.read_to_end(&mut told).expect("the end");
            let longest = call::Longest {
                picture: 1 << 20,
                control: 1 << 20,
            };
            let record = call::Record::parse(&told, longest).expect("a good record");
            let record = record.expect("it is told why");
            assert_eq!(
                (record.kind, &*record.reason()),
                (Kind::LoginRefused, "no room")
            );
            // Who is in a call stays.
            let mut ring = Vec::new();
            call::write(&mut ring, "own", "camera", "", Kind::Request);
            send(&mut own, &ring);
            let mut some = [0; 100];
            own.read_exact(&mut some).expect("it is accepted");
            snapshots(&open, "users that only wait");
            viewer.end("users that only wait");

            // With a password: strangers of 40 addresses, silent or wrong, and one who knows it.
            let closed = camd(&format!("{listener}password = \"secret\"\n"));
            let viewer = Viewer::watch(&closed);
            let silent = besiege(40, closed.call(), stranger, b"", b"");
            wait_until_full(&closed, "call");
            let begin = Instant::now();
            let mut users = Vec::new();
            for (n, name) in ["a", "b", "c", "d"].iter().enumerate() {
                let from = Ipv4Addr::new(10, 2, 0, n as u8 + 1);
                let (user, kind, reason) = log_in(from, &closed, name, "secret");
                assert_eq!(kind, Kind::LoginOk, "{name}: {reason}");
                users.push(user);
            }
            println!(
                "figure: four users logged in within {:.1?}",
                begin.elapsed()
            );
            let (_, kind, reason) = log_in(stranger(300), &closed, "eve", "wrong");
            assert_eq!((kind, &*reason), (Kind::LoginRefused, "wrong password"));
            // One place is kept, beyond those that users have.
            let (_fifth, kind, reason) = log_in(OWNER, &closed, "e", "secret");
            assert_eq!(kind, Kind::LoginOk, "{reason}");
            let (_, kind, reason) = log_in(VIEWER, &closed, "f", "secret");
            assert_eq!((kind, &*reason), (Kind::LoginRefused, "no room"));
            silent.end();
            viewer.end("strangers that never log in");
        },
    );
}

#[test]
fn networks_of_ipv6_and_addresses_of_ipv4_within_it() {
    alone("networks_of_ipv6_and_addresses_of_ipv4_within_it", || {
        let camd = Camd::start(&config("").replace("0.0.0.0:0", "[::]:0").replacen(
            "protocol = \"http\"\n",
            "protocol = \"http\"\nclients = 4\n",
            1,
        ));
        let neighbours = (2..=3).map(|n| format!("fd00:1::{n}").parse::<IpAddr>());
        let mut held: Vec<_> = neighbours
            .map(|from| Stream::open_over(connect(from.expect("one"), camd.http()), "/stream"))
            .collect();
        let fourth: IpAddr = "fd00:1::4".parse().expect("an address");
        let refusal = get(fourth, &camd, "/snapshot");
        assert!(
            refusal.text().contains("clients_per_address"),
            "{}",
            refusal.text()
        );
        let elsewhere: IpAddr = "fd00:2::1".parse().expect("an address");
        held.push(Stream::open_over(
            connect(elsewhere, camd.http()),
            "/stream",
        ));
        // An IPv4 client of the same socket.
        held.push(Stream::open_over(connect(OWNER, camd.http()), "/stream"));
        let refusal = get(VIEWER, &camd, "/snapshot");
        assert!(refusal.text().contains("all client slots are taken\n"));
        assert_eq!(get(LOCAL, &camd, "/snapshot").status, 200, "kept");
        held.iter_mut().for_each(|stream| drop(stream.next()));
    });
}

/// More connections than the process may have descriptors.
#[test]
fn no_descriptor_is_left() {
    alone("no_descriptor_is_left", || {
        let mut limited = Command::new("sh");
        limited.args([
            "-c",
            "ulimit -n 40; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_camd"),
        ]);
        let config = config("clients = 60\n");
        let camd = Camd::start_as(limited.stdin(Stdio::null()), &config, PATIENCE);
        let viewer = Viewer::watch(&camd);
        let attack = besiege(100, camd.http(), stranger, b"", b"");
        thread::sleep(Duration::from_millis(500));
        snapshots(&camd, "no descriptors");
        // They come back to those who only watch, too, and no turn is for nothing.
        attack.end();
        viewer.end("no descriptors");
        let log = camd.log();
        let said = log.lines().filter(|line| line.contains("accept: ")).count();
        assert!((1..100).contains(&said), "{log}");

        // Where nobody can make way, camd waits for one to go, and does nothing meanwhile.
        let watching = besiege(
            60,
            camd.http(),
            stranger,
            b"GET /stream?max_fps=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"",
        );
        thread::sleep(Duration::from_secs(1));
        let before = ticks(&camd);
        thread::sleep(Duration::from_secs(2));
        let busy = ticks(&camd) - before;
        println!("figure: without descriptors: {busy} of 200 ticks of a processor");
        assert!(busy < 150, "{busy} of 200 ticks: it spins");
        watching.end();
        let deadline = Instant::now() + PATIENCE;
        while get(OWNER, &camd, "/snapshot").status != 200 {
            assert!(
                Instant::now() < deadline,
                "the descriptors do not come back"
            );
        }
    });
}

/// What the process has spent of a processor's time, in hundredths of a second.
fn ticks(camd: &Camd) -> u64 {
    let path = format!("/proc/{}/stat", camd.pid());
    let stat = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (_, rest) = stat.rsplit_once(") ").expect("a name in brackets");
    let fields: Vec<_> = rest.split(' ').collect();
    let [user, system] = [11, 12].map(|n| fields[n].parse::<u64>().expect("a number"));
    user + system
}
