//! What a format costs the processor, given what listeners and sinks want: a rough model, to compare formats with.
//!
//! It counts instructions per sample, as the codec needs them on ARMv7 with NEON at quality 80 (`tests/lab/run estimates` holds
//! it against the codec). Chroma samples count like those of luma: 2 a pixel in 4:2:2, 1.5 in 4:2:0. A camera's JPEG is taken
//! for 4:2:2, as most webcams send it. What all formats have in common is left out: sending, mirroring, a time stamp.

use crate::config::{Config, ListenerConfig, SinkConfig, SinkFormat, SinkKind};
use crate::picture::frame::{Area, Bounds, Chroma, Orientation, PixelFormat, Size};

/// To encode: DCT, quantisation and Huffman codes.
const ENCODE: f64 = 18.2;
/// To get at the coefficients of a JPEG, whatever its size becomes.
const ENTROPY: f64 = 9.7;
/// For 1/8 and 2/8, where most of them are passed over; samples are made of the others at once.
const EIGHTH: f64 = 2.3;
const QUARTER: f64 = 3.6;
/// Back from the coefficients, in the scales that libjpeg has vector code for: 8/8 and 4/8.
const IDCT: f64 = 3.7;
/// In its other scales.
const IDCT_SLOW: f64 = 14.0;
/// To make a sample's line and column part of a smaller picture, if so many make one exactly.
const SHRINK: f64 = 4.0;
/// If it is half a line, which there is vector code for.
const HALVE: f64 = 2.3;
/// If not, and then as much for each sample of the result.
const SHRINK_UNEVEN: f64 = 3.9;
const SHRINK_TO: f64 = 24.0;
/// To average two lines of samples that share their colours in 4:2:0, for each sample that is saved.
const AVERAGE: f64 = 1.2;
/// To make a pixel of red, green and blue from one of luma and chroma.
const COLOUR: f64 = 5.6;

/// Instructions to make a JPEG of size `to` from a picture of size `from`.
pub fn making(format: PixelFormat, from: Size, to: Size, chroma: Chroma) -> f64 {
    let Work {
        before,
        convert,
        encoded,
    } = work(format, from, to, Some(chroma));
    before + convert + encoded * ENCODE
}

/// The same for pixels in place of a JPEG.
fn unpacking(format: PixelFormat, from: Size, to: Size) -> f64 {
    let Work { before, .. } = work(format, from, to, None);
    let colour = match format {
        PixelFormat::Rgb24 | PixelFormat::Bgr24 | PixelFormat::Grey => 0.0,
        _ => COLOUR,
    };
    before + colour * f64::from(to.width) * f64::from(to.height)
}

/// What has to be done, in instructions.
struct Work {
    /// Until there are samples, as many as are wanted.
    before: f64,
    /// Until they are those that a JPEG has.
    convert: f64,
    /// How many of these there are.
    encoded: f64,
}

/// `chroma`: of a JPEG; `None` for pixels.
fn work(format: PixelFormat, from: Size, to: Size, chroma: Option<Chroma>) -> Work {
    let area = |size: Size| f64::from(size.width) * f64::from(size.height);
    let (all, made) = (area(from), area(to));
    // Of so many samples a pixel, which become so many.
    let shrink = |from: Size, samples: f64, shrunk: f64| {
        let even = from.width.is_multiple_of(to.width) && from.height.is_multiple_of(to.height);
        let planar = samples <= 2.0 && chroma.is_some();
        match (from == to, even) {
            (true, _) => (samples - shrunk) * AVERAGE * made,
            (false, true) if planar && from.width == 2 * to.width => samples * HALVE * area(from),
            (false, true) => samples * SHRINK * area(from),
            (false, false) => samples * SHRINK_UNEVEN * area(from) + shrunk * SHRINK_TO * made,
        }
    };
    let coloured = match chroma {
        Some(Chroma::Yuv420) => 1.5,
        Some(Chroma::Yuv422) | None => 2.0,
    };
    // Samples a pixel as they come in, those that are left of them in a picture of the size that is made, those that are
    // encoded, and what it takes to get from the former to these.
    let (samples, shrunk, encoded, convert) = match format {
        PixelFormat::Mjpeg => {
            let (scale, decoded) = decoded(from, to);
            let back = match scale {
                1 => EIGHTH * all,
                2 => QUARTER * all,
                4 | 8 => ENTROPY * all + IDCT * area(decoded),
                _ => ENTROPY * all + IDCT_SLOW * area(decoded),
            };
            return Work {
                before: 2.0 * back + shrink(decoded, 2.0, coloured),
                convert: 0.0,
                encoded: coloured * made,
            };
        }
        PixelFormat::Yu12 | PixelFormat::Yv12 => (1.5, 1.5, 1.5, 0.0),
        // Half of what NV12 leaves to be taken apart is there twice, and half of what packed formats do.
        PixelFormat::Nv16 => (2.0, coloured, coloured, 0.4 * all),
        PixelFormat::Nv12 | PixelFormat::Nv21 => (1.5, 1.5, 1.5, 0.2 * all),
        PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Yvyu | PixelFormat::Vyuy => {
            (2.0, coloured, coloured, all)
        }
        PixelFormat::Rgb24 | PixelFormat::Bgr24 if from == to => (3.0, 3.0, coloured, 5.6 * made),
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => (3.0, 3.0, coloured, 15.6 * made),
        PixelFormat::Grey => (1.0, 1.0, 1.0, 0.0),
    };
    Work {
        before: shrink(from, samples, shrunk),
        convert,
        encoded: encoded * made,
    }
}

