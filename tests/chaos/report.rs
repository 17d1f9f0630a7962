//! The result of many runs, as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::meter::{LOG, MISSED, RELAYED};
use crate::plan::KINDS;
use crate::run::{Outcome, UNTRUE_CLOSE};

/// The sums.
#[derive(Debug, Default, serde::Serialize)]
pub struct Summary {
    /// Runs.
    pub runs: usize,
    /// Seeds, with their number of runs.
    pub seeds: std::collections::BTreeMap<u64, u64>,
    /// Acknowledged sends.
    pub acknowledged: u64,
    /// Deliveries to devices.
    pub deliveries: u64,
    /// Violations of 3 and 4.
    pub lost: usize,
    /// Of 7: duplicated after it was acknowledged.
    pub duplicated: usize,
    /// Of 5 and 6.
    pub out_of_order: usize,
    /// Of 12 and 16.
    pub leaked: usize,
    /// Of 9.
    pub regressions: usize,
    /// Of 8.
    pub out_of_scope: usize,
    /// Sockets closed with a code that wasn't true.
    pub untrue_closes: usize,
    /// Part of `lost`: gaps reported although a queue held the message, or though no nsqd had lost anything.
    pub untrue_gaps: usize,
    /// True gaps: nsqd had lost what the log had dropped.
    pub true_gaps: u64,
    /// Runs with a log of 100 messages.
    pub short_logs: usize,
    /// Runs with 40 groups.
    pub many_chats: usize,
    /// Calls whose callers gave up.
    pub given_up: u64,
    /// Of all others, and bounds of recovery.
    pub others: usize,
    /// Messages that nsqd had in memory or on a lost disk.
    pub nsq_lost: u64,
    /// Deliveries from the log.
    pub from_log: u64,
    /// Times that notifications were missing.
    pub notifications_missed: u64,
    /// PUBs that were repeated because their outcome was unknown.
    pub published_again: u64,
    /// Sends and calls of unknown outcome.
    pub unknown: u64,
    /// By kind.
    pub faults: BTreeMap<String, Fault>,
}

/// The figures of one kind.
#[derive(Debug, Default, serde::Serialize)]
pub struct Fault {
    /// How often it was injected.
    pub injected: usize,
    /// How often it had an effect.
    pub bit: usize,
    /// How often it wasn't possible.
    pub not_done: usize,
    /// The last reason for that.
    pub why_not: Option<String>,
    /// The slowest recoveries, in milliseconds: p50, p99, longest.
    pub recovery: [u64; 3],
}

impl Summary {
    /// Returns the sums of these runs.
    pub fn of(outcomes: &[Outcome]) -> Summary {
        let mut sum = Summary { runs: outcomes.len(), ..Summary::default() };
        for outcome in outcomes {
            *sum.seeds.entry(outcome.seed).or_default() += 1;
        }
        let mut times: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for outcome in outcomes {
            sum.acknowledged += outcome.acknowledged;
            sum.deliveries += outcome.deliveries;
            sum.from_log += outcome.counted[LOG];
            sum.published_again += outcome.counted[RELAYED];
            sum.notifications_missed += outcome.counted[MISSED];
            sum.unknown += outcome.unknown;
            sum.given_up += outcome.given_up;
            sum.short_logs += usize::from(outcome.short_log);
            sum.many_chats += usize::from(outcome.groups >= 40);
            let untrue = outcome.violations.iter().filter(|(_, what)| what.contains(": gap ")).count();
            sum.untrue_gaps += untrue;
            sum.true_gaps += outcome.gaps.saturating_sub(untrue as u64);
            for (invariant, _) in &outcome.violations {
                *match *invariant {
                    UNTRUE_CLOSE => &mut sum.untrue_closes,
                    8 => &mut sum.out_of_scope,
                    3 | 4 => &mut sum.lost,
                    7 => &mut sum.duplicated,
                    5 | 6 => &mut sum.out_of_order,
                    12 | 16 => &mut sum.leaked,
                    9 => &mut sum.regressions,
                    _ => &mut sum.others,
                } += 1;
            }
            for fault in &outcome.faults {
                let of = sum.faults.entry(fault.kind.clone()).or_default();
                if fault.lacking.is_some() {
                    of.not_done += 1;
                    of.why_not.clone_from(&fault.lacking);
                    continue;
                }
                of.injected += 1;
                of.bit += usize::from(fault.bit);
                sum.nsq_lost += fault.nsq_lost;
                times.entry(&fault.kind).or_default().push(fault.recovery.slowest());
            }
        }
        for (kind, mut times) in times {
            times.sort_unstable();
            let part = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
            let recovery = [part(50), part(99), part(100)];
            sum.faults.entry(kind.to_owned()).and_modify(|fault| fault.recovery = recovery);
        }
        sum
    }

    /// Returns the number of all violations.
    pub fn violations(&self) -> usize {
        self.lost
            + self.duplicated
            + self.out_of_order
            + self.leaked
            + self.regressions
            + self.out_of_scope
            + self.untrue_closes
            + self.others
    }

    /// Returns how many faults had an effect.
    pub fn bites(&self) -> usize {
        self.faults.values().map(|fault| fault.bit).sum()
    }

    /// Returns a Markdown table.
    pub fn table(&self) -> String {
        let mut text = String::from("| in the whole | |\n|---|--:|\n");
        let rows = [
            ("runs", self.runs as u64),
            ("of them with logs of 100 messages", self.short_logs as u64),
            ("of them with 40 chats a device", self.many_chats as u64),
            ("acknowledged sends", self.acknowledged),
            ("deliveries", self.deliveries),
            ("lost", self.lost as u64),
            ("of these: gaps told although a queue held the message", self.untrue_gaps as u64),
            ("duplicated after their acknowledgement", self.duplicated as u64),
            ("out of order", self.out_of_order as u64),
            ("received by who wasn't in the chat", self.out_of_scope as u64),
            ("sockets closed 43xx or 44xx without a reason that is true", self.untrue_closes as u64),
            ("leaked queues, connections, files", self.leaked as u64),
            ("read offsets that fell", self.regressions as u64),
            ("other broken promises, late recoveries included", self.others as u64),
            ("what bit: messages nsqd had in flight or on disk when it went", self.nsq_lost),
            ("messages that came from the log instead of NSQ", self.from_log),
            ("times that notifications were missed", self.notifications_missed),
            ("gaps told because nsqd had lost what the log had given up", self.true_gaps),
            ("calls that were never repeated after a 503 or a time-out", self.given_up),
            ("messages published again because the outcome was unknown", self.published_again),
        ];
        for (what, value) in rows {
            let _ = writeln!(text, "| {what} | {} |", thousands(value));
        }
        text.push_str(
            "\n| fault | injected | bit | recovered in, p50 | p99 | longest |\n|---|--:|--:|--:|--:|--:|\n",
        );
        for kind in KINDS {
            let Some(fault) = self.faults.get(&kind.to_string()) else { continue };
            if let Some(why) = fault.why_not.as_ref().filter(|_| fault.injected == 0) {
                let _ = writeln!(text, "| {} | not done: {why} | | | | |", kind.what());
                continue;
            }
            let [p50, p99, longest] = fault.recovery.map(|ms| format!("{:.1} s", ms as f64 / 1000.0));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {p50} | {p99} | {longest} |",
                kind.what(),
                fault.injected,
                fault.bit
            );
        }
        text.push('\n');
        for (seed, runs) in &self.seeds {
            let _ = writeln!(text, "Seed {seed}: {runs} runs.");
        }
        text
    }
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|part| std::str::from_utf8(part).ok()).collect();
    parts.join(",")
}
