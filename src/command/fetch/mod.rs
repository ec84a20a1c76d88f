//! The receiving half, without a window: whole pictures from a camera server into a file, a folder or a pipe.
//!
//! Or a film of H.264 into files in which players can seek.
//!
//! It speaks to `camd` and to others of its kind:
//!
//! - `pull://host:8082`, `push://host:8081`, `raw://host:8084`;
//! - `http://host/path`, whose Content-Type says whether it is one picture or a stream of them, with a login or without;
//! - `call://host:8083/camera`, which calls the camera at a relay;
//! - each of them over TLS: `pulls`, `pushs`, `raws`, `https`, `calls`;
//! - on the same machine `memfd:/path`, a sink's shared memory, and `shm:KEY`, Qt's, with PNGs in it.
//!
//! It uses blocking `std` sockets and one thread, and shares nothing with the daemon but [`crate::limits`] and the formats
//! in [`crate::protocol`].
//!
//! What a server sends is never trusted: a length is compared with the limit before it is used, a head has a largest
//! size, text that goes to the terminal is cleaned of control characters, and every wait ends at a deadline.
//!
//! | file | what lives there |
//! |---|---|
//! | `run.rs` | one fetch: from where, to where, and its progress |
//! | `network.rs`, `wire.rs`, `url.rs` | a server's pictures, whichever protocol it speaks; its connection; its address |
//! | `pull.rs`, `push.rs`, `raw.rs`, `http.rs`, `call.rs` | the protocols |
//! | `memfd.rs`, `shm.rs` | pictures in shared memory |
//! | `output.rs` | the file, the folder or the pipe |
//! | `film.rs` | H.264: from what comes to an MP4 with an index |
//! | `pictures.rs`, `error.rs` | what all of these share |

mod call;
mod error;
mod film;
mod http;
mod memfd;
mod network;
mod output;
mod pictures;
mod pull;
mod push;
mod raw;
mod run;
mod shm;
mod url;
mod wire;

pub use error::FetchError;
pub use film::FilmOptions;
pub use output::Output;
pub use run::{FetchOptions, Summary, run};
pub use url::without_password;

#[cfg(test)]
mod tests;
