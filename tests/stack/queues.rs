//! The log is short, so that only the queues have a device's messages. Whatever happens to connections, edges and nsqd,
//! a gap is reported only for messages that no queue holds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::faults::{carrier, trimmed};
use crate::stories::client::PATIENCE;
use crate::stories::device::Device;
use crate::stories::user::User;
use crate::stories::world::{Setup, channel, topic};
use crate::stories::{Deployment, World};
use crate::support::{stays, wait_until};

/// Messages that the log of a chat keeps.
const LOG: u64 = 50;

/// A log of 50 messages, and nobody is held up by a rate.
fn short_log() -> Setup {
    Deployment::Stack
        .with("KEEPSTEP_LOG_MESSAGES", &LOG.to_string())
        .with("KEEPSTEP_LOG_KEEP", &LOG.to_string())
        .with("KEEPSTEP_FRAMES_PER_SECOND", "100000")
        .with("KEEPSTEP_FRAMES_BURST", "100000")
        .with("KEEPSTEP_CREATES_PER_MINUTE", "10000")
        .with("KEEPSTEP_INVITED_PER_HOUR", "10000")
}

/// Alice's phone and Bob's, and groups of the two in which Alice has said so much while Bob was away.
struct Away {
    alice: User,
    phone: Device,
    bobs: Device,
    chats: Vec<String>,
    count: u64,
}

async fn away(world: &World, chats: usize, count: u64) -> Away {
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.registers("main").await);
    let mut ids = Vec::new();
    for n in 0..chats {
        let chat = alice.group(&format!("group {n}")).await;
        alice.invites(&chat, &bob).await;
        ids.push(chat);
    }
    for chat in &ids {
        phone.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
        phone.says_many(chat, "while Bob is away", count).await;
    }
    for chat in &ids {
        phone.hears(chat, count).await;
        wait_until("NSQ to have it", PATIENCE, || async {
            (world.unconfirmed(chat).await == 0).then_some(())
        })
        .await;
        // (What came after the last trim is more.)
        trimmed(world, chat, LOG + count % 64).await;
    }
    Away { alice, phone, bobs, chats: ids, count }
}

impl Away {
    /// Bob's queue loses all that it has, and so much is said behind that. Of what is lost the log has nothing any more.
    async fn loses(&self, world: &World, chat: &str, behind: u64) {
        let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(world, chat).await];
        let (name, queue) = (topic(chat), channel(&self.bobs.id));
        nsqd.post(&format!("/channel/empty?topic={name}&channel={queue}"), "").await;
        self.phone.says_many(chat, "behind what is lost", behind).await;
        let last = self.count + behind;
        self.phone.hears(chat, last).await;
        trimmed(world, chat, LOG + last % 64).await;
    }

    /// Bob has all of it, in order, without a gap (which would be a fault of the device's).
    async fn bob_has_everything(&self, world: &World) {
        for chat in &self.chats {
            self.bobs.hears(chat, self.count).await;
            assert!(self.bobs.memory().chat(chat).unwrap().messages.keys().copied().eq(1..=self.count));
        }
        for chat in &self.chats {
            self.bobs.acks(chat, self.count).await;
            world.is_drained(chat, &self.bobs).await;
        }
        assert_eq!(world.metric("keepstep_gap_late_total").await, 0.0);
    }

    /// A message that Alice has said, as the server writes it.
    fn said(&self, chat: &str, seq: u64) -> String {
        let mut message = self.phone.memory().chat(chat).unwrap().messages[&seq].clone();
        for first in ["type", "chat", "seq"] {
            message.as_object_mut().unwrap().remove(first);
        }
        format!(r#"{{"type":"message","chat":"{chat}","seq":{seq},{}"#, &message.to_string()[1..])
    }

    /// How many messages Bob's socket has brought.
    fn arrived(&self) -> u64 {
        let memory = self.bobs.memory();
        self.chats.iter().filter_map(|chat| memory.chat(chat)).map(|chat| chat.arrived.len() as u64).sum()
    }

    /// Waits until a full window has come.
    async fn bob_has_a_windowful(&self, most: u64) {
        wait_until("as many messages as may be unacknowledged", PATIENCE, || async {
            (self.arrived() >= most).then_some(())
        })
        .await;
    }
}

