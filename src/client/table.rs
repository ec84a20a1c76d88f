//! All clients of the process: who is let in, who has something to do, and the end.

use std::time::Instant;

use log::{Level, debug};

use super::arrivals::Arrivals;
use super::link::Stream;
use super::listener::Listener;
use super::places::{self, Asker, Found, Spare};
use super::slot::{Kept, Peer, Slot};
use crate::config::{Config, LimitsConfig};
use crate::limits::{MAX_LISTENERS, PAGE, PLACES, REOPEN_FIRST, REOPEN_MAX, SLOTS};
use crate::measure::times::first;
use crate::protocol::ProtocolKind;
use crate::protocol::session::{CloseReason, NoRoom};
use crate::system::household::{Household, address_of};
use crate::system::logging::peers::Incident;
use crate::system::logging::say_of_peer;

/// Names a connection: an event for one that is gone must not reach the next in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId {
    /// Of its slot.
    pub index: u16,
    /// As in [`Slot::generation`].
    pub generation: u16,
}

/// The slots and the listeners.
///
/// Invariants:
/// - [`PLACES`] slots hold pictures, the others (refusal slots) do not. Which ones they are changes: a place goes from
///   one client to another where these are, so that a client keeps its name.
/// - The number of places that a listener's clients have does not exceed its `clients` when one of them gets its place,
///   but for one [`Kept`] of each kind in the whole table.
/// - All taken slots are below `used`, and the last of these is taken: what is done for each picture looks at no more
///   than that.
pub struct Table<S> {
    slots: Box<[Slot<S>]>,
    used: usize,
    /// Slots to be advanced in this turn.
    marked: [bool; SLOTS],
    arrivals: Arrivals,
    /// In the order of the configuration, by which the slots refer to them.
    pub listeners: heapless::Vec<Listener, MAX_LISTENERS>,
}

impl<S: Stream> Table<S> {
    /// Takes the memory of all slots.
    pub fn new(config: &Config, now: Instant) -> Self {
        let mut listeners = config.listeners.iter();
        let calls = listeners.any(|listener| listener.protocol == ProtocolKind::Call);
        let slot = |index| {
            let refusal = index >= PLACES;
            let frame_bytes = config.limits.frame_bytes;
            let capacity = if refusal { PAGE } else { frame_bytes };
            let slot = Slot::new(capacity, refusal, now);
            if calls {
                slot.for_messages(frame_bytes)
            } else {
                slot
            }
        };
        Table {
            slots: (0..SLOTS).map(slot).collect(),
            used: 0,
            marked: [false; SLOTS],
            arrivals: Arrivals::default(),
            listeners: config.listeners.iter().map(Listener::new).collect(),
        }
    }

    /// The slots below which all taken ones are.
    pub fn used(&self) -> usize {
        self.used
    }

    /// One of the slots, taken or free.
    pub fn slot(&self, index: usize) -> &Slot<S> {
        &self.slots[index]
    }

    /// As [`Table::slot`], to be changed.
    pub fn slot_mut(&mut self, index: usize) -> &mut Slot<S> {
        &mut self.slots[index]
    }

    /// A slot and its listener.
    pub fn with_listener(&mut self, index: usize) -> (&mut Slot<S>, &mut Listener) {
        let slot = &mut self.slots[index];
        let listener = &mut self.listeners[slot.listener];
        (slot, listener)
    }

    /// Two slots.
    ///
    /// # Panics
    /// If they are the same.
    pub fn two(&mut self, a: usize, b: usize) -> [&mut Slot<S>; 2] {
        let two = self.slots.get_disjoint_mut([a, b]);
        two.expect("two slots of the table")
    }

