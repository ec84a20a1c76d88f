//! One fetch from beginning to end: where pictures come from, where they go, and how it gets on.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::error::FetchError;
use super::film::{Boxes, FilmOptions, Place, Recorder, Step};
use super::network::Network;
use super::output::{Output, Saved, Sink};
use super::pictures::{JPEG, Kind, PNG, Pictures};
use super::url::Url;
use super::{memfd, shm};
use crate::tls::fingerprint::Fingerprint;

/// How often the progress line is written anew.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Where a film goes if it was not said.
const CLIP: &str = "clip.mp4";

/// `camd fetch`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOptions {
    /// `pull://`, `push://`, `raw://`, `http://`, `call://`, the same with TLS (`https://` and the like), `memfd:` or `shm:`. `http://` and `call://` may have a password in it, see
    /// [`without_password`](super::without_password).
    pub url: String,
    /// TLS: whose certificate is trusted; `None`: those from issuers that the system trusts.
    pub fingerprint: Option<Fingerprint>,
    /// Pictures to fetch; 0: until the server, or the reader of standard output, ends it.
    pub count: u64,
    /// Where the pictures go.
    pub output: Output,
    /// What of this is different for H.264.
    pub film: FilmOptions,
    /// For the connection, and again for each picture. Looking up a host name is not covered: the C library's
    /// resolver has its own limits.
    pub timeout: Duration,
}

/// What was received and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Pictures that were written.
    pub pictures: u64,
    /// Of the pictures alone, without framing.
    pub bytes: u64,
    /// From when it was connected to the last picture.
    pub elapsed: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64().max(0.001);
        write!(
            f,
            "{} pictures, {:.1} fps, {:.0} KB/s",
            self.pictures,
            self.pictures as f64 / seconds,
            self.bytes as f64 / 1000.0 / seconds
        )
    }
}

/// Fetches and writes what `options` ask for. Shows its progress on standard error if that is a terminal.
pub fn run(options: &FetchOptions) -> Result<Summary, FetchError> {
    if let Some(path) = options.url.strip_prefix("memfd:") {
        let mut sink = Sink::open(&options.output, JPEG)?;
        let mut memory = memfd::Receiver::connect(Path::new(path), options.timeout)?;
        if memory.is_film()? {
            return record(&mut memory, options, sink);
        }
        return fetch(&mut memory, options, JPEG, &mut sink);
    }
    if let Some(key) = options.url.strip_prefix(shm::SCHEME) {
        let mut sink = Sink::open(&options.output, PNG)?;
        let mut memory = shm::Receiver::new(key, options.timeout);
        return fetch(&mut memory, options, PNG, &mut sink);
    }
    let url = Url::parse(&options.url)?;
    let mut sink = Sink::open(&options.output, JPEG)?;
    let mut network = Network::connect(&url, options.fingerprint, options.timeout, options.count)?;
    if network.is_film()? {
        return record(&mut network, options, sink);
    }
    fetch(&mut network, options, JPEG, &mut sink)
}

/// A signal has asked to end.
static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: i32) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on the first SIGINT or SIGTERM is a wish, which is heard with the next picture: the file is to get its index. The
/// second one ends the process.
fn end_in_order() {
    let flags = SaFlags::SA_RESETHAND | SaFlags::SA_RESTART;
    let action = SigAction::new(SigHandler::Handler(stop), flags, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler does nothing but store into an atomic, which may be done at any time.
        if let Err(errno) = unsafe { sigaction(signal, &action) } {
            unreachable!("{signal} can be handled: {errno}");
        }
    }
}

