//! Random numbers and clocks of a simulation: both come from the seed, so that a run can be repeated exactly.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

/// 14 November 2023, 22:13:20 UTC: an arbitrary fixed time.
const EPOCH: u64 = 1_700_000_000_000;
/// The store's clock starts later than tokio's by this much: an `Instant` can't be before the first one.
const LEAD: i64 = 1000 * 24 * 3_600_000;

thread_local! {
    static SEEDED: RefCell<Option<(StdRng, Instant)>> = const { RefCell::new(None) };
    // How far clocks are ahead, in milliseconds: the store's, and that of the edge whose task runs now.
    static STORE: Cell<i64> = const { Cell::new(0) };
    static EDGE: Cell<i64> = const { Cell::new(0) };
}

/// Makes this thread draw its random numbers from the seed, and use tokio's clock. Call it inside the runtime.
pub fn seed(seed: u64) {
    SEEDED.set(Some((StdRng::seed_from_u64(seed), Instant::now())));
    STORE.set(0);
    EDGE.set(0);
}

/// Moves the store's clock by this many milliseconds.
pub fn jump_store(by: i64) {
    STORE.set(STORE.get() + by);
}

/// Runs a closure while this machine's wall clock is ahead by this many milliseconds.
pub fn at_offset<T>(offset: i64, work: impl FnOnce() -> T) -> T {
    let before = EDGE.replace(offset);
    let done = work();
    EDGE.set(before);
    done
}

pub(crate) fn draw() -> Option<[u8; 16]> {
    SEEDED.with_borrow_mut(|seeded| seeded.as_mut().map(|(rng, _)| rng.random()))
}

pub(crate) fn now() -> Option<u64> {
    Some(elapsed()?.saturating_add_signed(EDGE.get()))
}

pub(crate) fn store_millis() -> Option<u64> {
    Some(elapsed()?.saturating_add_signed(STORE.get()))
}

pub(crate) fn store_ahead() -> Option<i64> {
    SEEDED.with_borrow(Option::is_some).then(|| STORE.get())
}

pub(crate) fn store_instant() -> Option<Instant> {
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
