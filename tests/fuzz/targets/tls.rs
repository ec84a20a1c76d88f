//! A client that shakes hands: what it sends, cut in two ways, must come to the same end, which is never that it is let in.
#![no_main]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, OnceLock};

use camd::tls::handshake::{Handshake, Step};
use camd::tls::identity::Identity;
use camd_fuzz::{Cuts, Input};

/// What the client has sent, and what it is told, of which it takes at most so much at a time.
struct Wire {
    incoming: VecDeque<u8>,
    room: usize,
    said: usize,
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.incoming.read(into)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.room);
        self.room -= n;
        self.said += n;
        match n {
            0 => Err(ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How it ends: whether it still waits, has been told that it speaks something else, or has broken the rules.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Waits,
    NoTls,
    Error,
}

fn shake(data: &[u8], seed: u8) -> (End, usize) {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    let config = IDENTITY
        .get_or_init(|| {
            let folder = std::env::temp_dir().join(format!("camd-fuzz-{}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder");
            let (identity, kept) = Identity::own(&folder, "fuzz");
            kept.expect("it can be written");
            std::fs::remove_dir_all(&folder).expect("it is empty but for that");
            identity
        })
        .config();
    let mut handshake = Handshake::new(&Arc::clone(config)).expect("a good configuration");
    let mut wire = Wire {
        incoming: VecDeque::new(),
        room: 0,
        said: 0,
    };
    let (mut left, mut cuts) = (data, Cuts::new(seed));
    loop {
        wire.incoming.extend(cuts.next(&mut left));
        wire.room = if seed == 0 || left.is_empty() {
            usize::MAX
        } else {
            100
        };
        loop {
            match handshake.advance(&mut wire) {
                Ok(Step::Waits) => break,
                Ok(Step::NoTls(_)) => return (End::NoTls, wire.said),
                Ok(Step::Done) => panic!("who does not know the keys is let in"),
                Ok(Step::Reckons) => {
                    // As the worker does it.
                    let (mut connection, record) = handshake.take().expect("it is there");
                    assert!(handshake.take().is_none(), "it is somewhere else");
                    let mut rest = &record[..];
                    while !rest.is_empty() {
                        match connection.read_tls(&mut rest) {
                            Ok(n) if n > 0 => {}
                            _ => return (End::Error, wire.said),
                        }
                    }
                    if connection.process_new_packets().is_err() {
                        return (End::Error, wire.said);
                    }
                    handshake.put(connection);
                }
                Err(_) => return (End::Error, wire.said),
            }
        }
        if left.is_empty() && wire.incoming.is_empty() {
            return (End::Waits, wire.said);
        }
        assert!(
            !left.is_empty() || wire.room == 0,
            "it leaves something unread"
        );
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let seed = input.byte();
    let (end, _) = shake(input.0, seed);
    let (other, _) = shake(input.0, 0);
    assert_eq!(end, other, "how it ends depends on how the bytes were cut");
});
