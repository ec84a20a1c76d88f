//! What lies around a picture, with each source that gets JPEGs from elsewhere: one picture goes out, from its start to its
//! own end, or none.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::relay::Relay;
use crate::common::{Camd, Folder, LISTENERS, Stream, jpeg, push_wire};

/// What came as a picture, and the picture in it; `None`: it is damaged.
type Case = (&'static str, Vec<u8>, Option<Vec<u8>>);

/// Pictures in all kinds of company, and damaged ones in between.
fn cases() -> Vec<Case> {
    let whole = |number| jpeg(number, 3000);
    let older = jpeg(99, 9000);
    let tail = &older[older.len() - 700..];
    let mut cases: Vec<Case> = vec![("nothing around it", whole(0), Some(whole(0)))];
    let mut good = |what, before: &[u8], behind: &[u8]| {
        let jpeg = whole(cases.len() as u32);
        cases.push((what, [before, &jpeg, behind].concat(), Some(jpeg)));
    };
    good("two starts", &[0xFF, 0xD8], &[]);
    good("four starts", &[0xFF, 0xD8].repeat(3), &[]);
    good("text before it", b"Content-Length: 3000\r\n\r\n", &[]);
    good(
        "a start that breaks off in a segment",
        b"\xFF\xD8\xFF\xE0\0\x10JF",
        &[],
    );
    good(
        "a start that breaks off in its tables",
        &older[older.len() - 500..][..200],
        &[],
    );
    good("two ends", &[], &[0xFF, 0xD9]);
    good("zeros behind it", &[], &[0; 4096]);
    good("the rest of an older one behind it", &[], tail);
    good(
        "all of that",
        &[0, 0xFF, 0xD8],
        &[&[0xFF, 0xD9], tail].concat(),
    );
    let broken = |at: usize, behind: &[u8]| {
        let jpeg = jpeg(7, 4000);
        [&jpeg[..jpeg.len() - at], behind].concat()
    };
    // In this order each is followed by a whole one.
    let damaged: [Case; 4] = [
        ("its end is missing", broken(300, &[]), None),
        ("it has an end too early", broken(300, &[0xFF, 0xD9]), None),
        (
            "it ends as another one does",
            broken(300, &tail[650..]),
            None,
        ),
        ("its start is missing", whole(7)[2..].to_vec(), None),
    ];
    for (n, case) in damaged.into_iter().enumerate() {
        cases.insert(2 * n + 1, case);
    }
    cases
}

/// A viewer sees the good ones in their order, over and over, byte for byte, and nothing else.
fn assert_shows(camd: &Camd, source: &str) {
    let good: Vec<_> = cases()
        .into_iter()
        .filter_map(|(what, _, good)| Some((what, good?)))
        .collect();
    let mut stream = Stream::open(camd.http(), "/stream");
    let mut seen = vec![false; good.len()];
    for _ in 0..4 * good.len() {
        let part = stream.next().jpeg;
        let which = good.iter().position(|(_, jpeg)| *jpeg == part);
        let Some(which) = which else {
            panic!(
                "{source}: {} bytes that are no picture of these",
                part.len()
            );
        };
        seen[which] = true;
    }
    for ((what, _), seen) in good.iter().zip(&seen) {
        assert!(seen, "{source}: {what}: not shown");
    }
    let bad = camd.state()["camera"]["bad"].as_u64();
    assert!(bad > Some(0), "{source}: damaged ones are counted");
}

#[test]
fn a_push_server_whose_pictures_have_company() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let cases = Arc::new(cases());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, cases) = (stream.expect("a connection"), cases.clone());
            thread::spawn(move || {
                for (_, bytes, _) in cases.iter().cycle() {
                    if stream.write_all(&push_wire(bytes)).is_err() {
                        return;
                    }
                    thread::sleep(Duration::from_millis(15));
                }
            });
        }
    });
    let camd = Camd::start(&format!(
        "[camera]\nsource = \"push\"\naddress = \"{address}\"\nfps = 240\n{LISTENERS}"
    ));
    assert_shows(&camd, "push");
}

#[test]
fn files_whose_pictures_have_company() {
    let folder = Folder::new();
    for (n, (_, bytes, _)) in cases().iter().enumerate() {
        folder.file(&format!("{n}.jpg"), bytes);
    }
    let all: Vec<u8> = cases()
        .into_iter()
        .flat_map(|(_, bytes, _)| bytes)
        .collect();
    let stream = folder.file("all.mjpeg", all);
    for path in [folder.path(), &stream] {
        let camd = Camd::start(&format!(
            "[camera]\nsource = \"replay\"\npath = {path:?}\nfps = 60\n{LISTENERS}"
        ));
        assert_shows(&camd, "replay");
    }
}

#[test]
fn a_program_whose_pictures_have_company() {
    let folder = Folder::new();
    for (n, (_, bytes, _)) in cases().iter().enumerate() {
        folder.file(&format!("{n:02}"), bytes);
    }
    let script = format!(
        "while :; do for one in {}/[0-9]*; do cat $one; sleep 0.015; done; done",
        folder.path().display()
    );
    let camd = Camd::start(&format!(
        "[camera]\nsource = \"pipe\"\ncommand = [\"sh\", \"-c\", {script:?}]\nfps = 240\n{LISTENERS}"
    ));
    assert_shows(&camd, "pipe");
}

#[test]
fn a_caller_whose_pictures_have_company() {
    let relay = Relay::new();
    let camd = Camd::start(&format!("{}{LISTENERS}", relay.camera("127.0.0.1", 0)));
    thread::scope(|scope| {
        let shown = scope.spawn(|| assert_shows(&camd, "call"));
        let mut caller = relay.answer();
        for (_, bytes, _) in cases().iter().cycle() {
            if shown.is_finished() {
                break;
            }
            caller.picture(bytes);
        }
        shown.join().expect("what a viewer sees");
    });
}
