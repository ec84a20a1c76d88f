//! The clients that camd's two oldest protocols were made for, and every way in which their bytes may arrive.

use std::collections::HashSet;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::common::{
    Camd, LISTENERS, assert_closed, connect, pattern, pull_announcement, pull_next, pull_parts,
    push_next, python, replay, run, send,
};

/// Runs a client script for `count` pictures; each must have been decoded, and they must not all be the same.
fn original(script: &str, address: SocketAddr, count: usize) {
    let output = run(python(script)
        .arg(address.port().to_string())
        .arg(count.to_string()));
    let text = String::from_utf8(output.stdout).expect("lines of text");
    let pictures: Vec<&str> = text.lines().collect();
    assert_eq!(pictures.len(), count, "{text}");
    assert!(
        pictures
            .iter()
            .all(|picture| picture.starts_with("320x240 ")),
        "{text}"
    );
    let different: HashSet<_> = pictures.iter().collect();
    assert!(
        different.len() > count / 2,
        "the picture hardly moves: {text}"
    );
}

#[test]
fn push_client_with_opencv() {
    let camd = Camd::start(&pattern());
    original("push_client.py", camd.push(), 20);
}

#[test]
fn pull_client_with_qt() {
    let camd = Camd::start(&pattern());
    original("pull_client.py", camd.pull(), 5);
}

#[test]
fn several_original_clients_at_once() {
    let camd = Camd::start(&pattern());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| original("push_client.py", camd.push(), 20));
            scope.spawn(|| original("pull_client.py", camd.pull(), 5));
        }
    });
}

/// A camera of ten pictures, none a multiple of the part size; fast, so that no test waits for a picture.
fn fast_camera(size: u32) -> (crate::common::Folder, Camd) {
    let (folder, camera) = replay(10, size as usize, 60);
    let camd = Camd::start(&format!("{camera}{LISTENERS}"));
    (folder, camd)
}

/// Sends in two writes that the server is likely to see apart, and that are correct in either case.
fn send_split(stream: &mut TcpStream, bytes: &[u8], at: usize) {
    send(stream, &bytes[..at]);
    std::thread::sleep(Duration::from_millis(15));
    send(stream, &bytes[at..]);
}

#[test]
fn push_sends_exactly_the_cameras_pictures() {
    let (folder, camd) = fast_camera(5000);
    let mut stream = connect(camd.push());
    let mut last = None;
    for _ in 0..30 {
        let picture = push_next(&mut stream);
        let number = (0..10)
            .find(|&number| picture == crate::common::jpeg(number, 5000))
            .expect("one of the camera's pictures, byte for byte");
        assert_ne!(Some(number), last, "the same picture twice");
        last = Some(number);
    }
    drop(folder);
}

#[test]
fn push_ignores_whatever_a_client_says() {
    let (_folder, camd) = fast_camera(5000);
    let mut stream = connect(camd.push());
    for chatter in [
        b"hello!".as_slice(),
        b"new_request",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xFF; 100_000],
    ] {
        send(&mut stream, chatter);
        push_next(&mut stream);
    }
    // Nothing more to say is no reason to stop listening.
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("a half-close");
    for _ in 0..20 {
        push_next(&mut stream);
    }
}

#[test]
fn pull_parts_wait_for_their_ack() {
    let (_folder, camd) = fast_camera(5000);
    let mut stream = connect(camd.pull());
    for _ in 0..3 {
        send(&mut stream, "new_request");
        let size = pull_announcement(&mut stream);
        assert_eq!(size, 5000);
        let mut picture = Vec::new();
        while picture.len() < size {
            // Many camera pictures later there is still nothing, and the announced picture has not changed.
            stream
                .set_read_timeout(Some(Duration::from_millis(100)))
                .expect("SO_RCVTIMEO");
            let mut byte = [0];
            let error = stream
                .read(&mut byte)
                .expect_err("nothing comes without an ack");
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            stream
                .set_read_timeout(Some(crate::common::PATIENCE))
                .expect("SO_RCVTIMEO");
            send(&mut stream, "ack");
            let mut part = vec![0; (size - picture.len()).min(1380)];
            stream.read_exact(&mut part).expect("a part");
            picture.extend(part);
        }
        assert!((0..10).any(|number| picture == crate::common::jpeg(number, 5000)));
    }
}

#[test]
fn pull_gives_a_newer_picture_each_time() {
    let (_folder, camd) = fast_camera(2000);
    let mut stream = connect(camd.pull());
    let mut last = Vec::new();
    for _ in 0..30 {
        let picture = pull_next(&mut stream);
        assert_ne!(picture, last);
        last = picture;
    }
}

