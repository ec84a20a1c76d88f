use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::*;

fn picture(sequence: u64, size: usize) -> (Description, Vec<u8>) {
    // Any two pictures differ in each of their bytes' neighbourhoods, and in their length.
    let bytes = (0..size)
        .map(|i| (sequence as usize * 31 + i * 7) as u8)
        .collect();
    let description = Description {
        fourcc: u32::from_le_bytes(*b"JPEG"),
        sequence,
        wall: sequence << 32 | sequence,
        monotonic: !(sequence << 32 | sequence),
        width: sequence as u32,
        height: !sequence as u32,
        size: size as u32,
        flags: flags::LIVE,
        planes: [(0, sequence as u32), (1, !sequence as u32), (2, 3)],
    };
    (description, bytes)
}

fn write(ring: &mut Ring, (description, bytes): &(Description, Vec<u8>)) {
    let mut slot = ring.begin();
    slot.data()[..bytes.len()].copy_from_slice(bytes);
    slot.finish(description);
}

fn view(ring: &Ring) -> View {
    View::new(ring.share().unwrap()).unwrap()
}

/// What a reader without this code sees.
fn content(ring: &Ring, place: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let file = File::from(ring.share().unwrap());
    file.read_exact_at(&mut bytes, place).unwrap();
    bytes
}

