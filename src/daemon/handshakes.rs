//! Connections that still have to shake hands: a table of their own, in front of that of the clients.
//!
//! Who has not shown that it speaks TLS takes no client's place and wants no picture. What a handshake costs is paid by a
//! thread of low priority ([`Worker`]), one record at a time, and shared out among the addresses: next is always the one
//! that has had least of late, and none gets more than [`HANDSHAKES_PER_SECOND`]. So a flood from one address makes that
//! address wait, and a flood from many slows handshakes down, but no picture.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{Level, debug, info};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token, Waker};
use rustls::{ServerConfig, ServerConnection};

use crate::client::slot::Peer;
use crate::daemon::net::Connection;
use crate::limits::{
    HANDSHAKE_ADDRESSES, HANDSHAKES, HANDSHAKES_AT_ONCE, HANDSHAKES_PER_ADDRESS,
    HANDSHAKES_PER_SECOND, LINGER_CLOSE,
};
use crate::measure::bucket::Buckets;
use crate::system::household::{Household, address_of};
use crate::system::logging::peers::Incident;
use crate::system::logging::say_of_peer;
use crate::tls::handshake::{Handshake, Step};
use crate::tls::kernel::Kernel;
use crate::tls::stream::TlsStream;
use crate::tls::worker::{Job, Outcome, Worker};

/// What a browser sees that speaks http to a port of https.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
Content-Type: text/plain; charset=utf-8\r\n\
Content-Length: 84\r\n\
Connection: close\r\n\
\r\n\
This port speaks https: write https:// in place of http:// in front of the address.\n";

/// Reads of one connection in one turn, of what nobody wants to know any more.
const READS_PER_TURN: usize = 8;

/// From one handshake to the next of an address, at the rate that is allowed.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / HANDSHAKES_PER_SECOND as u64);

/// A connection before its handshake is done.
struct Place {
    /// Tells two of them in one place apart.
    id: u64,
    socket: TcpStream,
    peer: Peer,
    address: Household,
    listener: usize,
    /// Plain HTTP is answered.
    speaks_http: bool,
    since: Instant,
    stage: Stage,
    /// There may be something to do.
    marked: bool,
}

enum Stage {
    Shaking {
        handshake: Handshake,
        /// A record is to be reckoned with.
        ready: bool,
        /// It has been counted.
        begun: bool,
    },
    /// It has had our last words, and what it still sends is dropped: closing at once would make the kernel take them back.
    Leaving { until: Instant },
}

/// A connection whose handshake is done, ready to be a client's.
pub struct Done {
    /// Encrypted.
    pub connection: Connection,
    /// Who it is.
    pub peer: Peer,
    /// Which listener accepted it.
    pub listener: usize,
}

/// All of them.
pub struct Handshakes {
    places: [Option<Box<Place>>; HANDSHAKES],
    /// Those below which all taken ones are: what is done in each turn looks at no more than these.
    used: usize,
    /// Started with the first of them.
    worker: Option<Worker>,
    /// What it knows, once it was asked.
    kernel: Option<Kernel>,
    /// The same, before anybody wants to know.
    probed: Option<Kernel>,
    /// What each address may still begin.
    begun: Buckets<Household, HANDSHAKE_ADDRESSES>,
    next: u64,
    /// The first token of theirs, and that of the worker's waker.
    tokens: (usize, Token),
}

impl Handshakes {
    /// None yet. Their tokens are [`HANDSHAKES`] from `first` on.
    pub fn new(first: usize, waker: Token) -> Handshakes {
        Handshakes {
            places: [const { None }; HANDSHAKES],
            used: 0,
            worker: None,
            kernel: None,
            probed: None,
            begun: Buckets::new(HANDSHAKES_AT_ONCE, INTERVAL),
            next: 0,
            tokens: (first, waker),
        }
    }

    /// To ask it takes connections, which cannot be made in a sandbox.
    pub fn prepare(&mut self) {
        if self.kernel.is_none() {
            self.probed = Some(Kernel::probe());
        }
    }

    /// Finds out whether the kernel encrypts, unless that is known.
    pub fn ask_kernel(&mut self) {
        if self.kernel.is_none() {
            let kernel = self.probed.take().unwrap_or_else(Kernel::probe);
            info!("TLS: {kernel}");
            self.kernel = Some(kernel);
        }
    }

    /// Takes a connection in. Where there is no room one makes way: the oldest of the address that has most.
    pub fn admit(
        &mut self,
        (socket, peer): (TcpStream, Peer),
        (listener, speaks_http): (usize, bool),
        config: &Arc<ServerConfig>,
        registry: &Registry,
        now: Instant,
    ) -> io::Result<()> {
        if self.worker.is_none() {
            self.worker = Some(Worker::start(Waker::new(registry, self.tokens.1)?)?);
        }
        let address = Household::sharing(address_of(&peer));
        let handshake = Handshake::new(config).map_err(io::Error::other)?;
        let index = self.room_for(address);
        self.next += 1;
        let mut place = Place {
            id: self.next,
            socket,
            peer,
            address,
            listener,
            speaks_http,
            since: now,
            stage: Stage::Shaking {
                handshake,
                ready: false,
                begun: false,
            },
            marked: true,
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut place.socket, Token(self.tokens.0 + index), interest)?;
        self.places[index] = Some(Box::new(place));
        self.used = self.used.max(index + 1);
        Ok(())
    }

