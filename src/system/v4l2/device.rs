//! One V4L2 device node and its system calls, as they are in `linux/videodev2.h`: safe functions around the raw
//! structures that the `v4l` crate generates from that header.
//!
//! Of that crate only the bindings are used (`v4l::v4l2`, `v4l::v4l_sys`). Its own types are for single-planar devices,
//! and they unwrap what drivers say: a card name that is not UTF-8, a menu entry in Latin-1, a control type younger than
//! the crate or an error from `close` would end the process.

use std::fs::{self, File};
use std::io;
use std::mem::{self, size_of};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::Duration;

use nix::libc;
use v4l::v4l_sys::*;
use v4l::v4l2::{self, vidioc};

use crate::system::broker;

/// What v4l2loopback calls itself.
pub const LOOPBACK: &str = "v4l2 loopback";

/// Memory planes of a buffer that camd can use. V4L2 allows 8, but no format camd knows has more than Y, Cb and Cr.
pub const PLANES: usize = 3;

// The size of the structure is part of an ioctl's number. `v4l2_buffer` has a `struct timeval` in it: 88 bytes where
// pointers have 8; on 32-bit systems 68, or 80 where the C library's time_t has 64 bits (musl; kernels since 5.6 take
// both).
const _: () = assert!(if cfg!(target_pointer_width = "64") {
    size_of::<v4l2_buffer>() == 88
} else {
    size_of::<v4l2_buffer>() == 68 || size_of::<v4l2_buffer>() == 80
});
const _: () = assert!(
    size_of::<v4l2_plane>()
        == if cfg!(target_pointer_width = "64") {
            64
        } else {
            60
        }
);
const _: () = assert!(size_of::<v4l2_ext_control>() == 20);

/// `_IOWR('V', 94, struct v4l2_selection)`, which the crate leaves out.
const VIDIOC_G_SELECTION: vidioc::_IOC_TYPE =
    (3 << 30 | (size_of::<v4l2_selection>() as u32) << 16 | (b'V' as u32) << 8 | 94)
        as vidioc::_IOC_TYPE;
/// `_IOWR('V', 95, struct v4l2_selection)`, which the crate leaves out.
const VIDIOC_S_SELECTION: vidioc::_IOC_TYPE =
    (3 << 30 | (size_of::<v4l2_selection>() as u32) << 16 | (b'V' as u32) << 8 | 95)
        as vidioc::_IOC_TYPE;

/// A structure of `videodev2.h`.
///
/// # Safety
/// Implement it only for C structures for which all bytes zero is a valid value.
unsafe trait Plain {}

macro_rules! plain {
    ($($name:ty),* $(,)?) => { $(
        // SAFETY: integers, arrays and unions of them, and raw pointers; NULL is what V4L2 expects in unused ones.
        unsafe impl Plain for $name {}
    )* };
}

plain!(
    v4l2_buffer,
    v4l2_capability,
    v4l2_ext_control,
    v4l2_ext_controls,
    v4l2_fmtdesc,
    v4l2_format,
    v4l2_frmivalenum,
    v4l2_frmsizeenum,
    v4l2_plane,
    v4l2_query_ext_ctrl,
    v4l2_querymenu,
    v4l2_requestbuffers,
    v4l2_selection,
    v4l2_streamparm,
    std::os::raw::c_int,
);

fn zeroed<T: Plain>() -> T {
    // SAFETY: that is what `Plain` promises.
    unsafe { mem::zeroed() }
}

/// A system call that failed, for a person to read.
#[derive(Debug)]
pub struct Failure {
    /// Its name, such as "VIDIOC_S_FMT".
    pub call: &'static str,
    /// Why it failed.
    pub error: io::Error,
}

/// Of a system call.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Its number; 0 if the error has none.
    pub fn errno(&self) -> i32 {
        self.error.raw_os_error().unwrap_or(0)
    }

    /// Whether the device is there, ours to use and asked for something that it has: then whatever is wrong may be over
    /// after a new start. Not so where it is unplugged, somebody else has it (or the bus), or the configuration is wrong.
    pub fn is_hang(&self) -> bool {
        match self.errno() {
            libc::ENODEV | libc::ENXIO | libc::ENOENT => false,
            libc::EBUSY | libc::ENOSPC => false,
            libc::EACCES | libc::EPERM => false,
            libc::ENOTTY | libc::ENOTDIR | libc::EISDIR | libc::ELOOP | libc::ENAMETOOLONG => false,
            libc::EINVAL => self.call != "VIDIOC_S_FMT",
            _ => true,
        }
    }

    /// What the errno means here, as the system's own text ("No such device") says little.
    pub fn explain(&self, path: &Path) -> String {
        let path = path.display();
        let Failure { call, error } = self;
        let hint = match self.errno() {
            libc::ENODEV | libc::ENXIO => ": unplugged, or its driver was unloaded",
            libc::ENOENT => ": no camera is plugged in there (`camd devices` lists what is)",
            libc::EACCES | libc::EPERM => ": the user camd runs as must be in the group \"video\"",
            libc::EBUSY => ": another program uses it",
            libc::ENOTTY => ": it is not a V4L2 device, or does not support this",
            libc::EIO => ": the driver gave up streaming",
            libc::ENOSPC => ": not enough USB bandwidth for this format, size and rate",
            libc::ENOMEM => ": the driver got no memory for its buffers",
            _ => "",
        };
        format!("{call} on {path}: {error}{hint}")
    }
}

