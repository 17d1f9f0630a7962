//! Devices that nobody has seen for long are terminated, after a warning.

use serde_json::{Value, json};

use super::device::Device;
use super::user::User;
use super::world::Setup;
use super::{Deployment, World};

/// Six seconds stand for a month, four for the week before the termination.
fn quick(on: Deployment) -> Setup {
    on.with("KEEPSTEP_RECONCILE", "200ms")
        .with("KEEPSTEP_SUBS_EXPIRE", "6s")
        .with("KEEPSTEP_MAINS_EXPIRE", "6s")
        .with("KEEPSTEP_EXPIRE_WARNING", "4s")
}

async fn listed(user: &User, device: &Device) -> Option<Value> {
    let devices = user.api(0).get("/v1/devices").await.ok();
    let found =
        devices["items"].as_array().expect("a list").iter().find(|one| one["id"] == device.id.as_str());
    found.cloned()
}

fn event(event: &str, device: &Device) -> Value {
    json!({ "type": "device", "event": event, "device": device.id })
}

/// Returns the number of untaken events of one kind about a device.
fn more(phone: &Device, wanted: &Value) -> usize {
    std::iter::from_fn(|| phone.memory().take(wanted)).count()
}

pub async fn a_device_that_nobody_sees_is_told_of_and_ended(on: Deployment) {
    let world = quick(on).start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut web) = (alice.phone(0).await, alice.web(1).await);
    let chat = alice.direct(&bob).await;
    web.gets(json!({ "type": "chat", "event": "joined" })).await;
    phone.says_many(&chat, "said", 3).await;
    web.hears(&chat, 3).await;
    web.leaves().await;
    let told = phone.gets(event("expiring", &web)).await;
    let device = listed(&alice, &web).await.expect("it is still there");
    // Six seconds, and the moment by which the look came late: the warning isn't made shorter by it.
    let after = told["at"].as_u64().unwrap() - device["last_seen"].as_u64().unwrap();
    assert!((6_000..16_000).contains(&after), "{after}");
    assert_eq!(device["expires"], told["at"]);
    phone.says(&chat, "while it is away").await;
    let ended = phone.gets(event("terminated", &web)).await;
    assert!(ended["at"].as_u64() >= told["at"].as_u64(), "not before it was told: {ended}");
    assert_eq!(more(&phone, &event("expiring", &web)), 0, "told once");
    web.opens(0).await;
    assert_eq!(web.closed().await.0, 4403);
    gone(&world, &alice, &web).await;
    // The phone is online, and so it never expires.
    phone.says(&chat, "still here").await;
}

async fn gone(world: &World, user: &User, device: &Device) {
    crate::support::wait_until("nothing to be left", super::client::PATIENCE, || async {
        (listed(user, device).await.is_none() && world.traces(&device.id).await.is_empty()).then_some(())
    })
    .await;
}

pub async fn a_device_that_is_seen_in_time_stays(on: Deployment) {
    let world = quick(on).start().await;
    let alice = world.user("alice");
    let phone = alice.phone(0).await;
    let (mut back, mut other) = (alice.web(1).await, alice.web(0).await);
    back.leaves().await;
    let first = phone.gets(event("expiring", &back)).await;
    other.leaves().await;
    back.connects(0).await;
    assert_eq!(listed(&alice, &back).await.unwrap().get("expires"), None);
    // The other one left later, so its end comes after the one that was told of this one.
    let ended = phone.gets(event("terminated", &other)).await;
    assert!(ended["at"].as_u64() > first["at"].as_u64());
    assert!(listed(&alice, &back).await.is_some_and(|device| device["state"] == "active"));
    assert_eq!(more(&phone, &event("expiring", &back)), 0);
    // And when it goes again, all begins anew.
    back.leaves().await;
    let second = phone.gets(event("expiring", &back)).await;
    assert!(second["at"].as_u64() > first["at"].as_u64());
    back.connects(1).await;
    assert_eq!(more(&phone, &event("terminated", &back)), 0);
}
