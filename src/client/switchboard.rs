//! Who is there on the call listeners, and who is in a call with whom.
//!
//! Each call listener is a relay of its own: its users, one of whom is the camera, see each other and nobody else. Users
//! are known by the slots of their connections. The switchboard decides where a record goes ([`Route`]) and what else
//! happens because of it ([`Effect`]); it sees no record and no socket.
//!
//! # What becomes of a call
//!
//! | while | comes | outcome |
//! |---|---|---|
//! | nothing | REQUEST | forwarded: it rings, for [`RINGING`] at most |
//! | nothing | ACCEPT | answered with END: what it accepts is over |
//! | it rings | the caller's REQUEST | forwarded once more, but not too often; the time runs on |
//! | it rings | ACCEPT of the one rung up | forwarded: a call |
//! | it rings | REQUEST of the one rung up (glare) | a call: each gets the other's ACCEPT, and nobody this REQUEST |
//! | it rings | ACCEPT of the caller | dropped |
//! | it rings | nothing for [`RINGING`] | END to both, each with the other as its sender |
//! | a call | REQUEST | answered with ACCEPT: the call goes on |
//! | a call | ACCEPT | dropped: it is one already |
//! | it rings, or a call | END, REJECT | forwarded, and it is over |
//! | nothing | END, REJECT | dropped: they would be about somebody else's calls |
//! | anything | one of the two is gone | END to the other, with the name of who is gone as its sender |
//!
//! Who rings up somebody who is not there gets UNAVAILABLE, who rings up himself REJECT, and so does who has
//! [`CALLS_PLACED`] calls already, who rings more than [`RINGS`] times at once and then once in [`RING_EVERY`], and who rings
//! up somebody for whom it rings [`RINGS_AT`] times already.
//!
//! The camera answers a REQUEST with ACCEPT at once, or, if it is in as many calls as it may, with REJECT. Everything else
//! but END and REJECT means nothing to it.

use std::time::Instant;

use heapless::index_map::FnvIndexMap;

use crate::config::{ListenerConfig, UserConfig};
use crate::limits::{
    CALLS_PLACED, MAX_CLIENTS, MAX_LISTENERS, MAX_USERS, RING_EVERY, RINGING, RINGS, RINGS_AT,
    USERS,
};
use crate::measure::bucket::Buckets;
use crate::protocol::ProtocolKind;
use crate::protocol::call::{Kind, Name};
use crate::protocol::name::Looks;

/// What who rings up the camera is told if it is in as many calls as it may.
pub const BUSY: &str = "in too many calls";

/// The slot of a connection.
pub type Client = u16;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct User {
    listener: u8,
    name: Name,
}

/// Who is rung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Another user.
    Client(Client),
    /// That of the caller's listener.
    Camera,
}

/// A user of a relay that calls another one, and shows what that one sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who has rung up, and is shown the pictures.
    pub caller: Client,
    /// Who was rung up, and shows them.
    pub callee: Party,
    /// It rings, until then.
    pub ringing: Option<Instant>,
}

impl Call {
    fn is_of(&self, client: Client) -> bool {
        self.caller == client || self.callee == Party::Client(client)
    }

    /// The side that is not `client`'s.
    fn other(&self, client: Client) -> Party {
        if self.caller == client {
            self.callee
        } else {
            Party::Client(self.caller)
        }
    }
}

/// What happens because of a record, an end or a time that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// A record goes to this client, from `sender`.
    Tell {
        /// The client that is told.
        to: Client,
        /// In whose name.
        sender: &'a Name,
        /// What happens.
        kind: Kind,
        /// Why, for a person; empty where the kind says all.
        reason: &'static str,
    },
    /// Whether a client gets the camera's pictures has changed.
    Watch {
        /// The client.
        client: Client,
        /// It gets them from now on.
        on: bool,
    },
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// On to this client.
    Forward(Client),
    /// It has been dealt with.
    Nowhere,
}

/// Why a name cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// By this client, or it looks like that one's.
    By(Client),
    /// It is the camera's, or looks like it.
    ByCamera,
    /// It belongs to a user of the configuration, or looks like that.
    ByUser,
}

/// A listener's camera.
struct Camera {
    name: Name,
    /// At the same time, at most.
    calls: usize,
}

/// The users and calls of all call listeners.
///
/// Invariant: both sides of each call are users of the same listener; nobody is the caller of more than
/// [`CALLS_PLACED`] calls, and there is one call between two at most.
pub struct Switchboard {
    users: FnvIndexMap<User, Client, USERS>,
    /// What their names look like.
    looks: FnvIndexMap<(u8, Looks), Client, USERS>,
    /// Those of the configuration.
    kept: heapless::Vec<Looks, MAX_USERS>,
    /// How often each of them has rung others of late.
    rings: Buckets<Client, MAX_CLIENTS>,
    calls: heapless::Vec<Call, { MAX_CLIENTS * CALLS_PLACED }>,
    /// For each listener, if it is one for calls.
    cameras: heapless::Vec<Option<Camera>, MAX_LISTENERS>,
}

