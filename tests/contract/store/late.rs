//! Calls that are executed long after their caller gave up, when others have gone on; and what leaving ends: nothing that is
//! said after it reaches who has left.

use bytes::Bytes;
use keepstep::{
    domain::{
        chat::Member,
        message::{body_with_epoch, split_epoch},
    },
    store::{CursorMove, CursorMoved, Departure, ReadOffset, Reader, StoreLimits},
};

use super::{messages::seqs, *};

async fn member(store: &Store, chat: ChatId, who: &UserId) -> Member {
    store.chat_of_member(chat, who).await.unwrap().unwrap().1
}

#[tokio::test]
async fn a_late_leave_ends_no_later_membership() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    let mut versions = vec![member(&store, chat, &alice).await.version];
    for _ in 0..3 {
        join(&store, chat, &bob, JoinBy::Themselves).await;
        let left = member(&store, chat, &bob).await;
        assert!(!versions.contains(&left.version), "each membership has its own");
        versions.push(left.version);
        assert_eq!(store.remove_member(chat, &left, Departure::Left).await.unwrap(), Some(1));
        join(&store, chat, &bob, JoinBy::Themselves).await;
        // The same once more, and one that was to remove whom the owner had read before.
        for how in [Departure::Left, Departure::Removed] {
            assert_eq!(store.remove_member(chat, &left, how).await.unwrap(), None);
        }
        assert_eq!(store.members(chat).await.unwrap().len(), 2);
        assert_eq!(store.chats_of(&bob).await.unwrap(), [chat]);
        leave(&store, chat, &bob, Departure::Left).await;
    }
    assert_eq!(join(&store, chat, &bob, JoinBy::Themselves).await, Joined::New(0), "and isn't banned");
    // Who was there from the beginning.
    let first = member(&store, chat, &alice).await;
    store.remove_member(chat, &first, Departure::Left).await.unwrap();
    join(&store, chat, &alice, JoinBy::Themselves).await;
    assert_eq!(store.remove_member(chat, &first, Departure::Left).await.unwrap(), None);
}

#[tokio::test]
async fn a_late_disown_takes_nothing_from_a_member() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let (chat, device) = (group(&store, &alice).await, DeviceId::random());
    join(&store, chat, &bob, JoinBy::Themselves).await;
    store.subscribe_device(chat, &bob, device, SubscribeFrom::Joined).await.unwrap();
    leave(&store, chat, &bob, Departure::Left).await;
    join(&store, chat, &bob, JoinBy::Themselves).await;
    let position = store.subscribe_device(chat, &bob, device, SubscribeFrom::Joined).await.unwrap();
    assert!(!store.unsubscribe_device(chat, Some(&bob), device).await.unwrap(), "that of the first leave");
    assert_eq!(store.position(chat, device).await.unwrap(), position);
    assert!(store.attach(&[chat], &bob, device, 1).await.unwrap()[0].is_some());
    leave(&store, chat, &bob, Departure::Left).await;
    for _ in 0..2 {
        assert!(store.unsubscribe_device(chat, Some(&bob), device).await.unwrap());
    }
    assert_eq!(store.position(chat, device).await.unwrap(), None);
    assert!(store.unsubscribe_device(ChatId::random(), Some(&bob), device).await.unwrap());
    // One that was ended goes, whoever is in the chat.
    join(&store, chat, &bob, JoinBy::Themselves).await;
    store.subscribe_device(chat, &bob, device, SubscribeFrom::Joined).await.unwrap();
    store.forget_device(&bob, device, &[chat]).await.unwrap();
    assert_eq!(store.position(chat, device).await.unwrap(), None);
}

