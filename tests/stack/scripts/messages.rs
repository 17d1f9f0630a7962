//! The scripts of messages: the log, the outbox, the keys.

use super::{eval, run};
use crate::support::Redis;

const TRIM_KEYS: &str = "meta log outbox ages cursor k0 k1 segment spent kept0 kept1 standing behind";

#[tokio::test]
async fn scripts_of_messages() {
    let redis = &Redis::start().await;
    let keys = |key: &str| format!("meta members {key} log outbox k0 k1 arriving segment kept0 kept1 cursor");
    let args = "alice 77 5 {\"seq\": ,\"x\":1} 60000 bell 0 100 a:k 99999";
    assert_eq!(eval(redis, script!("append"), &keys("k"), args).await, "", "no chat");
    run(redis, "HSET meta head 0 node n1").await;
    assert_eq!(eval(redis, script!("append"), &keys("k"), args).await, "", "no member");
    run(redis, "HSET members alice 0").await;
    assert_eq!(eval(redis, script!("append"), &keys("k"), args).await, "1 n1 0 0 0");
    assert_eq!(eval(redis, script!("append"), &keys("k"), args).await, "1 5 77");
    assert_eq!(run(redis, "XRANGE log - +").await, "1-0 m {\"seq\":1,\"x\":1}");
    // What an older build has kept is known, too.
    run(redis, "SET old 0:5:77").await;
    assert_eq!(eval(redis, script!("append"), &keys("old"), &args.replace("a:k", "a:old")).await, "0:5:77");
    // The hashes of keys take turns: each is kept for a minute at least, and for two at most.
    let at = async |clock: u64, key: &str| {
        let args = format!("alice 77 5 {{\"seq\": ,\"x\":1}} 60000 bell 0 {clock} {key} 99999");
        eval(redis, script!("append"), &keys("k"), &args).await
    };
    assert_eq!(run(redis, "HGET meta keyed").await, "0 100");
    for (clock, key, answer, keyed) in [
        (159, "b", "2 n1 0 0 0", "0 100"),
        (160, "c", "3 n1 0 0 0", "1 160"),
        (219, "b", "2 5 77", "1 160"),
        (219, "a:k", "1 5 77", "1 160"),
        (221, "d", "4 n1 0 0 0", "0 221"),
        (221, "b", "5 n1 0 0 0", "0 221"),
        (221, "c", "3 5 77", "0 221"),
        (400, "e", "6 n1 0 0 0", "1 400"),
        (400, "d", "7 n1 0 0 0", "1 400"),
        (399, "f", "8 n1 0 0 0", "1 400"),
    ] {
        assert_eq!(at(clock, key).await, answer, "{clock} {key}");
        assert_eq!(run(redis, "HGET meta keyed").await, keyed, "{clock} {key}");
    }
    assert_eq!(run(redis, "EXISTS k0 k1").await, "1");
    let trim = async |clock: u64| {
        let limits = format!("0 9 999 999 {clock} 60 128 0");
        eval(redis, script!("trim"), TRIM_KEYS, &limits).await;
        run(redis, "EXISTS k0 k1").await
    };
    // A store that had no name counted Redis's seconds: since it has one, its clock is another. Nothing goes at once, and the
    // hashes take turns again.
    for (since, clock, next) in [(1_700_000_000u64, 400, 460), (400, 1_700_000_000, 1_700_000_060)] {
        redis.command(&["HSET", "meta", "keyed", &format!("0 {since}")]).await.unwrap();
        assert_eq!(at(clock, "e").await, "6 5 77");
        assert_ne!(trim(clock).await, "0");
        assert_eq!(run(redis, "HGET meta keyed").await, format!("0 {clock}"), "by trim");
        redis.command(&["HSET", "meta", "keyed", &format!("0 {since}")]).await.unwrap();
        let seq = run(redis, "HGET meta head").await.parse::<u64>().unwrap() + 1;
        assert_eq!(at(clock, &format!("new-{clock}")).await, format!("{seq} n1 0 0 0"));
        assert_eq!(run(redis, "HGET meta keyed").await, format!("0 {clock}"), "by append");
        assert_eq!(at(next, "e").await, "6 5 77");
        assert_eq!(at(next, &format!("new-{next}")).await, format!("{} n1 0 0 0", seq + 1));
        assert_eq!(run(redis, "HGET meta keyed").await, format!("1 {next}"));
        redis.command(&["HSET", "k1", "e", "6 5 77"]).await.unwrap();
    }
    redis.command(&["HSET", "meta", "keyed", "1 400"]).await.unwrap();
    assert_eq!((trim(519).await.as_str(), trim(520).await.as_str()), ("2", "0"));
    run(redis, "DEL log outbox ages").await;
    run(redis, "HSET meta head 0").await;
    assert_eq!(at(520, "a:k").await, "1 n1 0 0 0");
    assert_eq!(eval(redis, script!("log"), "meta log", "0 9 1").await, "1 1 1 {\"seq\":1,\"x\":1}");
    assert_eq!(eval(redis, script!("log"), "none none", "0 9 1").await, "0 ");
    for (reader, page) in
        [("alice 0", "1 1 1 {\"seq\":1,\"x\":1}"), ("bob 0", ""), ("alice 4", "1 1 1 {\"seq\":1,\"x\":1}")]
    {
        assert_eq!(eval(redis, script!("log"), "meta log members", &format!("0 9 1 {reader}")).await, page);
    }
    run(redis, "HSET members bob 1").await;
    assert_eq!(eval(redis, script!("log"), "meta log members", "0 9 1 bob 0").await, "", "since later");
    assert_eq!(
        eval(redis, script!("outbox"), "meta log outbox arriving", "9 1").await,
        "n1 0 1 {\"seq\":1,\"x\":1}"
    );
    assert_eq!(eval(redis, script!("outbox_size"), "meta log outbox", "").await, "n1 1 {\"seq\":1,\"x\":1}");
    assert_eq!(eval(redis, script!("outbox_size"), "none none none", "").await, " 0 ");
    run(redis, "HSET cursor one 0 other 1").await;
    let two = eval(redis, script!("append"), &keys("k"), &args.replace("a:k", "a:k2")).await;
    assert_eq!(two, "2 n1 0 0 2", "for two devices");
    run(redis, "DEL cursor").await;
    let both = "n1 0 1 {\"seq\":1,\"x\":1} 2 {\"seq\":2,\"x\":1}";
    assert_eq!(eval(redis, script!("outbox"), "meta log outbox arriving", "9 30").await, both);
    assert_eq!(
        eval(redis, script!("outbox"), "meta log outbox arriving", "9 29").await,
        "n1 0 1 {\"seq\":1,\"x\":1}"
    );
    for (args, moved, node) in
        [("n2 n3", "0", "n1"), ("n1 n2", "1", "n2"), ("n1 n2", "1", "n2"), ("n2 n1", "1", "n1")]
    {
        assert_eq!(eval(redis, script!("move_chat"), "meta", args).await, moved, "{args}");
        assert_eq!(run(redis, "HGET meta node").await, node);
    }
    assert_eq!(eval(redis, script!("move_chat"), "none", "n1 n2").await, "0");
    assert_eq!(run(redis, "EXISTS none").await, "0");

    // Numbers stay exact where Lua would write 1e+15, and up to the last that JSON readers keep.
    for head in [(1u64 << 31) - 1, 1 << 32, 999_999_999_999_999, (1 << 53) - 2] {
        run(redis, &format!("HSET meta head {head}")).await;
        let args = args.replace("a:k", &format!("a:k{head}"));
        let sent = eval(redis, script!("append"), &keys("k"), &args).await;
        assert_eq!(sent, format!("{} n1 0 0 0", head + 1));
        let page = eval(redis, script!("log"), "meta log", &format!("{} 9 99", head + 1)).await;
        let next = head + 1;
        assert_eq!(page, format!("{next} 1 {next} {{\"seq\":{next},\"x\":1}}"));
    }
    assert_eq!(run(redis, "HGET meta head").await, ((1u64 << 53) - 1).to_string());
    // Behind the frame, and counted, the epoch.
    run(redis, "HSET meta head 0 bytes 0 epoch 12").await;
    run(redis, "DEL log outbox").await;
    let args_of_e = args.replace("a:k", "a:e");
    assert_eq!(eval(redis, script!("append"), &keys("e"), &args_of_e).await, "1 n1 12 0 0");
    assert_eq!(run(redis, "XRANGE log - +").await, "1-0 m {\"seq\":1,\"x\":1} 12");
    assert_eq!(run(redis, "HGET meta bytes").await, "18");
    run(redis, "HDEL meta epoch").await;
    // An older copy was brought back: above all that may have been given, once.
    run(redis, "HSET meta head 20 bytes 0").await;
    run(redis, "DEL log outbox").await;
    let raised = |key: &str, lift: u64| {
        (keys(key), format!("alice 77 5 {{\"seq\": ,\"x\":1}} 60000 bell {lift} 520 {key} 99999"))
    };
    for (key, lift, seq) in [
        ("l1", 1_000_000, "1000021"),
        ("l2", 1_000_000, "1000022"),
        ("l3", 5, "1000023"),
        ("l4", 1_000_001, "1000025"),
    ] {
        let (keys, args) = raised(key, lift);
        assert_eq!(eval(redis, script!("append"), &keys, &args).await, format!("{seq} n1 0 0 0"));
    }
    assert_eq!(run(redis, "HMGET meta lift bytes").await, "1000001 84");
    assert_eq!(eval(redis, script!("raise_head"), "meta", "1000020").await, "1000025");
    assert_eq!(eval(redis, script!("raise_head"), "meta", "1000030").await, "1000030");
    assert_eq!(eval(redis, script!("raise_head"), "none", "5").await, "0");
    assert_eq!(run(redis, "EXISTS none").await, "0");

    run(redis, "DEL log").await;
    assert_eq!(eval(redis, script!("outbox_size"), "meta log outbox", "").await, "n1 4 ");
    assert_eq!(eval(redis, script!("outbox"), "meta log outbox arriving", "9 99").await, "n1 0");
    assert_eq!(run(redis, "EXISTS outbox").await, "0", "what the log lost can't be published any more");
}

