//! The codec in a cell of its own: a process that decodes and encodes and can do nothing else. What comes from strangers (a
//! push server, a caller, a camera's firmware) is read there, and what takes long takes it there: the loop never waits for a
//! picture. `limits.cells` says how many there are; with 0 camd makes pictures itself, in its only thread.
//!
//! A cell is this program, started as `camd --cell` with an empty environment. It is given its memory and two descriptors
//! and then gives up everything else: files and network (Landlock), all system calls but the few that it works with
//! (seccomp: the kernel ends it at the first other one), further memory, descriptors and processes (limits), root. It ends
//! with camd. What the kernel lacks is said in the log, once.
//!
//! # What is where
//! | memory | written by | what is there |
//! |---|---|---|
//! | `pictures`, one for all | camd; cells can only read it | a place for each cell: a picture, copied there once, whatever is made of it |
//! | `desk`, one for each cell | job: camd; answer: the cell | the job, the answer, and what was made |
//!
//! Both are memfds whose size is sealed, so neither side can be made to touch what is not there. Two eventfds wake the other
//! side up: `work`, which the cell reads and sleeps on, and `done`, which camd polls. What tells of a cell's end is its
//! standard input, one end of a socket that is closed with it.
//!
//! # A job's states, and who owns which bytes
//! | state of the cell | it becomes that by | picture's place | desk |
//! |---|---|---|---|
//! | starting | camd: `launch` | – | the cell's |
//! | idle | the cell: `STATE` = ready; later, the answer is taken | – | camd's |
//! | busy | camd: the job is written, then `ASKED` raised, then `work` | the job's: camd does not touch it | the cell's |
//! | held (pixels only) | the cell: what was made is written, then the answer, then `ANSWERED` = `ASKED`, then `done` | camd's | camd's, until the end of the turn |
//! | down | camd: it is lost; killed, waited for, and its desk unmapped | camd's | none |
//!
//! What state a cell is in is camd's own variable: nothing in the memory can change that. The numbers `ASKED` and
//! `ANSWERED` are written behind what they announce (release) and read before it (acquire).
//!
//! # What is checked
//! camd reads what a cell has written as if a stranger had. It is copied first, because a cell can go on writing, and only
//! then looked at: the answer is to the job that was asked; what was made is what was asked for and no longer than the
//! memory; a JPEG is one, from its first byte to its last, in the size that was asked for; pixels are as many as their size
//! says; a part of a picture is within it and has what was asked for; a reason is printable. So a cell that a picture has
//! taken over can give a wrong picture, and no more than that: it cannot make camd read or write elsewhere, or wait. Cells
//! check what camd has written in the same way ([`wire`]).
//!
//! # Trouble
//! A cell that ends, does not answer in time or gives what cannot be is lost: it is killed, the picture is left out
//! (nobody tries the same one again), the loss is counted and said, and another is started at once. After three losses in a
//! minute the pictures' source is closed and opened again, as any that is in trouble. Where no cell can be started, there
//! are no such pictures: nothing ever makes them outside in its place.
//!
//! # What is not done there
//! JPEGs that are passed on untouched never come near it. The text of a call's picture is made by camd: it is that of a JPEG
//! which was looked at, byte by byte into other bytes, and takes less than the copy would. The card that stands in for a
//! picture is drawn by camd, which knows what is in it.
//!
//! # Files
//! | file | what lives there |
//! |---|---|
//! | `wire` | a job and an answer, as bytes |
//! | `worker` | what a cell does with a job |
//! | `launch` | how a cell is started and confined |
//! | `pool` | all cells of camd, what they work on, and their losses |

pub mod launch;
mod pool;
pub mod wire;
pub mod worker;

pub use pool::{Cells, Finished, Losses, Work};
