//! How good a picture a client's link can carry: a ladder of smaller and smaller JPEGs, and who stands where on it.
//!
//! A client that gets fewer pictures than `min_fps` goes down the [`Ladder`]: first less quality, then less size. It goes
//! up again when its link has shown that it can carry more. Above `min_fps`, quality comes before rate: who gets `min_fps`
//! of the best pictures stays with those, even where the camera has more of them.
//!
//! # What is measured
//! For each client, in windows of a second and more: pictures that it took, their bytes, and pictures that came from the
//! camera meanwhile. A stream's time counts all; of a pull client's only that from an announcement to the last part,
//! since it may ask as rarely as it likes. All this is seen when a picture begins or ends, so there is no timer. A slow
//! client's next picture begins when the kernel has sent the one before it ([`crate::slot::Slot::ready`]), so the bytes
//! are those that the link has carried, and no others. Only the first window is too good: the client's own kernel has
//! filled its buffer. The next one corrects that.
//!
//! # What follows
//! - **Short** is a window with fewer pictures than `min_fps`, or than there were, if these were fewer. The bytes then are
//!   what the link can carry. The client goes down at once to the first rung that fits into that, [`DOWN`] times; if it
//!   was short by little, after the second such window.
//! - It goes **up** after [`CALM`] without a break in which a better rung would have fitted [`UP`] times into the bytes
//!   carried, at once to that one. And if it took all pictures of a stream, so that the link can carry these and more, but
//!   nobody knows how much more: then by one rung. While that goes well each further window is enough, and such blind
//!   steps double, to 2 and 4: the whole ladder takes some five seconds.
//! - A climb that ends with a fall within [`PROBATION`] was an error: the calm that the next one needs becomes four times
//!   as long, at most [`CALM_MAX`]. So a link that is good and bad in turns, or just not good enough, costs a try every two
//!   minutes in the end. A fall later than that is news about the link, and starts from [`CALM`] again.
//!
//! How large the pictures of another rung would be is reckoned from those of this one, by the ratios that [`Ladder`]
//! has. Where these are wrong, what is then measured on that rung puts it right.

use std::time::{Duration, Instant};

use crate::limits::RUNGS;

/// A window is closed by the first picture after this time.
const WINDOW: Duration = Duration::from_secs(1);
/// And by this many pictures if it is a pull client's that waits for pictures during a small part of its time.
const ENOUGH: u32 = 5;
/// How much more than needed the link must carry of a rung further down, and of one further up.
const DOWN: f64 = 1.2;
const UP: f64 = 1.4;
/// Short by more than this part: no second window is needed.
const MUCH: f64 = 0.75;
/// Who takes this part of all pictures takes them all: a lost one may be an accident.
const ALL: f64 = 0.95;
/// With `max_fps`, a window has that rate only roughly, as it ends where it may.
const PACED: f64 = 0.9;
const CALM: Duration = Duration::from_secs(2);
const CALM_MAX: Duration = Duration::from_secs(128);
const PROBATION: Duration = Duration::from_secs(10);
/// Between an announcement and the last part of a small picture there may be no time that the clock shows.
const SHORTEST: Duration = Duration::from_millis(1);

/// How a rung's picture differs from the listener's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// As [`crate::frame::Bounds::eighths`].
    pub eighths: u8,
}

/// Rung 0 is the listener's own picture, the others are made of it. Quality is never raised; steps that would change
/// nothing, because the listener's own quality is low already, are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// Of rung 0.
    quality: u8,
}

impl Ladder {
    const STEPS: [Step; RUNGS - 1] = [
        step(60, 8),
        step(40, 8),
        step(40, 6),
        step(40, 4),
        step(40, 3),
        step(30, 2),
    ];

    /// `quality`: of the listener's own picture; for a camera's own JPEGs, whose quality nobody knows, what a raw picture
    /// would get.
    pub fn new(quality: u8) -> Self {
        Ladder { quality }
    }

    /// How many of the first steps change nothing.
    fn skipped(self) -> usize {
        let same = |step: &&Step| step.eighths == 8 && step.quality >= self.quality;
        Self::STEPS.iter().take_while(same).count()
    }

