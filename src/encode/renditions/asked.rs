//! Renditions that clients ask for, beyond those of the configuration: a fixed number of them.
//!
//! They cost the processor as much as any, and strangers ask for them. So there are [`ASKED_RENDITIONS`], each of which
//! belongs to the streams that show it until these have not used it for [`HELD`]. The others are lent to whoever asks, at a
//! bounded rate: who asks for more than that gets the nearest one that there is.

use std::time::{Duration, Instant};

use super::profile::Profile;
use super::rendition::Rendition;
use crate::limits::{ASKED_AT_ONCE, ASKED_PER_SECOND, ASKED_RENDITIONS};
use crate::measure::times::{Phase, Spent, Times};
use crate::picture::frame::{Bounds, Chroma, FrameBuf, FrameMeta};
use crate::protocol::session::Wish;

/// A stream that has taken no picture for this long has no claim any more. One with `max_fps=1` takes one each second.
const HELD: Duration = Duration::from_secs(2);

struct Entry {
    /// `None`: nobody has asked for it yet.
    profile: Option<Profile>,
    rendition: Rendition,
    used: Option<Instant>,
    /// By a stream.
    held: Option<Instant>,
}

/// The renditions that were asked for last.
pub(super) struct Asked {
    all: heapless::Vec<Entry, ASKED_RENDITIONS>,
    /// How many may be made something else now: refilled as time goes by.
    changes: f64,
    refilled: Option<Instant>,
    /// Of what they were before.
    past: (u64, Spent),
}

impl Asked {
    /// Takes their memory; pages that are never written cost none.
    pub fn new(frame_bytes: usize) -> Self {
        let entry = |_| Entry {
            profile: None,
            rendition: Rendition {
                quality: 0,
                chroma: Chroma::Yuv420,
                bounds: Bounds::NONE,
                meta: None,
                jpeg: FrameBuf::new(frame_bytes),
                fresh: false,
                begun: 0,
                size: None,
                times: Times::new(),
            },
            used: None,
            held: None,
        };
        Asked {
            all: (0..ASKED_RENDITIONS).map(entry).collect(),
            changes: ASKED_AT_ONCE,
            refilled: None,
            past: Default::default(),
        }
    }

    /// What is asked for is to be decided anew.
    pub fn reset(&mut self) {
        for entry in &mut self.all {
            add(&mut self.past, &entry.rendition.times);
            (entry.profile, entry.used, entry.held) = (None, None, None);
            entry.rendition.meta = None;
            entry.rendition.jpeg.clear();
            entry.rendition.times.clear();
        }
    }

    /// Those that somebody has asked for.
    pub fn all(&self) -> impl Iterator<Item = &Rendition> + Clone {
        let asked = self.all.iter().filter(|entry| entry.profile.is_some());
        asked.map(|entry| &entry.rendition)
    }

    /// As [`Asked::all`].
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Rendition> {
        let asked = self.all.iter_mut().filter(|entry| entry.profile.is_some());
        asked.map(|entry| &mut entry.rendition)
    }

    /// Pictures made for them, and what these took, since the start.
    pub fn total(&self) -> (u64, Spent) {
        let mut total = self.past;
        for entry in &self.all {
            add(&mut total, &entry.rendition.times);
        }
        total
    }

    /// The one for a profile.
    pub fn find(&mut self, profile: Profile) -> Option<&mut Rendition> {
        let mut asked = self.all.iter_mut().filter(|entry| entry.profile.is_some());
        let entry = asked.find(|entry| entry.rendition.is_for(profile))?;
        Some(&mut entry.rendition)
    }

    /// Whether there is one for `wanted` now. `is_stream`: for more than one picture.
    pub fn admit(&mut self, wanted: Profile, is_stream: bool, now: Instant) -> bool {
        let index = match self.position(wanted) {
            Some(index) => index,
            None => {
                let Some(index) = self.free(now) else {
                    return false;
                };
                let Entry {
                    profile, rendition, ..
                } = &mut self.all[index];
                add(&mut self.past, &rendition.times);
                *profile = Some(wanted);
                rendition.quality = wanted.raw_quality;
                rendition.chroma = wanted.chroma();
                rendition.bounds = wanted.bounds;
                rendition.jpeg.clear();
                (rendition.meta, rendition.size) = (None, None);
                rendition.times.clear();
                index
            }
        };
        let entry = &mut self.all[index];
        entry.used = Some(now);
        if is_stream {
            entry.held = Some(now);
        }
        true
    }

    fn position(&self, wanted: Profile) -> Option<usize> {
        let is_it = |entry: &Entry| entry.profile.is_some() && entry.rendition.is_for(wanted);
        self.all.iter().position(is_it)
    }

