//! Users exchange messages.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::device::Device;
use super::world::{Pair, channel, topic};
use super::{Deployment, World};

pub async fn everyone_gets_150_messages_in_the_same_order(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, web) = (alice.phone(0).await, alice.web(1).await);
    let bobs = bob.phone(1).await;
    let chat = alice.direct(&bob).await;
    for device in [&phone, &web, &bobs] {
        device.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
    }

    let (mut sent, theirs) =
        tokio::join!(phone.says_many(&chat, "alice", 75), bobs.says_many(&chat, "bob", 75));
    assert!(sent.is_sorted_by_key(|sent| sent.seq) && theirs.is_sorted_by_key(|sent| sent.seq));
    sent.extend(theirs);
    sent.sort_by_key(|sent| sent.seq);
    assert!(
        sent.iter().map(|sent| sent.seq).eq(1..=150),
        "each message has its own number, and there is no hole"
    );

    for device in [&phone, &web, &bobs] {
        device.hears(&chat, 150).await;
        let memory = device.memory();
        let copy = memory.chat(&chat).unwrap();
        assert!(copy.arrived.iter().copied().eq(1..=150));
        for sent in &sent {
            let message = &copy.messages[&sent.seq];
            assert_eq!((&message["key"], &message["at"]), (&json!(sent.key), &json!(sent.at)));
            let from = message["from"].as_str().unwrap();
            assert!(from == alice.name || from == bob.name);
            let (name, device) = if from == alice.name { ("alice", &phone) } else { ("bob", &bobs) };
            assert!(message["content"].as_str().unwrap().starts_with(name));
            assert_eq!(message["device"], device.id);
        }
    }
    assert_eq!(phone.memory().chat(&chat).unwrap().messages, bobs.memory().chat(&chat).unwrap().messages);
    assert_eq!(phone.memory().chat(&chat).unwrap().messages, web.memory().chat(&chat).unwrap().messages);
    assert_eq!(world.metric("keepstep_sends_total").await, 150.0);
    if world.stack.is_some() {
        nsq_carried_it(&world, &chat, &[&phone, &web, &bobs]).await;
    }
}

/// Checks that there is one topic, with one empty channel per device, and that they carried nearly all deliveries.
async fn nsq_carried_it(world: &World, chat: &str, devices: &[&Device]) {
    for device in devices {
        device.acks(chat, 150).await;
    }
    let expected: BTreeSet<String> = devices.iter().map(|device| channel(&device.id)).collect();
    let queues = world.queues(&topic(chat), "").await;
    assert_eq!(queues.iter().map(|queue| queue.channel.clone()).collect::<BTreeSet<_>>(), expected);
    assert_eq!(queues.len(), expected.len(), "each channel stands on one nsqd: {queues:?}");
    let nsq = world.metric("keepstep_deliveries_total{source=\"nsq\"}").await;
    let log = world.metric("keepstep_deliveries_total{source=\"log\"}").await;
    assert_eq!(nsq + log, 450.0);
    assert!(nsq >= 0.99 * 450.0, "{nsq} of 450 deliveries came through NSQ");
}

pub async fn who_speaks_later_stands_later(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, web, bobs) = (alice.phone(0).await, alice.web(1).await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    let path = format!("/v1/chats/{chat}/messages");
    // Each speaks when the one before has been answered, on whatever edge, by whatever way.
    for round in 0..20 {
        assert_eq!(phone.says(&chat, "the phone").await.seq, round * 4 + 1);
        assert_eq!(bobs.says(&chat, "Bob").await.seq, round * 4 + 2);
        assert_eq!(web.says(&chat, "the web").await.seq, round * 4 + 3);
        let body = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": "by HTTP" });
        let edge = usize::try_from(round).expect("few rounds");
        assert_eq!(bob.api(edge).post(&path, body).await.ok()["seq"], round * 4 + 4);
    }
    for device in [&phone, &web, &bobs] {
        device.hears(&chat, 80).await;
        let memory = device.memory();
        let at = memory.chat(&chat).unwrap().messages.values().map(|message| message["at"].as_u64().unwrap());
        assert!(at.is_sorted(), "the edges of this test share one clock");
    }
}

pub async fn the_same_key_is_the_same_message(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, web, bobs) = (alice.phone(0).await, alice.web(1).await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    let key = uuid::Uuid::new_v4().to_string();
    let first = phone.says_with(&chat, &key, "once").await;
    assert_eq!(first.seq, 1);
    // By the same device, by another of the same user, by HTTP: it is the same message.
    assert_eq!(phone.says_with(&chat, &key, "once").await, first);
    assert_eq!(web.says_with(&chat, &key, "once").await, first);
    let body = json!({ "key": key, "kind": "text", "content": "once" });
    let again = alice.api(1).post(&format!("/v1/chats/{chat}/messages"), body).await.ok();
    assert_eq!(again, json!({ "seq": 1, "at": first.at }));
    // An id has one spelling, and upper case is another writing of it.
    assert_eq!(phone.says_with(&chat, &key.to_uppercase(), "once").await.seq, 1);

    let send = |content: &str| json!({ "type": "send", "chat": chat, "key": key, "kind": "text", "content": content });
    phone.is_refused(send("twice"), "conflict").await;
    let mut with_memo = send("once");
    with_memo["memo"] = "now with a memo".into();
    web.is_refused(with_memo, "conflict").await;

    // Keys are per sender, so Bob's is another message, and the next.
    assert_eq!(bobs.says_with(&chat, &key, "once").await.seq, 2);
    assert_eq!(phone.says(&chat, "the end").await.seq, 3);
    for device in [&phone, &web, &bobs] {
        device.hears(&chat, 3).await;
        assert_eq!(device.memory().chat(&chat).unwrap().contents(1..=9), ["once", "once", "the end"]);
    }
}

