//! Whose what the logs hold is, and which queues hold too much.

use keepstep::store::{CursorMove, CursorMoved, Departure, KEY_BYTES, Overfull, StoreLimits, Trimmed};
use tokio::time::Instant;

use super::*;

/// How many bytes the log holds of a message of so many.
const AROUND: u64 = 96;

/// Trims, and notes what is told. Answers of whom something was told.
async fn settle(store: &Store, chat: ChatId) -> Vec<UserId> {
    let Trimmed { charges, account, .. } = store.trim(chat).await.unwrap();
    for (user, bytes) in &charges {
        store.charge(user, chat, *bytes, account).await.unwrap();
    }
    let mut users: Vec<_> = charges.into_iter().map(|(user, _)| user).collect();
    users.sort_unstable();
    users
}

async fn stored(store: &Store, user: &UserId) -> u64 {
    store.stored(user).await.unwrap()
}

/// Sends so many of so many bytes, confirmed by NSQ; what they and their keys take.
async fn say(store: &Store, chat: ChatId, from: &UserId, count: u64, bytes: usize) -> (u64, u64) {
    for _ in 0..count {
        let seq = send(store, chat, from, &"z".repeat(bytes)).await;
        store.published(chat, &[seq]).await.unwrap();
    }
    let least = count * (bytes as u64 + KEY_BYTES);
    (least, least + count * AROUND)
}

#[track_caller]
fn within(found: u64, (least, most): (u64, u64)) {
    assert!((least..=most).contains(&found), "{found} isn't in {least}..={most}");
}

fn plus(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0 + other.0, one.1 + other.1)
}

#[tokio::test]
async fn the_senders_are_charged_and_get_back_what_goes() {
    let limits = StoreLimits { log_keep: 0, ..StoreLimits::default() };
    let (store, _guard) = start(limits).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let (one, other) = (group(&store, &alice).await, group(&store, &alice).await);
    join(&store, one, &bob, JoinBy::Invitation).await;
    let device = DeviceId::random();
    for chat in [one, other] {
        subscribe_now(&store, chat, &bob, device).await;
        subscribe_now(&store, chat, &alice, device).await;
    }
    assert_eq!(settle(&store, one).await, []);
    let in_one = say(&store, one, &alice, 10, 500).await;
    let bobs = say(&store, one, &bob, 3, 100).await;
    let in_other = say(&store, other, &alice, 5, 2_000).await;
    assert_eq!(stored(&store, &alice).await, 0, "not told yet");
    assert_eq!(settle(&store, one).await, [alice.clone(), bob.clone()]);
    within(stored(&store, &alice).await, in_one);
    within(stored(&store, &bob).await, bobs);
    assert_eq!(settle(&store, other).await, std::slice::from_ref(&alice));
    within(stored(&store, &alice).await, plus(in_one, in_other));
    assert_eq!(settle(&store, one).await, [], "nothing new");
    // What everybody has goes, and is given back; the keys stay.
    let head = heads(&store, &[one]).await[0];
    let moved =
        store.move_cursors(one, &[CursorMove { device, session: 1, from: 0, seq: head }]).await.unwrap();
    assert_eq!(moved, [CursorMoved::At(head)]);
    assert_eq!(settle(&store, one).await, [alice.clone(), bob.clone()]);
    assert_eq!(stored(&store, &bob).await, 3 * KEY_BYTES);
    within(stored(&store, &alice).await, plus((10 * KEY_BYTES, 10 * KEY_BYTES), in_other));
    // So does a chat that ends: all of it.
    for (chat, who) in [(one, &bob), (one, &alice), (other, &alice)] {
        leave(&store, chat, who, Departure::Left).await.unwrap();
    }
    assert!(store.delete_chat(other).await.unwrap());
    assert_eq!(stored(&store, &alice).await, 10 * KEY_BYTES);
    assert!(store.delete_chat(one).await.unwrap());
    assert_eq!((stored(&store, &alice).await, stored(&store, &bob).await), (0, 0));
    assert_eq!(settle(&store, one).await, []);
}

/// A device acknowledges so far.
async fn acks(store: &Store, chat: ChatId, device: DeviceId, seq: Seq) {
    let moved = store.move_cursors(chat, &[CursorMove { device, session: 1, from: 0, seq }]).await.unwrap();
    assert_eq!(moved, [CursorMoved::At(seq)]);
}

