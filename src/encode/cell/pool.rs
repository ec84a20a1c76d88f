//! camd's side: several cells, and the memory that the pictures are in.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::launch::{Given, Launch, Life};
use super::wire::{
    ANSWER_AT, ANSWERED, ASKED, Answer, AnswerBytes, Coding, Failure, JOB_AT, Job, MADE_AT, Made,
    READY, STATE, Stored, Task, lacks,
};
use crate::encode::codec::{PixelRecipe, Rows};
use crate::limits::{
    CELL_ENDS, CELL_LOSSES, CELL_LOSSES_WITHIN, CELL_PER_PIXEL, CELL_STALL, CELL_START, CELLS_MAX,
    DIMENSION_MAX, REOPEN_FIRST,
};
use crate::measure::times::Spent;
use crate::picture::frame::{Area, Frame, FrameBuf, FrameMeta, Picture, PixelFormat, Size};
use crate::picture::jpeg;
use crate::picture::stamp::Stamp;
use crate::system::shared::{PAGE, Shared};

/// How often cells were lost, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Losses {
    /// It has ended.
    pub died: u64,
    /// It did not give a picture back in time.
    pub hung: u64,
    /// What it gave back cannot be.
    pub lied: u64,
}

/// A place for a picture in the memory that all cells read.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Which picture is there; 0 is none.
    sequence: u64,
    /// Jobs that are about it.
    users: u8,
}

/// What a cell is working on.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Of which frame.
    pub meta: FrameMeta,
    /// What is to be made of it.
    pub task: Task,
    /// It is raw.
    pub is_raw: bool,
    /// What it took in the end: as long as the cell had it, whatever that says.
    pub took: Duration,
    /// Nobody wants it any more.
    pub orphan: bool,
    place: usize,
    submitted: Instant,
    late: Instant,
}

enum State {
    /// There is no process; when one is started again.
    Down {
        retry: Instant,
    },
    /// It has been started, and is late by then.
    Starting {
        late: Instant,
    },
    Idle,
    Busy(Work),
    /// Its work is done, and what it has made is being looked at.
    Held(Work),
}

/// The memory and descriptors that one cell shares with camd, and the cell.
struct Desk {
    memory: Shared,
    work: EventFd,
    done: EventFd,
    life: Box<dyn Life>,
    /// Both of its descriptors are in the poll.
    armed: bool,
}

struct Cell {
    desk: Option<Desk>,
    state: State,
    /// Of the last job.
    number: u32,
    /// There was an event, and whether it was about its life.
    event: Option<bool>,
    /// It is ending, and asked again by then: a process closes its descriptors before it can be waited for.
    ending: Option<Instant>,
}

/// What has become of a job.
pub enum Finished<'a> {
    /// A JPEG, of which the buffer has another afterwards at will. Without loss: what it is a part of.
    Jpeg {
        /// It has been looked at.
        jpeg: &'a mut FrameBuf,
        /// Where it was made without loss: what it is a part of.
        turned: Option<Option<Area>>,
        /// Why not, where it was to be.
        why_not: Option<&'a Failure>,
        /// What it took.
        spent: Spent,
    },
    /// Pixels, which stay where they are until [`Cells::release`].
    Pixels {
        /// Whose [`Cells::rows`] has them.
        cell: usize,
        /// Of the picture.
        size: Size,
    },
    /// There is no picture.
    Failed(&'a Failure),
    /// The cell was lost over it.
    Lost,
}

/// The cells of this process.
pub struct Cells {
    launch: Box<dyn Launch>,
    pictures: Shared,
    pictures_file: OwnedFd,
    places: heapless::Vec<Place, CELLS_MAX>,
    place_bytes: usize,
    made_bytes: usize,
    cells: heapless::Vec<Cell, CELLS_MAX>,
    /// What a cell has made, while it is looked at.
    taken: FrameBuf,
    /// Processes that have been ended and are still to be waited for.
    gone: heapless::Vec<Box<dyn Life>, { 2 * CELLS_MAX }>,
    losses: Losses,
    /// The last ones.
    lost: heapless::Deque<Instant, CELL_LOSSES>,
    trouble: Option<String>,
    /// That cells lack something was said.
    told: u32,
    line: Box<[u8]>,
}

