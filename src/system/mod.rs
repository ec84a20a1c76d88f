//! The kernel's edges: system calls that no crate wraps the way camd needs them.

pub mod broker;
pub mod files;
pub mod household;
pub mod jail;
pub mod logging;
pub mod names;
pub mod preloaded;
pub mod program;
pub mod random;
pub mod ring;
pub mod shared;
pub mod shm;
pub mod tcp;
pub mod trapped;
pub mod unix_socket;
pub mod v4l2;
pub mod watchdog;

/// Held by tests that fork, and by those of memory that is attached by System V: the child that one forks has what another has
/// attached.
#[cfg(test)]
pub(crate) static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
