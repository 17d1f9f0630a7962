//! Each Lua script alone, by EVAL, on keys of the test: its answer and its effect.

use std::collections::BTreeSet;

use crate::support::Redis;

macro_rules! script {
    ($name:literal) => {
        ($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/lua/", $name, ".lua")))
    };
}

mod devices;
mod members;
mod messages;
mod quota;

/// Runs a script. Keys and arguments are given as text, separated by spaces; `_` is an empty one.
async fn eval(redis: &Redis, (name, source): (&str, &str), keys: &str, args: &str) -> String {
    let keys: Vec<_> = keys.split(' ').collect();
    let count = keys.len().to_string();
    let args = args.split(' ').map(|arg| if arg == "_" { "" } else { arg });
    let command: Vec<_> = ["EVAL", source, &count].into_iter().chain(keys).chain(args).collect();
    let answer = redis.command(&command).await.unwrap();
    let error =
        answer.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()));
    assert!(!error, "{name}: {answer}");
    answer.replace('\n', " ")
}

async fn run(redis: &Redis, command: &str) -> String {
    redis.command(&command.split(' ').collect::<Vec<_>>()).await.unwrap().replace('\n', " ")
}

#[tokio::test]
async fn scripts_of_links() {
    let redis = &Redis::start().await;
    let (open, decide, settle) = (script!("open_link"), script!("decide_link"), script!("settle_link"));
    let new = |link: &str, most: u32| format!("{link} 5000 9000 {most} C d name web alice");
    assert_eq!(eval(redis, open, "l1 c1 o s n", &new("1", 0)).await, "full");
    assert_eq!(run(redis, "EXISTS l1 c1 o s n").await, "0", "a refusal changes nothing");
    assert_eq!(eval(redis, open, "l1 c1 o s n", &new("1", 1)).await, "opened");
    assert_eq!(eval(redis, open, "l1 c1 o s n", &new("1", 1)).await, "opened");
    assert_eq!(eval(redis, open, "l2 c2 o t n", &new("2", 1)).await, "full");
    assert_eq!(eval(redis, open, "l2 c1 o t u", &new("2", 2)).await, "taken");
    let kept = async |keys: &[&str]| {
        for key in keys {
            let left: i64 = run(redis, &format!("PTTL {key}")).await.parse().unwrap();
            assert!((1..=9000).contains(&left), "{key} stays for {left}");
        }
    };
    kept(&["l1", "c1", "o", "s", "n"]).await;
    assert_eq!(
        eval(redis, open, "l3 c3 o s n", &new("3", 9)).await,
        "share",
        "an eighth of eight, rounded up"
    );
    assert_eq!(eval(redis, open, "l3 c3 o t n", &new("3", 5)).await, "share", "a quarter of four");
    assert_eq!(eval(redis, decide, "nobody o", "0 alice main approving 3 dev").await, "");
    assert_eq!(eval(redis, decide, "l1 o", "1 bob main approving 3 dev").await, "", "bound to alice");
    assert_eq!(eval(redis, decide, "l1 o", "1 alice main approving 3 dev").await, "dev");
    assert_eq!(run(redis, "EXISTS o s n").await, "0", "it doesn't wait any more");
    assert_eq!(eval(redis, decide, "l1 o", "1 alice main approving 3 other").await, "dev");
    assert_eq!(eval(redis, decide, "l1 o", "1 alice main refused 3 other").await, "otherwise");
    assert_eq!(eval(redis, settle, "l1 o", "1 other pending").await, "0");
    assert_eq!(eval(redis, settle, "l1 o", "1 dev pending").await, "1");
    assert_eq!(run(redis, "ZRANGE o 0 -1").await, "1");
    assert_eq!(run(redis, "ZRANGE s 0 -1").await, "1");
    assert_eq!(run(redis, "ZRANGE n 0 -1").await, "1");
    // What comes back into the list takes it away with it again.
    kept(&["l1", "c1", "o", "s", "n"]).await;
    // One that an older build opened belongs to no neighbourhood, or not even to a share.
    run(redis, "HDEL l1 neighbourhood").await;
    assert_eq!(eval(redis, decide, "l1 o", "1 alice main approving 3 dev").await, "dev");
    assert_eq!(run(redis, "EXISTS o s").await, "0");
    assert_eq!(run(redis, "DEL n").await, "1", "it isn't looked for");
    assert_eq!(eval(redis, settle, "l1 o", "1 dev pending").await, "1");
    assert_eq!(run(redis, "EXISTS o s n").await, "2", "given back where it was taken");
    run(redis, "HDEL l1 share").await;
    assert_eq!(eval(redis, decide, "l1 o", "1 alice main approving 3 dev").await, "dev");
    assert_eq!(run(redis, "ZRANGE s 0 -1").await, "1");
    assert_eq!(eval(redis, settle, "l1 o", "1 dev pending").await, "1");
    assert_eq!(eval(redis, decide, "l1 o", "1 alice main approving 3 dev").await, "dev");
    assert_eq!(eval(redis, settle, "l1 o", "1 dev approved").await, "1");
    assert_eq!(eval(redis, settle, "l1 o", "1 dev pending").await, "0");
    assert_eq!(eval(redis, settle, "nobody o", "0 dev pending").await, "0");
    assert_eq!(run(redis, "EXISTS nobody o").await, "0", "nothing is made by that");
    kept(&["l1", "c1"]).await;
}