impl Switchboard {
    /// # Panics
    /// If there are more than [`MAX_LISTENERS`]: the configuration is checked for that.
    pub fn new(listeners: &[ListenerConfig], users: &[UserConfig]) -> Self {
        let camera = |listener: &ListenerConfig| {
            (listener.protocol == ProtocolKind::Call).then(|| Camera {
                name: listener.user.clone(),
                calls: listener.calls,
            })
        };
        Switchboard {
            users: FnvIndexMap::new(),
            looks: FnvIndexMap::new(),
            kept: kept(users),
            rings: Buckets::new(RINGS, RING_EVERY),
            calls: heapless::Vec::new(),
            cameras: listeners.iter().map(camera).collect(),
        }
    }

    /// Takes over how many calls the cameras may have. Those that there are go on.
    pub fn reconfigure(&mut self, listeners: &[ListenerConfig], users: &[UserConfig]) {
        self.kept = kept(users);
        for (camera, listener) in self.cameras.iter_mut().zip(listeners) {
            if let Some(camera) = camera {
                camera.calls = listener.calls;
            }
        }
    }

    fn camera(&self, listener: u8) -> &Camera {
        let camera = self.cameras[usize::from(listener)].as_ref();
        camera.expect("only clients of call listeners are users")
    }

    fn user(&self, client: Client) -> Option<&User> {
        let mut users = self.users.iter();
        users.find(|(_, of)| **of == client).map(|(user, _)| user)
    }

    /// The name of the user at a connection; `None` before it has logged in.
    pub fn name(&self, client: Client) -> Option<&Name> {
        self.user(client).map(|user| &user.name)
    }

    /// All calls, those that ring among them.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// How many of them are this client's.
    pub fn calls_of(&self, client: Client) -> usize {
        self.calls.iter().filter(|call| call.is_of(client)).count()
    }

    /// Takes a user in. `is_user`: has logged in as one of the configuration, and may have that name.
    pub fn log_in(
        &mut self,
        listener: u8,
        client: Client,
        name: &Name,
        is_user: bool,
    ) -> Result<(), Taken> {
        let looks = name.looks();
        if self.camera(listener).name.looks() == looks {
            return Err(Taken::ByCamera);
        }
        if let Some(holder) = self.looks.get(&(listener, looks)) {
            return Err(Taken::By(*holder));
        }
        if !is_user && self.kept.contains(&looks) {
            return Err(Taken::ByUser);
        }
        let user = User {
            listener,
            name: name.clone(),
        };
        assert!(self.user(client).is_none(), "{client} has a name already");
        let added = self.users.insert(user, client);
        assert!(added.is_ok(), "there is room for all clients");
        let added = self.looks.insert((listener, looks), client);
        assert!(added.is_ok(), "there is room for all clients");
        Ok(())
    }