/// Five times what the log keeps, 20 KB at a time, of which one device has everything. What they and their keys take.
async fn say_more_than_the_log_keeps(
    store: &Store,
    chat: ChatId,
    from: &UserId,
    quick: DeviceId,
) -> (u64, u64) {
    let mut all = (0, 0);
    for _ in 0..5 {
        all = plus(all, say(store, chat, from, 20, 1_000).await);
        acks(store, chat, quick, heads(store, &[chat]).await[0]).await;
        settle(store, chat).await;
    }
    let page = store.log(chat, 1, 1_000, 1 << 20).await.unwrap();
    assert!(page.floor > 60 && page.head == 100, "the log let go of most: {}..={}", page.floor, page.head);
    all
}

#[tokio::test]
async fn what_the_log_let_go_of_counts_while_a_queue_holds_it() {
    // Queues are looked at each 50 KB: when the log doesn't reach back any more.
    let limits =
        StoreLimits { log_keep: 0, log_bytes: 20_000, queue_bytes: 400_000, ..StoreLimits::default() };
    let (store, _guard) = start(limits).await;
    let alice = user("alice");
    let (chat, other) = (group(&store, &alice).await, group(&store, &alice).await);
    let (quick, slow) = (DeviceId::random(), DeviceId::random());
    for device in [quick, slow] {
        subscribe_now(&store, chat, &alice, device).await;
        subscribe_now(&store, other, &alice, device).await;
    }
    let all = say_more_than_the_log_keeps(&store, chat, &alice, quick).await;
    within(stored(&store, &alice).await, all);
    within(store.recount(&alice).await.unwrap(), all);
    assert_eq!(settle(&store, chat).await, [], "nothing new");
    assert_eq!(store.fullest(&alice, 9).await.unwrap(), [chat]);
    // What every device has acknowledged is given back; Redis counts in blocks of 20.
    let keys = 100 * KEY_BYTES;
    acks(&store, chat, slow, 50).await;
    assert_eq!(settle(&store, chat).await, std::slice::from_ref(&alice));
    within(stored(&store, &alice).await, (keys + 50_000, keys + 60 * (1_000 + AROUND)));
    // Another chat: all of it goes with the chat, although a device needs it.
    let in_chat = stored(&store, &alice).await;
    let in_other = say_more_than_the_log_keeps(&store, other, &alice, quick).await;
    within(stored(&store, &alice).await, plus((in_chat, in_chat), in_other));
    assert_eq!(store.fullest(&alice, 1).await.unwrap(), [other], "it holds the most");
    assert_eq!(store.fullest(&alice, 9).await.unwrap(), [other, chat]);
    leave(&store, other, &alice, Departure::Left).await.unwrap();
    assert!(store.delete_chat(other).await.unwrap());
    assert_eq!(stored(&store, &alice).await, in_chat);
    // A device that is ended holds nothing back.
    assert!(store.unsubscribe_device(chat, None, slow).await.unwrap());
    assert_eq!(settle(&store, chat).await, std::slice::from_ref(&alice));
    assert_eq!(stored(&store, &alice).await, keys);
    assert_eq!(store.recount(&alice).await.unwrap(), keys);
}

#[tokio::test]
async fn what_a_queue_holds_counts_until_it_is_old() {
    // Redis counts whole seconds.
    let (age, second) = (Duration::from_secs(3), Duration::from_secs(1));
    let limits = StoreLimits { log_bytes: 20_000, log_age: age, ..StoreLimits::default() };
    let (store, _guard) = start(limits).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let device = DeviceId::random();
    subscribe_now(&store, chat, &alice, device).await;
    let begun = Instant::now();
    let all = say(&store, chat, &alice, 20, 1_000).await;
    settle(&store, chat).await;
    let all = plus(all, say(&store, chat, &alice, 40, 1_000).await);
    settle(&store, chat).await;
    let rest = stored(&store, &alice).await;
    if begun.elapsed() < age - second {
        within(rest, all);
    }
    wait_until("the first to be old", PATIENCE, async || {
        settle(&store, chat).await;
        (stored(&store, &alice).await <= 40 * (1_000 + AROUND) + 60 * KEY_BYTES).then_some(())
    })
    .await;
    assert!(begun.elapsed() >= age - second, "{:?}", begun.elapsed());
    wait_until("all to be old", PATIENCE, async || {
        settle(&store, chat).await;
        (stored(&store, &alice).await == 60 * KEY_BYTES).then_some(())
    })
    .await;
    assert!(store.position(chat, device).await.unwrap().is_some_and(|position| position.cursor == 0));
}

