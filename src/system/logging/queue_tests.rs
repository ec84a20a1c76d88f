use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;

/// How long anything may take that normally takes no time.
const PATIENCE: Duration = Duration::from_secs(20);

fn told(lost: u64) -> Line {
    let mut line = Line::new(LOG_LINE);
    let _ = write!(line, "{lost} lost");
    line.end()
}

/// Takes all that is there, as the writer does.
fn taken(queue: &Queue, one_by_one: bool) -> Vec<String> {
    let (mut all, mut piece) = (Vec::new(), [0; LOG_LINE]);
    // Ends the wait.
    queue.look_at(Instant::now());
    loop {
        match queue.next(0, one_by_one, &mut piece) {
            Task::Write { len, .. } => all.push(str::from_utf8(&piece[..len]).unwrap().to_owned()),
            Task::TellLost(lost) => all.push(format!("{lost} lost\n")),
            Task::Look => return all,
        }
    }
}

fn push(queue: &Queue, text: &str) {
    queue.push(text.as_bytes(), false, told);
}

#[test]
fn lines_come_out_whole_and_in_order() {
    let queue = Queue::new();
    // Round the ring many times, in lines of every length.
    for round in 0..40 {
        let lines: Vec<_> = (0..50)
            .map(|n| format!("{round}.{n} {}\n", "x".repeat(n * 17 + round)))
            .collect();
        lines.iter().for_each(|line| push(&queue, line));
        let pieces = taken(&queue, false);
        assert!(pieces.len() < lines.len(), "several go out as one");
        assert!(pieces.iter().all(|piece| piece.ends_with('\n')));
        assert_eq!(pieces.concat(), lines.concat());
        lines.iter().for_each(|line| push(&queue, line));
        assert_eq!(taken(&queue, true), lines);
    }
}

#[test]
fn what_finds_no_room_is_counted_and_told_in_its_place() {
    let queue = Queue::new();
    let line = |number: usize| format!("{number:>99}\n");
    let fits = (LOG_BYTES - LOG_RESERVE) / (100 + LENGTH);
    (0..fits + 30).for_each(|number| push(&queue, &line(number)));
    // There is room for errors still.
    queue.push(b"error\n", true, told);
    let all = taken(&queue, true);
    assert_eq!(all[..fits], (0..fits).map(line).collect::<Vec<_>>());
    assert_eq!(all[fits..], ["30 lost\n", "error\n"]);
    // In front of the next line, when there is room again for it.
    (0..fits + 7).for_each(|number| push(&queue, &line(number)));
    let mut piece = [0; LOG_LINE];
    for _ in 0..3 {
        let Task::Write { lines, .. } = queue.next(0, false, &mut piece) else {
            panic!("there are lines");
        };
        assert_eq!(lines, 40, "as many as fit into a piece");
    }
    push(&queue, "news\n");
    let rest = taken(&queue, true);
    assert_eq!(rest.len(), fits - 3 * 40 + 2);
    assert_eq!(rest[rest.len() - 2..], ["7 lost\n", "news\n"]);
}

#[test]
fn without_another_line_it_is_told_as_well() {
    let queue = Queue::new();
    let long = "x".repeat(LOG_LINE);
    (0..20).for_each(|_| push(&queue, &long));
    let all = taken(&queue, true);
    assert_eq!(all.len(), 14);
    assert_eq!(all[13], "7 lost\n");
    assert_eq!(taken(&queue, true), [""; 0], "once");
}

#[test]
fn where_nothing_is_taken_it_waits_for_the_next_line() {
    let queue = Queue::new();
    let mut piece = [0; LOG_LINE];
    push(&queue, "a\n");
    assert_eq!(
        queue.next(0, false, &mut piece),
        Task::Write { len: 2, lines: 1 }
    );
    // It was refused; nothing is tried again before there is something new.
    let at = Instant::now() + Duration::from_millis(50);
    queue.look_at(at);
    assert_eq!(queue.next(1, false, &mut piece), Task::Look);
    assert!(Instant::now() >= at);
    push(&queue, "b\n");
    let all = taken(&queue, true);
    assert_eq!(all, ["1 lost\n", "b\n"]);
}

#[test]
fn a_flush_waits_for_the_writer_and_no_longer_than_it_may() {
    let queue = Arc::new(Queue::new());
    assert!(queue.flush(PATIENCE), "there is nothing to do");
    push(&queue, "a\n");
    let mut piece = [0; LOG_LINE];
    assert!(!queue.flush(Duration::from_millis(20)), "nobody writes");
    queue.next(0, false, &mut piece);
    assert!(
        !queue.flush(Duration::from_millis(20)),
        "it is being written"
    );
    let writer = std::thread::spawn({
        let queue = queue.clone();
        move || {
            std::thread::sleep(Duration::from_millis(50));
            queue.look_at(Instant::now() + Duration::from_millis(50));
            queue.next(0, false, &mut [0; LOG_LINE])
        }
    });
    assert!(queue.flush(PATIENCE));
    assert_eq!(writer.join().unwrap(), Task::Look);
}

#[test]
fn a_line_that_is_too_long_is_cut_between_characters() {
    for (most, shown) in [
        (10, "abcä…\n"),
        (11, "abcäö…\n"),
        (12, "abcäö…\n"),
        (13, "abcäöü\n"),
    ] {
        let mut line = Line::new(most);
        let written = write!(line, "abcäö").and_then(|()| write!(line, "ü"));
        let line = line.end();
        assert!(line.as_bytes().len() <= most);
        if written.is_err() {
            assert_eq!(str::from_utf8(line.as_bytes()).unwrap(), shown, "{most}");
        }
    }
    let mut line = Line::new(LOG_LINE);
    let _ = write!(line, "{:10000}", 1);
    let _ = write!(line, "more");
    let line = line.end();
    assert_eq!(line.as_bytes().len(), LOG_LINE);
    assert!(line.as_bytes().ends_with("…\n".as_bytes()));
}

#[test]
fn a_description_that_others_made_non_blocking_is_waited_for() {
    use std::io::Read;
    use std::os::fd::AsFd;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    let (mut read, write) = std::io::pipe().unwrap();
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let bytes = vec![7; 1 << 20];
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        let mut all = Vec::new();
        read.read_to_end(&mut all).map(|_| all.len())
    });
    write_all(write.as_fd(), &bytes).unwrap();
    drop(write);
    assert_eq!(reader.join().unwrap().unwrap(), bytes.len());
    // Nobody there any more.
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    assert!(write_all(write.as_fd(), b"x").is_err());
}
