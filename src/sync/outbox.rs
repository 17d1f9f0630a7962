//! What isn't confirmed by NSQ yet, as this edge knows it without asking the store: what is being published, chats whose
//! outbox must be looked at, and what edges that have gone left behind. For the relay, and for those who watch it.

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

/// Publishes under way at once: enough to keep the connections to all nsqd full.
pub(super) const UNDER_WAY: usize = 1024;

/// A chat whose outbox must be looked at.
#[derive(Debug, Clone)]
pub(super) struct Behind {
    /// The node that didn't take it, if that is known; else empty.
    pub node: String,
    /// How many messages of this edge are in it, at least.
    pub messages: usize,
    /// How long the oldest of them has waited, or since when.
    pub since: Instant,
}

/// How it stands; for the metrics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unconfirmed {
    /// Messages accepted here.
    pub messages: usize,
    /// Chats whose outbox must be looked at.
    pub chats: usize,
    /// For how long the oldest has waited.
    pub oldest: Duration,
    /// Edges that have gone and whose outboxes couldn't be emptied yet.
    pub dead_edges: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    began: Instant,
    // Since when each publish under way waits, in microseconds after `began`, plus 1; 0: the place is free. Places and not
    // a list: one nsqd that hangs must not make this grow, and nothing is locked or allocated for a message.
    places: Box<[AtomicU64]>,
    // Handed over and not yet noted as confirmed (or left to the outbox).
    open: AtomicUsize,
    // Bounded by the chats this edge sends to.
    behind: Mutex<HashMap<ChatId, Behind>>,
    // How many edges that have gone left something that isn't published yet, and since when the oldest of it waits.
    left: Mutex<(usize, Option<Instant>)>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            places: std::iter::repeat_with(AtomicU64::default).take(UNDER_WAY).collect(),
            open: AtomicUsize::new(0),
            behind: Mutex::default(),
            left: Mutex::default(),
        }
    }

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

    /// The publish in this place (below [`UNDER_WAY`]) waits since then; none: it has ended.
    pub(super) fn place(&self, place: usize, since: Option<Instant>) {
        let micros = |since: Instant| since.saturating_duration_since(self.began).as_micros();
        let value = since.map_or(0, |since| u64::try_from(micros(since)).unwrap_or(u64::MAX - 1) + 1);
        if let Some(place) = self.places.get(place) {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// Something in this chat's outbox isn't being published.
    pub(super) fn behind(&self, chat: ChatId, behind: Behind) {
        if planted!(NoOutbox) {
            return;
        }
        lock(&self.behind)
            .entry(chat)
            .and_modify(|known| {
                known.node.clone_from(&behind.node);
                known.messages += behind.messages;
                known.since = known.since.min(behind.since);
            })
            .or_insert(behind);
    }

    /// Takes out all chats that are behind.
    pub(super) fn take_behind(&self) -> Vec<(ChatId, Behind)> {
        lock(&self.behind).drain().collect()
    }

    /// What edges that have gone left, after a look at all of them.
    pub(super) fn left(&self, edges: usize, since: Option<Instant>) {
        *lock(&self.left) = (edges, since);
    }

    /// How it stands. Looks at a thousand places and at each chat that is behind: for whoever asks every few seconds.
    pub(super) fn unconfirmed(&self) -> Unconfirmed {
        let places = self.places.iter().map(|place| place.load(Ordering::Relaxed)).filter(|since| *since > 0);
        let mut oldest = places.min().map(|since| self.began + Duration::from_micros(since - 1));
        let mut messages = self.open();
        let mut count = |since: Instant| oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
        let behind = lock(&self.behind);
        let chats = behind.len();
        for behind in behind.values() {
            messages += behind.messages;
            count(behind.since);
        }
        drop(behind);
        let (dead_edges, since) = *lock(&self.left);
        since.into_iter().for_each(count);
        let oldest = oldest.map_or(Duration::ZERO, |since| since.elapsed());
        Unconfirmed { messages, chats, oldest, dead_edges }
    }
}

/// When a message that was accepted at `at` was, by this machine's monotonic clock.
pub(super) fn since(at: Option<Millis>) -> Instant {
    let now = Instant::now();
    let age = at.map_or(0, |at| now_millis().saturating_sub(at));
    now.checked_sub(Duration::from_millis(age)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(messages: usize, since: Instant) -> Behind {
        Behind { node: String::new(), messages, since }
    }

    #[test]
    fn the_oldest_counts_wherever_it_waits() {
        let outbox = Outbox::new();
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let seconds = || outbox.unconfirmed().oldest.as_secs();
        assert_eq!(outbox.unconfirmed().oldest, Duration::ZERO);
        // What is older than the outbox itself can't be under way.
        outbox.opened();
        outbox.place(7, Some(ago(10)));
        assert_eq!((outbox.unconfirmed().messages, seconds()), (1, 0));
        assert!(outbox.unconfirmed().oldest > Duration::ZERO);

        let chat = ChatId::random();
        outbox.behind(chat, behind(2, ago(100)));
        outbox.behind(chat, behind(1, ago(20)));
        assert_eq!((outbox.unconfirmed().messages, seconds()), (1 + 3, 100));
        outbox.left(2, Some(ago(300)));
        assert_eq!((outbox.unconfirmed().dead_edges, seconds()), (2, 300));

        assert_eq!(outbox.take_behind().len(), 1);
        outbox.left(0, None);
        outbox.closed(1);
        outbox.place(7, None);
        let now = outbox.unconfirmed();
        assert_eq!((now.messages, now.oldest, now.dead_edges), (0, Duration::ZERO, 0));
    }
}