#[tokio::test]
async fn a_late_join_brings_nobody_back() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    let seen = store.chat(chat).await.unwrap().unwrap().epoch;
    let late = async || store.add_member(chat, &bob, JoinBy::Invitation, seen).await.unwrap();
    assert_eq!(late().await, Joined::New(0));
    assert_eq!(late().await, Joined::Already(0), "twice");
    leave(&store, chat, &bob, Departure::Removed).await;
    assert_eq!(late().await, Joined::Stale, "the owner has removed them since");
    assert_eq!(store.chat_of_member(chat, &bob).await.unwrap(), None);
    assert_eq!(store.chats_of(&bob).await.unwrap(), vec![]);
    assert_eq!(join(&store, chat, &bob, JoinBy::Themselves).await, Joined::Refused, "still banned");
    assert_eq!(join(&store, chat, &bob, JoinBy::Invitation).await, Joined::New(0), "read again");
    assert_eq!(late().await, Joined::Already(0));
    // That others leave hinders nobody.
    assert_eq!(
        store.add_member(chat, &user("carol"), JoinBy::Invitation, seen).await.unwrap(),
        Joined::New(0)
    );
}

/// Nothing is published while somebody's queues aren't known to be there.
#[tokio::test]
async fn a_member_arrives_until_their_queues_are_there() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    let held = async || {
        let sent = store.append(&message(chat, &alice, "x")).await.unwrap();
        let Appended::New { held, .. } = sent else { panic!("{sent:?}") };
        assert_eq!(store.outbox(chat, 9).await.unwrap().held, held);
        held
    };
    assert_eq!(store.arriving(chat).await.unwrap(), [(alice.clone(), 0)], "the first one, too");
    assert!(held().await);
    store.arrived(chat, &alice, 0).await.unwrap();
    assert!(!held().await);
    join(&store, chat, &bob, JoinBy::Invitation).await;
    let version = member(&store, chat, &bob).await.version;
    assert_eq!(store.arriving(chat).await.unwrap(), [(bob.clone(), version)]);
    assert!(held().await);
    // Of an earlier membership, and so late.
    leave(&store, chat, &bob, Departure::Left).await;
    assert!(!held().await, "who has left needs none");
    join(&store, chat, &bob, JoinBy::Invitation).await;
    store.arrived(chat, &bob, version).await.unwrap();
    assert!(held().await);
    store.arrived(chat, &bob, version + 1).await.unwrap();
    assert!(!held().await);
    assert_eq!(store.arriving(chat).await.unwrap(), []);
}

#[tokio::test]
async fn who_left_is_known_though_a_thousand_left_since() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    let seen = store.chat(chat).await.unwrap().unwrap().epoch;
    leave(&store, chat, &bob, Departure::Left).await;
    for n in 0..1000 {
        let other = user(&format!("u{n}"));
        let joined = store.add_member(chat, &other, JoinBy::Invitation, n + 1).await.unwrap();
        assert_eq!(joined, Joined::New(0));
        leave(&store, chat, &other, Departure::Left).await;
    }
    assert_eq!(store.add_member(chat, &bob, JoinBy::Invitation, seen).await.unwrap(), Joined::Stale);
    // Nor is it known any more of one who never was in it; reading again helps.
    let carol = user("carol");
    assert_eq!(store.add_member(chat, &carol, JoinBy::Invitation, seen).await.unwrap(), Joined::Stale);
    assert_eq!(join(&store, chat, &carol, JoinBy::Invitation).await, Joined::New(0));
    assert_eq!(join(&store, chat, &bob, JoinBy::Invitation).await, Joined::New(0));
}

#[tokio::test]
async fn what_is_owed_is_the_same_however_late_it_is_fixed() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    send(&store, chat, &alice, "one").await;
    let (device, other) = (DeviceId::random(), DeviceId::random());
    let seen = SubscribeFrom::Head(1);
    send(&store, chat, &alice, "two").await;
    let position = Some(DevicePosition { from: 1, cursor: 1 });
    assert_eq!(store.subscribe_device(chat, &bob, device, seen).await.unwrap(), position, "late");
    assert_eq!(
        store.subscribe_device(chat, &bob, device, SubscribeFrom::Head(2)).await.unwrap(),
        position,
        "and fixed before"
    );
    // Read before an older copy of the data was brought back, say.
    let ahead = store.subscribe_device(chat, &bob, DeviceId::random(), SubscribeFrom::Head(9)).await.unwrap();
    assert_eq!(ahead, Some(DevicePosition { from: 2, cursor: 2 }), "never above the head");
    // Later still, in another membership: as if the device had come with it.
    leave(&store, chat, &bob, Departure::Left).await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    send(&store, chat, &alice, "three").await;
    let position = Some(DevicePosition { from: 2, cursor: 2 });
    for device in [device, other] {
        assert_eq!(store.subscribe_device(chat, &bob, device, seen).await.unwrap(), position);
        assert_eq!(
            store.subscribe_device(chat, &bob, device, SubscribeFrom::Joined).await.unwrap(),
            position
        );
    }
}

