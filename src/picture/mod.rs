//! What a picture is: borrowed and copied frames, the walk over a JPEG's markers, which JPEGs of a stream are shown,
//! samples, smaller sizes, and the date and time on it.

pub mod chain;
pub mod exif;
pub mod font;
pub mod frame;
pub mod h264;
pub mod jpeg;
pub mod samples;
pub mod scale;
pub mod scan;
pub mod stamp;
pub mod whole;
