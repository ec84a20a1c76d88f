//! Pictures in shared memory: a ring of slots in a memfd that one process writes and any number of others read, without
//! a copy and without a message between them.
#![doc = include_str!("../protocol/memfd.md")]
//!
//! # Why it is safe
//! The numbers are in the byte order of the machine, on all of camd's targets little-endian. Locks and the header's two
//! changing numbers are 32 bits wide and aligned: every machine reads and writes them in one piece. Wider numbers are behind a
//! lock, which tells when half of one is old. On ARM the fences are `dmb ish`; on x86 they cost nothing.
//!
//! The memory's size is sealed, and it is sealed against writing, but for the mapping that the writer has made before
//! (`F_SEAL_FUTURE_WRITE`): no descriptor of it, however it was opened, gives more than a mapping to read from, and
//! mprotect(2) does not change that.

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::ftruncate;

/// Begins every ring.
pub const MAGIC: [u8; 8] = *b"camdring";
/// Of the layout.
pub const VERSION: u32 = 1;
/// The ring header has a page of its own.
const FIRST_SLOT: u32 = 4096;
/// Slots begin with pages, so that those never written cost no memory.
const PAGE: u32 = 4096;
/// Bytes of a slot header.
const DATA: u32 = 128;
/// There is no newest picture.
const NONE: u32 = u32::MAX;

/// Bits in a slot's flags.
pub mod flags {
    /// A picture of the camera, not the card that stands in for one.
    pub const LIVE: u32 = 1;
    /// The picture is still to be mirrored at the diagonal from its upper left corner, before what follows.
    pub const TRANSPOSE: u32 = 2;
    /// Left and right are still to change places.
    pub const MIRROR_X: u32 = 4;
    /// Top and bottom are still to change places.
    pub const MIRROR_Y: u32 = 8;
    /// H.264: it stands for itself, and its parameter sets are in front of it.
    pub const KEY: u32 = 16;
}

/// What a slot's header says of its picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// As V4L2 has them.
    pub fourcc: u32,
    /// camd's number of the picture, from 1, rising.
    pub sequence: u64,
    /// Nanoseconds since 1970.
    pub wall: u64,
    /// The same moment on CLOCK_MONOTONIC.
    pub monotonic: u64,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Bytes of the picture.
    pub size: u32,
    /// See [`flags`].
    pub flags: u32,
    /// Place in the picture, and bytes from one line to the next.
    pub planes: [(u32, u32); 3],
}

impl Description {
    /// All but the lock, which is in front of it.
    fn to_bytes(self) -> [u8; SLOT_HEADER] {
        let mut bytes = [0; SLOT_HEADER];
        let mut rest = &mut bytes[..];
        let mut put = |number: &[u8]| {
            let (place, behind) = std::mem::take(&mut rest).split_at_mut(number.len());
            place.copy_from_slice(number);
            rest = behind;
        };
        put(&self.fourcc.to_ne_bytes());
        for number in [self.sequence, self.wall, self.monotonic] {
            put(&number.to_ne_bytes());
        }
        for number in [self.width, self.height, self.size, self.flags] {
            put(&number.to_ne_bytes());
        }
        for (place, line) in self.planes {
            put(&place.to_ne_bytes());
            put(&line.to_ne_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; SLOT_HEADER]) -> Description {
        let mut rest = &bytes[..];
        let mut description = Description {
            fourcc: u32::from_ne_bytes(take(&mut rest)),
            ..Description::default()
        };
        for number in [
            &mut description.sequence,
            &mut description.wall,
            &mut description.monotonic,
        ] {
            *number = u64::from_ne_bytes(take(&mut rest));
        }
        for number in [
            &mut description.width,
            &mut description.height,
            &mut description.size,
            &mut description.flags,
        ] {
            *number = u32::from_ne_bytes(take(&mut rest));
        }
        for (place, line) in &mut description.planes {
            *place = u32::from_ne_bytes(take(&mut rest));
            *line = u32::from_ne_bytes(take(&mut rest));
        }
        description
    }
}

/// Of the slot header, from behind the lock up to the end of the planes.
const SLOT_HEADER: usize = 4 + 3 * 8 + 4 * 4 + 3 * 8;

/// # Panics
/// If there is not so much.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (bytes, behind) = rest
        .split_first_chunk()
        .expect("the headers' length is fixed");
    *rest = behind;
    *bytes
}

