//! `src/protocol/*.md` are true: their examples are held with the running program, byte by byte.
//!
//! An example is a fenced block ` ```wire `. Each of its lines is `C`, what the client sends; `S`, what the server is to
//! send; or the name of a piece of shared memory and a place in it, and what is to be there. Then come bytes, one item
//! after another: hexadecimal digits, text in quotation marks, or a word in capitals. `#` begins a comment.

mod common;

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camd::protocol::ProtocolKind;
use camd::protocol::call::Kind;
use camd::system::shm::{Found, Key};
use common::user::CALLS;
use common::{
    Camd, Folder, LISTENERS, PATIENCE, RAW, assert_closed, assert_jpeg, connect, jpeg, replay, send,
};

/// The size of the picture in the examples.
const SIZE: usize = 5000;

fn picture() -> Vec<u8> {
    jpeg(0, SIZE)
}

// --- reading the examples ---

#[derive(Clone, Debug, PartialEq)]
enum Item {
    Bytes(Vec<u8>),
    /// One decimal digit or more.
    Digits,
    /// A length in 4 bytes, and so many of UTF-16BE: the Base64 of a JPEG.
    Base64,
    /// The same with any text.
    Text,
    /// The server closes the connection.
    Closed,
}

#[derive(Debug)]
struct Step {
    /// `C`, `S`, or what of shared memory this is about.
    what: String,
    place: usize,
    items: Vec<Item>,
    /// As it is written, for messages.
    line: String,
}

struct Example {
    steps: Vec<Step>,
}

/// The items of a line. A panic names it.
fn items(mut rest: &str, line: &str) -> Vec<Item> {
    let mut items = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with('#') {
            return items;
        }
        if let Some(text) = rest.strip_prefix('"') {
            let (text, behind) = text.split_once('"').unwrap_or_else(|| panic!("{line}"));
            rest = behind;
            let text = text.replace("\\r", "\r").replace("\\n", "\n");
            items.push(Item::Bytes(text.replace("\\0", "\0").into_bytes()));
            continue;
        }
        let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = behind;
        items.push(match word {
            "DIGITS" => Item::Digits,
            "BASE64" => Item::Base64,
            "TEXT" => Item::Text,
            "closed" => Item::Closed,
            _ => Item::Bytes(part(word).or_else(|| hex(word)).unwrap_or_else(|| {
                panic!("{word:?} in {line:?}");
            })),
        });
    }
}

/// `JPEG[a..b]`
fn part(word: &str) -> Option<Vec<u8>> {
    let range = word.strip_prefix("JPEG[")?.strip_suffix(']')?;
    let (from, to) = range.split_once("..")?;
    Some(picture()[from.parse().ok()?..to.parse().ok()?].to_vec())
}

fn hex(word: &str) -> Option<Vec<u8>> {
    let pairs = word.len().is_multiple_of(2) && word.is_ascii();
    let byte = |i: usize| u8::from_str_radix(&word[i..i + 2], 16).ok();
    pairs.then(|| (0..word.len()).step_by(2).map(byte).collect())?
}

