//! The checked configuration: one structure for each section of the file.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::address::{Address, Bind, Dial};
use super::password_hash::PasswordHash;
use super::secret::{Login, Secret, Token};
use super::url::{Url, without_login};
use crate::limits::{CELLS_MAX, RENDITIONS_BYTES, RUNGS};
use crate::picture::frame::{Area, CameraFormat, Chroma, Orientation, PixelFormat, Size};
use crate::protocol::ProtocolKind;
use crate::protocol::call::Name;
use crate::protocol::network::Network;
use crate::protocol::session::Patience;
use crate::protocol::user::{Access, May};
use crate::tls::client::Trust;
use crate::tls::fingerprint::Fingerprint;
use crate::tls::identity::Identity;

/// A whole configuration, with defaults in place of what the file leaves out, and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[camera]`
    pub camera: CameraConfig,
    /// `[call]`
    pub call: CallConfig,
    /// At most [`crate::limits::MAX_USERS`].
    pub users: Vec<UserConfig>,
    /// 1 to [`crate::limits::MAX_LISTENERS`].
    pub listeners: Vec<ListenerConfig>,
    /// At most [`crate::limits::MAX_SINKS`].
    pub sinks: Vec<SinkConfig>,
    /// At most [`crate::limits::MAX_NEIGHBOURS`].
    pub neighbours: Vec<NeighbourConfig>,
    /// `[limits]`
    pub limits: LimitsConfig,
}

impl Config {
    /// JPEGs of one picture that there may be at the same time: one for each listener of JPEGs, and for each rung of an adaptive
    /// one, and one for each sink of JPEGs.
    pub fn renditions(&self) -> usize {
        let of = |listener: &ListenerConfig| match (listener.codec, listener.adaptive) {
            (StreamCodec::H264, _) => 0,
            (StreamCodec::Jpeg, true) => RUNGS,
            (StreamCodec::Jpeg, false) => 1,
        };
        let sinks = self
            .sinks
            .iter()
            .filter(|sink| sink.has_rendition(&self.camera));
        self.listeners.iter().map(of).sum::<usize>() + sinks.count()
    }

    /// `frame_bytes` at most, so that all of these find room.
    pub fn frame_bytes_max(&self) -> usize {
        RENDITIONS_BYTES / self.renditions().max(1)
    }
}

/// `[camera]`: where pictures come from, and how they are to be.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraConfig {
    /// As viewers see it; 1 to [`crate::limits::CAMERA_NAME`] characters.
    pub name: String,
    /// Where pictures come from.
    pub source: SourceKind,
    /// v4l2
    pub device: PathBuf,
    /// pipe; the program and its arguments, no shell.
    pub command: Vec<String>,
    /// replay
    pub path: Option<PathBuf>,
    /// qt-shm: what its program gives its `QSharedMemory`.
    pub key: String,
    /// push
    pub address: Option<Address>,
    /// http
    pub url: Option<Url>,
    /// push: over TLS.
    pub tls: bool,
    /// push, http, with TLS: whose certificate is trusted; `None`: those from issuers that the system trusts.
    pub fingerprint: Option<Fingerprint>,
    /// http: to log in with, unless `url` has a login.
    pub user: Option<String>,
    /// http: from `password` or `password_file`; `None`: an empty one.
    pub password: Option<Secret>,
    /// Where `password` came from.
    pub password_file: Option<PathBuf>,
    /// In pixels, before turning.
    pub width: u16,
    /// In pixels, before turning.
    pub height: u16,
    /// Pictures per second at most.
    pub fps: u16,
    /// `None`: "auto".
    pub format: Option<CameraFormat>,
    /// v4l2: capture buffers that the driver is asked for.
    pub buffers: u32,
    /// `None`: the stream stays on without viewers.
    pub linger: Option<Duration>,
    /// What comes after each start and is not shown.
    pub settle: Settle,
    /// Degrees clockwise: 0, 90, 180 or 270.
    pub rotate: u16,
    /// After turning.
    pub flip: Flip,
    /// What is shown of the turned picture; `None`: all of it.
    pub crop: Option<Area>,
    /// Date, time and name in every picture that camd encodes.
    pub timestamp: bool,
    /// What makes JPEGs of raw pictures.
    pub encoder: EncoderKind,
    /// In the order of the file, as some controls unlock others (auto off first).
    pub controls: Vec<(String, i64)>,
}

