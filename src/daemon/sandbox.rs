//! What camd gives up as soon as it has started (`limits.sandbox`), so that who takes it over has not got much.
//!
//! - **System calls** (seccomp). Those that camd and its libraries make are allowed, some of them with certain arguments only.
//!   Those that an attacker wants and nothing in camd makes by accident (execve, ptrace, mount, …) end the process with a line
//!   in the log. All others fail with ENOSYS, as on a kernel that has not got them: a C library of a later year that tries
//!   a new call goes on with the old one, as it has to on old kernels. EPERM would be an answer there, and the end of
//!   the process would be the end of a box that nobody looks after. OpenSSH and Firecracker end the process at any call that
//!   they do not know: they are built together with their C library, or restarted by somebody. systemd's services get
//!   EPERM by default, and ENOSYS for what systemd does not know, for the same reason as here.
//! - **Files and TCP** (Landlock). What a camd that serves still opens by itself is in [`Reach::fence`]. All else, above all
//!   cameras, configuration and connections to servers, is opened by the broker ([`crate::system::broker`]) if [`Names`] says
//!   so. camd itself makes no Internet socket any more, whatever the kernel has: those that it serves on are open.
//!
//! Both depend on the configuration of the start: without a Qt sink there is no shared memory. What a later configuration
//! needs beyond that waits for a restart, which [`Reach::missing`] tells. Cameras, programs, servers, passwords and
//! certificates do not.

use std::env;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use log::{info, warn};
use nix::libc;
use socket2::SockAddr;

use crate::config::named::Named;
use crate::config::{self, Address, Bind, Config, Remote, SinkKind, SourceKind};
use crate::daemon::calls::{self, TRAPS, Wants};
use crate::limits::CONFIG_FILE;
use crate::system::files::{self, Takes};
use crate::system::jail::rights::{
    MAKE_REG, MAKE_SOCK, READ_DIR, READ_FILE, REMOVE_FILE, TRUNCATE, WRITE_FILE,
};
use crate::system::jail::{self, Fence};
use crate::system::names::RESOLV_CONF;
use crate::system::{broker, logging, preloaded, trapped};
use crate::tls::identity::state_folder;

/// Time zones and issuers of certificates, which everybody may read. A program that renews them puts new files there.
const PUBLIC: [&str; 12] = [
    "/usr/share/zoneinfo",
    "/usr/lib/zoneinfo",
    "/etc/zoneinfo",
    "/etc/localtime",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust",
];
/// Variables that name more of them.
const PUBLIC_BY_NAME: [&str; 3] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "TZDIR"];

/// What the broker opens and runs: what the configuration of the start names, and what its file names when it is asked.
#[derive(Clone, Debug, Default)]
struct Names {
    /// The configuration, and the one in its place.
    configuration: Vec<PathBuf>,
    /// They are asked for by name in all runs of camd.
    others: Vec<PathBuf>,
    devices: Vec<PathBuf>,
    /// Those that were run: a file that was changed since changes nothing before it is read again.
    commands: Vec<Vec<String>>,
    /// The same for servers.
    servers: Vec<Server>,
}

/// A server that camd connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Server {
    /// Of a host, by its name or address. Without a port: on any, because it may send camd to another of its ports.
    Tcp(String, Option<u16>),
    Unix(PathBuf),
}

impl Server {
    fn all(config: &Config) -> Vec<Server> {
        let tcp = |remote: &Remote| Server::Tcp(remote.host.clone(), Some(remote.port));
        let camera = &config.camera;
        let listeners = config.listeners.iter();
        let mut all: Vec<_> = listeners
            .filter_map(|listener| match &listener.bind {
                Bind::Relay(remote) => Some(tcp(remote)),
                _ => None,
            })
            .collect();
        match camera.source {
            SourceKind::Push => all.extend(camera.address.as_ref().map(|address| match address {
                Address::Tcp(remote) => tcp(remote),
                Address::Unix(path) => Server::Unix(path.clone()),
            })),
            SourceKind::Http => {
                let url = camera.url.as_ref();
                all.extend(url.map(|url| Server::Tcp(url.server.host.clone(), None)));
            }
            SourceKind::Call => all.extend(config.call.dial.as_ref().map(|dial| tcp(&dial.relay))),
            _ => {}
        }
        all
    }

    /// What a name stands for is not asked here: whoever may look it up may connect to any address at its port.
    fn is_at(&self, to: &SockAddr) -> bool {
        match self {
            Server::Unix(path) => to.as_pathname() == Some(path),
            Server::Tcp(host, port) => to.as_socket().is_some_and(|to| {
                let same_host = host.parse().map_or(true, |ip: IpAddr| ip == to.ip());
                same_host && port.is_none_or(|port| port == to.port())
            }),
        }
    }

