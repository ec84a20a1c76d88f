//! The client's half of HTTP (RFC 9110, RFC 9112), as far as cameras speak it: the head of an answer, bodies in chunks, and
//! `multipart/x-mixed-replace`. Like the server's half it knows neither socket nor clock, and takes no memory.
//!
//! Servers are read as they are, not as they should be: lines may end with a bare line feed, a boundary may have its two hyphens
//! in the Content-Type already (IP cameras), may be quoted, and may follow its picture without a line end; parts may have no
//! Content-Length; and a stream may be chunked, as esp_http_server's (ESP32-CAM) and Go's always are.

use std::fmt;
use std::time::Duration;

use memchr::memmem;

use crate::limits::{ANSWER_FIELDS, ANSWER_HEAD};
use crate::picture::jpeg;

/// Characters of a boundary (RFC 2046, 5.1.1), and the hyphens in front.
const DELIMITER: usize = 2 + 70;

/// What no server of HTTP should send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A head has more than [`ANSWER_HEAD`] bytes.
    LongHead,
    /// What came is no head; `None`: it is not whole.
    NoHead(Option<httparse::Error>),
    /// The head of a part is damaged; `None`: it is not whole.
    PartHead(Option<httparse::Error>),
    /// Content-Length is no number.
    Length,
    /// A picture is larger than it may be; of so many bytes, if that was said.
    TooLarge(Option<usize>),
    /// The multipart answer names no boundary.
    NoBoundary,
    /// There is something else where the next part should begin.
    NoDelimiter,
    /// The chunks of the answer are damaged.
    Chunk,
    /// The answer is in a transfer coding other than chunked.
    Coding,
}

/// As a part of a sentence: "sends …".
impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::LongHead => write!(f, "a head of more than {ANSWER_HEAD} bytes"),
            Wrong::NoHead(None) => f.write_str("an incomplete head"),
            Wrong::NoHead(Some(error)) => write!(f, "what is not HTTP ({error})"),
            Wrong::PartHead(None) => f.write_str("an incomplete head of a part"),
            Wrong::PartHead(Some(error)) => write!(f, "a damaged head of a part ({error})"),
            Wrong::Length => f.write_str("a Content-Length that is not a number"),
            Wrong::TooLarge(Some(length)) => write!(f, "a picture of {length} bytes"),
            Wrong::TooLarge(None) => f.write_str("a picture that is too large"),
            Wrong::NoBoundary => f.write_str("multipart with no boundary in its Content-Type"),
            Wrong::NoDelimiter => f.write_str("no boundary where the next part should begin"),
            Wrong::Chunk => f.write_str("damaged chunks (chunked transfer coding)"),
            Wrong::Coding => f.write_str("a transfer coding other than chunked"),
        }
    }
}

/// Bytes of the head that `received` begins with, including the empty line at its end. `None`: it goes on.
pub fn head_length(received: &[u8]) -> Result<Option<usize>, Wrong> {
    // A part without any field begins with the empty line.
    for empty in [b"\r\n".as_slice(), b"\n"] {
        if received.starts_with(empty) {
            return Ok(Some(empty.len()));
        }
    }
    let begin = &received[..received.len().min(ANSWER_HEAD)];
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'\n', &begin[from..]) {
        let next = from + at + 1;
        match &begin[next..] {
            [b'\n', ..] => return Ok(Some(next + 1)),
            [b'\r', b'\n', ..] => return Ok(Some(next + 2)),
            _ => from = next,
        }
    }
    match received.len() > ANSWER_HEAD {
        true => Err(Wrong::LongHead),
        false => Ok(None),
    }
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// `multipart/…` with this boundary.
    Multipart(&'a [u8]),
    /// One picture, or what may be one (`application/octet-stream`).
    Picture,
    /// Something else.
    Other,
}

/// What an answer says before its body.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// 200 and the like.
    pub status: u16,
    /// What the server says to that. A stranger's.
    pub phrase: &'a str,
    /// Content-Type. A stranger's.
    pub content_type: &'a [u8],
    /// Content-Length, where nothing overrides it.
    pub length: Option<usize>,
    /// The body comes in chunks.
    pub chunked: bool,
    /// Location. A stranger's.
    pub location: Option<&'a [u8]>,
    /// Ways to log in that the server knows, if it wants that.
    pub login: Ways,
    /// The connection may be asked again.
    pub persists: bool,
    /// X-Timestamp, since 1970: camd's and µStreamer's moment of capture.
    pub stamp: Option<Duration>,
}

