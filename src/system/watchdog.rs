//! The board's watchdog: a timer that resets the board unless it is fed (`linux/watchdog.h`, and the kernel's
//! Documentation/watchdog/watchdog-api.rst).
//!
//! To open the device starts the timer. To close it stops the timer only if the magic character `V` was written before.
//! So a camd that crashes or hangs takes the board with it, and one that is told to end does not.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{error, info, warn};
use nix::errno::Errno;
use nix::libc::c_int;

use crate::limits::{WATCHDOG_MEALS, WATCHDOG_TIMEOUT_MIN};

/// `struct watchdog_info`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Support {
    /// `WDIOF_*`: what it can do.
    pub options: u32,
    /// Of the device's firmware or chip, as the driver counts.
    pub firmware_version: u32,
    /// NUL-terminated, unless it fills its place.
    pub identity: [u8; 32],
}

/// In the boot status: it was this watchdog that reset the board.
pub const WDIOF_CARDRESET: u32 = 0x20;
/// The timeout can be set.
pub const WDIOF_SETTIMEOUT: u32 = 0x80;
/// The magic `V` stops it.
pub const WDIOF_MAGICCLOSE: u32 = 0x100;

/// Written before the end, to stop it.
const MAGIC: &[u8] = b"V";
/// Anything else feeds it.
const FOOD: &[u8] = b"\0";

mod call {
    use super::{Support, c_int};

    nix::ioctl_read!(wdioc_getsupport, b'W', 0, Support);
    nix::ioctl_read!(wdioc_getbootstatus, b'W', 2, c_int);
    nix::ioctl_readwrite!(wdioc_settimeout, b'W', 6, c_int);
    nix::ioctl_read!(wdioc_gettimeout, b'W', 7, c_int);
}

/// What the device is asked: the kernel's, or a scripted one in tests.
pub trait Timer {
    /// What it can do (WDIOC_GETSUPPORT).
    fn support(&self) -> nix::Result<Support>;

    /// `WDIOF_*` at the last boot.
    fn boot_status(&self) -> nix::Result<u32>;

    /// In seconds.
    fn timeout(&self) -> nix::Result<c_int>;

    /// The seconds that it took over, which may be others.
    fn set_timeout(&self, seconds: c_int) -> nix::Result<c_int>;

    /// Feeds it, or stops it with the magic `V`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Timer for File {
    fn support(&self) -> nix::Result<Support> {
        let mut support = Support::default();
        // SAFETY: the descriptor is open, and the structure is the one that this call fills.
        unsafe { call::wdioc_getsupport(self.as_raw_fd(), &mut support) }?;
        Ok(support)
    }

    fn boot_status(&self) -> nix::Result<u32> {
        let mut flags = 0;
        // SAFETY: as above; the kernel writes one int.
        unsafe { call::wdioc_getbootstatus(self.as_raw_fd(), &mut flags) }?;
        Ok(flags as u32)
    }

    fn timeout(&self) -> nix::Result<c_int> {
        let mut seconds = 0;
        // SAFETY: as above; the kernel writes one int.
        unsafe { call::wdioc_gettimeout(self.as_raw_fd(), &mut seconds) }?;
        Ok(seconds)
    }

    fn set_timeout(&self, mut seconds: c_int) -> nix::Result<c_int> {
        // SAFETY: as above; the kernel reads and writes one int.
        unsafe { call::wdioc_settimeout(self.as_raw_fd(), &mut seconds) }?;
        Ok(seconds)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }
}

/// A watchdog that runs.
pub struct Watchdog<T = File> {
    timer: T,
    path: PathBuf,
    timeout: Duration,
    /// The last feeding failed, and that was said.
    starving: bool,
}

impl Watchdog {
    /// Opens the device, which starts it. The error is for a person, and names the way out.
    pub fn open(path: &Path) -> io::Result<Self> {
        // The standard library opens with O_CLOEXEC: a camera program that outlives camd does not hold it.
        let file = OpenOptions::new().write(true).open(path).map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::NotFound => {
                    "the board's driver is not loaded (bcm2835_wdt on a Raspberry Pi, softdog for any)"
                }
                ErrorKind::ResourceBusy => {
                    "another program feeds it (systemd with RuntimeWatchdogSec=, or a watchdog daemon)"
                }
                ErrorKind::PermissionDenied => "only root may open it, unless a udev rule says otherwise",
                _ => "it cannot be used",
            };
            complaint(path, error.kind(), format!("{error}: {hint}"))
        })?;
        Watchdog::new(file, path)
    }
}

