//! An error is logged once, where it was handled, with its context.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stories::Deployment;
use crate::support::wait_until;

#[tokio::test]
async fn a_store_that_is_away_is_logged_once_for_each_who_asks() {
    let mut world = Deployment::Stack.with("KEEPSTEP_LOG_FORMAT", "json").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.phone(0).await;
    let chat = alice.direct(&bob).await;
    world.stack.as_mut().unwrap().redis.kill9();
    // The connections to it have told so, too, each once.
    wait_until("the edge to notice", Duration::from_secs(10), || async {
        (world.edges[0].metric("keepstep_store_up").await == 0.0).then_some(())
    })
    .await;
    let before = world.edges[0].process().log().len();
    let mut requests = Vec::new();
    for _ in 0..5 {
        let answer = alice.api(0).get("/v1/chats").await;
        requests.push(answer.body["request_id"].as_str().expect("the request's id").to_owned());
        answer.problem(503, "unavailable");
    }
    for key in 0..3u8 {
        let key = uuid::Uuid::from_bytes([key; 16]);
        let send = json!({ "type": "send", "chat": chat, "key": key, "kind": "text", "content": "is anybody there?" });
        phone.is_refused(send, "unavailable").await;
    }
    let log = world.edges[0].process().log().split_off(before);
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event"));
    let unavailable: Vec<Value> = events.filter(|event| event["code"] == "unavailable").collect();
    let calls = unavailable.iter().filter(|event| event["target"] == "keepstep::http::respond");
    let logged: Vec<_> =
        calls.map(|event| event["span"]["request_id"].as_str().unwrap_or_default()).collect();
    assert_eq!(logged, requests, "{log}");
    let frames: Vec<_> = unavailable.iter().filter(|event| event["frame"] == "send").collect();
    assert_eq!((logged.len(), frames.len(), unavailable.len()), (5, 3, 8), "{log}");
    for event in frames {
        for place in [event, &event["span"]] {
            assert_eq!((&place["user"], &place["device"]), (&json!(alice.name), &json!(phone.id)), "{event}");
        }
        assert!(event["span"]["session"].is_u64(), "{event}");
    }
    assert!(unavailable.iter().all(|event| event["error"].as_str().is_some_and(|why| !why.is_empty())));
    let told = log.lines().filter(|line| line.contains("the store failed a request")).count();
    assert_eq!(told, 0, "{log}");
}
