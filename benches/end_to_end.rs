//! The whole of Keepstep under load, beside what it is made of and what one would take instead: run by `scripts/bench`,
//! explained in `docs/benchmarks.md`.
//!
//! All servers share one core, the load generator has another. Each measurement starts fresh servers; rounds go through
//! all systems in turn, so that a slow minute of the machine hits all of them.

#[path = "end_to_end/asks.rs"]
mod asks;
#[path = "end_to_end/client.rs"]
mod client;
#[path = "end_to_end/keepstep.rs"]
mod keepstep;
#[path = "end_to_end/machine.rs"]
mod machine;
#[path = "end_to_end/mosquitto.rs"]
mod mosquitto;
#[path = "end_to_end/plain_nsqd.rs"]
mod plain_nsqd;
#[path = "end_to_end/report.rs"]
mod report;
#[path = "end_to_end/scale.rs"]
mod scale;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "end_to_end/tally.rs"]
mod tally;
#[path = "end_to_end/work.rs"]
mod work;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use report::{Run, System};
use support::Aof;
use tally::Figures;
use work::Size;

const SCENARIOS: [&str; 13] = [
    "throughput",
    "steady",
    "latency",
    "idle",
    "drain",
    "history",
    "offsets",
    "refusal",
    "pairs",
    "connect",
    "storm",
    "first",
    "register",
];

/// What the command line says; `scripts/bench --help` tells it to people.
#[derive(Debug, Parser)]
struct Args {
    /// Small sizes: whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Only this one (may be given more than once).
    #[arg(long, value_parser = SCENARIOS)]
    scenario: Vec<String>,
    /// Only these systems: keepstep, everysec, nsqd, mosquitto.
    #[arg(long, value_delimiter = ',')]
    systems: Vec<String>,
    /// Times that each measurement is done.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds that count, of throughput and latency.
    #[arg(long)]
    seconds: Option<f64>,
    /// Where everything goes, for machines.
    #[arg(long)]
    json: Option<String>,
    /// The Markdown file whose table is to be replaced.
    #[arg(long)]
    markdown: Option<String>,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much of each.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    fan: Size,
    trickle: Size,
    per_second: f64,
    steady: f64,
    idle_devices: usize,
    queued: usize,
    pages: usize,
    reads: usize,
    refusals: usize,
    crowd: scale::Crowd,
    storm: scale::Crowd,
    many_chats: usize,
    times: usize,
}

impl Sizes {
    fn of(args: &Args) -> Self {
        let full =
            Size { chats: 100, devices: 8, senders: 32, warm_up: 3.0, seconds: args.seconds.unwrap_or(10.0) };
        let few =
            Size { chats: 10, devices: 8, senders: 8, warm_up: 0.5, seconds: args.seconds.unwrap_or(2.0) };
        if args.quick {
            Self {
                fan: few,
                trickle: few,
                per_second: 50.0,
                steady: 250.0,
                idle_devices: 80,
                queued: 1_000,
                pages: 5,
                reads: 20,
                refusals: 5,
                crowd: scale::Crowd { users: 100, chats: 20 },
                storm: scale::Crowd { users: 100, chats: 10 },
                many_chats: 50,
                times: 5,
            }
        } else {
            let trickle = Size { seconds: args.seconds.unwrap_or(20.0), ..full };
            Self {
                fan: full,
                trickle,
                per_second: 200.0,
                steady: 2_500.0,
                idle_devices: 5_000,
                queued: 20_000,
                pages: 50,
                reads: 200,
                refusals: 50,
                crowd: scale::Crowd { users: 500, chats: 40 },
                storm: scale::Crowd { users: 500, chats: 40 },
                many_chats: 1_000,
                times: 20,
            }
        }
    }
}

