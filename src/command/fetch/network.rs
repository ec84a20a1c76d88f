//! Pictures from a server, whichever protocol it speaks.

use std::time::Duration;

use super::error::FetchError;
use super::pictures::Pictures;
use super::url::{Scheme, Url};
use super::wire::Wire;
use super::{call, http, pull, push, raw};

/// From a server, over TCP.
pub(super) struct Network {
    wire: Wire,
    receiver: Receiver,
}

impl Network {
    /// `timeout` is as in the options. `count`: pictures that are wanted.
    pub(super) fn connect(url: &Url, timeout: Duration, count: u64) -> Result<Network, FetchError> {
        let mut wire = Wire::connect(&url.host, url.port, timeout)?;
        let receiver = Receiver::new(url, &mut wire, count)?;
        Ok(Network { wire, receiver })
    }
}

impl Pictures for Network {
    fn next(&mut self, picture: &mut Vec<u8>) -> Result<bool, FetchError> {
        self.wire.restart_timeout();
        self.receiver.next(&mut self.wire, picture)
    }

    fn finish(&mut self) {
        self.receiver.finish(&mut self.wire);
    }
}

/// The closed set of wires.
enum Receiver {
    Pull(pull::Receiver),
    Push,
    Raw(raw::Receiver),
    Multipart(http::Multipart),
    Single(http::Single),
    Call(call::Receiver),
}

impl Receiver {
    fn new(url: &Url, wire: &mut Wire, count: u64) -> Result<Receiver, FetchError> {
        match &url.scheme {
            Scheme::Pull => Ok(Receiver::Pull(pull::Receiver::new())),
            Scheme::Push => Ok(Receiver::Push),
            Scheme::Raw => Ok(Receiver::Raw(raw::Receiver::new())),
            Scheme::Http => match http::request(wire, url)? {
                http::Answer::Stream(multipart) => Ok(Receiver::Multipart(multipart)),
                http::Answer::Picture(single) if count == 1 => Ok(Receiver::Single(single)),
                http::Answer::Picture(_) => Err(FetchError::Protocol(format!(
                    "{} answers with one picture, not with a stream: fetch it with -n 1",
                    url.target
                ))),
            },
            Scheme::Call(call) => call::Receiver::ring(wire, call).map(Receiver::Call),
        }
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
        }
    }

    /// Takes leave where the protocol has a word for it; else the end of the connection says it.
    fn finish(&self, wire: &mut Wire) {
        if let Receiver::Call(receiver) = self {
            receiver.finish(wire);
        }
    }
}
