//! The kernel's memory-to-memory devices.

use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use v4l::v4l_sys::{
    V4L2_CAP_STREAMING, V4L2_CAP_VIDEO_M2M, V4L2_CAP_VIDEO_M2M_MPLANE,
    V4L2_CID_JPEG_CHROMA_SUBSAMPLING, V4L2_CID_JPEG_COMPRESSION_QUALITY,
    v4l2_jpeg_chroma_subsampling_V4L2_JPEG_CHROMA_SUBSAMPLING_420 as SUBSAMPLING_420,
    v4l2_jpeg_chroma_subsampling_V4L2_JPEG_CHROMA_SUBSAMPLING_422 as SUBSAMPLING_422,
};

use super::driver::{Driver, Nodes};
use crate::picture::frame::Chroma;
use crate::system::v4l2::device::{
    Device, Failure, Filled, Granted, Mapping, PLANES, Queue, Wanted, nodes,
};

/// What is in `/dev`.
pub struct System;

impl Nodes for System {
    fn list(&self) -> Vec<PathBuf> {
        nodes(Path::new("/dev"))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Driver>, Failure> {
        Ok(Box::new(Node {
            raw: Vec::new(),
            coded: Vec::new(),
            device: Device::open(path)?,
        }))
    }
}

struct Node {
    // In the order of dropping: a mapping keeps its buffer alive in the kernel.
    raw: Vec<[Mapping; PLANES]>,
    coded: Vec<[Mapping; PLANES]>,
    device: Device,
}

impl Driver for Node {
    fn path(&self) -> &Path {
        self.device.path()
    }

    fn card(&self) -> &str {
        &self.device.capability().card
    }

    fn is_m2m(&self) -> bool {
        let flags = self.device.capability().flags;
        flags & (V4L2_CAP_VIDEO_M2M | V4L2_CAP_VIDEO_M2M_MPLANE) != 0
            && flags & V4L2_CAP_STREAMING != 0
    }

    fn fd(&self) -> RawFd {
        self.device.as_raw_fd()
    }

    fn formats(&self, queue: Queue) -> Vec<u32> {
        let formats = self.device.formats(queue);
        formats.into_iter().map(|one| one.fourcc).collect()
    }

    fn has_quality(&self) -> bool {
        self.device
            .control(V4L2_CID_JPEG_COMPRESSION_QUALITY, false)
            .is_ok()
    }

    fn set_quality(&mut self, quality: u8) -> Result<(), Failure> {
        self.device
            .set_control(V4L2_CID_JPEG_COMPRESSION_QUALITY, false, quality.into())
    }

    fn has_chroma(&self) -> bool {
        self.device
            .control(V4L2_CID_JPEG_CHROMA_SUBSAMPLING, false)
            .is_ok()
    }

    fn set_chroma(&mut self, chroma: Chroma) -> Result<(), Failure> {
        let value = match chroma {
            Chroma::Yuv420 => SUBSAMPLING_420,
            Chroma::Yuv422 => SUBSAMPLING_422,
        };
        self.device
            .set_control(V4L2_CID_JPEG_CHROMA_SUBSAMPLING, false, value.into())
    }

    fn set_format(&mut self, queue: Queue, wanted: &Wanted) -> Result<Granted, Failure> {
        self.device.set_format(queue, wanted)
    }

    fn set_crop(&mut self, (width, height): (u32, u32)) -> Result<(u32, u32), Failure> {
        self.device.set_crop(width, height)
    }

    fn map(&mut self, queue: Queue, count: u32) -> Result<u32, Failure> {
        let count = self.device.request_buffers(queue, count)?;
        let maps = match queue {
            Queue::Output => &mut self.raw,
            Queue::Capture => &mut self.coded,
        };
        for index in 0..count {
            maps.push(self.device.map_buffer(queue, index)?);
        }
        Ok(count)
    }

    fn stream_on(&mut self, queue: Queue) -> Result<(), Failure> {
        self.device.stream_on(queue)
    }

    fn queue(&mut self, index: u32) -> Result<(), Failure> {
        self.device.queue(index)
    }

    fn queue_filled(&mut self, filled: &Filled) -> Result<(), Failure> {
        self.device.queue_filled(filled)
    }

    fn dequeue(&mut self, queue: Queue) -> Result<Option<Filled>, Failure> {
        self.device.dequeue(queue)
    }

    fn raw(&mut self, plane: usize) -> &mut [u8] {
        self.raw[0][plane].bytes_mut()
    }

    fn coded(&self, index: u32) -> &[u8] {
        self.coded[index as usize][0].bytes()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A node that was only looked at has no buffers. Both fail where the device is gone: then nothing streams either.
        if !self.raw.is_empty() {
            let _ = self.device.stream_off(Queue::Output);
            let _ = self.device.stream_off(Queue::Capture);
        }
    }
}