#[tokio::test]
async fn the_script_of_typing() {
    let redis = &Redis::start().await;
    let typing = script!("publish_typing");
    assert_eq!(eval(redis, typing, "m", "alice 5 bell").await, "0", "no such chat");
    run(redis, "HSET m alice 0 bob 3").await;
    assert_eq!(eval(redis, typing, "m", "alice 1 bell").await, "0", "too many");
    assert_eq!(eval(redis, typing, "m", "carol 5 bell").await, "0", "not a member");
    assert_eq!(eval(redis, typing, "m", "alice 2 bell").await, "1");
    assert_eq!(run(redis, "DBSIZE").await, "1", "nothing is written");
}

#[tokio::test]
async fn scripts_of_single_keys() {
    let redis = &Redis::start().await;
    assert_eq!(eval(redis, script!("compare_and_set"), "k", "_ one").await, "one");
    assert_eq!(eval(redis, script!("compare_and_set"), "k", "_ two").await, "one");
    assert_eq!(eval(redis, script!("compare_and_set"), "k", "one two").await, "two");
    assert_eq!(eval(redis, script!("release_lease"), "k", "one").await, "0");
    assert_eq!(eval(redis, script!("release_lease"), "k", "two").await, "1");
    assert_eq!(eval(redis, script!("acquire_lease"), "w", "a 5000").await, "1");
    assert_eq!(eval(redis, script!("acquire_lease"), "w", "b 5000").await, "0");
    assert_eq!(eval(redis, script!("count"), "c", "5000").await, "1 5000");
    run(redis, "PEXPIRE c 4000").await;
    let (count, left) = (eval(redis, script!("count"), "c", "900000").await, 3000..=4000);
    let (count, is) = count.split_once(' ').unwrap();
    assert!(count == "2" && left.contains(&is.parse().unwrap()), "{count} {is}");
    for key in ["w", "c"] {
        let left: i64 = run(redis, &format!("PTTL {key}")).await.parse().unwrap();
        assert!((1..=5000).contains(&left), "the window isn't prolonged: {left}");
    }
    assert_eq!(eval(redis, script!("move_read"), "r l", "chat 5 -").await, "0", "not on the list");
    run(redis, "HSET l chat t").await;
    assert_eq!(eval(redis, script!("move_read"), "r l", "chat 5 -").await, "5");
    assert_eq!(eval(redis, script!("move_read"), "r l", "chat 4 dev").await, "5");
    let most = "9007199254740991";
    assert_eq!(eval(redis, script!("move_read"), "r l", &format!("chat {most} dev")).await, most);
    run(redis, "HSET r gone 3").await;
    assert_eq!(eval(redis, script!("prune_reads"), "r l", "_").await, "1");
    assert_eq!(run(redis, "HKEYS r").await, "chat");
    assert_eq!(run(redis, "HGET r chat").await, "9007199254740991 dev");
}

