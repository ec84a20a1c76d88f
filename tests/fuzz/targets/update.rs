//! What a client that may update a box uploads, and what its updater reads of the card besides.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

use camd::command::updater::{self, List};
use camd_fuzz::Input;
use minisign_verify::PublicKey;
use nix::libc;

/// That of minisign's own example, whose secret half nobody has here.
const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

thread_local! {
    static CARD: RefCell<File> = RefCell::new({
        // SAFETY: the name is a string of C's, and the descriptor is new.
        unsafe { File::from_raw_fd(libc::memfd_create(c"card".as_ptr(), 0)) }
    });
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    match input.byte() % 3 {
        0 => unsigned(input.0),
        1 => signed(input.0),
        _ => card(input.0),
    }
});

/// Nothing is taken from somebody without the key.
fn unsigned(block: &[u8]) {
    let key = PublicKey::from_base64(KEY).expect("minisign's own");
    let refused = List::read(block, &key).expect_err("nobody has signed it");
    let said = refused.to_string();
    assert!(
        said.starts_with("400 ") && !said.contains(|c: char| c.is_control()),
        "{said:?}"
    );
}

/// A list that somebody with the key has signed is one whose parts come one behind the other, or none.
fn signed(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let Some(list) = List::parse(text) else {
        return;
    };
    let (mut at, mut sizes) = (0, BTreeMap::<&str, u64>::new());
    for part in &list.parts {
        assert!(part.at >= at && part.length <= 1 << 20);
        at = part.at + part.length as u64;
        *sizes.entry(&part.file).or_default() += part.length as u64;
    }
    let files = |more| {
        let place = |(name, size): (&&str, &u64)| {
            let size = size + more;
            ((*name).to_owned(), updater::Place { at: 0, size })
        };
        sizes.iter().map(place).collect()
    };
    if list.fits(&files(0)) {
        assert!(list.parts.is_empty() || !list.fits(&files(512)));
    }
}

/// Files that are found on a card are in one piece, behind what describes them.
fn card(bytes: &[u8]) {
    CARD.with_borrow_mut(|card| {
        card.set_len(0).expect("it is ours");
        card.set_len(1 << 20).expect("it is ours");
        card.write_all_at(bytes, 0).expect("it is ours");
        if let Ok(files) = updater::files(card, "b") {
            for (name, place) in files {
                assert!(place.at >= 512 && place.size > 0, "{name} {place:?}");
            }
        }
    });
}
