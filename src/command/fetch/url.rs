//! The five kinds of URL, as far as a camera needs them (RFC 3986; user names only for call and HTTP, queries only for HTTP).

use super::error::{FetchError, one_line};
use crate::config::{self, Login, Remote, Secret, decode};
use crate::limits::{PASSWORD, USER_NAME};
use crate::protocol::call::Name;
use crate::protocol::http::answer::Head;

/// The user that a `call://` without a name calls: camd's own default.
const CALLEE: &str = "camera";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Pull,
    Push,
    Raw,
    /// With the login, if there is one.
    Http(Option<Login>),
    Call(Call),
}

/// The caller and the user that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Both are as a [`Name`] must be.
    pub(super) user: String,
    pub(super) callee: String,
    pub(super) password: Option<Secret>,
}

impl Scheme {
    /// 80 and 443 for HTTP as the standard says, though camd's own listener is at 8080 unless configured otherwise; the
    /// others are camd's, which has none of its own for TLS.
    fn default_port(&self, tls: bool) -> u16 {
        match self {
            Scheme::Http(_) if tls => 443,
            Scheme::Http(_) => 80,
            Scheme::Push => 8081,
            Scheme::Pull => 8082,
            Scheme::Call(_) => 8083,
            Scheme::Raw => 8084,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: Scheme,
    /// Over TLS: with an s behind the scheme.
    pub(super) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// HTTP: path and query, beginning with `/`. Else empty.
    pub(super) target: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Url, FetchError> {
        let wrong = |why: &str| {
            FetchError::Url(format!(
                "{}: {why}; wanted is pull://host:port, push://host:port, raw://host:port, http://[user[:password]@]host:port/path or call://[user[:password]@]host:port/camera, or the same with TLS: pulls, pushs, raws, https, calls",
                one_line(without_password(text).as_bytes())
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
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (login, authority) = match authority.rsplit_once('@') {
            Some((login, authority)) => (Some(login), authority),
            None => (None, authority),
        };
        // The fragment is the reader's own affair and never sent.
        let target = target.split('#').next().unwrap_or_default();
        let scheme = scheme.to_ascii_lowercase();
        let secure = ["pulls", "pushs", "raws", "https", "calls"];
        let tls = secure.contains(&scheme.as_str());
        let plain = match tls {
            true => &scheme[..scheme.len() - 1],
            false => &scheme,
        };
        let scheme = match plain {
            "pull" => Scheme::Pull,
            "push" => Scheme::Push,
            "raw" => Scheme::Raw,
            "call" if login.is_none() && rest.contains('@') => {
                return Err(wrong(
                    "within a name or a password, / is %2F, ? is %3F, # is %23, @ is %40",
                ));
            }
            // No port, so that it is a login which is cut.
            "http"
                if login.is_none()
                    && rest.contains('@')
                    && authority
                        .rsplit_once(':')
                        .is_some_and(|(_, port)| port.parse::<u16>().is_err()) =>
            {
                return Err(wrong(
                    "within a name or a password, / is %2F, ? is %3F, # is %23, @ is %40",
                ));
            }
            "http" => {
                let login = login.map(Login::from_url).transpose();
                Scheme::Http(login.map_err(|why| wrong(&why))?)
            }
            "call" => Scheme::Call(
                Call::parse(login.unwrap_or_default(), target).map_err(|why| wrong(&why))?,
            ),
            _ => return Err(wrong("unknown scheme")),
        };
        if login.is_some() && !matches!(scheme, Scheme::Call(_) | Scheme::Http(_)) {
            return Err(wrong(
                "user names and passwords are not supported with this scheme",
            ));
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
            None | Some("") => scheme.default_port(tls),
            Some(port) => match port.parse() {
                Ok(number) if number != 0 && !port.starts_with('+') => number,
                _ => return Err(wrong("the port is not a number from 1 to 65535")),
            },
        };
        let target = match scheme {
            Scheme::Http(_) if target.starts_with('/') => target.to_owned(),
            Scheme::Http(_) => format!("/{target}"),
            Scheme::Call(_) => String::new(),
            Scheme::Pull | Scheme::Push | Scheme::Raw if matches!(target, "" | "/") => {
                String::new()
            }
            Scheme::Pull | Scheme::Push | Scheme::Raw => {
                return Err(wrong("this protocol knows no paths"));
            }
        };
        Ok(Url {
            scheme,
            tls,
            host: host.to_owned(),
            port,
            target,
        })
    }

    /// Where an answer leads that redirects, after `followed` of them: see [`config::Url::redirect`].
    pub(super) fn redirect(
        &self,
        head: &Head<'_>,
        login: Option<&Login>,
        followed: u8,
    ) -> Result<Url, String> {
        let here = config::Url {
            server: Remote {
                host: self.host.clone(),
                port: self.port,
            },
            target: self.target.clone(),
            login: login.cloned(),
            tls: self.tls,
        };
        let to = here.redirect(head.status, head.location, followed)?;
        Ok(Url {
            scheme: Scheme::Http(to.login),
            tls: to.tls,
            host: to.server.host,
            port: to.server.port,
            target: to.target,
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
        if self.port == self.scheme.default_port(self.tls) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl Call {
    /// `login` is what stands in front of the @, `path` what stands behind the port. The error says what is wrong.
    fn parse(login: &str, path: &str) -> Result<Call, String> {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let user = match user {
            // Not the same twice on one machine; at the relay, it tells whose process this is.
            "" => format!("camd-fetch-{}", std::process::id()),
            user => decode(user)?,
        };
        let password = match password {
            "" => None,
            password => Some(
                Secret::new(&decode(password)?)
                    .ok_or_else(|| format!("the password has more than {PASSWORD} characters"))?,
            ),
        };
        if path.contains('?') {
            return Err("this protocol knows no queries; within a name, ? is %3F".to_owned());
        }
        let callee = match path.strip_prefix('/').unwrap_or(path) {
            "" => CALLEE.to_owned(),
            path if path.contains('/') => {
                return Err("only one name may follow the port; within it, / is %2F".to_owned());
            }
            path => decode(path)?,
        };
        if [&user, &callee]
            .iter()
            .any(|text| Name::new(text).is_none())
        {
            return Err(format!(
                "a name has 1 to {USER_NAME} characters, none of them a control character"
            ));
        }
        if user == callee {
            return Err("nobody can ring up himself: the user in front of the @ is another".into());
        }
        Ok(Call {
            user,
            callee,
            password,
        })
    }
}

/// The URL for other eyes: what may be a password in front of an @ is left out. Also where the text is no good URL, as
/// one with a / in the password that should have been %2F.
pub fn without_password(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.rfind('@').filter(|&end| end >= start);
    match end.and_then(|end| Some((start + url[start..end].find(':')?, end))) {
        Some((colon, end)) => format!("{}:…{}", &url[..colon], &url[end..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(text: &str) -> (String, u16, String, Option<String>, String) {
        let url = Url::parse(text).unwrap();
        let Scheme::Call(call) = url.scheme else {
            panic!("{text}: {:?}", url.scheme);
        };
        let password = call.password.map(|password| password.expose().to_owned());
        (url.host, url.port, call.user, password, call.callee)
    }

    fn url(text: &str) -> (Scheme, String, u16, String) {
        let url = Url::parse(text).unwrap();
        (url.scheme, url.host, url.port, url.target)
    }

    const HTTP: Scheme = Scheme::Http(None);

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
        assert_eq!(url("raw://cam/"), is(Scheme::Raw, "cam", 8084, ""));
        assert_eq!(url("http://cam"), is(HTTP, "cam", 80, "/"));
        assert_eq!(
            url("HTTP://cam:8080/?action=stream&1#x"),
            is(HTTP, "cam", 8080, "/?action=stream&1")
        );
        assert_eq!(url("http://cam?a"), is(HTTP, "cam", 80, "/?a"));
        assert_eq!(url("push://[::1]:5"), is(Scheme::Push, "::1", 5, ""));
        assert_eq!(
            url("http://[fe80::1%eth0]/stream"),
            is(HTTP, "fe80::1%eth0", 80, "/stream")
        );
    }

    #[test]
    fn over_tls() {
        for (text, port, field) in [
            ("https://cam/", 443, "cam"),
            ("HTTPS://me:secret@cam:80/", 80, "cam:80"),
            ("http://cam:443/", 443, "cam:443"),
            ("pulls://cam", 8082, "cam"),
            ("pushs://cam", 8081, "cam"),
            ("raws://cam", 8084, "cam"),
            ("calls://anna@cam/camera", 8083, "cam"),
        ] {
            let url = Url::parse(text).unwrap();
            let tls = !text.starts_with("http:");
            assert_eq!((url.tls, url.port), (tls, port), "{text}");
            assert_eq!(url.host_field(), field, "{text}");
        }
    }

    #[test]
    fn logins_of_http() {
        for (text, authorization) in [
            ("http://me:secret@cam:81/x@y", Some("Basic bWU6c2VjcmV0")),
            (
                "http://me:sec%40ret%2F@cam:81/x@y",
                Some("Basic bWU6c2VjQHJldC8="),
            ),
            ("http://cam:81/x@y", None),
        ] {
            let (scheme, host, port, target) = url(text);
            assert_eq!((host.as_str(), port, target.as_str()), ("cam", 81, "/x@y"));
            let Scheme::Http(login) = scheme else {
                panic!("{text}: {scheme:?}");
            };
            let found = login.map(|login| login.authorization());
            assert_eq!(found.as_deref(), authorization, "{text}");
        }
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
    fn who_rings_up_whom() {
        let is = |host: &str, port, user: &str, password: Option<&str>, callee: &str| {
            let password = password.map(str::to_owned);
            (host.into(), port, user.into(), password, callee.into())
        };
        let nobody = format!("camd-fetch-{}", std::process::id());
        for (text, expected) in [
            ("call://box", is("box", 8083, &nobody, None, "camera")),
            ("CALL://box:1/#x", is("box", 1, &nobody, None, "camera")),
            ("call://@box/bob", is("box", 8083, &nobody, None, "bob")),
            (
                "call://:pw@box",
                is("box", 8083, &nobody, Some("pw"), "camera"),
            ),
            ("call://anna@box", is("box", 8083, "anna", None, "camera")),
            ("call://anna:@box", is("box", 8083, "anna", None, "camera")),
            (
                "call://anna:+a:b@c@[::1]:9/bob@home",
                is("::1", 9, "anna", Some("+a:b@c"), "bob@home"),
            ),
            (
                "call://%C3%84nne%3a:%2F%3F%23%40%25@box/T%C3%BCr%2f1",
                is("box", 8083, "Änne:", Some("/?#@%"), "Tür/1"),
            ),
        ] {
            assert_eq!(call(text), expected, "{text}");
        }
        let long = format!("call://{}@box/b", "%C3%84".repeat(64));
        assert_eq!(call(&long).2, "Ä".repeat(64));
    }

    #[test]
    fn passwords_are_not_for_other_eyes() {
        for (text, shown) in [
            ("call://anna:secret@box:1/bob", "call://anna:…@box:1/bob"),
            ("call://anna:se/c:r@t@box", "call://anna:…@box"),
            ("anna:secret@box", "anna:…@box"),
            ("call://anna@box:8083", "call://anna@box:8083"),
            ("call://box:8083/", "call://box:8083/"),
        ] {
            assert_eq!(without_password(text), shown);
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (text, why) in [
            ("cam:8081", "no scheme"),
            ("httpss://cam/", "unknown scheme"),
            ("pushs://me@cam/", "user names"),
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
            ("raw://cam/x.mjpg", "no paths"),
            ("http://me:se/cret@cam/", "/ is %2F"),
            ("http://me:secret%@cam/", "hexadecimal"),
            ("http://m%3Ae:secret@cam/", "without a colon"),
            ("push://me:secret@cam/", "user names"),
            ("pull://me@cam/", "user names"),
            ("call://a:secret@:8083/b", "no host"),
            ("call://a:secret@cam:0/b", "1 to 65535"),
            ("call://a:secret@cam:+1/b", "1 to 65535"),
            ("call://a:se/cret@cam", "/ is %2F"),
            ("call://a:se#cret@cam", "# is %23"),
            ("call://a:secret@cam/b?c", "? is %3F"),
            ("call://a:secret@cam/b/", "/ is %2F"),
            ("call://a:secret%@cam/b", "hexadecimal"),
            ("call://a:secret@cam/%1", "hexadecimal"),
            ("call://a:secret@cam/%+1", "hexadecimal"),
            ("call://a%g0@cam/", "hexadecimal"),
            ("call://%C3@cam/", "not UTF-8"),
            ("call://%0A@cam/", "control character"),
            ("call://a@cam/%00", "control character"),
            (&format!("call://{}@cam", "a".repeat(65)), "1 to 64"),
            (&format!("call://cam/{}", "a".repeat(65)), "1 to 64"),
            (&format!("call://:{}@cam", "a".repeat(257)), "more than 256"),
            ("call://camera@cam", "nobody can ring up himself"),
            ("http://cam/a b", "visible ASCII"),
            ("http://cam/\r\nX: y", "visible ASCII"),
        ] {
            match Url::parse(text) {
                Err(FetchError::Url(message)) => {
                    assert!(message.contains(why), "{text}: {message}");
                    assert!(!message.contains('\n'), "{text}: {message}");
                    assert!(!message.contains("cret@"), "{text}: {message}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
