//! Pictures from a server, whichever protocol it speaks.

use std::time::Duration;

use super::error::{FetchError, one_line};
use super::film::Boxes;
use super::pictures::{PICTURE_LIMIT, Pictures};
use super::url::{Scheme, Url};
use super::wire::Wire;
use super::{call, http, pull, push, raw};
use crate::picture::h264::{START_CODE, begins_stream};
use crate::protocol::push::{HEADER, parse_header};
use crate::tls::client::{Client, Trust};
use crate::tls::fingerprint::Fingerprint;

/// How long one may take to answer who is asked for what it is.
const PROBE: Duration = Duration::from_secs(1);

/// From a server, over TCP.
pub(super) struct Network {
    wire: Wire,
    receiver: Receiver,
    /// To say what is there if no picture comes from it; `None`: one has come.
    url: Option<Url>,
    tls: Option<Client>,
}

impl Network {
    /// `timeout` is as in the options. `count`: pictures that are wanted.
    pub(super) fn connect(
        url: &Url,
        fingerprint: Option<Fingerprint>,
        timeout: Duration,
        count: u64,
    ) -> Result<Network, FetchError> {
        if fingerprint.is_some() && !url.tls {
            return Err(FetchError::Url(
                "--fingerprint means nothing without TLS: https, pulls, pushs, raws, calls"
                    .to_owned(),
            ));
        }
        let mut url = url.clone();
        let mut followed = 0;
        loop {
            let trust = fingerprint.map_or(Trust::System, Trust::Certificate);
            let tls = match url.tls {
                true => Some(Client::new(trust).map_err(FetchError::Connection)?),
                false => None,
            };
            let mut wire = Wire::connect((&url.host, url.port), tls.as_ref(), timeout)?;
            let opened = Receiver::open(&url, &mut wire, count, followed);
            let opened = opened.map_err(|error| explain(error, &url, tls.as_ref(), wire.first()));
            match opened? {
                Opened::Receiver(receiver) => {
                    return Ok(Network {
                        wire,
                        receiver,
                        url: Some(url),
                        tls,
                    });
                }
                Opened::Moved(to) => url = to,
            }
            followed += 1;
        }
    }
}

/// The error, with what there is at the URL if that can be told: a port of another protocol is the usual reason why the
/// first picture does not come.
fn explain(error: FetchError, url: &Url, tls: Option<&Client>, first: &[u8]) -> FetchError {
    let place = url.host_field();
    let (heard, probed);
    // Where the client says nothing, others wait for its first word.
    if first.is_empty() && matches!(url.scheme, Scheme::Push | Scheme::Raw) {
        probed = probe(url, tls).unwrap_or_default();
        heard = probed.as_slice();
    } else {
        heard = first;
    }
    let s = if url.tls { "s" } else { "" };
    let header = heard.first_chunk::<HEADER>();
    let is_push = header.is_some_and(|header| parse_header(*header, PICTURE_LIMIT).is_some());
    let found = if heard.starts_with(b"HTTP/") && !matches!(url.scheme, Scheme::Http(_)) {
        let answer = one_line(heard);
        format!("HTTP answers there (\"{answer}\"): try http{s}://{place}/stream")
    } else if heard.starts_with(&[0xFF, 0xD8]) && url.scheme != Scheme::Raw {
        format!("bare JPEGs come from there: try raw{s}://{place}")
    } else if is_push && url.scheme != Scheme::Push {
        format!("that is a push server: try push{s}://{place}")
    } else if header.is_some_and(|header| header.iter().all(u8::is_ascii_graphic))
        && url.scheme == Scheme::Push
    {
        format!("what answers there says \"{}\"", one_line(heard))
    } else {
        return error;
    };
    FetchError::Protocol(format!("{error}; {found}"))
}

/// What the server answers to a request by HTTP, which most servers of other protocols take for noise.
fn probe(url: &Url, tls: Option<&Client>) -> Result<Vec<u8>, FetchError> {
    let mut wire = Wire::connect((&url.host, url.port), tls, PROBE)?;
    wire.send(format!("HEAD / HTTP/1.0\r\nHost: {}\r\n\r\n", url.host_field()).as_bytes())?;
    wire.fill()?;
    Ok(wire.first().to_vec())
}

