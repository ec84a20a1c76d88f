//! The log: lines on standard error, which nothing waits for.
//!
//! Standard error may be anything: a pipe that nobody reads, a serial line of 11.5 KB/s, a file on a card that takes its time,
//! the kernel's log, the journal's socket. A write to any of them can take for ever. Making the descriptor non-blocking
//! is no way out: that is a property of the open file, which other processes have too (a shell, the programs on the same
//! terminal), and files and `/dev/kmsg` wait all the same; a `poll` before each write does not hold where somebody else
//! writes into the same pipe. So a thread of its own writes, and waits, and does nothing else: the others put
//! their lines into a queue of fixed size ([`queue`]) and go on. Lines that find it full are counted, and the number is
//! told in their place. At the end, and before a panic ends the process, there is a short, bounded time to get rid of
//! what is left.
//!
//! What a line looks like depends on where it goes ([`stream`]), and messages that strangers bring about are thinned
//! ([`peers`]). Characters that nobody sees are escaped ([`crate::text`]), whoever wrote them.

pub mod peers;
pub mod queue;
pub mod stream;

use std::fmt::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use crate::limits::{LOG_FLUSH, LOG_KERNEL_LINE, LOG_LINE};
use crate::measure::said::Times;
use crate::system::household::Household;
use crate::system::logging::peers::{Incident, Peers};
use crate::system::logging::queue::{Line, Queue, Task, write_all};
use crate::system::logging::stream::{Place, Stream, standard_error};
use crate::text::{Escaping, start_of};

/// The end of the target of a message that the owner needs, though nothing is wrong: where camd can be reached, that the camera
/// is open. They are all that a console shows beside warnings.
const NOTICE: &str = "::notice";
/// The target of messages about peers.
const PEERS_TARGET: &str = "camd::peers";
/// The writer's name.
const THREAD: &str = "log";
/// It has a line and a half on its stack.
const STACK: usize = 128 * 1024;

static LOGGER: OnceLock<Logger> = OnceLock::new();
static PEERS: Mutex<Peers> = Mutex::new(Peers::new());

struct Logger {
    /// Which messages are wanted. What it would write itself is written here.
    filter: env_logger::Logger,
    form: Form,
    stream: Stream,
    queue: Queue,
    /// There is a thread that writes.
    is_begun: AtomicBool,
}

/// How a line looks.
#[derive(Clone, Copy, Debug)]
struct Form {
    place: Place,
    colour: bool,
}

/// Begins to take lines in, by `RUST_LOG`, and has panics said there. To be called once, before there are other threads. What is
/// said waits for [`begin`].
pub fn init() -> std::io::Result<()> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let journal = variable("JOURNAL_STREAM");
    let stream = Stream::of(standard_error(), Some(&journal));
    let mut filter = env_logger::Builder::new();
    filter.filter_level(LevelFilter::Info);
    let wish = variable("RUST_LOG");
    let is_wished = !wish.trim().is_empty();
    let mut wrong = None;
    if is_wished {
        // env_logger would only write what is wrong to standard error, and use the rest.
        match env_filter::Builder::new().try_parse(&wish) {
            Ok(_) => {
                filter = env_logger::Builder::new();
                filter.parse_filters(&wish);
            }
            Err(error) => wrong = Some(error),
        }
    }
    let colour = variable("NO_COLOR").is_empty() && variable("TERM") != "dumb";
    let logger = Logger {
        filter: filter.build(),
        form: Form {
            // Who has set a level gets it.
            place: match stream.place {
                Place::Console if is_wished => Place::Terminal,
                place => place,
            },
            colour: stream.place == Place::Terminal && colour,
        },
        stream,
        queue: Queue::new(),
        is_begun: AtomicBool::new(false),
    };
    log::set_max_level(logger.filter.filter());
    let Ok(()) = LOGGER.set(logger) else {
        return Err(std::io::Error::other("the log is begun twice"));
    };
    let logger = LOGGER.get().expect("it was just set");
    log::set_logger(logger).map_err(|error| std::io::Error::other(error.to_string()))?;
    std::panic::set_hook(Box::new(|info| say_panic(logger, info)));
    if let Some(error) = wrong {
        log::warn!("RUST_LOG: {error}; \"info\" is in force in its place");
    }
    Ok(())
}

