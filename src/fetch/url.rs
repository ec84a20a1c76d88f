//! The three kinds of URL, as far as a camera needs them (RFC 3986 without user names, queries only for HTTP).

use super::{FetchError, one_line};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Pull,
    Push,
    Http,
}

impl Scheme {
    /// 80 for HTTP as the standard says, though camd's own listener is at 8080 unless configured otherwise; the other
    /// two are camd's.
    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Push => 8081,
            Scheme::Pull => 8082,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: Scheme,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// HTTP: path and query, beginning with `/`.
    pub(super) target: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Url, FetchError> {
        let wrong = |why: &str| {
            FetchError::Url(format!(
                "{}: {why}; wanted is pull://host:port, push://host:port or http://host:port/path",
                one_line(text.as_bytes())
            ))
        };
        // A space or a line end would otherwise become a part of the request.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(
                "only visible ASCII characters may stand in a URL, others as %XX",
            ));
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| wrong("no scheme:// in front"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "pull" => Scheme::Pull,
            "push" => Scheme::Push,
            "http" => Scheme::Http,
            "https" => return Err(wrong("TLS is not spoken here")),
            _ => return Err(wrong("unknown scheme")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(wrong("user names and passwords are not supported"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest
                    .split_once(']')
                    .ok_or_else(|| wrong("the IPv6 address has no closing bracket"))?;
                match port {
                    "" => (host, None),
                    _ => {
                        let port = port
                            .strip_prefix(':')
                            .ok_or_else(|| wrong("after the bracket only :port may follow"))?;
                        (host, Some(port))
                    }
                }
            }
            None => match authority.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err(wrong(
                        "an IPv6 address stands in brackets, as in [::1]:8081",
                    ));
                }
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(wrong("no host"));
        }
        let port = match port {
            None | Some("") => scheme.default_port(),
            Some(port) => match port.parse() {
                Ok(port) if port != 0 && !text.contains(":+") => port,
                _ => return Err(wrong("the port is not a number from 1 to 65535")),
            },
        };
        // The fragment is the reader's own affair and never sent.
        let target = target.split('#').next().unwrap_or_default();
        let target = match scheme {
            Scheme::Http if target.starts_with('/') => target.to_owned(),
            Scheme::Http => format!("/{target}"),
            Scheme::Pull | Scheme::Push if target.is_empty() || target == "/" => String::new(),
            Scheme::Pull | Scheme::Push => return Err(wrong("this protocol knows no paths")),
        };
        Ok(Url {
            scheme,
            host: host.to_owned(),
            port,
            target,
        })
    }

    /// The value of the Host field (RFC 9110, 7.2).
    pub(super) fn host_field(&self) -> String {
        // A zone ("%eth0") means something on this machine only (RFC 6874, 3).
        let host = self.host.split('%').next().unwrap_or_default();
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        if self.port == self.scheme.default_port() {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> (Scheme, String, u16, String) {
        let url = Url::parse(text).unwrap();
        (url.scheme, url.host, url.port, url.target)
    }

    fn is(scheme: Scheme, host: &str, port: u16, target: &str) -> (Scheme, String, u16, String) {
        (scheme, host.to_owned(), port, target.to_owned())
    }

    #[test]
    fn the_documented_forms() {
        assert_eq!(url("pull://cam:9000"), is(Scheme::Pull, "cam", 9000, ""));
        assert_eq!(
            url("push://10.0.0.7/"),
            is(Scheme::Push, "10.0.0.7", 8081, "")
        );
        assert_eq!(url("pull://cam"), is(Scheme::Pull, "cam", 8082, ""));
        assert_eq!(url("http://cam"), is(Scheme::Http, "cam", 80, "/"));
        assert_eq!(
            url("HTTP://cam:8080/?action=stream&1#x"),
            is(Scheme::Http, "cam", 8080, "/?action=stream&1")
        );
        assert_eq!(url("http://cam?a"), is(Scheme::Http, "cam", 80, "/?a"));
        assert_eq!(url("push://[::1]:5"), is(Scheme::Push, "::1", 5, ""));
        assert_eq!(
            url("http://[fe80::1%eth0]/stream"),
            is(Scheme::Http, "fe80::1%eth0", 80, "/stream")
        );
    }

    #[test]
    fn host_field_as_http_wants_it() {
        let field = |text| Url::parse(text).unwrap().host_field();
        assert_eq!(field("http://cam/"), "cam");
        assert_eq!(field("http://cam:8080/"), "cam:8080");
        assert_eq!(field("http://[::1]:8080/"), "[::1]:8080");
        assert_eq!(field("http://[fe80::1%eth0]/"), "[fe80::1]");
    }

    #[test]
    fn what_is_refused_says_why() {
        for (text, why) in [
            ("cam:8081", "no scheme"),
            ("https://cam/", "TLS"),
            ("ftp://cam/", "unknown scheme"),
            ("push://", "no host"),
            ("http://:80/", "no host"),
            ("push://cam:0", "1 to 65535"),
            ("push://cam:65536", "1 to 65535"),
            ("push://cam:+80", "1 to 65535"),
            ("push://cam:http", "1 to 65535"),
            ("push://::1:80", "brackets"),
            ("push://[::1", "closing bracket"),
            ("push://[::1]80", "only :port"),
            ("push://cam/x", "no paths"),
            ("http://me:secret@cam/", "user names"),
            ("http://cam/a b", "visible ASCII"),
            ("http://cam/\r\nX: y", "visible ASCII"),
        ] {
            match Url::parse(text) {
                Err(FetchError::Url(message)) => {
                    assert!(message.contains(why), "{text}: {message}");
                    assert!(!message.contains('\n'), "{text}: {message}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
