//! A moving test picture: colour bars, a block that runs along below them, the number of the frame and the time.
//!
//! For `camd --demo`, for trying out viewers without a camera, and for measuring delay: film the viewer's screen beside
//! a clock.

use std::fmt::Write as _;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use heapless::String;

use crate::picture::font::CELL;
use crate::picture::frame::{Frame, FrameMeta, Picture, PixelFormat, wall_clock};

use super::canvas::{BLACK, Canvas, Color, WHITE};
use super::interface::{Captured, Fault, Negotiated, Source};

/// 75 % colour bars (white, yellow, cyan, green, magenta, red, blue), BT.601 in full range.
const BARS: [Color; 7] = [
    Color(191, 128, 128),
    Color(169, 32, 143),
    Color(134, 160, 32),
    Color(112, 65, 48),
    Color(79, 191, 208),
    Color(57, 96, 223),
    Color(22, 223, 112),
];
const GREY: Color = Color(64, 128, 128);
/// Characters in a line of text, with a margin: "12:34:56.789".
const COLUMNS: usize = 14;
/// The block takes this many frames from one side to the other, where the width allows.
const TRAVEL_FRAMES: usize = 120;

/// Draws a picture when it is due, into memory taken once. From one picture to the next only the band with the block
/// and the two lines of text are redrawn.
///
/// Invariant: frame `n` is due at `start + n / fps`, whatever happened to those before it: the rate does not drift, and
/// frames that were not asked for in time are left out, not made up for.
pub struct Pattern {
    canvas: Canvas,
    fps: u16,
    layout: Layout,
    /// While running: since when, and the number of the next frame.
    running: Option<(Instant, u64)>,
    newest: Option<FrameMeta>,
}

/// Where the parts that change are.
struct Layout {
    /// Of the text.
    scale: usize,
    text_y: usize,
    band_y: usize,
    band_height: usize,
}

impl Pattern {
    /// # Panics
    /// If a number is 0: the configuration does not allow that.
    pub fn new(width: u16, height: u16, fps: u16) -> Self {
        assert!(
            width > 0 && height > 0 && fps > 0,
            "a pattern of {width}x{height} at {fps} fps"
        );
        let mut canvas = Canvas::new(width, height, BLACK);
        let (w, h) = (canvas.width(), canvas.height());
        let scale = (w / (COLUMNS * CELL)).min(h / (6 * CELL)).max(1);
        // From above: bars, the band of the block, two lines of text with half a line around them.
        let text_height = 3 * CELL * scale;
        let text_y = h.saturating_sub(text_height);
        let band_height = text_y / 6;
        let band_y = text_y - band_height;
        for (i, color) in BARS.into_iter().enumerate() {
            let (left, right) = (w * i / BARS.len(), w * (i + 1) / BARS.len());
            canvas.fill(left, 0, right - left, band_y, color);
        }
        // Bars spill over by one line where the band begins at an odd one.
        canvas.fill(0, band_y, w, h - band_y, BLACK);
        Pattern {
            canvas,
            fps,
            layout: Layout {
                scale,
                text_y,
                band_y,
                band_height,
            },
            running: None,
            newest: None,
        }
    }

    fn draw(&mut self, frame: u64, wall: Duration) {
        let Layout {
            scale,
            text_y,
            band_y,
            band_height,
        } = self.layout;
        let width = self.canvas.width();

        self.canvas.fill(0, band_y, width, band_height, GREY);
        let block = (width / 12).max(1);
        let travel = width - block;
        let step = (travel / TRAVEL_FRAMES).max(1);
        // There and back again.
        let way = (frame * step as u64 % (2 * travel.max(1)) as u64) as usize;
        let x = if way <= travel { way } else { 2 * travel - way };
        self.canvas.fill(x, band_y, block, band_height, WHITE);

        let mut text = String::<32>::new();
        let line = CELL * scale;
        let x = line;
        // The texts fit: 20 digits at most, and 12 characters.
        let _ = write!(text, "{frame}");
        self.write(x, text_y + line / 3, &text);
        text.clear();
        let seconds = wall.as_secs() % 86_400;
        let _ = write!(
            text,
            "{:02}:{:02}:{:02}.{:03}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            wall.subsec_millis()
        );
        self.write(x, text_y + line * 5 / 3, &text);
    }

