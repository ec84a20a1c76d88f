//! Answers as servers give them, cut at every byte.

use super::*;

/// As in a JPEG: from SOI to EOI, through a header and a scan. `mark` tells it from others.
fn jpeg(mark: u8, scan: usize) -> Vec<u8> {
    let mut jpeg = vec![0xFF, 0xD8, 0xFF, 0xC4, 0x00, 0x03, 0x00];
    jpeg.extend([
        0xFF, 0xC0, 0x00, 0x0B, 0x08, 0x00, 0x30, 0x00, 0x40, 0x01, 0x01, 0x11, 0x00,
    ]);
    jpeg.extend([0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3F, 0x00]);
    jpeg.extend(std::iter::repeat_n(mark, scan));
    jpeg.extend([0xFF, 0xD9]);
    jpeg
}

fn head(text: &str) -> Head<'_> {
    assert_eq!(head_length(text.as_bytes()), Ok(Some(text.len())), "{text}");
    Head::parse(text.as_bytes()).expect(text)
}

#[test]
fn a_head_is_found_at_every_cut() {
    for text in [
        "HTTP/1.0 200 OK\r\nA: b\r\n\r\n",
        "HTTP/1.0 200 OK\nA: b\n\n",
        "HTTP/1.0 200 OK\r\nA: b\n\r\n",
        "\r\n",
        "\n",
    ] {
        for cut in 0..text.len() {
            assert_eq!(
                head_length(&text.as_bytes()[..cut]),
                Ok(None),
                "{text} {cut}"
            );
        }
        let more = format!("{text}\n\n");
        assert_eq!(head_length(more.as_bytes()), Ok(Some(text.len())));
    }
    let long = |length: usize| format!("HTTP/1.0 200 OK\r\nA: {}\r\n\r\n", "b".repeat(length));
    let fits = long(ANSWER_HEAD - 24);
    assert_eq!(fits.len(), ANSWER_HEAD);
    assert_eq!(head_length(fits.as_bytes()), Ok(Some(ANSWER_HEAD)));
    let too_long = long(ANSWER_HEAD - 23);
    assert_eq!(head_length(too_long.as_bytes()), Err(Wrong::LongHead));
    assert_eq!(head_length(&[b'x'; ANSWER_HEAD]), Ok(None));
    assert_eq!(head_length(&[b'x'; ANSWER_HEAD + 1]), Err(Wrong::LongHead));
}

#[test]
fn what_heads_say() {
    let found = head(
        "HTTP/1.1 200\r\ncontent-type : image/jpeg\r\nContent-Length: 12 \r\nX-Timestamp: 1700000000.25\r\n\r\n",
    );
    assert_eq!((found.status, found.phrase), (200, ""));
    assert_eq!(found.content(), Ok(Content::Picture));
    assert_eq!(
        (found.length, found.chunked, found.persists),
        (Some(12), false, true)
    );
    assert_eq!(found.stamp, Some(Duration::from_millis(1_700_000_000_250)));
    for (fields, persists) in [
        ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", true),
    ] {
        assert_eq!(head(fields).persists, persists, "{fields}");
    }
    // The chunks say how long it is (RFC 9112, 6.3).
    let both = head("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 5\r\n\r\n");
    assert_eq!((both.length, both.chunked), (None, true));
    for (fields, basic, digest) in [
        ("WWW-Authenticate: Basic realm=\"a, b\"", true, false),
        (
            "WWW-Authenticate: Digest realm=\"a\", qop=\"auth\"",
            false,
            true,
        ),
        (
            "WWW-Authenticate: Digest realm=\"a\", BASIC realm=\"a\"",
            true,
            true,
        ),
        (
            "www-authenticate: Digest x\r\nWWW-Authenticate: basic x",
            true,
            true,
        ),
        ("X: y", false, false),
    ] {
        let text = format!("HTTP/1.1 401 No\r\n{fields}\r\n\r\n");
        assert_eq!(head(&text).login, Ways { basic, digest }, "{fields}");
    }
    for stamp in [
        "",
        "-1.0",
        "1e9",
        "inf",
        "NaN",
        "1.2.3",
        "99999999999999999999999",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nX-Timestamp: {stamp}\r\n\r\n");
        assert_eq!(head(&text).stamp, None, "{stamp}");
    }
}

