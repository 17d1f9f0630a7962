//! Read offsets: one per chat and user, shared by all devices.

use std::time::Instant;

use serde_json::json;

use super::Deployment;
use super::client::soon;

pub async fn what_is_read_on_the_phone_is_read_on_the_web(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut web, bobs) = (alice.phone(0).await, alice.web(1).await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    bobs.says_many(&chat, "unread", 10).await;
    web.hears(&chat, 10).await;

    assert_eq!(phone.reads(&chat, 4).await, 4);
    web.gets(json!({ "type": "read", "chat": chat, "seq": 4, "device": phone.id })).await;
    // It never goes back: the reply says where it stands, and nobody is told anything (that would be a fault).
    assert_eq!(web.reads(&chat, 2).await, 4);
    assert_eq!(phone.reads(&chat, 4).await, 4);
    assert_eq!(web.reads(&chat, 9).await, 9);
    phone.gets(json!({ "type": "read", "chat": chat, "seq": 9, "device": web.id })).await;
    // Nor above what has been said, nor in chats of others.
    phone.is_refused(json!({ "type": "read", "chat": chat, "seq": 11 }), "bad_range").await;
    let strange = uuid::Uuid::new_v4().to_string();
    phone.is_refused(json!({ "type": "read", "chat": strange, "seq": 0 }), "not_found").await;

    // It is the user's: a device that was away has it from its welcome, and Bob's own is untouched.
    web.reconnects(0).await;
    assert_eq!(web.memory().chat(&chat).unwrap().read, 9);
    assert_eq!(bob.api(0).get("/v1/offsets").await.ok()[&chat].as_u64().unwrap_or(0), 0);
    assert!(bobs.memory().inbox.iter().all(|frame| frame["type"] != "read"));
}

pub async fn offsets_of_two_devices_are_one_maximum(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, web, bobs) = (alice.phone(0).await, alice.web(1).await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    bobs.says_many(&chat, "unread", 200).await;
    web.hears(&chat, 200).await;
    phone.hears(&chat, 200).await;

    // Both jump about; each call is noted with its beginning and its end.
    let jumps = |device: &'static str, start: u64, step: u64| {
        (0..60).map(move |n| (device, (start + n * step) % 199 + 1))
    };
    let run = async |jumps: Vec<(&'static str, u64)>| {
        let mut calls = Vec::new();
        for (name, asked) in jumps {
            let device = if name == "phone" { &phone } else { &web };
            let begun = Instant::now();
            let got = device.reads(&chat, asked).await;
            calls.push((begun, Instant::now(), asked, got));
        }
        calls
    };
    let (a, b) = tokio::join!(run(jumps("phone", 3, 37).collect()), run(jumps("web", 11, 53).collect()));
    let calls = [a, b].concat();
    let highest = calls.iter().map(|call| call.2).max().unwrap();
    for (begun, _, asked, got) in &calls {
        assert!(got >= asked && *got <= highest, "asked {asked}, got {got}");
        // Whatever was answered before this call began, it must know.
        let known = calls.iter().filter(|call| call.1 < *begun).map(|call| call.3).max().unwrap_or(0);
        assert!(*got >= known, "{got} after {known} was answered");
    }
    // Both ends stand at the maximum; on the way nothing fell (that would be a fault of a device).
    assert_eq!((phone.reads(&chat, 1).await, web.reads(&chat, 1).await), (highest, highest));
    for device in [&phone, &web] {
        device
            .until("the highest offset", |memory| (memory.chat(&chat)?.read == highest).then_some(()))
            .await;
    }
}

pub async fn offsets_are_one_map(on: Deployment) {
    let world = on.start().await;
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
    let (with_bob, with_carol) = (alice.direct(&bob).await, alice.direct(&carol).await);
    bobs.says_many(&with_bob, "unread", 3).await;
    phone.says(&with_carol, "hello").await;
    phone.hears(&with_bob, 3).await;
    phone.reads(&with_bob, 2).await;
    soon("the offsets on every edge", async {
        for edge in 0..2 {
            // The bare map of all chats, with either kind of token.
            for api in [alice.api(edge), phone.api()] {
                let offsets = api.get("/v1/offsets").await.ok();
                assert_eq!(offsets, json!({ (with_bob.as_str()): 2, (with_carol.as_str()): 0 }));
            }
        }
    })
    .await;
    world.stranger().get("/v1/offsets").await.problem(401, "unauthorized");
}
