//! What README and its neighbours say can be followed: links lead somewhere, configurations are valid, commands are
//! understood.

use std::fs;
use std::path::{Path, PathBuf};

use camd::command::cli;
use camd::config;

/// Every text in Markdown, with its path from the top.
fn documents() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![top.join("README.md")];
    for folder in ["config", "deploy", "src", "tests"] {
        walk(&top.join(folder), &mut found);
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, text)
    };
    found.into_iter().map(read).collect()
}

/// Without what is in fenced blocks and between back quotes, where brackets are something else.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            let outside = line.split('`').step_by(2);
            prose.push_str(&outside.collect::<Vec<_>>().join("`"));
            prose.push('\n');
        }
    }
    prose
}

/// The fenced blocks in this language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}\n");
    text.split(fence.as_str())
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap_or(rest))
        .collect()
}

/// As GitHub and others make them: lower case, punctuation left out, hyphens for spaces.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-')
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for (path, text) in documents() {
        let prose = prose(&text);
        let markdown = prose
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let html = prose
            .split("src=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        for link in markdown
            .chain(html)
            .filter(|link| !link.starts_with("http"))
        {
            let (file, wanted) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().expect("a folder").join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !wanted.is_empty() {
                let there = fs::read_to_string(&target).expect("a text");
                let headings = there.lines().filter(|line| line.starts_with('#'));
                let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#').trim()));
                assert!(
                    anchors.any(|anchor| anchor == wanted),
                    "{}: {link}",
                    path.display()
                );
            }
            links += 1;
        }
    }
    assert!(links > 30, "{links}");
}

#[test]
fn configurations_are_valid() {
    let mut configurations = 0;
    for (path, text) in documents() {
        for toml in blocks(&text, "toml") {
            // There is no such file here.
            let toml = &toml.replace("password_file = \"/etc/", "password = \"");
            if let Err(errors) = config::parse(toml, &path.display().to_string()) {
                let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
                panic!("{}\nin\n{toml}", lines.join("\n"));
            }
            configurations += 1;
        }
    }
    assert!(configurations > 10, "{configurations}");
}

#[test]
fn commands_are_understood() {
    let mut commands = 0;
    for (path, text) in documents() {
        for line in blocks(&text, "sh").into_iter().flat_map(str::lines) {
            // The last program of "cargo run -- --demo", "editor FILE && camd check", and of what is alone.
            for part in line.split("&&") {
                let part = part.trim();
                let arguments = ["camd ", "target/release/camd ", "cargo run --release -- "]
                    .iter()
                    .find_map(|program| part.strip_prefix(program));
                let Some(arguments) = arguments else { continue };
                // Neither what is behind a pipe nor a comment.
                let own = arguments
                    .split([' ', '\t'])
                    .take_while(|word| !["|", "#", ">"].contains(word));
                let words: Vec<&str> = own.filter(|word| !word.is_empty()).collect();
                if let Err(error) = cli::parse(&words) {
                    panic!("{}: {line}: {error}", path.display());
                }
                commands += 1;
            }
        }
    }
    assert!(commands > 10, "{commands}");
}

#[test]
fn every_recipe_is_in_readme() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(top.join("README.md")).expect("README.md");
    for entry in fs::read_dir(top.join("deploy/recipes")).expect("the recipes") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("a recipe");
        let title = text.lines().next().and_then(|line| line.strip_prefix("# "));
        let title = title.unwrap_or_else(|| panic!("{}: no title", path.display()));
        let file = path.file_name().expect("a name").display().to_string();
        let line = format!("- [{title}](deploy/recipes/{file})\n");
        assert!(readme.contains(&line), "{line}");
    }
}

/// The packages say what LICENSE-MIT says, word for word.
#[test]
fn the_packages_have_the_same_licence() {
    let words = |text: &str| {
        let words = text.split_whitespace().filter(|word| *word != ".");
        words.collect::<Vec<_>>().join(" ")
    };
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file| fs::read_to_string(top.join(file)).expect(file);
    let licence = read("LICENSE-MIT");
    let (_, licence) = licence.split_once("\n\n").expect("a title");
    let (holder, licence) = licence.split_once("\n\n").expect("whose it is");
    let package = read("deploy/debian/copyright");
    assert!(words(&package).contains(&words(licence)));
    let holder = holder.trim_start_matches("Copyright (c) ");
    assert!(
        package.contains(&format!("Copyright: {holder}\n")),
        "{holder}"
    );
}
