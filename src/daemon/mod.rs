//! The event loop: mio, listeners, signals, timers and the programs that watch camd.
//!
//! One turn: wait; note what the events say; let the camera take its pictures in; accept; advance the clients; find
//! the next deadline. Without viewers and without a watchdog there is no deadline, and the process sleeps.

mod alarm;
mod calls;
mod handshakes;
pub mod health;
pub mod net;
mod sandbox;
pub mod supervisor;
pub mod uplink;

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use log::{Level, debug, error, info, warn};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::client::hub::Hub;
use crate::client::places::Spare;
use crate::client::slot::Peer;
use crate::client::table::ClientId;
use crate::config::{self, Bind, CameraConfig, Config, ConfigError, ListenerConfig, SourceKind};
use crate::daemon::alarm::Alarm;
use crate::daemon::handshakes::{Done, Handshakes};
use crate::daemon::net::{Acceptor, Connection};
use crate::daemon::sandbox::Sandbox;
use crate::daemon::supervisor::Supervisor;
use crate::daemon::uplink::Uplink;
use crate::encode::cell::launch::Processes;
use crate::limits::{
    ACCEPT_RETRY, ACCEPTS_PER_TURN, CELLS_MAX, ENCODER_CONTEXTS, HANDSHAKES, MAX_LISTENERS,
    MAX_SINKS, REARM, REGISTER_TRIES, SLOTS,
};
use crate::measure::times::first;
use crate::protocol::ProtocolKind;
use crate::source::AnySource;
use crate::source::camera::Camera;
use crate::system::broker;
use crate::system::household::address_of;
use crate::system::logging::peers::Incident;
use crate::system::logging::{self, say_of_peer};
use crate::system::watchdog::Watchdog;
use crate::tls::identity::{Identity, is_open_to_all, open_to_all, state_folder};

const SIGNALS: Token = Token(0);
const CAMERA: Token = Token(1);
const ALARM: Token = Token(2);
/// Of the thread that reckons for handshakes.
const WORKER: Token = Token(3);
/// The connection to the box's updater.
const UPDATE: Token = Token(4);
const FIRST_ENCODER: usize = 5;
const FIRST_SINK: usize = FIRST_ENCODER + ENCODER_CONTEXTS;
const FIRST_CELL: usize = FIRST_SINK + MAX_SINKS;
const FIRST_ACCEPTOR: usize = FIRST_CELL + 2 * CELLS_MAX;
const FIRST_HANDSHAKE: usize = FIRST_ACCEPTOR + MAX_LISTENERS;
const FIRST_CLIENT: usize = 1 << 8;
const _: () = assert!(FIRST_HANDSHAKE + HANDSHAKES <= FIRST_CLIENT);

/// Bits of a client's index.
const INDEX_BITS: u32 = usize::BITS - SLOTS.leading_zeros();
// Also where a word has 32 bits.
const _: () = assert!(INDEX_BITS + u16::BITS < u32::BITS);

/// A client's token: index and generation, behind the others' tokens.
fn client_token(client: ClientId) -> Token {
    let generation = usize::from(client.generation) << INDEX_BITS;
    Token((generation | usize::from(client.index)) + FIRST_CLIENT)
}

/// What an event is about.
enum Ready {
    Signals,
    Camera,
    Alarm,
    Encoder(usize),
    Sink(usize),
    Cell(usize),
    Acceptor(usize),
    Worker,
    Update,
    Handshake(usize),
    Client(ClientId),
}

