//! The page, as people use it, in the browsers that they use. What is tried is in `tests/peers/page.py`.

use std::process::Command;

use crate::common::{
    Camd, Folder, LISTENERS, PATIENCE, Response, Stream, assert_closed, connect, pattern, python,
    read_response, request, run, send,
};

/// One of the functions in `page.py`.
fn try_page(browser: &str, scenario: &str, camd: &Camd) {
    try_page_with(browser, scenario, camd, &[]);
}

fn try_page_with(browser: &str, scenario: &str, camd: &Camd, environment: &[(&str, &str)]) {
    // The browser's own.
    let folder = Folder::new();
    let mut page: Command = python("page.py");
    page.envs(environment.iter().copied());
    page.args([browser, scenario]).arg(folder.path());
    page.arg(format!("http://{}/", camd.http()));
    page.arg(camd.pid().to_string()).arg(camd.config_path());
    let output = run(&mut page);
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

/// The test picture for browsers only, with more keys of the listener.
fn with(keys: &str, more: &str) -> Camd {
    Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\nlinger_s = 0\n\
         [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n{keys}\n{more}"
    ))
}

#[test]
fn a_page_in_chromium_from_its_opening_to_its_end() {
    try_page("chromium", "life", &Camd::start(&pattern()));
}

#[test]
fn a_page_in_firefox_from_its_opening_to_its_end() {
    try_page("firefox", "life", &Camd::start(&pattern()));
}

#[test]
fn seven_pages_in_one_chromium() {
    try_page("chromium", "seven", &Camd::start(&pattern()));
}

#[test]
fn seven_pages_in_one_firefox() {
    try_page("firefox", "seven", &Camd::start(&pattern()));
}

#[test]
fn as_many_pages_as_places() {
    try_page("chromium", "places", &with("clients = 2", ""));
}

#[test]
fn a_camera_that_is_not_there_at_first() {
    let camera = "[camera]\nsource = \"v4l2\"\ndevice = \"/dev/video-missing\"\nlinger_s = 0\n";
    try_page(
        "chromium",
        "absent",
        &Camd::start(&format!("{camera}{LISTENERS}")),
    );
}

#[test]
fn a_page_on_a_phone_with_long_and_wicked_names() {
    let neighbour =
        |name: &str, url: &str| format!("[[neighbour]]\nname = \"{name}\"\nurl = \"{url}\"\n");
    let neighbours = [
        neighbour("Garage", ":8090"),
        neighbour("<img src=x onerror='ran = 1'>", "/barn/"),
        neighbour(&"N".repeat(32), "https://box.example/webcam/?a=b"),
    ];
    try_page("chromium", "phone", &with("", &neighbours.concat()));
}

#[test]
fn a_page_under_a_path_with_controls() {
    // Larger than what is asked for there.
    let camera = "[camera]\nsource = \"pattern\"\nwidth = 640\nheight = 480\nlinger_s = 0\n";
    try_page(
        "chromium",
        "proxy",
        &Camd::start(&format!("{camera}{LISTENERS}")),
    );
}

#[test]
fn the_page_and_what_belongs_to_it() {
    let camd = Camd::start(&format!(
        "[camera]\nname = \"Küche \\\"2\\\"\"\nsource = \"pattern\"\n{LISTENERS}"
    ));
    let page = camd.get("/");
    assert!(page.body.len() < 32 * 1024, "{} bytes", page.body.len());
    for icon in ["/favicon.ico", "/icon.svg"] {
        let icon = camd.get(icon);
        assert_eq!(icon.field("Content-Type"), Some("image/svg+xml"));
        assert!(icon.text().starts_with("<svg ") && icon.text().trim_end().ends_with("</svg>"));
        assert!(icon.body.len() < 1000, "{} bytes", icon.body.len());
    }
    let manifest = camd.get("/manifest.webmanifest");
    assert_eq!(
        manifest.field("Content-Type"),
        Some("application/manifest+json")
    );
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.body).expect("JSON");
    assert_eq!(manifest["name"], "Küche \"2\"");
    assert_eq!(manifest["icons"][0]["src"], "icon.svg");
    // Whatever path a proxy has put in front.
    assert_eq!(manifest["start_url"], ".");
    assert_eq!(manifest["scope"], ".");
}

#[test]
fn neighbours_are_in_the_state_and_change_with_a_reload() {
    let neighbour = |name: &str| format!("[[neighbour]]\nname = \"{name}\"\nurl = \":8090/\"\n");
    let camd = with("", &neighbour("Shed"));
    let expected = |name: &str| serde_json::json!([{ "name": name, "url": ":8090/" }]);
    assert_eq!(camd.state()["neighbours"], expected("Shed"));
    let path = camd.config_path();
    let text = std::fs::read_to_string(&path).expect("its configuration");
    let text = text.replace("Shed", "Barn");
    std::fs::write(&path, text).expect("a folder of our own");
    camd.signal(nix::sys::signal::Signal::SIGHUP);
    camd.wait_state("the new neighbour", |state| {
        state["neighbours"] == expected("Barn")
    });
    assert_eq!(
        Camd::start(&pattern()).state()["neighbours"],
        serde_json::json!([])
    );
}

