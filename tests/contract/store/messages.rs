//! Messages get dense numbers, once; the log gives them back in pages; the outbox holds what NSQ hasn't.

use bytes::Bytes;
use keepstep::{
    domain::message::chat_and_seq,
    store::{OutboxSize, StoreLimits},
};

use super::*;

pub fn seqs(page: &[(Seq, Bytes)]) -> Vec<Seq> {
    page.iter().map(|(seq, _)| *seq).collect()
}

#[tokio::test]
async fn messages_are_numbered_one_by_one() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let (chat, other) = (group(&store, &alice).await, group(&store, &alice).await);
    for seq in 1..=5 {
        let append = message(chat, &alice, "h\u{e9}");
        let appended = store.append(&append).await.unwrap();
        assert_eq!(
            appended,
            Appended::New { seq, node: "nsqd-1:4150".into(), epoch: 0, held: true, queues: 0 }
        );
        let page = store.log(chat, seq, 10, 1 << 20).await.unwrap();
        assert_eq!(page.messages, vec![(seq, append.frame.number(seq))], "the bytes are the frame's");
        assert_eq!(chat_and_seq(&page.messages[0].1), Some((chat, seq)));
    }
    // A copy for each subscribed device.
    for (count, device) in [DeviceId::random(), DeviceId::random()].into_iter().enumerate() {
        subscribe_now(&store, other, &alice, device).await;
        let appended = store.append(&message(other, &alice, "x")).await.unwrap();
        assert!(
            matches!(appended, Appended::New { queues, .. } if queues == count as u64 + 1),
            "{appended:?}"
        );
    }
    let all = heads(&store, &[other, ChatId::random(), chat]).await;
    assert_eq!(all, vec![2, 0, 5]);
    assert!(heads(&store, &[]).await.is_empty());
    let lost = store.append(&message(ChatId::random(), &alice, "x")).await.unwrap();
    assert_eq!(lost, Appended::NotMember);
}

#[tokio::test]
async fn a_key_is_one_message() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = create(&store, &new_direct(&alice, &bob)).await.id;
    let first = message(chat, &alice, "one");
    assert!(matches!(store.append(&first).await.unwrap(), Appended::New { seq: 1, .. }));
    send(&store, chat, &alice, "two").await;
    let again = Append { at: first.at + 5_000, ..first.clone() };
    assert_eq!(store.append(&again).await.unwrap(), Appended::Again { seq: 1, at: first.at });
    let other = Append { fingerprint: u64::MAX, ..first.clone() };
    assert_eq!(store.append(&other).await.unwrap(), Appended::KeyConflict);
    assert_eq!(heads(&store, &[chat]).await, vec![2], "nothing was added");
    // A key is its sender's, and its chat's.
    let bobs = Append { user: bob.clone(), ..first.clone() };
    assert!(matches!(store.append(&bobs).await.unwrap(), Appended::New { seq: 3, .. }));
    let elsewhere = Append { chat: group(&store, &alice).await, ..first.clone() };
    assert!(matches!(store.append(&elsewhere).await.unwrap(), Appended::New { seq: 1, .. }));
    let big = Append { fingerprint: u64::MAX, ..message(chat, &bob, "big") };
    assert!(matches!(store.append(&big).await.unwrap(), Appended::New { seq: 4, .. }));
    assert_eq!(store.append(&big).await.unwrap(), Appended::Again { seq: 4, at: big.at });
}

