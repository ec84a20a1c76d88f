//! PNGs that another program shares as Qt does: through a segment of this process, as the source has them. The png crate checks no
//! checksums in builds for fuzzing.
#![no_main]

use std::cell::RefCell;
use std::time::{Duration, Instant};

use camd::picture::frame::Picture;
use camd::source::Source;
use camd::source::qt_shm::QtShm;
use camd::system::shm::{Key, Writer, picture};

/// Larger ones only take longer.
const SIDE: u32 = 512;
const BYTES: usize = 64 * 1024;

struct Pair {
    writer: Writer,
    source: QtShm,
    now: Instant,
}

thread_local! {
    static PAIR: RefCell<Pair> = RefCell::new({
        let key = format!("camd-fuzz-{}", std::process::id());
        let writer = Writer::create(&Key::new(&key), BYTES, 0o600).expect("shared memory");
        let mut source = QtShm::new(&key, 240);
        let now = camd_fuzz::start();
        source.start(now).expect("there is a segment");
        Pair { writer, source, now }
    });
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if data.len() < 40 || data.len() + 4 > BYTES {
        return;
    }
    // IHDR is the first chunk: 8 bytes of signature, length, name, width, height.
    let side = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().expect("four"));
    if data.starts_with(&picture::SIGNATURE) && (side(16) > SIDE || side(20) > SIDE) {
        return;
    }
    PAIR.with_borrow_mut(|pair| {
        let now = pair.now;
        let mut write = |bytes: &[u8]| {
            let written = pair.writer.write(now, |segment| {
                segment.write(0, &picture::PRESENT);
                segment.write(4, bytes);
                let zeros = vec![0; BYTES - 4 - bytes.len()];
                segment.write(4 + bytes.len(), &zeros);
            });
            assert!(written.expect("it is ours"), "nobody else has the lock");
        };
        write(data);
        pair.now += Duration::from_millis(10);
        let captured = pair.source.capture(pair.now).expect("the segment is there");
        if captured.fresh {
            let frame = pair.source.newest().expect("it is fresh");
            let Picture::Raw(raw) = frame.picture else {
                unreachable!("PNGs become pixels")
            };
            let bytes = 3 * usize::from(raw.width) * usize::from(raw.height);
            assert_eq!(raw.planes[0].data.len(), bytes);
        }
    });
});
