//! Silent ends: connections of an edge that dies, registrations that were never finished.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::stories::Deployment;
use crate::stories::client::PATIENCE;
use crate::support::{Edge, wait_until};

#[tokio::test]
async fn when_an_edge_dies_its_devices_are_told_to_be_offline() {
    let mut world = Deployment::Stack.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (mut phone, bobs) = (alice.phone(0).await, bob.phone(0).await);
    let (web, mut booting, bobs_web) = (alice.web(1).await, alice.web(1).await, bob.web(1).await);
    for web in [&web, &bobs_web] {
        web.requests(json!({ "type": "ready" })).await.expect("ready");
    }
    let died = Instant::now();
    world.edges[0].kill9();
    let offline = json!({ "type": "device", "event": "offline", "device": phone.id });
    let told = web.gets(offline.clone()).await;
    // The lease, 3 s, and as much again for a crowded machine.
    assert!(died.elapsed() < Duration::from_secs(6 + 3 + 3), "{:?}", died.elapsed());
    let devices = alice.api(1).get("/v1/devices").await.ok();
    let found = devices["items"].as_array().unwrap().iter().find(|one| one["id"] == phone.id.as_str());
    let found = found.expect("the phone");
    assert_eq!((&found["online"], &found["last_seen"]), (&json!(false), &told["at"]));
    bobs_web.gets(json!({ "type": "device", "event": "offline", "device": bobs.id })).await;
    // One that isn't ready needs its phone.
    assert_eq!(booting.closed().await.0, 4303);

    // Nobody is told twice, and not by the edge when it is back.
    phone.lost().await;
    world.edges[0].restart().await;
    world.edges[0].ready().await;
    phone.connects(0).await;
    web.gets(json!({ "type": "device", "event": "online", "device": phone.id })).await;
    assert!(web.memory().take(&offline).is_none());
    phone.leaves().await;
    web.gets(offline).await;
}

#[tokio::test]
async fn when_an_edge_dies_whoever_watches_its_users_is_told() {
    let mut world = Deployment::Stack.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.direct(&bob).await;
    let (phone, mut bobs) = (alice.phone(1).await, bob.phone(0).await);
    let watched =
        phone.requests(json!({ "type": "watch", "users": [bob.name] })).await.expect("it may watch");
    assert_eq!(watched["presence"][0]["online"], true, "{watched}");
    world.edges[0].kill9();
    let gone = phone.gets(json!({ "type": "presence", "user": bob.name, "online": false })).await;
    // When his lease was last renewed: that may be a little before the answer to the watch.
    let devices = bob.api(1).get("/v1/devices").await.ok();
    assert_eq!(gone["last_seen"], devices["items"][0]["last_seen"]);
    bobs.lost().await;
    bobs.connects(1).await;
    phone.gets(json!({ "type": "presence", "user": bob.name, "online": true })).await;
    // What is told while Redis can't be heard is found afterwards.
    let redis = &world.stack.as_ref().unwrap().redis;
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    bobs.leaves().await;
    phone.gets(json!({ "type": "presence", "user": bob.name, "online": false })).await;
}

#[tokio::test]
async fn an_edge_that_comes_back_under_its_name_tells_for_itself() {
    let quick = Deployment::Stack.with("KEEPSTEP_LEASE", "1500ms").with("KEEPSTEP_LEASE_RENEWAL", "500ms");
    let mut world = quick.start().await;
    let config = world.stack.as_ref().unwrap().edge().set("KEEPSTEP_EDGE", "one");
    world.edges[0] =
        Edge::start(config.set("KEEPSTEP_LEASE", "1500ms").set("KEEPSTEP_LEASE_RENEWAL", "500ms")).await;
    world.edges[0].ready().await;
    let alice = world.user("alice");
    let (phone, web) = (alice.phone(0).await, alice.web(1).await);
    web.requests(json!({ "type": "ready" })).await.expect("ready");
    world.edges[0].kill9();
    world.edges[0].restart().await;
    web.gets(json!({ "type": "device", "event": "offline", "device": phone.id })).await;
}

#[tokio::test]
async fn a_registration_that_was_never_finished_is_ended() {
    let quick = Deployment::Stack
        .with("KEEPSTEP_RECONCILE", "200ms")
        .with("KEEPSTEP_SUBS_EXPIRE", "5s")
        .with("KEEPSTEP_EXPIRE_WARNING", "1s");
    let mut world = quick.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, chat) = (alice.phone(0).await, alice.direct(&bob).await);
    phone.says(&chat, "hi").await;
    world.stack.as_mut().unwrap().nsqd.iter_mut().for_each(|nsqd| nsqd.kill9());
    let id = uuid::Uuid::new_v4().to_string();
    let new = json!({ "id": id, "kind": "sub", "name": "web", "platform": "web" });
    assert_eq!(alice.api(0).post("/v1/devices", new).await.status, 503, "its queues can't be made");
    let listed = async || {
        let devices = alice.api(0).get("/v1/devices").await.ok();
        devices["items"].as_array().unwrap().iter().find(|one| one["id"] == id.as_str()).cloned()
    };
    assert_eq!(listed().await.expect("it is noted")["state"], "registering");
    for nsqd in &mut world.stack.as_mut().unwrap().nsqd {
        nsqd.restart().await;
    }
    phone.gets(json!({ "type": "device", "event": "terminated", "device": id })).await;
    wait_until("it to be gone", PATIENCE, || async { listed().await.is_none().then_some(()) }).await;
}
