//! No heap allocation per picture, C code included: valgrind counts every call of malloc and its kin in the process.

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Camd, LISTENERS, Stream, connect, pull_next, push_next, replay};
use nix::sys::signal::Signal;

/// valgrind makes everything some twenty times slower.
const PATIENCE: Duration = Duration::from_secs(120);

/// The allocations of one whole life of camd, in which a client of each protocol receives `count` pictures.
fn allocations(config: &str, count: usize) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind
        // Only the count is wanted.
        .args([
            "--leak-check=no",
            "--undef-value-errors=no",
            "--num-callers=1",
        ])
        .arg(env!("CARGO_BIN_EXE_camd"));
    let mut camd = Camd::start_as(&mut valgrind, config, PATIENCE);
    let mut stream = Stream::open(camd.http(), "/stream");
    let mut push = connect(camd.push());
    let mut pull = connect(camd.pull());
    for tcp in [&stream.tcp, &push, &pull] {
        tcp.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
    }
    for _ in 0..count {
        stream.next();
        push_next(&mut push);
        pull_next(&mut pull);
    }
    camd.signal(Signal::SIGTERM);
    let status = camd.wait(PATIENCE);
    assert!(status.success(), "{status}");
    let log = camd.final_log();
    let (_, rest) = log
        .split_once("total heap usage: ")
        .unwrap_or_else(|| panic!("no summary of valgrind in\n{log}"));
    let (allocs, _) = rest.split_once(" allocs").expect("valgrind's wording");
    allocs.replace(',', "").parse().expect("a number")
}

#[test]
fn pictures_cost_no_allocation() {
    let (_folder, camera) = replay(10, 5000, 30);
    let config = format!("{camera}{LISTENERS}");
    const N: usize = 20;
    let few = allocations(&config, N);
    let many = allocations(&config, 10 * N);
    println!("{few} allocations for {N} pictures, {many} for {}", 10 * N);
    assert!(few > 0, "valgrind counts nothing");
    assert_eq!(few, many, "for {N} and {} pictures", 10 * N);
}
