//! What a person types: the command line, the list of cameras, and the receiving half of the protocols; and the program that
//! updates a camera box.

pub mod cli;
pub mod devices;
pub mod fetch;
pub mod passwd;
pub mod updater;
