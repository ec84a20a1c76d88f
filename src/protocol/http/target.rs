//! A request's target (RFC 9112, section 3.2): which page it names, and what it asks of the pictures.
//!
//! Targets are read as leniently as their meaning allows. Programs append numbers against caches in every way there is
//! (`?t=1`, `&1`, a second `?1`), escape more than they need, and put two slashes or one at the end; a proxy may leave its
//! own prefix in front.

use crate::protocol::session::Wish;

use crate::limits::{BASE_PATH, DIMENSION_MAX, DIMENSION_MIN, FPS_MAX, REQUEST_HEAD, TOKEN};

/// The paths that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Picture after picture.
    Stream,
    /// H.264 in a fragmented MP4.
    Film,
    /// One picture.
    Snapshot,
    /// The page.
    Index,
    /// What plays a film on the page.
    Player,
    /// The page's icon.
    Icon,
    /// What a phone needs to keep the page among its programs.
    Manifest,
    /// What there is to know, as JSON.
    State,
    /// The same, for a page that asks again and again: the connection ends with the reply, and takes no place.
    StateOnce,
    /// The same for Prometheus.
    Metrics,
    /// Whether pictures come.
    Healthz,
    /// The camera's V4L2 controls.
    Controls,
    /// Where a camera box takes another system.
    Update,
}

impl Route {
    /// What may be asked of it, for Allow (RFC 9110, 10.2.1). `set_controls`: as the listener's policy has it.
    pub(super) fn methods(self, set_controls: bool) -> &'static str {
        match self {
            Route::Controls if set_controls => "GET, HEAD, OPTIONS, POST",
            Route::Update => "OPTIONS, POST",
            _ => "GET, HEAD, OPTIONS",
        }
    }
}

/// Why a target names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// There is no such path.
    Unknown,
    /// A value that its key cannot have, for a person.
    Value(&'static str),
}

/// A target that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub route: Route,
    pub wish: Wish,
    /// update: also one that is older than what runs.
    pub older: bool,
    /// The page was asked for by a path from which its relative links lead elsewhere.
    pub moved: Option<Moved>,
}

/// Where the page is, seen from the path by which it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The slash behind the prefix is missing.
    Below,
    /// There is one too many behind `index.html`.
    Above,
}

