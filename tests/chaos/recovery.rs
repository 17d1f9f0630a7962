//! Measures the time from the end of the last fault until everything is as it should be, and bounds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::device::{Device, Orders};
use crate::history::Seq;
use crate::people::People;
use crate::plan::{Fault, Log, Plan};
use crate::world::{MESSAGE_TIMEOUT, World};

/// The guaranteed bound.
const BOUND: Duration = Duration::from_secs(10);

/// The additional time where Redis is up to a second away: a connection takes some ten calls in a row.
const FAR: Duration = Duration::from_secs(10);

/// The time limit of waiting.
const LIMIT: Duration = Duration::from_secs(45);

/// The bounds after some faults.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For messages.
    owed: Duration,
    /// For everything else.
    others: Duration,
}

impl Bounds {
    /// Returns the bounds after a wave of this run; the last wave is followed by the end.
    pub fn of(plan: &Plan, wave: &[Fault]) -> Bounds {
        let others = if plan.far.is_some() { BOUND + FAR } else { BOUND };
        // What a session had taken and couldn't give back, nsqd brings again when its time-out is over. A log that still
        // has it needn't wait for that; one that hasn't must, also to be sure that it is lost.
        let waits = |fault: &Fault| fault.kind.strands() || fault.kind.loses();
        let owed =
            if plan.log == Log::Short && wave.iter().any(waits) { others + MESSAGE_TIMEOUT } else { others };
        Bounds { owed, others }
    }
}

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Every device that wants to be is connected, and knows the user's chats.
    pub sockets: u64,
    /// Everything acknowledged before has arrived.
    pub owed: u64,
    /// All devices know the read offsets.
    pub offsets: u64,
    /// The broker has confirmed everything.
    pub outbox: u64,
}

impl Recovery {
    /// Returns the slowest of them.
    pub fn slowest(self) -> u64 {
        self.sockets.max(self.owed).max(self.offsets).max(self.outbox)
    }

    /// Returns the bounds that were exceeded, in words.
    pub fn late(self, bounds: Bounds) -> Vec<String> {
        let all = [
            ("sockets", self.sockets, bounds.others),
            ("owed messages", self.owed, bounds.owed),
            ("offsets", self.offsets, bounds.others),
            ("outboxes", self.outbox, bounds.others),
        ];
        all.iter()
            .filter(|(_, took, bound)| Duration::from_millis(*took) > *bound)
            .map(|(what, took, bound)| format!("{what} took {took} ms, and {bound:?} is promised"))
            .collect()
    }
}

/// Chats by user.
type Memberships = BTreeMap<String, BTreeSet<String>>;

/// A device that is checked, as long as its orders don't change.
struct Steady(Arc<Device>, Orders);

/// Measures the recovery. What hasn't come within [`LIMIT`] counts as that; then `lacking` names it.
pub async fn recover(world: &World, people: &People) -> (Recovery, Vec<String>) {
    let began = Instant::now();
    let (chats, marked) = people.record.owed();
    let joined = people.memberships();
    let mut steady: Vec<Steady> = people
        .living()
        .into_iter()
        .map(|device| {
            let orders = *device.orders.borrow();
            Steady(device, orders)
        })
        .filter(|Steady(_, orders)| orders.online && orders.reads && orders.acks)
        .collect();
    let mut times: [Option<u64>; 4] = [None; 4];
    let mut lacking: [Vec<String>; 4] = Default::default();
    while times.contains(&None) && began.elapsed() < LIMIT {
        let living = people.living();
        steady.retain(|Steady(device, orders)| {
            let same = |(one, other): (Orders, Orders)| {
                (one.online, one.reads, one.acks, one.round)
                    == (other.online, other.reads, other.acks, other.round)
            };
            same((*device.orders.borrow(), *orders)) && living.iter().any(|one| one.id == device.id)
        });
        // A sub needs its main.
        let mains: Vec<String> =
            steady.iter().filter(|one| one.0.main).map(|one| one.0.user.clone()).collect();
        steady.retain(|Steady(device, _)| device.main || mains.contains(&device.user));
        lacking = look(&steady, &chats, &marked);
        lacking[0].extend(unknown(&steady, &joined, &people.memberships()));
        if times[3].is_none() {
            lacking[3] = outboxes(world, &chats).await;
        }
        let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        for (what, lacking) in lacking.iter().enumerate() {
            // What comes in a chat that a device doesn't know yet, nobody sees missing.
            if lacking.is_empty() && (what == 0 || what == 3 || times[0].is_some()) {
                times[what].get_or_insert(now);
            }
        }
        sleep(Duration::from_millis(25)).await;
    }
    let limit = u64::try_from(LIMIT.as_millis()).unwrap_or(u64::MAX);
    let [sockets, owed, offsets, outbox] = times.map(|time| time.unwrap_or(limit));
    let recovery = Recovery { sockets, owed, offsets, outbox };
    (
        recovery,
        lacking
            .into_iter()
            .zip(times)
            .filter(|(_, time)| time.is_none())
            .flat_map(|(lacking, _)| lacking)
            .collect(),
    )
}

fn look(
    steady: &[Steady],
    chats: &BTreeMap<String, Seq>,
    marked: &BTreeMap<(String, String), Seq>,
) -> [Vec<String>; 4] {
    let mut lacking: [Vec<String>; 4] = Default::default();
    for Steady(device, _) in steady {
        let (sight, id) = (device.sight(), &device.id);
        if sight.edge.is_none() {
            lacking[0].push(format!("{id} isn't connected"));
        }
        for (chat, (last, read)) in &sight.chats {
            let owed = chats.get(chat).copied().unwrap_or_default();
            if *last < owed {
                lacking[1].push(format!("{id} has {last} of {owed} of chat {chat}"));
            }
            let owed = marked.get(&(device.user.clone(), chat.clone())).copied().unwrap_or_default();
            if *read < owed {
                lacking[2].push(format!("{id} knows {read} as read in chat {chat}, and it is {owed}"));
            }
        }
    }
    lacking
}

/// Returns chats that devices don't know although their users are members.
fn unknown(steady: &[Steady], joined: &Memberships, now: &Memberships) -> Vec<String> {
    let mut lacking = Vec::new();
    for Steady(device, _) in steady {
        let known = device.sight().chats;
        let (Some(joined), Some(now)) = (joined.get(&device.user), now.get(&device.user)) else { continue };
        for chat in joined.intersection(now).filter(|chat| !known.contains_key(*chat)) {
            lacking.push(format!("{} doesn't know chat {chat}", device.id));
        }
    }
    lacking
}

/// Returns the chats whose outboxes hold messages from before.
async fn outboxes(world: &World, chats: &BTreeMap<String, Seq>) -> Vec<String> {
    let mut lacking = Vec::new();
    for (chat, owed) in chats {
        let count = world.redis.command(&["ZCOUNT", &key(chat, "outbox"), "-inf", &owed.to_string()]).await;
        if !count.as_ref().is_ok_and(|count| count == "0") {
            lacking.push(format!("the outbox of chat {chat} up to {owed}: {count:?}"));
        }
    }
    lacking
}

/// Returns the Redis key of a chat's item.
pub fn key(chat: &str, thing: &str) -> String {
    format!("ks:{{c.{}}}:{thing}", chat.replace('-', ""))
}
