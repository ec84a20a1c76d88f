//! What the fuzz targets share: bytes as the source of randomness, a hub with a scripted camera and scripted connections,
//! and readers that check what clients are sent.

pub mod server;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::BuildHasher as _;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use camd::client::hub::Hub;
use camd::client::link::Stream;
use camd::client::slot::Peer;
use camd::client::table::ClientId;
use camd::config::{self, Config};
use camd::picture::frame::{Frame, FrameMeta, Orientation, Picture, PixelFormat};
use camd::picture::jpeg::{self, Splitter};
use camd::protocol::call::{Longest, Record};
use camd::protocol::http::answer::{self, Head, Multipart};
use camd::protocol::pull::{NEW_IMAGE, NEW_REQUEST};
use camd::protocol::push;
use camd::source::camera::Camera;
use camd::source::{Captured, Control, ControlError, Fault, Negotiated, Source};
use nix::sys::signal::{SigHandler, Signal, signal};

/// Bytes of the largest picture, which is the least that the configuration allows.
pub const FRAME_BYTES: usize = 128 * 1024;

/// The input: decisions from its front, contents from what is left. At its end every decision is 0.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    /// The next two.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next `n`, or what there is.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Whether there is nothing more.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Cuts bytes into pieces: of one byte, of all, or anything between, as a seed has it.
pub struct Cuts(u32);

impl Cuts {
    /// 0: everything at once.
    pub fn new(seed: u8) -> Cuts {
        Cuts(u32::from(seed))
    }

    /// The next piece of what is left. Not empty unless `left` is.
    pub fn next<'a>(&mut self, left: &mut &'a [u8]) -> &'a [u8] {
        let n = match self.0 {
            0 => left.len(),
            _ => {
                self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) | 1;
                let n = (self.0 >> 16) as usize;
                match n & 3 {
                    0 => 1,
                    1 => 1 + (n >> 2) % 7,
                    _ => 1 + (n >> 2) % 4096,
                }
            }
        };
        let (piece, rest) = left.split_at(n.min(left.len()));
        *left = rest;
        piece
    }
}

/// The first moment of all worlds.
pub fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(|| {
        // Rust's own `main` does this, and libFuzzer's does not: a write to a closed socket would end the process.
        // SAFETY: nobody handles this signal.
        let old = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
        old.expect("it can be ignored");
        Instant::now()
    })
}

/// A whole JPEG of 16 by 16 grey pixels; it says which one it is.
pub fn picture(number: u32) -> Vec<u8> {
    let mut jpeg = vec![0xFF, 0xD8, 0xFF, 0xFE, 0x00, 0x06];
    jpeg.extend(number.to_be_bytes());
    jpeg.extend([0xFF, 0xDB, 0x00, 0x43, 0x00]);
    jpeg.extend([16; 64]);
    jpeg.extend([
        0xFF, 0xC0, 0x00, 0x0B, 0x08, 0x00, 0x10, 0x00, 0x10, 0x01, 0x01, 0x11, 0x00,
    ]);
    // One code for "no difference" and one for "no more coefficients", of one bit each.
    for class in [0x00, 0x10] {
        jpeg.extend([0xFF, 0xC4, 0x00, 0x14, class, 1]);
        jpeg.extend([0; 16]);
    }
    jpeg.extend([0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3F, 0x00]);
    // Four blocks of two bits, all of them 0.
    jpeg.extend([0x00, 0xFF, 0xD9]);
    jpeg
}

/// The number of a [`picture`], all of which must be as it was made.
///
/// # Panics
/// If it is not.
pub fn number(jpeg: &[u8]) -> u32 {
    let bytes = jpeg.get(6..).and_then(|rest| rest.first_chunk());
    let number = u32::from_be_bytes(*bytes.expect("a picture of ours is longer"));
    assert!(jpeg == picture(number), "a picture has changed on its way");
    number
}

// ---------------------------------------------------------------- the camera

/// What the camera does next.
#[derive(Default)]
pub struct Film {
    /// A picture, or trouble.
    pub next: Option<Result<(), Fault>>,
    /// It cannot be opened.
    pub absent: bool,
    /// Pictures made.
    pub made: u32,
    /// Its memory is wanted back.
    pub gives_back: bool,
}