#[tokio::test]
async fn scripts_of_people() {
    let redis = &Redis::start().await;
    let stance = async || eval(redis, script!("stance"), "b bar v", "bob").await;
    assert_eq!(stance().await, "0 0 0");
    let (invite, end) = (script!("invite"), script!("end_invitation"));
    assert_eq!(eval(redis, invite, "i v", "c1 bob 0 9 1 60000").await, "done");
    assert_eq!(eval(redis, invite, "i v", "c2 bob 0 9 1 60000").await, "full", "of one");
    // What has waited for too long leaves, and makes room; what is of another shape, too.
    run(redis, "HSET i c1 5_bob").await;
    run(redis, "HSET i c3 99999999999999").await;
    assert_eq!(eval(redis, invite, "i v", "c2 bob 0 1 1 60000").await, "done");
    assert_eq!(run(redis, "HKEYS i").await, "c2");
    assert_eq!(eval(redis, end, "i v", "c2 5").await, "0");
    assert_eq!(stance().await, "0 0 0", "nothing has changed");
    assert_eq!(eval(redis, script!("block"), "b i v", "bob 0 1").await, "done");
    assert_eq!(run(redis, "EXISTS i").await, "0");
    assert_eq!(eval(redis, script!("block"), "b i v", "carol 1 1").await, "full");
    assert_eq!(stance().await, "1 0 1");
    assert_eq!(eval(redis, script!("unblock"), "b v", "bob 0").await, "0", "late");
    assert_eq!(eval(redis, script!("unblock"), "b v", "bob 1").await, "1");
    assert_eq!(eval(redis, script!("unblock"), "b v", "bob 1").await, "1", "again");
    assert_eq!(stance().await, "0 0 2");
    assert_eq!(eval(redis, script!("deny_invites"), "bar v", "5000").await, "3");
    assert_eq!(eval(redis, script!("allow_invites"), "bar v", "2").await, "0", "late");
    let barred: Vec<u64> = stance().await.split(' ').map(|number| number.parse().unwrap()).collect();
    assert!(barred[0] == 0 && (3000..=5000).contains(&barred[1]) && barred[2] == 3, "{barred:?}");
    assert_eq!(eval(redis, script!("allow_invites"), "bar v", "3").await, "1");
    assert_eq!(stance().await, "0 0 3");
}