#[tokio::test]
async fn what_was_in_an_emptied_queue_is_given_back() {
    let limits =
        StoreLimits { log_keep: 0, log_bytes: 20_000, queue_bytes: 80_000, ..StoreLimits::default() };
    let (store, _guard) = start(limits).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let (quick, slow) = (DeviceId::random(), DeviceId::random());
    for device in [quick, slow] {
        subscribe_now(&store, chat, &alice, device).await;
    }
    let all = say_more_than_the_log_keeps(&store, chat, &alice, quick).await;
    within(stored(&store, &alice).await, all);
    let Overfull { devices, said, .. } = wait_until("a queue that is too full", PATIENCE, async || {
        say(&store, chat, &alice, 20, 1_000).await;
        store.trim(chat).await.unwrap().overfull
    })
    .await;
    assert_eq!(devices, [slow]);
    store.emptied(chat, slow, said).await.unwrap();
    say(&store, chat, &alice, 20, 1_000).await;
    acks(&store, chat, quick, heads(&store, &[chat]).await[0]).await;
    settle(&store, chat).await;
    let count = heads(&store, &[chat]).await[0];
    // What was said since, and what the log holds.
    let least = count * KEY_BYTES + 20_000;
    within(stored(&store, &alice).await, (least, least + 20_000 + 60 * AROUND));
    assert!(count >= 140, "{count}");
    // What comes behind counts as before.
    let more = say(&store, chat, &alice, 20, 1_000).await;
    let held = stored(&store, &alice).await;
    acks(&store, chat, quick, heads(&store, &[chat]).await[0]).await;
    settle(&store, chat).await;
    within(stored(&store, &alice).await, plus((held - 20_000 - 20 * AROUND, held), more));
}

#[tokio::test]
async fn a_late_account_is_not_noted_and_a_lost_one_is_found() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let first = say(&store, chat, &alice, 1, 500).await;
    let late = store.trim(chat).await.unwrap();
    let second = say(&store, chat, &alice, 1, 3_000).await;
    assert_eq!(settle(&store, chat).await, std::slice::from_ref(&alice));
    let both = stored(&store, &alice).await;
    within(both, plus(first, second));
    let (whose, bytes) = &late.charges[0];
    assert_eq!(store.charge(whose, chat, *bytes, late.account).await.unwrap(), both);
    assert_eq!(store.charge(whose, chat, 0, late.account).await.unwrap(), both);
    // An account gets lost with its edge.
    let third = say(&store, chat, &alice, 1, 9_000).await;
    assert_eq!(store.trim(chat).await.unwrap().charges.len(), 1);
    assert_eq!(stored(&store, &alice).await, both);
    within(store.recount(&alice).await.unwrap(), plus(plus(first, second), third));
    // What was noted of a chat that is gone is found, too.
    let gone = ChatId::random();
    store.charge(&alice, gone, 70_000, 1).await.unwrap();
    assert!(stored(&store, &alice).await > 70_000);
    within(store.recount(&alice).await.unwrap(), plus(plus(first, second), third));
    assert_eq!(store.recount(&user("nobody")).await.unwrap(), 0);
}

#[tokio::test]
async fn who_has_no_room_sends_nothing_but_what_is_known() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let known = message(chat, &alice, "known");
    let Appended::New { seq, .. } = store.append(&known).await.unwrap() else { panic!("it is new") };
    let without = Append { has_room: false, ..known.clone() };
    assert_eq!(store.append(&without).await.unwrap(), Appended::Again { seq, at: known.at });
    let another = Append { has_room: false, ..message(chat, &alice, "another") };
    assert_eq!(store.append(&another).await.unwrap(), Appended::Full);
    let stranger = Append { user: user("mallory"), ..another.clone() };
    assert_eq!(store.append(&stranger).await.unwrap(), Appended::NotMember);
    assert_eq!(heads(&store, &[chat]).await, [seq]);
    // A refusal leaves nothing: not its key either.
    let again = store.append(&Append { has_room: true, ..another }).await.unwrap();
    assert!(matches!(again, Appended::New { .. }), "{again:?}");
}

