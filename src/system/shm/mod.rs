//! Qt's shared memory (`QSharedMemory` with its legacy key) as its programs on Linux have it: System V IPC.
#![doc = include_str!("../../protocol/qt-shm.md")]
//!
//! # What dead programs leave
//! A segment that no process has attached is removed if its creator is gone (`shm/process.rs`). One of camd's own ends with
//! a mark that names its writer, so that camd recognises it while a reader still has it attached, and takes it over.

mod error;
mod ipc;
mod key;
pub mod picture;
mod process;

use std::io::{self, ErrorKind};
use std::thread;
use std::time::{Duration, Instant};

pub use error::Error;
use error::failed;
pub use ipc::Segment;
use ipc::{Key as IpcKey, SemaphoreId, Stat};
pub use key::{Key, id};
pub use process::{Process, is_gone};

/// How often another process may come in between while a file or a semaphore is opened.
const TRIES: usize = 10;
/// A lock that nobody holds any more, yet is not free, is freed after this time.
const ABANDONED: Duration = Duration::from_secs(1);

/// How long a program that holds the lock is waited for when it is removed: readers take some milliseconds.
const MOMENTS: u32 = 100;
const MOMENT: Duration = Duration::from_millis(1);

/// What became of a try to take the lock.
#[derive(Debug)]
pub enum Lock<'a> {
    /// It is ours until this is dropped.
    Taken(Guard<'a>),
    /// Somebody else has it.
    Busy,
}

/// The lock, given back when this goes.
#[derive(Debug)]
pub struct Guard<'a>(&'a Semaphore);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // An error: it was removed meanwhile, and nobody can wait for it.
        let _ = self.0.id.add(1);
    }
}

/// The lock of a key.
#[derive(Debug)]
pub struct Semaphore {
    id: SemaphoreId,
    key: IpcKey,
    /// By us: then it is ours to remove.
    created: bool,
    busy_since: Option<Instant>,
}

impl Semaphore {
    /// Opens it, or creates it where there is none.
    pub fn open(key: &Key, mode: u32) -> Result<Semaphore, Error> {
        let file = key.semaphore_file();
        for _ in 0..TRIES {
            key::create(file, mode)?;
            let Some(ipc) = key::ftok(file)? else {
                continue;
            };
            let (id, created) = match SemaphoreId::create(ipc, mode) {
                Ok(id) => {
                    id.set(1).map_err(failed("semaphore"))?;
                    (id, true)
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    match SemaphoreId::find(ipc) {
                        Ok(id) => {
                            // Its creator may not have known who else wants it. Only the owner can widen it.
                            let _ = id.widen(mode);
                            (id, false)
                        }
                        Err(error) if error.kind() == ErrorKind::NotFound => continue,
                        Err(error) => return Err(failed("semaphore")(error)),
                    }
                }
                Err(error) => return Err(failed("semaphore")(error)),
            };
            // Its creator may just have left, and taken the file along.
            if key::ftok(file)? == Some(ipc) {
                return Ok(Semaphore {
                    id,
                    key: ipc,
                    created,
                    busy_since: None,
                });
            }
            if created {
                let _ = id.remove();
            }
        }
        Err(Error::Other(format!(
            "{}: other programs remove it again and again",
            file.display()
        )))
    }

