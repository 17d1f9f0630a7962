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

/// Now, by the clock of the embedded store. It is this machine's, but in a simulation, where it may jump as that of a Redis
/// server may.
#[must_use]
pub fn store_millis() -> Millis {
    #[cfg(feature = "simulation")]
    if let Some(now) = seeded::store_millis() {
        return now;
    }
    now_millis()
}

/// By how many milliseconds the embedded store's clock has jumped: none, but in a simulation.
#[must_use]
pub fn store_ahead() -> i64 {
    #[cfg(feature = "simulation")]
    if let Some(ahead) = seeded::store_ahead() {
        return ahead;
    }
    0
}

/// Now, by the clock of the embedded store, to count from.
#[must_use]
pub fn store_instant() -> tokio::time::Instant {
    #[cfg(feature = "simulation")]
    if let Some(now) = seeded::store_instant() {
        return now;
    }
    tokio::time::Instant::now()
}

#[cfg(feature = "simulation")]
pub use seeded::{at_offset, jump_store, seed};

#[cfg(feature = "simulation")]
mod seeded {
    use std::{
        cell::{Cell, RefCell},
        time::Duration,
    };

    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use tokio::time::Instant;

    /// 14 November 2023, 22:13:20 UTC: any fixed moment will do.
    const EPOCH: u64 = 1_700_000_000_000;
    /// The store's clock begins so much later than tokio's: an `Instant` can't be before the first one.
    const LEAD: i64 = 1000 * 24 * 3_600_000;

    thread_local! {
        static SEEDED: RefCell<Option<(StdRng, Instant)>> = const { RefCell::new(None) };
        // By how many milliseconds clocks are ahead: the store's, and that of the edge whose task runs now.
        static STORE: Cell<i64> = const { Cell::new(0) };
        static EDGE: Cell<i64> = const { Cell::new(0) };
    }

    /// From here on this thread's chance comes from the seed and its clock is tokio's. Call it inside the runtime.
    pub fn seed(seed: u64) {
        SEEDED.set(Some((StdRng::seed_from_u64(seed), Instant::now())));
        STORE.set(0);
        EDGE.set(0);
    }

    /// The store's clock jumps by so many milliseconds.
    pub fn jump_store(by: i64) {
        STORE.set(STORE.get() + by);
    }

    /// Does something while this machine's wall clock is ahead by so many milliseconds.
    pub fn at_offset<T>(offset: i64, work: impl FnOnce() -> T) -> T {
        let before = EDGE.replace(offset);
        let done = work();
        EDGE.set(before);
        done
    }

    pub(super) fn draw() -> Option<[u8; 16]> {
        SEEDED.with_borrow_mut(|seeded| seeded.as_mut().map(|(rng, _)| rng.random()))
    }

    pub(super) fn now() -> Option<u64> {
        Some(elapsed()?.saturating_add_signed(EDGE.get()))
    }

    pub(super) fn store_millis() -> Option<u64> {
        Some(elapsed()?.saturating_add_signed(STORE.get()))
    }

    pub(super) fn store_ahead() -> Option<i64> {
        SEEDED.with_borrow(Option::is_some).then(|| STORE.get())
    }

    pub(super) fn store_instant() -> Option<Instant> {
        SEEDED.with_borrow(Option::is_some).then(|| {
            let ahead = u64::try_from(LEAD + STORE.get()).unwrap_or(0);
            Instant::now() + Duration::from_millis(ahead)
        })
    }

    fn elapsed() -> Option<u64> {
        SEEDED.with_borrow(|seeded| {
            let elapsed = seeded.as_ref()?.1.elapsed().as_millis();
            Some(EPOCH + u64::try_from(elapsed).ok()?)
        })
    }
}
