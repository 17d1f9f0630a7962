//! What is taken from NSQ for one device is bounded over all its chats, and each chat gets a share.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use keepstep::{
    broker::{Broker, Event},
    domain::id::{ChatId, DeviceId},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    broker::{
        connect,
        contract::inbox::{Inbox, provision},
    },
    stories::{Deployment, client::PATIENCE, world::channel},
    support::{Nsqd, stays, wait_until},
};

/// A device with a window of 256 has room for 512, for the first message of each chat, and for what was on its way when
/// nsqd was told to stop; but never for more than twice as many.
const BOUND: u64 = 1024;
const CHATS: usize = 200;
const MESSAGES: usize = 300;

async fn fill(broker: &Broker, chats: &[ChatId], messages: usize) {
    stream::iter(chats)
        .for_each_concurrent(16, |chat| async move {
            let node = broker.place(*chat);
            for n in 0..messages {
                let frame = format!("{n} {}", "x".repeat(300));
                broker.publish(&node, *chat, frame.into()).await.expect("published");
            }
        })
        .await;
}

/// Returns the device's messages in flight at nsqd, in each chat.
async fn in_flight(broker: &Broker, device: DeviceId) -> Vec<u64> {
    broker.queues_of(device).await.0.iter().map(|queue| queue.in_flight).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_acknowledges_nothing_holds_no_more_than_its_budget() {
    let nsqd = Nsqd::start(None).await;
    let broker = connect(std::slice::from_ref(&nsqd), None).await;
    let device = DeviceId::random();
    let chats: Vec<ChatId> = std::iter::repeat_with(ChatId::random).take(CHATS).collect();
    provision(&broker, device, &chats).await;
    fill(&broker, &chats, MESSAGES).await;

    // A session takes 256 and then no more, until its device has acknowledged some.
    let mut inbox = Inbox::new(16);
    let subscriptions: Vec<_> = chats
        .iter()
        .map(|chat| {
            broker.subscribe(&broker.place(*chat), *chat, device, &inbox.prefetch, inbox.sink.clone())
        })
        .collect();
    let mut held = Vec::new();
    while held.len() < 256 {
        if let Event::Delivery(delivery) = inbox.next().await.event {
            held.push(delivery);
        }
    }
    wait_until("each chat to have some", PATIENCE, async || {
        let given = in_flight(&broker, device).await;
        (given.len() == CHATS && given.iter().all(|given| *given > 0)).then_some(())
    })
    .await;
    let mut most = 0;
    stays(Duration::from_secs(3), async || {
        most = most.max(in_flight(&broker, device).await.iter().sum());
    })
    .await;
    println!("{CHATS} chats of {MESSAGES}: {most} in flight at the most");
    assert!(most <= BOUND, "{most} in flight");

    // Whatever is acknowledged makes room for others, until all of it has come.
    let mut left = CHATS * MESSAGES - held.len();
    held.into_iter().for_each(|delivery| delivery.receipt.finish());
    while left > 0 {
        if let Event::Delivery(delivery) = inbox.next().await.event {
            delivery.receipt.finish();
            left -= 1;
        }
    }
    wait_until("nothing to be left", PATIENCE, async || {
        let queues = broker.queues_of(device).await.0;
        queues.iter().all(|queue| queue.depth + queue.in_flight == 0).then_some(())
    })
    .await;
    drop(subscriptions);
}

/// The same with an edge's socket that receives everything and acknowledges nothing.
#[tokio::test]
async fn a_connected_device_that_acknowledges_nothing_holds_no_more_than_its_budget() {
    const CHATS: usize = 40;
    const EACH: usize = 60;
    let world = Deployment::Stack
        .with("KEEPSTEP_CREATES_PER_MINUTE", "1000")
        .with("KEEPSTEP_INVITED_PER_HOUR", "1000")
        .start()
        .await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let mut bobs = bob.phone(1).await;
    let mut chats = Vec::new();
    for n in 0..CHATS {
        let chat = alice.group(&format!("group {n}")).await;
        alice.invites(&chat, &bob).await;
        chats.push(chat);
    }
    bobs.gets(json!({ "type": "chat", "event": "joined", "chat": chats[CHATS - 1] })).await;
    bobs.leaves().await;
    let says = |n: usize| {
        let (api, path) = (alice.api(0), format!("/v1/chats/{}/messages", chats[n % CHATS]));
        let said = json!({ "key": uuid::Uuid::new_v4().to_string(), "kind": "text", "content": "said" });
        async move {
            wait_until("a send", PATIENCE, async || {
                (api.post(&path, said.clone()).await.status == 200).then_some(())
            })
            .await
        }
    };
    stream::iter(0..CHATS * EACH).map(says).buffer_unordered(16).collect::<Vec<_>>().await;
    wait_until("all of it to be in the queues", PATIENCE, async || {
        let queues = world.queues("c.", &channel(&bobs.id)).await;
        (queues.iter().map(|queue| queue.depth).sum::<u64>() >= (CHATS * EACH) as u64).then_some(())
    })
    .await;
    let bobs_id = bobs.id.clone();
    let given = async || {
        world.queues("c.", &channel(&bobs_id)).await.iter().map(|queue| queue.in_flight).collect::<Vec<_>>()
    };
    bobs.stops_acking();
    bobs.connects(1).await;
    wait_until("each chat to have some", PATIENCE, async || {
        let given = given().await;
        (given.len() == CHATS && given.iter().all(|given| *given > 0)).then_some(())
    })
    .await;
    let mut most = 0;
    stays(Duration::from_secs(2), async || most = most.max(given().await.iter().sum::<u64>())).await;
    println!("{CHATS} chats of {EACH}: {most} in flight at the most");
    assert!(most <= BOUND, "{most} in flight");
    bobs.resumes_acking();
    for chat in &chats {
        bobs.hears(chat, EACH as u64).await;
    }
}

/// nsqd's patience is 6 s here. Of a phone that takes eight messages every two seconds, 64 are held: each for 16 s.
#[tokio::test]
async fn a_slow_device_keeps_what_it_holds_while_it_is_connected() {
    const COUNT: u64 = 300;
    let world = Deployment::Stack
        // What the log doesn't have comes from NSQ alone.
        .with("KEEPSTEP_LOG_MESSAGES", "50")
        .with("KEEPSTEP_LOG_KEEP", "50")
        .with("KEEPSTEP_FRAMES_PER_SECOND", "100000")
        .with("KEEPSTEP_FRAMES_BURST", "100000")
        .with("KEEPSTEP_UNACKED_WINDOW", "8")
        .with("KEEPSTEP_NSQ_MESSAGE_TIMEOUT", "6s")
        .with("KEEPSTEP_ACK_TIMEOUT", "5s")
        .start()
        .await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(1).await);
    let chat = alice.group("group").await;
    alice.invites(&chat, &bob).await;
    bobs.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
    bobs.leaves().await;
    phone.says_many(&chat, "while Bob is away", COUNT).await;
    wait_until("all of it to be in the queue", PATIENCE, async || {
        (world.queue(&chat, &bobs.id).await.depth >= COUNT).then_some(())
    })
    .await;
    bobs.stops_acking();
    bobs.connects(1).await;
    bobs.hears(&chat, 8).await;
    let mut due = Instant::now();
    stays(Duration::from_secs(14), async || {
        if Instant::now() >= due {
            due += Duration::from_secs(2);
            let last = bobs.memory().chat(&chat).unwrap().last;
            bobs.puts(json!({ "type": "ack", "chat": chat, "seq": last }));
        }
    })
    .await;
    for nsqd in &world.stack.as_ref().unwrap().nsqd {
        let stats = nsqd.stats(None).await;
        for topic in stats["topics"].as_array().unwrap() {
            for queue in topic["channels"].as_array().unwrap() {
                assert_eq!(queue["timeout_count"], 0, "{queue}");
            }
        }
    }
    let held = world.queue(&chat, &bobs.id).await.in_flight;
    assert!(held > 30, "{held} in flight");
    bobs.resumes_acking();
    bobs.hears(&chat, COUNT).await;
    world.is_drained(&chat, &bobs).await;
}
