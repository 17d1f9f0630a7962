//! Joining, leaving, being removed; and that joining and registering see each other.

use keepstep::{
    domain::chat::Member,
    store::{Departure, JoinBy, Joined, ReadOffset, StoreLimits},
};

use super::*;

#[tokio::test]
async fn who_joins_sees_what_comes_after() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    for text in ["one", "two"] {
        send(&store, chat, &alice, text).await;
    }
    assert_eq!(store.append(&message(chat, &bob, "no")).await.unwrap(), Appended::NotMember);
    assert_eq!(join(&store, chat, &bob, JoinBy::Themselves).await, Joined::New(2));
    send(&store, chat, &bob, "three").await;
    assert_eq!(join(&store, chat, &bob, JoinBy::Themselves).await, Joined::Already(2));
    let members = [("alice", 0, 0), ("bob", 2, 1)];
    let members = members.map(|(name, boundary, version)| Member { user: user(name), boundary, version });
    assert_eq!(store.members(chat).await.unwrap(), members, "by name");
    let (seen, member) = store.chat_of_member(chat, &bob).await.unwrap().unwrap();
    assert_eq!((seen.head, member.boundary), (3, 2));
    assert_eq!(store.reads(&bob).await.unwrap()[&chat], ReadOffset { seq: 2, device: None });
    assert_eq!(store.chats_of(&bob).await.unwrap(), vec![chat]);
    let nowhere = join(&store, ChatId::random(), &bob, JoinBy::Invitation).await;
    assert_eq!(nowhere, Joined::Refused);
    assert_eq!(store.chats_of(&bob).await.unwrap(), vec![chat]);

    // Leaving and coming back moves the boundary and the read offset up, never down.
    store.move_read(&bob, chat, 3, None).await.unwrap();
    assert_eq!(leave(&store, chat, &bob, Departure::Left).await, Some(1));
    assert_eq!(leave(&store, chat, &bob, Departure::Left).await, None);
    assert_eq!(store.chats_of(&bob).await.unwrap(), vec![]);
    assert_eq!(store.append(&message(chat, &bob, "no")).await.unwrap(), Appended::NotMember);
    send(&store, chat, &alice, "four").await;
    assert_eq!(join(&store, chat, &bob, JoinBy::Themselves).await, Joined::New(4));
    assert_eq!(store.reads(&bob).await.unwrap()[&chat].seq, 4);
    assert_eq!(leave(&store, ChatId::random(), &bob, Departure::Removed).await, None);
}

#[tokio::test]
async fn an_owner_who_leaves_hands_the_group_on() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    let chat = group(&store, &alice).await;
    join(&store, chat, &carol, JoinBy::Invitation).await;
    send(&store, chat, &alice, "one").await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    leave(&store, chat, &alice, Departure::Left).await;
    assert_eq!(store.chat(chat).await.unwrap().unwrap().owner, carol, "she has been in it longest");
    leave(&store, chat, &bob, Departure::Left).await;
    assert_eq!(store.chat(chat).await.unwrap().unwrap().owner, carol);
}

#[tokio::test]
async fn who_was_removed_needs_an_invitation() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    assert_eq!(leave(&store, chat, &bob, Departure::Removed).await, None, "not a member: nothing changes");
    assert_eq!(join(&store, chat, &bob, JoinBy::Themselves).await, Joined::New(0));
    assert_eq!(leave(&store, chat, &bob, Departure::Removed).await, Some(1));
    assert_eq!(join(&store, chat, &bob, JoinBy::Themselves).await, Joined::Refused);
    assert_eq!(store.chats_of(&bob).await.unwrap(), vec![]);
    assert_eq!(join(&store, chat, &bob, JoinBy::Invitation).await, Joined::New(0));
    assert_eq!(leave(&store, chat, &bob, Departure::Left).await, Some(1));
    assert_eq!(join(&store, chat, &bob, JoinBy::Themselves).await, Joined::New(0), "lifted");
}

#[tokio::test]
async fn a_group_has_so_many_members_and_no_more() {
    let (store, _guard) = start(StoreLimits { members_per_group: 3, ..StoreLimits::default() }).await;
    let chat = group(&store, &user("alice")).await;
    let joining = (0..10).map(|i| {
        let store = store.clone();
        tokio::spawn(async move { join(&store, chat, &user(&format!("user-{i}")), JoinBy::Invitation).await })
    });
    let (mut joined, mut refused) = (0, 0);
    for one in joining.collect::<Vec<_>>() {
        match one.await.unwrap() {
            Joined::New(0) => joined += 1,
            Joined::LimitReached => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((joined, refused), (2, 8));
    let mut listed = 0;
    for i in 0..10 {
        listed += store.chats_of(&user(&format!("user-{i}"))).await.unwrap().len();
    }
    assert_eq!(listed, 2, "who was refused has no trace of it");
}

// Join writes the membership, then reads the devices; register writes the device, then reads the chats.
#[tokio::test]
async fn joining_and_registering_at_once_see_each_other() {
    let (store, _guard) = start(StoreLimits { subs_per_user: 500, ..StoreLimits::default() }).await;
    let (alice, bob) = (user("alice"), user("bob"));
    for _ in 0..60 {
        let chat = group(&store, &alice).await;
        let device = new_device(&bob, DeviceKind::Sub);
        let join = async {
            join(&store, chat, &bob, JoinBy::Invitation).await;
            store.devices(&bob).await.unwrap().iter().any(|other| other.id == device.id)
        };
        let register = async {
            store.register_device(&device).await.unwrap();
            store.chats_of(&bob).await.unwrap().contains(&chat)
        };
        let (saw_device, saw_chat) = tokio::join!(join, register);
        assert!(saw_device || saw_chat);
    }
}

#[tokio::test]
async fn leaving_and_joining_at_once_never_hides_a_membership() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    for _ in 0..40 {
        let goes = || leave(&store, chat, &bob, Departure::Left);
        let comes = || join(&store, chat, &bob, JoinBy::Invitation);
        tokio::join!(goes(), comes(), goes(), comes());
        let member = store.members(chat).await.unwrap().iter().any(|member| member.user == bob);
        let listed = store.chats_of(&bob).await.unwrap().contains(&chat);
        assert!(listed || !member);
    }
}
