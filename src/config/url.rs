//! URLs of cameras that speak HTTP (RFC 3986), as far as a client of them needs it.

use std::fmt;

use super::address::Remote;
use super::secret::Login;
use crate::limits::{REDIRECTS, URL};

/// `http://[user[:password]@]host[:port][/path][?query]`, or `https://`. As text it is fit for the log: without login and query, as many
/// cameras take their password there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// https.
    pub tls: bool,
    /// Where to connect to.
    pub server: Remote,
    /// Path and query, beginning with `/`.
    pub target: String,
    /// What stands in front of the @.
    pub login: Option<Login>,
}

/// The port of a URL without one.
fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

impl Url {
    /// The error says what is wrong and shows nothing of a password.
    pub(super) fn parse(text: &str) -> Result<Url, String> {
        let (tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, _)) => {
                let scheme: String = scheme.chars().take(16).collect();
                return Err(format!("{scheme:?} is another protocol"));
            }
            None if text.is_empty() => return Err("it is empty".to_owned()),
            None => return Err("there is no http:// in front".to_owned()),
        };
        if text.len() > URL {
            return Err(format!("it has more than {URL} bytes"));
        }
        if text.contains(' ') {
            return Err("a space is written as %20".to_owned());
        }
        // A line end would otherwise become a part of the request.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "only visible ASCII characters may stand in a URL, others as %XX".to_owned(),
            );
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if !authority.contains('@') && rest.contains('@') && authority.contains(':') {
            let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
            if port.parse::<u16>().is_err() {
                return Err(
                    "within a user name or a password, / is %2F, ? is %3F, # is %23".to_owned(),
                );
            }
        }
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(Login::from_url(login)?), host),
            None => (None, authority),
        };
        Ok(Url {
            tls,
            server: server(host, tls)?,
            target: target_of(target),
            login,
        })
    }

    /// The value of the Host field (RFC 9110, 7.2).
    pub fn host_field(&self) -> String {
        let Remote { host, port } = &self.server;
        // A zone ("%eth0") means something on this machine only (RFC 6874, 3).
        let host = host.split('%').next().unwrap_or_default();
        let brackets = if host.contains(':') {
            ["[", "]"]
        } else {
            [""; 2]
        };
        let [open, close] = brackets;
        match *port {
            port if port == default_port(self.tls) => format!("{open}{host}{close}"),
            port => format!("{open}{host}{close}:{port}"),
        }
    }

    /// Where an answer with this status and Location leads, after `followed` redirections. The error says why nowhere, as what
    /// the URL does.
    pub(crate) fn redirect(
        &self,
        status: u16,
        location: Option<&[u8]>,
        followed: u8,
    ) -> Result<Url, String> {
        let Some(location) = location else {
            return Err(format!("redirects ({status}) without saying where to"));
        };
        if followed == REDIRECTS {
            return Err(format!(
                "was reached by {REDIRECTS} redirections, and redirects again ({status})"
            ));
        }
        let location = std::str::from_utf8(location).unwrap_or("");
        self.follow(location)
            .map_err(|why| format!("redirects ({status}) {why}"))
    }

    /// Where a redirection from here leads (RFC 9110, 10.2.2; RFC 3986, 5.2), if that is on the same host: camd is to show the
    /// camera that the configuration names. The error says why it is not followed, as a part of a sentence.
    fn follow(&self, location: &str) -> Result<Url, String> {
        let quoted = || format!("{:?}", shown(location));
        if location.is_empty() || !location.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("to what is no URL".to_owned());
        }
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let scheme_end = location.find(':').filter(|&at| {
            let scheme = &location[..at];
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c))
        });
        let own = if self.tls { "https" } else { "http" };
        let other = if self.tls { "http" } else { "https" };
        let (server, target) = match scheme_end {
            // What was to be encrypted stays so; and who asks for it without gets it as the configuration says.
            Some(at) if location[..at].eq_ignore_ascii_case(other) => {
                return Err(format!(
                    "to {}, by {other}; if it is right, write that URL there",
                    quoted()
                ));
            }
            Some(at) if !location[..at].eq_ignore_ascii_case(own) => {
                return Err(format!("to {}, which is another protocol", quoted()));
            }
            Some(at) => {
                let rest = location[at + 1..].strip_prefix("//").unwrap_or_default();
                self.elsewhere(rest, quoted)?
            }
            None => match location.strip_prefix("//") {
                Some(rest) => self.elsewhere(rest, quoted)?,
                None if location.starts_with('/') => (self.server.clone(), target_of(location)),
                None if location.starts_with('?') => {
                    (self.server.clone(), target_of(&format!("{path}{location}")))
                }
                None if location.starts_with('#') => {
                    (self.server.clone(), target_of(&format!("{path}?{query}")))
                }
                None => {
                    let folder = &path[..=path.rfind('/').unwrap_or(0)];
                    (
                        self.server.clone(),
                        target_of(&format!("{folder}{location}")),
                    )
                }
            },
        };
        if server.port != self.server.port && self.login.is_some() {
            return Err(format!(
                "to {}: another port, for which the login was not meant; if it is right, write that URL there",
                quoted()
            ));
        }
        if target.len() > URL {
            return Err("to a URL that is too long".to_owned());
        }
        Ok(Url {
            tls: self.tls,
            server,
            target,
            login: self.login.clone(),
        })
    }

    /// `host:port/path` of another URL, if the host is this one.
    fn elsewhere(
        &self,
        rest: &str,
        quoted: impl Fn() -> String,
    ) -> Result<(Remote, String), String> {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let mut server =
            server(host, self.tls).map_err(|_| format!("to {}, which is no URL", quoted()))?;
        let own = self.server.host.split('%').next().unwrap_or_default();
        if !server.host.eq_ignore_ascii_case(own) && server.host != self.server.host {
            return Err(format!(
                "to {}: another host; if it is right, write that URL there",
                quoted()
            ));
        }
        server.host = self.server.host.clone();
        Ok((server, target_of(target)))
    }
}