impl Cells {
    /// Starts so many cells, for pictures that take up to `place_bytes` each and JPEGs of up to `frame_bytes`.
    ///
    /// # Errors
    /// There is no memory, or the first one cannot be started.
    pub fn new(
        launch: Box<dyn Launch>,
        count: usize,
        place_bytes: usize,
        frame_bytes: usize,
        now: Instant,
    ) -> io::Result<Self> {
        let place_bytes = place_bytes.next_multiple_of(PAGE);
        let (pictures, pictures_file) = new_pictures(count, place_bytes)?;
        let mut cells = Cells {
            launch,
            pictures,
            pictures_file,
            places: (0..count).map(|_| Place::default()).collect(),
            place_bytes,
            made_bytes: place_bytes.max(frame_bytes).next_multiple_of(PAGE),
            cells: heapless::Vec::new(),
            taken: FrameBuf::new(frame_bytes),
            gone: heapless::Vec::new(),
            losses: Losses::default(),
            lost: heapless::Deque::new(),
            trouble: None,
            told: 0,
            line: vec![0; 3 * usize::from(DIMENSION_MAX)].into_boxed_slice(),
        };
        for index in 0..count {
            let cell = Cell {
                desk: None,
                state: State::Down { retry: now },
                number: 0,
                event: None,
                ending: None,
            };
            assert!(cells.cells.push(cell).is_ok(), "at most {CELLS_MAX} cells");
            cells.start(index, now)?;
        }
        Ok(cells)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.cells.len()
    }

    /// How many are ready for pictures, or have one.
    pub fn ready(&self) -> usize {
        let is_ready =
            |cell: &&Cell| !matches!(cell.state, State::Down { .. } | State::Starting { .. });
        self.cells.iter().filter(is_ready).count()
    }

