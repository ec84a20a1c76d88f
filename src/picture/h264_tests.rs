use super::*;

const SLICE: [u8; 4] = [0x41, 0x9A, 0x21, 0x6C];
const REST: [u8; 4] = [0x41, 0x4A, 0x21, 0x6C];
const KEY: [u8; 4] = [0x65, 0x88, 0x84, 0x0A];
const B: [u8; 4] = [0x01, 0x9E, 0x21, 0x6C];

fn stream(nals: &[(&[u8], &[u8])]) -> Vec<u8> {
    nals.iter()
        .flat_map(|(code, nal)| [*code, *nal].concat())
        .collect()
}

/// The NAL units of each access unit, of a stream that arrives in pieces of so many bytes.
fn split(bytes: &[u8], piece: usize) -> Vec<Vec<Vec<u8>>> {
    let mut splitter = Splitter::new(256);
    let mut units = Vec::new();
    let take = |unit: AccessUnit<'_>| unit.nals().map(<[u8]>::to_vec).collect::<Vec<_>>();
    for piece in bytes.chunks(piece) {
        splitter.spare()[..piece.len()].copy_from_slice(piece);
        splitter.filled(piece.len());
        while let Some(unit) = splitter.next_unit() {
            units.push(take(unit));
        }
    }
    units.extend(splitter.finish().map(take));
    units
}

const LONG: &[u8] = &[0, 0, 0, 1];
const SHORT: &[u8] = &[0, 0, 1];
const AUD: &[u8] = &[9, 0xF0];
const SEI: &[u8] = &[6, 5, 1, 0x55, 0x80];
const PPS: &[u8] = &[0x68, 0xCE, 0x3C, 0x80];

#[test]
fn access_units_are_cut_wherever_reads_end() {
    let bytes = stream(&[
        (LONG, AUD),
        (LONG, &SPS_64X48),
        (LONG, PPS),
        (SHORT, SEI),
        (SHORT, &KEY),
        (SHORT, &REST),
        (LONG, AUD),
        (SHORT, &SLICE),
        (SHORT, &REST),
        // Without anything in front.
        (SHORT, &SLICE),
        (LONG, SEI),
        (SHORT, &SLICE),
    ]);
    let expected: Vec<Vec<&[u8]>> = vec![
        vec![AUD, &SPS_64X48, PPS, SEI, &KEY, &REST],
        vec![AUD, &SLICE, &REST],
        vec![&SLICE],
        vec![SEI, &SLICE],
    ];
    for piece in 1..=bytes.len() {
        assert_eq!(split(&bytes, piece), expected, "in pieces of {piece}");
    }
}

#[test]
fn what_does_not_fit_is_counted_and_the_next_one_comes() {
    let mut large = SLICE.to_vec();
    large.resize(300, 0x55);
    let bytes = stream(&[
        (LONG, &SLICE),
        (LONG, &large),
        (LONG, &SLICE),
        (LONG, &SLICE),
    ]);
    let mut splitter = Splitter::new(256);
    let mut units = 0;
    // One at a time: there is room for one always.
    for byte in bytes {
        splitter.spare()[0] = byte;
        splitter.filled(1);
        while let Some(unit) = splitter.next_unit() {
            assert_eq!(unit.nals().collect::<Vec<_>>(), [&SLICE]);
            units += 1;
        }
    }
    assert_eq!((units, splitter.lost().oversized), (2, 1));
}

#[test]
fn key_pictures_and_those_without_a_beginning_are_told() {
    let mut splitter = Splitter::new(256);
    let bytes = stream(&[(LONG, &REST), (LONG, AUD), (LONG, &KEY), (LONG, &SLICE)]);
    splitter.spare()[..bytes.len()].copy_from_slice(&bytes);
    splitter.filled(bytes.len());
    let mut found = Vec::new();
    while let Some(unit) = splitter.next_unit() {
        found.push((unit.has_beginning(), unit.is_key()));
    }
    found.extend(
        splitter
            .finish()
            .map(|unit| (unit.has_beginning(), unit.is_key())),
    );
    assert_eq!(found, [(false, false), (true, true), (true, false)]);
}

fn check(nals: &[&[u8]]) -> (Result<(), Refusal>, Parameters) {
    let bytes = nals.concat();
    let mut ranges = Vec::new();
    let mut at = 0;
    for nal in nals {
        ranges.push(at..at + nal.len());
        at += nal.len();
    }
    let unit = AccessUnit {
        bytes: &bytes,
        nals: &ranges,
    };
    let mut parameters = Parameters::default();
    (unit.check(&mut parameters), parameters)
}

#[test]
fn b_pictures_are_refused() {
    assert_eq!(check(&[&SLICE]).0, Ok(()));
    assert_eq!(check(&[&B]).0, Err(Refusal::BPictures));
}

#[test]
fn parameter_sets_tell_size_profile_and_level() {
    let (checked, parameters) = check(&[&SPS_64X48, PPS]);
    assert_eq!(checked, Ok(()));
    assert!(parameters.are_whole());
    assert_eq!(parameters.profile(), [0x42, 0xC0, 0x0A]);
    let size = Size {
        width: 64,
        height: 48,
    };
    assert_eq!(parameters.size(), Some(size));
}

