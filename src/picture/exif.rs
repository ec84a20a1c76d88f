//! Exif (CIPA DC-008), as far as it says how a picture is to be turned.

use super::frame::Orientation;

/// Of an APP1 segment, so many bytes are looked at: the orientation is in the first directory, which comes first wherever
/// one was seen.
const LOOKED_AT: usize = 1024;

/// What stands before the TIFF header.
const SIGNATURE: &[u8] = b"Exif\0\0";
const ORIENTATION: u16 = 0x0112;
const SHORT: u16 = 3;
/// Bytes of an entry: tag, type, count, value.
const ENTRY: usize = 12;

/// How viewers that know Exif turn a JPEG, from its SOI on. Walks the header up to the first APP1 segment that says so, or
/// the frame.
pub fn of_jpeg(jpeg: &[u8]) -> Orientation {
    let mut at = 2;
    while let Some(&[0xFF, marker]) = jpeg.get(at..at + 2) {
        match (marker, jpeg.get(at + 2..at + 4)) {
            // Fill bytes.
            (0xFF, _) => at += 1,
            // What else may come before the frame: tables, applications' own, comments.
            (0xC4 | 0xDB | 0xDD | 0xE0..=0xEF | 0xFE, Some(&[high, low])) => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                let content = jpeg.get(at + 4..).unwrap_or(&[]);
                let content =
                    &content[..content.len().min(length.saturating_sub(2)).min(LOOKED_AT)];
                if marker == 0xE1
                    && let Some(found) = orientation(content)
                {
                    return found;
                }
                at += 2 + length.max(2);
            }
            _ => break,
        }
    }
    Orientation::UPRIGHT
}

/// What an APP1 segment, from behind its length, says of the orientation; `None` if it does not, or makes no sense.
fn orientation(content: &[u8]) -> Option<Orientation> {
    let tiff = content.strip_prefix(SIGNATURE)?;
    let little = match tiff.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let short = |at: usize| -> Option<u16> {
        let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(match little {
            true => u16::from_le_bytes(bytes),
            false => u16::from_be_bytes(bytes),
        })
    };
    let long = |at: usize| -> Option<usize> {
        let bytes = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(match little {
            true => u32::from_le_bytes(bytes),
            false => u32::from_be_bytes(bytes),
        } as usize)
    };
    if short(2)? != 42 {
        return None;
    }
    let directory = long(4)?;
    let entries = usize::from(short(directory)?);
    for entry in 0..entries {
        let at = directory.checked_add(2 + entry * ENTRY)?;
        if short(at)? != ORIENTATION {
            continue;
        }
        return match (short(at + 2)?, long(at + 4)?) {
            (SHORT, 1) => of(short(at + 8)?),
            _ => None,
        };
    }
    None
}

/// What is to be done with a picture of this orientation so that it is upright: the number says which sides of the scene
/// its first row and first column are.
fn of(number: u16) -> Option<Orientation> {
    let upright = Orientation::UPRIGHT;
    let transposed = Orientation {
        transpose: true,
        ..upright
    };
    Some(match number {
        1 => upright,
        2 => upright.mirrored(true, false),
        3 => upright.mirrored(true, true),
        4 => upright.mirrored(false, true),
        5 => transposed,
        6 => transposed.mirrored(true, false),
        7 => transposed.mirrored(true, true),
        8 => transposed.mirrored(false, true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An APP1 segment's content with these entries, in either byte order.
    fn exif(little: bool, entries: &[(u16, u16, u32, u16)]) -> Vec<u8> {
        let short = |v: u16| match little {
            true => v.to_le_bytes(),
            false => v.to_be_bytes(),
        };
        let long = |v: u32| match little {
            true => v.to_le_bytes(),
            false => v.to_be_bytes(),
        };
        let mut out = SIGNATURE.to_vec();
        out.extend(if little { b"II" } else { b"MM" });
        out.extend(short(42));
        out.extend(long(8));
        out.extend(short(entries.len() as u16));
        for &(tag, kind, count, value) in entries {
            out.extend([short(tag), short(kind)].concat());
            out.extend(long(count));
            out.extend([short(value), short(0)].concat());
        }
        out.extend(long(0));
        out
    }

    #[test]
    fn the_eight_orientations_in_both_byte_orders() {
        for little in [false, true] {
            let read = |number| {
                let make = (0x010F, 2, 4, 0);
                orientation(&exif(little, &[make, (ORIENTATION, SHORT, 1, number)]))
            };
            // 6 is a camera held upright with its right side up: to be turned clockwise by a quarter.
            assert_eq!(read(1), Some(Orientation::UPRIGHT));
            assert_eq!(read(3), Some(Orientation::quarters(2)));
            assert_eq!(read(6), Some(Orientation::quarters(1)));
            assert_eq!(read(8), Some(Orientation::quarters(3)));
            let mirrored = Orientation::UPRIGHT.mirrored(true, false);
            assert_eq!(read(2), Some(mirrored));
            let all: Vec<_> = (1..=8).map(|number| read(number).unwrap()).collect();
            for (n, one) in all.iter().enumerate() {
                assert!(!all[..n].contains(one), "{n}");
            }
            assert_eq!([read(0), read(9)], [None, None]);
        }
    }

    #[test]
    fn it_is_found_in_a_jpeg_and_not_in_what_is_inside_of_it() {
        let segment = |marker: u8, content: &[u8]| {
            let length = (content.len() + 2) as u16;
            [&[0xFF, marker][..], &length.to_be_bytes(), content].concat()
        };
        let turned = segment(0xE1, &exif(true, &[(ORIENTATION, SHORT, 1, 8)]));
        let jpeg = |parts: &[&[u8]]| [&[0xFF, 0xD8][..], &parts.concat()].concat();
        let quarter = Orientation::quarters(3);
        let (jfif, xmp) = (segment(0xE0, b"JFIF\0"), segment(0xE1, b"http://ns\0"));
        assert_eq!(of_jpeg(&jpeg(&[&turned])), quarter);
        assert_eq!(of_jpeg(&jpeg(&[&jfif, &[0xFF], &xmp, &turned])), quarter);
        // Of a thumbnail; in a comment; behind the header of the frame.
        for other in [segment(0xE2, &turned), segment(0xFE, &turned)] {
            assert_eq!(of_jpeg(&jpeg(&[&other])), Orientation::UPRIGHT);
        }
        let frame = segment(0xC0, &[8, 0, 1, 0, 1, 1, 1, 0x11, 0]);
        assert_eq!(of_jpeg(&jpeg(&[&frame, &turned])), Orientation::UPRIGHT);
        for n in 0..12 {
            assert_eq!(of_jpeg(&jpeg(&[&turned])[..n]), Orientation::UPRIGHT);
        }
    }

    #[test]
    fn nonsense_says_nothing_wherever_it_ends() {
        let good = exif(true, &[(ORIENTATION, SHORT, 1, 6)]);
        for n in 0..SIGNATURE.len() + 8 + 2 + 10 {
            assert_eq!(orientation(&good[..n]), None, "{n} bytes");
        }
        assert_eq!(orientation(&exif(true, &[(ORIENTATION, 4, 1, 6)])), None);
        assert_eq!(
            orientation(&exif(true, &[(ORIENTATION, SHORT, 2, 6)])),
            None
        );
        assert_eq!(orientation(&exif(false, &[])), None);
        let mut far = good.clone();
        far[SIGNATURE.len() + 4..][..4].fill(0xFF);
        assert_eq!(orientation(&far), None);
        assert_eq!(orientation(b"http://ns.adobe.com/xap/1.0/\0<x/>"), None);
    }
}
