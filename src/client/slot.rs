//! One client: its connection, its own copy of a picture, and where the two stand.
//!
//! A slot is generic over its stream, so that the tests drive it with a scripted one, and knows neither the poll nor
//! the clock. It acts only in [`Slot::advance`] and [`Slot::offer`], which go as far as the socket allows.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::time::Instant;

use crate::client::adapt::{Adapter, Goal};
use crate::config::LimitsConfig;
use crate::limits::{
    CONTROL_QUEUE, CONTROL_RECORD, INPUT, LINGER_CLOSE, LOGIN_WAIT, RECORD, REFUSALS, SNAPSHOT_WAIT,
};
use crate::measure::decimate::Decimator;
use crate::measure::rate::Rate;
use crate::picture::frame::{FrameBuf, FrameMeta};
use crate::protocol::call::{self, Longest, Name, Partners, Record};
use crate::protocol::http::{self, Call, Http, Parsed, Phase, Refusal, Route, Status};
use crate::protocol::pull::{self, Action, Moment};
use crate::protocol::push::Framing;
use crate::protocol::{Chunk, Head, Position, Protocol, State, Violation};

/// What a slot needs of a connection: bytes both ways without waiting, and the end of its own sending.
pub trait Stream: Read + Write {
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Whether the kernel has sent all that it took. If not, there will be an event of room for writing when it has,
    /// and not before.
    fn drained(&mut self) -> io::Result<bool>;

    /// Somebody else wants to come in the place of this peer: if it is dead without having said so, this is to be found
    /// out within seconds.
    fn probe(&mut self) {}
}

/// Reads in one turn of one slot, so that a peer that floods us cannot keep the others waiting.
const READS_PER_TURN: usize = 4;

/// call: bytes taken in by one of these reads.
const RECORDS_READ: usize = 16 * 1024;

/// Who is at the other end, as text for the log and for `/state`.
pub type Peer = heapless::String<64>;

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed it, or our reply was the last.
    Done,
    /// The peer reset it, or it broke.
    Io(ErrorKind),
    Violation(Violation),
    /// Nothing taken for `limits.write_timeout_s`.
    WriteTimeout,
    /// pull: no `ack` for `limits.ack_timeout_s`.
    AckTimeout,
    /// http: no request for `limits.head_timeout_s`.
    HeadTimeout,
    /// call: did not say who it is for [`LOGIN_WAIT`].
    LoginTimeout,
    /// call: its queue of messages is full.
    Overflow,
    /// call: a relay does not let camd in; says why.
    Refused(String),
    /// camd ends.
    Shutdown,
}

impl From<Violation> for CloseReason {
    fn from(violation: Violation) -> Self {
        CloseReason::Violation(violation)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Done => f.write_str("done"),
            CloseReason::Io(kind) => write!(f, "{kind}"),
            CloseReason::Violation(violation) => {
                write!(f, "violation of the protocol: {violation}")
            }
            CloseReason::WriteTimeout => f.write_str("took no byte for write_timeout_s"),
            CloseReason::AckTimeout => f.write_str("sent no ack for ack_timeout_s"),
            CloseReason::HeadTimeout => f.write_str("sent no request for head_timeout_s"),
            CloseReason::LoginTimeout => {
                write!(f, "did not log in for {} s", LOGIN_WAIT.as_secs())
            }
            CloseReason::Refused(why) => write!(f, "login refused: {why}"),
            CloseReason::Overflow => f.write_str("did not take the messages for it in time"),
            CloseReason::Shutdown => f.write_str("camd ends"),
        }
    }
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
    /// A request to be answered with [`Slot::reply`].
    Call(Call),
    /// A record to be acted on, [`Slot::record`], and then to be taken away with [`Slot::consume_record`].
    Record,
    Closed(CloseReason),
}

/// What a client got, for `/state` and `/metrics`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Pictures sent whole.
    pub frames: u64,
    /// Pictures of the camera between those that it took.
    pub skipped: u64,
    pub rate: Rate,
    /// When the picture it got last, or is getting, was captured.
    pub captured: Option<Instant>,
}

/// The bytes of one chunk on their way: `head`, then the payload from `sent` to `end`, then `tail`.
///
/// Invariant: each part is untouched until the one before it is out; `head_sent <= head.len()`, `sent <= end`,
/// `tail_sent <= tail.len()`.
#[derive(Debug, Default)]
struct Outgoing {
    head: Head,
    head_sent: usize,
    /// Payload bytes out, counted from the beginning of the picture.
    sent: usize,
    /// Where this chunk's payload ends.
    end: usize,
    tail: &'static [u8],
    tail_sent: usize,
}

