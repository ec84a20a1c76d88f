//! Connections that camd makes by itself, to other relays, where the camera is a user.

use std::fmt::Write as _;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use log::{debug, warn};

use crate::client::slot::Peer;
use crate::config::Remote;
use crate::daemon::net::Connection;
use crate::limits::{REOPEN_FIRST, REOPEN_MAX};
use crate::source::Fault;
use crate::source::dial::Dialer;
use crate::tls::client::Trust;

/// Makes one connection, and makes it anew with back-off when it has failed or ended.
pub struct Uplink {
    dialer: Dialer,
    stage: Stage,
    backoff: Duration,
    /// Which dialling this is.
    epoch: u64,
    /// The fault that the log has.
    told: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting {
        until: Instant,
    },
    Dialling,
    /// Somebody else has the connection, since then.
    Connected {
        since: Instant,
    },
}

impl Uplink {
    /// One that dials with its first [`Uplink::run`], over TLS if it is said whom to trust.
    pub fn new(remote: Remote, trust: Option<Trust>, now: Instant) -> Self {
        Uplink {
            dialer: Dialer::new(remote, "listener.bind").over_tls(trust),
            stage: Stage::Waiting { until: now },
            backoff: REOPEN_FIRST,
            epoch: 0,
            told: None,
        }
    }

    /// What to poll (readable, edge-triggered) while it dials, and which dialling it is. After registering, [`Uplink::run`]
    /// must be called once.
    pub fn fd(&self) -> Option<(RawFd, u64)> {
        let fd = self.dialer.fd().filter(|_| self.stage == Stage::Dialling);
        fd.map(|fd| (fd, self.epoch))
    }

    /// Somebody else has its connection, or had it.
    pub fn is_connected(&self) -> bool {
        matches!(self.stage, Stage::Connected { .. })
    }

    /// When [`Uplink::run`] has something to do without an event.
    pub fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting { until } => Some(until),
            Stage::Dialling => self.dialer.deadline(),
            Stage::Connected { .. } => None,
        }
    }

    /// Goes on with dialling. Gives the connection, once. `connected`: whether the one given before is still there.
    pub fn run(&mut self, connected: bool, now: Instant) -> Option<(Connection, Peer)> {
        match self.stage {
            Stage::Connected { since } if !connected => {
                // Who lets us in and throws us out again is not to be bothered each second.
                if now.saturating_duration_since(since) > 2 * REOPEN_MAX {
                    self.backoff = REOPEN_FIRST;
                }
                self.wait(now);
            }
            Stage::Waiting { until } if until <= now => {
                self.epoch += 1;
                self.stage = Stage::Dialling;
                if let Err(fault) = self.dialer.start(now) {
                    self.fail(fault, now);
                }
            }
            _ => {}
        }
        if self.stage != Stage::Dialling {
            return None;
        }
        match self.dialer.run(now) {
            Ok(None) => None,
            Ok(Some(_)) => {
                let connection = Connection::of(self.dialer.take()?);
                self.stage = Stage::Connected { since: now };
                self.told = None;
                let mut peer = Peer::new();
                // Cut if too long: it is for people.
                let _ = match connection.peer_addr() {
                    Ok(address) => write!(peer, "{address}"),
                    Err(error) => write!(peer, "{error}"),
                };
                Some((connection, peer))
            }
            Err(fault) => {
                self.fail(fault, now);
                None
            }
        }
    }

    fn fail(&mut self, fault: Fault, now: Instant) {
        self.dialer.stop();
        // Said once, and again only when it changes: a relay that is away for a week must not fill the disk.
        if self.told.as_ref() == Some(&fault) {
            debug!("relay: still {fault}");
        } else {
            warn!(
                "relay: {fault}; trying again every {} to {} s",
                REOPEN_FIRST.as_secs(),
                REOPEN_MAX.as_secs()
            );
            self.told = Some(fault);
        }
        self.wait(now);
    }

    fn wait(&mut self, now: Instant) {
        self.stage = Stage::Waiting {
            until: now + self.backoff,
        };
        self.backoff = (2 * self.backoff).min(REOPEN_MAX);
    }
}
