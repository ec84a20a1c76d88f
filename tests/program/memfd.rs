//! Sinks of kind "memfd": the memory byte by byte, readers in processes of their own that are killed and stopped, and
//! readers that mean no good.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::memfd::{Reader, connect, receive, sink};
use crate::common::{Camd, Folder, LISTENERS, PATIENCE, pattern, python, replay, run};
use camd::encode::codec::Codec;
use camd::picture::frame::{FrameBuf, PixelFormat, Plane, RawPicture};
use camd::system::ring::{flags, parse_hello};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl, open};
use nix::sys::epoll::{Epoll, EpollEvent, EpollTimeout};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mprotect};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, ftruncate, write};

fn files(camd: &Camd) -> usize {
    let folder = format!("/proc/{}/fd", camd.pid());
    fs::read_dir(&folder).expect("camd's files").count()
}

/// Without connections that are just being closed, such as the one over which the state was asked for.
fn settled_files(camd: &Camd) -> usize {
    let samples = (0..50).map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        files(camd)
    });
    samples.min().expect("there are samples")
}

fn sink_state(state: &serde_json::Value) -> &serde_json::Value {
    &state["sinks"][0]
}

fn has_readers(count: u64) -> impl Fn(&serde_json::Value) -> bool {
    move |state| sink_state(state)["readers"] == count
}

/// JPEGs of 1280x720, each with content of its own, and the `[camera]` that shows them at 60 fps.
fn hd(folder: &Folder) -> String {
    let (width, height) = (1280_usize, 720_usize);
    let mut codec = Codec::new();
    let mut jpeg = FrameBuf::new(1 << 20);
    for number in 0..12 {
        let mut random = fastrand::Rng::with_seed(number);
        let data: Vec<u8> = (0..2 * width * height)
            .map(|i| (i as u64 * (number + 1) / 97) as u8 ^ (random.u8(..) >> 3))
            .collect();
        let mut planes = [Plane::default(); 3];
        planes[0] = Plane {
            data: &data,
            stride: 2 * width,
        };
        let raw = RawPicture {
            format: PixelFormat::Yuyv,
            width: 1280,
            height: 720,
            planes,
        };
        codec.encode(&raw, 60, &mut jpeg).expect("a JPEG");
        folder.file(&format!("{number:02}.jpg"), jpeg.as_slice());
    }
    format!(
        "[camera]\nsource = \"replay\"\npath = {:?}\nwidth = 1280\nheight = 720\nfps = 60\nlinger_s = 1\n",
        folder.path()
    )
}

const SOCKET: &str = "CAMD_TEST_MEMFD_SOCKET";
const PICTURES: &str = "CAMD_TEST_MEMFD_PICTURES";

/// In a process of its own: takes every picture that comes, for ever, holds it against those that were sent, and says
/// how many have come.
fn read_for_ever(socket: &Path, pictures: &Path) {
    let known: HashSet<Vec<u8>> = fs::read_dir(pictures)
        .expect("the pictures that are sent")
        .map(|entry| fs::read(entry.expect("a picture").path()).expect("its content"))
        .collect();
    let mut reader = Reader::new(socket);
    let mut last = 0;
    for count in 1.. {
        let description = reader.next();
        assert!(description.sequence > last, "an older picture");
        last = description.sequence;
        assert_eq!((description.width, description.height), (1280, 720));
        assert!(known.contains(&reader.picture), "picture {last} is torn");
        println!("read {count}");
    }
}

/// A reader in a process of its own.
struct Other {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Other {
    fn start(test: &str, socket: &Path, pictures: &Path) -> Other {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", test, "--nocapture"])
            .env(SOCKET, socket)
            .env(PICTURES, pictures)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program, again");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut other = Other { child, lines };
        other.read(1);
        other
    }

