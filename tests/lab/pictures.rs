//! The pictures of `cargo bench --bench codec`, made in the guest: see `tests/bench/work.rs` and `pictures.py`. And those
//! of a call, for `calls.py`.

#[path = "../bench/work.rs"]
mod work;

use std::fs;
use std::time::Instant;

use camd::encode::codec::{Codec, Recipe};
use camd::picture::frame::{FrameBuf, Picture, Size};
use camd::protocol::call;

/// As a call listener has them by default.
const QUALITY: u8 = 30;
const SIZE: Size = Size {
    width: 160,
    height: 120,
};

/// `call FRAMES OUT FILE…`: makes the text of a call's picture of each JPEG so many times, as it goes into a record, and
/// writes the last JPEG. Prints the nanoseconds of CPU for one.
fn call(frames: &str, out: &str, files: &[&str]) {
    let sources: Vec<_> = files
        .iter()
        .map(|file| fs::read(file).expect("a JPEG"))
        .collect();
    let mut codec = Codec::new();
    codec.set_clock(Instant::now);
    let mut jpeg = FrameBuf::new(1 << 20);
    let mut text = vec![0; 1 << 20];
    let recipe = Recipe::at(QUALITY).within(SIZE);
    let frames: usize = frames.parse().expect("a number of pictures");
    let time = work::counted(frames, || {
        for source in &sources {
            codec
                .make(&Picture::Jpeg(source), &recipe, &mut jpeg)
                .expect("a picture");
            call::write_content(jpeg.as_slice(), &mut text).expect("room");
        }
    });
    fs::write(out, jpeg.as_slice()).expect("a file");
    println!("{}", time.as_nanos() as usize / frames / sources.len());
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        ["call", frames, out, files @ ..] => call(frames, out, files),
        _ => work::run(&arguments),
    }
}
