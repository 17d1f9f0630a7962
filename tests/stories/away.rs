//! A device disconnects, and comes back.

use serde_json::json;

use super::Deployment;
use super::client::{PATIENCE, Socket};
use super::device::Device;
use super::world::Pair;
use crate::support::wait_until;

pub async fn a_device_that_was_away_for_300_messages_gets_them_once_and_in_order(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "before", 10).await;
    bobs.hears(&chat, 10).await;
    bobs.acks(&chat, 10).await;
    bobs.leaves().await;

    phone.says_many(&chat, "while away", 300).await;
    if world.stack.is_some() {
        // NSQ keeps them, not the log alone.
        wait_until("300 messages in the queue", PATIENCE, || async {
            let queue = world.queue(&chat, &bobs.id).await;
            (queue.depth == 300 && queue.in_flight == 0 && queue.consumers == 0).then_some(())
        })
        .await;
    }

    // `Memory` sees to it that they come once, in order, and none at or below the cursor.
    bobs.connects(1).await;
    assert_eq!(bobs.memory().chat(&chat).unwrap().cursor, 10);
    bobs.hears(&chat, 310).await;
    let expected: Vec<String> = (1..=300).map(|n| format!("while away {n}")).collect();
    assert_eq!(bobs.memory().chat(&chat).unwrap().contents(11..=310), expected);
    bobs.acks(&chat, 310).await;
    if world.stack.is_some() {
        world.is_drained(&chat, &bobs).await;
        let nsq = world.metric("keepstep_deliveries_total{source=\"nsq\"}").await;
        assert!(nsq >= 0.99 * 620.0, "{nsq} of 620 deliveries came through NSQ");
    }
    bobs.reconnects(0).await;
    phone.says(&chat, "and on").await;
    bobs.hears(&chat, 311).await;
    assert_eq!(bobs.memory().chat(&chat).unwrap().arrived, [311]);
}

pub async fn what_the_log_no_longer_holds_comes_from_the_queue(on: Deployment) {
    let world = on.with("KEEPSTEP_LOG_MESSAGES", "50").with("KEEPSTEP_LOG_KEEP", "50").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    phone.says(&chat, "before").await;
    bobs.hears(&chat, 1).await;
    bobs.acks(&chat, 1).await;
    bobs.leaves().await;
    phone.says_many(&chat, "while away", 300).await;
    phone.hears(&chat, 301).await;
    // The log is only the recent past.
    forgotten(&phone, &format!("/v1/chats/{chat}/messages?before=100")).await;
    // A gap would be a fault.
    bobs.connects(1).await;
    bobs.hears(&chat, 301).await;
    assert_eq!(bobs.memory().chat(&chat).unwrap().messages, phone.memory().chat(&chat).unwrap().messages);
}

/// Waits until a page of the server's messages is empty: a log is trimmed shortly after it has grown.
async fn forgotten(phone: &Device, page: &str) {
    let empty = || async { (phone.api().get(page).await.ok()["items"] == json!([])).then_some(()) };
    wait_until("the log to let go", PATIENCE, empty).await;
}

pub async fn what_is_too_old_leaves_a_chat_in_which_nobody_speaks(on: Deployment) {
    let world = on.with("KEEPSTEP_LOG_AGE", "2s").start().await;
    let Pair { phone, mut bobs, chat, .. } = world.pair_of_which_bob_is_away().await;
    phone.says_many(&chat, "said", 5).await;
    forgotten(&phone, &format!("/v1/chats/{chat}/messages")).await;
    // NSQ's disk has them for whom they are owed; a gap would be a fault.
    bobs.connects(0).await;
    bobs.hears(&chat, 5).await;
    phone.says(&chat, "and on").await;
    bobs.hears(&chat, 6).await;
}

