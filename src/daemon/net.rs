//! Listening sockets and connections, TCP and Unix alike.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{SockRef, Socket, TcpKeepalive};

use crate::client::link::Stream;
use crate::client::slot::Peer;
use crate::config::Bind;
use crate::limits::{NOTSENT_LOWAT, PROBES, SEGMENT};
use crate::source::dial::{Transport, keep_alive};
use crate::system::tcp;
use crate::system::unix_socket::remove_stale;
use crate::tls::stream::TlsStream;

/// A listening socket.
#[derive(Debug)]
pub enum Acceptor {
    /// For any host.
    Tcp(TcpListener),
    /// With the path to remove at the end, if camd made it.
    Unix(UnixListener, Option<PathBuf>),
}

impl Acceptor {
    /// Binds. The address is that of the configuration, but for port 0, which the system replaces.
    pub fn bind(bind: &Bind) -> io::Result<Self> {
        match bind {
            // std's and mio's listeners set SO_REUSEADDR: a restart need not wait for old connections' TIME_WAIT.
            Bind::Tcp(address) => Ok(Acceptor::tcp(TcpListener::bind(*address)?)),
            Bind::Relay(_) => unreachable!("camd does not listen there"),
            Bind::Unix(path) => {
                remove_stale(path)?;
                Ok(Acceptor::Unix(
                    UnixListener::bind(path)?,
                    Some(path.clone()),
                ))
            }
        }
    }

    fn tcp(listener: TcpListener) -> Self {
        // Connections inherit it, and it counts from the handshake on.
        if let Err(error) = SockRef::from(&listener).set_tcp_mss(SEGMENT) {
            log::debug!("TCP_MAXSEG: {error}");
        }
        Acceptor::Tcp(listener)
    }

    /// Takes over a listening socket that the supervisor opened (systemd's socket activation), and says where it
    /// listens.
    ///
    /// # Safety
    /// `fd` must be an open descriptor that belongs to nobody else in this process.
    pub unsafe fn from_fd(fd: RawFd) -> io::Result<(Self, Bind)> {
        // SAFETY: the caller's promise.
        let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(fd) });
        if !socket.is_listener()? {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "is not a listening stream socket",
            ));
        }
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        if let Some(inet) = address.as_socket() {
            let listener = TcpListener::from_std(socket.into());
            return Ok((Acceptor::tcp(listener), Bind::Tcp(inet)));
        }
        match address.as_pathname() {
            Some(path) => {
                let bind = Bind::Unix(path.to_owned());
                let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(
                    OwnedFd::from(socket),
                ));
                Ok((Acceptor::Unix(listener, None), bind))
            }
            None => Err(io::Error::new(
                ErrorKind::InvalidInput,
                "is neither TCP nor a Unix socket with a path",
            )),
        }
    }

    /// Where it listens, for the log.
    pub fn address(&self) -> String {
        match self {
            Acceptor::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|e| e.to_string(), |a| a.to_string()),
            Acceptor::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|a| a.as_pathname());
                path.map_or_else(
                    || "unix:?".to_owned(),
                    |path| format!("unix:{}", path.display()),
                )
            }
        }
    }

    /// Has the poll tell of connections.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Acceptor::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            Acceptor::Unix(listener, _) => listener.register(registry, token, Interest::READABLE),
        }
    }

    /// The next connection, ready to be used, and its address.
    pub fn accept(&self) -> io::Result<(Connection, Peer)> {
        let mut peer = Peer::new();
        let connection = match self {
            Acceptor::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                prepare(&stream);
                // An IPv4 client of an IPv6 socket is known by its IPv4 address. Cut if too long: it is for people.
                let _ = write!(peer, "{}:{}", address.ip().to_canonical(), address.port());
                Connection::Tcp(stream)
            }
            Acceptor::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                let _ = peer.push_str("unix");
                Connection::Unix(stream)
            }
        };
        Ok((connection, peer))
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let Acceptor::Unix(_, Some(path)) = self {
            // Gone already, or not ours to remove any more: the next start deals with both.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Sets what a connection that carries pictures needs. A failure costs quality, not the connection.
fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    // The last bytes of a picture must not wait for an acknowledgement (Nagle).
    let nodelay = socket.set_tcp_nodelay(true);
    let lowat = socket.set_tcp_notsent_lowat(NOTSENT_LOWAT);
    let keepalive = keep_alive(socket);
    for (option, result) in [
        ("TCP_NODELAY", nodelay),
        ("TCP_NOTSENT_LOWAT", lowat),
        ("SO_KEEPALIVE", keepalive),
    ] {
        if let Err(error) = result {
            log::debug!("{option}: {error}");
        }
    }
}

