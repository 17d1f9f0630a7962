//! What a device is owed in a chat, and what a user has read.

use std::collections::HashMap;

use super::{Debt, EmbeddedStore, Membership, Room};
use crate::{
    domain::{
        Seq,
        chat::Owed,
        device::DeviceState,
        id::{ChatId, DeviceId, UserId},
    },
    store::{Attached, CursorMove, CursorMoved, OwedSince, Owing, OwingPage, ReadOffset, Result},
};

impl EmbeddedStore {
    /// See [`crate::store::Store::owe`].
    pub async fn owe(
        &self,
        chat: ChatId,
        user: &UserId,
        device: DeviceId,
        since: OwedSince,
    ) -> Result<Option<Owed>> {
        let mut state = self.state();
        let Some(room) = state.chats.get_mut(&chat) else { return Ok(None) };
        let Some(Membership { boundary, .. }) = room.members.get(user) else { return Ok(None) };
        let from = match since {
            OwedSince::Head(seen) => seen.min(room.chat.head).max(*boundary),
            OwedSince::Joined => *boundary,
        };
        let debt = room.owed.entry(device).or_insert(Debt { from, cursor: from, fence: 0 });
        if debt.from < *boundary && !planted!(OldBoundary) {
            // What was acknowledged after the user came back, on a connection that hadn't noticed anything, isn't sent again.
            (debt.from, debt.cursor) = (from, from.max(debt.cursor));
        }
        Ok(Some(Owed { from: debt.from, cursor: debt.cursor }))
    }

    /// See [`crate::store::Store::owed`].
    pub async fn owed(&self, chat: ChatId, device: DeviceId) -> Result<Option<Owed>> {
        let state = self.state();
        let debt = state.chats.get(&chat).and_then(|room| room.owed.get(&device));
        Ok(debt.map(|debt| Owed { from: debt.from, cursor: debt.cursor }))
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
            let debt =
                room.owed.get_mut(&device).filter(|debt| debt.from >= boundary || planted!(OldBoundary))?;
            if debt.fence > session {
                return None;
            }
            debt.fence = session;
            let owed = Owed { from: debt.from, cursor: debt.cursor };
            Some(Attached { chat: room.chat.clone(), owed, boundary, epoch: room.chat.epoch })
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
        let mut one = |wanted: &CursorMove| match room.owed.get_mut(&wanted.device) {
            Some(debt)
                if debt.fence <= wanted.session && debt.from == wanted.from || planted!(NoSessionCheck) =>
            {
                debt.cursor = debt.cursor.max(wanted.seq.min(head));
                CursorMoved::At(debt.cursor)
            }
            _ => CursorMoved::Fenced,
        };
        Ok(moves.iter().map(&mut one).collect())
    }

    /// See [`crate::store::Store::owing`]. All is one page.
    pub async fn owing(&self, _page: u64) -> Result<OwingPage> {
        let state = self.state();
        let owing = |(chat, room): (&ChatId, &Room)| Owing {
            chat: *chat,
            node: room.chat.node.clone(),
            members: room.members.iter().map(|(user, membership)| membership.of(user)).collect(),
            devices: room.owed.iter().map(|(device, debt)| (*device, debt.from)).collect(),
            unconfirmed: room.outbox.first().copied(),
        };
        Ok(OwingPage { chats: state.chats.iter().map(owing).collect(), absent: Vec::new(), next: None })
    }

    /// See [`crate::store::Store::disown`].
    pub async fn disown(&self, chat: ChatId, user: Option<&UserId>, device: DeviceId) -> Result<bool> {
        if let Some(room) = self.state().chats.get_mut(&chat) {
            if user.is_some_and(|user| room.members.contains_key(user)) && !planted!(UnfencedDisown) {
                return Ok(false);
            }
            room.owed.remove(&device);
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
