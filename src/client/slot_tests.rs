//! The slot over a scripted stream: every cut, every close, every deadline.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use std::io::{self, ErrorKind, IoSlice, Read};

use super::*;
use crate::config::Config;
use crate::limits::{CONTROL_BURST, CONTROL_RATE, LOGIN_WAIT, REFUSALS, SNAPSHOT_WAIT};
use crate::protocol::call::{self, Connection, Kind, Name, Record, note};
use crate::protocol::setup::{Policy, Setup};
use crate::protocol::{Head, ProtocolKind, Violation};

/// What the stream does at its next read or write. Without an entry it would block.
#[derive(Clone, Debug)]
enum Read_ {
    Bytes(Vec<u8>),
    Eof,
    Error(ErrorKind),
}

#[derive(Default)]
struct Script {
    reads: VecDeque<Read_>,
    /// Bytes that each next write takes; an error takes none.
    writes: VecDeque<Result<usize, ErrorKind>>,
    written: Vec<u8>,
    /// The kernel still holds bytes that it took.
    behind: bool,
    shutdown: bool,
}

#[derive(Clone, Default)]
struct Scripted(Rc<RefCell<Script>>);

impl Read for Scripted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut script = self.0.borrow_mut();
        match script.reads.pop_front() {
            None => Err(ErrorKind::WouldBlock.into()),
            Some(Read_::Eof) => Ok(0),
            Some(Read_::Error(kind)) => Err(kind.into()),
            Some(Read_::Bytes(mut bytes)) => {
                let n = bytes.len().min(buf.len());
                buf[..n].copy_from_slice(&bytes[..n]);
                if n < bytes.len() {
                    script.reads.push_front(Read_::Bytes(bytes.split_off(n)));
                }
                Ok(n)
            }
        }
    }
}

impl Write for Scripted {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        unreachable!("slots write vectored")
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut script = self.0.borrow_mut();
        let take = match script.writes.pop_front() {
            None => return Err(ErrorKind::WouldBlock.into()),
            Some(Err(kind)) => return Err(kind.into()),
            Some(Ok(take)) => take,
        };
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let take = take.min(all.len());
        script.written.extend(&all[..take]);
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Scripted {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().shutdown = true;
        Ok(())
    }

    fn drained(&mut self) -> io::Result<bool> {
        Ok(!self.0.borrow().behind)
    }
}

/// All that the stream takes at once.
const ALL: Result<usize, ErrorKind> = Ok(usize::MAX);

struct Bench {
    slot: Slot<Scripted>,
    script: Scripted,
    limits: LimitsConfig,
    now: Instant,
    frames: u64,
    place: Place,
    /// The picture offered last, where it lies.
    lent: Vec<u8>,
}

/// What becomes of a picture once it has been offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It stays until there is another.
    Stays,
    /// It goes when the slot has been offered it, and said that it would not.
    Goes,
    /// It goes at once.
    Gone,
}

impl Bench {
    fn new(kind: ProtocolKind) -> Self {
        Bench::with(kind, false)
    }

    fn with(kind: ProtocolKind, refusal: bool) -> Self {
        let now = Instant::now();
        let script = Scripted::default();
        let slot = Slot::new(64 * 1024, refusal, now);
        let mut slot = match kind {
            ProtocolKind::Call => slot.for_messages(64 * 1024),
            _ => slot,
        };
        let setup = Setup {
            policy: Rc::new(Policy::default()),
            heads: Rc::default(),
            user: Rc::new(Name::new("camera").unwrap()),
            film: false,
            to_relay: false,
        };
        let protocol = Protocol::new(kind, &setup);
        slot.open(script.clone(), Peer::new(), 0, protocol, None, now);
        if refusal {
            assert!(slot.turn_away(NoRoom::Full), "it has words for that");
        }
        let limits = Config::default().limits;
        Bench {
            slot,
            script,
            limits,
            now,
            frames: 0,
            place: Place::Stays,
            lent: Vec::new(),
        }
    }

    fn says(&mut self, bytes: &[u8]) {
        let mut script = self.script.0.borrow_mut();
        script.reads.push_back(Read_::Bytes(bytes.to_vec()));
        drop(script);
        self.slot.mark(true, false);
    }

    fn event(&mut self, read: Read_) {
        self.script.0.borrow_mut().reads.push_back(read);
        self.slot.mark(true, false);
    }

    fn takes(&mut self, writes: &[Result<usize, ErrorKind>]) {
        self.script.0.borrow_mut().writes.extend(writes);
        self.slot.mark(false, true);
    }

    fn advance(&mut self) -> Turn {
        let lent = self.slot.on_loan().map(|_| self.lent.as_slice());
        self.slot.advance(self.now, &self.limits, lent)
    }

    /// Of the camera's newest picture.
    fn meta(&self) -> FrameMeta {
        FrameMeta {
            sequence: self.frames,
            captured: self.now,
            wall: Duration::from_micros(1_000_001),
            width: 64,
            height: 48,
            orientation: crate::picture::frame::Orientation::UPRIGHT,
            exif: crate::picture::frame::Orientation::UPRIGHT,
            crop: None,
            live: true,
        }
    }