#[test]
fn pull_tokens_split_at_every_point() {
    let (_folder, camd) = fast_camera(3000);
    let mut stream = connect(camd.pull());
    for at in 1..b"new_request".len() {
        send_split(&mut stream, b"new_request", at);
        let size = pull_announcement(&mut stream);
        let mut picture = vec![0; size];
        for part in picture.chunks_mut(1380) {
            send_split(&mut stream, b"ack", 1 + at % 2);
            stream.read_exact(part).expect("a part");
        }
        crate::common::assert_jpeg(&picture);
    }
}

#[test]
fn pull_tokens_glued_and_separated() {
    let (_folder, camd) = fast_camera(1000);
    let mut stream = connect(camd.pull());
    // The separators that telnet, println and C strings add.
    for (request, ack) in [
        ("new_request", "ack"),
        ("new_request\n", "ack\n"),
        ("new_request\r\n", "ack\r\n"),
        ("\0new_request\0", "\0ack\0"),
        ("  new_request ", " ack  "),
        ("\r\n \0\r\nnew_request", "\0\0\0ack"),
    ] {
        send(&mut stream, request);
        let size = pull_announcement(&mut stream);
        send(&mut stream, ack);
        let mut picture = vec![0; size];
        stream
            .read_exact(&mut picture)
            .expect("a picture of one part");
        crate::common::assert_jpeg(&picture);
        // The optional ack of the last part, glued to what follows: the next round's request, or another such ack.
        send(&mut stream, ack);
    }
    send(&mut stream, "ackacknew_request");
    let size = pull_announcement(&mut stream);
    pull_parts(&mut stream, size);
    send(&mut stream, "\nack\n\n\0ack new_request\r\n");
    let size = pull_announcement(&mut stream);
    pull_parts(&mut stream, size);
}

#[test]
fn pull_remembers_one_request_during_a_transfer() {
    let (_folder, camd) = fast_camera(4000);
    // At every stage of the transfer: announced, first part, second part.
    for stage in 0..3 {
        let mut stream = connect(camd.pull());
        send(&mut stream, "new_request");
        let size = pull_announcement(&mut stream);
        let mut picture = vec![0; size];
        for (i, part) in picture.chunks_mut(1380).enumerate() {
            if i == stage {
                // Glued with the ack, before or behind it.
                let tokens = if stage == 1 {
                    "new_requestack"
                } else {
                    "acknew_request"
                };
                send(&mut stream, tokens);
            } else {
                send(&mut stream, "ack");
            }
            stream.read_exact(part).expect("a part");
        }
        crate::common::assert_jpeg(&picture);
        // It is served without being repeated.
        let size = pull_announcement(&mut stream);
        let next = pull_parts(&mut stream, size);
        assert_ne!(picture, next);
    }
}

#[test]
fn pull_violations_close_that_client_alone() {
    let (_folder, camd) = fast_camera(4000);
    let mut witness = connect(camd.pull());
    pull_next(&mut witness);
    for (violation, announced) in [
        // In idle.
        ("GET / HTTP/1.1\r\n\r\n", false),
        ("new_requesT", false),
        ("new request", false),
        ("acx", false),
        // After the announcement.
        ("new_requestnew_request", true),
        ("ok", true),
        ("new_requestx", true),
    ] {
        let mut stream = connect(camd.pull());
        if announced {
            send(&mut stream, "new_request");
            pull_announcement(&mut stream);
        }
        send(&mut stream, violation);
        assert_closed(&mut stream);
        pull_next(&mut witness);
    }
    let log = camd.log();
    assert_eq!(
        log.matches("violation of the protocol").count(),
        7,
        "one line for each violation:\n{log}"
    );
}

#[test]
fn pull_without_ack_is_closed_by_the_deadline() {
    let (_folder, camera) = replay(10, 4000, 60);
    let camd = Camd::start(&format!("{camera}{LISTENERS}[limits]\nack_timeout_s = 1\n"));
    let mut announced = connect(camd.pull());
    send(&mut announced, "new_request");
    pull_announcement(&mut announced);
    let mut within = connect(camd.pull());
    send(&mut within, "new_request");
    pull_announcement(&mut within);
    send(&mut within, "ack");
    within.read_exact(&mut [0; 1380]).expect("the first part");
    // A client that asks for nothing may stay as long as it likes.
    let mut idle = connect(camd.pull());
    pull_next(&mut idle);
    assert_closed(&mut announced);
    assert_closed(&mut within);
    std::thread::sleep(Duration::from_millis(1500));
    pull_next(&mut idle);
}
