//! How a JPEG is to be made of a picture.

use crate::picture::frame::{Area, Bounds, Chroma, Orientation, Size};
use crate::picture::stamp::Stamp;

/// How a JPEG is to be made of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe<'a> {
    /// 1 to 100; what is outside is taken as the nearest.
    pub quality: u8,
    /// How fine the colours are to be.
    pub chroma: Chroma,
    /// The part of the stored picture that is shown; `None`: all of it. Its size is kept, and it begins with whole groups of
    /// pixels that share their colour.
    pub crop: Option<Area>,
    /// Of the picture as viewers see it: of that part.
    pub bounds: Bounds,
    /// How the stored picture is to be turned.
    pub orientation: Orientation,
    /// To be burnt in, upright, into the picture as it becomes; where there is no room for it, nothing is.
    pub stamp: Option<&'a Stamp>,
}

impl<'a> Recipe<'a> {
    /// The picture as it is, at this quality and with the colours that go with it ([`Chroma::at`]).
    pub fn at(quality: u8) -> Self {
        Recipe {
            quality,
            chroma: Chroma::at(quality),
            crop: None,
            bounds: Bounds::NONE,
            orientation: Orientation::UPRIGHT,
            stamp: None,
        }
    }

    /// The same, with colours at most so fine.
    pub fn coloured(self, chroma: Chroma) -> Self {
        Recipe { chroma, ..self }
    }

    /// The same, turned.
    pub fn turned(self, orientation: Orientation) -> Self {
        Recipe {
            orientation,
            ..self
        }
    }

    /// The same, of a part of the picture only, as it is stored.
    pub fn cropped(self, area: Area) -> Self {
        Recipe {
            crop: Some(area),
            ..self
        }
    }

    /// The same, with this stamp on it.
    pub fn stamped(self, stamp: &'a Stamp) -> Self {
        Recipe {
            stamp: Some(stamp),
            ..self
        }
    }

    /// Made smaller where it does not fit `size`.
    pub fn within(self, size: Size) -> Self {
        let bounds = Bounds {
            within: size,
            ..self.bounds
        };
        Recipe { bounds, ..self }
    }

    /// What a picture (the part that is shown) stored in the size `whole` is scaled to, before it is turned.
    pub(super) fn scaled(&self, whole: Size) -> Size {
        scaled(whole, self.bounds, self.orientation)
    }
}

/// What a picture stored in the size `whole` is scaled to, before it is turned, so that it then fits.
pub(super) fn scaled(whole: Size, bounds: Bounds, orientation: Orientation) -> Size {
    let turn = |size| orientation.turn(size);
    turn(bounds.fit(turn(whole)))
}