    /// Takes the lock, without waiting.
    pub fn try_lock(&mut self, key: &Key, mode: u32, now: Instant) -> Result<Lock<'_>, Error> {
        if !self.take(key, mode)? {
            let since = *self.busy_since.get_or_insert(now);
            if now.saturating_duration_since(since) < ABANDONED || !self.is_abandoned() {
                return Ok(Lock::Busy);
            }
            log::warn!("{key}: the lock was left behind, and is free again");
            self.id.set(1).map_err(failed("semaphore"))?;
            if !self.take(key, mode)? {
                return Ok(Lock::Busy);
            }
        }
        self.busy_since = None;
        Ok(Lock::Taken(Guard(self)))
    }

    /// True: we have the lock. Opens the semaphore anew where it was removed, or where others would now find another one.
    fn take(&mut self, key: &Key, mode: u32) -> Result<bool, Error> {
        for _ in 0..TRIES {
            if key::ftok(key.semaphore_file())? != Some(self.key) {
                // Those who use it still shall find the new one as well.
                let _ = self.id.remove();
                *self = Semaphore::open(key, mode)?;
            }
            match self.id.add(-1) {
                Ok(()) => {
                    self.lower();
                    return Ok(true);
                }
                Err(error) if is_removed(&error) => *self = Semaphore::open(key, mode)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(failed("semaphore")(error)),
            }
        }
        Ok(false)
    }

    /// The lock is taken: it has to be 0 now. It is more where it was removed while a Qt program had it, which then gave
    /// it back to the next one; two could take it.
    fn lower(&self) {
        if let Ok(rest @ 1..) = self.id.value() {
            let _ = self.id.subtract_for_good(rest);
        }
    }

    /// Whether it is taken, and the process that took it has gone. With SEM_UNDO that cannot be, but not all programs lock
    /// so, and one can die between creating a semaphore and setting it.
    fn is_abandoned(&self) -> bool {
        matches!(self.id.value(), Ok(0))
            && self
                .id
                .last_process()
                .is_ok_and(|pid| pid != 0 && is_gone(pid, None))
    }

    /// Removes it, with its file. A program that waits for it is told, opens it again and goes on. One that holds it would
    /// give it back to the next one, which then is free twice (see `lower`): it gets a moment to be done.
    pub fn remove(mut self, key: &Key, mode: u32) {
        for _ in 0..MOMENTS {
            match self.take(key, mode) {
                Ok(false) => thread::sleep(MOMENT),
                // Another user's, perhaps.
                Ok(true) | Err(_) => break,
            }
        }
        if matches!(key::ftok(key.semaphore_file()), Ok(Some(number)) if number == self.key) {
            let _ = key::remove(key.semaphore_file());
        }
        let _ = self.id.remove();
    }

    /// As a Qt program leaves: what it has created, it removes.
    pub fn leave(self, key: &Key, mode: u32) {
        if self.created {
            self.remove(key, mode);
        }
    }
}

fn is_removed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIDRM | libc::EINVAL))
}

/// At the end of a segment of camd's own: the process that writes it.
struct Mark {
    process: Process,
}

impl Mark {
    const BYTES: usize = 24;
    const MAGIC: &[u8; 8] = b"camd shm";

    fn write(&self, segment: &Segment) {
        let mut bytes = [0; Mark::BYTES];
        bytes[..8].copy_from_slice(Mark::MAGIC);
        bytes[8..16].copy_from_slice(&u64::from(self.process.pid.unsigned_abs()).to_ne_bytes());
        bytes[16..].copy_from_slice(&self.process.started.to_ne_bytes());
        segment.write(segment.len() - Mark::BYTES, &bytes);
    }

    fn read(segment: &Segment) -> Option<Mark> {
        let mut bytes = [0; Mark::BYTES];
        segment.read(segment.len().checked_sub(Mark::BYTES)?, &mut bytes);
        let number = |at: usize| {
            bytes[at..at + 8]
                .try_into()
                .map(u64::from_ne_bytes)
                .expect("eight bytes")
        };
        let process = Process {
            pid: i32::try_from(number(8)).ok()?,
            started: number(16),
        };
        (bytes[..8] == *Mark::MAGIC).then_some(Mark { process })
    }
}

/// The writer's half: a segment of our own, and its lock.
#[derive(Debug)]
pub struct Writer {
    key: Key,
    mode: u32,
    segment: Segment,
    ipc: IpcKey,
    semaphore: Semaphore,
    /// When the files were last touched.
    touched: Option<Instant>,
}

/// Some systems clear `/tmp` of what was not touched for days (tmpfiles.d(5)).
const TOUCH: Duration = Duration::from_secs(3600);

impl Writer {
    /// Creates a segment for `bytes` of content. What was left over by the dead is removed.
    pub fn create(key: &Key, bytes: usize, mode: u32) -> Result<Writer, Error> {
        let bytes = bytes + Mark::BYTES;
        let semaphore = Semaphore::open(key, mode)?;
        match Writer::segment(key, bytes, mode) {
            Ok((segment, ipc)) => {
                let mark = Mark {
                    process: Process::own(),
                };
                mark.write(&segment);
                Ok(Writer {
                    key: key.clone(),
                    mode,
                    segment,
                    ipc,
                    semaphore,
                    touched: None,
                })
            }
            Err(error) => {
                semaphore.leave(key, mode);
                Err(error)
            }
        }
    }