impl From<Token> for Ready {
    fn from(token: Token) -> Self {
        match token {
            SIGNALS => Ready::Signals,
            CAMERA => Ready::Camera,
            ALARM => Ready::Alarm,
            WORKER => Ready::Worker,
            UPDATE => Ready::Update,
            Token(n) if n < FIRST_SINK => Ready::Encoder(n - FIRST_ENCODER),
            Token(n) if n < FIRST_CELL => Ready::Sink(n - FIRST_SINK),
            Token(n) if n < FIRST_ACCEPTOR => Ready::Cell(n - FIRST_CELL),
            Token(n) if n < FIRST_HANDSHAKE => Ready::Acceptor(n - FIRST_ACCEPTOR),
            Token(n) if n < FIRST_CLIENT => Ready::Handshake(n - FIRST_HANDSHAKE),
            Token(n) => {
                let client = n - FIRST_CLIENT;
                Ready::Client(ClientId {
                    index: (client & ((1 << INDEX_BITS) - 1)) as u16,
                    generation: (client >> INDEX_BITS) as u16,
                })
            }
        }
    }
}

/// A listening socket, or what takes its place, and whether it may have connections for us.
struct Listening {
    door: Door,
    ready: bool,
}

enum Door {
    Acceptor(Acceptor),
    /// With what of it is in the poll.
    Uplink(Box<Uplink>, Option<(RawFd, u64)>),
}

