//! What fills nsqd's disk, where nsqd is worse than its double: a topic is copied to its channels when there is time for it.

use crate::faults::carrier;
use crate::stories::Deployment;
use crate::stories::quota::says;
use crate::stories::world::{Pair, channel, topic};
use crate::support::{PATIENCE, wait_for, wait_until};

#[tokio::test]
async fn a_queue_that_is_filled_again_after_it_was_emptied_is_emptied_again() {
    const QUEUE: u64 = 200_000;
    let world = Deployment::Stack
        .with("KEEPSTEP_QUEUE_BYTES", &QUEUE.to_string())
        .with("KEEPSTEP_LOG_BYTES", "100000")
        .with("KEEPSTEP_FRAMES_PER_SECOND", "1000")
        .with("KEEPSTEP_FRAMES_BURST", "1000")
        .start()
        .await;
    let Pair { alice, bobs, chat, .. } = world.pair_of_which_bob_is_away().await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(&world, &chat).await];
    let topic = topic(&chat);
    let messages = async || {
        let stats = nsqd.stats(Some(&topic)).await;
        let channels = stats["topics"][0]["channels"].as_array().cloned().unwrap_or_default();
        let queue =
            channels.iter().find(|queue| queue["channel_name"] == channel(&bobs.id)).expect("his queue");
        (stats["topics"][0]["depth"].as_u64().expect("a depth"), queue["depth"].as_u64().expect("a depth"))
    };
    // As one that has much to copy: it has taken the messages, and no queue has them.
    nsqd.post(&format!("/topic/pause?topic={topic}"), "").await;
    for _ in 0..64 {
        assert_eq!(says(&alice, &chat, 20_000).await.status, 200);
    }
    world.is_confirmed(&chat, PATIENCE).await;
    wait_until("his queue to be emptied", PATIENCE, async || {
        (world.metric("keepstep_queues_emptied_total").await > 0.0).then_some(())
    })
    .await;
    assert_eq!(messages().await, (64, 0));
    nsqd.post(&format!("/topic/unpause?topic={topic}"), "").await;
    // Nobody says anything any more.
    wait_for("his queue to be short", PATIENCE, async || match messages().await {
        (0, waiting) if waiting * 20_000 <= QUEUE => Ok(()),
        others => Err(others),
    })
    .await;
}
