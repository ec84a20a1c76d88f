//! What a server of HTTP says, without a socket: head, chunks, parts.
#![no_main]

use camd::protocol::http::answer::{Chunks, Content, Head, Multipart, Step, head_length};
use camd_fuzz::{Cuts, FRAME_BYTES, Input};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let [choice, seed] = [input.byte(), input.byte()];
    let bytes = input.0;
    if choice & 1 != 0 {
        chunks(bytes, seed);
    }
    let Ok(Some(length)) = head_length(bytes) else {
        return;
    };
    let Ok(head) = Head::parse(&bytes[..length]) else {
        return;
    };
    let mut body = bytes[length..].to_vec();
    if head.chunked {
        let Ok(n) = Chunks::default().decode(&mut body) else {
            return;
        };
        body.truncate(n);
    }
    if let Ok(Content::Multipart(boundary)) = head.content() {
        parts(boundary, &body, seed);
    }
});

/// However the bytes are cut, the body is the same.
fn chunks(bytes: &[u8], seed: u8) {
    let decode = |seed| {
        let (mut left, mut cuts) = (bytes, Cuts::new(seed));
        let (mut chunks, mut body) = (Chunks::default(), Vec::<u8>::new());
        while !left.is_empty() {
            let mut piece = cuts.next(&mut left).to_vec();
            match chunks.decode(&mut piece) {
                Ok(n) => body.extend(&piece[..n]),
                Err(wrong) => return Err(wrong),
            }
        }
        Ok((body, chunks.is_over()))
    };
    assert_eq!(decode(0), decode(seed));
}

/// Each step takes something in or waits, and what is given out lies within what came.
fn parts(boundary: &[u8], mut left: &[u8], seed: u8) {
    let mut parts = Multipart::new(boundary, FRAME_BYTES);
    let (mut cuts, mut received) = (Cuts::new(seed), Vec::<u8>::new());
    while !left.is_empty() {
        received.extend(cuts.next(&mut left));
        loop {
            let used = match parts.step(&received) {
                Ok(Step::More) => break,
                Ok(Step::Skip(used)) => used,
                Ok(Step::Picture {
                    start,
                    length,
                    used,
                    ..
                }) => {
                    assert!(start + length <= used && length <= FRAME_BYTES);
                    used
                }
                Ok(Step::End) | Err(_) => return,
            };
            assert!(used <= received.len());
            received.drain(..used);
        }
        assert!(
            received.len() <= Multipart::room(FRAME_BYTES),
            "it wants more than there is room for"
        );
    }
}
