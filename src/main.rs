//! The `keepstep` command: read the command line, run it, turn its end into an exit code.

use std::process::ExitCode;

use keepstep::cli::{self, Command, Failure};

// It gives back to the system what it no longer needs: after a flood of connections the system's own keeps all of it
// (docs/decisions/0026-memory-is-given-back.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(refusal) => {
            let _ = refusal.print();
            return u8::try_from(refusal.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => {
            let seen = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
                (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
            };
            cli::environment::check(std::env::vars_os().map(seen))?;
            let config = args.into_config()?;
            cli::log::start(&config.log);
            wait_for(cli::serve::run(config))
        }
        Command::Token(args) => cli::token::run(&args),
        Command::Admin(args) => wait_for(cli::admin::run(args)),
        Command::Demo(args) => wait_for(cli::demo::run(*args)),
        Command::Load(args) => wait_for(cli::load::run(*args)),
    }
}

fn wait_for(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::run(format!("no runtime can be started: {error}")))?.block_on(work)
}