pub async fn the_same_key_at_the_same_time_is_still_one_message(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, web) = (alice.phone(0).await, alice.web(1).await);
    let chat = alice.direct(&bob).await;
    for round in 1..=10 {
        let key = uuid::Uuid::new_v4().to_string();
        let path = format!("/v1/chats/{chat}/messages");
        let body = json!({ "key": key, "kind": "text", "content": "together" });
        let by_http = join_all((0..4).map(|edge| {
            let (api, path, body) = (alice.api(edge), path.clone(), body.clone());
            async move { api.post(&path, body).await.ok() }
        }));
        let by_phone = phone.says_with(&chat, &key, "together");
        let by_web = web.says_with(&chat, &key, "together");
        let (by_http, by_phone, by_web) = tokio::join!(by_http, by_phone, by_web);
        assert_eq!(by_phone, by_web);
        assert_eq!(by_phone.seq, round);
        assert!(by_http.iter().all(|ok| *ok == json!({ "seq": round, "at": by_phone.at })), "{by_http:?}");
    }
    phone.hears(&chat, 10).await;
    assert_eq!(phone.says(&chat, "the end").await.seq, 11);
}

pub async fn a_bot_sends_without_a_socket(on: Deployment) {
    let world = on.start().await;
    let (alice, bot) = (world.user("alice"), world.user("bot"));
    let phone = alice.phone(0).await;
    let chat = bot.direct(&alice).await;
    let path = format!("/v1/chats/{chat}/messages");
    let key = uuid::Uuid::new_v4().to_string();
    let body = json!({ "key": key, "kind": "text", "content": "good morning" });
    let ok = bot.api(1).post(&path, body.clone()).await.ok();
    assert_eq!(ok["seq"], 1);
    assert_eq!(ok.as_object().unwrap().len(), 2, "seq and at: {ok}");
    assert_eq!(bot.api(0).post(&path, body).await.ok(), ok);

    phone.hears(&chat, 1).await;
    let message = phone.memory().chat(&chat).unwrap().messages[&1].clone();
    assert_eq!((&message["from"], &message["device"]), (&json!(bot.name), &Value::Null));
    assert_eq!((&message["key"], &message["at"]), (&json!(key), &ok["at"]));

    // With a device token it is that device that sends.
    let body = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": "and to you" });
    assert_eq!(phone.api().post(&path, body).await.ok()["seq"], 2);
    phone.hears(&chat, 2).await;
    assert_eq!(phone.memory().chat(&chat).unwrap().messages[&2]["device"], phone.id);
}

pub async fn media_memo_and_meta_arrive_as_they_were_sent(on: Deployment) {
    let world = on.start().await;
    let Pair { phone, bobs, chat, .. } = world.pair().await;
    let media = json!({
        "url": "https://files.example/1", "preview": "data:image/png;base64,AA==", "mime": "image/png",
        "size": 12345, "width": 640, "height": 480, "name": "Käse 🧀.png",
    });
    let bodies = [
        json!({ "kind": "media", "media": media }),
        json!({ "kind": "media", "content": "a caption", "media": { "url": "https://files.example/2" } }),
        json!({ "kind": "x.payment", "content": { "iou": [1, 2.5, null, true] }, "memo": "for lunch",
            "meta": { "amount": 1250, "currency": "EUR", "deep": { "er": [] } } }),
        json!({ "kind": "text", "content": "line\nline\ttab \u{0} \u{1F9C0} \u{202E} \"quoted\" \\ </script>" }),
        json!({ "kind": "text", "content": "" }),
    ];
    for (seq, body) in (1u64..).zip(&bodies) {
        let mut frame = body.clone();
        frame["type"] = "send".into();
        frame["chat"] = chat.clone().into();
        frame["key"] = uuid::Uuid::new_v4().to_string().into();
        assert_eq!(phone.requests(frame).await.unwrap_or_else(|error| panic!("{body}: {error}"))["seq"], seq);
        bobs.hears(&chat, seq).await;
        let message = bobs.memory().chat(&chat).unwrap().messages[&seq].clone();
        for (name, value) in body.as_object().unwrap() {
            assert_eq!(message[name], *value, "{name} of {body}");
        }
    }
}
