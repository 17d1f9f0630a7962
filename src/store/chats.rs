//! Role: chats and their members. A membership has a boundary (the head when it began) and its own version, so that a
//! late call about an earlier membership changes nothing. A leave raises the chat's epoch.

use super::{Created, Departure, JoinBy, Joined, NewChat, Result, Store};
use crate::domain::{
    chat::{Chat, Member},
    id::{ChatId, UserId},
};

impl Store {
    /// Creates a chat. Writes the indexes (each user's list of chats, names, pairs) before the chat itself, so that a
    /// crash leaves at most an index entry without a chat; readers skip such entries.
    pub async fn create_chat(&self, new: &NewChat) -> Result<Created> {
        each!(self.create_chat(new))
    }

    /// Returns one chat.
    pub async fn chat(&self, chat: ChatId) -> Result<Option<Chat>> {
        each!(self.chat(chat))
    }

    /// Returns a chat as one of its members sees it. Returns none if the user isn't a member.
    pub async fn chat_of_member(&self, chat: ChatId, user: &UserId) -> Result<Option<(Chat, Member)>> {
        each!(self.chat_of_member(chat, user))
    }

    /// Returns whether a chat with this id was deleted.
    pub async fn was_deleted(&self, chat: ChatId) -> Result<bool> {
        each!(self.was_deleted(chat))
    }

    /// Returns all members, by name.
    pub async fn members(&self, chat: ChatId) -> Result<Vec<Member>> {
        each!(self.members(chat))
    }

    /// Returns the chats that the user is in according to the user's index, ascending by id. The index may still name
    /// chats that the user has left.
    pub async fn chats_of(&self, user: &UserId) -> Result<Vec<ChatId>> {
        each!(self.chats_of(user))
    }

    /// Writes the membership: first the user's index, then the chat; then sets read = max(read, boundary). `epoch` is
    /// the chat's epoch as the caller read it, so a late call doesn't bring back a user who has left since.
    pub async fn add_member(&self, chat: ChatId, user: &UserId, by: JoinBy, epoch: u64) -> Result<Joined> {
        each!(self.add_member(chat, user, by, epoch))
    }

    /// Ends this membership, as the caller read it, and no later one. [`Departure::Removed`] bars the user until the next invitation.
    /// Raises the chat's epoch and deletes the user's read offset in the chat. When the owner leaves a group, the
    /// longest-standing member becomes its owner. Returns the number of remaining members. Returns none if there is no
    /// such membership (any more).
    pub async fn remove_member(&self, chat: ChatId, member: &Member, how: Departure) -> Result<Option<u64>> {
        each!(self.remove_member(chat, member, how))
    }

    /// Moves a chat to another node of the broker if it is still at `from`. Returns true if it is at `to` now.
    pub async fn move_chat(&self, chat: ChatId, from: &str, to: &str) -> Result<bool> {
        each!(self.move_chat(chat, from, to))
    }

    /// Removes an id from the index of all chats if it has been there for a minute without a chat. For another minute
    /// no chat can be created with it (`create_chat` returns [`super::StoreError::Unavailable`]). Returns false if there is a
    /// chat.
    pub async fn unlist_unborn(&self, chat: ChatId) -> Result<bool> {
        each!(self.unlist_unborn(chat))
    }

    /// Deletes every key of a chat that has no members. Returns false, and changes nothing, if it has members.
    pub async fn delete_chat(&self, chat: ChatId) -> Result<bool> {
        each!(self.delete_chat(chat))
    }
}
