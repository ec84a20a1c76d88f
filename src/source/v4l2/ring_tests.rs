//! The ring over a scripted driver that keeps the books a kernel would: a buffer that is queued twice, or read while it
//! is the driver's, fails the test.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;

use nix::libc;
use v4l::v4l_sys::{V4L2_BUF_FLAG_KEYFRAME, V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC};

use super::*;
use crate::picture::h264::SPS_64X48;
use crate::system::v4l2::device::{Extent, Granted};

const SOI_TO_SOS: &[u8] = &[
    0xFF, 0xD8, // SOI
    0xFF, 0xC4, 0x00, 0x03, 0x00, // DHT: there is one
    0xFF, 0xC0, 0x00, 0x0B, 0x08, 0x00, 0x30, 0x00, 0x40, 0x01, 0x01, 0x11,
    0x00, // SOF0: 64x48
    0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3F, 0x00, // SOS
];

fn jpeg_of(mark: u8) -> Vec<u8> {
    [SOI_TO_SOS, &[mark], &[0xFF, 0xD9]].concat()
}

/// A whole JPEG of 2048x2048 grey pixels that relies on the standard Huffman tables: 92 KB, so that most are shown
/// without another look.
fn large_jpeg(mark: u8) -> Vec<u8> {
    let mut jpeg = vec![
        0xFF, 0xD8, 0xFF, 0xC0, 0x00, 0x0B, 0x08, 0x08, 0x00, 0x08, 0x00, 0x01, 0x01, 0x11, 0x00,
        0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3F, 0x00,
    ];
    let (mut random, mut blocks) = (fastrand::Rng::with_seed(mark.into()), 256 * 256);
    while blocks > 0 {
        if blocks >= 4 && random.u8(..16) == 0 {
            // Four blocks of 6 bits each: no difference (00), no more coefficients (1010).
            jpeg.extend([0x28, 0xA2, 0x8A]);
            blocks -= 4;
        } else {
            // Two of 12 bits: a difference of five (110xxxxx), no more coefficients.
            let (first, second) = (random.u8(..32), random.u8(..32));
            jpeg.extend([0xC0 | first, 0xAC | second >> 4, second << 4 | 10]);
            blocks -= 2;
        }
    }
    jpeg.extend([0xFF, 0xD9]);
    jpeg
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Driver,
    Ring,
}

struct Fake {
    place: Vec<At>,
    memory: Vec<[Vec<u8>; PLANES]>,
    /// Filled buffers, or an errno.
    ready: VecDeque<Result<Filled, i32>>,
    queue_error: Option<i32>,
    keeps: bool,
    next: u32,
    reads: Cell<u32>,
    /// How often the ring has asked for a buffer.
    asked: u32,
}

impl Fake {
    fn new(count: usize) -> Fake {
        Fake {
            place: vec![At::Driver; count],
            memory: vec![[vec![0; 256], vec![0; 256], vec![0; 256]]; count],
            ready: VecDeque::new(),
            queue_error: None,
            keeps: true,
            next: 0,
            reads: Cell::new(0),
            asked: 0,
        }
    }

    /// The camera fills the next free buffer; tells which.
    fn fill(&mut self, data: &[u8]) -> &mut Filled {
        let index = (0..self.place.len())
            .map(|i| (self.next as usize + i) % self.place.len())
            .find(|&i| {
                self.place[i] == At::Driver
                    && !self
                        .ready
                        .iter()
                        .any(|r| matches!(r, Ok(f) if f.index as usize == i))
            })
            .expect("the script fills more buffers than are queued");
        self.memory[index][0][..data.len()].copy_from_slice(data);
        let sequence = self.next;
        self.next += 1;
        self.ready.push_back(Ok(Filled {
            index: index as u32,
            sequence,
            planes: [
                Extent {
                    offset: 0,
                    bytes: data.len(),
                },
                Extent::default(),
                Extent::default(),
            ],
            ..Default::default()
        }));
        match self.ready.back_mut() {
            Some(Ok(filled)) => filled,
            _ => unreachable!(),
        }
    }

    fn out(&self) -> usize {
        self.place.iter().filter(|&&at| at == At::Ring).count()
    }
}

impl Driver for Fake {
    fn path(&self) -> &Path {
        Path::new("/dev/fake")
    }

    fn count(&self) -> u32 {
        self.place.len() as u32
    }

    fn dequeue(&mut self) -> Result<Option<Filled>, Failure> {
        self.asked += 1;
        match self.ready.pop_front() {
            None => Ok(None),
            Some(Ok(filled)) => {
                if let Some(place) = self.place.get_mut(filled.index as usize) {
                    *place = At::Ring;
                }
                Ok(Some(filled))
            }
            Some(Err(errno)) => Err(Failure {
                call: "VIDIOC_DQBUF",
                error: io::Error::from_raw_os_error(errno),
            }),
        }
    }

    fn queue(&mut self, index: u32) -> Result<(), Failure> {
        if let Some(errno) = self.queue_error {
            return Err(Failure {
                call: "VIDIOC_QBUF",
                error: io::Error::from_raw_os_error(errno),
            });
        }
        let place = &mut self.place[index as usize];
        assert_eq!(*place, At::Ring, "buffer {index} queued twice");
        *place = At::Driver;
        Ok(())
    }

    fn keeps(&self) -> bool {
        self.keeps
    }

    fn plane(&self, index: u32, plane: usize) -> &[u8] {
        assert_eq!(
            self.place[index as usize],
            At::Ring,
            "buffer {index} read while the driver has it"
        );
        self.reads.set(self.reads.get() + 1);
        &self.memory[index as usize][plane]
    }
}

struct Bench {
    ring: Ring<Fake>,
    copy: FrameBuf,
    start: Instant,
}

fn bench_of(driver: Fake, fourcc: &[u8; 4], fps: u16) -> Bench {
    bench_with(driver, &granted(fourcc), fps)
}

fn granted(fourcc: &[u8; 4]) -> Granted {
    Granted {
        fourcc: u32::from_le_bytes(*fourcc),
        width: 16,
        height: 16,
        planes: 1,
        ..Default::default()
    }
}

