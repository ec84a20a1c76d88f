//! Every key of the configuration: one row each, in the order of `config/camd.toml`.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::{Address, Bind, Dial, base_path, host, is_allow_origin, is_neighbour_url};
use super::password_hash::PasswordHash;
use super::secret::{Login, Secret, Token};
use super::sections::{
    CellCount, Config, EncoderKind, Flip, ListenerConfig, NeighbourConfig, Settle, SinkConfig,
    SinkFormat, SinkKind, SourceKind, StreamCodec, UserConfig,
};
use super::url::Url;
use crate::limits::{
    BUFFERS_MAX, BUFFERS_MIN, CAMERA_NAME, CELLS_MAX, DIMENSION_MAX, DIMENSION_MIN, FPS_MAX,
    FRAME_BYTES_MAX, FRAME_BYTES_MIN, HOSTS, MAX_CLIENTS, NEIGHBOUR_NAME, NETWORKS, PASSWORD,
    SINK_KEY, SINK_READERS_MAX, SINK_SLOTS_MAX, SINK_SLOTS_MIN,
};
use crate::picture::frame::{Area, CameraFormat, Chroma};
use crate::protocol::ProtocolKind;
use crate::protocol::call::Name;
use crate::protocol::network::Network;
use crate::protocol::user::{Access, May};
use crate::tls::fingerprint::Fingerprint;

/// One key.
pub struct Setting {
    /// Where it belongs.
    pub section: Section,
    /// Its name in the file.
    pub key: &'static str,
    /// What it means, for a person that edits the file.
    pub doc: &'static str,
    /// What holds without it.
    pub absent: Absent,
    /// The varieties of its section that know this key; none: all do.
    pub only: &'static [Variety],
    /// Which values it takes, and where they go.
    pub kind: Kind,
}

impl Setting {
    /// Whether sections of this variety know it; where a section has none, it is no question.
    pub fn is_for(&self, variety: Option<Variety>) -> bool {
        self.only.is_empty() || variety.is_none_or(|variety| self.only.contains(&variety))
    }
}

/// What tells sections of one header apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variety {
    /// Of a listener.
    Protocol(ProtocolKind),
    /// Of a sink.
    Sink(SinkKind),
}

impl Variety {
    /// The key that says which it is.
    pub fn key(self) -> &'static str {
        match self {
            Variety::Protocol(_) => "protocol",
            Variety::Sink(_) => "kind",
        }
    }

    /// The value of that key.
    pub fn name(self) -> &'static str {
        match self {
            Variety::Protocol(protocol) => protocol.name(),
            Variety::Sink(kind) => kind.name(),
        }
    }
}

const HTTP: Variety = Variety::Protocol(ProtocolKind::Http);
const PULL: Variety = Variety::Protocol(ProtocolKind::Pull);
const PUSH: Variety = Variety::Protocol(ProtocolKind::Push);
const RAW: Variety = Variety::Protocol(ProtocolKind::Raw);
const CALL: Variety = Variety::Protocol(ProtocolKind::Call);
const QT_SHM: Variety = Variety::Sink(SinkKind::QtShm);
const MEMFD: Variety = Variety::Sink(SinkKind::Memfd);

/// The sections of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `[camera]`
    Camera,
    /// `[call]`
    Call,
    /// May occur several times, and each occurrence has its own values.
    User,
    /// As `User`.
    Listener,
    /// As `User`.
    Sink,
    /// As `User`.
    Neighbour,
    /// `[limits]`
    Limits,
}

impl Section {
    /// All of them, in the order of the file.
    pub const ALL: [Section; 7] = [
        Section::Camera,
        Section::Call,
        Section::User,
        Section::Listener,
        Section::Sink,
        Section::Neighbour,
        Section::Limits,
    ];

    /// The name without brackets.
    pub fn name(self) -> &'static str {
        match self {
            Section::Camera => "camera",
            Section::Call => "call",
            Section::User => "user",
            Section::Listener => "listener",
            Section::Sink => "sink",
            Section::Neighbour => "neighbour",
            Section::Limits => "limits",
        }
    }

    /// The line that opens it in a file.
    pub fn header(self) -> &'static str {
        match self {
            Section::Camera => "[camera]",
            Section::Call => "[call]",
            Section::User => "[[user]]",
            Section::Listener => "[[listener]]",
            Section::Sink => "[[sink]]",
            Section::Neighbour => "[[neighbour]]",
            Section::Limits => "[limits]",
        }
    }

    /// The rows of this section.
    pub fn settings(self) -> impl Iterator<Item = &'static Setting> {
        SETTINGS.iter().filter(move |s| s.section == self)
    }
}

/// What holds for a key that the file does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// This TOML value.
    Default(&'static str),
    /// This TOML value in sections of one variety; in others another one, or nothing is set.
    By {
        /// The sections that `value` is for.
        variety: Variety,
        /// Their value.
        value: &'static str,
        /// That of all other sections.
        others: Option<&'static str>,
    },
    /// Nothing is set; the row's `doc` says what that means.
    Unset,
    /// An error: the section makes no sense without it.
    Required,
}

