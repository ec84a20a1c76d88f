//! The receiving half, without a window: whole pictures from a camera server into a file, a folder or a pipe.
//!
//! Speaks to `camd` and to others of its kind: `pull://host:8082`, `push://host:8081`, `raw://host:8084`,
//! `http://host/path`, where the answer's Content-Type says whether it is one picture or a stream of them, and
//! `call://host:8083/camera`, which rings up the camera at a relay. On the same machine also `memfd:/path`, a sink's shared
//! memory, and `shm:KEY`, Qt's, with PNGs in it. Blocking `std` sockets, one thread, nothing shared with the daemon except
//! [`crate::limits`] and the formats in [`crate::protocol`].
//!
//! What a server sends is never trusted: a length is compared with the limit before it is used, a head has a largest
//! size, text that goes to the terminal is cleaned of control characters, and every wait ends at a deadline.

mod call;
mod http;
mod memfd;
mod output;
mod pull;
mod push;
mod raw;
mod shm;
mod url;
mod wire;

use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::limits;

pub use output::Output;
pub use url::without_password;

use output::{Saved, Sink};
use url::{Scheme, Url};
use wire::Wire;

/// The largest picture that is taken in, in bytes.
const PICTURE_LIMIT: usize = limits::FRAME_BYTES_MAX;
/// How often the progress line is written anew.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// `camd fetch`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOptions {
    /// `pull://`, `push://`, `raw://`, `http://`, `call://`, `memfd:` or `shm:`. `call://` may have a password in it, see
    /// [`without_password`].
    pub url: String,
    /// Pictures to fetch; 0: until the server, or the reader of standard output, ends it.
    pub count: u64,
    pub output: Output,
    /// For the connection, and again for each picture. Looking up a host name is not covered: the C library's
    /// resolver has its own limits.
    pub timeout: Duration,
}

/// What was received and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub pictures: u64,
    /// Of the pictures alone, without framing.
    pub bytes: u64,
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

/// Why fetching failed; the text is one line for a person. The kinds are what a script may want to tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The URL is not one that can be fetched.
    Url(String),
    /// No connection, or it ended before all pictures were there.
    Connection(String),
    /// The server is there and has no picture: it said so (503), whoever was rung up is not there or declines, or none
    /// came in time.
    NoPicture(String),
    /// The server said something that the protocol does not allow, or something else than pictures.
    Protocol(String),
    /// A picture could not be written.
    File(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Url(text)
            | FetchError::Connection(text)
            | FetchError::NoPicture(text)
            | FetchError::Protocol(text)
            | FetchError::File(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for FetchError {}

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
    let mut network = Network::connect(&url, options)?;
    fetch(&mut network, options, JPEG, &mut sink)
}

/// A kind of picture.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    /// What files of it end with.
    extension: &'static str,
    begins: &'static [u8],
}

const JPEG: Kind = Kind {
    name: "JPEG",
    extension: "jpg",
    begins: &[0xFF, 0xD8],
};
const PNG: Kind = Kind {
    name: "PNG",
    extension: "png",
    begins: &crate::system::shm::picture::SIGNATURE,
};

/// Where pictures come from.
trait Pictures {
    /// Puts the next whole picture into the empty `picture`; false: the other side has ended the stream in good order.
    fn next(&mut self, picture: &mut Vec<u8>) -> Result<bool, FetchError>;

    /// Takes leave where there is a word for it; else the end of the connection says it.
    fn finish(&mut self) {}
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

/// From a server, over TCP.
struct Network {
    wire: Wire,
    receiver: Receiver,
}

impl Network {
    fn connect(url: &Url, options: &FetchOptions) -> Result<Network, FetchError> {
        let mut wire = Wire::connect(&url.host, url.port, options.timeout)?;
        let receiver = Receiver::new(url, &mut wire, options.count)?;
        Ok(Network { wire, receiver })
    }
}

impl Pictures for Network {
    fn next(&mut self, picture: &mut Vec<u8>) -> Result<bool, FetchError> {
        self.wire.restart_timeout();
        self.receiver.next(&mut self.wire, picture)
    }

    fn finish(&mut self) {
        self.receiver.finish(&mut self.wire);
    }
}

/// The closed set of wires.
enum Receiver {
    Pull(pull::Receiver),
    Push,
    Raw(raw::Receiver),
    Multipart(http::Multipart),
    Single(http::Single),
    Call(call::Receiver),
}

impl Receiver {
    fn new(url: &Url, wire: &mut Wire, count: u64) -> Result<Receiver, FetchError> {
        match &url.scheme {
            Scheme::Pull => Ok(Receiver::Pull(pull::Receiver::new())),
            Scheme::Push => Ok(Receiver::Push),
            Scheme::Raw => Ok(Receiver::Raw(raw::Receiver::new())),
            Scheme::Http => match http::request(wire, url)? {
                http::Answer::Stream(multipart) => Ok(Receiver::Multipart(multipart)),
                http::Answer::Picture(single) if count == 1 => Ok(Receiver::Single(single)),
                http::Answer::Picture(_) => Err(FetchError::Protocol(format!(
                    "{} answers with one picture, not with a stream: fetch it with -n 1",
                    url.target
                ))),
            },
            Scheme::Call(call) => call::Receiver::ring(wire, call).map(Receiver::Call),
        }
    }

    /// Puts the next whole picture into the empty `picture`; false: the server ended the stream in good order.
    fn next(&mut self, wire: &mut Wire, picture: &mut Vec<u8>) -> Result<bool, FetchError> {
        match self {
            Receiver::Pull(receiver) => receiver.next(wire, picture).map(|()| true),
            Receiver::Push => push::next(wire, picture).map(|()| true),
            Receiver::Raw(receiver) => receiver.next(wire, picture),
            Receiver::Multipart(multipart) => multipart.next(wire, picture),
            Receiver::Single(single) => single.next(wire, picture).map(|()| true),
            Receiver::Call(receiver) => receiver.next(wire, picture),
        }
    }

    /// Takes leave where the protocol has a word for it; else the end of the connection says it.
    fn finish(&self, wire: &mut Wire) {
        if let Receiver::Call(receiver) = self {
            receiver.finish(wire);
        }
    }
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

/// What a server said, made fit for a terminal: one line, of bounded length, without control characters (an escape
/// sequence in an error page would otherwise reach the terminal).
fn one_line(text: &[u8]) -> String {
    const LONGEST: usize = 200;
    String::from_utf8_lossy(text)
        .trim()
        .chars()
        .take_while(|&c| c != '\n' && c != '\r')
        .take(LONGEST)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