#[tokio::test]
async fn a_log_that_nobody_trims_is_full_at_last() {
    let limits = StoreLimits { log_bytes: 1_000, ..StoreLimits::default() };
    let (store, _guard) = start(limits).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let text = "z".repeat(100_000);
    let mut count = 0;
    let full = loop {
        match store.append(&message(chat, &alice, &text)).await.unwrap() {
            Appended::New { seq, .. } => store.published(chat, &[seq]).await.unwrap(),
            other => break other,
        }
        count += 1;
        assert!(count < 100, "it isn't bounded");
    };
    assert_eq!(full, Appended::Full);
    assert!(count > 50, "{count}");
    // A trim makes room.
    assert_eq!(settle(&store, chat).await, std::slice::from_ref(&alice));
    send(&store, chat, &alice, &text).await;
}

#[tokio::test]
async fn queues_that_hold_too_much_are_found() {
    let limits = StoreLimits { queue_bytes: 100_000, log_bytes: 20_000, ..StoreLimits::default() };
    let (store, _guard) = start(limits).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let (quick, slow) = (DeviceId::random(), DeviceId::random());
    for device in [quick, slow] {
        subscribe_now(&store, chat, &alice, device).await;
    }
    let ack = async |device, seq| {
        store.move_cursors(chat, &[CursorMove { device, session: 1, from: 0, seq }]).await.unwrap();
    };
    // 20 KB at a time: nothing yet of what may be there.
    let overfull = async || {
        let mut found: Option<Overfull> = None;
        for _ in 0..20 {
            say(&store, chat, &alice, 20, 1_000).await;
            ack(quick, heads(&store, &[chat]).await[0]).await;
            found = store.trim(chat).await.unwrap().overfull;
            if found.is_some() {
                break;
            }
        }
        found.expect("a queue that holds more than 100 KB")
    };
    let found = overfull().await;
    assert_eq!((found.node.as_str(), found.devices.as_slice()), ("nsqd-1:4150", [slow].as_slice()));
    assert!((100_000..=135_000).contains(&found.said), "{}", found.said);
    // Until it is emptied it is told again.
    assert_eq!(store.trim(chat).await.unwrap().overfull.as_ref(), Some(&found));
    let again = overfull().await;
    assert_eq!(again.devices, [slow]);
    assert!(again.said < found.said + 50_000);
    // From then on it may hold as much again; a device that isn't subscribed holds nothing.
    store.emptied(chat, slow, again.said).await.unwrap();
    store.emptied(chat, slow, found.said).await.unwrap();
    store.emptied(chat, DeviceId::random(), again.said).await.unwrap();
    let third = overfull().await;
    assert_eq!(third.devices, [slow]);
    assert!((again.said + 100_000..=again.said + 135_000).contains(&third.said), "{}", third.said);
    // Nor does one that has come so far.
    ack(slow, heads(&store, &[chat]).await[0]).await;
    assert_eq!(store.trim(chat).await.unwrap().overfull, None);
    say(&store, chat, &alice, 20, 1_000).await;
    assert_eq!(store.trim(chat).await.unwrap().overfull, None);
    assert!(store.unsubscribe_device(chat, None, slow).await.unwrap());
    for _ in 0..20 {
        say(&store, chat, &alice, 20, 1_000).await;
        ack(quick, heads(&store, &[chat]).await[0]).await;
        assert_eq!(store.trim(chat).await.unwrap().overfull, None);
    }
}

#[tokio::test]
async fn the_queues_of_a_chat_share_their_bytes() {
    let limits = StoreLimits { chat_queue_bytes: 5 << 20, ..StoreLimits::default() };
    let (store, _guard) = start(limits).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let devices: Vec<_> = std::iter::repeat_with(DeviceId::random).take(10).collect();
    for device in &devices[..2] {
        subscribe_now(&store, chat, &alice, *device).await;
    }
    let two_mib = async || {
        for _ in 0..16 {
            say(&store, chat, &alice, 2, 64 << 10).await;
            store.trim(chat).await.unwrap();
        }
        say(&store, chat, &alice, 5, 64 << 10).await;
        store.trim(chat).await.unwrap().overfull.map_or(0, |overfull| overfull.devices.len())
    };
    assert_eq!(two_mib().await, 0, "half of five");
    for device in &devices[2..] {
        subscribe_now(&store, chat, &alice, *device).await;
    }
    // A tenth is less than what each may have in any case: 1 MiB.
    assert_eq!(two_mib().await, 10);
}
