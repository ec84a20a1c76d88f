//! Pictures from a push server ([`crate::protocol::push`]): another camd, or a program with a camera of its own.

use std::fmt;
use std::os::fd::RawFd;
use std::time::Instant;

use super::dial::Dialer;
use super::interface::{Captured, Fault, Negotiated, Source};
use super::newest::Newest;
use crate::config::Address;
use crate::limits::{CAPTURE_STALL, FIRST_PICTURE};
use crate::picture::frame::Frame;
use crate::protocol::push::{HEADER, parse_header};
use crate::tls::client::Trust;

/// Where the configuration has the server.
const KEY: &str = "camera.address";

/// The original client greets with a line of text, and so does this one, for servers that wait for it. The original's server
/// and camd's do not wait, and drop it or let it lie.
const GREETING: &[u8] = b"hello from camd\n";

/// Bytes read in one `capture` at least. It is what a kernel holds for a connection at most unless told otherwise
/// (tcp_rmem in tcp(7)), so that all there is is taken in, and the last picture of it is the one to be seen; but a server
/// that sends faster than it can be read must not keep the caller for ever.
const AT_ONCE: usize = 6 << 20;

/// The client of a push server.
pub struct Push {
    server: Address,
    dialer: Dialer,
    stage: Stage,
    /// Of which the first `filled` bytes are a header and a picture that have not come whole.
    input: Box<[u8]>,
    filled: usize,
    /// There may be more to read: one call takes in only so much.
    more: bool,
    last_look: Option<Instant>,
    /// The connection is over, but there were pictures at its end: the fault comes with the next look.
    over: Option<Fault>,
    newest: Newest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Off,
    /// The dialer is at it.
    Connecting,
    Connected {
        /// The last byte; before the first one, `None`.
        heard: Option<Instant>,
        /// When there was a good picture; before the first one, the connection.
        pictured: Instant,
        /// There was one.
        live: bool,
    },
}

impl Push {
    /// The same over TLS, with whom to trust; `None`: without.
    pub fn over_tls(mut self, trust: Option<Trust>) -> Self {
        self.dialer = self.dialer.over_tls(trust);
        self
    }

    /// # Panics
    /// If `fps` is 0: the configuration does not allow it.
    pub fn new(server: Address, frame_bytes: usize, fps: u16) -> Push {
        Push {
            dialer: Dialer::new(server.clone(), KEY),
            server,
            stage: Stage::Off,
            input: vec![0; HEADER + frame_bytes].into_boxed_slice(),
            filled: 0,
            more: false,
            last_look: None,
            over: None,
            newest: Newest::new(frame_bytes, fps),
        }
    }

    fn fault(&self, what: impl fmt::Display) -> Fault {
        Fault(format!("{} ({KEY}) {what}", self.server))
    }

    /// When the server has been silent, or without a good picture, for too long.
    fn until(&self) -> Option<Instant> {
        let Stage::Connected {
            heard, pictured, ..
        } = self.stage
        else {
            return None;
        };
        let whole = pictured + FIRST_PICTURE;
        Some(heard.map_or(whole, |heard| whole.min(heard + CAPTURE_STALL)))
    }

    fn late(&self, now: Instant) -> Fault {
        let silent = match self.stage {
            Stage::Connected {
                heard: Some(heard), ..
            } => heard + CAPTURE_STALL <= now,
            _ => true,
        };
        match (silent, self.filled, self.stage) {
            (true, 0, Stage::Connected { live: false, .. }) => {
                self.fault("sends no picture: is it a push server?")
            }
            (true, 0, _) => self.fault("sends no pictures any more"),
            (true, ..) => self.fault("stopped within a picture"),
            (false, ..) => self.fault(format_args!(
                "sends, but no good picture for {} s",
                FIRST_PICTURE.as_secs()
            )),
        }
    }

    /// Takes in what has come. With a fault, all pictures before it are taken in.
    fn receive(&mut self, now: Instant, captured: &mut Captured) -> Result<(), Fault> {
        let mut room = AT_ONCE.max(self.input.len());
        while room > 0 {
            let Some(link) = self.dialer.link() else {
                return Ok(());
            };
            let most = room.min(self.input.len() - self.filled);
            let into = &mut self.input[self.filled..][..most];
            assert!(
                !into.is_empty(),
                "a header that needs more room is an error"
            );
            match link.read(into) {
                Ok(None) => {
                    self.more = false;
                    return Ok(());
                }
                Ok(Some(0)) => {
                    return Err(match self.filled {
                        0 => self.fault("has ended the connection"),
                        _ => self.fault("has ended the connection within a picture"),
                    });
                }
                Ok(Some(n)) => {
                    room -= n;
                    self.filled += n;
                    if let Stage::Connected { heard, .. } = &mut self.stage {
                        *heard = Some(now);
                    }
                    self.take_pictures(now, captured)?;
                }
                Err(error) => return Err(self.fault(format_args!("is lost: {error}"))),
            }
        }
        self.more = true;
        Ok(())
    }

    fn take_pictures(&mut self, now: Instant, captured: &mut Captured) -> Result<(), Fault> {
        let mut at = 0;
        let result = loop {
            let rest = &self.input[at..self.filled];
            let Some(header) = rest.first_chunk::<HEADER>() else {
                break Ok(());
            };
            let Some(length) = parse_header(*header, self.newest.capacity()) else {
                break Err(self.violated(*header));
            };
            let Some(jpeg) = rest[HEADER..].get(..length) else {
                break Ok(());
            };
            if self.newest.take_in(now, jpeg, captured)
                && let Stage::Connected { pictured, live, .. } = &mut self.stage
            {
                (*pictured, *live) = (now, true);
            }
            at += HEADER + length;
        };
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        result
    }

    fn violated(&self, header: [u8; HEADER]) -> Fault {
        // The numbers are right, but for this limit.
        if let Some(length) = parse_header(header, i32::MAX as usize) {
            return self.fault(format_args!(
                "sends a picture of {length} bytes; allowed: {} (limits.frame_bytes)",
                self.newest.capacity()
            ));
        }
        self.fault(format_args!(
            "sends what no push server sends: \"{}\" in place of the same length twice",
            header.escape_ascii()
        ))
    }
}

impl Source for Push {
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault> {
        self.stop();
        self.dialer.start(now)?;
        self.stage = Stage::Connecting;
        Ok(Negotiated::jpegs(format!("pictures of {}", self.server)))
    }

    fn stop(&mut self) {
        self.dialer.stop();
        self.stage = Stage::Off;
        self.filled = 0;
        self.more = false;
        self.over = None;
        self.newest.clear();
    }

    fn fd(&self) -> Option<RawFd> {
        self.dialer.fd()
    }

    fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Off => None,
            Stage::Connecting => self.dialer.deadline(),
            Stage::Connected { .. } if self.more || self.over.is_some() => self.last_look,
            Stage::Connected { .. } => self.until(),
        }
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        self.last_look = Some(now);
        if let Some(fault) = self.over.take() {
            return Err(fault);
        }
        let mut captured = Captured::default();
        let Some(link) = self.dialer.run(now)? else {
            return Ok(captured);
        };
        if self.stage == Stage::Connecting {
            // A new connection has room for it; one that is broken already says so when it is read from.
            let _ = link.write(GREETING);
            self.stage = Stage::Connected {
                heard: None,
                pictured: now,
                live: false,
            };
        }
        match self.receive(now, &mut captured) {
            Ok(()) => {}
            Err(fault) if captured != Captured::default() => self.over = Some(fault),
            Err(fault) => return Err(fault),
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

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
