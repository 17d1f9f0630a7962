//! Members whose devices weren't subscribed, because something died in between; and the cost of leaving at nsqd.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keepstep::store::{
    Departure,
    redis::{RedisOptions, RedisStore},
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

use crate::faults::carrier;
use crate::stories::client::PATIENCE;
use crate::stories::device::Device;
use crate::stories::membership::nothing_comes_after;
use crate::stories::world::{channel, topic};
use crate::stories::{Deployment, World};
use crate::support::{Edge, EdgeConfig, Stack, stays, wait_until};

const OFTEN: (&str, &str) = ("KEEPSTEP_RECONCILE", "250ms");

/// Checks that both devices know the chat, receive its messages, and keep their queues.
async fn is_in_it(world: &World, chat: &str, speaker: &Device, devices: &[&Device], last: u64) {
    for device in devices {
        device.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
        device.hears(chat, last).await;
    }
    speaker.says_many(chat, "to everyone", 5).await;
    for device in devices {
        device.hears(chat, last + 5).await;
        wait_until("its queue", PATIENCE, || async {
            (world.queues(&topic(chat), &channel(&device.id)).await.len() == 1).then_some(())
        })
        .await;
    }
    stays(Duration::from_secs(2), async || {
        for device in devices {
            assert_eq!(world.queues(&topic(chat), &channel(&device.id)).await.len(), 1);
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_invited_while_nsqd_is_down_gets_the_chat_although_nobody_asks_again() {
    let mut world = Deployment::Stack.with(OFTEN.0, OFTEN.1).start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs, web) = (alice.phone(0).await, bob.phone(1).await, bob.web(0).await);
    let chat = alice.group("us").await;
    phone.says(&chat, "before Bob").await;
    let carrier = carrier(&world, &chat).await;
    world.stack.as_mut().unwrap().nsqd[carrier].kill9();
    // Whatever is answered: nobody asks again.
    let _ = alice.api(0).post(&format!("/v1/chats/{chat}/members"), json!({ "user": bob.name })).await;
    phone.says(&chat, "with Bob").await;
    world.stack.as_mut().unwrap().nsqd[carrier].restart().await;
    is_in_it(&world, &chat, &phone, &[&bobs, &web], 2).await;
}

#[tokio::test]
async fn an_invitation_is_answered_although_nsqd_is_down() {
    let mut world = Deployment::Stack.with(OFTEN.0, OFTEN.1).start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
    let chat = alice.group("us").await;
    phone.says(&chat, "before Bob").await;
    let carrier = carrier(&world, &chat).await;
    world.stack.as_mut().unwrap().nsqd[carrier].kill9();
    alice.invites(&chat, &bob).await;
    bobs.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
    // NSQ or not: what is said is there.
    phone.says(&chat, "with Bob").await;
    bobs.hears(&chat, 2).await;
}

/// What is published before Bob's queue exists is in no queue of his, and the log is too short for it.
#[tokio::test]
async fn who_is_invited_while_nsqd_is_down_loses_nothing_that_is_sent_until_the_queue_is_there() {
    let short = Deployment::Stack.with("KEEPSTEP_LOG_MESSAGES", "50").with("KEEPSTEP_LOG_KEEP", "50");
    // Nobody compares anything.
    let mut world = short.with("KEEPSTEP_RECONCILE", "1h").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(0).await, bob.registers("main").await);
    let chat = alice.group("us").await;
    phone.says(&chat, "before Bob").await;
    phone.hears(&chat, 1).await;
    let carrier = carrier(&world, &chat).await;
    world.stack.as_mut().unwrap().nsqd[carrier].terminate().await;
    alice.invites(&chat, &bob).await;
    phone.says_many(&chat, "while nsqd is down", 20).await;
    world.stack.as_mut().unwrap().nsqd[carrier].restart().await;
    // (Four times as much as the log keeps may be unconfirmed.)
    phone.says_many(&chat, "when it is back", 130).await;
    let published = async || {
        wait_until("NSQ to have it", PATIENCE, || async {
            (world.unconfirmed(&chat).await == 0).then_some(())
        })
        .await;
    };
    published().await;
    phone.says_many(&chat, "later", 270).await;
    phone.hears(&chat, 421).await;
    published().await;
    bobs.connects(1).await;
    bobs.hears(&chat, 421).await;
    assert!(bobs.memory().chat(&chat).unwrap().messages.keys().copied().eq(2..=421));
    assert_eq!(world.metric("keepstep_gaps_total").await, 0.0);
}

/// Writes a membership like an edge that dies right after it (one of an older build: without a version).
async fn is_written(stack: &Stack, chat: &str, user: &str, boundary: u64) {
    let hex = chat.replace('-', "");
    let list = format!("ks:{{u.{user}}}:chats");
    stack.redis.command(&["HSET", &list, &hex, "0123456789abcdef"]).await.unwrap();
    let members = format!("ks:{{c.{hex}}}:members");
    stack.redis.command(&["HSET", &members, user, &boundary.to_string()]).await.unwrap();
}

#[tokio::test]
async fn who_was_let_in_by_an_edge_that_died_right_after_gets_the_chat() {
    let world = Deployment::Stack.with(OFTEN.0, OFTEN.1).start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs, web) = (alice.phone(0).await, bob.phone(1).await, bob.web(0).await);
    let mut away = bob.web(1).await;
    away.leaves().await;
    let chat = alice.group("us").await;
    phone.says(&chat, "before Bob").await;
    is_written(world.stack.as_ref().unwrap(), &chat, &bob.name, 1).await;
    phone.says(&chat, "with Bob").await;
    is_in_it(&world, &chat, &phone, &[&bobs, &web], 2).await;
    // It is as much owed to who isn't there.
    wait_until("its queue", PATIENCE, || async {
        (world.queues(&topic(&chat), &channel(&away.id)).await.len() == 1).then_some(())
    })
    .await;
    away.connects(0).await;
    away.hears(&chat, 7).await;
}

#[tokio::test]
async fn a_connected_device_waits_seconds_for_a_chat_that_an_edge_left_half_done() {
    // Nobody compares anything.
    let world = Deployment::Stack.with("KEEPSTEP_RECONCILE", "1h").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs, web) = (alice.phone(0).await, bob.phone(1).await, bob.web(0).await);
    let chat = alice.group("us").await;
    phone.says(&chat, "before Bob").await;
    is_written(world.stack.as_ref().unwrap(), &chat, &bob.name, 1).await;
    phone.says(&chat, "with Bob").await;
    is_in_it(&world, &chat, &phone, &[&bobs, &web], 2).await;
}

