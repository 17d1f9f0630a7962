//! The figures of every edge, written into the store every few seconds, so that any edge can show them all; and this edge's
//! samples of the last ten minutes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::latency::Counts;
use crate::{
    domain::{Millis, now_millis},
    store::Result as Stored,
    sync::{Core, lock},
};

/// How often an edge writes its figures, and samples all.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// An edge that hasn't for so long isn't shown any more.
const SHOWN: Duration = Duration::from_secs(15);
/// Samples kept: ten minutes.
const SAMPLES: usize = 120;

/// One edge's figures. Counters count from its start.
///
/// More than 12 fields: those of the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "see docs/protocol.md, `GET /admin/v1/overview`")]
pub struct Figures {
    pub edge: String,
    pub at: Millis,
    pub started: Millis,
    pub mains: u64,
    pub subs: u64,
    pub chats: u64,
    pub sends: u64,
    pub deliveries_nsq: u64,
    pub deliveries_log: u64,
    pub refills: u64,
    pub gaps: u64,
    pub outbox: u64,
    pub outbox_chats: u64,
    pub outbox_oldest_ms: Option<u64>,
    pub outbox_dead_edges: u64,
    pub unpublishable: u64,
}

/// The report of an edge in the store.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    #[serde(flatten)]
    pub figures: Figures,
    /// From a message's `at` to its delivery to a device.
    pub received: Counts,
}

/// The sums of all edges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "see docs/protocol.md, `GET /admin/v1/overview`")]
pub struct Sums {
    pub edges: u64,
    pub mains: u64,
    pub subs: u64,
    pub sends: u64,
    pub deliveries_nsq: u64,
    pub deliveries_log: u64,
    pub refills: u64,
    pub gaps: u64,
    pub outbox: u64,
    pub outbox_chats: u64,
    pub outbox_oldest_ms: Option<u64>,
    pub unpublishable: u64,
}

/// All edges at one moment: present values, and rates per second since the sample before.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "see docs/protocol.md, `GET /admin/v1/overview`")]
pub struct Sample {
    pub at: Millis,
    pub edges: u64,
    pub mains: u64,
    pub subs: u64,
    pub sends: f64,
    pub deliveries_nsq: f64,
    pub deliveries_log: f64,
    pub refills: f64,
    pub gaps: f64,
    pub outbox: u64,
    pub outbox_oldest_ms: Option<u64>,
    pub p99_ms: Option<f64>,
}

/// The counts of each edge, and of each of its runs.
type Received = HashMap<(String, Millis), Counts>;

/// Writes this edge's figures and samples all, forever.
pub async fn run(core: Arc<Core>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(Instant, HashMap<String, Figures>, Received)> = None;
    loop {
        ticks.tick().await;
        let all = async {
            write(&core, &Report { figures: own(&core).await, received: received(&core) }).await?;
            all(&core).await
        };
        match all.await {
            Ok(all) => {
                let now = Instant::now();
                let (mut by_edge, mut received) = (HashMap::new(), Received::new());
                for Report { figures, received: counts } in all {
                    received.insert((figures.edge.clone(), figures.started), counts);
                    by_edge.insert(figures.edge.clone(), figures);
                }
                if let Some((then, before, received_before)) = &before {
                    let mut sample = sample(before, &by_edge, now - *then);
                    sample.p99_ms = p99(received_before, &received);
                    let mut history = lock(&core.console.history);
                    history.push_back(sample);
                    while history.len() > SAMPLES {
                        history.pop_front();
                    }
                }
                before = Some((now, by_edge, received));
            }
            // The samples then have a hole, as they should.
            Err(error) => tracing::debug!(%error, "figures can't be exchanged now"),
        }
    }
}

async fn write(core: &Core, report: &Report) -> Stored<()> {
    // Numbers and a name: this can't fail.
    let Ok(json) = serde_json::to_vec(report) else { return Ok(()) };
    core.store.report(&core.edge.name, json.into(), SHOWN).await
}

/// Returns the last report of each edge. Those that this version can't read aren't shown.
pub(super) async fn all(core: &Core) -> Stored<Vec<Report>> {
    let reports = core.store.reports().await?;
    Ok(reports.into_iter().filter_map(|(_, figures)| serde_json::from_slice(&figures).ok()).collect())
}

