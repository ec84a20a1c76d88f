//! What a cell answers, as camd reads it: a cell that a picture has taken over can write what it likes, wherever it can write. What camd
//! takes of that is what it asked for, else it takes nothing, and the cell is replaced; the next one works.
#![no_main]

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use camd::encode::cell::launch::{Given, Launch, Life};
use camd::encode::cell::wire::{ANSWER_AT, ANSWERED, Coding, MADE_AT, STATE, Task};
use camd::encode::cell::worker::Worker;
use camd::encode::cell::{Cells, Finished};
use camd::encode::codec::Rows;
use camd::picture::frame::{
    Area, Bounds, Chroma, Frame, FrameMeta, Orientation, Picture, PixelFormat, Plane, RawPicture,
    Size,
};
use camd::picture::jpeg;
use camd::system::shared::Shared;
use camd_fuzz::Input;

const SIZE: Size = Size {
    width: 48,
    height: 32,
};
const FRAME_BYTES: usize = 1 << 16;

/// A cell, and the same memory once more for what is to be written there.
struct Cell {
    worker: Worker,
    desk: Shared,
    lives: bool,
}

#[derive(Default, Clone)]
struct Started(Rc<RefCell<Option<Cell>>>);

impl Launch for Started {
    fn launch(&mut self, given: &Given<'_>) -> io::Result<Box<dyn Life>> {
        *self.0.borrow_mut() = Some(Cell {
            worker: Worker::new(given.pictures, given.desk, Instant::now)?,
            desk: Shared::map(given.desk, true)?,
            lives: true,
        });
        Ok(Box::new(self.clone()))
    }
}

impl Life for Started {
    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn end(&mut self) -> Option<String> {
        let is_dead = self.0.borrow().as_ref().is_none_or(|cell| !cell.lives);
        is_dead.then(|| "it is gone".to_owned())
    }

    fn is_ending(&self) -> bool {
        false
    }

    fn kill(&mut self) {
        if let Some(cell) = &mut *self.0.borrow_mut() {
            cell.lives = false;
        }
    }
}

struct Bench {
    started: Started,
    cells: Cells,
    now: Instant,
    sequence: u64,
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new({
        let started = Started::default();
        let now = camd_fuzz::start();
        let cells = Cells::new(Box::new(started.clone()), 1, FRAME_BYTES, FRAME_BYTES, now).expect("memory");
        Bench { started, cells, now, sequence: 0 }
    });
}

#[derive(Default)]
struct Counted(usize);

impl Rows for Counted {
    fn start(&mut self, _: Size) {
        self.0 = 0;
    }

    fn row(&mut self, row: &[u8]) {
        self.0 += row.len();
    }
}

/// What was asked for, of which picture.
#[derive(Clone, Copy)]
struct Question {
    task: Task,
    meta: FrameMeta,
}

impl Bench {
    fn look(&mut self, question: Option<&Question>) -> bool {
        (0..2).for_each(|number| self.cells.mark(number));
        let mut taken = false;
        let mut pixels = None;
        self.cells.collect(self.now, |work, finished| {
            let Question { task, meta } = question.expect("nothing comes unasked");
            assert_eq!((work.task, work.meta.sequence), (*task, meta.sequence));
            match (finished, task) {
                (
                    Finished::Jpeg { jpeg, turned, .. },
                    Task::Encode(coding) | Task::Turn(coding),
                ) => {
                    let found = jpeg::inspect(jpeg.as_slice()).expect("a JPEG");
                    assert_eq!(found.range(), 0..jpeg.len());
                    let size = match turned {
                        Some(cut) => {
                            assert!(matches!(task, Task::Turn(_)));
                            meta.turning().turn(cut.map_or(SIZE, Area::size))
                        }
                        None => coding.bounds.fit(meta.shown()),
                    };
                    assert_eq!((found.width, found.height), (size.width, size.height));
                    taken = true;
                }
                (Finished::Pixels { cell, size }, Task::Pixels { format, .. }) => {
                    pixels = Some((cell, size, *format))
                }
                (Finished::Failed(failure), _) => {
                    assert!(
                        failure
                            .reason
                            .bytes()
                            .all(|byte| matches!(byte, b' '..=b'~'))
                    );
                    taken = true;
                }
                (Finished::Lost, _) => taken = true,
                _ => panic!("something that was not asked for"),
            }
        });
        if let Some((cell, size, format)) = pixels {
            let mut rows = Counted::default();
            self.cells.rows(cell, size, format, &mut rows);
            let channels = if format == PixelFormat::Grey { 1 } else { 3 };
            assert_eq!(
                rows.0,
                channels * usize::from(size.width) * usize::from(size.height)
            );
            self.cells.release();
            taken = true;
        }
        taken
    }

