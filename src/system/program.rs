//! Another program that camd runs: with next to nothing of what camd has, and not for longer than camd lives.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};

/// What the program gets of camd's environment. The rest is between camd and its supervisor (sockets, watchdog,
/// credentials), or anybody's guess.
const ENVIRONMENT: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
];

/// Where what a program writes goes: its standard output, and its standard error.
pub struct Outputs {
    /// Standard output.
    pub out: OwnedFd,
    /// Standard error.
    pub err: OwnedFd,
}

/// How a program and its arguments are to be run as the head of a process group of its own, by a process whose parent, or
/// which itself, is `camd`.
pub(super) fn command(words: &[String], outputs: Outputs, camd: Pid) -> io::Result<Command> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(outputs.out)
        .stderr(outputs.err)
        .process_group(0)
        .env_clear();
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // SAFETY: this runs in the child between fork and exec, where only async-signal-safe functions may be called:
    // prctl, close_range and getppid are bare system calls, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            // camd may be killed where it cannot clean up (kill -9, the OOM killer): the program would go on and
            // keep the camera from the next camd.
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // Nothing that it runs is more than camd is.
            prctl::set_no_new_privs()?;
            keep_standard_files_alone();
            // It may have happened just before.
            match getppid() == camd {
                true => Ok(()),
                false => Err(Errno::ESRCH.into()),
            }
        });
    }
    Ok(command)
}

/// Runs a program as a child of this process.
pub(super) fn run(words: &[String], outputs: Outputs) -> io::Result<Pid> {
    let child = command(words, outputs, getpid())?.spawn()?;
    // Process ids are below 2^22.
    Ok(Pid::from_raw(child.id() as i32))
}

/// Has all descriptors but the standard ones closed by exec, whoever has opened them: cameras, sockets, keys. Linux 5.11 and
/// newer; before that, those that camd opens are closed by their own flag.
fn keep_standard_files_alone() {
    // SAFETY: close_range(2) takes three numbers, and with this flag closes nothing now.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}
