use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::id as pid;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{MutexGuard, PoisonError};

use super::*;
use crate::picture::frame::Size;
use crate::system::ALONE;

/// A folder of its own, and a key that nobody else has.
struct Place {
    folder: PathBuf,
    key: Key,
    /// One of these tests at a time: what a test has attached, the child that another one forks has attached, too.
    _alone: MutexGuard<'static, ()>,
}

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("camd-shm-{}-{next}", pid()));
        fs::create_dir(&folder).unwrap();
        let key = Key::within(&format!("key {}-{next}", pid()), &folder);
        Place {
            folder,
            key,
            _alone: alone,
        }
    }

    fn segment(&self) -> Option<i32> {
        let key = key::ftok(self.key.segment_file()).unwrap()?;
        ipc::find_segment(key).ok()
    }

    fn semaphore(&self) -> Option<SemaphoreId> {
        let key = key::ftok(self.key.semaphore_file()).unwrap()?;
        SemaphoreId::find(key).ok()
    }

    fn files(&self) -> usize {
        fs::read_dir(&self.folder).unwrap().count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What a failed test leaves.
        self.segment().map(ipc::remove);
        self.semaphore().map(SemaphoreId::remove);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const MODE: u32 = 0o600;

fn now() -> Instant {
    Instant::now()
}

fn writer(place: &Place, bytes: usize) -> Writer {
    Writer::create(&place.key, bytes, MODE).unwrap()
}

/// How many have it attached, once it is so many. A child that another test forks has it, too, until its exec or end.
fn readers(writer: &Writer, expected: usize) -> usize {
    let deadline = now() + Duration::from_secs(20);
    while writer.readers() != expected && now() < deadline {
        std::thread::yield_now();
    }
    writer.readers()
}

fn reader(place: &Place) -> Reader {
    Reader::new(place.key.clone(), 1 << 20)
}

#[test]
fn what_is_written_is_read_and_nothing_is_left() {
    let place = Place::new();
    let mut reader = reader(&place);
    assert!(matches!(reader.read(now()), Err(Error::Absent)));
    assert_eq!(place.files(), 0, "nothing is created for what is not there");
    let mut writer = writer(&place, 8000);
    assert_eq!((writer.len(), readers(&writer, 0)), (8000, 0));
    assert_eq!(place.files(), 2);
    let content = |text: &str| {
        let mut content = text.as_bytes().to_vec();
        content.resize(4096, 0);
        content
    };
    for text in ["no picture", "another"] {
        let text = content(text);
        assert!(
            writer
                .write(now(), |segment| segment.write(0, &text))
                .unwrap()
        );
        assert_eq!(reader.read(now()).unwrap(), Found::New);
        assert_eq!(reader.content(), text);
        assert_eq!(reader.read(now()).unwrap(), Found::Same);
    }
    // The reader has not created the lock, and leaves it.
    reader.leave();
    assert_eq!(place.files(), 2);
    writer.remove();
    assert_eq!(place.files(), 0);
}

#[test]
fn nobody_waits_for_the_lock() {
    let place = Place::new();
    let (mut writer, mut reader) = (writer(&place, 100), reader(&place));
    assert_eq!(reader.read(now()).unwrap(), Found::New);
    let lock = place.semaphore().unwrap();
    lock.add(-1).unwrap();
    assert!(!writer.write(now(), |_| unreachable!()).unwrap());
    assert_eq!(reader.read(now()).unwrap(), Found::Busy);
    // We are not gone, however long it takes.
    let later = now() + 100 * ABANDONED;
    assert!(!writer.write(later, |_| unreachable!()).unwrap());
    lock.add(1).unwrap();
    assert!(writer.write(now(), |_| {}).unwrap());
    assert_eq!(reader.read(now()).unwrap(), Found::Same);
    writer.remove();
    assert_eq!(place.files(), 0);
}

#[test]
fn a_lock_that_a_dead_process_has_not_given_back_is_freed() {
    let place = Place::new();
    let mut writer = writer(&place, 100);
    let lock = place.semaphore().unwrap();
    // A process that locks without SEM_UNDO and ends.
    // SAFETY: the child calls nothing but semop and _exit, which are safe after fork.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let _ = lock.subtract_for_good(1);
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) }
    }
    // SAFETY: waits for our own child.
    let waited = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    assert_eq!(waited, child);
    let start = now();
    assert!(!writer.write(start, |_| unreachable!()).unwrap());
    assert!(
        !writer
            .write(start + ABANDONED / 2, |_| unreachable!())
            .unwrap()
    );
    assert!(writer.write(start + ABANDONED, |_| {}).unwrap());
    assert_eq!(lock.value().unwrap(), 1);
    writer.remove();
}

