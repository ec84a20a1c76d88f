//! A `QImage` in a `QSharedMemory` (see [`crate::system::shm`]): for Qt programs, which attach, lock, read, unlock and detach.
//!
//! camd creates the segment once, for the largest picture that there can be, and stays attached: otherwise the last program
//! that detaches would remove it. Readers come and go without a message, so the camera runs as long as this is open.
//!
//! camd holds the lock while it decodes and writes a picture, straight into the segment; a reader waits for that. Until the
//! last byte is there the segment holds a null image: a reader gets this if camd is killed meanwhile.

use std::os::fd::RawFd;
use std::time::Instant;

use log::warn;

use super::interface::{Fault, Outcome, Sink};
use crate::config::{Config, SinkConfig};
use crate::encode::codec::Rows;
use crate::encode::renditions::Renditions;
use crate::picture::frame::{Bounds, Frame, FrameMeta, PixelFormat, Size};
use crate::system::shm::{self, Key, Segment, picture};

/// A picture in a `QSharedMemory`.
pub struct QtShm {
    key: Key,
    mode: u32,
    /// The largest picture.
    within: Size,
    writer: Option<shm::Writer>,
    /// Of the picture whose head is in the segment.
    head: Option<Size>,
    /// Pictures that could not be decoded.
    failed: u64,
}

impl From<shm::Error> for Fault {
    fn from(error: shm::Error) -> Self {
        Fault(error.to_string())
    }
}

/// What the pictures are to fit: the sink's own size, else the camera's as viewers see it.
fn within(sink: &SinkConfig, config: &Config) -> Size {
    let camera = config.camera.shown();
    Size {
        width: sink.width.unwrap_or(camera.width),
        height: sink.height.unwrap_or(camera.height),
    }
}

impl QtShm {
    /// As this section says. Opens nothing.
    pub fn new(sink: &SinkConfig, config: &Config) -> Self {
        QtShm {
            key: Key::new(&sink.key),
            mode: sink.mode,
            within: within(sink, config),
            writer: None,
            head: None,
            failed: 0,
        }
    }
}

impl Sink for QtShm {
    fn open(&mut self) -> Result<(), Fault> {
        let bytes = picture::bytes(self.within);
        self.head = None;
        self.writer = Some(shm::Writer::create(&self.key, bytes, self.mode)?);
        Ok(())
    }

    fn close(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.remove();
        }
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn run(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn readers(&self) -> usize {
        self.writer.as_ref().map_or(0, shm::Writer::readers)
    }

    fn is_watched(&self) -> bool {
        self.writer.is_some()
    }

    fn is_for(&self, sink: &SinkConfig, config: &Config) -> bool {
        self.within == within(sink, config)
    }

    fn write(
        &mut self,
        newest: Option<Frame<'_>>,
        renditions: &mut Renditions,
        now: Instant,
        is_news: impl Fn(&FrameMeta) -> bool,
    ) -> Result<(FrameMeta, Outcome), Fault> {
        let writer = self.writer.as_mut().expect("it is open");
        let news = renditions.news(newest.as_ref(), &is_news);
        let news = *news.expect("a sink is asked to write where there is something to write");
        let bounds = Bounds {
            within: self.within,
            ..Bounds::NONE
        };
        let newest = newest.as_ref();
        let format = PixelFormat::Rgb24;
        let Some(meta) = renditions.prepare_pixels(newest, format, bounds, is_news) else {
            return Ok((news, Outcome::Waits));
        };
        let head = &mut self.head;
        let mut result = Ok(());
        let written = writer.write(now, |segment| {
            let mut drawing = Drawing {
                segment,
                head,
                picture: None,
            };
            result = renditions
                .pixels(newest, format, bounds, &mut drawing)
                .map(|_| {
                    let picture = drawing.picture.expect("a picture begins with its size");
                    picture.finish();
                });
        })?;
        if let Err(error) = result {
            self.failed += 1;
            // Once in a while, as a broken camera can do this with each frame.
            if self.failed.is_power_of_two() {
                warn!(
                    "sink: {}: picture not decoded: {error} ({} so far)",
                    self.key, self.failed
                );
            }
            return Ok((meta, Outcome::Skipped));
        }
        let outcome = match written {
            true => Outcome::Written,
            false => Outcome::Skipped,
        };
        Ok((meta, outcome))
    }
}

/// A picture on its way into the segment.
struct Drawing<'a> {
    segment: &'a Segment,
    head: &'a mut Option<Size>,
    picture: Option<picture::Writer<'a>>,
}

impl Rows for Drawing<'_> {
    fn start(&mut self, size: Size) {
        let has = self.head.replace(size);
        self.picture = Some(picture::Writer::start(self.segment, size, has));
    }

    fn row(&mut self, row: &[u8]) {
        let picture = self.picture.as_mut().expect("it was started");
        picture.row(row);
    }
}