/// Begins to write. It is apart from [`init`] because it starts a thread, and what a process gives up for good it gives up for
/// the threads that are started later.
pub fn begin() -> std::io::Result<()> {
    let Some(logger) = LOGGER.get() else {
        return Ok(());
    };
    if logger.is_begun.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    spawn(logger)
}

/// Signals are the event loop's: a thread that takes them would be ended by them. But for the one that ends the process with
/// a word ([`crate::system::trapped`]).
fn spawn(logger: &'static Logger) -> std::io::Result<()> {
    let mut all = SigSet::all();
    all.remove(Signal::SIGSYS);
    let mask = all.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let thread = thread::Builder::new().name(THREAD.into()).stack_size(STACK);
    let spawned = thread.spawn(|| logger.write());
    mask.thread_set_mask()?;
    spawned.map(|_| ())
}

/// Waits a short while until all is written that was said. For the end of the process.
pub fn flush() {
    if let Some(logger) = LOGGER.get() {
        // Without a thread nothing is written, and this waits for its time.
        let _ = begin();
        logger.queue.flush(LOG_FLUSH);
    }
}

/// What stands in front of an error's line that is written at once, past the queue.
pub fn front_of_errors() -> &'static str {
    match LOGGER.get().map(|logger| logger.form.place) {
        Some(Place::KernelLog | Place::Journal) => "<3>",
        _ => "",
    }
}

/// Says a line as it is, whatever the level that is wished: why camd ends. Before [`init`], it is written at once.
pub fn say(line: impl fmt::Display) {
    match LOGGER.get() {
        Some(logger) => logger.line(Level::Error, None, format_args!("{line}")),
        None => {
            let mut text = line.to_string();
            text.push('\n');
            let _ = write_all(standard_error(), text.as_bytes());
        }
    }
}

/// Says something that a peer has brought about, with the number of times that it did, unless there was enough of that.
/// `peer`: as it is shown, see [`Household::of_peer`].
pub fn say_of_peer(level: Level, incident: Incident, peer: &str, message: fmt::Arguments<'_>) {
    let (times, deadline) = {
        let mut peers = PEERS.lock().unwrap_or_else(PoisonError::into_inner);
        let times = peers.note(incident, Household::of_peer(peer), Instant::now());
        (times, peers.deadline())
    };
    match times {
        Some(times) => log::log!(target: PEERS_TARGET, level, "{message}{}", Times(times)),
        // For those who look for every step.
        None => log::debug!(target: PEERS_TARGET, "{message}"),
    }
    if let (Some(logger), Some(deadline)) = (LOGGER.get(), deadline) {
        logger.queue.look_at(deadline);
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let notice = record.target().ends_with(NOTICE);
        let hidden = self.form.place == Place::Console && record.level() > Level::Warn && !notice;
        if !hidden && self.filter.matches(record) {
            self.line(record.level(), Some(record.target()), *record.args());
        }
    }

    fn flush(&self) {
        flush();
    }
}

impl Logger {
    /// Puts a message into the queue.
    fn line(&self, level: Level, target: Option<&str>, message: fmt::Arguments<'_>) {
        let urgent = level == Level::Error;
        let told_lost = |lost| self.form.lost(lost);
        self.form.lines(level, target, message, |line| {
            self.queue.push(line, urgent, told_lost);
        });
    }

    /// What the thread does, for as long as the process lives.
    fn write(&self) {
        let mut piece = [0; LOG_LINE];
        let mut refused = 0;
        loop {
            let one_by_one = self.stream.one_by_one;
            let task = self.queue.next(refused, one_by_one, &mut piece);
            refused = match task {
                Task::Write { len, lines } => match write_all(standard_error(), &piece[..len]) {
                    Ok(()) => 0,
                    Err(_) => lines,
                },
                Task::TellLost(lost) => {
                    match write_all(standard_error(), self.form.lost(lost).as_bytes()) {
                        Ok(()) => 0,
                        Err(_) => lost,
                    }
                }
                Task::Look => {
                    let told = PEERS.lock().unwrap_or_else(PoisonError::into_inner).tell();
                    for summary in told {
                        log::info!(target: PEERS_TARGET, "{summary}");
                    }
                    0
                }
            };
        }
    }
}

