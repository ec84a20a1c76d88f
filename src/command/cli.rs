//! The command line: what was asked for ([`parse`]), the help, and the exit codes.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use lexopt::Arg;

use crate::command::fetch::{self, FetchError, FetchOptions, FilmOptions, Output};
use crate::config::{
    self, Bind, Config, DEFAULT_PATH, DEMO_PORT, DEMO_PORT_MAX, SourceKind, nearest,
};
use crate::tls::fingerprint::Fingerprint;
use crate::tls::identity::{Identity, is_open_to_all, open_to_all, state_folder};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve the camera.
    Serve {
        /// The file to read.
        config: PathBuf,
        /// What to take in its place if it has errors.
        fallback: Option<PathBuf>,
        /// See [`crate::system::watchdog`].
        watchdog: Option<PathBuf>,
        /// Where the box around camd says how it is, for the pages.
        board: Option<PathBuf>,
        /// Where the box's updater listens.
        updater: Option<PathBuf>,
    },
    /// Serve [`config::demo_config_at`] a port.
    Demo {
        /// Of http.
        port: u16,
    },
    /// See [`check`].
    Check {
        /// The file to check.
        config: PathBuf,
        /// Say what is in it, for scripts.
        list: bool,
    },
    /// List the cameras of this machine.
    Devices {
        /// As JSON, not for a person.
        json: bool,
    },
    /// See [`crate::command::fetch::run`]. The URL begins with one of [`SCHEMES`]; the rest is unchecked.
    Fetch(FetchOptions),
    /// See [`crate::command::passwd::run`].
    Passwd,
    /// Print [`help`].
    Help(Topic),
    /// Print [`VERSION`].
    Version,
}

/// Without `-o`: one picture goes to this file, several are numbered in the working directory.
const SNAPSHOT: &str = "snapshot.jpg";
/// The same from shared memory, where pictures are PNGs.
const SNAPSHOT_PNG: &str = "snapshot.png";

/// What a URL given to `camd fetch` begins with.
pub const SCHEMES: [&str; 12] = [
    "pull://", "push://", "raw://", "http://", "call://", "pulls://", "pushs://", "raws://",
    "https://", "calls://", "memfd:", "shm:",
];

const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// `--timeout`, in seconds.
const FETCH_TIMEOUT_MIN: f64 = 0.1;
const FETCH_TIMEOUT_MAX: f64 = 86400.0;

/// What help is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The program as a whole.
    Camd,
    /// `camd check`, with all keys of the configuration.
    Check,
    /// `camd devices`
    Devices,
    /// `camd fetch`
    Fetch,
    /// `camd passwd`
    Passwd,
}

impl Topic {
    const COMMANDS: [Topic; 4] = [Topic::Check, Topic::Devices, Topic::Fetch, Topic::Passwd];

    /// As it is typed after `camd`.
    fn word(self) -> &'static str {
        match self {
            Topic::Camd => "",
            Topic::Check => "check",
            Topic::Devices => "devices",
            Topic::Fetch => "fetch",
            Topic::Passwd => "passwd",
        }
    }

    /// Its long options, for guessing what a wrong one should have been.
    fn options(self) -> &'static [&'static str] {
        match self {
            Topic::Camd => &[
                "config", "fallback", "watchdog", "box", "update", "demo", "port", "help",
                "version",
            ],
            Topic::Check => &["config", "list", "help"],
            Topic::Devices => &["json", "help"],
            Topic::Fetch => &["count", "output", "fingerprint", "timeout", "help"],
            Topic::Passwd => &["help"],
        }
    }
}

/// How the process ends. A panic, which is a bug of camd's, ends it by SIGABRT, in a debug build with 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or told to stop.
    Success = 0,
    /// Something failed that worked or should have: an address in use, a lost connection, a full disk.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Nothing went wrong, but there is nothing: no camera, no picture in time.
    Nothing = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<&FetchError> for Exit {
    fn from(error: &FetchError) -> Exit {
        match error {
            FetchError::Url(_) => Exit::Usage,
            FetchError::NoPicture(_) => Exit::Nothing,
            FetchError::Connection(_) | FetchError::Protocol(_) | FetchError::File(_) => {
                Exit::Failure
            }
        }
    }
}