/// Pictures after each start that are not shown: those that many cameras take before exposure and white balance are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// So many of them.
    Pictures(u32),
    /// Those of so long, from the first one on.
    Time(Duration),
}

impl Settle {
    /// The most pictures.
    pub const PICTURES_MAX: u32 = 1000;
    /// The longest time.
    pub const TIME_MAX: Duration = Duration::from_secs(30);

    /// A time as it is written: "1.5 s", "200 ms".
    pub fn of_time(text: &str) -> Option<Settle> {
        let (number, unit) = match text.strip_suffix("ms") {
            Some(number) => (number, 1e-3),
            None => (text.strip_suffix('s')?, 1.0),
        };
        let number = number.trim_end();
        let is_plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let seconds = number.parse::<f64>().ok().filter(|_| is_plain)? * unit;
        let time = Duration::try_from_secs_f64(seconds).ok()?;
        (time <= Settle::TIME_MAX).then_some(Settle::Time(time))
    }
}

impl CameraConfig {
    /// How the camera's picture is to be laid down for viewers.
    pub fn orientation(&self) -> Orientation {
        let (x, y) = (self.flip == Flip::Horizontal, self.flip == Flip::Vertical);
        Orientation::quarters((self.rotate / 90) as u8).mirrored(x, y)
    }

    /// The size of its pictures as viewers see them, turned and cropped, if the camera gives what it is asked for.
    pub fn shown(&self) -> Size {
        let &CameraConfig { width, height, .. } = self;
        let turned = self.orientation().turn(Size { width, height });
        let crop = self.crop.map(|crop| crop.within(turned).size());
        crop.unwrap_or(turned)
    }

    /// push, http: whom to trust; `None`: no TLS.
    pub fn trust(&self) -> Option<Trust> {
        let tls = match self.source {
            SourceKind::Http => self.url.as_ref().is_some_and(|url| url.tls),
            _ => self.tls,
        };
        trust(tls, self.fingerprint)
    }

    /// http: where to, with the login from wherever it was written.
    pub fn camera_url(&self) -> Option<Url> {
        let mut url = self.url.clone()?;
        if url.login.is_none() && (self.user.is_some() || self.password.is_some()) {
            let user = self.user.clone().unwrap_or_default();
            url.login = Some(Login::new(user, self.password.clone()));
        }
        Some(url)
    }
}

/// What changes places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flip {
    /// Not mirrored.
    None,
    /// Left and right.
    Horizontal,
    /// Top and bottom.
    Vertical,
}

impl Flip {
    /// All of them, in the order of the error messages.
    pub const ALL: [Flip; 3] = [Flip::None, Flip::Horizontal, Flip::Vertical];

    /// The name in `camera.flip`.
    pub fn name(self) -> &'static str {
        match self {
            Flip::None => "none",
            Flip::Horizontal => "horizontal",
            Flip::Vertical => "vertical",
        }
    }
}

/// What makes JPEGs of raw pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderKind {
    /// A V4L2 memory-to-memory device if there is one, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// As `Auto`, with a warning if there is none.
    M2m,
}

impl EncoderKind {
    /// All of them, in the order of the error messages.
    pub const ALL: [EncoderKind; 3] = [EncoderKind::Auto, EncoderKind::Cpu, EncoderKind::M2m];

    /// The name in `camera.encoder`.
    pub fn name(self) -> &'static str {
        match self {
            EncoderKind::Auto => "auto",
            EncoderKind::Cpu => "cpu",
            EncoderKind::M2m => "m2m",
        }
    }
}

