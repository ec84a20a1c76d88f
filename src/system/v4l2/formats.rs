//! Pixel formats: V4L2's codes for them, those that a device has, and where the planes lie in a buffer.

use std::fmt::Write;

use v4l::v4l_sys::{
    v4l2_field_V4L2_FIELD_ALTERNATE as FIELD_ALTERNATE,
    v4l2_field_V4L2_FIELD_BOTTOM as FIELD_BOTTOM, v4l2_field_V4L2_FIELD_SEQ_BT as FIELD_SEQ_BT,
    v4l2_field_V4L2_FIELD_SEQ_TB as FIELD_SEQ_TB, v4l2_field_V4L2_FIELD_TOP as FIELD_TOP,
};

use super::device::{Device, Granted, PLANES, Queue, Sizes};
use crate::limits;
use crate::picture::frame::{CameraFormat, PixelFormat};

/// V4L2's code of a format from its four characters.
pub const fn fourcc(code: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*code)
}

/// The V4L2 codes that camd knows, in the order in which it prefers them where a device has several of one format.
pub const CODES: [(u32, PixelFormat); 19] = [
    (fourcc(b"MJPG"), PixelFormat::Mjpeg),
    // The same to us. Drivers differ in which of the two they call a Motion-JPEG.
    (fourcc(b"JPEG"), PixelFormat::Mjpeg),
    (fourcc(b"YU12"), PixelFormat::Yu12),
    // With a memory plane of its own for each colour plane (V4L2_PIX_FMT_YUV420M).
    (fourcc(b"YM12"), PixelFormat::Yu12),
    (fourcc(b"YV12"), PixelFormat::Yv12),
    (fourcc(b"YM21"), PixelFormat::Yv12),
    (fourcc(b"NV12"), PixelFormat::Nv12),
    (fourcc(b"NM12"), PixelFormat::Nv12),
    (fourcc(b"NV21"), PixelFormat::Nv21),
    (fourcc(b"NM21"), PixelFormat::Nv21),
    (fourcc(b"NV16"), PixelFormat::Nv16),
    (fourcc(b"NM16"), PixelFormat::Nv16),
    (fourcc(b"YUYV"), PixelFormat::Yuyv),
    (fourcc(b"UYVY"), PixelFormat::Uyvy),
    (fourcc(b"YVYU"), PixelFormat::Yvyu),
    (fourcc(b"VYUY"), PixelFormat::Vyuy),
    (fourcc(b"RGB3"), PixelFormat::Rgb24),
    (fourcc(b"BGR3"), PixelFormat::Bgr24),
    (fourcc(b"GREY"), PixelFormat::Grey),
];

/// The format with this V4L2 code, if camd can serve it.
pub fn known(code: u32) -> Option<PixelFormat> {
    CODES
        .iter()
        .find(|(c, _)| *c == code)
        .map(|&(_, format)| format)
}

/// V4L2's code of H.264 as a stream of bytes, an access unit in a buffer.
pub const H264: u32 = fourcc(b"H264");

/// What a camera is asked for by this V4L2 code, if camd can serve it.
pub fn known_of_camera(code: u32) -> Option<CameraFormat> {
    match code {
        H264 => Some(CameraFormat::H264),
        code => known(code).map(CameraFormat::Pictures),
    }
}

/// The V4L2 codes of a format, the preferred one first.
pub fn codes(format: PixelFormat) -> impl Iterator<Item = u32> {
    let all = CODES.iter().filter(move |(_, known)| *known == format);
    all.map(|&(code, _)| code)
}

/// A V4L2 code as text.
pub fn code_name(code: u32) -> String {
    code.to_le_bytes().escape_ascii().to_string()
}

/// What a device offers, as far as camd can use it, in the device's order.
pub struct Offer {
    /// V4L2's code of the format.
    pub code: u32,
    /// The same as camd's.
    pub format: CameraFormat,
    /// As the device tells them.
    pub sizes: Sizes,
}

