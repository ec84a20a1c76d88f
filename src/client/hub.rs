//! Admits clients, hands each new picture to those who wait for one, lets what they refer be acted on, and closes those
//! who are late. Knows neither mio nor the clock, so that a simulation can drive it (`tests/simulation.rs`).

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Instant;

use super::calls::Calls;
use super::config_errors::ConfigErrors;
use super::door::{Answer, Door, Shown};
use super::link::Stream;
use super::listener::Listener;
use super::pages::{self, Asker, View};
use super::places::Spare;
use super::slot::{Peer, Slot, Turn};
use super::subscription::Kind;
use super::switchboard::Switchboard;
use super::table::{ClientId, Table};
use super::updates::Updates;
use crate::config::{Config, ConfigError, LimitsConfig, NeighbourConfig};
use crate::encode::cell::launch::Launch;
use crate::encode::m2m::{self, Nodes};
use crate::encode::renditions::Renditions;
use crate::limits::{NEXT_SOON, PAGE, SLOTS};
use crate::measure::times::first;
use crate::picture::chain::Unit;
use crate::picture::frame::{Frame, FrameBuf, FrameMeta, Picture};
use crate::protocol::Protocol;
use crate::protocol::http::{Call as Request, Claim};
use crate::protocol::session::{CloseReason, Form, State};
use crate::protocol::user::Verdict;
use crate::sink::Sinks;
use crate::source::Source;
use crate::source::camera::{Camera, Condition};
use crate::system::household::Household;
use crate::tls::identity::Identity;

/// What one who asks for a film is told where there are JPEGs alone.
const NO_CHAIN: &str = "the camera gives no H.264; there is /stream";
/// What one who asks for a JPEG is told where there is H.264 alone.
const CHAIN_ALONE: &str = "the camera gives H.264 alone, and camd makes no JPEGs of it: see /stream.mp4, or let the camera give JPEGs (camera.format)";

/// Requests of one client in one turn, so that one that sends them in bulk cannot keep the others waiting.
const CALLS_PER_TURN: usize = 8;

