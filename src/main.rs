//! The `camd` program: does what the command line says, and nothing else is decided here.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use camd::command::cli::{self, Command, Exit};
use camd::command::devices;
use camd::command::fetch::{self, FetchOptions};
use camd::command::passwd::{self, PasswdError};
use camd::command::updater;
use camd::config::{self, Config, ListenerConfig};
use camd::daemon;
use camd::daemon::Options;
use camd::encode::cell::launch;
use camd::protocol::ProtocolKind;
use camd::system::logging;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == launch::ARGUMENT => return launch::main(),
        Some(first) if first == updater::ARGUMENT => return updater::main(arguments),
        _ => {}
    }
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            say(format_args!("camd: {error}"));
            return Exit::Usage.into();
        }
    };
    let mut out = io::stdout().lock();
    let exit = match command {
        Command::Fetch(options) => {
            // It writes pictures to standard output by itself.
            drop(out);
            return fetch(&options);
        }
        Command::Serve {
            config,
            fallback,
            watchdog,
            board,
            updater,
        } => return with_log(|| serve(config, fallback.as_deref(), watchdog, board, updater)),
        Command::Demo { port } => return with_log(|| demo(port)),
        Command::Passwd => match passwd::run(&mut out) {
            Ok(()) => Ok(Exit::Success),
            Err(PasswdError::Io(error)) => Err(error),
            Err(error) => {
                say(format_args!("camd: {error}"));
                return Exit::Usage.into();
            }
        },
        Command::Check { config, list } => cli::check(&config, list, &mut out),
        Command::Help(topic) => out
            .write_all(cli::help(topic).as_bytes())
            .map(|()| Exit::Success),
        Command::Version => writeln!(out, "{}", cli::VERSION).map(|()| Exit::Success),
        Command::Devices { json } => devices(json, &mut out),
    };
    match exit {
        Ok(exit) => exit.into(),
        // `camd --help | head`: the reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success.into(),
        Err(error) => fail(&error),
    }
}

/// One line on standard error in one piece, because where that is /dev/kmsg each write is a message of its own. That it
/// cannot be written, as /dev/kmsg refuses long ones, changes nothing about what there is to say. What serves says it by
/// the log ([`logging`]), which waits for nothing.
fn say(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    say(format_args!("camd: {error}"));
    Exit::Failure.into()
}

fn devices(json: bool, out: &mut impl Write) -> io::Result<Exit> {
    let survey = devices::list(&Config::default());
    if json {
        survey.write_json(out)?
    } else {
        survey.write(out)?
    }
    Ok(if survey.cameras.is_empty() {
        Exit::Nothing
    } else {
        Exit::Success
    })
}

fn fetch(options: &FetchOptions) -> ExitCode {
    match fetch::run(options) {
        Ok(_) => Exit::Success.into(),
        Err(error) => {
            say(format_args!("camd: {error}"));
            Exit::from(&error).into()
        }
    }
}

/// Serves with a log that nothing waits for, at the end neither.
fn with_log(serve: impl FnOnce() -> ExitCode) -> ExitCode {
    if let Err(error) = logging::init() {
        say(format_args!("camd: no log: {error}"));
        return Exit::Failure.into();
    }
    let exit = serve();
    logging::flush();
    exit
}

fn serve(
    path: PathBuf,
    fallback: Option<&Path>,
    watchdog: Option<PathBuf>,
    board: Option<PathBuf>,
    updater: Option<PathBuf>,
) -> ExitCode {
    let loaded = match config::load_or(&path, fallback) {
        Ok(loaded) => loaded,
        Err(errors) => {
            for error in errors {
                logging::say(error);
            }
            if fallback.is_none() && !path.exists() {
                cli::NO_CONFIGURATION.lines().for_each(logging::say);
            }
            return Exit::Usage.into();
        }
    };
    let options = Options {
        path: Some(path),
        file: Some(loaded.file),
        errors: loaded.errors,
        watchdog,
        board,
        updater,
    };
    run(loaded.config, options, |_| {})
}

fn demo(port: u16) -> ExitCode {
    run(
        config::demo_config_at(port),
        Options::default(),
        |listeners| {
            // A closed standard output is no reason not to serve.
            let _ = say_what_to_try(listeners);
        },
    )
}

fn run(
    config: Config,
    options: Options,
    ready: impl FnOnce(&[(ListenerConfig, String)]),
) -> ExitCode {
    match daemon::run(config, options, ready) {
        Ok(()) => Exit::Success.into(),
        Err(error) => {
            logging::say(format_args!("camd: {error}"));
            Exit::Failure.into()
        }
    }
}

fn say_what_to_try(listeners: &[(ListenerConfig, String)]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "A moving test picture, until Ctrl-C:")?;
    for (listener, address) in listeners {
        match listener.protocol {
            ProtocolKind::Http => {
                writeln!(out, "  in a browser        http://{address}/")?;
                writeln!(out, "  in a player         ffplay http://{address}/stream")?;
                writeln!(
                    out,
                    "  one picture         curl -o snapshot.jpg http://{address}/snapshot"
                )?;
            }
            protocol => {
                let scheme = protocol.name();
                let file = format!("{scheme}, to a file");
                let player = format!("{scheme}, to a player");
                writeln!(out, "  {file:<20}camd fetch {scheme}://{address}")?;
                writeln!(
                    out,
                    "  {player:<20}camd fetch {scheme}://{address} -n 0 -o - | ffplay -"
                )?;
            }
        }
    }
    out.flush()
}