/// Those of a capture device. Formats that camd does not know are left out.
pub fn offers(device: &Device) -> Vec<Offer> {
    device
        .formats(Queue::Capture)
        .into_iter()
        .filter_map(|one| {
            Some(Offer {
                code: one.fourcc,
                format: known_of_camera(one.fourcc)?,
                sizes: device.sizes(one.fourcc),
            })
        })
        .collect()
}

/// "mjpeg 640x480 1280x720, yuyv 640x480", for a person.
pub fn describe(offers: &[Offer]) -> String {
    let mut text = String::new();
    for (i, offer) in offers.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{}{}",
            if i > 0 { ", " } else { "" },
            offer.format.name()
        );
        let _ = match &offer.sizes {
            Sizes::Discrete(all) => all.iter().try_for_each(|(w, h)| write!(text, " {w}x{h}")),
            Sizes::Range { min, max, .. } => {
                write!(text, " {}x{} to {}x{}", min.0, min.1, max.0, max.1)
            }
            Sizes::Unknown => Ok(()),
        };
    }
    text
}

/// One plane of a picture within a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaneLayout {
    /// Which of the buffer's memory planes it is in, and where.
    pub memory: usize,
    /// Bytes from the beginning of that memory plane.
    pub offset: usize,
    /// Bytes from one line to the next.
    pub stride: usize,
    /// Up to the last pixel of the last line.
    pub length: usize,
}

/// Where a picture lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Of the picture.
    pub format: PixelFormat,
    /// In pixels.
    pub width: u16,
    /// In pixels.
    pub height: u16,
    /// Unused ones have length 0; all of them for MJPEG.
    pub planes: [PlaneLayout; PLANES],
    /// The least number of bytes for a whole picture in each memory plane.
    pub needed: [usize; PLANES],
    /// Which lines of the picture each buffer holds.
    pub lines: Lines,
}

/// Which lines of an interlaced picture are in a buffer. (V4L2, "Field Order")
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// All, one after the other: the picture is not interlaced, or the driver weaves its fields.
    All,
    /// Those of one field: `V4L2_FIELD_TOP`, `V4L2_FIELD_BOTTOM`; or of the one or the other, as each buffer says:
    /// `V4L2_FIELD_ALTERNATE`.
    OneField,
    /// Those of one field, and behind them those of the other: `V4L2_FIELD_SEQ_TB`, `V4L2_FIELD_SEQ_BT`.
    BothFields,
}

impl Lines {
    /// Of a `V4L2_FIELD_*`.
    pub fn of(field: u32) -> Lines {
        match field {
            FIELD_TOP | FIELD_BOTTOM | FIELD_ALTERNATE => Lines::OneField,
            FIELD_SEQ_TB | FIELD_SEQ_BT => Lines::BothFields,
            _ => Lines::All,
        }
    }
}

impl Layout {
    /// Of H.264: the size alone. What else it says is of pictures that stand for themselves, as which there are none.
    pub fn of_h264(granted: &Granted) -> Result<Layout, String> {
        if granted.planes != 1 {
            return Err(format!("H264 in {} memory planes", granted.planes));
        }
        Layout::new(&Granted {
            fourcc: fourcc(b"MJPG"),
            field: 0,
            ..*granted
        })
    }

