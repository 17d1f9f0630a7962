//! Reads for lists.

use super::EmbeddedStore;
use crate::{
    domain::{
        Seq,
        id::{ChatId, UserId},
    },
    store::{ChatWithMembers, LogPage, Reader, Result},
};

impl EmbeddedStore {
    /// See [`crate::store::Store::chats_with_members`].
    pub async fn chats_with_members(
        &self,
        user: &UserId,
        chats: &[ChatId],
        most: usize,
    ) -> Result<Vec<Option<ChatWithMembers>>> {
        let state = self.state();
        let (mut all, mut found) = (0, Vec::new());
        for id in chats {
            let room = state.chats.get(id);
            all += room.map_or(0, |room| room.members.len());
            if all > most && !found.is_empty() {
                break;
            }
            found.push(room.and_then(|room| {
                let member = room.members.get(user)?.of(user);
                let members = room.members.iter().map(|(user, membership)| membership.of(user)).collect();
                Some(ChatWithMembers { chat: room.chat.clone(), member, members })
            }));
        }
        Ok(found)
    }

    /// See [`crate::store::Store::log_before`].
    pub async fn log_before(
        &self,
        chat: ChatId,
        reader: &Reader,
        before: Seq,
        lowest: Seq,
        count: usize,
        bytes: usize,
    ) -> Result<Option<LogPage>> {
        let state = self.state();
        let Some(room) = state.chats.get(&chat) else { return Ok(None) };
        if room.members.get(&reader.user).is_none_or(|member| member.boundary > reader.since) {
            return Ok(None);
        }
        let head = room.chat.head;
        let floor = room.log.front().map_or(head + 1, |entry| entry.seq);
        let (mut messages, mut left) = (Vec::new(), bytes);
        let below = room.log.iter().rev().skip_while(|entry| entry.seq >= before);
        for entry in below.take_while(|entry| entry.seq >= lowest).take(count) {
            if entry.body.len() > left && !messages.is_empty() {
                break;
            }
            left = left.saturating_sub(entry.body.len());
            messages.push((entry.seq, entry.body.clone()));
        }
        messages.reverse();
        Ok(Some(LogPage { messages, floor, head }))
    }
}
