//! The HTTP interfaces.

use keepstep_nsq::{AdminError, NsqdAdmin, StatsFilter};

use crate::daemons::{Lookupd, Nsqd, eventually};
use crate::inbox::{body, options, publisher, subscribe};

#[tokio::test(flavor = "multi_thread")]
async fn nsqd_calls_round_trip() {
    let nsqd = Nsqd::start().await;
    let admin = &nsqd.admin;
    admin.ping().await.unwrap();
    let info = admin.info().await.unwrap();
    assert!(info.version.starts_with("1."));
    assert_eq!(nsqd.tcp, format!("127.0.0.1:{}", info.tcp_port));
    assert_eq!((info.broadcast_address.as_str(), info.start_time > 0), ("127.0.0.1", true));

    admin.create_topic("t#ephemeral").await.unwrap();
    admin.create_channel("t#ephemeral", "c#ephemeral").await.unwrap();
    admin.create_topic("t").await.unwrap();
    admin.create_topic("t").await.unwrap();
    admin.create_channel("t", "c").await.unwrap();
    let error = admin.create_channel("missing", "c").await.unwrap_err();
    assert!(matches!(error, AdminError::NotFound(_)), "{error}");
    let error = admin.create_topic("a b").await.unwrap_err();
    assert!(matches!(error, AdminError::InvalidName(_)), "{error}");

    publisher(&nsqd).publish("t", body(1)).await.unwrap();
    let (subscription, mut inbox) = subscribe(options(&nsqd, "t", "c")).await;
    let held = inbox.message().await;
    let stats =
        admin.stats(StatsFilter { topic: Some("t"), clients: true, ..StatsFilter::default() }).await.unwrap();
    let [topic] = &stats[..] else { panic!("{stats:?}") };
    let [channel] = &topic.channels[..] else { panic!("{topic:?}") };
    assert_eq!((topic.topic.as_str(), topic.message_count, topic.paused), ("t", 1, false));
    assert_eq!((channel.channel.as_str(), channel.in_flight, channel.client_count), ("c", 1, 1));
    assert_eq!(channel.clients[0].client_id, "keepstep");
    assert_eq!(admin.stats(StatsFilter::default()).await.unwrap().len(), 2);
    let none = admin.stats(StatsFilter { topic: Some("missing"), ..StatsFilter::default() }).await.unwrap();
    assert_eq!(none, []);
    drop(held);
    subscription.close().await;

    assert!(admin.empty_channel("t", "c").await.unwrap());
    assert_eq!(nsqd.channel("t", "c").await.unwrap().depth, 0);
    assert!(!admin.empty_channel("t", "missing").await.unwrap());
    assert!(admin.delete_channel("t", "c").await.unwrap());
    assert!(!admin.delete_channel("t", "c").await.unwrap());
    assert!(admin.delete_topic("t").await.unwrap());
    assert!(!admin.delete_topic("t").await.unwrap());
    assert!(!admin.delete_channel("t", "c").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn lookupd_calls_round_trip() {
    let lookupd = Lookupd::start().await;
    let flag = format!("--lookupd-tcp-address={}", lookupd.tcp);
    let nsqd = Nsqd::start_with(&[&flag]).await;
    let admin = &lookupd.admin;
    assert!(admin.info().await.unwrap().version.starts_with("1."));
    eventually("nsqd registers", async || admin.nodes().await.unwrap().len() == 1).await;

    nsqd.create("t", "c").await;
    eventually("the channel is known", async || admin.channels("t").await.unwrap() == ["c"]).await;
    assert_eq!(admin.topics().await.unwrap(), ["t"]);
    let node = &admin.nodes().await.unwrap()[0];
    assert_eq!(nsqd.tcp, format!("{}:{}", node.broadcast_address, node.tcp_port));
    assert_eq!(node.topics, ["t"]);
    let found = admin.lookup("t").await.unwrap().unwrap();
    assert_eq!((found.channels.len(), found.producers.len()), (1, 1));
    assert_eq!(
        nsqd.http,
        format!("{}:{}", found.producers[0].broadcast_address, found.producers[0].http_port)
    );
    assert_eq!(admin.lookup("missing").await.unwrap(), None);
    assert_eq!(admin.channels("missing").await.unwrap(), Vec::<String>::new());

    admin.create_topic("only.here").await.unwrap();
    admin.create_channel("only.here", "x").await.unwrap();
    assert!(admin.delete_channel("only.here", "x").await.unwrap());
    assert!(!admin.delete_channel("only.here", "x").await.unwrap());
    admin.delete_topic("only.here").await.unwrap();
    assert_eq!(admin.topics().await.unwrap(), ["t"]);
    assert!(matches!(admin.channels("a b").await, Err(AdminError::InvalidName(_))));
}

/// Without the barrier nsqd forgets most of these.
#[tokio::test(flavor = "multi_thread")]
async fn the_barrier_makes_changes_survive_a_kill() {
    let mut nsqd = Nsqd::start().await;
    for n in 0..20 {
        nsqd.create("t", &format!("old{n}")).await;
    }
    nsqd.admin.barrier().await.unwrap();
    for n in 0..20 {
        nsqd.create("t", &format!("new{n}")).await;
        assert!(nsqd.admin.delete_channel("t", &format!("old{n}")).await.unwrap());
    }
    nsqd.admin.barrier().await.unwrap();
    nsqd.kill();
    nsqd.start_again().await;
    let topics = nsqd.admin.stats(StatsFilter { topic: Some("t"), ..StatsFilter::default() }).await.unwrap();
    let channels: Vec<_> = topics[0].channels.iter().map(|c| c.channel.as_str()).collect();
    assert_eq!(channels.len(), 20);
    assert!(channels.iter().all(|c| c.starts_with("new")), "{channels:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_they_are() {
    let mut nsqd = Nsqd::start().await;
    // The TCP port isn't an HTTP server.
    let wrong = NsqdAdmin::new(&nsqd.tcp).ping().await.unwrap_err();
    assert!(matches!(wrong, AdminError::Unreachable { .. }), "{wrong}");
    let lookupd = Lookupd::start().await;
    // nsqlookupd knows no /stats.
    let other = NsqdAdmin::new(lookupd.admin.url()).stats(StatsFilter::default()).await.unwrap_err();
    assert!(matches!(other, AdminError::Refused { status: 404, .. }), "{other}");
    nsqd.kill();
    let down = nsqd.admin.ping().await.unwrap_err();
    assert!(matches!(&down, AdminError::Unreachable { addr, .. } if addr.contains(&nsqd.http)), "{down}");
}