impl Door {
    fn accept(&self) -> io::Result<(Connection, Peer)> {
        match self {
            Door::Acceptor(acceptor) => acceptor.accept(),
            Door::Uplink(..) => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

struct Daemon {
    poll: Poll,
    alarm: Alarm,
    signals: SignalFd,
    hub: Hub<Connection>,
    camera: Camera<AnySource>,
    listening: Vec<Listening>,
    /// Who camd is on each of them; `None`: nothing is encrypted there.
    identities: Vec<Option<Identity>>,
    /// In front of the hub.
    handshakes: Handshakes,
    config: Config,
    /// Where `config` came from; `None` in the demo.
    path: Option<PathBuf>,
    /// The camera's descriptor in the poll, and which opening of it.
    registered: Option<(RawFd, u64)>,
    camera_ready: bool,
    /// When the camera is registered anew unless it shows a sign of life before.
    rearm: Instant,
    accept_retry: Option<Instant>,
    /// Whose turn to accept it is first.
    next_door: usize,
    supervisor: Supervisor,
    sandbox: Sandbox,
}

/// What there is to a configuration and is not in it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The file that is read again at SIGHUP.
    pub path: Option<PathBuf>,
    /// The file that the configuration came from: this one, or another in its place.
    pub file: Option<PathBuf>,
    /// Then, what is wrong with it.
    pub errors: Vec<ConfigError>,
    /// The board's watchdog, see [`crate::system::watchdog`].
    pub watchdog: Option<PathBuf>,
    /// Where the box around camd says how it is, for the pages.
    pub board: Option<PathBuf>,
    /// The Unix socket on which its updater listens.
    pub updater: Option<PathBuf>,
}

/// Serves until SIGTERM or SIGINT. `ready` is called with the listeners' addresses once all are open.
pub fn run(
    config: Config,
    options: Options,
    ready: impl FnOnce(&[(ListenerConfig, String)]),
) -> io::Result<()> {
    let mut daemon = Daemon::new(config, options)?;
    daemon.handshakes.prepare();
    daemon.sandbox.enter(&daemon.config);
    // A thread that was there before would have kept its rights.
    logging::begin()?;
    let addresses: Vec<_> = daemon
        .hub
        .listeners()
        .iter()
        .map(|listener| (listener.config.clone(), listener.address.clone()))
        .collect();
    ready(&addresses);
    daemon.supervisor.ready();
    daemon.run()?;
    // What ends with an error, or not at all, is for the board's watchdog.
    daemon.supervisor.stopped();
    Ok(())
}

impl Daemon {
    fn new(config: Config, options: Options) -> io::Result<Self> {
        let now = Instant::now();
        for error in &options.errors {
            error!("{error}");
        }
        if let (false, Some(file)) = (options.errors.is_empty(), &options.file) {
            error!("{} is in force in its place", file.display());
        }
        // First, while nothing of ours can have the number of a descriptor that was said to be passed and is not.
        let doors = open_listeners(&config, now)?;
        let files = [options.path.as_deref(), options.file.as_deref()];
        let sandbox = Sandbox::prepare(
            &config,
            files,
            options.board.as_deref(),
            options.updater.as_deref(),
        )?;
        let Options {
            path,
            errors,
            watchdog,
            board,
            updater,
            ..
        } = options;
        let poll = Poll::new()?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let signals = open_signals()?;
        poll.registry().register(
            &mut SourceFd(&signals.as_raw_fd()),
            SIGNALS,
            Interest::READABLE,
        )?;
        let identities = identities(&config, &[], SystemTime::now());
        let mut handshakes = Handshakes::new(FIRST_HANDSHAKE, WORKER);
        if identities.iter().any(Option::is_some) {
            handshakes.ask_kernel();
        }
        let mut hub = Hub::new(&config, now, Instant::now);
        let cells = config.limits.cells.number();
        if cells > 0 {
            let started = hub.start_cells(&config, Box::new(Processes), cells, now);
            started.map_err(|error| {
                let text = format!(
                    "cannot start the process that decodes and encodes pictures: {error}; with limits.cells = 0 camd does \
                     that itself"
                );
                io::Error::new(error.kind(), text)
            })?;
        }
        let mut listening = Vec::new();
        for (index, mut door) in doors.into_iter().enumerate() {
            let listener = &config.listeners[index];
            let ListenerConfig { protocol, bind, .. } = listener;
            let address = match &mut door {
                Door::Acceptor(acceptor) => {
                    acceptor.register(poll.registry(), Token(FIRST_ACCEPTOR + index))?;
                    let address = acceptor.address();
                    info!(target: "camd::daemon::notice", "listening: {} on {address}", protocol.name());
                    address
                }
                Door::Uplink(..) => bind.to_string(),
            };
            if listener.is_open() && *protocol == ProtocolKind::Call {
                warn!(
                    "{address}: calls without a password: everybody who can connect may call the camera, and take any free \
                     name; set password or password_file, or add a [[user]]"
                );
            }
            hub.set_address(index, address);
            listening.push(Listening { door, ready: true });
        }
        hub.set_config_errors(&errors);
        hub.set_board(board);
        hub.set_updater(updater);
        for (index, identity) in identities.iter().enumerate() {
            hub.set_identity(index, identity.as_ref());
        }
        tell_exposed(&hub);
        let source = AnySource::new(&config);
        // Last of all that may fail: once it runs, a camd that does not feed it is reset.
        let watchdog = watchdog.map(|device| Watchdog::open(&device)).transpose()?;
        Ok(Daemon {
            poll,
            alarm,
            signals,
            hub,
            camera: Camera::new(source, &config, now),
            listening,
            identities,
            handshakes,
            config,
            path,
            registered: None,
            camera_ready: false,
            rearm: now,
            accept_retry: None,
            next_door: 0,
            supervisor: Supervisor::new(watchdog, now),
            sandbox,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        // Every client, handshake, listener, sink, encoder, alarm, camera and signal once is the most that one wait can tell.
        let mut events = Events::with_capacity(FIRST_HANDSHAKE + HANDSHAKES + SLOTS);
        let (mut again, mut now) = (true, Instant::now());
        loop {
            let timeout = if again {
                Some(Duration::ZERO)
            } else {
                let next = self.deadline(now);
                self.alarm.wait_for(next)
            };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            now = Instant::now();
            let mut signalled = false;
            let mut rang = false;
            for event in &events {
                match Ready::from(event.token()) {
                    Ready::Signals => signalled = true,
                    Ready::Camera => self.camera_ready = true,
                    Ready::Alarm => {
                        self.alarm.rang();
                        rang = true;
                    }
                    Ready::Encoder(index) => {
                        // mio tells EPOLLERR and EPOLLHUP apart from what V4L2 means by room: both come alone.
                        let broken = event.is_error() || event.is_write_closed();
                        self.hub.mark_encoder(index, broken);
                    }
                    Ready::Sink(index) => self.hub.mark_sink(index),
                    Ready::Cell(number) => self.hub.mark_cell(number),
                    Ready::Acceptor(index) => self.listening[index].ready = true,
                    // What it has done is asked for in each turn.
                    Ready::Worker => {}
                    Ready::Update => self.hub.mark_update(),
                    Ready::Handshake(index) => self.handshakes.mark(index),
                    Ready::Client(client) => {
                        // A broken connection is told by the next read or write, whatever it was waiting for.
                        let broken =
                            event.is_error() || (event.is_read_closed() && event.is_write_closed());
                        let (readable, writable) = (event.is_readable(), event.is_writable());
                        self.hub
                            .mark(client, readable || broken, writable || broken);
                    }
                }
            }
            // Most often it has rung for a deadline that has moved away since.
            let alone = rang && events.iter().count() == 1;
            if alone && self.deadline(now).is_none_or(|at| at > now) {
                continue;
            }
            if signalled && self.handle_signals(now)? {
                info!(target: "camd::daemon::notice", "ending");
                self.supervisor.stopping();
                self.hub.shutdown();
                self.camera.shutdown();
                return Ok(());
            }
            again = self.turn(now);
            if broker::is_lost() {
                // Whoever restarts camd brings it back, and the camera with it.
                return Err(io::Error::other("the sandbox's second process has ended"));
            }
        }
    }

    /// One turn of everything that is not waiting. True if the next one must follow at once.
    fn turn(&mut self, now: Instant) -> bool {
        let event = std::mem::take(&mut self.camera_ready);
        if event {
            self.rearm = now + REARM;
        }
        // A silent camera's descriptor may be deaf, see `register_camera`: look without being called.
        let silent = self.registered.is_some() && self.rearm <= now;
        let fresh = self.hub.run(&mut self.camera, event || silent, now);
        let more_to_accept = self.accept(now) | self.shake_hands(now);
        let mut again = self.hub.turn(now, &mut self.camera);
        // A connection to a relay that has just ended waits for the next one.
        again |= (0..self.listening.len()).any(|index| self.is_lost(index));
        let registry = self.poll.registry();
        again |= self.hub.arm_encoders(|index, fd| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut SourceFd(&fd), Token(FIRST_ENCODER + index), interest)
        });
        again |= self.hub.arm_cells(|number, fd| {
            let (token, interest) = (Token(FIRST_CELL + number), Interest::READABLE);
            registry.register(&mut SourceFd(&fd), token, interest)
        });
        again |= self.hub.arm_update(|fd| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut SourceFd(&fd), UPDATE, interest)
        });
        again |= self.hub.arm_sinks(|index, fd| {
            let (token, interest) = (Token(FIRST_SINK + index), Interest::READABLE);
            match registry.register(&mut SourceFd(&fd), token, interest) {
                // The table has moved up, after a reload.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    registry.reregister(&mut SourceFd(&fd), token, interest)
                }
                registered => registered,
            }
        });
        if fresh {
            self.hub.release(&mut self.camera);
        }
        let viewers = self.hub.tell_viewers(&mut self.camera, now);
        again |= self.register_camera(silent, now);
        let sent_away = self.hub.sent_away();
        self.supervisor.turn(viewers, sent_away, &self.camera, now);
        again || more_to_accept
    }

    /// When there is something to do without any event.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let rearm = self.registered.map(|_| self.rearm);
        let dialling = self.listening.iter().filter_map(|l| match &l.door {
            Door::Uplink(uplink, _) => uplink.deadline(),
            Door::Acceptor(_) => None,
        });
        let at = first(self.camera.deadline(), self.hub.deadline());
        let at = first(first(at, self.accept_retry), rearm);
        let at = first(first(at, self.supervisor.deadline()), dialling.min());
        let head_timeout = self.config.limits.head_timeout;
        first(at, self.handshakes.deadline(head_timeout, now))
    }

    /// Keeps the poll's idea of the camera's descriptor right. True if the next turn must follow at once.
    ///
    /// v4l2loopback 0.12 joins epoll's wait queue only if no frame is readable at the time of registration; once it has
    /// missed that, it never wakes us. So a camera that has a frame when it is registered is emptied and registered
    /// again, and so is one that is silent, which [`Daemon::turn`] has just emptied.
    fn register_camera(&mut self, silent: bool, now: Instant) -> bool {
        let current = self.camera.fd();
        if current == self.registered && !silent {
            return false;
        }
        if current == self.registered {
            self.deregister_camera();
        }
        // A closed descriptor has left the poll by itself. Its number may be somebody else's by now.
        self.registered = current;
        self.rearm = now + REARM;
        let Some((fd, _)) = current else { return false };
        for attempt in 1.. {
            let interest = Interest::READABLE | Interest::PRIORITY;
            let registry = self.poll.registry();
            if let Err(error) = registry.register(&mut SourceFd(&fd), CAMERA, interest) {
                warn!("camera: poll: {error}");
            }
            if attempt == REGISTER_TRIES || !is_readable(fd) {
                break;
            }
            self.hub.run(&mut self.camera, true, now);
            if self.camera.fd() != current {
                // It failed, and the descriptor is closed.
                self.registered = None;
                return true;
            }
            self.deregister_camera();
        }
        // What came before the registration is not told.
        self.camera_ready = true;
        true
    }

    fn deregister_camera(&mut self) {
        let Some((fd, _)) = self.registered else {
            return;
        };
        if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&fd)) {
            warn!("camera: poll: {error}");
        }
    }

    /// Accepts what has come. True if there is more.
    fn accept(&mut self, now: Instant) -> bool {
        if self.accept_retry.is_some_and(|at| at <= now) {
            self.accept_retry = None;
            self.listening
                .iter_mut()
                .for_each(|listening| listening.ready = true);
        }
        (0..self.listening.len()).for_each(|index| self.dial(index, now));
        if !self.listening.iter().any(|listening| listening.ready) {
            return false;
        }
        // One from each door in turn: a flood at one of them costs the others no more than that.
        let doors = self.listening.len();
        let (mut idle, mut left) = (0, ACCEPTS_PER_TURN);
        while idle < doors && left > 0 {
            let index = self.next_door % doors;
            self.next_door = (index + 1) % doors;
            if !self.listening[index].ready {
                idle += 1;
                continue;
            }
            (idle, left) = (0, left - 1);
            match self.listening[index].door.accept() {
                Ok((connection, peer)) if !self.is_allowed(index, &peer) => {
                    self.hub.turn_off(index, &peer);
                    drop(connection);
                }
                Ok((connection, peer)) => self.take_in(connection, peer, index, now),
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.listening[index].ready = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // The peer was quicker than we were.
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => {}
                // No descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM): the connection stays in the queue,
                // and no new event will tell.
                Err(e) => {
                    let address = &self.hub.listeners()[index].address;
                    say_of_peer(
                        Level::Error,
                        Incident::NotAccepted,
                        "",
                        format_args!("{address}: accept: {e}"),
                    );
                    if self.handshakes.shed() {
                        continue;
                    }
                    match self.hub.shed(now) {
                        Spare::Now(_) => {}
                        Spare::Soon => return true,
                        // Where nobody can make way there is no more to be done in this turn.
                        Spare::Nobody => {
                            self.listening[index].ready = false;
                            self.accept_retry = Some(now + ACCEPT_RETRY);
                        }
                    }
                }
            }
        }
        self.listening.iter().any(|listening| listening.ready)
    }

    /// Whether clients from there may connect.
    fn is_allowed(&self, index: usize, peer: &Peer) -> bool {
        let listener = &self.hub.listeners()[index].config;
        listener.allows(address_of(peer))
    }

    /// A connection that was accepted.
    fn take_in(&mut self, connection: Connection, peer: Peer, index: usize, now: Instant) {
        let (stream, identity) = match (connection, &self.identities[index]) {
            (Connection::Tcp(stream), Some(identity)) => (stream, identity),
            (connection, _) => return self.admit(connection, peer, index, now),
        };
        let speaks_http = self.config.listeners[index].protocol == ProtocolKind::Http;
        let (listener, registry) = ((index, speaks_http), self.poll.registry());
        let config = identity.config();
        if let Err(error) = self
            .handshakes
            .admit((stream, peer), listener, config, registry, now)
        {
            // The peer was quicker than we were, or the system has no thread or memory left.
            debug!("{}: {error}", self.hub.listeners()[index].address);
        }
    }

    /// A connection that is ready for a client.
    fn admit(&mut self, connection: Connection, peer: Peer, index: usize, now: Instant) {
        match self.hub.admit(connection, peer, index, now) {
            Ok(client) => self.register_client(client),
            Err(connection) => drop(connection),
        }
    }

    /// Goes on with the handshakes. True if there is more to do at once.
    fn shake_hands(&mut self, now: Instant) -> bool {
        let Daemon {
            handshakes,
            hub,
            config,
            poll,
            ..
        } = self;
        let mut done = heapless::Vec::<_, HANDSHAKES>::new();
        let name = |index: usize| hub.listeners()[index].address.clone();
        let patience = config.limits.head_timeout;
        let more = handshakes.turn(patience, now, name, |it| {
            let kept = done.push(it);
            assert!(kept.is_ok(), "no more than there are places");
        });
        // From its end: an iterator would take all of the room along, in every turn.
        while let Some(Done {
            connection,
            peer,
            listener,
        }) = done.pop()
        {
            if let Ok(client) = hub.admit(connection, peer, listener, now) {
                register_client(hub, poll.registry(), client);
            }
        }
        more
    }

    fn is_lost(&self, index: usize) -> bool {
        match &self.listening[index].door {
            Door::Uplink(uplink, _) => uplink.is_connected() && self.hub.connected(index) == 0,
            Door::Acceptor(_) => false,
        }
    }

    /// Goes on with the connection that camd makes by itself, where this is one.
    fn dial(&mut self, index: usize, now: Instant) {
        let connected = self.hub.connected(index) > 0;
        let Door::Uplink(uplink, registered) = &mut self.listening[index].door else {
            return;
        };
        // What came before the registration is not told, and it may have come to an end at once.
        loop {
            if let Some((connection, peer)) = uplink.run(connected, now) {
                return self.admit(connection, peer, index, now);
            }
            let current = uplink.fd();
            if current == *registered {
                return;
            }
            *registered = current;
            if let Some((fd, _)) = current {
                let (token, interest) = (Token(FIRST_ACCEPTOR + index), Interest::READABLE);
                let registry = self.poll.registry();
                if let Err(error) = registry.register(&mut SourceFd(&fd), token, interest) {
                    warn!("relay: poll: {error}");
                }
            }
        }
    }

    fn register_client(&mut self, client: ClientId) {
        register_client(&mut self.hub, self.poll.registry(), client);
    }

    /// True if it is time to end.
    fn handle_signals(&mut self, now: Instant) -> io::Result<bool> {
        while let Some(info) = self.signals.read_signal().map_err(io::Error::from)? {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGHUP) => self.reload(now),
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Takes over from the file what can change while clients are connected, and says what cannot.
    fn reload(&mut self, now: Instant) {
        let Some(path) = &self.path else {
            return info!("the demo has no configuration to read again");
        };
        let mut config = match config::load_again(path) {
            Ok(config) => config,
            Err(errors) => {
                errors.iter().for_each(|error| error!("{error}"));
                self.hub.set_config_errors(&errors);
                return error!("{}: the old settings stay in force", path.display());
            }
        };
        if config.limits.frame_bytes != self.config.limits.frame_bytes {
            warn!(
                "limits.frame_bytes changes at the next start only: camd takes its buffers at start"
            );
            config.limits.frame_bytes = self.config.limits.frame_bytes;
        }
        if config.limits.cells != self.config.limits.cells {
            warn!("limits.cells changes at the next start only");
            config.limits.cells = self.config.limits.cells;
        }
        let places = |config: &Config| -> Vec<_> {
            config
                .listeners
                .iter()
                .map(|listener| {
                    (
                        listener.protocol,
                        listener.bind.clone(),
                        listener.user.clone(),
                        matches!(listener.bind, Bind::Relay(_)).then(|| listener.trust()),
                    )
                })
                .collect()
        };
        if places(&config) != places(&self.config) {
            warn!(
                "[[listener]]: all listeners stay as they are until the next start, because number, protocol, bind, user or the TLS of a relay changed"
            );
            config.listeners = self.config.listeners.clone();
        }
        if config.limits.frame_bytes > config.frame_bytes_max() {
            warn!(
                "[[listener]]: all listeners stay as they are: with the frame_bytes of the start, there is no room for the \
                 pictures of so many adaptive ones"
            );
            config.listeners = self.config.listeners.clone();
        }
        self.hub.reconfigure(&config, now);
        self.identities = identities(&config, &self.identities, SystemTime::now());
        if self.identities.iter().any(Option::is_some) {
            self.handshakes.ask_kernel();
        }
        for (index, identity) in self.identities.iter().enumerate() {
            self.hub.set_identity(index, identity.as_ref());
        }
        self.camera.reconfigure(&config);
        if !same_source(&config, &self.config) {
            info!("the camera is opened again");
            self.hub.keep(&self.camera);
            let source = AnySource::new(&config);
            self.camera.replace(source, now);
        }
        self.config = config;
        self.sandbox.compare(&self.config);
        self.hub.set_config_errors(&[]);
        tell_exposed(&self.hub);
        info!("{}: read again", path.display());
    }
}

