//! An edge's subscriptions in Redis: everything its sessions need, from before they read, and nothing else for long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::stories::client::PATIENCE;
use crate::stories::user::User;
use crate::stories::{Deployment, World};
use crate::support::{Edge, SlowLink, Stack, wait_until};

/// Returns how many edges are subscribed to a channel.
async fn hear(world: &World, channel: &str) -> u64 {
    let redis = &world.stack.as_ref().unwrap().redis;
    let answer = redis.command(&["PUBSUB", "NUMSUB", channel]).await.expect("Redis is there");
    answer.lines().last().and_then(|count| count.parse().ok()).expect("a count")
}

/// How long an edge keeps an unneeded subscription.
const LINGER: Duration = Duration::from_secs(5);

/// Returns how often anybody has unsubscribed.
async fn unsubscribed(world: &World) -> u64 {
    let redis = &world.stack.as_ref().unwrap().redis;
    let info = redis.command(&["INFO", "commandstats"]).await.expect("Redis is there");
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_unsubscribe:calls="));
    line.map_or(0, |line| line.split(',').next().and_then(|count| count.parse().ok()).expect("a count"))
}

fn bell(chat: &str) -> String {
    format!("ks:{{c.{}}}:bell", chat.replace('-', ""))
}

#[tokio::test]
async fn a_device_that_comes_back_to_its_edge_is_heard_for_all_the_time() {
    let world = Deployment::Stack.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (mut phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    let watch = json!({ "type": "watch", "users": [bob.name] });
    phone.requests(watch.clone()).await.expect("it may watch");
    let before = unsubscribed(&world).await;
    let mut late = 0;
    for round in 1..=20 {
        let left = Instant::now();
        phone.reconnects(0).await;
        phone.requests(watch.clone()).await.expect("it may watch");
        // On a machine that stands still for so long it is let go of as if it didn't come back.
        late += u64::from(left.elapsed() > LINGER / 2);
        bobs.says(&chat, "are you there?").await;
        phone.hears(&chat, round).await;
    }
    let let_go = unsubscribed(&world).await - before;
    // (A user, a chat and a presence each time.)
    assert!(
        let_go <= 3 * late,
        "{let_go} in between, and {late} were late: something might have been missed"
    );

    // Once it has gone for good, nothing of it is heard any more.
    phone.leaves().await;
    let signals = format!("ks:{{u.{}}}:signal", alice.name);
    let presence = format!("ks:{{u.{}}}:presence", bob.name);
    wait_until("nothing to be watched in vain", PATIENCE, || async {
        let bells = hear(&world, &bell(&chat)).await;
        (bells == 1 && hear(&world, &signals).await == 0 && hear(&world, &presence).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_chat_that_was_joined_and_left_at_once_is_not_followed() {
    let stack = Stack::start().await;
    let link = SlowLink::start(&stack.redis.addr()).await;
    // No sweep comes to help.
    let config = stack
        .edge()
        .set("KEEPSTEP_READS_SWEEP", "10m")
        .set("KEEPSTEP_CREATES_PER_MINUTE", "100000")
        .set("KEEPSTEP_INVITED_PER_HOUR", "100000");
    let (slow, fast) = tokio::join!(
        Edge::start(config.clone().set("KEEPSTEP_REDIS_URL", format!("redis://{}/", link.addr()))),
        Edge::start(config)
    );
    tokio::join!(slow.ready(), fast.ready());
    let edges: Arc<[String]> = [fast.listen(), slow.listen()].into();
    let (alice, bob) = (User::new("alice", edges.clone()), User::new("bob", edges));
    let phone = alice.phone(1).await;
    let mut groups = Vec::new();
    for n in 0..20 {
        groups.push(bob.group(&format!("group {n}")).await);
    }
    // The slow edge looks whether she is in a chat, and then, which takes its time, whether the device is still its own.
    // Meanwhile she is out again, and it looks again: of two looks the older must not win.
    link.holds(":devices\r\n", Duration::from_millis(500));
    for group in &groups {
        bob.invites(group, &alice).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        bob.removes(group, &alice).await;
    }
    // Whatever comes of it is there before this is.
    let last = bob.group("the last").await;
    bob.invites(&last, &alice).await;
    phone.until("the last chat", |memory| memory.chat(&last).map(drop)).await;
    let inbox: Vec<_> = phone.memory().inbox.drain(..).collect();
    let told = inbox.iter().filter(|frame| frame["type"] == "chat" && frame["chat"] != last.as_str());
    let told: Vec<_> = told.collect();
    assert!(told.is_empty(), "told of chats that she was out of again already: {told:?}");
    wait_until("no bell to be heard", PATIENCE, async || {
        let mut left = 0;
        for group in &groups {
            let answer = stack.redis.command(&["PUBSUB", "NUMSUB", &bell(group)]).await.ok()?;
            left += usize::from(answer.lines().last() != Some("0"));
        }
        (left == 0).then_some(())
    })
    .await;
}
