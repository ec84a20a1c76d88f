//! What a listener's configuration says to the sessions of its clients.

use std::rc::Rc;

use super::head_cache::HeadCache;
use super::name::Name;
use super::network::Network;
use super::user::Access;

/// What a listener's configuration says about its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Who is let in.
    pub access: Access,
    /// It is reached from this machine alone.
    pub is_local: bool,
    /// Names of this machine, in lower case.
    pub names: Vec<String>,
    /// Whose word about the browser in front of them is taken.
    pub trusted_proxies: Vec<Network>,
    /// Pages of other sites may show the pictures.
    pub embed: bool,
    /// Access-Control-Allow-Origin; `None`: CORS is off.
    pub allow_origin: Option<String>,
    /// POST `/controls` is allowed, to those who may.
    pub set_controls: bool,
    /// What a proxy may leave in front of paths, without slashes around it; empty: nothing.
    pub base_path: String,
}

impl Policy {
    /// Whether nobody is known here, and strangers can connect.
    pub fn is_exposed(&self) -> bool {
        self.access == Access::Open && !self.is_local
    }
}

/// For everybody on this machine.
impl Default for Policy {
    fn default() -> Self {
        Policy {
            access: Access::Open,
            is_local: true,
            names: Vec::new(),
            trusted_proxies: Vec::new(),
            embed: true,
            allow_origin: None,
            set_controls: false,
            base_path: String::new(),
        }
    }
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
    /// Its clients get H.264 and nothing else.
    pub film: bool,
    /// camd has made the connection: the other end is somebody else's relay.
    pub to_relay: bool,
}
