//! A connection, over TCP or TLS, with a read buffer and one deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use super::error::FetchError;
use crate::limits::LINGER_CLOSE;
use crate::protocol::http::answer::Chunks;
use crate::tls::client::Client;

/// Bytes asked of the kernel at once.
const READ: usize = 64 * 1024;

/// Invariant: `buffer[start..]` is what was received and not yet consumed.
pub(super) struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    timeout: Duration,
    deadline: Instant,
    /// What comes is in chunks (HTTP).
    chunks: Option<Chunks>,
    /// What came first: where it is not the protocol that was expected, it may tell which one it is.
    first: heapless::Vec<u8, FIRST>,
}

/// Enough for a status line.
const FIRST: usize = 64;

impl Wire {
    /// Tries the host's addresses one after the other, all within `timeout`. `tls`: whom to trust, if it is to be TLS.
    pub(super) fn connect(
        (host, port): (&str, u16),
        tls: Option<&Client>,
        timeout: Duration,
    ) -> Result<Wire, FetchError> {
        let failed = |error: &dyn std::fmt::Display| {
            FetchError::Connection(format!("{host} port {port}: {error}"))
        };
        let addresses = (host, port)
            .to_socket_addrs()
            .map_err(|error| failed(&error))?;
        let deadline = Instant::now() + timeout;
        let mut last = failed(&"the name has no address");
        for address in addresses {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(&address, left) {
                Ok(stream) => {
                    // pull waits for each of our three-byte answers: Nagle's algorithm would add a delayed ACK to
                    // every part.
                    stream.set_nodelay(true).map_err(|error| failed(&error))?;
                    let stream = match tls {
                        None => Stream::Plain(stream),
                        Some(client) => secure(stream, client, host, deadline)
                            .map_err(|error| failed(&error))?,
                    };
                    return Ok(Wire {
                        stream,
                        buffer: Vec::new(),
                        start: 0,
                        timeout,
                        deadline,
                        chunks: None,
                        first: heapless::Vec::new(),
                    });
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    last = failed(&format!("no connection within {timeout:?}"));
                }
                Err(error) => last = failed(&error),
            }
        }
        Err(last)
    }

    /// From now on the full time again.
    pub(super) fn restart_timeout(&mut self) {
        self.deadline = Instant::now() + self.timeout;
    }

    /// What has been received and not yet consumed.
    pub(super) fn received(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// # Panics
    /// If less than `n` bytes have been received.
    pub(super) fn consume(&mut self, n: usize) {
        assert!(
            n <= self.received().len(),
            "{n} bytes consumed of {} received",
            self.received().len()
        );
        self.start += n;
    }

    /// What was received and is not consumed, and all that comes from now on, is a body in chunks, which is taken apart here.
    pub(super) fn unchunk(&mut self) -> Result<(), FetchError> {
        let mut chunks = Chunks::default();
        let body = chunks.decode(&mut self.buffer[self.start..]);
        self.buffer.truncate(self.start + body?);
        self.chunks = Some(chunks);
        Ok(())
    }

    /// Waits for more bytes; how many came, 0 at the end of the connection, or of a body in chunks.
    pub(super) fn fill(&mut self) -> Result<usize, FetchError> {
        if self.chunks.is_none() {
            return self.fill_raw();
        }
        loop {
            if self.chunks.is_some_and(|chunks| chunks.is_over()) {
                return Ok(0);
            }
            let got = self.fill_raw()?;
            let had = self.buffer.len() - got;
            let chunks = self.chunks.as_mut().expect("it was just seen");
            if got == 0 {
                return Err(FetchError::Protocol(
                    "the server closed the connection within its answer (chunked)".to_owned(),
                ));
            }
            let body = chunks.decode(&mut self.buffer[had..])?;
            self.buffer.truncate(had + body);
            if body > 0 {
                return Ok(body);
            }
        }
    }

    fn fill_raw(&mut self) -> Result<usize, FetchError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let had = self.buffer.len();
        self.buffer.resize(had + READ, 0);
        let result = read(
            &mut self.stream,
            &mut self.buffer[had..],
            self.deadline,
            self.timeout,
        );
        self.buffer
            .truncate(had + result.as_ref().copied().unwrap_or(0));
        let room = FIRST - self.first.len();
        let new = &self.buffer[had..];
        let _ = self.first.extend_from_slice(&new[..new.len().min(room)]);
        result
    }

    /// The first bytes of all that came.
    pub(super) fn first(&self) -> &[u8] {
        &self.first
    }

