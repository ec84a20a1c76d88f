//! What camd can still do once it has started, tried from within: a debug build makes the calls that `CAMD_SANDBOX_TEST` names as
//! somebody would who has taken it over.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::tls::shake_hands;
use crate::common::{Camd, Folder, LISTENERS, PATIENCE, Stream, connect, jpeg, pattern, run};

/// The version of Landlock that this kernel has; 0: none.
fn landlock() -> i64 {
    let none = std::ptr::null::<u8>();
    // SAFETY: with this flag it only gives a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, 1) };
    version.max(0)
}

fn command(attempts: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command
        .stdin(Stdio::null())
        .env("CAMD_SANDBOX_TEST", attempts);
    command
}

/// camd after it has tried these, all of which have to leave it alive.
fn attacked(config: &str, attempts: &[(&str, &str)]) -> Camd {
    let all: Vec<_> = attempts.iter().map(|(what, _)| *what).collect();
    let mut camd = Camd::start_as(&mut command(&all.join(";")), config, PATIENCE);
    camd.wait_log("all attempts", |log| {
        log.matches("sandbox test: ").count() == attempts.len()
    });
    let log = camd.log();
    for (what, result) in attempts {
        let line = format!("sandbox test: {what}: {result}\n");
        assert!(log.contains(&line), "{line}{log}");
    }
    camd
}

fn status_of(path: &std::path::Path, field: &str) -> String {
    let status = fs::read_to_string(path.join("status")).expect("it lives");
    let mut lines = status.lines();
    let found = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    found.expect("a field").trim().to_owned()
}

/// The one child of camd that is no program of the configuration's.
fn broker(camd: &Camd) -> Pid {
    let pid = camd.pid();
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    let is_broker = |child: &&str| {
        let name = fs::read_to_string(format!("/proc/{child}/comm"));
        name.is_ok_and(|name| name == "camd-broker\n")
    };
    let found: Vec<_> = children.split_whitespace().filter(is_broker).collect();
    assert_eq!(found.len(), 1, "{children}");
    Pid::from_raw(found[0].parse().expect("a number"))
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_gone(pid: Pid) -> bool {
    // What has ended and is waited for by nobody is gone, too.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn every_thread_has_the_filter() {
    let config = pattern().replacen("protocol = \"push\"", "protocol = \"push\"\ntls = true", 1);
    let folder = Folder::new();
    let mut command = command("");
    command.env("STATE_DIRECTORY", folder.path());
    let camd = Camd::start_as(&mut command, &config, PATIENCE);
    // The handshakes' thread is started by the first one.
    let shaken = shake_hands(connect(camd.push()), &rustls::version::TLS13);
    shaken.expect("TLS");
    assert_eq!(camd.get("/snapshot").status, 200);
    let mut names = Vec::new();
    for thread in fs::read_dir(format!("/proc/{}/task", camd.pid())).expect("threads") {
        let thread = thread.expect("a thread").path();
        names.push(status_of(&thread, "Name"));
        assert_eq!(status_of(&thread, "Seccomp"), "2", "{names:?}");
        assert_eq!(status_of(&thread, "NoNewPrivs"), "1", "{names:?}");
    }
    names.sort();
    assert_eq!(names, ["camd", "handshakes", "log"]);
    let log = camd.log();
    let on = match landlock() {
        0 => "sandbox: in part: system calls (seccomp); files stay in reach: this kernel has no Landlock\n"
            .to_owned(),
        version @ 1..=3 => format!("sandbox: on: system calls (seccomp), files (Landlock {version})\n"),
        version => format!("sandbox: on: system calls (seccomp), files and TCP (Landlock {version})\n"),
    };
    assert_eq!(log.matches("sandbox: ").count(), 1, "said once: {log}");
    assert!(log.contains(&on), "{log}");
    let broker = broker(&camd);
    drop(camd);
    wait_for("it ends with camd", || is_gone(broker));
}

#[test]
fn what_is_not_its_own_is_out_of_reach() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let dial = format!("dial {port}");
    let (connect, bind) = (format!("connect {port}"), format!("bind {}", port - 1));
    let folder = Folder::new();
    let secret = folder.file("secret", "s");
    let at = |what: &str| format!("{what} {}", secret.display());
    let (read, device, run) = (at("read"), at("device"), at("run cat"));
    let (chmod, signal) = (at("chmod"), format!("signal {}", std::process::id()));
    let ptraced = format!("kill {}", std::process::id());
    let mut attempts = vec![
        (connect.as_str(), "EACCES"),
        (&bind, "EACCES"),
        ("socket inet", "EACCES"),
        ("socket inet6", "EACCES"),
        ("socket unix", "EACCES"),
        ("socket netlink", "EACCES"),
        ("socket packet", "EACCES"),
        ("udp", "EACCES"),
        ("clone3", "ENOSYS"),
        ("io_uring_setup", "ENOSYS"),
        ("unknown", "ENOSYS"),
        ("mprotect", "EPERM"),
        ("tiocsti", "EPERM"),
        ("mkdir /tmp/camd-made", "ENOSYS"),
        ("symlink /etc/shadow", "ENOSYS"),
        (&chmod, "ENOSYS"),
        (&ptraced, "EPERM"),
        ("kill 1", "EPERM"),
        // By way of the broker.
        (&read, "EACCES"),
        (&dial, "EACCES"),
        ("dial-unix /run/dbus/system_bus_socket", "EACCES"),
        ("name localhost", "EACCES"),
        ("read /etc/shadow", "EACCES"),
        ("read /proc/1/environ", "EACCES"),
        (&device, "EACCES"),
        ("device /dev/null", "EACCES"),
        ("device /dev/zero", "EACCES"),
        (&run, "EACCES"),
        ("run id", "EACCES"),
        (&signal, "EACCES"),
        ("signal 1", "EACCES"),
    ];
    let (open, write, unlink) = (at("open"), at("write"), at("unlink"));
    let (rename, create) = (
        at("rename"),
        format!("create {}/new", folder.path().display()),
    );
    if landlock() > 0 {
        attempts.extend([
            (open.as_str(), "EACCES"),
            (&write, "EACCES"),
            (&unlink, "EACCES"),
            (&rename, "EACCES"),
            (&create, "EACCES"),
            ("open /etc/shadow", "EACCES"),
            ("open /etc/passwd", "EACCES"),
            ("open /dev/null", "EACCES"),
            ("open /proc/self/environ", "EACCES"),
            ("open /proc/self/mem", "EACCES"),
            ("open /sys/kernel/uevent_seqnum", "EACCES"),
            ("open /", "EACCES"),
        ]);
    }
    let camd = attacked(&pattern(), &attempts);
    assert_eq!(fs::read_to_string(&secret).expect("it is there"), "s");
    // It serves on, and its viewers have seen nothing of all that.
    let mut stream = Stream::open(camd.http(), "/stream");
    for _ in 0..10 {
        stream.next();
    }
}