/// Where things are in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    slots: u32,
    first: u32,
    stride: u32,
    data: u32,
    capacity: u32,
}

impl Layout {
    /// `None`: the numbers are too large for the memory of this machine's processes.
    fn new(slots: usize, capacity: usize) -> Option<Layout> {
        let capacity = u32::try_from(capacity).ok()?;
        let layout = Layout {
            slots: u32::try_from(slots).ok()?,
            first: FIRST_SLOT,
            stride: DATA.checked_add(capacity)?.checked_next_multiple_of(PAGE)?,
            data: DATA,
            capacity,
        };
        layout.bytes().map(|_| layout)
    }

    fn bytes(&self) -> Option<NonZeroUsize> {
        let slots = u64::from(self.slots) * u64::from(self.stride);
        let bytes = u64::from(self.first).checked_add(slots)?;
        // Places have 32 bits, also those of this machine, and signed ones if it comes to files.
        let bytes = u32::try_from(bytes)
            .ok()
            .filter(|&bytes| bytes <= i32::MAX as u32);
        NonZeroUsize::new(bytes? as usize)
    }

    fn header(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        let numbers = [
            VERSION,
            self.slots,
            self.first,
            self.stride,
            self.data,
            self.capacity,
        ];
        for (place, number) in bytes[8..].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    /// Of a ring that somebody else has made; the error says what is wrong with it.
    fn read(header: &[u8; HEADER], bytes: u64) -> Result<Layout, String> {
        let mut rest = &header[..];
        if take(&mut rest) != MAGIC {
            return Err("no ring of pictures: it does not begin with camdring".to_owned());
        }
        let [version, slots, first, stride, data, capacity] =
            [(); 6].map(|()| u32::from_ne_bytes(take(&mut rest)));
        if version != VERSION {
            return Err(format!("a ring of version {version}, known is {VERSION}"));
        }
        let layout = Layout {
            slots,
            first,
            stride,
            data,
            capacity,
        };
        // What is accessed in one piece is aligned, and each part is behind the one before and within the next.
        let aligned = first.is_multiple_of(8) && stride.is_multiple_of(8) && data.is_multiple_of(8);
        let apart = first as usize >= COUNT + 4 && data as usize >= 4 + SLOT_HEADER;
        let within = u64::from(data) + u64::from(capacity) <= u64::from(stride)
            && layout
                .bytes()
                .is_some_and(|whole| whole.get() as u64 <= bytes);
        if slots > 0 && aligned && apart && within {
            Ok(layout)
        } else {
            Err(format!(
                "a ring that cannot be: {layout:?} in {bytes} bytes"
            ))
        }
    }
}

/// What of the ring header never changes.
const HEADER: usize = 8 + 6 * 4;
/// Places of the ring header's other two numbers.
const NEWEST: usize = 64;
const COUNT: usize = 68;

/// Bytes of the message with which a ring is handed over.
pub const HELLO: usize = 16;

/// `camdring`, the version, and the bytes to map; 0 of them where there is no ring to hand over. The descriptors of the
/// memory and of what tells of new pictures go with it.
pub fn hello(bytes: usize) -> [u8; HELLO] {
    let mut hello = [0; HELLO];
    hello[..8].copy_from_slice(&MAGIC);
    hello[8..12].copy_from_slice(&VERSION.to_ne_bytes());
    let bytes = u32::try_from(bytes).expect("a ring's places are numbers of 32 bits");
    hello[12..].copy_from_slice(&bytes.to_ne_bytes());
    hello
}

/// The bytes to map. `None`: this is no such message, or one of another version.
pub fn parse_hello(hello: &[u8]) -> Option<u32> {
    let mut rest = <&[u8; HELLO]>::try_from(hello).ok()?.as_slice();
    let known = take(&mut rest) == MAGIC && u32::from_ne_bytes(take(&mut rest)) == VERSION;
    known.then(|| u32::from_ne_bytes(take(&mut rest)))
}

/// A shared mapping of a whole ring.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    bytes: NonZeroUsize,
}

