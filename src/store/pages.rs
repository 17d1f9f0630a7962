//! Role: reads for lists. Each reads much in few steps, and is bounded.

use super::{LogPage, Reader, Result, Store};
use crate::domain::{
    Seq,
    chat::{Chat, Member},
    id::{ChatId, UserId},
};

/// A chat as one of its members sees it, with all its members.
#[derive(Debug, Clone)]
pub struct ChatWithMembers {
    /// The chat.
    pub chat: Chat,
    /// The member who sees it.
    pub member: Member,
    /// All members, by name.
    pub members: Vec<Member>,
}

impl Store {
    /// Returns these chats as `user` sees them, in the order of `chats`; none for a chat that the user isn't a member
    /// of. Stops before the chat that would bring the total above `most` members (the first chat is always returned),
    /// so the result may be shorter than `chats`. The cost is the same few round trips for any number of chats. Changes
    /// made meanwhile may show in some of the chats.
    pub async fn chats_with_members(
        &self,
        user: &UserId,
        chats: &[ChatId],
        most: usize,
    ) -> Result<Vec<Option<ChatWithMembers>>> {
        each!(self.chats_with_members(user, chats, most))
    }

    /// Returns the newest messages below `before` and not below `lowest`, ascending, at most `count` and about `bytes`
    /// bytes (at least one message). Skips holes. The page's floor is the lowest seq that the log holds. For a member,
    /// in one step with the membership check, as [`Store::log_of_member`].
    pub async fn log_before(
        &self,
        chat: ChatId,
        reader: &Reader,
        before: Seq,
        lowest: Seq,
        count: usize,
        bytes: usize,
    ) -> Result<Option<LogPage>> {
        each!(self.log_before(chat, reader, before, lowest, count, bytes))
    }
}
