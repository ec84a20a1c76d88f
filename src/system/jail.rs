//! What a process gives up for good: system calls (seccomp), files and the network (Landlock), memory, descriptors and
//! children (limits), its user. What the kernel lacks is told to the caller, and the rest still holds.
//!
//! Two use it: a codec's cell, which gives up nearly everything, and camd itself, which keeps what its work needs.
//!
//! The filter is a program that is written here: seccompiler and extrasafe know 64-bit machines only, and most boards have
//! 32 bits; libseccomp is C, one more library for each machine that camd is built for. Landlock is three system calls and a
//! table of what each version of the kernel knows. The crate of that name has the same table behind a type for each
//! of its steps, which would be more to read here than the calls are.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::{self, c_long, c_ulong, sock_filter, sock_fprog};

/// A system call that stays allowed.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    /// Its number on this machine (`libc::SYS_…`).
    pub call: c_long,
    /// What its first argument must be one of; empty: anything.
    pub first: &'a [RawFd],
}

/// Calls with times of 64 bits on machines with 32, which glibc makes first from 2.34 on (Linux 5.1). libc has them of some
/// machines only. They are the same on all: arch/arm/tools/syscall.tbl, arch/x86/entry/syscalls/syscall_32.tbl.
#[cfg(target_pointer_width = "32")]
pub mod time64 {
    use nix::libc::c_long;

    /// clock_gettime64
    pub const CLOCK_GETTIME: c_long = 403;
    /// clock_getres_time64
    pub const CLOCK_GETRES: c_long = 406;
    /// clock_nanosleep_time64
    pub const CLOCK_NANOSLEEP: c_long = 407;
    /// timerfd_gettime64
    pub const TIMERFD_GETTIME: c_long = 410;
    /// timerfd_settime64
    pub const TIMERFD_SETTIME: c_long = 411;
    /// utimensat_time64
    pub const UTIMENSAT: c_long = 412;
    /// ppoll_time64
    pub const PPOLL: c_long = 414;
    /// semtimedop_time64
    pub const SEMTIMEDOP: c_long = 420;
    /// futex_time64
    pub const FUTEX: c_long = 422;
}

/// This machine's table of system calls, as linux/audit.h numbers them: a call's number means another one elsewhere.
const MACHINE: Option<u32> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
    Some(0xC000_003E)
} else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
    Some(0xC000_00B7)
} else if cfg!(all(target_arch = "arm", target_endian = "little")) {
    Some(0x4000_0028)
} else if cfg!(target_arch = "riscv64") {
    Some(0xC000_00F3)
} else if cfg!(target_arch = "x86") {
    Some(0x4000_0003)
} else {
    None
};

/// Places in `struct seccomp_data`: the call's number, the machine, and the low half of the first argument.
const AT_NUMBER: u32 = 0;
const AT_MACHINE: u32 = 4;
const AT_FIRST: u32 = 16;

/// Ends the process. Kernels before 4.14 end the thread, which is all of a process that has one.
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

/// Steps of the longest program: camd's own has some 400.
const STEPS: usize = 768;

/// A program that is being written.
struct Program(heapless::Vec<sock_filter, STEPS>);

impl Program {
    fn push(&mut self, code: u32, value: u32, skip_if_not: usize) {
        let step = sock_filter {
            // All codes have 16 bits.
            code: code as u16,
            jt: 0,
            jf: u8::try_from(skip_if_not).expect("a rule is short"),
            k: value,
        };
        let pushed = self.0.push(step);
        assert!(pushed.is_ok(), "a filter of more than {STEPS} steps");
    }

