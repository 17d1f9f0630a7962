//! Unwanted queues are removed, missing ones are created, and no other deployment's queue is touched.

use std::time::{Duration, Instant};

use crate::faults::carrier;
use crate::stories::client::PATIENCE;
use crate::stories::world::{Pair, channel, topic};
use crate::stories::{Deployment, World};
use crate::support::{Edge, http_get, wait_for, wait_until};

const OFTEN: (&str, &str) = ("KEEPSTEP_RECONCILE", "250ms");

#[tokio::test]
async fn queues_that_are_nobodys_go() {
    let world = Deployment::Stack.with(OFTEN.0, OFTEN.1).start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs, mut web) = (alice.phone(0).await, bob.phone(1).await, alice.web(1).await);
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "said", 10).await;
    for device in [&phone, &bobs, &web] {
        device.hears(&chat, 10).await;
    }
    let termination = alice.ends(&web.id).await;
    web.closed().await;
    world.terminated(&alice.api(0), &termination).await;

    // What a crash of nsqd brings back, what may be another deployment's, and what belongs to the operator.
    let nobody = "00000000-0000-4000-8000-00000000beef";
    for nsqd in &world.stack.as_ref().unwrap().nsqd {
        for topic in [topic(&chat), topic(nobody)] {
            nsqd.post(&format!("/topic/create?topic={topic}"), "").await;
            for channel in [channel(&web.id), channel(nobody), "archive".to_owned()] {
                nsqd.post(&format!("/channel/create?topic={topic}&channel={channel}"), "").await;
            }
        }
    }
    wait_until("the orphans to be gone", PATIENCE, || async {
        world.traces(&web.id).await.is_empty().then_some(())
    })
    .await;
    // It is counted when nsqd has answered, a moment later.
    wait_until("the removals to be counted", PATIENCE, || async {
        let removed = world.metric("keepstep_reconciler_actions_total{action=\"orphan_removed\"}").await;
        (removed >= 2.0).then_some(())
    })
    .await;
    // (nsqd has made them on the other server, too, when the topic was made there, because nsqlookupd knew them.)
    wait_until("one queue for each", PATIENCE, || async {
        let queues = world.queues(&topic(&chat), "d.").await;
        (queues.iter().filter(|queue| queue.channel != channel(nobody)).count() == 2).then_some(())
    })
    .await;
    // Two servers with two topics each: others' channels are none of our business.
    assert_eq!(world.queues("", "archive").await.len(), 4);
    assert_eq!(world.queues("", &channel(nobody)).await.len(), 4);
    phone.says(&chat, "and on").await;
    bobs.hears(&chat, 11).await;
    world.stays_without_traces(&web.id, Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_queue_that_was_lost_while_its_device_is_away_is_made_again() {
    let world = Deployment::Stack.with(OFTEN.0, OFTEN.1).start().await;
    let Pair { phone, mut bobs, chat, .. } = world.pair().await;
    phone.says_many(&chat, "before", 10).await;
    bobs.hears(&chat, 10).await;
    bobs.acks(&chat, 10).await;
    bobs.leaves().await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(&world, &chat).await];
    let (topic, channel) = (topic(&chat), channel(&bobs.id));
    nsqd.post(&format!("/channel/delete?topic={topic}&channel={channel}"), "").await;
    phone.says_many(&chat, "while it is gone", 3).await;
    wait_until("the queue to be there again", PATIENCE, || async {
        (world.queues(&topic, &channel).await.len() == 1).then_some(())
    })
    .await;
    wait_until("it to be counted", PATIENCE, || async {
        let restored = world.metric("keepstep_reconciler_actions_total{action=\"queue_restored\"}").await;
        (restored >= 1.0).then_some(())
    })
    .await;
    phone.says_many(&chat, "while it is there again", 5).await;
    // NSQ has what came since, and the log the rest: all of it comes, in order (`Memory` sees to it).
    wait_until("what came since", PATIENCE, || async {
        (world.queue(&chat, &bobs.id).await.depth >= 5).then_some(())
    })
    .await;
    bobs.connects(0).await;
    bobs.hears(&chat, 18).await;
    bobs.acks(&chat, 18).await;
    world.is_drained(&chat, &bobs).await;
}