#[test]
fn what_only_an_attacker_does_ends_it_with_a_word() {
    for (attempt, name) in [
        ("execve /bin/true", "execve"),
        ("execveat /bin/true", "execveat"),
        (
            "fork",
            if cfg!(target_arch = "arm") {
                "fork"
            } else {
                "clone"
            },
        ),
        ("ptrace 1", "ptrace"),
        ("process_vm_readv 1", "process_vm_readv"),
        ("mount /", "mount"),
        ("unshare", "unshare"),
        ("bpf", "bpf"),
        ("keyctl", "keyctl"),
        ("init_module", "init_module"),
        ("reboot", "reboot"),
    ] {
        let folder = Folder::new();
        let config = folder.file("camd.toml", pattern());
        let mut command = command(attempt);
        let output = command
            .arg("--config")
            .arg(config)
            .output()
            .expect("it runs");
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.signal(),
            Some(libc::SIGSYS),
            "{attempt}: {log}"
        );
        let words = format!(
            "camd: ended by its sandbox, because it was made to call {name}: it has been attacked, or has a fault\n"
        );
        assert!(log.ends_with(&words), "{attempt}: {log}");
        assert!(!log.contains("sandbox test: "), "{attempt}: {log}");
    }
}

/// libv4l's v4l2convert.so is such a library: it turns pictures of odd formats into those that programs know.
#[test]
fn a_library_in_front_of_ioctl_sees_the_cameras_and_another_one_changes_nothing() {
    let folder = Folder::new();
    let library = |name: &str, text: &str| {
        let (source, built) = (
            folder.file(name, text),
            folder.path().join(format!("{name}.so")),
        );
        run(Command::new("gcc")
            .args(["-shared", "-fPIC", "-w", "-xc", "-o"])
            .args([&built, &source]));
        built
    };
    let ioctl = library(
        "ioctl",
        "#include <sys/syscall.h>\n#include <unistd.h>\n\
         int ioctl(int fd, unsigned long what, void *with) { return syscall(SYS_ioctl, fd, what, with); }",
    );
    let other = library("other", "int something_else(void) { return 0; }");
    for (library, says) in [
        (
            ioctl,
            "sandbox: off (LD_PRELOAD has a library that takes the place of ioctl",
        ),
        (other, "sandbox: on: "),
    ] {
        let mut command = command("");
        command.env("LD_PRELOAD", &library);
        let mut camd = Camd::start_as(&mut command, &pattern(), PATIENCE);
        camd.wait_log(says, |log| log.contains(says));
        let filtered = if says.contains("off") { 0 } else { 2 };
        assert_eq!(camd.proc_status("Seccomp"), filtered, "{says}");
    }
}