/// What VIDIOC_QUERYCAP says.
#[derive(Clone, Debug)]
pub struct Capability {
    /// The driver's name.
    pub driver: String,
    /// The device's name.
    pub card: String,
    /// Where it is plugged in.
    pub bus: String,
    /// `V4L2_CAP_*` of this node.
    pub flags: u32,
}

impl Capability {
    /// Why no pictures can be taken from this node; `None` if they can.
    pub fn unfit(&self) -> Option<String> {
        let capture = self.flags & (V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_VIDEO_CAPTURE_MPLANE) != 0;
        if capture && self.flags & V4L2_CAP_STREAMING != 0 {
            return None;
        }
        let what = if capture {
            "it captures by read() only, camd needs streaming I/O"
        } else if self.driver == LOOPBACK {
            "a loopback device that no program writes to"
        } else if self.flags & (V4L2_CAP_VIDEO_M2M | V4L2_CAP_VIDEO_M2M_MPLANE) != 0 {
            "a codec or scaler, not a camera"
        } else if self.flags & V4L2_CAP_META_CAPTURE != 0 {
            "a metadata node, not the camera's picture node beside it"
        } else if self.flags & (V4L2_CAP_VIDEO_OUTPUT | V4L2_CAP_VIDEO_OUTPUT_MPLANE) != 0 {
            "a video output"
        } else {
            "not a camera"
        };
        Some(format!("{} ({}): {what}", self.card, self.driver))
    }
}

/// Which way buffers go, as V4L2 sees it: a camera has a CAPTURE queue, a memory-to-memory device also one for what it
/// is to work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// From the device to us.
    Capture,
    /// From us to the device.
    Output,
}

/// One entry of VIDIOC_ENUM_FMT.
#[derive(Clone, Debug)]
pub struct FormatDescription {
    /// V4L2's code.
    pub fourcc: u32,
    /// The driver's own words.
    pub description: String,
}

/// VIDIOC_ENUM_FRAMESIZES for one format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// These: width and height in pixels.
    Discrete(Vec<(u32, u32)>),
    /// (width, height): smallest, largest, step. A step of (1, 1) for a continuous range.
    Range {
        /// The smallest.
        min: (u32, u32),
        /// The largest.
        max: (u32, u32),
        /// From one to the next.
        step: (u32, u32),
    },
    /// The driver does not say.
    Unknown,
}

/// The time from one frame to the next, as V4L2 has it: a fraction of a second, not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    numerator: u32,
    denominator: u32,
}

impl Interval {
    /// That of a whole rate in frames per second, at least 1.
    pub fn of(fps: u16) -> Self {
        Interval {
            numerator: 1,
            denominator: fps.into(),
        }
    }

    /// `None` for what no interval can be.
    fn new(raw: v4l2_fract) -> Option<Self> {
        (raw.numerator != 0 && raw.denominator != 0).then_some(Interval {
            numerator: raw.numerator,
            denominator: raw.denominator,
        })
    }

    /// Frames per second.
    pub fn fps(self) -> f64 {
        f64::from(self.denominator) / f64::from(self.numerator)
    }
}

/// VIDIOC_ENUM_FRAMEINTERVALS for one format and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rates {
    /// These.
    Discrete(Vec<Interval>),
    /// Any between two.
    Range {
        /// The longest interval.
        slowest: Interval,
        /// The shortest interval.
        fastest: Interval,
    },
    /// The driver does not say.
    Unknown,
}

/// What VIDIOC_S_FMT is asked for. Zero leaves a number to the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// V4L2's code of the format.
    pub fourcc: u32,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Bytes from one line to the next, for each memory plane.
    pub bytesperline: [u32; PLANES],
    /// Of the first memory plane.
    pub sizeimage: u32,
    /// `V4L2_COLORSPACE_*`
    pub colorspace: u32,
    /// How lines lie in the buffers of a CAPTURE queue: `V4L2_FIELD_*`; 0 is V4L2_FIELD_ANY.
    pub field: u32,
}

