//! `source = "pipe"`: what the program gets of camd.

use std::fs::File;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::common::{Camd, Folder, LISTENERS, jpeg};

/// Shells add these themselves.
const SHELLS: [&str; 4] = ["PWD", "OLDPWD", "SHLVL", "_"];

#[test]
fn it_gets_no_more_than_it_needs() {
    let folder = Folder::new();
    folder.file("picture", jpeg(1, 3000));
    let at = folder.path().display();
    // One that camd inherits, as from a careless supervisor.
    let careless = File::open(folder.path().join("picture")).expect("a file");
    fcntl(&careless, FcntlArg::F_SETFD(FdFlag::empty())).expect("a flag");
    let script = format!(
        "ls -l /proc/$$/fd >{at}/files; env >{at}/environment; \
         grep NoNewPrivs /proc/$$/status >{at}/status; while :; do cat {at}/picture; sleep 0.05; done"
    );
    let camd = Camd::start(&format!(
        "[camera]\nsource = \"pipe\"\ncommand = [\"sh\", \"-c\", {script:?}]\n{LISTENERS}"
    ));
    assert_eq!(camd.get("/snapshot").status, 200);
    let read = |name| std::fs::read_to_string(folder.path().join(name)).expect("it was written");
    let inherited = std::fs::read_dir(format!("/proc/{}/fd", camd.pid())).expect("camd's files");
    let picture = folder.path().join("picture");
    let is_careless =
        |file: std::fs::DirEntry| std::fs::read_link(file.path()).is_ok_and(|it| it == picture);
    assert!(inherited.flatten().any(is_careless), "camd has it");
    // Its standard files, and copies of these that shells keep.
    for line in read("files").lines().skip(1) {
        let (_, target) = line.split_once(" -> ").expect("a link");
        let is_standard = target == "/dev/null" || target.starts_with("pipe:");
        assert!(is_standard || target == format!("{at}/files"), "{line}");
    }
    assert_eq!(read("status").split_whitespace().last(), Some("1"));
    let environment = read("environment");
    let names = environment
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0));
    let other: Vec<_> = names.filter(|name| !SHELLS.contains(name)).collect();
    assert!(other.contains(&"PATH"), "{other:?}");
    assert!(
        other.iter().all(|name| !name.starts_with("CARGO")),
        "{other:?}"
    );
    assert!(
        std::env::vars().any(|(name, _)| name.starts_with("CARGO")),
        "camd has them"
    );
}
