//! POST `/update`: who may, what the box's updater gets of it, and that nobody else pays for it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{
    Camd, Folder, PATIENCE, Response, Stream, connect, read_response, request, send,
};

/// Of these users, by their tokens.
const MAY: &str = "may-update-0123456789";
const MAY_NOT: &str = "may-not-0123456789";
const LENGTH: usize = 3_000_000;

/// A box around camd, whose updater this test is.
struct Around {
    camd: Camd,
    updater: UnixListener,
    socket: PathBuf,
    _folder: Folder,
}

impl Around {
    fn new(limits: &str) -> Around {
        let folder = Folder::new();
        let socket = folder.path().join("update");
        let updater = UnixListener::bind(&socket).expect("a socket of ours");
        let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
        command.arg("--update").arg(&socket);
        let camd = Camd::start_as(&mut command, &config(limits), PATIENCE);
        Around {
            camd,
            updater,
            socket,
            _folder: folder,
        }
    }

    /// Begins to upload.
    fn post(&self, fields: &str, length: usize) -> TcpStream {
        let mut stream = connect(self.camd.http());
        send(&mut stream, head(MAY, fields, length));
        stream
    }

    /// The updater hears of it: the line that it is told.
    fn accept(&self) -> (UnixStream, String) {
        self.updater.set_nonblocking(true).expect("a socket");
        let deadline = Instant::now() + PATIENCE;
        let mut stream = loop {
            match self.updater.accept() {
                Ok((stream, _)) => break stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "the updater hears of nothing");
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(e) => panic!("{e}"),
            }
        };
        stream.set_nonblocking(false).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let (mut line, mut byte) = (String::new(), [0]);
        while byte[0] != b'\n' {
            stream.read_exact(&mut byte).expect("a line");
            line.push(char::from(byte[0]));
        }
        (stream, line)
    }

    fn viewer(&self) -> Stream {
        Stream::open(self.camd.http(), &format!("/stream?token={MAY_NOT}"))
    }
}

fn config(limits: &str) -> String {
    format!(
        "[camera]\nsource = \"pattern\"\nwidth = 64\nheight = 48\nfps = 30\n[limits]\n{limits}\n\
         [[user]]\nname = \"anna\"\ntoken = \"{MAY}\"\nmay = [\"update\"]\n\
         [[user]]\nname = \"otto\"\ntoken = \"{MAY_NOT}\"\nmay = [\"watch\", \"control\"]\n\
         [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n"
    )
}

fn head(token: &str, fields: &str, length: usize) -> String {
    format!(
        "POST /update HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n{fields}\r\n"
    )
}

/// Bytes each of which says where it is.
fn image() -> Vec<u8> {
    (0..LENGTH)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}

fn answer(mut stream: TcpStream) -> Response {
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let response = read_response(&mut stream, false);
    assert_eq!(
        response.field("Connection"),
        Some("close"),
        "{}",
        response.head
    );
    response
}

/// Writes while somebody else reads.
fn upload(stream: &TcpStream, bytes: Vec<u8>) -> std::thread::JoinHandle<std::io::Result<()>> {
    let mut stream = stream.try_clone().expect("a descriptor");
    std::thread::spawn(move || stream.write_all(&bytes))
}

