//! The wall clock, and the clock of the embedded store. A simulation sets both.

use tokio::time::Instant;

use crate::simulation::seed;

/// A point in time: integer Unix milliseconds, as on the wire.
pub type Millis = u64;

/// Returns the time now, by this machine's wall clock.
#[must_use]
pub fn now_millis() -> Millis {
    seed::now().unwrap_or_else(|| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    })
}

/// Returns the time now, by the clock of the embedded store: this machine's, except in a simulation, where it may jump as
/// that of a Redis server may.
#[must_use]
pub fn store_millis() -> Millis {
    seed::store_millis().unwrap_or_else(now_millis)
}

/// Returns by how many milliseconds the embedded store's clock has jumped: 0, except in a simulation.
#[must_use]
pub fn store_ahead() -> i64 {
    seed::store_ahead().unwrap_or(0)
}

/// Returns the time now, by the clock of the embedded store, to measure intervals from.
#[must_use]
pub fn store_instant() -> Instant {
    seed::store_instant().unwrap_or_else(Instant::now)
}
