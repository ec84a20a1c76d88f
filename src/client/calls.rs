//! What the records of call clients lead to: who is let in, who hears what, and who sees whom.

use std::rc::Rc;
use std::time::Instant;

use log::{Level, debug, info};

use super::door::{Answer, Door, Plain, Shown};
use super::link::Stream;
use super::places::{Asker, Found};
use super::slot::Slot;
use super::switchboard::{BUSY, Client, Effect, Route, Switchboard, Taken};
use super::table::Table;
use super::texts::Texts;
use crate::config::{Config, ListenerConfig, Secret};
use crate::encode::renditions::Profile;
use crate::limits::{PASSWORD, USER_NAME};
use crate::picture::frame::FrameMeta;
use crate::protocol::Protocol;
use crate::protocol::call::{self, Connection, Kind, Name, note};
use crate::protocol::session::{CloseReason, NoRoom, Violation};
use crate::protocol::user::{Access, User, Verdict};
use crate::system::household::Household;
use crate::system::logging::peers::Incident;
use crate::system::logging::say_of_peer;

/// The longest LOGIN.
const LOGIN_RECORD: usize = 3 * 4 + 2 * (USER_NAME + PASSWORD) + 4;

/// The switchboard, and the pictures as its users get them.
pub struct Calls {
    switchboard: Switchboard,
    texts: Texts,
}

impl Calls {
    /// Takes all memory that calls will need.
    pub fn new(config: &Config) -> Self {
        Calls {
            switchboard: Switchboard::new(&config.listeners, &config.users),
            texts: Texts::new(config),
        }
    }

    /// Takes over a changed configuration. Calls go on.
    pub fn reconfigure(&mut self, config: &Config) {
        self.switchboard
            .reconfigure(&config.listeners, &config.users);
        self.texts = Texts::new(config);
    }

    /// The users, and their calls.
    pub fn switchboard(&self) -> &Switchboard {
        &self.switchboard
    }

    /// See [`Texts::of`].
    pub fn text(&mut self, profile: Profile, meta: &FrameMeta, jpeg: &[u8]) -> Option<&[u8]> {
        self.texts.of(profile, meta, jpeg)
    }

