use std::sync::PoisonError;

use super::*;
use crate::system::ALONE;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// How a child ends that does this. It must not allocate: other threads of the parent may hold the allocator's lock.
fn in_child(body: impl FnOnce() -> i32) -> WaitStatus {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the child calls nothing but system calls, and leaves without running anything of the parent's.
    match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            // One that waits for ever must not have all tests wait.
            // SAFETY: it ends the process, later.
            unsafe { libc::alarm(10) };
            let code = body();
            // SAFETY: it ends the process.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => waitpid(child, None).expect("its end"),
    }
}

/// In a child that may write to descriptor 1 and end.
fn confined(body: impl FnOnce() -> i32) -> WaitStatus {
    in_child(|| {
        let allowed = [
            Allowed {
                call: libc::SYS_write,
                first: &[1, 7],
            },
            Allowed {
                call: libc::SYS_exit_group,
                first: &[],
            },
        ];
        if no_new_privileges().is_err() || allow_only(&allowed).is_err() {
            return 99;
        }
        body()
    })
}

fn is_killed(status: WaitStatus) -> bool {
    matches!(
        status,
        WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGSYS, _)
    )
}

#[test]
fn what_is_allowed_goes_on() {
    let status = confined(|| {
        // SAFETY: nothing is written.
        unsafe { libc::write(1, std::ptr::null(), 0) };
        // SAFETY: likewise, to a descriptor that is not open.
        unsafe { libc::write(7, std::ptr::null(), 0) };
        7
    });
    assert!(matches!(status, WaitStatus::Exited(_, 7)), "{status:?}");
}

#[test]
fn all_else_is_the_end() {
    type Call = fn() -> c_long;
    let calls: [(&str, Call); 7] = [
        // SAFETY: these either fail or are never made.
        ("open", || unsafe {
            libc::syscall(libc::SYS_openat, libc::AT_FDCWD, c"/".as_ptr(), 0)
        }),
        ("socket", || unsafe {
            libc::syscall(libc::SYS_socket, 1, 1, 0)
        }),
        ("execve", || unsafe {
            libc::syscall(libc::SYS_execve, c"/bin/true".as_ptr(), 0, 0)
        }),
        ("mmap", || unsafe {
            libc::mmap(std::ptr::null_mut(), 4096, 1, 0x22, -1, 0) as c_long
        }),
        ("another descriptor", || unsafe {
            libc::write(2, std::ptr::null(), 0) as c_long
        }),
        ("kill", || unsafe {
            libc::syscall(libc::SYS_kill, libc::getppid(), 0)
        }),
        ("a number that is none", || unsafe {
            libc::syscall(0x4000_0001)
        }),
    ];
    for (what, call) in calls {
        let status = confined(|| {
            call();
            0
        });
        assert!(is_killed(status), "{what}: {status:?}");
    }
}

#[test]
fn without_files_nothing_can_be_opened() {
    let status = in_child(|| {
        if no_new_privileges().is_err() {
            return 99;
        }
        if no_files().is_err() {
            return 98;
        }
        // SAFETY: a path that is there.
        match unsafe { libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY) } {
            -1 => 0,
            _ => 1,
        }
    });
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    };
    if code == 98 {
        // SAFETY: with this flag it only gives a number.
        let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) };
        assert_eq!(version, -1, "this kernel has Landlock, and it was not used");
        eprintln!("this kernel has no Landlock: nothing was tried");
    } else {
        assert_eq!(code, 0);
    }
}
