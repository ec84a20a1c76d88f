//! A server, as `camd fetch` has it: what it says in place of pictures is told in one line, and what was in the URL is not.
#![no_main]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use camd::command::fetch::{self, FetchOptions, FilmOptions, Output};
use camd_fuzz::{Cuts, Input, start};
use socket2::SockRef;

/// What each connection is told: with its seed.
type Script = Arc<Mutex<(u8, Vec<u8>)>>;

/// Its port. It says the same on each connection: redirections lead here, too.
fn server() -> &'static (u16, Script) {
    static SERVER: OnceLock<(u16, Script)> = OnceLock::new();
    SERVER.get_or_init(|| {
        start();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let script = Script::default();
        let said = Arc::clone(&script);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.expect("somebody");
                // Who closes resets: ports come back at once.
                let _ = SockRef::from(&connection).set_linger(Some(Duration::ZERO));
                let _ = connection.set_nodelay(true);
                let (seed, bytes) = said.lock().expect("nobody panics with it").clone();
                let (mut left, mut cuts) = (&bytes[..], Cuts::new(seed));
                while !left.is_empty() && connection.write_all(cuts.next(&mut left)).is_ok() {}
                let _ = connection.shutdown(std::net::Shutdown::Write);
                let _ = connection.set_read_timeout(Some(Duration::from_secs(5)));
                let mut rest = [0; 4096];
                while connection.read(&mut rest).is_ok_and(|n| n > 0) {}
            }
        });
        (port, script)
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let [choice, seed] = [input.byte(), input.byte()];
    let (port, script) = server();
    *script.lock().expect("nobody panics with it") = (seed, input.0.to_vec());
    let (scheme, login, target, count) = match choice % 8 {
        0..=2 => ("http", "user:sesame@", "/stream", 0),
        3 => ("http", "user:sesame@", "/snapshot", 1),
        4 => ("push", "", "", 0),
        5 => ("raw", "", "", 0),
        6 => ("pull", "", "", 0),
        _ => ("call", "user:sesame@", "/camera", 0),
    };
    let options = FetchOptions {
        url: format!("{scheme}://{login}127.0.0.1:{port}{target}"),
        fingerprint: None,
        count,
        output: Output::File(PathBuf::from("/dev/null")),
        film: FilmOptions::default(),
        timeout: Duration::from_secs(10),
    };
    if let Err(error) = fetch::run(&options) {
        let text = error.to_string();
        assert!(
            !text.is_empty() && !text.contains(char::is_control),
            "more than a line: {text:?}"
        );
        assert!(
            !text.contains("sesame") || input.0.windows(6).any(|it| it == b"sesame"),
            "it tells the password: {text:?}"
        );
    }
});
