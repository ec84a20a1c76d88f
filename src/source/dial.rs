//! Connections from a source to a server, over TCP, TLS or a Unix socket, which the event loop never waits for.

use std::fmt;
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};
use std::vec;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive};

use super::interface::Fault;
use crate::config::{Address, Remote};
use crate::limits::{
    ADDRESSES, CONNECT_WAIT, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, LOOKUP_WAIT,
};
use crate::system::broker;
use crate::tls::client::{Client, Trust};
use crate::tls::kernel::Kernel;
use crate::tls::stream::TlsStream;

const LOOKUP: Token = Token(0);
const SOCKET: Token = Token(1);

/// Reads of a TLS connection that bring nothing, one after the other: each turns to the socket several times.
const EMPTY_READS: usize = 32;

const NO_ADDRESS: &str = "it has no address";

/// A peer that lost its power says nothing: without probes an idle connection to it would stay for ever.
pub fn keep_alive(socket: SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Looks up a server's name, connects to its addresses, one after the other until one answers, and then has the
/// connection.
///
/// All of that is behind one descriptor, an epoll set: it turns readable for an answer of the resolver, for a connection
/// that is made or failed, and for data in either direction, and it stays the same from `start` to `stop`.
pub struct Dialer {
    server: Address,
    /// Where the configuration has `server`, for the faults.
    key: &'static str,
    /// One at a time. It outlives `stop`, as nothing can end it, and the next `start` takes it over.
    lookup: Option<Lookup>,
    /// Over TLS, with whom to trust.
    trust: Option<Trust>,
    /// What a handshake has left for the next one.
    client: Option<Client>,
    opening: Option<Opening>,
}

struct Opening {
    poll: Poll,
    events: Events,
    step: Step,
    /// When `step` has taken too long, if it is no connection yet.
    until: Instant,
}

enum Step {
    LookingUp,
    Connecting {
        socket: Socket,
        to: SockAddr,
        others: vec::IntoIter<SockAddr>,
    },
    /// Over TLS.
    ShakingHands {
        thread: Thread<Shaken>,
        to: SockAddr,
        others: vec::IntoIter<SockAddr>,
    },
    Connected(Link),
    /// There was a connection to this address.
    HungUp(SockAddr),
}

impl Dialer {
    /// One that connects to this server; errors name `key` of the configuration. Begins nothing.
    pub fn new(server: impl Into<Address>, key: &'static str) -> Dialer {
        Dialer {
            server: server.into(),
            key,
            lookup: None,
            trust: None,
            client: None,
            opening: None,
        }
    }

    /// The same over TLS, with whom to trust; `None`: without.
    pub fn over_tls(mut self, trust: Option<Trust>) -> Dialer {
        self.trust = trust;
        self
    }

    fn fault(&self, what: impl fmt::Display) -> Fault {
        Fault(format!("{} ({}): {what}", self.server, self.key))
    }

    /// The address that the configuration has; `None`: a name, which has to be looked up.
    fn known(&self) -> Option<io::Result<SockAddr>> {
        match &self.server {
            Address::Unix(path) => Some(SockAddr::unix(path)),
            Address::Tcp(Remote { host, port }) => {
                let ip = host.parse::<IpAddr>().ok()?;
                Some(Ok(SocketAddr::new(ip, *port).into()))
            }
        }
    }

    /// With the address, where it is not the one that the configuration has.
    fn at(&self, to: &SockAddr, what: impl fmt::Display) -> String {
        match (self.known(), to.as_socket()) {
            (None, Some(to)) => format!("{to}: {what}"),
            _ => what.to_string(),
        }
    }

    /// Begins. What is quick to fail fails here.
    pub fn start(&mut self, now: Instant) -> Result<(), Fault> {
        self.stop();
        let opening = match self.known() {
            Some(Ok(address)) => self.open(vec![address], now),
            Some(Err(error)) => Err(self.fault(error)),
            None => self.look_up(now).map_err(|error| self.fault(error)),
        };
        self.opening = Some(opening?);
        Ok(())
    }

    fn open(&self, addresses: Vec<SockAddr>, now: Instant) -> Result<Opening, Fault> {
        let poll = Poll::new().map_err(|error| self.fault(error))?;
        let step = self.connect(&poll, addresses.into_iter(), NO_ADDRESS.into())?;
        Ok(Opening::new(poll, step, now + CONNECT_WAIT))
    }

    fn look_up(&mut self, now: Instant) -> io::Result<Opening> {
        let poll = Poll::new()?;
        // An answer that nobody took may be old.
        self.lookup
            .take_if(|lookup| !matches!(lookup.answer.try_recv(), Err(TryRecvError::Empty)));
        let lookup = match self.lookup.take() {
            Some(lookup) => lookup,
            None => match &self.server {
                Address::Tcp(remote) => look_up(remote.clone())?,
                Address::Unix(_) => unreachable!("a path is an address"),
            },
        };
        let fd = lookup.done.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), LOOKUP, Interest::READABLE)?;
        self.lookup = Some(lookup);
        Ok(Opening::new(poll, Step::LookingUp, now + LOOKUP_WAIT))
    }

    /// Closes the connection, or gives up making one.
    pub fn stop(&mut self) {
        self.opening = None;
    }

    /// What to poll (readable, edge-triggered), from `start` to `stop`.
    pub fn fd(&self) -> Option<RawFd> {
        Some(self.opening.as_ref()?.poll.as_raw_fd())
    }

    /// When to call [`Dialer::run`] without an event. `None` once there is a connection.
    pub fn deadline(&self) -> Option<Instant> {
        let opening = self.opening.as_ref()?;
        match opening.step {
            Step::Connected(_) | Step::HungUp(_) => None,
            _ => Some(opening.until),
        }
    }

    /// Takes in what happened, and goes on. Gives the connection as soon as there is one.
    pub fn run(&mut self, now: Instant) -> Result<Option<&mut Link>, Fault> {
        let Some(mut opening) = self.opening.take() else {
            return Ok(None);
        };
        opening.poll().map_err(|error| self.fault(error))?;
        loop {
            let late = opening.until <= now;
            let (step, moved) = self.advance(&opening.poll, opening.step, late)?;
            opening.step = step;
            if !moved {
                break;
            }
            opening.until = now + CONNECT_WAIT;
        }
        let opening = self.opening.insert(opening);
        Ok(match &mut opening.step {
            Step::Connected(link) => Some(link),
            _ => None,
        })
    }

    /// The connection as it was left.
    pub fn link(&mut self) -> Option<&mut Link> {
        match &mut self.opening.as_mut()?.step {
            Step::Connected(link) => Some(link),
            _ => None,
        }
    }

    /// Closes the connection, if there is one, so that [`Dialer::again`] can make another.
    pub(super) fn hang_up(&mut self) {
        if let Some(opening) = &mut self.opening
            && let Step::Connected(link) = &opening.step
        {
            opening.step = Step::HungUp(link.to.clone());
        }
    }

    /// Connects once more to the address that there is or was a connection to, or to another port of it, in place of that
    /// connection. Looks nothing up and takes no memory, as some servers want a connection for each picture. The descriptor
    /// stays.
    pub(super) fn again(&mut self, port: Option<u16>, now: Instant) -> Result<(), Fault> {
        self.hang_up();
        let Some(mut opening) = self.opening.take() else {
            return Ok(());
        };
        if let Step::HungUp(to) = opening.step {
            let elsewhere = port.and_then(|port| {
                let mut to = to.as_socket()?;
                to.set_port(port);
                Some(SockAddr::from(to))
            });
            let to = elsewhere.unwrap_or(to);
            let socket = begin(&opening.poll, &to).map_err(|error| self.fault(error))?;
            let others = Vec::new().into_iter();
            opening.step = Step::Connecting { socket, to, others };
            opening.until = now + CONNECT_WAIT;
        }
        self.opening = Some(opening);
        Ok(())
    }

    /// The connection, for good, if there is one: it is nobody's to poll then. Only for servers of TCP.
    pub fn take(&mut self) -> Option<Transport> {
        let Opening { poll, step, .. } = self
            .opening
            .take_if(|opening| matches!(opening.step, Step::Connected(_)))?;
        let Step::Connected(Link { transport, .. }) = step else {
            unreachable!("it was just seen")
        };
        poll.registry()
            .deregister(&mut SourceFd(&transport.fd()))
            .expect("it was registered there");
        Some(transport)
    }

    /// The step that follows, or the same, and whether it is another.
    fn advance(&mut self, poll: &Poll, step: Step, late: bool) -> Result<(Step, bool), Fault> {
        match step {
            Step::LookingUp => match self.answer() {
                None if late => Err(self.fault("looking up its name takes too long")),
                None => Ok((step, false)),
                Some(answer) => {
                    self.lookup = None;
                    let addresses = answer.map_err(|error| self.fault(error))?;
                    let addresses: Vec<_> = addresses.into_iter().map(SockAddr::from).collect();
                    let step = self.connect(poll, addresses.into_iter(), NO_ADDRESS.into())?;
                    Ok((step, true))
                }
            },
            Step::Connecting { socket, to, others } => {
                let why = match outcome(&socket) {
                    Ok(true) if self.trust.is_some() => {
                        let thread = self.shake_hands(poll, socket);
                        let thread = thread.map_err(|error| self.fault(error))?;
                        return Ok((Step::ShakingHands { thread, to, others }, true));
                    }
                    Ok(true) => {
                        let transport = Transport::Plain(socket);
                        return Ok((Step::Connected(Link::new(transport, to)), true));
                    }
                    Ok(false) if !late => {
                        return Ok((Step::Connecting { socket, to, others }, false));
                    }
                    Ok(false) => self.at(&to, "no answer"),
                    Err(error) => self.at(&to, error),
                };
                Ok((self.connect(poll, others, why)?, true))
            }
            Step::ShakingHands { thread, to, others } => {
                let why = match thread.answer() {
                    // It has a deadline of its own, which is this one.
                    None if late => "TLS: the server takes too long to answer".to_owned(),
                    None => return Ok((Step::ShakingHands { thread, to, others }, false)),
                    Some(Ok((stream, client))) => {
                        self.client = Some(client);
                        let fd = stream.socket().as_raw_fd();
                        let interest = Interest::READABLE | Interest::WRITABLE;
                        poll.registry()
                            .register(&mut SourceFd(&fd), SOCKET, interest)
                            .map_err(|error| self.fault(error))?;
                        let transport = Transport::Tls(Box::new(stream));
                        return Ok((Step::Connected(Link::new(transport, to)), true));
                    }
                    Some(Err(error)) => error,
                };
                let why = self.at(&to, why);
                Ok((self.connect(poll, others, why)?, true))
            }
            Step::Connected(_) | Step::HungUp(_) => Ok((step, false)),
        }
    }

    /// On a thread, as to look at a certificate can take longer than the loop may wait, and so can the system's list of
    /// issuers.
    fn shake_hands(&mut self, poll: &Poll, socket: Socket) -> io::Result<Thread<Shaken>> {
        let registry = poll.registry();
        registry.deregister(&mut SourceFd(&socket.as_raw_fd()))?;
        let trust = self.trust.unwrap_or(Trust::System);
        let known = self.client.take();
        let host = match &self.server {
            Address::Tcp(remote) => remote.host.clone(),
            Address::Unix(path) => path.display().to_string(),
        };
        let thread = Thread::start("handshake", move || {
            let client = known.map_or_else(|| Client::new(trust), Ok)?;
            let mut stream = std::net::TcpStream::from(socket);
            let deadline = Instant::now() + CONNECT_WAIT;
            let connection = client.shake_hands(&mut stream, &host, deadline)?;
            let stream = TcpStream::from_std(stream);
            let stream = TlsStream::new(stream, connection, &Kernel::NONE);
            Ok((stream.map_err(|error| format!("TLS: {error}"))?, client))
        })?;
        let fd = thread.done.as_raw_fd();
        registry.register(&mut SourceFd(&fd), LOOKUP, Interest::READABLE)?;
        Ok(thread)
    }

    fn answer(&self) -> Option<io::Result<Vec<SocketAddr>>> {
        let lookup = self.lookup.as_ref().expect("it is what is waited for");
        lookup.answer()
    }

    /// Begins to connect to the first address that can be tried. `why`: what was wrong with those before.
    fn connect(
        &self,
        poll: &Poll,
        mut others: vec::IntoIter<SockAddr>,
        mut why: String,
    ) -> Result<Step, Fault> {
        while let Some(to) = others.next() {
            match begin(poll, &to) {
                Ok(socket) => return Ok(Step::Connecting { socket, to, others }),
                Err(error) => why = self.at(&to, error),
            }
        }
        Err(self.fault(why))
    }
}