fn bench_with(driver: Fake, granted: &Granted, fps: u16) -> Bench {
    // Room on both sides of it: `Instant` may be close to the system's start.
    let start = Instant::now() + Duration::from_secs(100);
    let layout = Layout::new(granted).unwrap();
    Bench {
        ring: Ring::new(driver, layout, epoch(start), fps, 600, start).unwrap(),
        copy: FrameBuf::new(600),
        start,
    }
}

fn epoch(start: Instant) -> Epoch {
    Epoch {
        instant: start,
        monotonic: Duration::from_secs(1000),
    }
}

fn bench(count: usize) -> Bench {
    bench_of(Fake::new(count), b"MJPG", 240)
}

impl Bench {
    fn camera(&mut self) -> &mut Fake {
        &mut self.ring.driver
    }

    fn capture_at(&mut self, ms: u64) -> Result<Captured, Fault> {
        self.ring
            .capture(self.start + Duration::from_millis(ms), &mut self.copy)
    }

    fn newest(&self) -> Option<Vec<u8>> {
        match self.ring.newest(&self.copy)?.picture {
            Picture::Jpeg(bytes) => Some(bytes.to_vec()),
            Picture::Raw(_) => panic!("a raw picture from an MJPEG camera"),
        }
    }
}

fn got(fresh: bool, dropped: u32, bad: u32) -> Captured {
    Captured {
        fresh,
        dropped,
        bad,
    }
}

#[test]
fn the_newest_is_kept_and_all_others_go_back_at_once() {
    let mut b = bench(4);
    assert_eq!(b.capture_at(1), Ok(got(false, 0, 0)));
    assert_eq!(b.newest(), None);
    for mark in 1..=3 {
        b.camera().fill(&jpeg_of(mark));
    }
    // Undated, they all count as taken now: only one is wanted at 240 fps, and the newest it is.
    assert_eq!(b.capture_at(10), Ok(got(true, 0, 0)));
    assert_eq!(b.newest(), Some(jpeg_of(3)));
    assert_eq!(b.camera().out(), 1);
    b.camera().fill(&jpeg_of(4));
    assert_eq!(b.capture_at(20), Ok(got(true, 0, 0)));
    assert_eq!(b.newest(), Some(jpeg_of(4)));
    assert_eq!(b.camera().out(), 1);
    // Nothing new: the same one, still to be had.
    assert_eq!(b.capture_at(30), Ok(got(false, 0, 0)));
    b.ring.release();
    assert_eq!(b.newest(), Some(jpeg_of(4)));
}

/// Dates a buffer at this many ms after the bench's start.
fn date(filled: &mut Filled, ms: u64) {
    filled.flags |= V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    filled.timestamp = Duration::from_secs(1000) + Duration::from_millis(ms);
}

#[test]
fn a_picture_replaced_before_anybody_saw_it_was_dropped() {
    let mut b = bench(4);
    for mark in 1..=3 {
        date(b.camera().fill(&jpeg_of(mark)), 10 * u64::from(mark));
    }
    assert_eq!(b.capture_at(31), Ok(got(true, 2, 0)));
    assert_eq!(b.newest(), Some(jpeg_of(3)));
    assert_eq!(b.camera().out(), 1);
}

/// Pictures that come 20 ms after each other, taken in 2 ms later.
#[test]
fn the_driver_is_not_asked_for_more_than_there_can_be() {
    let mut b = bench(4);
    for n in 1..=100 {
        date(b.camera().fill(&jpeg_of(n as u8)), 20 * n);
        assert_eq!(b.capture_at(20 * n + 2), Ok(got(true, 0, 0)));
    }
    // Once each, twice for the first two, of which there is no interval yet, and for each 16th to be sure.
    let asked = b.camera().asked - 1;
    assert!((100..=110).contains(&asked), "{asked}");
}

#[test]
fn what_comes_late_is_taken_in_whole() {
    let mut b = bench(4);
    date(b.camera().fill(&jpeg_of(1)), 20);
    assert_eq!(b.capture_at(22), Ok(got(true, 0, 0)));
    // The loop was late by more than a picture.
    for n in 2..=4 {
        date(b.camera().fill(&jpeg_of(n)), 20 * u64::from(n));
    }
    assert_eq!(b.capture_at(82), Ok(got(true, 2, 0)));
    assert_eq!(b.newest(), Some(jpeg_of(4)));
}

/// Stamps that are always of just now, on pictures that lie in the queue: what is behind is caught up with.
#[test]
fn a_driver_that_dates_old_pictures_anew_is_found_out() {
    let mut b = bench(8);
    let (mut behind, mut most) = (0, 0);
    for n in 1..=20u8 {
        let at = 20 * u64::from(n);
        let pictures = if n == 3 { 4 } else { 1 };
        for _ in 0..pictures {
            b.camera().fill(&jpeg_of(100 + n));
        }
        for ready in &mut b.camera().ready {
            date(ready.as_mut().unwrap(), at);
        }
        b.capture_at(at + 1).unwrap();
        behind = b.camera().ready.len();
        most = most.max(behind);
    }
    assert_eq!(most, 3, "the stamps do deceive");
    assert_eq!((behind, b.newest()), (0, Some(jpeg_of(120))));
}

#[test]
fn gaps_in_the_drivers_numbers_count_and_nonsense_does_not() {
    let mut b = bench(4);
    for (i, (sequence, dropped)) in [
        (7, 0),
        (8, 0),
        (11, 2),
        (11, 0),
        (3, 0),
        (4, 0),
        (u32::MAX, 0),
        (1, 1),
    ]
    .into_iter()
    .enumerate()
    {
        b.camera().fill(&jpeg_of(1)).sequence = sequence;
        assert_eq!(
            b.capture_at(10 * (i as u64 + 1)),
            Ok(got(true, dropped, 0)),
            "{sequence}"
        );
    }
}

#[test]
fn bad_pictures_are_counted_and_go_back_and_the_good_one_stays() {
    let mut b = bench(4);
    b.camera().fill(&jpeg_of(9));
    assert_eq!(b.capture_at(10), Ok(got(true, 0, 0)));
    let whole = jpeg_of(1);
    b.camera().fill(&whole).flags |= V4L2_BUF_FLAG_ERROR;
    b.camera().fill(&whole).planes[0].bytes = 0;
    b.camera().fill(&whole[..whole.len() - 2]);
    assert_eq!(b.capture_at(20), Ok(got(false, 0, 3)));
    // More than its memory holds; no JPEG at all.
    b.camera().fill(&whole).planes[0].bytes = 100_000;
    b.camera().fill(&[0; 100]);
    assert_eq!(b.capture_at(30), Ok(got(false, 0, 2)));
    assert_eq!(b.newest(), Some(jpeg_of(9)));
    assert_eq!(b.camera().out(), 1);
}