#[test]
fn a_lock_that_was_removed_is_opened_anew() {
    let place = Place::new();
    let (mut writer, mut reader) = (writer(&place, 100), reader(&place));
    reader.read(now()).unwrap();
    for round in 0..3 {
        // As a Qt program does that has created it, when it ends.
        let first = place.semaphore().unwrap();
        if round != 1 {
            fs::remove_file(place.key.semaphore_file()).unwrap();
        }
        if round != 2 {
            first.remove().unwrap();
        }
        assert!(writer.write(now(), |_| {}).unwrap());
        let second = place.semaphore().expect("there is one again");
        assert_ne!(first, second);
        assert!(first.value().is_err(), "nobody can still use the first");
        // And they agree on it.
        second.add(-1).unwrap();
        assert_eq!(reader.read(now()).unwrap(), Found::Busy);
        assert!(!writer.write(now(), |_| unreachable!()).unwrap());
        second.add(1).unwrap();
        assert_eq!(reader.read(now()).unwrap(), Found::Same);
    }
    writer.remove();
    assert_eq!(place.files(), 0);
}

#[test]
fn a_lock_that_two_could_take_is_put_right() {
    let place = Place::new();
    let mut writer = writer(&place, 100);
    let lock = place.semaphore().unwrap();
    // A Qt program that gives back what was removed and created again meanwhile.
    lock.set(2).unwrap();
    let inside = writer.write(now(), |_| assert_eq!(lock.value().unwrap(), 0));
    assert!(inside.unwrap());
    assert_eq!(lock.value().unwrap(), 1);
    writer.remove();
}

#[test]
fn a_segment_that_others_do_not_find_is_an_error() {
    let place = Place::new();
    for what in ["file", "segment"] {
        let mut writer = writer(&place, 100);
        match what {
            "file" => fs::remove_file(place.key.segment_file()).unwrap(),
            _ => ipc::remove(place.segment().unwrap()).unwrap(),
        }
        let error = writer.write(now(), |_| unreachable!()).unwrap_err();
        assert!(error.to_string().contains("has removed it"), "{error}");
        writer.remove();
        assert_eq!(place.files(), 0);
    }
}

#[test]
fn what_is_in_use_says_by_whom() {
    let place = Place::new();
    let first = writer(&place, 100);
    let error = || {
        Writer::create(&place.key, 100, MODE)
            .unwrap_err()
            .to_string()
    };
    // As for `readers`: a child that any other test starts has it, too, for a moment.
    let deadline = now() + Duration::from_secs(20);
    let mut said = error();
    while !said.contains("1 process has it") && now() < deadline {
        std::thread::yield_now();
        said = error();
    }
    let own = format!("process {} (", pid());
    assert!(
        said.contains(&own) && said.contains("1 process has it"),
        "{said}"
    );
    assert!(said.contains(" of user "), "{said}");
    assert!(first.segment.stat().is_ok_and(|stat| !stat.removed));
    first.remove();
    assert_eq!(place.files(), 0);
}

/// Runs `body` in another process, which then is gone.
fn elsewhere(body: impl FnOnce()) {
    // SAFETY: the child only makes system calls, and allocates: this thread does not hold the allocator's lock, and glibc
    // sees to that of others.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // Should another thread have held some lock: a child that waits for ever must not have all tests wait.
        // SAFETY: it ends the process, later.
        unsafe { libc::alarm(10) };
        body();
        // SAFETY: ends the process, without any destructor.
        unsafe { libc::_exit(0) }
    }
    let mut status = 0;
    // SAFETY: waits for our own child, and writes how it ended.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    assert!(libc::WIFEXITED(status), "the child ended by {status}");
}

