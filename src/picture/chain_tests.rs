use std::time::Duration;

use super::super::h264::{SPS_64X48, Splitter};
use super::*;

const KEY: [u8; 4] = [0x65, 0x88, 0x84, 0x0A];
const SLICE: [u8; 4] = [0x41, 0x9A, 0x21, 0x6C];

struct Rig {
    chain: Chain,
    now: Instant,
    parameters: Parameters,
    /// The last byte of the picture parameter set.
    pps: u8,
    /// It stands in front of other pictures, too.
    always: bool,
}

impl Rig {
    fn new(capacity: usize) -> Self {
        Rig {
            chain: Chain::new(capacity),
            now: Instant::now(),
            parameters: Parameters::default(),
            pps: 0x80,
            always: false,
        }
    }

    /// A picture with so many bytes behind its slice's beginning, 20 ms after the last one.
    fn push(&mut self, is_key: bool, more: usize) -> bool {
        let mut bytes = Vec::new();
        if is_key || self.always {
            bytes.extend(
                [
                    &[0, 0, 1],
                    &SPS_64X48[..],
                    &[0, 0, 1, 0x68, 0xCE, 0x3C, self.pps],
                ]
                .concat(),
            );
        }
        bytes.extend([0, 0, 1]);
        bytes.extend(if is_key { KEY } else { SLICE });
        bytes.resize(bytes.len() + more, self.chain.next as u8 | 0x40);
        let mut splitter = Splitter::new(4096);
        splitter.spare()[..bytes.len()].copy_from_slice(&bytes);
        splitter.filled(bytes.len());
        assert!(splitter.next_unit().is_none());
        let unit = splitter.finish().unwrap();
        unit.check(&mut self.parameters).unwrap();
        self.now += Duration::from_millis(20);
        let meta = FrameMeta::taken(self.now, 64, 48);
        self.chain.push(meta, unit, &self.parameters)
    }

    fn after(&self, last: u64, late: u64) -> Option<(u64, bool)> {
        let link = self
            .chain
            .after(last, self.now + Duration::from_millis(late))?;
        Some((link.meta.sequence, link.is_key))
    }
}

#[test]
fn it_begins_with_a_key_picture() {
    let mut rig = Rig::new(1024);
    assert!(!rig.push(false, 0));
    assert_eq!(rig.after(0, 0), None);
    assert!(rig.push(true, 0) && rig.push(false, 0));
    assert_eq!(rig.after(0, 0), Some((1, true)));
    assert_eq!(rig.after(1, 0), Some((2, false)));
    assert_eq!(rig.after(2, 0), None);
}

#[test]
fn one_who_is_too_late_waits_for_the_next_key_picture() {
    let mut rig = Rig::new(1024);
    rig.push(true, 0);
    rig.push(false, 0);
    assert_eq!(rig.after(1, 300), Some((2, false)));
    assert_eq!(rig.after(1, 301), None);
    assert_eq!(rig.after(0, 290), None, "the key picture is older by 20 ms");
    rig.now += Duration::from_millis(400);
    rig.push(false, 0);
    assert_eq!(rig.after(1, 0), None, "number 2 is old, and 3 leans on it");
    assert_eq!(rig.after(2, 0), Some((3, false)));
    rig.push(true, 0);
    assert_eq!(rig.after(1, 0), Some((4, true)));
    assert_eq!(rig.after(3, 0), Some((4, true)));
}

#[test]
fn nothing_leans_over_a_cut() {
    let mut rig = Rig::new(1024);
    rig.push(true, 0);
    rig.chain.cut();
    assert!(!rig.push(false, 0));
    rig.push(true, 0);
    rig.push(false, 0);
    assert_eq!(rig.after(1, 0), Some((3, true)));
    // From a chain that had more of them.
    assert_eq!(rig.after(99, 0), Some((3, true)));
}

#[test]
fn parameters_stay_the_same_as_long_as_they_are() {
    let mut rig = Rig::new(1024);
    rig.push(true, 0);
    let before = Arc::clone(rig.chain.after(0, rig.now).unwrap().parameters);
    rig.push(true, 0);
    let link = rig.chain.after(1, rig.now).unwrap();
    assert!(Arc::ptr_eq(&before, link.parameters));
}

#[test]
fn what_is_too_large_cuts_it() {
    let mut rig = Rig::new(64);
    assert!(rig.push(true, 0));
    assert!(!rig.push(false, 64));
    assert!(!rig.push(false, 0));
    assert!(rig.push(true, 0));
    assert_eq!(rig.after(1, 0), Some((3, true)));
}

