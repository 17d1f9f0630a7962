//! Role: what sweeps read. A sweep visits every chat, page by page, and pays for each command that it causes, so each
//! call costs what its doc says. A command is one that the server executes; an entry of a pipeline is one, too.

use super::{Result, Store, Subscriptions};
use crate::domain::id::ChatId;

/// One page of the ids of all chats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatIds {
    /// The ids of the page, in no order.
    pub ids: Vec<ChatId>,
    /// Which ids were listed completely, with this page and those before it.
    pub listed: Listed,
    /// The next page; none on the last page.
    pub next: Option<u64>,
}

/// Which ids a page completes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Listed {
    /// None: the next page goes on where this one ends.
    #[default]
    Some,
    /// Those whose last byte is this.
    Part(u8),
    /// All that weren't listed before.
    All,
}

impl Listed {
    /// Returns whether this completes the listing of some ids.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        !matches!(self, Self::Some)
    }

    /// Returns whether this completes the listing of this id.
    #[must_use]
    pub fn has(self, id: ChatId) -> bool {
        match self {
            Self::Some => false,
            Self::Part(part) => id.as_bytes()[15] == part,
            Self::All => true,
        }
    }
}

impl Store {
    /// Returns the ids of all chats, page by page, starting with page 0. A chat that exists throughout is on one of the
    /// pages, or on several. Ids of chats that are being created or deleted, or were never created, may be listed, too.
    /// One command.
    pub async fn chat_ids(&self, page: u64) -> Result<ChatIds> {
        each!(self.chat_ids(page))
    }

    /// Returns the subscriptions to these chats, in their order; none where there is no such chat. Four commands for each
    /// chat.
    pub async fn subscriptions(&self, chats: &[ChatId]) -> Result<Vec<Option<Subscriptions>>> {
        each!(self.subscriptions(chats))
    }

    /// Returns those of these chats that have something to trim although nobody sends: messages or keys that are old, or
    /// that no trim has counted yet, or queues that hold too much. Five commands for each chat, two more for some.
    pub async fn untrimmed(&self, chats: &[ChatId]) -> Result<Vec<ChatId>> {
        each!(self.untrimmed(chats))
    }

    /// Records how far the round of a sweep is, so that the next holder of its lease goes on there. One command.
    pub async fn save_sweep(&self, name: &str, at: u64) -> Result<()> {
        each!(self.save_sweep(name, at))
    }

    /// Returns how far the round of a sweep was when that was recorded last. One command.
    pub async fn saved_sweep(&self, name: &str) -> Result<Option<u64>> {
        each!(self.saved_sweep(name))
    }
}
