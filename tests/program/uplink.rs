//! A camd whose camera is a user of somebody else's relay.

use std::collections::BTreeMap;

use crate::common::relay::{Caller, Relay, USER};
use crate::common::{Camd, assert_jpeg, pattern};
use camd::limits::RECORD;
use camd::protocol::call::{Kind, Longest, Record};

const LONGEST: Longest = Longest {
    picture: RECORD,
    control: RECORD,
};

fn config(relay: &str, keys: &str) -> String {
    // Off when nobody watches.
    let camera = pattern().replace("linger_s = 0", "linger_s = 0.1");
    format!("{camera}[[listener]]\nprotocol = \"call\"\nbind = \"relay:{relay}\"\n{keys}\n")
}

fn log_in(relay: &Relay, password: &str) -> Caller {
    let mut box_ = relay.accept();
    box_.expect(USER, "", password, Kind::Login);
    box_
}

/// The next record that is no picture. Pictures are checked, and counted for each receiver.
fn next(box_: &mut Caller, pictures: &mut BTreeMap<String, u32>) -> (String, Kind, String) {
    loop {
        let bytes = box_.next("a record");
        let record = Record::parse(&bytes, LONGEST).unwrap().unwrap();
        assert_eq!(record.sender().unwrap().as_str(), USER);
        let receiver = record.receiver().unwrap().as_str().to_owned();
        if record.kind != Kind::VideoData {
            return (receiver, record.kind, record.reason());
        }
        check(&record);
        *pictures.entry(receiver).or_default() += 1;
    }
}

fn check(record: &Record<'_>) {
    let (mut scratch, mut jpeg) = (vec![0; RECORD], vec![0; RECORD]);
    let len = record.picture(&mut scratch, &mut jpeg).expect("Base64");
    assert_jpeg(&jpeg[..len]);
}

/// Pictures until everybody here has had one more.
fn all_see(box_: &mut Caller, names: &[&str]) {
    let mut missing: Vec<&str> = names.to_vec();
    while !missing.is_empty() {
        let bytes = box_.next("a picture");
        let record = Record::parse(&bytes, LONGEST).unwrap().unwrap();
        assert_eq!(record.kind, Kind::VideoData);
        check(&record);
        let receiver = record.receiver().unwrap();
        assert!(names.contains(&receiver.as_str()), "{receiver} has hung up");
        missing.retain(|name| *name != receiver.as_str());
    }
}

#[test]
fn who_rings_it_up_there_sees_the_camera() {
    let relay = Relay::new();
    let keys = format!("user = {USER:?}\npassword = \"geheim\"\ncalls = 2\nfps = 30");
    let camd = Camd::start(&config(&relay.address().to_string(), &keys));
    let mut box_ = log_in(&relay, "geheim");
    box_.send("", "", Kind::LoginOk);
    camd.wait_state("nobody watches", |state| state["camera"]["state"] == "idle");

    let mut pictures = BTreeMap::new();
    let accept = |name: &str| (name.to_owned(), Kind::Accept, String::new());
    box_.send("alice", "", Kind::Request);
    assert_eq!(next(&mut box_, &mut pictures), accept("alice"));
    assert!(pictures.is_empty());
    all_see(&mut box_, &["alice"]);
    box_.send("bob", "", Kind::Request);
    assert_eq!(next(&mut box_, &mut pictures), accept("bob"));
    all_see(&mut box_, &["alice", "bob"]);
    all_see(&mut box_, &["alice", "bob"]);
    box_.send("eve", "", Kind::Request);
    let busy = ("eve".to_owned(), Kind::Reject, "in too many calls".into());
    assert_eq!(next(&mut box_, &mut pictures), busy);
    // Again, by one who is in a call, and things that mean nothing to a camera.
    box_.send("alice", "hello", Kind::Other(10));
    box_.send("alice", "AAAA", Kind::VideoData);
    box_.send("alice", "", Kind::Request);
    assert_eq!(next(&mut box_, &mut pictures), accept("alice"));
    let state = camd.state();
    let client = state["clients"]
        .as_array()
        .and_then(|clients| clients.iter().find(|client| client["protocol"] == "call"))
        .expect("the connection to the relay");
    assert_eq!(client["user"], USER);

    box_.send("alice", "", Kind::End);
    // To see that this has come: the answer to what was sent behind it.
    box_.send("eve", "", Kind::Request);
    assert_eq!(next(&mut box_, &mut pictures), accept("eve"));
    all_see(&mut box_, &["bob", "eve"]);
    all_see(&mut box_, &["bob", "eve"]);
    box_.send("bob", "", Kind::Unavailable);
    box_.send("eve", "", Kind::Reject);
    camd.wait_state("all have hung up", |state| {
        state["camera"]["state"] == "idle"
    });
    box_.send("alice", "", Kind::Request);
    assert_eq!(next(&mut box_, &mut pictures), accept("alice"));
    all_see(&mut box_, &["alice"]);
}

