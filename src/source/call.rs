//! Pictures from a video call ([`crate::protocol::call`]): camd calls a user of a relay, and what that user sends is the
//! picture.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

use super::dial::Dialer;
use super::interface::{Captured, Fault, Negotiated, Source};
use super::newest::Newest;
use crate::config::{CallConfig, Dial, Secret};
use crate::limits::{
    CALL_ANSWER, CAPTURE_STALL, CONTROL_RECORD, FIRST_PICTURE, LOGIN_ANSWER, PASSWORD, RECORD,
    USER_NAME,
};
use crate::picture::frame::Frame;
use crate::protocol::Violation;
use crate::protocol::call::{self, Kind, Longest, Name, Record};

/// The longest record that is written here, in bytes: three lengths and a type, two names, and a password.
const WRITTEN: usize = 4 * 4 + 2 * 2 * USER_NAME + 2 * PASSWORD;
/// What may wait to be written, in bytes: LOGIN or REQUEST, END, and answers to others as far as they find room.
const OUTPUT: usize = 4 * WRITTEN;

const LONGEST: Longest = Longest {
    picture: RECORD,
    control: CONTROL_RECORD,
};
/// Characters of Base64 in a record at most, and bytes of the JPEG in them.
const TEXT: usize = RECORD / 2;
const JPEG: usize = TEXT / 4 * 3;

/// What users get that call this box.
const NOTHING_TO_SHOW: &str = "shows pictures, has none";

/// A user of a relay that calls another one, and shows what that one sends.
pub struct Call {
    dial: Dial,
    /// `None`: the host name, which ought to be it, is no name for a user.
    user: Option<Name>,
    password: Option<Secret>,
    dialer: Dialer,
    stage: Stage,
    /// When `stage` has taken too long, if it is not that of the dialer.
    until: Option<Instant>,
    /// Of which the first `filled` bytes are a record that has not come whole.
    input: Box<[u8]>,
    filled: usize,
    /// There may be more to read: one call takes in only so much.
    more: bool,
    last_look: Option<Instant>,
    output: heapless::Vec<u8, OUTPUT>,
    /// Bytes of `output` that are written.
    written: usize,
    text: Box<[u8]>,
    jpeg: Box<[u8]>,
    newest: Newest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Off,
    /// The dialer is at it.
    Connecting,
    /// LOGIN is sent.
    LoggingIn,
    /// VIDEO_CALL_REQUEST is sent.
    Ringing,
    /// It was accepted; without a picture so far.
    Accepted,
    /// Pictures come.
    Talking,
    /// The other side ended it.
    Over,
}

impl Stage {
    /// Whether the other one has to be told that it is over.
    fn is_call(self) -> bool {
        matches!(self, Stage::Ringing | Stage::Accepted | Stage::Talking)
    }
}

impl Call {
    /// # Panics
    /// If `config` has nobody to dial, or `fps` is 0: the configuration does not allow it.
    pub fn new(config: &CallConfig, frame_bytes: usize, fps: u16) -> Call {
        let dial = config
            .dial
            .clone()
            .expect("the configuration has call.dial for source = \"call\"");
        let newest = Newest::new(frame_bytes, fps);
        Call {
            user: config.user.clone().or_else(host_name),
            password: config.password.clone(),
            dialer: Dialer::new(dial.relay.clone(), "call.dial").over_tls(config.trust()),
            dial,
            stage: Stage::Off,
            until: None,
            input: vec![0; RECORD].into_boxed_slice(),
            filled: 0,
            more: false,
            last_look: None,
            output: heapless::Vec::new(),
            written: 0,
            text: vec![0; TEXT].into_boxed_slice(),
            jpeg: vec![0; JPEG.min(newest.capacity())].into_boxed_slice(),
            newest,
        }
    }

    fn user(&self) -> &Name {
        self.user.as_ref().expect("without one it does not start")
    }

    fn fault(&self, what: impl fmt::Display) -> Fault {
        Fault(format!("{} (call.dial) {what}", self.dial))
    }

    fn relay_fault(&self, what: impl fmt::Display) -> Fault {
        Fault(format!("{} (call.dial) {what}", self.dial.relay))
    }

    fn broken(&self, error: io::Error) -> Fault {
        self.relay_fault(format_args!("is lost: {error}"))
    }

