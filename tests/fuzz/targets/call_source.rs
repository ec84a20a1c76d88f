//! A relay, as a source that calls one of its users has it.
#![no_main]

use std::cell::RefCell;

use camd::config;
use camd::source::call::Call;
use camd_fuzz::server::{Server, serve};
use camd_fuzz::{FRAME_BYTES, Input};

thread_local! {
    static PAIR: RefCell<(Call, Server)> = RefCell::new({
        let server = Server::tcp();
        let text = format!(
            "[camera]\nsource = \"call\"\n[call]\ndial = \"camera@127.0.0.1:{}\"\nuser = \"hall\"\npassword = \"secret\"\n",
            server.port()
        );
        let config = config::parse(&text, "fuzz.toml").expect("a configuration");
        (Call::new(&config.call, FRAME_BYTES, 240), server)
    });
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    PAIR.with_borrow_mut(|(source, server)| serve(source, server, &mut Input(data)));
});
