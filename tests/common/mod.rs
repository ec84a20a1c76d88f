//! What the integration tests share: the real `camd` on ports of its own choice, and clients that check every byte.

// Each test file is a crate of its own and uses its part of this.
#![allow(dead_code)]

pub mod memfd;
pub mod qt;
pub mod relay;
pub mod server;
pub mod tls;
pub mod user;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

/// How long anything may take that normally takes milliseconds. Only a failing test ever waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The three protocols, each on a free port.
pub const LISTENERS: &str = r#"
[[listener]]
protocol = "http"
bind = "127.0.0.1:0"
[[listener]]
protocol = "push"
bind = "127.0.0.1:0"
[[listener]]
protocol = "pull"
bind = "127.0.0.1:0"
"#;

/// One more, of bare JPEGs.
pub const RAW: &str = r#"
[[listener]]
protocol = "raw"
bind = "127.0.0.1:0"
clients = 8
"#;

/// The built-in moving picture, and the three protocols.
pub fn pattern() -> String {
    format!(
        "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\nfps = 30\nlinger_s = 0\n{LISTENERS}"
    )
}

// --- folders and pictures ---

/// A folder that is removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("camd-test-{}-{next}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: a peer's process may still be writing there.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A JPEG of 64x48 pixels, made with libjpeg.
const BASE: &[u8] = include_bytes!("base.jpg");

/// A JPEG that every decoder accepts, of exactly `size` bytes, unlike that of any other `number`: the padding is in
/// comment segments.
pub fn jpeg(number: u32, size: usize) -> Vec<u8> {
    const LONGEST: usize = 0xFFFF;
    let mut bytes = BASE[..2].to_vec();
    let mut padding = size
        .checked_sub(BASE.len())
        .expect("a picture larger than the smallest one");
    let mut seed = number.wrapping_mul(2_654_435_761) | 1;
    while padding > 0 {
        // Marker, length, then at least the number; no rest that is too small for a segment of its own.
        let mut segment = padding.min(LONGEST + 2);
        if (1..8).contains(&(padding - segment)) {
            segment -= 8;
        }
        assert!(segment >= 8, "no room for a comment in {size} bytes");
        bytes.extend([0xFF, 0xFE]);
        bytes.extend(((segment - 2) as u16).to_be_bytes());
        bytes.extend(number.to_be_bytes());
        for _ in 8..segment {
            // xorshift32: incompressible, reproducible, and full of bytes that look like markers.
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            bytes.push(seed as u8);
        }
        padding -= segment;
    }
    bytes.extend(&BASE[2..]);
    assert_eq!(bytes.len(), size);
    bytes
}

/// `count` pictures in a folder, and the `[camera]` section that replays them.
pub fn replay(count: u32, size: usize, fps: u32) -> (Folder, String) {
    let folder = Folder::new();
    for number in 0..count {
        folder.file(&format!("{number:04}.jpg"), jpeg(number, size));
    }
    let camera = format!(
        "[camera]\nsource = \"replay\"\npath = {:?}\nwidth = 64\nheight = 48\nfps = {fps}\nlinger_s = 0\n",
        folder.path()
    );
    (folder, camera)
}

pub fn assert_jpeg(bytes: &[u8]) {
    assert!(
        bytes.len() > 100 && bytes.starts_with(&[0xFF, 0xD8]) && bytes.ends_with(&[0xFF, 0xD9]),
        "not a JPEG: {} bytes, {:02x?}…",
        bytes.len(),
        &bytes[..bytes.len().min(16)]
    );
}

// --- the daemon ---

#[derive(Default)]
struct Log {
    text: Mutex<String>,
    grown: Condvar,
    /// The thread that copies it.
    reader: AtomicI32,
}

/// A reader's pace, as others set it.
#[derive(Clone, Default)]
pub struct Gate(Arc<AtomicU32>);

impl Gate {
    /// As fast as it goes.
    pub const OPEN: u32 = u32::MAX;