fn complaint(path: &Path, kind: ErrorKind, what: String) -> io::Error {
    let path = path.display();
    io::Error::new(
        kind,
        format!("--watchdog {path}: {what}; without --watchdog camd runs unguarded"),
    )
}

impl<T: Timer> Watchdog<T> {
    /// Takes over a device that has just been opened. `path` is for messages.
    pub fn new(mut timer: T, path: &Path) -> io::Result<Self> {
        let support = match timer.support() {
            Ok(support) => support,
            Err(errno) => {
                // If it is one after all, it runs: camd does not, and the board shall not pay for that.
                let _ = timer.write(MAGIC);
                let what = match errno {
                    Errno::ENOTTY | Errno::EINVAL => "it is not a watchdog device".to_owned(),
                    errno => format!("WDIOC_GETSUPPORT: {errno}"),
                };
                return Err(complaint(path, ErrorKind::Unsupported, what));
            }
        };
        let shown = path.display();
        if timer
            .boot_status()
            .is_ok_and(|flags| flags & WDIOF_CARDRESET != 0)
        {
            warn!("{shown}: the board was reset by this watchdog");
        }
        let timeout = settle(&timer, &support, path);
        info!(
            "{shown}: the watchdog ({}) resets the board {} s after its last feeding",
            identity(&support),
            timeout.as_secs()
        );
        if support.options & WDIOF_MAGICCLOSE == 0 {
            warn!(
                "{shown}: this watchdog cannot be stopped: after camd's end another program has to feed it"
            );
        }
        Ok(Watchdog {
            timer,
            path: path.to_owned(),
            timeout,
            starving: false,
        })
    }

    /// How often to feed it: more than once in its time, as a turn of the event loop may be held up by a driver.
    pub fn interval(&self) -> Duration {
        self.timeout / WATCHDOG_MEALS
    }

    /// Feeds it. A failure is logged once.
    pub fn feed(&mut self) {
        let fed = self.timer.write(FOOD);
        match fed {
            Ok(()) => self.starving = false,
            // Once, and not every few seconds.
            Err(error) if !self.starving => {
                self.starving = true;
                error!("{}: cannot be fed: {error}", self.path.display());
            }
            Err(_) => {}
        }
    }

    /// Stops it, for a good end. To be called last: what hangs before is what it is there for.
    pub fn stop(mut self) {
        let path = self.path.display();
        match self.timer.write(MAGIC) {
            Ok(()) => info!("{path}: the watchdog is stopped"),
            Err(error) => error!("{path}: cannot be stopped: {error}"),
        }
    }
}

/// The timeout that holds. It is the driver's, which the administrator sets (a module's parameter); one that is too short
/// for what drivers may hold us up is made longer where that can be.
fn settle(timer: &impl Timer, support: &Support, path: &Path) -> Duration {
    let least = WATCHDOG_TIMEOUT_MIN.as_secs() as c_int;
    let path = path.display();
    let told = timer.timeout().ok().filter(|&seconds| seconds > 0);
    if told.is_some_and(|seconds| seconds >= least) {
        return Duration::from_secs(told.unwrap_or(least) as u64);
    }
    let set = if support.options & WDIOF_SETTIMEOUT == 0 {
        None
    } else {
        timer.set_timeout(least).ok().filter(|&seconds| seconds > 0)
    };
    let seconds = match (set, told) {
        (Some(seconds), _) => seconds,
        (None, Some(seconds)) => {
            warn!("{path}: its timeout of {seconds} s is short, and cannot be changed");
            seconds
        }
        (None, None) => {
            warn!("{path}: it does not tell its timeout, which is taken for {least} s");
            least
        }
    };
    Duration::from_secs(seconds as u64)
}

