//! Which pictures of a stream are shown, tried on pictures of a real encoder: whole ones of every kind, and what becomes
//! of them on their way.

use camd::picture::jpeg::Defect;
use camd::picture::scan::is_whole;
use camd::picture::whole::Examiner;
use mozjpeg_sys::{jpeg_compress_struct, jpeg_simple_progression};

#[path = "common/libjpeg.rs"]
mod libjpeg;

/// How a picture is made.
#[derive(Clone, Copy, Debug)]
struct Make {
    size: (usize, usize),
    quality: i32,
    /// Of the first component.
    factors: (i32, i32),
    /// In MCUs; 0 is none.
    interval: u32,
    optimized: bool,
    progressive: bool,
    grey: bool,
}

const PLAIN: Make = Make {
    size: (160, 120),
    quality: 80,
    factors: (2, 1),
    interval: 0,
    optimized: false,
    progressive: false,
    grey: false,
};

const FLAT: u64 = 1000;

/// A picture that differs by its number; from [`FLAT`] on, there is nothing in its upper half.
fn picture(make: Make, number: u64) -> Vec<u8> {
    let (width, height) = make.size;
    let components: usize = if make.grey { 1 } else { 3 };
    let mut random = fastrand::Rng::with_seed(number);
    let (a, b) = (random.usize(3..20), random.usize(3..20));
    let set = |to: &mut jpeg_compress_struct| {
        to.optimize_coding = make.optimized.into();
        to.restart_interval = make.interval;
        if make.progressive {
            // SAFETY: libjpeg as its documentation has it.
            unsafe { jpeg_simple_progression(to) };
        }
        if !make.grey {
            libjpeg::set_factors(to, make.factors.0, make.factors.1);
        }
    };
    libjpeg::made(make.size, make.quality, make.grey, set, |to| {
        for y in 0..height {
            let flat = number >= FLAT && y < height / 2;
            let line: Vec<u8> = (0..width * components)
                .map(|x| (x * a + y * b + (x * y) / 7) as u8 ^ random.u8(..8))
                .map(|sample| if flat { 128 } else { sample })
                .collect();
            libjpeg::put_line(to, &line);
        }
    })
}

fn makes() -> impl Iterator<Item = Make> {
    let sizes = [(160, 120), (33, 17), (8, 8), (1, 1), (640, 9)];
    sizes.into_iter().flat_map(|size| {
        let factors = [(1, 1), (2, 1), (2, 2), (1, 2), (4, 1)];
        factors.into_iter().flat_map(move |factors| {
            [
                (0, false, false),
                (1, true, false),
                (7, false, false),
                (3, true, true),
            ]
            .map(move |(interval, optimized, grey)| Make {
                size,
                factors,
                interval,
                optimized,
                grey,
                ..PLAIN
            })
        })
    })
}

#[test]
fn every_whole_picture_is_whole() {
    for (make, quality) in makes().flat_map(|make| [5, 50, 98].map(|quality| (make, quality))) {
        let jpeg = picture(Make { quality, ..make }, 1);
        assert!(is_whole(&jpeg), "{make:?}, {quality}");
        let found = Examiner::new().examine(&jpeg).expect("a picture");
        assert_eq!(found.expect("shown").range(), 0..jpeg.len());
    }
    // Of these it cannot be told, and they are shown.
    let progressive = Make {
        progressive: true,
        ..PLAIN
    };
    let jpeg = picture(progressive, 1);
    assert!(Examiner::new().examine(&jpeg).expect("a picture").is_some());
}

