use super::*;
use crate::domain::id::ChatId;

#[test]
fn typing_never_pushes_anything_out() {
    let events = Events::new();
    let mut reader = events.take().unwrap();
    let (chat, user): (_, crate::domain::id::UserId) = (ChatId::random(), "alice".parse().unwrap());
    for _ in 0..2 * CAPACITY {
        events.emit_if_quiet(StoreEvent::Typing(chat, user.clone()));
    }
    for seq in 0..CAPACITY as u64 / 2 - 1 {
        events.emit(StoreEvent::Doorbell(chat, seq));
    }
    let mut told = Vec::new();
    while let Ok(event) = reader.try_recv() {
        told.push(event);
    }
    assert_eq!(
        told.iter().filter(|event| matches!(event, StoreEvent::Doorbell(..))).count(),
        CAPACITY / 2 - 1
    );
    assert!(!told.contains(&StoreEvent::Resubscribed));
}

#[test]
fn what_does_not_fit_is_told_once_and_behind_everything() {
    let events = Events::new();
    let mut reader = events.take().unwrap();
    assert!(events.take().is_none());
    let chat = ChatId::random();
    for seq in 0..2 * CAPACITY as u64 {
        events.emit(StoreEvent::Doorbell(chat, seq));
    }
    for seq in 0..CAPACITY as u64 - 1 {
        assert_eq!(reader.try_recv().unwrap(), StoreEvent::Doorbell(chat, seq));
        if seq == 5 {
            events.emit(StoreEvent::Doorbell(chat, 0)); // the waiting one still covers this
        }
    }
    assert_eq!(reader.try_recv().unwrap(), StoreEvent::Resubscribed);
    assert!(reader.try_recv().is_err());
    events.emit(StoreEvent::Doorbell(chat, 9));
    assert_eq!(reader.try_recv().unwrap(), StoreEvent::Doorbell(chat, 9));
}
