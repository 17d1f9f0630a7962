//! Who watches hears: read offsets, doorbells, signals.

use bytes::Bytes;
use keepstep::store::{JoinBy, MAX_SIGNAL, StoreError, StoreLimits};

use super::*;

fn reads_of(owner: &UserId) -> impl Fn(&StoreEvent) -> Option<()> {
    let wanted = StoreEvent::ReadsChanged(owner.clone());
    move |event| (*event == wanted).then_some(())
}

#[tokio::test]
async fn a_read_offset_that_moves_is_heard() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let mut events = store.take_events().unwrap();
    assert!(store.take_events().is_none());
    let (alice, bob) = (user("alice.b@c-d_E"), user("bob"));
    store.watch_user(&alice).await.unwrap();
    store.watch_user(&alice).await.unwrap();
    let chat = group(&store, &bob).await;
    join(&store, chat, &alice, JoinBy::Invitation).await;
    store.move_read(&bob, chat, 1, None).await.unwrap();
    for seq in 1..=20 {
        store.move_read(&alice, chat, seq, Some(DeviceId::random())).await.unwrap();
        until(&mut events, reads_of(&alice)).await;
    }
    // Joining moves it too.
    send(&store, chat, &bob, "x").await;
    let other = group(&store, &bob).await;
    send(&store, other, &bob, "x").await;
    join(&store, other, &alice, JoinBy::Invitation).await;
    until(&mut events, reads_of(&alice)).await;

    // Nothing of others, and nothing once nobody watches. The signal comes behind whatever would have come.
    store.unwatch_user(&alice).await.unwrap();
    store.unwatch_user(&alice).await.unwrap();
    store.move_read(&alice, chat, 99, None).await.unwrap();
    store.watch_user(&bob).await.unwrap();
    store.signal(&bob, Bytes::from_static(b"end")).await.unwrap();
    let end = |event: &StoreEvent| match event {
        StoreEvent::Signal(..) => Some(()),
        StoreEvent::Resubscribed => None,
        other => panic!("{other:?}"),
    };
    until(&mut events, end).await;
}

#[tokio::test]
async fn who_types_is_heard_by_those_who_watch_the_chat() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let mut events = store.take_events().unwrap();
    let (alice, bob) = (user("alice.b@c-d_E"), user("bob"));
    let (chat, other) = (group(&store, &alice).await, group(&store, &alice).await);
    store.watch_chats(&[chat]).await.unwrap();
    assert!(!store.publish_typing(chat, &bob, 9).await.unwrap(), "not a member");
    assert!(!store.publish_typing(ChatId::random(), &bob, 9).await.unwrap(), "no such chat");
    assert!(store.publish_typing(other, &alice, 9).await.unwrap(), "nobody watches that");
    join(&store, chat, &bob, JoinBy::Invitation).await;
    assert!(!store.publish_typing(chat, &alice, 1).await.unwrap(), "too many members");
    for who in [&alice, &bob] {
        assert!(store.publish_typing(chat, who, 2).await.unwrap());
    }
    let typing = |event: &StoreEvent| match event {
        StoreEvent::Typing(chat, user) => Some((*chat, user.clone())),
        _ => None,
    };
    assert_eq!(until(&mut events, typing).await, (chat, alice.clone()));
    assert_eq!(until(&mut events, typing).await, (chat, bob));
    assert_eq!(store.chat(chat).await.unwrap().unwrap().head, 0);
}

