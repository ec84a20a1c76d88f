//! H.264: from a program to `/stream.mp4`, and what those get who take JPEGs alone.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use camd::system::ring::flags;

use crate::common::memfd::{Reader, sink};
use crate::common::{
    Camd, Folder, LISTENERS, PATIENCE, Paced, connect_as_over_a_slow_line, python, read_head, run,
};

/// Three pictures of 64x48 by x264, the first of them a key picture.
const FILM: &[u8] = include_bytes!("../data/64x48.264");

/// camd, with a program that writes what the script does; `$1` is its folder.
fn camd(folder: &Folder, script: &str) -> Camd {
    let at = folder.path().display().to_string();
    Camd::start(&format!(
        "[camera]\nsource = \"pipe\"\ncommand = [\"sh\", \"-c\", {script:?}, \"sh\", {at:?}]\n{LISTENERS}"
    ))
}

/// One picture after the other, as a camera gives them.
const STEADY: &str = "while :; do for each in 0 1 2; do cat $1/$each; sleep 0.04; done; done";
const AGAIN: &str = "while :; do cat $1/film; sleep 0.05; done";

/// The NAL units of a stream whose start codes are what they look like.
fn nals(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut nals = Vec::new();
    while let Some(at) = bytes.windows(3).position(|code| code == [0, 0, 1]) {
        let end = bytes[at + 3..]
            .windows(3)
            .position(|code| code == [0, 0, 1]);
        let (nal, rest) = bytes[at + 3..].split_at(end.unwrap_or(bytes.len() - at - 3));
        let zeros = nal.iter().rev().take_while(|byte| **byte == 0).count();
        nals.push(&nal[..nal.len() - zeros]);
        bytes = rest;
    }
    nals
}

/// A request for a film, as it is read.
struct Viewer<S = TcpStream> {
    stream: S,
    head: String,
    /// What was read of the film, in whole boxes.
    film: Vec<u8>,
}

impl Viewer {
    fn new(camd: &Camd) -> Viewer {
        let stream = TcpStream::connect(camd.http()).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Viewer::over(stream)
    }
}