#[test]
fn a_bad_picture_does_not_use_up_the_turn_of_a_good_one() {
    let mut b = bench_of(Fake::new(4), b"MJPG", 10);
    b.camera().fill(&jpeg_of(1)).flags |= V4L2_BUF_FLAG_ERROR;
    b.camera().fill(&jpeg_of(2));
    assert_eq!(b.capture_at(10), Ok(got(true, 0, 1)));
}

#[test]
fn padding_is_cut_and_the_size_is_the_pictures_own() {
    let mut b = bench(4);
    let padded = [jpeg_of(5), vec![0; 40]].concat();
    b.camera().fill(&padded);
    assert_eq!(b.capture_at(10), Ok(got(true, 0, 0)));
    assert_eq!(b.newest(), Some(jpeg_of(5)));
    let meta = b.ring.newest(&b.copy).unwrap().meta;
    assert_eq!((meta.width, meta.height, meta.live), (64, 48, true));
}

#[test]
fn a_picture_without_huffman_tables_is_copied_with_them_and_its_buffer_goes_back() {
    let mut b = bench(4);
    let (whole, bare) = (jpeg_of(5), crate::source::newest::bare_jpeg());
    b.camera().fill(&bare);
    assert_eq!(b.capture_at(10), Ok(got(true, 0, 0)));
    assert_eq!(b.camera().out(), 0);
    let sent = b.newest().unwrap();
    assert_eq!(sent.len(), bare.len() + 420);
    assert_eq!(jpeg::inspect(&sent).unwrap().tables, None);
    // And back to an ordinary one.
    b.camera().fill(&whole);
    assert_eq!(b.capture_at(20), Ok(got(true, 0, 0)));
    assert_eq!(b.newest(), Some(whole));
    assert_eq!(b.camera().out(), 1);
}

#[test]
fn what_lies_around_a_picture_stays_in_the_buffer() {
    let mut b = bench(4);
    let soi = [0xFF, 0xD8];
    let tail = &jpeg_of(77)[20..];
    for (n, (before, behind)) in [
        (&soi[..], &[][..]),
        (&[0, 0], &[0xFF, 0xD9]),
        (&jpeg_of(9)[..20], &[0; 50]),
        (&soi, tail),
    ]
    .into_iter()
    .enumerate()
    {
        let jpeg = jpeg_of(n as u8);
        b.camera().fill(&[before, &jpeg, behind].concat());
        assert_eq!(b.capture_at(20 * n as u64), Ok(got(true, 0, 0)));
        assert_eq!(b.newest(), Some(jpeg));
    }
    // A limit is one for the picture.
    b.ring.frame_bytes = jpeg_of(1).len();
    b.camera()
        .fill(&[&soi, &jpeg_of(8)[..], &[0; 150]].concat());
    assert_eq!(b.capture_at(100), Ok(got(true, 0, 0)));
}

#[test]
fn of_two_fields_one_is_shown_and_the_other_is_neither_lost_nor_bad() {
    let mut b = bench(4);
    let field = |mark: u8, polarity: u8| {
        let avi1 = [&[0xFF, 0xE0, 0, 16][..], b"AVI1", &[polarity], &[0; 9]].concat();
        let jpeg = jpeg_of(mark);
        [&jpeg[..2], &avi1, &jpeg[2..]].concat()
    };
    for n in 0..10 {
        let (first, second) = (field(n, 1), field(100 + n, 2));
        let ms = 40 * u64::from(n);
        b.camera().fill(&[&first[..], &second].concat());
        assert_eq!(b.capture_at(ms), Ok(got(true, 0, 0)));
        assert_eq!(b.newest(), Some(first.clone()));
        // In buffers of their own.
        b.camera().fill(&second);
        assert_eq!(b.capture_at(ms + 20), Ok(got(false, 0, 0)));
        assert_eq!(b.newest(), Some(first));
    }
}

/// A driver whose buffers keep what they hold: what comes is written over it, and the end is where it was.
#[test]
fn what_a_buffer_held_before_does_not_make_a_picture_of_a_part() {
    // Whether the old picture was too early, flagged, or there before the start.
    for what in ["surplus", "flagged", "before the start"] {
        let old = large_jpeg(3);
        let mut driver = Fake::new(2);
        driver.memory.fill([vec![0; 100_000], vec![], vec![]]);
        if what == "before the start" {
            driver.fill(&old);
        }
        let mut b = bench_of(driver, b"MJPG", 10);
        (b.ring.frame_bytes, b.copy) = (100_000, FrameBuf::new(100_000));
        let good = |b: &mut Bench, n: u64| {
            date(b.camera().fill(&large_jpeg(100 + n as u8)), 100 * n);
            assert_eq!(b.capture_at(100 * n), Ok(got(true, 0, 0)), "{what}, {n}");
            b.newest()
        };
        // A stream that is known.
        let mut last = None;
        for n in 1..=20 {
            last = good(&mut b, n);
        }
        if what != "before the start" {
            let early = b.camera().fill(&old);
            date(early, 2020);
            if what == "flagged" {
                early.flags |= V4L2_BUF_FLAG_ERROR;
            }
            let bad = u32::from(what == "flagged");
            assert_eq!(b.capture_at(2020), Ok(got(false, 0, bad)), "{what}");
        }
        let half = old.len() / 2;
        let mixed = [&large_jpeg(4)[..half], &old[half..]].concat();
        date(b.camera().fill(&mixed), 2100);
        assert_eq!(b.capture_at(2100), Ok(got(false, 0, 1)), "{what}");
        assert_eq!(b.newest(), last, "{what}");
        good(&mut b, 22);
    }
}

