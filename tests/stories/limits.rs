//! Limits of a device that stays silent, acknowledges nothing, reads nothing, or asks too much.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Deployment;
use super::client::PATIENCE;
use super::memory::Phone;
use super::wire::{TEXT, Wire, masked};
use super::world::Pair;
use crate::support::{stays, wait_until};

pub async fn a_device_that_never_acknowledges_is_closed(on: Deployment) {
    let world = on.with("KEEPSTEP_ACK_TIMEOUT", "1s").start().await;
    let Pair { phone, mut bobs, chat, .. } = world.pair().await;
    bobs.stops_acking();
    phone.says_many(&chat, "hear me", 5).await;
    bobs.hears(&chat, 5).await;
    let begun = Instant::now();
    bobs.acks(&chat, 2).await;
    assert_eq!(bobs.closed().await.0, 4305);
    assert!(begun.elapsed() > Duration::from_millis(500), "closed after {:?}", begun.elapsed());
    // What it didn't acknowledge comes again, and a device that does its duty stays.
    bobs.connects(0).await;
    bobs.hears(&chat, 5).await;
    assert!(bobs.memory().chat(&chat).unwrap().arrived.iter().copied().eq(3..=5));
    bobs.resumes_acking();
    bobs.acks(&chat, 5).await;
    // Longer than the time-out for acknowledgements.
    stays(Duration::from_millis(1500), async || {
        bobs.requests(json!({ "type": "ping" })).await.expect("it stays");
    })
    .await;
    phone.says(&chat, "well done").await;
    bobs.hears(&chat, 6).await;
}

pub async fn a_device_that_is_silent_is_closed(on: Deployment) {
    let world = on.with("KEEPSTEP_HEARTBEAT", "300ms").start().await;
    let alice = world.user("alice");
    let phone = alice.phone(0).await;
    let web = alice.registers("sub").await;
    // It reads, but it answers no ping.
    let silent = Wire::open(&world.addresses()[0], &web.token).await;
    phone.gets(json!({ "type": "device", "event": "online", "device": web.id })).await;
    phone.gets(json!({ "type": "device", "event": "offline", "device": web.id })).await;
    assert_eq!(silent.close_code().await, Some(4302));
    // The phone, which answers pings and says nothing, is there all the time.
    assert_eq!(phone.memory().welcome["heartbeat_s"], 0.3);
    phone.requests(json!({ "type": "ping" })).await.expect("it is there");
    phone.gets(json!({ "type": "pong" })).await;
}

pub async fn a_main_that_answers_no_question_is_looked_after(on: Deployment) {
    let world = on.with("KEEPSTEP_HISTORY_TIMEOUT", "1s").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let main = alice.registers("main").await;
    let bobs = bob.phone(1).await;
    let chat = alice.direct(&bob).await;
    bobs.says(&chat, "before").await;
    let mut line = Wire::open(&world.addresses()[0], &main.token).await;
    let ack = json!({ "type": "ack", "chat": chat, "seq": 1 }).to_string();
    while !String::from_utf8_lossy(&line.frame_of(TEXT).await).contains("before") {}
    line.send(&masked(TEXT, ack.as_bytes())).await;
    let mut web = alice.web(0).await;
    let ask = json!({ "type": "history", "chat": chat, "limit": 10 });
    // Its line is dead: nothing is answered, no ping either. That is known long before two heartbeats of 25 s are missed.
    let begun = Instant::now();
    web.is_refused(ask, "main_timeout").await;
    assert_eq!(line.close_code().await, Some(4302));
    assert!(begun.elapsed() < Duration::from_secs(5), "after {:?}", begun.elapsed());
    assert_eq!(web.closed().await.0, 4303);
    // One that answers pings and no questions stays.
    let mut phone = main;
    phone.answers(Phone::Never);
    phone.connects(0).await;
    web.connects(1).await;
    web.is_refused(json!({ "type": "history", "chat": chat, "limit": 10 }), "main_timeout").await;
    stays(Duration::from_secs(2), async || {
        phone.requests(json!({ "type": "ping" })).await.expect("it stays");
    })
    .await;
}

