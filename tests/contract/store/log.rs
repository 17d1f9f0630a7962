//! What the log keeps and what it lets go of; and a log with a hole, as an older copy of the data leaves it.

use keepstep::store::{CursorMove, CursorMoved, LogPage, StoreLimits};
use tokio::time::Instant;

use super::{messages::seqs, *};

async fn whole(store: &Store, chat: ChatId) -> LogPage {
    store.log(chat, 1, 10_000, 1 << 30).await.unwrap()
}

/// Sends so many, each of so many bytes or a few more, and trims with every 64th, as an edge does.
async fn say_unconfirmed(store: &Store, chat: ChatId, from: &UserId, count: u64, bytes: usize) {
    for _ in 0..count {
        if send(store, chat, from, &"y".repeat(bytes)).await % 64 == 0 {
            store.trim(chat).await.unwrap();
        }
    }
}

/// The same, confirmed by NSQ.
async fn say(store: &Store, chat: ChatId, from: &UserId, count: u64, bytes: usize) {
    for _ in 0..count {
        let seq = send(store, chat, from, &"y".repeat(bytes)).await;
        store.published(chat, &[seq]).await.unwrap();
        if seq % 64 == 0 {
            store.trim(chat).await.unwrap();
        }
    }
}

/// The log is dense from its floor to its head; by size and age Redis lets go in blocks, so the floor lies between two numbers.
#[track_caller]
fn reaches_back(page: &LogPage, to: std::ops::RangeInclusive<Seq>) {
    assert!(to.contains(&page.floor), "{} isn't in {to:?}", page.floor);
    assert_eq!(seqs(&page.messages), (page.floor..=page.head).collect::<Vec<_>>());
}

#[tokio::test]
async fn by_number_the_log_keeps_no_more_than_it_may() {
    let limits = StoreLimits { log_messages: 100, ..StoreLimits::default() };
    let (store, _guard) = start(limits).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    store.trim(chat).await.unwrap();
    store.trim(ChatId::random()).await.unwrap();
    // A device that never acknowledges anything doesn't change that.
    subscribe_now(&store, chat, &alice, DeviceId::random()).await;
    say(&store, chat, &alice, 960, 500).await;
    let page = whole(&store, chat).await;
    assert_eq!(page.head, 960);
    reaches_back(&page, 861..=861);
    assert_eq!(store.log(chat, 1, 1, 1).await.unwrap().messages[0].0, page.floor);
}

#[tokio::test]
async fn by_size_the_log_keeps_no_more_than_it_may() {
    let limits = StoreLimits { log_bytes: 100_000, ..StoreLimits::default() };
    let (store, _guard) = start(limits).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    subscribe_now(&store, chat, &alice, DeviceId::random()).await;
    say(&store, chat, &alice, 800, 400).await;
    // Some 190 messages of 520 bytes, and at most two blocks of 64 more.
    reaches_back(&whole(&store, chat).await, 470..=615);
    // Large ones push out more of them, but never what was just sent.
    say(&store, chat, &alice, 64, 20_000).await;
    reaches_back(&whole(&store, chat).await, 769..=863);
}

#[tokio::test]
async fn what_everyone_has_goes_but_for_the_newest() {
    let limits = StoreLimits { log_keep: 100, ..StoreLimits::default() };
    let (store, _guard) = start(limits).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let (quick, slow) = (DeviceId::random(), DeviceId::random());
    for device in [quick, slow] {
        subscribe_now(&store, chat, &alice, device).await;
    }
    let ack = async |device, seq| {
        let moved =
            store.move_cursors(chat, &[CursorMove { device, session: 1, from: 0, seq }]).await.unwrap();
        assert_eq!(moved, [CursorMoved::At(seq)]);
    };
    say(&store, chat, &alice, 640, 500).await;
    ack(quick, 640).await;
    say(&store, chat, &alice, 64, 500).await;
    reaches_back(&whole(&store, chat).await, 1..=1);
    // What the slowest has goes …
    ack(slow, 300).await;
    say(&store, chat, &alice, 64, 500).await;
    reaches_back(&whole(&store, chat).await, 301..=301);
    // … and when it has everything, a hundred stay for those who look back.
    ack(slow, 768).await;
    ack(quick, 768).await;
    say(&store, chat, &alice, 64, 500).await;
    reaches_back(&whole(&store, chat).await, 733..=733);
    // A device that isn't subscribed any more holds nothing up.
    say(&store, chat, &alice, 640, 500).await;
    ack(quick, 1472).await;
    reaches_back(&whole(&store, chat).await, 769..=769);
    assert!(store.unsubscribe_device(chat, None, slow).await.unwrap());
    say(&store, chat, &alice, 64, 500).await;
    reaches_back(&whole(&store, chat).await, 1437..=1437);
}