/// What values a key takes, and the field that gets them. The setters may rely on the bounds beside them.
pub enum Kind {
    /// A whole number.
    Integer {
        /// The smallest that is allowed.
        min: i64,
        /// The largest that is allowed.
        max: i64,
        /// Puts it into its field.
        set: fn(&mut Config, i64),
    },
    /// "auto", or a whole number from 0 on; the setter gets `None` for the former.
    Count {
        /// The largest that is allowed.
        max: i64,
        /// Puts it into its field.
        set: fn(&mut Config, Option<i64>),
    },
    /// One of these integers.
    Number {
        /// Those that are allowed.
        values: &'static [i64],
        /// Puts it into its field.
        set: fn(&mut Config, i64),
    },
    /// One of these permissions (chmod(2)), as everybody writes them: in octal.
    Mode {
        /// Those that are allowed.
        values: &'static [u32],
        /// Puts them into their field.
        set: fn(&mut Config, u32),
    },
    /// Seconds, as an integer or a float.
    Seconds {
        /// The smallest number that is allowed.
        min: f64,
        /// The largest number that is allowed.
        max: f64,
        /// Puts them into their field.
        set: fn(&mut Config, Duration),
    },
    /// Pictures, or a time.
    Settle {
        /// Puts it into its field.
        set: fn(&mut Config, Settle),
    },
    /// A part of a picture: four integers.
    Area {
        /// Puts it into its field.
        set: fn(&mut Config, Area),
    },
    /// true or false.
    Boolean {
        /// Puts it into its field.
        set: fn(&mut Config, bool),
    },
    /// One of these names; the setter gets its index.
    Choice {
        /// Those that are allowed, in the order of the error messages.
        names: fn() -> Vec<&'static str>,
        /// Puts the choice into its field.
        set: fn(&mut Config, usize),
    },
    /// A string; the setter returns false for one that is not as `allowed` says.
    Text {
        /// For a person: what is allowed.
        allowed: &'static str,
        /// Puts it into its field.
        set: fn(&mut Config, &str) -> bool,
    },
    /// The absolute path of a file.
    Path {
        /// Puts it into its field.
        set: fn(&mut Config, PathBuf),
    },
    /// A string that no error may show.
    Password {
        /// Puts it into its field.
        set: fn(&mut Config, Secret),
    },
    /// Another string that no error may show; the setter returns false for one that is not as `allowed` says.
    Hidden {
        /// For a person: what is allowed.
        allowed: &'static str,
        /// Puts it into its field.
        set: fn(&mut Config, &str) -> bool,
    },
    /// An array of strings; the setter gets one after the other, and returns false for one that is not as `allowed` says.
    List {
        /// For a person: what is allowed.
        allowed: &'static str,
        /// So many of them.
        most: usize,
        /// Puts one into their field.
        add: fn(&mut Config, &str) -> bool,
    },
    /// The URL of a camera. No error may show the login in it.
    Url {
        /// Puts it into its field.
        set: fn(&mut Config, Url),
    },
    /// A program and its arguments.
    Program {
        /// Puts them into their field.
        set: fn(&mut Config, Vec<String>),
    },
    /// A table from V4L2 control names to integers or booleans, in the order of the file.
    Controls {
        /// Puts them into their field.
        set: fn(&mut Config, Vec<(String, i64)>),
    },
}

/// What is allowed, as the errors and the help say it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Integer { min, max, .. } => write!(f, "an integer from {min} to {max}"),
            Kind::Count { max, .. } => write!(f, "\"auto\", or an integer from 0 to {max}"),
            Kind::Number { values, .. } => {
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Kind::Mode { values, .. } => {
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value:#o}", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Kind::Seconds { min, max, .. } => write!(f, "seconds from {min} to {max}"),
            Kind::Settle { .. } => write!(
                f,
                "pictures from 0 to {}, or a time from \"0 s\" to \"{} s\"",
                Settle::PICTURES_MAX,
                Settle::TIME_MAX.as_secs()
            ),
            Kind::Area { .. } => write!(
                f,
                "[x, y, width, height]: x and y from 0 to {DIMENSION_MAX}, width and height from {DIMENSION_MIN} to {DIMENSION_MAX}"
            ),
            Kind::Boolean { .. } => f.write_str("true or false"),
            Kind::Choice { names, .. } => {
                for (i, name) in names().iter().enumerate() {
                    write!(f, "{}{name:?}", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Kind::Text { allowed, .. }
            | Kind::Hidden { allowed, .. }
            | Kind::List { allowed, .. } => f.write_str(allowed),
            Kind::Path { .. } => f.write_str("an absolute path"),
            Kind::Password { .. } => write!(f, "1 to {PASSWORD} characters"),
            Kind::Url { .. } => f.write_str("http://[USER:PASSWORD@]HOST[:PORT]/PATH, or https://"),
            Kind::Program { .. } => f.write_str("an array of strings: a program, its arguments"),
            Kind::Controls { .. } => {
                f.write_str("names as `camd devices` prints them, with integers, true or false")
            }
        }
    }
}

/// For `--help`: each key as it is written, what it means and what is allowed.
pub fn reference() -> String {
    let mut out = String::new();
    for section in Section::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{}{}",
            if out.is_empty() { "" } else { "\n" },
            section.header()
        );
        for s in section.settings() {
            let value = match s.absent {
                Absent::Default(value)
                | Absent::By {
                    others: Some(value),
                    ..
                } => format!(" = {value}"),
                Absent::Unset | Absent::By { others: None, .. } => " (not set)".to_owned(),
                Absent::Required => " (must be set)".to_owned(),
            };
            let other = match s.absent {
                Absent::By { variety, value, .. } => format!("; {}: {value}", variety.name()),
                _ => String::new(),
            };
            let _ = writeln!(out, "  {}{value}{other}", s.key);
            let _ = writeln!(out, "      {}", s.doc);
            let _ = writeln!(out, "      Allowed: {}.", s.kind);
        }
    }
    out
}

/// Whether a user may have this name: HTTP's Basic puts a colon behind it.
fn is_user_name(name: &Name) -> bool {
    !name.as_str().contains(':') && name.flaw().is_none()
}

/// A key of Qt's shared memory. Qt takes any; a NUL would end it for some and not for others.
fn is_shm_key(text: &str) -> bool {
    (1..=SINK_KEY).contains(&text.chars().count()) && !text.contains('\0')
}

/// An absolute path, as a system call takes it.
pub(super) fn is_path(text: &str) -> bool {
    Path::new(text).is_absolute() && !text.contains('\0')
}

