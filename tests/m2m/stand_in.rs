//! A machine whose video nodes are scripted. It keeps the books that a kernel would: a buffer that is queued twice, or
//! touched while the device has it, fails the test. What it makes of a picture is that picture's real JPEG.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use camd::encode::m2m::{Driver, Nodes};
use camd::picture::frame::{Chroma, FrameBuf, PixelFormat, Plane, RawPicture};
use camd::system::v4l2::device::{Failure, Filled, Granted, PLANES, Queue, Wanted};
use camd::system::v4l2::formats::{Layout, fourcc, known};
use nix::libc;
use v4l::v4l_sys::{V4L2_BUF_FLAG_ERROR, V4L2_BUF_FLAG_TIMESTAMP_COPY};

pub const YUYV: u32 = fourcc(b"YUYV");
pub const JPEG: u32 = fourcc(b"JPEG");
pub const H264: u32 = fourcc(b"H264");

/// What a node is like.
#[derive(Clone)]
pub struct Kind {
    pub m2m: bool,
    pub quality: bool,
    /// Whether it has a control for the sampling, and what that takes.
    pub chroma: Option<Vec<Chroma>>,
    pub raw: Vec<u32>,
    pub coded: Vec<u32>,
    /// Sides and strides are rounded up to multiples of these.
    pub side: u32,
    pub stride: u32,
    /// Buffers that it insists on.
    pub buffers: u32,
    /// Whether it copies time stamps.
    pub dates: bool,
}

impl Kind {
    pub fn encoder() -> Kind {
        Kind {
            m2m: true,
            quality: true,
            chroma: None,
            raw: [b"YUYV", b"YU12", b"NV12", b"GREY", b"RGB3"]
                .map(fourcc)
                .to_vec(),
            coded: vec![JPEG],
            side: 1,
            stride: 1,
            buffers: 1,
            dates: true,
        }
    }
}

/// How a picture comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    Good,
    /// The JPEG flagged as damaged, and the raw buffer.
    Flagged,
    RawFlagged,
    Empty,
    Garbage,
    Truncated,
    /// More bytes than the buffer has.
    Beyond,
    /// A JPEG of another size.
    OtherSize,
    /// A sound JPEG of more than `frame_bytes`.
    Oversized,
    /// With the time stamp of a picture before.
    Stale,
    Twice,
    /// The raw buffer twice.
    RawTwice,
    NoSuchBuffer,
    /// Only one of the two queues gives something back.
    CodedOnly,
    RawOnly,
    Never,
}

/// One open descriptor.
struct Context {
    node: usize,
    quality: Option<u8>,
    chroma: Option<Chroma>,
    raw: Granted,
    layout: Option<Layout>,
    crop: (u32, u32),
    streaming: [bool; 2],
    raw_count: u32,
    /// The picture that the device has.
    job: Option<Filled>,
    /// What it read from the OUTPUT buffer.
    read: [Vec<u8>; PLANES],
    /// CAPTURE buffers: the device's.
    queued: Vec<bool>,
    returned: VecDeque<Filled>,
    done: VecDeque<Filled>,
    jpeg: FrameBuf,
    /// What every DQBUF says from now on.
    dead: Option<i32>,
}

pub struct World {
    pub nodes: Vec<Kind>,
    contexts: Vec<Option<Context>>,
    /// Times that a node was opened, and that the nodes were listed.
    pub opened: usize,
    pub listed: usize,
    /// The call with this name fails.
    pub fails: Option<&'static str>,
    /// Pictures taken.
    pub submitted: usize,
}

#[derive(Clone)]
pub struct Machine(Rc<RefCell<World>>);

impl Machine {
    pub fn new(nodes: Vec<Kind>) -> Machine {
        Machine(Rc::new(RefCell::new(World {
            nodes,
            contexts: Vec::new(),
            opened: 0,
            listed: 0,
            fails: None,
            submitted: 0,
        })))
    }

    pub fn world(&self) -> RefMut<'_, World> {
        self.0.borrow_mut()
    }

    pub fn nodes(&self) -> Box<dyn Nodes> {
        Box::new(self.clone())
    }
}

impl World {
    /// Contexts that stream, by number, with their quality.
    pub fn streaming(&self) -> Vec<(usize, Option<u8>)> {
        let contexts = self.contexts.iter().enumerate();
        contexts
            .filter_map(|(number, context)| {
                let context = context.as_ref()?;
                (context.streaming == [true, true]).then_some((number, context.quality))
            })
            .collect()
    }