    /// One that can be made something else, the one that was not used for longest.
    fn free(&mut self, now: Instant) -> Option<usize> {
        let since = self.refilled.replace(now);
        let passed = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let more = passed.as_secs_f64() * ASKED_PER_SECOND;
        self.changes = (self.changes + more).min(ASKED_AT_ONCE);
        let is_held = |entry: &Entry| {
            let age = |at| now.saturating_duration_since(at);
            entry.held.is_some_and(|at| age(at) < HELD)
        };
        let entries = self.all.iter().enumerate();
        let free = entries.filter(|(_, entry)| !is_held(entry));
        let (index, _) = free.min_by_key(|(_, entry)| entry.used)?;
        if self.changes < 1.0 {
            return None;
        }
        self.changes -= 1.0;
        Some(index)
    }

    /// Of these, and those of `others`, the one that is most like `wanted` and no more than `own`.
    pub fn nearest(
        &self,
        wanted: &Profile,
        own: &Profile,
        meta: &FrameMeta,
        others: impl Iterator<Item = Profile>,
    ) -> Profile {
        let shown = meta.shown();
        let area = |profile: &Profile| {
            let size = profile.bounds.fit(shown);
            f64::from(size.width) * f64::from(size.height)
        };
        // Half the area is as far away as 20 percent of quality.
        let distance = |profile: &Profile| {
            let by_size = (area(profile) / area(wanted)).log2().abs();
            let (a, b) = (profile.raw_quality, wanted.raw_quality);
            by_size + f64::from(a.abs_diff(b)) / 20.0
        };
        let asked = self.all.iter().filter_map(|entry| entry.profile);
        let all = asked
            .chain(others)
            .filter(|profile| profile.is_within(own, meta))
            .chain([*own]);
        // Of two that are as near, the smaller one.
        let by = |a: &Profile, b: &Profile| {
            let near = distance(a).total_cmp(&distance(b));
            near.then(area(a).total_cmp(&area(b)))
        };
        all.min_by(by).unwrap_or(*own)
    }
}

fn add((pictures, spent): &mut (u64, Spent), times: &Times) {
    *pictures += times.pictures();
    for (total, phase) in spent.iter_mut().zip(Phase::ALL) {
        *total += times.total(phase);
    }
}

impl Profile {
    /// What a client gets that wants less of a picture than this: never more than this.
    pub fn wished(&self, wish: &Wish, meta: &FrameMeta) -> Profile {
        let (mut wished, shown) = (*self, meta.shown());
        let least = |own: u16, wish: Option<u16>| wish.map_or(own, |wish| wish.min(own));
        let mut bounds = self.bounds;
        bounds.within.width = least(bounds.within.width, wish.width);
        bounds.within.height = least(bounds.within.height, wish.height);
        let size = bounds.fit(shown);
        if size != self.bounds.fit(shown) {
            // The same for all wishes that lead to this size.
            let same = Bounds::within(Some(size.width), Some(size.height));
            wished.bounds = if same.fit(shown) == size {
                same
            } else {
                bounds
            };
        }
        // Of the camera's own JPEGs nobody knows the quality: they are taken for as good as what would be made of raw ones.
        if let Some(quality) = wish.quality.filter(|quality| *quality < self.raw_quality) {
            (wished.quality, wished.raw_quality) = (Some(quality), quality);
        }
        wished
    }