#[test]
fn the_updater_gets_every_byte_and_the_client_its_answer() {
    let around = Around::new("");
    // By a client that waits for a word first, and by one that says that it may be older.
    for (fields, target, line) in [
        ("Expect: 100-continue\r\n", "/update", "update 3000000 0\n"),
        ("", "/update?older", "update 3000000 1\n"),
        ("", "http://localhost//update/", "update 3000000 0\n"),
    ] {
        let mut stream = connect(around.camd.http());
        send(
            &mut stream,
            head(MAY, fields, LENGTH).replacen("/update", target, 1),
        );
        let (mut updater, said) = around.accept();
        assert_eq!(said, line);
        if !fields.is_empty() {
            let mut word = [0; 25];
            stream.read_exact(&mut word).expect("a word to go on");
            assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let uploading = upload(&stream, image());
        let mut got = vec![0; LENGTH];
        updater.read_exact(&mut got).expect("all of it");
        assert!(got == image(), "other bytes came");
        updater.set_nonblocking(true).expect("a socket");
        let more = updater
            .read(&mut [0])
            .expect_err("nothing more, and no end");
        assert_eq!(more.kind(), ErrorKind::WouldBlock);
        updater
            .write_all(b"200 the box tries it\n")
            .expect("it reads");
        drop(updater);
        uploading.join().expect("no panic").expect("all is read");
        let response = answer(stream);
        assert_eq!(
            (response.status, response.text()),
            (200, "the box tries it\n")
        );
    }
}

#[test]
fn an_updater_that_says_no_is_heard_when_all_was_sent() {
    let around = Around::new("");
    for (said, status, text) in [
        (
            "400 it is signed by nobody\n",
            400,
            "it is signed by nobody\n",
        ),
        ("503 the card is worn out\n", 503, "the card is worn out\n"),
        (
            "",
            503,
            "the box's updater has ended without a word; nothing has changed\n",
        ),
        (
            "nonsense\n",
            503,
            "the box's updater has ended without a word; nothing has changed\n",
        ),
    ] {
        let stream = around.post("", LENGTH);
        let (mut updater, _) = around.accept();

        let uploading = upload(&stream, image());
        updater.read_exact(&mut [0; 1000]).expect("the beginning");
        updater.write_all(said.as_bytes()).expect("it reads");
        drop(updater);
        uploading.join().expect("no panic").expect("all is read");
        let response = answer(stream);
        assert_eq!((response.status, response.text()), (status, text));
    }
}

#[test]
fn who_may_not_is_told_so_and_the_updater_hears_nothing() {
    let around = Around::new("");
    let post = |text: String| request(around.camd.http(), &text);
    let own = format!("Origin: http://{}\r\n", around.camd.http());
    let host = format!("Host: {}\r\n", around.camd.http());
    for (text, status) in [
        (head("nobody-0123456789abc", "", LENGTH), 401),
        (
            head(MAY, "", LENGTH).replace("Authorization: Bearer may-update-0123456789\r\n", ""),
            401,
        ),
        (head(MAY_NOT, "", LENGTH), 403),
        (
            head(MAY, "Origin: http://elsewhere.example\r\n", LENGTH),
            403,
        ),
        (head(MAY, "Origin: null\r\n", LENGTH), 403),
        (head(MAY, "", 0), 411),
        (head(MAY, "Transfer-Encoding: chunked\r\n", LENGTH), 411),
        (head(MAY, "", (128 << 20) + 1), 413),
        (
            head(MAY, "", LENGTH).replace("Host: localhost", "Host: elsewhere.example"),
            421,
        ),
        (
            head(MAY, "Connection: close\r\n", 0).replace("POST", "GET"),
            405,
        ),
        (
            head(MAY, "Connection: close\r\n", 0).replace("POST", "PUT"),
            405,
        ),
    ] {
        let response = post(text.clone());
        assert_eq!(response.status, status, "{text}{}", response.text());
    }
    around.updater.set_nonblocking(true).expect("a socket");
    let error = around
        .updater
        .accept()
        .expect_err("the updater heard of one");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    // A page of its own may.
    let text = head(MAY, &own, 1).replace("Host: localhost\r\n", &host);
    let mut stream = connect(around.camd.http());
    send(&mut stream, text);
    assert_eq!(around.accept().1, "update 1 0\n");
    // What the page goes by.
    let you = |token: &str| {
        let text = format!("GET /state?once&token={token} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let state: serde_json::Value = serde_json::from_str(post(text).text()).expect("JSON");
        state["you"]["updates"].clone()
    };
    assert_eq!((you(MAY), you(MAY_NOT)), (true.into(), false.into()));
}

#[test]
fn without_a_box_or_without_its_updater_there_are_none() {
    let camd = Camd::start(&config(""));
    assert_eq!(request(camd.http(), &head(MAY, "", 5)).status, 404);
    let open = Around::new("");
    drop(open.updater);
    for _ in 0..2 {
        let response = request(open.camd.http(), &head(MAY, "", 5));
        assert_eq!(response.status, 503, "{}", response.text());
        // The socket's file may be there or not.
        let _ = std::fs::remove_file(&open.socket);
    }
    // Where everybody may look, nobody may update.
    let folder = Folder::new();
    let socket = folder.path().join("update");
    let _updater = UnixListener::bind(&socket).expect("a socket of ours");
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.arg("--update").arg(&socket);
    let text = "[camera]\nsource = \"pattern\"\n[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n";
    let camd = Camd::start_as(&mut command, text, PATIENCE);
    assert_eq!(request(camd.http(), &head(MAY, "", 5)).status, 403);
}

#[test]
fn there_is_one_at_a_time_and_its_end_makes_room() {
    let around = Around::new("");
    let first = around.post("", LENGTH);
    let (mut updater, _) = around.accept();
    let second = request(around.camd.http(), &head(MAY, "", LENGTH));
    assert_eq!(second.status, 409, "{}", second.text());
    // The client goes: the updater hears the end.
    drop(first);
    assert_eq!(updater.read(&mut [0]).expect("the end"), 0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut third = connect(around.camd.http());
        send(&mut third, head(MAY, "", 4) + "abcd");
        third
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a socket");
        let Ok(_) = third.peek(&mut [0]) else { break };
        assert!(Instant::now() < deadline, "the first one still counts");
    }
    let (mut updater, line) = around.accept();
    assert_eq!(line, "update 4 0\n");
    let mut got = [0; 4];
    updater.read_exact(&mut got).expect("all of it");
    assert_eq!(&got, b"abcd");
}

#[test]
fn a_sender_that_stops_is_ended_and_one_that_is_slow_costs_the_viewer_nothing() {
    let around = Around::new("head_timeout_s = 2");
    let mut viewer = around.viewer();
    let mut stream = around.post("", LENGTH);
    let (mut updater, _) = around.accept();
    // Longer in all than it may be silent.
    let began = Instant::now();
    let mut pictures = 0;
    while began.elapsed() < Duration::from_secs(4) {
        send(&mut stream, b"x");
        viewer.next();
        viewer.next();
        pictures += 2;
    }
    assert!(pictures > 40, "{pictures} pictures in 4 s at 30 a second");
    let response = answer(stream);
    assert_eq!(response.status, 408, "{}", response.text());
    updater.set_nonblocking(false).expect("a socket");
    let mut all = Vec::new();
    updater.read_to_end(&mut all).expect("the end");
    assert_eq!(all.len(), pictures / 2, "what was sent, and the end");
    viewer.next();
}

#[test]
fn an_updater_that_takes_nothing_holds_the_sender_back_and_nobody_else() {
    let around = Around::new("head_timeout_s = 2");
    let mut viewer = around.viewer();
    let stream = around.post("", LENGTH * 20);
    let (mut updater, _) = around.accept();
    let mut sender = stream.try_clone().expect("a descriptor");
    sender.set_nonblocking(true).expect("a socket");
    let (piece, mut sent) = (vec![7; 65536], 0);
    let began = Instant::now();
    // Longer than a client may be silent: it is not the one that is late.
    while began.elapsed() < Duration::from_secs(5) {
        match sender.write(&piece) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => panic!("after {sent} bytes: {e}"),
        }
        viewer.next();
    }
    assert!(sent < LENGTH * 19, "{sent} bytes went nowhere");
    // It goes on.
    sender.set_nonblocking(false).expect("a socket");
    let uploading = upload(&stream, vec![7; LENGTH * 20 - sent]);
    let mut got = vec![0; LENGTH * 20];
    updater.read_exact(&mut got).expect("all of it");
    assert!(got.iter().all(|byte| *byte == 7));
    uploading.join().expect("no panic").expect("all is read");
    // A client that will say no more waits for the answer all the same.
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("a socket");
    std::thread::sleep(Duration::from_secs(3));
    updater.write_all(b"200 well\n").expect("it reads");
    drop(updater);
    assert_eq!(answer(stream).status, 200);
    viewer.next();
}