#[test]
fn it_comes_again_and_says_once_why_it_has_to() {
    let relay = Relay::new();
    let address = format!("localhost:{}", relay.address().port());
    let mut camd = Camd::start(&config(&address, &format!("user = {USER:?}")));
    for _ in 0..2 {
        let mut box_ = log_in(&relay, "");
        box_.send("", "this name is in use", Kind::LoginRefused);
        box_.expect_close();
    }
    let mut box_ = log_in(&relay, "");
    box_.send("", "", Kind::LoginOk);
    camd.wait_log("the login", |log| log.contains("logged in as hall"));
    let told = camd
        .log()
        .matches("login refused: this name is in use")
        .count();
    assert_eq!(told, 1, "{}", camd.log());
    // Nonsense costs the connection, and no more.
    box_.send("", "x", Kind::Request);
    box_.expect_close();
    let mut box_ = log_in(&relay, "");
    box_.send("", "", Kind::LoginOk);
    let address = relay.address();
    drop((box_, relay));
    camd.wait_log("the relay is away", |log| {
        log.contains("Connection refused")
    });
    let relay = Relay::at(address);
    let mut box_ = log_in(&relay, "");
    box_.send("", "", Kind::LoginOk);
    box_.send("alice", "", Kind::Request);
    box_.expect(USER, "alice", "", Kind::Accept);
    all_see(&mut box_, &["alice"]);
}

/// Two boxes and a relay: each box has a camera there, and shows the other's.
#[test]
fn two_boxes_behind_one_relay() {
    let relay = Camd::start(
        "[camera]\nsource = \"pattern\"\n[[listener]]\nprotocol = \"call\"\nbind = \"127.0.0.1:0\"\npassword = \"pw\"\n\
         [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n",
    );
    let (_, address) = &relay.listeners[0];
    let boxes = [("hall", "garden"), ("garden", "hall")].map(|(own, other)| {
        let keys = format!("user = {own:?}\npassword = \"pw\"");
        let camera = Camd::start(&config(address, &keys));
        let viewer = Camd::start(&format!(
            "[camera]\nsource = \"call\"\n[call]\ndial = \"{other}@{address}\"\nuser = \"{own} viewer\"\n\
             password = \"pw\"\n[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n"
        ));
        (camera, viewer)
    });
    for (_, viewer) in &boxes {
        viewer.wait_state("the other's picture", |_| {
            let snapshot = viewer.get("/snapshot");
            if snapshot.status == 200 {
                assert_jpeg(&snapshot.body);
            }
            snapshot.status == 200
        });
    }
    let state = relay.wait_state("both calls", |state| {
        state["calls"]
            .as_array()
            .is_some_and(|calls| calls.len() == 2)
    });
    let users: Vec<_> = state["clients"]
        .as_array()
        .expect("clients")
        .iter()
        .filter_map(|client| client["user"].as_str())
        .collect();
    assert_eq!(users.len(), 4, "{users:?}");
    // Nobody watches any more.
    relay.wait_state("they hang up", |state| {
        state["calls"].as_array().is_some_and(Vec::is_empty)
    });
}
