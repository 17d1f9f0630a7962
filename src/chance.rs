//! Chance and the wall clock, in one place, so that a simulation can repeat both exactly from a seed. Nothing that must
//! be hard to guess comes from here but ids: secrets are made where they are needed.

use uuid::Uuid;

use crate::domain::Millis;

/// A new random id.
#[must_use]
pub fn uuid() -> Uuid {
    #[cfg(feature = "simulation")]
    if let Some(bytes) = seeded::draw() {
        return uuid::Builder::from_random_bytes(bytes).into_uuid();
    }
    Uuid::new_v4()
}

/// A number from 0 to 1: to spread what would come at once.
#[must_use]
pub fn fraction() -> f64 {
    #[cfg(feature = "simulation")]
    if let Some([a, b, c, d, ..]) = seeded::draw() {
        return f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX);
    }
    rand::random()
}

/// Now, by this machine's wall clock.
#[must_use]
pub fn now_millis() -> Millis {
    #[cfg(feature = "simulation")]
    if let Some(now) = seeded::now() {
        return now;
    }
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(feature = "simulation")]
pub use seeded::seed;

#[cfg(feature = "simulation")]
mod seeded {
    use std::cell::RefCell;

    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use tokio::time::Instant;

    /// 14 November 2023, 22:13:20 UTC: any fixed moment will do.
    const EPOCH: u64 = 1_700_000_000_000;

    thread_local! {
        static SEEDED: RefCell<Option<(StdRng, Instant)>> = const { RefCell::new(None) };
    }

    /// From here on this thread's chance comes from the seed and its clock is tokio's. Call it inside the runtime.
    pub fn seed(seed: u64) {
        SEEDED.set(Some((StdRng::seed_from_u64(seed), Instant::now())));
    }

    pub(super) fn draw() -> Option<[u8; 16]> {
        SEEDED.with_borrow_mut(|seeded| seeded.as_mut().map(|(rng, _)| rng.random()))
    }

    pub(super) fn now() -> Option<u64> {
        SEEDED.with_borrow(|seeded| {
            let elapsed = seeded.as_ref()?.1.elapsed().as_millis();
            Some(EPOCH + u64::try_from(elapsed).ok()?)
        })
    }
}
