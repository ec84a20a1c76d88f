//! What a protocol is to the slot of its client: one interface, and the words that the two share.
//!
//! A [`Session`] is the state of one connection beyond its slot's. It has neither socket nor clock nor picture: it is
//! told what came in and what went out, and says what that means. The slot does the rest in the same way for all: it
//! reads and writes, freezes its copy of a picture, watches the time and ends.
//!
//! ```text
//!                     hear: Asked, or wants() from the start
//!            ┌────────┐ ─────────────────────▶ ┌─────────────────┐
//!   open ──▶ │  Idle  │                        │ AnnouncePending │ ◀─┐ the socket takes nothing:
//!            └────────┘ ◀───────────────────── └─────────────────┘ ──┘ a newer picture may come
//!               │   ▲      wants() no more              │
//!         hear: │   │                                   │ a picture: begin, began
//!         Reply │   │ sent, and wants() nothing         ▼
//!               │   └──────────────────────── ┌─────────────────┐ ──┐ hear: NextPart
//!               └───────────────────────────▶ │     Sending     │   │ (pull)
//!                                             └─────────────────┘ ◀─┘
//! ```
//!
//! From `Sending` a session that still wants pictures goes to `AnnouncePending` instead. Each file beside this one draws
//! what its own protocol adds to that.
//!
//! # The order of calls
//! 1. [`Session::open`], and [`Session::stand`] where there is no place for it. When it asks for one,
//!    [`Session::seat`] or [`Session::turn_away`] is the answer.
//! 2. [`Session::hear`] whenever there may be input to take in. It is asked again until it says [`Heard::Waits`].
//! 3. Where [`Session::wants`] something and the socket has room, a picture that is news ([`Session::news`]) is framed by
//!    [`Session::begin`] ([`Session::begin_unit`] where it wants [`Wants::Chain`]). If the socket has taken a first byte of it, [`Session::began`] follows and the picture is frozen;
//!    if not, [`Session::begin`] is called again with a newer one.
//! 4. [`Session::sent`] when the last byte of a picture or of a reply is out.
//! 5. [`Session::late`] when the time of [`Session::patience`] is over.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::name::Name;
use super::setup::Setup;
use crate::limits::{HEAD, INPUT, LOGIN_WAIT};
use crate::picture::chain::Unit;
use crate::picture::frame::{FrameBuf, FrameMeta};

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

/// Where a slot stands when input arrives: its [`State`], and within `Sending` whether the peer has all that was written
/// so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// No picture is wanted.
    Idle,
    /// A picture is wanted, and none is announced yet.
    AnnouncePending,
    /// Something of what is being sent is still to be written.
    MidChunk,
    /// A chunk is written whole, and more is to follow when the peer says so.
    AwaitingAck,
}

/// What a session would take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// No picture.
    Nothing,
    /// The newest picture, once there is one that it has not had; the card that says that there is none is one, too.
    Newest,
    /// A picture of the camera, one that it has had included.
    Live,
    /// The next picture of those that lean on one another (H.264).
    Chain,
}

/// What a client wants less of than its listener gives. `None`: as the listener has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The largest width in pixels.
    pub width: Option<u16>,
    /// The largest height in pixels.
    pub height: Option<u16>,
    /// JPEG quality at most.
    pub quality: Option<u8>,
    /// Of a stream: pictures per second at most.
    pub max_fps: Option<u16>,
}

impl Wish {
    /// It is about what pictures are like, not how many there are.
    pub fn is_of_the_picture(&self) -> bool {
        self.width.is_some() || self.height.is_some() || self.quality.is_some()
    }
}

/// In which form it takes pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The JPEG as it is.
    Jpeg,
    /// A JPEG in Base64, in UTF-16BE.
    Text,
    /// H.264 as a stream of bytes (Annex B), where it wants [`Wants::Chain`].
    Stream,
}

/// What goes out in one piece, without a word from the client in between: the head that was filled along with this,
/// `payload` further bytes of the picture, then `tail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes of the picture or of the reply.
    pub payload: usize,
    /// Framing behind them.
    pub tail: &'static [u8],
}

/// What [`Session::hear`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing can be taken in before there is more input, or what is being sent is through.
    Waits,
    /// Something was taken in. There may be more.
    Acted,
    /// As `Acted`, and the wait for a picture begins.
    Asked,
    /// As `Acted`, and the next part of the frozen picture is due: [`Session::next_part`].
    NextPart,
    /// A session that stands ([`Session::stand`]) wants what takes a place. Its input is as it was: it hears that again
    /// when it has one, or was turned away.
    WantsPlace,
    /// A reply was written, and goes out.
    Reply,
    /// It is up to those who see more than this connection to act: the pages, and the calls.
    Refers,
}