    /// Puts a record behind what waits to be written.
    fn put(&mut self, receiver: Option<&Name>, content: &str, kind: Kind) {
        let user = self.user.as_ref().expect("without one it does not start");
        let receiver = receiver.map_or("", Name::as_str);
        call::write(&mut self.output, user.as_str(), receiver, content, kind);
    }

    fn put_to_callee(&mut self, kind: Kind) {
        let callee = self.dial.user.clone();
        self.put(Some(&callee), "", kind);
    }

    /// Whether there is room for an answer, and for the END after it.
    fn has_room(&self) -> bool {
        self.output.capacity() - self.output.len() >= 2 * WRITTEN
    }

    /// Writes as much as the relay takes.
    fn flush(&mut self) -> io::Result<()> {
        let Some(link) = self.dialer.link() else {
            return Ok(());
        };
        while self.written < self.output.len() {
            match link.write(&self.output[self.written..])? {
                Some(n) => self.written += n,
                None => return Ok(()),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what there is, up to the size of a record: a relay that sends faster than it can be read must not keep the
    /// caller for ever.
    fn receive(&mut self, now: Instant, captured: &mut Captured) -> Result<(), Fault> {
        let mut room = self.input.len();
        while room > 0 {
            let Some(link) = self.dialer.link() else {
                return Ok(());
            };
            let most = room.min(self.input.len() - self.filled);
            let into = &mut self.input[self.filled..][..most];
            assert!(!into.is_empty(), "what cannot become a record is an error");
            match link.read(into) {
                Ok(None) => {
                    self.more = false;
                    return Ok(());
                }
                Ok(Some(0)) => return Err(self.closed()),
                Ok(Some(n)) => {
                    room -= n;
                    self.filled += n;
                    self.take_records(now, captured)?;
                }
                Err(error) => return Err(self.broken(error)),
            }
        }
        self.more = true;
        Ok(())
    }

    fn take_records(&mut self, now: Instant, captured: &mut Captured) -> Result<(), Fault> {
        // Out of `self` meanwhile, as the records lie in it.
        let mut input = std::mem::take(&mut self.input);
        let mut at = 0;
        let result = loop {
            match Record::parse(&input[at..self.filled], LONGEST) {
                Ok(None) => break Ok(()),
                Ok(Some(record)) => {
                    at += record.bytes.len();
                    if let Err(fault) = self.take(&record, now, captured) {
                        break Err(fault);
                    }
                }
                Err(violation) => break Err(self.violated(violation)),
            }
        };
        input.copy_within(at..self.filled, 0);
        self.filled -= at;
        self.input = input;
        result
    }

    fn take(
        &mut self,
        record: &Record<'_>,
        now: Instant,
        captured: &mut Captured,
    ) -> Result<(), Fault> {
        let from = || record.sender().map_err(|error| self.violated(error));
        match (record.kind, self.stage) {
            (Kind::LoginOk, Stage::LoggingIn) => {
                self.put_to_callee(Kind::Request);
                self.go(Stage::Ringing, now);
            }
            (Kind::LoginRefused, Stage::LoggingIn) => {
                return Err(self.relay_fault(format_args!(
                    "does not let {} in{}; see call.user and call.password",
                    self.user(),
                    because(record)
                )));
            }
            (Kind::VideoData, Stage::Accepted | Stage::Talking) if from()? == self.dial.user => {
                self.take_picture(record, now, captured);
            }
            (Kind::Accept, Stage::Ringing) if from()? == self.dial.user => {
                self.go(Stage::Accepted, now);
            }
            (Kind::Request, stage) if stage.is_call() => {
                let from = from()?;
                if !self.has_room() {
                    // It learns from the relay that nobody answered.
                } else if from != self.dial.user {
                    self.put(Some(&from), NOTHING_TO_SHOW, Kind::Reject);
                } else {
                    // Both ring each other, and this relay leaves it to them. It is one call.
                    self.put(Some(&from), "", Kind::Accept);
                    if stage == Stage::Ringing {
                        self.go(Stage::Accepted, now);
                    }
                }
            }
            (kind @ (Kind::Reject | Kind::End | Kind::Unavailable), stage)
                if stage.is_call() && from()? == self.dial.user =>
            {
                self.stage = Stage::Over;
                let (user, why) = (self.user(), because(record));
                return Err(match (kind, stage) {
                    (Kind::Unavailable, _) => self.fault(format_args!("is not logged in{why}")),
                    (Kind::Reject, _) => {
                        self.fault(format_args!("rejects the call of {user}{why}"))
                    }
                    (_, Stage::Ringing) => self.unanswered(),
                    _ => self.fault("has ended the call"),
                });
            }
            // Nothing that concerns a call.
            _ => {}
        }
        Ok(())
    }

    fn take_picture(&mut self, record: &Record<'_>, now: Instant, captured: &mut Captured) {
        let Some(length) = record.picture(&mut self.text, &mut self.jpeg) else {
            captured.bad += 1;
            return;
        };
        if self.newest.take_in(now, &self.jpeg[..length], captured) {
            self.go(Stage::Talking, now);
        }
    }

    /// Begins a stage, or, with one more picture, the last one anew.
    fn go(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        let time = match stage {
            Stage::Off | Stage::Connecting | Stage::Over => None,
            Stage::LoggingIn => Some(LOGIN_ANSWER),
            Stage::Ringing => Some(CALL_ANSWER),
            Stage::Accepted => Some(FIRST_PICTURE),
            Stage::Talking => Some(CAPTURE_STALL),
        };
        self.until = time.map(|time| now + time);
    }

    fn late(&self) -> Fault {
        match self.stage {
            Stage::LoggingIn => self.relay_fault("does not answer the login: is it a relay?"),
            Stage::Ringing => self.unanswered(),
            Stage::Accepted => self.fault("accepts the call but sends no good picture"),
            _ => self.fault("sends no good pictures any more"),
        }
    }

    fn unanswered(&self) -> Fault {
        self.fault(format_args!("does not answer the call of {}", self.user()))
    }

    fn closed(&self) -> Fault {
        match self.stage {
            Stage::LoggingIn => self.relay_fault(format_args!(
                "ends the connection when {} logs in: is it a relay?",
                self.user()
            )),
            _ => self.relay_fault("has ended the connection"),
        }
    }

    fn violated(&self, violation: Violation) -> Fault {
        match violation {
            Violation::LongRecord if self.stage.is_call() => self.fault(format_args!(
                "sends too large pictures; allowed: JPEGs of at most {JPEG} bytes"
            )),
            _ => self.relay_fault(format_args!("sends what no relay sends: {violation}")),
        }
    }
}

/// The content as a part of a sentence.
fn because(record: &Record<'_>) -> String {
    match record.reason() {
        reason if reason.is_empty() => reason,
        reason => format!(": {reason}"),
    }
}

fn host_name() -> Option<Name> {
    Name::new(nix::unistd::gethostname().ok()?.to_str()?)
}

impl Source for Call {
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault> {
        self.stop();
        let Some(user) = &self.user else {
            return Err(Fault(
                "the host name is not a valid user name of 1 to 64 characters: set call.user"
                    .into(),
            ));
        };
        let description = format!("call of {user} to {}", self.dial);
        self.dialer.start(now)?;
        self.go(Stage::Connecting, now);
        Ok(Negotiated::jpegs(description))
    }

    fn stop(&mut self) {
        if self.stage.is_call() {
            self.put_to_callee(Kind::End);
            // What does not go out now does not matter: the relay sees the connection end.
            let _ = self.flush();
        }
        self.dialer.stop();
        self.stage = Stage::Off;
        self.filled = 0;
        self.more = false;
        self.output.clear();
        self.written = 0;
        self.newest.clear();
    }

    /// Somebody's bell rings.
    fn disturbs(&self) -> bool {
        true
    }

    fn fd(&self) -> Option<RawFd> {
        self.dialer.fd()
    }

    fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Off => None,
            Stage::Connecting => self.dialer.deadline(),
            _ if self.more => self.last_look,
            _ => self.until,
        }
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        self.last_look = Some(now);
        let mut captured = Captured::default();
        if self.dialer.run(now)?.is_none() {
            return Ok(captured);
        }
        if self.stage == Stage::Connecting {
            let password = self.password.clone();
            let password = password.as_ref().map_or("", Secret::expose);
            self.put(None, password, Kind::Login);
            self.go(Stage::LoggingIn, now);
        }
        self.receive(now, &mut captured)?;
        self.flush().map_err(|error| self.broken(error))?;
        match self.until {
            Some(until) if until <= now => Err(self.late()),
            _ => Ok(captured),
        }
    }

    fn newest(&self) -> Option<Frame<'_>> {
        self.newest.frame()
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
