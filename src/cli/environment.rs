//! The environment variables that begin as settings do. An unknown one is usually misspelt, and what it should forbid would
//! be allowed.

use std::collections::BTreeSet;

use clap::CommandFactory;

use super::Cli;
use crate::config::ConfigError;

const PREFIX: &str = "KEEPSTEP_";
/// Variables of the examples, of `docker-compose.yml`, of the repository's scripts and tests.
const OTHERS: &[&str] =
    &["KEEPSTEP_TOKEN", "KEEPSTEP_PORT", "KEEPSTEP_BIN", "KEEPSTEP_CHROMIUM", "KEEPSTEP_FAKETIME"];
const FAMILIES: &[&str] = &["KEEPSTEP_TEST_", "KEEPSTEP_BENCH_", "KEEPSTEP_MUTANT"];

/// Refuses variables that are no settings, and names the nearest setting. An empty variable counts as not set.
///
/// # Errors
/// [`ConfigError::UnknownVariables`]. No value is part of it.
pub fn check(variables: impl Iterator<Item = (String, String)>) -> Result<(), ConfigError> {
    let known = settings();
    let mut wrong: Vec<String> = variables
        .filter(|(name, value)| name.starts_with(PREFIX) && !value.trim().is_empty())
        .filter(|(name, value)| !is_known(&known, name) && !is_of_a_service(name, value))
        .map(|(name, _)| sentence(&known, &name))
        .collect();
    wrong.sort_unstable();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(ConfigError::UnknownVariables(format!(
        "{} `keepstep serve --help` lists all settings; take away what is none",
        wrong.join(" ")
    )))
}

/// Returns every variable of every command.
fn settings() -> BTreeSet<String> {
    fn collect(command: &clap::Command, into: &mut BTreeSet<String>) {
        let names =
            command.get_arguments().filter_map(|arg| arg.get_env()).map(|name| name.to_string_lossy());
        into.extend(names.map(std::borrow::Cow::into_owned));
        command.get_subcommands().for_each(|command| collect(command, into));
    }
    let mut names = BTreeSet::new();
    collect(&Cli::command(), &mut names);
    names
}

fn is_known(known: &BTreeSet<String>, name: &str) -> bool {
    known.contains(name)
        || OTHERS.contains(&name)
        || name.ends_with("_BIN")
        || FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Returns whether Kubernetes set it for a service called `keepstep` or `keepstep-…`: `KEEPSTEP_SERVICE_HOST`,
/// `…_SERVICE_PORT[_NAME]`, `…_PORT`, `…_PORT_8080_TCP[_ADDR|_PORT|_PROTO]`.
fn is_of_a_service(name: &str, value: &str) -> bool {
    let is_port = |text: &str| {
        let mut parts = text.split('_');
        let number = parts.next().is_some_and(|part| part.parse::<u16>().is_ok());
        number && parts.next().is_some_and(|part| matches!(part, "TCP" | "UDP" | "SCTP"))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
        || name.match_indices("_PORT_").any(|(at, found)| is_port(&name[at + found.len()..]))
}

/// Returns a sentence about an unknown variable.
fn sentence(known: &BTreeSet<String>, name: &str) -> String {
    let far = |other: &String| strsim::damerau_levenshtein(name, other);
    // If more than a third is wrong, it is another word.
    let nearest = known.iter().map(|other| (far(other), other)).min();
    match nearest.filter(|(far, _)| *far <= (name.len() - PREFIX.len()) / 3 + 1) {
        Some((_, other)) => format!("{name} isn't a setting: did you mean {other}?"),
        None => format!("{name} isn't a setting."),
    }
}

#[cfg(test)]
#[path = "../../tests/unit/cli/environment.rs"]
mod tests;
