//! Messages that NSQ hasn't confirmed, as far as this edge knows without the store: those being published, chats whose outbox
//! must be checked, and the outboxes of dead edges. For the relay and its metrics.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::lock;
use crate::domain::{Millis, id::ChatId, now_millis};

/// When an outbox is checked after an append of unknown outcome: the store may execute it up to 30 s later. All of them, because
/// a found message may be another one; at most 7 s apart, because a later uncertain append restarts them.
const CHECKS: [Duration; 7] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(11),
    Duration::from_secs(18),
    Duration::from_secs(25),
    Duration::from_secs(32),
    Duration::from_secs(35),
];
/// Check interval of an outbox whose node is down: its chat may have another node by now.
const WHILE_DOWN: Duration = Duration::from_secs(5);

/// A chat whose outbox must be checked.
#[derive(Debug)]
struct Behind {
    // The node that didn't take it, if known; else empty.
    node: String,
    // It holds something. Otherwise that is only possible, because an append was uncertain since then.
    certain: bool,
    uncertain_since: Option<Instant>,
    // How many messages are in it, as far as this edge knows, and the age of the oldest.
    messages: usize,
    since: Instant,
    // When it is checked; and when, while its node is down.
    due: Instant,
    due_while_down: Instant,
    // It is being checked; and this came meanwhile.
    busy: bool,
    more: Option<usize>,
}

/// An outbox to check now; [`Outbox::checked`] takes the result.
#[derive(Debug)]
pub(super) struct Due {
    pub chat: ChatId,
    /// The node that didn't take it, if known; else empty.
    pub node: String,
}

/// The result of a check of an outbox.
#[derive(Debug)]
pub(super) enum Checked {
    /// It is empty, or all of it is published.
    Empty,
    /// Something remains.
    Left(Left),
}

/// What remains in an outbox.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The node that didn't take it, if known; else empty.
    pub node: String,
    /// How many messages, if known.
    pub messages: Option<usize>,
    /// When the oldest was accepted, if seen.
    pub since: Option<Instant>,
}

/// The totals, for the metrics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unconfirmed {
    /// Messages accepted here.
    pub messages: usize,
    /// Chats whose outbox must be drained.
    pub chats: usize,
    /// The age of the oldest, including those of dead edges.
    pub oldest: Duration,
    /// Dead edges whose outboxes aren't drained yet.
    pub dead_edges: usize,
    /// Messages that they accepted.
    pub dead_edge_messages: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    // Handed over, and neither recorded as confirmed nor left to the outbox.
    open: AtomicUsize,
    // Bounded by the chats that this edge, or for 35 s a dead one, sends to.
    behind: Mutex<HashMap<ChatId, Behind>>,
    // What each dead edge left: how many messages, and when the oldest was accepted.
    dead: Mutex<HashMap<String, (usize, Option<Instant>)>>,
}

impl Outbox {
    /// Counts one more as handed over.
    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts `count` as confirmed, or left to their outbox.
    pub(super) fn closed(&self, count: usize) {
        self.open.fetch_sub(count, Ordering::Relaxed);
    }

    /// Returns how many are handed over, and neither confirmed nor left to their outbox.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// `messages` of this chat's outbox aren't being published (any more); the oldest is from `since`.
    pub(super) fn leave(&self, chat: ChatId, node: String, messages: usize, since: Instant) {
        let mut behind = lock(&self.behind);
        let entry = behind.entry(chat).or_insert_with(|| Behind::new(since));
        entry.since = if entry.certain { entry.since.min(since) } else { since };
        entry.certain = true;
        entry.node = node;
        entry.messages += messages;
        entry.due = entry.due.min(since);
        if entry.busy {
            entry.more = Some(entry.more.unwrap_or(0) + messages);
        }
    }

    /// An append to this chat has an unknown outcome: its outbox is checked for a while.
    pub(super) fn check_soon(&self, chat: ChatId, now: Instant) {
        let mut behind = lock(&self.behind);
        let entry = behind.entry(chat).or_insert_with(|| Behind { due: now + CHECKS[0], ..Behind::new(now) });
        entry.uncertain_since = Some(now);
        entry.due = entry.due.min(now + CHECKS[0]);
    }

    /// Takes the outboxes to check now.
    pub(super) fn take_due(&self, now: Instant, is_down: impl Fn(&str) -> bool) -> Vec<Due> {
        let mut behind = lock(&self.behind);
        let due = behind.iter_mut().filter(|(_, entry)| {
            let at = || {
                if !entry.node.is_empty() && is_down(&entry.node) { entry.due_while_down } else { entry.due }
            };
            !entry.busy && at() <= now
        });
        let taken = due.map(|(chat, entry)| {
            entry.busy = true;
            entry.more = None;
            Due { chat: *chat, node: entry.node.clone() }
        });
        taken.collect()
    }