#[tokio::test]
async fn what_was_said_before_a_member_came_stays_read_although_that_is_not_written_yet() {
    let world = Deployment::Stack.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(1).await);
    let chat = alice.group("us").await;
    for _ in 0..2 {
        phone.says(&chat, "before Bob").await;
    }
    alice.invites(&chat, &bob).await;
    phone.says(&chat, "with Bob").await;
    bobs.hears(&chat, 3).await;
    assert_eq!(bobs.memory().chat(&chat).unwrap().read, 2);
    // The last of what a join writes, which Redis may do much later.
    let key = format!("ks:{{u.{}}}:read", bob.name);
    world.stack.as_ref().unwrap().redis.command(&["HDEL", &key, &chat.replace('-', "")]).await.unwrap();
    assert_eq!(bobs.reads(&chat, 1).await, 2, "an offset that was told doesn't fall");
    assert_eq!(bobs.reads(&chat, 3).await, 3);
    bobs.leaves().await;
    bobs.connects(0).await;
    assert_eq!(bobs.memory().chat(&chat).unwrap().read, 3);
}

#[tokio::test]
async fn who_was_removed_by_an_edge_that_died_before_it_told_anybody_gets_nothing_that_is_sent_after() {
    let world = Deployment::Stack.start().await;
    let redis = world.stack.as_ref().unwrap().redis.url();
    nothing_comes_after(&world, 0, async |_, bob, group| {
        // All that such an edge has done.
        let store = RedisStore::connect(&redis, RedisOptions::default()).await.unwrap();
        let (chat, bob) = (group.parse().unwrap(), bob.name.parse().unwrap());
        let (_, member) = store.chat_of_member(chat, &bob).await.unwrap().unwrap();
        assert_eq!(store.remove_member(chat, &member, Departure::Removed).await.unwrap(), Some(1));
    })
    .await;
}

/// Returns a proxy of an nsqd's HTTP interface that counts requests for the statistics of all topics.
async fn counting(http: &str) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (here, http, count) = (listener.local_addr().unwrap(), http.to_owned(), Arc::new(AtomicU64::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&http).await else { continue };
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut chunk = vec![0; 1 << 16];
                while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
                    let text = String::from_utf8_lossy(&chunk[..length]).into_owned();
                    let all = text
                        .lines()
                        .filter(|line| line.starts_with("GET /stats") && !line.contains("topic="));
                    counted.fetch_add(all.count() as u64, Ordering::Relaxed);
                    if to_server.write_all(&chunk[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (here.to_string(), count)
}

#[tokio::test]
async fn leaving_a_chat_asks_nsqd_for_that_chat_alone() {
    let world = Deployment::Stack.start().await;
    let stack = world.stack.as_ref().unwrap();
    // A further edge, which alone is asked to do anything.
    let (mut ways, mut counts) = (Vec::new(), Vec::new());
    for nsqd in &stack.nsqd {
        let (way, count) = counting(&nsqd.http()).await;
        ways.push(format!("{way}?tcp={}", nsqd.tcp()));
        counts.push(count);
    }
    let config = EdgeConfig::on(&stack.redis, &stack.nsqd, Some(&stack.lookupd));
    let edge = Edge::start(config.set("KEEPSTEP_NSQD", ways.join(",")).set("KEEPSTEP_RECONCILE", "1h")).await;
    edge.ready().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let api = |token: &str| crate::stories::client::Api::new(&edge.listen(), token);
    let (phone, bobs, web) = (alice.phone(0).await, bob.phone(1).await, bob.web(0).await);
    // (What is made here is on "its" nsqd, which the others don't know: nobody is connected to it.)
    let made = api(&alice.token).post("/v1/chats", json!({ "kind": "group", "name": "us" })).await.with(201);
    let chat = crate::stories::user::id(&made);
    api(&alice.token).post(&format!("/v1/chats/{chat}/members"), json!({ "user": bob.name })).await.ok();
    for device in [&bobs, &web] {
        device.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
        wait_until("its queue", PATIENCE, || async {
            (world.queues(&topic(&chat), &channel(&device.id)).await.len() == 1).then_some(())
        })
        .await;
    }
    let asked = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
    let before = asked();
    api(&bob.token).post(&format!("/v1/chats/{chat}/leave"), json!({})).await.ok();
    for device in [&bobs, &web] {
        wait_until("no queue", PATIENCE, || async {
            world.queues(&topic(&chat), &channel(&device.id)).await.is_empty().then_some(())
        })
        .await;
    }
    assert_eq!(asked() - before, 0, "questions for all topics");
    drop(phone);
}
