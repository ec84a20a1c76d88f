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

use super::adapt::{Adapter, Goal};
use super::link::{Link, Stream};
use crate::config::LimitsConfig;
use crate::limits::{CONTROL_QUEUE, INPUT, LINGER_CLOSE, RECORD};
use crate::measure::decimate::Decimator;
use crate::measure::rate::Rate;
use crate::picture::frame::{Bounds, FrameBuf, FrameMeta, Orientation, Size};
use crate::protocol::Protocol;
use crate::protocol::name::Name;
use crate::protocol::session::{
    Chunk, CloseReason, Form, Heard, Late, Moment, Reply, State, Wants, Wish,
};

/// Reads in one turn of one slot, so that a peer that floods us cannot keep the others waiting.
const READS_PER_TURN: usize = 4;

/// Who is at the other end, as text for the log and for `/state`.
pub type Peer = heapless::String<64>;

/// The address in a [`Peer`]; `None`: there is none, as behind a Unix socket.
pub fn address_of(peer: &Peer) -> Option<IpAddr> {
    let (address, _) = peer.rsplit_once(':')?;
    address.parse().ok()
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
    /// The connection is over: [`Slot::close`] it.
    Closed(CloseReason),
}

/// What a picture is like that a client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// As the camera has stored it, and how that is to be turned.
    pub stored: Size,
    /// See `stored`.
    pub orientation: Orientation,
    /// What that was fitted into.
    pub bounds: Bounds,
    /// JPEG quality, 1 to 100; `None`: the camera's own.
    pub quality: Option<u8>,
}

impl Kind {
    /// In pixels.
    pub fn size(&self) -> Size {
        self.bounds.fit(self.orientation.turn(self.stored))
    }
}

