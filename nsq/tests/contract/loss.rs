//! nsqd gone, back, frozen.

use std::time::{Duration, Instant};

use keepstep_nsq::{ConnectOptions, Hold, PublishError, Publisher, Reattach, SubscribeOptions};

use crate::daemons::{Nsqd, eventually};
use crate::inbox::{body, options, publisher, subscribe, subscribe_with_room};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_nsqd_is_found_again() {
    let mut nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    nsqd.admin.barrier().await.unwrap();
    let options = SubscribeOptions { reattach: Reattach::IfChannelExists, ..options(&nsqd, "t", "c") };
    let (subscription, mut inbox) = subscribe(options).await;
    let publisher = publisher(&nsqd);
    publisher.publish("t", body(1)).await.unwrap();
    let held = inbox.message().await;
    nsqd.kill();
    inbox.detached().await;
    held.finish();
    nsqd.start_again().await;
    inbox.attached().await;
    eventually("publishing works again", async || publisher.publish("t", body(2)).await.is_ok()).await;
    let message = inbox.message_at_last().await;
    message.finish();
    subscription.close().await;
    assert_eq!(nsqd.clients("t", "c").await, Some(0));
}

/// With ten messages, each of them twice.
async fn with_messages_twice() -> Nsqd {
    let mut nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    let publish = publisher(&nsqd);
    for number in 0..10 {
        publish.publish("t", body(number)).await.unwrap();
    }
    eventually("all are in the queue", async || nsqd.channel("t", "c").await.unwrap().depth == 10).await;
    // After a crash nsqd may copy what it had copied to the channel already once more, with the same ids.
    nsqd.start_again_with(|folder| {
        let (data, meta) = (folder.join("t:c.diskqueue.000000.dat"), folder.join("t:c.diskqueue.meta.dat"));
        let once = std::fs::read(&data).unwrap();
        std::fs::write(&data, [once.clone(), once.clone()].concat()).unwrap();
        std::fs::write(&meta, format!("20\n0,0\n0,{}\n", 2 * once.len())).unwrap();
    })
    .await;
    nsqd
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_messages_in_it_twice_does_not_stop_the_flow() {
    let nsqd = with_messages_twice().await;
    let (subscription, mut inbox) = subscribe_with_room(options(&nsqd, "t", "c"), 64);
    inbox.attached().await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(inbox.message().await);
    }
    // Ten of these nsqd refuses, and counts them as in flight for ever: ready for one more is ready for none then.
    held.into_iter().for_each(keepstep_nsq::Message::finish);
    eventually("they are finished", async || nsqd.channel("t", "c").await.unwrap().in_flight == 0).await;
    publisher(&nsqd).publish("t", body(10)).await.unwrap();
    let message = inbox.message_at_last().await;
    assert_eq!(message.body, body(10));
    message.finish();
    subscription.close().await;
    assert_eq!(nsqd.channel("t", "c").await.unwrap().depth, 0);
}