#[tokio::test]
async fn scripts_of_edges() {
    let redis = &Redis::start().await;
    for (what, new) in [("x", "1"), ("x", "0"), ("y", "1")] {
        assert_eq!(eval(redis, script!("register"), "e c n1", &format!("edge-1 {what}")).await, new);
    }
    assert_eq!(run(redis, "HGET c edge-1").await, "2");
    run(redis, "ZADD e 5 edge-1 7 edge-3").await;
    let says = async |process: &str, term: u64| {
        eval(redis, script!("edge_alive"), "e c m", &format!("edge-2 1000 {process} {term}")).await
    };
    let alive = async |process: &str| says(process, 1).await;
    let first = alive("a").await;
    assert!(first.ends_with(" 0 edge-1 5 silent noted edge-3 7 silent bare"), "{first}");
    let (now, _) = first.split_once(' ').unwrap();
    assert!(alive("a").await.split(' ').nth(1) == Some(now), "when it said so before");
    assert_eq!(run(redis, "HGET m edge-2").await, "a.1 2", "it says so again and again");
    assert_eq!(says("a", 0).await, "lapsed", "it goes on under a later term");
    assert_eq!(run(redis, "HGET m edge-2").await, "a.1 2", "and nothing is changed");
    run(redis, "ZADD e 6 edge-2").await;
    assert_eq!(alive("b").await, "", "another process has the name");
    assert_eq!(run(redis, "ZSCORE e edge-2").await, "6", "and nothing is changed");
    run(redis, "ZADD e 99999999999999 edge-3").await;
    assert!(alive("a").await.ends_with(" heard bare"), "its silence begins now");
    assert_eq!(run(redis, "ZSCORE e edge-3").await.len(), 13);
    assert_eq!(
        eval(redis, script!("forget_edge"), "e c m t1", "edge-3 7 _").await,
        "0",
        "it has said something"
    );
    run(redis, "ZADD e 7 edge-3").await;
    redis.command(&["HSET", "m", "edge-3", "new 0"]).await.unwrap();
    assert!(alive("a").await.ends_with(" edge-3 7 silent bare new 0"));
    let forget = async |record: &str| {
        let (_, source) = script!("forget_edge");
        let call = ["EVAL", source, "4", "e", "c", "m", "t1", "edge-3", "7", record];
        (redis.command(&call).await.unwrap(), run(redis, "HGET m edge-3").await)
    };
    assert_eq!(forget("old 5").await, ("1".to_owned(), "new 0".to_owned()), "another process's by now");
    assert_eq!(forget("").await, ("1".to_owned(), "new 0".to_owned()), "nobody had it");
    assert_eq!(forget("new 0").await, ("1".to_owned(), String::new()));
    let (claim, release) = (script!("claim_edge"), script!("release_edge"));
    assert_eq!(eval(redis, claim, "m", "edge-2 b _").await, "a.1 4");
    assert_eq!(redis.command(&["EVAL", claim.1, "1", "m", "edge-2", "b", "a.1 3"]).await.unwrap(), "a.1 4");
    assert_eq!(redis.command(&["EVAL", claim.1, "1", "m", "edge-2", "b", "a.1 4"]).await.unwrap(), "b 0");
    assert_eq!(eval(redis, release, "m", "edge-2 a").await, "0");
    assert_eq!(eval(redis, release, "m", "edge-2 b").await, "1");
    assert_eq!(eval(redis, release, "m", "edge-2 b").await, "0");
    run(redis, "ZADD e 5 edge-1").await;
    eval(redis, script!("register"), "e c n1", "edge-1 x").await;
    assert_eq!(
        eval(redis, script!("unregister"), "e c n1 t1", "edge-1 x 60000 0").await,
        "0",
        "a note is a sign of life"
    );
    assert_eq!(run(redis, "HGET c edge-1").await, "2");
    run(redis, "ZADD e 5 edge-1").await;
    for _ in 0..2 {
        eval(redis, script!("unregister"), "e c n1 t1", "edge-1 x 60000 0").await;
        eval(redis, script!("forget_edge"), "e c m t1", "edge-1 5 _").await;
    }
    assert_eq!(run(redis, "HGET c edge-1").await, "1");
    // A chat has a token, which a note that is made again doesn't share.
    for token in ["1", "2"] {
        assert_eq!(eval(redis, script!("register_sender"), "e c n1 t1 last", "edge-1 y").await, token);
    }
    assert_eq!(run(redis, "HGET c edge-1").await, "1");
    for stale in ["0", "1"] {
        let forgotten = eval(redis, script!("unregister"), "e c n1 t1", &format!("edge-1 y 0 {stale}")).await;
        assert_eq!(forgotten, "0");
    }
    eval(redis, script!("unregister"), "e c n1 t1", "edge-1 y 0 2").await;
    run(redis, "ZADD e 5 edge-1").await;
    eval(redis, script!("forget_edge"), "e c m t1", "edge-1 5 _").await;
    assert_eq!(run(redis, "EXISTS c n1 t1").await, "0");
    assert_eq!(run(redis, "ZRANGE e 0 -1").await, "edge-2");

    // Figures: those that have run out aren't given, and go with the next that come.
    assert_eq!(eval(redis, script!("reports"), "f", "_").await, "");
    eval(redis, script!("report"), "f", "edge-1 60000 {}").await;
    redis.command(&["HSET", "f", "gone", "5 {\"old\":1}"]).await.unwrap();
    assert_eq!(eval(redis, script!("reports"), "f", "_").await, "edge-1 {}");
    assert_eq!(run(redis, "HLEN f").await, "2");
    eval(redis, script!("report"), "f", "edge-1 60000 {\"new\":2}").await;
    assert_eq!(run(redis, "HKEYS f").await, "edge-1");
    assert_eq!(eval(redis, script!("reports"), "f", "_").await, "edge-1 {\"new\":2}");
    // The clock was set back: nobody's stay for longer than they would have.
    redis.command(&["HSET", "f", "back", "99999999999999 {}"]).await.unwrap();
    eval(redis, script!("report"), "f", "edge-1 60000 {}").await;
    assert_eq!(run(redis, "HGET f back").await.len(), "1700000000000 {}".len());
}

