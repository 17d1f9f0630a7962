//! Chats are made once, found by name, and gone when their last member is.

use keepstep::{
    domain::chat::Member,
    store::{Appended, ChatHead, Departure, JoinBy, Joined, StoreLimits},
};

use super::*;

#[tokio::test]
async fn a_chat_is_made_once_and_seen_by_its_members() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let new = NewChat {
        name: Some("Tea {time} \u{2615}".into()),
        password_hash: Some("$argon$".into()),
        ..new_group(&alice)
    };
    assert_eq!(store.chat(new.id).await.unwrap(), None);
    let chat = create(&store, &new).await;
    assert_eq!(
        chat,
        Chat {
            id: new.id,
            kind: ChatKind::Group,
            name: new.name.clone(),
            public: false,
            password_hash: new.password_hash.clone(),
            owner: alice.clone(),
            node: new.node.clone(),
            created: new.created,
            head: 0,
            epoch: 0,
        }
    );
    assert_eq!(store.create_chat(&new).await.unwrap(), Created::Existing(chat.clone()));
    assert_eq!(store.chat(new.id).await.unwrap(), Some(chat.clone()));
    let member = Member { user: alice.clone(), boundary: 0, version: 0 };
    assert_eq!(store.chat_of_member(new.id, &alice).await.unwrap(), Some((chat.clone(), member.clone())));
    assert_eq!(store.chat_of_member(new.id, &bob).await.unwrap(), None);
    assert_eq!(store.chat_of_member(ChatId::random(), &alice).await.unwrap(), None);
    assert_eq!(store.members(new.id).await.unwrap(), vec![member]);
    assert_eq!(store.chats_of(&alice).await.unwrap(), vec![new.id]);
    assert_eq!(store.chats_of(&bob).await.unwrap(), vec![]);

    let stolen = NewChat { owner: bob.clone(), ..new.clone() };
    assert_eq!(store.create_chat(&stolen).await.unwrap(), Created::Conflict);
    let stolen = NewChat { id: new.id, ..new_direct(&bob, &alice) };
    assert_eq!(store.create_chat(&stolen).await.unwrap(), Created::Conflict);
    assert_eq!(store.chats_of(&bob).await.unwrap(), vec![]);
    send(&store, new.id, &alice, "hi").await;
    assert_eq!(store.chat(new.id).await.unwrap().unwrap().head, 1);
}

#[tokio::test]
async fn two_users_have_one_direct_chat_whoever_begins() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    let first = create(&store, &new_direct(&alice, &bob)).await;
    assert_eq!(store.members(first.id).await.unwrap().len(), 2);
    for (one, other) in [(&alice, &bob), (&bob, &alice)] {
        let found = store.create_chat(&new_direct(one, other)).await.unwrap();
        assert_eq!(found, Created::Existing(first.clone()));
    }
    let guessed = NewChat { id: first.id, ..new_direct(&carol, &alice) };
    assert_eq!(store.create_chat(&guessed).await.unwrap(), Created::Conflict);
    let others = create(&store, &new_direct(&carol, &alice)).await;
    assert_ne!(others.id, first.id);
    assert_eq!(join(&store, first.id, &carol, JoinBy::Invitation).await, Joined::LimitReached);
    let mut both = vec![first.id, others.id];
    both.sort_unstable();
    assert_eq!(store.chats_of(&alice).await.unwrap(), both, "ascending by id");
}

#[tokio::test]
async fn direct_chats_begun_at_once_are_one() {
    let (store, _guard) = start(StoreLimits::default()).await;
    for round in 0..10 {
        let (one, other) = (user(&format!("one-{round}")), user(&format!("other-{round}")));
        let making = (0..8).map(|i| {
            let new = if i % 2 == 0 { new_direct(&one, &other) } else { new_direct(&other, &one) };
            let store = store.clone();
            tokio::spawn(async move { store.create_chat(&new).await.unwrap() })
        });
        let mut ids = Vec::new();
        for one in making.collect::<Vec<_>>() {
            match one.await.unwrap() {
                Created::New(chat) | Created::Existing(chat) => ids.push(chat.id),
                other => panic!("{other:?}"),
            }
        }
        ids.dedup();
        assert_eq!(ids.len(), 1);
        assert_eq!(store.chats_of(&one).await.unwrap(), ids);
        assert_eq!(store.chats_of(&other).await.unwrap(), ids);
    }
}

// Whoever looks first whether the id is free sees that it is.
#[tokio::test]
async fn an_id_asked_for_at_once_is_one_chat() {
    let (store, _guard) = start(StoreLimits::default()).await;
    for _ in 0..10 {
        let id = ChatId::random();
        let making = (0..8).map(|i| {
            let new = NewChat { id, ..new_group(&user(&format!("user-{i}"))) };
            let store = store.clone();
            tokio::spawn(async move { store.create_chat(&new).await.unwrap() })
        });
        let mut made = Vec::new();
        for one in making.collect::<Vec<_>>() {
            match one.await.unwrap() {
                Created::New(chat) => made.push(chat),
                other => assert_eq!(other, Created::Conflict),
            }
        }
        assert_eq!(made.len(), 1, "{made:?}");
        let members = store.members(id).await.unwrap();
        assert_eq!(members.iter().map(|member| &member.user).collect::<Vec<_>>(), [&made[0].owner]);
    }
}

