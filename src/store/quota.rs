//! Store usage by user: bytes of messages in the logs of all chats and in devices' queues.
//!
//! A chat knows how many bytes of each user its log holds, or a queue holds after the log dropped them: until each
//! device has acknowledged them, its queue was emptied, or they are as old as a log's entries get. (Each key of a
//! message counts [`KEY_BYTES`] more, for as long as it is kept.) [`Store::trim`] reports each user whose bytes differ
//! from the last report. The caller of trim then charges those users ([`Store::charge`]), so that the bytes of a user
//! in all chats are one number. Each account has its own number, so that a late account doesn't overwrite a later one.
//! An account that was lost because its edge died is made good by the chat's next one, or by [`Store::recount`].

use super::{Result, Store};
use crate::domain::id::{ChatId, DeviceId, UserId};

pub use super::bounds::KEY_BYTES;

/// The result of a trim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Each user whose bytes in the chat changed, and the bytes now.
    pub charges: Vec<(UserId, u64)>,
    /// The number of this account.
    pub account: u64,
    /// Queues that hold more than they may.
    pub overfull: Option<Overfull>,
}

/// Devices whose queue of a chat holds more than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overfull {
    /// The nsqd that carries the chat.
    pub node: String,
    /// The devices whose queues are overfull.
    pub devices: Vec<DeviceId>,
    /// How many bytes had been appended to the chat by then.
    pub said: u64,
}

impl Store {
    /// Records how many bytes of a user a chat holds, unless a later account was recorded. Returns the bytes in all
    /// chats.
    pub async fn charge(&self, user: &UserId, chat: ChatId, bytes: u64, account: u64) -> Result<u64> {
        each!(self.charge(user, chat, bytes, account))
    }

    /// Returns how many bytes of a user all chats hold, as far as recorded.
    pub async fn stored(&self, user: &UserId) -> Result<u64> {
        each!(self.stored(user))
    }

    /// Returns the bytes as [`Store::stored`] does, after reading each chat that holds bytes of the user. So it
    /// recovers lost accounts, at the cost of one read per chat.
    pub async fn recount(&self, user: &UserId) -> Result<u64> {
        each!(self.recount(user))
    }

    /// Returns up to `count` chats, those that hold most of a user first, as far as recorded.
    pub async fn fullest(&self, user: &UserId, count: usize) -> Result<Vec<ChatId>> {
        each!(self.fullest(user, count))
    }

    /// Records that the device's queue of a chat was emptied when `said` bytes had been appended: its bytes count from
    /// there.
    pub async fn emptied(&self, chat: ChatId, device: DeviceId, said: u64) -> Result<()> {
        each!(self.emptied(chat, device, said))
    }
}
