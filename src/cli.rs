//! The command line: `serve`, `token`, `admin`, `demo`, `load`. A further command is one more variant of [`Command`], its arguments in a
//! file of its own, and one more arm in `main.rs`.

use std::{ffi::OsString, fmt, io::Write};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, builder::Resettable};

use crate::config::{ConfigError, ServeArgs};

pub mod admin;
pub mod client;
pub mod demo;
pub mod environment;
pub mod load;
pub mod log;
mod refusal;
pub mod serve;
pub mod table;
pub mod token;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by the server, or failed while running
  2  wrong use: a flag, an argument or a setting that is not valid; nothing was started
  3  the server cannot be reached

The environment variable of a flag is shown beside it. A flag overrides its variable. An empty variable counts as not set.";

/// Chat message backend that synchronises the devices of a user
#[derive(Parser)]
#[command(name = "keepstep", version, propagate_version = true, max_term_width = 110)]
#[command(override_usage = "keepstep [COMMAND] [OPTIONS]", after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do; `serve` when nothing is said.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run the server (the default command)
    #[command(after_help = serve::EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Make a user token with the shared secret, for tests and scripts
    #[command(after_help = token::EXAMPLES)]
    Token(token::TokenArgs),
    /// Inspect a running server, terminate devices, delete orphan queues
    #[command(after_help = admin::EXAMPLES)]
    Admin(admin::AdminArgs),
    /// Play a day of two users with phones and web sessions, as a demonstration
    #[command(after_help = demo::EXAMPLES)]
    Demo(Box<demo::DemoArgs>),
    /// Let users talk on a running server, and measure what they notice
    #[command(after_help = load::EXAMPLES)]
    Load(Box<load::LoadArgs>),
}

/// Reads a command line, the name of the program first.
///
/// # Errors
///
/// clap's: a usage error (its exit code is 2), or the help or version that was asked for (exit code 0).
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    // `keepstep --listen …` is `keepstep serve --listen …`.
    let flag_first = |text: &OsString| {
        let text = text.to_string_lossy();
        text.starts_with('-') && !matches!(&*text, "-h" | "--help" | "-V" | "--version")
    };
    if arguments.get(1).is_none_or(flag_first) {
        arguments.insert(1.min(arguments.len()), "serve".into());
    }
    let command = forget_empty_variables(Cli::command());
    let matches = command.clone().try_get_matches_from(&arguments);
    Cli::from_arg_matches(&matches.map_err(|refused| refusal::of_variable(refused, &command, &arguments))?)
}

/// Empty counts as not set: compose files and unit files can't unset a variable.
fn forget_empty_variables(command: clap::Command) -> clap::Command {
    let empty = |name: &std::ffi::OsStr| {
        std::env::var_os(name).is_some_and(|v| v.to_string_lossy().trim().is_empty())
    };
    command
        .mut_args(|arg| {
            if arg.get_env().is_some_and(empty) {
                arg.env(Resettable::<clap::builder::OsStr>::Reset)
            } else {
                arg
            }
        })
        .mut_subcommands(forget_empty_variables)
}

/// Why a command ended badly: what to print behind `error: `, and the exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Refused, or failed while running: exit code 1.
    pub fn run(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// A flag or setting that can't be used: exit code 2.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// The server can't be reached: exit code 3.
    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self { code: 3, message: message.to_string() }
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

/// Prints a result and a line end. `println!` would panic when the reader (`| head`) has gone; that is no fault here.
///
/// # Errors
///
/// When the standard output can't be written for another reason.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::run(format!("the standard output can't be written: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "../tests/unit/cli.rs"]
mod tests;
