//! The serving half: a table of clients, each with its connection and its own copy of a picture.

pub mod adapt;
pub mod hub;
pub mod slot;
pub mod switchboard;