    /// Descriptors that are open, whatever for.
    pub fn open(&self) -> usize {
        self.contexts.iter().flatten().count()
    }

    pub fn busy(&self, number: usize) -> bool {
        self.contexts[number]
            .as_ref()
            .is_some_and(|c| c.job.is_some())
    }

    pub fn unplug(&mut self, number: usize) {
        self.contexts[number]
            .as_mut()
            .expect("an open context")
            .dead = Some(libc::ENODEV);
    }

    pub fn break_streaming(&mut self, number: usize) {
        self.contexts[number]
            .as_mut()
            .expect("an open context")
            .dead = Some(libc::EIO);
    }

    /// The device is through with its picture.
    pub fn finish(&mut self, number: usize, how: Back) {
        let context = self.contexts[number].as_mut().expect("an open context");
        let Some(job) = context.job else {
            panic!("the device has no picture");
        };
        if how == Back::Never {
            return;
        }
        let index = context
            .queued
            .iter()
            .position(|&queued| queued)
            .expect("a buffer for the JPEG");
        encode(context);
        let mut done = Filled {
            index: index as u32,
            flags: V4L2_BUF_FLAG_TIMESTAMP_COPY,
            timestamp: job.timestamp,
            ..Filled::default()
        };
        let mut returned = Filled {
            flags: V4L2_BUF_FLAG_TIMESTAMP_COPY,
            ..job
        };
        match how {
            Back::Flagged => done.flags |= V4L2_BUF_FLAG_ERROR,
            Back::RawFlagged => returned.flags |= V4L2_BUF_FLAG_ERROR,
            Back::Empty => context.jpeg.clear(),
            Back::Garbage => context.jpeg.spare()[..100].fill(0xA5),
            Back::Truncated => {
                let length = context.jpeg.len();
                context.jpeg.set_len(length / 2);
            }
            Back::OtherSize => {
                let data = [128; 16 * 16];
                let mut planes = [Plane::default(); 3];
                planes[0] = Plane {
                    data: &data,
                    stride: 16,
                };
                let grey = RawPicture {
                    format: PixelFormat::Grey,
                    width: 16,
                    height: 16,
                    planes,
                };
                super::encode(&grey, 50, None, &mut context.jpeg);
            }
            Back::Oversized => {
                // Padding within the JPEG: comment segments behind SOI.
                let jpeg = context.jpeg.as_slice().to_vec();
                let mut long = jpeg[..2].to_vec();
                while long.len() < super::FRAME_BYTES {
                    long.extend([0xFF, 0xFE, 0xFF, 0xFF]);
                    long.resize(long.len() + 0xFFFD, b'x');
                }
                long.extend(&jpeg[2..]);
                context.jpeg.spare()[..long.len()].copy_from_slice(&long);
                context.jpeg.set_len(long.len());
            }
            Back::Stale => done.timestamp += Duration::from_micros(5),
            Back::NoSuchBuffer => done.index = 77,
            _ => {}
        }
        done.planes[0].bytes = match how {
            Back::Beyond => 1 << 30,
            _ => context.jpeg.len(),
        };
        if !self.nodes[context.node].dates {
            done.timestamp = Duration::ZERO;
        }
        if how != Back::RawOnly {
            context.queued[index] = false;
            context.done.push_back(done);
        }
        if how != Back::CodedOnly {
            context.job = None;
            context.returned.push_back(returned);
        }
        if how == Back::Twice {
            context.done.push_back(done);
        }
        if how == Back::RawTwice {
            context.returned.push_back(returned);
        }
    }
}

/// The JPEG of the picture that the device has read.
fn encode(context: &mut Context) {
    let layout = context.layout.expect("formats are set");
    let (width, height) = (context.crop.0 as u16, context.crop.1 as u16);
    let shape = layout.format.planes(width, height);
    let mut planes = [Plane::default(); PLANES];
    for ((plane, place), (line, lines)) in planes.iter_mut().zip(&layout.planes).zip(shape) {
        if line > 0 {
            let length = place.stride * (lines - 1) + line;
            let memory = &context.read[place.memory];
            plane.data = &memory[place.offset..place.offset + length];
            plane.stride = place.stride;
        }
    }
    let raw = RawPicture {
        format: layout.format,
        width,
        height,
        planes,
    };
    let quality = context.quality.expect("the quality is set");
    super::encode(&raw, quality, context.chroma, &mut context.jpeg);
}

struct Open {
    machine: Machine,
    number: usize,
    path: PathBuf,
    card: String,
    kind: Kind,
    /// As the process sees it: mapped.
    raw: [Vec<u8>; PLANES],
    coded: Vec<Vec<u8>>,
}