    /// Writes over what was there.
    fn write(&mut self, x: usize, y: usize, text: &str) {
        let scale = self.layout.scale;
        let width = text.len() * CELL * scale;
        self.canvas.fill(x, y, width, CELL * scale, BLACK);
        self.canvas.text(x, y, scale, WHITE.0, text);
    }

    /// When frame `number` is due after the start, rounded up, so that [`Pattern::number_at`] is its inverse.
    fn due(&self, number: u64) -> Duration {
        let nanos = (u128::from(number) * NANOS).div_ceil(u128::from(self.fps));
        Duration::from_nanos(nanos as u64)
    }

    /// The last frame that is due at `elapsed` after the start.
    fn number_at(&self, elapsed: Duration) -> u64 {
        (elapsed.as_nanos() * u128::from(self.fps) / NANOS) as u64
    }
}

const NANOS: u128 = 1_000_000_000;

impl Source for Pattern {
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault> {
        self.running = Some((now, 0));
        // A frame number of the last run may have been longer.
        let (width, height) = (self.canvas.width(), self.canvas.height());
        let text_y = self.layout.text_y;
        self.canvas.fill(0, text_y, width, height - text_y, BLACK);
        let picture = self.canvas.picture();
        Ok(Negotiated {
            format: PixelFormat::Yu12,
            width: picture.width,
            height: picture.height,
            fps: Some(self.fps.into()),
            orientation: None,
            cropped: None,
            description: "built-in test pattern".into(),
        })
    }

    fn stop(&mut self) {
        self.running = None;
        self.newest = None;
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        let (start, next) = self.running?;
        Some(start + self.due(next))
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        let Some((start, next)) = self.running else {
            return Ok(Captured::default());
        };
        let number = self.number_at(now.saturating_duration_since(start));
        if number < next {
            return Ok(Captured::default());
        }
        self.running = Some((start, number + 1));
        // The time of day is the picture's content here, and may be set while this runs.
        let wall = wall_clock();
        self.draw(number + 1, wall);
        let picture = self.canvas.picture();
        self.newest = Some(FrameMeta {
            wall,
            ..FrameMeta::taken(now, picture.width, picture.height)
        });
        Ok(Captured {
            fresh: true,
            dropped: u32::try_from(number - next).unwrap_or(u32::MAX),
            bad: 0,
        })
    }

