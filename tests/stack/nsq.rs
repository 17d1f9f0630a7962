//! Faults that only the broker over NSQ can have: several nsqd, nsqlookupd, crashes.

#![allow(clippy::disallowed_types, reason = "the test looks at NSQ itself")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use keepstep::{
    broker::{
        Broker, BrokerError, Event, Flow, RemovalScope,
        nsq::{NodeAddress, NsqBroker, NsqOptions},
    },
    domain::{
        id::{ChatId, DeviceId},
        names,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    time::Instant,
};

use crate::{
    broker::{
        connect,
        contract::inbox::{Inbox, numbers, provision, publish, until},
        start,
    },
    support::{Lookupd, Nsqd, NsqdOptions, free_port, http_ask, http_get, wait_until},
};

/// The bound that the guarantees call "after the last fault heals".
const RECOVERY: Duration = Duration::from_secs(10);

/// Returns a chat of the nsqd at this address.
fn chat_at(broker: &Broker, node: &str) -> ChatId {
    std::iter::repeat_with(ChatId::random)
        .find(|chat| broker.place(*chat) == node)
        .expect("an endless search")
}

/// Publishes until it succeeds, like the relay.
async fn publish_until_taken(broker: &Broker, node: &str, chat: ChatId, frame: &str) {
    wait_until("the nsqd to take a message", RECOVERY, || async {
        broker.publish(node, chat, frame.to_owned().into()).await.ok()
    })
    .await;
}

async fn channels_at(lookupd: &Lookupd, chat: ChatId) -> String {
    let path = format!("/channels?topic={}", names::topic(chat));
    http_ask(&lookupd.http(), &path).await.1
}

async fn topics_at(nsqd: &Nsqd) -> String {
    http_ask(&nsqd.http(), "/stats?format=json&include_mem=false").await.1
}

#[tokio::test]
async fn chats_are_spread_over_the_nsqd_and_served_from_each() {
    let (broker, (_lookupd, nsqd)) = start().await;
    let device = DeviceId::random();
    let chats: Vec<_> = nsqd.iter().map(|nsqd| chat_at(&broker, &nsqd.http())).collect();
    provision(&broker, device, &chats).await;
    let queues = until(&broker, device, |queues| queues.len() == 2).await;
    for (nsqd, chat) in nsqd.iter().zip(&chats) {
        assert!(queues.iter().any(|queue| queue.node == nsqd.http() && queue.chat == *chat), "{queues:?}");
        publish(&broker, *chat, [chat.to_string()]).await;
    }
    for chat in &chats {
        let mut inbox = Inbox::new(4);
        let _subscription = inbox.attach(&broker, *chat, device).await;
        assert_eq!(inbox.take(1).await, [chat.to_string()]);
        until(&broker, device, |queues| {
            queues.iter().any(|queue| queue.consumer.as_deref() == Some("edge-1"))
        })
        .await;
    }
}

/// Messages that a topic hasn't copied to its channels yet are neither lost nor there.
#[tokio::test]
async fn a_backlog_counts_what_its_topic_has_not_copied_yet() {
    let nsqd = Nsqd::start(None).await;
    let broker = connect(std::slice::from_ref(&nsqd), None).await;
    let (chat, device, node) = (ChatId::random(), DeviceId::random(), nsqd.http());
    provision(&broker, device, &[chat]).await;
    nsqd.post(&format!("/topic/pause?topic={}", names::topic(chat)), "").await;
    publish(&broker, chat, numbers(0..3)).await;
    let found = broker.backlog(&node, chat, device).await.unwrap();
    assert_eq!(found.map(|backlog| backlog.depth), Some(3));
    let channel = names::channel(device);
    let stats = nsqd.stats(Some(&names::topic(chat))).await;
    let queue = &stats["topics"][0]["channels"][0];
    assert_eq!((queue["channel_name"].as_str(), queue["depth"].as_u64()), (Some(&*channel), Some(0)));
}

/// An nsqd's HTTP side: it delays `/stats` until it may answer, and counts the requests.
struct Slow {
    address: String,
    answers: watch::Sender<bool>,
    asked: Arc<AtomicUsize>,
}