/// The scale in eighths in which a JPEG is decoded to become that small: the next larger one.
fn decoded(from: Size, to: Size) -> (u16, Size) {
    let side = |side: u16, scale: u16| (u32::from(side) * u32::from(scale)).div_ceil(8) as u16;
    let at = |scale| Size {
        width: side(from.width, scale),
        height: side(from.height, scale),
    };
    (1..=8)
        .map(|scale| (scale, at(scale)))
        .find(|(_, size)| size.width >= to.width && size.height >= to.height)
        .unwrap_or((8, from))
}

/// One kind of picture that is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Want {
    /// As a listener's: `None` leaves a JPEG untouched.
    quality: Option<u8>,
    /// For pictures that are no JPEGs yet.
    raw_quality: u8,
    chroma: Chroma,
    bounds: Bounds,
    max_fps: Option<u16>,
    /// No JPEG, but pixels.
    pixels: bool,
}

/// What all listeners and sinks together want of the camera's pictures. It is not known how many viewers will come to
/// which, so each counts as one that always has somebody waiting.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// See [`Demand::is_for_h264`].
    is_for_h264: bool,
    wants: Vec<Want>,
    /// What is shown of a picture, as viewers see it.
    crop: Option<Area>,
}

/// How much of what is wanted the camera's own pictures are, if they are JPEGs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untouched {
    /// All of it.
    All,
    /// Some of it.
    Some,
    /// None of it.
    None,
}

impl Demand {
    /// That of all listeners and sinks of this configuration.
    pub fn of(config: &Config) -> Self {
        let mut wants = Vec::new();
        let mut takes_any = false;
        for listener in config.listeners.iter().filter(|it| !it.is_for_h264()) {
            let raw_quality = listener.raw_quality();
            let want = Want {
                quality: listener.quality,
                raw_quality,
                chroma: listener.chroma.unwrap_or(Chroma::at(raw_quality)),
                bounds: Bounds::within(listener.width, listener.height),
                max_fps: listener.max_fps,
                pixels: false,
            };
            wants.push(want);
            if listener.adaptive {
                // Who asks for this expects a client that needs it: one in the middle between all and little.
                wants.push(Want {
                    quality: Some(raw_quality),
                    bounds: Bounds {
                        eighths: 4,
                        ..want.bounds
                    },
                    ..want
                });
            }
        }
        for sink in &config.sinks {
            if sink.is_for_h264() {
                continue;
            }
            if (sink.kind, sink.format) == (SinkKind::Memfd, SinkFormat::Raw) {
                // It takes whatever there is.
                takes_any = true;
                continue;
            }
            let raw_quality = sink.raw_quality();
            wants.push(Want {
                quality: sink.quality,
                raw_quality,
                chroma: sink.chroma.unwrap_or(Chroma::at(raw_quality)),
                bounds: Bounds::within(sink.width, sink.height),
                max_fps: sink.fps,
                pixels: !sink.takes_jpegs(),
            });
        }
        let films = config.listeners.iter().any(ListenerConfig::is_for_h264)
            || config.sinks.iter().any(SinkConfig::is_for_h264);
        Demand {
            is_for_h264: films && wants.is_empty() && !takes_any,
            wants,
            crop: config.camera.crop,
        }
    }

    /// Whether nobody can get anything but H.264.
    pub fn is_for_h264(&self) -> bool {
        self.is_for_h264
    }

