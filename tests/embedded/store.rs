//! The store's contract over the store in memory.

use std::time::Duration;

use keepstep::store::{Store, StoreLimits, embedded::EmbeddedStore};

#[path = "../contract/store.rs"]
pub mod contract;

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start(limits: StoreLimits) -> (Store, ()) {
    (Store::Embedded(EmbeddedStore::new(limits)), ())
}

/// The store's clock, so many seconds ahead of the machine's.
struct Clock(EmbeddedStore);

impl Clock {
    async fn set(&self, seconds: i64) {
        self.0.set_clock_ahead(1000 * seconds);
    }
}

async fn start_on_a_clock(limits: StoreLimits) -> (Store, Clock, ()) {
    let store = EmbeddedStore::new(limits);
    (Store::Embedded(store.clone()), Clock(store), ())
}
