//! How fast addresses make connections: one that makes too many costs little more than their acceptance.

use std::time::{Duration, Instant};

use super::address::Address;
use crate::limits::{ADDRESSES_COUNTED, CONNECTS_AT_ONCE, CONNECTS_PER_SECOND};

/// From one connection to the next, at the rate that is allowed.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / CONNECTS_PER_SECOND as u64);

/// One bucket for each address that has made connections lately.
///
/// It is kept as the time at which it will be empty (the virtual scheduling algorithm of ITU-T I.371, "GCRA").
#[derive(Debug, Default)]
pub struct Arrivals {
    counted: heapless::Vec<(Address, Instant), ADDRESSES_COUNTED>,
}

impl Arrivals {
    /// A connection comes. Whether it may. This machine's own always may.
    pub fn allows(&mut self, address: Address, now: Instant) -> bool {
        if address.is_local() {
            return true;
        }
        let known = self.counted.iter_mut().find(|(of, _)| *of == address);
        let Some((_, empty)) = known else {
            let new = (address, now + INTERVAL);
            if let Err(new) = self.counted.push(new) {
                let quietest = self.counted.iter_mut().min_by_key(|(_, empty)| *empty);
                *quietest.expect("it is full") = new;
            }
            return true;
        };
        let next = (*empty).max(now) + INTERVAL;
        if next > now + INTERVAL * CONNECTS_AT_ONCE {
            return false;
        }
        *empty = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> Address {
        Address::V4(std::net::Ipv4Addr::from_bits(n))
    }

    #[test]
    fn so_many_at_once_and_so_many_a_second() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        let mut allowed = |address, now, tries| {
            (0..tries).filter(|_| arrivals.allows(address, now)).count() as u32
        };
        assert_eq!(allowed(address(1), now, 1000), CONNECTS_AT_ONCE);
        assert_eq!(allowed(address(2), now, 1), 1, "others go on");
        let second = Duration::from_secs(1);
        assert_eq!(allowed(address(1), now + second, 1000), CONNECTS_PER_SECOND);
        assert_eq!(
            allowed(address(1), now + 60 * second, 1000),
            CONNECTS_AT_ONCE
        );
        assert_eq!(allowed(Address::Local, now, 10_000), 10_000);
    }

    #[test]
    fn more_addresses_than_are_counted_take_no_more_memory() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        while arrivals.allows(address(0), now) {}
        // Those who come once make way for each other, not the one that floods.
        for n in 1..10_000 {
            assert!(arrivals.allows(address(n), now), "{n}");
        }
        assert!(!arrivals.allows(address(0), now));
    }
}
