//! Whether a process that has left something behind still runs.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getpid};

/// A process as it cannot be mistaken for a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// In clock ticks since the system started; 0 where that cannot be known.
    pub started: u64,
}

impl Process {
    /// This one.
    pub fn own() -> Process {
        let pid = getpid().as_raw();
        Process {
            pid,
            started: look(pid).map_or(0, |seen| seen.started),
        }
    }

    /// Whether it still runs. A zombie does not.
    pub fn is_alive(&self) -> bool {
        match look(self.pid) {
            Some(seen) => {
                !seen.dead
                    && (self.started == 0 || seen.started == 0 || seen.started == self.started)
            }
            None => exists(self.pid),
        }
    }
}

/// What `/proc` says.
struct Seen {
    /// A zombie: its parent has not yet asked after it.
    dead: bool,
    started: u64,
}

fn look(pid: i32) -> Option<Seen> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5): the name, in parentheses, may contain anything.
fn parse(stat: &str) -> Option<Seen> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    Some(Seen {
        dead: matches!(state, "Z" | "X" | "x"),
        // Field 22; the state is field 3.
        started: fields.nth(22 - 4)?.parse().ok()?,
    })
}

/// Without `/proc`, or where it hides the processes of others.
fn exists(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

/// Whether a process is gone that was there at a time in seconds since the epoch: it is no more, or a zombie, or its number is
/// that of another one which has started since.
pub fn is_gone(pid: i32, at: Option<i64>) -> bool {
    let Some(seen) = look(pid) else {
        return !exists(pid);
    };
    // The clock that counts ticks and the one that dates are read one after the other, in whole seconds.
    const SLACK: i64 = 2;
    seen.dead
        || at.is_some_and(|at| started(seen.started).is_some_and(|started| started > at + SLACK))
}

/// Clock ticks since the system started, as seconds since the epoch.
fn started(ticks: u64) -> Option<i64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    // SAFETY: reads a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let seconds = ticks / u64::try_from(per_second).ok().filter(|&n| n > 0)?;
    boot.trim()
        .parse::<i64>()
        .ok()?
        .checked_add_unsigned(seconds)
}

/// What it calls itself; `None`: it is gone.
pub(super) fn name(pid: i32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let clean = |c: char| if c.is_control() { '?' } else { c };
    Some(name.trim_end().chars().map(clean).collect())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        let stat =
            "4711 (a) Z (b) R 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 8675309 10 11";
        let seen = parse(stat).unwrap();
        assert!(!seen.dead);
        assert_eq!(seen.started, 8_675_309);
        assert!(
            parse("4711 (x) Z 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 7 8")
                .unwrap()
                .dead
        );
    }

    #[test]
    fn zombies_and_later_ones_of_the_number_are_gone() {
        let now = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            i64::try_from(now.as_secs()).unwrap()
        };
        let own = Process::own();
        assert!(own.is_alive());
        assert!(
            !Process {
                started: own.started + 1,
                ..own
            }
            .is_alive()
        );
        assert!(!is_gone(own.pid, None));
        assert!(!is_gone(own.pid, Some(now())));
        // Something of before this process.
        assert!(is_gone(own.pid, Some(now() - 1_000_000)));

        let mut child = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process {
            pid,
            started: look(pid).unwrap().started,
        };
        assert!(process.is_alive() && !is_gone(pid, Some(now())));
        child.kill().unwrap();
        // Not asked after yet: a zombie, by and by.
        let gone = (0..1000).any(|_| {
            thread::sleep(Duration::from_millis(10));
            is_gone(pid, Some(now()))
        });
        assert!(gone && !process.is_alive());
        child.wait().unwrap();
        assert!(is_gone(pid, Some(now())) && !process.is_alive());
    }
}
