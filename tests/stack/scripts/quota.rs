//! The scripts of quotas: bytes of each user in a log, charges of a user, contents of a queue.

use super::{eval, run};
use crate::support::Redis;

const KEYS: &str = "meta members none log outbox k0 k1 arriving segment kept0 kept1 cursor";

/// Appends a message of this many bytes.
async fn says(redis: &Redis, user: &str, key: &str, bytes: usize, most: u64) -> String {
    says_at(redis, 100, user, key, bytes, most).await
}

async fn says_at(redis: &Redis, clock: u64, user: &str, key: &str, bytes: usize, most: u64) -> String {
    let body = "x".repeat(bytes - 3);
    // With a number of two digits.
    let args = format!("{user} 77 5 {body} . 60000 bell 0 {clock} {key} {most}");
    eval(redis, script!("append"), KEYS, &args).await
}

async fn trims(redis: &Redis, limits: &str) -> String {
    trims_lifted(redis, limits, 0).await
}

async fn trims_lifted(redis: &Redis, limits: &str, lift: u64) -> String {
    let keys = "meta log outbox ages cursor k0 k1 segment spent kept0 kept1 standing behind";
    eval(redis, script!("trim"), keys, &format!("{limits} 128 {lift}")).await
}

#[tokio::test]
async fn a_log_says_whose_it_is() {
    let redis = &Redis::start().await;
    run(redis, "HSET members alice 0 bob 0").await;
    run(redis, "HSET meta head 9 node n1 bytes 0 freed 0").await;
    assert_eq!(says(redis, "alice", "a", 100, 350).await, "10 n1 0 0 0");
    assert_eq!(says(redis, "alice", "b", 150, 350).await, "11 n1 0 0 0");
    assert_eq!(says(redis, "bob", "c", 101, 350).await, "full");
    assert_eq!(says(redis, "bob", "c", 100, 350).await, "12 n1 0 0 0");
    assert_eq!(says(redis, "bob", "d", 10, 350).await, "full");
    assert_eq!(says(redis, "bob", "d", 10, 0).await, "full", "bob has no room");
    assert_eq!(says(redis, "alice", "b", 150, 0).await, "11 5 77", "a known key is known");
    assert_eq!(run(redis, "HMGET meta head bytes").await, "12 350");
    assert_eq!(run(redis, "XLEN log").await, "3");
    let kept = "9 9 9999 3600 100 60";
    let told = trims(redis, kept).await;
    assert!(told == "1 alice 506 bob 228" || told == "1 bob 228 alice 506", "{told}: 128 for each key");
    assert_eq!(trims(redis, kept).await, "0", "nothing new");
    assert_eq!(says(redis, "bob", "e", 50, 9999).await, "13 n1 0 0 0");
    assert_eq!(trims(redis, kept).await, "2 bob 406");
    // The first mark goes, and what it had of each.
    run(redis, "DEL outbox").await;
    let told = trims(redis, "1 9 9999 3600 100 60").await;
    assert!(told == "3 alice 256 bob 306" || told == "3 bob 306 alice 256", "{told}");
    assert_eq!(run(redis, "HMGET meta freed bytes").await, "350 400");
    assert_eq!(run(redis, "HGETALL spent").await, "bob 50");
    assert_eq!(says(redis, "bob", "f", 300, 350).await, "14 n1 0 0 0", "what went makes room");
    // The keys take turns, and go with their counts.
    assert_eq!(run(redis, "HGETALL kept0").await.len(), "alice 2 bob 2".len());
    let told = trims(redis, "9 9 9999 3600 220 60").await;
    assert!(told.starts_with("4 ") && told.contains("bob 478") && told.contains("alice 0"), "{told}");
    assert_eq!(run(redis, "HGETALL kept0").await, "bob 1", "the one since the mark");
    // All is gone.
    run(redis, "DEL log outbox").await;
    assert_eq!(trims(redis, kept).await, "5 bob 128");
    assert_eq!(run(redis, "EXISTS ages segment spent").await, "0");
    assert_eq!(run(redis, "HMGET meta freed bytes").await, "700 700");
    // A chat of an older build: what its log has is no more than it may.
    run(redis, "HDEL meta freed").await;
    assert_eq!(says(redis, "bob", "g", 300, 1).await, "15 n1 0 0 0");
    assert_eq!(trims(redis, "9 9 600 3600 220 60").await, "6 bob 428");
    assert_eq!(run(redis, "HMGET meta freed bytes").await, "400 1000");
    // Of no chat nothing is told, and nothing made.
    run(redis, "FLUSHALL").await;
    assert_eq!(trims(redis, kept).await, "0");
    assert_eq!(run(redis, "DBSIZE").await, "0");
}