    /// So many bytes a second; 0 is none.
    pub fn set(&self, bytes_per_second: u32) {
        self.0.store(bytes_per_second, Ordering::Relaxed);
    }

    /// What stands behind it.
    pub fn before<R>(&self, inner: R) -> Gated<R> {
        Gated {
            gate: self.clone(),
            inner,
        }
    }
}

/// Behind a [`Gate`].
pub struct Gated<R> {
    gate: Gate,
    inner: R,
}

impl<R: Read> Read for Gated<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        const STEP: Duration = Duration::from_millis(20);
        loop {
            match self.gate.0.load(Ordering::Relaxed) {
                0 => std::thread::sleep(STEP),
                Gate::OPEN => return self.inner.read(buf),
                pace => {
                    std::thread::sleep(STEP);
                    let most = (pace / 50).max(1) as usize;
                    let len = buf.len().min(most);
                    return self.inner.read(&mut buf[..len]);
                }
            }
        }
    }
}

/// A running `camd`. Its log is printed when the test fails; it is killed at the end.
pub struct Camd {
    child: Child,
    log: Arc<Log>,
    /// Copies the log until the process ends.
    reader: Option<JoinHandle<()>>,
    /// What the log comes out of, where it is a pipe of ours.
    pipe: Option<PipeReader>,
    folder: Folder,
    /// Protocol and address, in the order of the configuration.
    pub listeners: Vec<(String, String)>,
}

impl Camd {
    /// Starts the daemon with this configuration and waits until it listens everywhere.
    pub fn start(config: &str) -> Camd {
        let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
        Camd::start_as(command.stdin(Stdio::null()), config, PATIENCE)
    }

    /// The same under another program, such as valgrind; `--config PATH` is appended.
    pub fn start_as(command: &mut Command, config: &str, patience: Duration) -> Camd {
        let (log, stderr) = std::io::pipe().expect("a pipe");
        command.env_remove("RUST_LOG");
        let pipe = log.try_clone().expect("a descriptor");
        let mut camd = Camd::start_on(command, config, patience, log, stderr);
        camd.pipe = Some(pipe);
        camd
    }

