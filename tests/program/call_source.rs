//! A camd that rings somebody up at a relay and shows what it sends.

use std::thread;

use crate::common::relay::{CALLEE, Relay, USER};
use crate::common::{Camd, Folder, LISTENERS, PATIENCE, Stream, jpeg};
use camd::protocol::call::Kind;
use nix::sys::signal::Signal;

fn start(relay: &Relay, linger: u32) -> Camd {
    Camd::start(&format!("{}{LISTENERS}", relay.camera("127.0.0.1", linger)))
}

#[test]
fn it_rings_for_the_first_viewer_and_hangs_up_after_the_last_one() {
    let relay = Relay::new();
    let camd = start(&relay, 1);
    // Nobody watches: nobody is rung up.
    assert_eq!(camd.state()["camera"]["state"], "idle");
    for round in 0..3 {
        let mut viewer = None;
        let picture = jpeg(round, 20_000);
        // Its head comes with the first picture.
        thread::scope(|scope| {
            let opening = scope.spawn(|| Stream::open(camd.http(), "/stream"));
            let mut caller = relay.answer();
            caller.picture(&picture);
            let mut stream = opening.join().expect("a stream");
            assert!(stream.next().jpeg == picture, "byte for byte");
            viewer = Some((stream, caller));
        });
        let (mut stream, mut caller) = viewer.expect("it was opened");
        let state = camd.condition("live");
        assert_eq!(state["camera"]["source"], "call");
        let snapshot = camd.get("/snapshot");
        assert_eq!(snapshot.status, 200);
        assert!(snapshot.body == picture, "byte for byte");
        let next = jpeg(100 + round, 60_000);
        caller.picture(&next);
        assert!(stream.next().jpeg == next, "byte for byte");
        drop(stream);
        // A viewer who is gone is told from one who only has nothing more to say by writing to it.
        for _ in 0..3 {
            caller.picture(&next);
        }
        caller.expect_end();
        camd.condition("idle");
    }
}

#[test]
fn a_snapshot_alone_rings_too() {
    let relay = Relay::new();
    let camd = start(&relay, 1);
    let picture = jpeg(1, 10_000);
    thread::scope(|scope| {
        let snapshot = scope.spawn(|| camd.get("/snapshot"));
        let mut caller = relay.answer();
        caller.picture(&picture);
        let snapshot = snapshot.join().expect("an answer");
        assert_eq!(snapshot.status, 200);
        assert!(snapshot.body == picture, "byte for byte");
        caller.expect_end();
    });
}

#[test]
fn a_name_is_looked_up_and_the_password_read_from_its_file() {
    let relay = Relay::new();
    let folder = Folder::new();
    let file = folder.file("password", "pässword\n");
    let camera = relay.camera("localhost", 0);
    let _camd = Camd::start(&format!("{camera}password_file = {file:?}\n{LISTENERS}"));
    let mut caller = relay.accept();
    caller.expect(USER, "", "pässword", Kind::Login);
    caller.ring();
}

#[test]
fn viewers_see_why_there_is_no_picture_and_it_rings_again() {
    let relay = Relay::new();
    let mut camd = start(&relay, 0);
    let mut caller = relay.accept();
    caller.expect(USER, "", "", Kind::Login);
    caller.ring();
    caller.send(CALLEE, "", Kind::Unavailable);
    caller.expect_close();
    let state = camd.condition("fault");
    let port = relay.address().port();
    let reason = format!("{CALLEE}@127.0.0.1:{port} (call.dial) is not logged in");
    assert_eq!(state["camera"]["reason"], *reason);
    let mut stream = Stream::open(camd.http(), "/stream");
    let card = stream.next().jpeg;

    let mut caller = relay.answer();
    let picture = jpeg(1, 10_000);
    caller.picture(&picture);
    loop {
        let part = stream.next().jpeg;
        if part != card {
            assert!(part == picture, "byte for byte");
            break;
        }
    }
    // The relay is gone in the middle of a call, and comes back.
    drop(caller);
    let mut caller = relay.answer();
    camd.wait_log("the fault", |log| log.contains("has ended the connection"));
    caller.picture(&picture);
    camd.condition("live");
    // Told to end, it hangs up.
    camd.signal(Signal::SIGTERM);
    caller.expect_end();
    assert!(camd.wait(PATIENCE).success());
}

#[test]
fn a_reload_rings_anew_only_if_the_call_is_another() {
    let relay = Relay::new();
    let mut camd = start(&relay, 0);
    let mut caller = relay.answer();
    caller.picture(&jpeg(1, 10_000));
    camd.condition("live");

    let config = std::fs::read_to_string(camd.config_path()).expect("the configuration");
    let reload = |camd: &mut Camd, config: &str, times: usize| {
        std::fs::write(camd.config_path(), config).expect("the configuration");
        camd.signal(Signal::SIGHUP);
        camd.wait_log("the reload", |log| {
            log.matches(": read again").count() == times
        });
    };
    let renamed = config.replace("[camera]", "[camera]\nname = \"other\"");
    reload(&mut camd, &renamed, 1);
    let next = jpeg(2, 10_000);
    caller.picture(&next);
    camd.wait_state("the same call", |_| camd.get("/snapshot").body == next);

    let other = renamed.replace(USER, "kitchen");
    reload(&mut camd, &other, 2);
    caller.expect_end();
    let mut caller = relay.accept();
    caller.expect("kitchen", "", "", Kind::Login);
}
