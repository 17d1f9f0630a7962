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
