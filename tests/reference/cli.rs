//! `docs/cli.md`.

use clap::{Arg, Command};

use crate::{
    arguments,
    markdown::{cell, code, help, made_of, prose, table},
    settings::values,
};

pub fn page(root: &Command) -> String {
    let mut out = format!("# The command line\n\n{}\n", made_of("src/cli"));
    let mut contents = Vec::new();
    let mut body = String::new();
    section(root, None, &mut contents, &mut body);
    out += &contents.join(" ·\n");
    out + ".\n" + &body
}

fn section(command: &Command, above: Option<&Command>, contents: &mut Vec<String>, out: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    contents.push(format!("[`{name}`](#{})", name.replace(' ', "-")));
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    *out += &format!("\n## {name}\n{}\n\n```text\n{usage}\n```\n", prose(&about));

    let subcommands: Vec<&Command> = command
        .get_subcommands()
        .filter(|command| command.get_name() != "help" && !command.is_hide_set())
        .collect();
    if !subcommands.is_empty() {
        let rows = subcommands.iter().map(|below| {
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            let full = format!("{name} {}", below.get_name());
            vec![format!("[`{full}`](#{})", full.replace(' ', "-")), cell(&about)]
        });
        *out += &format!("\n{}", table(&["command", "does"], &rows.collect::<Vec<_>>()));
    }
    // What it takes over from the command above is told there.
    let inherited =
        |arg: &Arg| above.is_some_and(|above| arguments(above).any(|known| known.get_id() == arg.get_id()));
    let own: Vec<&Arg> = arguments(command).filter(|arg| !(arg.is_global_set() && inherited(arg))).collect();
    if command.get_name() == "serve" {
        *out += "\nIts options are the settings, each with an environment variable: [settings.md](settings.md).\n";
    } else if !own.is_empty() {
        let rows: Vec<_> = own.iter().map(|arg| row(arg)).collect();
        *out += &format!("\n{}", table(&["argument", "variable", "default", "meaning"], &rows));
    }
    if let Some(above) = above.filter(|above| arguments(above).any(Arg::is_global_set)) {
        let parent = above.get_bin_name().unwrap_or(above.get_name());
        *out += &format!("\nBesides the options of [`{parent}`](#{}).\n", parent.replace(' ', "-"));
    }
    if above.is_none() {
        *out += "\nEvery command takes `-h`, `--help` and `-V`, `--version`.\n";
    }
    if let Some(after) = command.get_after_help() {
        after.to_string().split("\n\n").for_each(|part| *out += &format!("\n{}", after_help(part)));
    }
    for below in subcommands {
        section(below, Some(command), contents, out);
    }
}

fn row(arg: &Arg) -> Vec<String> {
    let (help, described) = help(arg);
    let value =
        || arg.get_value_names().and_then(|names| names.first()).map_or("VALUE", |name| name.as_str());
    let mut name = match (arg.get_short(), arg.get_long()) {
        (None, None) if arg.is_required_set() => format!("<{}>", value()),
        (None, None) => format!("[{}]", value()),
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short}"),
    };
    let takes_value = arg.get_action().takes_values();
    if takes_value && !arg.is_positional() {
        name += &format!(" <{}>", value());
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = match described {
        Some(text) => cell(&text).trim_end_matches('.').to_owned(),
        None if takes_value && !defaults.is_empty() => code(&defaults.join(",")),
        None if takes_value && arg.is_required_set() => "required".to_owned(),
        None => String::new(),
    };
    let variable = arg.get_env().map(|name| code(&name.to_string_lossy())).unwrap_or_default();
    vec![code(&name), variable, default, cell(&help) + &values(arg, &help)]
}

/// A paragraph behind a command's help: a list of exit codes, a block with a heading, or a sentence.
fn after_help(text: &str) -> String {
    let Some((heading, lines)) = text.split_once(":\n") else {
        return format!("{}\n", prose(text.trim()));
    };
    let lines: Vec<&str> = lines.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    let codes: Option<Vec<_>> = lines
        .iter()
        .map(|line| line.split_once("  ").filter(|(code, _)| code.bytes().all(|b| b.is_ascii_digit())))
        .collect();
    match codes {
        Some(codes) => {
            let rows: Vec<_> = codes
                .iter()
                .map(|(code, means)| vec![(*code).to_owned(), cell(means).trim_end_matches('.').to_owned()])
                .collect();
            table(&["exit code", "meaning"], &rows)
        }
        None => format!("{heading}:\n```text\n{}\n```\n", lines.join("\n").trim_end()),
    }
}
