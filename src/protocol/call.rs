//! call: messages between users who have logged in, and pictures among them; video calls are made of both.
#![doc = include_str!("call.md")]
//!
//! # The session
//!
//! ```text
//!              its first record, or a right LOGIN
//!   unnamed ──────────────────────────────────────▶ a user ─────────────┐
//!      │ 60 s, or the third LOGIN_REFUSED              ▲ END, REJECT    │ REQUEST, answered by ACCEPT
//!      ▼                                               └── watching ◀───┘
//!    closed                                          gets the camera's VIDEO_DATA
//! ```
//!
//! Records are heard at any time, whatever is being sent: what they lead to waits in the slot's outbox, and a picture
//! never overtakes it. Records without picture pass at [`CONTROL_RATE`]. Who is in a call with whom is the matter of
//! [`crate::client::switchboard`]; with a relay at the other end, of [`Partners`].

use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

pub use super::name::Name;
use super::session::*;
use super::setup::Setup;
use super::user::{Access, User, Verdict};
use crate::limits::{
    CONTROL_BURST, CONTROL_RATE, CONTROL_RECORD, LOGIN_WAIT, MAX_CLIENTS, PASSWORD, PASSWORD_BYTES,
    REASON, REFUSALS, USER_NAME, USER_NAME_BYTES,
};
use crate::measure::decimate::Decimator;
use crate::picture::frame::{FrameBuf, FrameMeta};

/// The length in front of a text, and the type at the end, in bytes.
const LENGTH: usize = 4;
const TYPE: usize = 4;
/// The length that says "null".
const NULL: u32 = u32::MAX;

/// The type behind a picture: the end of its record.
pub const VIDEO_DATA_TYPE: &[u8; TYPE] = &[0, 0, 0, 57];

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user logs in.
    Login,
    /// The relay lets that user in.
    LoginOk,
    /// The relay does not; says why.
    LoginRefused,
    /// Calls another user.
    Request,
    /// Accepts a call.
    Accept,
    /// Declines a call; says why.
    Reject,
    /// A picture.
    VideoData,
    /// Hangs up.
    End,
    /// The receiver is not connected; says why.
    Unavailable,
    /// Any other type, for the users alone.
    Other(i32),
}

impl Kind {
    /// The type as it is on the wire.
    pub fn number(self) -> i32 {
        match self {
            Kind::Login => 1,
            Kind::LoginOk => 2,
            Kind::LoginRefused => 3,
            Kind::Request => 54,
            Kind::Accept => 55,
            Kind::Reject => 56,
            Kind::VideoData => 57,
            Kind::End => 58,
            Kind::Unavailable => 59,
            Kind::Other(number) => number,
        }
    }
}

impl From<i32> for Kind {
    fn from(number: i32) -> Self {
        match number {
            1 => Kind::Login,
            2 => Kind::LoginOk,
            3 => Kind::LoginRefused,
            54 => Kind::Request,
            55 => Kind::Accept,
            56 => Kind::Reject,
            57 => Kind::VideoData,
            58 => Kind::End,
            59 => Kind::Unavailable,
            number => Kind::Other(number),
        }
    }
}

/// A whole record as it lies in the input. The texts are UTF-16BE, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// All of it.
    pub bytes: &'a [u8],
    /// The user that sends it.
    pub sender: &'a [u8],
    /// The user that is to get it.
    pub receiver: &'a [u8],
    /// What it says.
    pub content: &'a [u8],
    /// What it is about.
    pub kind: Kind,
}

/// How long a record may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Longest {
    /// One with a picture. What the input buffer has room for.
    pub picture: usize,
    /// Any other.
    pub control: usize,
}

impl Longest {
    /// What can ever be whole in this buffer.
    fn within(input: &FrameBuf) -> Self {
        Longest {
            picture: input.capacity(),
            control: CONTROL_RECORD,
        }
    }
}

