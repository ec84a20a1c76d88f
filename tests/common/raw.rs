//! A raw picture and the memory that it lies in.

use camd::picture::frame::{PixelFormat, Plane, RawPicture};

/// Planes whose lines lie further apart than they are long.
pub struct Raw {
    pub format: PixelFormat,
    pub width: u16,
    pub height: u16,
    /// Each with its stride.
    pub planes: [(Vec<u8>, usize); 3],
}

impl Raw {
    /// Picture number 1. `padding`: bytes behind each line but the last, which may end with its last pixel.
    pub fn new(format: PixelFormat, width: u16, height: u16, padding: usize) -> Raw {
        let planes = format.planes(width, height).map(|(line, lines)| {
            let stride = line + if line > 0 { padding } else { 0 };
            let length = (stride * lines).saturating_sub(stride - line);
            (vec![0; length], stride)
        });
        let mut raw = Raw {
            format,
            width,
            height,
            planes,
        };
        raw.draw(1);
        raw
    }

    /// Picture number `n`: noise that no other has.
    pub fn draw(&mut self, n: u64) {
        let mut rng = fastrand::Rng::with_seed(n);
        for (data, _) in &mut self.planes {
            rng.fill(data);
        }
    }

    pub fn lend(&self) -> RawPicture<'_> {
        let mut planes = [Plane::default(); 3];
        for (plane, (data, stride)) in planes.iter_mut().zip(&self.planes) {
            (plane.data, plane.stride) = (data, *stride);
        }
        RawPicture {
            format: self.format,
            width: self.width,
            height: self.height,
            planes,
        }
    }
}
