//! Cropping by a made-up driver.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;

/// How a driver crops.
#[derive(Clone, Copy, Default)]
struct Manner {
    /// It knows no selection.
    deaf: bool,
    /// VIDIOC_S_SELECTION is an error.
    refuses: bool,
    /// Rectangles begin and end with multiples of this, outside of what is asked for.
    step: u32,
    /// Rectangles become smaller than asked for.
    inwards: bool,
    /// VIDIOC_S_FMT gives nothing but this.
    fixed: Option<(u32, u32)>,
    /// VIDIOC_S_FMT puts the rectangle back.
    forgets: bool,
}

/// Shared with the test, which looks at it after the camera is dropped.
#[derive(Clone)]
struct Sensor(Rc<RefCell<State>>);

struct State {
    manner: Manner,
    default: Rect,
    crop: Rect,
    format: (u32, u32),
    selected: usize,
}

const fn rect(left: i32, top: i32, width: u32, height: u32) -> Rect {
    Rect {
        left,
        top,
        width,
        height,
    }
}

const fn area(x: u16, y: u16, width: u16, height: u16) -> Area {
    Area {
        x,
        y,
        width,
        height,
    }
}

const WHOLE: Size = Size {
    width: 640,
    height: 480,
};

impl Sensor {
    /// One that shows so much as 640x480.
    fn new(default: Rect, manner: Manner) -> Self {
        Sensor(Rc::new(RefCell::new(State {
            manner,
            default,
            crop: default,
            format: (640, 480),
            selected: 0,
        })))
    }

    fn resize(&self, wanted: (u32, u32)) -> Option<(u32, u32)> {
        let mut state = self.0.borrow_mut();
        state.format = state.manner.fixed.unwrap_or(wanted);
        if state.manner.forgets {
            state.crop = state.default;
        }
        Some(state.format)
    }

    /// What comes of it, and whether anything was touched.
    fn crop(&self, part: Area) -> (Cropping<Sensor>, Option<Cropped>, bool) {
        let cropping = Cropping::new(self.clone());
        cropping.begin();
        let (cropped, touched) = cropping.crop(part, WHOLE, |size| self.resize(size));
        (cropping, cropped, touched)
    }

    fn now(&self) -> Rect {
        self.0.borrow().crop
    }
}

impl Selects for Sensor {
    fn selection(&self, target: Target) -> Option<Rect> {
        let state = self.0.borrow();
        (!state.manner.deaf).then_some(match target {
            Target::Crop => state.crop,
            Target::CropDefault => state.default,
        })
    }

    fn select(&self, rect: Rect) -> Option<Rect> {
        let mut state = self.0.borrow_mut();
        state.selected += 1;
        if state.manner.deaf || state.manner.refuses {
            return None;
        }
        let step = state.manner.step.max(1) as i32;
        let side = |begin: i32, side: u32| {
            let end = begin + side as i32;
            let (begin, end) = match state.manner.inwards {
                true => ((begin + step - 1) / step * step, end / step * step),
                false => (begin / step * step, (end + step - 1) / step * step),
            };
            (begin, (end - begin) as u32)
        };
        let (left, width) = side(rect.left, rect.width);
        let (top, height) = side(rect.top, rect.height);
        state.crop = Rect {
            left,
            top,
            width,
            height,
        };
        Some(state.crop)
    }
}

#[test]
fn a_driver_that_crops_gives_the_part_and_gets_its_rectangle_back() {
    let full = rect(8, 4, 640, 480);
    let sensor = Sensor::new(full, Manner::default());
    let part = area(100, 51, 320, 201);
    let (cropping, cropped, _) = sensor.crop(part);
    let whole = WHOLE;
    assert_eq!(cropped, Some(Cropped { whole, area: part }));
    assert_eq!(sensor.now(), rect(108, 55, 320, 201));
    assert_eq!(sensor.0.borrow().format, (320, 201));
    drop(cropping);
    assert_eq!(sensor.now(), full);
}

