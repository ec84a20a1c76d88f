//! Where pictures come from. [`Source`] is the one interface of all kinds; [`camera::Camera`] keeps one of them alive.
//!
//! | file | what lives there |
//! |---|---|
//! | `interface.rs`, `control.rs` | what a source is to the rest of camd; a camera's controls |
//! | `any.rs` | the source that the configuration names, of these: |
//! | `v4l2/`, `pipe.rs`, `replay.rs`, `pattern.rs`, `call.rs`, `push.rs`, `http.rs`, `qt_shm.rs` | one kind each |
//! | `dial.rs`, `newest.rs`, `film.rs` | what several of them need: a connection to a server; the newest of the JPEGs it sends; the pictures of H.264 |
//! | `camera.rs` | a source that is opened again after each fault |
//! | `say.rs` | what the log says of an opening, once |
//! | `no_picture.rs`, `canvas.rs` | what viewers see meanwhile, and what draws it |

mod any;
pub mod call;
pub mod camera;
mod canvas;
mod control;
pub mod dial;
mod film;
pub mod http;
mod interface;
mod newest;
pub mod no_picture;
pub mod pattern;
pub mod pipe;
pub mod push;
pub mod qt_shm;
pub mod replay;
mod say;
pub mod v4l2;

pub use any::AnySource;
pub use control::{Control, ControlError};
pub use interface::{Captured, Cropped, Fault, Negotiated, Source};