    /// The same with a standard error of the caller's, which the log comes out of at its other end. The environment is the
    /// caller's.
    pub fn start_on(
        command: &mut Command,
        config: &str,
        patience: Duration,
        log_end: impl Read + Send + 'static,
        stderr: impl Into<Stdio>,
    ) -> Camd {
        let folder = Folder::new();
        let path = folder.file("camd.toml", config);
        // Some log in elsewhere in place of listening.
        let wanted = config.matches("[[listener]]").count() - config.matches("\"relay:").count();
        command
            .arg("--config")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(stderr);
        let program = command.get_program().to_owned();
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?}: {error}; {HINT}"));
        // Our copy of its end: the log would never end.
        command.stderr(Stdio::null());
        let log = Arc::new(Log::default());
        let reader = std::thread::spawn({
            let log = log.clone();
            move || {
                let thread = nix::unistd::gettid().as_raw();
                log.reader.store(thread, Ordering::Relaxed);
                for line in BufReader::new(log_end).lines().map_while(Result::ok) {
                    let mut text = log.text.lock().expect("no holder panics");
                    text.push_str(&line);
                    text.push('\n');
                    log.grown.notify_all();
                }
            }
        });
        let mut camd = Camd {
            child,
            log,
            reader: Some(reader),
            pipe: None,
            folder,
            listeners: Vec::new(),
        };
        camd.wait_log_within("listening", patience, |log| {
            log.matches("listening: ").count() == wanted
        });
        camd.listeners = listening(&camd.log());
        camd
    }

    /// What camd has said up to now. A thread of camd's writes it and one of ours reads it, both a little later: this waits
    /// until they have.
    pub fn log(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        while self.is_talking() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.log.text.lock().expect("no holder panics").clone()
    }

    /// Whether something that was said is still on its way. Each of the three is looked at after what feeds it.
    fn is_talking(&self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        if self.reader.is_none() {
            return false;
        }
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid()));
        let writes = tasks.into_iter().flatten().flatten().any(|task| {
            let name = fs::read_to_string(task.path().join("comm"));
            name.is_ok_and(|name| name.trim_end() == "log") && !is_asleep(&task.path())
        });
        let mut left = 0;
        // SAFETY: the descriptor is ours, and FIONREAD writes one int.
        let known = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut left) };
        assert_eq!(known, 0, "FIONREAD on a pipe");
        let reader = self.log.reader.load(Ordering::Relaxed);
        writes || left > 0 || !is_asleep(Path::new(&format!("/proc/self/task/{reader}")))
    }

    /// Waits until the log satisfies a condition.
    pub fn wait_log(&mut self, what: &str, condition: impl Fn(&str) -> bool) {
        self.wait_log_within(what, PATIENCE, condition);
    }

    fn wait_log_within(
        &mut self,
        what: &str,
        patience: Duration,
        condition: impl Fn(&str) -> bool,
    ) {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.child.try_wait().expect("our child");
            if ended.is_some() {
                self.finish_log();
            }
            let text = self.log.text.lock().expect("no holder panics");
            if condition(&text) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let step = left.min(Duration::from_millis(100));
            // The lock must be free when a panic's message is made.
            drop(self.log.grown.wait_timeout(text, step));
            if let Some(status) = ended {
                panic!("waiting for {what:?}, but camd ended: {status}");
            }
            assert!(!left.is_zero(), "{what:?} is missing in the log");
        }
    }

    /// Takes in what an ended process has still said.
    fn finish_log(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of the log does not panic");
        }
    }

    /// The whole log of a process that has ended.
    pub fn final_log(&mut self) -> String {
        self.finish_log();
        self.log()
    }

    fn address(&self, protocol: &str) -> SocketAddr {
        self.listeners
            .iter()
            .find(|(name, _)| name == protocol)
            .and_then(|(_, address)| address.parse().ok())
            .unwrap_or_else(|| panic!("no {protocol} listener over TCP"))
    }

    pub fn http(&self) -> SocketAddr {
        self.address("http")
    }

    pub fn push(&self) -> SocketAddr {
        self.address("push")
    }

    pub fn pull(&self) -> SocketAddr {
        self.address("pull")
    }

    pub fn raw(&self) -> SocketAddr {
        self.address("raw")
    }

    pub fn call(&self) -> SocketAddr {
        self.address("call")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("camd.toml")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a PID is an int"));
        kill(pid, signal).unwrap_or_else(|error| panic!("{signal}: {error}"));
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "still running after {patience:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One GET on a connection of its own.
    pub fn get(&self, target: &str) -> Response {
        request(
            self.http(),
            &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        )
    }

    /// `/state` as JSON.
    pub fn state(&self) -> serde_json::Value {
        let response = self.get("/state");
        assert_eq!(response.status, 200);
        serde_json::from_slice(&response.body).expect("/state is JSON")
    }

    /// Waits until the camera is in this condition: "live", "fault", …
    pub fn condition(&self, wanted: &str) -> serde_json::Value {
        self.wait_state(wanted, |state| state["camera"]["state"] == wanted)
    }

    /// Polls `/state` until the condition holds.
    pub fn wait_state(
        &self,
        what: &str,
        condition: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state();
            if condition(&state) {
                return state;
            }
            assert!(
                Instant::now() < deadline,
                "{what} does not happen: {state:#}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A field of `/proc/PID/status`.
    pub fn proc_status(&self, field: &str) -> u64 {
        self.proc_field("status", field)
    }

    /// Resident memory in KiB that is camd's own, so without its program's pages, counted page by page: VmRSS in `status`
    /// is a sum that is up to 32 pages off for each processor.
    pub fn resident(&self) -> u64 {
        self.proc_field("smaps_rollup", "Anonymous")
    }

    fn proc_field(&self, file: &str, field: &str) -> u64 {
        let path = format!("/proc/{}/{file}", self.pid());
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|value| value.split_whitespace().next()?.parse().ok())
            .unwrap_or_else(|| panic!("no {field} in {path}"))
    }
}

impl Drop for Camd {
    fn drop(&mut self) {
        // Both fail if it has ended already, which is as good.
        let _ = self.child.kill();
        let status = self.child.wait();
        if std::thread::panicking() {
            let mut text = String::new();
            let _ = writeln!(text, "--- camd's log ---");
            text.push_str(&self.log());
            if let Ok(status) = status {
                let _ = writeln!(
                    text,
                    "--- camd ended: {status}{} ---",
                    match status.signal() {
                        Some(9) => " (by this test)",
                        _ => "",
                    }
                );
            }
            eprint!("{text}");
        }
    }
}

/// Whether a thread, by its folder below /proc, waits for something, or is gone.
fn is_asleep(thread: &Path) -> bool {
    // "42 (name) S 1 …", where the name may have spaces.
    let Ok(stat) = fs::read_to_string(thread.join("stat")) else {
        return true;
    };
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_none_or(|state| !state.starts_with(['R', 'D']))
}

/// The lines `listening: http on 127.0.0.1:40123`.
fn listening(log: &str) -> Vec<(String, String)> {
    log.lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("listening: ")?;
            let (protocol, address) = rest.split_once(" on ")?;
            Some((protocol.to_owned(), address.trim().to_owned()))
        })
        .collect()
}