/// A command line that makes no sense: what is wrong with it, and where the way out is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    /// What is wrong: one line, for a person.
    pub message: String,
    /// Whose help shows the way out.
    pub topic: Topic,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, topic } = self;
        match topic {
            Topic::Camd => write!(f, "{message}\nTry `camd --help`."),
            _ => write!(f, "{message}\nTry `camd {} --help`.", topic.word()),
        }
    }
}

impl std::error::Error for UsageError {}

/// What is said where the configuration is not there.
pub const NO_CONFIGURATION: &str = "\
camd: to see it without a configuration: camd --demo
camd: to use another file:               camd --config PATH
camd: to write one:                      camd devices, camd check --help";

/// What `--version` prints.
pub const VERSION: &str = concat!("camd ", env!("CARGO_PKG_VERSION"));

const HELP: &str = "\
camd serves a camera to many viewers over the network.

Usage:
  camd [--config PATH] [--fallback PATH] [--watchdog DEVICE] [--box FILE]
       [--update SOCKET]
                               serve the camera, as /etc/camd.toml says
  camd --demo [--port N]       serve a built-in moving picture to this machine
  camd check [--config PATH]   check the configuration, report all its errors
  camd devices [--json]        list cameras: formats, sizes, rates, controls
  camd fetch URL [-n COUNT] [-o FILE|DIR|-] [--timeout S]
                               get pictures from a camd or another MJPEG server
  camd passwd                  keep a password for a [[user]] as a hash
  camd help [COMMAND]          more on a command; `check` lists all keys
  camd --version

Options:
  --config PATH    the configuration [default: /etc/camd.toml]
  --fallback PATH  the configuration to use if that one has errors; the page,
                   /state and the log then show these errors
  --watchdog DEVICE
                   feed the board's watchdog (/dev/watchdog), which resets the
                   board if camd hangs or crashes, or if the camera hangs
  --box FILE       show on the page and in /state what FILE says of the box
                   around camd: lines key=value, as deploy/image writes them
  --update SOCKET  take updates of that box (POST /update) from users who may,
                   and hand them to the program that listens there
  --demo           http on 127.0.0.1:8080, push on :8081, pull on :8082,
                   call on :8083, raw on :8084
  --port N         --demo: http on port N, the others on the four behind it;
                   0: on any free ports
  -h, --help       this text
  -V, --version

To see it work:
  camd --demo                                  then open http://127.0.0.1:8080/
  camd fetch push://127.0.0.1:8081             then look at snapshot.jpg
  camd fetch pull://127.0.0.1:8082 -n 0 -o - | ffplay -
  ffplay -f mjpeg tcp://127.0.0.1:8084
  curl -o snapshot.jpg http://127.0.0.1:8080/snapshot

To put it on a box:
  camd devices                                 list cameras and their sizes
  editor /etc/camd.toml && camd check          choose
  systemctl reload camd                        use

Exit codes:
  0    done, or ended by SIGTERM or SIGINT
  1    failed while running: address in use, connection lost, disk full
  2    wrong command line or configuration
  3    nothing there: devices found no camera, fetch got no picture in time
  134  a bug in camd, which aborts; the log says where: please report it
  159  ended by its sandbox: an attack or a bug; the log names the system call

Signals:
  SIGHUP           read the configuration again; if it has errors, keep the
                   old one
  SIGTERM, SIGINT  close the camera and all connections, stop the board's
                   watchdog, and end within a second

Log:
camd never waits for standard error. Lines that it does not take are counted,
and the log says how many are missing. What peers bring about is said 16 times
for each address and kind, then ever more rarely, and summed up each minute.
/dev/kmsg gets each line with its level (<4>). A console (/dev/ttyS0,
/dev/tty1) shows errors, warnings, addresses and the camera's state.

