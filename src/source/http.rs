//! Pictures from a server of HTTP: its MJPEG stream (`multipart/x-mixed-replace`), or its snapshot, which is asked for again
//! and again. mjpg-streamer, µStreamer, motion, ESP32-CAM, most IP cameras, another camd.
//!
//! ```text
//!           start            connected          head: multipart
//!   Off ------------> Connecting ----> Asking -------------------> Stream
//!                        ^  ^            |  ^  \
//!                        |  | redirected |  |   \ head: one picture
//!                        |  +------------+  |    v
//!                        |                  |  Picture
//!                        | due, closed      |    | it is whole
//!                        +---------------- Waiting <-+
//! ```
//!
//! All else is a fault, and the way back to `Off`.

use std::fmt::{self, Write};
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::dial::Dialer;
use super::interface::{Captured, Fault, Negotiated, Source};
use super::newest::Newest;
use crate::config::Url;
use crate::limits::{CAPTURE_STALL, FIRST_PICTURE, STAMP_AGE, STAMP_AHEAD};
use crate::picture::frame::{Frame, wall_clock};
use crate::protocol::http::answer::{
    Chunks, Content, Head, Multipart, Step, Ways, Wrong, head_length,
};
use crate::tls::client::Trust;

/// Where the configuration has the URL.
const KEY: &str = "camera.url";

/// As in [`super::push`]: bytes read in one `capture` at least.
const AT_ONCE: usize = 6 << 20;
/// The same of a stream in chunks, whose bytes are looked at one by one where the chunks are small.
const CHUNKED_AT_ONCE: usize = 512 << 10;
/// Steps taken by one `capture` at most, three for a picture: small ones, and parts that are none, cost more than their bytes
/// do.
const STEPS_AT_ONCE: u32 = 256;
/// Answers that are none yet (1xx), one after the other.
const INTERIM: u8 = 8;

/// The client of a server of HTTP.
pub struct Http {
    /// The configuration's.
    url: Url,
    /// Where it is asked: `url`, or where that has led to.
    at: Url,
    fps: u16,
    dialer: Dialer,
    stage: Stage,
    request: String,
    /// Bytes of `request` that are written.
    written: usize,
    /// The connection has been good for an answer already: the server may close it at any moment.
    reused: bool,
    redirects: u8,
    interim: u8,
    /// Of the answer.
    chunks: Option<Chunks>,
    /// What came and is not done with is `input[start..filled]`.
    input: Box<[u8]>,
    start: usize,
    filled: usize,
    /// There may be more to read: one call takes in only so much.
    more: bool,
    /// Another connection was begun since the dialer was run.
    dialled: bool,
    last_look: Option<Instant>,
    /// The connection is over, but there were pictures at its end: the fault comes with the next look.
    over: Option<Fault>,
    /// The last byte, or when it was asked; before the first byte, `None`.
    heard: Option<Instant>,
    /// When there was a good picture; before the first one, the connection.
    pictured: Option<Instant>,
    /// There was one.
    live: bool,
    /// When the next picture is to be asked for.
    due: Option<Instant>,
    dating: Dating,
    newest: Newest,
}

#[derive(Debug)]
enum Stage {
    Off,
    /// The dialer is at it.
    Connecting,
    /// The head of the answer is to come.
    Asking,
    /// It is a stream.
    Stream(Multipart),
    /// It is one picture, of so many bytes if that was said.
    Picture(Option<usize>, Option<Duration>),
    /// The next picture is asked for when it is due.
    Waiting,
}

impl Http {
    /// The same over TLS, with whom to trust; `None`: without.
    pub fn over_tls(mut self, trust: Option<Trust>) -> Self {
        self.dialer = self.dialer.over_tls(trust);
        self
    }

    /// # Panics
    /// If `fps` is 0: the configuration does not allow it.
    pub fn new(url: Url, frame_bytes: usize, fps: u16) -> Http {
        Http {
            dialer: Dialer::new(url.server.clone(), KEY),
            at: url.clone(),
            url,
            fps,
            stage: Stage::Off,
            request: String::new(),
            written: 0,
            reused: false,
            redirects: 0,
            interim: 0,
            chunks: None,
            input: vec![0; Multipart::room(frame_bytes)].into_boxed_slice(),
            start: 0,
            filled: 0,
            more: false,
            dialled: false,
            last_look: None,
            over: None,
            heard: None,
            pictured: None,
            live: false,
            due: None,
            dating: Dating::default(),
            newest: Newest::new(frame_bytes, fps),
        }
    }

    fn fault(&self, what: impl fmt::Display) -> Fault {
        Fault(format!("{} ({KEY}) {what}", self.at))
    }

