//! The cost of a list at the store.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::stories::user::User;
use crate::support::{Edge, SlowLink, Stack};

#[tokio::test]
async fn a_list_of_many_chats_takes_few_round_trips() {
    let stack = Stack::start().await;
    let link = SlowLink::start(&stack.redis.addr()).await;
    let edge = Edge::start_behind(&link, stack.edge().set("KEEPSTEP_CREATES_PER_MINUTE", "1000")).await;
    let alice = User::new("alice", [edge.listen()].into());
    for n in 0..60 {
        alice.group(&format!("group {n}")).await;
    }
    // A round trip takes 100 ms, so that what the machine itself takes doesn't count.
    link.takes(50..51);
    let begun = Instant::now();
    let page = alice.api(0).get("/v1/chats?limit=1000").await.with(200);
    let took = begun.elapsed();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(60));
    assert!(took < Duration::from_millis(1_500), "60 chats took {took:?}: more than 15 round trips");
}

/// The store serves one call at a time. Here that is slow because Redis is far away, elsewhere because pages are large.
#[tokio::test]
async fn who_asks_for_many_pages_at_once_waits_for_them_alone() {
    let stack = Stack::start().await;
    let link = SlowLink::start(&stack.redis.addr()).await;
    let edge = Edge::start_behind(&link, stack.edge()).await;
    let [greedy, modest] = ["greedy", "modest"].map(|name| User::new(name, [edge.listen()].into()));
    greedy.group("one").await;
    modest.group("another").await;
    link.takes(25..26);
    let mut pages: FuturesUnordered<_> = (0..60)
        .map(|_| greedy.api(0))
        .map(|api| async move { api.get("/v1/chats").await.with(200) })
        .collect();
    // They are on their way when the first is there.
    pages.next().await;
    let modests = modest.api(0);
    let mut one = pin!(modests.get("/v1/chats"));
    let mut before = 1;
    let page = loop {
        tokio::select! {
            page = &mut one => break page.with(200),
            Some(_) = pages.next() => before += 1,
        }
    };
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1));
    assert!(before < 30, "{before} of 60 pages of the other came first");
    assert_eq!(pages.count().await, 60 - before);
}