async fn measure(scenario: &str, system: System, sizes: Sizes) -> Option<Result<Figures, String>> {
    let Sizes { fan, trickle, per_second, steady, idle_devices, queued, pages, reads, refusals, .. } = sizes;
    let Sizes { crowd, storm, many_chats, times, .. } = sizes;
    Some(match (scenario, system) {
        ("throughput", System::Keepstep) => keepstep::throughput(Aof::Always, fan).await,
        ("throughput", System::Everysec) => keepstep::throughput(Aof::EverySecond, fan).await,
        ("throughput", System::Nsqd) => plain_nsqd::throughput(fan).await,
        ("throughput", System::Mosquitto) => mosquitto::throughput(fan).await,
        ("steady", System::Keepstep) => keepstep::latency(Aof::Always, fan, steady).await,
        ("steady", System::Nsqd) => plain_nsqd::latency(fan, steady).await,
        ("latency", System::Keepstep) => keepstep::latency(Aof::Always, trickle, per_second).await,
        ("latency", System::Everysec) => keepstep::latency(Aof::EverySecond, trickle, per_second).await,
        ("latency", System::Nsqd) => plain_nsqd::latency(trickle, per_second).await,
        ("latency", System::Mosquitto) => mosquitto::latency(trickle, per_second).await,
        ("idle", System::Keepstep) => keepstep::idle(fan, idle_devices).await,
        ("idle", System::Nsqd) => plain_nsqd::idle(fan, idle_devices).await,
        ("idle", System::Mosquitto) => mosquitto::idle(fan, idle_devices).await,
        ("drain", System::Keepstep) => keepstep::drain(queued).await,
        ("drain", System::Nsqd) => plain_nsqd::drain(queued).await,
        ("drain", System::Mosquitto) => mosquitto::drain(queued).await,
        ("history", System::Keepstep) => asks::history(pages).await,
        ("offsets", System::Keepstep) => asks::offsets(reads).await,
        ("refusal", System::Keepstep) => asks::refusal(refusals).await,
        ("pairs", System::Keepstep) => scale::pairs(crowd, fan.seconds).await,
        ("connect", System::Keepstep) => scale::connect(many_chats, times).await,
        ("storm", System::Keepstep) => scale::storm(storm).await,
        ("first", System::Keepstep) => scale::first(many_chats).await,
        ("register", System::Keepstep) => scale::register(many_chats, times.min(5)).await,
        _ => return None,
    })
}

fn short(system: System) -> &'static str {
    match system {
        System::Keepstep => "keepstep",
        System::Everysec => "everysec",
        System::Nsqd => "nsqd",
        System::Mosquitto => "mosquitto",
    }
}

async fn all(args: &Args, sizes: Sizes) -> Vec<Run> {
    let mut runs = Vec::new();
    let wanted =
        |scenario: &str| args.scenario.is_empty() || args.scenario.iter().any(|name| name == scenario);
    let rounds = if args.quick { 1 } else { args.rounds };
    for scenario in SCENARIOS.into_iter().filter(|scenario| wanted(scenario)) {
        for round in 1..=rounds {
            for system in System::ALL {
                if !args.systems.is_empty() && !args.systems.iter().any(|name| name == short(system)) {
                    continue;
                }
                let run = Box::pin(measure(scenario, system, sizes));
                let outcome = match tokio::time::timeout(Duration::from_secs(600), run).await {
                    Ok(None) => continue,
                    Ok(Some(outcome)) => outcome,
                    Err(_) => Err("not finished within 10 minutes".to_owned()),
                };
                eprintln!("{scenario} {round}/{rounds} {}: {}", system.name(), in_words(&outcome));
                runs.push(Run { scenario, round, system, outcome });
            }
        }
    }
    runs
}

fn in_words(outcome: &Result<Figures, String>) -> String {
    match outcome {
        Ok(figures) => {
            figures.iter().map(|(name, value)| format!("{name} {value:.2}")).collect::<Vec<_>>().join(", ")
        }
        Err(why) => format!("FAILED: {why}"),
    }
}

fn heading(pinned: bool, args: &Args) -> String {
    let how = if pinned {
        "all servers on one core, the load generator on another"
    } else {
        "NOT PINNED: servers and load generator share all cores, so these figures mean little"
    };
    let rounds = if args.quick {
        "1 round, --quick: small sizes, not for quoting".to_owned()
    } else {
        format!("median of {} rounds", args.rounds)
    };
    format!("{}; {how}; {rounds}.\n", machine::name())
}

fn main() -> ExitCode {
    let args = Args::parse();
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    // Before anything is pinned: afterwards only one core would be seen.
    let machine = machine::name();
    let pinned = machine::pin(machine::LOAD);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let sizes = Sizes::of(&args);
    let heading = heading(pinned, &args);
    eprintln!("{heading}");
    let runs = runtime.block_on(all(&args, sizes));
    runtime.shutdown_background();
    let text = format!("{heading}\n{}", report::table(&runs));
    println!("{text}");
    let mut written = Ok(());
    if let Some(file) = &args.json {
        let settings = serde_json::json!({ "quick": args.quick, "rounds": args.rounds, "pinned": pinned, "sizes": format!("{sizes:?}") });
        let all = report::json(&machine, &settings, &runs);
        written = std::fs::write(file, format!("{all:#}\n")).map_err(|error| format!("{file}: {error}"));
    }
    if let Some(file) = &args.markdown {
        written = written.and(report::write_between(file, &text));
    }
    if let Err(why) = written {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    // A baseline that isn't installed is no failure of ours.
    let failed = runs.iter().any(|run| run.outcome.as_ref().is_err_and(|why| why != mosquitto::MISSING));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
