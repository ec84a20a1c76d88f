//! `deploy/recipes`: what they tell people to type or to write into other programs is taken from their own blocks, and
//! tried with these programs.
//!
//! Proxies, Prometheus and the Qt programs that share a picture have modules of their own.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::qt::Place;
use crate::common::{Camd, Folder, HINT, PATIENCE, RAW, Stream, assert_jpeg, pattern, python, run};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/recipes")
}

struct Recipe(String);

impl Recipe {
    fn read(file: &str) -> Recipe {
        let path = folder().join(file);
        let text = fs::read_to_string(&path);
        Recipe(text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// The blocks in this language.
    fn blocks(&self, language: &str) -> Vec<String> {
        let fence = format!("\n```{language}\n");
        let blocks: Vec<_> = self.0.split(fence.as_str()).skip(1).collect();
        assert!(!blocks.is_empty(), "no block of {language}");
        let to_end = |rest: &&str| rest.split("\n```").next().unwrap_or(rest).to_owned();
        blocks.iter().map(to_end).collect()
    }

    /// The only block in this language that has this in it.
    fn block(&self, language: &str, with: &str) -> String {
        let mut blocks = self.blocks(language);
        blocks.retain(|block| block.contains(with));
        assert_eq!(blocks.len(), 1, "blocks of {language} with {with}");
        blocks.remove(0)
    }

    /// The only line to type that begins with this and has that in it.
    fn line(&self, program: &str, with: &str) -> String {
        let blocks = self.blocks("sh");
        let lines = blocks.iter().flat_map(|block| block.lines());
        let lines: Vec<_> = lines
            .filter(|line| line.starts_with(&format!("{program} ")) && line.contains(with))
            .collect();
        assert_eq!(lines.len(), 1, "{program} with {with}: {lines:?}");
        lines[0].to_owned()
    }

    /// What a table has beside this.
    fn field(&self, name: &str) -> String {
        let start = format!("| {name} | `");
        let line = self.0.lines().find_map(|line| line.strip_prefix(&start));
        let line = line.unwrap_or_else(|| panic!("no row {name}"));
        line.split('`').next().unwrap_or_default().to_owned()
    }
}

/// The test's camd in place of the recipe's box.
fn here(text: &str, camd: &Camd) -> String {
    let mut here = text.replace("http://box:8080", &format!("http://{}", camd.http()));
    if camd.listeners.iter().any(|(protocol, _)| protocol == "raw") {
        let raw = camd.raw();
        here = here
            .replace("tcp://box:8084", &format!("tcp://{raw}"))
            .replace(
                "host=box port=8084",
                &format!("host={} port={}", raw.ip(), raw.port()),
            );
    }
    assert!(here != text && !here.contains("box"), "{here}");
    here
}

/// At 10 pictures a second, in the size that recipes have in their lines.
fn camera() -> Camd {
    let size = "width = 640\nheight = 480\nfps = 10";
    let camera = pattern().replace("width = 320\nheight = 240\nfps = 30", size);
    assert!(camera.contains(size));
    Camd::start(&format!("{camera}{RAW}"))
}

/// A program that runs until somebody presses Ctrl-C. Killed at the latest at the end.
struct Program {
    child: Child,
    what: String,
    log: PathBuf,
}

impl Program {
    /// A recipe's line, with the recipe's files in this folder. No program finds a screen.
    fn type_in(line: &str, folder: &Folder) -> Program {
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("exec {line}"));
        Program::start(line, &mut command, folder)
    }

    fn start(what: &str, command: &mut Command, folder: &Folder) -> Program {
        let log = folder.path().join("program.log");
        let file = fs::File::create(&log).expect("a log");
        folder.file("mpv.conf", "vo=null\n");
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if what.starts_with("cvlc ") && is_root {
            // VLC does not run as root. This is nobody.
            let all = fs::Permissions::from_mode(0o777);
            fs::set_permissions(folder.path(), all).expect("our folder");
            command.uid(65534).gid(65534);
        }
        let child = command
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env("MPV_HOME", folder.path())
            .env("SDL_VIDEODRIVER", "dummy")
            .env("SDL_AUDIODRIVER", "dummy")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .env_remove("http_proxy")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}; {HINT}"));
        Program {
            child,
            what: what.to_owned(),
            log,
        }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Until something has come true, while the program runs.
    fn until(&mut self, wanted: &str, mut is: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is() {
            let ended = self.child.try_wait().expect("its state");
            assert!(ended.is_none(), "{}: {ended:?}: {}", self.what, self.said());
            let late = Instant::now() > deadline;
            assert!(!late, "{}: {wanted}: {}", self.what, self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ctrl-C, and what then becomes of it.
    fn interrupt(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, Signal::SIGINT).expect("it is there");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status;
            }
            let late = Instant::now() > deadline;
            assert!(!late, "{} does not end: {}", self.what, self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many pictures clients of this protocol have had.
fn sent(camd: &Camd, protocol: &str) -> u64 {
    let state = camd.state();
    let clients = state["clients"].as_array().expect("a list");
    let of = clients
        .iter()
        .filter(|it| it["protocol"] == protocol && it["viewer"] == true);
    of.filter_map(|client| client["frames"].as_u64()).sum()
}

/// Duration in seconds, number of pictures, and codec, as ffprobe finds them.
fn probe(file: &Path) -> (f64, u64, String) {
    let output = run(Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-of", "json"])
        .args([
            "-show_entries",
            "format=duration:stream=nb_read_frames,codec_name",
        ])
        .arg(file));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let stream = &found["streams"][0];
    (
        text(&found["format"]["duration"])
            .parse()
            .unwrap_or_default(),
        text(&stream["nb_read_frames"]).parse().unwrap_or_default(),
        text(&stream["codec_name"]),
    )
}

/// The pictures of a camera at 10 fps are a tenth of a second apart in the file, and the file is not longer than it took.
fn has_right_speed(file: &Path, what: &str, took: Duration, codec: &str) {
    let (duration, pictures, found) = probe(file);
    println!("{what}: {pictures} pictures in {duration} s, of {took:?}");
    assert_eq!(found, codec, "{what}");
    assert!(pictures >= 15, "{what}: {pictures} pictures");
    // A busy machine loses pictures, which makes the distances longer. 25 a second would be 0.4 of it.
    let least = (pictures - 1) as f64 / 10.0 * 0.8;
    assert!(
        duration > least,
        "{what}: {duration} s for {pictures} pictures"
    );
    assert!(
        duration < took.as_secs_f64() + 1.0,
        "{what}: {duration} s in {took:?}"
    );
}

/// Runs a line until it has recorded two or three seconds.
fn records(line: &str, camd: &Camd, protocol: &str, file: &str) {
    let folder = Folder::new();
    let started = Instant::now();
    let mut program = Program::type_in(&here(line, camd), &folder);
    program.until("it takes pictures", || sent(camd, protocol) >= 30);
    program.interrupt();
    let file = folder.path().join(file);
    has_right_speed(&file, line, started.elapsed(), "mjpeg");
}

/// Runs a line until it has taken some pictures.
fn shows(line: &str, camd: &Camd, protocol: &str) {
    let folder = Folder::new();
    let mut program = Program::type_in(&here(line, camd), &folder);
    program.until("it takes pictures", || sent(camd, protocol) >= 20);
    assert!(!program.said().contains("ERROR"), "{}", program.said());
    program.interrupt();
}

#[test]
fn players_show_the_camera() {
    let recipe = Recipe::read("players.md");
    for (program, protocol) in [("ffplay", "raw"), ("mpv", "http"), ("cvlc", "http")] {
        let with = if program == "cvlc" { "caching" } else { "" };
        let with = if program == "mpv" { "--untimed" } else { with };
        shows(&recipe.line(program, with), &camera(), protocol);
    }
}

#[test]
fn players_record_at_the_right_speed() {
    let recipe = Recipe::read("players.md");
    let lines = [
        (recipe.line("ffmpeg", "http:"), "http", "clip.mkv"),
        (recipe.line("ffmpeg", "tcp:"), "raw", "clip.mkv"),
        (recipe.line("mpv", "record"), "http", "clip.mkv"),
        (recipe.line("cvlc", "--sout"), "http", "clip.avi"),
    ];
    // Each has a camera of its own, so that it can be told how much it has taken.
    std::thread::scope(|all| {
        for (line, protocol, file) in &lines {
            all.spawn(move || records(line, &camera(), protocol, file));
        }
    });
}

#[test]
fn gstreamer_shows_records_and_keeps() {
    let recipe = Recipe::read("gstreamer.md");
    shows(
        &recipe.line("gst-launch-1.0", "box:8080/stream is-live=true !"),
        &camera(),
        "http",
    );
    shows(
        &recipe.line("gst-launch-1.0", "tcpclientsrc"),
        &camera(),
        "raw",
    );
    records(
        &recipe.line("gst-launch-1.0", "matroskamux"),
        &camera(),
        "http",
        "clip.mkv",
    );
    let camd = camera();
    let folder = Folder::new();
    let line = here(&recipe.line("gst-launch-1.0", "multifilesink"), &camd);
    let mut program = Program::type_in(&line, &folder);
    let pictures = || {
        let entries = fs::read_dir(folder.path()).expect("the folder");
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.retain(|path| path.extension().is_some_and(|it| it == "jpg"));
        paths.sort();
        paths
    };
    program.until("newer ones", || {
        pictures()
            .last()
            .is_some_and(|path| path.ends_with("00014.jpg"))
    });
    program.interrupt();
    let pictures = pictures();
    // One more may be on its way.
    assert!((9..=11).contains(&pictures.len()), "{pictures:?}");
    assert_jpeg(&fs::read(&pictures[0]).expect("a picture"));
}

#[test]
fn motion_finds_the_camera_and_keeps_pictures() {
    let recipe = Recipe::read("motion.md");
    let camd = camera();
    let folder = Folder::new();
    let config = here(&recipe.block("text", "netcam_url"), &camd);
    let faster = config
        .replace("/var/lib/motion", &folder.path().display().to_string())
        .replace("snapshot_interval 60", "snapshot_interval 1");
    assert!(
        faster.contains("interval 1\n") || faster.ends_with("interval 1"),
        "{config}"
    );
    // No ports of its own, and its log here.
    let own = "daemon off\nwebcontrol_port 0\nstream_port 0\nlog_level 6\n";
    let file = folder.file("motion.conf", format!("{own}{faster}\n"));
    let mut command = Command::new("motion");
    command.arg("-n").arg("-c").arg(&file);
    let mut motion = Program::start("motion", &mut command, &folder);
    let pictures = || {
        let entries = fs::read_dir(folder.path()).expect("the folder");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let snapshots = paths.filter(|path| path.to_string_lossy().ends_with("snapshot.jpg"));
        snapshots.collect::<Vec<_>>()
    };
    motion.until("snapshots", || pictures().len() > 2);
    assert!(motion.said().contains("connected"), "{}", motion.said());
    // motion's own picture while it has no camera is as large, and grey.
    let picture = fs::read(&pictures()[1]).expect("a picture");
    let found = camd::picture::jpeg::inspect(&picture).expect("a JPEG");
    assert_eq!((found.width, found.height), (640, 480));
    assert!(sent(&camd, "http") > 10);
}

#[test]
fn frigates_ffmpeg_detects_and_records() {
    let recipe = Recipe::read("frigate.md");
    let camd = camera();
    let config = recipe.block("yaml", "cameras:");
    let value = |key: &str| {
        let line = config.lines().find_map(|line| {
            line.trim_start_matches([' ', '-'])
                .strip_prefix(&format!("{key}: "))
        });
        line.unwrap_or_else(|| panic!("no {key} in {config}"))
            .to_owned()
    };
    let (width, height, fps) = (value("width"), value("height"), value("fps"));
    let folder = Folder::new();
    let detected = folder.path().join("detected");
    // As Frigate puts it together: its own arguments, the input, one output for each role.
    let line = format!(
        "ffmpeg -hide_banner -loglevel warning -threads 2 {} -i {} {} %Y%m%d%H%M%S.mp4 \
         -r {fps} -vf fps={fps},scale={width}:{height} -threads 2 -f rawvideo -pix_fmt yuv420p -y detected",
        value("input_args"),
        here(&value("path"), &camd),
        value("record")
    );
    let started = Instant::now();
    let mut program = Program::type_in(&line, &folder);
    let parse = |text: &str| text.parse::<u64>().expect("a number");
    let picture = parse(&width) * parse(&height) * 3 / 2;
    let pictures = || fs::metadata(&detected).map_or(0, |it| it.len()) / picture;
    program.until("pictures to detect in", || pictures() >= 15);
    // Of the camera's 10 a second about every other one. If ffmpeg took 25 for a second, it would need 75.
    let taken = sent(&camd, "http");
    assert!(taken < 60, "{taken}");
    program.interrupt();
    let took = started.elapsed();
    let entries = fs::read_dir(folder.path()).expect("the folder");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    let clip = paths.find(|path| path.extension().is_some_and(|it| it == "mp4"));
    let (duration, _, codec) = probe(&clip.expect("a clip"));
    println!("frigate: {duration} s of {took:?}, {taken} pictures taken");
    assert_eq!(codec, "h264");
    assert!(
        duration > 1.8 && duration < took.as_secs_f64() + 1.0,
        "{duration} s in {took:?}"
    );
}

/// A script of a recipe's, run by the Python that has OpenCV and Qt, until it has printed so many lines.
fn prints(
    script: &str,
    folder: &Folder,
    count: usize,
    environment: &[(&str, &Path)],
) -> Vec<String> {
    folder.file("recipe.py", script);
    // Its program and folder are those of the peers.
    let mut command = Command::new(python("frames.py").get_program());
    command.arg("-u").arg(folder.path().join("recipe.py"));
    command.env(
        "PYTHONPATH",
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers"),
    );
    command.envs(environment.iter().copied());
    let mut program = Program::start("python", &mut command, folder);
    let log = program.log.clone();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lines = fs::read_to_string(&log).unwrap_or_default();
        let ended = program.child.try_wait().expect("its state");
        if lines.lines().count() >= count {
            return lines.lines().map(str::to_owned).collect();
        }
        let late = ended.is_some() || Instant::now() > deadline;
        assert!(!late, "{ended:?}: {lines}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn opencv_reads_both_ways() {
    let recipe = Recipe::read("opencv.md");
    let folder = Folder::new();
    let sink = recipe.block("toml", "[[sink]]");
    let socket = folder.path().join("frames.sock").display().to_string();
    let shared = "/run/camd/frames.sock";
    let camd = Camd::start(&format!("{}{}", pattern(), sink.replace(shared, &socket)));
    let script = recipe.block("python", shared).replace(shared, &socket);
    let lines = prints(&script, &folder, 5, &[]);
    assert!(
        lines.iter().all(|line| line.ends_with("(240, 320, 3)")),
        "{lines:?}"
    );
    drop(camd);
    let camd = camera();
    let script = here(&recipe.block("python", "VideoCapture"), &camd);
    let started = Instant::now();
    let lines = prints(&script, &folder, 5, &[]);
    assert!(
        lines.iter().all(|line| line == "(480, 640, 3)"),
        "{lines:?}"
    );
    println!("five pictures after {:?}", started.elapsed());
}

#[test]
fn a_qt_program_shows_the_camera() {
    let recipe = Recipe::read("qt.md");
    let place = Place::new();
    let sink = recipe.block("toml", "[[sink]]").replace("169254", "KEY");
    let camd = place.camd(&format!("{}{sink}", pattern()));
    camd.wait_state("it is written", |state| {
        state["sinks"][0]["frames"].as_u64() > Some(2)
    });
    let script = recipe
        .block("python", "QSharedMemory")
        .replace("169254", &place.key);
    let lines = prints(
        &script,
        &place.folder,
        1,
        &[("TMPDIR", place.folder.path())],
    );
    assert_eq!(lines, ["320 240"]);
    // The calls of C++, in the same order.
    let calls = |block: String| {
        let at = |call: &str| block.find(&format!("memory.{call}("));
        ["attach", "lock", "constData", "unlock", "detach"].map(|call| at(call).expect("the call"))
    };
    assert!(calls(recipe.block("cpp", "QSharedMemory")).is_sorted());
    assert!(calls(recipe.block("python", "QSharedMemory")).is_sorted());
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn printer(browser: &str) {
    let recipe = Recipe::read("moonraker.md");
    let port = free_port();
    let listener = recipe
        .block("toml", "allow_origin")
        .replace("http://mainsail.local", &format!("http://127.0.0.1:{port}"))
        .replace("0.0.0.0:8080", "127.0.0.1:0");
    assert!(listener.contains(&port.to_string()), "{listener}");
    let (camera, _) = pattern()
        .split_once("[[listener]]")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("its listeners");
    let open = Camd::start(&format!("{camera}{listener}\n"));
    let closed = Camd::start(&pattern());
    // The paths are the recipe's, too.
    let lines = recipe.block("ini", "[webcam");
    for path in [
        "stream_url: http://box:8080/stream",
        "snapshot_url: http://box:8080/snapshot",
    ] {
        assert!(lines.lines().any(|line| line == path), "{lines}");
    }
    let folder = Folder::new();
    let mut page = python("printer.py");
    page.arg(browser).arg(folder.path()).arg(port.to_string());
    page.args([&open, &closed].map(|camd| format!("http://{}/", camd.http())));
    let output = run(&mut page);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "closed adaptive 320x240\nclosed image 320x240\nclosed script failed\n\
         open adaptive 320x240\nopen image 320x240\nopen script three\n"
    );
}

#[test]
fn a_printers_page_in_chromium() {
    printer("chromium");
}

#[test]
fn a_printers_page_in_firefox() {
    printer("firefox");
}

/// What a program gets from an address that a recipe gives it: the kind that its path promises.
fn answers(camd: &Camd, target: &str) {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    if path == "/stream" || query.contains("action=stream") {
        Stream::open(camd.http(), target).next();
        return;
    }
    let answer = camd.get(target);
    assert_eq!(answer.status, 200, "{target}");
    if path.starts_with("/snapshot") || query.contains("action=snapshot") {
        assert_eq!(answer.field("Content-Type"), Some("image/jpeg"), "{target}");
        assert_jpeg(&answer.body);
    }
}

#[test]
fn every_address_in_the_recipes_is_answered() {
    let camd = camera();
    let mut addresses = BTreeSet::new();
    for entry in fs::read_dir(folder()).expect("the recipes") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("a recipe");
        for rest in text.split("http://box:8080").skip(1) {
            let end = |c: char| c.is_whitespace() || "`\"')<>|,;".contains(c);
            let target = rest.split(end).next().unwrap_or_default();
            addresses.insert(if target.is_empty() { "/" } else { target }.to_owned());
        }
    }
    // No prose between them.
    println!("{addresses:?}");
    assert!(addresses.len() > 10, "{addresses:?}");
    for target in addresses {
        answers(&camd, &target);
    }
}

#[test]
fn programs_that_ask_for_snapshots_get_what_they_check() {
    let camd = camera();
    // OctoPrint looks at the type; Home Assistant at the picture's own bytes, in the still image and in the stream.
    let octoprint = Recipe::read("octoprint.md");
    let home = Recipe::read("home-assistant.md");
    let target = |url: &str| {
        let here = here(url, &camd);
        let own = format!("http://{}", camd.http());
        here.strip_prefix(&own).expect("its own").to_owned()
    };
    for url in [
        octoprint.field("Snapshot URL"),
        home.field("Still image URL"),
    ] {
        let answer = camd.get(&target(&url));
        assert_eq!(answer.field("Content-Type"), Some("image/jpeg"), "{url}");
        assert!(answer.body.starts_with(b"\xff\xd8"), "{url}");
    }
    for url in [octoprint.field("Stream URL"), home.field("MJPEG URL")] {
        // From the first start to the first end, whatever is between them.
        let stream = Stream::open(camd.http(), &target(&url));
        let mut tcp = stream.tcp;
        let mut bytes = Vec::new();
        let jpeg = loop {
            let mut some = [0; 4096];
            let got = tcp.read(&mut some).expect("a stream");
            assert!(got > 0, "{url}: it ends");
            bytes.extend_from_slice(&some[..got]);
            if let Some(end) = memchr::memmem::find(&bytes, b"\xff\xd9") {
                let start = memchr::memmem::find(&bytes, b"\xff\xd8").expect("a start");
                break bytes[start..end + 2].to_vec();
            }
        };
        let found = camd::picture::jpeg::inspect(&jpeg).expect("a whole JPEG");
        assert_eq!((found.width, found.height), (640, 480), "{url}");
    }
    // The file that OctoPrint reads says the same as its fields.
    let yaml = octoprint.block("yaml", "classicwebcam");
    for (key, field) in [("stream", "Stream URL"), ("snapshot", "Snapshot URL")] {
        let line = format!("    {key}: {}", octoprint.field(field));
        assert!(yaml.lines().any(|it| it == line), "{line}: {yaml}");
    }
}

/// A box of a recipe's: its block, with a camera and a listener here.
fn box_named(recipe: &Recipe, name: &str) -> (Camd, String) {
    let config = recipe.block("toml", &format!("[camera]\nname = \"{name}\""));
    let camera = "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\n";
    let listener = "\n[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n";
    let config = config.replace("[camera]\n", camera) + listener;
    (Camd::start(&config), config)
}

#[test]
fn two_boxes_see_each_other() {
    let recipe = Recipe::read("two-boxes.md");
    let (hall, hall_config) = box_named(&recipe, "hall");
    let (yard, yard_config) = box_named(&recipe, "yard");
    // The names of a network that is not here, once it is known where they are; and the recipe's reload.
    let found = |config: &str| {
        let at = |address: SocketAddr| format!("http://{address}/");
        config
            .replace("http://hall.local:8080/", &at(hall.http()))
            .replace("http://yard.local:8080/", &at(yard.http()))
    };
    for (camd, config) in [(&hall, &hall_config), (&yard, &yard_config)] {
        let found = found(config);
        assert_ne!(&found, config);
        fs::write(camd.config_path(), found).expect("our folder");
        camd.signal(Signal::SIGHUP);
    }
    for (camd, other, name) in [(&hall, &yard, "yard"), (&yard, &hall, "hall")] {
        let url = format!("http://{}/", other.http());
        let expected = serde_json::json!([{ "name": name, "url": url }]);
        camd.wait_state("the neighbour", |state| state["neighbours"] == expected);
        // Behind the link is the other box.
        assert_eq!(other.state()["name"], name);
        assert!(other.get("/").text().contains("<html"));
    }
}
