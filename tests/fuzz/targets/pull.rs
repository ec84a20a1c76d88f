//! A client of pull.
#![no_main]

use camd_fuzz::{Input, PULL, say, with_world};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let seed = input.byte();
    with_world(|world| say(world, PULL, seed, input.0));
});