#[tokio::test]
async fn keys_that_run_out_are_given_back_whoever_speaks() {
    let redis = &Redis::start().await;
    run(redis, "HSET members alice 0 bob 0 carol 0").await;
    run(redis, "HSET meta head 9 node n1 bytes 0 freed 0").await;
    let trims_at = async |clock: u64| {
        run(redis, "DEL outbox").await;
        let told = trims(redis, &format!("0 9 9999 3600 {clock} 60")).await;
        let mut told: Vec<_> = told.split(' ').skip(1).collect();
        let mut told: Vec<_> = told.chunks_mut(2).map(|pair| pair.join(" ")).collect();
        told.sort_unstable();
        told.join(" ")
    };
    says(redis, "alice", "a", 100, 9999).await;
    assert_eq!(trims_at(100).await, "alice 128");
    // The hashes take turns with what bob says, and only bob is heard of from then on.
    says_at(redis, 161, "bob", "b", 100, 9999).await;
    assert_eq!(trims_at(161).await, "bob 128");
    says_at(redis, 222, "bob", "c", 100, 9999).await;
    assert_eq!(run(redis, "EXISTS kept0").await, "0");
    assert_eq!(trims_at(222).await, "alice 0 bob 256");
    assert_eq!(run(redis, "EXISTS spent").await, "0", "{}", run(redis, "HGETALL spent").await);
    says(redis, "carol", "d", 100, 9999).await;
    // Both are old enough at once.
    says_at(redis, 342, "carol", "e", 100, 9999).await;
    assert_eq!(trims_at(342).await, "bob 0 carol 256");
    assert_eq!(run(redis, "EXISTS spent").await, "0");
}

#[tokio::test]
async fn what_an_older_build_lets_go_of_is_given_back() {
    let redis = &Redis::start().await;
    run(redis, "HSET members alice 0 bob 0").await;
    run(redis, "HSET meta head 9 node n1 bytes 0 freed 0").await;
    let kept = "9 9 9999 3600 100 60";
    for (key, told) in [("a", "1 alice 228"), ("b", "2 alice 456"), ("c", "3 alice 684")] {
        assert!(says(redis, "alice", key, 100, 9999).await.contains(" n1 0 0 "));
        assert_eq!(trims(redis, kept).await, told);
    }
    // An edge of an older build trims, which doesn't know of that, and notes what it has sent without saying whose it is.
    run(redis, "LPOP ages").await;
    run(redis, "XTRIM log MINID 11-0").await;
    assert_eq!(says(redis, "bob", "d", 100, 9999).await, "13 n1 0 0 0");
    run(redis, "DEL segment outbox").await;
    redis.command(&["RPUSH", "ages", "13 100 400"]).await.unwrap();
    assert_eq!(says(redis, "bob", "e", 100, 9999).await, "14 n1 0 0 0");
    // The next one that lets go of a mark finds it.
    let told = trims(redis, "3 9 9999 3600 100 60").await;
    assert!(told == "4 alice 484 bob 228" || told == "4 bob 228 alice 484", "{told}: of alice one message");
    assert_eq!(run(redis, "HGET spent alice").await, "100");
    assert_eq!(run(redis, "HMGET meta freed bytes").await, "200 500");
    run(redis, "DEL outbox").await;
    let told = trims(redis, "0 9 9999 3600 100 60").await;
    assert!(told == "5 alice 384 bob 128" || told == "5 bob 128 alice 384", "{told}");
    assert_eq!(run(redis, "EXISTS spent").await, "0");
}

