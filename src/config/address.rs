//! Addresses: where a listener listens, where camd connects to, and which web pages may read pictures.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::limits::{BASE_PATH, HOST, NEIGHBOUR_URL, ORIGIN};
use crate::protocol::call::Name;

/// `sockaddr_un.sun_path` has 108 bytes (unix(7)), one of them for the terminating NUL.
const UNIX_PATH_MAX: usize = 107;

/// Where a listener takes connections from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// Port 0 lets the kernel choose one.
    Tcp(SocketAddr),
    /// `unix:/absolute/path`
    Unix(PathBuf),
    /// `relay:host:port`. call: does not listen, but is a user of that relay.
    Relay(Remote),
}

impl Bind {
    /// `IPv4:port`, `[IPv6]:port`, `unix:/absolute/path` or `relay:host:port`. Host names to listen on are not looked up:
    /// at boot the resolver may not be there yet, and the answer may change.
    pub(super) fn parse(text: &str) -> Option<Bind> {
        if let Some(remote) = text.strip_prefix("relay:") {
            return Remote::parse(remote).map(Bind::Relay);
        }
        match text.strip_prefix("unix:") {
            None => text.parse().ok().map(Bind::Tcp),
            Some(path) => unix_path(path).map(Bind::Unix),
        }
    }

    /// What somebody may have meant who wrote this, which is no such address.
    pub(super) fn way_out(text: &str) -> Option<String> {
        let plain = text.trim();
        if plain.starts_with("relay:") {
            return None;
        }
        let schemes = ["http://", "https://", "tcp://", "tcp:"];
        let scheme = schemes.iter().find_map(|scheme| plain.strip_prefix(scheme));
        let plain = scheme.map_or(plain, |rest| rest.trim_end_matches('/'));
        let everywhere = |port: &str| {
            format!(
                "write \"0.0.0.0:{port}\" for every IPv4 address of this board, \"127.0.0.1:{port}\" for programs on it alone"
            )
        };
        if Bind::parse(plain).is_some() {
            return Some(format!("write {plain:?}"));
        }
        let path = plain.strip_prefix("unix:").unwrap_or(plain);
        if path != plain || path.starts_with('/') {
            let path = format!("unix:/{}", path.trim_start_matches('/'));
            return Bind::parse(&path).map(|_| format!("write {path:?}"));
        }
        if let Ok(ip) = plain.trim_matches(['[', ']']).parse::<IpAddr>()
            && (ip.is_ipv4() || plain.starts_with('[') || !ends_in_port(plain))
        {
            return Some(format!("write \"{}\"", SocketAddr::new(ip, 8080)));
        }
        let (host, port) = match plain.rsplit_once(':') {
            Some(divided) => divided,
            None if plain.bytes().all(|c| c.is_ascii_digit()) => ("", plain),
            None => (plain, "8080"),
        };
        let port_ok = port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok();
        if host.parse::<Ipv6Addr>().is_ok() && port_ok {
            return Some(format!("write \"[{host}]:{port}\""));
        }
        if !port_ok {
            let is_port = host.parse::<IpAddr>().is_ok() || is_host_name(host);
            return is_port.then(|| "a port is a number from 0 to 65535".to_owned());
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Some(format!("write \"127.0.0.1:{port}\""));
        }
        if host.is_empty() || host == "*" {
            return Some(everywhere(port));
        }
        // Numbers alone are a slip in an address.
        let is_name = is_host_name(host) && host.contains(|c: char| c.is_ascii_alphabetic());
        is_name.then(|| format!("names are not looked up: {}", everywhere(port)))
    }

    /// Whether the kernel refuses to listen on both: the same port of the same address, or of an address and of a
    /// wildcard that covers it, `SO_REUSEADDR` or not (socket(7)). `[::]` covers IPv4 as well (ipv6(7), bindv6only).
    pub(super) fn collides(&self, other: &Bind) -> bool {
        match (self, other) {
            (Bind::Unix(a), Bind::Unix(b)) => a == b,
            (Bind::Tcp(a), Bind::Tcp(b)) => collide(a, b),
            _ => false,
        }
    }
}

/// As it is written in the file.
impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp(address) => address.fmt(f),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
            Bind::Relay(remote) => write!(f, "relay:{remote}"),
        }
    }
}

/// That of a Unix socket.
fn unix_path(path: &str) -> Option<PathBuf> {
    let fits = path.len() <= UNIX_PATH_MAX && !path.contains('\0');
    let named = Path::new(path).is_absolute() && !path.ends_with('/');
    (fits && named).then(|| PathBuf::from(path))
}

