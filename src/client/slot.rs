//! One client: its connection, its own copy of a picture, and where the two stand.
//!
//! A slot knows neither the poll nor the clock nor any protocol. It puts three things together: a [`Link`], whose bytes
//! they are, a [session](crate::protocol::session), which says what they mean, and the copy. It acts only in
//! [`Slot::advance`] and [`Slot::offer`], which go as far as the socket allows.
//!
//! The copy is made as late as can be. A picture goes out from where it lies, and as long as it lies there the rest of it
//! does, too. Before it goes [`Slot::keep`] takes what the client has not got yet: for one that keeps up with the
//! camera, that is nothing.

use std::io::Write;
use std::net::IpAddr;
use std::time::Instant;

use super::delivery::{Delivery, Progress};
use super::link::{Link, Stream};
use super::subscription::Subscription;
use crate::config::LimitsConfig;
use crate::limits::{CONTROL_QUEUE, INPUT, LINGER_CLOSE, RECORD};
use crate::measure::times::first;
use crate::picture::chain::Unit;
use crate::picture::frame::{FrameBuf, FrameMeta};
use crate::protocol::Protocol;
use crate::protocol::name::Name;
use crate::protocol::session::{
    Chunk, CloseReason, Form, Heard, Late, Moment, NoRoom, Reply, State, Wants,
};
use crate::system::household::{Household, address_of};

/// Reads in one turn of one slot, so that a peer that floods us cannot keep the others waiting.
const READS_PER_TURN: usize = 4;

/// Who is at the other end, as text for the log and for `/state`.
pub type Peer = heapless::String<64>;

/// For whom places are kept beyond those of a listener; see [`super::places`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A user who has logged in.
    User,
    /// A program on this machine.
    Local,
}

/// What [`Slot::advance`] came to.
#[derive(Debug)]
pub enum Turn {
    /// It goes on with the next readiness event or deadline.
    Wait,
    /// There is more input to take in, at the next turn.
    Again,
    /// A newer picture can go out: [`Slot::offer`] it, if there is one.
    WantsFrame,
    /// The session refers its input to those who see more than one client. They have it from [`Slot::session`] and
    /// [`Slot::input`], and answer by [`Slot::reply`] or [`Slot::tell`].
    Refers,
    /// A client that has no place asks for what takes one.
    WantsPlace,
    /// The connection is over: [`Slot::close`] it.
    Closed(CloseReason),
}

/// What there is of a client while it is connected.
struct Connected<S> {
    link: Link<S>,
    session: Protocol,
}

/// A connection and everything that belongs to it.
///
/// Invariants (asserted after each step, in debug builds):
/// - without connection the slot is free: it holds nothing.
/// - a link that is closing sends nothing.
/// - the link's and the delivery's own.
pub struct Slot<S> {
    connected: Option<Connected<S>>,
    /// Tells two connections in one slot apart.
    pub generation: u16,
    /// Who is connected; of the last connection while the slot is free.
    pub peer: Peer,
    /// With whom it shares places.
    pub origin: Household,
    /// When it connected.
    pub came: Instant,
    /// Which listener accepted it.
    pub listener: usize,
    /// Holds no pictures: it exists to say that there is no room, and for what takes none.
    pub refusal: bool,
    /// Its place is one of those that are kept beyond its listener's `clients`, for clients such as this.
    pub kept: Option<Kept>,
    /// What is on its way, and the client's own copy of it.
    delivery: Delivery,
    input: FrameBuf,
    /// What the client is to be told when what is being sent is through.
    outbox: FrameBuf,
    /// There was no room in it.
    overflowed: bool,
    /// Until when it waits for a picture that is about to come, rather than begin with the one that there is.
    awaits: Option<Instant>,
    /// When the current wait for the peer's word, for a picture or for the end began.
    since: Instant,
    /// Which pictures the client gets, and what it got so far.
    pub subscription: Subscription,
}

/// Why nothing but a taken slot is asked for its connection.
const TAKEN: &str = "only a taken slot is advanced";

impl<S: Stream> Slot<S> {
    /// A free slot that can hold pictures of `capacity` bytes.
    pub fn new(capacity: usize, refusal: bool, now: Instant) -> Self {
        Slot {
            connected: None,
            generation: 0,
            peer: Peer::new(),
            origin: Household::Here,
            came: now,
            listener: 0,
            refusal,
            kept: None,
            delivery: Delivery::new(capacity),
            input: FrameBuf::new(INPUT),
            outbox: FrameBuf::new(0),
            overflowed: false,
            awaits: None,
            since: now,
            subscription: Subscription::new(None),
        }
    }

