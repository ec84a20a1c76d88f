//! The command line, as arguments and as text on the terminal.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use camd::command::cli::{Command, Exit, Topic, VERSION, check, help, parse};
use camd::command::fetch::{FetchOptions, FilmOptions, Output};
use camd::config::setting::SETTINGS;

/// Arguments as a shell splits them, without quoting.
fn command(line: &str) -> Command {
    parse(line.split_whitespace()).unwrap_or_else(|e| panic!("camd {line}: {e}"))
}

fn refused(line: &str) -> String {
    match parse(line.split_whitespace()) {
        Ok(command) => panic!("camd {line} is taken for {command:?}"),
        Err(error) => error.to_string(),
    }
}

fn serve(config: impl Into<PathBuf>) -> Command {
    Command::Serve {
        config: config.into(),
        fallback: None,
        watchdog: None,
        board: None,
        updater: None,
    }
}

#[test]
fn serving() {
    assert_eq!(command(""), serve("/etc/camd.toml"));
    assert_eq!(command("--config my.toml"), serve("my.toml"));
    assert_eq!(command("--config=my.toml"), serve("my.toml"));
    assert_eq!(command("--demo"), Command::Demo { port: 8080 });
    for (line, port) in [
        ("--demo --port 9000", 9000),
        ("--port=0 --demo", 0),
        ("--demo --port 65531", 65531),
    ] {
        assert_eq!(command(line), Command::Demo { port });
    }
    // A path is bytes.
    let latin1 = OsString::from_vec(b"/tmp/H\xfchner.toml".to_vec());
    let args = [OsString::from("--config"), latin1.clone()];
    assert_eq!(parse(args), Ok(serve(latin1)));
    let guarded = |config: &str| Command::Serve {
        config: config.into(),
        fallback: Some("/usr/share/camd.toml".into()),
        watchdog: Some("/dev/watchdog".into()),
        board: Some("/run/box".into()),
        updater: Some("/run/update".into()),
    };
    assert_eq!(
        command(
            "--fallback /usr/share/camd.toml --watchdog /dev/watchdog --box /run/box --update /run/update"
        ),
        guarded("/etc/camd.toml")
    );
    assert_eq!(
        command(
            "--watchdog=/dev/watchdog --box=/run/box --update=/run/update --config my.toml --fallback=/usr/share/camd.toml"
        ),
        guarded("my.toml")
    );
}

#[test]
fn checking() {
    let config = "/etc/camd.toml".into();
    let list = false;
    assert_eq!(command("check"), Command::Check { config, list });
    let config = || "my.toml".into();
    assert_eq!(
        command("check --config my.toml"),
        Command::Check {
            config: config(),
            list
        }
    );
    assert_eq!(
        command("--config my.toml check"),
        Command::Check {
            config: config(),
            list
        }
    );
    let list = true;
    assert_eq!(
        command("check --list --config my.toml"),
        Command::Check {
            config: config(),
            list
        }
    );
}

#[test]
fn devices() {
    assert_eq!(command("devices"), Command::Devices { json: false });
    assert_eq!(command("devices --json"), Command::Devices { json: true });
}

