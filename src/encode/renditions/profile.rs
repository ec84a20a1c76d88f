//! What a listener or a sink wants of a picture.

use crate::config::{ListenerConfig, SinkConfig};
use crate::encode::ladder::{Ladder, Step};
use crate::picture::frame::{Bounds, Chroma, Frame, FrameMeta, Picture, Size};

/// What a listener wants of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// JPEG quality, 1 to 100. `None`: the camera's own JPEG, untouched, or turned without loss.
    pub quality: Option<u8>,
    /// The quality where there is no JPEG to leave untouched, or none that can be turned without loss.
    pub raw_quality: u8,
    /// How fine the colours are of what is encoded. `None`: as its quality has it ([`Profile::chroma`]).
    pub asked_chroma: Option<Chroma>,
    /// The size that it is to fit.
    pub bounds: Bounds,
}

impl Profile {
    /// What a listener wants.
    pub fn of(listener: &ListenerConfig) -> Self {
        Profile {
            quality: listener.quality,
            raw_quality: listener.raw_quality(),
            asked_chroma: listener.chroma,
            bounds: Bounds::within(listener.width, listener.height),
        }
    }

    /// What a sink of JPEGs wants.
    pub fn of_sink(sink: &SinkConfig) -> Self {
        Profile {
            quality: sink.quality,
            raw_quality: sink.raw_quality(),
            asked_chroma: sink.chroma,
            bounds: Bounds::within(sink.width, sink.height),
        }
    }

    /// How fine the colours are of what is encoded.
    pub fn chroma(&self) -> Chroma {
        self.asked_chroma.unwrap_or(Chroma::at(self.raw_quality))
    }

    /// The pictures that a listener has for clients whose link cannot carry its own.
    pub fn ladder(&self) -> Ladder {
        Ladder::new(self.raw_quality)
    }

    /// What takes the place of this profile on a rung of its ladder.
    pub fn rung(&self, rung: u8) -> Profile {
        if rung == 0 {
            return *self;
        }
        let Step { quality, eighths } = self.ladder().step(rung);
        Profile {
            quality: Some(quality),
            raw_quality: quality,
            bounds: Bounds {
                eighths,
                ..self.bounds
            },
            ..*self
        }
    }

    /// All that a listener can want.
    pub fn all(listener: &ListenerConfig) -> impl Iterator<Item = Profile> + use<> {
        let profile = Profile::of(listener);
        let lowest = if listener.adaptive {
            profile.ladder().lowest()
        } else {
            0
        };
        (0..=lowest).map(move |rung| profile.rung(rung))
    }

    /// The size of a picture as viewers get it.
    pub fn size(&self, meta: &FrameMeta) -> Size {
        self.bounds.fit(meta.shown())
    }

    /// Whether this is a JPEG that clients get as it is.
    pub fn leaves_untouched(&self, frame: &Frame<'_>) -> bool {
        matches!(frame.picture, Picture::Jpeg(_))
            && self.leaves_size(&frame.meta)
            // The card that stands in for a picture is as good as it gets already.
            && (self.quality.is_none() || !frame.meta.live)
    }

    /// Whether a picture keeps its size.
    pub(super) fn leaves_size(&self, meta: &FrameMeta) -> bool {
        self.bounds == Bounds::NONE || self.size(meta) == meta.shown()
    }
}
