//! The lease of an edge's incarnation, as its sessions share it.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::LeaseClock;
use crate::store::Incarnation;

/// The right of one incarnation of this edge to serve devices. All sessions that were opened under it share it, and none
/// of them is served after it.
#[derive(Debug)]
pub struct EdgeLease {
    /// The incarnation.
    pub incarnation: Incarnation,
    // From the first heartbeat that got through.
    clock: OnceLock<LeaseClock>,
    over: AtomicBool,
}

impl EdgeLease {
    /// Returns the lease of an incarnation that hasn't sent a heartbeat: it isn't held yet.
    #[must_use]
    pub fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, clock: OnceLock::new(), over: AtomicBool::new(false) }
    }

    /// Records that a heartbeat *requested* at `asked` got through. A lease that is over stays so.
    pub fn renewed(&self, asked: Instant, ttl: Duration) {
        self.clock.get_or_init(|| LeaseClock::since(asked, ttl)).renewed(asked, ttl);
    }

    /// Returns whether nothing may be served under it now: it has run out, was ended, or isn't held yet.
    #[must_use]
    pub fn expired(&self) -> bool {
        self.over.load(Ordering::SeqCst) || self.clock.get().is_none_or(LeaseClock::expired)
    }

    /// Returns whether it was held, and isn't any more.
    #[must_use]
    pub fn has_run_out(&self) -> bool {
        self.expired() && self.clock.get().is_some()
    }

    /// Returns when it runs out; none if it isn't held yet.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        self.clock.get().map(LeaseClock::until)
    }

    /// Ends it for good.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }
}
