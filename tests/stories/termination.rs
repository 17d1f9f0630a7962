//! Devices are terminated.

use std::time::Duration;

use serde_json::json;

use super::client::{Api, PATIENCE, Socket, admin_token};
use super::device::Device;
use super::user::{User, accepted};
use super::{Deployment, World};
use crate::support::wait_until;

pub async fn whoever_may_ends_a_device_and_nothing_is_left(on: Deployment) {
    let world = on.start().await;
    tokio::join!(
        ended(&world, "by the user", |user, _, _| user.api(1)),
        ended(&world, "by the main", |_, phone, _| phone.api()),
        ended(&world, "by itself", |_, _, web| web.api()),
        ended(&world, "by an admin", |user, _, _| Api { token: Some(admin_token()), ..user.api(0) }),
    );
}

/// Checks one whole termination, with the device connected and behind.
async fn ended(world: &World, who: &str, by: impl Fn(&User, &Device, &Device) -> Api) {
    let (alice, bob) =
        (world.user(&who.replace(' ', "-")), world.user(&format!("bob-{}", who.replace(' ', "-"))));
    let (phone, mut web, bobs) = (alice.phone(0).await, alice.web(1).await, bob.phone(1).await);
    let (chat, group) = (alice.direct(&bob).await, alice.group("us").await);
    alice.invites(&group, &bob).await;
    for chat in [&chat, &group] {
        bobs.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
        web.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
    }
    web.stops_acking();
    bobs.says_many(&chat, "one", 10).await;
    bobs.says_many(&group, "two", 10).await;
    web.hears(&group, 10).await;
    if world.stack.is_some() {
        assert_eq!(world.traces(&web.id).await.iter().filter(|trace| trace.starts_with("nsqd")).count(), 2);
    }

    let api = by(&alice, &phone, &web);
    let path = if who == "by an admin" { "/admin/v1/devices" } else { "/v1/devices" };
    let answer = api.delete(&format!("{path}/{}", web.id)).await.with(202);
    let termination =
        answer["termination"]["id"].as_str().unwrap_or_else(|| panic!("{who}: {answer}")).to_owned();
    assert_eq!(web.closed().await.0, 4403, "{who}");
    phone.gets(json!({ "type": "device", "event": "terminated", "device": web.id })).await;
    // From the answer on its token is refused by every edge.
    for edge in world.addresses().iter() {
        assert_eq!(Socket::open(edge, &web.token).await.refused().await.0, 4403, "{who}");
        let refused = Api::new(edge, &web.token).get("/v1/chats").await;
        assert!([401, 403].contains(&refused.status), "{who}: {}", refused.text);
    }

    let done = world.terminated(&alice.api(0), &termination).await;
    assert_eq!(done["unreachable"], json!([]), "{who}: {done}");
    assert!(done["receipt"].is_object(), "{who}: {done}");
    if world.stack.is_some() {
        assert_eq!(done["channels_deleted"], 2, "{who}: {done}");
    }
    world.stays_without_traces(&web.id, Duration::from_secs(5)).await;
    let devices = alice.api(1).get("/v1/devices").await.ok();
    assert!(
        !devices["items"].as_array().unwrap().iter().any(|device| device["id"] == web.id),
        "{who}: {devices}"
    );
    // Nobody else has lost anything, and a new device begins anew.
    bobs.says(&chat, "still there?").await;
    phone.hears(&chat, 11).await;
    let web = alice.web(0).await;
    assert_eq!(web.memory().chat(&chat).unwrap().from, 11);
    assert_eq!(Socket::open(&world.addresses()[0], &phone.token).await.frame().await["type"], "welcome");
}

/// Between the first check and the second, more than a second later, its receipt already names what is gone. (A machine
/// that stopped for that second has seen nothing: then again, with another device.)
pub async fn a_receipt_fills_while_the_work_goes_on(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    for said in 1..=5 {
        let web = alice.web(0).await;
        bobs.says(&chat, "hello").await;
        web.hears(&chat, said).await;
        let id = accepted(&phone.api(), &web.id).await;
        let seen = wait_until("a queue on the receipt", PATIENCE, || async {
            let termination = alice.api(0).get(&format!("/v1/terminations/{id}")).await.ok();
            (termination["channels_deleted"] == 1 || termination["state"] == "done").then_some(termination)
        })
        .await;
        let done = world.terminated(&alice.api(0), &id).await;
        assert_eq!(done["receipt"]["channels"], seen["receipt"]["channels"], "{done}");
        if seen["state"] == "accepted" {
            return;
        }
    }
    panic!("each receipt was seen only when it was whole");
}

