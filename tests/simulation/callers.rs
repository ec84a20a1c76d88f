//! Users of a call listener, for the simulation: what they say, and whether what they hear can be.
//!
//! Each record that a user says has a content of its own, so that whoever hears it knows from whom it is, and can make
//! it again to compare every byte. What the relay says by itself has none of these.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camd::limits::{REFUSALS, RINGING};
use camd::protocol::call::{self, Kind, Record};
use fastrand::Rng;

/// Fewer than users, so that names are in use, and come again.
const NAMES: [&str; 12] = [
    "anna", "bert", "čeněk", "dora", "emil", "φως", "greta", "hans", "井", "jörg", "klara", "😀",
];
/// Addresses of another kind than the indices of [`NAMES`].
const NOBODY: usize = NAMES.len();
pub const CAMERA: usize = NOBODY + 1;
pub const PASSWORD: &str = "öffne dich";

/// Who has said nothing but pictures for so long has been heard by the relay.
const SETTLED: Duration = Duration::from_secs(1);
/// Who floods fills the kernels' buffers, and no more.
const BACKLOG: usize = 40_000;

pub fn name(address: usize) -> &'static str {
    match address {
        NOBODY => "nobody",
        CAMERA => "camera",
        index => NAMES[index],
    }
}

pub fn address(name: &str) -> Option<usize> {
    (0..=CAMERA).find(|address| self::name(*address) == name)
}

pub fn addresses() -> std::ops::Range<usize> {
    0..NAMES.len()
}

#[derive(Clone, Copy)]
struct Said {
    to: usize,
    kind: Kind,
    /// Characters behind the number.
    filler: usize,
    at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sound {
    /// What the connection of that number said, as its record of that number.
    Relayed(usize, usize),
    /// What the relay says in the sender's name.
    Made(Kind),
}

#[derive(Clone, Copy)]
struct Heard {
    from: usize,
    sound: Sound,
    at: Instant,
}

/// One connection, which may have ended.
#[derive(Default)]
struct Person {
    /// The last one that it tried, or has.
    name: Option<usize>,
    /// When it knew that it was let in.
    knows: Option<Instant>,
    said: Vec<Said>,
    /// But for pictures.
    heard: Vec<Heard>,
}

/// Everything that was said and heard in a world.
pub struct Log {
    pub now: Instant,
    /// Nobody begins to talk.
    pub hush: bool,
    /// Whose connection broke last.
    pub crashed: Option<usize>,
    people: Vec<Person>,
    pub sum: Sum,
}

/// What happened, to see that all of it does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    pub logins: u64,
    pub refused: u64,
    pub relayed: u64,
    /// Pictures of another user.
    pub pictures: u64,
    pub accepted: u64,
    pub busy: u64,
    pub ends: u64,
    pub unavailable: u64,
    /// Pairs whose talk was gone through from end to end, and records in that.
    pub pairs: u64,
    pub explained: u64,
}

impl Sum {
    fn each(&mut self) -> [(&'static str, &mut u64); 10] {
        [
            ("logins", &mut self.logins),
            ("refused logins", &mut self.refused),
            ("relayed records", &mut self.relayed),
            ("users' pictures", &mut self.pictures),
            ("calls with the camera", &mut self.accepted),
            ("rejected by the camera", &mut self.busy),
            ("ENDs of the relay", &mut self.ends),
            ("absent users", &mut self.unavailable),
            ("pairs", &mut self.pairs),
            ("records between them", &mut self.explained),
        ]
    }

    pub fn add(mut self, mut other: Sum) -> Sum {
        for ((_, sum), (_, more)) in self.each().into_iter().zip(other.each()) {
            *sum += *more;
        }
        self
    }

    /// Each thing happened, and how often.
    pub fn check(mut self) -> String {
        let each = self.each().map(|(what, count)| {
            assert!(*count > 0, "no {what}");
            format!("{count} {what}")
        });
        each.join(", ")
    }
}

impl Log {
    pub fn new(now: Instant) -> Rc<RefCell<Log>> {
        Rc::new(RefCell::new(Log {
            now,
            hush: false,
            crashed: None,
            people: Vec::new(),
            sum: Sum::default(),
        }))
    }

