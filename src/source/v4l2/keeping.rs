//! Controls that stay set, whatever the driver does: some forget them when the size is set or the stream starts (several
//! UVC cameras: focus and exposure), some take none before that, and all when they are plugged in again.
//!
//! They are set before the stream starts, as some only count then; again once it runs; and read back with the first
//! picture, and set once more where they are another. Always all of them, in the order of the configuration, as some unlock
//! others. What a viewer has set takes the place of what the configuration has, or comes after it, until camd ends or
//! reads another configuration for the camera.

use log::warn;

use super::turning::Controls;
use crate::source::control::{Control, ControlError};

/// What has been said is kept, so that it is not said again with each start; not more than this.
const SAID_MOST: usize = 64;

const BUTTON: &str = "button";

/// The controls of one camera that are to stay.
pub struct Keeper {
    /// In the order in which they are set.
    wanted: Vec<(String, i64)>,
    /// The first picture since the start is still to come.
    unchecked: bool,
    said: Vec<String>,
}

impl Keeper {
    /// Those of the configuration, in its order.
    pub fn new(configured: &[(String, i64)]) -> Self {
        Keeper {
            wanted: configured.to_vec(),
            unchecked: false,
            said: Vec::new(),
        }
    }

    /// A viewer has set one, and the camera has taken it.
    pub fn keep(&mut self, camera: &impl Controls, name: &str, value: i64) {
        if camera
            .find(name)
            .is_none_or(|control| control.kind == BUTTON)
        {
            return;
        }
        match self.wanted.iter_mut().find(|(wanted, _)| wanted == name) {
            Some((_, wanted)) => *wanted = value,
            None => self.wanted.push((name.to_owned(), value)),
        }
    }

    /// The stream is about to start. What does not work now may work then.
    pub fn before_start(&self, camera: &impl Controls, left_alone: &[&str]) {
        for (name, value) in self.but(left_alone) {
            // A button would be pressed twice.
            if camera
                .find(name)
                .is_some_and(|control| control.kind != BUTTON)
                && let Err(why) = camera.set(name, value)
            {
                log::debug!("camera: {name} = {value} before the stream starts: {why}");
            }
        }
    }

    /// The stream runs. `path` is that of the camera.
    pub fn after_start(&mut self, path: &str, camera: &impl Controls, left_alone: &[&str]) {
        self.unchecked = true;
        let mut failures = Vec::new();
        for (name, value) in self.but(left_alone) {
            match camera.set(name, value) {
                Ok(()) => {}
                Err(ControlError::Unknown) => failures.push(format!(
                    "{path}: no control {name:?} (`camd devices` lists them)"
                )),
                // The first picture tells whether it matters.
                Err(ControlError::Refused(why)) => log::debug!("{path}: not set: {why}"),
            }
        }
        self.say(failures);
    }

    /// Whether [`Keeper::check`] is due with the next picture.
    pub fn is_unchecked(&self) -> bool {
        self.unchecked
    }

    /// There is the first picture: looks whether they are set by now, and sets them once more if not.
    pub fn check(&mut self, path: &str, camera: &impl Controls, left_alone: &[&str]) {
        self.unchecked = false;
        let all: Vec<_> = self.but(left_alone).collect();
        let is_set = |&(name, value): &(&str, i64)| holds(camera.find(name), value);
        if all.iter().all(is_set) {
            return;
        }
        let mut failures = Vec::new();
        for &(name, value) in &all {
            let found = camera.find(name);
            if found.as_ref().is_none_or(|control| control.kind == BUTTON) {
                continue;
            }
            let result = camera.set(name, value);
            let now = camera.find(name);
            if holds(now.clone(), value) {
                continue;
            }
            let has = now.and_then(|control| control.value);
            failures.push(match (result, has) {
                (Err(why), _) => format!("{path}: control not set: {why}"),
                (Ok(()), Some(has)) => {
                    format!("{path}: {name} = {value}: the camera keeps {has} instead")
                }
                (Ok(()), None) => continue,
            });
        }
        self.say(failures);
    }

    fn but<'a>(&'a self, left_alone: &'a [&str]) -> impl Iterator<Item = (&'a str, i64)> {
        let wanted = self
            .wanted
            .iter()
            .map(|(name, value)| (name.as_str(), *value));
        wanted.filter(|(name, _)| !left_alone.contains(name))
    }

    /// Each only once.
    fn say(&mut self, failures: Vec<String>) {
        for text in failures {
            if !self.said.contains(&text) && self.said.len() < SAID_MOST {
                warn!("{text}");
                self.said.push(text);
            }
        }
    }
}