impl Memory {
    fn map(fd: impl AsFd, bytes: NonZeroUsize, prot: ProtFlags) -> nix::Result<NonNull<c_void>> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        unsafe { mmap(None, bytes, prot, MapFlags::MAP_SHARED, fd, 0) }
    }

    fn slot(&self, slot: u32) -> usize {
        debug_assert!(slot < self.layout.slots);
        (self.layout.first + slot * self.layout.stride) as usize
    }

    /// A number that others look at, or change, at the same time.
    fn number(&self, place: usize) -> &AtomicU32 {
        assert!(place.is_multiple_of(4) && place + 4 <= self.bytes.get());
        // SAFETY: it is within the mapping, which begins with a page, so it is aligned. All accesses to these places are
        // atomic: `Writing` gives out what is behind the lock only. Where the mapping can only be read, no method stores.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(place).cast()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it is mapped, and nobody holds a reference into it any more: all borrow from `self`.
        let unmapped = unsafe { munmap(self.start.cast(), self.bytes.get()) };
        // Only an address that was never mapped is refused.
        debug_assert!(unmapped.is_ok());
    }
}

/// The writer's end.
pub struct Ring {
    memory: Memory,
    file: OwnedFd,
    /// The slot to be written next.
    next: u32,
}

impl Ring {
    /// # Errors
    /// Too large for this process, no memory, or a kernel before Linux 5.1, which cannot seal it (EINVAL).
    pub fn new(slots: usize, capacity: usize) -> io::Result<Ring> {
        let too_large = || {
            io::Error::new(
                io::ErrorKind::OutOfMemory,
                format!("{slots} slots of {capacity} bytes are too large for one process here"),
            )
        };
        assert!(slots > 0, "the configuration does not allow it");
        let layout = Layout::new(slots, capacity).ok_or_else(too_large)?;
        let bytes = layout.bytes().ok_or_else(too_large)?;
        let file = memfd_create(
            c"camd-frames",
            MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
        )?;
        let length = nix::libc::off_t::try_from(bytes.get()).map_err(|_| too_large())?;
        ftruncate(&file, length)?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let start = match Memory::map(&file, bytes, prot) {
            Err(Errno::ENOMEM) => return Err(too_large()),
            mapped => mapped?.cast(),
        };
        let memory = Memory {
            start,
            layout,
            bytes,
        };
        // After our own mapping, which stays writable.
        let seals = SealFlag::F_SEAL_SHRINK
            | SealFlag::F_SEAL_GROW
            | SealFlag::F_SEAL_FUTURE_WRITE
            | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(|errno| match errno {
            Errno::EINVAL => io::Error::new(
                io::ErrorKind::Unsupported,
                "this kernel cannot seal memory against writing, Linux 5.1 and newer can",
            ),
            errno => errno.into(),
        })?;
        let header = layout.header();
        // SAFETY: the header is within the mapping, and no reader has the memory yet.
        unsafe { ptr::copy_nonoverlapping(header.as_ptr(), memory.start.as_ptr(), header.len()) };
        let ring = Ring {
            memory,
            file,
            next: 0,
        };
        ring.forget();
        Ok(ring)
    }

    /// Bytes of the largest picture.
    pub fn capacity(&self) -> usize {
        self.memory.layout.capacity as usize
    }

    /// Bytes of the whole mapping.
    pub fn bytes(&self) -> usize {
        self.memory.bytes.get()
    }

    /// A descriptor for one reader. It is opened for reading, and its flags and position are its own.
    pub fn share(&self) -> io::Result<OwnedFd> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        Ok(open(&path, flags, Mode::empty())?)
    }

    /// There is no newest picture any more: what is in the ring is old.
    pub fn forget(&self) {
        self.memory.number(NEWEST).store(NONE, Ordering::Release);
    }

    /// Begins to write the next picture, over the oldest one.
    pub fn begin(&mut self) -> Writing<'_> {
        let slot = self.next;
        let place = self.memory.slot(slot);
        let lock = self.memory.number(place);
        let even = lock.load(Ordering::Relaxed);
        assert!(even.is_multiple_of(2), "a slot is being written twice");
        lock.store(even.wrapping_add(1), Ordering::Relaxed);
        // Who sees any of what is written from here on sees the odd number as well.
        fence(Ordering::Release);
        Writing {
            ring: self,
            slot,
            description: Description::default(),
        }
    }
}

