//! One run: users, faults, recovery, the end, the verdict.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::closes;
use crate::crowd::Crowd;
use crate::device::{Surroundings, uuid};
use crate::ending::{directory, end, held, leftovers, remains, undrained};
use crate::faults::{FAR, Harm, Harmer};
use crate::gaps::{self, Witness};
use crate::history::check::{Violation, check};
use crate::history::{History, Rules, What};
use crate::meter::Sums;
use crate::people::{Ending, People};
use crate::plan::{Fault, Kind, Log, Plan};
use crate::record::Recorder;
use crate::recovery::{Bounds, Recovery, recover};
use crate::world::{Queue, World, queues};

/// The effect of one fault, as the results store it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FaultResult {
    /// The kind's name.
    pub kind: String,
    /// Whether it had an effect.
    pub bit: bool,
    /// The evidence.
    pub evidence: String,
    /// The recovery after its wave.
    pub recovery: Recovery,
    /// Messages that nsqd lost by it.
    pub nsq_lost: u64,
    /// Why it wasn't possible, if it wasn't.
    #[serde(default)]
    pub lacking: Option<String>,
}

/// A line of the results.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The run's number.
    pub run: u64,
    /// The campaign's seed.
    pub seed: u64,
    /// The duration.
    pub seconds: f64,
    /// Events of the history.
    pub events: usize,
    /// Acknowledged sends.
    pub acknowledged: u64,
    /// Deliveries to devices.
    pub deliveries: u64,
    /// Sends and calls of unknown outcome.
    pub unknown: u64,
    /// Of the calls: those whose callers gave up.
    #[serde(default)]
    pub given_up: u64,
    /// Whether the logs were short.
    #[serde(default)]
    pub short_log: bool,
    /// Groups with all users at the start.
    #[serde(default)]
    pub groups: usize,
    /// Gaps that devices received, true or not.
    #[serde(default)]
    pub gaps: u64,
    /// The counters of all edges: see [`crate::meter::COUNTED`].
    pub counted: Sums,
    /// The faults.
    pub faults: Vec<FaultResult>,
    /// Violations: the invariant's number and a sentence. 0: a bound of recovery.
    pub violations: Vec<(u8, String)>,
}

/// The invariant of true close codes; the checker judges some, [`crate::closes`] the others.
pub const UNTRUE_CLOSE: u8 = 17;

/// The default bound of unacknowledged messages of a device.
const WINDOW: u64 = 256;

/// The violations so far.
type Wrong = Vec<(u8, String)>;

