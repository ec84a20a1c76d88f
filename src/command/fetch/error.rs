//! Why fetching failed, in text that is fit for a terminal.

use std::fmt;

use crate::limits::{ANSWER_HEAD, FRAME_BYTES_MAX};
use crate::protocol::http::answer::Wrong;
use crate::text::is_unseen;

/// Why fetching failed; the text is one line for a person. The kinds are what a script may want to tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The URL is not one that can be fetched.
    Url(String),
    /// No connection, or it ended before all pictures were there.
    Connection(String),
    /// The server is there and has no picture: it said so (503), the user that was called is not there or declines, or none
    /// came in time.
    NoPicture(String),
    /// The server said something that the protocol does not allow, or something else than pictures.
    Protocol(String),
    /// A picture could not be written.
    File(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Url(text)
            | FetchError::Connection(text)
            | FetchError::NoPicture(text)
            | FetchError::Protocol(text)
            | FetchError::File(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for FetchError {}

/// What no server of HTTP should send.
impl From<Wrong> for FetchError {
    fn from(wrong: Wrong) -> FetchError {
        FetchError::Protocol(match wrong {
            Wrong::TooLarge(_) => format!("a picture of more than {FRAME_BYTES_MAX} bytes"),
            Wrong::LongHead => format!("the server's head is larger than {ANSWER_HEAD} bytes"),
            Wrong::NoHead(None) => "the server does not speak HTTP: an incomplete head".to_owned(),
            Wrong::NoHead(Some(error)) => format!("the server does not speak HTTP: {error}"),
            wrong => format!("the server sends {wrong}"),
        })
    }
}

/// What a server said, made fit for a terminal: one line, of bounded length, without characters that nobody sees (an
/// escape sequence in an error page would otherwise reach the terminal).
pub(super) fn one_line(text: &[u8]) -> String {
    const LONGEST: usize = 200;
    String::from_utf8_lossy(text)
        .trim()
        .chars()
        .take_while(|&c| c != '\n' && c != '\r')
        .take(LONGEST)
        .map(|c| if is_unseen(c) { '?' } else { c })
        .collect()
}