#[tokio::test]
async fn the_log_is_trimmed_by_its_marks() {
    let redis = &Redis::start().await;
    run(redis, "HSET meta head 0 node n1").await;
    run(redis, "HSET members alice 0").await;
    let trim = async |limits: &str| {
        let limits = format!("{limits} 0 86400 128 0");
        eval(redis, script!("trim"), TRIM_KEYS, &limits).await;
        let oldest = run(redis, "XRANGE log - + COUNT 1").await;
        oldest.split('-').next().unwrap().to_owned()
    };
    assert_eq!(trim("0 1 1 1").await, "");
    assert_eq!(run(redis, "EXISTS ages").await, "0", "of an empty log nothing is noted");
    for seq in 1..=128u64 {
        let args = format!("alice 77 5 0123456789 0123456789 60000 bell 0 0 k{seq} 99999");
        let keys = "meta members none log outbox k0 k1 arriving segment kept0 kept1 cursor";
        let sent = eval(redis, script!("append"), keys, &args).await;
        assert_eq!(sent, format!("{seq} n1 0 0 0"));
        run(redis, "DEL outbox").await;
        if seq % 64 == 0 {
            assert_eq!(trim("128 128 99999 3600").await, "1");
        }
    }
    let mark = run(redis, "LINDEX ages 0").await;
    let (mark, whose) = mark.rsplit_once(' ').unwrap();
    let mark: Vec<u64> = mark.split(' ').map(|part| part.parse().unwrap()).collect();
    assert_eq!(whose, format!("alice:{}", mark[2]));
    assert_eq!((mark[0], mark[2]), (64, 9 * 21 + 55 * 22), "the head, and the bytes up to there");
    assert_eq!(trim("128 128 99999 3600").await, "1");
    assert_eq!(run(redis, "LLEN ages").await, "2", "no mark without a message");
    // What is behind the first mark: 64 messages, 35 of which have numbers of two digits.
    assert_eq!(trim(&format!("128 128 {} 3600", 35 * 22 + 29 * 23 + 1)).await, "1");
    assert_eq!(trim("128 120 99999 3600").await, "9", "by number");
    // The clock of the first mark is turned back by two hours: what came before it is that old.
    redis.command(&["LSET", "ages", "0", &format!("64 {} {}", mark[1] - 7200, mark[2])]).await.unwrap();
    assert_eq!(trim("128 128 99999 3600").await, "65", "by age");
    assert_eq!(run(redis, "LLEN ages").await, "1");
    run(redis, "HSET cursor one 100 other 128").await;
    assert_eq!(trim("10 128 99999 3600").await, "101", "by the slowest");
    run(redis, "DEL cursor").await;
    run(redis, "ZADD outbox 110 110").await;
    assert_eq!(trim("0 128 99999 3600").await, "110", "what NSQ lacks stays");
    assert_eq!(trim("0 4 99999 3600").await, "113", "up to four times as many");
    run(redis, "DEL outbox").await;
    assert_eq!(trim("0 128 99999 3600").await, "");
}

