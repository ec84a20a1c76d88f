//! A scripted server that a source is connected to, over a socket of this process.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use camd::picture::jpeg;
use camd::source::Source;
use socket2::SockRef;

use crate::{Cuts, Input, start};

/// Where sources connect to. One for all inputs.
pub enum Server {
    /// On this machine's loopback.
    Tcp(TcpListener),
    /// A file.
    Unix(UnixListener, PathBuf),
}

/// A connection.
pub enum Peer {
    /// See [`Server::Tcp`].
    Tcp(TcpStream),
    /// See [`Server::Unix`].
    Unix(UnixStream),
}

impl Server {
    /// On any free port.
    pub fn tcp() -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        Server::Tcp(listener)
    }

    /// In a folder for what goes away.
    pub fn unix() -> Server {
        let path = std::env::temp_dir().join(format!("camd-fuzz-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a path");
        listener.set_nonblocking(true).expect("a socket");
        Server::Unix(listener, path)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        match self {
            Server::Tcp(listener) => listener.local_addr().expect("it is bound").port(),
            Server::Unix(..) => 0,
        }
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        match self {
            Server::Tcp(_) => PathBuf::new(),
            Server::Unix(_, path) => path.clone(),
        }
    }

    fn accept(&self) -> Option<Peer> {
        match self {
            Server::Tcp(listener) => {
                let (stream, _) = listener.accept().ok()?;
                // Who closes resets: ports come back at once.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                stream.set_nonblocking(true).expect("a socket");
                Some(Peer::Tcp(stream))
            }
            Server::Unix(listener, _) => {
                let (stream, _) = listener.accept().ok()?;
                stream.set_nonblocking(true).expect("a socket");
                Some(Peer::Unix(stream))
            }
        }
    }
}

impl Peer {
    fn write(&mut self, bytes: &[u8]) -> bool {
        match self {
            Peer::Tcp(stream) => stream.write(bytes).is_ok_and(|n| n == bytes.len()),
            Peer::Unix(stream) => stream.write(bytes).is_ok_and(|n| n == bytes.len()),
        }
    }

    /// Takes what the source has said. False: it has gone.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            let read = match self {
                Peer::Tcp(stream) => stream.read(&mut bytes),
                Peer::Unix(stream) => stream.read(&mut bytes),
            };
            match read {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }
}

/// Lets a source start, and a server say `input` to it: cut as its first byte has it, on up to eight connections, with time
/// between as its second byte has it. What the source shows must be a whole picture each time.
pub fn serve(source: &mut impl Source, server: &Server, input: &mut Input<'_>) {
    let [seed, pace] = [input.byte(), input.byte()];
    let mut now = start();
    if source.start(now).is_err() {
        return;
    }
    let (mut left, mut cuts) = (input.0, Cuts::new(seed));
    let mut connections = 0;
    let mut peer = None;
    let mut idle = 0;
    while idle < 8 {
        if let Some(new) = server.accept() {
            connections += 1;
            idle = 0;
            if connections > 8 {
                break;
            }
            peer = Some(new);
        }
        idle += 1;
        if let Some(open) = &mut peer {
            let piece = if open.read() {
                cuts.next(&mut left)
            } else {
                &[]
            };
            if !piece.is_empty() {
                idle = 0;
            }
            // It closes behind its last word, or waits for the source to do that.
            if !open.write(piece) || left.is_empty() && pace & 1 != 0 {
                peer = None;
            }
        }
        if !look(source, now) {
            break;
        }
        now += Duration::from_millis(u64::from(pace >> 1) * 4);
    }
    // Silence.
    for _ in 0..3 {
        now += Duration::from_secs(10);
        if !look(source, now) {
            break;
        }
    }
    source.stop();
    assert!(source.newest().is_none(), "it is off");
    drop(peer);
    while server.accept().is_some() {}
}

/// One look as the event loop has it. False: a fault.
fn look(source: &mut impl Source, now: Instant) -> bool {
    let mut again = 0;
    loop {
        let captured = match source.capture(now) {
            Ok(captured) => captured,
            Err(fault) => {
                assert!(!fault.0.is_empty());
                assert!(
                    !fault.0.contains(|c: char| c.is_control()),
                    "a fault is one line: {:?}",
                    fault.0
                );
                return false;
            }
        };
        if captured.fresh {
            let frame = source.newest().expect("there is a fresh one");
            let camd::picture::frame::Picture::Jpeg(bytes) = frame.picture else {
                unreachable!("servers send JPEGs")
            };
            let found = jpeg::inspect(bytes).expect("a good JPEG");
            assert_eq!(found.range(), 0..bytes.len(), "from end to end");
            let size = (frame.meta.width, frame.meta.height);
            assert_eq!((found.width, found.height), size);
        }
        // It has more to do at once.
        if source.deadline().is_none_or(|at| at > now) {
            return true;
        }
        again += 1;
        assert!(
            again < 10_000,
            "a server keeps the loop turning without end"
        );
    }
}
