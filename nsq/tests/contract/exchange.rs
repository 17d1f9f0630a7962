//! Messages between this client and itself, and between it and an independent one.

use bytes::Bytes;
use keepstep_nsq::{ConnectOptions, Delivery, PublishError, Publisher, SubscribeOptions};
use tokio_nsq::{
    NSQChannel, NSQConsumerConfig, NSQConsumerConfigSources, NSQEvent, NSQProducerConfig, NSQTopic,
};

use crate::daemons::Nsqd;
use crate::inbox::{body, options, publisher, subscribe};

#[tokio::test(flavor = "multi_thread")]
async fn what_we_publish_the_independent_client_reads() {
    let nsqd = Nsqd::start().await;
    nsqd.create("t", "c").await;
    let publisher = publisher(&nsqd);
    for n in 0..20 {
        publisher.publish("t", body(n)).await.unwrap();
    }
    publisher.publish_many("t", &[body(20), body(21)]).await.unwrap();
    let mut consumer = NSQConsumerConfig::new(NSQTopic::new("t").unwrap(), NSQChannel::new("c").unwrap())
        .set_max_in_flight(1)
        .set_sources(NSQConsumerConfigSources::Daemons(vec![nsqd.tcp.clone()]))
        .build();
    for n in 0..22 {
        let message = consumer.consume_filtered().await.unwrap();
        assert_eq!(message.body, body(n));
        message.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_independent_client_publishes_we_read() {
    let nsqd = Nsqd::start().await;
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    let topic = NSQTopic::new("t").unwrap();
    let mut producer = NSQProducerConfig::new(&*nsqd.tcp).build();
    assert!(matches!(producer.consume().await, Some(NSQEvent::Healthy())));
    for n in 0..20 {
        producer.publish(&topic, body(n).to_vec()).await.unwrap();
    }
    for n in 0..20 {
        let message = inbox.message().await;
        assert_eq!((message.body.clone(), message.attempts), (body(n), 1));
        message.finish();
    }
    subscription.close().await;
}

/// A backlog, so that the window opens; then live messages; on a connection of either kind.
#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept_and_everything_comes_once() {
    let nsqd = Nsqd::start().await;
    for (topic, delivery) in [("window", Delivery::Window), ("unbuffered", Delivery::Unbuffered)] {
        nsqd.create(topic, "c").await;
        let publisher = publisher(&nsqd);
        for n in 0..30 {
            let batch: Vec<_> = (n * 100..(n + 1) * 100).map(body).collect();
            publisher.publish_many(topic, &batch).await.unwrap();
        }
        let options = SubscribeOptions { delivery, ..options(&nsqd, topic, "c") };
        let (subscription, mut inbox) = subscribe(options).await;
        let live = tokio::spawn(async move {
            for n in 3000..3500 {
                publisher.publish(topic, body(n)).await.unwrap();
            }
        });
        for n in 0..3500 {
            let message = inbox.message().await;
            assert_eq!((message.body.clone(), message.attempts), (body(n), 1));
            message.finish();
        }
        live.await.unwrap();
        subscription.close().await;
        let stats = nsqd.channel(topic, "c").await.unwrap();
        assert_eq!((stats.depth, stats.in_flight, stats.requeue_count, stats.timeout_count), (0, 0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_publishes_are_each_answered_and_stay_in_order() {
    let nsqd = Nsqd::start().await;
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    let publisher = publisher(&nsqd);
    let mut calls = Vec::new();
    for n in 0..1000 {
        let publisher = publisher.clone();
        let mut call = Box::pin(async move { publisher.publish("t", body(n)).await });
        // The first poll gives the call its place.
        assert!(futures_poll_once(&mut call).await.is_none());
        calls.push(call);
    }
    for call in calls {
        call.await.unwrap();
    }
    for n in 0..1000 {
        let message = inbox.message().await;
        assert_eq!(message.body, body(n));
        message.finish();
    }
    subscription.close().await;
}

async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
        std::task::Poll::Ready(out) => std::task::Poll::Ready(Some(out)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_said_before_or_by_nsqd() {
    let nsqd = Nsqd::start_with(&["--max-msg-size=1000"]).await;
    let publisher = publisher(&nsqd);
    for bad in ["", "no spaces", "no\nlines", "café", &"x".repeat(65)] {
        let error = publisher.publish(bad, body(1)).await.unwrap_err();
        assert!(matches!(error, PublishError::Invalid(_)), "{bad:?}: {error}");
    }
    let error = publisher.publish("t", Bytes::new()).await.unwrap_err();
    assert!(matches!(error, PublishError::Invalid(_)), "{error}");
    publisher.publish_many("t", &[]).await.unwrap();

    let error = publisher.publish("t", vec![b'x'; 1001].into()).await.unwrap_err();
    assert!(matches!(&error, PublishError::Refused { code, .. } if code == "E_BAD_MESSAGE"), "{error}");
    publisher.publish("t", body(2)).await.expect("a refusal costs only its own message");
}

/// The message refused ends the connection; the one before it is there, the ones behind it surely aren't.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_a_pipeline_hits_the_right_call() {
    let nsqd = Nsqd::start_with(&["--max-msg-size=1000"]).await;
    nsqd.create("t", "c").await;
    let publisher = Publisher::new(&nsqd.tcp, ConnectOptions::default());
    publisher.publish("t", body(0)).await.unwrap();
    let too_big = Bytes::from(vec![b'x'; 1001]);
    let (first, refused, behind) = tokio::join!(
        biased;
        publisher.publish("t", body(1)),
        publisher.publish("t", too_big),
        publisher.publish("t", body(3)),
    );
    first.unwrap();
    assert!(matches!(refused, Err(PublishError::Refused { .. })), "{refused:?}");
    assert!(matches!(behind, Err(PublishError::NotSent(_))), "{behind:?}");
    publisher.publish("t", body(4)).await.unwrap();
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    for n in [0, 1, 4] {
        let message = inbox.message().await;
        assert_eq!(message.body, body(n));
        message.finish();
    }
    subscription.close().await;
}
