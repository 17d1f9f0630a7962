//! What is wrong with what is there: the servers' queues, and what should be there by the store.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::DIRECTORY;
use crate::{
    broker::{Present, QueueAt},
    domain::{
        Seq,
        chat::Member,
        device::DeviceState,
        id::{ChatId, DeviceId, UserId},
    },
    store::{Owing, Result as Stored},
    sync::Core,
};

/// What one pass found wrong.
#[derive(Debug, Default)]
pub(in crate::sync) struct Wrong {
    pub(in crate::sync) orphans: HashSet<QueueAt>,
    pub(super) missing: HashSet<QueueAt>,
    // Members with a live device to which nothing is owed in this membership.
    pub(super) unpositioned: HashSet<(ChatId, UserId)>,
    // Places of chats without a queue, where the chat isn't (any more).
    pub(super) topics: HashSet<(Arc<str>, ChatId)>,
    // Chats that nobody is in, and ids without a chat; and since when that is seen.
    pub(super) deserted: HashMap<ChatId, Instant>,
    pub(super) absent: HashMap<ChatId, Instant>,
    // The lowest message of a chat that nobody has published.
    pub(super) unconfirmed: HashSet<(ChatId, Seq)>,
    // Chats whose node has been away for so long that they get another. They needn't be so twice.
    pub(super) adrift: HashMap<ChatId, String>,
}

impl Wrong {
    /// What was so before has been so since then.
    pub(super) fn go_on_from(&mut self, before: &Self) {
        let go_on = |now: &mut HashMap<ChatId, Instant>, before: &HashMap<ChatId, Instant>| {
            for (chat, since) in now {
                *since = before.get(chat).map_or(*since, |before| *before);
            }
        };
        go_on(&mut self.deserted, &before.deserted);
        go_on(&mut self.absent, &before.absent);
    }
}

/// The devices of those who were met in this pass. Read once for each user, a page of chats at a time.
type Devices = HashMap<UserId, Vec<(DeviceId, DeviceState)>>;

/// What is wrong with what is there. Changes nothing. `is_owed` is told of each queue that should be there.
pub(in crate::sync) async fn judge(
    core: &Core,
    pause: Duration,
    present: Present,
    is_owed: &mut (dyn FnMut(ChatId, DeviceId) + Send),
) -> Stored<Wrong> {
    let Present { queues, empty, silent } = present;
    let mut there: HashSet<QueueAt> = queues.into_iter().collect();
    let mut empty: HashSet<(Arc<str>, ChatId)> = empty.into_iter().collect();
    let (mut wrong, mut devices) = (Wrong::default(), Devices::new());
    let mut next = Some(0);
    while let Some(page) = next {
        let page = core.store.owing(page).await?;
        next = page.next;
        if next.is_some() {
            tokio::time::sleep(pause).await;
        }
        look_up(core, &mut devices, &page.chats).await?;
        wrong.absent.extend(page.absent.into_iter().map(|chat| (chat, Instant::now())));
        for owing in page.chats {
            let (chat, node) = (owing.chat, Arc::<str>::from(owing.node.as_str()));
            wrong.unconfirmed.extend(owing.unconfirmed.map(|seq| (chat, seq)));
            let down = core.broker.down_for(&node);
            if !core.timing.nsqd_give_up.is_zero()
                && down.is_some_and(|down| down >= core.timing.nsqd_give_up)
            {
                wrong.adrift.insert(chat, owing.node.clone());
            }
            empty.remove(&(node.clone(), chat));
            if owing.members.is_empty() {
                wrong.deserted.insert(chat, Instant::now());
            }
            let (wanted, unpositioned) = wanted(&owing, &devices);
            wrong.unpositioned.extend(unpositioned.into_iter().map(|user| (chat, user)));
            for (device, _) in owing.devices {
                if !wanted.contains_key(&device) {
                    // Left over from a leave that wasn't finished: even without a queue it is to be forgotten.
                    wrong.orphans.insert(QueueAt { node: node.clone(), chat, device });
                }
            }
            let is_silent = down.is_some() || silent.iter().any(|silent| **silent == *node);
            for (device, positioned) in wanted {
                is_owed(chat, device);
                let queue = QueueAt { node: node.clone(), chat, device };
                if !there.remove(&queue) && positioned && !is_silent {
                    wrong.missing.insert(queue);
                }
            }
        }
    }
    wrong.orphans.extend(there);
    wrong.topics = empty;
    Ok(wrong)
}

/// The devices that should have a queue of a chat: those of its members, as long as they aren't forgotten. Whether it is
/// owed something in this membership (it then lacks a queue if it has none); and the members of whose live devices some
/// aren't.
fn wanted(owing: &Owing, devices: &Devices) -> (HashMap<DeviceId, bool>, HashSet<UserId>) {
    let from: HashMap<DeviceId, Seq> = owing.devices.iter().copied().collect();
    let (mut wanted, mut unpositioned) = (HashMap::new(), HashSet::new());
    for Member { user, boundary, .. } in &owing.members {
        for (device, state) in devices.get(user).into_iter().flatten() {
            let positioned = from.get(device).is_some_and(|from| from >= boundary);
            // One that is being ended loses its queues by that.
            let live = *state != DeviceState::Terminating;
            wanted.insert(*device, positioned && live);
            if live && !positioned {
                unpositioned.insert(user.clone());
            }
        }
    }
    (wanted, unpositioned)
}

/// The devices of these chats' members, of those not met yet.
async fn look_up(core: &Core, devices: &mut Devices, chats: &[Owing]) -> Stored<()> {
    let users: HashSet<&UserId> = chats.iter().flat_map(|owing| &owing.members).map(|m| &m.user).collect();
    let unknown: Vec<UserId> =
        users.into_iter().filter(|user| !devices.contains_key(*user)).cloned().collect();
    let found = core.store.device_states(&unknown).await?;
    devices.extend(unknown.into_iter().zip(found));
    Ok(())
}

/// The queues that directories remember and no server shows.
pub(in crate::sync) fn shown_by_none(remembered: Vec<(ChatId, DeviceId)>, present: &Present) -> Vec<QueueAt> {
    if remembered.is_empty() {
        return Vec::new();
    }
    let shown: HashSet<_> = present.queues.iter().map(|queue| (queue.chat, queue.device)).collect();
    let node = Arc::<str>::from(DIRECTORY);
    let not_shown = remembered.into_iter().filter(|queue| !shown.contains(queue));
    not_shown.map(|(chat, device)| QueueAt { node: node.clone(), chat, device }).collect()
}