impl Open {
    fn call<T>(
        &self,
        call: &'static str,
        act: impl FnOnce(&mut Context) -> T,
    ) -> Result<T, Failure> {
        let mut world = self.machine.world();
        if world.fails == Some(call) {
            return Err(Failure {
                call,
                error: io::Error::from_raw_os_error(libc::EINVAL),
            });
        }
        let context = world.contexts[self.number].as_mut();
        Ok(act(context.expect("this one is open")))
    }
}

impl Nodes for Machine {
    fn list(&self) -> Vec<PathBuf> {
        let mut world = self.world();
        world.listed += 1;
        let numbers = 0..world.nodes.len();
        numbers.map(|n| format!("/dev/video{n}").into()).collect()
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Driver>, Failure> {
        let mut world = self.world();
        world.opened += 1;
        if world.fails == Some("open") {
            return Err(Failure {
                call: "open",
                error: io::Error::from_raw_os_error(libc::EACCES),
            });
        }
        let name = path.to_str().expect("a name of ours");
        let node: usize = name["/dev/video".len()..].parse().expect("a number");
        let number = world.contexts.len();
        world.contexts.push(Some(Context {
            node,
            quality: None,
            chroma: None,
            raw: Granted::default(),
            layout: None,
            crop: (0, 0),
            streaming: [false; 2],
            raw_count: 0,
            job: None,
            read: Default::default(),
            queued: Vec::new(),
            returned: VecDeque::with_capacity(4),
            done: VecDeque::with_capacity(4),
            jpeg: FrameBuf::new(4 * super::FRAME_BYTES),
            dead: None,
        }));
        Ok(Box::new(Open {
            machine: self.clone(),
            number,
            path: path.to_path_buf(),
            card: format!("stand-in {node}"),
            kind: world.nodes[node].clone(),
            raw: Default::default(),
            coded: Vec::new(),
        }))
    }
}

impl Driver for Open {
    fn path(&self) -> &Path {
        &self.path
    }

    fn card(&self) -> &str {
        &self.card
    }

    fn is_m2m(&self) -> bool {
        self.kind.m2m
    }

    fn fd(&self) -> RawFd {
        1000 + self.number as RawFd
    }

    fn formats(&self, queue: Queue) -> Vec<u32> {
        match queue {
            Queue::Output => self.kind.raw.clone(),
            Queue::Capture => self.kind.coded.clone(),
        }
    }

    fn has_quality(&self) -> bool {
        self.kind.quality
    }

    fn set_quality(&mut self, quality: u8) -> Result<(), Failure> {
        self.call("VIDIOC_S_EXT_CTRLS", |c| c.quality = Some(quality))
    }

    fn has_chroma(&self) -> bool {
        self.kind.chroma.is_some()
    }

    fn set_chroma(&mut self, chroma: Chroma) -> Result<(), Failure> {
        let known = self.kind.chroma.as_ref().expect("it has the control");
        if !known.contains(&chroma) {
            return Err(Failure {
                call: "VIDIOC_S_EXT_CTRLS",
                error: io::Error::from_raw_os_error(libc::EINVAL),
            });
        }
        self.call("VIDIOC_S_EXT_CTRLS", |c| c.chroma = Some(chroma))
    }

    fn set_format(&mut self, queue: Queue, wanted: &Wanted) -> Result<Granted, Failure> {
        let call = match queue {
            Queue::Output => "VIDIOC_S_FMT raw",
            Queue::Capture => "VIDIOC_S_FMT coded",
        };
        let mut granted = Granted {
            fourcc: wanted.fourcc,
            width: wanted.width,
            height: wanted.height,
            planes: 1,
            ..Granted::default()
        };
        if queue == Queue::Capture {
            granted.sizeimage[0] = 4096;
            return self.call(call, |_| granted);
        }
        granted.width = wanted.width.next_multiple_of(self.kind.side);
        granted.height = wanted.height.next_multiple_of(self.kind.side);
        let format = known(wanted.fourcc).expect("a format that it has");
        let shape = format.planes(granted.width as u16, granted.height as u16);
        // The codes with an M have a memory plane for each colour plane.
        if wanted.fourcc.to_le_bytes()[1] == b'M' {
            granted.planes = shape.iter().filter(|(line, _)| *line > 0).count();
        }
        // Even ones, as the chroma planes have half of that.
        let stride = self.kind.stride.next_multiple_of(2);
        let strides = shape.map(|(line, _)| (line as u32).next_multiple_of(stride));
        for plane in 0..granted.planes {
            granted.bytesperline[plane] = strides[plane];
            granted.sizeimage[plane] = strides[plane] * shape[plane].1 as u32;
        }
        let layout = Layout::new(&granted).expect("sound figures");
        if granted.planes == 1 {
            granted.sizeimage[0] = layout.needed[0] as u32 + 100;
        }
        self.call(call, |c| {
            (c.raw, c.layout) = (granted, Some(layout));
            c.crop = (granted.width, granted.height);
            granted
        })
    }

