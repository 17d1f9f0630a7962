//! Deadlines that count the time in which this process runs. An edge that was stopped, or got no processor, finds on
//! its connections the answers of that time when it continues, all at once with what was due meanwhile. By the clock,
//! those calls would time out a moment before their answers are read: frames would fail, connections that are up would
//! be closed, leases would expire.

use std::time::Duration;

use redis::RedisError;
use tokio::time::sleep;

use super::error::timed_out;

/// A wait consists of this many sleeps, one after the other. A standstill costs one of them, however long it is, and
/// the next one reads what has come meanwhile.
const PARTS: u32 = 8;

/// Returns when this process has run for `limit`.
pub(super) async fn runs_for(limit: Duration) {
    for _ in 0..PARTS {
        sleep(limit / PARTS).await;
    }
}

/// Returns the result of the work within `limit` of running time; otherwise none. The work is boxed: futures hold their
/// arguments twice, and these are many deep.
pub(super) fn within<T>(limit: Duration, work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
    let work = Box::pin(work);
    async move {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = runs_for(limit) => None,
        }
    }
}

/// Returns the result of a Redis request within `limit` of running time. An error is the work's own, or a time-out.
pub(super) fn answered<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, RedisError>>,
) -> impl Future<Output = Result<T, RedisError>> {
    let work = within(limit, work);
    async move { work.await.unwrap_or_else(|| Err(timed_out())) }
}

#[cfg(test)]
#[path = "../../../tests/unit/store/redis/patience.rs"]
mod tests;
