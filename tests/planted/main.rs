//! Plants the bugs of `bugs.diff` in a copy of the sources, which `scripts/simulate` and `scripts/mutants` build. Without
//! arguments it only says whether each of them still fits the sources: as a test. No dependencies, so that the scripts need
//! nothing but `rustc` for it.
//!
//! Usage: planted [--root DIR] [--into DIR]
//!
//! Exit code: 0 all fit, 1 one doesn't, or the copy can't be written.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What the copy has of its own; everything else in it is a link.
const COPIED: [&str; 6] = ["Cargo.toml", "Cargo.lock", "src", "nsq", "client", "tests"];

/// What isn't needed to build it, and is large.
const LEFT_OUT: [&str; 3] = ["node_modules", "corpus", "screenshots"];

/// The switch, and where the copy has it.
const SWITCH: (&str, &str) = ("tests/planted/switch.rs", "src/planted.rs");

/// One change to one file.
#[derive(Debug, Default)]
struct Change {
    file: String,
    /// Where it is written in `bugs.diff`.
    line: usize,
    /// Lines that must be there, without the spaces at their beginning.
    found: Vec<String>,
    /// Lines that stand in their place then.
    instead: Vec<String>,
}

/// Reads `bugs.diff`.
fn changes(text: &str) -> Result<Vec<Change>, String> {
    let mut all: Vec<Change> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Some(file) = line.strip_prefix("@@ ") {
            all.push(Change { file: file.to_owned(), line: at + 1, ..Change::default() });
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let change = all.last_mut().ok_or(format!("line {}: a change begins with \"@@ FILE\"", at + 1))?;
        let rest = line[1..].trim().to_owned();
        match &line[..1] {
            " " => {
                change.found.push(rest.clone());
                change.instead.push(rest);
            }
            "-" => change.found.push(rest),
            "+" => change.instead.push(rest),
            _ => {
                return Err(format!(
                    "line {}: it begins with none of \" \", \"-\", \"+\", \"#\", \"@@\"",
                    at + 1
                ));
            }
        }
    }
    Ok(all)
}

impl Change {
    /// Makes the change in the lines of its file.
    fn apply(&self, lines: &mut Vec<String>) -> Result<(), String> {
        let fits =
            |window: &[String]| window.iter().zip(&self.found).all(|(line, found)| line.trim() == found);
        let at: Vec<usize> =
            lines.windows(self.found.len()).enumerate().filter(|(_, w)| fits(w)).map(|(at, _)| at).collect();
        let [at] = at[..] else {
            return Err(format!(
                "tests/planted/bugs.diff:{}: {} has these lines {} times instead of once: bring the change up to date with it",
                self.line,
                self.file,
                at.len()
            ));
        };
        lines.splice(at..at + self.found.len(), self.instead.iter().cloned());
        Ok(())
    }
}

/// Returns each changed file with its new text.
fn planted(root: &Path) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let text = read(&root.join("tests/planted/bugs.diff"))?;
    let switch = read(&root.join(SWITCH.0))?;
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut problems = Vec::new();
    let changes = changes(&text)?;
    for change in &changes {
        if !files.contains_key(&change.file) {
            let lines = read(&root.join(&change.file))?.lines().map(str::to_owned).collect();
            files.insert(change.file.clone(), lines);
        }
        if let Some(lines) = files.get_mut(&change.file)
            && let Err(problem) = change.apply(lines)
        {
            problems.push(problem);
        }
    }
    let used: BTreeSet<&str> =
        text.split("planted!(").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    let known: BTreeSet<&str> = switch
        .lines()
        .filter_map(|line| line.trim().split_once(" = \""))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with(char::is_uppercase))
        .collect();
    problems.extend(known.difference(&used).map(|bug| format!("{bug} of {} is planted nowhere", SWITCH.0)));
    problems.extend(used.difference(&known).map(|bug| format!("{bug} isn't in {}", SWITCH.0)));
    if !problems.is_empty() {
        return Err(problems.join("\n").into());
    }
    println!("{} planted bugs in {} changes fit the sources", known.len(), changes.len());
    let mut texts: BTreeMap<String, String> =
        files.into_iter().map(|(file, lines)| (file, lines.join("\n") + "\n")).collect();
    texts.insert(SWITCH.1.to_owned(), switch);
    Ok(texts)
}

/// Writes the copy. A file that is as it was isn't touched, so that little is built again.
fn write(root: &Path, into: &Path, mut planted: BTreeMap<String, String>) -> Result<(), Box<dyn Error>> {
    let root = &fs::canonicalize(root)?;
    fs::create_dir_all(into)?;
    let mut written = BTreeSet::new();
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if COPIED.contains(&&*name) {
            copy(root, into, Path::new(&*name), &mut planted, &mut written)?;
        } else if !name.starts_with('.') && name != "target" && !into.join(&*name).exists() {
            std::os::unix::fs::symlink(root.join(&*name), into.join(&*name))?;
        }
    }
    for (file, text) in planted {
        put(&into.join(&file), text.as_bytes())?;
        written.insert(PathBuf::from(file));
    }
    for name in COPIED {
        prune(into, Path::new(name), &written)?;
    }
    Ok(())
}

fn copy(
    root: &Path,
    into: &Path,
    path: &Path,
    planted: &mut BTreeMap<String, String>,
    written: &mut BTreeSet<PathBuf>,
) -> Result<(), Box<dyn Error>> {
    let from = root.join(path);
    if from.is_dir() {
        for entry in fs::read_dir(&from)? {
            let name = entry?.file_name();
            if !LEFT_OUT.contains(&&*name.to_string_lossy()) {
                copy(root, into, &path.join(name), planted, written)?;
            }
        }
        return Ok(());
    }
    match planted.remove(&*path.to_string_lossy()) {
        Some(text) => put(&into.join(path), text.as_bytes())?,
        None => put(&into.join(path), &fs::read(&from)?)?,
    }
    written.insert(path.to_owned());
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    if fs::read(path).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().ok_or("a file has a folder")?)?;
    Ok(fs::write(path, bytes)?)
}

/// Removes what the sources no longer have.
fn prune(into: &Path, path: &Path, written: &BTreeSet<PathBuf>) -> Result<(), Box<dyn Error>> {
    let there = into.join(path);
    if there.is_dir() {
        for entry in fs::read_dir(&there)? {
            prune(into, &path.join(entry?.file_name()), written)?;
        }
    } else if there.exists() && !written.contains(path) {
        fs::remove_file(there)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn main() -> ExitCode {
    // What else cargo test hands on to every test isn't for this one.
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name| {
        arguments.iter().position(|arg| arg == name).and_then(|at| arguments.get(at + 1)).map(PathBuf::from)
    };
    let root = value("--root").unwrap_or_else(|| PathBuf::from("."));
    let done = planted(&root).and_then(|planted| match value("--into") {
        Some(into) => write(&root, &into, planted),
        None => Ok(()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("planted: {problem}");
            ExitCode::FAILURE
        }
    }
}
