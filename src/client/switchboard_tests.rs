//! Every outcome of the table in the module's documentation, and that nothing is left behind.

use super::*;
use crate::config;

const ALICE: Client = 1;
const BOB: Client = 2;
const EVE: Client = 3;
/// On the other listener.
const OTHER: Client = 4;

struct Bench {
    board: Switchboard,
    now: Instant,
}

/// Who is told what by whom, or gets the camera's pictures.
fn text(effect: &Effect<'_>) -> String {
    match effect {
        Effect::Tell {
            to, sender, kind, ..
        } => format!("{to}: {kind:?} of {sender}"),
        Effect::Watch { client, on } => format!("{client}: watches {on}"),
    }
}

fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

impl Bench {
    fn new() -> Self {
        let text = "[[listener]]\nprotocol = \"call\"\nbind = \"[::1]:1\"\ncalls = 2\n\
                    [[listener]]\nprotocol = \"call\"\nbind = \"[::1]:2\"\nuser = \"door\"";
        let users = "\n[[user]]\nname = \"Zora\"\npassword = \"p\"\n";
        let config = config::parse(&(text.to_owned() + users), "test").unwrap();
        let mut board = Switchboard::new(&config.listeners, &config.users);
        for (listener, client, who) in [
            (0, ALICE, "alice"),
            (0, BOB, "bob"),
            (0, EVE, "eve"),
            (1, OTHER, "alice"),
        ] {
            board.log_in(listener, client, &name(who), false).unwrap();
        }
        let now = Instant::now();
        Bench { board, now }
    }

    /// A record's way, and all that happens.
    fn says(&mut self, client: Client, receiver: &str, kind: Kind) -> (Option<Client>, String) {
        let mut effects = Vec::new();
        let effect = |effect: Effect<'_>| effects.push(text(&effect));
        let route = self
            .board
            .route(client, &name(receiver), kind, self.now, effect);
        let to = match route {
            Route::Forward(to) => Some(to),
            Route::Nowhere => None,
        };
        (to, effects.join("; "))
    }

    fn forwards(&mut self, client: Client, receiver: &str, kind: Kind, to: Client) {
        let expected = (Some(to), String::new());
        assert_eq!(self.says(client, receiver, kind), expected, "{kind:?}");
    }

    fn happens(&mut self, client: Client, receiver: &str, kind: Kind, what: &str) {
        let expected = (None, what.to_owned());
        assert_eq!(self.says(client, receiver, kind), expected, "{kind:?}");
    }

    fn call(&mut self) {
        self.forwards(ALICE, "bob", Kind::Request, BOB);
        self.forwards(BOB, "alice", Kind::Accept, ALICE);
    }

    fn leaves(&mut self, client: Client) -> String {
        let mut effects = Vec::new();
        self.board
            .leave(client, |effect| effects.push(text(&effect)));
        effects.join("; ")
    }

    fn expire(&mut self) -> String {
        let mut effects = Vec::new();
        self.board
            .expire(self.now, |effect| effects.push(text(&effect)));
        effects.join("; ")
    }

    fn calls(&self) -> usize {
        self.board.calls().len()
    }
}

#[test]
fn names_are_taken_once_on_each_listener() {
    let mut bench = Bench::new();
    let board = &mut bench.board;
    assert_eq!(
        board.log_in(0, 9, &name("alice"), false),
        Err(Taken::By(ALICE))
    );
    assert_eq!(
        board.log_in(0, 9, &name("camera"), false),
        Err(Taken::ByCamera)
    );
    assert_eq!(
        board.log_in(1, 9, &name("door"), false),
        Err(Taken::ByCamera)
    );
    assert_eq!(board.log_in(1, 9, &name("camera"), false), Ok(()));
    assert_eq!(board.log_in(1, 10, &name("bob"), false), Ok(()));
    assert_eq!(bench.leaves(ALICE), "");
    assert_eq!(bench.board.log_in(0, 11, &name("alice"), false), Ok(()));
    assert_eq!(bench.board.name(11), Some(&name("alice")));
    assert_eq!(bench.board.name(ALICE), None);
}

#[test]
fn a_call() {
    let mut bench = Bench::new();
    bench.forwards(ALICE, "bob", Kind::Request, BOB);
    bench.forwards(ALICE, "bob", Kind::Request, BOB);
    bench.happens(ALICE, "bob", Kind::Accept, "");
    assert_eq!(bench.calls(), 1);
    bench.forwards(BOB, "alice", Kind::Accept, ALICE);
    assert_eq!(bench.board.calls()[0].ringing, None);
    bench.happens(BOB, "alice", Kind::Accept, "");
    bench.happens(ALICE, "bob", Kind::Request, "1: Accept of bob");
    bench.happens(BOB, "alice", Kind::Request, "2: Accept of alice");
    assert_eq!(bench.calls(), 1);
    bench.forwards(BOB, "alice", Kind::End, ALICE);
    assert_eq!(bench.calls(), 0);
    // Crossed on the wire.
    bench.happens(ALICE, "bob", Kind::End, "");
    bench.happens(BOB, "alice", Kind::Accept, "2: End of alice");
}

