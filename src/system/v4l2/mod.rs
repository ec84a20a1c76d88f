//! Video4Linux2, as far as cameras and memory-to-memory encoders both need it.
//!
//! | file | what lives there |
//! |---|---|
//! | `device.rs` | one open node and its system calls |
//! | `formats.rs` | which pixel format to ask for, where its planes lie |

pub mod device;
pub mod formats;
