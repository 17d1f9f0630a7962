//! One queue: what waits, what is in flight, and who takes from it.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

/// As many as an NSQ consumer of ours may have in flight.
pub(super) const MAX_IN_FLIGHT: usize = 256;

/// The backlog of one (chat, device), with its consumers.
pub(super) struct Queue {
    limit: usize,
    state: Mutex<State>,
    /// Told whenever a consumer may have something to do.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Ascending by number.
    waiting: VecDeque<Message>,
    /// By delivery number. It is here and not in the receipts, so that a consumer's end can take all of its back.
    in_flight: BTreeMap<u64, Held>,
    consumers: Vec<Consumer>,
    /// Counts messages, deliveries and consumers alike.
    last_number: u64,
    requeues: u64,
    removed: bool,
    /// Messages dropped at the limit.
    dropped: u64,
}

struct Message {
    /// Its place: a message that is given back returns to where it was.
    number: u64,
    body: Bytes,
}

struct Held {
    consumer: u64,
    message: Message,
}

struct Consumer {
    id: u64,
    in_flight: usize,
}

/// What [`Queue::take`] found.
pub(super) enum Next {
    /// It is the consumer's until it is finished or given back.
    Message { body: Bytes, delivery: u64 },
    /// Nothing that the consumer may have now.
    Nothing,
    /// The consumer was detached before.
    Detached,
}

/// What is in a queue now.
pub(super) struct Counts {
    pub waiting: u64,
    pub in_flight: u64,
    pub requeues: u64,
    pub consumers: u64,
}

