//! One client never costs another, and the newest picture wins.

mod common;

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{
    Camd, PATIENCE, Paced, Stream, connect, connect_as_over_a_slow_line, push_next, raw_next,
    replay, since_epoch,
};

/// One test at a time: each of them wants the machine's time.
static ALONE: Mutex<()> = Mutex::new(());

const PICTURE: usize = 100_000;
const FPS: u32 = 30;

/// Listeners with room for all.
const LISTENERS: &str = r#"
[[listener]]
protocol = "http"
bind = "127.0.0.1:0"
clients = 20
[[listener]]
protocol = "push"
bind = "127.0.0.1:0"
clients = 20
[[listener]]
protocol = "raw"
bind = "127.0.0.1:0"
clients = 20
"#;

#[test]
fn a_slow_client_sees_new_pictures_and_fast_ones_see_all() {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let (_folder, camera) = replay(10, PICTURE, FPS);
    let camd = Camd::start(&format!("{camera}{LISTENERS}"));
    let address = camd.http();
    // The window in which pictures count, by their capture time, after everybody has settled.
    const SECONDS: u32 = 6;
    let begin = since_epoch() + Duration::from_secs(2);
    let end = begin + Duration::from_secs(SECONDS.into());
    let (ages, counts) = std::thread::scope(|scope| {
        let fast: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(move || {
                    let mut stream = Stream::open(address, "/stream");
                    let mut count = 0;
                    loop {
                        let part = stream.next();
                        if part.captured >= end {
                            return count;
                        }
                        count += u32::from(part.captured >= begin);
                    }
                })
            })
            .collect();
        let slow = scope.spawn(move || {
            let paced = Paced::new(connect_as_over_a_slow_line(address), 1e6);
            let mut stream = Stream::open_over(paced, "/stream");
            let mut ages = Vec::new();
            loop {
                // The age at the picture's last byte, which is when a viewer can see it.
                let part = stream.next_without_boundary();
                let age = part.age();
                stream.expect(b"\r\n--camdframe\r\n");
                if part.captured >= end {
                    return ages;
                }
                if part.captured >= begin {
                    ages.push(age);
                }
            }
        });
        (
            slow.join().expect("the slow client"),
            fast.into_iter()
                .map(|client| client.join().expect("a fast client"))
                .collect::<Vec<_>>(),
        )
    });
    let mut ages = ages;
    ages.sort();
    let median = ages[ages.len() / 2];
    println!(
        "slow client: {} pictures, median age {median:?}; fast clients: {counts:?} pictures",
        ages.len()
    );
    // It takes 0.1 s to read one: fewer than ten a second, more than half of that.
    assert!(
        (30..=63).contains(&ages.len()),
        "{} pictures at 1 MB/s",
        ages.len()
    );
    assert!(
        // 100 ms for the bytes, and 64 KB that the client's own kernel may hold before them.
        median < Duration::from_millis(180),
        "{median:?} in {ages:?}"
    );
    let all = SECONDS * FPS;
    for count in counts {
        assert!(count >= all * 95 / 100, "{count} of {all} pictures");
    }
}

/// The sockets at these addresses of this machine whose peer is one of those, each as its line in proc(5)'s net/tcp.
/// There the last two bytes of an address are its port, in hexadecimal.
fn server_sockets(at: [SocketAddr; 3], peers: &[String]) -> Vec<String> {
    let peers: Vec<u16> = peers
        .iter()
        .map(|peer| peer.parse::<SocketAddr>().expect("an address").port())
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's sockets");
    let is_theirs = |line: &&str| {
        let mut ports = line.split_whitespace().skip(1).map(|address| {
            let port = address.rsplit(':').next().expect("a port");
            u16::from_str_radix(port, 16).expect("four digits")
        });
        let mut next = || ports.next().expect("two addresses");
        let (local, remote) = (next(), next());
        at.iter().any(|at| at.port() == local) && peers.contains(&remote)
    };
    table
        .lines()
        .skip(1)
        .filter(is_theirs)
        .map(str::to_owned)
        .collect()
}

