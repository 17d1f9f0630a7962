//! A main's history in memory: pages, bounds, and what becomes of what has no room.

use keepstep_client::{Bounds, ChatId, MemoryStorage, Message, Storage};
use serde_json::json;
use uuid::Uuid;

const CHAT: ChatId = Uuid::from_u128(1);
const OTHER: ChatId = Uuid::from_u128(2);

fn message(chat: ChatId, seq: u64, length: usize) -> Message {
    let text =
        json!({"type": "message", "chat": chat, "seq": seq, "content": "x".repeat(length)}).to_string();
    Message::parse(&text).unwrap()
}

fn seqs(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

#[tokio::test]
async fn pages_are_the_newest_below_and_the_oldest_above() {
    let mut storage = MemoryStorage::new(1 << 20);
    let messages: Vec<Message> = (1..=5).map(|seq| message(CHAT, seq, 3)).collect();
    storage.append(&messages).await.unwrap();
    let below = storage.before(CHAT, 5, 3).await.unwrap();
    assert_eq!((seqs(&below.messages), below.more), (vec![2, 3, 4], true));
    let below = storage.before(CHAT, 2, 3).await.unwrap();
    assert_eq!((seqs(&below.messages), below.more), (vec![1], false));
    let above = storage.after(CHAT, 2, 2).await.unwrap();
    assert_eq!((seqs(&above.messages), above.more), (vec![3, 4], true));
    let above = storage.after(CHAT, 4, 2).await.unwrap();
    assert_eq!((seqs(&above.messages), above.more), (vec![5], false));
    assert_eq!(storage.bounds(CHAT).await.unwrap(), Some(Bounds { low: 1, high: 5, lossy: false }));
    assert_eq!(storage.bounds(OTHER).await.unwrap(), None);
    assert!(storage.before(OTHER, 9, 9).await.unwrap().messages.is_empty());
}

#[tokio::test]
async fn what_is_there_stays_as_it_is() {
    let mut storage = MemoryStorage::new(1 << 20);
    let first = message(CHAT, 1, 3);
    assert_eq!(storage.insert(&[first.clone(), message(CHAT, 1, 9)]), 1);
    storage.append(&[message(CHAT, 1, 9)]).await.unwrap();
    assert_eq!(storage.get(CHAT, 1), Some(first.clone()));
    assert_eq!((storage.count(CHAT), storage.bytes()), (1, first.raw().len()));
}

#[tokio::test]
async fn a_full_storage_drops_the_oldest_of_the_largest_chat_and_says_so() {
    let mut storage = MemoryStorage::new(4_000);
    storage.append(&[message(OTHER, 1, 100)]).await.unwrap();
    for seq in 1..=30 {
        storage.append(&[message(CHAT, seq, 300)]).await.unwrap();
        assert!(storage.bytes() <= 4_000, "{}", storage.bytes());
    }
    let bounds = storage.bounds(CHAT).await.unwrap().unwrap();
    assert!(bounds.lossy && bounds.low > 15 && bounds.high == 30, "{bounds:?}");
    let lowest = storage.before(CHAT, bounds.low + 1, 9).await.unwrap();
    assert_eq!((seqs(&lowest.messages), lowest.more), (vec![bounds.low], true));
    let below = storage.before(CHAT, bounds.low, 9).await.unwrap();
    assert!(below.messages.is_empty() && below.more, "there were older ones");
    assert_eq!(storage.bounds(OTHER).await.unwrap(), Some(Bounds { low: 1, high: 1, lossy: false }));
    // The newest one stays even if it has no room: it says how far the device is.
    storage.append(&[message(CHAT, 31, 9_000)]).await.unwrap();
    assert_eq!(storage.bounds(CHAT).await.unwrap().map(|bounds| bounds.high), Some(31));
}
