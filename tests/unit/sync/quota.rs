use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;
use crate::broker::BrokerError;

fn user(name: &str) -> UserId {
    name.parse().expect("a user")
}

#[tokio::test]
async fn what_is_untold_counts_until_the_chat_tells() {
    let (quotas, alice, chat) = (Quotas::default(), user("alice"), ChatId::random());
    assert_eq!(quotas.verdict(&alice, 10, 100), Verdict::Ask);
    assert!(quotas.update(&alice, 80, 10, 100));
    assert_eq!(quotas.verdict(&alice, 10, 100), Verdict::Take);
    assert_eq!(quotas.charge(&alice, chat, 15, 100), [chat], "more than an eighth");
    assert_eq!(quotas.charge(&alice, chat, 1, 100), [], "they were asked to, and little has come since");
    assert_eq!(quotas.charge(&alice, chat, 12, 100), [chat], "as much again");
    assert_eq!(quotas.verdict(&alice, 10, 100), Verdict::Refuse);
    let unsaved = quotas.unsaved_of(chat);
    assert_eq!(unsaved, HashMap::from([(alice.clone(), 28)]));
    assert_eq!(quotas.verdict(&alice, 10, 100), Verdict::Refuse, "not yet noted");
    assert_eq!(quotas.charge(&alice, chat, 1, 100), []);
    quotas.saved(&alice, chat, 28, Some(70));
    assert_eq!(quotas.unsaved_of(chat), HashMap::from([(alice.clone(), 1)]));
    quotas.saved(&alice, chat, 28, None);
    assert!(quotas.unsaved_of(chat).is_empty() && lock(&quotas.0).chats.is_empty());
    assert_eq!(quotas.verdict(&alice, 10, 100), Verdict::Take);
    assert!(!quotas.update(&alice, 95, 10, 100));
    assert!(quotas.may_recount(&alice) && !quotas.may_recount(&alice));
}

#[cfg(feature = "simulation")]
#[tokio::test(start_paused = true)]
async fn who_is_refused_has_the_fullest_chats_looked_at_again() {
    let (quotas, alice, full, unsaved) =
        (Quotas::default(), user("alice"), ChatId::random(), ChatId::random());
    assert_eq!(quotas.refused(&alice), []);
    assert!(!quotas.update(&alice, 100, 10, 100));
    quotas.set_fullest(&alice, vec![full]);
    assert_eq!(quotas.refused(&alice), [full]);
    assert_eq!(quotas.refused(&alice), [], "just now");
    quotas.charge(&alice, unsaved, 1, 100);
    assert_eq!(quotas.refused(&alice), [unsaved]);
    tokio::time::advance(AGAIN).await;
    assert_eq!(quotas.refused(&alice), [unsaved, full]);
}

#[tokio::test]
async fn an_nsqd_that_hangs_is_waited_for_once() {
    let asked = AtomicUsize::new(0);
    let devices = std::iter::repeat_with(DeviceId::random).take(3_000).collect();
    let done = until_one_fails(devices, |_| async {
        asked.fetch_add(1, Relaxed);
        tokio::task::yield_now().await;
        Err(BrokerError::Unavailable { node: "nsqd".into(), reason: "it hangs".into() })
    });
    assert!(done.await.is_err());
    let asked = asked.into_inner();
    assert!(asked <= PARALLEL, "asked {asked} times");
}

#[cfg(feature = "simulation")]
#[tokio::test(start_paused = true)]
async fn who_sends_nothing_is_forgotten() {
    let (quotas, alice, bob) = (Quotas::default(), user("alice"), user("bob"));
    let (little, much) = (ChatId::random(), ChatId::random());
    for (user, chat, bytes) in [(&alice, little, 1), (&bob, much, WORTH_A_TRIM)] {
        assert!(quotas.update(user, 0, 1, u64::MAX));
        quotas.charge(user, chat, bytes, u64::MAX);
    }
    assert!(quotas.prune().is_empty());
    tokio::time::advance(IDLE).await;
    assert_eq!(quotas.prune(), HashSet::from([much]));
    assert!(lock(&quotas.0).users.is_empty() && lock(&quotas.0).chats.is_empty());
}