impl<S: Read + Write> Viewer<S> {
    fn over(mut stream: S) -> Viewer<S> {
        stream
            .write_all(b"GET /stream.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("a request");
        let head = read_head(&mut stream);
        Viewer {
            stream,
            head,
            film: Vec::new(),
        }
    }

    /// The next box's name and content; `None`: the film has ended.
    fn next_box(&mut self) -> Option<([u8; 4], Vec<u8>)> {
        let mut begin = [0; 8];
        self.stream.read_exact(&mut begin).ok()?;
        let size = u32::from_be_bytes(begin[..4].try_into().unwrap()) as usize;
        let mut content = vec![0; size - 8];
        self.stream.read_exact(&mut content).expect("a whole box");
        self.film.extend(begin);
        self.film.extend(&content);
        Some((begin[4..].try_into().unwrap(), content))
    }

    /// The next picture's NAL units, and its time.
    fn next_picture(&mut self) -> Option<(Vec<Vec<u8>>, u64)> {
        let mut time = None;
        loop {
            match self.next_box()? {
                (name, content) if &name == b"moof" => {
                    time = Some(u64::from_be_bytes(content[52..60].try_into().unwrap()));
                }
                (name, content) if &name == b"mdat" => {
                    let mut rest = &content[..];
                    let mut nals = Vec::new();
                    while let Some((length, more)) = rest.split_first_chunk() {
                        let (nal, more) = more.split_at(u32::from_be_bytes(*length) as usize);
                        nals.push(nal.to_vec());
                        rest = more;
                    }
                    return Some((nals, time.expect("a moof in front of each mdat")));
                }
                _ => {}
            }
        }
    }
}

/// The three pictures.
fn pictures() -> [&'static [u8]; 3] {
    // Where the two pictures behind the key picture begin.
    let code = [0, 0, 0, 1, 0x41];
    let starts = FILM.windows(5).enumerate();
    let starts: Vec<_> = starts.filter(|(_, window)| *window == code).collect();
    let (second, third) = (starts[0].0, starts[1].0);
    [0..second, second..third, third..FILM.len()].map(|range| &FILM[range])
}

/// A player's own reading of so many pictures: nothing to complain of.
fn assert_plays(folder: &Folder, film: &[u8], pictures: usize) {
    let path = folder.file("film.mp4", film);
    let probe = Command::new("ffprobe")
        .args(["-v", "warning", "-count_frames", "-show_entries"])
        .args(["stream=nb_read_frames,width,height", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe, which tests/setup installs");
    assert_eq!(String::from_utf8_lossy(&probe.stderr), "");
    let expected = format!("64,48,{pictures}\n");
    assert_eq!(String::from_utf8_lossy(&probe.stdout), expected);
}

#[test]
fn pictures_come_out_as_they_went_in() {
    let folder = Folder::new();
    for (number, picture) in pictures().into_iter().enumerate() {
        folder.file(&number.to_string(), picture);
    }
    let camd = camd(&folder, STEADY);
    let mut viewer = Viewer::new(&camd);
    assert!(viewer.head.starts_with("HTTP/1.1 200 "), "{}", viewer.head);
    let kind = "\r\nContent-Type: video/mp4; codecs=\"avc1.42C00A\"\r\n";
    assert!(viewer.head.contains(kind), "{}", viewer.head);
    // SEI and slices: each of the three pictures is one slice.
    let given: Vec<_> = nals(FILM)
        .into_iter()
        .filter(|nal| !matches!(nal[0] & 0x1F, 7 | 8))
        .collect();
    let pictures = [
        given[..2].to_vec(),
        given[2..3].to_vec(),
        given[3..].to_vec(),
    ];
    let mut last = None;
    for number in 0..30 {
        let (got, time) = viewer.next_picture().expect("a picture");
        assert_eq!(got, pictures[number % 3], "picture {number}");
        assert!(last < Some(time), "{last:?}, {time}");
        last = Some(time);
    }
    assert_eq!(camd.state()["camera"]["format"], "h264");
    assert_eq!(camd.state()["camera"]["width"], 64);
    assert_plays(&folder, &viewer.film, 30);
}

#[test]
fn the_camera_runs_for_a_film_alone() {
    let folder = Folder::new();
    for (number, picture) in pictures().into_iter().enumerate() {
        folder.file(&number.to_string(), picture);
    }
    let at = folder.path().display().to_string();
    for listeners in [LISTENERS.to_owned(), format!("{LISTENERS}{RAW_H264}")] {
        let camd = Camd::start(&format!(
            "[camera]\nsource = \"pipe\"\nlinger_s = 1\ncommand = [\"sh\", \"-c\", {STEADY:?}, \"sh\", {at:?}]\n{listeners}"
        ));
        camd.condition("idle");
        if listeners == LISTENERS {
            let mut viewer = Viewer::new(&camd);
            // Twice as long and more.
            for _ in 0..60 {
                viewer.next_picture().expect("a picture");
            }
        } else {
            let mut stream = TcpStream::connect(camd.raw()).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            read_raw(&mut stream, 20 * FILM.len());
        }
        camd.condition("idle");
    }
}

#[test]
fn pictures_that_come_at_once_are_played_one_after_the_other() {
    let folder = Folder::new();
    folder.file("film", FILM);
    let camd = camd(&folder, "while :; do cat $1/film $1/film; sleep 0.24; done");
    let mut viewer = Viewer::new(&camd);
    let times: Vec<_> = (0..40)
        .map(|_| viewer.next_picture().expect("a picture").1)
        .collect();
    let distances: Vec<_> = times.windows(2).map(|two| two[1] - two[0]).collect();
    // The usual distance is 3600 or more. Of the first few camd has yet to learn that.
    assert!(distances.iter().all(|it| *it >= 500), "{distances:?}");
    assert_plays(&folder, &viewer.film, 40);
}

/// By the byte that fills it up, which of 30 pictures it is, and whether it is a key picture.
fn which(nals: &[Vec<u8>]) -> (u8, bool) {
    let filler = nals.last().expect("NAL units");
    assert_eq!((filler[0], filler.len()), (0x0C, 50_000), "a whole one");
    let is_key = nals.iter().any(|nal| nal[0] & 0x1F == 5);
    (filler[1] - 1, is_key)
}

#[test]
fn a_slow_viewer_goes_from_key_picture_to_key_picture_and_others_notice_nothing() {
    let folder = Folder::new();
    for (number, picture) in (0u8..30).zip(pictures().into_iter().cycle()) {
        let mut large = picture.to_vec();
        // Filler data (type 12).
        large.extend([0, 0, 0, 1, 0x0C]);
        large.resize(large.len() + 49_999, number + 1);
        folder.file(&number.to_string(), large);
    }
    // 1.25 MB/s at most.
    // Each fits a pipe (64 KiB), so that it is written at once.
    let all: Vec<_> = (0..30).map(|number| number.to_string()).collect();
    let script = format!(
        "while :; do for each in {}; do cat $1/$each; sleep 0.04; done; done",
        all.join(" ")
    );
    let camd = camd(&folder, &script);
    // The chain rule, and whether anything was passed over.
    let check = |got: &mut VecDeque<u8>, nals: &[Vec<u8>]| {
        let (number, is_key) = which(nals);
        let last = got.back().copied();
        let follows = last.is_some_and(|last| (last + 1) % 30 == number);
        assert!(is_key || follows, "{number} behind {last:?}");
        got.push_back(number);
        !follows && last.is_some()
    };
    let paced = Paced::new(connect_as_over_a_slow_line(camd.http()), 300e3);
    let mut slow = Viewer::over(paced);
    let mut healthy = Viewer::new(&camd);
    std::thread::scope(|scope| {
        let slow = scope.spawn(move || {
            let (mut got, mut skips) = (VecDeque::new(), 0);
            while skips < 3 {
                let (nals, _) = slow.next_picture().expect("a picture");
                skips += u32::from(check(&mut got, &nals));
            }
            got.len()
        });
        let mut got = VecDeque::new();
        while !slow.is_finished() {
            let (nals, _) = healthy.next_picture().expect("a picture");
            check(&mut got, &nals);
        }
        let slow = slow.join().expect("the slow viewer");
        println!("slow {slow}, healthy {}", got.len());
        // Four times as fast, if the machine is.
        assert!(got.len() > 2 * slow, "slow {slow}, healthy {}", got.len());
    });
}

#[test]
fn those_who_take_jpegs_alone_are_told() {
    let folder = Folder::new();
    folder.file("film", FILM);
    let camd = camd(&folder, AGAIN);
    let _viewer = Viewer::new(&camd);
    let snapshot = camd.get("/snapshot");
    assert_eq!(snapshot.status, 503);
    assert!(
        snapshot.text().contains("/stream.mp4"),
        "{}",
        snapshot.text()
    );
    assert!(
        camd.log().contains("all others get a card"),
        "{}",
        camd.log()
    );
    // A push client: length twice, and a JPEG.
    let mut push = TcpStream::connect(camd.push()).expect("a connection");
    push.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut begin = [0; 10];
    push.read_exact(&mut begin).expect("a card");
    assert_eq!(begin[8..], [0xFF, 0xD8]);
}

#[test]
fn a_camera_without_h264_has_no_film() {
    let camd = Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\n{LISTENERS}"
    ));
    let film = camd.get("/stream.mp4");
    assert_eq!(film.status, 503);
    assert!(
        film.text().contains("the camera gives no H.264"),
        "{}",
        film.text()
    );
}

#[test]
fn other_parameters_end_the_film_and_the_next_one_has_them() {
    let folder = Folder::new();
    folder.file("film", FILM);
    let mut other = FILM.to_vec();
    // level_idc
    other[7] += 1;
    folder.file("other", other);
    let camd = camd(
        &folder,
        "until [ -e $1/go ]; do cat $1/film; sleep 0.05; done; while :; do cat $1/other; sleep 0.05; done",
    );
    let mut viewer = Viewer::new(&camd);
    viewer.next_picture().expect("a picture");
    folder.file("go", "");
    while viewer.next_picture().is_some() {}
    let viewer = Viewer::new(&camd);
    assert!(viewer.head.contains("avc1.42C00B"), "{}", viewer.head);
}

#[test]
fn b_pictures_are_refused_with_a_reason() {
    let folder = Folder::new();
    let mut film = FILM.to_vec();
    film.extend([0, 0, 1, 0x01, 0x9E, 0x21, 0x6C, 0, 0, 1, 0x09, 0xF0]);
    folder.file("film", film);
    let camd = camd(&folder, AGAIN);
    let state = camd.condition("fault");
    let reason = state["camera"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("B-pictures"), "{state}");
    let film = camd.get("/stream.mp4");
    assert_eq!((film.status, film.text()), (503, reason));
}

/// A listener of bare H.264.
const RAW_H264: &str =
    "[[listener]]\nprotocol = \"raw\"\nbind = \"127.0.0.1:0\"\ncodec = \"h264\"\n";

/// The NAL units of so many bytes of a raw listener. The last one may not be whole, and is left out.
fn read_raw(stream: &mut impl Read, bytes: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut got = vec![0; bytes];
    stream.read_exact(&mut got).expect("so many bytes");
    let mut all: Vec<_> = nals(&got).into_iter().map(<[u8]>::to_vec).collect();
    all.pop();
    (all, got)
}

#[test]
fn a_raw_client_gets_the_film_as_a_stream_of_bytes() {
    let folder = Folder::new();
    for (number, picture) in pictures().into_iter().enumerate() {
        // With a delimiter, which is left out.
        let delimited = [&[0, 0, 0, 1, 9, 0xF0], picture].concat();
        folder.file(&number.to_string(), delimited);
    }
    let at = folder.path().display().to_string();
    let camd = Camd::start(&format!(
        "[camera]\nsource = \"pipe\"\ncommand = [\"sh\", \"-c\", {STEADY:?}, \"sh\", {at:?}]\n{LISTENERS}{RAW_H264}"
    ));
    let mut stream = TcpStream::connect(camd.raw()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (got, bytes) = read_raw(&mut stream, 10 * FILM.len());
    let film = nals(FILM);
    assert!(got.len() > 9 * film.len(), "{} NAL units", got.len());
    for (number, (got, expected)) in got.iter().zip(film.iter().cycle()).enumerate() {
        assert_eq!(got, expected, "NAL unit {number}");
    }
    // What players find in it.
    let path = folder.file(
        "film.h264",
        &bytes[..bytes.len() - bytes.len() % FILM.len()],
    );
    let probe = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-f",
            "h264",
            "-show_entries",
            "stream=codec_name,width,height",
        ])
        .args(["-of", "csv=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe, which tests/setup installs");
    assert_eq!(String::from_utf8_lossy(&probe.stdout), "h264,64,48\n");
    // One that comes later begins with a key picture, too.
    let mut late = TcpStream::connect(camd.raw()).expect("a connection");
    late.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (got, _) = read_raw(&mut late, 2 * FILM.len());
    assert_eq!(got[0], film[0]);
    let state = camd.state();
    let clients = state["clients"].as_array().expect("a list");
    let raw = clients.iter().filter(|client| client["protocol"] == "raw");
    assert!(raw.clone().count() == 2, "{state:#}");
}

#[test]
fn raw_clients_are_sent_away_where_there_is_no_h264() {
    let mut camd = Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\n{LISTENERS}{RAW_H264}"
    ));
    // A healthy viewer of JPEGs beside them.
    let mut viewer = TcpStream::connect(camd.push()).expect("a connection");
    crate::common::push_next(&mut viewer);
    for _ in 0..3 {
        let mut stream = TcpStream::connect(camd.raw()).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the end");
        assert_eq!(rest, b"");
    }
    camd.wait_log("why", |log| log.contains("the camera gives no H.264"));
    assert_eq!(camd.log().matches("the camera gives no H.264").count(), 1);
    crate::common::push_next(&mut viewer);
}

