use super::*;
use crate::picture::h264::{SPS_64X48, Splitter};

const PPS: [u8; 4] = [0x68, 0xCE, 0x0F, 0xC8];
const SAMPLE: [u8; 8] = [0, 0, 0, 4, 0x65, 0x88, 0x84, 0x0A];

fn parameters(pps: [u8; 4]) -> Arc<Parameters> {
    let bytes = [
        &[0, 0, 1],
        &SPS_64X48[..],
        &[0, 0, 1],
        &pps,
        &[0, 0, 1],
        &SAMPLE[4..],
    ]
    .concat();
    let mut splitter = Splitter::new(256);
    splitter.spare()[..bytes.len()].copy_from_slice(&bytes);
    splitter.filled(bytes.len());
    assert!(splitter.next_unit().is_none());
    let mut parameters = Parameters::default();
    let unit = splitter.finish().unwrap();
    unit.check(&mut parameters).unwrap();
    Arc::new(parameters)
}

fn unit(parameters: &Arc<Parameters>, captured: Instant, is_key: bool) -> Unit<'_> {
    Unit {
        meta: FrameMeta::taken(captured, 64, 48),
        is_key,
        parameters,
        sample: &SAMPLE,
        distance: None,
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    let pairs = digits.chunks_exact(2);
    pairs.map(|pair| (16 * pair[0] + pair[1]) as u8).collect()
}

/// Box by box as in the standards; what is behind a space is one field.
#[test]
fn the_first_picture_is_written_byte_for_byte() {
    let parameters = parameters(PPS);
    let mut head = Head::new();
    let mut film = Film::default();
    film.frame(&unit(&parameters, Instant::now(), true), &mut head)
        .unwrap();
    let matrix = "00010000 0000000000000000 00000000 00010000 0000000000000000 00000000 40000000";
    let avcc = "0000002C 61766343 01 42C00A FF E1 0015 6742C00ADA11EC04400000030040000005 03C489A8 01 0004 68CE0FC8";
    let expected = format!(
        "00000020 66747970 69736F6D 00000200 69736F6D 69736F35 61766331 6D703431
         0000026B 6D6F6F76
         0000006C 6D766864 00000000 0000000000000000 00015F90 00000000 00010000 01000000 0000000000000000
           {matrix} 000000000000000000000000000000000000000000000000 00000002
         000001CF 7472616B
         0000005C 746B6864 00000003 0000000000000000 00000001 00000000 00000000 0000000000000000 0000000000000000
           {matrix} 00400000 00300000
         0000016B 6D646961
         00000020 6D646864 00000000 0000000000000000 00015F90 00000000 55C40000
         00000025 68646C72 00000000 00000000 76696465 000000000000000000000000 63616D6400
         0000011E 6D696E66
         00000014 766D6864 00000001 0000000000000000
         00000024 64696E66 0000001C 64726566 00000000 00000001 0000000C 75726C20 00000001
         000000DE 7374626C
         00000092 73747364 00000000 00000001
         00000082 61766331 000000000000 0001 00000000000000000000000000000000 0040 0030 00480000 00480000 00000000 0001
           0000000000000000000000000000000000000000000000000000000000000000 0018 FFFF
         {avcc}
         00000010 73747473 00000000 00000000
         00000010 73747363 00000000 00000000
         00000014 7374737A 00000000 00000000 00000000
         00000010 7374636F 00000000 00000000
         00000028 6D766578 00000020 74726578 00000000 00000001 00000001 00000000 00000000 00000000
         00000064 6D6F6F66
         00000010 6D666864 00000000 00000001
         0000004C 74726166
         00000010 74666864 00020000 00000001
         00000014 74666474 01000000 0000000000000000
         00000020 7472756E 00000701 00000001 0000006C 00004650 00000008 02000000
         00000010 6D646174"
    );
    assert_eq!(head[..], hex(&expected)[..]);
}

#[test]
fn later_pictures_tell_their_time() {
    let parameters = parameters(PPS);
    let now = Instant::now();
    let mut film = Film::default();
    let mut head = Head::new();
    film.frame(&unit(&parameters, now, true), &mut head)
        .unwrap();
    film.began();
    let at = |ms| now + Duration::from_millis(ms);
    // The socket took nothing of this one.
    head.clear();
    film.frame(&unit(&parameters, at(10), false), &mut head);
    head.clear();
    let chunk = film.frame(&unit(&parameters, at(20), false), &mut head);
    let expected = hex("00000064 6D6F6F66
         00000010 6D666864 00000000 00000002
         0000004C 74726166
         00000010 74666864 00020000 00000001
         00000014 74666474 01000000 0000000000000708
         00000020 7472756E 00000701 00000001 0000006C 000041EB 00000008 01010000
         00000010 6D646174");
    assert_eq!(head[..], expected[..]);
    assert_eq!(chunk.map(|chunk| chunk.payload), Some(8));
    film.began();
    head.clear();
    film.frame(&unit(&parameters, at(20), false), &mut head);
    assert_eq!(
        head[60..68],
        (1800u64 + 2850 / 2).to_be_bytes(),
        "half the mean distance on"
    );
}

#[test]
fn other_parameters_end_it() {
    let (before, after) = (parameters(PPS), parameters([0x68, 0xCE, 0x0F, 0xC9]));
    let now = Instant::now();
    let mut film = Film::default();
    film.frame(&unit(&before, now, true), &mut Head::new());
    film.began();
    let same = parameters(PPS);
    assert!(
        film.frame(&unit(&same, now, true), &mut Head::new())
            .is_some()
    );
    assert!(
        film.frame(&unit(&after, now, true), &mut Head::new())
            .is_none()
    );
}

#[test]
fn the_first_picture_lasts_as_pictures_do() {
    let parameters = parameters(PPS);
    for (ms, lasts) in [(0, 18_000), (10, 3_000), (200, 2 * 18_000), (5_000, 90_000)] {
        let mut head = Head::new();
        let first = Unit {
            distance: Some(Duration::from_millis(ms)),
            ..unit(&parameters, Instant::now(), true)
        };
        Film::default().frame(&first, &mut head).unwrap();
        // In front of the size, the flags, and the beginning of `mdat`.
        let at = head.len() - 20;
        assert_eq!(head[at..at + 4], u32::to_be_bytes(lasts), "{ms} ms");
    }
}
