//! `format = "auto"`: which of a camera's formats to ask for, at which size and rate, and why.

use std::cmp::{Ordering, Reverse};
use std::fmt::Write;

use super::cost::{Demand, Untouched};
use crate::limits::{DIMENSION_MAX, DIMENSION_MIN};
use crate::picture::frame::{CameraFormat, Orientation, PixelFormat, Size};
use crate::system::v4l2::device::{Interval, Rates, Sizes};
use crate::system::v4l2::formats::{CODES, Offer, code_name};

/// What is wanted of a camera.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// `None`: the one that costs least.
    pub format: Option<CameraFormat>,
    /// Before turning.
    pub size: (u32, u32),
    /// Pictures per second.
    pub fps: u16,
    /// Whether the camera turns its pictures by a quarter, so that they come with width and height exchanged.
    pub transposed: bool,
    /// How they are to be turned after that.
    pub left: Orientation,
    /// What listeners and sinks want.
    pub demand: &'a Demand,
}

/// What to ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// V4L2's code of the format.
    pub code: u32,
    /// The same as camd's.
    pub format: CameraFormat,
    /// Before turning.
    pub size: (u32, u32),
    /// `None` if the camera does not say which rates it has.
    pub interval: Option<Interval>,
    /// For a person.
    pub why: String,
}

/// How far a size is from the wanted one, the nearest first: that size; the smallest that is no smaller on either side;
/// the largest of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    Same,
    /// By its area.
    Larger(u64),
    Smaller(Reverse<u64>),
}

fn distance((width, height): (u32, u32), wanted: (u32, u32)) -> Distance {
    let area = u64::from(width) * u64::from(height);
    if (width, height) == wanted {
        Distance::Same
    } else if width >= wanted.0 && height >= wanted.1 {
        Distance::Larger(area)
    } else {
        Distance::Smaller(Reverse(area))
    }
}

impl Sizes {
    /// The size to ask for; `None` if camd cannot use any of them.
    fn nearest(&self, wanted: (u32, u32)) -> Option<(u32, u32)> {
        let side = |v: &u32| (DIMENSION_MIN.into()..=DIMENSION_MAX.into()).contains(v);
        let usable = |(width, height): &(u32, u32)| side(width) && side(height);
        match self {
            Sizes::Discrete(all) => all
                .iter()
                .copied()
                .filter(usable)
                .min_by_key(|&size| distance(size, wanted)),
            &Sizes::Range { min, max, step } => {
                // Up to the next step, or to the last one there is.
                let on_step = |wanted: u32, min: u32, max: u32, step: u32| {
                    let steps = wanted.saturating_sub(min).div_ceil(step);
                    min + steps.min(max.saturating_sub(min) / step) * step
                };
                Some((
                    on_step(wanted.0, min.0, max.0, step.0),
                    on_step(wanted.1, min.1, max.1, step.1),
                ))
                .filter(usable)
            }
            // It may have it; S_FMT will tell.
            Sizes::Unknown => Some(wanted),
        }
    }
}

impl Rates {
    /// The interval to ask for: of the lowest rate that is enough, else of the highest. A driver that is asked for a rate
    /// that it does not have takes the nearest, which may be too low.
    fn nearest(&self, fps: u16) -> Option<Interval> {
        let wanted = f64::from(fps);
        match self {
            Rates::Discrete(all) => all.iter().copied().min_by(|a, b| {
                let (a, b) = (a.fps(), b.fps());
                match (is_enough(a, wanted), is_enough(b, wanted)) {
                    (true, true) => a.total_cmp(&b),
                    (false, false) => b.total_cmp(&a),
                    (true, false) => Ordering::Less,
                    (false, true) => Ordering::Greater,
                }
            }),
            &Rates::Range { slowest, fastest } => Some(if fastest.fps() < wanted {
                fastest
            } else if slowest.fps() > wanted {
                slowest
            } else {
                Interval::of(fps)
            }),
            Rates::Unknown => None,
        }
    }
}

/// Of what [`more_modest`] lists, not more than this: each costs the loop a start of the stream.
const MODEST_MOST: usize = 16;
/// How often a size or rate is halved where the camera does not list any.
const HALVINGS: usize = 3;