/// The line drops with a window of messages unacknowledged: nsqd puts them behind all others, which are more than may be in
/// flight, so that nobody can wait for them without giving others back.
#[tokio::test]
async fn a_line_that_drops_costs_no_message() {
    let world = short_log().start().await;
    let mut away = away(&world, 6, 500).await;
    away.bobs.stops_acking();
    away.bobs.connects(1).await;
    away.bob_has_a_windowful(256).await;
    away.bobs.vanishes().await;
    away.bobs.memory().acking = true;
    let begun = Instant::now();
    away.bobs.connects(1).await;
    away.bob_has_everything(&world).await;
    println!("all {} messages after {:?}", 6 * away.count, begun.elapsed());
}

/// Again and again, on both edges, with something acknowledged in between, while nsqd restarts twice.
#[tokio::test]
async fn lines_that_drop_again_and_again_cost_no_message() {
    let mut world = short_log().start().await;
    let mut away = away(&world, 2, 900).await;
    let carriers = [carrier(&world, &away.chats[0]).await, carrier(&world, &away.chats[1]).await];
    for round in 0..6 {
        let acks = round % 3 == 1;
        away.bobs.memory().acking = acks;
        away.bobs.connects(round % 2).await;
        if round == 2 || round == 4 {
            // While it has its hands full of messages.
            let nsqd = &mut world.stack.as_mut().unwrap().nsqd[carriers[round / 4]];
            nsqd.terminate().await;
            nsqd.restart().await;
        }
        away.bob_has_a_windowful(if acks { 150 } else { 20 * round as u64 + 1 }).await;
        away.bobs.vanishes().await;
    }
    away.bobs.memory().acking = true;
    away.bobs.connects(1).await;
    away.bob_has_everything(&world).await;
}

/// What is large gives way sooner: the session doesn't hold as many as may be in flight.
#[tokio::test]
async fn large_messages_give_way_by_their_size() {
    let world = short_log().start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(0).await, bob.registers("main").await);
    let chat = alice.direct(&bob).await;
    // 12 MB in all.
    phone.says_many(&chat, &"large ".repeat(5_000), 400).await;
    phone.hears(&chat, 400).await;
    trimmed(&world, &chat, LOG + 400 % 64).await;
    bobs.stops_acking();
    bobs.connects(1).await;
    bobs.hears(&chat, 60).await;
    bobs.vanishes().await;
    bobs.memory().acking = true;
    bobs.connects(1).await;
    let begun = Instant::now();
    bobs.hears(&chat, 400).await;
    println!("all 400 large messages after {:?}", begun.elapsed());
    assert!(bobs.memory().chat(&chat).unwrap().messages.keys().copied().eq(1..=400));
    bobs.acks(&chat, 400).await;
    world.is_drained(&chat, &bobs).await;
}

#[tokio::test]
async fn nsqd_restarts_while_the_device_connects() {
    let mut world = short_log().start().await;
    let mut away = away(&world, 1, 500).await;
    let carrier = carrier(&world, &away.chats[0]).await;
    let nsqd = &mut world.stack.as_mut().unwrap().nsqd[carrier];
    nsqd.terminate().await;
    away.bobs.connects(1).await;
    // (Longer than was once waited for.)
    stays(Duration::from_millis(4500), async || assert_eq!(away.arrived(), 0)).await;
    nsqd.restart().await;
    away.bob_has_everything(&world).await;
}

#[tokio::test]
async fn an_edge_that_stops_gives_back_what_it_held() {
    let mut world = short_log().start().await;
    let mut away = away(&world, 2, 800).await;
    away.bobs.stops_acking();
    away.bobs.connects(1).await;
    away.bob_has_a_windowful(256).await;
    world.edges[1].terminate().await;
    away.bobs.closed().await;
    away.bobs.memory().acking = true;
    away.bobs.connects(0).await;
    let begun = Instant::now();
    for chat in &away.chats {
        away.bobs.hears(chat, away.count).await;
    }
    println!("all {} messages after {:?}", away.chats.len() as u64 * away.count, begun.elapsed());
    world.edges[1].restart().await;
    world.edges[1].ready().await;
    away.bob_has_everything(&world).await;
}

