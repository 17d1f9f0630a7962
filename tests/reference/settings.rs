//! `docs/settings.md`.

use clap::{Arg, Command};

use crate::{
    arguments,
    markdown::{cell, code, help, made_of, table},
};

const INTRODUCTION: &str = "\
These are the settings of `keepstep serve`. [cli.md](cli.md) describes the commands, [operating.md](operating.md) how
to choose values and secrets.

## How settings are given
- **Flag or variable.** Each setting has a flag and an environment variable: `--listen 0.0.0.0:8080` is
  `KEEPSTEP_LISTEN=0.0.0.0:8080`. The flag overrides the variable. Give secrets by the variable: every process of the
  machine can read flags.
- **Empty means not set.** The default applies.
- **Durations** are whole numbers with a unit, `ms`, `s`, `m`, `h` or `d`: `500ms`, `25s`, `2m`, `1h30m`, `7d`.
- **Sizes** are bytes, as whole numbers without a unit: `65536`.
- **Lists** are separated by commas. **Yes or no** is `true` or `false`: `--demo=false`.
- **Checked at the start.** A value that is not valid, values that exclude each other, and a `KEEPSTEP_…` variable
  that is no setting are refused with one sentence on standard error and exit code 2. Nothing is started.
- **Read at the start.** To change a setting, restart the edges one at a time. Except for its name and addresses,
  every edge of a deployment gets the same settings.
- **Two modes.** With `KEEPSTEP_REDIS_URL` and `KEEPSTEP_NSQD` the server runs on Redis and NSQ. With neither it runs
  embedded, in memory. With only one of them it is refused.

A request or frame above a limit is refused with the [error code](protocol.md#error-codes) that the table names, and
changes nothing. Numbers from 4300 to 4499 are [close codes](protocol.md#close-codes) of a socket. Rates belong to a
device, a user or an address, not to a connection.
";

pub fn page(root: &Command) -> String {
    let serve = root.find_subcommand("serve").expect("keepstep serve");
    let mut groups: Vec<(&str, Vec<&Arg>)> = Vec::new();
    for arg in arguments(serve) {
        let heading = arg.get_help_heading().unwrap_or("Other");
        match groups.iter_mut().find(|(name, _)| *name == heading) {
            Some((_, args)) => args.push(arg),
            None => groups.push((heading, vec![arg])),
        }
    }
    let mut out = format!("# Settings\n\n{}\n{INTRODUCTION}", made_of("src/config"));
    for (heading, args) in groups {
        let rows: Vec<_> = args.into_iter().map(row).collect();
        out += &format!("\n## {heading}\n{}", table(&["variable", "flag", "default", "meaning"], &rows));
    }
    out + &others(root, serve)
}

fn row(arg: &Arg) -> Vec<String> {
    let (help, described) = help(arg);
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .filter(|v| !v.is_empty())
        .collect();
    let default = match (defaults.is_empty(), described) {
        (false, _) => code(&defaults.join(",")),
        (true, described) => described
            .map_or_else(|| "not set".to_owned(), |text| cell(&text).trim_end_matches('.').to_owned()),
    };
    vec![
        arg.get_env().map(|name| code(&name.to_string_lossy())).unwrap_or_default(),
        arg.get_long().map(|name| code(&format!("--{name}"))).unwrap_or_default(),
        default,
        cell(&help) + &values(arg, &help),
    ]
}

/// The values that may be chosen, unless the help says them.
pub fn values(arg: &Arg, help: &str) -> String {
    let all = arg.get_possible_values();
    let names: Vec<&str> =
        all.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name()).collect();
    let takes_one = arg.get_action().takes_values();
    if !takes_one
        || names.is_empty()
        || names == ["true", "false"]
        || names.iter().all(|name| help.contains(name))
    {
        return String::new();
    }
    format!(" Values: {}.", names.iter().map(|name| code(name)).collect::<Vec<_>>().join(", "))
}

/// Variables that only the other commands know.
fn others(root: &Command, serve: &Command) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for command in root.get_subcommands() {
        for arg in arguments(command).filter(|arg| arg.get_env().is_some()) {
            if !arguments(serve).any(|known| known.get_env() == arg.get_env()) {
                let mut row = row(arg);
                row.insert(0, code(&format!("keepstep {}", command.get_name())));
                rows.push(row);
            }
        }
    }
    let head = ["command", "variable", "flag", "default", "meaning"];
    format!(
        "\n## Variables of other commands\n`keepstep token`, `admin` and `demo` make tokens with `KEEPSTEP_JWT_SECRET`, \
         `KEEPSTEP_JWT_ISSUER` and\n`KEEPSTEP_JWT_AUDIENCE`, as above. Besides:\n\n{}",
        table(&head, &rows)
    )
}
