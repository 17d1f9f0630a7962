//! Finds drift: the servers' queues, compared with those that should exist by the store, some chats at a time.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{DIRECTORY, listing::Listing};
use crate::{
    broker::{Present, QueueAt},
    domain::{
        Seq,
        chat::Member,
        device::DeviceState,
        id::{ChatId, DeviceId, UserId},
    },
    store::{Result as Stored, Subscriptions},
    sync::{Core, budget::Sweep},
};

/// Chats that are read at a time without a budget.
const BATCH: usize = 500;
/// Commands that a chat costs ([`crate::store::Store::subscriptions`]), and one of its users.
pub(super) const OF_A_CHAT: usize = 4;
const OF_A_USER: usize = 1;
/// Users that are remembered; there may be far more.
const USERS: usize = 10_000;

/// The drift that one look found.
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
    /// Returns the chats that it is about.
    pub(super) fn chats(&self) -> HashSet<ChatId> {
        let queues = self.orphans.iter().chain(&self.missing).map(|queue| queue.chat);
        let timed = self.empty_chats.keys().chain(self.absent.keys()).copied();
        queues
            .chain(self.unsubscribed.iter().map(|(chat, _)| *chat))
            .chain(self.topics.iter().map(|(_, chat)| *chat))
            .chain(timed)
            .chain(self.unconfirmed.iter().map(|(chat, _)| *chat))
            .collect()
    }

    /// Returns how much it is.
    pub(super) fn len(&self) -> usize {
        let sets = self.orphans.len() + self.missing.len() + self.unsubscribed.len() + self.topics.len();
        sets + self.empty_chats.len() + self.absent.len() + self.unconfirmed.len()
    }

    /// Takes what is about these chats.
    pub(super) fn take(&mut self, chats: &HashSet<ChatId>) -> Self {
        Self {
            orphans: self.orphans.extract_if(|queue| chats.contains(&queue.chat)).collect(),
            missing: self.missing.extract_if(|queue| chats.contains(&queue.chat)).collect(),
            unsubscribed: self.unsubscribed.extract_if(|(chat, _)| chats.contains(chat)).collect(),
            topics: self.topics.extract_if(|(_, chat)| chats.contains(chat)).collect(),
            empty_chats: self.empty_chats.extract_if(|chat, _| chats.contains(chat)).collect(),
            absent: self.absent.extract_if(|chat, _| chats.contains(chat)).collect(),
            unconfirmed: self.unconfirmed.extract_if(|(chat, _)| chats.contains(chat)).collect(),
            unplaced: HashMap::new(),
        }
    }

    /// Adds another look's, except what one look is enough for.
    pub(super) fn extend(&mut self, other: Self) {
        self.orphans.extend(other.orphans);
        self.missing.extend(other.missing);
        self.unsubscribed.extend(other.unsubscribed);
        self.topics.extend(other.topics);
        let timed = [(&mut self.empty_chats, other.empty_chats), (&mut self.absent, other.absent)];
        for (known, found) in timed {
            for (chat, at) in found {
                // Since it was seen first.
                let since = known.entry(chat).or_insert(at);
                *since = at.min(*since);
            }
        }
        self.unconfirmed.extend(other.unconfirmed);
    }

    /// Splits a second look at the chats of `before` into what both found, with the times of the first, and what is new.
    pub(super) fn confirm(self, before: &Self) -> (Self, Self) {
        fn split<T: std::hash::Hash + Eq>(now: HashSet<T>, before: &HashSet<T>) -> (HashSet<T>, HashSet<T>) {
            now.into_iter().partition(|one| before.contains(one))
        }
        let timed = |now: HashMap<ChatId, Instant>, before: &HashMap<ChatId, Instant>| {
            let (mut twice, mut once) = (HashMap::new(), HashMap::new());
            for (chat, at) in now {
                match before.get(&chat) {
                    Some(since) => twice.insert(chat, *since),
                    None => once.insert(chat, at),
                };
            }
            (twice, once)
        };
        let orphans = split(self.orphans, &before.orphans);
        let missing = split(self.missing, &before.missing);
        let unsubscribed = split(self.unsubscribed, &before.unsubscribed);
        let topics = split(self.topics, &before.topics);
        let unconfirmed = split(self.unconfirmed, &before.unconfirmed);
        let empty_chats = timed(self.empty_chats, &before.empty_chats);
        let absent = timed(self.absent, &before.absent);
        let twice = Self {
            orphans: orphans.0,
            missing: missing.0,
            unsubscribed: unsubscribed.0,
            topics: topics.0,
            empty_chats: empty_chats.0,
            absent: absent.0,
            unconfirmed: unconfirmed.0,
            unplaced: self.unplaced,
        };
        let once = Self {
            orphans: orphans.1,
            missing: missing.1,
            unsubscribed: unsubscribed.1,
            topics: topics.1,
            empty_chats: empty_chats.1,
            absent: absent.1,
            unconfirmed: unconfirmed.1,
            unplaced: HashMap::new(),
        };
        (twice, once)
    }
}

