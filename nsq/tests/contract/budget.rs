//! Many subscriptions, one bound: what they hold together, who gets what, and how long it may be held.

use std::time::Duration;

use bytes::Bytes;
use keepstep_nsq::{Budget, ConnectOptions, Event, Hold, SubscribeOptions, Subscription, largest_message};
use tokio::sync::mpsc;

use crate::daemons::{Nsqd, eventually};
use crate::inbox::{body, options, publisher, subscribe};

const CHANNELS: usize = 20;

/// One topic with 20 channels, and so many messages in each.
async fn backlog(nsqd: &Nsqd, messages: usize, bytes: usize) {
    for n in 0..CHANNELS {
        nsqd.create("t", &format!("c{n}")).await;
    }
    let publisher = publisher(nsqd);
    for _ in 0..messages {
        publisher.publish("t", Bytes::from(vec![b'x'; bytes])).await.unwrap();
    }
}

/// One for each channel, all with one budget, into one inbox.
fn subscribe_all(
    nsqd: &Nsqd,
    budget: &Budget,
    room: usize,
) -> (Vec<Subscription>, mpsc::Receiver<(usize, Event)>) {
    let (sender, inbox) = mpsc::channel(room);
    let subscriptions = (0..CHANNELS)
        .map(|n| {
            let options =
                SubscribeOptions { budget: Some(budget.clone()), ..options(nsqd, "t", &format!("c{n}")) };
            Subscription::open(options, n, sender.clone())
        })
        .collect();
    (subscriptions, inbox)
}

async fn in_flight(nsqd: &Nsqd) -> Vec<u64> {
    let filter = keepstep_nsq::StatsFilter { topic: Some("t"), channel: None, clients: false };
    let topics = nsqd.admin.stats(filter).await.expect("nsqd answers");
    topics.into_iter().flat_map(|topic| topic.channels).map(|channel| channel.in_flight).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_together_hold_the_budget_and_one_each() {
    let nsqd = Nsqd::start().await;
    backlog(&nsqd, 100, 10).await;
    let budget = Budget::new(50, 1 << 20);
    let (subscriptions, mut inbox) = subscribe_all(&nsqd, &budget, 16);
    eventually("each has some, and nothing more comes", async || {
        let given = in_flight(&nsqd).await;
        let each = given.len() == CHANNELS && given.iter().all(|given| *given > 0);
        // On a busy machine all that is held may be twice the budget, with what was on its way when RDY was lowered: then
        // nobody gets more before something is settled.
        (each && given.iter().sum::<u64>() >= 50) || budget.held().0 == 100
    })
    .await;
    // Here time itself is the subject.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let given: u64 = in_flight(&nsqd).await.iter().sum();
        // Beside these, what was on its way when RDY was lowered.
        assert!(given <= 100, "{given}");
        assert!(budget.held().0 <= 100);
    }
    let mut came = [0; CHANNELS];
    while came.iter().sum::<usize>() < CHANNELS * 100 {
        if let (n, Event::Message(message)) = inbox.recv().await.expect("subscriptions live") {
            message.finish();
            came[n] += 1;
        }
    }
    eventually("nothing is held", async || budget.held() == (0, 0)).await;
    for subscription in subscriptions {
        subscription.close().await;
    }
    assert!(in_flight(&nsqd).await.iter().all(|given| *given == 0));
}

/// A message comes, is given back, and so on: as a queue that is in disorder is gone through.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_makes_room_for_the_next_in_line() {
    let nsqd = Nsqd::start().await;
    backlog(&nsqd, 5, 10).await;
    let budget = Budget::new(1, 1 << 20);
    let (subscriptions, mut inbox) = subscribe_all(&nsqd, &budget, 1);
    let (mut left, mut given_back) = (CHANNELS * 5, 0);
    while left > 0 {
        if let (_, Event::Message(message)) = inbox.recv().await.expect("subscriptions live") {
            if given_back < 200 {
                given_back += 1;
                drop(message);
            } else {
                message.finish();
                left -= 1;
            }
        }
    }
    drop(subscriptions);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_bounded_over_all() {
    const BYTES: usize = 64 << 10;
    let nsqd = Nsqd::start().await;
    backlog(&nsqd, 30, BYTES).await;
    let budget = Budget::new(1000, 10 * BYTES);
    let (_subscriptions, mut inbox) = subscribe_all(&nsqd, &budget, 1);
    eventually("the budget is used up", async || budget.held().1 >= 10 * BYTES).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(budget.held().1 <= 20 * BYTES, "{:?}", budget.held());
    }
    for _ in 0..CHANNELS * 30 {
        loop {
            if let (_, Event::Message(message)) = inbox.recv().await.expect("subscriptions live") {
                message.finish();
                break;
            }
        }
    }
}

