//! The end of a run: everything is well again, everyone comes back, and within the bounds that are promised everyone has
//! what is theirs and nothing else is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use keepstep::domain::{
    device::DeviceState,
    id::{ChatId, DeviceId},
};
use tokio::time::{Instant, sleep};

use crate::{
    device::Device,
    history::End,
    world::{World, text},
};

/// What is owed is there.
const MESSAGES: Duration = Duration::from_secs(10);
/// Terminations are done, and bootstraps (a page that was asked for while everything broke has 10 s).
const TERMINATIONS: Duration = Duration::from_secs(30);
/// Queues are what they should be: another edge takes the comparing over from a dead one (30 s) and compares twice.
const QUEUES: Duration = Duration::from_secs(65);

/// Waits for all of it; what isn't there in time is a violation.
///
/// What a consumer took with it when it went without a word comes when the broker's patience is over, and not before, if the
/// log hasn't got it any more; the time for messages begins with that, and so does the time for what waits for a main that
/// waits for them (a page that it answers).
pub async fn settles(world: &World) -> (End, Vec<String>) {
    let mut violations = Vec::new();
    let mut healed = Instant::now();
    let attaching = Duration::from_millis(world.shared().manners().attach);
    let bounds: [(&str, Duration, Wants); 6] = [
        ("3: not everyone has everything 10 s after the last fault", MESSAGES + attaching, Wants::Messages),
        ("3: not everything is with the broker 10 s after the last fault", MESSAGES, Wants::Outbox),
        ("16: an edge follows chats for nobody 10 s after the last fault", MESSAGES, Wants::Follows),
        ("12: not everything came to its end 30 s after the last fault", TERMINATIONS, Wants::Ends),
        ("12: the queues aren't what they should be", QUEUES, Wants::Queues),
        ("3: not everyone has everything, and nobody asked again", QUEUES + MESSAGES, Wants::Everything),
    ];
    let most = healed + 3 * world.msg_timeout();
    let mut since = healed;
    for (what, bound, wants) in bounds {
        loop {
            let lack = lacks(world, wants).await;
            if world.shared().late() > 0 {
                (healed, since) = (Instant::now(), Instant::now());
            } else if lack.is_empty() {
                break;
            }
            if wants == Wants::Messages && Instant::now() < most && waits_for_the_broker(world).await {
                since = Instant::now();
            }
            let began = if matches!(wants, Wants::Messages | Wants::Ends) { since } else { healed };
            if began.elapsed() >= bound {
                let places =
                    if matches!(wants, Wants::Messages) { places(world).await } else { String::new() };
                violations.push(format!("invariant {what}: {}{places}", lack.join("; ")));
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    (end(world).await, violations)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// But what depends on a call whose caller has given up.
    Messages,
    Outbox,
    Follows,
    Ends,
    Queues,
    Everything,
}

/// Where the messages are that devices lack.
async fn places(world: &World) -> String {
    let mut places = String::new();
    for device in living(world).await {
        let seen: Vec<_> = {
            let status = device.status.lock().unwrap();
            status.chats.iter().map(|(chat, seen)| (*chat, seen.last)).collect()
        };
        for (chat, last) in seen {
            if last < world.head(chat).await {
                let there = world.whereabouts(chat, device.id, last + 1).await;
                places += &format!("; {} in {chat}: {there}", device.id);
            }
        }
    }
    places
}

/// Whether a message that some device needs next is with a consumer that has gone without a word, and nowhere else. (The log,
/// too, is asked only when the queue brings nothing for a while: what the consumer took one by one comes back one by one.)
async fn waits_for_the_broker(world: &World) -> bool {
    for device in living(world).await {
        for chat in world.store().chats_of(&device.user).await.expect("the truth") {
            let seen = device.status.lock().unwrap().chats.get(&chat).map(|seen| (seen.last, seen.at));
            let (seen, comes) =
                seen.map_or((0, false), |(last, at)| (last, at.elapsed() < world.tail_check()));
            let log = world.store().log(chat, seen + 1, 1, 1).await.expect("the truth");
            // What the log hasn't got may be any of those that are with such a consumer: nobody can tell.
            let waits = match log.floor > seen + 1 {
                true => world.has_lost_consumer(chat, device.id),
                false => comes && world.is_nowhere(chat, device.id, seen + 1),
            };
            if seen < log.head && waits {
                return true;
            }
        }
    }
    false
}

async fn lacks(world: &World, wants: Wants) -> Vec<String> {
    match wants {
        Wants::Messages | Wants::Everything => {
            let mut lack = Vec::new();
            for device in living(world).await {
                lack.extend(device_lacks(world, &device, wants).await);
            }
            lack
        }
        Wants::Outbox => {
            let mut lack = Vec::new();
            for chat in chats(world).await {
                let waiting = world.store().outbox(chat, 100).await.expect("the truth").messages;
                if !waiting.is_empty() {
                    lack.push(format!("{} messages of {chat}", waiting.len()));
                }
            }
            lack
        }
        Wants::Follows => {
            let edges: Vec<_> = world.edges().iter().filter(|edge| !edge.gate.is_dead()).cloned().collect();
            let mut lack = Vec::new();
            for edge in edges {
                let mut needed = BTreeSet::new();
                for user in edge.core.hub.users() {
                    needed.extend(world.store().chats_of(&user).await.expect("the truth"));
                }
                let vain = edge.core.hub.chats().into_iter().filter(|chat| !needed.contains(chat));
                lack.extend(vain.map(|chat| format!("{} follows {chat}", edge.core.edge.name)));
            }
            lack
        }
        Wants::Ends => {
            let living = living(world).await;
            let unready = living.into_iter().filter(|device| !device.status.lock().unwrap().ready);
            let unready = unready.map(|device| format!("the bootstrap of {}", device.id));
            let mut lack: Vec<String> = world.open().into_iter().chain(unready).collect();
            for id in world.store().unfinished_terminations().await.expect("the truth") {
                lack.push(format!("the end {id}"));
            }
            lack
        }
        Wants::Queues => {
            let (wanted, there) = (desired(world).await, queues(world).await);
            let mut lack = Vec::new();
            for ((chat, device), must) in &wanted {
                if *must && !there.contains(&(*chat, *device)) {
                    lack.push(format!("{device} lacks {chat}"));
                }
                let position = world.store().position(*chat, *device).await.expect("the truth");
                if *must && position.is_none() {
                    lack.push(format!("{device} has no position in {chat}"));
                }
            }
            let orphans = there.iter().filter(|queue| !wanted.contains_key(queue));
            lack.extend(orphans.map(|(chat, device)| format!("{device} still has {chat}")));
            lack
        }
    }
}

async fn device_lacks(world: &World, device: &Device, wants: Wants) -> Vec<String> {
    let store = world.store();
    let (chats, reads) = (store.chats_of(&device.user).await, store.reads(&device.user).await);
    let (chats, reads) = (chats.expect("the truth"), reads.expect("the truth"));
    let later = |chat| wants == Wants::Messages && world.is_perhaps_member(&device.user, chat);
    let mut heads = Vec::new();
    for chat in chats.iter().filter(|chat| !later(**chat)) {
        heads.push((*chat, world.head(*chat).await));
    }
    let status = device.status.lock().unwrap();
    let name = format!("{:?} {}", device.kind, device.id);
    if status.live.is_none() {
        return vec![format!("{name} isn't connected")];
    }
    let mut lack = Vec::new();
    for (chat, head) in heads {
        let Some(seen) = status.chats.get(&chat) else {
            lack.push(format!("{name} doesn't know {chat}"));
            continue;
        };
        if seen.last != head || seen.acked != head {
            lack.push(format!("{name} has {}, confirmed {}, of {head} in {chat}", seen.last, seen.acked));
        }
        let read = reads.get(&chat).map_or(0, |read| read.seq);
        if seen.read != read {
            lack.push(format!("{name} knows {} as read, not {read}, in {chat}", seen.read));
        }
    }
    let strange = |chat: &&ChatId| !chats.contains(chat) && !later(**chat);
    for chat in status.chats.keys().filter(strange) {
        lack.push(format!("{name} knows {chat}, in which its user isn't"));
    }
    if status.unsent > 0 {
        lack.push(format!("{name} has {} unsent", status.unsent));
    }
    lack
}

/// Those of which nobody knows otherwise, and those of which only the store knows.
async fn living(world: &World) -> Vec<Device> {
    let perhaps = world.all_perhaps_ended();
    let mut living = Vec::new();
    for device in world.devices() {
        let ended = match perhaps.contains(&device.id) {
            true => is_terminated(world, device.id).await,
            false => world.is_ended(device.id),
        };
        if !ended {
            living.push(device);
        }
    }
    living
}

async fn is_terminated(world: &World, device: DeviceId) -> bool {
    let owner = world.store().owner(device).await.expect("the truth");
    owner.is_some_and(|owner| owner.terminated.is_some())
}

async fn chats(world: &World) -> BTreeSet<ChatId> {
    let mut chats = BTreeSet::new();
    for device in world.devices() {
        chats.extend(world.store().chats_of(&device.user).await.expect("the truth"));
    }
    chats
}

/// Which queues there should be; false: there may be, because nobody has come back to end the device's registration.
async fn desired(world: &World) -> BTreeMap<(ChatId, DeviceId), bool> {
    let mut desired = BTreeMap::new();
    for user in world.users() {
        let chats = world.store().chats_of(&user).await.expect("the truth");
        for device in world.store().devices(&user).await.expect("the truth") {
            if device.state != DeviceState::Terminating {
                let must = device.state == DeviceState::Active;
                desired.extend(chats.iter().map(|chat| ((*chat, device.id), must)));
            }
        }
    }
    desired
}

async fn queues(world: &World) -> BTreeSet<(ChatId, DeviceId)> {
    let queues = world.broker().queues().await.queues;
    queues.into_iter().map(|queue| (queue.chat, queue.device)).collect()
}

async fn end(world: &World) -> End {
    let mut end = End::default();
    for chat in chats(world).await {
        end.heads.insert(text(chat), world.head(chat).await);
        for member in world.store().members(chat).await.expect("the truth") {
            let boundaries = end.boundaries.entry(member.user.to_string()).or_default();
            boundaries.insert(text(chat), member.boundary);
        }
        let waiting = world.store().outbox(chat, 1000).await.expect("the truth").messages;
        end.unpublished.insert(text(chat), waiting.len() as u64);
    }
    for device in world.devices() {
        let reads = world.store().reads(&device.user).await.expect("the truth");
        let reads = reads.into_iter().map(|(chat, read)| (text(chat), read.seq)).collect();
        end.reads.insert(device.user.to_string(), reads);
    }
    for device in living(world).await {
        let status = device.status.lock().unwrap();
        let chats = status.chats.iter().map(|(id, chat)| (text(*id), chat.entry.clone())).collect();
        end.devices.insert(device.id.to_string(), chats);
    }
    let queues = queues(world).await.into_iter();
    end.queues =
        queues.map(|(chat, device)| ("embedded".to_owned(), text(chat), device.to_string())).collect();
    end
}

/// When everyone has gone, nothing of them is left on the edges.
pub async fn is_over(world: &World) -> Vec<String> {
    // What the broker thinks it has a consumer for, it lets go when it misses its heartbeats.
    let until = Instant::now() + Duration::from_secs(15) + world.shared().manners().half_open_for;
    loop {
        let mut left = Vec::new();
        // One that died in the storm's last moment, and that nobody started again, has nobody.
        let edges: Vec<_> = world.edges().iter().filter(|edge| !edge.gate.is_dead()).cloned().collect();
        for edge in &edges {
            let ((mains, subs), chats) = (edge.core.hub.count(), edge.core.hub.chats().len());
            if mains + subs + chats > 0 {
                let users = world.users();
                let sessions = users.iter().flat_map(|user| edge.core.hub.sessions_of(user));
                let sessions: Vec<String> =
                    sessions.map(|it| format!("session {} of {}", it.session, it.device)).collect();
                left.push(format!(
                    "{}: {mains} mains, {subs} subs, {chats} chats followed ({})",
                    edge.core.edge.name,
                    sessions.join(", ")
                ));
            }
        }
        for device in world.devices() {
            for queue in world.broker().queues_of(device.id).await.0 {
                if queue.consumers > 0 {
                    left.push(format!(
                        "{} has {} consumers of {}",
                        queue.device, queue.consumers, queue.chat
                    ));
                }
            }
        }
        if left.is_empty() {
            return left;
        }
        if Instant::now() >= until {
            return vec![format!("invariant 16: left when everyone has gone: {}", left.join("; "))];
        }
        sleep(Duration::from_millis(20)).await;
    }
}