/// Returns this edge's figures.
pub(super) async fn own(core: &Core) -> Figures {
    let (mains, subs) = core.hub.count();
    let unconfirmed = core.unconfirmed();
    let oldest = (!unconfirmed.oldest.is_zero()).then_some(unconfirmed.oldest.as_millis() as u64);
    Figures {
        edge: core.edge.name.clone(),
        at: now_millis(),
        started: core.console.started,
        mains: mains as u64,
        subs: subs as u64,
        chats: core.hub.chats().len() as u64,
        sends: core.metrics.sends.get(),
        deliveries_nsq: core.metrics.deliveries_nsq.get(),
        deliveries_log: core.metrics.deliveries_log.get(),
        refills: core.metrics.refills.get(),
        gaps: core.metrics.gaps.get(),
        outbox: unconfirmed.messages as u64,
        outbox_chats: unconfirmed.chats as u64,
        outbox_oldest_ms: oldest,
        outbox_dead_edges: unconfirmed.dead_edge_messages as u64,
        unpublishable: core.metrics.unpublishable.get(),
    }
}

/// Returns the 99th percentile since the counts before, in milliseconds.
fn p99(before: &Received, now: &Received) -> Option<f64> {
    let mut sum = Counts::default();
    for (life, counts) in now {
        match before.get(life) {
            Some(before) => sum.add(&counts.since(before)),
            // As with the rates: a new edge, and not one that was out of sight.
            None if has_just_begun(now_millis(), life.1) => sum.add(counts),
            None => {}
        }
    }
    sum.quantile(0.99).map(|seconds| (seconds * 100_000.0).round() / 100.0)
}

fn received(core: &Core) -> Counts {
    let (within, all) = core.metrics.send_to_receive.counts();
    let (bounds, within) = within.into_iter().unzip();
    Counts { bounds, within, all }
}

/// Returns the sums over edges.
pub(super) fn sums(all: &[Figures]) -> Sums {
    let sum = |field: fn(&Figures) -> u64| all.iter().map(field).sum();
    Sums {
        edges: all.len() as u64,
        mains: sum(|it| it.mains),
        subs: sum(|it| it.subs),
        sends: sum(|it| it.sends),
        deliveries_nsq: sum(|it| it.deliveries_nsq),
        deliveries_log: sum(|it| it.deliveries_log),
        refills: sum(|it| it.refills),
        gaps: sum(|it| it.gaps),
        // Each edge counts the messages of all dead edges.
        outbox: sum(|it| it.outbox) + all.iter().map(|it| it.outbox_dead_edges).max().unwrap_or(0),
        outbox_chats: sum(|it| it.outbox_chats),
        outbox_oldest_ms: all.iter().filter_map(|it| it.outbox_oldest_ms).max(),
        unpublishable: sum(|it| it.unpublishable),
    }
}

fn has_just_begun(now: Millis, started: Millis) -> bool {
    now.saturating_sub(started) <= 2 * EVERY.as_millis() as u64
}

fn sample(before: &HashMap<String, Figures>, now: &HashMap<String, Figures>, time: Duration) -> Sample {
    let all: Vec<Figures> = now.values().cloned().collect();
    let sums = sums(&all);
    let rate = |field: fn(&Figures) -> u64| {
        let more = |figures: &Figures| match before.get(&figures.edge) {
            Some(before) if before.started == figures.started => field(figures).saturating_sub(field(before)),
            // It has just started, perhaps again.
            _ if has_just_begun(figures.at, figures.started) => field(figures),
            // It was only out of sight: its counts aren't of these seconds.
            _ => 0,
        };
        let per_second = all.iter().map(more).sum::<u64>() as f64 / time.as_secs_f64().max(0.001);
        (per_second * 10.0).round() / 10.0
    };
    Sample {
        at: now_millis(),
        edges: sums.edges,
        mains: sums.mains,
        subs: sums.subs,
        sends: rate(|it| it.sends),
        deliveries_nsq: rate(|it| it.deliveries_nsq),
        deliveries_log: rate(|it| it.deliveries_log),
        refills: rate(|it| it.refills),
        gaps: rate(|it| it.gaps),
        outbox: sums.outbox,
        outbox_oldest_ms: sums.outbox_oldest_ms,
        p99_ms: None,
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/sync/console/figures.rs"]
mod tests;