pub async fn nobody_else_ends_a_device(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, web, bobs) = (alice.phone(0).await, alice.web(1).await, bob.phone(0).await);
    let other = alice.web(0).await;
    // Bob, by token of his own and of his phone: it isn't there for him.
    for api in [bob.api(0), bob.api(1), bobs.api()] {
        api.delete(&format!("/v1/devices/{}", web.id)).await.problem(404, "not_found");
    }
    // A sub ends itself alone.
    web.api().delete(&format!("/v1/devices/{}", phone.id)).await.problem(403, "forbidden");
    web.api().delete(&format!("/v1/devices/{}", other.id)).await.problem(403, "forbidden");
    world.stranger().delete(&format!("/v1/devices/{}", web.id)).await.problem(401, "unauthorized");
    for user in [&alice, &bob] {
        user.api(0).delete(&format!("/admin/v1/devices/{}", web.id)).await.problem(403, "forbidden");
    }
    let nobodys = uuid::Uuid::new_v4();
    alice.api(0).delete(&format!("/v1/devices/{nobodys}")).await.problem(404, "not_found");
    // All of them live.
    let chat = alice.direct(&bob).await;
    bobs.says(&chat, "hello").await;
    for device in [&phone, &web, &other] {
        device.hears(&chat, 1).await;
    }

    // Ended twice it is one termination, and it is not for others to look at.
    let first = accepted(&alice.api(0), &other.id).await;
    let again = phone.api().delete(&format!("/v1/devices/{}", other.id)).await;
    assert!(again.status == 404 || again.body["termination"]["id"] == json!(first), "{}", again.text);
    bob.api(0).get(&format!("/v1/terminations/{first}")).await.problem(404, "not_found");
    world.terminated(&phone.api(), &first).await;
}

pub async fn an_ended_device_gets_no_further_frame(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (_phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    let mut web = alice.web(1).await;
    bobs.says_many(&chat, "before", 5).await;
    web.hears(&chat, 5).await;
    let talk = async {
        for n in 0..20 {
            bobs.says_many(&chat, &format!("part {n}"), 10).await;
        }
    };
    let end = async {
        let termination = alice.ends(&web.id).await;
        let from_now = tokio::time::Instant::now();
        let (code, _) = web.closed().await;
        assert_eq!(code, 4403);
        assert!(from_now.elapsed() < Duration::from_secs(5), "the socket outlived its device");
        termination
    };
    let ((), termination) = tokio::join!(talk, end);
    // Every other way in is closed as well: send, read, history, by socket (there is none) or by HTTP.
    let path = format!("/v1/chats/{chat}/messages");
    let body = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": "from the grave" });
    for edge in world.addresses().iter() {
        let ghost = Api::new(edge, &web.token);
        for refused in [
            ghost.post(&path, body.clone()).await,
            ghost.get(&path).await,
            ghost.get("/v1/offsets").await,
            ghost.get("/v1/devices").await,
            ghost.post("/v1/chats", json!({ "kind": "group", "name": "ghosts" })).await,
            ghost.post("/v1/devices", json!({ "kind": "sub", "name": "n", "platform": "p" })).await,
        ] {
            assert!([401, 403].contains(&refused.status), "{}: {}", refused.asked, refused.text);
            assert!(refused.body["code"].is_string(), "{}", refused.text);
        }
    }
    let done = world.terminated(&alice.api(0), &termination).await;
    assert_eq!(done["id"].as_str().unwrap_or(&termination), termination);
    world.stays_without_traces(&web.id, Duration::from_secs(1)).await;
    assert_eq!(bob.api(0).get(&format!("/v1/chats/{chat}")).await.ok()["head"], 205);
    let items = alice.api(0).get("/v1/devices").await.ok();
    assert_eq!(items["items"].as_array().map(Vec::len), Some(1), "{items}");
    assert_eq!(web.memory().inbox.iter().filter(|frame| frame["type"] == "error").count(), 0);
}
