//! Role: the message log of a chat, and its outbox. `append` is the durable point of a message: it numbers the message
//! and writes it to the log and to the outbox. The message stays in the outbox until the broker has confirmed it.

use super::{Append, Appended, ChatHead, LogPage, OutboxPage, OutboxSize, Reader, Result, Store, Trimmed};
use crate::domain::{
    Seq,
    id::{ChatId, UserId},
};

impl Store {
    /// Appends a message in one step: check the member -> check the key -> check the log's room -> seq = head + 1 ->
    /// log -> key -> outbox -> doorbell. `Ok` means durable.
    pub async fn append(&self, append: &Append) -> Result<Appended> {
        each!(self.append(append))
    }

    /// Trims a chat's log to its bounds (see [`super::StoreLimits`]): drops what is too much or too old, and what every device
    /// has except the newest messages. Returns the bytes of each user in the rest, and the queues that hold too much.
    /// Call it with about every 64th message, and once in a while: sizes and ages are known in steps of these calls.
    /// Messages that the broker hasn't confirmed stay longer, up to four times as much.
    pub async fn trim(&self, chat: ChatId) -> Result<Trimmed> {
        each!(self.trim(chat))
    }

    /// Returns the messages from `from` (inclusive), or from the next existing one, up to the first hole: at most
    /// `count` messages and about `bytes` bytes (at least one message). For the server's own use; what goes to a member
    /// is read by [`Store::log_of_member`].
    pub async fn log(&self, chat: ChatId, from: Seq, count: usize, bytes: usize) -> Result<LogPage> {
        each!(self.log(chat, from, count, bytes))
    }

    /// Returns the log as [`Store::log`] does, for a member, in one step with the membership check. Returns none if the
    /// user isn't a member, or became one only later. So no message that was appended after a user left reaches that
    /// user this way.
    pub async fn log_of_member(
        &self,
        chat: ChatId,
        reader: &Reader,
        from: Seq,
        count: usize,
        bytes: usize,
    ) -> Result<Option<LogPage>> {
        each!(self.log_of_member(chat, reader, from, count, bytes))
    }

    /// Raises the head to `seen`, a number that was assigned once. Returns the head; 0 if there is no such chat. A head
    /// is below a seen number only after Redis came back with an older copy of its data. The skipped numbers are a hole
    /// in the log.
    pub async fn raise_head(&self, chat: ChatId, seen: Seq) -> Result<Seq> {
        each!(self.raise_head(chat, seen))
    }

    /// Returns the heads of these chats and the node that carries each, in the order of `chats`.
    pub async fn heads(&self, chats: &[ChatId]) -> Result<Vec<ChatHead>> {
        each!(self.heads(chats))
    }

    /// Returns the members whose queues aren't known to exist, each with the version of the membership. A membership
    /// begins so, in the step that writes it, and stays so until [`Store::arrived`] or its end.
    pub async fn arriving(&self, chat: ChatId) -> Result<Vec<(UserId, u64)>> {
        each!(self.arriving(chat))
    }

    /// Records that all queues of this membership exist. No-op for another version.
    pub async fn arrived(&self, chat: ChatId, user: &UserId, version: u64) -> Result<()> {
        each!(self.arrived(chat, user, version))
    }

    /// Returns the lowest `count` messages that NSQ hasn't confirmed (fewer if they are large, but at least one), with
    /// the chat's node.
    pub async fn outbox(&self, chat: ChatId, count: usize) -> Result<OutboxPage> {
        each!(self.outbox(chat, count))
    }

    /// Returns the sizes of these chats' outboxes, in the order of `chats`.
    pub async fn outbox_sizes(&self, chats: &[ChatId]) -> Result<Vec<OutboxSize>> {
        each!(self.outbox_sizes(chats))
    }

    /// Removes these messages from the outbox: NSQ has confirmed them.
    pub async fn published(&self, chat: ChatId, seqs: &[Seq]) -> Result<()> {
        each!(self.published(chat, seqs))
    }
}
