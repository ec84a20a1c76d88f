//! What a process gives up for good: system calls (seccomp), files and the network (Landlock), memory, descriptors and
//! children (limits), its user. What the kernel lacks is told to the caller, and the rest still holds.
//!
//! The filter is a program of some twenty steps that is written here: the crates that write such programs know 64-bit
//! machines only, and most boards have 32 bits.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc::{self, c_long, c_ulong, sock_filter, sock_fprog};

/// A system call that stays allowed.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    /// Its number on this machine (`libc::SYS_…`).
    pub call: c_long,
    /// What its first argument must be one of; empty: anything.
    pub first: &'a [RawFd],
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

/// Steps of the longest program.
const STEPS: usize = 64;

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

/// `struct landlock_ruleset_attr` of linux/landlock.h, as far as kernels with the first four versions of it know it.
#[repr(C)]
#[derive(Default)]
struct Ruleset {
    files: u64,
    network: u64,
}

/// Takes all files and, where the kernel can, TCP from this process and its children. Descriptors that are open stay so.
///
/// # Errors
/// The kernel has no Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK and `lsm=…,landlock`).
pub fn no_files() -> io::Result<()> {
    const VERSION: c_long = 1;
    let none: *const Ruleset = std::ptr::null();
    // SAFETY: with this flag it only gives a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    succeeded(version)?;
    // linux/landlock.h: what each version has added.
    let files = match version {
        1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        _ => (1 << 16) - 1,
    };
    let rules = Ruleset {
        files,
        // bind and connect.
        network: if version < 4 { 0 } else { 0b11 },
    };
    let size = if version < 4 {
        size_of::<u64>()
    } else {
        size_of::<Ruleset>()
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
    // SAFETY: it takes numbers only.
    succeeded(unsafe {
        libc::syscall(
            libc::SYS_landlock_restrict_self,
            ruleset.as_raw_fd(),
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
