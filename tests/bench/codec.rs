//! What a picture costs, in instructions that valgrind counts, so that other load does not matter: camd's codec, a bare
//! loop over the same libjpeg (`work.rs`), ffmpeg's libraries (`ffmpeg.c`; their JPEG codec is their own) and OpenCV
//! (`opencv.py`; libjpeg-turbo of its own). All have SIMD up to AVX2 where they run.
//!
//! `cargo bench --bench codec` fails if camd needs more than [`MOST`] times the bare loop's, as many as ffmpeg or OpenCV,
//! or a single call of malloc. ffmpeg and OpenCV must not be asked for more than camd: for JPEGs that are
//! larger, or better ([`LARGER`], [`BETTER`]).

mod work;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use work::{CASES, Case};

const MOST: f64 = 1.1;
/// Bytes of a JPEG of others for one of camd's, at most.
const LARGER: f64 = 1.1;
/// dB of luminance that one of others may be ahead of camd's.
const BETTER: f64 = 1.0;

const FRAMES: usize = 10;

/// Who is counted. Each is given a case and a file to write the JPEG to.
struct Programs {
    folder: PathBuf,
    ffmpeg: PathBuf,
    python: PathBuf,
}

impl Programs {
    fn new() -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let ffmpeg = folder.join("bench-ffmpeg");
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin/python");
        assert!(python.exists(), "no {}: run tests/setup", python.display());
        let build = "cc -std=gnu11 -O2 -Wall -Wextra -Werror -o \"$0\" tests/bench/ffmpeg.c \
            $(pkg-config --cflags --libs libavcodec libswscale libavutil)";
        let status = Command::new("sh")
            .args(["-c", build])
            .arg(&ffmpeg)
            .status()
            .expect("a shell");
        assert!(status.success(), "cannot build ffmpeg.c: run tests/setup");
        Programs {
            folder,
            ffmpeg,
            python,
        }
    }

    fn this(&self, arguments: &[&str]) -> Vec<String> {
        let this = env::current_exe().expect("this program");
        let work = [&this.display().to_string(), "work"].map(String::from);
        let arguments = arguments.iter().map(|&argument| argument.into());
        work.into_iter().chain(arguments).collect()
    }

    fn output(&self) -> String {
        self.folder.join("bench.jpg").display().to_string()
    }

    fn command(&self, who: &str, number: usize, frames: usize) -> Vec<String> {
        let (number, frames, output) = (number.to_string(), frames.to_string(), self.output());
        if who == "camd" || who == "bare" {
            return self.this(&[who, &number, &frames, &output]);
        }
        let case = &CASES[number.parse::<usize>().expect("a number")];
        let input = self.folder.join("bench.input").display().to_string();
        let command = self.this(&["input", &number, &input]);
        let status = Command::new(&command[0]).args(&command[1..]).status();
        assert!(status.expect("this program").success());
        let (width, height) = case.made();
        let sizes = [case.width, case.height, width, height].map(|side| side.to_string());
        let (program, quality): (&[String], _) = match who {
            "ffmpeg" => (&[self.ffmpeg.display().to_string()], case.qscale),
            _ => (
                &[
                    self.python.display().to_string(),
                    "tests/bench/opencv.py".into(),
                ],
                case.quality,
            ),
        };
        let rest = [
            quality.to_string(),
            case.eighths.to_string(),
            frames,
            output,
        ];
        [program, &[input, case.kind().into()], &sizes, &rest].concat()
    }

    /// Runs it under valgrind, and returns what valgrind says.
    fn valgrind(&self, tool: &[&str], command: &[String]) -> String {
        let output = Command::new("valgrind")
            .args(tool)
            .args(command)
            .output()
            .expect("valgrind (Debian: apt-get install valgrind)");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command:?}: {log}");
        log
    }

    /// Million instructions for one picture.
    fn instructions(&self, who: &str, number: usize) -> f64 {
        let counts = self.folder.join("bench.counts");
        let part = |number: usize| counts.with_extension(format!("counts.{number}"));
        for number in 1.. {
            if fs::remove_file(part(number)).is_err() {
                break;
            }
        }
        // Two calls of getppid are around the pictures: what was counted between them is the second part.
        let tool = [
            "--tool=callgrind",
            "--dump-before=getppid",
            &format!("--callgrind-out-file={}", counts.display()),
        ];
        self.valgrind(&tool, &self.command(who, number, FRAMES));
        assert!(!part(3).exists(), "{who} calls getppid more than twice");
        let counts = fs::read_to_string(part(2)).expect("the second part");
        let total = counts
            .lines()
            .find_map(|line| line.strip_prefix("totals: "));
        let total = total.expect("callgrind's format").trim();
        total.parse::<f64>().expect("a number") / 1e6 / FRAMES as f64
    }

    /// Calls of malloc and its kin for ten pictures.
    fn allocations(&self, who: &str, number: usize) -> usize {
        let [few, many] = [FRAMES, 2 * FRAMES].map(|frames| {
            let tool = ["--leak-check=no", "--undef-value-errors=no"];
            let log = self.valgrind(&tool, &self.command(who, number, frames));
            let (_, count) = log
                .split_once("total heap usage: ")
                .expect("valgrind's wording");
            let count = count.split_whitespace().next().expect("a number");
            count.replace(',', "").parse::<usize>().expect("a number")
        });
        many - few
    }

    /// The size of the JPEG that was made last, and its luminance's PSNR in dB against the mean of the source's.
    fn quality(&self, case: &Case) -> (usize, f64) {
        let bytes = fs::metadata(self.output()).expect("a JPEG").len() as usize;
        let ffmpeg = Command::new("ffmpeg")
            .args(["-v", "error", "-i", &self.output()])
            .args(["-f", "rawvideo", "-pix_fmt", "gray", "-"])
            .output()
            .expect("ffmpeg (Debian: apt-get install ffmpeg)");
        let ((width, height), side) = (case.made(), 8 / case.eighths as usize);
        assert_eq!(ffmpeg.stdout.len(), width * height, "{}", case.name);
        let [(_, luma), ..] = work::planes(case);
        let mean = |x: usize, y: usize| {
            let lines = luma[y * side * case.width..].chunks(case.width).take(side);
            let samples = lines.flat_map(|line| &line[x * side..][..side]);
            samples.map(|&sample| f64::from(sample)).sum::<f64>() / (side * side) as f64
        };
        let squares = ffmpeg
            .stdout
            .iter()
            .enumerate()
            .map(|(i, &sample)| (f64::from(sample) - mean(i % width, i / width)).powi(2));
        let error = squares.sum::<f64>() / (width * height) as f64;
        (bytes, 10.0 * (255.0f64.powi(2) / error).log10())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    if let ["work", arguments @ ..] = &arguments[..] {
        work::run(arguments);
        return ExitCode::SUCCESS;
    }
    let programs = Programs::new();
    let mut wrong = Vec::new();
    for (i, case) in CASES.iter().enumerate() {
        println!("{}", case.name);
        let measure = |who| {
            let instructions = programs.instructions(who, i);
            let (bytes, psnr) = programs.quality(case);
            (instructions, bytes, psnr)
        };
        let (camd, camd_bytes, camd_psnr) = measure("camd");
        println!(
            "  camd   {camd:6.2} M instructions         {camd_bytes:6} bytes, {camd_psnr:.1} dB"
        );
        let allocations = programs.allocations("camd", i);
        if allocations > 0 {
            wrong.push(format!(
                "{}: {allocations} allocations in {FRAMES} pictures",
                case.name
            ));
        }
        for who in ["bare", "ffmpeg", "opencv"] {
            let (other, bytes, psnr) = measure(who);
            let ratio = camd / other;
            println!(
                "  {who:6} {other:6.2} M, camd {ratio:.3} of it {bytes:6} bytes, {psnr:.1} dB"
            );
            let mut fails = |what: &str| wrong.push(format!("{}: {who}: {what}", case.name));
            if who == "bare" {
                if case.same && ratio > MOST {
                    fails(&format!("camd needs more than {MOST} of it"));
                }
                continue;
            }
            if ratio >= 1.0 {
                fails("camd needs as many");
            }
            if bytes as f64 > LARGER * camd_bytes as f64 || psnr > camd_psnr + BETTER {
                fails("does more: a larger or better JPEG");
            }
        }
    }
    for wrong in &wrong {
        println!("{wrong}");
    }
    if wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
