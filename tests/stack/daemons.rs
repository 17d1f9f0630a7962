//! Tests the tools of the other stories: each daemon starts, dies, comes back with its data, freezes, and is gone when
//! its value is dropped.

use std::path::Path;
use std::time::Duration;

use crate::support::{Aof, Lookupd, Nsqd, Redis, RedisOptions, Stack, http_ask, http_get, wait_until};

#[tokio::test]
async fn redis_keeps_what_it_acknowledged_over_kill_9() {
    let mut redis = Redis::start().await;
    assert_eq!(redis.command(&["SET", "k", "v"]).await.unwrap(), "OK");
    assert_eq!(
        redis.command(&["CONFIG", "GET", "notify-keyspace-events"]).await.unwrap(),
        "notify-keyspace-events\n"
    );
    redis.kill9();
    assert!(redis.command(&["PING"]).await.is_err());
    redis.restart().await;
    assert_eq!(redis.command(&["GET", "k"]).await.unwrap(), "v");
    redis.restart_empty().await;
    assert_eq!(redis.command(&["GET", "k"]).await.unwrap(), "");
    assert!(redis.terminate().await.success());
}

#[tokio::test]
async fn redis_without_aof_forgets() {
    let mut redis = Redis::start_with(RedisOptions { aof: Aof::Off, ..RedisOptions::default() }).await;
    redis.command(&["SET", "k", "v"]).await.unwrap();
    redis.restart().await;
    assert_eq!(redis.command(&["GET", "k"]).await.unwrap(), "");
}

#[tokio::test]
async fn a_frozen_redis_answers_after_it_thaws() {
    let redis = Redis::start().await;
    redis.sigstop();
    let ask = tokio::time::timeout(Duration::from_millis(300), redis.command(&["PING"]));
    assert!(ask.await.is_err(), "a frozen Redis must not answer");
    redis.sigcont();
    assert_eq!(redis.command(&["PING"]).await.unwrap(), "PONG");
}

#[tokio::test]
async fn nsqd_registers_and_comes_back_on_the_same_ports() {
    let lookupd = Lookupd::start().await;
    let mut nsqd = Nsqd::start(Some(&lookupd)).await;
    let (http, tcp) = (nsqd.http(), nsqd.tcp());
    nsqd.post("/topic/create?topic=t", "").await;
    nsqd.post("/channel/create?topic=t&channel=c", "").await;
    nsqd.post("/pub?topic=t", "hello").await;
    listed(&lookupd, &nsqd).await;

    assert!(nsqd.terminate().await.success());
    nsqd.restart().await;
    assert_eq!((nsqd.http(), nsqd.tcp()), (http.clone(), tcp));
    let depth = || async {
        let stats = nsqd.stats(Some("t")).await;
        (stats["topics"][0]["channels"][0]["depth"] == 1).then_some(())
    };
    wait_until("the message to be there again", Duration::from_secs(5), depth).await;

    nsqd.kill9();
    assert!(http_get(&http, "/ping").await.is_err());
    nsqd.restart_empty().await;
    assert_eq!(nsqd.stats(None).await["topics"], serde_json::json!([]));
}

#[tokio::test]
async fn nsqd_runs_with_the_configuration_of_production() {
    let nsqd = Nsqd::start(None).await;
    // Over a mebibyte passes, and it is on disk, not in memory.
    nsqd.post("/pub?topic=t", &"x".repeat(1_100_000)).await;
    let stats = nsqd.stats(Some("t")).await;
    assert_eq!(stats["topics"][0]["depth"], 1);
    assert_eq!(stats["topics"][0]["backend_depth"], 1);
}

#[tokio::test]
async fn lookupd_comes_back_on_the_same_ports_and_remembers_nothing() {
    let mut lookupd = Lookupd::start().await;
    let first = Nsqd::start(Some(&lookupd)).await;
    listed(&lookupd, &first).await;
    drop(first);
    lookupd.kill9();
    lookupd.restart().await;
    let (_, body) = http_ask(&lookupd.http(), "/nodes").await;
    assert_eq!(body, r#"{"producers":[]}"#);
    let second = Nsqd::start(Some(&lookupd)).await;
    listed(&lookupd, &second).await;
}

#[tokio::test]
async fn nothing_is_left_when_a_stack_is_dropped() {
    let mut stack = Stack::start().await;
    let mut pids = vec![stack.redis.process().pid(), stack.lookupd.process().pid()];
    pids.extend(stack.nsqd.iter_mut().map(|nsqd| nsqd.process().pid()));
    stack.nsqd[0].sigstop();
    drop(stack);
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} still runs");
    }
}

async fn listed(lookupd: &Lookupd, nsqd: &Nsqd) {
    let (http, tcp) = (lookupd.http(), nsqd.tcp());
    let port = format!("\"tcp_port\":{}", tcp.rsplit(':').next().unwrap());
    let ask = || async { http_get(&http, "/nodes").await.ok()?.1.contains(&port).then_some(()) };
    wait_until("nsqlookupd to list the nsqd", Duration::from_secs(10), ask).await;
}