#[tokio::test]
async fn each_message_says_who_had_left_before_it() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    let (chat, device) = (group(&store, &alice).await, DeviceId::random());
    subscribe_now(&store, chat, &alice, device).await;
    let mut bodies: Vec<(Seq, Bytes)> = Vec::new();
    let mut say = async |epoch: u64| {
        let append = message(chat, &alice, "x");
        let Appended::New { seq, epoch: told, .. } = store.append(&append).await.unwrap() else { panic!() };
        assert_eq!(told, epoch);
        bodies.push((seq, body_with_epoch(append.frame.number(seq), epoch)));
    };
    let epoch = async || {
        let attached = store.attach(&[chat], &alice, device, 1).await.unwrap().remove(0).unwrap();
        assert_eq!(attached.epoch, attached.chat.epoch);
        assert_eq!(attached.epoch, store.chat(chat).await.unwrap().unwrap().epoch);
        attached.epoch
    };
    say(0).await;
    for who in [&bob, &carol] {
        join(&store, chat, who, JoinBy::Invitation).await;
    }
    say(0).await;
    assert_eq!(epoch().await, 0, "who comes doesn't change it");
    leave(&store, chat, &bob, Departure::Left).await;
    assert_eq!(epoch().await, 1);
    say(1).await;
    leave(&store, chat, &bob, Departure::Left).await;
    say(1).await;
    leave(&store, chat, &carol, Departure::Removed).await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    say(2).await;
    assert_eq!(epoch().await, 2);
    // The same bytes everywhere; and a page has as many of them as fit.
    assert_eq!(store.log(chat, 1, 10, 1 << 20).await.unwrap().messages, bodies);
    assert_eq!(store.outbox(chat, 10).await.unwrap().messages, bodies);
    let size = bodies[3].1.len();
    assert_eq!(size, split_epoch(bodies[3].1.clone()).0.len() + 2);
    assert_eq!(seqs(&store.log(chat, 3, 10, 2 * size).await.unwrap().messages), [3, 4]);
    assert_eq!(seqs(&store.log(chat, 3, 10, 2 * size - 1).await.unwrap().messages), [3]);
}

#[tokio::test]
async fn the_log_is_for_members_alone() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    send(&store, chat, &alice, "before bob").await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    send(&store, chat, &alice, "with bob").await;
    let read = async |who: &UserId, since| {
        let reader = Reader { user: who.clone(), since };
        let page = store.log_of_member(chat, &reader, since + 1, 10, 1 << 20).await.unwrap();
        page.map(|page| (seqs(&page.messages), page.floor, page.head))
    };
    assert_eq!(read(&bob, 1).await, Some((vec![2], 1, 2)));
    assert_eq!(read(&alice, 0).await, Some((vec![1, 2], 1, 2)));
    assert_eq!(read(&bob, 0).await, None, "below the boundary");
    assert_eq!(read(&user("carol"), 0).await, None);
    leave(&store, chat, &bob, Departure::Left).await;
    send(&store, chat, &alice, "without bob").await;
    assert_eq!(read(&bob, 1).await, None);
    join(&store, chat, &bob, JoinBy::Invitation).await;
    assert_eq!(read(&bob, 1).await, None, "a session of the earlier membership");
    assert_eq!(read(&bob, 3).await, Some((vec![], 1, 3)));
    let nowhere = Reader { user: alice, since: 0 };
    assert_eq!(store.log_of_member(ChatId::random(), &nowhere, 1, 1, 1).await.unwrap(), None);
}