    fn record(&self, person: usize, number: usize) -> Vec<u8> {
        let Said {
            to, kind, filler, ..
        } = self.people[person].said[number];
        let sender = self.people[person]
            .name
            .expect("only people with names talk");
        let mut content = format!("~{person}/{number}~");
        let letters = ['x', 'ü', '€', '😀', '\0', '\u{fffd}', '~'];
        let from = person + number;
        content.extend((from..from + filler).map(|i| letters[i % letters.len()]));
        let mut record = Vec::new();
        call::write(&mut record, name(sender), name(to), &content, kind);
        record
    }
}

// ---------------------------------------------------------------- one user

#[derive(Clone, Copy, Debug, PartialEq)]
enum Login {
    /// Under way: nothing is said before the answer.
    Asked {
        wrong: bool,
    },
    /// Talks without having logged in.
    Talks,
    In,
}

pub struct Caller {
    me: usize,
    log: Rc<RefCell<Log>>,
    rng: Rng,
    login: Login,
    refusals: u8,
    pub floods: bool,
    /// The link takes each picture of the camera, and the listener's fps is higher than the camera's.
    pub every_picture: bool,
    /// The next try to log in; or it gives up.
    pub at_once: Vec<u8>,
    pub leaves: bool,
    /// Answers that are due.
    answers: Vec<(usize, Kind)>,
    /// With whom a call is likely.
    partner: Option<usize>,
    /// Begins to talk again then, or falls silent.
    until: Instant,
    talks: bool,
    /// REQUESTs to the camera that are not answered yet.
    asked: u32,
    /// What the camera's last answer, and what was said to it last, come to.
    in_call: bool,
    /// When something other than a picture was said last.
    spoke: Instant,
    /// The last record of each connection that was heard.
    last: Vec<Option<usize>>,
    /// In this turn: senders of pictures; and whether there was anything that a call can depend on.
    pictures_of: Vec<usize>,
    stirred: bool,
}

impl Caller {
    pub fn new(log: &Rc<RefCell<Log>>, mut rng: Rng, floods: bool, open: bool) -> Self {
        let mut inner = log.borrow_mut();
        let me = inner.people.len();
        let again = inner.crashed.filter(|_| rng.bool());
        let name = again.unwrap_or_else(|| rng.usize(0..NAMES.len()));
        inner.people.push(Person {
            name: Some(name),
            ..Person::default()
        });
        let now = inner.now;
        drop(inner);
        let login = match rng.u8(0..8) {
            0 if open => Login::Talks,
            1 => Login::Asked { wrong: true },
            _ => Login::Asked { wrong: false },
        };
        Caller {
            me,
            log: Rc::clone(log),
            rng,
            login,
            refusals: 0,
            floods,
            every_picture: false,
            at_once: Vec::new(),
            leaves: false,
            answers: Vec::new(),
            partner: None,
            until: now,
            talks: false,
            asked: 0,
            in_call: false,
            spoke: now,
            last: Vec::new(),
            pictures_of: Vec::new(),
            stirred: false,
        }
    }

    /// One that comes under this name, and with the right password.
    pub fn named(log: &Rc<RefCell<Log>>, rng: Rng, name: usize) -> Self {
        let mut caller = Caller::new(log, rng, false, false);
        caller.login = Login::Asked { wrong: false };
        caller.log.borrow_mut().people[caller.me].name = Some(name);
        caller
    }

    pub fn name(&self) -> usize {
        self.log.borrow().people[self.me]
            .name
            .expect("it has one from the start")
    }

    pub fn is_in(&self) -> bool {
        self.log.borrow().people[self.me].knows.is_some()
    }

    /// Records heard, but for pictures.
    pub fn heard(&self) -> usize {
        self.log.borrow().people[self.me].heard.len()
    }

    /// Gets each picture of the camera that comes now.
    pub fn watches(&self) -> bool {
        self.in_call && self.asked == 0 && self.every_picture
    }

    /// The relay knows all that this user has done.
    pub fn is_settled(&self) -> bool {
        self.is_in() && self.log.borrow().now > self.spoke + SETTLED
    }