/// Whatever the sizes, viewers that ask now and then get what was put in, and never a picture without the one before it.
#[test]
fn viewers_never_get_a_picture_without_its_chain() {
    let mut random = 1u64;
    let mut draw = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % below
    };
    for _ in 0..50 {
        let mut rig = Rig::new(200);
        let mut lasts = [0u64; 4];
        let mut got = [0u32; 4];
        for _ in 0..200 {
            match draw(60) {
                0 => rig.chain.cut(),
                1 => rig.now += Duration::from_millis(350),
                _ => {}
            }
            rig.push(draw(8) == 0, draw(150) as usize);
            for (viewer, last) in lasts.iter_mut().enumerate() {
                // The first always asks, the others are late more and more.
                while draw(1 + 3 * viewer as u64) == 0
                    && let Some(link) = rig.chain.after(*last, rig.now)
                {
                    let sequence = link.meta.sequence;
                    assert!(sequence > *last);
                    assert!(link.is_key || sequence == *last + 1);
                    let length = u32::from_be_bytes(link.sample[..4].try_into().unwrap());
                    assert_eq!(length as usize, link.sample.len() - 4);
                    let filling = &link.sample[8..];
                    assert!(filling.iter().all(|byte| *byte == sequence as u8 | 0x40));
                    *last = sequence;
                    got[viewer] += 1;
                }
            }
        }
        assert!(got.iter().all(|pictures| *pictures > 0), "{got:?}");
    }
}

#[test]
fn other_parameters_without_a_key_picture_cut_it() {
    let mut rig = Rig::new(1024);
    rig.push(true, 0);
    rig.always = true;
    assert!(rig.push(false, 0), "the same ones once more");
    rig.pps = 0x81;
    assert!(!rig.push(false, 0));
    rig.always = false;
    assert!(!rig.push(false, 0), "it leans on what was not taken");
    assert_eq!(rig.after(0, 0), None);
    assert!(rig.push(true, 0));
    assert_eq!(rig.after(2, 0), Some((4, true)));
    let pps = rig.chain.parameters().pps().map(|pps| pps[3]);
    assert_eq!(pps.collect::<Vec<_>>(), [0x81]);
}

#[test]
fn the_distance_of_pictures_is_told() {
    let mut rig = Rig::new(1024);
    rig.push(true, 0);
    let distance = |rig: &Rig| rig.chain.after(0, rig.now).unwrap().distance;
    assert_eq!(distance(&rig), None);
    rig.push(true, 0);
    assert_eq!(distance(&rig), Some(Duration::from_millis(20)));
    // Where it was cut nobody knows how many are missing.
    rig.chain.cut();
    rig.now += Duration::from_secs(5);
    rig.push(true, 0);
    assert_eq!(distance(&rig), Some(Duration::from_millis(20)));
    rig.now += Duration::from_millis(80);
    rig.push(true, 0);
    let mean = (7 * Duration::from_millis(20) + Duration::from_millis(100)) / 8;
    assert_eq!(distance(&rig), Some(mean));
}

#[test]
fn a_picture_as_a_stream_of_bytes_is_what_came() {
    let mut rig = Rig::new(1024);
    assert!(rig.push(true, 9) && rig.push(false, 5));
    let stream = |last| {
        let unit = rig.chain.after(last, rig.now).unwrap();
        let mut bytes = vec![0xEE; unit.sample.len()];
        unit.write_stream(&mut bytes);
        [unit.sets().collect::<Vec<_>>().concat(), bytes].concat()
    };
    let code = [0, 0, 0, 1];
    let pps = [0x68, 0xCE, 0x3C, 0x80];
    let key = [&code, &SPS_64X48[..], &code, &pps, &code, &KEY, &[0x41; 9]].concat();
    assert_eq!(stream(0), key);
    assert_eq!(stream(1), [&code, &SLICE[..], &[0x42; 5]].concat());
}

#[test]
fn who_waits_for_the_next_picture_needs_no_key_picture() {
    let mut rig = Rig::new(1024);
    assert!(rig.chain.lacks_key(0));
    rig.push(true, 0);
    rig.push(false, 0);
    assert!(rig.chain.lacks_key(0) && rig.chain.lacks_key(1));
    assert!(!rig.chain.lacks_key(2));
    rig.chain.cut();
    assert!(rig.chain.lacks_key(2));
}
