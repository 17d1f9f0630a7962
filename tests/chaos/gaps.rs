//! Judges whether each gap is true. A gap is allowed only if nsqd has lost the messages. So the queue is read when the
//! gap comes, and at the end the run checks whether any nsqd lost anything since the messages were sent.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::history::{Event, Seq, What};
use crate::plan::Kind;
use crate::recovery::key;
use crate::support::{http_get, redis_command};

/// A time in which an nsqd may have lost confirmed messages, or was down, in microseconds of the run.
#[derive(Debug, Clone, Copy)]
pub struct Loss {
    /// The nsqd; none: any.
    pub nsqd: Option<usize>,
    /// The fault.
    pub kind: Kind,
    /// Its start.
    pub begun: u64,
    /// Its end; none: it continues.
    pub healed: Option<u64>,
}

/// How long after an nsqd was killed it may still lose accepted messages: a queue younger than its `sync_timeout`
/// overwrites its file, and fails at the rest of the old content.
const STUMBLES: u64 = 30_000_000;

/// How long an edge may take to publish pending messages again.
const SOON: u64 = 3_000_000;

/// How many messages of a chat a log of 100 keeps at least while NSQ hasn't confirmed them (the bound is 400, and it is
/// trimmed with every 64th). Messages beyond that, sent while an nsqd is down, are lost, as documented.
const UNCONFIRMED: usize = 330;

/// After a loss, this many more than were sent since prove nothing: an edge repeats publications of unknown outcome.
const DOUBLED: u64 = 4;

/// The messages of one queue in one nsqd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Held {
    /// The nsqd.
    pub nsqd: usize,
    /// Waiting messages, and those in flight.
    pub messages: u64,
}

/// A gap as a device received it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Told {
    /// The time, in microseconds of the run.
    pub at: u64,
    /// The device.
    pub device: String,
    /// The chat.
    pub chat: String,
    /// The first seq.
    pub from: Seq,
    /// The last seq.
    pub to: Seq,
    /// The queue's messages in each nsqd at that time.
    pub held: Vec<Held>,
    /// The chat's head just after that.
    pub head: Option<Seq>,
}

/// Reads queues when a gap is reported.
#[derive(Debug)]
pub struct Witness {
    /// HTTP addresses of nsqd, past all proxies.
    pub nsqd: Vec<String>,
    /// The address of Redis, likewise.
    pub redis: String,
}

/// A frozen server doesn't answer.
const PATIENCE: Duration = Duration::from_secs(1);

impl Witness {
    /// Returns the present messages of the queue, and then the chat's head.
    pub async fn looks(&self, chat: &str, device: &str) -> (Vec<Held>, Option<Seq>) {
        let (topic, channel) = (chat.replace('-', ""), device.replace('-', ""));
        let path = format!("/stats?format=json&include_mem=false&topic=c.{topic}&channel=d.{channel}");
        let mut held = Vec::new();
        for (nsqd, address) in self.nsqd.iter().enumerate() {
            let Ok(Ok((200, body))) = timeout(PATIENCE, http_get(address, &path)).await else { continue };
            let stats: Value = serde_json::from_str(&body).unwrap_or_default();
            let number = |of: &Value, name: &str| of[name].as_u64().unwrap_or_default();
            for queue in stats["topics"].as_array().into_iter().flatten().flat_map(|topic| {
                // What the topic hasn't copied into its channels yet is in all of them.
                let behind = number(topic, "depth");
                let channels = topic["channels"].as_array().into_iter().flatten();
                channels.map(move |channel| {
                    behind
                        + number(channel, "depth")
                        + number(channel, "deferred_count")
                        + number(channel, "in_flight_count")
                })
            }) {
                held.push(Held { nsqd, messages: queue });
            }
        }
        let head = ["HGET", &key(chat, "meta"), "head"];
        let head = timeout(PATIENCE, redis_command(&self.redis, &head)).await;
        (held, head.ok().and_then(Result::ok).and_then(|head| head.parse().ok()))
    }
}