/// What fits sockaddr_un, with a NUL behind it.
fn is_socket_path(text: &str) -> bool {
    is_path(text) && text.len() <= 107
}

/// What `chroma` may be.
fn chroma_names() -> Vec<&'static str> {
    std::iter::once("auto")
        .chain(Chroma::ALL.map(Chroma::name))
        .collect()
}

/// "auto" is the first name.
fn chroma(index: usize) -> Option<Chroma> {
    index.checked_sub(1).map(|i| Chroma::ALL[i])
}

/// Shorter deadlines would close clients over ordinary radio links; longer ones are none.
const TIMEOUT_MIN: f64 = 0.1;
const TIMEOUT_MAX: f64 = 3600.0;

/// The section that is being read is the last.
fn listener(config: &mut Config) -> &mut ListenerConfig {
    config
        .listeners
        .last_mut()
        .expect("the reader appends a listener before it reads its keys")
}

/// As [`listener`].
fn user(config: &mut Config) -> &mut UserConfig {
    config
        .users
        .last_mut()
        .expect("the reader appends a user before it reads its keys")
}

/// As [`listener`].
fn sink(config: &mut Config) -> &mut SinkConfig {
    config
        .sinks
        .last_mut()
        .expect("the reader appends a sink before it reads its keys")
}

/// As [`listener`].
fn neighbour(config: &mut Config) -> &mut NeighbourConfig {
    config
        .neighbours
        .last_mut()
        .expect("the reader appends a neighbour before it reads its keys")
}

