//! Messages about what peers do, and can do as often as they like: wrong passwords, broken protocols, connections that find
//! no place.
//!
//! Each is about a kind of event and an address. The first ones are said, which a person may look for; then fewer and fewer,
//! with their number. So one address's flood costs few lines, and takes no line from what there is to say about
//! another one. A flood from ever new addresses is held by a limit for all messages of a kind. What was left out
//! is counted, and told a minute later: from whom, and how many.

use std::fmt;
use std::time::{Duration, Instant};

use crate::limits::{
    LOG_PEER_MESSAGES, LOG_PEERS, LOG_PEERS_BURST, LOG_PEERS_INTERVAL, LOG_SUMMARY,
};
use crate::measure::bucket::Bucket;
use crate::system::household::Household;

/// An address that was quiet for this long begins anew.
const FORGET: Duration = Duration::from_secs(3600);
/// Addresses that a summary names, for each kind: those with the most.
const NAMED: usize = 8;

/// What peers bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// A connection that found no place.
    NoPlace,
    /// A protocol that was broken.
    Violation,
    /// A connection whose peer did not take what it was to get.
    GivenUp,
    /// A login that was refused.
    NotLetIn,
    /// A connection from where none may come.
    NotAllowed,
    /// A connection of an address that makes too many.
    Reset,
    /// A connection that gave its place to another one.
    GaveWay,
    /// A connection that could not be accepted.
    NotAccepted,
    /// A connection to a relay that has ended.
    Relay,
    /// A TLS handshake that came to nothing.
    Handshake,
}

impl Incident {
    const ALL: [Incident; 10] = [
        Incident::NoPlace,
        Incident::Violation,
        Incident::GivenUp,
        Incident::NotLetIn,
        Incident::NotAllowed,
        Incident::Reset,
        Incident::GaveWay,
        Incident::NotAccepted,
        Incident::Relay,
        Incident::Handshake,
    ];

    /// How many of one address are said before only every second one is, every fourth, and so on.
    fn first(self) -> u64 {
        match self {
            // It tells nothing new, and may go on for as long as all places are taken.
            Incident::NoPlace | Incident::Reset | Incident::GaveWay | Incident::NotAccepted => 1,
            _ => LOG_PEER_MESSAGES,
        }
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Incident::NoPlace => "connections without a slot",
            Incident::Violation => "violations of the protocol",
            Incident::GivenUp => "connections that took nothing in time",
            Incident::NotLetIn => "refused logins",
            Incident::NotAllowed => "connections from where none may come",
            Incident::Reset => "connections too many from one address",
            Incident::GaveWay => "connections that gave way to others",
            Incident::NotAccepted => "connections not accepted",
            Incident::Relay => "ends of a connection to a relay",
            Incident::Handshake => "TLS handshakes that came to nothing",
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Incident,
    origin: Household,
    /// How often it came.
    times: u64,
    /// How often it came since it was said last.
    unsaid: u64,
    last: Instant,
}

/// Of one kind, whoever it is about.
#[derive(Debug)]
struct All {
    bucket: Bucket,
    /// About addresses that are no longer known: there were too many.
    unsaid: u64,
}

/// Who did what, how often. Of fixed size; the address that was quiet for longest makes way.
#[derive(Debug)]
pub struct Peers {
    entries: heapless::Vec<Entry, LOG_PEERS>,
    all: [All; Incident::ALL.len()],
    /// When what was left out is told.
    due: Option<Instant>,
}

/// What was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    kind: Incident,
    /// `None`: others than those that are named.
    origin: Option<Household>,
    unsaid: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { kind, unsaid, .. } = self;
        match self.origin {
            Some(origin) => write!(f, "{kind}: {unsaid} more from {origin}"),
            None => write!(f, "{kind}: {unsaid} more from other addresses"),
        }
    }
}

impl Default for Peers {
    fn default() -> Self {
        Peers::new()
    }
}

impl Peers {
    /// Nothing is known yet.
    pub const fn new() -> Self {
        const NOTHING: All = All {
            bucket: Bucket::new(LOG_PEERS_BURST, LOG_PEERS_INTERVAL),
            unsaid: 0,
        };
        Peers {
            entries: heapless::Vec::new(),
            all: [NOTHING; Incident::ALL.len()],
            due: None,
        }
    }

    /// Something happens. If it is to be said: for which time it does.
    pub fn note(&mut self, kind: Incident, origin: Household, now: Instant) -> Option<u64> {
        let same = |entry: &Entry| entry.kind == kind && entry.origin == origin;
        let index = match self.entries.iter().position(same) {
            Some(index) => index,
            None => self.enter(kind, origin, now),
        };
        let entry = &mut self.entries[index];
        if now.saturating_duration_since(entry.last) >= FORGET {
            entry.times = 0;
        }
        entry.last = now;
        entry.times += 1;
        let times = entry.times;
        let is_due = times <= kind.first() || times.is_power_of_two();
        if is_due && self.all[kind as usize].bucket.take(now) {
            // Its number tells of those that were left out.
            entry.unsaid = 0;
            return Some(times);
        }
        entry.unsaid += 1;
        self.due.get_or_insert(now + LOG_SUMMARY);
        None
    }

