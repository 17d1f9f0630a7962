//! A fair queue for work that runs in a limited number of places. Only a bounded amount is under way, of each flow only
//! a part, and the waiting flows take turns. A thousand requests of one user delay no other user's request.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

/// The bounds of a fair queue.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The maximum under way at once, of all flows: more would only wait further on, where flows don't take turns.
    pub at_once: usize,
    /// The maximum under way of one flow.
    pub of_one: usize,
    /// The maximum wait.
    pub longest: Duration,
}

/// A fair queue; see the module. All clones share one queue.
#[derive(Debug)]
pub struct FairQueue<F: Eq + Hash + Clone>(Arc<Queue<F>>);

#[derive(Debug)]
struct Queue<F: Eq + Hash + Clone> {
    bounds: Bounds,
    state: Mutex<State<F>>,
}

#[derive(Debug)]
struct State<F: Eq + Hash + Clone> {
    active: usize,
    flows: HashMap<F, Waiting<F>>,
    /// Flows that wait and may have one more turn, the next first.
    next: VecDeque<F>,
}

#[derive(Debug)]
struct Waiting<F: Eq + Hash + Clone> {
    active: usize,
    waiting: VecDeque<oneshot::Sender<Turn<F>>>,
    is_next: bool,
}

/// One turn. It counts as under way until it is dropped.
#[derive(Debug)]
pub struct Turn<F: Eq + Hash + Clone> {
    /// None: the turn no longer counts.
    of: Option<(FairQueue<F>, F)>,
}

impl<F: Eq + Hash + Clone> Clone for FairQueue<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: Eq + Hash + Clone> FairQueue<F> {
    /// Returns whether no flow waits or has a turn.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let state = State { active: 0, flows: HashMap::new(), next: VecDeque::new() };
        Self(Arc::new(Queue { bounds, state: Mutex::new(state) }))
    }

    /// Waits for the flow's turn. Returns none after the maximum wait.
    pub async fn acquire(&self, flow: &F) -> Option<Turn<F>> {
        let (turn, granted) = oneshot::channel();
        self.ask(flow, turn);
        timeout(self.0.bounds.longest, granted).await.ok()?.ok()
    }

    fn ask(&self, flow: &F, turn: oneshot::Sender<Turn<F>>) {
        let mut state = self.state();
        let fresh = || Waiting { active: 0, waiting: VecDeque::new(), is_next: false };
        state.flows.entry(flow.clone()).or_insert_with(fresh).waiting.push_back(turn);
        state.offer(flow, self.0.bounds);
        state.grant(self);
    }

    fn state(&self) -> MutexGuard<'_, State<F>> {
        // A poisoned lock is still good: the state is consistent between any two statements.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Eq + Hash + Clone> State<F> {
    /// Puts the flow into the line of flows that may have one more turn, if it waits for one and has room.
    fn offer(&mut self, flow: &F, bounds: Bounds) {
        let Some(waiting) = self.flows.get_mut(flow) else { return };
        if waiting.waiting.is_empty() {
            if waiting.active == 0 {
                self.flows.remove(flow);
            }
        } else if waiting.active < bounds.of_one && !waiting.is_next {
            waiting.is_next = true;
            self.next.push_back(flow.clone());
        }
    }

    fn grant(&mut self, queue: &FairQueue<F>) {
        let bounds = queue.0.bounds;
        while self.active < bounds.at_once
            && let Some(flow) = self.next.pop_front()
        {
            if let Some(waiting) = self.flows.get_mut(&flow) {
                waiting.is_next = false;
                if let Some(turn) = waiting.waiting.pop_front() {
                    let given = turn.send(Turn { of: Some((queue.clone(), flow.clone())) });
                    match given {
                        Ok(()) => {
                            waiting.active += 1;
                            self.active += 1;
                        }
                        // The waiter has given up.
                        Err(mut turn) => turn.of = None,
                    }
                }
            }
            self.offer(&flow, bounds);
        }
    }
}

impl<F: Eq + Hash + Clone> Drop for Turn<F> {
    fn drop(&mut self) {
        let Some((queue, flow)) = self.of.take() else { return };
        let mut state = queue.state();
        state.active -= 1;
        if let Some(waiting) = state.flows.get_mut(&flow) {
            waiting.active -= 1;
        }
        state.offer(&flow, queue.0.bounds);
        state.grant(&queue);
    }
}

#[cfg(test)]
#[path = "../../tests/unit/domain/fair.rs"]
mod tests;
