//! The lease of an edge's name. Leases, the sender registry and work are held under the name, so two processes must not share
//! it. One process holds it by heartbeats. A starting process takes a free name, or one whose holder has been
//! silent for as long as it takes to be dead, by the waiting process's monotonic clock: no clock that somebody sets decides
//! this. A process whose name isn't confirmed serves nobody.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Core;
use crate::store::{Claimed, Holder, Result, Store};

/// Poll interval for a holder that may be dead.
const LOOK: Duration = Duration::from_millis(200);

/// A name, and the process that wants it.
#[derive(Debug)]
pub struct EdgeName {
    name: String,
    process: String,
    // Until the name is confirmed as this process's, nothing is written under it.
    waits: AtomicBool,
    lost: CancellationToken,
}

impl From<String> for EdgeName {
    /// A name that the first heartbeat takes.
    fn from(name: String) -> Self {
        let process = crate::rng::uuid().simple().to_string();
        Self { name, process, waits: AtomicBool::new(false), lost: CancellationToken::new() }
    }
}

impl EdgeName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Acquires the name: at once if it is free, else when its holder has been silent for so long. False: it lives. One heartbeat
    /// is no proof of that, because a dead process's may arrive late: two are.
    ///
    /// # Errors
    /// When the store has failed for as long.
    pub async fn claim(&self, store: &Store, dead_after: Duration) -> Result<bool> {
        let mut watched: Option<(Holder, Instant)> = None;
        let (mut has_spoken, mut failing) = (false, None::<Instant>);
        loop {
            let dead = watched.as_ref().filter(|(_, since)| since.elapsed() >= dead_after);
            let dead = dead.map(|(holder, _)| holder);
            match store.claim_edge(&self.name, &self.process, dead).await {
                Ok(Claimed::Ours) => {
                    self.waits.store(false, Ordering::Relaxed);
                    return Ok(true);
                }
                Ok(Claimed::Held(holder)) => {
                    failing = None;
                    match &watched {
                        None => {
                            tracing::info!(
                                edge = %self.name,
                                "another process had this name: looking whether it lives"
                            );
                            watched = Some((holder, Instant::now()));
                        }
                        Some((seen, _)) if holder == *seen => {}
                        // It sent a heartbeat, or another process was faster.
                        Some(_) if has_spoken => return Ok(false),
                        Some(_) => {
                            has_spoken = true;
                            watched = Some((holder, Instant::now()));
                        }
                    }
                }
                Err(error) if failing.get_or_insert_with(Instant::now).elapsed() >= dead_after => {
                    return Err(error);
                }
                // Its holder can't send heartbeats either: the silence starts again.
                Err(_) => watched = watched.map(|(holder, _)| (holder, Instant::now())),
            }
            sleep(LOOK).await;
        }
    }

    /// Writes nothing under the name, and serves nobody, until it is claimed.
    pub fn wait(&self) {
        self.waits.store(true, Ordering::Relaxed);
    }

    /// Returns whether it is still to be claimed.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Waits until another process has the name.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    pub(super) fn process(&self) -> &str {
        &self.process
    }

    /// Another process has the name.
    pub(super) fn lose(&self) {
        if !self.lost.is_cancelled() {
            tracing::error!(
                edge = %self.name,
                "another process took this edge's name (KEEPSTEP_EDGE) while this one was silent: stopping"
            );
            self.lost.cancel();
        }
    }
}

impl Core {
    /// The last step of an edge: frees its name for the next process.
    pub async fn release_name(&self) {
        if self.edge.claim.waits() || self.edge.claim.lost.is_cancelled() {
            return;
        }
        if let Err(error) = self.store.release_edge(&self.edge.name, self.edge.claim.process()).await {
            tracing::warn!(%error, "the edge's name is not released: it is free after a lease");
        }
    }
}
