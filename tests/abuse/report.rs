//! What came of each flood.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::pair::Times;

/// The p99 of others may become so many times as long …
const RATIO: f64 = 2.0;
/// … unless it stays below this, in milliseconds: a ratio of next to nothing says nothing.
const UNFELT: f64 = 5.0;
/// The edge's memory comes back to so many times what it was.
const MEMORY: f64 = 1.5;
/// In the slice, on a machine that others use: milliseconds, and bytes.
const SLICE_P99: f64 = 2_000.0;
const SLICE_PEAK: u64 = 384 << 20;

/// The result of one.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub kind: Kind,
    /// The pair before it.
    pub before: Times,
    /// The pair meanwhile, or why it ended.
    pub during: Result<Times, String>,
    /// What the flood did: how many, and how many of them were refused.
    pub did: Value,
    /// Resident bytes of the edge: before, at most, and when it was calm again.
    pub memory: [u64; 3],
    /// The edge's processor time meanwhile, as a part of one core.
    pub busy: f64,
    /// What the edge stands on held before, and behind it.
    pub held: [Held; 2],
}

/// What the store and the queues hold.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Bytes of data in Redis.
    pub store: u64,
    /// Bytes of all nsqd, in memory and on disk.
    pub queues: u64,
    /// Channels at all nsqd.
    pub channels: u64,
}

impl Outcome {
    fn ratio(&self) -> f64 {
        self.during.as_ref().map_or(f64::INFINITY, |during| during.p99 / self.before.p99)
    }

    /// Whether others hardly felt it.
    pub fn is_good(&self) -> bool {
        let [before, _, after] = self.memory;
        let felt = self.during.as_ref().map_or(true, |during| during.p99 > UNFELT) && self.ratio() > RATIO;
        !felt && after as f64 <= before as f64 * MEMORY
    }

    /// What is wrong, for the slice.
    pub fn broke_a_bound(&self) -> Option<String> {
        let (name, [_, peak, _]) = (self.kind.name(), self.memory);
        match &self.during {
            Err(why) => Some(format!("{name}: the pair's connection ended: {why}")),
            Ok(during) if during.p99 > SLICE_P99 => {
                Some(format!("{name}: the pair's messages took {:.0} ms (p99)", during.p99))
            }
            Ok(_) if peak > SLICE_PEAK => Some(format!("{name}: the edge took {} MB", peak >> 20)),
            Ok(_) => None,
        }
    }

    /// For whoever watches.
    pub fn line(&self) -> String {
        let [before, peak, after] = self.memory.map(|bytes| bytes >> 20);
        let during = match &self.during {
            Ok(times) => format!("{:.1} ms", times.p99),
            Err(why) => why.clone(),
        };
        format!(
            "p99 {:.1} ms -> {during} ({:.1} x), memory {before} -> {peak} -> {after} MB, busy {:.0} %, {}, {}{}",
            self.before.p99,
            self.ratio(),
            self.busy * 100.0,
            self.held(),
            self.did,
            if self.is_good() { "" } else { "  <- NOT GOOD" },
        )
    }

    fn held(&self) -> String {
        let [before, after] = self.held;
        let grown = |of: fn(&Held) -> u64| of(&after) as i64 - of(&before) as i64;
        format!(
            "Redis {:+} MB, nsqd {:+} MB, {:+} channels",
            grown(|held| held.store) >> 20,
            grown(|held| held.queues) >> 20,
            grown(|held| held.channels),
        )
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let during = self.during.as_ref().map_or_else(|why| json!({ "ended": why }), Times::json);
        let [before, peak, after] = self.memory;
        json!({
            "held": self.held.map(|held| json!({ "store": held.store, "queues": held.queues, "channels": held.channels })),
            "kind": self.kind.name(), "before": self.before.json(), "during": during, "ratio": self.ratio(), "did": self.did,
            "memory": { "before": before, "peak": peak, "after": after }, "busy": self.busy, "good": self.is_good(),
        })
    }
}

/// All of them, as Markdown.
pub fn table(results: &[Outcome]) -> String {
    let mut table = String::from(
        "| flood | the pair's p99 before | during | ratio | edge's memory before | at most | after | edge's core | what is left of it | the flood did |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for result in results {
        let [before, peak, after] = result.memory.map(|bytes| bytes >> 20);
        let during = match &result.during {
            Ok(times) => format!("{:.1} ms", times.p99),
            Err(why) => why.clone(),
        };
        table.push_str(&format!(
            "| {} | {:.1} ms | {during} | {:.1} | {before} MB | {peak} MB | {after} MB | {:.0} % | {} | {} |\n",
            result.kind.about(),
            result.before.p99,
            result.ratio(),
            result.busy * 100.0,
            result.held(),
            result.did.to_string().replace(['{', '}', '"'], "").replace(',', ", ").replace(':', " "),
        ));
    }
    table
}