Sandbox:
Once it has started, camd gives up all rights that it does not need: system
calls (seccomp), files and ports (Landlock). The log says what the kernel can do
of that. A second process, camd-broker, opens cameras and the files that the
configuration names, connects to its servers, and runs the program of source =
\"pipe\", which has no sandbox. A system call that only an attacker makes ends
camd by SIGSYS, and the log names it. `sandbox = false` in [limits] turns all of
it off.

Watchdogs:
camd feeds systemd's watchdog (WatchdogSec=) and the board's from its event
loop, but not while a V4L2 camera hangs. A camera hangs if it is plugged in, no
other program uses it, a client waits, and it has given no picture for 60 s. An
unplugged camera does not count, and neither do pictures from the network or
from a program. Restarts for a hung camera are at least 60 s apart.

Environment:
  RUST_LOG       what to log on standard error: error, warn, info (default),
                 debug, trace, or by module (camd::source=debug)
  NO_COLOR       a log without colours on a terminal
  JOURNAL_STREAM set by systemd: the log has levels for the journal (<4>), and
                 no times
  NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS
                 set by systemd: readiness, watchdog, sockets it has opened

Files:
  /etc/camd.toml   the configuration; without it, camd ends with code 2
  /etc/camd/NAME.toml
                   that of camd@NAME.service, for one more camera
  /dev/camd        the board's camera, whatever its number (Debian packages)
  /dev/video*      cameras; members of the group `video` may open them
  /dev/watchdog    the board's watchdog; root may open it
";

const HELP_CHECK: &str = "\
camd check reads the configuration and reports all errors in it. Each is one
line: the file, the line, the key, what is wrong, and what is allowed.

Usage: camd check [--config PATH] [--list]     [default: /etc/camd.toml]

Options:
      --list   if it has no errors, print what is in it, for scripts: a line for
               the camera (`camera v4l2 /dev/video0`), for each listener
               (`listener http 0.0.0.0:8080`) and for each file that holds a
               password (`password_file /etc/secret`)

Exit codes: 0 it has no errors, 1 the answer could not be written, 2 it has
errors.

The keys, with their defaults:

";

const HELP_DEVICES: &str = "\
camd devices lists the cameras of this machine with their formats, sizes, rates
and controls, as you write them in /etc/camd.toml.

Usage: camd devices [--json]

Options:
      --json   print JSON, for programs
  -h, --help

Examples:
  camd devices
  camd devices --json | jq '.cameras[].controls'

Exit codes: 0 there is a camera, 1 the devices could not be read, 2 wrong
command line, 3 there is no camera. Not allowed to open one? Join the group
`video`: usermod -aG video $USER
";

const HELP_FETCH: &str = "\
camd fetch gets whole JPEGs, or a film of H.264, from a server, or from a sink
on this machine.

Usage: camd fetch URL [-n COUNT] [-o FILE|DIR|-] [OPTION]...