/// See [`Url`].
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Remote { host, port } = &self.server;
        let scheme = if self.tls { "https" } else { "http" };
        match self.server.port == default_port(self.tls) {
            true if host.contains(':') => write!(f, "{scheme}://[{host}]")?,
            true => write!(f, "{scheme}://{host}")?,
            false if host.contains(':') => write!(f, "{scheme}://[{host}]:{port}")?,
            false => write!(f, "{scheme}://{host}:{port}")?,
        }
        match self.target.split_once('?') {
            Some((path, _)) => write!(f, "{path}?…"),
            None => f.write_str(&self.target),
        }
    }
}

/// `host`, `host:port`, `[IPv6]` or `[IPv6]:port`.
fn server(text: &str, tls: bool) -> Result<Remote, String> {
    // The % of a zone is written as %25 (RFC 6874, 2), or by most people as it is.
    let text = text.replacen("%25", "%", 1);
    let (host, port) = match text.rfind(':') {
        Some(at) if !text[at..].contains(']') => (&text[..at], &text[at + 1..]),
        _ => (text.as_str(), ""),
    };
    if host.is_empty() {
        return Err("it names no host".to_owned());
    }
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address stands in brackets, as in http://[::1]:8080/".to_owned());
    }
    let port = match port {
        "" => default_port(tls),
        digits => match digits.parse() {
            Ok(port) if port != 0 && digits.bytes().all(|c| c.is_ascii_digit()) => port,
            _ => return Err("the port is not a number from 1 to 65535".to_owned()),
        },
    };
    Remote::parse(&format!("{host}:{port}"))
        .ok_or_else(|| "the host is neither a name nor an IP address".to_owned())
}

/// Without fragment, which is never sent, and without dot segments (RFC 3986, 5.2.4).
fn target_of(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let (path, query) = match text.find('?') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let mut segments: Vec<&str> = Vec::new();
    let mut all = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = all.next() {
        let is_last = all.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop();
                }
                if is_last {
                    segments.push("");
                }
            }
            segment => segments.push(segment),
        }
    }
    format!("/{}{query}", segments.join("/"))
}

/// A URL of a stranger's for the log: short, without login and query.
fn shown(text: &str) -> String {
    const SHOWN: usize = 80;
    let (text, query) = match text.find(['?', '#']) {
        Some(at) => (&text[..at], "?…"),
        None => (text, ""),
    };
    let text = match (text.find("//"), text.rfind('@')) {
        (Some(start), Some(end)) if start + 2 <= end => {
            format!("{}…{}", &text[..start + 2], &text[end..])
        }
        _ => text.to_owned(),
    };
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.push_str(query);
    shown
}

/// A URL that is no good, or of another scheme, for the eyes of all who read errors: with `USER:PASSWORD` in place of what
/// stands in front of the @.
pub(super) fn without_login(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    match text.rfind('@').filter(|&end| end >= start) {
        Some(end) => format!("{}USER:PASSWORD{}", &text[..start], &text[end..]),
        None => text.to_owned(),
    }
}

/// Whether the scheme is the right one, whatever else is wrong.
pub(super) fn is_http(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let known = ["http", "https"];
    scheme.is_some_and(|scheme| known.iter().any(|it| scheme.eq_ignore_ascii_case(it)))
}

