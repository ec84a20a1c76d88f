//! The serving half: a table of clients, each with its connection and its own copy of a picture.
//!
//! | file | what lives there |
//! |---|---|
//! | [`link`] | bytes over one stream |
//! | [`slot`] | one client: a link, the session of its protocol, and its copy of a picture |
//! | [`delivery`] | what is on its way to a client, and the client's own copy of it |
//! | [`subscription`] | which pictures a client is to get, and which it got |
//! | [`adapt`] | which level of quality a client's link can carry |
//! | [`listener`] | a listener, as far as its clients are concerned |
//! | [`arrivals`] | how fast addresses make connections |
//! | [`places`] | who gets a place, and who gives way where there is none |
//! | [`table`] | all slots: who is let in, who has something to do, and the end |
//! | [`door`] | who is let in: passwords, tokens, and how often somebody may guess |
//! | [`pages`] | what http requests for anything but pictures are answered, with `config_errors` and the `board` as they are shown there |
//! | `calls` | what the records of call clients lead to, with the [`switchboard`] and the `texts` |
//! | `updates` | what a client uploads for the box that camd is in |
//! | [`hub`] | hands each new picture to those who wait for one, and lets the others act |

pub mod adapt;
pub mod arrivals;
mod board;
mod calls;
mod config_errors;
pub mod delivery;
pub mod door;
pub mod hub;
pub mod link;
pub mod listener;
pub mod pages;
pub mod places;
pub mod slot;
pub mod subscription;
pub mod switchboard;
pub mod table;
mod texts;
mod updates;
