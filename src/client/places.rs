//! Who gets a place, and who gives way where there is none.
//!
//! A listener has as many places as its `clients`, and one address as many of these as its `clients_per_address`. Beyond
//! these two are kept in the whole process, and never taken by others: one for a user who has logged in, one for a
//! program on this machine, on a listener where there is no other such program.
//!
//! A client that finds no place stands, where its protocol lets it, and asks for one with its request or its login.
//! Where there is none then, it gets that of another client of the listener, in this order:
//! 1. of those that have never asked for anything: whose address has the most places, the oldest first;
//! 2. of those that want nothing now, in the same order, but no user's for a stranger's sake. If such a client loses
//!    its connection with its place (pull, a user in no call), it has been idle for [`IDLE_GRACE`], or its address has
//!    more places than the other one will have.
//!
//! Nobody who watches, or is in a call, gives way. A client whose address has its share already gets the place of
//! another client of that address only.

use std::time::Instant;

use super::link::Stream;
use super::listener::Listener;
use super::slot::{Kept, Slot};
use crate::limits::{FIRST_WORD, IDLE_GRACE};
use crate::protocol::session::NoRoom;
use crate::system::household::Household;

/// A client without a place, as far as that matters for getting one.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Where it has connected.
    pub listener: usize,
    /// From where.
    pub address: Household,
    /// It has logged in.
    pub is_user: bool,
    /// It asks for what takes a place. If not, it has only connected.
    pub asks: bool,
}

/// What there is for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A free slot; with whom it is kept for, if it is beyond the listener's `clients`.
    Free(usize, Option<Kept>),
    /// The place of the client in this slot.
    Of(usize),
    /// Nothing.
    Nothing(NoRoom),
}

/// Finds a place among all slots. `in_call`: which of them are in calls with each other.
pub fn find<S: Stream>(
    slots: &[Slot<S>],
    listeners: &[Listener],
    asker: &Asker,
    now: Instant,
    in_call: impl Fn(usize) -> bool,
) -> Found {
    let listener = &listeners[asker.listener];
    let of_listener = |slot: &&Slot<S>| is_place(slot) && slot.listener == asker.listener;
    let taken = || slots.iter().filter(of_listener);
    let crowd = |address: Household| taken().filter(|slot| slot.origin == address).count();
    let own = crowd(asker.address);
    let is_local = asker.address.is_here();
    let has_share = !is_local && own >= listener.config.share();
    let free = slots
        .iter()
        .position(|slot| slot.is_free() && !slot.refusal);
    if let Some(free) = free {
        if !has_share && taken().count() < listener.config.clients {
            return Found::Free(free, None);
        }
        let is_kept = |kept| !slots.iter().any(|slot| slot.kept == Some(kept));
        if asker.is_user && is_kept(Kept::User) {
            return Found::Free(free, Some(Kept::User));
        }
        if is_local && own == 0 && is_kept(Kept::Local) {
            return Found::Free(free, Some(Kept::Local));
        }
    }
    let gives_way = |slot: &Slot<S>| {
        let session = slot.session().expect("it is taken");
        if has_share && slot.origin != asker.address {
            return false;
        }
        // Or a stranger would have a place beyond `clients`, and those for whom it is kept none.
        let is_kept_from = match slot.kept {
            Some(Kept::User) => !asker.is_user,
            Some(Kept::Local) => !is_local,
            None => false,
        };
        if is_kept_from {
            return false;
        }
        if !session.has_asked() {
            return asker.asks || now.saturating_duration_since(slot.came) >= FIRST_WORD;
        }
        if session.is_logged_in() && !asker.is_user {
            return false;
        }
        session.can_stand()
            || asker.is_user && !session.is_logged_in()
            || now.saturating_duration_since(slot.idle_since()) >= IDLE_GRACE
            || crowd(slot.origin) >= own + 2
    };
    let others = slots.iter().enumerate().filter(|(index, slot)| {
        of_listener(slot) && !slot.is_engaged() && !in_call(*index) && gives_way(slot)
    });
    let first = others.max_by_key(|(_, slot)| {
        let has_asked = slot.session().is_some_and(|session| session.has_asked());
        let since = if has_asked {
            slot.idle_since()
        } else {
            slot.came
        };
        let age = now.saturating_duration_since(since);
        (!has_asked, slot.is_closing(), crowd(slot.origin), age)
    });
    match first {
        Some((index, _)) => Found::Of(index),
        None if has_share => Found::Nothing(NoRoom::Share),
        None => Found::Nothing(NoRoom::Full),
    }
}

/// Of those that stand, which one goes first where even that takes too much room: no program on this machine if there are
/// others; of the address with the most; that has had its last words, or else has said nothing; the oldest.
pub fn last_standing<S: Stream>(slots: &[Slot<S>], now: Instant) -> Option<usize> {
    let standing = || slots.iter().filter(|slot| slot.refusal && !slot.is_free());
    let crowd = |address: Household| standing().filter(|slot| slot.origin == address).count();
    let all = slots.iter().enumerate();
    let all = all.filter(|(_, slot)| slot.refusal && !slot.is_free());
    let last = all.max_by_key(|(_, slot)| {
        let is_silent = !slot.is_engaged();
        let age = now.saturating_duration_since(slot.came);
        (
            !slot.origin.is_here(),
            crowd(slot.origin),
            slot.is_closing(),
            is_silent,
            age,
        )
    });
    last.map(|(index, _)| index)
}

/// Whom the process can do without where it has no descriptors left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spare {
    /// The client in this slot.
    Now(usize),
    /// Clients that have come just now, and shall be heard before.
    Soon,
    /// All clients have asked for something.
    Nobody,
}

/// See [`Spare`]. Of those that stand, the one that would go first anyway; then one with a place that has never asked for
/// anything.
pub fn spare<S: Stream>(slots: &[Slot<S>], now: Instant) -> Spare {
    match last_standing(slots, now).or_else(|| silent(slots, now)) {
        Some(index) if slots[index].came < now => Spare::Now(index),
        Some(_) => Spare::Soon,
        None => Spare::Nobody,
    }
}

fn silent<S: Stream>(slots: &[Slot<S>], now: Instant) -> Option<usize> {
    let silent = |slot: &Slot<S>| {
        let has_asked = slot.session().is_none_or(|session| session.has_asked());
        is_place(slot) && !has_asked && !slot.is_engaged()
    };
    let all = slots.iter().enumerate().filter(|(_, slot)| silent(slot));
    let last = all.max_by_key(|(_, slot)| {
        let age = now.saturating_duration_since(slot.came);
        (!slot.origin.is_here(), age)
    });
    last.map(|(index, _)| index)
}

fn is_place<S: Stream>(slot: &Slot<S>) -> bool {
    !slot.refusal && !slot.is_free()
}
