//! Redis comes back with an older copy of its data: no number is given to a second message.

use std::time::{Duration, Instant};

use crate::faults::insists;
use crate::stories::client::PATIENCE;
use crate::stories::device::{Device, Sent};
use crate::stories::world::Pair;
use crate::stories::{Deployment, World};
use crate::support::{Redis, http_get, wait_until};

const CLOCK: &str = "ks:{store}:clock";

async fn clock(redis: &Redis) -> u64 {
    redis.command(&["HGET", CLOCK, "clock"]).await.unwrap().parse().unwrap()
}

/// Waits until every edge has seen the store's clock continue: each checks once a second.
async fn goes_on(redis: &Redis) {
    let now = clock(redis).await;
    wait_until("the store's clock", PATIENCE, || async { (clock(redis).await >= now + 3).then_some(()) })
        .await;
}

/// Reconnects devices as clients do when a socket ends. (The other edge may not have found Redis again yet.)
async fn come_back(world: &World, devices: &mut [&mut Device]) {
    for edge in &world.edges {
        edge.ready().await;
    }
    for (edge, device) in devices.iter_mut().enumerate() {
        if device.memory().closed.is_some() || device.memory().lost {
            assert!(device.memory().closed.as_ref().is_none_or(|closed| closed.0 == 4304));
            device.forgets_its_socket();
            device.connects(edge).await;
        }
    }
}

/// Checks that all have what was sent, and that a number is the same message for all (`Memory` refuses another one).
fn agree(devices: &[&Device], chat: &str, sent: &[Sent]) {
    for one in sent {
        for device in devices {
            let memory = device.memory();
            let known = memory.chat(chat).unwrap();
            let gap = known.gaps.iter().any(|(from, to)| (*from..=*to).contains(&one.seq));
            match known.messages.get(&one.seq) {
                Some(message) => assert_eq!(message["key"], one.key.as_str(), "message {}", one.seq),
                None => assert!(gap, "{} lacks {} and wasn't told so", device.id, one.seq),
            }
        }
    }
}

async fn all_say(world: &World, token: &str, chat: &str, count: usize) -> Vec<Sent> {
    let mut sent = Vec::new();
    for n in 0..count {
        sent.push(insists(world, token, chat, &format!("after {n}")).await);
    }
    sent
}

#[tokio::test]
async fn an_older_redis_gives_no_number_twice() {
    let mut world = Deployment::Stack.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (mut phone, mut bobs, mut web) = (alice.phone(0).await, bob.phone(1).await, bob.web(0).await);
    let chat = alice.direct(&bob).await;
    for device in [&phone, &bobs, &web] {
        device.memory().expects_loss = true;
    }
    let mut sent = phone.says_many(&chat, "before the copy", 20).await;
    for device in [&phone, &bobs, &web] {
        device.hears(&chat, 20).await;
        device.acks(&chat, 20).await;
    }
    web.leaves().await;
    goes_on(&world.stack.as_ref().unwrap().redis).await;
    let copy = world.stack.as_ref().unwrap().redis.copy();
    sent.extend(phone.says_many(&chat, "behind the copy", 30).await);
    for device in [&phone, &bobs] {
        device.hears(&chat, 50).await;
        device.acks(&chat, 50).await;
    }
    goes_on(&world.stack.as_ref().unwrap().redis).await;
    world.stack.as_mut().unwrap().redis.restart_with(&copy).await;

    // Sends are accepted again soon, on both edges, and above everything that anybody ever saw.
    let begun = Instant::now();
    let mut after = all_say(&world, &alice.token, &chat, 10).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(after[0].seq > 50 && after.is_sorted_by(|a, b| a.seq + 1 == b.seq), "{after:?}");
    come_back(&world, &mut [&mut phone, &mut bobs]).await;
    web.connects(0).await;
    after.push(phone.says(&chat, "the end").await);
    sent.extend(after);
    let last = sent.last().unwrap().seq;
    for device in [&phone, &bobs, &web] {
        device.hears(&chat, last).await;
        assert!(!device.memory().chat(&chat).unwrap().gaps.is_empty(), "what is missing is told");
        device.acks(&chat, last).await;
    }
    agree(&[&phone, &bobs, &web], &chat, &sent);
    // What the queue of the web session had is delivered all the same.
    assert!(web.memory().chat(&chat).unwrap().messages.contains_key(&50));

    // A second time: the copy knows nothing of the first.
    world.stack.as_mut().unwrap().redis.restart_with(&copy).await;
    let again = all_say(&world, &alice.token, &chat, 3).await;
    assert!(again[0].seq > last, "{again:?}");
    // And a Redis that has lost nothing goes on where it was.
    goes_on(&world.stack.as_ref().unwrap().redis).await;
    world.stack.as_mut().unwrap().redis.restart().await;
    let next = insists(&world, &alice.token, &chat, "no gap").await;
    assert_eq!(next.seq, again[2].seq + 1);
}