#[test]
fn clients_that_stop_reading_are_gone_in_time() {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let (_folder, camera) = replay(10, PICTURE, FPS);
    let camd = Camd::start(&format!(
        "{camera}{LISTENERS}[limits]\nwrite_timeout_s = 2\n"
    ));
    let mut witness = connect(camd.push());
    push_next(&mut witness);
    // They take one picture and never read again.
    let streams: Vec<_> = (0..10)
        .map(|_| {
            let mut stream = Stream::open(camd.http(), "/stream");
            stream.next();
            stream.tcp
        })
        .collect();
    let pushes: Vec<_> = (0..10)
        .map(|number| {
            if number % 2 == 0 {
                let mut push = connect(camd.push());
                push_next(&mut push);
                push
            } else {
                let mut raw = connect(camd.raw());
                raw_next(&mut raw, PICTURE);
                raw
            }
        })
        .collect();
    let hanging: Vec<String> = streams
        .iter()
        .chain(&pushes)
        .map(|tcp| tcp.local_addr().expect("its address").to_string())
        .collect();
    // Who still has a slot, with the bytes that the kernel has not taken.
    let unsent = || -> Vec<(String, u64)> {
        let state = camd.state();
        state["clients"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|client| {
                let peer = client["peer"].as_str()?.to_owned();
                let unsent = client["unsent_bytes"].as_u64()?;
                hanging.contains(&peer).then_some((peer, unsent))
            })
            .collect()
    };
    let deadline = Instant::now() + PATIENCE;
    let mut before = unsent();
    let stuck = loop {
        push_next(&mut witness);
        push_next(&mut witness);
        let now = unsent();
        if now == before && now.iter().all(|(_, bytes)| *bytes > 0) {
            break now;
        }
        assert!(Instant::now() < deadline, "they do not hang: {now:?}");
        before = now;
    };
    assert_eq!(
        stuck.len(),
        20,
        "all twenty hang at the same time: {stuck:?}"
    );
    let resident = camd.resident();
    let mut most = resident;
    let hang = Instant::now();
    while !unsent().is_empty() {
        most = most.max(camd.resident());
        push_next(&mut witness);
        assert!(hang.elapsed() < PATIENCE, "still there: {:?}", unsent());
    }
    println!(
        "gone after {:?}; resident {resident} KiB, at most {most} KiB",
        hang.elapsed()
    );
    // Less than a single picture of any of them.
    assert!(most - resident < 64, "from {resident} to {most} KiB");
    // Nor does the kernel hold anything for them: orphaned, each would keep its unsent bytes for a minute and more.
    let orphans = server_sockets([camd.http(), camd.push(), camd.raw()], &hanging);
    assert!(orphans.is_empty(), "left in the kernel: {orphans:?}");
    drop((streams, pushes));
    // The slots can be used again.
    let mut stream = Stream::open(camd.http(), "/stream");
    stream.next();
    push_next(&mut witness);
}

/// A slot's copy is for what a client is late with: clients that keep up leave theirs untouched.
#[test]
fn clients_that_keep_up_need_no_memory_for_large_pictures() {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let (_folder, camera) = replay(5, 1_000_000, 3);
    let camd = Camd::start(&format!("{camera}{LISTENERS}"));
    Stream::open(camd.http(), "/stream").next();
    let before = camd.resident();
    let most = std::thread::scope(|scope| {
        let address = camd.http();
        let clients: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(move || {
                    let mut stream = Stream::open(address, "/stream");
                    (0..10).for_each(|_| drop(stream.next()));
                })
            })
            .collect();
        let mut most = before;
        while clients.iter().any(|client| !client.is_finished()) {
            most = most.max(camd.resident());
            std::thread::sleep(Duration::from_millis(10));
        }
        most
    });
    println!("resident {before} KiB without them, {most} KiB with ten");
    // Of the ten megabytes that their copies would take, what a busy machine makes of keeping up.
    assert!(most - before < 4_000, "from {before} to {most} KiB");
}

#[test]
fn a_client_that_vanishes_in_the_middle_frees_its_slot() {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let (_folder, camera) = replay(10, PICTURE, FPS);
    let camd = Camd::start(&format!("{camera}{LISTENERS}"));
    let mut witness = connect(camd.push());
    // Many more connections than there are slots, ten at a time: half of them reset in mid-picture, half closed in order.
    for _ in 0..10 {
        for i in 0..10 {
            let mut stream = Stream::open(camd.http(), "/stream");
            let mut some = [0; 1000];
            stream
                .tcp
                .read_exact(&mut some)
                .expect("the start of a picture");
            if i % 2 == 0 {
                // Unread input makes the close a reset.
                drop(stream);
            } else {
                stream
                    .tcp
                    .shutdown(std::net::Shutdown::Both)
                    .expect("a shutdown");
            }
        }
        push_next(&mut witness);
        camd.wait_state("their slots are free", |state| {
            // The witness and the one that asks.
            state["clients"]
                .as_array()
                .is_some_and(|clients| clients.len() == 2)
        });
    }
}