/// The authority of a target in absolute form, which servers must take, too (RFC 9112, 3.2.2); and the rest of it.
pub(super) fn divide(target: &str) -> (Option<&str>, &str) {
    let Some((scheme, rest)) = target.split_once("://") else {
        return (None, target);
    };
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if scheme.is_empty() || !scheme.chars().all(is_scheme) {
        return (None, target);
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    (Some(authority), rest)
}

/// What follows a path: `;` and `&` as well, where programs add their number to a URL without a query.
const AFTER_PATH: [u8; 4] = *b"?&;#";

/// Reads what [`divide`] has left: a path and a query. `base`: the prefix that a proxy may leave in front of the path,
/// without slashes around it.
pub(super) fn read(path_and_query: &str, base: &str) -> Result<Target, Wrong> {
    // Nothing that is asked for here contains a character that has to be escaped: all escapes can be read at once.
    let mut text = heapless::Vec::<u8, REQUEST_HEAD>::new();
    for byte in unescaped(path_and_query.split('#').next().unwrap_or_default()) {
        text.push(byte).map_err(|_| Wrong::Unknown)?;
    }
    let end = text.iter().position(|byte| AFTER_PATH.contains(byte));
    let (path, query) = text.split_at(end.unwrap_or(text.len()));
    let plain = plain_path(path).ok_or(Wrong::Unknown)?;
    let inner = match plain.strip_prefix(base.as_bytes()) {
        Some(rest) if base.is_empty() || rest.is_empty() => rest,
        Some([b'/', rest @ ..]) => rest,
        _ => &plain,
    };
    let is_index = matches!(inner, b"" | b"index.html" | b"index.htm");
    let action = value(query, b"action").filter(|action| !action.is_empty());
    let route = match (inner, action) {
        (b"stream", _) => Route::Stream,
        (b"stream.mp4", _) => Route::Film,
        (b"snapshot" | b"snapshot.jpg", _) => Route::Snapshot,
        (b"player.js", _) => Route::Player,
        (b"favicon.ico" | b"icon.svg", _) => Route::Icon,
        (b"manifest.webmanifest", _) => Route::Manifest,
        (b"state", _) if value(query, b"once").is_some() => Route::StateOnce,
        (b"state", _) => Route::State,
        (b"metrics", _) => Route::Metrics,
        (b"healthz", _) => Route::Healthz,
        (b"controls", _) => Route::Controls,
        (b"update", _) => Route::Update,
        (_, Some(b"stream")) if is_index => Route::Stream,
        (_, Some(b"snapshot")) if is_index => Route::Snapshot,
        (_, None) if is_index => Route::Index,
        _ => return Err(Wrong::Unknown),
    };
    let wish = match route {
        Route::Stream | Route::Snapshot => wish(query).map_err(Wrong::Value)?,
        _ => Wish::default(),
    };
    let moved = match (path, inner) {
        _ if route != Route::Index => None,
        ([.., b'/'], b"index.html" | b"index.htm") => Some(Moved::Above),
        // Also in a longer path that a proxy has cut at its front.
        (path, b"") if !base.is_empty() && path.ends_with(last(base).as_bytes()) => {
            Some(Moved::Below)
        }
        _ => None,
    };
    let older = value(query, b"older").is_some();
    Ok(Target {
        route,
        wish,
        older,
        moved,
    })
}

/// Whether that is where updates go, in whatever way it is written.
pub(super) fn is_update(target: &str, base: &str) -> bool {
    let (_, rest) = divide(target);
    read(rest, base).is_ok_and(|target| target.route == Route::Update)
}

/// The token in what [`divide`] has left.
pub(super) fn token(path_and_query: &str) -> Option<heapless::String<TOKEN>> {
    let text = path_and_query.split('#').next().unwrap_or_default();
    let (_, query) = text.split_at(text.find('?')?);
    let pairs = query.split(|c: char| c.is_ascii() && AFTER_PATH.contains(&(c as u8)));
    let value = pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == "token")?
        .1;
    // Some programs escape more than they need.
    let mut token = heapless::String::new();
    for byte in unescaped(value) {
        token.push(char::from(byte)).ok()?;
    }
    Some(token)
}

/// The last segment of a prefix.
pub(super) fn last(base: &str) -> &str {
    base.rsplit('/').next().unwrap_or(base)
}

/// A path without what changes nothing: slashes at both ends and doubled ones, blanks behind it. `.` and `..` are for
/// clients to resolve (RFC 3986, 5.2.4). `None`: it is longer than any there is.
fn plain_path(path: &[u8]) -> Option<heapless::Vec<u8, { BASE_PATH + 32 }>> {
    let mut plain = heapless::Vec::<u8, { BASE_PATH + 32 }>::new();
    for segment in path.trim_ascii().split(|byte| *byte == b'/') {
        match segment {
            b"" => {}
            segment => {
                if !plain.is_empty() {
                    plain.push(b'/').ok()?;
                }
                plain.extend_from_slice(segment).ok()?;
            }
        }
    }
    Some(plain)
}

/// The bytes of a text, with `%XX` as the byte that it stands for (RFC 3986, 2.1). A `%` that begins no escape stands for
/// itself.
fn unescaped(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (byte, used) = match rest {
            [b'%', high, low, ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => ((16 * high + low) as u8, 3),
                _ => (b'%', 1),
            },
            [byte, ..] => (*byte, 1),
            [] => return None,
        };
        rest = &rest[used..];
        Some(byte)
    })
}

/// The value of a key, the first one if there are several; an empty one where there is no `=`. What is behind a further
/// `?` is a key of its own.
fn value<'a>(query: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let pairs = query.split(|byte| AFTER_PATH.contains(byte));
    pairs
        .filter_map(|pair| {
            let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            let value = pair.get(end + 1..).unwrap_or_default();
            (pair[..end].trim_ascii() == key).then_some(value)
        })
        .map(|value| {
            let value = value.trim_ascii();
            let slashes = value.iter().rev().take_while(|byte| **byte == b'/');
            &value[..value.len() - slashes.count()]
        })
        .next()
}