    fn enter(&mut self, kind: Incident, origin: Household, now: Instant) -> usize {
        let new = Entry {
            kind,
            origin,
            times: 0,
            unsaid: 0,
            last: now,
        };
        match self.entries.push(new) {
            Ok(()) => self.entries.len() - 1,
            Err(new) => {
                let oldest = (0..LOG_PEERS).min_by_key(|&at| self.entries[at].last);
                let index = oldest.expect("it is full");
                let old = std::mem::replace(&mut self.entries[index], new);
                self.all[old.kind as usize].unsaid += old.unsaid;
                index
            }
        }
    }

    /// When [`Peers::tell`] has something to tell.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Takes out what was left out, a few lines for each kind at most.
    pub fn tell(&mut self) -> heapless::Vec<Summary, { (NAMED + 1) * Incident::ALL.len() }> {
        self.due = None;
        let mut told = heapless::Vec::new();
        for kind in Incident::ALL {
            let mut tell = |origin, unsaid| {
                let summary = Summary {
                    kind,
                    origin,
                    unsaid,
                };
                told.push(summary).expect("there is room for each kind's");
            };
            for _ in 0..NAMED {
                let of_kind = self.entries.iter_mut().filter(|entry| entry.kind == kind);
                match of_kind.max_by_key(|entry| entry.unsaid) {
                    Some(entry) if entry.unsaid > 0 => {
                        tell(Some(entry.origin), std::mem::take(&mut entry.unsaid));
                    }
                    _ => break,
                }
            }
            let mut others = std::mem::take(&mut self.all[kind as usize].unsaid);
            for entry in self.entries.iter_mut().filter(|entry| entry.kind == kind) {
                others += std::mem::take(&mut entry.unsaid);
            }
            if others > 0 {
                tell(None, others);
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn said(peers: &mut Peers, peer: &str, times: u64, now: Instant) -> Vec<u64> {
        let origin = Household::of_peer(peer);
        (0..times)
            .filter_map(|_| peers.note(Incident::Violation, origin, now))
            .collect()
    }

    #[test]
    fn a_flood_of_one_address_costs_few_lines_and_silences_nobody_else() {
        let (mut peers, now) = (Peers::new(), Instant::now());
        let flood = said(&mut peers, "192.0.2.1:1", 5000, now);
        let mut expected: Vec<u64> = (1..=16).collect();
        expected.extend([32, 64, 128, 256, 512, 1024, 2048, 4096]);
        assert_eq!(flood, expected);
        // Another port is the same address.
        assert_eq!(said(&mut peers, "192.0.2.1:65535", 100, now), [0_u64; 0]);
        for other in ["192.0.2.2:1", "[2001:db8::1]:7", "unix"] {
            assert_eq!(said(&mut peers, other, 3, now), [1, 2, 3], "{other}");
        }
        // Another kind is another matter.
        let origin = Household::of_peer("192.0.2.1:1");
        assert_eq!(peers.note(Incident::NotLetIn, origin, now), Some(1));
        assert_eq!(peers.deadline(), Some(now + LOG_SUMMARY));
        let told: Vec<_> = peers.tell().iter().map(Summary::to_string).collect();
        assert_eq!(
            told,
            [format!(
                "violations of the protocol: {} more from 192.0.2.1",
                5100 - 4096
            )]
        );
        assert_eq!((peers.deadline(), peers.tell().len()), (None, 0));
        // After an hour of quiet it begins anew.
        assert_eq!(said(&mut peers, "192.0.2.1:1", 2, now + FORGET), [1, 2]);
    }

    #[test]
    fn a_flood_of_many_addresses_is_bounded_and_counted() {
        let (mut peers, now) = (Peers::new(), Instant::now());
        let (mut lines, sent) = (0, 20_000_u32);
        for number in 0..sent {
            let address = IpAddr::from(Ipv4Addr::from(0x0a00_0000 + number));
            // In ten seconds.
            let at = now + Duration::from_micros(500) * number;
            lines += usize::from(
                peers
                    .note(Incident::Violation, Household::of(Some(address)), at)
                    .is_some(),
            );
        }
        assert!((64..=75).contains(&lines), "{lines}");
        let told = peers.tell();
        assert_eq!(told.len(), NAMED + 1);
        let unsaid: u64 = told.iter().map(|summary| summary.unsaid).sum();
        assert_eq!(unsaid, u64::from(sent) - lines as u64);
        let others = told.last().unwrap().to_string();
        assert!(others.ends_with(" more from other addresses"), "{others}");
    }

    #[test]
    fn what_goes_on_for_as_long_as_it_does_is_said_less() {
        let (mut peers, now) = (Peers::new(), Instant::now());
        let origin = Household::of_peer("unix");
        let said: Vec<_> = (0..40)
            .filter_map(|_| peers.note(Incident::NoPlace, origin, now))
            .collect();
        assert_eq!(said, [1, 2, 4, 8, 16, 32]);
    }
}