    /// The rung at the lower end.
    pub fn lowest(self) -> u8 {
        (RUNGS - 1 - self.skipped()) as u8
    }

    /// # Panics
    /// If there is no such rung.
    pub fn step(self, rung: u8) -> Step {
        match usize::from(rung).checked_sub(1) {
            None => step(self.quality, 8),
            Some(index) => {
                let Step { quality, eighths } = Self::STEPS[index + self.skipped()];
                step(quality.min(self.quality), eighths)
            }
        }
    }

    /// How large the pictures of a rung are, as a multiple of the size at quality 80 and 8/8.
    ///
    /// The geometric mean of what this codec made of eight photographs (a person, an animal, things, machines; 370 to 741
    /// pixels wide; from scikit-image's samples and the Embedded Rust Book). Between two qualities of the table a straight
    /// line will do; its first value is a guess. Each photograph is within a quarter of this, but for one of 9 KB, much of
    /// which are the JPEG's tables.
    fn size(self, rung: u8) -> f64 {
        const BY_TENS: [f64; 11] = [
            0.15, 0.25, 0.36, 0.45, 0.53, 0.60, 0.68, 0.80, 1.00, 1.46, 3.81,
        ];
        /// Of the sizes by eighths, from 1/8.
        const BY_EIGHTHS: [f64; 8] = [0.06, 0.12, 0.22, 0.33, 0.47, 0.62, 0.79, 1.00];
        let Step { quality, eighths } = self.step(rung);
        let (ten, part) = (usize::from(quality / 10), f64::from(quality % 10) / 10.0);
        let next = BY_TENS[(ten + 1).min(10)];
        let by_quality = BY_TENS[ten] + (next - BY_TENS[ten]) * part;
        by_quality * BY_EIGHTHS[usize::from(eighths) - 1]
    }
}

const fn step(quality: u8, eighths: u8) -> Step {
    Step { quality, eighths }
}

/// What an adaptive client is to get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    pub ladder: Ladder,
    pub min_fps: u16,
}

/// What one client took in a time in which it waited for pictures.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// When its first picture began.
    began: Option<Instant>,
    /// Of the time since then, that in which the client waited.
    active: Duration,
    /// In that time: pictures that it took, their bytes, and pictures that there were.
    pictures: u32,
    bytes: usize,
    frames: u32,
}

/// One client's place on the ladder, and why. Knows the time from its arguments only.
#[derive(Clone, Debug)]
pub struct Adapter {
    rung: u8,
    window: Window,
    /// The client has waited since then, and this time is not in the window yet. `None`: it does not wait.
    since: Option<Instant>,
    /// Pictures of the camera since then, with the one that was the newest then.
    came: u32,
    /// Bytes of the picture that began then; 0: none.
    under_way: usize,
    /// The last window was short, by little.
    short: bool,
    /// For how long a better rung has looked possible, and for how long it must.
    calm: Duration,
    hold: Duration,
    /// The blind step up before this one, while all has gone well since; else 0.
    stride: u8,
    climbed: Option<Instant>,
}

impl Adapter {
    /// At the top of the ladder: every client is thought to be fast until it shows otherwise.
    pub fn new() -> Self {
        Adapter {
            rung: 0,
            window: Window::default(),
            since: None,
            came: 0,
            under_way: 0,
            short: false,
            calm: Duration::ZERO,
            hold: CALM,
            stride: 0,
            climbed: None,
        }
    }

    pub fn rung(&self) -> u8 {
        self.rung
    }

    /// The camera has a new picture, whether it goes to this client or not.
    pub fn on_frame(&mut self) {
        self.came = self.came.saturating_add(1);
    }

    /// A picture of so many bytes begins to go out, the camera's newest.
    pub fn begin(&mut self, bytes: usize, now: Instant) {
        self.window.began.get_or_insert(now);
        if self.since.is_none() {
            self.since = Some(now);
            self.came = 1;
        }
        self.under_way = bytes;
    }