    pub fn begin_turn(&mut self) {
        self.pictures_of.clear();
        self.stirred = false;
    }

    /// After a turn before which the relay knew all that this user had done, and he was in a call with these.
    pub fn check_pictures(&self, partners: &[usize]) {
        for of in self.pictures_of.iter().filter(|_| !self.stirred) {
            let [of_name, own] = [*of, self.name()].map(name);
            assert!(
                partners.contains(of),
                "{own}, in a call with {partners:?}, sees {of_name}"
            );
        }
    }

    pub fn log_in(&mut self) -> Vec<u8> {
        let password = match self.login {
            Login::Asked { wrong: true } => "falsch",
            Login::Asked { wrong: false } => PASSWORD,
            Login::Talks | Login::In => return Vec::new(),
        };
        let mut record = Vec::new();
        call::write(&mut record, name(self.name()), "", password, Kind::Login);
        record
    }

    pub fn say(&mut self, to: usize, kind: Kind, filler: usize) -> Vec<u8> {
        let mut log = self.log.borrow_mut();
        let at = log.now;
        let number = log.people[self.me].said.len();
        log.people[self.me].said.push(Said {
            to,
            kind,
            filler,
            at,
        });
        if kind != Kind::VideoData {
            self.spoke = at;
        }
        if to == CAMERA {
            self.asked += u32::from(kind == Kind::Request);
            self.in_call &= !matches!(kind, Kind::End | Kind::Reject);
        }
        log.record(self.me, number)
    }

    /// What is said in a step. `backlog`: bytes that the relay has not taken in.
    pub fn talk(&mut self, backlog: usize) -> Vec<u8> {
        let (now, hush) = (self.log.borrow().now, self.log.borrow().hush);
        let mut out = Vec::new();
        if hush || matches!(self.login, Login::Asked { .. }) || backlog > BACKLOG {
            self.answers.clear();
            return out;
        }
        if self.login == Login::Talks {
            // It is in as soon as this arrives. The answer comes to whoever asks.
            let to = self.rng.usize(0..=CAMERA);
            out.extend(self.say(to, Kind::Other(60), 3));
            self.login = Login::Asked { wrong: false };
            out.extend(self.log_in());
            return out;
        }
        for (to, kind) in std::mem::take(&mut self.answers) {
            out.extend(self.say(to, kind, 0));
        }
        if now >= self.until {
            self.talks = !self.talks;
            let most = if self.talks { 800 } else { 4000 };
            self.until = now + Duration::from_millis(self.rng.u64(0..most));
        }
        if self.floods {
            let to = self.rng.usize(0..NAMES.len());
            for _ in 0..self.rng.usize(1..20) {
                let filler = self.rng.usize(0..2000);
                out.extend(self.say(to, Kind::Other(70), filler));
            }
        } else if self.talks {
            let to = self.someone();
            let kind = self.something(to);
            let filler = match self.rng.u8(0..20) {
                0 => self.rng.usize(0..300),
                _ => self.rng.usize(0..10),
            };
            out.extend(self.say(to, kind, filler));
        }
        if self.rng.u8(0..3) == 0 {
            let to = self.partner.unwrap_or_else(|| self.someone());
            let filler = match self.rng.u8(0..40) {
                // As long as a record can be.
                0 => 20_000,
                1..4 => self.rng.usize(0..4000),
                _ => self.rng.usize(0..200),
            };
            out.extend(self.say(to, Kind::VideoData, filler));
        }
        out
    }

    fn someone(&mut self) -> usize {
        match (self.rng.u8(0..20), self.partner) {
            (0, _) => NOBODY,
            (1..6, _) => CAMERA,
            (6..14, Some(partner)) => partner,
            _ => self.rng.usize(0..NAMES.len()),
        }
    }

    fn something(&mut self, to: usize) -> Kind {
        let end = if Some(to) == self.partner || to == CAMERA {
            1
        } else {
            4
        };
        match self.rng.u8(0..24) {
            0..8 => Kind::Request,
            8..10 => Kind::Accept,
            10 => Kind::Reject,
            n if n < 11 + end => Kind::End,
            // LOGIN's neighbour, Qt's own, and some that nobody knows.
            n => Kind::Other([0, 53, 60, -1, i32::MAX][usize::from(n) % 5]),
        }
    }