#[test]
fn an_end_put_behind_a_part_makes_no_whole_picture() {
    for make in [
        PLAIN,
        Make {
            grey: true,
            size: (64, 48),
            ..PLAIN
        },
        Make {
            optimized: true,
            factors: (2, 2),
            ..PLAIN
        },
        Make {
            interval: 5,
            ..PLAIN
        },
    ] {
        let jpeg = picture(make, 2);
        let scan = scan(&jpeg);
        let mut passed = 0;
        for cut in scan..jpeg.len() - 2 {
            let part = [&jpeg[..cut], &[0xFF, 0xD9]].concat();
            match Examiner::new().examine(&part) {
                // Bits of filling, which end a whole picture too.
                Ok(_) => passed += 1,
                Err(Defect::Incomplete | Defect::BadScan(_) | Defect::Truncated) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert!(passed < 3, "{passed} of {} in {make:?}", jpeg.len());
    }
}

#[test]
fn the_rest_of_an_older_picture_makes_no_whole_picture_of_a_part() {
    for make in [
        PLAIN,
        Make {
            interval: 4,
            ..PLAIN
        },
    ] {
        let (new, old) = (picture(make, 3), picture(make, FLAT));
        let most = new.len().min(old.len()) - 200;
        for cut in (900..most).step_by(97) {
            let mixed = [&new[..cut], &old[cut..]].concat();
            let mut examiner = Examiner::new();
            assert!(examiner.examine(&mixed).is_err(), "cut at {cut}");
            // Once the stream is known, too: it ends where the other one did.
            assert!(examiner.examine(&old).is_ok());
            assert!(examiner.examine(&mixed).is_err(), "cut at {cut}");
        }
    }
}

/// Large pictures, of which most are shown without another look.
fn large(number: u64) -> Vec<u8> {
    picture(
        Make {
            size: (1280, 720),
            quality: 60,
            ..PLAIN
        },
        number,
    )
}

#[test]
fn large_pictures_are_looked_at_again_where_there_is_cause() {
    let pictures: Vec<_> = (0..6).map(large).collect();
    // Soon after its start, and when it is known for a stream of clean pictures.
    for length in [6, 24] {
        assert_cause(&pictures, length);
    }
}

fn assert_cause(pictures: &[Vec<u8>], length: usize) {
    let ready = || {
        let mut examiner = Examiner::new();
        for jpeg in pictures.iter().cycle().take(length) {
            assert!(examiner.examine(jpeg).expect("a picture").is_some());
        }
        examiner
    };
    let last = &pictures[5];
    let next = large(9);
    let half = next.len() / 2;
    let tail_of = |old: &Vec<u8>| [&next[..half], &old[half..]].concat();
    // A stale end is where that picture's was; bytes behind it are stale as well; half a picture is a small one.
    for (what, bytes) in [
        ("the rest of the last one", tail_of(last)),
        ("the rest of the first one", tail_of(&pictures[0])),
        ("half a picture", [&next[..half], &[0xFF, 0xD9]].concat()),
        (
            "more behind it",
            [&tail_of(&large(10))[..], &last[last.len() - 90..]].concat(),
        ),
    ] {
        assert_eq!(ready().examine(&bytes), Err(Defect::Incomplete), "{what}");
        // What comes next is none the worse.
        let mut examiner = ready();
        assert!(examiner.examine(&bytes).is_err());
        assert!(examiner.examine(&next).expect("a picture").is_some());
    }
    // A darker scene is a smaller picture, and a good one.
    let dark = picture(
        Make {
            size: (1280, 720),
            quality: 5,
            ..PLAIN
        },
        1,
    );
    assert!(dark.len() < last.len() / 2);
    assert!(ready().examine(&dark).expect("a picture").is_some());
}

/// Pictures of 100 to 150 KB.
fn medium(number: u64) -> Vec<u8> {
    let jpeg = picture(
        Make {
            size: (640, 480),
            quality: 30,
            ..PLAIN
        },
        number,
    );
    assert!((100_000..150_000).contains(&jpeg.len()), "{}", jpeg.len());
    jpeg
}

/// Where the scan's codes begin, in a picture of three components.
fn scan(jpeg: &[u8]) -> usize {
    let mut pairs = jpeg.windows(2);
    pairs.position(|pair| pair == [0xFF, 0xDA]).expect("a scan") + 14
}

/// Of a new picture, cut short, and of an old one.
fn mixed(new: &[u8], old: &[u8], cut: usize) -> Vec<u8> {
    [&new[..cut], &old[cut..]].concat()
}

#[test]
fn a_stale_end_is_known_however_long_ago_and_however_little_came_before_it() {
    let pictures: Vec<_> = (0..50).map(large).collect();
    let (next, later) = (medium(60), medium(61));
    let scan = scan(&next);
    // The oldest buffer of a large ring, and the one before; nearly all of the old one, and nearly nothing.
    let mut tried = 0;
    for old in [0, 17, 33, 48] {
        for cut in [
            scan + 40,
            scan + 100,
            scan + 900,
            next.len() / 3,
            next.len() - 3000,
        ] {
            let mut examiner = Examiner::new();
            for jpeg in &pictures {
                assert!(examiner.examine(jpeg).expect("a picture").is_some());
            }
            let bytes = mixed(&next, &pictures[old], cut);
            let again = mixed(&later, &pictures[old], cut);
            // Codes fall into step soon. Where it comes out even, a few blocks are wrong, and nobody can tell.
            if is_whole(&bytes) || is_whole(&again) {
                continue;
            }
            tried += 1;
            let what = format!("{cut} bytes before the rest of picture {old}");
            assert_eq!(examiner.examine(&bytes), Err(Defect::Incomplete), "{what}");
            // Once more, and with another start: that one's end is in the buffer still.
            for bytes in [bytes, again] {
                assert_eq!(examiner.examine(&bytes), Err(Defect::Incomplete), "{what}");
            }
            assert!(examiner.examine(&next).expect("a picture").is_some());
        }
    }
    assert!(tried > 14, "{tried}");
}

#[test]
fn the_end_of_a_picture_that_was_not_shown_is_known_too() {
    let (unseen, next) = (medium(70), medium(71));
    let half = next.len() / 2;
    let padded = [&unseen[..], &[0; 3000]].concat();
    let behind = [&unseen[..], &medium(72)[60_000..]].concat();
    let cut_short = mixed(&medium(73), &unseen, half);
    // As it came, and before the stream was known, too.
    for (what, buffer) in [
        ("alone", &unseen),
        ("with padding", &padded),
        ("with more behind it", &behind),
        ("as the end of another one", &cut_short),
    ] {
        for pictures in [1, 20] {
            let mut examiner = Examiner::new();
            for n in 0..pictures {
                assert!(examiner.examine(&medium(n)).expect("a picture").is_some());
            }
            examiner.pass_over(buffer);
            let stale = mixed(&next, &unseen, half);
            let found = examiner.examine(&stale);
            match what {
                // Here it is that one's end, which is what a search would take.
                "with more behind it" if pictures == 20 => {
                    let stale = mixed(&next, &behind, half);
                    let found = examiner.examine(&stale);
                    assert_eq!(found, Err(Defect::Incomplete), "{what}, {pictures}");
                }
                _ => assert_eq!(found, Err(Defect::Incomplete), "{what}, {pictures}"),
            }
            // That it was not examined does not speak for it, or against it.
            assert!(examiner.examine(&unseen).expect("a picture").is_some());
        }
    }
}

#[test]
fn a_stale_end_that_has_moved_is_known_until_many_end_like_that() {
    let pictures: Vec<_> = (0..20).map(large).collect();
    let next = medium(80);
    let moved = [&next[..next.len() / 2], &pictures[7][60_000..]].concat();
    let mut examiner = Examiner::new();
    for jpeg in &pictures {
        assert!(examiner.examine(jpeg).expect("a picture").is_some());
    }
    for _ in 0..6 {
        assert_eq!(examiner.examine(&moved), Err(Defect::Incomplete));
        // One that ends as it did last time is found out however many good ones there are between.
        for jpeg in &pictures[..10] {
            assert!(examiner.examine(jpeg).expect("a picture").is_some());
        }
    }
}

#[test]
fn pictures_larger_than_can_be_followed_are_not_shown_on_trust() {
    let pictures: Vec<_> = (0..20).map(large).collect();
    let mut examiner = Examiner::new();
    for jpeg in &pictures {
        assert!(examiner.examine(jpeg).expect("a picture").is_some());
    }
    // One after the other: far more bytes than are saved.
    for n in 0..12 {
        let new = large(90 + n);
        // Where codes do not come out even by chance.
        let stale = (new.len() / 2..)
            .map(|cut| mixed(&new, &pictures[n as usize], cut))
            .find(|stale| !is_whole(stale))
            .expect("one");
        assert_eq!(examiner.examine(&stale), Err(Defect::Incomplete), "{n}");
        assert!(examiner.examine(&new).expect("a picture").is_some());
    }
}

#[test]
fn damage_is_seen_in_small_pictures_and_nothing_panics() {
    let jpeg = picture(PLAIN, 5);
    let mut random = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for _ in 0..3000 {
        let mut damaged = jpeg.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..damaged.len());
            damaged[at] = random.u8(..);
        }
        damaged.truncate(random.usize(damaged.len() / 2..=damaged.len()));
        refused += u32::from(Examiner::new().examine(&damaged).is_err());
    }
    assert!(refused > 2500, "{refused}");
}