impl Outgoing {
    fn begin(&mut self, chunk: Chunk) {
        self.head_sent = 0;
        self.end = self.sent + chunk.payload;
        self.tail = chunk.tail;
        self.tail_sent = 0;
    }

    fn reset(&mut self) {
        self.head.clear();
        self.sent = 0;
        self.begin(Chunk {
            payload: 0,
            tail: b"",
        });
    }

    fn left(&self) -> usize {
        self.head.len() - self.head_sent + self.end - self.sent + self.tail.len() - self.tail_sent
    }

    fn advance(&mut self, mut n: usize) {
        assert!(
            n <= self.left(),
            "the stream took {n} of {} bytes",
            self.left()
        );
        let mut take = |have: usize| {
            let part = n.min(have);
            n -= part;
            part
        };
        self.head_sent += take(self.head.len() - self.head_sent);
        self.sent += take(self.end - self.sent);
        self.tail_sent += take(self.tail.len() - self.tail_sent);
    }

    /// Writes until the chunk is out or the stream takes no more; gives the bytes taken. A write that is cut short
    /// has filled the socket's buffer, and the next event comes when there is room again (epoll(7)), so it is not
    /// tried twice.
    fn write(&mut self, stream: &mut impl Write, payload: &[u8]) -> io::Result<usize> {
        let left = self.left();
        if left == 0 {
            return Ok(0);
        }
        loop {
            let parts = [
                IoSlice::new(&self.head[self.head_sent..]),
                IoSlice::new(&payload[self.sent..self.end]),
                IoSlice::new(&self.tail[self.tail_sent..]),
            ];
            match stream.write_vectored(&parts) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.advance(n);
                    return Ok(n);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// A connection and everything that belongs to it.
///
/// Invariants (asserted after each step):
/// - without stream the slot is free: idle, holds nothing.
/// - `Sending`: `frame` holds what is being sent and nobody changes it; otherwise nothing is left in `out` and `frame`
///   is empty.
/// - `closing`: our sending half is shut, the rest of the peer's bytes is awaited and dropped; the state is idle.
/// - not `writable`: `stalled` runs, so that nobody can wait for an event for ever.
pub struct Slot<S> {
    stream: Option<S>,
    pub generation: u16,
    pub peer: Peer,
    /// Which listener accepted it.
    pub listener: usize,
    /// Holds no pictures: it exists to say that there is no room.
    pub refusal: bool,
    protocol: Protocol,
    state: State,
    closing: bool,
    frame: FrameBuf,
    out: Outgoing,
    input: Box<heapless::Vec<u8, INPUT>>,
    /// call: the input.
    records: FrameBuf,
    /// call: records that wait until what is being sent is through.
    queue: FrameBuf,
    /// The stream may have bytes for us / room for ours: set by events, cleared by WouldBlock alone, as events come
    /// once (edge-triggered).
    readable: bool,
    writable: bool,
    /// The peer will send no more.
    eof: bool,
    /// Bytes wait for a stream that takes none, since then.
    stalled: Option<Instant>,
    /// The last picture was still on its way when the camera had the next: the client is slower than the camera.
    slow: bool,
    /// `stalled` is the wait until the kernel has sent what it took. The event that tells so ends it: when the next picture
    /// comes is up to the camera.
    draining: bool,
    /// When the current wait for the peer's word (request, ack), for a snapshot or for the end began.
    since: Instant,
    /// What is being sent is a picture, not a reply.
    picture: bool,
    /// The newest picture this client got or is getting.
    sequence: u64,
    /// Which pictures it gets, where it shall have fewer than there are.
    pace: Option<Decimator>,
    /// How good they are, on a listener that adapts them to the link.
    adapter: Adapter,
    pub stats: Stats,
}

impl<S: Stream> Slot<S> {
    /// A free slot that can hold pictures of `capacity` bytes.
    pub fn new(capacity: usize, refusal: bool, now: Instant) -> Self {
        Slot {
            stream: None,
            generation: 0,
            peer: Peer::new(),
            listener: 0,
            refusal,
            protocol: Protocol::Push(Framing::Lengths),
            state: State::Idle,
            closing: false,
            frame: FrameBuf::new(capacity),
            out: Outgoing::default(),
            input: Box::default(),
            records: FrameBuf::new(0),
            queue: FrameBuf::new(0),
            readable: false,
            writable: false,
            eof: false,
            stalled: None,
            slow: false,
            draining: false,
            since: now,
            picture: false,
            sequence: 0,
            pace: None,
            adapter: Adapter::new(),
            stats: Stats::default(),
        }
    }

    /// Takes the memory that a connection to a call listener needs.
    pub fn for_calls(mut self) -> Self {
        let capacity = self.frame.capacity();
        self.records = FrameBuf::new(RECORD.min(capacity));
        self.queue = FrameBuf::new(CONTROL_QUEUE.min(capacity));
        self
    }

    pub fn is_free(&self) -> bool {
        self.stream.is_none()
    }

    pub fn stream(&mut self) -> Option<&mut S> {
        self.stream.as_mut()
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
        protocol: Protocol,
        max_fps: Option<u16>,
        now: Instant,
    ) {
        assert!(self.is_free(), "the slot is taken");
        self.generation = self.generation.wrapping_add(1);
        self.state = if self.refusal {
            State::Idle
        } else {
            protocol.initial_state()
        };
        (self.stream, self.peer, self.listener, self.protocol) =
            (Some(stream), peer, listener, protocol);
        // What a new connection has to say or room for is found out by trying.
        (self.readable, self.writable, self.eof, self.closing) = (true, true, false, false);
        (self.stalled, self.slow, self.since) = (None, false, now);
        self.draining = false;
        (self.sequence, self.stats) = (0, Stats::default());
        self.pace = max_fps.map(Decimator::new);
        self.adapter = Adapter::new();
        self.out.reset();
        self.clear_input();
        self.queue.clear();
        self.frame.clear();
        self.check();
    }

    /// Ends the connection and frees the slot.
    pub fn close(&mut self) {
        self.state = State::Idle;
        self.closing = false;
        self.out.reset();
        self.clear_input();
        self.queue.clear();
        self.frame.clear();
        self.stream = None;
    }

    fn clear_input(&mut self) {
        self.input.clear();
        self.records.clear();
    }

    fn check(&self) {
        let holds = self.out.left() > 0 || !self.frame.is_empty();
        assert!(
            self.state == State::Sending || !holds,
            "{:?} holds {} bytes",
            self.state,
            self.frame.len()
        );
        assert!(
            !self.closing || self.state == State::Idle,
            "closing while {:?}",
            self.state
        );
        assert!(
            self.out.end <= self.frame.len() || self.state != State::Sending,
            "a chunk ends behind its picture"
        );
        assert!(
            self.writable || self.stalled.is_some(),
            "no room, and no deadline"
        );
    }

    /// A readiness event. Acts on nothing.
    pub fn mark(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
        // A picture of another user that the socket did not take is waited for by nobody.
        if writable && (self.draining || self.state == State::Idle) {
            (self.stalled, self.draining) = (None, false);
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Bytes of the current picture or reply that the kernel has not taken yet.
    pub fn unsent(&self) -> usize {
        match self.state {
            State::Sending => self.out.left() + self.frame.len() - self.out.end,
            _ => 0,
        }
    }

    /// Someone is there for whom the camera must run.
    pub fn is_viewer(&self) -> bool {
        match &self.protocol {
            _ if self.is_free() || self.refusal || self.closing => false,
            Protocol::Push(_) => true,
            Protocol::Pull(_) => self.state != State::Idle,
            Protocol::Http(http) => http.phase != Phase::Request,
            Protocol::Call(call) => call.watching,
        }
    }

    /// call: the user, once that is known.
    pub fn user(&self) -> Option<&Name> {
        self.call().and_then(|call| call.name.as_ref())
    }

    /// call: those who see the camera through this connection, if it is one to a relay.
    pub fn partners(&self) -> Option<&Partners> {
        self.call().and_then(|call| call.partners.as_ref())
    }

    fn call(&self) -> Option<&call::Connection> {
        match &self.protocol {
            Protocol::Call(call) if !self.is_free() => Some(call),
            _ => None,
        }
    }

    fn call_mut(&mut self) -> &mut call::Connection {
        match &mut self.protocol {
            Protocol::Call(call) => call,
            other => unreachable!("{other:?} is no call connection"),
        }
    }

    /// The camera has a new picture. True if it can be offered.
    pub fn on_frame(&mut self) -> bool {
        self.slow |= self.out.left() > 0;
        self.adapter.on_frame();
        self.wants_frame()
    }

    /// A picture can be offered: it is wanted, and the socket may have room.
    pub fn wants_frame(&self) -> bool {
        self.state == State::AnnouncePending && self.writable
    }

    /// Only a live picture will do: a snapshot must not be the card that says there is none.
    pub fn wants_live(&self) -> bool {
        matches!(
            &self.protocol,
            Protocol::Http(Http {
                phase: Phase::Snapshot,
                ..
            })
        )
    }

    /// Whether this connection is one that goes on from picture to picture, so that it can be adapted: a snapshot is what
    /// was asked for.
    pub fn is_adaptable(&self) -> bool {
        match &self.protocol {
            _ if self.refusal => false,
            Protocol::Push(_) | Protocol::Pull(_) => true,
            Protocol::Http(http) => http.phase == Phase::Stream,
            Protocol::Call(call) => call.watching,
        }
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
        if let Some(partners) = self.partners() {
            return partners.is_news(meta);
        }
        let due = |pace: &Decimator| pace.wants(meta.captured);
        meta.sequence > self.sequence && self.pace.as_ref().is_none_or(due)
    }

    /// When the peer's patience with us, or ours with it, ends; `advance` then acts.
    pub fn deadline(&self, limits: &LimitsConfig) -> Option<Instant> {
        self.stream.as_ref()?;
        let stalled = self.stalled.map(|since| since + limits.write_timeout);
        let waiting = match (&self.protocol, self.state) {
            _ if self.closing => Some(LINGER_CLOSE),
            _ if self.out.left() > 0 => None,
            (Protocol::Pull(_), State::Sending) => Some(limits.ack_timeout),
            (Protocol::Http(_), State::Idle) => Some(limits.head_timeout),
            (Protocol::Http(http), State::AnnouncePending) if http.phase == Phase::Snapshot => {
                Some(SNAPSHOT_WAIT)
            }
            (Protocol::Call(call), _) if call.name.is_none() => Some(LOGIN_WAIT),
            _ => None,
        };
        let waiting = waiting.map(|patience| self.since + patience);
        let paused = self.call().and_then(call::Connection::resume);
        [stalled, waiting, paused].into_iter().flatten().min()
    }

    /// Does everything that can be done now: writes, reads, parses, until the peer or the camera has to act.
    pub fn advance(&mut self, now: Instant, limits: &LimitsConfig) -> Turn {
        let turn = self.run(now, limits);
        self.check();
        turn
    }

    fn run(&mut self, now: Instant, limits: &LimitsConfig) -> Turn {
        if self
            .deadline(limits)
            .is_some_and(|deadline| deadline <= now)
            && let Some(reason) = self.on_deadline(now, limits)
        {
            return Turn::Closed(reason);
        }
        if self.call().is_some_and(|call| call.overflowed) {
            return Turn::Closed(CloseReason::Overflow);
        }
        let mut reads = 0;
        loop {
            if let Err(reason) = self.write_own(now) {
                return Turn::Closed(reason);
            }
            match self.take_input(now) {
                Ok(Input::Acted) => continue,
                Ok(Input::Call(call)) => return Turn::Call(call),
                Ok(Input::Record) => return Turn::Record,
                Ok(Input::NeedsMore) => {}
                Err(reason) => return Turn::Closed(reason),
            }
            if self.eof && self.ends_at_eof() {
                return Turn::Closed(CloseReason::Done);
            }
            if !self.readable || self.eof || !self.has_room() {
                break;
            }
            if reads == READS_PER_TURN {
                return Turn::Again;
            }
            reads += 1;
            if let Err(e) = self.read() {
                return Turn::Closed(CloseReason::Io(e.kind()));
            }
        }
        if self.wants_frame() {
            Turn::WantsFrame
        } else {
            Turn::Wait
        }
    }

    /// Whether more input can be taken in.
    fn has_room(&self) -> bool {
        match self.call() {
            Some(call) => call.resume().is_none() && self.records.len() < self.records.capacity(),
            None => !self.input.is_full(),
        }
    }

    /// Writes from the slot's own copy, chunk after chunk as far as the protocol goes on by itself.
    fn write_own(&mut self, now: Instant) -> Result<(), CloseReason> {
        self.write_on(now)?;
        while self.state != State::Sending && !self.queue.is_empty() {
            // All of it at once.
            self.out.reset();
            self.frame.copy_tail(self.queue.as_slice(), 0);
            self.queue.clear();
            self.begin_reply();
            self.write_on(now)?;
        }
        Ok(())
    }

    fn write_on(&mut self, now: Instant) -> Result<(), CloseReason> {
        if self.state != State::Sending {
            return Ok(());
        }
        if self.out.left() > 0 {
            if !self.writable {
                return Ok(());
            }
            let stream = self.stream.as_mut().expect("only a taken slot is advanced");
            let taken = self
                .out
                .write(stream, self.frame.as_slice())
                .map_err(|e| CloseReason::Io(e.kind()))?;
            self.on_written(taken, now);
        }
        if self.out.left() == 0 && self.out.sent == self.frame.len() {
            self.finish(now)?;
        }
        Ok(())
    }

    fn on_written(&mut self, taken: usize, now: Instant) {
        if self.out.left() == 0 {
            self.stalled = None;
            self.since = now;
            return;
        }
        self.writable = false;
        if taken > 0 || self.stalled.is_none() {
            self.stalled = Some(now);
        }
    }

    /// The last byte of a picture or a reply is written.
    fn finish(&mut self, now: Instant) -> Result<(), CloseReason> {
        self.frame.clear();
        self.out.reset();
        self.since = now;
        if self.picture {
            self.stats.frames += 1;
            self.stats.rate.tick(now);
        }
        match &mut self.protocol {
            Protocol::Pull(pull) => {
                self.adapter.end(now);
                self.state = pull.on_frame_done();
            }
            Protocol::Push(_) => self.state = State::AnnouncePending,
            Protocol::Http(http) if http.phase == Phase::Stream => {
                self.state = State::AnnouncePending
            }
            Protocol::Call(call) if call.watching => self.state = State::AnnouncePending,
            Protocol::Call(call) => {
                self.state = State::Idle;
                if call.ends && self.queue.is_empty() {
                    self.begin_closing()?;
                }
            }
            Protocol::Http(http) => {
                http.phase = Phase::Request;
                self.state = State::Idle;
                if http.close {
                    self.begin_closing()?;
                }
            }
        }
        Ok(())
    }

    /// Shuts our half and waits for the peer's: closing with unread input would make the kernel send a reset, which
    /// takes our last words away from the peer before it has read them.
    fn begin_closing(&mut self) -> Result<(), CloseReason> {
        self.closing = true;
        let stream = self.stream.as_mut().expect("only a taken slot is advanced");
        stream
            .shutdown_write()
            .map_err(|e| CloseReason::Io(e.kind()))
    }

    /// Whether a picture can begin now: to be asked before it is offered. What is begun while the kernel still holds the
    /// rest of the picture before it would wait behind that, and grow old. The kernel would take it all the same: it fills
    /// up the last buffer of its queue whatever TCP_NOTSENT_LOWAT says. If not, there will be an event.
    pub fn ready(&mut self, now: Instant) -> Result<bool, CloseReason> {
        if self.slow && !self.is_drained()? {
            self.writable = false;
            self.draining = self.stalled.is_none();
            self.stalled.get_or_insert(now);
            return Ok(false);
        }
        self.slow = false;
        Ok(true)
    }

    /// Lends a picture that goes out straight away as far as the socket takes it; what it does not take is copied.
    /// Where it takes nothing the slot is not bound to this picture, so that it can begin with a newer one.
    ///
    /// # Panics
    /// If the slot does not want a picture.
    pub fn offer(
        &mut self,
        meta: &FrameMeta,
        jpeg: &[u8],
        now: Instant,
    ) -> Result<(), CloseReason> {
        assert!(
            self.wants_frame(),
            "a picture for a slot that is {:?}",
            self.state
        );
        if let Protocol::Call(call) = &mut self.protocol
            && let Some(partners) = &mut call.partners
        {
            let found = partners.turn_to(meta);
            assert!(found, "a picture that is news to nobody");
        }
        let chunk = self
            .protocol
            .next_chunk(meta, jpeg.len(), Position::Start, &mut self.out.head);
        self.out.begin(chunk);
        let stream = self
            .stream
            .as_mut()
            .expect("only a taken slot wants pictures");
        let taken = match self.out.write(stream, jpeg) {
            Ok(taken) => taken,
            Err(e) => return Err(CloseReason::Io(e.kind())),
        };
        self.on_written(taken, now);
        if taken == 0 {
            self.out.reset();
            self.check();
            return Ok(());
        }
        self.stats.captured = Some(meta.captured);
        if meta.live && self.is_adaptable() {
            self.adapter.begin(jpeg.len(), now);
        }
        if let Some(pace) = &mut self.pace {
            pace.kept(meta.captured);
        }
        if let Protocol::Call(call) = &mut self.protocol
            && let Some(partners) = &mut call.partners
        {
            partners.kept(meta);
        }
        if self.sequence > 0 {
            self.stats.skipped += meta.sequence.saturating_sub(self.sequence + 1);
        }
        self.sequence = meta.sequence;
        self.picture = true;
        self.state = State::Sending;
        let head_only = matches!(&self.protocol, Protocol::Http(http) if http.head_only);
        let payload = if head_only { &jpeg[..0] } else { jpeg };
        if self.out.left() == 0 && self.out.sent == payload.len() {
            self.finish(now)?;
        } else {
            self.frame.copy_tail(payload, self.out.sent);
        }
        self.check();
        Ok(())
    }

    /// call: says something to the user. If there is no room for it, the connection ends with the next turn: who does
    /// not take what he must know is as good as gone.
    pub fn tell(&mut self, record: &[u8]) {
        if self.queue.capacity() - self.queue.len() < record.len() {
            self.call_mut().overflowed = true;
            return;
        }
        self.queue
            .write_all(record)
            .expect("it was measured against the room");
    }

    /// call: the login is refused. After the last of [`REFUSALS`] the connection ends.
    pub fn refuse_login(&mut self, record: &[u8]) {
        self.tell(record);
        let refusal = self.refusal;
        let call = self.call_mut();
        call.refusals += 1;
        call.ends |= call.refusals >= REFUSALS || refusal;
    }

    /// call: this is who it is.
    pub fn set_user(&mut self, name: &Name) {
        self.call_mut().name = Some(name.clone());
    }

    /// call: somebody behind the relay is in a call with the camera, with so many pictures per second at most.
    pub fn add_partner(&mut self, name: &Name, max_fps: Option<u16>) {
        self.partners_mut().add(name.clone(), max_fps);
        if !self.call_mut().watching {
            self.set_watching(true);
        }
    }

    /// call: he has hung up, if he was in one.
    pub fn remove_partner(&mut self, name: &Name) {
        self.partners_mut().remove(name);
        if self.partners_mut().is_empty() && self.call_mut().watching {
            self.set_watching(false);
        }
    }

    fn partners_mut(&mut self) -> &mut Partners {
        let partners = self.call_mut().partners.as_mut();
        partners.expect("the other end is a relay")
    }

    /// call: whether it gets the camera's pictures.
    pub fn set_watching(&mut self, on: bool) {
        self.call_mut().watching = on;
        self.adapter = Adapter::new();
        match (self.state, on) {
            (State::Idle, true) => self.state = State::AnnouncePending,
            (State::AnnouncePending, false) => self.state = State::Idle,
            _ => {}
        }
        self.check();
    }

    /// call: the record that [`Slot::advance`] handed out.
    ///
    /// # Panics
    /// If there is none.
    pub fn record(&self) -> Record<'_> {
        let record = Record::parse(self.records.as_slice(), self.longest());
        record.ok().flatten().expect("it has been found good")
    }

    pub fn consume_record(&mut self) {
        let used = self.record().bytes.len();
        self.records.consume(used);
    }

    /// call: the record goes back to where it came from.
    pub fn echo(&mut self) {
        let used = self.record().bytes.len();
        let records = std::mem::replace(&mut self.records, FrameBuf::new(0));
        self.tell(&records.as_slice()[..used]);
        self.records = records;
    }

    fn longest(&self) -> Longest {
        Longest {
            picture: self.records.capacity(),
            control: CONTROL_RECORD,
        }
    }

    /// call: passes a picture of another user on, if it can go out at once. If not it is dropped: when there is room again,
    /// there will be a newer one.
    pub fn pass(&mut self, record: &[u8], now: Instant) -> Result<(), CloseReason> {
        // Nothing overtakes what was said before.
        self.write_own(now)?;
        if self.state == State::Sending || !self.writable || self.closing {
            self.slow |= self.out.left() > 0;
            self.stats.skipped += 1;
            return Ok(());
        }
        if !self.ready(now)? {
            self.stats.skipped += 1;
            return Ok(());
        }
        self.out.reset();
        self.out.begin(Chunk {
            payload: record.len(),
            tail: b"",
        });
        let stream = self
            .stream
            .as_mut()
            .expect("only a taken slot is passed any");
        let taken = self
            .out
            .write(stream, record)
            .map_err(|e| CloseReason::Io(e.kind()))?;
        self.on_written(taken, now);
        if taken == 0 {
            self.out.reset();
            self.stats.skipped += 1;
        } else {
            self.picture = true;
            self.state = State::Sending;
            if self.out.left() == 0 {
                self.finish(now)?;
            } else {
                self.frame.copy_tail(record, self.out.sent);
            }
        }
        self.check();
        Ok(())
    }

    fn is_drained(&mut self) -> Result<bool, CloseReason> {
        let stream = self
            .stream
            .as_mut()
            .expect("only a taken slot wants pictures");
        stream.drained().map_err(|e| CloseReason::Io(e.kind()))
    }

    /// Takes in what the buffered input says. Parts of a reply never mix: a request that means output is read only
    /// when the one before it is through.
    fn take_input(&mut self, now: Instant) -> Result<Input, CloseReason> {
        if self.closing {
            self.clear_input();
            return Ok(Input::NeedsMore);
        }
        match &mut self.protocol {
            Protocol::Push(_) => {
                self.input.clear();
                Ok(Input::NeedsMore)
            }
            Protocol::Pull(_) => self.take_tokens(),
            Protocol::Http(http) if http.phase == Phase::Stream => {
                self.input.clear();
                Ok(Input::NeedsMore)
            }
            Protocol::Call(call) if call.ends => {
                self.records.clear();
                Ok(Input::NeedsMore)
            }
            Protocol::Call(call) => {
                let longest = Longest {
                    picture: self.records.capacity(),
                    control: CONTROL_RECORD,
                };
                let record = Record::parse(self.records.as_slice(), longest)
                    .map_err(CloseReason::Violation)?;
                let passes = record.is_some_and(|record| {
                    record.kind == call::Kind::VideoData || call.may_send(record.bytes.len(), now)
                });
                Ok(if passes {
                    Input::Record
                } else {
                    Input::NeedsMore
                })
            }
            Protocol::Http(_) if self.state != State::Idle => Ok(Input::NeedsMore),
            Protocol::Http(http) => match http.parse(&self.input) {
                Parsed::Incomplete => Ok(Input::NeedsMore),
                Parsed::Call(call, used) => {
                    consume(&mut self.input, used);
                    Ok(self.on_call(call, now))
                }
                Parsed::Refused(refusal, used) => {
                    consume(&mut self.input, used);
                    self.refuse(refusal);
                    Ok(Input::Acted)
                }
                Parsed::Broken(refusal) => {
                    self.input.clear();
                    self.refuse(refusal);
                    Ok(Input::Acted)
                }
            },
        }
    }

    /// Takes all whole tokens before anything is written in answer to them: an `ack` that came with the one before it
    /// came too early.
    fn take_tokens(&mut self) -> Result<Input, CloseReason> {
        let mut came = Input::NeedsMore;
        loop {
            let Protocol::Pull(pull) = &mut self.protocol else {
                unreachable!("only pull has tokens")
            };
            let (used, token) = pull::next_token(&self.input).map_err(CloseReason::Violation)?;
            consume(&mut self.input, used);
            let Some(token) = token else {
                return Ok(came);
            };
            let moment = match self.state {
                State::Idle => Moment::Idle,
                State::AnnouncePending => Moment::AnnouncePending,
                State::Sending if self.out.left() == 0 => Moment::AwaitingAck,
                State::Sending => Moment::MidChunk,
            };
            match pull
                .on_token(moment, token)
                .map_err(CloseReason::Violation)?
            {
                Action::Nothing => {}
                Action::Announce => self.state = State::AnnouncePending,
                Action::NextPart => self.next_part(),
            }
            came = Input::Acted;
        }
    }

    fn next_part(&mut self) {
        self.out.head.clear();
        let chunk = pull::next_chunk(
            self.frame.len(),
            Position::Sent(self.out.sent),
            &mut self.out.head,
        );
        self.out.begin(chunk);
    }

    /// The requests that a slot can answer by itself: it knows how a picture gets to its client.
    fn on_call(&mut self, call: Call, now: Instant) -> Input {
        let Protocol::Http(http) = &mut self.protocol else {
            unreachable!("only http has calls")
        };
        if self.refusal {
            http.close = true;
            self.refuse(Refusal::new(
                Status::ServiceUnavailable,
                "all client slots are taken",
            ));
            return Input::Acted;
        }
        match call {
            Call::Get(Route::Stream) => {
                http.stream_head(&mut self.out.head);
                self.begin_reply();
                Input::Acted
            }
            Call::Get(Route::Snapshot) => {
                http.phase = Phase::Snapshot;
                self.state = State::AnnouncePending;
                self.since = now;
                Input::Acted
            }
            Call::Options(route) => {
                http.options_head(route, &mut self.out.head);
                self.begin_reply();
                Input::Acted
            }
            call => Input::Call(call),
        }
    }

    /// Answers the request that [`Slot::advance`] handed out. What does not fit the slot's buffer is cut: pages are at
    /// most [`crate::limits::PAGE`].
    pub fn reply(&mut self, status: Status, content_type: &str, body: &[u8]) {
        self.reply_with(status, content_type, body, None);
    }

    fn refuse(&mut self, refusal: Refusal) {
        let mut body = heapless::String::<{ crate::limits::REFUSAL_BODY }>::new();
        // Cut if too long: it is for a person's eyes.
        let _ = fmt::write(
            &mut body,
            format_args!("{}: {}\n", refusal.status, refusal.reason),
        );
        self.reply_with(refusal.status, http::TEXT, body.as_bytes(), refusal.allow);
    }

    fn reply_with(&mut self, status: Status, content_type: &str, body: &[u8], allow: Option<&str>) {
        let Protocol::Http(http) = &mut self.protocol else {
            unreachable!("only http is replied to")
        };
        http.phase = Phase::Request;
        self.out.reset();
        let body = &body[..body.len().min(self.frame.capacity())];
        http.reply_head(status, content_type, body.len(), allow, &mut self.out.head);
        if !http.head_only {
            self.frame.copy_tail(body, 0);
        }
        self.begin_reply();
    }

    fn begin_reply(&mut self) {
        self.out.begin(Chunk {
            payload: self.frame.len(),
            tail: b"",
        });
        self.picture = false;
        self.state = State::Sending;
    }

    /// A peer that will say no more is through, unless it is still being sent what it asked for.
    fn ends_at_eof(&self) -> bool {
        match &self.protocol {
            _ if self.closing => true,
            // Without further acks or requests nothing can follow.
            Protocol::Pull(_) => true,
            Protocol::Push(_) => false,
            Protocol::Http(_) => self.state == State::Idle,
            // What he said has been acted on: nothing, not even the end, is read while a record waits.
            Protocol::Call(_) => true,
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let stream = self.stream.as_mut().expect("only a taken slot is advanced");
        if let Protocol::Call(_) = &self.protocol {
            let len = self.records.len();
            let room = &mut self.records.spare()[len..];
            let most = room.len().min(RECORDS_READ);
            loop {
                match stream.read(&mut room[..most]) {
                    Ok(0) => self.eof = true,
                    Ok(n) => self.records.set_len(len + n),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => self.readable = false,
                    Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                    Err(e) => return Err(e),
                }
                return Ok(());
            }
        }
        let mut chunk = [0; 4096];
        let room = (self.input.capacity() - self.input.len()).min(chunk.len());
        loop {
            match stream.read(&mut chunk[..room]) {
                Ok(0) => self.eof = true,
                Ok(n) => self
                    .input
                    .extend_from_slice(&chunk[..n])
                    .expect("no more was read than there is room for"),
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            return Ok(());
        }
    }

    fn on_deadline(&mut self, now: Instant, limits: &LimitsConfig) -> Option<CloseReason> {
        if self
            .stalled
            .is_some_and(|since| since + limits.write_timeout <= now)
        {
            return Some(CloseReason::WriteTimeout);
        }
        match (&mut self.protocol, self.state) {
            _ if self.closing => Some(CloseReason::Done),
            (Protocol::Pull(_), _) => Some(CloseReason::AckTimeout),
            (Protocol::Call(call), _) => {
                let late = call.name.is_none() && self.since + LOGIN_WAIT <= now;
                late.then_some(CloseReason::LoginTimeout)
            }
            (Protocol::Http(_), State::AnnouncePending) => {
                self.refuse(Refusal::new(
                    Status::ServiceUnavailable,
                    "no picture within 2 s",
                ));
                None
            }
            (Protocol::Http(http), _) if !self.input.is_empty() => {
                http.close = true;
                self.input.clear();
                self.refuse(Refusal::new(
                    Status::RequestTimeout,
                    "the request's head took too long",
                ));
                None
            }
            _ => Some(CloseReason::HeadTimeout),
        }
    }
}

/// What the input came to.
enum Input {
    /// Something has changed: look again.
    Acted,
    NeedsMore,
    Call(Call),
    Record,
}

fn consume(input: &mut heapless::Vec<u8, INPUT>, used: usize) {
    if used > 0 {
        input.copy_within(used.., 0);
        input.truncate(input.len() - used);
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
