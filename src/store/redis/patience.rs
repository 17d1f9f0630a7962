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
mod tests {
    use tokio::{net::TcpListener, net::TcpStream, time::Instant};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(400);

    #[tokio::test]
    async fn what_never_comes_is_given_up() {
        let begun = Instant::now();
        assert_eq!(within(LIMIT, std::future::pending::<()>()).await, None);
        assert!(begun.elapsed() >= LIMIT);
        assert_eq!(within(LIMIT, async { 7 }).await, Some(7));
    }

    #[tokio::test]
    async fn what_came_while_the_process_stood_still_is_no_time_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let answer = tokio::spawn(async move { client.readable().await });
        let stands_still = async {
            tokio::time::sleep(LIMIT / 8).await;
            assert_eq!(server.try_write(b"!").unwrap(), 1);
            std::thread::sleep(LIMIT * 2);
        };
        let (answered, ()) = tokio::join!(within(LIMIT, answer), stands_still);
        answered.expect("it is no time-out").unwrap().unwrap();
    }
}
