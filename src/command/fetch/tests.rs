//! Each test scripts a server on loopback: what it sends, in which pieces, and what it expects to be sent.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::film::Muxer;
use super::pictures::PICTURE_LIMIT;
use super::*;
use crate::picture::h264;

/// A JPEG as far as a receiver looks: `size` bytes, SOI first, EOI last.
fn jpeg(size: usize, seed: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..size)
        .map(|i| (i as u8).wrapping_mul(31) ^ seed)
        .collect();
    bytes[..2].copy_from_slice(&[0xFF, 0xD8]);
    bytes[size - 2..].copy_from_slice(&[0xFF, 0xD9]);
    bytes
}

/// A folder of its own, removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("camd-fetch-{}-{next}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    /// The files by name, with their content.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    fn pictures(&self) -> Vec<Vec<u8>> {
        self.files().into_iter().map(|(_, bytes)| bytes).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Serves one connection by `script`; a panic in it fails the test when `fetch_from` joins.
fn serve(script: impl FnOnce(TcpStream) + Send + 'static) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        script(stream);
    });
    (port, server)
}

/// Fetches into a new folder from a server with this script.
fn fetch_from(
    scheme: &str,
    path: &str,
    count: u64,
    script: impl FnOnce(TcpStream) + Send + 'static,
) -> (Result<Summary, FetchError>, Folder) {
    let folder = Folder::new();
    let output = Output::Dir(folder.0.clone());
    let result = fetch_to(output, &format!("{scheme}://"), path, count, script);
    (result, folder)
}

/// As [`fetch_from`]; `before` and `after` the host and port in the URL.
fn fetch_to(
    output: Output,
    before: &str,
    after: &str,
    count: u64,
    script: impl FnOnce(TcpStream) + Send + 'static,
) -> Result<Summary, FetchError> {
    let (port, server) = serve(script);
    let result = run(&FetchOptions {
        fingerprint: None,
        url: format!("{before}127.0.0.1:{port}{after}"),
        count,
        output,
        film: FilmOptions::default(),
        timeout: Duration::from_secs(10),
    });
    if server.join().is_err() {
        panic!("the server's script failed; the receiver says {result:?}");
    }
    result
}

fn protocol_error(result: Result<Summary, FetchError>) -> String {
    match result {
        Err(FetchError::Protocol(text)) => text,
        other => panic!("a protocol error was expected, got {other:?}"),
    }
}

/// Sends in pieces of `size` bytes that do not merge on the way more than TCP pleases.
fn send_in_pieces(stream: &mut TcpStream, bytes: &[u8], size: usize) {
    for piece in bytes.chunks(size) {
        if stream.write_all(piece).is_err() {
            // The receiver has all it wants, or has refused what it got.
            return;
        }
        std::thread::yield_now();
    }
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&got),
        String::from_utf8_lossy(bytes)
    );
}

/// The request's head, up to and with the empty line.
fn read_request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

// --- push ---

fn push_wire(pictures: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for picture in pictures {
        let length = (picture.len() as i32).to_le_bytes();
        wire.extend([length, length].concat());
        wire.extend(picture);
    }
    wire
}

#[test]
fn push_split_and_glued() {
    for piece in [1, 7, 8, 9, 100, usize::MAX] {
        let pictures = [jpeg(300, 1), jpeg(4, 2), jpeg(301, 3)];
        let wire = push_wire(&pictures);
        let (result, folder) = fetch_from("push", "", 3, move |mut stream| {
            send_in_pieces(&mut stream, &wire, piece.min(wire.len()));
        });
        let summary = result.unwrap();
        assert_eq!((summary.pictures, summary.bytes), (3, 605));
        assert_eq!(folder.pictures(), pictures);
    }
}

#[test]
fn push_lengths_that_lie_are_refused() {
    let limit = PICTURE_LIMIT as i32;
    for (first, second) in [
        (0, 0),
        (-1, -1),
        (i32::MIN, i32::MIN),
        (i32::MAX, i32::MAX),
        (limit + 1, limit + 1),
        (100, 101),
        (100, 0),
        (100, -100),
    ] {
        let (result, folder) = fetch_from("push", "", 1, move |mut stream| {
            stream
                .write_all(&[first.to_le_bytes(), second.to_le_bytes()].concat())
                .unwrap();
        });
        let text = protocol_error(result);
        assert!(text.contains(&format!("{first} and {second}")), "{text}");
        assert!(folder.files().is_empty());
    }
}

#[test]
fn the_largest_picture_is_taken() {
    let picture = jpeg(PICTURE_LIMIT, 9);
    let wire = push_wire(std::slice::from_ref(&picture));
    let (result, folder) = fetch_from("push", "", 1, move |mut stream| {
        stream.write_all(&wire).unwrap();
    });
    assert_eq!(result.unwrap().bytes, PICTURE_LIMIT as u64);
    assert_eq!(folder.pictures(), [picture]);
}

#[test]
fn what_is_not_a_jpeg_is_refused() {
    let (result, folder) = fetch_from("push", "", 1, |mut stream| {
        stream.write_all(&push_wire(&[b"GIF89a".to_vec()])).unwrap();
    });
    assert!(protocol_error(result).contains("not a JPEG"));
    assert!(folder.files().is_empty());
}

#[test]
fn a_connection_that_ends_early_is_named() {
    let whole = push_wire(&[jpeg(100, 1)]);
    for (sent, what) in [
        (0, "instead of sending a picture"),
        (5, "within a push header"),
        (50, "within a picture"),
    ] {
        let wire = whole[..sent].to_vec();
        let (result, folder) = fetch_from("push", "", 1, move |mut stream| {
            stream.write_all(&wire).unwrap();
        });
        match result {
            Err(FetchError::Connection(text)) => assert!(text.contains(what), "{text}"),
            other => panic!("{sent} bytes: {other:?}"),
        }
        assert!(folder.files().is_empty());
    }
}

// --- raw ---

/// As [`jpeg`], but with markers that can be walked: a comment, and a scan of `fill`.
fn walkable(size: usize, fill: u8) -> Vec<u8> {
    let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xFE, 0, 4, 0xFF, 0xD9, 0xFF, 0xDA, 0, 2];
    bytes.resize(size - 2, fill);
    bytes.extend([0xFF, 0xD9]);
    bytes
}

#[test]
fn raw_split_and_glued() {
    for piece in [1, 2, 7, 100, usize::MAX] {
        let pictures = [walkable(300, 1), walkable(20, 2), walkable(301, 3)];
        // Between them, a camera's padding.
        let wire = [
            &pictures[0][..],
            &[0; 5],
            &pictures[1],
            &[0xFF],
            &pictures[2],
        ]
        .concat();
        let (result, folder) = fetch_from("raw", "", 3, move |mut stream| {
            send_in_pieces(&mut stream, &wire, piece.min(wire.len()));
        });
        let summary = result.unwrap();
        assert_eq!((summary.pictures, summary.bytes), (3, 621));
        assert_eq!(folder.pictures(), pictures);
    }
}