/// nsqd would send what is given back again at once: no later than that, it must be told to wait.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_bytes_are_left_for_is_given_back_once() {
    const BYTES: usize = 64 << 10;
    let nsqd = Nsqd::start().await;
    backlog(&nsqd, 1, BYTES).await;
    // Four fit, and there is some room beside them that none fits into.
    let budget = Budget::new(1000, BYTES * 22 / 10);
    let (_subscriptions, mut inbox) = subscribe_all(&nsqd, &budget, CHANNELS * 2);
    let given_back = async || {
        let filter = keepstep_nsq::StatsFilter { topic: Some("t"), channel: None, clients: false };
        let topics = nsqd.admin.stats(filter).await.expect("nsqd answers");
        topics.iter().flat_map(|topic| &topic.channels).map(|channel| channel.requeue_count).sum::<u64>()
    };
    eventually("the budget is used up", async || budget.held() == (4, 4 * BYTES) && given_back().await > 0)
        .await;
    // Here time itself is the subject.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let often = given_back().await;
    assert!(often <= 2 * CHANNELS as u64, "{CHANNELS} messages were given back {often} times");
    for _ in 0..CHANNELS {
        loop {
            if let (_, Event::Message(message)) = inbox.recv().await.expect("subscriptions live") {
                message.finish();
                break;
            }
        }
    }
}

/// A subscription that has ended, however it did, holds nothing of the budget any more, and stands in nobody's way.
#[tokio::test(flavor = "multi_thread")]
async fn who_goes_makes_room() {
    let mut nsqd = Nsqd::start().await;
    backlog(&nsqd, 20, 10).await;
    let budget = Budget::new(10, 1 << 20);
    // Room for all that comes, so that nobody waits for the owner.
    let (mut subscriptions, _inbox) = subscribe_all(&nsqd, &budget, CHANNELS * 40);
    eventually("the budget is used up", async || budget.held().0 >= 15).await;
    subscriptions.truncate(1);
    eventually("the others are gone, and the last has all the room", async || {
        in_flight(&nsqd).await.iter().filter(|given| **given > 0).count() == 1
            && (10..=11).contains(&budget.held().0)
    })
    .await;
    nsqd.kill();
    eventually("a lost connection holds nothing", async || budget.held() == (0, 0)).await;
}

/// nsqd's patience is 3 s here, and its heartbeats come every second.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_by_a_connected_owner_does_not_time_out() {
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    let publisher = publisher(&nsqd);
    publisher.publish("t", body(1)).await.unwrap();
    let msg_timeout = Some(Duration::from_secs(3));
    let options = SubscribeOptions { msg_timeout, hold: Hold::WhileConnected, ..options(&nsqd, "t", "c") };
    let (subscription, mut inbox) = subscribe(options).await;
    let held = inbox.message().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let stats = nsqd.channel("t", "c").await.unwrap();
    assert_eq!((stats.timeout_count, stats.in_flight), (0, 1));
    held.finish();
    publisher.publish("t", body(2)).await.unwrap();
    let next = inbox.message().await;
    assert_eq!((next.body.clone(), next.attempts), (body(2), 1), "the connection lives");
    next.finish();
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nsqd_tells_the_largest_message_and_makes_nothing() {
    for (flag, largest) in [
        ("--max-msg-size=1000", 1000),
        ("--max-msg-size=1048576", 1 << 20),
        ("--max-msg-size=1073741824", 64 << 20),
    ] {
        let nsqd = Nsqd::start_with(&[flag]).await;
        let options = ConnectOptions::default();
        assert_eq!(largest_message(&nsqd.tcp, &options, "t").await.unwrap(), largest, "{flag}");
        let filter = keepstep_nsq::StatsFilter { topic: None, channel: None, clients: false };
        assert!(nsqd.admin.stats(filter).await.unwrap().is_empty(), "no topic was made");
    }
    let nobody = largest_message("127.0.0.1:1", &ConnectOptions::default(), "t").await.unwrap_err();
    assert!(nobody.to_string().contains("can't connect"), "{nobody}");
}
