//! Turning by made-up controls.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Obeys,
    /// An error.
    Refuses,
    /// No error, but no effect either.
    Ignores,
    /// Neither, but another value.
    Mistakes,
}

/// Shared with the test, which looks at it after the camera is dropped.
#[derive(Clone, Default)]
struct Knobs(Rc<RefCell<Vec<(Control, Manner)>>>);

impl Knobs {
    fn with(self, name: &str, maximum: i64, step: i64) -> Self {
        let control = Control {
            name: name.into(),
            kind: "integer",
            minimum: 0,
            maximum,
            step,
            default: 0,
            value: Some(0),
            menu: Vec::new(),
            locked: false,
        };
        self.0.borrow_mut().push((control, Manner::Obeys));
        self
    }

    fn flips() -> Self {
        Knobs::default().with(HFLIP, 1, 1).with(VFLIP, 1, 1)
    }

    fn rotates(self) -> Self {
        self.with(ROTATE, 360, 90)
    }

    fn but(self, name: &str, change: impl FnOnce(&mut Control)) -> Self {
        let mut all = self.0.borrow_mut();
        change(&mut all.iter_mut().find(|(c, _)| c.name == name).unwrap().0);
        drop(all);
        self
    }

    fn that(self, name: &str, manner: Manner) -> Self {
        let mut all = self.0.borrow_mut();
        all.iter_mut().find(|(c, _)| c.name == name).unwrap().1 = manner;
        drop(all);
        self
    }

    fn values(&self) -> Vec<i64> {
        let all = self.0.borrow();
        all.iter()
            .filter_map(|(control, _)| control.value)
            .collect()
    }
}

impl Controls for Knobs {
    fn list(&self) -> Vec<Control> {
        self.0.borrow().iter().map(|(c, _)| c.clone()).collect()
    }

    fn set(&self, name: &str, value: i64) -> Result<(), ControlError> {
        let mut all = self.0.borrow_mut();
        let (control, manner) = all
            .iter_mut()
            .find(|(control, _)| control.name == name)
            .ok_or(ControlError::Unknown)?;
        match manner {
            Manner::Refuses => return Err(ControlError::Refused("not today".into())),
            Manner::Ignores => {}
            // Once.
            Manner::Mistakes => {
                control.value = Some(value + 1);
                *manner = Manner::Obeys;
            }
            Manner::Obeys => control.value = Some(value),
        }
        Ok(())
    }
}

const UPRIGHT: Orientation = Orientation::UPRIGHT;

/// What the controls become (in the order in which they were made), what is left, and whether the sides are exchanged;
/// after that, all controls are as before.
fn turned(knobs: Knobs, wanted: Orientation) -> (Vec<i64>, Orientation, bool) {
    let before = knobs.values();
    let turning = Turning::new(knobs.clone(), wanted, &[]);
    let result = (knobs.values(), turning.left(), turning.transposed());
    drop(turning);
    assert_eq!(knobs.values(), before, "put back");
    result
}

#[test]
fn a_camera_that_mirrors() {
    let [x, y] = [(true, false), (false, true)].map(|(x, y)| UPRIGHT.mirrored(x, y));
    assert_eq!(
        turned(Knobs::flips(), UPRIGHT),
        (vec![0, 0], UPRIGHT, false)
    );
    assert_eq!(turned(Knobs::flips(), x), (vec![1, 0], UPRIGHT, false));
    assert_eq!(turned(Knobs::flips(), y), (vec![0, 1], UPRIGHT, false));
    let half = Orientation::quarters(2);
    assert_eq!(turned(Knobs::flips(), half), (vec![1, 1], UPRIGHT, false));
    // Half a turn and a mirror at the side are one mirror at the top.
    assert_eq!(
        turned(Knobs::flips(), half.mirrored(true, false)),
        (vec![0, 1], UPRIGHT, false)
    );
    // Nothing of a quarter turn.
    for quarters in [1, 3] {
        let quarter = Orientation::quarters(quarters);
        assert_eq!(
            turned(Knobs::flips(), quarter),
            (vec![0, 0], quarter, false)
        );
    }
    let one = Knobs::default().with(VFLIP, 1, 1);
    assert_eq!(turned(one.clone(), half), (vec![1], x, false));
    assert_eq!(turned(one, x), (vec![0], x, false));
    assert_eq!(turned(Knobs::default(), half), (vec![], half, false));
}