// --- HTTP, byte by byte ---

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("SO_RCVTIMEO");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("SO_SNDTIMEO");
    stream
}

/// Reads at a fixed rate, as over a line of that rate.
pub struct Paced {
    tcp: TcpStream,
    pub bytes_per_second: f64,
    started: Instant,
    bytes: usize,
}

impl Paced {
    pub fn new(tcp: TcpStream, bytes_per_second: f64) -> Paced {
        Paced {
            tcp,
            bytes_per_second,
            started: Instant::now(),
            bytes: 0,
        }
    }
}

impl Read for Paced {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let due = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_second);
        std::thread::sleep(due.saturating_sub(self.started.elapsed()));
        let some = buf.len().min(4096);
        let got = self.tcp.read(&mut buf[..some])?;
        self.bytes += got;
        Ok(got)
    }
}

impl Write for Paced {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.tcp.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.tcp.flush()
    }
}

/// A connection as over a line of limited rate: Ethernet's segments, since TCP sends a slow reader only whole ones and
/// loopback's are half a picture long, and a receive buffer that holds little, since what piles up in the client's own
/// kernel is out of camd's hands.
pub fn connect_as_over_a_slow_line(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_tcp_mss(1448).expect("TCP_MAXSEG");
    socket.set_recv_buffer_size(32 * 1024).expect("SO_RCVBUF");
    socket
        .connect(&address.into())
        .unwrap_or_else(|error| panic!("{address}: {error}"));
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("SO_RCVTIMEO");
    socket.into()
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// The whole head, with the empty line.
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    /// The only field of that name; a repeated one fails the test.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.split("\r\n").skip(1).filter_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        let value = values.next();
        assert!(values.next().is_none(), "{name} twice in {}", self.head);
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }
}

/// One request on a connection of its own: the answer, after which the server must close without another byte.
pub fn request(address: SocketAddr, text: &str) -> Response {
    let mut stream = connect(address);
    send(&mut stream, text);
    let response = read_response(&mut stream, text.starts_with("HEAD"));
    assert_closed(&mut stream);
    response
}

pub fn send(stream: &mut impl Write, bytes: impl AsRef<[u8]>) {
    stream
        .write_all(bytes.as_ref())
        .unwrap_or_else(|error| panic!("sending: {error}"));
}