URL:
  pull://HOST:PORT           ask for each picture (camd's pull listener)
  push://HOST:PORT           take each picture (camd's push listener)
  raw://HOST:PORT            the same from a stream of bare JPEGs, or of H.264
                             (raw listener)
  http://HOST:PORT/stream    multipart stream of camd or another MJPEG server
  http://HOST:PORT/stream.mp4
                             a film, as H.264
  http://HOST:PORT/snapshot  one picture; http://USER:PASSWORD@HOST:PORT/PATH if
                             the server wants a login (Basic)
  call://USER:PASSWORD@HOST:PORT/CAMERA
                             call CAMERA at a relay (camd's call listener), and
                             hang up when done. Only HOST is needed: without
                             the others CAMERA is `camera`, USER a new name.
                             Write : / ? # @ % in names and passwords, also
                             those of http://, as %3A %2F %3F %23 %40 %25, other
                             than ASCII as %XX (UTF-8). Other users of this
                             machine may see a command line, and a password in
                             it.
  https://, pulls://, pushs://, raws://, calls://
                             the same over TLS; without a port https is 443, and
                             the others are as above
  memfd:PATH                 the shared memory of a sink on this machine, by its
                             socket; pixels are encoded to JPEG, and H.264 is a
                             film
  shm:KEY                    the picture that camd (qt-shm sink) or a Qt program
                             shares on this machine in a QSharedMemory: a PNG,
                             untouched; run as the same user, with its TMPDIR

Options:
  -n, --count COUNT   pictures to get; 0: until stopped [default: 1]
  -o, --output PATH   FILE: each picture replaces the one before as a whole;
                      DIR (a folder, or a name that ends with /, which is
                      created): camd-000001.jpg, camd-000002.jpg, …, after those
                      that are there; -: standard output, one after another
                      [default: snapshot.jpg for one picture, else DIR is .]
                      PNGs: the same with .png
                      A film goes into FILE, or DIR/camd-000001.mp4, as an MP4
                      in which players can seek, or to standard output as one
                      without end [default: clip.mp4]. -n counts its pictures
                      [default: until it ends, or Ctrl-C]
      --duration S    end after S seconds, 0.1 to 86400; without -n, with all
                      pictures of that time
      --segment S     of a film: several files, each S seconds long or a little
                      longer, as each begins with a key picture; the names are
                      numbered: clip-000001.mp4, clip-000002.mp4, …, after those
                      that are there
      --fingerprint SHA256
                      TLS: trust the server with this certificate, and no
                      other, such as a box with one of its own: the log there
                      and `camd check` name it [default: trust whoever has a
                      certificate for that host name from an issuer that this
                      system trusts (package ca-certificates)]
      --timeout S     give up after S seconds without a picture, 0.1 to 86400
                      [default: 10]
  -h, --help

Examples:
  camd fetch http://box:8080/snapshot -o now.jpg
  camd fetch http://admin:secret@10.0.0.9/stream -n 0 -o - | ffplay -
  camd fetch https://box.example.org:8443/snapshot
  camd fetch pull://box:8082 -n 100 -o pictures/
  camd fetch push://box:8081 -n 0 -o - > clip.mjpeg
  camd fetch push://box:8081 -n 0 -o - | ffplay -
  camd fetch call://anna:secret@box:8083/camera -n 20 -o pictures/
  camd fetch http://box:8080/stream.mp4 -o clip.mp4 --duration 60
  camd fetch http://box:8080/stream.mp4 -o films/ --segment 600
  camd fetch memfd:/run/camd/frames.sock -o now.jpg
  camd fetch shm:169254 -n 0 -o - | ffplay -f image2pipe -

If standard error is a terminal, it shows the progress.

Exit codes:
  0  all COUNT pictures are written, or S seconds of them, or the reader of
     standard output has gone; with -n 0, and of a film: the server has ended
     the stream properly, or of a film SIGINT (Ctrl-C) or SIGTERM has
  1  not connected or refused, connection lost, not a picture, not written
  2  wrong command line
  3  connected, but no picture within the timeout, or the server has none, or
     CAMERA is not there or declines the call
";

const HELP_PASSWD: &str = "\
camd passwd reads a password, and prints the line that keeps it in a [[user]]
section of /etc/camd.toml. Who can read the file cannot read the password.

Usage: camd passwd

At a terminal it asks twice, and shows nothing. Otherwise the first line of
standard input is the password.

Options:
  -h, --help

Examples:
  camd passwd

A user in /etc/camd.toml:
  [[user]]
  name = \"anna\"
  password_hash = \"$pbkdf2-sha256$i=100000,l=32$...\"
  may = [\"watch\", \"control\"]
then: camd check && systemctl reload camd

Exit codes: 0 the line is written, 1 it could not be, or standard input not be
read, 2 wrong command line, or no password
";

/// What `--help` prints.
pub fn help(topic: Topic) -> String {
    match topic {
        Topic::Camd => HELP.to_owned(),
        Topic::Check => HELP_CHECK.to_owned() + &config::setting::reference(),
        Topic::Devices => HELP_DEVICES.to_owned(),
        Topic::Fetch => HELP_FETCH.to_owned(),
        Topic::Passwd => HELP_PASSWD.to_owned(),
    }
}

/// From the arguments, without the program's name, to what they ask for. Prints nothing, opens nothing.
pub fn parse<I>(args: I) -> Result<Command, UsageError>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut parser = lexopt::Parser::from_args(args);
    let mut config = None;
    let mut fallback = None;
    let mut watchdog = None;
    let mut board = None;
    let mut updater = None;
    let mut demo = false;
    let mut port = None;
    let topic = Topic::Camd;
    let asked = loop {
        match parser.next().map_err(|e| topic.error(e))? {
            None => break None,
            Some(Arg::Long("config")) => {
                config = Some(PathBuf::from(value(&mut parser, topic)?));
            }
            Some(Arg::Long("fallback")) => {
                fallback = Some(PathBuf::from(value(&mut parser, topic)?));
            }
            Some(Arg::Long("watchdog")) => {
                watchdog = Some(PathBuf::from(value(&mut parser, topic)?));
            }
            Some(Arg::Long("box")) => {
                board = Some(PathBuf::from(value(&mut parser, topic)?));
            }
            Some(Arg::Long("update")) => {
                updater = Some(PathBuf::from(value(&mut parser, topic)?));
            }
            Some(Arg::Long("demo")) => demo = true,
            Some(Arg::Long("port")) => {
                let value = value(&mut parser, topic)?;
                let number = value.to_str().and_then(|v| v.parse().ok());
                port = Some(
                    number
                        .filter(|port| *port <= DEMO_PORT_MAX)
                        .ok_or_else(|| {
                            let value = value.display();
                            topic
                                .error(format!("--port \"{value}\": allowed: 0 to {DEMO_PORT_MAX}"))
                        })?,
                );
            }
            Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Command::Help(topic)),
            Some(Arg::Short('V') | Arg::Long("version")) => return Ok(Command::Version),
            Some(Arg::Value(word)) => break Some(word),
            Some(other) => return Err(topic.unknown(other)),
        }
    };
    if demo && config.is_some() {
        return Err(topic.error("--demo reads no configuration: leave out --config"));
    }
    if port.is_some() && !demo {
        return Err(topic.error(
            "--port goes with --demo; in the configuration each listener's bind has a port",
        ));
    }
    for (option, given) in [
        ("--fallback", fallback.is_some()),
        ("--watchdog", watchdog.is_some()),
        ("--box", board.is_some()),
        ("--update", updater.is_some()),
    ] {
        let other = match &asked {
            Some(word) if Topic::COMMANDS.iter().any(|topic| word == topic.word()) => {
                word.display().to_string()
            }
            None if demo => "--demo".to_owned(),
            _ => continue,
        };
        if given {
            return Err(topic.error(format!("{option} does not go with `{other}`")));
        }
    }
    let Some(word) = asked else {
        return Ok(match demo {
            true => Command::Demo {
                port: port.unwrap_or(DEMO_PORT),
            },
            false => Command::Serve {
                config: config.unwrap_or_else(|| DEFAULT_PATH.into()),
                fallback,
                watchdog,
                board,
                updater,
            },
        });
    };
    if word == HELP_WORD {
        return parse_help(&mut parser);
    }
    let topic = Topic::of(&word)?;
    if demo {
        return Err(topic.error(format!("--demo does not go with `{}`", topic.word())));
    }
    if config.is_some() && topic != Topic::Check {
        return Err(topic.error(format!(
            "`{}` reads no configuration: leave out --config",
            topic.word()
        )));
    }
    match topic {
        Topic::Check => parse_check(&mut parser, config),
        Topic::Devices => parse_devices(&mut parser),
        Topic::Fetch => parse_fetch(&mut parser),
        Topic::Passwd => parse_passwd(&mut parser),
        Topic::Camd => unreachable!("it is none of Topic::COMMANDS"),
    }
}

