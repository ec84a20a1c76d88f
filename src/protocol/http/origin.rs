//! Whose page has sent a request: the camera's own, or one of another site.
//!
//! A page of another site must not turn the camera's knobs through its reader's browser. What a page can make a browser
//! send without asking first (Fetch Standard, CORS protocol and its safelisted fields) is little: it cannot leave out or
//! change Origin and Sec-Fetch-Site, and it cannot add fields such as X-Requested-With, as the preflight in which the
//! browser would ask for that is not answered so. So each of these can be believed as far as *pages* are concerned.
//! Programs that are no browsers can claim anything, and lose nothing by leaving it out: they are not what this is about.
//!
//! What a proxy says of the name under which it was asked (X-Forwarded-Host, Forwarded) is believed of
//! `listener.trusted_proxies` alone, as the names are held against [`super::host`], too: a page that has its own name
//! resolved to this machine is to its browser of the same site, and adds what fields it likes.

/// What a request says about the page behind it. `None`: the field is not there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asker<'a> {
    pub origin: Option<&'a str>,
    /// Host, or what stands for it in a target in absolute form.
    pub host: Option<&'a str>,
    /// Sec-Fetch-Site. Browsers send it to https and localhost only.
    pub fetch_site: Option<&'a str>,
    /// Sec-Fetch-Dest, as above.
    pub fetch_dest: Option<&'a str>,
    pub forwarded_host: Option<&'a str>,
    pub forwarded_port: Option<&'a str>,
    /// RFC 7239
    pub forwarded: Option<&'a str>,
    /// There is a field that only proxies add.
    pub is_forwarded: bool,
    pub requested_with: Option<&'a str>,
}

impl<'a> Asker<'a> {
    /// Takes in one field, the first of its name.
    pub fn take(&mut self, name: &str, value: &'a str) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let field = if is("origin") {
            &mut self.origin
        } else if is("sec-fetch-site") {
            &mut self.fetch_site
        } else if is("sec-fetch-dest") {
            &mut self.fetch_dest
        } else if is("x-requested-with") {
            &mut self.requested_with
        } else {
            let proxies = ["x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via"];
            self.is_forwarded |= proxies.iter().any(|known| is(known));
            if is("x-forwarded-host") {
                &mut self.forwarded_host
            } else if is("x-forwarded-port") {
                &mut self.forwarded_port
            } else if is("forwarded") {
                &mut self.forwarded
            } else {
                return;
            }
        };
        field.get_or_insert(value);
    }

    /// The client is no proxy whose word is taken.
    pub fn forget_forwarded(&mut self) {
        (self.forwarded_host, self.forwarded_port, self.forwarded) = (None, None, None);
        self.is_forwarded = false;
    }

    /// The names under which this machine was asked, by the browser and by what is between the two.
    pub fn hosts(&self) -> impl Iterator<Item = &'a str> {
        let forwarded = self.forwarded.and_then(forwarded_host);
        let hosts = [self.host, self.forwarded_host.map(first), forwarded];
        hosts.into_iter().flatten()
    }

    /// A browser has sent it for a page of another site, which is to show what comes: an image, or a frame.
    pub fn is_embedded(&self) -> bool {
        let is_foreign = |site: &str| {
            !["same-origin", "none"]
                .iter()
                .any(|own| site.eq_ignore_ascii_case(own))
        };
        // A link to here is none of that: what it opens is a page of its own.
        let is_link = self
            .fetch_dest
            .is_some_and(|dest| dest.eq_ignore_ascii_case("document"));
        self.fetch_site.is_some_and(is_foreign) && !is_link
    }

    /// No page of another origin has sent this.
    pub fn is_own(&self) -> bool {
        match self.fetch_site {
            // The browser itself has compared, with the address that it knows: proxies do not matter.
            Some(site) if site.eq_ignore_ascii_case("same-origin") => return true,
            Some(site) if site.eq_ignore_ascii_case("none") => return true,
            Some(_) => return false,
            None => {}
        }
        let Some(origin) = self.origin else {
            return true;
        };
        if self.requested_with.is_some_and(|it| !it.is_empty()) {
            return true;
        }
        let Some(origin) = Origin::parse(origin) else {
            return false;
        };
        let mut hosts = self.hosts().filter_map(Authority::parse);
        hosts.any(|host| self.is_at(&origin, host))
    }

    fn is_at(&self, origin: &Origin<'_>, host: Authority<'_>) -> bool {
        if !origin.host.eq_ignore_ascii_case(host.name) {
            return false;
        }
        let port = origin.port.or(origin.default_port());
        if host.port.is_some() {
            return host.port == port;
        }
        // Where a proxy names a port, that may be the one that the browser has asked, or one of its own.
        let named = self.forwarded_port.map(first);
        port == origin.default_port()
            || named.is_some_and(|named| named.parse().ok() == port)
            // nginx's $host, which many put into Host, is without the port.
            || (named.is_none() && self.is_forwarded)
    }
}