#[tokio::test]
async fn read_offsets_end_with_membership() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let (chat, kept) = (group(&store, &alice).await, group(&store, &bob).await);
    send(&store, kept, &bob, "x").await;
    store.move_read(&bob, kept, 1, None).await.unwrap();
    send(&store, chat, &alice, "one").await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    send(&store, chat, &alice, "two").await;
    assert_eq!(store.move_read(&bob, chat, 2, None).await.unwrap(), 2);
    leave(&store, chat, &bob, Departure::Left).await;
    let offsets = async || store.reads(&bob).await.unwrap();
    assert_eq!(offsets().await.into_keys().collect::<Vec<_>>(), [kept]);
    // One that is late, or of a chat that bob never was in.
    assert_eq!(store.move_read(&bob, chat, 2, None).await.unwrap(), 0);
    assert_eq!(store.move_read(&bob, ChatId::random(), 2, None).await.unwrap(), 0);
    assert_eq!(offsets().await.len(), 1);
    send(&store, chat, &alice, "three").await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    assert_eq!(offsets().await[&chat], ReadOffset { seq: 3, device: None }, "with what was before as read");
    assert_eq!(store.move_read(&bob, chat, 2, None).await.unwrap(), 3);
}

#[tokio::test]
async fn who_comes_and_goes_leaves_no_offsets_behind() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    for _ in 0..50 {
        let chat = group(&store, &alice).await;
        send(&store, chat, &alice, "x").await;
        join(&store, chat, &bob, JoinBy::Invitation).await;
        leave(&store, chat, &bob, Departure::Left).await;
    }
    assert!(store.reads(&bob).await.unwrap().is_empty());
}

#[tokio::test]
async fn devices_and_their_states_are_read_for_many_users_at_once() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let mut expected = Vec::new();
    let users: Vec<_> = (0..300).map(|n| user(&format!("u{n}"))).collect();
    for (n, owner) in users.iter().enumerate() {
        let mut states = Vec::new();
        if n % 3 > 0 {
            states.push((active(&store, owner, DeviceKind::Main).await.id, DeviceState::Active));
        }
        if n % 3 > 1 {
            let new = new_device(owner, DeviceKind::Sub);
            store.register_device(&new).await.unwrap();
            states.push((new.id, DeviceState::Registering));
            let ended = active(&store, owner, DeviceKind::Sub).await;
            store.begin_termination(&termination(&ended)).await.unwrap();
            states.push((ended.id, DeviceState::Terminating));
        }
        states.sort_by_key(|(device, _)| *device);
        expected.push(states);
    }
    let mut found = store.device_states(&users).await.unwrap();
    found.iter_mut().for_each(|states| states.sort_by_key(|(device, _)| *device));
    assert_eq!(found, expected);
    assert!(store.device_states(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn cursors_of_a_membership_that_was_left_move_nothing_of_a_later_one() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let (chat, device) = (group(&store, &alice).await, DeviceId::random());
    join(&store, chat, &bob, JoinBy::Invitation).await;
    store.subscribe_device(chat, &bob, device, SubscribeFrom::Joined).await.unwrap();
    store.attach(&[chat], &bob, device, 1).await.unwrap();
    send(&store, chat, &alice, "one").await;
    leave(&store, chat, &bob, Departure::Left).await;
    store.unsubscribe_device(chat, Some(&bob), device).await.unwrap();
    send(&store, chat, &alice, "two").await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    store.subscribe_device(chat, &bob, device, SubscribeFrom::Joined).await.unwrap();
    let late = CursorMove { device, session: 1, from: 0, seq: 1 };
    assert_eq!(store.move_cursors(chat, &[late]).await.unwrap(), [CursorMoved::Fenced]);
    assert_eq!(store.position(chat, device).await.unwrap(), Some(DevicePosition { from: 2, cursor: 2 }));
}