#[test]
fn of_fields_in_buffers_of_their_own_one_is_shown() {
    let (top, bottom) = (
        v4l::v4l_sys::v4l2_field_V4L2_FIELD_TOP,
        v4l::v4l_sys::v4l2_field_V4L2_FIELD_BOTTOM,
    );
    for code in [b"MJPG", b"GREY"] {
        let mut b = bench_with(
            Fake::new(4),
            &Granted {
                field: v4l::v4l_sys::v4l2_field_V4L2_FIELD_ALTERNATE,
                ..granted(code)
            },
            240,
        );
        let fill = |b: &mut Bench, n: u8, field| {
            let bytes = match code {
                b"MJPG" => jpeg_of(n),
                _ => vec![n; 256],
            };
            b.camera().fill(&bytes).field = field;
        };
        for n in 0..10 {
            let ms = 40 * u64::from(n);
            fill(&mut b, n, bottom);
            assert_eq!(b.capture_at(ms), Ok(got(true, 0, 0)));
            // The other one is neither lost nor bad.
            fill(&mut b, n, top);
            assert_eq!(b.capture_at(ms + 20), Ok(got(false, 0, 0)));
        }
        // From now on there are others only.
        let shown = (0..20).filter(|n| {
            fill(&mut b, *n, top);
            b.capture_at(1000 + 40 * u64::from(*n)).unwrap().fresh
        });
        assert_eq!(shown.count(), 14);
    }
}

#[test]
fn of_fields_behind_each_other_the_first_is_shown() {
    for field in [
        v4l::v4l_sys::v4l2_field_V4L2_FIELD_SEQ_TB,
        v4l::v4l_sys::v4l2_field_V4L2_FIELD_SEQ_BT,
    ] {
        let granted = Granted {
            field,
            height: 32,
            ..granted(b"GREY")
        };
        let mut driver = Fake::new(4);
        driver.memory.fill(Default::default());
        driver.memory[0][0] = vec![0; 512];
        let mut b = bench_with(driver, &granted, 240);
        b.camera().fill(&[[1; 256], [2; 256]].concat());
        assert_eq!(b.capture_at(10), Ok(got(true, 0, 0)));
        let frame = b.ring.newest(&b.copy).unwrap();
        assert_eq!((frame.meta.width, frame.meta.height), (16, 16));
        let Picture::Raw(raw) = frame.picture else {
            panic!("a JPEG of a raw camera");
        };
        assert_eq!(raw.planes[0].data, [1; 256]);
    }
}

#[test]
fn larger_than_frame_bytes_is_bad_with_and_without_tables() {
    let mut b = bench(4);
    let whole = jpeg_of(5);
    let bare = [&whole[..2], &whole[7..]].concat();
    b.ring.frame_bytes = whole.len();
    b.copy = FrameBuf::new(whole.len());
    b.camera().fill(&whole);
    assert_eq!(b.capture_at(10), Ok(got(true, 0, 0)));
    b.camera().fill(&bare);
    assert_eq!(b.capture_at(20), Ok(got(false, 0, 1)));
    b.ring.frame_bytes -= 1;
    b.camera().fill(&whole);
    assert_eq!(b.capture_at(30), Ok(got(false, 0, 1)));
    let Err(Fault(why)) = b.capture_at(6000) else {
        panic!("no fault");
    };
    assert!(why.contains("limits.frame_bytes"), "{why}");
}

#[test]
fn more_pictures_than_fps_go_back_unread_and_count_as_nothing() {
    let mut b = bench_of(Fake::new(4), b"MJPG", 15);
    let mut fresh = Vec::new();
    for i in 0..90_u64 {
        let ms = 1000 * i / 30;
        date(b.camera().fill(&jpeg_of(i as u8)), ms);
        let captured = b.capture_at(ms).unwrap();
        assert_eq!((captured.dropped, captured.bad), (0, 0));
        if captured.fresh {
            fresh.push(i);
        }
        assert_eq!(b.camera().out(), 1);
    }
    assert_eq!(fresh, (0..90).step_by(2).collect::<Vec<_>>());
    // One look at whether there are bytes, and the walk of those kept.
    assert_eq!(b.camera().reads.get(), 90);
}

#[test]
fn a_ring_of_two_keeps_its_picture_only_until_release() {
    let mut b = bench(2);
    b.camera().fill(&jpeg_of(1));
    assert_eq!(b.capture_at(10), Ok(got(true, 0, 0)));
    assert_eq!(b.newest(), Some(jpeg_of(1)));
    b.ring.release();
    assert_eq!(b.newest(), None);
    assert_eq!(b.camera().out(), 0);
    b.ring.release();
    b.camera().fill(&jpeg_of(2));
    b.camera().fill(&jpeg_of(3));
    assert!(b.capture_at(20).unwrap().fresh);
    assert_eq!(b.camera().out(), 1);
}

#[test]
fn a_ring_whose_writer_does_not_wait_keeps_nothing_and_survives_being_overwritten() {
    let mut b = bench(4);
    b.camera().keeps = false;
    b.camera().fill(&jpeg_of(1));
    assert!(b.capture_at(10).unwrap().fresh);
    b.ring.release();
    assert_eq!((b.newest(), b.camera().out()), (None, 0));

    // Not released yet, when the writer comes round to it.
    let mine = b.camera().fill(&jpeg_of(2)).index;
    assert!(b.capture_at(20).unwrap().fresh);
    let next = b.camera().fill(&jpeg_of(3));
    let index = std::mem::replace(&mut next.index, mine);
    let [from, to] = [index, mine].map(|i| i as usize);
    b.camera().memory[to] = b.camera().memory[from].clone();
    assert_eq!(b.capture_at(30), Ok(got(true, 0, 0)));
    assert_eq!((b.newest(), b.camera().out()), (Some(jpeg_of(3)), 1));
}

#[test]
fn a_refused_give_back_in_release_is_the_next_captures_fault() {
    let mut b = bench(2);
    b.camera().fill(&jpeg_of(1));
    assert!(b.capture_at(10).unwrap().fresh);
    b.camera().queue_error = Some(libc::ENODEV);
    b.ring.release();
    assert!(b.ring.deadline() <= b.start + Duration::from_millis(10));
    let Err(Fault(why)) = b.capture_at(11) else {
        panic!("no fault");
    };
    assert!(
        why.starts_with("VIDIOC_QBUF on /dev/fake: ") && why.contains("unplugged"),
        "{why}"
    );
}