#[test]
fn what_the_dead_have_left_is_removed() {
    let place = Place::new();
    // A Qt program's: no mark.
    elsewhere(|| {
        let _ = key::create(place.key.segment_file(), MODE);
        if let Ok(Some(ipc)) = key::ftok(place.key.segment_file()) {
            std::mem::forget(Segment::create(ipc, 10, MODE));
        }
    });
    let left = place.segment().expect("it was left");
    let second = writer(&place, 100);
    assert_ne!(place.segment(), Some(left));
    second.remove();
    // camd's.
    elsewhere(|| std::mem::forget(Writer::create(&place.key, 100, MODE)));
    let left = place.segment().expect("it was left");
    let second = writer(&place, 100);
    assert_ne!(place.segment(), Some(left));
    second.remove();
    assert_eq!(place.files(), 0);
}

#[test]
fn what_a_dead_camd_has_left_and_a_reader_still_has_is_taken_over() {
    let place = Place::new();
    elsewhere(|| std::mem::forget(Writer::create(&place.key, 100, MODE)));
    let left = place.segment().expect("it was left");
    let reader = Segment::attach(left, false).unwrap();
    let mut second = writer(&place, 100);
    assert_eq!((place.segment(), readers(&second, 1)), (Some(left), 1));
    assert!(
        second
            .write(now(), |segment| segment.write(0, b"hello"))
            .unwrap()
    );
    assert!(reader.holds(b"hello"));
    // It is marked as ours.
    assert!(Writer::create(&place.key, 100, MODE).is_err());
    std::mem::forget(second);
    // Of another size it cannot be used.
    let mark = Mark {
        process: Process { pid: 1, started: 1 },
    };
    mark.write(&Segment::attach(left, true).unwrap());
    let third = writer(&place, 200);
    assert_ne!(place.segment(), Some(left));
    third.remove();
    assert_eq!(place.files(), 0);
}

#[test]
fn files_that_are_none_are_not_trusted() {
    let place = Place::new();
    let elsewhere = place.folder.join("elsewhere");
    fs::write(&elsewhere, "").unwrap();
    for file in [place.key.segment_file(), place.key.semaphore_file()] {
        symlink(&elsewhere, file).unwrap();
        let error = Writer::create(&place.key, 100, MODE).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
        assert!(Writer::create(&place.key, 100, MODE).is_err());
        fs::remove_dir(file).unwrap();
        // A link to nowhere is not followed to create a file there.
        symlink(place.folder.join("nowhere"), file).unwrap();
        assert!(Writer::create(&place.key, 100, MODE).is_err());
        assert!(!place.folder.join("nowhere").exists());
        fs::remove_file(file).unwrap();
        let _ = fs::remove_file(place.key.segment_file());
        assert_eq!(place.files(), 1, "only what this test has made");
    }
}

#[test]
fn a_wide_mode_is_for_all() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    // A Qt reader was first.
    let _narrow = Semaphore::open(&place.key, 0o600).unwrap();
    let wide = Writer::create(&place.key, 100, 0o666).unwrap();
    let list = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let id = place.segment().unwrap().to_string();
    let of = |list: &str, id: &str| {
        let mut rows = list
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.find(|row| row[1] == id).map(|row| row[2].to_owned())
    };
    assert_eq!(of(&list, &id).as_deref(), Some("666"));
    let list = fs::read_to_string("/proc/sysvipc/sem").unwrap();
    let id = format!("{:?}", place.semaphore().unwrap());
    let id = id.trim_matches(|c: char| !c.is_ascii_digit());
    assert_eq!(of(&list, id).as_deref(), Some("666"));
    let mode = fs::metadata(place.key.segment_file())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);
    wide.remove();
    assert_eq!(place.files(), 0);
}

