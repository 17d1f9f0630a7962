//! An nsqd is up and useless: its disk is full, or it hangs. Nobody waits for it, operators see it, and it is used
//! again as soon as possible.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::faults::{after_a_talk, carrier};
use crate::stories::client::{Api, PATIENCE};
use crate::stories::user::User;
use crate::stories::world::Pair;
use crate::stories::{Deployment, World};
use crate::support::{stays, wait_for, wait_until};

/// "After the last fault heals."
const RECOVERY: Duration = Duration::from_secs(10);

fn up(node: &str) -> String {
    format!("keepstep_nsqd_up{{node=\"{node}\"}}")
}

/// Waits until both edges report it.
async fn is_up(world: &World, node: &str, is: bool) {
    wait_until(if is { "the nsqd to be used" } else { "the nsqd to be left alone" }, PATIENCE, || async {
        (world.metric(&up(node)).await == if is { 2.0 } else { 0.0 }).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_nsqd_whose_disk_is_full_loses_nobody_anything() {
    let world = Deployment::Stack.with("KEEPSTEP_LOG", "info").on_small_disks(8).start().await;
    let (Pair { phone, bobs, chat, .. }, mut web) = after_a_talk(&world).await;
    let stack = world.stack.as_ref().unwrap();
    let carrier = carrier(&world, &chat).await;
    let node = stack.nsqd[carrier].http();
    assert_eq!(world.metric(&up(&node)).await, 2.0);

    stack.disks[carrier].fill();
    let long = "x".repeat(10_000);
    let mut worst = Duration::ZERO;
    for n in 21..=60 {
        let begun = Instant::now();
        assert_eq!(phone.says(&chat, &long).await.seq, n);
        assert!(begun.elapsed() < Duration::from_secs(1), "a send waited {:?}", begun.elapsed());
        if n % 10 == 0 {
            bobs.hears(&chat, n).await;
            worst = worst.max(begun.elapsed());
        }
    }
    assert!(worst <= Duration::from_secs(3), "by the log it took {worst:?}");
    phone.hears(&chat, 60).await;
    // Everybody is told, and what to do about it.
    is_up(&world, &node, false).await;
    let (status, said) = world.readiness(0).await.expect("/readyz answers");
    assert!(status == 200 && said.contains(&node) && said.contains("free its disk"), "{status}: {said}");
    let overview = world.admin().get("/admin/v1/overview").await.ok();
    assert!(overview["broker"].to_string().contains("free its disk"), "{overview}");
    let waiting = world.unconfirmed(&chat).await;
    assert!(waiting > 0, "the disk wasn't full");
    // Longer than it is from one probe to the next.
    stays(Duration::from_secs(3), async || {
        assert_eq!(world.metric(&up(&node)).await, 0.0, "a probe went through although nothing else would");
    })
    .await;

    stack.disks[carrier].free();
    world.is_confirmed(&chat, RECOVERY).await;
    wait_until("the backlog to be in NSQ", RECOVERY, || async {
        (world.queue(&chat, &web.id).await.depth >= waiting).then_some(())
    })
    .await;
    is_up(&world, &node, true).await;
    for edge in &world.edges {
        edge.ready().await;
    }
    // And NSQ carries again.
    let by_nsq = world.metric("keepstep_deliveries_total{source=\"nsq\"}").await;
    phone.says_many(&chat, "after", 20).await;
    for device in [&phone, &bobs] {
        device.hears(&chat, 80).await;
    }
    assert!(world.metric("keepstep_deliveries_total{source=\"nsq\"}").await >= by_nsq + 30.0);
    web.connects(0).await;
    web.hears(&chat, 80).await;
}

/// An nsqd that was killed, and then one that hangs: everything works without it. So a balancer that asks `/readyz`
/// must continue to send clients here, and must not wait for the answer.
#[tokio::test]
async fn an_nsqd_that_is_away_takes_no_edge_out_of_the_balancer() {
    let mut world = Deployment::Stack.start().await;
    let Pair { alice, phone, bobs, chat, .. } = world.pair().await;
    phone.says(&chat, "hello").await;
    bobs.hears(&chat, 1).await;
    let carrier = carrier(&world, &chat).await;
    let (node, lookupd) =
        (world.stack.as_ref().unwrap().nsqd[carrier].http(), world.stack.as_ref().unwrap().lookupd.http());
    let ready = async |world: &World, named: &[&str]| {
        for edge in 0..world.edges.len() {
            wait_for("a note in /readyz", PATIENCE, async || {
                let begun = Instant::now();
                let (status, said) = world.readiness(edge).await.ok_or("no answer")?;
                let took = begun.elapsed();
                assert_eq!(status, 200, "edge {edge}: {said}");
                assert!(took < Duration::from_millis(900), "/readyz took {took:?}: {said}");
                let body: serde_json::Value = serde_json::from_str(&said).expect("JSON");
                assert_eq!((&body["ready"], &body["problems"]), (&json!(true), &json!([])), "{said}");
                let notes = body["notes"].to_string();
                if named.iter().all(|name| notes.contains(name)) { Ok(()) } else { Err(notes) }
            })
            .await;
        }
    };
    ready(&world, &[]).await;
    world.stack.as_mut().unwrap().nsqd[carrier].kill9();
    world.stack.as_ref().unwrap().lookupd.sigstop();
    ready(&world, &[&node, &lookupd]).await;
    is_up(&world, &node, false).await;
    wait_until("both edges to count the nsqlookupd", PATIENCE, || async {
        (world.metric("keepstep_nsqlookupd_down").await == 2.0).then_some(())
    })
    .await;
    for edge in 0..2 {
        Api { token: None, ..world.api(edge, "") }.get("/v1/ready").await.with(200);
    }
    // Somebody new comes in, somebody comes back, and everybody hears everything.
    let (carol, mut bobs) = (world.user("carol"), bobs);
    let carols = carol.phone(1).await;
    let with_carol = alice.direct(&carol).await;
    bobs.reconnects(0).await;
    phone.says_many(&chat, "without it", 5).await;
    phone.says(&with_carol, "elsewhere").await;
    carols.hears(&with_carol, 1).await;
    for device in [&phone, &bobs] {
        device.hears(&chat, 6).await;
    }
    world.stack.as_mut().unwrap().nsqd[carrier].restart().await;
    world.stack.as_ref().unwrap().lookupd.sigcont();
    is_up(&world, &node, true).await;
    // As it is when one hangs.
    world.stack.as_ref().unwrap().nsqd[carrier].sigstop();
    ready(&world, &[&node]).await;
    world.stack.as_ref().unwrap().nsqd[carrier].sigcont();
    wait_until("no nsqlookupd to be missed", PATIENCE, || async {
        (world.metric("keepstep_nsqlookupd_down").await == 0.0).then_some(())
    })
    .await;
}

/// Creates a chat of these two users on this nsqd.
async fn chat_on(world: &World, node: usize, alice: &User, bob: &User) -> String {
    loop {
        let chat = alice.group("a group").await;
        alice.invites(&chat, bob).await;
        if carrier(world, &chat).await == node {
            return chat;
        }
    }
}

#[tokio::test]
async fn an_nsqd_that_hangs_holds_up_no_other() {
    let world = Deployment::Stack.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
    let (stuck, free) = (chat_on(&world, 0, &alice, &bob).await, chat_on(&world, 1, &alice, &bob).await);
    for chat in [&stuck, &free] {
        phone.says(chat, "hello").await;
        bobs.hears(chat, 1).await;
    }
    let frozen = &world.stack.as_ref().unwrap().nsqd[0];
    frozen.sigstop();
    phone.says_many(&stuck, "into the ice", 50).await;
    is_up(&world, &frozen.http(), false).await;

    // From now on nothing is tried there, however much is sent, and the other one carries as ever.
    let by_nsq = world.metric("keepstep_deliveries_total{source=\"nsq\"}").await;
    for seq in 2..=31 {
        phone.says_many(&stuck, "more", 5).await;
        let begun = Instant::now();
        phone.says(&free, "as ever").await;
        bobs.hears(&free, seq).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "message {seq} took {:?}", begun.elapsed());
    }
    assert!(world.metric("keepstep_deliveries_total{source=\"nsq\"}").await >= by_nsq + 30.0);
    bobs.hears(&stuck, 201).await;

    frozen.sigcont();
    world.is_confirmed(&stuck, RECOVERY).await;
    is_up(&world, &frozen.http(), true).await;
}