    fn segment(key: &Key, bytes: usize, mode: u32) -> Result<(Segment, IpcKey), Error> {
        let file = key.segment_file();
        for _ in 0..TRIES {
            key::create(file, mode)?;
            let Some(ipc) = key::ftok(file)? else {
                continue;
            };
            let segment = match Segment::create(ipc, bytes, mode) {
                Ok(segment) => segment,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    match take_over(ipc, bytes)? {
                        Some(segment) => segment,
                        None => continue,
                    }
                }
                Err(error) => return Err(failed("shared memory")(error)),
            };
            if key::ftok(file)? == Some(ipc) {
                return Ok((segment, ipc));
            }
            let _ = segment.remove();
        }
        Err(Error::Other(format!(
            "{}: other programs create or remove it again and again",
            file.display()
        )))
    }

    /// For the content.
    pub fn len(&self) -> usize {
        self.segment.len() - Mark::BYTES
    }

    /// Whether there is room for nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Programs that have it attached, apart from us.
    pub fn readers(&self) -> usize {
        self.segment
            .stat()
            .map_or(0, |stat| stat.attached.saturating_sub(1))
    }

    /// Takes the lock, without waiting, and runs `body` on the content. False: somebody else has it.
    ///
    /// An error: others do not find this segment any more.
    pub fn write(&mut self, now: Instant, body: impl FnOnce(&Segment)) -> Result<bool, Error> {
        let file = self.key.segment_file();
        if key::ftok(file)? != Some(self.ipc)
            || self.segment.stat().map_or(true, |stat| stat.removed)
        {
            return Err(Error::Other(format!(
                "another program has removed it, or its file {}",
                file.display()
            )));
        }
        let touched = *self.touched.get_or_insert(now);
        if now.saturating_duration_since(touched) >= TOUCH {
            self.touched = Some(now);
            key::touch(file);
            key::touch(self.key.semaphore_file());
        }
        match self.semaphore.try_lock(&self.key, self.mode, now)? {
            Lock::Busy => Ok(false),
            Lock::Taken(guard) => {
                body(&self.segment);
                drop(guard);
                Ok(true)
            }
        }
    }

    /// Removes segment and semaphore with their files; a program that reads now can do so to the end.
    pub fn remove(self) {
        // The file first if it is still ours: nobody shall attach what goes.
        if matches!(key::ftok(self.key.segment_file()), Ok(Some(ipc)) if ipc == self.ipc) {
            let _ = key::remove(self.key.segment_file());
        }
        let _ = self.segment.remove();
        self.semaphore.remove(&self.key, self.mode);
    }
}

/// What to do with a segment that is there already: `Some`: it is ours by now. `None`: it is gone.
fn take_over(ipc: IpcKey, bytes: usize) -> Result<Option<Segment>, Error> {
    let vanished = |error: &io::Error| error.kind() == ErrorKind::NotFound || is_removed(error);
    let id = match ipc::find_segment(ipc) {
        Err(error) if vanished(&error) => return Ok(None),
        found => found.map_err(failed("shared memory"))?,
    };
    let stat = match ipc::stat(id) {
        Err(error) if vanished(&error) => return Ok(None),
        // Not ours to look at; everybody may read this.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(in_use(id, ipc::listed(id).as_ref(), None));
        }
        stat => stat.map_err(failed("shared memory"))?,
    };
    // As a reader, so that it does not matter if this is not ours to write.
    let segment = match Segment::attach(id, false) {
        Ok(segment) => Some(segment),
        Err(error) if vanished(&error) => return Ok(None),
        Err(_) => None,
    };
    let mark = segment.as_ref().and_then(Mark::read);
    let gone = match &mark {
        Some(mark) => !mark.process.is_alive(),
        None => {
            stat.attached == 0 && (stat.creator == 0 || is_gone(stat.creator, Some(stat.changed)))
        }
    };
    if !gone {
        let writer = mark.map_or(stat.creator, |mark| mark.process.pid);
        return Err(in_use(id, Some(&stat), Some(writer)));
    }
    if mark.is_some()
        && stat.attached > 0
        && stat.size == bytes
        && let Ok(segment) = Segment::attach(id, true)
    {
        log::info!("shared memory {id} of a camd that is gone is taken over");
        return Ok(Some(segment));
    }
    match ipc::remove(id) {
        Err(error) if !vanished(&error) => Err(failed(&format!(
            "shared memory {id}, left over by a program that is gone"
        ))(error)),
        _ => {
            log::info!("shared memory {id}, left over by a program that is gone, is removed");
            Ok(None)
        }
    }
}

