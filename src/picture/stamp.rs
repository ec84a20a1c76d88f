//! Date, time and the camera's name in the lower left corner of a picture: white letters in a black box.
//!
//! The box begins and ends at multiples of sixteen pixels: in the samplings that cameras use, it covers whole MCUs, so
//! that not a single sample beside it is changed by it.

use std::fmt::Write as _;
use std::iter::repeat_n;
use std::time::Duration;

use heapless::{String, Vec};
use jiff::Timestamp;
use jiff::tz::{self, TimeZone};
use log::warn;

use crate::limits::CAMERA_NAME;
use crate::picture::font::{CELL, Glyph, glyph};
use crate::picture::frame::Size;

/// Characters of "2026-11-21", and of "2026-11-21 10:42:18". A space is behind each.
const DATE: usize = 10;
const TIME: usize = 19;

/// Y, and R, G and B: black and white in limited range, so that the two stay what they are in pictures of full range.
const GROUND: u8 = 16;
const INK: u8 = 235;
/// Cb and Cr of what has no colour.
pub const NEUTRAL: u8 = 128;

/// Sides of the box are multiples of this, but for the picture's own edges.
const GRID: usize = 16;
/// A pixel of the font is one of the picture, for each so many lines: letters of 16 pixels at 640x480.
const LINES_PER_SCALE: usize = 240;
/// From one line of text to the next, in pixels of the font.
const LEADING: usize = CELL + 2;
/// Beside the text, and above and below it, in pixels of the font.
const MARGIN_X: usize = CELL / 2;
const MARGIN_Y: usize = 2;

/// Characters of the longest stamp.
pub const GLYPHS: usize = TIME + 1 + CAMERA_NAME;

/// The text: "2026-11-21 10:42:18 name", in the time zone of this computer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    zone: TimeZone,
    /// What the text says, in seconds since the Unix epoch.
    second: u64,
    text: Vec<Glyph, GLYPHS>,
}

impl Stamp {
    /// The time zone is that of `TZ`, else that of `/etc/localtime`, as they are now; its changes between summer and
    /// winter time are followed.
    pub fn new(name: &str) -> Self {
        // Else it could be minutes old: this is called again when the configuration was read again.
        tz::reset_system_time_zone_cache();
        let zone = TimeZone::try_system().unwrap_or_else(|error| {
            warn!("time stamps are in UTC: {error} (TZ, /etc/localtime)");
            TimeZone::UTC
        });
        Stamp::in_zone(zone, name)
    }

    fn in_zone(zone: TimeZone, name: &str) -> Self {
        let time = repeat_n(' ', TIME + 1);
        let mut stamp = Stamp {
            zone,
            second: 0,
            text: time
                .chain(name.chars().take(CAMERA_NAME))
                .map(glyph)
                .collect(),
        };
        stamp.write();
        stamp
    }

    /// Sets the time, since the Unix epoch.
    pub fn set(&mut self, wall: Duration) {
        if self.second != wall.as_secs() {
            self.second = wall.as_secs();
            self.write();
        }
    }

    /// As another process has written it ([`Stamp::glyphs`]); `None`: it is too short or too long to be one.
    pub fn of_glyphs(glyphs: &[Glyph]) -> Option<Self> {
        let is_one = (TIME + 1..=GLYPHS).contains(&glyphs.len());
        is_one.then(|| Stamp {
            zone: TimeZone::UTC,
            second: 0,
            text: glyphs.iter().copied().collect(),
        })
    }

    /// The text, letter by letter.
    pub fn glyphs(&self) -> &[Glyph] {
        &self.text
    }

