//! Messages that the server no longer holds are reported as a gap, and a web session fetches them from its phone.

use serde_json::json;

use crate::faults::{carrier, trimmed};
use crate::stories::Deployment;

#[tokio::test]
async fn a_web_session_fills_its_gap_from_its_phone() {
    let mut world =
        Deployment::Stack.with("KEEPSTEP_LOG_MESSAGES", "50").with("KEEPSTEP_LOG_KEEP", "50").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs, mut web) = (alice.phone(0).await, bob.phone(1).await, bob.web(0).await);
    let chat = alice.direct(&bob).await;
    let mut sent = phone.says_many(&chat, "while it was there", 10).await;
    web.hears(&chat, 10).await;
    web.acks(&chat, 10).await;
    web.leaves().await;
    sent.extend(phone.says_many(&chat, "while it was away", 290).await);
    bobs.hears(&chat, 300).await;
    bobs.acks(&chat, 300).await;
    // The queue's disk is lost, and the log keeps only the recent past, whoever needs more.
    let carrier = carrier(&world, &chat).await;
    trimmed(&world, &chat, 100).await;
    world.stack.as_mut().unwrap().nsqd[carrier].restart_empty().await;
    web.memory().expects_loss = true;
    web.connects(1).await;
    web.hears(&chat, 300).await;
    let gap = web.gets(json!({ "type": "gap", "chat": chat })).await;
    let (from, to) = (gap["from"].as_u64().unwrap(), gap["to"].as_u64().unwrap());
    assert!(from == 11 && (200..=250).contains(&to), "{gap}");

    // The newest of what is missing first, by `before` = the gap's `to` + 1; then down to what it has.
    let (mut before, mut filled) = (to + 1, Vec::new());
    while before > from {
        let (page, _) = web.borrows(&chat, Some(before), 100).await.expect("a page");
        assert_eq!(page.last().unwrap()["seq"], before - 1, "no hole between the pages");
        before = page[0]["seq"].as_u64().unwrap();
        filled.extend(page);
    }
    assert!(filled.len() as u64 > to - from);
    for one in filled {
        let seq = usize::try_from(one["seq"].as_u64().unwrap()).unwrap();
        assert_eq!(one["key"], json!(sent[seq - 1].key), "message {seq}");
    }
    // Further up there is nothing that it lacks.
    let above = json!({ "type": "history", "chat": chat, "before": 302 });
    web.is_refused(above, "bad_range").await;
}