/// A slot that is being written. Dropped without [`Writing::finish`] it holds no picture.
pub struct Writing<'a> {
    ring: &'a mut Ring,
    slot: u32,
    description: Description,
}

impl Writing<'_> {
    /// The room for the picture; what was there before is still there.
    pub fn data(&mut self) -> &mut [u8] {
        let memory = &self.ring.memory;
        let place = memory.slot(self.slot) + memory.layout.data as usize;
        // SAFETY: within the mapping, and nobody in this process looks at it but by this borrow: the ring is borrowed
        // for writing. Readers have mappings of their own, in which they cannot write; what they see meanwhile is their
        // affair, and the lock tells them.
        unsafe {
            std::slice::from_raw_parts_mut(
                memory.start.as_ptr().add(place),
                memory.layout.capacity as usize,
            )
        }
    }

    /// The picture is there, and the newest one.
    ///
    /// # Panics
    /// If it has more bytes than there is room for.
    pub fn finish(mut self, description: &Description) {
        let capacity = self.ring.memory.layout.capacity;
        assert!(
            description.size <= capacity,
            "a picture of {} bytes in a slot of {capacity}",
            description.size
        );
        self.description = *description;
        self.unlock();
        // Else the next one takes this place: what fails costs no older picture.
        self.ring.next = (self.slot + 1) % self.ring.memory.layout.slots;
        let memory = &self.ring.memory;
        memory.number(NEWEST).store(self.slot, Ordering::Release);
        let count = memory.number(COUNT);
        let pictures = count.load(Ordering::Relaxed);
        count.store(pictures.wrapping_add(1), Ordering::Release);
        std::mem::forget(self);
    }

    fn unlock(&mut self) {
        let memory = &self.ring.memory;
        let place = memory.slot(self.slot);
        let header = self.description.to_bytes();
        // SAFETY: as in `data`; the header is behind the lock and before the picture.
        unsafe {
            let to = memory.start.as_ptr().add(place + 4);
            ptr::copy_nonoverlapping(header.as_ptr(), to, header.len());
        }
        let lock = memory.number(place);
        let odd = lock.load(Ordering::Relaxed);
        lock.store(odd.wrapping_add(1), Ordering::Release);
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.unlock();
    }
}

/// A reader's end.
pub struct View {
    memory: Memory,
    sequence: u64,
}

