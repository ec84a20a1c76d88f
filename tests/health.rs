//! Which trouble of a camera starves the watchdogs, and which does not: camera, hub and supervisor as the event loop turns
//! them, over a source and a watchdog timer that follow a script, and on a clock of their own.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::RawFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use camd::client::hub::Hub;
use camd::client::link::Stream;
use camd::config::{self, Config};
use camd::daemon::supervisor::Supervisor;
use camd::limits::HUNG;
use camd::picture::frame::{Frame, FrameMeta, Orientation, Picture, PixelFormat};
use camd::source::camera::{Camera, Condition};
use camd::source::{Captured, Fault, Negotiated, Source};
use camd::system::watchdog::{Support, Timer, WDIOF_MAGICCLOSE, Watchdog};

const SECOND: Duration = Duration::from_secs(1);
/// Of the scripted timer, in seconds; it is fed three times as often.
const TIMEOUT: u32 = 15;
const JPEG: &[u8] = include_bytes!("common/base.jpg");

// --- the script ---

/// How the camera is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// A picture every second.
    Good,
    /// It opens, and gives nothing.
    Silent,
    /// It does not even open: an error that a restart may mend.
    Stuck,
    /// It does not open, and a restart would not help: unplugged.
    Away,
}

#[derive(Clone)]
struct Script(Rc<RefCell<(Mood, Vec<u8>)>>);

impl Script {
    fn mood(&self) -> Mood {
        self.0.borrow().0
    }
}

struct ScriptedCamera {
    script: Script,
    may_hang: bool,
    newest: Option<Instant>,
}

impl Source for ScriptedCamera {
    fn start(&mut self, _: Instant) -> Result<Negotiated, Fault> {
        let mood = self.script.mood();
        self.may_hang = mood != Mood::Away;
        if let Mood::Stuck | Mood::Away = mood {
            return Err(Fault(format!("{mood:?}")));
        }
        Ok(Negotiated {
            format: PixelFormat::Mjpeg,
            width: 64,
            height: 48,
            fps: None,
            orientation: None,
            cropped: None,
            description: "scripted".into(),
        })
    }

    fn stop(&mut self) {
        self.newest = None;
    }

    fn may_hang(&self) -> bool {
        self.may_hang
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        match self.script.mood() {
            Mood::Good => {
                self.newest = Some(now);
                let fresh = true;
                Ok(Captured {
                    fresh,
                    ..Captured::default()
                })
            }
            Mood::Silent => Ok(Captured::default()),
            Mood::Stuck | Mood::Away => Err(Fault("broken off".into())),
        }
    }

    fn newest(&self) -> Option<Frame<'_>> {
        let meta = FrameMeta {
            sequence: 0,
            captured: self.newest?,
            wall: Duration::ZERO,
            width: 64,
            height: 48,
            orientation: Orientation::UPRIGHT,
            exif: Orientation::UPRIGHT,
            crop: None,
            live: true,
        };
        let picture = Picture::Jpeg(JPEG);
        Some(Frame { meta, picture })
    }
}

impl Timer for Script {
    fn support(&self) -> nix::Result<Support> {
        Ok(Support {
            options: WDIOF_MAGICCLOSE,
            ..Support::default()
        })
    }

    fn boot_status(&self) -> nix::Result<u32> {
        Ok(0)
    }

    fn timeout(&self) -> nix::Result<i32> {
        Ok(TIMEOUT as i32)
    }

    fn set_timeout(&self, _: i32) -> nix::Result<i32> {
        panic!("the timeout is long enough")
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().1.extend_from_slice(bytes);
        Ok(())
    }
}

// --- a client ---

/// What the client has sent, and what it got.
#[derive(Clone, Default)]
struct Wire(Rc<RefCell<(Vec<u8>, Vec<u8>)>>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let sent = &mut self.0.borrow_mut().0;
        if sent.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = sent.len().min(buffer.len());
        buffer[..n].copy_from_slice(&sent[..n]);
        sent.drain(..n);
        Ok(n)
    }
}

impl Write for Wire {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        unreachable!("slots write vectored")
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let got = &mut self.0.borrow_mut().1;
        let before = got.len();
        buffers.iter().for_each(|buffer| got.extend(&**buffer));
        Ok(got.len() - before)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Wire {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn drained(&mut self) -> io::Result<bool> {
        Ok(true)
    }
}

// --- the box ---

struct Appliance {
    script: Script,
    start: Instant,
    second: u32,
    hub: Hub<Wire>,
    camera: Camera<ScriptedCamera>,
    supervisor: Supervisor<Script>,
}

impl Appliance {
    fn new(mood: Mood) -> Self {
        let start = Instant::now();
        let script = Script(Rc::new(RefCell::new((mood, Vec::new()))));
        let config: Config = config::parse(
            "[camera]\nwidth = 64\nheight = 48\nlinger_s = 0\n\
             [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n",
            "test",
        )
        .expect("a configuration");
        let source = ScriptedCamera {
            script: script.clone(),
            may_hang: false,
            newest: None,
        };
        let board = Watchdog::new(script.clone(), Path::new("scripted")).expect("a watchdog");
        Appliance {
            start,
            second: 0,
            hub: Hub::new(&config, start, Instant::now),
            camera: Camera::new(source, &config, start),
            supervisor: Supervisor::new(Some(board), start),
            script,
        }
    }