#[test]
fn fetching() {
    let one = FetchOptions {
        fingerprint: None,
        url: "pull://box:8082".into(),
        count: 1,
        output: Output::File("snapshot.jpg".into()),
        film: FilmOptions {
            anywhere: true,
            ..FilmOptions::default()
        },
        timeout: Duration::from_secs(10),
    };
    assert_eq!(
        command("fetch pull://box:8082"),
        Command::Fetch(one.clone())
    );
    assert_eq!(
        command("fetch shm:169254"),
        Command::Fetch(FetchOptions {
            fingerprint: None,
            url: "shm:169254".into(),
            output: Output::File("snapshot.png".into()),
            ..one.clone()
        })
    );
    let several = FetchOptions {
        fingerprint: None,
        count: 20,
        output: Output::Dir(".".into()),
        film: FilmOptions {
            count: Some(20),
            anywhere: true,
            ..FilmOptions::default()
        },
        ..one.clone()
    };
    for line in [
        "fetch pull://box:8082 -n 20",
        "fetch -n20 pull://box:8082",
        "fetch --count=20 -- pull://box:8082",
    ] {
        assert_eq!(command(line), Command::Fetch(several.clone()));
    }
    assert_eq!(
        command("fetch push://[::1]:8081 -n 0 -o - --timeout 0.5"),
        Command::Fetch(FetchOptions {
            fingerprint: None,
            url: "push://[::1]:8081".into(),
            count: 0,
            output: Output::Stdout,
            film: FilmOptions::default(),
            timeout: Duration::from_millis(500),
        })
    );
    assert_eq!(
        command("fetch http://box:8080/stream?a=b -n 2 --output clip.mjpeg --timeout 86400"),
        Command::Fetch(FetchOptions {
            fingerprint: None,
            url: "http://box:8080/stream?a=b".into(),
            count: 2,
            output: Output::File("clip.mjpeg".into()),
            film: FilmOptions {
                count: Some(2),
                ..FilmOptions::default()
            },
            timeout: Duration::from_secs(86400),
        })
    );
    assert_eq!(
        command("fetch call://anna:secret@box/camera"),
        Command::Fetch(FetchOptions {
            fingerprint: None,
            url: "call://anna:secret@box/camera".into(),
            ..one.clone()
        })
    );
    let film = |count, duration, segment, anywhere| FilmOptions {
        count,
        duration: Some(duration).filter(|it| *it > 0).map(Duration::from_secs),
        segment: Some(segment).filter(|it| *it > 0).map(Duration::from_secs),
        anywhere,
    };
    for (arguments, count, output, film) in [
        (
            "--duration 60",
            0,
            Output::Dir(".".into()),
            film(None, 60, 0, true),
        ),
        (
            "--duration=60 -n 5 -o a/",
            5,
            Output::Dir("a/".into()),
            film(Some(5), 60, 0, false),
        ),
        (
            "-o clip.mp4 --segment 10",
            1,
            Output::File("clip.mp4".into()),
            film(None, 0, 10, false),
        ),
    ] {
        let expected = Command::Fetch(FetchOptions {
            count,
            output,
            film,
            ..one.clone()
        });
        assert_eq!(
            command(&format!("fetch pull://box:8082 {arguments}")),
            expected
        );
    }
}

#[test]
fn where_fetched_pictures_go() {
    let output = |arg: &str| match command(&format!("fetch push://box -o {arg}")) {
        Command::Fetch(options) => options.output,
        other => panic!("{other:?}"),
    };
    assert_eq!(output("-"), Output::Stdout);
    assert_eq!(output("/"), Output::Dir("/".into()));
    let folder = env!("CARGO_TARGET_TMPDIR");
    assert_eq!(output(folder), Output::Dir(folder.into()));
    assert_eq!(
        output("not/there/yet/"),
        Output::Dir("not/there/yet/".into())
    );
    assert_eq!(
        output("not/there/yet"),
        Output::File("not/there/yet".into())
    );
}

#[test]
fn asking() {
    for help in ["-h", "--help"] {
        assert_eq!(command(help), Command::Help(Topic::Camd));
        assert_eq!(
            command(&format!("check {help}")),
            Command::Help(Topic::Check)
        );
        assert_eq!(
            command(&format!("devices {help}")),
            Command::Help(Topic::Devices)
        );
        // Although there is no URL yet.
        assert_eq!(
            command(&format!("fetch -n 3 {help}")),
            Command::Help(Topic::Fetch)
        );
    }
    for (line, topic) in [
        ("help", Topic::Camd),
        ("help fetch", Topic::Fetch),
        ("help check --help", Topic::Check),
        ("help help", Topic::Camd),
        ("help -h", Topic::Camd),
    ] {
        assert_eq!(command(line), Command::Help(topic), "{line}");
    }
    assert_eq!(command("-V"), Command::Version);
    assert_eq!(command("--version"), Command::Version);
    assert_eq!(VERSION, "camd 0.2.0");
}

