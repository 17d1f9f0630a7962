//! Subscriptions that begin on a connection that waited for them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keepstep_nsq::{ConnectOptions, Pool, PoolOptions, Reattach, SubscribeOptions};

use crate::daemons::{Nsqd, eventually};
use crate::inbox::{body, options, publisher, subscribe};

/// A pool of so many connections, and options that use it.
async fn pooled(nsqd: &Nsqd, spare: usize) -> SubscribeOptions {
    let connect = Arc::new(ConnectOptions { heartbeat: Duration::from_secs(1), ..ConnectOptions::default() });
    let pool = Pool::new(&nsqd.tcp, connect.clone(), PoolOptions { spare, ..PoolOptions::default() });
    eventually("the pool is full", async || format!("{pool:?}").contains(&format!("spare: {spare}"))).await;
    SubscribeOptions {
        pool: Some(pool),
        connect,
        reattach: Reattach::ExistingOnly,
        ..options(nsqd, "t", "c")
    }
}

/// The client's end of the channel's only connection.
async fn port(nsqd: &Nsqd) -> String {
    let clients = nsqd.channel("t", "c").await.expect("the channel exists").clients;
    assert_eq!(clients.len(), 1, "{clients:?}");
    clients[0].remote_address.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_one_subscription_and_another_waits_for_the_next() {
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    let options = pooled(&nsqd, 2).await;
    let publisher = publisher(&nsqd);
    let mut ports = HashSet::new();
    for number in 0..20 {
        publisher.publish("t", body(number)).await.unwrap();
        let (subscription, mut inbox) = subscribe(options.clone()).await;
        inbox.message().await.finish();
        ports.insert(port(&nsqd).await);
        subscription.close().await;
        assert_eq!(nsqd.clients("t", "c").await, Some(0), "the connection is closed with its subscription");
    }
    assert_eq!(ports.len(), 20, "no connection serves two subscriptions");
    assert_eq!(nsqd.channel("t", "c").await.unwrap().depth, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_wait_answer_heartbeats() {
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    let options = pooled(&nsqd, 1).await;
    // nsqd closes a connection that leaves two heartbeats, of a second each, unanswered.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let begun = Instant::now();
    let (subscription, mut inbox) = subscribe(options).await;
    publisher(&nsqd).publish("t", body(1)).await.unwrap();
    inbox.message().await.finish();
    let stats = nsqd.channel("t", "c").await.unwrap();
    let age = begun.elapsed() + Duration::from_secs(3);
    let connected = std::time::SystemTime::now() - age;
    let connected = connected.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    assert!(stats.clients[0].connect_ts <= connected + 1, "it is the one that has waited: {stats:?}");
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_died_while_it_waited_is_no_failure() {
    let mut nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    nsqd.admin.barrier().await.unwrap();
    let options = pooled(&nsqd, 4).await;
    for round in 0..5 {
        nsqd.kill();
        nsqd.start_again().await;
        // The pool may hold dead connections and new ones, or none.
        let (subscription, mut inbox) = subscribe(options.clone()).await;
        publisher(&nsqd).publish("t", body(round)).await.unwrap();
        inbox.message().await.finish();
        subscription.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_from_the_pool_creates_no_channel() {
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "other").await;
    let options = pooled(&nsqd, 1).await;
    for _ in 0..10 {
        let (subscription, mut inbox) = crate::inbox::subscribe_with_room(options.clone(), 8);
        inbox.gone().await;
        subscription.close().await;
    }
    assert_eq!(nsqd.clients("t", "c").await, None, "nobody has made the channel");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_subscriptions_at_once_all_begin_though_the_pool_is_small() {
    let nsqd = Nsqd::start().await;
    nsqd.admin.create_topic("t").await.unwrap();
    let mut options = pooled(&nsqd, 2).await;
    let mut all = Vec::new();
    for number in 0..200 {
        options.channel = format!("c{number}");
        nsqd.admin.create_channel("t", &options.channel).await.unwrap();
        all.push(crate::inbox::subscribe_with_room(options.clone(), 8));
    }
    for (_, inbox) in &mut all {
        inbox.attached().await;
    }
    publisher(&nsqd).publish("t", body(1)).await.unwrap();
    for (_, inbox) in &mut all {
        inbox.message().await.finish();
    }
}
