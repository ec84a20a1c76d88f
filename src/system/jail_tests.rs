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

/// What a call comes to in a child with these rules: its error, 0, or 77 where the process was ended by SIGSYS.
fn by_rules(rules: &[Rule<'_>], call: [c_long; 4]) -> i32 {
    let status = in_child(|| {
        let end = Rule {
            call: libc::SYS_exit_group,
            cases: &[&[]],
            answer: Answer::Allow,
        };
        let mut all = heapless::Vec::<Rule<'_>, 8>::new();
        if all.extend_from_slice(rules).is_err() || all.push(end).is_err() {
            return 97;
        }
        if no_new_privileges().is_err() || filter(&all, Answer::Fail(libc::ENOSYS)).is_err() {
            return 99;
        }
        let [number, first, second, third] = call;
        // SAFETY: the calls of these tests change nothing beyond the child.
        match unsafe { libc::syscall(number, first, second, third) } {
            // SAFETY: it gives the address of this thread's own number.
            -1 => unsafe { *libc::__errno_location() },
            _ => 0,
        }
    });
    match status {
        WaitStatus::Exited(_, code) => code,
        status if is_killed(status) => 77,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules_have_cases_and_answers() {
    let (inet, unix) = (libc::AF_INET as u32, libc::AF_UNIX as u32);
    let (stream, datagram) = (libc::SOCK_STREAM as u32, libc::SOCK_DGRAM as u32);
    let of = |argument, mask, values| Needs {
        argument,
        mask,
        values,
    };
    let families = [inet, unix];
    let only_stream = [stream];
    let first = [of(0, u32::MAX, &families), of(1, 0xF, &only_stream)];
    let only_unix = [unix];
    let only_datagram = [datagram];
    let second = [of(0, u32::MAX, &only_unix), of(1, 0xF, &only_datagram)];
    let cases: [&[Needs<'_>]; 2] = [&first, &second];
    let rules = [
        Rule {
            call: libc::SYS_socket,
            cases: &cases,
            answer: Answer::Fail(libc::EACCES),
        },
        Rule {
            call: libc::SYS_getppid,
            cases: &[],
            answer: Answer::Fail(libc::EPERM),
        },
        Rule {
            call: libc::SYS_execve,
            cases: &[],
            answer: Answer::Trap,
        },
    ];
    let socket = |family: i32, kind: i32| {
        by_rules(&rules, [libc::SYS_socket, family.into(), kind.into(), 0])
    };
    assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM), 0);
    assert_eq!(
        socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC),
        0
    );
    assert_eq!(
        socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK),
        0
    );
    assert_eq!(socket(libc::AF_INET, libc::SOCK_DGRAM), libc::EACCES);
    assert_eq!(socket(libc::AF_UNIX, libc::SOCK_SEQPACKET), libc::EACCES);
    assert_eq!(socket(libc::AF_INET6, libc::SOCK_STREAM), libc::EACCES);
    assert_eq!(by_rules(&rules, [libc::SYS_getppid, 0, 0, 0]), libc::EPERM);
    assert_eq!(by_rules(&rules, [libc::SYS_execve, 0, 0, 0]), 77);
    assert_eq!(by_rules(&rules, [libc::SYS_getuid, 0, 0, 0]), libc::ENOSYS);
    assert_eq!(by_rules(&rules, [0x4000_0001, 0, 0, 0]), libc::ENOSYS);
}

#[test]
fn a_fence_leaves_what_it_names() {
    let folder = std::env::temp_dir().join(format!("camd-fence-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = |it: &std::net::TcpListener| it.local_addr().expect("bound").port();
    let (ours, theirs) = (port(&listener), port(&other));
    let there = std::ffi::CString::new(folder.join("f").to_str().expect("UTF-8")).expect("no NUL");
    let fence_in = Fence {
        files: vec![
            (folder.clone(), rights::MAKE_REG | rights::WRITE_FILE),
            // A file has no rights of folders.
            (
                PathBuf::from("/etc/passwd"),
                rights::READ_FILE | rights::READ_DIR,
            ),
            (PathBuf::from("/no/such/file"), rights::READ_FILE),
        ],
        connect: Some(vec![ours]),
        abstract_sockets: false,
    };
    let connect = |port: u16| {
        // SAFETY: a socket of the child's, and an address of its own.
        unsafe {
            let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            let mut address: libc::sockaddr_in = std::mem::zeroed();
            address.sin_family = libc::AF_INET as _;
            address.sin_port = port.to_be();
            address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
            let length = size_of_val(&address) as libc::socklen_t;
            libc::connect(socket, (&raw const address).cast(), length) == 0
        }
    };
    let status = in_child(|| {
        let Ok(version) = no_new_privileges().and_then(|()| fence(&fence_in)) else {
            return 98;
        };
        let opens = |path: *const libc::c_char, flags| {
            // SAFETY: the paths end with a NUL.
            unsafe { libc::open(path, flags, 0o600) >= 0 }
        };
        let good = opens(there.as_ptr(), libc::O_WRONLY | libc::O_CREAT)
            && !opens(there.as_ptr(), libc::O_RDONLY)
            && opens(c"/etc/passwd".as_ptr(), libc::O_RDONLY)
            && !opens(c"/etc/passwd".as_ptr(), libc::O_WRONLY)
            && !opens(c"/etc/group".as_ptr(), libc::O_RDONLY);
        match (good, connect(ours), connect(theirs)) {
            (false, ..) => 1,
            (_, false, _) => 2,
            (_, _, other) if other == (version >= 4) => 3,
            _ => 0,
        }
    });
    std::fs::remove_dir_all(&folder).expect("it is ours");
    let WaitStatus::Exited(_, code) = status else {
        panic!("{status:?}");
    };
    // SAFETY: with this flag it only gives a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) };
    match version {
        ..=0 => assert_eq!(code, 98, "this kernel has no Landlock"),
        _ => assert_eq!(code, 0),
    }
}
