//! The whole core of several edges (sessions, sync, hub) over one embedded store and broker, in one thread, with a clock
//! that jumps and everything that can go wrong decided by a seed. Clients write a history; the checker judges it. The same
//! seed does the same again, to the last call.
//!
//! `scripts/simulate --help` says how to run it.
//!
//! Exit code: 0 all well, 1 a promise was broken (or a planted bug wasn't caught), 2 nothing went wrong at all, so that
//! nothing was proved; 64 wrong use.

#[path = "../history/mod.rs"]
mod history;

mod device;
mod held;
mod leases;
mod life;
#[path = "../support/marks.rs"]
mod marks;
#[path = "../planted/switch.rs"]
mod planted;
mod random;
mod run;
mod scenes;
mod settle;
mod storm;
mod unkind;
mod world;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use planted::Bug;
use run::Outcome;
use scenes::Scene;

#[derive(Debug, Parser)]
#[command(name = "simulation", about = "Simulates Keepstep under every fault, by seed")]
struct Args {
    /// How many schedules (of each planted bug: at most)
    #[arg(long, default_value_t = 1_500)]
    schedules: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Begin no new schedule after so many minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Stop after so many have failed
    #[arg(long, default_value_t = 10)]
    failures: usize,
    /// One schedule again, with its history
    #[arg(long)]
    replay: Option<u64>,
    /// With everything that the model may do, what is left out by default too
    #[arg(long)]
    all: bool,
    /// Without these of what the model may do
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Plant one bug
    #[arg(long)]
    bug: Option<String>,
    /// Plant each bug in turn, until it is caught
    #[arg(long)]
    mutants: bool,
    /// With --mutants: as many must be caught (all)
    #[arg(long)]
    at_least: Option<usize>,
    /// The summary as one line of JSON
    #[arg(long)]
    json: bool,
    /// Writes the figures between the marks of this Markdown file
    #[arg(long)]
    table: Option<std::path::PathBuf>,
    /// Play the scenes of this name only, from the first seed on, and nothing else
    #[arg(long)]
    scene: Option<String>,
    /// What cargo gives every test program
    #[arg(hide = true)]
    _filter: Vec<String>,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    if let Err(why) = unkind::choose(args.all, &args.without) {
        eprintln!("simulation: {why}");
        return ExitCode::from(64);
    }
    if let Some(name) = &args.bug {
        let Some(bug) = Bug::ALL.iter().find(|bug| bug.name() == name) else {
            let names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
            eprintln!("simulation: there is no bug {name}; there are {}", names.join(", "));
            return ExitCode::from(64);
        };
        planted::choose(Some(*bug));
    }
    let scenes: Vec<Scene> = match &args.scene {
        None => Scene::ALL.to_vec(),
        Some(name) => Scene::ALL.iter().copied().filter(|scene| scene.name() == name).collect(),
    };
    if scenes.is_empty() {
        let names: Vec<_> = Scene::ALL.iter().map(|scene| scene.name()).collect();
        eprintln!("simulation: there is no such scene; there are {}", names.join(", "));
        return ExitCode::from(64);
    }
    match (args.replay, &args.scene) {
        (Some(seed), None) => return replay(run::schedule(seed)),
        (Some(seed), Some(_)) => return replay(run::scene(scenes[0], seed)),
        (None, Some(_)) => return scenes_alone(&args, &scenes),
        (None, None) => {}
    }
    if args.mutants { mutants(&args) } else { all(&args) }
}

/// What many schedules came to.
#[derive(Debug, Default)]
struct Sum {
    schedules: u64,
    sends: u64,
    deliveries: u64,
    simulated: Duration,
    injected: BTreeMap<&'static str, u64>,
    failed: Vec<(u64, Vec<String>)>,
}

/// Runs schedules on all threads, until there are enough, or time is over, or `stop_at` of them have failed.
fn many(args: &Args, stop_at: usize, progress: bool) -> Sum {
    all_of(args, args.schedules, run::schedule, stop_at, progress)
}

