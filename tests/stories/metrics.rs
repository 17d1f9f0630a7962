//! Events are counted, under the names that the operating guide, the alert rules and the dashboard use.

use serde_json::json;

use super::client::PATIENCE;
use super::world::Pair;
use super::{Deployment, World};
use crate::support::{Edge, Scrape, http_ask, wait_until};

/// The allowed labels, whose values are listed in the code or the settings.
const LABELS: &[&str] =
    &["action", "code", "kind", "le", "node", "result", "source", "state", "sweep", "version"];
/// With more series than this, a label grows with users, devices or chats.
const SERIES: usize = 400;

pub async fn what_happens_is_counted(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut web, bobs) = (alice.phone(0).await, alice.web(1).await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    // What is said before a session has begun with the chat is a backlog to it, and has no latency.
    for device in [&phone, &web, &bobs] {
        device.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
    }
    phone.says_many(&chat, "by the phone", 30).await;
    web.says_many(&chat, "by the web", 20).await;
    let body = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": "by HTTP" });
    alice.api(1).post(&format!("/v1/chats/{chat}/messages"), body).await.ok();
    for device in [&phone, &web, &bobs] {
        device.hears(&chat, 51).await;
        device.acks(&chat, 51).await;
    }
    let (late, _) = (alice.web(0).await, ());
    late.borrows(&chat, None, 100).await.expect("a page");
    late.borrows(&chat, Some(20), 999).await.expect_err("a page may not be so long");
    let end = alice.ends(&web.id).await;
    assert_eq!(web.closed().await.0, 4403);
    world.terminated(&phone.api(), &end).await;

    let sum = Sum::of(&world).await;
    // From each sender to each of the three devices that were there.
    for (name, labels, count) in [
        ("keepstep_sends_total", vec![], 51.0),
        ("keepstep_send_reply_seconds_count", vec![("kind", "main")], 30.0),
        ("keepstep_send_reply_seconds_count", vec![("kind", "sub")], 20.0),
        ("keepstep_send_reply_seconds_count", vec![("kind", "http")], 1.0),
        ("keepstep_send_to_receive_seconds_count", vec![("kind", "main")], 102.0),
        ("keepstep_send_to_receive_seconds_count", vec![("kind", "sub")], 51.0),
        ("keepstep_send_to_ack_seconds_count", vec![("kind", "main")], 102.0),
        ("keepstep_send_to_ack_seconds_count", vec![("kind", "sub")], 51.0),
        ("keepstep_delivery_to_ack_seconds_count", vec![("kind", "main")], 102.0),
        ("keepstep_acknowledged_total", vec![], 153.0),
        ("keepstep_unacknowledged_messages", vec![], 0.0),
        ("keepstep_connections", vec![("kind", "main")], 2.0),
        ("keepstep_connections", vec![("kind", "sub")], 1.0),
        ("keepstep_chats_followed", vec![], 3.0),
        ("keepstep_bootstraps_total", vec![("result", "ok")], 1.0),
        ("keepstep_bootstraps_total", vec![("result", "bad_range")], 1.0),
        ("keepstep_closes_total", vec![("code", "terminated")], 1.0),
        ("keepstep_terminations_total", vec![("state", "accepted")], 1.0),
        ("keepstep_terminations_total", vec![("state", "done")], 1.0),
        ("keepstep_store_up", vec![], sum.0.len() as f64),
    ] {
        assert_eq!(sum.get(name, &labels), count, "{name} {labels:?}");
    }
    // What a person would feel is below what the last bucket says, and not nothing at all.
    let slow = sum.get("keepstep_send_to_ack_seconds_bucket", &[("le", "60")]);
    assert_eq!(slow, 153.0, "no message of this story took a minute");
    wait_until("every queue to be attached, and every message confirmed", PATIENCE, || async {
        let sum = Sum::of(&world).await;
        let attached = sum.get("keepstep_nsq_attachments", &[]) > 0.0;
        let all = sum.get("keepstep_nsq_awaited", &[]) == 0.0;
        (attached && all && sum.get("keepstep_outbox_messages", &[]) == 0.0).then_some(())
    })
    .await;
    for scrape in &Sum::of(&world).await.0 {
        bounded(scrape, &[&alice.name, &bob.name, &chat, &phone.id, &web.id, &bobs.id]);
    }
}

pub async fn a_backlog_is_no_latency(on: Deployment) {
    let world = on.start().await;
    let Pair { phone, mut bobs, chat, .. } = world.pair_of_which_bob_is_away().await;
    phone.gets(json!({ "type": "chat", "event": "joined", "chat": chat })).await;
    phone.says_many(&chat, "while Bob is away", 5).await;
    bobs.connects(1).await;
    phone.says(&chat, "while Bob is there").await;
    for device in [&phone, &bobs] {
        device.hears(&chat, 6).await;
        device.acks(&chat, 6).await;
    }
    let sum = Sum::of(&world).await;
    assert_eq!(sum.get("keepstep_acknowledged_total", &[]), 12.0);
    assert_eq!(sum.get("keepstep_delivery_to_ack_seconds_count", &[]), 12.0);
    // The five that waited for Bob say how long he was away, and nothing of the server.
    assert_eq!(sum.get("keepstep_send_to_ack_seconds_count", &[]), 7.0);
    assert_eq!(sum.get("keepstep_send_to_receive_seconds_count", &[]), 7.0);
}

/// The metrics of each edge.
struct Sum(Vec<Scrape>);

impl Sum {
    async fn of(world: &World) -> Sum {
        let mut all = Vec::new();
        for edge in &world.edges {
            all.push(scrape(edge).await);
        }
        Sum(all)
    }

    fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0.iter().map(|scrape| scrape.sum(name, labels)).sum()
    }
}

/// Returns the metrics of an edge, which must be valid for Prometheus.
pub async fn scrape(edge: &Edge) -> Scrape {
    let (status, text) = http_ask(&edge.ops(), "/metrics").await;
    assert_eq!(status, 200, "{text}");
    Scrape::read(&text).unwrap_or_else(|why| panic!("{why}"))
}

/// Checks that no series grows with users' actions.
fn bounded(scrape: &Scrape, names: &[&str]) {
    let samples: Vec<_> = scrape.0.values().flat_map(|family| &family.samples).collect();
    assert!(samples.len() < SERIES, "{} series", samples.len());
    for sample in samples {
        for (label, value) in &sample.labels {
            assert!(LABELS.contains(&label.as_str()), "{sample:?}");
            let plain: Vec<String> = names.iter().map(|name| name.replace('-', "")).collect();
            assert!(!plain.iter().any(|name| value.replace('-', "").contains(name)), "{sample:?}");
        }
    }
}
