//! The letters that are drawn into pictures: eight by eight pixels each.

/// Pixels of a character's cell, at scale 1.
pub const CELL: usize = 8;

/// The rows of a character from above, the leftmost pixel in the lowest bit.
pub type Glyph = [u8; CELL];

/// What the font lacks is a question mark.
pub fn glyph(character: char) -> Glyph {
    let code = character as usize;
    match code {
        0x20..0x7F => font8x8::legacy::BASIC_LEGACY[code],
        0xA0..0x100 => font8x8::legacy::LATIN_LEGACY[code - 0xA0],
        _ => glyph('?'),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Reads back a line of text, by where there is ink; trailing spaces are left out.
    pub fn read(columns: usize, scale: usize, ink: impl Fn(usize, usize) -> bool) -> String {
        let text: String = (0..columns)
            .map(|cell| {
                let bits: Glyph = std::array::from_fn(|row| {
                    (0..CELL).fold(0, |bits, column| {
                        let x = (cell * CELL + column) * scale;
                        bits | u8::from(ink(x, row * scale)) << column
                    })
                });
                let character = ('\u{20}'..'\u{ff}').find(|&c| glyph(c) == bits);
                character.unwrap_or('\u{fffd}')
            })
            .collect();
        text.trim_end().to_owned()
    }

    #[test]
    fn what_the_font_lacks_is_a_question_mark() {
        for character in ['€', '\n', '\u{7f}', '\u{80}', '漢', '\u{10ffff}'] {
            assert_eq!(glyph(character), glyph('?'), "{character:?}");
        }
        assert_ne!(glyph('ü'), glyph('u'));
    }
}
