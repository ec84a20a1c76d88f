//! The kernel's edges: system calls that no crate wraps the way camd needs them.

pub mod jail;
pub mod logging;
pub mod ring;
pub mod shared;
pub mod shm;
pub mod tcp;
pub mod unix_socket;
pub mod v4l2;
pub mod watchdog;