#[test]
fn wrong_usage() {
    for (line, expected) in [
        (
            "serve",
            "unknown command \"serve\"; allowed: check, devices, fetch, passwd, help\nTry `camd --help`.",
        ),
        (
            "fecth x",
            "unknown command \"fecth\"; did you mean \"fetch\"?\nTry `camd --help`.",
        ),
        (
            "--confg x",
            "unknown option --confg; did you mean --config?\nTry `camd --help`.",
        ),
        ("--json", "unknown option --json\nTry `camd --help`."),
        ("-x", "invalid option '-x'\nTry `camd --help`."),
        (
            "--config",
            "missing argument for option '--config'\nTry `camd --help`.",
        ),
        (
            "--demo=1",
            "unexpected argument for option '--demo': \"1\"\nTry `camd --help`.",
        ),
        (
            "--demo --config x",
            "--demo reads no configuration: leave out --config\nTry `camd --help`.",
        ),
        (
            "--config x --demo",
            "--demo reads no configuration: leave out --config\nTry `camd --help`.",
        ),
        (
            "--fallback",
            "missing argument for option '--fallback'\nTry `camd --help`.",
        ),
        (
            "--watchdgo x",
            "unknown option --watchdgo; did you mean --watchdog?\nTry `camd --help`.",
        ),
        (
            "--demo --watchdog /dev/watchdog",
            "--watchdog does not go with `--demo`\nTry `camd --help`.",
        ),
        (
            "--fallback x --demo",
            "--fallback does not go with `--demo`\nTry `camd --help`.",
        ),
        (
            "--fallback x check",
            "--fallback does not go with `check`\nTry `camd --help`.",
        ),
        (
            "--watchdog x devices",
            "--watchdog does not go with `devices`\nTry `camd --help`.",
        ),
        (
            "--box x check",
            "--box does not go with `check`\nTry `camd --help`.",
        ),
        (
            "hlep",
            "unknown command \"hlep\"; did you mean \"help\"?\nTry `camd --help`.",
        ),
        (
            "help fetsh",
            "unknown command \"fetsh\"; did you mean \"fetch\"?\nTry `camd --help`.",
        ),
        (
            "help fetch check",
            "unexpected argument \"check\"\nTry `camd fetch --help`.",
        ),
        (
            "--port 8080",
            "--port goes with --demo; in the configuration each listener's bind has a port\nTry `camd --help`.",
        ),
        (
            "--demo --port 65532",
            "--port \"65532\": allowed: 0 to 65531\nTry `camd --help`.",
        ),
        (
            "--demo --port any",
            "--port \"any\": allowed: 0 to 65531\nTry `camd --help`.",
        ),
        (
            "--demo check",
            "--demo does not go with `check`\nTry `camd check --help`.",
        ),
        (
            "--config x fetch http://a",
            "`fetch` reads no configuration: leave out --config\nTry `camd fetch --help`.",
        ),
        (
            "check my.toml",
            "unexpected \"my.toml\": did you mean --config my.toml?\nTry `camd check --help`.",
        ),
        (
            "check --demo",
            "unknown option --demo\nTry `camd check --help`.",
        ),
        (
            "devices --jsno",
            "unknown option --jsno; did you mean --json?\nTry `camd devices --help`.",
        ),
        (
            "devices /dev/video0",
            "unexpected argument \"/dev/video0\"\nTry `camd devices --help`.",
        ),
        (
            "fetch",
            "no URL given, such as http://127.0.0.1:8080/snapshot\nTry `camd fetch --help`.",
        ),
        (
            "fetch box:8080",
            "\"box:8080\" is no URL to fetch from; allowed: pull://HOST:PORT, push://HOST:PORT, raw://HOST:PORT, http://[USER[:PASSWORD]@]HOST:PORT/PATH, call://[USER[:PASSWORD]@]HOST:PORT/CAMERA, the same with TLS (pulls, pushs, raws, https, calls), memfd:PATH, shm:KEY\nTry `camd fetch --help`.",
        ),
        (
            "fetch pull://",
            "\"pull://\" is no URL to fetch from; allowed: pull://HOST:PORT, push://HOST:PORT, raw://HOST:PORT, http://[USER[:PASSWORD]@]HOST:PORT/PATH, call://[USER[:PASSWORD]@]HOST:PORT/CAMERA, the same with TLS (pulls, pushs, raws, https, calls), memfd:PATH, shm:KEY\nTry `camd fetch --help`.",
        ),
        (
            "fetch cal://anna:secret@box",
            "\"cal://anna:…@box\" is no URL to fetch from; allowed: pull://HOST:PORT, push://HOST:PORT, raw://HOST:PORT, http://[USER[:PASSWORD]@]HOST:PORT/PATH, call://[USER[:PASSWORD]@]HOST:PORT/CAMERA, the same with TLS (pulls, pushs, raws, https, calls), memfd:PATH, shm:KEY\nTry `camd fetch --help`.",
        ),
        (
            "fetch push://a:1 push://b:1",
            "unexpected argument \"push://b:1\"\nTry `camd fetch --help`.",
        ),
        (
            "fetch push://a:1 -n -1",
            "-n \"-1\": allowed: a number of pictures, or 0: until stopped\nTry `camd fetch --help`.",
        ),
        (
            "fetch push://a:1 -n many",
            "-n \"many\": allowed: a number of pictures, or 0: until stopped\nTry `camd fetch --help`.",
        ),
        (
            "fetch push://a:1 -n 0",
            "-n 0 needs -o: a file, a folder, or - for standard output\nTry `camd fetch --help`.",
        ),
        (
            "fetch push://a:1 --output=",
            "-o \"\": allowed: a file, a folder, or - for standard output\nTry `camd fetch --help`.",
        ),
        (
            "fetch push://a:1 --timeout 0",
            "--timeout \"0\": allowed: seconds from 0.1 to 86400\nTry `camd fetch --help`.",
        ),
        (
            "fetch push://a:1 --timeout 86401",
            "--timeout \"86401\": allowed: seconds from 0.1 to 86400\nTry `camd fetch --help`.",
        ),
        (
            "fetch push://a:1 --timeout nan",
            "--timeout \"nan\": allowed: seconds from 0.1 to 86400\nTry `camd fetch --help`.",
        ),
        (
            "fetch push://a:1 --timeout 5s",
            "--timeout \"5s\": allowed: seconds from 0.1 to 86400\nTry `camd fetch --help`.",
        ),
    ] {
        assert_eq!(refused(line), expected, "camd {line}");
    }
    let latin1 = OsString::from_vec(b"http://H\xfc".to_vec());
    let error = parse([OsString::from("fetch"), latin1]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"http://H\u{fffd}\" is not UTF-8\nTry `camd fetch --help`."
    );
}

