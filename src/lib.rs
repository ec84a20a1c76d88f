//! camd

pub mod config;
pub mod fetch;
pub mod frame;
pub mod limits;
pub mod source;
