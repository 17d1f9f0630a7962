//! A Redis that comes back with an older copy of its data.

use super::*;

#[tokio::test]
async fn an_older_copy_gives_no_number_twice() {
    let mut redis = Redis::start().await;
    let (store, other) = (connect(&redis).await, connect(&redis).await);
    let alice = user("alice");
    assert!(store.identify(true, 0).await.unwrap() && other.identify(false, 0).await.unwrap());
    let goes_on = async |redis: &Redis| {
        let (one, two) = (store.clock(), other.clock());
        let moved = || async { (store.clock() > one + 1 && other.clock() > two + 1).then_some(()) };
        wait_until("the clock to go on", PATIENCE, moved).await;
        redis.command(&["HGET", "ks:{store}:clock", "lift"]).await.unwrap()
    };
    let (chat, quiet) = (group(&store, &alice).await, private_group(&store, &alice).await);
    let first = message(chat, &alice);
    store.append(&first).await.unwrap();
    store.append(&message(quiet, &alice)).await.unwrap();
    assert_eq!(goes_on(&redis).await, "0");
    let copy = redis.copy();
    for _ in 0..30 {
        store.append(&message(chat, &alice)).await.unwrap();
    }
    goes_on(&redis).await;
    redis.restart_with(&copy).await;
    healed(&store).await;
    healed(&other).await;

    // Every chat's next number is above whatever may have been given, on every edge, once.
    let seq = async |store: &RedisStore, chat| match store.append(&message(chat, &alice)).await.unwrap() {
        Appended::New { seq, .. } => seq,
        other => panic!("{other:?}"),
    };
    let next = seq(&other, chat).await;
    assert!(next > 1_000_000, "{next}");
    assert_eq!(seq(&store, chat).await, next + 1);
    assert_eq!(store.append(&first).await.unwrap(), Appended::Again { seq: 1, at: 2 });
    assert!(seq(&store, quiet).await > 1_000_000);
    let page = store.log(chat, 2, 9, 1 << 20).await.unwrap();
    assert_eq!((page.floor, page.messages.len(), page.head), (next, 2, next + 1));

    // A chat that is made now begins there, whole: its id may be that of one that the copy doesn't know.
    let new = private_group(&other, &alice).await;
    let begin = other.chat(new).await.unwrap().unwrap().head;
    assert!(begin > 1_000_000);
    assert_eq!(other.chat_of_member(new, &alice).await.unwrap().unwrap().1.boundary, begin);
    assert_eq!(other.reads(&alice).await.unwrap()[&new].seq, begin);
    assert_eq!(seq(&store, new).await, begin + 1);

    // And once is enough: what isn't older goes on.
    goes_on(&redis).await;
    redis.restart().await;
    healed(&store).await;
    assert_eq!(seq(&store, chat).await, next + 2);
}