#[tokio::test]
async fn the_newest_of_the_log_are_read_from_above() {
    let redis = &Redis::start().await;
    let read = async |args: &str| eval(redis, script!("log_before"), "meta log members", args).await;
    assert_eq!(read("9 1 5 100 alice 0").await, "", "no member");
    run(redis, "HSET meta head 5").await;
    redis.command(&["HSET", "members", "alice", "2 1"]).await.unwrap();
    assert_eq!(read("9 1 5 100 alice 1").await, "", "a member since later");
    assert_eq!(read("9 3 5 100 alice 2").await, "5 ", "an empty log");
    for seq in [2, 3, 5] {
        run(redis, &format!("XADD log {seq}-0 m body-{seq}")).await;
    }
    assert_eq!(read("9 3 5 100 alice 2").await, "5 2 5 body-5 3 body-3");
    assert_eq!(read("5 1 1 100 alice 2").await, "5 2 3 body-3");
    assert_eq!(read("9 1 5 12 alice 2").await, "5 2 5 body-5 3 body-3");
    assert_eq!(read("9 1 5 11 alice 2").await, "5 2 5 body-5");
    assert_eq!(read("9 1 5 0 alice 2").await, "5 2 5 body-5", "one in any case");
    for nothing in ["2 1", "0 0", "1 1", "9 6", "9007199254740992 9007199254740991"] {
        assert_eq!(read(&format!("{nothing} 5 100 alice 2")).await, "5 2", "{nothing}");
    }
}
