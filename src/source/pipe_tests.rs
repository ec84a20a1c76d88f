//! Real programs: `sh` and what comes with it.

use std::path::{Path, PathBuf};

use nix::sys::signal::kill;

use super::*;
use crate::picture::frame::Picture;
use crate::picture::jpeg;

const FRAME_BYTES: usize = 4096;
/// No test waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A JPEG with a thumbnail (SOI to EOI) in APP1, and Huffman tables; `mark` tells it from others.
fn jpeg_of(mark: u8) -> Vec<u8> {
    let thumbnail = [0xFF, 0xD8, 0xFF, 0xDA, 0x00, 0x02, 0x33, 0xFF, 0xD9];
    let mut jpeg = vec![0xFF, 0xD8, 0xFF, 0xE1, 0x00, 2 + 9];
    jpeg.extend(thumbnail);
    jpeg.extend([0xFF, 0xC4, 0x00, 0x03, 0x00]);
    jpeg.extend([
        0xFF, 0xC0, 0x00, 0x0B, 0x08, 0x00, 0x30, 0x00, 0x40, 0x01, 0x01, 0x11, 0x00,
    ]);
    jpeg.extend([
        0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3F, 0x00, mark, 0xFF, 0xD9,
    ]);
    jpeg
}

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("camd-pipe-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn sh(script: &str) -> Pipe {
    Pipe::new(
        vec!["sh".into(), "-c".into(), script.into()],
        FRAME_BYTES,
        240,
    )
}

/// Does what an owner does: polls the descriptor until the deadline, and captures.
fn turn(pipe: &mut Pipe) -> Result<Captured, Fault> {
    let fd = pipe.fd().expect("it was started");
    let now = Instant::now();
    let wait = pipe
        .deadline()
        .expect("it was started")
        .saturating_duration_since(now);
    // SAFETY: the descriptor stays open over the call, as `pipe` is borrowed.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    let mut fds = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN)];
    let timeout = u16::try_from(wait.as_millis() + 1).unwrap_or(u16::MAX);
    nix::poll::poll(&mut fds, timeout).unwrap();
    pipe.capture(Instant::now())
}

fn until<T>(mut step: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(done) = step() {
            return done;
        }
        assert!(start.elapsed() < PATIENCE, "it never happened");
    }
}

fn next_picture(pipe: &mut Pipe) -> (Vec<u8>, Captured) {
    let mut total = Captured::default();
    until(|| {
        let captured = turn(pipe).unwrap();
        total.dropped += captured.dropped;
        total.bad += captured.bad;
        total.fresh = captured.fresh;
        captured.fresh.then_some(())
    });
    match pipe.newest().unwrap().picture {
        Picture::Jpeg(bytes) => (bytes.to_vec(), total),
        Picture::Raw(_) => panic!("raw"),
    }
}

fn fault(pipe: &mut Pipe) -> String {
    until(|| turn(pipe).err()).0
}

fn alive(pid: i32) -> bool {
    // A zombie that nobody has reaped yet still takes signals; its state tells.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    kill(Pid::from_raw(pid), None).is_ok() && state.is_some_and(|state| state != 'Z')
}

fn number_in(path: &Path) -> i32 {
    until(|| {
        thread::sleep(Duration::from_millis(5));
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    })
}

#[test]
fn pictures_with_thumbnails_and_garbage_around_them_come_out_whole() {
    let folder = Folder::new("whole");
    let (one, two) = (folder.file("1", &jpeg_of(1)), folder.file("2", &jpeg_of(2)));
    let mut pipe = sh(&format!(
        "echo noise; cat {one}; echo noise; sleep 0.2; cat {two}; sleep 60"
    ));
    let negotiated = pipe.start(Instant::now()).unwrap();
    assert_eq!(
        (negotiated.format, negotiated.width),
        (crate::picture::frame::PixelFormat::Mjpeg, 0)
    );
    assert!(pipe.newest().is_none());
    assert_eq!(next_picture(&mut pipe).0, jpeg_of(1));
    assert_eq!(next_picture(&mut pipe).0, jpeg_of(2));
    let meta = pipe.newest().unwrap().meta;
    assert_eq!((meta.width, meta.height), (64, 48));
    pipe.stop();
    assert!(pipe.newest().is_none() && pipe.fd().is_none() && pipe.deadline().is_none());
}

