//! A value that is costly to make and may be a little old. It is made on demand, one at a time, not too often, by a task that
//! outlives its caller. Meanwhile the last one is returned.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    protocol::{ErrorCode, Problem},
    sync::{Core, lock},
};

/// A value of this age is returned rather than to wait for the next …
const USABLE: Duration = Duration::from_secs(60);
/// … for longer than this.
const MOMENT: Duration = Duration::from_millis(100);
/// How long a caller waits without one.
const PATIENCE: Duration = Duration::from_secs(30);
/// At most this part of the time is spent on making it.
const PART: u32 = 5;

/// Cheap to clone; clones share the value.
#[derive(Debug)]
pub(super) struct Fresh<T> {
    inner: Arc<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    refresh: Duration,
    state: Mutex<State<T>>,
    /// Finished attempts.
    tries: watch::Sender<u64>,
}

#[derive(Debug)]
struct State<T> {
    last: Option<Made<T>>,
    making: bool,
    problem: Option<Problem>,
}

#[derive(Debug)]
struct Made<T> {
    value: Arc<T>,
    begun: Instant,
    took: Duration,
}

impl<T> Made<T> {
    fn age(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl<T: Send + Sync + 'static> Fresh<T> {
    pub(super) fn new(refresh: Duration) -> Self {
        let state = State { last: None, making: false, problem: None };
        Self { inner: Arc::new(Inner { refresh, state: Mutex::new(state), tries: watch::Sender::new(0) }) }
    }

    /// Returns the last value if it is new enough; otherwise the next one, if it comes soon or no usable one exists.
    ///
    /// # Errors
    /// The error of making it.
    pub(super) async fn get<F>(
        &self,
        core: &Arc<Core>,
        make: impl FnOnce(Arc<Core>) -> F,
    ) -> Result<Arc<T>, Problem>
    where
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let mut tries = self.inner.tries.subscribe();
        let seen = *tries.borrow_and_update();
        let patience = {
            let mut state = lock(&self.inner.state);
            let patience = match &state.last {
                Some(last) if last.age() < self.inner.refresh.max(last.took * PART) => {
                    return Ok(last.value.clone());
                }
                Some(last) if last.age() < USABLE => MOMENT,
                _ => PATIENCE,
            };
            if !state.making {
                state.making = true;
                self.begin(core, make(core.clone()));
            }
            patience
        };
        let _ = timeout(patience, tries.wait_for(|tries| *tries != seen)).await;
        let state = lock(&self.inner.state);
        match (&state.last, &state.problem) {
            (Some(last), _) if last.age() < USABLE.max(patience) => Ok(last.value.clone()),
            (_, Some(problem)) => Err(problem.clone()),
            _ => Err(Problem::new(
                ErrorCode::Unavailable,
                "this takes the server longer than usual: ask again in a few seconds",
            )),
        }
    }

    fn begin(&self, core: &Arc<Core>, work: impl Future<Output = Result<T, Problem>> + Send + 'static) {
        // If it is cut off, waiting callers retry.
        let ends = Ends(self.inner.clone());
        core.drain.spawn_background(async move {
            let begun = Instant::now();
            let made = work.await;
            let mut state = lock(&ends.0.state);
            match made {
                Ok(value) => {
                    (state.last, state.problem) =
                        (Some(Made { value: Arc::new(value), begun, took: begun.elapsed() }), None);
                }
                Err(problem) => state.problem = Some(problem),
            }
        });
    }

    /// Stores one that was made elsewhere.
    pub(super) fn put(&self, value: Arc<T>, begun: Instant) {
        let made = Made { value, begun, took: begun.elapsed() };
        lock(&self.inner.state).last = Some(made);
    }
}

/// Ends an attempt, however it ends.
struct Ends<T>(Arc<Inner<T>>);

impl<T> Drop for Ends<T> {
    fn drop(&mut self) {
        lock(&self.0.state).making = false;
        self.0.tries.send_modify(|tries| *tries += 1);
    }
}