#[tokio::test]
async fn the_script_of_the_store_itself() {
    let redis = &Redis::start().await;
    let look = async |args: &str| {
        let answer = eval(redis, script!("same_store"), "store clock", args).await;
        answer.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(look("_ 0 0").await, [""], "it has no name");
    assert_eq!(look("one 7 7").await, [""]);
    run(redis, "SET store one").await;
    assert_eq!(look("other 7 7").await, ["one"], "another store");
    assert_eq!(run(redis, "EXISTS clock").await, "0", "and untouched");
    assert_eq!(look("_ 0 0").await, ["one", "1", "0", "0"]);
    // Once a second at most, however many look.
    run(redis, "HSET clock second 0").await;
    assert_eq!(look("one 1 0").await, ["one", "2", "0", "0"]);
    for _ in 0..50 {
        look("one 1 0").await;
    }
    let clock: u64 = run(redis, "HGET clock clock").await.parse().unwrap();
    assert!((2..=12).contains(&clock), "{clock}");
    // Behind what was seen by 100: at least that many seconds, and ten more, are skipped; once.
    run(redis, "HSET clock clock 500 lift 7").await;
    assert_eq!(look("one 600 3").await, ["one", "601", "11000007", "100"]);
    let again = look("one 600 3").await;
    assert_eq!((again[2].as_str(), again[3].as_str()), ("11000007", "0"));
    // An edge may know of a lift that the copy doesn't.
    run(redis, "HSET clock clock 500 lift 0").await;
    assert_eq!(look("one 501 11000007").await[2..], ["12100007", "1"]);
}

#[tokio::test]
async fn scripts_of_the_audit_log() {
    let redis = &Redis::start().await;
    let audit = script!("audit");
    assert_eq!(eval(redis, audit, "c a", "_ _ 2 0 1").await, " 0", "nothing is written, nothing is there");
    assert_eq!(run(redis, "EXISTS c a").await, "0");
    // The clock was set back since: behind the newest of both all the same.
    run(redis, "XADD a 99999999999999-7 e old").await;
    assert_eq!(eval(redis, audit, "c a", "changes one 2 1000 1").await, "99999999999999-8 1");
    assert_eq!(eval(redis, audit, "c a", "attempts two 2 1000 1").await, "99999999999999-9 1");
    assert_eq!(run(redis, "XLEN a").await, "1", "the newest attempt alone");
    run(redis, "DEL c a").await;
    for n in 1..=5 {
        run(redis, &format!("XADD c {n}-0 e old")).await;
    }
    let answer = eval(redis, audit, "c a", "changes new 2 1000 1").await;
    assert!(answer.ends_with(" 2"), "the old ones are too many: {answer}");
    let answer = eval(redis, audit, "c a", "changes new 2 9007199254740991 1").await;
    assert!(answer.ends_with(" 3"), "nothing is as old as that: {answer}");
}

#[test]
fn every_script_has_its_test() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/lua");
    let files = std::fs::read_dir(folder).unwrap();
    let names: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    for name in names {
        let here = format!("script!(\"{}\")", name.strip_suffix(".lua").expect("a folder of scripts"));
        let tests = [
            include_str!("scripts.rs"),
            include_str!("scripts/devices.rs"),
            include_str!("scripts/members.rs"),
            include_str!("scripts/messages.rs"),
            include_str!("scripts/quota.rs"),
        ];
        assert!(tests.iter().any(|tests| tests.contains(&here)), "{name}");
    }
}
