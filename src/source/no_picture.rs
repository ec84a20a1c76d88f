//! The card that viewers see while the camera gives no picture: it says so, and why.

use crate::encode::codec::{Codec, CodecError};
use crate::picture::font::CELL;
use crate::picture::frame::FrameBuf;

use super::canvas::{Canvas, Color};

const GROUND: Color = Color(48, 128, 128);
const BRIGHT: u8 = 235;
const DIM: u8 = 170;
/// Letters are as large as they can be with this many columns and lines on the card: a reason has to fit.
const COLUMNS: usize = 36;
const LINES: usize = 16;
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
    let scale = ((card.width() / COLUMNS).min(card.height() / LINES) / CELL).max(1);
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

#[cfg(test)]
mod tests {
    use super::super::canvas::tests::read;
    use super::*;
    use crate::picture::jpeg;

    #[test]
    fn lines_break_at_spaces() {
        let wrapped = |text, columns| wrap(text, columns).collect::<Vec<_>>();
        assert_eq!(wrapped("", 5), [""; 0]);
        assert_eq!(wrapped("one two", 7), ["one two"]);
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("one\ntwo", 8), ["one", "two"]);
        assert_eq!(wrapped("unbreakable", 4), ["unbr", "eaka", "ble"]);
        assert_eq!(wrapped("ünïcödé", 4), ["ünïc", "ödé"]);
        assert_eq!(wrapped("  a  ", 1), ["a"]);
    }

    #[test]
    fn the_card_says_what_and_why() {
        for (width, height, scale) in [(320, 240, 1), (640, 480, 2), (1920, 1080, 6)] {
            let card = draw(width, height, "Garden", "cannot open /dev/video0");
            let line = CELL * scale;
            let read = |y, scale| read(&card, line, y, scale, GROUND.0);
            assert_eq!(read(line, 2 * scale), "NO PICTURE");
            assert_eq!(read(4 * line, scale), "Garden");
            assert_eq!(read(6 * line, scale), "cannot open /dev/video0");
        }
    }

    #[test]
    fn the_card_is_a_jpeg_of_the_cameras_size() {
        let mut codec = Codec::new();
        let mut out = FrameBuf::new(1 << 20);
        for (width, height) in [(16, 16), (320, 240), (1921, 1079), (3840, 2160)] {
            render(width, height, "a", "b", 80, &mut codec, &mut out).unwrap();
            let found = jpeg::inspect(out.as_slice()).unwrap();
            assert_eq!((found.width, found.height), (width, height));
        }
    }

    #[test]
    fn a_card_that_does_not_fit_gets_smaller() {
        let mut codec = Codec::new();
        let mut out = FrameBuf::new(crate::limits::FRAME_BYTES_MIN);
        render(8192, 8192, "a", "b", 80, &mut codec, &mut out).unwrap();
        let found = jpeg::inspect(out.as_slice()).unwrap();
        assert!(found.width == found.height && found.width < 8192);

        let mut none = FrameBuf::new(100);
        assert_eq!(
            render(640, 480, "a", "b", 80, &mut codec, &mut none),
            Err(CodecError::TooBig { capacity: 100 })
        );
    }
}