/// What WWW-Authenticate names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// RFC 7617
    pub basic: bool,
    /// RFC 7616
    pub digest: bool,
}

impl<'a> Head<'a> {
    /// Reads what [`head_length`] found. `most`: bytes that a body of known length may have, if it is a picture.
    pub fn parse(bytes: &'a [u8]) -> Result<Head<'a>, Wrong> {
        let mut fields = [httparse::EMPTY_HEADER; ANSWER_FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let mut config = httparse::ParserConfig::default();
        // Firmware of cameras.
        config.allow_spaces_after_header_name_in_responses(true);
        config.allow_obsolete_multiline_headers_in_responses(true);
        config.ignore_invalid_headers_in_responses(true);
        match config.parse_response(&mut head, bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Wrong::NoHead(None)),
            Err(error) => return Err(Wrong::NoHead(Some(error))),
        }
        let fields = &*head.headers;
        let coding = field(fields, "transfer-encoding").unwrap_or(b"identity");
        let chunked = coding.eq_ignore_ascii_case(b"chunked");
        if !chunked && !coding.eq_ignore_ascii_case(b"identity") {
            return Err(Wrong::Coding);
        }
        let says = |word: &[u8]| {
            field(fields, "connection").is_some_and(|value| {
                let mut words = value.split(|&byte| byte == b',');
                words.any(|it| it.trim_ascii().eq_ignore_ascii_case(word))
            })
        };
        Ok(Head {
            status: head.code.unwrap_or(0),
            phrase: head.reason.unwrap_or(""),
            content_type: field(fields, "content-type").unwrap_or(b""),
            length: match chunked {
                true => None,
                false => content_length(fields)?,
            },
            chunked,
            location: field(fields, "location"),
            login: ways(fields),
            persists: match head.version {
                Some(1) => !says(b"close"),
                _ => says(b"keep-alive"),
            },
            stamp: stamp(fields),
        })
    }

    /// What its body is.
    pub fn content(&self) -> Result<Content<'a>, Wrong> {
        let mut parameters = self.content_type.split(|&byte| byte == b';');
        let essence = parameters.next().unwrap_or_default().trim_ascii();
        let is = |name: &[u8]| essence.eq_ignore_ascii_case(name);
        let family = b"multipart/";
        let begin = essence.get(..family.len()).unwrap_or_default();
        if begin.eq_ignore_ascii_case(family) {
            let boundary = boundary(self.content_type).ok_or(Wrong::NoBoundary)?;
            return Ok(Content::Multipart(boundary));
        }
        Ok(match is_jpeg(essence) || is(b"application/octet-stream") {
            true => Content::Picture,
            false => Content::Other,
        })
    }
}

fn is_jpeg(essence: &[u8]) -> bool {
    [b"image/jpeg".as_slice(), b"image/jpg", b"image/pjpeg"]
        .iter()
        .any(|name| essence.eq_ignore_ascii_case(name))
}

fn field<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    fields
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case(name))
        .map(|field| field.value.trim_ascii())
}

fn ways(fields: &[httparse::Header<'_>]) -> Ways {
    let mut ways = Ways::default();
    for field in fields {
        if field.name.eq_ignore_ascii_case("www-authenticate") {
            // Challenges stand in fields of their own, or in one, behind commas like their parameters.
            for word in field.value.split(|&byte| byte == b',') {
                let word = word.trim_ascii();
                let end = word.iter().position(|&byte| byte == b' ');
                let scheme = &word[..end.unwrap_or(word.len())];
                ways.basic |= scheme.eq_ignore_ascii_case(b"basic");
                ways.digest |= scheme.eq_ignore_ascii_case(b"digest");
            }
        }
    }
    ways
}

/// What does not fit is as large as can be.
fn content_length(fields: &[httparse::Header<'_>]) -> Result<Option<usize>, Wrong> {
    let Some(digits) = field(fields, "content-length") else {
        return Ok(None);
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Wrong::Length);
    }
    let number = digits.iter().fold(0_usize, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(usize::from(digit - b'0'))
    });
    Ok(Some(number))
}

