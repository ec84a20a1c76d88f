//! Which system calls a camd in its sandbox makes, see [`super::sandbox`].

use std::io;

use nix::libc::{self, c_int, c_long};

#[cfg(target_pointer_width = "32")]
use crate::system::jail::time64;
use crate::system::jail::{self, Answer, Needs, Rule};

/// fchmodat2 (Linux 6.6), which libc has of some machines only. The same on all: asm-generic/unistd.h,
/// arch/arm/tools/syscall.tbl.
const FCHMODAT2: c_long = 452;

/// What is allowed beyond the calls of each camd.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wants {
    /// Sockets that hand out pictures in a memfd.
    pub memfd: bool,
    /// System V's shared memory.
    pub qt: bool,
    /// Messages to a service manager.
    pub notify: bool,
}

/// What ends the process: nothing that camd or a library of its does by accident.
#[rustfmt::skip]
pub const TRAPS: &[(c_long, &str)] = &[
    (libc::SYS_execve, "execve"),
    (libc::SYS_execveat, "execveat"),
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    (libc::SYS_fork, "fork"),
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    (libc::SYS_vfork, "vfork"),
    (libc::SYS_clone, "clone"),
    (libc::SYS_ptrace, "ptrace"),
    (libc::SYS_process_vm_readv, "process_vm_readv"),
    (libc::SYS_process_vm_writev, "process_vm_writev"),
    (libc::SYS_mount, "mount"),
    (libc::SYS_umount2, "umount2"),
    (libc::SYS_pivot_root, "pivot_root"),
    (libc::SYS_chroot, "chroot"),
    (libc::SYS_move_mount, "move_mount"),
    (libc::SYS_open_tree, "open_tree"),
    (libc::SYS_fsopen, "fsopen"),
    (libc::SYS_fsconfig, "fsconfig"),
    (libc::SYS_fsmount, "fsmount"),
    (libc::SYS_fspick, "fspick"),
    (libc::SYS_setns, "setns"),
    (libc::SYS_unshare, "unshare"),
    (libc::SYS_bpf, "bpf"),
    (libc::SYS_perf_event_open, "perf_event_open"),
    (libc::SYS_userfaultfd, "userfaultfd"),
    (libc::SYS_keyctl, "keyctl"),
    (libc::SYS_add_key, "add_key"),
    (libc::SYS_request_key, "request_key"),
    (libc::SYS_init_module, "init_module"),
    (libc::SYS_finit_module, "finit_module"),
    (libc::SYS_delete_module, "delete_module"),
    (libc::SYS_kexec_load, "kexec_load"),
    (libc::SYS_kexec_file_load, "kexec_file_load"),
    (libc::SYS_reboot, "reboot"),
    (libc::SYS_swapon, "swapon"),
    (libc::SYS_swapoff, "swapoff"),
    (libc::SYS_open_by_handle_at, "open_by_handle_at"),
    (libc::SYS_pidfd_getfd, "pidfd_getfd"),
    (libc::SYS_acct, "acct"),
    (libc::SYS_quotactl, "quotactl"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, "iopl"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, "ioperm"),
];

/// Those of each picture. They are looked for in this order.
const OFTEN: &[c_long] = &[
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_timerfd_settime,
    #[cfg(target_pointer_width = "32")]
    time64::TIMERFD_SETTIME,
    libc::SYS_clock_gettime,
    #[cfg(target_pointer_width = "32")]
    time64::CLOCK_GETTIME,
    libc::SYS_futex,
    #[cfg(target_pointer_width = "32")]
    time64::FUTEX,
];