/// Says where strangers see the camera.
fn tell_exposed(hub: &Hub<Connection>) {
    for listener in hub
        .listeners()
        .iter()
        .filter(|listener| listener.is_exposed())
    {
        let (address, protocol) = (&listener.address, listener.config.protocol);
        let way_out = match protocol {
            ProtocolKind::Http => "add a [[user]] (`camd passwd` helps)",
            // Said already, with the way out.
            ProtocolKind::Call => continue,
            _ => "it has no login; bind it to 127.0.0.1",
        };
        let protocol = protocol.name();
        match &listener.config.allow[..] {
            [] => warn!(
                "{address}: {protocol} is open: everybody who can connect sees the camera: {way_out}, or set allow"
            ),
            _ => info!(
                "{address}: {protocol} is open: who connects from the networks in allow sees the camera"
            ),
        }
    }
}

fn register_client(hub: &mut Hub<Connection>, registry: &Registry, client: ClientId) {
    let Some(stream) = hub.stream(client) else {
        return;
    };
    if let Err(error) = stream.register(registry, client_token(client)) {
        // Only a lack of kernel memory or of epoll watches; without events its deadlines end it.
        warn!("client: poll: {error}");
    }
}

/// Who camd is on each of the listeners. `before`: who it was, if that was said in the log already.
fn identities(
    config: &Config,
    before: &[Option<Identity>],
    now: SystemTime,
) -> Vec<Option<Identity>> {
    let mut own: Option<Identity> = None;
    let mut found = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let serves = !matches!(listener.bind, Bind::Relay(_));
        if !listener.tls || !serves {
            found.push(None);
            continue;
        }
        let identity = match &listener.identity {
            Some(identity) => identity.clone(),
            None => own.get_or_insert_with(own_identity).clone(),
        };
        if before.get(index) != Some(&Some(identity.clone())) {
            let (protocol, bind) = (listener.protocol.name(), &listener.bind);
            info!(
                target: "camd::daemon::notice",
                "TLS for {protocol} on {bind}: the certificate's SHA-256 fingerprint is {}",
                identity.fingerprint()
            );
            for doubt in identity.doubts(now) {
                warn!("TLS for {protocol} on {bind}: {doubt}");
            }
            if let Some(key) = listener.key.as_deref().filter(|key| is_open_to_all(key)) {
                warn!("TLS for {protocol} on {bind}: {}", open_to_all(key));
            }
        }
        found.push(Some(identity));
    }
    found
}

