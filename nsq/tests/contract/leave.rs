//! Leaving: what is held goes back at once, and no trace of the client stays.

use std::time::{Duration, Instant};

use keepstep_nsq::{Reattach, SubscribeOptions};

use crate::daemons::{Nsqd, eventually};
use crate::inbox::{body, options, publisher, subscribe, subscribe_with_room};

#[tokio::test(flavor = "multi_thread")]
async fn close_gives_everything_back_at_once() {
    let nsqd = Nsqd::start().await;
    let (first, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    let publisher = publisher(&nsqd);
    for n in 0..50 {
        publisher.publish("t", body(n)).await.unwrap();
    }
    // 20 in the owner's hands, the rest in the events channel, in the subscription, and at nsqd.
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(inbox.message().await);
    }
    let began = Instant::now();
    first.close().await;
    assert_eq!(nsqd.clients("t", "c").await, Some(0), "nsqd no longer counts it when close returns");
    assert_eq!(nsqd.channel("t", "c").await.unwrap().in_flight, 0);
    for message in held {
        message.finish();
    }
    let (second, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    let mut got: Vec<usize> = Vec::new();
    for _ in 0..50 {
        let message = inbox.message().await;
        got.push(String::from_utf8_lossy(&message.body).parse().unwrap());
        message.finish();
    }
    assert!(began.elapsed() < Duration::from_secs(20), "not after msg_timeout, a minute");
    got.sort_unstable();
    assert_eq!(got, (0..50).collect::<Vec<_>>(), "a late finish of a closed subscription does nothing");
    second.close().await;
    assert_eq!(nsqd.channel("t", "c").await.unwrap().timeout_count, 0);
}

/// What was finished before leaving is finished, not given back.
#[tokio::test(flavor = "multi_thread")]
async fn finishing_right_before_close_counts() {
    let nsqd = Nsqd::start().await;
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    let publisher = publisher(&nsqd);
    for n in 0..10 {
        publisher.publish("t", body(n)).await.unwrap();
    }
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(inbox.message().await);
    }
    held.into_iter().for_each(keepstep_nsq::Message::finish);
    subscription.close().await;
    let stats = nsqd.channel("t", "c").await.unwrap();
    assert_eq!((stats.depth, stats.in_flight, stats.requeue_count), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_in_full_flow_loses_and_times_out_nothing() {
    let nsqd = Nsqd::start().await;
    let publisher = publisher(&nsqd);
    nsqd.create("t", "c").await;
    let flow = tokio::spawn({
        let publisher = publisher.clone();
        async move {
            for n in 0..3000 {
                publisher.publish("t", body(n)).await.unwrap();
            }
        }
    });
    let mut seen = vec![false; 3000];
    let mut missing = seen.len();
    while missing > 0 {
        let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
        for _ in 0..150.min(missing) {
            let message = inbox.message().await;
            let n: usize = String::from_utf8_lossy(&message.body).parse().unwrap();
            missing -= usize::from(!std::mem::replace(&mut seen[n], true));
            message.finish();
            if missing == 0 {
                break;
            }
        }
        subscription.close().await;
    }
    flow.await.unwrap();
    let stats = nsqd.channel("t", "c").await.unwrap();
    assert_eq!((stats.in_flight, stats.timeout_count, stats.client_count), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_subscription_leaves_no_client() {
    let nsqd = Nsqd::start().await;
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    publisher(&nsqd).publish("t", body(1)).await.unwrap();
    let held = inbox.message().await;
    assert_eq!(nsqd.clients("t", "c").await, Some(1));
    drop(subscription);
    eventually("no client is left", async || nsqd.clients("t", "c").await == Some(0)).await;
    let stats = nsqd.channel("t", "c").await.unwrap();
    assert_eq!((stats.in_flight, stats.depth), (0, 1), "what was held is back");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_events_ends_the_subscription_too() {
    let nsqd = Nsqd::start().await;
    let (_subscription, inbox) = subscribe(options(&nsqd, "t", "c")).await;
    drop(inbox);
    publisher(&nsqd).publish("t", body(1)).await.unwrap();
    eventually("no client is left", async || nsqd.clients("t", "c").await == Some(0)).await;
    assert_eq!(nsqd.channel("t", "c").await.unwrap().depth, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_while_nsqd_is_frozen_has_a_deadline() {
    let nsqd = Nsqd::start().await;
    let (subscription, _inbox) = subscribe(options(&nsqd, "t", "c")).await;
    nsqd.freeze();
    let began = Instant::now();
    subscription.close().await;
    assert!(began.elapsed() < Duration::from_secs(4));
    nsqd.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_channel_stays_deleted() {
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    let options = SubscribeOptions { reattach: Reattach::IfChannelExists, ..options(&nsqd, "t", "c") };
    let (_subscription, mut inbox) = subscribe(options).await;
    assert!(nsqd.admin.delete_channel("t", "c").await.unwrap());
    inbox.gone().await;
    assert_eq!(nsqd.clients("t", "c").await, None);
    assert!(inbox.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_a_deleted_channel_is_made_again() {
    let nsqd = Nsqd::start().await;
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    assert!(nsqd.admin.delete_channel("t", "c").await.unwrap());
    inbox.detached().await;
    inbox.attached().await;
    assert_eq!(nsqd.clients("t", "c").await, Some(1));
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_names_never_reach_nsqd() {
    let nsqd = Nsqd::start().await;
    for (topic, channel) in [("a b", "c"), ("t", "c\nSUB x y"), ("", "c"), ("t", "#ephemeral")] {
        let (_subscription, mut inbox) = subscribe_with_room(options(&nsqd, topic, channel), 1);
        assert!(inbox.detached().await.contains("isn't an NSQ name"));
        inbox.gone().await;
    }
    assert_eq!(nsqd.admin.stats(keepstep_nsq::StatsFilter::default()).await.unwrap(), []);
}
