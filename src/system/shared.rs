//! Memory that two processes of camd's own map: a memfd of a size that neither can change.
//!
//! What one of them reads of it the other may be writing at the same moment, or may have written to do harm. So there is no
//! reference into it but to numbers of 32 bits, which are read and written in one piece; all else is copied. Only where the
//! other one is known to stay away can it be looked at ([`Shared::lend`]).

use std::ffi::CStr;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

/// Parts of it begin with pages, so that those never written cost no memory.
pub const PAGE: usize = 4096;

/// A mapping of all of it.
pub struct Shared {
    start: NonNull<u8>,
    bytes: NonZeroUsize,
    writable: bool,
}

// SAFETY: it is a pointer to memory of its own, which no thread is tied to.
unsafe impl Send for Shared {}

impl Shared {
    /// Makes such memory, maps it to be written, and seals its size. `alone`: nobody who maps it from now on can write to
    /// it, where the kernel can see to that (Linux 5.1).
    pub fn new(name: &CStr, bytes: usize, alone: bool) -> io::Result<(Shared, OwnedFd)> {
        let file = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        let too_large = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        ftruncate(&file, nix::libc::off_t::try_from(bytes).map_err(too_large)?)?;
        let shared = Shared::map_bytes(&file, bytes, true)?;
        if alone {
            match fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_FUTURE_WRITE)) {
                Ok(_) | Err(Errno::EINVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok((shared, file))
    }

    /// Maps what the other process has made: all of it.
    pub fn map(file: impl AsFd, writable: bool) -> io::Result<Shared> {
        let bytes = usize::try_from(fstat(&file)?.st_size)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Shared::map_bytes(file, bytes, writable)
    }

    fn map_bytes(file: impl AsFd, bytes: usize, writable: bool) -> io::Result<Shared> {
        let bytes = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidData)?;
        let prot = match writable {
            true => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            false => ProtFlags::PROT_READ,
        };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { mmap(None, bytes, prot, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Shared {
            start: start.cast(),
            bytes,
            writable,
        })
    }

    /// How much there is.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// A number that both look at.
    ///
    /// # Panics
    /// If it is not all within the memory, not aligned, or this mapping is only to be read.
    pub fn number(&self, place: usize) -> &AtomicU32 {
        assert!(self.writable && place.is_multiple_of(4) && place + 4 <= self.bytes());
        // SAFETY: it is within the mapping, which begins with a page, so it is aligned, and which can be written. Other
        // accesses of this process to the same place are by pointer, and of the same thread.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(place).cast()) }
    }

    /// Copies `from` to a place.
    ///
    /// # Panics
    /// If there is not so much room, or this mapping is only to be read.
    pub fn write(&self, place: usize, from: &[u8]) {
        assert!(self.writable && self.holds(place, from.len()));
        // SAFETY: so much is there and can be written, and no reference into it is held: those of `lend` are by a promise.
        unsafe {
            ptr::copy_nonoverlapping(from.as_ptr(), self.start.as_ptr().add(place), from.len());
        }
    }

    /// Copies from a place into `to`.
    ///
    /// # Panics
    /// If there is not so much.
    pub fn read(&self, place: usize, to: &mut [u8]) {
        assert!(self.holds(place, to.len()));
        // SAFETY: so much is there, and `to` is not in it. What another process writes there at the same time is bytes, too,
        // whichever of them arrive.
        unsafe {
            ptr::copy_nonoverlapping(self.start.as_ptr().add(place), to.as_mut_ptr(), to.len());
        }
    }

    fn holds(&self, place: usize, len: usize) -> bool {
        place
            .checked_add(len)
            .is_some_and(|end| end <= self.bytes())
    }

    /// A part of it, where it is; `None` if it is not all there.
    ///
    /// # Safety
    /// Nobody writes to that part while this is borrowed.
    pub unsafe fn lend(&self, range: Range<usize>) -> Option<&[u8]> {
        let len = range.end.checked_sub(range.start)?;
        if !self.holds(range.start, len) {
            return None;
        }
        // SAFETY: it is within the mapping, and the caller vouches for the rest.
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(range.start), len) })
    }

    /// A part of it, to be written where it is; `None` if it is not all there, or this mapping is only to be read.
    ///
    /// # Safety
    /// Nobody else uses that part while this is borrowed.
    // The borrow is of the mapping, which hands out parts of it.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn lend_mut(&self, range: Range<usize>) -> Option<&mut [u8]> {
        let len = range.end.checked_sub(range.start)?;
        if !self.writable || !self.holds(range.start, len) {
            return None;
        }
        // SAFETY: it is within the mapping, and the caller vouches for the rest.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(range.start), len) })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: it is mapped, and nobody holds a reference into it any more: all borrow from `self`.
        let unmapped = unsafe { munmap(self.start.cast(), self.bytes.get()) };
        // Only an address that was never mapped is refused.
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_size_stays_and_the_other_side_cannot_write_where_it_must_not() {
        let (ours, file) = Shared::new(c"test", 2 * PAGE, true).unwrap();
        assert!(ftruncate(&file, 0).is_err() && ftruncate(&file, 1 << 20).is_err());
        assert!(Shared::map(&file, true).is_err(), "a kernel since 5.1");
        let theirs = Shared::map(&file, false).unwrap();
        assert_eq!(theirs.bytes(), 2 * PAGE);
        ours.write(PAGE - 1, b"abc");
        let mut read = [0; 3];
        theirs.read(PAGE - 1, &mut read);
        assert_eq!(&read, b"abc");

        let (ours, file) = Shared::new(c"test", PAGE, false).unwrap();
        let theirs = Shared::map(&file, true).unwrap();
        theirs
            .number(8)
            .store(7, std::sync::atomic::Ordering::Release);
        assert_eq!(ours.number(8).load(std::sync::atomic::Ordering::Acquire), 7);
    }

    #[test]
    fn what_is_not_there_is_not_given() {
        let (shared, _file) = Shared::new(c"test", PAGE, false).unwrap();
        // SAFETY: nobody writes.
        let lend = |range| unsafe { shared.lend(range).map(<[u8]>::len) };
        assert_eq!(lend(0..PAGE), Some(PAGE));
        assert_eq!(lend(0..PAGE + 1), None);
        assert_eq!(lend(usize::MAX..usize::MAX), None);
        #[allow(clippy::reversed_empty_ranges)] // that is what is asked
        let reversed = lend(8..4);
        assert_eq!(reversed, None);
        assert_eq!(lend(PAGE..PAGE), Some(0));
    }
}
