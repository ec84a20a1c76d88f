//! Tells the programs that watch camd how it goes: the service manager (sd_notify(3): ready, a line of status, its
//! watchdog) and the board's watchdog. The event loop feeds both, and only while [`Health`] finds nothing wrong.

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use sd_notify::NotifyState;

use crate::daemon::health::{Change, Health, Sight};
use crate::limits::{HUNG, READY_WAIT, STATUS_INTERVAL};
use crate::measure::said::Times;
use crate::picture::frame::Size;
use crate::source::Source;
use crate::source::camera::{Camera, Condition};
use crate::system::watchdog::{Timer, Watchdog};

/// Feeds the watchdogs and tells the service manager how it goes.
pub struct Supervisor<T = File> {
    watchdogs: Option<Watchdogs<T>>,
    /// `None`: nobody wants to know.
    status: Option<Status>,
}

/// Both are fed at the same time, so that an idle camd wakes up as seldom as can be.
struct Watchdogs<T> {
    /// The service manager has one.
    manager: bool,
    board: Option<Watchdog<T>>,
    interval: Duration,
    next: Instant,
    health: Health,
}

/// What the service manager shows (`systemctl status`).
struct Status {
    told: Option<Outline>,
    /// Of the fault that was told.
    reason: String,
    /// Not before.
    next: Instant,
    /// It has changed since.
    due: bool,
}

/// What is worth a new line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outline {
    viewers: usize,
    condition: Condition,
    size: Option<Size>,
    hung: bool,
}

impl<T: Timer> Supervisor<T> {
    /// `board` runs already.
    pub fn new(board: Option<Watchdog<T>>, now: Instant) -> Self {
        let manager = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        let interval = manager
            .into_iter()
            .chain(board.as_ref().map(Watchdog::interval))
            .min();
        Supervisor {
            watchdogs: interval.map(|interval| Watchdogs {
                manager: manager.is_some(),
                board,
                interval,
                next: now,
                health: Health::default(),
            }),
            status: std::env::var_os("NOTIFY_SOCKET").map(|_| Status {
                told: None,
                reason: String::new(),
                next: now,
                due: false,
            }),
        }
    }

    /// All listeners are open.
    pub fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// The end has begun.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }

    /// The end has come, in good order.
    pub fn stopped(self) {
        if let Some(Watchdogs {
            board: Some(board), ..
        }) = self.watchdogs
        {
            board.stop();
        }
    }

    /// When [`Supervisor::turn`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let feeding = self.watchdogs.as_ref().map(|watchdogs| watchdogs.next);
        let status = self.status.as_ref().filter(|status| status.due);
        feeding.into_iter().chain(status.map(|s| s.next)).min()
    }

    /// To be called at the end of each turn of the event loop. `sent_away`: when somebody was last told that there is no
    /// picture.
    pub fn turn<S: Source>(
        &mut self,
        viewers: usize,
        sent_away: Option<Instant>,
        camera: &Camera<S>,
        now: Instant,
    ) {
        let mut hung = false;
        if let Some(watchdogs) = &mut self.watchdogs {
            let sight = Sight {
                viewers,
                sent_away,
                may_hang: camera.may_hang(),
                picture: camera.captured(),
            };
            watchdogs.turn(&sight, camera.reason(), now);
            hung = watchdogs.health.is_hung();
        }
        if let Some(status) = &mut self.status {
            let outline = Outline {
                viewers,
                condition: camera.condition(),
                size: camera.size(),
                hung,
            };
            if let Some(text) = status.turn(outline, camera.reason(), now) {
                notify(&[NotifyState::Status(&text)]);
            }
        }
    }
}

impl<T: Timer> Watchdogs<T> {
    fn turn(&mut self, sight: &Sight, reason: &str, now: Instant) {
        match self.health.look(sight, now) {
            None => {}
            Some(Change::Hung) => {
                let colon = if reason.is_empty() { "" } else { ": " };
                error!(
                    "camera: it hangs: a client has waited for a picture for {} s{colon}{reason}; {}",
                    HUNG.as_secs(),
                    self.threat()
                );
            }
            Some(Change::Well) => {
                info!("camera: it no longer hangs, or no client waits; watchdogs are fed again");
                self.next = now;
            }
        }
        if self.next > now {
            return;
        }
        self.next = now + self.interval;
        if self.health.is_hung() {
            return;
        }
        if self.manager {
            notify(&[NotifyState::Watchdog]);
        }
        if let Some(board) = &mut self.board {
            board.feed();
        }
    }

