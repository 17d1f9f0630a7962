//! Messages above an nsqd's `--max-msg-size`, which it never takes.

use std::time::Duration;

use serde_json::json;

use crate::faults::carrier;
use crate::stories::Deployment;
use crate::stories::client::PATIENCE;
use crate::stories::world::Pair;
use crate::support::wait_until;

const SMALL: &str = "--max-msg-size=20000";
/// "After the last fault heals."
const RECOVERY: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_nsqd_would_never_take_is_refused_before_it_is_numbered() {
    let world = Deployment::Stack.setup().with_nsqd(SMALL).start().await;
    let Pair { alice, phone, bobs, chat, .. } = world.pair().await;
    let path = format!("/v1/chats/{chat}/messages");
    let message = |length: usize| json!({ "key": uuid::Uuid::new_v4().to_string(), "kind": "text", "content": "x".repeat(length) });
    for edge in [0, 1] {
        alice.api(edge).post(&path, message(30_000)).await.problem(413, "too_large");
        // By what is put around it, too.
        alice.api(edge).post(&path, message(19_900)).await.problem(413, "too_large");
    }
    // It has no number, and what fits goes all the way.
    let seq = phone.says(&chat, &"x".repeat(19_000)).await.seq;
    assert_eq!(seq, 1);
    bobs.hears(&chat, 1).await;
    world.is_confirmed(&chat, RECOVERY).await;
    assert_eq!(world.metric("keepstep_deliveries_total{source=\"log\"}").await, 0.0);
    assert_eq!(world.metric("keepstep_unpublishable_total").await, 0.0);
}

#[tokio::test]
async fn what_an_nsqd_refuses_for_ever_is_counted_and_holds_up_nothing() {
    let mut world = Deployment::Stack.start().await;
    let Pair { alice, phone, bobs, chat, .. } = world.pair().await;
    let mut web = alice.web(1).await;
    phone.says(&chat, "before").await;
    web.hears(&chat, 1).await;
    web.acks(&chat, 1).await;
    web.leaves().await;
    let carrier = carrier(&world, &chat).await;
    let nsqd = &mut world.stack.as_mut().unwrap().nsqd[carrier];
    nsqd.terminate().await;
    // It would have been taken by the nsqd that was.
    for content in ["a", &"x".repeat(60_000), "b", &"y".repeat(60_000), "c"] {
        phone.says(&chat, content).await;
    }
    let nsqd = &mut world.stack.as_mut().unwrap().nsqd[carrier];
    nsqd.restart_with(SMALL).await;
    world.is_confirmed(&chat, RECOVERY).await;
    assert_eq!(world.metric("keepstep_unpublishable_total").await, 2.0);
    let said: String = world.edges.iter_mut().map(|edge| edge.process().log()).collect();
    assert_eq!(
        said.matches("keepstep_unpublishable_total").count(),
        1,
        "it is said once, with what to do:\n{said}"
    );
    wait_until("the queue to have the rest", PATIENCE, async || {
        (world.queue(&chat, &web.id).await.depth == 3).then_some(())
    })
    .await;
    // The log has all of it.
    web.connects(0).await;
    for device in [&phone, &bobs, &web] {
        device.hears(&chat, 6).await;
    }
}