#[test]
fn of_pictures_that_came_together_the_newest_wins() {
    let folder = Folder::new("newest");
    let all = folder.file("all", &[jpeg_of(1), jpeg_of(2), jpeg_of(3)].concat());
    // Fewer bytes than PIPE_BUF: they arrive together.
    let mut pipe = sh(&format!("cat {all}; sleep 60"));
    pipe.start(Instant::now()).unwrap();
    let (picture, captured) = next_picture(&mut pipe);
    assert_eq!(picture, jpeg_of(3));
    assert_eq!((captured.dropped, captured.bad), (2, 0));
}

#[test]
fn damaged_and_oversized_pictures_are_counted_and_passed_over() {
    let folder = Folder::new("damaged");
    let mut broken = jpeg_of(1);
    broken.truncate(broken.len() - 2);
    let mut huge = jpeg_of(2);
    let end = huge.split_off(huge.len() - 2);
    huge.extend(vec![0; 2 * FRAME_BYTES]);
    huge.extend(end);
    let all = folder.file("all", &[broken, huge, jpeg_of(3)].concat());
    let mut pipe = sh(&format!("cat {all}; sleep 60"));
    pipe.start(Instant::now()).unwrap();
    let (picture, captured) = next_picture(&mut pipe);
    assert_eq!(picture, jpeg_of(3));
    assert_eq!(captured.bad, 2);
}

#[test]
fn huffman_tables_are_put_in() {
    let folder = Folder::new("tables");
    let bare = crate::source::newest::bare_jpeg();
    let file = folder.file("bare", &bare);
    let mut pipe = sh(&format!("cat {file}; sleep 60"));
    pipe.start(Instant::now()).unwrap();
    let (picture, _) = next_picture(&mut pipe);
    assert_eq!(picture.len(), bare.len() + 420);
    assert_eq!(jpeg::inspect(&picture).unwrap().tables, None);
}

#[test]
fn the_end_is_a_fault_with_status_and_last_words_after_the_last_picture() {
    let folder = Folder::new("end");
    let one = folder.file("1", &jpeg_of(1));
    let mut pipe = sh(&format!(
        "cat {one}; echo first >&2; printf 'no such camera\\n\\n' >&2; exit 3"
    ));
    pipe.start(Instant::now()).unwrap();
    // Picture and end are found by the same call.
    let child = pipe.running.as_ref().unwrap().child;
    until(|| (!alive(child.as_raw())).then_some(()));
    assert_eq!(next_picture(&mut pipe).0, jpeg_of(1));
    assert_eq!(
        fault(&mut pipe),
        "sh ended with exit status 3: no such camera"
    );
    pipe.stop();
    // And again, as after any fault.
    pipe.start(Instant::now()).unwrap();
    assert_eq!(next_picture(&mut pipe).0, jpeg_of(1));
}

#[test]
fn a_signal_is_named_and_a_closed_output_noticed() {
    let mut pipe = sh("kill -SEGV $$");
    pipe.start(Instant::now()).unwrap();
    let child = pipe.running.as_ref().unwrap().child;
    assert_eq!(fault(&mut pipe), "sh was killed by SIGSEGV");
    // Still a zombie, so that the number of its group is nobody else's when `stop` kills that.
    assert!(kill(child, None).is_ok());
    pipe.stop();
    assert!(kill(child, None).is_err());
    let mut pipe = sh("exec >&-; sleep 60");
    pipe.start(Instant::now()).unwrap();
    assert_eq!(fault(&mut pipe), "sh closed its output but runs on");
}

#[test]
fn a_program_that_is_not_there_is_a_fault() {
    for command in [
        vec![],
        vec!["camd-no-such-program".to_string()],
        vec!["nul\0".to_string()],
    ] {
        let mut pipe = Pipe::new(command, FRAME_BYTES, 30);
        assert!(
            pipe.start(Instant::now())
                .unwrap_err()
                .0
                .contains("camera.command")
        );
        pipe.stop();
    }
}

#[test]
fn silence_is_a_fault_later_for_the_first_picture_than_for_others() {
    let folder = Folder::new("silence");
    let one = folder.file("1", &jpeg_of(1));
    let mut pipe = sh(&format!("cat {one}; sleep 60"));
    let start = Instant::now();
    pipe.start(start).unwrap();
    assert_eq!(pipe.deadline(), Some(start + FIRST_PICTURE));
    next_picture(&mut pipe);
    let shown = pipe.newest().unwrap().meta.captured;
    until(|| {
        (pipe.deadline() == Some(shown + CAPTURE_STALL))
            .then_some(())
            .or_else(|| {
                pipe.capture(shown).unwrap();
                None
            })
    });
    assert!(
        pipe.capture(shown + CAPTURE_STALL - Duration::from_millis(1))
            .is_ok()
    );
    let Err(Fault(why)) = pipe.capture(shown + CAPTURE_STALL) else {
        panic!("no fault");
    };
    assert_eq!(why, "sh wrote no picture for too long");
}