fn examples(text: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line == "```wire" {
            inside = true;
            examples.push(Example { steps: Vec::new() });
        } else if line == "```" {
            inside = false;
        } else if inside {
            let (what, mut rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
            let mut place = 0;
            if what != "C" && what != "S" {
                let (number, behind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
                place = number.parse().unwrap_or_else(|_| panic!("{line:?}"));
                rest = behind;
            }
            let step = Step {
                what: what.to_owned(),
                place,
                items: items(rest, line),
                line: line.to_owned(),
            };
            assert!(!step.items.is_empty(), "{line:?}");
            examples.last_mut().expect("one has begun").steps.push(step);
        }
    }
    examples
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol")
}

/// The examples in `src/protocol/FILE.md`; as many as are expected, so that none is overlooked.
fn read<const N: usize>(file: &str) -> [Example; N] {
    let path = folder().join(file).with_extension("md");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let Ok(examples) = examples(&text).try_into() else {
        panic!("{}: not {N} examples", path.display())
    };
    examples
}

// --- holding them with the program ---

/// What the server sends, a byte at a time or more.
struct Server {
    stream: TcpStream,
    /// Read too early.
    next: Option<u8>,
}

impl Server {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.next.take_if(|_| count > 0).into_iter().collect();
        let begun = bytes.len();
        bytes.resize(count, 0);
        if let Err(error) = self.stream.read_exact(&mut bytes[begun..]) {
            panic!("{error} within {count} bytes");
        }
        bytes
    }

    fn text(&mut self) -> String {
        let length = self.bytes(4).try_into().map(u32::from_be_bytes);
        let length = length.expect("four bytes") as usize;
        assert!(length < 1 << 20, "a length of {length} bytes");
        let units: Vec<u16> = self
            .bytes(length)
            .chunks(2)
            .map(|unit| u16::from_be_bytes(unit.try_into().expect("an even length")))
            .collect();
        String::from_utf16(&units).expect("UTF-16")
    }

    fn expect(&mut self, item: &Item) {
        match item {
            Item::Bytes(wanted) => assert_same(&self.bytes(wanted.len()), wanted),
            Item::Digits => {
                let mut count = 0;
                loop {
                    let byte = self.bytes(1)[0];
                    if !byte.is_ascii_digit() {
                        self.next = Some(byte);
                        break;
                    }
                    count += 1;
                }
                assert!(count > 0, "no digit");
            }
            Item::Base64 => {
                let text = self.text();
                let mut jpeg = vec![0; text.len()];
                let decoded = STANDARD.decode_slice(&text, &mut jpeg);
                jpeg.truncate(decoded.unwrap_or_else(|error| panic!("{error}: {text}")));
                assert_jpeg(&jpeg);
            }
            Item::Text => assert_ne!(self.text(), ""),
            Item::Closed => assert_closed(&mut self.stream),
        }
    }
}

fn assert_same(bytes: &[u8], wanted: &[u8]) {
    let show = |bytes: &[u8]| {
        let some = &bytes[..bytes.len().min(80)];
        format!(
            "{} bytes: {some:02x?} {:?}",
            bytes.len(),
            some.escape_ascii().to_string()
        )
    };
    assert!(
        bytes == wanted,
        "{}\nin place of {}",
        show(bytes),
        show(wanted)
    );
}

/// Holds a conversation over a connection of its own.
fn converse(camd: &Camd, kind: ProtocolKind, example: &Example) {
    let listener = camd.listeners.iter().find(|(name, _)| name == kind.name());
    let address = listener.expect("it listens").1.parse().expect("TCP");
    let mut server = Server {
        stream: connect(address),
        next: None,
    };
    for step in &example.steps {
        eprintln!("{}: {}", kind.name(), step.line);
        match step.what.as_str() {
            "C" => {
                for item in &step.items {
                    let Item::Bytes(bytes) = item else {
                        panic!("{}: a client says {item:?}", step.line)
                    };
                    send(&mut server.stream, bytes);
                }
            }
            "S" => step.items.iter().for_each(|item| server.expect(item)),
            _ => panic!("{}: neither C nor S", step.line),
        }
    }
    // What is still to come is no part of the example; but what it sent last must have been good.
    if !example
        .steps
        .iter()
        .any(|step| step.items == [Item::Closed])
    {
        server.stream.set_nonblocking(true).expect("O_NONBLOCK");
        match server.stream.peek(&mut [0]) {
            Ok(0) => panic!("closed at the end of the example"),
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }
}

/// camd with one picture that comes again and again, and listeners of all protocols.
fn start(more: &str) -> (Folder, Camd) {
    let (folder, camera) = replay(1, SIZE, 30);
    let camd = Camd::start(&format!(
        "{camera}{LISTENERS}{RAW}{CALLS}clients = 8\n{more}"
    ));
    (folder, camd)
}

#[test]
fn pull() {
    let (_folder, camd) = start("");
    for example in read::<3>("pull") {
        converse(&camd, ProtocolKind::Pull, &example);
    }
}

#[test]
fn push_and_raw() {
    let (_folder, camd) = start("");
    let ([push], [raw]) = (read("push"), read("raw"));
    converse(&camd, ProtocolKind::Push, &push);
    converse(&camd, ProtocolKind::Raw, &raw);
}

#[test]
fn http() {
    let (_folder, camd) = start("");
    for example in read::<3>("http") {
        converse(&camd, ProtocolKind::Http, &example);
    }
}

#[test]
fn call() {
    let (_folder, camd) = start("");
    for example in read::<2>("call") {
        converse(&camd, ProtocolKind::Call, &example);
    }
    // And the table has all types that mean something.
    let text = fs::read_to_string(folder().join("call.md")).expect("call.md");
    let (_, table) = text
        .split_once("| type | name |")
        .expect("the table of types");
    let in_table: Vec<i32> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()?.parse().ok())
        .collect();
    let known: Vec<i32> = (-1000..1000)
        .filter(|&number| Kind::from(number) != Kind::Other(number))
        .collect();
    assert_eq!(in_table, known);
}

