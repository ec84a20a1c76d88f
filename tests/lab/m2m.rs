//! Drives vicodec, a memory-to-memory device of the kernel's, with camd's own queue code. It codes FWHT in place of JPEG:
//! what the coded pictures are is a parameter of that code, everything else is the same.
//!
//! For each raw format and size: so many pictures in, as many coded ones out, in order and of the size that their content
//! makes plausible, without one heap allocation. Then so many starts and ends, half of the ends in the middle of a
//! picture, after which the process must have no more files, mappings and heap than before.
//!
//! `m2m PICTURES ROUNDS`

#[path = "../common/raw.rs"]
mod raw;
#[path = "../common/resources.rs"]
mod resources;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use camd::encode::m2m::{self, Coding, Encoder, Found, Settings};
use camd::limits::ENCODER_STALL;
use camd::picture::frame::{FrameBuf, FrameMeta, Orientation, PixelFormat, Size};
use camd::system::v4l2::formats::fourcc;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use raw::Raw;
use resources::{Resources, allocations, heap};

/// The kernel's test codec (`V4L2_PIX_FMT_FWHT`), in place of [`m2m::JPEG`].
const FWHT: Coding = Coding {
    codes: &[fourcc(b"FWHT")],
    quality: false,
    accept: accept_fwht,
};

/// Bytes of `struct fwht_cframe_hdr`, and where in it there are numbers of 32 bits, big-endian.
const HEADER: usize = 44;
const WIDTH_AT: usize = 12;
const HEIGHT_AT: usize = 16;
const SIZE_AT: usize = 40;
const MAGIC: [u8; 8] = [0x4f, 0x4f, 0x4f, 0x4f, 0xff, 0xff, 0xff, 0xff];

fn accept_fwht(data: &[u8], size: Size, out: &mut FrameBuf) -> Result<(), String> {
    if data.len() < HEADER || data[..8] != MAGIC {
        return Err(format!("{} bytes, no FWHT header", data.len()));
    }
    let number = |at: usize| {
        let bytes = data[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(bytes) as usize
    };
    let told = (number(WIDTH_AT), number(HEIGHT_AT), number(SIZE_AT));
    let expected = (size.width.into(), size.height.into(), data.len() - HEADER);
    if told != expected {
        return Err(format!(
            "a header that tells {told:?} in place of {expected:?}"
        ));
    }
    out.clear();
    out.copy_tail(data, 0);
    Ok(())
}

/// A camera's memory: lines lie further apart than vicodec's.
struct Camera {
    raw: Raw,
    drawn: u64,
}

impl Camera {
    fn new(format: PixelFormat, width: u16, height: u16) -> Camera {
        Camera {
            raw: Raw::new(format, width, height, 24),
            drawn: 0,
        }
    }

    /// Flat, or noise all over: pictures that take turns can be told apart by what they become.
    fn draw(&mut self, noisy: bool) {
        self.drawn += 1;
        if noisy {
            self.raw.draw(self.drawn);
        } else {
            self.raw
                .planes
                .iter_mut()
                .for_each(|(data, _)| data.fill(128));
        }
    }

    fn meta(&self, sequence: u64, now: Instant) -> FrameMeta {
        FrameMeta {
            sequence,
            captured: now,
            wall: Duration::ZERO,
            width: self.raw.width,
            height: self.raw.height,
            orientation: Orientation::UPRIGHT,
            exif: Orientation::UPRIGHT,
            crop: None,
            live: true,
        }
    }
}

struct Bench {
    camera: Camera,
    encoder: Encoder,
    poll: Poll,
    events: Events,
    out: FrameBuf,
}

impl Bench {
    fn open(found: &Found, camera: Camera) -> Result<Bench, String> {
        let nodes = m2m::System;
        let most = 4 << 20;
        let encoder = Encoder::open(
            &nodes,
            found,
            FWHT,
            &camera.raw.lend(),
            &Settings::default(),
            most,
        )
        .map_err(|trouble| trouble.to_string())?;
        let poll = Poll::new().map_err(|error| error.to_string())?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut SourceFd(&encoder.fd()), Token(0), interest)
            .map_err(|error| error.to_string())?;
        Ok(Bench {
            camera,
            encoder,
            poll,
            events: Events::with_capacity(4),
            out: FrameBuf::new(most),
        })
    }

    fn submit(&mut self, number: u64) -> Result<(), String> {
        let now = Instant::now();
        let meta = self.camera.meta(number, now);
        self.encoder
            .submit(&self.camera.raw.lend(), &meta, now)
            .map_err(|trouble| trouble.to_string())
    }

    /// Waits for the picture as camd does: by edge-triggered events alone. Its number and its bytes.
    fn wait(&mut self) -> Result<(u64, usize), String> {
        loop {
            self.poll
                .poll(&mut self.events, Some(2 * ENCODER_STALL))
                .map_err(|error| error.to_string())?;
            if self.events.is_empty() {
                return Err("no event for a picture".into());
            }
            if self.events.iter().any(|event| event.is_error()) {
                return Err("an error by poll".into());
            }
            match self.encoder.advance(Instant::now(), &mut self.out) {
                Ok(Some(meta)) => return Ok((meta.sequence, self.out.len())),
                Ok(None) => {}
                Err(trouble) => return Err(trouble.to_string()),
            }
        }
    }

    fn picture(&mut self, number: u64) -> Result<usize, String> {
        let noisy = number.is_multiple_of(2);
        self.camera.draw(noisy);
        self.submit(number)?;
        let (got, bytes) = self.wait()?;
        let raw: usize = self
            .camera
            .raw
            .planes
            .iter()
            .map(|(data, _)| data.len())
            .sum();
        let plausible = if noisy {
            raw / 8..=raw * 2
        } else {
            HEADER + 1..=raw / 16
        };
        if got != number || !plausible.contains(&bytes) {
            return Err(format!(
                "picture {number} became picture {got} of {bytes} bytes, plausible are {plausible:?}"
            ));
        }
        Ok(bytes)
    }
}

