//! Framing that is the same for all clients of a listener: written once for each picture, and copied.

use std::cell::RefCell;

use crate::limits::HEAD;
use crate::picture::frame::FrameMeta;

/// As a session has it.
type Head = heapless::Vec<u8, HEAD>;

/// The head of the last picture.
#[derive(Debug, Default)]
pub struct HeadCache(RefCell<Cached>);

#[derive(Debug, Default)]
struct Cached {
    /// The picture's sequence, and its bytes: of one frame there are JPEGs of several sizes.
    of: Option<(u64, usize)>,
    head: Head,
}

impl HeadCache {
    /// Appends the head of a picture of `len` bytes to `out`. `write` makes it if it is not the last one's.
    ///
    /// # Panics
    /// If there is no room in `out`.
    pub fn put(&self, meta: &FrameMeta, len: usize, out: &mut Head, write: impl FnOnce(&mut Head)) {
        let mut cached = self.0.borrow_mut();
        if cached.of != Some((meta.sequence, len)) {
            cached.head.clear();
            write(&mut cached.head);
            cached.of = Some((meta.sequence, len));
        }
        out.extend_from_slice(&cached.head)
            .expect("every head fits limits::HEAD");
    }
}