#[test]
fn memfd() {
    let place = Folder::new();
    let socket = place.path().join("sink");
    let sink = format!("[[sink]]\nkind = \"memfd\"\nsocket = {socket:?}\nslots = 4\n");
    let (_folder, camd) = start(&sink);
    let [example] = read("memfd");
    let connection = common::memfd::connect(&socket);
    let (message, fds) = common::memfd::receive(&connection);
    let memory = fs::File::from(fds.into_iter().next().expect("the memory"));
    let at = |place: u64, bytes: &mut [u8]| {
        std::os::unix::fs::FileExt::read_exact_at(&memory, bytes, place).expect("the memory");
    };
    let number = |place: u64| {
        let mut bytes = [0; 4];
        at(place, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    // As the text has it. Pictures are all the same, so which of them it is does not matter.
    let deadline = Instant::now() + PATIENCE;
    while number(64) == u32::MAX {
        assert!(Instant::now() < deadline, "no picture in {}", camd.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let slot = u64::from(number(16)) + u64::from(number(64)) * u64::from(number(20));
    for step in &example.steps {
        let wanted = bytes_of(step);
        let mut bytes = vec![0; wanted.len()];
        match step.what.as_str() {
            "S" => bytes.clone_from(&message),
            "ring" => at(step.place as u64, &mut bytes),
            "slot" => at(slot + step.place as u64, &mut bytes),
            _ => panic!("{}: none of S, ring and slot", step.line),
        }
        eprintln!("memfd: {}", step.line);
        assert_same(&bytes, &wanted);
    }
}

/// All that is in a line.
fn bytes_of(step: &Step) -> Vec<u8> {
    let bytes = step.items.iter().map(|item| match item {
        Item::Bytes(bytes) => &bytes[..],
        item => panic!("{}: {item:?}", step.line),
    });
    bytes.collect::<Vec<_>>().concat()
}

#[test]
fn qt_shm() {
    let text = fs::read_to_string(folder().join("qt-shm.md")).expect("qt-shm.md");
    let [example] = read("qt-shm");
    // The table of keys and their names.
    let keys = text.lines().filter_map(|line| {
        let (key, name) = line
            .strip_prefix("| `")?
            .strip_suffix("` |")?
            .split_once("` | `")?;
        Some((key.to_owned(), name.to_owned()))
    });
    let keys: Vec<_> = keys.collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    for (key, name) in keys {
        let place = Folder::new();
        let (_folder, camera) = replay(1, SIZE, 30);
        let sink = format!("[[sink]]\nkind = \"qt-shm\"\nkey = {key:?}\n");
        let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
        command.stdin(Stdio::null()).env("TMPDIR", place.path());
        let mut camd = Camd::start_as(
            &mut command,
            &format!("{camera}{LISTENERS}{sink}"),
            PATIENCE,
        );
        camd.wait_state("pictures are written", |state| {
            state["sinks"][0]["frames"].as_u64() > Some(0)
        });
        for file in ["qipc_sharedmemory_", "qipc_systemsem_"] {
            let file = place.path().join(format!("{file}{name}"));
            assert!(file.exists(), "{} for {key}", file.display());
        }
        let mut reader = camd::system::shm::Reader::new(Key::within(&key, place.path()), 1 << 20);
        let deadline = Instant::now() + PATIENCE;
        while reader.read(Instant::now()).expect("a segment") != Found::New {
            assert!(Instant::now() < deadline, "the lock is never free");
        }
        for step in &example.steps {
            assert_eq!(step.what, "segment");
            let wanted = bytes_of(step);
            eprintln!("qt-shm: {}", step.line);
            assert_same(&reader.content()[step.place..][..wanted.len()], &wanted);
        }
        reader.leave();
        camd.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(camd.wait(PATIENCE).success());
    }
}

#[test]
fn every_format_has_its_test() {
    let files = fs::read_dir(folder()).expect("src/protocol");
    let mut names: Vec<_> = files
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| path.file_stem().expect("a name").display().to_string())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["call", "http", "memfd", "pull", "push", "qt-shm", "raw"]
    );
}
