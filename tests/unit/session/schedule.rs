use std::time::Duration;

use super::*;

/// A slow device: each message schedules a check of its chat, and each check postpones the next.
#[test]
fn a_chat_is_looked_at_once() {
    let (mut looks, chats) = (Schedule::default(), [ChatId::random(), ChatId::random()]);
    let begin = Instant::now();
    let mut seen = 0;
    for message in 0..17_000u64 {
        let now = begin + Duration::from_millis(message * 12);
        for chat in chats {
            looks.add(chat, now + Duration::from_millis(50));
            looks.add(chat, now + Duration::from_secs(2));
        }
        while let Some(chat) = looks.due(now) {
            seen += 1;
            looks.add(chat, now + Duration::from_millis(200));
        }
        assert!(looks.by_time.len() <= 2 && looks.by_chat.len() <= 2);
    }
    assert!(seen > 0);
    looks.forget(chats[0]);
    assert_eq!((looks.by_time.len(), looks.by_chat.len()), (1, 1));
}

#[test]
fn an_earlier_time_counts() {
    let (mut looks, chat, now) = (Schedule::default(), ChatId::random(), Instant::now());
    let at = |ms| now + Duration::from_millis(ms);
    looks.add(chat, at(100));
    looks.add(chat, at(300));
    assert_eq!(looks.next(), Some(at(100)));
    looks.add(chat, at(50));
    assert_eq!((looks.next(), looks.due(at(49))), (Some(at(50)), None));
    assert_eq!((looks.due(at(50)), looks.due(at(500)), looks.next()), (Some(chat), None, None));
}