#[test]
#[cfg(target_endian = "little")]
fn the_layout_byte_for_byte() {
    let mut ring = Ring::new(3, 5000).unwrap();
    assert_eq!(ring.bytes(), 4096 + 3 * 8192);
    let mut header = Vec::new();
    header.extend(b"camdring");
    // Version, slots, first slot, distance, picture, room.
    header.extend([
        1, 0, 0, 0, 3, 0, 0, 0, 0, 16, 0, 0, 0, 32, 0, 0, 128, 0, 0, 0,
    ]);
    header.extend([0x88, 0x13, 0, 0]);
    header.resize(64, 0);
    let numbers = |newest: [u8; 4], count| [&newest[..], &[count, 0, 0, 0]].concat();
    let whole = |numbers: Vec<u8>| [&header[..], &numbers[..]].concat();
    assert_eq!(content(&ring, 0, 72), whole(numbers([0xFF; 4], 0)));

    for sequence in [5, 6] {
        let description = Description {
            fourcc: u32::from_le_bytes(*b"YU12"),
            sequence: 0x1122_3344_5566_7700 + sequence,
            wall: 1_735_689_600_250_000_000,
            monotonic: 0x0102_0304_0506_0708,
            width: 1280,
            height: 720,
            size: 3,
            flags: flags::LIVE | flags::MIRROR_Y,
            planes: [(0, 1280), (0x000E_1000, 640), (0x0011_9400, 640)],
        };
        write(&mut ring, &(description, vec![7, 8, 9]));
    }
    assert_eq!(content(&ring, 0, 72), whole(numbers([1, 0, 0, 0], 2)));
    #[rustfmt::skip]
    let slot = [
        2, 0, 0, 0,
        b'Y', b'U', b'1', b'2',
        0x06, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
        0x80, 0xB2, 0x3D, 0xCF, 0x7E, 0x68, 0x16, 0x18,
        8, 7, 6, 5, 4, 3, 2, 1,
        0, 5, 0, 0,
        0xD0, 2, 0, 0,
        3, 0, 0, 0,
        9, 0, 0, 0,
        0, 0, 0, 0,           0, 5, 0, 0,
        0x00, 0x10, 0x0E, 0,  0x80, 2, 0, 0,
        0x00, 0x94, 0x11, 0,  0x80, 2, 0, 0,
    ];
    let mut expected = slot.to_vec();
    expected.resize(128, 0);
    expected.extend([7, 8, 9, 0]);
    assert_eq!(content(&ring, 4096 + 8192, 132), expected);
    // A slot that is being written, and one that then has no picture.
    let writing = ring.begin();
    assert_eq!(content(writing.ring, 4096 + 2 * 8192, 4), [1, 0, 0, 0]);
    drop(writing);
    assert_eq!(content(&ring, 4096 + 2 * 8192, 8), [2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(content(&ring, 64, 8), numbers([1, 0, 0, 0], 2));
    ring.forget();
    assert_eq!(content(&ring, 64, 8), numbers([0xFF; 4], 2));
}

#[test]
fn the_newest_picture_once() {
    let mut ring = Ring::new(2, 100).unwrap();
    let mut reader = view(&ring);
    let mut bytes = Vec::new();
    assert_eq!(reader.next(&mut bytes), None);
    for sequence in 1..10 {
        let pictures = [picture(2 * sequence, 90), picture(2 * sequence + 1, 100)];
        pictures
            .iter()
            .for_each(|picture| write(&mut ring, picture));
        assert_eq!(reader.next(&mut bytes), Some(pictures[1].0));
        assert_eq!(bytes, pictures[1].1);
        assert_eq!(reader.next(&mut bytes), None, "it was read already");
    }
    // Who comes late gets it, too, unless it is old.
    assert_eq!(view(&ring).next(&mut bytes), Some(picture(19, 100).0));
    ring.forget();
    assert_eq!(view(&ring).next(&mut bytes), None);
    write(&mut ring, &picture(20, 1));
    assert_eq!(reader.next(&mut bytes), Some(picture(20, 1).0));
}

#[test]
#[should_panic(expected = "a picture of 101 bytes in a slot of 100")]
fn no_more_than_there_is_room_for() {
    let mut ring = Ring::new(2, 100).unwrap();
    ring.begin().finish(&picture(1, 101).0);
}

#[test]
fn rings_that_cannot_be_are_refused() {
    let huge = Ring::new(4, usize::MAX / 2).map(|_| ()).unwrap_err();
    assert_eq!(huge.kind(), io::ErrorKind::OutOfMemory, "{huge}");

    let ring = Ring::new(2, 5000).unwrap();
    let good: [u8; HEADER] = content(&ring, 0, HEADER).try_into().unwrap();
    let bytes = ring.bytes() as u64;
    assert!(Layout::read(&good, bytes).is_ok());
    assert!(
        Layout::read(&good, bytes - 1).is_err(),
        "the last slot is cut off"
    );
    for place in 0..8 + 4 {
        let mut header = good;
        header[place] ^= 1;
        assert!(Layout::read(&header, bytes).is_err(), "byte {place}");
    }
    // Each number at its extremes, alone and with any other.
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..100_000 {
        let mut header = good;
        for _ in 0..random.u8(1..4) {
            let place = 12 + 4 * random.usize(..5);
            let number = match random.u8(..4) {
                0 => 0,
                1 => u32::MAX - random.u32(..9),
                2 => random.u32(..20_000),
                _ => random.u32(..),
            };
            header[place..][..4].copy_from_slice(&number.to_ne_bytes());
        }
        let Ok(layout) = Layout::read(&header, bytes) else {
            continue;
        };
        // All that a reader accesses is within.
        let last = u64::from(layout.first) + u64::from(layout.slots - 1) * u64::from(layout.stride);
        assert!(last + u64::from(layout.data) + u64::from(layout.capacity) <= bytes);
        assert!(layout.data as usize >= 4 + SLOT_HEADER && layout.first as usize >= COUNT + 4);
    }

    // A file of somebody who could cut it off.
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create(c"camd-test", flags).unwrap();
    ftruncate(&file, bytes as _).unwrap();
    let refused = View::new(file.try_clone().unwrap()).err().unwrap();
    assert!(refused.contains("not sealed"), "{refused}");
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    let refused = View::new(file).err().unwrap();
    assert!(refused.contains("does not begin"), "{refused}");
}

thread_local! {
    static AFTER_COPY: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

/// A reader has copied something, and may have been stopped there.
pub(super) fn after_copy() {
    let hook = AFTER_COPY.with(RefCell::take);
    if let Some(mut hook) = hook {
        hook();
        AFTER_COPY.with(|place| *place.borrow_mut() = Some(hook));
    }
}

/// However many pictures come between any two steps of a reader, it gets one of them as it was, and at last the newest.
#[test]
fn a_reader_that_is_overtaken_begins_anew() {
    for slots in 1..=4 {
        for step in 0..2 {
            for writes in 0..=2 * slots as u64 + 1 {
                let ring = Rc::new(RefCell::new(Ring::new(slots, 1000).unwrap()));
                write(&mut ring.borrow_mut(), &picture(1, 900));
                let mut reader = view(&ring.borrow());
                let (mut copies, writer) = (0, ring.clone());
                let hook = move || {
                    // Of a slot's header, and of its picture.
                    if copies == step {
                        for sequence in 2..2 + writes {
                            let size = 901 + sequence as usize;
                            write(&mut writer.borrow_mut(), &picture(sequence, size));
                        }
                    }
                    copies += 1;
                };
                AFTER_COPY.with(|place| *place.borrow_mut() = Some(Box::new(hook)));
                let mut bytes = Vec::new();
                let got = reader.next(&mut bytes);
                AFTER_COPY.with(RefCell::take);
                let case = format!("{slots} slots, {writes} pictures after copy {step}");
                let got = got.unwrap_or_else(|| panic!("nothing: {case}"));
                let expected = picture(got.sequence, got.size as usize);
                assert!((got, bytes) == expected, "torn: {case}");
                // The one that was overwritten is not it.
                let overtaken = writes >= slots as u64;
                assert!(!overtaken || got.sequence == 1 + writes, "{case}");
            }
        }
    }
}

/// One writer at full speed, and readers that copy what they see, each with a mapping of its own. No picture is torn, none
/// comes twice or before an older one, and all get some.
#[test]
fn readers_never_see_a_torn_picture() {
    const READERS: usize = 3;
    const KINDS: u64 = 16;
    const LARGEST: usize = 600_000;
    let mut random = fastrand::Rng::with_seed(11);
    // Made before, so that the writer does nothing but write.
    let pictures = [(); KINDS as usize].map(|()| {
        let size = random.usize(LARGEST / 2..=LARGEST);
        picture(random.u64(..1000), size).1
    });
    let of = |sequence: u64| {
        let bytes = &pictures[(sequence % KINDS) as usize];
        let (mut description, _) = picture(sequence, 0);
        description.size = bytes.len() as u32;
        (description, bytes)
    };
    for slots in [1, 2, 4] {
        let mut ring = Ring::new(slots, LARGEST).unwrap();
        let files: [OwnedFd; READERS] = std::array::from_fn(|_| ring.share().unwrap());
        let done = AtomicBool::new(false);
        let read = [(); READERS].map(|()| AtomicU32::new(0));
        std::thread::scope(|scope| {
            for (file, read) in files.into_iter().zip(&read) {
                let done = &done;
                scope.spawn(move || {
                    let mut view = View::new(file).unwrap();
                    let (mut bytes, mut last) = (Vec::new(), 0);
                    while !done.load(Ordering::Relaxed) {
                        let Some(got) = view.next(&mut bytes) else {
                            std::thread::yield_now();
                            continue;
                        };
                        assert!(got.sequence > last, "{} after {last}", got.sequence);
                        last = got.sequence;
                        let (description, expected) = of(last);
                        assert_eq!(got, description, "a header of two pictures");
                        assert!(bytes == *expected, "picture {last} is torn");
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // For a while, and until everybody has had a good number of them.
            let enough = Instant::now() + Duration::from_millis(700);
            let late = Instant::now() + Duration::from_secs(60);
            let mut sequence = 0;
            let few = || read.iter().any(|read| read.load(Ordering::Relaxed) < 20);
            while Instant::now() < enough || few() {
                assert!(Instant::now() < late, "some reader gets nothing: {read:?}");
                for _ in 0..50 {
                    // Somebody may begin to read the newest one meanwhile.
                    (0..random.u32(..40_000)).for_each(|_| std::hint::spin_loop());
                    sequence += 1;
                    let (description, bytes) = of(sequence);
                    let mut slot = ring.begin();
                    slot.data()[..bytes.len()].copy_from_slice(bytes);
                    slot.finish(&description);
                }
                // Else those who read the only slot would be done with it by chance only.
                std::thread::sleep(Duration::from_millis(2));
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
