//! One fetch from beginning to end: where pictures come from, where they go, and how it gets on.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::FetchError;
use super::network::Network;
use super::output::{Output, Saved, Sink};
use super::pictures::{JPEG, Kind, PNG, Pictures};
use super::url::Url;
use super::{memfd, shm};
use crate::tls::fingerprint::Fingerprint;

/// How often the progress line is written anew.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

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
    fetch(&mut network, options, JPEG, &mut sink)
}

fn fetch(
    pictures: &mut dyn Pictures,
    options: &FetchOptions,
    kind: Kind,
    sink: &mut Sink,
) -> Result<Summary, FetchError> {
    let started = Instant::now();
    let mut summary = Summary::default();
    let mut progress = Progress::new();
    let mut picture = Vec::new();
    let result = loop {
        if options.count != 0 && summary.pictures == options.count {
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
