//! Addresses of clients: which network they are in, and whom they may stand for.

use std::fmt;
use std::net::IpAddr;

/// A network as CIDR has it (RFC 4632, RFC 4291): an address, and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// `192.168.0.0/16`, `fd00::/8`, or one address. `None`: it is no such text, or has bits behind the prefix: whoever
    /// writes 192.168.1.20/16 may have meant another network.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            // u8's own parser would take a sign.
            Some(bits) if !bits.bytes().all(|b| b.is_ascii_digit()) => return None,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= all)?,
            None => all,
        };
        let network = Network { address, bits };
        (first(address, bits) == address).then_some(network)
    }

    /// Whether an address is in it. An IPv4 address is the same, in IPv6's clothes or without.
    pub fn contains(&self, address: IpAddr) -> bool {
        let Network {
            address: first_of,
            bits,
        } = *self;
        let (address, own) = (address.to_canonical(), first_of.to_canonical());
        match (own, first_of) {
            // ::ffff:0:0/96 and the like: IPv4's networks as IPv6 writes them.
            (IpAddr::V4(_), IpAddr::V6(_)) if bits >= 96 => {
                address.is_ipv4() && first(address, bits - 96) == own
            }
            _ => address.is_ipv4() == first_of.is_ipv4() && first(address, bits) == first_of,
        }
    }
}

/// As it is written in the file.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The first address of a network.
fn first(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        for (network, inside, outside) in [
            ("192.168.0.0/16", "192.168.255.255", "192.169.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "11.0.0.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "1.2.3.4"),
            ("fd00::/8", "fdff:ffff::1", "fc00::1"),
            ("fe80::/10", "febf::1", "fec0::1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("::1", "::1", "::2"),
            ("203.0.113.0/25", "203.0.113.127", "203.0.113.128"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network}");
            assert!(!network.contains(outside.parse().unwrap()), "{network}");
        }
        for wrong in [
            "",
            "/8",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.1/8",
            "::/129",
            "fd00::1/64",
            "10.0.0",
            "localhost",
            "10.0.0.0/8/8",
            "[::1]",
            "fe80::1%eth0",
            " 10.0.0.0/8",
        ] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