    fn offer(&mut self, jpeg: &[u8]) -> Result<(), CloseReason> {
        self.frames += 1;
        if !self.slot.ready(self.now, None)? {
            return Ok(());
        }
        let meta = self.meta();
        if self.slot.on_loan().is_none() {
            self.lent = jpeg.to_vec();
        }
        let stays = self.place != Place::Gone;
        let offered = self.slot.offer(&meta, jpeg, stays, self.now);
        if self.place == Place::Goes && self.slot.on_loan().is_some() {
            assert_eq!(self.slot.delivery.kept(), 0, "copied before it had to be");
            self.slot.keep(jpeg);
        }
        assert!(self.place == Place::Stays || self.slot.on_loan().is_none());
        offered
    }

    fn written(&self) -> Vec<u8> {
        std::mem::take(&mut self.script.0.borrow_mut().written)
    }

    fn text(&self) -> String {
        String::from_utf8(self.written()).expect("text")
    }

    fn link(&self) -> &Link<Scripted> {
        &self.slot.connected.as_ref().expect("it is taken").link
    }

    fn state(&self) -> State {
        self.slot.state()
    }
}

fn jpeg(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 251) as u8).collect()
}

fn push_wire(jpeg: &[u8]) -> Vec<u8> {
    [&crate::protocol::push::header(jpeg.len()), jpeg].concat()
}

macro_rules! assert_turn {
    ($turn:expr, $pattern:pat) => {
        match $turn {
            $pattern => {}
            other => panic!("{other:?} is not {}", stringify!($pattern)),
        }
    };
}

fn everywhere(len: usize) -> impl Iterator<Item = (usize, Place)> {
    let places = [Place::Stays, Place::Goes, Place::Gone];
    (1..len).flat_map(move |cut| places.map(|place| (cut, place)))
}

#[test]
fn a_picture_cut_anywhere_arrives_whole() {
    let jpeg = jpeg(300);
    let wire = push_wire(&jpeg);
    for (cut, place) in everywhere(wire.len()) {
        let mut bench = Bench::new(ProtocolKind::Push);
        bench.place = place;
        assert_turn!(bench.advance(), Turn::WantsFrame);
        bench.takes(&[Ok(cut)]);
        bench.offer(&jpeg).expect("the stream is fine");
        assert_eq!(bench.state(), State::Sending, "{place:?}, cut at {cut}");
        assert_eq!(bench.slot.unsent(), wire.len() - cut);
        assert_turn!(bench.advance(), Turn::Wait);
        // Twice, so that the cut falls into each part of the rest, too.
        bench.takes(&[Ok((wire.len() - cut).div_ceil(2))]);
        assert_turn!(bench.advance(), Turn::Wait | Turn::WantsFrame);
        bench.takes(&[ALL]);
        assert_turn!(bench.advance(), Turn::WantsFrame);
        assert_eq!(bench.written(), wire, "{place:?}, cut at {cut}");
        assert_eq!(bench.slot.subscription.stats.frames, 1);
    }
}

#[test]
fn a_stream_part_cut_anywhere_arrives_whole() {
    let jpeg = jpeg(100);
    let mut wire =
        b"Content-Type: image/jpeg\r\nContent-Length: 100\r\nX-Timestamp: 1.000001\r\n\r\n"
            .to_vec();
    wire.extend(&jpeg);
    wire.extend(b"\r\n--camdframe\r\n");
    for (cut, place) in everywhere(wire.len()) {
        let mut bench = Bench::new(ProtocolKind::Http);
        bench.place = place;
        bench.says(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
        bench.takes(&[ALL]);
        assert_turn!(bench.advance(), Turn::WantsFrame);
        assert!(bench.text().ends_with("\r\n\r\n--camdframe\r\n"));
        bench.takes(&[Ok(cut)]);
        bench.offer(&jpeg).expect("the stream is fine");
        bench.takes(&[ALL]);
        assert_turn!(bench.advance(), Turn::WantsFrame);
        assert_eq!(bench.written(), wire, "{place:?}, cut at {cut}");
        assert_eq!(
            bench.slot.subscription.stats.frames, 1,
            "the response's head is no picture"
        );
    }
}

#[test]
fn a_picture_of_which_nothing_was_taken_gives_way_to_a_newer_one() {
    let (old, new) = (jpeg(50), jpeg(60));
    let mut bench = Bench::new(ProtocolKind::Push);
    bench.takes(&[Err(ErrorKind::WouldBlock)]);
    bench.offer(&old).expect("the stream is fine");
    assert_eq!(bench.state(), State::AnnouncePending);
    assert!(!bench.slot.wants_frame(), "there is no room");
    bench.takes(&[ALL]);
    bench.offer(&new).expect("the stream is fine");
    assert_eq!(bench.written(), push_wire(&new));
}

#[test]
fn a_late_client_waits_for_the_picture_that_is_about_to_come() {
    let (old, new) = (jpeg(50), jpeg(60));
    for comes in [true, false] {
        let mut bench = Bench::new(ProtocolKind::Push);
        let next = bench.now + Duration::from_millis(15);
        assert!(
            bench.slot.ready(bench.now, Some(next)).unwrap(),
            "it is not late"
        );
        bench.takes(&[Ok(5)]);
        bench.offer(&old).expect("the stream is fine");
        assert!(!bench.slot.on_frame(), "it is busy");
        bench.takes(&[ALL]);
        assert_turn!(bench.advance(), Turn::WantsFrame);
        assert!(!bench.slot.ready(bench.now, Some(next)).unwrap());
        assert_eq!(bench.slot.deadline(&bench.limits), Some(next));
        // It comes, or it does not in time.
        if comes {
            assert!(bench.slot.on_frame(), "it waits for one");
        } else {
            bench.now = next;
            assert_turn!(bench.advance(), Turn::WantsFrame);
        }
        bench.takes(&[ALL]);
        bench.offer(&new).expect("the stream is fine");
        assert_eq!(bench.written(), [push_wire(&old), push_wire(&new)].concat());
        assert_eq!(bench.slot.deadline(&bench.limits), None);
        let soon = bench.now + Duration::from_millis(15);
        assert!(
            bench.slot.ready(bench.now, Some(soon)).unwrap(),
            "it has caught up"
        );
    }
}

#[test]
fn a_picture_of_which_a_byte_was_taken_stays() {
    let old = jpeg(50);
    let mut bench = Bench::new(ProtocolKind::Push);
    bench.takes(&[Ok(1)]);
    bench.offer(&old).expect("the stream is fine");
    bench.slot.mark(false, true);
    assert!(!bench.slot.wants_frame());
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::WantsFrame);
    assert_eq!(bench.written(), push_wire(&old));
}