#[tokio::test]
async fn what_a_queue_may_hold_stays_its_senders() {
    let redis = &Redis::start().await;
    run(redis, "HSET members alice 0").await;
    run(redis, "HSET meta head 9 node n1 bytes 0 freed 0").await;
    run(redis, "HSET cursor quick 9 slow 9").await;
    // A log of 150 bytes lets go of a message of 100 with the second that comes behind it.
    let kept = "0 9 150 3600 100 60";
    let said = async |key: &str| {
        assert!(says(redis, "alice", key, 100, 9999).await.contains(" n1 0 0 "));
        run(redis, "DEL outbox").await;
        trims(redis, kept).await
    };
    let standing = async || run(redis, "LRANGE standing 0 -1").await;
    for (key, told) in
        [("a", "1 alice 228"), ("b", "2 alice 456"), ("c", "3 alice 684"), ("d", "4 alice 912")]
    {
        assert_eq!(said(key).await, told);
    }
    run(redis, "HSET cursor quick 13").await;
    assert_eq!(trims(redis, kept).await, "0", "nothing new");
    assert_eq!(run(redis, "XLEN log").await, "2");
    assert_eq!(standing().await, "10 100 100 alice:100 11 100 200 alice:100");
    assert_eq!(run(redis, "HMGET meta freed bytes").await, "200 400");
    // The slowest acknowledges a part of it.
    run(redis, "HSET cursor slow 10").await;
    assert_eq!(trims(redis, kept).await, "5 alice 812");
    // Its queue is emptied: not so far, and so far.
    run(redis, "HSET behind slow 199").await;
    assert_eq!(trims(redis, kept).await, "0");
    run(redis, "HSET behind slow 200").await;
    assert_eq!(trims(redis, kept).await, "6 alice 712");
    assert_eq!(run(redis, "EXISTS standing").await, "0");
    // That of another is not; and that of a third is, which is further behind.
    assert_eq!(said("e").await, "7 alice 940");
    run(redis, "HSET cursor third 1").await;
    run(redis, "HSET behind third 300 slow 250").await;
    assert_eq!(trims(redis, kept).await, "0");
    run(redis, "HSET behind slow 300").await;
    assert_eq!(trims(redis, kept).await, "8 alice 840");
    run(redis, "HDEL cursor third").await;
    // At last it is old.
    assert_eq!(said("f").await, "9 alice 1068");
    assert_eq!(standing().await, "13 100 400 alice:100");
    assert_eq!(trims(redis, "0 9 150 3600 3699 9999").await, "0");
    assert_eq!(trims(redis, "0 9 150 3600 3700 9999").await, "10 alice 768");
    assert_eq!(run(redis, "EXISTS standing spent ages").await, "0");
    // A build that knows nothing of it has let go of a mark: what stands counts as what the marks say.
    for key in ["g", "h", "i"] {
        said(key).await;
    }
    assert_eq!(standing().await, "16 100 700 alice:100");
    run(redis, "LPOP ages").await;
    said("j").await;
    said("k").await;
    assert_eq!(standing().await, "16 100 700 alice:100 18 100 900 alice:100");
    assert_eq!(run(redis, "HGETALL spent").await, "alice 400");
    // A device that is ended holds nothing back.
    run(redis, "HSET cursor quick 20").await;
    assert_eq!(trims(redis, kept).await, "0", "the slow one");
    run(redis, "HDEL cursor slow").await;
    assert!(trims(redis, kept).await.ends_with(" alice 1408"), "eleven keys");
    assert_eq!(run(redis, "EXISTS standing spent ages").await, "0");
    // Without a log it stands all the same.
    assert!(said("l").await.ends_with(" alice 1636"));
    run(redis, "DEL log").await;
    assert_eq!(trims(redis, kept).await, "0");
    assert_eq!(trims(redis, kept).await, "0");
    assert_eq!(standing().await, "21 100 1200 alice:100");
    assert_eq!(run(redis, "HMGET meta freed bytes").await, "1200 1200");
    run(redis, "HSET cursor quick 21").await;
    assert!(trims(redis, kept).await.ends_with(" alice 1536"));
    assert_eq!(run(redis, "EXISTS standing spent ages").await, "0");
    // Of very many some are given back at a time.
    for _ in 0..20 {
        let marks = "21 100 1200 alice:1 ".repeat(100);
        let marks: Vec<_> = marks.trim().split_inclusive("alice:1 ").map(str::trim).collect();
        let push: Vec<_> = ["RPUSH", "standing"].into_iter().chain(marks).collect();
        redis.command(&push).await.unwrap();
    }
    run(redis, "HSET spent alice 2000").await;
    assert!(trims(redis, kept).await.ends_with(" alice 2512"));
    assert_eq!(run(redis, "LLEN standing").await, "976");
    trims(redis, kept).await;
    assert_eq!(run(redis, "EXISTS standing spent").await, "0");
}

#[tokio::test]
async fn accounts_go_on_above_all_that_an_older_copy_may_have_lost() {
    let redis = &Redis::start().await;
    run(redis, "HSET members alice 0").await;
    run(redis, "HSET meta head 9 node n1 bytes 0 freed 0").await;
    for (key, lift, told) in [("a", 0, "1"), ("b", 1_000_000, "1000001"), ("c", 1_000_000, "1000002")] {
        says(redis, "alice", key, 100, 9999).await;
        let answer = trims_lifted(redis, "9 9 9999 3600 100 60", lift).await;
        assert_eq!(answer.split(' ').next(), Some(told), "{answer}");
    }
}