impl Network {
    /// Whether what comes is H.264. Where only its beginning tells, that is waited for.
    pub(super) fn is_film(&mut self) -> Result<bool, FetchError> {
        if let Receiver::Raw(_) = self.receiver {
            while self.wire.received().len() < START_CODE.len() {
                let filled = self.wire.fill();
                let url = self.url.as_ref().expect("no picture has come");
                let explained = filled
                    .map_err(|error| explain(error, url, self.tls.as_ref(), self.wire.first()));
                if explained? == 0 {
                    break;
                }
            }
            if begins_stream(self.wire.received()) {
                self.receiver = Receiver::Bytes(Box::new(raw::Film::new()));
            }
        }
        Ok(matches!(self.receiver, Receiver::Film | Receiver::Bytes(_)))
    }
}

impl Boxes for Network {
    fn next_box(&mut self, out: &mut Vec<u8>) -> Result<bool, FetchError> {
        self.wire.restart_timeout();
        match &mut self.receiver {
            Receiver::Film => http::next_box(&mut self.wire, out),
            Receiver::Bytes(film) => film.next_box(&mut self.wire, out),
            _ => unreachable!("it was seen to be a film"),
        }
    }
}

impl Pictures for Network {
    fn next(&mut self, picture: &mut Vec<u8>) -> Result<bool, FetchError> {
        self.wire.restart_timeout();
        let next = self.receiver.next(&mut self.wire, picture);
        match self.url.take() {
            Some(url) => {
                next.map_err(|error| explain(error, &url, self.tls.as_ref(), self.wire.first()))
            }
            None => next,
        }
    }

    fn finish(&mut self) {
        self.receiver.finish(&mut self.wire);
    }
}

/// What a server has at a URL.
enum Opened {
    Receiver(Receiver),
    Moved(Url),
}

/// The closed set of wires.
enum Receiver {
    Pull(pull::Receiver),
    Push,
    Raw(raw::Receiver),
    Multipart(http::Stream),
    Single(http::Single),
    Call(call::Receiver),
    /// H.264 in a fragmented MP4, and as a stream of bytes.
    Film,
    Bytes(Box<raw::Film>),
}

impl Receiver {
    fn open(url: &Url, wire: &mut Wire, count: u64, followed: u8) -> Result<Opened, FetchError> {
        let receiver = match &url.scheme {
            Scheme::Pull => Receiver::Pull(pull::Receiver::new()),
            Scheme::Push => Receiver::Push,
            Scheme::Raw => Receiver::Raw(raw::Receiver::new()),
            Scheme::Http(login) => match http::request(wire, url, login.as_ref(), followed)? {
                http::Answer::Moved(to) => return Ok(Opened::Moved(to)),
                http::Answer::Stream(multipart) => Receiver::Multipart(multipart),
                http::Answer::Film => Receiver::Film,
                http::Answer::Picture(single) if count == 1 => Receiver::Single(single),
                http::Answer::Picture(_) => {
                    return Err(FetchError::Protocol(format!(
                        "{} answers with one picture, not with a stream: fetch it with -n 1",
                        url.target
                    )));
                }
            },
            Scheme::Call(call) => Receiver::Call(call::Receiver::ring(wire, call)?),
        };
        Ok(Opened::Receiver(receiver))
    }

    /// Puts the next whole picture into the empty `picture`; false: the server ended the stream in good order.
    fn next(&mut self, wire: &mut Wire, picture: &mut Vec<u8>) -> Result<bool, FetchError> {
        match self {
            Receiver::Pull(receiver) => receiver.next(wire, picture).map(|()| true),
            Receiver::Push => push::next(wire, picture).map(|()| true),
            Receiver::Raw(receiver) => receiver.next(wire, picture),
            Receiver::Multipart(multipart) => multipart.next(wire, picture),
            Receiver::Single(single) => single.next(wire, picture).map(|()| true),
            Receiver::Call(receiver) => receiver.next(wire, picture),
            Receiver::Film | Receiver::Bytes(_) => unreachable!("a film has no pictures apart"),
        }
    }

    /// Takes leave where the protocol has a word for it; else the end of the connection says it.
    fn finish(&self, wire: &mut Wire) {
        if let Receiver::Call(receiver) = self {
            receiver.finish(wire);
        }
    }
}
