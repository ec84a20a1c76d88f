use super::*;
use fastrand::Rng;

const MOST: usize = 1 << 20;

fn any_size(rng: &mut Rng) -> Size {
    Size {
        width: rng.u16(1..=DIMENSION_MAX),
        height: rng.u16(1..=DIMENSION_MAX),
    }
}

fn any_area(rng: &mut Rng) -> Option<Area> {
    let Size { width, height } = any_size(rng);
    let area = Area {
        x: rng.u16(0..=DIMENSION_MAX),
        y: rng.u16(0..=DIMENSION_MAX),
        width,
        height,
    };
    rng.bool().then_some(area)
}

fn any_range(rng: &mut Rng) -> Range<usize> {
    let start = rng.usize(0..=MOST);
    start..rng.usize(start..=MOST)
}

fn any_job(rng: &mut Rng) -> Job {
    let format = |rng: &mut Rng| PixelFormat::ALL[rng.usize(..PixelFormat::ALL.len())];
    let stored = match rng.bool() {
        true => Stored::Jpeg(any_range(rng)),
        false => Stored::Raw {
            format: format(rng),
            size: any_size(rng),
            planes: std::array::from_fn(|_| (any_range(rng), rng.usize(0..=MOST))),
        },
    };
    let bounds = Bounds {
        within: any_size(rng),
        eighths: rng.u8(1..=8),
    };
    let coding = Coding {
        quality: rng.u8(1..=100),
        chroma: Chroma::ALL[rng.usize(..2)],
        bounds,
    };
    Job {
        stored,
        task: match rng.u8(..3) {
            0 => Task::Encode(coding),
            1 => Task::Turn(coding),
            _ => Task::Pixels {
                format: format(rng),
                bounds,
            },
        },
        crop: any_area(rng),
        turning: Orientation {
            transpose: rng.bool(),
            mirror_x: rng.bool(),
            mirror_y: rng.bool(),
        },
        live: rng.bool(),
        stamp: rng.bool().then(|| {
            let count = rng.usize(0..=GLYPHS);
            (0..count)
                .map(|_| std::array::from_fn(|_| rng.u8(..)))
                .collect()
        }),
    }
}

fn any_answer(rng: &mut Rng) -> Answer {
    let failure = Failure::new(rng.bool(), &"x y".repeat(rng.usize(0..60)));
    let made = match rng.u8(..4) {
        0 => Made::Nothing,
        1 => Made::Encoded,
        2 => Made::Turned(any_area(rng)),
        _ => Made::Pixels(any_size(rng)),
    };
    let is_made = made != Made::Nothing;
    Answer {
        made,
        bytes: if is_made { rng.usize(0..=MOST) } else { 0 },
        spent: std::array::from_fn(|_| Duration::from_nanos(rng.u32(..).into())),
        failure: (!is_made || rng.bool()).then_some(failure),
    }
}

#[test]
fn jobs_and_answers_arrive_as_they_were_sent() {
    let mut rng = Rng::with_seed(17);
    for _ in 0..20_000 {
        let job = any_job(&mut rng);
        assert_eq!(Job::read(&job.to_bytes(), MOST).as_ref(), Ok(&job));
        let answer = any_answer(&mut rng);
        assert_eq!(Answer::read(&answer.to_bytes(), MOST).as_ref(), Ok(&answer));
    }
}

/// What is read is within bounds, whatever is there.
#[test]
fn whatever_the_numbers_are_what_is_read_is_within_bounds() {
    let mut rng = Rng::with_seed(4);
    let (mut jobs, mut answers) = (0, 0);
    for round in 0..200_000 {
        let (mut job, mut answer) = (
            any_job(&mut rng).to_bytes(),
            any_answer(&mut rng).to_bytes(),
        );
        let changes = if round % 10 == 0 {
            100
        } else {
            rng.usize(1..4)
        };
        for _ in 0..changes {
            let extreme = [
                0,
                1,
                2,
                255,
                65535,
                65536,
                i32::MAX as u32,
                u32::MAX,
                rng.u32(..),
            ];
            let number = extreme[rng.usize(..extreme.len())].to_ne_bytes();
            let at = 4 * rng.usize(..40);
            job[at..][..4].copy_from_slice(&number);
            answer[at..][..4].copy_from_slice(&number);
        }
        if let Ok(job) = Job::read(&job, MOST) {
            jobs += 1;
            let within = |range: &Range<usize>| range.start <= range.end && range.end <= MOST;
            assert!(match &job.stored {
                Stored::Jpeg(range) => within(range),
                Stored::Raw { planes, .. } => planes.iter().all(|(range, _)| within(range)),
            });
            assert_eq!(Job::read(&job.to_bytes(), MOST), Ok(job));
        }
        if let Ok(answer) = Answer::read(&answer, MOST) {
            answers += 1;
            assert!(answer.bytes <= MOST);
            if let Some(failure) = answer.failure {
                assert!(
                    failure
                        .reason
                        .bytes()
                        .all(|byte| matches!(byte, b' '..=b'~'))
                );
            }
        }
    }
    assert!(jobs > 1000 && answers > 1000, "{jobs} {answers}");
}