#[test]
fn stop_ends_the_program_and_all_it_started_and_leaves_no_zombie() {
    let folder = Folder::new("group");
    let (child, grandchild) = (folder.0.join("child"), folder.0.join("grandchild"));
    // Neither goes by itself: both ignore SIGTERM.
    let mut pipe = sh(&format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {}; while :; do sleep 1; done' & echo $$ > {}; wait",
        grandchild.display(),
        child.display()
    ));
    pipe.start(Instant::now()).unwrap();
    let (child, grandchild) = (number_in(&child), number_in(&grandchild));
    assert!(alive(child) && alive(grandchild));
    pipe.stop();
    // Reaped: a zombie would still take signals.
    assert!(kill(Pid::from_raw(child), None).is_err());
    assert!(pipe.unreaped.is_none());
    // Its own parent is gone, so that init reaps it, some time.
    until(|| (!alive(grandchild)).then_some(()));
}

#[test]
fn grandchildren_die_too_when_the_child_ended_by_itself() {
    let folder = Folder::new("orphan");
    let file = folder.0.join("pid");
    let mut pipe = sh(&format!(
        "sh -c 'echo $$ > {}; exec sleep 60' >/dev/null & sleep 0.2; exit 1",
        file.display()
    ));
    pipe.start(Instant::now()).unwrap();
    let grandchild = number_in(&file);
    assert!(fault(&mut pipe).starts_with("sh ended with exit status 1"));
    assert!(alive(grandchild));
    pipe.stop();
    until(|| (!alive(grandchild)).then_some(()));
}

#[test]
fn a_program_may_clean_up_on_sigterm_even_if_camd_blocks_that_signal() {
    use nix::sys::signal::{SigSet, SigmaskHow};
    let folder = Folder::new("term");
    let (ready, done) = (folder.0.join("ready"), folder.0.join("done"));
    let mut pipe = sh(&format!(
        "trap 'echo 1 > {}; exit 0' TERM; echo 1 > {}; while :; do sleep 0.01; done",
        done.display(),
        ready.display()
    ));
    // As the daemon does for its signalfd. A child inherits the mask, unless somebody clears it.
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    let old = term.thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap();
    pipe.start(Instant::now()).unwrap();
    old.thread_set_mask().unwrap();
    number_in(&ready);
    pipe.stop();
    assert!(done.exists());
}

#[test]
fn a_talkative_program_is_not_blocked_by_its_stderr() {
    let folder = Folder::new("stderr");
    let one = folder.file("1", &jpeg_of(1));
    // Far more than a pipe holds, before the picture.
    let mut pipe = sh(&format!(
        "i=0; while [ $i -lt 4000 ]; do echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done; cat {one}; sleep 60"
    ));
    pipe.start(Instant::now()).unwrap();
    assert_eq!(next_picture(&mut pipe).0, jpeg_of(1));
}

#[test]
fn endless_garbage_does_not_keep_the_caller() {
    let mut pipe = sh("exec cat /dev/zero");
    pipe.start(Instant::now()).unwrap();
    // Each call returns, and wants to be called again.
    for _ in 0..50 {
        assert_eq!(turn(&mut pipe), Ok(Captured::default()));
    }
    assert!(pipe.newest().is_none());
}

#[test]
fn one_call_takes_no_more_than_one_pictures_worth_of_bytes() {
    let folder = Folder::new("flood");
    let count = 10 * FRAME_BYTES / jpeg_of(1).len();
    let all = folder.file("all", &jpeg_of(1).repeat(count));
    let written = folder.0.join("written");
    let mut pipe = sh(&format!(
        "cat {all}; echo 1 > {}; sleep 60",
        written.display()
    ));
    pipe.start(Instant::now()).unwrap();
    number_in(&written);
    let now = Instant::now();
    let captured = pipe.capture(now).unwrap();
    assert!(captured.fresh && (captured.dropped as usize) < FRAME_BYTES / jpeg_of(1).len());
    assert_eq!(pipe.deadline(), Some(now));
}

#[test]
fn restarts_leak_no_descriptor() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut pipe = Pipe::new(vec!["true".into()], FRAME_BYTES, 30);
    pipe.start(Instant::now()).unwrap();
    pipe.stop();
    let before = open();
    for _ in 0..200 {
        pipe.start(Instant::now()).unwrap();
        pipe.stop();
    }
    // Other tests of this process open and close some at the same time.
    assert!(open() < before + 100, "{} after {before}", open());
}