/// Landlock says which files.
const FILES: &[c_long] = &[
    libc::SYS_openat,
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    libc::SYS_open,
    libc::SYS_close,
    libc::SYS_lseek,
    #[cfg(target_arch = "arm")]
    libc::SYS__llseek,
    libc::SYS_fstat,
    #[cfg(target_arch = "arm")]
    libc::SYS_fstat64,
    #[cfg(target_pointer_width = "64")]
    libc::SYS_newfstatat,
    #[cfg(target_arch = "arm")]
    libc::SYS_fstatat64,
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    libc::SYS_stat,
    #[cfg(target_arch = "arm")]
    libc::SYS_stat64,
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    libc::SYS_lstat,
    #[cfg(target_arch = "arm")]
    libc::SYS_lstat64,
    libc::SYS_statx,
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    #[cfg(target_arch = "arm")]
    libc::SYS_ftruncate64,
    libc::SYS_fcntl,
    #[cfg(target_arch = "arm")]
    libc::SYS_fcntl64,
    libc::SYS_dup,
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    libc::SYS_dup2,
    libc::SYS_dup3,
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    libc::SYS_pipe,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fstatfs,
    #[cfg(target_arch = "arm")]
    libc::SYS_fstatfs64,
    libc::SYS_statfs,
    #[cfg(target_arch = "arm")]
    libc::SYS_statfs64,
    libc::SYS_getcwd,
];

const MEMORY: &[c_long] = &[
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_memfd_create,
];

/// Threads, signals, children that have ended, and the last words of [`crate::system::trapped`].
const THREADS: &[c_long] = &[
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_set_tid_address,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    #[cfg(target_arch = "arm")]
    libc::SYS_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    #[cfg(target_pointer_width = "32")]
    time64::CLOCK_NANOSLEEP,
    libc::SYS_membarrier,
    libc::SYS_signalfd4,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_alarm,
    libc::SYS_setitimer,
    libc::SYS_wait4,
    libc::SYS_waitid,
];

const SOCKETS: &[c_long] = &[
    libc::SYS_socketpair,
    libc::SYS_accept4,
    libc::SYS_accept,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_shutdown,
    #[cfg(target_arch = "arm")]
    libc::SYS_send,
    #[cfg(target_arch = "arm")]
    libc::SYS_recv,
];

const WAITING: &[c_long] = &[
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    #[cfg(target_pointer_width = "32")]
    time64::TIMERFD_GETTIME,
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    libc::SYS_poll,
    libc::SYS_ppoll,
    #[cfg(target_pointer_width = "32")]
    time64::PPOLL,
];

const OTHERS: &[c_long] = &[
    libc::SYS_getrandom,
    libc::SYS_clock_getres,
    #[cfg(target_pointer_width = "32")]
    time64::CLOCK_GETRES,
    libc::SYS_gettimeofday,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    libc::SYS_times,
    libc::SYS_getrusage,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    #[cfg(target_arch = "arm")]
    libc::SYS_getuid32,
    #[cfg(target_arch = "arm")]
    libc::SYS_geteuid32,
    #[cfg(target_arch = "arm")]
    libc::SYS_getgid32,
    #[cfg(target_arch = "arm")]
    libc::SYS_getegid32,
    libc::SYS_uname,
    libc::SYS_sysinfo,
];

/// For sinks of kind memfd.
const MEMFD: &[c_long] = &[
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    libc::SYS_chmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
];

/// For what Qt shares, and where it is not made by one call for all (`ipc` of 32-bit x86).
const QT: &[c_long] = &[
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmdt,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semctl,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    #[cfg(target_pointer_width = "32")]
    time64::SEMTIMEDOP,
    libc::SYS_utimensat,
    #[cfg(target_pointer_width = "32")]
    time64::UTIMENSAT,
];

/// The numbers of ioctls have the kind of device in this byte: 'V' is video, 'W' the watchdog.
const IOCTL_KIND: u32 = 0xFF00;
const IOCTL_KINDS: &[u32] = &[0x5600, 0x5700];
/// asm-generic/ioctls.h, which ARM and x86 share: TCGETS, TIOCOUTQ, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Not
/// TIOCSTI, by which a program types into the shell that started it.
const IOCTLS: &[u32] = &[0x5401, 0x5411, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451];

/// The last byte of a socket's type; its flags are above.
const SOCKET_TYPE: u32 = 0xF;
const PR_SET_VMA: u32 = 0x5356_4D41;

/// An argument that is a constant of the C library's.
const fn bits(number: c_int) -> u32 {
    number as u32
}

