//! JPEGs by a V4L2 memory-to-memory device, such as the Raspberry Pi's bcm2835-codec-encode_image: a raw picture goes
//! into its OUTPUT queue and comes back, as a JPEG, out of its CAPTURE queue, some milliseconds later and at next to no
//! cost for the processor.
//!
//! [`find`] looks for such a device among all video nodes. An [`Encoder`] is one context of it (one open descriptor
//! with queues of its own) for one picture size, one quality and, where the device leaves a choice, one sampling. It
//! has one picture at a time, and never waits: the owner polls its descriptor. Whatever goes wrong is a [`Trouble`],
//! and the end of that encoder.
//!
//! # What has been tried
//! The queue handling is proven on the kernel's vicodec driver, a real memory-to-memory device that codes FWHT in place
//! of JPEG (`tests/lab`), and on a scripted stand-in for the driver with faults of all kinds (`tests/m2m.rs`). **No
//! hardware JPEG encoder has been tried.**

mod driver;
mod node;

use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use log::debug;
use v4l::v4l_sys::{
    V4L2_BUF_FLAG_ERROR, V4L2_BUF_FLAG_TIMESTAMP_COPY, V4L2_BUF_FLAG_TIMESTAMP_MASK,
    v4l2_colorspace_V4L2_COLORSPACE_JPEG as COLORSPACE_JPEG,
};

pub use self::driver::{Driver, Nodes};
pub use self::node::System;
use crate::limits::{BUFFERS_MAX, ENCODER_STALL};
use crate::picture::frame::{Chroma, FrameBuf, FrameMeta, PixelFormat, RawPicture, Size};
use crate::picture::jpeg;
use crate::system::v4l2::device::{Extent, Failure, Filled, Granted, PLANES, Queue, Wanted};
use crate::system::v4l2::formats::{Layout, code_name, codes, fourcc};

/// Why an encoder cannot be used (any more): the device and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble(pub String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What pictures are to be coded into. [`JPEG`] is what camd wants; the lab's driver has something else.
#[derive(Clone, Copy)]
pub struct Coding {
    /// V4L2 codes, the preferred one first.
    pub codes: &'static [u32],
    /// Whether the device has to have a control for the JPEG quality.
    pub quality: bool,
    /// Checks what came back for a picture of that size, and copies it.
    pub accept: fn(&[u8], Size, &mut FrameBuf) -> Result<(), String>,
}

/// Whole JPEGs. Drivers differ in which of the two codes they use.
pub const JPEG: Coding = Coding {
    codes: &[fourcc(b"JPEG"), fourcc(b"MJPG")],
    quality: true,
    accept: accept_jpeg,
};

fn accept_jpeg(data: &[u8], size: Size, out: &mut FrameBuf) -> Result<(), String> {
    let text = |defect: jpeg::Defect| defect.to_string();
    let found = jpeg::inspect(data).map_err(text)?;
    if (found.width, found.height) != (size.width, size.height) {
        return Err(format!(
            "a JPEG of {}x{} for a picture of {}x{}",
            found.width, found.height, size.width, size.height
        ));
    }
    let (jpeg, capacity) = (&data[found.range()], out.capacity());
    match found.tables {
        Some(at) => jpeg::insert_tables(jpeg, at, out).map_err(text),
        None if jpeg.len() > capacity => Err(text(jpeg::Defect::TooBig {
            needed: jpeg.len(),
            capacity,
        })),
        None => {
            out.copy_tail(jpeg, 0);
            Ok(())
        }
    }
}

/// A device that can do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of its device node.
    pub path: PathBuf,
    /// V4L2's name of it.
    pub card: String,
    /// V4L2's codes of what goes in and of what comes out.
    pub raw: u32,
    /// As `raw`: what comes out.
    pub coded: u32,
    /// Whether it can be told the sampling of its JPEGs.
    pub chroma: bool,
}

/// How pictures are to be coded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// JPEG quality, 1 to 100.
    pub quality: Option<u8>,
    /// How fine colours are to be; `None`: as the device has it.
    pub chroma: Option<Chroma>,
}

/// Looks for a device that codes pictures of this format: the first one, by the numbers of the nodes. Opens all of them,
/// one after the other. The error says what was looked for and where.
pub fn find(nodes: &dyn Nodes, format: PixelFormat, coding: &Coding) -> Result<Found, String> {
    let paths = nodes.list();
    let mut unfit = Vec::new();
    for path in &paths {
        match nodes.open(path) {
            Ok(driver) => match judge(&*driver, format, coding) {
                Some(Ok(found)) => return Ok(found),
                Some(Err(why)) => {
                    unfit.push(format!("{} ({}): {why}", path.display(), driver.card()));
                }
                None => {}
            },
            Err(failure) => unfit.push(format!(
                "{}: {}: {}",
                path.display(),
                failure.call,
                failure.error
            )),
        }
    }
    let names: Vec<String> = coding.codes.iter().map(|&code| code_name(code)).collect();
    Err(format!(
        "no V4L2 memory-to-memory device that codes {} into {}{} among {} video nodes{}{}",
        format.name(),
        names.join(" or "),
        if coding.quality {
            " with a quality control"
        } else {
            ""
        },
        paths.len(),
        if unfit.is_empty() { "" } else { "; " },
        unfit.join(", ")
    ))
}