#[test]
fn a_memfd_sink_holds_the_last_pictures_of_the_film() {
    let folder = Folder::new();
    for (number, picture) in pictures().into_iter().enumerate() {
        folder.file(&number.to_string(), picture);
    }
    let socket = folder.path().join("frames.sock");
    let at = folder.path().display().to_string();
    let sink = sink(&socket, "format = \"h264\"\nslots = 16");
    let _camd = Camd::start(&format!(
        "[camera]\nsource = \"pipe\"\ncommand = [\"sh\", \"-c\", {STEADY:?}, \"sh\", {at:?}]\n{LISTENERS}{sink}"
    ));
    let mut reader = Reader::new(&socket);
    let film = nals(FILM);
    let expected = [&film[..4], &film[4..5], &film[5..]];
    let mut last = None;
    for number in 0..30 {
        let description = reader.next_of_chain();
        let is_key = number % 3 == 0;
        let expected_flags = if is_key {
            flags::LIVE | flags::KEY
        } else {
            flags::LIVE
        };
        assert_eq!(description.fourcc.to_le_bytes(), *b"H264");
        assert_eq!((description.width, description.height), (64, 48));
        assert_eq!(description.flags, expected_flags, "picture {number}");
        assert_eq!(
            nals(&reader.picture),
            expected[number % 3],
            "picture {number}"
        );
        assert!(last.is_none_or(|last| last + 1 == description.sequence));
        last = Some(description.sequence);
    }
}

