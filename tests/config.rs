//! The configuration through its public interface: defaults, the shipped file, every key's bounds, every error's text.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use camd::config::setting::{Absent, Kind, SETTINGS, Section, Setting, Variety, reference};
use camd::config::{
    Address, Bind, CallConfig, CameraConfig, CellCount, Config, Dial, EncoderKind, Flip,
    LimitsConfig, ListenerConfig, NeighbourConfig, PasswordHash, Remote, Secret, Settle,
    SinkConfig, SinkFormat, SinkKind, SourceKind, StreamCodec, Token, Url, UserConfig, demo_config,
    load, parse,
};
use camd::encode::renditions::Profile;
use camd::picture::frame::{Area, CameraFormat, Chroma, PixelFormat};
use camd::protocol::ProtocolKind;
use camd::protocol::call::Name;
use camd::protocol::network::Network;
use camd::protocol::user::{Access, May};

const SHIPPED: &str = include_str!("../config/camd.toml");

fn good(text: &str) -> Config {
    parse(text, "t").unwrap_or_else(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        panic!("refused:\n{}\nfor\n{text}", lines.join("\n"))
    })
}

/// The errors as `camd check` prints them.
fn errors(text: &str) -> Vec<String> {
    match parse(text, "camd.toml") {
        Ok(config) => panic!("accepted as {config:?}:\n{text}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn tcp(address: &str) -> Bind {
    Bind::Tcp(address.parse().unwrap())
}

fn listener(protocol: ProtocolKind, bind: &str) -> ListenerConfig {
    ListenerConfig {
        protocol,
        bind: tcp(bind),
        tls: false,
        certificate: None,
        key: None,
        identity: None,
        fingerprint: None,
        clients: 16,
        clients_per_address: None,
        codec: StreamCodec::Jpeg,
        quality: None,
        chroma: None,
        width: None,
        height: None,
        max_fps: None,
        adaptive: false,
        min_fps: 5,
        access: Access::Open,
        allow: Vec::new(),
        hosts: Vec::new(),
        trusted_proxies: Vec::new(),
        embed: true,
        allow_origin: None,
        set_controls: true,
        base_path: "/".into(),
        user: Name::new("camera").unwrap(),
        password: None,
        password_file: None,
        calls: 0,
    }
}

fn user(name: &str) -> UserConfig {
    UserConfig {
        name: Name::new(name).unwrap(),
        password: None,
        password_file: None,
        password_hash: None,
        token: None,
        may: May {
            watch: true,
            control: false,
            update: false,
        },
    }
}

fn networks(texts: &[&str]) -> Vec<Network> {
    let networks = texts.iter().map(|text| Network::parse(text));
    networks.map(Option::unwrap).collect()
}

/// So that all protocols find room.
fn fewer(listener: ListenerConfig) -> ListenerConfig {
    ListenerConfig {
        clients: 12,
        ..listener
    }
}

fn call(bind: &str) -> ListenerConfig {
    ListenerConfig {
        quality: Some(30),
        width: Some(160),
        height: Some(120),
        max_fps: Some(5),
        adaptive: true,
        calls: 4,
        ..listener(ProtocolKind::Call, bind)
    }
}

fn qt_shm(key: &str) -> SinkConfig {
    SinkConfig {
        kind: SinkKind::QtShm,
        key: key.into(),
        socket: "".into(),
        mode: 0o600,
        format: SinkFormat::Jpeg,
        quality: None,
        chroma: None,
        width: None,
        height: None,
        fps: Some(5),
        slots: 0,
        readers: 0,
    }
}

fn neighbour(name: &str, url: &str) -> NeighbourConfig {
    NeighbourConfig {
        name: name.to_owned(),
        url: url.to_owned(),
    }
}

fn memfd(socket: &str) -> SinkConfig {
    SinkConfig {
        kind: SinkKind::Memfd,
        socket: socket.into(),
        fps: None,
        slots: 4,
        readers: 8,
        ..qt_shm("")
    }
}

fn dial(user: &str, host: &str, port: u16) -> Dial {
    Dial {
        user: Name::new(user).unwrap(),
        relay: remote(host, port),
    }
}

fn url(host: &str, port: u16, target: &str) -> Url {
    Url {
        tls: false,
        server: remote(host, port),
        target: target.into(),
        login: None,
    }
}

fn remote(host: &str, port: u16) -> Remote {
    Remote {
        host: host.into(),
        port,
    }
}

fn default() -> Config {
    let command = "ffmpeg -hide_banner -loglevel warning -nostdin -f v4l2 -input_format mjpeg -i /dev/video0 -f image2pipe -vcodec copy -";
    Config {
        camera: CameraConfig {
            tls: false,
            fingerprint: None,
            name: "camera".into(),
            source: SourceKind::V4l2,
            device: "/dev/video0".into(),
            command: command.split(' ').map(Into::into).collect(),
            path: None,
            key: "169254".into(),
            address: None,
            url: None,
            user: None,
            password: None,
            password_file: None,
            width: 640,
            height: 480,
            fps: 30,
            format: None,
            buffers: 4,
            linger: Some(Duration::from_secs(5)),
            settle: Settle::Pictures(0),
            rotate: 0,
            flip: Flip::None,
            crop: None,
            timestamp: false,
            encoder: EncoderKind::Auto,
            controls: vec![],
        },
        call: CallConfig::default(),
        users: Vec::new(),
        listeners: vec![listener(ProtocolKind::Http, "0.0.0.0:8080")],
        sinks: vec![],
        neighbours: vec![],
        limits: LimitsConfig {
            frame_bytes: 1_048_576,
            cells: CellCount::Auto,
            ack_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(5),
            sandbox: true,
        },
    }
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(Config::default(), default());
    assert_eq!(good(""), default());
    assert_eq!(good("[camera]\n[call]\n[limits]\n"), default());
}

#[test]
fn the_shipped_file_is_the_default() {
    assert_eq!(good(SHIPPED), default());
}

#[test]
fn the_demo_needs_no_camera_and_stays_on_this_machine() {
    let expected = Config {
        camera: CameraConfig {
            name: "camd demo".into(),
            source: SourceKind::Pattern,
            ..default().camera
        },
        listeners: vec![
            listener(ProtocolKind::Http, "127.0.0.1:8080"),
            fewer(listener(ProtocolKind::Push, "127.0.0.1:8081")),
            fewer(listener(ProtocolKind::Pull, "127.0.0.1:8082")),
            fewer(call("127.0.0.1:8083")),
            fewer(listener(ProtocolKind::Raw, "127.0.0.1:8084")),
        ],
        ..default()
    };
    assert_eq!(demo_config(), expected);
}

/// A line of the shipped file that is TOML, or becomes TOML when its first "#" is taken away; prose has a space there.
fn toml_line(line: &str) -> Option<(bool, &str)> {
    let (live, toml) = match line.strip_prefix('#') {
        Some(rest) => (false, rest),
        None => (true, line),
    };
    let key = toml.starts_with(|c: char| c.is_ascii_lowercase()) && toml.contains(" = ");
    (key || toml.starts_with('[')).then_some((live, toml))
}

#[test]
fn the_shipped_file_and_the_table_have_the_same_keys() {
    let mut section = "";
    let mut in_file = BTreeSet::new();
    let mut live_in_file = BTreeSet::new();
    for (live, line) in SHIPPED.lines().filter_map(toml_line) {
        match line.split_once(" = ") {
            None => section = line,
            Some((key, _)) => {
                in_file.insert((section, key));
                if live {
                    live_in_file.insert((section, key));
                }
            }
        }
    }
    let header = |s: &Setting| (s.section.header(), s.key);
    let in_table: BTreeSet<_> = SETTINGS.iter().map(header).collect();
    assert_eq!(SETTINGS.len(), in_table.len(), "a key occurs twice");
    assert_eq!(in_file, in_table);
    // Users, call and raw listeners, sinks and neighbours are shown, but there is none.
    let with_value = |s: &&Setting| {
        let shown = match s.absent {
            Absent::Unset => false,
            Absent::By { others, .. } => others.is_some(),
            Absent::Default(_) | Absent::Required => true,
        };
        let other = [ProtocolKind::Call, ProtocolKind::Raw];
        let other = other.map(|kind| [Variety::Protocol(kind)]);
        let other = other.iter().any(|only| s.only == only);
        let none = [Section::User, Section::Sink, Section::Neighbour];
        shown && !other && !none.contains(&s.section)
    };
    let live_in_table: BTreeSet<_> = SETTINGS.iter().filter(with_value).map(header).collect();
    assert_eq!(live_in_file, live_in_table);
}

#[test]
fn the_shipped_file_is_valid_with_everything_in_it_uncommented() {
    let mut text = String::new();
    for line in SHIPPED.lines() {
        // There may be one of them, and the files are not; and what is for TLS is an error without.
        let is_of_files = [
            "#password_file",
            "#password_hash",
            "#certificate",
            "#key = \"/",
            "#fingerprint",
        ];
        if !is_of_files.iter().any(|key| line.starts_with(key)) {
            text += toml_line(line).map_or(line, |(_, toml)| toml);
        }
        text += "\n";
    }
    let mut expected = default();
    expected.camera.path = Some("/var/lib/camd/replay".into());
    expected.camera.address = Some(remote("192.168.1.20", 8081).into());
    expected.camera.crop = Some(Area {
        x: 160,
        y: 120,
        width: 320,
        height: 240,
    });
    expected.camera.url = Some(url("192.168.1.20", 80, "/stream"));
    expected.camera.user = Some("viewer".into());
    expected.camera.password = Secret::new("secret");
    expected.call.dial = Some(dial("camera", "192.168.1.20", 8083));
    expected.call.user = Name::new("hall");
    expected.call.password = Secret::new("secret");
    expected.users.push(UserConfig {
        password: Secret::new("secret"),
        token: Token::new("0b8Yk2-not-this-one-please"),
        ..user("anna")
    });
    expected.listeners[0].access = Access::Users;
    expected.listeners[0].allow = networks(&["192.168.0.0/16", "fd00::/8"]);
    expected.listeners[0].hosts = vec!["camera.example.org".into()];
    expected.listeners[0].trusted_proxies = networks(&["127.0.0.1"]);
    expected.listeners[0].clients_per_address = Some(8);
    expected.listeners[0].quality = Some(80);
    expected.listeners[0].width = Some(320);
    expected.listeners[0].height = Some(240);
    expected.listeners[0].max_fps = Some(5);
    expected.listeners[0].allow_origin = Some("https://example.org".into());
    let push = fewer(listener(ProtocolKind::Push, "0.0.0.0:8081"));
    let pull = fewer(listener(ProtocolKind::Pull, "0.0.0.0:8082"));
    let raw = fewer(listener(ProtocolKind::Raw, "0.0.0.0:8084"));
    let mut call = fewer(call("0.0.0.0:8083"));
    call.password = Secret::new("change this");
    expected.listeners.extend([push, pull, raw, call]);
    let mut shm = qt_shm("169254");
    (shm.width, shm.height) = (Some(320), Some(240));
    let mut ring = memfd("/run/camd/frames.sock");
    ring.quality = Some(80);
    expected.sinks.extend([shm, ring]);
    expected.neighbours.push(neighbour("Garage", ":8090"));
    assert_eq!(good(&text), expected);
}

#[test]
fn each_key_reaches_its_field() {
    let config = good(
        r#"
        [camera]
        name = "Hühnerstall"
        source = "replay"
        key = "schlüssel"
        device = "/dev/v4l/by-id/usb-046d-index0"
        command = ["cat", ""]
        path = "films/a.mjpeg"
        address = "unix:/run/vision.sock"
        url = "http://[fe80::1%25eth0]:81/a/../b?c=d#e"
        user = "grüße"
        password = "s3cret:"
        width = 0x500
        height = 1_024
        fps = 7
        format = "nv12"
        buffers = 3
        linger_s = 0
        settle = "1.5 s"
        rotate = 270
        flip = "vertical"
        crop = [16, 0, 320, 0x100]
        timestamp = true
        encoder = "cpu"
        controls = { zoom = 2, auto = false, brightness = -3, led = true }

        [call]
        dial = "b@b@relay.example:65535"
        user = "Flur"
        password = "pässword"

        [[user]]
        name = "Änne"
        password_hash = "$pbkdf2-sha256$i=4096,l=32$MDEyMzQ1Njc4OWFiY2RlZg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        token = "abcdefghijklmn-p"
        may = ["control", "update", "watch"]

        [[user]]
        name = "drucker 2"
        password = "pässwort"
        may = ["control"]

        [[listener]]
        protocol = "pull"
        bind = "unix:/run/camd/pull.sock"
        clients = 2
        quality = 33
        chroma = "422"
        width = 320
        height = 240
        max_fps = 5
        adaptive = true
        min_fps = 3

        [[listener]]
        protocol = "http"
        bind = "[::1]:0"
        clients = 59
        chroma = "420"
        allow_origin = "*"
        set_controls = false
        allow = ["10.0.0.0/8", "::1"]
        hosts = ["Cam.Example.org.", "x-1"]
        trusted_proxies = ["127.0.0.1", "fd00::/8"]
        embed = false

        [[listener]]
        protocol = "http"
        bind = "[::1]:3"
        access = "open"
        clients = 0x1
        chroma = "420"

        [[listener]]
        protocol = "call"
        bind = "[::1]:1"
        clients = 2
        chroma = "auto"
        user = "Tür"
        password = "geheim"
        calls = 2
        fps = 3
        adaptive = false

        [[sink]]
        kind = "qt-shm"
        key = "Küche"
        mode = 0o666
        fps = 7
        width = 100
        height = 90

        [[sink]]
        kind = "memfd"
        socket = "/s"
        mode = 0o660
        format = "bgr24"
        width = 800
        height = 600
        fps = 9
        slots = 3
        readers = 2

        [[sink]]
        kind = "memfd"
        socket = "/t"
        chroma = "422"

        [[neighbour]]
        name = "Hof"
        url = "https://[fd00::1]:8443/webcam/?a=%20#b"

        [[neighbour]]
        name = "Küche <&>"
        url = "/k%C3%BCche"

        [limits]
        frame_bytes = 131072
cells = 2
        ack_timeout_s = 0.25
        write_timeout_s = 2
        head_timeout_s = 3.0
        sandbox = false
        "#,
    );
    let expected = Config {
        camera: CameraConfig {
            tls: false,
            fingerprint: None,
            name: "Hühnerstall".into(),
            source: SourceKind::Replay,
            device: "/dev/v4l/by-id/usb-046d-index0".into(),
            command: vec!["cat".into(), "".into()],
            path: Some("films/a.mjpeg".into()),
            key: "schlüssel".into(),
            address: Some(Address::Unix("/run/vision.sock".into())),
            url: Some(url("fe80::1%eth0", 81, "/b?c=d")),
            user: Some("grüße".into()),
            password: Secret::new("s3cret:"),
            password_file: None,
            width: 1280,
            height: 1024,
            fps: 7,
            format: Some(PixelFormat::Nv12.into()),
            buffers: 3,
            linger: None,
            settle: Settle::Time(Duration::from_millis(1500)),
            rotate: 270,
            flip: Flip::Vertical,
            crop: Some(Area {
                x: 16,
                y: 0,
                width: 320,
                height: 256,
            }),
            timestamp: true,
            encoder: EncoderKind::Cpu,
            controls: vec![
                ("zoom".into(), 2),
                ("auto".into(), 0),
                ("brightness".into(), -3),
                ("led".into(), 1),
            ],
        },
        call: CallConfig {
            tls: false,
            fingerprint: None,
            dial: Some(dial("b@b", "relay.example", 65535)),
            user: Name::new("Flur"),
            password: Secret::new("pässword"),
            password_file: None,
        },
        users: vec![
            UserConfig {
                password_hash: PasswordHash::parse(&format!(
                    "$pbkdf2-sha256$i=4096$MDEyMzQ1Njc4OWFiY2RlZg${}",
                    "A".repeat(43)
                )),
                token: Token::new("abcdefghijklmn-p"),
                may: May::ALL,
                ..user("Änne")
            },
            UserConfig {
                password: Secret::new("pässwort"),
                may: May {
                    watch: false,
                    control: true,
                    update: false,
                },
                ..user("drucker 2")
            },
        ],
        listeners: vec![
            ListenerConfig {
                bind: Bind::Unix("/run/camd/pull.sock".into()),
                clients: 2,
                quality: Some(33),
                chroma: Some(Chroma::Yuv422),
                width: Some(320),
                height: Some(240),
                max_fps: Some(5),
                adaptive: true,
                min_fps: 3,
                ..listener(ProtocolKind::Pull, "[::1]:1")
            },
            ListenerConfig {
                clients: 59,
                chroma: Some(Chroma::Yuv420),
                allow_origin: Some("*".into()),
                set_controls: false,
                access: Access::Users,
                allow: networks(&["10.0.0.0/8", "::1/128"]),
                hosts: vec!["cam.example.org".into(), "x-1".into()],
                trusted_proxies: networks(&["127.0.0.1", "fd00::/8"]),
                embed: false,
                ..listener(ProtocolKind::Http, "[::1]:0")
            },
            ListenerConfig {
                clients: 1,
                chroma: Some(Chroma::Yuv420),
                ..listener(ProtocolKind::Http, "[::1]:3")
            },
            ListenerConfig {
                clients: 2,
                user: Name::new("Tür").unwrap(),
                password: Secret::new("geheim"),
                calls: 2,
                max_fps: Some(3),
                adaptive: false,
                ..call("[::1]:1")
            },
        ],
        sinks: vec![
            SinkConfig {
                mode: 0o666,
                fps: Some(7),
                width: Some(100),
                height: Some(90),
                ..qt_shm("Küche")
            },
            SinkConfig {
                mode: 0o660,
                format: SinkFormat::Bgr24,
                width: Some(800),
                height: Some(600),
                fps: Some(9),
                slots: 3,
                readers: 2,
                ..memfd("/s")
            },
            SinkConfig {
                chroma: Some(Chroma::Yuv422),
                ..memfd("/t")
            },
        ],
        neighbours: vec![
            neighbour("Hof", "https://[fd00::1]:8443/webcam/?a=%20#b"),
            neighbour("Küche <&>", "/k%C3%BCche"),
        ],
        limits: LimitsConfig {
            frame_bytes: 131_072,
            cells: CellCount::Number(2),
            ack_timeout: Duration::from_millis(250),
            write_timeout: Duration::from_secs(2),
            head_timeout: Duration::from_secs(3),
            sandbox: false,
        },
    };
    assert_eq!(config, expected);
}

/// A file whose line 5 sets this key, and which is good if the value is.
fn file_with(setting: &Setting, value: &str) -> String {
    let others = match (setting.section, setting.key) {
        (Section::Listener, "protocol") => ["bind = \"[::]:1\"", "", ""],
        (Section::Listener, "bind") => ["protocol = \"call\"", "", ""],
        (Section::Listener, "fingerprint") => {
            ["protocol = \"call\"", "bind = \"relay:h:1\"", "tls = true"]
        }
        (Section::Call, "fingerprint") => ["tls = true", "", ""],
        (Section::Listener, _) => {
            let call = Variety::Protocol(ProtocolKind::Call);
            let raw = [Variety::Protocol(ProtocolKind::Raw)];
            let protocol = match setting.only.contains(&call) {
                true => "protocol = \"call\"",
                false if setting.only == raw => "protocol = \"raw\"",
                false => "protocol = \"http\"",
            };
            let tls = match setting.key {
                "certificate" | "key" => "tls = true",
                _ => "",
            };
            [protocol, "bind = \"[::]:1\"", tls]
        }
        (Section::User, "name") => ["password = \"p\"", "", ""],
        (Section::User, "may") => ["name = \"n\"", "password = \"p\"", ""],
        (Section::User, _) => ["name = \"n\"", "", ""],
        (Section::Neighbour, "name") => ["url = \":1\"", "", ""],
        (Section::Neighbour, _) => ["name = \"n\"", "", ""],
        (Section::Sink, "kind") => ["", "", ""],
        (Section::Sink, _) => match setting.only.contains(&Variety::Sink(SinkKind::QtShm)) {
            true => ["kind = \"qt-shm\"", "", ""],
            false => ["kind = \"memfd\"", "", ""],
        },
        // So that any source is good.
        (Section::Camera, "source") => {
            ["path = \"p\"", "address = \"h:1\"", "url = \"http://h:1/\""]
        }
        _ => ["", "", ""],
    };
    let behind = match (setting.section, setting.key) {
        (Section::Camera, "source") => "[call]\ndial = \"camera@h:1\"".to_owned(),
        (Section::Listener, "access") => {
            "[[user]]\nname = \"n\"\ntoken = \"0123456789abcdef\"".to_owned()
        }
        (Section::Listener, "certificate") => format!("key = {:?}", identity().1),
        (Section::Listener, "key") => format!("certificate = {:?}", identity().0),
        _ => String::new(),
    };
    let header = setting.section.header();
    format!(
        "{header}\n{}\n{} = {value}\n{behind}\n",
        others.join("\n"),
        setting.key
    )
}

fn accept(setting: &Setting, value: &str) -> Config {
    good(&file_with(setting, value))
}

/// What somebody is told to write who wrote this as a bind.
fn way_out(value: &str) -> Option<&'static str> {
    Some(match value.trim_matches('"') {
        "0.0.0.0" => r#"write "0.0.0.0:8080""#,
        "0.0.0.0:" | "0.0.0.0:65536" => "a port is a number from 0 to 65535",
        ":::8080" | "[::]" => r#"write "[::]:8080""#,
        "localhost:8080" => r#"write "127.0.0.1:8080""#,
        "tcp:0.0.0.0:1" | " 0.0.0.0:1" => r#"write "0.0.0.0:1""#,
        "unix:run/s" => r#"write "unix:/run/s""#,
        "8080" | ":8080" => {
            r#"write "0.0.0.0:8080" for every IPv4 address of this board, "127.0.0.1:8080" for programs on it alone"#
        }
        "1" => {
            r#"write "0.0.0.0:1" for every IPv4 address of this board, "127.0.0.1:1" for programs on it alone"#
        }
        _ => return None,
    })
}

#[test]
fn a_bind_that_is_nearly_right_is_told_what_to_write() {
    const EVERYWHERE: &str = r#"write "0.0.0.0:8080" for every IPv4 address of this board, "127.0.0.1:8080" for programs on it alone"#;
    for (bind, words) in [
        (r#"":8080""#, EVERYWHERE),
        (r#""8080""#, EVERYWHERE),
        ("8080", EVERYWHERE),
        (r#""*:8080""#, EVERYWHERE),
        (r#""LocalHost:8080""#, r#"write "127.0.0.1:8080""#),
        (r#""http://localhost:8080/""#, r#"write "127.0.0.1:8080""#),
        (r#""http://10.0.0.7:81/""#, r#"write "10.0.0.7:81""#),
        (r#""192.168.1.7""#, r#"write "192.168.1.7:8080""#),
        (r#""::1""#, r#"write "[::1]:8080""#),
        (r#""fe80::1:8080""#, r#"write "[fe80::1]:8080""#),
        (r#""/run/camd.sock""#, r#"write "unix:/run/camd.sock""#),
        (
            r#""shed.local:8080""#,
            &format!("names are not looked up: {EVERYWHERE}"),
        ),
        (r#""localhost""#, r#"write "127.0.0.1:8080""#),
        (r#""*""#, EVERYWHERE),
        (r#""shed:web""#, "a port is a number from 0 to 65535"),
    ] {
        let text = format!("[[listener]]\nprotocol = \"http\"\nbind = {bind}\n");
        let errors = errors(&text);
        assert_eq!(errors.len(), 1, "{errors:?}");
        let wanted = format!("; {words}; allowed: ");
        assert!(errors[0].contains(&wanted), "{bind}: {errors:?}");
    }
}

#[test]
fn a_source_by_another_name_is_told_what_to_write() {
    for (source, words) in [
        ("rtsp", r#"write source = "pipe" and command = ["ffmpeg", "#),
        (
            "RTSP",
            r#""-rtsp_transport", "tcp", "-i", "rtsp://USER:PASSWORD@HOST/PATH", "#,
        ),
        ("rtsp://10.0.0.9/live", r#""-i", "rtsp://10.0.0.9/live", "#),
        ("rpicam", r#"command = ["rpicam-vid", "#),
        ("usb", r#"write source = "v4l2""#),
        (
            "/dev/video2",
            r#"write source = "v4l2" and device = "/dev/video2""#,
        ),
        ("file", r#"write source = "replay""#),
    ] {
        let errors = errors(&format!("[camera]\nsource = {source:?}\n"));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains(words), "{source}: {errors:?}");
        assert!(errors[0].contains("; allowed: \"v4l2\""), "{errors:?}");
    }
    // The command that is shown can be pasted.
    let error = &errors("[camera]\nsource = \"rtsp\"\n")[0];
    let command = error
        .split("command = ")
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    let command = command.expect("a command");
    let config = good(&format!(
        "[camera]\nsource = \"pipe\"\ncommand = {command}]\n"
    ));
    assert_eq!(config.camera.command[0], "ffmpeg");
}

#[test]
fn the_url_of_a_camera_says_what_to_write() {
    for (url, words) in [
        (
            "cam.local/stream",
            r#"there is no http:// in front; write "http://cam.local/stream""#,
        ),
        (
            "me:s3cret@cam.local:81",
            r#"there is no http:// in front; write "http://USER:PASSWORD@cam.local:81""#,
        ),
        (
            "rtsp://me:s3cret@cam/live",
            r#""rtsp" is another protocol; write source = "pipe" and command = ["ffmpeg", "#,
        ),
        (
            "rtsp://me:s3cret@cam/live",
            r#""rtsp://USER:PASSWORD@cam/live""#,
        ),
        (
            "httpx://me:s3cret@cam/",
            r#""httpx" is another protocol; allowed: http://"#,
        ),
        (
            "ftp://me:s3cret@cam/",
            r#""ftp" is another protocol; allowed: http://"#,
        ),
        (
            "http://cam/a picture.jpg",
            "a space is written as %20; allowed: http://",
        ),
        ("http://me:s3c/ret@cam/", "/ is %2F"),
        ("http://me:s3cret@cam:99999/", "1 to 65535"),
        ("http://me:s3creté@cam/", "as %XX"),
        ("http://mé:s3cret@cam/x y", "%20"),
    ] {
        let text = format!("[camera]\nsource = \"http\"\nurl = {url:?}\n");
        let errors = errors(&text);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].starts_with("camd.toml:3: camera.url: "),
            "{errors:?}"
        );
        assert!(errors[0].contains(words), "{url}: {errors:?}");
        assert!(!errors[0].contains("s3c"), "{errors:?}");
    }
    // At other keys, too.
    for line in [
        "source = \"http://me:s3cret@cam/x\"",
        "source = \"https://me:s3cret@cam/x\"",
        "source = \"push\"\naddress = \"http://me:s3cret@cam/x\"",
    ] {
        let errors = errors(&format!("[camera]\n{line}\n"));
        assert!(!errors[0].contains("s3cret"), "{errors:?}");
    }
    let wrong = &errors("[camera]\nsource = \"http://me:pw@cam/x\"\n")[0];
    let words = r#"; write source = "http" and url = "http://USER:PASSWORD@cam/x"; allowed"#;
    assert!(wrong.contains(words), "{wrong}");
    let wrong = &errors("[camera]\nsource = \"esp32-cam\"\n")[0];
    assert!(
        wrong.contains(r#"; write source = "http", and the URL"#),
        "{wrong}"
    );
    assert_eq!(
        errors("[camera]\nsource = \"http\"\n"),
        [
            r#"camd.toml:1: camera.url: missing, source "http" needs it; allowed: "http://host:port/path", the URL of a stream or of a snapshot"#
        ]
    );
    assert_eq!(
        errors("[camera]\nsource = \"http\"\nurl = \"http://me:pw@localhost:8080/stream?x=y\"\n"),
        [
            r#"camd.toml:3: camera.url: "http://localhost:8080/stream?…" is a listener of this camd's own; allowed: another server"#
        ]
    );
}

#[test]
fn a_login_stands_in_one_place() {
    let login = |text: &str| {
        let config = good(&format!("[camera]\nsource = \"http\"\n{text}"));
        let url = config.camera.camera_url().expect("a URL");
        assert!(!format!("{config:?}").contains("s3cret"));
        url.login.is_some()
    };
    assert!(!login("url = \"http://cam/\"\n"));
    assert!(login("url = \"http://me:s3cret@cam/\"\n"));
    assert!(login("url = \"http://cam/\"\nuser = \"me\"\n"));
    assert!(login(
        "url = \"http://cam/\"\nuser = \"me\"\npassword = \"s3cret\"\n"
    ));
    let file = scratch("camera-password.txt", b"s3cret\n");
    let keys = format!("url = \"http://cam/\"\nuser = \"me\"\npassword_file = {file:?}\n");
    assert!(login(&keys));
    let config = good(&format!("[camera]\nsource = \"http\"\n{keys}"));
    assert_eq!(config.camera.password, Secret::new("s3cret"));
    for (key, line) in [
        ("user", "user = \"me\"\n".to_owned()),
        ("password", "password = \"s3cret\"\n".to_owned()),
        ("password_file", format!("password_file = {file:?}\n")),
    ] {
        let text = format!("[camera]\nurl = \"http://me:s3cret@cam/\"\n{line}");
        assert_eq!(
            errors(&text),
            [format!(
                "camd.toml:3: camera.{key}: the URL has a login, too; allowed: one of the two"
            )]
        );
    }
    assert_eq!(
        errors(&format!(
            "[camera]\npassword = \"s3cret\"\npassword_file = {file:?}\n"
        )),
        ["camd.toml:3: camera.password_file: there is a password, too; allowed: one of the two"]
    );
}

#[test]
fn the_demo_can_have_other_ports() {
    let ports = |port| -> Vec<u16> {
        let config = camd::config::demo_config_at(port);
        let of = |listener: &ListenerConfig| match listener.bind {
            Bind::Tcp(address) => address.port(),
            _ => panic!("{listener:?}"),
        };
        config.listeners.iter().map(of).collect()
    };
    assert_eq!(camd::config::demo_config_at(8080), demo_config());
    assert_eq!(ports(9000), [9000, 9001, 9002, 9003, 9004]);
    assert_eq!(ports(65531), [65531, 65532, 65533, 65534, 65535]);
    assert_eq!(ports(0), [0; 5]);
}

/// Exactly one error, on the line of the key (and of an element of it, if `below` names one).
fn refuse(setting: &Setting, value: &str, below: &str, what: &str) {
    let Setting {
        section, key, kind, ..
    } = setting;
    let section = section.name();
    let way_out = match *key {
        "bind" => way_out(value).map_or(String::new(), |words| format!("; {words}")),
        _ => String::new(),
    };
    let expected = format!("camd.toml:5: {section}.{key}{below}: {what}{way_out}; allowed: {kind}");
    assert_eq!(errors(&file_with(setting, value)), [expected], "{value}");
}

fn refuse_other_types(setting: &Setting, accepted: &[&str]) {
    for (value, name) in [
        ("\"x\"", "a string"),
        ("1", "an integer"),
        ("1.0", "a float"),
        ("true", "a boolean"),
        ("1979-05-27", "a date or time"),
        ("[]", "an array"),
        ("{}", "a table"),
    ] {
        if !accepted.contains(&name) {
            refuse(setting, value, "", &format!("found {name}"));
        }
    }
}

/// What a key takes and refuses whose value is shown nowhere.
fn hidden(key: &str) -> (Vec<String>, Vec<String>) {
    let hash = |iterations: u32| {
        let zeros = "A".repeat(43);
        format!("$pbkdf2-sha256$i={iterations},l=32$AAAAAAAAAAA${zeros}")
    };
    let own = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
    match key {
        "password_hash" => (
            vec![hash(1000), hash(10_000_000)],
            vec![hash(999), hash(10_000_001), "secret".into(), String::new()],
        ),
        "token" => (
            vec!["0123456789abcdeF".into(), "-._~".repeat(32)],
            [
                own(&["", "0123456789abcde", "0123456789abcde/"]),
                vec!["x".repeat(129)],
            ]
            .concat(),
        ),
        _ => panic!("no examples for the key {key}: add some"),
    }
}

/// What may stand in an array of strings, and what not.
fn entries(key: &str) -> (Vec<&'static str>, Vec<&'static str>) {
    match key {
        "may" => (vec!["watch", "control"], vec!["", "Watch", "all"]),
        "allow" | "trusted_proxies" => (
            vec!["192.168.0.0/16", "fd00::/8", "0.0.0.0/0", "::1"],
            vec![
                "",
                "192.168.0.1/16",
                "10.0.0.0/33",
                "box",
                "fe80::1%eth0",
                "127.0.0.1:80",
            ],
        ),
        "hosts" => (
            vec!["cam.example.org", "Box.", "xn--kche-0ra.example", "a_b"],
            vec![
                "",
                ".",
                "a..b",
                "küche.example",
                "box:8080",
                "http://box",
                "*.example.org",
                "a b",
            ],
        ),
        _ => panic!("no examples for the key {key}: add some"),
    }
}

/// What a string key takes and refuses. A row without examples here fails the test below.
fn texts(section: Section, key: &str) -> (Vec<String>, Vec<String>) {
    let own = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
    // sockaddr_un holds 107 bytes and a NUL.
    let socket = |length: usize| format!("unix:/{}", "s".repeat(length - 1));
    let origin = |length: usize| format!("https://{}", "o".repeat(length - 8));
    let (mut good, mut bad) = match key {
        "name" if section == Section::User => (
            own(&["anna", "Änne 2", "a@b"]),
            own(&["", "a:b", " a", "a ", "a\\nb"]),
        ),
        "name" => (
            own(&["c", "Front door, 2. Stock"]),
            own(&["", "a\\u0000b", "a\\nb", "\\u0085"]),
        ),
        "fingerprint" => (
            vec![
                "a1".repeat(32),
                ["A1"; 32].join(":"),
                format!("SHA256:{}", "0".repeat(64)),
            ],
            vec![
                String::new(),
                "a".repeat(63),
                "a".repeat(65),
                "g".repeat(64),
                "a1:".repeat(32),
            ],
        ),
        "certificate" => (vec![identity().0], own(&["", "file", "/a\\u0000"])),
        "key" if section == Section::Listener => {
            (vec![identity().1], own(&["", "file", "/a\\u0000"]))
        }
        "key" => (own(&["169254", "Küche 1"]), own(&["", "a\\u0000"])),
        "socket" => (own(&["/run/s"]), own(&["", "s", "/\\u0000"])),
        "device" => (own(&["/dev/video3"]), own(&["", "video0", "/dev/\\u0000"])),
        "user" if section == Section::Camera => {
            (own(&["admin", "Tür 2"]), own(&["", "a\\nb", "a:b"]))
        }
        "user" => (own(&["camera", "Tür 2"]), own(&["", "a\\nb"])),
        "password_file" => (vec![password_file()], own(&["", "file", "/a\\u0000"])),
        "path" => (own(&["/", "pictures"]), own(&["", "a\\u0000"])),
        "address" => (
            own(&["box:8081", "[fe80::1%eth0]:80", "unix:/s"]),
            own(&[
                "",
                "box",
                "box:0",
                ":8081",
                "push://box:8081",
                "::1:80",
                "unix:",
                "unix:s",
                "unix:/s/",
                "unix:/\\u0000",
            ]),
        ),
        "dial" => (
            own(&[
                "camera@192.168.1.20:8083",
                "a b@c@relay-1.example_x:1",
                "ü@[::1]:65535",
                "u@[fe80::1%eth0]:80",
            ]),
            own(&[
                "",
                "camera",
                "relay:8083",
                "@relay:8083",
                "camera@relay",
                "camera@:8083",
                "camera@relay:",
                "camera@relay:0",
                "camera@relay:+1",
                "camera@relay:65536",
                "camera@re lay:1",
                "camera@::1:80",
                "camera@[::1:80",
                "camera@[relay]:80",
                "camera@[::1%]:80",
                "a\\u0000b@relay:80",
            ]),
        ),
        "bind" => (
            own(&[
                "127.0.0.1:0",
                "1.2.3.4:65535",
                "[::]:8080",
                "[fe80::1%3]:80",
                "unix:/s",
                "relay:relay.example:8083",
                "relay:[::1]:1",
            ]),
            own(&[
                "",
                "8080",
                ":8080",
                "0.0.0.0",
                "0.0.0.0:",
                "0.0.0.0:65536",
                "256.0.0.1:1",
                ":::8080",
                "[::]",
                "localhost:8080",
                "tcp:0.0.0.0:1",
                "unix:",
                "relay:",
                "relay:host",
                "relay:host:0",
                "unix:run/s",
                "unix:/run/",
                "unix:/a\\u0000",
                " 0.0.0.0:1",
            ]),
        ),
        "allow_origin" => (
            own(&[
                "*",
                "http://a",
                "https://www.example.org",
                "http://localhost:3000",
                "http://[::1]:80",
                "http://[::1]",
                "moz-extension://a-b_c",
            ]),
            own(&[
                "",
                "**",
                "example.org",
                "://a",
                "1a://a",
                "http://",
                "http://:80",
                "http://a/",
                "http://a/b",
                "http://a:",
                "http://a:0",
                "http://a:65536",
                "http://a:+1",
                "http://a b",
                "http://a\\r\\nX: y",
                "http://[::1",
                "http://[x]",
                "http://ü",
                "null",
            ]),
        ),
        "url" => (
            own(&[
                ":1",
                ":65535/",
                ":8090/webcam/?a=b",
                "/",
                "/garage/",
                "http://box.local:8080",
                "https://[::1]/",
            ]),
            own(&[
                "",
                ":",
                ":0",
                ":+1",
                ":65536",
                ":8080x",
                "8080",
                "box:8080",
                "garage/",
                "//box/",
                "http://",
                "http:///x",
                "HTTP://box",
                "ftp://box/",
                "javascript:alert(1)",
                "data:text/html,x",
                "http://box/ x",
                "http://box/\\u0000",
                "/k\u{fc}che",
                "/a\\\"b",
                "/<b>",
            ]),
        ),
        "base_path" => (
            own(&["/", "/webcam", "/webcam/", "/a/b.c/d-e_f~1", "/..."]),
            own(&[
                "",
                "webcam",
                "//",
                "//webcam",
                "/web//cam",
                "/webcam//",
                "/web cam",
                "/webcam?",
                "/%77ebcam",
                "/./webcam",
                "/a/..",
                "/küche",
                "/a\\r\\nX: y",
                "http://box/webcam",
            ]),
        ),
        _ => panic!("no examples for the key {key}: add some"),
    };
    match key {
        "name" => {
            let most = match section {
                Section::Neighbour => 32,
                _ => 64,
            };
            good.push("ü".repeat(most));
            bad.push("ü".repeat(most + 1));
        }
        "key" if section != Section::Listener => {
            good.push("ü".repeat(64));
            bad.push("ü".repeat(65));
        }
        "socket" => {
            good.push(format!("/{}", "s".repeat(106)));
            bad.push(format!("/{}", "s".repeat(107)));
        }
        "user" if section == Section::Camera => {
            good.push("ü".repeat(128));
            bad.push(format!("{}a", "ü".repeat(128)));
        }
        "user" => {
            good.push("\u{1f600}".repeat(32));
            bad.push("\u{1f600}".repeat(33));
        }
        "url" => {
            good.push(format!("/{}", "u".repeat(127)));
            bad.push(format!("/{}", "u".repeat(128)));
        }
        "bind" => {
            good.push(socket(107));
            bad.push(socket(108));
        }
        "base_path" => {
            good.push(format!("/{}", "p".repeat(127)));
            bad.push(format!("/{}", "p".repeat(128)));
        }
        "allow_origin" => {
            good.push(origin(256));
            bad.push(origin(257));
        }
        _ => {}
    }
    (good, bad)
}

#[test]
fn each_key_keeps_its_bounds() {
    for setting in SETTINGS {
        let out_of_range = |value: &str| {
            refuse(setting, value, "", &format!("{value} is out of range"));
        };
        match &setting.kind {
            Kind::Integer { min, max, .. } => {
                let (low, high) = (
                    accept(setting, &min.to_string()),
                    accept(setting, &max.to_string()),
                );
                assert_ne!(low, high, "{} sets nothing", setting.key);
                for outside in [min - 1, max + 1, i64::MIN, i64::MAX] {
                    out_of_range(&outside.to_string());
                }
                out_of_range("99999999999999999999");
                refuse_other_types(setting, &["an integer"]);
            }
            Kind::Count { max, .. } => {
                let auto = accept(setting, "\"auto\"");
                let mut seen = vec![auto];
                for value in 0..=*max {
                    let config = accept(setting, &value.to_string());
                    assert!(!seen.contains(&config), "{value} sets nothing");
                    seen.push(config);
                }
                for outside in [-1, max + 1, i64::MIN, i64::MAX] {
                    out_of_range(&outside.to_string());
                }
                refuse(setting, "\"many\"", "", "\"many\" is not valid");
                refuse_other_types(setting, &["an integer", "a string"]);
            }
            Kind::Number { values, .. } => {
                let mut seen: Vec<Config> = Vec::new();
                for value in *values {
                    let config = accept(setting, &value.to_string());
                    assert!(!seen.contains(&config), "{value} sets nothing");
                    seen.push(config);
                }
                for other in ["1", "-90", "360", "99999999999999999999"] {
                    refuse(setting, other, "", &format!("{other} is none of these"));
                }
                refuse_other_types(setting, &["an integer"]);
            }
            Kind::Mode { values, .. } => {
                let mut seen: Vec<Config> = Vec::new();
                for value in *values {
                    let config = accept(setting, &format!("{value:#o}"));
                    assert!(!seen.contains(&config), "{value:#o} sets nothing");
                    assert_eq!(config, accept(setting, &value.to_string()));
                    seen.push(config);
                }
                // Without "0o" it is another number.
                for other in ["600", "-1", "0o601", "4294967680", "99999999999999999999"] {
                    refuse(setting, other, "", &format!("{other} is none of these"));
                }
                refuse_other_types(setting, &["an integer"]);
            }
            Kind::Seconds { min, max, .. } => {
                let (low, high) = (
                    accept(setting, &min.to_string()),
                    accept(setting, &max.to_string()),
                );
                assert_ne!(low, high, "{} sets nothing", setting.key);
                assert_eq!(accept(setting, "7"), accept(setting, "7.0"));
                for outside in [min - 0.001, max + 0.001, -1.0] {
                    out_of_range(&format!("{outside:?}"));
                }
                for outside in ["-1", "nan", "inf", "-inf", "1e400", "99999999999999999999"] {
                    out_of_range(outside);
                }
                refuse_other_types(setting, &["an integer", "a float"]);
            }
            Kind::Settle { .. } => {
                let time = |ms| Settle::Time(Duration::from_millis(ms));
                for (text, expected) in [
                    ("0", Settle::Pictures(0)),
                    ("1000", Settle::Pictures(1000)),
                    ("\"0 s\"", time(0)),
                    ("\"30 s\"", time(30_000)),
                    ("\"1.5s\"", time(1500)),
                    ("\"200 ms\"", time(200)),
                ] {
                    assert_eq!(accept(setting, text).camera.settle, expected, "{text}");
                }
                for outside in ["-1", "1001", "99999999999999999999"] {
                    out_of_range(outside);
                }
                for wrong in [
                    "", "5", "s", "-1 s", "31 s", "30001 ms", "1e3 ms", "inf s", "2 m", "1 h",
                ] {
                    let what = format!("{wrong:?} is not valid");
                    refuse(setting, &format!("{wrong:?}"), "", &what);
                }
                refuse_other_types(setting, &["an integer", "a string"]);
            }
            Kind::Area { .. } => {
                for (text, expected) in [
                    ("[0, 0, 16, 16]", [0, 0, 16, 16]),
                    ("[8192, 8192, 8192, 8192]", [8192; 4]),
                    ("[ 1, 2,\n 640,\n 480, ]", [1, 2, 640, 480]),
                ] {
                    let crop = accept(setting, text).camera.crop.expect("it is set");
                    let got = [crop.x, crop.y, crop.width, crop.height];
                    assert_eq!(got, expected, "{text}");
                }
                for (wrong, what) in [
                    ("[]", "found 0 numbers"),
                    ("[0, 0, 640]", "found 3 numbers"),
                    ("[0, 0, 640, 480, 1]", "found 5 numbers"),
                    ("[-1, 0, 640, 480]", "x -1 is out of range"),
                    ("[0, 8193, 640, 480]", "y 8193 is out of range"),
                    ("[0, 0, 0, 480]", "width 0 is out of range"),
                    ("[0, 0, 640, 15]", "height 15 is out of range"),
                    ("[0, 0, 640, 8193]", "height 8193 is out of range"),
                    ("[0, 65536, 640, 480]", "y 65536 is out of range"),
                    (
                        "[0, 0, 99999999999999999999, 480]",
                        "width 99999999999999999999 is out of range",
                    ),
                    ("[0.5, 0, 640, 480]", "x: found a float"),
                    ("[0, \"0\", 640, 480]", "y: found a string"),
                    ("[0, 0, true, 480]", "width: found a boolean"),
                    ("[0, 0, 640, [480]]", "height: found an array"),
                ] {
                    refuse(setting, wrong, "", what);
                }
                refuse_other_types(setting, &["an array"]);
            }
            Kind::Boolean { .. } => {
                assert_ne!(accept(setting, "true"), accept(setting, "false"));
                refuse_other_types(setting, &["a boolean"]);
            }
            Kind::Choice { names, .. } => {
                let mut seen: Vec<Config> = Vec::new();
                for name in names() {
                    let config = accept(setting, &format!("{name:?}"));
                    assert!(!seen.contains(&config), "{name} sets nothing");
                    seen.push(config);
                }
                for name in ["", "None", "AUTO", "Http", "v4l2 "] {
                    refuse(
                        setting,
                        &format!("{name:?}"),
                        "",
                        &format!("{name:?} is unknown"),
                    );
                }
                refuse_other_types(setting, &["a string"]);
            }
            Kind::Text { .. } | Kind::Path { .. } => {
                let (good, bad) = texts(setting.section, setting.key);
                for text in good {
                    accept(setting, &format!("\"{text}\""));
                }
                for text in bad {
                    // What a person sees of it: escaped as in Rust, cut after 40 characters.
                    let text = text.replace("\\u0000", "\\0").replace("\\u0085", "\\u{85}");
                    let long = text.chars().count() > 60;
                    let shown: String = text.chars().take(if long { 40 } else { 60 }).collect();
                    let cut = if long { "…" } else { "" };
                    let toml = text.replace("\\0", "\\u0000").replace("\\u{85}", "\\u0085");
                    let what = format!("\"{shown}{cut}\" is not valid");
                    refuse(setting, &format!("\"{toml}\""), "", &what);
                }
                refuse_other_types(setting, &["a string"]);
            }
            Kind::Password { .. } => {
                let of = |length| format!("\"{}\"", "ü".repeat(length));
                assert_ne!(accept(setting, &of(1)), accept(setting, &of(256)));
                for wrong in [of(0), of(257)] {
                    refuse(setting, &wrong, "", "is empty or too long");
                }
                refuse_other_types(setting, &["a string"]);
            }
            Kind::Hidden { .. } => {
                let (good, bad) = hidden(setting.key);
                for text in good {
                    accept(setting, &format!("{text:?}"));
                }
                for text in bad {
                    refuse(setting, &format!("{text:?}"), "", "is not valid");
                }
                refuse_other_types(setting, &["a string"]);
            }
            Kind::List { most, .. } => {
                let (good, bad) = entries(setting.key);
                for text in &good {
                    accept(setting, &format!("[{text:?}]"));
                }
                for text in bad {
                    let what = format!("{text:?} is not valid");
                    refuse(setting, &format!("[{:?}, {text:?}]", good[0]), "", &what);
                }
                let all = vec![format!("{:?}", good[0]); *most];
                accept(setting, &format!("[{}]", all.join(", ")));
                let more = [&all[..], &all[..1]].concat();
                let what = format!("has {} entries", most + 1);
                refuse(setting, &format!("[{}]", more.join(", ")), "", &what);
                refuse(setting, "[1]", "", "found an integer in the array");
                refuse_other_types(setting, &["an array"]);
            }
            Kind::Url { .. } => {
                for good in ["http://box", "http://me:pw@[::1]:8080/x?y"] {
                    accept(setting, &format!("{good:?}"));
                }
                for (bad, what) in [
                    ("", "it is empty"),
                    ("http://", "it names no host"),
                    ("http://box/a b", "a space is written as %20"),
                ] {
                    refuse(setting, &format!("{bad:?}"), "", what);
                }
                refuse_other_types(setting, &["a string"]);
            }
            Kind::Program { .. } => {
                accept(setting, "[]");
                accept(setting, r#"["a", "", "b c"]"#);
                refuse(setting, "[\"a\", 1]", "", "found an integer in the array");
                refuse(
                    setting,
                    r#"["a", "b\u0000"]"#,
                    "",
                    r#""b\0" contains a NUL"#,
                );
                refuse_other_types(setting, &["an array"]);
            }
            Kind::Controls { .. } => {
                accept(setting, "{ a_1 = 1, b = true }");
                refuse(setting, "{ gain = 1.5 }", ".gain", "found a float");
                refuse(setting, "{ gain = \"1\" }", ".gain", "found a string");
                refuse(
                    setting,
                    "{ gain = 9223372036854775808 }",
                    ".gain",
                    "9223372036854775808 is out of range",
                );
                let no_name = "no name of a control (lower case, digits and _)";
                refuse(setting, "{ Gain = 1 }", ".Gain", no_name);
                refuse(
                    setting,
                    "{ \"white balance\" = 1 }",
                    ".white balance",
                    no_name,
                );
                refuse(setting, "{ \"\" = 1 }", ".", no_name);
                refuse_other_types(setting, &["a table"]);
            }
        }
    }
}

#[test]
fn the_bounds_are_those_promised() {
    let allowed = |key: &str| {
        let setting = SETTINGS.iter().find(|s| s.key == key).unwrap();
        setting.kind.to_string()
    };
    assert_eq!(allowed("width"), "an integer from 16 to 8192");
    assert_eq!(allowed("height"), "an integer from 16 to 8192");
    assert_eq!(allowed("fps"), "an integer from 1 to 240");
    assert_eq!(allowed("buffers"), "an integer from 2 to 32");
    assert_eq!(allowed("linger_s"), "seconds from 0 to 86400");
    assert_eq!(allowed("clients"), "an integer from 1 to 64");
    assert_eq!(allowed("quality"), "an integer from 1 to 100");
    assert_eq!(allowed("chroma"), r#""auto", "420", "422""#);
    assert_eq!(allowed("frame_bytes"), "an integer from 131072 to 16777216");
    assert_eq!(allowed("ack_timeout_s"), "seconds from 0.1 to 3600");
    assert_eq!(allowed("write_timeout_s"), "seconds from 0.1 to 3600");
    assert_eq!(allowed("head_timeout_s"), "seconds from 0.1 to 3600");
    assert_eq!(
        allowed("source"),
        r#""v4l2", "pipe", "replay", "pattern", "call", "push", "http", "qt-shm""#
    );
    assert_eq!(allowed("kind"), r#""qt-shm", "memfd""#);
    assert_eq!(allowed("mode"), "0o600, 0o660, 0o666");
    assert_eq!(allowed("slots"), "an integer from 2 to 32");
    assert_eq!(allowed("readers"), "an integer from 1 to 32");
    assert_eq!(allowed("password"), "1 to 256 characters");
    assert_eq!(allowed("codec"), r#""jpeg", "h264""#);
    assert_eq!(
        allowed("protocol"),
        r#""http", "pull", "push", "raw", "call""#
    );
    assert_eq!(
        allowed("format"),
        r#""auto", "mjpeg", "yu12", "yv12", "nv12", "nv21", "nv16", "yuyv", "uyvy", "yvyu", "vyuy", "rgb24", "bgr24", "grey", "h264""#
    );
}

#[test]
fn all_errors_are_told_at_once_each_with_its_line() {
    let text = r#"[camera]
name = ""
widht = 640
source = "v4l"
fps = 0.5
command = [
  "ffmpeg",
  7,
]
frame_bytes = 1
colour = "red"

[camera.controls]
gain = 1
Gain = 1
focus = "near"

[[listener]]
bind = "localhost:8080"

[[listener]]
protocol = "push"
clients = 65
quality = 101
set_controls = true

[limit]
x = 1

[limits]
ack_timeout_s = "10s"
"#;
    assert_eq!(
        errors(text),
        [
            r#"camd.toml:2: camera.name: "" is not valid; allowed: 1 to 64 characters, no control characters"#,
            r#"camd.toml:3: camera.widht: unknown key; did you mean "width"?"#,
            r#"camd.toml:4: camera.source: "v4l" is unknown; allowed: "v4l2", "pipe", "replay", "pattern", "call", "push", "http", "qt-shm""#,
            r#"camd.toml:5: camera.fps: found a float; allowed: an integer from 1 to 240"#,
            r#"camd.toml:8: camera.command: found an integer in the array; allowed: an array of strings: a program, its arguments"#,
            r#"camd.toml:10: camera.frame_bytes: unknown key here; it is a key of [limits]"#,
            r#"camd.toml:11: camera.colour: unknown key; allowed: name, source, device, command, path, key, address, url, tls, fingerprint, user, password, password_file, width, height, fps, format, buffers, linger_s, settle, rotate, flip, crop, timestamp, encoder, controls"#,
            r#"camd.toml:15: camera.controls.Gain: no name of a control (lower case, digits and _); allowed: names as `camd devices` prints them, with integers, true or false"#,
            r#"camd.toml:16: camera.controls.focus: found a string; allowed: names as `camd devices` prints them, with integers, true or false"#,
            r#"camd.toml:18: listener.protocol: missing; allowed: "http", "pull", "push", "raw", "call""#,
            r#"camd.toml:19: listener.bind: "localhost:8080" is not valid; write "127.0.0.1:8080"; allowed: "IPv4:port", "[IPv6]:port", "unix:/absolute/path" (107 bytes) or, call, "relay:host:port""#,
            r#"camd.toml:21: listener.bind: missing; allowed: "IPv4:port", "[IPv6]:port", "unix:/absolute/path" (107 bytes) or, call, "relay:host:port""#,
            r#"camd.toml:23: listener.clients: 65 is out of range; allowed: an integer from 1 to 64"#,
            r#"camd.toml:24: listener.quality: 101 is out of range; allowed: an integer from 1 to 100"#,
            r#"camd.toml:25: listener.set_controls: means nothing for protocol "push"; allowed: with "http" only"#,
            r#"camd.toml:27: limit: unknown section; did you mean "limits"?"#,
            r#"camd.toml:31: limits.ack_timeout_s: found a string; allowed: seconds from 0.1 to 3600"#,
        ]
    );
}

#[test]
fn sections_of_the_wrong_kind() {
    assert_eq!(
        errors("[listener]\nprotocol = \"http\"\n"),
        [
            "camd.toml:1: listener: found a table; allowed: sections [[listener]], in double brackets"
        ]
    );
    assert_eq!(
        errors("listener = []\n"),
        ["camd.toml:1: listener: none; allowed: 1 to 16 sections [[listener]]"]
    );
    assert_eq!(
        errors("\nlistener = [ 1 ]\n"),
        ["camd.toml:2: listener: found an integer; allowed: sections [[listener]]"]
    );
    assert_eq!(
        errors("limits = 1\n\n[[camera]]\n"),
        [
            "camd.toml:1: limits: found an integer; allowed: a section [limits]",
            "camd.toml:3: camera: found an array; allowed: a section [camera]",
        ]
    );
    assert_eq!(
        errors("width = 640\nserver = 1\n"),
        [
            "camd.toml:1: width: unknown section; it is a key of [camera]",
            "camd.toml:2: server: unknown section; allowed: [camera], [call], [[user]], [[listener]], [[sink]], [[neighbour]], [limits]",
        ]
    );
}

/// What is wrong as TOML and what is wrong as a configuration, but no second error for the same line, and none for what
/// may be missing only because its line cannot be read.
#[test]
fn text_that_is_no_toml() {
    let places = |text: &str| -> Vec<String> {
        let place = |e: &String| e.splitn(4, ':').take(3).collect::<Vec<_>>().join(":");
        errors(text).iter().map(place).collect()
    };
    let text = r#"[camera]
width = 64O
fps = 0
fps = 1
source = "replay"
heigth

[[listener]]
protocol http
bind = "x"
"#;
    assert_eq!(
        places(text),
        [
            "camd.toml:2: not valid TOML",
            "camd.toml:3: camera.fps",
            "camd.toml:4: not valid TOML",
            "camd.toml:6: not valid TOML",
            "camd.toml:9: not valid TOML",
            "camd.toml:10: listener.bind",
        ]
    );
    assert_eq!(
        errors(text)[2],
        "camd.toml:4: not valid TOML: duplicate key"
    );
    // A section whose header is wrong is not taken for the end of the one before.
    assert_eq!(
        places("[camera]\nfps = 0\n\n[[listener]\nbind = \"x\"\n\n[limits]\nack_timeout_s = 0\n"),
        [
            "camd.toml:2: camera.fps",
            "camd.toml:4: not valid TOML",
            "camd.toml:8: limits.ack_timeout_s",
        ]
    );
    // An open end.
    assert_eq!(
        places("[camera]\nname = \"ü\nfps = 0\n[limits]"),
        ["camd.toml:2: not valid TOML", "camd.toml:3: camera.fps"]
    );
    assert_eq!(places("[camera"), ["camd.toml:1: not valid TOML"]);
    assert_eq!(places("\0"), ["camd.toml:1: not valid TOML"]);
    let nested = format!("a = {}", "[".repeat(100_000));
    assert_eq!(places(&nested), ["camd.toml:1: not valid TOML"]);
}

#[test]
fn an_error_is_one_line() {
    assert_eq!(
        errors("\"a\\nb\" = 1\n"),
        [
            "camd.toml:1: a?b: unknown section; allowed: [camera], [call], [[user]], [[listener]], [[sink]], [[neighbour]], [limits]"
        ]
    );
}

/// Slips of the finger anywhere in the file give errors with a line of the file, or a good configuration; never a panic.
#[test]
fn damaged_files() {
    let lines = SHIPPED.lines().count();
    let check = |text: &str| {
        for error in parse(text, "t").err().unwrap_or_default() {
            let line = error.line.expect("the file could be read");
            assert!((1..=lines + 1).contains(&line), "{error} for\n{text}");
        }
    };
    // Comments take up most of the file and of the time.
    let live = |line: &&str| !line.starts_with('#');
    let text: String = SHIPPED.split_inclusive('\n').filter(live).collect();
    for at in 0..text.len() {
        let (before, after) = text.split_at(at);
        check(before);
        check(&[before, &after[1..]].concat());
        for slip in [
            "[", "]", "{", "}", "\"", "'", "=", ",", "#", "\n", ".", "-", "9",
        ] {
            check(&[before, slip, &after[1..]].concat());
        }
    }
}

#[test]
fn line_ends_of_windows() {
    assert_eq!(good(&SHIPPED.replace('\n', "\r\n")), default());
    assert_eq!(
        errors("[camera]\r\n\r\nfps = 0\r\n"),
        ["camd.toml:3: camera.fps: 0 is out of range; allowed: an integer from 1 to 240"]
    );
}

#[test]
fn sources_have_what_they_need() {
    assert_eq!(
        errors("\n[camera]\nsource = \"replay\"\n"),
        [
            "camd.toml:2: camera.path: missing, source \"replay\" needs it; allowed: a folder of JPEGs, or one MJPEG file"
        ]
    );
    // A wrong path is not a missing one as well.
    assert_eq!(
        errors("[camera]\nsource = \"replay\"\npath = \"\"\n"),
        [
            "camd.toml:3: camera.path: \"\" is not valid; allowed: the path of a folder of JPEGs, or of one MJPEG file"
        ]
    );
    assert_eq!(
        errors("[camera]\nsource = \"replay\"\npath = 1\n"),
        [
            "camd.toml:3: camera.path: found an integer; allowed: the path of a folder of JPEGs, or of one MJPEG file"
        ]
    );
    for command in ["[]", "[\"\", \"a\"]"] {
        assert_eq!(
            errors(&format!(
                "[camera]\nsource = \"pipe\"\ncommand = {command}\n"
            )),
            [
                "camd.toml:3: camera.command: names no program, source \"pipe\" needs one; allowed: [\"program\", \"argument\", …]"
            ]
        );
    }
    assert_eq!(
        errors("[camera]\nsource = \"pipe\"\ncommand = \"cat\"\n"),
        [
            "camd.toml:3: camera.command: found a string; allowed: an array of strings: a program, its arguments"
        ]
    );
    good("[camera]\nsource = \"pipe\"\ncommand = [\"cat\"]\n");
    good("[camera]\nsource = \"pattern\"\ncommand = []\n");
}

#[test]
fn source_push_has_a_server_that_is_another() {
    assert_eq!(
        errors("\n[camera]\nsource = \"push\"\n"),
        [
            r#"camd.toml:2: camera.address: missing, source "push" needs it; allowed: "host:port", "[IPv6]:port" or "unix:/path""#
        ]
    );
    // A wrong one is not a missing one as well.
    assert_eq!(
        errors("[camera]\nsource = \"push\"\naddress = \"box\"\n"),
        [
            r#"camd.toml:3: camera.address: "box" is not valid; allowed: "host:port", "[IPv6]:port" or "unix:/absolute/path" (107 bytes)"#
        ]
    );
    let push = |address: &str, bind: &str| {
        format!(
            "[camera]\nsource = \"push\"\naddress = {address:?}\n[[listener]]\nprotocol = \"push\"\nbind = {bind:?}\n"
        )
    };
    for (address, bind) in [
        ("127.0.0.1:8081", "0.0.0.0:8081"),
        ("127.0.0.2:8081", "[::]:8081"),
        ("localhost:8081", "127.0.0.1:8081"),
        ("192.168.1.20:8081", "192.168.1.20:8081"),
        ("[::1]:8081", "[::1]:8081"),
        ("unix:/run/a", "unix:/run/a"),
    ] {
        let own = format!(
            "camd.toml:3: camera.address: {address:?} is a listener of this camd's own; allowed: another server"
        );
        assert_eq!(errors(&push(address, bind)), [own], "{bind}");
    }
    for (address, bind) in [
        ("127.0.0.1:8082", "0.0.0.0:8081"),
        ("192.168.1.20:8081", "0.0.0.0:8081"),
        ("box:8081", "0.0.0.0:8081"),
        ("unix:/run/a", "unix:/run/b"),
    ] {
        let config = good(&push(address, bind));
        assert_eq!(config.camera.address.unwrap().to_string(), address);
    }
}

#[test]
fn source_qt_shm_is_no_sink_of_its_own() {
    let key = |key: &str| format!("[camera]\nsource = \"qt-shm\"\nkey = {key:?}\n");
    assert_eq!(good(&key("mine")).camera.key, "mine");
    for wrong in [String::new(), "ä".repeat(65)] {
        let errors = errors(&key(&wrong));
        let [error] = &errors[..] else {
            panic!("{errors:?}")
        };
        assert!(
            error.starts_with("camd.toml:3: camera.key: ")
                && error.ends_with(" is not valid; allowed: 1 to 64 characters"),
            "{error}"
        );
    }
    let sink = |key: &str| format!("[[sink]]\nkind = \"qt-shm\"\nkey = {key:?}\n");
    good(&format!("{}{}", key("mine"), sink("yours")));
    assert_eq!(
        errors(&format!("{}{}", key("mine"), sink("mine"))),
        [
            "camd.toml:3: camera.key: is a sink's: pictures would go round in a circle; allowed: another key"
        ]
    );
    let both_default = "[camera]\nsource = \"qt-shm\"\n[[sink]]\nkind = \"qt-shm\"\n";
    assert_eq!(errors(both_default).len(), 1);
    good(&format!("[camera]\nkey = \"mine\"\n{}", sink("mine")));
}

#[test]
fn source_call_has_somebody_to_ring_up() {
    let missing =
        "missing, source \"call\" needs it; allowed: \"user@host:port\" or \"user@[IPv6]:port\"";
    assert_eq!(
        errors("\n[camera]\nsource = \"call\"\n"),
        [format!("camd.toml:3: call.dial: {missing}")]
    );
    assert_eq!(
        errors("[camera]\nsource = \"call\"\n\n[call]\nuser = \"hall\"\n"),
        [format!("camd.toml:4: call.dial: {missing}")]
    );
    // A wrong one is not a missing one as well.
    assert_eq!(
        errors("[camera]\nsource = \"call\"\n[call]\ndial = \"camera\"\n"),
        [
            "camd.toml:4: call.dial: \"camera\" is not valid; allowed: \"user@host:port\" or \"user@[IPv6]:port\""
        ]
    );
    assert_eq!(
        errors("[call]\ndial = \"camera@h:1\"\nuser = \"camera\"\n"),
        ["camd.toml:3: call.user: is whom dial rings up; allowed: another name"]
    );
    let config = good("[camera]\nsource = \"call\"\n[call]\ndial = \"camera@[::1]:1\"\n");
    assert_eq!(config.call.dial.unwrap().to_string(), "camera@[::1]:1");
}

#[test]
fn a_password_in_a_file() {
    let file = scratch("password.txt", b"from the file\r\nand more\n");
    let file = file.to_str().unwrap();
    let config = good(&format!("[call]\npassword_file = {file:?}\n"));
    assert_eq!(config.call.password, Secret::new("from the file"));
    assert_eq!(config.call.password_file, Some(file.into()));
    assert_eq!(
        errors(&format!(
            "[call]\npassword_file = {file:?}\npassword = \"x\"\n"
        )),
        ["camd.toml:2: call.password_file: there is a password, too; allowed: one of the two"]
    );
    assert_eq!(
        errors("[call]\n\npassword_file = \"/nonexistent/password\"\n"),
        [
            "camd.toml:3: call.password_file: /nonexistent/password: cannot be read: No such file or directory (os error 2)"
        ]
    );
    let empty = scratch("empty.txt", b"\n");
    let empty = empty.to_str().unwrap();
    assert_eq!(
        errors(&format!("[call]\npassword_file = {empty:?}\n")),
        [format!(
            "camd.toml:2: call.password_file: {empty}: its first line is not a password of 1 to 256 characters"
        )]
    );
}

fn listeners(binds: &[&str]) -> String {
    let section = |bind: &&str| {
        format!("[[listener]]\nprotocol = \"push\"\nbind = \"{bind}\"\nclients = 1\n")
    };
    binds.iter().map(section).collect()
}

#[test]
fn two_listeners_on_one_address() {
    for (first, second) in [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("127.0.0.1:80", "0.0.0.0:80"),
        ("[::]:80", "[::1]:80"),
        ("127.0.0.1:80", "[::]:80"),
        ("[::]:80", "0.0.0.0:80"),
        ("unix:/run/s", "unix:/run/s"),
    ] {
        let expected = format!(
            "camd.toml:7: listener.bind: {second:?} is taken by another listener ({first:?}); allowed: each address and port once"
        );
        assert_eq!(errors(&listeners(&[first, second])), [expected]);
    }
    good(&listeners(&[
        "127.0.0.1:80",
        "127.0.0.2:80",
        "127.0.0.1:81",
        "[::1]:80",
        "[::2]:80",
        "0.0.0.0:0",
        "0.0.0.0:0",
        "unix:/run/s",
        "unix:/run/t",
    ]));
}

#[test]
fn as_many_listeners_as_there_is_room_for() {
    let binds: Vec<_> = (1..=17).map(|port| format!("127.0.0.1:{port}")).collect();
    let binds: Vec<_> = binds.iter().map(String::as_str).collect();
    assert_eq!(good(&listeners(&binds[..16])).listeners.len(), 16);
    assert_eq!(
        errors(&listeners(&binds)),
        ["camd.toml:65: listener: too many sections; allowed: at most 16"]
    );
}

#[test]
fn as_many_clients_as_there_are_slots() {
    let file = |clients: [u32; 3]| {
        let binds = listeners(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        let mut clients = clients.iter();
        let line = |line: &str| match line {
            "clients = 1" => format!("clients = {}\n", clients.next().unwrap()),
            line => format!("{line}\n"),
        };
        binds.lines().map(line).collect::<String>()
    };
    good(&file([31, 32, 1]));
    assert_eq!(
        errors(&file([40, 25, 10])),
        ["camd.toml:8: listener.clients: 65 in all listeners so far; allowed: at most 64 in all"]
    );
    // The defaults count.
    let text = file([40, 9, 1]).replace("clients = 9\n", "\n");
    good(&text);
    let text = file([40, 9, 9]).replace("clients = 9\n", "\n");
    assert_eq!(
        errors(&text),
        ["camd.toml:9: listener.clients: 72 in all listeners so far; allowed: at most 64 in all"]
    );
}

#[test]
fn one_address_has_half_of_the_clients_unless_it_is_set() {
    let file =
        |keys: &str| format!("[[listener]]\nprotocol = \"push\"\nbind = \"[::1]:1\"\n{keys}\n");
    let share = |keys: &str| good(&file(keys)).listeners[0].share();
    for (keys, expected) in [
        ("", 8),
        ("clients = 1", 1),
        ("clients = 2", 1),
        ("clients = 3", 2),
        ("clients = 64", 32),
        ("clients = 5\nclients_per_address = 5", 5),
        ("clients_per_address = 1", 1),
        // As good as without.
        ("clients = 5\nclients_per_address = 64", 5),
    ] {
        assert_eq!(share(keys), expected, "{keys}");
    }
    assert_eq!(
        errors(&file("clients_per_address = 0")),
        [
            "camd.toml:4: listener.clients_per_address: 0 is out of range; allowed: an integer from 1 to 64"
        ]
    );
    let relay =
        "[[listener]]\nprotocol = \"call\"\nbind = \"relay:box:1\"\nclients_per_address = 1\n";
    assert_eq!(
        errors(relay),
        [
            "camd.toml:4: listener.clients_per_address: means nothing where camd does not listen; leave it out"
        ]
    );
}

#[test]
fn qualities_of_the_original_protocols() {
    assert_eq!(ProtocolKind::Pull.default_quality(), 50);
    assert_eq!(ProtocolKind::Push.default_quality(), 80);
    assert_eq!(ProtocolKind::Raw.default_quality(), 80);
    assert_eq!(ProtocolKind::Http.default_quality(), 80);
    assert_eq!(ProtocolKind::Call.default_quality(), 30);
}

/// What of a call listener is not common is told, and what it lacks has the original's value.
#[test]
fn call_listeners() {
    let file =
        |keys: &str| format!("[[listener]]\nprotocol = \"call\"\nbind = \"[::1]:1\"\n{keys}\n");
    assert_eq!(good(&file("")).listeners, [call("[::1]:1")]);
    assert_eq!(
        errors(&file("max_fps = 3\nset_controls = true")),
        [
            r#"camd.toml:4: listener.max_fps: means nothing for protocol "call"; allowed: with "http", "pull", "push", "raw" only"#,
            r#"camd.toml:5: listener.set_controls: means nothing for protocol "call"; allowed: with "http" only"#,
        ]
    );
    let http = file("user = \"a\"").replace("call", "http");
    assert_eq!(
        errors(&http),
        [
            r#"camd.toml:4: listener.user: means nothing for protocol "http"; allowed: with "call" only"#
        ]
    );
    let relay = |protocol: &str, keys: &str| {
        format!("[[listener]]\nprotocol = {protocol:?}\nbind = \"relay:box:1\"\n{keys}")
    };
    assert_eq!(good(&relay("call", "")).listeners[0].clients, 1);
    assert_eq!(
        errors(&relay("push", "clients = 2")),
        [
            r#"camd.toml:3: listener.bind: "relay:box:1" means nothing for protocol "push"; allowed: with "call" only"#,
            "camd.toml:4: listener.clients: means nothing where camd does not listen; leave it out",
        ]
    );
    let path = password_file();
    let config = good(&file(&format!("password_file = {path:?}")));
    assert_eq!(config.listeners[0].password, Secret::new("from the file"));
    assert_eq!(
        errors(&file(&format!(
            "password_file = {path:?}\npassword = \"a\""
        ))),
        ["camd.toml:4: listener.password_file: there is a password, too; allowed: one of the two"]
    );
    assert_eq!(
        errors(&file("password_file = \"/nowhere/at all\"")),
        [
            "camd.toml:4: listener.password_file: /nowhere/at all: cannot be read: No such file or directory (os error 2)"
        ]
    );
}

#[test]
fn chroma_is_a_name_and_auto_depends_on_the_quality() {
    let http =
        |keys: &str| format!("[[listener]]\nprotocol = \"http\"\nbind = \"[::]:1\"\n{keys}\n");
    assert_eq!(
        errors(&http("chroma = 420")),
        [r#"camd.toml:4: listener.chroma: found an integer; allowed: "auto", "420", "422""#]
    );
    assert_eq!(
        errors(&http(r#"chroma = "444""#)),
        [r#"camd.toml:4: listener.chroma: "444" is unknown; allowed: "auto", "420", "422""#]
    );
    assert_eq!(
        errors("[[sink]]\nkind = \"qt-shm\"\nchroma = \"420\"\n"),
        [
            r#"camd.toml:3: sink.chroma: means nothing for kind "qt-shm"; allowed: with "memfd" only"#
        ]
    );
    for (keys, expected) in [
        ("", Chroma::Yuv420),
        ("quality = 89", Chroma::Yuv420),
        ("quality = 90", Chroma::Yuv422),
        ("quality = 100\nchroma = \"auto\"", Chroma::Yuv422),
        ("quality = 100\nchroma = \"420\"", Chroma::Yuv420),
        ("quality = 1\nchroma = \"422\"", Chroma::Yuv422),
    ] {
        let config = good(&http(keys));
        assert_eq!(
            Profile::of(&config.listeners[0]).chroma(),
            expected,
            "{keys}"
        );
        let sink = format!("[[sink]]\nkind = \"memfd\"\n{keys}");
        assert_eq!(
            Profile::of_sink(&good(&sink).sinks[0]).chroma(),
            expected,
            "{keys}"
        );
    }
}

#[test]
fn neighbours() {
    assert_eq!(
        errors("[[neighbour]]\nname = \"n\"\n[[neighbour]]\nurl = \":1\"\n"),
        [
            "camd.toml:1: neighbour.url: missing; allowed: http://…, https://…, :PORT, :PORT/PATH or /PATH, at most 128 bytes",
            "camd.toml:3: neighbour.name: missing; allowed: 1 to 32 characters, no control characters",
        ]
    );
    let many = |n| "[[neighbour]]\nname = \"n\"\nurl = \":1\"\n".repeat(n);
    assert_eq!(good(&many(16)).neighbours.len(), 16);
    assert_eq!(
        errors(&many(17)),
        ["camd.toml:49: neighbour: too many sections; allowed: at most 16"]
    );
    // The brackets of one where there may be many.
    assert_eq!(
        errors("[neighbour]\nname = \"n\"\n"),
        [
            "camd.toml:1: neighbour: found a table; allowed: sections [[neighbour]], in double brackets"
        ]
    );
}

#[test]
fn sinks() {
    let config = good("[[sink]]\nkind = \"qt-shm\"\n[[sink]]\nkind = \"memfd\"\n");
    let expected = [qt_shm("169254"), memfd("/run/camd/frames.sock")];
    assert_eq!(config.sinks, expected);
    assert_eq!(config.renditions(), 2);

    assert_eq!(
        errors("[[sink]]\n"),
        ["camd.toml:1: sink.kind: missing; allowed: \"qt-shm\", \"memfd\""]
    );
    let both = |kind: &str, keys: &str| format!("[[sink]]\nkind = {kind:?}\n{keys}");
    assert_eq!(
        errors(&both("qt-shm", "socket = \"/s\"\nformat = \"raw\"\n")),
        [
            "camd.toml:3: sink.socket: means nothing for kind \"qt-shm\"; allowed: with \"memfd\" only",
            "camd.toml:4: sink.format: means nothing for kind \"qt-shm\"; allowed: with \"memfd\" only",
        ]
    );
    assert_eq!(
        errors(&both("memfd", "key = \"1\"\n")),
        ["camd.toml:3: sink.key: means nothing for kind \"memfd\"; allowed: with \"qt-shm\" only"]
    );
    let raw = "format = \"raw\"\nquality = 1\nchroma = \"422\"\nwidth = 16\nheight = 16\n";
    assert_eq!(
        errors(&both("memfd", raw)),
        [
            "camd.toml:4: sink.quality: means nothing for format \"raw\"; allowed: with \"jpeg\" only",
            "camd.toml:5: sink.chroma: means nothing for format \"raw\"; allowed: with \"jpeg\" only",
            "camd.toml:6: sink.width: means nothing for format \"raw\"; allowed: with the others only",
            "camd.toml:7: sink.height: means nothing for format \"raw\"; allowed: with the others only",
        ]
    );
    let h264 = "format = \"h264\"\nfps = 5\nwidth = 16\nheight = 16\n";
    let nothing = |line, key| {
        format!(
            "camd.toml:{line}: sink.{key}: means nothing for format \"h264\"; allowed: with the others only"
        )
    };
    assert_eq!(
        errors(&both("memfd", h264)),
        [nothing(4, "fps"), nothing(5, "width"), nothing(6, "height")]
    );
    let config = good(&both("memfd", "format = \"h264\"\n"));
    assert_eq!(config.sinks[0].format, SinkFormat::H264);
    assert_eq!(config.renditions(), 1);
    for (kind, key) in [("qt-shm", "key"), ("memfd", "socket")] {
        let twice = both(kind, "").repeat(2);
        assert_eq!(
            errors(&twice),
            [format!(
                "camd.toml:3: sink.{key}: is another sink's; allowed: each {key} once"
            )]
        );
    }
    let listener = "[[listener]]\nprotocol = \"http\"\nbind = \"unix:/s\"\n";
    assert_eq!(
        errors(&format!("{}{listener}", both("memfd", "socket = \"/s\"\n"))),
        ["camd.toml:3: sink.socket: is a listener's; allowed: each socket once"]
    );
    let of = |n: usize| -> String {
        let sink = |i| both("qt-shm", &format!("key = \"{i}\"\n"));
        (0..n).map(sink).collect()
    };
    good(&of(4));
    assert_eq!(
        errors(&of(5)),
        ["camd.toml:13: sink: too many sections; allowed: at most 4"]
    );
    assert_eq!(
        errors("[sink]\nkind = \"memfd\"\n"),
        ["camd.toml:1: sink: found a table; allowed: sections [[sink]], in double brackets"]
    );
}

/// Written once: tests run at the same time, and one must not see it empty while another writes it.
/// The files of a certificate and of its key.
fn identity() -> (String, String) {
    static FILES: LazyLock<[PathBuf; 2]> = LazyLock::new(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        [
            scratch("certificate", certificate.as_bytes()),
            scratch("key", key.serialize_pem().as_bytes()),
        ]
    });
    let [certificate, key] = &*FILES;
    let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
    (text(certificate), text(key))
}

fn password_file() -> String {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| scratch("password", b"from the file\n"));
    FILE.to_str().unwrap().to_owned()
}

#[test]
fn keys_of_http_on_other_listeners() {
    for protocol in ["pull", "push", "raw"] {
        let text = format!(
            "[[listener]]\nprotocol = \"{protocol}\"\nbind = \"[::1]:1\"\nallow_origin = \"*\"\nset_controls = false\n"
        );
        assert_eq!(
            errors(&text),
            [
                format!(
                    "camd.toml:4: listener.allow_origin: means nothing for protocol {protocol:?}; allowed: with \"http\" only"
                ),
                format!(
                    "camd.toml:5: listener.set_controls: means nothing for protocol {protocol:?}; allowed: with \"http\" only"
                ),
            ]
        );
    }
}

fn scratch(name: &str, content: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn files() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/camd.toml");
    assert_eq!(load(&shipped).unwrap(), default());

    let display = |errors: Vec<camd::config::ConfigError>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let missing = Path::new("/nonexistent/camd.toml");
    assert_eq!(
        display(load(missing).unwrap_err()),
        ["/nonexistent/camd.toml: cannot be read: No such file or directory (os error 2)"]
    );
    let folder = Path::new("/");
    assert_eq!(
        display(load(folder).unwrap_err()),
        ["/: cannot be read: Is a directory (os error 21)"]
    );
    let latin1 = scratch(
        "latin1.toml",
        b"[camera]\nfps = 0\nname = \"H\xfchnerstall\"\n",
    );
    let shown = latin1.display();
    assert_eq!(
        display(load(&latin1).unwrap_err()),
        [format!(
            "{shown}:3: not valid UTF-8; save the file in that encoding"
        )]
    );
    let wrong = scratch("wrong.toml", b"\nfps = 0\n");
    let shown = wrong.display();
    assert_eq!(
        display(load(&wrong).unwrap_err()),
        [format!(
            "{shown}:2: fps: unknown section; it is a key of [camera]"
        )]
    );
}

#[test]
fn the_reference_names_each_key_with_its_default_and_bounds() {
    let reference = reference();
    for Setting {
        key,
        doc,
        absent,
        kind,
        ..
    } in SETTINGS
    {
        let value = match absent {
            Absent::Default(value) => format!(" = {value}"),
            Absent::By {
                variety,
                value,
                others,
            } => match others {
                Some(others) => format!(" = {others}; {}: {value}", variety.name()),
                None => format!(" (not set); {}: {value}", variety.name()),
            },
            Absent::Unset => " (not set)".to_owned(),
            Absent::Required => " (must be set)".to_owned(),
        };
        let entry = format!("\n  {key}{value}\n      {doc}\n      Allowed: {kind}.\n");
        assert!(reference.contains(&entry), "{key} in\n{reference}");
    }
}

#[test]
fn min_fps_is_at_most_max_fps() {
    let listener = "[[listener]]\nprotocol = \"push\"\nbind = \"127.0.0.1:0\"\n";
    assert_eq!(
        errors(&format!("{listener}max_fps = 4\nmin_fps = 6\n")),
        ["camd.toml:5: listener.min_fps: 6 is more than this listener's max_fps; allowed: 1 to 4"]
    );
    // Where it is the default that would be more, nobody asked for it.
    let config = good(&format!("{listener}max_fps = 4\n"));
    assert_eq!(config.listeners[0].min_fps, 5);
    good(&format!("{listener}max_fps = 6\nmin_fps = 6\n"));
}

#[test]
fn the_pictures_of_all_adaptive_listeners_find_room() {
    let listener = |port| {
        format!("[[listener]]\nprotocol = \"push\"\nbind = \"127.0.0.1:{port}\"\nadaptive = true\n")
    };
    let limits = "[limits]\nframe_bytes = 16777216\n";
    good(&format!("{limits}{}{}", listener(1), listener(2)));
    let three = [listener(1), listener(2), listener(3)].concat();
    assert_eq!(
        errors(&format!("{limits}{three}")),
        [
            "camd.toml:2: limits.frame_bytes: 16777216 is too much for the 21 different JPEGs that these listeners and sinks \
             can need of a picture, 7 for each adaptive one; allowed: at most 12782640, or fewer adaptive listeners"
        ]
    );
    good(&format!("[limits]\nframe_bytes = 12782640\n{three}"));
    let all: String = (1..=16).map(|n| listener(n) + "clients = 1\n").collect();
    good(&format!("[limits]\nframe_bytes = 2396745\n{all}"));
    good(&format!("{limits}{}", all.replace("true", "false")));
}

#[test]
fn who_is_let_in() {
    let user = "[[user]]\nname = \"anna\"\npassword = \"secret\"\n";
    let http = "[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:1\"\n";
    let raw = "[[listener]]\nprotocol = \"raw\"\nbind = \"127.0.0.1:2\"\n";
    let call = "[[listener]]\nprotocol = \"call\"\nbind = \"127.0.0.1:3\"\n";
    let access = |text: &str| -> Vec<_> {
        let listeners = good(text).listeners;
        listeners.iter().map(|listener| listener.access).collect()
    };
    use Access::{Open, Users};
    assert_eq!(access(&format!("{http}{raw}{call}")), [Open; 3]);
    assert_eq!(
        access(&format!("{http}{raw}{call}{user}")),
        [Users, Open, Users]
    );
    assert_eq!(access(user), [Users], "the listener of a file without any");
    assert_eq!(access(""), [Open]);
    let open = format!("{http}access = \"open\"\n{call}password = \"p\"\n{user}");
    assert_eq!(access(&open), [Open, Open]);
    let config =
        good(&format!("{call}password = \"p\"\n{raw}{call}{user}").replacen(":3", ":4", 1));
    let is_open: Vec<_> = config
        .listeners
        .iter()
        .map(ListenerConfig::is_open)
        .collect();
    assert_eq!(is_open, [false, true, false]);

    for (text, expected) in [
        (
            format!("{http}access = \"users\"\n"),
            r#"camd.toml:4: listener.access: "users", and there is no [[user]]; allowed: add one (`camd passwd` helps), or "open""#,
        ),
        (
            format!("{call}access = \"users\"\npassword = \"p\"\n{user}"),
            r#"camd.toml:5: listener.password: access = "users" has a password for each user; allowed: one of the two"#,
        ),
        (
            format!("{raw}access = \"users\"\n{user}"),
            r#"camd.toml:4: listener.access: means nothing for protocol "raw"; allowed: with "http", "call" only"#,
        ),
        (
            "[[listener]]\nprotocol = \"call\"\nbind = \"relay:box:1\"\naccess = \"open\"\n".to_owned(),
            "camd.toml:4: listener.access: means nothing where camd does not listen; leave it out",
        ),
        (
            "[[listener]]\nprotocol = \"http\"\nbind = \"unix:/s\"\nallow = [\"::1\"]\n".to_owned(),
            "camd.toml:4: listener.allow: means nothing for a Unix socket, whose file says who may connect; leave it out",
        ),
        (
            "[[user]]\nname = \"anna\"\n".to_owned(),
            "camd.toml:1: user.password: missing; allowed: password, password_file, password_hash (as `camd passwd` prints it) or token",
        ),
        (
            format!("{user}[[user]]\nname = \"Ann\u{430}\"\ntoken = \"0123456789abcdef\"\n"),
            "camd.toml:5: user.name: \"Ann\u{430}\" looks like another user's; allowed: each once",
        ),
        (
            format!("{user}may = []\n"),
            r#"camd.toml:4: user.may: is empty; allowed: "watch", "control" and "update", in a list"#,
        ),
        (
            format!(
                "{user}password_hash = \"$pbkdf2-sha256$i=1000$AAAAAAAAAAA${}\"\n",
                "A".repeat(43)
            ),
            "camd.toml:4: user.password_hash: there is a password, too; allowed: one of the two",
        ),
        (
            format!("{user}password_file = \"/x\"\n"),
            "camd.toml:4: user.password_file: there is a password, too; allowed: one of the two",
        ),
        (
            "[[user]]\nname = \"a\"\ntoken = \"0123456789abcdef\"\n[[user]]\nname = \"b\"\ntoken = \"0123456789abcdef\"\n".to_owned(),
            "camd.toml:6: user.token: is another user's; allowed: each once",
        ),
    ] {
        assert_eq!(errors(&text), [expected], "{text}");
    }
    let all: String = (0..33)
        .map(|i| user.replace("anna", &format!("u{i}")))
        .collect();
    let line = 32 * 3 + 1;
    let expected = format!("camd.toml:{line}: user: too many sections; allowed: at most 32");
    assert_eq!(errors(&all), [expected]);
}

#[test]
fn h264_is_passed_on_as_it_comes() {
    let raw =
        |keys: &str| format!("[[listener]]\nprotocol = \"raw\"\nbind = \"127.0.0.1:2\"\n{keys}");
    assert_eq!(good(&raw("")).listeners[0].codec, StreamCodec::Jpeg);
    let config = good(&raw("codec = \"h264\"\n"));
    assert_eq!(config.listeners[0].codec, StreamCodec::H264);
    assert_eq!(config.renditions(), 0);
    let keys = [
        "quality = 5",
        "chroma = \"420\"",
        "width = 160",
        "height = 160",
        "max_fps = 5",
        "adaptive = true",
        "min_fps = 2",
    ];
    let expected: Vec<_> = (5..)
        .zip(keys)
        .map(|(line, key)| {
            let name = key.split(' ').next().unwrap();
            format!(
                "camd.toml:{line}: listener.{name}: means nothing for codec \"h264\", which is passed on as it comes; allowed: \
                 with \"jpeg\" only"
            )
        })
        .collect();
    assert_eq!(
        errors(&raw(&format!("codec = \"h264\"\n{}\n", keys.join("\n")))),
        expected
    );
    assert_eq!(
        errors("[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:2\"\ncodec = \"h264\"\n"),
        [
            "camd.toml:4: listener.codec: means nothing for protocol \"http\"; allowed: with \"raw\" only"
        ]
    );
    let camera = good("[camera]\nformat = \"h264\"\n").camera;
    assert_eq!(camera.format, Some(CameraFormat::H264));
}
