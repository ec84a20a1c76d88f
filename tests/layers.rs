//! The floors of the house, read from the tree itself: imports between the folders of `src/` run in one direction,
//! and the table in `src/lib.rs` lists the folders from the ground up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

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
        // Documentation may point anywhere.
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect();
        Module { file, path, code }
    }

    /// The modules that are files of their own below this one.
    fn children(&self) -> Vec<&str> {
        let declared = self.code.lines().filter_map(|line| {
            let line = line.strip_suffix(';')?;
            let line = line.strip_prefix("pub ").unwrap_or(line);
            line.strip_prefix("mod ")
        });
        declared.collect()
    }

    /// All paths that the code names below the crate's root, each as its segments.
    fn paths(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        let mut inline: Vec<(usize, String)> = Vec::new();
        let children = self.children();
        let mut offset = 0;
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
            let header = trimmed.strip_prefix("pub ").unwrap_or(trimmed);
            if let Some(name) = header
                .strip_prefix("mod ")
                .and_then(|r| r.strip_suffix(" {"))
            {
                inline.push((indent, name.to_owned()));
            }
            let mut here = self.path.clone();
            here.extend(inline.iter().map(|(_, name)| name.clone()));
            for (at, word) in words(line) {
                let rest = &self.code[offset + at..];
                if !rest[word.len()..].starts_with("::") || line[..at].ends_with("::") {
                    continue;
                }
                let base = match word {
                    "crate" => Vec::new(),
                    "super" => here[..here.len() - 1].to_vec(),
                    "self" => here.clone(),
                    name if children.contains(&name) && inline.is_empty() => {
                        let mut base = self.path.clone();
                        base.push(name.to_owned());
                        base
                    }
                    _ => continue,
                };
                expand(&rest[word.len()..], base, &mut found);
            }
            offset += line.len();
        }
        found
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
                let Some((0, word)) = words(&rest[used..]).next() else {
                    // The closing brace.
                    return used + 1;
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
