//! Passwords.

use std::fmt;
use std::path::Path;

use subtle::ConstantTimeEq;

use crate::limits::PASSWORD;

/// A password: 1 to [`PASSWORD`] UTF-16 units, as a QString counts them. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// `None`: it is too long, or empty.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=PASSWORD).contains(&text.encode_utf16().count());
        fits.then(|| Secret(text.to_owned()))
    }

    /// The first line of the file at `path`, without its end. The error says what is wrong with it.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"))?;
        let line = text.lines().next().unwrap_or_default();
        Secret::new(line).ok_or_else(|| {
            format!("its first line is not a password of 1 to {PASSWORD} characters")
        })
    }

    /// Whether somebody knows it. What it takes tells nothing about where `guess` is wrong, only whether its length is.
    pub fn is(&self, guess: &str) -> bool {
        self.0.as_bytes().ct_eq(guess.as_bytes()).into()
    }

    /// To log in elsewhere.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_is_the_password() {
        let secret = Secret::new("pässword").unwrap();
        assert!(secret.is("pässword"));
        for wrong in ["", "password", "pässwor", "pässword ", "Pässword"] {
            assert!(!secret.is(wrong), "{wrong:?}");
        }
        assert_eq!(format!("{secret:?}"), "Secret");
        assert!(Secret::new("").is_none());
        assert!(Secret::new(&"x".repeat(257)).is_none());
    }

    #[test]
    fn a_files_first_line() {
        let path = std::env::temp_dir().join(format!("camd-secret-{}", std::process::id()));
        std::fs::write(&path, "first\r\nsecond\n").unwrap();
        assert!(Secret::from_file(&path).unwrap().is("first"));
        std::fs::write(&path, "\n").unwrap();
        assert!(Secret::from_file(&path).is_err());
        std::fs::remove_file(&path).unwrap();
        let error = Secret::from_file(&path).unwrap_err();
        assert!(error.starts_with("cannot be read: No such file"), "{error}");
    }
}
