//! A camera behind a V4L2 device node: UVC webcams, SoC cameras, capture cards, v4l2loopback.
//!
//! | file | what lives there |
//! |---|---|
//! | `ring.rs` | the mmap ring: newest good picture kept, the rest given back |
//! | `controls.rs` | brightness and its like, by name |
//!
//! The system calls and the pixel formats are in [`crate::v4l2`].

pub mod controls;
mod ring;

use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use log::{info, warn};
use nix::time::{ClockId, clock_gettime};

use self::ring::{Driver, Epoch, Ring};
use super::{Captured, Control, ControlError, Fault, Negotiated, Source};
use crate::config::CameraConfig;
use crate::frame::{Frame, FrameBuf};
use crate::limits;
use crate::v4l2::device::{self, Device, Failure, Filled, Granted, Mapping, PLANES, Queue, Wanted};
use crate::v4l2::formats::{self, Layout};

/// A V4L2 camera.
pub struct V4l2 {
    config: CameraConfig,
    frame_bytes: usize,
    /// For JPEGs that come without Huffman tables. Its pages cost nothing until one does.
    copy: FrameBuf,
    ring: Option<Ring<Streaming>>,
}

impl V4l2 {
    pub fn new(config: &CameraConfig, frame_bytes: usize) -> V4l2 {
        V4l2 {
            config: config.clone(),
            frame_bytes,
            copy: FrameBuf::new(frame_bytes),
            ring: None,
        }
    }

    fn open(&self) -> Result<Device, Fault> {
        let path = &self.config.device;
        let device = Device::open(path).map_err(|failure| Fault(failure.explain(path)))?;
        match device.capability().unfit() {
            Some(what) => Err(Fault(format!(
                "{}: no pictures to be had: {what}",
                path.display()
            ))),
            None => Ok(device),
        }
    }

    /// Asks for the format and size, and takes what the driver makes of it, as long as camd can serve it.
    fn negotiate(&self, device: &Device) -> Result<(Granted, Layout), Fault> {
        let config = &self.config;
        let path = config.device.display();
        let size = (u32::from(config.width), u32::from(config.height));
        let offers = formats::offers(device);
        let refuse = |why: String| {
            Fault(format!(
                "{path}: {why}; it offers {}; set camera.format (and width, height) to one of these, or to \"auto\"",
                match offers.is_empty() {
                    true => "no format that camd can serve".to_string(),
                    false => formats::describe(&offers),
                }
            ))
        };
        let Some(offer) = formats::choose(&offers, config.format, size) else {
            return Err(refuse(match config.format {
                Some(format) => format!("no {}", format.name()),
                None => "no usable format".to_string(),
            }));
        };
        let granted = device
            .set_format(
                Queue::Capture,
                &Wanted {
                    fourcc: offer.code,
                    width: size.0,
                    height: size.1,
                    ..Wanted::default()
                },
            )
            .map_err(|failure| Fault(failure.explain(&config.device)))?;
        let layout = Layout::new(&granted).map_err(&refuse)?;
        // vivid answers a format that it does not have with one that it has, and no error.
        if config.format.is_some_and(|wanted| wanted != layout.format) {
            return Err(refuse(format!(
                "asked for {}, the driver set {}",
                offer.format.name(),
                layout.format.name()
            )));
        }
        if (granted.width, granted.height) != size {
            info!(
                "{path}: {}x{} instead of {}x{}",
                granted.width, granted.height, size.0, size.1
            );
        }
        Ok((granted, layout))
    }
}

impl Source for V4l2 {
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault> {
        self.stop();
        let device = self.open()?;
        let config = &self.config;
        let (granted, layout) = self.negotiate(&device)?;
        let rate = device.set_rate(config.fps);
        for (name, value) in &config.controls {
            match controls::set(&device, name, *value) {
                Ok(()) => {}
                Err(ControlError::Unknown) => warn!(
                    "{}: no control {name:?} (`camd devices` lists them)",
                    config.device.display()
                ),
                Err(ControlError::Refused(why)) => {
                    warn!("{}: control not set: {why}", config.device.display());
                }
            }
        }
        let capability = device.capability().clone();
        let streaming = Streaming::new(device, config.buffers, granted.planes)
            .map_err(|why| why.into_fault(&config.device))?;
        let count = streaming.count();
        let ring = Ring::new(
            streaming,
            layout,
            epoch(),
            config.fps,
            self.frame_bytes,
            now,
        )?;
        self.ring = Some(ring);
        let fps = rate.map(|rate| rate.min(f64::from(config.fps)) as f32);
        let at = rate.map_or(String::new(), |rate| format!(" at {rate:.4} fps"));
        Ok(Negotiated {
            format: layout.format,
            width: layout.width,
            height: layout.height,
            fps,
            description: format!(
                "{} ({}, {}): {} {}x{}{at}, {count} buffers",
                capability.card,
                capability.driver,
                capability.bus,
                formats::code_name(granted.fourcc),
                layout.width,
                layout.height,
            ),
        })
    }