impl<'a> Record<'a> {
    /// The record at the beginning of `input`. `None`: more of it is still to come.
    ///
    /// What cannot become a record is told as soon as its length is there. What it costs does not depend on how much has
    /// come, so that it may be tried again with each piece.
    pub fn parse(input: &'a [u8], longest: Longest) -> Result<Option<Self>, Violation> {
        let mut at = 0;
        let mut texts = [&input[..0]; 3];
        for (index, text) in texts.iter_mut().enumerate() {
            let Some(length) = input[at..].first_chunk() else {
                return Ok(None);
            };
            at += LENGTH;
            let length = match u32::from_be_bytes(*length) {
                NULL => 0,
                length => usize::try_from(length).unwrap_or(usize::MAX),
            };
            if !length.is_multiple_of(2) {
                return Err(Violation::OddText { bytes: length });
            }
            let is_content = index == 2;
            if !is_content && length > 2 * USER_NAME {
                return Err(Violation::LongName { bytes: length });
            }
            // What must follow: the lengths of the other texts, and the type.
            let rest = (2 - index) * LENGTH + TYPE;
            if length.saturating_add(at + rest) > longest.picture {
                return Err(Violation::LongRecord);
            }
            let Some(found) = input.get(at..at + length) else {
                return Ok(None);
            };
            *text = found;
            at += length;
        }
        let Some(number) = input[at..].first_chunk() else {
            return Ok(None);
        };
        at += TYPE;
        let kind = Kind::from(i32::from_be_bytes(*number));
        if kind != Kind::VideoData && at > longest.control {
            return Err(Violation::LongRecord);
        }
        let [sender, receiver, content] = texts;
        Ok(Some(Record {
            bytes: &input[..at],
            sender,
            receiver,
            content,
            kind,
        }))
    }

    /// The user that sends it.
    pub fn sender(&self) -> Result<Name, Violation> {
        name(self.sender)
    }

    /// The user that is to get it.
    pub fn receiver(&self) -> Result<Name, Violation> {
        name(self.receiver)
    }

    /// The content of a LOGIN. What could be no password is none.
    pub fn password(&self) -> heapless::String<PASSWORD_BYTES> {
        let mut password = heapless::String::new();
        if self.content.len() <= 2 * PASSWORD {
            for c in characters(self.content) {
                let pushed = c.ok().and_then(|c| password.push(c).ok());
                if pushed.is_none() {
                    password.clear();
                    break;
                }
            }
        }
        password
    }

    /// The content as text for a person: the first [`REASON`] characters, without control characters.
    pub fn reason(&self) -> String {
        characters(self.content)
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .map(|c| if c.is_control() { '?' } else { c })
            .take(REASON)
            .collect()
    }

    /// The JPEG in a VIDEO_DATA, into `out`, which is not looked at. `scratch` holds the Base64 text meanwhile. Gives the
    /// number of bytes; `None` if it is no Base64 (padded or not), or does not fit either of them.
    pub fn picture(&self, scratch: &mut [u8], out: &mut [u8]) -> Option<usize> {
        let text = scratch.get_mut(..self.content.len() / 2)?;
        for (byte, unit) in text.iter_mut().zip(self.content.as_chunks().0) {
            match unit {
                [0, low] => *byte = *low,
                _ => return None,
            }
        }
        let padding = text.iter().rev().take_while(|&&b| b == b'=').count();
        let bare = &text[..text.len() - padding.min(2)];
        STANDARD_NO_PAD.decode_slice(bare, out).ok()
    }
}

fn characters(utf16: &[u8]) -> impl Iterator<Item = Result<char, std::char::DecodeUtf16Error>> {
    let units = utf16.as_chunks().0.iter();
    char::decode_utf16(units.map(|unit| u16::from_be_bytes(*unit)))
}

fn name(utf16: &[u8]) -> Result<Name, Violation> {
    let mut text = heapless::String::<USER_NAME_BYTES>::new();
    for c in characters(utf16) {
        let c = c.map_err(|_| Violation::BadName)?;
        text.push(c).map_err(|_| Violation::BadName)?;
    }
    Name::new(&text).ok_or(Violation::BadName)
}

fn put_length(out: &mut impl Extend<u8>, bytes: usize) {
    let length = u32::try_from(bytes).expect("records are far shorter");
    out.extend(length.to_be_bytes());
}

fn put_text(out: &mut impl Extend<u8>, text: &str) {
    put_length(out, 2 * text.encode_utf16().count());
    out.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
}