/// `None`: another kind of device.
fn judge(
    driver: &dyn Driver,
    format: PixelFormat,
    coding: &Coding,
) -> Option<Result<Found, String>> {
    if !driver.is_m2m() {
        return None;
    }
    let coded = driver.formats(Queue::Capture);
    let Some(coded) = coding.codes.iter().find(|code| coded.contains(code)) else {
        return Some(Err("codes into something else".into()));
    };
    let raw = driver.formats(Queue::Output);
    let Some(raw) = codes(format).find(|code| raw.contains(code)) else {
        return Some(Err(format!("takes no {}", format.name())));
    };
    if coding.quality && !driver.has_quality() {
        // The Pi's video encoder, for one: it makes Motion-JPEG at a bit rate.
        return Some(Err("has no quality control".into()));
    }
    Some(Ok(Found {
        path: driver.path().to_path_buf(),
        card: driver.card().to_owned(),
        raw,
        coded: *coded,
        chroma: driver.has_chroma(),
    }))
}

/// The picture that the device has.
#[derive(Clone, Copy, Debug)]
struct Job {
    meta: FrameMeta,
    /// The buffers' time stamp, by which most drivers let a picture be known again.
    tag: Duration,
    deadline: Instant,
    /// The OUTPUT buffer is ours again.
    returned: bool,
    /// The coded picture has been taken over.
    coded: bool,
}

/// What a driver made of what it was asked for.
struct Prepared {
    /// Where the picture lies in the OUTPUT buffer.
    layout: Layout,
    /// What is said to be in each memory plane of it.
    bytes: [usize; PLANES],
    /// CAPTURE buffers.
    count: u32,
}

/// Sets formats, quality and sampling, maps the buffers and begins to stream.
fn prepare(
    driver: &mut dyn Driver,
    found: &Found,
    raw: &RawPicture<'_>,
    settings: &Settings,
    most: usize,
) -> Result<Prepared, Why> {
    let [width, height] = [raw.width, raw.height].map(u32::from);
    let coded = Wanted {
        fourcc: found.coded,
        width,
        height,
        ..Wanted::default()
    };
    // In the order of the kernel's "Memory-to-Memory Stateful Video Encoder Interface": what is to come out decides
    // what can go in, and then its size decides the size of what comes out.
    driver.set_format(Queue::Capture, &coded)?;
    let wanted = Wanted {
        fourcc: found.raw,
        bytesperline: raw.planes.map(|plane| plane.stride as u32),
        // Numbers are taken as JFIF means them, as the codec does.
        colorspace: COLORSPACE_JPEG,
        ..coded
    };
    let granted = driver.set_format(Queue::Output, &wanted)?;
    let (layout, bytes) = check_raw(&wanted, &granted)?;
    if (granted.width, granted.height) != (width, height) {
        // Padded to whole blocks: the picture is only a part of it.
        let cropped = driver.set_crop((width, height))?;
        if cropped != (width, height) {
            return Err(Why::Other(format!(
                "makes pictures of {}x{} of those of {width}x{height}",
                cropped.0, cropped.1
            )));
        }
    }
    // No JPEG worth the name is larger than the raw picture.
    let room = bytes.iter().sum::<usize>().min(most);
    let coded = Wanted {
        sizeimage: u32::try_from(room).unwrap_or(u32::MAX),
        ..coded
    };
    let granted = driver.set_format(Queue::Capture, &coded)?;
    if granted.fourcc != found.coded || granted.planes != 1 {
        return Err(Why::Other(format!(
            "asked for {}, the driver set {} in {} memory planes",
            code_name(found.coded),
            code_name(granted.fourcc),
            granted.planes
        )));
    }
    if let Some(quality) = settings.quality {
        driver.set_quality(quality)?;
    }
    if let Some(chroma) = settings.chroma
        && let Err(failure) = driver.set_chroma(chroma)
    {
        // Drivers have a few of the menu's values, for some formats fewer (s5p-jpeg). Its own is a good JPEG, too.
        debug!(
            "{}: chroma {:?} is not for it: {}",
            driver.card(),
            chroma.name(),
            failure.explain(driver.path())
        );
    }
    map(driver, Queue::Output)?;
    for (plane, &bytes) in bytes.iter().enumerate().filter(|(_, bytes)| **bytes > 0) {
        let got = driver.raw(plane).len();
        if got < bytes {
            return Err(Why::Other(format!(
                "a raw buffer of {got} bytes in plane {plane}, a picture has {bytes}"
            )));
        }
    }
    let count = map(driver, Queue::Capture)?;
    for index in 0..count {
        driver.queue(index)?;
    }
    driver.stream_on(Queue::Output)?;
    driver.stream_on(Queue::Capture)?;
    Ok(Prepared {
        layout,
        bytes,
        count,
    })
}

