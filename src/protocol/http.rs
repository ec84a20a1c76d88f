//! http: a multipart stream, single pictures and state pages, as far as HTTP/1.1 (RFC 9110, RFC 9112) is needed for it.
#![doc = include_str!("http.md")]

//!
//! # The session
//!
//! ```text
//!        a request for anything else
//!       ┌────────────┐                     GET /snapshot
//!       │            ▼              ┌───────────────────────────┐
//!  Sending ◀────── Idle ────────────┘                           ▼
//!    reply ──────▶   │                                   AnnouncePending
//!         ▲          │ GET /stream                        │          │ a picture
//!         │          ▼                                    │ 2 s: 503 ▼
//!         │    Sending: head ──▶ AnnouncePending ◀──┐     │       Sending ──▶ Idle
//!         │                             │ a part    │     │
//!         │                             ▼           │     │
//!         │                          Sending ───────┘     │
//!         └───────────────────────────────────────────────┘
//! ```
//!
//! A stream goes on until the client goes. In `Idle` a request must be whole within limits.head_timeout_s: 408 for half
//! a one, and the end for none. After a reply with `Connection: close` the connection ends.

pub mod answer;
mod host;
mod login;
pub mod mp4;
mod origin;
pub mod target;

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::head_cache::HeadCache;
use super::name::Name;
use super::session::*;
pub use super::setup::Policy;
use super::setup::Setup;
use super::user::{Access, User, Verdict};
pub use login::Claim;
use mp4::Film;
use origin::Asker;
pub use target::Route;
use target::{Moved, Target, Wrong};

use crate::limits::{
    CONTROL_NAME, KEY_WAIT, REFUSAL_BODY, REQUEST_BODY, REQUEST_FIELDS, REQUEST_HEAD, SETTINGS,
    SNAPSHOT_WAIT, UPDATE_MAX, UPDATE_WAIT,
};
use crate::picture::chain::Unit;
use crate::picture::frame::{FrameBuf, FrameMeta};

/// Separates the parts of a stream.
pub const BOUNDARY: &str = "camdframe";
const FIRST_BOUNDARY: &str = "--camdframe\r\n";
const PART_TAIL: &[u8] = b"\r\n--camdframe\r\n";

/// The type of pictures.
pub const JPEG: &str = "image/jpeg";
/// The type of `/state` and `/controls`.
pub const JSON: &str = "application/json";
/// The type of all that is for a person in a terminal.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// The type of the page.
pub const HTML: &str = "text/html; charset=utf-8";
/// The type of the script that plays films (RFC 9239).
pub const SCRIPT: &str = "text/javascript; charset=utf-8";
/// The type of the icon.
pub const ICON: &str = "image/svg+xml";
/// The type of the web manifest (W3C Web Application Manifest, section 4).
pub const MANIFEST: &str = "application/manifest+json";
/// The type of `/metrics`.
pub const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The status of a reply; RFC 9110, section 15, and RFC 6585 for 429 and 431.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 200
    Ok,
    /// 204: OPTIONS.
    NoContent,
    /// 301
    MovedPermanently,
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408
    RequestTimeout,
    /// 409
    Conflict,
    /// 411
    LengthRequired,
    /// 413
    ContentTooLarge,
    /// 417
    ExpectationFailed,
    /// 421
    Misdirected,
    /// 429
    TooManyRequests,
    /// 431
    HeadTooLarge,
    /// 503
    ServiceUnavailable,
    /// 505
    VersionNotSupported,
}

impl fmt::Display for Status {
    /// As in a status line: code and reason phrase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Ok => "200 OK",
            Status::NoContent => "204 No Content",
            Status::MovedPermanently => "301 Moved Permanently",
            Status::BadRequest => "400 Bad Request",
            Status::Unauthorized => "401 Unauthorized",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::Conflict => "409 Conflict",
            Status::LengthRequired => "411 Length Required",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::Misdirected => "421 Misdirected Request",
            Status::TooManyRequests => "429 Too Many Requests",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::ServiceUnavailable => "503 Service Unavailable",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        })
    }
}

/// Controls to set, in the order in which they came.
pub type Settings = heapless::Vec<(heapless::String<CONTROL_NAME>, i64), SETTINGS>;

/// A request that is understood and allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// GET or HEAD.
    Get(Route),
    /// GET or HEAD of the page, by a path from which its links lead elsewhere.
    Moved(Moved),
    /// OPTIONS.
    Options(Route),
    /// POST `/controls`.
    SetControls(Box<Settings>),
    /// POST `/update`.
    Update(Update),
}

/// What is said of an update in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Bytes of the image.
    pub length: u64,
    /// It may be older than what runs.
    pub older: bool,
    /// The client waits for a word before it sends them (RFC 9110, 10.1.1).
    pub waits: bool,
}

impl Call {
    /// Whether it is answered even where all places are taken: it is what a page needs besides its pictures, or what a
    /// supervisor asks to see whether camd is well. Programs that ask for the other pages may keep their connection, and
    /// are clients like those that get pictures.
    pub fn takes_no_place(&self) -> bool {
        match self {
            Call::Get(route) => match route {
                Route::Index | Route::Player | Route::Icon | Route::Manifest => true,
                Route::StateOnce => true,
                Route::Controls | Route::Healthz => true,
                Route::Stream | Route::Film | Route::Snapshot => false,
                Route::State | Route::Metrics => false,
                Route::Update => true,
            },
            Call::Update(_) => false,
            Call::Options(route) => *route == Route::Controls,
            // To where the page is.
            Call::Moved(_) | Call::SetControls(_) => true,
        }
    }

    /// Whether it is answered where nobody has logged in: what tells nothing, and what browsers ask without a login
    /// (CORS's preflight). Whether the camera is well says no more than that there.
    fn is_for_all(&self) -> bool {
        match self {
            Call::Options(_) | Call::Moved(_) => true,
            Call::Get(route) => matches!(route, Route::Icon | Route::Healthz),
            Call::SetControls(_) | Call::Update(_) => false,
        }
    }

    /// Whether this user may have it; otherwise, what is missing.
    fn check(&self, user: &User) -> Result<(), Refusal> {
        let (may, missing) = match self {
            Call::SetControls(_) => (user.may.control, "this user has no \"control\" in may"),
            Call::Update(_) => (user.may.update, NO_UPDATES),
            Call::Get(Route::Stream | Route::Film | Route::Snapshot) => {
                (user.may.watch, "this user has no \"watch\" in may")
            }
            _ => return Ok(()),
        };
        if may {
            Ok(())
        } else {
            Err(Refusal::new(Status::Forbidden, missing))
        }
    }
}

/// A request that is refused, and what to tell the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of the reply.
    pub status: Status,
    /// For a person: the reply's body.
    pub reason: &'static str,
    /// For 405.
    pub allow: Option<&'static str>,
}

impl Refusal {
    /// One without Allow.
    pub const fn new(status: Status, reason: &'static str) -> Self {
        Refusal {
            status,
            reason,
            allow: None,
        }
    }
}

/// How far the login of the current request is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Login {
    /// It needs none, or has none.
    #[default]
    None,
    /// It has this to show, for the door to look at.
    Shows(Box<Claim>),
    /// The door looks at it.
    Waits,
    /// The door has looked at it.
    Judged(Verdict),
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Reading a request, or writing the reply to one.
    #[default]
    Request,
    /// Waiting for, or sending, one picture.
    Snapshot,
    /// Sending picture after picture.
    Stream,
    /// As `Stream`, of pictures that lean on one another; before the first of them, waiting for it.
    Film,
    /// Taking in an update.
    Update,
}