#[test]
fn what_takes_no_place_is_answered_when_all_are_taken() {
    let camd = with("clients = 1", "");
    let mut viewer = Stream::open(camd.http(), "/stream");
    viewer.next();
    // More often than there are slots for those above the limit.
    for _ in 0..5 {
        for (target, content_type) in [
            ("/", "text/html"),
            ("/state?once", "application/json"),
            ("/state?a=b&once", "application/json"),
            ("/favicon.ico", "image/svg+xml"),
            ("/manifest.webmanifest", "application/manifest+json"),
            ("/controls", "application/json"),
        ] {
            let page = ask_once(&camd, target);
            let got = page.field("Content-Type").expect("a type");
            assert!(got.starts_with(content_type), "{target}: {got}");
        }
    }
    let state: serde_json::Value =
        serde_json::from_slice(&camd.get("/state?once").body).expect("JSON");
    assert_eq!(state["listeners"][0]["refused"], 0, "{state:#}");
    assert_eq!(state["listeners"][0]["clients"], 1, "{state:#}");
    for target in ["/stream", "/snapshot", "/state", "/state?twice", "/metrics"] {
        let refusal = camd.get(target);
        assert_eq!(refusal.status, 503, "{target}");
        assert!(refusal.text().contains("all client slots are taken"));
    }
    let state: serde_json::Value =
        serde_json::from_slice(&camd.get("/state?once").body).expect("JSON");
    assert_eq!(state["listeners"][0]["refused"], 5, "{state:#}");
    viewer.next();
}

#[test]
fn the_pages_own_looks_end_their_connection() {
    let camd = with("", "");
    for target in ["/state?once", "/favicon.ico", "/manifest.webmanifest"] {
        ask_once(&camd, target);
    }
}

/// The connection ends with the reply, though the client would go on.
fn ask_once(camd: &Camd, target: &str) -> Response {
    let mut stream = connect(camd.http());
    send(
        &mut stream,
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    );
    let page = read_response(&mut stream, false);
    assert_eq!(page.status, 200, "{target}");
    assert_eq!(page.field("Connection"), Some("close"), "{target}");
    assert_closed(&mut stream);
    page
}

#[test]
fn options_tell_who_may_set_controls() {
    for (keys, expected) in [
        ("set_controls = true", "GET, HEAD, OPTIONS, POST"),
        ("set_controls = false", "GET, HEAD, OPTIONS"),
    ] {
        let options = request(
            with(keys, "").http(),
            "OPTIONS /controls HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(options.field("Allow"), Some(expected), "{keys}");
    }
}

/// Anna, who may everything, and a dashboard.
const USERS: &str = "[[user]]\nname = \"anna\"\npassword = \"päss: wört\"\nmay = [\"watch\", \"control\"]\n\
    [[user]]\nname = \"dashboard\"\ntoken = \"0123456789abcdef-_.~\"\n";
/// What the script itself shows.
const LOGIN: (&str, &str) = ("CAMD_LOGIN", "Basic YW5uYTpww6Rzczogd8O2cnQ=");

#[test]
fn a_login_in_chromium() {
    try_page_with("chromium", "login", &with("", USERS), &[LOGIN]);
}

#[test]
fn a_login_in_firefox() {
    try_page_with("firefox", "login", &with("", USERS), &[LOGIN]);
}

#[test]
fn a_token_in_chromium() {
    try_page_with("chromium", "token", &with("", USERS), &[LOGIN]);
}

#[test]
fn a_token_in_firefox() {
    try_page_with("firefox", "token", &with("", USERS), &[LOGIN]);
}

/// Anna, who may bring the box another system, and Otto, who may not.
const UPDATERS: &str = "[[user]]\nname = \"anna\"\npassword = \"secret\"\nmay = [\"watch\", \"update\"]\n\
    [[user]]\nname = \"otto\"\npassword = \"secret\"\n";

#[test]
fn an_update_in_chromium() {
    try_update("chromium");
}

#[test]
fn an_update_in_firefox() {
    try_update("firefox");
}

fn try_update(browser: &str) {
    let folder = Folder::new();
    let socket = folder.path().join("update");
    let mut command = Command::new(env!("CARGO_BIN_EXE_camd"));
    command.arg("--update").arg(&socket);
    let config = format!(
        "[camera]\nsource = \"pattern\"\nwidth = 320\nheight = 240\nlinger_s = 0\n\
         [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n{UPDATERS}"
    );
    let camd = Camd::start_as(&mut command, &config, PATIENCE);
    let updater = ("CAMD_UPDATER", socket.to_str().expect("it is text"));
    let login = ("CAMD_LOGIN", "Basic YW5uYTpzZWNyZXQ=");
    try_page_with(browser, "update", &camd, &[updater, login]);
}

/// A browser for which this name, and those of this machine, lead here.
const NAMES: (&str, &str) = ("CHROMIUM_ARGS", "--host-resolver-rules=MAP * 127.0.0.1");

#[test]
fn a_name_that_leads_to_another_machine_at_last() {
    let camd = Camd::start(
        "[camera]\nname = \"rebind me\"\nsource = \"pattern\"\nwidth = 320\nheight = 240\nlinger_s = 0\n\
         [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n",
    );
    try_page_with("chromium", "rebind", &camd, &[NAMES]);
}

#[test]
fn a_page_of_another_site_shows_pictures_and_no_more() {
    try_page_with("chromium", "embedded", &with("", ""), &[NAMES]);
}

#[test]
fn or_not_even_those() {
    try_page_with("chromium", "kept", &with("embed = false", ""), &[NAMES]);
}