    /// Whether a picture of this profile is no larger and no better than one of the other.
    pub fn is_within(&self, other: &Profile, meta: &FrameMeta) -> bool {
        let (size, most) = (self.size(meta), other.size(meta));
        size.width <= most.width
            && size.height <= most.height
            && self.raw_quality <= other.raw_quality
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::frame::{Orientation, Size};

    fn own() -> Profile {
        Profile {
            quality: None,
            raw_quality: 80,
            asked_chroma: None,
            bounds: Bounds::within(Some(640), None),
        }
    }

    fn meta() -> FrameMeta {
        FrameMeta {
            orientation: Orientation::UPRIGHT,
            ..FrameMeta::taken(Instant::now(), 1280, 720)
        }
    }

    fn wish(width: Option<u16>, height: Option<u16>, quality: Option<u8>) -> Wish {
        Wish {
            width,
            height,
            quality,
            max_fps: None,
        }
    }

    fn wished(
        width: Option<u16>,
        height: Option<u16>,
        quality: Option<u8>,
    ) -> (u16, u16, Option<u8>) {
        let profile = own().wished(&wish(width, height, quality), &meta());
        let Size { width, height } = profile.size(&meta());
        (width, height, profile.quality)
    }

    #[test]
    fn a_wish_never_leads_to_more_than_the_listener_gives() {
        assert_eq!(wished(None, None, None), (640, 360, None));
        assert_eq!(wished(Some(320), None, None), (320, 180, None));
        assert_eq!(wished(None, Some(180), None), (320, 180, None));
        assert_eq!(wished(Some(320), Some(16), Some(10)), (28, 16, Some(10)));
        for more in [Some(641), Some(8192)] {
            assert_eq!(wished(more, None, None), (640, 360, None));
        }
        for more in [Some(80), Some(100)] {
            assert_eq!(own().wished(&wish(None, None, more), &meta()), own());
        }
        assert_eq!(wished(Some(800), None, Some(79)), (640, 360, Some(79)));
    }

    #[test]
    fn wishes_for_the_same_picture_share_it() {
        let of = |width, height| own().wished(&wish(width, height, None), &meta());
        assert_eq!(of(Some(320), None), of(None, Some(180)));
        assert_eq!(of(Some(320), None), of(Some(320), Some(500)));
        assert_ne!(of(Some(320), None), of(Some(318), None));
    }

    #[test]
    fn streams_hold_theirs_and_requests_use_the_rest() {
        let mut asked = Asked::new(4096);
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let of = |quality| own().wished(&wish(None, None, Some(quality)), &meta());
        for quality in 1..=ASKED_RENDITIONS as u8 {
            assert!(asked.admit(of(quality), quality > 1, at(0.0)), "{quality}");
        }
        // One is not a stream's.
        assert!(asked.admit(of(50), false, at(0.1)));
        assert!(asked.find(of(1)).is_none() && asked.find(of(50)).is_some());
        assert!(asked.admit(of(51), true, at(0.2)));
        assert!(!asked.admit(of(52), true, at(0.3)), "all are held");
        assert!(asked.admit(of(51), true, at(1.9)));
        assert!(asked.admit(of(52), true, at(2.0)), "the others have gone");
        assert!(asked.find(of(51)).is_some());
        assert_eq!(asked.all().count(), ASKED_RENDITIONS);
    }

    #[test]
    fn who_asks_for_always_something_else_is_slowed_down() {
        let mut asked = Asked::new(4096);
        let start = Instant::now();
        let admitted = |asked: &mut Asked, qualities: std::ops::Range<u8>, at: Instant| {
            let wishes = qualities.map(|quality| wish(None, None, Some(quality)));
            let mut profiles = wishes.map(|wish| own().wished(&wish, &meta()));
            let admitted = profiles.by_ref().filter(|it| asked.admit(*it, false, at));
            admitted.count()
        };
        let second = Duration::from_secs(1);
        for (qualities, at, expected) in [
            (1..21, start, ASKED_AT_ONCE),
            (21..41, start + second, ASKED_PER_SECOND),
            (41..61, start + 100 * second, ASKED_AT_ONCE),
        ] {
            assert_eq!(admitted(&mut asked, qualities, at), expected as usize);
        }
    }

    #[test]
    fn beyond_them_there_is_the_nearest() {
        let mut asked = Asked::new(4096);
        let now = Instant::now();
        let of = |width, quality| own().wished(&wish(width, None, quality), &meta());
        let there = [of(Some(320), None), of(Some(160), None), of(None, Some(30))];
        for profile in there {
            assert!(asked.admit(profile, true, now));
        }
        let other = Profile {
            bounds: Bounds::within(Some(96), None),
            ..own()
        };
        let too_large = Profile {
            bounds: Bounds::within(Some(1280), None),
            ..own()
        };
        let nearest = |wanted| {
            let others = [other, too_large].into_iter();
            asked.nearest(&wanted, &own(), &meta(), others)
        };
        assert_eq!(nearest(of(Some(300), None)), there[0]);
        assert_eq!(nearest(of(Some(600), None)), own());
        assert_eq!(nearest(of(Some(150), Some(70))), there[1]);
        assert_eq!(nearest(of(None, Some(20))), there[2]);
        assert_eq!(nearest(of(Some(64), None)), other);
        assert_eq!(
            asked.nearest(&too_large, &own(), &meta(), [too_large].into_iter()),
            own()
        );
    }

    #[test]
    fn what_they_took_is_counted_on() {
        let mut asked = Asked::new(4096);
        let now = Instant::now();
        let second = Duration::from_secs(1);
        for quality in 1..=10 {
            let profile = own().wished(&wish(None, None, Some(quality)), &meta());
            assert!(asked.admit(profile, false, now));
            let made = asked.find(profile).expect("it is there");
            made.times.add(&[second, Duration::ZERO, 2 * second]);
            assert_eq!(made.times.pictures(), 1, "of this one");
        }
        let expected = (10, [10 * second, Duration::ZERO, 20 * second]);
        assert_eq!(asked.total(), expected);
        asked.reset();
        assert_eq!((asked.total(), asked.all().count()), (expected, 0));
    }
}