/// Sizes and rates that take less room on the bus than the wanted ones, of one format, in the order in which to try them:
/// first rates down to half of the wanted one, then a smaller size at the wanted rate, and so on; at the end what is slower
/// still.
pub fn more_modest(
    sizes: &Sizes,
    wanted: (u32, u32),
    fps: u16,
    mut rates: impl FnMut((u32, u32)) -> Rates,
) -> Vec<((u32, u32), u16)> {
    let Some(first) = sizes.nearest(wanted) else {
        return Vec::new();
    };
    let mut all = vec![first];
    let halves =
        std::iter::successors(Some(first), |(width, height)| Some((width / 2, height / 2)));
    match sizes {
        Sizes::Discrete(listed) => {
            let area = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
            let mut smaller: Vec<_> = listed
                .iter()
                .copied()
                .filter(|&size| sizes.nearest(size) == Some(size) && area(size) < area(first))
                .collect();
            smaller.sort_by_key(|&size| Reverse(area(size)));
            all.extend(smaller);
        }
        Sizes::Range { .. } | Sizes::Unknown => {
            let usable = |size: &(u32, u32)| {
                size.0 >= u32::from(DIMENSION_MIN) && size.1 >= u32::from(DIMENSION_MIN)
            };
            all.extend(
                halves
                    .skip(1)
                    .take(HALVINGS)
                    .filter(usable)
                    .filter_map(|size| sizes.nearest(size)),
            );
        }
    }
    all.dedup();
    let mut near = Vec::new();
    let mut far = Vec::new();
    for size in all {
        let rates = rates(size);
        // The wanted rate, or the nearest, has been tried at the first size.
        let most = rates
            .nearest(fps)
            .map_or(f64::from(fps), Interval::fps)
            .min(f64::from(fps));
        let mut lower: Vec<u16> = match &rates {
            Rates::Discrete(all) => all
                .iter()
                .map(|interval| interval.fps())
                .filter(|rate| *rate < most)
                .map(|rate| rate as u16)
                .collect(),
            Rates::Range { slowest, .. } => {
                let halves = (1..=HALVINGS).map(|n| f64::from(fps) / f64::from(1 << n));
                halves
                    .filter(|rate| *rate >= slowest.fps())
                    .map(|rate| rate as u16)
                    .collect()
            }
            Rates::Unknown => (1..=HALVINGS).map(|n| fps >> n).collect(),
        };
        lower.retain(|rate| *rate > 0);
        lower.sort_unstable_by_key(|rate| Reverse(*rate));
        lower.dedup();
        if size != first {
            near.push((size, fps));
        }
        for rate in lower {
            let is_near = 2 * u32::from(rate) >= u32::from(fps);
            let list = if is_near { &mut near } else { &mut far };
            list.push((size, rate));
        }
    }
    near.extend(far);
    near.truncate(MODEST_MOST);
    near
}

/// 29.97 is 30.
fn is_enough(rate: f64, wanted: f64) -> bool {
    percent(rate, wanted) >= 100
}

fn percent(rate: f64, wanted: f64) -> u32 {
    (100.0 * rate / wanted).round() as u32
}

/// An offer with the size and rate that it would be asked for.
struct Candidate<'a> {
    offer: &'a Offer,
    size: (u32, u32),
    interval: Option<Interval>,
    distance: Distance,
    /// No listener and no sink can pass it on, where another format may do.
    useless: bool,
    grey: bool,
    /// How much of the wanted rate there is, in percent; what the driver does not tell counts as enough.
    reached: u32,
    /// Instructions per second.
    cost: u64,
    /// In a picture, nearly: what goes over the bus and through the driver.
    bytes: u64,
    /// The order of [`CODES`].
    variant: usize,
}

impl<'a> Candidate<'a> {
    fn new(
        offer: &'a Offer,
        wish: &Wish<'_>,
        rates: &mut impl FnMut(u32, (u32, u32)) -> Rates,
    ) -> Option<Self> {
        let size = offer.sizes.nearest(wish.size)?;
        let interval = rates(offer.code, size).nearest(wish.fps);
        let wanted = f64::from(wish.fps);
        let rate = interval.map_or(wanted, Interval::fps);
        let stored = stored(size, wish.transposed);
        let cost = match offer.format {
            CameraFormat::Pictures(format) => {
                wish.demand
                    .cost(format, stored, wish.left, rate.min(wanted))
            }
            // It is passed on untouched to all who can have it.
            CameraFormat::H264 => 0.0,
        };
        let pixels = u64::from(size.0) * u64::from(size.1);
        let bytes = match offer.format {
            CameraFormat::H264 => pixels / 40,
            CameraFormat::Pictures(format) => bytes_of(format, pixels),
        };
        let is_film = offer.format == CameraFormat::H264;
        Some(Candidate {
            offer,
            size,
            interval,
            distance: distance(size, wish.size),
            useless: is_film != wish.demand.is_for_h264(),
            grey: offer.format == PixelFormat::Grey.into(),
            reached: percent(rate, wanted).min(100),
            cost: cost as u64,
            bytes,
            variant: CODES
                .iter()
                .position(|&(code, _)| code == offer.code)
                .unwrap_or(CODES.len()),
        })
    }

    fn rank(&self) -> impl Ord + use<> {
        (
            self.useless,
            self.grey,
            self.distance,
            Reverse(self.reached),
            self.cost,
            self.bytes,
            self.variant,
        )
    }

