//! The floors of `docs/architecture.md`: arrows point down. A module uses what is on its own floor or below it, modules of one
//! floor don't use each other in a circle, the map names every file, pages name no other,
//! every story is listed, and no file is longer than 500 lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::repository;

type Modules = BTreeMap<String, BTreeSet<String>>;

/// The floor of each module, from the table in the page.
fn floors() -> BTreeMap<String, u32> {
    let page = std::fs::read_to_string(repository("docs/architecture.md")).expect("the page");
    let (_, table) = page.split_once("| floor |").expect("a table of floors");
    let mut floors = BTreeMap::new();
    for row in table.lines().skip(2).take_while(|row| row.starts_with('|')) {
        let columns: Vec<&str> = row.split('|').collect();
        let floor: u32 = columns[1].trim().parse().expect("the number of a floor");
        for name in columns[2].split('`').skip(1).step_by(2) {
            floors.insert(name.trim_end_matches(".rs").trim_end_matches('*').to_owned(), floor);
        }
    }
    floors
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    folders.iter().flat_map(|folder| sources(folder)).chain(rust).collect()
}

/// The code without comments and without its unit tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// What a `use` tree names: `a::{b, c::{d, e}}` is `a::b`, `a::c::d`, `a::c::e`.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let (mut depth, mut begin) = (0, 0);
    let ends = tree.char_indices().chain([(tree.len(), ',')]);
    for (at, c) in ends.collect::<Vec<_>>() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = tree[begin..at].trim();
                match part.split_once('{') {
                    Some((inner, rest)) => {
                        expand(&format!("{prefix}{inner}"), rest.trim_end_matches('}'), found);
                    }
                    None if !part.is_empty() => found.push(format!("{prefix}{part}")),
                    None => {}
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// All paths that a piece of code names from the crate's root or from its own module on.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for statement in code.split("use ").skip(1) {
        let tree = statement.split(';').next().unwrap_or_default();
        expand("", &tree.split_whitespace().collect::<Vec<_>>().join(" "), &mut found);
    }
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    found.extend(code.split(|c: char| !is_path(c)).filter(|word| word.contains("::")).map(str::to_owned));
    found
}

/// The module of the crate's root that a path leads to, from a file of these modules.
fn target(path: &str, file: &[String]) -> Option<String> {
    let mut parts = path.split("::").map(str::trim).peekable();
    let mut base = match parts.next()? {
        "crate" => Vec::new(),
        "super" => file[..file.len() - 1].to_vec(),
        _ => return None,
    };
    while parts.next_if_eq(&"super").is_some() {
        base.pop()?;
    }
    base.first().cloned().or_else(|| parts.next().map(str::to_owned))
}

/// Which modules of the crate's root use which others. In a server `simulation` is `production.rs`; the doubles that stand in its
/// place in a simulation know what they stand for.
fn uses() -> Modules {
    let root = repository("src");
    let mut uses = Modules::new();
    for path in sources(&root) {
        let relative = path.strip_prefix(&root).expect("below it").with_extension("");
        let file: Vec<String> =
            relative.iter().map(|part| part.to_str().expect("a name").to_owned()).collect();
        if file[0] == "simulation" {
            continue;
        }
        let text = code(&std::fs::read_to_string(&path).expect("a file"));
        let own = uses.entry(file[0].clone()).or_default();
        own.extend(paths(&text).iter().filter_map(|path| target(path, &file)).filter(|to| *to != file[0]));
        if own.remove("simulation") {
            own.insert("production".to_owned());
        }
    }
    let modules: BTreeSet<String> = uses.keys().cloned().collect();
    uses.values_mut().for_each(|used| used.retain(|name| modules.contains(name)));
    uses
}

/// A circle of modules, if there is one.
fn circle(uses: &Modules) -> Option<Vec<String>> {
    let mut left: Modules = uses.clone();
    // Whoever uses nothing that is left is in none.
    while let Some(name) = left.iter().find(|(_, used)| used.is_empty()).map(|(name, _)| name.clone()) {
        left.remove(&name);
        left.values_mut().for_each(|used| used.retain(|other| *other != name));
    }
    (!left.is_empty()).then(|| left.into_keys().collect())
}

#[test]
fn arrows_point_down() {
    let (floors, uses) = (floors(), uses());
    let floor =
        |name: &String| *floors.get(name).unwrap_or_else(|| panic!("{name} is on no floor of the page"));
    let mut up = Vec::new();
    for (name, used) in uses.iter().filter(|(name, _)| *name != "lib") {
        up.extend(used.iter().filter(|to| floor(to) > floor(name)).map(|to| format!("{name} -> {to}")));
    }
    assert!(up.is_empty(), "arrows that point up: {up:?}");
    assert!(uses["session"].contains("sync") && uses["sync"].contains("store"), "{uses:?}");
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    assert_eq!(circle(&uses()), None);
    let used = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let round = Modules::from([
        ("a".to_owned(), used(&["b"])),
        ("b".to_owned(), used(&["c"])),
        ("c".to_owned(), used(&["b", "d"])),
        ("d".to_owned(), used(&[])),
    ]);
    assert_eq!(circle(&round).map(|names| names.join(" ")), Some("a b c".to_owned()));
}

