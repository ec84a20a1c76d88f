//! The floors of the house, read from the tree itself: imports between the folders of `src/` run in one direction, no two
//! files name each other, not even through others, and the table in `src/lib.rs` lists the folders from the ground up.
//! What serves all protocols alike names none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use camd::protocol::ProtocolKind;

/// Who imports whom, and one of the names that it takes from there.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// A file of Rust code, and the path of its module below the crate's root.
struct Module {
    file: PathBuf,
    path: Vec<String>,
    code: String,
}

fn modules() -> Vec<Module> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let file = entry.expect("an entry").path();
            if file.is_dir() {
                folders.push(file);
            } else if file.extension().is_some_and(|e| e == "rs") {
                found.push(Module::read(file));
            }
        }
    }
    found.retain(|module| !["main", "lib"].contains(&module.path[0].as_str()));
    assert!(found.len() > 50, "src was found");
    found
}

impl Module {
    fn read(file: PathBuf) -> Module {
        let inside = file.strip_prefix("src").expect("it is in src");
        let mut path: Vec<String> = inside
            .with_extension("")
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        if path.last().is_some_and(|name| name == "mod") {
            path.pop();
        }
        // Named by `#[path = "x_tests.rs"] mod tests;` in x.rs.
        if let Some(tested) = path.last().and_then(|name| name.strip_suffix("_tests")) {
            let tested = tested.to_owned();
            path.splice(path.len() - 1.., [tested, "tests".to_owned()]);
        }
        let text = fs::read_to_string(&file).expect("it can be read");
        let code = without_comments(&text);
        Module { file, path, code }
    }

    /// The modules that are files of their own below this one.
    fn children(&self) -> Vec<&str> {
        let lines = self.code.lines();
        let declared = lines.filter_map(|line| without_visibility(line).strip_prefix("mod "));
        declared.filter_map(|rest| rest.strip_suffix(';')).collect()
    }

    /// All paths that the code names below the crate's root, each as its segments.
    fn paths(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        let mut inline: Vec<(usize, String)> = Vec::new();
        let children = self.children();
        let mut offset = 0;
        let mut read_to = 0;
        for line in self.code.split_inclusive('\n') {
            let trimmed = line.trim();
            let indent = line.len() - line.trim_start().len();
            // As rustfmt lays code out, a module in the file ends at the brace below its first letter.
            if inline
                .last()
                .is_some_and(|(at, _)| *at == indent && trimmed == "}")
            {
                inline.pop();
            }
            if let Some(name) = without_visibility(trimmed)
                .strip_prefix("mod ")
                .and_then(|r| r.strip_suffix(" {"))
            {
                inline.push((indent, name.to_owned()));
            }
            let mut here = self.path.clone();
            here.extend(inline.iter().map(|(_, name)| name.clone()));
            for (at, word) in words(line) {
                let rest = &self.code[offset + at..];
                // In the braces of another path, or within one.
                let inside = offset + at < read_to || line[..at].ends_with("::");
                if inside || !rest[word.len()..].starts_with("::") {
                    continue;
                }
                let base = match word {
                    "crate" => Vec::new(),
                    "super" => here[..here.len() - 1].to_vec(),
                    "self" => here.clone(),
                    // In a module in the file, too: it may have it by `use super::*`.
                    name if children.contains(&name) => {
                        let mut base = self.path.clone();
                        base.push(name.to_owned());
                        base
                    }
                    _ => continue,
                };
                let used = expand(&rest[word.len()..], base, &mut found);
                read_to = offset + at + word.len() + used;
            }
            offset += line.len();
        }
        found
    }
}

/// Documentation may point anywhere.
fn without_comments(text: &str) -> String {
    let code = |line: &str| match line.find("//") {
        // Not that of a URL in a text.
        Some(at) if at == 0 || line[..at].ends_with(' ') => line[..at].trim_end().to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|line| code(line) + "\n").collect()
}

/// What follows `pub`, `pub(crate)` and the like.
fn without_visibility(line: &str) -> &str {
    let Some(rest) = line.strip_prefix("pub") else {
        return line;
    };
    let end = rest.strip_prefix('(').and_then(|rest| rest.find(") "));
    match end {
        Some(end) => &rest[end + "() ".len()..],
        None => rest.strip_prefix(' ').unwrap_or(line),
    }
}

/// The identifiers of a line, and where they begin.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    line.split(move |c: char| !is_part(c))
        .map(move |word| {
            let begin = at;
            at += word.len();
            at += line[at..].chars().next().map_or(0, char::len_utf8);
            (begin, word)
        })
        .filter(|(_, word)| !word.is_empty())
}

