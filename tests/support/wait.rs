//! Waits for what must come, and watches that something doesn't: the only reasons for polling a clock.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long anything may take before a test gives up. Generous: CI machines are slow and shared, and their disks may
/// stop for seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two checks.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks every 20 ms until the answer is `Some`, and returns it; panics when `limit` is over, naming what it waited for.
/// A hanging question counts against the limit, too.
pub async fn wait_until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    wait_for(what, limit, async || ask().await.ok_or("nothing")).await
}

/// The same until the answer is `Ok`; the panic shows the last `Err`.
pub async fn wait_for<T, E: Debug>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + limit;
    let mut last = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout(left.max(Duration::from_millis(1)), ask()).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) if !left.is_zero() => last = Some(error),
            Ok(Err(error)) => panic!("waited {limit:?} in vain for: {what}; there was {error:?}"),
            Err(_) => panic!("waited {limit:?} in vain for: {what}; before the last look there was {last:?}"),
        }
        sleep(PAUSE).await;
    }
}

/// Checks every 20 ms for this time, and once more at the end; `look` panics on a failure. For what must not happen,
/// where no event marks the end of the danger.
pub async fn stays(long: Duration, mut look: impl AsyncFnMut()) {
    let end = Instant::now() + long;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        look().await;
        if left.is_zero() {
            return;
        }
        sleep(left.min(PAUSE)).await;
    }
}