/// What VIDIOC_S_FMT settled on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// V4L2's code of the format.
    pub fourcc: u32,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Memory planes in a buffer; 1 on single-planar devices.
    pub planes: usize,
    /// Bytes from one line to the next, for each memory plane.
    pub bytesperline: [u32; PLANES],
    /// Bytes of each memory plane.
    pub sizeimage: [u32; PLANES],
    /// How lines lie in the buffers: `V4L2_FIELD_*`.
    pub field: u32,
}

/// The bytes that a buffer's memory plane holds: V4L2's data_offset, and what is left of bytesused behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Where they begin, in bytes.
    pub offset: usize,
    /// How many there are.
    pub bytes: usize,
}

/// A buffer that VIDIOC_DQBUF returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Its number in the queue.
    pub index: u32,
    /// `V4L2_BUF_FLAG_*`
    pub flags: u32,
    /// The driver's number of the picture.
    pub sequence: u32,
    /// On the clock that `flags` tells.
    pub timestamp: Duration,
    /// Which lines it holds: `V4L2_FIELD_*`.
    pub field: u32,
    /// What each memory plane holds.
    pub planes: [Extent; PLANES],
}

/// Where VIDIOC_QUERYBUF says the planes of a buffer are to be mapped: offset and length.
type Mappable = [(u32, usize); PLANES];

/// A rectangle of a sensor, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// May be negative: where the origin is, is up to the driver.
    pub left: i32,
    /// As `left`.
    pub top: i32,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

impl Rect {
    fn of(raw: &v4l2_selection) -> Self {
        Rect {
            left: raw.r.left,
            top: raw.r.top,
            width: raw.r.width,
            height: raw.r.height,
        }
    }

    /// Whether there is anything in it.
    pub fn is_some(&self) -> bool {
        self.width > 0 && self.height > 0
    }
}

/// Which rectangle (`V4L2_SEL_TGT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The part that pictures show.
    Crop,
    /// That of the whole picture.
    CropDefault,
}

/// An open device node.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
    capability: Capability,
}

impl Device {
    /// Opens without ever waiting: neither the open itself nor a later DQBUF.
    pub fn open(path: &Path) -> Result<Device> {
        let failed = |call| move |error| Failure { call, error };
        let file = broker::open_device(path).map_err(failed("open"))?;
        let mut raw: v4l2_capability = zeroed();
        ioctl(
            file.as_raw_fd(),
            "VIDIOC_QUERYCAP",
            vidioc::VIDIOC_QUERYCAP,
            &mut raw,
        )?;
        // A driver with several nodes tells the whole set in `capabilities`, and this node's in `device_caps`.
        let flags = match raw.capabilities & V4L2_CAP_DEVICE_CAPS {
            0 => raw.capabilities,
            _ => raw.device_caps,
        };
        Ok(Device {
            file,
            path: path.to_path_buf(),
            capability: Capability {
                driver: text(&raw.driver),
                card: text(&raw.card),
                bus: text(&raw.bus_info),
                flags,
            },
        })
    }

    /// Of the device node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What VIDIOC_QUERYCAP said when it was opened.
    pub fn capability(&self) -> &Capability {
        &self.capability
    }

    /// Whether V4L2's multi-planar structures must be used. A driver that offers both gets the simpler ones.
    pub fn multiplanar(&self) -> bool {
        self.capability.flags & (V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_VIDEO_M2M) == 0
    }

    fn buf_type(&self, queue: Queue) -> u32 {
        match (queue, self.multiplanar()) {
            (Queue::Capture, false) => v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE,
            (Queue::Capture, true) => v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE,
            (Queue::Output, false) => v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_OUTPUT,
            (Queue::Output, true) => v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE,
        }
    }

    fn call<T: Plain>(
        &self,
        name: &'static str,
        request: vidioc::_IOC_TYPE,
        arg: &mut T,
    ) -> Result<()> {
        ioctl(self.as_raw_fd(), name, request, arg)
    }

    /// What `fill` gives for index 0, 1, … until it fails. Drivers end their lists with EINVAL; the bound is for those
    /// that do not end them.
    fn entries<T>(mut fill: impl FnMut(u32) -> Result<T>) -> impl Iterator<Item = T> {
        (0..256).map_while(move |index| fill(index).ok())
    }

    /// VIDIOC_ENUM_FMT, in the driver's order; empty if it fails.
    pub fn formats(&self, queue: Queue) -> Vec<FormatDescription> {
        Self::entries(|index| {
            let mut raw: v4l2_fmtdesc = zeroed();
            raw.index = index;
            raw.type_ = self.buf_type(queue);
            self.call("VIDIOC_ENUM_FMT", vidioc::VIDIOC_ENUM_FMT, &mut raw)?;
            Ok(FormatDescription {
                fourcc: raw.pixelformat,
                description: text(&raw.description),
            })
        })
        .collect()
    }