    /// Where a record of this kind goes from `client` to `receiver`, but for VIDEO_DATA.
    ///
    /// # Panics
    /// If `client` is no user.
    pub fn route(
        &mut self,
        client: Client,
        receiver: &Name,
        kind: Kind,
        now: Instant,
        mut effect: impl FnMut(Effect<'_>),
    ) -> Route {
        let user = self.user(client).expect("only users send").clone();
        let tell = |to, sender, kind, reason| Effect::Tell {
            to,
            sender,
            kind,
            reason,
        };
        if *receiver == self.camera(user.listener).name {
            self.ring_camera(&user, client, kind, effect);
            return Route::Nowhere;
        }
        let found = User {
            listener: user.listener,
            name: receiver.clone(),
        };
        let Some(&to) = self.users.get(&found) else {
            match kind {
                Kind::End | Kind::Reject => {}
                Kind::Accept => effect(tell(client, receiver, Kind::End, "")),
                _ => effect(tell(client, receiver, Kind::Unavailable, "not logged in")),
            }
            return Route::Nowhere;
        };
        let index = self.between(client, to);
        let call = index.map(|index| self.calls[index]);
        match (kind, call) {
            (Kind::Request, _) if to == client => {
                effect(tell(client, receiver, Kind::Reject, "this is yourself"));
            }
            (Kind::Request, None) if self.placed(client) == CALLS_PLACED => {
                effect(tell(client, receiver, Kind::Reject, "too many calls"));
            }
            (Kind::Request, None) if self.rung(to) == RINGS_AT => {
                effect(tell(client, receiver, Kind::Reject, "rung up by others"));
            }
            (Kind::Request, None) if !self.rings.take(client, now) => {
                effect(tell(client, receiver, Kind::Reject, "rings too often"));
            }
            (Kind::Request, None) => {
                self.add(Call {
                    caller: client,
                    callee: Party::Client(to),
                    ringing: Some(now + RINGING),
                });
                return Route::Forward(to);
            }
            (Kind::Request, Some(call)) if call.ringing.is_some() && call.caller == client => {
                if self.rings.take(client, now) {
                    return Route::Forward(to);
                }
            }
            (Kind::Request, Some(call)) => {
                effect(tell(client, receiver, Kind::Accept, ""));
                if call.ringing.is_some() {
                    effect(tell(to, &user.name, Kind::Accept, ""));
                    self.connect(index);
                }
            }
            (Kind::Accept, None) => effect(tell(client, receiver, Kind::End, "")),
            (Kind::Accept, Some(call)) if call.ringing.is_some() && call.caller != client => {
                self.connect(index);
                return Route::Forward(to);
            }
            (Kind::Accept, Some(_)) => {}
            // Nobody hangs up, or declines, what is none of his.
            (Kind::End | Kind::Reject, None) => {}
            (Kind::End | Kind::Reject, Some(_)) => {
                self.calls.swap_remove(index.expect("there is a call"));
                return Route::Forward(to);
            }
            _ => return Route::Forward(to),
        }
        Route::Nowhere
    }

    fn ring_camera(
        &mut self,
        user: &User,
        client: Client,
        kind: Kind,
        mut effect: impl FnMut(Effect<'_>),
    ) {
        let of_camera = |call: &Call| call.caller == client && call.callee == Party::Camera;
        let index = self.calls.iter().position(of_camera);
        match (kind, index) {
            (Kind::Request, _) => {
                let camera = self.camera(user.listener);
                let in_call = |call: &&Call| {
                    call.callee == Party::Camera && self.is_on(call.caller, user.listener)
                };
                let busy = self.calls.iter().filter(in_call).count() >= camera.calls
                    || self.placed(client) == CALLS_PLACED;
                let (kind, reason) = match index {
                    None if busy => (Kind::Reject, BUSY),
                    _ => (Kind::Accept, ""),
                };
                effect(Effect::Tell {
                    to: client,
                    sender: &camera.name,
                    kind,
                    reason,
                });
                if index.is_none() && !busy {
                    effect(Effect::Watch { client, on: true });
                    self.add(Call {
                        caller: client,
                        callee: Party::Camera,
                        ringing: None,
                    });
                }
            }
            (Kind::End | Kind::Reject, Some(index)) => {
                self.calls.swap_remove(index);
                effect(Effect::Watch { client, on: false });
            }
            _ => {}
        }
    }

    /// Where a picture goes from `client` to `receiver`: to somebody with whom it is in a call.
    pub fn picture(&self, client: Client, receiver: &Name) -> Option<Client> {
        let user = User {
            listener: self.user(client)?.listener,
            name: receiver.clone(),
        };
        let to = *self.users.get(&user)?;
        let index = self.between(client, to)?;
        self.calls[index].ringing.is_none().then_some(to)
    }

    /// The connection has ended.
    pub fn leave(&mut self, client: Client, mut effect: impl FnMut(Effect<'_>)) {
        let Some(user) = self.user(client).cloned() else {
            return;
        };
        self.calls.retain(|call| {
            if call.is_of(client)
                && let Party::Client(other) = call.other(client)
            {
                effect(Effect::Tell {
                    to: other,
                    sender: &user.name,
                    kind: Kind::End,
                    reason: "",
                });
            }
            !call.is_of(client)
        });
        self.users.remove(&user);
        self.looks.remove(&(user.listener, user.name.looks()));
        self.rings.forget(client);
    }

    /// When [`Switchboard::expire`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.calls.iter().filter_map(|call| call.ringing).min()
    }

    /// Ends what has rung for too long.
    pub fn expire(&mut self, now: Instant, mut effect: impl FnMut(Effect<'_>)) {
        let is_over = |call: &Call| call.ringing.is_some_and(|until| until <= now);
        while let Some(index) = self.calls.iter().position(is_over) {
            let call = self.calls.swap_remove(index);
            let Party::Client(callee) = call.callee else {
                unreachable!("the camera never lets it ring")
            };
            for (to, other) in [(call.caller, callee), (callee, call.caller)] {
                effect(Effect::Tell {
                    to,
                    sender: self.name(other).expect("both sides are users"),
                    kind: Kind::End,
                    reason: "",
                });
            }
        }
    }

    fn is_on(&self, client: Client, listener: u8) -> bool {
        self.user(client)
            .is_some_and(|user| user.listener == listener)
    }

    fn between(&self, a: Client, b: Client) -> Option<usize> {
        let is_it = |call: &Call| {
            (call.caller, call.callee) == (a, Party::Client(b))
                || (call.caller, call.callee) == (b, Party::Client(a))
        };
        self.calls.iter().position(is_it)
    }

    fn placed(&self, client: Client) -> usize {
        let calls = self.calls.iter();
        calls.filter(|call| call.caller == client).count()
    }

    /// By how many this client is rung up now.
    fn rung(&self, client: Client) -> usize {
        let is_it = |call: &&Call| call.callee == Party::Client(client) && call.ringing.is_some();
        self.calls.iter().filter(is_it).count()
    }

    fn add(&mut self, call: Call) {
        self.calls
            .push(call)
            .expect("nobody has more than CALLS_PLACED");
    }

    fn connect(&mut self, index: Option<usize>) {
        self.calls[index.expect("it rings")].ringing = None;
    }
}

fn kept(users: &[UserConfig]) -> heapless::Vec<Looks, MAX_USERS> {
    users.iter().map(|user| user.name.looks()).collect()
}

#[cfg(test)]
#[path = "switchboard_tests.rs"]
mod tests;