#[test]
fn the_last_reader_to_leave_removes_what_a_dead_writer_left() {
    let place = Place::new();
    elsewhere(|| {
        let _ = key::create(place.key.segment_file(), MODE);
        if let Ok(Some(ipc)) = key::ftok(place.key.segment_file()) {
            let segment = Segment::create(ipc, 10, MODE);
            if let Ok(segment) = &segment {
                segment.write(0, b"last words");
            }
            std::mem::forget(segment);
        }
    });
    let mut reader = reader(&place);
    assert_eq!(reader.read(now()).unwrap(), Found::New);
    assert_eq!(reader.content(), b"last words");
    assert!(matches!(reader.read(now()), Err(Error::Absent)));
    // The lock was this reader's own.
    reader.leave();
    assert_eq!(place.files(), 0);
}

/// Two pixels, byte by byte.
#[test]
fn a_picture_is_these_bytes() {
    let place = Place::new();
    let size = Size {
        width: 2,
        height: 1,
    };
    let mut writer = writer(&place, picture::bytes(size));
    let mut expected = vec![0, 0, 0, 1];
    expected.extend(b"\x89PNG\r\n\x1a\n");
    expected.extend(b"\0\0\0\x0dIHDR\0\0\0\x02\0\0\0\x01\x08\x02\0\0\0");
    expected.extend(0x7B40_E8DDu32.to_be_bytes());
    expected.extend(b"\0\0\0\x12IDAT\x78\x01\x01\x07\0\xf8\xff\0\x01\x02\x03\xff\xfe\xfd");
    let at = expected.len();
    let draw = |segment: &Segment, has| {
        let mut picture = picture::Writer::start(segment, size, has);
        let mut marker = [9; 4];
        segment.read(0, &mut marker);
        assert_eq!(marker, [0; 4], "a null image while it is written");
        picture.row(&[1, 2, 3, 255, 254, 253]);
        picture.finish();
    };
    writer.write(now(), |segment| draw(segment, None)).unwrap();
    let mut got = vec![0; picture::bytes(size)];
    writer
        .write(now(), |segment| segment.read(0, &mut got))
        .unwrap();
    // Adler-32 (RFC 1950, 9) of 00 01 02 03 FF FE FD, and CRC-32 (ISO/IEC 15948, annex D) of the chunk.
    let data = [0u32, 1, 2, 3, 255, 254, 253];
    let (a, b) = data
        .iter()
        .fold((1, 0), |(a, b), byte| (a + byte, b + a + byte));
    expected.extend((b << 16 | a).to_be_bytes());
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
            })
        })
    };
    let ihdr = crc(&expected[16..33]).to_be_bytes();
    expected[33..37].copy_from_slice(&ihdr);
    let idat = crc(&expected[41..at + 4]).to_be_bytes();
    expected.extend(idat);
    expected.extend(b"\0\0\0\0IEND\xae\x42\x60\x82");
    assert_eq!(got, expected);
    assert_eq!(
        picture::length(got.len() + 500, |at, bytes| {
            let mut longer = got.clone();
            longer.resize(got.len() + 500, 7);
            bytes.copy_from_slice(&longer[at..at + bytes.len()]);
        }),
        got.len()
    );
    writer.remove();
}

#[test]
fn the_length_of_what_is_no_picture_is_within_it() {
    let of = |content: &[u8]| {
        picture::length(content.len(), |at, bytes| {
            bytes.copy_from_slice(&content[at..at + bytes.len()]);
        })
    };
    let mut png = picture::PRESENT.to_vec();
    png.extend(picture::SIGNATURE);
    let head = png.len();
    png.extend(b"\0\0\0\x02ABCDxycrc!\0\0\0\0IENDcrc!");
    assert_eq!(of(&png), png.len());
    for cut in 0..png.len() {
        assert_eq!(of(&png[..cut]), cut);
    }
    // A length beyond the end, or beyond all bounds.
    png[head + 3] = 200;
    assert_eq!(of(&png), png.len());
    png[head] = 0xFF;
    assert_eq!(of(&png), png.len());
    assert_eq!(of(&[0; 100]), 4);
    assert_eq!(of(&[7; 10_000]), 4096);
}