impl View {
    /// Maps a ring that was handed over. The error says what is wrong with it: nothing about it is trusted.
    pub fn new(file: OwnedFd) -> Result<View, String> {
        let failed = |what: &str, errno: Errno| format!("{what}: {}", errno.desc());
        // Else it could be cut off while it is read, which ends a process.
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS)
            .map(SealFlag::from_bits_retain)
            .unwrap_or(SealFlag::empty());
        if !seals.contains(SealFlag::F_SEAL_SHRINK) {
            return Err("no ring of pictures: its size is not sealed".to_owned());
        }
        let stat = fstat(&file).map_err(|errno| failed("fstat", errno))?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let mapped = usize::try_from(size).ok().and_then(NonZeroUsize::new);
        let bytes = mapped
            .filter(|bytes| {
                bytes.get() >= FIRST_SLOT as usize && bytes.get() <= isize::MAX as usize
            })
            .ok_or_else(|| format!("no ring of pictures: it has {size} bytes"))?;
        let start = Memory::map(&file, bytes, ProtFlags::PROT_READ)
            .map_err(|errno| failed("mmap", errno))?
            .cast();
        let unknown = Layout {
            slots: 0,
            first: 0,
            stride: 0,
            data: 0,
            capacity: 0,
        };
        let mut memory = Memory {
            start,
            layout: unknown,
            bytes,
        };
        let mut header = [0; HEADER];
        memory.copy(0, &mut header);
        memory.layout = Layout::read(&header, size)?;
        Ok(View {
            memory,
            sequence: 0,
        })
    }

    /// Copies the newest picture to `picture`, if there is one that was not read before. `None` also where the ring has
    /// been faster than this reader: another one is there, or comes.
    pub fn next(&mut self, picture: &mut Vec<u8>) -> Option<Description> {
        // Twice is enough but for a reader that is stopped in between, again and again.
        for _ in 0..8 {
            let slot = self.memory.number(NEWEST).load(Ordering::Acquire);
            if slot >= self.memory.layout.slots {
                return None;
            }
            if let Some(description) = self.read(slot, Some(picture)) {
                let news = description.fourcc != 0 && description.sequence > self.sequence;
                self.sequence = self.sequence.max(description.sequence);
                return news.then_some(description);
            }
        }
        None
    }

    /// What the newest picture is, if there is one.
    pub fn newest(&self) -> Option<Description> {
        let slot = self.memory.number(NEWEST).load(Ordering::Acquire);
        let is_there = slot < self.memory.layout.slots;
        let newest = is_there.then(|| self.read(slot, None)).flatten();
        newest.filter(|description| description.fourcc != 0)
    }

    /// As [`View::next`], of pictures that lean on one another (H.264): copies the one behind that which was read last. Where that is
    /// gone, or none was read yet, it is the newest of those that stand for themselves.
    pub fn next_of_chain(&mut self, picture: &mut Vec<u8>) -> Option<Description> {
        let mut found: Option<(u64, u32)> = None;
        for slot in 0..self.memory.layout.slots {
            let Some(Description {
                fourcc: 1..,
                sequence,
                flags: set,
                ..
            }) = self.read(slot, None)
            else {
                continue;
            };
            if sequence == self.sequence + 1 && self.sequence > 0 {
                found = Some((sequence, slot));
                break;
            }
            let is_newer = sequence > found.map_or(self.sequence, |(newest, _)| newest);
            if set & flags::KEY != 0 && is_newer {
                found = Some((sequence, slot));
            }
        }
        let (sequence, slot) = found?;
        let description = self.read(slot, Some(picture))?;
        // It may be gone by now.
        (description.sequence == sequence).then(|| {
            self.sequence = sequence;
            description
        })
    }

    /// `None`: it was being written meanwhile.
    fn read(&self, slot: u32, picture: Option<&mut Vec<u8>>) -> Option<Description> {
        let place = self.memory.slot(slot);
        let lock = self.memory.number(place);
        let before = lock.load(Ordering::Acquire);
        if !before.is_multiple_of(2) {
            return None;
        }
        let mut header = [0; SLOT_HEADER];
        self.memory.copy(place + 4, &mut header);
        let description = Description::from_bytes(&header);
        // Half of a number may be another picture's.
        let size = description.size.min(self.memory.layout.capacity) as usize;
        if let Some(picture) = picture
            && description.sequence > self.sequence
        {
            picture.resize(size, 0);
            self.memory
                .copy(place + self.memory.layout.data as usize, picture);
        }
        // All that was read is read before the lock is, again.
        fence(Ordering::Acquire);
        let after = lock.load(Ordering::Relaxed);
        (after == before && size == description.size as usize).then_some(description)
    }
}

impl Memory {
    /// Copies what is there, while others may be writing it.
    fn copy(&self, place: usize, to: &mut [u8]) {
        assert!(place + to.len() <= self.bytes.get());
        // SAFETY: within the mapping. No reference to it exists in this process; that another process may write it is not
        // known to the compiler, which can neither leave out nor repeat a copy of memory that it knows nothing about
        // across the atomic accesses around it. What comes of a race is bytes, which are good for nothing and not used.
        unsafe {
            ptr::copy_nonoverlapping(self.start.as_ptr().add(place), to.as_mut_ptr(), to.len());
        }
        #[cfg(test)]
        after_copy();
    }
}

#[cfg(test)]
thread_local! {
    /// What a test lets happen each time a reader has copied something, and may have been stopped there.
    static AFTER_COPY: std::cell::RefCell<Option<Box<dyn FnMut()>>> =
        const { std::cell::RefCell::new(None) };
}

#[cfg(test)]
fn after_copy() {
    let hook = AFTER_COPY.with(std::cell::RefCell::take);
    if let Some(mut hook) = hook {
        hook();
        AFTER_COPY.with(|place| *place.borrow_mut() = Some(hook));
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