#[test]
fn the_help_is_complete_and_fits_a_terminal() {
    let all = help(Topic::Camd);
    for (topic, word, options) in [
        (
            Topic::Camd,
            "camd",
            &[
                "--config",
                "--fallback",
                "--watchdog",
                "--demo",
                "-V",
                "--version",
            ][..],
        ),
        (Topic::Check, "check", &["--config"]),
        (Topic::Devices, "devices", &["--json"]),
        (Topic::Passwd, "passwd", &["--help"]),
        (
            Topic::Fetch,
            "fetch",
            &[
                "-n",
                "--count",
                "-o",
                "--output",
                "--timeout",
                "--duration",
                "--segment",
                "pull://",
                "push://",
                "http://",
            ],
        ),
    ] {
        let text = help(topic);
        assert!(all.contains(&format!("\n  camd {word}")) || topic == Topic::Camd);
        for option in options {
            assert!(text.contains(option), "{option} in\n{text}");
        }
        assert!(text.contains("Exit codes:"), "{text}");
        if topic != Topic::Check {
            let long = text.lines().find(|line| line.chars().count() > 80);
            assert_eq!(long, None);
        }
        assert!(text.ends_with('\n'));
    }
    for exit in ["  0    ", "  1    ", "  2    ", "  3    ", "  134  "] {
        assert!(all.contains(exit), "{exit}");
    }
    for name in ["RUST_LOG", "SIGHUP", "SIGTERM", "SIGINT", "/etc/camd.toml"] {
        assert!(all.contains(name), "{name}");
    }
    let keys = help(Topic::Check);
    for setting in SETTINGS {
        assert!(
            keys.contains(&format!("\n  {}", setting.key)),
            "{}",
            setting.key
        );
    }
}