/// The same of one scene.
fn scene(args: &Args, scene: Scene, times: u64, stop_at: usize) -> Sum {
    all_of(args, times, |seed| run::scene(scene, seed), stop_at, false)
}

fn all_of(
    args: &Args,
    schedules: u64,
    run: impl Fn(u64) -> Outcome + Sync,
    stop_at: usize,
    progress: bool,
) -> Sum {
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let late = args.minutes.is_some_and(|most| begun.elapsed().as_secs_f64() > most * 60.0);
                    if n >= schedules || late || over.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = run(args.seed + n);
                    if progress && let Some(first) = outcome.violations.first() {
                        eprintln!("seed {}: {first}", args.seed + n);
                    }
                    let mut sum = sum.lock().unwrap();
                    add(&mut sum, args.seed + n, outcome);
                    if sum.failed.len() >= stop_at {
                        over.store(true, Ordering::Relaxed);
                    }
                    if progress && sum.schedules % 500 == 0 {
                        eprintln!(
                            "{} schedules, {} failed, {:.0} s",
                            sum.schedules,
                            sum.failed.len(),
                            begun.elapsed().as_secs_f64()
                        );
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap()
}

fn add(sum: &mut Sum, seed: u64, outcome: Outcome) {
    sum.schedules += 1;
    sum.sends += outcome.sends;
    sum.deliveries += outcome.deliveries;
    sum.simulated += outcome.simulated;
    for (what, times) in outcome.injected {
        *sum.injected.entry(what).or_default() += times;
    }
    if !outcome.violations.is_empty() {
        sum.failed.push((seed, outcome.violations));
    }
}

fn all(args: &Args) -> ExitCode {
    let begun = Instant::now();
    // A seed that doesn't repeat itself would be no use in finding out why.
    let (one, other) = (run::schedule(args.seed), run::schedule(args.seed));
    if one.fingerprint != other.fingerprint {
        eprintln!("simulation: seed {} isn't the same twice", args.seed);
        if let Some((first, second)) = one.events.iter().zip(&other.events).find(|(one, other)| one != other)
        {
            eprintln!("first {first:?}\nthen  {second:?}");
        }
        return ExitCode::FAILURE;
    }
    let mut broken = false;
    for one in Scene::ALL {
        let sum = scene(args, *one, SCENES, args.failures);
        complain(&sum, &format!(" --scene {:?}", one.name()));
        broken |= !sum.failed.is_empty();
    }
    let begun_all = begun.elapsed();
    let sum = many(args, args.failures, true);
    complain(&sum, "");
    let begun = begun + begun_all;
    let seconds = begun.elapsed().as_secs_f64();
    if args.json {
        let summary = serde_json::json!({
            "schedules": sum.schedules, "first_seed": args.seed, "failed": sum.failed.len(), "seconds": seconds,
            "sends": sum.sends, "deliveries": sum.deliveries, "simulated_hours": sum.simulated.as_secs_f64() / 3600.0,
            "injected": sum.injected,
        });
        println!("{summary}");
    } else {
        println!("{}", figures(args, &sum, seconds));
    }
    if !written(args, "simulation", &figures(args, &sum, seconds)) {
        return ExitCode::from(64);
    }
    match (sum.failed.is_empty() && !broken, sum.injected.is_empty()) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::from(2),
        (true, false) => ExitCode::SUCCESS,
    }
}

/// How often each scene is played before the schedules.
const SCENES: u64 = 10;

/// And until it finds its bug, at most.
const UNTIL_FOUND: u64 = 100;

