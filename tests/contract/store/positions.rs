//! What a device is position: fixed once, acknowledged forward only, by the newest session only. And read offsets.

use keepstep::{
    domain::chat::DevicePosition,
    store::{Attached, CursorMove, CursorMoved, Departure, JoinBy, ReadOffset, StoreLimits, SubscribeFrom},
};

use super::*;

fn ack(device: DeviceId, session: u64, seq: Seq) -> CursorMove {
    CursorMove { device, session, from: 0, seq }
}

#[tokio::test]
async fn what_is_owed_begins_at_the_head_and_stays() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    let device = DeviceId::random();
    assert_eq!(subscribe_now(&store, chat, &bob, device).await, None);
    assert_eq!(subscribe_now(&store, ChatId::random(), &alice, device).await, None);
    assert_eq!(store.position(chat, device).await.unwrap(), None);
    send(&store, chat, &alice, "one").await;
    let position = DevicePosition { from: 1, cursor: 1 };
    assert_eq!(subscribe_now(&store, chat, &alice, device).await, Some(position));
    send(&store, chat, &alice, "two").await;
    assert_eq!(subscribe_now(&store, chat, &alice, device).await, Some(position), "fixed before");
    assert_eq!(store.position(chat, device).await.unwrap(), Some(position));
    // (By one who knows no user of it: alice is in the chat.)
    assert!(store.unsubscribe_device(chat, None, device).await.unwrap());
    assert!(store.unsubscribe_device(chat, None, device).await.unwrap());
    assert_eq!(store.position(chat, device).await.unwrap(), None);
    assert_eq!(
        subscribe_now(&store, chat, &alice, device).await,
        Some(DevicePosition { from: 2, cursor: 2 })
    );
}

#[tokio::test]
async fn a_cursor_moves_forward_and_never_beyond_the_head() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let (one, two, stranger) = (DeviceId::random(), DeviceId::random(), DeviceId::random());
    for device in [one, two] {
        subscribe_now(&store, chat, &alice, device).await;
    }
    for _ in 0..10 {
        send(&store, chat, &alice, "x").await;
    }
    let moves = [ack(one, 1, 4), ack(stranger, 1, 4), ack(two, 1, 99), ack(one, 1, 3), ack(one, 1, 6)];
    let moved = store.move_cursors(chat, &moves).await.unwrap();
    use CursorMoved::{At, Fenced};
    assert_eq!(moved, [At(4), Fenced, At(10), At(4), At(6)]);
    assert_eq!(store.move_cursors(chat, &moves).await.unwrap(), [At(6), Fenced, At(10), At(6), At(6)]);
    assert_eq!(store.position(chat, one).await.unwrap(), Some(DevicePosition { from: 0, cursor: 6 }));
    assert_eq!(store.position(chat, stranger).await.unwrap(), None);
    assert_eq!(store.move_cursors(chat, &[]).await.unwrap(), []);
    let huge = ack(one, 1, u64::MAX >> 11);
    assert_eq!(store.move_cursors(chat, &[huge]).await.unwrap(), [At(10)]);
    assert_eq!(store.move_cursors(ChatId::random(), &moves[..1]).await.unwrap(), [Fenced]);

    // More devices than one script takes.
    let many: Vec<_> = (0..600).map(|_| DeviceId::random()).collect();
    for device in &many {
        subscribe_now(&store, chat, &alice, *device).await;
    }
    send(&store, chat, &alice, "x").await;
    let moves: Vec<_> = many.iter().map(|device| CursorMove { from: 10, ..ack(*device, 1, 11) }).collect();
    assert_eq!(store.move_cursors(chat, &moves).await.unwrap(), vec![At(11); 600]);
}

