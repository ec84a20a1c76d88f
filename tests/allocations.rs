//! No heap allocation per picture, C code included: valgrind counts every call of malloc and its kin in the process.

mod common;

use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use camd::encode::codec::{Codec, Recipe};
use camd::limits::RINGS;
use camd::picture::frame::{
    Area, Chroma, FrameBuf, Orientation, Picture, PixelFormat, Plane, RawPicture,
};
use camd::protocol::call::Kind;
use common::qt::Place;
use common::relay::Relay;
use common::user::{CALLS, User};
use common::{
    Camd, Folder, LISTENERS, RAW, Stream, connect, jpeg, memfd, pattern, pull_announcement,
    pull_next, push_next, push_wire, raw_next, read_head, replay, send,
};
use nix::sys::signal::Signal;

/// valgrind makes everything some twenty times slower.
const PATIENCE: Duration = Duration::from_secs(120);

fn valgrind() -> Command {
    let mut valgrind = Command::new("valgrind");
    // Only the count is wanted.
    valgrind.args([
        "--leak-check=no",
        "--undef-value-errors=no",
        "--num-callers=1",
    ]);
    valgrind.stdin(Stdio::null());
    valgrind
}

/// Held while valgrind runs: two at a time. It takes a processor by itself, and camd's deadlines are those of the clock.
fn turn() -> MutexGuard<'static, ()> {
    static TURNS: [Mutex<()>; 2] = [const { Mutex::new(()) }; 2];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let turn = &TURNS[NEXT.fetch_add(1, Ordering::Relaxed) % TURNS.len()];
    // A test that failed leaves nothing behind.
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The allocations of one whole life of camd, in which `viewers` do something. What they return stays until camd has ended.
fn allocations<T>(config: &str, viewers: impl FnOnce(&Camd) -> T) -> u64 {
    allocations_under(valgrind(), config, viewers)
}

