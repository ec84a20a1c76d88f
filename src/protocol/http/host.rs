//! Under which name this machine is asked: DNS rebinding.
//!
//! A page on the web can have its own name resolved to an address in its reader's network, and then read from there what it
//! likes: to the browser it is one and the same site. What it cannot change is the Host field, which has that name. So only
//! those names are answered that nobody on the web can have resolved to somewhere else: addresses, localhost, names
//! without a dot, this machine's own name in domains that belong to its network, and what the configuration adds.
//!
//! Who has a name on the web has a domain, so there is a dot in it (the top of the tree has no addresses: RFC 7085). One
//! without is from a file of names, from the network's own name server, or from its search domain.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::origin::Authority;

/// Whether a Host field names this machine. `names`: in lower case.
pub(super) fn is_own(host: &str, names: &[String]) -> bool {
    // What has no name at all was sent by no browser.
    let Some(Authority { name, .. }) = Authority::parse(host) else {
        return host.is_empty();
    };
    if let Some(inner) = name.strip_prefix('[') {
        let address = inner.strip_suffix(']').unwrap_or_default();
        let address = address.split('%').next().unwrap_or_default();
        return address.parse::<Ipv6Addr>().is_ok();
    }
    name.parse::<Ipv4Addr>().is_ok()
        || is_label(name)
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Whether it is a single name, localhost for one. None begins with a digit here: that is an address in an odd notation.
fn is_label(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_none_of_ours() {
        let names = ["shed", "shed.local", "cam.example.org"].map(str::to_owned);
        for own in [
            "",
            "192.168.1.20",
            "192.168.1.20:8080",
            "[fe80::1]:8080",
            "[fe80::1%25eth0]",
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "shed",
            "box",
            "printer_2:8080",
            "Shed.Local:80",
            "shed.local.",
            "cam.example.org:443",
        ] {
            assert!(is_own(own, &names), "{own}");
        }
        for other in [
            "evil.example",
            "shed.evil.example",
            "evil.shed.local",
            "shed.local.evil.example",
            "192.168.1.20.evil.example",
            "192.168.1.20.nip.io:8080",
            "127.1",
            "2130706433",
            "0x7f000001",
            "localhost.evil.example",
            "evil.localhost",
            "[evil]",
            "[::1",
            "shed:99999",
            "a b",
            "shed@evil",
            ":80",
            "shed,evil",
            "xn--shd-bma.local",
        ] {
            assert!(!is_own(other, &names), "{other}");
        }
    }
}
