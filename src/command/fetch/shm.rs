//! `shm:KEY`: a `QImage` in a `QSharedMemory`, as camd's qt-shm sink or a Qt program shares it ([`crate::system::shm`]).

use std::thread;
use std::time::{Duration, Instant};

use super::{FetchError, Pictures};
use crate::limits::SHM_CONTENT;
use crate::system::shm::{Error, Found, Key, Reader, picture};

/// Nobody tells of a new picture: how often is looked.
const LOOK: Duration = Duration::from_millis(5);

/// What the URL of a key begins with.
pub(super) const SCHEME: &str = "shm:";

pub(super) struct Receiver {
    key: Key,
    reader: Reader,
    timeout: Duration,
    any: bool,
}

impl Receiver {
    pub(super) fn new(key: &str, timeout: Duration) -> Receiver {
        let key = Key::new(key);
        Receiver {
            reader: Reader::new(key.clone(), SHM_CONTENT),
            key,
            timeout,
            any: false,
        }
    }
}

impl Pictures for Receiver {
    /// The next that is not the last one; false: the segment was removed.
    fn next(&mut self, png: &mut Vec<u8>) -> Result<bool, FetchError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let now = Instant::now();
            let key = &self.key;
            let waiting = match self.reader.read(now) {
                Ok(Found::New) => {
                    let content = self.reader.content();
                    match content.strip_prefix(&picture::PRESENT) {
                        Some(picture) if picture.starts_with(&picture::SIGNATURE) => {
                            png.extend_from_slice(picture);
                            self.any = true;
                            return Ok(true);
                        }
                        // Created, and nothing is written yet; or it is being written as its writer dies.
                        None if content.starts_with(&[0; 4]) => "there is a null image in it",
                        _ => {
                            return Err(FetchError::Protocol(format!("{key}: holds no QImage")));
                        }
                    }
                }
                Ok(Found::Same) if self.any => "the picture stays the same",
                Ok(Found::Same) => "there is a null image in it",
                Ok(Found::Busy) => "another program has the lock",
                Err(Error::Absent) if self.any => return Ok(false),
                Err(error @ Error::Absent) => {
                    return Err(FetchError::Connection(format!(
                        "{key}: {error}; start the program that shares the picture, and fetch as the same user and with the \
                         same TMPDIR"
                    )));
                }
                Err(error) => return Err(FetchError::Connection(format!("{key}: {error}"))),
            };
            if now >= deadline {
                return Err(FetchError::NoPicture(format!(
                    "{key}: no picture within {:?}: {waiting}",
                    self.timeout
                )));
            }
            thread::sleep(LOOK);
        }
    }

    fn finish(&mut self) {
        self.reader.leave();
    }
}
