//! Behind nginx and haproxy, as they are commonly set up: pictures come through at once, all links lead to the right
//! places, and the page's own requests are told from those of other sites.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{
    Camd, Folder, PATIENCE, Response, Stream, assert_jpeg, connect, read_response, request, send,
};

/// One picture a second: one that is held back until the next is seen to be late.
fn camera(more: &str) -> Camd {
    Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\nfps = 1\nlinger_s = 0\n\
         [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n{more}\n"
    ))
}

/// A port that is free now. Proxies can be given no port 0.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

struct Proxy {
    process: Child,
    address: SocketAddr,
    _folder: Folder,
}

impl Proxy {
    /// `configure` writes the configuration for a folder and a port; the arguments are `program`'s for that file.
    fn start(
        program: &str,
        arguments: fn(&Path) -> Vec<String>,
        configure: impl Fn(&Path, u16) -> String,
    ) -> Proxy {
        // Somebody else may get the port between the look and the use.
        for _ in 0..5 {
            let folder = Folder::new();
            let port = free_port();
            let file = folder.file("proxy.conf", configure(folder.path(), port));
            let log = fs::File::create(folder.path().join("log")).expect("a log");
            let mut process = Command::new(program)
                .args(arguments(&file))
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap_or_else(|error| panic!("{program}: {error}; see tests/setup"));
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let started = Instant::now();
            while started.elapsed() < PATIENCE {
                if process.try_wait().expect("its state").is_some() {
                    break;
                }
                if std::net::TcpStream::connect(address).is_ok() {
                    return Proxy {
                        process,
                        address,
                        _folder: folder,
                    };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            let _ = process.kill();
            let _ = process.wait();
            assert!(
                log.contains("in use") || log.contains("bind"),
                "{program} does not start: {log}"
            );
        }
        panic!("{program} finds no port");
    }

    /// nginx with this inside `server { }`, `{camd}` standing for the upstream.
    fn nginx(camd: SocketAddr, server: &str) -> Proxy {
        let arguments = |file: &Path| {
            let folder = file.parent().expect("a folder");
            [
                "-c",
                file.to_str().expect("UTF-8"),
                "-p",
                folder.to_str().expect("UTF-8"),
            ]
            .map(str::to_owned)
            .to_vec()
        };
        Proxy::start("/usr/sbin/nginx", arguments, |folder, port| {
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .iter()
                .map(|what| format!("{what}_temp_path {}/{what};\n", folder.display()))
                .collect();
            // Everything that is not named here is as nginx comes.
            format!(
                "daemon off;\nworker_processes 1;\npid {0}/pid;\nerror_log stderr;\nevents {{}}\n\
                 http {{\naccess_log off;\n{temporary}\
                 map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}\n\
                 upstream camd {{ server {camd}; keepalive 4; }}\n\
                 server {{\nlisten 127.0.0.1:{port};\n{1}\n}}\n}}\n",
                folder.display(),
                server.replace("{camd}", &camd.to_string())
            )
        })
    }

    /// haproxy with this in its frontend.
    fn haproxy(camd: SocketAddr, frontend: &str) -> Proxy {
        let arguments = |file: &Path| {
            ["-db", "-f", file.to_str().expect("UTF-8")]
                .map(str::to_owned)
                .to_vec()
        };
        Proxy::start("/usr/sbin/haproxy", arguments, |_, port| {
            format!(
                "defaults\n mode http\n timeout connect 5s\n timeout client 50s\n timeout server 50s\n\
                 frontend web\n bind 127.0.0.1:{port}\n default_backend camd\n{frontend}\n\
                 backend camd\n server camd {camd}\n"
            )
        })
    }

    fn get(&self, target: &str) -> Response {
        request(
            self.address,
            &format!(
                "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                self.address
            ),
        )
    }

    /// What a browser sends for a page with this origin.
    fn post(&self, target: &str, fields: &str) -> u16 {
        let answer = request(
            self.address,
            &format!(
                "POST {target} HTTP/1.1\r\nHost: {}\r\n{fields}Content-Length: 12\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\nbrightness=1",
                self.address
            ),
        );
        answer.status
    }

    /// All that a viewer does, with the page at `page`, a path that ends with a slash.
    fn serves(&self, page: &str) {
        assert!(page.ends_with('/'));
        let index = self.get(page);
        assert_eq!(index.status, 200, "{page}: {}", index.text());
        // Every link of the page, seen from where it is.
        let text = index.text().to_owned();
        let links: Vec<_> = ["src=\"", "href=\"", "ask(\""]
            .iter()
            .flat_map(|before| text.split(before).skip(1))
            .filter_map(|rest| rest.split('"').next())
            .filter(|link| !link.is_empty() && !link.contains(':') && !link.starts_with('#'))
            .collect();
        assert!(links.len() > 3, "{links:?}");
        for link in links {
            assert!(!link.starts_with('/'), "{link} leads past the prefix");
            if link.starts_with("stream") {
                continue;
            }
            let answer = self.get(&format!("{page}{link}"));
            assert_eq!(answer.status, 200, "{page}{link}: {}", answer.text());
        }
        assert_jpeg(&self.get(&format!("{page}?action=snapshot?t=5")).body);
        assert_eq!(self.get(&format!("{page}nothing")).status, 404);
        self.comes_at_once(&format!("{page}stream"));
    }

    /// The end of each picture is there before the next one is made. Generous: a second is between them.
    fn comes_at_once(&self, target: &str) {
        let mut stream = Proxied::open(self.address, target);
        let ages: Vec<_> = (0..3).map(|_| stream.next()).collect();
        let youngest = ages[1..].iter().min().expect("two of them");
        assert!(*youngest < Duration::from_millis(600), "{target}: {ages:?}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its master takes its worker with it.
        let _ = kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

/// A stream that a proxy has put into chunks, or not.
struct Proxied {
    stream: std::net::TcpStream,
    received: Vec<u8>,
}

impl Proxied {
    fn open(address: SocketAddr, target: &str) -> Proxied {
        let mut stream = connect(address);
        send(
            &mut stream,
            format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n"),
        );
        Proxied {
            stream,
            received: Vec::new(),
        }
    }

    /// The age of the next picture when its last byte is there. The JPEG's own end is looked for: chunks have their
    /// sizes between.
    fn next(&mut self) -> Duration {
        use std::io::Read;
        const STAMP: &[u8] = b"X-Timestamp: ";
        loop {
            let stamp = memchr::memmem::find(&self.received, STAMP);
            let end = stamp.and_then(|at| {
                let end = memchr::memmem::find(&self.received[at..], b"\xff\xd9")?;
                Some((at + STAMP.len(), at + end + 2))
            });
            if let Some((at, end)) = end {
                let text = String::from_utf8_lossy(&self.received[at..at + 17]).into_owned();
                let seconds: f64 = text.parse().expect("a time");
                self.received.drain(..end);
                let age = crate::common::since_epoch().as_secs_f64() - seconds;
                return Duration::from_secs_f64(age.max(0.0));
            }
            let mut part = [0; 65536];
            let n = self.stream.read(&mut part).expect("a stream");
            assert!(n > 0, "the stream has ended");
            self.received.extend_from_slice(&part[..n]);
        }
    }
}

#[test]
fn nginx_that_takes_the_prefix_away() {
    let camd = camera("");
    for location in [
        // The least there can be: Host is the upstream, HTTP/1.0, buffering on.
        "location /webcam/ { proxy_pass http://{camd}/; }",
        // OctoPrint's and Mainsail's: HTTP/1.1 and connections that are kept.
        "location /webcam/ { proxy_pass http://camd/; proxy_http_version 1.1; proxy_set_header Connection \"\";
         proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr; }",
        // A slash too many goes upstream.
        "location /webcam { proxy_pass http://{camd}/; }",
        "location /webcam/ { rewrite ^/webcam/(.*)$ /$1 break; proxy_pass http://{camd}; gzip on; gzip_types *; }",
    ] {
        let proxy = Proxy::nginx(camd.http(), location);
        proxy.serves("/webcam/");
    }
}

#[test]
fn nginx_that_leaves_the_prefix() {
    let camd = camera("base_path = \"/webcam\"");
    let proxy = Proxy::nginx(
        camd.http(),
        "location /webcam { proxy_pass http://{camd}; proxy_set_header Upgrade $http_upgrade;
         proxy_set_header Connection $connection_upgrade; proxy_http_version 1.1; }",
    );
    proxy.serves("/webcam/");
    // Without the slash the browser is sent to the place below which the links are right. nginx writes the whole address.
    let moved = proxy.get("/webcam");
    assert_eq!(moved.status, 301);
    let location = moved.field("Location").expect("a place");
    assert!(
        location == "webcam/" || location.ends_with("/webcam/"),
        "{location}"
    );
    // Without the proxy both work.
    for target in ["/webcam/snapshot", "/snapshot", "/webcam?action=snapshot"] {
        assert_jpeg(&camd.get(target).body);
    }
    assert_eq!(camd.get("/webcam").field("Location"), Some("webcam/"));
    assert_eq!(camd.get("/webcamx").status, 404);
}

#[test]
fn haproxy_with_and_without_the_prefix() {
    let camd = camera("base_path = \"/cams/shed\"\nhosts = [\"camd.internal\"]");
    for frontend in [
        "",
        " option forwardfor\n http-request set-header X-Forwarded-Proto http\n option http-server-close",
        " http-request replace-path /cams/shed(/)?(.*) /\\2",
        " http-request set-header Host camd.internal\n http-request set-header X-Forwarded-Host %[req.hdr(Host)]",
        " option http-buffer-request\n compression algo gzip\n compression type text/html text/plain",
    ] {
        let proxy = Proxy::haproxy(camd.http(), frontend);
        proxy.serves("/cams/shed/");
    }
}

#[test]
fn whose_page_has_sent_a_request_is_told_behind_proxies() {
    let camd = camera("trusted_proxies = [\"127.0.0.1\"]");
    let nginx = |fields: &str| {
        Proxy::nginx(
            camd.http(),
            &format!("location / {{ proxy_pass http://{{camd}}; {fields} }}"),
        )
    };
    // The pattern has no controls: 404 is what one gets who may.
    let tell = |proxy: &Proxy, what: &str, by_origin: bool| {
        let own = format!("http://{}", proxy.address);
        let status = if by_origin { 404 } else { 403 };
        let origin = |origin: &str| format!("Origin: {origin}\r\n");
        assert_eq!(proxy.post("/controls", ""), 404, "{what}: curl");
        assert_eq!(proxy.post("/controls", &origin(&own)), status, "{what}");
        let is_page = "X-Requested-With: camd\r\n";
        assert_eq!(proxy.post("/controls", &(origin(&own) + is_page)), 404);
        for (site, expected) in [
            ("same-origin", 404),
            ("cross-site", 403),
            ("same-site", 403),
        ] {
            let fields = origin(&own) + &format!("Sec-Fetch-Site: {site}\r\n");
            assert_eq!(proxy.post("/controls", &fields), expected, "{what}: {site}");
        }
        for other in ["http://attic.example", "null", "http://127.0.0.1.example"] {
            let status = proxy.post("/controls", &origin(other));
            assert_eq!(status, 403, "{what}: {other}");
        }
    };
    tell(&nginx(""), "Host is the upstream", false);
    tell(
        &nginx("proxy_set_header Host $http_host;"),
        "$http_host",
        true,
    );
    tell(
        &nginx("proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr;"),
        "$host",
        true,
    );
    tell(
        &nginx("proxy_set_header Host $host:$server_port;"),
        "$host and port",
        true,
    );
    tell(
        &nginx("proxy_set_header X-Forwarded-Host $http_host;"),
        "X-Forwarded-Host",
        true,
    );
    tell(
        &nginx(
            "proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Port $server_port;",
        ),
        "X-Forwarded-Port",
        true,
    );
    tell(
        &nginx(
            "proxy_set_header Forwarded \"for=$remote_addr;host=\\\"$http_host\\\";proto=http\";",
        ),
        "Forwarded",
        true,
    );
    tell(&Proxy::haproxy(camd.http(), ""), "haproxy", true);
}

#[test]
fn a_body_that_waits_for_a_word_comes_through() {
    let camd = camera("");
    let proxy = Proxy::haproxy(camd.http(), "");
    for address in [camd.http(), proxy.address] {
        let mut stream = connect(address);
        send(
            &mut stream,
            "POST /controls HTTP/1.1\r\nHost: localhost\r\nExpect: 100-Continue\r\nContent-Length: 12\r\n\r\n",
        );
        let mut word = [0; 25];
        std::io::Read::read_exact(&mut stream, &mut word).expect("a word");
        assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
        send(&mut stream, "brightness=1");
        assert_eq!(read_response(&mut stream, false).status, 404);
        // The connection goes on.
        send(
            &mut stream,
            "GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n",
        );
        assert_eq!(read_response(&mut stream, false).status, 200);
    }
    // Who closes afterwards is told as well.
    let mut stream = connect(camd.http());
    send(
        &mut stream,
        "POST /controls HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 12\r\n\r\n",
    );
    let mut word = [0; 25];
    std::io::Read::read_exact(&mut stream, &mut word).expect("a word");
    send(&mut stream, "brightness=1");
    assert_eq!(read_response(&mut stream, false).status, 404);
    // What will be refused is refused before its body is sent, and what needs no word gets none.
    for (request, status) in [
        (
            "POST /controls HTTP/1.1\r\nHost: localhost\r\nOrigin: http://attic\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
            403,
        ),
        (
            "POST /nothing HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
            404,
        ),
        (
            "POST /state HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
            405,
        ),
        (
            "POST /controls HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9999\r\n\r\n",
            413,
        ),
        (
            "POST /controls HTTP/1.1\r\nHost: localhost\r\nExpect: coffee\r\nContent-Length: 3\r\n\r\na=1",
            417,
        ),
        (
            "GET /state HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n",
            200,
        ),
        (
            "POST /controls HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\na=1",
            404,
        ),
        (
            "POST /controls HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\na=1",
            404,
        ),
    ] {
        let mut stream = connect(camd.http());
        send(&mut stream, request);
        assert_eq!(
            read_response(&mut stream, false).status,
            status,
            "{request}"
        );
    }
}

#[test]
fn a_viewer_that_leaves_the_proxy_leaves_camd() {
    let camd = camera("");
    let proxy = Proxy::nginx(camd.http(), "location / { proxy_pass http://{camd}; }");
    let mut viewer = Proxied::open(proxy.address, "/stream");
    viewer.next();
    let clients = || {
        let state = camd.get("/state");
        state.text().matches("\"peer\"").count()
    };
    assert_eq!(clients(), 2, "the stream, and who asks");
    drop(viewer);
    let started = Instant::now();
    while clients() > 1 {
        assert!(started.elapsed() < PATIENCE, "the place is not free");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Directly, so that there is something to compare with.
    Stream::open(camd.http(), "/stream").next();
}

#[test]
fn the_recipe_is_right() {
    let camd = camera("");
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/recipes/port-80.md");
    let recipe = fs::read_to_string(recipe).expect("the recipe");
    let block = |first: &str| {
        let (_, rest) = recipe
            .split_once(&format!("```text\n{first}"))
            .unwrap_or_else(|| panic!("no block that begins with {first}"));
        format!("{first}{}", rest.split("```").next().unwrap_or_default())
    };
    let upstream = |text: String| {
        assert!(text.contains("127.0.0.1:8080"), "{text}");
        text.replace("127.0.0.1:8080", &camd.http().to_string())
    };
    let nginx = upstream(block("location /webcam/"));
    let proxy = Proxy::nginx(camd.http(), &nginx);
    proxy.serves("/webcam/");
    let own = format!("Origin: http://{}\r\n", proxy.address);
    assert_eq!(proxy.post("/webcam/controls", &own), 404, "it may");
    drop(proxy);
    let haproxy = upstream(block("frontend web"));
    let arguments = |file: &Path| vec!["-db".into(), "-f".into(), file.display().to_string()];
    let proxy = Proxy::start("/usr/sbin/haproxy", arguments, |_, port| {
        haproxy.replace("bind :80\n", &format!("bind 127.0.0.1:{port}\n"))
    });
    proxy.serves("/webcam/");
    let own = format!("Origin: http://{}\r\n", proxy.address);
    assert_eq!(proxy.post("/webcam/controls", &own), 404, "it may");
}
