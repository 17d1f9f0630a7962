//! Each Lua script alone, by EVAL, on keys of the test's own: what it answers and what it leaves.

use std::collections::BTreeSet;

use crate::support::Redis;

macro_rules! script {
    ($name:literal) => {
        ($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/lua/", $name, ".lua")))
    };
}

mod members;

/// Runs a script. Keys and arguments are given as text, parted by spaces; `_` is an empty one.
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

const DEVICE: &str = "0b1c2d3e00004000800000000000000a";

#[tokio::test]
async fn scripts_of_devices() {
    let redis = &Redis::start().await;
    let register = script!("register_device");
    let args = |step: &str, kind: &str, most: u32| format!("{step} {DEVICE} {kind} {most} name web 5 7 9");
    assert_eq!(eval(redis, register, "d i", &args("write", "sub", 5)).await, "lost", "no mark");
    assert_eq!(eval(redis, register, "d i", &args("intend", "sub", 0)).await, "full");
    assert_eq!(run(redis, "EXISTS d i").await, "0", "a refusal changes nothing");
    assert_eq!(eval(redis, register, "d i", &args("intend", "sub", 5)).await, "ok");
    assert_eq!(run(redis, "EXISTS d i").await, "1");
    assert_eq!(eval(redis, register, "d i", &args("write", "sub", 5)).await, "ok");
    assert_eq!(run(redis, "EXISTS d i").await, "1", "the mark is used up");
    let again = eval(redis, register, "d i", &args("intend", "sub", 0)).await;
    assert!(
        again.starts_with("existing ")
            && again.contains(" sub name web 5 5 registering 1 0 ")
            && again.ends_with(" 7"),
        "{again}"
    );
    assert_eq!(eval(redis, register, "d i", &args("intend", "main", 5)).await, "other_kind");

    assert_eq!(eval(redis, script!("claim_device"), "o", "alice").await, "1");
    assert_eq!(eval(redis, script!("claim_device"), "o", "alice").await, "1");
    assert_eq!(eval(redis, script!("claim_device"), "o", "bob").await, "0");

    assert_eq!(run(redis, &format!("HGET d {DEVICE}.warned")).await, "9", "since when it registers");
    let open = |generation: u32, after: u32| format!("{DEVICE} {generation} edge-1 5000 {after} 1000");
    assert_eq!(eval(redis, script!("open_session"), "nobody", &open(1, 0)).await, "");
    assert_eq!(eval(redis, script!("open_session"), "d", &open(1, 0)).await, "inactive");
    assert_eq!(eval(redis, script!("activate_device"), "d", DEVICE).await, "1");
    assert_eq!(eval(redis, script!("activate_device"), "nobody", DEVICE).await, "0");
    assert_eq!(eval(redis, script!("open_session"), "d", &open(0, 0)).await, "terminated");
    assert!(eval(redis, script!("open_session"), "d", &open(1, 0)).await.starts_with("1  0 "));
    assert_eq!(eval(redis, script!("open_session"), "d", &open(1, 0)).await, "changed");
    assert_eq!(
        eval(redis, script!("open_session"), "d", &open(1, 0).replace(" 1000", " 750")).await,
        "changed"
    );
    for after in [0, 1] {
        let older = open(1, after).replace(" 1000", " 749");
        assert_eq!(eval(redis, script!("open_session"), "d", &older).await, "late");
    }
    assert!(eval(redis, script!("open_session"), "d", &open(1, 1)).await.starts_with("2 edge-1 1 "));
    let renew =
        |session: u64, there: &str, revive: &str| format!("{DEVICE} {session} 5000 edge-1 {there} {revive}");
    assert_eq!(eval(redis, script!("renew_session"), "d", &renew(1, "_", "_")).await, "unconfirmed");
    assert_eq!(eval(redis, script!("renew_session"), "d", &renew(2, "_", "_")).await, "held");
    assert_eq!(eval(redis, script!("renew_session"), "d", &renew(1, "there", "revive")).await, "unconfirmed");
    assert_eq!(eval(redis, script!("renew_session"), "d", &renew(2, "there", "_")).await, "held");
    assert_eq!(eval(redis, script!("renew_session"), "d", &renew(1, "_", "_")).await, "replaced");
    assert_eq!(eval(redis, script!("renew_session"), "d", &renew(3, "_", "_")).await, "", "an older copy");
    assert_eq!(eval(redis, script!("renew_session"), "nobody", &renew(2, "_", "_")).await, "");
    run(redis, &format!("HSET d {DEVICE}.until 5")).await;
    assert_eq!(eval(redis, script!("lapse_session"), "d", &format!("{DEVICE} 2")).await.len(), 13);
    run(redis, &format!("HSET d {DEVICE}.expires 5 {DEVICE}.warned 5")).await;
    let before = run(redis, "HGETALL d").await;
    assert_eq!(eval(redis, script!("renew_session"), "d", &renew(2, "_", "_")).await, "lapsed");
    assert_eq!(run(redis, "HGETALL d").await, before, "nothing is changed");
    assert_eq!(eval(redis, script!("renew_session"), "d", &renew(2, "_", "revive")).await, "held");
    assert_eq!(
        run(redis, &format!("HMGET d {DEVICE}.edge {DEVICE}.expires {DEVICE}.warned")).await,
        "edge-1  "
    );
    assert_eq!(eval(redis, script!("close_session"), "d", &format!("{DEVICE} 1")).await, "0");
    assert_eq!(eval(redis, script!("close_session"), "d", &format!("{DEVICE} 2")).await, "1");
    assert_eq!(eval(redis, script!("close_session"), "d", &format!("{DEVICE} 2")).await, "0");
    assert_eq!(run(redis, &format!("HGET d {DEVICE}.session")).await, "3", "used up");
    assert_eq!(eval(redis, script!("renew_session"), "d", &renew(2, "_", "revive")).await, "unconfirmed");
    assert_eq!(
        eval(redis, script!("lapse_session"), "d", &format!("{DEVICE} 2")).await.len(),
        13,
        "given back"
    );
    run(redis, &format!("HSET d {DEVICE}.session 2")).await;

    run(redis, &format!("HSET d {DEVICE}.seen 5")).await;
    let (lapse, warn, expire) = (script!("lapse_session"), script!("warn_device"), script!("expire_device"));
    assert_eq!(eval(redis, lapse, "d", &format!("{DEVICE} 2")).await, "", "given back");
    run(redis, &format!("HSET d {DEVICE}.edge e {DEVICE}.until 99999999999999")).await;
    assert_eq!(eval(redis, lapse, "d", &format!("{DEVICE} 1")).await, "", "another's");
    assert_eq!(eval(redis, lapse, "d", &format!("{DEVICE} 2")).await, "held");
    assert_eq!(eval(redis, warn, "d", &format!("{DEVICE} 5 9 100")).await, "0", "online");
    assert_eq!(eval(redis, expire, "d", &format!("{DEVICE} active 5 200 60")).await, "0", "online");
    run(redis, &format!("HSET d {DEVICE}.until 7")).await;
    assert_eq!(eval(redis, warn, "d", &format!("{DEVICE} 4 9 100")).await, "0", "seen since");
    assert_eq!(eval(redis, warn, "d", &format!("{DEVICE} 5 9 100")).await, "1");
    assert_eq!(eval(redis, warn, "d", &format!("{DEVICE} 5 9 101")).await, "0");
    assert_eq!(run(redis, &format!("HMGET d {DEVICE}.edge {DEVICE}.until {DEVICE}.expires")).await, "  9");
    run(redis, &format!("HSET d {DEVICE}.edge e {DEVICE}.until 7")).await;
    assert_eq!(eval(redis, lapse, "d", &format!("{DEVICE} 2")).await, "5");
    assert_eq!(eval(redis, lapse, "d", &format!("{DEVICE} 2")).await, "", "once");
    // A lease that begins in the future: the clock was set back.
    run(redis, &format!("HSET d {DEVICE}.edge e {DEVICE}.seen 99999999990000 {DEVICE}.until 99999999996000"))
        .await;
    assert_eq!(eval(redis, lapse, "d", &format!("{DEVICE} 2")).await, "held");
    let set = run(redis, &format!("HMGET d {DEVICE}.seen {DEVICE}.until")).await;
    let (seen, until) = set.split_once(' ').unwrap();
    assert_eq!(until.parse::<u64>().unwrap() - seen.parse::<u64>().unwrap(), 6000, "as long, from now on");
    run(redis, &format!("HDEL d {DEVICE}.edge {DEVICE}.until")).await;
    run(redis, &format!("HSET d {DEVICE}.seen 5")).await;
    let gone = |state: &str, seen: u64, clock: u64| format!("{DEVICE} {state} {seen} {clock} 60");
    assert_eq!(eval(redis, expire, "d", &gone("registering", 5, 200)).await, "0", "in another state");
    assert_eq!(eval(redis, expire, "d", &gone("active", 4, 200)).await, "0", "seen since");
    assert_eq!(eval(redis, expire, "d", &gone("active", 5, 159)).await, "0", "too soon after the warning");
    assert_eq!(eval(redis, expire, "d", &gone("active", 5, 160)).await, "1");
    assert_eq!(run(redis, &format!("HMGET d {DEVICE}.state {DEVICE}.generation")).await, "terminating 2");
    run(redis, &format!("HSET d {DEVICE}.state active {DEVICE}.generation 1")).await;
    run(redis, "ZADD due 7 x 3 y 99999999999999 z").await;
    assert!(eval(redis, script!("due_devices"), "due", "9").await.ends_with(" y x"));
    assert!(eval(redis, script!("due_devices"), "due", "1").await.ends_with(" y"));

    assert_eq!(eval(redis, script!("entomb_device"), "o", "bob t1").await, "");
    assert_eq!(eval(redis, script!("entomb_device"), "o", "alice t1").await, "t1");
    assert_eq!(eval(redis, script!("entomb_device"), "o", "alice t2").await, "t1");
    assert_eq!(eval(redis, script!("claim_device"), "o", "alice").await, "0");
    let record = |state: &str, lines: &str| {
        format!("{{\"state\":\"{state}\",\"receipt\":{{\"channels\":[{lines}]}}}}")
    };
    let save = async |state: &str, lines: &str| {
        let count = lines.split(',').filter(|line| !line.is_empty()).count();
        let kept = if state == "done" { 9000 } else { 0 };
        eval(
            redis,
            script!("save_termination"),
            "t",
            &format!("{} {state} {count} {kept}", record(state, lines)),
        )
        .await
    };
    for (state, lines, stands) in [
        ("accepted", "", "accepted"),
        ("pending", "1,2", "pending"),
        ("accepted", "1,2,3", "pending"),
        ("pending", "1", "pending"),
        ("pending", "1,2,3", "pending"),
        ("done", "", "done"),
        ("pending", "1,2,3,4", "done"),
    ] {
        assert_eq!(save(state, lines).await, stands);
        let written = run(redis, "GET t").await == record(state, lines);
        assert_eq!(written, !matches!((state, lines), ("accepted", "1,2,3") | ("pending", "1" | "1,2,3,4")));
    }
    assert!(run(redis, "PTTL t").await.parse::<u64>().unwrap() <= 9000);
    for _ in 0..2 {
        eval(redis, script!("end_device"), "d", DEVICE).await;
        eval(redis, script!("end_device"), "nobody", DEVICE).await;
    }
    assert_eq!(run(redis, &format!("HMGET d {DEVICE}.state {DEVICE}.generation")).await, "terminating 2");
    assert_eq!(run(redis, "EXISTS nobody").await, "0");
    assert_eq!(eval(redis, register, "d i", &args("intend", "sub", 5)).await, "ending");
    eval(redis, script!("bar_device"), "from fence", DEVICE).await;
    assert_eq!(run(redis, "EXISTS fence").await, "0", "nothing is owed there");
    run(redis, &format!("HSET from {DEVICE} 3")).await;
    eval(redis, script!("bar_device"), "from fence", DEVICE).await;
    assert_eq!(run(redis, &format!("HGET fence {DEVICE}")).await, (1u64 << 53).to_string());
}

#[tokio::test]
async fn scripts_of_links() {
    let redis = &Redis::start().await;
    let (open, decide, settle) = (script!("open_link"), script!("decide_link"), script!("settle_link"));
    let new = |link: &str, most: u32| format!("{link} 5000 9000 {most} C d name web alice");
    assert_eq!(eval(redis, open, "l1 c1 o", &new("1", 0)).await, "full");
    assert_eq!(run(redis, "EXISTS l1 c1 o").await, "0", "a refusal changes nothing");
    assert_eq!(eval(redis, open, "l1 c1 o", &new("1", 1)).await, "opened");
    assert_eq!(eval(redis, open, "l1 c1 o", &new("1", 1)).await, "opened");
    assert_eq!(eval(redis, open, "l2 c2 o", &new("2", 1)).await, "full");
    assert_eq!(eval(redis, open, "l2 c1 o", &new("2", 2)).await, "taken");
    let kept = async |keys: &[&str]| {
        for key in keys {
            let left: i64 = run(redis, &format!("PTTL {key}")).await.parse().unwrap();
            assert!((1..=9000).contains(&left), "{key} stays for {left}");
        }
    };
    kept(&["l1", "c1", "o"]).await;
    assert_eq!(eval(redis, decide, "nobody o", "0 alice main approving 3 dev").await, "");
    assert_eq!(eval(redis, decide, "l1 o", "1 bob main approving 3 dev").await, "", "bound to alice");
    assert_eq!(eval(redis, decide, "l1 o", "1 alice main approving 3 dev").await, "dev");
    assert_eq!(run(redis, "EXISTS o").await, "0", "it doesn't wait any more");
    assert_eq!(eval(redis, decide, "l1 o", "1 alice main approving 3 other").await, "dev");
    assert_eq!(eval(redis, decide, "l1 o", "1 alice main refused 3 other").await, "otherwise");
    assert_eq!(eval(redis, settle, "l1 o", "1 other pending").await, "0");
    assert_eq!(eval(redis, settle, "l1 o", "1 dev pending").await, "1");
    assert_eq!(run(redis, "ZRANGE o 0 -1").await, "1");
    // What comes back into the list takes it away with it again.
    kept(&["l1", "c1", "o"]).await;
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
    let typing = script!("tell_typing");
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
    assert_eq!(eval(redis, script!("swap"), "k", "_ one").await, "one");
    assert_eq!(eval(redis, script!("swap"), "k", "_ two").await, "one");
    assert_eq!(eval(redis, script!("swap"), "k", "one two").await, "two");
    assert_eq!(eval(redis, script!("release"), "k", "one").await, "0");
    assert_eq!(eval(redis, script!("release"), "k", "two").await, "1");
    assert_eq!(eval(redis, script!("take_work"), "w", "a 5000").await, "1");
    assert_eq!(eval(redis, script!("take_work"), "w", "b 5000").await, "0");
    assert_eq!(eval(redis, script!("count"), "c", "5000").await, "1");
    run(redis, "PEXPIRE c 4000").await;
    assert_eq!(eval(redis, script!("count"), "c", "900000").await, "2");
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
async fn scripts_of_edges() {
    let redis = &Redis::start().await;
    for chat in ["x", "x", "y"] {
        eval(redis, script!("note"), "e c n1", &format!("edge-1 {chat}")).await;
    }
    assert_eq!(run(redis, "HGET c edge-1").await, "2");
    run(redis, "ZADD e 5 edge-1 7 edge-3").await;
    let alive = async |incarnation: &str| {
        eval(redis, script!("edge_alive"), "e c m", &format!("edge-2 1000 {incarnation}")).await
    };
    assert_eq!(alive("a").await, "edge-1 5 silent noted edge-3 7 silent bare");
    alive("a").await;
    assert_eq!(run(redis, "HGET m edge-2").await, "a 2", "it says so again and again");
    run(redis, "ZADD e 6 edge-2").await;
    assert_eq!(alive("b").await, "", "another process has the name");
    assert_eq!(run(redis, "ZSCORE e edge-2").await, "6", "and nothing is changed");
    run(redis, "ZADD e 99999999999999 edge-3").await;
    assert!(alive("a").await.ends_with(" heard bare"), "its silence begins now");
    assert_eq!(run(redis, "ZSCORE e edge-3").await.len(), 13);
    assert_eq!(
        eval(redis, script!("forget_edge"), "e c m t1", "edge-3 7").await,
        "0",
        "it has said something"
    );
    run(redis, "ZADD e 7 edge-3").await;
    assert_eq!(eval(redis, script!("forget_edge"), "e c m t1", "edge-3 7").await, "1");
    let (claim, release) = (script!("claim_edge"), script!("release_edge"));
    assert_eq!(eval(redis, claim, "m", "edge-2 b _").await, "a 3");
    assert_eq!(redis.command(&["EVAL", claim.1, "1", "m", "edge-2", "b", "a 2"]).await.unwrap(), "a 3");
    assert_eq!(redis.command(&["EVAL", claim.1, "1", "m", "edge-2", "b", "a 3"]).await.unwrap(), "b 0");
    assert_eq!(eval(redis, release, "m", "edge-2 a").await, "0");
    assert_eq!(eval(redis, release, "m", "edge-2 b").await, "1");
    assert_eq!(eval(redis, release, "m", "edge-2 b").await, "0");
    run(redis, "ZADD e 5 edge-1").await;
    eval(redis, script!("note"), "e c n1", "edge-1 x").await;
    assert_eq!(
        eval(redis, script!("forget_note"), "e c n1 t1", "edge-1 x 60000 0").await,
        "0",
        "a note is a sign of life"
    );
    assert_eq!(run(redis, "HGET c edge-1").await, "2");
    run(redis, "ZADD e 5 edge-1").await;
    for _ in 0..2 {
        eval(redis, script!("forget_note"), "e c n1 t1", "edge-1 x 60000 0").await;
        eval(redis, script!("forget_edge"), "e c m t1", "edge-1 5").await;
    }
    assert_eq!(run(redis, "HGET c edge-1").await, "1");
    // A chat has a token, which a note that is made again doesn't share.
    for token in ["1", "2"] {
        assert_eq!(eval(redis, script!("note_chat"), "e c n1 t1 last", "edge-1 y").await, token);
    }
    assert_eq!(run(redis, "HGET c edge-1").await, "1");
    for stale in ["0", "1"] {
        let forgotten =
            eval(redis, script!("forget_note"), "e c n1 t1", &format!("edge-1 y 0 {stale}")).await;
        assert_eq!(forgotten, "0");
    }
    eval(redis, script!("forget_note"), "e c n1 t1", "edge-1 y 0 2").await;
    run(redis, "ZADD e 5 edge-1").await;
    eval(redis, script!("forget_edge"), "e c m t1", "edge-1 5").await;
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
async fn scripts_of_messages() {
    let redis = &Redis::start().await;
    let keys = |key: &str| format!("meta members {key} log outbox k0 k1");
    let args = "alice 77 5 {\"seq\": ,\"x\":1} 60000 bell 0 100 a:k";
    assert_eq!(eval(redis, script!("append"), &keys("k"), args).await, "", "no chat");
    run(redis, "HSET meta head 0 node n1").await;
    assert_eq!(eval(redis, script!("append"), &keys("k"), args).await, "", "no member");
    run(redis, "HSET members alice 0").await;
    assert_eq!(eval(redis, script!("append"), &keys("k"), args).await, "1 n1 0");
    assert_eq!(eval(redis, script!("append"), &keys("k"), args).await, "1 5 77");
    assert_eq!(run(redis, "XRANGE log - +").await, "1-0 m {\"seq\":1,\"x\":1}");
    // What an older build has kept is known, too.
    run(redis, "SET old 0:5:77").await;
    assert_eq!(eval(redis, script!("append"), &keys("old"), &args.replace("a:k", "a:old")).await, "0:5:77");
    // The hashes of keys take turns: each is kept for a minute at least, and for two at most.
    let at = async |clock: u64, key: &str| {
        let args = format!("alice 77 5 {{\"seq\": ,\"x\":1}} 60000 bell 0 {clock} {key}");
        eval(redis, script!("append"), &keys("k"), &args).await
    };
    assert_eq!(run(redis, "HGET meta keyed").await, "0 100");
    for (clock, key, answer, keyed) in [
        (159, "b", "2 n1 0", "0 100"),
        (160, "c", "3 n1 0", "1 160"),
        (219, "b", "2 5 77", "1 160"),
        (219, "a:k", "1 5 77", "1 160"),
        (221, "d", "4 n1 0", "0 221"),
        (221, "b", "5 n1 0", "0 221"),
        (221, "c", "3 5 77", "0 221"),
        (400, "e", "6 n1 0", "1 400"),
        (400, "d", "7 n1 0", "1 400"),
        (399, "f", "8 n1 0", "1 400"),
    ] {
        assert_eq!(at(clock, key).await, answer, "{clock} {key}");
        assert_eq!(run(redis, "HGET meta keyed").await, keyed, "{clock} {key}");
    }
    assert_eq!(run(redis, "EXISTS k0 k1").await, "1");
    let trim = async |clock: u64| {
        let limits = format!("0 9 999 999 {clock} 60");
        eval(redis, script!("trim"), "meta log outbox ages cursor k0 k1", &limits).await;
        run(redis, "EXISTS k0 k1").await
    };
    assert_eq!((trim(519).await.as_str(), trim(520).await.as_str()), ("1", "0"));
    run(redis, "DEL log outbox ages").await;
    run(redis, "HSET meta head 0").await;
    assert_eq!(at(520, "a:k").await, "1 n1 0");
    assert_eq!(eval(redis, script!("log"), "meta log", "0 9 1").await, "1 1 1 {\"seq\":1,\"x\":1}");
    assert_eq!(eval(redis, script!("log"), "none none", "0 9 1").await, "0 ");
    for (reader, page) in
        [("alice 0", "1 1 1 {\"seq\":1,\"x\":1}"), ("bob 0", ""), ("alice 4", "1 1 1 {\"seq\":1,\"x\":1}")]
    {
        assert_eq!(eval(redis, script!("log"), "meta log members", &format!("0 9 1 {reader}")).await, page);
    }
    run(redis, "HSET members bob 1").await;
    assert_eq!(eval(redis, script!("log"), "meta log members", "0 9 1 bob 0").await, "", "since later");
    assert_eq!(eval(redis, script!("outbox"), "meta log outbox", "9 1").await, "n1 1 {\"seq\":1,\"x\":1}");
    assert_eq!(eval(redis, script!("outbox_size"), "meta log outbox", "").await, "n1 1 {\"seq\":1,\"x\":1}");
    assert_eq!(eval(redis, script!("outbox_size"), "none none none", "").await, " 0 ");
    let two = eval(redis, script!("append"), &keys("k"), &args.replace("a:k", "a:k2")).await;
    assert_eq!(two, "2 n1 0");
    let both = "n1 1 {\"seq\":1,\"x\":1} 2 {\"seq\":2,\"x\":1}";
    assert_eq!(eval(redis, script!("outbox"), "meta log outbox", "9 30").await, both);
    assert_eq!(eval(redis, script!("outbox"), "meta log outbox", "9 29").await, "n1 1 {\"seq\":1,\"x\":1}");
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
        assert_eq!(sent, format!("{} n1 0", head + 1));
        let page = eval(redis, script!("log"), "meta log", &format!("{} 9 99", head + 1)).await;
        let next = head + 1;
        assert_eq!(page, format!("{next} 1 {next} {{\"seq\":{next},\"x\":1}}"));
    }
    assert_eq!(run(redis, "HGET meta head").await, ((1u64 << 53) - 1).to_string());
    // Behind the frame, and counted, the epoch.
    run(redis, "HSET meta head 0 bytes 0 epoch 12").await;
    run(redis, "DEL log outbox").await;
    let args_of_e = args.replace("a:k", "a:e");
    assert_eq!(eval(redis, script!("append"), &keys("e"), &args_of_e).await, "1 n1 12");
    assert_eq!(run(redis, "XRANGE log - +").await, "1-0 m {\"seq\":1,\"x\":1} 12");
    assert_eq!(run(redis, "HGET meta bytes").await, "18");
    run(redis, "HDEL meta epoch").await;
    // An older copy was brought back: above all that may have been given, once.
    run(redis, "HSET meta head 20 bytes 0").await;
    run(redis, "DEL log outbox").await;
    let raised = |key: &str, lift: u64| {
        (keys(key), format!("alice 77 5 {{\"seq\": ,\"x\":1}} 60000 bell {lift} 520 {key}"))
    };
    for (key, lift, seq) in [
        ("l1", 1_000_000, "1000021"),
        ("l2", 1_000_000, "1000022"),
        ("l3", 5, "1000023"),
        ("l4", 1_000_001, "1000025"),
    ] {
        let (keys, args) = raised(key, lift);
        assert_eq!(eval(redis, script!("append"), &keys, &args).await, format!("{seq} n1 0"));
    }
    assert_eq!(run(redis, "HMGET meta lift bytes").await, "1000001 84");
    assert_eq!(eval(redis, script!("raise_head"), "meta", "1000020").await, "1000025");
    assert_eq!(eval(redis, script!("raise_head"), "meta", "1000030").await, "1000030");
    assert_eq!(eval(redis, script!("raise_head"), "none", "5").await, "0");
    assert_eq!(run(redis, "EXISTS none").await, "0");

    run(redis, "DEL log").await;
    assert_eq!(eval(redis, script!("outbox_size"), "meta log outbox", "").await, "n1 4 ");
    assert_eq!(eval(redis, script!("outbox"), "meta log outbox", "9 99").await, "n1");
    assert_eq!(run(redis, "EXISTS outbox").await, "0", "what the log lost can't be published any more");
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
async fn the_log_is_trimmed_by_its_marks() {
    let redis = &Redis::start().await;
    run(redis, "HSET meta head 0 node n1").await;
    run(redis, "HSET members alice 0").await;
    let trim = async |limits: &str| {
        let limits = format!("{limits} 0 86400");
        eval(redis, script!("trim"), "meta log outbox ages cursor k0 k1", &limits).await;
        let oldest = run(redis, "XRANGE log - + COUNT 1").await;
        oldest.split('-').next().unwrap().to_owned()
    };
    assert_eq!(trim("0 1 1 1").await, "");
    assert_eq!(run(redis, "EXISTS ages").await, "0", "of an empty log nothing is noted");
    for seq in 1..=128u64 {
        let args = format!("alice 77 5 0123456789 0123456789 60000 bell 0 0 k{seq}");
        let sent = eval(redis, script!("append"), "meta members none log outbox k0 k1", &args).await;
        assert_eq!(sent, format!("{seq} n1 0"));
        run(redis, "DEL outbox").await;
        if seq % 64 == 0 {
            assert_eq!(trim("128 128 99999 3600").await, "1");
        }
    }
    let mark = run(redis, "LINDEX ages 0").await;
    let mark: Vec<u64> = mark.split(' ').map(|part| part.parse().unwrap()).collect();
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

#[test]
fn every_script_has_its_test() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/lua");
    let files = std::fs::read_dir(folder).unwrap();
    let names: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    for name in names {
        let here = format!("script!(\"{}\")", name.strip_suffix(".lua").expect("a folder of scripts"));
        let tests = [include_str!("scripts.rs"), include_str!("scripts/members.rs")];
        assert!(tests.iter().any(|tests| tests.contains(&here)), "{name}");
    }
}
