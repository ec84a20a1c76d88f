//! System V's segments and semaphores: shmget(2), semget(2) and what belongs to them, without their sharp edges.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

/// `key_t`
pub(super) type Key = libc::key_t;

fn check(returned: c_int) -> io::Result<c_int> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}

/// Permissions as the flags of the calls have them.
fn flags(mode: u32) -> c_int {
    (mode & 0o777) as c_int
}

/// A set of one semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SemaphoreId(c_int);

impl SemaphoreId {
    /// One that was not there. Its value is 0 until [`SemaphoreId::set`].
    pub(super) fn create(key: Key, mode: u32) -> io::Result<SemaphoreId> {
        let flags = libc::IPC_CREAT | libc::IPC_EXCL | flags(mode);
        // SAFETY: takes numbers only.
        check(unsafe { libc::semget(key, 1, flags) }).map(SemaphoreId)
    }

    /// One that exists, whichever program uses it.
    pub(super) fn find(key: Key) -> io::Result<SemaphoreId> {
        // SAFETY: takes numbers only.
        check(unsafe { libc::semget(key, 1, 0) }).map(SemaphoreId)
    }

    /// Adds to the value, without waiting; below 0 it is `WouldBlock`. The kernel takes it back when the process ends.
    pub(super) fn add(self, n: i16) -> io::Result<()> {
        self.operate(n, libc::SEM_UNDO)
    }

    /// Takes from the value, without waiting, whatever becomes of this process.
    pub(super) fn subtract_for_good(self, n: c_int) -> io::Result<()> {
        // SEMVMX is 32767.
        self.operate(i16::try_from(-n).unwrap_or(i16::MIN), 0)
    }

    fn operate(self, n: i16, flags: c_int) -> io::Result<()> {
        let mut operation = libc::sembuf {
            sem_num: 0,
            sem_op: n,
            // Small bits.
            sem_flg: (flags | libc::IPC_NOWAIT) as i16,
        };
        // SAFETY: one operation, which outlives the call.
        check(unsafe { libc::semop(self.0, &mut operation, 1) }).map(drop)
    }

    pub(super) fn value(self) -> io::Result<c_int> {
        // SAFETY: this command takes no further argument.
        check(unsafe { libc::semctl(self.0, 0, libc::GETVAL) })
    }

    /// Forgets what ending processes would give back.
    pub(super) fn set(self, value: c_int) -> io::Result<()> {
        // SAFETY: the argument of this command is an int (`union semun`).
        check(unsafe { libc::semctl(self.0, 0, libc::SETVAL, value) }).map(drop)
    }

    /// The process that changed it last; 0 if we cannot see that process.
    pub(super) fn last_process(self) -> io::Result<i32> {
        // SAFETY: this command takes no further argument.
        check(unsafe { libc::semctl(self.0, 0, libc::GETPID) })
    }

    /// Lets at least these use it. For its owner only.
    pub(super) fn widen(self, mode: u32) -> io::Result<()> {
        let mut stat = MaybeUninit::<libc::semid_ds>::zeroed();
        // SAFETY: the argument of this command is a `semid_ds` to be filled in (`union semun`), which is valid all zeros.
        let mut stat = unsafe {
            check(libc::semctl(self.0, 0, libc::IPC_STAT, stat.as_mut_ptr()))?;
            stat.assume_init()
        };
        let has = stat.sem_perm.mode;
        // 16 bits wide on some architectures, 32 on others.
        #[allow(clippy::useless_conversion, reason = "on the others it is one")]
        let wider = (u32::from(has) | (mode & 0o777))
            .try_into()
            .expect("what 16 bits held and nine bits fit into 16");
        stat.sem_perm.mode = wider;
        if stat.sem_perm.mode == has {
            return Ok(());
        }
        // SAFETY: the argument of this command is a `semid_ds`.
        check(unsafe { libc::semctl(self.0, 0, libc::IPC_SET, &raw mut stat) }).map(drop)
    }