#[tokio::test]
async fn after_the_restart_of_an_nsqd_queues_are_compared_at_once() {
    let mut world = Deployment::Stack.with("KEEPSTEP_RECONCILE", "5m").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (mut phone, bobs) = (alice.phone(0).await, bob.registers("main").await);
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "said", 5).await;
    phone.hears(&chat, 5).await;
    // Nobody is connected who would notice that a queue is gone.
    phone.leaves().await;
    let carrier = carrier(&world, &chat).await;
    let nsqd = &mut world.stack.as_mut().unwrap().nsqd[carrier];
    nsqd.outlives_its_second().await;
    nsqd.restart_empty().await;
    let back = Instant::now();
    wait_until("both queues", PATIENCE, || async {
        let queues = world.queues(&topic(&chat), "d.").await;
        (queues.len() == 2 && queues.iter().any(|queue| queue.channel == channel(&bobs.id))).then_some(())
    })
    .await;
    assert!(back.elapsed() < Duration::from_secs(20), "it took {:?}", back.elapsed());
}

/// All topics of all nsqd, as they tell them.
async fn topics(world: &World) -> String {
    let mut topics = Vec::new();
    for nsqd in &world.stack.as_ref().unwrap().nsqd {
        topics.push(nsqd.stats(None).await["topics"].to_string());
    }
    topics.concat()
}

async fn its_topic_goes(world: &World, chat: &str) {
    wait_until("its topic to be gone", PATIENCE, || async {
        (!topics(world).await.contains(&topic(chat))).then_some(())
    })
    .await;
}

/// It is counted a moment after it is done.
async fn is_counted(edges: &[Edge], action: &str) {
    let sample = format!("keepstep_reconciler_actions_total{{action=\"{action}\"}}");
    wait_until("it to be counted", PATIENCE, || async {
        for edge in edges {
            if edge.metric(&sample).await >= 1.0 {
                return Some(());
            }
        }
        None
    })
    .await;
}

#[tokio::test]
async fn the_topic_of_a_chat_that_was_deleted_while_its_nsqd_was_down_goes() {
    let mut world = Deployment::Stack.with(OFTEN.0, OFTEN.1).start().await;
    let alice = world.user("alice");
    let phone = alice.phone(0).await;
    let (chat, kept) = (alice.group("short-lived").await, alice.group("kept").await);
    for chat in [&chat, &kept] {
        phone.says(chat, "hello").await;
        phone.hears(chat, 1).await;
        phone.acks(chat, 1).await;
    }
    let carrier = carrier(&world, &chat).await;
    world.stack.as_mut().unwrap().nsqd[carrier].kill9();
    alice.leaves(&chat).await;
    // Its deletion ends with nsqlookupd: it has tried in vain by then.
    let lookupd = world.stack.as_ref().unwrap().lookupd.http();
    wait_until("the chat to be deleted", PATIENCE, || async {
        let (_, known) = http_get(&lookupd, "/topics").await.ok()?;
        (!known.contains(&topic(&chat))).then_some(())
    })
    .await;
    world.stack.as_mut().unwrap().nsqd[carrier].restart().await;
    assert!(topics(&world).await.contains(&topic(&chat)), "it is gone already, so this shows nothing");
    its_topic_goes(&world, &chat).await;
    is_counted(&world.edges, "topic_removed").await;
    assert!(topics(&world).await.contains(&topic(&kept)));
    phone.says(&kept, "on").await;
    phone.hears(&kept, 2).await;
}

