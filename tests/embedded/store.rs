//! The store's contract over the store in memory.

use keepstep::store::{Store, StoreLimits, embedded::EmbeddedStore};

#[path = "../contract/store.rs"]
pub mod contract;

async fn start(limits: StoreLimits) -> (Store, ()) {
    crate::support::plant();
    (Store::Embedded(EmbeddedStore::new(limits)), ())
}
