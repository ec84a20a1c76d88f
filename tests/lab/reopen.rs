//! Opens a camera with camd's own V4L2 source, takes a picture and closes it again, many times. At the end the process
//! must have no more files, mappings and memory than near the beginning. Of ten rounds, four meet a fault that vivid
//! can be told to have.
//!
//! `reopen DEVICE ROUNDS`

#[path = "../common/resources.rs"]
mod resources;

use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use camd::config::Config;
use camd::source::Source;
use camd::source::v4l2::V4l2;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use resources::{Resources, heap};

/// vivid's controls by which it has a fault, and whether the fault ends the stream at once (it refuses to start one
/// otherwise).
const FAULTS: [(&str, bool); 4] = [
    ("inject_vidioc_reqbufs_error", false),
    ("inject_vidioc_streamon_error", false),
    ("inject_fatal_streaming_error", true),
    ("disconnect", true),
];
const CYCLE: usize = 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// Captures until there is a picture. `Ok(false)`: the source faulted first.
fn take_picture(source: &mut V4l2) -> Result<bool, String> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match source.capture(Instant::now()) {
            Ok(captured) if captured.fresh => {
                return match source.newest() {
                    Some(_) => Ok(true),
                    None => Err("a fresh picture is not there".into()),
                };
            }
            Ok(_) => {}
            Err(_) => return Ok(false),
        }
        let fd = source.fd().ok_or("a started source has no descriptor")?;
        // SAFETY: the source keeps it open until `stop`, which needs the borrow that this loop holds.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(200u16)).map_err(|error| error.to_string())?;
    }
    Err(format!("no picture within {PATIENCE:?}"))
}

/// One opening. `refused`: the last round asked the driver to refuse this one.
fn round(source: &mut V4l2, fault: Option<(&str, bool)>, refused: bool) -> Result<(), String> {
    match source.start(Instant::now()) {
        Err(_) if refused => {
            source.stop();
            return round(source, fault, false);
        }
        Err(fault) => return Err(format!("start: {fault}")),
        Ok(_) if refused => return Err("start went well in spite of the injected fault".into()),
        Ok(_) => {}
    }
    if !take_picture(source)? {
        return Err("a fault that nobody injected".into());
    }
    if let Some((control, ends)) = fault {
        // "disconnect" takes the device away from under this very call, so an error means nothing.
        let _ = source.set_control(control, 1);
        if ends {
            let begun = Instant::now();
            while take_picture(source)? {
                if begun.elapsed() > PATIENCE {
                    return Err(format!("{control}: pictures as if nothing had been"));
                }
            }
        }
    }
    source.stop();
    Ok(())
}

fn run(device: &str, rounds: usize) -> Result<String, String> {
    let mut config = Config::default();
    config.camera.device = device.into();
    let mut source = V4l2::new(&config);
    let begun = Instant::now();
    let mut before = None;
    let mut refused = false;
    for number in 0..rounds {
        if number == CYCLE {
            let resources = Resources::now()?;
            // After what `resources` itself takes.
            before = Some((resources, heap()));
        }
        let fault = FAULTS.get(number % CYCLE).copied();
        round(&mut source, fault, refused).map_err(|why| format!("round {number}: {why}"))?;
        refused = fault.is_some_and(|(_, ends)| !ends);
    }
    let heap_after = heap();
    let after = Resources::now()?;
    let (before, heap_before) = before.ok_or(format!("at least {} rounds, please", CYCLE + 1))?;
    if after != before || heap_after > heap_before {
        return Err(format!(
            "leaked: {before:?} and {heap_before} bytes of heap became {after:?} and {heap_after} bytes"
        ));
    }
    Ok(format!(
        "{rounds} times opened in {:.0} s; {} files, {} mappings and {} bytes of heap in use, as after round {CYCLE}",
        begun.elapsed().as_secs_f32(),
        after.count(),
        after.mappings,
        heap_after
    ))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, rounds] = arguments.as_slice() else {
        eprintln!("usage: reopen DEVICE ROUNDS");
        return ExitCode::from(2);
    };
    let Ok(rounds) = rounds.parse() else {
        eprintln!("{rounds}: not a number");
        return ExitCode::from(2);
    };
    match run(device, rounds) {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
