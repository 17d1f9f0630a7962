//! What one account or one address can do to others: each kind of flood against a real edge on one core, while a pair of others
//! talks, and its times are compared with those of the same run before the flood. `scripts/abuse --help` says how to run it.
//!
//! As a test (`cargo test`) it runs a short slice. On a machine that others use, times prove little; so the slice asks for the
//! bounds that hold there too: the pair goes on, and the edge's memory stays small.

mod account;
#[path = "../support/client.rs"]
#[allow(dead_code)]
mod client;
mod flood;
mod kinds;
#[path = "../support/marks.rs"]
mod marks;
mod pair;
mod report;
mod run;
#[path = "../support/mod.rs"]
mod support;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use kinds::Kind;

/// What the command line says; `scripts/abuse --help` tells it to people.
#[derive(Debug, Parser)]
#[command(name = "floods")]
struct Args {
    /// Only these kinds.
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// How long each floods, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How often each is done, in turns.
    #[arg(long, default_value_t = 1)]
    turns: usize,
    /// The results as lines of JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// The Markdown file whose table is to be replaced.
    #[arg(long)]
    table: Option<PathBuf>,
    /// Another server than the one that was built with this.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Names the kinds.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        // The flooding process, started by the others.
        Some("flood") => flood::main(&args[1..]),
        Some("floods") => match Args::try_parse_from(&args) {
            Ok(args) => floods(&args),
            Err(wrong) => {
                eprintln!("{wrong}");
                ExitCode::from(3)
            }
        },
        _ => slice(&args),
    }
}

fn floods(args: &Args) -> ExitCode {
    if args.list {
        Kind::ALL.iter().for_each(|kind| println!("{:<14} {}", kind.name(), kind.about()));
        return ExitCode::SUCCESS;
    }
    let kinds = if args.kinds.is_empty() { Kind::ALL.to_vec() } else { args.kinds.clone() };
    let plan = run::Plan { seconds: args.seconds, calm: 60, bin: args.bin.clone() };
    let mut results = Vec::new();
    for kind in (0..args.turns).flat_map(|_| kinds.iter().copied()) {
        eprintln!("{} …", kind.name());
        let result = run::one(kind, &plan);
        eprintln!("  {}", result.line());
        if args.json {
            println!("{}", result.json());
        }
        results.push(result);
    }
    let table = report::table(&results);
    match &args.table {
        Some(file) => {
            if let Err(why) = marks::write(file, "abuse", &table) {
                eprintln!("{why}");
                return ExitCode::from(3);
            }
        }
        None if !args.json => println!("{table}"),
        None => {}
    }
    if results.iter().all(report::Outcome::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// As one test among others: its name may be filtered out.
fn slice(args: &[String]) -> ExitCode {
    const NAME: &str = "every_kind_of_flood_for_a_moment";
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    if !filters.is_empty() && !filters.iter().any(|filter| NAME.contains(filter.as_str())) {
        println!("running 0 tests");
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    let plan = run::Plan { seconds: 2, calm: 10, bin: None };
    let results: Vec<_> = Kind::ALL.iter().map(|kind| run::one(*kind, &plan)).collect();
    println!("{}", report::table(&results));
    let bad: Vec<_> = results.iter().filter_map(report::Outcome::broke_a_bound).collect();
    if bad.is_empty() {
        println!("test {NAME} ... ok");
        return ExitCode::SUCCESS;
    }
    println!("test {NAME} ... FAILED\n{}", bad.join("\n"));
    ExitCode::FAILURE
}