/// What somebody may have meant who wrote this, without a scheme.
pub(super) fn way_out(text: &str) -> Option<String> {
    let rest = text.trim_start_matches('/');
    let whole = format!("http://{rest}");
    let is_good = !rest.is_empty() && Url::parse(&whole).is_ok();
    is_good.then(|| format!("write {:?}", without_login(&whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_connected_to_asked_for_and_shown() {
        for (text, host, port, target, shown) in [
            ("http://cam", "cam", 80, "/", "http://cam/"),
            ("HTTP://cam:/x", "cam", 80, "/x", "http://cam/x"),
            (
                "http://10.0.0.7:81/stream#top",
                "10.0.0.7",
                81,
                "/stream",
                "http://10.0.0.7:81/stream",
            ),
            (
                "http://cam:8080?action=stream",
                "cam",
                8080,
                "/?action=stream",
                "http://cam:8080/?…",
            ),
            (
                "http://me:s3cret@cam/v.cgi?user=me&pwd=s3cret",
                "cam",
                80,
                "/v.cgi?user=me&pwd=s3cret",
                "http://cam/v.cgi?…",
            ),
            ("http://me:s3c@ret@cam/", "cam", 80, "/", "http://cam/"),
            (
                "http://[::1]:8080/a",
                "::1",
                8080,
                "/a",
                "http://[::1]:8080/a",
            ),
            (
                "http://[fe80::1%25eth0]/",
                "fe80::1%eth0",
                80,
                "/",
                "http://[fe80::1%eth0]/",
            ),
            ("http://cam/a/../b/./c", "cam", 80, "/b/c", "http://cam/b/c"),
        ] {
            let url = url(text);
            assert_eq!((url.server.host.as_str(), url.server.port), (host, port));
            assert_eq!(url.target, target, "{text}");
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.login.is_some(), text.contains("me:"));
            assert!(!format!("{:?}", url.login).contains("s3c"));
        }
        assert_eq!(url("http://cam/").host_field(), "cam");
        assert_eq!(url("http://cam:8080/").host_field(), "cam:8080");
        assert_eq!(
            url("http://[fe80::1%eth0]:8080/").host_field(),
            "[fe80::1]:8080"
        );
    }

    #[test]
    fn what_is_no_url_says_why() {
        for (text, why) in [
            ("", "empty"),
            ("cam/stream", "no http://"),
            ("rtsp://cam/s3cret", "another protocol"),
            ("http://", "no host"),
            ("http:///x", "no host"),
            ("http://:80/", "no host"),
            ("http://me:s3cret@", "no host"),
            ("http://me:s3c/ret@cam/", "%2F"),
            ("http://cam:0/", "1 to 65535"),
            ("http://cam:65536/", "1 to 65535"),
            ("http://cam:+1/", "1 to 65535"),
            ("http://::1/", "brackets"),
            ("http://[::1/", "neither a name"),
            ("http://[cam]/", "neither a name"),
            ("http://c%41m/", "neither a name"),
            ("http://cam/a b", "%20"),
            ("http://cam/\r\nX: y", "%20"),
            ("http://cam/\r\nX:y", "visible ASCII"),
            ("http://cam/ü", "visible ASCII"),
            (
                &format!("http://cam/{}", "x".repeat(2048)),
                "more than 2048",
            ),
        ] {
            let error = Url::parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("s3c"), "{error}");
        }
    }

    #[test]
    fn redirections_stay_on_the_host() {
        let from = url("http://Cam:8080/a/b?c");
        for (location, target) in [
            ("/x?y", "http://Cam:8080/x?y"),
            ("x", "http://Cam:8080/a/x"),
            ("../x", "http://Cam:8080/x"),
            ("?z", "http://Cam:8080/a/b?z"),
            ("#z", "http://Cam:8080/a/b?c"),
            ("http://cam:8080/x#z", "http://Cam:8080/x"),
            ("http://CAM/x", "http://Cam:80/x"),
            ("//cam:81", "http://Cam:81/"),
            ("HTTP://cam:8080?q", "http://Cam:8080/?q"),
            ("x?http://other/", "http://Cam:8080/a/x?http://other/"),
        ] {
            let to = from.follow(location).expect(location);
            let there = format!("http://{}{}", to.server, to.target);
            assert_eq!(there, target, "{location}");
        }
        for (location, why) in [
            (
                "http://other/x?key=s3cret",
                "to \"http://other/x?…\": another host",
            ),
            (
                "http://me:s3cret@other/",
                "to \"http://…@other/\": another host",
            ),
            ("//other:8080/", "another host"),
            ("http://cam.other:8080/", "another host"),
            ("https://cam/", "by https; if it is right, write that URL"),
            ("rtsp://cam/", "another protocol"),
            ("http:/x", "no URL"),
            ("http://cam:x/", "no URL"),
            ("", "no URL"),
            ("/\u{7f}", "no URL"),
        ] {
            let error = from.follow(location).expect_err(location);
            assert!(error.contains(why), "{location}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        // A login is for the server that it was written for.
        let from = url("http://me:s3cret@cam:8080/");
        assert_eq!(from.follow("/x").unwrap().login, from.login);
        let error = from.follow("http://cam/x").unwrap_err();
        assert!(error.contains("another port"), "{error}");
    }
}
