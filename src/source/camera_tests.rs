//! A camera over a source that fails on command.

use std::collections::VecDeque;

use super::super::interface::Cropped;
use super::*;
use crate::config;
use crate::picture::frame::PixelFormat;

/// What the source does at its next `start` or `capture`; nothing, successfully, without an entry.
#[derive(Default)]
struct Scripted {
    starts: VecDeque<Fault>,
    captures: VecDeque<Result<Captured, Fault>>,
    running: bool,
    opened: u32,
    closed: u32,
    /// What the camera leaves to be turned.
    orientation: Option<Orientation>,
    /// What it crops itself.
    cropped: Option<Cropped>,
    listeners: usize,
    disturbs: bool,
}

const FRESH: Captured = Captured {
    fresh: true,
    dropped: 0,
    bad: 0,
};

impl Source for Scripted {
    fn start(&mut self, _: Instant) -> Result<Negotiated, Fault> {
        assert!(!self.running, "started twice");
        if let Some(fault) = self.starts.pop_front() {
            return Err(fault);
        }
        self.running = true;
        self.opened += 1;
        Ok(Negotiated {
            format: PixelFormat::Mjpeg,
            width: 64,
            height: 48,
            fps: None,
            orientation: self.orientation,
            cropped: self.cropped,
            description: "scripted".into(),
        })
    }

    fn stop(&mut self) {
        self.closed += u32::from(std::mem::take(&mut self.running));
    }

    fn disturbs(&self) -> bool {
        self.disturbs
    }

    fn fd(&self) -> Option<RawFd> {
        self.running.then_some(7)
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn capture(&mut self, _: Instant) -> Result<Captured, Fault> {
        assert!(self.running, "captured while off");
        self.captures.pop_front().unwrap_or(Ok(Captured::default()))
    }

    fn newest(&self) -> Option<Frame<'_>> {
        let meta = FrameMeta {
            sequence: 0,
            captured: Instant::now(),
            wall: Duration::ZERO,
            width: 64,
            height: 48,
            orientation: Orientation::UPRIGHT,
            exif: Orientation::UPRIGHT,
            crop: None,
            live: true,
        };
        let picture = Picture::Jpeg(b"a picture");
        self.running.then_some(Frame { meta, picture })
    }

    fn set_demand(&mut self, config: &Config) {
        self.listeners = config.listeners.len();
    }
}

fn fault(why: &str) -> Fault {
    Fault(why.to_owned())
}

fn camera(linger: Option<Duration>) -> (Camera<Scripted>, Instant) {
    let now = Instant::now();
    let config = config(&format!(
        "linger_s = {}",
        linger.map_or(0, |linger| linger.as_secs())
    ));
    (Camera::new(Scripted::default(), &config, now), now)
}

