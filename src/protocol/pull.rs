//! pull: request, announcement, acknowledged parts; for clients on slow or lossy links that set the pace themselves.
#![doc = include_str!("pull.md")]
//!
//! # Where this comes from
//! The original server answers a picture's last part without waiting for an `ack`, so that of the last part is optional.
//! Ignored bytes between tokens are for clients that write lines or C strings. A client's error is a [`Violation`].
//!
//! # The session
//!
//! ```text
//!         new_request                     newImage:N
//!  Idle ─────────────▶ AnnouncePending ───────────────▶ Sending: MidChunk ◀──────────────┐
//!   ▲                        ▲                             │ written                     │ ack: the
//!   │ the last part          │ and a request               ▼                             │ next part
//!   └────────────────────────┴── was remembered ─── Sending: AwaitingAck ────────────────┘
//!                                                          │ limits.ack_timeout_s
//!                                                          ▼
//!                                                        closed
//! ```

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::session::*;
use super::setup::Setup;
use crate::limits::PULL_PART;
use crate::picture::frame::{FrameBuf, FrameMeta};

/// What the client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// `new_request`
    NewRequest,
    /// `ack`
    Ack,
}

/// Asks for a picture.
pub const NEW_REQUEST: &[u8] = b"new_request";
/// Asks for a part, or acknowledges the last one.
pub const ACK: &[u8] = b"ack";
/// The announcement's bytes before the size.
pub const NEW_IMAGE: &[u8] = b"newImage:";

/// Finds the first token in `input`. Gives how many bytes are done with (what is ignored, and the token), and the token
/// if there is a whole one; the bytes of a token's beginning stay for the next call.
pub fn next_token(input: &[u8]) -> Result<(usize, Option<Token>), Violation> {
    let skipped = input
        .iter()
        .take_while(|b| matches!(b, b'\r' | b'\n' | b' ' | 0))
        .count();
    let rest = &input[skipped..];
    let Some(&first) = rest.first() else {
        return Ok((skipped, None));
    };
    for (bytes, token) in [(NEW_REQUEST, Token::NewRequest), (ACK, Token::Ack)] {
        if rest.starts_with(bytes) {
            return Ok((skipped + bytes.len(), Some(token)));
        }
        if bytes.starts_with(rest) {
            return Ok((skipped, None));
        }
    }
    Err(Violation::UnknownToken { first })
}

/// What a token leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing is to be done.
    Nothing,
    /// The picture is wanted: to [`State::AnnouncePending`].
    Announce,
    /// The next part is due.
    NextPart,
}

/// The state of a pull connection beyond its slot's.
#[derive(Debug, Default)]
pub struct Pull {
    /// There was a `new_request`.
    asked: bool,
    /// A `new_request` that is being served.
    wanted: bool,
    /// A `new_request` that waits for the picture before it.
    remembered: bool,
    /// The last part's optional `ack` may still come. It matters with a remembered request only: then that `ack` and
    /// the next announcement cross on the wire.
    spare_ack: bool,
}

impl Session for Pull {
    const NAME: &'static str = "pull";
    const QUALITY: u8 = 50;

    fn open(_: &Setup) -> Self {
        Pull::default()
    }

    /// Takes all whole tokens before anything is written in answer to them: an `ack` that came with the one before it
    /// came too early.
    fn hear(
        &mut self,
        mut at: Moment,
        _: Instant,
        input: &mut FrameBuf,
        _: Reply<'_>,
    ) -> Result<Heard, Violation> {
        let mut heard = Heard::Waits;
        loop {
            let (used, token) = next_token(input.as_slice())?;
            input.consume(used);
            let Some(token) = token else {
                return Ok(heard);
            };
            heard = match self.on_token(at, token)? {
                Action::Nothing if heard == Heard::Waits => Heard::Acted,
                Action::Nothing => heard,
                Action::Announce => {
                    (self.asked, self.wanted) = (true, true);
                    at = Moment::AnnouncePending;
                    Heard::Asked
                }
                Action::NextPart => {
                    at = Moment::MidChunk;
                    Heard::NextPart
                }
            };
        }
    }

    fn has_asked(&self) -> bool {
        self.asked
    }

    fn wants(&self) -> Wants {
        if self.wanted {
            Wants::Newest
        } else {
            Wants::Nothing
        }
    }

    fn follows(&self) -> bool {
        true
    }

    fn watches(&self, state: State) -> bool {
        state != State::Idle
    }

    fn sets_the_pace(&self) -> bool {
        true
    }

    /// The announcement.
    fn begin(&mut self, _: &FrameMeta, len: usize, head: &mut Head) -> Chunk {
        head.extend_from_slice(NEW_IMAGE)
            .expect("9 bytes fit into an empty head");
        write!(head, "{len}").expect("20 digits fit behind them");
        Chunk {
            payload: 0,
            tail: b"",
        }
    }

    fn next_part(&mut self, len: usize, sent: usize, _: &mut Head) -> Chunk {
        Chunk {
            payload: (len - sent).min(PULL_PART),
            tail: b"",
        }
    }

    fn sent(&mut self) -> bool {
        self.wanted = self.on_frame_done() == State::AnnouncePending;
        false
    }

    fn patience(&self, at: Moment, patience: Patience) -> Option<Duration> {
        (at == Moment::AwaitingAck).then_some(patience.ack)
    }

    fn late(&mut self, _: Moment, _: &mut FrameBuf, _: Reply<'_>) -> Late {
        Late::Close(CloseReason::AckTimeout)
    }