/// A camera whose pictures are [`picture`]s.
pub struct Scripted {
    film: Rc<RefCell<Film>>,
    newest: Option<(FrameMeta, Vec<u8>)>,
    brightness: i64,
}

impl Source for Scripted {
    fn start(&mut self, _: Instant) -> Result<Negotiated, Fault> {
        if self.film.borrow().absent {
            return Err(Fault("there is no \"camera\"\u{202e}\r\n".into()));
        }
        Ok(Negotiated {
            format: PixelFormat::Mjpeg,
            width: 16,
            height: 16,
            fps: None,
            orientation: None,
            cropped: None,
            description: "scripted".into(),
        })
    }

    fn stop(&mut self) {
        self.newest = None;
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        let mut film = self.film.borrow_mut();
        match film.next.take() {
            None => Ok(Captured::default()),
            Some(Err(fault)) => Err(fault),
            Some(Ok(())) => {
                film.made += 1;
                let meta = FrameMeta {
                    sequence: 0,
                    captured: now,
                    wall: Duration::from_millis(film.made.into()),
                    width: 16,
                    height: 16,
                    orientation: Orientation::UPRIGHT,
                    exif: Orientation::UPRIGHT,
                    crop: None,
                    live: true,
                };
                self.newest = Some((meta, picture(film.made)));
                Ok(Captured {
                    fresh: true,
                    ..Captured::default()
                })
            }
        }
    }

    fn newest(&self) -> Option<Frame<'_>> {
        self.newest.as_ref().map(|(meta, jpeg)| Frame {
            meta: *meta,
            picture: Picture::Jpeg(jpeg),
        })
    }

    fn holds(&self) -> bool {
        !self.film.borrow().gives_back
    }

    fn release(&mut self) {
        if !self.holds() {
            self.newest = None;
        }
    }

    fn controls(&self) -> Vec<Control> {
        vec![Control {
            name: "brightness".into(),
            kind: "integer",
            minimum: 0,
            maximum: 255,
            step: 1,
            default: 128,
            value: Some(self.brightness),
            menu: Vec::new(),
            locked: false,
        }]
    }

    fn set_control(&mut self, name: &str, value: i64) -> Result<(), ControlError> {
        if name != "brightness" {
            return Err(ControlError::Unknown);
        }
        if !(0..=255).contains(&value) {
            return Err(ControlError::Refused("allowed: 0 to 255".into()));
        }
        self.brightness = value;
        Ok(())
    }
}

// ---------------------------------------------------------------- the wire

/// One connection's two directions.
#[derive(Default)]
pub struct Wire {
    /// On its way to camd.
    pub to_server: VecDeque<u8>,
    /// The client sends no more.
    pub ended: bool,
    /// It is gone: who writes gets a reset.
    pub gone: bool,
    /// What camd has written and the client has not taken.
    pub to_client: Vec<u8>,
    /// How much of that there can be.
    pub room: usize,
    /// camd has closed, or ended its half.
    pub closed: bool,
    shut: bool,
    wants_room: bool,
    wants_empty: bool,
    /// What epoll would say.
    pub readable: bool,
    /// See `readable`.
    pub writable: bool,
}

/// camd's end of a [`Wire`].
pub struct End(Rc<RefCell<Wire>>);