/// How far an update is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Upload {
    /// Bytes that the client is still to send.
    left: u64,
    /// The box takes no more for now.
    is_held: bool,
}

/// Where a connection stands with its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// It has one.
    #[default]
    Seated,
    /// It has none, and may ask for one.
    Stands,
    /// It has asked for one in vain, and is told so.
    TurnedAway(NoRoom),
}

/// The state of an HTTP connection beyond its slot's.
#[derive(Debug, Default)]
pub struct Http {
    heads: Rc<HeadCache>,
    /// That of the listener.
    pub policy: Rc<Policy>,
    /// What the connection is doing.
    pub phase: Phase,
    /// What of a film is written.
    film: Film,
    /// The connection ends with the current reply.
    pub close: bool,
    /// The client speaks HTTP/1.0 and has to be told that the connection stays.
    say_keep_alive: bool,
    /// The current request is HEAD: the reply's head only.
    pub head_only: bool,
    /// A request that is for the pages to answer, once it is let in.
    asked: Option<Call>,
    login: Login,
    /// Who has sent the last request that needed a login.
    user: Option<Rc<User>>,
    /// Where its client has connected from.
    from: Option<IpAddr>,
    /// Where the one is who asks, behind the proxies that are trusted.
    client: Option<IpAddr>,
    /// The name under which this machine was asked, and which is none of its own.
    misnamed: heapless::String<MISNAMED>,
    /// What a refusal suggests as the time until the next try, in seconds.
    retry_after: Option<u32>,
    /// How the pictures are to differ from the listener's own.
    wish: Wish,
    /// The client of the current request was told to go on with its body.
    continued: bool,
    /// Without one it gets what takes none, and the connection ends then.
    place: Place,
    /// A request that takes a place was granted.
    has_asked: bool,
    /// In [`Phase::Update`].
    upload: Upload,
}

impl Session for Http {
    const NAME: &'static str = "http";
    const QUALITY: u8 = 80;

    fn open(setup: &Setup) -> Self {
        Http {
            policy: Rc::clone(&setup.policy),
            heads: Rc::clone(&setup.heads),
            phase: Phase::Request,
            film: Film::default(),
            close: false,
            say_keep_alive: false,
            head_only: false,
            asked: None,
            login: Login::None,
            user: None,
            from: None,
            client: None,
            misnamed: heapless::String::new(),
            retry_after: None,
            wish: Wish::default(),
            continued: false,
            place: Place::Seated,
            has_asked: false,
            upload: Upload::default(),
        }
    }

    /// The page, what it needs besides its pictures, and `/healthz` take no place.
    fn can_stand(&self) -> bool {
        true
    }

    fn stand(&mut self) {
        self.place = Place::Stands;
    }

    fn seat(&mut self) {
        self.place = Place::Seated;
    }

    /// In reply to its request.
    fn turn_away(&mut self, why: NoRoom, _: &mut FrameBuf) -> bool {
        self.place = Place::TurnedAway(why);
        true
    }

    fn has_asked(&self) -> bool {
        self.has_asked
    }

    /// Parts of a reply never mix: a request is read only when the reply to the one before it is through.
    fn hear(
        &mut self,
        at: Moment,
        _: Instant,
        input: &mut FrameBuf,
        reply: Reply<'_>,
    ) -> Result<Heard, Violation> {
        if self.phase == Phase::Stream || self.is_in_film() {
            input.clear();
            return Ok(Heard::Waits);
        }
        if at != Moment::Idle {
            return Ok(Heard::Waits);
        }
        if self.phase == Phase::Update {
            let waits = self.upload.is_held || self.upload.left == 0 || input.is_empty();
            return Ok(if waits { Heard::Waits } else { Heard::Refers });
        }
        match std::mem::take(&mut self.login) {
            Login::None => {}
            Login::Judged(verdict) => return Ok(self.judged(verdict, reply)),
            waits => {
                self.login = waits;
                return Ok(Heard::Waits);
            }
        }
        let parsed = self.parse(input.as_slice());
        if !matches!(parsed, Parsed::Call(..)) {
            // The door looks at whole requests only. What another one shows must not be waited for.
            self.login = Login::None;
        }
        Ok(match parsed {
            Parsed::Incomplete => Heard::Waits,
            Parsed::Expects => {
                self.continued = true;
                append(reply.head, format_args!("HTTP/1.1 100 Continue\r\n\r\n"));
                Heard::Reply
            }
            Parsed::Call(call, _)
                if self.policy.access == Access::Open && self.lacks_place(&call) =>
            {
                Heard::WantsPlace
            }
            Parsed::Call(call, used) => {
                input.consume(used);
                self.let_in(call, reply)
            }
            Parsed::Refused(refusal, used) => {
                input.consume(used);
                self.refuse(refusal, reply)
            }
            Parsed::Broken(refusal) => {
                input.clear();
                self.refuse(refusal, reply)
            }
        })
    }

    fn wants(&self) -> Wants {
        match self.phase {
            Phase::Request | Phase::Update => Wants::Nothing,
            // The card that says that there is no picture would be taken for one.
            Phase::Snapshot => Wants::Live,
            Phase::Stream => Wants::Newest,
            Phase::Film => Wants::Chain,
        }
    }

    fn follows(&self) -> bool {
        self.phase == Phase::Stream
    }

    fn wish(&self) -> Wish {
        self.wish
    }

    fn watches(&self, _: State) -> bool {
        matches!(self.phase, Phase::Snapshot | Phase::Stream | Phase::Film)
    }

    /// A part of the stream, or the reply to a snapshot request.
    fn begin(&mut self, meta: &FrameMeta, len: usize, head: &mut Head) -> Chunk {
        self.next_chunk(meta, len, head)
    }

    /// The next fragment of a film; in front of the first the response's head, and what tells how to decode it.
    fn begin_unit(&mut self, unit: &Unit<'_>, head: &mut Head) -> Option<Chunk> {
        if !self.film.has_begun() {
            self.film_head(unit, head);
            if self.head_only {
                return Some(Chunk {
                    payload: 0,
                    tail: b"",
                });
            }
        }
        self.film.frame(unit, head)
    }

    fn began(&mut self, _: &FrameMeta) {
        if self.phase == Phase::Film {
            self.film.began();
        }
    }

    fn no_picture(&mut self, why: &str, reply: Reply<'_>) {
        self.reply(Status::ServiceUnavailable, TEXT, why.as_bytes(), reply);
    }

    fn whole(&self, len: usize) -> usize {
        if self.head_only { 0 } else { len }
    }

    fn sent(&mut self) -> bool {
        // What was sent of an update is the word to go on.
        if matches!(self.phase, Phase::Stream | Phase::Update) || self.is_in_film() {
            return false;
        }
        self.phase = Phase::Request;
        self.close
    }

    fn patience(&self, at: Moment, patience: Patience) -> Option<Duration> {
        match at {
            // The door's turn comes, whatever the client does.
            Moment::Idle if self.login != Login::None => None,
            Moment::Idle if self.phase == Phase::Update && self.waits_for_the_box() => {
                Some(UPDATE_WAIT)
            }
            Moment::Idle => Some(patience.head),
            Moment::AnnouncePending if self.phase == Phase::Snapshot => Some(SNAPSHOT_WAIT),
            Moment::AnnouncePending if self.phase == Phase::Film && !self.is_in_film() => {
                Some(KEY_WAIT)
            }
            _ => None,
        }
    }