/// Seconds, with a fraction or without. `None`: it is not there, or is nothing of that kind.
fn stamp(fields: &[httparse::Header<'_>]) -> Option<Duration> {
    let text = std::str::from_utf8(field(fields, "x-timestamp")?).ok()?;
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds: f64 = text.parse().ok().filter(|_| plain)?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The parameter `boundary` of a Content-Type, quoted or not (RFC 9110, 5.6.6). RFC 2046 allows no character in it
/// that would need a backslash.
fn boundary(content_type: &[u8]) -> Option<&[u8]> {
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
            (1..=DELIMITER - 2).contains(&value.len()).then_some(value)
        })
}

/// A body in chunks (RFC 9112, 7.1).
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    stage: Chunk,
    /// Of the chunk, to come.
    left: usize,
    /// Bytes of the lines since the last chunk.
    line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// Before the first digit.
    Begin,
    Size,
    /// Behind the digits.
    Extension,
    Data,
    /// The line end behind it.
    DataEnd,
    /// At the beginning of a line, or within one.
    Trailer(bool),
    Over,
}

impl Default for Chunks {
    fn default() -> Self {
        Chunks {
            stage: Chunk::Begin,
            left: 0,
            line: 0,
        }
    }
}

impl Chunks {
    /// Takes in what came, and leaves the body in it, in front; how many bytes of it.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<usize, Wrong> {
        let (mut at, mut out) = (0, 0);
        while at < bytes.len() {
            if self.stage == Chunk::Data {
                let n = self.left.min(bytes.len() - at);
                if out != at {
                    bytes.copy_within(at..at + n, out);
                }
                (at, out, self.left) = (at + n, out + n, self.left - n);
                if self.left == 0 {
                    (self.stage, self.line) = (Chunk::DataEnd, 0);
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            self.line += 1;
            if self.line > ANSWER_HEAD {
                return Err(Wrong::Chunk);
            }
            let line_end = if self.left == 0 {
                Chunk::Trailer(true)
            } else {
                Chunk::Data
            };
            self.stage = match (self.stage, byte) {
                (Chunk::Begin | Chunk::Size, b) if b.is_ascii_hexdigit() => {
                    let digit = char::from(b).to_digit(16).unwrap_or_default() as usize;
                    let left = self.left.checked_mul(16).ok_or(Wrong::Chunk)?;
                    self.left = left + digit;
                    Chunk::Size
                }
                (Chunk::Size, b'\n') | (Chunk::Extension, b'\n') => line_end,
                // Some servers fill the size up with spaces.
                (Chunk::Size, b'\r' | b';' | b' ' | b'\t') => Chunk::Extension,
                (Chunk::Extension, _) => Chunk::Extension,
                (Chunk::DataEnd, b'\r') => Chunk::DataEnd,
                (Chunk::DataEnd, b'\n') => Chunk::Begin,
                (Chunk::Trailer(true), b'\n') => Chunk::Over,
                (Chunk::Trailer(begin), b'\r') => Chunk::Trailer(begin),
                (Chunk::Trailer(_), b'\n') => Chunk::Trailer(true),
                (Chunk::Trailer(_), _) => Chunk::Trailer(false),
                // Nothing was asked for that could follow.
                (Chunk::Over, _) => return Ok(out),
                _ => return Err(Wrong::Chunk),
            };
        }
        Ok(out)
    }

    /// The last chunk has come, with all that is behind it.
    pub fn is_over(&self) -> bool {
        self.stage == Chunk::Over
    }
}

/// What is to be done with the bytes that came of a multipart body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More of them must come.
    More,
    /// So many are done with.
    Skip(usize),
    /// A picture of `length` bytes begins at `start`; all up to `used` is done with then.
    Picture {
        /// Where it begins.
        start: usize,
        /// Its bytes.
        length: usize,
        /// With what belongs to it.
        used: usize,
        /// X-Timestamp.
        stamp: Option<Duration>,
    },
    /// The stream has ended in good order.
    End,
}

