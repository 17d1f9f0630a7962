//! What this edge counts. Names are Prometheus' by convention; `docs/protocol.md` lists those that others rely on.

use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// All counters of one edge. Cheap to clone: the values are shared.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Messages sent to devices that came from their queue. (Both kinds are one series by label; looked up once, because
    /// they are counted for every message.)
    pub deliveries_nsq: IntCounter,
    /// Messages sent to devices that came from the log.
    pub deliveries_log: IntCounter,
    /// Messages accepted.
    pub sends: IntCounter,
    /// Connected devices by kind.
    pub connections: IntGaugeVec,
    /// Whether messages are given to a server of the broker (1) or wait in the store (0).
    pub nsqd_up: IntGaugeVec,
    /// Tasks that run in this process: a leak shows here first.
    pub tasks: IntGauge,
    /// Times a stretch was fetched from the log because the queue didn't bring it.
    pub refills: IntCounter,
    /// Seqs told to devices as gone from the server.
    pub gaps: IntCounter,
    /// Times the store's notifications were found not to flow.
    pub notifications_missed: IntCounter,
    /// What reconciling did, by action.
    pub reconciler_actions: IntCounterVec,
    /// Sockets closed, by code.
    pub closes: IntCounterVec,
    /// Messages that were published again because the first try wasn't confirmed.
    pub relayed: IntCounter,
    /// Bootstrap pages asked for, by result.
    pub bootstraps: IntCounterVec,
    /// Terminations by the state they came to.
    pub terminations: IntCounterVec,
}

impl Metrics {
    /// A fresh set, all zero.
    ///
    /// # Panics
    /// Never: the names are constants, each used once, which a test proves by making a set.
    #[must_use]
    #[allow(clippy::missing_panics_doc, clippy::expect_used, reason = "constant names; see above")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("a constant name");
            registry.register(Box::new(counter.clone())).expect("a name used once");
            counter
        };
        let counters = |name: &str, help: &str, label: &str, values: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label]).expect("a constant name");
            registry.register(Box::new(counters.clone())).expect("a name used once");
            // A series that isn't there can't be told from one that is zero.
            for value in values {
                counters.with_label_values(&[value]);
            }
            counters
        };
        let connections = IntGaugeVec::new(Opts::new("keepstep_connections", "Connected devices"), &["kind"])
            .expect("a constant name");
        registry.register(Box::new(connections.clone())).expect("a name used once");
        for kind in ["main", "sub"] {
            connections.with_label_values(&[kind]);
        }
        let nsqd_up = IntGaugeVec::new(
            Opts::new(
                "keepstep_nsqd_up",
                "Whether messages are given to this nsqd (1) or wait in the store (0)",
            ),
            &["node"],
        )
        .expect("a constant name");
        registry.register(Box::new(nsqd_up.clone())).expect("a name used once");
        let tasks =
            IntGauge::new("keepstep_tasks", "Tasks that run in this process").expect("a constant name");
        registry.register(Box::new(tasks.clone())).expect("a name used once");
        let deliveries =
            counters("keepstep_deliveries_total", "Messages sent to devices", "source", &["nsq", "log"]);
        Self {
            deliveries_nsq: deliveries.with_label_values(&["nsq"]),
            deliveries_log: deliveries.with_label_values(&["log"]),
            sends: counter("keepstep_sends_total", "Messages accepted"),
            connections,
            nsqd_up,
            tasks,
            refills: counter(
                "keepstep_refills_total",
                "Stretches fetched from the log that the queue didn't bring",
            ),
            gaps: counter("keepstep_gaps_total", "Seqs told to devices as gone from the server"),
            notifications_missed: counter(
                "keepstep_notifications_missed_total",
                "Times the store's notifications were found not to flow",
            ),
            reconciler_actions: counters(
                "keepstep_reconciler_actions_total",
                "What reconciling did",
                "action",
                &[
                    "termination_resumed",
                    "outbox_adopted",
                    "orphan_removed",
                    "queue_restored",
                    "chat_moved",
                    "topic_removed",
                ],
            ),
            closes: counters("keepstep_closes_total", "Sockets closed by the server", "code", &[]),
            relayed: counter("keepstep_relayed_total", "Messages published again from an outbox"),
            bootstraps: counters("keepstep_bootstraps_total", "History pages asked for", "result", &["ok"]),
            terminations: counters(
                "keepstep_terminations_total",
                "Terminations",
                "state",
                &["accepted", "done"],
            ),
            registry,
        }
    }

    /// The Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(%error, "metrics can't be rendered");
        }
        String::from_utf8(out).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_series_is_there_from_the_start() {
        let text = super::Metrics::new().render();
        for series in [
            "keepstep_deliveries_total{source=\"nsq\"} 0",
            "keepstep_sends_total 0",
            "keepstep_connections{kind=\"sub\"} 0",
        ] {
            assert!(text.contains(series), "{series} isn't in\n{text}");
        }
    }
}