/// Where a session writes its reply: framing, and what follows it.
pub struct Reply<'a> {
    /// Goes out in front of `body`. Empty whenever a reply may be written.
    pub head: &'a mut Head,
    /// Empty. What does not fit is cut; pages are at most [`crate::limits::PAGE`].
    pub body: &'a mut FrameBuf,
}

/// Why a client finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// Its listener has `clients` already.
    Full,
    /// Its address has `clients_per_address` already.
    Share,
}

/// How long the configuration lets a peer be silent.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// `limits.ack_timeout_s`
    pub ack: Duration,
    /// `limits.head_timeout_s`
    pub head: Duration,
}

/// What follows from a peer's silence.
#[derive(Debug)]
pub enum Late {
    /// The connection ends.
    Close(CloseReason),
    /// A reply was written, and goes out.
    Reply,
    /// It may be silent.
    Stays,
}

/// What a protocol is to a slot. What a session leaves out is as in the simplest protocol: the client gets one picture
/// after another unasked, and what it sends is read and dropped.
pub trait Session: Sized {
    /// The name in `listener.protocol` and in `/state`.
    const NAME: &'static str;

    /// The JPEG quality for raw cameras when the listener names none: what the original systems used.
    const QUALITY: u8;

    /// The state of a connection that has just been made.
    fn open(setup: &Setup) -> Self;

    /// Whether it can go on without a place, until it asks for something that takes one.
    fn can_stand(&self) -> bool {
        false
    }

    /// There is no place for this client, or another one gets it: it goes on without. Only where it can.
    fn stand(&mut self) {
        unreachable!("it cannot go on without a place")
    }

    /// It has a place, after all.
    fn seat(&mut self) {
        unreachable!("it had one from the start")
    }

    /// There is no room for this client. False: the protocol has no words for that, and the connection is closed without.
    /// Otherwise the client is told, by a record behind what is in `outbox` or in reply to its request, and the connection
    /// ends then.
    fn turn_away(&mut self, why: NoRoom, outbox: &mut FrameBuf) -> bool {
        let _ = (why, outbox);
        false
    }

    /// It has asked for something that takes a place, and was let have it. Where there is no room, the places of those
    /// that have not are the first to go.
    fn has_asked(&self) -> bool {
        true
    }

    /// How much unread input is of use to it, in bytes; what is above that stays in the kernel.
    fn input_limit(&self) -> usize {
        INPUT
    }

    /// Takes in what it can of `input`, and takes that away from its beginning.
    fn hear(
        &mut self,
        at: Moment,
        now: Instant,
        input: &mut FrameBuf,
        reply: Reply<'_>,
    ) -> Result<Heard, Violation> {
        let _ = (at, now, reply);
        input.clear();
        Ok(Heard::Waits)
    }

    /// Until then no input is taken in: the client has sent more than it may.
    fn paused(&self) -> Option<Instant> {
        None
    }

    /// What it would take now. By default the newest picture, from the start.
    fn wants(&self) -> Wants {
        Wants::Newest
    }

    /// It goes on from picture to picture, so that these can be adapted to the link.
    fn follows(&self) -> bool {
        true
    }

    /// The camera must run for it.
    fn watches(&self, state: State) -> bool {
        let _ = state;
        true
    }

    /// How the pictures of the current request are to differ from the listener's own.
    fn wish(&self) -> Wish {
        Wish::default()
    }

    /// The client asks for each picture when it likes, so that its own pauses say nothing about the link.
    fn sets_the_pace(&self) -> bool {
        false
    }

    /// In which form it takes pictures.
    fn form(&self) -> Form {
        Form::Jpeg
    }

    /// Whether this picture is news to it. `None`: it is if it is newer than the last one, and due by the listener's
    /// `max_fps`.
    fn news(&self, meta: &FrameMeta) -> Option<bool> {
        let _ = meta;
        None
    }

    /// Writes the framing of the first chunk of a picture of `len` bytes into `head`, which is empty, and says what
    /// follows it.
    fn begin(&mut self, meta: &FrameMeta, len: usize, head: &mut Head) -> Chunk;

    /// As [`Session::begin`], of a picture of those that lean on one another, where it wants [`Wants::Chain`]. `None`: it can
    /// be sent none of these any more, and the connection ends.
    fn begin_unit(&mut self, unit: &Unit<'_>, head: &mut Head) -> Option<Chunk> {
        let _ = head;
        unreachable!("it did not want picture {}", unit.meta.sequence)
    }

    /// The live picture that it waits for will not come. Writes what the client is told.
    fn no_picture(&mut self, why: &str, reply: Reply<'_>) {
        let _ = reply;
        unreachable!("it does not want a live picture, and takes the card that says: {why}")
    }

    /// How much of a picture of `len` bytes goes out in all.
    fn whole(&self, len: usize) -> usize {
        len
    }

    /// The picture framed last is on its way.
    fn began(&mut self, meta: &FrameMeta) {
        let _ = meta;
    }

