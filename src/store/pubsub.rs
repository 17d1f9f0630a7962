//! Role: publish and subscribe between edges, through the store.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Result, Store, StoreEvent};
use crate::domain::id::{ChatId, DeviceId, UserId};

impl Store {
    /// Returns the receiver of the events of everything watched through this store. The first call returns the
    /// receiver; later calls return none. The channel is bounded: it drops what doesn't fit and delivers
    /// [`StoreEvent::Resubscribed`] instead.
    pub fn take_events(&self) -> Option<mpsc::Receiver<StoreEvent>> {
        now!(self.take_events())
    }

    /// Watches a user: from this call's return on, events deliver the user's read offsets and signals.
    pub async fn watch_user(&self, user: &UserId) -> Result<()> {
        each!(self.watch_user(user))
    }

    /// Stops watching the user.
    pub async fn unwatch_user(&self, user: &UserId) -> Result<()> {
        each!(self.unwatch_user(user))
    }

    /// Watches these chats: from this call's return on, events deliver their doorbells.
    pub async fn watch_chats(&self, chats: &[ChatId]) -> Result<()> {
        each!(self.watch_chats(chats))
    }

    /// Stops watching these chats.
    pub async fn unwatch_chats(&self, chats: &[ChatId]) -> Result<()> {
        each!(self.unwatch_chats(chats))
    }

    /// Watches the presence of these users: from this call's return on, events deliver each [`Store::announce`] for
    /// them.
    pub async fn watch_presence(&self, users: &[UserId]) -> Result<()> {
        each!(self.watch_presence(users))
    }

    /// Stops watching the presence of these users.
    pub async fn unwatch_presence(&self, users: &[UserId]) -> Result<()> {
        each!(self.unwatch_presence(users))
    }

    /// Sends a [`Store::signal`], and a presence hint to every edge that watches the user's presence.
    pub async fn announce(&self, user: &UserId, payload: Bytes) -> Result<()> {
        each!(self.announce(user, payload))
    }

    /// Notifies every edge that watches the chat that queues of it hold messages which were announced long before: those of
    /// these devices; of all, if none is named. At most once.
    pub async fn publish_queued(&self, chat: ChatId, devices: &[DeviceId]) -> Result<()> {
        each!(self.publish_queued(chat, devices))
    }

    /// Publishes to every edge that watches the chat that the user types, at most once. Returns false, and publishes
    /// nothing, if the user isn't a member or the chat has more than `most` members.
    pub async fn publish_typing(&self, chat: ChatId, user: &UserId, most: u32) -> Result<bool> {
        each!(self.publish_typing(chat, user, most))
    }

    /// Sends bytes to every edge (this one too) that watches the user. At most once; at most 1 MiB.
    pub async fn signal(&self, user: &UserId, payload: Bytes) -> Result<()> {
        each!(self.signal(user, payload))
    }

    /// Returns by how much numbers were raised because older copies of the data were restored. It rises with each of
    /// them.
    #[must_use]
    pub fn sequence_offset(&self) -> u64 {
        match self {
            Self::Redis(store) => store.sequence_offset(),
            _ => 0,
        }
    }

    /// Returns whether the store answered the last ping, a second ago or less. Sends no request.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match self {
            Self::Redis(store) => store.is_up(),
            _ => true,
        }
    }

    /// Returns why the store accepts no writes now, as found a second ago or less. Reads go on, and so does every call
    /// that holds or frees something: leases, acknowledgements, terminations. Sends no request.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Redis(store) => store.refusal(),
            _ => None,
        }
    }

    /// Returns how often notifications were found not to arrive. Only Redis has notifications.
    #[must_use]
    pub fn notifications_missed(&self) -> u64 {
        match self {
            Store::Redis(store) => store.notifications_missed(),
            _ => 0,
        }
    }

    /// Returns Ok if the store answers.
    pub async fn ping(&self) -> Result<()> {
        each!(self.ping())
    }
}
