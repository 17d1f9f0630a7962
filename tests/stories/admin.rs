//! The admin's views and actions.

use serde_json::{Value, json};

use super::Deployment;
use super::client::PATIENCE;
use super::world::{Pair, channel, topic};
use crate::support::wait_until;

/// Returns the only queue of a device from the admin API.
async fn view(world: &super::World, device: &str) -> Value {
    let channels = world.admin().get(&format!("/admin/v1/devices/{device}/channels")).await.with(200);
    let items = channels["items"].as_array().unwrap_or_else(|| panic!("no list in {channels}"));
    assert_eq!(items.len(), 1, "{channels}");
    items[0].clone()
}

pub async fn an_admin_sees_what_waits(on: Deployment) {
    let world = on.start().await;
    let Pair { phone, mut bobs, chat, .. } = world.pair().await;
    phone.says_many(&chat, "read at once", 3).await;
    bobs.hears(&chat, 3).await;
    bobs.acks(&chat, 3).await;
    bobs.leaves().await;
    phone.says_many(&chat, "waiting", 7).await;
    let item = wait_until("7 messages to wait", PATIENCE, || async {
        let item = view(&world, &bobs.id).await;
        (item["depth"] == 7).then_some(item)
    })
    .await;
    assert_eq!((&item["chat"], &item["in_flight"]), (&json!(chat), &json!(0)));
    assert_eq!((&item["cursor"], &item["head"], &item["from"]), (&json!(3), &json!(10), &json!(0)));
    assert_eq!((&item["topic"], &item["channel"]), (&json!(topic(&chat)), &json!(channel(&bobs.id))));
    assert!(item["requeues"].is_u64() && item["oldest_ms"].is_u64(), "{item}");

    // Connected and silent, it holds them in flight, on a known edge.
    bobs.stops_acking();
    bobs.connects(0).await;
    bobs.hears(&chat, 10).await;
    let edge = bobs.memory().welcome["edge"].clone();
    wait_until("7 messages in flight", PATIENCE, || async {
        let item = view(&world, &bobs.id).await;
        let waits = item["depth"].as_u64()? + item["in_flight"].as_u64()?;
        // The embedded broker calls its one node by another name than the edge.
        let known = item["consumer"] == edge || (world.stack.is_none() && item["consumer"].is_string());
        (waits == 7 && known).then_some(())
    })
    .await;
    bobs.acks(&chat, 10).await;
    wait_until("nothing to wait", PATIENCE, || async {
        let item = view(&world, &bobs.id).await;
        (item["depth"] == 0 && item["in_flight"] == 0 && item["oldest_ms"] == Value::Null).then_some(())
    })
    .await;
    let overview = world.admin().get("/admin/v1/overview").await.with(200);
    assert!(overview["edge"].is_string(), "{overview}");
    let nobodys = uuid::Uuid::new_v4();
    world.admin().get(&format!("/admin/v1/devices/{nobodys}/channels")).await.problem(404, "not_found");
}

pub async fn an_admin_ends_a_device_after_a_dry_run(on: Deployment) {
    let world = on.start().await;
    let Pair { bob, phone, mut bobs, chat, .. } = world.pair_of_which_bob_is_away().await;
    phone.says_many(&chat, "waiting", 9).await;
    let path = format!("/admin/v1/devices/{}", bobs.id);
    // What it would do, and what would be lost by it.
    let dry = wait_until("9 messages to wait", PATIENCE, || async {
        let dry = world.admin().delete(&format!("{path}?dry_run=true")).await.with(200);
        (dry["undelivered"] == 9).then_some(dry)
    })
    .await;
    assert!(dry.to_string().contains(&channel(&bobs.id)), "{dry}");
    assert_eq!(
        (&dry["sockets"], &dry["edge"], &dry["queues"]),
        (&json!(0), &Value::Null, &json!(1)),
        "{dry}"
    );
    assert_eq!((&dry["user"], &dry["chats"]), (&json!(bob.name), &json!(1)));
    assert!(dry["oldest_ms"].is_u64(), "{dry}");
    let node = &dry["nodes"][0];
    assert_eq!((&node["queues"], &node["undelivered"]), (&json!(1), &json!(9)), "{dry}");
    assert_eq!(node["node"], dry["channels"][0]["node"]);
    // It did nothing.
    bobs.connects(0).await;
    bobs.hears(&chat, 9).await;
    let dry = world.admin().delete(&format!("{path}?dry_run=true")).await.with(200);
    assert_eq!((&dry["sockets"], &dry["edge"]), (&json!(1), &bobs.memory().welcome["edge"]), "{dry}");
    let answer = world.admin().delete(&path).await.with(202);
    assert_eq!(bobs.closed().await.0, 4403);
    let id = answer["termination"]["id"].as_str().unwrap_or_else(|| panic!("{answer}"));
    world.terminated(&world.admin(), id).await;
    assert_eq!(world.traces(&bobs.id).await, Vec::<String>::new());
    // Once more, it is the same end, and a dry run says which.
    let again = world.admin().delete(&path).await.with(202);
    assert_eq!((&again["termination"]["id"], &again["termination"]["state"]), (&json!(id), &json!("done")));
    let dry = world.admin().delete(&format!("{path}?dry_run=true")).await;
    assert!(dry.text.contains("has been ended") && dry.text.contains(id), "{}", dry.text);
    dry.problem(404, "not_found");
    world
        .admin()
        .delete(&format!("/admin/v1/devices/{}", uuid::Uuid::new_v4()))
        .await
        .problem(404, "not_found");
}

pub async fn an_admin_closes_all_sockets_of_a_user(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (mut phone, mut web, bobs) = (alice.phone(0).await, alice.web(1).await, bob.phone(0).await);
    let kick = async |user: &str| {
        world.admin().post(&format!("/admin/v1/users/{user}/kick"), json!({})).await.with(200)["connected"]
            .clone()
    };
    assert_eq!(kick(&alice.name).await, 2);
    assert_eq!(kick("nobody-at-all").await, 0, "that there was nobody is said");
    assert_eq!((phone.closed().await.0, web.closed().await.0), (4410, 4410));
    // The devices stay, and nobody else was touched.
    phone.connects(1).await;
    web.connects(0).await;
    bobs.requests(json!({ "type": "ping" })).await.expect("Bob is still there");
}
