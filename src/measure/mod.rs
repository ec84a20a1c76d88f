//! How often, how long, and how many of them: small instruments that allocate nothing.

pub mod bucket;
pub mod decimate;
pub mod rate;
pub mod said;
pub mod times;