fn pictures(found: &Found, camera: Camera, count: u64) -> Result<String, String> {
    let (format, width, height) = (camera.raw.format, camera.raw.width, camera.raw.height);
    let about = format!("{} {width}x{height}", format.name());
    let explain = |why: String| format!("{about}: {why}");
    let mut bench = Bench::open(found, camera).map_err(explain)?;
    let mut sizes = [0, 0];
    let mut before = 0;
    for number in 1..=count {
        let bytes = bench.picture(number).map_err(explain)?;
        sizes[number as usize % 2] = bytes;
        if number == 2 {
            before = allocations();
        }
    }
    let more = allocations() - before;
    if more > 0 {
        return Err(explain(format!("{more} heap allocations")));
    }
    Ok(format!(
        "{about}: {count} pictures of {} and {} bytes",
        sizes[1], sizes[0]
    ))
}

fn rounds(found: &Found, count: u64) -> Result<String, String> {
    let mut before = None;
    for round in 0..count {
        let mut bench = Bench::open(found, Camera::new(PixelFormat::Yuyv, 640, 480))
            .map_err(|why| format!("round {round}: {why}"))?;
        bench
            .picture(1)
            .and_then(|_| bench.submit(2))
            .map_err(|why| format!("round {round}: {why}"))?;
        if round % 2 == 0 {
            bench
                .wait()
                .map_err(|why| format!("round {round}: {why}"))?;
        }
        drop(bench);
        if round == 1 {
            let resources = Resources::now()?;
            // After what `resources` itself takes.
            before = Some((resources, heap()));
        }
    }
    let heap_after = heap();
    let after = Resources::now()?;
    let (before, heap_before) = before.ok_or("at least two rounds, please")?;
    if after != before || heap_after != heap_before {
        return Err(format!(
            "leaked: {before:?} and {heap_before} bytes of heap became {after:?} and {heap_after} bytes"
        ));
    }
    Ok(format!(
        "{count} starts, half of them ended in the middle of a picture: {} files, {} mappings as before",
        after.count(),
        after.mappings
    ))
}

fn run(count: u64, turns: u64) -> Result<(), String> {
    use PixelFormat::{Grey, Nv12, Rgb24, Yu12, Yuyv};
    // The last two are not whole blocks of vicodec's: it pads them, and has to be told.
    for (format, width, height) in [
        (Yuyv, 640, 480),
        (Yu12, 640, 480),
        (Nv12, 1280, 720),
        (Grey, 640, 480),
        (Rgb24, 640, 480),
        (Yuyv, 1000, 500),
        (Yu12, 722, 406),
    ] {
        let found = m2m::find(&m2m::System, format, &FWHT)?;
        println!(
            "{}",
            pictures(&found, Camera::new(format, width, height), count)?
        );
    }
    let found = m2m::find(&m2m::System, Yuyv, &FWHT)?;
    println!(
        "{} ({}): {}",
        found.card,
        found.path.display(),
        rounds(&found, turns)?
    );
    match m2m::find(&m2m::System, Yuyv, &m2m::JPEG) {
        Ok(found) => Err(format!("{found:?} makes JPEGs?")),
        Err(_) => Ok(()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = arguments.iter().filter_map(|n| n.parse().ok()).collect();
    let [count, turns] = numbers[..] else {
        eprintln!("usage: m2m PICTURES ROUNDS");
        return ExitCode::from(2);
    };
    match run(count, turns) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
