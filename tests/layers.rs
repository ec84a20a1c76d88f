//! The module table in `src/lib.rs` is true: each module imports from lower ranks only, or from its own folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Module and rank, as the table says.
fn ranks() -> BTreeMap<String, u32> {
    let lib = fs::read_to_string("src/lib.rs").expect("src/lib.rs");
    let mut ranks = BTreeMap::new();
    for row in lib.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = row.split(" | ");
        let Some(Ok(rank)) = cells.next().map(str::parse) else {
            continue;
        };
        for module in cells.next().expect("a cell of modules").split(", ") {
            ranks.insert(module.trim_matches('`').to_owned(), rank);
        }
    }
    ranks
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let inner = folders.iter().flat_map(|folder| self::files(folder));
    files
        .into_iter()
        .chain(inner)
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}

/// What the file names behind `crate::`: in imports, also grouped ones, and in paths.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let names = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default(),
            None => rest,
        };
        let several = rest.starts_with('{');
        for name in names.split(',').take(if several { usize::MAX } else { 1 }) {
            let name: String = name
                .trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            found.push(name);
        }
    }
    found
}

#[test]
fn imports_go_downwards() {
    let ranks = ranks();
    assert!(ranks.len() > 10, "the table was found: {ranks:?}");
    let mut wrong = Vec::new();
    for file in files(Path::new("src")) {
        let inside = file
            .strip_prefix("src")
            .expect("it is in src")
            .with_extension("");
        let module = inside.iter().next().expect("a name").to_string_lossy();
        let module = module.trim_end_matches("_tests").to_owned();
        if module == "main" || module == "lib" {
            continue;
        }
        let Some(own) = ranks.get(&module) else {
            panic!("{module} is not in the table of src/lib.rs");
        };
        let text = fs::read_to_string(&file).expect("it can be read");
        // Documentation may point anywhere.
        let code: Vec<_> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        for import in imports(&code.join("\n")) {
            match ranks.get(&import) {
                _ if import == module => {}
                Some(rank) if rank < own => {}
                rank => wrong.push(format!("{}: {import} ({rank:?})", file.display())),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that do not go downwards:\n{}",
        wrong.join("\n")
    );
}