/// `camd help`, and `camd help fetch`.
fn parse_help(parser: &mut lexopt::Parser) -> Result<Command, UsageError> {
    let mut topic = Topic::Camd;
    while let Some(arg) = parser.next().map_err(|e| topic.error(e))? {
        match arg {
            Arg::Value(word) if topic == Topic::Camd && word != HELP_WORD => {
                topic = Topic::of(&word)?;
            }
            Arg::Value(word) if topic == Topic::Camd && word == HELP_WORD => {}
            Arg::Short('h') | Arg::Long("help") => {}
            other => return Err(topic.unknown(other)),
        }
    }
    Ok(Command::Help(topic))
}

fn parse_check(
    parser: &mut lexopt::Parser,
    mut config: Option<PathBuf>,
) -> Result<Command, UsageError> {
    let topic = Topic::Check;
    let mut list = false;
    while let Some(arg) = parser.next().map_err(|e| topic.error(e))? {
        match arg {
            Arg::Long("config") => config = Some(PathBuf::from(value(parser, topic)?)),
            Arg::Long("list") => list = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(topic)),
            // A likely slip, and not to be taken for the default file being good.
            Arg::Value(path) => {
                let path = path.display();
                return Err(topic.error(format!(
                    "unexpected \"{path}\": did you mean --config {path}?"
                )));
            }
            other => return Err(topic.unknown(other)),
        }
    }
    Ok(Command::Check {
        config: config.unwrap_or_else(|| DEFAULT_PATH.into()),
        list,
    })
}

