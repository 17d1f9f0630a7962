//! The codes that a server gives only while its Redis is frozen. (All others: `tests/embedded/codes.rs`.)

use serde_json::json;

use crate::stories::Deployment;
use crate::stories::client::{Came, PATIENCE, Socket, soon};
use crate::support::wait_for;

#[tokio::test]
async fn acknowledgements_that_nothing_can_answer_do_not_pile_up() {
    let world = Deployment::Stack.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.phone(0).await;
    let mut bobs = bob.phone(0).await;
    let chat = alice.direct(&bob).await;
    bobs.stops_acking();
    phone.says_many(&chat, "said", 5).await;
    bobs.hears(&chat, 5).await;
    let redis = &world.stack.as_ref().unwrap().redis;
    redis.sigstop();
    for _ in 0..1100 {
        bobs.asks(json!({ "type": "ack", "chat": chat, "seq": 5 }));
    }
    assert_eq!(bobs.closed().await, (4429, "too_many_requests".to_owned()));
    redis.sigcont();
    // It was slowed down, not shut out, and what it acknowledged it needn't have again.
    bobs.connects(1).await;
    bobs.resumes_acking();
    // What was sent on the old connection may have to come again before it can be acknowledged on this one.
    phone.says(&chat, "behind it").await;
    bobs.hears(&chat, 6).await;
    bobs.acks(&chat, 6).await;
}

#[tokio::test]
async fn whoever_comes_while_redis_is_frozen_is_sent_away() {
    let world = Deployment::Stack.start().await;
    let alice = world.user("alice");
    let mut phone = alice.registers("main").await;
    let redis = &world.stack.as_ref().unwrap().redis;
    redis.sigstop();
    let mut socket = Socket::open(&world.addresses()[0], &phone.token).await;
    let closed = soon("the close frame", socket.refused()).await;
    // Where there is an HTTP answer, it says the same.
    alice.api(1).get("/v1/chats").await.problem(503, "unavailable");
    redis.sigcont();
    assert_eq!(closed, (4304, "backend_unavailable".to_owned()));
    // 43xx: it connects again. Each edge finds out for itself that Redis is back.
    for edge in 0..2 {
        wait_for("a frame", PATIENCE, async || {
            let mut socket = Socket::open(&world.addresses()[edge], &phone.token).await;
            match socket.come().await {
                Came::Frame(_) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
    phone.connects(1).await;
}
