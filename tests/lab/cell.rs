//! What a picture could make a cell do that has taken it over, done in a process that is confined as a cell is: each fault, how that
//! process ended, and what could not be given up. The lab runs it in the guest; it runs on any machine.

use std::os::fd::AsRawFd;
use std::process::ExitCode;

use camd::encode::cell::launch;
use nix::libc;
use nix::sys::eventfd::EventFd;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// A name, and what is done. It gives back what the system call has: less than 0 is a refusal.
type Fault = (&'static str, fn() -> i64);

/// More than any cell may take.
const MEMORY: usize = 1 << 30;

// SAFETY of all: each is refused, or the end of the process.
const FAULTS: [Fault; 8] = [
    ("open", || unsafe {
        libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY).into()
    }),
    ("socket", || unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0).into()
    }),
    ("connect", || unsafe {
        let address: libc::sockaddr_in = std::mem::zeroed();
        let length = size_of_val(&address) as libc::socklen_t;
        libc::connect(0, (&raw const address).cast(), length).into()
    }),
    ("execve", || unsafe {
        libc::execve(c"/bin/sh".as_ptr(), std::ptr::null(), std::ptr::null()).into()
    }),
    ("fork", || unsafe { libc::fork().into() }),
    ("kill", || unsafe {
        libc::kill(libc::getppid(), libc::SIGKILL).into()
    }),
    ("memory", || unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let got = libc::mmap(std::ptr::null_mut(), MEMORY, protection, kind, -1, 0);
        if got == libc::MAP_FAILED { -1 } else { 0 }
    }),
    ("heap", || unsafe {
        // Not looked at, it would not be asked for at all.
        if std::hint::black_box(libc::malloc(MEMORY)).is_null() {
            -1
        } else {
            0
        }
    }),
];

fn main() -> ExitCode {
    let mut is_well = true;
    for (name, fault) in FAULTS {
        let fds = [(); 2].map(|()| EventFd::new().expect("a descriptor"));
        let [work, done] = [&fds[0], &fds[1]].map(AsRawFd::as_raw_fd);
        let parent = std::process::id();
        // SAFETY: this process has one thread.
        match unsafe { fork() }.expect("a child") {
            ForkResult::Child => {
                let lacks = launch::confine(parent, work, done);
                if lacks & camd::encode::cell::wire::lacks::SECCOMP != 0 {
                    // SAFETY: it ends the process.
                    unsafe { libc::_exit(100) }
                }
                let is_refused = fault() < 0;
                // SAFETY: it ends the process.
                unsafe { libc::_exit(if is_refused { 1 } else { 2 }) }
            }
            ForkResult::Parent { child } => {
                let status = waitpid(child, None).expect("its end");
                let ended = match status {
                    WaitStatus::Signaled(_, signal, _) => signal.to_string(),
                    WaitStatus::Exited(_, 100) => "this kernel has no seccomp filters".to_owned(),
                    WaitStatus::Exited(_, 1) => "refused".to_owned(),
                    WaitStatus::Exited(_, 2) => "DONE".to_owned(),
                    other => format!("{other:?}"),
                };
                println!("{name}: {ended}");
                is_well &= ended == "SIGSYS";
            }
        }
    }
    if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
