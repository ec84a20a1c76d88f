//! How the page plays H.264. What is tried is in `tests/peers/player.py`, and the camera is `tests/peers/clock.py`.

use crate::common::{Camd, Folder, pattern, python, run};

/// A camera that gives H.264 with its time in each picture, for browsers only. `key`: how many pictures it is from one key
/// picture to the next. In this folder's file "width" it may be told another width.
fn clock(folder: &Folder, key: u16, more: &str) -> Camd {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/clock.py");
    let file = folder.path().join("width");
    Camd::start(&format!(
        "[camera]\nsource = \"pipe\"\nlinger_s = 0\n\
         command = [\"python3\", {program:?}, \"320\", \"240\", \"25\", \"{key}\", {file:?}]\n\
         [[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n{more}"
    ))
}

/// One of the functions in a script, with more environment.
fn try_with(browser: &str, script: &str, scenario: &str, camd: &Camd, more: &[(&str, &str)]) {
    let folder = Folder::new();
    let mut player = python(script);
    player.envs(more.iter().copied());
    player.args([browser, scenario]).arg(folder.path());
    player.arg(format!("http://{}/", camd.http()));
    player.arg(camd.pid().to_string()).arg(camd.config_path());
    let output = run(&mut player);
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

fn try_player(browser: &str, scenario: &str) {
    let camd = clock(&Folder::new(), 50, "");
    try_with(browser, "player.py", scenario, &camd, &[]);
}

#[test]
fn a_page_with_h264_in_chromium_from_its_opening_to_its_end() {
    try_player("chromium", "life");
}

#[test]
fn a_page_with_h264_in_firefox_from_its_opening_to_its_end() {
    try_player("firefox", "life");
}

#[test]
fn one_click_to_mjpeg_and_back() {
    try_player("chromium", "choice");
}

#[test]
fn at_the_edge_for_a_minute_with_another_camera_and_another_camd() {
    try_player("chromium", "minute");
}

#[test]
fn a_browser_that_cannot_play_it() {
    try_player("chromium", "unable");
}

#[test]
fn films_with_faults() {
    try_player("chromium", "faults");
}

#[test]
fn other_parameters_from_one_picture_to_the_next() {
    let folder = Folder::new();
    let camd = clock(&folder, 50, "");
    let file = folder.path().join("width").display().to_string();
    try_with(
        "chromium",
        "player.py",
        "sizes",
        &camd,
        &[("WIDTH_FILE", &file)],
    );
}

#[test]
fn over_a_slow_link() {
    try_player("chromium", "slow");
}

#[test]
fn a_hidden_page_and_one_in_its_own_window() {
    try_player("chromium", "hidden");
}

#[test]
fn on_a_phone() {
    try_player("chromium", "phones");
}

#[test]
fn what_is_seen_can_be_kept() {
    try_player("chromium", "saved");
}

#[test]
fn a_page_with_h264_by_a_token_and_below_a_path() {
    let user = "[[user]]\nname = \"dashboard\"\ntoken = \"0123456789abcdef-_.~\"\n";
    let camd = clock(&Folder::new(), 50, user);
    // What the script itself shows.
    let login = [("CAMD_LOGIN", "Bearer 0123456789abcdef-_.~")];
    try_with("chromium", "player.py", "token", &camd, &login);
}

#[test]
fn a_page_without_h264_loads_no_player() {
    try_with(
        "chromium",
        "player.py",
        "costs",
        &Camd::start(&pattern()),
        &[],
    );
}
