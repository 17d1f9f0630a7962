//! The nsqd of a chat is away for good: the chat is relocated, and nobody loses a message or receives one twice.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::faults::{after_a_talk, carrier};
use crate::stories::client::PATIENCE;
use crate::stories::world::{Pair, Setup, channel, topic};
use crate::stories::{Deployment, World};
use crate::support::{Edge, EdgeConfig, Nsqd, stays, wait_until};

/// Returns a setup that relocates soon enough for a test.
fn impatient() -> Setup {
    Deployment::Stack.with("KEEPSTEP_NSQD_GIVE_UP", "3s").with("KEEPSTEP_RECONCILE", "500ms")
}

/// Returns device -> (depth, consumers) of a chat's queues on one nsqd.
async fn queues_at(nsqd: &Nsqd, chat: &str) -> Vec<(String, u64, usize)> {
    let stats = nsqd.stats(Some(&topic(chat))).await;
    let channels = stats["topics"][0]["channels"].as_array().cloned().unwrap_or_default();
    let queue = |each: &serde_json::Value| {
        let depth =
            each["depth"].as_u64().unwrap_or_default() + each["in_flight_count"].as_u64().unwrap_or_default();
        let consumers = each["clients"].as_array().map_or(0, Vec::len);
        (each["channel_name"].as_str().unwrap_or_default().to_owned(), depth, consumers)
    };
    channels.iter().map(queue).collect()
}

/// Returns what waits for a device on one nsqd; none: it has no queue there.
async fn depth_at(nsqd: &Nsqd, chat: &str, device: &str) -> Option<u64> {
    queues_at(nsqd, chat).await.into_iter().find(|queue| queue.0 == channel(device)).map(|queue| queue.1)
}

/// Returns how often messages were requeued in a device's queue on one nsqd.
async fn requeued_at(nsqd: &Nsqd, chat: &str, device: &str) -> Option<u64> {
    let stats = nsqd.stats(Some(&topic(chat))).await;
    let queues = stats["topics"][0]["channels"].as_array().cloned().unwrap_or_default();
    queues.iter().find(|queue| queue["channel_name"] == channel(device))?["requeue_count"].as_u64()
}

async fn moved(world: &World) -> f64 {
    world.metric("keepstep_reconciler_actions_total{action=\"chat_moved\"}").await
}

async fn has_moved(world: &World) {
    wait_until("the chat to move", PATIENCE, || async { (moved(world).await == 1.0).then_some(()) }).await;
}

#[tokio::test]
async fn a_chat_whose_nsqd_is_away_for_good_gets_another() {
    let mut world = impatient().start().await;
    let (Pair { alice, phone, bobs, chat, .. }, mut web) = after_a_talk(&world).await;
    let (old, new) = match carrier(&world, &chat).await {
        0 => (0, 1),
        _ => (1, 0),
    };
    world.stack.as_mut().unwrap().nsqd[old].kill9();
    let begun = Instant::now();
    let head = wait_until("the chat to move", Duration::from_secs(15), async || {
        let head = phone.says(&chat, "while it is dead").await.seq;
        (moved(&world).await == 1.0).then_some(head)
    })
    .await;
    assert!(begun.elapsed() > Duration::from_secs(3), "it may be back any moment: {:?}", begun.elapsed());
    for device in [&phone, &bobs] {
        device.hears(&chat, head).await;
    }
    // All that was said meanwhile is on the other one, also for who is away; and those who are here take it from there.
    let nsqd = &world.stack.as_ref().unwrap().nsqd;
    wait_until("the backlog to be on the other nsqd", PATIENCE, || async {
        (depth_at(&nsqd[new], &chat, &web.id).await? >= head - 20).then_some(())
    })
    .await;
    wait_until("the devices to follow", Duration::from_secs(10), || async {
        let queues = queues_at(&nsqd[new], &chat).await;
        (queues.len() == 3 && queues.iter().map(|queue| queue.2).sum::<usize>() == 2).then_some(())
    })
    .await;
    let by_nsq = world.metric("keepstep_deliveries_total{source=\"nsq\"}").await;
    phone.says_many(&chat, "carried again", 20).await;
    for device in [&phone, &bobs] {
        device.hears(&chat, head + 20).await;
        device.acks(&chat, head + 20).await;
    }
    assert!(world.metric("keepstep_deliveries_total{source=\"nsq\"}").await >= by_nsq + 40.0);
    assert_eq!(world.unconfirmed(&chat).await, 0);
    assert_eq!(moved(&world).await, 1.0);

    // The old one comes back after all, with what it had: nobody needs that any more.
    world.stack.as_mut().unwrap().nsqd[old].restart().await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd;
    wait_until("the queues left behind to go", PATIENCE, || async {
        queues_at(&nsqd[old], &chat).await.is_empty().then_some(())
    })
    .await;
    web.connects(0).await;
    phone.says(&chat, "the end").await;
    for device in [&phone, &bobs, &web] {
        device.hears(&chat, head + 21).await;
        device.acks(&chat, head + 21).await;
    }
    assert!(web.memory().chat(&chat).unwrap().arrived.iter().copied().eq(21..=head + 21));
    let termination = alice.ends(&web.id).await;
    assert_eq!(web.closed().await.0, 4403);
    world.terminated(&alice.api(0), &termination).await;
    world.stays_without_traces(&web.id, Duration::from_secs(2)).await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd;
    assert_eq!(queues_at(&nsqd[old], &chat).await, []);
    assert_eq!((queues_at(&nsqd[new], &chat).await.len(), moved(&world).await), (2, 1.0));
}

