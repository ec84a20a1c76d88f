//! JPEG by its markers: what is found of pictures without decoding them, and pictures found in a stream of bytes.
#![no_main]

use camd::picture::frame::{FrameBuf, Orientation};
use camd::picture::jpeg::{self, Header, Inspected, Splitter};
use camd::picture::whole::Examiner;
use camd::picture::{exif, scan};
use camd_fuzz::{Cuts, Input};

const CAPACITY: usize = 2048;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let [choice, seed] = [input.byte(), input.byte()];
    one(input.0, seed);
    split(input.0, seed);
    if choice & 1 != 0 {
        stream(input.0, seed);
    }
});

/// As one picture.
fn one(bytes: &[u8], seed: u8) {
    let glanced = jpeg::glance(bytes);
    let Ok(found) = jpeg::inspect(bytes) else {
        return;
    };
    let whole = &bytes[found.range()];
    assert!(whole.starts_with(&[0xFF, 0xD8]) && whole.ends_with(&[0xFF, 0xD9]));
    assert!(found.start + 4 <= found.end && found.width > 0 && found.height > 0);
    assert!((found.start..=found.end).contains(&found.scan));
    // What was cut out is found again as it is.
    let again = jpeg::inspect(whole).expect("it was good");
    assert_eq!(again.range(), 0..whole.len());
    let size = (found.width, found.height);
    assert_eq!((again.width, again.height), size);
    if let Some(glanced) = glanced {
        known(bytes, glanced, seed);
        // A look at both ends may miss that the picture in between is another one.
        if glanced.range() == found.range() {
            assert_eq!(glanced.scan, found.scan);
        }
    }
    let _ = scan::is_whole(whole);
    let orientation = exif::of_jpeg(whole);
    let mut out = FrameBuf::new(whole.len() + 4096);
    if let Some(at) = found.tables {
        jpeg::insert_tables(whole, at, &mut out).expect("there is room");
        let tabled = jpeg::inspect(out.as_slice()).expect("still good");
        assert_eq!(tabled.tables, None, "it has them now");
        assert_eq!((tabled.width, tabled.height), size);
    }
    // Its words go into another picture, which stays one.
    out.clear();
    out.copy_tail(&camd_fuzz::picture(1), 0);
    jpeg::keep_words(whole, Orientation::UPRIGHT, &mut out);
    let made = jpeg::inspect(out.as_slice()).expect("words do no harm");
    assert_eq!((made.width, made.height), (16, 16));
    let kept = exif::of_jpeg(out.as_slice());
    assert!(
        kept == Orientation::UPRIGHT || kept == orientation,
        "{kept:?} of {orientation:?}"
    );
}

/// As the next picture of a camera, whose header is known: it is taken for the same only if it says the same.
fn known(bytes: &[u8], glanced: Inspected, seed: u8) {
    let Some(header) = Header::of(bytes, glanced) else {
        return;
    };
    assert_eq!(header.glance(bytes), Some(glanced));
    let mut next = bytes.to_vec();
    // One byte of the header is another one.
    let at = usize::from(seed) * 7 % glanced.scan;
    for other in [0, 1, 0xC0, 0xD8, 0xDA, 0xE0, 0xFF] {
        next[at] = other;
        if let Some(found) = header.glance(&next) {
            assert_eq!(jpeg::glance(&next), Some(found), "byte {at} is {other}");
        }
    }
}

/// As a stream: the same pictures, however it is cut.
fn split(bytes: &[u8], seed: u8) {
    let pictures = |seed| {
        let mut splitter = Splitter::new(CAPACITY);
        let (mut left, mut cuts) = (bytes, Cuts::new(seed));
        let mut pictures = Vec::new();
        while !left.is_empty() {
            let mut piece = cuts.next(&mut left);
            while !piece.is_empty() {
                let spare = splitter.spare();
                let n = spare.len().min(piece.len());
                spare[..n].copy_from_slice(&piece[..n]);
                piece = &piece[n..];
                splitter.filled(n);
                while let Some(jpeg) = splitter.next_frame() {
                    assert!(jpeg.len() <= CAPACITY);
                    assert!(jpeg.starts_with(&[0xFF, 0xD8]) && jpeg.ends_with(&[0xFF, 0xD9]));
                    pictures.push(jpeg.to_vec());
                }
            }
        }
        pictures
    };
    assert_eq!(pictures(0), pictures(seed), "it depends on how it was cut");
}

/// As pictures of one camera, one after the other.
fn stream(bytes: &[u8], seed: u8) {
    let (mut left, mut cuts) = (bytes, Cuts::new(seed));
    let mut examiner = Examiner::new();
    while !left.is_empty() {
        let before = left;
        let length = cuts.next(&mut left).len();
        // Pictures of the whole rest, too: else none is ever whole.
        for bytes in [&before[..length], before] {
            for _ in 0..2 {
                if let Ok(Some(found)) = examiner.examine(bytes) {
                    let jpeg = &bytes[found.range()];
                    assert!(jpeg.starts_with(&[0xFF, 0xD8]) && jpeg.ends_with(&[0xFF, 0xD9]));
                }
            }
        }
    }
}