    /// Something that costs him the connection.
    pub fn misbehave(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let own = name(self.name());
        let length = |n: u32| n.to_be_bytes();
        match self.rng.u8(0..9) {
            0 => out.extend(length(2 * self.rng.u32(0..70) + 1)),
            1 => out.extend(length(0xffff_fffe)),
            2 => out.extend([length(4), length(0x61_0062), length(0x8000_0000)].concat()),
            3 => out.extend([length(0), length(0), length(64 * 1024)].concat()),
            4 => call::write(&mut out, own, "", &"x".repeat(9000), Kind::Other(60)),
            5 => call::write(&mut out, own, own, "", Kind::Unavailable),
            6 => call::write(&mut out, own, own, "", Kind::LoginOk),
            7 => call::write(&mut out, "a\nb", own, "", Kind::Login),
            _ if self.is_in() => call::write(&mut out, "camera", own, "", Kind::VideoData),
            _ => call::write(&mut out, "", own, "", Kind::Login),
        }
        out
    }

    /// Takes in a record, which is the camera's picture, if it is one.
    pub fn hear(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        let [sender, receiver, content] =
            [record.sender, record.receiver, record.content].map(|text| {
                let units = text
                    .as_chunks()
                    .0
                    .iter()
                    .map(|unit| u16::from_be_bytes(*unit));
                String::from_utf16(&units.collect::<Vec<_>>()).expect("all texts here are text")
            });
        let own = name(self.name());
        // To nobody by name: there is no room, or none any more.
        if receiver.is_empty() {
            assert_eq!((record.kind, &*sender), (Kind::LoginRefused, ""));
            let reasons = ["no room", "no room for more from this address"];
            assert!(reasons.contains(&&*content), "{content}");
            self.leaves = true;
            return None;
        }
        assert_eq!(receiver, own, "somebody else's {:?}", record.kind);
        if let Kind::LoginOk | Kind::LoginRefused = record.kind {
            assert_eq!(sender, "");
            self.answered(record.kind, &content);
            return None;
        }
        let from = address(&sender).expect("a name that was in a record of ours");
        let mut log = self.log.borrow_mut();
        let at = log.now;
        if let Some((person, number)) = self::number(&content) {
            assert!(
                record.bytes == log.record(person, number),
                "arrived changed"
            );
            self.last.resize(log.people.len(), None);
            let last = self.last[person].replace(number);
            assert!(last < Some(number), "{number} after {last:?} of {person}");
            log.sum.relayed += 1;
            if record.kind == Kind::VideoData {
                log.sum.pictures += 1;
                self.pictures_of.push(from);
                return None;
            }
            let sound = Sound::Relayed(person, number);
            log.people[self.me].heard.push(Heard { from, sound, at });
        } else if record.kind == Kind::VideoData {
            assert_eq!(from, CAMERA, "who else sends pictures without a number");
            self.pictures_of.push(from);
            let mut jpeg = vec![0; content.len()];
            let decoded = STANDARD.decode_slice(&content, &mut jpeg);
            jpeg.truncate(decoded.expect("Base64, with its padding"));
            return Some(jpeg);
        } else {
            let known = match record.kind {
                Kind::Accept | Kind::End => content.is_empty(),
                Kind::Unavailable => content == "not logged in",
                Kind::Reject if from == CAMERA => content == "in too many calls",
                Kind::Reject => {
                    let own = ["this is yourself", "too many calls", "rings too often"];
                    own.contains(&&*content) || content == "rung up by others"
                }
                _ => false,
            };
            assert!(known, "{:?} of {sender}: {content:?}", record.kind);
            log.sum.ends += u64::from(record.kind == Kind::End);
            log.sum.unavailable += u64::from(record.kind == Kind::Unavailable);
            let sound = Sound::Made(record.kind);
            log.people[self.me].heard.push(Heard { from, sound, at });
        }
        drop(log);
        self.stirred |= !matches!(record.kind, Kind::Other(_));
        self.react(from, record.kind);
        None
    }