    fn late(&mut self, at: Moment, input: &mut FrameBuf, reply: Reply<'_>) -> Late {
        let refusal = if at == Moment::AnnouncePending {
            let why = match self.phase {
                Phase::Film => "no key picture within 20 s: ask the encoder for more of them",
                _ => "no picture within 2 s",
            };
            Refusal::new(Status::ServiceUnavailable, why)
        } else if self.phase == Phase::Update && self.waits_for_the_box() {
            Refusal::new(
                Status::ServiceUnavailable,
                "the box takes no more of the update",
            )
        } else if self.phase == Phase::Update {
            Refusal::new(
                Status::RequestTimeout,
                "the update stopped coming; nothing has changed",
            )
        } else if input.is_empty() {
            return Late::Close(CloseReason::HeadTimeout);
        } else {
            self.close = true;
            input.clear();
            Refusal::new(Status::RequestTimeout, "the request's head took too long")
        };
        self.refuse(refusal, reply);
        Late::Reply
    }

    /// Unless it is still being sent what it asked for, or waits to be let in.
    fn ends_at_eof(&self, state: State) -> bool {
        let is_passed_on = self.phase == Phase::Update && self.waits_for_the_box();
        state == State::Idle && self.login == Login::None && !is_passed_on
    }

    fn user(&self) -> Option<&Name> {
        self.user.as_ref().map(|user| &user.name)
    }

    fn is_logged_in(&self) -> bool {
        self.user.is_some()
    }

    fn meet(&mut self, from: Option<IpAddr>) {
        self.from = from;
    }
}

/// What [`Http::parse`] found at the beginning of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// No whole request yet.
    Incomplete,
    /// A head that will be obeyed, whose client waits for a word before it sends the body (RFC 9110, 10.1.1).
    Expects,
    /// A request, and the length of its bytes.
    Call(Call, usize),
    /// As `Call`; the connection can go on.
    Refused(Refusal, usize),
    /// Where the next request would begin is not known: the connection must end after the reply.
    Broken(Refusal),
}

impl Http {
    /// A request is understood. Where one has to log in, it is the door's to say whether it is let in.
    fn let_in(&mut self, call: Call, reply: Reply<'_>) -> Heard {
        if self.policy.access == Access::Open {
            self.user = None;
            self.login = Login::None;
            return self.on_call(call, reply);
        }
        if call.is_for_all() {
            self.login = Login::None;
            return self.on_call(call, reply);
        }
        match &self.login {
            Login::Shows(_) => {
                self.asked = Some(call);
                Heard::Refers
            }
            _ => self.judged(Verdict::Nobody, reply),
        }
    }

    /// An update begins: its bytes are referred from now on. `reply`: where a client that waits is told to go on.
    pub fn begin_update(&mut self, update: Update, reply: Option<Reply<'_>>) {
        self.phase = Phase::Update;
        self.upload = Upload {
            left: update.length,
            is_held: false,
        };
        if let Some(reply) = reply {
            append(reply.head, format_args!("HTTP/1.1 100 Continue\r\n\r\n"));
        }
    }

    /// Bytes of the update that its client is still to send; `None`: there is none.
    pub fn upload_left(&self) -> Option<u64> {
        (self.phase == Phase::Update).then_some(self.upload.left)
    }

    /// The box has taken so many of them, and may take no more for now.
    pub fn passed_on(&mut self, count: u64, is_held: bool) {
        self.upload.left -= count;
        self.upload.is_held = is_held;
    }

    /// It is the box's turn, not the client's.
    fn waits_for_the_box(&self) -> bool {
        self.upload.left == 0 || self.upload.is_held
    }

    /// It has to ask for a place before it is answered.
    fn lacks_place(&self, call: &Call) -> bool {
        self.place == Place::Stands && !call.takes_no_place()
    }

    /// The door has looked at what the current request has shown.
    fn judged(&mut self, verdict: Verdict, reply: Reply<'_>) -> Heard {
        let call = self.asked.take();
        self.user = None;
        match verdict {
            Verdict::In(user) => {
                let call = call.expect("the request that waits for it");
                let allowed = call.check(&user);
                self.user = Some(Rc::clone(&user));
                if allowed.is_ok() && self.lacks_place(&call) {
                    // It comes here again when that is decided, as a user then.
                    (self.asked, self.login) = (Some(call), Login::Judged(Verdict::In(user)));
                    return Heard::WantsPlace;
                }
                match allowed {
                    Ok(()) => self.on_call(call, reply),
                    Err(refusal) => self.refuse(refusal, reply),
                }
            }
            // What to type, and why, is for the browser to say.
            Verdict::Nobody => self.refuse(Refusal::new(Status::Unauthorized, "log in"), reply),
            Verdict::Later(seconds) => {
                self.retry_after = Some(seconds);
                let why = "too many wrong passwords from this address; try again later";
                self.refuse(Refusal::new(Status::TooManyRequests, why), reply)
            }
            Verdict::Busy => {
                self.retry_after = Some(RETRY_AFTER_S);
                let why = "too many passwords to look at; try again later";
                self.refuse(Refusal::new(Status::ServiceUnavailable, why), reply)
            }
        }
    }

    /// What the current request shows, if it is the door's turn to look at it; then it is.
    pub fn take_claim(&mut self) -> Option<Box<Claim>> {
        match std::mem::replace(&mut self.login, Login::Waits) {
            Login::Shows(claim) => Some(claim),
            other => {
                self.login = other;
                None
            }
        }
    }

    /// What has come of it. The next [`Session::hear`] answers the request.
    pub fn judge(&mut self, verdict: Verdict) {
        if self.login == Login::Waits {
            self.login = Login::Judged(verdict);
        }
    }

    /// Where the one is who has sent the current request.
    pub fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// Who has sent the current request, if that is known.
    pub fn asker(&self) -> Option<&Rc<User>> {
        self.user.as_ref()
    }

    /// Whether the one who asks is told about others: names, addresses, and what is wrong.
    pub fn is_trusted(&self) -> bool {
        match self.policy.access {
            Access::Users => self.user.as_ref().is_some_and(|user| user.may.control),
            Access::Open => self.policy.is_local,
        }
    }

    /// Whether it may go on with what it gets, when the configuration has changed. `is_user`: whether this is still one.
    pub fn stays(&mut self, is_user: impl Fn(&Rc<User>) -> bool) -> bool {
        let is_good = match &self.user {
            Some(user) => is_user(user),
            None => self.policy.access == Access::Open,
        };
        if !is_good {
            self.user = None;
        }
        is_good || matches!(self.phase, Phase::Request | Phase::Update)
    }

    /// A changed configuration. [`Http::stays`] must follow.
    pub fn set_policy(&mut self, policy: &Rc<Policy>) {
        self.policy = Rc::clone(policy);
    }

    fn trusts(&self, address: Option<IpAddr>) -> bool {
        let is_in = |address| {
            let mut proxies = self.policy.trusted_proxies.iter();
            proxies.any(|network| network.contains(address))
        };
        match address {
            Some(address) => is_in(address),
            // A Unix socket is this machine.
            None => is_in(Ipv4Addr::LOCALHOST.into()) || is_in(Ipv6Addr::LOCALHOST.into()),
        }
    }