    /// VIDIOC_ENUM_FRAMESIZES
    pub fn sizes(&self, fourcc: u32) -> Sizes {
        let entries = Self::entries(|index| {
            let mut raw: v4l2_frmsizeenum = zeroed();
            raw.index = index;
            raw.pixel_format = fourcc;
            self.call(
                "VIDIOC_ENUM_FRAMESIZES",
                vidioc::VIDIOC_ENUM_FRAMESIZES,
                &mut raw,
            )?;
            Ok(raw)
        });
        let mut sizes = Vec::new();
        for raw in entries {
            if raw.type_ != v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_DISCRETE {
                // SAFETY: `type_` says that this is the field in use; its own are plain integers.
                let all = unsafe { raw.__bindgen_anon_1.stepwise };
                // A range is the only entry.
                return Sizes::Range {
                    min: (all.min_width, all.min_height),
                    max: (all.max_width, all.max_height),
                    step: (all.step_width.max(1), all.step_height.max(1)),
                };
            }
            // SAFETY: as above.
            let size = unsafe { raw.__bindgen_anon_1.discrete };
            sizes.push((size.width, size.height));
        }
        if sizes.is_empty() {
            Sizes::Unknown
        } else {
            Sizes::Discrete(sizes)
        }
    }

    /// VIDIOC_ENUM_FRAMEINTERVALS
    pub fn rates(&self, fourcc: u32, (width, height): (u32, u32)) -> Rates {
        let entries = Self::entries(|index| {
            let mut raw: v4l2_frmivalenum = zeroed();
            raw.index = index;
            raw.pixel_format = fourcc;
            raw.width = width;
            raw.height = height;
            self.call(
                "VIDIOC_ENUM_FRAMEINTERVALS",
                vidioc::VIDIOC_ENUM_FRAMEINTERVALS,
                &mut raw,
            )?;
            Ok(raw)
        });
        let mut intervals = Vec::new();
        for raw in entries {
            if raw.type_ != v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_DISCRETE {
                // SAFETY: `type_` says that this is the field in use; its own are plain integers.
                let all = unsafe { raw.__bindgen_anon_1.stepwise };
                // The longest interval is the lowest rate.
                return match (Interval::new(all.max), Interval::new(all.min)) {
                    (Some(slowest), Some(fastest)) => Rates::Range { slowest, fastest },
                    _ => Rates::Unknown,
                };
            }
            // SAFETY: as above.
            intervals.extend(Interval::new(unsafe { raw.__bindgen_anon_1.discrete }));
        }
        if intervals.is_empty() {
            Rates::Unknown
        } else {
            Rates::Discrete(intervals)
        }
    }

    /// VIDIOC_S_FMT. The driver answers with what it really does, which may differ in everything.
    pub fn set_format(&self, queue: Queue, wanted: &Wanted) -> Result<Granted> {
        let mut raw: v4l2_format = zeroed();
        raw.type_ = self.buf_type(queue);
        let (width, height, fourcc) = (wanted.width, wanted.height, wanted.fourcc);
        let field = match queue {
            Queue::Capture => wanted.field,
            Queue::Output => v4l2_field_V4L2_FIELD_NONE,
        };
        if self.multiplanar() {
            // SAFETY: `raw` is zeroed, and the multi-planar buffer type makes this the field in use, here and below.
            let pix = unsafe { &mut raw.fmt.pix_mp };
            (pix.width, pix.height, pix.pixelformat, pix.field) = (width, height, fourcc, field);
            pix.colorspace = wanted.colorspace;
            // The structure is packed: its fields are copied, not borrowed.
            let mut planes = pix.plane_fmt;
            planes[0].sizeimage = wanted.sizeimage;
            for (plane, bytesperline) in planes.iter_mut().zip(wanted.bytesperline) {
                plane.bytesperline = bytesperline;
            }
            pix.plane_fmt = planes;
        } else {
            // SAFETY: `raw` is zeroed, and the single-planar buffer type makes this the field in use, here and below.
            let pix = unsafe { &mut raw.fmt.pix };
            (pix.width, pix.height, pix.pixelformat, pix.field) = (width, height, fourcc, field);
            pix.colorspace = wanted.colorspace;
            (pix.bytesperline, pix.sizeimage) = (wanted.bytesperline[0], wanted.sizeimage);
        }
        self.call("VIDIOC_S_FMT", vidioc::VIDIOC_S_FMT, &mut raw)?;
        let mut granted = Granted::default();
        if self.multiplanar() {
            // SAFETY: see above.
            let pix = unsafe { raw.fmt.pix_mp };
            (granted.fourcc, granted.width, granted.height) =
                (pix.pixelformat, pix.width, pix.height);
            (granted.planes, granted.field) = (usize::from(pix.num_planes), pix.field);
            let planes = pix.plane_fmt;
            for (i, plane) in planes
                .into_iter()
                .take(granted.planes.min(PLANES))
                .enumerate()
            {
                granted.bytesperline[i] = plane.bytesperline;
                granted.sizeimage[i] = plane.sizeimage;
            }
        } else {
            // SAFETY: see above.
            let pix = unsafe { raw.fmt.pix };
            (granted.fourcc, granted.width, granted.height) =
                (pix.pixelformat, pix.width, pix.height);
            (granted.planes, granted.field) = (1, pix.field);
            granted.bytesperline[0] = pix.bytesperline;
            granted.sizeimage[0] = pix.sizeimage;
        }
        Ok(granted)
    }

