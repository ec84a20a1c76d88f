//! How fast addresses make connections: one that makes too many costs little more than their acceptance.

use std::time::{Duration, Instant};

use crate::limits::{ADDRESSES_COUNTED, CONNECTS_AT_ONCE, CONNECTS_PER_SECOND};
use crate::measure::bucket::Buckets;
use crate::system::household::Household;

/// From one connection to the next, at the rate that is allowed.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / CONNECTS_PER_SECOND as u64);

/// One bucket for each address that has made connections lately.
#[derive(Debug)]
pub struct Arrivals(Buckets<Household, ADDRESSES_COUNTED>);

impl Default for Arrivals {
    /// None yet.
    fn default() -> Self {
        Arrivals(Buckets::new(CONNECTS_AT_ONCE, INTERVAL))
    }
}

impl Arrivals {
    /// A connection comes. Whether it may. This machine's own always may.
    pub fn allows(&mut self, address: Household, now: Instant) -> bool {
        address.is_here() || self.0.take(address, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> Household {
        Household::V4(std::net::Ipv4Addr::from_bits(n))
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
        assert_eq!(allowed(Household::Here, now, 10_000), 10_000);
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
