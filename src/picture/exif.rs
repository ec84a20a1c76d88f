//! Exif (CIPA DC-008), as far as it says how a picture is to be turned.

use super::frame::Orientation;

/// Of an APP1 segment, so many bytes are looked at: the orientation is in the first directory, which comes first wherever
/// one was seen.
pub const LOOKED_AT: usize = 1024;

/// What stands before the TIFF header.
const SIGNATURE: &[u8] = b"Exif\0\0";
const ORIENTATION: u16 = 0x0112;
const SHORT: u16 = 3;
/// Bytes of an entry: tag, type, count, value.
const ENTRY: usize = 12;

/// What an APP1 segment, from behind its length, says of the orientation; `None` if it does not, or makes no sense.
pub fn orientation(content: &[u8]) -> Option<Orientation> {
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
