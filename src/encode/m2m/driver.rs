//! The driver's side of an encoder, as a program in user space sees it.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::picture::frame::Chroma;
use crate::system::v4l2::device::{Failure, Filled, Granted, Queue, Wanted};

/// The video nodes of a machine: the kernel's, or those of a script in tests.
pub trait Nodes {
    /// All of them, whatever they are.
    fn list(&self) -> Vec<PathBuf>;

    /// Opens one. An error is the failed system call.
    fn open(&self, path: &Path) -> Result<Box<dyn Driver>, Failure>;
}

/// The driver's side of an encoder: the kernel, or a scripted one in tests. Dropping it ends the streams, frees the
/// buffers and closes it.
pub trait Driver {
    /// Of its device node.
    fn path(&self) -> &Path;

    /// V4L2's name of the device.
    fn card(&self) -> &str;

    /// Whether it is a memory-to-memory device with streaming I/O.
    fn is_m2m(&self) -> bool;

    /// What to poll, edge-triggered, readable and writable.
    fn fd(&self) -> RawFd;

    /// The V4L2 codes of the formats that a queue takes (VIDIOC_ENUM_FMT).
    fn formats(&self, queue: Queue) -> Vec<u32>;

    /// Whether there is a V4L2_CID_JPEG_COMPRESSION_QUALITY.
    fn has_quality(&self) -> bool;

    /// Sets V4L2_CID_JPEG_COMPRESSION_QUALITY, 1 to 100.
    fn set_quality(&mut self, quality: u8) -> Result<(), Failure>;

    /// Whether there is a V4L2_CID_JPEG_CHROMA_SUBSAMPLING.
    fn has_chroma(&self) -> bool;

    /// Sets it. Drivers have a few of the menu's values.
    fn set_chroma(&mut self, chroma: Chroma) -> Result<(), Failure>;

    /// VIDIOC_S_FMT. Gives what the driver has settled on, which may be something else.
    fn set_format(&mut self, queue: Queue, wanted: &Wanted) -> Result<Granted, Failure>;

    /// Which part of an OUTPUT buffer is the picture: width and height, as wanted and as the driver has it.
    fn set_crop(&mut self, size: (u32, u32)) -> Result<(u32, u32), Failure>;

    /// Requests buffers and maps them. Tells how many there are.
    fn map(&mut self, queue: Queue, count: u32) -> Result<u32, Failure>;

    /// VIDIOC_STREAMON
    fn stream_on(&mut self, queue: Queue) -> Result<(), Failure>;

    /// Gives a CAPTURE buffer to the driver, to be filled.
    fn queue(&mut self, index: u32) -> Result<(), Failure>;

    /// Gives a filled OUTPUT buffer to the driver.
    fn queue_filled(&mut self, filled: &Filled) -> Result<(), Failure>;

    /// A buffer that the driver is through with; `None` when there is none.
    fn dequeue(&mut self, queue: Queue) -> Result<Option<Filled>, Failure>;

    /// A memory plane of the first OUTPUT buffer, while it is not queued.
    fn raw(&mut self, plane: usize) -> &mut [u8];

    /// The memory of a CAPTURE buffer that is not queued.
    fn coded(&self, index: u32) -> &[u8];
}
