//! Presence is sent to watchers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::PATIENCE;
use super::device::Device;
use super::user::User;
use super::{Deployment, World};
use crate::support::{stays, wait_until};

/// Watches these users; returns their presence.
async fn watches(device: &Device, users: &[&User]) -> Vec<Value> {
    let users: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
    let ok = device.requests(json!({ "type": "watch", "users": users })).await.expect("it may watch");
    ok["presence"].as_array().unwrap_or_else(|| panic!("{ok}")).clone()
}

fn of(user: &User, online: bool) -> Value {
    json!({ "type": "presence", "user": user.name, "online": online })
}

/// Returns how many frames about a user came.
fn told(device: &Device, user: &User) -> usize {
    std::iter::from_fn(|| device.memory().take(&json!({ "type": "presence", "user": user.name }))).count()
}

async fn strangers(world: &World) -> (User, User, User, User) {
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| world.user(name));
    (alice, bob, carol, dave)
}

pub async fn whoever_watches_is_told_who_comes_and_goes(on: Deployment) {
    let world = on.with("KEEPSTEP_OFFLINE_GRACE", "200ms").start().await;
    let (alice, bob, carol, dave) = strangers(&world).await;
    for user in [&bob, &dave] {
        alice.direct(user).await;
    }
    let (phone, mut bobs, _carols) = (alice.phone(0).await, bob.phone(1).await, carol.phone(1).await);
    let mut daves = dave.registers("main").await;
    // Carol shares no chat with Alice, and nobody knows Erin: neither is told apart from the other.
    let found = watches(&phone, &[&bob, &carol, &dave, &world.user("erin"), &bob]).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((&found[0]["user"], &found[0]["online"]), (&json!(bob.name), &json!(true)));
    assert!(found[0]["last_seen"].as_u64().unwrap() > 1_700_000_000_000, "{found:?}");
    assert_eq!(found[1], json!({ "user": dave.name, "online": false, "last_seen": null }), "never seen");

    let mut web = bob.web(0).await;
    bobs.leaves().await;
    // One of two devices has gone: he is still there.
    daves.connects(1).await;
    let came = phone.gets(of(&dave, true)).await;
    assert!(came["last_seen"].is_u64(), "{came}");
    web.leaves().await;
    let gone = phone.gets(of(&bob, false)).await;
    assert!(gone["last_seen"].as_u64() >= found[0]["last_seen"].as_u64(), "{gone}");
    bobs.connects(0).await;
    phone.gets(of(&bob, true)).await;
    // From one moment to the next, without a word.
    bobs.vanishes().await;
    phone.gets(of(&bob, false)).await;
    // Ended is offline, too.
    bobs.connects(1).await;
    phone.gets(of(&bob, true)).await;
    bob.ends(&bobs.id).await;
    phone.gets(of(&bob, false)).await;

    // Another set is in place of the first.
    assert_eq!(watches(&phone, &[&bob]).await.len(), 1);
    daves.leaves().await;
    let bobs = bob.phone(0).await;
    phone.gets(of(&bob, true)).await;
    assert_eq!(told(&phone, &dave), 0);
    assert_eq!(watches(&phone, &[]).await, Vec::<Value>::new());
    // Carol was never told of, and those who didn't watch were told of nobody.
    assert_eq!((told(&phone, &carol), told(&bobs, &alice)), (0, 0));
}

pub async fn who_comes_and_goes_quickly_is_told_of_once_a_second(on: Deployment) {
    let world = on.start().await;
    let (alice, bob, ..) = strangers(&world).await;
    alice.direct(&bob).await;
    let (phone, mut bobs) = (alice.phone(0).await, bob.registers("main").await);
    let web = alice.web(1).await;
    for device in [&phone, &web] {
        watches(device, &[&bob]).await;
    }
    let begun = Instant::now();
    for n in 0..10 {
        bobs.connects(n).await;
        bobs.leaves().await;
    }
    bobs.connects(1).await;
    for device in [&phone, &web] {
        let (mut shown, mut frames) = (false, 0);
        let mut take = || {
            while let Some(next) = device.memory().take(&json!({ "type": "presence" })) {
                frames += 1;
                assert_eq!(next["online"], !shown, "nothing new");
                shown = !shown;
            }
            shown.then_some(())
        };
        // The last state wins, however many were left out before it. One comes a second, so in this time it has come.
        stays(Duration::from_millis(2_500), async || {
            take();
        })
        .await;
        wait_until("the last state", PATIENCE, async || take()).await;
        let seconds = begun.elapsed().as_secs() + 2;
        assert!(frames <= seconds, "{frames} in {:?}", begun.elapsed());
    }
    bobs.leaves().await;
    phone.gets(of(&bob, false)).await;
    web.gets(of(&bob, false)).await;
}

