//! call: the records as Qt writes and reads them, and conversations of Qt's programs with the camera and each other.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use camd::protocol::call::{self, Kind, Longest, Record, content_len, write_content};
use serde_json::{Value, json};

use crate::common::{Camd, PATIENCE, python, run};

// --- the records ---

const LONGEST: Longest = Longest {
    picture: camd::limits::RECORD,
    control: camd::limits::CONTROL_RECORD,
};

/// The fields of a record in a report. Qt tells null from empty, camd does not.
struct Fields<'a> {
    sender: Option<&'a str>,
    receiver: Option<&'a str>,
    content: Option<&'a str>,
    kind: Kind,
}

impl<'a> Fields<'a> {
    fn of(report: &'a Value) -> Fields<'a> {
        let number = report["type"].as_i64().expect("a type");
        Fields {
            sender: report["sender"].as_str(),
            receiver: report["receiver"].as_str(),
            content: report["content"].as_str(),
            kind: Kind::from(i32::try_from(number).expect("a qint32")),
        }
    }

    fn texts(&self) -> [&'a str; 3] {
        [self.sender, self.receiver, self.content].map(Option::unwrap_or_default)
    }

    /// As camd writes it.
    fn written(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let [sender, receiver, content] = self.texts();
        call::write(&mut out, sender, receiver, content, self.kind);
        out
    }
}

fn reports(output: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| std::str::from_utf8(pair).expect("ASCII"))
        .map(|pair| u8::from_str_radix(pair, 16).expect("hex"))
        .collect()
}

fn utf16(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes
        .chunks(2)
        .map(|unit| u16::from_be_bytes(unit.try_into().expect("an even length")))
        .collect();
    String::from_utf16(&units).expect("UTF-16")
}

fn vectors() -> Vec<Value> {
    reports(&run(python("call_peer.py").arg("vectors")).stdout)
}

#[test]
fn qt_writes_what_camd_writes_and_parses() {
    let vectors = vectors();
    let mut kinds = HashSet::new();
    let mut nulls = 0;
    for vector in &vectors {
        let qt = from_hex(vector["hex"].as_str().expect("hex"));
        let fields = Fields::of(vector);
        kinds.insert(fields.kind.number());
        // All versions of QDataStream's format write the same.
        assert!(vector["versions"].as_u64() >= Some(20), "{vector}");
        assert_eq!(vector["unlike"], json!([]), "{vector}");

        let record = Record::parse(&qt, LONGEST)
            .expect("no violation")
            .expect("a whole record");
        assert_eq!(record.bytes, qt, "{vector}");
        assert_eq!(record.kind, fields.kind);
        let texts = [record.sender, record.receiver, record.content].map(utf16);
        assert_eq!(texts, fields.texts());

        let has_null = [fields.sender, fields.receiver, fields.content].contains(&None);
        if has_null {
            nulls += 1;
            assert_ne!(qt, fields.written());
            // Empty and null differ in the length's four bytes, and in nothing else.
            assert_eq!(qt.len(), fields.written().len());
        } else {
            assert_eq!(qt, fields.written(), "{vector}");
        }
    }
    for number in [1, 2, 3, 54, 55, 56, 57, 58, 59, 10] {
        assert!(kinds.contains(&number), "{number}");
    }
    assert!(nulls >= 3);
}

#[test]
fn qt_writes_pictures_as_camd_does() {
    let vectors = vectors();
    let vector = vectors
        .iter()
        .find(|vector| vector["type"] == 57 && vector["content"] != "")
        .expect("a picture");
    let qt = from_hex(vector["hex"].as_str().expect("hex"));
    let record = Record::parse(&qt, LONGEST).unwrap().expect("a record");
    let (mut scratch, mut jpeg) = (vec![0; qt.len()], vec![0; qt.len()]);
    let len = record.picture(&mut scratch, &mut jpeg).expect("Base64");
    crate::common::assert_jpeg(&jpeg[..len]);

    let mut content = vec![0; content_len(len)];
    assert_eq!(
        write_content(&jpeg[..len], &mut content),
        Some(content.len())
    );
    // What is around it is written as in any other record.
    assert_eq!(content, record.content);
}