    /// How often some were lost, since the start.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// Why the pictures' source is to be opened anew, if it is: told once.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    fn start(&mut self, index: usize, now: Instant) -> io::Result<()> {
        self.cells[index].state = State::Down {
            retry: now + REOPEN_FIRST,
        };
        let (memory, file) = Shared::new(c"camd-cell", MADE_AT + self.made_bytes, false)?;
        // Blocking: a cell waits by reading it.
        let work = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
        let done = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let life = self.launch.launch(&Given {
            pictures: self.pictures_file.as_fd(),
            desk: file.as_fd(),
            work: work.as_fd(),
            done: done.as_fd(),
        })?;
        let cell = &mut self.cells[index];
        cell.desk = Some(Desk {
            memory,
            work,
            done,
            life,
            armed: false,
        });
        (cell.number, cell.event, cell.ending) = (0, None, None);
        cell.state = State::Starting {
            late: now + CELL_START,
        };
        Ok(())
    }

    /// Whether one could begin now.
    pub fn has_idle(&self) -> bool {
        self.cells
            .iter()
            .any(|cell| matches!(cell.state, State::Idle))
    }

    /// What they are working on, for somebody.
    pub fn working(&self) -> impl Iterator<Item = &Work> {
        self.cells.iter().filter_map(|cell| match &cell.state {
            State::Busy(work) | State::Held(work) if !work.orphan => Some(work),
            _ => None,
        })
    }

    /// Nobody wants what they are making.
    pub fn forget(&mut self) {
        for cell in &mut self.cells {
            if let State::Busy(work) = &mut cell.state {
                work.orphan = true;
            }
        }
        // The same picture may be another part of it from now on.
        for place in &mut self.places {
            place.sequence = 0;
        }
    }

    /// Gives a frame to an idle cell. False: there is none, or the picture is not to be had.
    pub fn submit(
        &mut self,
        frame: &Frame<'_>,
        task: Task,
        stamp: Option<&Stamp>,
        now: Instant,
    ) -> bool {
        let needed = needed(frame);
        if needed > self.place_bytes || task_bytes(frame, &task) > self.made_bytes {
            self.grow(needed.max(task_bytes(frame, &task)), now);
            return false;
        }
        let mut cells = self.cells.iter();
        let Some(index) = cells.position(|cell| matches!(cell.state, State::Idle)) else {
            return false;
        };
        let mut places = self.places.iter();
        let place = match places.position(|place| place.sequence == frame.meta.sequence) {
            Some(place) => place,
            None => {
                let mut places = self.places.iter();
                let free = places.position(|place| place.users == 0);
                let free = free.expect("as many as cells, of which one is idle");
                self.put(free, frame);
                free
            }
        };
        let job = Job {
            stored: stored(frame, place * self.place_bytes),
            task,
            crop: frame.meta.crop,
            turning: frame.meta.turning(),
            live: frame.meta.live,
            stamp: stamp.map(|stamp| stamp.glyphs().iter().copied().collect()),
        };
        let cell = &mut self.cells[index];
        let Some(desk) = &cell.desk else {
            unreachable!("an idle cell has a desk");
        };
        cell.number = cell.number.wrapping_add(1);
        desk.memory.write(JOB_AT, &job.to_bytes());
        desk.memory
            .number(ASKED)
            .store(cell.number, Ordering::Release);
        // It never becomes full of ones; where the cell has filled it up itself, it is late.
        if let Err(error) = desk.work.write(1) {
            debug!("cell {index}: {error}");
        }
        self.places[place].users += 1;
        let pixels = u32::from(frame.meta.width) * u32::from(frame.meta.height);
        cell.state = State::Busy(Work {
            meta: frame.meta,
            task,
            is_raw: matches!(frame.picture, Picture::Raw(_)),
            took: Duration::ZERO,
            orphan: false,
            place,
            submitted: now,
            late: now + CELL_STALL + CELL_PER_PIXEL * pixels,
        });
        true
    }

    /// Copies a picture to its place: the one copy that there is of it.
    fn put(&mut self, place: usize, frame: &Frame<'_>) {
        self.places[place].sequence = frame.meta.sequence;
        let mut at = place * self.place_bytes;
        match &frame.picture {
            Picture::Jpeg(jpeg) => self.pictures.write(at, jpeg),
            Picture::Raw(raw) => {
                for (i, (bytes, _)) in planes(raw.format, frame).into_iter().enumerate() {
                    let data = raw.planes[i].data;
                    self.pictures.write(at, &data[..bytes.min(data.len())]);
                    at += bytes;
                }
            }
        }
    }

    /// Makes room for larger pictures than any before. What is being made is lost.
    fn grow(&mut self, bytes: usize, now: Instant) {
        let bytes = bytes.next_multiple_of(PAGE);
        info!("cells: started anew, for pictures of up to {bytes} bytes");
        for index in 0..self.cells.len() {
            self.stop(index);
            self.cells[index].state = State::Down {
                retry: now + REOPEN_FIRST,
            };
        }
        self.places.fill(Place::default());
        match new_pictures(self.cells.len(), bytes) {
            Ok((pictures, file)) => {
                (self.pictures, self.pictures_file) = (pictures, file);
                self.place_bytes = bytes;
                self.made_bytes = self.made_bytes.max(bytes);
            }
            Err(error) => return error!("cells: no memory for pictures of {bytes} bytes: {error}"),
        }
        for index in 0..self.cells.len() {
            self.restart(index, now);
        }
    }

    fn restart(&mut self, index: usize, now: Instant) {
        if let Err(error) = self.start(index, now) {
            error!(
                "cell {index} cannot be started: {error}; trying again every {} s",
                REOPEN_FIRST.as_secs()
            );
        }
    }

    /// Ends a cell's process.
    fn stop(&mut self, index: usize) {
        if let Some(Desk { mut life, .. }) = self.cells[index].desk.take() {
            life.kill();
            if life.end().is_none() {
                // Full: it is waited for when this process ends.
                let _ = self.gone.push(life);
            }
        }
    }

    /// Hands out the descriptors that are not in the poll yet, with a number below 2 [`CELLS_MAX`] each: to be polled,
    /// edge-triggered, readable. Closing ends that. True if there was one, and the next turn must follow at once.
    pub fn arm(&mut self, mut register: impl FnMut(usize, RawFd) -> io::Result<()>) -> bool {
        let mut any = false;
        for (index, cell) in self.cells.iter_mut().enumerate() {
            let Some(desk) = cell.desk.as_mut().filter(|desk| !desk.armed) else {
                continue;
            };
            desk.armed = true;
            any = true;
            // What came before is not told.
            cell.event = Some(true);
            let fds = [Some(desk.done.as_fd().as_raw_fd()), desk.life.fd()];
            for (which, fd) in fds.into_iter().enumerate() {
                if let Some(fd) = fd
                    && let Err(error) = register(2 * index + which, fd)
                {
                    // Its deadlines are left.
                    warn!("cell {index}: poll: {error}");
                }
            }
        }
        any
    }

    /// A readiness event for the descriptor with this number.
    pub fn mark(&mut self, number: usize) {
        if let Some(cell) = self.cells.get_mut(number / 2) {
            let is_life = number % 2 == 1;
            cell.event = Some(is_life || cell.event == Some(true));
        }
    }

    /// When one is late, or started again.
    pub fn deadline(&self) -> Option<Instant> {
        let ending = self.cells.iter().filter_map(|cell| cell.ending);
        let deadlines = self.cells.iter().filter_map(|cell| match &cell.state {
            State::Down { retry } => Some(*retry),
            State::Starting { late } => Some(*late),
            State::Busy(work) => Some(work.late),
            State::Idle | State::Held(_) => None,
        });
        deadlines.chain(ending).min()
    }

    /// Takes in what they have done, and tells `take` of each, of those that nobody wants
    /// any more, too. True if one could begin something now that could not before.
    pub fn collect(&mut self, now: Instant, mut take: impl FnMut(&Work, Finished<'_>)) -> bool {
        if !self.gone.is_empty() {
            self.gone.retain_mut(|life| life.end().is_none());
        }
        let mut any = false;
        for index in 0..self.cells.len() {
            let cell = &mut self.cells[index];
            if cell.ending.is_some_and(|at| at <= now) {
                (cell.ending, cell.event) = (None, Some(true));
            }
            let event = cell.event.take();
            let late = match &cell.state {
                State::Down { retry } => {
                    if *retry <= now {
                        self.restart(index, now);
                    }
                    continue;
                }
                State::Starting { late } => *late <= now,
                State::Busy(work) => work.late <= now,
                State::Idle | State::Held(_) => false,
            };
            if event.is_none() && !late {
                continue;
            }
            any |= self.look(index, now, &mut take);
            let cell = &mut self.cells[index];
            let ended = match &mut cell.desk {
                Some(desk) if late || event == Some(true) => {
                    let ended = desk.life.end();
                    if ended.is_none() && desk.life.is_ending() {
                        cell.ending = Some(now + CELL_ENDS);
                    }
                    ended
                }
                _ => None,
            };
            let is_late = match &cell.state {
                State::Starting { late } => *late <= now,
                State::Busy(work) => work.late <= now,
                _ => false,
            };
            if let Some(how) = ended {
                self.lose(index, Loss::Died, &how, now, &mut take);
                any = true;
            } else if is_late {
                self.lose(
                    index,
                    Loss::Hung,
                    "it did not answer in time",
                    now,
                    &mut take,
                );
                any = true;
            }
        }
        any
    }

    /// Looks at what a cell has written. True if it is done.
    fn look(
        &mut self,
        index: usize,
        now: Instant,
        take: &mut impl FnMut(&Work, Finished<'_>),
    ) -> bool {
        let cell = &mut self.cells[index];
        let Some(desk) = &cell.desk else {
            return false;
        };
        if let State::Starting { .. } = cell.state {
            let state = desk.memory.number(STATE).load(Ordering::Acquire);
            let lacking = state ^ READY;
            if state == 0 || lacking > lacks::ALL {
                return false;
            }
            cell.state = State::Idle;
            self.tell_lacks(lacking);
            return true;
        }
        let State::Busy(mut work) = cell.state else {
            return false;
        };
        let answered = desk.memory.number(ANSWERED).load(Ordering::Acquire);
        if answered == cell.number.wrapping_sub(1) {
            return false;
        }
        let taken = match answered == cell.number {
            true => self.take(index, &work, now),
            false => Err("an answer to a job that it does not have"),
        };
        let answer = match taken {
            Ok(answer) => answer,
            Err(wrong) => {
                self.lose(index, Loss::Lied, wrong, now, take);
                return true;
            }
        };
        work.took = now.saturating_duration_since(work.submitted);
        let holds = matches!(answer.made, Made::Pixels(_)) && !work.orphan;
        self.free(index, work, holds);
        let finished = match (answer.made, &answer.failure) {
            (Made::Pixels(size), _) => Finished::Pixels { cell: index, size },
            (Made::Encoded, why_not) => Finished::Jpeg {
                jpeg: &mut self.taken,
                turned: None,
                why_not: why_not.as_ref(),
                spent: answer.spent,
            },
            (Made::Turned(cut), _) => Finished::Jpeg {
                jpeg: &mut self.taken,
                turned: Some(cut),
                why_not: None,
                spent: answer.spent,
            },
            (Made::Nothing, Some(failure)) => Finished::Failed(failure),
            (Made::Nothing, None) => unreachable!("nothing has a reason"),
        };
        take(&work, finished);
        true
    }

    fn free(&mut self, index: usize, work: Work, holds: bool) {
        self.places[work.place].users -= 1;
        self.cells[index].state = match holds {
            true => State::Held(work),
            false => State::Idle,
        };
    }

    /// Takes an answer out of the memory, and a JPEG into `taken`. The error says why it cannot be.
    fn take(&mut self, index: usize, work: &Work, now: Instant) -> Result<Answer, &'static str> {
        let Some(desk) = &self.cells[index].desk else {
            return Err("no desk");
        };
        let mut bytes: AnswerBytes = [0; _];
        desk.memory.read(ANSWER_AT, &mut bytes);
        let mut answer = Answer::read(&bytes, self.made_bytes)?;
        let most = now.saturating_duration_since(work.submitted);
        for spent in &mut answer.spent {
            *spent = (*spent).min(most);
        }
        if answer.made == Made::Nothing {
            return Ok(answer);
        }
        let meta = &work.meta;
        match (work.task, answer.made) {
            (Task::Encode(Coding { bounds, .. }), Made::Encoded)
            | (Task::Turn(Coding { bounds, .. }), Made::Encoded) => {
                let is_turn = matches!(work.task, Task::Turn(_)) && !work.is_raw;
                if is_turn != answer.failure.is_some() {
                    return Err("a JPEG without loss that is none");
                }
                self.take_jpeg(index, answer.bytes, bounds.fit(meta.shown()))?;
            }
            (Task::Turn(_), Made::Turned(cut)) if !work.is_raw => {
                let stored = meta.stored();
                let part = match (meta.crop, cut) {
                    (None, None) => Area::all(stored),
                    (Some(wanted), Some(cut)) if holds(cut, wanted.within(stored), stored) => cut,
                    _ => return Err("a part that was not asked for"),
                };
                self.take_jpeg(index, answer.bytes, meta.turning().turn(part.size()))?;
            }
            (Task::Pixels { format, bounds }, Made::Pixels(size)) => {
                let recipe = PixelRecipe {
                    format,
                    crop: meta.crop,
                    bounds,
                    orientation: meta.turning(),
                    stamp: None,
                };
                let area = usize::from(size.width) * usize::from(size.height);
                if size != recipe.size(meta.stored()) || answer.bytes != channels(format) * area {
                    return Err("pixels of another size");
                }
            }
            _ => return Err("something that was not asked for"),
        }
        Ok(answer)
    }

    fn take_jpeg(&mut self, index: usize, bytes: usize, size: Size) -> Result<(), &'static str> {
        let Some(desk) = &self.cells[index].desk else {
            return Err("no desk");
        };
        if bytes > self.taken.capacity() {
            return Err("a JPEG that is too large");
        }
        desk.memory.read(MADE_AT, &mut self.taken.spare()[..bytes]);
        self.taken.set_len(bytes);
        // From here on it is ours, and nobody else changes it.
        let found = jpeg::inspect(self.taken.as_slice()).map_err(|_| "a JPEG that is none")?;
        match found.range() == (0..bytes)
            && (found.width, found.height) == (size.width, size.height)
        {
            true => Ok(()),
            false => Err("a JPEG of another size"),
        }
    }

    /// Gives the pixels that a cell has made to `rows`, row by row.
    pub fn rows(&mut self, index: usize, size: Size, format: PixelFormat, rows: &mut dyn Rows) {
        let Some(desk) = &self.cells[index].desk else {
            return;
        };
        let bytes = channels(format) * usize::from(size.width);
        let line = &mut self.line[..bytes];
        rows.start(size);
        for y in 0..usize::from(size.height) {
            desk.memory.read(MADE_AT + y * bytes, line);
            rows.row(line);
        }
    }

    /// Whoever wanted pixels has them: the cells that have made them may go on.
    pub fn release(&mut self) {
        for cell in &mut self.cells {
            if matches!(cell.state, State::Held(_)) {
                cell.state = State::Idle;
            }
        }
    }

    fn tell_lacks(&mut self, lacking: u32) {
        if lacking & !self.told == 0 {
            return;
        }
        self.told |= lacking;
        for (bit, what) in [
            (
                lacks::SECCOMP,
                "its system calls cannot be limited (CONFIG_SECCOMP_FILTER)",
            ),
            (
                lacks::LANDLOCK,
                "it cannot be kept from files by Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK, lsm=landlock)",
            ),
            (lacks::LIMITS, "its memory cannot be limited"),
            (lacks::USER, "it cannot become another user than root"),
        ] {
            if lacking & bit != 0 {
                info!(
                    "what decodes and encodes pictures is a process with less rights than it could have: {what}"
                );
            }
        }
    }

    fn lose(
        &mut self,
        index: usize,
        loss: Loss,
        how: &str,
        now: Instant,
        take: &mut impl FnMut(&Work, Finished<'_>),
    ) {
        let count = match loss {
            Loss::Died => &mut self.losses.died,
            Loss::Hung => &mut self.losses.hung,
            Loss::Lied => &mut self.losses.lied,
        };
        *count += 1;
        let Losses { died, hung, lied } = self.losses;
        let all = died + hung + lied;
        let what = match loss {
            Loss::Died => "has ended",
            Loss::Hung => "hangs",
            Loss::Lied => "gives what cannot be",
        };
        let state = std::mem::replace(&mut self.cells[index].state, State::Down { retry: now });
        let over = match &state {
            State::Busy(work) => {
                let Size { width, height } = work.meta.stored();
                format!(" over a picture of {width}x{height}, which is left out")
            }
            _ => String::new(),
        };
        // A camera can do this with each picture.
        if all.is_power_of_two() {
            warn!("cell {index} {what}{over}: {how}; another is started ({all} lost so far)");
        }
        self.stop(index);
        if let State::Busy(mut work) = state {
            self.places[work.place].users -= 1;
            work.took = now.saturating_duration_since(work.submitted);
            take(&work, Finished::Lost);
        }
        if self.lost.is_full() {
            self.lost.pop_front();
        }
        let pushed = self.lost.push_back(now);
        assert!(pushed.is_ok(), "there is room");
        let first = self.lost.front().copied().unwrap_or(now);
        if self.lost.is_full() && now.saturating_duration_since(first) < CELL_LOSSES_WITHIN {
            self.lost.clear();
            self.trouble = Some(format!(
                "the process that decodes and encodes its pictures was lost {CELL_LOSSES} times within {} s: {how}",
                CELL_LOSSES_WITHIN.as_secs()
            ));
        }
        if matches!(state, State::Starting { .. }) {
            // Not at once: it may not be able to.
            self.cells[index].state = State::Down {
                retry: now + REOPEN_FIRST,
            };
        } else {
            self.restart(index, now);
        }
    }
}