/// Returns the gaps that weren't true, in words. (In a run with long logs every gap is wrong: the checker says so.)
pub fn untrue<'a>(told: &[Told], losses: &[Loss], events: &'a [Event]) -> Vec<String> {
    let (mut first, mut keys, mut ending) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut positions: HashMap<_, Vec<(u64, Seq)>> = HashMap::new();
    let mut stands = |at: u64, device: &'a str, chat: &'a str, cursor: Seq| {
        positions.entry((device, chat)).or_default().push((at, cursor));
    };
    for event in events {
        match &event.what {
            What::Sending { chat, key, .. } => {
                first.entry((chat.as_str(), key.as_str())).or_insert(event.at);
            }
            What::Sent { chat, key, seq } => drop(keys.insert((chat.as_str(), *seq), key.as_str())),
            What::Message { chat, seen, .. } => {
                keys.insert((chat.as_str(), seen.seq), seen.key.as_str());
            }
            What::Acked { device, chat, seq, .. } => stands(event.at, device, chat, *seq),
            What::Welcome { device, chats, .. } => {
                chats.iter().for_each(|(chat, entry)| stands(event.at, device, chat, entry.cursor));
            }
            What::Attached { device, chat, entry, .. } => stands(event.at, device, chat, entry.cursor),
            What::Ending { device } => drop(ending.entry(device.as_str()).or_insert(event.at)),
            _ => {}
        }
    }
    let mut wrong = Vec::new();
    for gap in told {
        let Told { at, device, chat, from, to, held, head } = gap;
        // One whose end has begun isn't owed anything.
        if ending.get(device.as_str()).is_some_and(|ending| ending < at) {
            continue;
        }
        let what = format!("{device}, chat {chat}: gap {from} to {to}");
        // Nobody may have seen the last of it.
        let last = (*from..=*to).rev().find_map(|seq| keys.get(&(chat.as_str(), seq)));
        let sent = last.and_then(|key| first.get(&(chat.as_str(), *key))).copied().unwrap_or(0);
        let by = |loss: &Loss| {
            let there = |nsqd| held.is_empty() || held.iter().any(|held| held.nsqd == nsqd);
            if !loss.nsqd.is_none_or(there) || loss.begun >= *at {
                return false;
            }
            let healed = loss.healed.unwrap_or(*at);
            if loss.kind.loses() && sent < healed + STUMBLES {
                return true;
            }
            let meanwhile = |(of, _): &(&str, &str), begun: &u64| {
                *of == chat && (loss.begun.saturating_sub(SOON)..healed + SOON).contains(begun)
            };
            loss.kind.hides_nsqd()
                && first.iter().filter(|(of, begun)| meanwhile(of, begun)).count() > UNCONFIRMED
        };
        // What was said since may be in the queue, what the device has and hasn't acknowledged, and what was published twice
        // because its outcome was unknown; nothing else.
        let messages: u64 = held.iter().map(|held| held.messages).sum();
        let positions = positions.get(&(device.as_str(), chat.as_str())).into_iter().flatten();
        let cursor = positions.filter(|(then, _)| then < at).map(|(_, cursor)| *cursor).max().unwrap_or(0);
        let delivered = from.saturating_sub(1).saturating_sub(cursor);
        let since = head.map_or(messages, |head| head.saturating_sub(*to) + delivered);
        let above = messages.saturating_sub(since);
        let much = above > DOUBLED && 2 * above >= to - from;
        let why = match (losses.iter().any(by), above) {
            (true, _) if !much => continue,
            (false, 0) => "no nsqd that had it lost anything since".to_owned(),
            _ => format!(
                "its queue held {messages} messages, and {since} were sent since, or aren't acknowledged"
            ),
        };
        wrong.push(format!("{what}, and {why}"));
    }
    wrong
}
