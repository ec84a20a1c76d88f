//! The log of what happens when a camera is opened. It does not grow with viewers that come and go: what is as it was at
//! the opening before is not said again, see [`Said`].
//!
//! There is one camera in a process, and all of its parts have something to say: what was said is kept for the thread.

use std::cell::RefCell;
use std::fmt;
use std::time::{Duration, Instant};

use log::{Level, log};

use crate::measure::bucket::Bucket;
use crate::measure::said::{Said, Times};

/// News at once, and then one in each [`NEWS_INTERVAL`]: a server or a caller that shows camd new bytes each time has always
/// something new to be said about it.
const NEWS: u32 = 64;
/// See [`NEWS`].
const NEWS_INTERVAL: Duration = Duration::from_secs(60);

struct Told {
    said: Said,
    /// The newest opening.
    at: Option<Instant>,
    news: Bucket,
    /// News that were too many.
    left_out: u64,
}

thread_local! {
    static TOLD: RefCell<Told> = const {
        RefCell::new(Told {
            said: Said::new(),
            at: None,
            news: Bucket::new(NEWS, NEWS_INTERVAL),
            left_out: 0,
        })
    };
}

/// The camera is opened once more.
pub(super) fn begin(now: Instant) {
    TOLD.with_borrow_mut(|told| {
        told.said.begin();
        told.at = Some(now);
    });
}

/// Something that a person may want to know.
pub(super) fn info(text: fmt::Arguments<'_>) {
    say(Level::Info, text);
}

/// Something that the owner needs, and sees on the box's console.
pub(super) fn notice(text: fmt::Arguments<'_>) {
    say_to("camd::source::notice", Level::Info, text);
}

/// Something that may have to be mended.
pub(super) fn warn(text: fmt::Arguments<'_>) {
    say(Level::Warn, text);
}

/// Why there is no picture. True: it is news.
pub(super) fn fault(text: fmt::Arguments<'_>) -> bool {
    say(Level::Warn, text)
}

fn say(level: Level, text: fmt::Arguments<'_>) -> bool {
    say_to("camd::source", level, text)
}

/// What is no news is for those who look for every step (debug).
fn say_to(target: &str, level: Level, text: fmt::Arguments<'_>) -> bool {
    let text = text.to_string();
    let news = TOLD.with_borrow_mut(|told| {
        let now = told.at.unwrap_or_else(Instant::now);
        let times = told.said.hear(text.as_bytes(), now)?;
        if !told.news.take(now) {
            told.left_out += 1;
            return None;
        }
        Some((times, std::mem::take(&mut told.left_out)))
    });
    match news {
        Some((times, 0)) => log!(target: target, level, "{text}{}", Times(times)),
        Some((times, left_out)) => log!(
            target: target,
            level,
            "{text}{}; {left_out} other messages about the camera were left out",
            Times(times)
        ),
        None => log!(target: "camd::source", Level::Debug, "again: {text}"),
    }
    news.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_with_ever_new_words_is_not_always_news() {
        let start = Instant::now();
        let mut said = 0;
        for number in 0..1000 {
            // A reconnection a second.
            begin(start + Duration::from_secs(number));
            said += u32::from(fault(format_args!("it says {number:x}")));
        }
        assert_eq!(said, NEWS + 999 / 60);
    }
}
