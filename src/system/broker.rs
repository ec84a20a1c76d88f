//! A small process beside camd that does what camd itself has given up ([`crate::system::jail`]): it opens files and
//! cameras, connects to servers, looks names up, and runs the program of `source = "pipe"`.
//!
//! camd may be taken over by what it reads from strangers. The broker reads nothing of theirs: it takes short messages from
//! camd over a pair of sockets, and serves those that fit the configuration, which it reads itself ([`Rules`]). So camd can
//! follow a configuration that changes, a camera that is plugged in, and `/etc/resolv.conf` of another network, with no right
//! of its own to any folder that these are in, and connect to a server without being able to connect anywhere else.
//!
//! It is forked while camd has one thread, is not confined itself, and ends when camd does. What it
//! runs becomes a child of camd (`CLONE_PARENT`), which waits for it. A name is looked up by a process of its own, as
//! that takes as long as name servers take; all else is answered before camd goes on, as the system call in its place
//! would be.
//!
//! Without a broker, the functions here do the same in this process.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, PipeWriter, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use nix::sys::stat::major;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getppid};

use socket2::{SockAddr, Socket, Type};

use super::jail;
use super::program::{self, Outputs};
use super::unix_socket;

/// Of character devices of Video4Linux: Documentation/admin-guide/devices.txt.
const VIDEO4LINUX: u64 = 81;

/// Bytes of a message. A command has its arguments in one.
const MESSAGE: usize = 64 * 1024;

/// What the first byte of a message asks for.
mod op {
    pub const READ: u8 = b'r';
    pub const DEVICE: u8 = b'd';
    pub const RUN: u8 = b'x';
    pub const SIGNAL: u8 = b'k';
    pub const LOOK_UP: u8 = b'l';
    pub const CONNECT: u8 = b'c';
    pub const CELL: u8 = b'e';
}

/// What the broker does for camd, and what not.
pub trait Rules {
    /// Whether this file may be read.
    fn may_read(&mut self, path: &Path) -> bool;

    /// Whether this may be opened as a camera, though it is no device of Video4Linux.
    fn may_use(&mut self, device: &Path) -> bool;

    /// Whether this program may be run with these arguments.
    fn may_run(&mut self, command: &[String]) -> bool;

    /// Whether the addresses of this host may be looked up.
    fn may_look_up(&mut self, host: &str) -> bool;

    /// Whether it may be connected to.
    fn may_connect(&mut self, to: &SockAddr) -> bool;
}

/// camd's end.
struct Line {
    socket: OwnedFd,
    broker: Pid,
    /// From then on it is asked.
    engaged: bool,
}

static LINE: Mutex<Option<Line>> = Mutex::new(None);
/// It has ended before camd.
static LOST: AtomicBool = AtomicBool::new(false);

/// Forks the broker, which is not asked before [`engage`].
///
/// # Panics
/// If this process has more than one thread: a lock that another one held would stay locked in the broker.
pub fn fork_off(rules: impl Rules) -> io::Result<()> {
    assert_eq!(
        threads(),
        1,
        "the broker is forked before there are threads"
    );
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    // SAFETY: there is one thread, so that the child is as whole as this process.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
            *line = Some(Line {
                socket: ours,
                broker: child,
                engaged: false,
            });
            Ok(())
        }
        ForkResult::Child => {
            // A panic must not run into what is camd's.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                drop(ours);
                Broker::new(theirs, rules).and_then(Broker::serve)
            }));
            // SAFETY: it ends the process, without anything of camd's that is to be done at its end.
            unsafe { libc::_exit(i32::from(!matches!(result, Ok(Ok(()))))) }
        }
    }
}

/// Threads of this process; 1 where the kernel does not say.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// From now on the broker does what this process cannot any more.
pub fn engage() {
    if let Some(line) = &mut *LINE.lock().unwrap_or_else(PoisonError::into_inner) {
        line.engaged = true;
    }
}

/// Ends the broker: this process goes on doing everything by itself.
pub fn dismiss() {
    let line = LINE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Line { socket, broker, .. }) = line {
        drop(socket);
        // It ends at once.
        let _ = waitpid(broker, None);
    }
}