#[test]
fn a_raw_stream_may_end_behind_a_picture_only() {
    let whole = walkable(300, 1);
    let folder = Folder::new();
    let wire = whole.repeat(2);
    let summary = fetch_to(
        Output::Dir(folder.0.clone()),
        "raw://",
        "",
        0,
        move |mut stream| {
            stream.write_all(&wire).unwrap();
        },
    );
    assert_eq!(summary.unwrap().pictures, 2);
    for (sent, what) in [
        (0, "instead of sending a picture"),
        (1, "instead of sending a picture"),
        (200, "within a picture"),
        (300, "after 1 of 2 pictures"),
        (500, "within a picture"),
    ] {
        let wire = whole.repeat(2)[..sent].to_vec();
        let (result, folder) = fetch_from("raw", "", 2, move |mut stream| {
            stream.write_all(&wire).unwrap();
        });
        match result {
            Err(FetchError::Connection(text)) => assert!(text.contains(what), "{sent}: {text}"),
            other => panic!("{sent} bytes: {other:?}"),
        }
        assert_eq!(folder.pictures().len(), usize::from(sent >= 300));
    }
}

#[test]
fn what_is_no_raw_stream_is_refused() {
    let whole = walkable(300, 1);
    let push = push_wire(std::slice::from_ref(&whole));
    // A picture without its end, and another one behind it.
    let cut = [&whole[..200], &whole].concat();
    let large = [&whole[..298], &vec![1; PICTURE_LIMIT], &whole].concat();
    for (wire, what) in [
        (push, "a JPEG expected, which begins with FF D8"),
        (b"\xFFHTTP/1.1 400\r\n".to_vec(), "a JPEG expected"),
        (cut, "a damaged picture"),
        (large, "a picture of more than 16777216 bytes"),
    ] {
        let (result, folder) = fetch_from("raw", "", 1, move |mut stream| {
            let size = wire.len();
            send_in_pieces(&mut stream, &wire, size);
        });
        let text = protocol_error(result);
        assert!(text.contains(what), "{text}");
        assert!(folder.files().is_empty());
    }
}

// --- pull ---

/// Serves the pictures as the original does: announce, then a part for each ack.
fn serve_pull(stream: &mut TcpStream, pictures: &[Vec<u8>], last_ack: bool) {
    for (i, picture) in pictures.iter().enumerate() {
        if i > 0 && last_ack {
            expect(stream, b"ack");
        }
        expect(stream, b"new_request");
        write!(stream, "newImage:{}", picture.len()).unwrap();
        for part in picture.chunks(1380) {
            expect(stream, b"ack");
            send_in_pieces(stream, part, 1000);
        }
    }
}