fn parse_devices(parser: &mut lexopt::Parser) -> Result<Command, UsageError> {
    let topic = Topic::Devices;
    let mut json = false;
    while let Some(arg) = parser.next().map_err(|e| topic.error(e))? {
        match arg {
            Arg::Long("json") => json = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(topic)),
            other => return Err(topic.unknown(other)),
        }
    }
    Ok(Command::Devices { json })
}

fn parse_fetch(parser: &mut lexopt::Parser) -> Result<Command, UsageError> {
    let topic = Topic::Fetch;
    let mut url = None;
    let mut count = None;
    let mut output = None;
    let mut duration = None;
    let mut segment = None;
    let mut timeout = FETCH_TIMEOUT;
    let mut fingerprint = None;
    while let Some(arg) = parser.next().map_err(|e| topic.error(e))? {
        match arg {
            Arg::Short('n') | Arg::Long("count") => {
                let value = value(parser, topic)?;
                let parsed = value.to_str().and_then(|v| v.parse().ok()).ok_or_else(|| {
                    let value = value.display();
                    topic.error(format!(
                        "-n \"{value}\": allowed: a number of pictures, or 0: until stopped"
                    ))
                })?;
                count = Some(parsed);
            }
            Arg::Short('o') | Arg::Long("output") => {
                let value = value(parser, topic)?;
                if value.is_empty() {
                    return Err(
                        topic.error("-o \"\": allowed: a file, a folder, or - for standard output")
                    );
                }
                output = Some(Output::from_arg(&value));
            }
            Arg::Long("fingerprint") => {
                let value = value(parser, topic)?;
                let found = value.to_str().and_then(Fingerprint::parse);
                fingerprint = Some(found.ok_or_else(|| {
                    let (value, allowed) = (value.display(), Fingerprint::ALLOWED);
                    topic.error(format!("--fingerprint \"{value}\": allowed: {allowed}"))
                })?);
            }
            Arg::Long("timeout") => timeout = seconds(parser, "timeout")?,
            Arg::Long("duration") => duration = Some(seconds(parser, "duration")?),
            Arg::Long("segment") => segment = Some(seconds(parser, "segment")?),
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(topic)),
            Arg::Value(word) if url.is_none() => url = Some(fetch_url(word)?),
            other => return Err(topic.unknown(other)),
        }
    }
    let Some(url) = url else {
        return Err(topic.error("no URL given, such as http://127.0.0.1:8080/snapshot"));
    };
    let film = FilmOptions {
        count: count.filter(|count| *count > 0),
        duration,
        segment,
        anywhere: output.is_none(),
    };
    // With a duration, as many as there are in it.
    let count = count.unwrap_or(if duration.is_some() { 0 } else { 1 });
    let output = match (output, count) {
        (Some(output), _) => output,
        (None, 1) if url.starts_with("shm:") => Output::File(SNAPSHOT_PNG.into()),
        (None, 1) => Output::File(SNAPSHOT.into()),
        // Nobody wants a folder to fill up because an option was forgotten.
        (None, 0) if duration.is_none() => {
            return Err(topic.error("-n 0 needs -o: a file, a folder, or - for standard output"));
        }
        (None, _) => Output::Dir(".".into()),
    };
    Ok(Command::Fetch(FetchOptions {
        url,
        fingerprint,
        count,
        output,
        film,
        timeout,
    }))
}