/// Whether the broker has ended, which nothing can replace.
pub fn is_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Opens a file to read it: the configuration, what it names, and what else [`Rules`] know. Neither opening nor reading ever
/// waits: a pipe without a writer has no bytes.
pub fn open(path: &Path) -> io::Result<File> {
    match ask(op::READ, path.as_os_str().as_bytes(), &[]) {
        Some(reply) => reply?.file(),
        None => open_here(path),
    }
}

/// The same without asking the broker.
pub fn open_here(path: &Path) -> io::Result<File> {
    open_file(path, libc::O_NONBLOCK)
}

/// Opens a camera or an encoder, without waiting, for reading and writing.
pub fn open_device(path: &Path) -> io::Result<File> {
    match ask(op::DEVICE, path.as_os_str().as_bytes(), &[]) {
        Some(reply) => reply?.file(),
        None => open_video(path),
    }
}

/// Runs a program as the head of a process group of its own. It is a child of this process.
pub fn run(words: &[String], outputs: Outputs) -> io::Result<Pid> {
    if words.iter().any(|word| word.contains('\0')) {
        return Err(ErrorKind::InvalidInput.into());
    }
    let joined = words.join("\0");
    let fds = [outputs.out.as_raw_fd(), outputs.err.as_raw_fd()];
    let Some(reply) = ask(op::RUN, joined.as_bytes(), &fds) else {
        return program::run(words, outputs);
    };
    let reply = reply?;
    let child = Pid::from_raw(reply.value);
    match reply.error {
        0 => Ok(child),
        errno => {
            // It has ended already, without becoming the program.
            let _ = waitpid(child, None);
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// The argument by which camd is a cell ([`crate::encode`]). It is not for people.
pub const CELL: &str = "--cell";

/// Starts this program as a cell, with this as its standard input. `None`: there is no broker, so that this process can do
/// that by itself.
pub fn start_cell(input: BorrowedFd<'_>) -> Option<io::Result<Pid>> {
    // Before there is a sandbox, too: those that are started then have to be ended in it.
    match ask_at_any_time(op::CELL, &[], &[input.as_raw_fd()])? {
        // qemu-user knows no CLONE_PARENT, and no sandbox either.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => None,
        reply => Some(reply.map(|reply| Pid::from_raw(reply.value))),
    }
}

/// Sends a signal to the group of a program that [`run`] has started.
pub fn signal_group(group: Pid, signal: Signal) -> io::Result<()> {
    let mut message = group.as_raw().to_ne_bytes().to_vec();
    message.extend((signal as i32).to_ne_bytes());
    match ask(op::SIGNAL, &message, &[]) {
        Some(reply) => reply.map(|_| ()),
        None => Ok(nix::sys::signal::killpg(group, signal)?),
    }
}

/// A socket that connects to this address, without waiting for it. Allocates nothing.
pub fn connect(to: &SockAddr) -> io::Result<Socket> {
    // SAFETY: so many bytes are there.
    let bytes = unsafe { std::slice::from_raw_parts(to.as_ptr().cast::<u8>(), to.len() as usize) };
    match ask(op::CONNECT, bytes, &[]) {
        Some(reply) => {
            let fd = reply?.fd.ok_or(ErrorKind::InvalidData)?;
            Ok(Socket::from(fd))
        }
        None => begin(to),
    }
}

fn begin(to: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(to.domain(), Type::STREAM.nonblocking().cloexec(), None)?;
    match socket.connect(to) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// An address as it lies in memory.
fn address(bytes: &[u8]) -> Option<SockAddr> {
    // SAFETY: the bytes are copied to where there is room for all addresses, and as many are told.
    let made = unsafe {
        SockAddr::try_init(|storage, length| {
            if bytes.len() > *length as usize {
                return Err(ErrorKind::InvalidInput.into());
            }
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), storage.cast::<u8>(), bytes.len());
            *length = bytes.len() as libc::socklen_t;
            Ok(())
        })
    };
    let (_, address) = made.ok()?;
    let is_known = address.as_socket().is_some() || address.as_pathname().is_some();
    is_known.then_some(address)
}

/// Looks a name up, which may take as long as name servers take. At most so many addresses.
pub fn look_up(host: &str, port: u16, most: usize) -> io::Result<Vec<SocketAddr>> {
    let Ok((mut answer, tell)) = io::pipe() else {
        return resolve(host, port, most);
    };
    let message = format!("{port} {most} {host}");
    let Some(reply) = ask(op::LOOK_UP, message.as_bytes(), &[tell.as_raw_fd()]) else {
        return resolve(host, port, most);
    };
    reply?;
    drop(tell);
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    if let Some(error) = text.strip_prefix('!') {
        return Err(io::Error::other(error.to_owned()));
    }
    // It ends with a line of its own, so that one that died is not taken for one that found nothing.
    let Some(lines) = text.strip_suffix(".\n") else {
        return Err(io::Error::other("the process that looked it up has ended"));
    };
    let unreadable = |_| io::Error::from(ErrorKind::InvalidData);
    let addresses = lines.lines().map(|line| line.parse().map_err(unreadable));
    addresses.collect()
}

fn resolve(host: &str, port: u16, most: usize) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.take(most).collect())
}