impl fmt::Debug for Queue {
    // Short: a derived one would print the whole backlog.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), changed: Notify::new() }
    }

    pub(super) fn push(&self, body: Bytes) {
        let mut state = self.state();
        if state.removed {
            return;
        }
        let number = state.next_number();
        state.waiting.push_back(Message { number, body });
        if state.waiting.len() + state.in_flight.len() > self.limit {
            state.waiting.pop_front();
            state.dropped += 1;
            if state.dropped == 1 {
                tracing::warn!(
                    limit = self.limit,
                    "a queue is full: it drops its oldest messages from now on"
                );
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// A new consumer; its number.
    pub(super) fn attach(&self) -> u64 {
        let mut state = self.state();
        let id = state.next_number();
        state.consumers.push(Consumer { id, in_flight: 0 });
        id
    }

    /// The consumer has gone: all it held returns, and its receipts are void. Doing it again changes nothing.
    pub(super) fn detach(&self, consumer: u64) {
        let mut state = self.state();
        state.consumers.retain(|c| c.id != consumer);
        let (its, others): (BTreeMap<_, _>, _) =
            std::mem::take(&mut state.in_flight).into_iter().partition(|(_, held)| held.consumer == consumer);
        state.in_flight = others;
        for held in its.into_values() {
            state.put_back(held.message);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until there is something that the consumer could take (or will never be); true when the queue is removed.
    pub(super) async fn ready(&self, consumer: u64) -> bool {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Listen first, look second: a change in between must wake us.
            changed.as_mut().enable();
            {
                let state = self.state();
                let room =
                    state.consumers.iter().find(|c| c.id == consumer).map(|c| c.in_flight < MAX_IN_FLIGHT);
                if state.removed || room.is_none() || (room == Some(true) && !state.waiting.is_empty()) {
                    return state.removed;
                }
            }
            changed.await;
        }
    }

    /// Whether the consumer holds nothing.
    pub(super) fn is_idle(&self, consumer: u64) -> bool {
        self.state().consumers.iter().any(|c| c.id == consumer && c.in_flight == 0)
    }

    /// Waits until the consumer holds nothing, or the queue is removed.
    pub(super) async fn idle_or_removed(&self, consumer: u64) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_idle(consumer) || self.state().removed {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn take(&self, consumer: u64) -> Next {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(taker) = state.consumers.iter_mut().find(|c| c.id == consumer) else {
            return if state.removed { Next::Nothing } else { Next::Detached };
        };
        if taker.in_flight >= MAX_IN_FLIGHT {
            return Next::Nothing;
        }
        let Some(message) = state.waiting.pop_front() else { return Next::Nothing };
        taker.in_flight += 1;
        let body = message.body.clone();
        let delivery = state.next_number();
        state.in_flight.insert(delivery, Held { consumer, message });
        Next::Message { body, delivery }
    }

    /// The delivery is done. Without effect when it was given back or its consumer has gone.
    pub(super) fn finish(&self, delivery: u64) {
        if self.state().release(delivery).is_some() {
            self.changed.notify_waiters();
        }
    }

    /// The delivery returns to the queue. Without effect when it was finished or its consumer has gone.
    pub(super) fn give_back(&self, delivery: u64) {
        let mut state = self.state();
        if let Some(message) = state.release(delivery) {
            state.put_back(message);
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Empties it and tells its consumers, who end.
    pub(super) fn remove(&self) {
        let mut state = self.state();
        // The numbers go on, so that a receipt from before never meets a later delivery's.
        *state = State { removed: true, last_number: state.last_number, ..State::default() };
        drop(state);
        self.changed.notify_waiters();
    }

    /// Loses messages, in the order of their numbers; see [`super::EmbeddedBroker::crash`].
    #[cfg(feature = "simulation")]
    pub(super) fn lose(&self, mut lost: impl FnMut(bool) -> bool) -> u64 {
        let mut state = self.state();
        let before = state.waiting.len() + state.in_flight.len();
        state.waiting.retain(|_| !lost(false));
        let held = std::mem::take(&mut state.in_flight);
        // What isn't lost waits for the next consumer.
        for held in held.into_values().filter(|_| !lost(true)) {
            state.put_back(held.message);
        }
        state.consumers.iter_mut().for_each(|consumer| consumer.in_flight = 0);
        (before - state.waiting.len()) as u64
    }

    pub(super) fn counts(&self) -> Counts {
        let state = self.state();
        Counts {
            waiting: state.waiting.len() as u64,
            in_flight: state.in_flight.len() as u64,
            requeues: state.requeues,
            consumers: state.consumers.len() as u64,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked, so a poisoned state is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn release(&mut self, delivery: u64) -> Option<Message> {
        let held = self.in_flight.remove(&delivery)?;
        if let Some(consumer) = self.consumers.iter_mut().find(|c| c.id == held.consumer) {
            consumer.in_flight -= 1;
        }
        Some(held.message)
    }

    fn put_back(&mut self, message: Message) {
        self.requeues += 1;
        // Close to the front nearly always, so the insertion moves few.
        let place = self.waiting.partition_point(|waiting| waiting.number < message.number);
        self.waiting.insert(place, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(queue: &Queue, consumer: u64) -> Option<(Bytes, u64)> {
        match queue.take(consumer) {
            Next::Message { body, delivery } => Some((body, delivery)),
            Next::Nothing | Next::Detached => None,
        }
    }

    #[test]
    fn what_is_given_back_returns_to_its_place() {
        let queue = Queue::new(10);
        for text in ["a", "b", "c"] {
            queue.push(text.into());
        }
        let first = queue.attach();
        let (_, a) = body(&queue, first).unwrap();
        let (_, b) = body(&queue, first).unwrap();
        queue.give_back(a);
        queue.give_back(b);
        queue.give_back(b);
        assert_eq!(queue.counts().requeues, 2);
        let (_, a) = body(&queue, first).unwrap();
        let (_, b) = body(&queue, first).unwrap();
        queue.detach(first);

        let second = queue.attach();
        let all: Vec<_> = std::iter::from_fn(|| body(&queue, second)).collect();
        assert_eq!(all.iter().map(|(body, _)| &body[..]).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        // The first consumer's receipts are void: they neither finish nor give back what is the second's now.
        queue.finish(a);
        queue.give_back(b);
        assert_eq!((queue.counts().in_flight, queue.counts().waiting), (3, 0));
    }

    #[test]
    fn a_full_queue_drops_its_oldest() {
        let queue = Queue::new(2);
        for text in ["a", "b", "c"] {
            queue.push(text.into());
        }
        let consumer = queue.attach();
        assert_eq!(body(&queue, consumer).unwrap().0, "b");
        queue.push("d".into());
        assert_eq!(body(&queue, consumer).unwrap().0, "d", "c was the oldest that waited");
    }

    #[test]
    fn a_consumer_holds_no_more_than_its_share() {
        let queue = Queue::new(1_000);
        (0..300).for_each(|_| queue.push(Bytes::new()));
        let consumer = queue.attach();
        let mut taken: Vec<_> = std::iter::from_fn(|| body(&queue, consumer)).collect();
        assert_eq!(taken.len(), MAX_IN_FLIGHT);
        queue.finish(taken.pop().unwrap().1);
        assert!(body(&queue, consumer).is_some());
        assert!(body(&queue, consumer).is_none());
    }
}