    /// When [`Calls::expire`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.switchboard.deadline()
    }

    /// Ends what has rung for too long.
    pub fn expire<S: Stream>(&mut self, table: &mut Table<S>, now: Instant) {
        self.switchboard.expire(now, |effect| happen(table, effect));
    }

    /// Ends a client's connection, and with that its calls.
    pub fn close<S: Stream>(&mut self, table: &mut Table<S>, index: usize, reason: CloseReason) {
        self.switchboard
            .leave(client(index), |effect| happen(table, effect));
        table.close(index, reason);
    }

    /// The client in a slot, which has none, asks for a place. If there is none for it, it is told so.
    pub fn seat<S: Stream>(&mut self, table: &mut Table<S>, index: usize, now: Instant) -> bool {
        let is_user = table
            .slot(index)
            .session()
            .is_some_and(Protocol::is_logged_in);
        self.seat_as(table, index, is_user, now)
    }

    fn seat_as<S: Stream>(
        &mut self,
        table: &mut Table<S>,
        index: usize,
        is_user: bool,
        now: Instant,
    ) -> bool {
        let slot = table.slot(index);
        if slot.is_sending() {
            // It has not even read the last answer.
            table.turn_away(index, NoRoom::Full);
            return false;
        }
        let asker = Asker {
            listener: slot.listener,
            address: slot.origin,
            is_user,
            asks: true,
        };
        let in_call = |index| self.switchboard.calls_of(client(index)) > 0;
        match table.place_for(&asker, now, in_call) {
            Found::Free(place, kept) => table.seat(index, place, kept),
            Found::Of(other) => {
                table.seat(index, other, None);
                self.unseat(table, other);
            }
            Found::Nothing(why) => {
                table.turn_away(index, why);
                return false;
            }
        }
        true
    }

    /// A client has just lost its place.
    fn unseat<S: Stream>(&mut self, table: &mut Table<S>, index: usize) {
        let slot = table.slot_mut(index);
        if slot.session().is_some_and(Protocol::can_stand) {
            return slot.with_session(Protocol::stand);
        }
        self.switchboard
            .leave(client(index), |effect| happen(table, effect));
        if table.slot_mut(index).turn_away(NoRoom::Full) {
            table.mark(index);
        } else {
            table.close(index, CloseReason::GaveWay);
        }
    }

    /// camd has connected to a relay, where it is a user.
    pub fn log_in_at_relay<S: Stream>(&self, table: &mut Table<S>, index: usize) {
        let (slot, listener) = table.with_listener(index);
        let password = listener.config.password.as_ref();
        let password = password.map_or("", Secret::expose);
        let mut login = heapless::Vec::<u8, LOGIN_RECORD>::new();
        let user = listener.config.user.as_str();
        call::write(&mut login, user, "", password, Kind::Login);
        slot.tell(&login);
    }

    /// Acts on the record that a slot's session has referred, and takes it away, unless the door still looks at it.
    pub fn act<S: Stream>(
        &mut self,
        table: &mut Table<S>,
        door: &mut Door,
        index: usize,
        now: Instant,
    ) -> Result<(), CloseReason> {
        let (slot, listener) = table.with_listener(index);
        let used = Connection::record(slot.input()).bytes.len();
        if listener.is_user() {
            act_as_user(table, index)?;
        } else {
            self.act_as_relay(table, door, index, now)?;
        }
        let slot = table.slot_mut(index);
        if !connection(slot, |call| call.is_looked_at()) {
            slot.consume(used);
        }
        Ok(())
    }

    fn act_as_relay<S: Stream>(
        &mut self,
        table: &mut Table<S>,
        door: &mut Door,
        index: usize,
        now: Instant,
    ) -> Result<(), CloseReason> {
        let (slot, listener) = table.with_listener(index);
        let record = Connection::record(slot.input());
        let (kind, sender) = (record.kind, record.sender()?);
        if let Kind::LoginOk | Kind::LoginRefused | Kind::Unavailable = kind {
            let number = kind.number();
            return Err(Violation::RelaysOnly { number }.into());
        }
        match slot.user() {
            Some(name) if *name != sender => return Err(Violation::ForeignSender.into()),
            Some(_) => {}
            None => {
                let needs_login =
                    listener.config.access == Access::Users || listener.config.password.is_some();
                if needs_login && kind != Kind::Login {
                    return Err(Violation::NotLoggedIn.into());
                }
                let Some(proof) = prove(table, door, index, &sender, now) else {
                    return Ok(());
                };
                if !self.log_in(table, index, &sender, proof, now) {
                    return Ok(());
                }
            }
        }
        let slot = table.slot_mut(index);
        if kind == Kind::Login {
            slot.tell(&note("", sender.as_str(), "", Kind::LoginOk));
            return Ok(());
        }
        let record = Connection::record(slot.input());
        if record.receiver.is_empty() {
            if kind != Kind::VideoData {
                let note = note("", sender.as_str(), "to nobody", Kind::Unavailable);
                slot.tell(&note);
            }
            return Ok(());
        }
        let (client, receiver) = (client(index), record.receiver()?);
        if kind == Kind::VideoData {
            if let Some(to) = self.switchboard.picture(client, &receiver) {
                self.pass(table, index, to.into(), now);
            }
            return Ok(());
        }
        let effect = |effect: Effect<'_>| happen(table, effect);
        let way = self.switchboard.route(client, &receiver, kind, now, effect);
        match way {
            Route::Forward(to) if to == client => {
                let slot = table.slot_mut(index);
                slot.echo(Connection::record(slot.input()).bytes.len());
            }
            Route::Forward(to) => {
                let to = usize::from(to);
                let [from, receiver] = table.two(index, to);
                receiver.tell(Connection::record(from.input()).bytes);
                table.mark(to);
            }
            Route::Nowhere => {}
        }
        Ok(())
    }

    /// Whether a user is let in. If not, the client is told.
    fn log_in<S: Stream>(
        &mut self,
        table: &mut Table<S>,
        index: usize,
        name: &Name,
        proof: Proof,
        now: Instant,
    ) -> bool {
        let slot = table.slot(index);
        let number = u8::try_from(slot.listener).expect("limits has few listeners");
        let reason = match (proof, name.flaw()) {
            (Proof::Lacks(reason), _) => reason,
            (_, Some(flaw)) => flaw,
            (proof, None) => {
                let (logged_in, user) = match proof {
                    Proof::User(user) => (true, Some(user)),
                    Proof::Password => (true, None),
                    Proof::Nothing | Proof::Lacks(_) => (false, None),
                };
                let board = &mut self.switchboard;
                match board.log_in(number, client(index), name, user.is_some()) {
                    Ok(()) => {
                        let stands = slot.refusal;
                        if stands && !self.seat_as(table, index, logged_in, now) {
                            self.switchboard
                                .leave(client(index), |effect| happen(table, effect));
                            return false;
                        }
                        let (slot, listener) = table.with_listener(index);
                        let address = &listener.address;
                        debug!("{address}: {name} is there, from {}", slot.peer);
                        connection(slot, |call| call.set_user(name, logged_in, user));
                        return true;
                    }
                    Err(Taken::By(holder)) => {
                        // It may have lost its power, and want to come again.
                        if let Some(stream) = table.slot_mut(holder.into()).stream() {
                            stream.probe();
                        }
                        "this name is in use"
                    }
                    Err(Taken::ByCamera) => "this name is in use",
                    Err(Taken::ByUser) => "this name is a user's",
                }
            }
        };
        let (slot, listener) = table.with_listener(index);
        listener.not_let_in += 1;
        let (address, peer) = (&listener.address, &slot.peer);
        say_of_peer(
            Level::Info,
            Incident::NotLetIn,
            peer,
            format_args!("{address}: {name} from {peer} not let in: {reason}"),
        );
        slot.tell(&note("", name.as_str(), reason, Kind::LoginRefused));
        connection(slot, Connection::refused);
        false
    }

    /// Passes a picture on from one user to another.
    fn pass<S: Stream>(&mut self, table: &mut Table<S>, from: usize, to: usize, now: Instant) {
        let [sender, receiver] = table.two(from, to);
        let record = Connection::record(sender.input());
        if let Err(reason) = receiver.pass(record.bytes, now) {
            self.close(table, to, reason);
        }
    }
}

