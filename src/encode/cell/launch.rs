//! Starts cells as processes of their own, and what such a process does first and last.

use std::ffi::c_int;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, read, write};

use super::wire::lacks;
use super::worker::Worker;
use crate::system::broker;
use crate::system::jail::{self, Allowed};
use crate::system::unix_socket;

/// What a new cell is given.
pub struct Given<'a> {
    /// The memory that only camd writes to.
    pub pictures: BorrowedFd<'a>,
    /// The memory that both write to.
    pub desk: BorrowedFd<'a>,
    /// camd adds to it when there is a job.
    pub work: BorrowedFd<'a>,
    /// The cell adds to it when it is ready, and when a job is done.
    pub done: BorrowedFd<'a>,
}

/// What starts cells.
pub trait Launch {
    /// Starts one. It may take its time before it is ready.
    fn launch(&mut self, given: &Given<'_>) -> io::Result<Box<dyn Life>>;
}

/// A cell as somebody outside sees it.
pub trait Life {
    /// Readable when it may have ended.
    fn fd(&self) -> Option<RawFd>;

    /// How it has ended, for a person; `None`: it lives.
    fn end(&mut self) -> Option<String>;

    /// Whether it has closed its descriptors already: then [`Life::end`] tells of its end at any moment.
    fn is_ending(&self) -> bool;

    /// Ends it. [`Life::end`] tells when that is so.
    fn kill(&mut self);
}

/// The argument by which camd is a cell. It is not for people.
pub const ARGUMENT: &str = broker::CELL;

/// Environment of a cell of a debug build: what it is to do wrong, for tests.
#[cfg(debug_assertions)]
const TEST: &str = "CAMD_CELL_TEST";

/// The user that a cell becomes where camd is root: none that a system has by itself. systemd gives numbers up to 65519 to
/// its services, and 65534 is nobody, whom others are, too.
const USER: u32 = 65533;

/// Address space for the stack to grow.
const STACK: u64 = 1 << 20;

/// Starts this very program as a cell.
pub struct Processes;

struct Process {
    child: Child,
    /// The other end is the cell's, and closed with it.
    line: UnixStream,
}

impl Launch for Processes {
    fn launch(&mut self, given: &Given<'_>) -> io::Result<Box<dyn Life>> {
        let (line, theirs) = UnixStream::pair()?;
        line.set_nonblocking(true)?;
        let fds = [given.pictures, given.desk, given.work, given.done].map(|fd| fd.as_raw_fd());
        let parent = std::process::id().to_ne_bytes();
        let rights = [ControlMessage::ScmRights(&fds)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(
            line.as_raw_fd(),
            &[IoSlice::new(&parent)],
            &rights,
            flags,
            None,
        )?;
        // In its sandbox camd cannot start it by itself.
        if let Some(started) = broker::start_cell(theirs.as_fd()) {
            let pid = started?;
            return Ok(Box::new(Brokered { pid, line }));
        }
        // Not by its name, which may be that of a newer one by now.
        let mut command = Command::new("/proc/self/exe");
        #[cfg(debug_assertions)]
        if Test::new().is_free() {
            // That is valgrind.
            command = Command::new(std::env::current_exe()?);
        }
        command.arg0("camd").arg(ARGUMENT).env_clear();
        #[cfg(debug_assertions)]
        if let Some(test) = std::env::var_os(TEST) {
            command.env(TEST, test);
        }
        // A group of its own: a Ctrl-C is camd's to act on.
        let child = command
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Box::new(Process { child, line }))
    }
}

impl Life for Process {
    fn fd(&self) -> Option<RawFd> {
        Some(self.line.as_raw_fd())
    }

    fn end(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(match (status.signal(), status.code()) {
                (Some(signal), _) => match Signal::try_from(signal) {
                    Ok(Signal::SIGSYS) => {
                        "ended by the kernel at a system call that it must not make (SIGSYS)"
                            .to_owned()
                    }
                    Ok(signal) => format!("ended by {signal}"),
                    Err(_) => format!("ended by signal {signal}"),
                },
                (None, code) => format!("ended by itself (code {})", code.unwrap_or_default()),
            }),
            Err(error) => Some(format!("not there any more: {error}")),
        }
    }