    fn load(&mut self, place: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, place, 0);
    }

    /// Passes over so many steps unless what was loaded is this.
    fn skip_unless(&mut self, value: u32, steps: usize) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, steps);
    }

    fn end(&mut self, verdict: u32) {
        self.push(libc::BPF_RET | libc::BPF_K, verdict, 0);
    }

    fn new(machine: u32, allowed: &[Allowed<'_>]) -> Self {
        let mut program = Program(heapless::Vec::new());
        // All that follows is for this machine's numbers: with another's it comes to an end that kills.
        let rules = allowed
            .iter()
            .map(|rule| Program::steps(rule))
            .sum::<usize>();
        program.load(AT_MACHINE);
        program.skip_unless(machine, 1 + rules);
        program.load(AT_NUMBER);
        for rule in allowed {
            // None has more than 31 bits.
            program.skip_unless(rule.call as u32, Program::steps(rule) - 1);
            if !rule.first.is_empty() {
                program.load(AT_FIRST);
                for &fd in rule.first {
                    program.skip_unless(fd as u32, 1);
                    program.end(ALLOW);
                }
                program.end(KILL);
            } else {
                program.end(ALLOW);
            }
        }
        program.end(KILL);
        program
    }

    fn steps(rule: &Allowed<'_>) -> usize {
        match rule.first.len() {
            0 => 2,
            fds => 3 + 2 * fds,
        }
    }

    /// One that has an answer for each call. Those that come first are found first.
    fn of_rules(machine: u32, rules: &[Rule<'_>], otherwise: Answer) -> Self {
        let mut program = Program(heapless::Vec::new());
        program.load(AT_MACHINE);
        program.jump(machine, 1, 0);
        program.end(KILL);
        program.load(AT_NUMBER);
        for rule in rules {
            program.rule(rule);
        }
        program.end(otherwise.value());
        program
    }

    fn rule(&mut self, rule: &Rule<'_>) {
        let steps = |case: &[Needs<'_>]| case.iter().map(Needs::steps).sum::<usize>() + 1;
        let cases: usize = rule.cases.iter().map(|case| steps(case)).sum();
        // None has more than 31 bits.
        self.skip_unless(rule.call as u32, cases + 1);
        for case in rule.cases {
            let end = self.0.len() + steps(case);
            for needs in *case {
                self.load(AT_FIRST + 8 * u32::from(needs.argument));
                if needs.mask != u32::MAX {
                    self.push(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, needs.mask, 0);
                }
                for (index, &value) in needs.values.iter().enumerate() {
                    let others = needs.values.len() - 1 - index;
                    let next_case = end - self.0.len() - 1;
                    let no = if others == 0 { next_case } else { 0 };
                    self.jump(value, others, no);
                }
            }
            self.end(ALLOW);
        }
        self.end(rule.answer.value());
    }

    /// Passes over so many steps if what was loaded is this, and over so many if not.
    fn jump(&mut self, value: u32, yes: usize, no: usize) {
        self.skip_unless(value, no);
        let step = self.0.last_mut().expect("it was just put there");
        step.jt = u8::try_from(yes).expect("a rule is short");
    }
}

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It makes the call.
    Allow,
    /// The call fails with this error (`libc::E…`).
    Fail(i32),
    /// It sends the thread SIGSYS, which ends the process unless that has a handler; the call is not made.
    Trap,
}

impl Answer {
    fn value(self) -> u32 {
        match self {
            Answer::Allow => ALLOW,
            // Errors have 12 bits.
            Answer::Fail(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
            Answer::Trap => libc::SECCOMP_RET_TRAP,
        }
    }
}

/// What becomes of one system call.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Its number on this machine (`libc::SYS_…`).
    pub call: c_long,
    /// It is allowed in each of these cases.
    pub cases: &'a [&'a [Needs<'a>]],
    /// What it gets in all others.
    pub answer: Answer,
}

/// What one argument has to be.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// Which: the first is 0.
    pub argument: u8,
    /// These bits of it count. Of 64 the low half is looked at: it is for arguments that are `int`s to the kernel.
    pub mask: u32,
    /// They are one of these; there is at least one.
    pub values: &'a [u32],
}

impl Needs<'_> {
    fn steps(&self) -> usize {
        1 + usize::from(self.mask != u32::MAX) + self.values.len()
    }
}

/// From now on this thread, and those that it starts, make system calls by these rules; and, unless something keeps
/// seccomp(2) from this process, all other threads.
///
/// # Errors
/// The kernel has no seccomp filters (CONFIG_SECCOMP_FILTER), or this machine's numbers are not known here.
pub fn filter(rules: &[Rule<'_>], otherwise: Answer) -> io::Result<()> {
    const SET_FILTER: c_long = 1;
    let machine = MACHINE.ok_or(io::ErrorKind::Unsupported)?;
    let mut program = Program::of_rules(machine, rules, otherwise);
    let filter = sock_fprog {
        len: program.0.len() as u16,
        filter: program.0.as_mut_ptr(),
    };
    // Before Linux 5.16 a filter turns a protection against Spectre on (SSBD) that costs a Pi 4 more than the filter does,
    // and is for processes that run code of others, such as a browser's scripts. Linux 4.17 is the first that can be told.
    let all = libc::SECCOMP_FILTER_FLAG_TSYNC;
    for flags in [all | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, all] {
        // SAFETY: the kernel copies the program, which lives until after the call.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, SET_FILTER, flags, &raw const filter) };
        match result {
            0 => return Ok(()),
            // The number of a thread that cannot have it.
            1.. => {
                return Err(io::Error::other(format!(
                    "thread {result} has another filter"
                )));
            }
            _ => {}
        }
    }
    // systemd's @system-service leaves this way out.
    set_by_prctl(&filter)
}

fn set_by_prctl(filter: &sock_fprog) -> io::Result<()> {
    // SAFETY: the kernel copies the program, which lives until after the call.
    succeeded(unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            c_ulong::from(libc::SECCOMP_MODE_FILTER),
            &raw const *filter,
        )
    })
}