#[test]
fn a_slow_clients_next_picture_waits_until_the_kernel_has_sent_the_last() {
    let (slow, old, new) = (jpeg(50), jpeg(60), jpeg(70));
    let mut bench = Bench::new(ProtocolKind::Push);
    bench.script.0.borrow_mut().behind = true;
    bench.takes(&[ALL]);
    bench.offer(&slow).expect("the stream is fine");
    assert_eq!(
        bench.written(),
        push_wire(&slow),
        "a fast client is not asked"
    );
    bench.takes(&[Ok(5)]);
    bench.offer(&slow).expect("the stream is fine");
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::WantsFrame);
    bench.takes(&[ALL]);
    bench.offer(&slow).expect("the stream is fine");
    assert_eq!(
        bench.written(),
        [push_wire(&slow), push_wire(&slow)].concat(),
        "nor one that was done before the next picture came"
    );
    bench.takes(&[Ok(5)]);
    bench.offer(&slow).expect("the stream is fine");
    assert!(!bench.slot.on_frame(), "it is busy");
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::WantsFrame);
    bench.written();
    bench.offer(&old).expect("the stream is fine");
    assert!(!bench.slot.wants_frame(), "until the event");
    let deadline = bench.now + bench.limits.write_timeout;
    assert_eq!(bench.slot.deadline(&bench.limits), Some(deadline));
    bench.script.0.borrow_mut().behind = false;
    bench.takes(&[ALL]);
    // The next picture may take its time: this is not the client's.
    assert_eq!(bench.slot.deadline(&bench.limits), None);
    bench.now = deadline;
    assert_turn!(bench.advance(), Turn::WantsFrame);
    bench.offer(&new).expect("the stream is fine");
    assert_eq!(bench.written(), push_wire(&new));
    assert_eq!(bench.slot.deadline(&bench.limits), None);
}

#[test]
fn max_fps_leaves_pictures_out() {
    for kind in [ProtocolKind::Push, ProtocolKind::Pull] {
        let mut bench = Bench::new(kind);
        bench.slot.subscription = Subscription::new(Some(10));
        let mut got = Vec::new();
        bench.frames = 1;
        for n in 0..30 {
            if kind == ProtocolKind::Pull {
                bench.says(b"ack\nnew_request");
            }
            bench.takes(&[ALL, ALL]);
            bench.advance();
            let meta = bench.meta();
            if bench.slot.wants_frame() && bench.slot.is_news(&meta) {
                let offered = bench.slot.offer(&meta, &jpeg(50), false, bench.now);
                offered.expect("the stream is fine");
                if kind == ProtocolKind::Pull {
                    bench.says(b"ack");
                    bench.advance();
                }
                got.push(n);
            }
            bench.frames += 1;
            bench.now += Duration::from_micros(33_333);
        }
        assert_eq!(got, [0, 3, 6, 9, 12, 15, 18, 21, 24, 27], "{kind:?}");
    }
}

#[test]
fn pull_goes_by_acks() {
    let jpeg = jpeg(3000);
    let mut bench = Bench::new(ProtocolKind::Pull);
    assert_turn!(bench.advance(), Turn::Wait);
    bench.says(b"new_re");
    assert_turn!(bench.advance(), Turn::Wait);
    bench.says(b"quest");
    assert_turn!(bench.advance(), Turn::WantsFrame);
    bench.takes(&[ALL]);
    bench.offer(&jpeg).expect("the stream is fine");
    assert_eq!(bench.text(), "newImage:3000");
    assert_turn!(bench.advance(), Turn::Wait);
    for part in jpeg.chunks(1380) {
        bench.says(b"ack");
        bench.takes(&[ALL]);
        assert_turn!(bench.advance(), Turn::Wait);
        assert_eq!(bench.written(), part);
    }
    assert_eq!(bench.state(), State::Idle);
    bench.says(b"acknew_request");
    assert_turn!(bench.advance(), Turn::WantsFrame);
}