    /// What follows from not feeding.
    fn threat(&self) -> &'static str {
        match (self.manager, &self.board) {
            (true, None) => {
                "the service manager's watchdog is not fed any more, and will restart camd"
            }
            (false, Some(_)) => {
                "the board's watchdog is not fed any more, and will reset the board"
            }
            _ => {
                "the service manager's watchdog and the board's are not fed any more, and will restart camd or reset the board"
            }
        }
    }
}

impl Status {
    /// The new line, if there is to be one.
    fn turn(&mut self, outline: Outline, reason: &str, now: Instant) -> Option<String> {
        self.due = self.told != Some(outline) || self.reason != reason;
        if !self.due || now < self.next {
            return None;
        }
        self.told = Some(outline);
        reason.clone_into(&mut self.reason);
        self.next = now + STATUS_INTERVAL;
        self.due = false;
        Some(outline.line(reason))
    }
}

impl Outline {
    fn line(&self, reason: &str) -> String {
        let mut line = match self.viewers {
            0 => "no viewers".to_owned(),
            1 => "1 viewer".to_owned(),
            n => format!("{n} viewers"),
        };
        line.push_str(match self.condition {
            Condition::Idle => "; camera off",
            Condition::Starting => "; camera starting",
            Condition::Live => "; camera live",
            Condition::Fault => "; no picture",
        });
        // Writing to a String does not fail.
        if let (Condition::Live, Some(Size { width, height })) = (self.condition, self.size) {
            let _ = write!(line, ", {width}x{height}");
        }
        if !reason.is_empty() {
            // One line is one value.
            let _ = write!(line, ": {}", reason.replace('\n', " "));
        }
        if self.hung {
            line.push_str(" (hung: watchdogs are not fed)");
        }
        line
    }
}

/// One message to the service manager (sd_notify(3), "Notes"). Never waits while camd serves: a manager that takes no messages must
/// not hold the pictures up; it misses some that it would not have looked at.
fn notify(state: &[NotifyState<'_>]) {
    static FAILED: AtomicU32 = AtomicU32::new(0);
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let Err(error) = send(&socket, state) else {
        return;
    };
    let times = 1 + FAILED.fetch_add(1, Ordering::Relaxed);
    // Each viewer that comes or goes is a message.
    if times.is_power_of_two() {
        warn!("supervisor not notified: {error}{}", Times(times.into()));
    }
}

fn send(socket: &OsStr, state: &[NotifyState<'_>]) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(Path::new(OsStr::from_bytes(path)))?,
    };
    let lines: String = state.iter().map(|state| format!("{state}\n")).collect();
    let sender = UnixDatagram::unbound()?;
    match state {
        // There is one of these, nobody is served yet, and without it the start has failed.
        [NotifyState::Ready] => sender.set_write_timeout(Some(READY_WAIT))?,
        _ => sender.set_nonblocking(true)?,
    }
    sender.send_to_addr(lines.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_line_only_for_news_and_not_more_than_one_a_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut status = Status {
            told: None,
            reason: String::new(),
            next: start,
            due: false,
        };
        let outline = |viewers, condition, size: Option<(u16, u16)>| Outline {
            viewers,
            condition,
            size: size.map(|(width, height)| Size { width, height }),
            hung: false,
        };
        let starting = outline(0, Condition::Starting, None);
        let live = outline(1, Condition::Live, Some((640, 480)));
        let line = |text: &str| Some(text.to_owned());
        assert_eq!(
            status.turn(starting, "", at(0)),
            line("no viewers; camera starting")
        );
        assert_eq!(status.turn(starting, "", at(5000)), None);
        assert!(!status.due);
        assert_eq!(
            status.turn(live, "", at(5000)),
            line("1 viewer; camera live, 640x480")
        );
        let many = Outline { viewers: 3, ..live };
        assert_eq!(status.turn(many, "", at(5500)), None);
        assert!(status.due, "later");
        assert_eq!(
            status.turn(many, "", at(6000)),
            line("3 viewers; camera live, 640x480")
        );
        // Back again before it could be told: nothing is due.
        status.turn(live, "", at(6100));
        status.turn(many, "", at(6200));
        assert!(!status.due);
        let fault = outline(3, Condition::Fault, None);
        assert_eq!(
            status.turn(fault, "unplugged\nor so", at(8000)),
            line("3 viewers; no picture: unplugged or so")
        );
        let other = status.turn(fault, "busy", at(9000));
        assert_eq!(other, line("3 viewers; no picture: busy"));
        let hung = Outline {
            hung: true,
            ..fault
        };
        assert_eq!(
            status.turn(hung, "busy", at(10000)),
            line("3 viewers; no picture: busy (hung: watchdogs are not fed)")
        );
        let idle = outline(0, Condition::Idle, None);
        assert_eq!(
            status.turn(idle, "", at(11000)),
            line("no viewers; camera off")
        );
    }
}
