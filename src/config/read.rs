//! The walk over a parsed file: along the rows, then what concerns several keys.
//!
//! Reading goes on after an error, with a neutral value in the wrong one's place, so that one run finds them all.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::address::{Address, Bind};
use super::error::{ConfigError, line_at, nearest};
use super::secret::Secret;
use super::sections::{
    CallConfig, CameraConfig, CellCount, Config, EncoderKind, Flip, LimitsConfig, ListenerConfig,
    NeighbourConfig, Settle, SinkConfig, SinkFormat, SinkKind, SourceKind, StreamCodec, UserConfig,
};
use super::setting::{Absent, Kind, SETTINGS, Section, Setting, Variety, is_path};
use super::url::{self, Url};
use crate::limits::{
    DIMENSION_MAX, DIMENSION_MIN, MAX_CLIENTS, MAX_LISTENERS, MAX_NEIGHBOURS, MAX_SINKS, MAX_USERS,
    RUNGS,
};
use crate::picture::frame::Area;
use crate::protocol::ProtocolKind;
use crate::protocol::call::Name;
use crate::protocol::user::{Access, May};
use crate::tls::identity::{self as tls, Identity};

/// A file without `[[listener]]` sections has this one.
const DEFAULT_LISTENER: &str = r#"
protocol = "http"
bind = "0.0.0.0:8080"
"#;

pub(super) fn read(text: &str, file: &str) -> Result<Config, Vec<ConfigError>> {
    let mut reader = Reader {
        text,
        file,
        config: neutral(),
        errors: Vec::new(),
    };
    let (root, syntax_errors) = DeTable::parse_recoverable(text);
    if syntax_errors.is_empty() {
        reader.root(root.get_ref());
    } else {
        // toml 1.2 recovers from most errors, but gives up the rest of the file at a key without "=". It gets a second
        // look, without the lines it stumbled over.
        let syntax_errors = reader.syntax(&syntax_errors);
        let rest = without_lines(text, &syntax_errors);
        let (root, more) = DeTable::parse_recoverable(&rest);
        reader.root(root.get_ref());
        let more = reader.syntax(&more);
        reader.doubt(syntax_errors.into_iter().chain(more));
    }
    if reader.errors.is_empty() {
        Ok(reader.config)
    } else {
        // Stable: the errors of one line stay in the order they were found in.
        reader.errors.sort_by_key(|e| e.line);
        Err(reader.errors)
    }
}

/// The text with the lines of these errors blank; every byte that is left keeps its offset. With a wrong header goes
/// all of its section, as its keys would seem to belong to the section before.
fn without_lines(text: &str, errors: &[ConfigError]) -> String {
    let wrong: BTreeSet<_> = errors.iter().filter_map(|e| e.line).collect();
    let mut section = false;
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let wrong = wrong.contains(&(index + 1));
        if line.trim_start().starts_with('[') {
            section = wrong;
        }
        if wrong || section {
            out.extend(line.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
        } else {
            out += line;
        }
    }
    out
}

/// What stands in a field until its key has been read. No check between keys complains of these values, so that a
/// wrong value has no second error in its wake.
fn neutral() -> Config {
    Config {
        camera: CameraConfig {
            name: String::new(),
            source: SourceKind::V4l2,
            device: PathBuf::new(),
            command: Vec::new(),
            path: None,
            key: String::new(),
            address: None,
            url: None,
            tls: false,
            fingerprint: None,
            user: None,
            password: None,
            password_file: None,
            width: 0,
            height: 0,
            fps: 0,
            format: None,
            buffers: 0,
            linger: None,
            settle: Settle::Pictures(0),
            rotate: 0,
            flip: Flip::None,
            crop: None,
            timestamp: false,
            encoder: EncoderKind::Auto,
            controls: Vec::new(),
        },
        call: CallConfig::default(),
        users: Vec::new(),
        listeners: Vec::new(),
        sinks: Vec::new(),
        neighbours: Vec::new(),
        limits: LimitsConfig {
            frame_bytes: 0,
            cells: CellCount::Auto,
            ack_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            head_timeout: Duration::ZERO,
            sandbox: true,
        },
    }
}

fn neutral_listener() -> ListenerConfig {
    ListenerConfig {
        // http knows every key, port 0 collides with nothing.
        protocol: ProtocolKind::Http,
        bind: Bind::Tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
        tls: false,
        certificate: None,
        key: None,
        identity: None,
        fingerprint: None,
        clients: 0,
        clients_per_address: None,
        codec: StreamCodec::Jpeg,
        quality: None,
        chroma: None,
        width: None,
        height: None,
        max_fps: None,
        adaptive: false,
        min_fps: 0,
        access: Access::Open,
        allow: Vec::new(),
        hosts: Vec::new(),
        trusted_proxies: Vec::new(),
        embed: true,
        allow_origin: None,
        set_controls: true,
        base_path: "/".to_owned(),
        user: Name::new("camera").expect("it is one"),
        password: None,
        password_file: None,
        calls: 0,
    }
}

fn neutral_user() -> UserConfig {
    UserConfig {
        name: Name::new("user").expect("it is one"),
        password: None,
        password_file: None,
        password_hash: None,
        token: None,
        may: May::default(),
    }
}

fn neutral_sink() -> SinkConfig {
    SinkConfig {
        kind: SinkKind::Memfd,
        key: String::new(),
        socket: PathBuf::new(),
        mode: 0,
        format: SinkFormat::Jpeg,
        quality: None,
        chroma: None,
        width: None,
        height: None,
        fps: None,
        slots: 0,
        readers: 0,
    }
}

struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    config: Config,
    errors: Vec<ConfigError>,
}

/// What is wrong with one value: where (an element of it may have a line of its own), which, and what.
struct Wrong {
    at: usize,
    /// Appended to the key's name.
    below: String,
    what: String,
}

impl Reader<'_> {
    fn error(&mut self, at: usize, key: impl Into<String>, message: impl Into<String>) {
        self.errors.push(ConfigError {
            file: self.file.to_owned(),
            line: Some(line_at(self.text.as_bytes(), at)),
            // A quoted key may contain anything; an error is one line.
            key: Some(key.into().replace(char::is_control, "?")),
            message: message.into(),
        });
    }

    fn failed(&self, key: &str) -> bool {
        self.errors.iter().any(|e| e.key.as_deref() == Some(key))
    }

    fn syntax(&self, errors: &[toml::de::Error]) -> Vec<ConfigError> {
        let error = |e: &toml::de::Error| {
            let at = e.span().map_or(0, |span| span.start);
            ConfigError {
                file: self.file.to_owned(),
                line: Some(line_at(self.text.as_bytes(), at)),
                key: None,
                message: format!("not valid TOML: {}", e.message()),
            }
        };
        errors.iter().map(error).collect()
    }

    /// The text is not all TOML: what seems to be missing may be there. One complaint of a line is enough.
    fn doubt(&mut self, syntax_errors: impl Iterator<Item = ConfigError>) {
        self.errors.retain(|e| !e.message.starts_with(MISSING));
        let mut lines = BTreeSet::new();
        self.errors
            .extend(syntax_errors.filter(|e| lines.insert(e.line)));
    }

    fn root(&mut self, root: &DeTable<'_>) {
        for (name, value) in root.iter() {
            if !Section::ALL.iter().any(|s| s.name() == name.get_ref()) {
                let at = name.span().start;
                self.error(at, name.get_ref().as_ref(), unknown_section(name.get_ref()));
            } else if name.get_ref() == Section::Listener.name() {
                self.listeners(value);
            } else if name.get_ref() == Section::User.name() {
                self.users(value);
            } else if name.get_ref() == Section::Sink.name() {
                self.sinks(value);
            } else if name.get_ref() == Section::Neighbour.name() {
                let begin =
                    |config: &mut Config| config.neighbours.push(NeighbourConfig::default());
                self.several(Section::Neighbour, value, MAX_NEIGHBOURS, begin);
            }
        }
        self.single(Section::Camera, root);
        self.single(Section::Call, root);
        self.single(Section::Limits, root);
        if !root.contains_key(Section::Listener.name()) {
            self.config.listeners.push(neutral_listener());
            let table = built_in_table(DEFAULT_LISTENER);
            self.section(Section::Listener, &table, 0);
        }
        self.access(root);
        self.camera_needs(root);
        self.call(root);
        self.renditions_fit(root);
    }

    fn single(&mut self, section: Section, root: &DeTable<'_>) {
        let Some(value) = root.get(section.name()) else {
            self.section(section, &DeTable::new(), 0);
            return;
        };
        let at = value.span().start;
        match value.get_ref() {
            DeValue::Table(table) => self.section(section, table, at),
            other => {
                let what = format!(
                    "found {}; allowed: a section {}",
                    kind_of(other),
                    section.header()
                );
                self.error(at, section.name(), what);
            }
        }
    }

    /// Every key of one section, into the configuration (a listener's into the last).
    fn section(&mut self, section: Section, table: &DeTable<'_>, at: usize) {
        for name in table.keys() {
            let known = section.settings().any(|s| s.key == name.get_ref());
            if !known {
                let key = format!("{}.{}", section.name(), name.get_ref());
                self.error(name.span().start, key, unknown_key(section, name.get_ref()));
            }
        }
        for setting in section.settings() {
            let key = format!("{}.{}", section.name(), setting.key);
            match (table.get(setting.key), setting.absent) {
                (Some(value), _) => {
                    for wrong in set(setting, &mut self.config, value)
                        .err()
                        .unwrap_or_default()
                    {
                        let way_out = way_out(setting, value.get_ref());
                        let what = format!("{}{way_out}; allowed: {}", wrong.what, setting.kind);
                        self.error(wrong.at, format!("{key}{}", wrong.below), what);
                    }
                }
                (None, _) if !setting.is_for(self.variety(section)) => {}
                (
                    None,
                    Absent::By {
                        variety,
                        value: default,
                        others: _,
                    },
                ) if self.variety(section) == Some(variety) => {
                    self.default(setting, default);
                }
                (
                    None,
                    Absent::Default(default)
                    | Absent::By {
                        others: Some(default),
                        ..
                    },
                ) => self.default(setting, default),
                (None, Absent::Unset | Absent::By { others: None, .. }) => {}
                (None, Absent::Required) => {
                    self.error(at, key, format!("{MISSING}; allowed: {}", setting.kind));
                }
            }
        }
    }

    fn default(&mut self, setting: &Setting, default: &str) {
        let key = setting.key;
        let value =
            DeValue::parse(default).unwrap_or_else(|e| panic!("built-in default of {key}: {e}"));
        let result = set(setting, &mut self.config, &value);
        assert!(result.is_ok(), "built-in default of {key} is refused");
    }

    /// Of the section that is being read: the key that says it is its first row.
    fn variety(&self, section: Section) -> Option<Variety> {
        match section {
            Section::Listener => {
                let listener = self.config.listeners.last()?;
                Some(Variety::Protocol(listener.protocol))
            }
            Section::Sink => self
                .config
                .sinks
                .last()
                .map(|sink| Variety::Sink(sink.kind)),
            Section::Camera
            | Section::Call
            | Section::User
            | Section::Neighbour
            | Section::Limits => None,
        }
    }

    /// The sections of a header that may occur several times, read one after the other; each with its place and text.
    fn several<'t>(
        &mut self,
        section: Section,
        value: &'t Spanned<DeValue<'t>>,
        most: usize,
        mut begin: impl FnMut(&mut Config),
    ) -> Vec<(usize, &'t DeTable<'t>)> {
        let (name, header) = (section.name(), section.header());
        let mut read = Vec::new();
        let DeValue::Array(sections) = value.get_ref() else {
            let what = format!(
                "found {}; allowed: sections {header}, in double brackets",
                kind_of(value.get_ref())
            );
            self.error(value.span().start, name, what);
            return read;
        };
        if sections.is_empty() {
            let what = format!("none; allowed: 1 to {most} sections {header}");
            self.error(value.span().start, name, what);
        }
        for (index, one) in sections.iter().enumerate() {
            let at = one.span().start;
            let DeValue::Table(table) = one.get_ref() else {
                let what = format!(
                    "found {}; allowed: sections {header}",
                    kind_of(one.get_ref())
                );
                self.error(at, name, what);
                continue;
            };
            if index == most {
                let what = format!("too many sections; allowed: at most {most}");
                self.error(at, name, what);
            }
            begin(&mut self.config);
            self.section(section, table, at);
            if let Some(variety) = self.variety(section) {
                self.only(section, variety, table);
            }
            read.push((at, table));
        }
        read
    }

    fn listeners(&mut self, value: &Spanned<DeValue<'_>>) {
        let begin = |config: &mut Config| config.listeners.push(neutral_listener());
        let read = self.several(Section::Listener, value, MAX_LISTENERS, begin);
        let mut listeners = std::mem::take(&mut self.config.listeners);
        for (this, (at, table)) in listeners.iter_mut().zip(&read) {
            let place = |key: &str| table.get(key).map_or(*at, |value| value.span().start);
            if let Bind::Relay(_) = this.bind {
                // The connection to the relay.
                this.clients = 1;
                if this.protocol != ProtocolKind::Call && !self.failed("listener.protocol") {
                    let what = format!(
                        "{:?} means nothing for protocol {:?}; allowed: with \"call\" only",
                        this.bind.to_string(),
                        this.protocol.name()
                    );
                    self.error(place("bind"), "listener.bind", what);
                }
                for key in ["clients", "clients_per_address"] {
                    if table.contains_key(key) {
                        let what = "means nothing where camd does not listen; leave it out";
                        self.error(place(key), format!("listener.{key}"), what);
                    }
                }
            }
            self.tls(this, table, place);
            if this.is_for_h264() {
                let keys = [
                    "quality", "chroma", "width", "height", "max_fps", "adaptive", "min_fps",
                ];
                for key in keys.into_iter().filter(|key| table.contains_key(*key)) {
                    let what = "means nothing for codec \"h264\", which is passed on as it comes; allowed: with \"jpeg\" only";
                    self.error(place(key), format!("listener.{key}"), what);
                }
            }
            let file = this.password_file.as_deref();
            self.password(Section::Listener.name(), place, &mut this.password, file);
        }
        self.together(&listeners, &read);
        self.config.listeners = listeners;
    }

    fn users(&mut self, value: &Spanned<DeValue<'_>>) {
        let section = Section::User.name();
        let begin = |config: &mut Config| config.users.push(neutral_user());
        let read = self.several(Section::User, value, MAX_USERS, begin);
        let mut users = std::mem::take(&mut self.config.users);
        for (index, (at, table)) in read.iter().enumerate() {
            let (before, rest) = users.split_at_mut(index);
            let this = &mut rest[0];
            let place = |key: &str| table.get(key).map_or(*at, |value| value.span().start);
            if !self.failed("user.name")
                && before
                    .iter()
                    .any(|other| other.name.looks() == this.name.looks())
            {
                let what = format!(
                    "{:?} looks like another user's; allowed: each once",
                    this.name.as_str()
                );
                self.error(place("name"), "user.name", what);
            }
            if this.token.is_some() && before.iter().any(|other| other.token == this.token) {
                let what = "is another user's; allowed: each once";
                self.error(place("token"), "user.token", what);
            }
            let hash = "password_hash";
            if table.contains_key(hash) {
                let other = ["password", "password_file"];
                if let Some(other) = other.into_iter().find(|key| table.contains_key(*key)) {
                    let what = format!("there is a {other}, too; allowed: one of the two");
                    self.error(place(hash), "user.password_hash", what);
                }
            }
            let file = this.password_file.as_deref();
            self.password(section, place, &mut this.password, file);
            let proofs = ["password", "password_file", hash, "token"];
            if !proofs.into_iter().any(|key| table.contains_key(key)) {
                let what = format!(
                    "{MISSING}; allowed: password, password_file, password_hash (as `camd passwd` prints it) or token"
                );
                self.error(*at, "user.password", what);
            }
            if let Some(may) = table.get("may")
                && this.may == May::default()
                && !self.failed("user.may")
            {
                let what = "is empty; allowed: \"watch\", \"control\" and \"update\", in a list";
                self.error(may.span().start, "user.may", what);
            }
        }
        self.config.users = users;
    }

    /// Who is let in, now that the users are known.
    fn access(&mut self, root: &DeTable<'_>) {
        let has_users = root.contains_key(Section::User.name());
        let none = Vec::new();
        let sections = match root.get(Section::Listener.name()).map(Spanned::get_ref) {
            Some(DeValue::Array(sections)) => sections.iter().collect(),
            _ => none,
        };
        let mut listeners = std::mem::take(&mut self.config.listeners);
        let tables = sections.into_iter().filter_map(|one| match one.get_ref() {
            DeValue::Table(table) => Some((one.span().start, table)),
            _ => None,
        });
        let tables: Vec<_> = tables.collect();
        for (index, this) in listeners.iter_mut().enumerate() {
            let (at, table) = match tables.get(index) {
                Some((at, table)) => (*at, Some(*table)),
                // The one of a file that has none.
                None => (0, None),
            };
            let value = |key: &str| table.and_then(|table| table.get(key));
            let place = |key: &str| value(key).map_or(at, |value| value.span().start);
            let is_relay = matches!(this.bind, Bind::Relay(_));
            let logs_in = matches!(this.protocol, ProtocolKind::Http | ProtocolKind::Call);
            let own = value("password").is_some() || value("password_file").is_some();
            if value("access").is_none() {
                this.access = match has_users && logs_in && !own && !is_relay {
                    true => Access::Users,
                    false => Access::Open,
                };
            } else if is_relay {
                let what = "means nothing where camd does not listen; leave it out";
                self.error(place("access"), "listener.access", what);
            } else if this.access == Access::Users && !has_users {
                let what = "\"users\", and there is no [[user]]; allowed: add one (`camd passwd` helps), or \"open\"";
                self.error(place("access"), "listener.access", what);
            } else if this.access == Access::Users && own {
                let key = ["password", "password_file"]
                    .into_iter()
                    .find(|key| value(key).is_some());
                let key = key.expect("one of them is there");
                let what =
                    "access = \"users\" has a password for each user; allowed: one of the two";
                self.error(place(key), format!("listener.{key}"), what);
            }
            if !this.allow.is_empty() && !matches!(this.bind, Bind::Tcp(_)) {
                let what = match is_relay {
                    true => "means nothing where camd does not listen; leave it out",
                    false => {
                        "means nothing for a Unix socket, whose file says who may connect; leave it out"
                    }
                };
                self.error(place("allow"), "listener.allow", what);
            }
        }
        self.config.listeners = listeners;
    }

    /// What holds between the keys of TLS; and the files that they name are read.
    fn tls(
        &mut self,
        this: &mut ListenerConfig,
        table: &DeTable<'_>,
        place: impl Fn(&str) -> usize,
    ) {
        let mut wrong = |key: &str, what: String| {
            let name = format!("listener.{key}");
            if !self.failed(&name) {
                self.error(place(key), name, what);
            }
        };
        if this.tls && matches!(this.bind, Bind::Unix(_)) {
            let what =
                "means nothing for a Unix socket, which does not leave this machine; leave it out";
            wrong("tls", what.to_owned());
        }
        let serves = this.tls && !matches!(this.bind, Bind::Relay(_));
        if table.contains_key("fingerprint") && (serves || !this.tls) {
            let what = match serves {
                true => "means nothing where camd listens: it is for a relay; leave it out",
                false => NO_TLS,
            };
            wrong("fingerprint", what.to_owned());
        }
        let idle = ["certificate", "key"].into_iter();
        for key in idle.filter(|key| !serves && table.contains_key(*key)) {
            let what = match this.tls {
                false => NO_TLS,
                true => "means nothing where camd does not listen; leave it out",
            };
            wrong(key, what.to_owned());
        }
        if !serves {
            return;
        }
        match (&this.certificate, &this.key) {
            (None, None) => {}
            (Some(_), None) => wrong(
                "key",
                format!(
                    "{MISSING}, certificate needs it; allowed: the path of the certificate's key"
                ),
            ),
            (None, Some(_)) => wrong(
                "certificate",
                format!(
                    "{MISSING}, key needs it; allowed: the path of the certificate of this key"
                ),
            ),
            (Some(certificate), Some(key)) => match Identity::load(certificate, key) {
                Ok(identity) => this.identity = Some(identity),
                Err(tls::Wrong::Certificate(what)) => {
                    wrong("certificate", format!("{} {what}", certificate.display()));
                }
                Err(tls::Wrong::Key(what)) => wrong("key", format!("{} {what}", key.display())),
            },
        }
    }

    /// What the listeners share: addresses and client slots. `read` has the place and the text of each.
    fn together(&mut self, listeners: &[ListenerConfig], read: &[(usize, &DeTable<'_>)]) {
        let mut clients = 0;
        for (index, (this, (at, table))) in listeners.iter().zip(read).enumerate() {
            let place = |key: &str| table.get(key).map_or(*at, |value| value.span().start);

            let mut before = listeners[..index].iter();
            if let Some(other) = before.find(|other| other.bind.collides(&this.bind)) {
                let what = format!(
                    "{:?} is taken by another listener ({:?}); allowed: each address and port once",
                    this.bind.to_string(),
                    other.bind.to_string()
                );
                self.error(place("bind"), "listener.bind", what);
            }

            // The default gives way.
            if table.contains_key("min_fps")
                && let Some(max_fps) = this.max_fps
                && this.min_fps > max_fps
            {
                let what = format!(
                    "{} is more than this listener's max_fps; allowed: 1 to {max_fps}",
                    this.min_fps
                );
                self.error(place("min_fps"), "listener.min_fps", what);
            }

            let within = clients <= MAX_CLIENTS;
            clients += this.clients;
            if within && clients > MAX_CLIENTS {
                let what = format!(
                    "{clients} in all listeners so far; allowed: at most {MAX_CLIENTS} in all"
                );
                self.error(place("clients"), "listener.clients", what);
            }
        }
    }

    fn sinks(&mut self, value: &Spanned<DeValue<'_>>) {
        let begin = |config: &mut Config| config.sinks.push(neutral_sink());
        let read = self.several(Section::Sink, value, MAX_SINKS, begin);
        let sinks = std::mem::take(&mut self.config.sinks);
        for (index, (this, (at, table))) in sinks.iter().zip(&read).enumerate() {
            let place = |key: &str| table.get(key).map_or(*at, |value| value.span().start);
            let mut before = sinks[..index].iter();
            if before.any(|other| other.kind == this.kind && other.place() == this.place()) {
                let key = match this.kind {
                    SinkKind::QtShm => "key",
                    SinkKind::Memfd => "socket",
                };
                let what = format!("is another sink's; allowed: each {key} once");
                self.error(place(key), format!("sink.{key}"), what);
            }
            // The listeners have been read: sections come in the order of their names.
            let taken = |bind: &Bind| matches!(bind, Bind::Unix(path) if *path == this.socket);
            if this.kind == SinkKind::Memfd && self.config.listeners.iter().any(|l| taken(&l.bind))
            {
                let what = "is a listener's; allowed: each socket once";
                self.error(place("socket"), "sink.socket", what);
            }
            let mut idle = |key: &str, formats: &str| {
                if table.contains_key(key) {
                    let what = format!(
                        "means nothing for format {:?}; allowed: with {formats} only",
                        this.format.name()
                    );
                    self.error(place(key), format!("sink.{key}"), what);
                }
            };
            if this.format != SinkFormat::Jpeg {
                idle("quality", "\"jpeg\"");
                idle("chroma", "\"jpeg\"");
            }
            if matches!(this.format, SinkFormat::Raw | SinkFormat::H264) {
                idle("width", "the others");
                idle("height", "the others");
            }
            if this.format == SinkFormat::H264 {
                idle("fps", "the others");
            }
        }
        self.config.sinks = sinks;
    }

    /// The JPEGs of one picture share an address space that is small on some boards.
    fn renditions_fit(&mut self, root: &DeTable<'_>) {
        let (bytes, max) = (
            self.config.limits.frame_bytes,
            self.config.frame_bytes_max(),
        );
        let limits = root.get(Section::Limits.name()).map(Spanned::get_ref);
        if let Some(DeValue::Table(limits)) = limits
            && let Some(value) = limits.get("frame_bytes")
            && bytes > max
            && self.config.listeners.len() <= MAX_LISTENERS
        {
            let what = format!(
                "{bytes} is too much for the {} different JPEGs that these listeners and sinks can need of a picture, {RUNGS} for \
                 each adaptive one; allowed: at most {max}, or fewer adaptive listeners",
                self.config.renditions()
            );
            self.error(value.span().start, "limits.frame_bytes", what);
        }
    }

    /// Keys that mean nothing for the variety of their section.
    fn only(&mut self, section: Section, variety: Variety, table: &DeTable<'_>) {
        for setting in section.settings() {
            let Some(value) = table.get(setting.key) else {
                continue;
            };
            if !setting.is_for(Some(variety)) {
                let only: Vec<_> = setting
                    .only
                    .iter()
                    .map(|only| format!("{:?}", only.name()))
                    .collect();
                let what = format!(
                    "means nothing for {} {:?}; allowed: with {} only",
                    variety.key(),
                    variety.name(),
                    only.join(", ")
                );
                let key = format!("{}.{}", section.name(), setting.key);
                self.error(value.span().start, key, what);
            }
        }
    }

    /// A password, of which there may be one or a file with one.
    fn password(
        &mut self,
        section: &str,
        place: impl Fn(&str) -> usize,
        password: &mut Option<Secret>,
        file: Option<&Path>,
    ) {
        let (key, at) = (format!("{section}.password_file"), place("password_file"));
        let Some(file) = file.filter(|_| !self.failed(&key)) else {
            return;
        };
        if password.is_some() {
            let what = "there is a password, too; allowed: one of the two";
            return self.error(at, key, what);
        }
        match Secret::from_file(file) {
            Ok(secret) => *password = Some(secret),
            Err(error) => self.error(at, key, format!("{}: {error}", file.display())),
        }
    }

    /// What holds between the keys of `[call]`, and for the source of that name.
    fn call(&mut self, root: &DeTable<'_>) {
        let section = Section::Call.name();
        let place = |key: &str| {
            let Some(section) = root.get(section) else {
                return root.get(Section::Camera.name()).map_or(0, |camera| {
                    let source = camera.get_ref().get("source").unwrap_or(camera);
                    source.span().start
                });
            };
            section.get_ref().get(key).unwrap_or(section).span().start
        };
        let mut call = std::mem::take(&mut self.config.call);
        let CallConfig {
            dial,
            tls,
            fingerprint,
            user,
            password,
            password_file,
        } = &mut call;
        self.password(section, place, password, password_file.as_deref());
        if fingerprint.is_some() && !*tls {
            self.error(place("fingerprint"), "call.fingerprint", NO_TLS);
        }
        if let (Some(dial), Some(user)) = (&dial, &user)
            && dial.user == *user
        {
            let what = "is whom dial rings up; allowed: another name";
            self.error(place("user"), "call.user", what);
        }
        if self.config.camera.source == SourceKind::Call
            && dial.is_none()
            && !self.failed("call.dial")
        {
            let what = format!(
                "{MISSING}, source \"call\" needs it; allowed: \"user@host:port\" or \"user@[IPv6]:port\""
            );
            self.error(place("dial"), "call.dial", what);
        }
        self.config.call = call;
    }

    /// What holds between the keys of the login to a camera.
    fn login(&mut self, place: &impl Fn(&str) -> Option<usize>) {
        let mut camera = std::mem::replace(&mut self.config.camera, neutral().camera);
        let file = camera.password_file.clone();
        let at = |key: &str| place(key).unwrap_or(0);
        self.password("camera", at, &mut camera.password, file.as_deref());
        if camera.url.as_ref().is_some_and(|url| url.login.is_some()) {
            let key = match &camera {
                CameraConfig { user: Some(_), .. } => Some("user"),
                CameraConfig {
                    password_file: Some(_),
                    ..
                } => Some("password_file"),
                CameraConfig {
                    password: Some(_), ..
                } => Some("password"),
                _ => None,
            };
            if let Some(key) = key {
                let what = "the URL has a login, too; allowed: one of the two";
                self.error(at(key), format!("camera.{key}"), what);
            }
        }
        self.config.camera = camera;
    }

    /// What the chosen source cannot do without.
    fn camera_needs(&mut self, root: &DeTable<'_>) {
        let section = Section::Camera.name();
        let place = |key: &str| {
            let section = root.get(section)?;
            let value = section.get_ref().get(key).unwrap_or(section);
            Some(value.span().start)
        };
        self.login(&place);
        let camera = &self.config.camera;
        let is_push = camera.source == SourceKind::Push;
        if camera.tls && is_push && matches!(camera.address, Some(Address::Unix(_))) {
            let what =
                "means nothing for a Unix socket, which does not leave this machine; leave it out";
            self.error(place("tls").unwrap_or(0), "camera.tls", what);
        }
        let camera = &self.config.camera;
        let is_http = camera.source == SourceKind::Http;
        if camera.fingerprint.is_some() && (is_push || is_http) && camera.trust().is_none() {
            let what = match is_push {
                true => NO_TLS,
                false => "means nothing without https:// in front of the URL",
            };
            self.error(
                place("fingerprint").unwrap_or(0),
                "camera.fingerprint",
                what,
            );
        }
        let camera = &self.config.camera;
        match camera.source {
            SourceKind::Http => {
                let at = place("url").unwrap_or(0);
                let what = match camera.camera_url() {
                    None if self.failed("camera.url") => return,
                    None => format!(
                        "{MISSING}, source \"http\" needs it; allowed: \"http://host:port/path\", the URL of a stream or of a snapshot"
                    ),
                    Some(url) => {
                        let server = Address::Tcp(url.server.clone());
                        let served = |listener: &&ListenerConfig| {
                            listener.protocol == ProtocolKind::Http
                                && server.is_served_by(&listener.bind)
                        };
                        if self.config.listeners.iter().find(served).is_none() {
                            return;
                        }
                        format!(
                            "\"{url}\" is a listener of this camd's own; allowed: another server"
                        )
                    }
                };
                self.error(at, "camera.url", what);
            }
            SourceKind::Replay if camera.path.is_none() && !self.failed("camera.path") => {
                let what = format!(
                    "{MISSING}, source \"replay\" needs it; allowed: a folder of JPEGs, or one MJPEG file"
                );
                self.error(place("path").unwrap_or(0), "camera.path", what);
            }
            SourceKind::Push => {
                let (address, at) = (camera.address.clone(), place("address").unwrap_or(0));
                let what = match address {
                    None if self.failed("camera.address") => return,
                    None => format!(
                        "{MISSING}, source \"push\" needs it; allowed: \"host:port\", \"[IPv6]:port\" or \"unix:/path\""
                    ),
                    Some(address) => {
                        let served =
                            |listener: &&ListenerConfig| address.is_served_by(&listener.bind);
                        if self.config.listeners.iter().find(served).is_none() {
                            return;
                        }
                        format!(
                            "{:?} is a listener of this camd's own; allowed: another server",
                            address.to_string()
                        )
                    }
                };
                self.error(at, "camera.address", what);
            }
            SourceKind::Pipe
                if camera
                    .command
                    .first()
                    .is_none_or(|program| program.is_empty())
                    && !self.failed("camera.command") =>
            {
                let what = "names no program, source \"pipe\" needs one; allowed: [\"program\", \"argument\", …]";
                self.error(place("command").unwrap_or(0), "camera.command", what);
            }
            SourceKind::QtShm
                if self
                    .config
                    .sinks
                    .iter()
                    .any(|sink| sink.kind == SinkKind::QtShm && sink.key == camera.key)
                    && !self.failed("camera.key") =>
            {
                let what = "is a sink's: pictures would go round in a circle; allowed: another key";
                self.error(place("key").unwrap_or(0), "camera.key", what);
            }
            _ => {}
        }
    }
}

/// Of a key that is for TLS.
const NO_TLS: &str = "means nothing without tls = true";

/// Errors that begin like this may vanish once the file is valid TOML.
const MISSING: &str = "missing";

fn built_in_table(text: &'static str) -> DeTable<'static> {
    DeTable::parse(text)
        .unwrap_or_else(|e| panic!("built-in section: {e}"))
        .into_inner()
}

/// What to write in place of a wrong value, where that can be guessed; with a semicolon in front.
fn way_out(setting: &Setting, value: &DeValue<'_>) -> String {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        _ => return String::new(),
    };
    let way_out = match (setting.section, setting.key) {
        (Section::Listener, "bind") => Bind::way_out(&text),
        (Section::Camera, "source") => SourceKind::way_out(&text),
        (Section::Camera, "url") if url::is_http(&text) => None,
        (Section::Camera, "url") if !matches!(value, DeValue::String(_)) => None,
        (Section::Camera, "url") if text.contains("://") => SourceKind::way_out(&text),
        (Section::Camera, "url") => url::way_out(&text),
        _ => None,
    };
    way_out.map_or(String::new(), |way_out| format!("; {way_out}"))
}

/// Checks one value against its row and puts it where it belongs.
fn set(
    setting: &Setting,
    config: &mut Config,
    value: &Spanned<DeValue<'_>>,
) -> Result<(), Vec<Wrong>> {
    let wrong = |what: String| {
        vec![Wrong {
            at: value.span().start,
            below: String::new(),
            what,
        }]
    };
    let type_error = || wrong(format!("found {}", kind_of(value.get_ref())));
    match (&setting.kind, value.get_ref()) {
        (Kind::Integer { min, max, set }, DeValue::Integer(number)) => {
            let number = integer(number)
                .filter(|number| (min..=max).contains(&number))
                .ok_or_else(|| wrong(format!("{number} is out of range")))?;
            set(config, number);
        }
        (Kind::Number { values, set }, DeValue::Integer(number)) => {
            let number = integer(number)
                .filter(|number| values.contains(number))
                .ok_or_else(|| wrong(format!("{number} is none of these")))?;
            set(config, number);
        }
        (Kind::Mode { values, set }, DeValue::Integer(number)) => {
            let mode = integer(number)
                .and_then(|mode| u32::try_from(mode).ok())
                .filter(|mode| values.contains(mode))
                .ok_or_else(|| wrong(format!("{number} is none of these")))?;
            set(config, mode);
        }
        (Kind::Seconds { min, max, set }, DeValue::Integer(_) | DeValue::Float(_)) => {
            let (written, seconds) = match value.get_ref() {
                DeValue::Integer(number) => (number.to_string(), integer(number).map(|n| n as f64)),
                DeValue::Float(number) => (number.to_string(), number.as_str().parse().ok()),
                _ => return Err(type_error()),
            };
            let seconds = seconds
                .filter(|seconds| (min..=max).contains(&seconds))
                .ok_or_else(|| wrong(format!("{written} is out of range")))?;
            set(config, Duration::from_secs_f64(seconds));
        }
        (Kind::Count { max, set }, DeValue::Integer(number)) => {
            let count = integer(number).filter(|count| (0..=*max).contains(count));
            let count = count.ok_or_else(|| wrong(format!("{number} is out of range")))?;
            set(config, Some(count));
        }
        (Kind::Count { set, .. }, DeValue::String(text)) if text == "auto" => set(config, None),
        (Kind::Count { .. }, DeValue::String(text)) => {
            return Err(wrong(format!("{} is not valid", quoted(text))));
        }
        (Kind::Settle { set }, DeValue::Integer(number)) => {
            let pictures = integer(number)
                .and_then(|number| u32::try_from(number).ok())
                .filter(|pictures| *pictures <= Settle::PICTURES_MAX)
                .ok_or_else(|| wrong(format!("{number} is out of range")))?;
            set(config, Settle::Pictures(pictures));
        }
        (Kind::Settle { set }, DeValue::String(text)) => {
            let time = Settle::of_time(text)
                .ok_or_else(|| wrong(format!("{} is not valid", quoted(text))))?;
            set(config, time);
        }
        (Kind::Area { set }, DeValue::Array(numbers)) => {
            let Ok(sides) = <&[_; 4]>::try_from(&numbers[..]) else {
                return Err(wrong(format!("found {} numbers", numbers.len())));
            };
            let [x, y, width, height] = sides.each_ref().map(side);
            let (x, y) = (x(0, "x"), y(0, "y"));
            let width = width(DIMENSION_MIN, "width");
            let height = height(DIMENSION_MIN, "height");
            let sides = all([x, y, width, height].into_iter())?;
            set(
                config,
                Area {
                    x: sides[0],
                    y: sides[1],
                    width: sides[2],
                    height: sides[3],
                },
            );
        }
        (Kind::Boolean { set }, DeValue::Boolean(yes)) => set(config, *yes),
        (Kind::Choice { names, set }, DeValue::String(name)) => {
            let index = names()
                .iter()
                .position(|known| known == name)
                .ok_or_else(|| wrong(format!("{} is unknown", quoted(name))))?;
            set(config, index);
        }
        (Kind::Text { set, .. }, DeValue::String(text)) => {
            if !set(config, text) {
                return Err(wrong(format!("{} is not valid", quoted(text))));
            }
        }
        (Kind::Path { set }, DeValue::String(text)) => {
            if !is_path(text) {
                return Err(wrong(format!("{} is not valid", quoted(text))));
            }
            set(config, PathBuf::from(&**text));
        }
        (Kind::Password { set }, DeValue::String(text)) => {
            let secret = Secret::new(text);
            set(
                config,
                secret.ok_or_else(|| wrong("is empty or too long".to_owned()))?,
            );
        }
        (Kind::Hidden { set, .. }, DeValue::String(text)) => {
            if !set(config, text) {
                return Err(wrong("is not valid".to_owned()));
            }
        }
        (Kind::List { most, add, .. }, DeValue::Array(items)) => {
            if items.len() > *most {
                return Err(wrong(format!("has {} entries", items.len())));
            }
            let items = items.iter().map(|item| {
                let what = match item.get_ref() {
                    DeValue::String(text) if add(config, text) => return Ok(()),
                    DeValue::String(text) => format!("{} is not valid", quoted(text)),
                    other => format!("found {} in the array", kind_of(other)),
                };
                Err(Wrong {
                    at: item.span().start,
                    below: String::new(),
                    what,
                })
            });
            all(items)?;
        }
        (Kind::Url { set }, DeValue::String(text)) => {
            set(config, Url::parse(text).map_err(wrong)?);
        }
        (Kind::Program { set }, DeValue::Array(words)) => {
            set(config, all(words.iter().map(word))?);
        }
        (Kind::Controls { set }, DeValue::Table(table)) => {
            let mut entries: Vec<_> = table.iter().collect();
            // The map is sorted by name; the camera wants the order of the file.
            entries.sort_by_key(|(name, _)| name.span().start);
            let controls = entries
                .into_iter()
                .map(|(name, value)| control(name, value));
            set(config, all(controls)?);
        }
        _ => return Err(type_error()),
    }
    Ok(())
}

/// All results, or all errors.
fn all<T>(results: impl Iterator<Item = Result<T, Wrong>>) -> Result<Vec<T>, Vec<Wrong>> {
    let mut good = Vec::new();
    let mut wrong = Vec::new();
    for result in results {
        match result {
            Ok(value) => good.push(value),
            Err(error) => wrong.push(error),
        }
    }
    if wrong.is_empty() {
        Ok(good)
    } else {
        Err(wrong)
    }
}

/// One number of an area: the smallest that is allowed, and what it is for.
fn side(value: &Spanned<DeValue<'_>>) -> impl Fn(u16, &str) -> Result<u16, Wrong> {
    move |least, name| {
        let what = match value.get_ref() {
            DeValue::Integer(number) => {
                let side = integer(number).and_then(|number| u16::try_from(number).ok());
                match side.filter(|side| (least..=DIMENSION_MAX).contains(side)) {
                    Some(side) => return Ok(side),
                    None => format!("{name} {number} is out of range"),
                }
            }
            other => format!("{name}: found {}", kind_of(other)),
        };
        Err(Wrong {
            at: value.span().start,
            below: String::new(),
            what,
        })
    }
}

fn word(value: &Spanned<DeValue<'_>>) -> Result<String, Wrong> {
    let what = match value.get_ref() {
        DeValue::String(word) if !word.contains('\0') => return Ok(word.to_string()),
        DeValue::String(word) => format!("{} contains a NUL", quoted(word)),
        other => format!("found {} in the array", kind_of(other)),
    };
    Err(Wrong {
        at: value.span().start,
        below: String::new(),
        what,
    })
}

fn control(
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<(String, i64), Wrong> {
    let at = name.span().start;
    let (name, value) = (name.get_ref(), value.get_ref());
    let wrong = |what| Wrong {
        at,
        below: format!(".{name}"),
        what,
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return Err(wrong(
            "no name of a control (lower case, digits and _)".to_owned(),
        ));
    }
    let number = match value {
        DeValue::Boolean(on) => i64::from(*on),
        DeValue::Integer(number) => {
            integer(number).ok_or_else(|| wrong(format!("{number} is out of range")))?
        }
        other => return Err(wrong(format!("found {}", kind_of(other)))),
    };
    Ok((name.to_string(), number))
}

/// `None`: it does not fit.
fn integer(number: &toml::de::DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// As a person would write it, control characters escaped, cut where it gets long.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    let masked = text.contains("://").then(|| url::without_login(text));
    let text = masked.as_deref().unwrap_or(text);
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

fn unknown_section(name: &str) -> String {
    if let Some(setting) = SETTINGS.iter().find(|s| s.key == name) {
        return format!(
            "unknown section; it is a key of {}",
            setting.section.header()
        );
    }
    match nearest(name, Section::ALL.map(Section::name)) {
        Some(near) => format!("unknown section; did you mean {near:?}?"),
        None => {
            let all = Section::ALL.map(Section::header).join(", ");
            format!("unknown section; allowed: {all}")
        }
    }
}

fn unknown_key(section: Section, name: &str) -> String {
    let keys = || section.settings().map(|s| s.key);
    if let Some(elsewhere) = SETTINGS.iter().find(|s| s.key == name) {
        return format!(
            "unknown key here; it is a key of {}",
            elsewhere.section.header()
        );
    }
    match nearest(name, keys()) {
        Some(near) => format!("unknown key; did you mean {near:?}?"),
        None => {
            let all = keys().collect::<Vec<_>>().join(", ");
            format!("unknown key; allowed: {all}")
        }
    }
}