#[tokio::test]
async fn an_older_session_is_fenced_once_a_newer_one_attached() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let (chat, other) = (group(&store, &alice).await, group(&store, &alice).await);
    let device = active(&store, &alice, DeviceKind::Main).await;
    subscribe_now(&store, chat, &alice, device.id).await;
    for _ in 0..3 {
        send(&store, chat, &alice, "x").await;
    }
    let first = connect(&store, &device, "edge-1").await;
    let all = [other, chat, ChatId::random()];
    let attached = store.attach(&all, &alice, device.id, first).await.unwrap();
    let record = store.chat(chat).await.unwrap().unwrap();
    let expected = Attached {
        chat: record,
        position: DevicePosition { from: 0, cursor: 0 },
        boundary: 0,
        epoch: 0,
        restored: false,
    };
    assert_eq!(
        attached,
        [None, Some(expected), None],
        "in the order given; the device isn't subscribed in the others"
    );
    assert_eq!(store.attach(&all, &bob, device.id, first).await.unwrap(), [None, None, None]);
    assert_eq!(store.attach(&[], &alice, device.id, first).await.unwrap(), []);
    let moved = store.move_cursors(chat, &[ack(device.id, first, 1)]).await.unwrap();
    assert_eq!(moved, [CursorMoved::At(1)]);

    let second = connect(&store, &device, "edge-2").await;
    let attached = store.attach(&[chat], &alice, device.id, second).await.unwrap();
    assert_eq!(attached[0].as_ref().unwrap().position, DevicePosition { from: 0, cursor: 1 });
    let moves = [ack(device.id, first, 3), ack(device.id, second, 2)];
    let moved = store.move_cursors(chat, &moves).await.unwrap();
    assert_eq!(moved, [CursorMoved::Fenced, CursorMoved::At(2)]);
    assert_eq!(store.position(chat, device.id).await.unwrap(), Some(DevicePosition { from: 0, cursor: 2 }));
    assert_eq!(store.attach(&[chat], &alice, device.id, first).await.unwrap(), [None], "too late");
    assert!(store.attach(&[chat], &alice, device.id, second).await.unwrap()[0].is_some(), "once more");
}

#[tokio::test]
async fn hundreds_of_chats_are_attached_in_order() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let device = DeviceId::random();
    let mut chats = Vec::new();
    for _ in 0..300 {
        let chat = group(&store, &alice).await;
        subscribe_now(&store, chat, &alice, device).await;
        chats.push(chat);
    }
    let attached = store.attach(&chats, &alice, device, 1).await.unwrap();
    let ids: Vec<_> = attached.into_iter().map(|attached| attached.unwrap().chat.id).collect();
    assert_eq!(ids, chats);
}

#[tokio::test]
async fn a_new_membership_owes_anew() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    let device = DeviceId::random();
    join(&store, chat, &bob, JoinBy::Invitation).await;
    subscribe_now(&store, chat, &bob, device).await;
    leave(&store, chat, &bob, Departure::Left).await;
    assert_eq!(store.attach(&[chat], &bob, device, 1).await.unwrap(), [None]);
    send(&store, chat, &alice, "not for bob").await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    // Nobody took the device out of the chat in between: what it received then it doesn't now.
    assert_eq!(store.attach(&[chat], &bob, device, 1).await.unwrap(), [None]);
    assert_eq!(subscribe_now(&store, chat, &bob, device).await, Some(DevicePosition { from: 1, cursor: 1 }));
    assert!(store.attach(&[chat], &bob, device, 1).await.unwrap()[0].is_some());
}

// Found by the simulation: a connection that hasn't noticed that its user left and came back.
#[tokio::test]
async fn cursors_of_an_earlier_membership_are_refused_and_none_is_set_back() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    let device = DeviceId::random();
    join(&store, chat, &bob, JoinBy::Invitation).await;
    subscribe_now(&store, chat, &bob, device).await;
    store.attach(&[chat], &bob, device, 1).await.unwrap();
    send(&store, chat, &alice, "one").await;
    leave(&store, chat, &bob, Departure::Left).await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    for text in ["two", "three", "four"] {
        send(&store, chat, &alice, text).await;
    }
    // Before it is subscribed anew, the old connection gets and acknowledges what is said.
    assert_eq!(store.move_cursors(chat, &[ack(device, 1, 3)]).await.unwrap(), [CursorMoved::At(3)]);
    let position = DevicePosition { from: 1, cursor: 3 };
    assert_eq!(
        store.subscribe_device(chat, &bob, device, SubscribeFrom::Joined).await.unwrap(),
        Some(position)
    );
    assert_eq!(store.move_cursors(chat, &[ack(device, 1, 4)]).await.unwrap(), [CursorMoved::Fenced]);
    let moved = CursorMove { from: 1, ..ack(device, 1, 4) };
    assert_eq!(store.move_cursors(chat, &[moved]).await.unwrap(), [CursorMoved::At(4)]);
}