/// Writes a record behind what is in `out`. Empty strings are written empty, not null.
///
/// # Panics
/// If `out` has a fixed capacity, and that is too small.
pub fn write(out: &mut impl Extend<u8>, sender: &str, receiver: &str, content: &str, kind: Kind) {
    for text in [sender, receiver, content] {
        put_text(out, text);
    }
    out.extend(kind.number().to_be_bytes());
}

/// What comes before the content of a VIDEO_DATA with a content of so many bytes. Behind that comes
/// [`VIDEO_DATA_TYPE`].
pub fn picture_head(head: &mut Head, sender: &Name, receiver: &Name, content: usize) {
    put_text(head, sender.as_str());
    put_text(head, receiver.as_str());
    put_length(head, content);
}

/// Bytes of the content of a VIDEO_DATA with a JPEG of `jpeg` bytes.
pub const fn content_len(jpeg: usize) -> usize {
    2 * jpeg.div_ceil(3) * 4
}

/// Writes the content of a VIDEO_DATA with this JPEG to the beginning of `out`, and gives its length. `None` if `out` is
/// too small.
pub fn write_content(jpeg: &[u8], out: &mut [u8]) -> Option<usize> {
    let out = out.get_mut(..content_len(jpeg.len()))?;
    let half = out.len() / 2;
    STANDARD
        .encode_slice(jpeg, &mut out[half..])
        .expect("the half has room for exactly that");
    // From the upper half to pairs of bytes: what is written has always been read before.
    for i in 0..half {
        let byte = out[half + i];
        out[2 * i] = 0;
        out[2 * i + 1] = byte;
    }
    Some(out.len())
}

/// The longest record that camd writes itself, but for a LOGIN.
pub type Note = heapless::Vec<u8, { 3 * 4 + 2 * (2 * USER_NAME + REASON) + 4 }>;

/// A record of camd's own.
///
/// # Panics
/// If the reason is longer than [`REASON`].
pub fn note(sender: &str, receiver: &str, reason: &str, kind: Kind) -> Note {
    let mut note = Note::new();
    write(&mut note, sender, receiver, reason, kind);
    note
}

/// How far a LOGIN is that takes long to look at.
#[derive(Debug, Default)]
enum Look {
    #[default]
    None,
    Waits,
    Judged(Verdict),
}

/// The state of a connection to a call listener beyond its slot's.
#[derive(Debug)]
pub struct Connection {
    /// The camera's name.
    camera: Rc<Name>,
    /// The user, once that is known; camd itself, once it has logged in at a relay.
    name: Option<Box<Name>>,
    /// The other end is a relay, and these see the camera through it.
    partners: Option<Box<Partners>>,
    /// This user has shown a password.
    logged_in: bool,
    /// That of this user of the configuration.
    account: Option<Rc<User>>,
    /// The LOGIN in the input is being looked at, or has been.
    look: Look,
    /// Logins refused so far.
    refusals: u8,
    /// In a call with the camera, this user or somebody behind that relay.
    watching: bool,
    /// Nothing follows what waits to be sent.
    ends: bool,
    budget: Budget,
}

impl Session for Connection {
    const NAME: &'static str = "call";
    const QUALITY: u8 = 30;

    fn open(setup: &Setup) -> Self {
        Connection {
            camera: Rc::clone(&setup.user),
            name: None,
            logged_in: false,
            account: None,
            look: Look::None,
            partners: setup.to_relay.then(Box::default),
            refusals: 0,
            watching: false,
            ends: false,
            budget: Budget::default(),
        }
    }

    /// Until it logs in; a user does not stay without a place.
    fn can_stand(&self) -> bool {
        self.name.is_none() && self.partners.is_none()
    }

    /// It logs in, or tries to, in the same way.
    fn stand(&mut self) {}

    fn seat(&mut self) {}

    fn turn_away(&mut self, why: NoRoom, outbox: &mut FrameBuf) -> bool {
        let reason = match why {
            NoRoom::Full => "no room",
            NoRoom::Share => "no room for more from this address",
        };
        let note = note("", "", reason, Kind::LoginRefused);
        // A client that has not taken what it was told before is not told more.
        if outbox.capacity() - outbox.len() >= note.len() {
            std::io::Write::write_all(outbox, &note).expect("it was measured against the room");
        }
        self.ends = true;
        true
    }

