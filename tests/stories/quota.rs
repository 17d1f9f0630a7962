//! Bounds of one user's share of the server: bytes in the logs of all chats and the queues behind them, and bytes of
//! each chat in a device's queue.

use std::time::Duration;

use serde_json::json;

use super::Deployment;
use super::client::{Answer, PATIENCE};
use super::user::User;
use super::world::Pair;
use crate::support::wait_until;

pub async fn says(user: &User, chat: &str, bytes: usize) -> Answer {
    let text = "x".repeat(bytes);
    let body = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": text });
    user.api(0).post(&format!("/v1/chats/{chat}/messages"), body).await
}

/// Sends this much, each time in the next of these chats, until it is refused; returns the accepted bytes.
async fn fills(user: &User, chats: &[String], most: usize) -> usize {
    let mut taken = 0;
    for chat in chats.iter().cycle() {
        let answer = says(user, chat, 20_000).await;
        if answer.status != 200 {
            answer.problem(409, "limit_reached");
            break;
        }
        taken += 20_000;
        if taken >= most {
            break;
        }
    }
    taken
}

pub async fn one_user_fills_no_more_than_the_own_part(on: Deployment) {
    const QUOTA: usize = 1_000_000;
    let world = on
        .with("KEEPSTEP_USER_BYTES", &QUOTA.to_string())
        .with("KEEPSTEP_LOG_KEEP", "0")
        .with("KEEPSTEP_FRAMES_PER_SECOND", "1000")
        .with("KEEPSTEP_FRAMES_BURST", "1000")
        .start()
        .await;
    let Pair { alice, bob, phone, bobs, chat: direct } = world.pair().await;
    let mut chats = vec![direct.clone()];
    for n in 0..4 {
        chats.push(alice.group(&format!("group {n}")).await);
    }
    // Whose own chats would make room again meanwhile.
    phone.stops_acking();
    bobs.stops_acking();
    let taken = fills(&alice, &chats, 4 * QUOTA).await;
    // One edge knows what it has taken, whether it is told or not.
    assert!((QUOTA / 2..=QUOTA).contains(&taken), "{taken} bytes were taken");
    let refused = json!({ "type": "send", "chat": direct, "key": uuid::Uuid::new_v4(), "kind": "text",
        "content": "x".repeat(20_000) });
    phone.is_refused(refused, "limit_reached").await;
    // It is the user's own: another one says what they like, in the same chat, too.
    assert_eq!(says(&bob, &direct, 20_000).await.status, 200);
    // What all devices have acknowledged makes room …
    let may_again = async |chat: &str| {
        let chat = chat.to_owned();
        wait_until("room", PATIENCE, || async {
            (says(&alice, &chat, 20_000).await.status == 200).then_some(())
        })
        .await;
    };
    bobs.resumes_acking();
    phone.resumes_acking();
    may_again(&direct).await;
    // … and so does a chat that ends.
    fills(&alice, &chats, 4 * QUOTA).await;
    for group in &chats[2..] {
        alice.leaves(group).await;
    }
    may_again(&chats[1]).await;
}

/// Sends this much, again and again, until it is refused for three seconds: a chat is trimmed each second. Returns the
/// accepted bytes.
async fn fills_for_good(user: &User, chat: &str, most: usize) -> usize {
    let (mut taken, mut refused) = (0, 0);
    while taken < most && refused < 12 {
        let answer = says(user, chat, 20_000).await;
        if answer.status == 200 {
            (taken, refused) = (taken + 20_000, 0);
            continue;
        }
        answer.problem(409, "limit_reached");
        refused += 1;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    taken
}

pub async fn what_a_queue_holds_is_its_senders_although_the_log_let_go_of_it(on: Deployment) {
    const QUOTA: usize = 1_000_000;
    let world = on
        .with("KEEPSTEP_USER_BYTES", &QUOTA.to_string())
        .with("KEEPSTEP_LOG_BYTES", "100000")
        .with("KEEPSTEP_LOG_KEEP", "0")
        .with("KEEPSTEP_FRAMES_PER_SECOND", "1000")
        .with("KEEPSTEP_FRAMES_BURST", "1000")
        .start()
        .await;
    // Her own phone is there and acknowledges everything.
    let Pair { alice, bob, phone: _phone, mut bobs, chat } = world.pair().await;
    let room = async |why: &str| {
        wait_until(why, PATIENCE, || async {
            (says(&alice, &chat, 20_000).await.status == 200).then_some(())
        })
        .await;
    };
    // The device is there, gets everything, and acknowledges nothing of it.
    bobs.stops_acking();
    let taken = fills_for_good(&alice, &chat, 3 * QUOTA).await;
    assert!(
        (QUOTA / 2..=QUOTA).contains(&taken),
        "{taken} bytes were taken: a log holds a tenth of the quota"
    );
    // It is the user's own.
    assert_eq!(says(&bob, &chat, 20_000).await.status, 200);
    bobs.resumes_acking();
    room("room, because the device has acknowledged it").await;
    // So it is of a device that is ended.
    bobs.stops_acking();
    let taken = fills_for_good(&alice, &chat, 3 * QUOTA).await;
    assert!(taken <= QUOTA, "{taken} bytes were taken");
    bob.ends(&bobs.id).await;
    assert_eq!(bobs.closed().await.0, 4403);
    room("room, because the device was ended").await;
}

pub async fn a_queue_holds_no_more_than_its_part(on: Deployment) {
    const QUEUE: u64 = 400_000;
    let world = on
        .with("KEEPSTEP_QUEUE_BYTES", &QUEUE.to_string())
        .with("KEEPSTEP_LOG_BYTES", "200000")
        .with("KEEPSTEP_FRAMES_PER_SECOND", "1000")
        .with("KEEPSTEP_FRAMES_BURST", "1000")
        .start()
        .await;
    let Pair { alice, phone, mut bobs, chat, .. } = world.pair_of_which_bob_is_away().await;
    bobs.memory().expects_loss = true;
    let waits = async || {
        let admin = world.admin().get(&format!("/admin/v1/devices/{}/channels", bobs.id)).await.ok();
        admin["items"][0]["depth"].as_u64().unwrap_or_else(|| panic!("{admin}"))
    };
    // Five times what it may hold, of some 2 KB each.
    let mut most = 0;
    for n in 0..10 {
        for _ in 0..100 {
            assert_eq!(says(&alice, &chat, 2_000).await.status, 200);
        }
        phone.hears(&chat, 100 * (n + 1)).await;
        most = most.max(waits().await);
    }
    let bytes = wait_until("the queue to be short", PATIENCE, || async {
        let bytes = waits().await * 2_200;
        (bytes <= QUEUE * 3 / 2).then_some(bytes)
    })
    .await;
    eprintln!("at most {most} messages waited, and {} KB in the end", bytes / 1000);
    // The device gets the newest, in order, and is told of what is gone.
    bobs.connects(1).await;
    let said = phone.says(&chat, "the end").await;
    bobs.hears(&chat, said.seq).await;
    let memory = bobs.memory();
    let known = memory.chat(&chat).unwrap();
    let lost: u64 = known.gaps.iter().map(|(from, to)| to - from + 1).sum();
    assert!(lost > 0 && known.messages.len() as u64 + lost == said.seq, "{lost} of {}", said.seq);
    assert!(known.messages.len() > 60, "the log has the newest");
}