/// Forbids this process and its children to gain rights by running a program (set-user-ID). What follows needs it.
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: it takes numbers only.
    succeeded(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as c_ulong, 0, 0, 0) })
}

/// From now on the kernel ends this process (SIGSYS) at its first system call that is not among these. The caller has one
/// thread; others would go on without the filter.
///
/// # Errors
/// The kernel has no seccomp filters (CONFIG_SECCOMP_FILTER), or this machine's numbers are not known here.
pub fn allow_only(allowed: &[Allowed<'_>]) -> io::Result<()> {
    let machine = MACHINE.ok_or(io::ErrorKind::Unsupported)?;
    let mut program = Program::new(machine, allowed);
    let filter = sock_fprog {
        len: program.0.len() as u16,
        filter: program.0.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which lives until after the call.
    succeeded(unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            c_ulong::from(libc::SECCOMP_MODE_FILTER),
            &raw const filter,
        )
    })
}

/// `struct landlock_ruleset_attr` of linux/landlock.h, as far as kernels with the first six versions of it know it.
#[repr(C)]
#[derive(Default)]
struct Ruleset {
    files: u64,
    network: u64,
    scope: u64,
}

/// `struct landlock_path_beneath_attr`
#[repr(C, packed)]
struct Beneath {
    rights: u64,
    parent: i32,
}

/// `struct landlock_net_port_attr`
#[repr(C)]
struct Port {
    rights: u64,
    port: u64,
}

/// What may be done with files: LANDLOCK_ACCESS_FS_* of linux/landlock.h.
pub mod rights {
    /// Run it.
    pub const EXECUTE: u64 = 1;
    /// Open a file for writing.
    pub const WRITE_FILE: u64 = 1 << 1;
    /// Open a file for reading.
    pub const READ_FILE: u64 = 1 << 2;
    /// List a folder.
    pub const READ_DIR: u64 = 1 << 3;
    /// Remove or rename a file.
    pub const REMOVE_FILE: u64 = 1 << 5;
    /// Make a file.
    pub const MAKE_REG: u64 = 1 << 8;
    /// Make the file of a socket.
    pub const MAKE_SOCK: u64 = 1 << 9;
    /// Make a file shorter.
    pub const TRUNCATE: u64 = 1 << 14;
    /// ioctl of a device.
    pub const IOCTL_DEV: u64 = 1 << 15;
    /// Those that a file can have by itself; the others are a folder's.
    pub const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
}

/// What Landlock leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// Files, and folders with all that is below them, and what may be done there ([`rights`]). What does not exist is passed
    /// over.
    pub files: Vec<(PathBuf, u64)>,
    /// Ports that TCP may connect to; `None`: any. To bind TCP to a port is taken in any case.
    pub connect: Option<Vec<u16>>,
    /// Whether abstract Unix sockets of processes outside may be spoken to.
    pub abstract_sockets: bool,
}

impl Fence {
    /// Nothing.
    fn closed() -> Self {
        Fence {
            connect: Some(Vec::new()),
            ..Fence::default()
        }
    }
}

/// Takes all files and, where the kernel can, TCP from this process and its children. Descriptors that are open stay so.
///
/// # Errors
/// The kernel has no Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK and `lsm=…,landlock`).
pub fn no_files() -> io::Result<()> {
    fence(&Fence::closed()).map(|_| ())
}

/// Takes from this thread, and those and the children that it starts, all but what the fence leaves: of files, from version 4
/// of Landlock on (Linux 6.7) of TCP, and from version 6 on (Linux 6.12) of abstract Unix sockets. Descriptors that are
/// open stay so. Returns the version.
///
/// # Errors
/// As [`no_files`].
pub fn fence(fence: &Fence) -> io::Result<u32> {
    const VERSION: c_long = 1;
    const BIND: u64 = 1;
    const CONNECT: u64 = 1 << 1;
    const ABSTRACT_SOCKETS: u64 = 1;
    let none: *const Ruleset = std::ptr::null();
    // SAFETY: with this flag it only gives a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    succeeded(version)?;
    // linux/landlock.h: what each version has added.
    let files: u64 = match version {
        1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        _ => (1 << 16) - 1,
    };
    let network = BIND | if fence.connect.is_some() { CONNECT } else { 0 };
    let rules = Ruleset {
        files,
        network: if version < 4 { 0 } else { network },
        scope: if version < 6 || fence.abstract_sockets {
            0
        } else {
            ABSTRACT_SOCKETS
        },
    };
    let size = match version {
        ..4 => size_of::<u64>(),
        4..6 => 2 * size_of::<u64>(),
        _ => size_of::<Ruleset>(),
    };
    // SAFETY: the kernel reads so many bytes of it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const rules,
            size,
            0 as c_long,
        )
    };
    succeeded(fd)?;
    // SAFETY: it was made just now, and nobody else has it.
    let ruleset = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    for (path, rights) in &fence.files {
        leave(&ruleset, path, rights & files)?;
    }
    if version >= 4 {
        for &port in fence.connect.iter().flatten() {
            leave_port(&ruleset, port, CONNECT)?;
        }
    }
    // SAFETY: it takes numbers only.
    succeeded(unsafe {
        libc::syscall(
            libc::SYS_landlock_restrict_self,
            ruleset.as_raw_fd(),
            0 as c_long,
        )
    })?;
    Ok(version as u32)
}

