//! A listener, as far as its clients are concerned.

use std::net::SocketAddr;
use std::rc::Rc;

use log::{Level, info, warn};

use super::adapt::Goal;
use super::slot::Peer;
use crate::config::{Bind, ListenerConfig};
use crate::encode::renditions::{Profile, Rendition};
use crate::limits::CONNECTS_PER_SECOND;
use crate::picture::frame::Frame;
use crate::protocol::session::{CloseReason, NO_FILM, NoRoom};
use crate::protocol::setup::{Policy, Setup};
use crate::protocol::user::Access;
use crate::protocol::{Protocol, ProtocolKind};
use crate::system::logging::peers::Incident;
use crate::system::logging::say_of_peer;
use crate::system::names::own_names;

/// A listener as far as its clients are concerned.
#[derive(Debug)]
pub struct Listener {
    /// Its keys.
    pub config: ListenerConfig,
    /// Where it really listens: with port 0 the system picks one.
    pub address: String,
    /// SHA-256 of its certificate; `None`: nothing is encrypted there.
    pub fingerprint: Option<String>,
    /// What its clients get.
    pub profile: Profile,
    /// If its clients get what their link can carry.
    pub goal: Option<Goal>,
    setup: Setup,
    /// Connections that found no slot.
    pub refused: u64,
    /// Of these, those whose address had its share already.
    pub refused_share: u64,
    /// Connections that were reset unheard: their address made too many in a short time.
    pub too_fast: u64,
    /// Clients whose place another one got.
    pub gave_way: u64,
    /// Connections that broke the protocol.
    pub violations: u64,
    /// Connections whose peer did not take in time what it was to get.
    pub given_up: u64,
    /// Logins that were refused.
    pub not_let_in: u64,
    /// Connections from where none may come.
    pub not_allowed: u64,
    /// Pictures that were sent whole over connections that have ended.
    pub past_frames: u64,
    /// As `past_frames`: pictures of the camera between those that clients took, and bytes sent.
    pub past_skipped: u64,
    /// See `past_skipped`.
    pub past_bytes: u64,
    /// Why the last connection that camd has made ended.
    pub ended: Option<CloseReason>,
    /// That its pictures get no time stamp was said in the log.
    told_unstamped: bool,
    /// That there is no H.264 for its clients was said in the log.
    told_no_film: bool,
}

impl Listener {
    /// A listener without clients, and without address yet.
    pub fn new(config: &ListenerConfig) -> Self {
        let profile = Profile::of(config);
        Listener {
            config: config.clone(),
            address: String::new(),
            fingerprint: None,
            profile,
            goal: goal(config, &profile),
            setup: setup(config, ""),
            refused: 0,
            refused_share: 0,
            too_fast: 0,
            gave_way: 0,
            violations: 0,
            given_up: 0,
            not_let_in: 0,
            not_allowed: 0,
            past_frames: 0,
            past_skipped: 0,
            past_bytes: 0,
            ended: None,
            told_unstamped: false,
            told_no_film: false,
        }
    }

    /// Takes over a changed configuration. Connections keep the sessions with which they came.
    pub fn reconfigure(&mut self, config: &ListenerConfig) {
        self.config = config.clone();
        self.profile = Profile::of(config);
        self.goal = goal(config, &self.profile);
        self.setup = setup(config, &self.address);
        (self.told_unstamped, self.told_no_film) = (false, false);
    }

    /// Where it really listens, once that is known.
    pub fn set_address(&mut self, address: String) {
        self.setup = setup(&self.config, &address);
        self.address = address;
    }

    /// What its requests may do.
    pub fn policy(&self) -> &Rc<Policy> {
        &self.setup.policy
    }

    /// Whether strangers see the camera here, and nobody has to show anything.
    pub fn is_exposed(&self) -> bool {
        self.config.is_open() && !self.setup.policy.is_local
    }

    /// Counts a client from where none may connect, and says so.
    pub fn turn_off(&mut self, peer: &Peer) {
        self.not_allowed += 1;
        let address = &self.address;
        say_of_peer(
            Level::Info,
            Incident::NotAllowed,
            peer,
            format_args!("{address}: {peer} is not in allow, and not let in"),
        );
    }

    /// Counts a login that was none, and says so.
    pub fn deny(&mut self, peer: &Peer) {
        self.not_let_in += 1;
        let address = &self.address;
        say_of_peer(
            Level::Info,
            Incident::NotLetIn,
            peer,
            format_args!("{address}: wrong password or token from {peer}"),
        );
    }