/// A JPEG as one field, as MJPEG in AVI has it. `jpeg` begins with JFIF's APP0 of 18 bytes.
fn field(jpeg: &[u8], polarity: u8) -> Vec<u8> {
    let avi1 = [&[0xFF, 0xE0, 0, 16][..], b"AVI1", &[polarity, 0], &[0; 8]].concat();
    [&jpeg[..2], &avi1, &jpeg[20..]].concat()
}

#[test]
fn one_field_of_each_pair_is_shown() {
    let half = Make {
        size: (160, 60),
        ..PLAIN
    };
    let fields = |n| {
        (
            field(&picture(half, n), 1),
            field(&picture(half, n + 100), 2),
        )
    };
    let mut examiner = Examiner::new();
    for n in 0..20 {
        // In one buffer, and one after the other.
        let (first, second) = fields(n);
        let pair = [&first[..], &second].concat();
        for bytes in [&pair, &first] {
            let found = examiner.examine(bytes).expect("a picture").expect("shown");
            assert_eq!(found.range(), 0..first.len());
        }
        assert_eq!(examiner.examine(&second), Ok(None));
    }
    // A stream of the other fields alone is shown, too, after a moment.
    let shown = (0..30).filter(|n| {
        examiner
            .examine(&fields(*n).1)
            .expect("a picture")
            .is_some()
    });
    assert!(shown.count() > 15);
    // Without any word of it, it is no field.
    let plain = field(&picture(half, 1), 0);
    assert!(examiner.examine(&plain).expect("a picture").is_some());
}

#[test]
fn a_known_stream_is_searched_again_once_it_was_not_clean() {
    let mut examiner = Examiner::new();
    let mut examine = |bytes: &[u8]| {
        examiner
            .examine(bytes)
            .map(|found| found.expect("shown").range())
    };
    let pictures: Vec<_> = (20..40).map(large).collect();
    for jpeg in &pictures {
        assert_eq!(examine(jpeg), Ok(0..jpeg.len()));
        // Padding is no part of it, little or much.
        for zeros in [1, 500, 5000] {
            let padded = [&jpeg[..], &vec![0; zeros]].concat();
            assert_eq!(examine(&padded), Ok(0..jpeg.len()));
        }
    }
    // Two starts cannot be overlooked, and after that nothing is.
    let next = large(50);
    let twice = [&[0xFF, 0xD8], &next[..]].concat();
    assert_eq!(examine(&twice), Ok(2..twice.len()));
    let last = large(51);
    let other = large(52);
    let behind = [&last[..], &other[other.len() - 5000..]].concat();
    assert_eq!(examine(&behind), Ok(0..last.len()));
}