/// camd with a steady film for http, as bytes and in shared memory.
fn all_outlets(folder: &Folder) -> (Camd, String) {
    for (number, picture) in pictures().into_iter().enumerate() {
        folder.file(&number.to_string(), picture);
    }
    let socket = folder.path().join("frames.sock");
    let at = folder.path().display().to_string();
    let sink = sink(&socket, "format = \"h264\"\nslots = 16");
    let camd = Camd::start(&format!(
        "[camera]\nsource = \"pipe\"\ncommand = [\"sh\", \"-c\", {STEADY:?}, \"sh\", {at:?}]\n{LISTENERS}{RAW_H264}{sink}"
    ));
    (camd, format!("memfd:{}", socket.display()))
}

fn fetch(url: &str, arguments: &[&str]) -> Command {
    let mut fetch = Command::new(env!("CARGO_BIN_EXE_camd"));
    fetch.args(["fetch", url]).args(arguments);
    fetch
}

/// What a player finds: a line for each picture, with its time in seconds and "K" if it is one to begin with.
fn packets(path: &std::path::Path) -> Vec<(f64, bool)> {
    let probe = Command::new("ffprobe")
        .args([
            "-v",
            "warning",
            "-show_entries",
            "packet=pts_time,flags",
            "-of",
            "csv=p=0",
        ])
        .arg(path)
        .output()
        .expect("ffprobe, which tests/setup installs");
    assert_eq!(
        String::from_utf8_lossy(&probe.stderr),
        "",
        "{}",
        path.display()
    );
    let text = String::from_utf8_lossy(&probe.stdout);
    let packet = |line: &str| {
        let (time, flags) = line.split_once(',').expect("two columns");
        (time.parse().expect("a time"), flags.contains('K'))
    };
    text.lines().map(packet).collect()
}

