//! Finishing, requeueing, touching; in time and late.

use std::time::{Duration, Instant};

use keepstep_nsq::SubscribeOptions;

use crate::daemons::{Nsqd, eventually};
use crate::inbox::{body, options, publisher, subscribe};

/// nsqd looks for timeouts ten times a second.
const SHORT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_late_finish_does_not_cost_the_connection() {
    let nsqd = Nsqd::start().await;
    let options = SubscribeOptions { msg_timeout: Some(SHORT), max_in_flight: 1, ..options(&nsqd, "t", "c") };
    let (subscription, mut inbox) = subscribe(options).await;
    let publisher = publisher(&nsqd);
    publisher.publish("t", body(1)).await.unwrap();
    let late = inbox.message().await;
    eventually("nsqd times the message out", async || {
        nsqd.channel("t", "c").await.is_some_and(|c| c.timeout_count == 1)
    })
    .await;
    late.finish();
    // `message` fails on Detached.
    let again = inbox.message().await;
    assert_eq!((again.body.clone(), again.attempts), (body(1), 2));
    again.finish();
    publisher.publish("t", body(2)).await.unwrap();
    let next = inbox.message().await;
    assert_eq!(next.body, body(2));
    next.finish();
    subscription.close().await;
}

/// Both deliveries come on the same connection: dropping or finishing the old receipt must not settle the new one.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_receipt_of_a_message_counts() {
    let nsqd = Nsqd::start().await;
    let options = SubscribeOptions { msg_timeout: Some(SHORT), ..options(&nsqd, "t", "c") };
    let (subscription, mut inbox) = subscribe(options).await;
    let publisher = publisher(&nsqd);
    publisher.publish("t", body(1)).await.unwrap();
    let old = inbox.message().await;
    let new = inbox.message().await;
    assert_eq!((old.attempts, new.attempts), (1, 2));
    drop(old);
    new.finish();
    publisher.publish("t", body(2)).await.unwrap();
    let next = inbox.message().await;
    assert_eq!(next.body, body(2), "the dropped receipt requeued nothing");
    next.finish();
    subscription.close().await;
    assert_eq!(nsqd.channel("t", "c").await.unwrap().requeue_count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_receipt_requeues_at_once() {
    let nsqd = Nsqd::start().await;
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    publisher(&nsqd).publish("t", body(1)).await.unwrap();
    let began = Instant::now();
    for attempt in 1..=3 {
        let message = inbox.message().await;
        assert_eq!(message.attempts, attempt);
        if attempt == 3 {
            message.finish();
        }
    }
    assert!(began.elapsed() < Duration::from_secs(10), "not after msg_timeout, a minute");
    subscription.close().await;
    let stats = nsqd.channel("t", "c").await.unwrap();
    assert_eq!((stats.requeue_count, stats.depth, stats.in_flight), (2, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn requeue_waits_as_long_as_it_is_told() {
    let nsqd = Nsqd::start().await;
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    publisher(&nsqd).publish("t", body(1)).await.unwrap();
    let (_, receipt) = inbox.message().await.into_parts();
    let began = Instant::now();
    receipt.requeue(Duration::from_millis(500));
    let again = inbox.message().await;
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert_eq!(again.attempts, 2);
    again.finish();
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_touched_message_does_not_time_out() {
    let nsqd = Nsqd::start().await;
    let options = SubscribeOptions { msg_timeout: Some(SHORT), ..options(&nsqd, "t", "c") };
    let (subscription, mut inbox) = subscribe(options).await;
    publisher(&nsqd).publish("t", body(1)).await.unwrap();
    let (_, receipt) = inbox.message().await.into_parts();
    // Here time itself is the subject: three times the timeout.
    for _ in 0..15 {
        tokio::time::sleep(SHORT / 5).await;
        receipt.touch();
    }
    receipt.finish();
    eventually("the message is finished", async || {
        nsqd.channel("t", "c").await.is_some_and(|c| c.in_flight == 0)
    })
    .await;
    let stats = nsqd.channel("t", "c").await.unwrap();
    assert_eq!((stats.timeout_count, stats.depth), (0, 0));
    subscription.close().await;
}
