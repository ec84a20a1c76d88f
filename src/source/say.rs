//! The log of what happens when a camera is opened. It does not grow with viewers that come and go: what is as it was at
//! the opening before is not said again, see [`Said`].
//!
//! There is one camera in a process, and all of its parts have something to say: what was said is kept for the thread.

use std::cell::RefCell;
use std::fmt;
use std::time::Instant;

use log::{Level, log};

use crate::measure::said::{Said, Times};

thread_local! {
    /// With the time of the newest opening.
    static SAID: RefCell<(Said, Option<Instant>)> = const { RefCell::new((Said::new(), None)) };
}

/// The camera is opened once more.
pub(super) fn begin(now: Instant) {
    SAID.with_borrow_mut(|(said, at)| {
        said.begin();
        *at = Some(now);
    });
}

/// Something that a person may want to know.
pub(super) fn info(text: fmt::Arguments<'_>) {
    say(Level::Info, text);
}

/// Something that may have to be mended.
pub(super) fn warn(text: fmt::Arguments<'_>) {
    say(Level::Warn, text);
}

/// Why there is no picture. True: it is news.
pub(super) fn fault(text: fmt::Arguments<'_>) -> bool {
    say(Level::Warn, text)
}

/// What is no news is for those who look for every step (debug).
fn say(level: Level, text: fmt::Arguments<'_>) -> bool {
    let text = text.to_string();
    let news = SAID.with_borrow_mut(|(said, at)| {
        let now = at.unwrap_or_else(Instant::now);
        said.hear(text.as_bytes(), now)
    });
    match news {
        Some(times) => log!(target: "camd::source", level, "{text}{}", Times(times)),
        None => log!(target: "camd::source", Level::Debug, "again: {text}"),
    }
    news.is_some()
}