impl Slow {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (answers, asked) = (watch::Sender::new(false), Arc::default());
        let slow = Self { address, answers: answers.clone(), asked: Arc::clone(&asked) };
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (mut answers, asked) = (answers.subscribe(), Arc::clone(&asked));
                tokio::spawn(async move {
                    let mut request = vec![0; 4096];
                    let Ok(length) = socket.read(&mut request).await else { return };
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    let (status, body) = if request.starts_with("GET /stats") {
                        asked.fetch_add(1, Ordering::Relaxed);
                        answers.wait_for(|answers| *answers).await.expect("its sender lives");
                        ("200 OK", r#"{"topics":[]}"#)
                    } else if request.starts_with("GET /info") {
                        (
                            "200 OK",
                            r#"{"version":"1.3.0","broadcast_address":"a","hostname":"a","http_port":1,"tcp_port":1,"start_time":1}"#,
                        )
                    } else {
                        ("200 OK", "OK")
                    };
                    let head =
                        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}", body.len());
                    drop(socket.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await);
                });
            }
        });
        slow
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// 25 devices with 500 chats each search for missing messages, all when an nsqd has just restarted.
#[tokio::test]
async fn many_that_look_for_what_an_nsqd_has_do_not_storm_it() {
    let slow = Slow::start().await;
    let node = NodeAddress::parse(&slow.address).expect("an address");
    let broker =
        NsqBroker::connect(NsqOptions::new("edge-1", vec![node], vec![])).await.expect("good addresses");
    let broker = Broker::Nsq(broker);
    let look = || async { broker.backlog(&slow.address, ChatId::random(), DeviceId::random()).await };
    let looks = join_all((0..500).map(|_| look()));
    let watches = async {
        wait_until("some to have come", RECOVERY, async || (slow.asked() >= 32).then_some(())).await;
        // Here time itself is the subject: no other may come before one of them is answered.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let asked = slow.asked();
        slow.answers.send_replace(true);
        asked
    };
    let (found, asked) = tokio::join!(looks, watches);
    assert_eq!(asked, 32, "at the same time");
    assert!(found.iter().all(|found| matches!(found, Ok(None))), "each is answered in the end");
}

#[tokio::test]
async fn what_is_made_or_removed_stays_so_after_a_crash_right_after() {
    let mut nsqd = Nsqd::start(None).await;
    let broker = connect(std::slice::from_ref(&nsqd), None).await;
    let device = DeviceId::random();
    // One at a time: of many, all but the last few would be saved by nsqd in the meantime without our doing.
    for _ in 0..8 {
        let chat = ChatId::random();
        provision(&broker, device, &[chat]).await;
        nsqd.kill9();
        nsqd.restart().await;
        until(&broker, device, |queues| queues.len() == 1).await;

        let removal =
            broker.remove_queues(&Flow::of("test", "all"), device, &[chat], RemovalScope::WholeDevice).await;
        nsqd.kill9();
        assert_eq!((removal.removed.len(), removal.unreachable), (1, vec![]));
        nsqd.restart().await;
        until(&broker, device, <[_]>::is_empty).await;

        provision(&broker, device, &[chat]).await;
        let left = broker.remove_chat(chat).await;
        nsqd.kill9();
        assert_eq!(left, Vec::<String>::new());
        nsqd.restart().await;
        let topics = topics_at(&nsqd).await;
        assert!(!topics.contains(&names::topic(chat)), "{topics}");
    }
}

