//! What users let others do: blocks, bars, invitations; and that a late call undoes no answer.

use keepstep::{
    domain::chat::{Entry, Invitation},
    store::{Answered, Departure, InvitationLimits, Stance, StoreLimits},
};

use super::*;

const MOST: InvitationLimits = InvitationLimits { all: 6, of_one: 2 };

async fn version(store: &Store, of: &UserId) -> u64 {
    store.stance(of, &user("anybody")).await.unwrap().version
}

async fn invite(store: &Store, whom: &UserId, chat: ChatId, by: &UserId) -> Answered {
    store.invite(whom, chat, by, version(store, whom).await, MOST).await.unwrap()
}

async fn blocked(store: &Store, by: &UserId) -> Vec<UserId> {
    store.blocks(by).await.unwrap().into_iter().map(|block| block.user).collect()
}

#[tokio::test]
async fn a_block_stands_until_it_is_ended() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    let nothing = Stance { blocks: false, barred: None, version: 0 };
    assert_eq!(store.stance(&alice, &bob).await.unwrap(), nothing);
    assert_eq!(store.block(&alice, &carol, 0, 2).await.unwrap(), Answered::Done);
    assert_eq!(store.block(&alice, &bob, 0, 2).await.unwrap(), Answered::Stale, "a late one");
    assert_eq!(store.block(&alice, &bob, 1, 2).await.unwrap(), Answered::Done);
    assert_eq!(store.block(&alice, &bob, 1, 2).await.unwrap(), Answered::Done, "again");
    assert_eq!(blocked(&store, &alice).await, [bob.clone(), carol.clone()], "by name");
    assert_eq!(store.block(&alice, &user("dave"), 2, 2).await.unwrap(), Answered::LimitReached);
    assert!(store.stance(&alice, &bob).await.unwrap().blocks);
    assert!(!store.stance(&bob, &alice).await.unwrap().blocks, "one way");
    assert!(store.blocks(&alice).await.unwrap()[0].at > 1_700_000_000_000);

    assert!(!store.unblock(&alice, &bob, 1).await.unwrap(), "a late one");
    assert!(store.unblock(&alice, &bob, 2).await.unwrap());
    assert!(store.unblock(&alice, &bob, 2).await.unwrap(), "again");
    assert_eq!(blocked(&store, &alice).await, [carol]);
    // The call that blocked him, once more.
    assert_eq!(store.block(&alice, &bob, 1, 2).await.unwrap(), Answered::Stale);
    assert!(!store.stance(&alice, &bob).await.unwrap().blocks);
}

#[tokio::test]
async fn a_bar_is_for_a_while_or_until_it_is_lifted() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    store.deny_invites(&bob, &alice, LONG).await.unwrap();
    let stance = store.stance(&bob, &alice).await.unwrap();
    let left = stance.barred.expect("she is barred");
    assert!(left <= LONG && left > LONG / 2, "{left:?}");
    assert_eq!(store.stance(&bob, &user("carol")).await.unwrap().barred, None);
    assert_eq!(store.stance(&alice, &bob).await.unwrap().barred, None);
    store.deny_invites(&bob, &alice, LONG).await.unwrap();
    store.allow_invites(&bob, &alice, stance.version).await.unwrap();
    assert!(store.stance(&bob, &alice).await.unwrap().barred.is_some(), "he has left once more since");
    store.allow_invites(&bob, &alice, version(&store, &bob).await).await.unwrap();
    assert_eq!(store.stance(&bob, &alice).await.unwrap().barred, None);
    store.deny_invites(&bob, &alice, Duration::from_millis(300)).await.unwrap();
    wait_until("the bar to be over", PATIENCE, || async {
        store.stance(&bob, &alice).await.unwrap().barred.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_put_somebody_into_a_chat_is_known_until_they_are_out() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    join(&store, chat, &bob, JoinBy::Invitation).await;
    assert_eq!(store.put_by(&bob, chat).await.unwrap(), None);
    store.note_invited(&bob, chat, &alice).await.unwrap();
    assert_eq!(store.put_by(&bob, chat).await.unwrap(), Some(alice.clone()));
    assert_eq!(store.put_by(&alice, chat).await.unwrap(), None);
    leave(&store, chat, &bob, Departure::Left).await;
    assert_eq!(store.put_by(&bob, chat).await.unwrap(), None);
}

#[tokio::test]
async fn an_invitation_waits_until_it_is_ended_once() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let mut chats = [ChatId::random(), ChatId::random()];
    chats.sort_unstable();
    for chat in [chats[1], chats[0], chats[0]] {
        assert_eq!(invite(&store, &bob, chat, &alice).await, Answered::Done);
    }
    let waiting = store.invitations(&bob).await.unwrap();
    assert_eq!(waiting.iter().map(|one| one.chat).collect::<Vec<_>>(), chats);
    assert!(waiting.iter().all(|one| one.by == alice && one.at > 1_700_000_000_000), "{waiting:?}");
    assert_eq!(store.invitations(&alice).await.unwrap(), []);
    let before = version(&store, &bob).await;
    let another = Invitation { at: waiting[0].at + 1, ..waiting[0].clone() };
    assert!(!store.end_invitation(&bob, &another).await.unwrap(), "another one into the same chat");
    assert!(store.end_invitation(&bob, &waiting[0]).await.unwrap());
    assert!(!store.end_invitation(&bob, &waiting[0]).await.unwrap(), "once");
    assert_eq!(store.invitations(&bob).await.unwrap(), [waiting[1].clone()]);
    // The call that invited him, once more.
    assert_eq!(store.invite(&bob, chats[0], &alice, before, MOST).await.unwrap(), Answered::Stale);
    assert_eq!(invite(&store, &bob, chats[0], &alice).await, Answered::Done);
    // Who is blocked invites nobody.
    assert_eq!(invite(&store, &bob, ChatId::random(), &user("carol")).await, Answered::Done);
    store.block(&bob, &alice, version(&store, &bob).await, 9).await.unwrap();
    let left = store.invitations(&bob).await.unwrap();
    assert_eq!(left.iter().map(|one| &one.by).collect::<Vec<_>>(), [&user("carol")]);
}