    /// Of pictures with both fields in one buffer, one behind the other, it is that of the first field. Errors say what the
    /// driver got wrong.
    pub fn new(granted: &Granted) -> Result<Layout, String> {
        let code = code_name(granted.fourcc);
        let format = known(granted.fourcc)
            .ok_or_else(|| format!("pixel format {code} is not one camd can serve"))?;
        let side = |value: u32| {
            u16::try_from(value)
                .ok()
                .filter(|v| (limits::DIMENSION_MIN..=limits::DIMENSION_MAX).contains(v))
                .ok_or_else(|| {
                    format!(
                        "{}x{} is not within {} to {} pixels a side",
                        granted.width,
                        granted.height,
                        limits::DIMENSION_MIN,
                        limits::DIMENSION_MAX
                    )
                })
        };
        let lines = Lines::of(granted.field);
        let (width, whole_height) = (side(granted.width)?, side(granted.height)?);
        // Where the fields of an MJPEG camera are in one buffer, each is a JPEG that tells its own height.
        let height = match lines {
            Lines::BothFields => side(granted.height / 2)?,
            Lines::All | Lines::OneField => whole_height,
        };
        let shape: [(usize, usize); PLANES] = format.planes(width, height);
        // The field behind it takes room in each plane.
        let fields = if height < whole_height { 2 } else { 1 };
        let colour_planes = shape.iter().filter(|(line, _)| *line > 0).count().max(1);
        if granted.planes != 1 && granted.planes != colour_planes {
            return Err(format!("{code} in {} memory planes", granted.planes));
        }
        let mut planes = [PlaneLayout::default(); PLANES];
        let mut needed = [0; PLANES];
        let mut next = 0;
        for (i, &(line, count)) in shape.iter().enumerate().filter(|(_, shape)| shape.0 > 0) {
            let memory = if granted.planes == 1 { 0 } else { i };
            let stride = match granted.bytesperline[memory] as usize {
                // Some drivers leave it out where lines are not padded.
                0 => line,
                // In one memory plane V4L2 tells the stride of Y; that of Cb and Cr is half of it in YUV420.
                y if i > 0
                    && memory == 0
                    && matches!(format, PixelFormat::Yu12 | PixelFormat::Yv12) =>
                {
                    y / 2
                }
                stride => stride,
            };
            if stride < line {
                return Err(format!(
                    "{code} with {stride} bytes per line for {width} pixels"
                ));
            }
            let offset = if memory == i { 0 } else { next };
            planes[i] = PlaneLayout {
                memory,
                offset,
                stride,
                length: stride * (count - 1) + line,
            };
            needed[memory] = offset + planes[i].length;
            next = offset + stride * count * fields;
        }
        Ok(Layout {
            format,
            width,
            height,
            planes,
            needed,
            lines,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(code: &[u8; 4], width: u32, height: u32, bytesperline: &[u32]) -> Granted {
        let mut granted = Granted {
            fourcc: fourcc(code),
            width,
            height,
            planes: bytesperline.len(),
            ..Default::default()
        };
        granted.bytesperline[..bytesperline.len()].copy_from_slice(bytesperline);
        granted
    }

    #[test]
    fn of_two_fields_in_a_buffer_the_first_is_laid_out() {
        let layout = |code: &[u8; 4], lines: &[u32], field| {
            let granted = granted(code, 720, 576, lines);
            Layout::new(&Granted { field, ..granted }).unwrap()
        };
        for field in [FIELD_SEQ_TB, FIELD_SEQ_BT] {
            let packed = layout(b"YUYV", &[1440], field);
            assert_eq!((packed.height, packed.lines), (288, Lines::BothFields));
            assert_eq!(packed.needed[0], 1440 * 288);
            // In each plane one field is behind the other.
            let planar = layout(b"YU12", &[720], field);
            let whole = layout(b"YU12", &[720], 0);
            for (plane, of_whole) in planar.planes.iter().zip(&whole.planes) {
                assert_eq!(plane.offset, of_whole.offset);
                assert_eq!(
                    (plane.stride, plane.length),
                    (of_whole.stride, of_whole.length / 2)
                );
            }
        }
        let alone = layout(b"YUYV", &[1440], FIELD_ALTERNATE);
        assert_eq!((alone.height, alone.lines), (576, Lines::OneField));
    }

    #[test]
    fn every_format_has_a_code() {
        for format in PixelFormat::ALL {
            assert!(
                CODES.iter().any(|&(_, known)| known == format),
                "{}",
                format.name()
            );
        }
    }

    #[test]
    fn offers_for_a_person() {
        let offer = |code: &[u8; 4], sizes| {
            let code = fourcc(code);
            Offer {
                code,
                format: known_of_camera(code).unwrap(),
                sizes,
            }
        };
        let range = Sizes::Range {
            min: (32, 32),
            max: (3840, 2160),
            step: (16, 2),
        };
        let camera = [
            offer(b"YUYV", Sizes::Discrete(vec![(640, 480), (320, 240)])),
            offer(b"MJPG", range),
            offer(b"GREY", Sizes::Unknown),
            offer(b"H264", Sizes::Discrete(vec![(640, 480)])),
        ];
        assert_eq!(
            describe(&camera),
            "yuyv 640x480 320x240, mjpeg 32x32 to 3840x2160, grey, h264 640x480"
        );
    }

    #[test]
    fn padded_lines_shift_the_chroma_planes() {
        let layout = Layout::new(&granted(b"YU12", 100, 50, &[128])).unwrap();
        let plane = |memory, offset, stride, length| PlaneLayout {
            memory,
            offset,
            stride,
            length,
        };
        assert_eq!(layout.planes[0], plane(0, 0, 128, 128 * 49 + 100));
        assert_eq!(layout.planes[1], plane(0, 6400, 64, 64 * 24 + 50));
        assert_eq!(layout.planes[2], plane(0, 8000, 64, 64 * 24 + 50));
        assert_eq!(layout.needed, [8000 + 64 * 24 + 50, 0, 0]);
    }

    #[test]
    fn formats_with_exchanged_colours_lie_as_their_counterparts() {
        for (code, same) in [
            (b"YV12", b"YU12"),
            (b"YM21", b"YM12"),
            (b"NV21", b"NV12"),
            (b"YVYU", b"YUYV"),
            (b"VYUY", b"UYVY"),
        ] {
            let lines: &[u32] = if code == b"YM21" {
                &[256, 128, 128]
            } else {
                &[256]
            };
            let [a, b] =
                [code, same].map(|code| Layout::new(&granted(code, 101, 51, lines)).unwrap());
            assert_eq!((a.planes, a.needed), (b.planes, b.needed));
            assert_eq!(a.format.exchanged(), (b.format, true));
            assert_eq!(b.format.exchanged(), (b.format, false));
        }
        // Of 4:2:2 in two planes, both have all lines.
        let layout = Layout::new(&granted(b"NV16", 100, 50, &[128])).unwrap();
        assert_eq!(layout.planes[1].offset, 6400);
        assert_eq!(layout.needed, [6400 + 128 * 49 + 100, 0, 0]);
    }

    #[test]
    fn colour_planes_in_memory_of_their_own() {
        let layout = Layout::new(&granted(b"NM12", 64, 48, &[64, 96])).unwrap();
        assert_eq!(
            layout.planes[1],
            PlaneLayout {
                memory: 1,
                offset: 0,
                stride: 96,
                length: 96 * 23 + 64
            }
        );
        assert_eq!(layout.needed, [64 * 48, 96 * 23 + 64, 0]);
        assert!(Layout::new(&granted(b"NM12", 64, 48, &[64, 64, 64])).is_err());
    }

    #[test]
    fn odd_sizes_round_chroma_up_and_lines_may_be_unpadded() {
        let layout = Layout::new(&granted(b"YUYV", 33, 17, &[0])).unwrap();
        assert_eq!(layout.needed, [68 * 17, 0, 0]);
        let layout = Layout::new(&granted(b"NV12", 33, 17, &[34])).unwrap();
        assert_eq!(layout.needed, [34 * 17 + 34 * 8 + 34, 0, 0]);
    }

    #[test]
    fn what_a_driver_must_not_say() {
        assert!(Layout::new(&granted(b"YUYV", 640, 480, &[640])).is_err());
        assert!(Layout::new(&granted(b"H264", 640, 480, &[0])).is_err());
        assert!(Layout::new(&granted(b"GREY", 70_000, 480, &[0])).is_err());
        assert!(Layout::new(&granted(b"GREY", 640, 0, &[0])).is_err());
        assert!(Layout::of_h264(&granted(b"H264", 640, 480, &[0])).is_ok());
        assert!(Layout::of_h264(&granted(b"H264", 640, 0, &[0])).is_err());
        assert!(Layout::of_h264(&granted(b"H264", 640, 480, &[0, 0])).is_err());
    }
}
