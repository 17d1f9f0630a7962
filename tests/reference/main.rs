//! `docs/settings.md`, `docs/metrics.md` and `docs/cli.md` are made of what the code says of itself: the definition of the
//! command line, and the registry of metrics. `scripts/reference` writes them; without it, these tests compare.

use std::{collections::BTreeSet, fs, path::PathBuf};

use clap::{Arg, Command, CommandFactory};
use keepstep::cli::{Cli, environment};

mod cli;
#[path = "../support/exposition.rs"]
#[expect(dead_code, reason = "other tests ask more of a scrape")]
mod exposition;
mod markdown;
mod metrics;
mod settings;

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// The whole command line, with what commands take over from those above them.
fn commands() -> Command {
    let mut root = Cli::command();
    root.build();
    root
}

/// What an operator may give; not what clap itself adds.
fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version"))
}

/// Writes the page when `scripts/reference` asks for it, else compares.
fn check(path: &str, page: &str) {
    if std::env::var("KEEPSTEP_TEST_REFERENCE").is_ok_and(|what| what == "write") {
        fs::write(repository(path), page).unwrap_or_else(|why| panic!("{path}: {why}"));
    }
    let there = fs::read_to_string(repository(path)).unwrap_or_default();
    if let Some(why) = difference(&there, page) {
        panic!("{path} is not what the code says. Run scripts/reference, and commit what it writes. {why}");
    }
}

/// The first line that differs, if any does.
fn difference(there: &str, page: &str) -> Option<String> {
    if there == page {
        return None;
    }
    let (mut old, mut new) = (there.lines(), page.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (old.next(), new.next()) {
            (None, None) => return Some("Only the end of the file differs.".to_owned()),
            (old, new) if old == new => {}
            (old, new) => {
                let shown = |line: Option<&str>| line.unwrap_or("(no line)").to_owned();
                return Some(format!("Line {number}\n  is:     {}\n  should: {}", shown(old), shown(new)));
            }
        }
    }
}

#[test]
fn the_page_of_settings_is_what_the_code_says() {
    check("docs/settings.md", &settings::page(&commands()));
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "the metrics of the process are there on Linux only")]
fn the_page_of_metrics_is_what_the_code_says() {
    check("docs/metrics.md", &metrics::page());
}

#[test]
fn the_page_of_commands_is_what_the_code_says() {
    check("docs/cli.md", &cli::page(&commands()));
}

#[test]
fn a_page_that_differs_is_seen() {
    assert_eq!(difference("a\nb\n", "a\nb\n"), None);
    for (there, page) in
        [("", "a\n"), ("a\n", "a\nb\n"), ("a\nb\n", "a\n"), ("a\nb\n", "a\nc\n"), ("a", "a\n")]
    {
        assert!(difference(there, page).is_some(), "{there:?} {page:?}");
    }
    let why = difference("a\nb\nc\n", "a\nx\nc\n").expect("they differ");
    assert!(why.contains("Line 2") && why.contains("is:     b") && why.contains("should: x"), "{why}");
}

#[test]
fn every_setting_has_a_group_a_variable_and_a_meaning() {
    let root = commands();
    let serve = root.find_subcommand("serve").expect("keepstep serve");
    let mut variables = BTreeSet::new();
    for arg in arguments(serve) {
        let name = arg.get_id().as_str();
        let variable = arg.get_env().unwrap_or_else(|| panic!("{name} has no variable")).to_string_lossy();
        assert!(arg.get_help_heading().is_some(), "{variable} is in no group");
        let flag = arg.get_long().unwrap_or_else(|| panic!("{variable} has no flag"));
        assert_eq!(variable, format!("KEEPSTEP_{}", flag.replace('-', "_").to_uppercase()));
        assert!(markdown::help(arg).0.len() >= 20, "{variable}: {}", markdown::help(arg).0);
        assert!(variables.insert(variable.into_owned()), "{flag} comes twice");
    }
    assert!(variables.len() > 90, "{variables:?}");
}

#[test]
fn no_page_tells_of_a_setting_that_is_not_there() {
    let mut pages = vec!["README.md".to_owned(), "docs/operating/alerts.yml".to_owned()];
    for entry in fs::read_dir(repository("docs")).expect("docs") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            pages.push(format!("docs/{name}"));
        }
    }
    assert!(pages.len() > 8, "{pages:?}");
    let known: BTreeSet<String> = {
        let root = commands();
        let all = root.get_subcommands().flat_map(Command::get_arguments).filter_map(Arg::get_env);
        all.map(|name| name.to_string_lossy().into_owned()).collect()
    };
    for page in pages {
        for word in read(&page).split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            // `KEEPSTEP_LOG_*` stands for several.
            let family = word.ends_with('_') && known.iter().any(|name| name.starts_with(word));
            if word.starts_with("KEEPSTEP_") && word.len() > "KEEPSTEP_".len() && !family {
                let told = [(word.to_owned(), "x".to_owned())];
                environment::check(told.into_iter()).unwrap_or_else(|why| panic!("{page}: {why}"));
            }
        }
    }
}