/// The server has closed the connection, and has sent nothing more before that.
pub fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert_eq!(String::from_utf8_lossy(&rest), "", "bytes before the end"),
        // A close with unread input in the server's kernel reaches us as a reset.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server does not close: {error}"),
    }
}

/// Reads a head: up to and with the empty line, not a byte more.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) => panic!("closed within a head: {:?}", String::from_utf8_lossy(&head)),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&head)),
        }
        assert!(head.len() < 4096, "an endless head");
    }
    String::from_utf8(head).expect("heads are ASCII")
}

/// Reads an answer; its body is as long as Content-Length says, and not there for HEAD. Every answer of camd but the
/// stream has that field.
pub fn read_response(stream: &mut TcpStream, head_only: bool) -> Response {
    let head = read_head(stream);
    let line = head.lines().next().expect("a first line");
    let status = line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .unwrap_or_else(|| panic!("not a status line: {line:?}"));
    let mut response = Response {
        status,
        head,
        body: Vec::new(),
    };
    if head_only || status == 204 {
        return response;
    }
    let length = response
        .field("Content-Length")
        .unwrap_or_else(|| panic!("no Content-Length in {}", response.head));
    let mut body = vec![0; length.parse().expect("a decimal Content-Length")];
    stream
        .read_exact(&mut body)
        .unwrap_or_else(|error| panic!("a body of {length} bytes: {error}"));
    response.body = body;
    response
}

/// A picture of `/stream`.
#[derive(Debug)]
pub struct Part {
    pub jpeg: Vec<u8>,
    /// X-Timestamp: the capture time since the epoch.
    pub captured: Duration,
}

impl Part {
    pub fn age(&self) -> Duration {
        since_epoch().saturating_sub(self.captured)
    }
}

pub fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970")
}

/// A client of `/stream` that accepts exactly the documented bytes.
pub struct Stream<S = TcpStream> {
    pub tcp: S,
    pub head: String,
}

impl Stream {
    pub fn open(address: SocketAddr, target: &str) -> Stream {
        Stream::open_over(connect(address), target)
    }
}

impl<S: Read + Write> Stream<S> {
    pub fn open_over(mut tcp: S, target: &str) -> Stream<S> {
        send(
            &mut tcp,
            format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        );
        let head = read_head(&mut tcp);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            head.to_ascii_lowercase()
                .contains("content-type: multipart/x-mixed-replace;boundary=camdframe\r\n")
                || head
                    .to_ascii_lowercase()
                    .contains("content-type: multipart/x-mixed-replace; boundary=camdframe\r\n"),
            "{head}"
        );
        let mut stream = Stream { tcp, head };
        stream.expect(b"--camdframe\r\n");
        stream
    }

    pub fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        self.tcp
            .read_exact(&mut got)
            .unwrap_or_else(|error| panic!("{:?}: {error}", String::from_utf8_lossy(bytes)));
        assert_eq!(
            String::from_utf8_lossy(&got),
            String::from_utf8_lossy(bytes)
        );
    }

    /// The next picture, up to the last byte of the boundary behind it.
    pub fn next(&mut self) -> Part {
        let part = self.next_without_boundary();
        self.expect(b"\r\n--camdframe\r\n");
        part
    }

    pub fn next_without_boundary(&mut self) -> Part {
        let head = read_head(&mut self.tcp);
        let (length, captured) = part_head(&head);
        let mut jpeg = vec![0; length];
        self.tcp
            .read_exact(&mut jpeg)
            .unwrap_or_else(|error| panic!("a picture of {length} bytes: {error}"));
        assert_jpeg(&jpeg);
        Part { jpeg, captured }
    }
}