#[test]
fn who_does_not_want_or_gives_up() {
    for (client, receiver, kind, to) in [
        (BOB, "alice", Kind::Reject, ALICE),
        (BOB, "alice", Kind::End, ALICE),
        (ALICE, "bob", Kind::End, BOB),
    ] {
        let mut bench = Bench::new();
        bench.forwards(ALICE, "bob", Kind::Request, BOB);
        bench.forwards(client, receiver, kind, to);
        assert_eq!((bench.calls(), bench.board.deadline()), (0, None));
        bench.happens(BOB, "alice", Kind::Accept, "2: End of alice");
    }
}

#[test]
fn both_ring_each_other() {
    let mut bench = Bench::new();
    bench.forwards(ALICE, "bob", Kind::Request, BOB);
    let both = "2: Accept of alice; 1: Accept of bob";
    bench.happens(BOB, "alice", Kind::Request, both);
    assert_eq!((bench.calls(), bench.board.deadline()), (1, None));
    bench.happens(BOB, "alice", Kind::Accept, "");
}

#[test]
fn nobody_answers() {
    let mut bench = Bench::new();
    bench.forwards(ALICE, "bob", Kind::Request, BOB);
    assert_eq!(bench.board.deadline(), Some(bench.now + RINGING));
    bench.now += RINGING / 2;
    bench.forwards(EVE, "bob", Kind::Request, BOB);
    // To ring again is no new ring.
    bench.forwards(ALICE, "bob", Kind::Request, BOB);
    assert_eq!(bench.expire(), "");
    bench.now += RINGING / 2;
    assert_eq!(bench.expire(), "1: End of bob; 2: End of alice");
    assert_eq!(bench.board.deadline(), Some(bench.now + RINGING / 2));
    assert_eq!(bench.calls(), 1);
    // A call has no end but its own.
    bench.forwards(BOB, "eve", Kind::Accept, EVE);
    bench.now += 100 * RINGING;
    assert_eq!((bench.expire().as_str(), bench.calls()), ("", 1));
}

#[test]
fn who_is_not_there() {
    let mut bench = Bench::new();
    bench.happens(ALICE, "zoe", Kind::Request, "1: Unavailable of zoe");
    bench.happens(ALICE, "zoe", Kind::Other(10), "1: Unavailable of zoe");
    bench.happens(ALICE, "zoe", Kind::Accept, "1: End of zoe");
    bench.happens(ALICE, "zoe", Kind::End, "");
    bench.happens(ALICE, "zoe", Kind::Reject, "");
    // Another listener's users are as if they were not.
    bench.happens(OTHER, "bob", Kind::Request, "4: Unavailable of bob");
    bench.happens(OTHER, "camera", Kind::Request, "4: Unavailable of camera");
    assert_eq!(bench.board.picture(ALICE, &name("zoe")), None);
}

#[test]
fn oneself() {
    let mut bench = Bench::new();
    bench.happens(ALICE, "alice", Kind::Request, "1: Reject of alice");
    bench.forwards(ALICE, "alice", Kind::Other(10), ALICE);
    assert_eq!(bench.board.picture(ALICE, &name("alice")), None);
    assert_eq!(bench.calls(), 0);
}

#[test]
fn who_leaves_ends_what_he_was_in() {
    let mut bench = Bench::new();
    bench.call();
    bench.forwards(EVE, "bob", Kind::Request, BOB);
    bench.happens(
        BOB,
        "camera",
        Kind::Request,
        "2: Accept of camera; 2: watches true",
    );
    let mut told = bench.leaves(BOB);
    if told.starts_with('3') {
        told = told
            .split("; ")
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join("; ");
    }
    assert_eq!(told, "1: End of bob; 3: End of bob");
    assert_eq!((bench.calls(), bench.board.deadline()), (0, None));
    assert_eq!(bench.leaves(BOB), "", "he is gone");
}

#[test]
fn the_camera_answers_as_often_as_it_may() {
    let mut bench = Bench::new();
    let answers = |client| format!("{client}: Accept of camera; {client}: watches true");
    bench.happens(ALICE, "camera", Kind::Request, &answers(ALICE));
    bench.happens(ALICE, "camera", Kind::Request, "1: Accept of camera");
    bench.happens(BOB, "camera", Kind::Request, &answers(BOB));
    bench.happens(EVE, "camera", Kind::Request, "3: Reject of camera");
    bench.happens(
        OTHER,
        "door",
        Kind::Request,
        "4: Accept of door; 4: watches true",
    );
    bench.happens(BOB, "camera", Kind::End, "2: watches false");
    bench.happens(BOB, "camera", Kind::End, "");
    bench.happens(EVE, "camera", Kind::Request, &answers(EVE));
    assert_eq!(bench.leaves(EVE), "");
    bench.happens(BOB, "camera", Kind::Request, &answers(BOB));
    for kind in [Kind::Accept, Kind::Other(10), Kind::VideoData] {
        bench.happens(ALICE, "camera", kind, "");
    }
    assert_eq!(bench.calls(), 3);
}

