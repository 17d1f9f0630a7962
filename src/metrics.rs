//! This edge's metrics, under Prometheus names. `docs/metrics.md` is made of the help texts here (`scripts/reference`);
//! `tests/embedded/metrics.rs` compares that page, the alert rules and the dashboard with a server's answers.
//!
//! Counting takes a few atomic steps and never a lock or an allocation: metrics that count each message are looked up by their
//! labels once, here.

use std::time::Duration;

use maker::Maker;
use prometheus::{
    Encoder, Error, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Registry, TextEncoder, core::Metric as _,
};

use crate::{
    domain::device::DeviceKind,
    protocol::{CloseCode, ErrorCode},
};

mod maker;

/// Upper bounds of latencies in seconds: fine where users notice, and up to the ack timeout.
const SECONDS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// The same with a resolution below a millisecond.
const FINE_SECONDS: &[f64] = &[
    0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// The label for closes with one of WebSocket's own codes.
pub const PROTOCOL_ERROR: &str = "protocol_error";

/// One histogram for each kind of device.
#[derive(Debug, Clone)]
pub struct ByKind {
    main: Histogram,
    sub: Histogram,
}

impl ByKind {
    fn of(family: &HistogramVec) -> Self {
        Self { main: family.with_label_values(&["main"]), sub: family.with_label_values(&["sub"]) }
    }

    /// Records a duration.
    pub fn observe(&self, kind: DeviceKind, took: Duration) {
        match kind {
            DeviceKind::Main => self.main.observe(took.as_secs_f64()),
            DeviceKind::Sub => self.sub.observe(took.as_secs_f64()),
        }
    }

    /// Returns each upper bound in seconds with its cumulative count, of both kinds together; and the total.
    #[must_use]
    pub fn counts(&self) -> (Vec<(f64, u64)>, u64) {
        let (main, sub) = (self.main.metric(), self.sub.metric());
        let (main, sub) = (main.get_histogram(), sub.get_histogram());
        let within = main
            .get_bucket()
            .iter()
            .zip(sub.get_bucket())
            .map(|(main, sub)| (main.upper_bound(), main.cumulative_count() + sub.cumulative_count()));
        (within.collect(), main.get_sample_count() + sub.get_sample_count())
    }
}

/// A part of a gauge that is subtracted when its owner is dropped.
#[derive(Debug)]
pub struct GaugeGuard {
    gauge: IntGauge,
    part: i64,
}

impl GaugeGuard {
    /// Starts with nothing.
    #[must_use]
    pub fn of(gauge: &IntGauge) -> Self {
        Self { gauge: gauge.clone(), part: 0 }
    }

    /// Sets its part to `count`.
    pub fn set(&mut self, count: usize) {
        let count = whole(count);
        if count != self.part {
            self.gauge.add(count - self.part);
            self.part = count;
        }
    }

    /// Returns whether it has a part.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.part > 0
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.gauge.sub(self.part);
    }
}

