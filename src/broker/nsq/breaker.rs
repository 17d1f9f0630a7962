//! The circuit breaker of an nsqd. An nsqd that fails or hangs would cost each message its time-out, and delay messages
//! to the others; so after a few failures nothing is sent to it until a probe succeeds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

/// The number of failures in a row that opens it. (One time-out is enough.)
const FAILURES: u32 = 3;

/// A circuit breaker. Closed: the node is used. Open: it isn't, for a reason.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Since when it is open, and why.
    why: watch::Sender<Option<(Instant, Arc<str>)>>,
    failures: AtomicU32,
}

impl Breaker {
    /// Returns an open breaker: the node's health isn't known yet.
    pub(super) fn new() -> Self {
        let why = watch::Sender::new(Some((Instant::now(), "it hasn't been looked at yet".into())));
        Self { why, failures: AtomicU32::new(0) }
    }

    /// Returns why it is open. Returns none if it is closed.
    pub(super) fn why(&self) -> Option<Arc<str>> {
        self.why.borrow().as_ref().map(|(_, why)| why.clone())
    }

    /// Returns how long it has been open. Returns none if it is closed.
    pub(super) fn open_for(&self) -> Option<Duration> {
        self.why.borrow().as_ref().map(|(since, _)| since.elapsed())
    }

    /// Records a success.
    pub(super) fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Records a failure.
    pub(super) fn failed(&self, why: &str) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES {
            self.open(why);
        }
    }

    /// Opens it. Returns true if it was closed.
    pub(super) fn open(&self, why: &str) -> bool {
        self.why.send_if_modified(|is| {
            let since = is.as_ref().map_or_else(Instant::now, |(since, _)| *since);
            is.replace((since, why.into())).is_none()
        })
    }

    /// Closes it. Returns true if it was open.
    pub(super) fn close(&self) -> bool {
        self.succeeded();
        self.why.send_if_modified(|is| is.take().is_some())
    }

    /// Waits until it is open, and returns why.
    pub(super) async fn opened(&self) -> Arc<str> {
        let mut changes = self.why.subscribe();
        loop {
            if let Some((_, why)) = changes.borrow_and_update().clone() {
                return why;
            }
            if changes.changed().await.is_err() {
                // Its sender is our own: it can't be gone.
                return "the node is gone".into();
            }
        }
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/broker/nsq/breaker.rs"]
mod tests;
