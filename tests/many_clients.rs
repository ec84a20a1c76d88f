//! All places taken: every client gets its pictures, the page has room for all of them, and places that nobody uses cost
//! next to nothing. Also for builds with another number of places:
//! `CAMD_MAX_CLIENTS=256 cargo test --test many_clients`.

mod common;

use camd::limits::{MAX_CLIENTS, SLOTS};
use common::{Camd, assert_closed, connect, raw_next, replay};

const PICTURE: usize = 20_000;
/// Places for http.
const PAGES: usize = 4;

#[test]
fn every_place_can_be_taken() {
    let (_folder, camera) = replay(4, PICTURE, 10);
    let viewers = MAX_CLIENTS - PAGES;
    let camd = Camd::start(&format!(
        "{camera}
[[listener]]
protocol = \"http\"
bind = \"127.0.0.1:0\"
clients = {PAGES}
[[listener]]
protocol = \"raw\"
bind = \"127.0.0.1:0\"
clients = {viewers}
"
    ));
    let unused = camd.proc_status("VmRSS");
    let mut clients: Vec<_> = (0..viewers).map(|_| connect(camd.raw())).collect();
    for _ in 0..3 {
        for client in &mut clients {
            raw_next(client, PICTURE);
        }
    }
    let mut one_more = connect(camd.raw());
    assert_closed(&mut one_more);
    let state = camd.state();
    let listed = state["clients"].as_array().expect("a list");
    let of_raw = listed.iter().filter(|client| client["protocol"] == "raw");
    assert_eq!(of_raw.count(), viewers);
    assert_eq!(state["listeners"][1]["refused"], 1);
    println!("{SLOTS} slots, {unused} KiB before the first client");
    // The program with TLS and a sandbox in it and its libraries, and of each slot what is written when it is made: 4 KiB of that
    // are room for the beginning of a film, with all of its parameter sets.
    let most = 9 * 1024 + 512 + 11 * SLOTS as u64;
    assert!(unused < most, "{unused} KiB before the first client");
}