/// All metrics of one edge. Cheap to clone: the values are shared.
///
/// More than 12 fields: one per metric.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Messages sent to devices that came from their queue. (Both kinds are one series by label.)
    pub deliveries_nsq: IntCounter,
    /// Messages sent to devices that came from the log.
    pub deliveries_log: IntCounter,
    /// Messages accepted.
    pub sends: IntCounter,
    /// Messages that devices acknowledged.
    pub acknowledged: IntCounter,
    /// Messages sent to connected devices that they haven't acknowledged.
    pub unacknowledged: IntGauge,
    /// From a `send` frame to its durable answer, by the sending device's kind.
    pub send_reply: ByKind,
    /// The same of `POST /v1/chats/{id}/messages`.
    pub send_reply_http: Histogram,
    /// From a message's `at` to its delivery to a connected device.
    pub send_to_receive: ByKind,
    /// From a message's `at` to the acknowledgement of a connected device.
    pub send_to_ack: ByKind,
    /// From a message's delivery to its acknowledgement.
    pub delivery_to_ack: ByKind,
    /// Connected devices by kind.
    pub connections: IntGaugeVec,
    /// Chats of connected devices, counted per device.
    pub chats_followed: IntGauge,
    /// Of those, the ones whose queue is attached.
    pub nsq_attachments: IntGauge,
    /// Queues that should be attached and aren't.
    pub nsq_awaited: IntGauge,
    /// Whether messages are published to a server of the broker (1) or wait in the store (0).
    pub nsqd_up: IntGaugeVec,
    /// Directories of the broker that don't answer.
    pub nsqlookupd_down: IntGauge,
    /// Whether the store answers (1) or not (0).
    pub store_up: IntGauge,
    /// Whether the store accepts writes (1) or not (0).
    pub store_writable: IntGauge,
    /// Messages that the broker hasn't confirmed.
    pub outbox_messages: IntGauge,
    /// The age of the oldest of those, in seconds.
    pub outbox_oldest: Gauge,
    /// Dead edges whose outboxes aren't drained yet.
    pub outbox_dead_edges: IntGauge,
    /// Messages in those.
    pub outbox_dead_edge_messages: IntGauge,
    /// Messages that no node of the broker takes, because they are too large.
    pub unpublishable: IntCounter,
    /// Tasks that run in this process: a leak shows here first.
    pub tasks: IntGauge,
    /// Whether this edge is stopping (1).
    pub draining: IntGauge,
    /// Reads of the log for messages that the queue didn't bring.
    pub refills: IntCounter,
    /// Seqs reported to devices as gaps.
    pub gaps: IntCounter,
    /// Messages that a queue brought after their gap was reported, and that were finished because the device had acknowledged past
    /// them.
    pub gap_late: IntCounter,
    /// Torn messages out of queues.
    pub torn: IntCounter,
    /// Queues over their bound that were emptied.
    pub queues_emptied: IntCounter,
    /// Times the store's notifications didn't arrive.
    pub notifications_missed: IntCounter,
    /// How long the last whole round of each sweep took, in seconds.
    pub sweep_round: GaugeVec,
    /// Repairs of the reconciler, by action.
    pub reconciler_actions: IntCounterVec,
    /// Sockets closed, by code.
    pub closes: IntCounterVec,
    /// Messages that were published again because the first attempt wasn't confirmed.
    pub relayed: IntCounter,
    /// Requested bootstrap pages, by result.
    pub bootstraps: IntCounterVec,
    /// Links by the state that they reached.
    pub links: IntCounterVec,
    /// Terminations by the state that they reached.
    pub terminations: IntCounterVec,
    /// Unfinished terminations of the whole deployment, as this edge last saw them.
    pub terminations_unfinished: IntGauge,
}