    /// Takes the memory that a protocol needs whose clients send each other messages and pictures, where places hold
    /// pictures of `capacity` bytes: a slot may become a place.
    pub fn for_messages(mut self, capacity: usize) -> Self {
        self.input = FrameBuf::new(RECORD.min(capacity));
        self.outbox = FrameBuf::new(CONTROL_QUEUE.min(capacity));
        self
    }

    /// Nobody is connected.
    pub fn is_free(&self) -> bool {
        self.connected.is_none()
    }

    /// The connection itself, while the slot is taken.
    pub fn stream(&mut self) -> Option<&mut S> {
        self.connected.as_mut().map(|it| it.link.stream())
    }

    /// Who encrypts its connection, and how; `None`: nobody.
    pub fn encryption(&self) -> Option<&'static str> {
        self.connected.as_ref()?.link.encryption()
    }

    /// Takes a connection in. `max_fps`: pictures per second that it gets at most; a snapshot is none of them.
    ///
    /// # Panics
    /// If the slot is not free.
    pub fn open(
        &mut self,
        stream: S,
        peer: Peer,
        listener: usize,
        session: Protocol,
        max_fps: Option<u16>,
        now: Instant,
    ) {
        assert!(self.is_free(), "the slot is taken");
        self.generation = self.generation.wrapping_add(1);
        (self.origin, self.came) = (Household::sharing(address_of(&peer)), now);
        (self.peer, self.listener) = (peer, listener);
        self.connected = Some(Connected {
            link: Link::new(stream),
            session,
        });
        self.since = now;
        self.subscription = Subscription::new(max_fps);
        self.check();
    }

    /// Ends the connection and frees the slot.
    pub fn close(&mut self) {
        self.connected = None;
        (self.kept, self.overflowed, self.awaits) = (None, false, None);
        self.delivery.clear();
        self.input.clear();
        self.outbox.clear();
    }

    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let link = self.connected.as_ref().map(|it| &it.link);
        self.delivery.check(link.map(|link| &link.out));
        if let Some(link) = link {
            let sends = self.delivery.is_under_way();
            assert!(!link.is_closing() || !sends, "closing while sending");
            link.check();
        }
    }

    /// A readiness event. Acts on nothing.
    pub fn mark(&mut self, readable: bool, writable: bool) {
        // A picture of another user that the socket did not take is waited for by nobody.
        let waiting = self.state() != State::Idle;
        if let Some(it) = &mut self.connected {
            it.link.mark(readable, writable, waiting);
        }
    }

    /// Where it stands: what it holds comes first, then what its session wants.
    pub fn state(&self) -> State {
        match &self.connected {
            _ if self.delivery.is_under_way() => State::Sending,
            Some(Connected { link, session })
                if !link.is_closing() && session.wants() != Wants::Nothing =>
            {
                State::AnnouncePending
            }
            _ => State::Idle,
        }
    }

    fn moment(&self) -> Moment {
        match self.state() {
            State::Idle => Moment::Idle,
            State::AnnouncePending => Moment::AnnouncePending,
            State::Sending => match &self.connected {
                Some(it) if it.link.out.left() > 0 => Moment::MidChunk,
                _ => Moment::AwaitingAck,
            },
        }
    }

    /// Its session, while it is taken.
    pub fn session(&self) -> Option<&Protocol> {
        self.connected.as_ref().map(|it| &it.session)
    }

    /// The user at the other end, once that is known.
    pub fn user(&self) -> Option<&Name> {
        self.session().and_then(Protocol::user)
    }

    /// See [`crate::protocol::session::Session::is_logged_in`].
    pub fn is_logged_in(&self) -> bool {
        self.session().is_some_and(Protocol::is_logged_in)
    }

    /// The address of its client, in its canonical form; `None`: this machine, by a Unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        address_of(&self.peer)
    }

    /// Lets something happen to its session from outside.
    ///
    /// # Panics
    /// If the slot is free.
    pub fn with_session<R>(&mut self, act: impl FnOnce(&mut Protocol) -> R) -> R {
        let session = &mut self.connected.as_mut().expect(TAKEN).session;
        let followed = session.follows();
        let result = act(session);
        if session.follows() != followed {
            self.subscription.readapt();
        }
        self.check();
        result
    }

    /// There is no room for the client. False: its protocol has no words for that.
    ///
    /// # Panics
    /// If the slot is free.
    pub fn turn_away(&mut self, why: NoRoom) -> bool {
        let session = &mut self.connected.as_mut().expect(TAKEN).session;
        session.turn_away(why, &mut self.outbox)
    }

    /// Gives what makes it a place, its room for pictures, to one that is none, and becomes what that was.
    ///
    /// # Panics
    /// If something is being sent from one of them.
    pub fn hand_over(&mut self, to: &mut Self) {
        assert!(!self.refusal && to.refusal, "from a place to none");
        let sends = self.is_sending() || to.is_sending();
        assert!(!sends, "what is being sent stays");
        std::mem::swap(&mut self.delivery, &mut to.delivery);
        (self.refusal, to.refusal) = (true, false);
        to.kept = self.kept.take();
        self.check();
        to.check();
    }

    /// It is being sent something, wants a picture, or watches: its place is taken from nobody for another's sake.
    pub fn is_engaged(&self) -> bool {
        let watches = |session: &Protocol| session.watches(self.state());
        self.state() != State::Idle || self.session().is_some_and(watches)
    }

    /// Something is on its way to it.
    pub fn is_sending(&self) -> bool {
        self.delivery.is_under_way()
    }

    /// Its last words are out, and the peer's end is all that it waits for.
    pub fn is_closing(&self) -> bool {
        self.connected
            .as_ref()
            .is_some_and(|it| it.link.is_closing())
    }

    /// Since when nothing is wanted of it.
    pub fn idle_since(&self) -> Instant {
        self.since
    }

    /// What has come in and was not taken yet.
    pub fn input(&self) -> &FrameBuf {
        &self.input
    }

    /// Something has happened for which its client, or the other side, is not late.
    pub fn touch(&mut self, now: Instant) {
        self.since = now;
    }

    /// The first `n` bytes of it have been acted on.
    pub fn consume(&mut self, n: usize) {
        self.input.consume(n);
    }

    /// Bytes of the current picture or reply that the kernel has not taken yet.
    pub fn unsent(&self) -> usize {
        let left = |it: &Connected<S>| self.delivery.left(&it.link.out);
        self.connected.as_ref().map_or(0, left)
    }

    /// Bytes of all that its client was sent.
    pub fn bytes(&self) -> u64 {
        self.connected.as_ref().map_or(0, |it| it.link.taken())
    }

    /// Someone is there for whom the camera must run.
    pub fn is_viewer(&self) -> bool {
        let connected = self.connected.as_ref().filter(|_| !self.refusal);
        connected.is_some_and(|it| !it.link.is_closing() && it.session.watches(self.state()))
    }

    /// The camera has a new picture. True if it can be offered.
    pub fn on_frame(&mut self) -> bool {
        if let Some(it) = &mut self.connected {
            it.link.outpace();
        }
        self.subscription.on_frame();
        self.wants_frame()
    }

    /// A picture can be offered: it is wanted, and the socket may have room.
    pub fn wants_frame(&self) -> bool {
        let is_writable = |it: &Connected<S>| it.link.is_writable();
        self.state() == State::AnnouncePending && self.connected.as_ref().is_some_and(is_writable)
    }

    /// Only a live picture will do.
    pub fn wants_live(&self) -> bool {
        self.session().is_some_and(|it| it.wants() == Wants::Live)
    }

    /// It takes pictures that lean on one another, and no others.
    pub fn wants_chain(&self) -> bool {
        self.session().is_some_and(|it| it.wants() == Wants::Chain)
    }

    /// Whether this connection is one that goes on from picture to picture, so that it can be adapted: a snapshot is what
    /// was asked for.
    pub fn is_adaptable(&self) -> bool {
        !self.refusal && self.session().is_some_and(Protocol::follows)
    }

    /// In which form it takes pictures.
    pub fn form(&self) -> Form {
        self.session().map_or(Form::Jpeg, Protocol::form)
    }

    /// Whether this picture would be news to the client. A snapshot is, unless it is older than the last one: it is asked
    /// for, not followed.
    pub fn is_news(&self, meta: &FrameMeta) -> bool {
        if self.wants_live() {
            return meta.live && self.subscription.is_current(meta);
        }
        let own = self.session().and_then(|session| session.news(meta));
        own.unwrap_or_else(|| self.subscription.is_due(meta))
    }

    /// When the peer's patience with us, or ours with it, ends; `advance` then acts.
    pub fn deadline(&self, limits: &LimitsConfig) -> Option<Instant> {
        let Connected { link, session } = self.connected.as_ref()?;
        let stalled = link.deadline(limits.write_timeout);
        let ends = first(stalled, self.patience(limits));
        first(first(ends, session.paused()), self.awaits)
    }

    /// When the peer will have been silent for too long.
    fn patience(&self, limits: &LimitsConfig) -> Option<Instant> {
        let Connected { link, session } = self.connected.as_ref()?;
        let patience = match self.moment() {
            // What it holds is lost with the connection: `stalled` runs.
            _ if link.is_closing() && link.holds() => None,
            _ if link.is_closing() => Some(LINGER_CLOSE),
            Moment::MidChunk => None,
            moment => session.patience(moment, limits.patience()),
        };
        patience.map(|patience| self.since + patience)
    }

    /// The picture that is being sent from where it lies, by its sequence.
    pub fn on_loan(&self) -> Option<u64> {
        self.delivery.on_loan()
    }

    /// The picture on loan goes: keeps the rest of it.
    ///
    /// # Panics
    /// If nothing is on loan.
    pub fn keep(&mut self, picture: &[u8]) {
        let link = &self.connected.as_ref().expect(TAKEN).link;
        self.delivery.keep(&link.out, picture);
        self.check();
    }

    /// Does everything that can be done now: writes, reads, parses, until the peer or the camera has to act. `lent`: the
    /// picture that is [`Slot::on_loan`].
    ///
    /// # Panics
    /// If one is on loan and not there.
    pub fn advance(&mut self, now: Instant, limits: &LimitsConfig, lent: Option<&[u8]>) -> Turn {
        assert!(
            self.on_loan().is_none() || lent.is_some(),
            "the picture on loan is gone"
        );
        let turn = self.run(now, limits, lent).unwrap_or_else(Turn::Closed);
        self.check();
        turn
    }

    fn run(
        &mut self,
        now: Instant,
        limits: &LimitsConfig,
        lent: Option<&[u8]>,
    ) -> Result<Turn, CloseReason> {
        self.look_at_the_time(now, limits)?;
        let link = &mut self.connected.as_mut().expect(TAKEN).link;
        if link.push(now)? && link.is_closing() {
            // Now it is the peer's turn.
            self.since = now;
        }
        if self.overflowed {
            return Err(CloseReason::Overflow);
        }
        if self.waits_for_a_picture_alone() {
            return Ok(Turn::WantsFrame);
        }
        let mut reads = 0;
        loop {
            self.write_own(now, lent)?;
            match self.hear(now)? {
                Heard::Waits => {}
                Heard::Refers => return Ok(Turn::Refers),
                Heard::WantsPlace => return Ok(Turn::WantsPlace),
                _ => continue,
            }
            let Connected { link, session } = self.connected.as_ref().expect(TAKEN);
            if link.is_at_eof() && (link.is_closing() || session.ends_at_eof(self.state())) {
                return Err(CloseReason::Done);
            }
            let limit = session.input_limit().min(self.input.capacity());
            let has_room = self.input.len() < limit && session.paused().is_none();
            if !link.is_readable() || !has_room {
                break;
            }
            if reads == READS_PER_TURN {
                return Ok(Turn::Again);
            }
            reads += 1;
            let link = &mut self.connected.as_mut().expect(TAKEN).link;
            link.read(&mut self.input, limit)?;
        }
        Ok(if self.wants_frame() {
            Turn::WantsFrame
        } else {
            Turn::Wait
        })
    }

    /// There is nothing to write, to read or to take in: what most turns find, as they are for a new picture.
    fn waits_for_a_picture_alone(&self) -> bool {
        let link = &self.connected.as_ref().expect(TAKEN).link;
        let hears = link.is_readable() || link.is_at_eof() || !self.input.is_empty();
        !hears && self.outbox.is_empty() && self.wants_frame()
    }

    /// Acts on deadlines that have passed.
    fn look_at_the_time(&mut self, now: Instant, limits: &LimitsConfig) -> Result<(), CloseReason> {
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let link = &self.connected.as_ref().expect(TAKEN).link;
        if is_over(link.deadline(limits.write_timeout)) {
            return Err(CloseReason::WriteTimeout);
        }
        if !is_over(self.patience(limits)) {
            return Ok(());
        }
        let moment = self.moment();
        let Connected { link, session } = self.connected.as_mut().expect(TAKEN);
        if link.is_closing() {
            return Err(CloseReason::Done);
        }
        let reply = self.delivery.reply(&mut link.out);
        match session.late(moment, &mut self.input, reply) {
            Late::Close(reason) => Err(reason),
            Late::Reply => {
                self.delivery.begin_reply(&mut link.out);
                Ok(())
            }
            Late::Stays => Ok(()),
        }
    }

    /// Lets the session take in what has come. What it asks of the slot is done at once.
    fn hear(&mut self, now: Instant) -> Result<Heard, CloseReason> {
        let moment = self.moment();
        let Connected { link, session } = self.connected.as_mut().expect(TAKEN);
        if link.is_closing() {
            self.input.clear();
            return Ok(Heard::Waits);
        }
        let reply = self.delivery.reply(&mut link.out);
        let heard = session.hear(moment, now, &mut self.input, reply)?;
        match heard {
            Heard::Asked => {
                self.subscription.wish = session.wish();
                if session.wants() == Wants::Chain {
                    self.subscription.begin_chain();
                }
                self.since = now;
            }
            Heard::NextPart => {
                link.out.head.clear();
                let sent = link.out.sent();
                let chunk = session.next_part(self.delivery.whole(), sent, &mut link.out.head);
                link.out.begin(chunk);
            }
            Heard::Reply => {
                self.subscription.wish = session.wish();
                if session.follows() {
                    self.subscription.slow_down();
                }
                self.delivery.begin_reply(&mut link.out);
            }
            Heard::Waits | Heard::Acted | Heard::Refers | Heard::WantsPlace => {}
        }
        Ok(heard)
    }

    /// Writes what is being sent, chunk after chunk as far as the session goes on by itself.
    fn write_own(&mut self, now: Instant, lent: Option<&[u8]>) -> Result<(), CloseReason> {
        self.write_on(now, lent)?;
        while !self.delivery.is_under_way() && !self.outbox.is_empty() {
            // All of it at once.
            let link = &mut self.connected.as_mut().expect(TAKEN).link;
            self.delivery
                .begin_copy(&mut link.out, self.outbox.as_slice());
            self.outbox.clear();
            self.write_on(now, None)?;
        }
        Ok(())
    }

    fn write_on(&mut self, now: Instant, lent: Option<&[u8]>) -> Result<(), CloseReason> {
        let link = &mut self.connected.as_mut().expect(TAKEN).link;
        let progress = self.delivery.write(link, lent, now)?;
        self.settle(progress, now)
    }

    /// The last byte of a picture or a reply is written.
    fn finish(&mut self, now: Instant) -> Result<(), CloseReason> {
        let Connected { link, session } = self.connected.as_mut().expect(TAKEN);
        self.since = now;
        if self.delivery.finish(&mut link.out) {
            self.subscription.got(now);
        }
        if session.sets_the_pace() {
            self.subscription.rests(now);
        }
        if session.sent() && self.outbox.is_empty() {
            link.shut(now)?;
        }
        Ok(())
    }

    /// Sends what `write` makes of its session, in reply to what that referred.
    ///
    /// # Panics
    /// If something is being sent.
    pub fn reply(&mut self, write: impl FnOnce(&mut Protocol, Reply<'_>)) {
        let is_free = !self.delivery.is_under_way();
        assert!(is_free, "a reply into a reply");
        let Connected { link, session } = self.connected.as_mut().expect(TAKEN);
        write(session, self.delivery.reply(&mut link.out));
        self.delivery.begin_reply(&mut link.out);
    }

    /// The camera is in trouble: the live picture that the session waits for will not come, and the client is told why.
    pub fn no_picture(&mut self, why: &str) {
        self.reply(|session, reply| session.no_picture(why, reply));
    }

    /// Says something to the client when what is being sent is through. If there is no room for it, the connection ends
    /// with the next turn: a client that does not take what it must know is as good as gone.
    pub fn tell(&mut self, record: &[u8]) {
        if self.outbox.capacity() - self.outbox.len() < record.len() {
            self.overflowed = true;
            return;
        }
        self.outbox
            .write_all(record)
            .expect("it was measured against the room");
    }

    /// The first `n` bytes of the input go back to where they came from.
    pub fn echo(&mut self, n: usize) {
        let input = std::mem::replace(&mut self.input, FrameBuf::new(0));
        self.tell(&input.as_slice()[..n]);
        self.input = input;
    }

    /// Its last picture was still on its way when there was a newer one.
    pub fn is_late(&self) -> bool {
        self.connected.as_ref().is_some_and(|it| it.link.is_slow())
    }

    /// Whether a picture can begin now: to be asked before it is offered. See [`Link::ready`]. `next`: a newer one is about
    /// to come, by then. A client that is late anyway waits for it: it has the last one's bytes to read meanwhile, from
    /// its own kernel, and the picture that there is would be older by all of an interval when it is through.
    pub fn ready(&mut self, now: Instant, next: Option<Instant>) -> Result<bool, CloseReason> {
        let link = &mut self.connected.as_mut().expect(TAKEN).link;
        self.awaits = None;
        if !link.ready(now)? {
            return Ok(false);
        }
        if link.is_slow() && next.is_some() {
            self.awaits = next;
            return Ok(false);
        }
        link.catch_up();
        Ok(true)
    }

    /// Lends a picture that goes out straight away as far as the socket takes it. `stays`: the rest may go out from where it
    /// lies, until [`Slot::keep`]; if not it is copied at once. Where the socket takes nothing the slot is not bound to
    /// this picture, so that it can begin with a newer one.
    ///
    /// # Panics
    /// In debug builds, if the slot does not want a picture: [`Turn::WantsFrame`] says that it does.
    pub fn offer(
        &mut self,
        meta: &FrameMeta,
        jpeg: &[u8],
        stays: bool,
        now: Instant,
    ) -> Result<(), CloseReason> {
        debug_assert!(
            self.wants_frame(),
            "a picture for a slot that is {:?}",
            self.state()
        );
        let Connected { link, session } = self.connected.as_mut().expect(TAKEN);
        let chunk = session.begin(meta, jpeg.len(), &mut link.out.head);
        self.lend(chunk, meta, jpeg, stays, now)
    }

    /// The picture that is framed goes out. See [`Slot::offer`].
    fn lend(
        &mut self,
        chunk: Chunk,
        meta: &FrameMeta,
        picture: &[u8],
        stays: bool,
        now: Instant,
    ) -> Result<(), CloseReason> {
        let Connected { link, session } = self.connected.as_mut().expect(TAKEN);
        let whole = session.whole(picture.len());
        let progress = self.delivery.lend(link, chunk, picture, whole, now)?;
        match progress {
            Progress::Nothing => return Ok(()),
            Progress::Whole => {}
            _ if stays => self.delivery.leave(meta.sequence),
            _ => self.delivery.copy_rest(&link.out, picture),
        }
        session.began(meta);
        let adapts = meta.live && !self.refusal && session.follows();
        self.subscription.began(meta, picture.len(), adapts, now);
        self.settle(progress, now)
    }

    /// As [`Slot::offer`], of a picture of those that lean on one another: [`Slot::wants_chain`] says that it takes these.
    pub fn offer_unit(&mut self, unit: &Unit<'_>, now: Instant) -> Result<(), CloseReason> {
        let Connected { link, session } = self.connected.as_mut().expect(TAKEN);
        let chunk = session.begin_unit(unit, &mut link.out.head);
        self.lend(
            chunk.ok_or(CloseReason::Done)?,
            &unit.meta,
            unit.sample,
            false,
            now,
        )
    }

    /// Passes a picture of another client on, if it can go out at once. If not it is dropped: when there is room again,
    /// there will be a newer one.
    pub fn pass(&mut self, record: &[u8], now: Instant) -> Result<(), CloseReason> {
        // Nothing overtakes what was said before.
        if self.on_loan().is_none() {
            self.write_own(now, None)?;
        }
        let is_free = !self.delivery.is_under_way();
        let link = &mut self.connected.as_mut().expect(TAKEN).link;
        let is_free = is_free && link.is_writable() && !link.is_closing();
        if !is_free {
            link.outpace();
        }
        if !is_free || !self.ready(now, None)? {
            self.subscription.stats.skipped += 1;
            return Ok(());
        }
        let chunk = Chunk {
            payload: record.len(),
            tail: b"",
        };
        let link = &mut self.connected.as_mut().expect(TAKEN).link;
        let progress = self.delivery.lend(link, chunk, record, record.len(), now)?;
        match progress {
            Progress::Nothing => self.subscription.stats.skipped += 1,
            Progress::Whole => {}
            _ => self.delivery.copy_rest(&link.out, record),
        }
        self.settle(progress, now)
    }

    fn settle(&mut self, progress: Progress, now: Instant) -> Result<(), CloseReason> {
        match progress {
            Progress::Nothing | Progress::Part => {}
            Progress::Chunk => self.since = now,
            Progress::Whole => self.finish(now)?,
        }
        self.check();
        Ok(())
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