#[test]
fn nobody_takes_all_calls() {
    let mut bench = Bench::new();
    for client in 10..20 {
        bench
            .board
            .log_in(0, client, &name(&format!("user {client}")), false)
            .unwrap();
    }
    for client in 10..10 + CALLS_PLACED as Client {
        bench.forwards(ALICE, &format!("user {client}"), Kind::Request, client);
    }
    bench.happens(ALICE, "bob", Kind::Request, "1: Reject of bob");
    bench.happens(ALICE, "camera", Kind::Request, "1: Reject of camera");
    // Others may ring her up.
    bench.forwards(BOB, "alice", Kind::Request, ALICE);
    bench.forwards(ALICE, "user 10", Kind::End, 10);
    bench.happens(
        ALICE,
        "camera",
        Kind::Request,
        "1: Accept of camera; 1: watches true",
    );
}

#[test]
fn pictures_go_to_whom_one_is_in_a_call_with() {
    let mut bench = Bench::new();
    let picture = |bench: &Bench, from, to: &str| bench.board.picture(from, &name(to));
    assert_eq!(picture(&bench, EVE, "bob"), None);
    bench.forwards(ALICE, "bob", Kind::Request, BOB);
    assert_eq!(picture(&bench, ALICE, "bob"), None, "it rings");
    assert_eq!(picture(&bench, EVE, "bob"), None);
    bench.forwards(BOB, "alice", Kind::Accept, ALICE);
    assert_eq!(picture(&bench, EVE, "bob"), None);
    assert_eq!(picture(&bench, ALICE, "bob"), Some(BOB));
    assert_eq!(picture(&bench, BOB, "alice"), Some(ALICE));
    assert_eq!(picture(&bench, BOB, "eve"), None);
    // Nor does she hang up for them.
    bench.happens(EVE, "bob", Kind::End, "");
    bench.happens(EVE, "bob", Kind::Reject, "");
    assert_eq!(bench.calls(), 1);
    assert_eq!(picture(&bench, BOB, "alice"), Some(ALICE));
    bench.forwards(BOB, "alice", Kind::End, ALICE);
    assert_eq!(picture(&bench, BOB, "alice"), None);
}

#[test]
fn names_that_look_like_others() {
    let mut bench = Bench::new();
    let board = &mut bench.board;
    for (who, taken) in [
        ("c\u{430}mera", Taken::ByCamera),
        ("CAMERA", Taken::ByCamera),
        ("B\u{43e}b", Taken::By(BOB)),
        ("zora", Taken::ByUser),
        ("Zor\u{430}", Taken::ByUser),
    ] {
        assert_eq!(board.log_in(0, 9, &name(who), false), Err(taken), "{who}");
    }
    assert_eq!(board.log_in(0, 9, &name("Zora"), true), Ok(()));
    assert_eq!(
        board.log_in(1, 10, &name("B\u{43e}b"), false),
        Ok(()),
        "another relay"
    );
    assert_eq!(bench.leaves(BOB), "");
    assert_eq!(bench.board.log_in(0, 11, &name("B\u{43e}b"), false), Ok(()));
    assert_eq!(
        bench.board.log_in(0, 12, &name("bob"), false),
        Err(Taken::By(11))
    );
}

#[test]
fn who_rings_too_often_is_told() {
    let mut bench = Bench::new();
    for _ in 0..RINGS {
        bench.forwards(ALICE, "bob", Kind::Request, BOB);
        bench.forwards(ALICE, "bob", Kind::End, BOB);
    }
    bench.happens(ALICE, "bob", Kind::Request, "1: Reject of bob");
    bench.forwards(EVE, "bob", Kind::Request, BOB);
    bench.now += RING_EVERY;
    bench.forwards(ALICE, "bob", Kind::Request, BOB);
    // While it rings, no more is heard of it.
    bench.happens(ALICE, "bob", Kind::Request, "");
    // So many ring for one at the same time.
    for client in 20..20 + RINGS_AT as Client - 2 {
        let who = name(&format!("user {client}"));
        bench.board.log_in(0, client, &who, false).unwrap();
        bench.forwards(client, "bob", Kind::Request, BOB);
    }
    bench.board.log_in(0, 30, &name("user 30"), false).unwrap();
    bench.happens(30, "bob", Kind::Request, "30: Reject of bob");
    bench.forwards(BOB, "eve", Kind::Reject, EVE);
    bench.forwards(30, "bob", Kind::Request, BOB);
}
