//! What interrupted calls, and older builds, left in Redis.

use keepstep::store::Store;

use super::*;

fn hex(chat: ChatId) -> String {
    chat.hex()
}

#[tokio::test]
async fn an_id_that_no_chat_ever_had_leaves_the_index() {
    let redis = Redis::start().await;
    let store = connect(&redis).await;
    let alice = user("alice");
    let (there, new) = (private_group(&store, &alice).await, new_chat(&alice, None));
    let part = |chat: ChatId| format!("ks:{{chats.{}}}", chat.as_bytes()[15]);
    let indexed =
        async |chat: ChatId| redis.command(&["SISMEMBER", &part(chat), &hex(chat)]).await.unwrap() == "1";
    // As a creation leaves it that came no further.
    redis.command(&["SADD", &part(new.id), &hex(new.id)]).await.unwrap();
    let page = store.chat_ids(u64::from(new.id.as_bytes()[15])).await.unwrap();
    assert!(page.ids.contains(&new.id), "{page:?}");
    assert_eq!(store.subscriptions(&[new.id]).await.unwrap(), [None]);
    assert!(store.unlist_unborn(new.id).await.unwrap());
    assert!(!indexed(new.id).await);
    assert!(!store.unlist_unborn(there).await.unwrap());
    assert!(indexed(there).await, "that is a chat");

    // Who creates it now may be faster than the removal, if that is late: so not now.
    let refused = store.create_chat(&new).await;
    let again = matches!(refused, Err(StoreError::Unavailable(_) | StoreError::Unknown(_)));
    assert!(again, "{refused:?}");
    assert!(!store.was_deleted(new.id).await.unwrap());
    let mark = format!("ks:{{c.{}}}:meta", hex(new.id));
    let left: i64 = redis.command(&["PTTL", &mark]).await.unwrap().parse().unwrap();
    assert!((30_000..=60_000).contains(&left), "{left}");
    // A removal that is sent when the mark is nearly over may be as late as any other.
    redis.command(&["PEXPIRE", &mark, "5000"]).await.unwrap();
    assert!(store.unlist_unborn(new.id).await.unwrap());
    let left: i64 = redis.command(&["PTTL", &mark]).await.unwrap().parse().unwrap();
    assert!((30_000..=60_000).contains(&left), "{left}");
    redis.command(&["PEXPIRE", &mark, "1"]).await.unwrap();
    wait_until("the mark to be gone", PATIENCE, || async {
        (redis.command(&["EXISTS", &mark]).await.unwrap() == "0").then_some(())
    })
    .await;
    assert!(matches!(store.create_chat(&new).await.unwrap(), Created::New(_)));
    assert!(indexed(new.id).await);
    // What is left of one that was deleted goes, too.
    leave(&store, new.id, &alice, Departure::Left).await;
    assert!(store.delete_chat(new.id).await.unwrap());
    redis.command(&["SADD", &part(new.id), &hex(new.id)]).await.unwrap();
    assert!(store.unlist_unborn(new.id).await.unwrap());
    assert!(!indexed(new.id).await && store.was_deleted(new.id).await.unwrap());
}

#[tokio::test]
async fn names_of_chats_that_never_came_hide_no_others() {
    let redis = Redis::start().await;
    let store = connect(&redis).await;
    let alice = user("alice");
    let new = |created| NewChat {
        name: Some("tea".into()),
        password_hash: Some("h".into()),
        created,
        ..new_chat(&alice, None)
    };
    let now = keepstep::domain::now_millis();
    let first = new(1);
    store.create_chat(&first).await.unwrap();
    let named = redis.command(&["KEYS", "ks:{n.*}:groups"]).await.unwrap();
    for n in 0..100u64 {
        let id = hex(ChatId::random());
        redis.command(&["ZADD", &named, &(2 + n).to_string(), &id]).await.unwrap();
    }
    let last = new(now);
    store.create_chat(&last).await.unwrap();
    // 64 are looked at at a time.
    wait_until("both to be found", PATIENCE, || async {
        (store.chats_named("tea").await.unwrap() == [first.id, last.id]).then_some(())
    })
    .await;
    assert_eq!(redis.command(&["ZCARD", &named]).await.unwrap(), "2");
    // What was begun just now may still come.
    let coming = hex(ChatId::random());
    redis.command(&["ZADD", &named, &now.to_string(), &coming]).await.unwrap();
    assert_eq!(store.chats_named("tea").await.unwrap(), [first.id, last.id]);
    assert_eq!(redis.command(&["ZCARD", &named]).await.unwrap(), "3");
}