/// Folders of which the map says as a whole what is in them; unit tests are beside what they test.
const WHOLE: [&str; 2] = ["cli/demo/", "simulation/"];

#[test]
fn the_map_names_every_file_and_no_other() {
    let page = std::fs::read_to_string(repository("docs/architecture.md")).expect("the page");
    let (_, map) = page.split_once("```\nsrc/\n").expect("a map");
    let (map, _) = map.split_once("\n```").expect("its end");
    let words = map.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'));
    let named: BTreeSet<&str> =
        words.clone().map(|word| word.trim_end_matches(".rs").trim_matches('.')).collect();
    let root = repository("src");
    let stem = |path: &Path| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let mut unnamed = Vec::new();
    for path in sources(&root) {
        let relative = path.strip_prefix(&root).expect("below it").to_string_lossy().into_owned();
        let whole = WHOLE.iter().any(|folder| relative.starts_with(folder)) || relative.contains("tests");
        if !whole && stem(&path) != "lib" && !named.contains(stem(&path).as_str()) {
            unnamed.push(relative);
        }
    }
    assert!(unnamed.is_empty(), "docs/architecture.md's map lacks {unnamed:?}");
    let files: BTreeSet<String> = [root, repository("client/src"), repository("nsq/src")]
        .iter()
        .flat_map(|folder| sources(folder))
        .map(|path| stem(&path))
        .collect();
    let gone: Vec<&str> =
        words.filter_map(|word| word.strip_suffix(".rs")).filter(|name| !files.contains(*name)).collect();
    assert!(gone.is_empty(), "docs/architecture.md's map names {gone:?}, which aren't there");
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let skipped = |path: &PathBuf| path.ends_with("node_modules");
    folders.iter().filter(|path| !skipped(path)).flat_map(|folder| self::files(folder)).chain(files).collect()
}

#[test]
fn pages_name_files_that_are_there() {
    let code: Vec<String> = ["src", "client", "nsq", "tests", "web"]
        .iter()
        .flat_map(|folder| files(&repository(folder)))
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let pages = files(&repository("docs"))
        .into_iter()
        .chain([repository("README.md"), repository("CONTRIBUTING.md")]);
    let mut named = 0;
    for page in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = std::fs::read_to_string(&page).expect("a page");
        // (In a pair of backquotes, and nothing else in it.)
        for name in text.split('`').skip(1).step_by(2) {
            let is_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_/.".contains(c);
            let is_code = [".rs", ".lua"].iter().any(|end| name.ends_with(end));
            if is_code && name.chars().all(is_path) {
                named += 1;
                let there =
                    code.iter().any(|path| path.ends_with(&format!("/{}", name.trim_start_matches('/'))));
                assert!(there, "{} names {name}, which isn't there", page.display());
            }
        }
    }
    assert!(named > 100, "{named} found");
}

#[test]
fn every_story_is_told() {
    let list = std::fs::read_to_string(repository("tests/stories/mod.rs")).expect("the list");
    let names: BTreeSet<&str> = list.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let mut stories = 0;
    for path in sources(&repository("tests/stories")) {
        let text = std::fs::read_to_string(&path).expect("a file");
        for rest in text.split("pub async fn ").skip(1) {
            let Some((name, arguments)) = rest.split_once('(') else { continue };
            if arguments.split(')').next().is_some_and(|first| first.ends_with(": Deployment")) {
                stories += 1;
                assert!(names.contains(name), "{name} of {} isn't in tests/stories/mod.rs", path.display());
            }
        }
    }
    assert!(stories > 100, "{stories} found");
}

#[test]
fn no_file_is_too_long() {
    for folder in ["src", "client", "nsq/src", "tests"] {
        for path in sources(&repository(folder)) {
            let lines = std::fs::read_to_string(&path).expect("a file").lines().count();
            assert!(lines <= 500, "{} has {lines} lines: split it by concern", path.display());
        }
    }
}

#[test]
fn a_path_leads_to_a_module_of_the_root() {
    let file = ["session".to_owned(), "feed".to_owned()];
    assert_eq!(target("crate::sync::Core", &file).as_deref(), Some("sync"));
    assert_eq!(target("super::Session", &file).as_deref(), Some("session"));
    assert_eq!(target("super::super::hub::Hub", &file).as_deref(), Some("hub"));
    assert_eq!(target("std::fmt", &file), None);
    let mut found = Vec::new();
    expand("", "crate::{a::{b, c::d}, e}", &mut found);
    assert_eq!(found, ["crate::a::b", "crate::a::c::d", "crate::e"]);
}