/// One buffer is enough for one picture at a time; some drivers insist on more.
fn map(driver: &mut dyn Driver, queue: Queue) -> Result<u32, Why> {
    let count = driver.map(queue, 1)?;
    if (1..=BUFFERS_MAX).contains(&count) {
        return Ok(count);
    }
    Err(Why::Other(format!(
        "VIDIOC_REQBUFS gave {count} buffers of 1"
    )))
}

/// Whether the raw format is the one asked for and has room for the picture; where it lies, and what to say of its size.
fn check_raw(wanted: &Wanted, granted: &Granted) -> Result<(Layout, [usize; PLANES]), Why> {
    if granted.fourcc != wanted.fourcc
        || granted.width < wanted.width
        || granted.height < wanted.height
    {
        return Err(Why::Other(format!(
            "asked for {} {}x{}, the driver set {} {}x{}",
            code_name(wanted.fourcc),
            wanted.width,
            wanted.height,
            code_name(granted.fourcc),
            granted.width,
            granted.height
        )));
    }
    let layout = Layout::new(granted).map_err(Why::Other)?;
    let mut bytes = layout.needed;
    for (plane, (bytes, &sizeimage)) in bytes.iter_mut().zip(&granted.sizeimage).enumerate() {
        let sizeimage = sizeimage as usize;
        if (1..*bytes).contains(&sizeimage) {
            return Err(Why::Other(format!(
                "{sizeimage} bytes in plane {plane}, a picture has {bytes}"
            )));
        }
        // Some drivers refuse buffers that are not said to be full.
        *bytes = sizeimage.max(*bytes);
    }
    Ok((layout, bytes))
}

/// One context of a device, streaming.
///
/// Invariant: all CAPTURE buffers are queued, between two calls; the OUTPUT buffer is queued if and only if there is a
/// job and it is not `returned`.
pub struct Encoder {
    driver: Box<dyn Driver>,
    coding: Coding,
    format: PixelFormat,
    size: Size,
    prepared: Prepared,
    tag: Duration,
    job: Option<Job>,
}

impl Encoder {
    /// Opens a context for pictures of the format, size and strides of `raw`. `most`: bytes that a coded picture may have.
    pub fn open(
        nodes: &dyn Nodes,
        found: &Found,
        coding: Coding,
        raw: &RawPicture<'_>,
        settings: &Settings,
        most: usize,
    ) -> Result<Encoder, Trouble> {
        let mut driver = nodes.open(&found.path).map_err(|failure| {
            Trouble(format!("{}: {}", found.card, failure.explain(&found.path)))
        })?;
        match prepare(&mut *driver, found, raw, settings, most) {
            Ok(prepared) => Ok(Encoder {
                driver,
                coding,
                format: raw.format,
                size: Size {
                    width: raw.width,
                    height: raw.height,
                },
                prepared,
                tag: Duration::ZERO,
                job: None,
            }),
            Err(why) => Err(trouble(&*driver, &why)),
        }
    }

    /// What to poll, edge-triggered, readable and writable.
    pub fn fd(&self) -> RawFd {
        self.driver.fd()
    }

    /// Whether it is made for pictures of this format and size.
    pub fn fits(&self, raw: &RawPicture<'_>) -> bool {
        (self.format, self.size.width, self.size.height) == (raw.format, raw.width, raw.height)
    }

    /// The device has a picture.
    pub fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// When the device is late with its picture, and [`Encoder::advance`] will say so.
    pub fn deadline(&self) -> Option<Instant> {
        self.job.map(|job| job.deadline)
    }

    /// Copies a picture to the device. What becomes of it, [`Encoder::advance`] tells.
    ///
    /// # Panics
    /// If the encoder is busy, or not made for such pictures.
    pub fn submit(
        &mut self,
        raw: &RawPicture<'_>,
        meta: &FrameMeta,
        now: Instant,
    ) -> Result<(), Trouble> {
        assert!(!self.is_busy(), "one picture at a time");
        assert!(self.fits(raw), "another kind of picture");
        self.copy(raw);
        // Never zero, which is what drivers that do not copy time stamps leave.
        self.tag += Duration::from_micros(1);
        let filled = Filled {
            timestamp: self.tag,
            planes: self.prepared.bytes.map(|bytes| Extent { offset: 0, bytes }),
            ..Filled::default()
        };
        self.driver
            .queue_filled(&filled)
            .map_err(|failure| trouble(&*self.driver, &Why::Call(failure)))?;
        self.job = Some(Job {
            meta: *meta,
            tag: self.tag,
            deadline: now + ENCODER_STALL,
            returned: false,
            coded: false,
        });
        Ok(())
    }

