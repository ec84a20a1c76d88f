//! The wire protocols: pure state machines without socket, clock, allocation or log.
//!
//! | protocol | a client asks | it gets |
//! |---|---|---|
//! | [`pull`] | for each picture, and for each part of it | `newImage:<size>`, then parts of at most 1380 bytes |
//! | [`push`] | nothing | every picture behind two int32 lengths |
//! | [`raw`] | nothing | every picture and nothing else |
//! | [`http`] | by GET | a multipart stream, single pictures, state pages; with the client's half of that, [`http::answer`] |
//! | [`call`] | by ringing up the camera, or each other | messages of other users, and pictures among them |
//!
//! To a [slot](crate::client::slot::Slot) each of them is a [`session::Session`]. A new protocol is a file here, which
//! implements that, and a line in the list of `protocols!` below. [`raw`] is the shortest example.

pub mod call;
pub mod head_cache;
pub mod http;
pub mod name;
pub mod network;
pub mod pull;
pub mod push;
pub mod raw;
pub mod session;
pub mod setup;
pub mod user;

use std::net::IpAddr;
use std::time::{Duration, Instant};

pub use session::{Chunk, Head, State, Violation};

use crate::picture::chain::Unit;
use crate::picture::frame::{FrameBuf, FrameMeta};
use name::Name;
use session::{Form, Heard, Late, Moment, NoRoom, Patience, Reply, Session, Wants, Wish};
use setup::Setup;

/// Makes the two enums of the list, and hands each call on to the session at hand.
macro_rules! protocols {
    ($($variant:ident: $session:ty,)+) => {
        /// Which protocol a listener speaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProtocolKind {
            $(
                #[doc = concat!("Its sessions are [`", stringify!($session), "`].")]
                $variant,
            )+
        }

        impl ProtocolKind {
            /// All of them, in the order of the list.
            pub const ALL: [ProtocolKind; [$(ProtocolKind::$variant),+].len()] =
                [$(ProtocolKind::$variant),+];

            /// See [`Session::NAME`].
            pub fn name(self) -> &'static str {
                match self {
                    $(ProtocolKind::$variant => <$session>::NAME,)+
                }
            }

            /// See [`Session::QUALITY`].
            pub fn default_quality(self) -> u8 {
                match self {
                    $(ProtocolKind::$variant => <$session>::QUALITY,)+
                }
            }
        }

        /// The session of one connection.
        #[derive(Debug)]
        #[allow(clippy::large_enum_variant, reason = "every slot has room for all of them")]
        pub enum Protocol {
            $(
                #[doc = concat!("As [`ProtocolKind::", stringify!($variant), "`].")]
                $variant($session),
            )+
        }

        impl Protocol {
            /// The session of a connection that has just been made.
            pub fn new(kind: ProtocolKind, setup: &Setup) -> Self {
                match kind {
                    $(ProtocolKind::$variant => Protocol::$variant(<$session>::open(setup)),)+
                }
            }
        }

        /// Evaluates the expression for the session in a [`Protocol`].
        macro_rules! each {
            ($protocol:expr, $it:ident => $do:expr) => {
                match $protocol {
                    $(Protocol::$variant($it) => $do,)+
                }
            };
        }
    };
}

protocols! {
    Http: http::Http,
    Pull: pull::Pull,
    Push: push::Push,
    Raw: raw::Raw,
    Call: call::Connection,
}

/// As in [`Session`], whose methods these are.
impl Protocol {
    /// See [`Session::turn_away`].
    pub fn turn_away(&mut self, why: NoRoom, outbox: &mut FrameBuf) -> bool {
        each!(self, session => session.turn_away(why, outbox))
    }

    /// See [`Session::can_stand`].
    pub fn can_stand(&self) -> bool {
        each!(self, session => session.can_stand())
    }

    /// See [`Session::stand`].
    pub fn stand(&mut self) {
        each!(self, session => session.stand())
    }