    fn newest(&self) -> Option<Frame<'_>> {
        Some(Frame {
            meta: self.newest?,
            picture: Picture::Raw(self.canvas.picture()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::canvas::tests::read;
    use super::*;
    use crate::encode::codec::Codec;
    use crate::limits::FPS_MAX;
    use crate::picture::frame::FrameBuf;

    /// What the two lines of text say: the number, and the time.
    fn texts(pattern: &Pattern) -> [std::string::String; 2] {
        let Layout { scale, text_y, .. } = pattern.layout;
        let line = CELL * scale;
        [line / 3, line * 5 / 3].map(|y| read(&pattern.canvas, line, text_y + y, scale, 0))
    }

    fn luma(pattern: &mut Pattern) -> Vec<u8> {
        match pattern.newest().unwrap().picture {
            Picture::Raw(raw) => raw.planes[0].data.to_vec(),
            Picture::Jpeg(_) => panic!("a raw picture"),
        }
    }

    #[test]
    fn a_frame_is_due_at_its_place_whatever_came_before() {
        for fps in 1..=FPS_MAX {
            let pattern = Pattern::new(16, 16, fps);
            for number in (0..2000).chain(1_000_000_000..1_000_000_100) {
                let due = pattern.due(number);
                assert_eq!(pattern.number_at(due), number, "{fps} fps");
                let before = due.checked_sub(Duration::from_nanos(1));
                if let Some(before) = before {
                    assert_eq!(pattern.number_at(before), number - 1, "{fps} fps");
                }
            }
        }
    }

    #[test]
    fn the_deadline_is_when_the_next_frame_is_due() {
        let mut pattern = Pattern::new(64, 48, 30);
        let start = Instant::now();
        assert_eq!(pattern.deadline(), None);
        assert_eq!(pattern.capture(start), Ok(Captured::default()));
        pattern.start(start).unwrap();
        assert!(pattern.newest().is_none());
        for _ in 0..300 {
            let deadline = pattern.deadline().unwrap();
            // A little late, and once too early for the next: neither shifts the rest.
            for (late, fresh) in [(900, true), (901, false)] {
                let captured = pattern.capture(deadline + Duration::from_micros(late));
                let expected = Captured {
                    fresh,
                    ..Captured::default()
                };
                assert_eq!(captured, Ok(expected));
            }
        }
        assert_eq!(pattern.deadline(), Some(start + Duration::from_secs(10)));
        assert_eq!(texts(&pattern)[0], "300");
    }

    #[test]
    fn after_a_stall_frames_are_left_out() {
        let mut pattern = Pattern::new(64, 48, 10);
        let start = Instant::now();
        pattern.start(start).unwrap();
        pattern.capture(start).unwrap();
        let late = start + Duration::from_millis(1050);
        let captured = pattern.capture(late).unwrap();
        assert!(captured.fresh);
        assert_eq!(captured.dropped, 9);
        assert_eq!(texts(&pattern)[0], "11");
        assert_eq!(pattern.newest().unwrap().meta.captured, late);
        assert_eq!(
            pattern.deadline(),
            Some(start + Duration::from_millis(1100))
        );
        assert!(!pattern.capture(late).unwrap().fresh);
    }

    #[test]
    fn the_time_on_the_picture_is_the_pictures_time() {
        let mut pattern = Pattern::new(640, 480, 30);
        let now = Instant::now();
        pattern.start(now).unwrap();
        pattern.capture(now).unwrap();
        let wall = pattern.newest().unwrap().meta.wall;
        let time = &texts(&pattern)[1];
        let numbers: Vec<u64> = time.split([':', '.']).map(|n| n.parse().unwrap()).collect();
        let &[hours, minutes, seconds, millis] = &numbers[..] else {
            panic!("{time}");
        };
        let shown = ((hours * 60 + minutes) * 60 + seconds) * 1000 + millis;
        assert_eq!(u128::from(shown), wall.as_millis() % 86_400_000);
        assert_eq!(time.len(), "hh:mm:ss.mmm".len());

        pattern.draw(1, Duration::new(86_400 * 20_000 + 3_723, 45_999_999));
        assert_eq!(texts(&pattern)[1], "01:02:03.045");
    }

    #[test]
    fn each_picture_moves_and_the_bars_stay() {
        let mut pattern = Pattern::new(320, 240, 30);
        let now = Instant::now();
        pattern.start(now).unwrap();
        pattern.capture(now).unwrap();
        let Layout {
            band_y,
            band_height,
            ..
        } = pattern.layout;
        let band = band_y * 320..(band_y + band_height) * 320;
        let mut before = luma(&mut pattern);
        for _ in 0..600 {
            let deadline = pattern.deadline().unwrap();
            pattern.capture(deadline).unwrap();
            let after = luma(&mut pattern);
            assert!(before[..band.start] == after[..band.start]);
            assert!(before[band.clone()] != after[band.clone()]);
            before = after;
        }
    }

    #[test]
    fn stopped_it_has_no_picture_and_starts_again_from_one() {
        let mut pattern = Pattern::new(320, 240, 30);
        let now = Instant::now();
        pattern.start(now).unwrap();
        pattern.capture(now + Duration::from_secs(100)).unwrap();
        assert_eq!(texts(&pattern)[0], "3001");
        pattern.stop();
        assert!(pattern.newest().is_none());
        assert_eq!(pattern.deadline(), None);
        pattern.start(now).unwrap();
        pattern.capture(now).unwrap();
        assert_eq!(texts(&pattern)[0], "1");
    }

    #[test]
    fn every_size_can_be_drawn_and_encoded() {
        let mut codec = Codec::new();
        let mut out = FrameBuf::new(1 << 20);
        for (width, height) in [(16, 16), (17, 400), (400, 17), (641, 479), (1280, 720)] {
            let mut pattern = Pattern::new(width, height, 240);
            let now = Instant::now();
            let negotiated = pattern.start(now).unwrap();
            assert_eq!((negotiated.width, negotiated.height), (width, height));
            for frame in 0..500 {
                pattern
                    .capture(now + Duration::from_millis(5 * frame))
                    .unwrap();
            }
            match pattern.newest().unwrap().picture {
                Picture::Raw(raw) => codec.encode(&raw, 80, &mut out).unwrap(),
                Picture::Jpeg(_) => panic!("a raw picture"),
            }
        }
    }
}