    fn room_for(&mut self, address: Household) -> usize {
        let places = self.places.iter().flatten();
        let of = |address: Household| {
            let places = self.places.iter().flatten();
            places.filter(|place| place.address == address).count()
        };
        let free = self.places.iter().position(Option::is_none);
        if let Some(free) = free
            && of(address) < HANDSHAKES_PER_ADDRESS
        {
            return free;
        }
        let most = match free {
            Some(_) => address,
            None => {
                let most = places.max_by_key(|place| of(place.address));
                most.expect("the table is full").address
            }
        };
        let its = self.places.iter().enumerate().filter_map(|(index, place)| {
            let place = place.as_ref()?;
            (place.address == most).then_some((place.id, index))
        });
        let (_, oldest) = its.min().expect("it has most");
        self.places[oldest] = None;
        oldest
    }

    /// The process has no descriptors left: closes the oldest. False: there is none.
    pub fn shed(&mut self) -> bool {
        let places = self.places.iter().enumerate();
        let ids = places.filter_map(|(index, place)| Some((place.as_ref()?.id, index)));
        let oldest = ids.min().map(|(_, index)| index);
        if let Some(oldest) = oldest {
            self.places[oldest] = None;
        }
        oldest.is_some()
    }

    /// A readiness event for one of them.
    pub fn mark(&mut self, index: usize) {
        if let Some(Some(place)) = self.places.get_mut(index) {
            place.marked = true;
        }
    }

    /// When one of them will be late, or the next may begin.
    pub fn deadline(&self, patience: Duration, now: Instant) -> Option<Instant> {
        let is_busy = self.worker.as_ref().is_some_and(Worker::is_busy);
        let places = self.places[..self.used].iter().flatten();
        let ends = places.map(|place| {
            let late = match place.stage {
                Stage::Leaving { until } => until,
                Stage::Shaking { .. } => place.since + patience,
            };
            match place.stage {
                Stage::Shaking {
                    ready: true,
                    begun: false,
                    ..
                } if !is_busy => {
                    let wait = self.begun.of(place.address).wait(now);
                    late.min(now + wait)
                }
                _ => late,
            }
        });
        ends.min()
    }

    /// Goes on with all who can. Those who are done are handed to `admit`. `name`: of a listener, for the log. True if there
    /// is more to do at once.
    pub fn turn(
        &mut self,
        patience: Duration,
        now: Instant,
        name: impl Fn(usize) -> String,
        mut admit: impl FnMut(Done),
    ) -> bool {
        while let Some(outcome) = self.worker.as_mut().and_then(Worker::take) {
            self.take_back(outcome, now, &name);
        }
        let mut more = false;
        for index in 0..self.used {
            let Some(place) = &mut self.places[index] else {
                continue;
            };
            let is_late = match place.stage {
                Stage::Leaving { until } => until <= now,
                Stage::Shaking { .. } => place.since + patience <= now,
            };
            if is_late {
                self.places[index] = None;
            } else if std::mem::take(&mut place.marked) {
                more |= self.advance(index, now, &name, &mut admit);
            }
        }
        self.give(now);
        let free = self.places[..self.used].iter().rev();
        self.used -= free.take_while(|place| place.is_none()).count();
        more
    }

    fn advance(
        &mut self,
        index: usize,
        now: Instant,
        name: &impl Fn(usize) -> String,
        admit: &mut impl FnMut(Done),
    ) -> bool {
        let Some(place) = &mut self.places[index] else {
            return false;
        };
        let step = match &mut place.stage {
            Stage::Leaving { .. } => {
                let left = drop_input(&mut place.socket);
                place.marked = left == Some(true);
                if left.is_none() {
                    self.places[index] = None;
                }
                return left == Some(true);
            }
            // It is with the worker, or waits for it.
            Stage::Shaking { ready: true, .. } => return false,
            Stage::Shaking { handshake, .. } => handshake.advance(&mut place.socket),
        };
        match step {
            Ok(Step::Waits) => {}
            Ok(Step::Reckons) => {
                if let Stage::Shaking { ready, .. } = &mut place.stage {
                    *ready = true;
                }
            }
            Ok(Step::Done) => {
                let place = self.places[index].take().expect("it was just seen");
                match finish(*place, self.kernel.as_ref().unwrap_or(&Kernel::NONE)) {
                    Ok(done) => admit(done),
                    Err(error) => debug!("TLS: a connection is lost after its handshake: {error}"),
                }
            }
            Ok(Step::NoTls(bytes)) => {
                let is_http = place.speaks_http && bytes[..3].iter().all(u8::is_ascii_uppercase);
                let what = match is_http {
                    true => "speaks plain http, and this port https".to_owned(),
                    false => "does not speak TLS".to_owned(),
                };
                if is_http {
                    // There is room: nothing has been sent yet.
                    let _ = place.socket.write(PLAIN_HTTP);
                    leave(place, now);
                }
                self.fail(index, &what, name);
            }
            // Nobody has broken anything.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.places[index] = None,
            Err(error) => {
                let what = format!("handshake: {error}");
                self.fail(index, &what, name);
            }
        }
        false
    }

