//! What edges hear of through the store, and tell each other.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Result, Store, StoreEvent};
use crate::domain::id::{ChatId, UserId};

impl Store {
    /// The events of everything watched through this store. The first call has the receiver; later ones none. Bounded:
    /// what doesn't fit is dropped and told as [`StoreEvent::Resubscribed`].
    pub fn take_events(&self) -> Option<mpsc::Receiver<StoreEvent>> {
        match self {
            Store::Redis(store) => store.take_events(),
            Store::Embedded(store) => store.take_events(),
            #[cfg(feature = "simulation")]
            Store::Faulty(store) => store.take_events(),
        }
    }

    /// From when this returns, read offsets and signals of the user are heard.
    pub async fn watch_user(&self, user: &UserId) -> Result<()> {
        each!(self.watch_user(user))
    }

    /// No longer.
    pub async fn unwatch_user(&self, user: &UserId) -> Result<()> {
        each!(self.unwatch_user(user))
    }

    /// From when this returns, doorbells of these chats are heard.
    pub async fn watch_chats(&self, chats: &[ChatId]) -> Result<()> {
        each!(self.watch_chats(chats))
    }

    /// No longer.
    pub async fn unwatch_chats(&self, chats: &[ChatId]) -> Result<()> {
        each!(self.unwatch_chats(chats))
    }

    /// From when this returns, [`Store::announce`] is heard for these users.
    pub async fn watch_presence(&self, users: &[UserId]) -> Result<()> {
        each!(self.watch_presence(users))
    }

    /// No longer.
    pub async fn unwatch_presence(&self, users: &[UserId]) -> Result<()> {
        each!(self.unwatch_presence(users))
    }

    /// The same as [`Store::signal`], and a hint to every edge that watches the user's presence.
    pub async fn announce(&self, user: &UserId, payload: Bytes) -> Result<()> {
        each!(self.announce(user, payload))
    }

    /// Tells every edge that watches the chat that the user types, at most once; not if the user isn't a member, or the
    /// chat has more than `most`: then false.
    pub async fn tell_typing(&self, chat: ChatId, user: &UserId, most: u32) -> Result<bool> {
        each!(self.tell_typing(chat, user, most))
    }

    /// Sends bytes to every edge (this one too) that watches the user. At most once; at most 1 MiB.
    pub async fn signal(&self, user: &UserId, payload: Bytes) -> Result<()> {
        each!(self.signal(user, payload))
    }

    /// Whether it answered when it was last asked, a second ago or less. Asks nothing.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match self {
            Self::Redis(store) => store.is_up(),
            Self::Embedded(_) => true,
            #[cfg(feature = "simulation")]
            Self::Faulty(_) => true,
        }
    }

    /// How often notifications were found not to flow. Only Redis has them.
    #[must_use]
    pub fn notifications_missed(&self) -> u64 {
        match self {
            Store::Redis(store) => store.notifications_missed(),
            Store::Embedded(_) => 0,
            #[cfg(feature = "simulation")]
            Store::Faulty(_) => 0,
        }
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<()> {
        each!(self.ping())
    }
}