    /// As [`Wire::fill`]; the end of the connection is an error that names what was cut off.
    pub(super) fn fill_some(&mut self, what: &str) -> Result<(), FetchError> {
        match self.fill()? {
            0 => Err(ended(what)),
            _ => Ok(()),
        }
    }

    /// Appends the next `n` bytes to `out`; `n` has been checked against a limit. The end of the connection is an
    /// error that names what was cut off.
    pub(super) fn read_exactly(
        &mut self,
        n: usize,
        out: &mut Vec<u8>,
        what: &str,
    ) -> Result<(), FetchError> {
        while self.chunks.is_some() && self.received().len() < n {
            self.fill_some(what)?;
        }
        let buffered = n.min(self.received().len());
        out.extend_from_slice(&self.received()[..buffered]);
        self.consume(buffered);
        let mut filled = out.len();
        out.resize(filled + n - buffered, 0);
        while filled < out.len() {
            match read(
                &mut self.stream,
                &mut out[filled..],
                self.deadline,
                self.timeout,
            )? {
                0 => return Err(ended(what)),
                got => filled += got,
            }
        }
        Ok(())
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        let left = remaining(self.deadline, self.timeout)?;
        self.stream
            .tcp()
            .set_write_timeout(Some(left))
            .and_then(|()| self.stream.write_all(bytes))
            .and_then(|()| self.stream.flush())
            .map_err(|error| lost(&error, self.timeout))
    }

    /// Sends the last words, and gives the server a moment to take them and to close: a socket that is closed with
    /// input unread resets the connection, and what was sent may be lost with it (RFC 2525, 2.17).
    pub(super) fn finish(&mut self, bytes: &[u8]) {
        self.deadline = Instant::now() + LINGER_CLOSE;
        let sent = self.send(bytes).is_ok() && self.stream.shut().is_ok();
        if sent {
            self.consume(self.received().len());
            while let Ok(1..) = self.fill() {
                self.consume(self.received().len());
            }
        }
    }
}

/// A handshake, within the time that there is for connecting.
fn secure(
    mut tcp: TcpStream,
    client: &Client,
    host: &str,
    deadline: Instant,
) -> Result<Stream, String> {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = left.max(Duration::from_millis(1));
    let limited = tcp.set_read_timeout(Some(left));
    let limited = limited.and_then(|()| tcp.set_write_timeout(Some(left)));
    limited.map_err(|error| error.to_string())?;
    let connection = client.shake_hands(&mut tcp, host, deadline)?;
    Ok(Stream::Tls(Box::new(StreamOwned::new(connection, tcp))))
}

/// What is below.
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    /// Tells the server that there will be nothing more.
    fn shut(&mut self) -> io::Result<()> {
        if let Stream::Tls(tls) = self {
            tls.conn.send_close_notify();
            tls.flush()?;
        }
        self.tcp().shutdown(Shutdown::Write)
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.read(buf),
            Stream::Tls(tls) => tls.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.write(buf),
            Stream::Tls(tls) => tls.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(tcp) => tcp.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

fn read(
    stream: &mut Stream,
    into: &mut [u8],
    deadline: Instant,
    timeout: Duration,
) -> Result<usize, FetchError> {
    loop {
        let left = remaining(deadline, timeout)?;
        match stream
            .tcp()
            .set_read_timeout(Some(left))
            .and_then(|()| stream.read(into))
        {
            Ok(got) => return Ok(got),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(lost(&error, timeout)),
        }
    }
}

/// The time left, never zero: a socket timeout of zero means "for ever".
pub(super) fn remaining(deadline: Instant, timeout: Duration) -> Result<Duration, FetchError> {
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err(too_late(timeout)),
    }
}

fn lost(error: &std::io::Error, timeout: Duration) -> FetchError {
    match error.kind() {
        // Linux reports a socket timeout as EAGAIN.
        ErrorKind::WouldBlock | ErrorKind::TimedOut => too_late(timeout),
        // What rustls says of that is a paragraph.
        ErrorKind::UnexpectedEof => FetchError::Connection(
            "the connection broke: it ended without the word that ends one of TLS (close_notify)"
                .to_owned(),
        ),
        _ => FetchError::Connection(format!("the connection broke: {error}")),
    }
}

pub(super) fn too_late(timeout: Duration) -> FetchError {
    FetchError::NoPicture(format!("no picture within {timeout:?}"))
}

fn ended(what: &str) -> FetchError {
    FetchError::Connection(format!("the server closed the connection {what}"))
}
