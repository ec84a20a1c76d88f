//! The codec's cells: what camd and its viewers see of one that is taken over, ends, hangs or lies; and the jail itself.

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use common::{
    Camd, Folder, LISTENERS, PATIENCE, Stream, assert_jpeg, connect, jpeg, pattern, push_next,
    replay,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Held to be written by what counts pictures that are missing: the others' cells hang, which takes a processor.
static QUIET: RwLock<()> = RwLock::new(());

/// Cells, whatever the machine; `cells` of them.
fn with_cells(config: &str, cells: usize) -> String {
    format!("{config}\n[limits]\ncells = {cells}\n")
}

/// camd with cells that do something wrong at one of their jobs ("open:3").
fn start_with(config: &str, test: &str) -> Camd {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.stdin(Stdio::null()).env("CAMD_CELL_TEST", test);
    Camd::start_as(&mut command, config, PATIENCE)
}

fn cells(camd: &Camd) -> serde_json::Value {
    camd.state()["cells"].clone()
}

fn lost(camd: &Camd, reason: &str) -> u64 {
    cells(camd)["lost"][reason].as_u64().expect("a number")
}

/// The processes that are camd's cells.
fn processes(camd: &Camd) -> Vec<Pid> {
    let children = format!("/proc/{0}/task/{0}/children", camd.pid());
    let children = fs::read_to_string(children).expect("its children");
    let mut cells = Vec::new();
    for child in children.split_whitespace() {
        let command = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        if command == b"camd\0--cell\0" {
            cells.push(Pid::from_raw(child.parse().expect("a number")));
        }
    }
    cells
}

fn status(pid: Pid, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let lines = status.lines();
    let mut found = lines.filter_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    found.next().expect("a field").trim().to_owned()
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cell_has_next_to_no_rights() {
    let _quiet = QUIET.read().unwrap_or_else(PoisonError::into_inner);
    let camd = Camd::start(&with_cells(&pattern(), 3));
    wait_for("all cells are ready", || cells(&camd)["ready"] == 3);
    let all = processes(&camd);
    assert_eq!(all.len(), 3);
    // SAFETY: it takes nothing.
    let is_root = unsafe { nix::libc::geteuid() } == 0;
    for &cell in &all {
        assert_eq!(status(cell, "Name"), "camd-cell");
        assert_eq!(status(cell, "Seccomp"), "2", "a filter");
        assert_eq!(status(cell, "NoNewPrivs"), "1");
        assert_eq!(status(cell, "CapEff"), "0000000000000000");
        assert_eq!(status(cell, "Threads"), "1");
        let user = status(cell, "Uid");
        assert!(
            !is_root || user.split_whitespace().all(|user| user == "65533"),
            "{user}"
        );
        let fds = fs::read_dir(format!("/proc/{cell}/fd")).map(Iterator::count);
        // Its end of the socket, and what wakes the two.
        assert!(!is_root || fds.is_ok_and(|fds| fds == 3), "descriptors");
        let limits = fs::read_to_string(format!("/proc/{cell}/limits")).expect("limits");
        let of = |what: &str| {
            let line = limits
                .lines()
                .find(|line| line.starts_with(what))
                .expect(what);
            line[what.len()..]
                .split_whitespace()
                .next()
                .expect("a limit")
                .to_owned()
        };
        assert_eq!(of("Max open files"), "0");
        assert_eq!(of("Max processes"), "0");
        assert_eq!(of("Max core file size"), "0");
        let memory = of("Max address space").parse::<u64>().expect("a limit");
        let has = status(cell, "VmSize");
        let has = has.trim_end_matches(" kB").parse::<u64>().expect("a size") * 1024;
        assert!(
            (has..has + (2 << 20)).contains(&memory),
            "{memory} for {has}"
        );
        let environment = fs::read(format!("/proc/{cell}/environ"));
        assert!(
            !is_root || environment.is_ok_and(|text| text.is_empty()),
            "no secret of camd's"
        );
    }
    drop(camd);
    // They end with camd, even if that was killed. Who has ended may still wait to be reaped.
    wait_for("they have ended", || {
        all.iter().all(|cell| {
            let status = fs::read_to_string(format!("/proc/{cell}/status"));
            status.map_or(true, |status| status.contains("State:\tZ"))
        })
    });
}

#[test]
fn what_a_cell_is_made_to_do_beyond_its_work_is_its_end_and_nothing_else() {
    let _quiet = QUIET.read().unwrap_or_else(PoisonError::into_inner);
    for (test, reason, said) in [
        ("open:4", "died", "SIGSYS"),
        ("connect:4", "died", "SIGSYS"),
        ("execve:4", "died", "SIGSYS"),
        ("memory:4", "died", "SIGSYS"),
        ("kill:4", "died", "SIGSYS"),
        ("wild:4", "died", "SIGSEGV"),
        ("panic:4", "died", "code 101"),
        ("hang:4", "hung", "in time"),
        ("length:4", "lied", "more bytes than there is room for"),
        ("size:4", "lied", "not asked for"),
        ("noise:4", "lied", ""),
    ] {
        // A picture every half of a second, so that the third loss does not come before this has looked.
        let (_folder, camera) = replay(8, 5000, 4);
        let config = format!("{camera}{LISTENERS}quality = 30\n");
        let mut camd = start_with(&with_cells(&config, 1), test);
        // Untouched, beside it: never disturbed.
        let mut beside = Stream::open(camd.http(), "/stream");
        let mut made = connect(camd.pull());
        for _ in 0..3 {
            assert_jpeg(&common::pull_next(&mut made));
        }
        // The fourth is lost, and what comes then is whole again.
        assert_jpeg(&common::pull_next(&mut made));
        assert!(lost(&camd, reason) >= 1, "{test}: {}", cells(&camd));
        for _ in 0..4 {
            assert_eq!(beside.next().jpeg.len(), 5000);
        }
        camd.wait_log(test, |log| {
            log.contains(said) && log.contains("another is started")
        });
        let metrics = camd.get("/metrics");
        let metrics = metrics.text();
        assert!(
            metrics.contains(&format!("camd_cells_lost_total{{reason=\"{reason}\"}} ")),
            "{metrics}"
        );
        camd.signal(Signal::SIGTERM);
        assert!(camd.wait(PATIENCE).success(), "{test}");
    }
}

#[test]
fn a_source_whose_pictures_kill_cells_is_opened_again() {
    let _quiet = QUIET.read().unwrap_or_else(PoisonError::into_inner);
    // Each cell ends at its first picture.
    let config = with_cells(&pattern().replace("fps = 30", "fps = 10"), 2);
    let mut camd = start_with(&config, "open:1");
    let mut stream = Stream::open(camd.http(), "/stream");
    // What viewers see then is the card, which camd draws itself.
    assert_jpeg(&stream.next().jpeg);
    camd.wait_log("a fault", |log| {
        log.contains("was lost 3 times within 60 s")
    });
    wait_for("it is opened again", || {
        camd.state()["camera"]["reopens"].as_u64() > Some(0)
    });
    let state = camd.state();
    assert!(lost(&camd, "died") >= 3, "{state:#}");
    assert!(
        camd.log().matches("another is started").count() <= 5,
        "{}",
        camd.log()
    );
}

#[test]
fn eight_viewers_miss_no_more_than_one_picture_when_a_cell_is_killed() {
    let _quiet = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    let config = with_cells(&pattern().replace("fps = 30", "fps = 5"), 1);
    let camd = Camd::start(&config);
    let mut viewers: Vec<_> = (0..8)
        .map(|_| Stream::open(camd.http(), "/stream"))
        .collect();
    let stamps = |viewers: &mut Vec<Stream>| -> Vec<f64> {
        let stamp = |viewer: &mut Stream| viewer.next().captured.as_secs_f64();
        viewers.iter_mut().map(stamp).collect()
    };
    let mut last = stamps(&mut viewers);
    // A third one within a minute closes the source.
    let mut missed = 0;
    for round in 0..12 {
        if [1, 6].contains(&round) {
            let all = processes(&camd);
            kill(all[0], Signal::SIGKILL).expect("it lives");
        }
        let next = stamps(&mut viewers);
        for (last, next) in last.iter().zip(&next) {
            // Of pictures that are 200 ms apart.
            let pictures = ((next - last) / 0.2).round() as u64;
            assert!(
                pictures <= 2,
                "{pictures} pictures further in round {round}"
            );
            missed += pictures.saturating_sub(1);
        }
        last = next;
    }
    assert_eq!(lost(&camd, "died"), 2, "{}", cells(&camd));
    assert!(missed <= 2 * 8, "{missed}");
}

#[test]
fn two_qualities_are_made_at_the_same_time_and_untouched_ones_by_nobody() {
    let _quiet = QUIET.read().unwrap_or_else(PoisonError::into_inner);
    let (_folder, camera) = replay(4, 5000, 20);
    let config = with_cells(&format!("{camera}{LISTENERS}"), 2);
    // It would end at the first picture that came to it.
    let camd = start_with(&config, "open:1");
    let mut push = connect(camd.push());
    let mut stream = Stream::open(camd.http(), "/stream");
    for _ in 0..10 {
        assert_eq!(push_next(&mut push).len(), 5000);
        assert_eq!(stream.next().jpeg.len(), 5000);
    }
    assert_eq!(
        cells(&camd)["lost"],
        serde_json::json!({"died": 0, "hung": 0, "lied": 0})
    );
}

#[test]
fn pictures_are_the_same_byte_for_byte_with_cells_and_without() {
    let _quiet = QUIET.read().unwrap_or_else(PoisonError::into_inner);
    let folder = Folder::new();
    folder.file("1.jpg", jpeg(1, 5000));
    let turned = "rotate = 90\nflip = \"horizontal\"\n";
    let cropped = "crop = [9, 4, 32, 32]\n";
    for more in ["", turned, cropped, "rotate = 180\ncrop = [5, 3, 40, 33]\n"] {
        let camera = format!(
            "[camera]\nsource = \"replay\"\npath = {:?}\nwidth = 64\nheight = 48\nfps = 10\nlinger_s = 0\n{more}",
            folder.path()
        );
        let listeners = LISTENERS.replace("\"push\"", "\"push\"\nquality = 30\nwidth = 30");
        let [without, with] = [0, 2].map(|count| {
            let camd = Camd::start(&with_cells(&format!("{camera}{listeners}"), count));
            let pictures = [
                push_next(&mut connect(camd.push())),
                common::pull_next(&mut connect(camd.pull())),
                camd.get("/snapshot?width=20&quality=60").body,
            ];
            let cells = cells(&camd);
            assert_eq!(cells.is_null(), count == 0, "{cells}");
            pictures
        });
        for (without, with) in without.iter().zip(&with) {
            assert_jpeg(with);
            assert!(
                without == with,
                "{more}: {} and {} bytes",
                without.len(),
                with.len()
            );
        }
    }
}