#[tokio::test]
async fn offsets_that_older_builds_left_are_pruned() {
    let redis = Redis::start().await;
    let store = connect(&redis).await;
    let alice = user("alice");
    let chat = private_group(&store, &alice).await;
    store.append(&message(chat, &alice)).await.unwrap();
    store.move_read(&alice, chat, 1, None).await.unwrap();
    for _ in 0..1100 {
        let gone = hex(ChatId::random());
        redis.command(&["HSET", "ks:{u.alice}:read", &gone, "7 -"]).await.unwrap();
    }
    store.reads(&alice).await.unwrap();
    let reads = store.reads(&alice).await.unwrap();
    assert_eq!((reads.len(), reads[&chat].seq), (1, 1));
}

#[tokio::test]
async fn members_of_older_builds_stay_what_they_are() {
    let redis = Redis::start().await;
    let redis_store = connect(&redis).await;
    let store = Store::Redis(redis_store.clone());
    let (alice, bob) = (user("alice"), user("bob"));
    let (chat, device) = (private_group(&redis_store, &alice).await, DeviceId::random());
    for _ in 0..3 {
        store.append(&message(chat, &alice)).await.unwrap();
    }
    redis.command(&["HSET", &format!("ks:{{c.{}}}:members", hex(chat)), "bob", "2"]).await.unwrap();
    redis.command(&["HSET", "ks:{u.bob}:chats", &hex(chat), "t"]).await.unwrap();
    let (_, member) = store.chat_of_member(chat, &bob).await.unwrap().unwrap();
    assert_eq!((member.boundary, member.version), (2, 0));
    assert_eq!(store.members(chat).await.unwrap()[1], member);
    let position = store.subscribe_device(chat, &bob, device, SubscribeFrom::Joined).await.unwrap();
    assert_eq!(position, Some(DevicePosition { from: 2, cursor: 2 }));
    assert!(store.attach(&[chat], &bob, device, 1).await.unwrap()[0].is_some());
    assert_eq!(store.remove_member(chat, &member, Departure::Left).await.unwrap(), Some(1));
    assert_eq!(
        store.add_member(chat, &bob, JoinBy::Invitation, 1).await.unwrap(),
        keepstep::store::Joined::New(3)
    );
    assert_eq!(store.remove_member(chat, &member, Departure::Left).await.unwrap(), None, "late");
}

#[tokio::test]
async fn what_is_left_of_a_chat_that_is_gone_counts_for_nobody() {
    let redis = Redis::start().await;
    let store = connect(&redis).await;
    let (alice, gone) = (user("alice"), ChatId::random());
    // An older build has deleted the chat: it doesn't know of these, nor of what was noted with the user.
    redis.command(&["HSET", &format!("ks:{{c.{}}}:spent", hex(gone)), "alice", "70000"]).await.unwrap();
    redis.command(&["HSET", &format!("ks:{{c.{}}}:kept:0", hex(gone)), "alice", "10"]).await.unwrap();
    assert_eq!(store.charge(&alice, gone, 71_280, 7).await.unwrap(), 71_280);
    assert_eq!(store.recount(&alice).await.unwrap(), 0);
    assert_eq!(redis.command(&["EXISTS", "ks:{u.alice}:stored"]).await.unwrap(), "0");
}
