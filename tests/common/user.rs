//! Somebody who uses camd's call listener.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use camd::protocol::call::{self, Kind, Longest, Record};

use super::{connect, send};

/// The section of a listener for calls; more of its keys may follow.
pub const CALLS: &str = "\n[[listener]]\nprotocol = \"call\"\nbind = \"127.0.0.1:0\"\n";

pub struct User {
    stream: TcpStream,
    input: Vec<u8>,
    name: &'static str,
}

impl User {
    /// Connected, and not logged in.
    pub fn new(address: SocketAddr, name: &'static str) -> User {
        User {
            stream: connect(address),
            input: Vec::new(),
            name,
        }
    }

    /// Logs in.
    pub fn log_in(address: SocketAddr, name: &'static str) -> User {
        let mut user = User::new(address, name);
        user.say("", "", Kind::Login);
        user.expect("", "", Kind::LoginOk);
        user
    }

    /// In a call with the camera.
    pub fn ring_camera(&mut self) {
        self.say("camera", "", Kind::Request);
        self.expect("camera", "", Kind::Accept);
    }

    pub fn say(&mut self, to: &str, content: &str, kind: Kind) {
        let mut record = Vec::new();
        call::write(&mut record, self.name, to, content, kind);
        send(&mut self.stream, record);
    }

    /// The next record, if it is one from `sender` and of this kind.
    pub fn next<T>(&mut self, sender: &str, kind: Kind, see: impl FnOnce(&Record<'_>) -> T) -> T {
        let longest = Longest {
            picture: 1 << 20,
            control: 1 << 20,
        };
        while let Ok(None) = Record::parse(&self.input, longest) {
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("the end of the connection in place of {kind:?}"),
                Ok(n) => self.input.extend(&chunk[..n]),
                Err(error) => panic!("{error} in place of {kind:?}"),
            }
        }
        let record = Record::parse(&self.input, longest).expect("a record");
        let record = record.expect("all of it has been read");
        assert_eq!(record.kind, kind, "{}", record.reason());
        let mut names = Vec::new();
        call::write(&mut names, sender, self.name, "", kind);
        let names = &names[..names.len() - 8];
        assert!(record.bytes.starts_with(names), "{:?}", record.bytes);
        let seen = see(&record);
        let used = record.bytes.len();
        self.input.drain(..used);
        seen
    }

    pub fn expect(&mut self, sender: &str, content: &str, kind: Kind) {
        let mut wanted = Vec::new();
        call::write(&mut wanted, sender, self.name, content, kind);
        self.next(sender, kind, |record| assert_eq!(record.bytes, wanted));
    }

    /// The JPEG in the camera's next picture.
    pub fn picture(&mut self) -> Vec<u8> {
        let [mut text, mut jpeg] = [(); 2].map(|()| vec![0; 1 << 18]);
        let len = self.next("camera", Kind::VideoData, |record| {
            record.picture(&mut text, &mut jpeg)
        });
        jpeg.truncate(len.expect("Base64"));
        jpeg
    }
}