#[test]
fn faults_name_the_call_the_device_and_the_reason() {
    for (errno, text) in [
        (libc::EIO, "gave up"),
        (libc::ENODEV, "unplugged"),
        (libc::EINVAL, "Invalid"),
    ] {
        let mut b = bench(4);
        b.camera().ready.push_back(Err(errno));
        let Err(Fault(why)) = b.capture_at(10) else {
            panic!("no fault");
        };
        assert!(
            why.starts_with("VIDIOC_DQBUF on /dev/fake: ") && why.contains(text),
            "{why}"
        );

        let mut b = bench(4);
        b.camera().fill(&[0; 4]);
        b.camera().queue_error = Some(errno);
        let Err(Fault(why)) = b.capture_at(10) else {
            panic!("no fault");
        };
        assert!(
            why.starts_with("VIDIOC_QBUF on /dev/fake: ") && why.contains(text),
            "{why}"
        );
    }
}

#[test]
fn a_buffer_that_the_driver_cannot_have_is_a_fault_not_a_panic() {
    let mut b = bench(4);
    b.camera().fill(&jpeg_of(1)).index = 4;
    assert!(b.capture_at(10).unwrap_err().0.contains("buffer 4"));
}

#[test]
fn silence_is_a_fault_after_the_stall_time_and_is_checked_by_deadline() {
    let mut b = bench(4);
    let start = b.start;
    let at = |ms| start + Duration::from_millis(ms);
    assert_eq!(b.ring.deadline(), at(5000));
    assert_eq!(b.capture_at(1000), Ok(got(false, 0, 0)));
    b.camera().fill(&jpeg_of(1));
    assert_eq!(b.capture_at(1500), Ok(got(true, 0, 0)));
    assert_eq!(b.ring.deadline(), at(6500));
    assert_eq!(b.capture_at(4500), Ok(got(false, 0, 0)));
    assert_eq!(b.ring.deadline(), at(6500));
    assert_eq!(b.capture_at(6499), Ok(got(false, 0, 0)));
    assert_eq!(b.ring.deadline(), b.start + Duration::from_millis(6500));
    assert_eq!(
        b.capture_at(6500),
        Err(Fault("/dev/fake: no picture for 5 s".into()))
    );
}

#[test]
fn only_bad_pictures_are_a_fault_too_with_the_last_ones_reason() {
    let mut b = bench(4);
    for ms in (100..5000).step_by(100) {
        b.camera().fill(&[0; 50]);
        assert_eq!(b.capture_at(ms), Ok(got(false, 0, 1)));
    }
    let Err(Fault(why)) = b.capture_at(5000) else {
        panic!("no fault");
    };
    assert!(
        why.contains("49 damaged pictures") && why.contains("no SOI"),
        "{why}"
    );
}

#[test]
fn what_lay_in_the_ring_before_the_start_is_thrown_away() {
    let mut stale = Fake::new(4);
    stale.fill(&jpeg_of(1));
    stale.fill(&jpeg_of(2));
    let mut b = bench_of(stale, b"MJPG", 30);
    assert_eq!(b.camera().out(), 0);
    assert_eq!(b.capture_at(10), Ok(got(false, 0, 0)));
    assert_eq!(b.newest(), None);
}

#[test]
fn an_endless_supply_ends_the_call_and_asks_for_another_at_once() {
    struct Flood(Fake);
    impl Driver for Flood {
        fn path(&self) -> &Path {
            self.0.path()
        }
        fn count(&self) -> u32 {
            self.0.count()
        }
        fn dequeue(&mut self) -> Result<Option<Filled>, Failure> {
            self.0.fill(&[1, 2, 3]);
            self.0.dequeue()
        }
        fn queue(&mut self, index: u32) -> Result<(), Failure> {
            self.0.queue(index)
        }
        fn keeps(&self) -> bool {
            self.0.keeps()
        }
        fn plane(&self, index: u32, plane: usize) -> &[u8] {
            self.0.plane(index, plane)
        }
    }
    let b = bench(4);
    let (layout, epoch, now) = (b.ring.layout, epoch(b.start), b.start);
    let mut ring = Ring::new(Flood(Fake::new(4)), layout, epoch, 30, 600, now).unwrap();
    let mut copy = FrameBuf::new(600);
    assert_eq!(ring.capture(now, &mut copy), Ok(got(false, 0, 8)));
    assert_eq!(ring.deadline(), now);
}

#[test]
fn pictures_are_dated_by_the_driver_where_that_makes_sense() {
    let mut b = bench(4);
    let now = b.start + Duration::from_secs(20);
    let ms = |ms| b.start + Duration::from_millis(ms);
    let mut filled = Filled::default();
    let mut dated = |at: Duration, flags| {
        filled.timestamp = at;
        filled.flags = flags;
        Dating::new(epoch(b.start)).date(&filled, now)
    };
    let monotonic = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    let second = Duration::from_secs(1);
    assert_eq!(dated(second * 1015, monotonic), ms(15_000));
    // Unknown and copied ones are on no clock of ours; the future, the far past and zero cannot be.
    assert_eq!(dated(second * 1015, 0), now);
    assert_eq!(
        dated(second * 1015, v4l::v4l_sys::V4L2_BUF_FLAG_TIMESTAMP_COPY),
        now
    );
    assert_eq!(dated(second * 1021, monotonic), now);
    assert_eq!(dated(second * 1009, monotonic), now);
    assert_eq!(dated(Duration::ZERO, monotonic), now);
    assert_eq!(dated(Duration::MAX, monotonic), now);

    date(b.camera().fill(&jpeg_of(1)), 30);
    assert!(b.capture_at(50).unwrap().fresh);
    let meta = b.ring.newest(&b.copy).unwrap().meta;
    assert_eq!(meta.captured, b.start + Duration::from_millis(30));
    let wall = wall_clock();
    let age = wall - meta.wall;
    assert!(
        age >= Duration::from_millis(20) && age < Duration::from_secs(60),
        "{age:?}"
    );
}