/// From now on this process makes these calls alone.
pub fn filter(wants: Wants) -> io::Result<()> {
    let allowed = |call: &c_long| Rule {
        call: *call,
        cases: &[&[]],
        answer: Answer::Allow,
    };
    let own = [std::process::id()];
    let mine = [needs(0, &own)];
    let first_is_own: &[&[Needs<'_>]] = &[&mine];
    let zero: &[&[Needs<'_>]] = &[&[needs(0, &[0])]];
    let video = [masked(1, IOCTL_KIND, IOCTL_KINDS)];
    let known = [needs(1, IOCTLS)];
    let device: &[&[Needs<'_>]] = &[&video, &known];
    let thread = [masked(
        0,
        bits(libc::CLONE_THREAD),
        const { &[bits(libc::CLONE_THREAD)] },
    )];
    let thread: &[&[Needs<'_>]] = &[&thread];
    let data = [masked(2, bits(libc::PROT_EXEC), &[0])];
    let data: &[&[Needs<'_>]] = &[&data];
    let names = [needs(0, const { &[bits(libc::PR_SET_NAME), PR_SET_VMA] })];
    let names: &[&[Needs<'_>]] = &[&names];
    let self_only = [needs(0, &[0]), needs(1, &[0])];
    let self_only: &[&[Needs<'_>]] = &[&self_only];
    // A reader's door, and to see whether somebody listens on the file of one that was left behind.
    let door = [
        needs(0, const { &[bits(libc::AF_UNIX)] }),
        masked(
            1,
            SOCKET_TYPE,
            const { &[bits(libc::SOCK_STREAM), bits(libc::SOCK_SEQPACKET)] },
        ),
    ];
    let message = [
        needs(0, const { &[bits(libc::AF_UNIX)] }),
        masked(1, SOCKET_TYPE, const { &[bits(libc::SOCK_DGRAM)] }),
    ];
    let kinds: [(bool, &[Needs<'_>]); 2] = [(wants.memfd, &door), (wants.notify, &message)];
    let sockets: Vec<_> = kinds.iter().filter(|it| it.0).map(|it| it.1).collect();

    let with = |call, cases, errno| Rule {
        call,
        cases,
        answer: Answer::Fail(errno),
    };
    // From Linux 5.11 on the kernel remembers which calls are allowed whatever their arguments are, and looks at no rule for
    // them. Of each picture's calls this one is left, and ARMv7's kernels interpret rules step by step.
    let mut rules = vec![with(libc::SYS_ioctl, device, libc::EPERM)];
    rules.extend(OFTEN.iter().map(allowed));
    for list in [FILES, MEMORY, THREADS, SOCKETS, WAITING, OTHERS] {
        rules.extend(list.iter().map(allowed));
    }
    rules.extend([
        #[cfg(target_pointer_width = "64")]
        with(libc::SYS_mmap, data, libc::EPERM),
        #[cfg(target_arch = "arm")]
        with(libc::SYS_mmap2, data, libc::EPERM),
        with(libc::SYS_mprotect, data, libc::EPERM),
        with(libc::SYS_tgkill, first_is_own, libc::EPERM),
        with(libc::SYS_prctl, names, libc::EINVAL),
        with(libc::SYS_prlimit64, zero, libc::EPERM),
        with(libc::SYS_setpriority, self_only, libc::EPERM),
        with(libc::SYS_socket, &sockets, libc::EACCES),
        // Children are the broker's to signal, and there is nobody else.
        with(libc::SYS_kill, &[], libc::EPERM),
        Rule {
            call: libc::SYS_clone,
            cases: thread,
            answer: Answer::Trap,
        },
    ]);
    if wants.memfd {
        rules.extend(MEMFD.iter().map(allowed));
    }
    if wants.qt {
        rules.extend(QT.iter().map(allowed));
    }
    let others = TRAPS.iter().filter(|(call, _)| *call != libc::SYS_clone);
    rules.extend(others.map(|(call, _)| Rule {
        call: *call,
        cases: &[],
        answer: Answer::Trap,
    }));
    jail::filter(&rules, Answer::Fail(libc::ENOSYS))
}

fn needs(argument: u8, values: &[u32]) -> Needs<'_> {
    masked(argument, u32::MAX, values)
}

fn masked(argument: u8, mask: u32, values: &[u32]) -> Needs<'_> {
    Needs {
        argument,
        mask,
        values,
    }
}
