//! Finds drift: the servers' queues, compared with those that should exist by the store.

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
    store::{Result as Stored, Subscriptions},
    sync::Core,
};

/// The drift that one pass found.
#[derive(Debug, Default)]
pub(in crate::sync) struct Drift {
    pub(in crate::sync) orphans: HashSet<QueueAt>,
    pub(super) missing: HashSet<QueueAt>,
    // Members with an unsubscribed live device.
    pub(super) unsubscribed: HashSet<(ChatId, UserId)>,
    // Topics without a queue, whose chat isn't there (any more).
    pub(super) topics: HashSet<(Arc<str>, ChatId)>,
    // Chats without members, and ids without a chat; and since when.
    pub(super) empty_chats: HashMap<ChatId, Instant>,
    pub(super) absent: HashMap<ChatId, Instant>,
    // The lowest unpublished message of a chat.
    pub(super) unconfirmed: HashSet<(ChatId, Seq)>,
    // Chats to relocate, because their node has been away for so long. One observation is enough.
    pub(super) unplaced: HashMap<ChatId, String>,
}

impl Drift {
    /// Keeps the times of earlier observations.
    pub(super) fn go_on_from(&mut self, before: &Self) {
        let go_on = |now: &mut HashMap<ChatId, Instant>, before: &HashMap<ChatId, Instant>| {
            for (chat, since) in now {
                *since = before.get(chat).map_or(*since, |before| *before);
            }
        };
        go_on(&mut self.empty_chats, &before.empty_chats);
        go_on(&mut self.absent, &before.absent);
    }
}

/// The devices of users met in this pass. Read once for each user, a page of chats at a time.
type Devices = HashMap<UserId, Vec<(DeviceId, DeviceState)>>;

/// Finds drift; changes nothing. `is_wanted` gets each queue that should exist.
pub(in crate::sync) async fn diff(
    core: &Core,
    pause: Duration,
    present: Present,
    is_wanted: &mut (dyn FnMut(ChatId, DeviceId) + Send),
) -> Stored<Drift> {
    let Present { queues, empty, silent } = present;
    let mut there: HashSet<QueueAt> = queues.into_iter().collect();
    let mut empty: HashSet<(Arc<str>, ChatId)> = empty.into_iter().collect();
    let (mut drift, mut devices) = (Drift::default(), Devices::new());
    let mut next = Some(0);
    while let Some(page) = next {
        let page = core.store.subscriptions(page).await?;
        next = page.next;
        if next.is_some() {
            tokio::time::sleep(pause).await;
        }
        look_up(core, &mut devices, &page.chats).await?;
        drift.absent.extend(page.absent.into_iter().map(|chat| (chat, Instant::now())));
        for subscriptions in page.chats {
            let (chat, node) = (subscriptions.chat, Arc::<str>::from(subscriptions.node.as_str()));
            drift.unconfirmed.extend(subscriptions.unconfirmed.map(|seq| (chat, seq)));
            let down = core.broker.down_for(&node);
            if !core.timing.nsqd_give_up.is_zero()
                && down.is_some_and(|down| down >= core.timing.nsqd_give_up)
            {
                drift.unplaced.insert(chat, subscriptions.node.clone());
            }
            empty.remove(&(node.clone(), chat));
            if subscriptions.members.is_empty() {
                drift.empty_chats.insert(chat, Instant::now());
            }
            let (wanted, unsubscribed) = wanted(&subscriptions, &devices);
            drift.unsubscribed.extend(unsubscribed.into_iter().map(|user| (chat, user)));
            for (device, _) in subscriptions.devices {
                if !wanted.contains_key(&device) {
                    // Left over from an unfinished leave: removed even without a queue.
                    drift.orphans.insert(QueueAt { node: node.clone(), chat, device });
                }
            }
            let is_silent = down.is_some() || silent.iter().any(|silent| **silent == *node);
            for (device, positioned) in wanted {
                is_wanted(chat, device);
                let queue = QueueAt { node: node.clone(), chat, device };
                if !there.remove(&queue) && positioned && !is_silent {
                    drift.missing.insert(queue);
                }
            }
        }
    }
    drift.orphans.extend(there);
    drift.topics = empty;
    Ok(drift)
}

/// Returns the devices that should have a queue of a chat: those of its members, while they are known, with whether each is
/// subscribed in this membership (then a missing queue is drift); and the members with unsubscribed live devices.
fn wanted(subscriptions: &Subscriptions, devices: &Devices) -> (HashMap<DeviceId, bool>, HashSet<UserId>) {
    let from: HashMap<DeviceId, Seq> = subscriptions.devices.iter().copied().collect();
    let (mut wanted, mut unsubscribed) = (HashMap::new(), HashSet::new());
    for Member { user, boundary, .. } in &subscriptions.members {
        for (device, state) in devices.get(user).into_iter().flatten() {
            let positioned = from.get(device).is_some_and(|from| from >= boundary);
            // A termination removes the queues of its device.
            let live = *state != DeviceState::Terminating;
            wanted.insert(*device, positioned && live);
            if live && !positioned {
                unsubscribed.insert(user.clone());
            }
        }
    }
    (wanted, unsubscribed)
}

/// Reads the devices of these chats' members that weren't met yet.
async fn look_up(core: &Core, devices: &mut Devices, chats: &[Subscriptions]) -> Stored<()> {
    let users: HashSet<&UserId> =
        chats.iter().flat_map(|subscriptions| &subscriptions.members).map(|m| &m.user).collect();
    let unknown: Vec<UserId> =
        users.into_iter().filter(|user| !devices.contains_key(*user)).cloned().collect();
    let found = core.store.device_states(&unknown).await?;
    devices.extend(unknown.into_iter().zip(found));
    Ok(())
}

/// Returns the queues that directories remember and no server shows.
pub(in crate::sync) fn shown_by_none(remembered: Vec<(ChatId, DeviceId)>, present: &Present) -> Vec<QueueAt> {
    if remembered.is_empty() {
        return Vec::new();
    }
    let shown: HashSet<_> = present.queues.iter().map(|queue| (queue.chat, queue.device)).collect();
    let node = Arc::<str>::from(DIRECTORY);
    let not_shown = remembered.into_iter().filter(|queue| !shown.contains(queue));
    not_shown.map(|(chat, device)| QueueAt { node: node.clone(), chat, device }).collect()
}
