//! A configuration file: it is understood, or told what is wrong with it, line by line.
#![no_main]

use camd::config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // A path would be read: whatever is there is none of the fuzzer's business.
    if text.contains("_file") {
        return;
    }
    let parsed = config::parse(text, "fuzz.toml");
    match &parsed {
        Ok(config) => {
            assert!(!config.listeners.is_empty());
            assert!(config.renditions() < 1000);
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "wrong, and nothing is said");
            for error in errors {
                let said = error.to_string();
                assert!(said.starts_with("fuzz.toml"), "{said}");
                assert!(
                    !said.contains(|c: char| c.is_control() && c != '\n' && c != '\t'),
                    "a terminal would obey: {said:?}"
                );
            }
        }
    }
    // Not each time: it takes as long again.
    if text.len().is_multiple_of(16) {
        assert_eq!(parsed, config::parse(text, "fuzz.toml"));
    }
});
