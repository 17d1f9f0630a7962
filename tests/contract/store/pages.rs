//! What is read for lists.

use keepstep::store::{Reader, StoreLimits};

use super::{messages::seqs, *};

#[tokio::test]
async fn chats_are_seen_together_with_their_members() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    let mut chats = Vec::new();
    for members in [&[][..], &[&bob], &[&bob, &carol]] {
        let chat = group(&store, &alice).await;
        for member in members {
            join(&store, chat, member, JoinBy::Invitation).await;
        }
        chats.push(chat);
    }
    send(&store, chats[1], &alice, "hello").await;
    let theirs = group(&store, &carol).await;
    let asked = [chats[2], theirs, ChatId::random(), chats[1], chats[0]];
    let seen = store.chats_with_members(&alice, &asked, 1_000).await.unwrap();
    let names = |members: &[keepstep::domain::chat::Member]| {
        members.iter().map(|member| member.user.clone()).collect::<Vec<_>>()
    };
    let all: Vec<_> =
        seen.iter().map(|seen| seen.as_ref().map(|seen| (seen.chat.id, names(&seen.members)))).collect();
    assert_eq!(
        all,
        [
            Some((chats[2], vec![alice.clone(), bob.clone(), carol.clone()])),
            None,
            None,
            Some((chats[1], vec![alice.clone(), bob.clone()])),
            Some((chats[0], vec![alice.clone()])),
        ]
    );
    // Each is what one sees who asks for it alone.
    for seen in seen.into_iter().flatten() {
        let alone = store.chat_of_member(seen.chat.id, &alice).await.unwrap();
        assert_eq!(alone, Some((seen.chat.clone(), seen.member)));
        assert_eq!(store.members(seen.chat.id).await.unwrap(), seen.members);
    }
    // No more members in all than are wanted, but the first chat in any case. Who isn't in a chat isn't told of it.
    let count = async |most| store.chats_with_members(&alice, &asked, most).await.unwrap().len();
    assert_eq!((count(6).await, count(5).await, count(3).await), (4, 3, 1));
    assert_eq!(count(0).await, 1);
    let none = store.chats_with_members(&bob, &[theirs, chats[0]], 1_000).await.unwrap();
    assert!(none.iter().all(Option::is_none) && none.len() == 2, "{none:?}");
    assert!(store.chats_with_members(&alice, &[], 1_000).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_newest_below_a_number_are_read_from_above() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &alice).await;
    let reader = Reader { user: alice.clone(), since: 0 };
    let read = async |before, lowest, count, bytes| {
        let page =
            store.log_before(chat, &reader, before, lowest, count, bytes).await.unwrap().expect("a member");
        (seqs(&page.messages), page.floor, page.head)
    };
    assert_eq!(read(1, 1, 10, 1 << 20).await, (vec![], 1, 0));
    for n in 1..=80 {
        assert_eq!(send(&store, chat, &alice, &"x".repeat(100)).await, n);
    }
    assert_eq!(read(81, 1, 3, 1 << 20).await, (vec![78, 79, 80], 1, 80));
    assert_eq!(read(1_000, 1, 2, 1 << 20).await, (vec![79, 80], 1, 80));
    assert_eq!(read(50, 1, 1_000, 1 << 20).await, ((1..50).collect(), 1, 80));
    assert_eq!(read(50, 47, 1_000, 1 << 20).await, (vec![47, 48, 49], 1, 80));
    for before in [0, 1] {
        assert_eq!(read(before, 0, 10, 1 << 20).await, (vec![], 1, 80), "below {before}");
    }
    assert_eq!(read(50, 60, 10, 1 << 20).await, (vec![], 1, 80));
    assert_eq!(read(50, 1, 0, 1 << 20).await, (vec![], 1, 80));
    // As many as fit, from above; one in any case. The bytes are those of the log.
    let whole = store.log(chat, 1, 1_000, 1 << 30).await.unwrap().messages;
    let size = whole[48].1.len();
    assert_eq!(read(50, 1, 10, 1).await.0, [49]);
    assert_eq!(read(50, 1, 10, 2 * size).await.0, [48, 49]);
    assert_eq!(read(50, 1, 10, 2 * size - 1).await.0, [49]);
    let page = store.log_before(chat, &reader, 50, 1, 2, 1 << 20).await.unwrap().unwrap();
    assert_eq!(page.messages, whole[47..49]);
    // Holes are passed over.
    store.raise_head(chat, 90).await.unwrap();
    assert_eq!(send(&store, chat, &alice, "behind a hole").await, 91);
    assert_eq!(read(100, 1, 3, 1 << 20).await, (vec![79, 80, 91], 1, 91));
    assert_eq!(read(91, 1, 2, 1 << 20).await.0, [79, 80]);
    // For members alone, and of what they may receive.
    let reads = async |who: &UserId, since| {
        let reader = Reader { user: who.clone(), since };
        store
            .log_before(chat, &reader, 100, since + 1, 10, 1 << 20)
            .await
            .unwrap()
            .map(|page| seqs(&page.messages))
    };
    assert_eq!(reads(&bob, 0).await, None);
    join(&store, chat, &bob, JoinBy::Invitation).await;
    send(&store, chat, &alice, "with bob").await;
    assert_eq!(reads(&bob, 91).await, Some(vec![92]));
    assert_eq!(reads(&bob, 90).await, None, "below the boundary");
    assert_eq!(store.log_before(ChatId::random(), &reader, 2, 1, 1, 1).await.unwrap(), None);
}