/// What the broker says.
struct Reply {
    error: i32,
    value: i32,
    fd: Option<OwnedFd>,
}

impl Reply {
    fn file(self) -> io::Result<File> {
        self.fd.map(File::from).ok_or(ErrorKind::InvalidData.into())
    }
}

/// The error of what the broker's rules refuse: no call of the system's ends so.
const REFUSED: i32 = i32::MAX;

/// `None`: there is no broker, or not yet.
fn ask(op: u8, what: &[u8], fds: &[RawFd]) -> Option<io::Result<Reply>> {
    let is_engaged = LINE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
        .is_some_and(|line| line.engaged);
    is_engaged.then(|| ask_at_any_time(op, what, fds)).flatten()
}

fn ask_at_any_time(op: u8, what: &[u8], fds: &[RawFd]) -> Option<io::Result<Reply>> {
    let line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    let line = line.as_ref()?;
    let reply = exchange(&line.socket, op, what, fds);
    if reply.is_err() && !LOST.swap(true, Ordering::Relaxed) {
        log::error!("sandbox: the process that opens files and cameras for camd has ended");
    }
    Some(reply.and_then(|reply| match reply.error {
        REFUSED => Err(io::Error::new(
            ErrorKind::PermissionDenied,
            "the sandbox keeps camd from it: the configuration does not name it",
        )),
        // There is a process to be waited for.
        _ if op == op::RUN => Ok(reply),
        0 => Ok(reply),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }))
}

fn exchange(socket: &OwnedFd, op: u8, what: &[u8], fds: &[RawFd]) -> io::Result<Reply> {
    if what.len() >= MESSAGE {
        return Ok(Reply {
            error: libc::E2BIG,
            value: 0,
            fd: None,
        });
    }
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights };
    let parts = [IoSlice::new(std::slice::from_ref(&op)), IoSlice::new(what)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &parts, control, flags, None)?;
    let mut answer = [0; 8];
    let (length, fd) = receive_one(socket, &mut answer)?;
    if length != answer.len() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let [a, b, c, d, e, f, g, h] = answer;
    Ok(Reply {
        error: i32::from_ne_bytes([a, b, c, d]),
        value: i32::from_ne_bytes([e, f, g, h]),
        fd,
    })
}

/// Room for one descriptor beside a message, as the kernel lays it down.
#[repr(align(8))]
struct Room([u8; 32]);

/// One message, and the descriptor with it, if there is one. As [`receive`], without allocating.
fn receive_one(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut room = Room([0; 32]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: a header of zeroes is an empty one; what is put into it lives until after the call. What the kernel has put into
    // the room for control messages is read by the C library's own macros.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = room.0.as_mut_ptr().cast();
        header.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
        let length = loop {
            let flags = libc::MSG_CMSG_CLOEXEC;
            match libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) {
                -1 if Errno::last() == Errno::EINTR => {}
                -1 => return Err(io::Error::last_os_error()),
                length => break length as usize,
            }
        };
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        let has_fd = !first.is_null()
            && (*first).cmsg_level == libc::SOL_SOCKET
            && (*first).cmsg_type == libc::SCM_RIGHTS;
        let fd = has_fd.then(|| {
            let fd = libc::CMSG_DATA(first).cast::<RawFd>().read_unaligned();
            OwnedFd::from_raw_fd(fd)
        });
        Ok((length, fd))
    }
}

/// One message, and the descriptors with it. Of length 0: the other end is closed.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    loop {
        match unix_socket::receive::<2>(socket, buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

fn open_file(path: &Path, flags: i32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags | libc::O_NOCTTY);
    options.open(path)
}

