//! camd turns a camera on a small Linux board into a network appliance: one process, one camera, one thread.
//!
//! # One picture's way
//!
//! 1. [`daemon`] waits in `poll`. Events only mark what is ready; nothing acts while they are walked through.
//! 2. [`source::camera::Camera`] lets its [`source::Source`] take in what there is. A V4L2 camera dequeues until there
//!    is nothing more, keeps the newest good buffer and gives the others back to the driver at once.
//! 3. [`hub::Hub`] marks every client slot that waits for a picture, and then advances all marked ones.
//! 4. A slot that wants a picture is lent the newest one ([`frame::Frame`]: the borrow ends before the source can touch
//!    the buffer again), as the JPEG that its listener asks for or, where that adapts it, its link can carry
//!    ([`renditions`]: made once, if anybody wants it; [`adapt`]). Where a memory-to-memory device ([`m2m`]) makes it,
//!    the slot is served when that is done.
//! 5. [`slot::Slot::offer`] writes it straight from the driver's memory. What the socket does not take is copied to
//!    the slot's own buffer, and goes out as the socket gets room. Where the socket takes nothing at all, the slot
//!    stays free for a newer picture.
//! 6. Deadlines (a request's head, an `ack`, progress in writing) close a client that is late; the earliest is the next
//!    `poll`'s timeout.
//!
//! Two rules decide every doubtful case. **The newest picture wins**: nothing queues, not in the process and, by
//! `TCP_NOTSENT_LOWAT`, not in the kernel. **One client never costs another**: a client that stalls, floods or breaks the
//! protocol costs its own slot and nothing else, and the slot comes back by a deadline.
//!
//! All memory that a picture needs is taken at start; serving one allocates nothing.
//!
//! # Where things are
//!
//! A module imports from the ranks above its own row only; `tests/layers.rs` checks it against this table.
//!
//! | rank | modules | what lives there |
//! |---|---|---|
//! | 0 | `limits` | every capacity and wire constant, and the relations between them |
//! | 1 | `frame`, `font`, `rate`, `times`, `decimate`, `adapt`, `samples` | borrowed pictures, fixed copies; letters; events per second, how long they took, and fewer of them; smaller pictures for slow clients; loops in C |
//! | 1 | `ring`, `unix_socket`, `health`, `watchdog` | pictures in shared memory; files of sockets; whether a watchdog is to be fed; the board's |
//! | 2 | `jpeg`, `shm`, `scale`, `stamp`, `protocol`, `v4l2` | the JPEG marker walk; Qt's shared memory; smaller pictures; date and time on them; one file a wire protocol: state machines without socket or clock; V4L2's system calls and pixel formats |
//! | 3 | `config`, `codec`, `m2m` | TOML to a checked `Config`; encoding, transcoding, scaling and turning by libjpeg; encoding by a V4L2 memory-to-memory device |
//! | 4 | `slot`, `renditions`, `switchboard`, `source` | one client; the JPEGs of one frame; who is in a call with whom; where pictures come from |
//! | 5 | `sink` | where programs on the same board get pictures |
//! | 6 | `hub`, `fetch`, `devices` | the slot table; the receiving half; the list of cameras |
//! | 7 | `net`, `cli` | sockets; the command line |
//! | 8 | `uplink`, `supervisor` | connections that camd makes; what programs that watch it are told |
//! | 9 | `daemon` | mio, signals, timers, the supervisor: the only reader of the clock |
//!
//! `unsafe` is where ioctl, mmap, System V IPC, libjpeg, loops in C and inherited descriptors need it: `v4l2`, `shm`,
//! `codec`, `samples`, `source::pipe`, `net`, `ring`, `fetch::memfd`, `watchdog`, `daemon`.
//!
//! # Adding to it
//!
//! - A **protocol** is a file in [`protocol`] and a variant in `ProtocolKind` and `Protocol`; the `match`es that then
//!   do not compile are the rest.
//! - A **source** is a file in [`source`], a variant in `AnySource` and its keys.
//! - A **sink** is a file in [`sink`], a variant in `AnySink` and `SinkKind`, and its keys.
//! - A **configuration key** is a row in `config::setting`, a field, and a paragraph in `config/camd.toml`; tests
//!   hold the three together.

pub mod adapt;
pub mod cli;
pub mod codec;
pub mod config;
pub mod daemon;
pub mod decimate;
pub mod devices;
pub mod fetch;
pub mod font;
pub mod frame;
pub mod health;
pub mod hub;
pub mod jpeg;
pub mod limits;
pub mod m2m;
pub mod net;
pub mod protocol;
pub mod rate;
pub mod renditions;
pub mod ring;
pub mod samples;
pub mod scale;
pub mod shm;
pub mod sink;
pub mod slot;
pub mod source;
pub mod stamp;
pub mod supervisor;
pub mod switchboard;
pub mod times;
pub mod unix_socket;
pub mod uplink;
pub mod v4l2;
pub mod watchdog;