/// How fast chats are read.
#[derive(Debug, Clone, Copy)]
pub(in crate::sync) enum Speed<'a> {
    /// At the rate of the sweep.
    Budget(&'a Sweep<'a>),
    /// Because of an event.
    Urgent(&'a Sweep<'a>),
    /// An admin asks.
    Brisk,
}

impl Speed<'_> {
    /// Returns how many chats are read at a time.
    pub(super) fn chats(self) -> usize {
        (self.call() / OF_A_CHAT).max(1)
    }

    fn call(self) -> usize {
        match self {
            Self::Budget(sweep) => sweep.call(),
            Self::Urgent(_) | Self::Brisk => BATCH * OF_A_CHAT,
        }
    }

    pub(in crate::sync) async fn spend(self, commands: usize) {
        match self {
            Self::Budget(sweep) => sweep.spend(commands).await,
            Self::Urgent(sweep) => sweep.spend_urgently(commands).await,
            Self::Brisk => {}
        }
    }
}

/// A comparison with one listing of the servers. Queues are read before what should exist: see `reconcile`.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    core: &'a Core,
    pub(super) listing: &'a Listing,
    // Chats with queues that hold messages and have no consumer, and whose they are.
    unread: Vec<(ChatId, Vec<DeviceId>)>,
    // The devices of users met since the listing.
    devices: HashMap<UserId, Vec<(DeviceId, DeviceState)>>,
}

impl<'a> Comparison<'a> {
    pub(super) fn with(core: &'a Core, listing: &'a Listing) -> Self {
        Self { core, listing, unread: Vec::new(), devices: HashMap::new() }
    }

    /// Finds the drift of these chats; changes nothing. `is_wanted` gets each queue that should exist. Returns the ids without
    /// a chat.
    pub(super) async fn compare(
        &mut self,
        chats: &[ChatId],
        speed: Speed<'_>,
        drift: &mut Drift,
        is_wanted: &mut (dyn FnMut(ChatId, DeviceId) + Send),
    ) -> Stored<Vec<ChatId>> {
        speed.spend(chats.len() * OF_A_CHAT).await;
        let found = self.core.store.subscriptions(chats).await?;
        self.look_up(&found, speed).await?;
        let mut absent = Vec::new();
        for (chat, subscriptions) in chats.iter().zip(found) {
            match subscriptions {
                Some(subscriptions) => self.compare_one(subscriptions, drift, is_wanted),
                None => {
                    self.is_nowhere(*chat, drift);
                    absent.push(*chat);
                }
            }
        }
        Ok(absent)
    }

    /// There is no such chat: nothing of it should be shown.
    pub(super) fn is_nowhere(&self, chat: ChatId, drift: &mut Drift) {
        let Some(at) = self.listing.of_chat(chat) else { return };
        let queues =
            at.queues.iter().map(|(node, device)| QueueAt { node: node.clone(), chat, device: *device });
        drift.orphans.extend(queues);
        drift.topics.extend(at.empty.iter().map(|node| (node.clone(), chat)));
    }

    /// Notifies the edges of what nobody takes, of the chats that were compared: a device that is connected may have all of it
    /// from the log, and be idle in that chat. (Its nsqd was restored to an earlier state, or never heard that it was
    /// finished.) One that is away comes for it.
    pub(super) async fn ring_unread(&mut self, speed: Speed<'_>) {
        for (chat, devices) in std::mem::take(&mut self.unread) {
            speed.spend(1).await;
            // The next round does it again.
            let _ = self.core.store.publish_queued(chat, &devices).await;
        }
    }