    /// Without further acks or requests nothing can follow.
    fn ends_at_eof(&self, _: State) -> bool {
        true
    }
}

impl Pull {
    /// What a token means at this moment. An error costs the client its connection.
    pub fn on_token(&mut self, moment: Moment, token: Token) -> Result<Action, Violation> {
        match (token, moment) {
            (Token::NewRequest, Moment::Idle) => Ok(Action::Announce),
            (Token::NewRequest, _) if self.remembered => Err(Violation::TooManyRequests),
            (Token::NewRequest, _) => {
                self.remembered = true;
                Ok(Action::Nothing)
            }
            (Token::Ack, Moment::AwaitingAck) => Ok(Action::NextPart),
            (Token::Ack, Moment::Idle | Moment::AnnouncePending) => {
                self.spare_ack = false;
                Ok(Action::Nothing)
            }
            (Token::Ack, Moment::MidChunk) if self.spare_ack => {
                self.spare_ack = false;
                Ok(Action::Nothing)
            }
            (Token::Ack, Moment::MidChunk) => Err(Violation::EarlyAck),
        }
    }

    /// The last part is written: what the connection's state is now.
    pub fn on_frame_done(&mut self) -> State {
        self.spare_ack = true;
        if std::mem::take(&mut self.remembered) {
            State::AnnouncePending
        } else {
            State::Idle
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(mut input: &[u8]) -> Result<Vec<Token>, Violation> {
        let mut all = Vec::new();
        loop {
            let (used, token) = next_token(input)?;
            input = &input[used..];
            match token {
                Some(token) => all.push(token),
                None => return Ok(all),
            }
        }
    }

    #[test]
    fn tokens_may_run_together_with_white_space_between() {
        use Token::{Ack, NewRequest};
        assert_eq!(tokens(b"new_requestackack"), Ok(vec![NewRequest, Ack, Ack]));
        assert_eq!(
            tokens(b"\r\n new_request\0ack\r\n"),
            Ok(vec![NewRequest, Ack])
        );
        assert_eq!(tokens(b""), Ok(vec![]));
    }

    #[test]
    fn a_split_token_waits_for_its_rest() {
        for token in [NEW_REQUEST, ACK] {
            for cut in 1..token.len() {
                assert_eq!(
                    next_token(&token[..cut]),
                    Ok((0, None)),
                    "{:?}",
                    &token[..cut]
                );
            }
        }
        assert_eq!(
            next_token(b"\nnew_"),
            Ok((1, None)),
            "the white space is done with, the beginning is not"
        );
    }

    #[test]
    fn other_bytes_are_a_violation_at_the_first_that_cannot_be() {
        assert_eq!(
            next_token(b"GET / HTTP/1.1"),
            Err(Violation::UnknownToken { first: b'G' })
        );
        assert_eq!(
            next_token(b"acc"),
            Err(Violation::UnknownToken { first: b'a' })
        );
        assert_eq!(
            next_token(b"new-request"),
            Err(Violation::UnknownToken { first: b'n' })
        );
    }

    #[test]
    fn every_token_at_every_moment() {
        use Moment::*;
        for moment in [AnnouncePending, MidChunk, AwaitingAck] {
            let mut pull = Pull::default();
            assert_eq!(
                pull.on_token(moment, Token::NewRequest),
                Ok(Action::Nothing),
                "{moment:?}: remembered"
            );
            assert_eq!(
                pull.on_token(moment, Token::NewRequest),
                Err(Violation::TooManyRequests),
                "{moment:?}"
            );
            assert_eq!(
                pull.on_frame_done(),
                State::AnnouncePending,
                "{moment:?}: served after the picture"
            );
            assert_eq!(pull.on_frame_done(), State::Idle, "{moment:?}: once");
        }
        let mut pull = Pull::default();
        assert_eq!(pull.on_token(Idle, Token::NewRequest), Ok(Action::Announce));
        assert_eq!(pull.on_token(AwaitingAck, Token::Ack), Ok(Action::NextPart));
        assert_eq!(
            pull.on_token(MidChunk, Token::Ack),
            Err(Violation::EarlyAck)
        );
        assert_eq!(
            pull.on_token(Idle, Token::Ack),
            Ok(Action::Nothing),
            "the last part's"
        );
    }

    #[test]
    fn the_last_parts_ack_may_cross_the_next_announcement() {
        let mut pull = Pull::default();
        assert_eq!(
            pull.on_token(Moment::AwaitingAck, Token::NewRequest),
            Ok(Action::Nothing)
        );
        assert_eq!(pull.on_frame_done(), State::AnnouncePending);
        assert_eq!(
            pull.on_token(Moment::MidChunk, Token::Ack),
            Ok(Action::Nothing),
            "belongs to the picture before"
        );
        assert_eq!(
            pull.on_token(Moment::MidChunk, Token::Ack),
            Err(Violation::EarlyAck),
            "that one does not"
        );
    }

    #[test]
    fn announcement_then_parts_of_1380() {
        let mut pull = Pull::default();
        let mut head = Head::new();
        let meta = FrameMeta::taken(Instant::now(), 64, 48);
        assert_eq!(
            pull.begin(&meta, 3000, &mut head),
            Chunk {
                payload: 0,
                tail: b""
            }
        );
        assert_eq!(head.as_slice(), b"newImage:3000");
        let mut head = Head::new();
        for (sent, part) in [(0, 1380), (1380, 1380), (2760, 240)] {
            assert_eq!(pull.next_part(3000, sent, &mut head).payload, part);
            assert!(head.is_empty());
        }
    }
}
