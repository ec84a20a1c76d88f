//! camd turns a camera on a small Linux board into a network appliance: one process, one camera, one event loop;
//! and beside it, processes without any rights that decode and encode its pictures ([`encode::cell`]).
//!
//! # One picture's way
//!
//! 1. [`daemon`] waits in `poll`. Events only mark what is ready; nothing acts while they are walked through.
//! 2. [`source::camera::Camera`] lets its [`source::Source`] take in what there is. A V4L2 camera dequeues until there
//!    is nothing more, keeps the newest good buffer and gives the others back to the driver at once.
//! 3. [`client::hub::Hub`] marks every client slot that waits for a picture, and then advances all marked ones.
//! 4. A slot that wants a picture is lent the newest one ([`picture::frame::Frame`]: the borrow ends before the source
//!    can touch the buffer again), as the JPEG that its listener asks for or, where that adapts it, its link can carry
//!    ([`encode::renditions`]: made once, if anybody wants it; [`client::adapt`]). A cell
//!    ([`encode::cell`]) or a memory-to-memory device ([`encode::m2m`]) makes it, and the slot is served when that is done.
//! 5. [`client::slot::Slot::offer`] writes it straight from the driver's memory. What the socket does not take is copied
//!    to the slot's own buffer, and goes out as the socket gets room. Where the socket takes nothing at all, the slot
//!    stays free for a newer picture.
//! 6. Deadlines (a request's head, an `ack`, progress in writing) close clients that are late; the earliest is the next
//!    `poll`'s timeout.
//!
//! H.264, whose pictures lean on the ones before them, goes another way from 2 on: its source keeps the last ones in a
//! [`picture::chain::Chain`], and a slot that wants these is lent one after the other. One that is late is lent nothing
//! before the next picture that stands for itself.
//!
//! Two rules decide every doubtful case. **The newest picture wins**: nothing queues, not in the process and, by
//! `TCP_NOTSENT_LOWAT`, not in the kernel. **One client never costs another**: a client that stalls, floods or breaks
//! the protocol costs its own slot and nothing else, and the slot comes back by a deadline.
//!
//! What camd does not need any more once it has started it gives up ([`daemon`]'s `sandbox`), and a second process opens for it what
//! the configuration names ([`system::broker`]).
//!
//! All memory that a picture needs is taken at start; serving one allocates nothing. The loop is one thread. What cannot be
//! cut into slices has a thread of its own beside it: writing the log ([`system::logging`]), looking up a name, and
//! reckoning for TLS handshakes ([`tls`]).
//!
//! # One client's way
//!
//! 1. [`daemon::net`] accepts a connection, and [`client::table`] finds it a free slot and gives it a session of its
//!    listener's protocol ([`protocol::session`]). Without a free slot the client is told so, if its protocol has words
//!    for that.
//! 2. An event for the connection marks its slot. In its turn the slot writes what is still to be written
//!    ([`client::link`]), reads, and lets the session hear what came: a request, an `ack`, a record, or nothing of
//!    interest.
//! 3. The session answers by itself, wants a picture, or refers its input to those who see more than one client:
//!    [`client::pages`] for http's pages, `client::calls` for the records of calls.
//! 4. A picture goes its way as above. The session frames it, and says what follows when its last byte is out.
//! 5. The end comes from the peer, from the session (a reply with `Connection: close`), by a violation of the protocol,
//!    or by a deadline. The log says why, the calls of that client end, and the slot is free.
//!
//! # Where things are
//!
//! A folder imports from those above its own row only, and no two files import each other; `tests/layers.rs` reads that
//! from the tree.
//!
//! | folder | what lives there |
//! |---|---|
//! | [`limits`] | every capacity and wire constant, and the relations between them |
//! | [`text`] | text of unknown origin, made fit to be read |
//! | [`measure`] | events per second, how long they took, fewer of them, and what the log has already |
//! | [`picture`] | borrowed pictures and fixed copies, the JPEG marker walk, loops over samples, sizes, date and time on a picture |
//! | [`system`] | the kernel's edges: the log, where peers are, V4L2, Qt's shared memory (System V), pictures in a memfd, files of sockets, the board's watchdog, what a process gives up, and who does that for it |
//! | [`tls`] | certificates, handshakes on a thread beside the loop, and what encrypts from then on: the kernel or rustls |
//! | [`protocol`] | the wire protocols, one file each, and what they are to a slot: state machines without socket or clock |
//! | [`config`] | TOML to a checked `Config` |
//! | [`encode`] | who makes which JPEG of a frame: libjpeg, in cells, a memory-to-memory device, and what is shared of them |
//! | [`source`] | where pictures come from |
//! | [`sink`] | where programs on the same board get pictures |
//! | [`command`] | the command line, the list of cameras, and the receiving half of the protocols |
//! | [`client`] | the slot table, one client's link and slot, its level of quality, the pages, and calls between clients |
//! | [`daemon`] | the event loop: mio, signals, timers, sockets, the supervisor; deadlines go by the time that it hands on |
//!
//! `unsafe` is where ioctl, mmap, System V IPC, libjpeg, loops in C and inherited descriptors need it: `system`,
//! `encode::cell`, `encode::codec`, `picture::samples`, `command::fetch::memfd`, `tls`, `daemon`.
//!
//! # Adding to it
//!
//! - A **protocol** is a file in [`protocol`], a line in the list there, its wire format in an `.md` beside it, and its
//!   name at its keys in [`config::setting`]. README shows it with the raw protocol.
//! - A **source** is a file in [`source`], a variant in `AnySource` and [`config::SourceKind`], and its keys.
//! - A **sink** is a file in [`sink`], a variant in `AnySink` and [`config::SinkKind`], and its keys.
//! - A **configuration key** is a row in [`config::setting`], a field, and a paragraph in `config/camd.toml`; tests
//!   hold the three together. `cargo run --example man` brings it into the manual page.

#![warn(missing_docs)]

pub mod client;
pub mod command;
pub mod config;
pub mod daemon;
pub mod encode;
pub mod limits;
pub mod measure;
pub mod picture;
pub mod protocol;
pub mod sink;
pub mod source;
pub mod system;
pub mod text;
pub mod tls;