impl Opening {
    fn new(poll: Poll, step: Step, until: Instant) -> Opening {
        Opening {
            poll,
            // The lookup, and each of the sockets.
            events: Events::with_capacity(1 + ADDRESSES),
            step,
            until,
        }
    }

    fn poll(&mut self) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            // It is asked again at the next event or deadline; the set stays readable.
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        if let Step::Connected(link) = &mut self.step {
            for event in &self.events {
                link.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                link.writable |= event.is_writable() || event.is_error();
                link.flush();
            }
        }
        Ok(())
    }
}

fn begin(poll: &Poll, to: &SockAddr) -> io::Result<Socket> {
    let socket = broker::connect(to)?;
    // What is sent is short, and its answer waited for. Failures of both cost quality, not the connection.
    if to.domain() != Domain::UNIX {
        for (option, result) in [
            ("TCP_NODELAY", socket.set_tcp_nodelay(true)),
            ("SO_KEEPALIVE", keep_alive(SockRef::from(&socket))),
        ] {
            if let Err(error) = result {
                log::debug!("{option}: {error}");
            }
        }
    }
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut SourceFd(&socket.as_raw_fd()), SOCKET, interest)?;
    Ok(socket)
}

/// Whether a connection is made, or why it cannot be.
fn outcome(socket: &Socket) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// A name that is being looked up.
///
/// In a thread: there is getaddrinfo, which waits for name servers, and nothing beside it that does what the system's
/// administrator set up (hosts, mDNS, search domains). The thread touches nothing of anybody else's, and ends by itself
/// with its answer.
type Lookup = Thread<io::Result<Vec<SocketAddr>>>;

