//! Runs, freezes and kills all tasks of one edge.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::simulation::seed;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Run {
    #[default]
    On,
    Frozen,
    Dead,
}

#[derive(Debug, Default)]
struct State {
    run: Run,
    /// How far the edge's wall clock is ahead, in milliseconds.
    clock: i64,
    tasks: BTreeMap<u64, Waker>,
    last: u64,
}

/// All tasks that were started through it. Clones are cheap and share their state.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Mutex<State>>);

impl Gate {
    /// Returns a task that is polled only while the gate is open.
    pub fn through<F: Future<Output = ()>>(&self, task: F) -> Through<F> {
        let mut state = self.state();
        state.last += 1;
        Through { gate: self.clone(), id: state.last, task: Some(Box::pin(task)) }
    }

    /// Stops polling all tasks, until [`Gate::thaw`].
    pub fn freeze(&self) {
        self.set(Run::Frozen);
    }

    /// Continues all tasks.
    pub fn thaw(&self) {
        self.set(Run::On);
    }

    /// Drops all tasks at their await, and every later one.
    pub fn kill(&self) {
        self.set(Run::Dead);
    }

    /// Moves the edge's wall clock by this many milliseconds.
    pub fn jump(&self, by: i64) {
        self.state().clock += by;
    }

    /// Returns whether it was killed.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state().run == Run::Dead
    }

    /// Returns the number of tasks.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.state().tasks.len()
    }

    fn set(&self, run: Run) {
        let mut state = self.state();
        if state.run != Run::Dead {
            state.run = run;
        }
        let tasks: Vec<Waker> = state.tasks.values().cloned().collect();
        drop(state);
        tasks.iter().for_each(Waker::wake_by_ref);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Gate::through`].
#[derive(Debug)]
pub struct Through<F> {
    gate: Gate,
    id: u64,
    task: Option<Pin<Box<F>>>,
}

impl<F: Future<Output = ()>> Future for Through<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (run, clock) = {
            let mut state = self.gate.state();
            state.tasks.insert(self.id, cx.waker().clone());
            (state.run, state.clock)
        };
        let done = match (run, &mut self.task) {
            (Run::Frozen, Some(_)) => return Poll::Pending,
            (Run::On, Some(task)) => seed::at_offset(clock, || task.as_mut().poll(cx).is_ready()),
            (Run::Dead, _) | (_, None) => true,
        };
        // It may just have killed its own edge.
        if done || self.gate.is_dead() {
            self.task = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<F> Drop for Through<F> {
    fn drop(&mut self) {
        self.gate.state().tasks.remove(&self.id);
    }
}