    fn react(&mut self, from: usize, kind: Kind) {
        match (from, kind) {
            (CAMERA, Kind::Accept | Kind::Reject) => {
                self.asked -= 1;
                // Unless it was hung up meanwhile, as an answer to an earlier REQUEST does not tell.
                let log = self.log.borrow();
                let said = log.people[self.me].said.iter().rev();
                let mut calls = said.filter(|said| {
                    said.to == CAMERA
                        && matches!(said.kind, Kind::Request | Kind::End | Kind::Reject)
                });
                let asked_last = calls.next().is_some_and(|said| said.kind == Kind::Request);
                self.in_call = asked_last && self.asked == 0 && kind == Kind::Accept;
                drop(log);
                let mut log = self.log.borrow_mut();
                match kind {
                    Kind::Accept => log.sum.accepted += 1,
                    _ => log.sum.busy += 1,
                }
            }
            (_, Kind::Request) => match self.rng.u8(0..8) {
                0..4 => {
                    self.partner = Some(from);
                    self.answers.push((from, Kind::Accept));
                }
                4 => self.answers.push((from, Kind::Reject)),
                5 => self.answers.extend([(from, Kind::Accept); 2]),
                _ => {}
            },
            (_, Kind::Accept) => self.partner = Some(from),
            (_, Kind::End | Kind::Reject | Kind::Unavailable) if self.partner == Some(from) => {
                self.partner = None;
            }
            _ => {}
        }
    }

    fn answered(&mut self, kind: Kind, reason: &str) {
        let Login::Asked { wrong } = self.login else {
            panic!("{kind:?} to one who did not ask");
        };
        let mut log = self.log.borrow_mut();
        if kind == Kind::LoginOk {
            assert_eq!(reason, "");
            let now = log.now;
            log.people[self.me].knows = Some(now);
            log.sum.logins += 1;
            self.login = Login::In;
            return;
        }
        log.sum.refused += 1;
        self.refusals += 1;
        let own = log.people[self.me].name;
        match reason {
            "wrong password" => assert!(wrong),
            "this name is in use" => {
                let others = log.people.iter().enumerate();
                let mut holders = others.filter(|(i, other)| *i != self.me && other.name == own);
                assert!(own == Some(CAMERA) || holders.next().is_some(), "by whom?");
            }
            other => panic!("refused: {other}"),
        }
        // Who was refused may try another name, or again; who has said something under this one must not.
        if log.people[self.me].said.is_empty() && self.refusals < REFUSALS {
            log.people[self.me].name = match self.rng.u8(0..6) {
                0..3 => own,
                3 => Some(CAMERA),
                _ => Some(self.rng.usize(0..NAMES.len())),
            };
            self.login = Login::Asked {
                wrong: self.rng.u8(0..8) == 0,
            };
            drop(log);
            self.at_once = self.log_in();
        } else {
            self.leaves = true;
        }
    }
}

/// Of the content of a record that a user has said: the connection's and the record's.
fn number(content: &str) -> Option<(usize, usize)> {
    let (numbers, _) = content.strip_prefix('~')?.split_once('~')?;
    let (person, number) = numbers.split_once('/')?;
    Some((person.parse().ok()?, number.parse().ok()?))
}

// ---------------------------------------------------------------- what two users said and heard

/// What is between two users, by the table in `switchboard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Between {
    Nothing,
    /// Who rings, and by which of his records.
    Rings(usize, usize),
    Call,
}

/// How far the two have come, each from 0 to the end of what he said and heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stand {
    said: [usize; 2],
    heard: [usize; 2],
    between: Between,
}

/// What one of two said to the other, and heard from him. The pictures are not in it.
struct Side {
    me: usize,
    said: Vec<(usize, Said)>,
    heard: Vec<Heard>,
    /// How much of it may be from before the other one came: somebody else had his name, or nobody.
    said_before: usize,
    heard_before: usize,
}

struct Talk([Side; 2]);

