//! Addresses, as far as clients share places by them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What counts as one address: whoever has one of IPv6 has all of its network of 64 bits, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Address {
    /// Of this machine: a loopback address, or a Unix socket. Behind it can be all the clients of a proxy, so that it has
    /// no share.
    #[default]
    Local,
    /// Of IPv4, or of IPv4 within IPv6 (`::ffff:192.0.2.1`).
    V4(Ipv4Addr),
    /// The first 64 bits of one of IPv6.
    V6(u64),
}

impl Address {
    /// `None`: the peer of a Unix socket.
    pub fn of(ip: Option<IpAddr>) -> Self {
        match ip.map(|ip| ip.to_canonical()) {
            None => Address::Local,
            Some(ip) if ip.is_loopback() => Address::Local,
            Some(IpAddr::V4(ip)) => Address::V4(ip),
            Some(IpAddr::V6(ip)) => Address::V6((ip.to_bits() >> 64) as u64),
        }
    }

    /// Of this machine.
    pub fn is_local(self) -> bool {
        self == Address::Local
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Local => f.write_str("this machine"),
            Address::V4(ip) => ip.fmt(f),
            Address::V6(network) => {
                write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*network) << 64))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_one_address() {
        let of = |text: &str| Address::of(Some(text.parse().unwrap()));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        // The same bits in another family.
        assert_ne!(of("0.0.0.1"), of("0:0:0:1::"));
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(local), Address::Local, "{local}");
        }
        assert_eq!(Address::of(None), Address::Local);
        assert_eq!(of("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }
}