#[test]
fn pull_follows_the_original_sequence() {
    let pictures = [jpeg(4, 1), jpeg(1380, 2), jpeg(1381, 3), jpeg(10_000, 4)];
    let served = pictures.clone();
    let (result, folder) = fetch_from("pull", "", 4, move |mut stream| {
        serve_pull(&mut stream, &served, true);
        // Nothing may follow the last picture but the end.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    });
    assert_eq!(result.unwrap().pictures, 4);
    assert_eq!(folder.pictures(), pictures);
}

#[test]
fn pull_size_split_at_every_point() {
    let picture = jpeg(2345, 5);
    let announcement = b"newImage:2345";
    for split in 1..announcement.len() {
        let served = picture.clone();
        let (result, folder) = fetch_from("pull", "", 1, move |mut stream| {
            expect(&mut stream, b"new_request");
            stream.write_all(&announcement[..split]).unwrap();
            // Long enough that the receiver sees the pieces apart; correct in either case.
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(&announcement[split..]).unwrap();
            expect(&mut stream, b"ack");
            stream.write_all(&served[..1380]).unwrap();
            expect(&mut stream, b"ack");
            stream.write_all(&served[1380..]).unwrap();
        });
        assert_eq!(result.unwrap().pictures, 1, "split at {split}");
        assert_eq!(folder.pictures(), std::slice::from_ref(&picture));
    }
}

#[test]
fn pull_announcements_that_lie_are_refused() {
    for (announcement, why) in [
        ("newImage:0", "size that is not from 1"),
        ("newImage:16777217", "size that is not from 1"),
        (
            "newImage:99999999999999999999999",
            "size that is not from 1",
        ),
        ("newImage:-5", "without a decimal size"),
        ("newImage: 5", "without a decimal size"),
        ("\r\n\0 newImage:x", "without a decimal size"),
        ("newimage:5", "expected, got \"newimage:5\""),
        (
            "HTTP/1.1 400 Bad Request\r\n\x1b[2J",
            "got \"HTTP/1.1 400 Bad Request\"",
        ),
    ] {
        let (result, folder) = fetch_from("pull", "", 1, move |mut stream| {
            expect(&mut stream, b"new_request");
            stream.write_all(announcement.as_bytes()).unwrap();
        });
        let text = protocol_error(result);
        assert!(text.contains(why), "{announcement:?}: {text}");
        assert!(folder.files().is_empty());
    }
}

// --- HTTP ---

/// Fetches `/stream` from a server that answers with exactly these bytes, in pieces of `piece` bytes, and closes.
fn fetch_answer(
    answer: impl Into<Vec<u8>>,
    count: u64,
    piece: usize,
) -> (Result<Summary, FetchError>, Folder) {
    let answer = answer.into();
    fetch_from("http", "/stream?x", count, move |mut stream| {
        let request = read_request(&mut stream);
        assert!(
            request.starts_with("GET /stream?x HTTP/1.0\r\nHost: 127.0.0.1:"),
            "{request}"
        );
        send_in_pieces(&mut stream, &answer, piece.min(answer.len()));
    })
}

/// An answer as camd gives it.
fn camd_stream(pictures: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = b"HTTP/1.1 200 OK\r\n\
        Content-Type: multipart/x-mixed-replace; boundary=camdframe\r\n\
        Cache-Control: no-store\r\n\r\n--camdframe\r\n"
        .to_vec();
    for picture in pictures {
        wire.extend(
            format!(
                "Content-Type: image/jpeg\r\nContent-Length: {}\r\nX-Timestamp: 1.000001\r\n\r\n",
                picture.len()
            )
            .bytes(),
        );
        wire.extend(picture);
        wire.extend(b"\r\n--camdframe\r\n");
    }
    wire
}

#[test]
fn multipart_split_and_glued() {
    let mut pictures = [jpeg(500, 1), jpeg(4, 2), jpeg(501, 3)];
    // A boundary within a picture of known length is a part of the picture.
    pictures[0][100..115].copy_from_slice(b"\r\n--camdframe\r\n");
    for piece in [1, 5, 64, usize::MAX] {
        let (result, folder) = fetch_answer(camd_stream(&pictures), 3, piece);
        assert_eq!(result.unwrap().pictures, 3);
        assert_eq!(folder.pictures(), pictures);
    }
}

#[test]
fn multipart_of_other_servers() {
    let picture = jpeg(400, 7);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // The head of the answer, what introduces each picture, what follows it.
    for (content_type, before, after) in [
        // A quoted boundary with other parameters around it; parts without a length.
        (
            "Multipart/X-Mixed-Replace; charset=x; Boundary=\"a b=c\"; q",
            "--a b=c\r\nContent-Type: image/jpeg\r\n\r\n",
            "\r\n",
        ),
        // Hyphens in the parameter already.
        (
            "multipart/x-mixed-replace;boundary=--ipcamera",
            "--ipcamera\r\nContent-Length: 400\r\n\r\n",
            "\r\n",
        ),
        // No line end between picture and boundary, lower-case field.
        (
            "multipart/x-mixed-replace;boundary=b",
            "--b\r\ncontent-length:400\r\n\r\n",
            "",
        ),
        // Bare line feeds, white space behind the boundary, no fields at all.
        ("multipart/x-mixed-replace; boundary=b", "--b \t\n\n", "\n"),
    ] {
        let mut wire =
            format!("HTTP/1.0 200 OK\r\nContent-Type: {content_type}\r\n\r\n").into_bytes();
        for _ in 0..3 {
            wire.extend(before.bytes());
            wire.extend(&picture);
            wire.extend(after.bytes());
        }
        wire.extend(before.lines().next().unwrap().trim_end().bytes());
        wire.extend(b"--");
        for piece in [1, 399, usize::MAX] {
            // Endless, and the closing delimiter is its orderly end.
            let (result, folder) = fetch_answer(wire.clone(), 0, piece);
            assert_eq!(result.unwrap().pictures, 3, "{}", text(&wire));
            assert_eq!(
                folder.pictures(),
                vec![picture.clone(); 3],
                "{content_type}"
            );
        }
    }
}

#[test]
fn a_delimiter_split_at_every_point_ends_a_part_without_a_length() {
    let picture = jpeg(50, 6);
    let delimiter = b"\r\n--bound\r\n\r\n";
    for split in 1..delimiter.len() {
        let served = picture.clone();
        let (result, folder) = fetch_from("http", "/", 2, move |mut stream| {
            read_request(&mut stream);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=bound\r\n\r\n";
            let start = [
                head.as_bytes(),
                &delimiter[2..],
                &served,
                &delimiter[..split],
            ];
            stream.write_all(&start.concat()).unwrap();
            // Long enough that the receiver sees the pieces apart; correct in either case.
            std::thread::sleep(Duration::from_millis(20));
            let rest = [&delimiter[split..], &served, b"\n--bound--"];
            stream.write_all(&rest.concat()).unwrap();
        });
        assert_eq!(result.unwrap().pictures, 2, "split at {split}");
        assert_eq!(folder.pictures(), vec![picture.clone(); 2]);
    }
}

#[test]
fn a_preamble_is_skipped() {
    let mut wire = camd_stream(&[jpeg(10, 1)]);
    let at = wire.len() - b"\r\n--camdframe\r\n".len() - 10;
    let head = String::from_utf8(wire[..at].to_vec()).unwrap();
    let head = head.replacen(
        "\r\n\r\n",
        "\r\n\r\nThis is multipart.\r\n--camdfram\r\n",
        1,
    );
    wire.splice(..at, head.into_bytes());
    let (result, _folder) = fetch_answer(wire, 1, 3);
    assert_eq!(result.unwrap().pictures, 1);
}

#[test]
fn the_end_of_a_stream_before_the_count_is_an_error() {
    let mut wire = camd_stream(&[jpeg(10, 1)]);
    wire.truncate(wire.len() - 2);
    wire.extend(b"--\r\n");
    let (result, _folder) = fetch_answer(wire, 2, 100);
    match result {
        Err(FetchError::Connection(text)) => assert!(text.contains("after 1 of 2"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn multipart_that_lies_is_refused() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n";
    for (body, why) in [
        (
            "--b\r\nContent-Length: 16777217\r\n\r\n".to_owned(),
            "more than",
        ),
        (
            "--b\r\nContent-Length: 18446744073709551617\r\n\r\n".to_owned(),
            "more than",
        ),
        (
            "--b\r\nContent-Length: -1\r\n\r\n".to_owned(),
            "not a number",
        ),
        ("--b\r\nContent-Length: \r\n\r\n".to_owned(), "not a number"),
        (
            "--b\r\nContent-Length: 2\r\n\r\n\u{7f}\u{7f}trailing\r\n--b\r\n".to_owned(),
            "not a JPEG",
        ),
        (
            format!("--b\r\nX: {}\r\n\r\n", "x".repeat(9000)),
            "larger than",
        ),
        (format!("--b\r\nX: {}", "x".repeat(9000)), "larger than"),
        ("--b\r\n: :\r\n\r\n".to_owned(), "head of a part"),
        (
            format!("--b\r\n{}\r\n", "A: b\r\n".repeat(65)),
            "head of a part",
        ),
        ("x".repeat(9000), "no boundary"),
        ("x\r\n".repeat(3000), "no boundary"),
    ] {
        let (result, folder) = fetch_answer(format!("{head}{body}"), 1, usize::MAX);
        let text = protocol_error(result);
        assert!(text.contains(why), "{body:.60}: {text}");
        assert!(folder.files().is_empty());
    }
}

#[test]
fn a_part_that_is_longer_than_its_length_is_refused() {
    let mut wire = camd_stream(&[jpeg(10, 1)]);
    let at = wire.len() - b"\r\n--camdframe\r\n".len();
    wire.splice(at..at, *b"excess");
    let (result, _folder) = fetch_answer(wire, 2, usize::MAX);
    assert!(protocol_error(result).contains("no boundary"));
}

#[test]
fn an_endless_part_without_a_length_is_cut_off() {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n--b\r\n\r\n";
    let (result, _folder) = fetch_from("http", "/", 1, move |mut stream| {
        read_request(&mut stream);
        stream.write_all(head.as_bytes()).unwrap();
        // Until the receiver hangs up.
        while stream.write_all(&[0xAA; 65536]).is_ok() {}
    });
    assert!(protocol_error(result).contains("more than"));
}

#[test]
fn one_picture_with_and_without_a_length() {
    let picture = jpeg(3000, 8);
    for length in ["Content-Length: 3000\r\n", ""] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n{length}\r\n");
        let wire = [head.as_bytes(), &picture].concat();
        let (result, folder) = fetch_answer(wire.clone(), 1, 1000);
        assert_eq!(result.unwrap().pictures, 1);
        assert_eq!(folder.pictures(), std::slice::from_ref(&picture));

        let (result, _folder) = fetch_answer(wire, 2, usize::MAX);
        assert!(protocol_error(result).contains("-n 1"));
    }
}

#[test]
fn refusals_show_the_servers_reason() {
    let (result, _folder) = fetch_answer(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 33\r\n\r\nno picture: \x1b[31m/dev/video0\nmore..",
        1,
        usize::MAX,
    );
    assert_eq!(
        result.unwrap_err(),
        FetchError::NoPicture(
            "the server answered 503 Service Unavailable: no picture: ?[31m/dev/video0".to_owned()
        )
    );
    for (answer, text) in [
        (
            "HTTP/1.0 404 Not Found\r\n\r\nno such page\r\n",
            "the server answered 404 Not Found: no such page",
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<html>",
            "the server answered 404 Not Found",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: https://cam/\r\nContent-Length: 0\r\n\r\n",
            "the server answered 302 Found: it is at https://cam/",
        ),
    ] {
        let (result, _folder) = fetch_answer(answer, 1, usize::MAX);
        assert_eq!(protocol_error(result), text);
    }
}

#[test]
fn answers_that_are_not_pictures_are_refused() {
    for (answer, why) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
            "neither image/jpeg",
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", "neither image/jpeg"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\n\r\n",
            "no boundary",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=\r\n\r\n",
            "no boundary",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n--b\r\n",
            "chunked",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 16777217\r\n\r\n",
            "more than",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP"),
        ("\r\n\r\n", "does not speak HTTP"),
    ] {
        let (result, _folder) = fetch_answer(answer, 1, usize::MAX);
        let text = protocol_error(result);
        assert!(text.contains(why), "{answer}: {text}");
    }
}

// --- films ---

/// A film of three pictures as `/stream.mp4` sends it, in its boxes.
fn boxes() -> Vec<Vec<u8>> {
    let film = include_bytes!("../../../tests/data/64x48.264");
    let mut splitter = h264::Splitter::new(4096);
    splitter.spare()[..film.len()].copy_from_slice(film);
    splitter.filled(film.len());
    let mut muxer = Muxer::new();
    let begin = Instant::now();
    let mut number = 0;
    while let Some(unit) = splitter.next_unit() {
        number += 1;
        muxer
            .push(unit, begin + number * Duration::from_millis(40))
            .unwrap();
    }
    number += 1;
    let last = splitter.finish().unwrap();
    muxer
        .push(last, begin + number * Duration::from_millis(40))
        .unwrap();
    let mut boxes = Vec::new();
    loop {
        let mut next = Vec::new();
        if !muxer.next_box(&mut next) {
            return boxes;
        }
        boxes.push(next);
    }
}

fn fetch_film(body: &[u8], piece: usize) -> (Result<Summary, FetchError>, Folder) {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4; codecs=\"avc1.42C00A\"\r\n\r\n";
    fetch_answer([head, body].concat(), 0, piece)
}

#[test]
fn a_film_gets_an_index_however_it_comes() {
    let boxes = boxes();
    assert_eq!(boxes.len(), 2 + 2 * 3);
    let body = boxes.concat();
    for piece in [1, 7, 1000, usize::MAX] {
        let (result, folder) = fetch_film(&body, piece);
        let summary = result.unwrap();
        assert_eq!(summary.pictures, 3);
        let clip = fs::read(folder.0.join("camd-000001.mp4")).unwrap();
        // What came is in it, behind what is free for the head of all of it.
        let (ftyp, rest) = body.split_at(boxes[0].len());
        assert_eq!(clip[..ftyp.len()], *ftyp);
        let data = &clip[ftyp.len()..];
        assert_eq!(data[..8], [0, 0, 0, 1, b'm', b'd', b'a', b't']);
        let size = u64::from_be_bytes(data[8..16].try_into().unwrap()) as usize;
        assert_eq!(data[16..size], *rest);
        assert_eq!(&data[size + 4..size + 8], b"moov");
    }
    // What is not known is passed over.
    let mut more = boxes.clone();
    more.insert(4, [&[0, 0, 0, 9][..], b"emsg!"].concat());
    assert_eq!(
        fetch_film(&more.concat(), usize::MAX).0.unwrap().pictures,
        3
    );
}

#[test]
fn films_that_lie_are_refused() {
    let [ftyp, moov, moof, mdat, lean_moof, lean_mdat] = &boxes()[..6] else {
        panic!("boxes of two pictures at least");
    };
    let with = |which: &[u8], at: usize, byte: u8| {
        let mut changed = which.to_vec();
        changed[at] = byte;
        changed
    };
    let place = |name: &[u8]| moof.windows(4).position(|it| it == name).unwrap();
    let short: &[u8] = &[0, 0, 0, 7];
    for (parts, pictures, why) in [
        (
            vec![&ftyp[..], &with(short, 3, 7), b"moov"],
            0,
            "a box of 7 bytes",
        ),
        (
            vec![&[0x7F, 0, 0, 0], b"moov"],
            0,
            "a box of 2130706432 bytes",
        ),
        (vec![&moov[..]], 0, "its head has no H.264"),
        (
            vec![&ftyp[..], &with(moov, 4, b'x'), moof, mdat],
            0,
            "it has no head",
        ),
        (
            vec![&ftyp[..], b"\0\0\0\x08moov"],
            0,
            "its head has no H.264",
        ),
        (
            vec![&ftyp[..], moov, mdat],
            0,
            "a picture without its place",
        ),
        (
            vec![&ftyp[..], moov, lean_moof, lean_mdat],
            0,
            "its first picture leans on others",
        ),
        (
            vec![&ftyp[..], moov, moof, lean_mdat],
            0,
            "a picture without its place",
        ),
        (
            vec![&ftyp[..], moov, &with(moof, place(b"tfdt"), b'x'), mdat],
            0,
            "a picture without its place",
        ),
        (
            vec![&ftyp[..], moov, &with(moof, place(b"trun") + 7, 2), mdat],
            0,
            "a picture without its place",
        ),
        (
            vec![&ftyp[..], moov, moof, mdat, lean_moof],
            1,
            "it ends within a picture",
        ),
    ] {
        let (result, folder) = fetch_film(&parts.concat(), usize::MAX);
        let text = protocol_error(result);
        assert!(text.contains(why), "{why}: {text}");
        // What had come is kept.
        let clip = fs::read(folder.0.join("camd-000001.mp4"));
        assert_eq!(clip.is_ok(), pictures > 0, "{why}");
    }
    let cut = &[&ftyp[..], moov, moof, &mdat[..100]].concat();
    let (result, _folder) = fetch_film(cut, usize::MAX);
    assert!(
        matches!(result, Err(FetchError::Connection(_))),
        "{result:?}"
    );
    // However it is cut or changed: no panic, and no more than it has.
    let body = boxes().concat();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..200 {
        let mut changed = body.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..changed.len());
            changed[at] = random.u8(..);
        }
        changed.truncate(random.usize(1..=changed.len()));
        if let (Ok(summary), _folder) = fetch_film(&changed, usize::MAX) {
            assert!(summary.pictures <= 3);
        }
    }
}

// --- call ---

const LOGIN: i32 = 1;
const LOGIN_OK: i32 = 2;
const LOGIN_REFUSED: i32 = 3;
const REQUEST: i32 = 54;
const ACCEPT: i32 = 55;
const REJECT: i32 = 56;
const VIDEO_DATA: i32 = 57;
const END: i32 = 58;
const UNAVAILABLE: i32 = 59;

/// A record as QDataStream writes it.
fn record(sender: &str, receiver: &str, content: &str, kind: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in [sender, receiver, content] {
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        bytes.extend((utf16.len() as u32).to_be_bytes());
        bytes.extend(utf16);
    }
    bytes.extend(kind.to_be_bytes());
    bytes
}

fn camera_says(kind: i32) -> Vec<u8> {
    record("camera", "anna", "", kind)
}

fn camera_shows(picture: &[u8]) -> Vec<u8> {
    use base64::{display::Base64Display, engine::general_purpose::STANDARD};
    let text = Base64Display::new(picture, &STANDARD).to_string();
    record("camera", "anna", &text, VIDEO_DATA)
}

/// Up to the ring: what is sent and expected.
fn let_in(stream: &mut TcpStream) {
    expect(stream, &record("anna", "", "pw", LOGIN));
    stream.write_all(&record("", "anna", "", LOGIN_OK)).unwrap();
    expect(stream, &record("anna", "camera", "", REQUEST));
}

/// Nothing more comes but these bytes and the end.
fn expect_last(stream: &mut TcpStream, bytes: &[u8]) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(
        rest.escape_ascii().to_string(),
        bytes.escape_ascii().to_string()
    );
}

/// Anna rings up the camera.
fn fetch_call(
    count: u64,
    script: impl FnOnce(TcpStream) + Send + 'static,
) -> (Result<Summary, FetchError>, Folder) {
    let folder = Folder::new();
    let output = Output::Dir(folder.0.clone());
    let result = fetch_to(output, "call://anna:pw@", "/camera", count, script);
    (result, folder)
}

/// Anna is let in and rings; the relay says this, and then nothing comes from her but `last`.
fn fetch_ringing(
    count: u64,
    answer: Vec<u8>,
    last: Vec<u8>,
) -> (Result<Summary, FetchError>, Folder) {
    fetch_call(count, move |mut stream| {
        let_in(&mut stream);
        stream.write_all(&answer).unwrap();
        expect_last(&mut stream, &last);
    })
}

#[test]
fn call_logs_in_rings_and_hangs_up() {
    let result = fetch_to(
        Output::File("/dev/null".into()),
        "call://%C3%84:p%E2%82%AC@",
        "",
        2,
        |mut stream| {
            expect(
                &mut stream,
                b"\0\0\0\x02\0\xc4\0\0\0\0\0\0\0\x04\0p\x20\xac\0\0\0\x01",
            );
            // Null strings, as a QString() is written.
            stream
                .write_all(b"\xff\xff\xff\xff\0\0\0\x02\0\xc4\xff\xff\xff\xff\0\0\0\x02")
                .unwrap();
            let camera = b"\0\0\0\x0c\0c\0a\0m\0e\0r\0a";
            let both = |first: &[u8], second: &[u8], rest: &[u8]| [first, second, rest].concat();
            let anna = b"\0\0\0\x02\0\xc4";
            expect(&mut stream, &both(anna, camera, b"\0\0\0\0\0\0\0\x36"));
            let accept = both(camera, anna, b"\0\0\0\0\0\0\0\x37");
            // FF D8 FF D9, padded and not.
            let padded = both(
                camera,
                anna,
                b"\0\0\0\x10\0/\x009\0j\0/\x002\0Q\0=\0=\0\0\0\x39",
            );
            let bare = both(camera, anna, b"\0\0\0\x0c\0/\x009\0j\0/\x002\0Q\0\0\0\x39");
            stream.write_all(&[accept, padded, bare].concat()).unwrap();
            expect_last(&mut stream, &both(anna, camera, b"\0\0\0\0\0\0\0\x3a"));
        },
    );
    let summary = result.unwrap();
    assert_eq!((summary.pictures, summary.bytes), (2, 8));
}

#[test]
fn call_without_a_user_has_a_name() {
    let name = format!("camd-fetch-{}", std::process::id());
    let (result, _folder) = fetch_from("call", "/T%C3%BCr%201", 1, move |mut stream| {
        expect(&mut stream, &record(&name, "", "", LOGIN));
        stream.write_all(&record("", &name, "", LOGIN_OK)).unwrap();
        expect(&mut stream, &record(&name, "Tür 1", "", REQUEST));
        stream
            .write_all(&record("Tür 1", &name, "", ACCEPT))
            .unwrap();
        stream
            .write_all(&record("Tür 1", &name, "/9j/2Q==", VIDEO_DATA))
            .unwrap();
        expect_last(&mut stream, &record(&name, "Tür 1", "", END));
    });
    assert_eq!(result.unwrap().pictures, 1);
}

#[test]
fn call_records_split_at_every_point() {
    let picture = jpeg(5, 1);
    let wire = [
        record("", "anna", "", LOGIN_OK),
        camera_says(ACCEPT),
        camera_shows(&picture),
    ]
    .concat();
    for split in 1..wire.len() {
        let wire = wire.clone();
        let (result, folder) = fetch_call(1, move |mut stream| {
            stream.write_all(&wire[..split]).unwrap();
            // Long enough that the receiver sees the pieces apart; correct in either case.
            std::thread::sleep(Duration::from_millis(10));
            stream.write_all(&wire[split..]).unwrap();
            expect(&mut stream, &record("anna", "", "pw", LOGIN));
            expect(&mut stream, &record("anna", "camera", "", REQUEST));
            expect_last(&mut stream, &record("anna", "camera", "", END));
        });
        assert_eq!(result.unwrap().pictures, 1, "split at {split}");
        assert_eq!(folder.pictures(), std::slice::from_ref(&picture));
    }
}

#[test]
fn call_split_and_glued() {
    let pictures = [jpeg(40_000, 1), jpeg(4, 2), jpeg(40_001, 3)];
    let shown: Vec<u8> = pictures.iter().flat_map(|p| camera_shows(p)).collect();
    for piece in [1000, 4096, usize::MAX] {
        let wire = [camera_says(ACCEPT), shown.clone()].concat();
        let (result, folder) = fetch_call(3, move |mut stream| {
            let_in(&mut stream);
            send_in_pieces(&mut stream, &wire, piece.min(wire.len()));
            expect_last(&mut stream, &record("anna", "camera", "", END));
        });
        assert_eq!(result.unwrap().bytes, 80_005);
        assert_eq!(folder.pictures(), pictures);
    }
}

#[test]
fn a_login_that_is_refused_is_an_error() {
    for (reason, text) in [
        (
            "name in use",
            "the server does not let anna in: name in use",
        ),
        ("", "the server does not let anna in"),
        ("\x1b[2J", "the server does not let anna in: ?[2J"),
    ] {
        let (result, folder) = fetch_call(1, move |mut stream| {
            expect(&mut stream, &record("anna", "", "pw", LOGIN));
            stream
                .write_all(&record("", "anna", reason, LOGIN_REFUSED))
                .unwrap();
            expect_last(&mut stream, b"");
        });
        assert_eq!(protocol_error(result), text);
        assert!(folder.files().is_empty());
    }
}

#[test]
fn who_does_not_answer_has_no_picture() {
    for (kind, reason, text) in [
        (
            REJECT,
            "four calls are enough",
            "camera declines the call: four calls are enough",
        ),
        (UNAVAILABLE, "", "camera is not there"),
        (END, "", "camera has not answered the call"),
    ] {
        for count in [0, 1] {
            let answer = record("camera", "anna", reason, kind);
            // It is over: there is nothing to hang up.
            let (result, folder) = fetch_ringing(count, answer, vec![]);
            assert_eq!(result, Err(FetchError::NoPicture(text.to_owned())));
            assert!(folder.files().is_empty());
        }
    }
}

#[test]
fn a_call_that_the_other_side_ends() {
    let picture = jpeg(9, 1);
    for kind in [END, REJECT, UNAVAILABLE] {
        let answer = [
            camera_says(ACCEPT),
            camera_shows(&picture),
            camera_says(kind),
        ]
        .concat();
        let (result, folder) = fetch_ringing(0, answer.clone(), vec![]);
        assert_eq!(result.unwrap().pictures, 1);
        assert_eq!(folder.pictures(), std::slice::from_ref(&picture));
        let (result, _folder) = fetch_ringing(3, answer, vec![]);
        let text = "the server ended the stream after 1 of 3 pictures";
        assert_eq!(result, Err(FetchError::Connection(text.to_owned())));
    }
}

#[test]
fn what_does_not_concern_the_call_is_passed_over() {
    let picture = jpeg(9, 1);
    let early = [
        // Neither lets anybody in nor ends anything.
        record("bob", "anna", "hello", 7),
        camera_says(END),
        record("bob", "anna", "", REQUEST),
    ];
    let ringing = [
        camera_shows(&jpeg(9, 2)),
        record("bob", "anna", "", ACCEPT),
        record("bob", "anna", "", END),
        record("bob", "anna", "", UNAVAILABLE),
        record("", "anna", "!", 1000),
        record("bob", "anna", &"long ".repeat(20_000), -1),
        record("carl", "anna", "", REQUEST),
        camera_says(ACCEPT),
    ];
    let in_call = [
        record("bob", "anna", "/9j/2Q==", VIDEO_DATA),
        record("bob", "anna", "", REJECT),
        record("", "anna", "late", LOGIN_REFUSED),
        camera_says(ACCEPT),
        camera_says(60),
        camera_says(REQUEST),
        camera_shows(&picture),
    ];
    let (result, folder) = fetch_call(1, move |mut stream| {
        expect(&mut stream, &record("anna", "", "pw", LOGIN));
        stream.write_all(&early.concat()).unwrap();
        stream.write_all(&record("", "anna", "", LOGIN_OK)).unwrap();
        expect(&mut stream, &record("anna", "camera", "", REQUEST));
        stream.write_all(&ringing.concat()).unwrap();
        // Carl need not wait; the camera that rings once more is answered.
        expect(
            &mut stream,
            &record("anna", "carl", "only takes pictures", REJECT),
        );
        stream.write_all(&in_call.concat()).unwrap();
        expect(&mut stream, &record("anna", "camera", "", ACCEPT));
        expect_last(&mut stream, &record("anna", "camera", "", END));
    });
    assert_eq!(result.unwrap().pictures, 1);
    assert_eq!(folder.pictures(), [picture]);
}

#[test]
fn both_have_rung() {
    let answer = [camera_says(REQUEST), camera_shows(&jpeg(9, 1))].concat();
    let last = [
        record("anna", "camera", "", ACCEPT),
        record("anna", "camera", "", END),
    ];
    let (result, _folder) = fetch_ringing(1, answer, last.concat());
    assert_eq!(result.unwrap().pictures, 1);
}

#[test]
fn call_lengths_that_lie_are_refused() {
    let names = b"\0\0\0\x02\0x\0\0\0\x02\0y";
    let content = |length: u32| [&names[..], &length.to_be_bytes()].concat();
    // More than the largest picture makes, and room for longer names.
    let too_long = 2 * (PICTURE_LIMIT as u32).div_ceil(3) * 4 + 256;
    for (wire, why) in [
        (b"\0\0\0\x03".to_vec(), "a text of 3 bytes, which is odd"),
        (b"\0\0\0\x82".to_vec(), "a name of 130 bytes"),
        (b"\x80\0\0\0".to_vec(), "a name of 2147483648 bytes"),
        (b"\xff\xff\xff\xfe".to_vec(), "a name of 4294967294 bytes"),
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "a name of"),
        (content(too_long), "a record that is too long"),
        (content(0x7fff_fffe), "a record that is too long"),
        (content(0xffff_fffe), "a record that is too long"),
    ] {
        let text = |result| {
            let text = protocol_error(result);
            assert!(
                text.starts_with("the server does not speak call: "),
                "{text}"
            );
            assert!(text.contains(why), "{text}");
        };
        let end = record("anna", "camera", "", END);
        let (result, folder) = fetch_ringing(1, [camera_says(ACCEPT), wire.clone()].concat(), end);
        text(result);
        assert!(folder.files().is_empty());
        let (result, _folder) = fetch_call(1, move |mut stream| {
            expect(&mut stream, &record("anna", "", "pw", LOGIN));
            stream.write_all(&wire).unwrap();
            expect_last(&mut stream, b"");
        });
        text(result);
    }
}

