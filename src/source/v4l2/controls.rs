//! A camera's controls (brightness, exposure, …) by name.

use v4l::v4l_sys::{
    V4L2_CTRL_FLAG_DISABLED, V4L2_CTRL_FLAG_GRABBED, V4L2_CTRL_FLAG_HAS_PAYLOAD,
    V4L2_CTRL_FLAG_INACTIVE, V4L2_CTRL_FLAG_READ_ONLY, V4L2_CTRL_FLAG_WRITE_ONLY,
    v4l2_ctrl_type_V4L2_CTRL_TYPE_BITMASK as BITMASK,
    v4l2_ctrl_type_V4L2_CTRL_TYPE_BOOLEAN as BOOLEAN,
    v4l2_ctrl_type_V4L2_CTRL_TYPE_BUTTON as BUTTON,
    v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER as INTEGER,
    v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER_MENU as INTEGER_MENU,
    v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER64 as INTEGER64,
    v4l2_ctrl_type_V4L2_CTRL_TYPE_MENU as MENU, v4l2_query_ext_ctrl,
};

use crate::source::control::{Control, ControlError};
use crate::system::v4l2::device::{Device, text};

/// No driver has nearly as many; some never end the list.
const MOST: usize = 1024;

/// Every control with a plain number in it. Strings, arrays and structures are left out: they mean nothing to a person
/// who adjusts a picture.
pub fn list(device: &Device) -> Vec<Control> {
    queries(device)
        .filter_map(|query| describe(device, &query))
        .collect()
}

/// The control of this normalised name, if it has a plain number in it.
pub fn find(device: &Device, name: &str) -> Option<Control> {
    let query = queries(device).find(|query| normalise(&name_of(query)) == name)?;
    describe(device, &query)
}

/// Sets a control by its normalised name. An error says that there is none, or why the driver refuses.
pub fn set(device: &Device, name: &str, value: i64) -> Result<(), ControlError> {
    let query = queries(device)
        .find(|query| normalise(&name_of(query)) == name)
        .ok_or(ControlError::Unknown)?;
    let control = describe(device, &query).ok_or(ControlError::Unknown)?;
    check(&control, value).map_err(ControlError::Refused)?;
    device
        .set_control(query.id, is_wide(&query), value)
        .map_err(|failure| ControlError::Refused(format!("{name} = {value}: {}", failure.error)))
}

fn queries(device: &Device) -> impl Iterator<Item = v4l2_query_ext_ctrl> {
    let mut id = 0;
    std::iter::from_fn(move || {
        let query = device.next_control(id).ok()?;
        // The kernel gives rising ids; a driver that does not would give the same one for ever.
        (query.id > id).then(|| {
            id = query.id;
            query
        })
    })
    .take(MOST)
    .filter(|query| query.flags & V4L2_CTRL_FLAG_DISABLED == 0)
}

fn name_of(query: &v4l2_query_ext_ctrl) -> String {
    // `c_char` is signed on some of our targets.
    text(&query.name.map(|c| c.to_ne_bytes()[0]))
}

fn is_wide(query: &v4l2_query_ext_ctrl) -> bool {
    query.type_ == INTEGER64
}

/// The name as `v4l2-ctl` prints it: "White Balance, Automatic" is "white_balance_automatic".
fn normalise(name: &str) -> String {
    let mut words = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let mut all = String::new();
    if let Some(first) = words.next() {
        all.push_str(first);
    }
    for word in words {
        all.push('_');
        all.push_str(word);
    }
    all.make_ascii_lowercase();
    all
}