#[tokio::test]
async fn what_only_the_old_nsqd_still_holds_reaches_its_device() {
    let mut world =
        impatient().with("KEEPSTEP_LOG_MESSAGES", "50").with("KEEPSTEP_LOG_KEEP", "50").start().await;
    let Pair { phone, mut bobs, chat, .. } = world.pair().await;
    phone.says_many(&chat, "before", 20).await;
    bobs.hears(&chat, 20).await;
    bobs.acks(&chat, 20).await;
    bobs.leaves().await;
    phone.says_many(&chat, "while Bob is away", 180).await;
    phone.hears(&chat, 200).await;
    let (old, new) = match carrier(&world, &chat).await {
        0 => (0, 1),
        _ => (1, 0),
    };
    wait_until("NSQ to have it", PATIENCE, || async { (world.unconfirmed(&chat).await == 0).then_some(()) })
        .await;
    // In good order, so that its disk has all of it.
    world.stack.as_mut().unwrap().nsqd[old].terminate().await;
    has_moved(&world).await;
    phone.says_many(&chat, "on the other one", 100).await;
    phone.hears(&chat, 300).await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd;
    wait_until("the rest to be on the other nsqd", PATIENCE, || async {
        (depth_at(&nsqd[new], &chat, &bobs.id).await? == 100).then_some(())
    })
    .await;
    world.stack.as_mut().unwrap().nsqd[old].restart().await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd;
    // The phone's queue there goes, also when it is made again. Bob's holds what nobody else has, and stays each time.
    for _ in 0..3 {
        wait_until("the phone's queue left behind to go", PATIENCE, || async {
            depth_at(&nsqd[old], &chat, &phone.id).await.is_none().then_some(())
        })
        .await;
        assert_eq!(depth_at(&nsqd[old], &chat, &bobs.id).await, Some(180));
        let (topic, channel) = (topic(&chat), channel(&phone.id));
        nsqd[old].post(&format!("/channel/create?topic={topic}&channel={channel}"), "").await;
    }
    let floor: u64 = {
        let key = format!("ks:{{c.{}}}:log", chat.replace('-', ""));
        let redis = &world.stack.as_ref().unwrap().redis;
        let oldest = redis.command(&["XRANGE", &key, "-", "+", "COUNT", "1"]).await.unwrap();
        oldest.split('-').next().unwrap().parse().unwrap()
    };
    assert!(floor > 100, "the log still has what it should have forgotten: from {floor}");

    bobs.connects(0).await;
    bobs.hears(&chat, 300).await;
    bobs.acks(&chat, 300).await;
    assert!(bobs.memory().chat(&chat).unwrap().arrived.iter().copied().eq(21..=300));
    assert_eq!(world.metric("keepstep_gaps_total").await, 0.0);
    wait_until("Bob's queue left behind to go, too", PATIENCE, || async {
        queues_at(&nsqd[old], &chat).await.is_empty().then_some(())
    })
    .await;
    phone.says(&chat, "on").await;
    bobs.hears(&chat, 301).await;
}

