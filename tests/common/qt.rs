//! Qt programs that share pictures, and what of System V's things belongs to them and to camd.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Camd, Folder, HINT, PATIENCE, python};

/// Both that there are: Qt 6 and Qt 5.
pub const BINDINGS: [&str; 2] = ["PySide6", "PyQt5"];

/// A folder for the key's files, and a key that no other test has.
pub struct Place {
    pub folder: Folder,
    pub key: String,
}

impl Place {
    pub fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        Place {
            folder: Folder::new(),
            key: format!("camd {} {next}", std::process::id()),
        }
    }

    /// camd with this configuration, in which `KEY` stands for the key.
    pub fn camd(&self, config: &str) -> Camd {
        let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
        self.camd_as(&mut command, config, PATIENCE)
    }

    /// See [`Camd::start_as`].
    pub fn camd_as(&self, command: &mut Command, config: &str, patience: Duration) -> Camd {
        command
            .stdin(Stdio::null())
            .env("TMPDIR", self.folder.path());
        Camd::start_as(command, &config.replace("KEY", &self.key), patience)
    }

    /// `tests/peers/qt_shm.py`
    pub fn qt(&self, binding: &str, arguments: &[&str]) -> Qt {
        let mut child = python("qt_shm.py")
            .args([binding, &self.key])
            .args(arguments)
            .env("TMPDIR", self.folder.path())
            .env("QT_QPA_PLATFORM", "offscreen")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("python: {error}; {HINT}"));
        let stdout = child.stdout.take().expect("it is piped");
        Qt {
            stdin: child.stdin.take(),
            stdout: BufReader::new(stdout),
            child,
        }
    }

    fn file(&self, kind: &str) -> Option<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder");
        let mut paths = entries.map(|entry| entry.expect("an entry").path());
        paths.find(|path| path.to_string_lossy().contains(kind))
    }

    /// ftok(3): the System V key of the file, if it is there.
    fn number(path: &Path) -> i64 {
        let metadata = fs::metadata(path).expect("the file");
        let (device, inode) = (metadata.dev(), metadata.ino());
        i64::from(((0x51 << 24) | (device as u32 & 0xFF) << 16 | (inode as u32 & 0xFFFF)) as i32)
    }

    /// What the kernel says of the key of that file: the row of `/proc/sysvipc/KIND`.
    fn row(&self, file: &str, kind: &str) -> Option<Vec<String>> {
        let number = Place::number(&self.file(file)?);
        let list = fs::read_to_string(format!("/proc/sysvipc/{kind}")).expect("System V IPC");
        let mut rows = list.lines().skip(1).map(|line| {
            let fields = line.split_whitespace().map(str::to_owned);
            fields.collect::<Vec<_>>()
        });
        rows.find(|row| row[0].parse() == Ok(number))
    }

    /// The segment's id, if it is there.
    pub fn segment(&self) -> Option<String> {
        self.row("sharedmemory", "shm").map(|row| row[1].clone())
    }

    pub fn semaphore(&self) -> Option<String> {
        self.row("systemsem", "sem").map(|row| row[1].clone())
    }

    /// Whether there still is a segment or semaphore of that id.
    fn exists(kind: &str, id: &str) -> bool {
        let list = fs::read_to_string(format!("/proc/sysvipc/{kind}")).expect("System V IPC");
        list.lines()
            .skip(1)
            .any(|line| line.split_whitespace().nth(1) == Some(id))
    }

    /// Nothing is left of these, and no file.
    pub fn assert_gone(&self, segment: &str, semaphore: &str) {
        wait("nothing is left", || {
            !Place::exists("shm", segment)
                && !Place::exists("sem", semaphore)
                && self.file("qipc_").is_none()
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What a failed test leaves, and whoever it has left running.
        for (kind, id) in [("-m", self.segment()), ("-s", self.semaphore())] {
            if let Some(id) = id {
                let _ = Command::new("ipcrm").args([kind, &id]).status();
            }
        }
    }
}

/// A running program of Qt; killed at the end.
pub struct Qt {
    pub child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Qt {
    /// The next line that it says.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let got = self.stdout.read_line(&mut line).expect("its output");
        assert!(got > 0, "it ended: {:?}", self.child.wait());
        line.trim_end().to_owned()
    }

    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        writeln!(stdin, "{line}").expect("its input");
    }

    /// Lets it end by itself; the rest of what it says.
    pub fn end(mut self) -> Vec<String> {
        self.stdin = None;
        let mut lines = Vec::new();
        for line in (&mut self.stdout).lines() {
            lines.push(line.expect("a line"));
        }
        let status = self.child.wait().expect("our child");
        assert!(status.success(), "{status}: {lines:?}");
        lines
    }

    pub fn kill(mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }
}

impl Drop for Qt {
    fn drop(&mut self) {
        // It fails if it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn wait(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not so");
        std::thread::sleep(Duration::from_millis(10));
    }
}