    fn violated(&self, wrong: Wrong) -> Fault {
        let most = self.newest.capacity();
        match wrong {
            Wrong::TooLarge(Some(length)) => self.fault(format_args!(
                "sends a picture of {length} bytes; allowed: {most} (limits.frame_bytes)"
            )),
            Wrong::TooLarge(None) => self.fault(format_args!(
                "sends a picture without end; allowed: {most} bytes (limits.frame_bytes)"
            )),
            Wrong::NoHead(Some(_)) => {
                let first = &self.input[self.start..self.filled];
                self.fault(format_args!(
                    "does not speak HTTP, it says \"{}\"",
                    first[..first.len().min(16)].escape_ascii()
                ))
            }
            wrong => self.fault(format_args!("sends {wrong}")),
        }
    }

    /// Writes what is sent as soon as there is a connection.
    fn prepare(&mut self) {
        self.request.clear();
        let Url { target, login, .. } = &self.at;
        // HTTP/1.1, so that one connection serves for many snapshots.
        let _ = write!(
            self.request,
            "GET {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: camd/{}\r\nAccept: multipart/x-mixed-replace, image/jpeg, */*;q=0.1\r\n",
            self.at.host_field(),
            env!("CARGO_PKG_VERSION"),
        );
        if let Some(login) = login {
            let _ = write!(self.request, "Authorization: {}\r\n", login.authorization());
        }
        self.request.push_str("\r\n");
    }

    /// Begins to ask, on the connection that there is.
    fn ask(&mut self, now: Instant) {
        self.stage = Stage::Asking;
        self.written = 0;
        self.interim = 0;
        self.chunks = None;
        (self.start, self.filled) = (0, 0);
        self.heard = self.heard.map(|_| now);
        let interval = Duration::from_secs(1) / u32::from(self.fps);
        // What was missed is not made up for.
        let due = self.due.map(|due| due + interval).filter(|due| *due > now);
        self.due = Some(due.unwrap_or(now + interval));
    }

    /// Begins to ask, on a new connection.
    fn dial(&mut self, port: Option<u16>, now: Instant) -> Result<(), Fault> {
        self.stage = Stage::Connecting;
        self.reused = false;
        self.dialled = true;
        self.dialer.again(port, now)
    }

    /// When the server has been silent, or without a good picture, for too long.
    fn until(&self) -> Option<Instant> {
        let whole = self.pictured.filter(|_| self.is_reading())? + FIRST_PICTURE;
        let silent = self.heard.map(|heard| heard + CAPTURE_STALL);
        Some(silent.map_or(whole, |silent| whole.min(silent)))
    }

    /// Something is to come from the server.
    fn is_reading(&self) -> bool {
        match self.stage {
            Stage::Asking | Stage::Stream(_) | Stage::Picture(..) => true,
            Stage::Off | Stage::Connecting | Stage::Waiting => false,
        }
    }

    fn late(&self, now: Instant) -> Fault {
        let silent = self.heard.is_none_or(|heard| heard + CAPTURE_STALL <= now);
        let nothing = self.start == self.filled;
        if !silent {
            return self.fault(format_args!(
                "sends, but no good picture for {} s",
                FIRST_PICTURE.as_secs()
            ));
        }
        match &self.stage {
            Stage::Asking if nothing => self.fault("does not answer"),
            Stage::Asking => self.fault("stopped within the head of its answer"),
            Stage::Stream(_) if nothing && !self.live => self.fault("sends no picture"),
            Stage::Stream(_) if nothing => self.fault("sends no pictures any more"),
            Stage::Stream(parts) => self.fault(format_args!("stopped {}", parts.place())),
            _ => self.fault("stopped within a picture"),
        }
    }

    /// What has come and is not done with.
    fn received(&self) -> &[u8] {
        &self.input[self.start..self.filled]
    }

    /// Takes in what has come. With a fault, all pictures before it are taken in.
    fn receive(&mut self, now: Instant, captured: &mut Captured) -> Result<(), Fault> {
        let most = self.chunks.map_or(AT_ONCE, |_| CHUNKED_AT_ONCE);
        let mut room = most.max(self.input.len());
        let mut steps = STEPS_AT_ONCE;
        while room > 0 && steps > 0 {
            self.work(now, &mut steps, captured)?;
            if !self.is_reading() || steps == 0 {
                break;
            }
            if self.start > 0 {
                self.input.copy_within(self.start..self.filled, 0);
                self.filled -= self.start;
                self.start = 0;
            }
            let Some(link) = self.dialer.link() else {
                break;
            };
            let most = room.min(self.input.len() - self.filled);
            let into = &mut self.input[self.filled..][..most];
            assert!(!into.is_empty(), "what needs more room is an error");
            match link.read(into) {
                Ok(None) => {
                    self.more = false;
                    return Ok(());
                }
                Ok(Some(0)) => return self.ended(now, captured),
                Ok(Some(n)) => {
                    room -= n;
                    self.heard = Some(now);
                    self.take(n)?;
                }
                Err(error) => return self.broke(&error, now),
            }
        }
        self.more = self.is_reading();
        Ok(())
    }