    /// Takes over a changed configuration, in which the listeners are the same.
    pub fn reconfigure(&mut self, config: &Config) {
        assert_eq!(
            self.listeners.len(),
            config.listeners.len(),
            "listeners are opened at start"
        );
        for (listener, config) in self.listeners.iter_mut().zip(&config.listeners) {
            listener.reconfigure(config);
        }
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_free()) {
            slot.subscription
                .reconfigure(self.listeners[slot.listener].goal.is_some());
        }
    }

    /// The taken slots.
    pub fn clients(&self) -> impl Iterator<Item = (ClientId, &Slot<S>)> + Clone {
        self.slots[..self.used]
            .iter()
            .enumerate()
            .filter(|(_, slot)| !slot.is_free())
            .map(|(index, slot)| (id(index, slot), slot))
    }

    /// The slot of a connection; `None` if that is gone.
    pub fn find(&mut self, client: ClientId) -> Option<&mut Slot<S>> {
        let slot = self.slots.get_mut(usize::from(client.index))?;
        (slot.generation == client.generation && !slot.is_free()).then_some(slot)
    }

    /// Connections of a listener that hold a picture slot.
    pub fn connected(&self, listener: usize) -> usize {
        self.clients()
            .filter(|(_, slot)| !slot.refusal && slot.listener == listener)
            .count()
    }

    /// Connections of a listener that have none.
    pub fn standing(&self, listener: usize) -> usize {
        self.clients()
            .filter(|(_, slot)| slot.refusal && slot.listener == listener)
            .count()
    }

    /// Pictures sent whole to all clients of a listener.
    pub fn frames_sent(&self, listener: usize) -> u64 {
        self.listeners[listener].past_frames
            + self.sum(listener, |slot| slot.subscription.stats.frames)
    }

    /// Pictures of the camera between those that the clients of a listener took.
    pub fn frames_skipped(&self, listener: usize) -> u64 {
        self.listeners[listener].past_skipped
            + self.sum(listener, |slot| slot.subscription.stats.skipped)
    }

    /// Bytes of all that the clients of a listener were sent.
    pub fn bytes_sent(&self, listener: usize) -> u64 {
        self.listeners[listener].past_bytes + self.sum(listener, Slot::bytes)
    }

    fn sum(&self, listener: usize, of: impl Fn(&Slot<S>) -> u64) -> u64 {
        let clients = self.clients().map(|(_, slot)| slot);
        let its = clients.filter(|slot| slot.listener == listener);
        its.map(of).sum()
    }

    /// The rung of a client's pictures; `None` if they are not adapted to its link.
    pub fn rung(&self, slot: &Slot<S>) -> Option<u8> {
        let goal = self.listeners[slot.listener].goal.as_ref();
        goal.filter(|_| slot.is_adaptable())
            .map(|goal| slot.subscription.rung(goal))
    }

    /// Takes a new connection in: as a client with a place or, if there is none, as one that stands until it asks for one.
    /// Gives it back where its protocol does not let it stand, and where its address makes too many.
    pub fn admit(
        &mut self,
        mut stream: S,
        peer: Peer,
        listener: usize,
        now: Instant,
    ) -> Result<usize, S> {
        let ip = address_of(&peer);
        let address = Household::sharing(ip);
        let info = &mut self.listeners[listener];
        if !info.is_user() && !self.arrivals.allows(address, now) {
            info.reset(&peer);
            stream.abandon();
            return Err(stream);
        }
        let mut session = info.session();
        session.meet(ip);
        let asker = Asker {
            listener,
            address,
            is_user: false,
            asks: false,
        };
        // Who could stand loses nothing by coming second.
        let found = match self.place_for(&asker, now, |_| false) {
            found @ Found::Free(..) => found,
            _ if session.can_stand() => Found::Free(self.standing_room(now), None),
            found => found,
        };
        let (index, kept) = match found {
            Found::Free(index, kept) => (index, kept),
            Found::Of(index) => {
                self.note_given_way(index);
                self.close(index, CloseReason::GaveWay);
                (index, None)
            }
            Found::Nothing(why) => {
                self.listeners[listener].refuse(&peer, why);
                return Err(stream);
            }
        };
        let info = &self.listeners[listener];
        debug!("{}: {peer} connected", info.address);
        // Where there are several behind it, each of them has a pace of its own.
        let max_fps = info.config.max_fps.filter(|_| !info.is_user());
        let slot = &mut self.slots[index];
        if slot.refusal {
            session.stand();
        }
        slot.open(stream, peer, listener, session, max_fps, now);
        slot.kept = kept;
        self.marked[index] = true;
        self.used = self.used.max(index + 1);
        Ok(index)
    }

    /// See [`places::find`].
    pub fn place_for(&self, asker: &Asker, now: Instant, in_call: impl Fn(usize) -> bool) -> Found {
        places::find(&self.slots, &self.listeners, asker, now, in_call)
    }

    /// A free slot for one that stands. If there is none, another one goes.
    fn standing_room(&mut self, now: Instant) -> usize {
        let mut slots = self.slots.iter();
        let free = slots.position(|slot| slot.is_free() && slot.refusal);
        free.unwrap_or_else(|| {
            let last = places::last_standing(&self.slots, now);
            let last = last.expect("there are slots for those that stand");
            self.send_off(last);
            last
        })
    }

    /// The process has no descriptors left: closes a client that it can do without, if there is one.
    pub fn shed(&mut self, now: Instant) -> Spare {
        let spare = places::spare(&self.slots, now);
        if let Spare::Now(index) = spare {
            self.send_off(index);
        }
        spare
    }

    fn send_off(&mut self, index: usize) {
        let (slot, listener) = self.with_listener(index);
        if !slot.is_closing() {
            listener.refuse(&slot.peer, NoRoom::Full);
        }
        self.close(index, CloseReason::GaveWay);
    }

    /// The client in `index`, which stands, gets what makes `from` a place: that is free, or its client stands from now on.
    pub fn seat(&mut self, index: usize, from: usize, kept: Option<Kept>) {
        if !self.slots[from].is_free() {
            self.note_given_way(from);
        }
        let [from, to] = self.two(from, index);
        from.hand_over(to);
        to.kept = to.kept.or(kept);
        to.with_session(|session| session.seat());
        self.marked[index] = true;
    }

    /// The client in `index` has asked for a place in vain.
    ///
    /// # Panics
    /// If its protocol has no words for that: only those stand that have.
    pub fn turn_away(&mut self, index: usize, why: NoRoom) {
        let (slot, listener) = self.with_listener(index);
        listener.refuse(&slot.peer, why);
        assert!(slot.turn_away(why), "it stood without words for this");
        self.marked[index] = true;
    }

    fn note_given_way(&mut self, index: usize) {
        let (slot, listener) = self.with_listener(index);
        listener.give_way(&slot.peer);
        debug!("{}: {} gives way", listener.address, slot.peer);
    }

    /// Places beyond a listener's `clients` are kept ones. When it has fewer again, its clients have them like any others,
    /// but for those whose address would have more than its share then.
    fn settle_kept(&mut self, listener: usize) {
        let config = &self.listeners[listener].config;
        let (clients, share) = (config.clients, config.share());
        let mut beyond = self.connected(listener).saturating_sub(clients);
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.listener != listener || slot.kept.is_none() {
                continue;
            }
            let places = self.clients().map(|(_, slot)| slot);
            let places = places.filter(|it| !it.refusal && it.listener == listener);
            let own = places.filter(|it| it.origin == slot.origin).count();
            if beyond > 0 {
                beyond -= 1;
            } else if slot.origin.is_here() || own <= share {
                self.slots[index].kept = None;
            }
        }
    }

    /// The name of the connection in a slot.
    pub fn id(&self, index: usize) -> ClientId {
        id(index, &self.slots[index])
    }

    /// A readiness event for a client; one for a client that is gone is nothing.
    pub fn on_event(&mut self, client: ClientId, readable: bool, writable: bool) {
        if let Some(slot) = self.find(client) {
            slot.mark(readable, writable);
            self.marked[usize::from(client.index)] = true;
        }
    }

    /// The slot is to be advanced in this turn, or in the next if its place in this one is over.
    pub fn mark(&mut self, index: usize) {
        self.marked[index] = true;
    }

    /// The camera has a new picture: marks all who wait for one.
    pub fn on_frame(&mut self) {
        let slots = &mut self.slots[..self.used];
        for (slot, marked) in slots.iter_mut().zip(&mut self.marked) {
            *marked |= slot.on_frame();
        }
    }

    /// Marks all who wait for a picture.
    pub fn mark_waiting(&mut self) {
        let slots = &self.slots[..self.used];
        for (slot, marked) in slots.iter().zip(&mut self.marked) {
            *marked |= slot.wants_frame();
        }
    }

    /// Whether the slot has something to do: it is marked, which this ends, or a deadline has passed.
    pub fn is_due(&mut self, index: usize, now: Instant, limits: &LimitsConfig) -> bool {
        let slot = &self.slots[index];
        std::mem::take(&mut self.marked[index])
            || slot
                .deadline(limits)
                .is_some_and(|deadline| deadline <= now)
    }

    /// Whether some slots are to be advanced.
    pub fn is_any_marked(&self) -> bool {
        self.marked[..self.used].contains(&true)
    }

    /// When a client will be late.
    pub fn deadline(&self, limits: &LimitsConfig) -> Option<Instant> {
        let slots = self.slots[..self.used].iter();
        slots.fold(None, |at, slot| first(at, slot.deadline(limits)))
    }

    /// Ends a connection, and says so in the log.
    pub fn close(&mut self, index: usize, reason: CloseReason) {
        let (slot, listener) = self.with_listener(index);
        listener.past_frames += slot.subscription.stats.frames;
        listener.past_skipped += slot.subscription.stats.skipped;
        listener.past_bytes += slot.bytes();
        // The peer did not take in time what it was to get.
        let is_given_up = matches!(
            reason,
            CloseReason::WriteTimeout | CloseReason::AckTimeout | CloseReason::Overflow
        );
        match &reason {
            CloseReason::Violation(_) if !listener.is_user() => {
                listener.violations += 1;
                say_of_peer(
                    Level::Warn,
                    Incident::Violation,
                    &slot.peer,
                    format_args!("{}: {} closed: {reason}", listener.address, slot.peer),
                );
            }
            CloseReason::Shutdown => debug!("{}: {} closed", listener.address, slot.peer),
            // Said once, and again only when it changes: it is tried for ever.
            _ if listener.is_user() && listener.ended.as_ref() == Some(&reason) => {
                debug!("{}: {} again: {reason}", listener.address, slot.peer);
            }
            _ if listener.is_user() => {
                say_of_peer(
                    Level::Warn,
                    Incident::Relay,
                    &slot.peer,
                    format_args!(
                        "{}: {} has ended: {reason}; trying again every {} to {} s",
                        listener.address,
                        slot.peer,
                        REOPEN_FIRST.as_secs(),
                        REOPEN_MAX.as_secs()
                    ),
                );
            }
            _ if is_given_up => {
                listener.given_up += 1;
                say_of_peer(
                    Level::Info,
                    Incident::GivenUp,
                    &slot.peer,
                    format_args!("{}: {} closed: {reason}", listener.address, slot.peer),
                );
            }
            _ => debug!("{}: {} closed: {reason}", listener.address, slot.peer),
        }
        if is_given_up && let Some(stream) = slot.stream() {
            stream.abandon();
        }
        if listener.is_user() {
            listener.ended = Some(reason);
        }
        let of = slot.listener;
        slot.close();
        self.settle_kept(of);
        let free = self.slots[..self.used].iter().rev();
        self.used -= free.take_while(|slot| slot.is_free()).count();
    }
}

fn id<S: Stream>(index: usize, slot: &Slot<S>) -> ClientId {
    let index = u16::try_from(index).expect("limits asserts that slot indices fit");
    ClientId {
        index,
        generation: slot.generation,
    }
}