#[test]
fn what_the_body_is() {
    let content = |content_type: &str| {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n");
        match head(&text).content() {
            Ok(Content::Multipart(boundary)) => Ok(String::from_utf8_lossy(boundary).into_owned()),
            Ok(other) => Ok(format!("{other:?}")),
            Err(wrong) => Err(wrong),
        }
    };
    for (content_type, expected) in [
        ("multipart/x-mixed-replace; boundary=camdframe", "camdframe"),
        (
            "multipart/x-mixed-replace;boundary=--myboundary",
            "--myboundary",
        ),
        (
            "Multipart/X-Mixed-Replace; a=b; BOUNDARY=\"a b:c\" ; d",
            "a b:c",
        ),
        ("multipart/mixed;boundary=x", "x"),
        ("image/jpeg", "Picture"),
        ("IMAGE/JPG; x=y", "Picture"),
        ("application/octet-stream", "Picture"),
        ("text/html", "Other"),
        ("image/png", "Other"),
        ("", "Other"),
    ] {
        assert_eq!(
            content(content_type).as_deref(),
            Ok(expected),
            "{content_type}"
        );
    }
    for none in ["", "; boundary=", "; boundary=\"x", "; charset=x"] {
        let wrong = content(&format!("multipart/x-mixed-replace{none}"));
        assert_eq!(wrong, Err(Wrong::NoBoundary), "{none}");
    }
    let long = format!("multipart/x-mixed-replace; boundary={}", "b".repeat(71));
    assert_eq!(content(&long), Err(Wrong::NoBoundary));
}

#[test]
fn heads_that_are_none() {
    for (text, wrong) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            Wrong::Length,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", Wrong::Length),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0x10\r\n\r\n",
            Wrong::Length,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Wrong::Coding,
        ),
        ("\r\n", Wrong::NoHead(None)),
    ] {
        assert_eq!(Head::parse(text.as_bytes()).unwrap_err(), wrong, "{text}");
    }
    for text in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "RTSP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 2x OK\r\n\r\n",
    ] {
        let wrong = Head::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(wrong, Wrong::NoHead(Some(_))), "{text}: {wrong}");
    }
    let huge = head("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551617\r\n\r\n");
    assert_eq!(huge.length, Some(usize::MAX));
}

/// What is left of the chunks, given in pieces of this size; and whether they are over.
fn unchunked(wire: &[u8], piece: usize) -> Result<(Vec<u8>, bool), Wrong> {
    let mut chunks = Chunks::default();
    let mut body = Vec::new();
    for piece in wire.chunks(piece) {
        let mut piece = piece.to_vec();
        let length = chunks.decode(&mut piece)?;
        body.extend(&piece[..length]);
    }
    Ok((body, chunks.is_over()))
}

#[test]
fn chunks_in_pieces_of_every_size() {
    for wire in [
        "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        "5;a=\"b\"\r\nhello\r\n006  \r\n world\r\n000\r\n\r\n",
        "5\nhello\n6\n world\n0\n\n",
        "B\r\nhello world\r\n0\r\nA: b\r\nC: d\r\n\r\n",
        "b\r\nhello world\r\n0;x\r\n\r\nwhat nobody asked for",
    ] {
        for piece in 1..=wire.len() {
            let found = unchunked(wire.as_bytes(), piece);
            assert_eq!(
                found,
                Ok((b"hello world".to_vec(), true)),
                "{wire:?} {piece}"
            );
        }
        let cut = unchunked(&wire.as_bytes()[..8], 3).unwrap();
        assert!(!cut.1, "{wire:?}");
    }
    for wire in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        ";\r\n",
        "1\r\nab",
        "11111111111111111\r\n",
    ] {
        assert_eq!(unchunked(wire.as_bytes(), 2), Err(Wrong::Chunk), "{wire:?}");
    }
    let endless = format!("1;{}", "x".repeat(ANSWER_HEAD));
    assert_eq!(unchunked(endless.as_bytes(), 64), Err(Wrong::Chunk));
    let endless = format!("0\r\n{}", "A: b\r\n".repeat(ANSWER_HEAD / 6));
    assert_eq!(unchunked(endless.as_bytes(), 64), Err(Wrong::Chunk));
}

/// A receiver as both of camd's are: keeps what is not done with, and steps as far as that goes.
#[derive(Debug)]
struct Receiver {
    parts: Multipart,
    kept: Vec<u8>,
    pictures: Vec<Vec<u8>>,
    stamps: Vec<Option<Duration>>,
    ended: bool,
}

