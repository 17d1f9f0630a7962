//! An edge dies with a full outbox: the others publish it to NSQ, soon and together, and count it until then.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::stories::client::{Api, PATIENCE, user_token};
use crate::stories::user::id;
use crate::stories::{Deployment, World};
use crate::support::{Edge, EdgeConfig, wait_until};

static CHATS_S: std::sync::LazyLock<usize> =
    std::sync::LazyLock::new(|| std::env::var("CHATS").map_or(500, |c| c.parse().unwrap()));
const MESSAGES: usize = 10;
/// "After the kill."
const BOUND: Duration = Duration::from_secs(10);

/// Returns how many messages NSQ hasn't confirmed, according to Redis.
async fn unconfirmed(world: &World) -> u64 {
    let sum = "local sum = 0 for _, key in ipairs(redis.call('KEYS', 'ks:{c.*}:outbox')) do \
               sum = sum + redis.call('ZCARD', key) end return sum";
    let redis = &world.stack.as_ref().unwrap().redis;
    redis.command(&["EVAL", sum, "0"]).await.expect("Redis is there").parse().expect("a number")
}

async fn many<F: Future>(count: usize, work: impl Fn(usize) -> F) -> Vec<F::Output> {
    stream::iter(0..count).map(work).buffered(32).collect().await
}

/// Creates `chats` chats of a bot that knows one edge only, with `messages` messages each.
async fn busy(edge: &str, chats: usize, messages: usize) {
    let api = Api::new(edge, &user_token("bot"));
    let creates = |_| async { id(&api.post("/v1/chats", json!({ "kind": "group" })).await.with(201)) };
    let chats = many(chats, creates).await;
    let says = |n: usize| {
        let path = format!("/v1/chats/{}/messages", chats[n % chats.len()]);
        let said = json!({ "key": uuid::Uuid::new_v4().to_string(), "kind": "text", "content": "hello" });
        let api = &api;
        async move { api.post(&path, said).await.ok() }
    };
    many(chats.len() * messages, says).await;
}

/// Starts two edges that don't reconcile, which would also find unpublished messages, at its own time.
async fn without_comparisons() -> World {
    let world = Deployment::Stack.with("KEEPSTEP_RECONCILE", "1h").start().await;
    // They do at their beginning, twice, and nothing tells when they have.
    tokio::time::sleep(Duration::from_secs(6)).await;
    world
}

fn unlimited(config: EdgeConfig) -> EdgeConfig {
    [
        "KEEPSTEP_CREATES_PER_MINUTE",
        "KEEPSTEP_INVITED_PER_HOUR",
        "KEEPSTEP_CHATS_PER_USER",
        "KEEPSTEP_FRAMES_PER_SECOND",
        "KEEPSTEP_FRAMES_BURST",
    ]
    .into_iter()
    .fold(config, |config, name| config.set(name, "1000000"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outboxes_of_a_dead_edge_are_emptied_within_ten_seconds_by_all_that_live() {
    let world = without_comparisons().await;
    let stack = world.stack.as_ref().unwrap();
    let mut dying = Edge::start(unlimited(stack.edge())).await;
    dying.ready().await;
    stack.nsqd.iter().for_each(|nsqd| nsqd.sigstop());
    busy(&dying.listen(), *CHATS_S, MESSAGES).await;
    let all = (*CHATS_S * MESSAGES) as u64;
    assert_eq!(unconfirmed(&world).await, all);
    dying.kill9();
    let killed = Instant::now();
    stack.nsqd.iter().for_each(|nsqd| nsqd.sigcont());
    let (mut knew, mut blind) = (0, 0);
    wait_until("all of it to be with NSQ", PATIENCE * 2, async || {
        let before = unconfirmed(&world).await;
        for edge in &world.edges {
            let works = edge.metric("keepstep_outbox_dead_edges").await > 0.0;
            let known = edge.metric("keepstep_outbox_messages").await;
            // It is being emptied while it is counted.
            let truth = unconfirmed(&world).await.min(before);
            if works && truth > all / 10 {
                knew += usize::from(known >= truth as f64 / 2.0);
                blind += usize::from(known < truth as f64 / 2.0);
            }
        }
        (before == 0).then_some(())
    })
    .await;
    let took = killed.elapsed();
    let mut shares = Vec::new();
    for edge in &world.edges {
        shares.push(edge.metric("keepstep_relayed_total").await);
    }
    println!(
        "{} chats with {MESSAGES} messages each: {took:?} after the kill; by edge: {shares:?}; counted {knew} times, {blind} times not",
        *CHATS_S
    );
    assert!(took <= BOUND, "it took {took:?}");
    assert!(shares.iter().all(|share| *share >= all as f64 / 5.0), "they share: {shares:?}");
    assert!(knew > 0 && blind == 0, "an edge at work on it didn't count what waits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_edge_left_is_counted_by_those_who_live() {
    let mut world = without_comparisons().await;
    let mut dying = Edge::start(unlimited(world.stack.as_ref().unwrap().edge())).await;
    dying.ready().await;
    for nsqd in &mut world.stack.as_mut().unwrap().nsqd {
        nsqd.kill9();
    }
    busy(&dying.listen(), 20, MESSAGES).await;
    let all = 20 * MESSAGES;
    wait_until("its own edge to count it", PATIENCE, async || {
        (dying.metric("keepstep_outbox_messages").await == all as f64).then_some(())
    })
    .await;
    dying.kill9();
    for edge in &world.edges {
        wait_until("the others to count it", PATIENCE, async || {
            (edge.metric("keepstep_outbox_messages").await == all as f64).then_some(())
        })
        .await;
        assert_eq!(edge.metric("keepstep_outbox_dead_edge_messages").await, all as f64);
        assert_eq!(edge.metric("keepstep_outbox_dead_edges").await, 1.0);
    }
    for nsqd in &mut world.stack.as_mut().unwrap().nsqd {
        nsqd.restart().await;
    }
    wait_until("all of it to be with NSQ", PATIENCE, async || (unconfirmed(&world).await == 0).then_some(()))
        .await;
    for edge in &world.edges {
        wait_until("nothing to wait any more", PATIENCE, async || {
            let dead = edge.metric("keepstep_outbox_dead_edges").await;
            (dead == 0.0 && edge.metric("keepstep_outbox_messages").await == 0.0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_comes_back_under_its_name_publishes_what_it_left() {
    let world = without_comparisons().await;
    let stack = world.stack.as_ref().unwrap();
    let config = unlimited(stack.edge());
    let mut edge = Edge::start(config.set("KEEPSTEP_EDGE", "phoenix").set("KEEPSTEP_RECONCILE", "1h")).await;
    edge.ready().await;
    stack.nsqd.iter().for_each(|nsqd| nsqd.sigstop());
    busy(&edge.listen(), 5, MESSAGES).await;
    edge.kill9();
    stack.nsqd.iter().for_each(|nsqd| nsqd.sigcont());
    // Nobody takes it for dead, because it lives.
    edge.restart().await;
    let begun = Instant::now();
    wait_until("all of it to be with NSQ", PATIENCE, async || (unconfirmed(&world).await == 0).then_some(()))
        .await;
    assert!(begun.elapsed() <= BOUND, "it took {:?}", begun.elapsed());
}
