//! What the broker's servers show, by chat; and which chats each of them had.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    broker::{Present, QueueAt},
    domain::id::{ChatId, DeviceId},
    store::Listed,
};

/// What the servers show of one chat.
#[derive(Debug, Default)]
pub(super) struct AtServers {
    pub(super) queues: Vec<(Arc<str>, DeviceId)>,
    // Servers that have the chat without a queue.
    pub(super) empty: Vec<Arc<str>>,
    // Devices whose queue holds messages that nobody takes.
    pub(super) unread: Vec<DeviceId>,
}

/// One read of all servers.
#[derive(Debug, Default)]
pub(in crate::sync) struct Listing {
    chats: HashMap<ChatId, AtServers>,
    silent: Vec<String>,
}

impl Listing {
    pub(in crate::sync) fn of(present: Present) -> Self {
        let Present { queues, unread, empty, silent } = present;
        let mut chats = HashMap::<ChatId, AtServers>::new();
        for QueueAt { node, chat, device } in queues {
            chats.entry(chat).or_default().queues.push((node, device));
        }
        for QueueAt { chat, device, .. } in unread {
            chats.entry(chat).or_default().unread.push(device);
        }
        for (node, chat) in empty {
            chats.entry(chat).or_default().empty.push(node);
        }
        Self { chats, silent }
    }

    /// Returns what is shown of a chat; none: nothing.
    pub(super) fn of_chat(&self, chat: ChatId) -> Option<&AtServers> {
        self.chats.get(&chat)
    }

    /// Returns whether this server didn't answer.
    pub(super) fn is_silent(&self, node: &str) -> bool {
        self.silent.iter().any(|silent| silent == node)
    }

    /// Returns the chats that are shown and weren't listed, although `listed` says that all like them were.
    pub(super) fn beyond<'a>(
        &'a self,
        listed: Listed,
        seen: &'a HashSet<ChatId>,
    ) -> impl Iterator<Item = ChatId> + 'a {
        self.chats.keys().copied().filter(move |chat| listed.has(*chat) && !seen.contains(chat))
    }

    /// Returns each server's chats.
    fn by_server(&self) -> HashMap<&str, HashSet<ChatId>> {
        let mut servers = HashMap::<&str, HashSet<ChatId>>::new();
        for (chat, at) in &self.chats {
            for node in at.queues.iter().map(|(node, _)| node).chain(&at.empty) {
                servers.entry(node).or_default().insert(*chat);
            }
        }
        servers
    }
}

/// What is different from the listing before.
#[derive(Debug, Default)]
pub(super) struct Changed {
    // Chats whose queues may be others: those that a server had and doesn't show any more; and all of a server that was restarted,
    // or answers again.
    pub(super) chats: HashSet<ChatId>,
    // There is such a server.
    pub(super) is_back: bool,
    // It has lost chats, or was restarted and shows none: nobody knows which it had since the listing before.
    pub(super) has_lost: bool,
}

/// The chats that each server had when it answered last. So that what a server has lost, or can't be asked about, is known
/// without a search among all chats.
#[derive(Debug, Default)]
pub(super) struct Shown {
    servers: HashMap<String, HashSet<ChatId>>,
    // Those that didn't answer since.
    silent: HashSet<String>,
}

impl Shown {
    /// Takes a new listing of these servers. Those of `restarted` that answer are removed from it.
    pub(super) fn update(
        &mut self,
        nodes: impl IntoIterator<Item = String>,
        listing: &Listing,
        restarted: &mut HashSet<String>,
    ) -> Changed {
        let (mut now, mut changed) = (listing.by_server(), Changed::default());
        for node in nodes {
            if listing.is_silent(&node) {
                self.silent.insert(node);
                continue;
            }
            let chats = now.remove(node.as_str()).unwrap_or_default();
            let before = self.servers.remove(&node).unwrap_or_default();
            let mut gone = before.into_iter().filter(|chat| !chats.contains(chat)).peekable();
            let (is_back, is_new) = (self.silent.remove(&node), restarted.remove(&node));
            if is_back || is_new {
                changed.is_back = true;
                changed.has_lost |= gone.peek().is_some() || is_new && chats.is_empty();
                changed.chats.extend(&chats);
            }
            changed.chats.extend(gone);
            self.servers.insert(node, chats);
        }
        changed
    }

    /// Takes at most so many of the chats that this server had; none: it never answered.
    pub(super) fn take(&mut self, node: &str, most: usize) -> Option<Vec<ChatId>> {
        let chats = self.servers.get_mut(node)?;
        let some: Vec<ChatId> = chats.iter().copied().take(most).collect();
        for chat in &some {
            chats.remove(chat);
        }
        Some(some)
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/sync/reconcile/listing.rs"]
mod tests;