    /// Instructions per second with pictures of size `stored` at `fps`, which have to be turned as `left` says. To turn a
    /// JPEG, or to crop it, counts like making a new one: without loss or with, its coefficients are unpacked and packed
    /// again; all of them are unpacked to have a part. Of what is not compressed, nobody looks at what is not shown.
    pub fn cost(&self, format: PixelFormat, stored: Size, left: Orientation, fps: f64) -> f64 {
        let seen = self.shown(left.turn(stored));
        let part = left.turn(seen);
        // Pixels are made for each sink anew.
        let same = |a: &Want, b: &Want| {
            !a.pixels
                && !b.pixels
                && (a.raw_quality, a.chroma, a.bounds) == (b.raw_quality, b.chroma, b.bounds)
        };
        let made: Vec<&Want> = self
            .wants
            .iter()
            .filter(|want| seen != left.turn(stored) || !want.is_met(format, seen, left))
            .collect();
        let mut sum = 0.0;
        for (i, want) in made.iter().enumerate() {
            // A picture that several want is made once, for the most frequent of them.
            if made[..i].iter().any(|earlier| same(earlier, want)) {
                continue;
            }
            let alike = made[i + 1..].iter().filter(|other| same(want, other));
            let rate = alike
                .chain([want])
                .map(|other| other.max_fps.map_or(fps, |most| fps.min(f64::from(most))))
                .fold(0.0, f64::max);
            // As it is stored, so that both are of one kind.
            let to = left.turn(want.bounds.fit(seen));
            let one = match want.pixels {
                true => unpacking(format, part, to),
                false => making(format, part, to, want.chroma),
            };
            let area = |size: Size| f64::from(size.width) * f64::from(size.height);
            let around = match format {
                PixelFormat::Mjpeg => 2.0 * ENTROPY * (area(stored) - area(part)),
                _ => 0.0,
            };
            sum += (one + around) * rate;
        }
        sum
    }

    /// How many of these get a JPEG as the camera stores it, of this size and still to be turned so.
    pub fn untouched(&self, stored: Size, left: Orientation) -> Untouched {
        let seen = left.turn(stored);
        if self.shown(seen) != seen {
            return Untouched::None;
        }
        let met = |want: &Want| want.is_met(PixelFormat::Mjpeg, left.turn(stored), left);
        if self.wants.iter().all(met) {
            Untouched::All
        } else if self.wants.iter().any(met) {
            Untouched::Some
        } else {
            Untouched::None
        }
    }
}

impl Demand {
    /// What is left of a picture that viewers would see in this size.
    fn shown(&self, seen: Size) -> Size {
        self.crop.map_or(seen, |area| area.within(seen).size())
    }
}

