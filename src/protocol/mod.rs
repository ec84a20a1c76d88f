//! The wire protocols: pure state machines without socket, clock, allocation or log.
//!
//! | protocol | a client asks | it gets |
//! |---|---|---|
//! | [`pull`] | for each picture, and for each part of it | `newImage:<size>`, then parts of at most 1380 bytes |
//! | [`push`] | nothing | every picture behind two int32 lengths; as `raw`, every picture and nothing else |
//! | [`http`] | by GET | a multipart stream, single pictures, state pages |
//! | [`call`] | by ringing up the camera, or each other | messages of other users, and pictures among them |
//!
//! To a [`crate::client::slot::Slot`] they differ in two things only: what their input means, and how a picture is framed, which
//! is [`Chunk`]'s business. A new protocol is a file here and a variant in [`Protocol`]; the `match`es that then fail to
//! compile are the places to fill in.

pub mod call;
pub mod http;
pub mod pull;
pub mod push;

use std::fmt;
use std::rc::Rc;

use crate::limits::HEAD;
use crate::picture::frame::FrameMeta;

/// Framing bytes in front of a piece of payload.
pub type Head = heapless::Vec<u8, HEAD>;

/// Where a client's slot stands with its picture (the original pull server's states 0, 2 and 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Wants nothing and holds nothing.
    Idle,
    /// Wants the newest picture and holds none.
    AnnouncePending,
    /// Holds a picture or a reply, frozen until its last byte is written.
    Sending,
}

/// What goes out in one piece, without a word from the client in between: the head that was filled along with this,
/// `payload` further bytes of the picture, then `tail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub payload: usize,
    pub tail: &'static [u8],
}

/// Where in its picture a connection is when it asks for the next chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Nothing of it is out, neither framing nor payload.
    Start,
    /// The chunks before have been written, with so many bytes of payload.
    Sent(usize),
}

/// A peer broke the protocol. It costs that peer its connection, and one line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// pull: bytes that begin neither `new_request` nor `ack`.
    UnknownToken { first: u8 },
    /// pull: a third `new_request` while one is being served and one is remembered.
    TooManyRequests,
    /// pull: `ack` for a part that is not written yet.
    EarlyAck,
    /// call: a text of UTF-16 has an even number of bytes.
    OddText { bytes: usize },
    /// call: a user's name of more than [`crate::limits::USER_NAME`] UTF-16 units.
    LongName { bytes: usize },
    /// call: a record that is longer than there is room for.
    LongRecord,
    /// call: a name that is empty, no text, or has control characters.
    BadName,
    /// call: a record whose sender is somebody else.
    ForeignSender,
    /// call: something else before LOGIN, where a password is needed.
    NotLoggedIn,
    /// call: a type that only the relay sends.
    RelaysOnly { number: i32 },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::UnknownToken { first } => {
                write!(
                    f,
                    "expected new_request or ack, got '{}'",
                    first.escape_ascii()
                )
            }
            Violation::TooManyRequests => {
                f.write_str("more than one new_request ahead of its picture")
            }
            Violation::EarlyAck => f.write_str("ack for a part that has not been sent whole"),
            Violation::OddText { bytes } => write!(f, "a text of {bytes} bytes, which is odd"),
            Violation::LongName { bytes } => write!(f, "a name of {bytes} bytes"),
            Violation::LongRecord => f.write_str("a record that is too long"),
            Violation::BadName => {
                f.write_str("a user's name that is empty, no text, or has control characters")
            }
            Violation::ForeignSender => f.write_str("a message in the name of another user"),
            Violation::NotLoggedIn => f.write_str("a message before LOGIN, which needs a password"),
            Violation::RelaysOnly { number } => {
                write!(f, "a message of type {number}, which only the relay sends")
            }
        }
    }
}

/// Which protocol a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolKind {
    Http,
    Pull,
    Push,
    Raw,
    Call,
}

impl ProtocolKind {
    pub const ALL: [ProtocolKind; 5] = [
        ProtocolKind::Http,
        ProtocolKind::Pull,
        ProtocolKind::Push,
        ProtocolKind::Raw,
        ProtocolKind::Call,
    ];

    /// The name in `listener.protocol` and in `/state`.
    pub fn name(self) -> &'static str {
        match self {
            ProtocolKind::Http => "http",
            ProtocolKind::Pull => "pull",
            ProtocolKind::Push => "push",
            ProtocolKind::Raw => "raw",
            ProtocolKind::Call => "call",
        }
    }

    /// The JPEG quality for raw cameras when the listener names none: what the original systems used.
    pub fn default_quality(self) -> u8 {
        match self {
            ProtocolKind::Pull => 50,
            ProtocolKind::Push | ProtocolKind::Raw | ProtocolKind::Http => 80,
            ProtocolKind::Call => 30,
        }
    }
}

/// The protocol state of one connection.
#[derive(Debug)]
pub enum Protocol {
    Pull(pull::Pull),
    /// push and raw.
    Push(push::Framing),
    Http(http::Http),
    Call(Box<call::Connection>),
}

impl Protocol {
    /// `policy` is that of the listener, for http, and `camera` its name, for call.
    pub fn new(kind: ProtocolKind, policy: &Rc<http::Policy>, camera: &call::Name) -> Self {
        match kind {
            ProtocolKind::Pull => Protocol::Pull(pull::Pull::default()),
            ProtocolKind::Push => Protocol::Push(push::Framing::Lengths),
            ProtocolKind::Raw => Protocol::Push(push::Framing::Bare),
            ProtocolKind::Http => Protocol::Http(http::Http::new(Rc::clone(policy))),
            ProtocolKind::Call => Protocol::Call(Box::new(call::Connection::new(camera.clone()))),
        }
    }

    /// The state of a connection that has just been accepted.
    pub fn initial_state(&self) -> State {
        match self {
            Protocol::Pull(_) | Protocol::Http(_) | Protocol::Call(_) => State::Idle,
            Protocol::Push(_) => State::AnnouncePending,
        }
    }

    /// Writes the framing of the next chunk of a picture of `len` bytes into `head` (which is empty) and says what
    /// follows it.
    pub fn next_chunk(&self, meta: &FrameMeta, len: usize, at: Position, head: &mut Head) -> Chunk {
        match self {
            Protocol::Pull(_) => pull::next_chunk(len, at, head),
            Protocol::Push(framing) => push::next_chunk(*framing, len, head),
            Protocol::Http(http) => http.next_chunk(meta, len, head),
            Protocol::Call(call) => call.next_chunk(len, head),
        }
    }
}
