//! URLs and addresses of the configuration and the command line. A password in one is never shown.
#![no_main]

use camd::command::{cli, fetch};
use camd::config;
use camd_fuzz::Input;

const PASSWORD: &str = "Geheim7Wort";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let choice = input.byte();
    let Ok(text) = std::str::from_utf8(input.0) else {
        return;
    };
    let url = match choice & 3 {
        0 => text.to_owned(),
        1 => format!("http://user:{PASSWORD}@{text}"),
        2 => format!("call://user:{PASSWORD}@{text}"),
        _ => format!("http://user:{PASSWORD}{text}@host/"),
    };
    let secret = choice & 3 != 0 && !text.contains(PASSWORD);
    match choice >> 2 & 7 {
        0 => hidden(&url, secret),
        1 => asked(&url, secret),
        2 => camera(&url, secret),
        3 => place(&format!(
            "[camera]\nsource = \"push\"\naddress = {}\n",
            quoted(&url)
        )),
        4 => place(&format!(
            "[camera]\nsource = \"call\"\n[call]\ndial = {}\n",
            quoted(&url)
        )),
        5 => place(&format!(
            "[[listener]]\nprotocol = \"http\"\nbind = {}\nallow_origin = {0}\n",
            quoted(&url)
        )),
        6 => place(&format!(
            "[[neighbour]]\nname = \"x\"\nurl = {}\n",
            quoted(&url)
        )),
        _ => place(&format!(
            "[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\nbase_path = {}\n",
            quoted(&url)
        )),
    }
});

/// For the log.
fn hidden(url: &str, secret: bool) {
    let hidden = fetch::without_password(url);
    assert!(hidden.len() <= url.len() + 3);
    if secret {
        assert!(!hidden.contains(PASSWORD), "{url:?} is shown as {hidden:?}");
    }
}

/// On the command line. Opens nothing.
fn asked(url: &str, secret: bool) {
    if let Err(error) = cli::parse(["fetch", url]) {
        assert!(!(secret && error.message.contains(PASSWORD)), "{error:?}");
    }
}

/// Where a camera is.
fn camera(url: &str, secret: bool) {
    let file = format!("[camera]\nsource = \"http\"\nurl = {}\n", quoted(url));
    match config::parse(&file, "fuzz.toml") {
        Ok(config) => {
            let url = config.camera.camera_url().expect("it is the source");
            assert!(url.target.starts_with('/'));
            assert!(url.target.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(url.host_field().bytes().all(|byte| byte.is_ascii_graphic()));
            let shown = format!("{url} {url:?}");
            assert!(!(secret && shown.contains(PASSWORD)), "{shown}");
        }
        Err(errors) => {
            let shown = format!("{errors:?}");
            assert!(!(secret && shown.contains(PASSWORD)), "{shown}");
        }
    }
}

/// Any other address.
fn place(file: &str) {
    if let Err(errors) = config::parse(file, "fuzz.toml") {
        assert!(!errors.is_empty());
        for error in errors {
            let said = error.to_string();
            assert!(!said.contains(|c: char| c.is_control()), "{said:?}");
        }
    }
}

/// As a string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            ' '..='~' if c != '"' && c != '\\' => quoted.push(c),
            _ => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}