/// The kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A V4L2 device.
    V4l2,
    /// The output of a program.
    Pipe,
    /// Files.
    Replay,
    /// A built-in moving picture.
    Pattern,
    /// What the other side of a video call sends.
    Call,
    /// A push server.
    Push,
    /// A server of HTTP.
    Http,
    /// A Qt program's shared memory.
    QtShm,
}

impl SourceKind {
    /// All of them, in the order of the error messages.
    pub const ALL: [SourceKind; 8] = [
        SourceKind::V4l2,
        SourceKind::Pipe,
        SourceKind::Replay,
        SourceKind::Pattern,
        SourceKind::Call,
        SourceKind::Push,
        SourceKind::Http,
        SourceKind::QtShm,
    ];

    /// What somebody may have meant who wrote this, which is no such name: cameras that camd reads in another way.
    pub(super) fn way_out(text: &str) -> Option<String> {
        let (scheme, url) = match text.split_once("://") {
            Some((scheme, _)) => (scheme, text),
            None => (text, ""),
        };
        let scheme = scheme.to_ascii_lowercase();
        let with_ffmpeg = |options: &str, example: &str| {
            // Errors are for other eyes, too.
            let url = if url.is_empty() {
                example.to_owned()
            } else {
                without_login(url)
            };
            format!(
                "write source = \"pipe\" and command = [\"ffmpeg\", \"-hide_banner\", \"-loglevel\", \"warning\", \"-nostdin\", {options}\"-i\", {url:?}, \"-f\", \"image2pipe\", \"-vcodec\", \"mjpeg\", \"-\"]"
            )
        };
        Some(match scheme.as_str() {
            "rtsp" | "rtsps" | "onvif" => {
                with_ffmpeg("\"-rtsp_transport\", \"tcp\", ", "rtsp://USER:PASSWORD@HOST/PATH")
            }
            "rtmp" | "srt" | "udp" | "rtp" | "hls" | "ffmpeg" => with_ffmpeg("", "URL"),
            "http" | "https" if !url.is_empty() => {
                format!("write source = \"http\" and url = {:?}", without_login(url))
            }
            "mjpg-streamer" | "mjpg_streamer" | "ustreamer" | "motion" | "esp32" | "esp32-cam"
            | "ip" | "ipcam" | "ip-camera" | "network" | "url" | "snapshot" => {
                "write source = \"http\", and the URL of the stream or of the snapshot as url"
                    .to_owned()
            }
            "libcamera" | "rpicam" | "raspicam" | "picamera" | "picamera2" | "csi" => {
                "write source = \"pipe\" and command = [\"rpicam-vid\", \"-t\", \"0\", \"-n\", \"--codec\", \"mjpeg\", \"-o\", \"-\"]".to_owned()
            }
            "usb" | "uvc" | "webcam" | "video" | "camera" => {
                "write source = \"v4l2\", and the camera's name from `camd devices` as device".to_owned()
            }
            device if device.starts_with("/dev/") => {
                format!("write source = \"v4l2\" and device = {text:?}")
            }
            "file" | "folder" | "image" | "images" | "jpeg" => {
                "write source = \"replay\", and the file or folder as path".to_owned()
            }
            "test" | "demo" => "write source = \"pattern\"".to_owned(),
            _ => return None,
        })
    }

    /// The name in `camera.source` and in `/state`.
    pub fn name(self) -> &'static str {
        match self {
            SourceKind::V4l2 => "v4l2",
            SourceKind::Pipe => "pipe",
            SourceKind::Replay => "replay",
            SourceKind::Pattern => "pattern",
            SourceKind::Call => "call",
            SourceKind::Push => "push",
            SourceKind::Http => "http",
            SourceKind::QtShm => "qt-shm",
        }
    }
}