    /// See [`Session::seat`].
    pub fn seat(&mut self) {
        each!(self, session => session.seat())
    }

    /// See [`Session::has_asked`].
    pub fn has_asked(&self) -> bool {
        each!(self, session => session.has_asked())
    }

    /// See [`Session::input_limit`].
    pub fn input_limit(&self) -> usize {
        each!(self, session => session.input_limit())
    }

    /// See [`Session::hear`].
    pub fn hear(
        &mut self,
        at: Moment,
        now: Instant,
        input: &mut FrameBuf,
        reply: Reply<'_>,
    ) -> Result<Heard, Violation> {
        each!(self, session => session.hear(at, now, input, reply))
    }

    /// See [`Session::paused`].
    pub fn paused(&self) -> Option<Instant> {
        each!(self, session => session.paused())
    }

    /// See [`Session::wants`].
    pub fn wants(&self) -> Wants {
        each!(self, session => session.wants())
    }

    /// See [`Session::follows`].
    pub fn follows(&self) -> bool {
        each!(self, session => session.follows())
    }

    /// See [`Session::watches`].
    pub fn watches(&self, state: State) -> bool {
        each!(self, session => session.watches(state))
    }

    /// See [`Session::wish`].
    pub fn wish(&self) -> Wish {
        each!(self, session => session.wish())
    }

    /// See [`Session::sets_the_pace`].
    pub fn sets_the_pace(&self) -> bool {
        each!(self, session => session.sets_the_pace())
    }

    /// See [`Session::form`].
    pub fn form(&self) -> Form {
        each!(self, session => session.form())
    }

    /// See [`Session::news`].
    pub fn news(&self, meta: &FrameMeta) -> Option<bool> {
        each!(self, session => session.news(meta))
    }

    /// See [`Session::begin`].
    pub fn begin(&mut self, meta: &FrameMeta, len: usize, head: &mut Head) -> Chunk {
        each!(self, session => session.begin(meta, len, head))
    }

    /// See [`Session::begin_unit`].
    pub fn begin_unit(&mut self, unit: &Unit<'_>, head: &mut Head) -> Option<Chunk> {
        each!(self, session => session.begin_unit(unit, head))
    }

    /// See [`Session::no_picture`].
    pub fn no_picture(&mut self, why: &str, reply: Reply<'_>) {
        each!(self, session => session.no_picture(why, reply))
    }

    /// See [`Session::whole`].
    pub fn whole(&self, len: usize) -> usize {
        each!(self, session => session.whole(len))
    }

    /// See [`Session::began`].
    pub fn began(&mut self, meta: &FrameMeta) {
        each!(self, session => session.began(meta))
    }

    /// See [`Session::next_part`].
    pub fn next_part(&mut self, len: usize, sent: usize, head: &mut Head) -> Chunk {
        each!(self, session => session.next_part(len, sent, head))
    }

    /// See [`Session::sent`].
    pub fn sent(&mut self) -> bool {
        each!(self, session => session.sent())
    }

    /// See [`Session::patience`].
    pub fn patience(&self, at: Moment, patience: Patience) -> Option<Duration> {
        each!(self, session => session.patience(at, patience))
    }

    /// See [`Session::late`].
    pub fn late(&mut self, at: Moment, input: &mut FrameBuf, reply: Reply<'_>) -> Late {
        each!(self, session => session.late(at, input, reply))
    }

    /// See [`Session::ends_at_eof`].
    pub fn ends_at_eof(&self, state: State) -> bool {
        each!(self, session => session.ends_at_eof(state))
    }

    /// See [`Session::user`].
    pub fn user(&self) -> Option<&Name> {
        each!(self, session => session.user())
    }

    /// See [`Session::is_logged_in`].
    pub fn is_logged_in(&self) -> bool {
        each!(self, session => session.is_logged_in())
    }

    /// See [`Session::meet`].
    pub fn meet(&mut self, from: Option<IpAddr>) {
        each!(self, session => session.meet(from));
    }
}
