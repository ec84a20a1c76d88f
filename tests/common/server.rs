//! Cameras that are other servers: one that does as the test says, and programs that end with it.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;

use super::PATIENCE;

/// A server that does as the test says.
pub struct Server {
    pub listener: TcpListener,
    pub address: SocketAddr,
}

impl Server {
    pub fn new() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        Server { listener, address }
    }

    /// camd's connection, of which nothing is read yet.
    pub fn connection(&self) -> TcpStream {
        let (stream, _) = self.listener.accept().expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("SO_RCVTIMEO");
        stream
    }
}

/// camd has left the connection, and has said nothing more.
pub fn expect_close(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty(), "{rest:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// A program that is ended with the test.
pub struct Program {
    pub child: Child,
    pub port: u16,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
