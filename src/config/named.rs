//! What a configuration file names, good or not: for who opens it on behalf of somebody else.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::setting::{Kind, SETTINGS};

/// Files and programs in a file's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Of keys that are paths, `device` aside.
    pub files: Vec<PathBuf>,
    /// `camera.device`
    pub devices: Vec<PathBuf>,
    /// Programs with their arguments.
    pub commands: Vec<Vec<String>>,
}

impl Named {
    /// Reads the text of a file. What is no TOML names nothing.
    pub fn in_text(text: &str) -> Named {
        let mut named = Named::default();
        let (root, _) = DeTable::parse_recoverable(text);
        for (section, value) in root.get_ref() {
            let tables = match value.get_ref() {
                DeValue::Array(array) => array.iter().collect(),
                _ => vec![value],
            };
            for table in tables {
                if let DeValue::Table(table) = table.get_ref() {
                    for (key, value) in table {
                        named.note(section.get_ref(), key.get_ref(), value.get_ref());
                    }
                }
            }
        }
        named
    }

    fn note(&mut self, section: &str, key: &str, value: &DeValue<'_>) {
        let mut rows = SETTINGS.iter();
        let row = rows.find(|row| row.section.name() == section && row.key == key);
        match (row.map(|row| &row.kind), value) {
            (Some(Kind::Path { .. }), DeValue::String(path)) => {
                let path = Path::new(path.as_ref()).to_owned();
                match key {
                    "device" => self.devices.push(path),
                    _ => self.files.push(path),
                }
            }
            (Some(Kind::Program { .. }), DeValue::Array(words)) => {
                let words = words.iter().map(|word| match word.get_ref() {
                    DeValue::String(word) => Some(word.to_string()),
                    _ => None,
                });
                self.commands.extend(words.collect::<Option<Vec<_>>>());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_programs() {
        let text = r#"
            [camera]
            name = "/etc/shadow"
            device = "/dev/video7"
            command = ["cat", "a b"]
            password_file = "/etc/camd/camera"
            fps = "wrong, and no reason"
            [[user]]
            name = "/etc/passwd"
            password_file = "/etc/camd/user"
            [[listener]]
            certificate = "/etc/camd/c.pem"
            key = "/etc/camd/k.pem"
            [[listener]]
            key = 7
            [nonsense]
            key = "/etc/shadow"
        "#;
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let mut named = Named::in_text(text);
        named.files.sort();
        let files = [
            "/etc/camd/c.pem",
            "/etc/camd/camera",
            "/etc/camd/k.pem",
            "/etc/camd/user",
        ];
        assert_eq!(named.files, paths(&files));
        assert_eq!(named.devices, paths(&["/dev/video7"]));
        assert_eq!(named.commands, [["cat", "a b"]]);
        assert_eq!(Named::in_text("]["), Named::default());
    }
}
