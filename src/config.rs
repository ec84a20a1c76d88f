//! `/etc/camd.toml`: from TOML to a checked [`Config`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::frame::PixelFormat;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub camera: CameraConfig,
    /// 1 to [`crate::limits::MAX_LISTENERS`].
    pub listeners: Vec<ListenerConfig>,
    pub limits: LimitsConfig,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CameraConfig {
    pub name: String,
    pub source: SourceKind,
    /// v4l2
    pub device: PathBuf,
    /// pipe; the program and its arguments, no shell.
    pub command: Vec<String>,
    /// replay
    pub path: Option<PathBuf>,
    pub width: u16,
    pub height: u16,
    pub fps: u16,
    /// `None`: "auto".
    pub format: Option<PixelFormat>,
    pub buffers: u32,
    /// `None`: the stream stays on without viewers.
    pub linger: Option<Duration>,
    /// In the order of the file, as some controls unlock others (auto off first).
    pub controls: Vec<(String, i64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    V4l2,
    Pipe,
    Replay,
    Pattern,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ListenerConfig {
    pub protocol: ProtocolKind,
    pub bind: Bind,
    /// Connections at the same time on this listener.
    pub clients: usize,
    /// JPEG quality 1..=100. `None`: the camera's own JPEG untouched; raw pictures are encoded at the protocol's
    /// default ([`ProtocolKind::default_quality`]).
    pub quality: Option<u8>,
    /// HTTP: the value of Access-Control-Allow-Origin ("*" or one origin); `None`: CORS is off.
    pub allow_origin: Option<String>,
    /// HTTP: whether `POST /controls` is allowed.
    pub set_controls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolKind {
    Http,
    Pull,
    Push,
}

impl ProtocolKind {
    pub fn name(self) -> &'static str {
        match self {
            ProtocolKind::Http => "http",
            ProtocolKind::Pull => "pull",
            ProtocolKind::Push => "push",
        }
    }

    /// The JPEG quality for raw cameras when the listener names none: what the original systems used.
    pub fn default_quality(self) -> u8 {
        match self {
            ProtocolKind::Pull => 50,
            ProtocolKind::Push | ProtocolKind::Http => 80,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    Tcp(SocketAddr),
    /// `unix:/absolute/path`
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    pub frame_bytes: usize,
    pub ack_timeout: Duration,
    pub write_timeout: Duration,
    pub head_timeout: Duration,
}
