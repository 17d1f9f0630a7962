//! The scripts of devices, sessions and terminations.

use super::{eval, run};
use crate::support::Redis;

const DEVICE: &str = "0b1c2d3e00004000800000000000000a";

#[tokio::test]
async fn scripts_of_devices() {
    let redis = &Redis::start().await;
    let register = script!("register_device");
    let args = |step: &str, kind: &str, most: u32| format!("{step} {DEVICE} {kind} {most} name web 5 7 9");
    assert_eq!(eval(redis, register, "d i g", &args("write", "sub", 5)).await, "lost", "no mark");
    assert_eq!(eval(redis, register, "d i g", &args("intend", "sub", 0)).await, "full");
    assert_eq!(run(redis, "EXISTS d i").await, "0", "a refusal changes nothing");
    assert_eq!(eval(redis, register, "d i g", &args("intend", "sub", 5)).await, "ok");
    assert_eq!(run(redis, "EXISTS d i").await, "1");
    assert_eq!(eval(redis, register, "d i g", &args("write", "sub", 5)).await, "ok 2");
    assert_eq!(run(redis, "EXISTS d i").await, "1", "the mark is used up");
    let again = eval(redis, register, "d i g", &args("intend", "sub", 0)).await;
    assert!(
        again.starts_with("existing ")
            && again.contains(" sub name web 5 5 registering 2 0 ")
            && again.ends_with(" 7 "),
        "{again}"
    );
    assert_eq!(eval(redis, register, "d i g", &args("intend", "main", 5)).await, "other_kind");
    // Each begins with a generation that none of the user had before.
    run(redis, &format!("HDEL d {DEVICE}.kind")).await;
    eval(redis, register, "d i g", &args("intend", "sub", 5)).await;
    assert_eq!(eval(redis, register, "d i g", &args("write", "sub", 5)).await, "ok 3");
    // As an older build would have begun it.
    run(redis, &format!("HSET d {DEVICE}.generation 1")).await;

    assert_eq!(eval(redis, script!("claim_device"), "o", "alice").await, "1");
    assert_eq!(eval(redis, script!("claim_device"), "o", "alice").await, "1");
    assert_eq!(eval(redis, script!("claim_device"), "o", "bob").await, "0");

    assert_eq!(run(redis, &format!("HGET d {DEVICE}.warned")).await, "9", "since when it registers");
    let open = |generation: u32, after: u32| format!("{DEVICE} {generation} edge-1 p.0 {after} 1000 250");
    assert_eq!(eval(redis, script!("open_session"), "nobody", &open(1, 0)).await, "");
    assert_eq!(eval(redis, script!("open_session"), "d", &open(1, 0)).await, "inactive");
    assert_eq!(eval(redis, script!("activate_device"), "d", DEVICE).await, "1");
    assert_eq!(eval(redis, script!("activate_device"), "nobody", DEVICE).await, "0");
    assert_eq!(eval(redis, script!("open_session"), "d", &open(0, 0)).await, "terminated");
    assert!(eval(redis, script!("open_session"), "d", &open(1, 0)).await.starts_with("1  0 "));
    assert_eq!(eval(redis, script!("open_session"), "d", &open(1, 0)).await, "changed 1 edge-1");
    assert_eq!(
        eval(redis, script!("open_session"), "d", &open(1, 0).replace(" 1000", " 750")).await,
        "changed 1 edge-1"
    );
    for after in [0, 1] {
        let older = open(1, after).replace(" 1000", " 749");
        assert_eq!(eval(redis, script!("open_session"), "d", &older).await, "late 1 edge-1");
    }
    assert!(eval(redis, script!("open_session"), "d", &open(1, 1)).await.starts_with("2 edge-1 1 "));
    assert_eq!(run(redis, &format!("HMGET d {DEVICE}.incarnation {DEVICE}.until")).await, "p.0 ");
    let confirm =
        |session: u64, there: &str, revive: &str| format!("{DEVICE} {session} edge-1 p.0 {there} {revive}");
    let confirmed = script!("confirm_session");
    let there = async || run(redis, &format!("HGET d {DEVICE}.there")).await;
    assert_eq!(eval(redis, confirmed, "d", &confirm(1, "there", "revive")).await, "newer");
    assert_eq!(eval(redis, confirmed, "d", &confirm(2, "_", "_")).await, "held");
    assert_eq!(there().await, "", "it isn't confirmed");
    assert_eq!(eval(redis, confirmed, "d", &confirm(2, "there", "_")).await, "held");
    assert_eq!(there().await, "2");
    assert_eq!(eval(redis, confirmed, "d", &confirm(3, "_", "_")).await, "", "an older copy");
    assert_eq!(eval(redis, confirmed, "nobody", &confirm(2, "_", "_")).await, "");
    let over = |session: u64, incarnation: &str, last: u64| {
        format!("{DEVICE} {session} edge-1 {incarnation} {last}")
    };
    assert_eq!(eval(redis, script!("expire_session"), "d", &over(2, "p.1", 0)).await, "", "another life's");
    let seen = run(redis, &format!("HGET d {DEVICE}.seen")).await.parse::<u64>().unwrap();
    let expired = eval(redis, script!("expire_session"), "d", &over(2, "p.0", seen - 9)).await;
    assert_eq!(expired, seen.to_string(), "it was seen later than its edge was heard of");
    run(redis, &format!("HSET d {DEVICE}.edge edge-1 {DEVICE}.incarnation p.0 {DEVICE}.seen 5")).await;
    assert_eq!(eval(redis, script!("expire_session"), "d", &over(2, "p.0", 77)).await, "77");
    assert_eq!(run(redis, &format!("HMGET d {DEVICE}.edge {DEVICE}.seen")).await, " 77");
    run(redis, &format!("HSET d {DEVICE}.expires 5 {DEVICE}.warned 5")).await;
    let before = run(redis, "HGETALL d").await;
    assert_eq!(eval(redis, confirmed, "d", &confirm(2, "there", "_")).await, "released");
    assert_eq!(run(redis, "HGETALL d").await, before, "nothing is changed");
    assert_eq!(eval(redis, confirmed, "d", &confirm(2, "_", "revive")).await, "held");
    assert_eq!(
        run(redis, &format!("HMGET d {DEVICE}.edge {DEVICE}.incarnation {DEVICE}.expires {DEVICE}.warned"))
            .await,
        "edge-1 p.0  "
    );
    assert_eq!(eval(redis, script!("close_session"), "d", &format!("{DEVICE} 1")).await, "0");
    assert_eq!(eval(redis, script!("close_session"), "d", &format!("{DEVICE} 2")).await, "1");
    assert_eq!(eval(redis, script!("close_session"), "d", &format!("{DEVICE} 2")).await, "0");
    assert_eq!(run(redis, &format!("HGET d {DEVICE}.session")).await, "3", "used up");
    assert_eq!(eval(redis, confirmed, "d", &confirm(2, "_", "revive")).await, "newer");
    assert_eq!(eval(redis, script!("expire_session"), "d", &over(2, "p.0", 0)).await.len(), 13, "given back");
    run(redis, &format!("HSET d {DEVICE}.session 2")).await;

    run(redis, &format!("HSET d {DEVICE}.seen 5")).await;
    let (lapse, warn, expire) = (script!("expire_session"), script!("warn_device"), script!("expire_device"));
    // As an older build registered it.
    let of = |session: u64| format!("{DEVICE} {session} e _ 0");
    assert_eq!(eval(redis, lapse, "d", &of(2)).await, "coming", "it may be taken again");
    assert_eq!(eval(redis, lapse, "d", &of(3)).await, "coming", "its number may be given yet");
    assert_eq!(eval(redis, lapse, "nobody", &of(2)).await, "");
    run(redis, &format!("HSET d {DEVICE}.edge e {DEVICE}.until 99999999999999")).await;
    assert_eq!(eval(redis, lapse, "d", &of(1)).await, "", "another's");
    assert_eq!(eval(redis, lapse, "d", &format!("{DEVICE} 2 f _ 0")).await, "", "another edge's");
    assert_eq!(eval(redis, lapse, "d", &of(2)).await, "held");
    let is_left_alone = async || {
        assert_eq!(eval(redis, warn, "d", &format!("{DEVICE} 5 9 100")).await, "0", "online");
        assert_eq!(eval(redis, expire, "d", &format!("{DEVICE} active 5 200 60")).await, "0", "online");
    };
    is_left_alone().await;
    run(redis, &format!("HSET d {DEVICE}.until 7 {DEVICE}.incarnation p.0")).await;
    is_left_alone().await;
    run(redis, &format!("HDEL d {DEVICE}.incarnation")).await;
    assert_eq!(eval(redis, warn, "d", &format!("{DEVICE} 4 9 100")).await, "0", "seen since");
    assert_eq!(eval(redis, warn, "d", &format!("{DEVICE} 5 9 100")).await, "1");
    assert_eq!(eval(redis, warn, "d", &format!("{DEVICE} 5 9 101")).await, "0");
    assert_eq!(run(redis, &format!("HMGET d {DEVICE}.edge {DEVICE}.until {DEVICE}.expires")).await, "  9");
    run(redis, &format!("HSET d {DEVICE}.edge e {DEVICE}.until 7")).await;
    assert_eq!(eval(redis, lapse, "d", &of(2)).await, "5");
    assert_eq!(eval(redis, lapse, "d", &of(2)).await, "coming", "once");
    // A lease that begins in the future: the clock was set back.
    run(redis, &format!("HSET d {DEVICE}.edge e {DEVICE}.seen 99999999990000 {DEVICE}.until 99999999996000"))
        .await;
    assert_eq!(eval(redis, lapse, "d", &of(2)).await, "held");
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

    assert_eq!(eval(redis, script!("tombstone_device"), "o", "bob t1").await, "");
    assert_eq!(eval(redis, script!("tombstone_device"), "o", "alice t1").await, "t1");
    assert_eq!(eval(redis, script!("tombstone_device"), "o", "alice t2").await, "t1");
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
    let enlist = script!("enlist");
    assert_eq!(eval(redis, enlist, "todo", "an-end").await, "1");
    assert_eq!(eval(redis, enlist, "todo", "an-end").await, "0", "once is enough");
    assert_eq!(run(redis, "SMEMBERS todo").await, "an-end");
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
    assert_eq!(eval(redis, register, "d i g", &args("intend", "sub", 5)).await, "ending");
    eval(redis, script!("fence_device"), "from fence", DEVICE).await;
    assert_eq!(run(redis, "EXISTS fence").await, "0", "nothing is owed there");
    run(redis, &format!("HSET from {DEVICE} 3")).await;
    eval(redis, script!("fence_device"), "from fence", DEVICE).await;
    assert_eq!(run(redis, &format!("HGET fence {DEVICE}")).await, (1u64 << 53).to_string());
}