/// The pictures in their own order, all of which can be decoded, from whichever one a player seeks to.
fn assert_seekable(path: &std::path::Path, pictures: usize) {
    let packets = packets(path);
    assert_eq!(packets.len(), pictures, "{}", path.display());
    assert!(packets[0].1 && packets[0].0 == 0.0, "{packets:?}");
    assert!(
        packets.windows(2).all(|two| two[0].0 < two[1].0),
        "{packets:?}"
    );
    let last_key = packets
        .iter()
        .rposition(|packet| packet.1)
        .expect("key pictures");
    // ffmpeg begins with the key picture in front of what is sought.
    let seek = Command::new("ffmpeg")
        .args(["-v", "warning", "-noaccurate_seek", "-ss"])
        .arg(format!("{:.3}", packets.last().expect("pictures").0))
        .arg("-i")
        .arg(path)
        .args(["-f", "framemd5", "-fps_mode", "passthrough", "-"])
        .output()
        .expect("ffmpeg, which tests/setup installs");
    assert_eq!(String::from_utf8_lossy(&seek.stderr), "");
    let text = String::from_utf8_lossy(&seek.stdout).into_owned();
    let frames = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(frames, pictures - last_key, "{text}");
    let probe = Command::new("ffprobe")
        .args([
            "-v",
            "warning",
            "-show_entries",
            "format=duration",
            "-of",
            "csv=p=0",
        ])
        .arg(path)
        .output()
        .expect("ffprobe");
    let duration: f64 = String::from_utf8_lossy(&probe.stdout)
        .trim()
        .parse()
        .expect("seconds");
    assert!(
        duration > packets.last().expect("pictures").0,
        "{duration} of {packets:?}"
    );
}

#[test]
fn a_fetched_film_is_a_file_in_which_players_seek() {
    let folder = Folder::new();
    let (camd, memfd) = all_outlets(&folder);
    let film = format!("http://{}/stream.mp4", camd.http());
    let raw = format!("raw://{}", camd.raw());
    for (number, url) in [&film, &raw, &memfd].into_iter().enumerate() {
        let clip = folder.path().join(format!("clip{number}.mp4"));
        let output = clip.display().to_string();
        let result = run(&mut fetch(url, &["-n", "14", "-o", &output]));
        assert!(result.status.success(), "{url}: {result:?}");
        assert_seekable(&clip, 14);
        let opencv = run(python("clip.py").arg(&clip));
        assert_eq!(String::from_utf8_lossy(&opencv.stdout), "14 14\n", "{url}");
        // Byte for byte, decoded.
        let bytes = std::fs::read(&clip).expect("the clip");
        let slices = nals(FILM).into_iter().filter(|nal| nal[0] & 0x1F < 6);
        for nal in slices {
            let found = bytes
                .windows(nal.len())
                .filter(|window| *window == nal)
                .count();
            assert!(found >= 4, "{url}: {found} times");
        }
    }
    // As long as was wanted.
    let clip = folder.path().join("long.mp4");
    let output = clip.display().to_string();
    let result = run(&mut fetch(&film, &["--duration", "0.5", "-o", &output]));
    assert!(result.status.success(), "{result:?}");
    let last = packets(&clip).last().expect("pictures").0;
    assert!((0.2..0.5).contains(&last), "{last} s");
    // Without end, for a pipe.
    let result = run(&mut fetch(&film, &["-n", "5", "-o", "-"]));
    assert!(result.status.success(), "{result:?}");
    let piped = folder.file("piped.mp4", &result.stdout);
    assert_eq!(packets(&piped).len(), 5);
}