    /// Takes in so many bytes behind those that are there.
    fn take(&mut self, n: usize) -> Result<(), Fault> {
        let body = match &mut self.chunks {
            None => Ok(n),
            Some(chunks) => chunks.decode(&mut self.input[self.filled..][..n]),
        };
        self.filled += body.map_err(|wrong| self.violated(wrong))?;
        Ok(())
    }

    /// Works off what came, as far as that goes.
    fn work(
        &mut self,
        now: Instant,
        steps: &mut u32,
        captured: &mut Captured,
    ) -> Result<(), Fault> {
        while *steps > 0 {
            *steps -= 1;
            let on = match self.stage {
                Stage::Asking => self.head(now)?,
                Stage::Stream(_) => self.part(now, captured)?,
                Stage::Picture(..) => self.picture(now, captured)?,
                Stage::Off | Stage::Connecting | Stage::Waiting => false,
            };
            if !on {
                break;
            }
        }
        Ok(())
    }

    /// Reads the head of the answer. False: it is not whole.
    fn head(&mut self, now: Instant) -> Result<bool, Fault> {
        let wrong = |wrong| self.violated(wrong);
        let received = self.received();
        let Some(length) = head_length(received).map_err(wrong)? else {
            return Ok(false);
        };
        let head = Head::parse(&received[..length]).map_err(wrong)?;
        let next = match head.status {
            100..=199 if self.interim < INTERIM => None,
            200 => {
                let stage = match head.content().map_err(wrong)? {
                    Content::Multipart(boundary) => {
                        Stage::Stream(Multipart::new(boundary, self.newest.capacity()))
                    }
                    Content::Picture => {
                        if let Some(length) = head.length.filter(|n| *n > self.newest.capacity()) {
                            return Err(wrong(Wrong::TooLarge(Some(length))));
                        }
                        Stage::Picture(head.length, head.stamp)
                    }
                    Content::Other => {
                        return Err(self.fault(format_args!(
                            "is \"{}\", neither a stream nor a picture: see what its page has as the source of the image",
                            Told(head.content_type)
                        )));
                    }
                };
                Some((stage, head.chunked, head.persists))
            }
            301 | 302 | 303 | 307 | 308 => {
                let to = self.redirection(&head)?;
                return self.redirect(to, now).map(|()| true);
            }
            _ => return Err(self.refused(&head)),
        };
        self.start += length;
        let Some((stage, chunked, persists)) = next else {
            self.interim += 1;
            return Ok(true);
        };
        // Polls are what makes it a rate.
        self.newest.set_pace(match stage {
            Stage::Stream(_) => self.fps,
            _ => u16::MAX,
        });
        self.stage = stage;
        self.reused = persists;
        if chunked {
            self.chunks = Some(Chunks::default());
            let n = self.filled - self.start;
            self.filled = self.start;
            self.take(n)?;
        }
        Ok(true)
    }

    fn redirection(&self, head: &Head<'_>) -> Result<Url, Fault> {
        self.at
            .redirect(head.status, head.location, self.redirects)
            .map_err(|why| self.fault(format_args!("{why}")))
    }

    fn redirect(&mut self, to: Url, now: Instant) -> Result<(), Fault> {
        log::debug!("camera: {} redirects to {to}", self.at);
        self.redirects += 1;
        self.at = to;
        self.prepare();
        self.dial(Some(self.at.server.port), now)
    }

    fn refused(&self, head: &Head<'_>) -> Fault {
        let told = match head.phrase {
            "" => head.status.to_string(),
            phrase => format!("{} {}", head.status, Told(phrase.as_bytes())),
        };
        match (head.status, self.at.login.is_some(), head.login) {
            (
                401,
                _,
                Ways {
                    basic: false,
                    digest: true,
                },
            ) => self.fault(format_args!(
                "wants a login by Digest ({told}), and camd knows Basic only: see whether the server can be set to that"
            )),
            (401, false, _) => self.fault(format_args!(
                "wants a login ({told}): set camera.user and camera.password"
            )),
            (401, true, _) => self.fault(format_args!(
                "does not take this login ({told}): see camera.user and camera.password, or those in the URL"
            )),
            (404, ..) => self.fault(format_args!("is not there ({told})")),
            _ => self.fault(format_args!("answers {told}")),
        }
    }