#[test]
fn pull_sends_a_remembered_request_after_the_picture() {
    let jpeg = jpeg(1000);
    let mut bench = Bench::new(ProtocolKind::Pull);
    bench.says(b"new_request");
    assert_turn!(bench.advance(), Turn::WantsFrame);
    bench.takes(&[ALL]);
    bench.offer(&jpeg).expect("the stream is fine");
    bench.says(b"new_requestack");
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::WantsFrame);
    assert_eq!(bench.written(), [b"newImage:1000", &jpeg[..]].concat());
}

#[test]
fn pull_closes_who_breaks_the_rules() {
    let closes = |bytes: &[u8]| {
        let mut bench = Bench::new(ProtocolKind::Pull);
        bench.says(b"new_request");
        assert_turn!(bench.advance(), Turn::WantsFrame);
        bench.takes(&[ALL]);
        bench.offer(&jpeg(5000)).expect("the stream is fine");
        // The part's first bytes go out, the rest waits for room.
        bench.says(b"ack");
        bench.takes(&[Ok(5)]);
        assert_turn!(bench.advance(), Turn::Wait);
        bench.says(bytes);
        match bench.advance() {
            Turn::Closed(CloseReason::Violation(violation)) => Some(violation),
            Turn::Wait => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(closes(b"new_request\r\n"), None);
    assert_eq!(closes(b"ack"), Some(Violation::EarlyAck));
    assert_eq!(
        closes(b"new_requestnew_request"),
        Some(Violation::TooManyRequests)
    );
    assert_eq!(
        closes(b"quit"),
        Some(Violation::UnknownToken { first: b'q' })
    );
}

#[test]
fn an_ack_glued_to_the_one_before_is_early() {
    let mut bench = Bench::new(ProtocolKind::Pull);
    bench.says(b"new_request");
    assert_turn!(bench.advance(), Turn::WantsFrame);
    bench.takes(&[ALL]);
    bench.offer(&jpeg(5000)).expect("the stream is fine");
    bench.says(b"ackack");
    bench.takes(&[ALL]);
    assert_turn!(
        bench.advance(),
        Turn::Closed(CloseReason::Violation(Violation::EarlyAck))
    );
}

#[test]
fn late_acks_and_late_readers_are_closed() {
    let mut bench = Bench::new(ProtocolKind::Pull);
    bench.says(b"new_request");
    assert_turn!(bench.advance(), Turn::WantsFrame);
    assert_eq!(
        bench.slot.deadline(&bench.limits),
        None,
        "the camera's delay is not the client's"
    );
    bench.takes(&[ALL]);
    bench.offer(&jpeg(5000)).expect("the stream is fine");
    let deadline = bench.now + bench.limits.ack_timeout;
    assert_eq!(bench.slot.deadline(&bench.limits), Some(deadline));
    bench.now = deadline;
    assert_turn!(bench.advance(), Turn::Closed(CloseReason::AckTimeout));

    let mut bench = Bench::new(ProtocolKind::Push);
    bench.takes(&[Ok(10)]);
    bench.offer(&jpeg(5000)).expect("the stream is fine");
    bench.now += bench.limits.write_timeout / 2;
    bench.takes(&[Ok(10)]);
    assert_turn!(bench.advance(), Turn::Wait);
    let deadline = bench.now + bench.limits.write_timeout;
    assert_eq!(
        bench.slot.deadline(&bench.limits),
        Some(deadline),
        "each byte taken is progress"
    );
    bench.now += bench.limits.write_timeout / 2;
    bench.takes(&[Err(ErrorKind::WouldBlock)]);
    assert_turn!(bench.advance(), Turn::Wait);
    assert_eq!(
        bench.slot.deadline(&bench.limits),
        Some(deadline),
        "none taken is none"
    );
    bench.now = deadline;
    assert_turn!(bench.advance(), Turn::Closed(CloseReason::WriteTimeout));
}

#[test]
fn a_reader_that_takes_nothing_at_all_is_closed_too() {
    let mut bench = Bench::new(ProtocolKind::Push);
    let deadline = bench.now + bench.limits.write_timeout;
    while bench.now < deadline {
        bench.takes(&[Err(ErrorKind::WouldBlock)]);
        bench.offer(&jpeg(50)).expect("the stream is fine");
        bench.now += Duration::from_secs(1);
    }
    assert_turn!(bench.advance(), Turn::Closed(CloseReason::WriteTimeout));
}

#[test]
fn requests_have_their_time() {
    let mut bench = Bench::new(ProtocolKind::Http);
    assert_turn!(bench.advance(), Turn::Wait);
    bench.now += bench.limits.head_timeout;
    assert_turn!(bench.advance(), Turn::Closed(CloseReason::HeadTimeout));

    let mut bench = Bench::new(ProtocolKind::Http);
    bench.says(b"GET /st");
    assert_turn!(bench.advance(), Turn::Wait);
    bench.now += bench.limits.head_timeout;
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::Wait);
    assert!(bench.text().starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    assert!(bench.script.0.borrow().shutdown);
    bench.now += LINGER_CLOSE;
    assert_turn!(bench.advance(), Turn::Closed(CloseReason::Done));
}

#[test]
fn a_snapshot_waits_two_seconds() {
    let mut bench = Bench::new(ProtocolKind::Http);
    bench.says(b"GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_turn!(bench.advance(), Turn::WantsFrame);
    assert!(bench.slot.wants_live() && bench.slot.is_viewer());
    bench.now += SNAPSHOT_WAIT;
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::Wait);
    let reply = bench.text();
    assert!(
        reply.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{reply}"
    );
    assert_eq!(bench.state(), State::Idle, "and the connection stays");
    assert!(!bench.slot.is_viewer());
}

#[test]
fn pipelined_requests_are_answered_in_turn() {
    let mut bench = Bench::new(ProtocolKind::Http);
    bench
        .says(b"GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_turn!(bench.advance(), Turn::WantsFrame);
    let jpeg = jpeg(10_000);
    bench.takes(&[Ok(200)]);
    bench.offer(&jpeg).expect("the stream is fine");
    assert_turn!(bench.advance(), Turn::Wait);
    bench.takes(&[ALL, ALL]);
    assert_turn!(bench.advance(), Turn::Wait);
    let written = bench.written();
    let end = memchr::memmem::find(&written, b"\r\n\r\n").expect("a head") + 4;
    assert_eq!(
        &written[end..][..jpeg.len()],
        jpeg,
        "nothing gets between a picture's bytes"
    );
    assert!(written[end + jpeg.len()..].starts_with(b"HTTP/1.1 404 Not Found\r\n"));
}

#[test]
fn half_closed_peers_get_what_they_asked_for() {
    let mut push = Bench::new(ProtocolKind::Push);
    push.event(Read_::Eof);
    assert_turn!(push.advance(), Turn::WantsFrame);

    let mut http = Bench::new(ProtocolKind::Http);
    http.says(b"GET /snapshot HTTP/1.0\r\n\r\n");
    http.event(Read_::Eof);
    assert_turn!(http.advance(), Turn::WantsFrame);
    http.takes(&[ALL]);
    http.offer(&jpeg(100)).expect("the stream is fine");
    assert_turn!(http.advance(), Turn::Closed(CloseReason::Done));
    assert_eq!(http.slot.subscription.stats.frames, 1);

    let mut http = Bench::new(ProtocolKind::Http);
    http.says(b"GET /sna");
    http.event(Read_::Eof);
    assert_turn!(http.advance(), Turn::Closed(CloseReason::Done));

    let mut pull = Bench::new(ProtocolKind::Pull);
    pull.says(b"new_request");
    pull.event(Read_::Eof);
    assert_turn!(pull.advance(), Turn::Closed(CloseReason::Done));
}

#[test]
fn broken_connections_are_closed() {
    let mut bench = Bench::new(ProtocolKind::Push);
    bench.event(Read_::Error(ErrorKind::ConnectionReset));
    assert_turn!(
        bench.advance(),
        Turn::Closed(CloseReason::Io(ErrorKind::ConnectionReset))
    );

    let mut bench = Bench::new(ProtocolKind::Push);
    bench.takes(&[Err(ErrorKind::Interrupted), Err(ErrorKind::BrokenPipe)]);
    let result = bench.offer(&jpeg(10));
    assert!(
        matches!(result, Err(CloseReason::Io(ErrorKind::BrokenPipe))),
        "{result:?}"
    );
}

#[test]
fn a_flood_gives_way_to_the_others() {
    for kind in [ProtocolKind::Push, ProtocolKind::Pull] {
        let mut bench = Bench::new(kind);
        bench.says(&vec![b'\n'; 100_000]);
        assert_turn!(bench.advance(), Turn::Again);
        let mut turns = 1;
        while matches!(bench.advance(), Turn::Again) {
            turns += 1;
        }
        assert!(turns > 4, "{kind:?}: {turns} turns for 100 kB");
    }
}

#[test]
fn input_waits_in_the_kernel_while_a_reply_is_on_its_way() {
    let mut bench = Bench::new(ProtocolKind::Http);
    bench.says(b"GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_turn!(bench.advance(), Turn::WantsFrame);
    bench.says(&vec![b'x'; 3 * INPUT]);
    assert_turn!(bench.advance(), Turn::WantsFrame | Turn::Again);
    assert_turn!(bench.advance(), Turn::WantsFrame);
    let left = match bench.script.0.borrow().reads.front() {
        Some(Read_::Bytes(bytes)) => bytes.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(left, 2 * INPUT);
    assert!(!bench.link().is_at_eof(), "no room to read into is no end");
}

#[test]
fn who_finds_no_room_is_told_so() {
    let mut bench = Bench::with(ProtocolKind::Http, true);
    assert!(!bench.slot.is_viewer());
    bench.says(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::Wait);
    let reply = bench.text();
    assert!(
        reply.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{reply}"
    );
    assert!(
        reply.contains("\r\nRetry-After: 5\r\n") && reply.contains("\r\nConnection: close\r\n"),
        "{reply}"
    );
    assert!(
        bench.script.0.borrow().shutdown,
        "the client reads it before the connection ends"
    );
    bench.event(Read_::Eof);
    assert_turn!(bench.advance(), Turn::Closed(CloseReason::Done));
}

#[test]
fn skipped_pictures_are_counted() {
    let mut bench = Bench::new(ProtocolKind::Push);
    bench.takes(&[ALL]);
    bench.offer(&jpeg(10)).expect("the stream is fine");
    assert_eq!(
        bench.slot.subscription.stats.skipped, 0,
        "what was before the client came"
    );
    bench.frames += 3;
    bench.takes(&[ALL]);
    bench.offer(&jpeg(10)).expect("the stream is fine");
    assert_eq!(
        (
            bench.slot.subscription.stats.frames,
            bench.slot.subscription.stats.skipped
        ),
        (2, 3)
    );
}

// ---------------------------------------------------------------- call

fn record(receiver: &str, content: &str, kind: Kind) -> Vec<u8> {
    let mut record = Vec::new();
    call::write(&mut record, "alice", receiver, content, kind);
    record
}

/// A picture from another user, with a content of so many characters.
fn picture(len: usize) -> Vec<u8> {
    let letters = (0..len).map(|n| char::from(b'a' + (n * 7 % 26) as u8));
    record("bob", &letters.collect::<String>(), Kind::VideoData)
}

/// What the calls do to their slots.
impl Slot<Scripted> {
    fn call(&mut self, act: impl FnOnce(&mut Connection)) {
        self.with_session(|session| match session {
            Protocol::Call(call) => act(call),
            other => panic!("{other:?} is in no call"),
        });
    }

    fn set_user(&mut self, name: &Name) {
        self.call(|call| call.set_user(name, true, None));
    }

    fn set_watching(&mut self, on: bool) {
        self.call(|call| call.set_watching(on));
    }

    fn refuse_login(&mut self, record: &[u8]) {
        self.tell(record);
        self.call(Connection::refused);
    }

    fn record(&self) -> Record<'_> {
        Connection::record(self.input())
    }

    fn consume_record(&mut self) {
        self.consume(self.record().bytes.len());
    }
}

impl Bench {
    /// Somebody who has logged in.
    fn caller() -> Self {
        let mut bench = Bench::new(ProtocolKind::Call);
        bench.slot.set_user(&Name::new("bob").unwrap());
        assert_turn!(bench.advance(), Turn::Wait);
        bench
    }

    /// All records that are handed out now, and the turn after them.
    fn records(&mut self) -> (Vec<Vec<u8>>, Turn) {
        let mut records = Vec::new();
        loop {
            match self.advance() {
                Turn::Refers => {
                    records.push(self.slot.record().bytes.to_vec());
                    self.slot.consume_record();
                }
                Turn::Again => {}
                turn => return (records, turn),
            }
        }
    }

    fn passes(&mut self, record: &[u8]) {
        self.slot
            .pass(record, self.now)
            .expect("the stream is fine");
    }
}

#[test]
fn records_cut_at_every_byte() {
    let first = record("bob", "one", Kind::Other(60));
    let second = record("bob", "", Kind::End);
    let both = [&first[..], &second].concat();
    for cut in 1..both.len() {
        let mut bench = Bench::new(ProtocolKind::Call);
        bench.says(&both[..cut]);
        let (mut got, turn) = bench.records();
        assert_turn!(turn, Turn::Wait);
        assert_eq!(got.len(), usize::from(cut >= first.len()), "cut at {cut}");
        bench.says(&both[cut..]);
        let (more, turn) = bench.records();
        assert_turn!(turn, Turn::Wait);
        got.extend(more);
        assert_eq!(got, [&first[..], &second], "cut at {cut}");
    }
}

#[test]
fn a_record_as_long_as_the_buffer_is_taken_in_and_a_longer_one_is_not() {
    let overhead = picture(0).len();
    let longest = picture((64 * 1024 - overhead) / 2);
    let mut bench = Bench::new(ProtocolKind::Call);
    bench.says(&[&longest[..], &longest].concat());
    let (got, turn) = bench.records();
    assert_turn!(turn, Turn::Wait);
    assert_eq!(got, [&longest[..], &longest]);
    bench.says(&picture((64 * 1024 - overhead) / 2 + 1)[..300]);
    assert_turn!(
        bench.advance(),
        Turn::Closed(CloseReason::Violation(Violation::LongRecord))
    );
}

#[test]
fn what_is_told_goes_out_behind_the_picture_under_way_and_before_the_next() {
    let (content, next) = (jpeg(300), jpeg(200));
    let wire = |content: &[u8]| {
        let mut head = Head::new();
        let [camera, bob] = ["camera", "bob"].map(|name| Name::new(name).unwrap());
        call::picture_head(&mut head, &camera, &bob, content.len());
        [&head[..], content, call::VIDEO_DATA_TYPE].concat()
    };
    let note = record("bob", "", Kind::End);
    for cut in 1..wire(&content).len() {
        let mut bench = Bench::caller();
        assert!(!bench.slot.is_viewer());
        bench.slot.set_watching(true);
        assert!(bench.slot.is_viewer());
        assert_turn!(bench.advance(), Turn::WantsFrame);
        bench.takes(&[Ok(cut)]);
        bench.offer(&content).expect("the stream is fine");
        bench.slot.tell(&note);
        bench.slot.tell(&note);
        assert_turn!(bench.advance(), Turn::Wait);
        bench.takes(&[ALL, Ok(7)]);
        assert_turn!(bench.advance(), Turn::Wait);
        assert!(!bench.slot.wants_frame(), "the messages come first");
        bench.takes(&[ALL]);
        assert_turn!(bench.advance(), Turn::WantsFrame);
        bench.takes(&[ALL]);
        bench.offer(&next).expect("the stream is fine");
        let expected = [wire(&content), note.clone(), note.clone(), wire(&next)];
        assert_eq!(bench.written(), expected.concat(), "cut at {cut}");
        assert_eq!(
            bench.slot.subscription.stats.frames, 2,
            "messages are no pictures"
        );
    }
}

#[test]
fn hanging_up_within_a_picture_ends_behind_it() {
    let mut bench = Bench::caller();
    bench.slot.set_watching(true);
    bench.takes(&[Ok(20)]);
    bench.offer(&jpeg(100)).expect("the stream is fine");
    bench.slot.set_watching(false);
    assert_eq!(bench.state(), State::Sending);
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::Wait);
    assert!(bench.written().ends_with(call::VIDEO_DATA_TYPE));
    assert_eq!(bench.state(), State::Idle);
}

#[test]
fn who_does_not_take_what_he_is_told_is_closed() {
    let note = record("bob", &"x".repeat(480), Kind::Other(60));
    let fit = CONTROL_QUEUE / note.len();
    let mut bench = Bench::caller();
    for _ in 0..fit {
        bench.slot.tell(&note);
    }
    bench.takes(&[Err(ErrorKind::WouldBlock)]);
    assert_turn!(bench.advance(), Turn::Wait);
    // What is on its way has left the queue.
    for _ in 0..fit {
        bench.slot.tell(&note);
    }
    assert_turn!(bench.advance(), Turn::Wait);
    bench.slot.tell(&note);
    assert_turn!(bench.advance(), Turn::Closed(CloseReason::Overflow));
}

#[test]
fn the_third_refused_login_is_the_last() {
    let refused = record("bob", "wrong password", Kind::LoginRefused);
    let login = record("", "guess", Kind::Login);
    let mut bench = Bench::new(ProtocolKind::Call);
    for _ in 1..REFUSALS {
        bench.says(&login);
        assert_turn!(bench.advance(), Turn::Refers);
        bench.slot.refuse_login(&refused);
        bench.slot.consume_record();
        bench.takes(&[ALL]);
        assert_turn!(bench.advance(), Turn::Wait);
        assert_eq!(bench.written(), refused);
    }
    bench.says(&[&login[..], &login, b"more"].concat());
    assert_turn!(bench.advance(), Turn::Refers);
    bench.slot.refuse_login(&refused);
    bench.slot.consume_record();
    bench.takes(&[Ok(9)]);
    assert_turn!(bench.advance(), Turn::Wait);
    assert!(!bench.script.0.borrow().shutdown, "not within its words");
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::Wait);
    assert_eq!(bench.written(), refused);
    assert!(bench.script.0.borrow().shutdown);
    bench.says(&login);
    assert_turn!(bench.advance(), Turn::Wait);
    bench.now += LINGER_CLOSE;
    assert_turn!(bench.advance(), Turn::Closed(CloseReason::Done));
}

#[test]
fn who_finds_no_room_for_calls_is_told_so() {
    let refused = note("", "", "no room", Kind::LoginRefused);
    let mut bench = Bench::with(ProtocolKind::Call, true);
    bench.says(&record("", "", Kind::Login));
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::Wait);
    assert_eq!(bench.written(), refused[..]);
    bench.event(Read_::Eof);
    assert_turn!(bench.advance(), Turn::Closed(CloseReason::Done));
}

#[test]
fn the_silent_have_a_minute() {
    let mut bench = Bench::new(ProtocolKind::Call);
    bench.says(&record("", "", Kind::Login)[..10]);
    assert_turn!(bench.advance(), Turn::Wait);
    assert_eq!(
        bench.slot.deadline(&bench.limits),
        Some(bench.now + LOGIN_WAIT)
    );
    bench.now += LOGIN_WAIT;
    assert_turn!(bench.advance(), Turn::Closed(CloseReason::LoginTimeout));
    let user = Bench::caller();
    assert_eq!(user.slot.deadline(&user.limits), None);
}

#[test]
fn a_flood_of_messages_waits_and_is_not_lost_at_the_end() {
    let numbered: Vec<_> = (0..60)
        .map(|n| record("bob", &format!("{n:480}"), Kind::Other(60)))
        .collect();
    let mut bench = Bench::caller();
    // A picture in between waits with them.
    let all = [&numbered[..50], &[picture(9)], &numbered[50..]].concat();
    bench.says(&all.concat());
    bench.event(Read_::Eof);
    let begin = bench.now;
    let (mut got, mut turn) = bench.records();
    assert_eq!(got.len(), CONTROL_BURST / numbered[0].len());
    while let Turn::Wait = turn {
        bench.now = bench.slot.deadline(&bench.limits).expect("it goes on");
        let (more, next) = bench.records();
        assert!(!more.is_empty(), "it was woken for nothing");
        got.extend(more);
        turn = next;
    }
    assert_turn!(turn, Turn::Closed(CloseReason::Done));
    assert_eq!(got, all);
    let bytes = 60 * numbered[0].len() - CONTROL_BURST;
    let seconds = bytes as f64 / CONTROL_RATE as f64;
    let took = (bench.now - begin).as_secs_f64();
    assert!((took - seconds).abs() < 0.05, "{took} for {seconds} s");
}

#[test]
fn a_passed_picture_cut_anywhere_arrives_whole() {
    let wire = picture(150);
    for cut in 1..wire.len() {
        let mut bench = Bench::caller();
        bench.takes(&[Ok(cut)]);
        // The sender's buffer is another's afterwards.
        bench.passes(&wire.clone());
        assert_eq!(bench.state(), State::Sending);
        bench.takes(&[Ok((wire.len() - cut).div_ceil(2))]);
        assert_turn!(bench.advance(), Turn::Wait);
        bench.takes(&[ALL]);
        assert_turn!(bench.advance(), Turn::Wait);
        assert_eq!(bench.written(), wire, "cut at {cut}");
        assert_eq!(bench.slot.subscription.stats.frames, 1);
        assert_eq!(bench.state(), State::Idle);
    }
}

#[test]
fn a_passed_picture_of_which_nothing_is_taken_is_dropped() {
    let (old, new) = (picture(50), picture(60));
    let mut bench = Bench::caller();
    bench.takes(&[Err(ErrorKind::WouldBlock)]);
    bench.passes(&old);
    assert_eq!((bench.state(), bench.slot.unsent()), (State::Idle, 0));
    // Without an event it is not tried again.
    bench.passes(&old);
    assert_eq!(bench.slot.subscription.stats.skipped, 2);
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::Wait);
    bench.passes(&new);
    assert_eq!(bench.written(), new);
    assert_eq!(
        (
            bench.slot.subscription.stats.frames,
            bench.slot.subscription.stats.skipped
        ),
        (1, 2)
    );
}