#[tokio::test]
async fn a_killed_nsqd_is_told_at_once_and_found_again() {
    let (broker, (_lookupd, mut nsqd)) = start().await;
    let (node, device) = (nsqd[0].http(), DeviceId::random());
    let chat = chat_at(&broker, &node);
    provision(&broker, device, &[chat]).await;
    let mut inbox = Inbox::new(16);
    let _subscription = inbox.attach(&broker, chat, device).await;
    publish(&broker, chat, numbers(0..1)).await;
    assert_eq!(inbox.take(1).await, ["0"]);

    nsqd[0].kill9();
    assert!(matches!(inbox.next().await.event, Event::Detached));
    let since = Instant::now();
    let refused = broker.publish(&node, chat, "1".into()).await;
    assert!(matches!(refused, Err(BrokerError::Unavailable { .. })), "{refused:?}");
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    let health = broker.health().await;
    assert!(health.iter().any(|one| one.node == node && one.problem.is_some()), "{health:?}");
    // New chats go to the other; the old one's place is stored with it.
    assert_eq!(broker.place(chat), nsqd[1].http());
    assert_eq!(broker.queues_of(device).await.1, std::slice::from_ref(&node));

    nsqd[0].restart().await;
    publish_until_taken(&broker, &node, chat, "2").await;
    let attached = async {
        while !matches!(inbox.next().await.event, Event::Attached) {}
        inbox.take(1).await
    };
    assert_eq!(tokio::time::timeout(RECOVERY, attached).await.expect("back in time"), ["2"]);
    wait_until("the node to be well", RECOVERY, || async { (broker.place(chat) == node).then_some(()) })
        .await;
}

