//! What isn't confirmed by NSQ yet, as this edge knows it without asking the store: what is being published, chats whose
//! outbox must be checked, and what edges that have gone left behind. For the relay, and for those who watch it.

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

/// When an outbox is checked after an append whose outcome isn't known: the store may do it up to 30 s later. All of them,
/// because what is found may be another message; and never more than 7 s apart, because a later doubt begins them anew.
const CHECKS: [Duration; 7] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(11),
    Duration::from_secs(18),
    Duration::from_secs(25),
    Duration::from_secs(32),
    Duration::from_secs(35),
];
/// An outbox whose node is down is read so often all the same: its chat may have another node by now.
const WHILE_DOWN: Duration = Duration::from_secs(5);

/// A chat whose outbox must be checked.
#[derive(Debug)]
struct Behind {
    // The node that didn't take it, if that is known; else empty.
    node: String,
    // Something is in it. Else that is only possible, because an append was uncertain_since then.
    certain: bool,
    uncertain_since: Option<Instant>,
    // How many messages are in it, as far as this edge knows, and since when the oldest of them waits.
    messages: usize,
    since: Instant,
    // It is checked then; while its node is down, then.
    due: Instant,
    due_while_down: Instant,
    // It is being checked now, and that came meanwhile.
    busy: bool,
    more: Option<usize>,
}

/// An outbox to be checked now; [`Outbox::checked`] says what came of it.
#[derive(Debug)]
pub(super) struct Due {
    pub chat: ChatId,
    /// The node that didn't take it, if that is known; else empty.
    pub node: String,
}

/// What a check of an outbox came to.
#[derive(Debug)]
pub(super) enum Checked {
    /// Nothing is in it, or what was in it is published.
    Empty,
    /// Something stays.
    Left(Left),
}

/// What stays in an outbox.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The node that didn't take it, if that is known; else empty.
    pub node: String,
    /// How many messages, if that is known.
    pub messages: Option<usize>,
    /// Since when the oldest waits, if that was seen.
    pub since: Option<Instant>,
}

/// How it stands; for the metrics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unconfirmed {
    /// Messages accepted here.
    pub messages: usize,
    /// Chats whose outbox must be emptied.
    pub chats: usize,
    /// For how long the oldest has waited, those of edges that have gone too.
    pub oldest: Duration,
    /// Edges that have gone and whose outboxes couldn't be emptied yet.
    pub dead_edges: usize,
    /// Messages that they accepted.
    pub dead_edge_messages: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    // Handed over and not yet noted as confirmed (or left to the outbox).
    open: AtomicUsize,
    // Bounded by the chats that this edge sends to, and those to which one sent that has gone, for 35 s.
    behind: Mutex<HashMap<ChatId, Behind>>,
    // What each edge that has gone left: how many messages, and since when the oldest waits.
    dead: Mutex<HashMap<String, (usize, Option<Instant>)>>,
}

impl Outbox {
    /// One more is handed over.
    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// So many were noted as confirmed, or left to their outbox.
    pub(super) fn closed(&self, count: usize) {
        self.open.fetch_sub(count, Ordering::Relaxed);
    }

    /// How many are handed over and neither noted as confirmed nor left to their outbox.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// So many messages in this chat's outbox aren't being published (any more); the oldest waits since then.
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

    /// An append to this chat may have been done, or may still be: its outbox is checked for a while.
    pub(super) fn check_soon(&self, chat: ChatId, now: Instant) {
        let mut behind = lock(&self.behind);
        let entry = behind.entry(chat).or_insert_with(|| Behind { due: now + CHECKS[0], ..Behind::new(now) });
        entry.uncertain_since = Some(now);
        entry.due = entry.due.min(now + CHECKS[0]);
    }

    /// Takes out what is to be checked now.
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

    /// What a check came to: it is checked again, or forgotten.
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

    /// What an edge that has gone left; none: nothing any more. True: that is news.
    pub(super) fn dead(&self, edge: &str, left: Option<(usize, Option<Instant>)>) -> bool {
        let mut dead = lock(&self.dead);
        match left {
            Some(left) => dead.insert(edge.to_owned(), left).is_none(),
            None => dead.remove(edge).is_some(),
        }
    }

    /// So many of those are published.
    pub(super) fn dead_published(&self, edge: &str, count: usize) {
        if let Some((messages, _)) = lock(&self.dead).get_mut(edge) {
            *messages = messages.saturating_sub(count);
        }
    }

    /// Only these edges have gone and left something.
    pub(super) fn retain_dead(&self, edges: &[String]) {
        lock(&self.dead).retain(|edge, _| edges.contains(edge));
    }

    /// How it stands. Looks at each chat that is behind: for whoever asks every few seconds. `oldest`: of what is being
    /// published.
    pub(super) fn unconfirmed(&self, mut oldest: Option<Instant>) -> Unconfirmed {
        let mut now = Unconfirmed { messages: self.open(), ..Unconfirmed::default() };
        let mut count = |since: Instant| oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
        // What is only possible doesn't count.
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

/// When an outbox is checked next, because of an append that was uncertain_since then.
fn next_check(uncertain_since: Instant, now: Instant) -> Option<Instant> {
    CHECKS.iter().map(|after| uncertain_since + *after).find(|at| *at > now)
}

/// When a message that was accepted at `at` was, by this machine's monotonic clock.
pub(super) fn since(at: Option<Millis>) -> Instant {
    let now = Instant::now();
    let age = at.map_or(0, |at| now_millis().saturating_sub(at));
    now.checked_sub(Duration::from_millis(age)).unwrap_or(now)
}

/// Since when each publish under way waits. Places and not a list: one nsqd that hangs must not make this grow, and nothing is
/// locked or allocated for a message.
#[derive(Debug)]
pub(super) struct Slots {
    began: Instant,
    // In microseconds after `began`, plus 1; 0: the place is free.
    since: Box<[AtomicU64]>,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        let since = std::iter::repeat_with(AtomicU64::default).take(count).collect();
        Self { began: Instant::now(), since }
    }

    /// The publish in this place waits since then; none: it has ended.
    pub(super) fn set(&self, place: usize, since: Option<Instant>) {
        let micros = |since: Instant| since.saturating_duration_since(self.began).as_micros();
        let value = since.map_or(0, |since| u64::try_from(micros(since)).unwrap_or(u64::MAX - 1) + 1);
        if let Some(place) = self.since.get(place) {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// Since when the oldest waits. (What is older than the places themselves can't be in one.)
    pub(super) fn oldest(&self) -> Option<Instant> {
        let taken = self.since.iter().map(|place| place.load(Ordering::Relaxed)).filter(|since| *since > 0);
        taken.min().map(|since| self.began + Duration::from_micros(since - 1))
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