    /// The chunk behind those that have taken `sent` of the picture's `len` bytes along. `head` is empty.
    fn next_part(&mut self, len: usize, sent: usize, head: &mut Head) -> Chunk {
        let _ = head;
        unreachable!("all {len} bytes are in one chunk, and {sent} of them are out")
    }

    /// The last byte of a picture or of a reply is written. True: nothing follows, and the connection ends.
    fn sent(&mut self) -> bool {
        false
    }

    /// How long the peer may be silent while the slot stands there; `None`: for ever.
    fn patience(&self, at: Moment, patience: Patience) -> Option<Duration> {
        let _ = (at, patience);
        None
    }

    /// That time is over. `input`: what has come of something that is not whole yet.
    fn late(&mut self, at: Moment, input: &mut FrameBuf, reply: Reply<'_>) -> Late {
        let _ = (at, input, reply);
        Late::Stays
    }

    /// The peer will send no more. True: it is through, and gets nothing any more.
    fn ends_at_eof(&self, state: State) -> bool {
        let _ = state;
        false
    }

    /// The user at the other end, once that is known.
    fn user(&self) -> Option<&Name> {
        None
    }

    /// Its client has shown a password or a token that lets it in. Where none is needed, nobody has.
    fn is_logged_in(&self) -> bool {
        false
    }

    /// The address from which its client has connected, in its canonical form; `None`: from this machine, by a Unix socket.
    fn meet(&mut self, from: Option<IpAddr>) {
        let _ = from;
    }
}

/// As [`CloseReason::NoFilm`] says it.
pub const NO_FILM: &str = "the camera gives no H.264";

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed it, or our reply was the last.
    Done,
    /// The peer reset it, or it broke.
    Io(ErrorKind),
    /// The peer broke the protocol.
    Violation(Violation),
    /// Nothing taken for `limits.write_timeout_s`.
    WriteTimeout,
    /// pull: no `ack` for `limits.ack_timeout_s`.
    AckTimeout,
    /// http: no request for `limits.head_timeout_s`.
    HeadTimeout,
    /// call: no name for [`LOGIN_WAIT`].
    LoginTimeout,
    /// Its queue of messages is full.
    Overflow,
    /// The camera gives nothing that it could be sent, and its protocol has no words for that.
    NoFilm,
    /// There was no room, and another client had more of a claim to its place.
    GaveWay,
    /// call: a relay does not let camd in; says why.
    Refused(String),
    /// The user with whose login it came is none any more.
    LoggedOut,
    /// camd ends.
    Shutdown,
}

impl From<io::Error> for CloseReason {
    fn from(error: io::Error) -> Self {
        CloseReason::Io(error.kind())
    }
}

impl From<Violation> for CloseReason {
    fn from(violation: Violation) -> Self {
        CloseReason::Violation(violation)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Done => f.write_str("done"),
            CloseReason::Io(kind) => write!(f, "{kind}"),
            CloseReason::Violation(violation) => {
                write!(f, "violation of the protocol: {violation}")
            }
            CloseReason::WriteTimeout => f.write_str("took no byte for write_timeout_s"),
            CloseReason::AckTimeout => f.write_str("sent no ack for ack_timeout_s"),
            CloseReason::HeadTimeout => f.write_str("sent no request for head_timeout_s"),
            CloseReason::LoginTimeout => {
                write!(f, "did not log in for {} s", LOGIN_WAIT.as_secs())
            }
            CloseReason::Refused(why) => write!(f, "login refused: {why}"),
            CloseReason::Overflow => f.write_str("did not take the messages for it in time"),
            CloseReason::LoggedOut => f.write_str("the configuration lets it in no more"),
            CloseReason::NoFilm => f.write_str(NO_FILM),
            CloseReason::GaveWay => f.write_str("gave way to another client"),
            CloseReason::Shutdown => f.write_str("camd ends"),
        }
    }
}

/// A peer broke the protocol. It costs that peer its connection, and one line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// pull: bytes that begin neither `new_request` nor `ack`.
    UnknownToken {
        /// The first of them.
        first: u8,
    },
    /// pull: a third `new_request` while one is being served and one is remembered.
    TooManyRequests,
    /// pull: `ack` for a part that is not written yet.
    EarlyAck,
    /// call: a text of UTF-16 has an even number of bytes.
    OddText {
        /// How many this one has.
        bytes: usize,
    },
    /// call: a user's name of more than [`crate::limits::USER_NAME`] UTF-16 units.
    LongName {
        /// Its length in UTF-16.
        bytes: usize,
    },
    /// call: a record that is longer than there is room for.
    LongRecord,
    /// call: a name that is empty, no text, or has control characters.
    BadName,
    /// call: a record whose sender is somebody else.
    ForeignSender,
    /// call: something else before LOGIN, where a password is needed.
    NotLoggedIn,
    /// call: a type that only the relay sends.
    RelaysOnly {
        /// That type, as it stands in the record.
        number: i32,
    },
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
