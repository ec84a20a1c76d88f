//! Rectangles and text in a 4:2:0 picture: all that the test pattern and the "no picture" card need.

use crate::picture::font::{CELL, glyph};
use crate::picture::frame::{PixelFormat, Plane, RawPicture};

/// Y, Cb, Cr as JFIF has them (full range).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

pub const BLACK: Color = Color(0, 128, 128);
pub const WHITE: Color = Color(255, 128, 128);

/// A picture in three planes (`V4L2_PIX_FMT_YUV420`), allocated once. What is drawn outside of it is cut off.
pub struct Canvas {
    width: u16,
    height: u16,
    /// Y, Cb, Cr.
    planes: [Box<[u8]>; 3],
}

impl Canvas {
    pub fn new(width: u16, height: u16, ground: Color) -> Self {
        let luma = usize::from(width) * usize::from(height);
        let chroma = usize::from(width.div_ceil(2)) * usize::from(height.div_ceil(2));
        Canvas {
            width,
            height,
            planes: [(ground.0, luma), (ground.1, chroma), (ground.2, chroma)]
                .map(|(value, len)| vec![value; len].into_boxed_slice()),
        }
    }

    pub fn width(&self) -> usize {
        self.width.into()
    }

    pub fn height(&self) -> usize {
        self.height.into()
    }

    pub fn picture(&self) -> RawPicture<'_> {
        let [y, cb, cr] = &self.planes;
        let half = self.width().div_ceil(2);
        RawPicture {
            format: PixelFormat::Yu12,
            width: self.width,
            height: self.height,
            planes: [(y, self.width()), (cb, half), (cr, half)]
                .map(|(data, stride)| Plane { data, stride }),
        }
    }

    /// Fills a rectangle. As two pixels by two share their colour, it spills over an odd edge by one.
    pub fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, color: Color) {
        let right = (x + width).min(self.width());
        let bottom = (y + height).min(self.height());
        if x >= right || y >= bottom {
            return;
        }
        let (luma_stride, chroma_stride) = (self.width(), self.width().div_ceil(2));
        let [luma, cb, cr] = &mut self.planes;
        for line in luma.chunks_exact_mut(luma_stride).take(bottom).skip(y) {
            line[x..right].fill(color.0);
        }
        for (plane, value) in [(cb, color.1), (cr, color.2)] {
            let lines = plane.chunks_exact_mut(chroma_stride);
            for line in lines.take(bottom.div_ceil(2)).skip(y / 2) {
                line[x / 2..right.div_ceil(2)].fill(value);
            }
        }
    }

    /// Writes one line of text, each of the font's pixels `scale` pixels large. Only the brightness changes: for text on
    /// grey ground.
    pub fn text(&mut self, x: usize, y: usize, scale: usize, luma: u8, text: &str) {
        for (i, character) in text.chars().enumerate() {
            self.glyph(x + i * CELL * scale, y, scale, luma, character);
        }
    }

    fn glyph(&mut self, x: usize, y: usize, scale: usize, luma: u8, character: char) {
        let (width, height) = (self.width(), self.height());
        for (row, bits) in glyph(character).into_iter().enumerate() {
            for column in (0..CELL).filter(|column| bits & (1 << column) != 0) {
                let left = (x + column * scale).min(width);
                let right = (left + scale).min(width);
                let top = y + row * scale;
                for line in top.min(height)..(top + scale).min(height) {
                    self.planes[0][line * width..][left..right].fill(luma);
                }
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Reads back a line of text, as bright pixels on a darker ground; trailing spaces are left out.
    pub fn read(canvas: &Canvas, x: usize, y: usize, scale: usize, ground: u8) -> String {
        let columns = (canvas.width() - x) / (CELL * scale);
        crate::picture::font::tests::read(columns, scale, |dx, dy| {
            canvas.planes[0][(y + dy) * canvas.width() + x + dx] > ground
        })
    }

    #[test]
    fn text_can_be_read() {
        for scale in 1..4 {
            let mut canvas = Canvas::new(500, 50, BLACK);
            canvas.text(5, 7, scale, 200, "Süd 12:34, /dev €");
            assert_eq!(read(&canvas, 5, 7, scale, 0), "Süd 12:34, /dev ?");
        }
    }

    #[test]
    fn what_is_outside_is_cut_off() {
        let mut canvas = Canvas::new(17, 9, BLACK);
        canvas.text(12, 4, 3, 255, "WW");
        canvas.text(400, 400, 3, 255, "W");
        canvas.fill(10, 5, 100, 100, WHITE);
        canvas.fill(17, 9, 1, 1, WHITE);
        assert_eq!(canvas.planes[0][9 * 17 - 1], 255);
    }

    #[test]
    fn a_rectangle_is_filled_to_its_edges() {
        let mut canvas = Canvas::new(12, 10, BLACK);
        canvas.fill(2, 4, 6, 2, Color(9, 8, 7));
        let raw = canvas.picture();
        for y in 0..10 {
            for x in 0..12 {
                let inside = (2..8).contains(&x) && (4..6).contains(&y);
                let expected = if inside { (9, 8, 7) } else { (0, 128, 128) };
                let [luma, cb, cr] = raw.planes;
                let half = y / 2 * cb.stride + x / 2;
                let got = (luma.data[y * luma.stride + x], cb.data[half], cr.data[half]);
                assert_eq!(got, expected, "{x},{y}");
            }
        }
    }
}