    fn is_named(&self, name: &str) -> bool {
        matches!(self, Server::Tcp(host, _) if host == name)
    }
}

impl Names {
    fn new(
        config: &Config,
        files: [Option<&Path>; 2],
        board: Option<&Path>,
        updater: Option<&Path>,
    ) -> Names {
        let owned = |path: &Path| path.to_owned();
        let mut servers = Server::all(config);
        servers.extend(updater.map(|socket| Server::Unix(owned(socket))));
        let others = [Some(Path::new(RESOLV_CONF)), board];
        Names {
            configuration: files.into_iter().flatten().map(owned).collect(),
            others: others.into_iter().flatten().map(owned).collect(),
            devices: vec![config.camera.device.clone()],
            commands: vec![config.camera.command.clone()],
            servers,
        }
    }

    /// Whether there is such a server, in the files of now if need be.
    fn has_server(&mut self, is_it: impl Fn(&Server) -> bool) -> bool {
        if self.servers.iter().any(&is_it) {
            return true;
        }
        let now = self
            .configuration
            .iter()
            .filter_map(|path| config::load_again(path).ok());
        let mut now = now.flat_map(|config| Server::all(&config));
        match now.find(is_it) {
            Some(server) => {
                self.servers.push(server);
                true
            }
            None => false,
        }
    }

    fn in_files(&self) -> impl Iterator<Item = Named> {
        let paths = self.configuration.iter();
        let texts = paths.map(|path| files::read_text(path, CONFIG_FILE, Takes::Files));
        texts.flatten().map(|text| Named::in_text(&text))
    }
}

impl broker::Rules for Names {
    fn may_read(&mut self, path: &Path) -> bool {
        let is = |known: &PathBuf| known == path;
        self.configuration.iter().any(is)
            || self.others.iter().any(is)
            || self.in_files().any(|named| named.files.iter().any(is))
    }

    fn may_use(&mut self, device: &Path) -> bool {
        let is = |known: &PathBuf| known == device;
        self.devices.iter().any(is) || self.in_files().any(|named| named.devices.iter().any(is))
    }

    fn may_run(&mut self, command: &[String]) -> bool {
        if self.commands.iter().any(|known| known == command) {
            return true;
        }
        let is_named = self
            .in_files()
            .any(|named| named.commands.iter().any(|known| known == command));
        if is_named {
            self.commands.push(command.to_vec());
        }
        is_named
    }

    fn may_look_up(&mut self, host: &str) -> bool {
        self.has_server(|server| server.is_named(host))
    }

    fn may_connect(&mut self, to: &SockAddr) -> bool {
        self.has_server(|server| server.is_at(to))
    }
}

/// What a configuration needs of what a sandbox may take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reach {
    /// Files and folders, with what is done there and the key that names them.
    files: Vec<(PathBuf, u64, String)>,
    /// Pictures in a memfd for other programs.
    memfd: bool,
    /// System V's shared memory.
    qt: bool,
}

impl Reach {
    fn of(config: &Config) -> Reach {
        let mut reach = Reach::default();
        let camera = &config.camera;
        match camera.source {
            SourceKind::Replay => {
                if let Some(path) = &camera.path {
                    reach.file(path, READ_FILE | READ_DIR, "camera.path");
                }
            }
            SourceKind::QtShm => reach.qt = true,
            SourceKind::V4l2
            | SourceKind::Pipe
            | SourceKind::Pattern
            | SourceKind::Push
            | SourceKind::Http
            | SourceKind::Call => {}
        }
        for listener in &config.listeners {
            match &listener.bind {
                // It is removed at the end.
                Bind::Unix(path) => reach.folder_of(path, REMOVE_FILE, "listener.bind"),
                Bind::Tcp(_) | Bind::Relay(_) => {}
            }
            let own = listener.tls && listener.certificate.is_none();
            if own && !matches!(listener.bind, Bind::Relay(_)) {
                let all = READ_FILE | READ_DIR | WRITE_FILE | MAKE_REG | REMOVE_FILE | TRUNCATE;
                reach.file(&state_folder(), all, "listener.tls");
            }
        }
        for sink in &config.sinks {
            match sink.kind {
                SinkKind::Memfd => {
                    reach.memfd = true;
                    reach.folder_of(&sink.socket, MAKE_SOCK | REMOVE_FILE, "sink.socket");
                }
                SinkKind::QtShm => reach.qt = true,
            }
        }
        if reach.qt {
            // Qt's own choice, see `system::shm::key`; and who holds a lock is looked up.
            let folder = env::var_os("TMPDIR").filter(|folder| !folder.is_empty());
            let folder = folder.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
            let files = READ_FILE | WRITE_FILE | MAKE_REG | REMOVE_FILE;
            reach.file(&folder, files, "shared memory of Qt");
            reach.file(Path::new("/proc"), READ_FILE, "shared memory of Qt");
        }
        reach
    }

