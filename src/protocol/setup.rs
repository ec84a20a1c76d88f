//! What a listener's configuration says to the sessions of its clients.

use std::rc::Rc;

use super::head_cache::HeadCache;
use super::name::Name;

/// What a listener's configuration says about its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Access-Control-Allow-Origin; `None`: CORS is off.
    pub allow_origin: Option<String>,
    /// POST `/controls` is allowed.
    pub set_controls: bool,
    /// What a proxy may leave in front of paths, without slashes around it; empty: nothing.
    pub base_path: String,
}

/// All that a session may need to begin.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What its requests may do.
    pub policy: Rc<Policy>,
    /// Shared by the clients of the listener.
    pub heads: Rc<HeadCache>,
    /// The camera's name among the users.
    pub user: Rc<Name>,
    /// camd has made the connection: the other end is somebody else's relay.
    pub to_relay: bool,
}