    /// Until so many pictures have come in all.
    fn read(&mut self, count: u64) {
        let lines = self.lines.by_ref().map(|line| line.expect("text"));
        let mut counts = lines.filter_map(|line| line.strip_prefix("read ")?.parse::<u64>().ok());
        counts
            .find(|&got| got >= count)
            .unwrap_or_else(|| panic!("the reader has ended, see above"));
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("our child");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_killed_and_a_stopped_reader_cost_nobody_anything() {
    if let (Some(socket), Some(pictures)) = (env::var_os(SOCKET), env::var_os(PICTURES)) {
        return read_for_ever(Path::new(&socket), Path::new(&pictures));
    }
    let (folder, pictures) = (Folder::new(), Folder::new());
    let socket = folder.path().join("frames.sock");
    let config = format!(
        "{}{LISTENERS}{}",
        hd(&pictures),
        sink(&socket, "readers = 3")
    );
    let camd = Camd::start(&config);
    let start = || {
        let test = "memfd::a_killed_and_a_stopped_reader_cost_nobody_anything";
        Other::start(test, &socket, pictures.path())
    };
    let [mut killed, mut stopped, mut well] = [(); 3].map(|()| start());
    for other in [&mut killed, &mut stopped, &mut well] {
        other.read(20);
    }
    // Every slot has been written by now.
    camd.wait_state("all are there", has_readers(3));
    let (memory, open) = (camd.proc_status("VmRSS"), settled_files(&camd));

    killed.signal(Signal::SIGKILL);
    stopped.signal(Signal::SIGSTOP);
    camd.wait_state("the killed one's place is free", has_readers(2));
    let mut next = start();
    camd.wait_state("it is taken again", has_readers(3));
    well.read(200);
    next.read(100);
    // The stopped one missed them, and goes on with the newest.
    stopped.signal(Signal::SIGCONT);
    stopped.read(60);

    assert_eq!(settled_files(&camd), open, "open files");
    let now = camd.proc_status("VmRSS");
    assert!(now < memory + 512, "{memory} KB became {now}");
    let state = camd.state();
    let sink = sink_state(&state);
    assert_eq!(sink["skipped"], 0);
    assert!(sink["frames"].as_u64() > Some(200), "{sink}");
    assert!(sink["age_ms"].as_u64() < Some(5000), "{sink}");
    drop((well, next, stopped));
    camd.wait_state("the camera sleeps again", |state| {
        sink_state(state)["readers"] == 0 && state["camera"]["state"] == "idle"
    });
}

#[test]
fn nothing_but_reading_is_possible() {
    let folder = Folder::new();
    let socket = folder.path().join("frames.sock");
    let camd = Camd::start(&format!("{}{}", pattern(), sink(&socket, "")));
    let mut reader = Reader::new(&socket);
    let first = reader.next();

    let bytes = nix::sys::stat::fstat(&reader.memory)
        .expect("fstat")
        .st_size as usize;
    let whole = NonZeroUsize::new(bytes).expect("a ring");
    let read_write = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let reopened = {
        let path = PathBuf::from(format!("/proc/self/fd/{}", reader.memory.as_raw_fd()));
        // Which the kernel allows, for the file's mode does.
        open(&path, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).expect("for writing")
    };
    for file in [&reader.memory, &reopened] {
        // SAFETY: a new mapping.
        let mapped = unsafe { mmap(None, whole, read_write, MapFlags::MAP_SHARED, file, 0) };
        assert!(
            matches!(mapped, Err(Errno::EPERM | Errno::EACCES)),
            "a mapping to write in: {mapped:?}"
        );
        // SAFETY: a new mapping, to which nothing refers; it stays until the end of the test.
        unsafe {
            let readable = mmap(
                None,
                whole,
                ProtFlags::PROT_READ,
                MapFlags::MAP_SHARED,
                file,
                0,
            )
            .expect("a mapping to read from");
            let changed = mprotect(readable, bytes, read_write);
            assert_eq!(changed, Err(Errno::EACCES), "mprotect");
        }
        let seal = FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE);
        for (what, result) in [
            ("write", write(file, b"camdring").map(drop)),
            ("shrink", ftruncate(file, 0)),
            ("grow", ftruncate(file, 2 * bytes as i64)),
            (
                "punch",
                fallocate(
                    file,
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
                    0,
                    4096,
                ),
            ),
            ("seal", fcntl(file, seal).map(drop)),
        ] {
            assert!(
                matches!(result, Err(Errno::EPERM | Errno::EBADF | Errno::EINVAL)),
                "{what}: {result:?}"
            );
        }
    }
    // The bell cannot be rung or emptied, nor made to block camd.
    let full = u64::MAX.to_ne_bytes();
    assert_eq!(write(&reader.bell, &full), Err(Errno::EINVAL));
    assert_eq!(
        nix::unistd::read(&reader.bell, &mut [0; 8]),
        Err(Errno::EINVAL)
    );
    fcntl(&reader.bell, FcntlArg::F_SETFL(OFlag::empty())).expect("its own flags");

    // And all goes on.
    for _ in 0..10 {
        assert!(reader.next().sequence > first.sequence);
    }
    assert_eq!(sink_state(&camd.state())["readers"], 1);
}

#[test]
fn talking_floods_and_too_many_readers() {
    let folder = Folder::new();
    let socket = folder.path().join("frames.sock");
    let mut camd = Camd::start(&format!("{}{}", pattern(), sink(&socket, "readers = 2")));
    let mut good = Reader::new(&socket);
    good.next();
    let open = settled_files(&camd);

    // Who talks is out.
    for garbage in [&b"x"[..], &[0; 4096]] {
        let talking = Reader::new(&socket);
        talking.connection.send(garbage).expect("room for it");
        talking.assert_ended();
    }
    camd.wait_log("it is said", |log| {
        log.contains("readers must not send anything")
    });
    // Who shuts its half is gone, as who closes it.
    let leaving = Reader::new(&socket);
    leaving
        .connection
        .shutdown(std::net::Shutdown::Write)
        .expect("shutdown");
    leaving.assert_ended();
    camd.wait_state("the place is free", has_readers(1));

    // Who keeps what it was given, but not the connection, is not woken up any more.
    let Reader {
        connection,
        view,
        bell,
        ..
    } = Reader::new(&socket);
    drop(connection);
    camd.wait_state("the place is free", has_readers(1));
    let kept = Epoll(bell);
    let mut events = [EpollEvent::empty()];
    kept.wait(&mut events, EpollTimeout::ZERO)
        .expect("what came before");
    good.next();
    good.next();
    assert_eq!(kept.wait(&mut events, EpollTimeout::ZERO), Ok(0));
    drop(view);

    // Beyond the limit: told so, and closed.
    let second = Reader::new(&socket);
    let third = connect(&socket);
    let (hello, fds) = receive(&third);
    assert_eq!((parse_hello(&hello), fds.len()), (Some(0), 0));
    assert!(receive(&third).0.is_empty(), "closed after that");
    camd.wait_log("it is said", |log| {
        log.contains("no place for a reader: 2 at most")
    });
    drop(second);
    camd.wait_state("the place is free", has_readers(1));

    // A flood: of those who stay, those who go at once, and those who talk.
    let mut held = Vec::new();
    for number in 0..2000 {
        let connection = connect(&socket);
        match number % 3 {
            0 => drop(connection),
            // It may be closed already.
            1 => drop(connection.send(b"garbage")),
            _ => held.push(connection),
        }
        if number % 100 == 0 {
            good.next();
        }
    }
    drop(held);
    camd.wait_state("one is left", has_readers(1));
    good.next();
    let lines = camd.log().lines().count();
    assert!(lines < 60, "{lines} lines in the log");
    assert_eq!(settled_files(&camd), open, "open files");
    // Another type of socket.
    let stream = std::os::unix::net::UnixStream::connect(&socket);
    let errno = stream
        .map(drop)
        .expect_err("it is not a stream")
        .raw_os_error();
    assert_eq!(errno, Some(Errno::EPROTOTYPE as i32));
}

#[test]
fn the_message_and_the_memory_byte_for_byte() {
    let (folder, (pictures, camera)) = (Folder::new(), replay(1, 5000, 30));
    let socket = folder.path().join("frames.sock");
    let config = format!(
        "{camera}{LISTENERS}[limits]\nframe_bytes = 131072\n{}",
        sink(&socket, "slots = 2")
    );
    let _camd = Camd::start(&config);
    let before = crate::common::since_epoch();
    let connection = connect(&socket);
    let (hello, fds) = receive(&connection);
    // 4096 + 2 * (128 + 131072, in pages)
    let stride = 33 * 4096;
    let mut expected = b"camdring\x01\0\0\0".to_vec();
    expected.extend((4096 + 2 * stride as u32).to_le_bytes());
    assert_eq!(hello, expected);
    assert_eq!(fds.len(), 2);
    let flags = fcntl(&fds[0], FcntlArg::F_GETFL).expect("flags");
    assert_eq!(flags & OFlag::O_ACCMODE.bits(), OFlag::O_RDONLY.bits());

    let file = fs::File::from(fds[0].try_clone().expect("dup"));
    let at = |place: u64, length: usize| {
        let mut bytes = vec![0; length];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, place).expect("the memory");
        bytes
    };
    let number = |place| u32::from_le_bytes(at(place, 4).try_into().expect("four bytes"));
    let deadline = Instant::now() + PATIENCE;
    while number(68) < 2 {
        assert!(Instant::now() < deadline, "no pictures");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut header = b"camdring".to_vec();
    for number in [1, 2, 4096, stride as u32, 128, 131_072] {
        header.extend(u32::to_le_bytes(number));
    }
    header.resize(64, 0);
    assert_eq!(at(0, 64), header);
    assert!(number(64) < 2);
    // One that is not being written, while it is read.
    let jpeg = fs::read(pictures.path().join("0000.jpg")).expect("the picture");
    let slot = loop {
        let place = 4096 + u64::from(number(64)) * stride as u64;
        let lock = number(place);
        let slot = at(place, 128 + 5000);
        if lock % 2 == 0 && number(place) == lock {
            break slot;
        }
        assert!(Instant::now() < deadline, "always being written");
    };
    assert_eq!(&slot[4..8], b"JPEG");
    let long = |at: usize| u64::from_le_bytes(slot[at..][..8].try_into().expect("eight bytes"));
    assert!((2..10_000).contains(&long(8)), "sequence {}", long(8));
    let wall = Duration::from_nanos(long(16));
    let late = crate::common::since_epoch() + Duration::from_secs(1);
    assert!(
        before - Duration::from_secs(1) < wall && wall < late,
        "{wall:?}"
    );
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    let monotonic: Duration = nix::time::clock_gettime(clock).expect("the clock").into();
    let age = monotonic
        .checked_sub(Duration::from_nanos(long(24)))
        .expect("in the past");
    assert!(age < PATIENCE, "{age:?}");
    let mut rest = Vec::new();
    for number in [64, 48, 5000, flags::LIVE] {
        rest.extend(u32::to_le_bytes(number));
    }
    rest.resize(128 - 32, 0);
    assert_eq!(&slot[32..128], rest);
    assert!(slot[128..] == jpeg, "the picture");
}

/// Of four formats of one picture, what the Python reader makes of it, with camd's own answer beside it.
#[test]
fn opencv_sees_every_format() {
    let (folder, pictures) = (Folder::new(), Folder::new());
    let camera = hd(&pictures);
    let file = pictures.path().join("03.jpg");
    let only = Folder::new();
    fs::copy(&file, only.path().join("only.jpg")).expect("one picture");
    let camera = camera.replace(
        &format!("{:?}", pictures.path()),
        &format!("{:?}", only.path()),
    );
    let see = |format: &str, camera: &str, keys: &str| {
        let socket = folder.path().join(format!("{format}.sock"));
        let sink = sink(&socket, &format!("format = {format:?}\n{keys}"));
        let _camd = Camd::start(&format!("{camera}{LISTENERS}{sink}"));
        // Its socket is there before the first reader comes.
        drop(connect(&socket));
        let output = run(python("frames.py").arg(&socket).arg("3"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<Vec<String>> = text
            .lines()
            .map(|line| line.split(' ').map(str::to_owned).collect())
            .collect();
        assert_eq!(lines.len(), 3, "{text}");
        let sequences: Vec<u64> = lines.iter().map(|line| line[1].parse().unwrap()).collect();
        assert!(sequences.is_sorted_by(|a, b| a < b), "{text}");
        let first = &lines[0];
        [vec![first[0].clone()], first[2..].to_vec()].concat()
    };
    let jpeg = see("jpeg", &camera, "");
    assert_eq!(jpeg[..4], ["JPEG", "720", "1280", "3"]);
    let script = "import cv2, sys, zlib; print(zlib.crc32(cv2.imread(sys.argv[1]).tobytes()))";
    let python_path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin/python");
    let output = run(Command::new(python_path).args(["-c", script]).arg(&file));
    assert_eq!(
        jpeg[4],
        String::from_utf8_lossy(&output.stdout).trim(),
        "as in its file"
    );
    // The camera's own.
    assert_eq!(see("raw", &camera, ""), jpeg);
    let bgr = see("bgr24", &camera, "");
    assert_eq!(bgr[..4], ["BGR3", "720", "1280", "3"]);
    let rgb = see("rgb24", &camera, "");
    assert_eq!((&rgb[0][..], &rgb[1..]), ("RGB3", &bgr[1..]));
    let grey = see("grey", &camera, "width = 320");
    assert_eq!(grey[..4], ["GREY", "180", "320", "1"]);
    let small = see("jpeg", &camera, "quality = 30\nheight = 360");
    assert_eq!(small[..4], ["JPEG", "360", "640", "3"]);
    // A camera with raw pictures.
    let raw = see("raw", &pattern().replace(LISTENERS, ""), "");
    assert_eq!(raw[1..4], ["240", "320", "3"], "{raw:?}");
}

#[test]
fn the_socket_has_its_mode_and_leaves_nothing() {
    let folder = Folder::new();
    let socket = folder.path().join("frames.sock");
    let config = format!("{}{}", pattern(), sink(&socket, "mode = 0o660"));
    let mut camd = Camd::start(&config);
    Reader::new(&socket).next();
    let mode = fs::metadata(&socket)
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o660);

    // Another one cannot have it, and says so; and does not take it away.
    let mut other = Camd::start(&config);
    other.wait_log("it is taken", |log| log.contains("cannot listen on"));
    let state = other.state();
    let reason = sink_state(&state)["reason"]
        .as_str()
        .expect("a text")
        .to_owned();
    assert!(reason.contains("in use"), "{reason}");
    Reader::new(&socket).next();
    other.signal(Signal::SIGTERM);
    assert!(other.wait(PATIENCE).success());
    Reader::new(&socket).next();

    // Killed, it leaves a file that the next one removes.
    let reader = Reader::new(&socket);
    camd.signal(Signal::SIGKILL);
    camd.wait(PATIENCE);
    reader.assert_ended();
    let kind = fs::symlink_metadata(&socket)
        .expect("it is left")
        .file_type();
    assert!(kind.is_socket());
    let mut camd = Camd::start(&config);
    let reader = Reader::new(&socket);
    camd.signal(Signal::SIGTERM);
    assert!(camd.wait(PATIENCE).success());
    reader.assert_ended();
    assert!(!socket.exists(), "gone with camd");
}

#[test]
fn the_camera_runs_while_there_is_a_reader() {
    let folder = Folder::new();
    let socket = folder.path().join("frames.sock");
    let camera = pattern().replace("linger_s = 0", "linger_s = 1");
    let camd = Camd::start(&format!("{camera}{}", sink(&socket, "fps = 5")));
    camd.wait_state("it sleeps", |state| state["camera"]["state"] == "idle");
    let mut reader = Reader::new(&socket);
    let first = reader.next();
    let last = (0..9).map(|_| reader.next()).last().expect("nine more");
    // Five a second, of thirty: about six pictures from one to the next.
    let seconds = Duration::from_nanos(last.monotonic - first.monotonic).as_secs_f64();
    assert!(seconds > 9.0 / 5.0 * 0.9, "{seconds} s for nine");
    assert!(last.sequence - first.sequence > 2 * 9, "{first:?} {last:?}");
    drop(reader);
    camd.wait_state("it sleeps", |state| state["camera"]["state"] == "idle");
    // What is in the ring is old now.
    let mut next = Reader::new(&socket);
    assert!(next.next().sequence > last.sequence);
}

#[test]
fn a_reload_keeps_the_readers_of_what_stays() {
    let folder = Folder::new();
    let sockets = ["a", "b"].map(|name| folder.path().join(name));
    let [a, b] = &sockets;
    let both = format!("{}{}{}", pattern(), sink(a, "slots = 3"), sink(b, ""));
    let mut camd = Camd::start(&both);
    let [mut first, mut second] = [a, b].map(|socket| Reader::new(socket));
    let reload = |camd: &mut Camd, config: &str, times: usize| {
        fs::write(camd.config_path(), config).expect("the configuration");
        camd.signal(Signal::SIGHUP);
        camd.wait_log("read again", |log| {
            log.matches(": read again").count() == times
        });
    };
    // The first one is gone, and the second one has its number.
    reload(&mut camd, &format!("{}{}", pattern(), sink(b, "")), 1);
    first.assert_ended();
    assert!(!a.exists());
    second.next();
    camd.wait_state("one is left", has_readers(1));
    // Its going away is noticed there.
    let third = Reader::new(b);
    camd.wait_state("two", has_readers(2));
    drop(third);
    camd.wait_state("one", has_readers(1));
    // Another ring.
    reload(
        &mut camd,
        &format!("{}{}", pattern(), sink(b, "slots = 5")),
        2,
    );
    second.assert_ended();
    Reader::new(b).next();
    // What was mapped stays readable.
    first.view.next(&mut first.picture);
}

#[test]
fn a_picture_that_does_not_fit_is_left_out_and_said() {
    let (folder, pictures) = (Folder::new(), Folder::new());
    let socket = folder.path().join("frames.sock");
    let camera = hd(&pictures).replace("width = 1280", "width = 320");
    let camera = camera.replace("height = 720", "height = 240");
    let mut camd = Camd::start(&format!(
        "{camera}{LISTENERS}{}",
        sink(&socket, "format = \"bgr24\"")
    ));
    let mut reader = Reader::new(&socket);
    camd.wait_log("it is said", |log| {
        log.contains("a picture is left out: 1280x720")
    });
    let state = camd.wait_state("they are counted", |state| {
        sink_state(state)["skipped"].as_u64() > Some(3)
    });
    assert_eq!(sink_state(&state)["frames"], 0);
    assert_eq!(camd.log().matches("is left out").count(), 1);
    assert_eq!(reader.view.next(&mut reader.picture), None);
    let metrics = camd.get("/metrics");
    let line = |name: &str| {
        let text = metrics.text();
        let mut lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .next()
            .unwrap_or_else(|| panic!("{name} in {text}"))
            .to_owned()
    };
    assert!(!line("camd_sink_skipped_total{").ends_with(" 0"));
    assert!(line("camd_sink_frames_total{").ends_with(" 0"));
    assert!(line("camd_sink_readers{").ends_with(" 1"));
}

// --- camd fetch ---

fn fetch(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.arg("fetch");
    command
        .arg(format!("memfd:{}", socket.display()))
        .args(args);
    command
}

#[test]
fn fetch_takes_pictures_from_the_memory() {
    let (folder, (pictures, camera)) = (Folder::new(), replay(10, 5000, 30));
    let socket = folder.path().join("frames.sock");
    let camd = Camd::start(&format!(
        "{camera}{LISTENERS}{}",
        sink(&socket, "readers = 1")
    ));
    drop(connect(&socket));
    camd.wait_state("nobody is there", has_readers(0));
    let out = folder.path().join("out/");
    run(fetch(&socket, &["-n", "5", "-o"]).arg(&out));
    let got = |number| fs::read(out.join(format!("camd-{number:06}.jpg"))).expect("a picture");
    let sent: Vec<_> = (0..10)
        .map(|number| crate::common::jpeg(number, 5000))
        .collect();
    let numbers: Vec<_> = (1..=5)
        .map(|number| {
            sent.iter()
                .position(|sent| *sent == got(number))
                .expect("one that was sent")
        })
        .collect();
    assert_eq!(
        numbers.iter().collect::<HashSet<_>>().len(),
        5,
        "{numbers:?}"
    );
    drop(pictures);

    let fails = |socket: &Path, args: &[&str], code, why: &str| {
        let mut command = fetch(socket, args);
        let output = command
            .stdin(Stdio::null())
            .output()
            .expect("camd is there");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(why), "{text}");
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    };
    camd.wait_state("it has gone", has_readers(0));
    let held = Reader::new(&socket);
    fails(&socket, &["-o", "-"], 1, "all places are taken");
    drop(held);
    let nowhere = folder.path().join("nowhere");
    fails(&nowhere, &["-o", "-"], 1, "No such file");
    // No picture comes.
    let config = format!(
        "[camera]\nsource = \"pipe\"\ncommand = [\"sleep\", \"600\"]\n{LISTENERS}{}",
        sink(&folder.path().join("silent"), "")
    );
    let silent = Camd::start(&config);
    drop(connect(&folder.path().join("silent")));
    fails(
        &folder.path().join("silent"),
        &["-o", "-", "--timeout", "0.5"],
        3,
        "within 500ms",
    );
    drop(silent);
}

#[test]
fn fetch_encodes_what_is_no_jpeg() {
    let folder = Folder::new();
    for format in ["raw", "rgb24", "bgr24", "grey"] {
        let socket = folder.path().join(format);
        let sink = sink(&socket, &format!("format = {format:?}"));
        let mut camd = Camd::start(&format!("{}{sink}", pattern()));
        drop(connect(&socket));
        let output = run(&mut fetch(&socket, &["-n", "2", "-o", "-"]));
        let found = camd::picture::jpeg::inspect(&output.stdout).expect("a JPEG");
        assert_eq!((found.width, found.height), (320, 240), "{format}");
        camd.wait_state("it has gone", has_readers(0));
        // The end of the stream in good order.
        let mut child = fetch(&socket, &["-n", "0", "-o", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("camd is there");
        camd.wait_state("it reads", has_readers(1));
        camd.signal(Signal::SIGTERM);
        camd.wait(PATIENCE);
        assert!(child.wait().expect("its end").success());
    }
}
