//! camd

pub mod codec;
pub mod config;
pub mod devices;
pub mod frame;
pub mod jpeg;
pub mod limits;
pub mod source;