    fn write(&mut self) {
        let second = i64::try_from(self.second).unwrap_or(i64::MAX);
        // It ends with the year 9999.
        let time = Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
        let time = self.zone.to_datetime(time);
        let mut text = String::<TIME>::new();
        // Whatever does not fit would be cut.
        let _ = write!(
            text,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            time.year(),
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
        for (to, character) in self.text.iter_mut().zip(text.chars()) {
            *to = glyph(character);
        }
    }

    /// The stamp for a picture of this size; `None` where there is no room for the time.
    ///
    /// All is in one line where that fits, else the name is in a second one, and cut where it is too long. In pictures
    /// too narrow for that, date and time are in two lines. The box takes half of a picture at most, rounded up to the
    /// grid; without room for all lines the name is left out.
    pub fn place(&self, size: Size) -> Option<Placed<'_>> {
        let (width, height) = (usize::from(size.width), usize::from(size.height));
        let scale = (height / LINES_PER_SCALE)
            .min(width / (TIME * CELL + 2 * MARGIN_X))
            .max(1);
        let columns = (width / scale).saturating_sub(2 * MARGIN_X) / CELL;
        let (time, name) = self.text.split_at(TIME + 1);
        let name = &name[..name.len().min(columns)];
        let (date, clock) = (&time[..DATE], &time[DATE + 1..TIME]);
        let lines: [&[Glyph]; 3] = if columns >= self.text.len() {
            [&self.text, &[], &[]]
        } else if columns >= TIME {
            [&time[..TIME], name, &[]]
        } else if columns >= DATE {
            [date, clock, name]
        } else {
            return None;
        };
        let text_height = |count: usize| count * LEADING - (LEADING - CELL);
        let room = |count: &usize| scale * (text_height(*count) + 2 * MARGIN_Y) <= height / 2;
        let count = lines.iter().filter(|line| !line.is_empty()).count();
        let least = if columns >= TIME { 1 } else { 2 };
        let count = (least..=count).rev().find(room)?;
        let longest = lines[..count].iter().map(|line| line.len()).max()?;
        let box_height = scale * (text_height(count) + 2 * MARGIN_Y);
        let top = (height - box_height) / GRID * GRID;
        let right = scale * (longest * CELL + 2 * MARGIN_X);
        Some(Placed {
            lines,
            count,
            scale,
            top,
            right: right.next_multiple_of(GRID).min(width),
            // In the middle between the box's edges.
            text_top: top + (height - top - scale * text_height(count)) / 2,
        })
    }
}

/// A stamp on a picture of a certain size. Its box reaches from the picture's left and lower edge to `right` and `top`.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    lines: [&'a [Glyph]; 3],
    /// How many of them are used.
    count: usize,
    /// Pixels to a pixel of the font.
    scale: usize,
    top: usize,
    right: usize,
    text_top: usize,
}

