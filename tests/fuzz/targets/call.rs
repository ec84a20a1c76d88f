//! A user of a call listener, with and without a password; and the record by itself.
#![no_main]

use camd::limits::CONTROL_RECORD;
use camd::protocol::call::{Longest, Record};
use camd_fuzz::{CALL, CALL_OPEN, Cuts, FRAME_BYTES, Input, say, with_world};

const LONGEST: Longest = Longest {
    picture: FRAME_BYTES,
    control: CONTROL_RECORD,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let [choice, seed] = [input.byte(), input.byte()];
    record(input.0, seed);
    let listener = [CALL, CALL_OPEN][usize::from(choice & 1)];
    with_world(|world| say(world, listener, seed, input.0));
});

fn record(bytes: &[u8], seed: u8) {
    let whole = Record::parse(bytes, LONGEST);
    if let Ok(Some(record)) = whole {
        let _ = (record.sender(), record.receiver(), record.password());
        assert!(record.reason().chars().all(|c| !c.is_control()));
        let (mut scratch, mut out) = ([0; 512], [0; 256]);
        let _ = record.picture(&mut scratch, &mut out);
    }
    // With less of it there is none yet, or the same violation.
    let (mut left, mut cuts) = (bytes, Cuts::new(seed));
    let mut come = 0;
    while !left.is_empty() {
        come += cuts.next(&mut left).len();
        match Record::parse(&bytes[..come], LONGEST) {
            Ok(None) => {}
            early => {
                assert_eq!(early, whole);
                break;
            }
        }
    }
}