fn open_video(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options.open(path)
}

fn is_video(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    Ok(metadata.file_type().is_char_device() && major(metadata.rdev()) == VIDEO4LINUX)
}

/// The broker's end.
struct Broker<R> {
    socket: OwnedFd,
    rules: R,
    camd: Pid,
    /// Programs that camd may send signals to.
    started: Vec<Pid>,
}

/// Why it does not do something.
enum No {
    Errno(Errno),
    Refused,
    /// This process has been started for nothing.
    NotRun(Pid, Errno),
}

impl From<io::Error> for No {
    fn from(error: io::Error) -> No {
        No::Errno(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    }
}

impl From<Errno> for No {
    fn from(errno: Errno) -> No {
        No::Errno(errno)
    }
}

impl<R: Rules> Broker<R> {
    fn new(socket: OwnedFd, rules: R) -> io::Result<Self> {
        // What camd was given is not kept open by this process: whoever listens for its end shall hear of camd's.
        nix::unistd::dup2_stdin(&socket)?;
        drop(socket);
        jail::close_inherited();
        // SAFETY: it is open, and the standard library has no idea of what it is.
        let socket = unsafe { OwnedFd::from_raw_fd(libc::STDIN_FILENO) };
        let _ = nix::unistd::dup2_stdout(File::options().write(true).open("/dev/null")?);
        for it in [
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGPIPE,
            Signal::SIGCHLD,
        ] {
            // They are camd's to act on. Processes that look names up leave nothing behind.
            // SAFETY: it is ignored: there is no handler.
            unsafe { signal(it, SigHandler::SigIgn) }?;
        }
        prctl::set_name(c"camd-broker")?;
        // Where there is no Landlock: nobody of the same user looks into it.
        jail::hide_memory()?;
        Ok(Broker {
            socket,
            rules,
            camd: getppid(),
            started: Vec::new(),
        })
    }

    fn serve(mut self) -> io::Result<()> {
        let mut message = vec![0; MESSAGE];
        loop {
            let (length, fds) = receive(&self.socket, &mut message)?;
            let Some((op, what)) = message[..length].split_first() else {
                return Ok(());
            };
            let (error, value, fd) = match self.act(*op, what, fds) {
                Ok((value, fd)) => (0, value, fd),
                Err(No::Errno(errno)) => (errno as i32, 0, None),
                Err(No::Refused) => (REFUSED, 0, None),
                Err(No::NotRun(child, errno)) => (errno as i32, child.as_raw(), None),
            };
            let mut answer = error.to_ne_bytes().to_vec();
            answer.extend(value.to_ne_bytes());
            let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
            let rights = [ControlMessage::ScmRights(&fds)];
            let control = if fds.is_empty() { &[][..] } else { &rights };
            let parts = [IoSlice::new(&answer)];
            let flags = MsgFlags::MSG_NOSIGNAL;
            sendmsg::<()>(self.socket.as_raw_fd(), &parts, control, flags, None)?;
        }
    }

