//! What every edge says of itself: written into the store every few seconds, so that any edge can show them all; and what
//! this edge has seen of them in the last ten minutes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    domain::{Millis, id::ChatId, now_millis},
    store::Result as Stored,
    sync::{Core, admin, lock},
};

/// How often an edge writes its figures, and takes a sample of all.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// One that hasn't for so long isn't shown any more.
const SHOWN: Duration = Duration::from_secs(15);
/// Samples that are kept: ten minutes.
const SAMPLES: usize = 120;
/// Chats whose outbox is counted.
const COUNTED: usize = 256;
/// Chats of which it is looked how long their oldest message waits.
const AGED: usize = 16;

/// One edge's figures. Counters count from its start.
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
}

/// All edges in one moment: what is now, and what came in a second since the sample before.
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

/// Writes this edge's figures and samples all, for ever.
pub async fn run(core: Arc<Core>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(Instant, HashMap<String, Figures>)> = None;
    loop {
        ticks.tick().await;
        let all = async {
            write(&core, &own(&core).await).await?;
            all(&core).await
        };
        match all.await {
            Ok(all) => {
                let now = Instant::now();
                let by_edge: HashMap<String, Figures> =
                    all.into_iter().map(|figures| (figures.edge.clone(), figures)).collect();
                if let Some((then, before)) = &before {
                    let sample = sample(before, &by_edge, now - *then);
                    let mut history = lock(&core.console.history);
                    history.push_back(sample);
                    while history.len() > SAMPLES {
                        history.pop_front();
                    }
                }
                before = Some((now, by_edge));
            }
            // There is a hole in the samples then, as is right.
            Err(error) => tracing::debug!(%error, "figures can't be exchanged now"),
        }
    }
}

async fn write(core: &Core, figures: &Figures) -> Stored<()> {
    // Numbers and a name: it can't fail.
    let Ok(json) = serde_json::to_vec(figures) else { return Ok(()) };
    core.store.report(&core.edge, json.into(), SHOWN).await
}

/// What all edges last wrote, by edge. What this version can't read isn't shown.
pub(super) async fn all(core: &Core) -> Stored<Vec<Figures>> {
    let reports = core.store.reports().await?;
    Ok(reports.into_iter().filter_map(|(_, figures)| serde_json::from_slice(&figures).ok()).collect())
}

/// This edge's, now.
pub(super) async fn own(core: &Core) -> Figures {
    let (mains, subs) = core.hub.count();
    let mut waiting: Vec<ChatId> = core.relay.waiting().into_iter().collect();
    let outbox_chats = waiting.len() as u64;
    waiting.truncate(COUNTED);
    let outbox = core.store.outbox_sizes(&waiting).await.map_or(0, |sizes| sizes.iter().sum());
    Figures {
        edge: core.edge.clone(),
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
        outbox,
        outbox_chats,
        outbox_oldest_ms: oldest_of(core, &waiting).await,
    }
}

async fn oldest_of(core: &Core, chats: &[ChatId]) -> Option<u64> {
    let mut oldest: Option<Millis> = None;
    for chat in chats.iter().take(AGED) {
        let Ok((_, messages)) = core.store.outbox(*chat, 1).await else { continue };
        let at = messages.first().and_then(|(_, frame)| admin::sent_at(frame));
        oldest = [oldest, at].into_iter().flatten().min();
    }
    oldest.map(|at| now_millis().saturating_sub(at))
}

/// Sums over edges.
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
        outbox: sum(|it| it.outbox),
        outbox_chats: sum(|it| it.outbox_chats),
        outbox_oldest_ms: all.iter().filter_map(|it| it.outbox_oldest_ms).max(),
    }
}

fn sample(before: &HashMap<String, Figures>, now: &HashMap<String, Figures>, time: Duration) -> Sample {
    let all: Vec<Figures> = now.values().cloned().collect();
    let sums = sums(&all);
    let rate = |field: fn(&Figures) -> u64| {
        let more = |figures: &Figures| match before.get(&figures.edge) {
            Some(before) if before.started == figures.started => field(figures).saturating_sub(field(before)),
            // It has just begun, perhaps again.
            _ if figures.at.saturating_sub(figures.started) <= 2 * EVERY.as_millis() as u64 => field(figures),
            // It was only out of sight: what it did meanwhile wasn't done in these seconds.
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
mod tests {
    use super::*;

    fn edge(name: &str, at: Millis, started: Millis, sends: u64) -> (String, Figures) {
        (
            name.to_owned(),
            Figures { edge: name.to_owned(), at, started, sends, mains: 2, ..Figures::default() },
        )
    }

    #[test]
    fn rates_are_of_what_came_since() {
        let before = HashMap::from([edge("a", 100_000, 0, 100), edge("b", 100_000, 0, 50)]);
        let now = HashMap::from([
            edge("a", 105_000, 0, 150),
            // Begun again: its counter is a new one.
            edge("b", 105_000, 103_000, 10),
            // Out of sight until now.
            edge("c", 105_000, 0, 1_000_000),
        ]);
        let sample = sample(&before, &now, Duration::from_secs(5));
        assert_eq!((sample.sends, sample.edges, sample.mains), (12.0, 3, 6));
    }
}