    fn set(&mut self, mood: Mood) {
        self.script.0.borrow_mut().0 = mood;
    }

    fn now(&self) -> Instant {
        self.start + self.second * SECOND
    }

    /// A new connection that asks for this.
    fn ask(&mut self, path: &str) -> Wire {
        let wire = Wire::default();
        wire.0.borrow_mut().0 =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
        let now = self.now();
        let client = self
            .hub
            .admit(wire.clone(), "test".parse().expect("a short name"), 0, now)
            .unwrap_or_else(|_| panic!("no room"));
        self.hub.mark(client, true, true);
        wire
    }

    /// One turn of the event loop. Whether the watchdog was fed.
    fn turn(&mut self) -> bool {
        let now = self.now();
        self.hub.run(&mut self.camera, true, now);
        while self.hub.turn(now, &mut self.camera) {}
        let viewers = self.hub.tell_viewers(&mut self.camera, now);
        let sent_away = self.hub.sent_away();
        self.supervisor.turn(viewers, sent_away, &self.camera, now);
        let deadline = self.supervisor.deadline().expect("there is a watchdog");
        assert!(deadline > now && deadline <= now + TIMEOUT / 3 * SECOND);
        !std::mem::take(&mut self.script.0.borrow_mut().1).is_empty()
    }

    /// Turns for so long, once a second. The seconds since the beginning in which the watchdog was fed.
    fn run(&mut self, seconds: u32) -> Vec<u32> {
        let mut fed = Vec::new();
        for _ in 0..seconds {
            self.second += 1;
            if self.turn() {
                fed.push(self.second);
            }
        }
        fed
    }

    /// Runs for so long, in which the watchdog is fed in time.
    fn is_fed(&mut self, seconds: u32) {
        let began = self.second;
        let fed = self.run(seconds);
        let mut last = began;
        for second in fed.iter().copied().chain([self.second + 1]) {
            assert!(
                second - last <= TIMEOUT / 3 + 1,
                "hungry from {last} to {second}"
            );
            last = second;
        }
    }

    /// Runs on until it is due that the watchdog starves, `after` seconds from now, and then for a long time.
    fn starves(&mut self, after: u64) {
        let began = self.second;
        let fed = self.run(after as u32 + 500);
        let last = fed.last().copied().unwrap_or(began);
        let since = u64::from(last - began);
        let step = u64::from(TIMEOUT / 3);
        assert!(
            (after - step - 1..=after).contains(&since),
            "fed last after {since} s"
        );
    }
}

#[test]
fn a_silent_camera_starves_it_while_somebody_watches() {
    let mut camd = Appliance::new(Mood::Good);
    let wire = camd.ask("/stream");
    camd.is_fed(300);
    assert!(
        wire.0.borrow().1.len() > 200 * JPEG.len(),
        "it sees pictures"
    );
    camd.set(Mood::Silent);
    camd.starves(HUNG.as_secs());
    // With the next picture it is fed at once.
    camd.set(Mood::Good);
    camd.second += 1;
    assert!(camd.turn());
    camd.is_fed(300);
}

#[test]
fn one_that_does_not_open_again_does_so_too_counted_from_its_last_picture() {
    let mut camd = Appliance::new(Mood::Good);
    camd.ask("/stream");
    camd.is_fed(100);
    camd.set(Mood::Stuck);
    camd.starves(HUNG.as_secs());
    assert_eq!(camd.camera.condition(), Condition::Fault);
    assert!(camd.camera.counters().reopens > 5);
}

#[test]
fn nobody_misses_it_without_viewers() {
    for mood in [Mood::Silent, Mood::Stuck] {
        let mut camd = Appliance::new(mood);
        camd.is_fed(500);
        camd.ask("/stream");
        camd.starves(HUNG.as_secs());
        // He gives up.
        camd.hub.shutdown();
        camd.second += 1;
        assert!(camd.turn(), "{mood:?}");
        camd.is_fed(500);
    }
}

#[test]
fn an_unplugged_camera_never_does_and_the_next_one_has_its_whole_time() {
    let mut camd = Appliance::new(Mood::Good);
    camd.ask("/stream");
    camd.is_fed(10);
    camd.set(Mood::Away);
    camd.is_fed(1000);
    camd.set(Mood::Silent);
    // It is opened again within the back-off.
    let began = camd.second;
    while camd.camera.negotiated().is_none() {
        camd.is_fed(1);
    }
    assert!(camd.second - began <= 10);
    camd.starves(HUNG.as_secs());
}

#[test]
fn snapshots_that_cannot_be_had_count_like_a_viewer() {
    let mut camd = Appliance::new(Mood::Stuck);
    camd.is_fed(500);
    let began = camd.second;
    let mut last = began;
    for _ in 0..20 {
        let wire = camd.ask("/snapshot");
        if let Some(&fed) = camd.run(10).last() {
            last = fed;
        }
        assert!(wire.0.borrow().1.starts_with(b"HTTP/1.1 503 "));
        // The connection is kept; camd closes it by its own deadline.
    }
    let starved = u64::from(last - began);
    assert!(
        (HUNG.as_secs() - 6..=HUNG.as_secs() + 1).contains(&starved),
        "{starved}"
    );
    // Once they have given up it is fed again.
    camd.run(HUNG.as_secs() as u32);
    camd.is_fed(500);
}