pub async fn a_device_that_never_reads_is_closed(on: Deployment) {
    let world =
        on.with("KEEPSTEP_WRITE_TIMEOUT", "500ms").with("KEEPSTEP_UNACKED_WINDOW", "1024").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.registers("main").await);
    let chat = alice.direct(&bob).await;
    let frozen = Wire::open(&world.addresses()[0], &bobs.token).await;
    // More than all buffers on the way hold.
    let big = "x".repeat(60_000);
    let slow = "keepstep_closes_total{code=\"slow_consumer\"}";
    for n in 1.. {
        assert!(n < 500, "30 MB, and it isn't closed");
        phone.says(&chat, &big).await;
        if world.metric(slow).await > 0.0 {
            break;
        }
    }
    // What was on its way still comes, and then the reason.
    assert_eq!(frozen.close_code().await, Some(4301));
    let mut bobs = bobs;
    bobs.connects(1).await;
    let head = phone.says(&chat, "the end").await.seq;
    bobs.hears(&chat, head).await;
    phone.hears(&chat, head).await;
}

pub async fn too_many_frames_are_slowed_and_then_refused(on: Deployment) {
    let world = on
        .with("KEEPSTEP_FRAMES_PER_SECOND", "20")
        .with("KEEPSTEP_FRAMES_BURST", "20")
        .with("KEEPSTEP_RATE_PATIENCE", "1s")
        .start()
        .await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, web) = (alice.phone(0).await, alice.web(0).await);
    let chat = alice.direct(&bob).await;
    phone.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
    let begun = Instant::now();
    let frame = |n: u64| json!({ "type": "send", "chat": chat, "key": uuid::Uuid::new_v4(), "kind": "text", "content": n.to_string() });
    let asked: Vec<u64> = (0..120).map(|n| phone.asks(frame(n))).collect();
    let (mut taken, mut refused) = (0, 0);
    for id in asked {
        match phone.reply(id).await {
            Ok(_) => taken += 1,
            Err(error) => {
                assert_eq!((&error["code"], &error["retry"]), (&json!("too_many_requests"), &json!(true)));
                refused += 1;
            }
        }
    }
    // The burst, then what a second of patience lets through slowly, and the rest is refused.
    assert!((30..=80).contains(&taken) && refused >= 40, "{taken} taken, {refused} refused");
    assert!(begun.elapsed() > Duration::from_millis(700), "nothing was slowed: {:?}", begun.elapsed());
    // What was refused changed nothing; other devices aren't concerned; acknowledgements and pings aren't counted.
    phone.hears(&chat, taken).await;
    assert_eq!(web.says(&chat, "me too").await.seq, taken + 1);
    for _ in 0..100 {
        phone.requests(json!({ "type": "ping" })).await.expect("a ping isn't counted");
    }
    for _ in 0..100 {
        phone
            .requests(json!({ "type": "ack", "chat": chat, "seq": taken }))
            .await
            .expect("an ack isn't counted");
    }
    // After a while it may again.
    let again = || async { phone.requests(frame(0)).await.is_ok().then_some(()) };
    wait_until("a send to be taken again", PATIENCE, again).await;
}

pub async fn the_window_holds_back_and_loses_nothing(on: Deployment) {
    let world = on.with("KEEPSTEP_UNACKED_WINDOW", "10").start().await;
    let Pair { phone, bobs, chat, .. } = world.pair().await;
    bobs.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
    assert_eq!(bobs.memory().welcome["limits"]["unacked"], 10);
    bobs.stops_acking();
    phone.says_many(&chat, "hear me", 55).await;
    phone.hears(&chat, 55).await;
    for part in 1..=5 {
        bobs.hears(&chat, part * 10).await;
        // Not one more, however long.
        stays(Duration::from_millis(300), async || {
            bobs.requests(json!({ "type": "ping" })).await.expect("a ping");
            assert_eq!(bobs.memory().chat(&chat).unwrap().last, part * 10);
        })
        .await;
        bobs.acks(&chat, part * 10).await;
    }
    bobs.hears(&chat, 55).await;
    bobs.acks(&chat, 55).await;
}