impl Talk {
    fn of(log: &Log, a: usize, b: usize) -> Talk {
        Talk([(a, b), (b, a)].map(|(me, other)| {
            let (person, there) = (&log.people[me], &log.people[other]);
            let (to, since) = (
                there.name.expect("it is in"),
                there.knows.expect("it is in"),
            );
            let said = person.said.iter().copied().enumerate();
            let said: Vec<_> = said
                .filter(|(_, said)| said.to == to && said.kind != Kind::VideoData)
                .collect();
            let heard = person.heard.iter().copied();
            let heard: Vec<_> = heard.filter(|heard| heard.from == to).collect();
            let said_before = said.iter().filter(|(_, said)| said.at <= since).count();
            let by = |heard: &Heard| match heard.sound {
                Sound::Relayed(person, _) => Some(person),
                Sound::Made(_) => None,
            };
            let somebody_else = heard.iter().filter_map(by).any(|person| person != other);
            let first = heard.iter().position(|heard| by(heard) == Some(other));
            let heard_before = match said_before > 0 || somebody_else {
                true => first.unwrap_or(heard.len()),
                false => 0,
            };
            Side {
                me,
                said,
                heard,
                said_before,
                heard_before,
            }
        }))
    }

    /// Whether there is an order in which the relay can have taken in what the two said that explains all that they heard.
    fn is_explained(&self) -> bool {
        let [a, b] = &self.0;
        let mut open = Vec::new();
        for (x, y) in pairs(a.said_before, b.said_before) {
            for (p, q) in pairs(a.heard_before, b.heard_before) {
                open.push(Stand {
                    said: [x, y],
                    heard: [p, q],
                    between: Between::Nothing,
                });
            }
        }
        let mut seen = HashSet::new();
        while let Some(stand) = open.pop() {
            if stand.said == [a.said.len(), b.said.len()]
                && stand.heard == [a.heard.len(), b.heard.len()]
            {
                return true;
            }
            if seen.insert(stand) {
                self.follow(stand, &mut open);
            }
        }
        false
    }

    /// What can come next.
    fn follow(&self, stand: Stand, open: &mut Vec<Stand>) {
        let next = |side: usize| self.0[side].heard.get(stand.heard[side]);
        let soon = [0, 1]
            .into_iter()
            .filter_map(next)
            .map(|heard| heard.at)
            .min();
        for x in [0, 1] {
            let y = 1 - x;
            let Some(&(number, said)) = self.0[x].said.get(stand.said[x]) else {
                continue;
            };
            // What is heard earlier has been taken in earlier.
            if soon.is_some_and(|soon| said.at > soon) {
                continue;
            }
            let relayed = (y, Sound::Relayed(self.0[x].me, number));
            let made = |to, kind| (to, Sound::Made(kind));
            let mut comes = |sounds: &[(usize, Sound)], between| {
                if let Some(mut next) = self.hear(stand, sounds, said.at) {
                    next.said[x] += 1;
                    next.between = between;
                    open.push(next);
                }
            };
            use Between::{Call, Nothing, Rings};
            match (said.kind, stand.between) {
                (Kind::Request, Nothing) => {
                    // He may have placed too many calls.
                    comes(&[made(x, Kind::Reject)], Nothing);
                    comes(&[relayed], Rings(x, stand.said[x]));
                }
                (Kind::Request, Rings(by, _)) if by == x => {
                    comes(&[relayed], stand.between);
                    // He rings too often.
                    comes(&[], stand.between);
                }
                (Kind::Request, Rings(..)) => {
                    comes(&[made(x, Kind::Accept), made(y, Kind::Accept)], Call);
                }
                (Kind::Request, Call) => comes(&[made(x, Kind::Accept)], Call),
                (Kind::Accept, Nothing) => comes(&[made(x, Kind::End)], Nothing),
                (Kind::Accept, Rings(by, _)) if by == y => comes(&[relayed], Call),
                (Kind::Accept, between) => comes(&[], between),
                (Kind::End | Kind::Reject, Nothing) => comes(&[], Nothing),
                (Kind::End | Kind::Reject, _) => comes(&[relayed], Nothing),
                (_, between) => comes(&[relayed], between),
            }
        }
        if let Between::Rings(by, request) = stand.between {
            let ends = [0, 1].map(|side| (side, Sound::Made(Kind::End)));
            let until = self.0[by].said[request].1.at + RINGING;
            if let Some(next) = self.hear(stand, &ends, until) {
                open.push(Stand {
                    between: Between::Nothing,
                    ..next
                });
            }
        }
    }