    fn set_crop(&mut self, size: (u32, u32)) -> Result<(u32, u32), Failure> {
        self.call("VIDIOC_S_SELECTION", |c| {
            c.crop = size;
            size
        })
    }

    fn map(&mut self, queue: Queue, count: u32) -> Result<u32, Failure> {
        let count = count.max(self.kind.buffers);
        match queue {
            Queue::Output => {
                let sizes = self.call("VIDIOC_REQBUFS raw", |c| {
                    c.raw_count = count;
                    let sizes = c.raw.sizeimage.map(|size| size as usize);
                    c.read = sizes.map(|size| vec![0; size]);
                    sizes
                })?;
                self.raw = sizes.map(|size| vec![0; size]);
            }
            Queue::Capture => {
                self.call("VIDIOC_REQBUFS coded", |c| {
                    c.queued = vec![false; count as usize];
                })?;
                self.coded = vec![vec![0; 4 * super::FRAME_BYTES]; count as usize];
            }
        }
        Ok(count)
    }

    fn stream_on(&mut self, queue: Queue) -> Result<(), Failure> {
        let (call, which) = match queue {
            Queue::Output => ("VIDIOC_STREAMON raw", 0),
            Queue::Capture => ("VIDIOC_STREAMON coded", 1),
        };
        self.call(call, |c| c.streaming[which] = true)
    }

    fn queue(&mut self, index: u32) -> Result<(), Failure> {
        self.call("VIDIOC_QBUF coded", |c| {
            let queued = &mut c.queued[index as usize];
            assert!(!*queued, "coded buffer {index} queued twice");
            *queued = true;
        })
    }

    fn queue_filled(&mut self, filled: &Filled) -> Result<(), Failure> {
        let memory = &self.raw;
        self.call("VIDIOC_QBUF raw", |c| {
            assert!(c.job.is_none(), "two pictures at a time");
            assert_eq!(c.streaming, [true, true], "before STREAMON");
            for ((to, from), extent) in c.read.iter_mut().zip(memory).zip(&filled.planes) {
                assert_eq!(extent.bytes, from.len(), "a buffer that is not full");
                to.copy_from_slice(from);
            }
            c.job = Some(*filled);
        })?;
        self.machine.world().submitted += 1;
        Ok(())
    }

    fn dequeue(&mut self, queue: Queue) -> Result<Option<Filled>, Failure> {
        let call = match queue {
            Queue::Output => "VIDIOC_DQBUF raw",
            Queue::Capture => "VIDIOC_DQBUF coded",
        };
        let (dead, filled) = self.call(call, |c| {
            let filled = match queue {
                Queue::Output => c.returned.pop_front(),
                Queue::Capture => c.done.pop_front(),
            };
            (c.dead, filled)
        })?;
        if let Some(errno) = dead {
            return Err(Failure {
                call,
                error: io::Error::from_raw_os_error(errno),
            });
        }
        if let (Queue::Capture, Some(filled)) = (queue, &filled)
            && let Some(memory) = self.coded.get_mut(filled.index as usize)
        {
            let world = self.machine.world();
            let context = world.contexts[self.number].as_ref();
            let jpeg = context.expect("this one is open").jpeg.as_slice();
            memory[..jpeg.len()].copy_from_slice(jpeg);
        }
        Ok(filled)
    }

    fn raw(&mut self, plane: usize) -> &mut [u8] {
        let world = self.machine.world();
        let context = world.contexts[self.number].as_ref();
        assert!(
            context.expect("this one is open").job.is_none(),
            "the raw buffer is touched while the device has it"
        );
        drop(world);
        &mut self.raw[plane]
    }

    fn coded(&self, index: u32) -> &[u8] {
        let world = self.machine.world();
        let context = world.contexts[self.number].as_ref();
        let queued = context.expect("this one is open").queued[index as usize];
        assert!(!queued, "a coded buffer is read while the device has it");
        &self.coded[index as usize]
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.machine.world().contexts[self.number] = None;
    }
}
