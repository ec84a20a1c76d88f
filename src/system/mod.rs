//! The kernel's edges: system calls that no crate wraps the way camd needs them.

pub mod files;
pub mod household;
pub mod logging;
pub mod names;
pub mod random;
pub mod ring;
pub mod shm;
pub mod tcp;
pub mod unix_socket;
pub mod v4l2;
pub mod watchdog;
