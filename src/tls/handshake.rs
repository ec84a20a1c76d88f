//! The server's half of a handshake, record by record, over a stream that never waits.
//!
//! It reads no byte beyond the record that it is at: what comes behind the client's last word is for the kernel, if that is
//! to decrypt, which takes over between two records only.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

/// Type, version, length (RFC 8446, 5.1).
const HEADER: usize = 5;
/// What a record may have behind that: RFC 5246, 6.2.3.
const RECORD: usize = (1 << 14) + 2048;
/// Records of the client's in one handshake. It needs three or four; some chop its first word up, on purpose or by the size
/// of their segments.
const RECORDS: u8 = 32;
/// The first record's type: handshake.
const HANDSHAKE: u8 = 22;

/// A handshake.
pub struct Handshake {
    /// `None`: it is somewhere else, with a record.
    connection: Option<Box<ServerConnection>>,
    /// The record that is coming in.
    record: Vec<u8>,
    /// Records before it.
    records: u8,
}

/// Where a handshake stands.
#[derive(Debug)]
pub enum Step {
    /// It waits for the client.
    Waits,
    /// A whole record is there, and is to be reckoned with: [`Handshake::take`] it.
    Reckons,
    /// It is done, and everything that it had to say is sent.
    Done,
    /// The client has begun to speak something else: with these bytes.
    NoTls([u8; HEADER]),
}

impl Handshake {
    /// One that waits for the client's first word.
    pub fn new(config: &Arc<ServerConfig>) -> Result<Handshake, rustls::Error> {
        Ok(Handshake {
            connection: Some(Box::new(ServerConnection::new(config.clone())?)),
            record: Vec::new(),
            records: 0,
        })
    }

    /// Goes on as far as the stream allows.
    pub fn advance(&mut self, stream: &mut (impl Read + Write)) -> io::Result<Step> {
        let Some(connection) = &mut self.connection else {
            return Ok(Step::Waits);
        };
        while connection.wants_write() {
            match connection.write_tls(stream) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Step::Waits),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if !connection.is_handshaking() {
            return Ok(Step::Done);
        }
        if !self.fill(stream, HEADER)? {
            return Ok(Step::Waits);
        }
        let header: [u8; HEADER] = self.record[..HEADER].try_into().expect("it is so long");
        if self.records == 0 && (header[0] != HANDSHAKE || header[1] != 3) {
            return Ok(Step::NoTls(header));
        }
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length > RECORD {
            return Err(ErrorKind::InvalidData.into());
        }
        if !self.fill(stream, HEADER + length)? {
            return Ok(Step::Waits);
        }
        self.records += 1;
        if self.records > RECORDS {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(Step::Reckons)
    }

    /// Reads until the record has so many bytes. False: there are no more now.
    fn fill(&mut self, stream: &mut impl Read, length: usize) -> io::Result<bool> {
        while self.record.len() < length {
            let have = self.record.len();
            self.record.resize(length, 0);
            let read = stream.read(&mut self.record[have..]);
            self.record.truncate(have + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// The connection and the record that it is to take in, after [`Step::Reckons`].
    pub fn take(&mut self) -> Option<(Box<ServerConnection>, Vec<u8>)> {
        Some((self.connection.take()?, std::mem::take(&mut self.record)))
    }

    /// The connection is back.
    pub fn put(&mut self, connection: Box<ServerConnection>) {
        self.connection = Some(connection);
    }

    /// The connection, after [`Step::Done`].
    pub fn finish(self) -> Option<Box<ServerConnection>> {
        self.connection
    }
}
