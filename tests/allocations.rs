//! No heap allocation per picture, C code included: valgrind counts every call of malloc and its kin in the process.

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Camd, LISTENERS, Stream, connect, pattern, pull_next, push_next, replay};
use nix::sys::signal::Signal;

/// valgrind makes everything some twenty times slower.
const PATIENCE: Duration = Duration::from_secs(120);

/// The allocations of one whole life of camd, in which `viewers` do something.
fn allocations(config: &str, viewers: impl FnOnce(&Camd)) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind
        // Only the count is wanted.
        .args([
            "--leak-check=no",
            "--undef-value-errors=no",
            "--num-callers=1",
        ])
        .arg(env!("CARGO_BIN_EXE_camd"))
        // For the time stamps: a zone with a long history.
        .env("TZ", "Europe/Berlin")
        .stdin(Stdio::null());
    let mut camd = Camd::start_as(&mut valgrind, config, PATIENCE);
    viewers(&camd);
    camd.signal(Signal::SIGTERM);
    let status = camd.wait(PATIENCE);
    assert!(status.success(), "{status}");
    let log = camd.final_log();
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
    let config = format!("{camera}{LISTENERS}");
    let [few, many] = [N, 10 * N].map(|count| {
        allocations(&config, |camd| {
            let mut stream = Stream::open(camd.http(), "/stream");
            let mut push = connect(camd.push());
            let mut pull = connect(camd.pull());
            for _ in 0..count {
                stream.next();
                push_next(&mut push);
                pull_next(&mut pull);
            }
        })
    });
    println!("{few} allocations for {N} pictures, {many} for {}", 10 * N);
    assert_eq!(few, many, "for {N} and {} pictures", 10 * N);
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
                    let found = camd::jpeg::inspect(&push_next(&mut push)).expect("a JPEG");
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
