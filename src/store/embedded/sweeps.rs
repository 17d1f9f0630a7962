//! What sweeps read.

use super::{ChatState, EmbeddedStore};
use crate::{
    domain::id::ChatId,
    store::{ChatIds, Listed, Result, Subscriptions},
};

/// How many ids a page has, and as many more as begin alike.
const PAGE: usize = 64;

/// Returns the beginning of an id: pages are cut where it changes.
fn beginning(id: ChatId) -> u64 {
    id.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl EmbeddedStore {
    /// See [`crate::store::Store::chat_ids`]. A page's number is the beginning of its first id.
    pub async fn chat_ids(&self, page: u64) -> Result<ChatIds> {
        let mut ids: Vec<ChatId> =
            self.state().chats.keys().copied().filter(|id| beginning(*id) >= page).collect();
        ids.sort_unstable();
        let next = ids.get(PAGE - 1).map(|last| beginning(*last)).and_then(|last| last.checked_add(1));
        if let Some(next) = next {
            ids.retain(|id| beginning(*id) < next);
        }
        Ok(ChatIds { ids, listed: if next.is_some() { Listed::Some } else { Listed::All }, next })
    }

    /// See [`crate::store::Store::subscriptions`].
    pub async fn subscriptions(&self, chats: &[ChatId]) -> Result<Vec<Option<Subscriptions>>> {
        let state = self.state();
        let of = |chat: &ChatId| state.chats.get(chat).map(|room| room.subscriptions_of(*chat));
        Ok(chats.iter().map(of).collect())
    }

    /// See [`crate::store::Store::untrimmed`].
    pub async fn untrimmed(&self, chats: &[ChatId]) -> Result<Vec<ChatId>> {
        let state = self.state();
        let has_some = |chat: &&ChatId| state.chats.get(chat).is_some_and(ChatState::keeps_something);
        Ok(chats.iter().filter(has_some).copied().collect())
    }

    /// See [`crate::store::Store::save_sweep`].
    pub async fn save_sweep(&self, name: &str, at: u64) -> Result<()> {
        self.state().sweeps.insert(name.to_owned(), at);
        Ok(())
    }

    /// See [`crate::store::Store::saved_sweep`].
    pub async fn saved_sweep(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.state().sweeps.get(name).copied())
    }
}

impl ChatState {
    fn subscriptions_of(&self, chat: ChatId) -> Subscriptions {
        let devices = self.subscriptions.iter().map(|(device, subscription)| (*device, subscription.from));
        Subscriptions {
            chat,
            node: self.chat.node.clone(),
            members: self.members.iter().map(|(user, membership)| membership.of(user)).collect(),
            devices: devices.collect(),
            unconfirmed: self.outbox.first().copied(),
        }
    }

    fn keeps_something(&self) -> bool {
        !self.log.is_empty() || !self.keys.is_empty() || self.ledger.is_standing()
    }
}