/// What a killed edge had in flight comes back when nsqd stops waiting for it.
#[tokio::test]
async fn what_a_killed_edge_held_is_waited_for() {
    let mut world = short_log()
        .with("KEEPSTEP_NSQ_MESSAGE_TIMEOUT", "6s")
        .with("KEEPSTEP_ACK_TIMEOUT", "5s")
        .start()
        .await;
    let mut away = away(&world, 1, 400).await;
    away.bobs.stops_acking();
    away.bobs.connects(1).await;
    away.bob_has_a_windowful(256).await;
    world.edges[1].kill9();
    away.bobs.lost().await;
    away.bobs.memory().acking = true;
    world.edges[1].restart().await;
    world.edges[1].ready().await;
    away.bobs.connects(0).await;
    let begun = Instant::now();
    away.bob_has_everything(&world).await;
    println!("all {} messages after {:?}", away.count, begun.elapsed());
}

/// No fault at all: a slow phone, and more chats than may be unacknowledged, so that each has its turn only after a while.
#[tokio::test]
async fn a_slow_phone_with_many_chats_loses_nothing() {
    let world = short_log().with("KEEPSTEP_UNACKED_WINDOW", "32").start().await;
    let mut away = away(&world, 40, 65).await;
    away.bobs.stops_acking();
    away.bobs.connects(1).await;
    away.bob_has_a_windowful(32).await;
    let mut due = Instant::now() + Duration::from_millis(3500);
    stays(Duration::from_secs(8), async || {
        if Instant::now() < due {
            return;
        }
        due += Duration::from_millis(3500);
        let memory = away.bobs.memory();
        let heard = away.chats.iter().filter_map(|chat| Some((chat, memory.chat(chat)?.last)));
        let acks = heard
            .filter(|(_, last)| *last > 0)
            .map(|(chat, last)| json!({ "type": "ack", "chat": chat, "seq": last }));
        acks.for_each(|ack| away.bobs.puts(ack));
    })
    .await;
    away.bobs.resumes_acking();
    away.bob_has_everything(&world).await;
}

/// The queue has lost its beginning, and is deeper than may be in flight behind that.
#[tokio::test]
async fn a_real_loss_ends_in_exactly_the_right_gap() {
    let world = short_log().start().await;
    let mut away = away(&world, 1, 300).await;
    let chat = away.chats[0].clone();
    away.loses(&world, &chat, 700).await;
    away.bobs.memory().expects_loss = true;
    let begun = Instant::now();
    away.bobs.connects(1).await;
    let gap = away.bobs.gets(json!({ "type": "gap", "chat": chat })).await;
    println!("the gap was told after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!((&gap["from"], &gap["to"]), (&json!(1), &json!(300)));
    away.bobs.hears(&chat, 1000).await;
    assert_eq!(away.bobs.memory().chat(&chat).unwrap().gaps, [(1, 300)]);
    away.bobs.acks(&chat, 1000).await;
    world.is_drained(&chat, &away.bobs).await;
    assert_eq!(world.metric("keepstep_gaps_total").await, 300.0);
    drop(away.alice);
}

/// An edge published some of it again, because it didn't know whether NSQ had it: those are in flight twice.
#[tokio::test]
async fn a_real_loss_is_told_although_the_queue_has_messages_twice() {
    let world = short_log().start().await;
    let mut away = away(&world, 1, 100).await;
    let chat = away.chats[0].clone();
    away.loses(&world, &chat, 90).await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(&world, &chat).await];
    let name = topic(&chat);
    for seq in 101..=110 {
        nsqd.post(&format!("/pub?topic={name}"), &away.said(&chat, seq)).await;
    }
    away.bobs.memory().expects_loss = true;
    let begun = Instant::now();
    away.bobs.connects(1).await;
    away.bobs.hears(&chat, 190).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(away.bobs.memory().chat(&chat).unwrap().gaps, [(1, 100)]);
    away.bobs.acks(&chat, 190).await;
    world.is_drained(&chat, &away.bobs).await;
}

