//! A server of HTTP, as a source has it: redirections, streams, snapshots.
#![no_main]

use std::cell::RefCell;

use camd::config;
use camd::source::http::Http;
use camd_fuzz::server::{Server, serve};
use camd_fuzz::{FRAME_BYTES, Input};

thread_local! {
    static PAIR: RefCell<(Http, Server)> = RefCell::new({
        let server = Server::tcp();
        let text = format!(
            "[camera]\nsource = \"http\"\nurl = \"http://user:secret@127.0.0.1:{}/a/b?c\"\n",
            server.port()
        );
        let config = config::parse(&text, "fuzz.toml").expect("a configuration");
        let url = config.camera.camera_url().expect("it has one");
        (Http::new(url, FRAME_BYTES, 240), server)
    });
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    PAIR.with_borrow_mut(|(source, server)| serve(source, server, &mut Input(data)));
});
