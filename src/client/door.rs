//! Who is let in: passwords and tokens of the users, and how often somebody may guess.
//!
//! A token, and a password that stands in the configuration, is compared at once. A password of which there is a hash takes
//! a hundred thousand times as long, which is done in slices between the turns of the event loop ([`Door::turn`]), one
//! guess after the other. What has been right once is known again by a keyed hash, so that a browser, which shows its
//! password with each request, costs that once.
//!
//! # What a guess costs others
//!
//! - No turn becomes longer than by [`GUESS_SLICE`].
//! - After [`WRONG_AT_ONCE`] wrong ones a [`Household`] waits, and nothing of what it shows is looked at meanwhile. The same
//!   wrong one again is none: a page in a forgotten window repeats its old password for ever.
//! - [`GUESSES`] wait at most, [`GUESSES_OF_PLACE`] of them from one place. Places where somebody has logged in before come
//!   first, and there is always room for them.
//!
//! Who is known to be somebody stays in: none of this ends a connection. Where one user has a hash, whatever is wrong takes
//! the time of one, so that it does not tell which names there are.

use std::rc::Rc;
use std::time::Instant;

use hmac::{Hmac, Mac};
use log::error;
use sha2::Sha256;

use super::table::ClientId;
use crate::config::{Config, Guess, PasswordHash, Secret, Token, UserConfig};
use crate::limits::{
    FORGOTTEN, GUESS_SLICE, GUESSERS, GUESSERS_KNOWN, GUESSES, GUESSES_OF_PLACE, MAX_USERS,
    WAIT_FIRST, WAIT_MAX, WRONG_AT_ONCE,
};
use crate::protocol::user::{User, Verdict};
use crate::system::household::Household;
use crate::system::random;

/// Iterations between two looks at the clock: some 0.2 ms on the slowest boards.
const STEP: u32 = 64;
/// Steps in one turn at most, whatever the clock says.
const STEPS: u32 = 256;

/// What somebody has shown, by a hash that nobody can reckon without the key.
type Digest = [u8; 16];

/// What somebody shows.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// A name, and a password.
    Password {
        /// Of the user.
        name: &'a str,
        /// As it was typed.
        password: &'a str,
    },
    /// A token.
    Token(&'a str),
}

/// What [`Door::ask`] has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// At once.
    Verdict(Verdict),
    /// It comes with a later [`Door::turn`].
    Later,
}

/// What [`Door::ask_for`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// It is the password.
    Right,
    /// It is not.
    Wrong,
    /// It is not looked at, for so many seconds.
    Later(u32),
}

struct Known {
    user: Rc<User>,
    password: Option<Secret>,
    hash: Option<PasswordHash>,
    token: Option<Token>,
    /// The password that was found to be right.
    right: Option<Digest>,
}

impl Known {
    fn of(config: &UserConfig) -> Known {
        let UserConfig {
            name,
            password,
            password_file: _,
            password_hash,
            token,
            may,
        } = config;
        Known {
            user: Rc::new(User {
                name: name.clone(),
                may: *may,
            }),
            password: password.clone(),
            hash: password_hash.clone(),
            token: token.clone(),
            right: None,
        }
    }

    fn is_same(&self, other: &Known) -> bool {
        self.user == other.user
            && self.password == other.password
            && self.hash == other.hash
            && self.token == other.token
    }
}

/// A place from where somebody has tried.
#[derive(Clone, Copy, Debug)]
struct Entry {
    place: Household,
    /// Wrong ones that count.
    wrong: u32,
    /// The last of them.
    seen: [Digest; WRONG_AT_ONCE],
    /// Nothing is looked at before.
    until: Instant,
    /// Of the last wrong or right one.
    last: Instant,
    /// Somebody has logged in from there.
    is_known: bool,
}

/// A password that is to be held against a hash.
struct Job {
    place: Household,
    digest: Digest,
    /// Who it would be; `None`: nobody, whatever comes of it.
    user: Option<Rc<User>>,
    guess: Guess,
    clients: heapless::Vec<ClientId, GUESSERS>,
}