/// It is retried. Meanwhile messages of the chat's own queue are delivered.
#[tokio::test]
async fn an_old_nsqd_that_dies_while_it_is_taken_from_disturbs_nothing_of_the_new_one() {
    let mut world =
        impatient().with("KEEPSTEP_LOG_MESSAGES", "50").with("KEEPSTEP_LOG_KEEP", "50").start().await;
    let Pair { phone, mut bobs, chat, .. } = world.pair().await;
    bobs.leaves().await;
    phone.says_many(&chat, "while Bob is away", 100).await;
    phone.hears(&chat, 100).await;
    let old = carrier(&world, &chat).await;
    wait_until("NSQ to have it", PATIENCE, || async { (world.unconfirmed(&chat).await == 0).then_some(()) })
        .await;
    world.stack.as_mut().unwrap().nsqd[old].terminate().await;
    has_moved(&world).await;
    phone.says_many(&chat, "on the other one", 100).await;
    phone.hears(&chat, 200).await;
    wait_until("the rest to be there, too", PATIENCE, || async {
        (depth_at(&world.stack.as_ref().unwrap().nsqd[1 - old], &chat, &bobs.id).await? == 100).then_some(())
    })
    .await;
    world.stack.as_mut().unwrap().nsqd[old].restart().await;
    bobs.stops_acking();
    bobs.connects(0).await;
    bobs.hears(&chat, 200).await;
    world.stack.as_mut().unwrap().nsqd[old].terminate().await;
    let new = &world.stack.as_ref().unwrap().nsqd[1 - old];
    // What may have been on the lost connection is given back once.
    wait_until("the loss to be noticed", PATIENCE, || async {
        (requeued_at(new, &chat, &bobs.id).await? > 0).then_some(())
    })
    .await;
    let before = requeued_at(new, &chat, &bobs.id).await;
    // Its client tries every 3 s at the latest.
    stays(Duration::from_secs(8), async || assert_eq!(requeued_at(new, &chat, &bobs.id).await, before)).await;
    bobs.resumes_acking();
    bobs.acks(&chat, 200).await;
    phone.says(&chat, "on").await;
    bobs.hears(&chat, 201).await;
    assert!(bobs.memory().chat(&chat).unwrap().arrived.iter().copied().eq(1..=201));
}

#[tokio::test]
async fn a_chat_leaves_an_nsqd_that_is_not_configured_any_more() {
    let mut world = impatient().start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (mut phone, bobs) = (alice.phone(0).await, bob.registers("main").await);
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "before", 5).await;
    phone.hears(&chat, 5).await;
    phone.leaves().await;
    let new = 1 - carrier(&world, &chat).await;
    let stack = world.stack.as_ref().unwrap();
    let config = EdgeConfig::on(&stack.redis, [&stack.nsqd[new]], Some(&stack.lookupd))
        .set("KEEPSTEP_NSQD_GIVE_UP", "3s")
        .set("KEEPSTEP_RECONCILE", "500ms");
    world.edges = vec![Edge::start(config).await];
    world.edges[0].ready().await;
    let begun = Instant::now();
    let alice = world.user("alice");
    let body = json!({ "key": uuid::Uuid::new_v4().to_string(), "kind": "text", "content": "where to?" });
    alice.api(0).post(&format!("/v1/chats/{chat}/messages"), body).await.ok();
    has_moved(&world).await;
    assert!(
        begun.elapsed() > Duration::from_secs(2),
        "others may be told of it sooner: {:?}",
        begun.elapsed()
    );
    let nsqd = &world.stack.as_ref().unwrap().nsqd[new];
    wait_until("the message to be on the nsqd that is left", PATIENCE, || async {
        let queues = (depth_at(nsqd, &chat, &phone.id).await?, depth_at(nsqd, &chat, &bobs.id).await?);
        (queues == (1, 1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn chats_wait_for_their_nsqd_for_ever_if_told_so() {
    let mut world = impatient().with("KEEPSTEP_NSQD_GIVE_UP", "0s").start().await;
    let Pair { phone, bobs, chat, .. } = world.pair().await;
    phone.says(&chat, "before").await;
    bobs.hears(&chat, 1).await;
    let carrier = carrier(&world, &chat).await;
    world.stack.as_mut().unwrap().nsqd[carrier].kill9();
    // Taken for a time like others, it would be over at once: each of these takes a tail check.
    for seq in 2..=4 {
        phone.says(&chat, "by the log").await;
        bobs.hears(&chat, seq).await;
    }
    assert_eq!((moved(&world).await, world.unconfirmed(&chat).await), (0.0, 3));
    world.stack.as_mut().unwrap().nsqd[carrier].restart().await;
    world.is_confirmed(&chat, PATIENCE).await;
}
