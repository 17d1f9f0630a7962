//! NSQ is down for a while, or has lost its data: Keepstep's guarantees, in numbers.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::faults::{after_a_talk, carrier};
use crate::stories::client::PATIENCE;
use crate::stories::device::Device;
use crate::stories::links::{Page, stranger, yes};
use crate::stories::user::accepted;
use crate::stories::world::Pair;
use crate::stories::world::{channel, topic};
use crate::stories::{Deployment, World};
use crate::support::wait_until;

/// Of NSQ as a whole.
const OUTAGE: Duration = Duration::from_secs(30);
/// By the log: the tail check is 2 s.
const BY_THE_LOG: Duration = Duration::from_secs(3);
/// "After the last fault heals."
const RECOVERY: Duration = Duration::from_secs(10);

#[tokio::test]
async fn nsq_is_down_for_half_a_minute_and_nobody_waits_for_it() {
    let mut world = Deployment::Stack.start().await;
    let (Pair { phone, bobs, chat, .. }, mut web) = after_a_talk(&world).await;
    let before = 20;
    let stack = world.stack.as_mut().unwrap();
    // In good order: after a `kill -9` nsqd may lose messages that it takes *later* to a queue that is younger than its
    // `sync_timeout`, because it finds the queue's file and not where in it to go on. `faults.rs` kills.
    for nsqd in &mut stack.nsqd {
        nsqd.terminate().await;
    }
    stack.lookupd.kill9();

    // At every phase of whatever else has a rhythm.
    let pauses: Vec<_> = (0..150).map(|n| OUTAGE.mul_f64((1 + n * 137 % 150) as f64 / 11_325.0)).collect();
    let head = before + pauses.len() as u64;
    let (mut sent, mut heard) = (Vec::new(), Vec::new());
    let talk = async {
        for (seq, pause) in (before + 1..).zip(pauses) {
            let at = Instant::now();
            assert_eq!(phone.says(&chat, "while it is down").await.seq, seq);
            assert!(at.elapsed() < Duration::from_secs(1), "a send waited {:?}", at.elapsed());
            sent.push(at);
            tokio::time::sleep(pause).await;
        }
    };
    let listen = async {
        for seq in before + 1..=head {
            bobs.hears(&chat, seq).await;
            heard.push(Instant::now());
        }
    };
    let begun = Instant::now();
    tokio::join!(talk, listen);
    assert!(begun.elapsed() >= OUTAGE);
    let worst = sent.iter().zip(&heard).map(|(sent, heard)| *heard - *sent).max().unwrap();
    println!("{} messages without NSQ, the slowest after {worst:?}", sent.len());
    assert!(worst <= BY_THE_LOG, "a message took {worst:?} by the log");
    phone.hears(&chat, head).await;
    assert_eq!(world.unconfirmed(&chat).await, head - before);

    let stack = world.stack.as_mut().unwrap();
    stack.lookupd.restart().await;
    for nsqd in &mut stack.nsqd {
        nsqd.restart().await;
    }
    let back = Instant::now();
    world.is_confirmed(&chat, RECOVERY).await;
    println!("the outbox was empty {:?} after NSQ was back", back.elapsed());
    wait_until("the backlog to be in NSQ", RECOVERY, || async {
        (world.queue(&chat, &web.id).await.depth == head - before).then_some(())
    })
    .await;
    // What the log brought already is finished; and the web session gets what it missed, in order, from NSQ alone.
    drains(&world, &chat, &phone).await;
    drains(&world, &chat, &bobs).await;
    let by_the_log = world.metric("keepstep_deliveries_total{source=\"log\"}").await;
    web.connects(0).await;
    web.hears(&chat, head).await;
    drains(&world, &chat, &web).await;
    assert_eq!(world.metric("keepstep_deliveries_total{source=\"log\"}").await, by_the_log);
}

/// Waits until the device has everything, and its queue is empty.
async fn drains(world: &World, chat: &str, device: &Device) {
    let last = device.memory().chat(chat).expect("a chat it knows").last;
    device.acks(chat, last).await;
    world.is_drained(chat, device).await;
}

