//! camd

pub mod cli;
pub mod codec;
pub mod config;
pub mod daemon;
pub mod devices;
pub mod fetch;
pub mod frame;
pub mod hub;
pub mod jpeg;
pub mod limits;
pub mod net;
pub mod pages;
pub mod protocol;
pub mod rate;
pub mod renditions;
pub mod slot;
pub mod source;