#[tokio::test]
async fn messages_sent_at_once_are_all_there_and_in_real_time_order() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let sending = (0..8).map(|task| {
        let (store, alice) = (store.clone(), alice.clone());
        tokio::spawn(async move {
            let (mut numbers, mut last) = (Vec::new(), 0);
            for i in 0..25 {
                let append = message(chat, &alice, &format!("{task}-{i}"));
                // Each is sent twice at once, as a client does that lost its socket.
                let (one, other) = tokio::join!(store.append(&append), store.append(&append));
                let seq = |appended| match appended {
                    Appended::New { seq, .. } | Appended::Again { seq, .. } => seq,
                    other => panic!("{other:?}"),
                };
                let (one, other) = (seq(one.unwrap()), seq(other.unwrap()));
                assert_eq!(one, other);
                assert!(one > last, "what is sent after an answer comes behind it");
                last = one;
                numbers.push(one);
            }
            numbers
        })
    });
    let mut numbers = Vec::new();
    for one in sending.collect::<Vec<_>>() {
        numbers.extend(one.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
    let page = store.log(chat, 1, 1000, 1 << 24).await.unwrap();
    assert_eq!((seqs(&page.messages), page.floor, page.head), (numbers, 1, 200));
}

#[tokio::test]
async fn the_log_comes_in_pages_by_count_and_by_size() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let empty = store.log(chat, 1, 10, 1000).await.unwrap();
    assert_eq!((seqs(&empty.messages), empty.floor, empty.head), (vec![], 1, 0));
    let none = store.log(ChatId::random(), 0, 10, 1000).await.unwrap();
    assert_eq!((seqs(&none.messages), none.floor, none.head), (vec![], 1, 0));

    for _ in 0..100 {
        send(&store, chat, &alice, &"x".repeat(100)).await;
    }
    let size = store.log(chat, 1, 1, 0).await.unwrap().messages[0].1.len();
    let page = |from, count, bytes| {
        let store = store.clone();
        async move { store.log(chat, from, count, bytes).await.unwrap() }
    };
    assert_eq!(seqs(&page(1, 3, 1 << 20).await.messages), [1, 2, 3]);
    assert_eq!(seqs(&page(0, 2, 1 << 20).await.messages), [1, 2]);
    assert_eq!(seqs(&page(99, 10, 1 << 20).await.messages), [99, 100]);
    let beyond = page(101, 10, 1 << 20).await;
    assert_eq!((seqs(&beyond.messages), beyond.floor, beyond.head), (vec![], 1, 100));
    assert!(page(u64::MAX >> 12, 10, 1 << 20).await.messages.is_empty());
    assert!(page(1, 0, 1 << 20).await.messages.is_empty());
    // Numbers of two digits make a frame longer than those of one, so begin where all are as long.
    let size = size + 1;
    assert_eq!(seqs(&page(10, 50, 3 * size).await.messages), [10, 11, 12]);
    assert_eq!(seqs(&page(10, 50, 3 * size - 1).await.messages), [10, 11]);
    assert_eq!(seqs(&page(10, 50, 1).await.messages), [10], "one comes in any case");
    assert_eq!(seqs(&page(1, 80, 1 << 20).await.messages), (1..=80).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_outbox_holds_what_nsq_has_not_confirmed() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let page = store.outbox(chat, 10).await.unwrap();
    assert_eq!((page.node, page.messages), ("nsqd-1:4150".into(), vec![]));
    let mut frames = Vec::new();
    for seq in 1..=12 {
        let append = message(chat, &alice, "x");
        store.append(&append).await.unwrap();
        frames.push((seq, append.frame.number(seq)));
    }
    let OutboxPage { node, messages: waiting, .. } = store.outbox(chat, 3).await.unwrap();
    assert_eq!((node.as_str(), &waiting[..]), ("nsqd-1:4150", &frames[..3]));
    store.published(chat, &[2, 1, 11]).await.unwrap();
    store.published(chat, &[2, 99]).await.unwrap();
    store.published(chat, &[]).await.unwrap();
    assert_eq!(seqs(&store.outbox(chat, 100).await.unwrap().messages), [3, 4, 5, 6, 7, 8, 9, 10, 12]);
    store.published(chat, &(1..=12).collect::<Vec<_>>()).await.unwrap();
    assert!(store.outbox(chat, 100).await.unwrap().messages.is_empty());
    assert_eq!(store.log(chat, 1, 100, 1 << 20).await.unwrap().messages, frames, "the log keeps them");
}

#[tokio::test]
async fn outboxes_are_sized_up_together_and_read_in_pages_of_some_bytes() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let (chat, empty) = (group(&store, &alice).await, group(&store, &alice).await);
    for n in 1..=5u64 {
        let (at, content) = (1_700_000_000_000 + n, "x".repeat(if n < 4 { 100_000 } else { 300_000 }));
        let append = message(chat, &alice, "");
        let fields = format!(
            "\"key\":\"{}\",\"from\":\"alice\",\"device\":null,\"at\":{at},\"content\":\"{content}\"",
            append.key
        );
        store.append(&Append { frame: FrameTemplate::new(chat, &fields), at, ..append }).await.unwrap();
    }
    let sizes = async |chats: &[ChatId]| store.outbox_sizes(chats).await.unwrap();
    let size = |node: &str, messages, oldest| OutboxSize { node: node.to_owned(), messages, oldest };
    let (full, none) = (size("nsqd-1:4150", 5, Some(1_700_000_000_001)), size("nsqd-1:4150", 0, None));
    assert_eq!(sizes(&[empty, chat, ChatId::random()]).await, [none, full, OutboxSize::default()]);
    assert_eq!(sizes(&[]).await, []);
    // As many as fit a quarter of a mebibyte, but one at least.
    let mut pages = Vec::new();
    for _ in 0..5 {
        let page = seqs(&store.outbox(chat, 100).await.unwrap().messages);
        store.published(chat, &page).await.unwrap();
        pages.push(page);
    }
    assert_eq!(pages, [vec![1, 2], vec![3], vec![4], vec![5], vec![]]);
}