    /// The picture is out, and the client does not wait until the next one begins. For pull; with a stream the picture is
    /// out, and the client waits on, when the next one is to be chosen.
    pub fn end(&mut self, now: Instant) {
        self.count(now, self.came);
        self.since = None;
    }

    /// No measure of the link can be had from the pictures that go out now: what was begun is forgotten, the rung stays.
    pub fn pause(&mut self) {
        self.window = Window::default();
        self.since = None;
        self.under_way = 0;
    }

    /// Takes in the time up to now, in which there were so many pictures.
    fn count(&mut self, now: Instant, frames: u32) {
        let Some(since) = self.since else {
            return;
        };
        self.since = Some(now);
        self.window.active += now.saturating_duration_since(since);
        self.window.frames += frames;
        if self.under_way > 0 {
            self.window.pictures += 1;
            self.window.bytes += self.under_way;
            self.under_way = 0;
        }
    }

    /// The rung of the picture that is to go out next, now that those before it are out. `max_fps`: the rate that the
    /// client is limited to.
    pub fn choose(&mut self, goal: &Goal, max_fps: Option<f64>, now: Instant) -> u8 {
        // With the newest picture begins the next stretch of time.
        self.count(now, self.came.saturating_sub(1));
        self.came = 1;
        self.rung = self.rung.min(goal.ladder.lowest());
        let Window {
            began,
            active,
            pictures,
            ..
        } = self.window;
        let elapsed = began.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let full = elapsed >= WINDOW && (active >= WINDOW || pictures >= ENOUGH);
        if full && pictures > 0 {
            self.decide(goal, max_fps, elapsed, now);
            self.window = Window {
                began: self.since.and(Some(now)),
                ..Window::default()
            };
        }
        self.rung
    }

    fn decide(&mut self, goal: &Goal, max_fps: Option<f64>, elapsed: Duration, now: Instant) {
        let seconds = self.window.active.max(SHORTEST).as_secs_f64();
        let got = f64::from(self.window.pictures) / seconds;
        let came = f64::from(self.window.frames) / seconds;
        let wanted = max_fps.map_or(came, |max| came.min(max * PACED));
        let need = wanted.min(goal.min_fps.into());
        // The rate at which a rung's pictures would have gone out as the same bytes.
        let rate_of = |rung| got * goal.ladder.size(self.rung) / goal.ladder.size(rung);

        if got < need {
            let again = std::mem::replace(&mut self.short, true);
            (self.calm, self.stride) = (Duration::ZERO, 0);
            let lowest = goal.ladder.lowest();
            if (again || got < need * MUCH) && self.rung < lowest {
                let mut below = self.rung + 1..lowest;
                let target = below.find(|&rung| rate_of(rung) >= need * DOWN);
                self.fall(target.unwrap_or(lowest), now);
            }
            return;
        }
        self.short = false;
        let known = (0..self.rung).find(|&rung| rate_of(rung) >= need * UP);
        // Of a pull client's time all is known already.
        let stream = self.since.is_some();
        let blind = (stream && got >= wanted * ALL && self.rung > 0).then(|| {
            let stride = (2 * self.stride).max(1);
            self.rung.saturating_sub(stride)
        });
        let Some(target) = known.into_iter().chain(blind).min() else {
            (self.calm, self.stride) = (Duration::ZERO, 0);
            return;
        };
        self.calm += elapsed;
        if self.stride > 0 || self.calm >= self.hold {
            self.stride = (2 * self.stride).max(1);
            self.calm = Duration::ZERO;
            self.climbed = Some(now);
            self.rung = target;
        }
    }

    fn fall(&mut self, target: u8, now: Instant) {
        let probation = self.hold.max(PROBATION);
        let failed = self
            .climbed
            .is_some_and(|at| now.saturating_duration_since(at) < probation);
        self.hold = if failed {
            (self.hold * 4).min(CALM_MAX)
        } else {
            CALM
        };
        self.climbed = None;
        self.short = false;
        self.rung = target;
    }
}

impl Default for Adapter {
    fn default() -> Self {
        Adapter::new()
    }
}
