//! This client beside an independent one, tokio-nsq: the same work against the same nsqd, in turns.
//!
//! Each measurement runs in a process of its own, so that memory and processor time are one client's alone, and each
//! gets a fresh nsqd. Pairs are interleaved: a slow minute of the machine hits both.
//!
//! ```sh
//! cargo bench -p keepstep-nsq --bench compare -- --quick
//! cargo bench -p keepstep-nsq --bench compare -- --json > compare.json
//! ```

#[path = "compare/clients.rs"]
mod clients;
#[path = "../tests/contract/daemons.rs"]
#[allow(dead_code, reason = "shared with the contract tests, which use more of it")]
mod daemons;
#[path = "compare/procfs.rs"]
mod procfs;
#[path = "compare/report.rs"]
mod report;
#[path = "compare/work.rs"]
mod work;

use std::collections::BTreeMap;
use std::process::Command;

use daemons::Nsqd;
use report::{CLIENTS, Metrics, Scenario};

/// What the command line says. Each field is also the name of its flag.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Interleaved rounds of each scenario.
    pairs: usize,
    /// Interleaved rounds of the idle scenario, which takes a minute per client.
    idle_pairs: usize,
    /// Connections held in the idle scenario.
    subscriptions: usize,
    /// Seconds over which idle processor time is taken. More than a heartbeat (30 s), to have one of each connection.
    idle_seconds: u64,
    /// Messages published, and messages consumed.
    messages: usize,
    /// Seconds of each latency measurement.
    latency_seconds: u64,
    /// Only this scenario.
    only: Option<String>,
    json: bool,
}

impl Settings {
    fn parse(args: &[String]) -> Result<Self, String> {
        let quick = args.iter().any(|a| a == "--quick");
        let mut settings = if quick {
            Self {
                pairs: 1,
                idle_pairs: 1,
                subscriptions: 500,
                idle_seconds: 5,
                messages: 20_000,
                latency_seconds: 2,
                only: None,
                json: false,
            }
        } else {
            Self {
                pairs: 5,
                idle_pairs: 1,
                subscriptions: 5_000,
                idle_seconds: 35,
                messages: 200_000,
                latency_seconds: 5,
                only: None,
                json: false,
            }
        };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            let mut number =
                || args.next().and_then(|v| v.parse::<u64>().ok()).ok_or(format!("{flag} needs a number"));
            match flag.as_str() {
                "--quick" | "--bench" => {}
                "--json" => settings.json = true,
                "--pairs" => settings.pairs = number()? as usize,
                "--idle-pairs" => settings.idle_pairs = number()? as usize,
                "--subscriptions" => settings.subscriptions = number()? as usize,
                "--idle-seconds" => settings.idle_seconds = number()?,
                "--messages" => settings.messages = number()? as usize,
                "--latency-seconds" => settings.latency_seconds = number()?,
                "--only" => settings.only = args.next().cloned(),
                other => {
                    return Err(format!(
                        "{other} isn't known; see the fields of Settings in benches/compare.rs"
                    ));
                }
            }
        }
        Ok(settings)
    }
}

fn main() {
    // As many descriptors as the system allows; nsqd inherits them.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if args.first().is_some_and(|a| a == "--worker") {
        let metrics = runtime.block_on(work::run(&args[1..]));
        println!("{}", serde_json::to_string(&metrics).expect("numbers"));
        return;
    }
    match Settings::parse(&args) {
        Ok(settings) => runtime.block_on(compare(&settings)),
        Err(message) => {
            eprintln!("{message}");
            std::process::exit(2);
        }
    }
}

async fn compare(settings: &Settings) {
    let mut results: BTreeMap<(Scenario, &str), Vec<Metrics>> = BTreeMap::new();
    for scenario in Scenario::ALL {
        if settings.only.as_deref().is_some_and(|only| only != scenario.name()) {
            continue;
        }
        let rounds = if scenario == Scenario::Idle { settings.idle_pairs } else { settings.pairs };
        for round in 0..rounds {
            for client in CLIENTS {
                if scenario == Scenario::Publish && client == "unbuffered" {
                    continue;
                }
                eprintln!("{} {}/{rounds} {client}", scenario.name(), round + 1);
                results.entry((scenario, client)).or_default().push(one(settings, scenario, client).await);
            }
        }
    }
    let table = report::table(&results);
    if settings.json {
        println!("{}", serde_json::to_string_pretty(&table).expect("numbers"));
    } else {
        report::print_markdown(&table, settings);
    }
}

/// One measurement: a fresh nsqd, a fresh process.
async fn one(settings: &Settings, scenario: Scenario, client: &str) -> Metrics {
    let nsqd = Nsqd::start_with(scenario.nsqd_flags()).await;
    let myself = std::env::current_exe().expect("the path of this program");
    let output = Command::new(myself)
        .args(["--worker", scenario.name(), client, &nsqd.tcp, &nsqd.http, &nsqd.pid().to_string()])
        .args([settings.subscriptions, settings.messages].map(|n| n.to_string()))
        .args([settings.idle_seconds, settings.latency_seconds].map(|n| n.to_string()))
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("this program can be started again");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{} with {client} failed: {error}", scenario.name()))
}