/// Every example of the help that calls camd.
#[test]
fn the_examples_of_the_help_are_valid() {
    let mut examples = 0;
    for topic in [Topic::Camd, Topic::Devices, Topic::Fetch, Topic::Passwd] {
        let text = help(topic);
        for line in text.lines().filter_map(|line| line.strip_prefix("  camd ")) {
            // Usage has placeholders in capitals; what follows a pipe or two spaces is not camd's.
            let line = line.split("  ").next().unwrap_or(line);
            let line = line.split(" | ").next().unwrap_or(line);
            let line = line.split(" > ").next().unwrap_or(line);
            if !line.contains("[") && !line.contains("URL") && !line.contains("COMMAND") {
                command(line);
                examples += 1;
            }
        }
    }
    assert!(examples >= 8, "{examples}");
}

#[test]
fn the_answer_of_check() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/camd.toml");
    let mut out = Vec::new();
    assert_eq!(check(&shipped, false, &mut out).unwrap(), Exit::Success);
    let expected = format!("{}: good\n", shipped.display());
    assert_eq!(String::from_utf8(out).unwrap(), expected);

    let wrong = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check.toml");
    std::fs::write(&wrong, "[camera]\nfps = 0\n\n[limits]\nfps = 1\n").unwrap();
    let mut out = Vec::new();
    assert_eq!(check(&wrong, false, &mut out).unwrap(), Exit::Usage);
    let file = wrong.display();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!(
            "{file}:2: camera.fps: 0 is out of range; allowed: an integer from 1 to 240\n\
             {file}:5: limits.fps: unknown key here; it is a key of [camera]\n"
        )
    );

    let mut out = Vec::new();
    let missing = Path::new("/nonexistent/camd.toml");
    assert_eq!(check(missing, false, &mut out).unwrap(), Exit::Usage);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "/nonexistent/camd.toml: cannot be read: No such file or directory (os error 2)\n"
    );
    // For scripts: whatever way it is written.
    std::fs::write(
        &wrong,
        "camera = { device = '/dev/v4l/by-id/x' }\nlistener = [\n {protocol='http',bind='[::1]:80'},{ \"protocol\" = \"raw\", 'bind'=\"\"\"\
         unix:/run/\\u0061\"\"\" }, ]\n",
    )
    .unwrap();
    let mut out = Vec::new();
    assert_eq!(check(&wrong, true, &mut out).unwrap(), Exit::Success);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "camera v4l2 /dev/v4l/by-id/x\nlistener http [::1]:80\nlistener raw unix:/run/a\n"
    );
    // Nobody reads the answer.
    let mut full: &mut [u8] = &mut [];
    assert!(check(&shipped, false, &mut full).is_err());
}

#[test]
fn exit_codes() {
    for (exit, code) in [
        (Exit::Success, 0),
        (Exit::Failure, 1),
        (Exit::Usage, 2),
        (Exit::Nothing, 3),
    ] {
        // ExitCode has no other interface than the process's end.
        let shown = format!("{:?}", ExitCode::from(exit));
        assert_eq!(shown, format!("{:?}", ExitCode::from(code)));
    }
}
