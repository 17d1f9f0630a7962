//! Wall clocks that jump: Redis's, and an edge's.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stories::Deployment;
use crate::stories::client::PATIENCE;
use crate::stories::device::Device;
use crate::stories::user::User;
use crate::support::{Edge, WallClock, stays, wait_until};

async fn listed(user: &User, edge: usize, device: &Device) -> Option<Value> {
    let devices = user.api(edge).get("/v1/devices").await.ok();
    devices["items"].as_array().expect("a list").iter().find(|one| one["id"] == device.id.as_str()).cloned()
}

#[tokio::test]
async fn no_socket_closes_when_the_clock_of_redis_jumps() {
    let world = Deployment::Stack.with("KEEPSTEP_RECONCILE", "1s").on_a_clock_of_its_own().start().await;
    let redis = &world.stack.as_ref().unwrap().redis;
    let (mut phones, mut webs) = (Vec::new(), Vec::new());
    for n in 0..12 {
        let user = world.user(&format!("u{n}"));
        phones.push(user.phone(n).await);
        // Whoever isn't ready needs its phone: it mustn't look offline for a moment.
        webs.push(user.web(n + 1).await);
    }
    let all_stay = async |long| {
        stays(long, async || {
            for device in phones.iter().chain(&webs) {
                let memory = device.memory();
                assert_eq!((memory.closed.as_ref(), memory.lost), (None, false), "{}", device.id);
            }
        })
        .await;
    };
    let offline = || {
        let told = json!({ "type": "device", "event": "offline" });
        phones.iter().chain(&webs).filter(|device| device.memory().take(&told).is_some()).count()
    };
    for clock in ["+30", "+0", "+1h", "+8d", "+0", "-30", "-1h", "+0"] {
        redis.set_clock(clock).await;
        all_stay(Duration::from_secs(3)).await;
    }
    // For longer than a lease.
    all_stay(Duration::from_secs(7)).await;
    assert_eq!(offline(), 0, "told to be offline");
}

#[tokio::test]
async fn who_went_is_offline_although_the_clock_of_redis_was_set_back() {
    let mut world = Deployment::Stack.with("KEEPSTEP_RECONCILE", "1s").on_a_clock_of_its_own().start().await;
    let alice = world.user("alice");
    let (phone, web) = (alice.phone(0).await, alice.web(1).await);
    web.requests(json!({ "type": "ready" })).await.expect("ready");
    world.edges[0].kill9();
    world.stack.as_ref().unwrap().redis.set_clock("-1h").await;
    // The lease, as long until its edge is dead, and that again for a crowded machine.
    let bound = Duration::from_secs(24);
    let told = web.gets(json!({ "type": "device", "event": "offline", "device": phone.id }));
    tokio::time::timeout(bound, told).await.expect("in time");
    let device = listed(&alice, 1, &phone).await.expect("the phone");
    assert_eq!(device["online"], false, "{device}");
    assert!(device["last_seen"].as_u64().unwrap() <= now_of(&world).await, "not in the future: {device}");
}

async fn now_of(world: &crate::stories::World) -> u64 {
    let time = world.stack.as_ref().unwrap().redis.command(&["TIME"]).await.unwrap();
    1000 * time.lines().next().unwrap().parse::<u64>().unwrap() + 999
}

#[tokio::test]
async fn a_jump_of_the_clock_ends_no_device_without_the_days_between_warning_and_end() {
    let world = Deployment::Stack
        .with("KEEPSTEP_RECONCILE", "200ms")
        .with("KEEPSTEP_SUBS_EXPIRE", "10d")
        .on_a_clock_of_its_own()
        .start()
        .await;
    let redis = &world.stack.as_ref().unwrap().redis;
    let alice = world.user("alice");
    let (phone, mut web) = (alice.phone(0).await, alice.web(1).await);
    web.leaves().await;
    redis.set_clock("+8d").await;
    phone.gets(json!({ "type": "device", "event": "expiring", "device": web.id })).await;
    for clock in ["+0", "+16d", "+0", "+30d", "+0"] {
        redis.set_clock(clock).await;
        stays(Duration::from_secs(2), async || {
            let device = listed(&alice, 0, &web).await.expect("it is still there");
            assert_eq!(device["state"], "active");
        })
        .await;
    }
    web.connects(0).await;
    assert_eq!(listed(&alice, 0, &web).await.unwrap().get("expires"), None);
}

#[tokio::test]
async fn a_registration_has_its_day_although_the_clock_of_its_edge_is_behind() {
    let mut world = Deployment::Stack.with("KEEPSTEP_RECONCILE", "200ms").start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let clock = WallClock::new(folder.path());
    clock.set("-2d");
    let config = world.stack.as_ref().unwrap().edge().set("KEEPSTEP_RECONCILE", "200ms");
    world.edges[0] =
        Edge::start(clock.env().into_iter().fold(config, |config, (name, value)| config.set(&name, value)))
            .await;
    world.edges[0].ready().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, chat) = (alice.phone(0).await, alice.direct(&bob).await);
    phone.says(&chat, "hi").await;
    world.stack.as_mut().unwrap().nsqd.iter_mut().for_each(|nsqd| nsqd.kill9());
    let id = uuid::Uuid::new_v4().to_string();
    let new = json!({ "id": id, "kind": "sub", "name": "web", "platform": "web" });
    assert_eq!(alice.api(0).post("/v1/devices", new.clone()).await.status, 503, "its queues can't be made");
    stays(Duration::from_secs(3), async || {
        let devices = alice.api(1).get("/v1/devices").await.ok();
        let found = devices["items"].as_array().unwrap().iter().find(|one| one["id"] == id.as_str());
        assert_eq!(found.expect("it is noted")["state"], "registering");
    })
    .await;
    for nsqd in &mut world.stack.as_mut().unwrap().nsqd {
        nsqd.restart().await;
    }
    wait_until("the registration to be finished", PATIENCE, || async {
        let status = alice.api(0).post("/v1/devices", new.clone()).await.status;
        assert_ne!(status, 409, "it was ended");
        matches!(status, 200 | 201).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_same_key_is_the_same_message_although_the_clock_of_redis_jumped() {
    let world = Deployment::Stack.with("KEEPSTEP_RECONCILE", "1s").on_a_clock_of_its_own().start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    let key = uuid::Uuid::new_v4().to_string();
    let first = phone.says_with(&chat, &key, "once").await;
    for clock in ["+8d", "+60d"] {
        world.stack.as_ref().unwrap().redis.set_clock(clock).await;
        assert_eq!(phone.says_with(&chat, &key, "once").await.seq, first.seq, "{clock}");
    }
    let next = phone.says(&chat, "and this").await;
    assert_eq!(next.seq, first.seq + 1);
    bobs.hears(&chat, next.seq).await;
}
