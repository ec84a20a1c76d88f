//! camd

pub mod codec;
pub mod config;
pub mod frame;
pub mod jpeg;
pub mod limits;
pub mod source;