fn seconds(parser: &mut lexopt::Parser, option: &str) -> Result<Duration, UsageError> {
    let value = value(parser, Topic::Fetch)?;
    let seconds = value.to_str().and_then(|v| v.parse().ok());
    let seconds = seconds.filter(|it| (FETCH_TIMEOUT_MIN..=FETCH_TIMEOUT_MAX).contains(it));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| {
        let value = value.display();
        Topic::Fetch.error(format!(
            "--{option} \"{value}\": allowed: seconds from {FETCH_TIMEOUT_MIN} to {FETCH_TIMEOUT_MAX}"
        ))
    })
}

fn parse_passwd(parser: &mut lexopt::Parser) -> Result<Command, UsageError> {
    let topic = Topic::Passwd;
    match parser.next().map_err(|e| topic.error(e))? {
        None => Ok(Command::Passwd),
        Some(Arg::Short('h') | Arg::Long("help")) => Ok(Command::Help(topic)),
        // Not shown again: it may well be the password, which everybody on the machine has seen now.
        Some(Arg::Value(_)) => Err(topic.error(
            "a password does not belong on the command line, where others can see it: type it when asked",
        )),
        Some(other) => Err(topic.unknown(other)),
    }
}

fn fetch_url(word: OsString) -> Result<String, UsageError> {
    let known = |url: &str| {
        SCHEMES
            .iter()
            .any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
    };
    match word.into_string() {
        Ok(url) if known(&url) => Ok(url),
        Ok(url) => Err(Topic::Fetch.error(format!(
            "\"{}\" is no URL to fetch from; allowed: pull://HOST:PORT, push://HOST:PORT, raw://HOST:PORT, http://[USER[:PASSWORD]@]HOST:PORT/PATH, call://[USER[:PASSWORD]@]HOST:PORT/CAMERA, the same with TLS (pulls, pushs, raws, https, calls), memfd:PATH, shm:KEY",
            fetch::without_password(&url)
        ))),
        Err(word) => Err(Topic::Fetch.error(format!("\"{}\" is not UTF-8", word.display()))),
    }
}

fn value(parser: &mut lexopt::Parser, topic: Topic) -> Result<OsString, UsageError> {
    parser.value().map_err(|e| topic.error(e))
}

fn unknown_command(word: &OsString) -> UsageError {
    let words = Topic::COMMANDS.map(Topic::word);
    let word = word.to_string_lossy();
    let way_out = match nearest(&word, words.into_iter().chain([HELP_WORD])) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("allowed: {}, {HELP_WORD}", words.join(", ")),
    };
    Topic::Camd.error(format!("unknown command \"{word}\"; {way_out}"))
}

/// The command that has no topic of its own.
const HELP_WORD: &str = "help";