/// `None` if it is not of a type that a number can set.
fn describe(device: &Device, query: &v4l2_query_ext_ctrl) -> Option<Control> {
    let kind = match query.type_ {
        INTEGER => "integer",
        BOOLEAN => "boolean",
        MENU => "menu",
        BUTTON => "button",
        INTEGER64 => "integer64",
        BITMASK => "bitmask",
        INTEGER_MENU => "integer_menu",
        _ => return None,
    };
    // Arrays of numbers have one of these types too.
    if query.nr_of_dims > 0 || query.flags & V4L2_CTRL_FLAG_HAS_PAYLOAD != 0 {
        return None;
    }
    let menu = match kind {
        // Entries may be missing in between: each has its own query, and the bound is for broken ranges.
        "menu" | "integer_menu" => (query.minimum.max(0)..=query.maximum.min(255))
            .filter_map(|index| {
                let entry = device
                    .menu_entry(query.id, index as u32, kind == "integer_menu")
                    .ok()?;
                Some((index, entry))
            })
            .collect(),
        _ => Vec::new(),
    };
    let readable = kind != "button" && query.flags & V4L2_CTRL_FLAG_WRITE_ONLY == 0;
    let value = readable
        .then(|| device.control(query.id, is_wide(query)).ok())
        .flatten();
    // Bit 31 is not a sign there.
    let unsigned = |value: i64| match kind {
        "bitmask" => value & 0xffff_ffff,
        _ => value,
    };
    Some(Control {
        name: normalise(&name_of(query)),
        kind,
        minimum: query.minimum,
        maximum: unsigned(query.maximum),
        step: i64::try_from(query.step).unwrap_or(i64::MAX),
        default: unsigned(query.default_value),
        value: value.map(unsigned),
        menu,
        locked: query.flags
            & (V4L2_CTRL_FLAG_READ_ONLY | V4L2_CTRL_FLAG_INACTIVE | V4L2_CTRL_FLAG_GRABBED)
            != 0,
    })
}

/// Whether the control takes this value; the error says why not. (Steps are the driver's business: it rounds.)
fn check(control: &Control, value: i64) -> Result<(), String> {
    let Control {
        name,
        kind,
        minimum,
        maximum,
        ..
    } = control;
    if control.locked {
        return Err(format!(
            "{name} cannot be set now: it is read-only, in use, or switched off by another control (an automatic one?)"
        ));
    }
    match *kind {
        "button" => Ok(()),
        "bitmask" if value & !maximum == 0 => Ok(()),
        "bitmask" => Err(format!("{name} = {value}: bits outside of {maximum:#x}")),
        "menu" | "integer_menu" if control.menu.iter().any(|(entry, _)| *entry == value) => Ok(()),
        "menu" | "integer_menu" => {
            let entries: Vec<String> = control
                .menu
                .iter()
                .map(|(entry, text)| format!("{entry} ({text})"))
                .collect();
            Err(format!(
                "{name} = {value}: must be one of {}",
                entries.join(", ")
            ))
        }
        _ if (*minimum..=*maximum).contains(&value) => Ok(()),
        _ => Err(format!("{name} = {value}: must be {minimum} to {maximum}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(kind: &'static str, minimum: i64, maximum: i64) -> Control {
        Control {
            name: "x".into(),
            kind,
            minimum,
            maximum,
            step: 1,
            default: 0,
            value: Some(0),
            menu: Vec::new(),
            locked: false,
        }
    }

    #[test]
    fn names_are_those_of_v4l2_ctl() {
        assert_eq!(
            normalise("White Balance, Automatic"),
            "white_balance_automatic"
        );
        assert_eq!(normalise("Exposure (Absolute)"), "exposure_absolute");
        assert_eq!(normalise("  Gain -- 2 "), "gain_2");
        assert_eq!(normalise("(?)"), "");
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_range() {
        let gain = control("integer", -64, 64);
        assert_eq!(check(&gain, -64), Ok(()));
        assert_eq!(check(&gain, 65), Err("x = 65: must be -64 to 64".into()));
        assert!(check(&control("boolean", 0, 1), 2).is_err());
    }

    #[test]
    fn a_menu_takes_its_entries_only() {
        let mut menu = control("menu", 0, 3);
        menu.menu = vec![(1, "Manual".into()), (3, "Aperture".into())];
        assert_eq!(check(&menu, 3), Ok(()));
        assert_eq!(
            check(&menu, 2),
            Err("x = 2: must be one of 1 (Manual), 3 (Aperture)".into())
        );
    }

    #[test]
    fn a_bitmask_takes_its_bits_only() {
        assert_eq!(
            check(&control("bitmask", 0, 0x8000_0001), 0x8000_0000),
            Ok(())
        );
        assert!(check(&control("bitmask", 0, 5), 2).is_err());
        assert!(check(&control("bitmask", 0, 5), -1).is_err());
    }

    #[test]
    fn a_locked_control_is_refused_whatever_the_value() {
        let mut locked = control("integer", 0, 10);
        locked.locked = true;
        assert!(check(&locked, 5).unwrap_err().contains("cannot be set now"));
        assert_eq!(check(&control("button", 0, 0), 7), Ok(()));
    }
}
