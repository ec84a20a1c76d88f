//! What is wrong with a configuration, where, and what was probably meant.

use std::fmt;

/// One thing wrong with a configuration; displayed as `file:line: key: what is wrong; allowed: what is`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name, as it was given.
    pub file: String,
    /// From 1. `None`: the file as a whole, which could not be read.
    pub line: Option<usize>,
    /// The key's full name ("camera.width"). `None`: the text is no TOML there.
    pub key: Option<String>,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}
/// The one of `known` that `name` is most likely a slip of.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        // One slip in every three characters at most: beyond that it is another word.
        .filter(|(distance, _)| distance * 3 <= name.chars().count())
        .min()
        .map(|(_, known)| known)
}

/// The line, from 1, that holds the byte at `offset`.
pub(super) fn line_at(text: &[u8], offset: usize) -> usize {
    1 + memchr::memchr_iter(b'\n', &text[..offset]).count()
}
