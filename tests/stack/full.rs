//! Redis is out of memory: it refuses writes, and nobody loses data.

use std::time::Duration;

use serde_json::json;

use crate::stories::user::accepted;
use crate::stories::world::Pair;
use crate::stories::{Deployment, World};
use crate::support::{PATIENCE, stays, wait_for, wait_until};

/// Many times as long as a lease.
const LONG: Duration = Duration::from_secs(8);

async fn has_memory(world: &World, bytes: &str) {
    let redis = &world.stack.as_ref().unwrap().redis;
    assert_eq!(redis.command(&["CONFIG", "SET", "maxmemory", bytes]).await.unwrap(), "OK");
}

async fn readiness(world: &World, status: u16, what: &str) {
    for edge in 0..world.edges.len() {
        wait_for(what, PATIENCE, async || {
            let (answered, said) = world.readiness(edge).await.ok_or("no answer")?;
            if answered == status && said.contains(what) {
                Ok(())
            } else {
                Err(format!("{answered}: {said}"))
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_redis_that_is_out_of_memory_costs_nobody_the_socket() {
    let timing = Deployment::Stack.with("KEEPSTEP_LEASE", "2s").with("KEEPSTEP_LEASE_RENEWAL", "500ms");
    let world = timing.start().await;
    let Pair { alice, phone, mut bobs, chat, .. } = world.pair().await;
    let mut web = alice.web(1).await;
    bobs.stops_acking();
    phone.says_many(&chat, "before", 20).await;
    for device in [&phone, &bobs, &web] {
        device.hears(&chat, 20).await;
    }
    world.is_confirmed(&chat, PATIENCE).await;
    has_memory(&world, "1").await;
    readiness(&world, 503, "out of memory").await;
    assert_eq!(world.metric("keepstep_store_up").await, 2.0);
    assert_eq!(world.metric("keepstep_store_writable").await, 0.0);

    world.stranger().get("/v1/ready").await.problem(503, "unavailable");

    // What is new is refused, and can be tried again.
    let message = json!({ "type": "send", "chat": chat, "kind": "text", "content": "now?",
        "key": uuid::Uuid::new_v4().to_string() });
    let refused = phone.requests(message.clone()).await.unwrap_err();
    assert_eq!((&refused["code"], &refused["retry"]), (&json!("unavailable"), &json!(true)), "{refused}");
    let head = world.admin().get("/admin/v1/overview").await.ok();
    assert!(head["redis"]["problem"].to_string().contains("out of memory"), "{head}");
    // What is there can be read, and acknowledged: that frees memory.
    alice.api(0).get("/v1/chats").await.with(200);
    let path = format!("/v1/chats/{chat}/messages");
    let page = bobs.api().get(&path).await.with(200);
    assert_eq!(page["items"].as_array().map(Vec::len), Some(20), "{page}");
    bobs.resumes_acking();
    bobs.acks(&chat, 20).await;
    world.is_drained(&chat, &bobs).await;
    let cursor = format!("ks:{{c.{}}}:cursor", chat.replace('-', ""));
    let redis = &world.stack.as_ref().unwrap().redis;
    let of_bob = redis.command(&["HGET", &cursor, &bobs.id.replace('-', "")]).await.unwrap();
    assert_eq!(of_bob, "20", "the acknowledgement is durable");
    // Leases go on, for whoever was there and for whoever comes back.
    bobs.reconnects(0).await;
    stays(LONG, async || {
        for device in [&phone, &bobs, &web] {
            let memory = device.memory();
            assert!(memory.closed.is_none() && !memory.lost, "{:?}", memory.closed);
        }
    })
    .await;
    // And a device can be ended.
    let termination = accepted(&alice.api(0), &web.id).await;
    assert_eq!(web.closed().await.0, 4403);
    world.terminated(&alice.api(1), &termination).await;

    has_memory(&world, "0").await;
    readiness(&world, 200, "true").await;
    wait_until("both edges to count it as writable", PATIENCE, || async {
        (world.metric("keepstep_store_writable").await == 2.0).then_some(())
    })
    .await;
    let sent =
        wait_for("the message to be accepted", PATIENCE, async || phone.requests(message.clone()).await)
            .await;
    assert_eq!(sent["seq"], 21);
    bobs.hears(&chat, 21).await;
}