fn leave(ruleset: &OwnedFd, path: &Path, mut rights: u64) -> io::Result<()> {
    const PATH_BENEATH: c_long = 1;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH);
    let Ok(file) = options.open(path) else {
        return Ok(());
    };
    if !file.metadata()?.is_dir() {
        rights &= rights::OF_FILES;
    }
    let rule = Beneath {
        rights,
        parent: file.as_raw_fd(),
    };
    // SAFETY: the kernel reads the rule, whose descriptor is open.
    succeeded(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            PATH_BENEATH,
            &raw const rule,
            0 as c_long,
        )
    })
}

fn leave_port(ruleset: &OwnedFd, port: u16, rights: u64) -> io::Result<()> {
    const NET_PORT: c_long = 2;
    let rule = Port {
        rights,
        port: port.into(),
    };
    // SAFETY: the kernel reads the rule.
    succeeded(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            NET_PORT,
            &raw const rule,
            0 as c_long,
        )
    })
}

/// Bytes of address space that this process has now. It has to be asked for before files are given up.
pub fn address_space() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm
        .split(' ')
        .next()
        .and_then(|pages| pages.parse::<u64>().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    // SAFETY: it takes a number only.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = u64::try_from(page).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(pages * page)
}

/// Limits this process to so many bytes of address space, and to no new descriptor, child, file or core dump.
pub fn limit(memory: u64) -> io::Result<()> {
    for (what, most) in [
        (libc::RLIMIT_AS, memory),
        (libc::RLIMIT_NOFILE, 0),
        (libc::RLIMIT_NPROC, 0),
        (libc::RLIMIT_FSIZE, 0),
        (libc::RLIMIT_CORE, 0),
    ] {
        let most = libc::rlim_t::try_from(most).unwrap_or(libc::RLIM_INFINITY);
        let limit = libc::rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        // SAFETY: the kernel copies the two numbers.
        succeeded(unsafe { libc::setrlimit(what, &raw const limit) })?;
    }
    Ok(())
}

/// Becomes this user, without any group but that of the same number. False: the process is not root, and stays what it is.
pub fn become_user(user: u32) -> io::Result<bool> {
    // SAFETY: these take numbers only, and an empty list.
    unsafe {
        if libc::geteuid() != 0 {
            return Ok(false);
        }
        succeeded(libc::setgroups(0, std::ptr::null()))?;
        succeeded(libc::setresgid(user, user, user))?;
        succeeded(libc::setresuid(user, user, user))?;
    }
    Ok(true)
}

/// Lets nobody of the same user look into this process (ptrace, /proc/PID/mem).
pub fn hide_memory() -> io::Result<()> {
    // SAFETY: it takes numbers only.
    succeeded(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0 as c_ulong, 0, 0, 0) })
}

/// Lets the kernel end this process as soon as its parent has ended; `parent` is that one, which may have ended already.
/// To be called after [`become_user`], which undoes it.
pub fn end_with(parent: u32) -> io::Result<()> {
    let signal = libc::SIGKILL as c_ulong;
    // SAFETY: it takes numbers only.
    succeeded(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) })?;
    match std::os::unix::process::parent_id() == parent {
        true => Ok(()),
        false => Err(io::Error::other("its parent has ended")),
    }
}

/// Closes all descriptors above those of standard error.
pub fn close_inherited() {
    // SAFETY: it takes numbers only; the caller has opened nothing yet.
    let closed = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3 as c_long,
            c_long::from(i32::MAX),
            0 as c_long,
        )
    };
    if closed == 0 {
        return;
    }
    // Before Linux 5.9. The parent marks what it opens to be closed (O_CLOEXEC): this is for what it does not know of.
    for fd in 3..1024 {
        // SAFETY: as above; one that is not open is refused.
        unsafe { libc::close(fd) };
    }
}

fn succeeded(result: impl Into<i64>) -> io::Result<()> {
    match result.into() {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "jail_tests.rs"]
mod tests;
