//! What an operator sees of outages: the backlog and its age, the failed server, and the end.

use std::time::{Duration, Instant};

use crate::stories::client::PATIENCE;
use crate::stories::metrics::scrape;
use crate::stories::world::Pair;
use crate::stories::{Deployment, World};
use crate::support::wait_until;

/// Leases of a dead edge expire, and a restarted nsqd is found by its probe.
const RECOVERY: Duration = Duration::from_secs(60);

async fn sees(world: &World, edge: usize, name: &str, what: impl Fn(f64) -> bool) -> f64 {
    wait_until(name, RECOVERY, || async {
        let value = scrape(&world.edges[edge]).await.sum(name, &[]);
        what(value).then_some(value)
    })
    .await
}

#[tokio::test]
async fn what_nsq_does_not_take_is_seen_with_its_age_even_when_its_edge_dies() {
    let mut world = Deployment::Stack.start().await;
    let Pair { mut phone, bobs, chat, .. } = world.pair().await;
    phone.says(&chat, "hello").await;
    bobs.hears(&chat, 1).await;
    sees(&world, 1, "keepstep_nsq_attachments", |attached| attached == 1.0).await;
    sees(&world, 0, "keepstep_outbox_messages", |waiting| waiting == 0.0).await;
    assert_eq!(scrape(&world.edges[0]).await.sum("keepstep_outbox_oldest_seconds", &[]), 0.0);

    for nsqd in &mut world.stack.as_mut().unwrap().nsqd {
        nsqd.kill9();
    }
    let first = Instant::now();
    phone.says_many(&chat, "without NSQ", 5).await;
    let last = Instant::now();
    assert_eq!(world.unconfirmed(&chat).await, 5);
    sees(&world, 0, "keepstep_outbox_messages", |waiting| waiting == 5.0).await;
    sees(&world, 0, "keepstep_nsqd_up", |up| up == 0.0).await;
    sees(&world, 1, "keepstep_nsq_attachments", |attached| attached == 0.0).await;
    let oldest = sees(&world, 0, "keepstep_outbox_oldest_seconds", |age| age >= 2.0).await;
    assert!(oldest <= first.elapsed().as_secs_f64(), "{oldest}");

    // Nobody but the other edge can tell of them now: their age goes on.
    world.edges[0].kill9();
    phone.lost().await;
    sees(&world, 1, "keepstep_outbox_dead_edges", |edges| edges == 1.0).await;
    let oldest = sees(&world, 1, "keepstep_outbox_oldest_seconds", |age| age > 0.0).await;
    // (Of the first that isn't published; the clock it was accepted by counts milliseconds.)
    assert!(oldest >= last.elapsed().as_secs_f64() - 1.0, "{oldest} after {:?}", last.elapsed());

    for nsqd in &mut world.stack.as_mut().unwrap().nsqd {
        nsqd.restart().await;
    }
    sees(&world, 1, "keepstep_outbox_oldest_seconds", |age| age == 0.0).await;
    sees(&world, 1, "keepstep_outbox_dead_edges", |edges| edges == 0.0).await;
    assert_eq!(world.unconfirmed(&chat).await, 0);
    sees(&world, 1, "keepstep_nsqd_up", |up| up == 2.0).await;
    sees(&world, 1, "keepstep_nsq_attachments", |attached| attached == 1.0).await;
}

#[tokio::test]
async fn a_redis_that_hangs_is_seen_and_does_not_hold_up_the_scrape() {
    let world = Deployment::Stack.start().await;
    sees(&world, 0, "keepstep_store_up", |up| up == 1.0).await;
    world.stack.as_ref().unwrap().redis.sigstop();
    sees(&world, 0, "keepstep_store_up", |up| up == 0.0).await;
    let begun = Instant::now();
    scrape(&world.edges[0]).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "a scrape took {:?}", begun.elapsed());
    world.stack.as_ref().unwrap().redis.sigcont();
    wait_until("Redis to be seen again", PATIENCE, || async {
        (scrape(&world.edges[0]).await.sum("keepstep_store_up", &[]) == 1.0).then_some(())
    })
    .await;
}