fn in_use(id: i32, stat: Option<&Stat>, writer: Option<i32>) -> Error {
    let who = match stat {
        None => "another user".to_owned(),
        Some(stat) => {
            let pid = writer.unwrap_or(stat.creator);
            let user = stat.user;
            match process::name(pid) {
                Some(name) => format!("process {pid} ({name}) of user {user}"),
                None => format!("process {pid}, which is gone, of user {user}"),
            }
        }
    };
    let attached = match stat.map(|stat| stat.attached) {
        None => String::new(),
        Some(1) => ", and 1 process has it".to_owned(),
        Some(n) => format!(", and {n} processes have it"),
    };
    Error::Other(format!(
        "the key is in use: {who} has created shared memory {id}{attached}; end that program, or take another key \
         (if no program needs it: ipcrm -m {id})"
    ))
}

/// What a [`Reader`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Other content than last time: it is in [`Reader::content`].
    New,
    /// The same content as last time.
    Same,
    /// Somebody has the lock: nothing was read.
    Busy,
}

/// The reader's half: attaches, locks, reads, unlocks and detaches each time, as the programs that it is made for.
#[derive(Debug)]
pub struct Reader {
    key: Key,
    semaphore: Option<Semaphore>,
    content: Vec<u8>,
    most: usize,
}

/// If a reader is the first, it lets in its own user only.
const READER_MODE: u32 = 0o600;

impl Reader {
    /// Reads no more than `most` bytes.
    pub fn new(key: Key, most: usize) -> Reader {
        Reader {
            key,
            semaphore: None,
            content: Vec::new(),
            most,
        }
    }

    /// What was read last.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Looks what there is. `now` tells only how long the lock has been taken.
    pub fn read(&mut self, now: Instant) -> Result<Found, Error> {
        let Some(ipc) = key::ftok(self.key.segment_file())? else {
            return Err(Error::Absent);
        };
        // Before the lock, which a Qt program would create now: there may be nothing to be locked.
        let find = || match ipc::find_segment(ipc) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::Absent),
            id => id.map_err(failed("shared memory")),
        };
        find()?;
        let semaphore = match &mut self.semaphore {
            Some(semaphore) => semaphore,
            none => none.insert(Semaphore::open(&self.key, READER_MODE)?),
        };
        let Lock::Taken(_guard) = semaphore.try_lock(&self.key, READER_MODE, now)? else {
            return Ok(Found::Busy);
        };
        let id = find()?;
        let segment = match Segment::attach(id, false) {
            Err(error) if is_removed(&error) => return Err(Error::Absent),
            segment => segment.map_err(failed("shared memory"))?,
        };
        let length = picture::length(segment.len(), |at, bytes| segment.read(at, bytes))
            .min(self.most)
            .min(segment.len());
        let same = length == self.content.len() && segment.holds(&self.content);
        if !same {
            self.content.resize(length, 0);
            segment.read(0, &mut self.content);
        }
        drop(segment);
        // The last one to leave removes it. Its writer has died, and could not create it again.
        if ipc::stat(id).is_ok_and(|stat| stat.attached == 0) && ipc::remove(id).is_ok() {
            let _ = key::remove(self.key.segment_file());
        }
        Ok(if same { Found::Same } else { Found::New })
    }

    /// Whatever is read next is [`Found::New`].
    pub fn forget(&mut self) {
        self.content.clear();
    }

    /// Forgets what was read, and removes what only it has needed.
    pub fn leave(&mut self) {
        self.forget();
        if let Some(semaphore) = self.semaphore.take() {
            semaphore.leave(&self.key, READER_MODE);
        }
    }
}

#[cfg(test)]
mod tests;