/// At 30 fps of a camera of 30 fps, and at 10: which of the pictures are shown, by stamps in ms.
#[test]
fn stamps_that_make_no_sense_neither_hold_pictures_back_nor_let_more_through() {
    for (what, stamp) in [
        ("still", (|_| 7) as fn(u64) -> u64),
        ("in pairs", |n| 66 * (n / 2)),
        ("back and forth", |n| 33 * (n ^ 3)),
        ("another clock", |n| 1_700_000_000_000 + 33 * n),
        ("crawling", |n| n),
    ] {
        for (fps, expected) in [(30, 270..=300), (10, 90..=105)] {
            let mut b = bench_of(Fake::new(4), b"MJPG", fps);
            let mut shown = Vec::new();
            for n in 0..300 {
                date(b.camera().fill(&jpeg_of(n as u8)), stamp(n));
                let ms = 10 + 1000 * n / 30;
                if b.capture_at(ms).unwrap().fresh {
                    shown.push(ms);
                    let meta = b.ring.newest(&b.copy).unwrap().meta;
                    let age = b.start + Duration::from_millis(ms) - meta.captured;
                    assert!(age < Duration::from_millis(600), "{what}: {age:?}");
                }
            }
            assert!(expected.contains(&shown.len()), "{what}: {}", shown.len());
            let gap = shown.windows(2).map(|pair| pair[1] - pair[0]).max();
            // The crawling one is found out by how old its pictures seem.
            let most = if what == "crawling" { 800 } else { 150 };
            assert!(gap <= Some(most), "{what}: {gap:?}");
        }
    }
}

#[test]
fn raw_pictures_are_lent_plane_by_plane_and_must_be_whole() {
    let mut driver = Fake::new(3);
    for memory in &mut driver.memory {
        memory[0] = vec![0; 16 * 16 * 3 / 2];
    }
    let mut b = bench_of(driver, b"YU12", 30);
    let bytes: Vec<u8> = (0..384_u32).map(|i| i as u8).collect();
    b.camera().fill(&bytes[..383]);
    assert_eq!(b.capture_at(10), Ok(got(false, 0, 1)));
    b.camera().fill(&bytes);
    assert_eq!(b.capture_at(100), Ok(got(true, 0, 0)));
    let Some(Frame {
        picture: Picture::Raw(raw),
        meta,
    }) = b.ring.newest(&b.copy)
    else {
        panic!("no raw picture");
    };
    assert_eq!(
        (raw.format, raw.width, raw.height),
        (PixelFormat::Yu12, 16, 16)
    );
    assert_eq!((meta.width, meta.height), (16, 16));
    let planes = raw.planes.map(|plane| (plane.data.to_vec(), plane.stride));
    assert_eq!(planes[0], (bytes[..256].to_vec(), 16));
    assert_eq!(planes[1], (bytes[256..320].to_vec(), 8));
    assert_eq!(planes[2], (bytes[320..].to_vec(), 8));
}

#[test]
fn planes_in_memory_of_their_own_behind_a_data_offset() {
    let granted = Granted {
        fourcc: u32::from_le_bytes(*b"NM12"),
        width: 16,
        height: 16,
        planes: 2,
        bytesperline: [16, 16, 0],
        ..Default::default()
    };
    let mut driver = Fake::new(3);
    for memory in &mut driver.memory {
        *memory = [vec![1; 300], vec![2; 200], Vec::new()];
    }
    let start = Instant::now();
    let epoch = Epoch {
        instant: start,
        monotonic: Duration::ZERO,
    };
    let layout = Layout::new(&granted).unwrap();
    let mut ring = Ring::new(driver, layout, epoch, 30, 600, start).unwrap();
    let mut copy = FrameBuf::new(0);
    let extents = |y, c| {
        [
            Extent {
                offset: 44,
                bytes: y,
            },
            Extent {
                offset: 8,
                bytes: c,
            },
            Extent::default(),
        ]
    };
    ring.driver.fill(&[9; 4]).planes = extents(256, 127);
    assert_eq!(ring.capture(start, &mut copy), Ok(got(false, 0, 1)));
    ring.driver.fill(&[9; 50]).planes = extents(256, 128);
    assert_eq!(ring.capture(start, &mut copy), Ok(got(true, 0, 0)));
    let Some(Frame {
        picture: Picture::Raw(raw),
        ..
    }) = ring.newest(&copy)
    else {
        panic!("no raw picture");
    };
    assert_eq!(raw.planes[0].data[..7], [9, 9, 9, 9, 9, 9, 1]);
    assert_eq!((raw.planes[0].data.len(), raw.planes[0].stride), (256, 16));
    assert_eq!(
        (raw.planes[1].data, raw.planes[1].stride),
        (&[2; 128][..], 16)
    );
    assert!(raw.planes[2].data.is_empty());
}

/// A picture that leans on the one of the number before; `is_reference`: others lean on it.
fn slice(number: u8, is_reference: bool) -> Vec<u8> {
    let kind = if is_reference { 0x41 } else { 0x01 };
    // first_mb_in_slice 0, slice_type 0 (P), pic_parameter_set_id 0, and frame_num in 4 bits, as the SPS has it.
    vec![kind, 0xE1 | number << 1, 0x9A, number | 0x40]
}

const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x0A];
const PPS: &[u8] = &[0x68, 0xCE, 0x3C, 0x80];
const AUD: &[u8] = &[9, 0xF0];
const SEI: &[u8] = &[6, 5, 1, 0x55, 0x80];

/// NAL units, each behind a start code; it has 3 bytes and 4 in turn.
fn stream(nals: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (n, nal) in nals.iter().enumerate() {
        bytes.extend_from_slice(&[0, 0, 0, 1][n % 2..]);
        bytes.extend_from_slice(nal);
    }
    bytes
}

fn key() -> Vec<u8> {
    stream(&[&SPS_64X48, PPS, IDR])
}

fn lean(number: u8) -> Vec<u8> {
    stream(&[&slice(number, true)])
}

struct FilmBench {
    bench: Bench,
    last: u64,
    ms: u64,
}

fn film_of(driver: Fake, film: Film) -> FilmBench {
    let start = Instant::now() + Duration::from_secs(100);
    let layout = Layout::of_h264(&granted(b"H264")).unwrap();
    let ring = Ring::of_film(driver, layout, epoch(start), film, start).unwrap();
    let bench = Bench {
        ring,
        copy: FrameBuf::new(600),
        start,
    };
    FilmBench {
        bench,
        last: 0,
        ms: 0,
    }
}

fn film(count: usize) -> FilmBench {
    film_of(Fake::new(count), Film::of_buffers(600))
}

impl FilmBench {
    fn fill(&mut self, data: &[u8]) -> &mut Filled {
        self.bench.camera().fill(data)
    }