/// Follows `::name`, `::super` and `::{…}` in `rest`, and gives how much of it that was.
fn expand(rest: &str, mut base: Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let mut used = 0;
    while let Some(next) = rest[used..].strip_prefix("::") {
        used += 2;
        if next.starts_with('{') {
            used += 1;
            loop {
                let skipped =
                    rest[used..].len() - rest[used..].trim_start_matches([' ', '\n', ',']).len();
                used += skipped;
                let word = match words(&rest[used..]).next() {
                    Some((0, word)) => word,
                    _ if rest[used..].starts_with('}') => return used + 1,
                    _ if rest[used..].starts_with('*') => {
                        found.push(base.clone());
                        used += 1;
                        continue;
                    }
                    _ => panic!("no name, star or brace in {:.200?}", &rest[used..]),
                };
                let mut inner = base.clone();
                if word != "self" {
                    inner.push(word.to_owned());
                }
                used += word.len();
                used += expand(&rest[used..], inner, found);
                if let Some(renamed) = rest[used..].strip_prefix(" as ") {
                    used += 4 + words(renamed).next().map_or(0, |(_, word)| word.len());
                }
            }
        }
        match words(next).next() {
            Some((0, "super")) => {
                base.pop();
                used += "super".len();
            }
            Some((0, word)) => {
                base.push(word.to_owned());
                used += word.len();
            }
            // A glob, or a turbofish.
            _ => break,
        }
    }
    found.push(base);
    used
}

/// Each file's imports: the file whose module a path leads to is the one that has the longest part of it.
fn files() -> Graph {
    let modules = modules();
    let by_path: BTreeMap<&[String], &Module> = modules
        .iter()
        .map(|module| (module.path.as_slice(), module))
        .collect();
    let mut graph = Graph::new();
    for module in &modules {
        let name = module.file.display().to_string();
        let imports = graph.entry(name).or_default();
        for path in module.paths() {
            let target = (1..=path.len())
                .rev()
                .find_map(|n| by_path.get_key_value(&path[..n]));
            match target {
                Some((_, target)) if target.path != module.path => {
                    let target = target.file.display().to_string();
                    imports.entry(target).or_insert(path.join("::"));
                }
                Some(_) => {}
                None => assert!(path.is_empty(), "{}: {path:?}", module.file.display()),
            }
        }
    }
    graph
}

/// The first part below `src/`: the folder, or the file that stands there alone.
fn floor(file: &str) -> String {
    let inside = Path::new(file).strip_prefix("src").expect("it is in src");
    let first = inside.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn folders() -> Graph {
    let mut graph = Graph::new();
    for (file, imports) in files() {
        let from = floor(&file);
        let entry = graph.entry(from.clone()).or_default();
        for (target, name) in imports {
            let to = floor(&target);
            if to != from {
                entry.entry(to).or_insert(format!("{file} takes {name}"));
            }
        }
    }
    graph
}

/// The arrows that lead back to where they begin.
fn circles(graph: &Graph) -> Graph {
    let leads = |from: &str, to: &str| {
        let mut seen = BTreeSet::from([from]);
        let mut ahead = vec![from];
        while let Some(name) = ahead.pop() {
            for target in graph.get(name).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(target) {
                    ahead.push(target);
                }
            }
        }
        seen.contains(to)
    };
    let mut found = Graph::new();
    for (from, imports) in graph {
        for (to, name) in imports {
            if leads(to, from) {
                let arrows = found.entry(from.clone()).or_default();
                arrows.insert(to.clone(), name.clone());
            }
        }
    }
    found
}

fn describe(graph: &Graph) -> String {
    let mut text = String::new();
    for (from, imports) in graph {
        for (to, name) in imports {
            text += &format!("  {from} -> {to} ({name})\n");
        }
    }
    text
}

#[test]
fn paths_are_read_as_rust_reads_them() {
    let text = "\
use std::fmt;
use child::{self, One as Other};
use crate::{
    a::{b::C, *}, // why
    child::D,
};
pub(crate) mod child;

// use crate::comment::X;
fn f() -> super::Type<'static> {
    let url = \"http://crate/\";
    crate::e::<u8>(self::child::inner::<crate::G>(url))
}

#[cfg(test)]
mod tests {
    use super::super::sibling;
    use super::*;