pub async fn a_device_with_many_chats_gets_all_of_them(on: Deployment) {
    const CHATS: u64 = 40;
    let world = on
        .with("KEEPSTEP_CREATES_PER_MINUTE", "1000")
        .with("KEEPSTEP_INVITED_PER_HOUR", "1000")
        .with("KEEPSTEP_UNACKED_WINDOW", "16")
        .start()
        .await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let mut bobs = bob.phone(1).await;
    let mut chats = Vec::new();
    for n in 0..CHATS {
        let chat = alice.group(&format!("chat {n}")).await;
        alice.invites(&chat, &bob).await;
        bobs.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
        chats.push(chat);
    }
    let say = async |what: &str| {
        for chat in &chats {
            for n in 1..=3 {
                let body =
                    json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": format!("{what} {n}") });
                alice.api(n).post(&format!("/v1/chats/{chat}/messages"), body).await.ok();
            }
        }
    };
    // Connected, then away: far more than may be unacknowledged at a time, so no chat may starve another.
    say("live").await;
    for chat in &chats {
        bobs.hears(chat, 3).await;
    }
    bobs.leaves().await;
    say("away").await;
    bobs.connects(0).await;
    for chat in &chats {
        bobs.hears(chat, 6).await;
        let expected = ["live 1", "live 2", "live 3", "away 1", "away 2", "away 3"];
        assert_eq!(bobs.memory().chat(chat).unwrap().contents(1..=6), expected);
    }
}

pub async fn what_was_not_acknowledged_comes_again(on: Deployment) {
    let world = on.start().await;
    let Pair { phone, mut bobs, chat, .. } = world.pair().await;
    bobs.gets(json!({ "type": "chat", "event": "joined" })).await;
    bobs.stops_acking();
    phone.says_many(&chat, "hear me", 20).await;
    bobs.hears(&chat, 20).await;
    bobs.acks(&chat, 7).await;

    bobs.vanishes().await;
    bobs.connects(0).await;
    bobs.hears(&chat, 20).await;
    assert!(bobs.memory().chat(&chat).unwrap().arrived.iter().copied().eq(8..=20));

    // An acknowledgement that goes back says nothing new, and takes nothing back.
    bobs.acks(&chat, 20).await;
    bobs.requests(json!({ "type": "ack", "chat": chat, "seq": 3 })).await.expect("it is no news");
    bobs.reconnects(1).await;
    assert_eq!(bobs.memory().chat(&chat).unwrap().cursor, 20);
    phone.says(&chat, "on").await;
    bobs.hears(&chat, 21).await;
    assert_eq!(bobs.memory().chat(&chat).unwrap().arrived, [21]);
}

pub async fn the_older_connection_of_a_device_is_closed_as_replaced(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "one", 5).await;
    bobs.hears(&chat, 5).await;
    bobs.acks(&chat, 5).await;
    let session = bobs.memory().welcome["session"].as_u64().unwrap();

    // On another edge, then on the same edge as the second.
    for n in [1, 1] {
        let mut newer = Socket::open(&world.edges[n % world.edges.len()].listen(), &bobs.token).await;
        let welcome = newer.frame_of("welcome").await;
        assert!(welcome["session"].as_u64().unwrap() > session);
        assert_eq!(bobs.closed().await.0, 4409);
        bobs.opens(n).await;
        assert_eq!(newer.closed().await.0, 4409);
        bobs.until("welcome", |memory| memory.welcome.is_object().then_some(())).await;
    }
    phone.says_many(&chat, "two", 5).await;
    bobs.hears(&chat, 10).await;
    assert!(bobs.memory().chat(&chat).unwrap().arrived.iter().copied().eq(6..=10));
}

pub async fn a_device_that_reconnects_all_the_time_misses_nothing(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    let talk = async {
        for n in 1..=20 {
            phone.says_many(&chat, &format!("part {n}"), 10).await;
            phone.hears(&chat, n * 10).await;
        }
    };
    let churn = async {
        for n in 0..12 {
            if n % 3 == 2 {
                bobs.vanishes().await;
                bobs.connects(n).await;
            } else {
                bobs.reconnects(n).await;
            }
        }
        bobs
    };
    let ((), bobs) = tokio::join!(talk, churn);
    bobs.hears(&chat, 200).await;
    let (phones, bobs) = (phone.memory(), bobs.memory());
    assert_eq!(phones.chat(&chat).unwrap().messages, bobs.chat(&chat).unwrap().messages);
    assert_eq!(bobs.chat(&chat).unwrap().messages.len(), 200);
}