    fn is_ending(&self) -> bool {
        // Nothing is ever sent.
        matches!((&self.line).read(&mut [0; 1]), Ok(0))
    }

    fn kill(&mut self) {
        #[cfg(debug_assertions)]
        if Test::new().is_free() {
            // With time for valgrind's last words.
            let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
            let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
            let _ = self.child.wait();
            return;
        }
        // It has ended already, or it is another user's and camd has lost the right to: then it has nobody to work for.
        let _ = self.child.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // Where it does not end at once, init reaps it after camd.
        let _ = self.child.try_wait();
    }
}

/// One that the broker has started.
struct Brokered {
    pid: Pid,
    line: UnixStream,
}

impl Life for Brokered {
    fn fd(&self) -> Option<RawFd> {
        Some(self.line.as_raw_fd())
    }

    fn end(&mut self) -> Option<String> {
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => None,
            Ok(WaitStatus::Signaled(_, Signal::SIGSYS, _)) => Some(
                "ended by the kernel at a system call that it must not make (SIGSYS)".to_owned(),
            ),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(format!("ended by {signal}")),
            Ok(WaitStatus::Exited(_, code)) => Some(format!("ended by itself (code {code})")),
            Ok(other) => Some(format!("ended ({other:?})")),
            Err(error) => Some(format!("not there any more: {error}")),
        }
    }

    fn is_ending(&self) -> bool {
        matches!((&self.line).read(&mut [0; 1]), Ok(0))
    }

    fn kill(&mut self) {
        let _ = broker::signal_group(self.pid, Signal::SIGKILL);
    }
}

impl Drop for Brokered {
    fn drop(&mut self) {
        self.kill();
        let _ = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
    }
}

/// The whole life of a process that was started as a cell. Returns only if it could not become one.
pub fn main() -> ExitCode {
    match become_cell() {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("camd {ARGUMENT}: {error}: camd starts this by itself");
            ExitCode::from(2)
        }
    }
}

fn become_cell() -> io::Result<std::convert::Infallible> {
    // They are for camd, which then ends its cells. What the kernel sends for a fault of this process kills it all the same.
    let mut test = Test::new();
    if test.is_free() {
        SigSet::all().thread_unblock()?;
    } else {
        SigSet::all().thread_block()?;
        jail::close_inherited();
    }
    // Else ps and top call it after the link that it was started by. Where it cannot be named, they do.
    // SAFETY: the kernel copies the name.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"camd-cell".as_ptr()) };
    let (parent, [pictures, desk, work, done]) = receive()?;
    let mut worker = Worker::new(&pictures, &desk, Instant::now)?;
    drop((pictures, desk));
    // They stay open to the end.
    let (work, done) = (work.into_raw_fd(), done.into_raw_fd());
    let lacks = match test.is_free() {
        true => 0,
        false => confine(parent, work, done),
    };
    worker.ready(lacks);
    loop {
        test.misbehave(&mut worker);
        worker.work();
        add_one(done);
        let mut count = [0; 8];
        // SAFETY: nobody closes it.
        let work = unsafe { BorrowedFd::borrow_raw(work) };
        if read(work, &mut count).is_err() {
            return Err(io::Error::last_os_error());
        }
    }
}

fn add_one(fd: RawFd) {
    // SAFETY: nobody closes it.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    // It can only be full, when whoever reads it knows already.
    let _ = write(fd, &1_u64.to_ne_bytes());
}

/// Who has started this, and what it was given: by standard input.
fn receive() -> io::Result<(u32, [OwnedFd; 4])> {
    let mut parent = [0; 4];
    let (_, fds) = unix_socket::receive::<4>(&io::stdin(), &mut parent)?;
    let fds = fds
        .try_into()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok((u32::from_ne_bytes(parent), fds))
}

