//! Skeleton.

use std::os::fd::RawFd;
use std::time::Instant;

use super::{Fault, Outcome, Sink};
use crate::config::{Config, SinkConfig};
use crate::frame::{Frame, FrameMeta};
use crate::renditions::Renditions;

pub struct Memfd;

impl Memfd {
    pub fn new(_sink: &SinkConfig, _config: &Config) -> Self {
        Memfd
    }
}

impl Sink for Memfd {
    fn open(&mut self) -> Result<(), Fault> {
        Err(Fault("not built yet".to_owned()))
    }

    fn close(&mut self) {}

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn run(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn readers(&self) -> usize {
        0
    }

    fn is_watched(&self) -> bool {
        false
    }

    fn write(
        &mut self,
        _newest: Option<Frame<'_>>,
        _renditions: &mut Renditions,
        _now: Instant,
        _is_news: impl Fn(&FrameMeta) -> bool,
    ) -> Result<(FrameMeta, Outcome), Fault> {
        Err(Fault("not built yet".to_owned()))
    }
}