    pub(super) fn remove(self) -> io::Result<()> {
        // SAFETY: this command takes no further argument.
        check(unsafe { libc::semctl(self.0, 0, libc::IPC_RMID) }).map(drop)
    }
}

/// What the kernel knows of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub size: usize,
    /// Its owner's id.
    pub user: u32,
    /// The process that has created it; 0 if we cannot see that one.
    pub creator: i32,
    /// In seconds since the epoch: created, or its mode set.
    pub changed: i64,
    pub attached: usize,
    /// It is on its way out: nobody finds it any more.
    pub removed: bool,
}

/// `SHM_DEST` of shmctl(2), which libc does not have.
const SHM_DEST: u32 = 0o1000;

pub(super) fn find_segment(key: Key) -> io::Result<c_int> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::shmget(key, 0, 0) })
}

pub(super) fn stat(id: c_int) -> io::Result<Stat> {
    let mut stat = MaybeUninit::<libc::shmid_ds>::zeroed();
    // SAFETY: the argument of this command is a `shmid_ds` to be filled in, which is valid all zeros.
    let stat = unsafe {
        check(libc::shmctl(id, libc::IPC_STAT, stat.as_mut_ptr()))?;
        stat.assume_init()
    };
    // Types differ from one architecture to the next.
    #[allow(clippy::unnecessary_cast)]
    Ok(Stat {
        size: stat.shm_segsz as usize,
        user: stat.shm_perm.uid,
        creator: stat.shm_cpid,
        changed: stat.shm_ctime as i64,
        attached: stat.shm_nattch as usize,
        removed: stat.shm_perm.mode as u32 & SHM_DEST != 0,
    })
}

/// The same from `/proc/sysvipc/shm` (proc(5)), for a segment that is not ours to look at.
pub(super) fn listed(id: c_int) -> Option<Stat> {
    let list = std::fs::read_to_string("/proc/sysvipc/shm").ok()?;
    list.lines().skip(1).find_map(|line| parse(line, id))
}

/// key, shmid, perms, size, cpid, lpid, nattch, uid, gid, cuid, cgid, atime, dtime, ctime, …
fn parse(line: &str, id: c_int) -> Option<Stat> {
    let mut fields = line.split_whitespace();
    let mut number = |skip: usize| fields.nth(skip)?.parse::<i64>().ok();
    if number(1)? != i64::from(id) {
        return None;
    }
    // In octal, but its digits are decimal as well.
    let removed = number(0)? / 1000 % 10 == 1;
    let size = usize::try_from(number(0)?).ok()?;
    let creator = i32::try_from(number(0)?).ok()?;
    let attached = usize::try_from(number(1)?).ok()?;
    let user = u32::try_from(number(0)?).ok()?;
    let changed = number(5)?;
    Some(Stat {
        size,
        user,
        creator,
        changed,
        attached,
        removed,
    })
}

pub(super) fn remove(id: c_int) -> io::Result<()> {
    // SAFETY: this command ignores its last argument.
    check(unsafe { libc::shmctl(id, libc::IPC_RMID, ptr::null_mut()) }).map(drop)
}

/// A segment that is attached. Other processes may write it at any time, so nobody gets a reference into it: bytes are
/// copied.
#[derive(Debug)]
pub struct Segment {
    id: c_int,
    address: NonNull<u8>,
    len: usize,
    writable: bool,
}

impl Segment {
    /// One that was not there, all zeros.
    pub(super) fn create(key: Key, bytes: usize, mode: u32) -> io::Result<Segment> {
        let flags = libc::IPC_CREAT | libc::IPC_EXCL | flags(mode);
        // SAFETY: takes numbers only.
        let id = check(unsafe { libc::shmget(key, bytes, flags) })?;
        Segment::attach(id, true).inspect_err(|_| {
            // Best effort: the error that is reported is the first one.
            let _ = remove(id);
        })
    }