#[test]
fn the_files_of_a_fetched_film_begin_with_key_pictures() {
    let folder = Folder::new();
    let (camd, _) = all_outlets(&folder);
    let film = format!("http://{}/stream.mp4", camd.http());
    let films = folder.path().join("films");
    let output = format!("{}/", films.display());
    // A key picture comes each 0.12 s or so.
    let arguments = ["--segment", "0.2", "-n", "24", "-o", &output];
    for round in 1..=2 {
        let result = run(&mut fetch(&film, &arguments));
        assert!(result.status.success(), "{result:?}");
        let mut files: Vec<_> = std::fs::read_dir(&films)
            .expect("a folder")
            .map(|entry| entry.expect("a file").path())
            .collect();
        files.sort();
        // Others are not overwritten.
        let total: usize = files.iter().map(|file| packets(file).len()).sum();
        assert_eq!(total, round * 24, "{files:?}");
        assert!(files.len() > 2 * round, "{files:?}");
        assert!(files[0].ends_with("camd-000001.mp4"), "{files:?}");
        for file in &files {
            assert_seekable(file, packets(file).len());
        }
    }
    let piped = fetch(&film, &["--segment", "1", "-o", "-"])
        .output()
        .expect("camd");
    assert!(!piped.status.success());
    let said = String::from_utf8_lossy(&piped.stderr).into_owned();
    assert!(said.contains("--segment makes several files"), "{said}");
}

#[test]
fn a_fetched_film_that_is_interrupted_is_whole() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let folder = Folder::new();
    let (camd, _) = all_outlets(&folder);
    let film = format!("http://{}/stream.mp4", camd.http());
    for (signal, whole) in [
        (Signal::SIGINT, true),
        (Signal::SIGTERM, true),
        (Signal::SIGKILL, false),
    ] {
        let clip = folder.path().join(format!("{signal}.mp4"));
        let mut child = fetch(&film, &["-o", &clip.display().to_string()])
            .spawn()
            .expect("camd");
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::fs::metadata(&clip).map_or(0, |it| it.len()) < 10_000 {
            assert!(std::time::Instant::now() < deadline, "nothing is written");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        kill(Pid::from_raw(child.id() as i32), signal).expect("a process");
        let status = child.wait().expect("its end");
        assert_eq!(status.success(), whole, "{status}");
        let bytes = std::fs::read(&clip).expect("the clip");
        let has = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
        assert_eq!(has(b"co64"), whole);
        if whole {
            assert_seekable(&clip, packets(&clip).len());
        } else {
            // It plays as far as it goes.
            let probe = Command::new("ffprobe")
                .args([
                    "-v",
                    "error",
                    "-count_frames",
                    "-show_entries",
                    "stream=nb_read_frames",
                ])
                .args(["-of", "csv=p=0"])
                .arg(&clip)
                .output()
                .expect("ffprobe");
            let text = String::from_utf8_lossy(&probe.stdout).into_owned();
            assert!(
                text.trim().parse::<u32>().is_ok_and(|frames| frames > 5),
                "{text}"
            );
        }
    }
}

#[test]
fn segments_are_for_films_alone() {
    let camd = Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\n{LISTENERS}"
    ));
    let url = format!("push://{}", camd.push());
    let result = fetch(&url, &["--segment", "1", "-o", "/dev/null"])
        .output()
        .expect("camd");
    let said = String::from_utf8_lossy(&result.stderr).into_owned();
    assert!(
        !result.status.success() && said.contains("--segment is for H.264"),
        "{said}"
    );
    // Pictures of so much time.
    let folder = Folder::new();
    let output = format!("{}/", folder.path().display());
    let result = run(&mut fetch(&url, &["--duration", "0.4", "-o", &output]));
    assert!(result.status.success(), "{result:?}");
    let pictures = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert!((2..60).contains(&pictures), "{pictures}");
}
