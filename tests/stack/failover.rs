//! The address of Redis leads to a server that isn't the primary: it was demoted, loads its data, or lost its own
//! primary. The edge reports it, and heals as soon as the address leads to the primary.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::stories::device::Device;
use crate::stories::user::User;
use crate::stories::world::Pair;
use crate::stories::{Deployment, World};
use crate::support::{Edge, EdgeConfig, Nsqd, PATIENCE, Redis, SlowLink, http_get, wait_for, wait_until};

/// From the failover on: within the lease, so that no device is disconnected.
const HEALED: Duration = Duration::from_secs(5);

async fn demoted(redis: &Redis, to: &str) {
    let (host, port) = to.split_once(':').expect("an address");
    assert_eq!(redis.command(&["REPLICAOF", host, port]).await.unwrap(), "OK");
}

/// Waits until the replica has everything that the primary has.
async fn in_sync(primary: &Redis, replica: &Redis) {
    wait_until("the replica to have everything", PATIENCE, async || {
        let (of, at) = (
            primary.command(&["INFO", "replication"]).await.ok()?,
            replica.command(&["INFO", "replication"]).await.ok()?,
        );
        let field = |info: &str, name: &str| {
            info.lines().find_map(|l| l.trim().strip_prefix(name).map(str::to_owned))
        };
        let (sent, got) = (field(&of, "master_repl_offset:")?, field(&at, "slave_repl_offset:")?);
        (field(&at, "master_link_status:")? == "up" && sent == got).then_some(())
    })
    .await;
}