#[tokio::test]
async fn only_so_many_invitations_wait_and_of_one_a_part() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let bob = user("bob");
    for n in 0..4 {
        for m in 0..3 {
            let answered = invite(&store, &bob, ChatId::random(), &user(&format!("stranger-{n}"))).await;
            let expected = if n < 3 && m < 2 { Answered::Done } else { Answered::LimitReached };
            assert_eq!(answered, expected, "{n} {m}");
        }
    }
    assert_eq!(store.invitations(&bob).await.unwrap().len(), 6);
}

#[tokio::test]
async fn a_direct_chat_by_consent_begins_with_who_makes_it() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    assert_eq!(store.direct(&alice, &bob).await.unwrap(), None);
    let new = NewChat { entry: Entry::ByConsent, ..new_direct(&alice, &bob) };
    let made = create(&store, &new).await;
    let members = store.members(made.id).await.unwrap();
    assert_eq!(members.iter().map(|member| &member.user).collect::<Vec<_>>(), [&alice]);
    assert_eq!(store.chats_of(&bob).await.unwrap(), []);
    for (one, other) in [(&alice, &bob), (&bob, &alice)] {
        assert_eq!(store.direct(one, other).await.unwrap(), Some(made.clone()));
        let again = NewChat { entry: Entry::ByConsent, ..new_direct(one, other) };
        assert_eq!(store.create_chat(&again).await.unwrap(), Created::Existing(made.clone()));
    }
    assert_eq!(join(&store, made.id, &bob, JoinBy::Invitation).await, Joined::New(0));
    assert_eq!(join(&store, made.id, &user("carol"), JoinBy::Invitation).await, Joined::LimitReached);
    // It stays its pair's, whoever leaves first.
    leave(&store, made.id, &alice, Departure::Left).await;
    assert_eq!(store.chat(made.id).await.unwrap().unwrap().owner, alice);
    let same = NewChat { id: made.id, ..new_direct(&alice, &bob) };
    assert!(matches!(store.create_chat(&same).await.unwrap(), Created::Existing(_)));
    leave(&store, made.id, &bob, Departure::Left).await;
    assert!(store.delete_chat(made.id).await.unwrap());
    assert_eq!(store.direct(&alice, &bob).await.unwrap(), None);
}

#[tokio::test]
async fn a_window_says_how_long_it_has_yet() {
    let (store, _guard) = start(StoreLimits::default()).await;
    for expected in 1..=3 {
        let (count, left) = store.counted("put bob", LONG).await.unwrap();
        assert_eq!(count, expected);
        assert!(left <= LONG && left > LONG / 2, "{left:?}");
    }
    assert_eq!(store.count("put bob", LONG).await.unwrap(), 4, "one and the same");
}
