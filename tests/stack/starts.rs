//! An edge starts while a server is down, and beside one that it must not trust.

use std::time::Duration;

use crate::stories::start::refused;
use crate::support::{Aof, Edge, EdgeConfig, Nsqd, PATIENCE, Redis, RedisOptions, http_ask, wait_until};

#[tokio::test]
async fn an_nsqd_that_is_down_at_the_start_heals() {
    let (redis, mut nsqd) = (Redis::start().await, Nsqd::start(None).await);
    let address = nsqd.http();
    let config =
        EdgeConfig::on(&redis, [&nsqd], None).set("KEEPSTEP_NSQD", format!("{address}?tcp={}", nsqd.tcp()));
    nsqd.kill9();
    // `start` waits for /healthz: it is alive.
    let edge = Edge::start(config).await;
    let (status, said) = http_ask(&edge.ops(), "/readyz").await;
    assert_eq!(status, 200, "{said}");
    assert!(said.contains(&address), "{address} isn't named: {said}");
    nsqd.restart().await;
    wait_until("the note to go", PATIENCE, || async {
        let (status, said) = http_ask(&edge.ops(), "/readyz").await;
        (status == 200 && said.contains(r#""notes":[]"#)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_nsqd_that_is_named_by_its_tcp_port_is_told_of_at_the_start() {
    let (redis, nsqd) = (Redis::start().await, Nsqd::start(None).await);
    let config =
        EdgeConfig::on(&redis, [&nsqd], None).set("KEEPSTEP_NSQD", nsqd.tcp()).set("KEEPSTEP_LOG", "info");
    let mut edge = Edge::start(config).await;
    let (status, said) = http_ask(&edge.ops(), "/readyz").await;
    assert!(status == 200 && said.contains("KEEPSTEP_NSQD takes its HTTP address"), "{said}");
    wait_until("the log to say it once", Duration::from_secs(10), || {
        let log = edge.process().log();
        async move { (log.matches("KEEPSTEP_NSQD takes its HTTP address").count() == 1).then_some(()) }
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_is_down_at_the_start_heals() {
    let (mut redis, nsqd) = (Redis::start().await, Nsqd::start(None).await);
    let config = EdgeConfig::on(&redis, [&nsqd], None);
    redis.kill9();
    let edge = Edge::start(config).await;
    let (status, said) = http_ask(&edge.ops(), "/readyz").await;
    assert_eq!(status, 503, "{said}");
    redis.restart().await;
    edge.ready().await;
}

#[tokio::test]
async fn a_redis_that_may_forget_is_refused() {
    let nsqd = Nsqd::start(None).await;
    let forgetful = Redis::start_with(RedisOptions { aof: Aof::Off, ..RedisOptions::default() }).await;
    let config = EdgeConfig::on(&forgetful, [&nsqd], None);
    refused(config.clone(), &["appendonly"]).await;
    // Unless somebody says that it is all right.
    Edge::start(config.set("KEEPSTEP_ALLOW_VOLATILE_STORE", "true")).await.ready().await;
    let evicting = RedisOptions {
        args: ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"].map(str::to_owned).into(),
        ..RedisOptions::default()
    };
    let evicting = Redis::start_with(evicting).await;
    refused(EdgeConfig::on(&evicting, [&nsqd], None), &["noeviction"]).await;
}

#[tokio::test]
async fn an_nsqd_that_comes_late_or_with_nothing_is_claimed() {
    let (redis, mut late, nsqd) = (Redis::start().await, Nsqd::start(None).await, Nsqd::start(None).await);
    let addresses = format!("{}?tcp={},{}", late.http(), late.tcp(), nsqd.http());
    let config = EdgeConfig::on(&redis, [&nsqd], None).set("KEEPSTEP_NSQD", addresses);
    late.kill9();
    let _edge = Edge::start(config).await;
    let claimed = async |nsqd: &Nsqd| {
        wait_until("the claim", Duration::from_secs(10), || async {
            nsqd.stats(Some("keepstep.ks")).await["topics"][0].is_object().then_some(())
        })
        .await;
    };
    claimed(&nsqd).await;
    late.restart().await;
    claimed(&late).await;
    late.outlives_its_second().await;
    late.restart_empty().await;
    claimed(&late).await;
}
