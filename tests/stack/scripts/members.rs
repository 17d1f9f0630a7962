//! The scripts of chats, members, and their subscriptions.

use super::{eval, run};
use crate::support::Redis;

#[tokio::test]
async fn scripts_of_chats_and_members() {
    let redis = &Redis::start().await;
    let made =
        eval(redis, script!("create_chat"), "meta members arriving", "2 0 a b kind group head 0 node n")
            .await;
    assert!(made.starts_with("new kind group"), "{made}");
    let there =
        eval(redis, script!("create_chat"), "meta members arriving", "1 0 z kind direct head 9 node n").await;
    assert!(there.starts_with("there kind group"), "{there}");
    assert_eq!(run(redis, "HLEN members").await, "2");
    assert_eq!(run(redis, "HGETALL arriving").await, "a 0 b 0");
    let arrived = script!("arrived");
    assert_eq!(eval(redis, arrived, "arriving", "a 1").await, "0", "of another membership");
    assert_eq!(eval(redis, arrived, "arriving", "a 0").await, "1");
    assert_eq!(eval(redis, arrived, "arriving", "a 0").await, "0");
    assert_eq!(eval(redis, script!("chat_of_member"), "meta members", "z").await, "");
    assert!(eval(redis, script!("chat_of_member"), "meta members", "a").await.ends_with(" 0"));

    run(redis, "HSET meta head 7").await;
    let (join, keys) = (script!("join"), "meta members banned left arriving");
    let (leave, leave_keys) = (script!("leave"), "members banned meta left arriving");
    assert_eq!(
        eval(redis, join, "none members banned left arriving", "z themselves 9 0 1000").await,
        "refused"
    );
    assert_eq!(eval(redis, join, keys, "a themselves 2 0 1000").await, "already 0");
    assert_eq!(eval(redis, join, keys, "c themselves 2 0 1000").await, "full");
    assert_eq!(eval(redis, join, keys, "c themselves 3 0 1000").await, "new 7");
    assert_eq!(run(redis, "HGET members c").await, "7 1");
    assert_eq!(run(redis, "HGETALL arriving").await, "b 0 c 1");
    assert_eq!(eval(redis, leave, leave_keys, "c ban 0 0 1000").await, "-1", "of an earlier membership");
    assert_eq!(eval(redis, leave, leave_keys, "c ban 1 0 1000").await, "2");
    assert_eq!(eval(redis, leave, leave_keys, "c ban 1 0 1000").await, "");
    assert_eq!(run(redis, "HGET meta epoch").await, "1");
    assert_eq!(eval(redis, join, keys, "c invitation 3 0 1000").await, "stale", "looked before it left");
    assert_eq!(eval(redis, join, keys, "c themselves 3 1 1000").await, "refused");
    assert_eq!(eval(redis, join, keys, "c invitation 3 1 1000").await, "new 7");
    assert_eq!(eval(redis, join, keys, "c themselves 2 0 1000").await, "already 7");
    // An older copy was brought back: above all epochs that may have been given, once. As older builds wrote it, it has
    // no version.
    run(redis, "HSET members d 7").await;
    assert_eq!(eval(redis, leave, leave_keys, "d _ 0 1000 1000").await, "3");
    assert_eq!(run(redis, "HMGET meta epoch owner").await, "1002 ");
    run(redis, "HSET meta owner a").await;
    run(redis, "HSET members a 0").await;
    assert_eq!(eval(redis, leave, leave_keys, "a _ 0 1000 1000").await, "2");
    assert_eq!(run(redis, "HMGET meta epoch owner").await, "1003 b");
    // A direct chat stays its pair's.
    run(redis, "HSET meta kind direct").await;
    run(redis, "HSET members b 0").await;
    assert_eq!(eval(redis, leave, leave_keys, "b _ 0 1000 1000").await, "1");
    assert_eq!(run(redis, "HMGET meta epoch owner").await, "1004 b");
    run(redis, "HSET meta kind group").await;
    run(redis, "HSET members b 0").await;
    run(redis, "HSET members a 0").await;
    for left in 0..1100 {
        run(redis, &format!("ZADD left {} u{left}", 2000 + left)).await;
    }
    run(redis, "HSET meta epoch 3100").await;
    run(redis, "HSET members d 7").await;
    assert_eq!(eval(redis, leave, leave_keys, "d _ 0 1000 1000").await, "3");
    assert_eq!(run(redis, "ZCARD left").await, "1000");
    assert_eq!(
        eval(redis, join, keys, "x invitation 9 2099 1000").await,
        "stale",
        "perhaps x has left since"
    );
    assert_eq!(eval(redis, join, keys, "x invitation 9 2101 1000").await, "new 7");
    run(redis, "HDEL members x").await;

    assert_eq!(eval(redis, script!("index_chat"), "list", "x t1 1").await, "1");
    assert_eq!(eval(redis, script!("index_chat"), "list", "y t2 1").await, "0");
    assert_eq!(eval(redis, script!("index_chat"), "list", "x t3 1").await, "1");
    run(redis, "HSET read x 5").await;
    run(redis, "HSET put x a").await;
    assert_eq!(eval(redis, script!("unindex_chat"), "list read put", "x t1").await, "0");
    assert_eq!(run(redis, "HGET read x").await, "5");
    assert_eq!(eval(redis, script!("unindex_chat"), "list read put", "x t3").await, "1");
    assert_eq!(run(redis, "EXISTS list read put").await, "0");

    let all = "meta members kept0 kept1 spent segment behind standing banned log outbox ages from cursor fence left arriving";
    assert_eq!(eval(redis, script!("delete_chat"), all, "5 9000 4000").await, "");
    assert_eq!(run(redis, "HLEN members").await, "3", "it has members");
    run(redis, "DEL members").await;
    run(redis, "SET log 1").await;
    run(redis, "HSET kept0 alice 1").await;
    run(redis, "HSET kept1 bob 1").await;
    run(redis, "HSET spent carol 9").await;
    run(redis, "RPUSH standing mark").await;
    let was = eval(redis, script!("delete_chat"), all, "5 9000 4000").await;
    assert!(was.contains("kind group") && was.ends_with("alice bob carol"), "{was}");
    assert_eq!(eval(redis, script!("delete_chat"), all, "6 9000 4000").await, "deleted 5");
    assert_eq!(run(redis, "KEYS *").await, "meta");
    let gone =
        eval(redis, script!("create_chat"), "meta members arriving", "1 0 z kind direct head 9 node n").await;
    assert_eq!(gone, "there deleted 5");
    // Something was said in another.
    run(redis, "HSET said kind group bytes 7").await;
    let all = all.replace("meta", "said");
    assert!(eval(redis, script!("delete_chat"), &all, "5 9000 4000").await.contains("kind group"));
    for (mark, range) in [("meta", 3000..=4000), ("said", 8000..=9000)] {
        let left: i64 = run(redis, &format!("PTTL {mark}")).await.parse().unwrap();
        assert!(range.contains(&left), "{mark}: {left}");
    }
    assert_eq!(eval(redis, script!("tombstone_chat"), "meta", "7 5000").await, "1");
    assert_eq!(eval(redis, script!("tombstone_chat"), "fresh", "7 5000").await, "1");
    run(redis, "HSET living kind group").await;
    assert_eq!(eval(redis, script!("tombstone_chat"), "living", "7 5000").await, "0");
    // For a while nothing comes to be with an id of which nothing came.
    let forget = script!("forget_unborn");
    assert_eq!(eval(redis, forget, "living", "7 60000").await, "0");
    assert_eq!(eval(redis, forget, "fresh", "7 60000").await, "1", "deleted: nothing will");
    let mark = async |key: &str| run(redis, &format!("PTTL {key}")).await.parse::<u64>().unwrap();
    assert!((3000..=5000).contains(&mark("fresh").await), "as long as its mark had yet");
    assert_eq!(eval(redis, forget, "unborn", "7 60000").await, "1");
    run(redis, "PEXPIRE unborn 5000").await;
    assert_eq!(eval(redis, forget, "unborn", "7 60000").await, "1");
    let left = run(redis, "PTTL unborn").await.parse::<u64>().unwrap();
    assert!((30_000..=60_000).contains(&left), "{left}: it begins anew");
    let made =
        eval(redis, script!("create_chat"), "unborn members arriving", "1 0 z kind direct head 9 node n")
            .await;
    assert_eq!(made, "there unborn 7");
    assert_eq!(eval(redis, script!("tombstone_chat"), "unborn", "8 5000").await, "1");
    assert!((3000..=5000).contains(&mark("unborn").await));
}