/// In several chats at once, for which there is so little room that none can hold what it has seen.
#[tokio::test]
async fn real_losses_in_many_chats_end_in_exactly_the_right_gaps() {
    let world = short_log().with("KEEPSTEP_UNACKED_WINDOW", "8").start().await;
    let mut away = away(&world, 6, 100).await;
    for chat in &away.chats {
        away.loses(&world, chat, 300).await;
    }
    away.bobs.memory().expects_loss = true;
    // (What came first is behind the rest then.)
    away.bobs.stops_acking();
    away.bobs.connects(1).await;
    away.bobs.gets(json!({ "type": "gap", "from": 1, "to": 100 })).await;
    away.bobs.vanishes().await;
    away.bobs.memory().acking = true;
    away.bobs.connects(0).await;
    for chat in &away.chats {
        away.bobs.hears(chat, 400).await;
        assert!(away.bobs.memory().chat(chat).unwrap().messages.keys().copied().eq(101..=400));
        assert!(away.bobs.memory().chat(chat).unwrap().gaps.iter().all(|gap| *gap == (1, 100)));
        away.bobs.acks(chat, 400).await;
        world.is_drained(chat, &away.bobs).await;
    }
}

/// Less waits than the device may hold, and there is always something new: the queue never comes to rest.
#[tokio::test]
async fn a_real_loss_is_told_although_the_chat_goes_on() {
    let world = short_log().start().await;
    let mut away = away(&world, 1, 100).await;
    let chat = away.chats[0].clone();
    away.loses(&world, &chat, 64).await;
    away.bobs.memory().expects_loss = true;
    let told = async {
        away.bobs.connects(1).await;
        let since = Instant::now();
        away.bobs.gets(json!({ "type": "gap", "chat": chat, "from": 1, "to": 100 })).await;
        since.elapsed()
    };
    let talk = async {
        loop {
            away.phone.says(&chat, "on and on").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let took = tokio::select! {
        took = told => took,
        () = talk => unreachable!("it goes on and on"),
    };
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    let last = away.phone.memory().chat(&chat).unwrap().last;
    away.bobs.hears(&chat, last).await;
    assert!(away.bobs.memory().chat(&chat).unwrap().messages.keys().copied().eq(101..=last));
    assert_eq!(away.bobs.memory().chat(&chat).unwrap().gaps, [(1, 100)]);
}

/// Messages that are said while its queues are being made are in them, or below what it is owed.
#[tokio::test]
async fn a_device_registered_in_the_middle_of_a_conversation_has_no_hole_although_the_log_is_short() {
    let world = short_log().start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.phone(0).await;
    let chat = alice.group("us").await;
    alice.invites(&chat, &bob).await;
    // Each makes the registration longer.
    for n in 0..60 {
        let other = alice.group(&format!("group {n}")).await;
        alice.invites(&other, &bob).await;
    }
    let talk = phone.says_many(&chat, "on and on", 2000);
    let come = async {
        phone.hears(&chat, 100).await;
        bob.registers("main").await
    };
    let (_, mut bobs) = tokio::join!(talk, come);
    phone.hears(&chat, 2000).await;
    wait_until("NSQ to have it", PATIENCE, || async { (world.unconfirmed(&chat).await == 0).then_some(()) })
        .await;
    trimmed(&world, &chat, LOG + 2000 % 64).await;
    bobs.connects(1).await;
    bobs.hears(&chat, 2000).await;
    let from = bobs.memory().chat(&chat).unwrap().from;
    assert!((100..2000).contains(&from), "in the middle: {from}");
    assert!(bobs.memory().chat(&chat).unwrap().messages.keys().copied().eq(from + 1..=2000));
    assert_eq!(world.metric("keepstep_gaps_total").await, 0.0);
}

/// Everything comes from the log, and nothing is acknowledged.
#[tokio::test]
async fn the_window_bounds_what_the_log_brings() {
    let window = 16;
    let mut world = Deployment::Stack
        .with("KEEPSTEP_UNACKED_WINDOW", &window.to_string())
        .with("KEEPSTEP_TAIL_CHECK", "300ms")
        .with("KEEPSTEP_CREATES_PER_MINUTE", "10000")
        .start()
        .await;
    let mut away = away(&world, 8, 12).await;
    for nsqd in &mut world.stack.as_mut().unwrap().nsqd {
        nsqd.terminate().await;
    }
    away.bobs.stops_acking();
    away.bobs.connects(1).await;
    away.bob_has_a_windowful(window).await;
    stays(Duration::from_secs(2), async || {
        away.bobs.requests(json!({ "type": "ping" })).await.expect("a ping");
        assert!(away.arrived() <= window, "{} messages are unacknowledged", away.arrived());
    })
    .await;
    // Those who wait have their turn: nobody's first message is behind all of somebody else's.
    away.bobs.resumes_acking();
    for chat in &away.chats {
        away.bobs.hears(chat, away.count).await;
    }
}

/// What NSQ brings after it was told as gone is not finished unseen.
#[tokio::test]
async fn what_comes_after_its_gap_is_delivered_on_the_next_connection() {
    let world = short_log().start().await;
    let mut away = away(&world, 1, 200).await;
    let chat = away.chats[0].clone();
    let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(&world, &chat).await];
    let (name, queue) = (topic(&chat), channel(&away.bobs.id));
    let (first, second) = (away.said(&chat, 1), away.said(&chat, 2));
    nsqd.post(&format!("/channel/empty?topic={name}&channel={queue}"), "").await;
    away.bobs.memory().expects_loss = true;
    away.bobs.stops_acking();
    away.bobs.connects(1).await;
    let gap = away.bobs.gets(json!({ "type": "gap", "chat": chat })).await;
    assert_eq!(gap["from"], 1);
    // Somebody's backup of that queue is played back, say.
    nsqd.post(&format!("/pub?topic={name}"), &first).await;
    wait_until("the message to be held", PATIENCE, || async {
        (world.queue(&chat, &away.bobs.id).await.in_flight == 1).then_some(())
    })
    .await;
    stays(Duration::from_millis(500), async || {
        assert_eq!(world.queue(&chat, &away.bobs.id).await.in_flight, 1, "it isn't finished");
    })
    .await;
    away.bobs.vanishes().await;
    away.bobs.connects(1).await;
    away.bobs.hears(&chat, 1).await;
    assert_eq!(away.bobs.memory().chat(&chat).unwrap().arrived[0], 1);

    // Once the device has said that it has what is behind the gap, it is finished, and counted.
    let gap = away.bobs.gets(json!({ "type": "gap", "chat": chat })).await;
    let behind = gap["to"].as_u64().unwrap() + 1;
    nsqd.post(&format!("/pub?topic={name}"), &second).await;
    away.bobs.hears(&chat, behind).await;
    away.bobs.acks(&chat, behind).await;
    wait_until("the late message to be counted", PATIENCE, || async {
        (world.metric("keepstep_gap_late_total").await >= 1.0).then_some(())
    })
    .await;
    away.bobs.hears(&chat, 200).await;
    away.bobs.acks(&chat, 200).await;
    world.is_drained(&chat, &away.bobs).await;
}

/// A message that was written after somebody had left is looked at before it goes out; no client sees its epoch.
#[tokio::test]
async fn a_message_of_a_later_epoch_goes_out_to_a_member_without_it() {
    // The log isn't asked meanwhile.
    let world = Deployment::Stack.with("KEEPSTEP_TAIL_CHECK", "60s").start().await;
    let mut away = away(&world, 1, 3).await;
    let chat = away.chats[0].clone();
    let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(&world, &chat).await];
    let (name, queue) = (topic(&chat), channel(&away.bobs.id));
    nsqd.post(&format!("/channel/empty?topic={name}&channel={queue}"), "").await;
    for seq in [2, 1, 3] {
        let body = format!("{}\n{}", away.said(&chat, seq), seq + 4);
        nsqd.post(&format!("/pub?topic={name}"), &body).await;
    }
    away.bobs.connects(1).await;
    away.bobs.hears(&chat, 3).await;
    assert_eq!(world.metric("keepstep_deliveries_total{source=\"log\"}").await, 0.0);
    let contents: Vec<Value> =
        away.bobs.memory().chat(&chat).unwrap().messages.values().map(|one| one["content"].clone()).collect();
    assert_eq!(
        contents,
        ["while Bob is away 1", "while Bob is away 2", "while Bob is away 3"].map(Value::from)
    );
    away.bobs.acks(&chat, 3).await;
    world.is_drained(&chat, &away.bobs).await;
}