fn look_up(Remote { host, port }: Remote) -> io::Result<Lookup> {
    Thread::start("lookup", move || broker::look_up(&host, port, ADDRESSES))
}

/// What comes of a handshake: the connection, and what the next one need not find out again.
type Shaken = Result<(TlsStream, Client), String>;

/// A thread that finds something out.
struct Thread<T> {
    answer: Receiver<T>,
    /// Closed at the other end when there is an answer, which is what wakes the event loop.
    done: PipeReader,
}

impl<T: Send + 'static> Thread<T> {
    fn start(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<Thread<T>> {
        let (done, end) = io::pipe()?;
        let (sender, answer) = mpsc::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Nobody may want it any more.
                let _ = sender.send(work());
                drop(end);
            })?;
        Ok(Thread { answer, done })
    }

    fn answer(&self) -> Option<T> {
        match self.answer.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => unreachable!("the thread answers before it ends"),
        }
    }
}

/// What carries bytes.
pub enum Transport {
    /// As they are.
    Plain(Socket),
    /// Encrypted.
    Tls(Box<TlsStream>),
}

impl Transport {
    fn fd(&self) -> RawFd {
        match self {
            Transport::Plain(socket) => socket.as_raw_fd(),
            Transport::Tls(stream) => stream.socket().as_raw_fd(),
        }
    }
}

