//! Keyspace events of a real Redis: switched off, cut off, forgotten in a restart; and received again each time.

use super::*;

/// A chat whose offsets may be moved.
async fn group_of(store: &RedisStore, who: &UserId) -> ChatId {
    wait_until("a chat", PATIENCE, || async {
        let new = new_chat(who, None);
        store.create_chat(&new).await.ok().map(|_| new.id)
    })
    .await
}

/// Until the read offsets of a user are heard: a few moves may fall into the time before the subscription.
async fn reads_are_heard(store: &RedisStore, events: &mut mpsc::Receiver<StoreEvent>, who: &UserId) {
    let chat = group_of(store, who).await;
    let (mut seq, wanted) = (0, StoreEvent::ReadsChanged(who.clone()));
    timeout(PATIENCE, async {
        loop {
            seq += 1;
            let _ = store.move_read(who, chat, seq, None).await;
            let heard = async { while events.recv().await.expect("the store lives") != wanted {} };
            if timeout(Duration::from_millis(200), heard).await.is_ok() {
                return;
            }
        }
    })
    .await
    .expect("read offsets are heard again");
}

#[tokio::test]
async fn events_heal_after_a_restart_which_also_forgets_the_setting() {
    let mut redis = Redis::start().await;
    let store = connect(&redis).await;
    let mut events = store.take_events().unwrap();
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = group(&store, &bob).await;
    store.watch_user(&alice).await.unwrap();
    store.watch_chats(&[chat]).await.unwrap();
    reads_are_heard(&store, &mut events, &alice).await;
    redis.kill9();
    let down =
        || async { matches!(store.watch_user(&bob).await, Err(StoreError::Unavailable(_))).then_some(()) };
    wait_until("the subscriber to see it", Duration::from_secs(5), down).await;
    redis.restart().await;
    until(&mut events, StoreEvent::Resubscribed).await;
    reads_are_heard(&store, &mut events, &alice).await;
    reads_are_heard(&store, &mut events, &bob).await; // asked for while it was down
    store.append(&message(chat, &bob)).await.unwrap();
    until(&mut events, StoreEvent::Doorbell(chat, 1)).await;
    store.signal(&alice, Bytes::from_static(b"s")).await.unwrap();
    until(&mut events, StoreEvent::Signal(alice, Bytes::from_static(b"s"))).await;
}

#[tokio::test]
async fn events_switched_off_by_somebody_are_noticed_and_switched_on() {
    let redis = Redis::start().await;
    redis.command(&["CONFIG", "SET", "notify-keyspace-events", "Ex"]).await.unwrap();
    let store = connect(&redis).await;
    let setting = || async {
        let answer = redis.command(&["CONFIG", "GET", "notify-keyspace-events"]).await.unwrap();
        answer.lines().last().unwrap_or_default().chars().collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(setting().await, "EKhx".chars().collect(), "what others need stays");
    let mut events = store.take_events().unwrap();
    let alice = user("alice");
    store.watch_user(&alice).await.unwrap();
    reads_are_heard(&store, &mut events, &alice).await;
    assert_eq!(store.notifications_missed(), 0);
    redis.command(&["CONFIG", "SET", "notify-keyspace-events", ""]).await.unwrap();
    let since = Instant::now();
    until(&mut events, StoreEvent::Resubscribed).await;
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert_eq!(store.notifications_missed(), 1);
    reads_are_heard(&store, &mut events, &alice).await;
}

#[tokio::test]
async fn whoever_switches_events_on_again_tells_the_others() {
    let redis = Redis::start().await;
    // Its own probes come too late to notice: what they found would be the events the other one repaired.
    let options = RedisOptions { probe_every: Duration::from_secs(3600), ..RedisOptions::default() };
    let store = RedisStore::connect(&redis.url(), options).await.unwrap();
    let mut events = store.take_events().unwrap();
    let alice = user("alice");
    store.watch_user(&alice).await.unwrap();
    reads_are_heard(&store, &mut events, &alice).await;
    redis.command(&["CONFIG", "SET", "notify-keyspace-events", ""]).await.unwrap();
    let other = connect(&redis).await;
    until(&mut events, StoreEvent::Resubscribed).await;
    assert_eq!(store.notifications_missed(), 1);
    // And by the check at the start.
    redis.command(&["CONFIG", "SET", "notify-keyspace-events", "Ex"]).await.unwrap();
    other.startup_check(Trust::default()).await.unwrap();
    until(&mut events, StoreEvent::Resubscribed).await;
}

#[tokio::test]
async fn a_dropped_subscription_is_made_again() {
    let redis = Redis::start().await;
    let store = connect(&redis).await;
    let mut events = store.take_events().unwrap();
    let alice = user("alice");
    store.watch_user(&alice).await.unwrap();
    for _ in 0..3 {
        assert_eq!(redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap(), "1");
        until(&mut events, StoreEvent::Resubscribed).await;
        reads_are_heard(&store, &mut events, &alice).await;
    }
    assert_eq!(store.notifications_missed(), 0, "nothing was missed silently");
    redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
    healed(&store).await;
}