    /// Takes one step in the stream. False: more must come.
    fn part(&mut self, now: Instant, captured: &mut Captured) -> Result<bool, Fault> {
        let Stage::Stream(parts) = &mut self.stage else {
            return Ok(false);
        };
        let received = &self.input[self.start..self.filled];
        match parts.step(received) {
            Ok(Step::More) if self.chunks.is_some_and(|chunks| chunks.is_over()) => {
                Err(self.cut_off())
            }
            Ok(Step::More) => Ok(false),
            Ok(Step::Skip(n)) => {
                self.start += n;
                Ok(true)
            }
            Ok(Step::Picture {
                start,
                length,
                used,
                stamp,
            }) => {
                let age = self.dating.age(stamp, wall_clock()).unwrap_or_default();
                let jpeg = &received[start..][..length];
                if self.newest.take_in_of_age(age, now, jpeg, captured) {
                    (self.pictured, self.live) = (Some(now), true);
                }
                self.start += used;
                Ok(true)
            }
            Ok(Step::End) => Err(self.fault("has ended the stream")),
            Err(wrong) => Err(self.violated(wrong)),
        }
    }

    /// Takes the one picture of the answer, if it is whole. False: it is not.
    fn picture(&mut self, now: Instant, captured: &mut Captured) -> Result<bool, Fault> {
        let Stage::Picture(length, stamp) = self.stage else {
            return Ok(false);
        };
        let received = self.filled - self.start;
        let length = match (length, self.chunks) {
            (Some(length), _) if length <= received => length,
            (None, _) if received > self.newest.capacity() => {
                return Err(self.violated(Wrong::TooLarge(None)));
            }
            (None, Some(chunks)) if chunks.is_over() => received,
            _ => return Ok(false),
        };
        self.take_single(length, stamp, now, captured);
        if !self.reused {
            self.dialer.hang_up();
        }
        Ok(true)
    }

    fn take_single(
        &mut self,
        length: usize,
        stamp: Option<Duration>,
        now: Instant,
        captured: &mut Captured,
    ) {
        self.stage = Stage::Waiting;
        // A server that says when it took a picture is asked more often than it takes one.
        if self.dating.is_last(stamp, wall_clock()) {
            self.pictured = Some(now);
            return;
        }
        let age = self.dating.age(stamp, wall_clock()).unwrap_or_default();
        let jpeg = &self.input[self.start..][..length];
        if self.newest.take_in_of_age(age, now, jpeg, captured) {
            (self.pictured, self.live) = (Some(now), true);
        }
        self.start += length;
    }

    /// The server has closed.
    fn ended(&mut self, now: Instant, captured: &mut Captured) -> Result<(), Fault> {
        match self.stage {
            Stage::Asking if self.reused && self.start == self.filled => self.dial(None, now),
            // Up to the end of the connection (RFC 9112, 6.3).
            Stage::Picture(None, stamp) if self.chunks.is_none() => {
                self.dialer.hang_up();
                self.take_single(self.filled - self.start, stamp, now, captured);
                Ok(())
            }
            _ => Err(self.cut_off()),
        }
    }

    fn cut_off(&self) -> Fault {
        let nothing = self.start == self.filled;
        match &self.stage {
            Stage::Asking if nothing => self.fault("has ended the connection without an answer"),
            Stage::Asking => self.fault("has ended the connection within the head of its answer"),
            Stage::Stream(_) if nothing => self.fault("has ended the connection"),
            Stage::Stream(parts) => {
                self.fault(format_args!("has ended the connection {}", parts.place()))
            }
            _ => self.fault("has ended the connection within a picture"),
        }
    }

    fn broke(&mut self, error: &io::Error, now: Instant) -> Result<(), Fault> {
        match self.stage {
            // It was closed when the request was under way.
            Stage::Asking if self.reused && self.start == self.filled => self.dial(None, now),
            _ => Err(self.fault(format_args!("is lost: {error}"))),
        }
    }

    /// Writes as much of the request as the server takes.
    fn send(&mut self, now: Instant) -> Result<(), Fault> {
        while self.written < self.request.len() {
            let Some(link) = self.dialer.link() else {
                return Ok(());
            };
            match link.write(&self.request.as_bytes()[self.written..]) {
                Ok(Some(n)) => self.written += n,
                Ok(None) => return Ok(()),
                Err(error) => return self.broke(&error, now),
            }
        }
        Ok(())
    }