    /// Who has asked the proxies that are trusted, as the nearest of them to the client has it.
    fn behind_proxies(&self, forwarded_for: Option<&str>) -> Option<IpAddr> {
        let mut place = self.from;
        let mut hops = forwarded_for.into_iter().flat_map(|list| list.rsplit(','));
        while self.trusts(place)
            && let Some(hop) = hops.next()
            && let Some(address) = hop_address(hop.trim())
        {
            place = Some(address.to_canonical());
        }
        place
    }

    /// The requests that need nothing but a picture or a few words are answered here.
    fn on_call(&mut self, call: Call, reply: Reply<'_>) -> Heard {
        self.close |= self.place != Place::Seated
            || matches!(
                call,
                Call::Get(Route::StateOnce | Route::Player | Route::Icon | Route::Manifest)
            );
        if !call.takes_no_place() {
            match self.place {
                Place::Seated => self.has_asked = true,
                Place::TurnedAway(NoRoom::Share) => return self.refuse(SHARE, reply),
                Place::Stands | Place::TurnedAway(NoRoom::Full) => {
                    return self.refuse(FULL, reply);
                }
            }
        }
        if matches!(call, Call::Update(_)) && self.user.is_none() {
            return self.refuse(Refusal::new(Status::Forbidden, NO_UPDATES), reply);
        }
        match call {
            Call::Get(Route::Stream) => {
                self.stream_head(reply.head);
                Heard::Reply
            }
            Call::Get(Route::Film) => {
                (self.phase, self.film, self.close) = (Phase::Film, Film::default(), true);
                Heard::Asked
            }
            Call::Get(Route::Snapshot) => {
                self.phase = Phase::Snapshot;
                Heard::Asked
            }
            Call::Options(route) => {
                self.options_head(route, reply.head);
                Heard::Reply
            }
            Call::Moved(moved) => {
                self.moved(moved, reply);
                Heard::Reply
            }
            call => {
                self.asked = Some(call);
                Heard::Refers
            }
        }
    }

    /// The request behind a [`Heard::Refers`]. [`Http::reply`] answers it.
    pub fn take_call(&mut self) -> Option<Call> {
        self.asked.take()
    }

    /// Sends the client of the page to where its links lead to the right places. The reference is relative: what a proxy has
    /// cut off in front of the path is not known here.
    fn moved(&mut self, moved: Moved, reply: Reply<'_>) {
        self.phase = Phase::Request;
        let status = Status::MovedPermanently;
        line(reply.head, format_args!("HTTP/1.1 {status}"));
        line(reply.head, format_args!("Cache-Control: no-store"));
        line(reply.head, format_args!("Content-Length: 0"));
        match moved {
            Moved::Above => line(reply.head, format_args!("Location: ../")),
            Moved::Below => {
                let last = target::last(&self.policy.base_path);
                line(reply.head, format_args!("Location: {last}/"));
            }
        }
        self.end_head(false, reply.head);
    }

    fn refuse(&mut self, refusal: Refusal, reply: Reply<'_>) -> Heard {
        self.close |= self.place != Place::Seated;
        let mut body = heapless::String::<REFUSAL_BODY>::new();
        // Cut if too long: it is for a person's eyes.
        let _ = match refusal.status {
            Status::Misdirected => writeln!(
                body,
                "{}: {}: {:?}",
                refusal.status, refusal.reason, self.misnamed
            ),
            status => writeln!(body, "{status}: {}", refusal.reason),
        };
        self.reply_with(refusal.status, TEXT, body.as_bytes(), refusal.allow, reply);
        Heard::Reply
    }

    /// As [`Http::reply`], for what is not to be.
    pub fn refuse_call(&mut self, status: Status, why: &'static str, reply: Reply<'_>) {
        self.refuse(Refusal::new(status, why), reply);
    }

    /// Answers a request. What does not fit the slot's own copy is cut: pages are at most [`crate::limits::PAGE`].
    pub fn reply(&mut self, status: Status, content_type: &str, body: &[u8], reply: Reply<'_>) {
        self.reply_with(status, content_type, body, None, reply);
    }

    fn reply_with(
        &mut self,
        status: Status,
        content_type: &str,
        body: &[u8],
        allow: Option<&str>,
        reply: Reply<'_>,
    ) {
        self.phase = Phase::Request;
        let body = &body[..body.len().min(reply.body.capacity())];
        self.reply_head(status, content_type, body.len(), allow, reply.head);
        if !self.head_only {
            reply.body.copy_tail(body, 0);
        }
    }