    pub(super) fn attach(id: c_int, writable: bool) -> io::Result<Segment> {
        let flags = if writable { 0 } else { libc::SHM_RDONLY };
        // SAFETY: the kernel picks a place where nothing is.
        let address = unsafe { libc::shmat(id, ptr::null(), flags) };
        if address as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).expect("the kernel attaches nothing at 0");
        let mut segment = Segment {
            id,
            address,
            len: 0,
            writable,
        };
        segment.len = stat(id)?.size;
        Ok(segment)
    }

    /// Bytes of the segment.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes, which System V does not allow.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn stat(&self) -> io::Result<Stat> {
        stat(self.id)
    }

    /// Nobody finds it from now on; it ends when the last process detaches.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove(self.id)
    }

    /// # Panics
    /// If this is beyond its end.
    fn place(&self, at: usize, bytes: usize) -> *mut u8 {
        assert!(
            at <= self.len && bytes <= self.len - at,
            "{bytes} bytes at {at} of {}",
            self.len
        );
        // SAFETY: within what is attached, as was just checked.
        unsafe { self.address.as_ptr().add(at) }
    }

    /// # Panics
    /// If this is beyond its end, or it was attached for reading only.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(self.writable, "it was attached for reading");
        let place = self.place(at, bytes.len());
        // SAFETY: there is room, and no slice of ours is in there.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) }
    }

    /// # Panics
    /// If this is beyond its end.
    pub fn read(&self, at: usize, bytes: &mut [u8]) {
        let place = self.place(at, bytes.len());
        // SAFETY: there are so many, and no slice of ours is in there.
        unsafe { ptr::copy_nonoverlapping(place, bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Whether it begins with these.
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        if bytes.len() > self.len {
            return false;
        }
        let place = self.place(0, bytes.len());
        // SAFETY: there are so many of both.
        unsafe { libc::memcmp(place.cast(), bytes.as_ptr().cast(), bytes.len()) == 0 }
    }

    /// Sets the first four bytes, so that a reader that looks after a sudden end of this process sees what was written before, and
    /// nothing that comes after.
    ///
    /// # Panics
    /// If there are none, or it was attached for reading only.
    pub fn begin_with(&self, bytes: [u8; 4]) {
        assert!(self.writable, "it was attached for reading");
        let place = self.place(0, 4);
        // SAFETY: segments begin with a page, and other processes use it likewise or by the lock.
        let first = unsafe { AtomicU32::from_ptr(place.cast()) };
        std::sync::atomic::fence(Ordering::SeqCst);
        first.store(u32::from_ne_bytes(bytes), Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: attached by us, and nobody has a pointer to it.
        let detached = unsafe { libc::shmdt(self.address.as_ptr().cast()) };
        assert_eq!(detached, 0, "it was attached");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_of_a_segment() {
        let line = "1358979885          7  1600                  1000 19955 19956      2     5     6     0     0 \
                    1795958721 1795958722 1795958723                  4096                     0";
        let expected = Stat {
            size: 1000,
            user: 5,
            creator: 19955,
            changed: 1_795_958_723,
            attached: 2,
            removed: true,
        };
        assert_eq!(parse(line, 7), Some(expected));
        assert_eq!(parse(line, 8), None);
    }

    #[test]
    fn a_segment_is_what_its_list_says() {
        // Key 0 is IPC_PRIVATE: nobody else's.
        let segment = Segment::create(0, 5000, 0o600).unwrap();
        let stat = segment.stat().unwrap();
        assert_eq!((stat.size, stat.attached, stat.removed), (5000, 1, false));
        assert_eq!(listed(segment.id), Some(stat));
        segment.write(4990, b"0123456789");
        let mut bytes = [0; 4];
        segment.read(4993, &mut bytes);
        assert_eq!(&bytes, b"3456");
        segment.begin_with(*b"abcd");
        assert!(segment.holds(b"abcd\0") && !segment.holds(b"abce") && !segment.holds(&[0; 5001]));
        segment.remove().unwrap();
        assert!(segment.stat().unwrap().removed);
    }
}
