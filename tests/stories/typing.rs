//! Typing is forwarded to other members, at a bounded rate, and stored nowhere.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Deployment;
use super::client::PATIENCE;
use super::device::Device;
use crate::support::wait_until;

fn types(chat: &str) -> Value {
    json!({ "type": "typing", "chat": chat })
}

fn told(device: &Device) -> Vec<Value> {
    std::iter::from_fn(|| device.memory().take(&json!({ "type": "typing" }))).collect()
}

pub async fn the_others_are_told_who_types(on: Deployment) {
    let world = on.start().await;
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    let (phone, web, bobs, carols) =
        (alice.phone(0).await, alice.web(1).await, bob.phone(0).await, carol.phone(1).await);
    let chat = alice.group("everyone").await;
    for user in [&bob, &carol] {
        alice.invites(&chat, user).await;
    }
    for device in [&phone, &web, &bobs, &carols] {
        device.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
    }
    // The others' sessions may just be on their way to hear of the chat: it is said until it is heard.
    let frame = json!({ "type": "typing", "chat": chat, "user": alice.name });
    for listener in [&bobs, &carols] {
        wait_until("typing to be told", PATIENCE, || async {
            assert_eq!(phone.requests(types(&chat)).await, Ok(json!({})));
            let told = listener.memory().take(&frame);
            told.map(|told| assert_eq!(told, frame))
        })
        .await;
    }
    // From the web session, too; and the user's own devices aren't told.
    wait_until("typing on the web to be told", PATIENCE, || async {
        web.puts(types(&chat));
        bobs.memory().take(&frame)
    })
    .await;
    for own in [&phone, &web] {
        own.requests(json!({ "type": "ping" })).await.expect("it is there");
        assert_eq!(told(own), Vec::<Value>::new());
    }
    // Nothing of it is a message, and whoever connects now doesn't hear of it.
    let newcomer = bob.web(1).await;
    phone.says(&chat, "said").await;
    newcomer.hears(&chat, 1).await;
    assert_eq!(told(&newcomer), Vec::<Value>::new());
}

pub async fn typing_is_told_once_in_three_seconds(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let chat = alice.direct(&bob).await;
    let (phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
    // In this time bob's session has begun to hear.
    phone.says(&chat, "first").await;
    bobs.hears(&chat, 1).await;
    phone.requests(types(&chat)).await.expect("it is taken");
    bobs.gets(json!({ "type": "typing", "chat": chat, "user": alice.name })).await;
    let (begun, mut asked) = (Instant::now(), 0);
    wait_until("the next one", PATIENCE, async || {
        asked += 1;
        phone.requests(types(&chat)).await.expect("it is taken");
        bobs.memory().take(&json!({ "type": "typing" }))
    })
    .await;
    assert!(asked > 5 && begun.elapsed() > Duration::from_millis(2_800), "{asked} in {:?}", begun.elapsed());
}

pub async fn typing_is_for_members_of_small_chats(on: Deployment) {
    let world = on.with("KEEPSTEP_TYPING_MEMBERS", "2").start().await;
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    let chat = alice.direct(&bob).await;
    let large = alice.group("large").await;
    for user in [&bob, &carol] {
        alice.invites(&large, user).await;
    }
    let (phone, bobs, carols) = (alice.phone(0).await, bob.phone(1).await, carol.phone(0).await);
    for place in [&chat, &large] {
        phone.says(place, "first").await;
        bobs.hears(place, 1).await;
    }
    assert_eq!(phone.requests(types(&large)).await, Ok(json!({})), "a client needn't know");
    phone.requests(types(&chat)).await.expect("it is taken");
    bobs.gets(json!({ "type": "typing", "chat": chat })).await;
    phone.says(&large, "second").await;
    for device in [&bobs, &carols] {
        device.hears(&large, 2).await;
        assert_eq!(told(device), Vec::<Value>::new());
    }
    // A chat of others isn't there.
    carols.is_refused(types(&chat), "not_found").await;
    carols.is_refused(types(&uuid::Uuid::new_v4().to_string()), "not_found").await;
    alice.removes(&large, &carol).await;
    carols.gets(json!({ "type": "chat", "event": "left", "chat": large })).await;
    carols.is_refused(types(&large), "not_found").await;
}