/// Of a list, what the proxy nearest to the browser has written.
fn first(list: &str) -> &str {
    list.split(',').next().unwrap_or_default().trim()
}

/// `host` of the first element of a Forwarded field (RFC 7239, section 4).
fn forwarded_host(field: &str) -> Option<&str> {
    let mut rest = field;
    loop {
        let (name, after) = rest.split_once('=')?;
        if name.contains(',') {
            // The next proxy's element.
            return None;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find([';', ',']).unwrap_or(after.len())),
        };
        if name.trim().eq_ignore_ascii_case("host") {
            return Some(value.trim());
        }
        rest = after.trim_start().strip_prefix(';')?;
    }
}

/// A host as Host and X-Forwarded-Host have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Authority<'a> {
    /// An IPv6 address with its brackets.
    pub name: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        // Behind an IPv6 address's brackets.
        let port_at = memchr::memrchr(b':', text.as_bytes())
            .filter(|at| !text[*at..].contains(']'))
            .unwrap_or(text.len());
        let (name, port) = text.split_at(port_at);
        let port = match port.strip_prefix(':') {
            None | Some("") => None,
            Some(port) => Some(port.parse().ok()?),
        };
        // A name's final dot, which stands for the root of all names, makes no other host of it.
        let name = name.strip_suffix('.').unwrap_or(name);
        (!name.is_empty()).then_some(Authority { name, port })
    }
}

/// An origin as browsers write it (RFC 6454, 6.2).
#[derive(Clone, Copy, Debug)]
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    /// `None`: "null", or nothing that a browser sends.
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let Authority { name, port } = Authority::parse(authority)?;
        Some(Origin {
            scheme,
            host: name,
            port,
        })
    }

    fn default_port(&self) -> Option<u16> {
        if self.scheme.eq_ignore_ascii_case("http") {
            Some(80)
        } else if self.scheme.eq_ignore_ascii_case("https") {
            Some(443)
        } else {
            None
        }
    }
}

