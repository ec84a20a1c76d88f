//! Text of unknown origin, made fit to be read by a person.
//!
//! What a peer sends may end up in a log, on a terminal or on a page. A control character there can move the cursor or
//! begin a line that looks like another message; a bidirectional override (U+202E) shows a text backwards; a character
//! without a shape makes two names look like one. All of them are shown as escapes, `\u{202e}`, as Rust writes them.

use std::fmt::{self, Write};

/// Whether a character has no shape of its own on a screen, or changes how those around it are shown: controls, line
/// separators, what steers bidirectional text, joiners, fillers, variation selectors and tags.
///
/// Unicode's property Default_Ignorable_Code_Point (DerivedCoreProperties.txt, 16.0), with the controls, U+2028, U+2029, the
/// interlinear annotations, and the Braille pattern without dots.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The start of a text that has `most` bytes at most, and ends between two characters.
pub fn start_of(text: &str, most: usize) -> &str {
    let mut len = most.min(text.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    &text[..len]
}

/// Passes text on with its unseen characters escaped.
pub struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, c) in text.char_indices().filter(|(_, c)| is_unseen(*c)) {
            self.0.write_str(&text[plain..at])?;
            write!(self.0, "{}", c.escape_default())?;
            plain = at + c.len_utf8();
        }
        self.0.write_str(&text[plain..])
    }
}

/// Bytes that may be text: what is not UTF-8 is shown as U+FFFD, what is unseen as its escape.
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut escaping = Escaping(f);
        for chunk in self.0.utf8_chunks() {
            escaping.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                escaping.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unseen_is_shown_and_the_rest_stays() {
        for (bytes, shown) in [
            (&b"plain 'text' \\ \"x\""[..], "plain 'text' \\ \"x\""),
            ("Küche, 厨房, مطبخ, 🎥".as_bytes(), "Küche, 厨房, مطبخ, 🎥"),
            (
                b"a\nb\r\tc\x1b[2J\0\x7f",
                "a\\nb\\r\\tc\\u{1b}[2J\\u{0}\\u{7f}",
            ),
            (
                "\u{202e}gpj.exe\u{202c}".as_bytes(),
                "\\u{202e}gpj.exe\\u{202c}",
            ),
            (
                "ad\u{200b}min\u{feff}\u{85}".as_bytes(),
                "ad\\u{200b}min\\u{feff}\\u{85}",
            ),
            (
                "\u{2066}x\u{2069}\u{2028}\u{2029}".as_bytes(),
                "\\u{2066}x\\u{2069}\\u{2028}\\u{2029}",
            ),
            (
                "\u{e0041}\u{fe0f}\u{3164}\u{61c}".as_bytes(),
                "\\u{e0041}\\u{fe0f}\\u{3164}\\u{61c}",
            ),
            (b"\xff\xfe ok \xe2\x80", "\u{fffd}\u{fffd} ok \u{fffd}"),
            (b"", ""),
        ] {
            assert_eq!(Printable(bytes).to_string(), shown);
        }
    }
}