/// What has become of a guess.
pub struct Judged {
    /// Those who have shown it. Some may be gone.
    pub clients: heapless::Vec<ClientId, GUESSERS>,
    /// For all of them.
    pub verdict: Verdict,
    /// It counts as a wrong one.
    pub is_wrong: bool,
}

/// The users, and what has been tried.
pub struct Door {
    key: Hmac<Sha256>,
    users: heapless::Vec<Known, MAX_USERS>,
    /// For those who are nobody: as good as that of a user.
    decoy: Option<PasswordHash>,
    entries: heapless::Vec<Entry, GUESSERS_KNOWN>,
    jobs: heapless::Vec<Job, GUESSES>,
    /// One that gave way, and whose clients are still to be told.
    displaced: Option<Judged>,
    clock: fn() -> Instant,
}

impl Door {
    /// Takes the memory of all that it remembers. `clock` is asked only to measure a slice.
    pub fn new(config: &Config, clock: fn() -> Instant) -> Door {
        let mut key = [0; 32];
        if let Err(error) = random::fill(&mut key) {
            // Known ones are found by it, which is not as good then, but is no reason not to serve.
            error!("no random numbers: {error}");
        }
        let mut door = Door {
            key: Hmac::new_from_slice(&key).expect("HMAC takes any key"),
            users: heapless::Vec::new(),
            decoy: None,
            entries: heapless::Vec::new(),
            jobs: heapless::Vec::new(),
            displaced: None,
            clock,
        };
        door.reconfigure(config);
        door
    }

    /// Takes over changed users. Guesses that are being looked at go on, for users that are still the same.
    pub fn reconfigure(&mut self, config: &Config) {
        let before = std::mem::take(&mut self.users);
        for user in &config.users {
            let mut known = Known::of(user);
            if let Some(old) = before.iter().find(|old| old.is_same(&known)) {
                known.right = old.right;
                known.user = Rc::clone(&old.user);
            }
            let added = self.users.push(known);
            assert!(added.is_ok(), "limits has room for all users");
        }
        let mut hashes = self.users.iter().filter_map(|known| known.hash.as_ref());
        self.decoy = hashes.next().cloned();
        for job in self.jobs.iter_mut() {
            let is_there = |user: &Rc<User>| self.users.iter().any(|it| Rc::ptr_eq(&it.user, user));
            job.user = job.user.take().filter(is_there);
        }
    }

    /// Whether this is still a user, as it was when it logged in: with the same name, password and token, and as much
    /// that it may do.
    pub fn has(&self, user: &Rc<User>) -> bool {
        self.users.iter().any(|known| Rc::ptr_eq(&known.user, user))
    }

    /// Looks at what somebody shows.
    pub fn ask(
        &mut self,
        shown: Shown<'_>,
        place: Household,
        client: ClientId,
        now: Instant,
    ) -> Answer {
        let digest = self.digest(shown);
        if let Some(seconds) = self.waits(place, digest, now) {
            return Answer::Verdict(seconds.map_or(Verdict::Nobody, Verdict::Later));
        }
        let mut found = None;
        let mut candidate = None;
        for known in &self.users {
            match (shown, &known.token) {
                (Shown::Token(token), Some(own)) if own.is(token) => found = Some(&known.user),
                (Shown::Password { name, password }, _) if known.user.name.as_str() == name => {
                    let is_right = known.right == Some(digest)
                        || known.password.as_ref().is_some_and(|own| own.is(password));
                    if is_right {
                        found = Some(&known.user);
                    } else {
                        candidate = known.hash.as_ref().map(|hash| (hash, &known.user));
                    }
                }
                _ => {}
            }
        }
        if let Some(user) = found.cloned() {
            self.note(place, None, now);
            return Answer::Verdict(Verdict::In(user));
        }
        let guess = match (shown, candidate, &self.decoy) {
            (Shown::Password { password, .. }, Some((hash, user)), _) => {
                Some((hash.guess(password), Some(Rc::clone(user))))
            }
            (Shown::Password { password, .. }, None, Some(decoy)) => {
                Some((decoy.guess(password), None))
            }
            _ => None,
        };
        match guess {
            Some((guess, user)) => self.line_up(Job {
                place,
                digest,
                user,
                guess,
                clients: heapless::Vec::from_slice(&[client]).expect("there is room for one"),
            }),
            None => {
                self.note(place, Some(digest), now);
                Answer::Verdict(Verdict::Nobody)
            }
        }
    }