#[test]
fn a_passed_picture_never_overtakes_a_message() {
    let (note, shown) = (record("bob", "", Kind::End), picture(50));
    let mut bench = Bench::caller();
    bench.slot.tell(&note);
    bench.takes(&[ALL, ALL]);
    bench.passes(&shown);
    assert_eq!(bench.written(), [&note[..], &shown].concat());
    bench.slot.tell(&note);
    bench.takes(&[Ok(3)]);
    bench.passes(&shown);
    bench.takes(&[ALL, ALL]);
    assert_turn!(bench.advance(), Turn::Wait);
    assert_eq!(bench.written(), note, "it was not its turn");
}

#[test]
fn who_stalls_within_a_passed_picture_or_a_message_is_closed() {
    for is_picture in [true, false] {
        let mut bench = Bench::caller();
        bench.takes(&[Ok(5)]);
        match is_picture {
            true => bench.passes(&picture(50)),
            false => bench.slot.tell(&picture(50)),
        }
        assert_turn!(bench.advance(), Turn::Wait);
        bench.now += bench.limits.write_timeout / 2;
        // Pictures that are dropped are no sign of life.
        bench.passes(&picture(60));
        bench.now += bench.limits.write_timeout / 2;
        assert_eq!(bench.slot.deadline(&bench.limits), Some(bench.now));
        assert_turn!(bench.advance(), Turn::Closed(CloseReason::WriteTimeout));
    }
}