#[test]
fn a_camera_that_rotates() {
    let all = || Knobs::flips().rotates();
    for (quarters, degrees) in [(1, 90), (3, 270)] {
        let quarter = Orientation::quarters(quarters);
        assert_eq!(turned(all(), quarter), (vec![0, 0, degrees], UPRIGHT, true));
        // The mirrors would be before or after the rotation: they are left.
        for (x, y) in [(true, false), (false, true)] {
            let both = quarter.mirrored(x, y);
            let (values, left, transposed) = turned(all(), both);
            assert_eq!((&values[..2], transposed), (&[0, 0][..], true));
            let done = Orientation::quarters((values[2] / 90) as u8);
            assert_eq!(done.mirrored(left.mirror_x, left.mirror_y), both);
            assert!(!left.transpose);
        }
    }
    let half = Orientation::quarters(2);
    assert_eq!(turned(all(), half), (vec![1, 1, 0], UPRIGHT, false));
    let alone = || Knobs::default().rotates();
    assert_eq!(turned(alone(), half), (vec![180], UPRIGHT, false));
    let mirror = UPRIGHT.mirrored(true, false);
    assert_eq!(turned(alone(), mirror), (vec![0], mirror, false));
    // By one quarter only: camd does the other two.
    let one = Knobs::default().with(ROTATE, 90, 90);
    let three = Orientation::quarters(3);
    assert_eq!(turned(one, three), (vec![90], half, true));
    // By halves only.
    let halves = Knobs::default().with(ROTATE, 180, 180);
    let quarter = Orientation::quarters(1);
    assert_eq!(turned(halves.clone(), quarter), (vec![0], quarter, false));
    assert_eq!(turned(halves, half), (vec![180], UPRIGHT, false));
}

#[test]
fn never_both_at_once() {
    let quarter = Orientation::quarters(1);
    let mirrored = Knobs::flips().rotates().but(VFLIP, |c| c.value = Some(1));
    assert_eq!(turned(mirrored, quarter), (vec![0, 1, 0], quarter, false));
    let rotated = Knobs::flips().rotates().but(ROTATE, |c| c.value = Some(90));
    let mirror = UPRIGHT.mirrored(true, false);
    assert_eq!(turned(rotated, mirror), (vec![0, 0, 90], mirror, false));
}

#[test]
fn a_control_that_does_not_do_it_leaves_it_to_camd() {
    let half = Orientation::quarters(2);
    for manner in [Manner::Refuses, Manner::Ignores, Manner::Mistakes] {
        // One fails, the other does its part.
        let knobs = Knobs::flips().that(VFLIP, manner);
        let y = UPRIGHT.mirrored(false, true);
        assert_eq!(turned(knobs, half), (vec![1, 0], y, false));
        let quarter = Orientation::quarters(3);
        let knobs = Knobs::default().rotates().that(ROTATE, manner);
        assert_eq!(turned(knobs, quarter), (vec![0], quarter, false));
    }
    let locked = Knobs::flips().but(HFLIP, |c| c.locked = true);
    let x = UPRIGHT.mirrored(true, false);
    assert_eq!(turned(locked, x), (vec![0, 0], x, false));
    let unreadable = Knobs::flips().but(HFLIP, |c| c.value = None);
    assert_eq!(turned(unreadable, x), (vec![0], x, false));
}

#[test]
fn what_is_as_wanted_already_stays() {
    let x = UPRIGHT.mirrored(true, false);
    let knobs = Knobs::flips().but(HFLIP, |c| c.value = Some(1));
    assert_eq!(turned(knobs, x), (vec![1, 0], UPRIGHT, false));
}

#[test]
fn the_users_controls_are_theirs() {
    let half = Orientation::quarters(2);
    for name in [HFLIP, VFLIP, ROTATE] {
        let knobs = Knobs::flips().rotates();
        let theirs = [("brightness".to_owned(), 3), (name.to_owned(), 0)];
        let turning = Turning::new(knobs.clone(), half, &theirs);
        assert_eq!((knobs.values(), turning.left()), (vec![0, 0, 0], half));
    }
    let knobs = Knobs::flips();
    let turning = Turning::new(knobs.clone(), half, &[("brightness".to_owned(), 3)]);
    assert_eq!((knobs.values(), turning.left()), (vec![1, 1], UPRIGHT));
}

#[test]
fn given_up_everything_is_left() {
    let quarter = Orientation::quarters(1).mirrored(true, false);
    let knobs = Knobs::flips().rotates();
    let mut turning = Turning::new(knobs.clone(), quarter, &[]);
    assert!(turning.transposed() && turning.left() != quarter);
    turning.give_up();
    assert_eq!(knobs.values(), [0, 0, 0]);
    assert_eq!((turning.left(), turning.transposed()), (quarter, false));
}