/// camd as a user of somebody else's relay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallConfig {
    /// The user to call; what source "call" shows.
    pub dial: Option<Dial>,
    /// Over TLS.
    pub tls: bool,
    /// As [`CameraConfig::fingerprint`].
    pub fingerprint: Option<Fingerprint>,
    /// Its own name there; `None`: the host name.
    pub user: Option<Name>,
    /// To log in with, from `password` or `password_file`; `None`: an empty one.
    pub password: Option<Secret>,
    /// Where `password` came from.
    pub password_file: Option<PathBuf>,
}

/// `[[user]]`: somebody who may log in.
#[derive(Clone, Debug, PartialEq)]
pub struct UserConfig {
    /// Unlike that of any other user.
    pub name: Name,
    /// From `password` or `password_file`; `None`: there is a hash of it, or a token alone.
    pub password: Option<Secret>,
    /// Where `password` came from.
    pub password_file: Option<PathBuf>,
    /// In place of a password.
    pub password_hash: Option<PasswordHash>,
    /// For programs that cannot log in.
    pub token: Option<Token>,
    /// At least one thing.
    pub may: May,
}

impl CallConfig {
    /// Whom to trust; `None`: no TLS.
    pub fn trust(&self) -> Option<Trust> {
        trust(self.tls, self.fingerprint)
    }
}

fn trust(tls: bool, fingerprint: Option<Fingerprint>) -> Option<Trust> {
    tls.then(|| fingerprint.map_or(Trust::System, Trust::Certificate))
}

/// `[[listener]]`: an address where viewers connect, and what they get there.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerConfig {
    /// What is spoken there.
    pub protocol: ProtocolKind,
    /// Where it listens.
    pub bind: Bind,
    /// Whether it speaks TLS. Where camd is the client of a relay: to that.
    pub tls: bool,
    /// tls: the file of the certificate (PEM); `None`: the box's own.
    pub certificate: Option<PathBuf>,
    /// tls: the file of its key.
    pub key: Option<PathBuf>,
    /// What was read of these two.
    pub identity: Option<Identity>,
    /// tls, at another relay: as [`CameraConfig::fingerprint`].
    pub fingerprint: Option<Fingerprint>,
    /// Connections at the same time on this listener.
    pub clients: usize,
    /// Of these, from one address; `None`: half of them ([`ListenerConfig::share`]).
    pub clients_per_address: Option<usize>,
    /// raw: how its pictures are coded.
    pub codec: StreamCodec,
    /// JPEG quality 1..=100. `None`: the camera's own JPEG untouched; raw pictures are encoded at the protocol's
    /// default ([`ProtocolKind::default_quality`]).
    pub quality: Option<u8>,
    /// How fine the colours of JPEGs are that camd makes. `None`: "auto", as their quality has it ([`Chroma::at`]).
    pub chroma: Option<Chroma>,
    /// What the picture is to fit, in pixels; it keeps its aspect ratio and is never made larger. `None`: any width.
    pub width: Option<u16>,
    /// As `width`.
    pub height: Option<u16>,
    /// Pictures per second for each client at most (call: `fps`); `None`: as many as there are.
    pub max_fps: Option<u16>,
    /// Whether clients that cannot take `min_fps` get smaller pictures.
    pub adaptive: bool,
    /// adaptive: pictures per second that each client is to get.
    pub min_fps: u16,
    /// http, call: who is let in. Of protocols that have no login, and where `password` is set: everybody.
    pub access: Access,
    /// Where clients may connect from; none: from everywhere.
    pub allow: Vec<Network>,
    /// http: names of this machine beyond those that it knows itself, in lower case and without a dot at the end.
    pub hosts: Vec<String>,
    /// http: proxies whose word about the browser in front of them is taken.
    pub trusted_proxies: Vec<Network>,
    /// http: whether pages of other sites may show the pictures.
    pub embed: bool,
    /// HTTP: the value of Access-Control-Allow-Origin ("*" or one origin); `None`: CORS is off.
    pub allow_origin: Option<String>,
    /// HTTP: whether `POST /controls` is allowed.
    pub set_controls: bool,
    /// HTTP: what a proxy may leave in front of paths: "/", or a path that begins with one and ends without.
    pub base_path: String,
    /// call: the camera's name.
    pub user: Name,
    /// call; `None`: nobody needs one.
    pub password: Option<Secret>,
    /// call: where `password` came from.
    pub password_file: Option<PathBuf>,
    /// call: with the camera, at the same time.
    pub calls: usize,
}

