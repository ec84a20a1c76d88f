//! Cells in the world's own thread: they work as those of a process of their own do, until they end, hang or lie.

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Instant;

use camd::encode::cell::launch::{Given, Launch, Life};
use camd::encode::cell::wire::{Answer, Failure, Made};
use camd::encode::cell::worker::Worker;
use camd::limits::{CELL_LOSSES, CELL_LOSSES_WITHIN};
use camd::measure::times::Spent;
use camd::picture::frame::Size;
use fastrand::Rng;

/// Why a cell is lost: what its keeper says, and what the pool finds wrong with the lies below.
const HOWS: [&str; 7] = [
    ENDED,
    "it did not answer in time",
    "an answer to a job that it does not have",
    "more bytes than there is room for",
    "something that was not asked for",
    "a JPEG that is none",
    "a JPEG of another size",
];
const ENDED: &str = "it is gone";

/// What the card may say when cells were lost over pictures.
pub fn reasons() -> impl Iterator<Item = String> {
    HOWS.iter().map(|how| {
        format!(
            "the process that decodes and encodes its pictures was lost {CELL_LOSSES} times within {} s: {how}",
            CELL_LOSSES_WITHIN.as_secs()
        )
    })
}

/// Misdeeds so far, for all worlds to have seen each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    pub worked: u64,
    pub ended: u64,
    pub hung: u64,
    pub lied: u64,
    pub refused: u64,
}

impl Sum {
    pub fn add(mut self, other: Sum) -> Sum {
        self.worked += other.worked;
        self.ended += other.ended;
        self.hung += other.hung;
        self.lied += other.lied;
        self.refused += other.refused;
        self
    }
}

struct Cell {
    worker: Worker,
    lives: bool,
    is_ready: bool,
    hangs: bool,
}

/// All cells of a world.
pub struct Yard {
    cells: Rc<RefCell<Vec<Rc<RefCell<Cell>>>>>,
    /// None can be started.
    is_closed: Rc<RefCell<bool>>,
    pub count: usize,
    rng: Rng,
    pub sum: Sum,
}

/// What came of a step.
pub struct Step {
    /// camd has something to look at.
    pub is_news: bool,
    /// Some picture may come later than it was asked for, or not at all.
    pub is_disturbed: bool,
}

impl Yard {
    pub fn new(count: usize, rng: Rng) -> Yard {
        Yard {
            cells: Rc::default(),
            is_closed: Rc::default(),
            count,
            rng,
            sum: Sum::default(),
        }
    }

    pub fn launch(&self) -> Box<dyn Launch> {
        Box::new(Starter {
            cells: Rc::clone(&self.cells),
            is_closed: Rc::clone(&self.is_closed),
        })
    }

    /// Each does one thing. `faulty`: or another.
    pub fn step(&mut self, faulty: bool) -> Step {
        *self.is_closed.borrow_mut() = faulty && self.rng.u8(0..4) == 0;
        self.cells.borrow_mut().retain(|cell| cell.borrow().lives);
        let cells: Vec<_> = self.cells.borrow().clone();
        let mut step = Step {
            is_news: false,
            is_disturbed: cells.len() < self.count,
        };
        for cell in cells {
            let cell = &mut cell.borrow_mut();
            let roll = if faulty { self.rng.u8(0..40) } else { 39 };
            if cell.hangs {
                step.is_disturbed = true;
                continue;
            }
            if !cell.is_ready {
                step.is_disturbed = true;
                match roll {
                    0..15 => {}
                    15..17 => {
                        (cell.lives, step.is_news) = (false, true);
                        self.sum.ended += 1;
                    }
                    _ => {
                        cell.worker.ready(0);
                        (cell.is_ready, step.is_news) = (true, true);
                    }
                }
                continue;
            }
            let Some(number) = cell.worker.job() else {
                // With nothing to do, too.
                if roll == 0 {
                    cell.lives = false;
                    self.sum.ended += 1;
                    (step.is_news, step.is_disturbed) = (true, true);
                }
                continue;
            };
            step.is_disturbed |= roll < 12;
            step.is_news |= !(1..6).contains(&roll);
            match roll {
                0 => {
                    cell.lives = false;
                    self.sum.ended += 1;
                }
                1 => {
                    cell.hangs = true;
                    self.sum.hung += 1;
                }
                // It takes its time.
                2..6 => {}
                6 => {
                    self.sum.refused += 1;
                    cell.worker.tell(
                        number,
                        &Answer {
                            made: Made::Nothing,
                            bytes: 0,
                            spent: Spent::default(),
                            failure: Some(Failure::new(false, "\x1b[31mit is damaged")),
                        },
                    );
                }
                7..12 => {
                    self.sum.lied += 1;
                    lie(&mut cell.worker, number, roll);
                }
                _ => {
                    self.sum.worked += 1;
                    cell.worker.work();
                }
            }
        }
        step
    }

    /// Whether there are as many as there should be, and each could work.
    pub fn is_well(&self) -> bool {
        let cells = self.cells.borrow();
        let mut living = cells.iter().filter(|cell| cell.borrow().lives);
        let is_well = |cell: &Rc<RefCell<Cell>>| cell.borrow().is_ready && !cell.borrow().hangs;
        living.clone().count() == self.count && living.all(is_well)
    }
}

fn lie(worker: &mut Worker, number: u32, roll: u8) {
    let mut answer = worker.answer();
    match roll {
        7 => answer.bytes = usize::MAX,
        8 => answer.bytes = answer.bytes.saturating_sub(1),
        9 => {
            answer.made = Made::Pixels(Size {
                width: 8192,
                height: 8192,
            });
        }
        10 => return worker.tell(number.wrapping_add(7), &answer),
        _ => return worker.lie(number, &[0xA5; 128]),
    }
    worker.tell(number, &answer);
}

struct Starter {
    cells: Rc<RefCell<Vec<Rc<RefCell<Cell>>>>>,
    is_closed: Rc<RefCell<bool>>,
}

impl Launch for Starter {
    fn launch(&mut self, given: &Given<'_>) -> io::Result<Box<dyn Life>> {
        if *self.is_closed.borrow() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let cell = Rc::new(RefCell::new(Cell {
            worker: Worker::new(given.pictures, given.desk, Instant::now)?,
            lives: true,
            is_ready: false,
            hangs: false,
        }));
        self.cells.borrow_mut().push(Rc::clone(&cell));
        Ok(Box::new(Keeper { cell }))
    }
}

struct Keeper {
    cell: Rc<RefCell<Cell>>,
}

impl Life for Keeper {
    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn end(&mut self) -> Option<String> {
        (!self.cell.borrow().lives).then(|| ENDED.to_owned())
    }

    fn is_ending(&self) -> bool {
        false
    }

    fn kill(&mut self) {
        self.cell.borrow_mut().lives = false;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.kill();
    }
}
