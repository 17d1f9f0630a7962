//! An edge's name belongs to one process.

use std::time::{Duration, Instant};

use keepstep::store::redis::{RedisOptions, RedisStore};
use keepstep::store::{Beat, Incarnation, Store, StoreLimits, embedded::EmbeddedStore};
use keepstep::sync::name::EdgeName;
use serde_json::json;

use crate::stories::Deployment;
use crate::stories::client::{PATIENCE, Socket};
use crate::stories::user::User;
use crate::support::{Edge, EdgeConfig, Nsqd, Redis, http_get, wait_until};

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
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let mut phone = alice.phone(0).await;
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "said", 3).await;
    let web = alice.web(1).await;
    let redis = &world.stack.as_ref().unwrap().redis;
    let path = format!("/admin/v1/users/{}/kick", alice.name);
    redis.command(&["ACL", "SETUSER", "default", "-publish"]).await.unwrap();
    world.admin().post(&path, json!({})).await.problem(503, "unavailable");
    // Nor does a web session wait for an answer to what its phone was never asked.
    let refused = web.borrows(&chat, None, 10).await.expect_err("the phone can't be asked");
    assert_eq!(refused["code"], "unavailable", "{refused}");
    redis.command(&["ACL", "SETUSER", "default", "+publish"]).await.unwrap();
    let noted = world.admin().get("/admin/v1/audit").await.ok();
    assert_eq!(noted["items"][0]["result"], "refused", "{noted}");
    world.admin().post(&path, json!({})).await.ok();
    assert_eq!(phone.closed().await.0, 4410);
}

#[tokio::test]
async fn an_edge_whose_name_is_another_s_serves_nobody_before_it_stops() {
    let (mut redis, nsqd) = (Redis::start().await, Nsqd::start(None).await);
    let config = EdgeConfig::on(&redis, [&nsqd], None).set("KEEPSTEP_EDGE", "one");
    let first = Edge::start(config.clone()).await;
    first.ready().await;
    let phone = User::new("alice", [first.listen()].into()).registers("main").await;
    // So the second can't know whose the name is when it starts.
    redis.kill9();
    let mut second = Edge::start(config).await;
    let (status, said) = http_get(&second.ops(), "/readyz").await.expect("it answers");
    assert!(status == 503 && said.contains("`one`") && said.contains("KEEPSTEP_EDGE"), "{status} {said}");
    redis.restart().await;
    let ops = second.ops();
    wait_until("its store to be there", PATIENCE, || async {
        let (_, said) = http_get(&ops, "/readyz").await.ok()?;
        (!said.contains("can't be reached")).then_some(())
    })
    .await;
    assert_eq!(Socket::open(&second.listen(), &phone.token).await.closed().await.0, 4304);
    let status = loop {
        if let Ok((status, said)) = http_get(&second.ops(), "/readyz").await {
            assert_eq!(status, 503, "{said}");
        }
        if let Ok((status, said)) = http_get(&second.listen(), "/v1/devices").await {
            assert!(status == 503 && said.contains("unavailable"), "{status} {said}");
        }
        if let Some(status) = second.process().wait(Duration::from_millis(20)).await {
            break status;
        }
    };
    assert_eq!(status.code(), Some(1));
    first.ready().await;
}

/// The first incarnation of a process.
fn process(edge: &str, process: &str) -> Incarnation {
    Incarnation { edge: edge.to_owned(), process: process.to_owned(), term: 0 }
}

#[tokio::test]
async fn one_late_word_of_a_dead_process_does_not_stop_its_successor() {
    let store = Store::Embedded(EmbeddedStore::new(StoreLimits::default()));
    let dead_after = Duration::from_secs(2);
    let says = async |who: &str| {
        assert!(matches!(store.edge_alive(&process("one", who), dead_after).await.unwrap(), Beat::Heard(_)));
    };
    says("old").await;
    let new = EdgeName::from("one".to_owned());
    let late = async {
        tokio::time::sleep(dead_after / 2).await;
        says("old").await;
    };
    let (claimed, ()) = tokio::join!(new.claim(&store, dead_after), late);
    assert!(claimed.unwrap(), "it said nothing more");
    assert!(!new.waits());
    // One that goes on to say so lives.
    let living = async {
        loop {
            tokio::time::sleep(dead_after / 4).await;
            let heard = store.edge_alive(&process("two", "old"), dead_after).await.unwrap();
            assert!(matches!(heard, Beat::Heard(_)));
        }
    };
    store.edge_alive(&process("two", "old"), dead_after).await.unwrap();
    let other = EdgeName::from("two".to_owned());
    tokio::select! {
        claimed = other.claim(&store, dead_after) => assert!(!claimed.unwrap()),
        () = living => {}
    }
}

#[tokio::test]
async fn a_dead_edge_whose_notes_cannot_be_read_keeps_no_other_waiting() {
    let mut world = Deployment::Stack.start().await;
    let redis = &world.stack.as_ref().unwrap().redis;
    for command in [
        ["ZADD", "ks:{edges}:alive", "1", "a-bad-one"].as_slice(),
        &["HSET", "ks:{edges}:counts", "a-bad-one", "1"],
        &["SADD", "ks:{edges}:sessions:a-bad-one", "nonsense"],
    ] {
        redis.command(command).await.unwrap();
    }
    let alice = world.user("alice");
    let (phone, web) = (alice.phone(0).await, alice.web(1).await);
    web.requests(json!({ "type": "ready" })).await.expect("ready");
    world.edges[0].kill9();
    web.gets(json!({ "type": "device", "event": "offline", "device": phone.id })).await;
}

#[tokio::test]
async fn a_name_is_still_claimed_when_redis_is_away_for_a_moment() {
    let mut redis = Redis::start().await;
    let store = RedisStore::connect(&redis.url(), RedisOptions::default()).await.expect("an address");
    let (store, dead_after) = (Store::Redis(store), Duration::from_secs(3));
    store.edge_alive(&process("one", "old"), dead_after).await.unwrap();
    let new = EdgeName::from("one".to_owned());
    let interruption = async {
        tokio::time::sleep(dead_after / 3).await;
        redis.kill9();
        redis.restart().await;
        Instant::now()
    };
    let (claimed, back) = tokio::join!(new.claim(&store, dead_after), interruption);
    assert!(claimed.expect("it is tried again"), "nobody lives");
    // Whoever had it couldn't say anything meanwhile, and is waited for anew.
    assert!(back.elapsed() > dead_after * 3 / 4, "{:?}", back.elapsed());
}