#[test]
fn who_has_taken_everything_is_not_waited_for() {
    let (slow, old, new) = (picture(50), picture(60), picture(70));
    let mut bench = Bench::caller();
    bench.script.0.borrow_mut().behind = true;
    bench.takes(&[Ok(5)]);
    bench.passes(&slow);
    bench.passes(&old);
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::Wait);
    assert_eq!(bench.written(), slow);
    bench.takes(&[ALL]);
    bench.passes(&old);
    assert_eq!(bench.written(), b"", "the kernel would take it");
    let deadline = bench.now + bench.limits.write_timeout;
    assert_eq!(bench.slot.deadline(&bench.limits), Some(deadline));
    // Then nobody sends any more for a long time.
    bench.script.0.borrow_mut().behind = false;
    bench.slot.mark(false, true);
    assert_eq!(bench.slot.deadline(&bench.limits), None);
    bench.now = deadline;
    assert_turn!(bench.advance(), Turn::Wait);
    bench.passes(&new);
    assert_eq!(bench.written(), new);
}

#[test]
fn what_one_says_to_himself_comes_back() {
    let mut bench = Bench::caller();
    let (first, second) = (picture(5), record("bob", "b", Kind::Other(60)));
    bench.says(&[&first[..], &second].concat());
    assert_turn!(bench.advance(), Turn::Refers);
    bench.slot.echo(first.len());
    bench.slot.consume_record();
    assert_turn!(bench.advance(), Turn::Refers);
    assert_eq!(bench.slot.record().bytes, second);
    bench.slot.consume_record();
    bench.takes(&[ALL]);
    assert_turn!(bench.advance(), Turn::Wait);
    assert_eq!(bench.written(), first);
}