#[test]
fn lines_end_with_lf_crlf_or_cr_and_are_cut() {
    let mut lines = Lines::default();
    let mut seen = Vec::new();
    let long = [b'x'; LINE + 10];
    for chunk in [
        &b"one\ntwo\r"[..],
        b"\nframe=1\rframe=2\rthree",
        b"\n\n",
        &long,
        b"\n",
    ] {
        lines.push(chunk, |line, level| {
            seen.push((String::from_utf8_lossy(line).into_owned(), level))
        });
    }
    let expected = [
        ("one", Level::Warn),
        ("two", Level::Warn),
        ("frame=1", Level::Debug),
        ("frame=2", Level::Debug),
        ("three", Level::Warn),
        (std::str::from_utf8(&long[..LINE]).unwrap(), Level::Warn),
    ];
    assert_eq!(
        seen,
        expected.map(|(line, level)| (line.to_string(), level))
    );
    assert_eq!(lines.last_len, LINE);
}

#[test]
fn what_a_program_says_cannot_forge_log_lines() {
    assert_eq!(
        Printable(b"a\x1b[2Jb\xff\tc\xc3\xa9").to_string(),
        "a\\u{1b}[2Jb\u{fffd}\\tcé"
    );
}

/// Three pictures of 64x48, the first of them a key picture.
fn film() -> [&'static [u8]; 3] {
    let film: &[u8] = include_bytes!("../../tests/data/64x48.264");
    let starts = film.windows(5).enumerate();
    let starts: Vec<_> = starts
        .filter_map(|(at, window)| (*window == [0, 0, 0, 1, 0x41]).then_some(at))
        .collect();
    let (key, rest) = film.split_at(starts[0]);
    let (second, third) = rest.split_at(starts[1] - starts[0]);
    [key, second, third]
}

/// Turns until so many pictures of H.264 came, and what came with them.
fn next_units(pipe: &mut Pipe, pictures: u64) -> Captured {
    let mut total = Captured::default();
    // None of them is older than this, and so none too old.
    let now = Instant::now();
    until(|| {
        let captured = turn(pipe).unwrap();
        total.dropped += captured.dropped;
        total.bad += captured.bad;
        let last = |pipe: &Pipe| {
            let mut last = 0;
            while let Some(unit) = pipe.chain()?.after(last, now) {
                last = unit.meta.sequence;
            }
            Some(last)
        };
        (last(pipe)? >= pictures).then_some(())
    });
    total
}

#[test]
fn a_film_s_last_picture_does_not_wait_for_the_next() {
    let folder = Folder::new("film-quiet");
    let film = film();
    let files = [0, 1, 2].map(|number| folder.file(&number.to_string(), film[number]));
    let mut pipe = sh(&format!(
        "cat {}; sleep 0.2; cat {}; sleep 0.2; cat {}; sleep 60",
        files[0], files[1], files[2]
    ));
    let begin = Instant::now();
    pipe.start(begin).unwrap();
    // Nothing follows the third.
    assert_eq!(next_units(&mut pipe, 3), Captured::default());
    let chain = pipe.chain().unwrap();
    let third = chain.after(2, begin).unwrap();
    let nal = third.sample[4..].to_vec();
    assert!(film[2].ends_with(&nal) && nal.len() + 4 == film[2].len());
    pipe.stop();
}

#[test]
fn a_film_s_picture_that_was_taken_too_early_cuts_the_chain() {
    let folder = Folder::new("film-torn");
    let film = film();
    let (half, rest) = film[2].split_at(film[2].len() / 2);
    let files = [film[0], film[1], half, rest]
        .into_iter()
        .enumerate()
        .map(|(number, bytes)| folder.file(&number.to_string(), bytes))
        .collect::<Vec<_>>();
    let mut pipe = sh(&format!(
        "cat {0}; sleep 0.3; cat {1}; sleep 0.3; cat {2}; sleep 0.3; cat {3}; cat {1}; cat {0}; sleep 60",
        files[0], files[1], files[2], files[3]
    ));
    let begin = Instant::now();
    pipe.start(begin).unwrap();
    let captured = next_units(&mut pipe, 4);
    // The torn one is bad, and the one that leans on it is of no use.
    assert_eq!((captured.bad, captured.dropped), (1, 1));
    let unit = pipe.chain().unwrap().after(3, begin).unwrap();
    assert!(unit.is_key);
    pipe.stop();
}