/// The largest message is known from the first moment on, and after a restart with another soon again; nothing is made for
/// that. What is too large is refused for ever, and costs the messages beside it nothing.
#[tokio::test]
async fn the_largest_message_is_what_every_nsqd_takes() {
    let small = NsqdOptions { args: vec!["--max-msg-size=1000".to_owned()], ..NsqdOptions::default() };
    let (large, small) = tokio::join!(Nsqd::start(None), Nsqd::start_with(small));
    let mut nsqd = [large, small];
    let broker = connect(&nsqd, None).await;
    // A checksum goes along with each.
    assert_eq!(broker.largest_message(), Some(990));
    for nsqd in &nsqd {
        assert_eq!(nsqd.stats(None).await["topics"], serde_json::json!([]));
    }
    let (chat, device, node) = (chat_at(&broker, &nsqd[1].http()), DeviceId::random(), nsqd[1].http());
    broker.provision(&Flow::of("test", "all"), device, &[(chat, node.clone())]).await.expect("provisioned");
    let publish = async |length: usize| broker.publish(&node, chat, "x".repeat(length).into()).await;
    for _ in 0..5 {
        let (before, refused, behind) = tokio::join!(publish(990), publish(991), publish(1));
        assert!(matches!(refused, Err(BrokerError::Unpublishable { .. })), "{refused:?}");
        before.and(behind).expect("published");
    }
    let other = chat_at(&broker, &nsqd[0].http());
    broker.publish(&nsqd[0].http(), other, "x".repeat(991).into()).await.expect("that one takes it");
    // Before nsqd is restarted: with a smaller limit it throws away what is larger on its disk.
    until(&broker, device, |queues| queues[0].depth == 10).await;
    nsqd[1].outlives_its_second().await;
    nsqd[1].restart_with("--max-msg-size=500").await;
    wait_until("the new limit to be known", RECOVERY, async || {
        (broker.largest_message() == Some(490)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn everything_waits_for_an_nsqd_that_is_down_at_the_start() {
    let (_, (_lookupd, mut nsqd)) = start().await;
    let device = DeviceId::random();
    nsqd[0].kill9();
    let broker = connect(&nsqd[..1], None).await;
    let (node, chat) = (nsqd[0].http(), ChatId::random());
    assert_eq!(broker.place(chat), node, "when none is well, all are");
    let since = Instant::now();
    let refused = broker.provision(&Flow::of("test", "all"), device, &[(chat, node.clone())]).await;
    assert!(matches!(refused, Err(BrokerError::Unavailable { .. })), "{refused:?}");
    let refused = broker.publish(&node, chat, "0".into()).await;
    assert!(matches!(refused, Err(BrokerError::Unavailable { .. })), "{refused:?}");
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());

    // A queue that is there already, from before: the subscription begins as soon as the address is known.
    nsqd[0].restart().await;
    broker.provision(&Flow::of("test", "all"), device, &[(chat, node.clone())]).await.expect("provisioned");
    nsqd[0].kill9();
    let broker = connect(&nsqd[..1], None).await;
    let mut inbox = Inbox::new(4);
    let _subscription = broker.subscribe(&node, chat, device, &inbox.prefetch, inbox.sink.clone());
    nsqd[0].restart().await;
    publish_until_taken(&broker, &node, chat, "1").await;
    loop {
        match inbox.next().await.event {
            Event::Attached => break,
            Event::Detached => {}
            other => panic!("attached, not {other:?}"),
        }
    }
    assert_eq!(inbox.take(1).await, ["1"]);
}

#[tokio::test]
async fn a_removal_names_the_servers_that_did_not_answer() {
    let (broker, (mut lookupd, mut nsqd)) = start().await;
    let device = DeviceId::random();
    let chats: Vec<_> = nsqd.iter().map(|nsqd| chat_at(&broker, &nsqd.http())).collect();
    provision(&broker, device, &chats).await;
    nsqd[1].kill9();
    let removal =
        broker.remove_queues(&Flow::of("test", "all"), device, &chats, RemovalScope::WholeDevice).await;
    assert_eq!(removal.removed.iter().map(|queue| queue.chat).collect::<Vec<_>>(), chats[..1]);
    assert_eq!(removal.unreachable, [nsqd[1].http()]);
    assert_eq!(broker.remove_chat(chats[0]).await, [nsqd[1].http()]);

    // It comes back with the queue, and the next pass finds it though nobody names the chat.
    nsqd[1].restart().await;
    let queues = until(&broker, device, |queues| queues.len() == 1).await;
    assert_eq!(queues[0].node, nsqd[1].http());
    lookupd.kill9();
    let removal =
        broker.remove_queues(&Flow::of("test", "all"), device, &[], RemovalScope::WholeDevice).await;
    assert_eq!(removal.removed.iter().map(|queue| queue.chat).collect::<Vec<_>>(), chats[1..]);
    assert_eq!(removal.unreachable, [lookupd.http()]);
}

#[tokio::test]
async fn nsqlookupd_forgets_what_is_removed() {
    let (broker, (lookupd, mut nsqd)) = start().await;
    let (phone, laptop) = (DeviceId::random(), DeviceId::random());
    let chat = chat_at(&broker, &nsqd[0].http());
    for device in [phone, laptop] {
        provision(&broker, device, &[chat]).await;
        wait_until("nsqlookupd to hear of the queue", RECOVERY, || async {
            channels_at(&lookupd, chat).await.contains(&names::channel(device)).then_some(())
        })
        .await;
    }
    broker.remove_queues(&Flow::of("test", "all"), phone, &[chat], RemovalScope::WholeDevice).await;
    let channels = channels_at(&lookupd, chat).await;
    assert!(
        !channels.contains(&names::channel(phone)) && channels.contains(&names::channel(laptop)),
        "{channels}"
    );

    // An nsqd that has left can't tell nsqlookupd; its registration goes with the removal all the same.
    nsqd[0].kill9();
    let removal =
        broker.remove_queues(&Flow::of("test", "all"), laptop, &[chat], RemovalScope::WholeDevice).await;
    assert_eq!(removal.unreachable, [nsqd[0].http()]);
    let channels = channels_at(&lookupd, chat).await;
    assert!(!channels.contains("d."), "{channels}");
}

#[tokio::test]
async fn removing_makes_nothing_and_touches_nothing_of_others() {
    let (broker, (_lookupd, nsqd)) = start().await;
    let device = DeviceId::random();
    let nsqd = &nsqd[0];
    // A stranger's topic with a channel named like a device's: an operator's archive, say.
    let admin = keepstep_nsq::NsqdAdmin::new(nsqd.http());
    admin.create_topic("orders").await.expect("created");
    admin.create_channel("orders", &names::channel(device)).await.expect("created");
    let chat = ChatId::random();
    let removal =
        broker.remove_queues(&Flow::of("test", "all"), device, &[chat], RemovalScope::WholeDevice).await;
    assert_eq!((removal.removed, removal.unreachable), (vec![], vec![]));
    assert_eq!(broker.queues_of(device).await, (vec![], vec![]));
    assert_eq!(broker.remove_chat(chat).await, Vec::<String>::new());
    let topics = topics_at(nsqd).await;
    assert!(topics.contains("orders") && topics.contains(&names::channel(device)), "{topics}");
    assert!(!topics.contains(&names::topic(chat)), "{topics}");
}

#[tokio::test]
async fn the_tcp_port_is_asked_for_unless_it_is_given() {
    let nsqd = Nsqd::start(None).await;
    let connect = |text: String| async move {
        let node = NodeAddress::parse(&text).expect("an address");
        let options = NsqOptions::new("edge-1", vec![node], vec![]);
        Broker::Nsq(NsqBroker::connect(options).await.expect("good addresses"))
    };
    let (chat, device, node) = (ChatId::random(), DeviceId::random(), nsqd.http());
    let wrong = connect(format!("http://{node}?tcp={}", format_args!("127.0.0.1:{}", free_port()))).await;
    provision(&wrong, device, &[chat]).await;
    let refused = wrong.publish(&node, chat, "0".into()).await;
    assert!(matches!(refused, Err(BrokerError::Unavailable { .. })), "the one given counts: {refused:?}");
    for text in [format!("http://{node}"), format!("{node}?tcp={}", nsqd.tcp())] {
        let broker = connect(text).await;
        publish(&broker, chat, numbers(0..1)).await;
        let mut inbox = Inbox::new(1);
        let subscription = inbox.attach(&broker, chat, device).await;
        assert_eq!(inbox.take(1).await, ["0"]);
        subscription.close().await;
    }
}

#[tokio::test]
async fn a_frozen_nsqd_is_an_answer_and_not_a_wait() {
    let (broker, (_lookupd, nsqd)) = start().await;
    let (node, device) = (nsqd[0].http(), DeviceId::random());
    let chat = chat_at(&broker, &node);
    nsqd[0].sigstop();
    // The signal takes a moment to reach every thread.
    let ping = || async { http_get(&node, "/ping").await.err().map(drop) };
    wait_until("the nsqd to be frozen", RECOVERY, ping).await;
    let (since, chats) = (Instant::now(), [chat]);
    let flow = Flow::of("test", "all");
    let (health, queues, removal) = tokio::join!(
        broker.health(),
        broker.queues_of(device),
        broker.remove_queues(&flow, device, &chats, RemovalScope::WholeDevice)
    );
    assert!(since.elapsed() < Duration::from_secs(6), "{:?}", since.elapsed());
    assert!(health.iter().any(|one| one.node == node && one.problem.is_some()), "{health:?}");
    assert_eq!((queues.1, removal.unreachable), (vec![node.clone()], vec![node.clone()]));
    let since = Instant::now();
    let refused = broker.publish(&node, chat, "0".into()).await;
    assert!(
        refused.is_err() && since.elapsed() < Duration::from_secs(6),
        "{refused:?} {:?}",
        since.elapsed()
    );
    nsqd[0].sigcont();
    publish_until_taken(&broker, &node, chat, "1").await;
}

#[tokio::test]
async fn an_address_that_is_no_address_is_refused() {
    let good = || NodeAddress::parse("nsqd-1:4151").expect("an address");
    for (nsqd, lookupd, why) in [
        (vec![], vec![], "at least one"),
        (vec![good(), good()], vec![], "named twice"),
        (vec![good()], vec!["https://l:4161"], "begin with http://"),
        (vec![good()], vec!["l"], "needs a host and a port"),
        (vec![good()], vec!["l:4161", "http://l:4161"], "named twice"),
    ] {
        let options = NsqOptions::new("edge-1", nsqd, lookupd.into_iter().map(str::to_owned).collect());
        let error = NsqBroker::connect(options).await.expect_err("refused").to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn an_nsqd_out_of_the_configuration_is_not_a_removed_queue() {
    let (broker, _world) = start().await;
    let (chat, device) = (ChatId::random(), DeviceId::random());
    let refused = broker.publish("nsqd-9:4151", chat, "0".into()).await;
    assert!(matches!(refused, Err(BrokerError::Unavailable { .. })), "{refused:?}");
    let refused =
        broker.provision(&Flow::of("test", "all"), device, &[(chat, "nsqd-9:4151".to_owned())]).await;
    assert!(matches!(refused, Err(BrokerError::Unavailable { .. })), "{refused:?}");
    let mut inbox = Inbox::new(1);
    let _subscription = broker.subscribe("nsqd-9:4151", chat, device, &inbox.prefetch, inbox.sink.clone());
    assert!(matches!(inbox.next().await.event, Event::Detached));
}