#[test]
fn without_a_sandbox_it_can_do_all_that() {
    let folder = Folder::new();
    let file = folder.file("file", "");
    let config = format!("{}[limits]\nsandbox = false\ncells = 0\n", pattern());
    let mut camd = Camd::start_as(&mut command(""), &config, PATIENCE);
    camd.wait_log("what it has", |log| {
        log.contains("sandbox: off (limits.sandbox = false)\n")
    });
    assert_eq!(camd.proc_status("Seccomp"), 0);
    let pid = camd.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    assert_eq!(
        children.expect("children"),
        "",
        "there is no second process"
    );
    drop(camd);
    // The same calls as above, with what they are given in reach: they are not refused for another reason.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let push = format!("source = \"push\"\naddress = \"127.0.0.1:{port}\"");
    let config = pattern().replace("source = \"pattern\"", &push);
    let (connect, dial) = (format!("connect {port}"), format!("dial {port}"));
    let read = format!("read {}", file.display());
    let config = format!("{config}[[user]]\nname = \"n\"\npassword_file = {file:?}\n");
    fs::write(&file, "password\n").expect("it is ours");
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let elsewhere = format!("dial {}", other.local_addr().expect("bound").port());
    attacked(
        &config,
        &[
            (&dial, "done"),
            (&elsewhere, "EACCES"),
            (&connect, "EACCES"),
            (&read, "done"),
            ("read /etc/resolv.conf", "done"),
            ("name localhost", "EACCES"),
        ],
    );
    let named = config
        .replace("127.0.0.1:", "localhost:")
        .replace("bind = \"localhost", "bind = \"127.0.0.1");
    attacked(
        &named,
        &[
            ("name localhost", "done"),
            ("name example.com", "EACCES"),
            (&dial, "done"),
            (&elsewhere, "EACCES"),
        ],
    );
    // Its server may name any of its ports.
    let push = format!("source = \"push\"\naddress = \"127.0.0.1:{port}\"");
    let http = config.replace(&push, "source = \"http\"\nurl = \"http://127.0.0.1:1/\"");
    attacked(
        &http,
        &[
            (&dial, "done"),
            (&elsewhere, "done"),
            (&connect, "EACCES"),
            ("dial-unix /run/dbus/system_bus_socket", "EACCES"),
        ],
    );
}

/// Those of SIGHUP, SIGINT and SIGQUIT that these tests were started with as ignored.
fn ignored_here() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let mut lines = status.lines();
    let bits = lines.find_map(|line| line.strip_prefix("SigIgn:\t"));
    u64::from_str_radix(bits.expect("it is there"), 16).expect("bits") & 0b111
}

#[test]
fn a_program_runs_outside_and_a_reload_brings_another() {
    let folder = Folder::new();
    folder.file("picture", jpeg(1, 3000));
    let at = folder.path().display();
    let config = |name: &str| {
        // By the shell itself: while it starts another program all its signals are blocked.
        let script = format!(
            "while IFS= read -r line; do echo \"$line\"; done </proc/$$/status >{at}/{name}; \
             read -r parent </proc/$PPID/comm; echo \"$parent\" >>{at}/{name}; \
             while :; do cat {at}/picture; sleep 0.05; done"
        );
        format!("[camera]\nsource = \"pipe\"\ncommand = [\"sh\", \"-c\", {script:?}]\n{LISTENERS}")
    };
    let mut camd = Camd::start(&config("first"));
    camd.wait_log("what it says", |log| {
        log.contains("; the program of camera.command runs outside of it\n")
    });
    assert_eq!(camd.get("/snapshot").status, 200);
    // As editors and tools write it: a new file in place of the old one.
    let new = camd.config_path().with_extension("new");
    fs::write(&new, config("second")).expect("it is ours");
    fs::rename(&new, camd.config_path()).expect("it is ours");
    camd.signal(Signal::SIGHUP);
    camd.wait_log("the reload", |log| log.contains("read again"));
    assert_eq!(camd.get("/snapshot").status, 200);
    for name in ["first", "second"] {
        let text = fs::read_to_string(folder.path().join(name)).expect("it has run");
        let field = |field: &str| {
            let mut lines = text.lines();
            let found = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
            found
                .unwrap_or_else(|| panic!("{field}: {text}"))
                .to_owned()
        };
        assert_eq!(field("Seccomp"), "0");
        assert_eq!(field("NoNewPrivs"), "1");
        // The C library's own two are above these (signal(7)). What a shell starts in the background ignores SIGQUIT, and
        // with it all that it starts.
        let ignored = u64::from_str_radix(&field("SigIgn"), 16).expect("bits") & !ignored_here();
        assert_eq!(ignored & 0x7FFF_FFFF, 0, "nothing of the broker's");
        assert_eq!(field("SigBlk"), "0000000000000000");
        assert_eq!(field("PPid"), camd.pid().to_string(), "camd waits for it");
        assert!(text.ends_with("camd\n"), "{text}");
    }
}

