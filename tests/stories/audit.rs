//! The actions of admins are recorded.

use serde_json::{Value, json};

use super::Deployment;
use super::client::{admin_token, in_seconds, sign};
use crate::support::JWT_SECRET;

fn actions(list: &Value) -> Vec<(String, bool, String)> {
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no list in {list}"));
    let text =
        |item: &Value, field: &str| item[field].as_str().unwrap_or_else(|| panic!("{item}")).to_owned();
    items.iter().map(|item| (text(item, "action"), item["dry_run"] == true, text(item, "result"))).collect()
}

pub async fn what_admins_do_is_written_down(on: Deployment) {
    let world = on.start().await;
    let alice = world.user("alice");
    let phone = alice.phone(0).await;
    let secret_word = "nobody-else-shall-read-this";
    let chat = alice.group("said").await;
    phone.says(&chat, secret_word).await;
    let (first, path) = (world.admin(), format!("/admin/v1/devices/{}", phone.id));
    let other = json!({ "sub": "other.admin", "admin": true, "exp": in_seconds(600) });
    let second = world.api(1, &sign(&other, JWT_SECRET));

    first.delete(&format!("{path}?dry_run=true")).await.with(200);
    second.post(&format!("/admin/v1/users/{}/kick", alice.name), json!({})).await.with(200);
    second.post("/admin/v1/users/no%20name/kick", json!({})).await.problem(400, "bad_field");
    first.post("/admin/v1/channels/sweep?dry_run=true", json!({})).await.with(200);
    first.delete("/admin/v1/devices/not-an-id").await.problem(400, "bad_field");
    first.delete(&format!("{path}?dry_run=perhaps")).await.problem(400, "bad_field");
    let termination = first.delete(&path).await.with(202)["termination"]["id"].clone();
    let nobodys = uuid::Uuid::new_v4().to_string();
    first.delete(&format!("/admin/v1/devices/{nobodys}")).await.problem(404, "not_found");

    // The newest first, from any edge.
    let log = second.get("/admin/v1/audit").await.with(200);
    let done = |action: &str, dry_run, result: &str| (action.to_owned(), dry_run, result.to_owned());
    assert_eq!(
        actions(&log),
        [
            done("device.end", false, "refused"),
            done("device.end", false, "ok"),
            done("device.end", false, "refused"),
            done("device.end", false, "refused"),
            done("channels.sweep", true, "ok"),
            done("user.kick", false, "refused"),
            done("user.kick", false, "ok"),
            done("device.end", true, "ok"),
        ]
    );
    let items = log["items"].as_array().unwrap();
    assert_eq!((&items[0]["code"], &items[0]["device"]), (&json!("not_found"), &json!(nobodys)));
    assert_eq!((&items[1]["user"], &items[1]["device"]), (&json!(alice.name), &json!(phone.id)));
    assert_eq!(items[1]["detail"], json!({ "termination": termination }));
    assert_eq!((&items[3]["code"], &items[3]["device"]), (&json!("bad_field"), &Value::Null));
    assert_eq!(items[4]["detail"], json!({ "would_remove": 0, "left": 0 }));
    assert_eq!((&items[6]["who"], &items[6]["user"]), (&json!("other.admin"), &json!(alice.name)));
    assert_eq!(items[7]["detail"]["queues"], 1);
    assert!(items[7]["detail"]["undelivered"].is_u64(), "{log}");
    assert!(items.iter().all(|item| item["at"].is_u64() && item["edge"].is_string()), "{log}");

    // Page by page, and only what is wanted.
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = first.get(&format!("/admin/v1/audit?limit=3{after}")).await.with(200);
        paged.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(paged, *items);
    for (query, count) in [
        ("who=other.admin", 2),
        ("action=channels.sweep", 1),
        ("who=other.admin&action=device.end", 0),
        ("since=9007199254740991", 0),
        (&format!("since={}", items[4]["at"]), 5),
    ] {
        let found = first.get(&format!("/admin/v1/audit?{query}")).await.with(200);
        // (What came in the same millisecond belongs to it.)
        let found = found["items"].as_array().unwrap().len();
        assert!(
            if query.starts_with("since=1") { found >= count } else { found == count },
            "{query}: {found}"
        );
    }
    let export = first.get("/admin/v1/audit?format=jsonl").await;
    assert!(export.head.contains("content-type: application/x-ndjson"), "{}", export.head);
    let lines: Vec<Value> = export.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, *items);

    // No token, no content, and nothing that wasn't understood.
    for secret in
        [admin_token().as_str(), phone.api().token.as_deref().unwrap(), secret_word, "not-an-id", "no name"]
    {
        assert!(!export.text.contains(secret), "{secret}");
    }
}

/// An admin tries to flush a change out of the log: by refusals, dry runs, further changes, and all of them at once.
pub async fn what_an_admin_changed_cannot_be_washed_away(on: Deployment) {
    let bounds = on.with("KEEPSTEP_AUDIT_KEEP", "3").with("KEEPSTEP_AUDIT_ATTEMPTS_KEEP", "5");
    let world = bounds.with("KEEPSTEP_AUDIT_ATTEMPTS_PER_MINUTE", "10").start().await;
    let (admin, alice) = (world.admin(), world.user("alice"));
    let phone = alice.phone(0).await;
    let users = async || {
        let log = admin.get("/admin/v1/audit?limit=1000").await.with(200);
        let items = log["items"].as_array().unwrap().clone();
        let (attempts, changes): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| item["dry_run"] == true || item["result"] == "refused");
        (attempts, changes)
    };
    admin.post("/admin/v1/users/the-first/kick", json!({})).await.with(200);
    let mut too_often = 0;
    for n in 0..30 {
        let (answer, code) = match n % 2 {
            0 => (admin.post("/admin/v1/users/no%20name/kick", json!({})).await, 400),
            _ => (admin.delete(&format!("/admin/v1/devices/{}?dry_run=true", phone.id)).await, 200),
        };
        match answer.status {
            429 => too_often += 1,
            status => assert_eq!(status, code, "{}", answer.text),
        }
    }
    assert_eq!(too_often, 20, "ten of them a minute");
    let (attempts, changes) = users().await;
    assert_eq!((attempts.len(), changes.len()), (5, 1), "each has room of its own");
    assert_eq!(changes[0]["user"], "the-first");
    // Young changes stay, however many there are, and what couldn't be kept isn't done.
    for n in 1..30 {
        admin.post(&format!("/admin/v1/users/user-{n}/kick"), json!({})).await.with(200);
    }
    let kick = format!("/admin/v1/users/{}/kick", alice.name);
    admin.post(&kick, json!({})).await.problem(409, "limit_reached");
    let changes = users().await.1;
    assert_eq!(changes.len(), 30);
    assert_eq!(changes[29]["user"], "the-first");
    phone.says(&alice.group("still here").await, "nobody closed this socket").await;
}

pub async fn old_changes_make_room(on: Deployment) {
    let world = on.with("KEEPSTEP_AUDIT_KEEP", "5").with("KEEPSTEP_AUDIT_AGE", "0s").start().await;
    for n in 0..9 {
        world.admin().post(&format!("/admin/v1/users/user-{n}/kick"), json!({})).await.with(200);
    }
    let log = world.admin().get("/admin/v1/audit").await.with(200);
    let users: Vec<&str> =
        log["items"].as_array().unwrap().iter().map(|item| item["user"].as_str().unwrap()).collect();
    assert_eq!(users[..5], ["user-8", "user-7", "user-6", "user-5", "user-4"]);
    // (What was written within the same millisecond isn't old.)
    assert!(users.len() < 9, "{users:?}");
}
