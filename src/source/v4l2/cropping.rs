//! Cropping by the driver itself: V4L2's selection API (VIDIOC_G_SELECTION, VIDIOC_S_SELECTION with V4L2_SEL_TGT_CROP).
//!
//! The rectangle is in the coordinates of the sensor, which a driver may scale to the size of the picture, or not. camd
//! first has the whole picture set up, with the driver's default rectangle. Then it asks for the part of that rectangle which
//! the wanted part of the picture stands for, and for a picture that is as much smaller. Both answers have to fit each other,
//! pixel for pixel: a driver that would rather enlarge the part, or moves it, is put back, and camd crops. What the driver
//! grants more than was asked for, camd cuts off.
//!
//! V4L2 does not say whether the rectangle is that of the turned picture: where the driver turns, camd crops.

use std::cell::Cell;
use std::ops::Deref;

use log::debug;

use super::turning::Controls;
use crate::picture::frame::{Area, Size};
use crate::source::control::{Control, ControlError};
use crate::source::interface::Cropped;
use crate::system::v4l2::device::{Device, Rect, Target};

/// What can be asked for a part of its pictures.
pub trait Selects {
    /// `None`: it has no such rectangle.
    fn selection(&self, target: Target) -> Option<Rect>;

    /// What the driver makes of it; `None`: an error.
    fn select(&self, rect: Rect) -> Option<Rect>;
}

impl Selects for Device {
    fn selection(&self, target: Target) -> Option<Rect> {
        // ENOTTY and EINVAL are the rule here: most cameras crop nothing.
        let got = Device::selection(self, target);
        got.inspect_err(|why| debug!("camera: {why:?}")).ok()
    }

    fn select(&self, rect: Rect) -> Option<Rect> {
        let got = Device::select(self, rect);
        got.inspect_err(|why| debug!("camera: {rect:?}: {why:?}"))
            .ok()
    }
}

/// A device that may crop its pictures. Dropping it puts its rectangle back to what that was, as well as it can.
pub struct Cropping<D: Selects> {
    device: D,
    /// The rectangle that was there before; `None`: it is there still.
    before: Cell<Option<Rect>>,
}

impl<D: Selects> Cropping<D> {
    /// Changes nothing yet.
    pub fn new(device: D) -> Self {
        Cropping {
            device,
            before: Cell::new(None),
        }
    }

    /// To be called before VIDIOC_S_FMT where pictures are to be cropped: another program, or a camd that was killed, may
    /// have left a part behind, and what counts is the whole.
    pub fn begin(&self) {
        let rect = |target| self.device.selection(target);
        let (Some(now), Some(default)) = (rect(Target::Crop), rect(Target::CropDefault)) else {
            return;
        };
        if now != default && default.is_some() {
            self.change(now, default);
        }
    }

    /// Has the driver crop, after VIDIOC_S_FMT has given whole pictures of the size `whole`. `resize` asks for another size
    /// by VIDIOC_S_FMT, and gives what it became. `None`: it crops nothing, and its pictures are to be set up again if
    /// anything was changed, which is what the second one says.
    pub fn crop(
        &self,
        part: Area,
        whole: Size,
        resize: impl FnOnce((u32, u32)) -> Option<(u32, u32)>,
    ) -> (Option<Cropped>, bool) {
        let Some(full) = self.device.selection(Target::Crop).filter(Rect::is_some) else {
            return (None, false);
        };
        let (x, y) = (
            Axis::new(full.left, full.width, whole.width),
            Axis::new(full.top, full.height, whole.height),
        );
        let (left, width) = x.to_sensor(part.x, part.width);
        let (top, height) = y.to_sensor(part.y, part.height);
        let wanted = Rect {
            left,
            top,
            width,
            height,
        };
        if wanted == full {
            return (None, false);
        }
        let Some(got) = self.change(full, wanted) else {
            return (None, true);
        };
        let fits = || {
            let (x, width) = x.to_picture(got.left, got.width)?;
            let (y, height) = y.to_picture(got.top, got.height)?;
            let area = Area {
                x,
                y,
                width,
                height,
            };
            let has_all = area.x <= part.x
                && area.y <= part.y
                && area.x + area.width >= part.x + part.width
                && area.y + area.height >= part.y + part.height;
            if !has_all || area == Area::all(whole) {
                return None;
            }
            let size = (area.width.into(), area.height.into());
            let is_so = resize(size)? == size && self.device.selection(Target::Crop)? == got;
            is_so.then_some(Cropped { whole, area })
        };
        match fits() {
            Some(cropped) => (Some(cropped), true),
            None => {
                debug!("camera: it grants {got:?} for {wanted:?} of {full:?}, so camd crops");
                self.device.select(full);
                (None, true)
            }
        }
    }

    /// From `now` to `rect`.
    fn change(&self, now: Rect, rect: Rect) -> Option<Rect> {
        if self.before.get().is_none() {
            self.before.set(Some(now));
        }
        self.device.select(rect)
    }
}

/// One side of a picture that shows a side of the sensor.
#[derive(Clone, Copy)]
struct Axis {
    begin: i64,
    sensor: i64,
    picture: i64,
}

impl Axis {
    fn new(begin: i32, sensor: u32, picture: u16) -> Self {
        Axis {
            begin: begin.into(),
            sensor: sensor.into(),
            picture: picture.into(),
        }
    }

    /// Begin and length of what has this part of the picture: rounded to more.
    fn to_sensor(self, at: u16, side: u16) -> (i32, u32) {
        let begin = i64::from(at) * self.sensor / self.picture;
        let end = (i64::from(at) + i64::from(side)) * self.sensor;
        let end = end / self.picture + i64::from(end % self.picture != 0);
        ((self.begin + begin) as i32, (end - begin) as u32)
    }

    /// The part of the picture that this is; `None`: it is none in whole pixels.
    fn to_picture(self, begin: i32, side: u32) -> Option<(u16, u16)> {
        let pixels = |sensor: i64| {
            let scaled = sensor * self.picture;
            (scaled % self.sensor == 0).then_some(scaled / self.sensor)
        };
        let at = pixels(i64::from(begin) - self.begin)?;
        let side = pixels(side.into())?;
        let is_within = at >= 0 && side > 0 && at + side <= self.picture;
        // Within the picture, whose sides have 16 bits.
        is_within.then_some((at as u16, side as u16))
    }
}

impl<D: Selects + Controls> Controls for Cropping<D> {
    fn list(&self) -> Vec<Control> {
        self.device.list()
    }

    fn find(&self, name: &str) -> Option<Control> {
        self.device.find(name)
    }

    fn set(&self, name: &str, value: i64) -> Result<(), ControlError> {
        self.device.set(name, value)
    }
}

impl<D: Selects> Deref for Cropping<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.device
    }
}

impl<D: Selects> Drop for Cropping<D> {
    fn drop(&mut self) {
        if let Some(before) = self.before.get() {
            // In vain where it is unplugged: then it has forgotten by itself.
            self.device.select(before);
        }
    }
}

#[cfg(test)]
#[path = "cropping_tests.rs"]
mod tests;