    /// Both hear this, and not before `at`.
    fn hear(&self, mut stand: Stand, sounds: &[(usize, Sound)], at: Instant) -> Option<Stand> {
        for (side, sound) in sounds {
            let heard = self.0[*side].heard.get(stand.heard[*side])?;
            if heard.sound != *sound || heard.at < at {
                return None;
            }
            stand.heard[*side] += 1;
        }
        Some(stand)
    }

    fn tell(&self) -> String {
        let mut lines = Vec::new();
        for (
            Side {
                me, said, heard, ..
            },
            other,
        ) in self.0.iter().zip([1, 0])
        {
            let other = self.0[other].me;
            for (number, Said { kind, at, .. }) in said {
                lines.push((*at, format!("{me} says {number}, {kind:?}, to {other}")));
            }
            for Heard { sound, at, .. } in heard {
                lines.push((*at, format!("{me} hears {sound:?}")));
            }
        }
        lines.sort();
        let first = lines[0].0;
        let lines = lines
            .iter()
            .map(|(at, line)| format!("{:?} {line}\n", *at - first));
        lines.collect()
    }
}

fn pairs(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..=a).flat_map(move |x| (0..=b).map(move |y| (x, y)))
}

/// Everything that these users, who are all there, have said has been answered or is with whom it was for.
pub fn check(log: &RefCell<Log>, callers: &[&Caller]) {
    let mut log = log.borrow_mut();
    for (index, caller) in callers.iter().enumerate() {
        for to in [
            NOBODY,
            CAMERA,
            log.people[caller.me].name.expect("it is in"),
        ] {
            check_answers(&log, caller.me, to);
        }
        for other in &callers[index + 1..] {
            let talk = Talk::of(&log, caller.me, other.me);
            assert!(
                talk.is_explained(),
                "no order explains this:\n{}",
                talk.tell()
            );
            log.sum.pairs += 1;
            let sides = talk.0.iter();
            log.sum.explained += sides.map(|side| side.heard.len() as u64).sum::<u64>();
        }
    }
}

/// What somebody hears from those who say nothing by themselves: nobody, the camera and himself.
fn check_answers(log: &Log, me: usize, to: usize) {
    let person = &log.people[me];
    let mut heard = person
        .heard
        .iter()
        .filter(|heard| heard.from == to)
        .map(|heard| heard.sound);
    let mut in_call = false;
    for (number, Said { kind, .. }) in person.said.iter().enumerate().filter(|(_, s)| s.to == to) {
        let made = |kind| Some(vec![Sound::Made(kind)]);
        let relayed = Some(vec![Sound::Relayed(me, number)]);
        let can_be = match (to, kind) {
            (_, Kind::VideoData) => None,
            (CAMERA, Kind::Request) if in_call => made(Kind::Accept),
            (CAMERA, Kind::Request) => Some([Kind::Accept, Kind::Reject].map(Sound::Made).into()),
            (CAMERA, Kind::End | Kind::Reject) => {
                in_call = false;
                None
            }
            (CAMERA, _) => None,
            (_, Kind::Accept) => made(Kind::End),
            (_, Kind::End | Kind::Reject) => None,
            (NOBODY, _) => made(Kind::Unavailable),
            (_, Kind::Request) => made(Kind::Reject),
            _ => relayed,
        };
        if let Some(can_be) = can_be {
            let heard = heard.next();
            let to = name(to);
            let good = heard.is_some_and(|heard| can_be.contains(&heard));
            assert!(good, "{heard:?} for {kind:?} to {to}, not {can_be:?}");
            in_call |= heard == Some(Sound::Made(Kind::Accept));
        }
    }
    assert_eq!(heard.next(), None, "of {}, who was told nothing", name(to));
}

/// Whether the first heard, at this time or later, that the relay ended what was between him and the second.
pub fn heard_end(log: &RefCell<Log>, who: &Caller, of: usize, since: Instant) -> bool {
    let log = log.borrow();
    let mut heard = log.people[who.me].heard.iter();
    let end = Sound::Made(Kind::End);
    heard.any(|heard| heard.from == of && heard.sound == end && heard.at >= since)
}