#[tokio::test]
async fn the_last_message_lost_inside_nsqd_arrives_with_no_further_send() {
    // Bob's window is full, so that the last message is in nsqd when that dies.
    let mut world = Deployment::Stack.with("KEEPSTEP_UNACKED_WINDOW", "8").start().await;
    // As nsqd comes: what is queued is in its memory, and goes with it.
    for nsqd in &mut world.stack.as_mut().unwrap().nsqd {
        nsqd.restart_with("--mem-queue-size=10000").await;
    }
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
    let mut web = alice.web(1).await;
    let chat = alice.direct(&bob).await;
    phone.hears(&chat, phone.says(&chat, "hello").await.seq).await;
    for device in [&web, &bobs] {
        device.hears(&chat, 1).await;
        device.acks(&chat, 1).await;
    }
    web.leaves().await;
    bobs.stops_acking();
    // (More than the edge itself may hold.)
    phone.says_many(&chat, "held", 80).await;
    bobs.hears(&chat, 9).await;
    let last = phone.says(&chat, "the last").await.seq;
    phone.hears(&chat, last).await;
    wait_until("NSQ to have taken all of it", PATIENCE, || async {
        let (of_bob, of_web) = (world.queue(&chat, &bobs.id).await, world.queue(&chat, &web.id).await);
        let there = of_bob.depth + of_bob.in_flight == 81 && of_web.depth == 81;
        (there && world.unconfirmed(&chat).await == 0).then_some(())
    })
    .await;

    let carrier = carrier(&world, &chat).await;
    world.stack.as_mut().unwrap().nsqd[carrier].kill9();
    world.stack.as_mut().unwrap().nsqd[carrier].restart().await;
    let back = Instant::now();
    wait_until("Bob's phone to consume again", RECOVERY, || async {
        (world.queue(&chat, &bobs.id).await.consumers == 1).then_some(())
    })
    .await;
    for device in [&bobs, &web] {
        let queue = world.queue(&chat, &device.id).await;
        assert_eq!(queue.depth + queue.in_flight, 0, "NSQ lost nothing, so this shows nothing: {queue:?}");
    }
    let by_the_log = world.metric("keepstep_deliveries_total{source=\"log\"}").await;
    assert_eq!(bobs.memory().chat(&chat).unwrap().last, 9);
    bobs.resumes_acking();
    bobs.hears(&chat, last).await;
    web.connects(0).await;
    web.hears(&chat, last).await;
    assert!(back.elapsed() <= RECOVERY, "the last message took {:?}", back.elapsed());
    // All 81 to Alice's web session, most of them to Bob's phone.
    let by_the_log = world.metric("keepstep_deliveries_total{source=\"log\"}").await - by_the_log;
    assert!(by_the_log > 81.0 + 40.0, "{by_the_log}");
}

