//! POST `/update`: who may, what the box's updater gets of it, and that nobody else pays for it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::tls::make_certificate;
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

    /// See [`accept`].
    fn accept(&self) -> (UnixStream, String) {
        accept(&self.updater)
    }

    fn viewer(&self) -> Stream {
        Stream::open(self.camd.http(), &format!("/stream?token={MAY_NOT}"))
    }
}

/// The updater hears of it: the line that it is told.
fn accept(updater: &UnixListener) -> (UnixStream, String) {
    updater.set_nonblocking(true).expect("a socket");
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match updater.accept() {
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
    hears_nothing(&around.updater);
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

// --- deploy/image/update URL NEW.img ---

/// A box in the network, with TLS, and what its owner has at a PC.
struct Networked {
    camd: Camd,
    updater: UnixListener,
    /// What camd says of the box.
    says: PathBuf,
    image: PathBuf,
    folder: Folder,
}

/// As `deploy/image/signature.py` begins it; what follows is for the box.
fn named_image(version: &str) -> Vec<u8> {
    let mut image = image();
    image[512..65536].fill(0);
    let list = format!("camd-update 1\nversion {version}\nbuilt 9\n");
    image[512..512 + list.len()].copy_from_slice(list.as_bytes());
    image
}

impl Networked {
    fn new() -> Networked {
        let folder = Folder::new();
        let at = |name: &str| folder.path().join(name);
        make_certificate(folder.path(), "box");
        make_certificate(folder.path(), "other");
        std::fs::write(at("new.img"), named_image("camd 9")).expect("a file");
        let updater = UnixListener::bind(at("socket")).expect("a socket of ours");
        let config = format!(
            "[camera]\nsource = \"pattern\"\nwidth = 64\nheight = 48\nfps = 30\n\
             [[user]]\nname = \"camd\"\npassword = \"ours\"\nmay = [\"watch\", \"update\"]\n\
             [[user]]\nname = \"otto\"\npassword = \"his\"\n\
             [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\ntls = true\n\
             certificate = \"{0}/box.crt\"\nkey = \"{0}/box.key\"\n",
            folder.path().display()
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
        command.arg("--update").arg(at("socket"));
        command.arg("--box").arg(at("box"));
        command.env("STATE_DIRECTORY", folder.path());
        let camd = Camd::start_as(&mut command, &config, PATIENCE);
        let it = Networked {
            camd,
            updater,
            says: at("box"),
            image: at("new.img"),
            folder,
        };
        it.say("slot=a\nversion=camd 8\n");
        it
    }

    fn say(&self, lines: &str) {
        let new = self.says.with_extension("new");
        std::fs::write(&new, lines).expect("a file");
        std::fs::rename(&new, &self.says).expect("a file");
    }

    /// Begins the tool, with a password and more arguments.
    fn begin(&self, password: &str, arguments: &[&str]) -> Child {
        // What a shell starts in the background ignores SIGINT.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", "python3"]);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/image/update"));
        command.arg(format!("https://{}", self.camd.http()));
        command.arg(&self.image).args(arguments);
        command.env("CAMD_PASSWORD", password);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("python3")
    }

    fn trusted(&self) -> [String; 2] {
        let path = self.folder.path().join("box.crt");
        ["--cacert".into(), path.display().to_string()]
    }

    /// As `camd check` prints it.
    fn fingerprint(&self, name: &str) -> String {
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
        let output = crate::common::run(openssl.arg(self.folder.path().join(name)));
        String::from_utf8(output.stdout).expect("text")
    }

    /// One update, as far as the whole image: then the updater answers.
    fn update(&self, answer: &str) {
        let (mut updater, line) = accept(&self.updater);
        assert_eq!(line, format!("update {LENGTH} 0\n"));
        let mut got = vec![0; LENGTH];
        updater.read_exact(&mut got).expect("all of it");
        assert!(got == named_image("camd 9"), "other bytes came");
        updater.write_all(answer.as_bytes()).expect("it reads");
    }
}

fn ended(child: Child) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

fn hears_nothing(updater: &UnixListener) {
    updater.set_nonblocking(true).expect("a socket");
    let error = updater.accept().expect_err("the updater heard of one");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn the_tool_believes_whom_it_is_told_to_and_says_what_is_wrong() {
    let it = Networked::new();
    let [cacert, trusted] = it.trusted();
    let other = it.folder.path().join("other.crt").display().to_string();
    let missing = it.folder.path().join("none").display().to_string();
    let strange = it.fingerprint("other.crt");
    let zeros = "0".repeat(63);
    let [cacert, trusted, other, missing] =
        [&cacert, &trusted, &other, &missing].map(String::as_str);
    let cases: [(&str, &[&str], &str); 9] = [
        ("ours", &[], "is not to be trusted: self-signed certificate"),
        (
            "ours",
            &[],
            "with --cacert FILE, or with --fingerprint SHA256",
        ),
        ("ours", &[cacert, other], "is not to be trusted"),
        ("ours", &[cacert, missing], "none: No such file"),
        (
            "ours",
            &[cacert, "/dev/null"],
            "must be a certificate in PEM",
        ),
        (
            "ours",
            &["--fingerprint", &strange],
            "shows another certificate, with the fingerprint",
        ),
        (
            "ours",
            &["--fingerprint", &zeros],
            "allowed: the SHA-256 of a certificate",
        ),
        (
            "theirs",
            &[cacert, trusted],
            "does not know this user with this password",
        ),
        (
            "his",
            &[cacert, trusted, "--user", "otto"],
            "this user may not: there is no \"update\" in its may",
        ),
    ];
    for (password, arguments, said) in cases {
        let (code, stdout, stderr) = ended(it.begin(password, arguments));
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(
            stderr.starts_with("update: ") && stderr.contains(said) && stderr.lines().count() == 1,
            "{arguments:?}: {stderr}"
        );
    }
    let (code, _, stderr) = ended(it.begin("ours", &["--back"]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--back is for a card"), "{stderr}");
    std::fs::write(&it.image, "no image").expect("a file");
    let (code, _, stderr) = ended(it.begin("ours", &[cacert, trusted]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("is no image of a camera box"), "{stderr}");
    std::fs::remove_file(&it.image).expect("it is there");
    let (code, _, stderr) = ended(it.begin("ours", &[cacert, trusted]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("No such file"), "{stderr}");
    hears_nothing(&it.updater);
}

#[test]
fn the_tool_brings_a_new_system_and_tells_what_becomes_of_it() {
    let it = Networked::new();
    let [cacert, trusted] = it.trusted();
    let fingerprint = it.fingerprint("box.crt");
    for (arguments, becomes, code, said) in [
        (
            [cacert.as_str(), trusted.as_str()].as_slice(),
            "slot=b\nversion=camd 9\nupdate=tried and kept\n",
            0,
            "tried; the box runs camd 9 now",
        ),
        (
            &["--fingerprint", &fingerprint],
            "slot=a\nversion=camd 8\nproblem=The update has failed. The old system runs on.\n",
            1,
            "The update has failed. The old system runs on.",
        ),
        (
            &["--insecure"],
            // It was there and is gone again.
            "slot=b\nversion=camd 9\n",
            1,
            "runs camd 8 again: camd 9 was not well",
        ),
    ] {
        it.say("slot=a\nversion=camd 8\n");
        let tool = it.begin("ours", arguments);
        it.update("200 camd 9 is in b/\n");
        it.say(becomes);
        if said.contains("again") {
            std::thread::sleep(Duration::from_secs(8));
            it.say("slot=a\nversion=camd 8\n");
        }
        let (status, stdout, stderr) = ended(tool);
        assert_eq!(status, Some(code), "{stdout}{stderr}");
        assert!(stderr.contains("camd 9 is in b/"), "{stderr}");
        assert!(
            format!("{stdout}{stderr}").contains(said),
            "{stdout}{stderr}"
        );
    }
    // What the box refuses is told, and nothing is waited for.
    it.say("slot=a\nversion=camd 8\n");
    let tool = it.begin("ours", &[&cacert, &trusted]);
    it.update("400 it is not signed with the key of this box's image\n");
    let (code, _, stderr) = ended(tool);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("not signed with the key") && stderr.contains("What runs has not changed"),
        "{stderr}"
    );
    // Its user ends it: the updater hears the end, of more than what is under way takes.
    let longer = std::fs::File::options().write(true).open(&it.image);
    longer
        .and_then(|file| file.set_len(100 << 20))
        .expect("a file");
    let mut tool = it.begin("ours", &[&cacert, &trusted]);
    let (mut updater, _) = accept(&it.updater);
    updater.read_exact(&mut [0; 1000]).expect("the beginning");
    let pid = i32::try_from(tool.id()).expect("a process");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
    tool.wait().expect("it ends");
    let (code, _, stderr) = ended(tool);
    assert_eq!(code, Some(130), "{stderr}");
    assert!(stderr.contains("interrupted"), "{stderr}");
    let mut rest = Vec::new();
    updater.read_to_end(&mut rest).expect("the end");
    assert!(rest.len() < 99 << 20, "all has come");
}