/// The wish in a query; an error names the key whose value is wrong.
fn wish(query: &[u8]) -> Result<Wish, &'static str> {
    const SIDE: (u16, u16) = (DIMENSION_MIN, DIMENSION_MAX);
    const _: () = assert!(SIDE.0 == 16 && SIDE.1 == 8192 && FPS_MAX == 240);
    let number = |key: &str, (least, most): (u16, u16), wrong: &'static str| {
        let Some(value) = value(query, key.as_bytes()) else {
            return Ok(None);
        };
        // Digits alone: u16's own parser would take a sign.
        let digits = value.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(value).ok().filter(|_| digits);
        let number = text.and_then(|text| text.parse::<u16>().ok());
        match number.filter(|number| (least..=most).contains(number)) {
            None => Err(wrong),
            number => Ok(number),
        }
    };
    let width = "width; allowed: pixels from 16 to 8192";
    let height = "height; allowed: pixels from 16 to 8192";
    let quality = "quality; allowed: percent from 1 to 100";
    let max_fps = "max_fps; allowed: pictures per second from 1 to 240";
    Ok(Wish {
        width: number("width", SIDE, width)?,
        height: number("height", SIDE, height)?,
        quality: number("quality", (1, 100), quality)?.map(|percent| percent as u8),
        max_fps: number("max_fps", (1, FPS_MAX), max_fps)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(target: &str) -> Option<Route> {
        let (_, rest) = divide(target);
        read(rest, "").ok().map(|target| target.route)
    }

    #[test]
    fn numbers_against_caches_change_nothing() {
        for target in [
            "/stream",
            "/stream?x",
            "/stream&t=99",
            "/stream;v=2",
            "/stream?",
            "/?action=stream",
            "/?action=stream&1608856928650",
            "/?1&action=stream",
            "/?action=stream?nonce_dashboard=1679189181050",
            "/?action=stream?1700000000?1700000001",
            "/?t=4?action=stream",
            "/?action=stream;5",
            "/?action=stream#t=5",
            "/index.html?action=stream&x=?",
        ] {
            assert_eq!(route(target), Some(Route::Stream), "{target}");
        }
        assert_eq!(route("/snapshot.jpg?t=%5?&&="), Some(Route::Snapshot));
        assert_eq!(route("/?cache=17"), Some(Route::Index));
        assert_eq!(route("/state&_=1"), Some(Route::State));
    }

    #[test]
    fn slashes_and_escapes_change_nothing() {
        for target in [
            "//snapshot",
            "/snapshot/",
            "///snapshot.jpg//",
            "/%73napshot",
            "/snap%73hot%2F",
            "/snapshot%20",
            "/snapshot%3Ft=5",
            "//?action=snapshot",
            "/?action=snapshot/",
            "/?action=%73napshot",
            "/?act%69on=snapshot%26t=5",
            "/%3Faction=snapshot",
        ] {
            assert_eq!(route(target), Some(Route::Snapshot), "{target}");
        }
        for target in ["/", "//", "/index.html", "/?action=", "/?action", "/%2f"] {
            assert_eq!(route(target), Some(Route::Index), "{target}");
        }
        assert_eq!(route("/controls/"), Some(Route::Controls));
        for target in [
            "/streams",
            "/stream/x",
            "/../stream",
            "/./stream",
            "/str/eam",
            "/Stream",
            "/?action=command",
            "/?action=streaming",
            "/stream%",
            "/%zzstream",
            "/stream%00",
            "/state%FF",
            "/x?action=stream",
            "/x?u=http://box/stream",
        ] {
            assert_eq!(route(target), None, "{target}");
        }
        assert_eq!(route(&format!("/{}", "x".repeat(REQUEST_HEAD))), None);
    }

    #[test]
    fn absolute_form_with_and_without_path() {
        for (target, expected) in [
            ("http://box:8080/state", Route::State),
            ("HTTPS://box/state?x", Route::State),
            ("http://box:8080", Route::Index),
            ("http://box?action=snapshot", Route::Snapshot),
            (
                "http://[::1]:8080?action=stream&t=http://x/y",
                Route::Stream,
            ),
            ("http://box//stream/", Route::Stream),
            ("http://box#stream", Route::Index),
        ] {
            assert_eq!(route(target), Some(expected), "{target}");
        }
        assert_eq!(divide("http://a@Box:1?x"), (Some("a@Box:1"), "?x"));
        assert_eq!(divide("/x?u=http://box"), (None, "/x?u=http://box"));
    }

    #[test]
    fn a_prefix_may_stay_or_be_gone() {
        let at = |target: &str, base: &str| read(divide(target).1, base).ok();
        let found = |target: &str, base: &str| at(target, base).map(|it| it.route);
        for base in ["webcam", "cams/webcam"] {
            for (target, expected) in [
                (format!("/{base}/stream"), Some(Route::Stream)),
                (format!("//{base}//stream/?1"), Some(Route::Stream)),
                (
                    format!("http://box/{base}/?action=stream"),
                    Some(Route::Stream),
                ),
                (format!("/{base}?action=snapshot"), Some(Route::Snapshot)),
                (format!("/{base}/index.html"), Some(Route::Index)),
                (format!("/%77ebcam/{base}/state"), None),
                (format!("/{base}x/state"), None),
                (format!("/{base}state"), None),
                ("/state".to_owned(), Some(Route::State)),
            ] {
                assert_eq!(found(&target, base), expected, "{target}");
            }
            // The page's links are relative: they lead nowhere without the slash.
            let moved = |target: &str| at(target, base).and_then(|it| it.moved);
            assert_eq!(moved(&format!("/{base}")), Some(Moved::Below));
            assert_eq!(moved(&format!("/{base}?x")), Some(Moved::Below));
            assert_eq!(moved(&format!("/{base}/")), None);
            assert_eq!(moved(&format!("/{base}/index.html")), None);
            assert_eq!(moved(&format!("/{base}/index.html/")), Some(Moved::Above));
            assert_eq!(moved("/"), None);
        }
        assert_eq!(found("/webcam/stream", ""), None, "no prefix is expected");
        assert_eq!(last("cams/webcam"), "webcam");
        let longest = "x".repeat(BASE_PATH);
        assert_eq!(
            found(&format!("/{longest}/snapshot.jpg"), &longest),
            Some(Route::Snapshot)
        );
    }

    #[test]
    fn wishes_are_numbers_in_their_range() {
        let wish = |query: &str| read(&format!("/snapshot?{query}"), "").map(|it| it.wish);
        assert_eq!(wish("t=1"), Ok(Wish::default()));
        let all = Wish {
            width: Some(320),
            height: Some(240),
            quality: Some(7),
            max_fps: Some(2),
        };
        let query = "width=320&height=240&quality=7&max_fps=2";
        assert_eq!(wish(query), Ok(all));
        assert_eq!(wish(&format!("{query}?nonce=9")), Ok(all));
        assert_eq!(
            wish("1;width=%33%32%30&width=640").map(|it| it.width),
            Ok(Some(320))
        );
        for (key, least, most) in [
            ("width", 16, 8192),
            ("height", 16, 8192),
            ("quality", 1, 100),
            ("max_fps", 1, 240),
        ] {
            assert!(wish(&format!("{key}={least}")).is_ok());
            assert!(wish(&format!("{key}={most}")).is_ok());
            let bad = [
                (least - 1).to_string(),
                (most + 1).to_string(),
                "4294967296".repeat(10),
                String::new(),
                "-20".to_owned(),
                "+20".to_owned(),
                "20.5".to_owned(),
                "large".to_owned(),
            ];
            for value in bad {
                match wish(&format!("{key}={value}")) {
                    Err(Wrong::Value(why)) => {
                        assert!(why.starts_with(key), "{why}");
                        assert!(why.contains(&format!("from {least} to {most}")), "{why}");
                    }
                    other => panic!("{key}={value}: {other:?}"),
                }
            }
            assert!(wish(key).is_err(), "no value at all");
        }
        // To other pages these keys mean nothing.
        assert!(read("/state?width=many", "").is_ok());
    }
}
