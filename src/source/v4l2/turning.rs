//! Turning by the camera itself: through its controls "horizontal_flip", "vertical_flip" and "rotate" (V4L2_CID_HFLIP,
//! V4L2_CID_VFLIP and V4L2_CID_ROTATE).
//!
//! V4L2 does not say which comes first if a picture is mirrored and rotated, so only one of the two is ever used, and
//! only while the other is at rest. The same caution leaves all three alone if the configuration sets any of them. Nor
//! does it say which way "rotate" turns: it is taken for clockwise, as the Raspberry Pi's camera driver has it.

use std::ops::Deref;

use log::debug;

use super::controls;
use crate::picture::frame::Orientation;
use crate::source::control::{Control, ControlError};
use crate::source::say;
use crate::system::v4l2::device::Device;

const HFLIP: &str = "horizontal_flip";
const VFLIP: &str = "vertical_flip";
const ROTATE: &str = "rotate";

/// The controls of something.
pub trait Controls {
    fn list(&self) -> Vec<Control>;

    fn find(&self, name: &str) -> Option<Control> {
        self.list().into_iter().find(|control| control.name == name)
    }

    fn set(&self, name: &str, value: i64) -> Result<(), ControlError>;
}

impl Controls for Device {
    fn list(&self) -> Vec<Control> {
        controls::list(self)
    }

    fn find(&self, name: &str) -> Option<Control> {
        controls::find(self, name)
    }

    fn set(&self, name: &str, value: i64) -> Result<(), ControlError> {
        controls::set(self, name, value)
    }
}

/// A device that may turn its pictures. Dropping it puts its controls back to what they were, as well as it can: else a
/// changed configuration would find the camera upside down.
///
/// Invariant: what the camera does, and then `left`, is `wanted`.
pub struct Turning<C: Controls> {
    camera: C,
    wanted: Orientation,
    left: Orientation,
    transposed: bool,
    /// Controls that were changed, and their values before.
    changed: Vec<(&'static str, i64)>,
}

impl<C: Controls> Turning<C> {
    /// Sets what controls the camera has. To be called before VIDIOC_S_FMT, as V4L2 wants it for "rotate". `theirs`:
    /// what the user sets.
    pub fn new(camera: C, wanted: Orientation, theirs: &[(String, i64)]) -> Self {
        let mut turning = Turning {
            camera,
            wanted,
            left: wanted,
            transposed: false,
            changed: Vec::new(),
        };
        let is_ours = |name: &str| [HFLIP, VFLIP, ROTATE].contains(&name);
        if wanted != Orientation::UPRIGHT && !theirs.iter().any(|(name, _)| is_ours(name)) {
            turning.turn();
        }
        turning
    }

    /// What is left to do.
    pub fn left(&self) -> Orientation {
        self.left
    }

    /// Whether the camera's pictures have width and height exchanged.
    pub fn transposed(&self) -> bool {
        self.transposed
    }

    /// The controls that others have to leave alone.
    pub fn in_use(&self) -> Vec<&'static str> {
        self.changed.iter().map(|(name, _)| *name).collect()
    }

    fn turn(&mut self) {
        let all = self.camera.list();
        let find = |name: &str| all.iter().find(|control| control.name == name);
        // One that cannot be read is not known to be at rest.
        let rests = |name: &str| find(name).is_none_or(|control| control.value == Some(0));
        let takes = |name: &str, value: i64| find(name).is_some_and(|c| takes(c, value));
        let Orientation {
            transpose,
            mirror_x,
            mirror_y,
        } = self.wanted;
        let both_flips = takes(HFLIP, 1) && takes(VFLIP, 1);
        if transpose || (mirror_x && mirror_y && !both_flips && takes(ROTATE, 180)) {
            if !rests(HFLIP) || !rests(VFLIP) {
                return;
            }
            // Clockwise, as camd's. Of the two ways to exchange the sides, the one that leaves nothing goes first.
            let [first, second] = match (transpose, mirror_x) {
                (false, _) => [2, 2],
                (true, true) => [1, 3],
                (true, false) => [3, 1],
            };
            let degrees = |quarters| 90 * i64::from(quarters);
            let quarters = if takes(ROTATE, degrees(first)) {
                first
            } else {
                second
            };
            if takes(ROTATE, degrees(quarters)) && self.set(&all, ROTATE, degrees(quarters)) {
                let done = Orientation::quarters(quarters);
                self.transposed = transpose;
                self.left = Orientation::UPRIGHT
                    .mirrored(mirror_x ^ done.mirror_x, mirror_y ^ done.mirror_y);
            }
        } else if rests(ROTATE) {
            if mirror_x && takes(HFLIP, 1) && self.set(&all, HFLIP, 1) {
                self.left.mirror_x = false;
            }
            if mirror_y && takes(VFLIP, 1) && self.set(&all, VFLIP, 1) {
                self.left.mirror_y = false;
            }
        }
    }

    /// Sets a control of `all`, and looks whether it is set then.
    fn set(&mut self, all: &[Control], name: &'static str, value: i64) -> bool {
        let read = |all: &[Control]| all.iter().find(|c| c.name == name).and_then(|c| c.value);
        let Some(before) = read(all) else {
            // It could not be put back.
            return false;
        };
        if before == value {
            return true;
        }
        let result = self.camera.set(name, value);
        let now = read(&self.camera.list());
        match result {
            Ok(()) if now == Some(value) => {
                self.changed.push((name, before));
                return true;
            }
            Ok(()) => say::warn(format_args!(
                "camera: {name} was set to {value}, and is {now:?} now"
            )),
            Err(why) => say::warn(format_args!("camera: {name} = {value}: {why}")),
        }
        if now != Some(before) {
            self.restore(name, before);
        }
        false
    }

    /// Makes the camera do nothing of it: everything is left.
    pub fn give_up(&mut self) {
        self.put_back();
        self.left = self.wanted;
        self.transposed = false;
    }

    fn put_back(&mut self) {
        while let Some((name, value)) = self.changed.pop() {
            self.restore(name, value);
        }
    }

    fn restore(&self, name: &str, value: i64) {
        if let Err(why) = self.camera.set(name, value) {
            // Unplugged, mostly: then it has forgotten by itself.
            debug!("camera: {name} is not put back to {value}: {why}");
        }
    }
}

/// Whether a control takes this value, as far as it says.
fn takes(control: &Control, value: i64) -> bool {
    !control.locked
        && (control.minimum..=control.maximum).contains(&value)
        && (control.step <= 1 || (value - control.minimum) % control.step == 0)
        && (control.menu.is_empty() || control.menu.iter().any(|(entry, _)| *entry == value))
}

impl<C: Controls> Deref for Turning<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.camera
    }
}

impl<C: Controls> Drop for Turning<C> {
    fn drop(&mut self) {
        self.put_back();
    }
}

#[cfg(test)]
#[path = "turning_tests.rs"]
mod tests;
