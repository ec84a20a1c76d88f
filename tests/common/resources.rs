//! What a process holds, exactly: the heap by an allocator that counts, files and mappings by /proc. For single-threaded
//! programs; in a test that runs beside others only [`allocations`] means something, as it counts for each thread.
//!
//! VmRSS will not do: the kernel tells it up to 64 pages late, and it grows by a page now and then as the heap's gaps come
//! to lie differently.

// No program here uses all of it.
#![allow(dead_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

static HEAP: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: `System` does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.fetch_add(layout.size(), Ordering::Relaxed);
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promises are `System`'s conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        HEAP.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes allocated and not freed.
pub fn heap() -> usize {
    HEAP.load(Ordering::Relaxed)
}

/// Allocations that this thread ever made.
pub fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// What a leak would grow, beside the heap.
#[derive(Debug, PartialEq)]
pub struct Resources {
    /// Open files by what they lead to.
    pub files: BTreeMap<String, usize>,
    pub mappings: usize,
}

impl Resources {
    pub fn now() -> Result<Resources, String> {
        let mut files = BTreeMap::new();
        let links = fs::read_dir("/proc/self/fd").map_err(|error| error.to_string())?;
        for link in links.flatten() {
            // Not the folder being read.
            if let Ok(target) = fs::read_link(link.path())
                && !target.ends_with("fd")
            {
                *files.entry(target.display().to_string()).or_default() += 1;
            }
        }
        let read =
            |file: &str| fs::read_to_string(file).map_err(|error| format!("{file}: {error}"));
        Ok(Resources {
            files,
            mappings: read("/proc/self/maps")?.lines().count(),
        })
    }

    /// How many files are open.
    pub fn count(&self) -> usize {
        self.files.values().sum()
    }
}