    fn file(&mut self, path: &Path, rights: u64, key: &str) {
        self.files.push((path.to_owned(), rights, key.to_owned()));
    }

    fn folder_of(&mut self, path: &Path, rights: u64, key: &str) {
        self.file(path.parent().unwrap_or(path), rights, key);
    }

    /// Keys that need more than this.
    fn missing(&self, other: &Reach) -> Vec<String> {
        let mut keys = Vec::new();
        for (path, rights, key) in &other.files {
            let has = |(known, given, _): &(PathBuf, u64, String)| {
                path.starts_with(known) && given & rights == *rights
            };
            if !self.files.iter().any(has) {
                keys.push(format!("{key} ({})", path.display()));
            }
        }
        keys.dedup();
        keys
    }

    fn fence(&self) -> Fence {
        let public = PUBLIC.iter().map(PathBuf::from);
        let by_name = PUBLIC_BY_NAME.iter().filter_map(env::var_os);
        let by_name = by_name.flat_map(|paths| env::split_paths(&paths).collect::<Vec<_>>());
        let public = public.chain(by_name.filter(|path| path.is_absolute()));
        let mut files: Vec<_> = public.map(|path| (path, READ_FILE | READ_DIR)).collect();
        // Names alone: which nodes there are.
        files.push((PathBuf::from("/dev"), READ_DIR));
        for (path, rights, _) in &self.files {
            files.push((existing(path), *rights));
        }
        let notify = env::var_os("NOTIFY_SOCKET").unwrap_or_default();
        Fence {
            files,
            connect: Some(Vec::new()),
            abstract_sockets: notify.as_encoded_bytes().starts_with(b"@"),
        }
    }
}

/// The folder of a path that is not there yet, as far as there is one: it may be made later, or something is mounted there.
/// Not that of all files.
fn existing(path: &Path) -> PathBuf {
    let mut found = path.ancestors().filter(|path| path.exists());
    let found = found.next().unwrap_or(path);
    match found.parent() {
        Some(_) => found.to_owned(),
        None => path.to_owned(),
    }
}

/// A sandbox that is to be, or is.
pub struct Sandbox {
    /// Of the start; `None`: there is none.
    reach: Option<Reach>,
    /// Why there is to be none.
    off: &'static str,
    /// Of the configuration that is in force.
    told: Vec<String>,
}

impl Sandbox {
    /// Forks the broker, where the configuration wants a sandbox. To be called while there is one thread.
    ///
    /// `files` are the configuration and the one in its place, `board` is the file that says how the box is, and `updater` the
    /// socket of what updates it.
    pub fn prepare(
        config: &Config,
        files: [Option<&Path>; 2],
        board: Option<&Path>,
        updater: Option<&Path>,
    ) -> io::Result<Sandbox> {
        let off = if !config.limits.sandbox {
            Some("limits.sandbox = false")
        } else if preloaded::stands_in_for(c"ioctl") {
            Some(
                "LD_PRELOAD has a library that takes the place of ioctl, and would not see the cameras that the \
                 sandbox's second process opens",
            )
        } else {
            None
        };
        let wanted = off.is_none();
        if wanted {
            broker::fork_off(Names::new(config, files, board, updater))?;
        }
        Ok(Sandbox {
            reach: wanted.then(|| Reach::of(config)),
            off: off.unwrap_or_default(),
            told: Vec::new(),
        })
    }

