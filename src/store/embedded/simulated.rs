//! What a simulation asks of the embedded store and no server does.

use super::EmbeddedStore;
use crate::{domain::id::ChatId, simulation::store::LetGo};

impl EmbeddedStore {
    /// Returns what the chat's log dropped before the broker had it.
    #[must_use]
    pub fn let_go(&self, chat: ChatId) -> LetGo {
        self.state().chats.get(&chat).map(|room| room.let_go.clone()).unwrap_or_default()
    }
}