/// Executes the run. If anything is wrong, its evidence is in `folder`.
pub async fn run(campaign: u64, number: u64, plan: &Plan, folder: &Path) -> Result<Outcome, String> {
    let began = Instant::now();
    let mut world = World::start(plan).await;
    let before = held(&mut world);
    let record = Arc::new(Recorder::new());
    let people = People::new(surroundings(&world, plan, record.clone()), plan);
    let mut random = StdRng::seed_from_u64(plan.seed);
    people.gather(plan.groups, &mut random).await.ok_or("the people couldn't gather")?;
    // Where a chat goes, its id decides: an nsqd without any can't be hurt.
    for n in 0..world.nsqd.len() {
        while world.queues(n).await.is_none_or(|queues| queues.is_empty()) {
            people.group(n, &uuid(&mut random)).await.ok_or("a group couldn't be made")?;
        }
    }
    let mut harmer = Harmer::new(&world, record.clone());
    let mut crowd = None;
    if let Some(far) = plan.far {
        crowd = Some(Crowd::gather(&people, FAR, plan.seed + 300).await.ok_or("the crowd couldn't gather")?);
        harmer.settle(&world, far).await;
    }
    let mut busy = JoinSet::new();
    for role in 0..2 {
        busy.spawn(people.clone().come_and_go(plan.seed + 100 + role, role == 0));
        busy.spawn(people.clone().bot(usize::try_from(role).unwrap_or(0), plan.seed + 200 + role));
    }
    let watcher = watch(&world, record.clone());
    let (mut faults, mut violations) = (Vec::new(), Wrong::new());
    for wave in &plan.waves {
        sleep(plan.calm).await;
        weather(&mut world, &mut harmer, &people, (plan, wave), &mut faults, &mut violations).await;
    }
    sleep(plan.calm).await;

    let far = harmer.heal(&world).await;
    people.settle();
    let settling = Instant::now();
    while busy.join_next().await.is_some() {}
    let open = people.ends(Ending::UnderWay).len();
    if open > 0 {
        let took = settling.elapsed();
        violations.push((0, format!("{open} terminations aren't done {took:?} after the last fault")));
    }
    violations.extend(people.late.lock().unwrap().drain(..).map(|late| (0, late)));
    let (recovery, lacking) = recover(&world, &people).await;
    let all: Vec<Fault> = plan.faults().copied().collect();
    late(&mut violations, "in the end", &recovery.late(Bounds::of(plan, &all)), &lacking);
    faults.extend(far.map(|harm| result(harm, recovery)));
    violations.extend(undrained(&world, &people).await.into_iter().map(|left| (16, left)));
    let strangers = crowd.as_ref().map(|crowd| crowd.devices.clone()).unwrap_or_default();
    let (end, wrong) = end(&world, &people, &strangers).await;
    violations.extend(wrong);
    directory(&world, &people).await;
    violations.extend(remains(&world, &people).await.into_iter().map(|left| (12, left)));
    let counted = harmer.sums().await;
    people.go().await;
    if let Some(crowd) = crowd {
        crowd.goes().await;
    }
    watcher.abort();
    violations.append(&mut harmer.broken);
    violations.extend(leftovers(&mut world, &before).await.into_iter().map(|left| (16, left)));

    let (acknowledged, deliveries) = record.counts();
    let tally = &record.tally;
    let unknown = [&tally.unknown, &tally.unavailable].iter().map(|count| count.load(Relaxed)).sum();
    let short_log = plan.log == Log::Short;
    let lease = (world.lease + 2) * 1_000_000;
    let rules = Rules {
        // Which are true, `gaps` says.
        gaps: short_log,
        silence_after: lease,
        lease,
        queues_complete: true,
        // Who stops reading hangs up without a look at what it is told.
        clients_read: true,
        window: Some(WINDOW),
    };
    let history = History { events: record.take(), end, rules };
    let broken = check(&history);
    violations.extend(broken.iter().map(|Violation { invariant, what, .. }| (*invariant, what.clone())));
    violations.extend(record.doubts.lock().unwrap().drain(..).map(|why| (1, format!("the SDK: {why}"))));
    let closes = record.closes.lock().unwrap().clone();
    violations.extend(closes::untrue(&closes, &history.events).into_iter().map(|why| (UNTRUE_CLOSE, why)));
    let told = record.gaps.lock().unwrap().clone();
    if short_log {
        let losses = record.losses.lock().unwrap().clone();
        violations.extend(gaps::untrue(&told, &losses, &history.events).into_iter().map(|why| (3, why)));
    }
    if !violations.is_empty() {
        let beside = serde_json::json!({ "closes": closes, "gaps": told });
        keep(&mut world, &history, &broken, &violations, &beside, folder)
            .map_err(|error| error.to_string())?;
    }
    Ok(Outcome {
        run: number,
        seed: campaign,
        seconds: began.elapsed().as_secs_f64(),
        events: history.events.len(),
        acknowledged,
        deliveries,
        unknown,
        given_up: tally.given_up.load(Relaxed),
        short_log,
        groups: plan.groups,
        gaps: told.len() as u64,
        counted,
        faults,
        violations,
    })
}

fn surroundings(world: &World, plan: &Plan, record: Arc<Recorder>) -> Surroundings {
    Surroundings {
        edges: world.addresses.clone(),
        record,
        witness: Witness {
            nsqd: world.nsqd.iter().map(crate::support::Nsqd::http).collect(),
            redis: world.redis.addr(),
        },
        patience: Duration::from_secs(if plan.far.is_some() { 15 } else { 3 }),
    }
}