#[test]
fn the_largest_picture_of_a_call_is_taken() {
    for (size, taken) in [(PICTURE_LIMIT, true), (PICTURE_LIMIT + 1, false)] {
        let wire = [camera_says(ACCEPT), camera_shows(&jpeg(size, 9))].concat();
        let (result, folder) = fetch_ringing(1, wire, record("anna", "camera", "", END));
        if taken {
            assert_eq!(result.unwrap().bytes, size as u64);
            assert_eq!(folder.pictures(), [jpeg(size, 9)]);
        } else {
            let text = protocol_error(result);
            assert!(text.ends_with("or has more than 16777216 bytes"), "{text}");
        }
    }
}

#[test]
fn what_is_no_picture_ends_the_call() {
    for (content, why) in [
        ("/9j/2", "not Base64"),
        ("/9j/ 2Q==", "not Base64"),
        ("/9j/2Q==\u{100}", "not Base64"),
        ("R0lGODlh", "picture 1 is not a JPEG"),
        ("", "picture 1 is not a JPEG"),
    ] {
        let shown = record("camera", "anna", content, VIDEO_DATA);
        let wire = [camera_says(ACCEPT), shown].concat();
        let (result, folder) = fetch_ringing(1, wire, record("anna", "camera", "", END));
        let text = protocol_error(result);
        assert!(text.contains(why), "{content}: {text}");
        assert!(folder.files().is_empty());
    }
}

