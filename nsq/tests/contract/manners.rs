//! What nsqd itself does that a model of it must do too. The simulation of Keepstep assumes each of these; if one of
//! these tests fails with another version of nsqd, the model is wrong from then on.

use std::time::Duration;

use keepstep_nsq::SubscribeOptions;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::daemons::{Nsqd, eventually};
use crate::inbox::{Inbox, body, options, publisher, subscribe};

/// nsqd looks for timeouts ten times a second.
const SHORT: Duration = Duration::from_secs(1);

async fn numbers(inbox: &mut Inbox, count: usize) -> Vec<usize> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        let message = inbox.message().await;
        numbers.push(std::str::from_utf8(&message.body).unwrap().parse().unwrap());
        message.finish();
    }
    numbers
}

async fn publish(nsqd: &Nsqd, numbers: std::ops::RangeInclusive<usize>) {
    let publisher = publisher(nsqd);
    for number in numbers {
        publisher.publish("t", body(number)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requeued_message_comes_behind_everything_that_waits() {
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    publish(&nsqd, 1..=10).await;
    let two = SubscribeOptions { max_in_flight: 2, ..options(&nsqd, "t", "c") };
    let (subscription, mut inbox) = subscribe(two).await;
    let (first, second) = (inbox.message().await, inbox.message().await);
    assert_eq!((first.body.clone(), second.body.clone()), (body(1), body(2)));
    drop(first);
    second.finish();
    assert_eq!(numbers(&mut inbox, 9).await, [3, 4, 5, 6, 7, 8, 9, 10, 1]);
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_times_out_comes_behind_everything_that_waits() {
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    publish(&nsqd, 1..=5).await;
    let one = SubscribeOptions { max_in_flight: 1, msg_timeout: Some(SHORT), ..options(&nsqd, "t", "c") };
    let (subscription, mut inbox) = subscribe(one).await;
    let held = inbox.message().await;
    assert_eq!(held.body, body(1));
    eventually("nsqd times the message out", async || {
        nsqd.channel("t", "c").await.is_some_and(|c| c.timeout_count == 1)
    })
    .await;
    drop(held);
    assert_eq!(numbers(&mut inbox, 5).await, [2, 3, 4, 5, 1]);
    subscription.close().await;
}

/// The edge that is killed: its kernel closes the connection, and nsqd keeps what was in flight until the time-out.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_keeps_what_it_had_in_flight_until_the_time_out() {
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    publish(&nsqd, 1..=3).await;
    let mut connection = TcpStream::connect(&nsqd.tcp).await.unwrap();
    let identify = br#"{"client_id":"lost","hostname":"lost","feature_negotiation":true,"msg_timeout":3000}"#;
    let mut hello = b"  V2IDENTIFY\n".to_vec();
    hello.extend_from_slice(&u32::try_from(identify.len()).unwrap().to_be_bytes());
    hello.extend_from_slice(identify);
    hello.extend_from_slice(b"SUB t c\nRDY 2\n");
    connection.write_all(&hello).await.unwrap();
    let in_flight = async || nsqd.channel("t", "c").await.map(|c| (c.client_count, c.in_flight, c.depth));
    eventually("two are in flight", async || in_flight().await == Some((1, 2, 1))).await;
    drop(connection);
    eventually("nsqd has seen the end of the connection", async || {
        in_flight().await.is_some_and(|(clients, ..)| clients == 0)
    })
    .await;
    assert_eq!(in_flight().await, Some((0, 2, 1)), "they stay in flight, of a client that is gone");
    eventually("they time out", async || in_flight().await == Some((0, 0, 3))).await;
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    let order = numbers(&mut inbox, 3).await;
    assert_eq!(order[0], 3, "what waited comes first");
    subscription.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_what_is_in_flight_and_keeps_what_waits() {
    // Written at each message: else a queue younger than `--sync-timeout` may lose what waits, too.
    let mut nsqd = Nsqd::start_with(&["--mem-queue-size=0", "--sync-every=1"]).await;
    nsqd.create("t", "c").await;
    nsqd.admin.barrier().await.unwrap();
    publish(&nsqd, 1..=6).await;
    let two = SubscribeOptions { max_in_flight: 2, ..options(&nsqd, "t", "c") };
    let (_subscription, mut inbox) = subscribe(two).await;
    let held = (inbox.message().await, inbox.message().await);
    assert_eq!((held.0.body.clone(), held.1.body.clone()), (body(1), body(2)));
    nsqd.kill();
    inbox.detached().await;
    drop((held, inbox));
    nsqd.start_again().await;
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    // How far nsqd has read it writes one message late, so that 2 may come again.
    let mut came = numbers(&mut inbox, 1).await;
    while came.last() != Some(&6) {
        came.extend(numbers(&mut inbox, 1).await);
    }
    assert!(came.ends_with(&[3, 4, 5, 6]), "what waited is kept: {came:?}");
    assert!(!came.contains(&1), "1 was in flight, and nobody brings it again: {came:?}");
    eventually("nothing is left", async || {
        nsqd.channel("t", "c").await.is_some_and(|c| c.depth == 0 && c.in_flight == 0)
    })
    .await;
    subscription.close().await;
}

/// How the limit of a message is read from nsqd without storing anything there.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_above_the_limit_is_refused_with_the_limit_before_its_topic_is_made() {
    let nsqd = Nsqd::start_with(&["--max-msg-size=5000"]).await;
    let mut connection = TcpStream::connect(&nsqd.tcp).await.unwrap();
    let mut command = b"  V2PUB never\n".to_vec();
    command.extend_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    connection.write_all(&command).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("E_BAD_MESSAGE PUB message too big 2147483647 > 5000"), "{answer}");
    let topics = nsqd.admin.stats(keepstep_nsq::StatsFilter::default()).await.unwrap();
    assert!(topics.iter().all(|topic| topic.topic != "never"), "{topics:?}");
}

/// Whoever looks once may miss a message that is on its way from the queue to a consumer, or back.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_moves_may_be_counted_nowhere() {
    const ALL: u64 = 200;
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    publish(&nsqd, 1..=200).await;
    let count =
        async || nsqd.channel("t", "c").await.map_or(0, |c| u64::try_from(c.depth).unwrap() + c.in_flight);
    eventually("all of them wait", async || count().await == ALL).await;
    let (subscription, mut inbox) =
        subscribe(SubscribeOptions { max_in_flight: 20, ..options(&nsqd, "t", "c") }).await;
    // Each is given back at once, over and over.
    let moves = tokio::spawn(async move {
        loop {
            drop(inbox.message().await);
        }
    });
    eventually("a look counts fewer than there are", async || count().await < ALL).await;
    subscription.close().await;
    moves.abort();
    eventually("and all are there again", async || count().await == ALL).await;
}