/// Whether a control has this value, as far as can be seen.
fn holds(control: Option<Control>, value: i64) -> bool {
    match control {
        Some(control) => control.kind == BUTTON || control.value.is_none_or(|now| now == value),
        // That there is none was said.
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A camera whose controls are numbers from 0 to 100.
    #[derive(Default)]
    struct Camera(RefCell<State>);

    #[derive(Default)]
    struct State {
        values: Vec<(&'static str, &'static str, i64)>,
        /// All that was set, in this order.
        log: Vec<(String, i64)>,
        streams: bool,
        takes_none_before: bool,
        /// Does not take more than this, and says nothing of it.
        most: Option<i64>,
    }

    impl Camera {
        fn new(names: &[&'static str]) -> Self {
            let values = names.iter().map(|name| (*name, "integer", 0)).collect();
            Camera(RefCell::new(State {
                values,
                ..State::default()
            }))
        }

        fn value(&self, name: &str) -> i64 {
            let state = self.0.borrow();
            state
                .values
                .iter()
                .find(|(own, ..)| *own == name)
                .unwrap()
                .2
        }

        /// What some cameras do when the stream starts, and later.
        fn forget(&self) {
            for (_, _, value) in &mut self.0.borrow_mut().values {
                *value = 0;
            }
        }

        fn log(&self) -> Vec<(String, i64)> {
            std::mem::take(&mut self.0.borrow_mut().log)
        }

        /// A whole start, in which it forgets `times` times.
        fn start(&self, keeper: &mut Keeper, times: u32) {
            self.0.borrow_mut().streams = false;
            keeper.before_start(self, &[]);
            if times > 0 {
                self.forget();
            }
            self.0.borrow_mut().streams = true;
            keeper.after_start("camera", self, &[]);
            if times > 1 {
                self.forget();
            }
            keeper.check("camera", self, &[]);
        }
    }

    impl Controls for Camera {
        fn list(&self) -> Vec<Control> {
            let state = self.0.borrow();
            let control = |&(name, kind, value): &(&str, &'static str, i64)| Control {
                name: name.to_owned(),
                kind,
                minimum: 0,
                maximum: 100,
                step: 1,
                default: 0,
                value: Some(value),
                menu: Vec::new(),
                locked: false,
            };
            state.values.iter().map(control).collect()
        }

        fn set(&self, name: &str, value: i64) -> Result<(), ControlError> {
            let mut state = self.0.borrow_mut();
            state.log.push((name.to_owned(), value));
            if state.takes_none_before && !state.streams {
                return Err(ControlError::Refused("not now".into()));
            }
            let most = state.most.unwrap_or(100);
            let own = state.values.iter_mut().find(|(own, ..)| *own == name);
            own.ok_or(ControlError::Unknown)?.2 = value.min(most);
            Ok(())
        }
    }

    fn keeper(wanted: &[(&str, i64)]) -> Keeper {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(name, n)| (name.to_string(), *n))
            .collect();
        Keeper::new(&wanted)
    }

    #[test]
    fn they_are_set_in_order_however_often_the_camera_forgets() {
        let in_order = [
            ("auto".to_owned(), 1),
            ("zoom".to_owned(), 7),
            ("focus".to_owned(), 9),
        ];
        for times in 0..3 {
            let camera = Camera::new(&["focus", "zoom", "auto"]);
            let mut keeper = keeper(&[("auto", 1), ("zoom", 7), ("focus", 9)]);
            camera.start(&mut keeper, times);
            let values = ["auto", "zoom", "focus"].map(|name| camera.value(name));
            assert_eq!(values, [1, 7, 9], "forgotten {times} times");
            for round in camera.log().chunks(3) {
                assert_eq!(round, in_order);
            }
            assert!(keeper.said.is_empty(), "{:?}", keeper.said);
        }
        // Only the first picture is looked at.
        let camera = Camera::new(&["focus"]);
        let mut keeper = keeper(&[("focus", 9)]);
        assert!(!keeper.is_unchecked());
        keeper.after_start("camera", &camera, &[]);
        assert!(keeper.is_unchecked());
        keeper.check("camera", &camera, &[]);
        assert!(!keeper.is_unchecked());
    }

    #[test]
    fn a_camera_that_takes_none_before_its_stream_gets_them_then() {
        let camera = Camera::new(&["focus"]);
        camera.0.borrow_mut().takes_none_before = true;
        let mut keeper = keeper(&[("focus", 9)]);
        camera.start(&mut keeper, 0);
        assert_eq!(camera.value("focus"), 9);
        assert!(keeper.said.is_empty(), "{:?}", keeper.said);
    }

    #[test]
    fn what_a_viewer_has_set_is_set_again_in_place_of_the_configured_one_or_after_it() {
        let camera = Camera::new(&["auto", "focus", "zoom", "snap"]);
        camera.0.borrow_mut().values[3].1 = BUTTON;
        let mut keeper = keeper(&[("auto", 1), ("focus", 9)]);
        camera.start(&mut keeper, 0);
        keeper.keep(&camera, "zoom", 5);
        keeper.keep(&camera, "auto", 2);
        keeper.keep(&camera, "zoom", 6);
        keeper.keep(&camera, "snap", 1);
        keeper.keep(&camera, "none", 1);
        camera.forget();
        camera.log();
        camera.start(&mut keeper, 1);
        let expected = [
            ("auto".to_owned(), 2),
            ("focus".to_owned(), 9),
            ("zoom".to_owned(), 6),
        ];
        let log = camera.log();
        assert_eq!(log.len(), 6, "{log:?}");
        assert!(log.chunks(3).all(|round| round == expected), "{log:?}");
    }

    #[test]
    fn what_a_camera_does_not_keep_is_said_once() {
        let camera = Camera::new(&["focus"]);
        camera.0.borrow_mut().most = Some(8);
        let mut keeper = keeper(&[("focus", 9), ("none", 3)]);
        for _ in 0..3 {
            camera.start(&mut keeper, 2);
        }
        assert_eq!(keeper.said.len(), 2, "{:?}", keeper.said);
        assert!(keeper.said.iter().any(|text| text.contains("keeps 8")));
        assert!(
            keeper
                .said
                .iter()
                .any(|text| text.contains("no control \"none\""))
        );
    }

    #[test]
    fn those_with_which_camd_turns_are_left_alone_and_buttons_are_pressed_once() {
        let camera = Camera::new(&["flip", "snap"]);
        camera.0.borrow_mut().values[1].1 = BUTTON;
        let mut keeper = keeper(&[("flip", 1), ("snap", 1)]);
        keeper.before_start(&camera, &["flip"]);
        keeper.after_start("camera", &camera, &["flip"]);
        keeper.check("camera", &camera, &["flip"]);
        assert_eq!(camera.log(), [("snap".to_owned(), 1)]);
    }
}
