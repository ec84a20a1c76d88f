//! A relay of calls that does as the test says, for a camd that rings somebody up there.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use camd::protocol::Head;
use camd::protocol::call::{self, Kind, Longest, Name, Record};

use super::{PATIENCE, assert_closed, send};

/// Whom camd rings up, and what it calls itself.
pub const CALLEE: &str = "camera";
pub const USER: &str = "hall";

pub struct Relay {
    listener: TcpListener,
}

impl Relay {
    pub fn new() -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Relay { listener }
    }

    /// In the place of one that is gone.
    pub fn at(address: SocketAddr) -> Relay {
        let listener = TcpListener::bind(address).expect("its address is free again");
        Relay { listener }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// The sections of a camd whose camera is at the other end of a call.
    pub fn camera(&self, host: &str, linger: u32) -> String {
        let port = self.address().port();
        format!(
            "[camera]\nsource = \"call\"\nwidth = 64\nheight = 48\nfps = 240\nlinger_s = {linger}\n\
             [call]\ndial = \"{CALLEE}@{host}:{port}\"\nuser = \"{USER}\"\n"
        )
    }

    /// The next connection.
    pub fn accept(&self) -> Caller {
        let (stream, _) = self.listener.accept().expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("SO_RCVTIMEO");
        Caller {
            stream,
            input: Vec::new(),
        }
    }

    /// The next connection, logged in, and its call accepted.
    pub fn answer(&self) -> Caller {
        let mut caller = self.accept();
        caller.expect(USER, "", "", Kind::Login);
        caller.ring();
        caller.accept();
        caller
    }
}

/// camd, seen from the relay.
pub struct Caller {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Caller {
    pub fn send(&mut self, sender: &str, content: &str, kind: Kind) {
        let mut out = Vec::new();
        call::write(&mut out, sender, USER, content, kind);
        send(&mut self.stream, out);
    }

    /// The login is good, and there is a call.
    pub fn ring(&mut self) {
        self.send("", "", Kind::LoginOk);
        self.expect(USER, CALLEE, "", Kind::Request);
    }

    pub fn accept(&mut self) {
        self.send(CALLEE, "", Kind::Accept);
    }

    /// At a camera's pace: what comes too early is left out.
    pub fn picture(&mut self, jpeg: &[u8]) {
        thread::sleep(Duration::from_millis(20));
        let mut content = vec![0; call::content_len(jpeg.len())];
        call::write_content(jpeg, &mut content).expect("room for it");
        let [sender, receiver] = [CALLEE, USER].map(|name| Name::new(name).expect("a name"));
        let mut head = Head::new();
        call::picture_head(&mut head, &sender, &receiver, content.len());
        let record = [&head[..], &content, call::VIDEO_DATA_TYPE].concat();
        send(&mut self.stream, record);
    }

    /// The next record is this one, byte for byte.
    pub fn expect(&mut self, sender: &str, receiver: &str, content: &str, kind: Kind) {
        let mut wanted = Vec::new();
        call::write(&mut wanted, sender, receiver, content, kind);
        let got = self.next(&format!("{kind:?}"));
        assert_eq!(
            String::from_utf8_lossy(&got),
            String::from_utf8_lossy(&wanted)
        );
        assert_eq!(got, wanted);
    }

    /// The bytes of the next record, which should be `wanted`.
    pub fn next(&mut self, wanted: &str) -> Vec<u8> {
        let longest = Longest {
            picture: 1 << 20,
            control: 1 << 20,
        };
        let got = loop {
            if let Some(record) = Record::parse(&self.input, longest).expect("records") {
                break record.bytes.len();
            }
            let mut chunk = [0; 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("the end of the connection in place of {wanted}"),
                Ok(n) => self.input.extend(&chunk[..n]),
                Err(error) => panic!("{error} in place of {wanted}"),
            }
        };
        self.input.drain(..got).collect()
    }

    /// camd hangs up and closes the connection.
    pub fn expect_end(mut self) {
        self.expect(USER, CALLEE, "", Kind::End);
        self.expect_close();
    }

    /// camd closes the connection without another word.
    pub fn expect_close(mut self) {
        assert!(self.input.is_empty());
        assert_closed(&mut self.stream);
    }
}