impl Want {
    /// Whether the camera's picture is what is wanted already.
    fn is_met(&self, format: PixelFormat, seen: Size, left: Orientation) -> bool {
        format == PixelFormat::Mjpeg
            && left == Orientation::UPRIGHT
            && !self.pixels
            && self.quality.is_none()
            && self.bounds.fit(seen) == seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const VGA: Size = Size {
        width: 640,
        height: 480,
    };

    fn demand(listeners: &[&str]) -> Demand {
        let text: String = listeners
            .iter()
            .enumerate()
            .map(|(i, keys)| {
                let protocol = if keys.contains("protocol") {
                    ""
                } else {
                    "protocol = \"http\"\n"
                };
                format!(
                    "[[listener]]\n{protocol}bind = \"127.0.0.1:{}\"\n{keys}\n",
                    8000 + i
                )
            })
            .collect();
        Demand::of(&config::parse(&text, "test").expect("listeners"))
    }

    #[test]
    fn what_is_not_shown_costs_little() {
        let cropped = |keys: &str, crop: &str| {
            let text = format!(
                "[camera]\n{crop}\n[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:1\"\n{keys}\n"
            );
            Demand::of(&config::parse(&text, "test").expect("a configuration"))
        };
        let [whole, all, part] = ["", "crop = [0, 0, 640, 480]", "crop = [160, 120, 320, 240]"]
            .map(|crop| cropped("", crop));
        let upright = Orientation::UPRIGHT;
        assert_eq!(vga(&whole, PixelFormat::Mjpeg), 0.0);
        assert_eq!(vga(&all, PixelFormat::Mjpeg), 0.0);
        assert_eq!(all.untouched(VGA, upright), Untouched::All);
        assert_eq!(part.untouched(VGA, upright), Untouched::None);
        for format in [PixelFormat::Yuyv, PixelFormat::Nv12, PixelFormat::Rgb24] {
            let (quarter, whole) = (vga(&part, format), vga(&whole, format));
            assert_eq!(4.0 * quarter, whole, "{format:?}");
            // To read a JPEG is work, and all of it is read.
            assert!(vga(&part, PixelFormat::Mjpeg) > vga(&part, PixelFormat::Yuyv));
        }
    }

    fn vga(demand: &Demand, format: PixelFormat) -> f64 {
        demand.cost(format, VGA, Orientation::UPRIGHT, 10.0)
    }

    #[test]
    fn only_an_untouched_jpeg_is_free() {
        let plain = demand(&[""]);
        assert_eq!(vga(&plain, PixelFormat::Mjpeg), 0.0);
        assert_eq!(plain.untouched(VGA, Orientation::UPRIGHT), Untouched::All);
        // It fits already.
        assert_eq!(vga(&demand(&["width = 800"]), PixelFormat::Mjpeg), 0.0);
        for keys in ["quality = 80", "width = 320", "adaptive = true"] {
            let more = demand(&[keys]);
            assert!(vga(&more, PixelFormat::Mjpeg) > 0.0, "{keys}");
        }
        let turned = Orientation::quarters(1);
        assert!(plain.cost(PixelFormat::Mjpeg, VGA, turned, 10.0) > 0.0);
        assert_eq!(plain.untouched(VGA, turned), Untouched::None);
        assert_eq!(
            demand(&["", "height = 240"]).untouched(VGA, Orientation::UPRIGHT),
            Untouched::Some
        );
        for format in PixelFormat::ALL.into_iter().skip(1) {
            assert!(vga(&plain, format) > 0.0, "{format:?}");
        }
    }

    #[test]
    fn a_picture_that_two_want_is_made_once() {
        let one = vga(&demand(&["quality = 50"]), PixelFormat::Yuyv);
        let two = vga(
            &demand(&["quality = 50", "quality = 50"]),
            PixelFormat::Yuyv,
        );
        assert_eq!(one, two);
        let other = vga(
            &demand(&["quality = 50", "quality = 60"]),
            PixelFormat::Yuyv,
        );
        assert_eq!(2.0 * one, other);
        // pull's default.
        let pull = "protocol = \"pull\"";
        assert_eq!(
            vga(&demand(&["quality = 50", pull]), PixelFormat::Yuyv),
            one
        );
    }

    #[test]
    fn sinks_want_pictures_too() {
        let sink = |keys: &str| demand(&[&format!("\n[[sink]]\n{keys}")]);
        let plain = demand(&[""]);
        for (keys, untouched) in [
            ("kind = \"memfd\"", Untouched::All),
            ("kind = \"memfd\"\nformat = \"raw\"", Untouched::All),
            ("kind = \"memfd\"\nquality = 50", Untouched::Some),
            ("kind = \"memfd\"\nformat = \"grey\"", Untouched::Some),
            ("kind = \"qt-shm\"", Untouched::Some),
        ] {
            let with = sink(keys);
            assert_eq!(
                with.untouched(VGA, Orientation::UPRIGHT),
                untouched,
                "{keys}"
            );
            let more = vga(&with, PixelFormat::Mjpeg) > vga(&plain, PixelFormat::Mjpeg);
            assert_eq!(more, untouched != Untouched::All, "{keys}");
        }
        // Pixels of pixels are nearly free, and nobody else's JPEG is of use for them.
        let pixels = sink("kind = \"memfd\"\nformat = \"bgr24\"");
        let own = |format| vga(&pixels, format) - vga(&plain, format);
        assert_eq!(own(PixelFormat::Bgr24), 0.0);
        assert!(own(PixelFormat::Yuyv) < own(PixelFormat::Mjpeg));
        let two = "kind = \"memfd\"\nformat = \"bgr24\"\n\n[[sink]]\nkind = \"qt-shm\"\nfps = 10";
        let two = vga(&sink(two), PixelFormat::Yuyv) - vga(&plain, PixelFormat::Yuyv);
        assert_eq!(two, 2.0 * own(PixelFormat::Yuyv));
    }

    #[test]
    fn who_wants_fewer_costs_less() {
        let all = vga(&demand(&["quality = 50"]), PixelFormat::Yuyv);
        let few = vga(&demand(&["quality = 50\nmax_fps = 2"]), PixelFormat::Yuyv);
        assert_eq!(all, 5.0 * few);
        let both = demand(&["quality = 50\nmax_fps = 2", "quality = 50"]);
        assert_eq!(vga(&both, PixelFormat::Yuyv), all);
    }

    #[test]
    fn a_turned_picture_is_bounded_as_viewers_see_it() {
        // 640x480 on its side is 480x640: within a width of 240 that is 240x320.
        let narrow = demand(&["width = 240"]);
        let turned = narrow.cost(PixelFormat::Yu12, VGA, Orientation::quarters(1), 1.0);
        let half = Size {
            width: 320,
            height: 240,
        };
        let alone = making(PixelFormat::Yu12, VGA, half, Chroma::Yuv420);
        assert_eq!(turned, alone);
    }
}