#[test]
fn parameter_sets_that_break_off_or_are_too_long_are_refused() {
    for len in 1..6 {
        let (checked, _) = check(&[&SPS_64X48[..len]]);
        assert_eq!(checked, Err(Refusal::Damaged), "{len} bytes");
    }
    let long = [0x68; PARAMETER_SET + 1];
    assert_eq!(check(&[&long]).0, Err(Refusal::TooLong));
}

fn fill(splitter: &mut Splitter, bytes: &[u8]) {
    splitter.spare()[..bytes.len()].copy_from_slice(bytes);
    splitter.filled(bytes.len());
}

#[test]
fn a_picture_can_be_taken_before_the_next_one_begins() {
    let mut splitter = Splitter::new(256);
    assert!(splitter.flush().is_none(), "nothing came");
    fill(&mut splitter, &stream(&[(LONG, AUD), (LONG, PPS)]));
    assert!(splitter.next_unit().is_none());
    assert!(splitter.flush().is_none(), "no slice of it came");
    for (number, code) in [LONG, SHORT, LONG].into_iter().enumerate() {
        fill(&mut splitter, &stream(&[(code, &SLICE), (SHORT, &REST)]));
        assert!(splitter.next_unit().is_none());
        assert!(splitter.has_picture());
        let unit = splitter.flush().expect("a picture");
        let slices = unit.nals().filter(|nal| nal::kind(nal[0]) == nal::SLICE);
        assert_eq!(slices.collect::<Vec<_>>(), [&SLICE, &REST], "{number}");
        assert!(!splitter.has_picture());
        assert!(splitter.flush().is_none(), "once only");
    }
    // Zeros in front of a start code belong to nothing.
    for piece in [&[0, 0][..], &[0], &[0, 1, 0x41, 0x9A, 0x21]] {
        fill(&mut splitter, piece);
        assert!(splitter.next_unit().is_none());
    }
    let unit = splitter.flush().expect("a picture of one slice");
    assert_eq!(unit.nals().collect::<Vec<_>>(), [&SLICE[..3]]);
    assert_eq!(splitter.lost(), Lost::default());
}

#[test]
fn a_picture_that_goes_on_after_it_was_taken_is_counted() {
    let mut splitter = Splitter::new(256);
    for (torn, rest) in [(1, &[0x55, 0x66][..]), (2, &[0, 0, 3, 1][..])] {
        fill(&mut splitter, &stream(&[(LONG, &SLICE)]));
        assert!(splitter.next_unit().is_none());
        assert!(splitter.flush().is_some());
        fill(&mut splitter, rest);
        assert!(splitter.next_unit().is_none());
        assert_eq!(splitter.lost().torn, torn);
    }
}

/// A picture parameter set with these identifiers, of it and of its sequence parameter set.
fn pps(own: u8, sequence: u8) -> Vec<u8> {
    // ue(v) of 0 is 1, of 1 is 010, of 2 is 011.
    let codes = ["1", "010", "011"];
    let bits = format!(
        "{}{}11",
        codes[usize::from(own)],
        codes[usize::from(sequence)]
    );
    let bits = format!("{bits:0<16}");
    let byte = |at: usize| u8::from_str_radix(&bits[at..at + 8], 2).unwrap();
    vec![0x68, byte(0), byte(8), 0x80]
}

/// A key picture's slice that names this picture parameter set.
fn key_by(pps: u8) -> Vec<u8> {
    // first_mb_in_slice 0, slice_type 7.
    let code = ["1", "010", "011"][usize::from(pps)];
    let bits = format!("{:0<16}", format!("10001000{code}1"));
    let bytes = [0, 8].map(|at| u8::from_str_radix(&bits[at..at + 8], 2).unwrap());
    [&[0x65][..], &bytes].concat()
}

#[test]
fn sets_are_kept_by_their_identifiers() {
    let (zero, one) = (pps(0, 0), pps(1, 0));
    let (checked, parameters) = check(&[&SPS_64X48, &zero, &one, &zero, &SPS_64X48, &key_by(1)]);
    assert_eq!(checked, Ok(()));
    assert!(parameters.are_whole());
    assert_eq!(parameters.sps().collect::<Vec<_>>(), [&SPS_64X48]);
    assert_eq!(parameters.pps().collect::<Vec<_>>(), [&zero, &one]);
    // The second one replaces the first.
    let other = [&pps(0, 0)[..], &[0x77]].concat();
    let (_, parameters) = check(&[&SPS_64X48, &zero, &one, &other]);
    assert_eq!(parameters.pps().collect::<Vec<_>>(), [&other, &one]);
}

#[test]
fn a_key_picture_without_its_sets_cannot_be_decoded() {
    let (zero, one) = (pps(0, 0), pps(1, 1));
    for (named, is_whole) in [(0, true), (1, false), (2, false)] {
        let (_, parameters) = check(&[&SPS_64X48, &zero, &one, &key_by(named)]);
        assert_eq!(parameters.are_whole(), is_whole, "by {named}");
    }
}