#[tokio::test]
async fn what_only_the_queue_has_is_delivered_and_acknowledged() {
    let mut world = Deployment::Stack.start().await;
    let Pair { phone, mut bobs, chat, .. } = world.pair().await;
    let mut sent = phone.says_many(&chat, "before the copy", 20).await;
    bobs.hears(&chat, 20).await;
    bobs.acks(&chat, 20).await;
    bobs.leaves().await;
    let copy = world.stack.as_ref().unwrap().redis.copy();
    sent.extend(phone.says_many(&chat, "behind the copy", 30).await);
    goes_on(&world.stack.as_ref().unwrap().redis).await;
    // All of it is with NSQ, and the copy knows nothing of it.
    wait_until("the queue", PATIENCE, || async {
        (world.queue(&chat, &bobs.id).await.depth >= 30).then_some(())
    })
    .await;
    world.stack.as_mut().unwrap().redis.restart_with(&copy).await;
    for edge in &world.edges {
        edge.ready().await;
    }
    // Nobody has sent since, so no number was skipped, and what is acknowledged is above every number that Redis knows.
    bobs.connects(1).await;
    bobs.hears(&chat, 50).await;
    bobs.acks(&chat, 50).await;
    agree(&[&bobs], &chat, &sent);
    bobs.reconnects(0).await;
    assert_eq!(bobs.memory().chat(&chat).unwrap().cursor, 50);
}

#[tokio::test]
async fn edges_that_begin_on_an_older_redis_know_it_by_nsqd() {
    let mut world = Deployment::Stack.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.phone(0).await;
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "before the copy", 5).await;
    let redis = &world.stack.as_ref().unwrap().redis;
    let copy = redis.copy();
    // Two hours go by.
    redis.command(&["HINCRBY", CLOCK, "clock", "7200"]).await.unwrap();
    wait_until("the mark on every nsqd", PATIENCE, || async {
        let marks = world.queues("keepstep.ks", "t.").await;
        let hours = |channel: &str| channel[2..].parse::<u64>().is_ok_and(|clock| clock >= 7200);
        (marks.len() == 2 && marks.iter().all(|mark| hours(&mark.channel))).then_some(())
    })
    .await;
    // And no older one is left for an nsqd that begins anew to make again.
    let lookupd = world.stack.as_ref().unwrap().lookupd.http();
    wait_until("one mark at nsqlookupd", PATIENCE, || async {
        let (_, body) = http_get(&lookupd, "/channels?topic=keepstep.ks").await.ok()?;
        let known: serde_json::Value = serde_json::from_str(&body).ok()?;
        (known["channels"].as_array()?.len() == 1).then_some(())
    })
    .await;
    let sent = phone.says_many(&chat, "behind the copy", 5).await;
    phone.memory().deaf = true;
    world.edges.iter_mut().for_each(|edge| edge.kill9());
    world.stack.as_mut().unwrap().redis.restart_with(&copy).await;
    for edge in &mut world.edges {
        edge.restart().await;
        edge.ready().await;
    }
    let next = insists(&world, &alice.token, &chat, "now").await;
    assert!(next.seq > sent[4].seq, "{next:?}");
}