    fn stop(&mut self) {
        self.ring = None;
        self.copy.clear();
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.ring.as_ref()?.driver().device.as_raw_fd())
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.ring.as_ref()?.deadline())
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        match &mut self.ring {
            Some(ring) => ring.capture(now, &mut self.copy),
            None => Ok(Captured::default()),
        }
    }

    fn newest(&mut self) -> Option<Frame<'_>> {
        self.ring.as_ref()?.newest(&self.copy)
    }

    fn release(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.release();
        }
    }

    /// Opens the device for as long as it takes where the stream is off.
    fn controls(&self) -> Vec<Control> {
        match &self.ring {
            Some(ring) => controls::list(&ring.driver().device),
            None => self
                .open()
                .map_or(Vec::new(), |device| controls::list(&device)),
        }
    }

    fn set_control(&mut self, name: &str, value: i64) -> Result<(), ControlError> {
        match &self.ring {
            Some(ring) => controls::set(&ring.driver().device, name, value),
            None => {
                let device = self
                    .open()
                    .map_err(|Fault(why)| ControlError::Refused(why))?;
                controls::set(&device, name, value)
            }
        }
    }
}

/// Now, on both clocks. On Linux [`Instant`] is CLOCK_MONOTONIC too, but does not show its number.
fn epoch() -> Epoch {
    let instant = Instant::now();
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        // Linux always has this clock. A wrong epoch makes every picture's time stamp implausible, so that `now` is used.
        .unwrap_or_default();
    Epoch { instant, monotonic }
}

/// An open device that streams into mapped buffers. Dropping it stops the stream, unmaps and closes.
struct Streaming {
    // In the order of dropping: a mapping keeps its buffer alive in the kernel.
    maps: Vec<[Mapping; PLANES]>,
    device: Device,
}

/// Why [`Streaming::new`] failed.
enum NotStreaming {
    Call(Failure),
    Other(String),
}

impl From<Failure> for NotStreaming {
    fn from(failure: Failure) -> Self {
        NotStreaming::Call(failure)
    }
}

impl NotStreaming {
    fn into_fault(self, path: &Path) -> Fault {
        Fault(match self {
            NotStreaming::Call(failure) => failure.explain(path),
            NotStreaming::Other(why) => format!("{}: {why}", path.display()),
        })
    }
}

impl Streaming {
    fn new(device: Device, wanted: u32, planes: usize) -> Result<Streaming, NotStreaming> {
        let count = device.request_buffers(Queue::Capture, wanted)?;
        if !(limits::BUFFERS_MIN..=limits::BUFFERS_MAX).contains(&count) {
            return Err(NotStreaming::Other(format!(
                "VIDIOC_REQBUFS gave {count} buffers of {wanted}, camd needs {} to {}",
                limits::BUFFERS_MIN,
                limits::BUFFERS_MAX
            )));
        }
        let mut streaming = Streaming {
            maps: Vec::with_capacity(count as usize),
            device,
        };
        for index in 0..count {
            let maps = streaming.device.map_buffer(Queue::Capture, index)?;
            if maps.iter().take(planes).any(|map| map.bytes().is_empty()) {
                return Err(NotStreaming::Other(format!(
                    "buffer {index} has no memory for {planes} planes"
                )));
            }
            streaming.maps.push(maps);
            streaming.device.queue(index)?;
        }
        streaming.device.stream_on(Queue::Capture)?;
        Ok(streaming)
    }
}

impl Driver for Streaming {
    fn path(&self) -> &Path {
        self.device.path()
    }

    fn count(&self) -> u32 {
        self.maps.len() as u32
    }

    fn dequeue(&mut self) -> Result<Option<Filled>, Failure> {
        self.device.dequeue(Queue::Capture)
    }

    fn queue(&mut self, index: u32) -> Result<(), Failure> {
        self.device.queue(index)
    }

    fn keeps(&self) -> bool {
        self.device.capability().driver != device::LOOPBACK
    }

    fn plane(&self, index: u32, plane: usize) -> &[u8] {
        self.maps[index as usize][plane].bytes()
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        // Fails where the camera is unplugged: then nothing streams either. Closing frees the buffers.
        let _ = self.device.stream_off(Queue::Capture);
    }
}