fn allocations_under<T>(
    mut valgrind: Command,
    config: &str,
    viewers: impl FnOnce(&Camd) -> T,
) -> u64 {
    // A log for each process: the cells have none of their own.
    let logs = Folder::new();
    let log_file = format!("--log-file={}/%p", logs.path().display());
    valgrind
        .args(["--trace-children=yes", &log_file])
        .arg(env!("CARGO_BIN_EXE_camd"))
        // valgrind makes system calls that a cell must not.
        .env("CAMD_CELL_TEST", "free")
        // For the time stamps: a zone with a long history.
        .env("TZ", "Europe/Berlin");
    // The same for camd itself: valgrind lives in its process, and is not in its sandbox's rules.
    let config = match config.split_once("[limits]\n") {
        Some((front, limits)) => format!("{front}[limits]\nsandbox = false\n{limits}"),
        None => format!("{config}[limits]\nsandbox = false\n"),
    };
    let _turn = turn();
    let mut camd = Camd::start_as(&mut valgrind, &config, PATIENCE);
    // What cells allocate as they start counts whole, or what it is would depend on when they are ended.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let cells = &camd.state()["cells"];
        if cells["ready"] == cells["number"] {
            break;
        }
        assert!(Instant::now() < deadline, "cells do not start: {cells}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let _stays = viewers(&camd);
    camd.signal(Signal::SIGTERM);
    let status = camd.wait(PATIENCE);
    assert!(status.success(), "{status}");
    let logs = std::fs::read_dir(logs.path()).expect("a folder");
    let logs = logs.map(|entry| std::fs::read_to_string(entry.expect("an entry").path()));
    let counts: Vec<_> = logs.map(|log| counted(&log.expect("a log"))).collect();
    let cells = if config.contains("cells = 0") { 0 } else { 1 };
    assert!(counts.len() > cells, "the cells count, too: {counts:?}");
    counts.iter().sum()
}

/// What valgrind counted, by its last words.
fn counted(log: &str) -> u64 {
    let (_, rest) = log
        .split_once("total heap usage: ")
        .unwrap_or_else(|| panic!("no summary of valgrind in\n{log}"));
    let (allocs, _) = rest.split_once(" allocs").expect("valgrind's wording");
    let allocs = allocs.replace(',', "").parse().expect("a number");
    assert!(allocs > 0, "valgrind counts nothing");
    allocs
}

const N: usize = 20;

#[test]
fn pictures_cost_no_allocation() {
    let (_folder, camera) = replay(10, 5000, 30);
    let config = format!("{camera}{LISTENERS}{RAW}");
    let [few, many] = [N, 10 * N].map(|count| {
        allocations(&config, |camd| {
            let mut stream = Stream::open(camd.http(), "/stream");
            let mut push = connect(camd.push());
            let mut pull = connect(camd.pull());
            let mut raw = connect(camd.raw());
            for _ in 0..count {
                stream.next();
                push_next(&mut push);
                raw_next(&mut raw, 5000);
                pull_next(&mut pull);
            }
        })
    });
    println!("{few} allocations for {N} pictures, {many} for {}", 10 * N);
    assert_eq!(few, many, "for {N} and {} pictures", 10 * N);
}

/// Boxes of an MP4 as far as and with the next picture.
fn film_next(stream: &mut TcpStream) {
    loop {
        let mut begin = [0; 8];
        stream.read_exact(&mut begin).expect("a box");
        let size = u32::from_be_bytes(begin[..4].try_into().expect("four bytes"));
        let mut content = vec![0; size as usize - 8];
        stream.read_exact(&mut content).expect("a whole box");
        if &begin[4..] == b"mdat" {
            return;
        }
    }
}

#[test]
fn pictures_of_a_film_cost_no_allocation() {
    let folder = Folder::new();
    let film = folder.file("film", include_bytes!("data/64x48.264"));
    // One that waits for the next to be whole, and one that does not.
    let script = format!("while :; do cat {}; sleep 0.1; done", film.display());
    let raw = "[[listener]]\nprotocol = \"raw\"\nbind = \"127.0.0.1:0\"\ncodec = \"h264\"\n";
    let config = format!(
        "[camera]\nsource = \"pipe\"\ncommand = [\"sh\", \"-c\", {script:?}]\n{LISTENERS}{raw}"
    );
    let [few, many] = [N, 10 * N].map(|count| {
        let mut valgrind = valgrind();
        // What the program runs is none of camd's, and leaves no summary: it is another program before it ends.
        valgrind.args([
            "--trace-children-skip=/bin/*,/usr/bin/*,sh",
            "--child-silent-after-fork=yes",
        ]);
        allocations_under(valgrind, &config, |camd| {
            let mut viewer = connect(camd.http());
            send(
                &mut viewer,
                "GET /stream.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            );
            let head = read_head(&mut viewer);
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let mut raw = connect(camd.raw());
            for _ in 0..count {
                film_next(&mut viewer);
                // Nearly a picture.
                raw.read_exact(&mut [0; 1000]).expect("bytes");
            }
        })
    });
    println!(
        "{few} allocations for {N} pictures of a film, {many} for {}",
        10 * N
    );
    assert_eq!(few, many, "for {N} and {} pictures of a film", 10 * N);
}

#[test]
fn encoded_pictures_cost_no_allocation() {
    // With a time stamp, which is another from second to second.
    let config = pattern().replace("[camera]", "[camera]\ntimestamp = true");
    let [few, many] = [N, 10 * N].map(|count| {
        allocations(&config, |camd| {
            let mut push = connect(camd.push());
            for _ in 0..count {
                push_next(&mut push);
            }
        })
    });
    println!(
        "{few} allocations for {N} encoded pictures, {many} for {}",
        10 * N
    );
    assert_eq!(few, many, "for {N} and {} encoded pictures", 10 * N);
}

#[test]
fn transcoded_pictures_cost_no_allocation() {
    let (_folder, camera) = replay(10, 5000, 30);
    let config = format!("{camera}{LISTENERS}").replace("\"push\"", "\"push\"\nquality = 30");
    let [few, many] = [N, 10 * N].map(|count| {
        allocations(&config, |camd| {
            let mut push = connect(camd.push());
            for _ in 0..count {
                let picture = push_next(&mut push);
                // The ballast of comments is gone: it was encoded again.
                assert!(picture.len() < 5000);
            }
        })
    });
    println!(
        "{few} allocations for {N} transcoded pictures, {many} for {}",
        10 * N
    );
    assert_eq!(few, many, "for {N} and {} transcoded pictures", 10 * N);
}

#[test]
fn smaller_pictures_cost_no_allocation() {
    let (_folder, camera) = replay(10, 5000, 30);
    let replay = format!("{camera}{LISTENERS}");
    for config in [pattern(), replay] {
        let config = config.replace("\"push\"", "\"push\"\nquality = 30\nwidth = 42");
        let [few, many] = [N, 10 * N].map(|count| {
            allocations(&config, |camd| {
                let mut push = connect(camd.push());
                for _ in 0..count {
                    let found =
                        camd::picture::jpeg::inspect(&push_next(&mut push)).expect("a JPEG");
                    assert_eq!(found.width, 42);
                }
            })
        });
        println!(
            "{few} allocations for {N} smaller pictures, {many} for {}",
            10 * N
        );
        assert_eq!(few, many, "for {N} and {} smaller pictures", 10 * N);
    }
}

#[test]
fn cropped_pictures_cost_no_allocation() {
    let (_folder, camera) = replay(10, 5000, 30);
    for (config, widths) in [
        (pattern(), [32, 32]),
        // In whole blocks, and encoded.
        (format!("{camera}{LISTENERS}"), [41, 32]),
    ] {
        let config = config
            .replace("[camera]", "[camera]\ncrop = [9, 4, 32, 32]")
            .replace("\"push\"", "\"push\"\nquality = 30");
        let [few, many] = [N, 10 * N].map(|count| {
            allocations(&config, |camd| {
                let mut push = connect(camd.push());
                let mut stream = Stream::open(camd.http(), "/stream");
                for _ in 0..count {
                    for (jpeg, width) in [
                        (stream.next().jpeg, widths[0]),
                        (push_next(&mut push), widths[1]),
                    ] {
                        let found = camd::picture::jpeg::inspect(&jpeg).expect("a JPEG");
                        assert_eq!(found.width, width);
                    }
                }
            })
        });
        println!(
            "{few} allocations for {N} cropped pictures, {many} for {}",
            10 * N
        );
        assert_eq!(few, many, "for {N} and {} cropped pictures", 10 * N);
    }
}

#[test]
fn wished_pictures_cost_no_allocation() {
    // More kinds than there are, so that some get the nearest one.
    let config = pattern();
    let [few, many] = [N, 10 * N].map(|count| {
        allocations(&config, |camd| {
            let wish = |number: u16| {
                format!(
                    "/stream?width={}&quality={}&max_fps=200",
                    40 + 32 * number,
                    20 + number
                )
            };
            let open = |number| Stream::open(camd.http(), &wish(number));
            let mut streams: Vec<_> = (0..6).map(open).collect();
            for _ in 0..count {
                for stream in &mut streams {
                    let part = stream.next();
                    let found = camd::picture::jpeg::inspect(&part.jpeg).expect("a JPEG");
                    assert!(found.width < 320, "{}", found.width);
                }
            }
        })
    });
    println!(
        "{few} allocations for {N} wished pictures, {many} for {}",
        10 * N
    );
    assert_eq!(few, many, "for {N} and {} wished pictures", 10 * N);
}

/// A picture for a pull client that takes its time before each `ack`.
fn pull_slowly(stream: &mut TcpStream) -> Vec<u8> {
    send(stream, "new_request");
    let mut jpeg = vec![0; pull_announcement(stream)];
    for part in jpeg.chunks_mut(1380) {
        std::thread::sleep(Duration::from_millis(60));
        send(stream, "ack");
        stream.read_exact(part).expect("a part");
    }
    jpeg
}

#[test]
fn adapted_pictures_cost_no_allocation() {
    let (_folder, camera) = replay(10, 5000, 30);
    let config = format!("{camera}{LISTENERS}adaptive = true\nmin_fps = 20\n");
    let [few, many] = [N, 10 * N].map(|count| {
        allocations(&config, |camd| {
            let mut pull = connect(camd.pull());
            // Not even the smallest one can be had 20 times a second.
            while pull_slowly(&mut pull).len() == 5000 {}
            for _ in 0..count {
                let picture = pull_slowly(&mut pull);
                assert!(picture.len() < 5000, "it is made for the slow");
            }
        })
    });
    println!(
        "{few} allocations for {N} adapted pictures, {many} for {}",
        10 * N
    );
    assert_eq!(few, many, "for {N} and {} adapted pictures", 10 * N);
}

#[test]
fn pictures_of_a_push_server_cost_no_allocation() {
    let [few, many] = [N, 10 * N].map(|count| {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("its address");
        let camera = format!("[camera]\nsource = \"push\"\naddress = \"{address}\"\n");
        let config = format!("{camera}linger_s = 0\nfps = 240\n{LISTENERS}");
        let pictures: Vec<_> = (0..10).map(|number| jpeg(number, 5000)).collect();
        let sent = pictures.clone();
        // From the beginning: camd under valgrind is slow to begin, and a silent server is left.
        let server = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().expect("a connection");
            for picture in sent.iter().cycle() {
                // Damaged ones cost nothing either.
                for bytes in [&picture[..100], picture] {
                    if stream.write_all(&push_wire(bytes)).is_err() {
                        return;
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let allocations = allocations(&config, |camd| {
            let mut push = connect(camd.push());
            for _ in 0..count {
                let picture = push_next(&mut push);
                assert!(pictures.contains(&picture), "byte for byte");
            }
        });
        server.join().expect("it ends with camd");
        allocations
    });
    println!(
        "{few} allocations for {N} pictures of a push server, {many} for {}",
        10 * N
    );
    assert_eq!(
        few,
        many,
        "for {N} and {} pictures of a push server",
        10 * N
    );
}

/// A server of HTTP: what it answers to a request, and whether it closes behind that.
enum Server {
    Stream { chunked: bool },
    Snapshots { closes: bool },
}

impl Server {
    /// Serves one camd until that has ended.
    fn serve(&self, listener: &TcpListener, pictures: &[Vec<u8>]) {
        let mut pictures = pictures.iter().cycle();
        loop {
            let (mut stream, _) = listener.accept().expect("a connection");
            loop {
                let mut request = [0; 4096];
                match stream.read(&mut request) {
                    // The test's last word.
                    Ok(n) if request.starts_with(b"end") => return assert_eq!(n, 3),
                    Ok(1..) => {}
                    _ => break,
                }
                match self {
                    Server::Stream { chunked } => {
                        let _ = stream_to(&mut stream, *chunked, &mut pictures);
                        break;
                    }
                    Server::Snapshots { closes } => {
                        let picture = pictures.next().expect("endless");
                        let connection = if *closes { "Connection: close\r\n" } else { "" };
                        let head = format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n{connection}Content-Length: {}\r\n\r\n",
                            picture.len()
                        );
                        let answer = [head.as_bytes(), picture].concat();
                        if stream.write_all(&answer).is_err() || *closes {
                            break;
                        }
                    }
                }
            }
        }
    }
}

fn stream_to<'a>(
    stream: &mut TcpStream,
    chunked: bool,
    pictures: &mut impl Iterator<Item = &'a Vec<u8>>,
) -> std::io::Result<()> {
    let coding = if chunked {
        "Transfer-Encoding: chunked\r\n"
    } else {
        ""
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=x\r\n{coding}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    for (number, picture) in pictures.enumerate() {
        // With and without a length, dated or not; and damaged ones cost nothing either.
        let fields = match number % 4 {
            0 => String::new(),
            1 => "X-Timestamp: 7.5\r\n".to_owned(),
            _ => format!("Content-Length: {}\r\n", picture.len()),
        };
        let part = |picture: &[u8], fields: &str| {
            let part = [b"--x\r\n", fields.as_bytes(), b"\r\n", picture, b"\r\n"].concat();
            match chunked {
                true => [format!("{:x}\r\n", part.len()).as_bytes(), &part, b"\r\n"].concat(),
                false => part,
            }
        };
        stream.write_all(&part(&picture[..100], ""))?;
        stream.write_all(&part(picture, &fields))?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn pictures_of_a_server_of_http_cost_no_allocation() {
    for server in [
        Server::Stream { chunked: false },
        Server::Stream { chunked: true },
        Server::Snapshots { closes: false },
        // A connection for each picture.
        Server::Snapshots { closes: true },
    ] {
        let [few, many] = [N, 10 * N].map(|count| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("its address");
            let url = format!("http://me:pw@{address}/x?y");
            let camera = format!("[camera]\nsource = \"http\"\nurl = \"{url}\"\n");
            let config = format!("{camera}linger_s = 0\nfps = 50\n{LISTENERS}");
            let pictures: Vec<_> = (0..10).map(|number| jpeg(number, 5000)).collect();
            std::thread::scope(|scope| {
                scope.spawn(|| server.serve(&listener, &pictures));
                let allocations = allocations(&config, |camd| {
                    let mut push = connect(camd.push());
                    for _ in 0..count {
                        let picture = push_next(&mut push);
                        assert!(pictures.contains(&picture), "byte for byte");
                    }
                });
                let mut last = TcpStream::connect(address).expect("it listens");
                last.write_all(b"end").expect("it reads");
                allocations
            })
        });
        println!(
            "{few} allocations for {N} pictures of a server of HTTP, {many} for {}",
            10 * N
        );
        assert_eq!(few, many, "for {N} and {} pictures", 10 * N);
    }
}

#[test]
fn pictures_of_a_call_cost_no_allocation() {
    let [few, many] = [N, 10 * N].map(|count| {
        let relay = Relay::new();
        let config = format!("{}{LISTENERS}", relay.camera("127.0.0.1", 0));
        allocations(&config, |camd| {
            let mut push = connect(camd.push());
            let mut caller = relay.answer();
            for number in 0..count {
                let picture = jpeg(number as u32, 5000);
                caller.picture(&picture);
                assert!(push_next(&mut push) == picture, "byte for byte");
            }
            // A camera that left first, by a hair, would be dialled again.
            caller
        })
    });
    println!(
        "{few} allocations for {N} pictures of a call, {many} for {}",
        10 * N
    );
    assert_eq!(few, many, "for {N} and {} pictures of a call", 10 * N);
}

#[test]
fn pictures_for_calls_cost_no_allocation() {
    let (_folder, camera) = replay(10, 5000, 30);
    let config = format!("{camera}{LISTENERS}{CALLS}fps = 240\n");
    let [few, many] = [N, 10 * N].map(|count| {
        allocations(&config, |camd| {
            let mut alice = User::log_in(camd.call(), "alice");
            alice.ring_camera();
            for _ in 0..count {
                let picture = alice.picture();
                assert!(picture.len() < 5000, "it was encoded again");
            }
        })
    });
    println!(
        "{few} allocations for {N} pictures for a call, {many} for {}",
        10 * N
    );
    assert_eq!(few, many, "for {N} and {} pictures for a call", 10 * N);
}

#[test]
fn relayed_pictures_and_messages_cost_no_allocation() {
    let config = format!("{}{CALLS}", pattern());
    let picture = "AbC+".repeat(1000);
    // No more calls than one user may place at once.
    let [few, many] = [1, RINGS].map(|calls| {
        allocations(&config, |camd| {
            let [mut alice, mut bob] = ["alice", "bob"].map(|name| User::log_in(camd.call(), name));
            for _ in 0..calls {
                alice.say("bob", "", Kind::Request);
                bob.expect("alice", "", Kind::Request);
                bob.say("alice", "", Kind::Accept);
                alice.expect("bob", "", Kind::Accept);
                for _ in 0..N {
                    alice.say("bob", &picture, Kind::VideoData);
                    bob.expect("alice", &picture, Kind::VideoData);
                    bob.say("alice", "how are you", Kind::Other(60));
                    alice.expect("bob", "how are you", Kind::Other(60));
                    bob.say("nobody", "", Kind::Other(60));
                    bob.expect("nobody", "not logged in", Kind::Unavailable);
                }
                bob.say("alice", "", Kind::End);
                alice.expect("bob", "", Kind::End);
            }
        })
    });
    println!("{few} allocations for a relayed call with {N} pictures, {many} for {RINGS} of them");
    assert_eq!(few, many, "for 1 and {RINGS} relayed calls");
}

#[test]
fn pictures_in_shared_memory_cost_no_allocation() {
    let (_folder, replayed) = replay(10, 5000, 30);
    let raw = pattern().replace(LISTENERS, "");
    for (camera, keys) in [
        (&replayed, ""),
        (&replayed, "quality = 30\nwidth = 42\n"),
        (&replayed, "format = \"bgr24\"\n"),
        (&raw, "format = \"raw\"\n"),
    ] {
        let [few, many] = [N, 10 * N].map(|count| {
            let folder = Folder::new();
            let socket = folder.path().join("frames.sock");
            let config = format!("{camera}{LISTENERS}{}", memfd::sink(&socket, keys));
            allocations(&config, |_| {
                let mut readers = [(); 2].map(|()| memfd::Reader::new(&socket));
                for _ in 0..count {
                    for reader in &mut readers {
                        reader.next();
                    }
                }
            })
        });
        println!(
            "{few} allocations for {N} pictures in shared memory, {many} for {}: {keys}",
            10 * N
        );
        assert_eq!(few, many, "for {N} and {} pictures: {keys}", 10 * N);
    }
}

#[test]
fn pictures_in_qts_shared_memory_cost_no_allocation() {
    let (_folder, camera) = replay(10, 5000, 30);
    for camera in [pattern(), format!("{camera}{LISTENERS}")] {
        // Not the camera's size, and with a time stamp.
        let config = camera.replace("[camera]", "[camera]\ntimestamp = true\nrotate = 90");
        let config =
            format!("{config}[[sink]]\nkind = \"qt-shm\"\nkey = \"KEY\"\nfps = 240\nwidth = 32\n");
        let [few, many] = [N, 10 * N].map(|count| {
            let place = Place::new();
            let config = config.replace("KEY", &place.key);
            let viewers = |camd: &Camd| {
                let mut push = connect(camd.push());
                for _ in 0..count {
                    push_next(&mut push);
                }
                let state = camd.state();
                let written = state["sinks"][0]["frames"].as_u64();
                assert!(written > Some(count as u64 / 2), "{state:#}");
            };
            let mut valgrind = valgrind();
            valgrind.env("TMPDIR", place.folder.path());
            allocations_under(valgrind, &config, viewers)
        });
        println!(
            "{few} allocations for {N} shared pictures, {many} for {}",
            10 * N
        );
        assert_eq!(few, many, "for {N} and {} shared pictures", 10 * N);
    }
}

/// In this process: so many pictures, raw and JPEG, turned in all ways.
fn turn_pictures(count: usize) {
    let (width, height) = (64, 48);
    let data: Vec<u8> = (0..2 * width * height)
        .map(|i| (i * 7 % 251) as u8)
        .collect();
    let mut planes = [Plane::default(); 3];
    planes[0] = Plane {
        data: &data,
        stride: 2 * width,
    };
    let raw = RawPicture {
        format: PixelFormat::Yuyv,
        width: width as u16,
        height: height as u16,
        planes,
    };
    let mut codec = Codec::new();
    let [mut jpeg, mut out] = [(); 2].map(|()| FrameBuf::new(1 << 16));
    codec.encode(&raw, 90, &mut jpeg).unwrap();
    for i in 0..count {
        let turned = Orientation::quarters((i % 4) as u8).mirrored(i & 4 != 0, false);
        let chroma = Chroma::ALL[i / 8 % 2];
        let recipe = Recipe::at(50).turned(turned).coloured(chroma);
        codec.turn(jpeg.as_slice(), turned, &mut out).unwrap();
        let part = Area {
            x: (i % 16) as u16,
            y: (i % 13) as u16,
            width: 33,
            height: 21,
        };
        // The edges are whole MCUs.
        codec.cut(jpeg.as_slice(), turned, part, &mut out).unwrap();
        let cropped = recipe.cropped(part);
        for picture in [Picture::Raw(raw), Picture::Jpeg(jpeg.as_slice())] {
            codec.make(&picture, &cropped, &mut out).unwrap();
        }
        for picture in [Picture::Raw(raw), Picture::Jpeg(jpeg.as_slice())] {
            codec.make(&picture, &recipe, &mut out).unwrap();
        }
    }
}

#[test]
fn turned_pictures_cost_no_allocation() {
    const COUNT: &str = "CAMD_TEST_TURN_PICTURES";
    // This test again, in a process that valgrind watches.
    if let Ok(count) = env::var(COUNT) {
        return turn_pictures(count.parse().expect("a number of pictures"));
    }
    let [few, many] = [N, 10 * N].map(|count| {
        let _turn = turn();
        let output = valgrind()
            .arg(env::current_exe().expect("this program"))
            .args(["--exact", "turned_pictures_cost_no_allocation"])
            .env(COUNT, count.to_string())
            // Else it starts by asking how many processors there are, and threads.
            .env("RUST_TEST_THREADS", "1")
            .output()
            .expect("this test needs the program valgrind");
        let [out, log] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(
            output.status.success() && out.contains("1 passed"),
            "{out}{log}"
        );
        counted(&log)
    });
    println!(
        "{few} allocations for {N} turned pictures, {many} for {}",
        10 * N
    );
    assert_eq!(few, many, "for {N} and {} turned pictures", 10 * N);
}