    fn act(
        &mut self,
        op: u8,
        what: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<(i32, Option<OwnedFd>), No> {
        let path = || Path::new(std::ffi::OsStr::from_bytes(what));
        match op {
            op::READ => {
                if !self.rules.may_read(path()) {
                    return Err(No::Refused);
                }
                Ok((0, Some(open_here(path())?.into())))
            }
            op::DEVICE => {
                // To open some devices does something: the board's watchdog starts to run.
                let looked_at = open_file(path(), libc::O_PATH)?;
                if !is_video(&looked_at)? && !self.rules.may_use(path()) {
                    return Err(No::Refused);
                }
                Ok((0, Some(open_video(path())?.into())))
            }
            op::RUN => {
                let text = str::from_utf8(what).map_err(|_| No::Refused)?;
                let words: Vec<_> = text.split('\0').map(str::to_owned).collect();
                let Ok([out, err]) = <[OwnedFd; 2]>::try_from(fds) else {
                    return Err(No::Refused);
                };
                if !self.rules.may_run(&words) {
                    return Err(No::Refused);
                }
                let command = program::command(&words, Outputs { out, err }, self.camd)?;
                let child = self.start(command)?;
                Ok((child.as_raw(), None))
            }
            op::CELL => {
                let Ok([input]) = <[OwnedFd; 1]>::try_from(fds) else {
                    return Err(No::Refused);
                };
                let mut command = Command::new("/proc/self/exe");
                command.arg0("camd").arg(CELL).env_clear();
                #[cfg(debug_assertions)]
                if let Some(test) = std::env::var_os("CAMD_CELL_TEST") {
                    command.env("CAMD_CELL_TEST", test);
                }
                command.process_group(0).current_dir("/");
                command.stdin(input).stdout(Stdio::null());
                let child = self.start(command)?;
                Ok((child.as_raw(), None))
            }
            op::SIGNAL => {
                let numbers = <[u8; 8]>::try_from(what).map_err(|_| No::Refused)?;
                let [a, b, c, d, e, f, g, h] = numbers;
                let group = Pid::from_raw(i32::from_ne_bytes([a, b, c, d]));
                if !self.started.contains(&group) {
                    return Err(No::Refused);
                }
                let signal = Signal::try_from(i32::from_ne_bytes([e, f, g, h]))?;
                kill(Pid::from_raw(-group.as_raw()), signal)?;
                Ok((0, None))
            }
            op::CONNECT => {
                let to = address(what).ok_or(No::Refused)?;
                if !self.rules.may_connect(&to) {
                    return Err(No::Refused);
                }
                Ok((0, Some(begin(&to)?.into())))
            }
            op::LOOK_UP => {
                let text = str::from_utf8(what).map_err(|_| No::Refused)?;
                let mut words = text.splitn(3, ' ');
                let mut number = || words.next()?.parse::<u16>().ok();
                let (Some(port), Some(most)) = (number(), number()) else {
                    return Err(No::Refused);
                };
                let host = words.next().unwrap_or_default();
                if !self.rules.may_look_up(host) {
                    return Err(No::Refused);
                }
                let Ok([tell]) = <[OwnedFd; 1]>::try_from(fds) else {
                    return Err(No::Refused);
                };
                // SAFETY: this process has one thread.
                if let ForkResult::Child = unsafe { fork() }? {
                    answer_name(host, port, most.into(), tell.into());
                    // SAFETY: it ends the process.
                    unsafe { libc::_exit(0) }
                }
                Ok((0, None))
            }
            _ => Err(No::Refused),
        }
    }

    /// Starts a program as a child of camd.
    fn start(&mut self, mut command: Command) -> Result<Pid, No> {
        let (mut failure, mut tell) = io::pipe()?;
        // SAFETY: it is a fork, and this process has one thread. The child does not return from here.
        let child = unsafe {
            libc::syscall(
                libc::SYS_clone,
                libc::CLONE_PARENT as libc::c_long | libc::c_long::from(libc::SIGCHLD),
                0 as libc::c_long,
                0 as libc::c_long,
                0 as libc::c_long,
                0 as libc::c_long,
            )
        };
        let child = Pid::from_raw(Errno::result(child)? as i32);
        if child.as_raw() == 0 {
            for it in [
                Signal::SIGHUP,
                Signal::SIGINT,
                Signal::SIGTERM,
                Signal::SIGCHLD,
            ] {
                // SAFETY: it takes the handler away.
                let _ = unsafe { signal(it, SigHandler::SigDfl) };
            }
            let error = command.exec();
            let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
            let _ = tell.write_all(&errno.to_ne_bytes());
            // SAFETY: it ends the process.
            unsafe { libc::_exit(127) }
        }
        drop((command, tell));
        // Those that have ended are nobody's to signal any more.
        self.started
            .retain(|&group| kill(Pid::from_raw(-group.as_raw()), None).is_ok());
        let mut errno = [0; 4];
        match failure.read_exact(&mut errno) {
            Ok(()) => Err(No::NotRun(
                child,
                Errno::from_raw(i32::from_ne_bytes(errno)),
            )),
            // It was closed by exec.
            Err(_) => {
                self.started.push(child);
                Ok(child)
            }
        }
    }
}

/// What a process does that looks a name up.
fn answer_name(host: &str, port: u16, most: usize, mut tell: PipeWriter) {
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let text = match resolve(host, port, most) {
        Ok(found) => {
            let mut lines: String = found.iter().map(|address| format!("{address}\n")).collect();
            lines.push_str(".\n");
            lines
        }
        Err(error) => format!("!{error}"),
    };
    let _ = tell.write_all(text.as_bytes());
}
