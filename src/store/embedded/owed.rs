//! What a device is owed in a chat, and what a user has read.

use std::collections::HashMap;

use super::{Debt, EmbeddedStore, Room};
use crate::{
    domain::{
        Seq,
        chat::Owed,
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
        let Some(boundary) = room.members.get(user) else { return Ok(None) };
        let from = match since {
            OwedSince::Now => room.chat.head,
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
            let boundary = *room.members.get(user)?;
            let debt =
                room.owed.get_mut(&device).filter(|debt| debt.from >= boundary || planted!(OldBoundary))?;
            if debt.fence > session {
                return None;
            }
            debt.fence = session;
            let owed = Owed { from: debt.from, cursor: debt.cursor };
            Some(Attached { chat: room.chat.clone(), owed, epoch: 0 })
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
            members: room.members.keys().cloned().collect(),
            devices: room.owed.keys().copied().collect(),
            unconfirmed: room.outbox.first().copied(),
        };
        Ok(OwingPage { chats: state.chats.iter().map(owing).collect(), next: None })
    }

    /// See [`crate::store::Store::disown`].
    pub async fn disown(&self, chat: ChatId, device: DeviceId) -> Result<()> {
        if let Some(room) = self.state().chats.get_mut(&chat) {
            room.owed.remove(&device);
        }
        Ok(())
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