impl Receiver {
    fn new(boundary: &str, most: usize) -> Receiver {
        Receiver {
            parts: Multipart::new(boundary.as_bytes(), most),
            kept: Vec::new(),
            pictures: Vec::new(),
            stamps: Vec::new(),
            ended: false,
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        self.kept.extend(bytes);
        loop {
            match self.parts.step(&self.kept)? {
                Step::More => {
                    assert!(
                        self.kept.len() < Multipart::room(self.parts.most),
                        "no room"
                    );
                    return Ok(());
                }
                Step::Skip(n) => drop(self.kept.drain(..n)),
                Step::Picture {
                    start,
                    length,
                    used,
                    stamp,
                } => {
                    self.pictures.push(self.kept[start..][..length].to_vec());
                    self.stamps.push(stamp);
                    self.kept.drain(..used);
                }
                Step::End => {
                    self.ended = true;
                    return Ok(());
                }
            }
        }
    }
}

fn received(boundary: &str, wire: &[u8], piece: usize) -> Result<Receiver, Wrong> {
    let mut receiver = Receiver::new(boundary, 1000);
    for piece in wire.chunks(piece) {
        receiver.take(piece)?;
    }
    Ok(receiver)
}

#[test]
fn the_dialects_of_servers() {
    let pictures: Vec<_> = (1..=4)
        .map(|mark| jpeg(mark, 30 + usize::from(mark)))
        .collect();
    // The boundary in the head, what is in front of the first delimiter, of each picture (# is its length), and behind it.
    for (name, boundary, before, part, after) in [
        (
            "mjpg-streamer",
            "boundarydonotcross",
            "",
            "--boundarydonotcross\r\nContent-Type: image/jpeg\r\nContent-Length: #\r\nX-Timestamp: 12.000345\r\n\r\n",
            "\r\n",
        ),
        (
            "uStreamer",
            "boundarydonotcross",
            "",
            "--boundarydonotcross\r\nContent-Type: image/jpeg\r\nContent-Length: #\r\nX-Timestamp: 1700000000.000345\r\nX-UStreamer-Online: true\r\n\r\n",
            "\r\n",
        ),
        (
            "motion",
            "BoundaryString",
            "",
            "--BoundaryString\r\nContent-type: image/jpeg\r\nContent-Length:         #\r\n\r\n",
            "\r\n",
        ),
        (
            "ESP32-CAM",
            "123456789000000000000987654321",
            "\r\n",
            "--123456789000000000000987654321\r\nContent-Type: image/jpeg\r\nContent-Length: #\r\nX-Timestamp: 77.123456\r\n\r\n",
            "\r\n",
        ),
        (
            "Axis",
            "myboundary",
            "",
            "--myboundary\r\nContent-Type: image/jpeg\r\nContent-Length: #\r\n\r\n",
            "\r\n",
        ),
        (
            "hyphens in the head",
            "--myboundary",
            "",
            "--myboundary\r\nContent-Type: image/jpeg\r\nContent-Length: #\r\n\r\n",
            "\r\n",
        ),
        (
            "hyphens twice",
            "--b",
            "",
            "----b\r\nContent-Length: #\r\n\r\n",
            "\r\n",
        ),
        (
            "no line end behind",
            "b",
            "",
            "--b\r\nContent-Length:#\r\n\r\n",
            "",
        ),
        (
            "many line ends behind",
            "b",
            "",
            "--b\r\nContent-Length:#\r\n\r\n",
            "\r\n\r\n\n",
        ),
        (
            "line feeds",
            "b",
            "",
            "--b\nContent-Type: image/jpeg\nContent-Length: #\n\n",
            "\n",
        ),
        (
            "ffmpeg",
            "ffmpeg",
            "",
            "--ffmpeg\r\nContent-type: image/jpeg\r\nContent-length: #\r\n\r\n",
            "\r\n",
        ),
        (
            "without length",
            "b",
            "",
            "--b\r\nContent-Type: image/jpeg\r\n\r\n",
            "\r\n",
        ),
        (
            "without length, hyphens",
            "--b",
            "\r\n",
            "--b\r\nContent-Type: image/jpeg\r\n\r\n",
            "\r\n",
        ),
        ("without length, line feeds", "b", "", "--b\n\n", "\n"),
        ("without length and line end", "b", "", "--b\r\n\r\n", ""),
        (
            "a preamble",
            "b",
            "Hello.\r\n--bb\r\n -- \r\n",
            "--b \t\r\nContent-Length: #\r\n\r\n",
            "\r\n",
        ),
    ] {
        let mut wire = before.as_bytes().to_vec();
        for picture in &pictures {
            wire.extend(part.replace('#', &picture.len().to_string()).bytes());
            wire.extend(picture);
            wire.extend(after.bytes());
        }
        let whole = wire.len();
        wire.extend(part.lines().next().unwrap_or_default().trim_end().bytes());
        wire.extend(b"--");
        for piece in (1..=80).chain([wire.len()]) {
            let receiver =
                received(boundary, &wire, piece).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
            assert_eq!(receiver.pictures, pictures, "{name} in pieces of {piece}");
            assert!(receiver.ended, "{name} in pieces of {piece}");
        }
        // A picture is there when its own last byte is, not with the next one.
        let mut receiver = Receiver::new(boundary, 1000);
        receiver.take(&wire[..whole - after.len()]).expect(name);
        assert_eq!(receiver.pictures.len(), 4, "{name} is late");
    }
}

#[test]
fn a_thumbnail_does_not_end_a_picture_without_a_length() {
    // An APP1 with a small JPEG in it, which ends where a piece does.
    let small = jpeg(9, 20);
    let length = u16::try_from(small.len() + 2).unwrap().to_be_bytes();
    let mut picture = vec![0xFF, 0xD8, 0xFF, 0xE1, length[0], length[1]];
    picture.extend(&small);
    let cut = picture.len();
    picture.extend(&jpeg(1, 50)[2..]);
    let mut receiver = Receiver::new("b", 1000);
    receiver.take(b"--b\r\n\r\n").unwrap();
    receiver.take(&picture[..cut]).unwrap();
    assert!(receiver.pictures.is_empty());
    receiver.take(&picture[cut..]).unwrap();
    assert_eq!(receiver.pictures, [picture]);
    // What its server sends behind its end is passed over, however much.
    for _ in 0..40 {
        receiver.take(&[0; 20]).unwrap();
    }
    receiver
        .take(b"\r\n--b\r\nContent-Length: 3\r\n\r\nabc")
        .unwrap();
    assert_eq!(receiver.pictures[1], b"abc");
}

#[test]
fn parts_that_are_no_pictures_are_passed_over() {
    let wire = b"--b\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nidle\r\n\
        --b\r\nContent-Type: audio/basic\r\n\r\nnoise\r\n\
        --b\r\nContent-Type: image/jpeg\r\nContent-Length: 3\r\nX-Timestamp: 5.5\r\n\r\nabc\r\n\
        --b\r\nContent-Type: application/octet-stream\r\nContent-Length: 0\r\n\r\n\r\n--b--";
    for piece in [1, 7, wire.len()] {
        let receiver = received("b", wire, piece).unwrap();
        assert_eq!(receiver.pictures, [b"abc".to_vec(), vec![]]);
        assert_eq!(receiver.stamps, [Some(Duration::from_millis(5500)), None]);
    }
}

#[test]
fn streams_that_lie_are_refused() {
    let long = |text: &str, n: usize| text.repeat(n);
    for (wire, wrong) in [
        (
            "--b\r\nContent-Length: 1001\r\n\r\n".to_owned(),
            Wrong::TooLarge(Some(1001)),
        ),
        (
            "--b\r\nContent-Length: 99999999999999999999\r\n\r\n".to_owned(),
            Wrong::TooLarge(Some(usize::MAX)),
        ),
        (
            "--b\r\nContent-Length: 1k\r\n\r\n".to_owned(),
            Wrong::Length,
        ),
        (
            "--b\r\nContent-Length: 2\r\n\r\nabc\r\n--b\r\n".to_owned(),
            Wrong::NoDelimiter,
        ),
        (
            "--b\r\nContent-Length: 6\r\n\r\nab\r\n--b\r\n".to_owned(),
            Wrong::NoDelimiter,
        ),
        (
            "--b\r\nContent-Length: 1\r\n\r\na\r\n--c\r\n".to_owned(),
            Wrong::NoDelimiter,
        ),
        (format!("--b\r\nX: {}", long("x", 9000)), Wrong::LongHead),
        (long("x", 9000), Wrong::NoDelimiter),
        (long("x\r\n", 3000), Wrong::NoDelimiter),
        (
            format!("--b\r\nContent-Length: 1\r\n\r\na{}", long("\r\n", 5000)),
            Wrong::NoDelimiter,
        ),
        (
            format!("--b\r\n\r\n{}", long("x", 2000)),
            Wrong::TooLarge(None),
        ),
        (
            format!("--b\r\n\r\n{}\r\n--b\r\n", long("x", 1001)),
            Wrong::TooLarge(Some(1001)),
        ),
    ] {
        for piece in [1, 100, wire.len()] {
            let found = received("b", wire.as_bytes(), piece).err();
            assert_eq!(found, Some(wrong), "{wire:.60} in pieces of {piece}");
        }
    }
    for head in ["Content Length 5\r\n", ": x\r\n"] {
        let found = received("b", format!("--b\r\n{head}\r\n").as_bytes(), 5).unwrap_err();
        assert!(matches!(found, Wrong::PartHead(Some(_))), "{head}: {found}");
    }
    // The largest that is allowed, with the delimiter in pieces.
    let wire = format!("--b\r\n\r\n{}\r\n--b\r\n", long("x", 1000));
    for piece in 1..50 {
        let receiver = received("b", wire.as_bytes(), piece).unwrap();
        assert_eq!(receiver.pictures[0].len(), 1000);
    }
}
