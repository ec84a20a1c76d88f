//! HTTP: one request, answered with a picture or with `multipart/x-mixed-replace`. What comes is read by
//! [`crate::protocol::http::answer`].

use super::error::{FetchError, one_line};
use super::film::{self, HEAD};
use super::pictures::PICTURE_LIMIT;
use super::url::Url;
use super::wire::Wire;
use crate::config::Login;
use crate::protocol::http::answer::{Content, Head, Multipart, Step, Wrong, head_length};

/// What is read of the text that explains a refusal.
const REASON: usize = 1024;

pub(super) enum Answer {
    /// What is asked for is elsewhere on the same host.
    Moved(Url),
    Stream(Stream),
    Picture(Single),
    /// H.264 in a fragmented MP4.
    Film,
}

/// The body of an `image/jpeg` answer.
pub(super) struct Single {
    /// `None`: up to the end of the connection (RFC 9112, 6.3), or of the last chunk.
    length: Option<usize>,
}

/// The body of a multipart answer.
pub(super) struct Stream(Multipart);

/// Asks for the URL's target and reads the answer's head. `followed`: redirections that led here.
pub(super) fn request(
    wire: &mut Wire,
    url: &Url,
    login: Option<&Login>,
    followed: u8,
) -> Result<Answer, FetchError> {
    let authorization = login.map_or(String::new(), |login| {
        format!("Authorization: {}\r\n", login.authorization())
    });
    // HTTP/1.0, as a server should not answer that in chunks (RFC 9112, 6.1), which save nothing here. Some do all the same.
    // The Host field is what name-based virtual hosts need.
    let request = format!(
        "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: camd/{}\r\nAccept: multipart/x-mixed-replace, image/jpeg, video/mp4\r\n{authorization}\r\n",
        url.target,
        url.host_field(),
        env!("CARGO_PKG_VERSION")
    );
    wire.send(request.as_bytes())?;
    let length = loop {
        match head_length(wire.received())? {
            Some(length) => break length,
            None => wire.fill_some("before its answer was complete")?,
        }
    };
    let bytes = wire.received()[..length].to_vec();
    let head = Head::parse(&bytes)?;
    wire.consume(length);
    if matches!(head.status, 301 | 302 | 303 | 307 | 308)
        && let Ok(to) = url.redirect(&head, login, followed)
    {
        return Ok(Answer::Moved(to));
    }
    if head.status != 200 {
        return Err(refused(wire, url, &head, login.is_some()));
    }
    let content = head.content().map_err(|wrong| match wrong {
        Wrong::NoBoundary => FetchError::Protocol(format!(
            "no boundary in the Content-Type \"{}\"",
            one_line(head.content_type)
        )),
        wrong => wrong.into(),
    })?;
    if head.chunked {
        wire.unchunk()?;
    }
    match content {
        Content::Multipart(boundary) => Ok(Answer::Stream(Stream(Multipart::new(
            boundary,
            PICTURE_LIMIT,
        )))),
        Content::Picture if head.length.is_some_and(|length| length > PICTURE_LIMIT) => {
            Err(Wrong::TooLarge(head.length).into())
        }
        Content::Picture => Ok(Answer::Picture(Single {
            length: head.length,
        })),
        Content::Other if is_film(head.content_type) => Ok(Answer::Film),
        Content::Other => Err(FetchError::Protocol(format!(
            "{} is \"{}\", neither image/jpeg nor multipart/x-mixed-replace nor video/mp4",
            url.target,
            one_line(head.content_type)
        ))),
    }
}

fn is_film(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next();
    essence.is_some_and(|it| it.trim_ascii().eq_ignore_ascii_case(b"video/mp4"))
}

/// The next box of a film; false: it has ended.
pub(super) fn next_box(wire: &mut Wire, out: &mut Vec<u8>) -> Result<bool, FetchError> {
    if wire.received().is_empty() && wire.fill()? == 0 {
        return Ok(false);
    }
    wire.read_exactly(HEAD, out, "within the film")?;
    let head = out.first_chunk().expect("it was read");
    let size = film::box_size(head)?;
    wire.read_exactly(size - HEAD, out, "within the film")?;
    Ok(true)
}

/// What a server says in place of a picture, and what helps.
fn refused(wire: &mut Wire, url: &Url, head: &Head<'_>, login: bool) -> FetchError {
    let phrase = one_line(head.phrase.as_bytes());
    let mut text = format!("the server answered {} {phrase}", head.status);
    let ways = head.login;
    let reason = match (head.status, head.location) {
        (401, _) if ways.digest && !ways.basic => {
            "it wants a login by Digest, and only Basic is spoken here".to_owned()
        }
        (401, _) if login => "it does not take this user and password".to_owned(),
        (401, _) => format!(
            "it wants a login, as in http://USER:PASSWORD@{}{}",
            url.host_field(),
            url.target
        ),
        (300..=399, Some(location)) => format!("it is at {}", one_line(location)),
        _ if !head.chunked && !head.content_type.starts_with(b"text/html") => {
            refusal_reason(wire, head.length)
        }
        _ => String::new(),
    };
    if !reason.is_empty() {
        text = format!("{text}: {reason}");
    }
    match head.status {
        503 => FetchError::NoPicture(text),
        _ => FetchError::Protocol(text),
    }
}

impl Single {
    pub(super) fn next(&self, wire: &mut Wire, picture: &mut Vec<u8>) -> Result<(), FetchError> {
        if let Some(length) = self.length {
            return wire.read_exactly(length, picture, "within the picture");
        }
        while wire.fill()? != 0 {
            if wire.received().len() > PICTURE_LIMIT {
                return Err(Wrong::TooLarge(None).into());
            }
        }
        picture.extend_from_slice(wire.received());
        Ok(())
    }
}

impl Stream {
    pub(super) fn next(
        &mut self,
        wire: &mut Wire,
        picture: &mut Vec<u8>,
    ) -> Result<bool, FetchError> {
        loop {
            match self.0.step(wire.received())? {
                Step::More => wire.fill_some(self.0.place())?,
                Step::Skip(n) => wire.consume(n),
                Step::Picture {
                    start,
                    length,
                    used,
                    ..
                } => {
                    picture.extend_from_slice(&wire.received()[start..][..length]);
                    wire.consume(used);
                    return Ok(true);
                }
                Step::End => return Ok(false),
            }
        }
    }
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