/// Scenes only.
fn scenes_alone(args: &Args, scenes: &[Scene]) -> ExitCode {
    let mut broken = false;
    for one in scenes {
        let sum = scene(args, *one, args.schedules, args.failures);
        complain(&sum, &format!(" --scene {:?}", one.name()));
        println!("{}: {} played, {} failed", one.name(), sum.schedules, sum.failed.len());
        broken |= !sum.failed.is_empty();
    }
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What failed, and how it fails again.
fn complain(sum: &Sum, how: &str) {
    for (seed, violations) in &sum.failed {
        eprintln!("seed {seed} (again with{how} --replay {seed}):");
        violations.iter().for_each(|violation| eprintln!("    {violation}"));
    }
}

fn figures(args: &Args, sum: &Sum, seconds: f64) -> String {
    let rows = [
        ("schedules", sum.schedules.to_string()),
        ("seeds from", args.seed.to_string()),
        ("failed", sum.failed.len().to_string()),
        ("acknowledged sends", sum.sends.to_string()),
        ("deliveries", sum.deliveries.to_string()),
        ("simulated hours", format!("{:.0}", sum.simulated.as_secs_f64() / 3600.0)),
        ("schedules a minute", format!("{:.0}", sum.schedules as f64 * 60.0 / seconds)),
    ];
    let mut table = "| in the whole | |\n|---|--:|\n".to_owned();
    for (what, value) in rows {
        table += &format!("| {what} | {value} |\n");
    }
    table += "\n| what went wrong | times |\n|---|--:|\n";
    for (what, times) in &sum.injected {
        table += &format!("| {what} | {times} |\n");
    }
    table
}

fn written(args: &Args, name: &str, figures: &str) -> bool {
    match args.table.as_ref().map(|file| marks::write(file, name, figures)) {
        Some(Err(why)) => {
            eprintln!("simulation: {why}");
            false
        }
        _ => true,
    }
}

fn mutants(args: &Args) -> ExitCode {
    let mut caught = 0;
    let mut table =
        "| planted bug | caught by seed | after schedules | first broken promise |\n|---|--:|--:|---|\n"
            .to_owned();
    let bugs: Vec<Bug> = Bug::ALL.iter().copied().filter(|bug| !STORE_ONLY.contains(bug)).collect();
    for bug in &bugs {
        planted::choose(Some(*bug));
        eprintln!("{} …", bug.name());
        // The sooner found, the better: its scene, if it has one.
        let played = Scene::ALL.iter().find(|scene| scene.bug() == *bug);
        let (sum, of) = match played.map(|played| (scene(args, *played, UNTIL_FOUND, 1), played)) {
            Some((sum, played)) if !sum.failed.is_empty() => (sum, format!(" of *{}*", played.name())),
            _ => (many(args, 1, false), String::new()),
        };
        match sum.failed.first() {
            Some((seed, violations)) => {
                caught += 1;
                let how = violations.first().map_or("", String::as_str);
                let how: String = how.chars().take(110).collect();
                let how = how.replace('|', "/");
                table += &format!("| `{}` | {seed}{of} | {} | {how} |\n", bug.name(), sum.schedules);
            }
            None => {
                table += &format!("| `{}` | **not caught** | {} | |\n", bug.name(), sum.schedules);
            }
        }
    }
    planted::choose(None);
    println!("{table}");
    eprintln!("{caught} of {} were caught", bugs.len());
    if !written(args, "mutants", &table) {
        return ExitCode::from(64);
    }
    if caught >= args.at_least.unwrap_or(bugs.len()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Bugs that only the store's contract shows (`scripts/mutants`). A forgotten note does harm only if its edge was taken for dead,
/// lived on, sent, and died, all while one call of another edge was on its way.
const STORE_ONLY: &[Bug] = &[Bug::StaleNoteForgotten, Bug::SweepSkips];

fn replay(outcome: Outcome) -> ExitCode {
    for event in &outcome.events {
        println!("{:>10.3} ms {}", event.at as f64 / 1000.0, serde_json::to_string(&event.what).unwrap());
    }
    println!("fingerprint {:016x}", outcome.fingerprint);
    for violation in &outcome.violations {
        println!("VIOLATION {violation}");
    }
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
