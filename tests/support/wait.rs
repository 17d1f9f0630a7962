//! Waits for what must come, and watches that something doesn't: the only reasons for polling a clock.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long anything may take before a test gives up. Generous: machines of CI are slow and shared, and their disks may stand
/// still for seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks every 20 ms until the answer is `Some`, which it returns; panics, saying what it waited for, when `limit` is
/// over. One question that hangs counts against the limit too.
pub async fn wait_until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    wait_for(what, limit, async || ask().await.ok_or("nothing")).await
}

/// The same until the answer is `Ok`; the last `Err` is shown when it never is.
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

/// Looks every 20 ms for so long, and once more at its end, that all is as it should be; `look` panics when it isn't. For what
/// must not happen, if no event says that now it can't any more: there, the clock is the point.
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