#[tokio::test]
async fn a_termination_waits_for_an_nsqd_that_is_down() {
    let mut world = Deployment::Stack.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (mut phone, mut web) = (alice.phone(0).await, alice.web(1).await);
    let chat = alice.direct(&bob).await;
    web.gets(json!({ "type": "chat", "event": "joined" })).await;
    phone.says_many(&chat, "said", 10).await;
    web.hears(&chat, 10).await;
    let carrier = carrier(&world, &chat).await;
    let dead = world.stack.as_ref().unwrap().nsqd[carrier].http();
    world.stack.as_mut().unwrap().nsqd[carrier].kill9();

    let termination = accepted(&phone.api(), &web.id).await;
    assert_eq!(web.closed().await.0, 4403);
    let path = format!("/v1/terminations/{termination}");
    let pending = wait_until("a termination that waits", PATIENCE, || async {
        let termination = alice.api(0).get(&path).await.ok();
        (termination["state"] == "pending").then_some(termination)
    })
    .await;
    assert!(pending["unreachable"].to_string().contains(&dead), "{dead} isn't named: {pending}");
    world.stack.as_mut().unwrap().nsqd[carrier].restart().await;
    let back = Instant::now();
    world.terminated(&alice.api(1), &termination).await;
    assert!(back.elapsed() <= Duration::from_secs(30), "it took {:?}", back.elapsed());
    world.stays_without_traces(&web.id, Duration::from_secs(2)).await;
    phone.says(&chat, "on").await;
    phone.hears(&chat, 11).await;

    // Nor does a restart bring anything back, of whichever daemon, by whatever it remembers.
    let stack = world.stack.as_mut().unwrap();
    stack.redis.restart().await;
    stack.lookupd.restart().await;
    for nsqd in &mut stack.nsqd {
        nsqd.restart().await;
    }
    for edge in &mut world.edges {
        edge.restart().await;
        edge.ready().await;
    }
    wait_until("nsqlookupd to know the phone's queue again", PATIENCE, || async {
        (world.traces(&phone.id).await.len() == 2).then_some(())
    })
    .await;
    world.stays_without_traces(&web.id, Duration::from_secs(3)).await;
    phone.forgets_its_socket();
    phone.connects(1).await;
    phone.says(&chat, "and on").await;
    phone.hears(&chat, 12).await;
}

#[tokio::test]
async fn a_yes_counts_though_its_device_comes_late() {
    const LIFETIME: Duration = Duration::from_secs(3);
    let world =
        Deployment::Stack.with("KEEPSTEP_LINK_LIFETIME", &format!("{}s", LIFETIME.as_secs())).start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, _bobs) = (alice.phone(0).await, bob.phone(0).await);
    alice.direct(&bob).await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd;
    let page = Page::opens(&stranger(&world, 1)).await;
    let opened = Instant::now();
    nsqd.iter().for_each(|nsqd| nsqd.sigstop());
    // Its queue can't be made now. The yes stands all the same.
    page.decided(&phone.api(), yes()).await.problem(503, "unavailable");
    // Its time has to be over: that is what this is about.
    tokio::time::sleep((LIFETIME + Duration::from_millis(300)).saturating_sub(opened.elapsed())).await;
    assert_eq!(page.learns(0).await, json!({ "state": "pending" }));
    nsqd.iter().for_each(|nsqd| nsqd.sigcont());
    wait_until("the same yes to be done", PATIENCE, || async {
        (page.decided(&phone.api(), yes()).await.status == 200).then_some(())
    })
    .await;
    let learnt = page.learns(25).await;
    assert_eq!(learnt["state"], "approved", "{learnt}");
    alice.device(&learnt).connects(1).await;
}

/// A consumer that is attaching may recreate a queue; so may another one, after the check that found the first. (A
/// machine that stops for the second between two checks misses its chance: then again, with another device.)
#[tokio::test]
async fn an_end_looks_until_it_finds_nothing() {
    // The reconciler would remove it, too.
    let world = Deployment::Stack.with("KEEPSTEP_RECONCILE", "1h").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (_phone, _bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(&world, &chat).await];
    for _ in 0..5 {
        let web = alice.web(0).await;
        let again = format!("/channel/create?topic={}&channel={}", topic(&chat), channel(&web.id));
        let id = accepted(&alice.api(0), &web.id).await;
        let mut back = 0;
        let done = wait_until("the end", PATIENCE, async || {
            let termination = alice.api(0).get(&format!("/v1/terminations/{id}")).await.ok();
            if termination["state"] == "accepted" && back < 2 && termination["channels_deleted"] == back + 1 {
                nsqd.post(&again, "").await;
                back += 1;
            }
            (termination["state"] == "done").then_some(termination)
        })
        .await;
        if done["channels_deleted"] == 3 {
            assert_eq!(done["receipt"]["remaining"], 0, "{done}");
            assert_eq!(world.traces(&web.id).await, Vec::<String>::new());
            return;
        }
    }
    panic!("what came back twice was never removed twice");
}
