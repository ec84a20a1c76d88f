//! Where peers are, as far as that tells them apart: for their shares, their guesses, and what the log says of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who counts as one. An IPv4 address is the same within IPv6 (`::ffff:192.0.2.1`). A host with one address of IPv6 has all
/// 2^64 of its network (RFC 4291, 2.5.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Household {
    /// A program on this machine, by a Unix socket; or something else without an address.
    #[default]
    Here,
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl Household {
    /// `None`: the peer of a Unix socket.
    pub fn of(address: Option<IpAddr>) -> Household {
        match address.map(|address| address.to_canonical()) {
            None => Household::Here,
            Some(IpAddr::V4(address)) => Household::V4(address),
            Some(IpAddr::V6(address)) => Household::V6((address.to_bits() >> 64) as u64),
        }
    }

    /// As [`Household::of`], for what is shared out among addresses: loopback ones are [`Household::Here`], too. Behind them can
    /// be all the clients of a proxy, so that they have no share.
    pub fn sharing(address: Option<IpAddr>) -> Household {
        Household::of(address.filter(|address| !address.to_canonical().is_loopback()))
    }

    /// Of a peer as it is shown: see [`address_of`].
    pub fn of_peer(peer: &str) -> Household {
        Household::of(address_of(peer))
    }

    /// This machine.
    pub fn is_here(self) -> bool {
        self == Household::Here
    }
}

impl fmt::Display for Household {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Household::Here => f.write_str("this machine"),
            Household::V4(address) => address.fmt(f),
            Household::V6(network) => {
                write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*network) << 64))
            }
        }
    }
}

/// The address of a peer as it is shown: `192.0.2.1:4711`, `2001:db8::1:4711`, `[2001:db8::1]:4711`; `None`: it has none, as
/// behind a Unix socket (`unix`).
pub fn address_of(peer: &str) -> Option<IpAddr> {
    let (host, _port) = peer.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_one_address() {
        let of = |text: &str| Household::sharing(Some(text.parse().unwrap()));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        // The same bits in another family.
        assert_ne!(of("0.0.0.1"), of("0:0:0:1::"));
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(local), Household::Here, "{local}");
        }
        assert_eq!(Household::sharing(None), Household::Here);
        assert_eq!(of("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn a_household_is_one_place() {
        let place = |address: &str| Household::of(Some(address.parse().unwrap()));
        assert_eq!(place("2001:db8::1"), place("2001:db8::ffff:1"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:0:1::1"));
        assert_eq!(place("::ffff:10.0.0.1"), place("10.0.0.1"));
        assert_ne!(place("10.0.0.1"), place("10.0.0.2"));
        assert_ne!(Household::of(None), place("127.0.0.1"));
    }

    #[test]
    fn an_address_is_a_host() {
        for (peer, shown) in [
            ("192.0.2.7:4711", "192.0.2.7"),
            ("::ffff:192.0.2.7:80", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6:80", "2001:db8:1:2::/64"),
            ("[2001:db8:1:2:ffff::]:80", "2001:db8:1:2::/64"),
            ("::1:80", "::/64"),
            ("unix", "this machine"),
            ("", "this machine"),
        ] {
            assert_eq!(Household::of_peer(peer).to_string(), shown, "{peer}");
        }
    }
}
