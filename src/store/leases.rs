//! Role: leases of background work that one edge does for all, and rate counters that hold across edges.

use std::time::Duration;

use super::{Count, Result, Store};

impl Store {
    /// Acquires or renews the lease `name` for `holder`, for `ttl`. Returns false if another holder has it.
    pub async fn try_acquire_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
        each!(self.try_acquire_lease(name, holder, ttl))
    }

    /// Releases the lease `name` if `holder` has it.
    pub async fn release_lease(&self, name: &str, holder: &str) -> Result<()> {
        each!(self.release_lease(name, holder))
    }

    /// Counts one more event `name` in the current window and returns the count including it. A window starts with its
    /// first event.
    pub async fn count(&self, name: &str, window: Duration) -> Result<Count> {
        each!(self.count(name, window))
    }
}
