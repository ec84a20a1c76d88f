//! The slot table: admits clients, hands each new picture to those who wait for one, answers requests, and closes who
//! is late. Knows neither mio nor the clock, so that a simulation can drive it (`tests/simulation.rs`).

mod config_errors;
pub mod pages;
mod texts;

use std::io::{self, Write};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Instant;

use log::{debug, info, warn};

use crate::client::adapt::Goal;
use crate::client::slot::{CloseReason, Peer, Slot, Stream, Turn};
use crate::client::switchboard::{BUSY, Client, Effect, Route as Way, Switchboard};
use crate::config::{Bind, Config, ConfigError, LimitsConfig, ListenerConfig, Secret};
use crate::encode::m2m::{self, Nodes};
use crate::encode::renditions::{Profile, Rendition, Renditions};
use crate::limits::{
    MAX_CLIENTS, MAX_LISTENERS, PAGE, PASSWORD, REASON, REFUSAL_BODY, REFUSAL_SLOTS, REOPEN_FIRST,
    REOPEN_MAX, USER_NAME,
};
use crate::picture::frame::{Frame, FrameBuf, FrameMeta};
use crate::protocol::Protocol;
use crate::protocol::ProtocolKind;
use crate::protocol::Violation;
use crate::protocol::call::{self, Kind, Name};
use crate::protocol::http::{self, Call, Policy, Route, Status};
use crate::sink::Sinks;
use crate::source::camera::{Camera, Condition};
use crate::source::{ControlError, Source};
use config_errors::ConfigErrors;
use texts::Texts;

/// Requests of one client in one turn, so that one that sends them in bulk cannot keep the others waiting.
const CALLS_PER_TURN: usize = 8;

/// Names a connection: an event for one that is gone must not reach the next in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId {
    pub index: u8,
    pub generation: u16,
}

/// A listener as far as its clients are concerned.
#[derive(Debug)]
pub struct Listener {
    pub config: ListenerConfig,
    /// Where it really listens: with port 0 the system picks one.
    pub address: String,
    profile: Profile,
    /// If its clients get what their link can carry.
    goal: Option<Goal>,
    policy: Rc<Policy>,
    /// Connections that found no slot.
    pub refused: u64,
    /// Connections that broke the protocol.
    pub violations: u64,
    /// Pictures that were sent whole over connections that have ended.
    past_frames: u64,
    /// Why the last connection that camd has made ended.
    ended: Option<CloseReason>,
    /// That its pictures get no time stamp was said in the log.
    told_unstamped: bool,
}

impl Listener {
    fn new(config: &ListenerConfig) -> Self {
        let profile = Profile::of(config);
        Listener {
            config: config.clone(),
            address: String::new(),
            profile,
            goal: goal(config, &profile),
            policy: policy(config),
            refused: 0,
            violations: 0,
            past_frames: 0,
            ended: None,
            told_unstamped: false,
        }
    }

    /// Whether its clients, on whichever rung, can get this.
    fn wants(&self, rendition: &Rendition) -> bool {
        Profile::all(&self.config).any(|profile| rendition.is_for(profile))
    }

    /// Says once where pictures go out without the time stamp that the configuration asks for.
    fn tell_unstamped(&mut self, frame: &Frame<'_>, profile: Profile) {
        if !self.told_unstamped && frame.meta.live && profile.leaves_untouched(frame) {
            self.told_unstamped = true;
            info!(
                "{}: the camera's own JPEGs are passed on untouched, without a time stamp; set this listener's quality to have it",
                self.address
            );
        }
    }

    /// It does not listen: its one connection is one that camd has made, to somebody else's relay.
    fn is_user(&self) -> bool {
        matches!(self.config.bind, Bind::Relay(_))
    }

    fn protocol(&self) -> Protocol {
        if self.is_user() {
            let user = self.config.user.clone();
            return Protocol::Call(Box::new(call::Connection::to_relay(user)));
        }
        Protocol::new(self.config.protocol, &self.policy, &self.config.user)
    }
}