    fn copy(&mut self, raw: &RawPicture<'_>) {
        let shape = raw.format.planes(raw.width, raw.height);
        for ((&(line, lines), from), to) in shape
            .iter()
            .zip(&raw.planes)
            .zip(&self.prepared.layout.planes)
        {
            if line == 0 {
                continue;
            }
            let memory = &mut self.driver.raw(to.memory)[to.offset..];
            if from.stride == to.stride {
                let length = to.stride * (lines - 1) + line;
                memory[..length].copy_from_slice(&from.data[..length]);
                continue;
            }
            let lines_from = from.data.chunks(from.stride);
            for (from, to) in lines_from.zip(memory.chunks_mut(to.stride)).take(lines) {
                to[..line].copy_from_slice(&from[..line]);
            }
        }
    }

    /// Takes in what the device has given back, after an event on the descriptor or at the deadline. When the picture is
    /// done it is in `out`, and this tells which one it is. After a trouble `out` may hold anything.
    pub fn advance(
        &mut self,
        now: Instant,
        out: &mut FrameBuf,
    ) -> Result<Option<FrameMeta>, Trouble> {
        self.take_in(now, out)
            .map_err(|why| trouble(&*self.driver, &why))
    }

    fn take_in(&mut self, now: Instant, out: &mut FrameBuf) -> Result<Option<FrameMeta>, Why> {
        // Each ends: a second buffer for one picture is an error.
        while let Some(filled) = self.driver.dequeue(Queue::Output)? {
            self.take_raw(&filled)?;
        }
        while let Some(filled) = self.driver.dequeue(Queue::Capture)? {
            self.take_coded(&filled, out)?;
        }
        let Some(job) = self.job else {
            return Ok(None);
        };
        if job.returned && job.coded {
            self.job = None;
            return Ok(Some(job.meta));
        }
        if job.deadline <= now {
            return Err(Why::Other(format!(
                "a picture was not back after {} s",
                ENCODER_STALL.as_secs_f32()
            )));
        }
        Ok(None)
    }

    fn take_raw(&mut self, filled: &Filled) -> Result<(), Why> {
        match &mut self.job {
            Some(job) if !job.returned && filled.index == 0 => job.returned = true,
            _ => return Err(stray("raw", filled)),
        }
        flagged(filled)
    }

    fn take_coded(&mut self, filled: &Filled, out: &mut FrameBuf) -> Result<(), Why> {
        let job = match &mut self.job {
            Some(job) if !job.coded && filled.index < self.prepared.count => job,
            _ => return Err(stray("coded", filled)),
        };
        flagged(filled)?;
        let copied = filled.flags & V4L2_BUF_FLAG_TIMESTAMP_MASK == V4L2_BUF_FLAG_TIMESTAMP_COPY;
        if copied && !filled.timestamp.is_zero() && filled.timestamp != job.tag {
            return Err(Why::Other("it gave another picture than it got".into()));
        }
        let Extent { offset, bytes } = filled.planes[0];
        let memory = self.driver.coded(filled.index);
        let data = offset
            .checked_add(bytes)
            .and_then(|end| memory.get(offset..end))
            .ok_or_else(|| {
                let length = memory.len();
                Why::Other(format!("{bytes} bytes at {offset} in {length} of memory"))
            })?;
        (self.coding.accept)(data, self.size, out).map_err(Why::Other)?;
        job.coded = true;
        self.driver.queue(filled.index)?;
        Ok(())
    }
}

/// Why a call on an encoder failed.
enum Why {
    Call(Failure),
    Other(String),
}

impl From<Failure> for Why {
    fn from(failure: Failure) -> Self {
        Why::Call(failure)
    }
}

fn trouble(driver: &dyn Driver, why: &Why) -> Trouble {
    let path = driver.path();
    let text = match why {
        Why::Call(failure) => failure.explain(path),
        Why::Other(text) => format!("{}: {text}", path.display()),
    };
    Trouble(format!("{}: {text}", driver.card()))
}

fn stray(kind: &str, filled: &Filled) -> Why {
    Why::Other(format!(
        "VIDIOC_DQBUF gave {kind} buffer {}, which it did not have",
        filled.index
    ))
}

fn flagged(filled: &Filled) -> Result<(), Why> {
    if filled.flags & V4L2_BUF_FLAG_ERROR == 0 {
        return Ok(());
    }
    Err(Why::Other("the driver flagged a picture as damaged".into()))
}
