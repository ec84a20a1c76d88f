//! Bare JPEGs one behind the other, or H.264 as a stream of bytes, as a raw listener sends them ([`crate::protocol::raw`]).

use std::time::Instant;

use super::error::{FetchError, one_line};
use super::film::Muxer;
use super::pictures::PICTURE_LIMIT;
use super::wire::Wire;
use crate::picture::h264;
use crate::picture::jpeg::{SplitCounts, Splitter};

const SOI: [u8; 2] = [0xFF, 0xD8];

pub(super) struct Receiver {
    splitter: Splitter,
    /// Bytes of the first picture's SOI that have come.
    begun: usize,
}

impl Receiver {
    pub(super) fn new() -> Receiver {
        Receiver {
            // Resident as far as pictures need it.
            splitter: Splitter::new(PICTURE_LIMIT),
            begun: 0,
        }
    }

    /// False: the server has ended the stream behind a picture.
    pub(super) fn next(
        &mut self,
        wire: &mut Wire,
        picture: &mut Vec<u8>,
    ) -> Result<bool, FetchError> {
        loop {
            let found = self.splitter.next_frame();
            let whole = found.map(|jpeg| picture.extend_from_slice(jpeg)).is_some();
            // A damaged one in front of it counts.
            self.check()?;
            if whole {
                return Ok(true);
            }
            if wire.received().is_empty() && wire.fill()? == 0 {
                return self.end();
            }
            self.check_beginning(wire)?;
            let spare = self.splitter.spare();
            let some = spare.len().min(wire.received().len());
            spare[..some].copy_from_slice(&wire.received()[..some]);
            self.splitter.filled(some);
            wire.consume(some);
        }
    }

    /// Between pictures there may be what a camera pads them with, but not in front of the first one: that is another
    /// protocol.
    fn check_beginning(&mut self, wire: &Wire) -> Result<(), FetchError> {
        let received = wire.received();
        let awaited = &SOI[self.begun..];
        let known = received.len().min(awaited.len());
        if received[..known] != awaited[..known] {
            return Err(FetchError::Protocol(format!(
                "a JPEG expected, which begins with FF D8, got \"{}\"",
                one_line(&received[..received.len().min(40)])
            )));
        }
        self.begun += known;
        Ok(())
    }

    fn check(&self) -> Result<(), FetchError> {
        let SplitCounts { bad, oversized, .. } = self.splitter.counts();
        match (bad, oversized) {
            (0, 0) => Ok(()),
            (0, _) => Err(FetchError::Protocol(format!(
                "a picture of more than {PICTURE_LIMIT} bytes"
            ))),
            _ => Err(FetchError::Protocol(
                "a damaged picture: it ends before its end marker".to_owned(),
            )),
        }
    }

    fn end(&mut self) -> Result<bool, FetchError> {
        self.splitter.reset();
        match self.splitter.counts() {
            _ if self.begun < SOI.len() => Err(FetchError::Connection(
                "the server closed the connection instead of sending a picture".to_owned(),
            )),
            SplitCounts {
                bad: 0,
                oversized: 0,
                ..
            } => Ok(false),
            _ => Err(FetchError::Connection(
                "the server closed the connection within a picture".to_owned(),
            )),
        }
    }
}

/// H.264 as a stream of bytes.
pub(super) struct Film {
    splitter: h264::Splitter,
    lost: h264::Lost,
    muxer: Muxer,
}

impl Film {
    pub(super) fn new() -> Film {
        Film {
            // Resident as far as pictures need it.
            splitter: h264::Splitter::new(PICTURE_LIMIT),
            lost: h264::Lost::default(),
            muxer: Muxer::new(),
        }
    }

    /// False: the server has ended it.
    pub(super) fn next_box(
        &mut self,
        wire: &mut Wire,
        out: &mut Vec<u8>,
    ) -> Result<bool, FetchError> {
        loop {
            if self.muxer.next_box(out) {
                return Ok(true);
            }
            if let Some(unit) = self.splitter.next_unit() {
                self.muxer.push(unit, Instant::now())?;
                continue;
            }
            let lost = self.splitter.lost();
            if std::mem::replace(&mut self.lost, lost) != lost {
                self.muxer.cut();
            }
            if wire.received().is_empty() && wire.fill()? == 0 {
                // The last one is whole: a server sends no parts.
                let Some(unit) = self.splitter.finish() else {
                    return Ok(false);
                };
                self.muxer.push(unit, Instant::now())?;
                self.splitter.reset();
                continue;
            }
            let spare = self.splitter.spare();
            let some = spare.len().min(wire.received().len());
            spare[..some].copy_from_slice(&wire.received()[..some]);
            self.splitter.filled(some);
            wire.consume(some);
        }
    }
}