impl ListenerConfig {
    /// Whether clients from there may connect; `None`: from this machine, by a Unix socket.
    pub fn allows(&self, address: Option<IpAddr>) -> bool {
        let is_in = |address| self.allow.iter().any(|network| network.contains(address));
        self.allow.is_empty() || address.is_none_or(is_in)
    }

    /// Whether nobody needs to show anything to see the camera: who can connect is let in.
    pub fn is_open(&self) -> bool {
        self.access == Access::Open
            && self.password.is_none()
            && !matches!(self.bind, Bind::Relay(_))
    }

    /// Where it is at another relay: whom to trust; `None`: no TLS.
    pub fn trust(&self) -> Option<Trust> {
        trust(self.tls, self.fingerprint)
    }

    /// Of its `clients`, those from one address at most.
    pub fn share(&self) -> usize {
        self.clients_per_address
            .unwrap_or(self.clients.div_ceil(2))
            .min(self.clients)
    }

    /// The quality of pictures that are no JPEGs yet.
    pub fn raw_quality(&self) -> u8 {
        self.quality.unwrap_or(self.protocol.default_quality())
    }

    /// Whether its clients can get nothing but H.264.
    pub fn is_for_h264(&self) -> bool {
        self.codec == StreamCodec::H264
    }
}

/// How the pictures of a raw listener are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamCodec {
    /// JPEGs.
    Jpeg,
    /// Pictures that lean on one another.
    H264,
}

impl StreamCodec {
    /// All of them, in the order of the error messages.
    pub const ALL: [StreamCodec; 2] = [StreamCodec::Jpeg, StreamCodec::H264];

    /// The name in `listener.codec`.
    pub fn name(self) -> &'static str {
        match self {
            StreamCodec::Jpeg => "jpeg",
            StreamCodec::H264 => "h264",
        }
    }
}

/// Where programs on the same board read pictures from.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    /// What programs read.
    pub kind: SinkKind,
    /// qt-shm: what programs give their `QSharedMemory`.
    pub key: String,
    /// memfd: where readers are handed the memory.
    pub socket: PathBuf,
    /// Permissions of segment and semaphore, or of the socket.
    pub mode: u32,
    /// memfd
    pub format: SinkFormat,
    /// memfd, JPEGs: as [`ListenerConfig::quality`].
    pub quality: Option<u8>,
    /// memfd, JPEGs: as [`ListenerConfig::chroma`].
    pub chroma: Option<Chroma>,
    /// As [`ListenerConfig::width`].
    pub width: Option<u16>,
    /// As `width`.
    pub height: Option<u16>,
    /// Pictures per second at most; `None`: as many as there are.
    pub fps: Option<u16>,
    /// memfd: pictures in the memory.
    pub slots: usize,
    /// memfd: at the same time.
    pub readers: usize,
}

impl SinkConfig {
    /// Whether it wants JPEGs.
    pub fn takes_jpegs(&self) -> bool {
        self.kind == SinkKind::Memfd && self.format == SinkFormat::Jpeg
    }

    /// Whether it holds H.264.
    pub fn is_for_h264(&self) -> bool {
        self.kind == SinkKind::Memfd && self.format == SinkFormat::H264
    }

    /// Whether it may want a rendition of its own: a camera's own JPEG that cannot be cropped without loss has to be encoded
    /// for those, too, who take pictures as they come.
    pub fn has_rendition(&self, camera: &CameraConfig) -> bool {
        let takes_raw = self.kind == SinkKind::Memfd && self.format == SinkFormat::Raw;
        self.takes_jpegs() || (takes_raw && camera.crop.is_some())
    }