    fn has_asked(&self) -> bool {
        self.name.is_some()
    }

    fn input_limit(&self) -> usize {
        usize::MAX
    }

    /// Finds out whether a whole record may pass. [`Connection::record`] has it then.
    fn hear(
        &mut self,
        _: Moment,
        now: Instant,
        input: &mut FrameBuf,
        _: Reply<'_>,
    ) -> Result<Heard, Violation> {
        if self.ends {
            input.clear();
            return Ok(Heard::Waits);
        }
        if let Look::Waits = self.look {
            return Ok(Heard::Waits);
        }
        let record = Record::parse(input.as_slice(), Longest::within(input))?;
        let passes = record.is_some_and(|record| {
            record.kind == Kind::VideoData || self.budget.take(record.bytes.len(), now)
        });
        Ok(if passes { Heard::Refers } else { Heard::Waits })
    }

    /// The record that waits in the input may pass then.
    fn paused(&self) -> Option<Instant> {
        self.budget.resume
    }

    fn wants(&self) -> Wants {
        if self.watching {
            Wants::Newest
        } else {
            Wants::Nothing
        }
    }

    fn follows(&self) -> bool {
        self.watching
    }

    fn watches(&self, _: State) -> bool {
        self.watching
    }

    fn form(&self) -> Form {
        Form::Text
    }

    fn news(&self, meta: &FrameMeta) -> Option<bool> {
        let partners = self.partners.as_ref();
        partners.map(|partners| partners.is_news(meta))
    }

    fn begin(&mut self, meta: &FrameMeta, content: usize, head: &mut Head) -> Chunk {
        let receiver = match &mut self.partners {
            Some(partners) => {
                let found = partners.turn_to(meta);
                assert!(found, "a picture that is news to nobody");
                partners.receiver()
            }
            None => self.name.as_deref().expect("only users are in calls"),
        };
        picture_head(head, &self.camera, receiver, content);
        Chunk {
            payload: content,
            tail: VIDEO_DATA_TYPE,
        }
    }

    fn began(&mut self, meta: &FrameMeta) {
        if let Some(partners) = &mut self.partners {
            partners.kept(meta);
        }
    }

    fn sent(&mut self) -> bool {
        self.ends && !self.watching
    }

    fn patience(&self, _: Moment, _: Patience) -> Option<Duration> {
        self.name.is_none().then_some(LOGIN_WAIT)
    }

    fn late(&mut self, _: Moment, _: &mut FrameBuf, _: Reply<'_>) -> Late {
        Late::Close(CloseReason::LoginTimeout)
    }

    /// What it said has been acted on: nothing, not even the end, is read while a record waits. A LOGIN may be looked at.
    fn ends_at_eof(&self, _: State) -> bool {
        !self.is_looked_at()
    }

    fn user(&self) -> Option<&Name> {
        self.name.as_deref()
    }

    fn is_logged_in(&self) -> bool {
        self.logged_in
    }
}