pub async fn presence_is_for_those_who_share_a_chat(on: Deployment) {
    let world = on.start().await;
    let (alice, bob, carol, _) = strangers(&world).await;
    let group = alice.group("everyone").await;
    alice.invites(&group, &bob).await;
    carol.direct(&bob).await;
    let (mut phone, bobs, mut carols) = (alice.phone(0).await, bob.phone(1).await, carol.phone(0).await);
    assert_eq!(watches(&bobs, &[&alice, &carol]).await.len(), 2);
    assert_eq!(watches(&phone, &[&bob, &carol]).await.len(), 1);
    // Whoever is removed watches the others no longer, nor they him.
    alice.removes(&group, &bob).await;
    bobs.gets(json!({ "type": "chat", "event": "left", "chat": group })).await;
    phone.gets(json!({ "type": "chat", "event": "member_left", "chat": group })).await;
    // (The chats are looked at behind these frames.) Carol, with whom Bob shares another chat, is watched all the while.
    let begun = Instant::now();
    loop {
        phone.reconnects(0).await;
        let mut quiet = true;
        for _ in 0..2 {
            carols.leaves().await;
            bobs.gets(of(&carol, false)).await;
            carols.connects(1).await;
            bobs.gets(of(&carol, true)).await;
            quiet &= told(&bobs, &alice) == 0;
        }
        if quiet {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "Bob watches Alice for ever");
    }
    assert_eq!(watches(&phone, &[&bob]).await, Vec::<Value>::new());
    assert_eq!(watches(&bobs, &[&alice, &carol]).await.len(), 1);
}

pub async fn watching_has_bounds(on: Deployment) {
    let world = on.with("KEEPSTEP_WATCHES_PER_MINUTE", "4").with("KEEPSTEP_WATCHED_USERS", "3").start().await;
    let (alice, bob, carol, dave) = strangers(&world).await;
    alice.direct(&bob).await;
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(0).await);
    assert_eq!(watches(&phone, &[&bob]).await.len(), 1);
    let users = |users: Value| json!({ "type": "watch", "users": users });
    let many = [&bob, &carol, &dave, &alice].map(|user| user.name.clone());
    phone.is_refused(users(json!(many)), "limit_reached").await;
    for bad in [json!(null), json!("bob"), json!([1]), json!(["a b"]), json!([""])] {
        phone.is_refused(users(bad), "bad_field").await;
    }
    phone.is_refused(json!({ "type": "watch" }), "bad_field").await;
    phone.is_refused(json!({ "type": "watch", "users": [], "chat": "x" }), "bad_field").await;
    phone.puts(json!({ "type": "watch", "users": [bob.name] }));
    let refused = phone.gets(json!({ "type": "error", "frame": "watch" })).await;
    assert_eq!(refused["error"]["code"], "bad_field");
    for _ in 0..3 {
        watches(&phone, &[&bob, &carol, &dave]).await;
    }
    phone.is_refused(users(json!([bob.name])), "too_many_requests").await;
    // What was refused changed nothing.
    bobs.leaves().await;
    phone.gets(of(&bob, false)).await;
}

pub async fn a_reload_is_told_to_nobody(on: Deployment) {
    let world = on.with("KEEPSTEP_OFFLINE_GRACE", "2s").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.direct(&bob).await;
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(1).await);
    let mut web = alice.web(1).await;
    phone.gets(json!({ "type": "device", "event": "online", "device": web.id })).await;
    assert_eq!(watches(&phone, &[&bob]).await[0]["online"], true);
    for edge in 0..3 {
        web.leaves().await;
        bobs.vanishes().await;
        web.connects(edge).await;
        bobs.connects(edge).await;
    }
    let news = [
        json!({ "type": "device", "event": "offline" }),
        json!({ "type": "device", "event": "online" }),
        json!({ "type": "presence" }),
    ];
    let heard = || news.iter().find_map(|news| phone.memory().take(news));
    stays(Duration::from_secs(3), async || assert_eq!(heard(), None)).await;

    // Who doesn't come back is told of after a while, and who is ended, at once.
    let begun = Instant::now();
    web.leaves().await;
    bobs.leaves().await;
    phone.gets(json!({ "type": "device", "event": "offline", "device": web.id })).await;
    assert!(begun.elapsed() > Duration::from_millis(1_500), "told after {:?}", begun.elapsed());
    phone.gets(of(&bob, false)).await;
    bobs.connects(0).await;
    phone.gets(of(&bob, true)).await;
    web.connects(0).await;
    phone.gets(json!({ "type": "device", "event": "online", "device": web.id })).await;
    // Looked at once a second, so a second may be in it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    alice.ends(&web.id).await;
    bob.ends(&bobs.id).await;
    phone.gets(json!({ "type": "device", "event": "terminated", "device": web.id })).await;
    phone.gets(of(&bob, false)).await;
    assert!(begun.elapsed() < Duration::from_millis(1_500), "told after {:?}", begun.elapsed());
}
