//! The end of a run: everything is well again, everyone comes back, and within the bounds that are promised everyone has
//! what is theirs and nothing else is left.

use std::{collections::BTreeSet, time::Duration};

use keepstep::domain::id::{ChatId, DeviceId};
use tokio::time::{Instant, sleep};

use crate::{
    device::Device,
    history::End,
    world::{World, text, user},
};

/// What is owed is there.
const MESSAGES: Duration = Duration::from_secs(10);
/// Terminations are done, and bootstraps (a page that was asked for while everything broke has 10 s).
const TERMINATIONS: Duration = Duration::from_secs(30);
/// Queues are what they should be: another edge takes the comparing over from a dead one (30 s) and compares twice.
const QUEUES: Duration = Duration::from_secs(65);

/// Waits for all of it; what isn't there in time is a violation.
pub async fn settles(world: &World) -> (End, Vec<String>) {
    let mut violations = Vec::new();
    let healed = Instant::now();
    let bounds: [(&str, Duration, Wants); 5] = [
        ("3: not everyone has everything 10 s after the last fault", MESSAGES, Wants::Messages),
        ("3: not everything is with the broker 10 s after the last fault", MESSAGES, Wants::Outbox),
        ("16: an edge follows chats for nobody 10 s after the last fault", MESSAGES, Wants::Follows),
        ("12: not everything came to its end 30 s after the last fault", TERMINATIONS, Wants::Ends),
        ("12: the queues aren't what they should be", QUEUES, Wants::Queues),
    ];
    for (what, bound, wants) in bounds {
        loop {
            let lack = lacks(world, wants).await;
            if lack.is_empty() {
                break;
            }
            if healed.elapsed() >= bound {
                violations.push(format!("invariant {what}: {}", lack.join("; ")));
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    (end(world).await, violations)
}

#[derive(Debug, Clone, Copy)]
enum Wants {
    Messages,
    Outbox,
    Follows,
    Ends,
    Queues,
}

async fn lacks(world: &World, wants: Wants) -> Vec<String> {
    match wants {
        Wants::Messages => {
            let mut lack = Vec::new();
            for device in living(world) {
                lack.extend(device_lacks(world, &device).await);
            }
            lack
        }
        Wants::Outbox => {
            let mut lack = Vec::new();
            for chat in chats(world).await {
                let (_, waiting) = world.store().outbox(chat, 100).await.expect("the truth");
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
                lack.extend(vain.map(|chat| format!("{} follows {chat}", edge.core.edge)));
            }
            lack
        }
        Wants::Ends => {
            let unready = living(world).into_iter().filter(|device| !device.status.lock().unwrap().ready);
            let unready = unready.map(|device| format!("the bootstrap of {}", device.id));
            world.open().into_iter().chain(unready).collect()
        }
        Wants::Queues => {
            let (wanted, there) = (desired(world).await, queues(world).await);
            let missing = wanted.difference(&there).map(|(chat, device)| format!("{device} lacks {chat}"));
            let orphans =
                there.difference(&wanted).map(|(chat, device)| format!("{device} still has {chat}"));
            missing.chain(orphans).collect()
        }
    }
}

async fn device_lacks(world: &World, device: &Device) -> Vec<String> {
    let store = world.store();
    let (chats, reads) = (store.chats_of(&device.user).await, store.reads(&device.user).await);
    let (chats, reads) = (chats.expect("the truth"), reads.expect("the truth"));
    let mut heads = Vec::new();
    for chat in &chats {
        heads.push((*chat, store.tips(&[*chat]).await.expect("the truth")[0].head));
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
    if status.chats.len() > chats.len() {
        lack.push(format!("{name} knows {} chats, its user is in {}", status.chats.len(), chats.len()));
    }
    if status.unsent > 0 {
        lack.push(format!("{name} has {} unsent", status.unsent));
    }
    lack
}

fn living(world: &World) -> Vec<Device> {
    let devices = world.devices();
    devices.into_iter().filter(|device| !world.is_ended(device.id)).collect()
}

async fn chats(world: &World) -> BTreeSet<ChatId> {
    let mut chats = BTreeSet::new();
    for device in world.devices() {
        chats.extend(world.store().chats_of(&device.user).await.expect("the truth"));
    }
    chats
}

async fn desired(world: &World) -> BTreeSet<(ChatId, DeviceId)> {
    let mut desired = BTreeSet::new();
    for device in living(world) {
        let chats = world.store().chats_of(&device.user).await.expect("the truth");
        desired.extend(chats.into_iter().map(|chat| (chat, device.id)));
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
        end.heads.insert(text(chat), world.store().tips(&[chat]).await.expect("the truth")[0].head);
        let (_, waiting) = world.store().outbox(chat, 1000).await.expect("the truth");
        end.unpublished.insert(text(chat), waiting.len() as u64);
    }
    for device in world.devices() {
        let reads = world.store().reads(&device.user).await.expect("the truth");
        let reads = reads.into_iter().map(|(chat, read)| (text(chat), read.seq)).collect();
        end.reads.insert(device.user.to_string(), reads);
    }
    for device in living(world) {
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
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        let mut left = Vec::new();
        // One that died in the storm's last moment, and that nobody started again, has nobody.
        let edges: Vec<_> = world.edges().iter().filter(|edge| !edge.gate.is_dead()).cloned().collect();
        for edge in &edges {
            let ((mains, subs), chats) = (edge.core.hub.count(), edge.core.hub.chats().len());
            if mains + subs + chats > 0 {
                let sessions = (0..3).flat_map(|n| edge.core.hub.sessions_of(&user(n)));
                let sessions: Vec<String> =
                    sessions.map(|it| format!("session {} of {}", it.session, it.device)).collect();
                left.push(format!(
                    "{}: {mains} mains, {subs} subs, {chats} chats followed ({})",
                    edge.core.edge,
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