#[derive(Clone, Copy)]
enum Loss {
    Died,
    Hung,
    Lied,
}

impl Drop for Cells {
    fn drop(&mut self) {
        for index in 0..self.cells.len() {
            self.stop(index);
        }
        // SIGKILL takes no longer than this, or there is nothing that helps.
        for _ in 0..50 {
            self.gone.retain_mut(|life| life.end().is_none());
            if self.gone.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Whether a part of a picture is one, and has all of another.
fn holds(part: Area, wanted: Area, whole: Size) -> bool {
    let end = |at: u16, side: u16| u32::from(at) + u32::from(side);
    part.within(whole) == part
        && part.x <= wanted.x
        && part.y <= wanted.y
        && end(part.x, part.width) >= end(wanted.x, wanted.width)
        && end(part.y, part.height) >= end(wanted.y, wanted.height)
}

fn channels(format: PixelFormat) -> usize {
    match format {
        PixelFormat::Grey => 1,
        _ => 3,
    }
}

fn new_pictures(count: usize, place_bytes: usize) -> io::Result<(Shared, OwnedFd)> {
    let bytes = count.checked_mul(place_bytes);
    let bytes = bytes.filter(|bytes| *bytes <= i32::MAX as usize);
    Shared::new(
        c"camd-pictures",
        bytes.ok_or(io::ErrorKind::OutOfMemory)?,
        true,
    )
}

/// Bytes of each plane of a raw picture, as far as they count, and from one line to the next.
fn planes(format: PixelFormat, frame: &Frame<'_>) -> [(usize, usize); 3] {
    let Picture::Raw(raw) = &frame.picture else {
        return [(0, 0); 3];
    };
    let mut planes = [(0, 0); 3];
    let sizes = format.planes(raw.width, raw.height);
    for ((to, (bytes, lines)), plane) in planes.iter_mut().zip(sizes).zip(&raw.planes) {
        if bytes > 0 {
            let all = plane
                .stride
                .saturating_mul(lines.saturating_sub(1))
                .saturating_add(bytes);
            // One that is too short is found to be so where it is used.
            *to = (all.min(plane.data.len()), plane.stride);
        }
    }
    planes
}

/// Bytes that a picture takes.
fn needed(frame: &Frame<'_>) -> usize {
    match &frame.picture {
        Picture::Jpeg(jpeg) => jpeg.len(),
        Picture::Raw(raw) => planes(raw.format, frame)
            .iter()
            .map(|(bytes, _)| bytes)
            .sum(),
    }
}

/// Bytes that what is to be made takes at most, as far as that is known.
fn task_bytes(frame: &Frame<'_>, task: &Task) -> usize {
    match task {
        Task::Pixels { format, bounds } => {
            let Size { width, height } = bounds.fit(frame.meta.shown());
            channels(*format) * usize::from(width) * usize::from(height)
        }
        Task::Encode(_) | Task::Turn(_) => 0,
    }
}

/// Where in the memory a picture is that was put at a place.
fn stored(frame: &Frame<'_>, at: usize) -> Stored {
    match &frame.picture {
        Picture::Jpeg(jpeg) => Stored::Jpeg(at..at + jpeg.len()),
        Picture::Raw(raw) => {
            let mut at = at;
            let planes = planes(raw.format, frame).map(|(bytes, stride)| {
                let range = at..at + bytes;
                at += bytes;
                (range, stride)
            });
            let size = Size {
                width: raw.width,
                height: raw.height,
            };
            Stored::Raw {
                format: raw.format,
                size,
                planes,
            }
        }
    }
}
