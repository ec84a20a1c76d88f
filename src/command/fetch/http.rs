//! HTTP: one request, answered with a picture or with `multipart/x-mixed-replace`.

use memchr::memmem;

use super::url::Url;
use super::wire::Wire;
use super::{FetchError, PICTURE_LIMIT, one_line};

/// Largest head of an answer or of a part, in bytes, and the most fields in it.
const HEAD: usize = 8192;
const FIELDS: usize = 64;
/// What is read of the text that explains a refusal.
const REASON: usize = 1024;

pub(super) enum Answer {
    Stream(Multipart),
    Picture(Single),
}

/// The body of an `image/jpeg` answer.
pub(super) struct Single {
    /// `None`: up to the end of the connection (RFC 9112, 6.3).
    length: Option<usize>,
}

/// The body of a `multipart/x-mixed-replace` answer.
pub(super) struct Multipart {
    /// `--boundary`.
    delimiter: Vec<u8>,
    /// The preamble, which may contain anything (RFC 2046, 5.1.1), is over.
    begun: bool,
}

/// Asks for the URL's target and reads the answer's head.
pub(super) fn request(wire: &mut Wire, url: &Url) -> Result<Answer, FetchError> {
    // HTTP/1.0 on purpose: a server must not answer it in chunks (RFC 9112, 6.1), while Go's, for one, chunks every
    // stream for HTTP/1.1 clients. The Host field is what name-based virtual hosts need.
    let request = format!(
        "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: camd/{}\r\nAccept: multipart/x-mixed-replace, image/jpeg\r\n\r\n",
        url.target,
        url.host_field(),
        env!("CARGO_PKG_VERSION")
    );
    wire.send(request.as_bytes())?;
    let head_length = head_end(wire, "before its answer was complete")?;
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    match head.parse(&wire.received()[..head_length]) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(not_http("an incomplete head")),
        Err(error) => return Err(not_http(&error.to_string())),
    }
    let status = head.code.unwrap_or(0);
    let phrase = one_line(head.reason.unwrap_or("").as_bytes());
    let chunked = field(head.headers, "transfer-encoding")
        .is_some_and(|value| !value.eq_ignore_ascii_case(b"identity"));
    let content_type = field(head.headers, "content-type")
        .unwrap_or(b"")
        .to_owned();
    let location = field(head.headers, "location").map(one_line);
    let length = content_length(head.headers)?;
    wire.consume(head_length);
    if status != 200 {
        let mut reason = String::new();
        if !chunked && !content_type.starts_with(b"text/html") {
            reason = refusal_reason(wire, length);
        }
        if let (300..=399, Some(location)) = (status, location) {
            reason = format!("it is at {location}");
        }
        let mut text = format!("the server answered {status} {phrase}");
        if !reason.is_empty() {
            text = format!("{text}: {reason}");
        }
        return Err(match status {
            503 => FetchError::NoPicture(text),
            _ => FetchError::Protocol(text),
        });
    }
    if chunked {
        return Err(FetchError::Protocol(
            "the server answered in a transfer coding (chunked), which an HTTP/1.0 client does not know".to_owned(),
        ));
    }
    let essence = content_type
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii()
        .to_ascii_lowercase();
    match essence.as_slice() {
        b"multipart/x-mixed-replace" => {
            let boundary = boundary(&content_type).ok_or_else(|| {
                FetchError::Protocol(format!(
                    "no boundary in the Content-Type \"{}\"",
                    one_line(&content_type)
                ))
            })?;
            Ok(Answer::Stream(Multipart {
                delimiter: [b"--", boundary.as_slice()].concat(),
                begun: false,
            }))
        }
        b"image/jpeg" | b"image/jpg" => Ok(Answer::Picture(Single { length })),
        _ => Err(FetchError::Protocol(format!(
            "{} is \"{}\", neither image/jpeg nor multipart/x-mixed-replace",
            url.target,
            one_line(&content_type)
        ))),
    }
}

impl Single {
    pub(super) fn next(&self, wire: &mut Wire, picture: &mut Vec<u8>) -> Result<(), FetchError> {
        match self.length {
            Some(length) => wire.read_exactly(length, picture, "within the picture"),
            None => {
                while wire.fill()? != 0 {
                    if wire.received().len() > PICTURE_LIMIT {
                        return Err(too_large());
                    }
                }
                picture.extend_from_slice(wire.received());
                Ok(())
            }
        }
    }
}

impl Multipart {
    pub(super) fn next(
        &mut self,
        wire: &mut Wire,
        picture: &mut Vec<u8>,
    ) -> Result<bool, FetchError> {
        if !self.skip_to_part(wire)? {
            return Ok(false);
        }
        let head_length = head_end(wire, "within the head of a part")?;
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let head = &wire.received()[..head_length];
        let length = match httparse::parse_headers(head, &mut fields) {
            Ok(httparse::Status::Complete((_, fields))) => content_length(fields)?,
            Ok(httparse::Status::Partial) => return Err(bad_part("incomplete")),
            Err(error) => return Err(bad_part(&error.to_string())),
        };
        wire.consume(head_length);
        match length {
            Some(length) => wire.read_exactly(length, picture, "within a picture")?,
            None => self.read_to_delimiter(wire, picture)?,
        }
        Ok(true)
    }