/// Runs one wave and its recovery, and reports both.
async fn weather(
    world: &mut World,
    harmer: &mut Harmer,
    people: &Arc<People>,
    (plan, wave): (&Plan, &[Fault]),
    faults: &mut Vec<FaultResult>,
    violations: &mut Wrong,
) {
    let bounds = Bounds::of(plan, wave);
    people.has_said_much(plan.seed ^ people.record.now()).await;
    harmer.wave(world, wave, &people.living()).await;
    let (recovered, lacking) = recover(world, people).await;
    let names: Vec<String> = wave.iter().map(|fault| fault.kind.to_string()).collect();
    let when = format!("after {}", names.join(" + "));
    late(violations, &when, &recovered.late(bounds), &lacking);
    for harm in harmer.judge(world).await {
        let mut recovery = recovered;
        let kind = harm.fault.kind;
        if matches!(kind, Kind::EdgeKill | Kind::EdgeStop) {
            // Its sockets don't wait for it: from the kill on they go elsewhere.
            recovery.sockets = people.record.back_after(&kind.to_string()).unwrap_or(0).max(recovery.sockets);
            if wave.len() == 1 && recovery.sockets > recovered.sockets {
                late(violations, &when, &recovery.late(bounds), &[]);
            }
        }
        faults.push(result(harm, recovery));
    }
}

fn result(harm: Harm, recovery: Recovery) -> FaultResult {
    let Harm { fault, bit, evidence, nsq_lost, lacking } = harm;
    FaultResult { kind: fault.kind.to_string(), bit, evidence, recovery, nsq_lost, lacking }
}

fn late(violations: &mut Wrong, when: &str, late: &[String], lacking: &[String]) {
    for late in late {
        let lacking: Vec<&str> = lacking.iter().take(5).map(String::as_str).collect();
        violations.push((0, format!("{when}: {late}; {}", lacking.join(", "))));
    }
}

/// Checks the queues all the time: a terminated device must never have one again.
fn watch(world: &World, record: Arc<Recorder>) -> JoinHandle<()> {
    let addresses: Vec<String> = world.nsqd.iter().map(crate::support::Nsqd::http).collect();
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            for (n, address) in addresses.iter().enumerate() {
                let done = record.tally.done.load(Relaxed);
                let seen = queues(address).await.unwrap_or_default();
                // What was seen is from before the answer: it says nothing about who ended meanwhile.
                if record.tally.done.load(Relaxed) == done {
                    for Queue { chat, device, .. } in seen {
                        record.write(What::Queue { node: format!("nsqd {n}"), chat, device });
                    }
                }
            }
        }
    })
}

/// Writes everything that helps to find the cause.
fn keep(
    world: &mut World,
    history: &History,
    broken: &[Violation],
    violations: &[(u8, String)],
    beside: &serde_json::Value,
    folder: &Path,
) -> std::io::Result<()> {
    use std::fmt::Write;
    std::fs::create_dir_all(folder)?;
    let mut lines = String::new();
    for event in &history.events {
        let _ = writeln!(lines, "{}", serde_json::to_string(event)?);
    }
    std::fs::write(folder.join("history.jsonl"), lines)?;
    let rest = serde_json::json!({ "end": history.end, "rules": history.rules });
    std::fs::write(folder.join("end.json"), serde_json::to_vec_pretty(&rest)?)?;
    std::fs::write(folder.join("beside.json"), serde_json::to_vec_pretty(beside)?)?;
    let mut text = String::new();
    for (invariant, what) in violations {
        let _ = writeln!(text, "invariant {invariant}: {what}");
    }
    for violation in broken.iter().take(10) {
        let Some(at) = violation.at else { continue };
        let _ = writeln!(text, "\n{}, at {at}:", violation.what);
        let near = history.events.partition_point(|event| event.at < at);
        for event in &history.events[near.saturating_sub(25)..(near + 10).min(history.events.len())] {
            let _ = writeln!(text, "  {}", serde_json::to_string(event)?);
        }
    }
    std::fs::write(folder.join("violations.txt"), text)?;
    world.logs(folder);
    Ok(())
}