    /// Looks at a password that is not that of a user, but of a listener.
    pub fn ask_for(
        &mut self,
        own: &Secret,
        password: &str,
        place: Household,
        now: Instant,
    ) -> Plain {
        let digest = self.digest(Shown::Password { name: "", password });
        match self.waits(place, digest, now) {
            Some(Some(seconds)) => Plain::Later(seconds),
            Some(None) => Plain::Wrong,
            None if own.is(password) => {
                self.note(place, None, now);
                Plain::Right
            }
            None => {
                self.note(place, Some(digest), now);
                Plain::Wrong
            }
        }
    }

    /// Goes on with what takes long, for [`GUESS_SLICE`] at most, and says what has come of it.
    pub fn turn(&mut self, now: Instant) -> Option<Judged> {
        if let Some(displaced) = self.displaced.take() {
            return Some(displaced);
        }
        let job = self.jobs.first_mut()?;
        let begun = (self.clock)();
        let mut steps = 0..STEPS;
        let is_right = loop {
            if let Some(is_right) = job.guess.go_on(STEP) {
                break is_right;
            }
            steps.next()?;
            if (self.clock)().saturating_duration_since(begun) >= GUESS_SLICE {
                return None;
            }
        };
        let job = self.jobs.remove(0);
        let right = job.user.filter(|_| is_right);
        let verdict = match right {
            Some(user) => {
                let mut users = self.users.iter_mut();
                if let Some(known) = users.find(|known| Rc::ptr_eq(&known.user, &user)) {
                    known.right = Some(job.digest);
                }
                self.note(job.place, None, now);
                Verdict::In(user)
            }
            None => {
                self.note(job.place, Some(job.digest), now);
                Verdict::Nobody
            }
        };
        Some(Judged {
            clients: job.clients,
            is_wrong: verdict == Verdict::Nobody,
            verdict,
        })
    }

