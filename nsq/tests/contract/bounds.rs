//! A slow owner: the connection lives, memory is bounded, nothing is lost.

use std::time::Duration;

use bytes::Bytes;
use keepstep_nsq::SubscribeOptions;

use crate::daemons::{Nsqd, eventually};
use crate::inbox::{body, options, publisher, subscribe, subscribe_with_room};

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_takes_nothing_keeps_its_connection() {
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    let publisher = publisher(&nsqd);
    for n in 0..300 {
        publisher.publish("t", body(n)).await.unwrap();
    }
    let options = SubscribeOptions { max_in_flight: 100, ..options(&nsqd, "t", "c") };
    let (subscription, mut inbox) = subscribe_with_room(options, 1);
    eventually("nsqd has sent all that it may", async || {
        nsqd.channel("t", "c").await.is_some_and(|c| c.in_flight == 100)
    })
    .await;
    // Here time itself is the subject: nsqd drops a client that is silent for two heartbeats (1 s each).
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(nsqd.clients("t", "c").await, Some(1));
    inbox.attached().await;
    for n in 0..300 {
        let message = inbox.message().await;
        assert_eq!((message.body.clone(), message.attempts), (body(n), 1));
        message.finish();
    }
    subscription.close().await;
}

/// Bodies of 256 KiB, 1 MiB of room: nsqd is paused long before `max_in_flight`.
#[tokio::test(flavor = "multi_thread")]
async fn big_bodies_are_bounded_by_bytes() {
    const BYTES: usize = 256 << 10;
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    let publisher = publisher(&nsqd);
    for n in 0..60_u8 {
        publisher.publish("t", Bytes::from(vec![n; BYTES])).await.unwrap();
    }
    let (subscription, mut inbox) = subscribe_with_room(options(&nsqd, "t", "c"), 1);
    eventually("RDY is 0", async || {
        let Some(channel) = nsqd.channel("t", "c").await else { return false };
        channel.in_flight > 1 && channel.clients.iter().all(|c| c.ready_count == 0)
    })
    .await;
    // One in the events channel, four that fit, and what was on the way when the room was used up.
    let in_flight = nsqd.channel("t", "c").await.unwrap().in_flight;
    assert!(in_flight <= 7, "{in_flight} bodies of {BYTES} bytes");
    inbox.attached().await;
    for n in 0..60_u8 {
        let message = inbox.message().await;
        assert_eq!((message.body.len(), message.body[0], message.attempts), (BYTES, n, 1));
        message.finish();
    }
    subscription.close().await;
}

/// The window is open for small bodies when big ones follow: what doesn't fit is given back and comes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_sudden_run_of_big_bodies_is_given_back_not_kept() {
    const BYTES: usize = 64 << 10;
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    let publisher = publisher(&nsqd);
    for n in 0..100 {
        publisher.publish("t", body(n)).await.unwrap();
    }
    for _ in 0..100 {
        publisher.publish("t", Bytes::from(vec![b'x'; BYTES])).await.unwrap();
    }
    let options = SubscribeOptions { buffer_bytes: 4 * BYTES, ..options(&nsqd, "t", "c") };
    let (subscription, mut inbox) = subscribe_with_room(options, 1);
    inbox.attached().await;
    let mut big = 0;
    for _ in 0..200 {
        let message = inbox.message().await;
        big += usize::from(message.body.len() == BYTES);
        message.finish();
    }
    assert_eq!(big, 100);
    subscription.close().await;
    let stats = nsqd.channel("t", "c").await.unwrap();
    assert_eq!((stats.depth, stats.in_flight), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_in_flight_than_allowed() {
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    let publisher = publisher(&nsqd);
    for n in 0..50 {
        publisher.publish("t", body(n)).await.unwrap();
    }
    let options = SubscribeOptions { max_in_flight: 3, ..options(&nsqd, "t", "c") };
    let (subscription, mut inbox) = subscribe(options).await;
    let mut held = std::collections::VecDeque::new();
    for n in 0..50 {
        if held.len() == 3 {
            let stats = nsqd.channel("t", "c").await.unwrap();
            assert_eq!(stats.in_flight, 3);
            assert!(inbox.is_empty(), "a fourth message at once");
            held.pop_front().map(keepstep_nsq::Message::finish);
        }
        let message = inbox.message().await;
        assert_eq!(message.body, body(n));
        held.push_back(message);
    }
    subscription.close().await;
}
