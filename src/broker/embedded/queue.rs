//! One queue: what waits, what is in flight, and its consumers.
//!
//! It behaves as NSQ does (decision 0021): a message that comes back (requeued, timed out, its consumer gone) goes to
//! the end, behind everything that waits.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::simulation::queue::Past;

#[cfg(feature = "simulation")]
mod crash;

/// As many as one of our NSQ consumers may have in flight.
pub(crate) const MAX_IN_FLIGHT: usize = 256;

/// The backlog of one (chat, device), with its consumers.
pub(crate) struct Queue {
    limit: usize,
    /// When a delivery that is neither finished nor requeued is redelivered.
    msg_timeout: Option<Duration>,
    state: Mutex<State>,
    /// Notified whenever a consumer may have something to do.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// The next one first.
    waiting: VecDeque<Bytes>,
    /// By delivery number. Kept here and not in the receipts, so that a consumer's end can requeue all its messages.
    in_flight: BTreeMap<u64, Held>,
    /// Deliveries that timed out, by number, with their consumers: they count as theirs until they are settled.
    expired: BTreeMap<u64, u64>,
    consumers: Vec<Consumer>,
    /// Counts deliveries and consumers alike.
    last_number: u64,
    requeues: u64,
    removed: bool,
    /// Messages dropped at the limit.
    dropped: u64,
    /// What a crash would bring back; kept in simulations only.
    past: Past,
}

struct Held {
    consumer: u64,
    body: Bytes,
    /// None: as long as its consumer likes.
    until: Option<Instant>,
}

struct Consumer {
    id: u64,
    in_flight: usize,
}

/// The result of [`Queue::take`].
pub(crate) enum Next {
    /// The consumer holds it until it is finished or requeued.
    Message { body: Bytes, delivery: u64 },
    /// There is nothing that the consumer may have now.
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
    pub(super) fn new(limit: usize, msg_timeout: Option<Duration>) -> Self {
        Self { limit, msg_timeout, state: Mutex::default(), changed: Notify::new() }
    }