#[tokio::test]
async fn scripts_of_what_is_owed() {
    let redis = &Redis::start().await;
    run(redis, "HSET meta head 5 node n kind group").await;
    run(redis, "HSET members alice 3").await;
    let keys = "meta members from cursor";
    assert_eq!(eval(redis, script!("subscribe_device"), keys, "bob d 5").await, "");
    assert_eq!(eval(redis, script!("subscribe_device"), keys, "alice d 5").await, "5 5");
    run(redis, "HSET meta head 9").await;
    assert_eq!(eval(redis, script!("subscribe_device"), keys, "alice d 9").await, "5 5");
    assert_eq!(
        eval(redis, script!("subscribe_device"), keys, "alice f 2").await,
        "3 3",
        "late: not below the boundary"
    );
    assert_eq!(
        eval(redis, script!("subscribe_device"), keys, "alice g 99").await,
        "9 9",
        "never above the head"
    );
    assert_eq!(
        eval(redis, script!("subscribe_device"), keys, "alice e boundary").await,
        "3 3",
        "since they joined"
    );
    run(redis, "DEL members").await;
    redis.command(&["HSET", "members", "alice", "6 2"]).await.unwrap();
    assert_eq!(eval(redis, script!("attach"), &format!("{keys} fence"), "alice d 1").await, "");
    assert_eq!(
        eval(redis, script!("subscribe_device"), keys, "alice d 9").await,
        "9 9",
        "an earlier membership's"
    );
    let attached = eval(redis, script!("attach"), &format!("{keys} fence"), "alice d 10").await;
    assert!(attached.ends_with(" 9 9 6"), "{attached}");
    assert_eq!(eval(redis, script!("attach"), &format!("{keys} fence"), "alice d 9").await, "", "10 > 9");
    run(redis, "HSET meta head 1000000000000000").await;
    let moves = "d 9 9 11 d 10 9 12 stranger 10 9 12 d 10 9 11 d 11 9 9007199254740991";
    let moved = eval(redis, script!("move_cursors"), "meta from cursor fence", moves).await;
    assert_eq!(moved, "-1 12 -1 12 1000000000000000");
    let moved = eval(redis, script!("move_cursors"), "meta from cursor fence", "d 11 5 13").await;
    assert_eq!(moved, "-1", "of an earlier membership");
    assert_eq!(run(redis, "HGET cursor d").await, "1000000000000000");
    let disown_keys = "members from cursor fence behind";
    assert_eq!(
        eval(redis, script!("unsubscribe_device"), disown_keys, "alice d").await,
        "0",
        "alice is in it"
    );
    assert_eq!(run(redis, "HGET from d").await, "9");
    run(redis, "HSET behind d 7").await;
    assert_eq!(eval(redis, script!("unsubscribe_device"), disown_keys, "bob d").await, "1");
    assert_eq!(eval(redis, script!("unsubscribe_device"), disown_keys, "_ e").await, "1", "of nobody");
    assert_eq!(run(redis, "HMGET from d e").await, " ");
    assert_eq!(run(redis, "EXISTS behind").await, "0");
}
