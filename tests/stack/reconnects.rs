//! A device connects and disconnects ten thousand times. Afterwards nothing is left of it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::json;

use crate::stories::client::{PATIENCE, Socket};
use crate::stories::world::topic;
use crate::stories::{Deployment, World};
use crate::support::{wait_for, wait_until};

/// Half of them with a goodbye, a quarter with none, and a quarter before they have even read `welcome`.
const RECONNECTS: u64 = 10_000;
/// As many before the first look, so that what is made once (pools, threads, caches) is there.
const WARM_UP: u64 = 400;
/// Connections to the store and to NSQ's HTTP come and go a little, each with a task. A leak would be thousands.
const PLAY: i64 = 8;
/// Of both edges together. 1 KiB of each reconnect would be 10 MiB.
const GROWTH_KIB: i64 = 8 << 10;

/// What a deployment holds: each name is a promise that it doesn't grow.
type Held = BTreeMap<&'static str, i64>;

#[tokio::test]
async fn ten_thousand_reconnects_of_one_device_leave_nothing_behind() {
    let mut world = Deployment::Stack.with("KEEPSTEP_CONNECTS_PER_MINUTE", "1000000").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.registers("main").await);
    let chat = alice.direct(&bob).await;
    comes_and_goes(&world, &bobs.token, WARM_UP).await;
    settled(&world, &chat).await;
    let before = held(&mut world, &chat).await;

    let begun = Instant::now();
    comes_and_goes(&world, &bobs.token, RECONNECTS).await;
    let took = begun.elapsed();
    settled(&world, &chat).await;
    println!("{RECONNECTS} reconnects took {took:?}\nbefore {before:?}");
    // What is being closed needs a moment.
    let after = wait_for("nothing to have grown", PATIENCE, async || {
        let after = held(&mut world, &chat).await;
        grown(&before, &after).map_or(Ok(after.clone()), |what| Err((what, after)))
    })
    .await;
    println!("after  {after:?}");

    // And the device is none the worse for it.
    phone.says_many(&chat, "said", 20).await;
    let mut socket = Socket::open(&world.addresses()[1], &bobs.token).await;
    let welcome = socket.frame_of("welcome").await;
    assert!(welcome["session"].as_u64().is_some_and(|session| session > RECONNECTS), "{welcome}");
    for seq in 1..=20 {
        assert_eq!(socket.frame_of("message").await["seq"], seq);
    }
    socket.send(&json!({ "type": "ack", "id": 1, "chat": chat, "seq": 20 })).await;
    assert_eq!(socket.frame_of("reply").await["ok"], json!({ "seq": 20 }));
}

async fn comes_and_goes(world: &World, token: &str, times: u64) {
    let edges = world.addresses();
    for n in 0..times {
        let mut socket = Socket::open(&edges[usize::from(n % 8 >= 4)], token).await;
        if n % 4 == 3 {
            continue;
        }
        // Whoever connects right after another may be told first that the other has gone.
        assert_eq!(socket.frame_of("welcome").await["type"], "welcome");
        if n % 2 == 0 {
            socket.close().await;
        }
    }
}

/// Only Alice's phone is connected, and nothing is consumed.
async fn settled(world: &World, chat: &str) {
    wait_until("only the phone to be connected", PATIENCE, || async {
        let connected = world.metric("keepstep_connections{kind=\"main\"}").await;
        let queues = world.queues(&topic(chat), "").await;
        let consumers: usize = queues.iter().map(|queue| queue.consumers).sum();
        (connected == 1.0 && consumers == 0 && queues.len() == 2).then_some(())
    })
    .await;
}

async fn held(world: &mut World, chat: &str) -> Held {
    let mut held = Held::new();
    let mut add = |what, count: usize| *held.entry(what).or_default() += i64::try_from(count).unwrap();
    for edge in &mut world.edges {
        let pid = edge.process().pid();
        add("descriptors of the edges", descriptors(pid));
        add("threads of the edges", status(pid, "Threads:"));
        add("KiB of the edges", status(pid, "VmRSS:"));
    }
    for nsqd in &mut world.stack.as_mut().unwrap().nsqd {
        add("descriptors of the nsqd", descriptors(nsqd.process().pid()));
    }
    let queues = world.queues("", "").await;
    add("channels", queues.len());
    add("consumers", queues.iter().map(|queue| queue.consumers).sum());
    assert_eq!(queues.iter().filter(|queue| queue.topic == topic(chat)).count(), 2, "{queues:?}");
    held.insert("tasks of the edges", world.metric("keepstep_tasks").await as i64);
    held
}

fn grown(before: &Held, after: &Held) -> Option<&'static str> {
    let play = |what: &str| match what {
        "channels" | "consumers" => 0,
        "KiB of the edges" => GROWTH_KIB,
        _ => PLAY,
    };
    after.iter().find(|(what, count)| **count > before[*what] + play(what)).map(|(what, _)| *what)
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process that runs").count()
}

fn status(pid: u32, line: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process that runs");
    let value = status.lines().find_map(|each| each.strip_prefix(line)).expect("a line of /proc");
    value.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}