/// What somebody who logs in has shown.
enum Proof {
    /// Nothing is asked for.
    Nothing,
    /// The password of the listener.
    Password,
    /// That of this user.
    User(Rc<User>),
    /// Not what is asked for; says what is to be told.
    Lacks(&'static str),
}

/// Looks at what the LOGIN in a slot's input shows. `None`: the door has to look at it for longer.
fn prove<S: Stream>(
    table: &mut Table<S>,
    door: &mut Door,
    index: usize,
    name: &Name,
    now: Instant,
) -> Option<Proof> {
    const WRONG: Proof = Proof::Lacks("wrong password");
    const LATER: Proof =
        Proof::Lacks("too many wrong passwords from this address; try again later");
    let id = table.id(index);
    let (slot, listener) = table.with_listener(index);
    let place = Household::of(slot.address());
    let password = Connection::record(slot.input()).password();
    if let Some(own) = &listener.config.password {
        return Some(match door.ask_for(own, &password, place, now) {
            Plain::Right => Proof::Password,
            Plain::Wrong => WRONG,
            Plain::Later(_) => LATER,
        });
    }
    if listener.config.access == Access::Open {
        return Some(Proof::Nothing);
    }
    let verdict = match connection(slot, Connection::take_verdict) {
        Some(verdict) => verdict,
        None => {
            let shown = Shown::Password {
                name: name.as_str(),
                password: &password,
            };
            match door.ask(shown, place, id, now) {
                Answer::Verdict(verdict) => verdict,
                Answer::Later => {
                    connection(slot, Connection::wait_for_verdict);
                    return None;
                }
            }
        }
    };
    Some(match verdict {
        Verdict::In(user) if user.may.watch => Proof::User(user),
        Verdict::In(_) => Proof::Lacks("this user has no \"watch\" in may"),
        Verdict::Nobody => WRONG,
        Verdict::Later(_) => LATER,
        Verdict::Busy => Proof::Lacks("too many passwords to look at; try again later"),
    })
}

/// Acts on a record from the relay where the camera is a user.
fn act_as_user<S: Stream>(table: &mut Table<S>, index: usize) -> Result<(), CloseReason> {
    let (slot, listener) = table.with_listener(index);
    let ListenerConfig {
        user,
        calls,
        max_fps,
        ..
    } = &listener.config;
    let record = Connection::record(slot.input());
    match record.kind {
        Kind::LoginOk if slot.user().is_none() => {
            info!("{}: logged in as {user}", listener.address);
            listener.ended = None;
            connection(slot, |call| call.set_user(user, true, None));
        }
        Kind::LoginRefused => return Err(CloseReason::Refused(record.reason())),
        Kind::Request => {
            let caller = record.sender()?;
            let (kind, reason) = connection(slot, |call| {
                let partners = call.partners().expect("the other end is a relay");
                match partners.contains(&caller) {
                    true => (Kind::Accept, ""),
                    false if partners.len() >= *calls => (Kind::Reject, BUSY),
                    false => {
                        call.add_partner(&caller, *max_fps);
                        (Kind::Accept, "")
                    }
                }
            });
            slot.tell(&note(user.as_str(), caller.as_str(), reason, kind));
        }
        Kind::End | Kind::Reject | Kind::Unavailable => {
            let caller = record.sender()?;
            connection(slot, |call| call.remove_partner(&caller));
        }
        _ => {}
    }
    Ok(())
}

/// Lets something happen to the session of a call client.
fn connection<S: Stream, R>(slot: &mut Slot<S>, act: impl FnOnce(&mut Connection) -> R) -> R {
    slot.with_session(|session| match session {
        Protocol::Call(call) => act(call),
        other => unreachable!("{other:?} is in no call"),
    })
}

/// The client in a slot, to the switchboard.
fn client(index: usize) -> Client {
    Client::try_from(index).expect("limits asserts that slot indices fit")
}

/// Lets something happen to the clients.
fn happen<S: Stream>(table: &mut Table<S>, effect: Effect<'_>) {
    let client = match effect {
        Effect::Tell {
            to,
            sender,
            kind,
            reason,
        } => {
            let slot = table.slot_mut(to.into());
            let receiver = slot.user();
            let receiver = receiver.expect("only users are told");
            let note = note(sender.as_str(), receiver.as_str(), reason, kind);
            slot.tell(&note);
            to
        }
        Effect::Watch { client, on } => {
            connection(table.slot_mut(client.into()), |call| call.set_watching(on));
            client
        }
    };
    table.mark(client.into());
}