#[tokio::test]
async fn what_a_user_is_charged() {
    let redis = &Redis::start().await;
    let charge = async |args: &str| eval(redis, script!("charge"), "stored", args).await;
    assert_eq!(charge("c1 100 5").await, "100");
    assert_eq!(charge("c2 50 1").await, "150");
    assert_eq!(charge("c1 70 6").await, "120");
    assert_eq!(charge("c1 900 5").await, "120", "a late one");
    assert_eq!(charge("c1 0 6").await, "50");
    assert_eq!(run(redis, "HMGET stored c1 c2 total").await, " 50 1 50");
    assert_eq!(charge("c2 0 9007199254740991").await, "0");
    assert_eq!(run(redis, "EXISTS stored").await, "0");
}

#[tokio::test]
async fn queues_that_hold_too_much() {
    let redis = &Redis::start().await;
    let overfull = async |limits: &str| {
        eval(redis, script!("overfull"), "meta ages cursor behind standing", limits).await
    };
    assert_eq!(overfull("100 9999 1").await, "0 ");
    run(redis, "HSET meta head 30 node n1 bytes 3000").await;
    run(redis, "HSET cursor a 30 b 20 c 25 d 5").await;
    assert_eq!(overfull("100 9999 1").await, "3000 n1", "an older build's: it isn't known");
    run(redis, "HSET meta freed 1000").await;
    redis.command(&["RPUSH", "ages", "10 7 1000 a:1", "20 7 2000", "30 7 3000 a:9"]).await.unwrap();
    let devices = async |limits: &str| {
        run(redis, "HDEL meta scanned").await;
        let answer = overfull(limits).await;
        let mut devices: Vec<_> = answer.split(' ').skip(2).map(str::to_owned).collect();
        devices.sort_unstable();
        devices.join(" ")
    };
    assert_eq!(devices("2001 9999 1").await, "");
    assert_eq!(run(redis, "HGETALL behind").await, "d 1000", "the log doesn't reach back to it");
    assert_eq!(devices("1999 9999 1").await, "d");
    assert_eq!(devices("999 9999 1").await, "b d");
    assert_eq!(devices("501 9999 1").await, "b d", "between marks it is guessed");
    assert_eq!(devices("499 9999 1").await, "b c d");
    assert_eq!(devices("9999 1990 1").await, "b c d", "each has its part of all");
    assert_eq!(devices("9999 1990 1500").await, "d", "and so much in any case");
    // Emptied, it counts from there.
    let emptied = async |args: &str| eval(redis, script!("emptied"), "from behind", args).await;
    assert_eq!(emptied("d 3000").await, "0", "it isn't owed anything any more");
    run(redis, "HSET from d 1 b 1").await;
    assert_eq!((emptied("d 3000").await, emptied("d 2000").await), ("1".into(), "0".into()));
    assert_eq!(emptied("b 3000").await, "1");
    assert_eq!(devices("499 9999 1").await, "c");
    // Whoever has come so far isn't noted any more.
    run(redis, "HSET cursor d 30").await;
    redis.command(&["RPUSH", "ages", "40 7 4000"]).await.unwrap();
    run(redis, "HSET meta head 40 bytes 4000").await;
    assert_eq!(devices("999 9999 1").await, "a b c d");
    assert_eq!(run(redis, "HGETALL behind").await, "b 3000");
    // Where a queue begins to which the log doesn't reach back is seen in what is standing.
    redis
        .command(&["RPUSH", "standing", "4 7 400 a:100 b:100", "7 7 700 a:300", "10 7 1000 a:300"])
        .await
        .unwrap();
    run(redis, "HSET cursor d 5 e 2 f 8").await;
    assert_eq!(devices("9999 99999 1").await, "");
    assert_eq!(run(redis, "HMGET behind d e f").await, "400 200 700");
    run(redis, "DEL standing behind").await;
    run(redis, "HDEL cursor e f").await;
    run(redis, "HSET cursor d 30").await;
    // It is looked for when an eighth more has been said.
    run(redis, "HSET meta scanned 3501").await;
    assert_eq!(overfull("4000 99999 1").await, "4000 n1");
    assert_eq!(run(redis, "HGET meta scanned").await, "3501");
    run(redis, "HSET meta scanned 3500").await;
    assert_eq!(overfull("4000 99999 1").await, "4000 n1");
    assert_eq!(run(redis, "HGET meta scanned").await, "4000");
}
