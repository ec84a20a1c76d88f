//! The card that viewers see while the camera gives no picture: it says so, and why.

use crate::codec::{Codec, CodecError};
use crate::frame::FrameBuf;

use super::canvas::{CELL, Canvas, Color};

const GROUND: Color = Color(48, 128, 128);
const BRIGHT: u8 = 235;
const DIM: u8 = 170;
/// Columns of text that a card has room for at least, where its width allows: narrower letters would not be readable,
/// larger ones would leave no room for a reason.
const COLUMNS: usize = 36;
/// A card narrower than this is not made smaller.
const WIDTH_MIN: u16 = 64;

/// Draws the card and encodes it into `out`. Where the JPEG does not fit, a card of half the size is made: a browser
/// scales it, and text is better small than cut. Allocates the picture, so this is for a change of state, not for each
/// frame.
pub fn render(
    width: u16,
    height: u16,
    title: &str,
    reason: &str,
    quality: u8,
    codec: &mut Codec,
    out: &mut FrameBuf,
) -> Result<(), CodecError> {
    let (mut width, mut height) = (width, height);
    loop {
        let card = draw(width, height, title, reason);
        match codec.encode(&card.picture(), quality, out) {
            Err(CodecError::TooBig { .. }) if width / 2 >= WIDTH_MIN && height > 1 => {
                (width, height) = (width / 2, height / 2);
            }
            result => return result,
        }
    }
}

fn draw(width: u16, height: u16, title: &str, reason: &str) -> Canvas {
    let mut card = Canvas::new(width, height, GROUND);
    let scale = (card.width() / (COLUMNS * CELL)).max(1);
    let margin = CELL * scale;
    let columns = (card.width() / margin).saturating_sub(2).max(1);
    // The heading is twice as large as the rest, if that leaves it whole.
    let heading = "NO PICTURE";
    let large = if columns >= 2 * heading.len() {
        2 * scale
    } else {
        scale
    };
    let mut y = margin;
    card.text(margin, y, large, BRIGHT, heading);
    y += CELL * large + margin;
    for line in wrap(title, columns) {
        card.text(margin, y, scale, BRIGHT, line);
        y += CELL * scale * 3 / 2;
    }
    y += margin / 2;
    for line in wrap(reason, columns) {
        card.text(margin, y, scale, DIM, line);
        y += CELL * scale * 3 / 2;
    }
    card
}

/// Breaks `text` into lines of at most `columns` characters, at spaces where there are any.
fn wrap(text: &str, columns: usize) -> impl Iterator<Item = &str> {
    let mut rest = text.trim();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let limit = rest
            .char_indices()
            .nth(columns)
            .map_or(rest.len(), |(at, _)| at);
        let line_feed = rest[..limit].find('\n');
        let end = line_feed.unwrap_or_else(|| {
            // A space just behind the line is as good as one in it.
            if limit == rest.len() || rest[limit..].starts_with(' ') {
                limit
            } else {
                rest[..limit].rfind(' ').unwrap_or(limit)
            }
        });
        let (line, others) = rest.split_at(end);
        rest = others.trim_start();
        Some(line.trim_end())
    })
}