    /// VIDIOC_S_PARM: asks for a rate and tells the one that is set; `None` if the driver has no say in it.
    pub fn set_rate(&self, interval: Interval) -> Option<f64> {
        let mut raw: v4l2_streamparm = zeroed();
        raw.type_ = self.buf_type(Queue::Capture);
        raw.parm.capture = v4l2_captureparm {
            timeperframe: v4l2_fract {
                numerator: interval.numerator,
                denominator: interval.denominator,
            },
            // SAFETY: plain integers.
            ..unsafe { mem::zeroed() }
        };
        self.call("VIDIOC_S_PARM", vidioc::VIDIOC_S_PARM, &mut raw)
            .ok()?;
        // SAFETY: the capture buffer type makes this the field in use.
        let capture = unsafe { raw.parm.capture };
        if capture.capability & V4L2_CAP_TIMEPERFRAME == 0 {
            return None;
        }
        Interval::new(capture.timeperframe).map(Interval::fps)
    }

    /// VIDIOC_REQBUFS: tells how many buffers there are, which may be more or fewer.
    pub fn request_buffers(&self, queue: Queue, count: u32) -> Result<u32> {
        let mut raw: v4l2_requestbuffers = zeroed();
        raw.count = count;
        raw.type_ = self.buf_type(queue);
        raw.memory = v4l2_memory_V4L2_MEMORY_MMAP;
        self.call("VIDIOC_REQBUFS", vidioc::VIDIOC_REQBUFS, &mut raw)?;
        Ok(raw.count)
    }

    /// Gives what `read` makes of the answer; of single-planar devices it has no planes. `filled`: what we say of a buffer that
    /// goes to the device with something in it.
    fn buffer_call<T>(
        &self,
        name: &'static str,
        request: vidioc::_IOC_TYPE,
        queue: Queue,
        filled: &Filled,
        read: impl FnOnce(&v4l2_buffer, &[v4l2_plane]) -> T,
    ) -> Result<T> {
        let mut raw: v4l2_buffer = zeroed();
        raw.index = filled.index;
        raw.type_ = self.buf_type(queue);
        raw.memory = v4l2_memory_V4L2_MEMORY_MMAP;
        if queue == Queue::Output {
            raw.field = v4l2_field_V4L2_FIELD_NONE;
            // Their types differ between systems; both are small.
            raw.timestamp.tv_sec = filled.timestamp.as_secs() as _;
            raw.timestamp.tv_usec = filled.timestamp.subsec_micros() as _;
            raw.bytesused = filled.planes[0].bytes as u32;
        }
        if !self.multiplanar() {
            self.call(name, request, &mut raw)?;
            return Ok(read(&raw, &[]));
        }
        let mut planes: [v4l2_plane; VIDEO_MAX_PLANES as usize] = std::array::from_fn(|_| zeroed());
        if queue == Queue::Output {
            for (plane, extent) in planes.iter_mut().zip(&filled.planes) {
                plane.bytesused = extent.bytes as u32;
            }
        }
        // The kernel writes as many planes as there are, and not more than this many.
        raw.m.planes = planes.as_mut_ptr();
        raw.length = VIDEO_MAX_PLANES;
        self.call(name, request, &mut raw)?;
        Ok(read(&raw, &planes))
    }