impl Placed<'_> {
    /// The picture's first line with the box.
    pub fn top(&self) -> usize {
        self.top
    }

    /// How many pixels the box takes of these lines.
    pub fn right(&self) -> usize {
        self.right
    }

    /// Draws the brightness of the box in line `y` of the picture: into `row`, which begins at the picture's left edge
    /// and has [`Placed::right`] pixels, or fewer. Lines below the picture, which JPEG's blocks can have, are those of
    /// the box's ground.
    ///
    /// # Panics
    /// If the line is above the box.
    pub fn draw(&self, y: usize, row: &mut [u8]) {
        assert!(y >= self.top, "line {y} is above {}", self.top);
        row.fill(GROUND);
        let Some(y) = y.checked_sub(self.text_top).map(|y| y / self.scale) else {
            return;
        };
        let (line, y) = (y / LEADING, y % LEADING);
        if line >= self.count || y >= CELL {
            return;
        }
        let text = row.get_mut(MARGIN_X * self.scale..).unwrap_or_default();
        for (glyph, cell) in self.lines[line]
            .iter()
            .zip(text.chunks_mut(CELL * self.scale))
        {
            for (column, pixels) in cell.chunks_mut(self.scale).enumerate() {
                if glyph[y] & (1 << column) != 0 {
                    pixels.fill(INK);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::font::tests::read;

    fn stamp(zone: &str, name: &str) -> Stamp {
        Stamp::in_zone(TimeZone::posix(zone).unwrap(), name)
    }

    fn size(width: u16, height: u16) -> Size {
        Size { width, height }
    }

    /// The lines of text in the box, which is drawn as it says it is.
    fn lines(stamp: &Stamp, size: Size) -> Option<std::vec::Vec<std::string::String>> {
        let placed = stamp.place(size)?;
        let (width, height) = (usize::from(size.width), usize::from(size.height));
        assert!(placed.right <= width && placed.top < height);
        assert!(placed.right % GRID == 0 || placed.right == width);
        assert_eq!(placed.top % GRID, 0);
        let rows: std::vec::Vec<std::vec::Vec<u8>> = (0..height + GRID)
            .skip(placed.top)
            .map(|y| {
                let mut row = vec![0; placed.right];
                placed.draw(y, &mut row);
                row
            })
            .collect();
        // A frame of ground all around; the font's own letters end before their cells do.
        let ground = |row: &[u8]| row.iter().all(|&luma| luma == GROUND);
        let scale = placed.scale;
        assert!(rows[..scale].iter().all(|row| ground(row)));
        assert!(
            rows[height - placed.top - scale..]
                .iter()
                .all(|row| ground(row))
        );
        for row in &rows {
            assert!(ground(&row[..scale]) && ground(&row[placed.right - scale..]));
            assert!(row.iter().all(|&luma| luma == GROUND || luma == INK));
        }
        let columns = (placed.right / scale - 2 * MARGIN_X) / CELL;
        let read = |line: usize| {
            let y = placed.text_top - placed.top + line * LEADING * scale;
            read(columns, scale, |dx, dy| {
                rows[y + dy][MARGIN_X * scale + dx] == INK
            })
        };
        Some((0..placed.count).map(read).collect())
    }

    #[test]
    fn the_time_is_local_through_summer_and_winter() {
        let mut berlin = stamp("CET-1CEST,M3.5.0,M10.5.0/3", "Hof");
        let mut kathmandu = stamp("<+0545>-5:45", "Hof");
        for (at, there, elsewhere) in [
            (0, "1970-01-01 01:00:00 Hof", "1970-01-01 05:45:00 Hof"),
            // An hour is left out, and comes twice.
            (
                1_774_745_999,
                "2026-03-29 01:59:59 Hof",
                "2026-03-29 06:44:59 Hof",
            ),
            (
                1_774_746_000,
                "2026-03-29 03:00:00 Hof",
                "2026-03-29 06:45:00 Hof",
            ),
            (
                1_792_889_999,
                "2026-10-25 02:59:59 Hof",
                "2026-10-25 06:44:59 Hof",
            ),
            (
                1_792_890_000,
                "2026-10-25 02:00:00 Hof",
                "2026-10-25 06:45:00 Hof",
            ),
            // A leap day, and the time after 32 bits.
            (
                1_835_438_400,
                "2028-02-29 13:00:00 Hof",
                "2028-02-29 17:45:00 Hof",
            ),
            (
                4_107_585_600,
                "2100-03-01 13:00:00 Hof",
                "2100-03-01 17:45:00 Hof",
            ),
        ] {
            for (stamp, expected) in [(&mut berlin, there), (&mut kathmandu, elsewhere)] {
                stamp.set(Duration::new(at, 999_999_999));
                assert_eq!(lines(stamp, size(640, 480)).unwrap(), [expected], "{at}");
            }
        }
        // Nobody lives to see it, but a clock may be set to anything.
        berlin.set(Duration::MAX);
        let shown = lines(&berlin, size(640, 480)).unwrap();
        assert!(shown[0].starts_with("9999-12-"), "{shown:?}");
    }

    #[test]
    fn names_are_shown_as_far_as_font_and_picture_go() {
        let zone = "UTC0";
        let at = Duration::from_secs(1_795_257_738);
        let time = "2026-11-21 10:42:18";
        for (name, width, height, expected) in [
            ("Tür 1", 640, 480, Some(vec!["2026-11-21 10:42:18 Tür 1"])),
            ("門 €", 640, 480, Some(vec!["2026-11-21 10:42:18 ? ?"])),
            ("garage", 160, 120, Some(vec![time, "garage"])),
            (
                "the gate behind the house",
                160,
                120,
                Some(vec![time, "the gate behind the"]),
            ),
            (
                "garage",
                1920,
                1080,
                Some(vec!["2026-11-21 10:42:18 garage"]),
            ),
            (
                "garage",
                8192,
                8192,
                Some(vec!["2026-11-21 10:42:18 garage"]),
            ),
            (
                "garage",
                159,
                120,
                Some(vec!["2026-11-21", "10:42:18", "garage"]),
            ),
            ("garage", 88, 63, Some(vec!["2026-11-21", "10:42:18"])),
            ("garage", 88, 44, Some(vec!["2026-11-21", "10:42:18"])),
            // Tall enough for the time alone, and not even that.
            ("garage", 160, 24, Some(vec![time])),
            ("garage", 160, 23, None),
            ("garage", 88, 43, None),
            ("garage", 87, 480, None),
            ("garage", 16, 16, None),
            ("garage", 1, 1, None),
        ] {
            let mut stamp = stamp(zone, name);
            stamp.set(at);
            let shown = lines(&stamp, size(width, height));
            let shown: Option<std::vec::Vec<&str>> = shown
                .as_ref()
                .map(|lines| lines.iter().map(|line| line.as_str()).collect());
            assert_eq!(shown, expected, "{name} in {width}x{height}");
        }
        let longest = "W".repeat(CAMERA_NAME);
        let mut stamp = stamp(zone, &longest);
        stamp.set(at);
        let shown = lines(&stamp, size(1000, 480)).unwrap();
        assert_eq!(
            shown,
            [time, &longest[..61]],
            "a second line, as wide as the picture"
        );
        let shown = lines(&stamp, size(1920, 239)).unwrap();
        assert_eq!(shown, [format!("{time} {longest}")]);
    }

    #[test]
    fn every_size_has_a_stamp_that_fits_or_none() {
        let stamp = stamp("UTC0", "the gate behind the house");
        for width in (1..200).chain([640, 1279, 8191, 8192]) {
            for height in (1..60).chain([239, 480, 719, 8191]) {
                let shown = lines(&stamp, size(width, height));
                assert_eq!(
                    shown.is_some(),
                    (width >= 160 && height >= 24) || (width >= 88 && height >= 44),
                    "{width}x{height}"
                );
            }
        }
    }
}