/// Waits until both edges report this, and count the store as up or down.
async fn readiness(world: &World, status: u16, what: &str) {
    for edge in 0..world.edges.len() {
        wait_for(what, PATIENCE, async || {
            let (answered, said) = world.readiness(edge).await.ok_or("no answer")?;
            let up = world.edges[edge].metric("keepstep_store_up").await;
            let as_wanted =
                answered == status && said.contains(what) && up == if status == 200 { 1.0 } else { 0.0 };
            if as_wanted { Ok(()) } else { Err(format!("{answered}, store_up {up}: {said}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_failover_behind_one_address_heals() {
    let (first, second, nsqd) = (Redis::start().await, Redis::start().await, Nsqd::start(None).await);
    demoted(&second, &first.addr()).await;
    let address = SlowLink::start(&first.addr()).await;
    // Only an event tells of offsets.
    let config = EdgeConfig::on(&first, [&nsqd], None).set("KEEPSTEP_READS_SWEEP", "1h");
    let edge = Edge::start_behind(&address, config).await;
    let (alice, bob) = (user("alice", &edge), user("bob", &edge));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(0).await);
    let (web, chat) = (bob.web(0).await, alice.direct(&bob).await);
    phone.says_many(&chat, "before", 10).await;
    for device in [&phone, &bobs, &web] {
        device.hears(&chat, 10).await;
    }
    in_sync(&first, &second).await;

    // As a manager of Redis does it: the other one is promoted, the address moves, the old one follows the new one. Open
    // connections stay with the old one.
    assert_eq!(second.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap(), "OK");
    address.leads_to(&second.addr());
    demoted(&first, &second.addr()).await;
    let failed = Instant::now();
    let sent = wait_for("a message to be accepted", PATIENCE, async || {
        let message = json!({ "type": "send", "chat": chat, "kind": "text", "content": "after",
            "key": uuid::Uuid::new_v4().to_string() });
        phone.requests(message).await
    })
    .await;
    let took = failed.elapsed();
    println!("a message was accepted {took:?} after the failover");
    assert!(took < HEALED, "it took {took:?}");
    let seq = sent["seq"].as_u64().expect("a number");
    for device in [&phone, &bobs, &web] {
        device.hears(&chat, seq).await;
        let memory = device.memory();
        assert!(memory.closed.is_none() && !memory.lost, "nobody is sent away: {:?}", memory.closed);
    }
    let head = format!("ks:{{c.{}}}:meta", chat.replace('-', ""));
    let head = second.command(&["HGET", &head, "head"]).await.unwrap();
    assert_eq!(head, seq.to_string(), "the new one has it");
    is_read(&bobs, &web, &chat, seq).await;
    edge.ready().await;
    assert_eq!(edge.metric("keepstep_store_up").await, 1.0);
    // The old one goes for good: nothing hangs on it any more.
    drop(first);
    let seq = phone.says(&chat, "without the old one").await.seq;
    bobs.hears(&chat, seq).await;
    is_read(&bobs, &web, &chat, seq).await;
}

fn user(name: &str, edge: &Edge) -> User {
    User::new(&format!("{name}.{}", &uuid::Uuid::new_v4().simple().to_string()[..12]), [edge.listen()].into())
}

async fn is_read(on: &Device, told: &Device, chat: &str, seq: u64) {
    assert_eq!(on.reads(chat, seq).await, seq);
    told.gets(json!({ "type": "read", "chat": chat, "seq": seq })).await;
}

#[tokio::test]
async fn a_redis_that_is_demoted_is_told_until_it_is_the_primary_again() {
    let world = Deployment::Stack.start().await;
    let Pair { alice, phone, bobs, chat, .. } = world.pair().await;
    phone.says(&chat, "hello").await;
    bobs.hears(&chat, 1).await;
    let redis = &world.stack.as_ref().unwrap().redis;
    readiness(&world, 200, "true").await;
    demoted(redis, "127.0.0.1:1").await;
    readiness(&world, 503, "read-only replica").await;
    let message = json!({ "key": uuid::Uuid::new_v4().to_string(), "kind": "text", "content": "now?" });
    let path = format!("/v1/chats/{chat}/messages");
    alice.api(0).post(&path, message.clone()).await.problem(503, "unavailable");
    world.stranger().get("/v1/ready").await.problem(503, "unavailable");
    // The same, and it doesn't answer what it may not know any more (MASTERDOWN).
    redis.command(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).await.unwrap();
    let stale = redis.command(&["GET", "ks:{store}"]).await.unwrap();
    assert!(stale.starts_with("-MASTERDOWN"), "{stale}");
    readiness(&world, 503, "read-only replica").await;
    alice.api(1).post(&path, message.clone()).await.problem(503, "unavailable");
    redis.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    readiness(&world, 200, "true").await;
    assert_eq!(alice.api(0).post(&path, message).await.ok()["seq"], 2);
}

#[tokio::test]
async fn a_redis_that_loads_its_data_is_told() {
    let (mut redis, nsqd) = (Redis::start().await, Nsqd::start(None).await);
    let edge = Edge::start(EdgeConfig::on(&redis, [&nsqd], None)).await;
    edge.ready().await;
    let alice = user("alice", &edge);
    let chat = alice.group("a group").await;
    let fill = "for i = 1, 20000 do redis.call('SET', 'filler:' .. i, i) end";
    redis.command(&["EVAL", fill, "0"]).await.unwrap();
    redis.kill9();
    // About six seconds for all of it.
    for arg in ["--key-load-delay", "250", "--loading-process-events-interval-bytes", "1024"] {
        redis.process().add_arg(arg);
    }
    redis.process().spawn();
    wait_for("/readyz to tell of it", PATIENCE, async || {
        let (status, said) = http_get(&edge.ops(), "/readyz").await.map_err(|error| error.to_string())?;
        let is_told = status == 503 && said.contains("is loading its data");
        if is_told { Ok(()) } else { Err(format!("{status}: {said}")) }
    })
    .await;
    assert_eq!(edge.metric("keepstep_store_up").await, 0.0);
    alice.api(0).get(&format!("/v1/chats/{chat}")).await.problem(503, "unavailable");
    edge.ready().await;
    assert_eq!(edge.metric("keepstep_store_up").await, 1.0);
    alice.api(0).get(&format!("/v1/chats/{chat}")).await.with(200);
}
