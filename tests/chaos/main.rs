//! The campaign: random users on real processes, faults of all kinds, two or three at once, and a checker that judges the
//! clients' history. `scripts/chaos --help` says how to run it.
//!
//! As a test (`cargo test`) it runs a fixed slice with each kind of fault once.

#[path = "../support/client.rs"]
#[allow(dead_code)]
mod client;
mod closes;
mod crowd;
mod device;
mod ending;
mod faults;
mod gaps;
#[path = "../history/mod.rs"]
mod history;
#[path = "../support/marks.rs"]
mod marks;
mod memory;
mod meter;
mod people;
mod plan;
mod proxy;
mod record;
mod recovery;
mod report;
mod run;
#[path = "../support/mod.rs"]
mod support;
mod trial;
mod world;

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use plan::{FAULTS, KINDS, Kind, Plan};
use report::Summary;
use run::Outcome;

/// What the command line says; `scripts/chaos --help` tells it to people.
#[derive(Debug, Parser)]
#[command(name = "campaign")]
struct Args {
    /// Runs, those in the results included.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Decides everything.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One line per run; runs that are in it are skipped.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Only these kinds.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Names the kinds.
    #[arg(long)]
    list: bool,
    /// About how many seconds a run goes on before its end.
    #[arg(long, default_value_t = 45)]
    duration: u64,
    /// Only this run.
    #[arg(long)]
    only: Option<u64>,
    /// The Markdown file whose table is to be replaced.
    #[arg(long)]
    table: Option<PathBuf>,
    /// The sums as JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Where the folders of runs go that broke something.
    #[arg(long, default_value = "target/chaos")]
    keep: PathBuf,
}

/// The seed of the slice.
const SLICE: u64 = 20_261_121;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "campaign") {
        return match Args::try_parse_from(args) {
            Ok(args) => campaign(&args),
            Err(wrong) => {
                eprintln!("{wrong}");
                ExitCode::from(3)
            }
        };
    }
    slice(&args)
}