#[test]
fn qt_reads_what_camd_writes() {
    let vectors = vectors();
    let mut reader = python("call_peer.py")
        .arg("read")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python is there");
    let mut lines = String::new();
    for vector in &vectors {
        for byte in Fields::of(vector).written() {
            lines.push_str(&format!("{byte:02x}"));
        }
        lines.push('\n');
    }
    let mut stdin = reader.stdin.take().expect("it is piped");
    // It answers each line, and a pipe holds 64 KB.
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = reader.wait_with_output().expect("its end");
    writer.join().expect("no panic").expect("it reads all");
    assert!(output.status.success(), "{}", output.status);
    let read = reports(&output.stdout);
    assert_eq!(read.len(), vectors.len());
    for (read, vector) in read.iter().zip(&vectors) {
        assert_eq!(read["whole"], true, "{read}");
        let (read, wanted) = (Fields::of(read), Fields::of(vector));
        assert_eq!(read.texts(), wanted.texts());
        assert_eq!(read.kind, wanted.kind);
    }
}

// --- a program of Qt's ---

#[derive(Default)]
struct Reports {
    all: Mutex<Vec<Value>>,
    grown: Condvar,
}

/// `call_peer.py talk`, which does what it is told.
struct Peer {
    name: String,
    process: Child,
    words: Option<ChildStdin>,
    reports: Arc<Reports>,
    /// How many reports [`Peer::next`] has been through.
    read: usize,
}

/// A picture that a peer has sent or received.
#[derive(Debug)]
struct Picture {
    /// Seconds, on a clock that all processes share.
    at: f64,
    number: Option<u64>,
    sha256: String,
    report: Value,
}