    /// Maps a buffer's memory planes: of the CAPTURE queue for reading, of the OUTPUT queue for writing too.
    pub fn map_buffer(&self, queue: Queue, index: u32) -> Result<[Mapping; PLANES]> {
        let which = Filled {
            index,
            ..Filled::default()
        };
        let query = ("VIDIOC_QUERYBUF", vidioc::VIDIOC_QUERYBUF);
        let wanted = self.buffer_call(query.0, query.1, queue, &which, |raw, planes| {
            let mut wanted: Mappable = Default::default();
            if self.multiplanar() {
                for (want, plane) in wanted
                    .iter_mut()
                    .zip(&planes[..(raw.length as usize).min(PLANES)])
                {
                    // SAFETY: with V4L2_MEMORY_MMAP this is the field in use; all of them are plain integers.
                    *want = (unsafe { plane.m.mem_offset }, plane.length as usize);
                }
            } else {
                // SAFETY: as above.
                wanted[0] = (unsafe { raw.m.offset }, raw.length as usize);
            }
            wanted
        })?;
        let mut maps: [Mapping; PLANES] = Default::default();
        for (map, (offset, length)) in maps.iter_mut().zip(wanted) {
            if length > 0 {
                *map = Mapping::new(self.as_raw_fd(), offset, length, queue == Queue::Output)
                    .map_err(|error| Failure {
                        call: "mmap",
                        error,
                    })?;
            }
        }
        Ok(maps)
    }

    /// VIDIOC_QBUF: gives a buffer to the driver, to be filled.
    pub fn queue(&self, index: u32) -> Result<()> {
        let empty = Filled {
            index,
            ..Filled::default()
        };
        self.give(Queue::Capture, &empty)
    }

    /// VIDIOC_QBUF on the OUTPUT queue: gives a buffer to the driver with `index`, `timestamp` and as many bytes in each
    /// memory plane as `filled` says (offsets are those of the driver: 0).
    pub fn queue_filled(&self, filled: &Filled) -> Result<()> {
        self.give(Queue::Output, filled)
    }

    fn give(&self, queue: Queue, filled: &Filled) -> Result<()> {
        self.buffer_call("VIDIOC_QBUF", vidioc::VIDIOC_QBUF, queue, filled, |_, _| ())
    }

