//! Wakes the loop when there is something to do without any event.
//!
//! Most deadlines only ever move away: a camera's, with each picture; a client's, with each write. A timeout of
//! `epoll_wait` for them would make the kernel set up a timer and take it down again in every turn. So what is far off is
//! left to a timer of its own, which stays as it is while deadlines move away from it, rings in vain once in a while,
//! and is then set anew.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use log::warn;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// What is no further off than this is waited for by the poll's own timeout: it is mostly the next picture's time, and
/// setting the timer for each costs more than that.
const SOON: Duration = Duration::from_millis(250);

/// A timer that is in the poll.
#[derive(Debug)]
pub struct Alarm {
    timer: TimerFd,
    /// When it rings.
    set: Option<Instant>,
}

impl Alarm {
    /// One that is not set. It rings by an event for `token`, of which [`Alarm::rang`] is to be told.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Alarm> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let fd = timer.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        Ok(Alarm { timer, set: None })
    }

    /// It rang. Setting it again is enough for the next event; nothing need be read from it.
    pub fn rang(&mut self) {
        self.set = None;
    }

    /// How long the poll may wait if `next` is when there is something to do; `None`: until the next event, which may be
    /// that of this alarm.
    pub fn wait_for(&mut self, next: Option<Instant>) -> Option<Duration> {
        let next = next?;
        if self.set.is_some_and(|set| set <= next) {
            return None;
        }
        let left = next.saturating_duration_since(Instant::now());
        if left <= SOON {
            return Some(left);
        }
        let once = Expiration::OneShot(TimeSpec::from_duration(left));
        if let Err(error) = self.timer.set(once, TimerSetTimeFlags::empty()) {
            warn!("timer: {error}");
            return Some(left);
        }
        self.set = Some(next);
        None
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll};

    use super::*;

    const ALARM: Token = Token(7);

    /// Waits for the alarm; true if it rang before `most` was over.
    fn rings(poll: &mut Poll, most: Duration) -> bool {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(most)).unwrap();
        events.iter().any(|event| event.token() == ALARM)
    }

    #[test]
    fn what_is_soon_is_waited_for_and_what_is_far_off_rings() {
        let mut poll = Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry(), ALARM).unwrap();
        assert_eq!(alarm.wait_for(None), None);
        let start = Instant::now();
        let wait = alarm.wait_for(Some(start + SOON / 2)).unwrap();
        assert!(wait <= SOON / 2, "{wait:?}");
        assert_eq!(alarm.wait_for(Some(start)), Some(Duration::ZERO));
        assert!(!rings(&mut poll, Duration::ZERO), "it is not set");
        // More than once: nothing is read from it.
        for _ in 0..2 {
            let next = Instant::now() + SOON + Duration::from_millis(20);
            assert_eq!(alarm.wait_for(Some(next)), None);
            assert!(rings(&mut poll, Duration::from_secs(20)));
            assert!(Instant::now() >= next, "it rang too early");
            alarm.rang();
        }
    }

    #[test]
    fn it_stays_while_deadlines_move_away_and_comes_earlier_when_they_do() {
        let mut poll = Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry(), ALARM).unwrap();
        let start = Instant::now();
        assert_eq!(alarm.wait_for(Some(start + 1000 * SOON)), None);
        assert_eq!(alarm.wait_for(Some(start + 2 * SOON)), None);
        for more in 2..9 {
            assert_eq!(alarm.wait_for(Some(start + more * SOON)), None);
            assert_eq!(alarm.set, Some(start + 2 * SOON));
        }
        // Nothing is due any more; it rings all the same, once.
        assert_eq!(alarm.wait_for(None), None);
        assert!(rings(&mut poll, Duration::from_secs(20)));
        alarm.rang();
        assert_eq!(alarm.wait_for(None), None);
        assert!(!rings(&mut poll, 3 * SOON));
    }
}