    /// Takes in one request: sets what the reply depends on, and says what is wanted.
    pub fn parse(&mut self, input: &[u8]) -> Parsed {
        // Cheaper than a full parse for each byte of a slow client.
        let ended = memchr::memmem::find(input, b"\n\r\n").is_some()
            || memchr::memmem::find(input, b"\n\n").is_some();
        if !ended && input.len() < REQUEST_HEAD {
            // A TLS client hello or any other binary protocol: say so now, not at the time limit.
            return match input.iter().find(|b| !matches!(b, b'\r' | b'\n')) {
                Some(first) if !first.is_ascii_graphic() => self.broken(
                    Status::BadRequest,
                    "this is plain HTTP, and that was not (https:// instead of http://?)",
                ),
                _ => Parsed::Incomplete,
            };
        }
        let mut fields = [httparse::EMPTY_HEADER; REQUEST_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let head = match request.parse(input) {
            Ok(httparse::Status::Complete(head)) if head <= REQUEST_HEAD => head,
            Ok(_) if input.len() < REQUEST_HEAD => return Parsed::Incomplete,
            Ok(_) | Err(httparse::Error::TooManyHeaders) => {
                return self.broken(
                    Status::HeadTooLarge,
                    "a request's head is limited to 8192 bytes and 64 fields",
                );
            }
            Err(httparse::Error::Version) => {
                return self.broken(
                    Status::VersionNotSupported,
                    "HTTP/1.0 and HTTP/1.1 are spoken here",
                );
            }
            Err(_) => return self.broken(Status::BadRequest, "malformed request head"),
        };
        let fields = match Fields::read(request.headers) {
            Ok(fields) => fields,
            Err(refusal) => return self.broken(refusal.status, refusal.reason),
        };
        let version_1_1 = request.version == Some(1);
        if version_1_1 && fields.host.is_none() {
            return self.broken(Status::BadRequest, "HTTP/1.1 requires one Host field");
        }
        let (method, target) = (
            request.method.unwrap_or_default(),
            request.path.unwrap_or_default(),
        );
        // Its body is taken in bit by bit.
        let is_update = method == "POST" && target::is_update(target, &self.policy.base_path);
        let update = Update {
            length: fields.content_length,
            older: false,
            waits: version_1_1 && fields.continues,
        };
        let length = match fields.content_length {
            _ if is_update => 0,
            length if length > REQUEST_BODY as u64 => {
                return self.broken(
                    Status::ContentTooLarge,
                    "a request's body is limited to 1024 bytes",
                );
            }
            length => length as usize,
        };
        let bytes = input.get(..head + length);
        let awaits = version_1_1 && fields.continues && !is_update;
        let is_awaited = awaits && input.len() == head && !self.continued;
        if bytes.is_none() && !is_awaited {
            return Parsed::Incomplete;
        }

        let keep = if version_1_1 {
            !fields.connection_close
        } else {
            fields.connection_keep_alive
        };
        self.close = !keep || is_update;
        self.say_keep_alive = keep && !version_1_1;
        self.head_only = request.method == Some("HEAD");
        self.phase = Phase::Request;
        (self.retry_after, self.asked, self.login) = (None, None, Login::None);
        if version_1_1 && fields.expects_else {
            let reason = "the only expectation that is met here is 100-continue";
            return self.broken(Status::ExpectationFailed, reason);
        }
        let understood = self.understand(method, target, fields);
        let Some(bytes) = bytes else {
            return match understood {
                Ok(_) => {
                    // It is parsed again with its body. Nothing ends meanwhile.
                    self.close = false;
                    Parsed::Expects
                }
                // The client may send its body all the same, or not.
                Err(refusal) => {
                    self.close = true;
                    Parsed::Broken(refusal)
                }
            };
        };
        self.continued = false;
        let call = understood.and_then(|target| match target.route {
            Route::Update if is_update => self.update(&target, update),
            _ => self.call(method, &target, &bytes[head..]),
        });
        match call {
            // Where its body ends is of no interest any more.
            Err(refusal) if is_update => Parsed::Broken(refusal),
            Ok(call) => Parsed::Call(call, bytes.len()),
            Err(refusal) => Parsed::Refused(refusal, bytes.len()),
        }
    }

    fn broken(&mut self, status: Status, reason: &'static str) -> Parsed {
        (self.phase, self.close, self.head_only) = (Phase::Request, true, false);
        Parsed::Broken(Refusal::new(status, reason))
    }

    /// What a request's head says, whatever its body is.
    fn understand<'a>(
        &mut self,
        method: &str,
        target: &'a str,
        mut fields: Fields<'a>,
    ) -> Result<Target, Refusal> {
        let (authority, rest) = target::divide(target);
        // It stands for the Host field (RFC 9112, 3.2.2).
        fields.asker.host = authority.or(fields.host);
        if !self.trusts(self.from) {
            fields.asker.forget_forwarded();
        }
        // What a page of another site wants changed is refused under whatever name.
        if method == "POST" {
            self.check_origin(&fields.asker)?;
        }
        self.check_hosts(&fields)?;
        self.client = self.behind_proxies(fields.forwarded_for);
        if self.policy.access == Access::Users {
            let claim = match fields.authorization {
                Some(field) => Claim::read(field),
                None => target::token(rest).map(Claim::Token),
            };
            self.login = claim.map_or(Login::None, |claim| Login::Shows(Box::new(claim)));
        }
        // "OPTIONS *" asks about the server as a whole.
        let rest = if (method, rest) == ("OPTIONS", "*") {
            "/"
        } else {
            rest
        };
        let target = target::read(rest, &self.policy.base_path).map_err(|wrong| match wrong {
            Wrong::Value(reason) => Refusal::new(Status::BadRequest, reason),
            Wrong::Unknown => Refusal::new(
                Status::NotFound,
                "there are /, /stream, /stream.mp4, /snapshot, /state, /metrics, /healthz and /controls",
            ),
        })?;
        match (method, target.route) {
            ("GET", Route::Stream | Route::Film | Route::Snapshot)
                if !self.policy.embed
                    && fields.asker.is_embedded()
                    && !self.is_allowed(&fields.asker) =>
            {
                return Err(Refusal::new(
                    Status::Forbidden,
                    "this listener has embed = false: pages of other sites may not show its pictures",
                ));
            }
            ("GET" | "HEAD", Route::Update) => {
                return Err(Refusal {
                    allow: Some(Route::Update.methods(false)),
                    ..Refusal::new(Status::MethodNotAllowed, "POST an image to this path")
                });
            }
            ("GET" | "HEAD" | "OPTIONS", _) | ("POST", Route::Update) => {}
            ("POST", Route::Controls) => {
                if !self.policy.set_controls {
                    let why = match self.policy.is_exposed() {
                        true => {
                            "nobody may set controls where everybody may connect: add a [[user]] with may = [\"control\"]"
                        }
                        false => "this listener has set_controls = false",
                    };
                    return Err(Refusal::new(Status::Forbidden, why));
                }
            }
            (_, route) => {
                return Err(Refusal {
                    allow: Some(route.methods(self.policy.set_controls)),
                    ..Refusal::new(
                        Status::MethodNotAllowed,
                        "this path has other methods, see the Allow field",
                    )
                });
            }
        }
        Ok(target)
    }

    /// What a request is that [`Http::understand`] allows.
    fn call(&mut self, method: &str, target: &Target, body: &[u8]) -> Result<Call, Refusal> {
        self.wish = target.wish;
        Ok(match (method, target.moved) {
            ("OPTIONS", _) => Call::Options(target.route),
            ("POST", _) => Call::SetControls(Box::new(parse_settings(body)?)),
            (_, Some(moved)) => Call::Moved(moved),
            (_, None) => Call::Get(target.route),
        })
    }

    fn update(&mut self, target: &Target, update: Update) -> Result<Call, Refusal> {
        self.wish = target.wish;
        match update.length {
            0 => Err(Refusal::new(
                Status::LengthRequired,
                "send the image as the body, with Content-Length",
            )),
            1..=UPDATE_MAX => Ok(Call::Update(Update {
                older: target.older,
                ..update
            })),
            _ => Err(Refusal::new(
                Status::ContentTooLarge,
                "an image has 128 MiB at most",
            )),
        }
    }

    /// Whether it is for the pages of allow_origin.
    fn is_allowed(&self, asker: &Asker<'_>) -> bool {
        match (&self.policy.allow_origin, asker.origin) {
            (Some(allow), _) if allow == "*" => true,
            (Some(allow), Some(origin)) => origin::is_same(allow, origin),
            _ => false,
        }
    }

    /// Nobody but this machine was meant. See [`host`].
    fn check_hosts(&mut self, fields: &Fields<'_>) -> Result<(), Refusal> {
        let names = &self.policy.names;
        let mut hosts = fields.asker.hosts().chain(fields.host);
        let Some(foreign) = hosts.find(|host| !host::is_own(host, names)) else {
            return Ok(());
        };
        self.misnamed.clear();
        for c in foreign.chars() {
            if self.misnamed.push(c).is_err() {
                break;
            }
        }
        Err(Refusal::new(
            Status::Misdirected,
            "if this is a name of this camera, add it to hosts of its [[listener]] in camd.toml",
        ))
    }

    /// Programs, the camera's own page and the configured origin may set controls. See [`origin`].
    fn check_origin(&self, asker: &Asker<'_>) -> Result<(), Refusal> {
        if self.is_allowed(asker) || asker.is_own() {
            Ok(())
        } else {
            Err(Refusal::new(
                Status::Forbidden,
                "pages of another origin need allow_origin in camd.toml",
            ))
        }
    }

    /// Writes a reply's head for a body of `len` bytes.
    pub fn reply_head(
        &self,
        status: Status,
        content_type: &str,
        len: usize,
        allow: Option<&str>,
        head: &mut Head,
    ) {
        line(head, format_args!("HTTP/1.1 {status}"));
        line(head, format_args!("Cache-Control: no-store"));
        if status != Status::NoContent {
            line(head, format_args!("Content-Type: {content_type}"));
            line(head, format_args!("Content-Length: {len}"));
        }
        if let Some(methods) = allow {
            line(head, format_args!("Allow: {methods}"));
        }
        if status == Status::Unauthorized {
            put(head, CHALLENGE);
        }
        let after_s = match status {
            Status::ServiceUnavailable => Some(self.retry_after.unwrap_or(RETRY_AFTER_S)),
            _ => self.retry_after,
        };
        if let Some(seconds) = after_s {
            line(head, format_args!("Retry-After: {seconds}"));
        }
        self.end_head(false, head);
    }

