//! The manual pages are those of this program, and groff renders them without a warning.

#[path = "man/pages.rs"]
mod pages;

use std::fs;
use std::path::Path;
use std::process::Command;

use camd::config::setting::SETTINGS;

/// As a terminal shows it. Any warning fails the test.
fn render(path: &Path) -> String {
    let output = Command::new("groff")
        .args(["-K", "utf8", "-man", "-ww", "-Tutf8", "-P-cbou"])
        .arg(path)
        .output()
        .unwrap_or_else(|error| panic!("groff: {error}; tests/setup installs it"));
    let warnings = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && warnings.is_empty(), "{warnings}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_pages_are_up_to_date_and_render_without_warnings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/man");
    for (file, page) in pages::pages() {
        let path = folder.join(file);
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == page,
            "{} is out of date: cargo run --example man",
            path.display()
        );
        let text = render(&path);
        for section in ["NAME", "SEE ALSO"] {
            assert!(
                text.contains(&format!("\n{section}\n")),
                "{section}: {text}"
            );
        }
        // A word that is a request to roff is lost.
        let long = text.lines().find(|line| line.chars().count() > 100);
        assert_eq!(long, None, "{file}");
    }
}

/// What people look for in them.
#[test]
fn the_pages_have_all_keys_options_and_commands() {
    let [(_, program), (_, configuration)] = pages::pages();
    for option in [
        "config", "fallback", "watchdog", "demo", "port", "version", "count", "output", "timeout",
        "json",
    ] {
        assert!(program.contains(&format!("\\-\\-{option}")), "--{option}");
    }
    for command in ["check", "devices", "fetch"] {
        assert!(
            program.contains(&format!(".SS \"camd {command}\"")),
            "{command}"
        );
    }
    for setting in SETTINGS {
        let term = format!("\n\\fB{}\\fR", setting.key);
        assert!(configuration.contains(&term), "{}", setting.key);
    }
}
