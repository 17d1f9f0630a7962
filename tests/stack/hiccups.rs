//! Temporary faults without a death: lost notifications, a frozen nsqd, no nsqlookupd. Nothing is lost, and delays are
//! short.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::stories::Deployment;
use crate::stories::client::PATIENCE;
use crate::stories::world::{Pair, topic};
use crate::support::{http_ask, wait_until};

#[tokio::test]
async fn offsets_arrive_although_redis_forgets_to_notify() {
    let world = Deployment::Stack.start().await;
    let redis = &world.stack.as_ref().unwrap().redis;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, web) = (alice.phone(0).await, alice.web(1).await);
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "said", 40).await;
    for device in [&phone, &web] {
        device.hears(&chat, 40).await;
    }
    let missed = "keepstep_notifications_missed_total";
    for round in 1..=3 {
        let before = world.metric(missed).await;
        // Somebody sets the configuration back, or the connection that listens is cut.
        redis.command(&["CONFIG", "SET", "notify-keyspace-events", ""]).await.expect("Redis is there");
        if round == 2 {
            redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.expect("Redis is there");
        }
        let begun = Instant::now();
        phone.reads(&chat, round * 10).await;
        web.gets(json!({ "type": "read", "chat": chat, "seq": round * 10, "device": phone.id })).await;
        for edge in [0, 1] {
            assert_eq!(alice.api(edge).get("/v1/offsets").await.ok(), json!({ (chat.as_str()): round * 10 }));
        }
        assert!(begun.elapsed() <= Duration::from_secs(10), "it took {:?}", begun.elapsed());
        // It was noticed (on a connection that was cut, there is nothing to be missed silently) and set again.
        wait_until("the missed notifications to be counted", PATIENCE, || async {
            (round == 2 || world.metric(missed).await > before).then_some(())
        })
        .await;
        wait_until("notifications to be switched on", PATIENCE, || async {
            let set = redis.command(&["CONFIG", "GET", "notify-keyspace-events"]).await.ok()?;
            (set != "notify-keyspace-events\n").then_some(())
        })
        .await;
    }
    // And then an event is an event again: far faster than any sweep.
    wait_until("events at once", PATIENCE, || async {
        let at = phone.memory().chat(&chat)?.read + 1;
        let begun = Instant::now();
        phone.reads(&chat, at).await;
        web.gets(json!({ "type": "read", "chat": chat, "seq": at })).await;
        (begun.elapsed() < Duration::from_secs(1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_frozen_nsqd_holds_up_nobody_for_long() {
    let world = Deployment::Stack.start().await;
    let stack = world.stack.as_ref().unwrap();
    let Pair { phone, bobs, chat, .. } = world.pair().await;
    phone.says_many(&chat, "before", 10).await;
    bobs.hears(&chat, 10).await;
    stack.nsqd.iter().for_each(|nsqd| nsqd.sigstop());
    let begun = Instant::now();
    phone.says_many(&chat, "frozen", 20).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "sends waited {:?} for NSQ", begun.elapsed());
    for device in [&phone, &bobs] {
        device.hears(&chat, 30).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "delivery waited {:?} for NSQ", begun.elapsed());
    stack.nsqd.iter().for_each(|nsqd| nsqd.sigcont());
    phone.says_many(&chat, "thawed", 20).await;
    for device in [&phone, &bobs] {
        device.hears(&chat, 50).await;
        device.acks(&chat, 50).await;
    }
    // What was published meanwhile, twice perhaps, is finished and gone.
    wait_until("drained queues", PATIENCE, || async {
        let queues = world.queues(&topic(&chat), "").await;
        (queues.len() == 2 && queues.iter().all(|queue| queue.depth + queue.in_flight == 0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn life_goes_on_without_nsqlookupd() {
    let mut world = Deployment::Stack.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.phone(0).await;
    let lookupd = world.stack.as_ref().unwrap().lookupd.http();
    world.stack.as_mut().unwrap().lookupd.kill9();
    // Everything begins anew: a chat, a device, a conversation.
    let (mut web, bobs) = (alice.web(1).await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    tokio::join!(phone.says_many(&chat, "alice", 20), bobs.says_many(&chat, "bob", 20));
    for device in [&phone, &web, &bobs] {
        device.hears(&chat, 40).await;
    }
    let (status, said) = http_ask(&world.edges[0].ops(), "/readyz").await;
    assert!(status == 200 && said.contains(&lookupd), "{status}: it is said, and it stops nobody: {said}");
    // Only an end waits for it, because it would remember.
    let termination = alice.ends(&web.id).await;
    assert_eq!(web.closed().await.0, 4403);
    let path = format!("/v1/terminations/{termination}");
    wait_until("a termination that waits", PATIENCE, || async {
        let termination = alice.api(1).get(&path).await.ok();
        (termination["state"] == "pending" && termination["unreachable"].to_string().contains(&lookupd))
            .then_some(())
    })
    .await;
    world.stack.as_mut().unwrap().lookupd.restart().await;
    world.terminated(&alice.api(0), &termination).await;
    world.stays_without_traces(&web.id, Duration::from_secs(2)).await;
}

#[tokio::test]
async fn what_a_sender_who_hung_up_left_halfway_is_published_all_the_same() {
    let world = Deployment::Stack.start().await;
    let redis = &world.stack.as_ref().unwrap().redis;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.phone(0).await;
    let chat = alice.direct(&bob).await;
    phone.says(&chat, "before").await;
    // The bot doesn't wait for the answer; Redis does its work later all the same.
    redis.sigstop();
    let message =
        json!({ "key": uuid::Uuid::new_v4().to_string(), "kind": "text", "content": "are you there?" });
    let (api, path) = (alice.api(0), format!("/v1/chats/{chat}/messages"));
    let answer = tokio::time::timeout(Duration::from_millis(500), api.post(&path, message)).await;
    assert!(answer.is_err(), "a frozen Redis answers: {answer:?}");
    redis.sigcont();
    phone.hears(&chat, 2).await;
    wait_until("NSQ to have it, too", Duration::from_secs(10), || async {
        let outbox = format!("ks:{{{}}}:outbox", topic(&chat));
        (redis.command(&["ZCARD", &outbox]).await.ok()? == "0").then_some(())
    })
    .await;
}
