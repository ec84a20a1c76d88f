//! A client of http: what it sends, cut in two ways, must lead to the same answers.
#![no_main]

use camd_fuzz::{HTTP, HTTP_OPEN, Input, say, with_world};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let [choice, seed] = [input.byte(), input.byte()];
    let listener = [HTTP, HTTP_OPEN][usize::from(choice & 1)];
    with_world(|world| {
        let answers = say(world, listener, seed, input.0);
        if choice & 2 != 0 {
            let others = say(world, listener, 0, input.0);
            assert_eq!(
                sorts(answers),
                sorts(others),
                "the answers depend on how the request was cut"
            );
        }
    });
});

/// A head that is too long and malformed, too, may be told either.
fn sorts(answers: Vec<i32>) -> Vec<i32> {
    let sort = |status| {
        if matches!(status, 431 | 505) {
            400
        } else {
            status
        }
    };
    answers.into_iter().map(sort).collect()
}