impl Connection {
    /// The record behind a [`Heard::Refers`].
    ///
    /// # Panics
    /// If there is none.
    pub fn record(input: &FrameBuf) -> Record<'_> {
        let record = Record::parse(input.as_slice(), Longest::within(input));
        record.ok().flatten().expect("it has been found good")
    }

    /// A LOGIN was refused. After the last of [`REFUSALS`] the connection ends.
    pub fn refused(&mut self) {
        self.refusals += 1;
        self.ends |= self.refusals >= REFUSALS;
    }

    /// This is the user, who has shown a password or not, and that of a user of the configuration or not.
    pub fn set_user(&mut self, name: &Name, logged_in: bool, account: Option<Rc<User>>) {
        self.name = Some(Box::new(name.clone()));
        (self.logged_in, self.account) = (logged_in, account);
    }

    /// The record in the input is a LOGIN that the door looks at. [`Connection::judge`] follows.
    pub fn wait_for_verdict(&mut self) {
        self.look = Look::Waits;
    }

    /// What has come of that. The record is heard once more.
    pub fn judge(&mut self, verdict: Verdict) {
        if let Look::Waits = self.look {
            self.look = Look::Judged(verdict);
        }
    }

    /// What has come of it, once.
    pub fn take_verdict(&mut self) -> Option<Verdict> {
        match std::mem::take(&mut self.look) {
            Look::Judged(verdict) => Some(verdict),
            other => {
                self.look = other;
                None
            }
        }
    }

    /// Whether the record in the input stays there for that.
    pub fn is_looked_at(&self) -> bool {
        matches!(self.look, Look::Waits)
    }

    /// Whether it may stay, when the configuration has changed. `is_user`: whether this is still one.
    pub fn stays(&self, access: Access, is_user: impl Fn(&Rc<User>) -> bool) -> bool {
        match &self.account {
            Some(account) => is_user(account),
            None => access == Access::Open || self.name.is_none() || self.partners.is_some(),
        }
    }

    /// Whether it gets the camera's pictures.
    pub fn set_watching(&mut self, on: bool) {
        self.watching = on;
    }

    /// Those who see the camera through this connection, if it is one to a relay.
    pub fn partners(&self) -> Option<&Partners> {
        self.partners.as_deref()
    }

    /// Somebody behind the relay is in a call with the camera, with so many pictures per second at most.
    ///
    /// # Panics
    /// If the other end is no relay.
    pub fn add_partner(&mut self, name: &Name, max_fps: Option<u16>) {
        self.partners_mut().add(name.clone(), max_fps);
        self.watching = true;
    }

    /// And has hung up, if there was a call.
    ///
    /// # Panics
    /// If the other end is no relay.
    pub fn remove_partner(&mut self, name: &Name) {
        self.partners_mut().remove(name);
        self.watching = !self.partners_mut().is_empty();
    }

    fn partners_mut(&mut self) -> &mut Partners {
        self.partners.as_mut().expect("the other end is a relay")
    }
}

/// The users that see the camera through one connection to a relay. Each picture goes to one of them, the newest one to
/// each in turn.
#[derive(Debug, Default)]
pub struct Partners {
    all: heapless::Vec<Partner, MAX_CLIENTS>,
    /// Whose turn it is.
    next: usize,
}

#[derive(Debug)]
struct Partner {
    name: Name,
    /// Of the newest picture that this user got.
    sequence: u64,
    pace: Option<Decimator>,
}

impl Partners {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Their names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.all.iter().map(|partner| &partner.name)
    }

    /// Whether this user is among them.
    pub fn contains(&self, name: &Name) -> bool {
        self.names().any(|other| other == name)
    }

    /// # Panics
    /// If there are more than connections to this machine.
    pub fn add(&mut self, name: Name, max_fps: Option<u16>) {
        let partner = Partner {
            name,
            sequence: 0,
            pace: max_fps.map(Decimator::new),
        };
        let added = self.all.push(partner);
        assert!(added.is_ok(), "listener.calls is at most MAX_CLIENTS");
    }

    /// Takes this user away; nothing happens if there is none.
    pub fn remove(&mut self, name: &Name) {
        self.all.retain(|partner| partner.name != *name);
        self.next = 0;
    }

    /// Whether this picture is news for one of them, which then gets it.
    pub fn turn_to(&mut self, meta: &FrameMeta) -> bool {
        let count = self.all.len();
        let found = (self.next..self.next + count).find(|turn| self.is_due(turn % count, meta));
        if let Some(turn) = found {
            self.next = turn % count;
        }
        found.is_some()
    }

    fn is_due(&self, index: usize, meta: &FrameMeta) -> bool {
        let partner = &self.all[index];
        let due = |pace: &Decimator| pace.wants(meta.captured);
        meta.sequence > partner.sequence && partner.pace.as_ref().is_none_or(due)
    }

    /// Whether [`Partners::turn_to`] would find somebody.
    pub fn is_news(&self, meta: &FrameMeta) -> bool {
        (0..self.all.len()).any(|index| self.is_due(index, meta))
    }

    fn receiver(&self) -> &Name {
        &self.all[self.next].name
    }

    /// The picture is on its way to the receiver.
    pub fn kept(&mut self, meta: &FrameMeta) {
        let partner = &mut self.all[self.next];
        partner.sequence = meta.sequence;
        if let Some(pace) = &mut partner.pace {
            pace.kept(meta.captured);
        }
        self.next = (self.next + 1) % self.all.len();
    }
}

