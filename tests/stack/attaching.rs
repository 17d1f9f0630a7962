//! A connected device consumes the queue of a chat only while the chat has something for it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::faults::carrier;
use crate::stories::client::PATIENCE;
use crate::stories::device::Device;
use crate::stories::world::{Pair, topic};
use crate::stories::{Deployment, World};
use crate::support::wait_until;

const LOG: &str = "keepstep_deliveries_total{source=\"log\"}";

/// How many connections consume the chat's queues.
async fn consumers(world: &World, chat: &str) -> usize {
    world.queues(&topic(chat), "").await.iter().map(|queue| queue.consumers).sum()
}

async fn is_idle(world: &World, chat: &str) {
    wait_until("the chat's queues to be detached", PATIENCE, || async {
        (consumers(world, chat).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_quiet_chat_costs_no_connection_and_its_next_message_comes_by_nsq() {
    let world = Deployment::Stack.with("KEEPSTEP_NSQ_IDLE", "300ms").start().await;
    let Pair { phone, bobs, chat, .. } = world.pair().await;
    assert_eq!(consumers(&world, &chat).await, 0, "nobody has said anything");
    for n in 1..=3 {
        let said = Instant::now();
        phone.says(&chat, "after a pause").await;
        bobs.hears(&chat, n).await;
        // Neither the sweep nor the log has helped: they take seconds.
        assert!(said.elapsed() < Duration::from_millis(1500), "{:?}", said.elapsed());
        assert!(consumers(&world, &chat).await > 0);
        for device in [&phone, &bobs] {
            device.hears(&chat, n).await;
            device.acks(&chat, n).await;
        }
        is_idle(&world, &chat).await;
        for device in [&phone, &bobs] {
            world.is_drained(&chat, device).await;
        }
    }
    assert_eq!(world.metric(LOG).await, 0.0, "NSQ carries all of it");
    assert_eq!(world.metric("keepstep_nsq_attachments").await, 0.0);
}

/// Messages come while the queue is being detached, just before, and just after.
#[tokio::test]
async fn what_is_said_while_a_queue_is_detached_comes_at_once() {
    let world = Deployment::Stack
        .with("KEEPSTEP_NSQ_IDLE", "20ms")
        // Far away, so that nothing but the doorbell helps.
        .with("KEEPSTEP_TAIL_CHECK", "60s")
        .with("KEEPSTEP_TAIL_SWEEP", "60s")
        .with("KEEPSTEP_FRAMES_BURST", "10000")
        .start()
        .await;
    let Pair { phone, bobs, chat, .. } = world.pair().await;
    for n in 1..=400 {
        phone.says(&chat, "now and then").await;
        bobs.hears(&chat, n).await;
        // From well before the moment of detaching to well after it, in steps of 100 µs.
        tokio::time::sleep(Duration::from_micros(15_000 + 100 * (n % 150))).await;
    }
    assert_eq!(world.metric(LOG).await, 0.0);
    assert!(bobs.memory().chat(&chat).unwrap().messages.keys().copied().eq(1..=400));
}

/// An nsqd that was restored, say, has what everybody has had for long.
#[tokio::test]
async fn what_comes_into_the_queue_of_a_quiet_chat_does_not_stay_there() {
    let world = Deployment::Stack.with("KEEPSTEP_NSQ_IDLE", "300ms").with("KEEPSTEP_RECONCILE", "500ms");
    let world = world.start().await;
    let Pair { phone, bobs, chat, .. } = world.pair().await;
    phone.says(&chat, "hello").await;
    for device in [&phone, &bobs] {
        device.hears(&chat, 1).await;
        device.acks(&chat, 1).await;
    }
    is_idle(&world, &chat).await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(&world, &chat).await];
    // No doorbell says so.
    nsqd.post(&format!("/pub?topic={}", topic(&chat)), "something").await;
    for device in [&phone, &bobs] {
        world.is_drained(&chat, device).await;
    }
    is_idle(&world, &chat).await;
}

/// A device comes back to more chats than it may attach at once.
#[tokio::test]
async fn a_device_that_comes_back_to_many_chats_drains_them_in_turn() {
    let (chats, messages) = (300, 3);
    let world = Deployment::Stack
        .with("KEEPSTEP_CREATES_PER_MINUTE", "10000")
        .with("KEEPSTEP_INVITED_PER_HOUR", "10000")
        .with("KEEPSTEP_FRAMES_BURST", "10000")
        .with("KEEPSTEP_FRAMES_PER_SECOND", "10000")
        .start()
        .await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(0).await, bob.registers("main").await);
    let mut ids = Vec::new();
    for n in 0..chats {
        let chat = alice.group(&format!("group {n}")).await;
        alice.invites(&chat, &bob).await;
        phone.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
        phone.says_many(&chat, "while Bob is away", messages).await;
        ids.push(chat);
    }
    for chat in &ids {
        world.is_confirmed(chat, PATIENCE).await;
    }
    let from_log = world.metric(LOG).await;
    bobs.connects(1).await;
    for chat in &ids {
        bobs.hears(chat, messages).await;
        bobs.acks(chat, messages).await;
    }
    assert_eq!(world.metric(LOG).await, from_log, "NSQ carries all of it");
    for chat in &ids {
        world.is_drained(chat, &bobs).await;
    }
    quiet(&world, &[&phone, &bobs]).await;
}

/// After a while nothing is attached, and the devices are still there.
async fn quiet(world: &World, devices: &[&Device]) {
    wait_until("all queues to be detached", PATIENCE, || async {
        (world.metric("keepstep_nsq_attachments").await == 0.0).then_some(())
    })
    .await;
    for device in devices {
        device.requests(json!({ "type": "ping" })).await.expect("it is connected");
    }
}