    /// So many ms pass, and what there is is taken in. All buffers are the driver's again.
    fn capture(&mut self, ms: u64) -> Result<Captured, Fault> {
        self.ms += ms;
        let captured = self.bench.capture_at(self.ms);
        assert_eq!(self.bench.camera().out(), 0);
        assert_eq!(self.bench.newest(), None);
        captured
    }

    /// What one who gets every picture got since the last time: the NAL units of each.
    fn got(&mut self) -> Vec<Vec<Vec<u8>>> {
        let now = self.bench.start + Duration::from_millis(self.ms);
        let chain = self.bench.ring.film().unwrap().chain();
        let mut units = Vec::new();
        while let Some(unit) = chain.after(self.last, now) {
            self.last = unit.meta.sequence;
            let mut rest = unit.sample;
            let mut nals = Vec::new();
            while let Some((length, more)) = rest.split_first_chunk() {
                let (nal, more) = more.split_at(u32::from_be_bytes(*length) as usize);
                nals.push(nal.to_vec());
                rest = more;
            }
            units.push(nals);
        }
        units
    }

    /// Begins with a key picture.
    fn begin(&mut self) {
        self.fill(&key());
        assert_eq!(self.capture(40), Ok(got(true, 0, 0)));
        assert_eq!(self.got(), [[IDR]]);
    }
}

#[test]
fn buffers_of_h264_go_on_untouched_and_back_at_once() {
    let mut b = film(2);
    let first = stream(&[
        AUD,
        &SPS_64X48,
        PPS,
        SEI,
        IDR,
        &[0x65, 0x48, 0x84],
        &[0x65, 0x28, 0x84],
    ]);
    b.fill(&first);
    // Drivers that pad do so with zeros.
    let mut second = stream(&[SEI, &slice(1, true), &[0x41, 0x61, 0x9A]]);
    second.extend([0; 9]);
    b.fill(&second);
    // The picture is whole with its buffer: it does not wait for the next one.
    assert_eq!(b.capture(40), Ok(got(true, 0, 0)));
    let expected: [&[&[u8]]; 2] = [
        &[SEI, IDR, &[0x65, 0x48, 0x84], &[0x65, 0x28, 0x84]],
        &[SEI, &slice(1, true), &[0x41, 0x61, 0x9A]],
    ];
    assert_eq!(b.got(), expected);
    for n in 2..100 {
        b.fill(&lean(n % 16));
        assert_eq!(b.capture(40), Ok(got(true, 0, 0)));
        assert_eq!(b.got(), [[slice(n % 16, true)]]);
    }
}

#[test]
fn pictures_of_h264_are_dated_as_all_others() {
    let mut b = film(4);
    let stamps = [30, 70, 110];
    for (n, ms) in stamps.into_iter().enumerate() {
        let bytes = if n == 0 { key() } else { lean(n as u8) };
        date(b.fill(&bytes), ms);
    }
    assert_eq!(b.capture(120), Ok(got(true, 0, 0)));
    let chain = b.bench.ring.film().unwrap().chain();
    for (n, ms) in (0..).zip(stamps) {
        let now = b.bench.start + Duration::from_millis(120);
        let meta = chain.after(n, now).unwrap().meta;
        assert_eq!(meta.captured, b.bench.start + Duration::from_millis(ms));
        assert_eq!((meta.width, meta.height), (64, 48));
    }
}

#[test]
fn a_buffer_may_hold_parameter_sets_alone_or_several_pictures() {
    let mut b = film(4);
    b.fill(&stream(&[&SPS_64X48, PPS]));
    b.fill(&stream(&[IDR]));
    b.fill(&[lean(1), lean(2)].concat());
    assert_eq!(b.capture(40), Ok(got(true, 0, 0)));
    let expected: [&[&[u8]]; 3] = [&[IDR], &[&slice(1, true)], &[&slice(2, true)]];
    assert_eq!(b.got(), expected);
}

#[test]
fn a_driver_that_splits_pictures_is_found_out() {
    let mut b = film(4);
    b.begin();
    let whole = [lean(1), vec![0x77; 20]].concat();
    let (half, rest) = whole.split_at(12);
    b.fill(half);
    assert_eq!(b.capture(40), Ok(got(true, 0, 0)));
    b.got();
    // It was taken too early: what leans on it is of no use.
    b.fill(rest);
    assert_eq!(b.capture(1), Ok(got(false, 0, 1)));
    b.fill(&lean(2));
    b.fill(&key());
    b.capture(39).unwrap();
    b.got();
    // From then on it is waited for.
    for n in 1..10 {
        let whole = [lean(n), vec![0x77; 20]].concat();
        let (half, rest) = whole.split_at(12);
        b.fill(half);
        b.capture(38).unwrap();
        b.got();
        b.fill(rest);
        b.capture(2).unwrap();
        assert_eq!(b.got(), Vec::<Vec<Vec<u8>>>::new());
        let deadline = b.bench.ring.deadline();
        let wait = deadline - (b.bench.start + Duration::from_millis(b.ms));
        assert!(wait <= Duration::from_millis(20), "{wait:?}");
        b.capture(wait.as_millis() as u64).unwrap();
        assert_eq!(
            b.got(),
            [[[slice(n, true), vec![0x77; 20]].concat()]],
            "{n}"
        );
    }
    // Slices in buffers of their own.
    b.fill(&lean(10));
    b.fill(&stream(&[&[0x41, 0x61, 0x9A]]));
    b.capture(30).unwrap();
    b.capture(10).unwrap();
    assert_eq!(b.got(), [[slice(10, true), vec![0x41, 0x61, 0x9A]]]);
}

#[test]
fn a_damaged_buffer_of_h264_cuts_the_chain() {
    let mut b = film(4);
    b.begin();
    let damaged = b.fill(&lean(1));
    damaged.flags |= V4L2_BUF_FLAG_ERROR;
    assert_eq!(b.capture(40), Ok(got(false, 0, 1)));
    // That it stands for itself is not taken from the driver.
    b.fill(&lean(2)).flags |= V4L2_BUF_FLAG_KEYFRAME;
    assert_eq!(b.capture(40), Ok(got(false, 1, 0)));
    assert_eq!(b.got(), Vec::<Vec<Vec<u8>>>::new());
    // And neither that it does not.
    b.fill(&key());
    b.fill(&lean(1));
    assert_eq!(b.capture(40), Ok(got(true, 0, 0)));
    assert_eq!(b.got(), [[IDR.to_vec()], [slice(1, true)]]);
    b.fill(&[]);
    assert_eq!(b.capture(40), Ok(got(false, 0, 1)));
    // Nothing says that there was a picture in it.
    b.fill(&lean(2));
    assert_eq!(b.capture(40), Ok(got(true, 0, 0)));
    b.fill(&[]);
    b.fill(&lean(4));
    assert_eq!(b.capture(40), Ok(got(false, 1, 1)));
}