/// The box's own, which is made if need be.
fn own_identity() -> Identity {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let (identity, kept) = Identity::own(&state_folder(), &host.to_string_lossy());
    if let Err(error) = kept {
        error!("TLS: {error}; until then the box's own certificate is another one at each start");
    }
    identity
}

/// Whether there is something to take from the camera. An error counts: taking it tells what it is.
fn is_readable(fd: RawFd) -> bool {
    // SAFETY: the camera is open, and lives in the caller for as long as this call takes.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Whether the two differ at most in what the source itself does not know.
fn same_source(a: &Config, b: &Config) -> bool {
    let CameraConfig {
        name,
        linger,
        settle,
        timestamp,
        ..
    } = a.camera.clone();
    let same_camera = a.camera
        == CameraConfig {
            name,
            linger,
            settle,
            timestamp,
            ..b.camera.clone()
        };
    same_camera && (a.camera.source != SourceKind::Call || a.call == b.call)
}

/// Signals become events; children are started with their own mask, see [`crate::source::pipe`].
fn open_signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        mask.add(signal);
    }
    mask.thread_block()?;
    Ok(SignalFd::with_flags(
        &mask,
        SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
    )?)
}

/// Opens all listeners of the configuration, in its order. A socket that the supervisor passes is used in place of
/// the listener that has its address, or else its protocol as name (`FileDescriptorName=` in the socket unit).
fn open_listeners(config: &Config, now: Instant) -> io::Result<Vec<Door>> {
    let mut opened: Vec<Option<Acceptor>> = config.listeners.iter().map(|_| None).collect();
    for (fd, name) in sd_notify::listen_fds_with_names()? {
        // SAFETY: sd_notify has seen that they are open, and nothing that could own them was opened before: they were
        // passed for us to own.
        let (acceptor, bind) = match unsafe { Acceptor::from_fd(fd) } {
            Ok(passed) => passed,
            Err(error) => {
                error!("socket {fd} ({name}) from the supervisor: {error}");
                continue;
            }
        };
        let is_free = |index: &usize| opened[*index].is_none();
        let by_address =
            (0..opened.len()).find(|i| is_free(i) && same_place(&config.listeners[*i].bind, &bind));
        let by_name =
            || (0..opened.len()).find(|i| is_free(i) && is_named(&config.listeners[*i], &name));
        match by_address.or_else(by_name) {
            Some(index) => opened[index] = Some(acceptor),
            None => error!(
                "socket {fd} ({name}, {}) from the supervisor fits no [[listener]] by bind or by FileDescriptorName=",
                acceptor.address()
            ),
        }
    }
    let mut doors = Vec::new();
    for (passed, listener) in opened.into_iter().zip(&config.listeners) {
        if let Bind::Relay(remote) = &listener.bind {
            doors.push(Door::Uplink(
                Box::new(Uplink::new(remote.clone(), listener.trust(), now)),
                None,
            ));
            continue;
        }
        let acceptor = match passed {
            Some(acceptor) => acceptor,
            None => Acceptor::bind(&listener.bind).map_err(|error| {
                let (protocol, bind) = (listener.protocol.name(), &listener.bind);
                io::Error::new(
                    error.kind(),
                    format!("cannot listen on {bind} for {protocol}: {error}"),
                )
            })?,
        };
        doors.push(Door::Acceptor(acceptor));
    }
    Ok(doors)
}

/// Whether a socket of this name is meant for this listener.
fn is_named(listener: &ListenerConfig, name: &str) -> bool {
    listener.protocol.name() == name && !matches!(listener.bind, Bind::Relay(_))
}

fn same_place(wanted: &Bind, passed: &Bind) -> bool {
    match (wanted, passed) {
        (Bind::Tcp(wanted), Bind::Tcp(passed)) => wanted == passed,
        (Bind::Unix(wanted), Bind::Unix(passed)) => wanted.as_path() == Path::new(passed),
        _ => false,
    }
}
