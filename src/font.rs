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