impl Peer {
    /// Connects to the call listener.
    fn new(camd: &Camd, name: &str) -> Peer {
        let mut process = python("call_peer.py")
            .arg("talk")
            .arg(camd.call().port().to_string())
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python is there");
        let reports = Arc::new(Reports::default());
        let stdout = process.stdout.take().expect("it is piped");
        std::thread::spawn({
            let reports = reports.clone();
            let add = move |report| {
                reports.all.lock().expect("no holder panics").push(report);
                reports.grown.notify_all();
            };
            move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let whole = serde_json::from_str(&line);
                    add(whole.unwrap_or_else(|error| json!({"event": error.to_string()})));
                }
                add(json!({"event": "ended"}));
            }
        });
        let words = process.stdin.take();
        let mut peer = Peer {
            name: name.to_owned(),
            process,
            words,
            reports,
            read: 0,
        };
        peer.event("connected");
        peer
    }

    /// The same, and logs in with this password.
    fn log_in(camd: &Camd, name: &str, password: &str) -> Peer {
        let mut peer = Peer::new(camd, name);
        peer.send(Kind::Login, "", password);
        peer.message(Kind::LoginOk, "");
        peer
    }

    fn tell(&mut self, words: &str) {
        let stdin = self.words.as_mut().expect("it has not hung up");
        writeln!(stdin, "{words}").unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    fn send(&mut self, kind: Kind, receiver: &str, content: &str) {
        self.tell(&format!("send {} {receiver} {content}", kind.number()));
    }

    /// What became of all reports so far, once the condition gives something.
    fn wait<T>(&self, what: &str, condition: impl Fn(&[Value]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut reports = self.reports.all.lock().expect("no holder panics");
        loop {
            if let Some(found) = condition(&reports) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let last: Vec<String> =
                    reports.iter().rev().take(5).map(Value::to_string).collect();
                let all = reports.len();
                drop(reports);
                panic!(
                    "{}: no {what} after {all} reports, the last: {last:#?}",
                    self.name
                );
            }
            let woken = self.reports.grown.wait_timeout(reports, left);
            reports = woken.expect("no holder panics").0;
        }
    }

    /// The next report that is not about a picture.
    fn next(&mut self, what: &str) -> Value {
        let (read, report) = self.wait(what, |reports| {
            let new = reports.iter().enumerate().skip(self.read);
            new.filter(|(_, report)| report["event"] != "picture" && report["event"] != "sent")
                .map(|(index, report)| (index + 1, report.clone()))
                .next()
        });
        self.read = read;
        report
    }

    fn event(&mut self, event: &str) -> Value {
        let report = self.next(event);
        assert_eq!(report["event"], event, "{}: {report}", self.name);
        report
    }

    /// The next message is this one, to this peer.
    fn message(&mut self, kind: Kind, sender: &str) -> Value {
        let report = self.event("message");
        let fields = Fields::of(&report);
        assert_eq!(fields.kind, kind, "{}: {report}", self.name);
        assert_eq!(report["sender"], sender, "{}: {report}", self.name);
        assert_eq!(report["receiver"], *self.name, "{report}");
        report
    }

    fn ring(&mut self, other: &mut Peer) {
        self.send(Kind::Request, &other.name, "");
        assert_eq!(other.message(Kind::Request, &self.name)["content"], "");
    }

    fn call(&mut self, other: &mut Peer) {
        self.ring(other);
        other.send(Kind::Accept, &self.name, "");
        assert_eq!(self.message(Kind::Accept, &other.name)["content"], "");
    }

    fn stream(&mut self, receiver: &Peer) {
        self.tell(&format!("stream {} 10 30", receiver.name));
    }

    fn mute(&mut self) {
        self.tell("mute");
        self.event("muted");
    }

    fn pictures_of(&self, event: &str) -> Vec<Picture> {
        let reports = self.reports.all.lock().expect("no holder panics");
        let found = reports.iter().filter(|report| report["event"] == event);
        let picture = |report: &Value| Picture {
            at: at(report),
            number: report["number"].as_u64(),
            sha256: report["sha256"].as_str().unwrap_or_default().to_owned(),
            report: report.clone(),
        };
        found.map(picture).collect()
    }

    fn received(&self) -> Vec<Picture> {
        self.pictures_of("picture")
    }

    fn sent(&self) -> Vec<Picture> {
        self.pictures_of("sent")
    }

    /// Waits for so many more pictures.
    fn wait_more(&self, event: &str, count: usize) {
        let so_far = self.pictures_of(event).len();
        self.wait(&format!("{count} more: {event}"), |reports| {
            let now = reports.iter().filter(|report| report["event"] == event);
            (now.count() >= so_far + count).then_some(())
        });
    }

    /// A message and its answer later, everything that was sent before has had its effect.
    fn settle(&mut self) {
        self.send(Kind::Request, "nobody", "");
        self.message(Kind::Unavailable, "nobody");
    }

    /// As a crash does it.
    fn kill(mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("our child");
    }

    fn hang_up(&mut self) {
        drop(self.words.take());
        self.event("closed");
        assert!(self.process.wait().expect("our child").success());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail if it has ended already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn at(report: &Value) -> f64 {
    report["at"].as_f64().expect("a time")
}

/// What one peer received of the other, as its numbers: as it was sent, and in that order.
fn faithful(from: &Peer, to: &Peer) -> Vec<u64> {
    let received = to.received();
    // What one has said is known a moment later than what another has, perhaps.
    let last = received.iter().filter_map(|picture| picture.number).max();
    from.wait("report of the last picture received", |reports| {
        let mut sent = reports.iter().filter(|report| report["event"] == "sent");
        let known = last.is_none() || sent.any(|report| report["number"].as_u64() == last);
        known.then_some(())
    });
    let sent: BTreeMap<_, _> = from
        .sent()
        .into_iter()
        .map(|p| (p.number, p.sha256))
        .collect();
    let mut numbers = Vec::new();
    for picture in received {
        assert_eq!(picture.report["sender"], *from.name, "{}", picture.report);
        assert_eq!(picture.report["receiver"], *to.name, "{}", picture.report);
        assert_eq!(picture.report["width"], 160, "{}", picture.report);
        assert_eq!(Some(&picture.sha256), sent.get(&picture.number));
        numbers.push(picture.number.expect("every picture has one"));
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    numbers
}

fn median(mut values: Vec<f64>) -> f64 {
    assert!(values.len() >= 10, "only {values:?}");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median time from sending to receiving, of the pictures sent within these times.
fn delay(from: &Peer, to: &Peer, within: std::ops::Range<f64>) -> f64 {
    let sent: BTreeMap<_, _> = from.sent().into_iter().map(|p| (p.number, p.at)).collect();
    let delays = to.received().into_iter().filter_map(|picture| {
        let sent = sent.get(&picture.number)?;
        within.contains(sent).then_some(picture.at - sent)
    });
    median(delays.collect())
}

/// The median time between two pictures received within these times.
fn interval(to: &Peer, within: std::ops::Range<f64>) -> f64 {
    let times: Vec<f64> = to.received().iter().map(|picture| picture.at).collect();
    let pairs = times.windows(2).filter(|pair| within.contains(&pair[1]));
    median(pairs.map(|pair| pair[1] - pair[0]).collect())
}

/// The built-in moving picture, a call listener with these keys, and one for HTTP.
fn camera(keys: &str) -> Camd {
    Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\nfps = 30\nlinger_s = 0\n\
         [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nprotocol = \"call\"\nbind = \"127.0.0.1:0\"\n{keys}\n"
    ))
}

/// One client is the one that asks.
fn wait_for_clients(camd: &Camd, count: usize) {
    camd.wait_state(&format!("{count} clients"), |state| {
        state["clients"]
            .as_array()
            .is_some_and(|clients| clients.len() == count)
    });
}

// --- with the camera ---

#[test]
fn the_camera_is_rung_up_and_hung_up_on() {
    let camd = camera("password = \"secret\"");
    let mut alice = Peer::log_in(&camd, "alice", "secret");
    alice.send(Kind::Request, "camera", "");
    assert_eq!(alice.message(Kind::Accept, "camera")["content"], "");
    alice.wait_more("picture", 10);
    let pictures = alice.received();
    for picture in &pictures {
        let report = &picture.report;
        assert_eq!(
            (&report["sender"], &report["receiver"]),
            (&json!("camera"), &json!("alice"))
        );
        assert_eq!(
            (&report["width"], &report["height"]),
            (&json!(160), &json!(120)),
            "{report}"
        );
    }
    let different: HashSet<_> = pictures.iter().map(|picture| &picture.sha256).collect();
    assert!(different.len() > 7, "the picture hardly moves");
    // 5 a second; of all 30 that the camera has, ten would take 0.3 s.
    let taken = pictures[9].at - pictures[0].at;
    assert!(taken > 0.9, "10 pictures in {taken} s");

    // Impatient, as if the answer had been lost.
    alice.send(Kind::Request, "camera", "");
    alice.message(Kind::Accept, "camera");
    alice.wait_more("picture", 2);

    alice.send(Kind::End, "camera", "");
    alice.settle();
    let so_far = alice.received().len();
    std::thread::sleep(Duration::from_secs(1));
    alice.settle();
    assert_eq!(alice.received().len(), so_far, "pictures after END");

    alice.send(Kind::Request, "camera", "");
    alice.message(Kind::Accept, "camera");
    alice.wait_more("picture", 2);
    alice.hang_up();
    wait_for_clients(&camd, 1);
}

#[test]
fn calls_above_the_limit_are_rejected() {
    let camd = camera("calls = 1\nuser = \"Türkamera\"");
    let mut alice = Peer::log_in(&camd, "alice", "");
    let mut bob = Peer::log_in(&camd, "bob", "");
    alice.send(Kind::Request, "Türkamera", "");
    alice.message(Kind::Accept, "Türkamera");
    bob.send(Kind::Request, "Türkamera", "");
    assert_ne!(bob.message(Kind::Reject, "Türkamera")["content"], "");
    alice.wait_more("picture", 2);
    alice.kill();
    // The place is free when the relay has noticed.
    let deadline = Instant::now() + PATIENCE;
    loop {
        bob.send(Kind::Request, "Türkamera", "");
        let answer = bob.next("an answer");
        match Fields::of(&answer).kind {
            Kind::Reject => assert!(Instant::now() < deadline, "the place is not free"),
            kind => {
                assert_eq!(kind, Kind::Accept, "{answer}");
                break;
            }
        }
    }
    bob.wait_more("picture", 2);
}

#[test]
fn names_and_passwords() {
    let camd = camera("password = \"pässwörd €\"");
    let mut alice = Peer::new(&camd, "Aé€");
    alice.send(Kind::Login, "", "password");
    assert_ne!(alice.message(Kind::LoginRefused, "")["content"], "");
    alice.send(Kind::Login, "", "pässwörd €");
    assert_eq!(alice.message(Kind::LoginOk, "")["content"], "");

    for taken in ["Aé€", "camera"] {
        let mut other = Peer::new(&camd, taken);
        for _ in 0..3 {
            other.send(Kind::Login, "", "pässwörd €");
            assert_ne!(other.message(Kind::LoginRefused, "")["content"], "");
        }
        // The third is the last.
        other.event("closed");
    }

    // Who waits for the name gets it as soon as it is free.
    let mut other = Peer::new(&camd, "Aé€");
    other.send(Kind::Login, "", "pässwörd €");
    other.message(Kind::LoginRefused, "");
    alice.hang_up();
    wait_for_clients(&camd, 2);
    other.send(Kind::Login, "", "pässwörd €");
    other.message(Kind::LoginOk, "");

    // Nothing else is heard before that.
    let mut stranger = Peer::new(&camd, "stranger");
    stranger.send(Kind::Request, "camera", "");
    stranger.event("closed");
    other.settle();
}

// --- with each other ---

#[test]
fn two_talk_through_the_relay() {
    let camd = camera("");
    let mut alice = Peer::log_in(&camd, "Aé€", "");
    // Without a password, the first message is enough.
    let mut bob = Peer::new(&camd, "bob");
    bob.send(Kind::Other(10), "Aé€", "naïve \u{1f600}");
    assert_eq!(
        alice.message(Kind::Other(10), "bob")["content"],
        "naïve \u{1f600}"
    );

    for _ in 0..2 {
        alice.call(&mut bob);
        alice.stream(&bob);
        bob.stream(&alice);
        alice.wait_more("picture", 20);
        bob.wait_more("picture", 20);
        bob.mute();
        bob.send(Kind::End, "Aé€", "");
        assert_eq!(alice.message(Kind::End, "bob")["content"], "");
        alice.mute();
        for (from, to) in [(&alice, &bob), (&bob, &alice)] {
            // Drops are allowed, but nobody was slow.
            let (sent, received) = (from.sent().len(), faithful(from, to).len());
            assert!(2 * received > sent, "{received} of {sent}");
        }
    }

    bob.ring(&mut alice);
    alice.send(Kind::Reject, "bob", "not now, bob");
    assert_eq!(bob.message(Kind::Reject, "Aé€")["content"], "not now, bob");
    alice.hang_up();
    bob.settle();
    bob.send(Kind::Request, "Aé€", "");
    bob.message(Kind::Unavailable, "Aé€");
}

#[test]
fn one_who_stalls_delays_nobody_else() {
    let camd = camera("[limits]\nwrite_timeout_s = 5");
    let [mut alice, mut bob, mut carol, mut dave, mut erin] =
        ["alice", "bob", "carol", "dave", "erin"].map(|name| Peer::log_in(&camd, name, ""));
    alice.call(&mut bob);
    carol.call(&mut dave);
    erin.send(Kind::Request, "camera", "");
    erin.message(Kind::Accept, "camera");
    alice.stream(&bob);
    bob.stream(&alice);
    carol.stream(&dave);
    dave.stream(&carol);
    // Three seconds, in which the others get twice as many.
    erin.wait_more("picture", 15);

    // dave reads nothing from here on, and sends on.
    dave.tell("stall");
    let stalled = at(&dave.event("stalled"));
    // carol is heard meanwhile, though dave does not take what she sends him.
    carol.wait_more("sent", 20);
    carol.send(Kind::Other(10), "alice", "still here");
    let heard = at(&alice.message(Kind::Other(10), "carol"));
    let ended = at(&carol.message(Kind::End, "dave"));
    assert!(
        heard < ended,
        "the relay hears carol only when dave is gone"
    );
    for peer in [&alice, &bob, &erin] {
        peer.wait_more("picture", 1);
    }

    let (before, during) = (0.0..stalled, stalled..ended);
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        faithful(from, to);
        let [before, during] = [&before, &during].map(|within| delay(from, to, within.clone()));
        println!(
            "{} to {}: {before:.4} s, then {during:.4} s",
            from.name, to.name
        );
        assert!(during < 3.0 * before + 0.05, "{before} s, then {during} s");
    }
    // carol still sees what dave sends, and erin the camera.
    for to in [&carol, &erin] {
        let [before, during] = [&before, &during].map(|within| interval(to, within.clone()));
        println!("{}: one each {before:.4} s, then {during:.4} s", to.name);
        assert!(during < 1.5 * before + 0.05, "{before} s, then {during} s");
    }
    let dropped = carol.sent().len() - faithful(&carol, &dave).len();
    assert!(dropped > 10, "dave must have missed some");

    // He comes back, and it is as if nothing had been.
    carol.mute();
    dave.tell("resume");
    dave.event("closed");
    dave.tell("connect");
    dave.event("connected");
    faithful(&carol, &dave);
    dave.send(Kind::Login, "", "");
    dave.message(Kind::LoginOk, "");
    dave.call(&mut carol);
    carol.stream(&dave);
    dave.wait_more("picture", 3);
}

#[test]
fn a_crash_ends_the_call_and_frees_the_name() {
    let camd = camera("");
    let mut alice = Peer::log_in(&camd, "alice", "");
    let mut bob = Peer::log_in(&camd, "bob", "");
    alice.call(&mut bob);
    alice.stream(&bob);
    bob.stream(&alice);
    alice.wait_more("picture", 3);
    bob.kill();
    let mut bob = Peer::log_in(&camd, "bob", "");
    alice.message(Kind::End, "bob");
    alice.mute();

    // While it rings, whichever side it is.
    alice.ring(&mut bob);
    bob.kill();
    let mut bob = Peer::log_in(&camd, "bob", "");
    alice.message(Kind::End, "bob");
    bob.ring(&mut alice);
    bob.kill();
    let mut bob = Peer::log_in(&camd, "bob", "");
    alice.message(Kind::End, "bob");

    alice.call(&mut bob);
    bob.stream(&alice);
    alice.wait_more("picture", 3);
}

#[test]
fn messages_are_neither_lost_nor_reordered_among_pictures() {
    const COUNT: usize = 1000;
    let camd = camera("");
    let mut alice = Peer::log_in(&camd, "alice", "");
    let mut bob = Peer::log_in(&camd, "bob", "");
    alice.call(&mut bob);
    alice.stream(&bob);
    bob.stream(&alice);
    alice.wait_more("picture", 3);
    alice.tell(&format!("count 10 bob {COUNT}"));
    bob.tell(&format!("count -7 alice {COUNT}"));
    for number in 0..COUNT {
        let number = number.to_string();
        assert_eq!(bob.message(Kind::Other(10), "alice")["content"], number);
        assert_eq!(alice.message(Kind::Other(-7), "bob")["content"], number);
    }
    alice.wait_more("picture", 3);
    bob.wait_more("picture", 3);
    faithful(&alice, &bob);
    faithful(&bob, &alice);
}

#[test]
fn glare_becomes_one_call() {
    let camd = camera("");
    let mut alice = Peer::log_in(&camd, "alice", "");
    let mut bob = Peer::log_in(&camd, "bob", "");
    // To the relay, it is all the same whether bob had heard of it when he rang.
    alice.ring(&mut bob);
    bob.send(Kind::Request, "alice", "");
    alice.message(Kind::Accept, "bob");
    bob.message(Kind::Accept, "alice");
    bob.stream(&alice);
    alice.wait_more("picture", 3);
    alice.send(Kind::End, "bob", "");
    bob.message(Kind::End, "alice");
    bob.mute();
    // To oneself.
    alice.send(Kind::Request, "alice", "");
    alice.message(Kind::Reject, "alice");
}
