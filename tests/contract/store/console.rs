//! What the console needs of a store.

use std::{collections::BTreeSet, time::Duration};

use keepstep::{
    domain::device::DeviceKind,
    store::{AuditId, AuditKeep, AuditKind, StoreLimits},
};

use super::{LONG, PATIENCE, active, start, user};
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

/// By number alone.
const SIX: AuditKeep = AuditKeep { changes: 6, age: Duration::ZERO, attempts: 6 };

fn texts(entries: Vec<(AuditId, bytes::Bytes)>) -> Vec<String> {
    entries.into_iter().map(|(_, entry)| String::from_utf8(entry.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn the_audit_log_is_read_from_its_newest_entry() {
    let (store, _guard) = start(StoreLimits::default()).await;
    assert_eq!(store.audited(None, 10).await.unwrap(), []);
    assert_eq!(store.audited_changes(SIX).await.unwrap(), 0);
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(store.audit(AuditKind::Change, format!("{{\"n\":{n}}}").into(), SIX).await.unwrap());
    }
    assert!(ids.is_sorted() && ids.windows(2).all(|two| two[0] != two[1]), "{ids:?}");
    let all = store.audited(None, 100).await.unwrap();
    // (Within the millisecond of its writing an entry isn't old.)
    let held = all.len();
    assert_eq!(
        all.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        ids.iter().rev().take(held).copied().collect::<Vec<_>>()
    );
    assert_eq!(texts(all)[0], "{\"n\":7}");
    assert_eq!(texts(store.audited(None, 2).await.unwrap()), ["{\"n\":7}", "{\"n\":6}"]);
    assert_eq!(texts(store.audited(Some(ids[6]), 2).await.unwrap()), ["{\"n\":5}", "{\"n\":4}"]);
    wait_until("the oldest to go", PATIENCE, || async {
        (store.audited_changes(SIX).await.unwrap() == 6).then_some(())
    })
    .await;
    assert_eq!(store.audited(Some(ids[2]), 9).await.unwrap(), []);
}

#[tokio::test]
async fn what_changed_nothing_pushes_no_change_out_of_the_audit_log() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(store.audit(AuditKind::Change, format!("change {n}").into(), SIX).await.unwrap());
        for m in 0..20 {
            ids.push(store.audit(AuditKind::Attempt, format!("attempt {n} {m}").into(), SIX).await.unwrap());
        }
    }
    assert!(
        ids.is_sorted() && ids.windows(2).all(|two| two[0] != two[1]),
        "of both kinds one order: {ids:?}"
    );
    let all = store.audited(None, 100).await.unwrap();
    let newest: Vec<_> = (14..20).rev().map(|m| format!("attempt 2 {m}")).collect();
    let changes: Vec<_> = (0..3).rev().map(|n| format!("change {n}")).collect();
    assert_eq!(texts(all.clone()), [newest, changes].concat());
    // Page by page it is the same.
    let (mut paged, mut before) = (Vec::new(), None);
    loop {
        let page = store.audited(before, 2).await.unwrap();
        before = page.last().map(|(id, _)| *id);
        match before {
            Some(_) => paged.extend(page),
            None => break,
        }
    }
    assert_eq!(paged, all);
}

#[tokio::test]
async fn changes_stay_in_the_audit_log_by_number_and_by_age() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let keep = |changes, age| AuditKeep { changes, age, attempts: 1 };
    for n in 0..300 {
        store.audit(AuditKind::Change, format!("{n}").into(), keep(5, LONG)).await.unwrap();
    }
    assert_eq!(store.audited_changes(keep(5, LONG)).await.unwrap(), 300, "they are young");
    // Old, and too many: a hundred go at a time, if not all at once, and never the newest.
    wait_until("the old ones to go", PATIENCE, || async {
        (store.audited_changes(keep(5, Duration::from_millis(20))).await.unwrap() == 5).then_some(())
    })
    .await;
    let left = texts(store.audited(None, 100).await.unwrap());
    assert_eq!(left, ["299", "298", "297", "296", "295"]);
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