#[tokio::test]
async fn a_chat_whose_last_member_left_goes_although_its_edge_died() {
    let mut world = Deployment::Stack.with(OFTEN.0, OFTEN.1).start().await;
    let alice = world.user("alice");
    let phone = alice.phone(1).await;
    let (chat, kept) = (alice.group("short-lived").await, alice.group("kept").await);
    for chat in [&chat, &kept] {
        phone.says(chat, "hello").await;
        phone.hears(chat, 1).await;
    }
    // This edge is to delete the chat, more than a second after it was left.
    alice.leaves(&chat).await;
    world.edges[0].kill9();
    let left = async |chat: &str| {
        let redis = &world.stack.as_ref().unwrap().redis;
        let keys = redis.command(&["KEYS", &format!("ks:{{c.{}}}:*", chat.replace('-', ""))]).await.unwrap();
        (keys, world.queues(&topic(chat), "").await)
    };
    // A mark stays, so that its id is not used again; and its senders' keys, which run out.
    let stays = |key: &str| key.ends_with(":meta") || key.contains(":k:");
    wait_for("nothing to be left of it but the mark", PATIENCE, || async {
        let (keys, queues) = left(&chat).await;
        if keys.lines().all(stays) && queues.is_empty() { Ok(()) } else { Err((keys, queues)) }
    })
    .await;
    its_topic_goes(&world, &chat).await;
    is_counted(&world.edges[1..], "chat_removed").await;
    let (keys, queues) = left(&kept).await;
    assert!(keys.contains(":log") && queues.len() == 1, "{keys} {queues:?}");
}

#[tokio::test]
async fn what_only_nsqlookupd_remembers_of_an_ended_device_goes() {
    let world = Deployment::Stack.with(OFTEN.0, OFTEN.1).start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs, mut web) = (alice.phone(0).await, bob.phone(1).await, alice.web(1).await);
    let chat = alice.direct(&bob).await;
    phone.says(&chat, "said").await;
    bobs.hears(&chat, 1).await;
    let termination = alice.ends(&web.id).await;
    web.closed().await;
    world.terminated(&alice.api(0), &termination).await;
    // Of this chat, and of one that nobody knows: as nsqlookupd does after it was cut off for a while. And somebody else's.
    let (lookupd, nobody) = (&world.stack.as_ref().unwrap().lookupd, "00000000-0000-4000-8000-00000000beef");
    for topic in [topic(&chat), topic(nobody)] {
        for channel in [channel(&web.id), channel(nobody)] {
            lookupd.post(&format!("/channel/create?topic={topic}&channel={channel}")).await;
        }
    }
    assert_eq!(world.traces(&web.id).await.len(), 2);
    wait_until("nsqlookupd to forget", PATIENCE, || async {
        world.traces(&web.id).await.is_empty().then_some(())
    })
    .await;
    world.stays_without_traces(&web.id, Duration::from_secs(1)).await;
    assert_eq!(world.traces(nobody).await.len(), 2, "others' are none of our business");
    assert_eq!(world.traces(&phone.id).await.len(), 2);
}

#[tokio::test]
async fn what_an_ended_device_was_owed_is_forgotten_even_if_its_user_came_back() {
    let world = Deployment::Stack.with(OFTEN.0, OFTEN.1).start().await;
    let redis = &world.stack.as_ref().unwrap().redis;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut web) = (alice.phone(0).await, alice.web(1).await);
    let chat = alice.direct(&bob).await;
    phone.says(&chat, "said").await;
    web.hears(&chat, 1).await;
    let termination = alice.ends(&web.id).await;
    web.closed().await;
    world.terminated(&alice.api(0), &termination).await;
    // So it is when Redis died in the middle of a leave, then the device was ended, and then its user came back.
    let (chat, device) = (topic(&chat), web.id.replace('-', ""));
    let keys = ["from", "cursor", "fence"].map(|what| format!("ks:{{{chat}}}:{what}"));
    for key in &keys {
        redis.command(&["HSET", key, &device, "1"]).await.unwrap();
    }
    wait_until("it to be forgotten", PATIENCE, async || {
        for key in &keys {
            if redis.command(&["HEXISTS", key, &device]).await.ok()? != "0" {
                return None;
            }
        }
        Some(())
    })
    .await;
    world.stays_without_traces(&web.id, Duration::from_secs(1)).await;
}
