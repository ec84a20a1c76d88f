//! Pictures of a Qt program: a `QImage` in a `QSharedMemory` (see [`crate::system::shm`]), looked at `camera.fps` times a second.
//!
//! A picture that does not change is one picture. It is not a fault, however long it stays: a program may share one when a
//! button is pressed. It is a fault if no program has created the segment. For a moment the segment may be gone, as
//! programs replace it with each picture.

use std::io::Cursor;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use png::{ColorType, DecodeOptions, Decoder, Limits, Transformations};

use super::interface::{Captured, Fault, Negotiated, Source};
use crate::limits::{CAPTURE_STALL, DIMENSION_MAX, SHM_CONTENT, SHM_PIXELS};
use crate::picture::frame::{Frame, FrameMeta, Picture, PixelFormat, Plane, RawPicture};
use crate::system::shm::{self, Found, Key, Reader, picture};

/// While another program has the lock, it is tried again so soon: to read or write one picture takes some milliseconds.
const AGAIN: Duration = Duration::from_millis(10);

/// The original reader, a number of times a second.
pub struct QtShm {
    key: Key,
    reader: Reader,
    interval: Duration,
    next: Option<Instant>,
    absent_since: Option<Instant>,
    decoded: Decoded,
    newest: Option<FrameMeta>,
}

impl QtShm {
    /// # Panics
    /// If `fps` is 0: the configuration does not allow it.
    pub fn new(key: &str, fps: u16) -> QtShm {
        assert!(fps > 0, "a rate of 0 fps");
        let key = Key::new(key);
        QtShm {
            reader: Reader::new(key.clone(), SHM_CONTENT),
            key,
            interval: Duration::from_secs(1) / u32::from(fps),
            next: None,
            absent_since: None,
            decoded: Decoded::default(),
            newest: None,
        }
    }

    fn fault(&self, error: shm::Error) -> Fault {
        let way_out = match error {
            shm::Error::Absent => {
                "; start the program that shares the picture, as camd's user and with the same TMPDIR"
            }
            shm::Error::Other(_) => "",
        };
        Fault(format!("{} (camera.key): {error}{way_out}", self.key))
    }

    fn look(&mut self, now: Instant) -> Result<(Found, Captured), Fault> {
        let mut captured = Captured::default();
        let found = match self.reader.read(now) {
            Err(shm::Error::Absent)
                if *self.absent_since.get_or_insert(now) + CAPTURE_STALL > now =>
            {
                return Ok((Found::Same, captured));
            }
            found => found.map_err(|error| self.fault(error))?,
        };
        self.absent_since = None;
        if found == Found::New {
            match self.decoded.take(self.reader.content()) {
                Ok((width, height)) => {
                    captured.fresh = true;
                    self.newest = Some(FrameMeta::taken(now, width, height));
                }
                Err(what) => {
                    log::debug!("{}: no picture: {what}", self.key);
                    captured.bad = 1;
                }
            }
        }
        Ok((found, captured))
    }
}

impl Source for QtShm {
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault> {
        self.stop();
        // Whether it is there at all. What there is now is the first picture.
        self.reader.read(now).map_err(|error| self.fault(error))?;
        self.reader.forget();
        self.next = Some(now);
        Ok(Negotiated {
            format: PixelFormat::Rgb24,
            width: 0,
            height: 0,
            fps: None,
            orientation: None,
            cropped: None,
            description: format!("pictures in Qt's shared memory, {}", self.key),
        })
    }

    fn stop(&mut self) {
        self.reader.leave();
        self.next = None;
        self.absent_since = None;
        self.newest = None;
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        let Some(next) = self.next.filter(|next| *next <= now) else {
            return Ok(Captured::default());
        };
        let (found, captured) = self.look(now)?;
        self.next = Some(match found {
            Found::Busy => now + AGAIN.min(self.interval),
            // Those that were missed are not made up for.
            _ => (next + self.interval).max(now),
        });
        Ok(captured)
    }

    fn newest(&self) -> Option<Frame<'_>> {
        let meta = self.newest?;
        let mut planes = [Plane::default(); 3];
        planes[0] = Plane {
            data: &self.decoded.pixels,
            stride: 3 * usize::from(meta.width),
        };
        Some(Frame {
            meta,
            picture: Picture::Raw(RawPicture {
                format: PixelFormat::Rgb24,
                width: meta.width,
                height: meta.height,
                planes,
            }),
        })
    }
}

/// The last good picture, and room to decode the next one in. Both grow to what pictures need; the library takes memory for
/// each, as it has no way to be lent any.
#[derive(Default)]
struct Decoded {
    pixels: Vec<u8>,
    raw: Vec<u8>,
}

impl Decoded {
    /// Any PNG becomes RGB of 8 bits; what shines through is black. The error says what is wrong.
    fn take(&mut self, content: &[u8]) -> Result<(u16, u16), String> {
        let png = match content.strip_prefix(&picture::PRESENT) {
            Some(png) => png,
            None if content.starts_with(&[0; 4]) => return Err("a null image".into()),
            None => return Err("not a QImage".into()),
        };
        let error = |error: png::DecodingError| error.to_string();
        let mut options = DecodeOptions::default();
        options.set_ignore_text_chunk(true);
        options.set_ignore_iccp_chunk(true);
        let mut decoder = Decoder::new_with_options(Cursor::new(png), options);
        decoder.set_limits(Limits { bytes: SHM_PIXELS });
        // Palettes and fewer bits become samples of 8 bits, more bits lose the lower eight.
        decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
        let mut reader = decoder.read_info().map_err(error)?;
        let (width, height) = reader.info().size();
        let side = |side: u32| {
            u16::try_from(side)
                .ok()
                .filter(|side| (1..=DIMENSION_MAX).contains(side))
        };
        let (Some(w), Some(h)) = (side(width), side(height)) else {
            return Err(format!("{width}x{height} is too large"));
        };
        let bytes = reader.output_buffer_size().unwrap_or(usize::MAX);
        let pixels = usize::from(w) * usize::from(h);
        if bytes > SHM_PIXELS || 3 * pixels > SHM_PIXELS {
            return Err(format!("{width}x{height} is too large"));
        }
        self.raw.resize(bytes, 0);
        let info = reader.next_frame(&mut self.raw).map_err(error)?;
        let raw = &self.raw[..info.buffer_size()];
        self.pixels.resize(3 * pixels, 0);
        let (to, _) = self.pixels.as_chunks_mut::<3>();
        match info.color_type {
            ColorType::Rgb => self.pixels.copy_from_slice(raw),
            ColorType::Grayscale => {
                for (to, &grey) in to.iter_mut().zip(raw) {
                    *to = [grey; 3];
                }
            }
            ColorType::GrayscaleAlpha => {
                let (raw, _) = raw.as_chunks::<2>();
                for (to, &[grey, alpha]) in to.iter_mut().zip(raw) {
                    *to = [over_black(grey, alpha); 3];
                }
            }
            ColorType::Rgba => {
                let (raw, _) = raw.as_chunks::<4>();
                for (to, &[r, g, b, alpha]) in to.iter_mut().zip(raw) {
                    *to = [r, g, b].map(|sample| over_black(sample, alpha));
                }
            }
            ColorType::Indexed => unreachable!("palettes are expanded"),
        }
        Ok((w, h))
    }
}

fn over_black(sample: u8, alpha: u8) -> u8 {
    ((u32::from(sample) * u32::from(alpha) + 127) / 255) as u8
}

#[cfg(test)]
#[path = "qt_shm_tests.rs"]
mod tests;
