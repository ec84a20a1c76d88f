//! The name of a user.

use std::fmt;

use crate::limits::{USER_NAME, USER_NAME_BYTES};

/// A user: 1 to [`USER_NAME`] UTF-16 units, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(heapless::String<USER_NAME_BYTES>);

impl Name {
    /// `None`: it is not as a name must be.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=USER_NAME).contains(&text.encode_utf16().count());
        let plain = !text.chars().any(char::is_control);
        let name = || heapless::String::try_from(text).expect("64 units are 192 bytes at most");
        (fits && plain).then(|| Name(name()))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