    /// What speaks against this one beside the one that was taken: the first difference in `rank`.
    fn drawback(&self, best: &Candidate<'_>) -> String {
        let (width, height) = self.size;
        if self.useless != best.useless {
            match self.offer.format {
                CameraFormat::H264 => "no JPEGs".to_owned(),
                CameraFormat::Pictures(_) => "no H.264".to_owned(),
            }
        } else if self.grey != best.grey {
            "no colour".to_owned()
        } else if self.distance != best.distance {
            format!("nearest size {width}x{height}")
        } else if let Some(interval) = self.interval.filter(|_| self.reached != best.reached) {
            format!("only {} fps at this size", rate_name(interval.fps()))
        } else if best.cost == 0 && self.cost > 0 {
            "would have to be encoded".to_owned()
        } else if self.cost > best.cost {
            let times = self.cost as f64 / best.cost as f64;
            format!("{times:.1} times the work")
        } else {
            "no less work".to_owned()
        }
    }
}

/// In a picture that stands for itself and has so many pixels.
fn bytes_of(format: PixelFormat, pixels: u64) -> u64 {
    match format {
        // About a bit and a half for each pixel.
        PixelFormat::Mjpeg => pixels / 5,
        PixelFormat::Grey => pixels,
        PixelFormat::Yu12 | PixelFormat::Yv12 | PixelFormat::Nv12 | PixelFormat::Nv21 => {
            pixels * 3 / 2
        }
        PixelFormat::Yuyv
        | PixelFormat::Uyvy
        | PixelFormat::Yvyu
        | PixelFormat::Vyuy
        | PixelFormat::Nv16 => pixels * 2,
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => pixels * 3,
    }
}

/// The size in which pictures come.
fn stored((width, height): (u32, u32), transposed: bool) -> Size {
    // `Sizes::nearest` gives none beyond DIMENSION_MAX, and neither does the configuration.
    let size = Size {
        width: width.min(DIMENSION_MAX.into()) as u16,
        height: height.min(DIMENSION_MAX.into()) as u16,
    };
    Orientation {
        transpose: transposed,
        ..Orientation::UPRIGHT
    }
    .turn(size)
}

/// What to ask the camera for; `rates` tells those of a format at a size. In this order: pictures that somebody can get;
/// colour; the wanted size, or the
/// nearest; the wanted rate; the least work for the processor ([`super::cost`]); the fewest bytes. `None`: none of the
/// offers is of the wanted format, or of a size that camd can use.
pub fn choose(
    offers: &[Offer],
    wish: &Wish<'_>,
    mut rates: impl FnMut(u32, (u32, u32)) -> Rates,
) -> Option<Choice> {
    let mut candidates: Vec<_> = offers
        .iter()
        .filter(|offer| wish.format.is_none_or(|format| format == offer.format))
        .filter_map(|offer| Candidate::new(offer, wish, &mut rates))
        .collect();
    candidates.sort_by_key(Candidate::rank);
    let (best, others) = candidates.split_first()?;
    Some(Choice {
        code: best.offer.code,
        format: best.offer.format,
        size: best.size,
        interval: best.interval,
        why: explain(best, others, wish),
    })
}

/// "passed on untouched; YUYV, UYVY: would have to be encoded".
fn explain(best: &Candidate<'_>, others: &[Candidate<'_>], wish: &Wish<'_>) -> String {
    if wish.format.is_some() {
        return "as configured".to_owned();
    }
    let untouched = match best.offer.format {
        CameraFormat::Pictures(PixelFormat::Mjpeg) => wish
            .demand
            .untouched(stored(best.size, wish.transposed), wish.left),
        _ => Untouched::None,
    };
    let mut why = match untouched {
        Untouched::None if best.offer.format == CameraFormat::H264 => "passed on untouched",
        Untouched::All => "passed on untouched",
        Untouched::Some => "passed on untouched or encoded again, as listeners want",
        Untouched::None if best.offer.format == PixelFormat::Mjpeg.into() => "encoded again",
        Untouched::None => "encoded",
    }
    .to_owned();
    let mut said: Option<String> = None;
    for other in others {
        // JPEG beside MJPG, or the same in more planes.
        if other.offer.format == best.offer.format {
            continue;
        }
        let drawback = other.drawback(best);
        let name = code_name(other.offer.code);
        // Writing to a String cannot fail.
        let _ = match &said {
            Some(said) if *said == drawback => write!(why, ", {name}"),
            Some(said) => write!(why, ": {said}; {name}"),
            None => write!(why, "; {name}"),
        };
        said = Some(drawback);
    }
    if let Some(said) = said {
        let _ = write!(why, ": {said}");
    }
    why
}

/// 30, 7.5, 29.97.
pub fn rate_name(fps: f64) -> String {
    let text = format!("{fps:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