#[test]
fn a_relay_that_goes_away_is_named() {
    let whole = [
        record("", "anna", "", LOGIN_OK),
        camera_says(ACCEPT),
        camera_shows(&jpeg(9, 1)),
    ]
    .concat();
    for (sent, what) in [
        (0, "instead of hanging up"),
        (10, "within a record"),
        (whole.len() - 1, "within a record"),
        (whole.len(), "instead of hanging up"),
    ] {
        let wire = whole[..sent].to_vec();
        // Also without a count: nobody has hung up.
        let (result, _folder) = fetch_call(0, move |mut stream| {
            expect(&mut stream, &record("anna", "", "pw", LOGIN));
            stream.write_all(&wire).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        match result {
            Err(FetchError::Connection(text)) => assert!(text.ends_with(what), "{text}"),
            other => panic!("{sent} bytes: {other:?}"),
        }
    }
}

#[test]
fn a_call_without_answer_is_given_up_and_hung_up() {
    let login = record("anna", "", "pw", LOGIN);
    let end = [
        record("anna", "camera", "", REQUEST),
        record("anna", "camera", "", END),
    ]
    .concat();
    let let_in = record("", "anna", "", LOGIN_OK);
    for (answer, sent, what) in [
        (vec![], vec![], "the server does not answer the login"),
        (
            let_in.clone(),
            end.clone(),
            "camera does not answer the call",
        ),
        (
            [let_in, camera_says(ACCEPT)].concat(),
            end,
            "camera is in the call and sends none",
        ),
    ] {
        let login = login.clone();
        let (port, server) = serve(move |mut stream| {
            expect(&mut stream, &login);
            stream.write_all(&answer).unwrap();
            expect_last(&mut stream, &sent);
        });
        let result = run(&FetchOptions {
            fingerprint: None,
            url: format!("call://anna:pw@127.0.0.1:{port}"),
            count: 1,
            output: Output::File("/dev/null".into()),
            film: FilmOptions::default(),
            timeout: Duration::from_millis(500),
        });
        let text = format!("no picture within 500ms: {what}");
        assert_eq!(result, Err(FetchError::NoPicture(text)));
        server.join().unwrap();
    }
}

#[test]
fn hanging_up_reaches_a_relay_that_still_sends() {
    let (result, folder) = fetch_call(1, |mut stream| {
        let_in(&mut stream);
        stream.write_all(&camera_says(ACCEPT)).unwrap();
        // What is on its way when the receiver has enough.
        for seed in 0..20 {
            stream
                .write_all(&camera_shows(&jpeg(50_000, seed)))
                .unwrap();
        }
        expect_last(&mut stream, &record("anna", "camera", "", END));
    });
    assert_eq!(result.unwrap().pictures, 1);
    assert_eq!(folder.pictures(), [jpeg(50_000, 0)]);
}

#[test]
fn hanging_up_does_not_wait_for_a_relay_that_does_not_close() {
    let (done, is_done) = std::sync::mpsc::channel();
    let (port, server) = serve(move |mut stream| {
        let_in(&mut stream);
        let shown = [camera_says(ACCEPT), camera_shows(&jpeg(9, 1))].concat();
        stream.write_all(&shown).unwrap();
        is_done.recv_timeout(Duration::from_secs(60)).unwrap();
        expect_last(&mut stream, &record("anna", "camera", "", END));
    });
    let result = run(&FetchOptions {
        fingerprint: None,
        url: format!("call://anna:pw@127.0.0.1:{port}/camera"),
        count: 1,
        output: Output::File("/dev/null".into()),
        film: FilmOptions::default(),
        timeout: Duration::from_secs(600),
    });
    done.send(()).unwrap();
    assert_eq!(result.unwrap().pictures, 1);
    server.join().unwrap();
}

#[test]
fn a_picture_that_cannot_be_written_ends_the_call() {
    let folder = Folder::new();
    let output = Output::File(folder.0.join("missing/x.jpg"));
    let result = fetch_to(output, "call://anna:pw@", "", 1, |mut stream| {
        let_in(&mut stream);
        let shown = [camera_says(ACCEPT), camera_shows(&jpeg(9, 1))].concat();
        stream.write_all(&shown).unwrap();
        expect_last(&mut stream, &record("anna", "camera", "", END));
    });
    assert!(matches!(result, Err(FetchError::File(_))), "{result:?}");
}

// --- time, files, connections ---

#[test]
fn a_silent_server_is_left_in_time() {
    for (scheme, sent) in [
        ("push", b"".as_slice()),
        // Dribbling does not buy time: the deadline is for the whole picture.
        ("push", &[100, 0, 0, 0, 100, 0, 0, 0]),
        ("pull", b""),
        ("pull", b"newImage:100"),
        ("http", b"HTTP/1.1 200 OK\r\n"),
    ] {
        let (port, server) = serve(move |mut stream| {
            stream.write_all(sent).unwrap();
            // Until the receiver hangs up.
            for _ in 0..100 {
                std::thread::sleep(Duration::from_millis(100));
                if scheme == "push" && !sent.is_empty() && stream.write_all(&[0]).is_err() {
                    return;
                }
                stream.set_nonblocking(true).unwrap();
                match stream.read(&mut [0; 4096]) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
                stream.set_nonblocking(false).unwrap();
            }
            panic!("the receiver did not hang up");
        });
        let folder = Folder::new();
        let result = run(&FetchOptions {
            fingerprint: None,
            url: format!("{scheme}://127.0.0.1:{port}"),
            count: 1,
            output: Output::File(folder.0.join("x.jpg")),
            film: FilmOptions::default(),
            timeout: Duration::from_millis(300),
        });
        assert_eq!(
            result,
            Err(FetchError::NoPicture("no picture within 300ms".to_owned())),
            "{scheme}"
        );
        assert!(folder.files().is_empty());
        server.join().unwrap();
    }
}

#[test]
fn nobody_there_is_a_connection_error() {
    // Bound and not listening any more: the port is free again.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let result = run(&FetchOptions {
        fingerprint: None,
        url: format!("push://127.0.0.1:{port}"),
        count: 1,
        output: Output::Dir(std::env::temp_dir()),
        film: FilmOptions::default(),
        timeout: Duration::from_secs(5),
    });
    match result {
        Err(FetchError::Connection(text)) => {
            assert!(
                text.starts_with(&format!("127.0.0.1 port {port}: ")),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
}

fn run_push_to(output: Output, pictures: Vec<Vec<u8>>) -> Result<Summary, FetchError> {
    let count = pictures.len() as u64;
    fetch_to(output, "push://", "", count, move |mut stream| {
        // The receiver may leave before it took all.
        let _ = stream.write_all(&push_wire(&pictures));
    })
}

#[test]
fn a_file_holds_the_last_picture_alone() {
    let folder = Folder::new();
    let path = folder.0.join("x.jpg");
    run_push_to(Output::File(path), vec![jpeg(900, 1), jpeg(30, 2)]).unwrap();
    assert_eq!(folder.files(), [("x.jpg".to_owned(), jpeg(30, 2))]);
}

#[test]
fn a_file_is_replaced_never_rewritten() {
    let folder = Folder::new();
    let path = folder.0.join("x.jpg");
    fs::write(&path, b"old").unwrap();
    let mut old = fs::File::open(&path).unwrap();
    run_push_to(Output::File(path), vec![jpeg(900, 1)]).unwrap();
    // A reader that opened the old file still has all of it.
    let mut content = Vec::new();
    old.read_to_end(&mut content).unwrap();
    assert_eq!(content, b"old");
    assert_eq!(folder.files(), [("x.jpg".to_owned(), jpeg(900, 1))]);
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let folder = Folder::new();
    let link = folder.0.join("link.jpg");
    fs::write(folder.0.join("target.jpg"), b"old").unwrap();
    std::os::unix::fs::symlink("target.jpg", &link).unwrap();
    run_push_to(Output::File(link.clone()), vec![jpeg(9, 1)]).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(folder.0.join("target.jpg")).unwrap(), jpeg(9, 1));
}

#[test]
fn what_is_no_regular_file_is_written_to() {
    let folder = Folder::new();
    let fifo = folder.0.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || fs::read(fifo).unwrap()
    });
    run_push_to(Output::File(fifo.clone()), vec![jpeg(9, 1), jpeg(8, 2)]).unwrap();
    assert_eq!(reader.join().unwrap(), [jpeg(9, 1), jpeg(8, 2)].concat());
    assert!(!fs::metadata(&fifo).unwrap().is_file());
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let folder = Folder::new();
    let fifo = folder.0.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || {
            let mut first = [0; 2];
            fs::File::open(fifo)
                .unwrap()
                .read_exact(&mut first)
                .unwrap();
            first
        }
    });
    // More than a pipe holds.
    let summary = run_push_to(Output::File(fifo), vec![jpeg(100_000, 1); 10]).unwrap();
    assert!(summary.pictures < 10);
    assert_eq!(reader.join().unwrap(), [0xFF, 0xD8]);
}