/// A client's connection.
pub enum Connection {
    /// From any host.
    Tcp(TcpStream),
    /// The same, after a handshake.
    Tls(Box<TlsStream>),
    /// From this machine.
    Unix(UnixStream),
}

impl Connection {
    /// One that camd has made.
    pub fn of(transport: Transport) -> Self {
        match transport {
            Transport::Plain(socket) => {
                let stream = TcpStream::from_std(socket.into());
                prepare(&stream);
                Connection::Tcp(stream)
            }
            Transport::Tls(stream) => {
                prepare(stream.socket());
                Connection::Tls(stream)
            }
        }
    }

    /// Who is at the other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self.tcp() {
            Some(stream) => stream.peer_addr(),
            None => Err(ErrorKind::AddrNotAvailable.into()),
        }
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Connection::Tcp(stream) => Some(stream),
            Connection::Tls(stream) => Some(stream.socket()),
            Connection::Unix(_) => None,
        }
    }

    /// Once, for both directions: slots keep what the events said, so the interest never changes.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Connection::Tcp(stream) => stream.register(registry, token, interest),
            // Those that came were there for their handshakes.
            Connection::Tls(stream) => {
                let socket = stream.socket_mut();
                match socket.register(registry, token, interest) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        socket.reregister(registry, token, interest)
                    }
                    registered => registered,
                }
            }
            Connection::Unix(stream) => stream.register(registry, token, interest),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Tcp(stream) => stream.read(buf),
            Connection::Tls(stream) => stream.read(buf),
            Connection::Unix(stream) => stream.read(buf),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Connection::Tcp(stream) => stream.write_vectored(bufs),
            Connection::Tls(stream) => stream.write_vectored(bufs),
            Connection::Unix(stream) => stream.write_vectored(bufs),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Connection::Tls(stream) => stream.flush(),
            Connection::Tcp(_) | Connection::Unix(_) => Ok(()),
        }
    }
}

impl Stream for Connection {
    fn drained(&mut self) -> io::Result<bool> {
        match self {
            Connection::Tcp(stream) => tcp::drained(stream),
            Connection::Tls(stream) => Ok(!stream.holds() && tcp::drained(stream.socket())?),
            // What a Unix socket takes is with the peer.
            Connection::Unix(_) => Ok(true),
        }
    }

    fn holds(&self) -> bool {
        matches!(self, Connection::Tls(stream) if stream.holds())
    }

    fn gave_way(&self) -> bool {
        matches!(self, Connection::Tls(stream) if stream.gave_way())
    }

    fn encryption(&self) -> Option<&'static str> {
        match self {
            Connection::Tls(stream) => Some(stream.name()),
            Connection::Tcp(_) | Connection::Unix(_) => None,
        }
    }

    fn probe(&mut self) {
        let Some(stream) = self.tcp() else {
            // The kernel tells at once when the process at the other end is gone.
            return;
        };
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(1))
            .with_interval(Duration::from_secs(1))
            .with_retries(PROBES);
        if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&keepalive) {
            log::debug!("SO_KEEPALIVE: {error}");
        }
    }

    /// By a reset, so that the kernel frees at once what it holds: its own tries to deliver that would go on for minutes.
    fn abandon(&mut self) {
        if let Some(stream) = self.tcp()
            && let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO))
        {
            log::debug!("SO_LINGER: {error}");
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Connection::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Connection::Tls(stream) => stream.shut(),
            Connection::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}