/// A film into files.
fn record(
    boxes: &mut dyn Boxes,
    options: &FetchOptions,
    sink: Sink,
) -> Result<Summary, FetchError> {
    let FilmOptions {
        count,
        duration,
        segment,
        anywhere,
    } = options.film;
    let sink = match anywhere {
        true => Sink::open(&Output::File(CLIP.into()), JPEG)?,
        false => sink,
    };
    let place = sink.place();
    if let (Place::Stream(path, _), Some(_)) = (&place, segment) {
        return Err(FetchError::File(format!(
            "{}: --segment makes several files: -o needs a file or a folder",
            path.display()
        )));
    }
    let mut recorder = Recorder::new(place, options.film.clone());
    end_in_order();
    let started = Instant::now();
    let mut summary = Summary::default();
    let mut progress = Progress::new();
    let result = loop {
        if count == Some(summary.pictures) || STOP.load(Ordering::Relaxed) {
            break Ok(());
        }
        match recorder.step(boxes) {
            Ok(Step::Picture(bytes)) => {
                summary.pictures += 1;
                summary.bytes += bytes as u64;
            }
            Ok(Step::Enough | Step::ReaderGone) => break Ok(()),
            Ok(Step::Ended) if count.is_none() && duration.is_none() => break Ok(()),
            Ok(Step::Ended) => {
                let got = summary.pictures;
                break Err(FetchError::Connection(format!(
                    "the film ended after {got} pictures, before it was as long as was asked for"
                )));
            }
            Err(error) => break Err(error),
        }
        summary.elapsed = started.elapsed();
        progress.show(&summary);
    };
    progress.finish(&summary);
    // What has come is kept, whatever ended it.
    recorder.finish()?;
    result.map(|()| summary)
}

fn fetch(
    pictures: &mut dyn Pictures,
    options: &FetchOptions,
    kind: Kind,
    sink: &mut Sink,
) -> Result<Summary, FetchError> {
    if options.film.segment.is_some() {
        return Err(FetchError::Protocol(format!(
            "{}s come from there: --segment is for H.264, as /stream.mp4 has it",
            kind.name
        )));
    }
    let started = Instant::now();
    let mut summary = Summary::default();
    let mut progress = Progress::new();
    let mut picture = Vec::new();
    let result = loop {
        let is_long = options
            .film
            .duration
            .is_some_and(|most| started.elapsed() >= most);
        if is_long || (options.count != 0 && summary.pictures == options.count) {
            break Ok(());
        }
        picture.clear();
        match pictures.next(&mut picture) {
            Ok(true) => {}
            Ok(false) if options.count == 0 => break Ok(()),
            Ok(false) => {
                let (got, wanted) = (summary.pictures, options.count);
                break Err(FetchError::Connection(format!(
                    "the server ended the stream after {got} of {wanted} pictures"
                )));
            }
            Err(error) => break Err(error),
        }
        if !picture.starts_with(kind.begins) {
            break Err(FetchError::Protocol(format!(
                "picture {} is not a {}: it does not begin with {:02X} {:02X}",
                summary.pictures + 1,
                kind.name,
                kind.begins[0],
                kind.begins[1],
            )));
        }
        match sink.save(&picture) {
            Ok(Saved::Written) => {}
            // The reader of the pipe has seen enough; this is how `… | head` and a closed ffplay end.
            Ok(Saved::ReaderGone) => break Ok(()),
            Err(error) => break Err(error),
        }
        summary.pictures += 1;
        summary.bytes += picture.len() as u64;
        summary.elapsed = started.elapsed();
        progress.show(&summary);
    };
    progress.finish(&summary);
    pictures.finish();
    result.map(|()| summary)
}

/// One line on a terminal that is overwritten again and again; nothing anywhere else.
struct Progress {
    terminal: bool,
    shown: Option<Instant>,
}

impl Progress {
    fn new() -> Progress {
        Progress {
            terminal: std::io::stderr().is_terminal(),
            shown: None,
        }
    }

    fn show(&mut self, summary: &Summary) {
        let due = self
            .shown
            .is_none_or(|shown| shown.elapsed() >= PROGRESS_INTERVAL);
        if due {
            self.write(summary, "");
            self.shown = Some(Instant::now());
        }
    }

    fn finish(&self, summary: &Summary) {
        if self.shown.is_some() {
            self.write(summary, "\n");
        }
    }

    fn write(&self, summary: &Summary, end: &str) {
        if self.terminal {
            // CSI K clears what a longer line left behind. A terminal that is gone is not worth an error.
            let _ = write!(std::io::stderr(), "\r{summary}\x1b[K{end}");
        }
    }
}
