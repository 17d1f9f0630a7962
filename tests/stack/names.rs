//! The name of an edge is one process's.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::stories::Deployment;
use crate::stories::client::PATIENCE;
use crate::support::{Edge, EdgeConfig, Nsqd, Redis, wait_until};

#[tokio::test]
async fn a_second_edge_of_the_same_name_does_not_start() {
    let (redis, nsqd) = (Redis::start().await, Nsqd::start(None).await);
    let config = EdgeConfig::on(&redis, [&nsqd], None).set("KEEPSTEP_EDGE", "one");
    let mut first = Edge::start(config.clone()).await;
    first.ready().await;
    let (status, said) = Edge::refused(config.clone()).await;
    assert_eq!(status.code(), Some(1), "{said}");
    for word in ["`one`", "KEEPSTEP_EDGE"] {
        assert!(said.contains(word), "{word} isn't in: {said}");
    }
    first.ready().await;

    // After an orderly stop the name is free at once, after a kill when its lease is over.
    assert!(first.terminate().await.success());
    let begun = Instant::now();
    let mut second = Edge::start(config.clone()).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    second.ready().await;
    second.kill9();
    second.restart().await;
    second.ready().await;
}

#[tokio::test]
async fn an_edge_whose_name_is_taken_while_it_was_frozen_stops() {
    let mut world = Deployment::Stack.start().await;
    let config = world.stack.as_ref().unwrap().edge().set("KEEPSTEP_EDGE", "one");
    let mut old = std::mem::replace(&mut world.edges[0], Edge::start(config.clone()).await);
    old.kill9();
    world.edges[0].ready().await;
    let alice = world.user("alice");
    let (phone, web) = (alice.phone(0).await, alice.web(1).await);
    web.requests(json!({ "type": "ready" })).await.expect("ready");
    world.edges[0].sigstop();
    let newer = Edge::start(config).await;
    newer.ready().await;
    world.edges[0].sigcont();
    let status = world.edges[0].process().wait(PATIENCE).await.expect("it stops");
    assert_eq!(status.code(), Some(1));
    let said = world.edges[0].process().log();
    assert!(said.contains("`one`") && said.contains("ERROR"), "{said}");
    newer.ready().await;
    drop((phone, newer));
    wait_until("the phone to be offline", PATIENCE, || async {
        let devices = alice.api(1).get("/v1/devices").await.ok();
        let items = devices["items"].as_array().unwrap();
        items.iter().all(|one| one["online"] == (one["kind"] == "sub")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_kick_that_nobody_can_hear_is_no_success() {
    let world = Deployment::Stack.start().await;
    let alice = world.user("alice");
    let mut phone = alice.phone(0).await;
    let redis = &world.stack.as_ref().unwrap().redis;
    let path = format!("/admin/v1/users/{}/kick", alice.name);
    redis.command(&["ACL", "SETUSER", "default", "-publish"]).await.unwrap();
    world.admin().post(&path, json!({})).await.problem(503, "unavailable");
    redis.command(&["ACL", "SETUSER", "default", "+publish"]).await.unwrap();
    let noted = world.admin().get("/admin/v1/audit").await.ok();
    assert_eq!(noted["items"][0]["result"], "refused", "{noted}");
    world.admin().post(&path, json!({})).await.ok();
    assert_eq!(phone.closed().await.0, 4410);
}