#[tokio::test]
async fn a_public_name_is_unique_and_groups_with_a_password_share_theirs() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let named = |owner: &UserId, created| NewChat {
        name: Some("tea".into()),
        password_hash: Some("hash".into()),
        created,
        ..new_group(owner)
    };
    let second = create(&store, &named(&alice, 20)).await.id;
    let first = create(&store, &named(&bob, 10)).await.id;
    // One that is public, too, is first.
    let public = NewChat { public: true, ..named(&bob, 30) };
    let public_id = create(&store, &public).await.id;
    assert!(matches!(store.create_chat(&public).await.unwrap(), Created::Existing(_)));
    let taken = NewChat { id: ChatId::random(), owner: alice.clone(), ..public.clone() };
    assert_eq!(store.create_chat(&taken).await.unwrap(), Created::NameTaken);
    assert_eq!(store.chat(taken.id).await.unwrap(), None);
    // A private group's name is nobody else's business.
    create(&store, &NewChat { password_hash: None, ..named(&alice, 1) }).await;
    assert_eq!(store.chats_named("tea").await.unwrap(), vec![public_id, first, second]);
    assert_eq!(store.chats_named("tee").await.unwrap(), vec![]);

    leave(&store, public_id, &bob, Departure::Left).await;
    assert!(store.delete_chat(public_id).await.unwrap());
    leave(&store, first, &bob, Departure::Left).await;
    assert!(store.delete_chat(first).await.unwrap());
    assert_eq!(store.chats_named("tea").await.unwrap(), vec![second]);
    assert!(matches!(store.create_chat(&taken).await.unwrap(), Created::New(_)), "the name is free again");
    for created in 0..20 {
        create(&store, &named(&alice, created)).await;
    }
    assert_eq!(store.chats_named("tea").await.unwrap().len(), 16);
}

#[tokio::test]
async fn names_that_look_alike_are_one_and_stand_for_one_kind_of_group() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let open = |name: &str| NewChat { name: Some(name.into()), public: true, ..new_group(&bob) };
    let guarded = |name: &str| NewChat {
        name: Some(name.into()),
        password_hash: Some("hash".into()),
        ..new_group(&alice)
    };
    let club = create(&store, &guarded("Book Club")).await.id;
    for name in ["Book Club", "book  club", "B\u{3bf}\u{3bf}k C1ub", "Ｂook Club", "Bo\u{200b}ok Club"] {
        assert_eq!(store.create_chat(&open(name)).await.unwrap(), Created::NameTaken, "{name:?}");
        assert_eq!(store.chats_named(name).await.unwrap(), [club], "{name:?}");
    }
    assert_eq!(store.chats_of(&bob).await.unwrap(), vec![], "a refusal changes nothing");
    let plaza = create(&store, &open("Plaza")).await;
    for name in ["Plaza", "PLAZA"] {
        assert_eq!(store.create_chat(&guarded(name)).await.unwrap(), Created::NameTaken, "{name:?}");
        assert_eq!(store.create_chat(&open(name)).await.unwrap(), Created::NameTaken, "{name:?}");
        assert_eq!(store.chats_named(name).await.unwrap(), [plaza.id], "{name:?}");
    }
    assert_eq!(plaza.name.as_deref(), Some("Plaza"), "it is shown as it was written");
    // Both are free again with their last member.
    for (chat, who) in [(club, &alice), (plaza.id, &bob)] {
        leave(&store, chat, who, Departure::Left).await;
        assert!(store.delete_chat(chat).await.unwrap());
    }
    create(&store, &open("BOOK CLUB")).await;
    create(&store, &guarded("plaza")).await;
}