impl Read for End {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.gone && wire.to_server.is_empty() {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if wire.to_server.is_empty() && !wire.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.to_server.read(buf)
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.shut, "written behind the end");
        if wire.gone {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut left = wanted.min(wire.room.saturating_sub(wire.to_client.len()));
        wire.wants_room |= left < wanted;
        let taken = left;
        for buf in bufs {
            let part = left.min(buf.len());
            wire.to_client.extend(&buf[..part]);
            left -= part;
        }
        match taken {
            0 if wanted > 0 => Err(ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for End {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().shut = true;
        Ok(())
    }

    fn drained(&mut self) -> io::Result<bool> {
        let mut wire = self.0.borrow_mut();
        wire.wants_empty = !wire.to_client.is_empty();
        Ok(!wire.wants_empty)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}

// ---------------------------------------------------------------- a client

/// A client, which checks what it is sent.
pub struct Client {
    /// Its name in the hub; `None`: there was no room.
    pub id: Option<ClientId>,
    /// The connection.
    pub wire: Rc<RefCell<Wire>>,
    reader: Reader,
    received: Vec<u8>,
    /// The last picture.
    last: u32,
    /// Pictures that came.
    pub pictures: u32,
    /// What it was answered: statuses of http, types of call.
    pub answers: Vec<i32>,
}

/// What comes, by the protocol of the listener.
pub enum Reader {
    /// Answers, and then perhaps a stream.
    Http(Option<Multipart>),
    /// Pictures behind their length.
    Push,
    /// Bare pictures, and the card that says that there is none.
    Raw(Splitter),
    /// Bytes of the announced picture that are to come.
    Pull(Option<usize>),
    /// Records.
    Call,
}

impl Client {
    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        let mut wire = self.wire.borrow_mut();
        if !wire.ended {
            wire.to_server.extend(bytes);
            wire.readable = true;
        }
    }

    /// Sends no more.
    pub fn end(&mut self) {
        let mut wire = self.wire.borrow_mut();
        wire.ended = true;
        wire.readable = true;
    }

    /// Leaves.
    pub fn leave(&mut self) {
        let mut wire = self.wire.borrow_mut();
        (wire.ended, wire.gone) = (true, true);
        (wire.readable, wire.writable) = (true, true);
    }

    /// Takes so many bytes of what has come, and looks at them.
    pub fn take(&mut self, most: usize) {
        let mut wire = self.wire.borrow_mut();
        let n = most.min(wire.to_client.len());
        self.received.extend(wire.to_client.drain(..n));
        if wire.wants_empty && wire.to_client.is_empty() {
            wire.wants_empty = false;
            wire.writable = true;
        }
        if wire.wants_room && wire.to_client.len() * 3 <= wire.room * 2 {
            wire.wants_room = false;
            wire.writable = true;
        }
        let quiet = wire.to_client.is_empty();
        drop(wire);
        while !self.received.is_empty() && self.look(quiet) {}
    }

    /// One thing of what has come. False: it is not whole.
    fn look(&mut self, quiet: bool) -> bool {
        match &mut self.reader {
            Reader::Push => {
                let Some(header) = self.received.first_chunk() else {
                    return false;
                };
                let length = push::parse_header(*header, FRAME_BYTES).expect("a header of push");
                self.picture(push::HEADER, length)
            }
            Reader::Raw(splitter) => {
                let spare = splitter.spare();
                let n = spare.len().min(self.received.len());
                spare[..n].copy_from_slice(&self.received[..n]);
                self.received.drain(..n);
                splitter.filled(n);
                let mut pictures = Vec::new();
                while let Some(jpeg) = splitter.next_frame() {
                    pictures.push(jpeg.to_vec());
                }
                let counts = splitter.counts();
                let others = (counts.bad, counts.oversized, counts.garbage);
                assert_eq!(others, (0, 0, 0), "whole pictures and nothing else");
                for jpeg in pictures {
                    self.check(&jpeg, false);
                }
                true
            }
            Reader::Pull(None) => {
                // Nothing ends the number but that nothing follows before an ack.
                if !quiet {
                    return false;
                }
                let text = self.received.strip_prefix(NEW_IMAGE);
                let text = text.and_then(|digits| std::str::from_utf8(digits).ok());
                let length = text.and_then(|text| text.parse().ok());
                self.reader = Reader::Pull(Some(length.expect("a size")));
                self.received.clear();
                false
            }
            Reader::Pull(Some(length)) => {
                let length = *length;
                let whole = self.picture(0, length);
                if whole {
                    self.reader = Reader::Pull(None);
                }
                whole
            }
            Reader::Call => {
                let longest = Longest {
                    picture: 4 * FRAME_BYTES,
                    control: 4 * FRAME_BYTES,
                };
                let record = Record::parse(&self.received, longest).expect("a record");
                let Some(record) = record else {
                    return false;
                };
                self.answers.push(record.kind.number());
                let used = record.bytes.len();
                self.received.drain(..used);
                true
            }
            Reader::Http(None) => self.answer(),
            Reader::Http(Some(parts)) => {
                match parts.step(&self.received).expect("a stream in good order") {
                    answer::Step::More => false,
                    answer::Step::Skip(n) => {
                        self.received.drain(..n);
                        true
                    }
                    answer::Step::Picture {
                        start,
                        length,
                        used,
                        ..
                    } => {
                        let rest = self.received.split_off(used);
                        assert!(self.picture(start, length), "it is whole");
                        self.received = rest;
                        true
                    }
                    answer::Step::End => unreachable!("a stream never ends in good order"),
                }
            }
        }
    }

    fn answer(&mut self) -> bool {
        const STATUS: &[u8] = b"HTTP/1.1 ";
        let Some(length) = answer::head_length(&self.received).expect("a head that ends") else {
            return false;
        };
        let bytes = &self.received[..length];
        assert!(bytes.starts_with(STATUS), "{}", bytes.escape_ascii());
        // What a stranger sent must not become a line of its own.
        for line in bytes.split(|byte| *byte == b'\n') {
            assert!(
                line.is_empty() || line.ends_with(b"\r"),
                "a bare line feed: {}",
                bytes.escape_ascii()
            );
            assert!(
                !line[..line.len().saturating_sub(1)].contains(&b'\r'),
                "a bare carriage return"
            );
        }
        let head = Head::parse(bytes).expect("an answer");
        assert!(!head.chunked, "camd sends no chunks");
        if head.content_type.starts_with(b"multipart/") {
            let answer::Content::Multipart(boundary) = head.content().expect("a boundary") else {
                unreachable!("its type says so")
            };
            self.reader = Reader::Http(Some(Multipart::new(boundary, FRAME_BYTES)));
            self.answers.push(i32::from(head.status));
            self.received.drain(..length);
            return true;
        }
        let rest = &self.received[length..];
        let body = head.length.unwrap_or(0);
        // In answer to HEAD there is only that.
        let body = match rest.starts_with(STATUS) {
            true => 0,
            false if rest.len() < body => return false,
            false => body,
        };
        let (content, status) = (&rest[..body], head.status);
        if body > 0 && head.content_type == camd::protocol::http::JSON.as_bytes() {
            let json: Result<serde_json::Value, _> = serde_json::from_slice(content);
            json.expect("JSON");
        }
        if body > 0 && head.content_type == camd::protocol::http::JPEG.as_bytes() {
            // Of several snapshots, two may be the same.
            self.check(&content.to_vec(), true);
        }
        self.answers.push(i32::from(status));
        self.received.drain(..length + body);
        true
    }

    fn picture(&mut self, start: usize, length: usize) -> bool {
        if self.received.len() < start + length {
            return false;
        }
        let jpeg: Vec<u8> = self.received.drain(..start + length).skip(start).collect();
        self.check(&jpeg, false);
        true
    }

    fn check(&mut self, jpeg: &[u8], again: bool) {
        // Other sizes are encoded anew, as is the card that says that there is no picture.
        if jpeg.len() != picture(0).len() {
            jpeg::inspect(jpeg).expect("a JPEG");
            return;
        }
        let number = number(jpeg);
        let newer = number > self.last || again && number == self.last;
        assert!(newer, "picture {number} after {}", self.last);
        self.last = number;
        self.pictures += 1;
    }
}

// ---------------------------------------------------------------- the world

/// The listeners of a [`World`], in this order.
pub const HTTP: usize = 0;
/// http with all that a listener can be asked for, and a prefix.
pub const HTTP_OPEN: usize = 1;
/// push
pub const PUSH: usize = 2;
/// pull
pub const PULL: usize = 3;
/// raw
pub const RAW: usize = 4;
/// call, with a password.
pub const CALL: usize = 5;
/// call, without.
pub const CALL_OPEN: usize = 6;
/// How many there are that anybody may use.
pub const LISTENERS: usize = 7;
/// http for users, whose password and token nobody knows, and behind a proxy.
pub const HTTP_USERS: usize = 7;

const CONFIG: &str = r#"
[camera]
name = "\"fuzz\" <&>"
source = "pattern"
linger_s = 1

[[listener]]
protocol = "http"
bind = "127.0.0.1:1001"
clients = 12
set_controls = false
access = "open"

[[listener]]
protocol = "http"
bind = "127.0.0.1:1002"
clients = 8
set_controls = true
access = "open"
base_path = "/a/b"
allow_origin = "https://example.org"
max_fps = 5
adaptive = true

[[listener]]
protocol = "push"
bind = "127.0.0.1:1003"
clients = 8

[[listener]]
protocol = "pull"
bind = "127.0.0.1:1004"
clients = 8

[[listener]]
protocol = "raw"
bind = "127.0.0.1:1005"
clients = 8

[[listener]]
protocol = "call"
bind = "127.0.0.1:1006"
clients = 8
password = "secret"

[[listener]]
protocol = "call"
bind = "127.0.0.1:1007"
clients = 8
calls = 2
access = "open"

[[listener]]
protocol = "http"
bind = "127.0.0.1:1008"
clients = 4
access = "users"
trusted_proxies = ["192.0.2.1"]
hosts = ["camera.example.org"]

[[user]]
name = "anna"
password = "SECRET"
may = ["watch", "control"]

[[user]]
name = "printer"
token = "SECRET"

[limits]
frame_bytes = 131072
"#;

fn configuration() -> Config {
    // Another one in each process, and the same in all of its worlds.
    static SECRET: OnceLock<String> = OnceLock::new();
    let secret = SECRET.get_or_init(|| {
        let hasher = RandomState::new();
        format!("{:016x}{:016x}", hasher.hash_one(1), hasher.hash_one(2))
    });
    let text = CONFIG.replace("SECRET", secret);
    config::parse(&text, "fuzz.toml").unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A hub, its camera, and its clients.
pub struct World {
    /// The moment.
    pub now: Instant,
    /// What the camera does.
    pub film: Rc<RefCell<Film>>,
    /// Everybody who has come.
    pub clients: Vec<Client>,
    hub: Hub<End>,
    camera: Camera<Scripted>,
    config: Config,
}

impl Default for World {
    fn default() -> Self {
        World::new()
    }
}

impl World {
    /// Without clients.
    pub fn new() -> World {
        let config = configuration();
        let film = Rc::<RefCell<Film>>::default();
        let source = Scripted {
            film: Rc::clone(&film),
            newest: None,
            brightness: 1,
        };
        let now = start();
        World {
            now,
            film,
            clients: Vec::new(),
            hub: Hub::new(&config, now, start),
            camera: Camera::new(source, &config, now),
            config,
        }
    }

    /// Somebody comes, from the neighbour's network or, with number 0, from this machine.
    pub fn connect(&mut self, listener: usize, room: usize, number: u8) -> usize {
        let wire = Rc::new(RefCell::new(Wire {
            room,
            ..Wire::default()
        }));
        let address = match number {
            0 => Ipv4Addr::LOCALHOST,
            number => Ipv4Addr::new(192, 0, 2, number),
        };
        let end = End(Rc::clone(&wire));
        let mut peer = Peer::new();
        write!(peer, "{address}:1").expect("it is short");
        let id = self.hub.admit(end, peer, listener, self.now).ok();
        self.clients.push(Client {
            id,
            wire,
            reader: match listener {
                HTTP | HTTP_OPEN | HTTP_USERS => Reader::Http(None),
                PUSH => Reader::Push,
                PULL => Reader::Pull(None),
                RAW => Reader::Raw(Splitter::new(FRAME_BYTES)),
                _ => Reader::Call,
            },
            received: Vec::new(),
            last: 0,
            pictures: 0,
            answers: Vec::new(),
        });
        self.hub.tell_viewers(&mut self.camera, self.now);
        self.clients.len() - 1
    }

    /// One turn of the event loop: tells what happened, lets the camera and everybody go on.
    pub fn turn(&mut self) {
        for client in &mut self.clients {
            let mut wire = client.wire.borrow_mut();
            let (readable, writable) = (wire.readable, wire.writable);
            (wire.readable, wire.writable) = (false, false);
            drop(wire);
            if let Some(id) = client.id.filter(|_| readable || writable) {
                self.hub.mark(id, readable, writable);
            }
        }
        let has_news = self.film.borrow().next.is_some();
        self.hub.run(&mut self.camera, has_news, self.now);
        let mut rounds = 0;
        while self.hub.turn(self.now, &mut self.camera) {
            rounds += 1;
            assert!(
                rounds < 20_000,
                "a client keeps the loop turning without end"
            );
        }
        self.hub.release(&mut self.camera);
        self.hub.tell_viewers(&mut self.camera, self.now);
    }

    /// The camera has a picture.
    pub fn shoot(&mut self) {
        self.film.borrow_mut().next = Some(Ok(()));
    }

    /// Reloads the configuration.
    pub fn reconfigure(&mut self, choice: u8) {
        let mut config = self.config.clone();
        config.listeners[HTTP].adaptive = choice & 1 != 0;
        config.listeners[PUSH].max_fps = (choice & 2 != 0).then_some(5);
        config.listeners[PUSH].adaptive = choice & 4 != 0;
        config.listeners[HTTP].set_controls = choice & 8 != 0;
        self.hub.reconfigure(&config, self.now);
    }

    /// Everybody takes all that has come.
    pub fn take_all(&mut self) {
        for client in &mut self.clients {
            client.take(usize::MAX);
        }
    }

    /// Everybody leaves. All slots must come back, and all calls and names with them.
    pub fn clear(&mut self) {
        for client in &mut self.clients {
            client.leave();
        }
        // Who has half closed before is only found gone when something is written. And those who are told something first get
        // their time for it.
        for _ in 0..4 {
            self.film.borrow_mut().absent = false;
            self.shoot();
            self.turn();
            if self.hub.clients().count() == 0 {
                break;
            }
            self.now += Duration::from_secs(120);
        }
        assert_eq!(self.hub.clients().count(), 0, "every slot comes back");
        assert!(self.hub.switchboard().calls().is_empty(), "every call ends");
        for client in &self.clients {
            assert!(client.wire.borrow().closed, "a connection was forgotten");
        }
        self.clients.clear();
        let mut film = self.film.borrow_mut();
        *film = Film {
            made: film.made % 1_000_000_000,
            ..Film::default()
        };
        drop(film);
        // What a client was allowed to do at this moment, another one is not to be charged with.
        self.now += Duration::from_secs(120);
    }
}

/// One client says all of `bytes`, cut as `seed` has it, to a listener; pictures come meanwhile, and it takes all at once.
/// Gives its answers.
pub fn say(world: &mut World, listener: usize, seed: u8, bytes: &[u8]) -> Vec<i32> {
    let client = world.connect(listener, 1 << 20, 1);
    world.shoot();
    world.turn();
    world.take_all();
    let (mut left, mut cuts) = (bytes, Cuts::new(seed));
    while !left.is_empty() && !world.clients[client].wire.borrow().closed {
        let piece = cuts.next(&mut left);
        world.clients[client].send(piece);
        world.turn();
        world.take_all();
        if listener == PULL || piece.len() > 16 {
            world.shoot();
            world.turn();
            world.take_all();
        }
    }
    // What waits for a picture gets one.
    world.shoot();
    world.turn();
    world.take_all();
    world.clients[client].end();
    world.turn();
    world.take_all();
    let answers = std::mem::take(&mut world.clients[client].answers);
    assert!(
        listener != HTTP_USERS || world.clients[client].pictures == 0,
        "who has no login sees the camera"
    );
    world.clear();
    answers
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// Lends a world without clients, which is made once: its buffers are large.
pub fn with_world<R>(act: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(act)
}

/// As what pull clients send in place of nothing.
pub const ASK: &[u8] = NEW_REQUEST;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_whole() {
        let jpeg = picture(7);
        let found = jpeg::inspect(&jpeg).unwrap();
        assert_eq!(found.range(), 0..jpeg.len());
        assert!(camd::picture::scan::is_whole(&jpeg));
        assert_eq!(number(&jpeg), 7);
    }
}
