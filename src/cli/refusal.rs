//! clap's refusals, under the name of what was set.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue};

/// Names the variable instead of the flag in a refusal of a value from the environment.
pub(super) fn of_variable(
    mut refusal: clap::Error,
    command: &clap::Command,
    arguments: &[OsString],
) -> clap::Error {
    let Some(ContextValue::String(shown)) = refusal.get(ContextKind::InvalidArg) else { return refusal };
    let flag = shown.split(|c: char| c != '-' && !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    if arguments.iter().any(|argument| is_flag(argument, flag)) {
        return refusal;
    }
    let of_command = command_of(command, arguments.get(1..).unwrap_or_default());
    if let Some(variable) = flag.strip_prefix("--").and_then(|long| variable(of_command, long)) {
        let named = format!("{} (the same as {shown})", variable.to_string_lossy());
        refusal.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    refusal
}

/// Returns whether an argument is `--flag` or `--flag=value`.
fn is_flag(argument: &OsStr, flag: &str) -> bool {
    let argument = argument.to_string_lossy();
    argument.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// Returns the command that the arguments name.
fn command_of<'a>(command: &'a clap::Command, arguments: &[OsString]) -> &'a clap::Command {
    let named = arguments.first().and_then(|name| command.find_subcommand(name));
    named.unwrap_or(command)
}

/// Returns the variable of a flag of the command or of a subcommand.
fn variable<'a>(command: &'a clap::Command, long: &str) -> Option<&'a OsStr> {
    let own = command.get_arguments().find(|argument| argument.get_long() == Some(long));
    match own.and_then(clap::Arg::get_env) {
        Some(variable) => Some(variable),
        None => command.get_subcommands().find_map(|command| variable(command, long)),
    }
}
