//! The name of a user.

use std::fmt;

use unicode_normalization::UnicodeNormalization;
use unicode_security::confusable_detection::skeleton;

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

    /// What of it a person could not see; `None`: nothing.
    pub fn flaw(&self) -> Option<&'static str> {
        let text = self.as_str();
        if text.trim() != text {
            Some("a name has no spaces at its ends")
        } else if text.chars().any(is_unseen) {
            Some("a name has no characters that are not seen")
        } else {
            None
        }
    }

    /// A number for what a person sees: two names have the same one if they differ in nothing but letters that look like
    /// each other, capitals, or ways to write the same (UTS 39, section 4; NFKC).
    pub fn looks(&self) -> Looks {
        let plain: String = self.as_str().nfkc().flat_map(char::to_lowercase).collect();
        let same: String = skeleton(&plain).flat_map(char::to_lowercase).collect();
        // FNV-1a. Two names with the same number by chance would only keep each other out.
        let words = same
            .split_whitespace()
            .flat_map(|word| word.bytes().chain([b' ']));
        Looks(words.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// See [`Name::looks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Looks(u64);

/// Characters of which nothing is seen, or that move what is beside them: controls of the direction of writing, joiners,
/// fillers, selectors, tags, and every space but the usual one.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d159}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        || (c.is_whitespace() && c != ' ')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn names_as_people_see_them() {
        for (one, other) in [
            ("camera", "camera"),
            ("camera", "Camera"),
            ("camera", "CAMERA"),
            // Cyrillic
            ("camera", "c\u{430}mer\u{430}"),
            ("camera", "\u{441}amera"),
            ("CAMERA", "\u{421}AMERA"),
            // Fullwidth, mathematical
            ("camera", "\u{ff43}\u{ff41}\u{ff4d}\u{ff45}\u{ff52}\u{ff41}"),
            ("camera", "\u{1d41c}amera"),
            // Greek
            ("anno", "ann\u{3bf}"),
            // Composed or not
            ("Bj\u{f6}rn", "Bjo\u{308}rn"),
            ("anna bell", "anna  bell"),
        ] {
            assert_eq!(name(one).looks(), name(other).looks(), "{one} {other}");
        }
        for (one, other) in [
            ("camera", "camera2"),
            ("anna", "hanna"),
            ("anna", "\u{e4}nna"),
            ("anna bell", "annabell"),
            ("bob", "rob"),
        ] {
            assert_ne!(name(one).looks(), name(other).looks(), "{one} {other}");
        }
    }

    #[test]
    fn what_nobody_sees_is_in_no_name() {
        for good in [
            "anna",
            "Anna Bell",
            "\u{e4}nna",
            "\u{5d0}\u{5d1}",
            "\u{1f600}",
            "a-b_c.d",
        ] {
            assert_eq!(name(good).flaw(), None, "{good}");
        }
        for bad in [
            " anna",
            "anna ",
            "an\u{200b}na",
            "\u{feff}anna",
            "an\u{ad}na",
            "\u{202e}anna",
            "anna\u{2066}",
            "an\u{a0}na",
            "an\u{3000}na",
            "\u{3164}",
            "anna\u{fe0f}",
            "anna\u{e0061}",
        ] {
            assert!(name(bad).flaw().is_some(), "{bad:?}");
        }
    }
}