#[test]
fn numbers_go_on_after_those_that_are_there() {
    let folder = Folder::new();
    for name in ["camd-000041.jpg", "camd-9.jpg", "holiday.jpg", "000099.jpg"] {
        fs::write(folder.0.join(name), b"mine").unwrap();
    }
    run_push_to(Output::Dir(folder.0.clone()), vec![jpeg(9, 1), jpeg(8, 2)]).unwrap();
    let files = folder.files();
    assert_eq!(files.len(), 6);
    assert!(files.contains(&("camd-000042.jpg".to_owned(), jpeg(9, 1))));
    assert!(files.contains(&("camd-000043.jpg".to_owned(), jpeg(8, 2))));
    assert_eq!(
        files
            .iter()
            .filter(|(_, content)| content == b"mine")
            .count(),
        4
    );
}

#[test]
fn a_folder_that_is_missing_is_made_and_a_file_in_its_place_is_an_error() {
    let folder = Folder::new();
    run_push_to(Output::Dir(folder.0.join("a/b")), vec![jpeg(9, 1)]).unwrap();
    assert_eq!(
        fs::read(folder.0.join("a/b/camd-000001.jpg")).unwrap(),
        jpeg(9, 1)
    );

    fs::write(folder.0.join("file"), b"").unwrap();
    for output in [
        Output::Dir(folder.0.join("file")),
        Output::File(folder.0.join("missing/x.jpg")),
        Output::File(folder.0.join("file/x.jpg")),
    ] {
        // No connection is made for what cannot be written, or it is given up.
        let url = match &output {
            Output::File(path) if path.starts_with(folder.0.join("missing")) => None,
            _ => Some("push://127.0.0.1:1"),
        };
        let result = match url {
            None => run_push_to(output.clone(), vec![jpeg(9, 1)]),
            Some(url) => run(&FetchOptions {
                fingerprint: None,
                url: url.to_owned(),
                count: 1,
                output: output.clone(),
                film: FilmOptions::default(),
                timeout: Duration::from_secs(5),
            }),
        };
        assert!(
            matches!(result, Err(FetchError::File(_))),
            "{output:?}: {result:?}"
        );
    }
}

#[test]
fn what_the_command_line_means() {
    let folder = Folder::new();
    let meant = |text: &str| Output::from_arg(text.as_ref());
    assert_eq!(meant("-"), Output::Stdout);
    assert_eq!(meant("x.jpg"), Output::File("x.jpg".into()));
    assert_eq!(meant("new/"), Output::Dir("new/".into()));
    let existing = folder.0.to_str().unwrap();
    assert_eq!(meant(existing), Output::Dir(existing.into()));
}
