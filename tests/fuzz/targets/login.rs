//! A client of an http listener with users, of whom it knows nobody: Authorization, tokens, and what proxies add. It never
//! sees the camera, and how its request was cut into packets changes nothing.
#![no_main]

use std::time::Duration;

use camd_fuzz::{HTTP_USERS, Input, say, with_world};

/// Longer than anybody's wrong passwords are remembered.
const FORGOTTEN: Duration = Duration::from_secs(3600);

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let [choice, seed] = [input.byte(), input.byte()];
    with_world(|world| {
        world.now += FORGOTTEN;
        let answers = say(world, HTTP_USERS, seed, input.0);
        if choice & 1 != 0 {
            world.now += FORGOTTEN;
            let others = say(world, HTTP_USERS, 0, input.0);
            let refused = |status: &i32| *status == 401;
            assert_eq!(
                answers.iter().any(refused),
                others.iter().any(refused),
                "who is let in depends on how the request was cut"
            );
        }
    });
});