/// All clients of the process.
///
/// Invariant: the first [`MAX_CLIENTS`] slots hold pictures, the [`REFUSAL_SLOTS`] behind them do not; the number of
/// taken picture slots of a listener never exceeds its `clients` at the time of admission. All taken slots are below
/// `used`, and the last of these is taken: what is done for each picture looks at no more than that.
pub struct Hub<S> {
    slots: heapless::Vec<Slot<S>, { MAX_CLIENTS + REFUSAL_SLOTS }>,
    used: usize,
    /// Slots to be advanced in this turn.
    marked: [bool; MAX_CLIENTS + REFUSAL_SLOTS],
    listeners: heapless::Vec<Listener, MAX_LISTENERS>,
    limits: LimitsConfig,
    renditions: Renditions,
    sinks: Sinks,
    switchboard: Switchboard,
    texts: Texts,
    page: FrameBuf,
    started: Instant,
    config_errors: ConfigErrors,
    /// When somebody was last told that there is no picture.
    sent_away: Option<Instant>,
}

impl<S: Stream> Hub<S> {
    /// Takes all memory that serving will need. `clock` is asked only to measure what pictures take.
    pub fn new(config: &Config, now: Instant, clock: fn() -> Instant) -> Self {
        Hub::with_nodes(config, Box::new(m2m::System), now, clock)
    }

    /// As [`Hub::new`], with the video nodes among which a hardware encoder is looked for.
    pub fn with_nodes(
        config: &Config,
        nodes: Box<dyn Nodes>,
        now: Instant,
        clock: fn() -> Instant,
    ) -> Self {
        let mut slots = heapless::Vec::new();
        let mut listeners = config.listeners.iter();
        let calls = listeners.any(|listener| listener.protocol == ProtocolKind::Call);
        for index in 0..MAX_CLIENTS + REFUSAL_SLOTS {
            let refusal = index >= MAX_CLIENTS;
            let capacity = if refusal {
                REFUSAL_BODY
            } else {
                config.limits.frame_bytes
            };
            let slot = Slot::new(capacity, refusal, now);
            let pushed = slots.push(if calls { slot.for_calls() } else { slot });
            assert!(pushed.is_ok(), "the table has that capacity");
        }
        Hub {
            slots,
            used: 0,
            marked: [false; MAX_CLIENTS + REFUSAL_SLOTS],
            listeners: config.listeners.iter().map(Listener::new).collect(),
            limits: config.limits.clone(),
            renditions: Renditions::new(config, nodes, clock),
            sinks: Sinks::new(config, now),
            switchboard: Switchboard::new(&config.listeners),
            texts: Texts::new(config),
            page: FrameBuf::new(PAGE),
            started: now,
            config_errors: ConfigErrors::default(),
            sent_away: None,
        }
    }

    pub fn set_address(&mut self, listener: usize, address: String) {
        self.listeners[listener].address = address;
    }