    pub(super) fn push(&self, body: Bytes) {
        let mut state = self.state();
        if state.removed {
            return;
        }
        state.past.pushed(&body);
        state.waiting.push_back(body);
        if state.waiting.len() + state.in_flight.len() > self.limit {
            state.waiting.pop_front();
            state.dropped += 1;
            if state.dropped == 1 {
                tracing::warn!(limit = self.limit, "queue full: its oldest messages are dropped from now on");
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Attaches a new consumer. Returns its number.
    pub(crate) fn attach(&self) -> u64 {
        let mut state = self.state();
        let id = state.next_number();
        state.consumers.push(Consumer { id, in_flight: 0 });
        id
    }

    /// Detaches the consumer: all that it held is requeued, and its receipts are void. A repetition changes nothing.
    pub(crate) fn detach(&self, consumer: u64) {
        let mut state = self.state();
        state.forget_consumer(consumer);
        let (its, others): (BTreeMap<_, _>, _) =
            std::mem::take(&mut state.in_flight).into_iter().partition(|(_, held)| held.consumer == consumer);
        state.in_flight = others;
        for held in its.into_values() {
            state.requeue(held.body);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until there is a message that the consumer could take (or there never will be). Returns true if the queue
    /// is removed.
    pub(crate) async fn ready(&self, consumer: u64) -> bool {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Listen first, check second: a change in between must wake us.
            changed.as_mut().enable();
            let next_return = {
                let mut state = self.state();
                state.expire(self.msg_timeout);
                let room =
                    state.consumers.iter().find(|c| c.id == consumer).map(|c| c.in_flight < MAX_IN_FLIGHT);
                if state.removed || room.is_none() || (room == Some(true) && !state.waiting.is_empty()) {
                    return state.removed;
                }
                state.in_flight.first_key_value().and_then(|(_, held)| held.until)
            };
            match next_return {
                Some(at) => drop(timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    /// Returns whether the consumer holds nothing. (A detached one doesn't: its taker learns that by taking.)
    pub(crate) fn is_idle(&self, consumer: u64) -> bool {
        !self.state().consumers.iter().any(|c| c.id == consumer && c.in_flight > 0)
    }

    /// Waits until the consumer holds nothing or is detached, or the queue is removed.
    pub(crate) async fn idle_or_gone(&self, consumer: u64) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.state();
                let holds = state.consumers.iter().any(|c| c.id == consumer && c.in_flight > 0);
                if !holds || state.removed {
                    return;
                }
            }
            changed.await;
        }
    }

    pub(crate) fn take(&self, consumer: u64) -> Next {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(taker) = state.consumers.iter_mut().find(|c| c.id == consumer) else {
            return if state.removed { Next::Nothing } else { Next::Detached };
        };
        if taker.in_flight >= MAX_IN_FLIGHT {
            return Next::Nothing;
        }
        let Some(body) = state.waiting.pop_front() else { return Next::Nothing };
        taker.in_flight += 1;
        let delivery = state.next_number();
        let until = self.msg_timeout.map(|timeout| Instant::now() + timeout);
        state.in_flight.insert(delivery, Held { consumer, body: body.clone(), until });
        Next::Message { body, delivery }
    }

    /// Finishes the delivery. No-op if it was requeued or its consumer is gone.
    pub(crate) fn finish(&self, delivery: u64) {
        let mut state = self.state();
        state.expire(self.msg_timeout);
        let (released, body) = state.release(delivery);
        if let Some(body) = body {
            state.past.finished(delivery, body);
        }
        drop(state);
        if released {
            self.changed.notify_waiters();
        }
    }

    /// Requeues the delivery. No-op if it was finished or its consumer is gone.
    pub(crate) fn give_back(&self, delivery: u64) {
        let mut state = self.state();
        state.expire(self.msg_timeout);
        let (released, body) = state.release(delivery);
        if let Some(body) = body {
            state.requeue(body);
        }
        drop(state);
        if released {
            self.changed.notify_waiters();
        }
    }

    /// Drops what waits and what is in flight; receipts are void.
    pub(super) fn clear(&self) {
        let mut state = self.state();
        state.waiting.clear();
        state.in_flight.clear();
        state.expired.clear();
        for consumer in &mut state.consumers {
            consumer.in_flight = 0;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Empties it and notifies its consumers, which end.
    pub(super) fn remove(&self) {
        let mut state = self.state();
        // The numbers continue, so that an earlier receipt never meets a later delivery's.
        *state = State { removed: true, last_number: state.last_number, ..State::default() };
        drop(state);
        self.changed.notify_waiters();
    }

    pub(super) fn counts(&self) -> Counts {
        let mut state = self.state();
        state.expire(self.msg_timeout);
        Counts {
            waiting: state.waiting.len() as u64,
            in_flight: state.in_flight.len() as u64,
            requeues: state.requeues,
            consumers: state.consumers.len() as u64,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked, so a poisoned state is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Returns whether its consumer may have another one now, and the message if that consumer still held it.
    fn release(&mut self, delivery: u64) -> (bool, Option<Bytes>) {
        let held = self.in_flight.remove(&delivery);
        let Some(consumer) =
            held.as_ref().map(|held| held.consumer).or_else(|| self.expired.remove(&delivery))
        else {
            return (false, None);
        };
        if let Some(consumer) = self.consumers.iter_mut().find(|c| c.id == consumer) {
            consumer.in_flight -= 1;
        }
        (true, held.map(|held| held.body))
    }

    fn requeue(&mut self, body: Bytes) {
        self.requeues += 1;
        self.waiting.push_back(body);
    }

    fn forget_consumer(&mut self, consumer: u64) {
        self.consumers.retain(|c| c.id != consumer);
        self.expired.retain(|_, of| *of != consumer);
    }

    /// Requeues what has been in flight for too long. All have the same timeout, so the oldest delivery's ends first.
    fn expire(&mut self, msg_timeout: Option<Duration>) {
        if msg_timeout.is_none() || self.in_flight.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(oldest) = self.in_flight.first_entry()
            && oldest.get().until.is_some_and(|until| until <= now)
        {
            let (delivery, held) = oldest.remove_entry();
            // A consumer that is gone settles nothing any more.
            if self.consumers.iter().any(|c| c.id == held.consumer) {
                self.expired.insert(delivery, held.consumer);
            }
            self.requeue(held.body);
        }
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/broker/embedded/queue.rs"]
mod tests;
