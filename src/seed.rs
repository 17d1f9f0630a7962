//! What a simulation sets (`simulation/seed.rs`), and nothing else does.

use tokio::time::Instant;

pub(crate) const fn draw() -> Option<[u8; 16]> {
    None
}

pub(crate) const fn now() -> Option<u64> {
    None
}

pub(crate) const fn store_millis() -> Option<u64> {
    None
}

pub(crate) const fn store_ahead() -> Option<i64> {
    None
}

pub(crate) const fn store_instant() -> Option<Instant> {
    None
}