impl Metrics {
    /// Returns new metrics, all zero.
    ///
    /// # Errors
    /// Never, while each name is valid and unique; a test covers it.
    pub fn new() -> Result<Self, Error> {
        let all = Maker { registry: Registry::new() };
        process(&all.registry)?;
        all.gauges(
            "keepstep_build_info",
            "Version of this build, as a label; the value is always 1",
            "version",
            &[],
        )?
        .with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1);
        let deliveries = all.counters(
            "keepstep_deliveries_total",
            "Messages sent to devices, by source: nsq is the device's queue, log is the message log in \
                 Redis",
            "source",
            &["nsq", "log"],
        )?;
        let sends = all.latencies(
            "keepstep_send_reply_seconds",
            "Time from the receipt of an accepted send to its durable answer, by sender: a main or a \
                 sub on its socket, or HTTP",
            FINE_SECONDS,
        )?;
        let by_kind = |name, help, bounds| Ok::<_, Error>(ByKind::of(&all.latencies(name, help, bounds)?));
        Ok(Self {
            deliveries_nsq: deliveries.with_label_values(&["nsq"]),
            deliveries_log: deliveries.with_label_values(&["log"]),
            sends: all.counter("keepstep_sends_total", "Messages accepted")?,
            acknowledged: all.counter("keepstep_acknowledged_total", "Messages acknowledged by devices")?,
            unacknowledged: all.gauge(
                "keepstep_unacknowledged_messages",
                "Messages sent to connected devices and not yet acknowledged; at most \
                 KEEPSTEP_UNACKED_WINDOW per device",
            )?,
            send_reply: ByKind::of(&sends),
            send_reply_http: sends.with_label_values(&["http"]),
            send_to_receive: by_kind(
                "keepstep_send_to_receive_seconds",
                "Time from a message's `at` to its delivery on a receiving device's socket, by the \
                 receiver's kind. Counts only messages sent while that device was connected. Uses the wall \
                 clocks of two edges in whole milliseconds, so synchronise them by NTP; never below 0",
                SECONDS,
            )?,
            send_to_ack: by_kind(
                "keepstep_send_to_ack_seconds",
                "Time from a message's `at` to its acknowledgement by a receiving device, by the receiver's \
                 kind. Same messages and clocks as keepstep_send_to_receive_seconds",
                SECONDS,
            )?,
            delivery_to_ack: by_kind(
                "keepstep_delivery_to_ack_seconds",
                "Time from a message's delivery on a device's socket to its acknowledgement, by the \
                 device's kind: the client and its network. Counts all messages; uses the monotonic clock \
                 of this edge",
                FINE_SECONDS,
            )?,
            connections: all.gauges(
                "keepstep_connections",
                "Connected devices, by kind",
                "kind",
                &["main", "sub"],
            )?,
            chats_followed: all
                .gauge("keepstep_chats_followed", "Chats of connected devices, counted once per device")?,
            nsq_attachments: all.gauge(
                "keepstep_nsq_attachments",
                "Queues that are attached, out of keepstep_chats_followed: those of chats that had a message \
                 within KEEPSTEP_NSQ_IDLE",
            )?,
            nsq_awaited: all.gauge(
                "keepstep_nsq_awaited",
                "Queues that should be attached and are not. Devices get their messages from the log, late",
            )?,
            nsqd_up: all.gauges(
                "keepstep_nsqd_up",
                "1 when this edge publishes to this nsqd; 0 when that failed or hung, and messages wait in \
                 Redis",
                "node",
                &[],
            )?,
            nsqlookupd_down: all.gauge(
                "keepstep_nsqlookupd_down",
                "Number of nsqlookupd that do not answer this edge. Meanwhile terminations stay pending; \
                 /readyz names the nsqlookupd",
            )?,
            store_up: all.gauge(
                "keepstep_store_up",
                "1 when Redis answers this edge; 0 when it does not, is a replica, or is not the Redis that \
                 this edge knows",
            )?,
            store_writable: all.gauge(
                "keepstep_store_writable",
                "1 when Redis accepts writes; 0 when it cannot be reached, is out of memory, or cannot \
                 write to its disk",
            )?,
            outbox_messages: all.gauge(
                "keepstep_outbox_messages",
                "Messages that NSQ has not confirmed: those accepted here, and those of dead edges",
            )?,
            outbox_oldest: all.seconds(
                "keepstep_outbox_oldest_seconds",
                "Age of the oldest message that NSQ has not confirmed, including those of dead edges; 0 \
                 when there is none",
            )?,
            outbox_dead_edges: all.gauge(
                "keepstep_outbox_dead_edges",
                "Dead edges with messages that are not published yet. Of the whole deployment: take the \
                 maximum over edges, not the sum",
            )?,
            outbox_dead_edge_messages: all.gauge(
                "keepstep_outbox_dead_edge_messages",
                "Messages of dead edges, out of keepstep_outbox_messages. Of the whole deployment: take the \
                 maximum over edges, not the sum",
            )?,
            unpublishable: all.counter(
                "keepstep_unpublishable_total",
                "Messages that an nsqd refuses for good because they are larger than its --max-msg-size. \
                 Devices get them from the log. Raise --max-msg-size above KEEPSTEP_FRAME_BYTES",
            )?,
            tasks: all.gauge(
                "keepstep_tasks",
                "Tasks of this process. It should rise and fall with the connections; if it only rises, \
                 tasks leak",
            )?,
            draining: all.gauge("keepstep_draining", "1 while this edge shuts down, else 0")?,
            refills: all.counter(
                "keepstep_refills_total",
                "Reads of the log for messages that a device's queue did not deliver",
            )?,
            gaps: all.counter(
                "keepstep_gaps_total",
                "Messages reported to devices as a gap, because neither the log nor the queue holds them",
            )?,
            gap_late: all.counter(
                "keepstep_gap_late_total",
                "Messages that a queue brought after they were reported as a gap, and that were removed \
                 undelivered because the device had acknowledged later ones. 0 unless queues were restored",
            )?,
            torn: all.counter(
                "keepstep_torn_total",
                "Queue messages that were damaged or not published by this deployment. They are removed and \
                 read from the log. Check whether the disk of that nsqd was full, or what else publishes to \
                 its topics",
            )?,
            queues_emptied: all.counter(
                "keepstep_queues_emptied_total",
                "Device queues that were emptied because they exceeded KEEPSTEP_QUEUE_BYTES or their share \
                 of KEEPSTEP_CHAT_QUEUE_BYTES",
            )?,
            notifications_missed: all.counter(
                "keepstep_notifications_missed_total",
                "Times Redis was found to send no keyspace notifications; they are enabled again",
            )?,
            sweep_round: all.seconds_by(
                "keepstep_sweep_round_seconds",
                "Duration of the last whole round of a sweep, 0 before the first. reconcile (all chats) and expiry \
                 (devices that are due): the edge that does it for all; heads (chats of connected devices), offsets \
                 (connected users), presence (watched users): each edge's own. It grows with what there is to visit: \
                 KEEPSTEP_SWEEP_RATE",
                "sweep",
                &["reconcile", "expiry", "heads", "offsets", "presence"],
            )?,
            reconciler_actions: all.counters(
                "keepstep_reconciler_actions_total",
                "Repairs by the reconciler. queue_restored: a missing queue was made again. orphan_removed: \
                 a queue of no device was deleted. chat_moved: a chat moved to another nsqd. \
                 position_restored: an interrupted join was completed. termination_resumed: a termination \
                 was continued. outbox_adopted, outbox_found: unconfirmed messages without an edge were \
                 taken over. topic_removed, chat_removed: the rest of a deleted chat was removed",
                "action",
                &[
                    "termination_resumed",
                    "outbox_adopted",
                    "outbox_found",
                    "orphan_removed",
                    "queue_restored",
                    "position_restored",
                    "chat_moved",
                    "topic_removed",
                    "chat_removed",
                ],
            )?,
            closes: all.counters(
                "keepstep_closes_total",
                "Sockets closed by the server, by the name of the close code; protocol_error stands for the \
                 codes of WebSocket itself, such as 1002",
                "code",
                &closes(),
            )?,
            relayed: all.counter(
                "keepstep_relayed_total",
                "Messages published to NSQ from the outbox, because the first attempt was not confirmed",
            )?,
            bootstraps: all.counters(
                "keepstep_bootstraps_total",
                "History pages requested by subs, by result: ok, or the code of the error",
                "result",
                &bootstraps(),
            )?,
            links: all.counters(
                "keepstep_links_total",
                "Links, by event: opened by a page, approved by a main, or refused by a main. Repeated \
                 requests count again",
                "state",
                &["opened", "approved", "refused"],
            )?,
            terminations: all.counters(
                "keepstep_terminations_total",
                "Terminations of devices, by the state they reached. pending: an nsqd or nsqlookupd did not \
                 answer",
                "state",
                &["accepted", "pending", "done"],
            )?,
            terminations_unfinished: all.gauge(
                "keepstep_terminations_unfinished",
                "Terminations that are not done, read every 5 s. Of the whole deployment: take the maximum \
                 over edges, not the sum",
            )?,
            registry: all.registry,
        })
    }

    /// Returns the Prometheus text.
    ///
    /// # Errors
    /// The library's, when a family can't be written.
    pub fn render(&self) -> Result<String, Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        String::from_utf8(out).map_err(|error| Error::Msg(error.to_string()))
    }
}

/// All series with known labels exist from the start: a missing series can't be told from zero, and its first increase would go
/// unseen.
fn closes() -> Vec<&'static str> {
    CloseCode::ALL.iter().map(|code| code.name()).chain([PROTOCOL_ERROR]).collect()
}

fn bootstraps() -> Vec<&'static str> {
    use ErrorCode::{BadMain, BadRange, MainBusy, MainOffline, MainTimeout, NotFound, Unavailable};
    let errors = [MainOffline, MainTimeout, MainBusy, BadMain, BadRange, NotFound, Unavailable];
    ["ok"].into_iter().chain(errors.map(ErrorCode::as_str)).collect()
}

/// Registers memory, CPU time and open files of this process, where the library can read them.
fn process(registry: &Registry) -> Result<(), Error> {
    #[cfg(target_os = "linux")]
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    #[cfg(not(target_os = "linux"))]
    let _ = registry;
    Ok(())
}

/// Converts a count for a gauge.
#[must_use]
pub fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "../tests/unit/metrics.rs"]
mod tests;