/// A body of `multipart/x-mixed-replace` or the like (RFC 2046, 5.1).
///
/// Its owner keeps what came and was not done with; `step` is given all of it each time.
#[derive(Clone, Debug)]
pub struct Multipart {
    /// `--boundary`, or `boundary` if that has the hyphens already.
    delimiter: heapless::Vec<u8, DELIMITER>,
    /// The preamble, which may contain anything (RFC 2046, 5.1.1), is over.
    begun: bool,
    place: Place,
    /// Bytes in front of a delimiter that were done with.
    skipped: usize,
    /// Bytes of the picture that are known to have no delimiter in them.
    searched: usize,
    /// Bytes of it in which its own end was looked for in vain.
    tried: usize,
    /// Bytes of a picture at most.
    most: usize,
}

/// What is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Delimiter,
    Head,
    Body(Part),
    /// What follows a picture that was over before the next delimiter came.
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    length: Option<usize>,
    /// It is of another type.
    foreign: bool,
    stamp: Option<Duration>,
}

impl Multipart {
    /// A body with this boundary, of pictures of so many bytes at most. What comes is given to [`Multipart::step`] in pieces of
    /// any size, up to [`Multipart::room`].
    pub fn new(boundary: &[u8], most: usize) -> Multipart {
        let mut delimiter = heapless::Vec::new();
        for part in [
            b"--".as_slice(),
            &boundary[..boundary.len().min(DELIMITER - 2)],
        ] {
            delimiter
                .extend_from_slice(part)
                .expect("two hyphens and a boundary of that length");
        }
        Multipart {
            delimiter,
            begun: false,
            place: Place::Delimiter,
            skipped: 0,
            searched: 0,
            tried: 0,
            most,
        }
    }

    /// Bytes that must find room for each step to come to an end, where pictures have `most` at most.
    pub const fn room(most: usize) -> usize {
        let body = most + DELIMITER + 4;
        if body > ANSWER_HEAD + 1 {
            body
        } else {
            ANSWER_HEAD + 1
        }
    }

