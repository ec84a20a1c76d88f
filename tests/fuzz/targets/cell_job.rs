//! What camd asks of a cell, as the cell reads it: any job, with numbers changed at will, about any bytes. The cell answers, with what
//! camd can read; and what it does afterwards is the same as what a new one does.
#![no_main]

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Instant;

use camd::encode::cell::wire::{
    ANSWER_AT, ANSWERED, ASKED, Answer, AnswerBytes, Coding, JOB_AT, Job, MADE_AT, Made, Stored,
    Task,
};
use camd::encode::cell::worker::Worker;
use camd::picture::frame::{Area, Bounds, Chroma, Orientation, PixelFormat, Size};
use camd::picture::jpeg;
use camd::system::shared::Shared;
use camd_fuzz::Input;

const PICTURES: usize = 1 << 16;
const MADE: usize = 1 << 20;
/// Larger pictures only take longer.
const PIXELS: u32 = 1 << 16;

struct Bench {
    pictures: Shared,
    desk: Shared,
    worker: Worker,
    number: u32,
    _files: [OwnedFd; 2],
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new({
        let (pictures, one) = Shared::new(c"pictures", PICTURES, true).expect("memory");
        let (desk, other) = Shared::new(c"desk", MADE_AT + MADE, false).expect("memory");
        let worker = Worker::new(&one, &other, Instant::now).expect("a worker");
        Bench { pictures, desk, worker, number: 0, _files: [one, other] }
    });
}

fn side(input: &mut Input<'_>) -> u16 {
    // Mostly small ones.
    match input.byte() {
        255 => input.word(),
        side => u16::from(side),
    }
}

fn size(input: &mut Input<'_>) -> Size {
    Size {
        width: side(input).max(1),
        height: side(input).max(1),
    }
}

fn job(input: &mut Input<'_>, jpeg: usize) -> Job {
    let flags = input.byte();
    let format = |input: &mut Input<'_>| {
        let formats = PixelFormat::ALL;
        formats[usize::from(input.byte()) % formats.len()]
    };
    let stored = match flags & 1 {
        0 => Stored::Jpeg(0..jpeg),
        _ => Stored::Raw {
            format: format(input),
            size: size(input),
            planes: std::array::from_fn(|_| {
                let start = usize::from(input.word());
                (
                    start..start + usize::from(input.word()),
                    usize::from(input.word()),
                )
            }),
        },
    };
    let bounds = Bounds {
        within: size(input),
        eighths: 1 + input.byte() % 8,
    };
    let coding = Coding {
        quality: 1 + input.byte() % 100,
        chroma: [Chroma::Yuv420, Chroma::Yuv422][usize::from(flags >> 1 & 1)],
        bounds,
    };
    Job {
        stored,
        task: match flags >> 2 & 3 {
            0 | 1 => Task::Encode(coding),
            2 => Task::Turn(coding),
            _ => Task::Pixels {
                format: format(input),
                bounds,
            },
        },
        crop: (flags & 16 != 0).then(|| {
            let Size { width, height } = size(input);
            Area {
                x: side(input),
                y: side(input),
                width,
                height,
            }
        }),
        turning: Orientation::quarters(flags >> 5 & 3).mirrored(flags & 128 != 0, false),
        live: input.byte() & 1 == 1,
        stamp: match input.byte() {
            0..200 => None,
            count => (200..count)
                .map(|_| std::array::from_fn(|_| input.byte()))
                .collect::<Vec<_>>()
                .as_slice()
                .try_into()
                .ok(),
        },
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let changes = usize::from(input.byte() % 4);
    let changes: Vec<_> = (0..changes)
        .map(|_| (input.byte(), input.byte(), input.word()))
        .collect();
    let decisions = input.take(64);
    let picture = &input.0[..input.0.len().min(PICTURES)];
    let job = job(&mut Input(decisions), picture.len());
    let mut bytes = job.to_bytes();
    for (place, high, low) in changes {
        let words = bytes.len() / 4;
        let at = usize::from(place) % words * 4;
        let number = u32::from(high) << 24 | u32::from(low);
        bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    // What it will be about, as the cell reads it.
    let large = |width: u16, height: u16| u32::from(width) * u32::from(height) > PIXELS;
    match Job::read(&bytes, PICTURES).map(|job| job.stored) {
        Ok(Stored::Raw { size, .. }) if large(size.width, size.height) => return,
        Ok(Stored::Jpeg(_))
            if jpeg::inspect(picture).is_ok_and(|found| large(found.width, found.height)) =>
        {
            return;
        }
        _ => {}
    }
    BENCH.with_borrow_mut(|bench| {
        bench.pictures.write(0, picture);
        bench.desk.write(JOB_AT, &bytes);
        bench.number = bench.number.wrapping_add(1);
        bench
            .desk
            .number(ASKED)
            .store(bench.number, Ordering::Release);
        assert!(bench.worker.work(), "there is a job");
        assert!(!bench.worker.work(), "it is done");
        assert_eq!(
            bench.desk.number(ANSWERED).load(Ordering::Acquire),
            bench.number
        );
        let mut bytes: AnswerBytes = [0; _];
        bench.desk.read(ANSWER_AT, &mut bytes);
        let answer = Answer::read(&bytes, MADE).expect("camd can read it");
        if let Made::Encoded | Made::Turned(_) = answer.made {
            let mut made = vec![0; answer.bytes];
            bench.desk.read(MADE_AT, &mut made);
            let found = jpeg::inspect(&made).expect("a JPEG");
            assert_eq!(found.range(), 0..made.len());
        }
    });
});