fn identity(support: &Support) -> String {
    let end = support.identity.iter().position(|&byte| byte == 0);
    let text = &support.identity[..end.unwrap_or(support.identity.len())];
    String::from_utf8_lossy(text).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use super::*;

    // linux/watchdog.h on machines whose _IOC is asm-generic's, as on ARM and x86.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm"))]
    #[test]
    fn the_requests_are_the_kernels() {
        assert_eq!(size_of::<Support>(), 40);
        assert_eq!(
            nix::request_code_read!(b'W', 0, size_of::<Support>()) as u32,
            0x8028_5700
        );
        assert_eq!(
            nix::request_code_read!(b'W', 2, size_of::<c_int>()) as u32,
            0x8004_5702
        );
        assert_eq!(
            nix::request_code_readwrite!(b'W', 6, size_of::<c_int>()) as u32,
            0xc004_5706
        );
        assert_eq!(
            nix::request_code_read!(b'W', 7, size_of::<c_int>()) as u32,
            0x8004_5707
        );
    }

    /// What is written to it can be seen from outside.
    struct Scripted {
        support: nix::Result<Support>,
        boot: u32,
        timeout: Cell<nix::Result<c_int>>,
        /// What becomes of a timeout that is asked for.
        settable: Option<c_int>,
        written: Rc<RefCell<Vec<u8>>>,
        broken: bool,
    }

    impl Timer for Scripted {
        fn support(&self) -> nix::Result<Support> {
            self.support
        }

        fn boot_status(&self) -> nix::Result<u32> {
            Ok(self.boot)
        }

        fn timeout(&self) -> nix::Result<c_int> {
            self.timeout.get()
        }

        fn set_timeout(&self, seconds: c_int) -> nix::Result<c_int> {
            let most = self.settable.ok_or(Errno::EINVAL)?;
            self.timeout.set(Ok(seconds.min(most)));
            self.timeout.get()
        }

        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            if self.broken {
                return Err(ErrorKind::BrokenPipe.into());
            }
            self.written.borrow_mut().extend_from_slice(bytes);
            Ok(())
        }
    }

    fn timer(timeout: nix::Result<c_int>) -> Scripted {
        let mut identity = [0; 32];
        identity[..8].copy_from_slice(b"Scripted");
        Scripted {
            support: Ok(Support {
                options: WDIOF_SETTIMEOUT | WDIOF_MAGICCLOSE,
                firmware_version: 0,
                identity,
            }),
            boot: 0,
            timeout: Cell::new(timeout),
            settable: None,
            written: Rc::default(),
            broken: false,
        }
    }

    fn watchdog(timer: Scripted) -> io::Result<Watchdog<Scripted>> {
        Watchdog::new(timer, Path::new("/dev/watchdog"))
    }

    #[test]
    fn fed_and_stopped_with_the_magic_character_only_at_the_end() {
        let timer = timer(Ok(15));
        let written = timer.written.clone();
        let mut watchdog = watchdog(timer).unwrap();
        assert_eq!(watchdog.interval(), Duration::from_secs(5));
        watchdog.feed();
        watchdog.feed();
        assert_eq!(*written.borrow(), b"\0\0");
        watchdog.stop();
        assert_eq!(*written.borrow(), b"\0\0V");
    }

    #[test]
    fn one_that_is_only_dropped_goes_on_running() {
        let timer = timer(Ok(15));
        let written = timer.written.clone();
        drop(watchdog(timer).unwrap());
        assert_eq!(*written.borrow(), b"");
    }

    #[test]
    fn the_administrators_timeout_holds_unless_it_is_too_short() {
        let interval = |timeout, settable| {
            let timer = Scripted {
                settable,
                ..timer(timeout)
            };
            watchdog(timer).unwrap().interval()
        };
        let least = WATCHDOG_TIMEOUT_MIN.as_secs() as c_int;
        for (timeout, settable, expected) in [
            (Ok(120), Some(1000), 120),
            (Ok(least), Some(1000), least),
            (Ok(2), Some(1000), least),
            // It takes what it can.
            (Ok(2), Some(8), 8),
            (Ok(2), None, 2),
            (Err(Errno::EOPNOTSUPP), Some(1000), least),
            (Err(Errno::EOPNOTSUPP), None, least),
            (Ok(0), None, least),
        ] {
            let expected = Duration::from_secs(expected as u64);
            assert_eq!(
                interval(timeout, settable),
                expected / WATCHDOG_MEALS,
                "{timeout:?}"
            );
        }
    }

    #[test]
    fn what_is_no_watchdog_is_an_error_with_a_way_out() {
        let error = watchdog(Scripted {
            support: Err(Errno::ENOTTY),
            ..timer(Ok(15))
        });
        let said = error.err().expect("refused").to_string();
        let expected = "--watchdog /dev/watchdog: it is not a watchdog device; without --watchdog camd runs unguarded";
        assert_eq!(said, expected);
        // The same by the kernel.
        let said = |path| {
            Watchdog::open(Path::new(path))
                .err()
                .expect("refused")
                .to_string()
        };
        assert_eq!(
            said("/dev/null"),
            expected.replace("/dev/watchdog", "/dev/null")
        );
        let missing = said("/nonexistent");
        assert!(missing.contains("driver is not loaded"), "{missing}");
    }

    #[test]
    fn a_device_that_takes_no_food_ends_nothing() {
        let mut watchdog = watchdog(Scripted {
            broken: true,
            boot: WDIOF_CARDRESET,
            ..timer(Ok(15))
        })
        .unwrap();
        watchdog.feed();
        assert!(watchdog.starving);
        watchdog.timer.broken = false;
        watchdog.feed();
        assert!(!watchdog.starving);
    }
}
