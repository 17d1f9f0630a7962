//! Torn messages from an nsqd whose disk was full.

#![allow(clippy::disallowed_types, reason = "the test looks at NSQ itself")]

use std::time::Duration;

use keepstep::{
    broker::{Event, Notice},
    domain::{
        id::{ChatId, DeviceId},
        names,
    },
};

use crate::broker::connect;
use crate::broker::contract::inbox::{Inbox, provision, publish};
use crate::faults::carrier;
use crate::stories::Deployment;
use crate::stories::client::PATIENCE;
use crate::stories::world::{Pair, topic};
use crate::support::{Nsqd, NsqdOptions, SmallDisk, wait_until};

/// "After the last fault heals."
const RECOVERY: Duration = Duration::from_secs(10);
/// What nsqd writes to disk besides a message's body, and what the broker appends to it.
const AROUND: usize = 4 + 26 + 10;
/// Of a file that is being written, this much is on disk as a whole or not at all.
const PAGE: usize = 4096;

#[tokio::test]
async fn an_nsqd_whose_disk_was_full_may_bring_a_message_torn() {
    let disk = SmallDisk::mount(2);
    let nsqd =
        Nsqd::start_with(NsqdOptions { data: Some(disk.path().to_owned()), ..NsqdOptions::default() }).await;
    let nsqd = [nsqd];
    let broker = connect(&nsqd, None).await;
    let (chat, device) = (ChatId::random(), DeviceId::random());
    let topic = names::topic(chat);
    provision(&broker, device, &[chat]).await;
    let mut inbox = Inbox::new(16);
    let _subscription = inbox.attach(&broker, chat, device).await;

    // The queue's file has a page on the disk, so that there will be room for what goes there.
    publish(&broker, chat, ["a".to_owned()]).await;
    assert_eq!(inbox.take(1).await, ["a"]);
    // Two messages end in the middle of the topic's page; nsqd has read the first of them when the disk gets full, and no further.
    nsqd[0].post(&format!("/topic/pause?topic={topic}"), "").await;
    let second = "c".repeat(3500 - 3 * AROUND);
    publish(&broker, chat, ["b".to_owned(), second.clone()]).await;
    disk.fill();
    // What of it fits into the page is written.
    let third = "d".repeat(PAGE - 3500);
    broker.publish(&nsqd[0].http(), chat, third.into()).await.expect_err("the disk is full");
    nsqd[0].post(&format!("/topic/unpause?topic={topic}"), "").await;
    assert_eq!(inbox.take(2).await, ["b", &second]);

    disk.free();
    let said = async |body: String| {
        wait_until("the nsqd to take a message", RECOVERY, async || {
            broker.publish(&nsqd[0].http(), chat, body.clone().into()).await.ok()
        })
        .await;
    };
    said("e".repeat(3000)).await;
    let Notice { event: Event::Torn(receipt), .. } = inbox.next().await else {
        panic!("what was read of the third message is put before the fourth");
    };
    receipt.finish();
    // The fourth is lost, though nsqd has confirmed it; and then it goes on.
    said("f".to_owned()).await;
    assert_eq!(inbox.take(1).await, ["f"]);
}

#[tokio::test]
async fn what_comes_torn_is_fetched_from_the_log() {
    let mut world = Deployment::Stack.with("KEEPSTEP_LOG", "info").start().await;
    let Pair { alice, phone, bobs, chat, .. } = world.pair().await;
    let web = alice.web(1).await;
    phone.says(&chat, "before").await;
    for device in [&phone, &bobs, &web] {
        device.hears(&chat, 1).await;
    }
    let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(&world, &chat).await];
    let topic = topic(&chat);
    nsqd.post(&format!("/topic/pause?topic={topic}"), "").await;
    phone.says(&chat, "whole").await;
    world.is_confirmed(&chat, RECOVERY).await;
    nsqd.post(&format!("/topic/empty?topic={topic}"), "").await;
    let head = format!("{{\"type\":\"message\",\"chat\":\"{chat}\",\"seq\":");
    for _ in 0..3 {
        nsqd.post(&format!("/pub?topic={topic}"), &format!("{head}2,\"key\":\"0{head}3,\"key\":\"1")).await;
    }
    let of_another = uuid::Uuid::new_v4();
    let stranger = format!("{{\"type\":\"message\",\"chat\":\"{of_another}\",\"seq\":2,\"key\":\"0\"}}");
    for foreign in ["{\"no\":\"message\"}", &stranger] {
        nsqd.post(&format!("/pub?topic={topic}"), foreign).await;
    }
    nsqd.post(&format!("/topic/unpause?topic={topic}"), "").await;
    phone.says(&chat, "behind it").await;
    for device in [&phone, &bobs, &web] {
        device.hears(&chat, 3).await;
        assert_eq!(device.memory().chat(&chat).unwrap().contents(1..=3), ["before", "whole", "behind it"]);
    }
    wait_until("all that was torn, and what wasn't ours, to be counted", PATIENCE, async || {
        (world.metric("keepstep_torn_total").await == 15.0).then_some(())
    })
    .await;
    for device in [&phone, &bobs, &web] {
        assert_eq!(device.memory().closed, None);
        device.acks(&chat, 3).await;
        world.is_drained(&chat, device).await;
    }
    assert_eq!(world.metric("keepstep_gaps_total").await, 0.0);
    let said: String = world.edges.iter_mut().map(|edge| edge.process().log()).collect();
    assert_eq!(said.matches("brought a message torn").count(), 3, "once for each queue:\n{said}");
}