#[tokio::test]
async fn what_is_announced_is_a_signal_and_a_hint() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let mut events = store.take_events().unwrap();
    let (alice, bob) = (user("alice.b@c-d_E"), user("bob"));
    store.watch_presence(&[alice.clone(), bob.clone()]).await.unwrap();
    store.watch_presence(&[]).await.unwrap();
    store.watch_user(&bob).await.unwrap();
    // Alice is watched by others alone: what she is told isn't theirs.
    store.announce(&alice, Bytes::from_static(b"one")).await.unwrap();
    store.signal(&alice, Bytes::from_static(b"two")).await.unwrap();
    store.announce(&bob, Bytes::from_static(b"three")).await.unwrap();
    let any = |event: &StoreEvent| (*event != StoreEvent::Resubscribed).then(|| event.clone());
    assert_eq!(until(&mut events, any).await, StoreEvent::Presence(alice.clone()));
    let mut both = vec![until(&mut events, any).await, until(&mut events, any).await];
    both.sort_by_key(|event| matches!(event, StoreEvent::Presence(_)));
    let signal = StoreEvent::Signal(bob.clone(), Bytes::from_static(b"three"));
    assert_eq!(both, [signal, StoreEvent::Presence(bob.clone())]);
    // Each is watched for itself.
    store.unwatch_presence(std::slice::from_ref(&bob)).await.unwrap();
    store.unwatch_presence(std::slice::from_ref(&bob)).await.unwrap();
    store.announce(&bob, Bytes::from_static(b"four")).await.unwrap();
    store.announce(&alice, Bytes::from_static(b"five")).await.unwrap();
    assert!(matches!(until(&mut events, any).await, StoreEvent::Signal(..)));
    assert_eq!(until(&mut events, any).await, StoreEvent::Presence(alice));
    let huge = Bytes::from(vec![b'x'; MAX_SIGNAL + 1]);
    assert!(matches!(store.announce(&bob, huge).await, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn the_doorbell_of_a_watched_chat_rings() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let mut events = store.take_events().unwrap();
    let alice = user("alice");
    let (one, two, other) =
        (group(&store, &alice).await, group(&store, &alice).await, group(&store, &alice).await);
    store.watch_chats(&[one, two]).await.unwrap();
    store.watch_chats(&[]).await.unwrap();
    let bell = |event: &StoreEvent| match event {
        StoreEvent::Doorbell(chat, seq) => Some((*chat, *seq)),
        _ => None,
    };
    for seq in 1..=3 {
        for chat in [one, other, two] {
            send(&store, chat, &alice, "x").await;
        }
        assert_eq!(until(&mut events, bell).await, (one, seq));
        assert_eq!(until(&mut events, bell).await, (two, seq));
    }
    let append = message(one, &alice, "x");
    store.append(&append).await.unwrap();
    assert_eq!(until(&mut events, bell).await, (one, 4));
    store.append(&append).await.unwrap(); // Again: no new message, no bell
    store.unwatch_chats(&[one]).await.unwrap();
    send(&store, one, &alice, "x").await;
    send(&store, two, &alice, "x").await;
    assert_eq!(until(&mut events, bell).await, (two, 4));
}

#[tokio::test]
async fn signals_bring_any_bytes_to_who_watches() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let mut events = store.take_events().unwrap();
    let (alice, bob) = (user("alice"), user("bob"));
    store.watch_user(&alice).await.unwrap();
    store.signal(&bob, Bytes::from_static(b"not heard")).await.unwrap();
    let signal = |event: &StoreEvent| match event {
        StoreEvent::Signal(user, payload) => Some((user.clone(), payload.clone())),
        _ => None,
    };
    for payload in [&b""[..], b"\0\r\n\xff{}", &[7; MAX_SIGNAL]] {
        let payload = Bytes::copy_from_slice(payload);
        store.signal(&alice, payload.clone()).await.unwrap();
        assert_eq!(until(&mut events, signal).await, (alice.clone(), payload));
    }
    let refused = store.signal(&alice, Bytes::from(vec![7; MAX_SIGNAL + 1])).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    store.ping().await.unwrap();
}

#[tokio::test]
async fn more_events_than_fit_are_told_as_resubscribed() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let mut events = store.take_events().unwrap();
    let (alice, bob) = (user("alice"), user("bob"));
    store.watch_user(&alice).await.unwrap();
    for _ in 0..5000 {
        store.signal(&alice, Bytes::from_static(b"x")).await.unwrap();
    }
    let resubscribed = |event: &StoreEvent| (*event == StoreEvent::Resubscribed).then_some(());
    until(&mut events, resubscribed).await;
    // And it goes on.
    store.watch_user(&bob).await.unwrap();
    store.signal(&bob, Bytes::from_static(b"on")).await.unwrap();
    let on = |event: &StoreEvent| matches!(event, StoreEvent::Signal(user, _) if *user == bob).then_some(());
    until(&mut events, on).await;
}

#[tokio::test]
async fn many_watch_and_unwatch_at_once() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let mut events = store.take_events().unwrap();
    let watching = (0..100).map(|i| {
        let store = store.clone();
        tokio::spawn(async move {
            let name = user(&format!("user-{i}"));
            store.watch_user(&name).await.unwrap();
            if i % 2 == 1 {
                store.unwatch_user(&name).await.unwrap();
            }
        })
    });
    for one in watching.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    let mut heard = Vec::new();
    for i in 0..100 {
        store.signal(&user(&format!("user-{i}")), Bytes::from_static(b"x")).await.unwrap();
    }
    while heard.len() < 50 {
        let signal = |event: &StoreEvent| match event {
            StoreEvent::Signal(user, _) => Some(user.clone()),
            _ => None,
        };
        heard.push(until(&mut events, signal).await);
    }
    let even: Vec<_> = (0..100).step_by(2).map(|i| user(&format!("user-{i}"))).collect();
    assert_eq!(heard, even);
}
