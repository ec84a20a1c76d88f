//! The calling half of [`crate::protocol::call`]: logs in, calls a user, takes the pictures in, hangs up.

use super::error::FetchError;
use super::pictures::PICTURE_LIMIT;
use super::url::Call;
use super::wire::Wire;
use crate::limits::USER_NAME;
use crate::protocol::call::{self, Kind, Longest, Record};

/// A record with the largest picture and the longest names: four numbers of four bytes each, and three texts. Other
/// relays have other limits than camd's, so no record is held to less, whatever it is about. The buffer has no more of
/// it at any time than the relay has sent.
const RECORD: usize = 4 * 4 + 2 * (2 * USER_NAME) + call::content_len(PICTURE_LIMIT);
const LONGEST: Longest = Longest {
    picture: RECORD,
    control: RECORD,
};

pub(super) struct Receiver {
    user: String,
    callee: String,
    state: State,
    /// A picture's Base64.
    text: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ringing,
    InCall,
    /// The other side has ended it.
    Over,
}

/// What is to be done about a record.
enum Heard {
    Nothing,
    Picture,
    End,
    /// Somebody rings; the kind and the content of the answer.
    Ring(String, Kind, &'static str),
}

impl Receiver {
    /// Logs in and rings.
    pub(super) fn ring(wire: &mut Wire, call: &Call) -> Result<Receiver, FetchError> {
        let receiver = Receiver {
            user: call.user.clone(),
            callee: call.callee.clone(),
            state: State::Ringing,
            text: Vec::new(),
        };
        let password = call.password.as_ref().map_or("", |p| p.expose());
        receiver.send(wire, "", password, Kind::Login)?;
        while !receiver.is_let_in(wire)? {}
        receiver.send(wire, &call.callee, "", Kind::Request)?;
        Ok(receiver)
    }

    /// Reads one record; false: it says nothing about the login.
    fn is_let_in(&self, wire: &mut Wire) -> Result<bool, FetchError> {
        let record = record(wire, "the server does not answer the login")?;
        let let_in = match record.kind {
            Kind::LoginOk => true,
            Kind::LoginRefused => {
                let text = format!("the server does not let {} in", self.user);
                return Err(FetchError::Protocol(with_reason(text, &record)));
            }
            _ => false,
        };
        let length = record.bytes.len();
        wire.consume(length);
        Ok(let_in)
    }

    /// As [`Pictures::next`](super::pictures::Pictures::next).
    pub(super) fn next(
        &mut self,
        wire: &mut Wire,
        picture: &mut Vec<u8>,
    ) -> Result<bool, FetchError> {
        loop {
            let waiting = match self.state {
                State::Ringing => format!("{} does not answer the call", self.callee),
                State::InCall => format!("{} is in the call and sends none", self.callee),
                State::Over => return Ok(false),
            };
            let record = record(wire, &waiting)?;
            let length = record.bytes.len();
            let heard = self.hear(&record, picture);
            wire.consume(length);
            match heard? {
                Heard::Nothing => {}
                Heard::Picture => return Ok(true),
                Heard::End => return Ok(false),
                Heard::Ring(caller, answer, reason) => {
                    self.send(wire, &caller, reason, answer)?;
                }
            }
        }
    }

    fn hear(&mut self, record: &Record, picture: &mut Vec<u8>) -> Result<Heard, FetchError> {
        let Ok(sender) = record.sender() else {
            return Ok(Heard::Nothing);
        };
        let sender = sender.as_str().to_owned();
        if sender != self.callee {
            return Ok(match record.kind {
                // Or it would ring until the relay gives up.
                Kind::Request => Heard::Ring(sender, Kind::Reject, "only takes pictures"),
                _ => Heard::Nothing,
            });
        }
        let callee = &self.callee;
        match (record.kind, self.state) {
            (Kind::Accept, _) => self.state = State::InCall,
            // Both have rung, and the relay leaves it to them; or the other side has begun anew.
            (Kind::Request, _) => {
                self.state = State::InCall;
                return Ok(Heard::Ring(sender, Kind::Accept, ""));
            }
            (Kind::VideoData, State::InCall) => {
                self.text.resize(record.content.len() / 2, 0);
                picture.resize(self.text.len().min(PICTURE_LIMIT), 0);
                let length = record.picture(&mut self.text, picture).ok_or_else(|| {
                    FetchError::Protocol(format!(
                        "{callee} sent something that is not Base64, or has more than {PICTURE_LIMIT} bytes"
                    ))
                })?;
                picture.truncate(length);
                return Ok(Heard::Picture);
            }
            (Kind::Reject | Kind::End | Kind::Unavailable, State::InCall) => {
                self.state = State::Over;
                return Ok(Heard::End);
            }
            (Kind::Reject | Kind::End | Kind::Unavailable, _) => {
                let what = match record.kind {
                    Kind::Unavailable => "is not there",
                    Kind::Reject => "declines the call",
                    _ => "has not answered the call",
                };
                let text = with_reason(format!("{callee} {what}"), record);
                self.state = State::Over;
                return Err(FetchError::NoPicture(text));
            }
            _ => {}
        }
        Ok(Heard::Nothing)
    }

    /// Hangs up, unless the other side has.
    pub(super) fn finish(&self, wire: &mut Wire) {
        if self.state != State::Over {
            wire.finish(&self.record(&self.callee, "", Kind::End));
        }
    }

    fn send(
        &self,
        wire: &mut Wire,
        receiver: &str,
        content: &str,
        kind: Kind,
    ) -> Result<(), FetchError> {
        wire.send(&self.record(receiver, content, kind))
    }

    fn record(&self, receiver: &str, content: &str, kind: Kind) -> Vec<u8> {
        let mut bytes = Vec::new();
        call::write(&mut bytes, &self.user, receiver, content, kind);
        bytes
    }
}

/// Waits for a whole record, which is left in `wire`. What has not happened if none comes in time is `waiting`.
fn record<'a>(wire: &'a mut Wire, waiting: &str) -> Result<Record<'a>, FetchError> {
    while parse(wire)?.is_none() {
        let what = match wire.received() {
            [] => "instead of hanging up",
            _ => "within a record",
        };
        wire.fill_some(what).map_err(|error| match error {
            FetchError::NoPicture(text) => FetchError::NoPicture(format!("{text}: {waiting}")),
            other => other,
        })?;
    }
    Ok(parse(wire)?.expect("nothing has been consumed since it was there"))
}

fn parse(wire: &Wire) -> Result<Option<Record<'_>>, FetchError> {
    Record::parse(wire.received(), LONGEST).map_err(|violation| {
        FetchError::Protocol(format!("the server does not speak call: {violation}"))
    })
}

fn with_reason(text: String, record: &Record) -> String {
    match record.reason().trim() {
        "" => text,
        reason => format!("{text}: {reason}"),
    }
}
