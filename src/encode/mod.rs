//! Who makes which picture of a frame: libjpeg on the processor, a memory-to-memory device, and the renditions that
//! share what either makes among all clients.

pub mod codec;
pub mod ladder;
pub mod m2m;
pub mod renditions;
