//! The end of a process, in order: a signal, the tasks that must finish, and a deadline.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::instrument::Instrument;

use crate::simulation::Gate;

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    begun: CancellationToken,
    over: CancellationToken,
    tasks: TaskTracker,
    /// Lets a simulation freeze or kill everything that was started here.
    pub gate: Gate,
}

impl Drain {
    /// Begins: no new work is taken.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits for the beginning.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Waits for the very end: background tasks stop here, after the sessions have.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Starts a task that [`Drain::finish`] waits for.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(self.gate.through(task));
    }

    /// The same for what is done on behalf of a request: the log says so.
    pub fn spawn_in_span<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn(task.in_current_span());
    }

    /// Starts a task that runs until the very end, and is dropped there.
    pub fn spawn_background<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let over = self.over.clone();
        tokio::spawn(self.gate.through(async move {
            tokio::select! {
                biased;
                () = over.cancelled() => {}
                () = task => {}
            }
        }));
    }

    /// Waits for the tasks, then for the last of the background's work, together at most so long; then ends the
    /// background. False: something was still at work.
    pub async fn finish(&self, deadline: Duration, last: impl Future<Output = ()>) -> bool {
        self.tasks.close();
        let all = async {
            self.tasks.wait().await;
            last.await;
        };
        let done = tokio::time::timeout(deadline, all).await.is_ok();
        self.over.cancel();
        done
    }
}