/// The same of a slow owner, whose messages are touched meanwhile: that says nothing of what nsqd answers to FIN.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_there_twice_and_held_for_long_do_not_stop_the_flow() {
    let nsqd = with_messages_twice().await;
    let msg_timeout = Some(Duration::from_secs(3));
    let options = SubscribeOptions { msg_timeout, hold: Hold::WhileConnected, ..options(&nsqd, "t", "c") };
    let (subscription, mut inbox) = subscribe_with_room(options, 64);
    inbox.attached().await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(inbox.message().await);
    }
    // Here time itself is the subject: they are touched, at each of nsqd's heartbeats (1 s).
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(nsqd.channel("t", "c").await.unwrap().timeout_count, 0);
    held.into_iter().for_each(keepstep_nsq::Message::finish);
    eventually("they are finished", async || nsqd.channel("t", "c").await.unwrap().in_flight == 0).await;
    publisher(&nsqd).publish("t", body(10)).await.unwrap();
    let message = inbox.message_at_last().await;
    assert_eq!(message.body, body(10));
    message.finish();
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_waits_for_an_nsqd_that_is_not_there_yet() {
    let mut nsqd = Nsqd::start().await;
    nsqd.kill();
    let (subscription, mut inbox) = subscribe_with_room(options(&nsqd, "t", "c"), 1);
    let error = inbox.detached().await;
    assert!(error.contains(&nsqd.tcp) && error.contains("check that it runs"), "{error}");
    nsqd.start_again().await;
    inbox.attached().await;
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_while_nsqd_is_down_fails_quickly_and_surely() {
    let mut nsqd = Nsqd::start().await;
    let publisher = publisher(&nsqd);
    publisher.publish("t", body(1)).await.unwrap();
    nsqd.kill();
    // The loss may be noticed by this call or before it.
    let _ = publisher.publish("t", body(2)).await;
    for _ in 0..20 {
        let began = Instant::now();
        let error = publisher.publish("t", body(3)).await.unwrap_err();
        assert!(matches!(error, PublishError::NotSent(_)), "{error}");
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    nsqd.start_again().await;
    eventually("publishing works again", async || publisher.publish("t", body(4)).await.is_ok()).await;
}

/// Each call's outcome against what nsqd really has: OK is there (with fsync at every message), NotSent isn't. The
/// topic has no channel before the kill: nsqd can lose the one message it is just moving from topic to channel.
#[tokio::test(flavor = "multi_thread")]
async fn pipelined_publishes_get_the_right_outcome_each() {
    let mut nsqd = Nsqd::start_with(&["--mem-queue-size=0", "--sync-every=1"]).await;
    nsqd.admin.create_topic("t").await.unwrap();
    nsqd.admin.barrier().await.unwrap();
    let publisher = publisher(&nsqd);
    publisher.publish("t", body(0)).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for n in 1..2000 {
        let publisher = publisher.clone();
        calls.spawn(async move { (n, publisher.publish("t", body(n)).await) });
    }
    let mut outcomes = vec![None; 2000];
    outcomes[0] = Some(Ok(()));
    for _ in 0..200 {
        let (n, outcome) = calls.join_next().await.unwrap().unwrap();
        outcomes[n] = Some(outcome);
    }
    nsqd.kill();
    while let Some(done) = calls.join_next().await {
        let (n, outcome) = done.unwrap();
        outcomes[n] = Some(outcome);
    }
    nsqd.start_again().await;
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    eventually("publishing works again", async || publisher.publish("t", body(9999)).await.is_ok()).await;
    let mut there = vec![false; 2000];
    loop {
        let message = inbox.message().await;
        let n: usize = String::from_utf8_lossy(&message.body).parse().unwrap();
        message.finish();
        match there.get_mut(n) {
            Some(seen) => *seen = true,
            None => break,
        }
    }
    subscription.close().await;
    let mut lost = 0;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match outcome.unwrap() {
            Ok(()) => assert!(there[n], "{n} was confirmed and isn't there"),
            Err(PublishError::NotSent(_)) => assert!(!there[n], "{n} is there and was said not to be sent"),
            Err(PublishError::Unknown(_)) => lost += 1,
            Err(other) => panic!("{n}: {other}"),
        }
    }
    assert!(lost > 0, "nothing was on its way: this test tested nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_nsqd_costs_no_more_than_the_deadline() {
    let nsqd = Nsqd::start().await;
    let publisher =
        Publisher::new(&nsqd.tcp, ConnectOptions::default()).with_deadline(Duration::from_millis(500));
    publisher.publish("t", body(1)).await.unwrap();
    nsqd.freeze();
    let began = Instant::now();
    let error = publisher.publish("t", body(2)).await.unwrap_err();
    assert!(matches!(error, PublishError::Unknown(_)), "{error}");
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(500) && waited < Duration::from_secs(3), "{waited:?}");
    nsqd.thaw();
    // The late OK is matched to the call that gave up, not to the next one.
    eventually("publishing works again", async || publisher.publish("t", body(3)).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_nsqd_is_noticed_by_its_missing_heartbeats() {
    let nsqd = Nsqd::start().await;
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    nsqd.freeze();
    let error = inbox.detached().await;
    assert!(error.contains("silent"), "{error}");
    nsqd.thaw();
    inbox.attached().await;
    subscription.close().await;
}
