//! Interlaced cameras: capture cards, and decoders of analogue video on boards. Each of their pictures is two fields, which
//! hold every other line.
//!
//! Most drivers weave them: V4L2_FIELD_ANY, which camd asks for, means a whole picture or one field, as the size asked for
//! suggests (V4L2, "Field Order"). Some give both fields one behind the other all the same (rcar-vin, zoran), or one in each
//! buffer (i.MX's and TI's capture units). These are asked again, for woven pictures. If they cannot, one field is shown, at
//! half the height ([`super::ring`]).

use v4l::v4l_sys::v4l2_field_V4L2_FIELD_INTERLACED as FIELD_INTERLACED;

use crate::system::v4l2::device::{Granted, Wanted};
use crate::system::v4l2::formats::Lines;

/// Sets a format by `set`, which is VIDIOC_S_FMT. What that gives last is what counts.
pub(super) fn set_format<E>(
    wanted: &Wanted,
    mut set: impl FnMut(&Wanted) -> Result<Granted, E>,
) -> Result<Granted, E> {
    let first = set(wanted)?;
    if Lines::of(first.field) == Lines::All || is_meant(wanted, &first) {
        return Ok(first);
    }
    let woven = set(&Wanted {
        field: FIELD_INTERLACED,
        ..*wanted
    });
    let is_better = |woven: &Granted| {
        Lines::of(woven.field) == Lines::All
            && (woven.fourcc, woven.width) == (first.fourcc, first.width)
    };
    match woven {
        Ok(woven) if is_better(&woven) => Ok(woven),
        // Refused, or another size or format: as it was.
        _ => set(wanted),
    }
}

/// Whether a field is as high as the picture is to be: a driver may take one of them to make a small picture.
fn is_meant(wanted: &Wanted, granted: &Granted) -> bool {
    Lines::of(granted.field) == Lines::OneField
        && (granted.width, granted.height) == (wanted.width, wanted.height)
}

#[cfg(test)]
mod tests {
    use v4l::v4l_sys::{
        v4l2_field_V4L2_FIELD_ALTERNATE as FIELD_ALTERNATE, v4l2_field_V4L2_FIELD_ANY as FIELD_ANY,
        v4l2_field_V4L2_FIELD_INTERLACED_TB as FIELD_INTERLACED_TB,
        v4l2_field_V4L2_FIELD_NONE as FIELD_NONE, v4l2_field_V4L2_FIELD_SEQ_BT as FIELD_SEQ_BT,
        v4l2_field_V4L2_FIELD_TOP as FIELD_TOP,
    };

    use super::*;

    /// What is in force of a driver that answers V4L2_FIELD_ANY and V4L2_FIELD_INTERLACED like this, and how often it was
    /// asked.
    fn set(any: (u32, u32), interlaced: Result<(u32, u32), i32>) -> (Granted, usize) {
        let wanted = Wanted {
            width: 720,
            height: 576,
            ..Wanted::default()
        };
        let (mut asked, mut in_force) = (0, Granted::default());
        let granted = set_format(&wanted, |wanted| {
            asked += 1;
            let (field, height) = match wanted.field {
                FIELD_ANY => any,
                FIELD_INTERLACED => interlaced?,
                other => panic!("asked for {other}"),
            };
            in_force = Granted {
                width: 720,
                height,
                field,
                ..Granted::default()
            };
            Ok::<_, i32>(in_force)
        });
        assert_eq!(granted, Ok(in_force));
        (in_force, asked)
    }

    #[test]
    fn woven_pictures_are_asked_for_where_fields_are_apart() {
        let seen = |(granted, asked): (Granted, usize)| (granted.field, granted.height, asked);
        let woven = (FIELD_INTERLACED, 576);
        for field in [FIELD_NONE, FIELD_INTERLACED, FIELD_INTERLACED_TB] {
            assert_eq!(seen(set((field, 576), Err(22))), (field, 576, 1));
        }
        let apart = [
            (FIELD_ALTERNATE, 288),
            (FIELD_SEQ_BT, 576),
            (FIELD_TOP, 288),
        ];
        for any in apart {
            assert_eq!(seen(set(any, Ok(woven))), (woven.0, 576, 2));
            // Refused, or something else again.
            assert_eq!(seen(set(any, Err(22))), (any.0, any.1, 3));
            assert_eq!(seen(set(any, Ok(any))), (any.0, any.1, 3));
        }
        // A small picture of one field is one.
        let small = (FIELD_TOP, 576);
        assert_eq!(seen(set(small, Ok(woven))), (small.0, 576, 1));
    }
}