    /// Takes over what may change while clients are connected: everything but the number, protocol, address and user of
    /// the listeners, and `frame_bytes`, which the caller has seen to be the same. Connections keep the max_fps, allow_origin
    /// and set_controls under which they came.
    pub fn reconfigure(&mut self, config: &Config, now: Instant) {
        assert_eq!(
            self.limits.frame_bytes, config.limits.frame_bytes,
            "buffers are taken at start"
        );
        assert_eq!(
            self.listeners.len(),
            config.listeners.len(),
            "listeners are opened at start"
        );
        for (listener, config) in self.listeners.iter_mut().zip(&config.listeners) {
            listener.config = config.clone();
            listener.profile = Profile::of(config);
            listener.goal = goal(config, &listener.profile);
            listener.policy = policy(config);
            listener.told_unstamped = false;
        }
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_free()) {
            slot.reconfigure(self.listeners[slot.listener].goal.is_some());
        }
        self.limits = config.limits.clone();
        self.renditions.reconfigure(config);
        self.sinks.reconfigure(config, now);
        self.switchboard.reconfigure(&config.listeners);
        self.texts = Texts::new(config);
        // Those who wait for the device's contexts of before wait for nothing.
        self.mark_waiting();
    }

    /// What is wrong with the configuration that should be in force, for the pages.
    pub fn set_config_errors(&mut self, errors: &[ConfigError]) {
        self.config_errors = ConfigErrors::new(errors);
    }

    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The taken slots.
    pub fn clients(&self) -> impl Iterator<Item = (ClientId, &Slot<S>)> + Clone {
        self.slots[..self.used]
            .iter()
            .enumerate()
            .filter(|(_, slot)| !slot.is_free())
            .map(|(index, slot)| (id(index, slot), slot))
    }

    /// Connections of a listener that hold a picture slot.
    pub fn connected(&self, listener: usize) -> usize {
        self.clients()
            .filter(|(_, slot)| !slot.refusal && slot.listener == listener)
            .count()
    }

    /// Pictures sent whole to all clients of a listener.
    pub fn frames_sent(&self, listener: usize) -> u64 {
        let current = self
            .clients()
            .filter(|(_, slot)| slot.listener == listener)
            .map(|(_, slot)| slot.stats.frames);
        self.listeners[listener].past_frames + current.sum::<u64>()
    }

    /// The rung of a client's pictures; `None` if they are not adapted to its link.
    pub fn rung(&self, slot: &Slot<S>) -> Option<u8> {
        let goal = self.listeners[slot.listener].goal.as_ref();
        goal.filter(|_| slot.is_adaptable())
            .map(|goal| slot.rung(goal))
    }

    /// What `/state` calls the client of this slot.
    pub fn id(&self, client: Client) -> (u8, u16) {
        (client, self.slots[usize::from(client)].generation)
    }

    pub fn switchboard(&self) -> &Switchboard {
        &self.switchboard
    }

    pub fn renditions(&self) -> &Renditions {
        &self.renditions
    }

    pub fn sinks(&self) -> &Sinks {
        &self.sinks
    }

    pub fn encode_failures(&self) -> u64 {
        self.renditions.failed
    }

    /// See [`Renditions::encoder`].
    pub fn encoder(&self) -> Option<&str> {
        self.renditions.encoder()
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    /// Clients and sinks for whom the camera must run.
    pub fn viewers(&self) -> usize {
        let slots = &self.slots[..self.used];
        slots.iter().filter(|slot| slot.is_viewer()).count() + self.sinks.viewers()
    }

    /// When somebody who wanted one picture was last told that there is none. He is no viewer any more.
    pub fn sent_away(&self) -> Option<Instant> {
        self.sent_away
    }

    /// Takes a new connection in, as a client or, above the limits, to be told so. Gives it back where not even that
    /// is possible, or where the protocol has no words for it.
    pub fn admit(
        &mut self,
        stream: S,
        peer: Peer,
        listener: usize,
        now: Instant,
    ) -> Result<ClientId, S> {
        let room = self.connected(listener) < self.listeners[listener].config.clients;
        let mut slots = self.slots.iter_mut().enumerate();
        let mut found = slots
            .find(|(_, slot)| slot.is_free() && !slot.refusal)
            .filter(|_| room);
        let info = &mut self.listeners[listener];
        if found.is_none() {
            info.refused += 1;
            if info.refused.is_power_of_two() {
                let (limit, refused) = (info.config.clients, info.refused);
                warn!(
                    "{}: no slot for {peer}: {limit} clients at most ({refused} refused so far)",
                    info.address
                );
            }
            if matches!(
                info.config.protocol,
                ProtocolKind::Http | ProtocolKind::Call
            ) {
                found = self
                    .slots
                    .iter_mut()
                    .enumerate()
                    .find(|(_, slot)| slot.is_free() && slot.refusal);
            }
        }
        let Some((index, slot)) = found else {
            return Err(stream);
        };
        debug!("{}: {peer} connected", info.address);
        // Where there are several behind it, each of them has a pace of its own.
        let max_fps = info.config.max_fps.filter(|_| !info.is_user());
        slot.open(stream, peer, listener, info.protocol(), max_fps, now);
        self.marked[index] = true;
        self.used = self.used.max(index + 1);
        if info.is_user() {
            let password = info.config.password.as_ref().map_or("", Secret::expose);
            let mut login = heapless::Vec::<u8, LOGIN_RECORD>::new();
            call::write(
                &mut login,
                info.config.user.as_str(),
                "",
                password,
                Kind::Login,
            );
            slot.tell(&login);
        } else if slot.refusal && info.config.protocol == ProtocolKind::Call {
            slot.refuse_login(&note("", "", "no room", Kind::LoginRefused));
        }
        Ok(id(index, slot))
    }

    pub fn stream(&mut self, client: ClientId) -> Option<&mut S> {
        self.slot(client)?.stream()
    }

    fn slot(&mut self, client: ClientId) -> Option<&mut Slot<S>> {
        let slot = self.slots.get_mut(usize::from(client.index))?;
        (slot.generation == client.generation && !slot.is_free()).then_some(slot)
    }

    /// A readiness event for a client; one for a client that is gone is nothing.
    pub fn mark(&mut self, client: ClientId, readable: bool, writable: bool) {
        if let Some(slot) = self.slot(client) {
            slot.mark(readable, writable);
            self.marked[usize::from(client.index)] = true;
        }
    }

    /// The camera has a new picture: everyone who waits for one is served in the next [`Hub::turn`].
    pub fn on_frame(&mut self) {
        let slots = &mut self.slots[..self.used];
        for (slot, marked) in slots.iter_mut().zip(&mut self.marked) {
            *marked |= slot.on_frame();
        }
    }

    /// Hands out the descriptors of hardware encoders that have been opened in a turn, with a number below
    /// [`crate::limits::ENCODER_CONTEXTS`] each: to be polled, edge-triggered, readable and writable. Closing ends that.
    /// True if there was one, and the next turn must follow at once.
    pub fn arm_encoders(&mut self, register: impl FnMut(usize, RawFd) -> io::Result<()>) -> bool {
        let any = self.renditions.arm(register);
        if any {
            self.mark_waiting();
        }
        any
    }

    /// A readiness event for a hardware encoder. `broken`: an error or a hang-up.
    pub fn mark_encoder(&mut self, index: usize, broken: bool) {
        self.renditions.mark(index, broken);
    }

    /// See [`Sinks::arm`].
    pub fn arm_sinks(&mut self, register: impl FnMut(usize, RawFd) -> io::Result<()>) -> bool {
        self.sinks.arm(register)
    }

    /// A readiness event for a sink's descriptor.
    pub fn mark_sink(&mut self, index: usize) {
        self.sinks.mark(index);
    }

    fn mark_waiting(&mut self) {
        let slots = &self.slots[..self.used];
        for (slot, marked) in slots.iter().zip(&mut self.marked) {
            *marked |= slot.wants_frame();
        }
    }

    /// When a client, or a hardware encoder, will be late.
    pub fn deadline(&self) -> Option<Instant> {
        self.slots[..self.used]
            .iter()
            .filter_map(|slot| slot.deadline(&self.limits))
            .chain(self.renditions.deadline())
            .chain(self.switchboard.deadline())
            .chain(self.sinks.deadline())
            .min()
    }

    /// Advances every client that has had an event, a picture or a deadline. True if some have still more to do, at
    /// once, and only give way to the others.
    pub fn turn<C: Source>(&mut self, now: Instant, camera: &mut Camera<C>) -> bool {
        self.renditions.follow(camera.opening());
        if self.renditions.is_undecided()
            && let Some(frame) = camera.newest()
        {
            self.renditions.decide(&frame);
        }
        if self.renditions.collect(now) {
            self.mark_waiting();
        }
        let (slots, marked) = (&mut self.slots, &mut self.marked);
        self.switchboard
            .expire(now, |effect| happen(slots, marked, effect));
        // The table can shrink meanwhile, but not grow.
        for index in 0..self.used {
            let late = self.slots[index]
                .deadline(&self.limits)
                .is_some_and(|deadline| deadline <= now);
            if std::mem::take(&mut self.marked[index]) || late {
                self.serve(index, now, camera);
            }
        }
        self.sinks.turn(camera, &mut self.renditions, now);
        // Some gave way to others, or were told something by those behind them.
        self.marked[..self.used].contains(&true)
    }

    fn serve<C: Source>(&mut self, index: usize, now: Instant, camera: &mut Camera<C>) {
        for _ in 0..CALLS_PER_TURN {
            let slot = &mut self.slots[index];
            if slot.is_free() {
                return;
            }
            match slot.advance(now, &self.limits) {
                Turn::Wait => return,
                Turn::Again => break,
                Turn::WantsFrame => {
                    if slot.wants_live() && camera.condition() == Condition::Fault {
                        let reason = camera.reason().as_bytes();
                        slot.reply(Status::ServiceUnavailable, http::TEXT, reason);
                        self.sent_away = Some(now);
                        continue;
                    }
                    let newest = camera.newest();
                    let is_news = |meta: &FrameMeta| slot.is_news(meta);
                    let Some(news) = self.renditions.news(newest.as_ref(), is_news) else {
                        return;
                    };
                    match slot.ready(now) {
                        Ok(true) => {}
                        Ok(false) => return,
                        Err(reason) => return self.close(index, reason),
                    }
                    let listener = &mut self.listeners[slot.listener];
                    let profile = match &listener.goal {
                        Some(goal) if slot.is_adaptable() => {
                            let rung = slot.choose_rung(goal, &news, now);
                            listener.profile.rung(rung)
                        }
                        _ => listener.profile,
                    };
                    if self.renditions.stamps()
                        && let Some(frame) = &newest
                    {
                        listener.tell_unstamped(frame, profile);
                    }
                    let is_news = |meta: &FrameMeta| slot.is_news(meta);
                    let made = self.renditions.get(newest, profile, now, is_news);
                    let Some((meta, jpeg)) = made else {
                        slot.unserved();
                        return;
                    };
                    let payload = match listener.config.protocol {
                        ProtocolKind::Call => self.texts.of(profile, &meta, jpeg),
                        _ => Some(jpeg),
                    };
                    let Some(payload) = payload else {
                        slot.unserved();
                        return;
                    };
                    if let Err(reason) = slot.offer(&meta, payload, now) {
                        return self.close(index, reason);
                    }
                }
                Turn::Call(call) => self.answer(index, call, now, camera),
                Turn::Record => {
                    if let Err(reason) = self.act(index, now) {
                        return self.close(index, reason);
                    }
                    self.slots[index].consume_record();
                }
                Turn::Closed(reason) => return self.close(index, reason),
            }
        }
        self.marked[index] = true;
    }

    /// Acts on a call client's record.
    fn act(&mut self, index: usize, now: Instant) -> Result<(), CloseReason> {
        let slot = &self.slots[index];
        let (record, listener) = (slot.record(), &self.listeners[slot.listener]);
        if listener.is_user() {
            return self.act_as_user(index);
        }
        let (kind, sender) = (record.kind, record.sender()?);
        if let Kind::LoginOk | Kind::LoginRefused | Kind::Unavailable = kind {
            let number = kind.number();
            return Err(Violation::RelaysOnly { number }.into());
        }
        match slot.user() {
            Some(name) if *name != sender => return Err(Violation::ForeignSender.into()),
            Some(_) => {}
            None => {
                let wrong = match &listener.config.password {
                    Some(_) if kind != Kind::Login => return Err(Violation::NotLoggedIn.into()),
                    Some(password) => !password.is(&record.password()),
                    None => false,
                };
                if !self.log_in(index, &sender, wrong) {
                    return Ok(());
                }
            }
        }
        let record = self.slots[index].record();
        if kind == Kind::Login {
            self.slots[index].tell(&note("", sender.as_str(), "", Kind::LoginOk));
            return Ok(());
        }
        if record.receiver.is_empty() {
            if kind != Kind::VideoData {
                let note = note("", sender.as_str(), "to nobody", Kind::Unavailable);
                self.slots[index].tell(&note);
            }
            return Ok(());
        }
        let (client, receiver) = (client(index), record.receiver()?);
        if kind == Kind::VideoData {
            if let Some(to) = self.switchboard.picture(client, &receiver) {
                self.pass(index, to.into(), now);
            }
            return Ok(());
        }
        let (slots, marked) = (&mut self.slots, &mut self.marked);
        let effect = |effect: Effect<'_>| happen(slots, marked, effect);
        let way = self.switchboard.route(client, &receiver, kind, now, effect);
        match way {
            Way::Forward(to) if to == client => self.slots[index].echo(),
            Way::Forward(to) => {
                let to = usize::from(to);
                let [from, receiver] = self
                    .slots
                    .get_disjoint_mut([index, to])
                    .expect("two slots of the table");
                receiver.tell(from.record().bytes);
                self.marked[to] = true;
            }
            Way::Nowhere => {}
        }
        Ok(())
    }

    /// Acts on a record from the relay where the camera is a user.
    fn act_as_user(&mut self, index: usize) -> Result<(), CloseReason> {
        let slot = &mut self.slots[index];
        let listener = &mut self.listeners[slot.listener];
        let ListenerConfig { user, calls, .. } = &listener.config;
        let record = slot.record();
        let kind = record.kind;
        match kind {
            Kind::LoginOk if slot.user().is_none() => {
                info!("{}: logged in as {user}", listener.address);
                listener.ended = None;
                slot.set_user(user);
            }
            Kind::LoginRefused => return Err(CloseReason::Refused(record.reason())),
            Kind::Request => {
                let caller = record.sender()?;
                let partners = slot.partners().expect("the other end is a relay");
                let (kind, reason) = match partners.contains(&caller) {
                    true => (Kind::Accept, ""),
                    false if partners.len() >= *calls => (Kind::Reject, BUSY),
                    false => {
                        slot.add_partner(&caller, listener.config.max_fps);
                        (Kind::Accept, "")
                    }
                };
                slot.tell(&note(user.as_str(), caller.as_str(), reason, kind));
            }
            Kind::End | Kind::Reject | Kind::Unavailable => {
                let caller = record.sender()?;
                slot.remove_partner(&caller);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether somebody is let in. If not, he is told.
    fn log_in(&mut self, index: usize, name: &Name, wrong_password: bool) -> bool {
        let slot = &mut self.slots[index];
        let listener = u8::try_from(slot.listener).expect("limits has few listeners");
        let address = &self.listeners[slot.listener].address;
        let reason = if wrong_password {
            "wrong password"
        } else {
            match self.switchboard.log_in(listener, client(index), name) {
                Ok(()) => {
                    debug!("{address}: {name} is there, from {}", slot.peer);
                    slot.set_user(name);
                    return true;
                }
                Err(holder) => {
                    // He may have lost his power, and want to come again.
                    if let Some(holder) = holder.map(usize::from)
                        && let Some(stream) = self.slots[holder].stream()
                    {
                        stream.probe();
                    }
                    "this name is in use"
                }
            }
        };
        let slot = &mut self.slots[index];
        info!("{address}: {name} from {} not let in: {reason}", slot.peer);
        slot.refuse_login(&note("", name.as_str(), reason, Kind::LoginRefused));
        false
    }

    /// Passes a picture on from one user to another.
    fn pass(&mut self, from: usize, to: usize, now: Instant) {
        let [sender, receiver] = self
            .slots
            .get_disjoint_mut([from, to])
            .expect("two slots of the table");
        if let Err(reason) = receiver.pass(sender.record().bytes, now) {
            self.close(to, reason);
        }
    }

    fn close(&mut self, index: usize, reason: CloseReason) {
        let (slots, marked) = (&mut self.slots, &mut self.marked);
        self.switchboard
            .leave(client(index), |effect| happen(slots, marked, effect));
        let slot = &mut self.slots[index];
        let listener = &mut self.listeners[slot.listener];
        listener.past_frames += slot.stats.frames;
        match &reason {
            CloseReason::Violation(_) if !listener.is_user() => {
                listener.violations += 1;
                warn!("{}: {} closed: {reason}", listener.address, slot.peer);
            }
            CloseReason::Shutdown => debug!("{}: {} closed", listener.address, slot.peer),
            // Said once, and again only when it changes: it is tried for ever.
            _ if listener.is_user() && listener.ended.as_ref() == Some(&reason) => {
                debug!("{}: {} again: {reason}", listener.address, slot.peer);
            }
            _ if listener.is_user() => {
                warn!(
                    "{}: {} has ended: {reason}; trying again every {} to {} s",
                    listener.address,
                    slot.peer,
                    REOPEN_FIRST.as_secs(),
                    REOPEN_MAX.as_secs()
                );
            }
            CloseReason::WriteTimeout | CloseReason::AckTimeout | CloseReason::Overflow => {
                info!("{}: {} closed: {reason}", listener.address, slot.peer);
            }
            _ => debug!("{}: {} closed: {reason}", listener.address, slot.peer),
        }
        if listener.is_user() {
            listener.ended = Some(reason);
        }
        slot.close();
        let free = self.slots[..self.used].iter().rev();
        self.used -= free.take_while(|slot| slot.is_free()).count();
    }

    fn answer<C: Source>(
        &mut self,
        index: usize,
        call: Call,
        now: Instant,
        camera: &mut Camera<C>,
    ) {
        let (status, content_type) = self.write_page(call, now, camera);
        self.slots[index].reply(status, content_type, self.page.as_slice());
    }

    fn write_page<C: Source>(
        &mut self,
        call: Call,
        now: Instant,
        camera: &mut Camera<C>,
    ) -> (Status, &'static str) {
        // The page is written while all slots can be seen, and then copied to the one that asked.
        let mut page = std::mem::replace(&mut self.page, FrameBuf::new(0));
        page.clear();
        let (status, content_type, written) = match call {
            Call::Get(Route::State) => (
                Status::Ok,
                http::JSON,
                pages::state(self, camera, now, &mut page),
            ),
            Call::Get(Route::Metrics) => (
                Status::Ok,
                http::METRICS,
                pages::metrics(self, camera, now, &mut page),
            ),
            Call::Get(Route::Healthz) => match camera.condition() {
                Condition::Live | Condition::Idle => {
                    (Status::Ok, http::TEXT, page.write_all(b"ok\n"))
                }
                Condition::Starting => (
                    Status::ServiceUnavailable,
                    http::TEXT,
                    page.write_all(b"no picture yet\n"),
                ),
                Condition::Fault => (
                    Status::ServiceUnavailable,
                    http::TEXT,
                    writeln!(page, "no picture: {}", camera.reason()),
                ),
            },
            Call::Get(Route::Controls) => {
                (Status::Ok, http::JSON, pages::controls(camera, &mut page))
            }
            Call::SetControls(settings) => {
                let refused = settings.iter().find_map(|(name, value)| {
                    let error = camera.set_control(name, *value).err()?;
                    Some((name, value, error))
                });
                match refused {
                    None => (Status::Ok, http::JSON, pages::controls(camera, &mut page)),
                    Some((name, _, ControlError::Unknown)) => {
                        let text =
                            writeln!(page, "{name}: no such control; GET /controls lists them");
                        (Status::NotFound, http::TEXT, text)
                    }
                    Some((name, value, ControlError::Refused(why))) => (
                        Status::BadRequest,
                        http::TEXT,
                        writeln!(page, "{name} = {value}: {why}"),
                    ),
                }
            }
            Call::Get(Route::Index) => (Status::Ok, http::HTML, page.write_all(pages::INDEX)),
            Call::Get(Route::Stream | Route::Snapshot) | Call::Options(_) => {
                unreachable!("slots answer {call:?} by themselves")
            }
        };
        self.page = page;
        match written {
            Ok(()) => (status, content_type),
            // A camera with hundreds of controls, say: half a JSON text would be worse than none.
            Err(error) => {
                warn!("page too long for {PAGE} bytes: {error}");
                self.page.clear();
                (Status::ServiceUnavailable, http::TEXT)
            }
        }
    }

    /// Closes all connections, at the end.
    pub fn shutdown(&mut self) {
        for index in 0..self.slots.len() {
            if !self.slots[index].is_free() {
                self.close(index, CloseReason::Shutdown);
            }
        }
        self.renditions.follow(None);
        self.sinks.shutdown();
    }
}

/// Who is in the slot, to the switchboard.
fn client(index: usize) -> Client {
    Client::try_from(index).expect("limits asserts that slot indices fit a byte")
}

/// The longest record that camd writes itself.
type Note = heapless::Vec<u8, { 3 * 4 + 2 * (2 * USER_NAME + REASON) + 4 }>;

/// The longest LOGIN.
const LOGIN_RECORD: usize = 3 * 4 + 2 * (USER_NAME + PASSWORD) + 4;

fn note(sender: &str, receiver: &str, reason: &str, kind: Kind) -> Note {
    let mut note = Note::new();
    call::write(&mut note, sender, receiver, reason, kind);
    note
}

/// Lets something happen to the clients.
fn happen<S: Stream>(slots: &mut [Slot<S>], marked: &mut [bool], effect: Effect<'_>) {
    let client = match effect {
        Effect::Tell {
            to,
            sender,
            kind,
            reason,
        } => {
            let slot = &mut slots[usize::from(to)];
            let receiver = slot.user().expect("only users are told").clone();
            slot.tell(&note(sender.as_str(), receiver.as_str(), reason, kind));
            to
        }
        Effect::Watch { client, on } => {
            slots[usize::from(client)].set_watching(on);
            client
        }
    };
    marked[usize::from(client)] = true;
}

fn goal(listener: &ListenerConfig, profile: &Profile) -> Option<Goal> {
    listener.adaptive.then(|| Goal {
        ladder: profile.ladder(),
        min_fps: listener.min_fps,
    })
}

fn policy(listener: &ListenerConfig) -> Rc<Policy> {
    Rc::new(Policy {
        allow_origin: listener.allow_origin.clone(),
        set_controls: listener.set_controls,
    })
}

fn id<S: Stream>(index: usize, slot: &Slot<S>) -> ClientId {
    let index = u8::try_from(index).expect("limits asserts that slot indices fit a byte");
    ClientId {
        index,
        generation: slot.generation,
    }
}
