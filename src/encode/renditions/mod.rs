//! The JPEGs that clients get of one frame: each wanted size, quality and sampling made once, and only when somebody
//! wants it.
//!
//! Where there are cells ([`crate::encode::cell`]), the processor makes them there, as a memory-to-memory device would; without,
//! on the spot. A memory-to-memory device ([`crate::encode::m2m`]) takes its time: those who ask are
//! told to wait, and to ask again when it is done ([`Renditions::collect`]). Then they get the picture that was the
//! newest when it was begun, and the device gets the newest of now if somebody still waits for it. What the device does
//! not do (smaller, turned and stamped pictures, more qualities than [`ENCODER_CONTEXTS`]), and everything from its
//! first error on until the camera is opened anew, is up to the processor.
//!
//! | file | what lives there |
//! |---|---|
//! | `profile` | what a listener or a sink wants |
//! | `asked` | those that clients ask for |
//! | `rendition` | the JPEGs of one quality, sampling and size |
//! | `hardware` | which renditions a device makes, and when it is given up |
//! | `budget` | what a JPEG may cost before it is decoded |
//! | `wanted` | what is asked of cells in a turn, and the pixels that they have made |
//! | `cache` | [`Renditions`]: each made once, by the device, a cell or the processor |

mod asked;
mod budget;
mod cache;
mod hardware;
mod profile;
mod rendition;
mod wanted;

#[cfg(doc)]
use crate::limits::ENCODER_CONTEXTS;
pub use cache::Renditions;
pub use profile::Profile;
pub use rendition::Rendition;