    fn g() {
        child::h(sibling::I);
    }
}
";
    let module = Module {
        file: PathBuf::new(),
        path: ["up", "here"].map(str::to_owned).to_vec(),
        code: without_comments(text),
    };
    assert_eq!(module.children(), ["child"]);
    let paths: Vec<String> = module.paths().iter().map(|path| path.join("::")).collect();
    let expected = [
        "up::here::child",
        "up::here::child::One",
        "a::b::C",
        "a",
        "child::D",
        "up::Type",
        "e",
        "up::here::child::inner",
        "G",
        "up::sibling",
        "up::here",
        "up::here::child::h",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn folders_import_in_one_direction() {
    let folders = folders();
    assert!(folders.len() > 10, "{:?}", folders.keys());
    assert!(
        folders["daemon"].contains_key("client"),
        "arrows were found"
    );
    let circles = circles(&folders);
    assert!(
        circles.is_empty(),
        "circles of folders:\n{}",
        describe(&circles)
    );
}

#[test]
fn no_files_import_each_other() {
    let files = files();
    let arrows: usize = files.values().map(BTreeMap::len).sum();
    assert!(arrows > 200, "{arrows} arrows were found");
    let circles = circles(&files);
    assert!(
        circles.is_empty(),
        "circles of files:\n{}",
        describe(&circles)
    );
}

#[test]
fn the_map_lists_the_folders_from_the_ground_up() {
    let lib = fs::read_to_string("src/lib.rs").expect("src/lib.rs");
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    let listed: Vec<&str> = rows
        .map(|row| row.split('`').next().expect("a name"))
        .collect();
    let folders = folders();
    let all: BTreeSet<&str> = folders.keys().map(String::as_str).collect();
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), all);
    for (at, name) in listed.iter().enumerate() {
        for (target, why) in &folders[*name] {
            let below = listed[..at].contains(&target.as_str());
            assert!(below, "{name} stands below {target}, but {why}");
        }
    }
}

/// The modules of single protocols: all that lie in the folder but what these share.
fn protocol_modules() -> BTreeSet<String> {
    let entries = fs::read_dir("src/protocol").expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let modules = paths.filter(|path| path.is_dir() || path.extension().is_some_and(|e| e == "rs"));
    modules
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy();
            name.into_owned()
        })
        .filter(|name| {
            ![
                "mod",
                "session",
                "name",
                "network",
                "setup",
                "user",
                "head_cache",
            ]
            .contains(&name.as_str())
        })
        .collect()
}

/// Where code names a single protocol: by a path to its module or through it, or by its variant.
fn protocols_named(module: &Module) -> Vec<String> {
    let modules = protocol_modules();
    let variants = ProtocolKind::ALL.map(|kind| format!("{kind:?}"));
    let imported =
        |path: &Vec<String>| path.len() > 1 && path[0] == "protocol" && modules.contains(&path[1]);
    let paths = module.paths().into_iter().filter(imported);
    let mut named: Vec<String> = paths.map(|path| path.join("::")).collect();
    for line in module.code.lines() {
        for (at, word) in words(line) {
            let behind = &line[at + word.len()..];
            let is_segment = line[..at].ends_with("::") || behind.starts_with("::");
            if variants.iter().any(|v| v == word) || is_segment && modules.contains(word) {
                named.push(line.trim().to_owned());
            }
        }
    }
    named
}

#[test]
fn the_names_of_protocols_are_found_in_code() {
    let text = "\
use crate::protocol::session::Session;
use crate::protocol::{
    call,
    name::Name,
    State,
};

/// As in protocol::http.
fn f(call: Name, push: State) -> usize {
    // Protocol::Raw
    let raw = super::super::protocol::pull::PART;
    match call.session() {
        Protocol::Http(it) => it.get(raw),
        other => push::length(other),
    }
}
";
    let module = Module {
        file: PathBuf::new(),
        path: ["client", "slot"].map(str::to_owned).to_vec(),
        code: without_comments(text),
    };
    let expected = [
        "protocol::call",
        "protocol::pull::PART",
        "let raw = super::super::protocol::pull::PART;",
        "Protocol::Http(it) => it.get(raw),",
        "other => push::length(other),",
    ];
    assert_eq!(protocols_named(&module), expected);
}

#[test]
fn link_and_slot_name_no_protocol() {
    // One module for each protocol, and the shared ones are those that are left out.
    assert_eq!(protocol_modules().len(), ProtocolKind::ALL.len());
    for file in ["link", "slot", "delivery", "subscription"] {
        let file = &format!("src/client/{file}.rs");
        let module = Module::read(PathBuf::from(file));
        let named = protocols_named(&module);
        assert!(named.is_empty(), "{file}: {named:#?}");
    }
}