    /// VIDIOC_DQBUF: takes the oldest filled buffer; `None` when there is none.
    pub fn dequeue(&self, queue: Queue) -> Result<Option<Filled>> {
        let any = Filled::default();
        let read = |raw: &v4l2_buffer, planes: &[v4l2_plane]| {
            let mut filled = Filled {
                index: raw.index,
                flags: raw.flags,
                sequence: raw.sequence,
                timestamp: Duration::new(
                    raw.timestamp.tv_sec.max(0) as u64,
                    raw.timestamp.tv_usec.clamp(0, 999_999) as u32 * 1000,
                ),
                field: raw.field,
                planes: Default::default(),
            };
            if self.multiplanar() {
                for (extent, plane) in filled.planes.iter_mut().zip(planes) {
                    extent.offset = plane.data_offset as usize;
                    extent.bytes = plane.bytesused.saturating_sub(plane.data_offset) as usize;
                }
            } else {
                filled.planes[0].bytes = raw.bytesused as usize;
            }
            filled
        };
        match self.buffer_call("VIDIOC_DQBUF", vidioc::VIDIOC_DQBUF, queue, &any, read) {
            Ok(filled) => Ok(Some(filled)),
            Err(failure) if failure.errno() == libc::EAGAIN => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// VIDIOC_STREAMON
    pub fn stream_on(&self, queue: Queue) -> Result<()> {
        let mut kind = self.buf_type(queue) as std::os::raw::c_int;
        self.call("VIDIOC_STREAMON", vidioc::VIDIOC_STREAMON, &mut kind)
    }

    /// VIDIOC_STREAMOFF: gives all buffers back.
    pub fn stream_off(&self, queue: Queue) -> Result<()> {
        let mut kind = self.buf_type(queue) as std::os::raw::c_int;
        self.call("VIDIOC_STREAMOFF", vidioc::VIDIOC_STREAMOFF, &mut kind)
    }

    /// VIDIOC_G_SELECTION: a rectangle of the CAPTURE side.
    pub fn selection(&self, target: Target) -> Result<Rect> {
        let mut raw: v4l2_selection = zeroed();
        // On multi-planar devices too.
        raw.type_ = v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE;
        raw.target = match target {
            Target::Crop => V4L2_SEL_TGT_CROP,
            Target::CropDefault => V4L2_SEL_TGT_CROP_DEFAULT,
        };
        self.call("VIDIOC_G_SELECTION", VIDIOC_G_SELECTION, &mut raw)?;
        Ok(Rect::of(&raw))
    }

    /// VIDIOC_S_SELECTION: says which part of the sensor CAPTURE pictures are to show, no less than that. Tells what the
    /// driver makes of it.
    pub fn select(&self, rect: Rect) -> Result<Rect> {
        let mut raw: v4l2_selection = zeroed();
        raw.type_ = v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE;
        raw.target = V4L2_SEL_TGT_CROP;
        raw.flags = V4L2_SEL_FLAG_GE;
        (raw.r.left, raw.r.top) = (rect.left, rect.top);
        (raw.r.width, raw.r.height) = (rect.width, rect.height);
        let granted = self.call("VIDIOC_S_SELECTION", VIDIOC_S_SELECTION, &mut raw);
        match granted {
            // It cannot do it with nothing left out, and says so (ERANGE). Whoever asked can look what it grants then.
            Err(failure) if failure.errno() == libc::ERANGE => {
                raw.flags = 0;
                (raw.r.left, raw.r.top) = (rect.left, rect.top);
                (raw.r.width, raw.r.height) = (rect.width, rect.height);
                self.call("VIDIOC_S_SELECTION", VIDIOC_S_SELECTION, &mut raw)?;
            }
            granted => granted?,
        }
        Ok(Rect::of(&raw))
    }

    /// VIDIOC_S_SELECTION: says which part of the OUTPUT buffers is the picture, from the upper left corner on. Tells what
    /// the driver makes of it.
    pub fn set_crop(&self, width: u32, height: u32) -> Result<(u32, u32)> {
        let mut raw: v4l2_selection = zeroed();
        // On multi-planar devices too.
        raw.type_ = v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_OUTPUT;
        raw.target = V4L2_SEL_TGT_CROP;
        (raw.r.width, raw.r.height) = (width, height);
        self.call("VIDIOC_S_SELECTION", VIDIOC_S_SELECTION, &mut raw)?;
        Ok((raw.r.width, raw.r.height))
    }

    /// VIDIOC_QUERY_EXT_CTRL: the first control with an id above `id`, compound ones left out.
    pub fn next_control(&self, id: u32) -> Result<v4l2_query_ext_ctrl> {
        let mut raw: v4l2_query_ext_ctrl = zeroed();
        raw.id = id | V4L2_CTRL_FLAG_NEXT_CTRL;
        self.call(
            "VIDIOC_QUERY_EXT_CTRL",
            vidioc::VIDIOC_QUERY_EXT_CTRL,
            &mut raw,
        )?;
        Ok(raw)
    }

    /// VIDIOC_QUERYMENU: the name of an entry, or its number in an integer menu.
    pub fn menu_entry(&self, id: u32, index: u32, integer: bool) -> Result<String> {
        let mut raw: v4l2_querymenu = zeroed();
        raw.id = id;
        raw.index = index;
        self.call("VIDIOC_QUERYMENU", vidioc::VIDIOC_QUERYMENU, &mut raw)?;
        // SAFETY: both are plain integers, and the structure is packed: they are copied, not borrowed.
        let (name, value) = unsafe { (raw.__bindgen_anon_1.name, raw.__bindgen_anon_1.value) };
        Ok(if integer {
            value.to_string()
        } else {
            text(&name)
        })
    }

    fn ext_control(
        &self,
        name: &'static str,
        request: vidioc::_IOC_TYPE,
        control: &mut v4l2_ext_control,
    ) -> Result<()> {
        let mut raw: v4l2_ext_controls = zeroed();
        raw.__bindgen_anon_1.which = V4L2_CTRL_WHICH_CUR_VAL;
        raw.count = 1;
        // Valid during the call, as `control` is borrowed for longer.
        raw.controls = control;
        self.call(name, request, &mut raw)
    }

    /// VIDIOC_G_EXT_CTRLS for one control of 64 (`wide`) or 32 bits.
    pub fn control(&self, id: u32, wide: bool) -> Result<i64> {
        let mut control: v4l2_ext_control = zeroed();
        control.id = id;
        self.ext_control(
            "VIDIOC_G_EXT_CTRLS",
            vidioc::VIDIOC_G_EXT_CTRLS,
            &mut control,
        )?;
        // SAFETY: the control's type says which field is in use; both are plain integers.
        Ok(unsafe {
            if wide {
                control.__bindgen_anon_1.value64
            } else {
                i64::from(control.__bindgen_anon_1.value)
            }
        })
    }

    /// VIDIOC_S_EXT_CTRLS for one control of 64 (`wide`) or 32 bits.
    pub fn set_control(&self, id: u32, wide: bool, value: i64) -> Result<()> {
        let mut control: v4l2_ext_control = zeroed();
        control.id = id;
        if wide {
            control.__bindgen_anon_1.value64 = value;
        } else {
            // A bitmask of 32 bits may come as a positive number above i32::MAX; the range has been checked.
            control.__bindgen_anon_1.value = value as i32;
        }
        self.ext_control(
            "VIDIOC_S_EXT_CTRLS",
            vidioc::VIDIOC_S_EXT_CTRLS,
            &mut control,
        )
    }
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// # Panics
/// If `request` is not a number for `T`: the kernel would write past it.
fn ioctl<T: Plain>(
    fd: RawFd,
    name: &'static str,
    request: vidioc::_IOC_TYPE,
    arg: &mut T,
) -> Result<()> {
    // _IOC_SIZE: 14 bits from bit 16 on.
    assert!(
        (request >> 16) as usize & 0x3fff == size_of::<T>(),
        "{name} with a structure of another call"
    );
    loop {
        // SAFETY: the kernel writes at most the number's size behind `arg`, which is that of `T` (asserted). `Plain`
        // structures stay valid whatever is written. Those with pointers get theirs from this module, to memory that
        // outlives the call.
        match unsafe { v4l2::ioctl(fd, request, ptr::from_mut(arg).cast()) } {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map_err(|error| Failure { call: name, error }),
        }
    }
}

/// A string of `videodev2.h`: up to the first NUL, in whatever encoding the device's maker chose.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_string()
}

/// `/dev/videoN`, by N. `dev` is that folder.
pub fn nodes(dev: &Path) -> Vec<PathBuf> {
    let mut nodes: Vec<(u32, PathBuf)> = fs::read_dir(dev)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry
                .file_name()
                .to_str()?
                .strip_prefix("video")?
                .parse()
                .ok()?;
            Some((number, entry.path()))
        })
        .collect();
    nodes.sort();
    nodes.into_iter().map(|(_, path)| path).collect()
}

