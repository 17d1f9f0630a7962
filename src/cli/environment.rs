//! The variables of the environment that begin as settings do. One that isn't known is a misspelt one as a rule, and what it was
//! meant to forbid would be allowed.

use std::collections::BTreeSet;

use clap::CommandFactory;

use super::Cli;
use crate::config::ConfigError;

const PREFIX: &str = "KEEPSTEP_";
/// Not the server's, but met beside it: of the examples, of `docker-compose.yml`, of the scripts and tests of the repository.
const OTHERS: &[&str] =
    &["KEEPSTEP_TOKEN", "KEEPSTEP_PORT", "KEEPSTEP_BIN", "KEEPSTEP_CHROMIUM", "KEEPSTEP_FAKETIME"];
const FAMILIES: &[&str] = &["KEEPSTEP_TEST_", "KEEPSTEP_BENCH_", "KEEPSTEP_MUTANT"];

/// Refuses variables that are no settings, and names the nearest one that is. An empty variable counts as not set.
///
/// # Errors
/// [`ConfigError::UnknownVariables`]. No value is part of it.
pub fn check(variables: impl Iterator<Item = (String, String)>) -> Result<(), ConfigError> {
    let known = settings();
    let mut wrong: Vec<String> = variables
        .filter(|(name, value)| name.starts_with(PREFIX) && !value.trim().is_empty())
        .filter(|(name, value)| !is_known(&known, name) && !is_of_a_service(name, value))
        .map(|(name, _)| told(&known, &name))
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

/// Every variable of every command.
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

/// Whether Kubernetes set it, for a service called `keepstep` or `keepstep-…`: `KEEPSTEP_SERVICE_HOST`, `…_SERVICE_PORT[_NAME]`,
/// `…_PORT`, `…_PORT_8080_TCP[_ADDR|_PORT|_PROTO]`.
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

/// A sentence.
fn told(known: &BTreeSet<String>, name: &str) -> String {
    let far = |other: &String| strsim::damerau_levenshtein(name, other);
    // A third of it may be wrong: more is another word.
    let nearest = known.iter().map(|other| (far(other), other)).min();
    match nearest.filter(|(far, _)| *far <= (name.len() - PREFIX.len()) / 3 + 1) {
        Some((_, other)) => format!("{name} isn't a setting: did you mean {other}?"),
        None => format!("{name} isn't a setting."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, value: &str) -> Result<(), String> {
        check([(name.to_owned(), value.to_owned())].into_iter()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_misspelt_setting_is_told_the_right_one() {
        for (wrong, right) in [
            ("KEEPSTEP_JWT_SECRT", "KEEPSTEP_JWT_SECRET"),
            ("KEEPSTEP_JWT_SECERT", "KEEPSTEP_JWT_SECRET"),
            ("KEEPSTEP_HEARTBEET", "KEEPSTEP_HEARTBEAT"),
            ("KEEPSTEP_ALLOWED_ORIGIN", "KEEPSTEP_ALLOWED_ORIGINS"),
            ("KEEPSTEP_NSQDS", "KEEPSTEP_NSQD"),
            ("KEEPSTEP_MAX_CONNECTIONS_PER_ADDRESS", "KEEPSTEP_MAX_CONNECTIONS_PER_IP"),
            ("KEEPSTEP_ADMIN_TOKENS", "KEEPSTEP_ADMIN_TOKEN"),
        ] {
            let said = checked(wrong, "hunter2").unwrap_err();
            assert!(said.contains(&format!("{wrong} isn't a setting: did you mean {right}?")), "{said}");
            assert!(!said.contains("hunter2") && !said.contains("?."), "{said}");
        }
        let said = checked("KEEPSTEP_NO_SUCH_THING", "x").unwrap_err();
        assert!(
            said.starts_with("KEEPSTEP_NO_SUCH_THING isn't a setting. `keepstep serve --help`"),
            "{said}"
        );
        assert!(said.contains("KEEPSTEP_NO_SUCH_THING") && !said.contains("did you mean"), "{said}");
    }

    #[test]
    fn what_is_no_setting_and_no_mistake_is_let_be() {
        for (name, value) in [
            ("KEEPSTEP_JWT_SECRET", "x"),
            ("KEEPSTEP_URL", "x"),
            ("KEEPSTEP_JWT_SECRT", ""),
            ("KEEPSTEP_TEST_REDIS_URL", "x"),
            ("KEEPSTEP_HAPROXY_BIN", "x"),
            ("HOME", "x"),
            // A service `keepstep` and one `keepstep-edge` in Kubernetes.
            ("KEEPSTEP_SERVICE_HOST", "10.0.0.1"),
            ("KEEPSTEP_SERVICE_PORT", "8080"),
            ("KEEPSTEP_SERVICE_PORT_HTTP", "8080"),
            ("KEEPSTEP_PORT", "tcp://10.0.0.1:8080"),
            ("KEEPSTEP_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("KEEPSTEP_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("KEEPSTEP_EDGE_PORT", "tcp://10.0.0.1:8080"),
            ("KEEPSTEP_EDGE_PORT_8080_TCP_PROTO", "tcp"),
        ] {
            assert_eq!(checked(name, value), Ok(()), "{name}");
        }
        assert!(checked("KEEPSTEP_LISTEN_PORT", "8080").is_err());
    }
}