/// What one client may send of records without pictures: [`CONTROL_RATE`], and [`CONTROL_BURST`] at once.
#[derive(Debug)]
struct Budget {
    bytes: usize,
    /// When `bytes` was right.
    at: Option<Instant>,
    resume: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            bytes: CONTROL_BURST,
            at: None,
            resume: None,
        }
    }
}

impl Budget {
    /// Whether a record of so many bytes may pass now. If not, `resume` is when.
    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let rate = CONTROL_RATE as u128;
        let since = now.saturating_duration_since(*self.at.get_or_insert(now));
        let gained = usize::try_from(since.as_micros() * rate / 1_000_000).unwrap_or(CONTROL_BURST);
        if gained > 0 {
            self.bytes = self.bytes.saturating_add(gained).min(CONTROL_BURST);
            self.at = Some(now);
        }
        let lacking = bytes.min(CONTROL_BURST).saturating_sub(self.bytes);
        if lacking == 0 {
            self.bytes = self.bytes.saturating_sub(bytes);
            self.resume = None;
            return true;
        }
        // A microsecond more, so that it is enough then.
        let wait = lacking as u64 * 1_000_000 / CONTROL_RATE as u64 + 1;
        self.resume = Some(now + Duration::from_micros(wait));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Longest = Longest {
        picture: 4096,
        control: 1024,
    };