#[tokio::test]
async fn public_names_asked_for_at_once_go_to_one() {
    let (store, _guard) = start(StoreLimits::default()).await;
    for round in 0..10 {
        let making = (0..8).map(|i| {
            let owner = user(&format!("user-{i}"));
            let new = NewChat { name: Some(format!("name {round}")), public: true, ..new_group(&owner) };
            let store = store.clone();
            tokio::spawn(async move { store.create_chat(&new).await.unwrap() })
        });
        let (mut made, mut taken) = (0, 0);
        for one in making.collect::<Vec<_>>() {
            match one.await.unwrap() {
                Created::New(_) => made += 1,
                Created::NameTaken => taken += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((made, taken), (1, 7));
    }
}

#[tokio::test]
async fn a_chat_goes_with_its_last_member_and_its_id_is_not_used_again() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let direct = create(&store, &new_direct(&alice, &bob)).await.id;
    let device = active(&store, &alice, DeviceKind::Main).await;
    let append = message(direct, &alice, "one");
    store.append(&append).await.unwrap();
    subscribe_now(&store, direct, &alice, device.id).await;
    assert!(!store.delete_chat(direct).await.unwrap(), "it has members");
    assert_eq!(leave(&store, direct, &alice, Departure::Left).await, Some(1));
    assert!(!store.delete_chat(direct).await.unwrap());
    assert_eq!(leave(&store, direct, &bob, Departure::Left).await, Some(0));
    assert!(store.delete_chat(direct).await.unwrap());
    assert!(store.delete_chat(direct).await.unwrap());
    assert!(store.delete_chat(ChatId::random()).await.unwrap(), "nothing is left of what never was");

    assert_eq!(store.chat(direct).await.unwrap(), None);
    assert_eq!(heads(&store, &[direct]).await, vec![0]);
    assert_eq!(store.outbox(direct, 10).await.unwrap(), OutboxPage::default());
    assert_eq!(store.position(direct, device.id).await.unwrap(), None);
    assert_eq!(store.append(&append).await.unwrap(), Appended::NotMember);
    assert_eq!(join(&store, direct, &alice, JoinBy::Invitation).await, Joined::Refused);
    assert_eq!(store.chats_of(&alice).await.unwrap(), vec![]);
    let again = NewChat { id: direct, ..new_direct(&alice, &bob) };
    assert_eq!(store.create_chat(&again).await.unwrap(), Created::Conflict);
    assert_eq!(create(&store, &new_direct(&bob, &alice)).await.head, 0, "the pair may begin anew");
}

#[tokio::test]
async fn a_user_is_in_so_many_chats_and_no_more() {
    let (store, _guard) = start(StoreLimits { chats_per_user: 3, ..StoreLimits::default() }).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let mut chats = Vec::new();
    for _ in 0..3 {
        chats.push(group(&store, &alice).await);
    }
    assert_eq!(store.create_chat(&new_group(&alice)).await.unwrap(), Created::LimitReached);
    assert_eq!(store.create_chat(&new_direct(&bob, &alice)).await.unwrap(), Created::LimitReached);
    assert_eq!(store.chats_of(&bob).await.unwrap(), vec![], "a refusal changes nothing");
    let bobs = group(&store, &bob).await;
    assert_eq!(join(&store, bobs, &alice, JoinBy::Invitation).await, Joined::LimitReached);
    assert_eq!(store.members(bobs).await.unwrap().len(), 1);
    assert_eq!(
        join(&store, chats[0], &alice, JoinBy::Themselves).await,
        Joined::Already(0),
        "what one is in already doesn't count again"
    );
    leave(&store, chats[0], &alice, Departure::Left).await;
    assert_eq!(join(&store, bobs, &alice, JoinBy::Invitation).await, Joined::New(0));
}

#[tokio::test]
async fn a_chat_moves_from_where_it_is_and_only_from_there() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let chat = create(&store, &new_group(&alice)).await;
    let home = chat.node.clone();
    assert!(!store.move_chat(chat.id, "elsewhere:1", "new:1").await.unwrap(), "it isn't there");
    assert!(!store.move_chat(ChatId::random(), &home, "new:1").await.unwrap(), "no such chat");
    assert_eq!(store.chat(chat.id).await.unwrap(), Some(chat.clone()), "nothing has changed");
    // Two at the same time: one of them moves it, and the other is told that it didn't.
    let (one, other) =
        tokio::join!(store.move_chat(chat.id, &home, "new:1"), store.move_chat(chat.id, &home, "new:2"));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one != other, "{one} {other}");
    let node = if one { "new:1" } else { "new:2" };
    assert!(store.move_chat(chat.id, &home, node).await.unwrap(), "asked again, it is as it was wished");
    // Whatever tells where it is says so from now on.
    assert_eq!(store.chat(chat.id).await.unwrap().unwrap().node, node);
    assert_eq!(store.heads(&[chat.id]).await.unwrap(), [ChatHead { head: 0, node: node.to_owned() }]);
    let sent = store.append(&super::message(chat.id, &alice, "x")).await.unwrap();
    assert_eq!(sent, Appended::New { seq: 1, node: node.to_owned(), epoch: 0, held: true, queues: 0 });
    assert_eq!(store.outbox(chat.id, 9).await.unwrap().node, node);
    leave(&store, chat.id, &alice, Departure::Left).await;
    assert!(
        !store.was_deleted(chat.id).await.unwrap() && !store.was_deleted(ChatId::random()).await.unwrap()
    );
    assert!(store.delete_chat(chat.id).await.unwrap());
    assert!(store.was_deleted(chat.id).await.unwrap());
    assert!(!store.move_chat(chat.id, node, "new:3").await.unwrap(), "it is deleted");
    assert_eq!(store.heads(&[chat.id]).await.unwrap(), [ChatHead::default()]);
}