/// All clients of the process, and what they are served from.
pub struct Hub<S> {
    table: Table<S>,
    limits: LimitsConfig,
    renditions: Renditions,
    sinks: Sinks,
    calls: Calls,
    door: Door,
    page: FrameBuf,
    started: Instant,
    config_errors: ConfigErrors,
    board: Option<PathBuf>,
    updates: Updates,
    neighbours: Vec<NeighbourConfig>,
    /// When somebody was last told that there is no picture.
    sent_away: Option<Instant>,
    /// When the camera's last two pictures came.
    came: [Option<Instant>; 2],
    /// Some clients get the newest picture from where it lies.
    lends: bool,
    /// Somebody waits for a picture of the chain that stands for itself.
    lacks_key: bool,
    /// A picture of the chain as a stream of bytes, and which one, if it was made in this turn.
    stream: FrameBuf,
    streamed: Option<u64>,
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
        Hub {
            table: Table::new(config, now),
            limits: config.limits.clone(),
            renditions: Renditions::new(config, nodes, clock),
            sinks: Sinks::new(config, now),
            calls: Calls::new(config),
            door: Door::new(config, clock),
            page: FrameBuf::new(PAGE),
            started: now,
            config_errors: ConfigErrors::default(),
            board: None,
            updates: Updates::default(),
            neighbours: config.neighbours.clone(),
            sent_away: None,
            came: [None; 2],
            lends: false,
            lacks_key: false,
            stream: FrameBuf::new(config.limits.frame_bytes),
            streamed: None,
        }
    }

    /// Lets pictures be decoded and encoded by so many processes of their own, started here ([`crate::encode::cell`]), rather
    /// than by this one.
    ///
    /// # Errors
    /// They cannot be started.
    pub fn start_cells(
        &mut self,
        config: &Config,
        launch: Box<dyn Launch>,
        count: usize,
        now: Instant,
    ) -> io::Result<()> {
        self.renditions.start_cells(config, launch, count, now)
    }

    /// Where a listener really listens, once that is known.
    pub fn set_address(&mut self, listener: usize, address: String) {
        self.table.listeners[listener].set_address(address);
    }

    /// Who camd is on a listener; `None`: nothing is encrypted there.
    pub fn set_identity(&mut self, listener: usize, identity: Option<&Identity>) {
        let fingerprint = identity.map(|identity| identity.fingerprint().to_string());
        self.table.listeners[listener].fingerprint = fingerprint;
    }

    /// Takes over what may change while clients are connected: everything but the number, protocol, address and user of
    /// the listeners, and `frame_bytes`, which the caller has seen to be the same. Connections keep the max_fps under which
    /// they came. Those of users that are none any more end.
    pub fn reconfigure(&mut self, config: &Config, now: Instant) {
        assert_eq!(
            self.limits.frame_bytes, config.limits.frame_bytes,
            "buffers are taken at start"
        );
        self.table.reconfigure(config);
        self.limits = config.limits.clone();
        self.neighbours = config.neighbours.clone();
        self.renditions.reconfigure(config);
        self.sinks.reconfigure(config, now);
        self.calls.reconfigure(config);
        self.door.reconfigure(config);
        for index in 0..self.table.used() {
            if !self.stays(index) {
                self.close(index, CloseReason::LoggedOut);
            }
        }
        // Those who wait for the device's contexts of before wait for nothing.
        self.table.mark_waiting();
    }

    /// Lets a client hear of a changed configuration. Whether it may still have what it gets.
    fn stays(&mut self, index: usize) -> bool {
        let (slot, listener) = self.table.with_listener(index);
        if slot.is_free() {
            return true;
        }
        slot.with_session(|session| match session {
            Protocol::Http(http) => {
                http.set_policy(listener.policy());
                http.stays(|user| self.door.has(user))
            }
            Protocol::Call(call) => call.stays(listener.config.access, |user| self.door.has(user)),
            _ => true,
        })
    }

    /// A client has connected from where none may.
    pub fn turn_off(&mut self, listener: usize, peer: &Peer) {
        self.table.listeners[listener].turn_off(peer);
    }

    /// What is wrong with the configuration that should be in force, for the pages.
    pub fn set_config_errors(&mut self, errors: &[ConfigError]) {
        self.config_errors = ConfigErrors::new(errors);
    }

    /// Where the box around camd says how it is, for the pages.
    pub fn set_board(&mut self, file: Option<PathBuf>) {
        self.board = file;
    }

    /// The listeners, in the order of the configuration.
    pub fn listeners(&self) -> &[Listener] {
        &self.table.listeners
    }

    /// The taken slots.
    pub fn clients(&self) -> impl Iterator<Item = (ClientId, &Slot<S>)> + Clone {
        self.table.clients()
    }

    /// See [`Table::connected`].
    pub fn connected(&self, listener: usize) -> usize {
        self.table.connected(listener)
    }

    /// See [`Table::frames_sent`].
    pub fn frames_sent(&self, listener: usize) -> u64 {
        self.table.frames_sent(listener)
    }

    /// See [`Table::rung`].
    pub fn rung(&self, slot: &Slot<S>) -> Option<u8> {
        self.table.rung(slot)
    }

    /// The users of the call listeners, and their calls.
    pub fn switchboard(&self) -> &Switchboard {
        self.calls.switchboard()
    }

    /// The JPEGs that are made for listeners.
    pub fn renditions(&self) -> &Renditions {
        &self.renditions
    }

    /// The programs on the same board that get pictures.
    pub fn sinks(&self) -> &Sinks {
        &self.sinks
    }

    /// Clients and sinks for whom the camera must run.
    pub fn viewers(&self) -> usize {
        let clients = self.table.clients();
        clients.filter(|(_, slot)| slot.is_viewer()).count() + self.sinks.viewers()
    }

    /// When a client that wanted one picture was last told that there is none. It is no viewer any more.
    pub fn sent_away(&self) -> Option<Instant> {
        self.sent_away
    }

    /// See [`Table::admit`].
    pub fn admit(
        &mut self,
        stream: S,
        peer: Peer,
        listener: usize,
        now: Instant,
    ) -> Result<ClientId, S> {
        let index = self.table.admit(stream, peer, listener, now)?;
        if self.table.listeners[listener].is_user() {
            self.calls.log_in_at_relay(&mut self.table, index);
        }
        Ok(self.table.id(index))
    }

    /// See [`Table::shed`].
    pub fn shed(&mut self, now: Instant) -> Spare {
        self.table.shed(now)
    }

    /// A client's connection itself; `None` if the client is gone.
    pub fn stream(&mut self, client: ClientId) -> Option<&mut S> {
        self.table.find(client)?.stream()
    }

    /// A readiness event for a client; one for a client that is gone is nothing.
    pub fn mark(&mut self, client: ClientId, readable: bool, writable: bool) {
        self.table.on_event(client, readable, writable);
    }

    /// Lets the camera do what is due ([`Camera::run`]). If it has a new picture then, which is what this tells, everyone
    /// who waits for one is served in the next [`Hub::turn`].
    pub fn run<C: Source>(&mut self, camera: &mut Camera<C>, readable: bool, now: Instant) -> bool {
        if readable || camera.deadline().is_some_and(|at| at <= now) {
            self.keep(camera);
        }
        let fresh = camera.run(readable, now);
        if fresh {
            self.came = [self.came[1], Some(now)];
            self.table.on_frame();
        }
        fresh
    }

    /// By when there will be a newer picture, if that is soon. It may be late by a quarter of the time between two.
    fn next(&self, now: Instant) -> Option<Instant> {
        let [Some(before), Some(last)] = self.came else {
            return None;
        };
        let interval = last.saturating_duration_since(before);
        let (due, by) = (last + interval, last + interval + interval / 4);
        (due <= now + (interval / 2).min(NEXT_SOON) && now < by).then_some(by)
    }

    /// Lets the camera have its buffer back where it cannot do without: everyone who waits has been offered the picture.
    pub fn release<C: Source>(&mut self, camera: &mut Camera<C>) {
        if !camera.holds() {
            self.keep(camera);
        }
        camera.release();
    }

    /// Tells the camera how many watch it, and the caller.
    pub fn tell_viewers<C: Source>(&mut self, camera: &mut Camera<C>, now: Instant) -> usize {
        if camera.opening().is_none() {
            // The first viewer opens it.
            self.keep(camera);
        }
        let viewers = self.viewers();
        camera.set_viewers(viewers, now);
        viewers
    }

    /// The newest picture may go: what clients have not got of it yet is copied. To be called before anything is done to
    /// the camera's source that the methods above do not do.
    pub fn keep<C: Source>(&mut self, camera: &Camera<C>) {
        if !std::mem::take(&mut self.lends) {
            return;
        }
        let newest = camera.newest();
        for index in 0..self.table.used() {
            let slot = self.table.slot_mut(index);
            if let Some(picture) = on_loan(slot, newest.as_ref()) {
                slot.keep(picture);
            }
        }
    }

    /// Hands out the descriptors of hardware encoders that have been opened in a turn, with a number below
    /// [`crate::limits::ENCODER_CONTEXTS`] each: to be polled, edge-triggered, readable and writable. Closing ends that.
    /// True if there was one, and the next turn must follow at once.
    pub fn arm_encoders(&mut self, register: impl FnMut(usize, RawFd) -> io::Result<()>) -> bool {
        let any = self.renditions.arm(register);
        if any {
            self.table.mark_waiting();
        }
        any
    }

    /// A readiness event for a hardware encoder. `broken`: an error or a hang-up.
    pub fn mark_encoder(&mut self, index: usize, broken: bool) {
        self.renditions.mark(index, broken);
    }

    /// Hands out the descriptors of cells that have been started in a turn, with a number below 2
    /// [`crate::limits::CELLS_MAX`] each: to be polled, edge-triggered, readable. Closing ends that. True if there was one,
    /// and the next turn must follow at once.
    pub fn arm_cells(&mut self, register: impl FnMut(usize, RawFd) -> io::Result<()>) -> bool {
        self.renditions.arm_cells(register)
    }

    /// A readiness event for a cell.
    pub fn mark_cell(&mut self, number: usize) {
        self.renditions.mark_cell(number);
    }

    /// See [`Sinks::arm`].
    pub fn arm_sinks(&mut self, register: impl FnMut(usize, RawFd) -> io::Result<()>) -> bool {
        self.sinks.arm(register)
    }

    /// Where the box's updater listens; `None`: there are no updates.
    pub fn set_updater(&mut self, socket: Option<PathBuf>) {
        self.updates.set_socket(socket);
    }

    /// Registers the connection to the box's updater, if it is new. True if the next turn must follow at once.
    pub fn arm_update(&mut self, register: impl FnOnce(RawFd) -> io::Result<()>) -> bool {
        self.updates.arm(register)
    }

    /// A readiness event for the connection to the box's updater.
    pub fn mark_update(&mut self) {
        self.updates.mark();
    }

    /// A readiness event for a sink's descriptor.
    pub fn mark_sink(&mut self, index: usize) {
        self.sinks.mark(index);
    }

    /// When a client, or a hardware encoder, will be late.
    pub fn deadline(&self) -> Option<Instant> {
        let at = self.table.deadline(&self.limits);
        let at = first(at, self.renditions.deadline());
        let at = first(at, self.calls.deadline());
        let at = first(at, self.updates.deadline());
        first(at, self.sinks.deadline())
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
            self.table.mark_waiting();
        }
        if let Some(reason) = self.renditions.take_trouble() {
            self.keep(camera);
            camera.fail(reason, now);
        }
        self.calls.expire(&mut self.table, now);
        if let Some((index, reason)) = self.updates.turn(&mut self.table, now) {
            self.close(index, reason);
        }
        self.streamed = None;
        let mut newest = camera.newest();
        // The table can shrink meanwhile, but not grow.
        for index in 0..self.table.used() {
            if !self.table.is_due(index, now, &self.limits) {
                continue;
            }
            let mut calls = CALLS_PER_TURN;
            while self.serve(index, now, camera, newest.as_ref(), &mut calls) {
                let acted = self.act(index, now, camera);
                newest = camera.newest();
                if let Err(reason) = acted {
                    self.close(index, reason);
                    break;
                }
            }
        }
        self.lacks_key |= self.sinks.turn(camera, &mut self.renditions, now);
        if std::mem::take(&mut self.lacks_key) {
            camera.ask_key(now);
        }
        self.judge(now);
        self.renditions.dispatch(camera.newest().as_ref(), now);
        // Some gave way to others, or were told something by those behind them.
        self.table.is_any_marked() || self.door.is_busy()
    }

    /// Lets the door look on at passwords, and tells those who wait for what has come of it.
    fn judge(&mut self, now: Instant) {
        let Some(judged) = self.door.turn(now) else {
            return;
        };
        for (place, client) in judged.clients.iter().enumerate() {
            let Some(slot) = self.table.find(*client) else {
                continue;
            };
            slot.with_session(|session| match session {
                Protocol::Http(http) => http.judge(judged.verdict.clone()),
                Protocol::Call(call) => call.judge(judged.verdict.clone()),
                other => unreachable!("{other:?} shows nothing"),
            });
            let index = usize::from(client.index);
            let is_http = matches!(slot.session(), Some(Protocol::Http(_)));
            // Those of calls are counted where they are told.
            if judged.is_wrong && place == 0 && is_http {
                let (slot, listener) = self.table.with_listener(index);
                listener.deny(&slot.peer);
            }
            self.table.mark(index);
        }
    }

    /// A request shows something to be let in.
    fn ask(&mut self, index: usize, claim: &Claim, now: Instant) {
        let client = self.table.id(index);
        let (slot, listener) = self.table.with_listener(index);
        let place = match slot.session() {
            Some(Protocol::Http(http)) => Household::of(http.client()),
            other => unreachable!("{other:?} shows nothing"),
        };
        let shown = match claim {
            Claim::Password { user, password } => Shown::Password {
                name: user,
                password,
            },
            Claim::Token(token) => Shown::Token(token),
        };
        let Answer::Verdict(verdict) = self.door.ask(shown, place, client, now) else {
            return;
        };
        if verdict == Verdict::Nobody {
            listener.deny(&slot.peer);
        }
        slot.with_session(|session| {
            if let Protocol::Http(http) = session {
                http.judge(verdict);
            }
        });
    }

    /// Advances a client, in so many steps at most. True if it refers something that is to be acted on.
    fn serve<C: Source>(
        &mut self,
        index: usize,
        now: Instant,
        camera: &Camera<C>,
        newest: Option<&Frame<'_>>,
        calls: &mut usize,
    ) -> bool {
        while *calls > 0 {
            *calls -= 1;
            let slot = self.table.slot_mut(index);
            if slot.is_free() {
                return false;
            }
            let lent = on_loan(slot, newest);
            let turn = slot.advance(now, &self.limits, lent);
            let more = match turn {
                Turn::Wait => return false,
                Turn::Again => break,
                Turn::WantsFrame if self.table.slot(index).wants_chain() => {
                    self.offer_unit(index, now, camera)
                }
                Turn::WantsFrame if self.send_away(index, now, camera) => Ok(true),
                Turn::WantsFrame => self.offer(index, now, newest),
                Turn::Refers => return true,
                Turn::WantsPlace => {
                    // Whatever the answer, it is heard again.
                    self.calls.seat(&mut self.table, index, now);
                    Ok(true)
                }
                Turn::Closed(reason) => Err(reason),
            };
            match more {
                Ok(true) => {}
                Ok(false) => return false,
                Err(reason) => {
                    self.close(index, reason);
                    return false;
                }
            }
        }
        self.table.mark(index);
        false
    }

    /// A client that wants one live picture is told at once that the camera has none. True if that is so.
    fn send_away<C: Source>(&mut self, index: usize, now: Instant, camera: &Camera<C>) -> bool {
        let why = match camera.condition() {
            Condition::Fault => camera.reason(),
            _ if camera.chain().is_some() => CHAIN_ALONE,
            _ => return false,
        };
        let slot = self.table.slot_mut(index);
        let is_vain = slot.wants_live();
        if is_vain {
            slot.no_picture(why);
            self.sent_away = Some(now);
        }
        is_vain
    }

    /// Hands the next picture of those that lean on one another to a slot that wants it. False: there is nothing more for it
    /// now.
    #[inline(never)]
    fn offer_unit<C: Source>(
        &mut self,
        index: usize,
        now: Instant,
        camera: &Camera<C>,
    ) -> Result<bool, CloseReason> {
        let (slot, listener) = self.table.with_listener(index);
        let last = slot.subscription.sequence();
        let form = slot.form();
        let Some(chain) = camera.chain() else {
            // In trouble, it may come back as it was. What gives something else now never does.
            let (why, is_for_good) = match camera.condition() {
                Condition::Idle | Condition::Starting => return Ok(false),
                Condition::Fault => (camera.reason(), false),
                Condition::Live => (NO_CHAIN, true),
            };
            return match form {
                // It can be told nothing.
                Form::Stream if is_for_good => {
                    listener.tell_no_film();
                    Err(CloseReason::NoFilm)
                }
                Form::Jpeg | Form::Text if last == 0 => {
                    slot.no_picture(why);
                    self.sent_away = Some(now);
                    Ok(true)
                }
                _ if is_for_good => Err(CloseReason::Done),
                _ => Ok(false),
            };
        };
        let Some(unit) = chain.after(last, now) else {
            self.lacks_key |= chain.lacks_key(last);
            return Ok(false);
        };
        if !slot.ready(now, None)? {
            return Ok(false);
        }
        if form == Form::Stream {
            let number = unit.meta.sequence;
            if self.streamed != Some(number) {
                self.stream.set_len(unit.sample.len());
                unit.write_stream(&mut self.stream.spare()[..unit.sample.len()]);
                self.streamed = Some(number);
            }
            let sample = self.stream.as_slice();
            slot.offer_unit(&Unit { sample, ..unit }, now)?;
        } else {
            slot.offer_unit(&unit, now)?;
        }
        Ok(true)
    }

    /// Hands the picture that there is to a slot that wants one. False: there is nothing more for it now.
    fn offer(
        &mut self,
        index: usize,
        now: Instant,
        newest: Option<&Frame<'_>>,
    ) -> Result<bool, CloseReason> {
        let is_late = self.table.slot(index).is_late();
        let next = is_late.then(|| self.next(now)).flatten();
        let (slot, listener) = self.table.with_listener(index);
        let is_news = |meta: &FrameMeta| slot.is_news(meta);
        let Some(news) = self.renditions.news(newest, is_news) else {
            return Ok(false);
        };
        if !slot.ready(now, next)? {
            return Ok(false);
        }
        let rung = match &listener.goal {
            Some(goal) if slot.is_adaptable() => slot.subscription.choose_rung(goal, news, now),
            _ => 0,
        };
        let (own, wish) = (&listener.profile, &slot.subscription.wish);
        let profile = if wish.is_of_the_picture() {
            let (news, is_stream) = (*news, slot.is_adaptable());
            self.renditions
                .settle(own, rung, wish, &news, is_stream, now)
        } else {
            own.rung(rung)
        };
        if self.renditions.stamps()
            && let Some(frame) = newest
        {
            listener.tell_unstamped(frame, profile);
        }
        let is_news = |meta: &FrameMeta| slot.is_news(meta);
        let newest_sequence = newest.map(|frame| frame.meta.sequence);
        let made = self.renditions.get(newest, profile, now, is_news);
        let made = made.and_then(|(meta, jpeg)| {
            let payload = match slot.form() {
                Form::Jpeg => jpeg,
                Form::Text => self.calls.text(profile, meta, jpeg)?,
                Form::Stream => unreachable!("it wants a chain"),
            };
            Some((meta, payload))
        });
        let Some((meta, payload)) = made else {
            slot.subscription.unserved();
            return Ok(false);
        };
        // The camera's own JPEG, untouched: it lies there until there is a newer one.
        let stays = matches!(newest, Some(Frame { picture: Picture::Jpeg(jpeg), .. }) if std::ptr::eq(*jpeg, payload));
        slot.offer(meta, payload, stays, now)?;
        self.lends |= slot.on_loan().is_some();
        // Where it is cropped, what it says itself of how it is to be turned has been done, too.
        let (stored, orientation) = match meta.crop {
            None => (meta.stored(), meta.orientation),
            Some(area) => (area.size(), meta.turning()),
        };
        let is_newest = newest_sequence == Some(meta.sequence);
        slot.subscription.stats.kind = Some(Kind {
            stored,
            orientation,
            bounds: profile.bounds,
            quality: self.renditions.quality(),
        });
        // What has come from the device can be older than the newest picture, which is then to be made; and a request may
        // wait behind the one that was answered.
        Ok(!is_newest || slot.state() == State::Idle)
    }

    /// Acts on what a slot's session has referred. Not a part of [`Hub::turn`], which would prepare for it with each picture.
    #[inline(never)]
    fn act<C: Source>(
        &mut self,
        index: usize,
        now: Instant,
        camera: &mut Camera<C>,
    ) -> Result<(), CloseReason> {
        match self.table.slot(index).session() {
            Some(Protocol::Call(_)) => {
                return self.calls.act(&mut self.table, &mut self.door, index, now);
            }
            Some(Protocol::Http(_)) => {}
            other => unreachable!("{other:?} refers nothing"),
        }
        if pages::is_update(&self.table, index) {
            self.updates.pass_on(&mut self.table, index, now);
            return Ok(());
        }
        if let Some(claim) = pages::claim(&mut self.table, index) {
            self.ask(index, &claim, now);
            return Ok(());
        }
        let request = pages::request(&mut self.table, index);
        if let Request::Update(update) = request {
            let begun = self.updates.begin(&mut self.table, index, update, now);
            if let Err((status, why)) = begun {
                pages::refuse(&mut self.table, index, status, why);
            }
            return Ok(());
        }
        let asker = Asker::of(&self.table, index);
        // The page is written while all slots can be seen, and then copied to the one that asked.
        let mut page = std::mem::replace(&mut self.page, FrameBuf::new(0));
        let what = pages::write(&self.view(), request, &asker, camera, now, &mut page);
        pages::reply(&mut self.table, index, what, &page);
        self.page = page;
        Ok(())
    }

    /// What the pages show of it.
    pub fn view(&self) -> View<'_, S> {
        View {
            table: &self.table,
            calls: &self.calls,
            renditions: &self.renditions,
            sinks: &self.sinks,
            config_errors: &self.config_errors,
            board: self.board.as_deref(),
            updates: self.updates.are_possible(),
            neighbours: &self.neighbours,
            started: self.started,
        }
    }

    #[inline(never)]
    fn close(&mut self, index: usize, reason: CloseReason) {
        self.calls.close(&mut self.table, index, reason);
    }

    /// Closes all connections, at the end.
    pub fn shutdown(&mut self) {
        for index in 0..SLOTS {
            if !self.table.slot(index).is_free() {
                self.close(index, CloseReason::Shutdown);
            }
        }
        self.renditions.follow(None);
        self.sinks.shutdown();
    }
}

/// What a slot is being sent from where it lies.
///
/// # Panics
/// If the camera has another picture by now: [`Hub::keep`] was not called.
fn on_loan<'a, S: Stream>(slot: &Slot<S>, newest: Option<&Frame<'a>>) -> Option<&'a [u8]> {
    let sequence = slot.on_loan()?;
    match newest {
        Some(Frame {
            meta,
            picture: Picture::Jpeg(jpeg),
        }) if meta.sequence == sequence => Some(jpeg),
        _ => unreachable!("picture {sequence} went while a client was getting it"),
    }
}