    /// Gives up what is not needed any more, and says so. To be called while there is one thread.
    pub fn enter(&mut self, config: &Config) {
        let Some(reach) = &self.reach else {
            info!(target: "camd::daemon::notice", "sandbox: off ({})", self.off);
            return;
        };
        let (files, calls) = confine(reach);
        let program = match config.camera.source {
            SourceKind::Pipe => "; the program of camera.command runs outside of it",
            _ => "",
        };
        let files_are = match files {
            Ok(4..) => "files and TCP",
            _ => "files",
        };
        match (files, calls) {
            (Ok(version), Ok(())) => info!(
                target: "camd::daemon::notice",
                "sandbox: on: system calls (seccomp), {files_are} (Landlock {version}){program}"
            ),
            (Err(error), Ok(())) => info!(
                target: "camd::daemon::notice",
                "sandbox: in part: system calls (seccomp); files stay in reach: {}{program}",
                lacks("Landlock", &error)
            ),
            (Ok(version), Err(error)) => info!(
                target: "camd::daemon::notice",
                "sandbox: in part: {files_are} (Landlock {version}); all system calls can be made: {}{program}",
                lacks("seccomp filters", &error)
            ),
            (Err(files), Err(calls)) => {
                info!(
                    target: "camd::daemon::notice",
                    "sandbox: none: {}, {}",
                    lacks("seccomp filters", &calls),
                    lacks("Landlock", &files)
                );
                self.reach = None;
                return broker::dismiss();
            }
        }
        broker::engage();
        #[cfg(debug_assertions)]
        attack::attack();
    }

    /// Says what of another configuration is out of reach until the next start.
    pub fn compare(&mut self, config: &Config) {
        let Some(reach) = &self.reach else { return };
        let missing = reach.missing(&Reach::of(config));
        if !missing.is_empty() && missing != self.told {
            warn!(
                "sandbox: out of reach until camd is restarted: {}",
                missing.join(", ")
            );
        }
        self.told = missing;
    }
}

fn lacks(what: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL) => {
            format!("this kernel has no {what}")
        }
        None if error.kind() == ErrorKind::Unsupported => {
            format!("camd knows no {what} for this machine")
        }
        _ => format!("{what}: {error}"),
    }
}

fn confine(reach: &Reach) -> (io::Result<u32>, io::Result<()>) {
    let again = |error: &io::Error| io::Error::from(error.kind());
    if let Err(error) = jail::no_new_privileges() {
        return (Err(again(&error)), Err(error));
    }
    let files = jail::fence(&reach.fence());
    let wants = Wants {
        memfd: reach.memfd,
        qt: reach.qt,
        notify: env::var_os("NOTIFY_SOCKET").is_some(),
    };
    let calls =
        trapped::say_names(logging::front_of_errors(), TRAPS).and_then(|()| calls::filter(wants));
    (files, calls)
}

/// What somebody would try who has taken camd over, for tests of debug builds.
#[cfg(debug_assertions)]
mod attack {
    use std::ffi::CString;

    use log::info;
    use nix::errno::Errno;
    use nix::libc::{self, c_long};

    /// Environment of a debug build: "open /etc/shadow; execve".
    const TEST: &str = "CAMD_SANDBOX_TEST";

    pub fn attack() {
        for what in std::env::var(TEST).unwrap_or_default().split(';') {
            let what = what.trim();
            if what.is_empty() {
                continue;
            }
            let (call, argument) = what.split_once(' ').unwrap_or((what, ""));
            let result = Errno::result(attempt(call, argument));
            let result = result.map_or_else(|errno| format!("{errno:?}"), |_| "done".to_owned());
            info!("sandbox test: {what}: {result}");
        }
    }