    /// Takes the result of a check: checks again, or forgets it.
    pub(super) fn checked(&self, chat: ChatId, checked: Checked, now: Instant) {
        let mut behind = lock(&self.behind);
        let Some(entry) = behind.get_mut(&chat) else { return };
        entry.busy = false;
        let more = entry.more.take();
        match checked {
            Checked::Empty => {
                entry.certain = more.is_some();
                entry.messages = more.unwrap_or(0);
                entry.node.clear();
                if entry.certain {
                    entry.due = now;
                    return;
                }
                match entry.uncertain_since.and_then(|uncertain_since| next_check(uncertain_since, now)) {
                    Some(at) => entry.due = at,
                    None => drop(behind.remove(&chat)),
                }
            }
            Checked::Left(left) => {
                entry.certain = true;
                entry.node = left.node;
                entry.since = left.since.unwrap_or(entry.since);
                if let Some(messages) = left.messages {
                    entry.messages = messages + more.unwrap_or(0);
                }
                (entry.due, entry.due_while_down) = (now, now + WHILE_DOWN);
            }
        }
    }

    /// Sets what a dead edge left; none: nothing any more. Returns whether that is new.
    pub(super) fn dead(&self, edge: &str, left: Option<(usize, Option<Instant>)>) -> bool {
        let mut dead = lock(&self.dead);
        match left {
            Some(left) => dead.insert(edge.to_owned(), left).is_none(),
            None => dead.remove(edge).is_some(),
        }
    }

    /// `count` of those are published.
    pub(super) fn dead_published(&self, edge: &str, count: usize) {
        if let Some((messages, _)) = lock(&self.dead).get_mut(edge) {
            *messages = messages.saturating_sub(count);
        }
    }

    /// Keeps only these dead edges.
    pub(super) fn retain_dead(&self, edges: &[String]) {
        lock(&self.dead).retain(|edge, _| edges.contains(edge));
    }

    /// Returns the totals. Iterates over all chats that are behind: for a call every few seconds. `oldest`: of what is
    /// being published.
    pub(super) fn unconfirmed(&self, mut oldest: Option<Instant>) -> Unconfirmed {
        let mut now = Unconfirmed { messages: self.open(), ..Unconfirmed::default() };
        let mut count = |since: Instant| oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
        // Uncertain ones don't count.
        for behind in lock(&self.behind).values().filter(|behind| behind.certain) {
            now.chats += 1;
            now.messages += behind.messages;
            count(behind.since);
        }
        for (messages, since) in lock(&self.dead).values() {
            now.dead_edges += 1;
            now.dead_edge_messages += messages;
            since.iter().copied().for_each(&mut count);
        }
        now.oldest = oldest.map_or(Duration::ZERO, |since| since.elapsed());
        now
    }
}

impl Behind {
    fn new(now: Instant) -> Self {
        Self {
            node: String::new(),
            certain: false,
            uncertain_since: None,
            messages: 0,
            since: now,
            due: now,
            due_while_down: now + WHILE_DOWN,
            busy: false,
            more: None,
        }
    }
}

/// Returns the next check after an append that was uncertain since then.
fn next_check(uncertain_since: Instant, now: Instant) -> Option<Instant> {
    CHECKS.iter().map(|after| uncertain_since + *after).find(|at| *at > now)
}

/// Converts the time `at` to this machine's monotonic clock.
pub(super) fn since(at: Option<Millis>) -> Instant {
    let now = Instant::now();
    let age = at.map_or(0, |at| now_millis().saturating_sub(at));
    now.checked_sub(Duration::from_millis(age)).unwrap_or(now)
}

/// Since when each publish in progress waits. Fixed slots, not a list: a hanging nsqd must not make this grow, and no message
/// takes a lock or an allocation.
#[derive(Debug)]
pub(super) struct Slots {
    began: Instant,
    // In microseconds after `began`, plus 1; 0: the slot is free.
    since: Box<[AtomicU64]>,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        let since = std::iter::repeat_with(AtomicU64::default).take(count).collect();
        Self { began: Instant::now(), since }
    }

    /// Sets the start of the publish in this slot; none: it has ended.
    pub(super) fn set(&self, place: usize, since: Option<Instant>) {
        let micros = |since: Instant| since.saturating_duration_since(self.began).as_micros();
        let value = since.map_or(0, |since| u64::try_from(micros(since)).unwrap_or(u64::MAX - 1) + 1);
        if let Some(place) = self.since.get(place) {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// Returns the start of the oldest. (None can be older than the slots themselves.)
    pub(super) fn oldest(&self) -> Option<Instant> {
        let taken = self.since.iter().map(|place| place.load(Ordering::Relaxed)).filter(|since| *since > 0);
        taken.min().map(|since| self.began + Duration::from_micros(since - 1))
    }
}

#[cfg(test)]
#[path = "../../tests/unit/sync/outbox.rs"]
mod tests;