/// As one test among others: its name may be filtered out.
fn slice(args: &[String]) -> ExitCode {
    const NAME: &str = "every_kind_of_fault_once";
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    if !filters.is_empty() && !filters.iter().any(|filter| NAME.contains(filter.as_str())) {
        println!("running 0 tests");
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    if let Err(why) = tried() {
        println!("{why}");
        return ExitCode::FAILURE;
    }
    let faults = 9;
    let runs = KINDS.len().div_ceil(faults) as u64;
    let mut outcomes = Vec::new();
    for number in 0..runs {
        let plan = Plan::new(SLICE, number, KINDS, faults, 30);
        match one(SLICE, number, &plan, Path::new("target/chaos")) {
            Ok(outcome) => outcomes.push(outcome),
            Err(why) => {
                println!("run {number}: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    let summary = Summary::of(&outcomes);
    println!("{}", summary.table());
    verdict(&summary, summary.bites() == 0)
}

/// First of all, whether the campaign would see what is wrong.
fn tried() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(trial::all());
    Ok(())
}

fn campaign(args: &Args) -> ExitCode {
    if args.list {
        KINDS.iter().for_each(|kind| println!("{kind:16} {}", kind.what()));
        return ExitCode::SUCCESS;
    }
    match runs(args) {
        Ok(outcomes) => {
            let summary = Summary::of(&outcomes);
            if args.json {
                println!("{}", serde_json::to_string_pretty(&summary).unwrap_or_default());
            } else {
                println!("\n{}", summary.table());
            }
            if let Some(Err(why)) =
                args.table.as_ref().map(|file| marks::write(file, "chaos", &summary.table()))
            {
                eprintln!("{why}");
                return ExitCode::from(3);
            }
            // A kind that never bit proves nothing, once it had its chances.
            let toothless: Vec<&String> = summary
                .faults
                .iter()
                .filter(|(_, fault)| fault.injected >= 20 && fault.bit < 10)
                .map(|(kind, _)| kind)
                .collect();
            for (kind, fault) in summary.faults.iter().filter(|(_, fault)| fault.not_done > 0) {
                let why = fault.why_not.as_deref().unwrap_or_default();
                eprintln!("not done {} times: {kind}: {why}", fault.not_done);
            }
            if !toothless.is_empty() {
                eprintln!("less than 10 of at least 20 bit: {toothless:?}");
            }
            verdict(&summary, summary.bites() == 0 || !toothless.is_empty())
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(3)
        }
    }
}

fn verdict(summary: &Summary, toothless: bool) -> ExitCode {
    match (summary.violations(), toothless) {
        (0, false) => ExitCode::SUCCESS,
        (0, true) => {
            eprintln!("nothing bit: this proves nothing");
            ExitCode::from(2)
        }
        (broken, _) => {
            eprintln!("{broken} violations");
            ExitCode::FAILURE
        }
    }
}

/// Runs all runs that aren't in the results yet, one after the other.
fn runs(args: &Args) -> Result<Vec<Outcome>, String> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    if let Some(text) = args.results.as_ref().and_then(|file| std::fs::read_to_string(file).ok()) {
        // The last line of a campaign that was killed may be cut off.
        outcomes.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
    }
    let kinds = if args.faults.is_empty() { KINDS } else { &args.faults };
    // A campaign may have several seeds, say of two at the same time, one after the other in one file.
    let ours = outcomes.iter().filter(|outcome| outcome.seed == args.seed);
    let done: HashSet<u64> = ours.map(|outcome| outcome.run).collect();
    let wanted: Vec<u64> = args.only.map_or_else(|| (0..args.runs).collect(), |only| vec![only]);
    for number in wanted.into_iter().filter(|number| !done.contains(number)) {
        let plan = Plan::new(args.seed, number, kinds, FAULTS.min(kinds.len()), args.duration);
        let outcome = one(args.seed, number, &plan, &args.keep)?;
        if let Some(file) = &args.results {
            let line = serde_json::to_string(&outcome).map_err(|error| error.to_string())?;
            let open = std::fs::OpenOptions::new().create(true).append(true).open(file);
            let written = open.and_then(|mut file| writeln!(file, "{line}"));
            written.map_err(|error| format!("{}: {error}", file.display()))?;
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Waits for ctrl-C or SIGTERM.
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Runs one run, with its progress, in a runtime of its own, so that nothing of it survives into the next.
fn one(seed: u64, number: u64, plan: &Plan, keep: &Path) -> Result<Outcome, String> {
    let faults: Vec<String> = plan
        .waves
        .iter()
        .map(|wave| wave.iter().map(|fault| fault.kind.to_string()).collect::<Vec<_>>().join("+"))
        .collect();
    let far = plan.far.map(|fault| format!("{} all the time, ", fault.kind)).unwrap_or_default();
    println!(
        "run {number} (seed {seed}): {} edges, {} users, {} groups, {:?} logs; {far}{}",
        plan.edges,
        plan.users,
        plan.groups,
        plan.log,
        faults.join(", ")
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let folder = keep.join(format!("{seed}-{number}"));
    // Interrupted, it takes its processes and its disk with it.
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = run::run(seed, number, plan, &folder) => outcome,
            () = told_to_stop() => Err("interrupted".to_owned()),
        }
    })?;
    let Outcome { seconds, acknowledged, deliveries, events, counted, .. } = &outcome;
    println!(
        "  {seconds:.0} s, {acknowledged} sends, {deliveries} deliveries ({} from the log), {events} events",
        counted[meter::LOG]
    );
    for fault in &outcome.faults {
        let bit = match &fault.lacking {
            Some(why) => why,
            None if fault.bit => "bit",
            None => "didn't bite",
        };
        println!("  {:14} {bit:11} {:5} ms  {}", fault.kind, fault.recovery.slowest(), fault.evidence);
    }
    for (invariant, what) in outcome.violations.iter().take(20) {
        println!("  !! invariant {invariant}: {what}");
    }
    if !outcome.violations.is_empty() {
        println!("  !! kept in {}", folder.display());
    }
    Ok(outcome)
}