    fn attempt(call: &str, argument: &str) -> c_long {
        let path = CString::new(argument).unwrap_or_default();
        let path = path.as_ptr();
        let none = std::ptr::null::<u8>();
        let number = argument.parse::<i32>().unwrap_or_default();
        let port = argument.parse::<u16>().unwrap_or_default();
        // SAFETY: each either fails, is the end of this process, or does what a test wants to be done.
        unsafe {
            match call {
                "open" => libc::open(path, libc::O_RDONLY | libc::O_NONBLOCK) as c_long,
                "write" => libc::open(path, libc::O_WRONLY | libc::O_NONBLOCK) as c_long,
                "create" => libc::open(path, libc::O_WRONLY | libc::O_CREAT, 0o600) as c_long,
                "unlink" => libc::unlink(path) as c_long,
                "rename" => libc::rename(path, c"/tmp/camd-stolen".as_ptr()) as c_long,
                "chmod" => libc::chmod(path, 0o666) as c_long,
                "symlink" => libc::symlink(path, c"/tmp/camd-link".as_ptr()) as c_long,
                "mkdir" => libc::mkdir(path, 0o700) as c_long,
                "execve" => libc::execve(path, std::ptr::null(), std::ptr::null()) as c_long,
                "execveat" => {
                    libc::syscall(libc::SYS_execveat, libc::AT_FDCWD, path, none, none, 0)
                }
                "fork" => c_long::from(libc::fork()),
                "clone3" => libc::syscall(libc::SYS_clone3, none, 0),
                "ptrace" => libc::ptrace(libc::PTRACE_ATTACH, number, 0, 0),
                "process_vm_readv" => {
                    libc::syscall(libc::SYS_process_vm_readv, number, none, 0, none, 0, 0)
                }
                "kill" => c_long::from(libc::kill(number, 0)),
                "mount" => libc::syscall(libc::SYS_mount, none, path, none, 0, none),
                "unshare" => c_long::from(libc::unshare(libc::CLONE_NEWUSER)),
                "bpf" => libc::syscall(libc::SYS_bpf, 0, none, 0),
                "keyctl" => libc::syscall(libc::SYS_keyctl, 0, -3, 0),
                "init_module" => libc::syscall(libc::SYS_init_module, none, 0, none),
                "reboot" => libc::syscall(libc::SYS_reboot, 0, 0, 0, none),
                "io_uring_setup" => libc::syscall(libc::SYS_io_uring_setup, 1, none),
                "unknown" => libc::syscall(0x0FFF_FFF0),
                "mprotect" => {
                    let (protection, kind) =
                        (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                    let page = libc::mmap(std::ptr::null_mut(), 4096, protection, kind, -1, 0);
                    c_long::from(libc::mprotect(
                        page,
                        4096,
                        libc::PROT_READ | libc::PROT_EXEC,
                    ))
                }
                "tiocsti" => {
                    // TIOCSTI: a letter for the shell on the same terminal.
                    c_long::from(libc::ioctl(2, 0x5412, none))
                }
                "socket" => {
                    let family = match argument {
                        "inet" => libc::AF_INET,
                        "inet6" => libc::AF_INET6,
                        "unix" => libc::AF_UNIX,
                        "netlink" => libc::AF_NETLINK,
                        _ => libc::AF_PACKET,
                    };
                    c_long::from(libc::socket(family, libc::SOCK_STREAM, 0))
                }
                "udp" => c_long::from(libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)),
                "connect" | "bind" => {
                    let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
                    if socket < 0 {
                        return -1;
                    }
                    let mut address: libc::sockaddr_in = std::mem::zeroed();
                    address.sin_family = libc::AF_INET as _;
                    address.sin_port = port.to_be();
                    address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
                    let length = size_of_val(&address) as libc::socklen_t;
                    let address = (&raw const address).cast();
                    match call {
                        "bind" => c_long::from(libc::bind(socket, address, length)),
                        _ => c_long::from(libc::connect(socket, address, length)),
                    }
                }
                // By way of the broker.
                "dial" => {
                    let to = std::net::SocketAddr::from(([127, 0, 0, 1], port));
                    broker(crate::system::broker::connect(&to.into()).map(|_| ()))
                }
                "dial-unix" => {
                    let to = socket2::SockAddr::unix(argument)
                        .and_then(|to| crate::system::broker::connect(&to));
                    broker(to.map(|_| ()))
                }
                "name" => broker(crate::system::broker::look_up(argument, 80, 1).map(|_| ())),
                "read" => broker(crate::system::broker::open(argument.as_ref()).map(|_| ())),
                "device" => {
                    broker(crate::system::broker::open_device(argument.as_ref()).map(|_| ()))
                }
                "run" => {
                    let null = || std::fs::File::open("/dev/null").map(Into::into);
                    let pipe = || std::io::pipe().map(|(_, end)| end.into());
                    let end = || null().or_else(|_| pipe());
                    let words: Vec<_> = argument.split(' ').map(str::to_owned).collect();
                    let outputs = end().and_then(|out| {
                        end().map(|err| crate::system::program::Outputs { out, err })
                    });
                    broker(
                        outputs
                            .and_then(|it| crate::system::broker::run(&words, it))
                            .map(|_| ()),
                    )
                }
                "signal" => {
                    let group = nix::unistd::Pid::from_raw(number);
                    broker(crate::system::broker::signal_group(
                        group,
                        nix::sys::signal::SIGKILL,
                    ))
                }
                _ => panic!("no such test: {call}"),
            }
        }
    }

    fn broker(result: std::io::Result<()>) -> c_long {
        match result {
            Ok(()) => 0,
            Err(error) => {
                let refused = error.kind() == std::io::ErrorKind::PermissionDenied;
                let errno = match error.raw_os_error() {
                    Some(errno) => Errno::from_raw(errno),
                    // The broker's own rule.
                    None if refused => Errno::EACCES,
                    None => Errno::EIO,
                };
                errno.set();
                -1
            }
        }
    }
}
