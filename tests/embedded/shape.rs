//! Measures of the sources that readers feel: how much of a type, a role or a file is for something else.

use std::path::{Path, PathBuf};

use crate::support::repository;

/// Every Rust file of the server and its NSQ client.
fn sources() -> Vec<PathBuf> {
    fn below(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                below(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let mut all = Vec::new();
    below(&repository("src"), &mut all);
    below(&repository("nsq/src"), &mut all);
    all
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a source")
}

/// The number of fields of each struct, with what its doc comment says.
fn structs(text: &str) -> Vec<(String, usize, bool)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let bare = line
            .trim_start_matches("pub")
            .trim_start_matches("(super)")
            .trim_start_matches("(crate)")
            .trim_start();
        let Some(name) = bare.strip_prefix("struct ").filter(|_| line.ends_with('{')) else { continue };
        let body = lines[at + 1..].iter().take_while(|line| **line != "}");
        let is_field = |line: &&&str| {
            let line = line.strip_prefix("    ").unwrap_or_default();
            let name = line
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub(super) ")
                .trim_start_matches("pub ");
            name.split_once(": ").is_some_and(|(name, _)| {
                name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
            })
        };
        let fields = body.filter(is_field).count();
        let doc =
            lines[..at].iter().rev().take_while(|line| line.starts_with("//") || line.starts_with("#["));
        let reason = doc.clone().any(|line| line.contains("More than 12 fields:"));
        found.push((
            name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned(),
            fields,
            reason,
        ));
    }
    found
}

#[test]
fn a_struct_of_more_than_twelve_fields_says_why() {
    let mut counted = 0;
    for path in sources() {
        for (name, fields, reason) in structs(&read(&path)) {
            counted += 1;
            assert!(
                fields <= 12 || reason,
                "{name} of {} has {fields} fields: divide it by concern, or say \"More than 12 fields: …\" in its doc",
                path.display()
            );
        }
    }
    assert!(counted > 200, "{counted} structs");
    let long = format!("/// X.\nstruct Long {{\n{}}}\n", "    a: u8,\n".repeat(13));
    assert_eq!(structs(&long), [("Long".to_owned(), 13, false)]);
}

#[test]
fn a_role_of_the_ports_has_at_most_fifteen_methods() {
    let mut roles = 0;
    for port in ["store", "broker"] {
        for entry in std::fs::read_dir(repository("src").join(port)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                continue;
            }
            let text = read(&path);
            let methods = text.matches("each!(self.").count() + text.matches("now!(self.").count();
            roles += usize::from(methods > 0);
            assert!(methods <= 15, "{} has {methods} methods", path.display());
        }
    }
    assert!(roles >= 15, "{roles} roles");
}

#[test]
fn a_server_s_sources_hold_no_switch_for_tests() {
    let marked: Vec<String> = sources()
        .iter()
        .filter(|path| !path.starts_with(repository("src/simulation")))
        .flat_map(|path| {
            let places = read(path).matches("feature = \"simulation\"").count();
            std::iter::repeat_n(path.display().to_string(), places)
        })
        .collect();
    assert!(
        marked.len() <= 5,
        "at most five: two that choose the module, three modules of the embedded ports: {marked:?}"
    );
    let planted: Vec<_> = sources().into_iter().filter(|path| read(path).contains("planted!")).collect();
    assert!(planted.is_empty(), "planted bugs are in tests/planted: {planted:?}");
}

#[test]
fn tests_are_in_tests() {
    let inside: Vec<_> = sources()
        .into_iter()
        .filter(|path| ["#[test]", "#[tokio::test"].iter().any(|mark| read(path).contains(mark)))
        .collect();
    assert!(inside.is_empty(), "move them to tests/unit, and name them by their path: {inside:?}");
}
