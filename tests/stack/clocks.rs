//! A Redis whose clock jumps, as the campaign has it: does it jump, and does what depends on it follow?

#[path = "../chaos/clock.rs"]
#[allow(dead_code)]
mod clock;

use std::time::Duration;

use clock::Clock;

use crate::stories::client::in_seconds;
use crate::support::{PATIENCE, Redis, RedisOptions, wait_until};

#[tokio::test]
async fn a_redis_whose_clock_jumps_takes_its_expiries_with_it() {
    let clock = match Clock::new() {
        Ok(clock) => clock,
        Err(why) => return eprintln!("not done: {why}"),
    };
    let mut redis = Redis::start_with(RedisOptions { env: clock.env(), ..RedisOptions::default() }).await;
    let command = async |words: &str| {
        redis.command(&words.split(' ').collect::<Vec<_>>()).await.expect("Redis answers")
    };
    let jump = async |by: i64| {
        clock.set(by).expect("the clock is set");
        wait_until("Redis's TIME to follow", PATIENCE, async || {
            let told = command("TIME").await.lines().next()?.parse::<i64>().ok()?;
            ((told - in_seconds(by)).abs() <= 2).then_some(())
        })
        .await;
    };
    jump(0).await;
    command("SET day x PX 86400000").await;
    command("SET minute x PX 60000").await;
    jump(3600).await;
    assert_eq!((command("GET minute").await.as_str(), command("GET day").await.as_str()), ("", "x"));
    jump(8 * 86_400).await;
    assert_eq!(command("GET day").await, "", "a key of a day is gone in a moment");
    command("SET week x PX 604800000").await;
    jump(-3600).await;
    let left: u64 = command("PTTL week").await.parse().expect("it is there");
    assert!(left > 14 * 86_400_000, "and one from the future stays {left} ms");
    // What it measures by its monotonic clock goes on as ever: a client that waits isn't forgotten.
    let waited = tokio::time::timeout(Duration::from_secs(5), command("BLPOP nothing 0.2")).await;
    assert_eq!(waited.expect("it comes back in time"), "");
    let pid = redis.process().pid();
    drop(redis);
    clock::tidy(pid);
}
