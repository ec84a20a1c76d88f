//! The real program, as its users meet it: camd as a process, and clients of every kind that look at every byte.
//!
//! One program with a module for each matter, not a program for each: they are linked once, and tests that wait, for a
//! deadline or for a peer, wait at the same time. A test that wants the machine or its process to itself is a
//! file of its own beside this folder. `cargo test --test program http::` runs one module.

#[path = "../common/mod.rs"]
mod common;

mod around;
mod attacks;
mod call;
mod call_source;
mod crop;
mod exif;
mod film;
mod http;
mod http_source;
mod idle;
mod listeners;
mod log;
mod login;
mod memfd;
mod messages;
mod monitoring;
mod original_clients;
mod page;
mod peers;
mod pipe;
mod player;
mod profiles;
mod proxies;
mod push_source;
mod qt_sink;
mod qt_source;
mod raw;
mod recipes;
mod sandbox;
mod stamp;
mod supervisor;
mod tls;
mod update;
mod uplink;
mod wishes;
