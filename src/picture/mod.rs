//! What a picture is: borrowed and copied frames, the walk over a JPEG's markers, samples, smaller sizes, and the date
//! and time on it.

pub mod font;
pub mod frame;
pub mod jpeg;
pub mod samples;
pub mod scale;
pub mod stamp;