    fn bytes(sender: &str, receiver: &str, content: &str, kind: Kind) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, sender, receiver, content, kind);
        out
    }

    #[test]
    fn records_as_qt_writes_them() {
        // QDataStream << QString("Aé€") << QString("") << QString("hi") << qint32(258)
        let record = bytes("Aé€", "", "hi", Kind::Other(258));
        let qt = b"\0\0\0\x06\0A\0\xe9\x20\xac\0\0\0\0\0\0\0\x04\0h\0i\0\0\x01\x02";
        assert_eq!(record, qt);
        let parsed = Record::parse(qt, LONGEST).unwrap().unwrap();
        assert_eq!(parsed.bytes, qt);
        assert_eq!(parsed.sender().unwrap().as_str(), "Aé€");
        assert_eq!(parsed.receiver(), Err(Violation::BadName));
        assert_eq!(
            (parsed.kind, parsed.reason()),
            (Kind::Other(258), "hi".into())
        );
        // QString() is null.
        let null = b"\0\0\0\x02\0a\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x01";
        let parsed = Record::parse(null, LONGEST).unwrap().unwrap();
        assert_eq!((parsed.kind, parsed.content), (Kind::Login, &b""[..]));
        assert_eq!(parsed.bytes.len(), null.len());
    }

    #[test]
    fn kinds_and_numbers() {
        for number in -1..100 {
            assert_eq!(Kind::from(number).number(), number);
        }
        assert_eq!(Kind::VideoData.number().to_be_bytes(), *VIDEO_DATA_TYPE);
    }

    #[test]
    fn records_split_at_every_point() {
        let first = bytes("alice", "bob", "\u{1f600} text", Kind::Request);
        let all = [&first[..], &bytes("alice", "bob", "", Kind::End)].concat();
        for cut in 0..first.len() {
            assert_eq!(Record::parse(&all[..cut], LONGEST), Ok(None), "{cut}");
        }
        for end in first.len()..=all.len() {
            let record = Record::parse(&all[..end], LONGEST).unwrap().unwrap();
            assert_eq!((record.bytes, record.kind), (&first[..], Kind::Request));
        }
    }

    #[test]
    fn hostile_lengths_are_told_at_once() {
        let length = |n: u32| n.to_be_bytes();
        for (what, input, violation) in [
            ("odd", length(3).to_vec(), Violation::OddText { bytes: 3 }),
            (
                "long name",
                length(130).to_vec(),
                Violation::LongName { bytes: 130 },
            ),
            (
                "negative",
                length(0x8000_0000).to_vec(),
                Violation::LongName { bytes: 0x8000_0000 },
            ),
            // Qt 6.7 announces a length of 64 bits so.
            (
                "extended",
                length(0xffff_fffe).to_vec(),
                Violation::LongName { bytes: 0xffff_fffe },
            ),
            (
                "long content",
                [length(0), length(0), length(4096 - 14)].concat(),
                Violation::LongRecord,
            ),
            (
                "largest",
                [length(0), length(0), length(0xffff_fffe)].concat(),
                Violation::LongRecord,
            ),
        ] {
            assert_eq!(Record::parse(&input, LONGEST), Err(violation), "{what}");
        }
        let fits = [length(0), length(0), length(4096 - 16)].concat();
        assert_eq!(Record::parse(&fits, LONGEST), Ok(None));
        // The type comes last: only it tells which limit holds.
        let long = "x".repeat(600);
        let record = bytes("a", "b", &long, Kind::VideoData);
        assert!(Record::parse(&record, LONGEST).unwrap().is_some());
        let record = bytes("a", "b", &long, Kind::Other(60));
        assert_eq!(
            Record::parse(&record[..record.len() - 1], LONGEST),
            Ok(None)
        );
        assert_eq!(Record::parse(&record, LONGEST), Err(Violation::LongRecord));
    }

    /// Texts as they should be, or with a length that says something else; limits that are tight or not.
    fn random_input(rng: &mut fastrand::Rng) -> (Vec<u8>, Longest) {
        let mut input = Vec::new();
        for _ in 0..rng.u8(1..4) {
            let hostile = rng.usize(0..8);
            for text in 0..3 {
                let most = if text == 2 { 600 } else { 70 };
                let units = rng.usize(0..most) / rng.usize(1..20);
                let length = match rng.u8(0..8) {
                    _ if hostile != text => 2 * units as u32,
                    0 => NULL,
                    1 => rng.u32(..),
                    2 => rng.u32(..) & !1,
                    3 => 1 << rng.u32(0..32),
                    4 => u32::MAX - rng.u32(0..4),
                    5 => (2 * USER_NAME) as u32 + rng.u32(0..4),
                    _ => rng.u32(0..1200),
                };
                input.extend(length.to_be_bytes());
                input.extend((0..2 * units).map(|_| rng.u8(..)));
            }
            let number = match rng.u8(0..3) {
                0 => 57,
                1 => rng.i32(0..62),
                _ => rng.i32(..),
            };
            input.extend(number.to_be_bytes());
        }
        input.truncate(input.len() - input.len() * rng.usize(0..8) / 8 * rng.usize(0..2));
        // Nothing is shorter than a record without texts.
        let limit = |rng: &mut fastrand::Rng| 16 + rng.usize(0..1600) / rng.usize(1..4);
        let picture = limit(rng);
        let control = limit(rng).min(picture);
        (input, Longest { picture, control })
    }

    #[test]
    fn whatever_comes_and_however_it_is_cut() {
        let mut counts = [0; 3];
        for seed in 0..20_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (input, longest) = random_input(&mut rng);
            let all = Record::parse(&input, longest);
            counts[match all {
                Ok(None) => 0,
                Ok(Some(_)) => 1,
                Err(_) => 2,
            }] += 1;
            if let Ok(Some(record)) = &all {
                let limit = match record.kind {
                    Kind::VideoData => longest.picture,
                    _ => longest.control,
                };
                assert!(record.bytes.len() <= limit, "{seed}");
                assert_eq!(record.bytes, &input[..record.bytes.len()], "{seed}");
                let text = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
                let texts = [record.sender, record.receiver, record.content].map(text);
                let number = record.kind.number().to_be_bytes();
                // A null string is an empty one.
                let null = record
                    .bytes
                    .windows(LENGTH)
                    .any(|w| w == NULL.to_be_bytes());
                assert!(null || [&texts.concat(), &number[..]].concat() == record.bytes);
                // What is made of it may be wrong, too.
                let _ = (record.sender(), record.receiver(), record.password());
                let _ = (
                    record.reason(),
                    record.picture(&mut [0; 300], &mut [0; 200]),
                );
            }
            let mut known = false;
            for end in 0..=input.len() {
                let some = Record::parse(&input[..end], longest);
                // Not known yet, or known for good.
                assert!(some == all || !known && some == Ok(None), "{seed}: {end}");
                known = known || some != Ok(None);
                // Who has filled the buffer is not waited for any more.
                assert!(
                    known || end < longest.picture,
                    "{seed}: waits for more than {end}"
                );
            }
        }
        assert!(counts.iter().all(|count| *count > 1000), "{counts:?}");
    }

    #[test]
    fn names_have_bounds() {
        let longest = "\u{20ac}".repeat(64);
        assert!(Name::new(&longest).is_some());
        assert!(Name::new(&"\u{1f600}".repeat(32)).is_some());
        for wrong in [
            "",
            "a\nb",
            "a\0",
            &format!("{longest}a"),
            &"\u{1f600}".repeat(33),
        ] {
            assert!(Name::new(wrong).is_none(), "{wrong:?}");
        }
        // Half a pair.
        assert_eq!(name(b"\xd8\0"), Err(Violation::BadName));
        assert_eq!(name(b"\xdc\0\xd8\0"), Err(Violation::BadName));
    }

    #[test]
    fn pictures_are_base64_in_both_directions() {
        // RFC 4648, section 10.
        for (jpeg, text) in [
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let (jpeg, len) = (jpeg.as_bytes(), jpeg.len());
            let mut content = vec![0xaa; content_len(len)];
            assert_eq!(write_content(jpeg, &mut content), Some(content.len()));
            assert_eq!(write_content(jpeg, &mut content[1..]), None);

            let mut head = Head::new();
            let [alice, camera] = ["alice", "camera"].map(|name| Name::new(name).unwrap());
            picture_head(&mut head, &camera, &alice, content.len());
            let record = [&head[..], &content, VIDEO_DATA_TYPE].concat();
            assert_eq!(record, bytes("camera", "alice", text, Kind::VideoData));
            let record = Record::parse(&record, LONGEST).unwrap().unwrap();
            let (mut scratch, mut out) = ([0; 8], [0; 6]);
            assert_eq!(record.picture(&mut scratch, &mut out), Some(len));
            assert_eq!(&out[..len], jpeg);
            assert_eq!(record.picture(&mut scratch[..1], &mut out), None);
            assert_eq!(record.picture(&mut scratch, &mut out[..len - 1]), None);
        }
        for wrong in ["!!!!", "AAA€", "A"] {
            let record = bytes("a", "b", wrong, Kind::VideoData);
            let record = Record::parse(&record, LONGEST).unwrap().unwrap();
            assert_eq!(
                record.picture(&mut [0; 100], &mut [0; 100]),
                None,
                "{wrong}"
            );
        }
    }

    #[test]
    fn nobody_floods() {
        let mut now = Instant::now();
        let mut budget = Budget::default();
        let mut passed = 0;
        let begin = now;
        while now < begin + Duration::from_secs(10) {
            while budget.take(100, now) {
                passed += 100;
            }
            let resume = budget.resume.unwrap();
            assert!(now < resume && resume < now + Duration::from_millis(5));
            now = resume;
        }
        let allowed = CONTROL_BURST + 10 * CONTROL_RATE;
        assert!(
            (allowed - 5000..=allowed + 100).contains(&passed),
            "{passed}"
        );
        // A pause gives back the burst, and no more.
        now += Duration::from_secs(1000);
        assert!(budget.take(CONTROL_BURST, now) && budget.resume.is_none());
        assert!(!budget.take(100, now));
    }

    #[test]
    fn passwords_that_cannot_be_are_none() {
        let password = |content: &str| {
            let record = bytes("a", "", content, Kind::Login);
            let record = Record::parse(&record, LONGEST).unwrap().unwrap();
            record.password().as_str().to_owned()
        };
        assert_eq!(password("pässword"), "pässword");
        assert_eq!(password(&"\u{20ac}".repeat(256)), "\u{20ac}".repeat(256));
        assert_eq!(password(&"a".repeat(257)), "");
    }
}
