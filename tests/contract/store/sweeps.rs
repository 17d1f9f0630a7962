//! What sweeps read: every chat, page by page, and what of each there is to do.

use std::collections::HashSet;

use keepstep::store::{Listed, StoreLimits};

use super::*;

/// Every id that is listed, and which parts were complete when.
async fn all(store: &Store) -> (Vec<ChatId>, Vec<(Listed, usize)>) {
    let (mut ids, mut parts, mut page) = (Vec::new(), Vec::new(), Some(0));
    while let Some(number) = page {
        let found = store.chat_ids(number).await.unwrap();
        ids.extend(found.ids);
        if found.listed.is_complete() {
            parts.push((found.listed, ids.len()));
        }
        page = found.next;
    }
    (ids, parts)
}

#[tokio::test]
async fn every_chat_is_listed_also_at_the_edge_of_a_page() {
    let (store, _guard) = start(StoreLimits { chats_per_user: 5_000, ..StoreLimits::default() }).await;
    let alice = user("alice");
    let mut made = HashSet::new();
    // More than fit on a page of one part, in the store in Redis; in the store in memory they are many pages.
    for number in 0..700_u32 {
        let mut new = new_group(&alice);
        new.id = format!("{number:08x}-0000-4000-8000-000000000007").parse().unwrap();
        assert!(matches!(store.create_chat(&new).await.unwrap(), Created::New(_)));
        made.insert(new.id);
    }
    for _ in 0..100 {
        made.insert(group(&store, &alice).await);
    }
    let (ids, parts) = all(&store).await;
    assert_eq!(ids.iter().copied().collect::<HashSet<_>>(), made);
    // What is complete has been listed by then, once.
    let mut complete = HashSet::new();
    for (listed, count) in parts {
        let had: HashSet<ChatId> = ids[..count].iter().copied().collect();
        let part: Vec<ChatId> = made.iter().copied().filter(|id| listed.has(*id)).collect();
        assert!(part.iter().all(|id| had.contains(id)), "{listed:?}");
        complete.extend(part);
    }
    assert_eq!(complete, made);
}

#[tokio::test]
async fn a_silent_chat_is_trimmed_while_there_is_something_to_trim() {
    let age = Duration::from_secs(2);
    let (store, _guard) = start(StoreLimits { log_age: age, ..StoreLimits::default() }).await;
    let alice = user("alice");
    let (silent, chat) = (group(&store, &alice).await, group(&store, &alice).await);
    assert_eq!(store.untrimmed(&[silent, chat]).await.unwrap(), []);
    send(&store, chat, &alice, "one").await;
    assert_eq!(store.untrimmed(&[silent, chat]).await.unwrap(), [chat], "nobody has counted it");
    store.published(chat, &[1]).await.unwrap();
    store.trim(chat).await.unwrap();
    let begun = tokio::time::Instant::now();
    while store.log(chat, 1, 10, 1_000).await.unwrap().messages.len() == 1 {
        assert!(begun.elapsed() < Duration::from_secs(15), "it stays");
        for chat in store.untrimmed(&[silent, chat]).await.unwrap() {
            store.trim(chat).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(begun.elapsed() > age / 2);
}

#[tokio::test]
async fn how_far_a_sweep_is_is_known_to_the_next() {
    let (store, _guard) = start(StoreLimits::default()).await;
    assert_eq!(store.saved_sweep("reconcile").await.unwrap(), None);
    store.save_sweep("reconcile", 7).await.unwrap();
    store.save_sweep("reconcile", 259).await.unwrap();
    assert_eq!(store.saved_sweep("reconcile").await.unwrap(), Some(259));
    assert_eq!(store.saved_sweep("other").await.unwrap(), None);
}