    /// Whether its clients, on whichever rung, can get this.
    pub fn wants(&self, rendition: &Rendition) -> bool {
        Profile::all(&self.config).any(|profile| rendition.is_for(profile))
    }

    /// Says once where pictures go out without the time stamp that the configuration asks for.
    pub fn tell_unstamped(&mut self, frame: &Frame<'_>, profile: Profile) {
        if !self.told_unstamped && frame.meta.live && profile.leaves_untouched(frame) {
            self.told_unstamped = true;
            info!(
                "{}: the camera's own JPEGs are passed on untouched, without a time stamp; set this listener's quality to have it",
                self.address
            );
        }
    }

    /// Says once that there is nothing for its clients.
    pub fn tell_no_film(&mut self) {
        if !std::mem::replace(&mut self.told_no_film, true) {
            warn!(
                "{}: {NO_FILM}: its clients are sent away; set camera.format = \"h264\", or this listener's codec = \"jpeg\"",
                self.address
            );
        }
    }

    /// Counts a client that found no slot, and says so.
    pub fn refuse(&mut self, peer: &Peer, why: NoRoom) {
        self.refused += 1;
        let (limit, what) = match why {
            NoRoom::Full => (self.config.clients, "clients at most"),
            NoRoom::Share => {
                self.refused_share += 1;
                (self.config.share(), "clients of one address at most")
            }
        };
        let address = &self.address;
        say_of_peer(
            Level::Warn,
            Incident::NoPlace,
            peer,
            format_args!("{address}: no slot for {peer}: {limit} {what}"),
        );
    }

    /// Counts a connection that is reset because its address makes so many, and says so.
    pub fn reset(&mut self, peer: &Peer) {
        self.too_fast += 1;
        let address = &self.address;
        say_of_peer(
            Level::Warn,
            Incident::Reset,
            peer,
            format_args!(
                "{address}: {peer} reset: more than {CONNECTS_PER_SECOND} connections a second from this address"
            ),
        );
    }

    /// Counts a client that gives way to another one, and says so.
    pub fn give_way(&mut self, peer: &Peer) {
        self.gave_way += 1;
        let address = &self.address;
        say_of_peer(
            Level::Info,
            Incident::GaveWay,
            peer,
            format_args!(
                "{address}: the place of {peer}, which wants nothing now, is another client's"
            ),
        );
    }

    /// It does not listen: its one connection is one that camd has made, to somebody else's relay.
    pub fn is_user(&self) -> bool {
        self.setup.to_relay
    }

    /// The session of a new connection.
    pub fn session(&self) -> Protocol {
        Protocol::new(self.config.protocol, &self.setup)
    }
}

fn goal(listener: &ListenerConfig, profile: &Profile) -> Option<Goal> {
    listener.adaptive.then(|| Goal {
        ladder: profile.ladder(),
        min_fps: listener.min_fps,
    })
}

/// Whether only this machine can connect.
fn is_local(listener: &ListenerConfig, address: &str) -> bool {
    // A supervisor may have opened another socket than the configuration has.
    match (address.parse::<SocketAddr>(), &listener.bind) {
        (Ok(address), _) => address.ip().to_canonical().is_loopback(),
        _ if address.starts_with("unix:") => true,
        (_, Bind::Tcp(address)) => address.ip().to_canonical().is_loopback(),
        (_, Bind::Unix(_) | Bind::Relay(_)) => true,
    }
}

fn setup(listener: &ListenerConfig, address: &str) -> Setup {
    let is_local = is_local(listener, address);
    let names = match listener.protocol {
        ProtocolKind::Http => listener.hosts.iter().cloned().chain(own_names()).collect(),
        _ => Vec::new(),
    };
    Setup {
        policy: Rc::new(Policy {
            access: listener.access,
            is_local,
            names,
            trusted_proxies: listener.trusted_proxies.clone(),
            embed: listener.embed,
            allow_origin: listener.allow_origin.clone(),
            // Nobody is known there, and everybody may come.
            set_controls: listener.set_controls && (listener.access == Access::Users || is_local),
            base_path: listener.base_path.trim_matches('/').to_owned(),
        }),
        heads: Rc::default(),
        user: Rc::new(listener.user.clone()),
        film: listener.is_for_h264(),
        to_relay: matches!(listener.bind, Bind::Relay(_)),
    }
}
