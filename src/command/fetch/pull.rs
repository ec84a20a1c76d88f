//! The receiving half of [`crate::protocol::pull`].

use super::wire::Wire;
use super::{FetchError, PICTURE_LIMIT, one_line};
use crate::limits::PULL_PART;
use crate::protocol::pull::{ACK, NEW_IMAGE, NEW_REQUEST};

pub(super) struct Receiver {
    /// A picture has been received whose last part is not acknowledged yet.
    owes_ack: bool,
}

impl Receiver {
    pub(super) fn new() -> Receiver {
        Receiver { owes_ack: false }
    }

    pub(super) fn next(
        &mut self,
        wire: &mut Wire,
        picture: &mut Vec<u8>,
    ) -> Result<(), FetchError> {
        if self.owes_ack {
            // camd ignores it. A server that keeps the picture until the last ack, as the original may, needs it.
            wire.send(ACK)?;
        }
        wire.send(NEW_REQUEST)?;
        let mut size = announcement(wire)?;
        wire.send(ACK)?;
        // The size has no terminator, and TCP may deliver its digits in two pieces. What follows it is the JPEG's
        // 0xFF: every digit before that still belongs to the size, and no waiting is needed to find out.
        loop {
            match wire.received().first() {
                None => wire.fill_some("after announcing a picture")?,
                Some(&digit @ b'0'..=b'9') => {
                    size = append_digit(size, digit)?;
                    wire.consume(1);
                }
                Some(_) => break,
            }
        }
        let mut left = size;
        loop {
            let part = left.min(PULL_PART);
            wire.read_exactly(part, picture, "within a picture")?;
            left -= part;
            if left == 0 {
                break;
            }
            wire.send(ACK)?;
        }
        self.owes_ack = true;
        Ok(())
    }
}

/// Reads `newImage:` and as many digits of the size as have arrived, at least one.
fn announcement(wire: &mut Wire) -> Result<usize, FetchError> {
    loop {
        let received = wire.received();
        // The separators that a server must ignore are ignored here, too.
        match received.first() {
            Some(b'\r' | b'\n' | b' ' | 0) => {
                wire.consume(1);
                continue;
            }
            Some(_) => {}
            None => {
                wire.fill_some("instead of announcing a picture")?;
                continue;
            }
        }
        let known = received.len().min(NEW_IMAGE.len());
        if received[..known] != NEW_IMAGE[..known] {
            return Err(FetchError::Protocol(format!(
                "newImage:<size> expected, got \"{}\"",
                one_line(&received[..received.len().min(40)])
            )));
        }
        if received.len() > NEW_IMAGE.len() {
            break;
        }
        wire.fill_some("within an announcement")?;
    }
    wire.consume(NEW_IMAGE.len());
    let mut size = 0;
    let mut digits = 0;
    while let Some(&digit @ b'0'..=b'9') = wire.received().first() {
        size = append_digit(size, digit)?;
        digits += 1;
        wire.consume(1);
    }
    if digits == 0 {
        return Err(FetchError::Protocol(
            "newImage: without a decimal size".to_owned(),
        ));
    }
    Ok(size)
}

fn append_digit(size: usize, digit: u8) -> Result<usize, FetchError> {
    // No overflow: `size` has passed this very check or is 0.
    let size = size * 10 + usize::from(digit - b'0');
    if (1..=PICTURE_LIMIT).contains(&size) {
        Ok(size)
    } else {
        Err(FetchError::Protocol(format!(
            "newImage: with a size that is not from 1 to {PICTURE_LIMIT}"
        )))
    }
}