#[tokio::test]
async fn all_devices_of_a_user_who_joins_are_owed_the_same() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    send(&store, chat, &alice, "before").await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    let (phone, web, new) = (DeviceId::random(), DeviceId::random(), DeviceId::random());
    let position = Some(DevicePosition { from: 1, cursor: 1 });
    assert_eq!(store.subscribe_device(chat, &bob, phone, SubscribeFrom::Joined).await.unwrap(), position);
    send(&store, chat, &alice, "while the next one waits for its turn").await;
    assert_eq!(store.subscribe_device(chat, &bob, web, SubscribeFrom::Joined).await.unwrap(), position);
    let position = Some(DevicePosition { from: 2, cursor: 2 });
    assert_eq!(subscribe_now(&store, chat, &bob, new).await, position);
    assert_eq!(
        store.subscribe_device(chat, &bob, new, SubscribeFrom::Joined).await.unwrap(),
        position,
        "fixed before"
    );
}

#[tokio::test]
async fn everything_that_is_owed_is_listed() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let listed = async || {
        let (mut chats, mut page) = (std::collections::HashMap::new(), Some(0));
        while let Some(number) = page {
            let found = store.chat_ids(number).await.unwrap();
            for (chat, subscriptions) in found.ids.iter().zip(store.subscriptions(&found.ids).await.unwrap())
            {
                chats.extend(subscriptions.map(|subscriptions| (*chat, subscriptions)));
            }
            page = found.next;
        }
        chats
    };
    let mut made = Vec::new();
    for _ in 0..300 {
        made.push(group(&store, &alice).await);
    }
    let all = listed().await;
    assert!(made.iter().all(|chat| all.contains_key(chat)));
    let (chat, one, other) = (made[7], DeviceId::random(), DeviceId::random());
    subscribe_now(&store, chat, &alice, one).await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    store.subscribe_device(chat, &bob, other, SubscribeFrom::Joined).await.unwrap();
    leave(&store, chat, &bob, Departure::Left).await;
    let all = listed().await;
    let subscriptions = &all[&chat];
    assert_eq!(subscriptions.node, store.chat(chat).await.unwrap().unwrap().node);
    assert_eq!(subscriptions.members, store.members(chat).await.unwrap());
    let devices: std::collections::HashSet<_> = subscriptions.devices.iter().copied().collect();
    assert_eq!(devices, [(one, 0), (other, 0)].into(), "until it is disowned");
    assert!(store.unsubscribe_device(chat, Some(&bob), other).await.unwrap());
    assert_eq!(listed().await[&chat].devices, [(one, 0)]);
    leave(&store, chat, &alice, Departure::Left).await;
    assert!(store.delete_chat(chat).await.unwrap());
    assert!(!listed().await.contains_key(&chat));
}

#[tokio::test]
async fn read_offsets_never_fall() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let (chat, other) = (group(&store, &alice).await, group(&store, &alice).await);
    let device = DeviceId::random();
    assert!(store.reads(&alice).await.unwrap().is_empty());
    assert_eq!(store.move_read(&alice, chat, 0, None).await.unwrap(), 0);
    assert!(store.reads(&alice).await.unwrap().is_empty());
    assert_eq!(store.move_read(&alice, chat, 10, Some(device)).await.unwrap(), 10);
    assert_eq!(store.move_read(&alice, chat, 9, None).await.unwrap(), 10);
    assert_eq!(store.move_read(&alice, chat, 10, None).await.unwrap(), 10, "the first to read it stays");
    let huge = (1 << 53) - 1;
    assert_eq!(store.move_read(&alice, other, huge, None).await.unwrap(), huge);
    assert_eq!(store.move_read(&alice, other, huge - 1, None).await.unwrap(), huge);
    let reads = store.reads(&alice).await.unwrap();
    assert_eq!(reads.len(), 2);
    assert_eq!(reads[&chat], ReadOffset { seq: 10, device: Some(device) });
    assert_eq!(reads[&other], ReadOffset { seq: huge, device: None });
    // Of some chats; where nothing was read there is nothing.
    let some = store.reads_in(&alice, &[other, ChatId::random()]).await.unwrap();
    assert_eq!(some, [(other, ReadOffset { seq: huge, device: None })].into());
    assert!(store.reads_in(&alice, &[]).await.unwrap().is_empty());
    assert!(store.reads_in(&user("nobody"), &[other]).await.unwrap().is_empty());

    let moving = (0..50u64).map(|i| {
        let (store, alice) = (store.clone(), alice.clone());
        let seq = 11 + (i * 37) % 50;
        tokio::spawn(async move {
            let stands = store.move_read(&alice, chat, seq, None).await.unwrap();
            assert!(stands >= seq);
            let read = store.reads(&alice).await.unwrap()[&chat].seq;
            assert!(read >= stands);
        })
    });
    for one in moving.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    assert_eq!(store.reads(&alice).await.unwrap()[&chat].seq, 60);
}