/// A connection, and whether there may be something to do on it.
pub struct Link {
    transport: Transport,
    to: SockAddr,
    readable: bool,
    writable: bool,
}

impl Link {
    /// Nobody knows yet whether there is something to do: the first try tells.
    fn new(transport: Transport, to: SockAddr) -> Link {
        Link {
            transport,
            to,
            readable: true,
            writable: true,
        }
    }

    #[cfg(test)]
    pub(super) fn socket(&self) -> SockRef<'_> {
        match &self.transport {
            Transport::Plain(socket) => SockRef::from(socket),
            Transport::Tls(stream) => SockRef::from(stream.socket()),
        }
    }

    /// Sends on what TLS holds of what was written before: bytes of a short request, so that it is rarely any.
    fn flush(&mut self) {
        if let Transport::Tls(stream) = &mut self.transport
            && self.writable
            && stream.holds()
        {
            // What is wrong is told by the next read.
            self.writable = stream.flush().is_ok();
        }
    }

    /// `None`: there is nothing now. 0: the end.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let transport = &mut self.transport;
        ready(&mut self.readable, || match transport {
            Transport::Plain(socket) => socket.read(into),
            Transport::Tls(stream) => read_tls(stream, into),
        })
    }

    /// `None`: there is no room now.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let transport = &mut self.transport;
        ready(&mut self.writable, || match transport {
            Transport::Plain(socket) => socket.write(bytes),
            Transport::Tls(stream) => stream.write(bytes),
        })
    }
}

/// A server that sends records without anything in them for ever is none.
fn read_tls(stream: &mut TlsStream, into: &mut [u8]) -> io::Result<usize> {
    for _ in 0..EMPTY_READS {
        match stream.read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && stream.gave_way() => {}
            read => return read,
        }
    }
    Err(io::Error::new(
        ErrorKind::InvalidData,
        "TLS: the server sends nothing but empty records",
    ))
}

fn ready(
    flag: &mut bool,
    mut work: impl FnMut() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    while *flag {
        match work() {
            Ok(n) => return Ok(Some(n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => *flag = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;
