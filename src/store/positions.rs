//! Role: positions of devices in chats, and read offsets of users. A device subscribes at a head and receives every
//! message above it. Its cursor only rises, and not beyond the head. Read offsets only rise.

use std::collections::HashMap;

use super::{Attached, CursorMove, CursorMoved, ReadOffset, Result, Store, SubscribeFrom};
use crate::domain::{
    Seq,
    chat::DevicePosition,
    id::{ChatId, DeviceId, UserId},
};

impl Store {
    /// Subscribes a device to a chat, unless it is subscribed in this membership: `from` = `cursor` = `since`, not
    /// below the boundary. Returns none if the user isn't a member.
    pub async fn subscribe_device(
        &self,
        chat: ChatId,
        user: &UserId,
        device: DeviceId,
        since: SubscribeFrom,
    ) -> Result<Option<DevicePosition>> {
        each!(self.subscribe_device(chat, user, device, since))
    }

    /// Returns a device's position in a chat. Returns none if the device isn't subscribed.
    pub async fn position(&self, chat: ChatId, device: DeviceId) -> Result<Option<DevicePosition>> {
        each!(self.position(chat, device))
    }

    /// Attaches a session to chats: raises the device's fence in each to `session`, and returns what the session must
    /// know of each, in the given order. Returns none for a chat if the user isn't a member, the device isn't
    /// subscribed, or a newer session was first.
    pub async fn attach(
        &self,
        chats: &[ChatId],
        user: &UserId,
        device: DeviceId,
        session: u64,
    ) -> Result<Vec<Option<Attached>>> {
        each!(self.attach(chats, user, device, session))
    }

    /// Moves cursors of one chat, forward only and never above the head, in the given order.
    pub async fn move_cursors(&self, chat: ChatId, moves: &[CursorMove]) -> Result<Vec<CursorMoved>> {
        each!(self.move_cursors(chat, moves))
    }

    /// Unsubscribes a device from a chat. Returns false, and changes nothing, if its user is in the chat.
    /// [`Store::forget_device`] unsubscribes a terminated device. `user` is none for a device of which this store knows
    /// no user.
    pub async fn unsubscribe_device(
        &self,
        chat: ChatId,
        user: Option<&UserId>,
        device: DeviceId,
    ) -> Result<bool> {
        each!(self.unsubscribe_device(chat, user, device))
    }

    /// Moves the user's read offset forward to `seq`, never back, and only in a chat on the user's list. The caller has
    /// checked `seq` against the head. Returns the read offset.
    pub async fn move_read(
        &self,
        user: &UserId,
        chat: ChatId,
        seq: Seq,
        device: Option<DeviceId>,
    ) -> Result<Seq> {
        each!(self.move_read(user, chat, seq, device))
    }

    /// Returns all read offsets of a user.
    pub async fn reads(&self, user: &UserId) -> Result<HashMap<ChatId, ReadOffset>> {
        each!(self.reads(user))
    }

    /// Returns a user's read offsets in these chats. The cost depends on the chats asked for, not on how many others
    /// exist.
    pub async fn reads_in(&self, user: &UserId, chats: &[ChatId]) -> Result<HashMap<ChatId, ReadOffset>> {
        each!(self.reads_in(user, chats))
    }
}
