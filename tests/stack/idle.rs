//! Devices that are there and do nothing: they cost Redis nothing, and its slowness costs them nothing.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream};

use crate::stories::device::Device;
use crate::stories::user::User;
use crate::support::{Edge, SlowLink, Stack, stays};

/// So long commands are counted.
const WHILE: Duration = Duration::from_secs(6);
/// How many sessions an edge checks a second, one command each (`sync/session_check.rs`).
const CHECKS: u64 = 100;
/// What differs from one count to the next, whatever devices there are.
const NOW_AND_THEN: u64 = 20;
/// Commands of sweeps, which aren't a device's: over sessions (with its budget, see below), over the chats of users, and
/// over all chats.
const SWEEPS: [&str; 3] = ["hmget", "hkeys", "smembers"];

/// Phones without chats, a few at a time.
async fn phones(edge: &Edge, names: std::ops::Range<usize>) -> Vec<Device> {
    let phones = names.map(|n| {
        let user = User::new(&format!("user-{n}"), [edge.listen()].into());
        async move { user.phone(0).await }
    });
    stream::iter(phones).buffer_unordered(4).collect().await
}

/// Returns how often Redis was asked for each command until now.
async fn commands(stack: &Stack) -> BTreeMap<String, u64> {
    let info = stack.redis.command(&["INFO", "commandstats"]).await.expect("Redis is there");
    let line = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    info.lines().filter_map(|text| line(text.trim())).collect()
}

/// Returns how often Redis is asked for each command while nobody does anything.
async fn idles(stack: &Stack) -> BTreeMap<String, u64> {
    // What came with the devices is over.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let before = commands(stack).await;
    tokio::time::sleep(WHILE).await;
    let after = commands(stack).await.into_iter();
    after.map(|(name, calls)| (name.clone(), calls - before.get(&name).copied().unwrap_or(0))).collect()
}

#[tokio::test]
async fn an_idle_device_costs_redis_nothing() {
    let stack = Stack::start().await;
    let edge = Edge::start(stack.edge()).await;
    edge.ready().await;
    let few = phones(&edge, 0..10).await;
    let (before, of_few) = (few.len() as u64, idles(&stack).await);
    let many = phones(&edge, 10..200).await;
    let of_many = idles(&stack).await;
    let sum = |commands: &BTreeMap<String, u64>| {
        commands
            .iter()
            .filter(|(name, _)| !SWEEPS.contains(&name.as_str()))
            .map(|(_, calls)| *calls)
            .sum::<u64>()
    };
    println!("{before} devices: {of_few:?}\n{} devices: {of_many:?}", few.len() + many.len());
    assert!(sum(&of_many) <= sum(&of_few) + NOW_AND_THEN, "{} became {}", sum(&of_few), sum(&of_many));
    let checks = of_many.get("hmget").copied().unwrap_or(0);
    // (Counting takes its time, too.)
    assert!(checks <= CHECKS * (WHILE.as_secs() + 1) + NOW_AND_THEN, "{checks} checks");
    assert!(few.iter().chain(&many).all(|phone| phone.memory().closed.is_none()));
}

#[tokio::test]
async fn thousands_of_idle_devices_stay_while_redis_is_far() {
    let stack = Stack::start().await;
    let link = SlowLink::start(&stack.redis.addr()).await;
    let edge = Edge::start_behind(&link, stack.edge()).await;
    let phones = phones(&edge, 0..2_000).await;
    link.takes(395..405);
    // Three leases, and some.
    stays(Duration::from_secs(20), async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let lost = phones.iter().filter(|phone| phone.memory().lost || phone.memory().closed.is_some());
        assert_eq!(lost.count(), 0, "of {} devices are closed", phones.len());
    })
    .await;
    println!("the link was up to {:?} longer than it was to be", link.overdue());
    link.takes(0..0);
}
