//! Who makes which picture of a frame: libjpeg on the processor, in cells where there are any, a memory-to-memory device, and the
//! renditions that share what either makes among all clients.

pub mod cell;
pub mod codec;
pub mod ladder;
pub mod m2m;
pub mod renditions;