/// All keys, in the order of the file.
pub static SETTINGS: &[Setting] = &[
    Setting {
        section: Section::Camera,
        key: "name",
        doc: "The name of this camera, as viewers see it.",
        absent: Absent::Default(r#""camera""#),
        only: &[],
        kind: Kind::Text {
            allowed: "1 to 64 characters, no control characters",
            set: |c, text| {
                c.camera.name = text.to_owned();
                (1..=CAMERA_NAME).contains(&text.chars().count())
                    && !text.chars().any(char::is_control)
            },
        },
    },
    Setting {
        section: Section::Camera,
        key: "source",
        doc: "Where pictures come from: a V4L2 device, a program's output, files, a built-in moving picture, a video call, a push server, a URL of HTTP, or a Qt program's shared memory.",
        absent: Absent::Default(r#""v4l2""#),
        only: &[],
        kind: Kind::Choice {
            names: || SourceKind::ALL.map(SourceKind::name).to_vec(),
            set: |c, index| c.camera.source = SourceKind::ALL[index],
        },
    },
    Setting {
        section: Section::Camera,
        key: "device",
        doc: "v4l2: the camera's device; its names in /dev/v4l/by-id/ and by-path/ stay the same when you replug it.",
        absent: Absent::Default(r#""/dev/video0""#),
        only: &[],
        kind: Kind::Path {
            set: |c, path| c.camera.device = path,
        },
    },
    Setting {
        section: Section::Camera,
        key: "command",
        doc: "pipe: a program that writes JPEGs to its standard output, and its arguments; no shell is involved.",
        absent: Absent::Default(
            r#"["ffmpeg", "-hide_banner", "-loglevel", "warning", "-nostdin", "-f", "v4l2", "-input_format", "mjpeg", "-i", "/dev/video0", "-f", "image2pipe", "-vcodec", "copy", "-"]"#,
        ),
        only: &[],
        kind: Kind::Program {
            set: |c, words| c.camera.command = words,
        },
    },
    Setting {
        section: Section::Camera,
        key: "path",
        doc: "replay: a folder of JPEGs, or one MJPEG file; that source needs it.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Text {
            allowed: "the path of a folder of JPEGs, or of one MJPEG file",
            set: |c, text| {
                c.camera.path = Some(PathBuf::from(text));
                !text.is_empty() && !text.contains('\0')
            },
        },
    },
    Setting {
        section: Section::Camera,
        key: "key",
        doc: "qt-shm: the key of the QSharedMemory in which a program shares its picture.",
        absent: Absent::Default(r#""169254""#),
        only: &[],
        kind: Kind::Text {
            allowed: "1 to 64 characters",
            set: |c, text| {
                c.camera.key = text.to_owned();
                is_shm_key(text)
            },
        },
    },
    Setting {
        section: Section::Camera,
        key: "address",
        doc: "push: the server to connect to: another camd's push listener, or a program that speaks push; that source needs it.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Text {
            allowed: r#""host:port", "[IPv6]:port" or "unix:/absolute/path" (107 bytes)"#,
            set: |c, text| {
                c.camera.address = Address::parse(text);
                c.camera.address.is_some()
            },
        },
    },
    Setting {
        section: Section::Camera,
        key: "url",
        doc: "http: another server's MJPEG stream, or its snapshot, for which camd asks fps times a second; that source needs it.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Url {
            set: |c, url| c.camera.url = Some(url),
        },
    },
    Setting {
        section: Section::Camera,
        key: "tls",
        doc: "push: whether to speak TLS to that server; for http the URL says it.",
        absent: Absent::Default("false"),
        only: &[],
        kind: Kind::Boolean {
            set: |c, value| c.camera.tls = value,
        },
    },
    Setting {
        section: Section::Camera,
        key: "fingerprint",
        doc: "push, http, over TLS: trust the server with this certificate, and no other; not set: those for its name from issuers that this system trusts.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Text {
            allowed: Fingerprint::ALLOWED,
            set: |c, text| {
                c.camera.fingerprint = Fingerprint::parse(text);
                c.camera.fingerprint.is_some()
            },
        },
    },
    Setting {
        section: Section::Camera,
        key: "user",
        doc: "http: the user that the server knows (Basic), if none is in the URL; not set: no login.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Text {
            allowed: Login::USER,
            set: |c, text| {
                c.camera.user = Some(text.to_owned());
                Login::is_user(text)
            },
        },
    },
    Setting {
        section: Section::Camera,
        key: "password",
        doc: "http: the password of that user; not set: none.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Password {
            set: |c, secret| c.camera.password = Some(secret),
        },
    },
    Setting {
        section: Section::Camera,
        key: "password_file",
        doc: "A file whose first line is the password; use it in place of password.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Path {
            set: |c, path| c.camera.password_file = Some(path),
        },
    },
    Setting {
        section: Section::Camera,
        key: "width",
        doc: "Picture width in pixels, before turning and cropping; camd takes the nearest size that the camera has.",
        absent: Absent::Default("640"),
        only: &[],
        kind: Kind::Integer {
            min: DIMENSION_MIN as i64,
            max: DIMENSION_MAX as i64,
            set: |c, value| c.camera.width = value as u16,
        },
    },
    Setting {
        section: Section::Camera,
        key: "height",
        doc: "Picture height in pixels, before turning and cropping; camd takes the nearest size that the camera has.",
        absent: Absent::Default("480"),
        only: &[],
        kind: Kind::Integer {
            min: DIMENSION_MIN as i64,
            max: DIMENSION_MAX as i64,
            set: |c, value| c.camera.height = value as u16,
        },
    },
    Setting {
        section: Section::Camera,
        key: "fps",
        doc: "Pictures per second at most; camd leaves out what the camera gives beyond that.",
        absent: Absent::Default("30"),
        only: &[],
        kind: Kind::Integer {
            min: 1,
            max: FPS_MAX as i64,
            set: |c, value| c.camera.fps = value as u16,
        },
    },
    Setting {
        section: Section::Camera,
        key: "format",
        doc: "v4l2: the camera's pixel format; \"auto\": the least work at the wanted size and rate.",
        absent: Absent::Default(r#""auto""#),
        only: &[],
        kind: Kind::Choice {
            names: || {
                std::iter::once("auto")
                    .chain(CameraFormat::all().map(CameraFormat::name))
                    .collect()
            },
            // "auto" is the first name.
            set: |c, index| {
                c.camera.format = index
                    .checked_sub(1)
                    .and_then(|i| CameraFormat::all().nth(i))
            },
        },
    },
    Setting {
        section: Section::Camera,
        key: "buffers",
        doc: "v4l2: the number of capture buffers.",
        absent: Absent::Default("4"),
        only: &[],
        kind: Kind::Integer {
            min: BUFFERS_MIN as i64,
            max: BUFFERS_MAX as i64,
            set: |c, value| c.camera.buffers = value as u32,
        },
    },
    Setting {
        section: Section::Camera,
        key: "linger_s",
        doc: "How long camd keeps the camera open after the last viewer has left; 0: for ever.",
        absent: Absent::Default("5"),
        only: &[],
        kind: Kind::Seconds {
            min: 0.0,
            max: 86400.0,
            set: |c, value| c.camera.linger = (!value.is_zero()).then_some(value),
        },
    },
    Setting {
        section: Section::Camera,
        key: "settle",
        doc: "Pictures that are not shown after each start, as many cameras take the first ones dark or in wrong colours; or for how long, from the first one on.",
        absent: Absent::Default("0"),
        only: &[],
        kind: Kind::Settle {
            set: |c, settle| c.camera.settle = settle,
        },
    },
    Setting {
        section: Section::Camera,
        key: "rotate",
        doc: "Turns the picture clockwise, in degrees: in the camera if it can, else without loss if JPEG allows it, else by encoding again.",
        absent: Absent::Default("0"),
        only: &[],
        kind: Kind::Number {
            values: &[0, 90, 180, 270],
            set: |c, value| c.camera.rotate = value as u16,
        },
    },
    Setting {
        section: Section::Camera,
        key: "flip",
        doc: "Mirrors the turned picture: swaps left and right (horizontal), or top and bottom (vertical).",
        absent: Absent::Default(r#""none""#),
        only: &[],
        kind: Kind::Choice {
            names: || Flip::ALL.map(Flip::name).to_vec(),
            set: |c, index| c.camera.flip = Flip::ALL[index],
        },
    },
    Setting {
        section: Section::Camera,
        key: "crop",
        doc: "Shows this part of the turned picture only, in its pixels from the upper left corner: cropped in the camera if it can, else by camd, without loss in whole blocks (up to 15 pixels more to the left and above) where it does not encode.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Area {
            set: |c, area| c.camera.crop = Some(area),
        },
    },
    Setting {
        section: Section::Camera,
        key: "timestamp",
        doc: "Writes date, time and name into pictures that camd encodes; not into JPEGs that it passes on untouched.",
        absent: Absent::Default("false"),
        only: &[],
        kind: Kind::Boolean {
            set: |c, value| c.camera.timestamp = value,
        },
    },
    Setting {
        section: Section::Camera,
        key: "encoder",
        doc: "What makes JPEGs of raw pictures: a V4L2 memory-to-memory device (auto: if there is one; m2m: or a warning if there is none) or the processor.",
        absent: Absent::Default(r#""auto""#),
        only: &[],
        kind: Kind::Choice {
            names: || EncoderKind::ALL.map(EncoderKind::name).to_vec(),
            set: |c, index| c.camera.encoder = EncoderKind::ALL[index],
        },
    },
    Setting {
        section: Section::Camera,
        key: "controls",
        doc: "V4L2 controls that camd sets when the camera starts, in this order (some unlock others: automatic off first), and again where the camera forgets them.",
        absent: Absent::Default("{}"),
        only: &[],
        kind: Kind::Controls {
            set: |c, controls| c.camera.controls = controls,
        },
    },
    Setting {
        section: Section::Call,
        key: "dial",
        doc: "The user to call at a relay for the picture; source \"call\" needs it.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Text {
            allowed: r#""user@host:port" or "user@[IPv6]:port""#,
            set: |c, text| {
                c.call.dial = Dial::parse(text);
                c.call.dial.is_some()
            },
        },
    },
    Setting {
        section: Section::Call,
        key: "tls",
        doc: "Whether to speak TLS to that relay.",
        absent: Absent::Default("false"),
        only: &[],
        kind: Kind::Boolean {
            set: |c, value| c.call.tls = value,
        },
    },
    Setting {
        section: Section::Call,
        key: "fingerprint",
        doc: "tls: trust the relay with this certificate, and no other; not set: those for its name from issuers that this system trusts.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Text {
            allowed: Fingerprint::ALLOWED,
            set: |c, text| {
                c.call.fingerprint = Fingerprint::parse(text);
                c.call.fingerprint.is_some()
            },
        },
    },
    Setting {
        section: Section::Call,
        key: "user",
        doc: "This board's own name at the relay; not set: its host name.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Text {
            allowed: "1 to 64 characters, no control characters",
            set: |c, text| {
                c.call.user = Name::new(text);
                c.call.user.is_some()
            },
        },
    },
    Setting {
        section: Section::Call,
        key: "password",
        doc: "The relay's password; not set: none.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Password {
            set: |c, secret| c.call.password = Some(secret),
        },
    },
    Setting {
        section: Section::Call,
        key: "password_file",
        doc: "A file whose first line is the password; use it in place of password.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Path {
            set: |c, path| c.call.password_file = Some(path),
        },
    },
    Setting {
        section: Section::User,
        key: "name",
        doc: "The name with which somebody logs in at listeners with access = \"users\".",
        absent: Absent::Required,
        only: &[],
        kind: Kind::Text {
            allowed: "1 to 64 characters that are seen, no colon, no space at the ends",
            set: |c, text| match Name::new(text).filter(is_user_name) {
                Some(name) => {
                    user(c).name = name;
                    true
                }
                None => false,
            },
        },
    },
    Setting {
        section: Section::User,
        key: "password",
        doc: "The password of this user. password_hash keeps it from those who read this file.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Password {
            set: |c, secret| user(c).password = Some(secret),
        },
    },
    Setting {
        section: Section::User,
        key: "password_file",
        doc: "A file whose first line is the password; use it in place of password.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Path {
            set: |c, path| user(c).password_file = Some(path),
        },
    },
    Setting {
        section: Section::User,
        key: "password_hash",
        doc: "What `camd passwd` prints for the password; use it in place of password.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Hidden {
            allowed: PasswordHash::ALLOWED,
            set: |c, text| {
                user(c).password_hash = PasswordHash::parse(text);
                user(c).password_hash.is_some()
            },
        },
    },
    Setting {
        section: Section::User,
        key: "token",
        doc: "http: lets in whoever has it, as ?token=... in the URL or as Bearer: for pages and programs that cannot log in.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Hidden {
            allowed: Token::ALLOWED,
            set: |c, text| {
                user(c).token = Token::new(text);
                user(c).token.is_some()
            },
        },
    },
    Setting {
        section: Section::User,
        key: "may",
        doc: "What this user may do: see the pictures, change the camera's controls, update the camera box.",
        absent: Absent::Default(r#"["watch"]"#),
        only: &[],
        kind: Kind::List {
            allowed: r#""watch", "control" and "update", in a list"#,
            most: May::WORDS.len(),
            add: |c, word| user(c).may.add(word),
        },
    },
    Setting {
        section: Section::Listener,
        key: "protocol",
        doc: "What is spoken there: http for browsers, push, pull and raw for programs, call for users who call each other.",
        absent: Absent::Required,
        only: &[],
        kind: Kind::Choice {
            names: || ProtocolKind::ALL.map(ProtocolKind::name).to_vec(),
            set: |c, index| listener(c).protocol = ProtocolKind::ALL[index],
        },
    },
    Setting {
        section: Section::Listener,
        key: "bind",
        doc: "The address to listen on (0.0.0.0: every IPv4 address of this machine; port 0: any free port), or the relay at which the camera logs in, to be called there.",
        absent: Absent::Required,
        only: &[],
        kind: Kind::Text {
            allowed: r#""IPv4:port", "[IPv6]:port", "unix:/absolute/path" (107 bytes) or, call, "relay:host:port""#,
            set: |c, text| match Bind::parse(text) {
                Some(bind) => {
                    listener(c).bind = bind;
                    true
                }
                None => false,
            },
        },
    },
    Setting {
        section: Section::Listener,
        key: "tls",
        doc: "Whether this listener speaks TLS (https and the like), or camd to its relay.",
        absent: Absent::Default("false"),
        only: &[],
        kind: Kind::Boolean {
            set: |c, value| listener(c).tls = value,
        },
    },
    Setting {
        section: Section::Listener,
        key: "certificate",
        doc: "tls: a file with the certificate and those that lead to its issuer (PEM); not set: camd makes one of its own at its first start.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Path {
            set: |c, path| listener(c).certificate = Some(path),
        },
    },
    Setting {
        section: Section::Listener,
        key: "key",
        doc: "tls: a file with the certificate's key (PEM), best one for ECDSA with P-256.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Path {
            set: |c, path| listener(c).key = Some(path),
        },
    },
    Setting {
        section: Section::Listener,
        key: "fingerprint",
        doc: "call, tls, at another relay: trust the relay with this certificate, and no other; not set: those for its name from issuers that this system trusts.",
        absent: Absent::Unset,
        only: &[CALL],
        kind: Kind::Text {
            allowed: Fingerprint::ALLOWED,
            set: |c, text| {
                listener(c).fingerprint = Fingerprint::parse(text);
                listener(c).fingerprint.is_some()
            },
        },
    },
    Setting {
        section: Section::Listener,
        key: "clients",
        doc: "Connections at the same time; all listeners together have 64.",
        absent: Absent::Default("16"),
        only: &[],
        kind: Kind::Integer {
            min: 1,
            max: MAX_CLIENTS as i64,
            set: |c, value| listener(c).clients = value as usize,
        },
    },
    Setting {
        section: Section::Listener,
        key: "clients_per_address",
        doc: "Of these, connections from one address (IPv6: from one network of 64 bits), but for this board's own; not set: half of clients.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Integer {
            min: 1,
            max: MAX_CLIENTS as i64,
            set: |c, value| listener(c).clients_per_address = Some(value as usize),
        },
    },
    Setting {
        section: Section::Listener,
        key: "codec",
        doc: "raw: JPEGs one behind the other, or H.264 as a stream of bytes, which a camera (or the program of a pipe) must give.",
        absent: Absent::Default(r#""jpeg""#),
        only: &[RAW],
        kind: Kind::Choice {
            names: || StreamCodec::ALL.map(StreamCodec::name).to_vec(),
            set: |c, index| listener(c).codec = StreamCodec::ALL[index],
        },
    },
    Setting {
        section: Section::Listener,
        key: "quality",
        doc: "JPEG quality in percent; not set: the camera's own JPEG untouched, and for raw cameras http, push and raw 80, pull 50.",
        absent: Absent::By {
            variety: CALL,
            value: "30",
            others: None,
        },
        only: &[],
        kind: Kind::Integer {
            min: 1,
            max: 100,
            set: |c, value| listener(c).quality = Some(value as u8),
        },
    },
    Setting {
        section: Section::Listener,
        key: "chroma",
        doc: "How fine the colours of JPEGs are that camd makes: 4:2:0 (fewer bytes, less work) or 4:2:2; \"auto\": 4:2:0 below quality 90.",
        absent: Absent::Default(r#""auto""#),
        only: &[],
        kind: Kind::Choice {
            names: chroma_names,
            set: |c, index| listener(c).chroma = chroma(index),
        },
    },
    Setting {
        section: Section::Listener,
        key: "width",
        doc: "The largest width in pixels; larger pictures are made smaller; not set: the camera's width.",
        absent: Absent::By {
            variety: CALL,
            value: "160",
            others: None,
        },
        only: &[],
        kind: Kind::Integer {
            min: DIMENSION_MIN as i64,
            max: DIMENSION_MAX as i64,
            set: |c, value| listener(c).width = Some(value as u16),
        },
    },
    Setting {
        section: Section::Listener,
        key: "height",
        doc: "The largest height in pixels; larger pictures are made smaller; not set: the camera's height.",
        absent: Absent::By {
            variety: CALL,
            value: "120",
            others: None,
        },
        only: &[],
        kind: Kind::Integer {
            min: DIMENSION_MIN as i64,
            max: DIMENSION_MAX as i64,
            set: |c, value| listener(c).height = Some(value as u16),
        },
    },
    Setting {
        section: Section::Listener,
        key: "max_fps",
        doc: "Pictures per second for each client at most; not set: all of them.",
        absent: Absent::Unset,
        only: &[HTTP, PULL, PUSH, RAW],
        kind: Kind::Integer {
            min: 1,
            max: FPS_MAX as i64,
            set: |c, value| listener(c).max_fps = Some(value as u16),
        },
    },
    Setting {
        section: Section::Listener,
        key: "adaptive",
        doc: "Whether a client whose link cannot carry min_fps gets pictures of lower quality, and then smaller ones.",
        absent: Absent::By {
            variety: CALL,
            value: "true",
            others: Some("false"),
        },
        only: &[],
        kind: Kind::Boolean {
            set: |c, value| listener(c).adaptive = value,
        },
    },
    Setting {
        section: Section::Listener,
        key: "min_fps",
        doc: "adaptive: pictures per second that a client is to get, at most max_fps.",
        absent: Absent::Default("5"),
        only: &[],
        kind: Kind::Integer {
            min: 1,
            max: FPS_MAX as i64,
            set: |c, value| listener(c).min_fps = value as u16,
        },
    },
    Setting {
        section: Section::Listener,
        key: "access",
        doc: "http, call: who is let in: the [[user]]s, or everybody who can connect; not set: users where there is one, and open else. A call listener with a password of its own is open.",
        absent: Absent::Unset,
        only: &[HTTP, CALL],
        kind: Kind::Choice {
            names: || Access::ALL.map(Access::name).to_vec(),
            set: |c, index| listener(c).access = Access::ALL[index],
        },
    },
    Setting {
        section: Section::Listener,
        key: "allow",
        doc: "The networks from which clients may connect; not set: all.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::List {
            allowed: r#"networks such as ["192.168.0.0/16", "fd00::/8"], and single addresses (32 at most)"#,
            most: NETWORKS,
            add: |c, text| match Network::parse(text) {
                Some(network) => {
                    listener(c).allow.push(network);
                    true
                }
                None => false,
            },
        },
    },
    Setting {
        section: Section::Listener,
        key: "hosts",
        doc: "http: names of this machine in URLs, beyond its addresses, localhost and its own name alone or in the local network.",
        absent: Absent::Unset,
        only: &[HTTP],
        kind: Kind::List {
            allowed: r#"host names such as ["camera.example.org"], without a port (32 at most)"#,
            most: HOSTS,
            add: |c, text| match host(text) {
                Some(name) => {
                    listener(c).hosts.push(name);
                    true
                }
                None => false,
            },
        },
    },
    Setting {
        section: Section::Listener,
        key: "trusted_proxies",
        doc: "http: the reverse proxies that say who has asked them, and under which name (X-Forwarded-For, X-Forwarded-Host); not set: none.",
        absent: Absent::Unset,
        only: &[HTTP],
        kind: Kind::List {
            allowed: r#"addresses and networks such as ["127.0.0.1", "10.0.0.0/8"] (32 at most)"#,
            most: NETWORKS,
            add: |c, text| match Network::parse(text) {
                Some(network) => {
                    listener(c).trusted_proxies.push(network);
                    true
                }
                None => false,
            },
        },
    },
    Setting {
        section: Section::Listener,
        key: "embed",
        doc: "http: whether web pages of other sites may show the pictures (<img>, frames).",
        absent: Absent::Default("true"),
        only: &[HTTP],
        kind: Kind::Boolean {
            set: |c, value| listener(c).embed = value,
        },
    },
    Setting {
        section: Section::Listener,
        key: "allow_origin",
        doc: "http: the web pages of other sites whose scripts may read pictures and state (CORS); not set: none.",
        absent: Absent::Unset,
        only: &[HTTP],
        kind: Kind::Text {
            allowed: r#""*" or one "scheme://host[:port]", without a path"#,
            set: |c, text| {
                listener(c).allow_origin = Some(text.to_owned());
                is_allow_origin(text)
            },
        },
    },
    Setting {
        section: Section::Listener,
        key: "set_controls",
        doc: "http: whether viewers may change the camera's controls (POST /controls): users with \"control\" in may, or with access = \"open\" those on this board.",
        absent: Absent::Default("true"),
        only: &[HTTP],
        kind: Kind::Boolean {
            set: |c, value| listener(c).set_controls = value,
        },
    },
    Setting {
        section: Section::Listener,
        key: "base_path",
        doc: "http: the path below which a reverse proxy serves this listener, if the proxy leaves it in front of the paths.",
        absent: Absent::Default(r#""/""#),
        only: &[HTTP],
        kind: Kind::Text {
            allowed: r#""/path" of letters, digits, "-", ".", "_", "~" and "/" (128 bytes)"#,
            set: |c, text| match base_path(text) {
                Some(path) => {
                    listener(c).base_path = path;
                    true
                }
                None => false,
            },
        },
    },
    Setting {
        section: Section::Listener,
        key: "user",
        doc: "call: the camera's name among the users, also at another relay; a user who calls it gets its picture.",
        absent: Absent::Default(r#""camera""#),
        only: &[CALL],
        kind: Kind::Text {
            allowed: "1 to 64 characters that are seen, no space at the ends",
            set: |c, text| match Name::new(text).filter(|name| name.flaw().is_none()) {
                Some(name) => {
                    listener(c).user = name;
                    true
                }
                None => false,
            },
        },
    },
    Setting {
        section: Section::Listener,
        key: "password",
        doc: "call: the password of this relay, or of the other relay at which camd logs in; not set: none, and access says who may log in.",
        absent: Absent::Unset,
        only: &[CALL],
        kind: Kind::Password {
            set: |c, secret| listener(c).password = Some(secret),
        },
    },
    Setting {
        section: Section::Listener,
        key: "password_file",
        doc: "call: a file whose first line is the password; use it in place of password.",
        absent: Absent::Unset,
        only: &[CALL],
        kind: Kind::Path {
            set: |c, path| listener(c).password_file = Some(path),
        },
    },
    Setting {
        section: Section::Listener,
        key: "calls",
        doc: "call: users in a call with the camera at the same time.",
        absent: Absent::Default("4"),
        only: &[CALL],
        kind: Kind::Integer {
            min: 1,
            max: MAX_CLIENTS as i64,
            set: |c, value| listener(c).calls = value as usize,
        },
    },
    Setting {
        section: Section::Listener,
        key: "fps",
        doc: "call: pictures per second in each call with the camera, at most.",
        absent: Absent::Default("5"),
        only: &[CALL],
        kind: Kind::Integer {
            min: 1,
            max: FPS_MAX as i64,
            set: |c, value| listener(c).max_fps = Some(value as u16),
        },
    },
    Setting {
        section: Section::Sink,
        key: "kind",
        doc: "What programs on this board read: Qt's shared memory, or a ring of pictures in shared memory with wake-ups.",
        absent: Absent::Required,
        only: &[],
        kind: Kind::Choice {
            names: || SinkKind::ALL.map(SinkKind::name).to_vec(),
            set: |c, index| sink(c).kind = SinkKind::ALL[index],
        },
    },
    Setting {
        section: Section::Sink,
        key: "key",
        doc: "qt-shm: the key that programs give their QSharedMemory.",
        absent: Absent::Default(r#""169254""#),
        only: &[QT_SHM],
        kind: Kind::Text {
            allowed: "1 to 64 characters",
            set: |c, text| {
                sink(c).key = text.to_owned();
                is_shm_key(text)
            },
        },
    },
    Setting {
        section: Section::Sink,
        key: "socket",
        doc: "memfd: the Unix socket where readers get the memory.",
        absent: Absent::Default(r#""/run/camd/frames.sock""#),
        only: &[MEMFD],
        kind: Kind::Text {
            allowed: "an absolute path of at most 107 bytes",
            set: |c, text| {
                sink(c).socket = PathBuf::from(text);
                is_socket_path(text)
            },
        },
    },
    Setting {
        section: Section::Sink,
        key: "mode",
        doc: "The programs that may read: 0o600 those of camd's own user, 0o660 those of its group too, 0o666 all.",
        absent: Absent::Default("0o600"),
        only: &[],
        kind: Kind::Mode {
            values: &[0o600, 0o660, 0o666],
            set: |c, value| sink(c).mode = value,
        },
    },
    Setting {
        section: Section::Sink,
        key: "format",
        doc: "memfd: JPEGs, pictures as the camera gives them (raw), pixels, or H.264.",
        absent: Absent::Default(r#""jpeg""#),
        only: &[MEMFD],
        kind: Kind::Choice {
            names: || SinkFormat::ALL.map(SinkFormat::name).to_vec(),
            set: |c, index| sink(c).format = SinkFormat::ALL[index],
        },
    },
    Setting {
        section: Section::Sink,
        key: "quality",
        doc: "memfd, jpeg: JPEG quality in percent; not set: the camera's own JPEG untouched, and for raw cameras 80.",
        absent: Absent::Unset,
        only: &[MEMFD],
        kind: Kind::Integer {
            min: 1,
            max: 100,
            set: |c, value| sink(c).quality = Some(value as u8),
        },
    },
    Setting {
        section: Section::Sink,
        key: "chroma",
        doc: "memfd, jpeg: as a listener's.",
        absent: Absent::Default(r#""auto""#),
        only: &[MEMFD],
        kind: Kind::Choice {
            names: chroma_names,
            set: |c, index| sink(c).chroma = chroma(index),
        },
    },
    Setting {
        section: Section::Sink,
        key: "width",
        doc: "The largest width in pixels; larger pictures are made smaller; not set: the camera's width.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Integer {
            min: DIMENSION_MIN as i64,
            max: DIMENSION_MAX as i64,
            set: |c, value| sink(c).width = Some(value as u16),
        },
    },
    Setting {
        section: Section::Sink,
        key: "height",
        doc: "The largest height in pixels; larger pictures are made smaller; not set: the camera's height.",
        absent: Absent::Unset,
        only: &[],
        kind: Kind::Integer {
            min: DIMENSION_MIN as i64,
            max: DIMENSION_MAX as i64,
            set: |c, value| sink(c).height = Some(value as u16),
        },
    },
    Setting {
        section: Section::Sink,
        key: "fps",
        doc: "Pictures per second at most; not set: all of them.",
        absent: Absent::By {
            variety: QT_SHM,
            value: "5",
            others: None,
        },
        only: &[],
        kind: Kind::Integer {
            min: 1,
            max: FPS_MAX as i64,
            set: |c, value| sink(c).fps = Some(value as u16),
        },
    },
    Setting {
        section: Section::Sink,
        key: "slots",
        doc: "memfd: the number of pictures in the memory; a picture stays until all other slots have newer ones.",
        absent: Absent::Default("4"),
        only: &[MEMFD],
        kind: Kind::Integer {
            min: SINK_SLOTS_MIN as i64,
            max: SINK_SLOTS_MAX as i64,
            set: |c, value| sink(c).slots = value as usize,
        },
    },
    Setting {
        section: Section::Sink,
        key: "readers",
        doc: "memfd: readers at the same time.",
        absent: Absent::Default("8"),
        only: &[MEMFD],
        kind: Kind::Integer {
            min: 1,
            max: SINK_READERS_MAX as i64,
            set: |c, value| sink(c).readers = value as usize,
        },
    },
    Setting {
        section: Section::Neighbour,
        key: "name",
        doc: "What the page calls the other camera.",
        absent: Absent::Required,
        only: &[],
        kind: Kind::Text {
            allowed: "1 to 32 characters, no control characters",
            set: |c, text| {
                neighbour(c).name = text.to_owned();
                (1..=NEIGHBOUR_NAME).contains(&text.chars().count())
                    && !text.chars().any(char::is_control)
            },
        },
    },
    Setting {
        section: Section::Neighbour,
        key: "url",
        doc: "Its page: a whole URL, or for the same host a port (:8081) or a path (/garage/).",
        absent: Absent::Required,
        only: &[],
        kind: Kind::Text {
            allowed: "http://…, https://…, :PORT, :PORT/PATH or /PATH, at most 128 bytes",
            set: |c, text| {
                neighbour(c).url = text.to_owned();
                is_neighbour_url(text)
            },
        },
    },
    Setting {
        section: Section::Limits,
        key: "frame_bytes",
        doc: "The largest JPEG in bytes; camd drops larger ones. Each client has a buffer of this size.",
        absent: Absent::Default("1048576"),
        only: &[],
        kind: Kind::Integer {
            min: FRAME_BYTES_MIN as i64,
            max: FRAME_BYTES_MAX as i64,
            set: |c, value| c.limits.frame_bytes = value as usize,
        },
    },
    Setting {
        section: Section::Limits,
        key: "cells",
        doc: "Processes that decode and encode pictures, apart from camd itself and with next to no rights; 0: camd does it itself.",
        absent: Absent::Default("\"auto\""),
        only: &[],
        kind: Kind::Count {
            max: CELLS_MAX as i64,
            set: |c, value| {
                c.limits.cells = match value {
                    Some(number) => CellCount::Number(number as usize),
                    None => CellCount::Auto,
                };
            },
        },
    },
    Setting {
        section: Section::Limits,
        key: "ack_timeout_s",
        doc: "pull: camd closes a client that has not acknowledged a part for that long.",
        absent: Absent::Default("10"),
        only: &[],
        kind: Kind::Seconds {
            min: TIMEOUT_MIN,
            max: TIMEOUT_MAX,
            set: |c, value| c.limits.ack_timeout = value,
        },
    },
    Setting {
        section: Section::Limits,
        key: "write_timeout_s",
        doc: "camd closes a client that has taken no byte of its picture for that long.",
        absent: Absent::Default("10"),
        only: &[],
        kind: Kind::Seconds {
            min: TIMEOUT_MIN,
            max: TIMEOUT_MAX,
            set: |c, value| c.limits.write_timeout = value,
        },
    },
    Setting {
        section: Section::Limits,
        key: "head_timeout_s",
        doc: "http: camd closes a client that has not sent a whole request head within that time.",
        absent: Absent::Default("5"),
        only: &[],
        kind: Kind::Seconds {
            min: TIMEOUT_MIN,
            max: TIMEOUT_MAX,
            set: |c, value| c.limits.head_timeout = value,
        },
    },
    Setting {
        section: Section::Limits,
        key: "sandbox",
        doc: "Whether camd gives up all rights that it does not need, as soon as it has started.",
        absent: Absent::Default("true"),
        only: &[],
        kind: Kind::Boolean {
            set: |c, value| c.limits.sandbox = value,
        },
    },
];