#[tokio::test]
async fn what_is_too_old_goes_whoever_needs_it() {
    // Redis counts whole seconds.
    let (age, second) = (Duration::from_secs(3), Duration::from_secs(1));
    let (store, _guard) = start(StoreLimits { log_age: age, ..StoreLimits::default() }).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    subscribe_now(&store, chat, &alice, DeviceId::random()).await;
    let mut sent = Vec::new();
    let mut look = async |speaking| {
        if speaking {
            sent.push(Instant::now());
            say(&store, chat, &alice, 1, 500).await;
        }
        store.trim(chat).await.unwrap();
        let page = whole(&store, chat).await;
        if let Some(gone) = page.floor.checked_sub(2) {
            let lived = sent[usize::try_from(gone).unwrap()].elapsed();
            assert!(lived >= age - second, "{} went after {lived:?}", page.floor - 1);
        }
        page
    };
    // Somebody speaks all the time: the oldest go, and the newest are there.
    let page = wait_until("the oldest to go", PATIENCE, async || {
        let page = look(true).await;
        (page.floor > 1).then_some(page)
    })
    .await;
    reaches_back(&page, 2..=page.head);
    // Nobody speaks any more, and that is no reason to keep them.
    let page = wait_until("the newest to go, too", PATIENCE, async || {
        let page = look(false).await;
        page.messages.is_empty().then_some(page)
    })
    .await;
    assert_eq!(page.floor, page.head + 1);
    say(&store, chat, &alice, 1, 500).await;
    reaches_back(&whole(&store, chat).await, page.floor..=page.floor);
}

#[tokio::test]
async fn what_nsq_lacks_stays_longer_but_not_for_ever() {
    let by_number = StoreLimits { log_messages: 100, ..StoreLimits::default() };
    let by_size = StoreLimits { log_bytes: 60_000, ..StoreLimits::default() };
    let by_everyone = StoreLimits { log_keep: 0, log_messages: 100, ..StoreLimits::default() };
    for limits in [by_number, by_size, by_everyone] {
        let (store, _guard) = start(limits).await;
        let alice = user("alice");
        let chat = group(&store, &alice).await;
        say_unconfirmed(&store, chat, &alice, 320, 500).await;
        let page = whole(&store, chat).await;
        assert_eq!((page.floor, page.messages.len()), (1, 320));
        say_unconfirmed(&store, chat, &alice, 680, 500).await;
        let floor = store.log(chat, 1, 1, 1).await.unwrap().floor;
        assert!((400..=620).contains(&floor), "{floor} with {limits:?}");
        let waiting = store.outbox(chat, 5).await.unwrap().messages;
        assert_eq!(
            seqs(&waiting),
            (floor..floor + 5).collect::<Vec<_>>(),
            "nothing that isn't there any more"
        );
    }
}

#[tokio::test]
async fn a_raised_head_leaves_a_hole_and_everything_goes_on() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let device = DeviceId::random();
    subscribe_now(&store, chat, &alice, device).await;
    for _ in 0..20 {
        send(&store, chat, &alice, "x").await;
    }
    assert_eq!(store.raise_head(ChatId::random(), 9).await.unwrap(), 0, "no chat is made by it");
    assert_eq!(store.raise_head(chat, 7).await.unwrap(), 20, "never back");
    assert_eq!(store.raise_head(chat, 50).await.unwrap(), 50);
    assert_eq!(store.raise_head(chat, 50).await.unwrap(), 50);
    assert_eq!(store.heads(&[chat]).await.unwrap()[0].head, 50);
    let page = async |from, count| {
        let page = store.log(chat, from, count, 1 << 20).await.unwrap();
        (seqs(&page.messages), page.floor, page.head)
    };
    assert_eq!(page(18, 10).await, (vec![18, 19, 20], 1, 50));
    assert_eq!(page(21, 10).await, (vec![], 51, 50), "nothing of it is held");
    assert_eq!(page(51, 10).await, (vec![], 1, 50), "nothing is missing");
    let moved =
        store.move_cursors(chat, &[CursorMove { device, session: 1, from: 0, seq: 44 }]).await.unwrap();
    assert_eq!(moved, [CursorMoved::At(44)]);

    for seq in 51..=60 {
        assert_eq!(send(&store, chat, &alice, "y").await, seq);
    }
    assert_eq!(page(19, 10).await, (vec![19, 20], 1, 60), "up to the hole");
    assert_eq!(page(20, 1).await, (vec![20], 1, 60));
    for from in [21, 40, 50] {
        assert_eq!(page(from, 3).await, (vec![51, 52, 53], 51, 60), "from {from}: behind the hole");
    }
    assert_eq!(page(51, 100).await, ((51..=60).collect(), 1, 60));
    assert_eq!(
        seqs(&store.outbox(chat, 100).await.unwrap().messages),
        (1..=20).chain(51..=60).collect::<Vec<_>>()
    );
    // A head that was raised over the log's last number and further.
    assert_eq!(store.raise_head(chat, 5_000_000_000).await.unwrap(), 5_000_000_000);
    for _ in 0..200 {
        send(&store, chat, &alice, "z").await;
    }
    let after = page(61, 1000).await;
    assert_eq!((after.0.len(), after.1), (200, 5_000_000_001));
    assert_eq!(page(1, 1000).await.0, (1..=20).collect::<Vec<_>>(), "what is held stays so");
}