    /// As [`ListenerConfig::raw_quality`]; by default that of programs on the network.
    pub fn raw_quality(&self) -> u8 {
        let default = ProtocolKind::Push.default_quality();
        self.quality.unwrap_or(default)
    }

    /// Where it is, for the log and `/state`.
    pub fn place(&self) -> String {
        match self.kind {
            SinkKind::QtShm => format!("shm:{}", self.key),
            SinkKind::Memfd => format!("memfd:{}", self.socket.display()),
        }
    }
}

/// The kinds of sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// A `QImage` in a `QSharedMemory`.
    QtShm,
    /// A ring of pictures in a memfd.
    Memfd,
}

impl SinkKind {
    /// All of them, in the order of the error messages.
    pub const ALL: [SinkKind; 2] = [SinkKind::QtShm, SinkKind::Memfd];

    /// The name in `sink.kind` and in `/state`.
    pub fn name(self) -> &'static str {
        match self {
            SinkKind::QtShm => "qt-shm",
            SinkKind::Memfd => "memfd",
        }
    }
}

/// What a memfd sink holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkFormat {
    /// JPEGs.
    Jpeg,
    /// As the camera gives it.
    Raw,
    /// 3 bytes a pixel: red, green, blue.
    Rgb24,
    /// 3 bytes a pixel: blue, green, red.
    Bgr24,
    /// 1 byte a pixel.
    Grey,
    /// Pictures that lean on one another.
    H264,
}

impl SinkFormat {
    /// All of them, in the order of the error messages.
    pub const ALL: [SinkFormat; 6] = [
        SinkFormat::Jpeg,
        SinkFormat::Raw,
        SinkFormat::Rgb24,
        SinkFormat::Bgr24,
        SinkFormat::Grey,
        SinkFormat::H264,
    ];

    /// The name in `sink.format`.
    pub fn name(self) -> &'static str {
        match self {
            SinkFormat::Jpeg => "jpeg",
            SinkFormat::Raw => "raw",
            SinkFormat::Rgb24 => PixelFormat::Rgb24.name(),
            SinkFormat::Bgr24 => PixelFormat::Bgr24.name(),
            SinkFormat::Grey => PixelFormat::Grey.name(),
            SinkFormat::H264 => CameraFormat::H264.name(),
        }
    }
}

/// `[[neighbour]]`: another page to which this camd's page links, such as that of the next camera. `/state` has it, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct NeighbourConfig {
    /// What the link says; 1 to [`crate::limits::NEIGHBOUR_NAME`] characters.
    pub name: String,
    /// Where it leads: `http://…`, `https://…`, or what differs from the address of this page, `:port`, `:port/path` or
    /// `/path`. Printable ASCII of at most [`crate::limits::NEIGHBOUR_URL`] bytes.
    pub url: String,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// The largest JPEG, in bytes.
    pub frame_bytes: usize,
    /// Processes that decode and encode pictures.
    pub cells: CellCount,
    /// pull: how long a client may take to acknowledge a part.
    pub ack_timeout: Duration,
    /// How long a client may take no byte of its picture.
    pub write_timeout: Duration,
    /// http: how long a client may take to send a request's head.
    pub head_timeout: Duration,
    /// Whether camd gives up what it does not need, see [`crate::daemon`].
    pub sandbox: bool,
}

/// How many processes decode and encode pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellCount {
    /// One less than there are processors, and at least one.
    Auto,
    /// So many; with 0 camd does it itself.
    Number(usize),
}

impl CellCount {
    /// On this computer.
    pub fn number(self) -> usize {
        match self {
            CellCount::Number(number) => number,
            CellCount::Auto => {
                let processors = std::thread::available_parallelism().map_or(1, usize::from);
                (processors - 1).clamp(1, CELLS_MAX)
            }
        }
    }
}

impl LimitsConfig {
    /// As far as it is a session's.
    pub fn patience(&self) -> Patience {
        Patience {
            ack: self.ack_timeout,
            head: self.head_timeout,
        }
    }
}