/// Whether two texts are the same origin.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    let (Some(a), Some(b)) = (Origin::parse(a), Origin::parse(b)) else {
        return a == b;
    };
    a.scheme.eq_ignore_ascii_case(b.scheme)
        && a.host.eq_ignore_ascii_case(b.host)
        && a.port.or(a.default_port()) == b.port.or(b.default_port())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields as they come, one a line.
    fn is_own(fields: &str) -> bool {
        let mut asker = Asker::default();
        for line in fields.lines() {
            let (name, value) = line.split_once(": ").expect("a field");
            if name == "Host" {
                asker.host = Some(value);
            } else {
                asker.take(name, value);
            }
        }
        asker.is_own()
    }

    #[test]
    fn what_no_trusted_proxy_says_is_nothing() {
        let mut asker = Asker {
            host: Some("127.0.0.1:8080"),
            ..Asker::default()
        };
        asker.take("X-Forwarded-Host", "shed.example");
        asker.take("Forwarded", "host=attic.example");
        asker.take("Origin", "https://shed.example");
        assert!(
            asker
                .hosts()
                .eq(["127.0.0.1:8080", "shed.example", "attic.example"])
        );
        assert!(asker.is_own());
        asker.forget_forwarded();
        assert!(asker.hosts().eq(["127.0.0.1:8080"]));
        assert!(!asker.is_own());
    }

    #[test]
    fn host_and_origin_are_compared_by_what_they_mean() {
        for own in [
            "Host: shed.local",
            "Host: shed.local\nOrigin: http://shed.local",
            "Host: shed.local:80\nOrigin: http://shed.local",
            "Host: shed.local\nOrigin: http://shed.local:80",
            "Host: SHED.Local:\nOrigin: http://shed.local",
            "Host: shed.local.\nOrigin: http://shed.local",
            "Host: shed.local:443\nOrigin: https://shed.local",
            "Host: shed.local\nOrigin: https://shed.local",
            "Host: shed.local:8443\nOrigin: https://shed.local:8443",
            "Host: [FE80::1]:8080\nOrigin: http://[fe80::1]:8080",
            "Host: [::1]\nOrigin: http://[::1]",
        ] {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "Host: shed.local\nOrigin: null",
            "Host: null\nOrigin: null",
            "Host: shed.local\nOrigin: http://",
            "Host: shed.local\nOrigin: http://shed.local.attic.example",
            "Host: shed.local\nOrigin: http://attic.shed.local",
            "Host: shed.local:8080\nOrigin: http://shed.local",
            "Host: shed.local:8080\nOrigin: http://shed.local:5000",
            "Host: shed.local\nOrigin: http://shed.local:5000",
            "Host: shed.local:443\nOrigin: http://shed.local",
            "Host: shed.local:99999\nOrigin: http://shed.local",
            "Host: [::1]\nOrigin: http://[::2]",
            "Origin: http://shed.local",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }

    #[test]
    fn proxies_say_what_the_browser_has_asked() {
        const UPSTREAM: &str = "Host: 127.0.0.1:8080\n";
        for own in [
            "X-Forwarded-Host: shed.example\nOrigin: https://shed.example",
            "X-Forwarded-Host: Shed.example:443\nOrigin: https://shed.example",
            "X-Forwarded-Host: shed.example, 10.0.0.2:81\nOrigin: http://shed.example",
            "X-Forwarded-Host: shed.example\nX-Forwarded-Port: 8443\nOrigin: https://shed.example:8443",
            "Forwarded: for=192.0.2.43;host=shed.example;proto=https\nOrigin: https://shed.example",
            "Forwarded: for=\"[2001:db8::1]\"; Host=\"shed.example:81\", for=10.0.0.1;host=inner\nOrigin: http://shed.example:81",
            "X-Forwarded-Host: shed.example\nX-Forwarded-Port: 8000\nOrigin: https://shed.example",
            "Sec-Fetch-Site: same-origin\nOrigin: https://shed.example",
            "Sec-Fetch-Site: same-origin\nOrigin: null",
            "X-Requested-With: camd\nOrigin: http://shed.example",
            // $host is without the port.
            "X-Forwarded-Host: shed.example\nX-Forwarded-For: 192.0.2.43\nOrigin: http://shed.example:81",
        ] {
            assert!(is_own(&format!("{UPSTREAM}{own}")), "{own}");
        }
        let cut = "Host: shed.example\nX-Real-IP: 192.0.2.43\nOrigin: http://shed.example:81";
        assert!(is_own(cut));
        for other in [
            "Origin: http://shed.example",
            "X-Forwarded-Host: shed.example\nOrigin: https://attic.example",
            "X-Forwarded-Host: inner, attic.example\nOrigin: https://attic.example",
            "X-Forwarded-For: 192.0.2.43\nOrigin: http://127.0.0.1:81",
            "Forwarded: for=1.2.3.4, for=5.6.7.8;host=attic.example\nOrigin: http://attic.example",
            "Forwarded: host=shed.example\nOrigin: http://attic.example",
            "X-Forwarded-Host: shed.example\nX-Forwarded-Port: 8443\nOrigin: https://shed.example:5000",
            "X-Requested-With: \nOrigin: http://attic.example",
            "Sec-Fetch-Site: cross-site\nX-Requested-With: camd\nOrigin: http://127.0.0.1:8080",
            "Sec-Fetch-Site: cross-site\nX-Forwarded-Host: attic.example\nOrigin: https://attic.example",
            "Sec-Fetch-Site: same-site\nOrigin: http://127.0.0.1:8080",
            "Sec-Fetch-Site: cross-site",
        ] {
            assert!(!is_own(&format!("{UPSTREAM}{other}")), "{other}");
        }
    }

    #[test]
    fn allowed_origins_are_compared_in_the_same_way() {
        assert!(is_same("http://hub", "HTTP://Hub:80"));
        assert!(is_same("https://hub:443", "https://hub"));
        assert!(is_same("null", "null"));
        for other in ["https://hub", "http://hub:81", "http://hub2", "null", "*"] {
            assert!(!is_same("http://hub", other), "{other}");
        }
    }
}
