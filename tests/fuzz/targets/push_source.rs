//! A push server, as a source has it.
#![no_main]

use std::cell::RefCell;

use camd::config::Address;
use camd::source::push::Push;
use camd_fuzz::server::{Server, serve};
use camd_fuzz::{FRAME_BYTES, Input};

thread_local! {
    static PAIR: RefCell<(Push, Server)> = RefCell::new({
        let server = Server::unix();
        (Push::new(Address::Unix(server.path()), FRAME_BYTES, 240), server)
    });
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    PAIR.with_borrow_mut(|(source, server)| serve(source, server, &mut Input(data)));
});
