//! The chats that this edge has registered in the store as chats it sends to. If the edge dies, another edge finds their
//! outboxes by that. Other edges remove the registrations of an edge that they take for dead, so this edge drops its own
//! as soon as that may have happened.

use std::{collections::HashMap, sync::Mutex};

use tokio::time::Instant;

use super::{Core, lock, session_expiry};
use crate::{
    domain::id::{ChatId, UserId},
    protocol::Problem,
    store::RegisteredSender,
};

/// The registered chats. Bounded by the chats that this edge sends to; see `relay::prune`.
#[derive(Debug, Default)]
pub(super) struct SenderRegistry(Mutex<Registered>);

#[derive(Debug, Default)]
struct Registered {
    chats: HashMap<ChatId, RegisteredSender>,
    // How often all were dropped: a registration under way meanwhile can't be relied on.
    forgotten: u64,
}

impl SenderRegistry {
    /// Drops all: other edges may have removed them from the store.
    pub(super) fn forget_all(&self) {
        let mut registered = lock(&self.0);
        registered.chats.clear();
        registered.forgotten += 1;
    }

    /// Drops one and returns it, to be removed from the store.
    pub(super) fn forget(&self, chat: ChatId) -> Option<RegisteredSender> {
        lock(&self.0).chats.remove(&chat)
    }

    pub(super) fn has(&self, chat: ChatId) -> bool {
        lock(&self.0).chats.contains_key(&chat)
    }

    /// Returns at most `count` chats that are not `wanted`, if more than `keep` are registered.
    pub(super) fn beyond(&self, keep: usize, count: usize, wanted: impl Fn(ChatId) -> bool) -> Vec<ChatId> {
        let registered = lock(&self.0);
        if registered.chats.len() <= keep {
            return Vec::new();
        }
        registered.chats.keys().copied().filter(|chat| !wanted(*chat)).take(count).collect()
    }

    /// Returns how often all were dropped, for [`SenderRegistry::add`].
    pub(super) fn forgotten(&self) -> u64 {
        lock(&self.0).forgotten
    }

    /// Adds a registration. Returns false if all were dropped since `forgotten` was read: then it can't be relied on.
    pub(super) fn add(&self, sender: RegisteredSender, forgotten: u64) -> bool {
        let mut registered = lock(&self.0);
        let stands = registered.forgotten == forgotten;
        if stands {
            registered.chats.insert(sender.chat, sender);
        }
        stands
    }
}

/// Registers a chat before an append to it, if it isn't registered. Only members may cause that; otherwise anyone could fill
/// the registry.
///
/// # Errors
/// `not_found` for a chat the user isn't in, `unavailable`.
pub(super) async fn register(core: &Core, user: &UserId, chat: ChatId) -> Result<(), Problem> {
    // Repeated once for each time that this edge was silent for too long: a registration is a heartbeat, too.
    loop {
        if !core.edge.alive.expired() && core.sending.senders.has(chat) {
            return Ok(());
        }
        let forgotten = core.sending.senders.forgotten();
        if core.store.chat_of_member(chat, user).await?.is_none() {
            return Err(Problem::no_such_chat());
        }
        let asked = Instant::now();
        let registered = core.store.register_sender(&core.edge.name, chat).await?;
        session_expiry::said_alive(core, asked);
        if core.sending.senders.add(registered, forgotten) {
            return Ok(());
        }
    }
}
