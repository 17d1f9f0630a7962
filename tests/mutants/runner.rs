//! Runs this program once for each planted bug.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::planted::{choose, choose_script};
use serde::Serialize;

use crate::table::{MUTANTS, Mutant, Place, UNTOUCHED};

/// Names the bug to this program when it is started for one.
const PLANTED: &str = "KEEPSTEP_MUTANT";

/// The stories of the contract, as this program's tests are named.
const CONTRACT: &str = "contract::";

/// Bugs that are tried at the same time.
const AT_ONCE: usize = 6;

/// Plants the bug that this process was started for, if it was. True: it is one of the store in memory.
pub fn plant() -> bool {
    let Ok(name) = std::env::var(PLANTED) else { return false };
    let mutant = MUTANTS.iter().find(|mutant| mutant.name == name);
    match mutant.unwrap_or_else(|| panic!("there is no planted bug {name:?}")).bug {
        Place::Script(bug) => choose_script(bug),
        Place::Memory(bug) => {
            choose(Some(bug));
            return true;
        }
    }
    false
}

impl Mutant {
    /// Whose bug it is.
    fn script(&self) -> &'static str {
        match &self.bug {
            Place::Script(bug) => bug.script,
            Place::Memory(_) => "in memory",
        }
    }

    /// Whether it can be planted.
    fn fits(&self) -> Result<(), String> {
        match &self.bug {
            Place::Script(bug) => bug.apply(&source(bug.script)).map(drop),
            Place::Memory(_) => Ok(()),
        }
    }
}

/// What became of one bug.
#[derive(Debug, Serialize)]
struct Found {
    bug: &'static str,
    script: &'static str,
    story: &'static str,
    caught: bool,
    /// All stories that failed: the one that should, or of all of them.
    failed: BTreeSet<String>,
    /// What the story said, or why the bug couldn't be tried.
    said: String,
    /// Whether it couldn't be tried.
    broken: bool,
    seconds: f64,
}

/// What `scripts/mutants` was told, in the environment, because the tests' own command line isn't ours.
struct Wishes {
    only: Option<String>,
    wide: bool,
    json: bool,
    report: Option<PathBuf>,
}

impl Wishes {
    fn read() -> Wishes {
        let said = |name: &str| std::env::var(format!("KEEPSTEP_MUTANTS_{name}")).ok();
        Wishes {
            only: said("BUG"),
            wide: said("WIDE").is_some(),
            json: said("JSON").is_some(),
            report: said("REPORT").map(PathBuf::from),
        }
    }
}

#[test]
fn every_planted_bug_is_caught_by_its_story() {
    // The bug's own process runs stories, not this.
    if std::env::var(PLANTED).is_ok() {
        return;
    }
    let wishes = Wishes::read();
    let chosen: Vec<&Mutant> =
        MUTANTS.iter().filter(|one| wishes.only.as_ref().is_none_or(|only| only == one.name)).collect();
    assert!(!chosen.is_empty(), "there is no planted bug {:?}", wishes.only.unwrap_or_default());
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(mutant) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let one = run(mutant, wishes.wide);
            eprintln!("{}", line(&one));
            found.lock().unwrap().push(one);
        }
    };
    // Most of their time they wait for what doesn't come.
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    let mut all = found.into_inner().unwrap();
    all.sort_by_key(|one| MUTANTS.iter().position(|mutant| mutant.name == one.bug));
    if let Some(file) = &wishes.report {
        let report = if wishes.json { serde_json::to_string(&all).unwrap() + "\n" } else { table(&all) };
        std::fs::write(file, report).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    let missed: Vec<&str> =
        all.iter().filter(|found| found.broken || !found.caught).map(|found| found.bug).collect();
    assert!(missed.is_empty(), "not caught by the stories that should: {missed:?}");
}

#[test]
fn the_table_fits_the_scripts() {
    let mut names = BTreeSet::new();
    for mutant in MUTANTS {
        mutant.fits().unwrap_or_else(|why| panic!("{}: {why}", mutant.name));
        assert!(names.insert(mutant.name), "{} is there twice", mutant.name);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/lua");
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        let script = file.strip_suffix(".lua").expect("a folder of scripts");
        let planted = MUTANTS.iter().any(|mutant| mutant.script() == script);
        let untouched = UNTOUCHED.iter().any(|(name, _)| *name == script);
        assert!(planted != untouched, "{script}: plant a bug in it, or say why there is none");
    }
}

fn source(script: &str) -> String {
    let file = format!("{}/src/store/lua/{script}.lua", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn run(mutant: &'static Mutant, wide: bool) -> Found {
    let began = Instant::now();
    let mut found = Found {
        bug: mutant.name,
        script: mutant.script(),
        story: mutant.story,
        caught: false,
        failed: BTreeSet::new(),
        said: String::new(),
        broken: false,
        seconds: 0.0,
    };
    match tried(mutant, wide) {
        Ok((failed, said)) => {
            found.caught = failed.contains(mutant.story);
            (found.failed, found.said) = (failed, said);
        }
        Err(why) => (found.broken, found.said) = (true, why),
    }
    found.seconds = began.elapsed().as_secs_f64();
    found
}

/// The stories that fail with this bug, and what they said; or why that is no answer.
fn tried(mutant: &Mutant, wide: bool) -> Result<(BTreeSet<String>, String), String> {
    mutant.fits()?;
    let myself = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(myself);
    if wide {
        command.arg(CONTRACT)
    } else {
        command.arg(format!("{CONTRACT}{}", mutant.story)).arg("--exact")
    };
    let output = command
        .env(PLANTED, mutant.name)
        .env("RUST_BACKTRACE", "0")
        .output()
        .map_err(|error| error.to_string())?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let text = format!("{out}\n{err}");
    if text.contains("running 0 tests") {
        return Err(format!("the contract has no story {}", mutant.story));
    }
    // A script that Redis can't run fails every story, and says nothing about a fence.
    if let Some(error) = text.lines().find(|line| line.contains("user_script")) {
        return Err(format!("the mutated script itself is broken: {error}"));
    }
    let failed = text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    let failed = failed.map(|name| name.strip_prefix(CONTRACT).unwrap_or(name).to_owned()).collect();
    Ok((failed, said(&text)))
}

/// What the first story that failed said, without where.
fn said(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.contains(" panicked at "));
    let words = lines.by_ref().skip(1).take_while(|line| !line.starts_with("note: ") && !line.is_empty());
    words.map(str::trim).collect::<Vec<_>>().join(" ")
}

fn line(found: &Found) -> String {
    let what = match (found.broken, found.caught) {
        (true, _) => "NOT TRIED",
        (_, true) => "caught",
        _ => "NOT CAUGHT",
    };
    let others = found.failed.len().saturating_sub(usize::from(found.caught));
    let others = if others > 0 { format!(" and {others} more") } else { String::new() };
    let said: String = found.said.chars().take(160).collect();
    format!(
        "{:34} {what:10} {:4.1} s  {}{others}: {said}",
        format!("{} ({})", found.bug, found.script),
        found.seconds,
        found.story
    )
}

fn table(all: &[Found]) -> String {
    let mut text = String::from("| planted bug | script | caught by | what it said |\n|---|---|---|---|\n");
    for found in all {
        let caught = if found.caught { format!("`{}`", found.story) } else { "**nothing**".to_owned() };
        let said: String = found.said.replace('|', "\\|").chars().take(110).collect();
        let _ = writeln!(text, "| `{}` | `{}` | {caught} | {said} |", found.bug, found.script);
    }
    text
}