    /// What the server was sending, for the error if it ends there.
    pub fn place(&self) -> &'static str {
        match self.place {
            Place::Delimiter | Place::Rest => "between two pictures",
            Place::Head => "within the head of a part",
            Place::Body(_) => "within a picture",
        }
    }

    /// Goes on with what came, from the first byte that is not done with.
    pub fn step(&mut self, received: &[u8]) -> Result<Step, Wrong> {
        match self.place {
            Place::Delimiter => self.delimiter(received),
            Place::Head => self.head(received),
            Place::Body(part) => self.body(part, received),
            Place::Rest => self.rest(received),
        }
    }

    /// Takes in a line, which may be the delimiter's.
    fn delimiter(&mut self, received: &[u8]) -> Result<Step, Wrong> {
        let Some(end) = memchr::memchr(b'\n', received) else {
            if received.len() + self.skipped > ANSWER_HEAD {
                return Err(Wrong::NoDelimiter);
            }
            // A last delimiter need not end its line.
            let last = received
                .strip_prefix(self.delimiter.as_slice())
                .is_some_and(|rest| rest.starts_with(b"--"));
            return Ok(if last { Step::End } else { Step::More });
        };
        // White space may follow the boundary (RFC 2046, 5.1.1).
        let line = received[..end].trim_ascii_end();
        if !self.begun && !line.is_empty() && self.delimiter[2..] == *line {
            // Some IP cameras put the two hyphens into the parameter already.
            self.delimiter.rotate_left(2);
            self.delimiter.truncate(line.len());
        }
        match line.strip_prefix(self.delimiter.as_slice()) {
            Some(b"") => {
                self.begun = true;
                self.skipped = 0;
                self.place = Place::Head;
                return Ok(Step::Skip(end + 1));
            }
            Some(b"--") => return Ok(Step::End),
            _ if self.begun && !line.is_empty() => return Err(Wrong::NoDelimiter),
            _ => {}
        }
        self.skipped += end + 1;
        match self.skipped > ANSWER_HEAD {
            true => Err(Wrong::NoDelimiter),
            false => Ok(Step::Skip(end + 1)),
        }
    }

    fn head(&mut self, received: &[u8]) -> Result<Step, Wrong> {
        let Some(length) = head_length(received)? else {
            return Ok(Step::More);
        };
        let mut fields = [httparse::EMPTY_HEADER; ANSWER_FIELDS];
        let part = match httparse::parse_headers(&received[..length], &mut fields) {
            Ok(httparse::Status::Complete((_, fields))) => Part {
                length: content_length(fields)?,
                foreign: field(fields, "content-type").is_some_and(|value| {
                    let essence = value.split(|&byte| byte == b';').next();
                    let essence = essence.unwrap_or_default().trim_ascii();
                    let is_text = |name: &[u8]| {
                        let begin = essence.get(..name.len()).unwrap_or_default();
                        begin.eq_ignore_ascii_case(name)
                    };
                    // Status lines and sound. Whatever else it is called, it may be a JPEG.
                    is_text(b"text/") || is_text(b"audio/") || is_text(b"application/json")
                }),
                stamp: stamp(fields),
            },
            Ok(httparse::Status::Partial) => return Err(Wrong::PartHead(None)),
            Err(error) => return Err(Wrong::PartHead(Some(error))),
        };
        if let Some(length) = part.length.filter(|&length| length > self.most) {
            return Err(Wrong::TooLarge(Some(length)));
        }
        self.place = Place::Body(part);
        self.searched = 0;
        self.tried = 0;
        Ok(Step::Skip(length))
    }

    fn body(&mut self, part: Part, received: &[u8]) -> Result<Step, Wrong> {
        let (length, used, next) = match part.length {
            Some(length) if received.len() < length => return Ok(Step::More),
            Some(length) => (length, length, Place::Delimiter),
            None => match self.find_delimiter(received) {
                Some(at) => (
                    without_line_end(&received[..at]).len(),
                    at,
                    Place::Delimiter,
                ),
                None => {
                    // The delimiter may have begun.
                    if received.len() > self.most + 2 + self.delimiter.len() {
                        return Err(Wrong::TooLarge(None));
                    }
                    // Else it would wait for the next one: most servers send the delimiter in front of that.
                    let body = without_line_end(received);
                    if !self.is_whole(body) {
                        return Ok(Step::More);
                    }
                    (body.len(), received.len(), Place::Rest)
                }
            },
        };
        if length > self.most {
            return Err(Wrong::TooLarge(Some(length)));
        }
        self.place = next;
        self.skipped = 0;
        self.searched = 0;
        Ok(match part.foreign {
            true => Step::Skip(used),
            false => Step::Picture {
                start: 0,
                length,
                used,
                stamp: part.stamp,
            },
        })
    }

    /// Passes over padding and the like.
    fn rest(&mut self, received: &[u8]) -> Result<Step, Wrong> {
        let used = match self.find_delimiter(received) {
            Some(at) => {
                self.place = Place::Delimiter;
                self.searched = 0;
                at
            }
            None => std::mem::take(&mut self.searched),
        };
        if self.place == Place::Rest && used == 0 {
            return Ok(Step::More);
        }
        self.skipped += used;
        if self.skipped > self.most {
            return Err(Wrong::TooLarge(None));
        }
        if self.place == Place::Delimiter {
            self.skipped = 0;
        }
        Ok(Step::Skip(used))
    }

    /// Whether a picture ends here by itself. That its last bytes are those of an end says nothing: a thumbnail has some, too.
    /// It is looked for seldom enough that it costs little for each byte, whatever comes.
    fn is_whole(&mut self, body: &[u8]) -> bool {
        if !body.ends_with(&[0xFF, 0xD9]) || body.len() < self.tried + self.tried / 4 {
            return false;
        }
        self.tried = body.len();
        jpeg::inspect(body).is_ok_and(|found| found.range() == (0..body.len()) && !found.debris)
    }

    /// `None`: it is not there, but may have begun behind `searched`.
    fn find_delimiter(&mut self, received: &[u8]) -> Option<usize> {
        let from = self.searched.min(received.len());
        if let Some(at) = memmem::find(&received[from..], &self.delimiter) {
            return Some(from + at);
        }
        self.searched = received.len().saturating_sub(self.delimiter.len() - 1);
        None
    }
}

/// The line end in front of a delimiter belongs to that.
fn without_line_end(body: &[u8]) -> &[u8] {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    body.strip_suffix(b"\r").unwrap_or(body)
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
