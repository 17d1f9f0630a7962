//! How things stand when all is over: the heads, offsets and queues there are, and what is left behind when everybody has
//! gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::history::{End, What};
use crate::people::People;
use crate::recovery::key;
use crate::support::http_get;
use crate::world::{World, id};

/// How long leftovers may take to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// The end as it is asked for. Queues get time to become what they should be.
pub async fn end(world: &World, people: &People) -> End {
    let mut end = End::default();
    for (user, token) in &people.users {
        if let Some(answer) = people.call(token, "GET", "/v1/chats?limit=1000", &Value::Null).await {
            for chat in answer.body["items"].as_array().into_iter().flatten() {
                if let (Some(id), Some(head)) = (chat["id"].as_str(), chat["head"].as_u64()) {
                    end.heads.insert(id.to_owned(), head);
                }
            }
        }
        if let Some(answer) = people.call(token, "GET", "/v1/offsets", &Value::Null).await {
            let reads = answer.body.as_object().into_iter().flatten();
            let reads = reads.filter_map(|(chat, read)| Some((chat.clone(), read.as_u64()?)));
            end.reads.insert(user.clone(), reads.collect());
        }
    }
    for device in people.living() {
        end.devices.insert(device.id.clone(), device.sight().entries.into_iter().collect());
    }
    for chat in people.all_chats() {
        let count = world.redis.command(&["ZCARD", &key(&chat, "outbox")]).await;
        end.unpublished.insert(chat, count.ok().and_then(|count| count.parse().ok()).unwrap_or(u64::MAX));
    }
    let wanted: BTreeSet<(String, String)> = end
        .devices
        .iter()
        .flat_map(|(device, chats)| chats.keys().map(|chat| (chat.clone(), device.clone())))
        .collect();
    let began = Instant::now();
    loop {
        end.queues.clear();
        for n in 0..world.nsqd.len() {
            let queues = world.queues(n).await.unwrap_or_default();
            end.queues
                .extend(queues.into_iter().map(|queue| (format!("nsqd {n}"), queue.chat, queue.device)));
        }
        let there: BTreeSet<_> =
            end.queues.iter().map(|(_, chat, device)| (chat.clone(), device.clone())).collect();
        if there == wanted || began.elapsed() > PATIENCE {
            return end;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// What waits in a queue although everybody has acknowledged everything.
pub async fn undrained(world: &World) -> Vec<String> {
    let began = Instant::now();
    loop {
        let mut left = Vec::new();
        for n in 0..world.nsqd.len() {
            for queue in world.queues(n).await.unwrap_or_default() {
                // What a consumer had that was killed comes again after nsqd's timeout, and is finished then.
                if queue.depth + queue.held > 0 {
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

/// What the store and the directory still know of devices that have ended, beside their tombstones.
pub async fn remains(world: &World, people: &People) -> Vec<String> {
    let (_, ended) = people.ends();
    let mut left = Vec::new();
    for device in &ended {
        let short = device.replace('-', "");
        let keys = world.redis.command(&["KEYS", &format!("*{short}*")]).await.unwrap_or_default();
        let tombstone = format!("ks:{{d.{short}}}");
        left.extend(
            keys.lines().filter(|key| *key != tombstone).map(|key| format!("{device} has {key} in Redis")),
        );
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

/// Writes down the channels that nsqlookupd knows.
pub async fn directory(world: &World, people: &People) {
    for chat in people.all_chats() {
        let path = format!("/channels?topic=c.{}", chat.replace('-', ""));
        let Ok((200, body)) = http_get(&world.lookupd.http(), &path).await else { continue };
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        for channel in body["channels"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if let Some(device) = id(channel, "d.") {
                let (node, chat) = ("nsqlookupd".to_owned(), chat.clone());
                people.record.write(What::Queue { node, chat, device });
            }
        }
    }
}

/// What a process holds.
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

/// What the edges and queues hold although everybody has gone, compared with the beginning.
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