/// Gives up all that is not needed, and leaves this process the system calls of a cell: to read `work` and write `done`, to
/// look at the clock, and to end. `parent` is the process that has started this one, and ends it. Returns what could not be
/// given up ([`lacks`]). It is for a process of one thread, and for good.
pub fn confine(parent: u32, work: RawFd, done: RawFd) -> u32 {
    let mut lacks = 0;
    let mut note = |what, done: io::Result<()>| {
        if done.is_err() {
            lacks |= what;
        }
    };
    // A panic ends it without a word: writing one is not allowed any more.
    std::panic::set_hook(Box::new(|_| {
        // SAFETY: it ends the process.
        unsafe { libc::_exit(101) }
    }));
    let memory = jail::address_space();
    note(lacks::USER, jail::become_user(USER).map(|_| ()));
    if jail::end_with(parent).is_err() {
        // camd has ended.
        std::process::exit(0);
    }
    note(lacks::LIMITS, jail::hide_memory());
    note(lacks::SECCOMP, jail::no_new_privileges());
    note(lacks::LANDLOCK, jail::no_files());
    let limited = memory.and_then(|memory| jail::limit(memory + STACK));
    note(lacks::LIMITS, limited);
    for fd in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: nothing writes there any more. Standard input stays: its end tells camd of ours.
        unsafe { libc::close(fd) };
    }
    let any: &[c_int] = &[];
    let allowed = [
        Allowed {
            call: libc::SYS_read,
            first: &[work],
        },
        Allowed {
            call: libc::SYS_write,
            first: &[done],
        },
        // Where the kernel does not lend its clock (vDSO).
        Allowed {
            call: libc::SYS_clock_gettime,
            first: any,
        },
        #[cfg(target_pointer_width = "32")]
        Allowed {
            call: jail::time64::CLOCK_GETTIME,
            first: any,
        },
        // After SIGSTOP and SIGCONT.
        Allowed {
            call: libc::SYS_restart_syscall,
            first: any,
        },
        Allowed {
            call: libc::SYS_exit_group,
            first: any,
        },
    ];
    note(lacks::SECCOMP, jail::allow_only(&allowed));
    lacks
}

/// Nothing, where camd is shipped.
#[cfg(not(debug_assertions))]
struct Test;

#[cfg(not(debug_assertions))]
impl Test {
    fn new() -> Self {
        Test
    }

    fn is_free(&self) -> bool {
        false
    }

    fn misbehave(&mut self, _: &mut Worker) {}
}

/// What a cell of a debug build does wrong, and at which of its jobs: "open:3".
#[cfg(debug_assertions)]
struct Test {
    what: String,
    at: u32,
    count: u32,
}

#[cfg(debug_assertions)]
impl Test {
    fn new() -> Self {
        let text = std::env::var(TEST).unwrap_or_default();
        let (what, at) = text.split_once(':').unwrap_or((&text, "1"));
        Test {
            what: what.to_owned(),
            at: at.parse().unwrap_or(1),
            count: 0,
        }
    }

    /// Under valgrind, which makes calls of its own.
    fn is_free(&self) -> bool {
        self.what == "free"
    }

    fn misbehave(&mut self, worker: &mut Worker) {
        let Some(number) = worker.job() else {
            return;
        };
        self.count += 1;
        if self.count != self.at {
            return;
        }
        // SAFETY: each either fails or is the end of this process.
        unsafe {
            match self.what.as_str() {
                "open" => {
                    libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY);
                }
                "connect" => {
                    libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
                }
                "execve" => {
                    libc::execve(c"/bin/true".as_ptr(), std::ptr::null(), std::ptr::null());
                }
                "memory" => {
                    let protection = libc::PROT_READ | libc::PROT_WRITE;
                    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                    libc::mmap(std::ptr::null_mut(), 1 << 30, protection, kind, -1, 0);
                }
                "kill" => {
                    libc::kill(libc::getppid(), libc::SIGKILL);
                }
                "wild" => {
                    // Wherever a decoder can be made to write.
                    std::ptr::without_provenance_mut::<u8>(0x1000).write_volatile(1);
                }
                "panic" => panic!("for a test"),
                "hang" => loop {
                    std::hint::spin_loop();
                },
                _ => {}
            }
        }
        let mut answer = match self.what.as_str() {
            "length" | "noise" | "size" => worker.answer(),
            _ => return,
        };
        match self.what.as_str() {
            "length" => {
                answer.bytes = usize::MAX;
                worker.tell(number, &answer);
            }
            "size" => {
                answer.made = super::wire::Made::Pixels(crate::picture::frame::Size {
                    width: 8192,
                    height: 8192,
                });
                worker.tell(number, &answer);
            }
            _ => worker.lie(number, &[0xA5; 128]),
        }
    }
}
