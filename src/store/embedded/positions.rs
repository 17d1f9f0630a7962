//! Positions of devices in chats, and read offsets of users.

use std::collections::HashMap;

use super::{EmbeddedStore, Membership, Subscription};
use crate::{
    domain::{
        Seq,
        chat::DevicePosition,
        device::DeviceState,
        id::{ChatId, DeviceId, UserId},
    },
    store::{Attached, CursorMove, CursorMoved, ReadOffset, Result, SubscribeFrom},
};

impl EmbeddedStore {
    /// See [`crate::store::Store::subscribe_device`].
    pub async fn subscribe_device(
        &self,
        chat: ChatId,
        user: &UserId,
        device: DeviceId,
        since: SubscribeFrom,
    ) -> Result<Option<DevicePosition>> {
        let mut state = self.state();
        let Some(room) = state.chats.get_mut(&chat) else { return Ok(None) };
        let Some(Membership { boundary, .. }) = room.members.get(user) else { return Ok(None) };
        let from = match since {
            SubscribeFrom::Head(seen) => seen.min(room.chat.head).max(*boundary),
            SubscribeFrom::Joined => *boundary,
        };
        let subscription =
            room.subscriptions.entry(device).or_insert(Subscription { from, cursor: from, fence: 0 });
        if subscription.from < *boundary {
            // The device doesn't receive again what it acknowledged after its user rejoined, on a connection that
            // hadn't noticed anything.
            (subscription.from, subscription.cursor) = (from, from.max(subscription.cursor));
        }
        Ok(Some(DevicePosition { from: subscription.from, cursor: subscription.cursor }))
    }

    /// See [`crate::store::Store::position`].
    pub async fn position(&self, chat: ChatId, device: DeviceId) -> Result<Option<DevicePosition>> {
        let state = self.state();
        let subscription = state.chats.get(&chat).and_then(|room| room.subscriptions.get(&device));
        Ok(subscription
            .map(|subscription| DevicePosition { from: subscription.from, cursor: subscription.cursor }))
    }

    /// See [`crate::store::Store::attach`].
    pub async fn attach(
        &self,
        chats: &[ChatId],
        user: &UserId,
        device: DeviceId,
        session: u64,
    ) -> Result<Vec<Option<Attached>>> {
        let mut state = self.state();
        let mut attach = |chat: &ChatId| {
            let room = state.chats.get_mut(chat)?;
            let boundary = room.members.get(user)?.boundary;
            let subscription =
                room.subscriptions.get_mut(&device).filter(|subscription| subscription.from >= boundary)?;
            if subscription.fence > session {
                return None;
            }
            subscription.fence = session;
            let position = DevicePosition { from: subscription.from, cursor: subscription.cursor };
            Some(Attached {
                chat: room.chat.clone(),
                position,
                boundary,
                epoch: room.chat.epoch,
                restored: false,
            })
        };
        Ok(chats.iter().map(&mut attach).collect())
    }

    /// See [`crate::store::Store::move_cursors`].
    pub async fn move_cursors(&self, chat: ChatId, moves: &[CursorMove]) -> Result<Vec<CursorMoved>> {
        let mut state = self.state();
        let Some(room) = state.chats.get_mut(&chat) else {
            return Ok(vec![CursorMoved::Fenced; moves.len()]);
        };
        let head = room.chat.head;
        let mut one = |wanted: &CursorMove| match room.subscriptions.get_mut(&wanted.device) {
            Some(subscription)
                if subscription.fence <= wanted.session && subscription.from == wanted.from =>
            {
                subscription.cursor = subscription.cursor.max(wanted.seq.min(head));
                CursorMoved::At(subscription.cursor)
            }
            _ => CursorMoved::Fenced,
        };
        Ok(moves.iter().map(&mut one).collect())
    }

    /// See [`crate::store::Store::unsubscribe_device`].
    pub async fn unsubscribe_device(
        &self,
        chat: ChatId,
        user: Option<&UserId>,
        device: DeviceId,
    ) -> Result<bool> {
        if let Some(room) = self.state().chats.get_mut(&chat) {
            if user.is_some_and(|user| room.members.contains_key(user)) {
                return Ok(false);
            }
            room.subscriptions.remove(&device);
            room.ledger.forget(device);
        }
        Ok(true)
    }

    /// See [`crate::store::Store::device_states`].
    pub async fn device_states(&self, users: &[UserId]) -> Result<Vec<Vec<(DeviceId, DeviceState)>>> {
        let state = self.state();
        let of = |user: &UserId| {
            let rows = state.users.get(user).into_iter().flat_map(|user| user.devices.values());
            rows.map(|row| (row.device.id, row.device.state)).collect()
        };
        Ok(users.iter().map(of).collect())
    }

    /// See [`crate::store::Store::move_read`].
    pub async fn move_read(
        &self,
        user: &UserId,
        chat: ChatId,
        seq: Seq,
        device: Option<DeviceId>,
    ) -> Result<Seq> {
        Ok(self.state().read(user, chat, seq, device))
    }

    /// See [`crate::store::Store::reads`].
    pub async fn reads(&self, user: &UserId) -> Result<HashMap<ChatId, ReadOffset>> {
        Ok(self.state().users.get(user).map(|user| user.reads.clone()).unwrap_or_default())
    }

    /// See [`crate::store::Store::reads_in`].
    pub async fn reads_in(&self, user: &UserId, chats: &[ChatId]) -> Result<HashMap<ChatId, ReadOffset>> {
        let state = self.state();
        let Some(user) = state.users.get(user) else { return Ok(HashMap::new()) };
        Ok(chats.iter().filter_map(|chat| Some((*chat, *user.reads.get(chat)?))).collect())
    }
}
