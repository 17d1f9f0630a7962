//! Use of nsqd's disk, where nsqd differs from its double: it copies a topic to its channels with a delay.

use std::time::{Duration, Instant};

use crate::faults::carrier;
use crate::stories::Deployment;
use crate::stories::quota::says;
use crate::stories::user::User;
use crate::stories::world::{Pair, World, channel, topic};
use crate::support::{Nsqd, PATIENCE, wait_for, wait_until};

/// What fits into his queue, and what nsqd has on its way to it.
struct Queue<'a> {
    nsqd: &'a Nsqd,
    topic: String,
    channel: String,
}

impl Queue<'_> {
    /// The topic's messages that no queue has, and the queue's.
    async fn messages(&self) -> (u64, u64) {
        let stats = self.nsqd.stats(Some(&self.topic)).await;
        let channels = stats["topics"][0]["channels"].as_array().cloned().unwrap_or_default();
        let queue =
            channels.iter().find(|queue| queue["channel_name"] == self.channel.as_str()).expect("his queue");
        (stats["topics"][0]["depth"].as_u64().expect("a depth"), queue["depth"].as_u64().expect("a depth"))
    }

    /// As one that has much to copy: it takes messages, and no queue gets them.
    async fn pause(&self) {
        self.nsqd.post(&format!("/topic/pause?topic={}", self.topic), "").await;
    }

    async fn unpause(&self) {
        self.nsqd.post(&format!("/topic/unpause?topic={}", self.topic), "").await;
    }
}

const QUEUE: u64 = 200_000;

async fn world() -> World {
    Deployment::Stack
        .with("KEEPSTEP_QUEUE_BYTES", &QUEUE.to_string())
        .with("KEEPSTEP_LOG_BYTES", "100000")
        .with("KEEPSTEP_FRAMES_PER_SECOND", "1000")
        .with("KEEPSTEP_FRAMES_BURST", "1000")
        .start()
        .await
}

async fn emptied(world: &World) -> f64 {
    world.metric("keepstep_queues_emptied_total").await
}

/// Alice says so much that his queue is emptied, while all of it is on its way there.
async fn gets(world: &World, queue: &Queue<'_>, alice: &User, chat: &str, messages: u64, bytes: usize) {
    queue.pause().await;
    for _ in 0..messages {
        assert_eq!(says(alice, chat, bytes).await.status, 200);
    }
    world.is_confirmed(chat, PATIENCE).await;
    wait_until("his queue to be emptied", PATIENCE, async || (emptied(world).await > 0.0).then_some(()))
        .await;
    assert_eq!(queue.messages().await, (messages, 0));
}

#[tokio::test]
async fn a_queue_that_is_filled_again_after_it_was_emptied_is_emptied_again() {
    let world = world().await;
    let Pair { alice, bobs, chat, .. } = world.pair_of_which_bob_is_away().await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(&world, &chat).await];
    let queue = Queue { nsqd, topic: topic(&chat), channel: channel(&bobs.id) };
    gets(&world, &queue, &alice, &chat, 64, 20_000).await;
    wait_until("it to be emptied each second", PATIENCE, async || {
        (emptied(&world).await >= 4.0).then_some(())
    })
    .await;
    queue.unpause().await;
    // Nobody says anything any more.
    wait_for("his queue to be short", PATIENCE, async || match queue.messages().await {
        (0, waiting) if waiting * 20_000 <= QUEUE => Ok(()),
        others => Err(others),
    })
    .await;
}

#[tokio::test]
async fn a_few_messages_on_their_way_are_no_reason_to_empty_a_queue_for_ever() {
    let world = world().await;
    let Pair { alice, bobs, chat, .. } = world.pair_of_which_bob_is_away().await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(&world, &chat).await];
    let queue = Queue { nsqd, topic: topic(&chat), channel: channel(&bobs.id) };
    // In a busy chat there is always something on its way.
    gets(&world, &queue, &alice, &chat, 20, 60_000).await;
    // One that is filled again is emptied each second.
    let mut last = (0.0, Instant::now());
    wait_until("the emptying to be over", PATIENCE, async || {
        let times = emptied(&world).await;
        if times > last.0 {
            last = (times, Instant::now());
        }
        (last.1.elapsed() > Duration::from_secs(3)).then_some(())
    })
    .await;
    queue.unpause().await;
    wait_for("his queue to have what was on its way", PATIENCE, async || match queue.messages().await {
        (0, 20) => Ok(()),
        others => Err(others),
    })
    .await;
}
