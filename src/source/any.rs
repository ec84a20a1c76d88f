//! Whichever source the configuration names.

use std::os::fd::RawFd;
use std::time::Instant;

use super::control::{Control, ControlError};
use super::interface::{Captured, Fault, Negotiated, Source};
use super::{call, http, pattern, pipe, push, qt_shm, replay, v4l2};
use crate::config::{Config, SourceKind};
use crate::picture::chain::Chain;
use crate::picture::frame::Frame;

/// The sources that a configuration can name. A new kind is a variant here, a file beside this one, and its keys in
/// [`crate::config`].
// Their sizes differ, but there is one of them in the process.
#[allow(clippy::large_enum_variant)]
pub enum AnySource {
    /// `source = "v4l2"`
    V4l2(v4l2::V4l2),
    /// `source = "pipe"`
    Pipe(pipe::Pipe),
    /// `source = "replay"`
    Replay(replay::Replay),
    /// `source = "pattern"`
    Pattern(pattern::Pattern),
    /// `source = "call"`
    Call(call::Call),
    /// `source = "push"`
    Push(push::Push),
    /// `source = "http"`
    Http(http::Http),
    /// `source = "qt-shm"`
    QtShm(qt_shm::QtShm),
}

/// Calls the same method of whichever source it is.
macro_rules! each {
    ($any:expr, $source:ident => $call:expr) => {
        match $any {
            AnySource::V4l2($source) => $call,
            AnySource::Pipe($source) => $call,
            AnySource::Replay($source) => $call,
            AnySource::Pattern($source) => $call,
            AnySource::Call($source) => $call,
            AnySource::Push($source) => $call,
            AnySource::Http($source) => $call,
            AnySource::QtShm($source) => $call,
        }
    };
}

impl AnySource {
    /// The configured source, not yet started. Takes what memory it needs for frames of up to `limits.frame_bytes`.
    pub fn new(config: &Config) -> Self {
        let Config {
            camera,
            call,
            limits,
            ..
        } = config;
        let frame_bytes = limits.frame_bytes;
        match camera.source {
            SourceKind::V4l2 => AnySource::V4l2(v4l2::V4l2::new(config)),
            SourceKind::Pipe => AnySource::Pipe(pipe::Pipe::new(
                camera.command.clone(),
                frame_bytes,
                camera.fps,
            )),
            SourceKind::Replay => {
                let path = camera
                    .path
                    .clone()
                    .expect("the configuration has a path for source = \"replay\"");
                AnySource::Replay(replay::Replay::new(path, camera.fps, frame_bytes))
            }
            SourceKind::Pattern => AnySource::Pattern(pattern::Pattern::new(
                camera.width,
                camera.height,
                camera.fps,
            )),
            SourceKind::Call => AnySource::Call(call::Call::new(call, frame_bytes, camera.fps)),
            SourceKind::Push => {
                let server = camera
                    .address
                    .clone()
                    .expect("the configuration has an address for source = \"push\"");
                let push = push::Push::new(server, frame_bytes, camera.fps);
                AnySource::Push(push.over_tls(camera.trust()))
            }
            SourceKind::Http => {
                let url = camera
                    .camera_url()
                    .expect("the configuration has a URL for source = \"http\"");
                let http = http::Http::new(url, frame_bytes, camera.fps);
                AnySource::Http(http.over_tls(camera.trust()))
            }
            SourceKind::QtShm => AnySource::QtShm(qt_shm::QtShm::new(&camera.key, camera.fps)),
        }
    }
}

impl Source for AnySource {
    fn start(&mut self, now: Instant) -> Result<Negotiated, Fault> {
        each!(self, source => source.start(now))
    }

    fn stop(&mut self) {
        each!(self, source => source.stop())
    }

    fn disturbs(&self) -> bool {
        each!(self, source => source.disturbs())
    }

    fn may_hang(&self) -> bool {
        each!(self, source => source.may_hang())
    }

    fn fd(&self) -> Option<RawFd> {
        each!(self, source => source.fd())
    }

    fn deadline(&self) -> Option<Instant> {
        each!(self, source => source.deadline())
    }

    fn capture(&mut self, now: Instant) -> Result<Captured, Fault> {
        each!(self, source => source.capture(now))
    }

    fn newest(&self) -> Option<Frame<'_>> {
        each!(self, source => source.newest())
    }

    fn chain(&self) -> Option<&Chain> {
        each!(self, source => source.chain())
    }

    fn ask_key(&mut self) {
        each!(self, source => source.ask_key())
    }

    fn holds(&self) -> bool {
        each!(self, source => source.holds())
    }

    fn release(&mut self) {
        each!(self, source => source.release())
    }

    fn set_demand(&mut self, config: &Config) {
        each!(self, source => source.set_demand(config))
    }

    fn controls(&self) -> Vec<Control> {
        each!(self, source => source.controls())
    }

    fn set_control(&mut self, name: &str, value: i64) -> Result<(), ControlError> {
        each!(self, source => source.set_control(name, value))
    }
}
