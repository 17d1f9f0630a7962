//! Store usage by user. As in Redis, the trim's caller records the users' numbers, so that both stores have one
//! contract.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{ChatState, EmbeddedStore, Entry, State};
use crate::{
    domain::{
        Seq,
        id::{ChatId, DeviceId, UserId},
    },
    store::{
        Overfull, Result, StoreLimits, Trimmed,
        bounds::{KEY_BYTES, QUEUE_FLOOR},
    },
};

/// The usage of a chat's log and queues by user, and since when its queues fill.
#[derive(Default)]
pub(super) struct Ledger {
    /// Bytes of all messages ever.
    pub(super) said: u64,
    parts: HashMap<UserId, Part>,
    /// The users whose bytes differ from the last account.
    changed: HashSet<UserId>,
    account: u64,
    /// The bytes appended when the queues were last checked.
    scanned: u64,
    /// The bytes appended when a queue began to fill, where the log doesn't reach back to its cursor, or it was
    /// emptied.
    behind: HashMap<DeviceId, u64>,
    /// What the log dropped while a queue may hold it, ascending. Bounded by its senders' quotas, and by the queues.
    standing: VecDeque<Standing>,
}

struct Standing {
    seq: Seq,
    from: UserId,
    bytes: u64,
    /// Bytes of all messages of the chat, up to this one.
    upto: u64,
    since: Instant,
}

#[derive(Default)]
struct Part {
    bytes: u64,
    keys: u64,
}

impl Ledger {
    /// Returns whether the log dropped something that a queue may hold.
    pub(super) fn is_standing(&self) -> bool {
        !self.standing.is_empty()
    }

    /// Adds a message. Returns the bytes appended by then.
    pub(super) fn takes(&mut self, user: &UserId, bytes: u64) -> u64 {
        self.said += bytes;
        let part = self.parts.entry(user.clone()).or_default();
        (part.bytes, part.keys) = (part.bytes + bytes, part.keys + 1);
        self.changed.insert(user.clone());
        self.said
    }

    /// Subtracts a deleted message.
    fn returns(&mut self, user: &UserId, bytes: u64) {
        self.less(user, |part| part.bytes = part.bytes.saturating_sub(bytes));
    }

    /// Subtracts the deleted key of a message.
    pub(super) fn returns_key(&mut self, user: &UserId) {
        self.less(user, |part| part.keys = part.keys.saturating_sub(1));
    }

    fn less(&mut self, user: &UserId, take: impl FnOnce(&mut Part)) {
        let Some(part) = self.parts.get_mut(user) else { return };
        take(part);
        if part.bytes == 0 && part.keys == 0 {
            self.parts.remove(user);
        }
        self.changed.insert(user.clone());
    }

    pub(super) fn forget(&mut self, device: DeviceId) {
        self.behind.remove(&device);
    }

    /// Returns where the queue of a device with this cursor begins, if that is standing: the bytes appended by then.
    fn begun(&self, cursor: Seq) -> Option<u64> {
        match self.standing.partition_point(|one| one.seq <= cursor) {
            0 => self.standing.front().map(|first| first.upto - first.bytes),
            passed => self.standing.get(passed - 1).map(|last| last.upto),
        }
    }

    fn bytes(&self, user: &UserId) -> u64 {
        self.parts.get(user).map_or(0, |part| part.bytes + part.keys * KEY_BYTES)
    }

    fn account(&mut self) -> Trimmed {
        if self.changed.is_empty() {
            return Trimmed::default();
        }
        self.account += 1;
        let changed = std::mem::take(&mut self.changed);
        let charges = changed.into_iter().map(|user| (user.clone(), self.bytes(&user))).collect();
        Trimmed { charges, account: self.account, overfull: None }
    }
}

impl ChatState {
    /// Returns whether a queue may hold this message: a device hasn't acknowledged it, and its queue wasn't emptied
    /// since.
    fn is_held(&self, seq: Seq, upto: u64) -> bool {
        let behind = &self.ledger.behind;
        self.subscriptions.iter().any(|(device, subscription)| {
            subscription.cursor < seq && behind.get(device).is_none_or(|since| *since < upto)
        })
    }

    /// Records that the log dropped a message. Its sender is charged until no queue holds it, or it is old.
    pub(super) fn lets_go(
        &mut self,
        Entry { seq, from, body, upto, since }: Entry,
        now: Instant,
        age: Duration,
    ) {
        let bytes = body.len() as u64;
        if now.duration_since(since) <= age && self.is_held(seq, upto) {
            self.ledger.standing.push_back(Standing { seq, from, bytes, upto, since });
        } else {
            self.ledger.returns(&from, bytes);
        }
    }

    fn give_back_standing(&mut self, now: Instant, age: Duration) {
        while let Some(Standing { seq, upto, since, .. }) = self.ledger.standing.front() {
            if now.duration_since(*since) <= age && self.is_held(*seq, *upto) {
                break;
            }
            if let Some(gone) = self.ledger.standing.pop_front() {
                self.ledger.returns(&gone.from, gone.bytes);
            }
        }
    }

