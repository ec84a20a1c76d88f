//! camd

pub mod cli;
pub mod config;
pub mod frame;
pub mod limits;
pub mod source;