    fn compare_one(
        &mut self,
        subscriptions: Subscriptions,
        drift: &mut Drift,
        is_wanted: &mut (dyn FnMut(ChatId, DeviceId) + Send),
    ) {
        let (core, chat, node) =
            (self.core, subscriptions.chat, Arc::<str>::from(subscriptions.node.as_str()));
        drift.unconfirmed.extend(subscriptions.unconfirmed.map(|seq| (chat, seq)));
        let (down, give_up) = (core.broker.down_for(&node), core.timing.nsqd_give_up);
        if !give_up.is_zero() && down.is_some_and(|down| down >= give_up) {
            drift.unplaced.insert(chat, subscriptions.node.clone());
        }
        if subscriptions.members.is_empty() {
            drift.empty_chats.insert(chat, Instant::now());
        }
        let (wanted, unsubscribed) = self.wanted(&subscriptions);
        drift.unsubscribed.extend(unsubscribed.into_iter().map(|user| (chat, user)));
        for (device, _) in subscriptions.devices {
            if !wanted.contains_key(&device) {
                // Left over from an unfinished leave: removed even without a queue.
                drift.orphans.insert(QueueAt { node: node.clone(), chat, device });
            }
        }
        let mut there = HashSet::new();
        if let Some(at) = self.listing.of_chat(chat) {
            let unread: Vec<_> =
                at.unread.iter().copied().filter(|device| wanted.contains_key(device)).collect();
            if !unread.is_empty() {
                self.unread.push((chat, unread));
            }
            for (server, device) in &at.queues {
                if *server == node && wanted.contains_key(device) {
                    there.insert(*device);
                } else {
                    drift.orphans.insert(QueueAt { node: server.clone(), chat, device: *device });
                }
            }
            let elsewhere = at.empty.iter().filter(|server| **server != node);
            drift.topics.extend(elsewhere.map(|server| (server.clone(), chat)));
        }
        let is_silent = down.is_some() || self.listing.is_silent(&node);
        for (device, positioned) in wanted {
            is_wanted(chat, device);
            if !there.contains(&device) && positioned && !is_silent {
                drift.missing.insert(QueueAt { node: node.clone(), chat, device });
            }
        }
    }

    /// Returns the devices that should have a queue of a chat: those of its members, while they are known, with whether each is
    /// subscribed in this membership (then a missing queue is drift); and the members with unsubscribed live devices.
    fn wanted(&self, subscriptions: &Subscriptions) -> (HashMap<DeviceId, bool>, HashSet<UserId>) {
        let from: HashMap<DeviceId, Seq> = subscriptions.devices.iter().copied().collect();
        let (mut wanted, mut unsubscribed) = (HashMap::new(), HashSet::new());
        for Member { user, boundary, .. } in &subscriptions.members {
            for (device, state) in self.devices.get(user).into_iter().flatten() {
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
    async fn look_up(&mut self, chats: &[Option<Subscriptions>], speed: Speed<'_>) -> Stored<()> {
        let members = chats.iter().flatten().flat_map(|subscriptions| &subscriptions.members);
        let users: HashSet<&UserId> = members.map(|member| &member.user).collect();
        if self.devices.len() + users.len() > USERS {
            self.devices.clear();
        }
        let unknown: Vec<UserId> =
            users.into_iter().filter(|user| !self.devices.contains_key(*user)).cloned().collect();
        for users in unknown.chunks(speed.call()) {
            speed.spend(users.len() * OF_A_USER).await;
            let found = self.core.store.device_states(users).await?;
            self.devices.extend(users.iter().cloned().zip(found));
        }
        Ok(())
    }
}

/// Finds the drift of everything, at once; changes nothing. `is_wanted` gets each queue that should exist.
pub(in crate::sync) async fn diff_all(
    core: &Core,
    pause: Duration,
    present: Present,
    is_wanted: &mut (dyn FnMut(ChatId, DeviceId) + Send),
) -> Stored<Drift> {
    let listing = Listing::of(present);
    let (mut comparison, mut drift) = (Comparison::with(core, &listing), Drift::default());
    let (mut round, mut pages) = (super::round::Round::at(0), 0_u32);
    while !round.is_over() {
        if let Some(page) = round.needs() {
            if std::mem::replace(&mut pages, 1) > 0 {
                tokio::time::sleep(pause).await;
            }
            let page = core.store.chat_ids(page).await?;
            if let Some(seen) = round.add(&page) {
                listing.beyond(page.listed, &seen).for_each(|chat| comparison.is_nowhere(chat, &mut drift));
            }
        }
        let chats = round.next(BATCH);
        comparison.compare(&chats, Speed::Brisk, &mut drift, is_wanted).await?;
        round.pass(chats.len());
    }
    Ok(drift)
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
