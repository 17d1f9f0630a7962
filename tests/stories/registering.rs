//! Rates of registering and terminating devices: each costs a queue for each of the user's chats, and leaves a receipt.

use serde_json::json;

use super::Deployment;
use super::client::{Answer, PATIENCE, raw_http};
use super::user::{User, id};
use crate::support::wait_until;

async fn registers(user: &User, device: &str) -> Answer {
    let body = json!({ "kind": "sub", "name": "a loop", "platform": "tests", "id": device });
    user.api(1).post("/v1/devices", body).await
}

/// Returns the `Retry-After` of a 429, in seconds.
fn too_many(answer: Answer) -> u64 {
    let after = answer.head.lines().find_map(|line| line.strip_prefix("retry-after: ").map(str::to_owned));
    answer.problem(429, "too_many_requests");
    after.expect("a Retry-After").parse().expect("whole seconds")
}

pub async fn registrations_are_limited_and_ended_ones_count(on: Deployment) {
    let world = on.with("KEEPSTEP_DEVICES_PER_HOUR", "4").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.phone(0).await;
    let new = || uuid::Uuid::new_v4().to_string();
    let mut last = String::new();
    for _ in 0..3 {
        last = new();
        registers(&alice, &last).await.with(201);
        alice.ends(&last).await;
    }
    // Over the limit, whatever became of those before; what was refused is not there.
    let refused = new();
    for _ in 0..2 {
        let after = too_many(registers(&alice, &refused).await);
        assert!((3000..=3600).contains(&after), "{after}");
    }
    // What is refused anyway isn't counted, and says why.
    let another = json!({ "kind": "main", "name": "another", "platform": "tests" });
    alice.api(0).post("/v1/devices", another).await.problem(409, "main_exists");
    let listed = alice.api(0).get("/v1/devices").await.ok();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    // A page that wants to be linked waits for room.
    let body = json!({ "name": "Firefox", "platform": "web" });
    let link = world.stranger().post("/v1/links", body).await.with(201);
    let text = |name: &str| link[name].as_str().unwrap_or_else(|| panic!("{link}"));
    let approve = format!("/v1/links/{}/approve", text("code"));
    too_many(phone.api().post(&approve, json!({ "approve": true })).await);
    let ask = format!(
        "GET /v1/links/{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Link-Secret: {}\r\n\r\n",
        text("link"),
        text("secret")
    );
    let waits = raw_http(&world.addresses()[0], ask.as_bytes()).await.expect("an answer").ok();
    assert_eq!(waits["state"], "pending");
    // Who registers again what is there is not held up, nor is anybody else.
    let body = json!({ "kind": "main", "name": "Phone", "platform": "tests", "id": phone.id });
    alice.api(0).post("/v1/devices", body).await.with(200);
    registers(&bob, &new()).await.with(201);
    registers(&bob, &last).await.problem(409, "conflict");
}

pub async fn ends_are_limited(on: Deployment) {
    let world = on.with("KEEPSTEP_CREATES_PER_MINUTE", "5").start().await;
    let alice = world.user("alice");
    let sub = alice.registers("sub").await;
    let path = format!("/v1/devices/{}", sub.id);
    let mut ended = Vec::new();
    for _ in 0..5 {
        ended.push(id(&alice.api(0).delete(&path).await.with(202)["termination"]));
    }
    ended.dedup();
    assert_eq!(ended.len(), 1, "one and the same");
    assert!((1..=60).contains(&too_many(alice.api(1).delete(&path).await)));
    let done = format!("/v1/terminations/{}", ended[0]);
    wait_until("the end to be done", PATIENCE, || async {
        (alice.api(0).get(&done).await.ok()["state"] == "done").then_some(())
    })
    .await;
}
