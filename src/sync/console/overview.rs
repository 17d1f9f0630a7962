//! The overview of the deployment.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    Figures, MOST_QUEUES, Sample, Stamped,
    figures::{self, Sums},
};
use crate::{
    broker::NodeHealth,
    domain::{Millis, now_millis},
    store::StoreHealth,
    sync::{Core, lock},
};

/// See docs/protocol.md, `GET /admin/v1/overview`.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "see docs/protocol.md")]
pub struct Overview {
    /// Those of the answering edge.
    #[serde(flatten)]
    pub own: Figures,
    pub store: bool,
    pub terminations_unfinished: Option<usize>,
    pub broker: Vec<ServerView>,
    pub broker_as_of: Option<Millis>,
    pub redis: StoreView,
    pub cluster: Sums,
    pub edges: Vec<Figures>,
    pub history: History,
}

/// One server of the broker.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "see docs/protocol.md")]
pub struct ServerView {
    pub node: String,
    pub role: &'static str,
    pub problem: Option<String>,
    pub queues: Option<u64>,
    pub depth: Option<u64>,
    pub in_flight: Option<u64>,
}

/// The store.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "see docs/protocol.md")]
pub struct StoreView {
    pub role: &'static str,
    pub problem: Option<String>,
    pub ping_ms: Option<f64>,
    pub used_memory: Option<u64>,
    pub max_memory: Option<u64>,
    pub aof: Option<&'static str>,
    pub clients: Option<u64>,
}

/// The last ten minutes.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "see docs/protocol.md")]
pub struct History {
    pub scope: &'static str,
    pub every_ms: u64,
    pub samples: Vec<Sample>,
}

/// Returns what this edge knows of all edges and servers. A silent server is a problem in it, not an error.
pub async fn overview(core: &Arc<Core>) -> Overview {
    let totals = core.console.totals.get(core, |core| async move {
        let as_of = now_millis();
        Ok(Stamped { as_of, value: core.broker.totals(MOST_QUEUES).await })
    });
    // Not worth a long wait: the next answer has it.
    let totals = tokio::time::timeout(Duration::from_secs(1), totals);
    let (own, others, store, broker, totals, unfinished) = tokio::join!(
        figures::own(core),
        figures::all(core),
        core.store.health(),
        core.broker.health(),
        totals,
        core.store.unfinished_terminations(),
    );
    let totals = totals.ok().and_then(Result::ok);
    let mut edges: Vec<Figures> = others.unwrap_or_default().into_iter().map(|other| other.figures).collect();
    edges.retain(|figures| figures.edge != own.edge);
    edges.push(own.clone());
    edges.sort_by(|a, b| a.edge.cmp(&b.edge));
    let server = |NodeHealth { node, role, problem }: NodeHealth| {
        let sums = totals.as_ref().and_then(|it| it.value.nodes.iter().find(|sums| sums.node == node));
        ServerView {
            queues: sums.map(|sums| sums.queues),
            depth: sums.map(|sums| sums.depth),
            in_flight: sums.map(|sums| sums.in_flight),
            node,
            role,
            problem,
        }
    };
    let samples = lock(&core.console.history).iter().cloned().collect();
    Overview {
        own,
        store: store.is_ok(),
        terminations_unfinished: unfinished.ok().map(|unfinished| unfinished.len()),
        broker: broker.into_iter().map(server).collect(),
        broker_as_of: totals.as_ref().map(|totals| totals.as_of),
        redis: store_view(store, core.store.refusal()),
        cluster: figures::sums(&edges),
        edges,
        history: History { scope: "cluster", every_ms: figures::EVERY.as_millis() as u64, samples },
    }
}

fn store_view(health: crate::store::Result<StoreHealth>, refusal: Option<String>) -> StoreView {
    let empty = StoreView {
        role: "redis",
        problem: None,
        ping_ms: None,
        used_memory: None,
        max_memory: None,
        aof: None,
        clients: None,
    };
    let health = match health {
        Ok(health) => health,
        Err(error) => {
            let problem =
                format!("{error}: start it, or let this edge reach it; until then nothing is accepted");
            return StoreView { problem: Some(problem), ..empty };
        }
    };
    // Near its memory limit it refuses writes.
    let is_full = matches!((health.used_memory, health.max_memory), (Some(used), Some(most)) if most > 0 && used >= most / 10 * 9);
    let problem = match health.aof {
        Some("failing") => {
            Some("it can't write its append-only file: look at its disk; until then it accepts nothing")
        }
        _ if is_full => {
            Some("it has used nine tenths of its memory: give it more, or it will accept nothing")
        }
        Some("off") => Some(
            "it keeps no append-only file: a crash of it loses acknowledged messages; set appendonly yes",
        ),
        _ => None,
    };
    StoreView {
        role: health.role,
        problem: refusal.or_else(|| problem.map(str::to_owned)),
        ping_ms: health.ping.map(|ping| (ping.as_secs_f64() * 100_000.0).round() / 100.0),
        used_memory: health.used_memory,
        max_memory: health.max_memory,
        aof: health.aof,
        clients: health.clients,
    }
}
