//! Raw pictures to JPEG, and JPEG to JPEG of another quality, through libjpeg (mozjpeg's copy of libjpeg-turbo in its
//! fast profile). The only module that knows libjpeg.
//!
//! Cameras speak YCbCr and so does JPEG: 4:2:0 and 4:2:2 pictures go in as they are ("raw data" in libjpeg's terms),
//! without a trip through RGB and back, and a decoded JPEG goes on in the sampling it came in. Where its colours are to
//! be coarser ([`Recipe::chroma`]), lines of them are averaged on the way. Numbers are taken as JFIF means them (full
//! range): what a camera sends in limited range stays so. The same holds for smaller pictures: a JPEG is decoded in the
//! next larger of libjpeg's scales (1/8 … 8/8), which saves most of the work, and [`crate::picture::scale`] does the rest,
//! component by component. At 1/8 and 2/8 even most of the decoding is left out (`codec/reduced.rs`).
//!
//! # Turned pictures
//! A JPEG can be turned on its coefficients, without loss ([`Codec::turn`]). What is encoded is turned between scaling
//! and libjpeg. Only where rows become columns, or the first line of a JPEG becomes the last, all of its samples have to
//! be kept for that; raw pictures are read from below, and lines are mirrored on the way.
//!
//! # Cropped pictures
//! Of a raw picture, a part is its planes from another place on. A JPEG can be cut on its coefficients, too
//! ([`Codec::cut`]): without loss, from whole MCUs on. Where it is decoded, only the part's samples go on, exactly; at a
//! scale in which the part begins with a whole sample.
//!
//! # Pixels
//! For programs that want no JPEG, [`Codec::pixels`] gives a picture row by row as RGB, BGR or grey, made smaller and
//! turned by the same means.
//!
//! # Memory
//! The objects, the rows between them, the room to turn a picture in and what libjpeg needs for one are taken once:
//! a memory manager of our own (`codec/memory.c`) gives libjpeg parts of two arenas. Pages that were never written cost
//! no memory. A progressive JPEG, which cameras do not send, finds room for its coefficients there up to a size, and is
//! refused above it.
//!
//! # Errors
//! libjpeg's errors do not return to where they arise. `codec/guard.c` brings them back as a return value, without
//! unwinding and without a jump over anything but C.
//!
//! # Files
//! | file | what lives there |
//! |---|---|
//! | `error` | why there is no JPEG |
//! | `recipe` | how a JPEG is to be made |
//! | `mcu` | components, and their lines in a row of MCUs |
//! | `laps` | what a picture takes, phase by phase |
//! | `reduced` | JPEGs at 1/8 and 2/8 of their size, without libjpeg |
//! | `libjpeg` | its objects, safe to use |
//! | `turner` | turns pictures on their way into libjpeg |
//! | `scaler` | makes pictures smaller on their way there |
//! | `lines` | raw pictures, line by line |
//! | `pixels` | pictures as rows of pixels |
//! | `encoder` | [`Codec`], which puts all of these to use |

mod encoder;
mod error;
mod laps;
mod libjpeg;
mod lines;
mod mcu;
mod pixels;
mod recipe;
mod reduced;
mod scaler;
mod turner;

pub use encoder::Codec;
pub use error::CodecError;
pub use pixels::{PixelRecipe, Rows};
pub use recipe::Recipe;