    /// Consumes everything up to and with the line of the next delimiter; false if it was the closing one.
    fn skip_to_part(&mut self, wire: &mut Wire) -> Result<bool, FetchError> {
        let mut skipped = 0;
        loop {
            let Some(end) = memchr::memchr(b'\n', wire.received()) else {
                if wire.received().len() + skipped > HEAD {
                    return Err(no_delimiter());
                }
                // A last delimiter need not end its line.
                let last = wire
                    .received()
                    .strip_prefix(self.delimiter.as_slice())
                    .is_some_and(|rest| rest.starts_with(b"--"));
                if last {
                    return Ok(false);
                }
                wire.fill_some("between two pictures")?;
                continue;
            };
            // White space may follow the boundary (RFC 2046, 5.1.1).
            let line = wire.received()[..end].trim_ascii_end();
            if !self.begun && !line.is_empty() && self.delimiter[2..] == *line {
                // Some IP cameras put the two hyphens into the parameter already.
                self.delimiter.drain(..2);
            }
            let found = match line.strip_prefix(self.delimiter.as_slice()) {
                Some(b"") => Some(true),
                Some(b"--") => Some(false),
                _ if self.begun && !line.is_empty() => return Err(no_delimiter()),
                _ => None,
            };
            wire.consume(end + 1);
            if let Some(part) = found {
                self.begun = true;
                return Ok(part);
            }
            skipped += end + 1;
            if skipped > HEAD {
                return Err(no_delimiter());
            }
        }
    }

    /// A part without Content-Length: everything up to the line end in front of the next delimiter.
    fn read_to_delimiter(&self, wire: &mut Wire, picture: &mut Vec<u8>) -> Result<(), FetchError> {
        let finder = memmem::Finder::new(&self.delimiter);
        let mut searched = 0;
        let end = loop {
            if let Some(at) = finder.find(&wire.received()[searched..]) {
                break searched + at;
            }
            let received = wire.received().len();
            if received > PICTURE_LIMIT {
                return Err(too_large());
            }
            // The delimiter may have begun in what is here.
            searched = received.saturating_sub(self.delimiter.len() - 1);
            wire.fill_some("within a picture")?;
        };
        let body = &wire.received()[..end];
        let body = body.strip_suffix(b"\n").unwrap_or(body);
        let body = body.strip_suffix(b"\r").unwrap_or(body);
        if body.len() > PICTURE_LIMIT {
            return Err(too_large());
        }
        picture.extend_from_slice(body);
        wire.consume(end);
        Ok(())
    }
}

/// Waits for a whole head; its length with the empty line at its end.
fn head_end(wire: &mut Wire, what: &str) -> Result<usize, FetchError> {
    loop {
        let received = wire.received();
        // A part without any field begins with the empty line.
        for empty in [b"\r\n".as_slice(), b"\n"] {
            if received.starts_with(empty) {
                return Ok(empty.len());
            }
        }
        let crlf = memmem::find(received, b"\r\n\r\n").map(|at| at + 4);
        let lf = memmem::find(received, b"\n\n").map(|at| at + 2);
        match [crlf, lf].into_iter().flatten().min() {
            Some(end) if end <= HEAD => return Ok(end),
            None if received.len() <= HEAD => wire.fill_some(what)?,
            _ => {
                return Err(FetchError::Protocol(format!(
                    "the server's head is larger than {HEAD} bytes"
                )));
            }
        }
    }
}

fn field<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    fields
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case(name))
        .map(|field| field.value)
}

/// The length of a body, checked against the limit.
fn content_length(fields: &[httparse::Header<'_>]) -> Result<Option<usize>, FetchError> {
    let Some(value) = field(fields, "content-length") else {
        return Ok(None);
    };
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FetchError::Protocol(format!(
            "Content-Length is \"{}\", not a number",
            one_line(value)
        )));
    }
    let mut length = 0usize;
    for digit in digits {
        length = length
            .saturating_mul(10)
            .saturating_add(usize::from(digit - b'0'));
    }
    if length > PICTURE_LIMIT {
        return Err(too_large());
    }
    Ok(Some(length))
}

/// The parameter `boundary` of a Content-Type, quoted or not (RFC 9110, 5.6.6). RFC 2046 allows no character in it
/// that would need a backslash.
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"boundary=";
    content_type
        .split(|&byte| byte == b';')
        .find_map(|parameter| {
            let parameter = parameter.trim_ascii();
            let (name, value) = parameter.split_at_checked(NAME.len())?;
            if !name.eq_ignore_ascii_case(NAME) {
                return None;
            }
            let value = match value.strip_prefix(b"\"") {
                Some(quoted) => quoted.strip_suffix(b"\"")?,
                None => value,
            };
            // RFC 2046, 5.1.1: 1 to 70 characters.
            (1..=70).contains(&value.len()).then(|| value.to_owned())
        })
}

/// The first line of the text that comes with a refusal; empty if there is none. Errors here would only hide the
/// refusal itself.
fn refusal_reason(wire: &mut Wire, length: Option<usize>) -> String {
    let wanted = length.unwrap_or(REASON).min(REASON);
    while wire.received().len() < wanted {
        match wire.fill() {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    let text = wire.received();
    one_line(&text[..text.len().min(wanted)])
}

fn not_http(why: &str) -> FetchError {
    FetchError::Protocol(format!("the server does not speak HTTP: {why}"))
}

fn bad_part(why: &str) -> FetchError {
    FetchError::Protocol(format!("the head of a part is damaged: {why}"))
}

fn no_delimiter() -> FetchError {
    FetchError::Protocol("no boundary where the next part should begin".to_owned())
}

fn too_large() -> FetchError {
    FetchError::Protocol(format!("a picture of more than {PICTURE_LIMIT} bytes"))
}