    /// What every head ends with. `is_picture`: it is in front of one, or of many.
    fn end_head(&self, is_picture: bool, head: &mut Head) {
        self.cors(head);
        let is_embedded = is_picture && self.policy.embed;
        let sites = if is_embedded {
            "cross-origin"
        } else {
            "same-origin"
        };
        line(head, format_args!("Cross-Origin-Resource-Policy: {sites}"));
        let own = self
            .policy
            .allow_origin
            .as_deref()
            .filter(|origin| *origin != "*");
        match own {
            _ if is_embedded => put(head, b"Content-Security-Policy: frame-ancestors *\r\n"),
            Some(origin) => line(
                head,
                format_args!("Content-Security-Policy: frame-ancestors 'self' {origin}"),
            ),
            None => put(head, b"Content-Security-Policy: frame-ancestors 'self'\r\n"),
        }
        put(
            head,
            b"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n",
        );
        self.connection(head);
        put(head, b"\r\n");
    }

    /// The reply to OPTIONS, for a person's question as for a browser's preflight (Fetch Standard, 3.2.2).
    pub fn options_head(&self, route: Route, head: &mut Head) {
        let methods = route.methods(self.policy.set_controls);
        line(head, format_args!("HTTP/1.1 {}", Status::NoContent));
        line(head, format_args!("Allow: {methods}"));
        if self.policy.allow_origin.is_some() {
            line(
                head,
                format_args!("Access-Control-Allow-Methods: {methods}"),
            );
            line(
                head,
                format_args!("Access-Control-Allow-Headers: Authorization, Content-Type"),
            );
            line(head, format_args!("Access-Control-Max-Age: 86400"));
        }
        self.end_head(false, head);
    }

    /// Begins a stream: the response's head and the first boundary.
    pub fn stream_head(&mut self, head: &mut Head) {
        self.close = true;
        line(head, format_args!("HTTP/1.1 {}", Status::Ok));
        line(head, format_args!("Cache-Control: no-store"));
        line(
            head,
            format_args!("Content-Type: multipart/x-mixed-replace; boundary={BOUNDARY}"),
        );
        // nginx would hold the end of each picture back until its buffer is full.
        line(head, format_args!("X-Accel-Buffering: no"));
        self.end_head(true, head);
        if !self.head_only {
            self.phase = Phase::Stream;
            append(head, format_args!("{FIRST_BOUNDARY}"));
        }
    }

    /// Begins a film: the response's head. Its type names the profile, which a page must know before it can play it
    /// (RFC 6381, 3.3).
    fn film_head(&self, unit: &Unit<'_>, head: &mut Head) {
        let [profile, constraints, level] = unit.parameters.profile();
        line(head, format_args!("HTTP/1.1 {}", Status::Ok));
        line(head, format_args!("Cache-Control: no-store"));
        line(
            head,
            format_args!(
                "Content-Type: video/mp4; codecs=\"avc1.{profile:02X}{constraints:02X}{level:02X}\""
            ),
        );
        line(head, format_args!("X-Accel-Buffering: no"));
        self.end_head(true, head);
    }

    /// A film's first picture is on its way or out.
    fn is_in_film(&self) -> bool {
        self.phase == Phase::Film && self.film.has_begun()
    }

    fn cors(&self, head: &mut Head) {
        if let Some(origin) = &self.policy.allow_origin {
            line(head, format_args!("Access-Control-Allow-Origin: {origin}"));
            line(
                head,
                format_args!("Access-Control-Expose-Headers: X-Timestamp"),
            );
            if origin != "*" {
                line(head, format_args!("Vary: Origin"));
            }
        }
    }

    fn connection(&self, head: &mut Head) {
        if self.close {
            line(head, format_args!("Connection: close"));
        } else if self.say_keep_alive {
            line(head, format_args!("Connection: keep-alive"));
        }
    }

    /// Frames a picture: as a part of the stream, or as the reply to a snapshot request.
    fn next_chunk(&self, meta: &FrameMeta, len: usize, head: &mut Head) -> Chunk {
        match self.phase {
            Phase::Stream => {
                // With `fmt` it would take ten times the instructions, which are most of a single viewer's.
                self.heads.put(meta, len, head, |head| {
                    put(head, b"Content-Type: image/jpeg\r\nContent-Length: ");
                    put_number(head, len as u64);
                    put(head, b"\r\nX-Timestamp: ");
                    put_number(head, meta.wall.as_secs());
                    // A million more: six digits behind the one that becomes the point.
                    let point = head.len();
                    put_number(head, 1_000_000 + u64::from(meta.wall.subsec_micros()));
                    head[point] = b'.';
                    put(head, b"\r\n\r\n");
                });
                Chunk {
                    payload: len,
                    tail: PART_TAIL,
                }
            }
            Phase::Snapshot | Phase::Film | Phase::Request | Phase::Update => {
                line(head, format_args!("HTTP/1.1 {}", Status::Ok));
                line(head, format_args!("Cache-Control: no-store"));
                line(head, format_args!("Content-Type: {JPEG}"));
                line(head, format_args!("Content-Length: {len}"));
                timestamp(meta, head);
                self.end_head(true, head);
                Chunk {
                    payload: if self.head_only { 0 } else { len },
                    tail: b"",
                }
            }
        }
    }
}

/// What a client is told that finds no place.
const FULL: Refusal = Refusal::new(Status::ServiceUnavailable, "all client slots are taken");
/// As [`FULL`], if it is only its own address that has no more.
const SHARE: Refusal = Refusal::new(
    Status::ServiceUnavailable,
    "all client slots are taken that one address may have (clients_per_address in camd.toml)",
);

/// What a user is told who may not, or where there are none.
const NO_UPDATES: &str = "updates are for a [[user]] with \"update\" in may";

/// How a browser is asked to log in (RFC 7617, 2 and 2.1).
const CHALLENGE: &[u8] = b"WWW-Authenticate: Basic realm=\"camd\", charset=\"UTF-8\"\r\n";

/// Bytes of a foreign name that are shown.
const MISNAMED: usize = 64;

/// An address in X-Forwarded-For, with a port or without.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let inner = |hop: &str| hop.strip_prefix('[')?.split(']').next()?.parse().ok();
    let address = hop.parse().ok().or_else(|| inner(hop));
    address.or_else(|| hop.rsplit_once(':')?.0.parse().ok())
}

/// What a 503 suggests as the time until the next try, in seconds.
const RETRY_AFTER_S: u32 = 5;

fn timestamp(meta: &FrameMeta, head: &mut Head) {
    line(
        head,
        format_args!(
            "X-Timestamp: {}.{:06}",
            meta.wall.as_secs(),
            meta.wall.subsec_micros()
        ),
    );
}

fn line(head: &mut Head, text: fmt::Arguments<'_>) {
    append(head, text);
    append(head, format_args!("\r\n"));
}

fn put(head: &mut Head, bytes: &[u8]) {
    head.extend_from_slice(bytes)
        .expect("every head fits limits::HEAD");
}

/// In decimal.
fn put_number(head: &mut Head, number: u64) {
    let mut buffer = itoa::Buffer::new();
    // Small boards divide 64 bits by a call.
    let digits = match u32::try_from(number) {
        Ok(number) => buffer.format(number),
        Err(_) => buffer.format(number),
    };
    put(head, digits.as_bytes());
}

