//! What the box around camd says about itself, for the pages (`--box`).
//!
//! A box is more than its camera: a network, a clock, a card. Its scripts look after these and write what they find into one
//! small file, a line `key=value` for each, in UTF-8. The file is to lie in memory (tmpfs) and to be replaced as a whole
//! (rename), so reading it is a copy of some hundred bytes. deploy/image/README.md has the keys.

use std::fmt::{self, Display};
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::limits::BOX_FILE;
use crate::system::broker;

/// Keys of the file, in the order of `/state`.
const TEXTS: [&str; 8] = [
    "name", "network", "address", "clock", "card", "version", "slot", "update",
];
/// Those whose values are whole numbers.
const NUMBERS: [&str; 3] = ["signal_dbm", "memory_kib", "memory_free_kib"];
/// Those that may be there several times, and what the list of them is called.
const LISTS: [(&str, &str); 2] = [("problem", "problems"), ("note", "notes")];

/// Room for the file.
pub struct Buffer([u8; BOX_FILE]);

impl Buffer {
    /// Empty.
    pub fn new() -> Self {
        Buffer([0; BOX_FILE])
    }

    /// What the file says now; `None` if it is not there or cannot be read. Only whole lines count: of a file that is too
    /// long, those that fit.
    pub fn read(&mut self, path: &Path) -> Option<Board<'_>> {
        // Whatever it is: a pipe without a writer must not hold the event loop up.
        let mut file = broker::open(path).ok()?;
        let mut length = 0;
        while length < BOX_FILE {
            match file.read(&mut self.0[length..]) {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        let bytes = &self.0[..length];
        let bytes = &bytes[..bytes
            .iter()
            .rposition(|&b| b == b'\n')
            .map_or(0, |at| at + 1)];
        let text = match str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => str::from_utf8(&bytes[..error.valid_up_to()]).ok()?,
        };
        Some(Board(text))
    }
}

/// What the file says. Written as a JSON object that has all keys; null for what the file does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board<'a>(&'a str);

impl<'a> Board<'a> {
    /// The one that takes most room in JSON.
    #[cfg(test)]
    pub(super) fn fullest() -> Board<'static> {
        Board(format!("note={}\n", "\"".repeat(BOX_FILE - 6)).leak())
    }

    /// The values of a key.
    fn values(self, key: &'static str) -> impl Iterator<Item = Text<'a>> + Clone {
        let lines = self.0.lines();
        lines.filter_map(move |line| Some(Text(line.strip_prefix(key)?.strip_prefix('=')?.trim())))
    }

    /// The newest one.
    fn value(self, key: &'static str) -> Option<Text<'a>> {
        self.values(key).last().filter(|text| !text.0.is_empty())
    }
}

impl Serialize for Board<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for key in TEXTS {
            map.serialize_entry(key, &self.value(key))?;
        }
        for key in NUMBERS {
            let number = self.value(key).and_then(|text| text.0.parse::<i64>().ok());
            map.serialize_entry(key, &number)?;
        }
        for (key, list) in LISTS {
            map.serialize_entry(list, &Each(self.values(key)))?;
        }
        map.end()
    }
}

struct Each<I>(I);

impl<I: Iterator<Item: Serialize> + Clone> Serialize for Each<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

/// A value. Control characters, which a network's name may have, would each need six bytes in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.split(char::is_control).enumerate() {
            f.write_str(if at == 0 { "" } else { " " })?;
            f.write_str(part)?;
        }
        Ok(())
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shown(content: impl AsRef<[u8]>) -> Value {
        let (process, thread) = (std::process::id(), std::thread::current().id());
        let file = std::env::temp_dir().join(format!("camd-board-{process}-{thread:?}"));
        std::fs::write(&file, content).expect("a file");
        let mut buffer = Buffer::new();
        let board = buffer.read(&file).expect("it can be read");
        let value = serde_json::to_value(board).expect("JSON");
        std::fs::remove_file(&file).expect("it is there");
        value
    }

    #[test]
    fn each_key_is_there_and_lists_have_all_lines_of_theirs() {
        let nothing = json!({
            "name": null, "network": null, "address": null, "clock": null, "card": null, "version": null, "slot": null, "update": null,
            "signal_dbm": null, "memory_kib": null, "memory_free_kib": null, "problems": [], "notes": [],
        });
        for content in [
            "",
            "\n\n",
            "no key\n",
            "name\nname=\nsignal_dbm=strong\nother=1\nnames=x\n",
            "name=no end",
        ] {
            assert_eq!(shown(content), nothing, "{content:?}");
        }
        let all = shown(
            "name=garden-2\nnetwork=wlan0, Wi-Fi \"My = Network\u{1}\"\nsignal_dbm=-61\nmemory_kib=948304\nproblem=b = c\n\
             problem=a \"quoted\"\nnote= n \nname=garden-3\n",
        );
        assert_eq!(all["name"], "garden-3");
        assert_eq!(all["network"], "wlan0, Wi-Fi \"My = Network \"");
        assert_eq!(
            (&all["signal_dbm"], &all["memory_kib"]),
            (&json!(-61), &json!(948304))
        );
        assert_eq!(all["problems"], json!(["b = c", "a \"quoted\""]));
        assert_eq!(all["notes"], json!(["n"]));
    }

    #[test]
    fn of_a_file_that_is_too_long_or_not_utf8_the_beginning_counts() {
        let long = format!("name=garden\n{}", "problem=0123456\n".repeat(BOX_FILE));
        let value = shown(long);
        assert_eq!(value["name"], "garden");
        let problems = value["problems"].as_array().expect("a list");
        assert_eq!(problems.len(), (BOX_FILE - 12) / 16);
        assert!(problems.iter().all(|problem| problem == "0123456"));
        assert_eq!(shown(b"slot=a\nname=\xff\nclock=x\n")["slot"], "a");
    }

    #[test]
    fn what_is_no_file_is_nothing_and_does_not_wait() {
        let folder = std::env::temp_dir();
        assert_eq!(Buffer::new().read(&folder), None);
        assert_eq!(Buffer::new().read(Path::new("/nonexistent/box")), None);
        let pipe = folder.join(format!("camd-board-pipe-{}", std::process::id()));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let mut buffer = Buffer::new();
        let board = buffer.read(&pipe);
        assert_eq!(board, Some(Board("")));
        std::fs::remove_file(&pipe).expect("it is there");
    }
}
