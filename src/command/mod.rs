//! What a person types: the command line, the list of cameras, and the receiving half of the protocols.

pub mod cli;
pub mod devices;
pub mod fetch;
pub mod passwd;
pub mod updater;
