//! What the console needs of a store.

use std::{collections::BTreeSet, time::Duration};

use keepstep::{
    domain::device::DeviceKind,
    store::{AuditId, StoreLimits},
};

use super::{ChatId, LONG, PATIENCE, active, group, send, start, user};
use crate::support::wait_until;

#[tokio::test]
async fn every_device_is_on_one_of_the_pages() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let mut all = BTreeSet::new();
    for n in 0..700 {
        let owner = user(&format!("user-{n}"));
        let device = active(&store, &owner, DeviceKind::Main).await;
        all.insert((owner, device.id));
    }
    let (mut found, mut next, mut pages) = (BTreeSet::new(), Some(0), 0);
    while let Some(page) = next {
        let page = store.known_devices(page).await.unwrap();
        found.extend(page.devices);
        next = page.next;
        pages += 1;
        assert!(pages < 1000, "it comes to an end");
    }
    assert_eq!(found, all);
}

#[tokio::test]
async fn figures_are_there_until_they_run_out() {
    let (store, _guard) = start(StoreLimits::default()).await;
    assert_eq!(store.reports().await.unwrap(), []);
    store.report("b", "{\"of\": \"b\"}".into(), LONG).await.unwrap();
    store.report("a", "1 2\n3".into(), LONG).await.unwrap();
    store.report("short", "".into(), Duration::from_millis(50)).await.unwrap();
    store.report("a", "newer".into(), LONG).await.unwrap();
    wait_until("the third to run out", PATIENCE, || async {
        let reports = store.reports().await.unwrap();
        (reports.len() == 2).then_some(())
    })
    .await;
    let wanted = [("a".to_owned(), "newer".into()), ("b".to_owned(), "{\"of\": \"b\"}".into())];
    assert_eq!(store.reports().await.unwrap(), wanted);
}

#[tokio::test]
async fn the_audit_log_is_read_from_its_newest_entry() {
    let (store, _guard) = start(StoreLimits::default()).await;
    assert_eq!(store.audited(None, 10).await.unwrap(), []);
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(store.audit(format!("{{\"n\":{n}}}").into(), 6).await.unwrap());
    }
    assert!(ids.is_sorted() && ids.windows(2).all(|two| two[0] != two[1]), "{ids:?}");
    let numbers = |entries: Vec<(AuditId, bytes::Bytes)>| {
        entries.into_iter().map(|(_, entry)| String::from_utf8(entry.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    let all = store.audited(None, 100).await.unwrap();
    assert_eq!(
        all.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        ids.iter().rev().take(6).copied().collect::<Vec<_>>()
    );
    assert_eq!(numbers(all)[0], "{\"n\":7}");
    assert_eq!(numbers(store.audited(None, 2).await.unwrap()), ["{\"n\":7}", "{\"n\":6}"]);
    assert_eq!(numbers(store.audited(Some(ids[6]), 2).await.unwrap()), ["{\"n\":5}", "{\"n\":4}"]);
    assert_eq!(store.audited(Some(ids[2]), 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_store_says_how_it_is() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let health = store.health().await.unwrap();
    match health.role {
        "redis" => {
            assert!(health.used_memory.is_some_and(|bytes| bytes > 100_000), "{health:?}");
            assert!(health.ping.is_some() && health.clients.is_some_and(|clients| clients > 0), "{health:?}");
            assert_eq!((health.aof, health.max_memory), (Some("ok"), Some(0)));
        }
        role => assert_eq!((role, health.used_memory), ("embedded", None)),
    }
}

#[tokio::test]
async fn what_nsq_has_not_confirmed_is_counted() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let (chat, other, nowhere) = (group(&store, &alice).await, group(&store, &alice).await, ChatId::random());
    for _ in 0..3 {
        send(&store, chat, &alice, "x").await;
    }
    assert_eq!(store.outbox_sizes(&[other, chat, nowhere]).await.unwrap(), [0, 3, 0]);
    store.published(chat, &[1, 3]).await.unwrap();
    assert_eq!(store.outbox_sizes(&[chat]).await.unwrap(), [1]);
    assert_eq!(store.outbox_sizes(&[]).await.unwrap(), Vec::<u64>::new());
}