fn collide(a: &SocketAddr, b: &SocketAddr) -> bool {
    let covers = |wildcard: IpAddr, ip: IpAddr| {
        wildcard.is_unspecified() && (wildcard.is_ipv6() || ip.is_ipv4())
    };
    let same_port = a.port() == b.port() && a.port() != 0;
    same_port && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

/// Whether this is a value for Access-Control-Allow-Origin: `*`, or one origin as browsers serialise it,
/// `scheme://host[:port]` (RFC 6454, 6.2). A path or a final slash would never equal what a browser compares it with.
pub(super) fn is_allow_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let (host, port) = match authority.rfind(':') {
        // Colons inside brackets belong to an IPv6 address.
        Some(i) if !authority[i..].contains(']') => (&authority[..i], Some(&authority[i + 1..])),
        _ => (authority, None),
    };
    let host_ok = match host.strip_prefix('[') {
        Some(v6) => v6
            .strip_suffix(']')
            .is_some_and(|v6| v6.parse::<Ipv6Addr>().is_ok()),
        None => is_host_name(host),
    };
    let port_ok = port.is_none_or(|port| {
        port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    text.len() <= ORIGIN && scheme_ok && host_ok && port_ok
}

/// Whether the page can link there: a URL of HTTP, or, as a board has a different name for each of its viewers, what differs
/// from the page's own: `:port` with or without a path, or a path from the root. As RFC 3986 writes it, so with `%` for
/// all that is not ASCII.
pub(super) fn is_neighbour_url(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&c);
    if text.len() > NEIGHBOUR_URL || !text.bytes().all(plain) {
        return false;
    }
    if let Some(rest) = text.strip_prefix(':') {
        let (port, _) = rest.split_once('/').unwrap_or((rest, ""));
        return port.bytes().all(|c| c.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0);
    }
    // With two slashes it would be another host.
    if text.starts_with('/') {
        return !text.starts_with("//");
    }
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['))
}

/// A path without a slash at its end, but for "/" itself: of characters that nobody escapes (RFC 3986, 2.3).
pub(super) fn base_path(text: &str) -> Option<String> {
    let path = text.strip_suffix('/').unwrap_or(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let is_segment = |segment: &str| {
        !segment.is_empty() && segment != "." && segment != ".." && segment.chars().all(plain)
    };
    match path.strip_prefix('/') {
        None => (text == "/").then(|| text.to_owned()),
        Some(inner) => {
            (path.len() <= BASE_PATH && inner.split('/').all(is_segment)).then(|| path.to_owned())
        }
    }
}

/// A host name as browsers write it: in lower case, without the dot that may end it. International names are written in ASCII
/// (`xn--...`). `None`: it is none, or has a port.
pub(super) fn host(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    let fits = name.len() <= HOST && name.split('.').all(is_label);
    fits.then(|| name.to_ascii_lowercase())
}

/// Whether the last part of an IPv6 address without brackets was meant to be a port.
fn ends_in_port(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    port.len() > 2 && port.parse::<u16>().is_ok() && host.parse::<Ipv6Addr>().is_ok()
}

/// Also that of an IPv4 address.
fn is_host_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

/// Somewhere to connect to. The name is looked up each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// A host name or an IP address, an IPv6 one without its brackets.
    pub host: String,
    /// Not 0.
    pub port: u16,
}

impl Remote {
    /// `host:port` or `[IPv6]:port`, where the address may have a zone (`[fe80::1%eth0]:port`).
    pub(super) fn parse(text: &str) -> Option<Remote> {
        let (host, port) = text.rsplit_once(':')?;
        let (host, host_ok) = match host.strip_prefix('[') {
            Some(v6) => {
                let v6 = v6.strip_suffix(']')?;
                let (address, zone) = v6.split_once('%').unwrap_or((v6, "0"));
                let address_ok = address.parse::<Ipv6Addr>().is_ok();
                (v6, address_ok && is_host_name(zone))
            }
            None => (host, is_host_name(host)),
        };
        let digits = port.bytes().all(|c| c.is_ascii_digit());
        let port = port.parse().ok().filter(|&port| digits && port != 0)?;
        host_ok.then(|| Remote {
            host: host.to_owned(),
            port,
        })
    }
}

/// As it is written in the file.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Remote { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// A server to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and a port.
    Tcp(Remote),
    /// `unix:/absolute/path`
    Unix(PathBuf),
}

impl Address {
    pub(super) fn parse(text: &str) -> Option<Address> {
        match text.strip_prefix("unix:") {
            None => Remote::parse(text).map(Address::Tcp),
            Some(path) => unix_path(path).map(Address::Unix),
        }
    }

    /// Whether a client that connects to it finds a listener that is bound so, as far as no name has to be looked up.
    pub(super) fn is_served_by(&self, bind: &Bind) -> bool {
        match (self, bind) {
            (Address::Unix(path), Bind::Unix(bound)) => path == bound,
            (Address::Tcp(Remote { host, port }), Bind::Tcp(bound)) => {
                let ip = match host.as_str() {
                    "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                    host => host.parse().ok(),
                };
                let covers = |ip: IpAddr| {
                    ip == bound.ip() || bound.ip().is_unspecified() && ip.is_loopback()
                };
                *port == bound.port() && ip.is_some_and(covers)
            }
            _ => false,
        }
    }
}

impl From<Remote> for Address {
    fn from(remote: Remote) -> Address {
        Address::Tcp(remote)
    }
}

/// As it is written in the file.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(remote) => remote.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Somebody at a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// The user to call.
    pub user: Name,
    /// Where that user is logged in.
    pub relay: Remote,
}

impl Dial {
    /// `user@host:port`. The last `@` divides: names may have some.
    pub(super) fn parse(text: &str) -> Option<Dial> {
        let (user, relay) = text.rsplit_once('@')?;
        Some(Dial {
            user: Name::new(user)?,
            relay: Remote::parse(relay)?,
        })
    }
}

/// As it is written in the file.
impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.relay)
    }
}