/// One plane of a buffer in our address space; nothing where a buffer has no such plane.
#[derive(Debug)]
pub struct Mapping {
    start: *mut libc::c_void,
    length: usize,
    writable: bool,
}

impl Mapping {
    fn new(fd: RawFd, offset: u32, length: usize, writable: bool) -> io::Result<Mapping> {
        let write = if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            v4l2::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | write,
                libc::MAP_SHARED,
                fd,
                offset as libc::off_t,
            )
        }?;
        Ok(Mapping {
            start,
            length,
            writable,
        })
    }

    /// The plane's bytes. They are stable only while the buffer is dequeued.
    pub fn bytes(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: the mapping lasts as long as `self`, and is readable over `length`. Nothing writes to a buffer between
        // DQBUF and QBUF, and `Ring` and `m2m::Encoder` read none other. (v4l2loopback's writer can, as all its readers share one ring:
        // what is read twice may differ then, but every length is checked where the bytes are used.)
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }

    /// The plane's bytes, to be filled while the buffer is not queued.
    ///
    /// # Panics
    /// If it is a plane of a CAPTURE buffer, which is mapped for reading only.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        if self.length == 0 {
            return &mut [];
        }
        assert!(self.writable, "a plane that only the device writes to");
        // SAFETY: as above, mapped for writing too; `self` is borrowed for as long as the slice. A device that still reads
        // an OUTPUT buffer would see it change, which is no more to us than a spoilt picture; `m2m::Encoder` waits for it.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.length) }
    }
}

impl Default for Mapping {
    fn default() -> Self {
        Mapping {
            start: ptr::null_mut(),
            length: 0,
            writable: false,
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: made by `new` with this length, and no slice of it outlives `self`. It can only fail for wrong
            // arguments.
            let _ = unsafe { v4l2::munmap(self.start, self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_new_start_may_mend() {
        let is_hang = |call, errno| {
            let error = io::Error::from_raw_os_error(errno);
            Failure { call, error }.is_hang()
        };
        for (call, errno) in [
            ("VIDIOC_STREAMON", libc::EIO),
            ("VIDIOC_STREAMON", libc::EPROTO),
            ("VIDIOC_S_FMT", libc::ETIMEDOUT),
            ("VIDIOC_REQBUFS", libc::EINVAL),
            ("VIDIOC_REQBUFS", libc::ENOMEM),
            ("open", libc::EIO),
        ] {
            assert!(is_hang(call, errno), "{call} {errno}");
        }
        for (call, errno) in [
            ("open", libc::ENOENT),
            ("open", libc::EACCES),
            ("open", libc::ENXIO),
            ("VIDIOC_QUERYCAP", libc::ENOTTY),
            ("VIDIOC_QUERYCAP", libc::ENODEV),
            ("VIDIOC_S_FMT", libc::EBUSY),
            ("VIDIOC_S_FMT", libc::EINVAL),
            ("VIDIOC_STREAMON", libc::EBUSY),
            ("VIDIOC_STREAMON", libc::ENOSPC),
        ] {
            assert!(!is_hang(call, errno), "{call} {errno}");
        }
    }
}