    fn overfull(&mut self, limits: &StoreLimits) -> Option<Overfull> {
        let said = self.ledger.said;
        let part = limits.chat_queue_bytes / (self.subscriptions.len() as u64).max(1);
        let most = limits.queue_bytes.min(part.max(QUEUE_FLOOR));
        if self.subscriptions.is_empty() || said - self.ledger.scanned < most / 8 {
            return None;
        }
        let freed = said - self.log_bytes;
        let mut devices = Vec::new();
        for (device, subscription) in &self.subscriptions {
            if subscription.cursor >= self.chat.head {
                self.ledger.behind.remove(device);
                continue;
            }
            let behind = self.ledger.behind.get(device).copied();
            let at = self.log.partition_point(|entry| entry.seq <= subscription.cursor);
            let known = at.checked_sub(1).and_then(|last| self.log.get(last)).map(|last| last.upto);
            let since = match (known, behind) {
                (Some(begun), Some(behind)) if behind <= begun => {
                    self.ledger.behind.remove(device);
                    begun
                }
                (_, Some(behind)) => behind,
                (Some(begun), None) => begun,
                (None, None) => {
                    let begun = self.ledger.begun(subscription.cursor).unwrap_or(freed);
                    self.ledger.behind.insert(*device, begun);
                    begun
                }
            };
            if said - since > most {
                devices.push(*device);
            }
        }
        devices.sort_unstable();
        // Until the queues are emptied, they are reported again.
        if devices.is_empty() {
            self.ledger.scanned = said;
        }
        (!devices.is_empty()).then(|| Overfull { node: self.chat.node.clone(), devices, said })
    }
}

impl State {
    /// Records how many bytes of a user a chat holds now.
    fn charge(&mut self, user: &UserId, chat: ChatId, bytes: u64, account: u64) -> u64 {
        let stored = &mut self.user(user).stored;
        if stored.get(&chat).is_none_or(|(_, noted)| *noted <= account) {
            match bytes {
                0 => drop(stored.remove(&chat)),
                _ => drop(stored.insert(chat, (bytes, account))),
            }
        }
        stored.values().map(|(bytes, _)| bytes).sum()
    }

    fn stored(&self, user: &UserId) -> u64 {
        self.users.get(user).map_or(0, |user| user.stored.values().map(|(bytes, _)| bytes).sum())
    }

    /// Charges nothing any more for a deleted chat.
    pub(super) fn give_back(&mut self, chat: ChatId, ledger: &Ledger) {
        for user in ledger.parts.keys().chain(&ledger.changed) {
            if let Some(user) = self.users.get_mut(user) {
                user.stored.remove(&chat);
            }
        }
    }
}

impl EmbeddedStore {
    /// See [`crate::store::Store::trim`].
    pub async fn trim(&self, chat: ChatId) -> Result<Trimmed> {
        let mut state = self.state();
        let Some(room) = state.chats.get_mut(&chat) else { return Ok(Trimmed::default()) };
        let now = Instant::now();
        let overfull = room.overfull(self.limits());
        room.drop_old_keys(now, self.limits());
        room.give_back_standing(now, self.limits().log_age);
        room.trim(now, self.limits());
        Ok(Trimmed { overfull, ..room.ledger.account() })
    }

    /// See [`crate::store::Store::charge`].
    pub async fn charge(&self, user: &UserId, chat: ChatId, bytes: u64, account: u64) -> Result<u64> {
        Ok(self.state().charge(user, chat, bytes, account))
    }

    /// See [`crate::store::Store::stored`].
    pub async fn stored(&self, user: &UserId) -> Result<u64> {
        Ok(self.state().stored(user))
    }

    /// See [`crate::store::Store::recount`].
    pub async fn recount(&self, user: &UserId) -> Result<u64> {
        let mut guard = self.state();
        let state = &mut *guard;
        let chats: Vec<_> =
            state.users.get(user).into_iter().flat_map(|user| user.stored.keys().copied()).collect();
        for chat in chats {
            let (bytes, account) = state
                .chats
                .get(&chat)
                .map_or((0, u64::MAX), |room| (room.ledger.bytes(user), room.ledger.account));
            state.charge(user, chat, bytes, account);
        }
        Ok(state.stored(user))
    }

    /// See [`crate::store::Store::fullest`].
    pub async fn fullest(&self, user: &UserId, count: usize) -> Result<Vec<ChatId>> {
        let state = self.state();
        let stored = state.users.get(user).into_iter().flat_map(|user| &user.stored);
        let mut chats: Vec<_> = stored.map(|(chat, (bytes, _))| (*bytes, *chat)).collect();
        chats.sort_unstable_by(|one, other| other.cmp(one));
        chats.truncate(count);
        Ok(chats.into_iter().map(|(_, chat)| chat).collect())
    }

    /// See [`crate::store::Store::emptied`].
    pub async fn emptied(&self, chat: ChatId, device: DeviceId, said: u64) -> Result<()> {
        if let Some(room) =
            self.state().chats.get_mut(&chat).filter(|room| room.subscriptions.contains_key(&device))
        {
            let behind = room.ledger.behind.entry(device).or_default();
            *behind = said.max(*behind);
        }
        Ok(())
    }
}
