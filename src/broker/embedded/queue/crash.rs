//! What nsqd loses, keeps and redelivers when it is killed or stopped, according to its source (decision 0021): the
//! files of a queue survive `kill -9`, but its position in them is written only once in `sync_timeout`.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Queue, State};
use crate::simulation::queue::{At, Found, TORN};

impl Queue {
    /// Replaces the queue's copy of a message in flight with this torn one. Returns false if enough of the queue is
    /// torn.
    pub(crate) fn tear(&self, delivery: u64, torn: Bytes) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(held) = state.in_flight.get_mut(&delivery).filter(|_| state.past.torn.len() < TORN) else {
            return false;
        };
        state.past.torn.push(std::mem::replace(&mut held.body, torn));
        true
    }

    /// Drops the consumer's connection without a notice. What it had in flight stays so until its timeout.
    pub(crate) fn abandon(&self, consumer: u64) {
        self.state().forget_consumer(consumer);
    }

    /// Records that the client behind a consumer has gone, and the broker doesn't know it yet.
    pub(crate) fn orphan(&self, consumer: u64) {
        self.state().past.orphans.insert(consumer);
    }

    /// Returns when it was created.
    pub(crate) fn born(&self) -> Instant {
        self.state().past.born
    }

    /// Restarts nsqd: all consumers are gone. `again`: this many of the last accepted messages are copied from the
    /// topic once more. `any` returns a random number below another. Returns how many messages are lost.
    pub(crate) fn restart(&self, found: Found, again: usize, mut any: impl FnMut(usize) -> usize) -> u64 {
        let mut guard = self.state();
        let state = &mut *guard;
        state.consumers.clear();
        state.expired.clear();
        let mut held: Vec<(u64, Bytes)> = std::mem::take(&mut state.in_flight)
            .into_iter()
            .map(|(number, held)| (number, held.body))
            .collect();
        let lost = match found {
            Found::WithoutFlight => held.len(),
            Found::Anew => {
                let lost = held.len() + state.waiting.len();
                let last_number = state.last_number;
                *state = State { last_number, ..State::default() };
                lost
            }
            Found::Before(finished) => {
                let from = state.past.finished.len().saturating_sub(finished);
                held.extend(state.past.finished.drain(from..));
                // The numbers of deliveries rise in the order of the file.
                held.sort_unstable_by_key(|(number, _)| *number);
                for (_, body) in held.into_iter().rev() {
                    state.waiting.push_front(body);
                }
                0
            }
            Found::Stopped => {
                while !held.is_empty() {
                    let (_, body) = held.swap_remove(any(held.len()));
                    state.waiting.push_back(body);
                }
                0
            }
        };
        let from = state.past.pushed.len().saturating_sub(again);
        let copied: Vec<Bytes> = state.past.pushed.range(from..).cloned().collect();
        state.waiting.extend(copied);
        drop(guard);
        self.changed.notify_waiters();
        lost as u64
    }

    /// Visits each message that it holds or held, and where it is.
    pub(crate) fn each(&self, mut look: impl FnMut(&Bytes, At)) {
        let mut state = self.state();
        state.expire(self.msg_timeout);
        state.waiting.iter().for_each(|body| look(body, At::Waiting));
        for held in state.in_flight.values() {
            let attached = state.consumers.iter().any(|consumer| consumer.id == held.consumer);
            let nobody = !attached || state.past.orphans.contains(&held.consumer);
            look(&held.body, if nobody { At::Nowhere } else { At::InFlight });
        }
        state.past.finished.iter().for_each(|(_, body)| look(body, At::Finished));
        state.past.torn.iter().for_each(|body| look(body, At::Torn));
    }
}