/// With these keys of the camera.
fn config(keys: &str) -> Config {
    let text = format!("[camera]\nname = \"test\"\nwidth = 64\nheight = 48\n{keys}\n");
    config::parse(&text, "test").expect("a configuration")
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn starts_at_once_and_rests_when_nobody_comes() {
    let (mut camera, now) = camera(Some(5 * SECOND));
    assert_eq!(camera.deadline(), Some(now));
    camera.run(false, now);
    assert_eq!(camera.condition(), Condition::Starting);
    camera.source.captures.push_back(Ok(FRESH));
    assert!(camera.run(true, now + SECOND));
    assert_eq!(camera.condition(), Condition::Live);
    assert_eq!(camera.deadline(), Some(now + 5 * SECOND));
    camera.run(false, now + 5 * SECOND);
    assert_eq!(camera.condition(), Condition::Idle);
    assert_eq!(camera.deadline(), None, "no wake-ups");
    assert_eq!(camera.fd(), None);
}

#[test]
fn the_first_viewer_switches_on_and_the_last_one_off() {
    let (mut camera, now) = camera(Some(5 * SECOND));
    camera.run(false, now);
    camera.run(false, now + 5 * SECOND);
    camera.set_viewers(1, now + 60 * SECOND);
    assert_eq!(camera.condition(), Condition::Starting);
    camera.set_viewers(0, now + 61 * SECOND);
    camera.run(false, now + 62 * SECOND);
    camera.set_viewers(1, now + 63 * SECOND);
    camera.run(false, now + 70 * SECOND);
    assert_eq!(camera.source.opened, 2, "a short absence changes nothing");
    camera.set_viewers(0, now + 71 * SECOND);
    camera.run(false, now + 76 * SECOND);
    assert_eq!(camera.condition(), Condition::Idle);
    assert_eq!(camera.source.closed, 2);
}

#[test]
fn without_linger_it_stays_on() {
    let (mut camera, now) = camera(None);
    camera.run(false, now);
    assert_eq!(camera.deadline(), None);
    camera.run(false, now + 10_000 * SECOND);
    assert_eq!(camera.condition(), Condition::Starting);
}

#[test]
fn faults_are_retried_with_growing_patience_until_a_picture_comes() {
    let (mut camera, mut now) = camera(None);
    for _ in 0..8 {
        camera.source.starts.push_back(fault("no such device"));
    }
    let mut waits = Vec::new();
    for _ in 0..7 {
        camera.run(false, now);
        assert_eq!(camera.condition(), Condition::Fault);
        assert_eq!(camera.reason(), "no such device");
        let next = camera.deadline().expect("it is tried again");
        waits.push((next - now).as_secs());
        now = next;
    }
    assert_eq!(waits, [1, 2, 4, 8, 10, 10, 10]);
    camera.run(false, now);
    now += 10 * SECOND;
    camera.run(false, now);
    assert_eq!(
        camera.condition(),
        Condition::Fault,
        "open, but not over before the first picture"
    );
    // It opens well and gives nothing: the patience does not start anew.
    camera
        .source
        .captures
        .push_back(Err(fault("no frame for 5 s")));
    camera.run(true, now);
    assert_eq!(camera.deadline(), Some(now + 10 * SECOND));
    now += 10 * SECOND;
    camera.source.captures.push_back(Ok(FRESH));
    camera.run(true, now);
    assert_eq!(camera.condition(), Condition::Live);
    assert_eq!(camera.counters().reopens, 9);
    camera.source.captures.push_back(Err(fault("unplugged")));
    camera.run(true, now);
    assert_eq!(
        camera.deadline(),
        Some(now + SECOND),
        "a new fault starts from the beginning"
    );
}

#[test]
fn a_card_says_why_there_is_no_picture() {
    let (mut camera, now) = camera(None);
    camera.set_viewers(1, now);
    camera.run(false, now);
    camera.source.captures.push_back(Ok(FRESH));
    camera.run(true, now);
    let before = camera.newest().expect("a picture").meta;
    assert!(before.live);
    camera.source.captures.push_back(Err(fault("unplugged")));
    assert!(camera.run(true, now), "the card is news");
    let card = camera.newest().expect("a card");
    assert!(!card.meta.live && card.meta.sequence > before.sequence);
    let Picture::Jpeg(jpeg) = card.picture else {
        panic!("{card:?}")
    };
    let inspected = crate::picture::jpeg::inspect(jpeg).expect("a JPEG");
    assert_eq!((inspected.width, inspected.height), (64, 48));
    let sequence = card.meta.sequence;
    assert!(!camera.run(false, now + SECOND / 2));
    assert!(
        camera.run(false, now + NO_PICTURE_INTERVAL),
        "a sign of life"
    );
    assert_eq!(camera.newest().expect("a card").meta.sequence, sequence + 1);
}

#[test]
fn a_fault_that_nobody_watches_costs_a_try_now_and_then_and_no_cards() {
    let (mut camera, now) = camera(Some(SECOND));
    camera.source.starts.push_back(fault("no such device"));
    assert!(!camera.run(false, now), "nobody to show the card to");
    assert_eq!(camera.deadline(), Some(now + REOPEN_FIRST));
    camera.set_viewers(1, now);
    assert!(camera.run(false, now), "now there is");
}

#[test]
fn a_thousand_faults_close_what_they_opened() {
    let (mut camera, mut now) = camera(None);
    for n in 0..1000 {
        camera.run(false, now);
        if n % 2 == 0 {
            camera.source.captures.push_back(Ok(FRESH));
            camera.run(true, now);
        }
        camera.source.captures.push_back(Err(fault("it broke")));
        camera.run(true, now);
        assert!(!camera.source.running);
        now += REOPEN_MAX;
    }
    assert_eq!((camera.source.opened, camera.source.closed), (1000, 1000));
    assert_eq!(camera.counters().reopens, 999);
}

#[test]
fn each_opening_has_its_own_number() {
    let (mut camera, now) = camera(None);
    camera.run(false, now);
    let first = camera.fd().expect("it is on");
    camera.source.captures.push_back(Err(fault("it broke")));
    camera.run(true, now);
    assert_eq!(camera.fd(), None);
    camera.run(false, now + SECOND);
    let second = camera.fd().expect("it is on again");
    assert_eq!(first.0, second.0);
    assert_ne!(
        first.1, second.1,
        "the same descriptor's number, but another opening"
    );
}

#[test]
fn another_source_takes_over() {
    let (mut camera, now) = camera(Some(5 * SECOND));
    camera.source.starts.push_back(fault("no such device"));
    camera.run(false, now);
    camera.replace(Scripted::default(), now);
    camera.run(false, now);
    assert_eq!(camera.condition(), Condition::Starting);
}

#[test]
fn frames_say_what_is_left_to_turn() {
    let quarter = Orientation::quarters(1);
    let mirror = Orientation::UPRIGHT.mirrored(true, false);
    let wanted = quarter.mirrored(true, false);
    let [on_its_side, upright] = [(48, 64), (64, 48)].map(|(width, height)| Size { width, height });
    for (left, orientation, size) in [
        (None, wanted, on_its_side),
        (Some(wanted), wanted, on_its_side),
        // The camera's own pictures are on their side then.
        (Some(mirror), mirror, upright),
        (Some(Orientation::UPRIGHT), Orientation::UPRIGHT, upright),
    ] {
        let now = Instant::now();
        let source = Scripted {
            orientation: left,
            ..Default::default()
        };
        let turned = config("rotate = 90\nflip = \"horizontal\"");
        let mut camera = Camera::new(source, &turned, now);
        assert_eq!(camera.size(), None);
        camera.run(false, now);
        camera.source.captures.push_back(Ok(FRESH));
        camera.run(true, now);
        let meta = camera.newest().expect("a picture").meta;
        assert_eq!((meta.orientation, camera.size()), (orientation, Some(size)));
        assert_eq!((meta.width, meta.height), (64, 48), "as it is stored");
        let announced = camera.announcement(camera.negotiated().expect("it is on"));
        let by = match left {
            Some(left) if left == Orientation::UPRIGHT => "the camera",
            Some(left) if left != wanted => "the camera and camd together",
            _ => "camd",
        };
        assert_eq!(announced, format!("scripted; turned by {by}"));
    }
}

const fn area(x: u16, y: u16, width: u16, height: u16) -> Area {
    Area {
        x,
        y,
        width,
        height,
    }
}

#[test]
fn what_is_shown_of_a_picture_is_counted_from_where_viewers_see_it() {
    // Of 64x48; turned, of 48x64. What the source has cropped is 64x48 of a larger one.
    let whole = Size {
        width: 128,
        height: 96,
    };
    let cropped = |area| Some(Cropped { whole, area });
    for (keys, cropped, left, shown, by) in [
        (
            "crop = [10, 6, 20, 16]",
            None,
            Some(area(10, 6, 20, 16)),
            area(10, 6, 20, 16),
            "camd",
        ),
        (
            "crop = [10, 6, 20, 16]\nrotate = 180",
            None,
            Some(area(34, 26, 20, 16)),
            area(10, 6, 20, 16),
            "camd",
        ),
        (
            "crop = [10, 6, 16, 20]\nrotate = 90",
            None,
            Some(area(6, 22, 20, 16)),
            area(10, 6, 16, 20),
            "camd",
        ),
        (
            "crop = [60, 40, 32, 32]",
            None,
            Some(area(32, 16, 32, 32)),
            area(32, 16, 32, 32),
            "camd",
        ),
        (
            "crop = [20, 30, 64, 48]",
            cropped(area(20, 30, 64, 48)),
            None,
            area(20, 30, 64, 48),
            "camera",
        ),
        (
            "crop = [25, 30, 50, 40]",
            cropped(area(20, 30, 64, 48)),
            Some(area(5, 0, 50, 40)),
            area(25, 30, 50, 40),
            "camera and camd",
        ),
        // Turned by camd after that.
        (
            "crop = [25, 30, 50, 40]\nrotate = 180",
            cropped(area(50, 20, 64, 48)),
            Some(area(3, 6, 50, 40)),
            area(25, 30, 50, 40),
            "camera and camd",
        ),
    ] {
        let now = Instant::now();
        let source = Scripted {
            cropped,
            ..Default::default()
        };
        let mut camera = Camera::new(source, &config(keys), now);
        camera.run(false, now);
        let agreed = camera.size();
        camera.source.captures.push_back(Ok(FRESH));
        camera.run(true, now);
        let meta = camera.newest().expect("a picture").meta;
        assert_eq!(meta.crop, left, "{keys}");
        assert_eq!(meta.shown(), shown.size(), "{keys}");
        assert_eq!((meta.width, meta.height), (64, 48), "as it is stored");
        assert_eq!((camera.size(), agreed), (Some(shown.size()), agreed));
        assert_eq!(agreed, Some(shown.size()), "{keys}");
        let cropping = camera.cropping().expect("it is cropped");
        assert_eq!((cropping.area, cropping.by), (shown, by), "{keys}");
    }
    // All of it: nothing is cropped.
    for keys in ["crop = [0, 0, 64, 48]", "crop = [9, 9, 8192, 8192]"] {
        let now = Instant::now();
        let mut camera = Camera::new(Scripted::default(), &config(keys), now);
        camera.run(false, now);
        camera.source.captures.push_back(Ok(FRESH));
        camera.run(true, now);
        let meta = camera.newest().expect("a picture").meta;
        assert_eq!((meta.crop, camera.cropping()), (None, None), "{keys}");
    }
}

#[test]
fn the_card_is_as_large_as_what_is_shown() {
    for (keys, size) in [
        ("crop = [5, 5, 40, 30]", (40, 30)),
        ("crop = [5, 5, 40, 60]\nrotate = 90", (40, 60)),
        ("crop = [5, 5, 400, 30]", (64, 30)),
    ] {
        let now = Instant::now();
        let mut camera = Camera::new(Scripted::default(), &config(keys), now);
        camera.source.starts.push_back(fault("no such device"));
        camera.set_viewers(1, now);
        camera.run(false, now);
        let card = camera.newest().expect("a card");
        assert_eq!((card.meta.width, card.meta.height), size, "{keys}");
        assert_eq!(card.meta.crop, None, "it is whole");
    }
}

#[test]
fn the_card_is_upright_and_as_large_as_the_turned_picture() {
    let now = Instant::now();
    let mut camera = Camera::new(Scripted::default(), &config("rotate = 270"), now);
    camera.source.starts.push_back(fault("no such device"));
    camera.set_viewers(1, now);
    camera.run(false, now);
    let card = camera.newest().expect("a card");
    assert_eq!((card.meta.width, card.meta.height), (48, 64));
    assert_eq!(card.meta.orientation, Orientation::UPRIGHT);
    let Picture::Jpeg(jpeg) = card.picture else {
        panic!("{card:?}")
    };
    let inspected = crate::picture::jpeg::inspect(jpeg).expect("a JPEG");
    assert_eq!((inspected.width, inspected.height), (48, 64));
}

#[test]
fn who_disturbs_somebody_does_so_for_viewers_only() {
    let disturbing = || Scripted {
        disturbs: true,
        ..Default::default()
    };
    let now = Instant::now();
    let mut camera = Camera::new(disturbing(), &config("linger_s = 5"), now);
    assert_eq!(
        (camera.deadline(), camera.condition()),
        (None, Condition::Idle)
    );
    camera.set_viewers(1, now);
    assert_eq!(camera.source.opened, 1);
    // A fault is retried for viewers, and as long as they might come back.
    camera.source.captures.push_back(Err(fault("no answer")));
    camera.run(true, now);
    camera.run(false, now + SECOND);
    assert_eq!(camera.source.opened, 2);
    camera.set_viewers(0, now + SECOND);
    camera.source.captures.push_back(Err(fault("no answer")));
    camera.run(true, now + 2 * SECOND);
    assert_eq!(camera.condition(), Condition::Fault);
    camera.run(false, now + 4 * SECOND);
    assert_eq!(camera.source.opened, 3);
    camera.run(false, now + 6 * SECOND);
    assert_eq!(
        (camera.deadline(), camera.condition()),
        (None, Condition::Idle)
    );
    assert_eq!(camera.source.closed, 3);
    // One that has no time left is not retried at all.
    camera.set_viewers(1, now + 60 * SECOND);
    camera.set_viewers(0, now + 60 * SECOND);
    camera.source.captures.push_back(Err(fault("no answer")));
    camera.run(true, now + 65 * SECOND);
    assert_eq!(camera.condition(), Condition::Idle);
    // Nor is another one in its place.
    camera.replace(disturbing(), now + 70 * SECOND);
    assert_eq!(camera.deadline(), None);
    camera.set_viewers(1, now + 70 * SECOND);
    camera.replace(disturbing(), now + 70 * SECOND);
    assert_eq!(camera.deadline(), Some(now + 70 * SECOND));
    // Who wants it to be on for ever gets that.
    let camera = Camera::new(disturbing(), &config("linger_s = 0"), now);
    assert_eq!(camera.deadline(), Some(now));
}

#[test]
fn new_listeners_do_not_open_it_anew() {
    let (mut camera, now) = camera(None);
    camera.run(false, now);
    camera.reconfigure(&Config::default());
    assert_eq!((camera.source.listeners, camera.source.opened), (1, 1));
}

#[test]
fn the_first_pictures_are_not_shown_where_the_camera_has_to_settle() {
    let ms = Duration::from_millis;
    for (settle, hidden) in [
        ("0", 0),
        ("\"0 s\"", 0),
        ("3", 3),
        ("\"250 ms\"", 3),
        ("\"1 ms\"", 1),
    ] {
        let config = config(&format!("linger_s = 1\nsettle = {settle}"));
        let mut now = Instant::now();
        let mut camera = Camera::new(Scripted::default(), &config, now);
        // After each start.
        for round in 1..=3 {
            camera.set_viewers(1, now);
            camera.run(false, now);
            for n in 0..6 {
                camera.source.captures.push_back(Ok(FRESH));
                let shows = camera.run(true, now + ms(100) * n);
                assert_eq!(shows, n >= hidden, "{settle}: {n}");
                assert_eq!(camera.newest().is_some(), shows);
                let expected = if shows {
                    Condition::Live
                } else {
                    Condition::Starting
                };
                assert_eq!(camera.condition(), expected, "{settle}: {n}");
            }
            assert_eq!(camera.counters().frames, u64::from(round * (6 - hidden)));
            now += SECOND;
            camera.set_viewers(0, now);
            now += 2 * SECOND;
            camera.run(false, now);
            assert_eq!(camera.condition(), Condition::Idle);
        }
    }
    // Pictures that came at once count, too; a fault lasts until one is shown.
    let config = config("linger_s = 0\nsettle = 4");
    let now = Instant::now();
    let mut camera = Camera::new(Scripted::default(), &config, now);
    camera.set_viewers(1, now);
    camera.run(false, now);
    camera.source.captures.push_back(Err(fault("unplugged")));
    camera.run(true, now);
    camera.run(false, now + 2 * SECOND);
    let several = Captured {
        dropped: 2,
        ..FRESH
    };
    for (captured, expected) in [
        (several, Condition::Fault),
        (FRESH, Condition::Fault),
        (FRESH, Condition::Live),
    ] {
        camera.source.captures.push_back(Ok(captured));
        camera.run(true, now + 2 * SECOND);
        assert_eq!(camera.condition(), expected);
    }
}