impl Form {
    /// One line, or several where a message is too long for one.
    fn lines(
        self,
        level: Level,
        target: Option<&str>,
        message: fmt::Arguments<'_>,
        mut put: impl FnMut(&[u8]),
    ) {
        // A line that was cut ends with a sign of that.
        let mut line = Line::new(LOG_LINE);
        if self.place != Place::KernelLog {
            let _ = self
                .begin(&mut line, level, target)
                .and_then(|()| write!(Escaping(&mut line), "{message}"));
            return put(line.end().as_bytes());
        }
        let _ = write!(Escaping(&mut line), "{message}");
        let text = str::from_utf8(line.as_bytes()).unwrap_or_default();
        // What is said as it is names camd itself, for terminals.
        let mut rest = text.strip_prefix("camd: ").unwrap_or(text);
        loop {
            let mut piece = Line::new(LOG_LINE);
            let _ = self.begin(&mut piece, level, target);
            let most = LOG_KERNEL_LINE - piece.as_bytes().len();
            let (now, later) = rest.split_at(start_of(rest, most).len());
            let _ = piece.write_str(now);
            put(piece.end().as_bytes());
            rest = later;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// What stands in front of a message: of each on its own, because each may be the first that is there.
    fn begin(self, line: &mut Line, level: Level, target: Option<&str>) -> fmt::Result {
        let notice = target.is_some_and(|target| target.ends_with(NOTICE));
        // syslog(3).
        let priority = match level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info if notice => 5,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        match self.place {
            // The kernel's log does not know who writes.
            Place::KernelLog => return write!(line, "<{priority}>camd: "),
            Place::Journal => return write!(line, "<{priority}>"),
            Place::Console | Place::Terminal | Place::Other => {}
        }
        let Some(target) = target else { return Ok(()) };
        let second = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second());
        let time = second.unwrap_or_default();
        let target = target.strip_suffix(NOTICE).unwrap_or(target);
        let (on, off) = match (self.colour, level) {
            (false, _) => ("", ""),
            (true, Level::Error) => ("\x1b[1;31m", "\x1b[0m"),
            (true, Level::Warn) => ("\x1b[33m", "\x1b[0m"),
            (true, Level::Info) => ("\x1b[32m", "\x1b[0m"),
            (true, Level::Debug) => ("\x1b[34m", "\x1b[0m"),
            (true, Level::Trace) => ("\x1b[36m", "\x1b[0m"),
        };
        write!(line, "[{time} {on}{level:<5}{off} {target}] ")
    }

    /// The line in the place of those that are missing.
    fn lost(self, lost: u64) -> Line {
        let mut line = Line::new(LOG_LINE);
        let lines = if lost == 1 { "line was" } else { "lines were" };
        let _ = self
            .begin(&mut line, Level::Warn, Some("camd::log"))
            .and_then(|()| {
                write!(
                    line,
                    "log: {lost} {lines} not written: standard error took no more"
                )
            });
        line.end()
    }
}

/// Says a panic, which ends the process, for as long as that may take.
fn say_panic(logger: &Logger, info: &PanicHookInfo<'_>) {
    let current = thread::current();
    let name = current.name().unwrap_or("unnamed");
    let mut text =
        format!("camd: thread '{name}' has panicked, which is a fault of camd's: {info}");
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|wish| wish != "0") {
        let backtrace = std::backtrace::Backtrace::force_capture();
        let _ = write!(text, "\n{backtrace}");
    }
    if name == THREAD {
        // Nobody else writes. It may wait for ever, and keeps no other thread waiting.
        let _ = write_all(standard_error(), format!("{text}\n").as_bytes());
        return;
    }
    for line in text.lines() {
        logger.line(Level::Error, None, format_args!("{line}"));
    }
    let _ = begin();
    logger.queue.flush(LOG_FLUSH);
}

#[cfg(test)]
#[path = "logging_tests.rs"]
mod tests;