fn append(head: &mut Head, text: fmt::Arguments<'_>) {
    // The one part of a head that is not ours is the configured origin, and limits::ORIGIN bounds it.
    head.write_fmt(text).expect("every head fits limits::HEAD");
}

/// The fields of a request that change what is answered.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    asker: Asker<'a>,
    content_length: u64,
    /// Expect: 100-continue.
    continues: bool,
    /// Something else is expected.
    expects_else: bool,
    authorization: Option<&'a str>,
    /// X-Forwarded-For, the last field of that name: nearest to here.
    forwarded_for: Option<&'a str>,
    connection_close: bool,
    connection_keep_alive: bool,
}

impl<'a> Fields<'a> {
    /// Errors are those after which the end of the request is unknown.
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        const BAD: Refusal = Refusal::new(
            Status::BadRequest,
            "malformed or contradictory header fields",
        );
        let mut fields = Fields::default();
        let mut length: Option<u64> = None;
        for header in headers {
            let value = || {
                std::str::from_utf8(header.value)
                    .map(str::trim)
                    .map_err(|_| BAD)
            };
            if header.name.eq_ignore_ascii_case("content-length") {
                let value = value()?;
                // Digits alone: u64's own parser would take a sign.
                if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(BAD);
                }
                let n = value.parse().unwrap_or(u64::MAX);
                // Two lengths that differ are how requests are smuggled past proxies (RFC 9112, 6.3).
                if length.is_some_and(|before| before != n) {
                    return Err(BAD);
                }
                length = Some(n);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(Refusal::new(
                    Status::LengthRequired,
                    "send the body with Content-Length",
                ));
            } else if header.name.eq_ignore_ascii_case("host") {
                if fields.host.replace(value()?).is_some() {
                    return Err(BAD);
                }
            } else if header.name.eq_ignore_ascii_case("expect") {
                for expectation in value()?.split(',').map(str::trim) {
                    let continues = expectation.eq_ignore_ascii_case("100-continue");
                    fields.continues |= continues;
                    fields.expects_else |= !continues && !expectation.is_empty();
                }
            } else if header.name.eq_ignore_ascii_case("connection") {
                for option in value()?.split(',').map(str::trim) {
                    fields.connection_close |= option.eq_ignore_ascii_case("close");
                    fields.connection_keep_alive |= option.eq_ignore_ascii_case("keep-alive");
                }
            } else if header.name.eq_ignore_ascii_case("authorization") {
                if fields.authorization.replace(value()?).is_some() {
                    return Err(BAD);
                }
            } else if let Ok(value) = std::str::from_utf8(header.value) {
                if header.name.eq_ignore_ascii_case("x-forwarded-for") {
                    fields.forwarded_for = Some(value);
                }
                fields.asker.take(header.name, value.trim());
            }
        }
        fields.content_length = length.unwrap_or(0);
        Ok(fields)
    }
}