#[test]
fn what_the_driver_grants_beyond_the_part_is_left_to_camd() {
    let manner = Manner {
        step: 32,
        ..Manner::default()
    };
    let sensor = Sensor::new(rect(0, 0, 640, 480), manner);
    let (_cropping, cropped, _) = sensor.crop(area(100, 51, 320, 201));
    // 96 to 448, 32 to 256.
    let granted = area(96, 32, 352, 224);
    assert_eq!(cropped.map(|cropped| cropped.area), Some(granted));
    assert_eq!(sensor.0.borrow().format, (352, 224));
}

#[test]
fn a_scaled_picture_is_cropped_in_whole_pixels_or_not_at_all() {
    // Four pixels of the sensor in each pixel of the picture.
    let sensor = Sensor::new(rect(16, 16, 2560, 1920), Manner::default());
    let (_cropping, cropped, _) = sensor.crop(area(10, 20, 300, 200));
    assert_eq!(cropped.map(|c| c.area), Some(area(10, 20, 300, 200)));
    assert_eq!(sensor.now(), rect(56, 96, 1200, 800));
    // Four and a bit: 650 columns in 640.
    let full = rect(0, 0, 650, 480);
    let sensor = Sensor::new(full, Manner::default());
    let (_cropping, cropped, touched) = sensor.crop(area(10, 20, 300, 200));
    assert_eq!((cropped, touched), (None, true));
    assert_eq!(sensor.now(), full);
    let (_cropping, cropped, _) = sensor.crop(area(64, 20, 320, 200));
    assert_eq!(cropped.map(|c| c.area), Some(area(64, 20, 320, 200)));
}

#[test]
fn drivers_that_cannot_are_left_as_they_were() {
    let full = rect(0, 0, 640, 480);
    let plain = Manner::default();
    for (what, manner, touches) in [
        (
            "knows nothing of it",
            Manner {
                deaf: true,
                ..plain
            },
            false,
        ),
        (
            "refuses",
            Manner {
                refuses: true,
                ..plain
            },
            true,
        ),
        (
            "grants less",
            Manner {
                inwards: true,
                step: 32,
                ..plain
            },
            true,
        ),
        (
            "grants all",
            Manner {
                step: 1920,
                ..plain
            },
            true,
        ),
        (
            "enlarges the part",
            Manner {
                fixed: Some((640, 480)),
                ..plain
            },
            true,
        ),
        (
            "forgets",
            Manner {
                forgets: true,
                ..plain
            },
            true,
        ),
    ] {
        let sensor = Sensor::new(full, manner);
        let (cropping, cropped, touched) = sensor.crop(area(100, 51, 320, 201));
        assert_eq!((cropped, touched), (None, touches), "{what}");
        drop(cropping);
        if manner.step != 1920 {
            assert_eq!(sensor.now(), full, "{what}");
        }
    }
    // All of it: there is nothing to do.
    let sensor = Sensor::new(full, plain);
    let (cropping, cropped, touched) = sensor.crop(area(0, 0, 640, 480));
    assert_eq!((cropped, touched), (None, false));
    drop(cropping);
    assert_eq!(sensor.0.borrow().selected, 0);
}

#[test]
fn a_part_that_was_left_behind_is_no_whole_picture() {
    let full = rect(0, 0, 640, 480);
    let sensor = Sensor::new(full, Manner::default());
    let theirs = rect(20, 20, 100, 100);
    sensor.0.borrow_mut().crop = theirs;
    let (cropping, cropped, _) = sensor.crop(area(10, 20, 300, 200));
    assert_eq!(cropped.map(|c| c.area), Some(area(10, 20, 300, 200)));
    assert_eq!(sensor.now(), rect(10, 20, 300, 200));
    // It may be another program's.
    drop(cropping);
    assert_eq!(sensor.now(), theirs);
}