/// What a client got, for `/state` and `/metrics`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Pictures sent whole.
    pub frames: u64,
    /// Pictures of the camera between those that it took.
    pub skipped: u64,
    /// Of pictures sent whole, per second.
    pub rate: Rate,
    /// When the picture it got last, or is getting, was captured.
    pub captured: Option<Instant>,
    /// What that one is like.
    pub kind: Option<Kind>,
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
/// - `sending`: `frame` holds what is being sent and nobody changes it, or that is `on_loan` and `frame` is empty;
///   otherwise nothing is left in the link's `out`, nothing is on loan, and `frame` is empty.
/// - a link that is closing sends nothing.
/// - the link's own.
pub struct Slot<S> {
    connected: Option<Connected<S>>,
    /// Tells two connections in one slot apart.
    pub generation: u16,
    /// Who is connected; of the last connection while the slot is free.
    pub peer: Peer,
    /// Which listener accepted it.
    pub listener: usize,
    /// Holds no pictures: it exists to say that there is no room, and for what takes none.
    pub refusal: bool,
    /// A picture or a reply is on its way, or between two of its parts.
    sending: bool,
    /// What is being sent is a picture, not a reply.
    picture: bool,
    /// Which picture is being sent from where it lies, by its sequence.
    on_loan: Option<u64>,
    /// Bytes of what is being sent, in all.
    whole: usize,
    frame: FrameBuf,
    input: FrameBuf,
    /// What the client is to be told when what is being sent is through.
    outbox: FrameBuf,
    /// There was no room in it.
    overflowed: bool,
    /// Until when it waits for a picture that is about to come, rather than begin with the one that there is.
    awaits: Option<Instant>,
    /// When the current wait for the peer's word, for a picture or for the end began.
    since: Instant,
    /// The newest picture this client got or is getting.
    sequence: u64,
    /// Which pictures it gets, where it shall have fewer than there are.
    pace: Option<Decimator>,
    /// How these are to differ from the listener's own: that of its session.
    wish: Wish,
    /// How good they are, on a listener that adapts them to the link.
    adapter: Adapter,
    /// What the client got so far.
    pub stats: Stats,
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
            listener: 0,
            refusal,
            sending: false,
            picture: false,
            on_loan: None,
            whole: 0,
            frame: FrameBuf::new(capacity),
            input: FrameBuf::new(INPUT),
            outbox: FrameBuf::new(0),
            overflowed: false,
            awaits: None,
            since: now,
            sequence: 0,
            pace: None,
            wish: Wish::default(),
            adapter: Adapter::new(),
            stats: Stats::default(),
        }
    }

    /// Takes the memory that a protocol needs whose clients send each other messages and pictures.
    pub fn for_messages(mut self) -> Self {
        let capacity = self.frame.capacity();
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
        (self.peer, self.listener) = (peer, listener);
        self.connected = Some(Connected {
            link: Link::new(stream),
            session,
        });
        self.since = now;
        (self.sequence, self.stats) = (0, Stats::default());
        self.pace = max_fps.map(Decimator::new);
        self.wish = Wish::default();
        self.adapter = Adapter::new();
        self.check();
    }

    /// Ends the connection and frees the slot.
    pub fn close(&mut self) {
        self.connected = None;
        (self.sending, self.picture, self.overflowed) = (false, false, false);
        (self.on_loan, self.awaits) = (None, None);
        self.frame.clear();
        self.input.clear();
        self.outbox.clear();
    }

    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let left = self.connected.as_ref().map_or(0, |it| it.link.out.left());
        assert!(
            self.sending || (left == 0 && self.frame.is_empty() && self.on_loan.is_none()),
            "{:?} holds {} bytes",
            self.state(),
            self.frame.len()
        );
        let kept = if self.on_loan.is_some() {
            0
        } else {
            self.whole
        };
        assert!(
            !self.sending || self.frame.len() == kept,
            "{} bytes kept of {}",
            self.frame.len(),
            self.whole
        );
        if let Some(Connected { link, .. }) = &self.connected {
            assert!(!link.is_closing() || !self.sending, "closing while sending");
            assert!(
                link.out.end() <= self.whole || !self.sending,
                "a chunk ends behind its picture"
            );
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
            _ if self.sending => State::Sending,
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
            self.adapter = Adapter::new();
        }
        self.check();
        result
    }

    /// There is no room for the client of this session, which this slot is opened with then. False: its protocol has no
    /// words for that.
    pub fn turn_away(&mut self, session: &mut Protocol) -> bool {
        session.turn_away(&mut self.outbox)
    }

    /// What has come in and was not taken yet.
    pub fn input(&self) -> &FrameBuf {
        &self.input
    }

    /// The first `n` bytes of it have been acted on.
    pub fn consume(&mut self, n: usize) {
        self.input.consume(n);
    }

    /// Bytes of the current picture or reply that the kernel has not taken yet.
    pub fn unsent(&self) -> usize {
        match &self.connected {
            Some(Connected { link, .. }) if self.sending => {
                link.out.left() + self.whole - link.out.end()
            }
            _ => 0,
        }
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
        self.adapter.on_frame();
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

    /// Whether this connection is one that goes on from picture to picture, so that it can be adapted: a snapshot is what
    /// was asked for.
    pub fn is_adaptable(&self) -> bool {
        !self.refusal && self.session().is_some_and(Protocol::follows)
    }

    /// How its pictures are to differ from its listener's own.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// Pictures per second that it gets at most; `None`: all of them.
    pub fn max_fps(&self) -> Option<u16> {
        self.pace.as_ref().map(|pace| pace.fps().round() as u16)
    }

    /// In which form it takes pictures.
    pub fn form(&self) -> Form {
        self.session().map_or(Form::Jpeg, Protocol::form)
    }

    /// The rung of the picture it got last or is getting, if its listener has this goal.
    pub fn rung(&self, goal: &Goal) -> u8 {
        self.adapter.rung().min(goal.ladder.lowest())
    }

    /// The rung on which it is to get this picture. To be asked when it is [`Slot::ready`].
    pub fn choose_rung(&mut self, goal: &Goal, meta: &FrameMeta, now: Instant) -> u8 {
        if meta.live {
            let max_fps = self.pace.as_ref().map(Decimator::fps);
            self.adapter.choose(goal, max_fps, now)
        } else {
            // The card's size says nothing about the camera's pictures, and it comes rarely.
            self.adapter.pause();
            self.rung(goal)
        }
    }

    /// There was news for it, but no JPEG of it, or none yet.
    pub fn unserved(&mut self) {
        self.adapter.unserved();
    }

    /// Its listener's settings have changed. `adaptive`: it still adapts its clients.
    pub fn reconfigure(&mut self, adaptive: bool) {
        if adaptive {
            self.adapter.pause();
        } else {
            self.adapter = Adapter::new();
        }
    }

    /// Whether this picture would be news to the client. A snapshot is, unless it is older than the last one: it is asked
    /// for, not followed.
    pub fn is_news(&self, meta: &FrameMeta) -> bool {
        if self.wants_live() {
            return meta.live && meta.sequence >= self.sequence;
        }
        if let Some(news) = self.session().and_then(|session| session.news(meta)) {
            return news;
        }
        let due = |pace: &Decimator| pace.wants(meta.captured);
        meta.sequence > self.sequence && self.pace.as_ref().is_none_or(due)
    }

    /// When the peer's patience with us, or ours with it, ends; `advance` then acts.
    pub fn deadline(&self, limits: &LimitsConfig) -> Option<Instant> {
        let Connected { link, session } = self.connected.as_ref()?;
        let stalled = link.deadline(limits.write_timeout);
        let ends = [
            stalled,
            self.patience(limits),
            session.paused(),
            self.awaits,
        ];
        ends.into_iter().flatten().min()
    }

    /// When the peer will have been silent for too long.
    fn patience(&self, limits: &LimitsConfig) -> Option<Instant> {
        let Connected { link, session } = self.connected.as_ref()?;
        let patience = match self.moment() {
            _ if link.is_closing() => Some(LINGER_CLOSE),
            Moment::MidChunk => None,
            moment => session.patience(moment, limits.patience()),
        };
        patience.map(|patience| self.since + patience)
    }

    /// The picture that is being sent from where it lies, by its sequence.
    pub fn on_loan(&self) -> Option<u64> {
        self.on_loan
    }

    /// The picture on loan goes: keeps the rest of it.
    ///
    /// # Panics
    /// If nothing is on loan.
    pub fn keep(&mut self, picture: &[u8]) {
        assert!(self.on_loan.take().is_some(), "nothing is on loan");
        self.copy_rest(picture);
        self.check();
    }

    /// Does everything that can be done now: writes, reads, parses, until the peer or the camera has to act. `lent`: the
    /// picture that is [`Slot::on_loan`].
    ///
    /// # Panics
    /// If one is on loan and not there.
    pub fn advance(&mut self, now: Instant, limits: &LimitsConfig, lent: Option<&[u8]>) -> Turn {
        assert!(
            self.on_loan.is_none() || lent.is_some(),
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
            link.read(&mut self.input, limit).map_err(io)?;
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
        let reply = Reply {
            head: &mut link.out.head,
            body: &mut self.frame,
        };
        match session.late(moment, &mut self.input, reply) {
            Late::Close(reason) => Err(reason),
            Late::Reply => {
                self.begin_reply();
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
        let reply = Reply {
            head: &mut link.out.head,
            body: &mut self.frame,
        };
        let heard = session.hear(moment, now, &mut self.input, reply)?;
        match heard {
            Heard::Asked => {
                self.wish = session.wish();
                self.since = now;
            }
            Heard::NextPart => {
                link.out.head.clear();
                let sent = link.out.sent();
                let chunk = session.next_part(self.whole, sent, &mut link.out.head);
                link.out.begin(chunk);
            }
            Heard::Reply => {
                self.wish = session.wish();
                if session.follows()
                    && let Some(wished) = self.wish.max_fps
                {
                    let least = self.max_fps().map_or(wished, |own| own.min(wished));
                    self.pace = Some(Decimator::new(least));
                }
                self.begin_reply();
            }
            Heard::Waits | Heard::Acted | Heard::Refers => {}
        }
        Ok(heard)
    }

    /// Writes what is being sent, chunk after chunk as far as the session goes on by itself.
    fn write_own(&mut self, now: Instant, lent: Option<&[u8]>) -> Result<(), CloseReason> {
        self.write_on(now, lent)?;
        while !self.sending && !self.outbox.is_empty() {
            // All of it at once.
            self.frame.copy_tail(self.outbox.as_slice(), 0);
            self.outbox.clear();
            self.begin_reply();
            self.write_on(now, None)?;
        }
        Ok(())
    }

    fn write_on(&mut self, now: Instant, lent: Option<&[u8]>) -> Result<(), CloseReason> {
        if !self.sending {
            return Ok(());
        }
        let link = &mut self.connected.as_mut().expect(TAKEN).link;
        if link.out.left() > 0 {
            if !link.is_writable() {
                return Ok(());
            }
            let bytes = match self.on_loan {
                Some(_) => &lent.expect("what is on loan is there")[..self.whole],
                None => self.frame.as_slice(),
            };
            link.write(bytes, now).map_err(io)?;
            if link.out.left() > 0 {
                return Ok(());
            }
            self.since = now;
        }
        if link.out.sent() == self.whole {
            self.finish(now)?;
        }
        Ok(())
    }

    /// The last byte of a picture or a reply is written.
    fn finish(&mut self, now: Instant) -> Result<(), CloseReason> {
        let Connected { link, session } = self.connected.as_mut().expect(TAKEN);
        self.frame.clear();
        self.on_loan = None;
        link.out.reset();
        self.sending = false;
        self.since = now;
        if self.picture {
            self.stats.frames += 1;
            self.stats.rate.tick(now);
        }
        if session.sets_the_pace() {
            self.adapter.end(now);
        }
        if session.sent() && self.outbox.is_empty() {
            link.shut().map_err(io)?;
        }
        Ok(())
    }

    fn begin_reply(&mut self) {
        let link = &mut self.connected.as_mut().expect(TAKEN).link;
        link.out.begin(Chunk {
            payload: self.frame.len(),
            tail: b"",
        });
        (self.picture, self.on_loan) = (false, None);
        self.whole = self.frame.len();
        self.sending = true;
    }

    /// Sends what `write` makes of its session, in reply to what that referred.
    ///
    /// # Panics
    /// If something is being sent.
    pub fn reply(&mut self, write: impl FnOnce(&mut Protocol, Reply<'_>)) {
        assert!(!self.sending, "a reply into a reply");
        let Connected { link, session } = self.connected.as_mut().expect(TAKEN);
        let reply = Reply {
            head: &mut link.out.head,
            body: &mut self.frame,
        };
        write(session, reply);
        self.begin_reply();
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
        if !link.ready(now).map_err(io)? {
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
    /// If the slot does not want a picture.
    pub fn offer(
        &mut self,
        meta: &FrameMeta,
        jpeg: &[u8],
        stays: bool,
        now: Instant,
    ) -> Result<(), CloseReason> {
        assert!(
            self.wants_frame(),
            "a picture for a slot that is {:?}",
            self.state()
        );
        let Connected { link, session } = self.connected.as_mut().expect(TAKEN);
        let chunk = session.begin(meta, jpeg.len(), &mut link.out.head);
        let whole = session.whole(jpeg.len());
        let lent = self.lend(chunk, jpeg, whole, now)?;
        if lent == Lent::Nothing {
            return Ok(());
        }
        if lent == Lent::Part && stays {
            self.on_loan = Some(meta.sequence);
        } else if lent == Lent::Part {
            self.copy_rest(jpeg);
        }
        let session = &mut self.connected.as_mut().expect(TAKEN).session;
        session.began(meta);
        if meta.live && !self.refusal && session.follows() {
            self.adapter.begin(jpeg.len(), now);
        }
        self.stats.captured = Some(meta.captured);
        if let Some(pace) = &mut self.pace {
            pace.kept(meta.captured);
        }
        if self.sequence > 0 {
            self.stats.skipped += meta.sequence.saturating_sub(self.sequence + 1);
        }
        self.sequence = meta.sequence;
        self.settle(lent, now)
    }

    /// Passes a picture of another client on, if it can go out at once. If not it is dropped: when there is room again,
    /// there will be a newer one.
    pub fn pass(&mut self, record: &[u8], now: Instant) -> Result<(), CloseReason> {
        // Nothing overtakes what was said before.
        if self.on_loan.is_none() {
            self.write_own(now, None)?;
        }
        let link = &mut self.connected.as_mut().expect(TAKEN).link;
        let is_free = !self.sending && link.is_writable() && !link.is_closing();
        if !is_free {
            link.outpace();
        }
        if !is_free || !self.ready(now, None)? {
            self.stats.skipped += 1;
            return Ok(());
        }
        let chunk = Chunk {
            payload: record.len(),
            tail: b"",
        };
        let lent = self.lend(chunk, record, record.len(), now)?;
        if lent == Lent::Nothing {
            self.stats.skipped += 1;
            return Ok(());
        }
        if lent == Lent::Part {
            self.copy_rest(record);
        }
        self.settle(lent, now)
    }

    /// Writes the first chunk of `bytes`, of which `whole` go out in all, straight from there.
    fn lend(
        &mut self,
        chunk: Chunk,
        bytes: &[u8],
        whole: usize,
        now: Instant,
    ) -> Result<Lent, CloseReason> {
        let link = &mut self.connected.as_mut().expect(TAKEN).link;
        link.out.begin(chunk);
        if link.write(bytes, now).map_err(io)? == 0 {
            link.out.reset();
            self.check();
            return Ok(Lent::Nothing);
        }
        if link.out.left() == 0 {
            self.since = now;
        }
        (self.sending, self.picture, self.whole) = (true, true, whole);
        if link.out.left() == 0 && link.out.sent() == whole {
            return Ok(Lent::Whole);
        }
        Ok(Lent::Part)
    }

    fn copy_rest(&mut self, bytes: &[u8]) {
        let sent = self.connected.as_ref().expect(TAKEN).link.out.sent();
        self.frame.copy_tail(&bytes[..self.whole], sent);
    }

    fn settle(&mut self, lent: Lent, now: Instant) -> Result<(), CloseReason> {
        if lent == Lent::Whole {
            self.finish(now)?;
        }
        self.check();
        Ok(())
    }
}

/// How much of a picture the stream took while it was lent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lent {
    /// So that nothing has begun.
    Nothing,
    Part,
    Whole,
}

fn io(error: std::io::Error) -> CloseReason {
    CloseReason::Io(error.kind())
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
