//! The budget of sweeps. A sweep goes round everything there is, again and again, because events may be lost. It spends a fixed
//! number of Redis commands per second, so its cost doesn't grow with what exists; its rounds get longer instead (decision 0034).
//!
//! - The rate is the whole deployment's. Work that one edge does under a lease has all of it. Work that each edge does for its own
//!   sessions has its share: the rate divided by the live edges, and at least 1 command per second.
//! - Each command counts that Redis executes: a pipeline of 500 reads is 500.
//! - Only looks are paced. What they find is repaired at once.

use std::{sync::Mutex, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep_until};

use super::{Core, lock};

/// The rate of an urgent sweep, which an event asks for: a twentieth of what Redis does, and no more than it notices.
pub(super) const URGENT: f64 = 10_000.0;
/// Items that are visited at a time: a call that hangs delays no others.
const PARALLEL: usize = 256;
/// The longest call, as a part of a second's commands; and in commands.
const CALL: f64 = 0.25;
const LONGEST: usize = 500;
/// Expiry has this part of the rate: nearly always nothing is due, and together the sweeps stay below 150 commands per second.
const EXPIRY: f64 = 0.2;

/// A kind of sweep; each has a budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of all chats: their queues and logs.
    Reconcile,
    /// Of all devices, for the time when they expire.
    Expiry,
    /// Of the followed chats: their heads.
    Heads,
    /// Of the connected users: read offsets and chats.
    Offsets,
    /// Of the watched users: whether they are online.
    Presence,
}

impl Kind {
    /// Returns the label of its metric.
    const fn name(self) -> &'static str {
        match self {
            Self::Reconcile => "reconcile",
            Self::Expiry => "expiry",
            Self::Heads => "heads",
            Self::Offsets => "offsets",
            Self::Presence => "presence",
        }
    }

    /// Returns its commands per second, of the deployment's `rate`, at each of so many edges.
    fn rate(self, rate: u32, edges: usize) -> f64 {
        let rate = f64::from(rate);
        let share = match self {
            Self::Reconcile => rate,
            Self::Expiry => rate * EXPIRY,
            Self::Heads | Self::Offsets | Self::Presence => rate / edges.max(1) as f64,
        };
        share.max(1.0)
    }
}

/// When commands may be sent, so that in no second more than the rate are, and one call in addition. Pure.
#[derive(Debug)]
pub(super) struct Pace {
    next: Instant,
}

impl Pace {
    /// Nothing was spent before `now`.
    pub(super) const fn new(now: Instant) -> Self {
        Self { next: now }
    }

    /// Spends `commands` at `rate` per second; returns when they may be sent. Time that passed unused is lost.
    pub(super) fn spend(&mut self, commands: usize, rate: f64, now: Instant) -> Instant {
        let at = self.next.max(now);
        self.next = at + Duration::from_secs_f64(commands as f64 / rate);
        at
    }
}

/// One kind of sweep of this edge, with its budget.
#[derive(Debug)]
pub(super) struct Sweep<'a> {
    core: &'a Core,
    kind: Kind,
    pace: Mutex<Pace>,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(core: &'a Core, kind: Kind) -> Self {
        Self { core, kind, pace: Mutex::new(Pace::new(Instant::now())) }
    }

    /// Returns the commands per second at present.
    pub(super) fn rate(&self) -> f64 {
        self.kind.rate(self.core.limits.sweep_rate, self.core.live_edges())
    }

    /// Returns how many commands of this kind one call may have, at the least one item's.
    pub(super) fn call(&self) -> usize {
        longest_call(self.rate())
    }

    /// Waits until so many commands may be sent.
    pub(super) async fn spend(&self, commands: usize) {
        self.spend_at(commands, self.rate()).await;
    }

    /// The same at the rate of an urgent sweep.
    pub(super) async fn spend_urgently(&self, commands: usize) {
        self.spend_at(commands, self.rate().max(URGENT)).await;
    }

    async fn spend_at(&self, commands: usize, rate: f64) {
        let at = lock(&self.pace).spend(commands, rate, Instant::now());
        sleep_until(at).await;
    }

    /// Visits each of these once, for so many commands each. None waits for another.
    pub(super) async fn visit<T, F: Future<Output = ()>>(
        &self,
        items: Vec<T>,
        commands: impl Fn(&T) -> usize,
        work: impl FnMut(T) -> F,
    ) {
        let begun = Instant::now();
        stream::iter(items)
            .then(async |item| {
                self.spend(commands(&item)).await;
                item
            })
            .for_each_concurrent(PARALLEL, work)
            .await;
        self.went_round(begun);
    }

    /// A whole round began then, and is over.
    pub(super) fn went_round(&self, begun: Instant) {
        let gauge = self.core.metrics.sweep_round.with_label_values(&[self.kind.name()]);
        gauge.set(begun.elapsed().as_secs_f64());
    }
}

/// Returns the longest call at a rate, in commands.
pub(super) fn longest_call(rate: f64) -> usize {
    ((rate * CALL) as usize).clamp(1, LONGEST)
}

#[cfg(test)]
#[path = "../../tests/unit/sync/budget.rs"]
mod tests;