#[test]
fn pictures_that_the_driver_lost_cut_the_chain_if_others_lean_on_them() {
    let none = Vec::<Vec<Vec<u8>>>::new();
    let mut b = film(4);
    b.begin();
    b.fill(&lean(1));
    // Lost: one on which nothing leans.
    b.bench.camera().next += 1;
    b.fill(&lean(2));
    assert_eq!(b.capture(40), Ok(got(true, 1, 0)));
    assert_eq!(b.got(), [[slice(1, true)], [slice(2, true)]]);
    b.fill(&stream(&[&slice(3, false)]));
    b.fill(&lean(3));
    assert_eq!(b.capture(40), Ok(got(true, 0, 0)));
    assert_eq!(b.got(), [[slice(3, false)], [slice(3, true)]]);
    // Lost: number 4.
    b.bench.camera().next += 1;
    b.fill(&lean(5));
    assert_eq!(b.capture(40), Ok(got(false, 2, 0)));
    b.fill(&lean(6));
    assert_eq!(b.capture(40), Ok(got(false, 1, 0)));
    assert_eq!(b.got(), none);
    b.fill(&key());
    assert_eq!(b.capture(40), Ok(got(true, 0, 0)));
    assert_eq!(b.got(), [[IDR]]);
    // So many that numbers tell nothing.
    b.bench.camera().next += 16;
    b.fill(&lean(1));
    assert_eq!(b.capture(40), Ok(got(false, 17, 0)));
    assert_eq!(b.got(), none);
}

#[test]
fn h264_that_cannot_be_passed_on_is_a_fault_that_says_why() {
    let mut b = film(4);
    b.begin();
    b.fill(&stream(&[&[0x01, 0x9E, 0x21, 0x6C]]));
    let fault = b.capture(40).unwrap_err().0;
    assert!(
        fault.starts_with("/dev/fake: its H.264 has B-pictures") && fault.contains("-bf 0"),
        "{fault}"
    );
}

#[test]
fn other_parameters_begin_with_their_key_picture() {
    let mut b = film(4);
    b.begin();
    let before = b.bench.ring.film().unwrap().chain().parameters().clone();
    b.fill(&lean(1));
    let pps = [0x68, 0xCE, 0x3C, 0xC0];
    b.fill(&stream(&[&SPS_64X48, &pps, IDR]));
    b.fill(&lean(1));
    assert_eq!(b.capture(40), Ok(got(true, 0, 0)));
    assert_eq!(b.got(), [[IDR.to_vec()], [slice(1, true)]]);
    assert_ne!(*b.bench.ring.film().unwrap().chain().parameters(), before);
}

#[test]
fn a_camera_that_never_gives_a_key_picture_is_opened_again() {
    let mut b = film(4);
    for second in 0..=20 {
        b.fill(&lean(second % 16));
        match b.capture(1000) {
            Ok(captured) => assert_eq!(captured, got(false, 1, 0), "{second}"),
            Err(fault) => {
                assert!(fault.0.contains("no key picture for 20 s"), "{fault}");
                assert_eq!(second, 20);
                return;
            }
        }
    }
    panic!("no fault");
}

#[test]
fn a_camera_of_h264_fails_as_any_other() {
    let mut b = film(4);
    b.begin();
    let stall = limits::CAPTURE_STALL.as_millis() as u64;
    assert_eq!(b.capture(stall - 1), Ok(got(false, 0, 0)));
    assert!(b.capture(1).unwrap_err().0.contains("no picture for"));
    let mut b = film(4);
    b.begin();
    b.bench.camera().ready.push_back(Err(libc::EIO));
    assert!(b.capture(1).unwrap_err().0.contains("VIDIOC_DQBUF"));
    let mut b = film(4);
    b.bench.camera().queue_error = Some(libc::EINVAL);
    b.fill(&key());
    b.ms += 40;
    let fault = b.bench.capture_at(40).unwrap_err();
    assert!(fault.0.contains("VIDIOC_QBUF"), "{fault}");
    // What does not fit.
    let mut driver = Fake::new(4);
    for memory in &mut driver.memory {
        memory[0].resize(1000, 0);
    }
    let mut b = film_of(driver, Film::of_buffers(600));
    b.begin();
    b.fill(&[lean(1), vec![0x77; 700]].concat());
    let captured = b.capture(40).unwrap();
    assert!(!captured.fresh && captured.bad >= 1, "{captured:?}");
    b.fill(&lean(2));
    assert!(!b.capture(40).unwrap().fresh);
    b.fill(&key());
    assert!(b.capture(40).unwrap().fresh);
}

#[test]
fn who_has_seen_a_camera_of_h264_goes_on_when_it_is_back() {
    let mut b = film(4);
    b.begin();
    b.fill(&lean(1));
    b.capture(40).unwrap();
    b.got();
    let last = b.last;
    let film = b.bench.ring.take_film().unwrap();
    let mut b = FilmBench {
        last,
        ..film_of(Fake::new(4), film)
    };
    // It begins anew.
    b.fill(&lean(2));
    assert_eq!(b.capture(40), Ok(got(false, 1, 0)));
    assert_eq!(b.got(), Vec::<Vec<Vec<u8>>>::new());
    b.fill(&key());
    b.fill(&lean(1));
    assert_eq!(b.capture(40), Ok(got(true, 0, 0)));
    assert_eq!(b.got(), [[IDR.to_vec()], [slice(1, true)]]);
    assert!(b.last > last);
}

#[test]
fn what_v4l2loopback_kept_of_minutes_ago_is_thrown_away() {
    for keeps in [true, false] {
        let mut driver = Fake::new(4);
        driver.keeps = keeps;
        driver.fill(&key());
        let mut b = film_of(driver, Film::of_buffers(600));
        let captured = b.capture(40).unwrap();
        assert_eq!(captured.fresh, keeps);
    }
}