    /// Between two pictures nothing comes but the end of the connection.
    fn wait(&mut self, now: Instant) -> Result<(), Fault> {
        let mut one = [0];
        if let Some(link) = self.dialer.link()
            && !matches!(link.read(&mut one), Ok(None))
        {
            self.dialer.hang_up();
        }
        if self.due.is_some_and(|due| due > now) {
            return Ok(());
        }
        match self.dialer.link() {
            Some(_) => self.ask(now),
            None => self.dial(None, now)?,
        }
        Ok(())
    }
}

impl Source for Http {
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault> {
        self.stop();
        self.at = self.url.clone();
        self.prepare();
        self.dialer.start(now)?;
        self.stage = Stage::Connecting;
        self.pictured = Some(now);
        self.due = None;
        Ok(Negotiated::jpegs(format!("pictures of {}", self.url)))
    }

    fn stop(&mut self) {
        self.dialer.stop();
        self.stage = Stage::Off;
        self.reused = false;
        self.redirects = 0;
        self.chunks = None;
        (self.start, self.filled) = (0, 0);
        self.more = false;
        self.over = None;
        self.heard = None;
        self.live = false;
        self.dating = Dating::default();
        self.newest.clear();
    }

    fn fd(&self) -> Option<RawFd> {
        self.dialer.fd()
    }

    fn deadline(&self) -> Option<Instant> {
        if self.more || self.over.is_some() {
            return self.last_look;
        }
        match self.stage {
            Stage::Off => None,
            Stage::Connecting => self.dialer.deadline(),
            Stage::Waiting => self.due.or(self.last_look),
            _ => self.until(),
        }
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        self.last_look = Some(now);
        self.more = false;
        if let Some(fault) = self.over.take() {
            return Err(fault);
        }
        let mut captured = Captured::default();
        loop {
            self.dialled = false;
            let connected = self.dialer.run(now)?.is_some();
            match self.stage {
                Stage::Waiting => self.wait(now)?,
                Stage::Connecting if connected => {
                    if self.heard.is_none() {
                        self.pictured = Some(now);
                    }
                    self.ask(now);
                }
                _ => {}
            }
            if matches!(self.stage, Stage::Asking) {
                self.send(now)?;
            }
            if self.is_reading() {
                match self.receive(now, &mut captured) {
                    Ok(()) => {}
                    Err(fault) if captured != Captured::default() => {
                        self.over = Some(fault);
                        return Ok(captured);
                    }
                    Err(fault) => return Err(fault),
                }
            }
            // What became of a new connection since it was begun may make no event any more.
            if !self.dialled {
                break;
            }
        }
        match self.until() {
            Some(until) if until <= now => Err(self.late(now)),
            _ => Ok(captured),
        }
    }

    fn newest(&self) -> Option<Frame<'_>> {
        self.newest.frame()
    }
}

/// How old pictures are by the server's own word (X-Timestamp), where that makes sense: camd and µStreamer send the time of
/// capture by a clock that is set, others that since they were switched on. Decided once for each start, as pictures of which
/// some are dated so and others not would be out of order.
#[derive(Debug, Default)]
struct Dating {
    /// Of the last picture, if it made sense.
    last: Option<Duration>,
    senseless: bool,
}

impl Dating {
    /// Whether this is the stamp of the picture before.
    fn is_last(&self, stamp: Option<Duration>, wall: Duration) -> bool {
        stamp.is_some_and(|stamp| Some(stamp) == self.last && wall <= stamp + STAMP_AGE)
    }

    /// `None`: as it comes.
    fn age(&mut self, stamp: Option<Duration>, wall: Duration) -> Option<Duration> {
        let stamp = stamp.filter(|_| !self.senseless)?;
        let age = wall.saturating_sub(stamp);
        let plausible = age <= STAMP_AGE && stamp <= wall + STAMP_AHEAD;
        if !plausible || self.last.is_some_and(|last| stamp < last) {
            log::debug!(
                "camera: X-Timestamp is of another clock: pictures are dated when they come"
            );
            (self.senseless, self.last) = (true, None);
            return None;
        }
        self.last = Some(stamp);
        Some(age)
    }
}

/// What a server said, made fit for the log and the card: short, and without what is not plain.
struct Told<'a>(&'a [u8]);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 40;
        let shown = &self.0[..self.0.len().min(SHOWN)];
        for &byte in shown {
            let is_plain = byte.is_ascii_graphic() || byte == b' ';
            f.write_char(if is_plain { char::from(byte) } else { '?' })?;
        }
        f.write_str(if self.0.len() > SHOWN { "…" } else { "" })
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
