//! `/etc/camd.toml`: from TOML to a checked [`Config`].
//!
//! Each key is one row of [`setting::SETTINGS`]: its name, meaning, range, default and the field it sets. `read` walks
//! the file along these rows and then checks what concerns several keys. A new key is a field in `sections.rs`, a row
//! there and a line in `config/camd.toml`, which ships every key; `tests/config.rs` holds the three together.

mod address;
mod error;
mod escape;
pub mod named;
mod password_hash;
mod read;
mod secret;
mod sections;
pub mod setting;
mod url;

use std::path::{Path, PathBuf};

pub use address::{Address, Bind, Dial, Remote};
pub use error::ConfigError;
pub(crate) use error::nearest;
pub(crate) use escape::decode;
pub use password_hash::{Guess, PasswordHash};
pub use secret::{Login, Secret, Token};
pub use sections::{
    CallConfig, CameraConfig, CellCount, Config, EncoderKind, Flip, LimitsConfig, ListenerConfig,
    NeighbourConfig, Settle, SinkConfig, SinkFormat, SinkKind, SourceKind, StreamCodec, UserConfig,
};
pub use url::Url;

use error::line_at;

use crate::limits::CONFIG_FILE;
use crate::system::files::{self, Takes};

/// Where `camd` looks for its configuration unless `--config` names another file.
pub const DEFAULT_PATH: &str = "/etc/camd.toml";

/// What `camd --demo` serves: pictures without a camera, reachable from this machine only.
const DEMO: &str = r#"
[camera]
name = "camd demo"
source = "pattern"

[[listener]]
protocol = "http"
bind = "127.0.0.1:8080"

[[listener]]
protocol = "push"
bind = "127.0.0.1:8081"
clients = 12

[[listener]]
protocol = "pull"
bind = "127.0.0.1:8082"
clients = 12

[[listener]]
protocol = "call"
bind = "127.0.0.1:8083"
clients = 12

[[listener]]
protocol = "raw"
bind = "127.0.0.1:8084"
clients = 12
"#;

/// The configuration of an empty file.
impl Default for Config {
    fn default() -> Self {
        built_in("", "defaults")
    }
}

/// Reads the file at `path`, which may be a pipe; see [`parse`].
pub fn load(path: &Path) -> Result<Config, Vec<ConfigError>> {
    load_from(path, Takes::Pipes)
}

/// Reads it again, while clients are connected: a pipe would be at its end, or wait for its writer.
pub fn load_again(path: &Path) -> Result<Config, Vec<ConfigError>> {
    load_from(path, Takes::Files)
}

fn load_from(path: &Path, takes: Takes) -> Result<Config, Vec<ConfigError>> {
    let file = path.display().to_string();
    let error = |line, message| {
        vec![ConfigError {
            file: file.clone(),
            line,
            key: None,
            message,
        }]
    };
    let bytes = files::read(path, CONFIG_FILE, takes)
        .map_err(|e| error(None, format!("cannot be read: {e}")))?;
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let line = line_at(&bytes, e.valid_up_to());
        error(
            Some(line),
            "not valid UTF-8; save the file in that encoding".to_owned(),
        )
    })?;
    parse(text, &file)
}

/// What [`load_or`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// Where it came from.
    pub file: PathBuf,
    /// What is wrong with the file that was asked for; empty if it is this one.
    pub errors: Vec<ConfigError>,
}

/// Reads the file at `path` or, if that has errors, the one at `fallback`. Fails if there is none, or it has errors, too:
/// with those of both.
pub fn load_or(path: &Path, fallback: Option<&Path>) -> Result<Loaded, Vec<ConfigError>> {
    let mut errors = match (load(path), fallback) {
        (Ok(config), _) => {
            return Ok(Loaded {
                config,
                file: path.to_owned(),
                errors: Vec::new(),
            });
        }
        (Err(errors), None) => return Err(errors),
        (Err(errors), Some(_)) => errors,
    };
    let file = fallback.expect("the match has seen it").to_owned();
    match load(&file) {
        Ok(config) => Ok(Loaded {
            config,
            file,
            errors,
        }),
        Err(more) => {
            errors.extend(more);
            Err(errors)
        }
    }
}

/// From TOML text to a checked configuration, or to everything that is wrong with it, in the order of the lines.
/// `file` is the name that the errors carry.
pub fn parse(text: &str, file: &str) -> Result<Config, Vec<ConfigError>> {
    read::read(text, file)
}

/// What `camd --demo` serves: the built-in moving picture on 127.0.0.1, http on port [`DEMO_PORT`], push on the one behind it,
/// then pull, call and raw.
pub fn demo_config() -> Config {
    built_in(DEMO, "demo")
}

/// The port of http in [`demo_config`].
pub const DEMO_PORT: u16 = 8080;
/// The last port that http can have in [`demo_config_at`].
pub const DEMO_PORT_MAX: u16 = u16::MAX - 4;

/// The same with http on another port; the others follow that. 0: any free ports.
///
/// # Panics
/// If there is no room for all of them behind that port: above [`DEMO_PORT_MAX`].
pub fn demo_config_at(port: u16) -> Config {
    assert!(port <= DEMO_PORT_MAX, "no room behind port {port}");
    let mut config = demo_config();
    for listener in &mut config.listeners {
        if let Bind::Tcp(address) = &mut listener.bind {
            let place = address.port() - DEMO_PORT;
            address.set_port(if port == 0 { 0 } else { port + place });
        }
    }
    config
}

/// # Panics
/// If the text is wrong, which is camd's own: tests read every text given here.
fn built_in(text: &str, name: &str) -> Config {
    parse(text, name).unwrap_or_else(|errors| panic!("built-in configuration: {errors:?}"))
}