/// The head of a part, exactly as documented: the picture's length and capture time.
pub fn part_head(head: &str) -> (usize, Duration) {
    let parse = || {
        let rest = head.strip_prefix("Content-Type: image/jpeg\r\nContent-Length: ")?;
        let (length, rest) = rest.split_once("\r\nX-Timestamp: ")?;
        let (seconds, rest) = rest.split_once('.')?;
        let micros = rest.strip_suffix("\r\n\r\n")?;
        if micros.len() != 6 {
            return None;
        }
        Some((
            length.parse().ok()?,
            Duration::new(
                seconds.parse().ok()?,
                micros.parse::<u32>().ok()?.checked_mul(1000)?,
            ),
        ))
    };
    parse().unwrap_or_else(|| panic!("not the head of a part: {head:?}"))
}

// --- push and pull ---

/// The next picture of a push connection.
pub fn push_next(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 8];
    stream
        .read_exact(&mut header)
        .unwrap_or_else(|error| panic!("a push header: {error}"));
    let [a0, a1, a2, a3, b0, b1, b2, b3] = header;
    let first = i32::from_le_bytes([a0, a1, a2, a3]);
    let second = i32::from_le_bytes([b0, b1, b2, b3]);
    assert_eq!(first, second, "the two lengths of a push header");
    let mut jpeg = vec![0; first.try_into().expect("a positive length")];
    stream
        .read_exact(&mut jpeg)
        .unwrap_or_else(|error| panic!("a picture of {first} bytes: {error}"));
    assert_jpeg(&jpeg);
    jpeg
}

/// The next picture of a raw connection, where pictures have so many bytes.
pub fn raw_next(stream: &mut TcpStream, size: usize) -> Vec<u8> {
    let mut jpeg = vec![0; size];
    stream
        .read_exact(&mut jpeg)
        .unwrap_or_else(|error| panic!("a picture of {size} bytes: {error}"));
    assert_jpeg(&jpeg);
    jpeg
}

/// What a push server sends of a picture, as Python's `struct.pack("ii", n, n)` and the JPEG.
pub fn push_wire(jpeg: &[u8]) -> Vec<u8> {
    let length = i32::try_from(jpeg.len()).expect("an int32").to_le_bytes();
    [&length, &length, jpeg].concat()
}

/// The announced size. camd writes an announcement at once, so that it arrives in one piece on loopback.
pub fn pull_announcement(stream: &mut impl Read) -> usize {
    let mut buffer = [0; 64];
    let got = stream
        .read(&mut buffer)
        .unwrap_or_else(|error| panic!("an announcement: {error}"));
    let text = String::from_utf8_lossy(&buffer[..got]);
    text.strip_prefix("newImage:")
        .and_then(|size| size.parse().ok())
        .unwrap_or_else(|| panic!("not an announcement: {text:?}"))
}

/// The parts of an announced picture, each asked for with `ack`; the last one is not acknowledged.
pub fn pull_parts(stream: &mut (impl Read + Write), size: usize) -> Vec<u8> {
    let mut jpeg = vec![0; size];
    for part in jpeg.chunks_mut(1380) {
        send(stream, "ack");
        stream
            .read_exact(part)
            .unwrap_or_else(|error| panic!("a part of {} bytes: {error}", part.len()));
    }
    assert_jpeg(&jpeg);
    jpeg
}

pub fn pull_next(stream: &mut (impl Read + Write)) -> Vec<u8> {
    send(stream, "new_request");
    let size = pull_announcement(stream);
    pull_parts(stream, size)
}

// --- programs of others ---

/// What to do about a missing program. Such a test fails: a skipped one would look like a passed one.
pub const HINT: &str = "tests/setup installs everything that the tests need";

/// Runs a program to its end; its output, which must not be a failure.
pub fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program:?}: {error}; {HINT}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A script of `tests/peers`, to be run by the Python that `tests/setup` made.
pub fn python(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/peers/bin/python");
    assert!(python.exists(), "{} is missing; {HINT}", python.display());
    let mut command = Command::new(python);
    command.arg(root.join("tests/peers").join(script));
    command
}