impl Topic {
    /// That of a command.
    fn of(word: &OsString) -> Result<Topic, UsageError> {
        let mut topics = Topic::COMMANDS.into_iter();
        let topic = topics.find(|topic| word == topic.word());
        topic.ok_or_else(|| unknown_command(word))
    }

    fn error(self, message: impl ToString) -> UsageError {
        UsageError {
            message: message.to_string(),
            topic: self,
        }
    }

    fn unknown(self, arg: Arg<'_>) -> UsageError {
        let Arg::Long(name) = arg else {
            return self.error(arg.unexpected());
        };
        match nearest(name, self.options().iter().copied()) {
            Some(near) => self.error(format!("unknown option --{name}; did you mean --{near}?")),
            None => self.error(format!("unknown option --{name}")),
        }
    }
}

/// `camd check`: says on `out` whether the configuration at `path` is good, or everything that is wrong with it. With `list`
/// it says what is in a good one.
pub fn check(path: &Path, list: bool, out: &mut impl Write) -> io::Result<Exit> {
    match config::load(path) {
        Ok(config) if list => {
            write_list(&config, out)?;
            Ok(Exit::Success)
        }
        Ok(config) => {
            writeln!(out, "{}: good", path.display())?;
            check_tls(&config, SystemTime::now(), out)?;
            Ok(Exit::Success)
        }
        Err(errors) => {
            for error in errors {
                writeln!(out, "{error}")?;
            }
            Ok(Exit::Usage)
        }
    }
}

/// What scripts around camd want to know of its configuration, without reading TOML.
fn write_list(config: &Config, out: &mut impl Write) -> io::Result<()> {
    let camera = &config.camera;
    write!(out, "camera {}", camera.source.name())?;
    match camera.source {
        SourceKind::V4l2 => writeln!(out, " {}", camera.device.display())?,
        SourceKind::Pipe => writeln!(out, " {}", camera.command.first().map_or("", |it| it))?,
        SourceKind::Replay => match &camera.path {
            Some(path) => writeln!(out, " {}", path.display())?,
            None => writeln!(out)?,
        },
        _ => writeln!(out)?,
    }
    for listener in &config.listeners {
        writeln!(
            out,
            "listener {} {}{}",
            listener.protocol.name(),
            listener.bind,
            if listener.tls { " tls" } else { "" }
        )?;
    }
    let listeners = config.listeners.iter().map(|it| &it.password_file);
    for file in listeners.chain([&camera.password_file]).flatten() {
        writeln!(out, "password_file {}", file.display())?;
    }
    Ok(())
}

/// Who camd is on each listener that speaks TLS, and what the owner should know of that.
fn check_tls(config: &Config, now: SystemTime, out: &mut impl Write) -> io::Result<()> {
    let folder = state_folder();
    let mut own = None;
    for listener in &config.listeners {
        if !listener.tls || matches!(listener.bind, Bind::Relay(_)) {
            continue;
        }
        let place = format!("TLS for {} on {}", listener.protocol.name(), listener.bind);
        let identity = match &listener.identity {
            Some(identity) => Ok(Some(identity.clone())),
            None => own
                .get_or_insert_with(|| Identity::read_own(&folder))
                .clone(),
        };
        match identity {
            Ok(Some(identity)) => {
                let fingerprint = identity.fingerprint();
                writeln!(
                    out,
                    "{place}: the certificate's SHA-256 fingerprint is {fingerprint}"
                )?;
                for doubt in identity.doubts(now) {
                    writeln!(out, "{place}: warning: {doubt}")?;
                }
            }
            Ok(None) => writeln!(
                out,
                "{place}: camd makes a certificate of its own in {} when it starts",
                folder.display()
            )?,
            Err(error) => writeln!(out, "{place}: warning: {error}")?,
        }
        if let Some(key) = listener.key.as_deref().filter(|key| is_open_to_all(key)) {
            writeln!(out, "{place}: warning: {}", open_to_all(key))?;
        }
    }
    Ok(())
}