    /// Whether [`Door::turn`] has something to do.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty() || self.displaced.is_some()
    }

    /// Whether nothing is looked at now, and for how many seconds; `Some(None)`: it is known to be wrong.
    fn waits(&mut self, place: Household, digest: Digest, now: Instant) -> Option<Option<u32>> {
        let entry = self.entries.iter_mut().find(|entry| entry.place == place)?;
        if now.saturating_duration_since(entry.last) >= FORGOTTEN {
            entry.wrong = 0;
        }
        let known = (entry.wrong as usize).min(WRONG_AT_ONCE);
        if entry.seen[..known].contains(&digest) {
            return Some(None);
        }
        let left = entry.until.saturating_duration_since(now);
        let seconds = u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        (seconds > 0).then_some(Some(seconds))
    }

    /// What has come of a guess from there: the wrong one, or a right one.
    fn note(&mut self, place: Household, wrong: Option<Digest>, now: Instant) {
        let found = self.entries.iter().position(|entry| entry.place == place);
        let index = found.unwrap_or_else(|| self.make_room(now));
        let fresh = Entry {
            place,
            wrong: 0,
            seen: [Digest::default(); WRONG_AT_ONCE],
            until: now,
            last: now,
            is_known: false,
        };
        if index == self.entries.len() {
            let added = self.entries.push(fresh);
            assert!(added.is_ok(), "room was made");
        }
        let entry = &mut self.entries[index];
        if entry.place != place {
            *entry = fresh;
        }
        entry.last = now;
        let Some(digest) = wrong else {
            entry.is_known = true;
            return;
        };
        entry.seen[entry.wrong as usize % WRONG_AT_ONCE] = digest;
        entry.wrong = entry.wrong.saturating_add(1);
        let beyond = (entry.wrong as usize).checked_sub(WRONG_AT_ONCE);
        if let Some(beyond) = beyond {
            let factor = 1_u32.checked_shl(beyond as u32).unwrap_or(u32::MAX);
            entry.until = now + WAIT_FIRST.saturating_mul(factor).min(WAIT_MAX);
        }
    }

    /// The place of an entry that can go: one that has not to wait, if there is one, then one where nobody has logged in,
    /// then that which was heard of least lately.
    fn make_room(&self, now: Instant) -> usize {
        if !self.entries.is_full() {
            return self.entries.len();
        }
        let entries = self.entries.iter().enumerate();
        let worth = |entry: &Entry| (entry.until > now, entry.is_known, entry.last);
        let least = entries.min_by_key(|(_, entry)| worth(entry));
        least.expect("it is full").0
    }

    fn is_known(&self, place: Household) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.place == place && entry.is_known)
    }

    fn line_up(&mut self, job: Job) -> Answer {
        const BUSY: Answer = Answer::Verdict(Verdict::Busy);
        let same = |other: &&mut Job| other.digest == job.digest && other.place == job.place;
        if let Some(same) = self.jobs.iter_mut().find(same) {
            return match same.clients.push(job.clients[0]) {
                Ok(()) => Answer::Later,
                Err(_) => BUSY,
            };
        }
        let of_place = self.jobs.iter().filter(|other| other.place == job.place);
        if of_place.count() >= GUESSES_OF_PLACE {
            return BUSY;
        }
        let is_known = self.is_known(job.place);
        if self.jobs.is_full() {
            let last = self.jobs.last().map(|last| last.place);
            let gives_way = last.is_some_and(|last| !self.is_known(last));
            if !is_known || !gives_way || self.displaced.is_some() {
                return BUSY;
            }
            self.displaced = self.jobs.pop().map(|job| Judged {
                clients: job.clients,
                verdict: Verdict::Busy,
                is_wrong: false,
            });
        }
        // The first one is begun.
        let at = if is_known {
            1.min(self.jobs.len())
        } else {
            self.jobs.len()
        };
        let queued = self.jobs.insert(at, job);
        assert!(queued.is_ok(), "room was made");
        Answer::Later
    }

    fn digest(&self, shown: Shown<'_>) -> Digest {
        let (kind, name, text) = match shown {
            Shown::Password { name, password } => (0, name, password),
            Shown::Token(token) => (1, "", token),
        };
        let length = (name.len() as u64).to_be_bytes();
        let mac = self.key.clone().chain_update([kind]).chain_update(length);
        let mac = mac.chain_update(name).chain_update(text);
        let bytes: [u8; 32] = mac.finalize().into_bytes().into();
        *bytes.first_chunk().expect("it is longer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use std::time::Duration;

    use crate::config::parse;

    /// A clock that stands still: a turn takes as many steps as there may be.
    fn still() -> Instant {
        use std::sync::LazyLock;
        static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);
        *NOW
    }

    /// The hash of "right" with so many iterations.
    fn hash(iterations: u32) -> String {
        use base64::Engine as _;
        let mut hash = [0; 32];
        let salt = b"0123456789abcdef";
        pbkdf2::pbkdf2_hmac::<Sha256>(b"right", salt, iterations, &mut hash);
        let encode = |bytes: &[u8]| {
            let mut room = [0; 64];
            let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
            let length = engine.encode_slice(bytes, &mut room).unwrap();
            String::from_utf8(room[..length].to_vec()).unwrap()
        };
        format!(
            "$pbkdf2-sha256$i={iterations},l=32${}${}",
            encode(salt),
            encode(&hash)
        )
    }

    fn config(users: &str) -> Config {
        parse(users, "t").unwrap()
    }

    fn with_hash(iterations: u32) -> Config {
        let hash = hash(iterations);
        config(&format!(
            "[[user]]\nname = \"anna\"\npassword_hash = \"{hash}\"\n"
        ))
    }

    fn plain() -> Config {
        config(
            "[[user]]\nname = \"anna\"\npassword = \"right\"\ntoken = \"0123456789abcdef\"\nmay = [\"control\"]\n",
        )
    }

    fn from(number: u32) -> Household {
        Household::of(Some(IpAddr::from(number.to_be_bytes())))
    }

    fn client(index: u16) -> ClientId {
        ClientId {
            index,
            generation: 1,
        }
    }

    fn password<'a>(name: &'a str, password: &'a str) -> Shown<'a> {
        Shown::Password { name, password }
    }

    fn is_in(answer: &Answer) -> bool {
        matches!(answer, Answer::Verdict(Verdict::In(user)) if user.name.as_str() == "anna")
    }

    const NOBODY: Answer = Answer::Verdict(Verdict::Nobody);

    #[test]
    fn passwords_and_tokens() {
        let mut door = Door::new(&plain(), still);
        let now = still();
        assert!(is_in(&door.ask(
            password("anna", "right"),
            from(1),
            client(0),
            now
        )));
        assert!(is_in(&door.ask(
            Shown::Token("0123456789abcdef"),
            from(1),
            client(0),
            now
        )));
        for (place, wrong) in [
            password("anna", "Right"),
            password("Anna", "right"),
            password("", ""),
            password("anna", ""),
            password("anna", "0123456789abcdef"),
            Shown::Token("0123456789abcdeF"),
            Shown::Token(""),
            Shown::Token("right"),
        ]
        .into_iter()
        .enumerate()
        {
            let answer = door.ask(wrong, from(100 + place as u32), client(0), now);
            assert_eq!(answer, NOBODY, "{wrong:?}");
        }
        assert!(!door.is_busy());
    }

    #[test]
    fn who_guesses_waits_and_others_do_not() {
        let mut door = Door::new(&plain(), still);
        let mut now = still();
        let mut number = 0;
        let mut guess = |door: &mut Door, now| {
            number += 1;
            door.ask(
                password("anna", &number.to_string()),
                from(1),
                client(0),
                now,
            )
        };
        for _ in 0..WRONG_AT_ONCE {
            assert_eq!(guess(&mut door, now), NOBODY);
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let later = Answer::Verdict(Verdict::Later(seconds));
            assert_eq!(guess(&mut door, now), later);
            // Nor the right one, which would be found out in this way.
            let right = password("anna", "right");
            assert_eq!(door.ask(right, from(1), client(0), now), later);
            assert!(is_in(&door.ask(right, from(2), client(0), now)));
            now += Duration::from_secs(seconds.into()) - Duration::from_millis(1);
            assert_eq!(guess(&mut door, now), Answer::Verdict(Verdict::Later(1)));
            now += Duration::from_millis(1);
            assert_eq!(guess(&mut door, now), NOBODY);
        }
        now += WAIT_MAX;
        assert!(is_in(&door.ask(
            password("anna", "right"),
            from(1),
            client(0),
            now
        )));
        now += FORGOTTEN;
        for _ in 0..WRONG_AT_ONCE {
            assert_eq!(guess(&mut door, now), NOBODY);
        }
        assert_eq!(guess(&mut door, now), Answer::Verdict(Verdict::Later(1)));
    }

    #[test]
    fn the_same_wrong_one_again_is_no_guess() {
        let mut door = Door::new(&plain(), still);
        let now = still();
        for _ in 0..100 {
            let answer = door.ask(password("anna", "old"), from(1), client(0), now);
            assert_eq!(answer, NOBODY);
        }
        assert!(is_in(&door.ask(
            password("anna", "right"),
            from(1),
            client(0),
            now
        )));
    }

    #[test]
    fn a_hash_takes_turns_and_is_known_afterwards() {
        let per_turn = STEP * (STEPS + 1);
        let mut door = Door::new(&with_hash(3 * per_turn), still);
        let now = still();
        let right = password("anna", "right");
        assert_eq!(door.ask(right, from(1), client(1), now), Answer::Later);
        // Another connection of the same browser.
        assert_eq!(door.ask(right, from(1), client(2), now), Answer::Later);
        assert_eq!(
            door.ask(password("anna", "wrong"), from(1), client(3), now),
            Answer::Later
        );
        for _ in 0..2 {
            assert!(door.turn(now).is_none());
        }
        let judged = door.turn(now).unwrap();
        assert_eq!(judged.clients[..], [client(1), client(2)]);
        assert!(is_in(&Answer::Verdict(judged.verdict)) && !judged.is_wrong);
        assert!(is_in(&door.ask(right, from(9), client(1), now)), "at once");
        let judged = (0..3).find_map(|_| door.turn(now)).unwrap();
        assert_eq!(judged.verdict, Verdict::Nobody);
        assert!(judged.is_wrong && !door.is_busy());
        // Who is nobody takes as long as who is somebody.
        assert_eq!(
            door.ask(password("nobody", "x"), from(2), client(1), now),
            Answer::Later
        );
        let turns = (1..).find(|_| door.turn(now).is_some()).unwrap();
        assert_eq!(turns, 3);
    }

    #[test]
    fn one_place_does_not_keep_others_waiting() {
        let mut door = Door::new(&with_hash(1000), still);
        let now = still();
        const BUSY: Answer = Answer::Verdict(Verdict::Busy);
        // Somebody who has logged in before, and whose password is another now.
        assert_eq!(
            door.ask(password("anna", "right"), from(7), client(0), now),
            Answer::Later
        );
        assert!(door.turn(now).is_some());
        for number in 0..10 {
            let text = number.to_string();
            let answer = door.ask(password("anna", &text), from(1), client(0), now);
            let has_room = number < GUESSES_OF_PLACE;
            assert_eq!(answer, if has_room { Answer::Later } else { BUSY });
        }
        for place in 100..100 + (GUESSES - GUESSES_OF_PLACE) as u32 {
            let shown = password("anna", "wrong");
            assert_eq!(door.ask(shown, from(place), client(1), now), Answer::Later);
        }
        assert_eq!(
            door.ask(password("anna", "x"), from(50), client(2), now),
            BUSY
        );
        // Who was let in once is looked at next, and the last in the queue gives way.
        assert_eq!(
            door.ask(password("anna", "x"), from(7), client(3), now),
            Answer::Later
        );
        let gone = door.turn(now).unwrap();
        assert_eq!(
            (gone.verdict, &gone.clients[..]),
            (Verdict::Busy, &[client(1)][..])
        );
        assert!(!gone.is_wrong);
        assert_eq!(door.turn(now).unwrap().clients[..], [client(0)]);
        assert_eq!(door.turn(now).unwrap().clients[..], [client(3)]);
    }

    #[test]
    fn a_place_that_waits_is_not_forgotten_for_others() {
        let mut door = Door::new(&plain(), still);
        let now = still();
        for number in 0..=WRONG_AT_ONCE as u32 {
            door.ask(
                password("anna", &number.to_string()),
                from(0),
                client(0),
                now,
            );
        }
        for place in 1..=4 * GUESSERS_KNOWN as u32 {
            door.ask(password("anna", "x"), from(place), client(0), now);
        }
        let answer = door.ask(password("anna", "y"), from(0), client(0), now);
        assert_eq!(answer, Answer::Verdict(Verdict::Later(1)));
        assert_eq!(door.entries.len(), GUESSERS_KNOWN);
    }

    #[test]
    fn who_is_a_user_no_more_is_known_no_more() {
        let mut door = Door::new(&with_hash(1000), still);
        let now = still();
        let right = password("anna", "right");
        assert_eq!(door.ask(right, from(1), client(0), now), Answer::Later);
        let Verdict::In(anna) = door.turn(now).unwrap().verdict else {
            panic!("not let in")
        };
        door.reconfigure(&with_hash(1000));
        assert!(door.has(&anna), "nothing has changed");
        assert!(is_in(&door.ask(right, from(1), client(0), now)));
        door.reconfigure(&with_hash(1001));
        assert!(!door.has(&anna));
        assert_eq!(door.ask(right, from(1), client(0), now), Answer::Later);
        // While it is being looked at, the user goes.
        door.reconfigure(&config(""));
        assert_eq!(door.turn(now).unwrap().verdict, Verdict::Nobody);
    }
}
