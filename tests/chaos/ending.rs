//! The state at the end: heads, offsets, queues, and leftovers after all clients have gone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::history::{End, What};
use crate::people::{Ending, People};
use crate::recovery::key;
use crate::support::http_get;
use crate::world::{World, id};

/// How long leftovers may take to disappear.
const PATIENCE: Duration = Duration::from_secs(30);

/// Chats, by user or device.
type Chats = BTreeMap<String, BTreeSet<String>>;

/// Compares the wanted end with the server's own reports, which get time to match. Strangers are devices that are in no
/// history.
pub async fn end(world: &World, people: &People, strangers: &HashSet<String>) -> (End, Vec<(u8, String)>) {
    let began = Instant::now();
    loop {
        let (end, mut wrong) = stands(world, people, strangers).await;
        if wrong.is_empty() || began.elapsed() > PATIENCE {
            // Queues are the checker's to judge.
            wrong.retain(|(invariant, _)| *invariant != 12);
            return (end, wrong);
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// The state at the end.
async fn stands(world: &World, people: &People, strangers: &HashSet<String>) -> (End, Vec<(u8, String)>) {
    let (mut end, mut wrong) = (End::default(), Vec::new());
    let mut members = Chats::new();
    for (user, token) in &people.users {
        let Some(answer) = people.call(token, "GET", "/v1/chats?limit=1000", &Value::Null).await else {
            continue;
        };
        for chat in answer.body["items"].as_array().into_iter().flatten() {
            if let (Some(id), Some(head)) = (chat["id"].as_str(), chat["head"].as_u64()) {
                end.heads.insert(id.to_owned(), head);
                members.entry(user.clone()).or_default().insert(id.to_owned());
            }
        }
        if let Some(answer) = people.call(token, "GET", "/v1/offsets", &Value::Null).await {
            let reads = answer.body.as_object().into_iter().flatten();
            let reads = reads.filter_map(|(chat, read)| Some((chat.clone(), read.as_u64()?)));
            end.reads.insert(user.clone(), reads.collect());
        }
    }
    for device in people.living() {
        let chats = device.sight().entries;
        // Members times devices: whoever is a member is so with all devices, whatever became of the call.
        let id = &device.id;
        let of_user = members.get(&device.user).cloned().unwrap_or_default();
        for chat in of_user.iter().filter(|chat| !chats.contains_key(*chat)) {
            let user = &device.user;
            wrong.push((3, format!("{user} is a member of chat {chat}, and {id} doesn't get it")));
        }
        for chat in chats.keys().filter(|chat| !of_user.contains(*chat)) {
            wrong.push((8, format!("{id} gets chat {chat}, of which {} isn't a member", device.user)));
        }
        end.devices.insert(device.id.clone(), chats.into_iter().collect());
    }
    for chat in people.all_chats() {
        let count = world.redis.command(&["ZCARD", &key(&chat, "outbox")]).await;
        end.unpublished.insert(chat, count.ok().and_then(|count| count.parse().ok()).unwrap_or(u64::MAX));
    }
    for n in 0..world.nsqd.len() {
        let queues = world.queues(n).await.unwrap_or_default().into_iter();
        let queues = queues.filter(|queue| !strangers.contains(&queue.device));
        end.queues.extend(queues.map(|queue| (format!("nsqd {n}"), queue.chat, queue.device)));
    }
    let (done, half) = (people.ends(Ending::Done), people.half_ended().await);
    let there: BTreeSet<_> = end.queues.iter().map(|(_, chat, device)| (chat, device)).collect();
    for (device, chats) in &end.devices {
        for chat in chats.keys().filter(|chat| !there.contains(&(*chat, device))) {
            wrong.push((12, format!("{device} has no queue in chat {chat}")));
        }
    }
    for (chat, device) in there {
        if done.contains(device) || end.devices.get(device).is_some_and(|chats| !chats.contains_key(chat)) {
            wrong.push((12, format!("{device} has a queue in chat {chat}")));
        }
    }
    wrong.extend(half.iter().map(|device| (0, format!("the end of {device} has begun and isn't done"))));
    (end, wrong)
}

/// Returns what waits in queues although everything was acknowledged. (A device whose registration was given up may
/// exist, and nobody has its token.)
pub async fn undrained(world: &World, people: &People) -> Vec<String> {
    let began = Instant::now();
    let living: BTreeSet<String> = people.living().iter().map(|device| device.id.clone()).collect();
    loop {
        let mut left = Vec::new();
        for n in 0..world.nsqd.len() {
            for queue in world.queues(n).await.unwrap_or_default() {
                // What a consumer had that was killed comes again after nsqd's timeout, and is finished then.
                if queue.depth + queue.held > 0 && living.contains(&queue.device) {
                    left.push(format!("nsqd {n}: {queue:?}"));
                }
            }
        }
        if left.is_empty() || began.elapsed() > PATIENCE {
            return left;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Returns what the store and nsqlookupd still know of terminated devices, besides their tombstones.
pub async fn remains(world: &World, people: &People) -> Vec<String> {
    let ended = people.ends(Ending::Done);
    let mut left = Vec::new();
    for device in &ended {
        let short = device.replace('-', "");
        let keys = world.redis.command(&["KEYS", &format!("*{short}*")]).await.unwrap_or_default();
        let tombstone = format!("ks:{{d.{short}}}");
        for key in keys.lines().filter(|key| *key != tombstone) {
            // The mark of a registration that Redis executes late: it runs out by itself, and nothing else may.
            let runs_out = key.contains(":intent:")
                && world.redis.command(&["PTTL", key]).await.is_ok_and(|left| left.trim() != "-1");
            if !runs_out {
                left.push(format!("{device} has {key} in Redis"));
            }
        }
        for chat in people.all_chats() {
            for thing in ["from", "cursor", "fence"] {
                let there = world.redis.command(&["HEXISTS", &key(&chat, thing), &short]).await;
                if there.is_ok_and(|there| there == "1") {
                    left.push(format!("{device} has a {thing} in chat {chat}"));
                }
            }
        }
    }
    left
}

/// Records the channels that nsqlookupd knows. An nsqd that reconnects to it registers its present channels, so one
/// that is deleted at that moment may come back there, and only there: the reconciler gets time to find it.
pub async fn directory(world: &World, people: &People) {
    let (began, ended) = (Instant::now(), people.ends(Ending::Done));
    let known = loop {
        let known = registered(world, people).await;
        if began.elapsed() > PATIENCE || !known.iter().any(|(_, device)| ended.contains(device)) {
            break known;
        }
        sleep(Duration::from_millis(200)).await;
    };
    for (chat, device) in known {
        people.record.write(What::Queue { node: "nsqlookupd".to_owned(), chat, device });
    }
}

/// Returns the channels that nsqlookupd knows: chat and device.
async fn registered(world: &World, people: &People) -> Vec<(String, String)> {
    let mut known = Vec::new();
    for chat in people.all_chats() {
        let path = format!("/channels?topic=c.{}", chat.replace('-', ""));
        let Ok((200, body)) = http_get(&world.lookupd.http(), &path).await else { continue };
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        let channels = body["channels"].as_array().into_iter().flatten().filter_map(Value::as_str);
        known.extend(channels.filter_map(|channel| Some((chat.clone(), id(channel, "d.")?))));
    }
    known
}

/// The resources of a process.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    files: usize,
    threads: usize,
}

/// Of each edge, by number.
pub fn held(world: &mut World) -> BTreeMap<usize, Held> {
    let count =
        |pid: u32, what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    let edges = world.edges.iter_mut().map(|edge| edge.process().pid());
    edges.map(|pid| Held { files: count(pid, "fd"), threads: count(pid, "task") }).enumerate().collect()
}

/// Returns what edges and queues still hold after everybody has gone, compared with the beginning.
pub async fn leftovers(world: &mut World, before: &BTreeMap<usize, Held>) -> Vec<String> {
    let began = Instant::now();
    loop {
        let mut left = Vec::new();
        for (n, now) in held(world) {
            let then = before[&n];
            // Idle connections to Redis and nsqd that were made since, and threads of the runtime, stay.
            if now.files > then.files + 24 || now.threads > then.threads + 8 {
                left.push(format!("edge {n} holds {now:?}, and {then:?} in the beginning"));
            }
            for kind in ["main", "sub"] {
                let connected =
                    world.edges[n].metric(&format!("keepstep_connections{{kind=\"{kind}\"}}")).await;
                if connected > 0.0 {
                    left.push(format!("edge {n} counts {connected} connections of a {kind}"));
                }
            }
        }
        for n in 0..world.nsqd.len() {
            let queues = world.queues(n).await.unwrap_or_default();
            let consumers: u64 = queues.iter().map(|queue| queue.clients).sum();
            if consumers > 0 {
                left.push(format!("nsqd {n} has {consumers} consumers"));
            }
        }
        if left.is_empty() || began.elapsed() > PATIENCE {
            return left;
        }
        sleep(Duration::from_millis(200)).await;
    }
}
