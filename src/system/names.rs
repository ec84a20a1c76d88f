//! What this machine is called.

use std::path::Path;

use super::files::{self, Takes};
use crate::limits::NAMED_FILE;

/// Where the DHCP client, or whoever configures the network, leaves the domain (resolv.conf(5)).
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Domains that home routers give their machines, and that exist in no public name server: mDNS (RFC 6762), RFC 8375, ICANN's
/// reservation of 2024, and what many routers do anyway.
const HOME: [&str; 4] = ["local", "lan", "home.arpa", "internal"];

/// Names under which this machine may be known in its own network, in lower case: its host name, the first label of that, and
/// that in the domains of homes and in the one that its network has.
pub fn own_names() -> Vec<String> {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let resolv_conf = files::read_text(Path::new(RESOLV_CONF), NAMED_FILE, Takes::Files);
    names(&host.to_string_lossy(), &resolv_conf.unwrap_or_default())
}

fn names(host: &str, resolv_conf: &str) -> Vec<String> {
    let host = host.trim_matches('.').to_ascii_lowercase();
    let short = host.split('.').next().unwrap_or_default().to_owned();
    if short.is_empty() {
        return Vec::new();
    }
    let lines = resolv_conf.lines().map(str::split_whitespace);
    let domains = lines.filter_map(|mut words| match words.next() {
        Some("search" | "domain") => Some(words),
        _ => None,
    });
    let domains = domains
        .flatten()
        .map(|domain| domain.trim_matches('.').to_ascii_lowercase())
        .filter(|domain| !domain.is_empty());
    let mut names = vec![host, short.clone()];
    let all = HOME.into_iter().map(str::to_owned).chain(domains);
    names.extend(all.map(|domain| format!("{short}.{domain}")));
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_routers_names() {
        let resolv_conf = "# by dhcpcd\nnameserver 192.168.178.1\nsearch fritz.box Example.ORG.\ndomain lan\noptions search\n";
        let expected = [
            "shed",
            "shed.attic",
            "shed.example.org",
            "shed.fritz.box",
            "shed.home.arpa",
            "shed.internal",
            "shed.lan",
            "shed.local",
        ];
        assert_eq!(names("Shed.attic", resolv_conf), expected);
        assert_eq!(names("shed", "").len(), 5);
        assert_eq!(names("", resolv_conf), [""; 0]);
        assert!(!own_names().is_empty());
    }
}