/// Reads `name=value&name=value` (application/x-www-form-urlencoded; neither names nor numbers need its escapes).
fn parse_settings(body: &[u8]) -> Result<Settings, Refusal> {
    const BAD: Refusal = Refusal::new(
        Status::BadRequest,
        "expected name=value&name=value, values being integers, true or false",
    );
    let body = std::str::from_utf8(body).map_err(|_| BAD)?;
    let mut settings = Settings::new();
    for pair in body.trim_end().split('&') {
        let (name, value) = pair.split_once('=').ok_or(BAD)?;
        let value = match value {
            "true" => 1,
            "false" => 0,
            number => number.parse().map_err(|_| BAD)?,
        };
        let name = heapless::String::try_from(name).map_err(|_| BAD)?;
        settings.push((name, value)).map_err(|_| {
            Refusal::new(
                Status::ContentTooLarge,
                "at most 16 controls in one request",
            )
        })?;
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    use std::time::Duration;

    fn parse(input: &str) -> Parsed {
        Http {
            policy: Rc::new(Policy {
                set_controls: true,
                ..Policy::default()
            }),
            ..Http::default()
        }
        .parse(input.as_bytes())
    }

    fn route(target: &str) -> Option<Route> {
        match parse(&format!("GET {target} HTTP/1.0\r\n\r\n")) {
            Parsed::Call(Call::Get(route), _) => Some(route),
            _ => None,
        }
    }

    fn status(input: &str) -> Option<Status> {
        match parse(input) {
            Parsed::Refused(refusal, _) | Parsed::Broken(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    #[test]
    fn every_way_to_ask_for_a_picture() {
        for target in [
            "/stream",
            "/stream?x",
            "/?action=stream",
            "/?action=stream&1608856928650",
            "/?1&action=stream",
        ] {
            assert_eq!(route(target), Some(Route::Stream), "{target}");
        }
        for target in [
            "/snapshot",
            "/snapshot.jpg",
            "/snapshot.jpg?t=5",
            "/?action=snapshot",
            "/?action=snapshot&x",
        ] {
            assert_eq!(route(target), Some(Route::Snapshot), "{target}");
        }
        assert_eq!(route("http://127.0.0.1:8080/state"), Some(Route::State));
        assert_eq!(route("http://[::1]:8080"), Some(Route::Index));
        assert_eq!(route("/?cache=17"), Some(Route::Index));
        assert_eq!(route("/?action=command"), None);
        assert_eq!(route("/streams"), None);
        assert_eq!(route("/x?u=http://box/stream"), None);
    }

    #[test]
    fn a_request_split_anywhere_is_the_same_request() {
        let input = "POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 26\r\n\r\nbrightness=-3&exposure=true";
        let input = &input[..input.len() - 1];
        for cut in 0..input.len() {
            assert_eq!(
                parse(&input[..cut]),
                Parsed::Incomplete,
                "{}",
                &input[..cut]
            );
        }
        assert_eq!(
            status(input),
            Some(Status::BadRequest),
            "exposure=tru is no value"
        );
        let input = "POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\nbrightness=-3&a=true";
        assert_eq!(
            status(input),
            Some(Status::BadRequest),
            "the body ends where its length says"
        );
        let input = "POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\nbrightness=-3&a=trueGET /";
        let Parsed::Call(Call::SetControls(settings), used) = parse(input) else {
            panic!("{:?}", parse(input))
        };
        assert_eq!(used, input.len() - 5, "what follows is the next request's");
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        assert_eq!(settings, [("brightness", -3), ("a", 1)]);
    }

    #[test]
    fn bad_requests_get_the_status_that_fits() {
        assert_eq!(
            status("GET / HTTP/1.1\r\n\r\n"),
            Some(Status::BadRequest),
            "no Host"
        );
        assert_eq!(
            status("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
            Some(Status::BadRequest)
        );
        assert_eq!(
            status("GET /\r\n\r\n"),
            Some(Status::BadRequest),
            "HTTP/0.9"
        );
        assert_eq!(
            status("\x16\x03\x01\x02"),
            Some(Status::BadRequest),
            "a TLS hello, before any line end"
        );
        assert_eq!(
            status("GET / HTTP/2.0\r\n\r\n"),
            Some(Status::VersionNotSupported)
        );
        assert_eq!(status("GET /x HTTP/1.0\r\n\r\n"), Some(Status::NotFound));
        assert_eq!(status("DELETE /x HTTP/1.0\r\n\r\n"), Some(Status::NotFound));
        assert_eq!(
            status("POST / HTTP/1.0\r\nContent-Length: 1025\r\n\r\n"),
            Some(Status::ContentTooLarge)
        );
        for length in ["-1", "+1", "1x", "", "1, 2"] {
            let input = format!("POST / HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(
                status(&input),
                Some(Status::BadRequest),
                "Content-Length: {length}"
            );
        }
        let two =
            "POST /controls HTTP/1.0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\na=1&b=2";
        assert_eq!(status(two), Some(Status::BadRequest));
        let chunked =
            "POST /controls HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(status(chunked), Some(Status::LengthRequired));
        let long = format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(REQUEST_HEAD));
        assert_eq!(status(&long), Some(Status::HeadTooLarge));
        assert_eq!(
            status(&"x".repeat(REQUEST_HEAD)),
            Some(Status::HeadTooLarge),
            "and it never ended"
        );
        let many = format!(
            "GET / HTTP/1.0\r\n{}\r\n",
            "a: b\r\n".repeat(REQUEST_FIELDS + 1)
        );
        assert_eq!(status(&many), Some(Status::HeadTooLarge));
        let Parsed::Refused(refusal, _) = parse("POST /stream HTTP/1.0\r\n\r\n") else {
            panic!("not refused")
        };
        assert_eq!(
            (refusal.status, refusal.allow),
            (Status::MethodNotAllowed, Some("GET, HEAD, OPTIONS"))
        );
    }

    #[test]
    fn a_page_of_another_site_cannot_set_controls() {
        let post = |http: &mut Http, origin: &str| {
            let input = format!(
                "POST /controls HTTP/1.1\r\nHost: localhost:8080\r\n{origin}Content-Length: 3\r\n\r\na=1"
            );
            match http.parse(input.as_bytes()) {
                Parsed::Call(..) => None,
                Parsed::Refused(refusal, _) => Some(refusal.status),
                other => panic!("{other:?}"),
            }
        };
        let http = |allow_origin: Option<&str>, set_controls| {
            let allow_origin = allow_origin.map(str::to_owned);
            let policy = Rc::new(Policy {
                allow_origin,
                set_controls,
                ..Policy::default()
            });
            Http {
                policy,
                ..Http::default()
            }
        };
        let mut closed = http(None, true);
        assert_eq!(post(&mut closed, ""), None, "curl");
        assert_eq!(
            post(&mut closed, "Origin: http://localhost:8080\r\n"),
            None,
            "the own page"
        );
        assert_eq!(
            post(&mut closed, "Origin: http://evil\r\n"),
            Some(Status::Forbidden)
        );
        assert_eq!(
            post(&mut closed, "Origin: null\r\n"),
            Some(Status::Forbidden)
        );
        let mut open = http(Some("http://hub"), true);
        assert_eq!(post(&mut open, "Origin: http://hub\r\n"), None);
        assert_eq!(
            post(&mut open, "Origin: http://hub2\r\n"),
            Some(Status::Forbidden)
        );
        let mut read_only = http(Some("*"), false);
        assert_eq!(post(&mut read_only, ""), Some(Status::Forbidden));
    }

    #[test]
    fn connections_stay_as_the_version_says() {
        for (input, stays) in [
            ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", true),
            (
                "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Close\r\n\r\n",
                false,
            ),
            (
                "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade, close\r\n\r\n",
                false,
            ),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ] {
            let mut http = Http::default();
            assert!(
                matches!(http.parse(input.as_bytes()), Parsed::Call(..)),
                "{input}"
            );
            assert_eq!(!http.close, stays, "{input}");
        }
    }

    fn meta() -> FrameMeta {
        let wall = Duration::new(1_700_000_000, 45_000_999);
        FrameMeta {
            sequence: 1,
            captured: Instant::now(),
            wall,
            width: 64,
            height: 48,
            orientation: crate::picture::frame::Orientation::UPRIGHT,
            exif: crate::picture::frame::Orientation::UPRIGHT,
            crop: None,
            live: true,
        }
    }

    #[test]
    fn a_stream_byte_for_byte() {
        let mut http = Http::default();
        http.parse(b"GET /stream HTTP/1.0\r\n\r\n");
        let mut head = Head::new();
        http.stream_head(&mut head);
        let expected = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n\
            Content-Type: multipart/x-mixed-replace; boundary=camdframe\r\nX-Accel-Buffering: no\r\nCross-Origin-Resource-Policy: cross-origin\r\nContent-Security-Policy: frame-ancestors *\r\n\
            X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n--camdframe\r\n";
        assert_eq!(std::str::from_utf8(&head), Ok(expected));
        head.clear();
        let chunk = http.next_chunk(&meta(), 4711, &mut head);
        let expected = "Content-Type: image/jpeg\r\nContent-Length: 4711\r\nX-Timestamp: 1700000000.045000\r\n\r\n";
        assert_eq!(std::str::from_utf8(&head), Ok(expected));
        assert_eq!(
            chunk,
            Chunk {
                payload: 4711,
                tail: b"\r\n--camdframe\r\n"
            }
        );
    }

    #[test]
    fn a_snapshot_byte_for_byte() {
        let policy = Rc::new(Policy {
            allow_origin: Some("http://hub".into()),
            ..Policy::default()
        });
        let mut http = Http {
            policy,
            ..Http::default()
        };
        http.parse(b"HEAD /snapshot HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        http.phase = Phase::Snapshot;
        let mut head = Head::new();
        let chunk = http.next_chunk(&meta(), 4711, &mut head);
        let expected = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: image/jpeg\r\n\
            Content-Length: 4711\r\nX-Timestamp: 1700000000.045000\r\nAccess-Control-Allow-Origin: http://hub\r\n\
            Access-Control-Expose-Headers: X-Timestamp\r\nVary: Origin\r\nCross-Origin-Resource-Policy: cross-origin\r\nContent-Security-Policy: frame-ancestors *\r\n\
            X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(std::str::from_utf8(&head), Ok(expected));
        assert_eq!(chunk.payload, 0, "HEAD has no body");
    }

    #[test]
    fn numbers_have_the_digits_of_fmt() {
        let edges = [0, 1, 9, 10, 46_123, 999_999, u32::MAX.into()];
        for number in edges.into_iter().chain([1 << 32, 10_u64.pow(19), u64::MAX]) {
            let mut head = Head::new();
            put_number(&mut head, number);
            assert_eq!(std::str::from_utf8(&head), Ok(number.to_string().as_str()));
        }
    }

    #[test]
    fn the_longest_heads_fit() {
        let policy = Rc::new(Policy {
            allow_origin: Some("x".repeat(crate::limits::ORIGIN)),
            set_controls: true,
            base_path: "x".repeat(crate::limits::BASE_PATH),
            ..Policy::default()
        });
        let mut http = Http {
            policy,
            close: true,
            ..Http::default()
        };
        let all = [
            Status::Ok,
            Status::HeadTooLarge,
            Status::ServiceUnavailable,
            Status::VersionNotSupported,
        ];
        for status in all {
            let mut head = Head::new();
            http.reply_head(
                status,
                METRICS,
                usize::MAX,
                Some(Route::Controls.methods(true)),
                &mut head,
            );
        }
        http.options_head(Route::Controls, &mut Head::new());
        http.stream_head(&mut Head::new());
        let wall = Duration::MAX;
        http.next_chunk(&FrameMeta { wall, ..meta() }, usize::MAX, &mut Head::new());
        http.phase = Phase::Snapshot;
        http.next_chunk(&FrameMeta { wall, ..meta() }, usize::MAX, &mut Head::new());
    }
}