    /// There is a cell that is ready.
    fn settle(&mut self) {
        for _ in 0..8 {
            if let Some(cell) = &*self.started.0.borrow()
                && cell.lives
            {
                cell.worker.ready(0);
            }
            self.look(None);
            if self.cells.has_idle() {
                return;
            }
            self.now += Duration::from_secs(100);
        }
        panic!("there is no cell any more");
    }

    fn ask(
        &mut self,
        task: Task,
        crop: Option<Area>,
        orientation: Orientation,
        is_raw: bool,
    ) -> Question {
        self.sequence += 1;
        let meta = FrameMeta {
            sequence: self.sequence,
            crop,
            orientation,
            ..FrameMeta::taken(self.now, SIZE.width, SIZE.height)
        };
        let data = [90; 2 * 48 * 32];
        let mut planes = [Plane::default(); 3];
        planes[0] = Plane {
            data: &data,
            stride: 2 * 48,
        };
        let raw = RawPicture {
            format: PixelFormat::Yuyv,
            width: SIZE.width,
            height: SIZE.height,
            planes,
        };
        let jpeg = JPEG.with_borrow_mut(|jpeg| {
            if jpeg.is_empty() {
                let mut out = camd::picture::frame::FrameBuf::new(FRAME_BYTES);
                camd::encode::codec::Codec::new()
                    .encode(&raw, 80, &mut out)
                    .expect("a small picture");
                *jpeg = out.as_slice().to_vec();
            }
            jpeg.clone()
        });
        let picture = if is_raw {
            Picture::Raw(raw)
        } else {
            Picture::Jpeg(&jpeg)
        };
        let submitted = self
            .cells
            .submit(&Frame { meta, picture }, task, None, self.now);
        assert!(submitted, "one is idle");
        Question { task, meta }
    }
}

thread_local! {
    static JPEG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (flags, more) = (input.byte(), input.byte());
    let coding = Coding {
        quality: 1 + input.byte() % 100,
        chroma: Chroma::Yuv420,
        bounds: Bounds {
            within: Size {
                width: 1 + u16::from(input.byte()),
                height: 1 + u16::from(input.byte()),
            },
            eighths: 1 + more % 8,
        },
    };
    let task = match flags & 3 {
        0 => Task::Encode(coding),
        1 => Task::Turn(coding),
        2 => Task::Pixels {
            format: PixelFormat::Grey,
            bounds: coding.bounds,
        },
        _ => Task::Pixels {
            format: PixelFormat::Rgb24,
            bounds: coding.bounds,
        },
    };
    let crop = (flags & 4 != 0).then_some(Area {
        x: 9,
        y: 4,
        width: 20,
        height: 17,
    });
    let orientation = Orientation::quarters(flags >> 3 & 3).mirrored(flags & 32 != 0, false);
    BENCH.with_borrow_mut(|bench| {
        bench.settle();
        let question = bench.ask(task, crop, orientation, flags & 64 != 0);
        {
            let mut started = bench.started.0.borrow_mut();
            let cell = started.as_mut().expect("there is one");
            let number = cell.worker.job().expect("it was asked");
            if flags & 128 != 0 {
                cell.worker.work();
            }
            cell.desk
                .number(ANSWERED)
                .store(number.wrapping_sub(1), Ordering::Release);
            // Then anything: numbers of the answer, bytes of what was made, and the numbers that announce it.
            for _ in 0..more >> 4 {
                let (place, bytes) = (usize::from(input.word()), input.byte());
                let bytes = input.take(usize::from(bytes % 32));
                let start = if place & 1 == 0 { ANSWER_AT } else { MADE_AT };
                cell.desk.write(start + place / 2 % 192, bytes);
            }
            let number = match more >> 3 & 1 {
                0 => number,
                _ => number.wrapping_add(u32::from(input.word())),
            };
            cell.desk
                .number(STATE)
                .store(u32::from(input.word()) << 16, Ordering::Relaxed);
            cell.desk.number(ANSWERED).store(number, Ordering::Release);
        }
        let mut taken = bench.look(Some(&question));
        if !taken {
            // Not before it is late.
            bench.now += Duration::from_secs(2);
            taken = bench.look(Some(&question));
        }
        assert!(taken, "the loop is told of each job's end");
        // What comes then is whole again.
        bench.settle();
        let question = bench.ask(Task::Encode(coding), None, Orientation::UPRIGHT, true);
        bench
            .started
            .0
            .borrow_mut()
            .as_mut()
            .expect("there is one")
            .worker
            .work();
        let losses = bench.cells.losses();
        assert!(bench.look(Some(&question)));
        assert_eq!(bench.cells.losses(), losses, "a good cell");
        bench.cells.take_trouble();
    });
});