#[test]
fn a_program_that_is_not_there_is_a_fault_as_ever() {
    let config = format!(
        "[camera]\nsource = \"pipe\"\ncommand = [\"/no/such/program\"]\n{LISTENERS}[limits]\ncells = 0\n"
    );
    let mut camd = Camd::start(&config);
    assert_eq!(camd.get("/snapshot").status, 503);
    camd.wait_log("why", |log| {
        log.contains(
            "cannot run \"/no/such/program\" (camera.command): No such file or directory (os error 2)",
        )
    });
    let pid = camd.pid();
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    wait_for("nothing is left of it", || {
        children().is_ok_and(|children| children.split_whitespace().count() == 1)
    });
}

#[test]
fn a_reload_reads_new_files_and_says_what_is_out_of_reach() {
    let folder = Folder::new();
    let password = folder.file("password", "one\n");
    let user =
        |file: &std::path::Path| format!("[[user]]\nname = \"anna\"\npassword_file = {file:?}\n");
    let access = pattern().replacen(
        "protocol = \"http\"",
        "protocol = \"http\"\naccess = \"users\"",
        1,
    );
    let mut camd = Camd::start(&format!("{access}{}", user(&password)));
    // "anna:one", "anna:two"
    let get = |camd: &Camd, login: &str| {
        let text = format!(
            "GET /state HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {login}\r\nConnection: close\r\n\r\n"
        );
        crate::common::request(camd.http(), &text).status
    };
    assert_eq!(get(&camd, "YW5uYTpvbmU="), 200);
    // In a folder that was not there at the start.
    fs::create_dir(folder.path().join("new")).expect("it is ours");
    let moved = folder.file("new/password", "two\n");
    fs::write(camd.config_path(), format!("{access}{}", user(&moved))).expect("it is ours");
    camd.signal(Signal::SIGHUP);
    camd.wait_log("the reload", |log| log.contains("read again"));
    assert_eq!(get(&camd, "YW5uYTp0d28="), 200);
    assert!(!camd.log().contains("out of reach"), "{}", camd.log());

    folder.file("0.jpg", jpeg(1, 3000));
    let replay = format!("source = \"replay\"\npath = {:?}", folder.path());
    let changed = access.replace("source = \"pattern\"", &replay);
    fs::write(camd.config_path(), format!("{changed}{}", user(&moved))).expect("it is ours");
    camd.signal(Signal::SIGHUP);
    let told = format!(
        "sandbox: out of reach until camd is restarted: camera.path ({})\n",
        folder.path().display()
    );
    camd.wait_log("what is out of reach", |log| log.contains(&told));
    // It is said once for as long as it is so.
    camd.signal(Signal::SIGHUP);
    camd.wait_log("the reload", |log| log.matches("read again").count() == 3);
    assert_eq!(camd.log().matches("out of reach").count(), 1);
}

#[test]
fn without_its_second_process_it_ends_to_be_started_again() {
    let mut camd = Camd::start(&pattern());
    kill(broker(&camd), Signal::SIGKILL).expect("it lives");
    assert_eq!(
        camd.get("/snapshot").status,
        200,
        "who watches is served on"
    );
    // It is needed now.
    camd.signal(Signal::SIGHUP);
    assert_eq!(camd.wait(PATIENCE).code(), Some(1));
    let log = camd.final_log();
    assert!(
        log.contains("camd: the sandbox's second process has ended\n"),
        "{log}"
    );
}

#[test]
fn signals_of_a_terminal_leave_it_alone() {
    let camd = Camd::start(&pattern());
    let broker = broker(&camd);
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM] {
        kill(broker, signal).expect("it lives");
    }
    // A reload asks it.
    let mut camd = camd;
    camd.signal(Signal::SIGHUP);
    camd.wait_log("the reload", |log| log.contains("read again"));
    drop(camd);
    wait_for("it ends with camd", || is_gone(broker));
}