    /// Says what went wrong, ever more rarely, and drops the connection unless it is leaving.
    fn fail(&mut self, index: usize, what: &str, name: &impl Fn(usize) -> String) {
        let Some(place) = &self.places[index] else {
            return;
        };
        let (name, peer) = (name(place.listener), &place.peer);
        say_of_peer(
            Level::Info,
            Incident::Handshake,
            peer,
            format_args!("{name}: {peer} {what}"),
        );
        if matches!(place.stage, Stage::Shaking { .. }) {
            self.places[index] = None;
        }
    }

    fn take_back(&mut self, outcome: Outcome, now: Instant, name: &impl Fn(usize) -> String) {
        let is_it = |place: &Option<Box<Place>>| place.as_ref().is_some_and(|p| p.id == outcome.id);
        // It may have been late, or have made way.
        let Some(index) = self.places.iter().position(is_it) else {
            return;
        };
        let place = self.places[index].as_mut().expect("it was just found");
        let Stage::Shaking {
            handshake, ready, ..
        } = &mut place.stage
        else {
            return;
        };
        *ready = false;
        place.marked = true;
        if let Err(error) = outcome.result {
            // Why, in the client's own words.
            say_why(outcome.connection, &mut place.socket);
            leave(place, now);
            self.fail(index, &format!("handshake: {error}"), name);
            return;
        }
        handshake.put(outcome.connection);
    }

    /// Gives the worker its next job, if it is free and there is one.
    fn give(&mut self, now: Instant) {
        if self.worker.as_ref().is_none_or(Worker::is_busy) {
            return;
        }
        let places = self.places[..self.used].iter().enumerate();
        let waiting = places.filter_map(|(index, place)| {
            let place = place.as_ref()?;
            let Stage::Shaking { ready, begun, .. } = &place.stage else {
                return None;
            };
            let bucket = self.begun.of(place.address);
            let may = *begun || bucket.wait(now).is_zero();
            (*ready && may).then_some((index, bucket.used(now), place.id))
        });
        // Of two of the same address the older one.
        let next = waiting.min_by_key(|&(_, used, id)| (used, id));
        let Some((index, ..)) = next else {
            return;
        };
        let place = self.places[index].as_mut().expect("it was just seen");
        let Stage::Shaking {
            handshake, begun, ..
        } = &mut place.stage
        else {
            return;
        };
        let is_new = !std::mem::replace(begun, true);
        let (id, address) = (place.id, place.address);
        if let (Some((connection, record)), Some(worker)) = (handshake.take(), &mut self.worker) {
            worker.give(Job {
                id,
                connection,
                record,
            });
        }
        if is_new {
            self.begun.take(address, now);
        }
    }
}

fn finish(place: Place, kernel: &Kernel) -> io::Result<Done> {
    let Stage::Shaking { handshake, .. } = place.stage else {
        return Err(ErrorKind::NotConnected.into());
    };
    let connection = handshake.finish().ok_or(ErrorKind::NotConnected)?;
    let stream = TlsStream::new(place.socket, *connection, kernel)?;
    Ok(Done {
        connection: Connection::Tls(Box::new(stream)),
        peer: place.peer,
        listener: place.listener,
    })
}

/// rustls has an alert ready. It is short, and without room for it nobody would read it either.
fn say_why(mut connection: Box<ServerConnection>, socket: &mut TcpStream) {
    while connection.wants_write() {
        match connection.write_tls(socket) {
            Ok(n) if n > 0 => {}
            _ => return,
        }
    }
}

fn leave(place: &mut Place, now: Instant) {
    // Without a connection there is nobody to take leave of: reading tells.
    let _ = place.socket.shutdown(Shutdown::Write);
    place.stage = Stage::Leaving {
        until: now + LINGER_CLOSE,
    };
    place.marked = true;
}

/// True: there may be more. `None`: it is over.
fn drop_input(socket: &mut TcpStream) -> Option<bool> {
    let mut bytes = [0; 4096];
    for _ in 0..READS_PER_TURN {
        match socket.read(&mut bytes) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_length_that_it_says() {
        let text = std::str::from_utf8(PLAIN_HTTP).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }
}
